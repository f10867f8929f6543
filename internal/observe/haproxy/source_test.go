package haproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"tidemark/internal/act/haproxy"
	"tidemark/internal/config"
	"tidemark/internal/fleet"
	"tidemark/test/servers"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var _ config.SignalBody = (*Config)(nil)

// What control calls a Source.
var _ interface {
	Read(context.Context, fleet.Scene) (fleet.Reading, error)
} = (*Source)(nil)

// said is a Client that has been told what HAProxy says at a time.
func said(at time.Time, stats haproxy.Stats) *Client {
	c := NewClient("/nowhere/admin.sock", "dfr")
	_, _ = c.look.At(context.Background(), at, func(context.Context) (*haproxy.Stats, error) { return &stats, nil }) // never fails
	return c
}

// run reads a field at each of these, a minute apart, and writes the readings down.
func run(t *testing.T, field string, window time.Duration, minSamples int, stats ...haproxy.Stats) string {
	t.Helper()
	s := New(Config{Field: field}, window, minSamples, nil)
	var out []string
	now := time.Unix(1_000_000, 0)
	for _, st := range stats {
		now = now.Add(time.Minute)
		s.shared = said(now, st)
		r, err := s.Read(t.Context(), fleet.Scene{Now: now})
		if err != nil || !r.Time.Equal(now) {
			t.Fatalf("%+v, %v", r, err)
		}
		if r.Quality == fleet.Fresh {
			out = append(out, fmt.Sprint(math.Round(1000*r.Value)/1000))
		} else {
			out = append(out, r.Quality.String())
		}
	}
	return strings.Join(out, " ")
}

func TestCounters(t *testing.T) {
	at := func(pid, minute int, requests, bad, refused uint64) haproxy.Stats {
		return haproxy.Stats{PID: pid, Uptime: time.Duration(minute) * time.Minute, Requests: requests, Refused: refused, Status: [5]uint64{0, requests - bad, 0, 0, bad}}
	}
	steady := []haproxy.Stats{at(7, 9, 600, 0, 0), at(7, 10, 720, 30, 60), at(7, 11, 720, 30, 60), at(7, 12, 840, 60, 60)}
	again := []haproxy.Stats{at(7, 9, 600, 0, 0), at(8, 1, 700, 0, 0), at(8, 2, 760, 0, 0)}
	cleared := []haproxy.Stats{at(7, 9, 600, 0, 0), at(7, 10, 30, 0, 0), at(7, 11, 90, 0, 0)}
	for _, c := range []struct {
		field      string
		window     time.Duration
		minSamples int
		stats      []haproxy.Stats
		want       string
	}{
		{"rate", 0, 0, steady, "sparse 2 0 2"},
		{"rate", 2 * time.Minute, 0, steady, "sparse 2 1 1"},
		{"errors", 0, 0, steady, "sparse 25 sparse 25"},
		{"errors", 0, 121, steady, "sparse sparse sparse sparse"},
		{"shed", 0, 0, steady, "sparse 1 0 0"},
		{"rate", 0, 0, again, "sparse sparse 1"},
		{"rate", time.Hour, 0, cleared, "sparse sparse 1"},
	} {
		if got := run(t, c.field, c.window, c.minSamples, c.stats...); got != c.want {
			t.Errorf("%s over %s, %d samples: %s, want %s", c.field, c.window, c.minSamples, got, c.want)
		}
	}
}

