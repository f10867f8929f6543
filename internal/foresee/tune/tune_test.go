package tune

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"tidemark/internal/act/process"
	"tidemark/internal/act/proxy"
	"tidemark/internal/config"
	"tidemark/internal/fleet"
	"tidemark/internal/foresee"
	"tidemark/internal/foresee/load"
	"tidemark/internal/foresee/measure"
	"tidemark/internal/foresee/sim"
	"tidemark/internal/observe/proxystats"
)

const rules = `# The registry. Do not touch the bounds: see ticket 4711.
tick: 60s
fleets:
  - name: web
    target: {process: {command: [serve, "{port}"], ports: {first: 9001, last: 9020}, health: {path: /}}}
    balancer: {proxy: {listen: "127.0.0.1:8080"}}
    bounds: {min: 2, max: 10}   # as agreed
    signals:
      busy:    {proxy: {field: busy}}
      p95:     {proxy: {field: latency}, statistic: p95, window: 5m, min_samples: 50}
      errors:  {proxy: {field: errors}}
    policies:
      - id: cpu
        rules:
          - {signal: busy, operator: ">=", threshold: 90%, scale_change: +1, evaluation_periods: 5, datapoints_to_alarm: 4}  # late
          - {signal: busy, operator: "<=", threshold: 20%, scale_change: -1, evaluation_periods: 10, datapoints_to_alarm: 8}
      - {id: errors, rules: [{signal: errors, operator: ">=", threshold: 5%, scale_change: +1}]}
    safeguards:
      cooldown: {scale_up: 300s, scale_down: 900s}
      step: {up: 1, down: 1}
      max_scaling_rate: 1 per 5m
`

func catalog() config.Catalog {
	return config.Catalog{
		Signals:   map[string]func() config.SignalBody{"proxy": func() config.SignalBody { return new(proxystats.Config) }},
		Targets:   map[string]func() config.Body{"process": func() config.Body { c := process.DefaultConfig(); return &c }},
		Balancers: map[string]func() config.Body{"proxy": func() config.Body { c := proxy.DefaultConfig(); return &c }},
	}
}

func parse(data []byte) (*config.Config, config.Problems) {
	return config.Parse("web.yaml", data, catalog(), func(string) (string, bool) { return "", false })
}

func study(t testing.TB, text string, days float64, budget float64) Study {
	t.Helper()
	s, err := load.Make("daily", time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC), time.Duration(days*float64(day)), 60)
	if err != nil {
		t.Fatal(err)
	}
	return Study{
		Name: "web.yaml", Data: []byte(text), Parse: parse, Loads: []Load{{s, foresee.Work{Service: 100 * time.Millisecond, CV: 1, CPU: 1, Boot: 5 * time.Second}}},
		Objective: sim.DefaultObjective(), Allowed: 0.1, Level: sim.Fluid, Seeds: 2, Seed: 1, Budget: budget,
	}
}

