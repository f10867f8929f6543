// Package kubeapi asks a Kubernetes API server: where it is, who asks (client-go's rest and clientcmd: a kubeconfig with all its ways
// to sign in, or a pod's ServiceAccount), and small requests of JSON for what Tidemark reads and writes. It owns the budget of
// requests, so that a large installation never throttles others. What the answers mean is its callers' to know.
package kubeapi

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"tidemark/internal/config"
)

// Place is what an operator writes of the cluster. Empty in a pod, it is the pod's own cluster and ServiceAccount; elsewhere what kubectl
// would use: $KUBECONFIG, else ~/.kube/config.
type Place struct {
	Kubeconfig string `yaml:"kubeconfig"` // a file
	Context    string `yaml:"context"`    // of it; default: its current one
	Namespace  string `yaml:"namespace"`  // default: the context's, or the pod's own
}

// Validate adds what cannot work.
func (p *Place) Validate(errs *config.FieldErrors) {
	if p.Namespace != "" && !Name(p.Namespace) {
		errs.Add("namespace", fmt.Sprintf("%q is not the name of a namespace", p.Namespace), "use lower-case letters, digits and hyphens, as kubectl get namespaces shows it")
	}
}

// Name reports whether s may be the name of an object (RFC 1123 labels, joined by dots).
func Name(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
	}
	return true
}

// The budget of one client. A server of usual settings gives a ServiceAccount more than that before it queues it.
const (
	perSecond = 50
	burst     = 100
	mostBytes = 64 << 20 // of one answer
)

// Client asks one API server as one user, about the objects of one namespace.
type Client struct {
	*server
	namespace string
}

// server is what all clients of one API server and one user share.
type server struct {
	http   *http.Client
	base   *url.URL
	budget *rate.Limiter
	uptime func() time.Duration

	ctx     context.Context // ends with Clients.Close
	end     context.CancelFunc
	running sync.WaitGroup

	mu      sync.Mutex
	follows map[string]any // *Following[T], by path
	kinds   map[string][]kind
}

// Clients are a program's: all that ask one server as one user share its connections, its budget and its watches. The zero value is ready.
type Clients struct {
	Uptime func() time.Duration // counts on without jumps, also while the machine sleeps; nil: from the program's start, without sleep

	mu   sync.Mutex
	made map[Place]*Client // without their namespaces
}

// Client reads where the cluster is and who asks. It asks nothing yet: the server may come later.
func (cs *Clients) Client(p Place) (*Client, error) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	place := Place{Kubeconfig: p.Kubeconfig, Context: p.Context}
	made := cs.made[place]
	if made == nil {
		var err error
		if made, err = newClient(place, cs.Uptime); err != nil {
			return nil, err
		}
		if cs.made == nil {
			cs.made = map[Place]*Client{}
		}
		cs.made[place] = made
	}
	c := *made
	if p.Namespace != "" {
		c.namespace = p.Namespace
	}
	return &c, nil
}

// Close ends watches and idle connections.
func (cs *Clients) Close() error {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for _, c := range cs.made {
		c.end()
		c.running.Wait()
		c.http.CloseIdleConnections()
	}
	return nil
}

var start = time.Now()

func newClient(p Place, uptime func() time.Duration) (*Client, error) {
	cfg, namespace, err := find(p)
	if err != nil {
		return nil, err
	}
	cfg.UserAgent = "tidemark"
	client, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("sign in to the cluster: %w", err)
	}
	base, _, err := rest.DefaultServerUrlFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("the API server's address: %w", err)
	}
	if uptime == nil {
		uptime = func() time.Duration { return time.Since(start) }
	}
	ctx, end := context.WithCancel(context.Background())
	return &Client{&server{
		http: client, base: base, budget: rate.NewLimiter(perSecond, burst), uptime: uptime, ctx: ctx, end: end, follows: map[string]any{}, kinds: map[string][]kind{},
	}, namespace}, nil
}

func find(p Place) (*rest.Config, string, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	if rules.ExplicitPath = p.Kubeconfig; p.Kubeconfig == "" && p.Context == "" {
		cfg, err := rest.InClusterConfig()
		if err == nil {
			return cfg, ownNamespace(), nil
		}
		if !errors.Is(err, rest.ErrNotInCluster) {
			return nil, "", fmt.Errorf("read this pod's ServiceAccount: %w (give the pod one, with automountServiceAccountToken)", err)
		}
	}
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: p.Context})
	cfg, err := loader.ClientConfig()
	if err != nil {
		return nil, "", fmt.Errorf("find the cluster: %w (write kubeconfig: /path/to/file, or run in a pod)", err)
	}
	namespace, _, err := loader.Namespace()
	if err != nil {
		return nil, "", fmt.Errorf("find the namespace: %w", err)
	}
	return cfg, namespace, nil
}

