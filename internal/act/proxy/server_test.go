package proxy

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tidemark/test/servers"
)

func TestRequestsPassThroughUnchanged(t *testing.T) {
	b := newBackend(t, "w1")
	_, addr := proxyOf(t, nil, b)
	c, r := dial(t, addr)
	_, err := io.WriteString(c, "GET /headers?a=1;b=%zz&c=%20 HTTP/1.1\r\nHost: dfr.gov.ck\r\nX-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n"+
		"X-Forwarded-Host: portal.gov.ck\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nCookie: session_id=abc\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	got := answerOn(r)
	if got.err != nil {
		t.Fatal(got.err)
	}
	for name, want := range map[string]string{
		"Got-Host":              "dfr.gov.ck",
		"Got-Uri":               "/headers?a=1;b=%zz&c=%20",
		"Got-X-Forwarded-For":   "203.0.113.9, 127.0.0.1",
		"Got-X-Forwarded-Proto": "https",
		"Got-X-Forwarded-Host":  "portal.gov.ck",
		"Got-X-Hop":             "",
		"Got-Cookie":            "session_id=abc",
		"Got-User-Agent":        "",
		"X-Tidemark-Worker":     "w1",
	} {
		if v := got.header.Get(name); v != want {
			t.Errorf("%s is %q, want %q", name, v, want)
		}
	}
}

func TestForwardedHeadersOfStrangersAreReplaced(t *testing.T) {
	b := newBackend(t, "w1")
	_, addr := proxyOf(t, func(c *Config) { c.Trusted = []string{"10.0.0.0/8"}; c.WorkerHeader = false }, b)
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/headers", nil)
	req.Header.Set("X-Forwarded-For", "203.0.113.9")
	req.Header.Set("X-Forwarded-Proto", "https")
	req.Header.Set("X-Real-Ip", "203.0.113.9")
	req.Host = "dfr.gov.ck"
	tr := &http.Transport{DisableKeepAlives: true}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	for name, want := range map[string]string{
		"Got-X-Forwarded-For": "127.0.0.1", "Got-X-Forwarded-Proto": "http", "Got-X-Forwarded-Host": "dfr.gov.ck", "Got-X-Real-Ip": "", "X-Tidemark-Worker": "",
	} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

func TestBodiesArriveWhole(t *testing.T) {
	b := newBackend(t, "w1")
	_, addr := proxyOf(t, func(c *Config) { c.BodyBuffer = 10_000 }, b)
	for _, n := range []int{0, 1, 4096, 9_999, 10_000, 10_001, 3 << 20} {
		for _, chunked := range []bool{false, true} {
			var body io.Reader = strings.NewReader(strings.Repeat("b", n))
			if chunked {
				body = io.MultiReader(body) // of unknown length
			}
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+"/", body)
			tr := &http.Transport{DisableKeepAlives: true}
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			got, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if want := fmt.Sprintf("w1 POST %d", n); string(got) != want {
				t.Errorf("%d bytes, chunked %v: %q, want %q", n, chunked, got, want)
			}
		}
	}
}

func TestASlowUploadTakesNoWorker(t *testing.T) {
	b := newBackend(t, "w1")
	s, addr := proxyOf(t, func(c *Config) { c.MaxInFlight = 1 }, b)
	slow, r := dial(t, addr)
	_, _ = io.WriteString(slow, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345")
	eventually(t, "the slow request is there", func() bool { return s.Stats().Total.Arrived == 1 })
	if got := get(t, addr, "/"); got.status != http.StatusOK {
		t.Errorf("another request meanwhile: %+v", got)
	}
	_, _ = io.WriteString(slow, "67890")
	if got := answerOn(r); got.status != http.StatusOK {
		t.Errorf("the slow one: %+v", got)
	}
}

func TestAClientThatStopsSendingIsGivenUp(t *testing.T) {
	b := newBackend(t, "w1")
	for name, buffer := range map[string]int64{"read ahead": 1 << 10, "streamed": 0} {
		t.Run(name, func(t *testing.T) {
			s, addr := proxyOf(t, func(c *Config) { c.ClientTimeout = 100 * time.Millisecond; c.BodyBuffer = buffer }, b)
			c, r := dial(t, addr)
			_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345")
			if got := answerOn(r); buffer > 0 && got.status != http.StatusRequestTimeout {
				t.Errorf("got %+v, want 408", got)
			}
			eventually(t, "the worker is free", func() bool { st := s.Stats(); return st.Total.Done == 1 && st.Workers[0].InFlight == 0 })
		})
	}
}

func TestSlowHeadersAreCutOff(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Listen = "127.0.0.1:0"
	cfg.HeaderTimeout = 100 * time.Millisecond
	p := startProcess(t, cfg)
	c, r := dial(t, p.Addr().String())
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
	if _, err := io.ReadAll(r); err != nil {
		t.Errorf("the connection was not closed: %v", err)
	}
	c, r = dial(t, p.Addr().String())
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nX-Long: "+strings.Repeat("x", 80<<10)+"\r\n\r\n")
	if got := answerOn(r); got.status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("80 KB of header: %+v, want 431", got)
	}
}

func TestAWorkerHasNoMoreThanItsLimit(t *testing.T) {
	b1, b2 := newBackend(t, "w1"), newBackend(t, "w2")
	s, addr := proxyOf(t, func(c *Config) { c.MaxInFlight = 1 }, b1, b2)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if got := get(t, addr, "/"); got.status != http.StatusOK {
				t.Errorf("%+v", got)
			}
		})
	}
	wg.Wait()
	if b1.top.Load() > 1 || b2.top.Load() > 1 {
		t.Errorf("in flight at most %d and %d, want 1", b1.top.Load(), b2.top.Load())
	}
	st := s.Stats()
	if st.Total.Done != 20 || st.Total.Status[1] != 20 || histogram(t, st.Total.Latency).Count() != 20 || histogram(t, st.Total.QueueTime).Count() != 20 {
		t.Errorf("counted %+v", st.Total)
	}
	if st.Total.InFlight != 0 || st.Total.Queued != 0 || st.Busy <= 0 || st.Busy > st.Slots {
		t.Errorf("at rest: %+v, busy %v of %v", st.Total, st.Busy, st.Slots)
	}
}

