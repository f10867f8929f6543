package accesslog

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"tidemark/internal/fleet"
)

// fixture is a log with sources, inside a synctest bubble: time passes when the test says so.
type fixture struct {
	t    *testing.T
	path string
	log  *Log
}

func inBubble(t *testing.T, f func(fx *fixture)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "access.log")
	if err := os.WriteFile(path, []byte(entry{}.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		l, err := New(path, "tidemark")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		f(&fixture{t, path, l})
	})
}

// entry is a line in the recommended format; zero fields are a quick GET / answered by a worker.
type entry struct {
	uri, upstream string
	status        int
	request       float64
}

func (e entry) String() string {
	if e.uri == "" {
		e.uri = "/"
	}
	if e.upstream == "" {
		e.upstream = "0.001"
	}
	if e.status == 0 {
		e.status = 200
	}
	return fmt.Sprintf(`127.0.0.1 - - [01/Mar/2027:07:00:00 -1000] "GET %s HTTP/1.1" %d 5 "-" "x" rt=%.3f urt="%s" uct="0.000" uht="0.001" addr="127.0.0.1:8069" len=77`+"\n",
		e.uri, e.status, e.request, e.upstream)
}

func (fx *fixture) add(n int, e entry) {
	fx.t.Helper()
	if err := appendFile(fx.path, strings.Repeat(e.String(), n), os.O_CREATE); err != nil {
		fx.t.Fatal(err)
	}
}

func (fx *fixture) source(q float64, window time.Duration, minSamples int, set func(*Config)) *Source {
	cfg := DefaultConfig()
	cfg.Path = fx.path
	if set != nil {
		set(&cfg)
	}
	if err := cfg.Validate(); err != nil {
		fx.t.Fatal(err)
	}
	return fx.log.Source(cfg, q, window, minSamples)
}

func rate(c *Config) { c.Field = Rate }

func errorShare(c *Config) { c.Field = Errors }

// wait lets time pass and says the time of the tick then.
func wait(d time.Duration) fleet.Scene {
	time.Sleep(d) // virtual
	return fleet.Scene{Now: time.Now()}
}

const tick = 15 * time.Second

// reads checks one reading. Values may be off by half a histogram bucket.
func (fx *fixture) reads(s *Source, at fleet.Scene, quality fleet.Quality, value float64) {
	fx.t.Helper()
	r, err := s.Read(fx.t.Context(), at)
	if (err != nil) != (quality == fleet.Missing || quality == fleet.Stale) {
		fx.t.Fatalf("error %v with quality %v", err, r.Quality)
	}
	if r.Quality != quality || quality != fleet.Missing && math.Abs(r.Value-value) > value/60+1e-9 || !r.Time.Equal(at.Now) {
		fx.t.Fatalf("%v %v (%v), want %v %v", r.Quality, r.Value, err, quality, value)
	}
}

func TestLatencyOverAWindow(t *testing.T) {
	inBubble(t, func(fx *fixture) {
		s := fx.source(0.95, 5*time.Minute, 50, nil)
		fx.reads(s, wait(0), fleet.Sparse, 0)
		fx.add(40, entry{upstream: "0.100"})
		fx.reads(s, wait(tick), fleet.Sparse, 0.1) // too few, stated all the same
		fx.add(8, entry{upstream: "0.100"})
		fx.add(2, entry{upstream: "2.000"})
		fx.reads(s, wait(tick), fleet.Fresh, 0.1)
		fx.add(5, entry{upstream: "2.000"})
		fx.reads(s, wait(tick), fleet.Fresh, 2)
		for range 14 {
			fx.reads(s, wait(tick), fleet.Fresh, 2)
		}
		for range 5 { // the first 40 leave the window
			wait(tick)
		}
		fx.reads(s, wait(tick), fleet.Sparse, 0) // quiet, and alive
	})
}

