package proxystats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"tidemark/internal/act/proxy"
	"tidemark/internal/config"
	"tidemark/internal/decide/signal"
	"tidemark/internal/fleet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var _ config.SignalBody = (*Config)(nil)

// What control calls a Source.
var _ interface {
	Read(context.Context, fleet.Scene) (fleet.Reading, error)
} = (*Source)(nil)

// fake is a proxy that says what the test wants.
type fake struct {
	stats   proxy.Stats
	latency signal.Histogram
	asked   atomic.Int64
	client  *Client
	now     time.Time
}

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{now: time.Date(2027, 3, 1, 7, 0, 0, 0, time.UTC)}
	f.restart("first")
	socket := filepath.Join(t.TempDir(), "p.sock")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.asked.Add(1)
		_ = json.NewEncoder(w).Encode(f.stats)
	})}
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close() })
	f.client = NewClient(socket)
	return f
}

func (f *fake) restart(nonce string) {
	f.stats = proxy.Stats{Nonce: nonce, MaxInFlight: 1}
	f.latency.Reset()
	f.write()
}

func (f *fake) write() {
	b, _ := f.latency.MarshalBinary()
	f.stats.Total.Latency, f.stats.Total.QueueTime, f.stats.Total.ServiceTime = b, b, b
	f.stats.Routes = []proxy.RouteStats{{Route: "/api", Counters: f.stats.Total}, {Route: "other"}}
	f.stats.Classes = []proxy.ClassStats{{Name: "sync", Counters: f.stats.Total}}
}

// serve counts n requests of a latency.
func (f *fake) serve(n int, latency float64) {
	for range n {
		f.latency.Record(latency)
	}
	f.stats.Total.Arrived += uint64(n)
	f.stats.Total.Done += uint64(n)
	f.write()
}

// pass lets time go by.
func (f *fake) pass(d time.Duration) {
	f.now = f.now.Add(d)
	f.stats.Uptime += int64(d)
}

func read(t *testing.T, f *fake, s *Source) fleet.Reading {
	t.Helper()
	r, err := s.Read(t.Context(), fleet.Scene{Now: f.now})
	if err != nil {
		t.Fatal(err)
	}
	if !r.Time.Equal(f.now) {
		t.Errorf("stamped %s, want %s", r.Time, f.now)
	}
	return r
}

func expect(t *testing.T, got fleet.Reading, q fleet.Quality, value float64) {
	t.Helper()
	if got.Quality != q || math.Abs(got.Value-value) > 0.02*value {
		t.Errorf("%v %v, want %v %v", got.Quality, got.Value, q, value)
	}
}

func TestQuantileOverTheWindow(t *testing.T) {
	f := newFake(t)
	f.serve(1000, 9) // before the daemon came: not its business
	s := New(Config{Field: "latency"}, 0.95, time.Minute, 10, f.client)
	expect(t, read(t, f, s), fleet.Sparse, 0)
	f.pass(15 * time.Second)
	f.serve(9, 0.1)
	expect(t, read(t, f, s), fleet.Sparse, 0) // fewer than 10
	f.pass(15 * time.Second)
	f.serve(1, 0.1)
	expect(t, read(t, f, s), fleet.Fresh, 0.1)
	f.serve(10, 0.8)
	f.pass(15 * time.Second)
	expect(t, read(t, f, s), fleet.Fresh, 0.8)
	for range 3 { // the first ones leave the window
		f.pass(15 * time.Second)
		expect(t, read(t, f, s), fleet.Fresh, 0.8)
	}
	f.pass(16 * time.Second)
	expect(t, read(t, f, s), fleet.Sparse, 0)
	if s := New(Config{Field: "queue_time", Route: "/api"}, 0.5, time.Minute, 0, f.client); read(t, f, s).Quality != fleet.Sparse {
		t.Error("a quantile of nothing")
	}
}