func TestRequestsWaitForTheFirstWorker(t *testing.T) {
	b := newBackend(t, "w1")
	s, addr := proxyOf(t, nil)
	early := background(t.Context(), http.MethodPost, addr, "/", "body")
	eventually(t, "it waits", func() bool { return s.Stats().Total.Queued == 1 })
	s.Set(endpointsOf(b))
	if got := <-early; got.body != "w1 POST 4" {
		t.Errorf("%+v", got)
	}
	st := s.Stats()
	if q := histogram(t, st.Total.QueueTime).Quantile(1); !(q > 0) {
		t.Errorf("queue time %v was not counted", q)
	}
}

func TestWaitingInVain(t *testing.T) {
	s, addr := proxyOf(t, func(c *Config) { c.Queue.Timeout = 50 * time.Millisecond; c.Queue.RetryAfter = 7 * time.Second })
	got := get(t, addr, "/")
	var said problem
	if err := json.Unmarshal([]byte(got.body), &said); err != nil {
		t.Fatalf("%q: %v", got.body, err)
	}
	if got.status != http.StatusServiceUnavailable || said.Code != "queue_timeout" || said.Status != got.status || said.RetryAfter < 7 || said.RetryAfter > 14 || got.header.Get("Retry-After") != fmt.Sprint(said.RetryAfter) {
		t.Errorf("%+v", got)
	}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/", nil)
	req.Header.Set("Accept", "text/html,application/xhtml+xml")
	tr := &http.Transport{DisableKeepAlives: true}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	page, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if !strings.HasPrefix(string(page), "<!doctype html>") || !strings.Contains(resp.Header.Get("Content-Type"), "text/html") {
		t.Errorf("a browser gets %q", page)
	}
	st := s.Stats().Total
	if st.TimedOut != 2 || st.Status[4] != 2 || histogram(t, st.Latency).Count() != 0 || histogram(t, st.QueueTime).Count() != 2 {
		t.Errorf("counted %+v", st)
	}
}

