package httpjson

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tidemark/internal/config"
	"tidemark/internal/fleet"
	"tidemark/internal/observe/httpget"
	"tidemark/internal/observe/httpget/httpgettest"
	"tidemark/internal/observe/observetest"
)

var _ config.SignalBody = (*Config)(nil)

// net/http lingers half a second on a connection that it has refused; that is longer than goleak waits.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

// site is a program that shows what the test wants.
type site struct {
	t     *testing.T
	text  atomic.Pointer[string]
	srv   *httpgettest.Server
	pages Pages
	now   time.Time
}

func newSite(t *testing.T, text string) *site {
	t.Helper()
	s := &site{t: t, now: time.Date(2027, 3, 1, 6, 0, 0, 0, time.UTC)}
	s.show(text)
	s.srv = httpgettest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, *s.text.Load()) }))
	s.pages.now = func() time.Time { return s.now }
	return s
}

func (s *site) show(text string) { s.text.Store(&text) }

// source makes a source of what is written over the defaults.
func (s *site) source(change func(*Config)) *Source {
	s.t.Helper()
	c := DefaultConfig()
	c.URL, c.Server.Timeout = s.srv.URL()+"/metrics", 5*time.Second
	change(&c)
	if err := c.Validate(); err != nil {
		s.t.Fatal(err)
	}
	return s.pages.Source(c)
}

// read reads one tick later.
func (s *site) read(src *Source) (fleet.Reading, error) {
	s.now = s.now.Add(10 * time.Second)
	return src.Read(s.t.Context(), fleet.Scene{Now: s.now})
}

// expect reads a figure.
func (s *site) expect(src *Source, want float64) {
	s.t.Helper()
	r, err := s.read(src)
	if err != nil || r.Quality != fleet.Fresh || r.Value != want || !r.Time.Equal(s.now) {
		s.t.Errorf("%+v, %v; want %v", r, err, want)
	}
}

func (s *site) sparse(src *Source) {
	s.t.Helper()
	if r, err := s.read(src); err != nil || r.Quality != fleet.Sparse {
		s.t.Errorf("%+v, %v; want it sparse", r, err)
	}
}

func (s *site) missing(src *Source, want string) {
	s.t.Helper()
	if r, err := s.read(src); err == nil || r.Quality != fleet.Missing || !strings.Contains(err.Error(), want) {
		s.t.Errorf("%+v, %v; want it missing, for %q", r, err, want)
	}
}

const exposition = `# HELP active_mobile_sync_sessions Sync sessions now.
# TYPE active_mobile_sync_sessions gauge
active_mobile_sync_sessions 17
# TYPE requests_total counter
requests_total{route="/api",code="200"} 100
requests_total{route="/api",code="500"} 5
requests_total{route="/web",code="200"} 1e3
# TYPE wait_seconds histogram
wait_seconds_bucket{le="1"} 3
wait_seconds_bucket{le="+Inf"} 4
wait_seconds_sum 6.5
wait_seconds_count 4
# TYPE job_seconds summary
job_seconds{quantile="0.5"} 0.25
job_seconds{quantile="0.99"} NaN
job_seconds_sum 9
job_seconds_count 12
depth{queue="a b\"c"} -3
depth{queue="empty"} +Inf
`

func TestMetrics(t *testing.T) {
	s := newSite(t, exposition)
	for _, c := range []struct {
		change func(*Config)
		want   float64
		err    string
	}{
		{change: func(c *Config) { c.Metric = "active_mobile_sync_sessions" }, want: 17},
		{change: func(c *Config) { c.Metric, c.Labels = "depth", map[string]string{"queue": `a b"c`} }, want: -3},
		{change: func(c *Config) { c.Metric, c.Labels = "job_seconds", map[string]string{"quantile": "0.5"} }, want: 0.25},
		{change: func(c *Config) { c.Metric, c.Labels = "job_seconds", map[string]string{"quantile": "0.99"} }, err: "is NaN, which is no figure"},
		{change: func(c *Config) { c.Metric, c.Labels = "depth", map[string]string{"queue": "empty"} }, err: "is +Inf, which is no figure"},
		{change: func(c *Config) { c.Metric, c.Labels = "depth", map[string]string{"queue": "none"} }, err: "no series of the metric has these labels"},
		{change: func(c *Config) { c.Metric = "depth" }, err: `2 series match: depth{queue="a b\"c"}, depth{queue="empty"}; choose one by labels, or write sum: true`},
		{change: func(c *Config) { c.Metric = "sessions" }, err: "the page has no metric sessions"},
		{change: func(c *Config) { c.Metric = "requests_total" }, err: "requests_total is a counter, which only rises: write rate: true"},
		{change: func(c *Config) { c.Metric = "wait_seconds_count" }, err: "wait_seconds_count is a counter, which only rises: write rate: true"},
		{change: func(c *Config) { c.Metric = "wait_seconds" }, err: "wait_seconds is a histogram: write wait_seconds_count, wait_seconds_sum or wait_seconds_bucket"},
		{change: func(c *Config) { c.Metric, c.Rate = "active_mobile_sync_sessions", true }, err: "active_mobile_sync_sessions is a gauge, which rises and falls: delete rate"},
		{change: func(c *Config) { c.JSON = "/a" }, err: "the page is no JSON"},
	} {
		if src := s.source(c.change); c.err != "" {
			s.missing(src, c.err)
		} else {
			s.expect(src, c.want)
		}
	}
	s.show("requests_total{ 5\n")
	s.missing(s.source(func(c *Config) { c.Metric, c.Rate = "requests_total", true }), "not in Prometheus' text format")
}

