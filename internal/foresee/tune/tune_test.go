package tune

import (
	"context"
	"encoding/json"
	"errors"
	"math"
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
	st := study(t, rules, 4, 11e6)
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
	if r.Simulated > st.Budget || len(r.Days) != 4 || len(r.Folds) != folds || r.Interrupted {
		t.Errorf("%g of %g simulated, %v, %d folds", r.Simulated, st.Budget, r.Days, len(r.Folds))
	}
	// What is held out adds up to all days, each of them judged by what was found without it.
	minutes, gains := 0.0, 0.0
	for i, f := range r.Folds {
		minutes += f.Found.Minutes.Mean
		gains += f.Gain / folds
		if f.Gain <= 0 || len(f.Changes) == 0 || r.Days[i].Fold != i+1 {
			t.Errorf("fold %d: %+v, %v", i+1, f, r.Days[i])
		}
	}
	if math.Abs(minutes-after.Minutes.Mean) > 1e-9 || math.Abs(gains-r.Gain.Mean) > 1e-9 || r.Gain.Low <= 0 {
		t.Errorf("%g minutes in all folds, %g held out; gain %+v, %g by the folds", minutes, after.Minutes.Mean, r.Gain, gains)
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
		if i > 0 && (p.Fresh.Cost.Mean < r.Front[i-1].Fresh.Cost.Mean || p.Fresh.Violations.Mean > r.Front[i-1].Fresh.Violations.Mean) {
			t.Errorf("the front turns at %d: %+v, %+v", i, r.Front[i-1].Fresh, p.Fresh)
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
	r := run(t, study(t, strings.Replace(rules, "{min: 2, max: 10}", "{min: 9, max: 10}", 1), 4, 11e6))
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
		st := study(t, rules, 4, 11e6)
		change(&st)
		if _, err := st.Run(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
	st := study(t, rules, 4, 11e6)
	st.Loads = study(t, rules, 1, 1).Loads
	if _, err := st.Run(t.Context()); !errors.Is(err, ErrTooShort) {
		t.Error(err)
	}
}

// Interrupted, it hands over the best so far, marked so.
func TestInterrupted(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	st := study(t, rules, 4, 11e6)
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

// Each day is held out once, what is trained on without it sees each day of the week, and of a long load all of it is seen.
func TestSplit(t *testing.T) {
	for _, c := range []struct {
		days, used, alike int // alike: neighbours that are of one fold
	}{{4, 4, 0}, {7, 7, 0}, {13, 13, 0}, {14, 14, 10}, {21, 21, 17}, {28, 28, 24}, {365, 28, 0}} {
		all, err := split(&load.Series{Step: time.Hour, Rates: make([]float64, c.days*24)})
		if err != nil || len(all) != c.used {
			t.Fatalf("%d days: %v, %v", c.days, all, err)
		}
		alike := 0
		for fold := range folds {
			week, held := map[time.Duration]bool{}, 0
			for i, d := range all {
				if i > 0 && d.from <= all[i-1].from || d.from+day > time.Duration(c.days)*day {
					t.Errorf("%d days: day %d begins at %v", c.days, i, d.from)
				}
				if d.fold != fold {
					week[d.from%(7*day)] = true
					continue
				}
				if held++; i > 0 && all[i-1].fold == fold {
					alike++
				}
			}
			if held < c.used/folds || held > c.used/folds+1 {
				t.Errorf("%d days: %d of %d are held out of fold %d", c.days, held, c.used, fold)
			}
			if c.days >= 14 && len(week) != 7 {
				t.Errorf("%d days: without fold %d, %d days of the week are seen", c.days, fold, len(week))
			}
		}
		if alike != c.alike {
			t.Errorf("%d days: %d neighbours are of one fold, want %d", c.days, alike, c.alike)
		}
		if last := all[len(all)-1].from; last < time.Duration(c.days)*day*9/10-day {
			t.Errorf("%d days: the last one begins at %v", c.days, last)
		}
	}
}

// What wins in one fold by chance, and loses in others, is not better: the gain must be larger than the folds differ.
func TestBetter(t *testing.T) {
	for _, c := range []struct {
		gains []float64
		want  bool
	}{
		{[]float64{0.30, 0.25, 0.35, 0.28}, true},
		{[]float64{0.90, -0.02, 0.01, -0.05}, false},   // one lucky fold
		{[]float64{0.009, 0.009, 0.009, 0.009}, false}, // not worth a change
		{[]float64{0, 0, 0, 0}, false},
	} {
		if got := better(foresee.Estimate(c.gains)); got != c.want {
			t.Errorf("%v: %v", c.gains, got)
		}
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

const objective = `tick: 60s
fleets:
  - name: web
    target: {process: {command: [serve, "{port}"], ports: {first: 9001, last: 9020}, health: {path: /}}}
    balancer: {proxy: {listen: "127.0.0.1:8080", max_in_flight: 1}}
    bounds: {min: 2, max: 16}
    signals:
      p95:  {proxy: {field: latency}, statistic: p95, window: 5m, min_samples: 50}
      rate: {proxy: {field: rate}, period: 60s}
      s50:  {proxy: {field: service_time}, statistic: p50, window: 5m}
      s95:  {proxy: {field: service_time}, statistic: p95, window: 5m}
    policies:
      - id: slo
        objective: {signal: p95, within: 330ms, drain: 10s, settle: 60m}  # too careful
        demand: {rate: rate, service_time: [s50, s95]}
`

// A whole search over an objective's own numbers finds that one need not be so careful.
func TestAnObjectiveIsTuned(t *testing.T) {
	st := study(t, objective, 4, 11e6)
	r := run(t, st)
	if r.Recommended == nil {
		t.Fatalf("nothing is recommended: gain %+v", r.Gain)
	}
	before, after := r.Present.HoldOut, r.Recommended.HoldOut
	t.Logf("%.2f x, %.3f %% -> %.2f x, %.3f %%; %d tried\n%s", before.Cost.Mean, before.Violations.Mean, after.Cost.Mean, after.Violations.Mean, r.Tried, r.Diff)
	if after.Cost.Mean > before.Cost.Mean-0.02 || after.Violations.Mean > before.Violations.Mean+0.2 {
		t.Errorf("before %+v, after %+v", before, after)
	}
	for _, c := range r.Recommended.Changes {
		if !strings.HasPrefix(c.Field, "fleets.0.policies.0.objective.") && !strings.HasSuffix(c.Field, ".period") {
			t.Errorf("%+v", c)
		}
	}
	if !strings.Contains(r.Diff, "+        objective: ") {
		t.Error(r.Diff)
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
	own := x.present()
	own[at[config.ScaleChange]] += 2       // +3
	own[at[config.DatapointsToAlarm]] += 2 // 4 of 3
	s := x.without(0)
	c := s.candidate(own)
	if c == nil {
		t.Fatal("the candidate is refused")
	}
	if r := c.policy.Policies[2].Rules[0]; r.Change != 3 || c.policy.StepUp != 3 || r.M != 4 || r.N != 4 {
		t.Errorf("%+v, step %d", r, c.policy.StepUp)
	}
	if s.candidate(own) != nil {
		t.Error("the same candidate twice")
	}
	late := x.present() // check would warn: five minutes pass before it scales out
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
	c := x.make(x.present())
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
		clear(x.made)
		at := x.present()
		at[0] = 0
		x.make(at)
	}
}
