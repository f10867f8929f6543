package haproxy

import (
	"context"
	"errors"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tidemark/internal/act/acttest"
	"tidemark/internal/fleet"
	"tidemark/test/servers"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// real starts a real HAProxy whose backend has these workers.
func real(t *testing.T, cfg Config, workers ...fleet.Worker) (*servers.Haproxy, Config) {
	t.Helper()
	cfg.Backend = "dfr"
	content, err := cfg.Render(workers)
	if err != nil {
		t.Fatal(err)
	}
	h := servers.HAProxy(t, cfg.Backend, string(content))
	cfg.Socket, cfg.File = h.Socket, h.File
	return h, cfg
}

// backend is a worker of the tests' own.
type backend struct {
	*acttest.Backend
	gate chan struct{} // /wait answers when it is closed
	seen chan string   // the paths under /wait, as they come
}

func newBackend(t *testing.T, id string) *backend {
	t.Helper()
	b := &backend{gate: make(chan struct{}), seen: make(chan string, 100)}
	b.Backend = acttest.NewBackend(t, id, func(r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/wait") {
			b.seen <- r.URL.Path
			select {
			case <-b.gate:
			case <-r.Context().Done():
				return false
			}
		}
		return true
	})
	return b
}

func workersOf(backends ...*backend) (list []fleet.Worker) {
	for _, b := range backends {
		list = append(list, b.Worker)
	}
	return list
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// state is what HAProxy says of its servers.
func state(t *testing.T, cfg Config) map[string]ServerStats {
	t.Helper()
	s, err := NewRuntime(cfg.Socket).Stats(t.Context(), cfg.Backend)
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]ServerStats{}
	for _, h := range s.Servers {
		m[h.Name] = h
	}
	return m
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestServersFollowTheWorkers(t *testing.T) {
	w1, w2, w3 := newBackend(t, "w1"), newBackend(t, "w2"), newBackend(t, "w3")
	h, cfg := real(t, DefaultConfig())
	b := New(cfg)
	both := workersOf(w1, w2)
	must(t, b.Set(t.Context(), append(both, fleet.Worker{ID: "w4", Address: "127.0.0.1:1", Phase: fleet.Starting})))
	seen := map[string]bool{}
	for range 6 {
		r := acttest.Ask(t.Context(), h.Address(), http.MethodPost, "/", "")
		must(t, r.Failed())
		seen[r.Body] = true
	}
	if len(seen) != 2 {
		t.Errorf("answers came from %v, want both", seen)
	}

	// What somebody does by hand is put right: one switched off, one limited, one removed, one that is not ours.
	run := NewRuntime(cfg.Socket)
	for _, command := range []string{
		"set server dfr/w1 state maint", "set maxconn server dfr/w1 7", "set server dfr/w2 state maint", "del server dfr/w2",
		"add server dfr/stranger 127.0.0.1:1", "enable server dfr/stranger",
	} {
		if _, err := run.Do(t.Context(), command); err != nil {
			t.Fatal(err)
		}
	}
	must(t, New(cfg).Set(t.Context(), both))
	got := state(t, cfg)
	for _, name := range []string{"w1", "w2"} {
		if s := got[name]; !s.Serving() || s.Limit != 0 {
			t.Errorf("%s is %+v", name, s)
		}
	}
	if len(got) != 2 {
		t.Errorf("servers %v", got)
	}

	// Another life of a worker is another server; the same name at another address is moved.
	next := w1.Worker
	next.PID = 17
	moved := w2.Worker
	moved.Address = w3.Worker.Address
	must(t, b.Set(t.Context(), []fleet.Worker{next, moved}))
	if got = state(t, cfg); len(got) != 2 || !strings.HasSuffix(got["w1.17"].Address, w1.Worker.Address) || got["w2"].Address != w3.Worker.Address {
		t.Errorf("servers %v", got)
	}
	must(t, b.Set(t.Context(), nil))
	if r := acttest.Ask(t.Context(), h.Address(), http.MethodGet, "/", ""); r.Status != http.StatusServiceUnavailable || r.Header.Get("Retry-After") != "5" {
		t.Errorf("without workers: %+v", r)
	}
}

func TestSettingsWaitForAReload(t *testing.T) {
	w1 := newBackend(t, "w1")
	h, cfg := real(t, DefaultConfig(), workersOf(w1)...)
	must(t, New(cfg).Set(t.Context(), workersOf(w1)))
	cfg.Queue.Timeout = 17 * time.Second
	cfg.MaxInFlight = 3 // this one does not wait
	var reload *ReloadNeededError
	if err := New(cfg).Set(t.Context(), workersOf(w1)); !errors.As(err, &reload) || !strings.Contains(err.Error(), h.File) {
		t.Errorf("new settings: %v", err)
	}
	if got := state(t, cfg)["w1"]; got.Limit != 3 {
		t.Errorf("w1 is %+v", got)
	}
	h.Reload()
	must(t, New(cfg).Set(t.Context(), workersOf(w1)))
	for _, c := range []struct {
		change func(*Config)
		want   string
	}{
		{func(c *Config) { c.Backend = "other" }, "no backend other: start it with -f " + h.File},
		{func(c *Config) { c.Socket += ".not" }, "not running"},
	} {
		k := cfg
		c.change(&k)
		if err := New(k).Set(t.Context(), workersOf(w1)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
	must(t, cfg.write(nil))
	h.Stop()
	if err := New(cfg).Drain(t.Context(), w1.Worker); !errors.Is(err, ErrDown) {
		t.Errorf("drain of an HAProxy that is down: %v", err)
	}
}

// What was added while HAProxy ran is there when it is reloaded or restarted, with no Tidemark to say it again: a reload costs no
// request, a restart those of the moment in which nobody listens.
func TestServersOutliveReloadsAndRestarts(t *testing.T) {
	w1, w2, w3 := newBackend(t, "w1"), newBackend(t, "w2"), newBackend(t, "w3")
	h, cfg := real(t, DefaultConfig(), workersOf(w1)...)
	b := New(cfg)
	must(t, b.Set(t.Context(), workersOf(w2, w3)))
	w1.Die()

	count, stop := acttest.Load(h.Address(), func(_ time.Time, err error) { t.Error(err) })
	defer stop()
	more := func() {
		t.Helper()
		n := count.Load()
		eventually(t, "requests go on", func() bool { return count.Load() > n+50 || t.Failed() })
	}
	for range 5 {
		more()
		h.Reload()
	}
	more()
	must(t, b.Drain(t.Context(), w2.Worker)) // right after a reload, with the process before still there or not
	w2.Die()
	more()
	stop()
	reloaded := count.Load()

	for _, end := range []func(){h.Stop, h.Kill} {
		var down, up atomic.Pointer[time.Time]
		var lost atomic.Int64
		count, stop := acttest.Load(h.Address(), func(began time.Time, err error) {
			lost.Add(1)
			switch u := up.Load(); {
			case down.Load() == nil:
				t.Errorf("before the restart: %v", err)
			case u != nil && began.After(*u):
				t.Errorf("after the restart: %v", err)
			}
		})
		eventually(t, "requests go on", func() bool { return count.Load() > 50 || t.Failed() })
		now := time.Now()
		down.Store(&now)
		end()
		h.Start()
		now2 := time.Now()
		up.Store(&now2)
		n := count.Load()
		eventually(t, "requests go on", func() bool { return count.Load() > n+200 || t.Failed() })
		stop()
		t.Logf("a restart: %d requests answered, %d lost while nobody listened", count.Load(), lost.Load())
	}
	if got := state(t, cfg); len(got) != 1 || !got["w3"].at(server{Name: "w3", Address: w3.Worker.Address}) {
		t.Errorf("servers %v", got)
	}
	must(t, b.Set(t.Context(), workersOf(w3)))
	t.Logf("five reloads: %d requests, none lost", reloaded)
}

func TestDrainWaitsForTheRequestInFlight(t *testing.T) {
	w1, w2 := newBackend(t, "w1"), newBackend(t, "w2")
	h, cfg := real(t, DefaultConfig(), workersOf(w1)...)
	b := New(cfg)
	both := workersOf(w1, w2)
	slow := make(chan acttest.Reply, 1)
	go func() { slow <- acttest.Ask(t.Context(), h.Address(), http.MethodPost, "/wait", "") }()
	<-w1.seen
	must(t, b.Set(t.Context(), both))
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := b.Drain(short, w1.Worker); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a drain that may not wait: %v", err)
	}
	done := make(chan error, 1)
	go func() { done <- b.Drain(t.Context(), w1.Worker) }()
	eventually(t, "the drain has begun", func() bool { s := state(t, cfg)["w1"]; return !s.Serving() })
	must(t, b.Set(t.Context(), both)) // a list from before does not bring it back
	for range 4 {
		if r := acttest.Ask(t.Context(), h.Address(), http.MethodGet, "/", ""); r.Body != "w2" {
			t.Errorf("during the drain: %+v", r)
		}
	}
	close(w1.gate)
	must(t, <-done)
	w1.Die()
	if r := <-slow; r.Body != "w1" || r.Err != nil {
		t.Errorf("the request in flight: %+v", r)
	}
	must(t, b.Set(t.Context(), both))
	if got := state(t, cfg); len(got) != 1 {
		t.Errorf("the drained worker is back: %v", got)
	}

	// Not for ever.
	cfg.DrainTimeout = 100 * time.Millisecond
	go func() { slow <- acttest.Ask(t.Context(), h.Address(), http.MethodGet, "/wait", "") }()
	<-w2.seen
	must(t, New(cfg).Drain(t.Context(), w2.Worker))
	if r := <-slow; r.Failed() == nil {
		t.Errorf("a request that was closed: %+v", r)
	}
	if got := state(t, cfg); len(got) != 0 {
		t.Errorf("servers %v", got)
	}
}

// A visitor with a cookie stays at a worker that is drained until the limit, and goes on elsewhere after it, without an error.
func TestStickySessionsAreKeptThroughADrain(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Sticky = Sticky{Cookie: "TIDEMARK", Drain: 700 * time.Millisecond}
	w1, w2, w3 := newBackend(t, "w1"), newBackend(t, "w2"), newBackend(t, "w3")
	h, cfg := real(t, cfg, workersOf(w1)...)
	b := New(cfg)
	must(t, b.Set(t.Context(), workersOf(w1, w2, w3))) // one from the file, two added
	cookies := map[string]string{}
	for len(cookies) < 3 {
		r := acttest.Ask(t.Context(), h.Address(), http.MethodGet, "/", "")
		must(t, r.Failed())
		if r.Cookie == "" || r.Cookie == "TIDEMARK=" {
			t.Fatalf("no cookie of %s: %v", r.Body, r.Header)
		}
		cookies[r.Body] = r.Cookie
	}
	for id, cookie := range cookies {
		for range 3 {
			if r := acttest.Ask(t.Context(), h.Address(), http.MethodGet, "/", cookie); r.Body != id {
				t.Errorf("the visitor of %s came to %+v", id, r)
			}
		}
	}
	h.Reload()
	if r := acttest.Ask(t.Context(), h.Address(), http.MethodGet, "/", cookies["w2"]); r.Body != "w2" {
		t.Errorf("after a reload, the visitor of w2 came to %+v", r)
	}
	began := time.Now()
	done := make(chan error, 1)
	go func() { done <- b.Drain(t.Context(), w2.Worker) }()
	eventually(t, "the drain has begun", func() bool { return state(t, cfg)["w2"].Status == "DRAIN" })
	kept, moved := 0, ""
	for moved == "" {
		r := acttest.Ask(t.Context(), h.Address(), http.MethodPost, "/", cookies["w2"])
		must(t, r.Failed())
		if fresh := acttest.Ask(t.Context(), h.Address(), http.MethodGet, "/", ""); fresh.Body == "w2" {
			t.Error("a new visitor came to a worker that is drained")
		}
		if r.Body == "w2" {
			kept++
		} else {
			moved = r.Cookie
		}
	}
	must(t, <-done)
	if kept == 0 || time.Since(began) < cfg.Sticky.Drain || !slices.Contains([]string{cookies["w1"], cookies["w3"]}, moved) {
		t.Errorf("kept for %d requests and %s, then %q", kept, time.Since(began), moved)
	}
	if got := state(t, cfg); len(got) != 2 {
		t.Errorf("servers %v", got)
	}
}

// With the only worker busy, requests wait in order of importance; the least important are refused first, and none waits
// longer than the time-out.
func TestImportantRequestsAreServedFirst(t *testing.T) {
	cfg := DefaultConfig()
	cfg.MaxInFlight = 1
	cfg.Queue.Timeout = time.Minute
	cfg.Message = "Try again; it's 'busy' & \"full\"."
	cfg.Classes = []Class{
		{Name: "sync", Priority: 1, Routes: []string{"/api/sync"}},
		{Name: "pages", Priority: 8, Routes: []string{"/web/", "/api"}, QueueLimit: 3, RetryAfter: 17 * time.Second},
	}
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "backend: is missing") {
		t.Errorf("%v", err)
	}
	w1 := newBackend(t, "w1")
	h, cfg := real(t, cfg)
	must(t, New(cfg).Set(t.Context(), workersOf(w1)))
	var wg sync.WaitGroup
	queued := uint64(0)
	begin := func(path string) {
		t.Helper()
		wg.Go(func() {
			if err := acttest.Ask(t.Context(), h.Address(), http.MethodGet, path, "").Failed(); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		})
		eventually(t, path+" is on its way", func() bool {
			s, err := NewRuntime(cfg.Socket).Stats(t.Context(), "dfr")
			return err == nil && s.Queued == queued && len(s.Servers) == 1 && s.Servers[0].Sessions == 1
		})
		queued++
	}
	begin("/wait/first")
	<-w1.seen
	for _, path := range []string{"/web/wait", "/wait/other", "/api/sync/wait"} {
		begin(path)
	}
	for path, want := range map[string]string{"/web/x": "17", "/api/farmer": "17"} {
		r := acttest.Ask(t.Context(), h.Address(), http.MethodGet, path, "")
		if r.Status != http.StatusServiceUnavailable || r.Header.Get("Retry-After") != want || !strings.Contains(r.Body, "it&#39;s &#39;busy&#39; &amp; &#34;full&#34;.") {
			t.Errorf("%s with the queue full: %+v", path, r)
		}
	}
	begin("/api/sync/wait/2") // of importance: it may still wait
	close(w1.gate)
	wg.Wait()
	var order []string
	for range 4 {
		order = append(order, <-w1.seen)
	}
	if want := []string{"/api/sync/wait", "/api/sync/wait/2", "/wait/other", "/web/wait"}; !slices.Equal(order, want) {
		t.Errorf("served %v, want %v", order, want)
	}
	s, err := NewRuntime(cfg.Socket).Stats(t.Context(), "dfr")
	must(t, err)
	if s.Refused != 2 || s.Requests != 7 || s.Status[1] != 5 || s.Status[4] != 2 {
		t.Errorf("HAProxy counted %+v", s)
	}
}

func TestNoRequestWaitsLongerThanTheTimeout(t *testing.T) {
	cfg := DefaultConfig()
	cfg.MaxInFlight, cfg.Queue.Timeout, cfg.Queue.RetryAfter = 1, 50*time.Millisecond, 9*time.Second
	w1 := newBackend(t, "w1")
	h, _ := real(t, cfg, workersOf(w1)...)
	first := make(chan acttest.Reply, 1)
	go func() { first <- acttest.Ask(t.Context(), h.Address(), http.MethodGet, "/wait", "") }()
	<-w1.seen
	if r := acttest.Ask(t.Context(), h.Address(), http.MethodGet, "/", ""); r.Status != http.StatusServiceUnavailable || r.Header.Get("Retry-After") != "9" {
		t.Errorf("%+v", r)
	}
	close(w1.gate)
	must(t, (<-first).Failed())
}

func TestAHundredDrainsUnderLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: 100 drains of a real HAProxy")
	}
	acttest.Drains(t, func(workers []fleet.Worker) (acttest.Balancer, string) {
		cfg := DefaultConfig()
		cfg.MaxInFlight = 1
		h, cfg := real(t, cfg, workers...)
		return New(cfg), h.Address()
	})
}

// HAProxy takes the files that are shown as an example, and all that a configuration may ask for.
func TestHAProxyTakesTheFiles(t *testing.T) {
	bin := servers.Need(t, "haproxy")
	cfg := DefaultConfig()
	cfg.Backend, cfg.File, cfg.MaxInFlight, cfg.Message, cfg.Sticky.Cookie = "registry", filepath.Join(t.TempDir(), "tidemark.cfg"), 2, `$HOME 100% 'a' "b" \n <é>`, "A.b-c"
	cfg.Classes = []Class{{Name: "all.of-it:1", Priority: 9, Routes: []string{"/"}}, {Name: "b", Priority: 1, Routes: []string{"/a~b._-/"}, QueueLimit: 1, RetryAfter: time.Hour}}
	must(t, cfg.Validate())
	must(t, New(cfg).cfg.write([]server{{"w1", "127.0.0.1:1"}, {"w2:7", "unix@/run/w2.sock"}, {"w3", "[::1]:80"}}))
	out, err := exec.Command(bin, "-c", "-f", "../../../examples/haproxy.cfg", "-f", cfg.File).CombinedOutput()
	if err != nil || strings.Contains(string(out), "WARNING") {
		t.Errorf("%v\n%s", err, out)
	}
}