func run(t *testing.T, st Study) *Result {
	t.Helper()
	r, err := st.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A policy that reacts late is mended in the operator's own file, and it holds on days and under seeds that the search never saw.
func TestALatePolicyIsMended(t *testing.T) {
	st := study(t, rules, 4, 9e6)
	cores = func() int { return 1 }
	r := run(t, st)
	if r.Recommended == nil {
		t.Fatalf("nothing is recommended: %+v", r)
	}
	before, after := r.Present.HoldOut, r.Recommended.HoldOut
	t.Logf("%.2f x, %.3f %% -> %.2f x, %.3f %%; %d tried, %.3g simulated\n%s", before.Cost.Mean, before.Violations.Mean, after.Cost.Mean, after.Violations.Mean, r.Tried, r.Simulated, r.Diff)
	if before.Violations.Mean < 1 || after.Violations.Mean > 0.5 || after.Violations.Mean > before.Violations.Mean/4 || after.Cost.Low < 0.9 {
		t.Errorf("before %+v, after %+v", before, after)
	}
	if r.Simulated > st.Budget || len(r.Train) != 2 || len(r.HoldOut) != 2 || r.Interrupted {
		t.Errorf("%g of %g simulated, %v, %v", r.Simulated, st.Budget, r.Train, r.HoldOut)
	}
	for _, d := range r.Train {
		if slices.Contains(r.HoldOut, d) {
			t.Errorf("%v is trained on and held out", d)
		}
	}
	for _, c := range r.Recommended.Changes {
		if c.Reason == "" || c.From == c.To || strings.Contains(c.Field, "policies.1") || strings.Contains(c.Field, "bounds") {
			t.Errorf("%+v", c)
		}
	}
	if _, problems := parse([]byte(apply(t, rules, r.Diff))); problems.Failed() {
		t.Error(problems)
	}
	for i, p := range r.Front {
		if i > 0 && (p.HoldOut.Cost.Mean < r.Front[i-1].HoldOut.Cost.Mean || p.HoldOut.Violations.Mean > r.Front[i-1].HoldOut.Violations.Mean) {
			t.Errorf("the front turns at %d: %+v, %+v", i, r.Front[i-1].HoldOut, p.HoldOut)
		}
	}
	// With the same seed it recommends the same, to the byte, however many cores do the work.
	cores = func() int { return 5 }
	defer func() { cores = runtime.NumCPU }()
	one, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	five, err := json.Marshal(run(t, st))
	if err != nil || string(one) != string(five) {
		t.Errorf("%v\n%s\nwith five cores:\n%s", err, one, five)
	}
}

// apply applies a unified diff by its own words.
func apply(t *testing.T, text, diff string) string {
	t.Helper()
	name, err := exec.LookPath("patch")
	if err != nil {
		return byHand(t, text, diff)
	}
	file := filepath.Join(t.TempDir(), "web.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(name, "--fuzz=0", file)
	cmd.Stdin = strings.NewReader(diff)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("patch: %v: %s\n%s", err, out, diff)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func byHand(t *testing.T, text, diff string) string {
	t.Helper()
	var minus []string
	for l := range strings.Lines(diff) {
		switch {
		case strings.HasPrefix(l, "---"), strings.HasPrefix(l, "+++"):
		case l[0] == '-':
			minus = append(minus, l[1:])
		case l[0] == '+':
			if strings.Count(text, minus[0]) != 1 {
				t.Fatalf("%q is not in the file once", minus[0])
			}
			text, minus = strings.Replace(text, minus[0], l[1:], 1), minus[1:]
		}
	}
	return text
}

// Where a fleet cannot be sized otherwise, there is nothing to gain, and nothing is recommended.
func TestNothingToGain(t *testing.T) {
	r := run(t, study(t, strings.Replace(rules, "{min: 2, max: 10}", "{min: 9, max: 10}", 1), 4, 6e6))
	if r.Recommended != nil || r.Diff != "" || len(r.Front) == 0 || r.Present.HoldOut == nil {
		t.Errorf("%+v", r.Recommended)
	}
}

func TestRefusals(t *testing.T) {
	for want, change := range map[string]func(*Study){
		"days at least": func(s *Study) { s.Loads = study(t, rules, 3.9, 1).Loads },
		"--budget":      func(s *Study) { s.Budget = 1e5 },
		"stands in the file": func(s *Study) {
			s.Data = []byte(rules[:strings.Index(rules, "    policies:")] + "    policies: [{id: e, rules: [{signal: errors, operator: '>=', threshold: 5%, scale_change: +1}]}]\n")
		},
		"has no fleet":     func(s *Study) { s.Fleet = "none" },
		"must be positive": func(s *Study) { s.Loads[0].Work.Service = 0 },
	} {
		st := study(t, rules, 4, 6e6)
		change(&st)
		if _, err := st.Run(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
	st := study(t, rules, 4, 6e6)
	st.Loads = study(t, rules, 1, 1).Loads
	if _, err := st.Run(t.Context()); !errors.Is(err, ErrTooShort) {
		t.Error(err)
	}
}

// Interrupted, it hands over the best so far, marked so.
func TestInterrupted(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	st := study(t, rules, 4, 6e6)
	st.Progress = func(p Progress) {
		if p.Done > 0.6 {
			stop()
		}
	}
	r, err := st.Run(ctx)
	if err != nil || !r.Interrupted || r.Recommended == nil || r.Recommended.HoldOut != nil || r.Diff == "" {
		t.Errorf("%v, %+v", err, r)
	}
	stop()
	if r, err = st.Run(ctx); err != nil || !r.Interrupted || r.Recommended != nil {
		t.Errorf("%v, %+v", err, r)
	}
}

// Both halves see each day of the week, and of a long load all of it.
func TestSplit(t *testing.T) {
	train, hold, err := split(&load.Series{Step: time.Hour, Rates: make([]float64, 14*24)})
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range [][]time.Duration{train, hold} {
		week := map[time.Duration]bool{}
		for _, d := range part {
			week[d%(7*day)] = true
		}
		if len(week) != 7 {
			t.Errorf("%v sees %d days of the week", part, len(week))
		}
	}
	train, hold, err = split(&load.Series{Step: time.Hour, Rates: make([]float64, 365*24)})
	if err != nil || len(train) != mostOf || len(hold) != mostOf || hold[mostOf-1] < 300*day {
		t.Errorf("%v: %v, %v", err, train, hold)
	}
	if train, hold, err = split(&load.Series{Step: time.Hour, Rates: make([]float64, 5*24)}); err != nil || len(train) != 3 || len(hold) != 2 {
		t.Errorf("%v: %v, %v", err, train, hold)
	}
}

// A candidate that wins by chance is not better: the gain must show in every seed.
func TestReally(t *testing.T) {
	x := &search{Study: &Study{Allowed: 0.1}, out: &Result{Seeds: 4}}
	own, lucky, good := &candidate{}, &candidate{}, &candidate{}
	for s := range 4 {
		x.hold = append(x.hold, trial{seed: s, bound: 100})
		own.hold = append(own.hold, outcome{hours: 120, minutes: 1440})
		lucky.hold = append(lucky.hold, outcome{hours: []float64{90, 125, 124, 119}[s], minutes: 1440})
		good.hold = append(good.hold, outcome{hours: 115 + float64(s)/10, minutes: 1440})
	}
	if x.really(own, lucky) || !x.really(own, good) || x.really(own, own) {
		t.Error(x.really(own, lucky), x.really(own, good), x.really(own, own))
	}
}

func TestDiff(t *testing.T) {
	before := "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk\nl\nm"
	after := strings.NewReplacer("b", "B", "c", "C", "m", "M").Replace(before)
	want := `--- f
+++ f
@@ -1,6 +1,6 @@
 a
-b
-c
+B
+C
 d
 e
 f
@@ -10,4 +10,4 @@
 j
 k
 l
-m
\ No newline at end of file
+M
\ No newline at end of file
`
	if got := diff("f", []byte(before), []byte(after)); got != want {
		t.Errorf("%s", got)
	}
	if got := diff("f", []byte(before), []byte(before)); got != "" {
		t.Errorf("%s", got)
	}
}

// An objective is tuned by its own numbers, rules that do nothing are not, and what one setting needs of another goes with it.
func TestDimensions(t *testing.T) {
	text := rules[:strings.Index(rules, "    policies:")] + `      rate: {proxy: {field: rate}, period: 60s}
      s50: {proxy: {field: service_time}, statistic: p50, window: 5m}
      s95: {proxy: {field: service_time}, statistic: p95, window: 5m}
    policies:
      - {id: slo, objective: {signal: p95, within: 400ms, drain: 1m, settle: 10m}, demand: {rate: rate, service_time: [s50, s95]}}
      - {id: idle, mode: shadow, rules: [{signal: busy, operator: ">=", threshold: 80%, scale_change: +1}]}
      - {id: busy, rules: [{signal: busy, operator: ">=", threshold: 80%, scale_change: +1, evaluation_periods: 3, datapoints_to_alarm: 2}]}
    safeguards: {step: {up: 1}}
`
	st := study(t, text, 4, 1e9)
	x, err := st.prepare()
	if err != nil {
		t.Fatal(err)
	}
	at := map[config.SettingKind]int{}
	for i, d := range x.dims {
		at[d.Kind] = i
		if d.values[d.now] != d.Value || !slices.IsSorted(d.values) || strings.Contains(d.Path, "policies.1") {
			t.Errorf("%s: %v, %d", d.Path, d.values, d.now)
		}
	}
	for _, k := range []config.SettingKind{config.Within, config.Drain, config.Settle, config.Threshold, config.EvaluationPeriods, config.DatapointsToAlarm, config.ScaleChange, config.StepUp, config.Period} {
		if _, ok := at[k]; !ok {
			t.Errorf("%s is not tuned", k)
		}
	}
	own := x.own()
	own[at[config.ScaleChange]] += 2       // +3
	own[at[config.DatapointsToAlarm]] += 2 // 4 of 3
	c := x.make(own)
	if c == nil {
		t.Fatal("the candidate is refused")
	}
	if r := c.policy.Policies[2].Rules[0]; r.Change != 3 || c.policy.StepUp != 3 || r.M != 4 || r.N != 4 {
		t.Errorf("%+v, step %d", r, c.policy.StepUp)
	}
	if x.make(own) != nil {
		t.Error("the same candidate twice")
	}
	late := x.own() // check would warn: five minutes pass before it scales out
	late[at[config.DatapointsToAlarm]] += 3
	if x.make(late) != nil {
		t.Error("a candidate that is warned about where the operator's policy is not")
	}
}

// Judge sees a fleet that is too small for what it is, and does not judge what only warms up.
func TestJudge(t *testing.T) {
	st := study(t, rules, 4, 1)
	if _, err := st.prepare(); err == nil {
		t.Fatal("a budget of one request is enough")
	}
	st.Budget = 1e9
	x, err := st.prepare()
	if err != nil {
		t.Fatal(err)
	}
	c := x.make(x.own())
	var s measure.Score
	for i := range x.train {
		k := &x.train[i]
		p := k.plan
		p.Policy, p.Probes = c.policy, c.probes[0]
		if s, err = foresee.Judge(p, k.need, k.step, k.lead); err != nil {
			t.Fatal(err)
		}
		if s.Duration != day || s.Minutes > 1440 || k.bound > s.WorkerHours*1.3 || k.bound < 24*2 {
			t.Errorf("%s judged, %d minutes, %g worker-hours, the clairvoyant's %g", fleet.Elapsed(s.Duration), s.Minutes, s.WorkerHours, k.bound)
		}
	}
}

// The figure to print is candidates/s: to build one from the operator's bytes and read it again.
func BenchmarkMake(b *testing.B) {
	st := study(b, rules, 4, 1e9)
	x, err := st.prepare()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		clear(x.seen)
		at := x.own()
		at[0] = 0
		x.make(at)
	}
}
