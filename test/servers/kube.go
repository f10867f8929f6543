package servers

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"
)

// Kube is a real Kubernetes control plane: etcd, kube-apiserver, kube-controller-manager and kube-scheduler. Its nodes are KWOK's: no
// kubelet runs, no container starts; KWOK says of each pod that is put on a node that it is ready at once, and lets it go at once.
type Kube struct {
	Kubeconfig string // of its administrator
	Address    string // host:port of the API server
	CA         string // file
	APIServer  *process
	Manager    *process // of controllers

	t      testing.TB
	client *http.Client
	audit  string // file
}

const nodes = 2

// The users of the control plane: the token of each is its name. All may do everything.
const kubeTokens = "admin,admin,1,\"system:masters\"\na,a,2,\"system:masters\"\nb,b,3,\"system:masters\"\nc,c,4,\"system:masters\"\n"

// kubeAudit has the API server write down who sets a size, and who takes or keeps a lead.
const kubeAudit = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - {level: RequestResponse, verbs: [create, update], resources: [{group: apps, resources: [deployments/scale]}, {group: coordination.k8s.io, resources: [leases]}]}
  - level: None
`

// StartKube starts a control plane until the end of the test.
func StartKube(t testing.TB) *Kube {
	t.Helper()
	etcd := Need(t, "etcd")
	control := controlPlane(t)
	dir := t.TempDir()
	within := func(name string) string { return filepath.Join(dir, name) }
	for name, text := range map[string]string{"tokens.csv": kubeTokens, "sa.key": newKey(t), "audit.yaml": kubeAudit} {
		if err := os.WriteFile(within(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	port := FreePorts(t, 4)
	at := func(i int) string { return fmt.Sprint("127.0.0.1:", port+i) }
	k := &Kube{t: t, Address: at(0), CA: within("apiserver.crt"), client: &http.Client{Timeout: ages}, audit: within("audit.log")}
	serve := func(ready func() error, program string, args ...string) *process {
		name := filepath.Base(program)
		if program == control {
			name = args[0]
		}
		p := &process{
			t: t, name: name, stop: syscall.SIGTERM, log: within(name + ".log"), ready: ready,
			start: func() *exec.Cmd {
				cmd := exec.Command(program, args...)
				cmd.Dir = dir
				cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
				return cmd
			},
		}
		p.Start()
		t.Cleanup(func() {
			p.end()
			if t.Failed() {
				log := p.Log()
				t.Logf("the end of %s's log:\n%s", name, log[max(0, len(log)-3000):])
			}
		})
		return p
	}
	at0 := time.Now()
	serve(func() error { return answers("http://" + at(1) + "/health") }, etcd, "--data-dir", within("etcd"), "--listen-client-urls", "http://"+at(1), "--advertise-client-urls", "http://"+at(1),
		"--listen-peer-urls", "http://"+at(2), "--initial-advertise-peer-urls", "http://"+at(2), "--initial-cluster", "default=http://"+at(2), "--log-level", "error")
	k.APIServer = serve(k.serves, control, "kube-apiserver", "--etcd-servers=http://"+at(1), "--bind-address=127.0.0.1", "--secure-port="+strings.TrimPrefix(at(0), "127.0.0.1:"), "--cert-dir="+dir,
		"--service-account-key-file="+within("sa.key"), "--service-account-signing-key-file="+within("sa.key"), "--service-account-issuer=https://kubernetes.default.svc",
		"--token-auth-file="+within("tokens.csv"), "--audit-policy-file="+within("audit.yaml"), "--audit-log-path="+k.audit, "--authorization-mode=RBAC", "--service-cluster-ip-range=10.96.0.0/16", "--event-ttl=1h",
		"--feature-gates=SizeBasedListCostEstimate=false,WatchList=false") // they ask more of etcd than Debian's can: a list as a watch would never end
	k.Kubeconfig = k.WriteKubeconfig(t, "admin", k.Address)
	stages, err := exec.Command(control, "stages").Output()
	if err == nil {
		err = os.WriteFile(within("stages.yaml"), stages, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	running := func() error { return nil }
	period := "1s" // of the HorizontalPodAutoscalers; 15 s is what Kubernetes has, and what is compared with
	if _, comparing := t.(*testing.B); comparing {
		period = "15s"
	}
	k.Manager = serve(running, control, "kube-controller-manager", "--kubeconfig="+k.Kubeconfig, "--leader-elect=false", "--secure-port=0", "--service-account-private-key-file="+within("sa.key"),
		"--root-ca-file="+k.CA, "--horizontal-pod-autoscaler-sync-period="+period, "--kube-api-qps=200", "--kube-api-burst=400", "--controllers="+strings.Join([]string{
			"deployment-controller", "replicaset-controller", "statefulset-controller", "disruption-controller", "garbage-collector-controller", "namespace-controller",
			"serviceaccount-controller", "serviceaccount-token-controller", "root-ca-certificate-publisher-controller", "node-lifecycle-controller", "horizontal-pod-autoscaler-controller",
			"resourcequota-controller", "clusterrole-aggregation-controller",
		}, ","))
	serve(running, control, "kube-scheduler", "--kubeconfig="+k.Kubeconfig, "--leader-elect=false", "--secure-port=0", "--kube-api-qps=200", "--kube-api-burst=400")
	serve(running, control, "kwok", "--kubeconfig="+k.Kubeconfig, "--manage-all-nodes=true", "--config="+within("stages.yaml"), "--cidr=10.0.0.1/16", "--server-address="+at(3), "--node-lease-duration-seconds=0")
	for i := range nodes {
		k.Must(http.MethodPost, "/api/v1/nodes", map[string]any{"apiVersion": "v1", "kind": "Node", "metadata": map[string]any{"name": fmt.Sprint("node-", i+1)}}, nil)
	}
	Eventually(t, "nodes are ready and pods may be made", func() error {
		var found struct {
			Items []struct {
				Spec struct {
					Taints []struct{ Key string }
				}
				Status struct {
					Conditions []struct{ Type, Status string }
				}
			}
		}
		if err := k.Call(http.MethodGet, "/api/v1/nodes", nil, &found); err != nil {
			return err
		}
		for _, n := range found.Items {
			ready := false
			for _, c := range n.Status.Conditions {
				ready = ready || c.Type == "Ready" && c.Status == "True"
			}
			if !ready || len(n.Spec.Taints) > 0 {
				return fmt.Errorf("%+v", found.Items)
			}
		}
		return k.Call(http.MethodGet, "/api/v1/namespaces/default/serviceaccounts/default", nil, nil)
	})
	t.Logf("the control plane is ready after %v", time.Since(at0).Round(time.Millisecond))
	return k
}

// controlPlane is the program that scripts/kube builds.
func controlPlane(t testing.TB) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		text, err := os.ReadFile(filepath.Join(dir, "test/kube/go.mod"))
		if err != nil {
			continue
		}
		version := regexp.MustCompile(`k8s\.io/kubernetes (v\S+)`).FindSubmatch(text)
		if version == nil {
			t.Fatal("test/kube/go.mod names no version of Kubernetes")
		}
		program := filepath.Join(cache, "tidemark", "kube-"+string(version[1]), "control")
		if _, err := os.Stat(program); err == nil {
			return program
		}
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is missing: run scripts/kube", program)
		}
		t.Skipf("%s is missing: run scripts/kube, which takes minutes", program)
	}
	t.Fatal("test/kube is not to be found")
	return ""
}

func newKey(t testing.TB) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
}

// serves reports whether the API server is ready. Its certificate is there by then.
func (k *Kube) serves() error {
	pool := x509.NewCertPool()
	text, err := os.ReadFile(k.CA)
	if err != nil {
		return err
	}
	pool.AppendCertsFromPEM(text)
	k.client.CloseIdleConnections()
	k.client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	return k.Call(http.MethodGet, "/readyz", nil, nil)
}

// WriteKubeconfig writes a kubeconfig for who holds a token, by way of an address.
func (k *Kube) WriteKubeconfig(t testing.TB, token, address string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: test,
clusters: [{name: test, cluster: {server: "https://%s", tls-server-name: 127.0.0.1, certificate-authority: %q}}],
users: [{name: test, user: {token: %q}}], contexts: [{name: test, context: {cluster: test, user: test, namespace: default}}]}`, address, k.CA, token)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Call asks the API server as its administrator. A PATCH is a merge patch, and one of bytes a server-side apply.
func (k *Kube) Call(method, path string, body, into any) error {
	as, text := "application/json", []byte(nil)
	switch b := body.(type) {
	case nil:
	case []byte:
		as, text = "application/apply-patch+yaml", b
	default:
		if method == http.MethodPatch {
			as = "application/merge-patch+json"
		}
		var err error
		if text, err = json.Marshal(body); err != nil {
			return err
		}
	}
	req, err := http.NewRequest(method, "https://"+k.Address+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer admin")
	req.Header.Set("Content-Type", as)
	resp, err := k.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 400 {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, answer)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(answer, into)
}

// Table is what kubectl get prints: the server's own rendering of objects, a column by its name.
func (k *Kube) Table(path string) (rows []map[string]any, err error) {
	req, err := http.NewRequest(http.MethodGet, "https://"+k.Address+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer admin")
	req.Header.Set("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
	resp, err := k.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var table struct {
		ColumnDefinitions []struct{ Name string }
		Rows              []struct{ Cells []any }
	}
	if err := json.NewDecoder(resp.Body).Decode(&table); err != nil {
		return nil, err
	}
	for _, r := range table.Rows {
		row := map[string]any{}
		for i, c := range r.Cells {
			row[table.ColumnDefinitions[i].Name] = c
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// Written is what the API server wrote: a size, or a lead.
type Written struct {
	User     string
	Resource string // deployments or leases
	Name     string
	At       time.Time // when it answered
	Version  int64     // of the object: what is written later has a greater one, whatever it is of
	Replicas int
	Holder   string
}

// Audit is the API server's own record of all sizes and leads of a namespace that it wrote, in the order in which it did.
func (k *Kube) Audit(t testing.TB, namespace string) (all []Written) {
	t.Helper()
	text, err := os.ReadFile(k.audit)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		var e struct {
			User           struct{ Username string }
			ObjectRef      struct{ Resource, Namespace, Name string }
			ResponseStatus struct{ Code int }
			ResponseObject struct {
				Metadata struct{ ResourceVersion string }
				Spec     struct {
					Replicas       int
					HolderIdentity string
				}
			}
			StageTimestamp time.Time
		}
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if e.ObjectRef.Namespace != namespace || e.ResponseStatus.Code >= 300 {
			continue
		}
		version, err := strconv.ParseInt(e.ResponseObject.Metadata.ResourceVersion, 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		all = append(all, Written{e.User.Username, e.ObjectRef.Resource, e.ObjectRef.Name, e.StageTimestamp, version, e.ResponseObject.Spec.Replicas, e.ResponseObject.Spec.HolderIdentity})
	}
	slices.SortFunc(all, func(a, b Written) int { return cmp.Compare(a.Version, b.Version) })
	return all
}

// Must is Call for what has to succeed.
func (k *Kube) Must(method, path string, body, into any) {
	k.t.Helper()
	if err := k.Call(method, path, body, into); err != nil {
		k.t.Fatal(err)
	}
}

// Chart is what Helm makes of a chart and a file of values.
func Chart(t testing.TB, folder, values string) []byte {
	t.Helper()
	text, err := exec.Command(controlPlane(t), "chart", folder, values).Output()
	if err != nil {
		t.Fatalf("render %s: %v\n%s", folder, err, stderr(err))
	}
	return text
}

func stderr(err error) []byte {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.Stderr
	}
	return nil
}

// How Apply applies: to see whether the API server takes it, or for good.
const (
	Real   = ""
	DryRun = "&dryRun=All"
)

// Apply has the API server take each document of a manifest as kubectl apply --server-side does, and refuse fields that it does not know.
func (k *Kube) Apply(t testing.TB, namespace string, manifest []byte, how string) {
	t.Helper()
	documents := yaml.NewDecoder(bytes.NewReader(manifest))
	for n := 0; ; n++ {
		var d struct {
			APIVersion string `yaml:"apiVersion"`
			Kind       string `yaml:"kind"`
			Metadata   struct{ Name string }
		}
		var whole yaml.Node
		err := documents.Decode(&whole)
		if errors.Is(err, io.EOF) {
			if n == 0 {
				t.Fatal("an empty manifest")
			}
			return
		}
		if err == nil {
			err = whole.Decode(&d)
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := yaml.Marshal(&whole)
		if err != nil {
			t.Fatal(err)
		}
		root := "/apis/" + d.APIVersion
		if !strings.Contains(d.APIVersion, "/") {
			root = "/api/" + d.APIVersion
		}
		if d.Kind != "CustomResourceDefinition" && !strings.HasPrefix(d.Kind, "Cluster") {
			root += "/namespaces/" + namespace
		}
		plural := strings.ToLower(d.Kind) + "s"
		if stem, ok := strings.CutSuffix(d.Kind, "y"); ok {
			plural = strings.ToLower(stem) + "ies"
		}
		path := fmt.Sprintf("%s/%s/%s?fieldManager=test&force=true&fieldValidation=Strict%s", root, plural, d.Metadata.Name, how)
		if err := k.Call(http.MethodPatch, path, text, nil); err != nil {
			t.Errorf("%s %s: %v", d.Kind, d.Metadata.Name, err)
		}
	}
}

// Token is one of a ServiceAccount, as its pods are given.
func (k *Kube) Token(t testing.TB, namespace, account string) string {
	t.Helper()
	var answer struct{ Status struct{ Token string } }
	k.Must(http.MethodPost, "/api/v1/namespaces/"+namespace+"/serviceaccounts/"+account+"/token", map[string]any{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"}, &answer)
	return answer.Status.Token
}

// Cordon keeps pods that are made from now on from every node, or lets them go there again.
func (k *Kube) Cordon(yes bool) {
	k.t.Helper()
	for i := range nodes {
		k.Must(http.MethodPatch, fmt.Sprint("/api/v1/nodes/node-", i+1), map[string]any{"spec": map[string]any{"unschedulable": yes}}, nil)
	}
}

// Eventually waits until ok returns no error, for as long as a loaded machine may need.
func Eventually(t testing.TB, what string, ok func() error) {
	t.Helper()
	for end := time.Now().Add(ages); ; time.Sleep(20 * time.Millisecond) {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v: %v", what, ages, err)
		}
	}
}

// ServeMetrics has the API server answer for metrics.k8s.io. No kubelet measures anything here, so the API is a custom resource of the same
// group, version and shape, which Measure fills.
func (k *Kube) ServeMetrics(t testing.TB) {
	t.Helper()
	type object = map[string]any
	k.Must(http.MethodPost, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", object{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
		"metadata": object{"name": "pods.metrics.k8s.io", "annotations": object{"api-approved.kubernetes.io": "unapproved, for a test"}},
		"spec": object{"group": "metrics.k8s.io", "scope": "Namespaced", "names": object{"kind": "PodMetrics", "singular": "podmetric", "plural": "pods"}, "versions": []object{{
			"name": "v1beta1", "served": true, "storage": true, "schema": object{"openAPIV3Schema": object{"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
		}}},
	}, nil)
	Eventually(t, "metrics.k8s.io is served", func() error { return k.Call(http.MethodGet, metricsPath("default"), nil, nil) })
}

func metricsPath(namespace string) string {
	return "/apis/metrics.k8s.io/v1beta1/namespaces/" + namespace + "/pods"
}

// Measure says what CPU each pod with the label app=name uses, such as 250m; "" is a pod that was not
// measured. Each uses 64 MiB.
func (k *Kube) Measure(t testing.TB, namespace, name string, cpu func(pod string) string) {
	t.Helper()
	type object = map[string]any
	var pods struct {
		Items []struct{ Metadata struct{ Name string } }
	}
	selector := "?labelSelector=app%3D" + name
	k.Must(http.MethodGet, "/api/v1/namespaces/"+namespace+"/pods"+selector, nil, &pods)
	for _, p := range pods.Items {
		path := metricsPath(namespace) + "/" + p.Metadata.Name
		used := cpu(p.Metadata.Name)
		if used == "" {
			_ = k.Call(http.MethodDelete, path, nil, nil) // it may never have been measured
			continue
		}
		text, err := json.Marshal(object{
			"apiVersion": "metrics.k8s.io/v1beta1", "kind": "PodMetrics", "metadata": object{"name": p.Metadata.Name, "labels": object{"app": name}},
			"timestamp": time.Now().UTC().Format(time.RFC3339), "window": "15s", "containers": []object{{"name": "worker", "usage": object{"cpu": used, "memory": "64Mi"}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		k.Must(http.MethodPatch, path+"?fieldManager=test&force=true", text, nil) // in place: no look finds it gone
	}
}
