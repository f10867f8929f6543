package sim

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"tidemark/internal/decide/engine"
	"tidemark/internal/decide/policy"
	"tidemark/internal/decide/queueing"
	"tidemark/internal/fleet"
	"tidemark/internal/foresee/load"
)

var monday = time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC)

// requirements are the CPU and latency policies as they are written, between 2 and 10 workers.
func requirements() (*policy.Fleet, []Probe) {
	p := &policy.Fleet{
		Name: "odoo-workers", Mode: fleet.On, Bounds: fleet.Bounds{Min: 2, Max: 10},
		Signals: []policy.Signal{
			{Name: "cpu", Unit: fleet.Percent, Statistic: policy.Avg, Period: time.Minute, Window: time.Minute, PerWorker: true},
			{Name: "sync_p95", Unit: fleet.Seconds, Statistic: policy.Quantile, Q: 0.95, FromSource: true, Period: time.Minute, Window: 5 * time.Minute, MinSamples: 50, PerWorker: true},
		},
		Policies: []policy.Policy{
			{ID: "odoo-worker-cpu-scaling-policy", Mode: fleet.On, Rules: []policy.Rule{
				{Signal: 0, Operator: fleet.AtLeast, Threshold: 70, Change: 1, N: 3, M: 2},
				{Signal: 0, Operator: fleet.AtMost, Threshold: 30, Change: -1, N: 5, M: 4},
			}},
			{ID: "odoo-worker-api-latency-scaling-policy", Mode: fleet.On, Rules: []policy.Rule{
				{Signal: 1, Operator: fleet.AtLeast, Threshold: 0.4, Change: 1, N: 2, M: 2},
			}},
		},
		Safeguards: policy.Safeguards{Pace: policy.Pace{CooldownUp: 300 * time.Second, CooldownDown: 600 * time.Second, StepUp: 1, StepDown: 1, RateCount: 1, RateWindow: 5 * time.Minute}, ActionLimit: 3 * time.Minute},
	}
	return p, []Probe{{Reads: Utilisation, Value: 1}, {Reads: ResponseTime, Quantile: 0.95, Window: 5 * time.Minute}}
}