func TestOfTheMoment(t *testing.T) {
	up := func(sessions, limit uint64) haproxy.ServerStats {
		return haproxy.ServerStats{Status: "no check", Sessions: sessions, Limit: limit}
	}
	stats := haproxy.Stats{
		Queued: 5, QueueTime: 40 * time.Millisecond, ConnectTime: time.Millisecond, ResponseTime: 200 * time.Millisecond, Status: [5]uint64{0, 10},
		Servers: []haproxy.ServerStats{up(1, 1), up(0, 1), up(1, 1), up(1, 1), {Status: "DRAIN", Sessions: 2, Limit: 1}},
	}
	more := stats
	more.Status[1]++
	for field, want := range map[string]string{
		"queued": "5 5 5", "in_flight": "5 5 5", "busy": "75 75 75",
		"latency": "sparse sparse 0.241", "queue_time": "sparse sparse 0.04", "service_time": "sparse sparse 0.2",
	} {
		if got := run(t, field, 0, 0, stats, stats, more); got != want {
			t.Errorf("%s: %s, want %s", field, got, want)
		}
	}
	now := time.Unix(1, 0)
	for _, c := range []struct {
		client *Client
		want   string
	}{
		{said(now, haproxy.Stats{Servers: []haproxy.ServerStats{up(1, 0)}}), "set the balancer's max_in_flight"},
		{said(now, haproxy.Stats{Servers: []haproxy.ServerStats{{Status: "MAINT", Limit: 1}}}), "no server in service"},
		{NewClient("/nowhere/admin.sock", "dfr"), "not running"},
	} {
		r, err := New(Config{Field: "busy"}, 0, 0, c.client).Read(t.Context(), fleet.Scene{Now: now})
		if r.Quality != fleet.Missing || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v, %v, want %q", r, err, c.want)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	busyClient := NewClient("/nowhere/admin.sock", "dfr")
	_, _ = busyClient.look.At(t.Context(), now, func(context.Context) (*haproxy.Stats, error) { // while somebody asks
		if _, err := New(Config{Field: "queued"}, 0, 0, busyClient).Read(ended, fleet.Scene{Now: now}); !errors.Is(err, context.Canceled) {
			t.Errorf("after the end of ctx: %v", err)
		}
		return &stats, nil
	})
}

// Whatever HAProxy's counters do, no reading is negative or not a number, and a share is at most 100.
func TestReadingsAreSane(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var sources []*Source
		for i := range fields {
			sources = append(sources, New(Config{Field: fields[i].name}, time.Minute, 1, nil))
		}
		now := time.Unix(1_000_000, 0)
		small := rapid.Uint64Range(0, 1000)
		for range rapid.IntRange(1, 20).Draw(rt, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(-5, 60).Draw(rt, "seconds")) * time.Second)
			st := haproxy.Stats{PID: rapid.IntRange(1, 2).Draw(rt, "pid"), Queued: small.Draw(rt, "queued"), Requests: small.Draw(rt, "requests"), Refused: small.Draw(rt, "refused"), OtherCode: small.Draw(rt, "other"),
				Servers: []haproxy.ServerStats{{Status: "UP", Sessions: small.Draw(rt, "sessions"), Limit: 1}}}
			for i := range st.Status {
				st.Status[i] = small.Draw(rt, "status")
			}
			for i, s := range sources {
				s.shared = said(now, st)
				r, err := s.Read(context.Background(), fleet.Scene{Now: now})
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

// With a real HAProxy and a real worker.
func TestARealHAProxy(t *testing.T) {
	gate, arrived := make(chan struct{}), make(chan struct{}, 1)
	worker := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/wait":
			arrived <- struct{}{}
			<-gate
		case "/bad":
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer worker.Close()
	cfg := haproxy.DefaultConfig()
	cfg.Backend, cfg.MaxInFlight, cfg.Queue.Limit = "dfr", 1, 1
	content, err := cfg.Render([]fleet.Worker{{ID: "w1", Address: worker.Listener.Addr().String()}})
	if err != nil {
		t.Fatal(err)
	}
	h := servers.HAProxy(t, "dfr", string(content))
	client := NewClient(h.Socket, "dfr")
	sources := map[string]*Source{}
	for i := range fields {
		sources[fields[i].name] = New(Config{Field: fields[i].name}, 0, 1, client)
	}
	minute := 0
	read := func() map[string]fleet.Reading {
		t.Helper()
		minute++
		out := map[string]fleet.Reading{}
		for name, s := range sources {
			r, err := s.Read(t.Context(), fleet.Scene{Now: time.Unix(int64(60*minute), 0)})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			out[name] = r
		}
		return out
	}
	get := func(path string) int {
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get("http://" + h.Address() + path)
		if err != nil {
			t.Error(err)
			return 0
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	expect := func(got map[string]fleet.Reading, want map[string]float64) {
		t.Helper()
		for name, value := range want {
			if r := got[name]; r.Quality != fleet.Fresh || math.Abs(r.Value-value) > 1e-6 {
				t.Errorf("%s is %+v, want %v", name, r, value)
			}
		}
	}
	read()
	for _, path := range []string{"/", "/", "/bad", "/"} {
		get(path)
	}
	got := read()
	expect(got, map[string]float64{"queued": 0, "in_flight": 0, "busy": 0, "rate": 4.0 / 60, "errors": 25, "shed": 0, "queue_time": 0})
	if r := got["latency"]; r.Quality != fleet.Fresh || r.Value > 5 || r.Value < got["service_time"].Value {
		t.Errorf("latency %+v", r)
	}
	var wg sync.WaitGroup
	wg.Go(func() { get("/wait") })
	<-arrived
	wg.Go(func() { get("/") })
	for deadline := time.Now().Add(30 * time.Second); got["queued"].Value != 1; got = read() {
		if time.Now().After(deadline) {
			t.Fatal("nothing waits")
		}
	}
	if code := get("/"); code != http.StatusServiceUnavailable {
		t.Errorf("with the queue full: %d", code)
	}
	expect(read(), map[string]float64{"queued": 1, "in_flight": 1, "busy": 100, "shed": 1.0 / 60, "errors": 100})
	close(gate)
	wg.Wait()
	h.Kill()
	if r, err := sources["queued"].Read(t.Context(), fleet.Scene{Now: time.Unix(1e9, 0)}); !errors.Is(err, haproxy.ErrDown) || r.Quality != fleet.Missing {
		t.Errorf("gone: %+v, %v", r, err)
	}
	h.Start()
	if got := read(); got["rate"].Quality != fleet.Sparse || got["latency"].Quality != fleet.Sparse {
		t.Errorf("after a restart: %+v", got)
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{DefaultConfig(), "<nil>"},
		{Config{Field: "cpu"}, `field: "cpu" is unknown; write one of queued, in_flight, busy, latency, queue_time, service_time, rate, errors, shed`},
	} {
		if got := fmt.Sprint(c.cfg.Validate()); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
	for field, want := range map[string][4]any{
		"latency": {fleet.Seconds, false, true, false}, "service_time": {fleet.Seconds, false, false, false}, "busy": {fleet.Percent, false, true, false},
		"queued": {fleet.Number, false, false, false}, "errors": {fleet.Percent, false, false, true}, "rate": {fleet.Number, false, false, true},
	} {
		c := Config{Field: field}
		if got := [4]any{c.Unit(), c.Distribution(), c.PerWorker(), c.Windowed()}; got != want {
			t.Errorf("%s is %v, want %v", field, got, want)
		}
	}
}
