// Package verdict judges runs of a load test: each criterion is passed, passed within its variation, failed or undecided, by intervals and
// not by single figures. It is pure: outcomes in, a verdict out, the same for the same. Whoever plays the load or reads another tool's
// results makes the outcomes; package show writes the verdict down.
package verdict

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/prove/outcome"
)

// Status is what came of a criterion, or of the whole.
type Status string

const (
	Passed    Status = "passed"
	Within    Status = "passed_within_variation" // the limit is missed, by no more than is tolerated
	Unneeded  Status = "not_exercised"           // nothing happened that could be judged, and nothing had to: it does not count
	Undecided Status = "undecided"               // the measurements allow either answer, or there are none
	Failed    Status = "failed"
	Invalid   Status = "invalid" // a run was cut, or its generator was the limit
)

// severity orders them: the whole is as bad as its worst part. What failed has failed, whatever else could not be told.
var severity = []Status{Unneeded, Passed, Within, Undecided, Failed, Invalid}

func worse(a, b Status) Status {
	if slices.Index(severity, b) > slices.Index(severity, a) {
		return b
	}
	return a
}

// Verdict is what runs of one scenario prove.
type Verdict struct {
	Status   Status   `json:"status"`
	Invalid  []string `json:"invalid,omitempty"` // why the runs, or some, are not to be believed
	Runs     int      `json:"runs"`
	Criteria []Result `json:"criteria"`
	// Of a verdict that did not pass: what was short, with the evidence, most telling first; and what to do about it.
	Bottlenecks []Bottleneck `json:"bottlenecks,omitempty"`
	Actions     []string     `json:"actions,omitempty"`
}

// Code is the exit code: 0 passed, 1 failed, 2 undecided, 3 invalid. Elsewhere 2 says that something could not be done; here a script must tell
// "play it longer" from "it was not played".
func (v *Verdict) Code() int {
	return map[Status]int{Passed: 0, Within: 0, Failed: 1, Undecided: 2, Invalid: 3}[v.Status]
}

// Result is one criterion judged.
type Result struct {
	outcome.Criterion
	Status  Status     `json:"status"`
	Unit    fleet.Unit `json:"unit"`
	AtLeast bool       `json:"at_least,omitempty"` // the figure must be at least the limit
	Figure  *Interval  `json:"figure,omitempty"`   // of all runs
	PerRun  []Interval `json:"per_run,omitempty"`
	Samples int        `json:"samples,omitempty"` // of all runs
	Why     string     `json:"why,omitempty"`
	// Against an earlier set of runs; Status takes it into account.
	Baseline *Baseline `json:"baseline,omitempty"`
}

// Baseline compares with an earlier set of runs.
type Baseline struct {
	Status Status  `json:"status"`
	Median float64 `json:"median"` // of the earlier runs' figures
	Runs   int     `json:"runs"`
	Shift  Shift   `json:"shift"`
	Why    string  `json:"why,omitempty"`
}

type bound float64

// MarshalJSON writes what is not known as null; JSON has no infinity.
func (b bound) MarshalJSON() ([]byte, error) {
	if v := float64(b); math.IsInf(v, 0) || math.IsNaN(v) {
		return []byte("null"), nil
	}
	return json.Marshal(float64(b))
}

// MarshalJSON writes a bound that is not known as null.
func (i Interval) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Value bound `json:"value"`
		Low   bound `json:"low"`
		High  bound `json:"high"`
	}{bound(i.Value), bound(i.Low), bound(i.High)})
}

// MarshalJSON writes a bound that is not known as null.
func (s Shift) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Value      bound   `json:"value"`
		Low        bound   `json:"low"`
		High       bound   `json:"high"`
		Confidence float64 `json:"confidence"`
		P          float64 `json:"p"`
		Least      float64 `json:"least_p"`
	}{bound(s.Value), bound(s.Low), bound(s.High), s.Confidence, s.P, s.Least})
}

