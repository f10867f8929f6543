package foresee

import (
	"math"
	"strings"
	"testing"
	"time"

	"tidemark/internal/config"
	"tidemark/internal/decide/policy"
	"tidemark/internal/fleet"
	"tidemark/internal/foresee/load"
	"tidemark/internal/foresee/sim"
	"tidemark/internal/observe/accesslog"
	"tidemark/internal/observe/procfs"
	"tidemark/internal/observe/proxystats"
)

// A signal that is not simulated reads what no rule takes exception to, whichever way its rules look.
func TestNeutral(t *testing.T) {
	rule := func(op fleet.Operator, threshold float64, change int) policy.Rule {
		return policy.Rule{Operator: op, Threshold: threshold, Change: change, N: 1, M: 1}
	}
	for name, rules := range map[string][]policy.Rule{
		"out and in":    {rule(fleet.AtLeast, 80, 1), rule(fleet.AtMost, 40, -1)},
		"out only":      {rule(fleet.Above, 5, 1)},
		"in only":       {rule(fleet.Below, 10, -1)},
		"idle, out":     {rule(fleet.AtMost, 2, 1), rule(fleet.AtLeast, 6, -1)},
		"idle, in only": {rule(fleet.Above, 0, -1)},
		"none":          nil,
	} {
		v := neutral(&policy.Fleet{Policies: []policy.Policy{{Rules: rules}}}, 0)
		for _, r := range rules {
			if r.Out() == r.Operator.Holds(v, r.Threshold) {
				t.Errorf("%s: at %g, %v %g (%+d) is %v", name, v, r.Operator, r.Threshold, r.Change, r.Operator.Holds(v, r.Threshold))
			}
		}
	}
}

// Nor does a guard hold or a budget refuse because of what is not simulated.
func TestNeutralForGuardsAndBudgets(t *testing.T) {
	p := &policy.Fleet{Bounds: fleet.Bounds{Min: 2, Max: 10}}
	p.Guards = []policy.Guard{
		{If: []policy.Condition{{Rule: policy.Rule{Signal: 0, Operator: fleet.AtLeast, Threshold: 5, N: 3, M: 1}, Release: 3}}},
		{If: []policy.Condition{{Rule: policy.Rule{Signal: 1, Operator: fleet.AtMost, Threshold: 4, N: 3, M: 1}, Release: 6}}},
	}
	p.Supplies = []policy.Supply{
		{Resource: policy.Connections, Free: []int{2}, Reserve: 5, PerWorker: 2},
		{Resource: policy.HostMemory, Free: []int{3}, Reserve: 512, Taken: 4},
	}
	if waiting, free := neutral(p, 0), neutral(p, 1); waiting >= 3 || free <= 6 {
		t.Errorf("guards would hold at %g and %g", waiting, free)
	}
	connections, memory, each := neutral(p, 2), neutral(p, 3), neutral(p, 4)/2
	if (connections-5)/2 < 8 || each <= 0 || (memory-512)/each < 8 {
		t.Errorf("eight more workers would not fit: connections %g, memory %g at %g a worker", connections, memory, each)
	}
}

func study(t *testing.T) Study {
	t.Helper()
	series, err := load.Make("registration-drive", time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC), 0, 60)
	if err != nil {
		t.Fatal(err)
	}
	cpu, p95, pool := procfs.DefaultConfig(), accesslog.DefaultConfig(), proxystats.Config{Field: "errors"}
	p95.Field = "latency"
	f := &config.Fleet{
		Name:    "odoo-workers",
		Signals: []config.Signal{{Name: "cpu", Adapter: config.Adapter{Kind: "procfs", Body: &cpu}}, {Name: "sync_p95", Adapter: config.Adapter{Kind: "access_log", Body: &p95}}, {Name: "errors", Adapter: config.Adapter{Kind: "proxy", Body: &pool}}},
		Policy: policy.Fleet{
			Name: "odoo-workers", Mode: fleet.On, Bounds: fleet.Bounds{Min: 2, Max: 10},
			Signals: []policy.Signal{
				{Name: "cpu", Unit: fleet.Percent, Period: time.Minute, Window: time.Minute, PerWorker: true},
				{Name: "sync_p95", Unit: fleet.Seconds, Statistic: policy.Quantile, Q: 0.95, FromSource: true, Period: time.Minute, Window: 5 * time.Minute, MinSamples: 50, PerWorker: true},
				{Name: "errors", Unit: fleet.Percent, Period: time.Minute, Window: time.Minute},
			},
			Policies: []policy.Policy{{ID: "cpu", Mode: fleet.On, Rules: []policy.Rule{
				{Signal: 0, Operator: fleet.AtLeast, Threshold: 70, Change: 1, N: 3, M: 2}, {Signal: 0, Operator: fleet.AtMost, Threshold: 30, Change: -1, N: 5, M: 4},
				{Signal: 1, Operator: fleet.AtLeast, Threshold: 0.4, Change: 1, N: 2, M: 2}, {Signal: 2, Operator: fleet.AtLeast, Threshold: 5, Change: 1, N: 2, M: 2},
			}}},
			Safeguards: policy.Safeguards{Pace: policy.Pace{CooldownUp: 300 * time.Second, CooldownDown: 600 * time.Second, StepUp: 1, StepDown: 1, RateCount: 1, RateWindow: 5 * time.Minute}, ActionLimit: 3 * time.Minute},
		},
	}
	return Study{
		Name: "a.yaml", Fleet: f, Tick: 15 * time.Second, Load: series, Seeds: 4,
		Work: Work{Service: 100 * time.Millisecond, CV: 1, CPU: 1, Boot: 2 * time.Second}, Objective: sim.DefaultObjective(),
	}
}