func TestARestartedProxyCountsFromItsStart(t *testing.T) {
	f := newFake(t)
	lat := New(Config{Field: "latency"}, 0.5, time.Minute, 5, f.client)
	rate := New(Config{Field: "rate"}, 0, 0, 0, f.client)
	f.serve(100, 0.1)
	read(t, f, lat)
	read(t, f, rate)
	f.pass(15 * time.Second)
	f.restart("second")
	f.stats.Uptime = int64(10 * time.Second)
	f.serve(20, 0.4)
	expect(t, read(t, f, lat), fleet.Fresh, 0.4)
	expect(t, read(t, f, rate), fleet.Fresh, 2)
	f.pass(15 * time.Second)
	f.serve(30, 0.4)
	expect(t, read(t, f, rate), fleet.Fresh, 2)
}

// A proxy that outlived an upgrade keeps no service times: that must not look like a service that takes none.
func TestAnOlderProxyKeepsNoServiceTimes(t *testing.T) {
	f := newFake(t)
	s := New(Config{Field: "service_time"}, 0.5, time.Minute, 1, f.client)
	f.serve(3, 0.1)
	f.stats.Total.ServiceTime = nil
	if r, err := s.Read(t.Context(), fleet.Scene{Now: f.now}); !errors.Is(err, errNoService) || r.Quality != fleet.Missing {
		t.Errorf("%v, %v", r.Quality, err)
	}
}

func TestCountersThatGoBackAreNoReading(t *testing.T) {
	f := newFake(t)
	s := New(Config{Field: "rate"}, 0, 0, 0, f.client)
	f.serve(100, 0.1)
	read(t, f, s)
	f.pass(15 * time.Second)
	uptime := f.stats.Uptime
	f.restart("first")
	f.stats.Uptime = uptime
	f.serve(7, 0.1)
	expect(t, read(t, f, s), fleet.Sparse, 0)
	f.pass(10 * time.Second)
	f.serve(20, 0.1)
	expect(t, read(t, f, s), fleet.Fresh, 2)
}

func TestFields(t *testing.T) {
	f := newFake(t)
	sources := map[string]*Source{}
	for _, field := range []string{"in_flight", "queued", "rate", "errors", "shed", "busy"} {
		sources[field] = New(Config{Field: field}, 0, 0, 0, f.client)
		read(t, f, sources[field])
	}
	f.pass(10 * time.Second)
	f.serve(40, 0.1)
	f.stats.Total.Arrived += 10
	f.stats.Total.Status = [5]uint64{0, 38, 0, 0, 2}
	f.stats.Total.Shed = 5
	f.stats.Total.InFlight, f.stats.Total.Queued = 3, 4
	f.stats.Busy, f.stats.Slots = 15, 20
	for field, want := range map[string]float64{"in_flight": 3, "queued": 4, "rate": 5, "errors": 5, "shed": 0.5, "busy": 75} {
		expect(t, read(t, f, sources[field]), fleet.Fresh, want)
	}
	f.pass(10 * time.Second)
	for field, want := range map[string]fleet.Quality{"in_flight": fleet.Fresh, "rate": fleet.Fresh, "errors": fleet.Sparse, "shed": fleet.Fresh, "busy": fleet.Sparse} {
		if got := read(t, f, sources[field]); got.Quality != want || (field == "rate" && got.Value != 0) {
			t.Errorf("%s without a request: %+v, want %s", field, got, want)
		}
	}
}

func TestRateOverAWindow(t *testing.T) {
	f := newFake(t)
	s := New(Config{Field: "rate", Class: "sync"}, 0, 30*time.Second, 0, f.client)
	read(t, f, s)
	for _, c := range []struct {
		requests int
		want     float64
	}{{100, 10}, {0, 5}, {50, 5}, {50, 100.0 / 30}, {0, 100.0 / 30}, {0, 50.0 / 30}, {0, 0}} {
		f.pass(10 * time.Second)
		f.serve(c.requests, 0.1)
		expect(t, read(t, f, s), fleet.Fresh, c.want)
	}
}