func TestTheImportantPassAndTheRestIsShed(t *testing.T) {
	b := newBackend(t, "w1")
	s, addr := proxyOf(t, func(c *Config) {
		c.MaxInFlight = 1
		c.Queue.Limit = 1
		c.Classes = []Class{{Name: "sync", Priority: 1, Routes: []string{"/sync"}}, {Name: "report", Priority: 9, Routes: []string{"/report"}}}
		c.Routes = []string{"/report"}
	}, b)
	first := background(t.Context(), http.MethodGet, addr, "/sync/wait", "")
	<-b.arrived
	report := background(t.Context(), http.MethodGet, addr, "/report", "")
	eventually(t, "the report waits", func() bool { return s.Stats().Total.Queued == 1 })
	sync := background(t.Context(), http.MethodGet, addr, "/sync", "")
	if got := <-report; got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") == "" {
		t.Errorf("the report got %+v, want 503", got)
	}
	close(b.gate)
	if got := <-first; got.status != http.StatusOK {
		t.Errorf("first sync: %+v", got)
	}
	if got := <-sync; got.status != http.StatusOK {
		t.Errorf("second sync: %+v", got)
	}
	eventually(t, "all is counted", func() bool { return s.Stats().Total.Done == 3 })
	st := s.Stats()
	if st.Classes[0].Name != "sync" || st.Classes[0].Done != 2 || st.Classes[2].Name != "report" || st.Classes[2].Shed != 1 || st.Routes[0].Shed != 1 || st.Routes[1].Done != 2 {
		t.Errorf("counted %+v", st)
	}
}

func TestADeadWorkerCostsNoRequest(t *testing.T) {
	b := newBackend(t, "alive")
	s, addr := proxyOf(t, func(c *Config) { c.BodyBuffer = 10 }, b)
	s.Set([]Endpoint{{"dead", servers.FreeAddress(t)}, b.endpoint(), {"dead2", servers.FreeAddress(t)}})
	for i := range 30 {
		for _, body := range []string{"", "short", "longer than what is read ahead"} {
			if got := do(t.Context(), http.MethodPost, addr, "/", body); got.body != fmt.Sprintf("alive POST %d", len(body)) {
				t.Fatalf("request %d: %+v", i, got)
			}
		}
	}
	states := map[string]string{}
	for _, w := range s.Stats().Workers {
		states[w.ID] = w.State
	}
	if states["dead"] != "suspect" || states["alive"] != "serving" {
		t.Errorf("states %v", states)
	}
}

func TestAllWorkersDeadAndBack(t *testing.T) {
	b := newBackend(t, "back")
	s, addr := proxyOf(t, nil)
	where := filepath.Join(t.TempDir(), "w.sock")
	s.Set([]Endpoint{{"w", "unix:" + where}})
	early := background(t.Context(), http.MethodPost, addr, "/", "body")
	eventually(t, "it was tried twice", func() bool { return s.Stats().Workers[0].Errors >= 2 })
	ln, err := net.Listen("unix", where)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: b}
	go func() { _ = srv.Serve(ln) }()
	defer func() { _ = srv.Close() }()
	if got := <-early; got.body != "back POST 4" {
		t.Errorf("%+v", got)
	}
	if st := s.Stats(); st.Workers[0].State != "serving" || st.Total.Status != [5]uint64{0, 1} {
		t.Errorf("%+v", st)
	}
}

func TestOnlyWhatIsSafeIsRepeated(t *testing.T) {
	for _, c := range []struct {
		method, body string
		want         int
		tries        int64
	}{
		{http.MethodGet, "", http.StatusBadGateway, 2}, // both workers break it
		{http.MethodGet, "body", http.StatusBadGateway, 1},
		{http.MethodPost, "", http.StatusBadGateway, 1},
		{http.MethodPost, "body", http.StatusBadGateway, 1},
		{http.MethodDelete, "", http.StatusBadGateway, 1},
	} {
		t.Run(c.method+" "+c.body, func(t *testing.T) {
			b1, b2 := newBackend(t, "w1"), newBackend(t, "w2")
			s, addr := proxyOf(t, func(c *Config) { c.WorkerKeepalive = 0 }, b1, b2)
			got := do(t.Context(), c.method, addr, "/die", c.body)
			if tries := b1.requests.Load() + b2.requests.Load(); got.status != c.want || tries != c.tries {
				t.Errorf("%+v after %d tries, want %d after %d", got, tries, c.want, c.tries)
			}
			eventually(t, "all free", func() bool { return s.Stats().Total.InFlight == 0 })
		})
	}
}

