package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"pgregory.net/rapid"

	"tidemark/registry/prefork"
)

// slots is a fleet in this process: a worker's words, and whether it is there.
type slots struct {
	census prefork.Census
	words  [][]atomic.Uint64
	gone   map[int]bool
}

func newSlots(n int) *slots {
	s := &slots{gone: map[int]bool{}}
	for range n {
		s.words = append(s.words, make([]atomic.Uint64, Words))
	}
	return s
}

func (s *slots) Census() prefork.Census { return s.census }

func (s *slots) Counters() iter.Seq2[[]atomic.Uint64, bool] {
	return func(yield func([]atomic.Uint64, bool) bool) {
		for i, words := range s.words {
			if !yield(words, !s.gone[i]) {
				return
			}
		}
	}
}

type fataler interface {
	Helper()
	Fatalf(string, ...any)
}

// scrape returns a fleet's metrics as Prometheus's own parser reads them.
func scrape(t fataler, h http.Handler) map[string]*dto.MetricFamily {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain; version=0.0.4") {
		t.Fatalf("%d, %v\n%s", w.Code, w.Header(), w.Body)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(w.Body)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return families
}

// value returns one sample, by its labels' values in the order of their names, and whether it is there.
func value(families map[string]*dto.MetricFamily, name string, labels ...string) (float64, bool) {
	for _, m := range families[name].GetMetric() {
		var values []string
		for _, l := range m.GetLabel() {
			values = append(values, l.GetValue())
		}
		if slices.Equal(values, labels) {
			switch {
			case m.Counter != nil:
				return m.GetCounter().GetValue(), true
			case m.Gauge != nil:
				return m.GetGauge().GetValue(), true
			default:
				return float64(m.GetHistogram().GetSampleCount()), true
			}
		}
	}
	return 0, false
}

// mux answers with the status that the query says.
func mux() http.Handler {
	m := http.NewServeMux()
	answer := func(w http.ResponseWriter, r *http.Request) {
		var status int
		if _, err := fmt.Sscan(r.URL.Query().Get("status"), &status); err == nil {
			w.WriteHeader(status)
		}
		io.WriteString(w, "ok")
	}
	m.HandleFunc("GET /farmer/{uid}", answer)
	m.HandleFunc("POST /farmer", answer)
	return m
}

func ask(h http.Handler, method, path string) {
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(method, path, nil))
}

func TestScrape(t *testing.T) {
	fleet := newSlots(3)
	fleet.census = prefork.Census{Wanted: 2, Starting: 1, Idle: 2, Busy: 3, Leaving: 4, Starts: 20, Deaths: 5}
	for limit := range fleet.census.Struck {
		fleet.census.Struck[limit] = uint64(10 + limit)
	}
	for i, words := range fleet.words {
		r := NewRecorder(words)
		h := r.Wrap(mux())
		for range i + 1 {
			ask(h, "GET", fmt.Sprintf("/farmer/%d", i)) // one route, whatever the uid
		}
		ask(h, "POST", "/farmer?status=201")
		ask(h, "POST", "/farmer?status=429")
		ask(h, "POST", "/farmer?status=503")
		ask(h, "GET", "/nowhere?status=200")
		r.Busy(true)
		r.Busy(false)
		layOut(words).busy.Store(uint64(1500 * time.Millisecond))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		r.WatchPool(ctx, time.Hour, func() Pool { return Pool{Open: 2, InUse: 1, Waits: 7, Waited: time.Second} })
		layOut(words).inProgress.Store(1)
	}
	fleet.gone[1] = true
	families := scrape(t, Handler(fleet, func(context.Context) (Database, error) {
		return Database{ActiveSyncSessions: 50, QueueRunnable: 12, QueueOldest: 90 * time.Second}, nil
	}))
	for _, c := range []struct {
		want   float64
		name   string
		labels []string
	}{
		{6, "registry_requests_total", []string{"2xx", "GET /farmer/{uid}"}},
		{3, "registry_requests_total", []string{"2xx", "POST /farmer"}},
		{3, "registry_requests_total", []string{"4xx", "POST /farmer"}},
		{3, "registry_requests_total", []string{"5xx", "POST /farmer"}},
		{3, "registry_requests_total", []string{"4xx", "none"}},
		{6, "registry_request_duration_seconds", []string{"GET /farmer/{uid}"}},
		{9, "registry_request_duration_seconds", []string{"POST /farmer"}},
		{2, "registry_requests_in_progress", nil}, // the worker that is gone has none
		{3, "registry_requests_shed_total", []string{"429"}},
		{3, "registry_requests_shed_total", []string{"503"}},
		{1, "registry_workers", []string{"starting"}},
		{2, "registry_workers", []string{"idle"}},
		{3, "registry_workers", []string{"busy"}},
		{4, "registry_workers", []string{"leaving"}},
		{2, "registry_workers_wanted", nil},
		{4.5, "registry_worker_busy_seconds_total", nil},
		{20, "registry_worker_starts_total", nil},
		{5, "registry_worker_deaths_total", nil},
		{10, "registry_workers_recycled_total", []string{"memory_soft"}},
		{11, "registry_workers_recycled_total", []string{"memory_hard"}},
		{12, "registry_workers_recycled_total", []string{"time_real"}},
		{13, "registry_workers_recycled_total", []string{"time_cpu"}},
		{14, "registry_workers_recycled_total", []string{"request"}},
		{4, "registry_pool_open", nil},
		{2, "registry_pool_in_use", nil},
		{21, "registry_pool_waits_total", nil}, // what it counted remains
		{3, "registry_pool_wait_seconds_total", nil},
		{50, "active_mobile_sync_sessions", nil},
		{12, "registry_queue_runnable", nil},
		{90, "registry_queue_oldest_seconds", nil},
	} {
		if got, ok := value(families, c.name, c.labels...); !ok || got != c.want {
			t.Errorf("%s%v is %v (%v), want %v", c.name, c.labels, got, ok, c.want)
		}
	}

	// The package's description names each metric and its type, and no other.
	doc, err := os.ReadFile("metrics.go")
	if err != nil {
		t.Fatal(err)
	}
	described := map[string]string{}
	for line := range strings.Lines(string(doc)) {
		if text, ok := strings.CutPrefix(line, "//\t"); ok {
			words := strings.Fields(text)
			name, _, _ := strings.Cut(words[0], "{")
			described[name] = words[1]
		}
	}
	scraped := map[string]string{}
	for name, f := range families {
		scraped[name] = strings.ToLower(f.GetType().String())
		if f.GetHelp() == "" {
			t.Errorf("%s has no help", name)
		}
	}
	if !maps.Equal(described, scraped) {
		t.Errorf("described: %v\nscraped:   %v", described, scraped)
	}
}

