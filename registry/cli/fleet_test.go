package cli

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"golang.org/x/sys/unix"
)

var patient = &http.Client{Timeout: ages, Transport: &http.Transport{DisableKeepAlives: true}}

// metricsURL is where the process says that its metrics are.
func (p *process) metricsURL() string {
	p.t.Helper()
	_, rest, ok := strings.Cut(p.text(), "GET /metrics and /healthz on ")
	if !ok {
		p.t.Fatal("it does not say where its metrics are")
	}
	address, _, _ := strings.Cut(rest, "\n")
	return "http://" + address
}

func (p *process) scrape() map[string]*dto.MetricFamily {
	p.t.Helper()
	resp, err := patient.Get(p.metricsURL() + "/metrics")
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return families
}

// figure is the sum of a metric's samples that have these labels' values.
func figure(families map[string]*dto.MetricFamily, name string, labels ...string) (sum int) {
	for _, m := range families[name].GetMetric() {
		has := func(value string) bool {
			return slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetValue() == value })
		}
		if !slices.ContainsFunc(labels, func(v string) bool { return !has(v) }) {
			sum += int(m.GetCounter().GetValue() + m.GetGauge().GetValue())
		}
	}
	return sum
}

const lookupRoute = "GET /api/farmer/lookup"

// Workers are killed in the middle of their work, and the fleet's count is the clients'. A request whose worker was killed
// may have been counted before its answer left, or not; who has an answer is in the count.
func TestTheFleetIsCountedWhole(t *testing.T) {
	const kills = 5
	p := start(t, "--db", makeDB(t), "--listen", "127.0.0.1:0", "--workers", "3", "--metrics", "127.0.0.1:0", "--think", "2ms")
	p.serving(3)
	var answered, failed atomic.Int64
	var enough atomic.Bool
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() {
			for !enough.Load() {
				if _, err := p.get(lookup); err != nil {
					failed.Add(1)
				} else {
					answered.Add(1)
				}
			}
		})
	}
	last := 0
	for range kills {
		victim := p.workers()[0]
		if err := unix.Kill(victim, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, "another worker", func() bool { return !slices.Contains(p.workers(), victim) })
		p.serving(3)
		now := figure(p.scrape(), "registry_requests_total")
		if now < last {
			t.Errorf("the total fell from %d to %d", last, now)
		}
		last = now
	}
	p.signal(unix.SIGTTOU) // and they come and go
	p.serving(2)
	p.signal(unix.SIGTTIN)
	p.serving(3)
	enough.Store(true)
	all.Wait()
	families := p.scrape()
	got, least := int64(figure(families, "registry_requests_total", lookupRoute, "2xx")), answered.Load()
	t.Logf("%d answers, %d requests cut off by %d kills; the fleet counted %d", least, failed.Load(), kills, got)
	if got < least || got > least+failed.Load() || failed.Load() > kills {
		t.Errorf("the fleet counted %d requests, its clients %d and %d failures", got, least, failed.Load())
	}
	if n := figure(families, "registry_requests_total"); int64(n) != got {
		t.Errorf("%d requests in all, of which %d lookups", n, got)
	}
	for name, want := range map[string]int{"registry_worker_deaths_total": kills, "registry_worker_starts_total": 3 + kills + 1, "registry_workers_wanted": 3, "registry_workers_recycled_total": 0} {
		if n := figure(families, name); n != want {
			t.Errorf("%s is %d, want %d", name, n, want)
		}
	}
	if n := families["registry_request_duration_seconds"].GetMetric()[0].GetHistogram().GetSampleCount(); n != uint64(got) {
		t.Errorf("the histogram has %d requests, want %d", n, got)
	}
}

// The master answers while every worker is stuck.
func TestAScrapeWaitsForNoWorker(t *testing.T) {
	p := start(t, "--db", makeDB(t), "--listen", "127.0.0.1:0", "--workers", "2", "--metrics", "127.0.0.1:0", "--think", "1h", "--grace", "100ms")
	p.serving(2)
	p.send()
	p.send()
	eventually(t, "both workers are busy", func() bool {
		families := p.scrape()
		return figure(families, "registry_workers", "busy") == 2 && figure(families, "registry_requests_in_progress") == 2
	})
	resp, err := patient.Get(p.metricsURL() + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("busy workers: %s", resp.Status)
	}
}

func TestMetricsOfASingleWorker(t *testing.T) {
	p := start(t, "--db", makeDB(t), "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0")
	for range 3 {
		if _, err := p.get(lookup); err != nil {
			t.Fatal(err)
		}
	}
	families := p.scrape()
	if n := figure(families, "registry_requests_total", lookupRoute, "2xx"); n != 3 {
		t.Errorf("%d requests, want 3", n)
	}
	if n := figure(families, "registry_workers_wanted"); n != 1 {
		t.Errorf("%d workers wanted", n)
	}
	p.signal(unix.SIGTERM)
	p.ends()
}

// What the database and the pools know is shown when they are there to ask.
func TestMetricsOfTheDatabase(t *testing.T) {
	p := start(t, "--db", makeDB(t), "--listen", "127.0.0.1:0", "--workers", "1", "--metrics", "127.0.0.1:0")
	p.serving(1)
	if _, err := p.get(lookup); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"active_mobile_sync_sessions", "registry_queue_runnable", "registry_queue_oldest_seconds", "registry_pool_open", "registry_pool_waits_total"} {
		eventually(t, name, func() bool { return p.scrape()[name] != nil })
	}
}