func TestWhatCountsAsLatency(t *testing.T) {
	tests := []struct {
		name  string
		cfg   func(*Config)
		e     entry
		value float64 // 0: not counted
	}{
		{"upstream first", nil, entry{upstream: "0.200", request: 9}, 0.2},
		{"tries are added up", nil, entry{upstream: "0.200, 0.300 : 0.500"}, 1},
		{"nginx answered itself", nil, entry{upstream: "-", request: 9}, 0},
		{"request time when asked for", func(c *Config) { c.Time = "request" }, entry{upstream: "-", request: 9}, 9},
		{"no worker answered", nil, entry{status: 502, upstream: "0.001"}, 0},
		{"shed", nil, entry{status: 503, upstream: "0.001"}, 0},
		{"websocket", nil, entry{status: 101, upstream: "3600.000"}, 0},
		{"the client left", nil, entry{status: 499, upstream: "30.000"}, 30},
		{"the worker took too long", nil, entry{status: 504, upstream: "60.000"}, 60},
		{"failure", nil, entry{status: 500, upstream: "0.100"}, 0.1},
		{"excluded by default", nil, entry{uri: "/websocket?x", upstream: "0.100"}, 0},
		{"below excluded", nil, entry{uri: "/longpolling/poll", upstream: "0.100"}, 0},
		{"beside excluded", nil, entry{uri: "/websockets", upstream: "0.100"}, 0.1},
		{"excluded by hand only", func(c *Config) { c.Exclude = []string{"/web/"} }, entry{uri: "/websocket", upstream: "0.100"}, 0.1},
		{"nothing excluded", func(c *Config) { c.Exclude = nil }, entry{uri: "/websocket", upstream: "0.100"}, 0.1},
		{"a route that is excluded elsewhere", func(c *Config) { c.Route = "/web/health" }, entry{uri: "/web/health", upstream: "0.100"}, 0.1},
		{"excluded below the route", func(c *Config) { c.Route = "/web" }, entry{uri: "/web/health", upstream: "0.100"}, 0},
		{"route", func(c *Config) { c.Route = "/api/sync" }, entry{uri: "/api/sync", upstream: "0.100"}, 0.1},
		{"route with query", func(c *Config) { c.Route = "/api/sync" }, entry{uri: "/api/sync?a=/b", upstream: "0.100"}, 0.1},
		{"below the route", func(c *Config) { c.Route = "/api/sync/" }, entry{uri: "/api/sync/5", upstream: "0.100"}, 0.1},
		{"beside the route", func(c *Config) { c.Route = "/api/sync" }, entry{uri: "/api/synchronise", upstream: "0.100"}, 0},
		{"above the route", func(c *Config) { c.Route = "/api/sync" }, entry{uri: "/api", upstream: "0.100"}, 0},
		{"the route in the query", func(c *Config) { c.Route = "/api/sync" }, entry{uri: "/x?/api/sync", upstream: "0.100"}, 0},
		{"root is all", func(c *Config) { c.Route = "/" }, entry{uri: "/a", upstream: "0.100"}, 0.1},
		{"escaped", func(c *Config) { c.Route = "/café" }, entry{uri: `/caf\xC3\xA9`, upstream: "0.100"}, 0.1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(fx *fixture) {
				s := fx.source(0.5, time.Minute, 1, tt.cfg)
				fx.reads(s, wait(0), fleet.Sparse, 0)
				fx.add(1, tt.e)
				if tt.value == 0 {
					fx.reads(s, wait(tick), fleet.Sparse, 0)
				} else {
					fx.reads(s, wait(tick), fleet.Fresh, tt.value)
				}
			})
		})
	}
}

func TestQuantilesAndMean(t *testing.T) {
	inBubble(t, func(fx *fixture) {
		p50, p999, mean, top := fx.source(0.5, time.Minute, 1, nil), fx.source(0.999, time.Minute, 1, nil), fx.source(0, time.Minute, 1, nil), fx.source(1, time.Minute, 1, nil)
		fx.reads(p50, wait(0), fleet.Sparse, 0)
		fx.add(998, entry{upstream: "0.100"})
		fx.add(1, entry{upstream: "1.000"})
		fx.add(1, entry{upstream: "10.000"})
		at := wait(tick)
		fx.reads(p50, at, fleet.Fresh, 0.1)
		fx.reads(p999, at, fleet.Fresh, 1)
		fx.reads(top, at, fleet.Fresh, 10)
		fx.reads(mean, at, fleet.Fresh, 0.1108)
	})
}