func TestHistogram(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fleet := newSlots(1)
		m := http.NewServeMux()
		m.HandleFunc("GET /wait/{time}", func(_ http.ResponseWriter, r *http.Request) {
			d, err := time.ParseDuration(r.PathValue("time"))
			if err != nil {
				t.Error(err)
			}
			time.Sleep(d)
		})
		h := NewRecorder(fleet.words[0]).Wrap(m)
		for _, d := range []string{"0s", "50ms", "51ms", "400ms", "500ms", "120s", "121s"} {
			ask(h, "GET", "/wait/"+d)
		}
		families := scrape(t, Handler(fleet, nil))
		got := families["registry_request_duration_seconds"].GetMetric()[0].GetHistogram()
		if want := .05 + .051 + .4 + .5 + 120 + 121; got.GetSampleCount() != 7 || got.GetSampleSum() != want {
			t.Errorf("%d in %v s, want 7 in %v", got.GetSampleCount(), got.GetSampleSum(), want)
		}
		want := map[float64]uint64{.001: 1, .025: 1, .05: 2, .1: 3, .3: 3, .4: 4, .5: 5, 60: 5, 120: 6}
		for _, b := range got.GetBucket() {
			if n, ok := want[b.GetUpperBound()]; ok && n != b.GetCumulativeCount() {
				t.Errorf("%d within %v s, want %d", b.GetCumulativeCount(), b.GetUpperBound(), n)
			}
		}
		if n := len(got.GetBucket()); n != len(bounds)+1 {
			t.Errorf("%d buckets", n)
		}
	})
}