func TestSum(t *testing.T) {
	s := newSite(t, "busy{worker=\"1\"} 1\nbusy{worker=\"2\"} 0.5\nbusy{worker=\"3\",cron=\"yes\"} 4\nother 9\n")
	s.expect(s.source(func(c *Config) { c.Metric, c.Sum = "busy", true }), 5.5)
	s.expect(s.source(func(c *Config) { c.Metric, c.Sum, c.Labels = "busy", true, map[string]string{"cron": ""} }), 1.5)
	s.show("busy{worker=\"1\"} 1\nbusy{worker=\"2\"} NaN\n")
	s.missing(s.source(func(c *Config) { c.Metric, c.Sum = "busy", true }), `busy{worker="2"} is NaN`)
	s.show("busy{worker=\"1\"} 1e308\nbusy{worker=\"2\"} 1e308\n")
	s.missing(s.source(func(c *Config) { c.Metric, c.Sum = "busy", true }), "too large")
}

func TestRate(t *testing.T) {
	s := newSite(t, "# TYPE n counter\nn{r=\"a\"} 100\n")
	src := s.source(func(c *Config) { c.Metric, c.Rate, c.Sum = "n", true, true })
	s.sparse(src)
	for _, c := range []struct {
		text string
		want float64
	}{
		{"n{r=\"a\"} 150", 5},
		{"n{r=\"a\"} 150", 0},
		{"n{r=\"a\"} 30", 3},                           // its program was restarted
		{"n{r=\"a\"} 40\nn{r=\"b\"} 1000", 1},          // a new series counts from its second reading on
		{"n{r=\"a\"} 50\nn{r=\"b\"} 1010", 2},          //
		{"n{r=\"b\"} 1020\nn{r=\"c\"} 77", 1},          // and one that went does not count
		{"n{r=\"b\"} 1e16\nn{r=\"c\"} 77", 1e15 - 102}, // large numbers stay numbers
	} {
		s.show("# TYPE n counter\n" + c.text + "\n")
		s.expect(src, c.want)
	}
	// A rate over an outage is not the rate of now.
	s.show("n{r=\"b\"} rubbish\n")
	s.missing(src, "")
	s.show("n{r=\"b\"} 1e17\n")
	s.sparse(src)
	// No series is left of those before, or no time has passed.
	s.show("n{r=\"z\"} 5\n")
	s.sparse(src)
	s.pages.pages[request{src.cfg.Server, src.cfg.URL, false, src.cfg.MaxBody}].now = func() time.Time { return src.at }
	s.sparse(src)
}

func TestRateOfJSON(t *testing.T) {
	s := newSite(t, `{"done": 5}`)
	src := s.source(func(c *Config) { c.JSON, c.Rate = "/done", true })
	s.sparse(src)
	s.show(`{"done": 25}`)
	s.expect(src, 2)
}

func TestSamplesOfTheirOwnTime(t *testing.T) {
	s := newSite(t, "")
	src := s.source(func(c *Config) { c.Metric = "n" })
	at := func(age time.Duration) string {
		return fmt.Sprintf("n 5 %d\n", s.now.Add(10*time.Second-age).UnixMilli())
	}
	s.show(at(2 * time.Minute))
	s.expect(src, 5)
	s.show(at(2*time.Minute + time.Millisecond))
	r, err := s.read(src)
	if r.Quality != fleet.Stale || err == nil || !strings.Contains(err.Error(), "more than max_age (2m0s) ago") {
		t.Errorf("%+v, %v", r, err)
	}
	s.show("n 6\n")
	s.expect(src, 6)
}