func TestAnAnswerThatBreaksOffIsNotTakenForWhole(t *testing.T) {
	b := newBackend(t, "w1")
	s, addr := proxyOf(t, nil, b)
	if got := get(t, addr, "/cut"); got.err == nil {
		t.Errorf("the client took %q for the whole", got.body)
	}
	eventually(t, "it is counted as an error", func() bool { return s.Stats().Total.Status[4] == 1 })
	if got := get(t, addr, "/500"); got.status != http.StatusInternalServerError {
		t.Errorf("%+v", got)
	}
	if w := s.Stats().Workers[0]; w.Errors != 2 || w.InFlight != 0 {
		t.Errorf("%+v", w)
	}
}

func TestAWorkerThatTakesTooLong(t *testing.T) {
	b := newBackend(t, "w1")
	s, addr := proxyOf(t, func(c *Config) { c.RequestTimeout = 50 * time.Millisecond }, b)
	defer close(b.gate)
	got := get(t, addr, "/wait")
	if got.status != http.StatusGatewayTimeout || got.header.Get("X-Tidemark-Worker") != "w1" {
		t.Errorf("%+v", got)
	}
	if st := s.Stats().Total; st.InFlight != 0 || histogram(t, st.Latency).Quantile(0.5) < 0.045 {
		t.Errorf("counted %+v", st)
	}
}