// Whatever workers come, count, die and are replaced: the fleet's counters are the sum of all that was counted.
func TestCountersAreMonotonic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type key struct{ code, route string }
		want := map[key]float64{}
		waits := uint64(0)
		fleet := newSlots(3)
		handler := Handler(fleet, nil)
		recorders := make([]*Recorder, len(fleet.words))
		check := func() {
			families := scrape(t, handler)
			for k, n := range want {
				if got, _ := value(families, "registry_requests_total", k.code, k.route); got != n {
					t.Fatalf("%v: %v, want %v", k, got, n)
				}
			}
			if got, ok := value(families, "registry_pool_waits_total"); ok && got != float64(waits) {
				t.Fatalf("%v waits, want %d", got, waits)
			}
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			slot := rapid.IntRange(0, len(recorders)-1).Draw(t, "slot")
			r := recorders[slot]
			switch rapid.SampledFrom([]string{"request", "request", "request", "pool", "replace", "die", "scrape"}).Draw(t, "step") {
			case "request":
				if r == nil {
					continue
				}
				route := rapid.SampledFrom([]string{"", "GET /a", "POST /a", "GET /b/{id}"}).Draw(t, "route")
				status := rapid.SampledFrom([]int{0, 200, 201, 304, 404, 429, 500, 503}).Draw(t, "status")
				r.count(route, status, time.Duration(rapid.IntRange(0, 200_000).Draw(t, "ms"))*time.Millisecond)
				k := key{fmt.Sprintf("%dxx", max(status, 200)/100), route}
				if route == "" {
					k.route = "none"
				}
				want[k]++
			case "pool":
				if r == nil {
					continue
				}
				n := uint64(rapid.IntRange(0, 9).Draw(t, "waits"))
				ctx, cancel := context.WithCancel(context.Background())
				cancel()
				r.WatchPool(ctx, time.Hour, func() Pool { return Pool{Waits: n} })
				waits += n
			case "replace":
				recorders[slot] = NewRecorder(fleet.words[slot])
				fleet.gone[slot] = false
			case "die":
				recorders[slot] = nil
				fleet.gone[slot] = true
			case "scrape":
				check()
			}
		}
		check()
	})
}

// More routes, or longer names, than there is room for are counted all the same.
func TestThereIsNoRouteTooMany(t *testing.T) {
	fleet := newSlots(2)
	long := "GET /" + strings.Repeat("x", 200)
	for _, words := range fleet.words {
		r := NewRecorder(words)
		r.count(long, 200, 0)
		for i := range 3 * maxRoutes {
			r.count(fmt.Sprint("GET /", i%(2*maxRoutes)), 200, 0)
		}
	}
	NewRecorder(fleet.words[0]).count("GET /late", 200, 0) // the next one in the slot
	families := scrape(t, Handler(fleet, nil))
	all := 0.0
	for _, m := range families["registry_requests_total"].GetMetric() {
		all += m.GetCounter().GetValue()
	}
	if want := float64(2*(1+3*maxRoutes) + 1); all != want {
		t.Errorf("%v requests, want %v", all, want)
	}
	if n := len(families["registry_requests_total"].GetMetric()); n != maxRoutes {
		t.Errorf("%d routes", n)
	}
	if n, ok := value(families, "registry_requests_total", "2xx", long[:maxName]); !ok || n != 2 {
		t.Errorf("the long name has %v", n)
	}
	if n, ok := value(families, "registry_requests_total", "2xx", "other"); !ok || n != 201 { // in each slot 98 of the first 192, 2 of the next 96; and the late one
		t.Errorf("the others have %v", n)
	}
}

func TestCountedWithoutAnAnswer(t *testing.T) {
	fleet := newSlots(1)
	m := http.NewServeMux()
	m.HandleFunc("GET /panics", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	m.HandleFunc("GET /breaks-off", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "half")
		panic(http.ErrAbortHandler)
	})
	m.HandleFunc("GET /hints", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusConflict)
		w.WriteHeader(http.StatusOK) // too late
	})
	m.HandleFunc("GET /streams", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "one line")
		w.(http.Flusher).Flush()
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
	})
	m.HandleFunc("GET /silent", func(http.ResponseWriter, *http.Request) {})
	h := NewRecorder(fleet.words[0]).Wrap(m)
	for _, path := range []string{"/panics", "/breaks-off", "/hints", "/streams", "/silent"} {
		func() {
			defer func() {
				if p := recover(); (p != nil) != (path == "/panics" || path == "/breaks-off") {
					t.Errorf("%s: panic %v", path, p)
				}
			}()
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
			if path == "/streams" && !w.Flushed {
				t.Error("not flushed")
			}
		}()
	}
	families := scrape(t, Handler(fleet, nil))
	for route, code := range map[string]string{"GET /panics": "5xx", "GET /breaks-off": "5xx", "GET /hints": "4xx", "GET /streams": "2xx", "GET /silent": "2xx"} {
		if n, _ := value(families, "registry_requests_total", code, route); n != 1 {
			t.Errorf("%s was not counted as %s", route, code)
		}
	}
	if n, ok := value(families, "registry_requests_in_progress"); !ok || n != 0 {
		t.Errorf("%v in progress", n)
	}
}

