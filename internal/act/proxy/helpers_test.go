package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tidemark/internal/decide/signal"
)

// backend is a worker of the tests' own: it serves until told otherwise, and counts.
type backend struct {
	id       string
	srv      *httptest.Server
	requests atomic.Int64
	now, top atomic.Int64  // requests in flight, and the most there were
	gate     chan struct{} // /wait answers when it is closed or sent to
	arrived  chan string   // each path that comes in on /wait
}

func newBackend(t testing.TB, id string) *backend {
	t.Helper()
	b := &backend{id: id, gate: make(chan struct{}), arrived: make(chan string, 1000)}
	b.srv = httptest.NewServer(b)
	t.Cleanup(b.srv.Close)
	return b
}

func (b *backend) endpoint() Endpoint { return Endpoint{b.id, b.srv.Listener.Addr().String()} }

func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.requests.Add(1)
	b.top.Store(max(b.top.Load(), b.now.Add(1)))
	defer b.now.Add(-1)
	body, _ := io.ReadAll(r.Body)
	switch {
	case strings.HasSuffix(r.URL.Path, "/wait"):
		b.arrived <- r.URL.Path
		<-b.gate
	case r.URL.Path == "/headers":
		for k, v := range r.Header {
			w.Header()["Got-"+k] = v
		}
		w.Header().Set("Got-Host", r.Host)
		w.Header().Set("Got-Uri", r.RequestURI)
		w.Header().Set("Got-Length", fmt.Sprint(r.ContentLength))
	case r.URL.Path == "/500":
		w.WriteHeader(http.StatusInternalServerError)
	case r.URL.Path == "/big":
		_, _ = io.Copy(w, io.LimitReader(zeros{}, 64<<20))
		return
	case r.URL.Path == "/cut": // the answer breaks off
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	case r.URL.Path == "/die": // no answer at all
		panic(http.ErrAbortHandler)
	}
	_, _ = fmt.Fprintf(w, "%s %s %d", b.id, r.Method, len(body))
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// proxyOf serves a Server with these workers on loopback, and returns its address.
func proxyOf(t testing.TB, change func(*Config), workers ...*backend) (*Server, string) {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Queue.Timeout = 10 * time.Second
	if change != nil {
		change(&cfg)
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	s := NewServer(cfg)
	srv := httptest.NewServer(s)
	t.Cleanup(func() { s.Close(); srv.Close() })
	s.Set(endpointsOf(workers...))
	return s, srv.Listener.Addr().String()
}

func endpointsOf(workers ...*backend) (list []Endpoint) {
	for _, b := range workers {
		list = append(list, b.endpoint())
	}
	return list
}

// reply is what a client saw.
type reply struct {
	status int
	body   string
	header http.Header
	err    error
}

// do makes one request on a connection of its own.
func do(ctx context.Context, method, addr, path, body string) reply {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+addr+path, strings.NewReader(body))
	if err != nil {
		return reply{err: err}
	}
	tr := &http.Transport{DisableKeepAlives: true}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return reply{err: err}
	}
	defer func() { _ = resp.Body.Close() }()
	got, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, string(got), resp.Header, err}
}

func get(t testing.TB, addr, path string) reply {
	t.Helper()
	return do(t.Context(), http.MethodGet, addr, path, "")
}

// background makes one request and delivers what the client saw.
func background(ctx context.Context, method, addr, path, body string) <-chan reply {
	c := make(chan reply, 1)
	go func() { c <- do(ctx, method, addr, path, body) }()
	return c
}

// eventually waits for a condition that another goroutine or process brings about.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// dial opens a raw connection.
func dial(t testing.TB, addr string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c, bufio.NewReader(c)
}

// answerOn reads one whole answer from a raw connection.
func answerOn(r *bufio.Reader) reply {
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return reply{err: err}
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return reply{status: resp.StatusCode, header: resp.Header}
	}
	got, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, string(got), resp.Header, err}
}

func histogram(t testing.TB, b Histogram) *signal.Histogram {
	t.Helper()
	var h signal.Histogram
	if err := h.UnmarshalBinary(b); err != nil {
		t.Fatal(err)
	}
	return &h
}