// Judge says what runs of one scenario prove of the criteria. With a baseline, earlier runs of the same, the figures are held to it as well.
func Judge(runs []*outcome.Run, criteria []outcome.Criterion, baseline []*outcome.Run) *Verdict {
	v := &Verdict{Runs: len(runs), Status: Unneeded}
	for i, run := range runs {
		for _, why := range invalid(run) {
			if len(runs) > 1 {
				why = fmt.Sprintf("run %d: %s", i+1, why)
			}
			v.Invalid = append(v.Invalid, why)
		}
	}
	for i, run := range baseline {
		for _, why := range invalid(run) {
			v.Invalid = append(v.Invalid, fmt.Sprintf("run %d of the baseline: %s", i+1, why))
		}
	}
	for _, c := range criteria {
		var r Result
		if m, ok := measures[c.Measure]; ok {
			r = measured(m, c, runs, baseline)
		} else {
			r = scaled(c, runs)
		}
		v.Criteria = append(v.Criteria, r)
		v.Status = worse(v.Status, r.Status)
	}
	switch {
	case len(runs) == 0:
		v.Invalid = append(v.Invalid, "nothing was run")
	case v.Status == Unneeded:
		v.Status = Undecided // no criterion was judged
	}
	if len(v.Invalid) > 0 {
		v.Status = Invalid
	}
	if v.Status != Passed && v.Status != Within {
		v.Bottlenecks = bottlenecks(runs)
		v.Actions = actions(v)
	}
	return v
}

// invalid says why a run proves nothing.
func invalid(run *outcome.Run) (why []string) {
	g := &run.Generator
	if run.Cut != "" {
		why = append(why, "partial: "+run.Cut)
	}
	if g.Requests == 0 {
		why = append(why, "no request came to an end")
	}
	if len(g.Limits) > 0 {
		for _, l := range g.Limits {
			why = append(why, "the generator was the limit: "+l)
		}
	} else if g.Dropped > 0 {
		why = append(why, fmt.Sprintf("the generator dropped %d arrivals", g.Dropped))
	}
	return why
}

// measured judges a criterion with a figure.
func measured(m measure, c outcome.Criterion, runs, baseline []*outcome.Run) Result {
	r := Result{Criterion: c, Status: Undecided, Unit: m.unit, AtLeast: m.atLeast}
	var figures []float64
	few := math.Inf(1) // spells in a run
	var spell time.Duration
	for i, run := range runs {
		s := m.of(run, c, uint64(i))
		r.Samples += s.samples
		if s.unit != nil {
			r.Unit = *s.unit
		}
		if s.samples == 0 {
			if r.Why == "" {
				r.Why = "not measured"
				if len(runs) > 1 {
					r.Why = fmt.Sprintf("not measured in run %d", i+1)
				}
			}
			continue
		}
		r.PerRun = append(r.PerRun, s.Interval)
		figures = append(figures, s.Value)
		if r.Why == "" {
			r.Why = s.why
		}
		if s.spells < few {
			few, spell = s.spells, time.Duration(float64(run.Length-run.WarmUp)/s.spells)
		}
	}
	if len(figures) == 0 || len(figures) < len(runs) {
		return r
	}
	all, ok := across(figures)
	if !ok || c.Measure == outcome.Knee { // too few runs to bound anything by, or bounds that are no matter of chance: each must hold by itself
		for i, one := range r.PerRun {
			if i == 0 {
				all.Low, all.High = one.Low, one.High
			}
			all.Low, all.High = min(all.Low, one.Low), max(all.High, one.High)
		}
	}
	r.Figure = &all
	r.Status = compare(all, c.Limit, c.Variation, m.atLeast)
	switch {
	case r.Status == Undecided && c.Measure == outcome.Knee:
		r.Why += ", and the knee may be on either side of the limit: a staircase of smaller steps would tell"
	case r.Status == Undecided:
		r.Why = doubt(&r, m)
	case !ok && c.Quantile > 0 && few < enoughSpells && compare(all.twice(), c.Limit, c.Variation, m.atLeast) != r.Status:
		r.Status = Undecided
		r.Why = fmt.Sprintf("one run is not enough: it holds only %.0f slow and quick spells, of about %s, too few to rely on bounds so close to the limit. Play it longer, or five times", few, fleet.Elapsed(spell.Round(time.Second)))
	}
	if len(baseline) > 0 {
		r.Baseline = against(m, c, figures, baseline)
		r.Status = worse(r.Status, r.Baseline.Status)
	}
	return r
}

