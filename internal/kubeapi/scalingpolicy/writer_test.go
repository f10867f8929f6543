package scalingpolicy

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidemark/internal/kubeapi"
)

// cluster counts what is written to it.
type cluster struct {
	*Writer
	wrote []string // method and the path's end
	code  int
	now   time.Time
}

func newCluster(t *testing.T) *cluster {
	c := &cluster{code: http.StatusOK, now: time.Date(2027, 3, 1, 6, 0, 0, 0, time.UTC)}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.wrote = append(c.wrote, r.Method+" "+strings.Split(r.URL.Path, "/namespaces/")[1])
		w.WriteHeader(c.code)
		_ = json.NewEncoder(w).Encode(map[string]any{"metadata": map[string]string{"resourceVersion": "2"}, "message": "no"})
	}))
	t.Cleanup(server.Close)
	path := filepath.Join(t.TempDir(), "kubeconfig")
	text := `{apiVersion: v1, kind: Config, current-context: c, clusters: [{name: c, cluster: {server: "` + server.URL + `"}}], users: [{name: c, user: {token: t}}], contexts: [{name: c, context: {cluster: c, user: c}}]}`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	clients := &kubeapi.Clients{}
	t.Cleanup(func() { _ = clients.Close() })
	client, err := clients.Client(kubeapi.Place{Kubeconfig: path})
	if err != nil {
		t.Fatal(err)
	}
	c.Writer = NewWriter(client, "host", func() time.Time { return c.now })
	return c
}

func policy() *Object {
	return &Object{Meta: kubeapi.Meta{Namespace: "dfr", Name: "shop", UID: "u", ResourceVersion: "1", Generation: 1}}
}

func TestStatusIsWrittenSeldom(t *testing.T) {
	c, o := newCluster(t), policy()
	size := 2
	s := Status{ObservedGeneration: 1, Size: &size, Why: "Steady", Conditions: []Condition{{Type: Ready, Status: "True", Message: "a"}}}
	for _, step := range []struct {
		what   string
		change func()
		writes int
	}{
		{"the first", func() {}, 1},
		{"nothing new", func() { c.now = c.now.Add(time.Hour) }, 0},
		{"another size", func() { size = 3 }, 1},
		{"again, a moment later", func() { size = 4; c.now = c.now.Add(time.Second) }, 0},
		{"and when it may", func() { c.now = c.now.Add(betweenChanges) }, 1},
		{"other words", func() { s.Conditions[0].Message = "b"; c.now = c.now.Add(betweenChanges) }, 0},
		{"and when they may", func() { c.now = c.now.Add(betweenWords) }, 1},
		{"another generation is told at once", func() { s.ObservedGeneration = 2; c.now = c.now.Add(time.Millisecond) }, 1},
		{"the copy comes to what was written", func() { o.Status, o.Meta.ResourceVersion = s, "2"; c.now = c.now.Add(time.Hour) }, 0},
		{"somebody wrote something else", func() { o.Status, o.Meta.ResourceVersion = Status{}, "3"; c.now = c.now.Add(time.Hour) }, 1},
	} {
		step.change()
		before := len(c.wrote)
		told := s
		told.Conditions = append([]Condition(nil), s.Conditions...)
		sz := size
		told.Size = &sz
		if err := c.Status(t.Context(), o, told); err != nil {
			t.Errorf("%s: %v", step.what, err)
		}
		if n := len(c.wrote) - before; n != step.writes {
			t.Errorf("%s: written %d times, want %d", step.what, n, step.writes)
		}
	}
	if want := "PATCH dfr/scalingpolicies/shop/status"; c.wrote[0] != want {
		t.Errorf("%s, want %s", c.wrote[0], want)
	}
	c.code, c.now = http.StatusConflict, c.now.Add(time.Hour)
	size = 9
	if err := c.Status(t.Context(), o, s); err != nil {
		t.Errorf("a policy that is gone: %v", err)
	}
}

func TestSince(t *testing.T) {
	then := time.Date(2027, 3, 1, 5, 0, 0, 0, time.UTC)
	before := Status{Conditions: []Condition{{Type: Valid, Status: "True", LastTransitionTime: then}, {Type: Ready, Status: "True", LastTransitionTime: then}}}
	now := Status{Conditions: []Condition{{Type: Valid, Status: "True"}, {Type: Ready, Status: "False"}}}
	now.since(&before, then.Add(time.Hour))
	if !now.Conditions[0].LastTransitionTime.Equal(then) || !now.Conditions[1].LastTransitionTime.Equal(then.Add(time.Hour)) {
		t.Errorf("%+v", now.Conditions)
	}
}

func TestEventsAreCounted(t *testing.T) {
	c, o := newCluster(t), policy()
	tell := func(reason, message string) error { return c.Event(t.Context(), &o.Meta, Normal, reason, message) }
	for range 3 {
		if err := tell("Scaled", "2 -> 3"); err != nil {
			t.Fatal(err)
		}
	}
	if len(c.wrote) != 3 || c.wrote[0] != "POST dfr/events" || !strings.HasPrefix(c.wrote[1], "PATCH dfr/events/shop.") || c.wrote[2] != c.wrote[1] {
		t.Errorf("%v", c.wrote)
	}
	c.now = c.now.Add(sameFor)
	if err := tell("Scaled", "2 -> 3"); err != nil || c.wrote[3] != "POST dfr/events" {
		t.Errorf("%v, %v", c.wrote, err)
	}
	told := 0
	for range 100 {
		c.now = c.now.Add(time.Second)
		if tell("Decided", c.now.String()) == nil {
			told++
		}
	}
	if told > 30 {
		t.Errorf("%d events of one policy in 100 s", told)
	}
}