// Counters may be read and written at once; the race detector watches.
func TestReadWhileWritten(t *testing.T) {
	fleet := newSlots(1)
	h := NewRecorder(fleet.words[0]).Wrap(mux())
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for n := range 200 {
				ask(h, "GET", fmt.Sprintf("/farmer/%d?status=%d", n, 200+100*i))
			}
		})
	}
	handler := Handler(fleet, nil)
	last := 0.0
	for range 20 {
		now, _ := value(scrape(t, handler), "registry_request_duration_seconds", "GET /farmer/{uid}")
		if now < last {
			t.Errorf("%v after %v", now, last)
		}
		last = now
	}
	all.Wait()
	if n, _ := value(scrape(t, handler), "registry_request_duration_seconds", "GET /farmer/{uid}"); n != 800 {
		t.Errorf("%v requests", n)
	}
}

// What the database does not say is absent, and the rest is there in time.
func TestWithoutTheDatabase(t *testing.T) {
	for name, ask := range map[string]func(context.Context) (Database, error){
		"there is none":     nil,
		"it is away":        func(context.Context) (Database, error) { return Database{}, errors.New("connection refused") },
		"it does not reply": func(ctx context.Context) (Database, error) { <-ctx.Done(); return Database{}, ctx.Err() },
		"it heeds nothing":  func(context.Context) (Database, error) { time.Sleep(time.Hour); return Database{}, nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				handler := Handler(newSlots(1), ask)
				begin := time.Now()
				for range 3 {
					families := scrape(t, handler)
					for _, absent := range []string{"active_mobile_sync_sessions", "registry_queue_runnable", "registry_queue_oldest_seconds", "registry_pool_open", "registry_pool_waits_total"} {
						if families[absent] != nil {
							t.Errorf("%s is shown", absent)
						}
					}
					if _, ok := value(families, "registry_workers_wanted"); !ok {
						t.Error("the rest is missing")
					}
				}
				if took := time.Since(begin); took > 3*patience {
					t.Errorf("three scrapes took %v", took)
				}
				time.Sleep(2 * time.Hour) // for the question that heeds nothing
			})
		})
	}
}

// A database that was slow is asked again.
func TestTheDatabaseComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := true
		handler := Handler(newSlots(1), func(context.Context) (Database, error) {
			if slow {
				slow = false
				time.Sleep(3 * patience)
			}
			return Database{QueueRunnable: 4}, nil
		})
		for range 3 {
			scrape(t, handler)
		}
		if n, ok := value(scrape(t, handler), "registry_queue_runnable"); !ok || n != 4 {
			t.Errorf("%v, %v", n, ok)
		}
	})
}

func TestHealthz(t *testing.T) {
	for _, c := range []struct {
		census prefork.Census
		status int
		body   string
	}{
		{prefork.Census{Wanted: 4, Idle: 1, Busy: 2, Starting: 1, Leaving: 5}, http.StatusOK, `{"workers_wanted":4,"workers_serving":3,"workers_starting":1,"workers_leaving":5}`},
		{prefork.Census{Wanted: 2, Starting: 2}, http.StatusServiceUnavailable, `"workers_serving":0`},
		{prefork.Census{Wanted: 1, Busy: 1}, http.StatusOK, `"workers_serving":1`},
	} {
		w := httptest.NewRecorder()
		Handler(&slots{census: c.census}, nil).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/healthz", nil))
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.body) {
			t.Errorf("%+v: %d %s", c.census, w.Code, w.Body)
		}
	}
}

func TestSingle(t *testing.T) {
	var s Single
	h := NewRecorder(s.Words()).Wrap(mux())
	ask(h, "GET", "/farmer/1")
	s.Busy(true)
	families := scrape(t, Handler(&s, nil))
	for name, labels := range map[string][]string{"registry_requests_total": {"2xx", "GET /farmer/{uid}"}, "registry_workers": {"busy"}, "registry_workers_wanted": nil} {
		if n, _ := value(families, name, labels...); n != 1 {
			t.Errorf("%s is %v", name, n)
		}
	}
	s.Busy(false)
	if c := s.Census(); c.Serving() != 1 || c.Idle != 1 {
		t.Errorf("%+v", c)
	}
}

func BenchmarkWrap(b *testing.B) {
	h := NewRecorder(make([]atomic.Uint64, Words)).Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil)
	r.Pattern = "GET /{$}"
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(w, r)
	}
}

// BenchmarkScrape is of ten workers with twenty routes each.
func BenchmarkScrape(b *testing.B) {
	fleet := newSlots(10)
	for _, words := range fleet.words {
		r := NewRecorder(words)
		for i := range 20 {
			r.count(fmt.Sprint("GET /", i), 200, time.Millisecond)
		}
	}
	h := Handler(fleet, nil)
	for b.Loop() {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/metrics", nil))
	}
}
