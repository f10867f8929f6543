package nginx

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tidemark/internal/act/acttest"
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

func newBackend(t *testing.T, id string) *acttest.Backend {
	t.Helper()
	return acttest.NewBackend(t, id, func(r *http.Request) bool {
		if r.URL.Path == "/slow" {
			time.Sleep(300 * time.Millisecond)
		}
		return true
	})
}

func workersOf(backends ...*acttest.Backend) (list []fleet.Worker) {
	for _, b := range backends {
		list = append(list, b.Worker)
	}
	return list
}

func (s *server) request(ctx context.Context, method, path string) (string, error) {
	r := acttest.Ask(ctx, s.addr, method, path, "")
	return r.Body, r.Failed()
}

func TestUpstreamFollowsTheWorkers(t *testing.T) {
	s := newServer(t)
	b := New(s.cfg)
	fleetOf := []*acttest.Backend{newBackend(t, "w1"), newBackend(t, "w2")}
	ctx := t.Context()

	if err := b.Set(ctx, nil); !errors.Is(err, ErrEmpty) {
		t.Errorf("no workers: %v", err)
	}
	if err := b.Set(ctx, workersOf(fleetOf...)); err == nil || !strings.Contains(err.Error(), "does not reload") {
		t.Errorf("without a running nginx: %v", err)
	}
	s.start(t)
	pids := s.workers()
	if err := b.Set(ctx, workersOf(fleetOf...)); err != nil {
		t.Fatal(err)
	}
	pids = s.settled(t, pids) // in doubt it was told again
	for _, again := range []*Balancer{b, New(s.cfg)} {
		backwards := []fleet.Worker{fleetOf[1].Worker, {ID: "w3", Address: "127.0.0.1:1", Phase: fleet.Starting}, fleetOf[0].Worker}
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
	if err := b.Set(ctx, workersOf(fleetOf...)); err != nil {
		t.Fatal(err)
	}
	pids = s.settled(t, pids)

	// A power cut between the rename and the reload: the file is right, and nginx does not know it.
	one := s.cfg.render([]string{fleetOf[0].Worker.Address})
	if err := os.WriteFile(s.cfg.File, one, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := New(s.cfg).Set(ctx, workersOf(fleetOf[:1]...)); err != nil {
		t.Fatal(err)
	}
	s.settled(t, pids)

	// Another master: it is told, once.
	s.stop(t)
	s.start(t)
	pids = s.workers()
	if err := b.Set(ctx, workersOf(fleetOf[:1]...)); err != nil {
		t.Fatal(err)
	}
	pids = s.settled(t, pids)
	if err := b.Set(ctx, workersOf(fleetOf[:1]...)); err != nil {
		t.Fatal(err)
	}
	if now := s.workers(); !slices.Equal(now, pids) {
		t.Errorf("a new master was told twice")
	}
	if err := b.Drain(ctx, fleetOf[0].Worker); !errors.Is(err, ErrEmpty) {
		t.Errorf("drain of the last: %v", err)
	}
}

func TestARefusedUpstreamIsRolledBackWhileTrafficGoesOn(t *testing.T) {
	s := newServer(t)
	fleetOf := []*acttest.Backend{newBackend(t, "w1"), newBackend(t, "w2")}
	b := New(s.cfg)
	_ = b.Set(t.Context(), workersOf(fleetOf...))
	s.start(t)
	if err := b.Set(t.Context(), workersOf(fleetOf...)); err != nil {
		t.Fatal(err)
	}
	good := s.upstream(t)
	count, stop := acttest.Load(s.addr, func(_ time.Time, err error) { t.Error(err) })
	bad := s.cfg
	bad.Extra = []string{"max_fials=0"}
	for range 3 {
		err := New(bad).Set(t.Context(), workersOf(fleetOf...))
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
	if err := b.Set(t.Context(), workersOf(fleetOf...)); err == nil {
		t.Error("a fault elsewhere went unnoticed")
	}
	if got := s.upstream(t); got != good {
		t.Errorf("the file was changed:\n%s", got)
	}
	if err := os.Remove(other); err != nil {
		t.Fatal(err)
	}
	if err := b.Set(t.Context(), workersOf(fleetOf[:1]...)); err != nil {
		t.Errorf("after it was mended: %v", err)
	}
	n := count.Load()
	eventually(t, "traffic goes on", func() bool { return count.Load() > n+50 || t.Failed() })
	stop()

	// The very first file is refused: it is taken away again.
	fresh := newServer(t)
	fresh.cfg.Extra = bad.Extra
	if err := New(fresh.cfg).Set(t.Context(), workersOf(fleetOf...)); err == nil || isFile(fresh.cfg.File) {
		t.Errorf("%v, file there: %v", err, isFile(fresh.cfg.File))
	}
}

func TestDrainWaitsForTheRequestInFlight(t *testing.T) {
	s := newServer(t)
	s.cfg.DrainWait = 0 // connections decide
	w1, w2 := newBackend(t, "w1"), newBackend(t, "w2")
	b := New(s.cfg)
	_ = b.Set(t.Context(), workersOf(w1))
	s.start(t)
	if err := b.Set(t.Context(), workersOf(w1)); err != nil {
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
	if err := b.Set(t.Context(), workersOf(w1, w2)); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := b.Drain(short, w1.Worker); !errors.Is(err, context.DeadlineExceeded) && err == nil {
		t.Error("a drain that may not wait succeeded")
	}
	if err := b.Drain(t.Context(), w1.Worker); err != nil {
		t.Fatal(err)
	}
	w1.Die()
	if got := <-slow; got.body != "w1" || got.err != nil {
		t.Errorf("the request in flight: %+v", got)
	}
	// A list from before the drain does not bring it back.
	if err := b.Set(t.Context(), workersOf(w1, w2)); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(s.upstream(t), w1.Worker.Address) {
		t.Error("the drained worker is back")
	}
}

func openTo(t *testing.T, b *acttest.Backend) int {
	t.Helper()
	n, err := sockets.OpenTo(b.Worker.Address)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestAHundredDrainsUnderLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: 100 drains of a real nginx")
	}
	acttest.Drains(t, func(workers []fleet.Worker) (acttest.Balancer, string) {
		s := newServer(t)
		b := New(s.cfg)
		_ = b.Set(t.Context(), workers)
		s.start(t)
		if err := b.Set(t.Context(), workers); err != nil {
			t.Fatal(err)
		}
		return b, s.addr
	})
}
