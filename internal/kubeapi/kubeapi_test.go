package kubeapi

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tidemark/internal/config"
)

// client asks a server that the test is.
func client(t *testing.T, serve http.HandlerFunc) *Client {
	t.Helper()
	server := httptest.NewServer(serve)
	t.Cleanup(server.Close)
	path := filepath.Join(t.TempDir(), "kubeconfig")
	text := `{apiVersion: v1, kind: Config, current-context: here, clusters: [{name: here, cluster: {server: "` + server.URL + `/behind/a/proxy"}}],
users: [{name: me, user: {token: secret}}], contexts: [{name: here, context: {cluster: here, user: me, namespace: dfr}}]}`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	clients := &Clients{}
	t.Cleanup(func() { _ = clients.Close() })
	c, err := clients.Client(Place{Kubeconfig: path})
	if err != nil {
		t.Fatal(err)
	}
	if again, err := clients.Client(Place{Kubeconfig: path, Namespace: "other"}); err != nil || again.budget != c.budget || again.Namespace() != "other" || c.Namespace() != "dfr" {
		t.Errorf("clients of one server share its budget and nothing else: %+v, %v", again, err)
	}
	return c
}

func TestPagesAreOne(t *testing.T) {
	c := client(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/behind/a/proxy/api/v1/namespaces/dfr/pods" || r.URL.Query().Get("labelSelector") != "app=web" {
			t.Errorf("%s", r.URL)
		}
		more, name := "next", "a"
		if r.URL.Query().Get("continue") == "next" {
			more, name = "", "b"
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"metadata": map[string]string{"continue": more}, "items": []any{map[string]any{"metadata": map[string]string{"name": name}}}})
	})
	list, err := c.ListPods(t.Context(), "app=web")
	if err != nil || len(list.Pods) != 2 || list.Pods[0].Meta.Name+list.Pods[1].Meta.Name != "ab" {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		code       int
		body, want string
	}{
		{403, `{"kind":"Status","message":"pods is forbidden"}`, "the Kubernetes API server says: pods is forbidden (the role in deploy/kubernetes"},
		{503, "no JSON", "the Kubernetes API server says: 503 Service Unavailable"},
		{200, "<html>", "read the Kubernetes API server's answer to /api: invalid character"},
	} {
		err := client(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(c.code)
			_, _ = w.Write([]byte(c.body))
		}).Get(t.Context(), "/api", nil, &struct{}{})
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%d: want %q, have %v", c.code, c.want, err)
		}
		if refused := c.code != 200; Refused(err, c.code) != refused || Refused(err, 404) {
			t.Errorf("%d: a refusal: %v", c.code, err)
		}
	}
}

func TestNoMetricsServer(t *testing.T) {
	c := client(t, func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) })
	if _, err := c.Usages(t.Context(), "app=web"); !errors.Is(err, ErrNoMetrics) {
		t.Errorf("%v", err)
	}
}

func TestUsages(t *testing.T) {
	c := client(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"items":[{"metadata":{"name":"web-1"},"timestamp":"2027-03-01T06:00:00Z","window":"15.3s",
"containers":[{"name":"a","usage":{"cpu":"156340957n","memory":"20Mi"}},{"name":"b","usage":{"cpu":"2m","memory":"1500k"}}]}]}`))
	})
	used, err := c.Usages(t.Context(), "")
	if u := used["web-1"]; err != nil || u.CPU != 0.158340957 || u.Memory != 20<<20+1.5e6 {
		t.Errorf("%+v, %v", used, err)
	}
	c = client(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"items":[{"metadata":{"name":"web-1"},"timestamp":"2027-03-01T06:00:00Z","window":"15s","containers":[{"name":"a","usage":{"memory":"20Mi"}}]}]}`))
	})
	if used, err := c.Usages(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "pod web-1, container a: cpu") {
		t.Errorf("what is not said is not 0: %+v, %v", used, err)
	}
}

func TestReady(t *testing.T) {
	for _, c := range []struct {
		status, why string
	}{
		{`{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}`, ""},
		{`{"phase":"Running","conditions":[{"type":"Ready","status":"False"}]}`, "running, not ready"},
		{`{"phase":"Running","conditions":[{"type":"Ready","status":"False"}],"containerStatuses":[{"name":"web","state":{"waiting":{"reason":"CrashLoopBackOff","message":"back-off 10s"}}}]}`,
			"container web: CrashLoopBackOff: back-off 10s"},
		{`{"phase":"Pending","conditions":[{"type":"PodScheduled","status":"False","message":"0/2 nodes are available"}]}`, "not scheduled: 0/2 nodes are available"},
		{`{"phase":"Unknown","conditions":[{"type":"Ready","status":"True"}]}`, "unknown, not ready"},
	} {
		var p Pod
		if err := json.Unmarshal([]byte(c.status), &p.Status); err != nil {
			t.Fatal(err)
		}
		if ready, why := p.Ready(); ready != (c.why == "") || why != c.why {
			t.Errorf("%s: %v, %q", c.status, ready, why)
		}
	}
}

func TestBudgetTakes(t *testing.T) {
	labels := map[string]string{"app": "web", "tier": "front"}
	for selector, want := range map[string]bool{
		`{"matchLabels":{"app":"web"}}`: true, `{"matchLabels":{"app":"db"}}`: false, `{}`: true, `null`: false,
		`{"matchExpressions":[{"key":"tier","operator":"NotIn","values":["back"]}]}`: true,
	} {
		var b Budget
		if err := json.Unmarshal([]byte(`{"spec":{"selector":`+selector+`}}`), &b); err != nil {
			t.Fatal(err)
		}
		if takes, err := b.Takes(labels); err != nil || takes != want {
			t.Errorf("%s: %v, %v", selector, takes, err)
		}
	}
}

func TestNowhere(t *testing.T) {
	t.Setenv("KUBECONFIG", "")
	t.Setenv("HOME", t.TempDir())
	for _, c := range []struct {
		place Place
		want  string
	}{{Place{}, "write kubeconfig: /path/to/file, or run in a pod"}, {Place{Kubeconfig: "/nowhere"}, "/nowhere: no such file"}} {
		if _, err := (&Clients{}).Client(c.place); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c.place, err)
		}
	}
	var errs config.FieldErrors
	(&Place{Namespace: "No"}).Validate(&errs)
	if errs.Err() == nil {
		t.Error("No is the name of no namespace")
	}
}

func TestName(t *testing.T) {
	for name, want := range map[string]bool{"web": true, "web-1.example": true, "": false, "Web": false, "-web": false, "web-": false, "a..b": false, "ü": false, strings.Repeat("a", 254): false} {
		if Name(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
}
