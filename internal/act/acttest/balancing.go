package acttest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tidemark/internal/fleet"
)

// Backend is a worker behind a balancer under test. It answers with its id.
type Backend struct {
	Worker fleet.Worker
	srv    *httptest.Server
}

// NewBackend starts a worker. before is called before it answers a request, whose body was read; it answers when before returns true.
func NewBackend(t *testing.T, id string, before func(r *http.Request) bool) *Backend {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if before(r) {
			_, _ = io.WriteString(w, id)
		}
	}))
	t.Cleanup(srv.Close)
	return &Backend{fleet.Worker{ID: id, Address: srv.Listener.Addr().String(), Phase: fleet.Serving}, srv}
}

// Die stops the worker at once, whatever it is doing.
func (b *Backend) Die() {
	_ = b.srv.Listener.Close()
	b.srv.CloseClientConnections()
}

// Reply is what a client gets.
type Reply struct {
	Body, Cookie string
	Status       int
	Header       http.Header
	Err          error
}

// Failed returns an error unless the answer is 200.
func (r Reply) Failed() error {
	if r.Err == nil && r.Status != http.StatusOK {
		return fmt.Errorf("status %d: %.200s", r.Status, r.Body)
	}
	return r.Err
}

// Ask makes one request on a connection of its own, with a body, and with a cookie unless it is empty.
func Ask(ctx context.Context, address, method, path, cookie string) (r Reply) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+address+path, strings.NewReader("record"))
	if err != nil {
		return Reply{Err: err}
	}
	if cookie != "" {
		req.Header.Set("Cookie", cookie)
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return Reply{Err: err}
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	r = Reply{Body: string(body), Status: resp.StatusCode, Header: resp.Header, Err: err}
	for _, c := range resp.Cookies() {
		r.Cookie = c.Name + "=" + c.Value
	}
	return r
}

// Load makes requests until stop is called. What fails goes to failed, with the time at which the request began. The clients pause
// between requests: each leaves two sockets in TIME_WAIT for a minute, and a drain reads the kernel's table with all of them in it.
func Load(address string, failed func(began time.Time, err error)) (count *atomic.Int64, stop func()) {
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
				began := time.Now()
				if err := Ask(context.Background(), address, method, "/", "").Failed(); err != nil {
					failed(began, fmt.Errorf("%s after %d requests: %w", method, count.Load(), err))
					continue
				}
				count.Add(1)
			}
		})
	}
	return count, sync.OnceFunc(func() { close(end); wg.Wait() })
}

// Balancer is control.Balancer, which this package is below.
type Balancer interface {
	Set(ctx context.Context, workers []fleet.Worker) error
	Drain(ctx context.Context, w fleet.Worker) error
}

// Drains takes a balancer from 2 to 5 workers and back under load, for a hundred drains, and kills each worker the moment its drain is
// done: no request may fail. begin starts the balancer with the first workers, and returns where it listens.
func Drains(t *testing.T, begin func(workers []fleet.Worker) (b Balancer, address string)) {
	t.Helper()
	made := 0
	var now []*Backend
	grow := func(n int) (workers []fleet.Worker) {
		for len(now) < n {
			made++
			now = append(now, NewBackend(t, fmt.Sprint("w", made), func(*http.Request) bool { return true }))
		}
		for _, b := range now {
			workers = append(workers, b.Worker)
		}
		return workers
	}
	b, address := begin(grow(2))
	count, stop := Load(address, func(_ time.Time, err error) { t.Error(err) })
	defer stop()
	for drains := 0; drains < 100 && !t.Failed(); {
		if err := b.Set(t.Context(), grow(5)); err != nil {
			t.Fatal(err)
		}
		for len(now) > 2 {
			before := count.Load()
			if err := b.Drain(t.Context(), now[0].Worker); err != nil {
				t.Fatal(err)
			}
			now[0].Die()
			now = now[1:]
			drains++
			deadline := time.Now().Add(15 * time.Second)
			for count.Load() <= before+5 && !t.Failed() {
				if time.Now().After(deadline) {
					t.Fatal("waited in vain: requests go on")
				}
				time.Sleep(2 * time.Millisecond)
			}
		}
	}
	stop()
	t.Logf("%d requests over 100 drains", count.Load())
}