func TestRateAndErrors(t *testing.T) {
	inBubble(t, func(fx *fixture) {
		rate, errs := fx.source(0, time.Minute, 1, rate), fx.source(0, time.Minute, 20, errorShare)
		at := wait(0)
		fx.reads(rate, at, fleet.Sparse, 0)
		fx.reads(errs, at, fleet.Sparse, 0)
		at = wait(tick)
		fx.reads(rate, at, fleet.Fresh, 0) // quiet is a measurement
		fx.reads(errs, at, fleet.Sparse, 0)
		fx.add(10, entry{})
		fx.add(5, entry{status: 503, upstream: "-"})
		at = wait(tick)
		fx.reads(rate, at, fleet.Fresh, 0.5) // 15 in the 30 s seen so far
		fx.reads(errs, at, fleet.Sparse, 100./3)
		fx.add(15, entry{status: 499})
		at = wait(tick)
		fx.reads(rate, at, fleet.Fresh, 30./45)
		fx.reads(errs, at, fleet.Fresh, 100./6)
		wait(tick)
		at = wait(tick) // one tick was skipped
		fx.reads(rate, at, fleet.Fresh, 0.5)
		at = wait(tick)
		fx.reads(rate, at, fleet.Fresh, 0.25)
		at = wait(tick / 2)
		fx.reads(rate, at, fleet.Fresh, 0.125) // half of the latest 15 requests' tick is in the window
		fx.reads(errs, at, fleet.Sparse, 0)
		at = wait(10 * time.Minute)
		fx.reads(rate, at, fleet.Fresh, 0)
	})
}

func TestRateAfterAGapIsSpread(t *testing.T) {
	inBubble(t, func(fx *fixture) {
		rate, p95 := fx.source(0, time.Minute, 1, rate), fx.source(0.95, time.Minute, 1, nil)
		fx.reads(rate, wait(0), fleet.Sparse, 0)
		fx.add(600, entry{upstream: "0.100"})
		at := wait(10 * time.Minute)
		fx.reads(rate, at, fleet.Fresh, 1)
		fx.reads(p95, at, fleet.Stale, 0.1) // when those were is not known
		at = wait(tick)
		fx.reads(p95, at, fleet.Sparse, 0)
		fx.add(10, entry{upstream: "0.200"})
		at = wait(tick)
		fx.reads(p95, at, fleet.Fresh, 0.2)
	})
}

// The wall clock may jump; only the time that passed counts.
func TestClockJumps(t *testing.T) {
	inBubble(t, func(fx *fixture) {
		rate, p95 := fx.source(0, time.Minute, 1, rate), fx.source(0.95, time.Minute, 1, nil)
		fx.reads(rate, wait(0), fleet.Sparse, 0)
		for _, jump := range []time.Duration{0, time.Hour, -time.Hour, 24 * 365 * time.Hour} {
			fx.add(15, entry{upstream: "0.100"})
			at := wait(tick)
			at.Now = at.Now.Round(0).Add(jump)
			fx.reads(rate, at, fleet.Fresh, 1)
			fx.reads(p95, at, fleet.Fresh, 0.1)
		}
	})
}

func TestMissingLog(t *testing.T) {
	inBubble(t, func(fx *fixture) {
		sources := []*Source{fx.source(0.95, time.Minute, 1, nil), fx.source(0, time.Minute, 1, rate), fx.source(0, time.Minute, 1, errorShare)}
		if err := os.Remove(fx.path); err != nil {
			fx.t.Fatal(err)
		}
		for range 3 {
			at := wait(tick)
			for _, s := range sources {
				fx.reads(s, at, fleet.Missing, 0)
			}
		}
		if _, err := sources[1].Read(fx.t.Context(), wait(tick)); err.Error() != fx.path+" does not exist; compare it with access_log in nginx's configuration" {
			fx.t.Error(err)
		}
		fx.add(10, entry{upstream: "0.100"})
		at := wait(tick)
		fx.reads(sources[0], at, fleet.Fresh, 0.1)
		fx.reads(sources[1], at, fleet.Sparse, 0) // since when those ten were counted is not known
		fx.add(15, entry{})
		fx.reads(sources[1], wait(tick), fleet.Fresh, 1)
	})
}