func TestAClientThatLeaves(t *testing.T) {
	t.Run("its worker serves one at a time: the slot stays taken", func(t *testing.T) {
		b := newBackend(t, "w1")
		s, addr := proxyOf(t, func(c *Config) { c.MaxInFlight = 1 }, b)
		ctx, leave := context.WithCancel(t.Context())
		gone := background(ctx, http.MethodPost, addr, "/wait", "")
		<-b.arrived
		leave()
		<-gone
		next := background(t.Context(), http.MethodGet, addr, "/", "")
		eventually(t, "the next waits", func() bool { return s.Stats().Total.Queued == 1 })
		b.gate <- struct{}{}
		if got := <-next; got.status != http.StatusOK || b.top.Load() != 1 {
			t.Errorf("%+v, %d at once", got, b.top.Load())
		}
	})
	t.Run("its worker serves many: it is told", func(t *testing.T) {
		b := newBackend(t, "w1")
		defer close(b.gate)
		s, addr := proxyOf(t, nil, b)
		ctx, leave := context.WithCancel(t.Context())
		gone := background(ctx, http.MethodPost, addr, "/wait", "")
		<-b.arrived
		leave()
		<-gone
		eventually(t, "it is counted", func() bool { st := s.Stats().Total; return st.Cancelled == 1 && st.InFlight == 0 })
	})
	t.Run("while it waits", func(t *testing.T) {
		s, addr := proxyOf(t, nil)
		ctx, leave := context.WithCancel(t.Context())
		gone := background(ctx, http.MethodGet, addr, "/", "")
		eventually(t, "it waits", func() bool { return s.Stats().Total.Queued == 1 })
		leave()
		<-gone
		eventually(t, "it is counted", func() bool { st := s.Stats().Total; return st.Cancelled == 1 && st.Queued == 0 })
	})
	t.Run("without taking its answer", func(t *testing.T) {
		b := newBackend(t, "w1")
		s, addr := proxyOf(t, func(c *Config) { c.ClientTimeout = 100 * time.Millisecond; c.MaxInFlight = 1 }, b)
		c, _ := dial(t, addr)
		_, _ = io.WriteString(c, "GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
		eventually(t, "its worker is free", func() bool { st := s.Stats().Total; return st.Done == 1 && st.InFlight == 0 })
	})
}

func TestDrainWaitsForItsRequests(t *testing.T) {
	b1, b2 := newBackend(t, "w1"), newBackend(t, "w2")
	s, addr := proxyOf(t, nil, b1)
	busy := background(t.Context(), http.MethodPost, addr, "/wait", "")
	<-b1.arrived
	s.Set(endpointsOf(b1, b2))
	drained := make(chan error, 1)
	go func() { drained <- s.Drain(t.Context(), "w1") }()
	eventually(t, "it is out", func() bool { return s.Stats().Workers[0].ID == "w2" })
	for range 5 {
		if got := get(t, addr, "/"); got.body != "w2 GET 0" {
			t.Errorf("%+v went elsewhere than to w2", got)
		}
	}
	select {
	case err := <-drained:
		t.Fatalf("drained with a request in flight: %v", err)
	default:
	}
	close(b1.gate)
	if err := <-drained; err != nil {
		t.Error(err)
	}
	if got := <-busy; got.body != "w1 POST 0" {
		t.Errorf("the request in flight got %+v", got)
	}
}

// A thousand workers come and go under load, each stopped the moment its drain is done, and no request fails.
func TestAThousandDrainsUnderLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: 1,000 drains under load")
	}
	for _, limit := range []int{0, 1} {
		t.Run(fmt.Sprintf("max_in_flight=%d", limit), func(t *testing.T) {
			s, addr := proxyOf(t, func(c *Config) { c.MaxInFlight = limit; c.WorkerKeepalive = 10 * time.Second })
			fleet := []*backend{newBackend(t, "w-a"), newBackend(t, "w-b")}
			s.Set(endpointsOf(fleet...))
			stop := make(chan struct{})
			var requests atomic.Int64
			var clients sync.WaitGroup
			for i := range 6 {
				clients.Go(func() {
					tr := &http.Transport{}
					defer tr.CloseIdleConnections()
					for {
						select {
						case <-stop:
							return
						default:
						}
						method, body := http.MethodPost, "a record"
						if i%2 == 0 {
							method, body = http.MethodGet, ""
						}
						req, _ := http.NewRequestWithContext(t.Context(), method, "http://"+addr+"/", strings.NewReader(body))
						resp, err := tr.RoundTrip(req)
						if err != nil {
							t.Errorf("%s: %v", method, err)
							return
						}
						got, err := io.ReadAll(resp.Body)
						_ = resp.Body.Close()
						if resp.StatusCode != http.StatusOK || err != nil {
							t.Errorf("%s: %d %q %v", method, resp.StatusCode, got, err)
							return
						}
						requests.Add(1)
					}
				})
			}
			const cycles = 1000
			for i := range int64(cycles) {
				eventually(t, "requests go on", func() bool { return t.Failed() || requests.Load() >= 2*i })
				fresh := newBackend(t, fmt.Sprintf("w-%d", i))
				fleet = append(fleet, fresh)
				s.Set(endpointsOf(fleet...))
				old := fleet[0]
				fleet = fleet[1:]
				if err := s.Drain(t.Context(), old.id); err != nil {
					t.Fatal(err)
				}
				_ = old.srv.Listener.Close()     // nothing listens there any more
				old.srv.CloseClientConnections() // and what is open is reset
				s.Set(endpointsOf(fleet...))
			}
			close(stop)
			clients.Wait()
			t.Logf("%d requests over %d drains", requests.Load(), cycles)
		})
	}
}

// upgradeServer is a worker that upgrades and echoes lines.
func upgradeServer(t *testing.T) *httptestServer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "echo" {
			_, _ = io.WriteString(w, "plain")
			return
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		proto := "echo"
		if r.URL.Path == "/wrong" {
			proto = "other"
		}
		_, _ = fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", proto)
		_ = rw.Flush()
		for {
			line, err := rw.ReadString('\n')
			if err != nil {
				return
			}
			_, _ = rw.WriteString(line)
			_ = rw.Flush()
		}
	})}
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close() })
	return &httptestServer{ln.Addr().String()}
}