// ownNamespace is that of the pod in which this program runs.
func ownNamespace() string {
	text, err := os.ReadFile("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
	if err != nil {
		return metav1.NamespaceDefault
	}
	return strings.TrimSpace(string(text))
}

// Uptime counts on without jumps.
func (c *Client) Uptime() time.Duration { return c.uptime() }

// Namespace is where objects are, unless another is said.
func (c *Client) Namespace() string { return c.namespace }

// Refusal is an answer of the server that says no.
type Refusal struct {
	Code       int
	Reason     string // NotFound, Conflict, Forbidden, ...
	Message    string
	RetryAfter time.Duration // before it is to be asked again; 0: it does not say
}

func (r *Refusal) Error() string {
	return fmt.Sprintf("the Kubernetes API server says: %s", r.Message)
}

// Refused reports whether the server said no with one of these codes.
func Refused(err error, codes ...int) bool {
	r, ok := errors.AsType[*Refusal](err)
	if !ok {
		return false
	}
	for _, c := range codes {
		if r.Code == c {
			return true
		}
	}
	return false
}

// What bodies are sent as.
const (
	JSON       = "application/json"
	MergePatch = "application/merge-patch+json"
	Apply      = "application/apply-patch+yaml" // server-side; JSON is YAML
)

// Get reads the object at a path such as /api/v1/namespaces/dfr/pods.
func (c *Client) Get(ctx context.Context, path string, query url.Values, into any) error {
	return c.exchange(ctx, request{path: path, query: query}, into)
}

// Send sends body, unless it is nil, and reads the answer into what into points to, unless that is nil.
func (c *Client) Send(ctx context.Context, method, path string, query url.Values, as string, body, into any) error {
	r := request{method: method, path: path, query: query, as: as}
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		r.body = bytes.NewReader(text)
	}
	return c.exchange(ctx, r, into)
}

// request is one. Its zero fields mean what is usual.
type request struct {
	method, path string
	query        url.Values
	accept       string
	as           string // what body is
	body         io.Reader
}

func (c *Client) exchange(ctx context.Context, r request, into any) error {
	resp, err := c.ask(ctx, r)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // read to its end
	if resp.StatusCode >= 400 {
		return answered(resp)
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, mostBytes))
	if err != nil {
		return fmt.Errorf("read the Kubernetes API server's answer: %w", err)
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("read the Kubernetes API server's answer to %s: %w", r.path, err)
	}
	return nil
}

// ask sends a request, in its turn.
func (c *Client) ask(ctx context.Context, r request) (*http.Response, error) {
	if err := c.budget.Wait(ctx); err != nil {
		return nil, fmt.Errorf("wait for the budget of requests to the Kubernetes API server: %w", err)
	}
	u := c.base.JoinPath(r.path)
	u.RawQuery = r.query.Encode()
	req, err := http.NewRequestWithContext(ctx, cmp.Or(r.method, http.MethodGet), u.String(), r.body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", cmp.Or(r.accept, JSON))
	if r.body != nil {
		req.Header.Set("Content-Type", r.as)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if inner, ok := errors.AsType[*url.Error](err); ok {
			err = inner.Err // the whole URL means little to an operator
		}
		return nil, fmt.Errorf("ask the Kubernetes API server %s: %w", c.base.Host, err)
	}
	return resp, nil
}

// answered reads what the server says when it says no.
func answered(resp *http.Response) error {
	answer, err := io.ReadAll(io.LimitReader(resp.Body, mostBytes))
	if err != nil {
		return fmt.Errorf("read the Kubernetes API server's answer: %w", err)
	}
	r := status(answer)
	r.Code = resp.StatusCode
	if r.Message == "" {
		r.Message = resp.Status
	}
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
		r.RetryAfter = time.Duration(seconds) * time.Second
	}
	if r.Code == http.StatusForbidden {
		r.Message += " (the role in deploy/kubernetes lists what Tidemark needs)"
	}
	return r
}

// status reads an object of the kind Status, as far as it is one.
func status(text []byte) *Refusal {
	var s struct {
		Code            int
		Reason, Message string
	}
	if json.Unmarshal(text, &s) != nil {
		return &Refusal{}
	}
	return &Refusal{Code: s.Code, Reason: s.Reason, Message: s.Message}
}