// Each flag reaches the one who keeps the limit.
func TestLimits(t *testing.T) {
	for _, c := range []struct {
		limit, said string
		args        []string
		lost        bool // the request that goes over it
	}{
		{"time_real", "than --limit-time-real allows and was killed", []string{"--limit-time-real", "500ms", "--think", "1h"}, true},
		{"time_cpu", "than --limit-time-cpu allows and was killed", []string{"--limit-time-cpu", "500ms", "--cpu", "1h"}, true},
		{"request", "has answered 5 requests (--limit-request)", []string{"--limit-request", "5"}, false},
		{"memory_soft", " MiB (--limit-memory-soft)", []string{"--limit-memory-soft", "1"}, false},
	} {
		t.Run(c.limit, func(t *testing.T) {
			p := start(t, append([]string{"--db", makeDB(t), "--listen", "127.0.0.1:0", "--workers", "2", "--metrics", "127.0.0.1:0"}, c.args...)...)
			p.serving(2)
			if c.lost {
				if worker, err := p.get(lookup); err == nil {
					t.Errorf("answered by %d", worker)
				}
			}
			stop := p.load(4, "/web/health")
			eventually(t, "it is told", func() bool { return strings.Contains(p.text(), c.said) })
			eventually(t, "it is counted and replaced", func() bool {
				families := p.scrape()
				return figure(families, "registry_workers_recycled_total", c.limit) >= 1 && figure(families, "registry_worker_starts_total") >= 3
			})
			t.Logf("%d other requests, none failed", stop())
			p.serving(2)
			if n, deaths := figure(p.scrape(), "registry_workers_recycled_total"), figure(p.scrape(), "registry_worker_deaths_total"); c.lost && (n != 1 || deaths != 1) || !c.lost && deaths != 0 {
				t.Errorf("%d limits, %d deaths", n, deaths)
			}
		})
	}
	p := start(t, "--db", makeDB(t), "--listen", "127.0.0.1:0", "--workers", "1", "--limit-memory-hard", "300")
	p.serving(1)
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", p.workers()[0]))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "Max address space") && strings.Fields(line)[3] == "unlimited" {
			t.Errorf("no --limit-memory-hard: %s", line)
		}
	}
	if _, err := p.get(lookup); err != nil {
		t.Errorf("within --limit-memory-hard 300: %v", err)
	}
}

func TestMaxQueueTime(t *testing.T) {
	p := start(t, "--db", makeDB(t), "--listen", "127.0.0.1:0", "--workers", "1", "--metrics", "127.0.0.1:0", "--max-queue-time", "1m")
	p.serving(1)
	for header, want := range map[string]int{
		fmt.Sprintf("t=%d.000", time.Now().Add(-2*time.Minute).Unix()): http.StatusServiceUnavailable,
		fmt.Sprintf("t=%d.000", time.Now().Unix()):                     http.StatusOK,
		"": http.StatusOK,
	} {
		conn, err := p.dial()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nX-Request-Start: %s\r\n\r\n", lookup, header)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != want || (resp.Header.Get("Retry-After") != "") != (want == http.StatusServiceUnavailable) {
			t.Errorf("%q: %s, Retry-After %q", header, resp.Status, resp.Header.Get("Retry-After"))
		}
		resp.Body.Close()
		conn.Close()
	}
	if n := figure(p.scrape(), "registry_requests_shed_total", "503"); n != 1 {
		t.Errorf("%d requests shed, want 1", n)
	}
}

func TestMistakesInServing(t *testing.T) {
	t.Setenv("GOMAXPROCS", "2") // that serve be not frugal with this process
	t.Setenv("GOMEMLIMIT", "1GiB")
	db := makeDB(t)
	for _, c := range []struct{ line, want string }{
		{"serve --db " + db + " --limit-request 5", "--limit-request needs --workers"},
		{"serve --db " + db + " --workers 2 --limit-request -5", "cannot be negative"},
		{"serve --db " + db + " --workers 2 --limit-memory-hard 9000000000000", "more than any machine has"},
		{"serve --db " + db + " --max-queue-time -1s", "cannot be negative"},
		{"serve --db " + db + " --listen 127.0.0.1:0 --metrics 8070", "write --metrics 127.0.0.1:8069"},
		{"serve --db " + db + " --listen 127.0.0.1:0 --workers 2 --metrics 8070", "write --metrics 127.0.0.1:8069"},
		{"serve --db postgres://registry:s3cret@127.0.0.1:1/none --listen 127.0.0.1:0", "registry"},
	} {
		code, stdout, stderr := run(strings.Fields(c.line)...)
		if code != 2 || stdout != "" || !strings.Contains(stderr, c.want) {
			t.Errorf("registry %s: exit %d\n%s%s\nwant %q", c.line, code, stdout, stderr, c.want)
		}
		if strings.Contains(stderr, "s3cret") {
			t.Errorf("registry %s: the password is shown\n%s", c.line, stderr)
		}
	}
	if got := redacted("postgres://registry:s3cret@127.0.0.1/registry"); strings.Contains(got, "s3cret") || !strings.Contains(got, "127.0.0.1/registry") {
		t.Errorf("the database is shown as %s", got)
	}
	if path := "/var/lib/registry/a b.db"; redacted(path) != path {
		t.Errorf("the database is shown as %s", redacted(path))
	}
}
