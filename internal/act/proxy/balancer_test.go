package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tidemark/internal/fleet"
	"tidemark/test/servers"
)

// What control calls a Balancer.
var _ interface {
	Set(context.Context, []fleet.Worker) error
	Drain(context.Context, fleet.Worker) error
} = (*Balancer)(nil)

// proxyMain is `tidemark proxy` for the tests: --config FILE --socket PATH.
func proxyMain() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	args := os.Args[1:]
	if len(args) != 4 || args[0] != "--config" || args[2] != "--socket" {
		_, _ = io.WriteString(os.Stderr, "wrong arguments: "+strings.Join(args, " ")+"\n")
		os.Exit(2)
	}
	if err := Main(ctx, args[1], args[3], false, os.Stderr); err != nil {
		_, _ = io.WriteString(os.Stderr, err.Error()+"\n")
		os.Exit(1)
	}
}

// balancerOf makes a Balancer whose process is the test binary, stopped when the test ends.
func balancerOf(t *testing.T, socket string, cfg Config) *Balancer {
	t.Helper()
	t.Setenv("PROXY_TEST_MAIN", "proxy")
	b := NewBalancer(cfg, Options{Command: []string{os.Args[0]}, Socket: socket})
	t.Cleanup(func() {
		h, err := b.Status(context.Background())
		if err != nil {
			return
		}
		_ = syscall.Kill(h.PID, syscall.SIGTERM)
		eventually(t, "the proxy has stopped", func() bool { return ended(h.PID) })
	})
	return b
}

func serving(backends ...*backend) (list []fleet.Worker) {
	for _, b := range backends {
		list = append(list, fleet.Worker{ID: b.id, Address: b.endpoint().Address, Phase: fleet.Serving})
	}
	return list
}

func TestBalancerStartsTheProxyAndStartsItAgain(t *testing.T) {
	w1, w2 := newBackend(t, "w1"), newBackend(t, "w2")
	cfg := loopback()
	cfg.Listen = servers.FreeAddress(t)
	b := balancerOf(t, filepath.Join(t.TempDir(), "run", "p.sock"), cfg)
	if err := b.Drain(t.Context(), serving(w1)[0]); err != nil {
		t.Errorf("drain without a proxy: %v", err)
	}
	workers := serving(w1, w2)
	workers[1].Phase = fleet.Starting
	if err := b.Set(t.Context(), workers); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		if got := get(t, cfg.Listen, "/"); got.body != "w1 GET 0" {
			t.Fatalf("%+v, want an answer of w1: w2 only starts", got)
		}
	}
	first, err := b.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if sid, err := sessionOf(first.PID); err != nil || sid != first.PID {
		t.Errorf("the proxy is in session %d (%v), want one of its own", sid, err)
	}
	if err := b.Set(t.Context(), serving(w1, w2)); err != nil {
		t.Fatal(err)
	}
	if err := b.Drain(t.Context(), serving(w1)[0]); err != nil {
		t.Fatal(err)
	}
	if got := get(t, cfg.Listen, "/"); got.body != "w2 GET 0" {
		t.Errorf("%+v, want w2 after the drain of w1", got)
	}

	if err := syscall.Kill(first.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is gone", func() bool { _, err := b.Status(t.Context()); return errors.Is(err, ErrDown) })
	if err := b.Set(t.Context(), serving(w2)); err != nil {
		t.Fatal(err)
	}
	if got := get(t, cfg.Listen, "/"); got.body != "w2 GET 0" {
		t.Errorf("after a crash: %+v", got)
	}
	if h, err := b.Status(t.Context()); err != nil || h.PID == first.PID {
		t.Errorf("%+v %v", h, err)
	}
}

