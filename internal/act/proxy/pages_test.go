package proxy

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// publicWorker is what stands behind the cache in these tests: it counts, and answers as it is told.
type publicWorker struct {
	asked  atomic.Int64
	status int
	body   string
	held   chan struct{} // nil: nothing is held
}

func (p *publicWorker) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	n := p.asked.Add(1)
	if p.held != nil {
		<-p.held
	}
	rw.Header().Set("Set-Cookie", "session_id=somebody")
	rw.Header().Set("X-From", "worker")
	rw.WriteHeader(p.status)
	_, _ = fmt.Fprintf(rw, "%d%s cookie=%q auth=%q", n, p.body, r.Header.Get("Cookie"), r.Header.Get("Authorization"))
}

func ask(c *pages, p *publicWorker, uri string) *httptest.ResponseRecorder {
	cfg := DefaultConfig().Cache
	r := httptest.NewRequest(http.MethodGet, uri, nil)
	r.Header.Set("Cookie", "session_id=mine")
	r.Header.Set("Authorization", "Bearer mine")
	rw := httptest.NewRecorder()
	c.serve(rw, r, &cfg, p.ServeHTTP)
	return rw
}

func check(t *testing.T, what string, rw *httptest.ResponseRecorder, status int, cache, begins string) {
	t.Helper()
	if rw.Code != status || rw.Header().Get("X-Cache-Status") != cache || !strings.HasPrefix(rw.Body.String(), begins) || rw.Header().Get("Set-Cookie") != "" || rw.Header().Get("X-From") != "worker" {
		t.Errorf("%s: %d %v %q", what, rw.Code, rw.Header(), rw.Body)
	}
}

func TestAPublicPageIsKeptForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := &pages{}, &publicWorker{status: http.StatusOK}
		check(t, "first", ask(c, p, "/public?a=1"), 200, "MISS", `1 cookie="" auth=""`)
		time.Sleep(9 * time.Second)
		check(t, "again", ask(c, p, "/public?a=1"), 200, "HIT", "1 ")
		check(t, "another", ask(c, p, "/public?a=2"), 200, "MISS", "2 ")
		time.Sleep(2 * time.Second)
		check(t, "old", ask(c, p, "/public?a=1"), 200, "MISS", "3 ")

		time.Sleep(11 * time.Second)
		p.held = make(chan struct{})
		fetched := make(chan *httptest.ResponseRecorder, 1)
		go func() { fetched <- ask(c, p, "/public?a=1") }()
		synctest.Wait()
		check(t, "while it is fetched", ask(c, p, "/public?a=1"), 200, "STALE", "3 ")
		close(p.held)
		check(t, "fetched", <-fetched, 200, "MISS", "4 ")

		time.Sleep(11 * time.Second)
		p.status = http.StatusServiceUnavailable
		got := ask(c, p, "/public?a=1")
		check(t, "the workers are away", got, 200, "STALE", "4 ")
		if got.Header().Get("Age") != "11" {
			t.Errorf("age %s", got.Header().Get("Age"))
		}
		time.Sleep(time.Hour)
		check(t, "too old", ask(c, p, "/public?a=1"), 503, "MISS", "6 ")
		p.status = http.StatusOK
		check(t, "they are back", ask(c, p, "/public?a=1"), 200, "MISS", "7 ")
		if c.hits != 3 {
			t.Errorf("%d hits", c.hits)
		}
	})
}

// What is long goes through and is not kept; what is kept stays within its bounds; an answer that breaks off is not kept, and the next asks anew.
func TestWhatIsNotKept(t *testing.T) {
	c, p := &pages{}, &publicWorker{status: http.StatusOK, body: strings.Repeat("x", maxPage+1)}
	for range 2 {
		if rw := ask(c, p, "/long"); rw.Code != 200 || rw.Body.Len() < maxPage || rw.Header().Get("Set-Cookie") != "" {
			t.Errorf("%d, %d bytes", rw.Code, rw.Body.Len())
		}
	}
	if len(c.kept) > 0 || c.size != 0 {
		t.Errorf("%d pages, %d bytes are kept", len(c.kept), c.size)
	}
	p.body = strings.Repeat("x", maxPage/2)
	for i := range 200 {
		ask(c, p, fmt.Sprintf("/half/%d", i))
	}
	if limit := DefaultConfig().Cache.MaxBytes; c.size > limit || c.size < limit-maxPage || len(c.kept) < 100 {
		t.Errorf("%d bytes in %d pages", c.size, len(c.kept))
	}
	cfg := DefaultConfig().Cache
	func() {
		defer func() { _ = recover() }()
		c.serve(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/cut", nil), &cfg, func(rw http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(rw, "half")
			panic(http.ErrAbortHandler)
		})
	}()
	if c.kept["example.com /cut"] != nil {
		t.Error("half an answer is kept")
	}
}

// Through a real server: what is declared is kept, and goes on without a worker; nothing else is.
func TestPublicPagesWithoutAWorker(t *testing.T) {
	b := newBackend(t, "w1")
	s, addr := proxyOf(t, func(c *Config) { c.Cache.Routes = []string{"/public"}; c.Queue.Timeout = 50 * time.Millisecond }, b)
	first := get(t, addr, "/public")
	s.Set(nil)
	if got := get(t, addr, "/public"); got.status != http.StatusOK || got.body != first.body || got.header.Get("X-Cache-Status") != "HIT" {
		t.Errorf("%+v", got)
	}
	if got := get(t, addr, "/publicity"); got.status != http.StatusServiceUnavailable {
		t.Errorf("not declared: %+v", got)
	}
	if got := do(t.Context(), http.MethodPost, addr, "/public", "x"); got.status != http.StatusServiceUnavailable {
		t.Errorf("POST: %+v", got)
	}
	if st := s.Stats(); st.CacheHits != 1 || st.Total.Done != 3 {
		t.Errorf("%d hits, %d requests", st.CacheHits, st.Total.Done)
	}
}