func shape(t testing.TB, name string, over time.Duration, peak float64) *load.Series {
	t.Helper()
	s, err := load.Make(name, monday, over, peak)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func plan(t testing.TB, name string, over time.Duration, peak float64) Plan {
	p, probes := requirements()
	return Plan{Policy: p, Probes: probes, Load: shape(t, name, over, peak), Service: Lognormal(0.1, 1), Boot: 5 * time.Second, Tick: 15 * time.Second, Seed: 1}
}

func do(t testing.TB, p Plan) *Result {
	t.Helper()
	r, err := Run(p)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A fleet that nobody scales is a queue whose answer is known.
func TestFixedFleetIsAnErlangQueue(t *testing.T) {
	p := plan(t, "constant", 48*time.Hour, 32)
	p.Policy.Mode, p.Initial, p.Service = fleet.Off, 4, Exponential(0.1)
	utilisation, n := 0.0, 0
	p.Each = func(s *Sample) { utilisation += s.Utilisation; n++ }
	r := do(t, p)
	want := queueing.ErlangC(4, 3.2) * 0.1 / (4 - 3.2)
	t.Logf("mean wait %.4g s, exactly %.4g s; utilisation %.2f %%", r.Wait.Mean(), want, utilisation/float64(n))
	if math.Abs(r.Wait.Mean()/want-1) > 0.03 || math.Abs(utilisation/float64(n)-80) > 0.5 || math.Abs(r.WorkerHours-4*48) > 1e-6 {
		t.Errorf("mean wait %g s, utilisation %g %%, %g worker-hours", r.Wait.Mean(), utilisation/float64(n), r.WorkerHours)
	}
	if got := float64(r.Requests) / r.Duration.Seconds(); math.Abs(got-32) > 0.1 {
		t.Errorf("%g requests/s", got)
	}
}

// Those who wait are served in their order by whoever is there: a worker that comes later takes the oldest.
func TestNewWorkersServeTheQueue(t *testing.T) {
	p := plan(t, "constant", 10*time.Minute, 1)
	// Two workers, 30 requests/s of 0.1 s for a minute: 1 erlang too many. Then nothing.
	p.Load = &load.Series{Start: monday, Step: time.Minute, Rates: []float64{30, 30, 0, 0, 0, 0, 0, 0, 0, 0}}
	p.Service, p.Policy.Mode, p.Initial = Lognormal(0.1, 0), fleet.Off, 2
	two := do(t, p)
	p.Initial = 3
	three := do(t, p)
	// After 2 minutes 1,200 requests wait for two workers: the last waits a minute.
	if got := two.Wait.Quantile(1); math.Abs(got-60) > 4 || two.LongestQueue < 1100 || two.LongestQueue > 1300 {
		t.Errorf("the last waits %g s, %d wait at most; want 60 s and 1200", got, two.LongestQueue)
	}
	if got := three.Wait.Quantile(1); got > 10 {
		t.Errorf("with three workers the last waits %g s", got)
	}
	// A third worker that comes after a minute and a half halves nothing that is over, and everything that waits then.
	p.Initial, p.Policy.Mode = 2, fleet.On
	p.Policy.Bounds.Max = 3
	late := do(t, p)
	if got := late.Wait.Quantile(1); late.Up != 1 || got > 50 || got < 20 {
		t.Errorf("%d up, the last waits %g s", late.Up, got)
	}
}

// A reading looks back as far as its source does, be it one tick or several, as a real one does.
func TestReadingsLookBack(t *testing.T) {
	p := plan(t, "constant", 2*time.Minute, 1)
	// Nothing for a minute, then two requests a second, each of which keeps one of two workers busy for half a second.
	p.Load = &load.Series{Start: monday, Step: time.Minute, Rates: []float64{0, 2}}
	for i := range 120 {
		p.Load.Requests = append(p.Load.Requests, load.Request{At: uint32(60_000 + 500*i), Service: 0.5})
	}
	p.Policy.Signals = make([]policy.Signal, 4)
	p.Probes = []Probe{{Reads: ArrivalRate}, {Reads: ArrivalRate, Window: time.Minute}, {Reads: Utilisation, Value: 1}, {Reads: Utilisation, Value: 1, Window: time.Minute}}
	for i := range p.Policy.Policies {
		p.Policy.Policies[i].Rules = nil
	}
	var got [][4]float64
	p.Control = func(in *engine.Input) int {
		got = append(got, [4]float64{in.Readings[0].Value, in.Readings[1].Value, in.Readings[2].Value, in.Readings[3].Value})
		return 2
	}
	do(t, p)
	want := [][4]float64{{}, {}, {}, {}, {2, 0.5, 50, 12.5}, {2, 1, 50, 25}, {2, 1.5, 50, 37.5}, {2, 2, 50, 50}}
	if !slices.EqualFunc(got, want, func(a, b [4]float64) bool {
		for i := range a {
			if math.Abs(a[i]-b[i]) > 1e-6 {
				return false
			}
		}
		return true
	}) {
		t.Errorf("read %v, want %v", got, want)
	}
}

func TestDailyTide(t *testing.T) {
	p := plan(t, "daily", 3*24*time.Hour, 60)
	var changes []string
	p.Decided = func(d *fleet.Decision) { changes = append(changes, fmt.Sprint(d.From, "->", d.To)) }
	r := do(t, p)
	t.Logf("%d requests, %.1f worker-hours (mean %.2f), %d to %d workers, %d up, %d down, %.3f %% of %d minutes violate, p95 %.0f ms",
		r.Requests, r.WorkerHours, r.MeanSize(), r.Least, r.Most, r.Up, r.Down, r.ViolationShare(), r.Minutes, 1000*r.Response.Quantile(0.95))
	if r.Up < 6 || r.Down < 6 || r.Least != 2 || r.Most < 5 || len(changes) != r.Up+r.Down || r.WorkerHours < 2*72 {
		t.Errorf("%+v", changes)
	}
	again := do(t, p)
	if again.WorkerHours != r.WorkerHours || again.Response != r.Response || again.Violations != r.Violations {
		t.Error("the same seed gives another run")
	}
}

// The figure to print is requests/s of a whole closed loop at 10 workers.
func BenchmarkClosedLoop(b *testing.B) {
	p := plan(b, "constant", 24*time.Hour, 80)
	p.Initial, p.Policy.Bounds.Min = 10, 10
	requests := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		requests += do(b, p).Requests
	}
	b.ReportMetric(float64(requests)/b.Elapsed().Seconds()/1e6, "Mreq/s")
	b.ReportMetric(float64(requests)/float64(b.N), "req/op")
}
