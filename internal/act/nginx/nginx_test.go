package nginx

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tidemark/internal/act/sockets"
	"tidemark/internal/fleet"
	"tidemark/test/servers"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is a real nginx of the test's own.
type server struct {
	dir, addr string
	cfg       Config
	cmd       *exec.Cmd
}

// newServer writes the configuration of an nginx under t.TempDir; start starts it.
func newServer(t *testing.T) *server {
	t.Helper()
	bin, err := exec.LookPath("nginx")
	if err != nil {
		if bin = "/usr/sbin/nginx"; !isFile(bin) {
			if os.Getenv("CI") == "true" {
				t.Fatal("needs nginx")
			}
			t.Skip("needs nginx")
		}
	}
	s := &server{dir: t.TempDir(), addr: servers.FreeAddress(t)}
	if err := os.Mkdir(filepath.Join(s.dir, "conf.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	user := ""
	if os.Getuid() == 0 {
		user = "user root;\n"
	}
	conf := filepath.Join(s.dir, "nginx.conf")
	text := user + `daemon off;
worker_processes 2;
pid ` + s.dir + `/nginx.pid;
error_log ` + s.dir + `/error.log warn;
events { worker_connections 256; }
http {
    access_log off;
    client_body_temp_path ` + s.dir + `/body; proxy_temp_path ` + s.dir + `/proxy; fastcgi_temp_path ` + s.dir + `/fastcgi;
    uwsgi_temp_path ` + s.dir + `/uwsgi; scgi_temp_path ` + s.dir + `/scgi;
    include ` + s.dir + `/conf.d/*;
    server {
        listen ` + s.addr + `;
        location / { proxy_pass http://dfr; proxy_http_version 1.1; proxy_set_header Connection ""; }
    }
}
`
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	c := DefaultConfig()
	c.Upstream = "dfr"
	c.File = filepath.Join(s.dir, "conf.d", "dfr-upstream.conf")
	c.PIDFile = filepath.Join(s.dir, "nginx.pid")
	early := []string{bin, "-e", filepath.Join(s.dir, "early.log"), "-p", s.dir, "-c", conf}
	c.Test, c.Reload = append(slices.Clone(early), "-t"), append(slices.Clone(early), "-s", "reload")
	c.Keepalive = 8
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	s.cfg = c
	s.cmd = exec.Command(early[0], early[1:]...)
	return s
}

func (s *server) start(t *testing.T) {
	t.Helper()
	s.cmd = exec.Command(s.cmd.Path, s.cmd.Args[1:]...)
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	cmd := s.cmd
	t.Cleanup(func() { _ = cmd.Process.Signal(syscall.SIGTERM); _ = cmd.Wait() })
	eventually(t, "nginx listens", func() bool {
		c, err := net.Dial("tcp", s.addr)
		if err == nil {
			_ = c.Close()
		}
		return err == nil && len(s.workers()) == 2
	})
}

func (s *server) stop(t *testing.T) {
	t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = s.cmd.Wait()
}

// workers are the pids of nginx's workers: others after each reload.
func (s *server) workers() []int {
	return childrenOf((&Balancer{cfg: s.cfg}).master())
}

// settled are the pids when no old worker is left.
func (s *server) settled(t *testing.T, before []int) []int {
	t.Helper()
	var now []int
	eventually(t, "nginx has reloaded", func() bool {
		now = s.workers()
		return len(now) == 2 && !slices.ContainsFunc(now, func(pid int) bool { return slices.Contains(before, pid) })
	})
	return now
}

func (s *server) upstream(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(s.cfg.File)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func isFile(path string) bool { _, err := os.Stat(path); return err == nil }

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// backend is a worker of the tests' own.
type backend struct {
	w   fleet.Worker
	srv *httptest.Server
}

func newBackend(t *testing.T, id string) *backend {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/slow" {
			time.Sleep(300 * time.Millisecond)
		}
		_, _ = io.WriteString(w, id)
	}))
	t.Cleanup(srv.Close)
	return &backend{fleet.Worker{ID: id, Address: srv.Listener.Addr().String(), Phase: fleet.Serving}, srv}
}

// die stops the worker at once, whatever it is doing.
func (b *backend) die() {
	_ = b.srv.Listener.Close()
	b.srv.CloseClientConnections()
}

func workersOf(backends []*backend) (list []fleet.Worker) {
	for _, b := range backends {
		list = append(list, b.w)
	}
	return list
}

func (s *server) request(ctx context.Context, method, path string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+s.addr+path, strings.NewReader("record"))
	if err != nil {
		return "", err
	}
	tr := &http.Transport{DisableKeepAlives: true}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %.200s", resp.Status, b)
	}
	return string(b), err
}

