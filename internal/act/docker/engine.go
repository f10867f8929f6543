package docker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// engine speaks the Docker Engine API over its unix socket. It is small because a dozen calls are all that is needed, and because a copy
// is made of the template's own JSON: fields that this program does not know are carried over, which a typed client would drop.
type engine struct {
	client *http.Client

	mu      sync.Mutex
	version string // of the API; "" until the engine was asked
}

// oldest is the first version of the API that has all the calls: that of engine 20.10.
const oldest = "1.41"

// idle is how long a connection to the engine is kept for the next tick.
const idle = 30 * time.Second

func newEngine(socket string) *engine {
	return &engine{client: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
		IdleConnTimeout: idle,
	}}}
}

func (e *engine) close() { e.client.CloseIdleConnections() }

// refusal is an answer of the engine that says no.
type refusal struct {
	status  int
	message string
}

func (r *refusal) Error() string { return fmt.Sprintf("the Docker engine says: %s", r.message) }

// refused reports whether err is a refusal with one of these statuses.
func refused(err error, statuses ...int) bool {
	r, ok := errors.AsType[*refusal](err)
	if !ok {
		return false
	}
	for _, s := range statuses {
		if r.status == s {
			return true
		}
	}
	return false
}

// call sends body as JSON and reads the answer into what into points to, each unless it is nil; into bytes as it is, else from JSON.
func (e *engine) call(ctx context.Context, method, path string, query url.Values, body, into any) error {
	version, err := e.agreed(ctx)
	if err != nil {
		return err
	}
	err = e.ask(ctx, method, "/v"+version+path, query, body, into)
	if _, answered := errors.AsType[*refusal](err); err != nil && !answered {
		e.mu.Lock()
		e.version = "" // it may come back as another
		e.mu.Unlock()
	}
	return err
}

// agreed is the API's version that the engine speaks best: what is read in it can be written in it.
func (e *engine) agreed(ctx context.Context) (string, error) {
	e.mu.Lock()
	version := e.version
	e.mu.Unlock()
	if version != "" {
		return version, nil
	}
	var v struct {
		Version    string
		APIVersion string `json:"ApiVersion"`
	}
	if err := e.ask(ctx, http.MethodGet, "/version", nil, nil, &v); err != nil {
		return "", err
	}
	if !atLeast(v.APIVersion, oldest) {
		return "", fmt.Errorf("the Docker engine %s speaks version %q of the API, and %s is needed: upgrade to engine 20.10 or later", v.Version, v.APIVersion, oldest)
	}
	e.mu.Lock()
	e.version = v.APIVersion
	e.mu.Unlock()
	return v.APIVersion, nil
}

// atLeast compares versions such as 1.41; what is no version is less than any.
func atLeast(v, least string) bool {
	var have, want [2]int
	for _, p := range []struct {
		into *[2]int
		s    string
	}{{&have, v}, {&want, least}} {
		major, minor, _ := strings.Cut(p.s, ".")
		var err1, err2 error
		p.into[0], err1 = strconv.Atoi(major)
		p.into[1], err2 = strconv.Atoi(minor)
		if err1 != nil || err2 != nil {
			return false
		}
	}
	return have[0] > want[0] || have[0] == want[0] && have[1] >= want[1]
}

func (e *engine) ask(ctx context.Context, method, path string, query url.Values, body, into any) error {
	var send io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		send = bytes.NewReader(text)
	}
	u := url.URL{Scheme: "http", Host: "docker", Path: path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), send)
	if err != nil {
		return err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := e.client.Do(req)
	if err != nil {
		if inner, ok := errors.AsType[*url.Error](err); ok {
			err = inner.Err // the URL means nothing to an operator
		}
		return fmt.Errorf("ask the Docker engine: %w", err)
	}
	defer resp.Body.Close()
	const most = 16 << 20
	answer, err := io.ReadAll(io.LimitReader(resp.Body, most))
	if err != nil {
		return fmt.Errorf("read the Docker engine's answer: %w", err)
	}
	if resp.StatusCode >= 400 {
		r := &refusal{status: resp.StatusCode}
		var said struct {
			Message string `json:"message"`
		}
		if json.Unmarshal(answer, &said) == nil && said.Message != "" {
			r.message = said.Message
		} else {
			r.message = resp.Status
		}
		return r
	}
	switch into := into.(type) {
	case nil:
		return nil
	case *[]byte: // an output, as it is
		*into = answer
		return nil
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("read the Docker engine's answer to %s: %w", path, err)
	}
	return nil
}

