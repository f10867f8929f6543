package plan

import (
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidemark/internal/config"
	"tidemark/internal/decide/policy"
	"tidemark/internal/fleet"
	"tidemark/internal/observe/procfs"
	"tidemark/internal/observe/proxystats"
	"tidemark/internal/record"
	"tidemark/internal/record/sqlite"
)

// observed is a fleet whose signals a plan can use, and one that it cannot.
func observed() *config.Fleet {
	f := &config.Fleet{Name: "odoo-workers", Policy: policy.Fleet{Name: "odoo-workers", Bounds: fleet.Bounds{Min: 2, Max: 12}}}
	for _, s := range []struct {
		name string
		body config.SignalBody
		q    float64
	}{
		{"rate", &proxystats.Config{Field: "rate"}, 0},
		{"service_p50", &proxystats.Config{Field: "service_time"}, 0.5},
		{"service_p95", &proxystats.Config{Field: "service_time"}, 0.95},
		{"service_p99", &proxystats.Config{Field: "service_time"}, 0.99},
		{"cpu", &procfs.Config{Field: "cpu"}, 0},
		{"memory", &procfs.Config{Field: "memory_pss"}, 0},
		{"queued", &proxystats.Config{Field: "queued"}, 0},
	} {
		f.Signals = append(f.Signals, config.Signal{Name: s.name, Adapter: config.Adapter{Body: s.body}})
		sig := policy.Signal{Name: s.name, Q: s.q}
		if s.q > 0 {
			sig.Statistic = policy.Quantile
		}
		f.Policy.Signals = append(f.Policy.Signals, sig)
	}
	return f
}

// kept leaves two days of readings in a journal: 4 workers at 30 requests/s, 6 at 45 for an hour of the first day. A request takes
// 80 ms lognormally with cv 1, 32 ms of which are CPU; a worker takes 90 MiB, and 100 in the busy hour. One reading in ten is missing.
func kept(t *testing.T) *sqlite.Journal {
	t.Helper()
	j, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "journal.db"), record.Retention{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	sigma := math.Sqrt(math.Log(2))
	quantile := func(q float64) float64 {
		return 0.08 * math.Exp(sigma*math.Sqrt2*math.Erfinv(2*q-1)-sigma*sigma/2)
	}
	var ticks []record.Tick
	for i := range 2 * 24 * 12 {
		at := time.Date(2027, 3, 1, 0, 5*i, 0, 0, time.UTC)
		rate, size, memory := 30., 4, 90.
		if i >= 120 && i < 132 {
			rate, size, memory = 45, 6, 100
		}
		tick := record.Tick{Fleet: "odoo-workers", Time: at, Size: fleet.Size{Known: true, Serving: size}}
		for name, v := range map[string]float64{
			"rate": rate, "service_p50": quantile(0.5), "service_p95": quantile(0.95), "service_p99": quantile(0.99),
			"cpu": 100 * rate * 0.032 / float64(size), "memory": memory * float64(size) * (1 << 20), "queued": 999,
		} {
			r := fleet.Reading{Value: v, Time: at, Quality: fleet.Fresh}
			if i%10 == 9 {
				r = fleet.Reading{Time: at} // missing is not 0
			}
			tick.Readings = append(tick.Readings, record.Sample{Signal: name, Reading: r})
		}
		ticks = append(ticks, tick)
	}
	if err := j.Commit(t.Context(), ticks...); err != nil {
		t.Fatal(err)
	}
	return j
}

// What a fleet measured is what its plan starts from, and the plan says so.
func TestMeasure(t *testing.T) {
	j, f := kept(t), observed()
	in, given := NewInput(), map[string]string{}
	in.Configured(&config.Config{File: "dfr.yaml", Instance: config.Instance{Name: "dfr-samoa", TimeZone: "Pacific/Apia", Targets: config.Targets{P95: 400 * time.Millisecond}}}, f, given)
	service, measured, err := in.Measure(t.Context(), j, f, given, time.Date(2027, 2, 1, 0, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	near := func(what string, got, want, tolerance float64) {
		t.Helper()
		if !(math.Abs(got/want-1) <= tolerance) {
			t.Errorf("%s is %g, want %g", what, got, want)
		}
	}
	near("peak", in.Load.Peak, 45, 0.001)
	near("service time", in.Request.Service.Seconds(), 0.08, 0.03)
	near("cv", in.Request.CV, 1, 0.1)
	near("CPU", in.Request.CPU.Seconds(), 0.032, 0.001)
	near("memory", float64(in.Worker.Memory), 100<<20, 0.001)
	if in.Name != "dfr-samoa" || in.TimeZone != "Pacific/Apia" || in.Fleet.Max != 12 || in.Objective.P95 != 400*time.Millisecond || in.Start.Format(time.DateOnly) != "2027-03-02" {
		t.Errorf("%q in %s, %+v, %+v, from %s", in.Name, in.TimeZone, in.Fleet, in.Objective, in.Start)
	}
	p, err := Make(&in, service, in.Figures(given, measured))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range p.Figures {
		var want Kind
		switch f.Name {
		case "load.peak", "request.service_time", "request.cv", "request.cpu", "worker.memory":
			want = Measured
		case "fleet", "objective.response_time_p95":
			want = Given
		default:
			if f.Kind == Measured || f.Kind == Given {
				t.Errorf("%+v", f)
			}
			continue
		}
		if f.Kind != want || want == Measured && !strings.HasSuffix(f.Source, "since 2027-03-01") {
			t.Errorf("%+v is not %s", f, want)
		}
	}
	if p.Needs[0].P95 > 0.4 || p.Peak != in.Load.Peak {
		t.Errorf("%+v", p.Needs[0])
	}
}

// What is given stands, whatever was measured; what was not measured stays assumed.
func TestMeasureTakesWhatIsNotGiven(t *testing.T) {
	j, f := kept(t), observed()
	in := NewInput()
	in.Load.Peak, in.Worker.Memory = 12, 200<<20
	given := map[string]string{"load.peak": "--peak", "worker.memory": "plan.yaml:3", "request.cv": "plan.yaml:9"}
	service, measured, err := in.Measure(t.Context(), j, f, given, time.Time{})
	if err != nil || service != nil || in.Load.Peak != 12 || in.Worker.Memory != 200<<20 || in.Request.Service != NewInput().Request.Service || !in.Start.Equal(NewInput().Start.Time) {
		t.Errorf("%v, %v, %+v", err, service, in)
	}
	if _, ok := measured["request.cpu"]; !ok || len(measured) != 1 {
		t.Errorf("%v", measured)
	}
	in = NewInput()
	f.Signals, f.Policy.Signals = f.Signals[6:], f.Policy.Signals[6:]
	if _, measured, err = in.Measure(t.Context(), j, f, map[string]string{}, time.Time{}); err != nil || len(measured) > 0 {
		t.Errorf("a fleet that measures nothing of use: %v, %v", measured, err)
	}
}
