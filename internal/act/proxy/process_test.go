package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func startProcess(t *testing.T, cfg Config) *Process {
	t.Helper()
	p, err := Start(t.Context(), ProcessOptions{Config: cfg, Socket: filepath.Join(t.TempDir(), "p.sock")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return p
}

func loopback() Config {
	cfg := DefaultConfig()
	cfg.Listen = "127.0.0.1:0"
	cfg.Queue.Timeout = 10 * time.Second
	cfg.ShutdownTimeout = 5 * time.Second
	return cfg
}

func TestAdminSocket(t *testing.T) {
	p := startProcess(t, loopback())
	info, err := os.Stat(p.socket)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("socket %v %v, want 0600", info, err)
	}
	b := newBackend(t, "w1")
	c := NewClient(p.socket)
	h, err := c.Set(t.Context(), endpointsOf(b))
	cfg := loopback()
	if err != nil || h.PID != os.Getpid() || h.Address != p.Addr().String() || h.Digest != cfg.Digest() {
		t.Fatalf("%+v %v", h, err)
	}
	if got := get(t, p.Addr().String(), "/"); got.body != "w1 GET 0" {
		t.Errorf("%+v", got)
	}
	if st, err := c.Stats(t.Context()); err != nil || st.Total.Done != 1 || st.Nonce != h.Nonce || st.Uptime <= 0 {
		t.Errorf("%+v %v", st, err)
	}
	if _, err := c.Set(t.Context(), []Endpoint{{"a b", "127.0.0.1:1"}}); err == nil {
		t.Error("a bad list was taken")
	}
	if err := c.Drain(t.Context(), "w1"); err != nil {
		t.Error(err)
	}
	bad := loopback()
	bad.MaxInFlight = -1
	if _, err := c.Configure(t.Context(), bad); err == nil {
		t.Error("a bad configuration was taken")
	}
}

func TestOneProcessToASocket(t *testing.T) {
	p := startProcess(t, loopback())
	if _, err := Start(t.Context(), ProcessOptions{Config: loopback(), Socket: p.socket}); !errors.Is(err, ErrRunning) {
		t.Errorf("a second one: %v", err)
	}
	if _, err := NewClient(p.socket).Health(t.Context()); err != nil {
		t.Errorf("the first one was disturbed: %v", err)
	}
}

func TestStopFinishesWhatIsThere(t *testing.T) {
	p, err := Start(t.Context(), ProcessOptions{Config: loopback(), Socket: filepath.Join(t.TempDir(), "p.sock")})
	if err != nil {
		t.Fatal(err)
	}
	b := newBackend(t, "w1")
	p.server.Set(endpointsOf(b))
	busy := background(t.Context(), http.MethodGet, p.Addr().String(), "/wait", "")
	<-b.arrived
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	stop()
	eventually(t, "the socket is free", func() bool { _, err := os.Stat(p.socket); return errors.Is(err, os.ErrNotExist) })
	close(b.gate)
	if got := <-busy; got.body != "w1 GET 0" {
		t.Errorf("%+v", got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A new process takes the listening socket over while clients go on, and no request is lost.
func TestTakeOver(t *testing.T) {
	b := newBackend(t, "w1")
	socket := filepath.Join(t.TempDir(), "p.sock")
	cfg := loopback()
	first, err := Start(t.Context(), ProcessOptions{Config: cfg, Socket: socket})
	if err != nil {
		t.Fatal(err)
	}
	first.server.Set(endpointsOf(b))
	addr := first.Addr().String()
	stop := make(chan struct{})
	var n atomic.Int64
	var clients sync.WaitGroup
	for _, keepalive := range []bool{false, true, true} {
		clients.Go(func() {
			tr := &http.Transport{DisableKeepAlives: !keepalive}
			defer tr.CloseIdleConnections()
			for {
				select {
				case <-stop:
					return
				default:
				}
				req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+"/", strings.NewReader("record"))
				resp, err := tr.RoundTrip(req)
				if err != nil {
					t.Errorf("request %d, keepalive %v: %v", n.Load(), keepalive, err)
					continue
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					t.Errorf("request %d, keepalive %v: %s", n.Load(), keepalive, resp.Status)
				}
				n.Add(1)
			}
		})
	}
	current := first
	for range 10 {
		ended := make(chan error, 1)
		go func() { ended <- current.Run(context.Background()) }()
		next, err := Start(t.Context(), ProcessOptions{Config: cfg, Socket: socket, TakeOver: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if h, err := NewClient(socket).Health(t.Context()); err != nil || h.Nonce != next.Health().Nonce {
			t.Errorf("after the take-over: %+v %v", h, err)
		}
		before := n.Load()
		eventually(t, "requests go on", func() bool { return n.Load() > before+20 || t.Failed() })
		current = next
	}
	close(stop)
	clients.Wait()
	if err := current.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	t.Logf("%d requests over 10 take-overs", n.Load())
}