type httptestServer struct{ addr string }

func upgradeTo(t *testing.T, addr, path string) (net.Conn, *bufio.Reader, int) {
	t.Helper()
	c, r := dial(t, addr)
	_, _ = io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	got := answerOn(r)
	if got.err != nil {
		t.Fatal(got.err)
	}
	return c, r, got.status
}

func TestUpgradedConnections(t *testing.T) {
	w := upgradeServer(t)
	s, addr := proxyOf(t, func(c *Config) {
		c.MaxInFlight = 1
		c.RequestTimeout = 50 * time.Millisecond
		c.WebsocketDrain = 200 * time.Millisecond
	})
	s.Set([]Endpoint{{"ws", w.addr}})
	c, r, status := upgradeTo(t, addr, "/websocket")
	if status != http.StatusSwitchingProtocols {
		t.Fatalf("status %d", status)
	}
	echo := func(text string) {
		t.Helper()
		_, _ = io.WriteString(c, text)
		if got, err := r.ReadString('\n'); got != text {
			t.Fatalf("echoed %q, %v", got, err)
		}
	}
	echo("hello\n")
	if got := get(t, addr, "/"); got.body != "plain" {
		t.Errorf("a request beside it: %+v", got)
	}
	time.Sleep(100 * time.Millisecond) // longer than request_timeout: it has none
	echo("still there\n")
	st := s.Stats()
	if st.Workers[0].Upgraded != 1 || st.Workers[0].InFlight != 0 || st.Total.Status[0] != 1 || histogram(t, st.Total.Latency).Count() != 1 {
		t.Errorf("counted %+v", st)
	}

	began := time.Now()
	if err := s.Drain(t.Context(), "ws"); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 190*time.Millisecond {
		t.Errorf("drained after %s: upgraded connections were not waited for", took)
	}
	if _, err := r.ReadString('\n'); !errors.Is(err, io.EOF) {
		t.Errorf("after the drain the client sees %v, want the end", err)
	}
}

func TestAnUpgradeThatFailsLeavesNothingBehind(t *testing.T) {
	w := upgradeServer(t)
	s, addr := proxyOf(t, nil)
	s.Set([]Endpoint{{"ws", w.addr}})
	if _, _, status := upgradeTo(t, addr, "/wrong"); status != http.StatusBadGateway {
		t.Errorf("status %d", status)
	}
	eventually(t, "nothing is upgraded", func() bool { return s.Stats().Workers[0].Upgraded == 0 })
	c, _, _ := upgradeTo(t, addr, "/websocket")
	_ = c.Close()
	eventually(t, "nothing is upgraded", func() bool { return s.Stats().Workers[0].Upgraded == 0 })
	if err := s.Drain(t.Context(), "ws"); err != nil {
		t.Error(err)
	}
}

func TestApplyKeepsFiguresAndWaiters(t *testing.T) {
	b := newBackend(t, "w1")
	s, addr := proxyOf(t, func(c *Config) { c.Routes = []string{"/api"} }, b)
	get(t, addr, "/api")
	s.Set(nil)
	report := background(t.Context(), http.MethodGet, addr, "/report", "")
	eventually(t, "the report waits", func() bool { return s.Stats().Total.Queued == 1 })
	other := background(t.Context(), http.MethodGet, addr, "/other", "")
	eventually(t, "the other waits", func() bool { return s.Stats().Total.Queued == 2 })

	next := DefaultConfig()
	next.MaxInFlight = 1
	next.Listen = "127.0.0.1:1"
	next.Keepalive = time.Second
	next.Routes = []string{"/api", "/report"}
	next.Classes = []Class{{Name: "report", Priority: 9, Routes: []string{"/report"}}}
	if got := fmt.Sprint(s.Apply(next)); got != "[listen keepalive]" {
		t.Errorf("needs a restart for %v", got)
	}
	s.Set(endpointsOf(b))
	if got := <-other; got.status != http.StatusOK {
		t.Errorf("%+v", got)
	}
	if got := <-report; got.status != http.StatusOK {
		t.Errorf("%+v", got)
	}
	st := s.Stats()
	routes := map[string]uint64{}
	for _, r := range st.Routes {
		routes[r.Route] = r.Done
	}
	if routes["/api"] != 1 || routes["/report"] != 0 || st.MaxInFlight != 1 || len(st.Classes) != 2 {
		t.Errorf("%v %+v", routes, st)
	}
}