// compare is the rule: passed when the bound on the bad side is within the limit, within variation when it is within what is tolerated, failed
// when even the other bound is beyond that.
func compare(i Interval, limit, variation float64, atLeast bool) Status {
	worst, best, tolerated := i.High, i.Low, limit*(1+variation)
	if atLeast {
		worst, best, tolerated = -i.Low, -i.High, -limit*(1-variation)
		limit = -limit
	}
	switch {
	case worst <= limit:
		return Passed
	case worst <= tolerated:
		return Within
	case best > tolerated:
		return Failed
	}
	return Undecided
}

// doubt says why a figure decides nothing.
func doubt(r *Result, m measure) string {
	worst := r.Figure.High
	if m.atLeast {
		worst = r.Figure.Low
	}
	if math.IsInf(worst, 0) && r.Quantile > 0 {
		need := int(math.Ceil(math.Log(1-confidence) / math.Log(r.Quantile)))
		return fmt.Sprintf("%d measurements cannot bound a p%g: at least %d in each run are needed", r.Samples, r.Quantile*100, need)
	}
	if math.IsInf(worst, 0) {
		return "the run is too short to bound it"
	}
	return fmt.Sprintf("the limit lies within what is possible, %s to %s: a longer run, or five, would tell", r.Amount(r.Figure.Low), r.Amount(r.Figure.High))
}

// Amount writes a value of a criterion in its unit, "?" when it is not known.
func (r *Result) Amount(v float64) string {
	switch {
	case math.IsInf(v, 0) || math.IsNaN(v):
		return "?"
	case r.Measure == outcome.ErrorRate || r.Measure == outcome.Availability:
		return fmt.Sprintf("%.4g %%", v*100)
	case r.Measure == outcome.Knee:
		return fmt.Sprintf("%.4g visits/s", v)
	case r.Measure == outcome.Throughput:
		return fmt.Sprintf("%.4g/s", v)
	case r.Unit == fleet.Seconds && (v >= 1 || v == 0):
		return fleet.Elapsed(time.Duration(v * float64(time.Second)).Round(10 * time.Millisecond))
	}
	return r.Unit.Format(v)
}

func show(u fleet.Unit, v float64) string {
	if math.IsInf(v, 0) || math.IsNaN(v) {
		return "unknown"
	}
	return u.Format(v)
}

// usualVariation is that of a comparison with earlier runs, when the criterion tolerates none.
const usualVariation = 0.1

// against compares with earlier runs: no worse than their median by more than the variation.
func against(m measure, c outcome.Criterion, figures []float64, baseline []*outcome.Run) *Baseline {
	b := &Baseline{Status: Undecided, Runs: len(baseline)}
	var earlier []float64
	for i, run := range baseline {
		if s := m.of(run, c, uint64(i)); s.samples > 0 {
			earlier = append(earlier, s.Value)
		}
	}
	b.Shift = shift(earlier, figures)
	if len(earlier) == 0 {
		b.Why = "the earlier runs did not measure it"
		return b
	}
	b.Median = median(slices.Sorted(slices.Values(earlier)))
	if b.Shift.Confidence == 0 {
		b.Why = fmt.Sprintf("%d runs against %d can never show a change: five against five can", len(figures), len(earlier))
		return b
	}
	variation := c.Variation
	if variation == 0 {
		variation = usualVariation
	}
	worst, best, tolerated := b.Shift.High, b.Shift.Low, variation*b.Median
	if m.atLeast {
		worst, best = -b.Shift.Low, -b.Shift.High
	}
	switch {
	case worst <= 0:
		b.Status = Passed
	case worst <= tolerated:
		b.Status = Within
	case best > tolerated:
		b.Status = Failed
	default:
		b.Why = "the change may be within what is tolerated, or beyond it: more runs would tell"
	}
	return b
}