func TestTwoDaemonsStartOneProxy(t *testing.T) {
	w := newBackend(t, "w1")
	cfg := loopback()
	cfg.Listen = servers.FreeAddress(t)
	socket := filepath.Join(t.TempDir(), "p.sock")
	a, b := balancerOf(t, socket, cfg), balancerOf(t, socket, cfg)
	var wg sync.WaitGroup
	for _, x := range []*Balancer{a, b} {
		wg.Go(func() {
			if err := x.Set(t.Context(), serving(w)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := get(t, cfg.Listen, "/"); got.status != http.StatusOK {
		t.Errorf("%+v", got)
	}
}

func TestBalancerChangesARunningProxy(t *testing.T) {
	w := newBackend(t, "w1")
	cfg := loopback()
	cfg.Listen = servers.FreeAddress(t)
	socket := filepath.Join(t.TempDir(), "p.sock")
	if err := balancerOf(t, socket, cfg).Set(t.Context(), serving(w)); err != nil {
		t.Fatal(err)
	}
	cfg.MaxInFlight = 1
	live := balancerOf(t, socket, cfg) // a daemon with a new configuration
	if err := live.Set(t.Context(), serving(w)); err != nil {
		t.Fatal(err)
	}
	st, err := live.client.Stats(t.Context())
	if err != nil || st.MaxInFlight != 1 || st.Digest != cfg.Digest() {
		t.Errorf("%+v %v", st, err)
	}
	old := cfg.Listen
	cfg.Listen = servers.FreeAddress(t)
	moved := balancerOf(t, socket, cfg)
	for range 2 {
		var restart *RestartNeededError
		if err := moved.Set(t.Context(), serving(w)); !errors.As(err, &restart) || strings.Join(restart.Settings, " ") != "listen" {
			t.Fatalf("a new listening address: %v", err)
		}
	}
	if got := get(t, old, "/"); got.status != http.StatusOK {
		t.Errorf("at the old address: %+v", got)
	}
}

func TestAProxyThatCannotStartSaysWhy(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	cfg := loopback()
	cfg.Listen = taken.Addr().String()
	b := balancerOf(t, filepath.Join(t.TempDir(), "p.sock"), cfg)
	err = b.Set(t.Context(), nil)
	if err == nil || !strings.Contains(err.Error(), "address already in use") || !strings.Contains(err.Error(), "exit code 1") {
		t.Errorf("%v", err)
	}
	b = balancerOf(t, filepath.Join(t.TempDir(), strings.Repeat("long", 30)+".sock"), loopback())
	if err = b.Set(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "choose a shorter") {
		t.Errorf("%v", err)
	}
	b = balancerOf(t, filepath.Join(t.TempDir(), "p.sock"), loopback())
	if err = b.Set(t.Context(), []fleet.Worker{{ID: "w", Phase: fleet.Serving}}); err == nil || !strings.Contains(err.Error(), "needs host:port") {
		t.Errorf("a worker without an address: %v", err)
	}
}

// workerMain is a worker process: it serves the first 100 ms slowly, so that a kill finds requests in it.
func workerMain() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		os.Exit(1)
	}
	_, _ = io.WriteString(os.Stdout, ln.Addr().String()+"\n")
	_ = http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(5 * time.Millisecond)
		_, _ = io.WriteString(w, "ok")
	}))
}

// A worker is killed under load: the POSTs that it had fail with 502, everything else succeeds.
func TestAKilledWorkerFailsOnlyItsOwnRequests(t *testing.T) {
	s, addr := proxyOf(t, nil)
	pids := map[string]int{}
	var list []Endpoint
	for _, id := range []string{"w1", "w2", "w3"} {
		at, pid := startWorker(t)
		pids[id] = pid
		list = append(list, Endpoint{id, at})
	}
	s.Set(list)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var n atomic.Int64
	var mu sync.Mutex
	failures := map[string]int{}
	for i := range 9 {
		method := []string{http.MethodPost, http.MethodGet, http.MethodPost}[i%3]
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				got := do(t.Context(), method, addr, "/", "")
				n.Add(1)
				if got.status == http.StatusOK && got.body == "ok" {
					continue
				}
				mu.Lock()
				failures[method]++
				mu.Unlock()
				if got.status != http.StatusBadGateway || got.header.Get("X-Tidemark-Worker") != "w2" {
					t.Errorf("%s failed with %+v", method, got)
				}
			}
		})
	}
	eventually(t, "load", func() bool { return n.Load() > 50 })
	inFlight := 0
	eventually(t, "w2 is at work", func() bool {
		inFlight = s.Stats().Workers[1].InFlight
		return inFlight > 0
	})
	if err := syscall.Kill(pids["w2"], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	killed := n.Load()
	eventually(t, "more load", func() bool { return n.Load() > killed+200 })
	close(stop)
	wg.Wait()
	if failures[http.MethodGet] != 0 || failures[http.MethodPost] > 9 {
		t.Errorf("%v of %d requests failed", failures, n.Load())
	}
	t.Logf("%d requests, failed: %v", n.Load(), failures)
}
