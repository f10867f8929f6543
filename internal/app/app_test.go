package app

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"tidemark/internal/show/web"

	"go.uber.org/goleak"
)

// A start that fails leaves nothing running and nothing locked: the next one, with the mistake mended, succeeds.
func TestStartThatFailsLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "tidemark.yaml")
	write := func(socket string) {
		t.Helper()
		text := fmt.Sprintf("state_dir: %[1]s/state\nsocket: %[2]s\nfleets:\n  - name: f\n    target: {command: {scale: [\"true\", \"{size}\"], size: [echo, \"2\"]}}\n    bounds: {min: 2, max: 3}\n", dir, socket)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(dir, "no", "such", "folder.sock"))
	bad, err := New(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := bad.Start(t.Context()); err == nil {
		t.Fatal("started without its socket")
	}
	goleak.VerifyNone(t)
	write(filepath.Join(dir, "t.sock"))
	good, err := New(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := good.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	good.Stop()
}

// A reload changes whom is told; a bad one changes nothing; and nothing is left running at the end.
func TestReloadChangesTheChannels(t *testing.T) {
	before := goleak.IgnoreCurrent()
	var mu sync.Mutex
	hits := map[string]int{}
	place := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		hits[r.URL.Path]++
	}))
	defer goleak.VerifyNone(t, before)
	defer place.Close()
	dir := t.TempDir()
	path := filepath.Join(dir, "tidemark.yaml")
	write := func(notify string) {
		t.Helper()
		text := fmt.Sprintf("state_dir: %[1]s/state\nnotify: %[2]s\nfleets:\n  - name: f\n    target: {command: {scale: [\"true\", \"{size}\"], size: [echo, \"2\"]}}\n    bounds: {min: 2, max: 3}\n", dir, notify)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tried := func(a *App, want ...string) {
		t.Helper()
		var got []string
		tried, err := a.TestAlerts(t.Context(), web.Caller{})
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range tried {
			got = append(got, one.Channel+one.Error)
		}
		if !slices.Equal(got, want) {
			t.Errorf("tried %q, want %q", got, want)
		}
	}
	host := place.Listener.Addr().String()
	write(fmt.Sprintf("{slack: {url: %q}}", place.URL+"/a"))
	a, err := New(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	tried(a, "slack "+host)
	write(fmt.Sprintf("{webhook: {url: %q, secret: 0123456789abcdef}, dead_man: {url: %q}}", place.URL+"/b", place.URL+"/c"))
	if err := a.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	tried(a, "webhook "+host, "dead_man "+host)
	write("{fax: {}}")
	if err := a.Reload(t.Context()); err == nil {
		t.Error("a bad configuration is taken")
	}
	tried(a, "webhook "+host, "dead_man "+host)
	if o := a.Overview(); o.Raised == nil || len(o.Raised) != 0 || o.Untold != 0 {
		t.Errorf("%+v", o)
	}
	a.Stop()
	mu.Lock()
	defer mu.Unlock()
	if hits["/a"] != 1 || hits["/b"] != 2 || hits["/c"] < 2 {
		t.Errorf("%v", hits)
	}
}