// load makes requests until stop is called, which reports how many were made; each failure fails the test. The clients pause
// between requests: each leaves two sockets in TIME_WAIT for a minute, and a drain reads the kernel's table with all of them in it.
func (s *server) load(t *testing.T) (count *atomic.Int64, stop func()) {
	count = &atomic.Int64{}
	end := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 3 {
		method := []string{http.MethodGet, http.MethodPost}[i%2]
		wg.Go(func() {
			pause := time.NewTicker(10 * time.Millisecond)
			defer pause.Stop()
			for {
				select {
				case <-end:
					return
				case <-pause.C:
				}
				if _, err := s.request(context.Background(), method, "/"); err != nil {
					t.Errorf("%s after %d requests: %v", method, count.Load(), err)
					return
				}
				count.Add(1)
			}
		})
	}
	return count, func() { close(end); wg.Wait() }
}

func TestUpstreamFollowsTheWorkers(t *testing.T) {
	s := newServer(t)
	b := New(s.cfg)
	fleetOf := []*backend{newBackend(t, "w1"), newBackend(t, "w2")}
	ctx := t.Context()

	if err := b.Set(ctx, nil); !errors.Is(err, ErrEmpty) {
		t.Errorf("no workers: %v", err)
	}
	if err := b.Set(ctx, workersOf(fleetOf)); err == nil || !strings.Contains(err.Error(), "does not reload") {
		t.Errorf("without a running nginx: %v", err)
	}
	s.start(t)
	pids := s.workers()
	if err := b.Set(ctx, workersOf(fleetOf)); err != nil {
		t.Fatal(err)
	}
	pids = s.settled(t, pids) // in doubt it was told again
	for _, again := range []*Balancer{b, New(s.cfg)} {
		backwards := []fleet.Worker{fleetOf[1].w, {ID: "w3", Address: "127.0.0.1:1", Phase: fleet.Starting}, fleetOf[0].w}
		if err := again.Set(ctx, backwards); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]int{}
	for range 10 {
		got, err := s.request(ctx, http.MethodGet, "/")
		if err != nil {
			t.Fatal(err)
		}
		seen[got]++
	}
	if seen["w1"] == 0 || seen["w2"] == 0 {
		t.Errorf("answers came from %v, want both", seen)
	}
	if now := s.workers(); !slices.Equal(now, pids) {
		t.Errorf("nginx was reloaded although nothing changed: workers %v, then %v", pids, now)
	}

	// Somebody edits the file: it is put right.
	if err := os.WriteFile(s.cfg.File, []byte("upstream dfr { server 127.0.0.1:1; }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := b.Set(ctx, workersOf(fleetOf)); err != nil {
		t.Fatal(err)
	}
	pids = s.settled(t, pids)

	// A power cut between the rename and the reload: the file is right, and nginx does not know it.
	one := s.cfg.render([]string{fleetOf[0].w.Address})
	if err := os.WriteFile(s.cfg.File, one, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := New(s.cfg).Set(ctx, workersOf(fleetOf[:1])); err != nil {
		t.Fatal(err)
	}
	s.settled(t, pids)

	// Another master: it is told, once.
	s.stop(t)
	s.start(t)
	pids = s.workers()
	if err := b.Set(ctx, workersOf(fleetOf[:1])); err != nil {
		t.Fatal(err)
	}
	pids = s.settled(t, pids)
	if err := b.Set(ctx, workersOf(fleetOf[:1])); err != nil {
		t.Fatal(err)
	}
	if now := s.workers(); !slices.Equal(now, pids) {
		t.Errorf("a new master was told twice")
	}
	if err := b.Drain(ctx, fleetOf[0].w); !errors.Is(err, ErrEmpty) {
		t.Errorf("drain of the last: %v", err)
	}
}

func TestARefusedUpstreamIsRolledBackWhileTrafficGoesOn(t *testing.T) {
	s := newServer(t)
	fleetOf := []*backend{newBackend(t, "w1"), newBackend(t, "w2")}
	b := New(s.cfg)
	_ = b.Set(t.Context(), workersOf(fleetOf))
	s.start(t)
	if err := b.Set(t.Context(), workersOf(fleetOf)); err != nil {
		t.Fatal(err)
	}
	good := s.upstream(t)
	count, stop := s.load(t)
	bad := s.cfg
	bad.Extra = []string{"max_fials=0"}
	for range 3 {
		err := New(bad).Set(t.Context(), workersOf(fleetOf))
		if err == nil || !strings.Contains(err.Error(), `invalid parameter "max_fials=0"`) {
			t.Errorf("a bad parameter: %v", err)
		}
		if got := s.upstream(t); got != good {
			t.Errorf("not rolled back:\n%s", got)
		}
	}

	// The fault is elsewhere in nginx's configuration: our file stays as it is.
	other := filepath.Join(s.dir, "conf.d", "other.conf")
	if err := os.WriteFile(other, []byte("half a line"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(s.dir, "conf.d", ".dfr-upstream.conf.state")); err != nil {
		t.Fatal(err)
	}
	if err := b.Set(t.Context(), workersOf(fleetOf)); err == nil {
		t.Error("a fault elsewhere went unnoticed")
	}
	if got := s.upstream(t); got != good {
		t.Errorf("the file was changed:\n%s", got)
	}
	if err := os.Remove(other); err != nil {
		t.Fatal(err)
	}
	if err := b.Set(t.Context(), workersOf(fleetOf[:1])); err != nil {
		t.Errorf("after it was mended: %v", err)
	}
	n := count.Load()
	eventually(t, "traffic goes on", func() bool { return count.Load() > n+50 || t.Failed() })
	stop()

	// The very first file is refused: it is taken away again.
	fresh := newServer(t)
	fresh.cfg.Extra = bad.Extra
	if err := New(fresh.cfg).Set(t.Context(), workersOf(fleetOf)); err == nil || isFile(fresh.cfg.File) {
		t.Errorf("%v, file there: %v", err, isFile(fresh.cfg.File))
	}
}

func TestDrainWaitsForTheRequestInFlight(t *testing.T) {
	s := newServer(t)
	s.cfg.DrainWait = 0 // connections decide
	w1, w2 := newBackend(t, "w1"), newBackend(t, "w2")
	b := New(s.cfg)
	_ = b.Set(t.Context(), workersOf([]*backend{w1}))
	s.start(t)
	if err := b.Set(t.Context(), workersOf([]*backend{w1})); err != nil {
		t.Fatal(err)
	}
	type result struct {
		body string
		err  error
	}
	slow := make(chan result, 1)
	go func() {
		got, err := s.request(t.Context(), http.MethodPost, "/slow")
		slow <- result{got, err}
	}()
	eventually(t, "it is under way", func() bool {
		c, err := net.Dial("tcp", s.addr)
		if err == nil {
			_ = c.Close()
		}
		return openTo(t, w1) > 0
	})
	if err := b.Set(t.Context(), workersOf([]*backend{w1, w2})); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := b.Drain(short, w1.w); !errors.Is(err, context.DeadlineExceeded) && err == nil {
		t.Error("a drain that may not wait succeeded")
	}
	if err := b.Drain(t.Context(), w1.w); err != nil {
		t.Fatal(err)
	}
	w1.die()
	if got := <-slow; got.body != "w1" || got.err != nil {
		t.Errorf("the request in flight: %+v", got)
	}
	// A list from before the drain does not bring it back.
	if err := b.Set(t.Context(), workersOf([]*backend{w1, w2})); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(s.upstream(t), w1.w.Address) {
		t.Error("the drained worker is back")
	}
}

func openTo(t *testing.T, b *backend) int {
	t.Helper()
	n, err := sockets.OpenTo(b.w.Address)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// 2 to 5 workers and back under load, a hundred drains, each worker killed the moment its drain is done: no request fails.
func TestAHundredDrainsUnderLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: 100 drains of a real nginx")
	}
	s := newServer(t)
	b := New(s.cfg)
	n := 0
	fresh := func() *backend { n++; return newBackend(t, fmt.Sprint("w", n)) }
	now := []*backend{fresh(), fresh()}
	_ = b.Set(t.Context(), workersOf(now))
	s.start(t)
	if err := b.Set(t.Context(), workersOf(now)); err != nil {
		t.Fatal(err)
	}
	count, stop := s.load(t)
	for drains := 0; drains < 100 && !t.Failed(); {
		for len(now) < 5 {
			now = append(now, fresh())
		}
		if err := b.Set(t.Context(), workersOf(now)); err != nil {
			t.Fatal(err)
		}
		for len(now) > 2 {
			before := count.Load()
			if err := b.Drain(t.Context(), now[0].w); err != nil {
				t.Fatal(err)
			}
			now[0].die()
			now = now[1:]
			drains++
			eventually(t, "requests go on", func() bool { return count.Load() > before+5 || t.Failed() })
		}
	}
	stop()
	t.Logf("%d requests over 100 drains", count.Load())
}