func TestMismatchIsNotSilence(t *testing.T) {
	inBubble(t, func(fx *fixture) {
		sources := []*Source{fx.source(0.95, time.Minute, 1, nil), fx.source(0, time.Minute, 1, rate), fx.source(0, time.Minute, 1, errorShare)}
		all := func(at fleet.Scene, quality fleet.Quality) {
			fx.t.Helper()
			for _, s := range sources {
				if r, err := s.Read(fx.t.Context(), at); r.Quality != quality {
					fx.t.Fatalf("%s: %v %v, want %v", s.field, r, err, quality)
				}
			}
		}
		all(wait(0), fleet.Sparse)
		if err := appendFile(fx.path, "127.0.0.1 - - [01/Mar/2027:07:00:00 -1000] \"GET / HTTP/1.1\" 200 5 \"-\" \"\x1b[31mx\"\nsecond\n", 0); err != nil {
			fx.t.Fatal(err)
		}
		at := wait(tick)
		all(at, fleet.Missing)
		_, err := sources[0].Read(fx.t.Context(), at)
		want := fx.path + ` is not in the log_format given (no "\" rt=" after $http_user_agent): expected ` + Tidemark +
			`, found "127.0.0.1 - - [01/Mar/2027:07:00:00 -1000] \"GET / HTTP/1.1\" 200 5 \"-\" \"\x1b[31mx\""; copy the log_format that nginx uses for it into format`
		if err == nil || err.Error() != want {
			fx.t.Errorf("got  %v\nwant %s", err, want)
		}
		all(wait(tick), fleet.Missing) // no new lines: still not known
		fx.add(15, entry{})
		at = wait(tick)
		fx.reads(sources[0], at, fleet.Fresh, 0.001)
		fx.reads(sources[1], at, fleet.Sparse, 0)
		// Some lines of another kind among good ones are counted, no more.
		fx.add(15, entry{})
		if err := appendFile(fx.path, "something else\n", 0); err != nil {
			fx.t.Fatal(err)
		}
		fx.reads(sources[1], wait(tick), fleet.Fresh, 1)
		if s := fx.log.Stats(); s.Skipped != 3 || s.Lines != 33 {
			fx.t.Errorf("%+v", s)
		}
		// gzip, then an endless line.
		var z bytes.Buffer
		w := gzip.NewWriter(&z)
		fmt.Fprint(w, strings.Repeat("x\n", 1000))
		w.Close()
		if err := appendFile(fx.path, z.String()+"\n", 0); err != nil {
			fx.t.Fatal(err)
		}
		at = wait(tick)
		all(at, fleet.Missing)
		if _, err := sources[0].Read(fx.t.Context(), at); len(err.Error()) > 1500 || strings.ContainsAny(err.Error(), "\x00\x1f\n") {
			fx.t.Errorf("%q", err)
		}
	})
}

func TestBehindIsStale(t *testing.T) {
	inBubble(t, func(fx *fixture) {
		fx.log.tail.limits.bytes = 1000
		fx.log.tail.limits.chunk = 500
		fx.log.tail.limits.backlog = 50_000
		rate, p95 := fx.source(0, time.Hour, 1, rate), fx.source(0.95, time.Hour, 1, nil)
		fx.reads(rate, wait(0), fleet.Sparse, 0)
		fx.add(15, entry{upstream: "0.100"}) // 180 bytes each
		at := wait(tick)
		fx.reads(rate, at, fleet.Stale, 0)
		fx.reads(p95, at, fleet.Stale, 0.1)
		if _, err := p95.Read(fx.t.Context(), at); !strings.Contains(err.Error(), " still to be read") {
			fx.t.Error(err)
		}
		for range 4 {
			at = wait(tick)
			if r, _ := rate.Read(fx.t.Context(), at); r.Quality == fleet.Fresh {
				break
			}
		}
		fx.reads(rate, at, fleet.Fresh, 15/(at.Now.Sub(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).Seconds()))
		fx.reads(p95, at, fleet.Fresh, 0.1)
		fx.add(400, entry{upstream: "5.000"})
		at = wait(tick)
		fx.reads(rate, at, fleet.Stale, 0)
		fx.reads(p95, at, fleet.Stale, 0.1)
		fx.reads(p95, wait(tick), fleet.Sparse, 0)
		fx.add(1, entry{upstream: "0.300"})
		at = wait(tick)
		fx.reads(p95, at, fleet.Fresh, 0.3)
		fx.reads(rate, at, fleet.Fresh, 1/(2*tick).Seconds()) // counted anew from then
		fx.reads(rate, wait(tick), fleet.Fresh, 1/(3*tick).Seconds())
	})
}

func TestSignalsShareOneLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var logs Logs
	defer logs.Close()
	cfg := DefaultConfig()
	cfg.Path = path
	var sources []*Source
	for _, field := range []string{Latency, Rate, Errors} {
		cfg.Field = field
		s, err := logs.Source(cfg, 0.95, time.Minute, 1)
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, s)
	}
	sources[0].log.tail.limits.time = time.Minute // this machine may be busy
	if sources[0].log != sources[2].log {
		t.Error("two logs for one file")
	}
	cfg.Format = "$"
	if _, err := logs.Source(cfg, 0.95, time.Minute, 1); err == nil {
		t.Error("a bad format was taken")
	}
	// Read from several fleets at once while the log grows.
	if _, err := sources[0].Read(t.Context(), fleet.Scene{Now: time.Now()}); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i, s := range sources {
		wg.Go(func() {
			for n := range 200 {
				if _, err := s.Read(t.Context(), fleet.Scene{Now: time.Unix(int64(n), int64(i))}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		for range 200 {
			if err := appendFile(path, entry{}.String(), 0); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	for _, s := range sources {
		if _, err := s.Read(t.Context(), fleet.Scene{Now: time.Unix(1000, 0)}); err != nil {
			t.Fatal(err)
		}
	}
	log := sources[0].log
	if s := log.Stats(); s.Lines != 200 || s.Skipped != 0 {
		t.Errorf("%+v", s)
	}
	if n := sources[0].latencies.Total().Count(); n != 200 {
		t.Errorf("%d latencies", n)
	}
	if n := sources[1].tally.now.requests; n != 200 {
		t.Errorf("%d requests", n)
	}
}

func TestContextAndClose(t *testing.T) {
	inBubble(t, func(fx *fixture) {
		s := fx.source(0.95, time.Minute, 1, nil)
		fx.log.turn <- struct{}{} // a read that hangs
		ctx, cancel := context.WithTimeout(fx.t.Context(), time.Second)
		defer cancel()
		if r, err := s.Read(ctx, wait(0)); err == nil || r.Quality != fleet.Missing {
			fx.t.Errorf("%v %v", r, err)
		}
		<-fx.log.turn
		fx.reads(s, wait(0), fleet.Sparse, 0)
		if err := fx.log.Close(); err != nil {
			fx.t.Error(err)
		}
		if r, err := s.Read(fx.t.Context(), wait(tick)); err == nil || r.Quality != fleet.Missing {
			fx.t.Errorf("%v %v", r, err)
		}
	})
}

// Requests that come at an even rate give that rate, however unevenly and often the log is read.
func TestTallyIsEven(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		window := time.Duration(rapid.IntRange(1, 600).Draw(rt, "window")) * time.Second
		ta := tally{window: window}
		start := time.Unix(1_800_000_000, 0)
		perSecond := rapid.IntRange(1, 50).Draw(rt, "rate")
		at, count := 0, 0
		for i, step := range rapid.SliceOfN(rapid.IntRange(1, 200), 2, 300).Draw(rt, "steps") {
			at += step
			for range step * perSecond {
				count++
				ta.count(count%4 == 0)
			}
			ta.mark(start.Add(time.Duration(at) * time.Second))
			requests, failed, seen := ta.latest()
			if i == 0 {
				if seen != 0 {
					rt.Fatal("counted before there was a start")
				}
				continue
			}
			if seen <= 0 || seen > window {
				rt.Fatalf("seen %v of %v", seen, window)
			}
			if got := requests / seen.Seconds(); math.Abs(got-float64(perSecond)) > 1e-6 {
				rt.Fatalf("%v requests/s, want %d", got, perSecond)
			}
			if failed < 0 || math.Abs(failed-requests/4) > 2 {
				rt.Fatalf("%v of %v failed", failed, requests)
			}
			if len(ta.marks) > perWindow+4 {
				rt.Fatalf("%d marks", len(ta.marks))
			}
		}
	})
}

func TestTallyIsSmall(t *testing.T) {
	ta := tally{window: time.Hour}
	for i := range 2 * 3600 {
		ta.count(false)
		ta.mark(time.Unix(1_800_000_000+int64(i), 0))
	}
	requests, _, seen := ta.latest()
	if len(ta.marks) > perWindow+4 || seen != time.Hour || math.Abs(requests-3600) > 1e-6 {
		t.Errorf("%d marks, %v requests in %v", len(ta.marks), requests, seen)
	}
}