func TestOneRequestATick(t *testing.T) {
	s := newSite(t, exposition)
	var wg sync.WaitGroup
	for _, code := range []string{"200", "500", "404", "301"} {
		src := s.source(func(c *Config) { c.Metric, c.Rate, c.Labels = "requests_total", true, map[string]string{"code": code} })
		wg.Go(func() { _, _ = src.Read(t.Context(), fleet.Scene{Now: s.now}) })
	}
	wg.Wait()
	if n := s.srv.Asked(); n != 1 {
		t.Errorf("asked %d times in one tick", n)
	}
	// Another page, another reader's limits: another request.
	s.expect(s.source(func(c *Config) { c.Metric, c.MaxBody = "active_mobile_sync_sessions", 1<<20 }), 17)
	if n := s.srv.Asked(); n != 2 {
		t.Errorf("asked %d times", n)
	}
	// Fleets that look one after the other share a page for a while, and nobody is shown the same one twice.
	sessions := func(c *Config) { c.Metric = "active_mobile_sync_sessions" }
	two := s.source(sessions)
	s.expect(s.source(sessions), 17)
	for range 2 {
		s.now = s.now.Add(still - 1)
		if r, err := two.Read(t.Context(), fleet.Scene{Now: s.now}); err != nil || r.Value != 17 {
			t.Errorf("%+v, %v", r, err)
		}
	}
	if n := s.srv.Asked(); n != 4 {
		t.Errorf("asked %d times", n)
	}
	// A failure holds for its tick, but not that a reader had to stop.
	src := s.source(func(c *Config) { c.Metric = "active_mobile_sync_sessions" })
	s.now = s.now.Add(time.Second)
	s.srv.Behave(httpgettest.Freeze)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := src.Read(ctx, fleet.Scene{Now: s.now}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	s.srv.Behave(nil)
	if r, err := src.Read(t.Context(), fleet.Scene{Now: s.now}); err != nil || r.Value != 17 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestFaults(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"metric": func(c *Config) { c.Metric = "n" },
		"json":   func(c *Config) { c.JSON = "/n" },
	} {
		t.Run(name, func(t *testing.T) {
			good := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_, _ = io.WriteString(w, map[string]string{"metric": "n 5\n", "json": `{"n": 5}`}[name])
			})
			httpgettest.Run(t, good, func(url string, server httpget.Config) httpgettest.Source {
				c := DefaultConfig()
				c.URL, c.Server = url, server
				change(&c)
				return new(Pages).Source(c)
			})
		})
	}
}

func TestConform(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"metric": func(c *Config) { c.Metric = "n" },
		"rate":   func(c *Config) { c.Metric, c.Rate = "n", true },
		"json":   func(c *Config) { c.JSON = "/n" },
	} {
		t.Run(name, func(t *testing.T) {
			observetest.Conform(t, func(t *testing.T) observetest.Subject {
				s, n := newSite(t, ""), 0
				return observetest.Subject{
					Source: s.source(change), Warm: 1,
					Tick: func(*testing.T) {
						n += 20
						s.now = s.now.Add(10 * time.Second)
						s.show(map[bool]string{false: fmt.Sprintf("n %d\n", n), true: fmt.Sprintf(`{"n": %d}`, n)}[name == "json"])
					},
					Plausible: func(v float64) bool { // within a tick the page is that of its first read
						return v == float64(n) || v == float64(n-20) || name == "rate" && v >= 0 && v <= 2
					},
					Break: func(*testing.T) { s.srv.Stop() },
					Mend:  func(*testing.T) { s.srv.Start() },
					Hang: func(*testing.T) func() {
						s.srv.Behave(httpgettest.Freeze)
						return func() { s.srv.Behave(nil) }
					},
					Close: s.srv.Stop,
				}
			})
		})
	}
}

func TestValidate(t *testing.T) {
	with := func(change func(*Config)) Config {
		c := DefaultConfig()
		c.URL, c.Metric = "http://host/metrics", "n"
		change(&c)
		return c
	}
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{with(func(*Config) {}), "<nil>"},
		{with(func(c *Config) { c.Metric, c.JSON = "", "/a~1b/0" }), "<nil>"},
		{with(func(c *Config) { c.URL = "" }), "url: is missing; write the address, such as http://127.0.0.1:9090"},
		{with(func(c *Config) { c.Metric = "" }), "metric: is missing; write the name of a metric, or json and where the number stands, such as /sessions/active"},
		{with(func(c *Config) { c.JSON = "/a" }), "json: is given beside metric; delete one of them"},
		{with(func(c *Config) { c.Metric = `n{a="b"}` }), `metric: "n{a=\"b\"}" is no name of a metric; write the name alone, and what stands in braces under labels`},
		{with(func(c *Config) { c.Metric, c.JSON = "", "a.b" }), `json: "a.b" does not begin with /; write a JSON Pointer, such as /queues/0/length`},
		{with(func(c *Config) { c.Metric, c.JSON = "", "/a~2" }), `json: "/a~2" has a ~ that is neither ~0 nor ~1; write a JSON Pointer, such as /queues/0/length`},
		{with(func(c *Config) { c.Metric, c.JSON, c.Labels = "", "/a", map[string]string{"b": "c"} }), "labels: choose among the series of a metric, and json has none; delete labels"},
		{with(func(c *Config) { c.Metric, c.JSON, c.Sum = "", "/a", true }), "sum: adds up the series of a metric, and json has none; delete sum"},
		{with(func(c *Config) { c.Labels = map[string]string{"a-b": "c"} }), "labels.a-b: is no name of a label; write it as it stands in the braces"},
		{with(func(c *Config) { c.MaxAge = 0 }), "max_age: 0s is out of range; write 1s to 24h"},
		{with(func(c *Config) { c.MaxBody = 1 << 30 }), "max_body: 1073741824 bytes is out of range; write 1KiB to 64MiB"},
	} {
		if got := fmt.Sprint(c.cfg.Validate()); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
	c := with(func(c *Config) { c.MeasuredIn = fleet.Seconds })
	if c.Unit() != fleet.Seconds || c.Distribution() || c.PerWorker() {
		t.Errorf("%+v", c)
	}
}