// container is what the target looks at of a container; raw is all of it.
type container struct {
	ID      string `json:"Id"`
	Name    string
	Image   string
	Created time.Time
	State   struct {
		Status    string
		PID       int `json:"Pid"`
		ExitCode  int
		Error     string
		StartedAt time.Time
		Health    *struct {
			Status string
			Log    []struct{ Output string }
		}
	}
	RestartCount int
	Config       struct {
		Image    string
		Hostname string
		Labels   map[string]string
	}
	HostConfig      struct{ NetworkMode string }
	NetworkSettings struct {
		Networks map[string]endpoint
	}

	raw json.RawMessage
}

// endpoint is a container's end of a network.
type endpoint struct {
	NetworkID  string
	IPAddress  string
	Aliases    []string
	Links      []string
	DriverOpts map[string]string
}

// name is the container's, as people write it.
func (c *container) name() string { return strings.TrimPrefix(c.Name, "/") }

// list returns the ids of the containers, also of those that do not run, that have all these labels ("key=value").
func (e *engine) list(ctx context.Context, labels ...string) ([]string, error) {
	filters, err := json.Marshal(map[string][]string{"label": labels})
	if err != nil {
		return nil, err
	}
	var found []struct {
		ID string `json:"Id"`
	}
	if err := e.call(ctx, http.MethodGet, "/containers/json", url.Values{"all": {"1"}, "filters": {string(filters)}}, nil, &found); err != nil {
		return nil, fmt.Errorf("list the containers: %w", err)
	}
	ids := make([]string, len(found))
	for i, c := range found {
		ids[i] = c.ID
	}
	return ids, nil
}

// inspect returns nil when there is no such container.
func (e *engine) inspect(ctx context.Context, id string) (*container, error) {
	var raw json.RawMessage
	err := e.call(ctx, http.MethodGet, "/containers/"+url.PathEscape(id)+"/json", nil, nil, &raw)
	if refused(err, http.StatusNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("inspect the container %s: %w", id, err)
	}
	c := container{raw: raw}
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, fmt.Errorf("inspect the container %s: %w", id, err)
	}
	return &c, nil
}

// imageID returns the id of the image that a reference names now; "" when there is none.
func (e *engine) imageID(ctx context.Context, reference string) (string, error) {
	var image struct {
		ID string `json:"Id"`
	}
	err := e.call(ctx, http.MethodGet, "/images/"+reference+"/json", nil, nil, &image)
	if refused(err, http.StatusNotFound, http.StatusBadRequest) {
		return "", nil
	}
	return image.ID, err
}

func (e *engine) create(ctx context.Context, name string, body map[string]any) (id string, err error) {
	var made struct {
		ID string `json:"Id"`
	}
	err = e.call(ctx, http.MethodPost, "/containers/create", url.Values{"name": {name}}, body, &made)
	return made.ID, err
}

func (e *engine) connect(ctx context.Context, network, id string, with map[string]any) error {
	return e.call(ctx, http.MethodPost, "/networks/"+url.PathEscape(network)+"/connect", nil, map[string]any{"Container": id, "EndpointConfig": with}, nil)
}

// start starts a container; one that runs is left as it is.
func (e *engine) start(ctx context.Context, id string) error {
	return e.call(ctx, http.MethodPost, "/containers/"+id+"/start", nil, nil, nil)
}

// stop asks a container to end by its own stop signal, and kills it when it has not within its own stop time-out. It returns when it
// has ended. The engine carries it out even when ctx ends meanwhile.
func (e *engine) stop(ctx context.Context, id string) error {
	err := e.call(ctx, http.MethodPost, "/containers/"+id+"/stop", nil, nil, nil)
	if refused(err, http.StatusNotFound) {
		return nil
	}
	return err
}

func (e *engine) rename(ctx context.Context, id, name string) error {
	return e.call(ctx, http.MethodPost, "/containers/"+id+"/rename", url.Values{"name": {name}}, nil, nil)
}

// remove removes a container and, as docker run --rm does, the volumes without a name that were made for it alone.
func (e *engine) remove(ctx context.Context, id string) error {
	err := e.call(ctx, http.MethodDelete, "/containers/"+id, url.Values{"v": {"1"}}, nil, nil)
	if refused(err, http.StatusNotFound) {
		return nil
	}
	return err
}

// cpuTime returns the CPU time that a container has used, in nanoseconds; 0 when it does not run.
func (e *engine) cpuTime(ctx context.Context, id string) (ns uint64, err error) {
	var stats struct {
		CPU struct {
			Usage struct {
				Total uint64 `json:"total_usage"`
			} `json:"cpu_usage"`
		} `json:"cpu_stats"`
	}
	err = e.call(ctx, http.MethodGet, "/containers/"+id+"/stats", url.Values{"stream": {"0"}, "one-shot": {"1"}}, nil, &stats)
	if refused(err, http.StatusNotFound, http.StatusConflict) {
		return 0, nil
	}
	return stats.CPU.Usage.Total, err
}