// The requirements' own policy cannot follow the requirements' own drive: one worker in five minutes is too slow for a spike, and
// the forecast says so.
func TestForecastOfADrive(t *testing.T) {
	st := study(t)
	done := 0
	st.Progress = func(int, int) { done++ }
	f, err := st.Run()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("violations %.1f %% (%.1f to %.1f), %d to %d workers, %d decisions", f.Violations.Mean, f.Violations.Low, f.Violations.High, f.Least, f.Most, len(f.Decisions))
	if f.Violations.Mean < 5 || f.Violations.Low > f.Violations.Mean || f.Most != 10 || f.Least != 2 || len(f.Decisions) < 8 || done != 4 {
		t.Errorf("%+v", f.Violations)
	}
	if len(f.Assumed) != 1 || f.Assumed[0].Signal != "errors" || !strings.Contains(f.Assumed[0].Text, "is not simulated") {
		t.Errorf("%+v", f.Assumed)
	}
	if n := len(f.Moments); n < 200 || n > rows+1 {
		t.Errorf("%d moments", n)
	}
	// With room for the peak from the start there is nothing to violate.
	st.Fleet.Policy.Bounds.Min = 10
	calm, err := st.Run()
	if err != nil {
		t.Fatal(err)
	}
	if calm.Violations.Mean > 0.5 || calm.WorkerHours.Mean <= f.WorkerHours.Mean {
		t.Errorf("%+v, %+v worker-hours", calm.Violations, calm.WorkerHours)
	}
	st.Work.Service = 0
	if _, err := st.Run(); err == nil {
		t.Error("a service of no time")
	}
}

func TestEstimate(t *testing.T) {
	f := Estimate([]float64{1, 2, 3, 4, 5})
	if half := 2.776 * math.Sqrt(2.5/5); f.Mean != 3 || math.Abs(f.High-3-half) > 1e-9 || math.Abs(3-f.Low-half) > 1e-9 {
		t.Errorf("%+v", f)
	}
	if f := Estimate([]float64{7}); f.Mean != 7 || f.Low != 7 || f.High != 7 {
		t.Errorf("%+v", f)
	}
}

// An objective meets the drive that the rules cannot follow: it is sized by the service times of the run, and may jump.
func TestForecastOfAnObjective(t *testing.T) {
	st := study(t)
	rules, err := st.Run()
	if err != nil {
		t.Fatal(err)
	}
	p := &st.Fleet.Policy
	for name, q := range map[string]float64{"rate": 0, "service_p50": 0.5, "service_p95": 0.95, "service_p99": 0.99, "queued": 0} {
		field := map[string]string{"rate": "rate", "queued": "queued"}[name]
		sig := policy.Signal{Name: name, Unit: fleet.Number, Period: 15 * time.Second, Window: 15 * time.Second}
		if q > 0 {
			field, sig = "service_time", policy.Signal{Name: name, Unit: fleet.Seconds, Statistic: policy.Quantile, Q: q, FromSource: true, Period: time.Minute, Window: 5 * time.Minute}
		}
		p.Signals = append(p.Signals, sig)
		st.Fleet.Signals = append(st.Fleet.Signals, config.Signal{Name: name, Adapter: config.Adapter{Kind: "proxy", Body: &proxystats.Config{Field: field}}})
	}
	at := func(name string) int {
		for i, s := range p.Signals {
			if s.Name == name {
				return i
			}
		}
		t.Fatal(name)
		return 0
	}
	p.Policies = []policy.Policy{{ID: "slo", Mode: fleet.On, SLO: &policy.SLO{
		Objective: 1, Within: 0.4, Rate: at("rate"), Service: []int{at("service_p50"), at("service_p95"), at("service_p99")}, Busy: -1, Backlog: at("queued"),
		Drain: 2 * time.Minute, Boot: 30 * time.Second, Settle: 5 * time.Minute,
	}}}
	p.StepUp = 4
	slo, err := st.Run()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("rules: %.1f %% of the minutes, %.1f worker-hours; objective: %.1f %%, %.1f", rules.Violations.Mean, rules.WorkerHours.Mean, slo.Violations.Mean, slo.WorkerHours.Mean)
	if slo.Violations.Mean > rules.Violations.Mean/2 || len(slo.Assumed) != 1 {
		t.Errorf("rules violate %.1f %% of the minutes, the objective %.1f %%; assumed: %v", rules.Violations.Mean, slo.Violations.Mean, slo.Assumed)
	}
}