func TestConnectIsRefused(t *testing.T) {
	b := newBackend(t, "w1")
	_, addr := proxyOf(t, nil, b)
	c, r := dial(t, addr)
	_, _ = io.WriteString(c, "CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n")
	if got := answerOn(r); got.status != http.StatusMethodNotAllowed || b.requests.Load() != 0 {
		t.Errorf("%+v", got)
	}
}

// A real overload: two workers that take 50 ms each, four times as many requests as they can serve. What may wait for 300 ms is
// refused at once when the queue is longer than that, with a time to come back; sync, which may wait for 10 s, is served, all of it.
func TestOverloadRefusesWhatWouldWaitInVain(t *testing.T) {
	slow := func(id string) *backend {
		b := newBackend(t, id)
		b.srv.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			timer := time.NewTimer(50 * time.Millisecond)
			defer timer.Stop()
			<-timer.C
			_, _ = io.WriteString(w, id)
		})
		return b
	}
	s, addr := proxyOf(t, func(c *Config) {
		c.MaxInFlight = 1
		c.Message = "Fa’amolemole fa’atali <b>"
		c.Classes = []Class{
			{Name: "sync", Priority: 1, Routes: []string{"/api/mobile/sync"}, QueueTimeout: 30 * time.Second},
			{Name: "pages", Priority: 9, Routes: []string{"/web"}, QueueTimeout: 300 * time.Millisecond, RetryAfter: 20 * time.Second},
		}
	}, slow("w1"), slow("w2"))
	var pages, syncs []<-chan reply
	for range 200 {
		pages = append(pages, background(t.Context(), http.MethodGet, addr, "/web/x", ""))
	}
	for range 20 {
		syncs = append(syncs, background(t.Context(), http.MethodPost, addr, "/api/mobile/sync", "x"))
	}
	for _, c := range syncs {
		if got := <-c; got.status != http.StatusOK {
			t.Errorf("sync: %+v", got)
		}
	}
	for _, c := range pages {
		got := <-c
		if got.status == http.StatusOK {
			continue
		}
		retry, err := strconv.Atoi(got.header.Get("Retry-After"))
		if got.status != http.StatusServiceUnavailable || err != nil || retry < 20 || retry > 45 {
			t.Errorf("page: %+v", got)
		}
	}
	eventually(t, "all is counted", func() bool { return s.Stats().Total.Done == 220 })
	st := s.Stats()
	if c := st.Classes[2]; c.Name != "pages" || c.Shed == 0 || c.Status[1]+c.Shed+c.TimedOut != 200 {
		t.Errorf("pages: %+v", c)
	}
	if c := st.Classes[0]; c.Name != "sync" || c.Status[1] != 20 || c.Shed+c.TimedOut > 0 {
		t.Errorf("sync: %+v", c)
	}
}

// A visitor sees a page that says what is the matter and asks again by itself; one that has sent a form is told to send it again.
func TestTheBusyPage(t *testing.T) {
	_, addr := proxyOf(t, func(c *Config) { c.Queue.Timeout = time.Millisecond; c.Message = "Fa’amolemole <b>fa’atali</b>" })
	for method, want := range map[string][]string{
		http.MethodGet:  {`<meta http-equiv="refresh" content="`, "asks again by itself"},
		http.MethodPost: {"was not taken"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+addr+"/web", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", "text/html")
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		for _, w := range append(want, "very busy", "Fa’amolemole &lt;b&gt;fa’atali&lt;/b&gt;") {
			if resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(text), w) {
				t.Errorf("%s: %d, and no %q in\n%s", method, resp.StatusCode, w, text)
			}
		}
		if method == http.MethodPost && strings.Contains(string(text), "refresh") {
			t.Error("a form is sent again by itself")
		}
	}
}