func TestWhatIsNotThereIsMissing(t *testing.T) {
	f := newFake(t)
	f.stats.MaxInFlight = 0
	for _, c := range []struct {
		cfg    Config
		client *Client
		want   string
	}{
		{Config{Field: "latency", Route: "/reports"}, f.client, "add it to the balancer's routes"},
		{Config{Field: "latency", Class: "reports"}, f.client, "add it to the balancer's classes"},
		{Config{Field: "busy"}, f.client, "set the balancer's max_in_flight"},
		{Config{Field: "queued"}, NewClient("/nowhere/p.sock"), "not running"},
	} {
		r, err := New(c.cfg, 0.95, time.Minute, 1, c.client).Read(t.Context(), fleet.Scene{Now: f.now})
		if r.Quality != fleet.Missing || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %+v, %v, want %q", c.cfg, r, err, c.want)
		}
	}
	f.stats.Total.Latency = proxy.Histogram{0xff}
	if r, err := New(Config{Field: "latency"}, 0.95, time.Minute, 1, f.client).Read(t.Context(), fleet.Scene{Now: f.now.Add(1)}); err == nil || r.Quality != fleet.Missing {
		t.Errorf("garbage: %+v %v", r, err)
	}
}

func TestOneRequestATick(t *testing.T) {
	f := newFake(t)
	var wg sync.WaitGroup
	for _, field := range []string{"in_flight", "queued", "rate", "errors", "shed"} {
		s := New(Config{Field: field}, 0, 0, 0, f.client)
		wg.Go(func() {
			if _, err := s.Read(t.Context(), fleet.Scene{Now: f.now}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := f.asked.Load(); n != 1 {
		t.Errorf("asked %d times in one tick", n)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	s := New(Config{Field: "queued"}, 0, 0, 0, f.client)
	if _, err := s.Read(ended, fleet.Scene{Now: f.now.Add(time.Second)}); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of ctx: %v", err)
	}
}

// Whatever the proxy's counters do, no reading is negative or not a number, and a share is at most 100.
func TestReadingsAreSane(t *testing.T) {
	f := newFake(t)
	rapid.Check(t, func(rt *rapid.T) {
		f.restart(fmt.Sprint("check ", rapid.Uint64().Draw(rt, "nonce")))
		var sources []*Source
		for i := range fields {
			sources = append(sources, New(Config{Field: fields[i].name}, 0.95, time.Minute, 1, f.client))
		}
		for range rapid.IntRange(1, 20).Draw(rt, "steps") {
			d := time.Duration(rapid.IntRange(0, 100_000).Draw(rt, "ms")) * time.Millisecond
			f.pass(d + 1)
			if rapid.IntRange(0, 9).Draw(rt, "restart") == 0 {
				f.restart(fmt.Sprint(rapid.Uint64().Draw(rt, "nonce")))
				f.stats.Uptime = rapid.Int64Range(0, int64(d)).Draw(rt, "uptime")
			}
			f.now = f.now.Add(time.Duration(rapid.IntRange(-60, 60).Draw(rt, "clock jump")) * time.Second)
			n := rapid.IntRange(0, 50).Draw(rt, "requests")
			f.serve(n, rapid.Float64Range(0, 100).Draw(rt, "latency"))
			bad := rapid.IntRange(0, n).Draw(rt, "bad")
			f.stats.Total.Status[4] += uint64(bad)
			f.stats.Slots += d.Seconds()
			f.stats.Busy += d.Seconds() * rapid.Float64Range(0, 1).Draw(rt, "busy")
			for i, s := range sources {
				r, err := s.Read(context.Background(), fleet.Scene{Now: f.now})
				if err != nil {
					rt.Fatal(err)
				}
				if math.IsNaN(r.Value) || math.IsInf(r.Value, 0) || r.Value < 0 || fields[i].unit == fleet.Percent && r.Value > 100.0001 {
					rt.Fatalf("%s is %+v", fields[i].name, r)
				}
			}
		}
	})
}

// With a real proxy and real workers.
func TestARealProxy(t *testing.T) {
	gate := make(chan struct{})
	worker := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			<-gate
		}
		if r.URL.Path == "/bad" {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer worker.Close()
	cfg := proxy.DefaultConfig()
	cfg.Listen, cfg.MaxInFlight, cfg.Routes = "127.0.0.1:0", 1, []string{"/bad"}
	socket := filepath.Join(t.TempDir(), "p.sock")
	p, err := proxy.Start(t.Context(), proxy.ProcessOptions{Config: cfg, Socket: socket, ErrorLog: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	if _, err := proxy.NewClient(socket).Set(t.Context(), []proxy.Endpoint{{ID: "w1", Address: worker.Listener.Addr().String()}}); err != nil {
		t.Fatal(err)
	}
	client := NewClient(socket)
	tick := func(s *Source, at int) fleet.Reading {
		t.Helper()
		r, err := s.Read(t.Context(), fleet.Scene{Now: time.Unix(int64(at), 0)})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	source := func(c Config) *Source { return New(c, 0.95, time.Minute, 1, client) }
	lat, errs, bad, busy, queued := source(Config{Field: "latency"}), source(Config{Field: "errors"}), source(Config{Field: "errors", Route: "/bad"}), source(Config{Field: "busy"}), source(Config{Field: "queued"})
	for _, s := range []*Source{lat, errs, bad, busy} {
		tick(s, 0)
	}
	get := func(path string) {
		tr := &http.Transport{DisableKeepAlives: true}
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.Addr().String()+path, nil)
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	for range 3 {
		get("/")
	}
	get("/bad")
	expect(t, tick(errs, 1), fleet.Fresh, 25)
	expect(t, tick(bad, 1), fleet.Fresh, 100)
	if r := tick(lat, 1); r.Quality != fleet.Fresh || r.Value <= 0 || r.Value > 5 {
		t.Errorf("latency %+v", r)
	}
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { get("/wait") })
	}
	at := 1
	for deadline := time.Now().Add(10 * time.Second); ; {
		at++
		if tick(queued, at).Value == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing waits")
		}
	}
	idle := tick(busy, at).Value
	at++
	if r := tick(busy, at); r.Quality != fleet.Fresh || r.Value <= idle && idle < 99 || r.Value > 100 {
		t.Errorf("busy %v, before %v", r, idle)
	}
	close(gate)
	wg.Wait()
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{DefaultConfig(), "<nil>"},
		{Config{Field: "errors", Route: "other"}, "<nil>"},
		{Config{Field: "cpu"}, `field: "cpu" is unknown; write one of latency, queue_time, service_time, busy, in_flight, queued, rate, errors, shed`},
		{Config{Field: "rate", Route: "api"}, `route: "api" is no route; write one of the proxy's routes, e.g. /api/mobile/sync, or other`},
		{Config{Field: "rate", Route: "/api", Class: "sync"}, "class: is given beside route; the proxy counts by one or the other; delete one of them"},
		{Config{Field: "busy", Route: "/api"}, "route: busy is of the whole fleet; delete route"},
		{Config{Field: "busy", Class: "sync"}, "class: busy is of the whole fleet; delete class"},
	} {
		if got := fmt.Sprint(c.cfg.Validate()); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
	for field, want := range map[string][3]any{
		"latency": {fleet.Seconds, true, true}, "queue_time": {fleet.Seconds, true, true}, "service_time": {fleet.Seconds, true, false}, "busy": {fleet.Percent, false, true},
		"queued": {fleet.Number, false, false}, "errors": {fleet.Percent, false, false},
	} {
		c := Config{Field: field}
		if got := [3]any{c.Unit(), c.Distribution(), c.PerWorker()}; got != want {
			t.Errorf("%s is %v, want %v", field, got, want)
		}
	}
}
