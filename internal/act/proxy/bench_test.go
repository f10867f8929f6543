package proxy

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The load comes from another process and so do the workers, so that the CPU time of this one is the proxy's alone.

const (
	benchWorkers = 4
	benchClients = 8
)

var benchBody = strings.Repeat("x", 100)

// backendMain is the other process: it serves benchWorkers addresses, and fires the loads that it is told to.
func backendMain() {
	for range benchWorkers {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			log.Fatal(err)
		}
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, benchBody)
		})}
		go func() { _ = srv.Serve(ln) }()
		fmt.Println(ln.Addr())
	}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var addr string
		var n int
		if _, err := fmt.Sscan(in.Text(), &addr, &n); err != nil {
			log.Fatal(err)
		}
		fmt.Println(fire(addr, n))
	}
}

// fire sends n requests over kept-alive connections, and returns how many failed.
func fire(addr string, n int) (failed int) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for c := range benchClients {
		wg.Go(func() {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				log.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			r := bufio.NewReader(conn)
			bad := 0
			for i := c; i < n; i += benchClients {
				if _, err := io.WriteString(conn, "GET /api/farmer/lookup?id=7 HTTP/1.1\r\nHost: dfr.example\r\nUser-Agent: bench\r\nAccept: application/json\r\n\r\n"); err != nil {
					log.Fatal(err)
				}
				resp, err := http.ReadResponse(r, nil)
				if err != nil {
					log.Fatal(err)
				}
				got, _ := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if resp.StatusCode != http.StatusOK || string(got) != benchBody {
					bad++
				}
			}
			mu.Lock()
			failed += bad
			mu.Unlock()
		})
	}
	wg.Wait()
	return failed
}

// bench is the other process, seen from here.
type bench struct {
	workers []string
	ask     io.Writer
	answer  *bufio.Reader
}

func startBench(b *testing.B) *bench {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "PROXY_TEST_MAIN=backends")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	x := &bench{ask: in, answer: bufio.NewReader(out)}
	for range benchWorkers {
		x.workers = append(x.workers, x.line(b))
	}
	return x
}

func (x *bench) line(b *testing.B) string {
	b.Helper()
	s, err := x.answer.ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return strings.TrimSpace(s)
}

// run sends n requests to the handler and returns this process's CPU time for each.
func (x *bench) run(b *testing.B, h http.Handler, n int) time.Duration {
	b.Helper()
	srv := httptest.NewServer(h)
	defer srv.Close()
	load := func(n int) {
		if _, err := fmt.Fprintln(x.ask, srv.Listener.Addr(), n); err != nil {
			b.Fatal(err)
		}
		if got := x.line(b); got != "0" {
			b.Fatalf("%s of %d requests failed", got, n)
		}
	}
	load(500)
	before := cpu(b)
	load(n)
	return (cpu(b) - before) / time.Duration(n)
}

func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// bare is what the standard library offers: ReverseProxy with a transport and buffers as good as ours, over the workers
// in turn.
func bare(workers []string) http.Handler {
	var proxies []*httputil.ReverseProxy
	for _, w := range workers {
		u := &url.URL{Scheme: "http", Host: w}
		proxies = append(proxies, &httputil.ReverseProxy{
			Rewrite:    func(r *httputil.ProxyRequest) { r.SetURL(u); r.SetXForwarded() },
			Transport:  &http.Transport{MaxIdleConnsPerHost: 1024, DisableCompression: true, IdleConnTimeout: time.Second},
			BufferPool: &buffers{},
		})
	}
	var mu sync.Mutex
	turn := 0
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		turn++
		p := proxies[turn%len(proxies)]
		mu.Unlock()
		p.ServeHTTP(w, r)
	})
}

func tidal(x *bench, limit int) (*Server, http.Handler) {
	cfg := DefaultConfig()
	cfg.MaxInFlight = limit
	cfg.Classes = []Class{{Name: "sync", Priority: 1, Routes: []string{"/api/mobile/sync"}}, {Name: "reports", Priority: 8, Routes: []string{"/report"}}}
	cfg.Routes = []string{"/api/farmer/lookup", "/api/farmer", "/web"}
	s := NewServer(cfg)
	var list []Endpoint
	for i, w := range x.workers {
		list = append(list, Endpoint{ID: fmt.Sprint("w", i), Address: w})
	}
	s.Set(list)
	return s, s
}

func BenchmarkBareReverseProxy(b *testing.B) {
	x := startBench(b)
	b.ReportMetric(float64(x.run(b, bare(x.workers), max(b.N, 1)))/1e3, "cpu-us/req")
}

func BenchmarkProxy(b *testing.B) {
	for _, limit := range []int{0, 1} {
		b.Run(fmt.Sprintf("max_in_flight=%d", limit), func(b *testing.B) {
			x := startBench(b)
			s, h := tidal(x, limit)
			defer s.Close()
			b.ReportMetric(float64(x.run(b, h, max(b.N, 1)))/1e3, "cpu-us/req")
		})
	}
}

// BenchmarkProxyOverBare reports the proxy's CPU time per request over a bare ReverseProxy's, measured in turns so that
// a noisy machine disturbs both alike. The bar is 1.3.
func BenchmarkProxyOverBare(b *testing.B) {
	for _, limit := range []int{0, 1} {
		b.Run(fmt.Sprintf("max_in_flight=%d", limit), func(b *testing.B) {
			x := startBench(b)
			s, h := tidal(x, limit)
			defer s.Close()
			plain := bare(x.workers)
			var ours, theirs time.Duration
			for range 5 {
				n := max(b.N/5, 1)
				theirs += x.run(b, plain, n)
				ours += x.run(b, h, n)
			}
			b.ReportMetric(float64(ours)/float64(theirs), "ratio")
			b.ReportMetric(float64(ours)/5e3, "cpu-us/req")
			b.ReportMetric(float64(theirs)/5e3, "bare-cpu-us/req")
		})
	}
}
