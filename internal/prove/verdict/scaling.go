package verdict

import (
	"fmt"
	"math"
	"slices"
	"time"

	"tidemark/internal/decide/policy"
	"tidemark/internal/fleet"
	"tidemark/internal/prove/outcome"
)

// scalingRules judge what the daemon did during one run, by its journal's events.
var scalingRules = map[outcome.Measure]func(run *outcome.Run, c outcome.Criterion) (Status, string, float64){
	outcome.Triggers:    triggers,
	outcome.TimeToScale: timeToScale,
	outcome.Improvement: improvement,
	outcome.Flapping:    flapping,
	outcome.Returned:    returned,
	outcome.GuardsHeld:  guardsHeld,
}

// scaled judges a criterion of the scaling: the worst of the runs counts.
func scaled(c outcome.Criterion, runs []*outcome.Run) Result {
	r := Result{Criterion: c, Status: Unneeded}
	if c.Measure == outcome.TimeToScale || c.Measure == outcome.Returned {
		r.Unit = fleet.Seconds
	}
	rule, known := scalingRules[c.Measure]
	if !known {
		r.Status, r.Why = Undecided, fmt.Sprintf("nothing measures %q", c.Measure)
		return r
	}
	worst := math.NaN()
	for i, run := range runs {
		status, why, value := Undecided, "nothing is known of the scaling: the daemon was not heard", math.NaN()
		if len(run.Fleets) > 0 {
			status, why, value = rule(run, c)
		}
		if len(runs) > 1 {
			why = fmt.Sprintf("run %d: %s", i+1, why)
		}
		if i == 0 || worse(r.Status, status) != r.Status {
			r.Why = why
		}
		r.Status = worse(r.Status, status)
		if !math.IsNaN(value) {
			r.PerRun = append(r.PerRun, Interval{value, value, value})
			if math.IsNaN(worst) || value > worst {
				worst = value
			}
		}
	}
	if !math.IsNaN(worst) {
		r.Figure = &Interval{worst, worst, worst}
	}
	return r
}

// grown are the actions that made a fleet larger: decided here and not in shadow.
func grown(run *outcome.Run, kind fleet.Kind) (out []fleet.Event) {
	for _, e := range run.Events {
		if e.Kind == kind && e.To > e.From && (e.Decision == nil || !e.Decision.Shadow) {
			out = append(out, e)
		}
	}
	return out
}

// triggers: each scale-out rests on a rule that breached as often as it must, or as often as its missing-data policy asks where readings were missing, and no rule that may act breached for longer than its
// evaluation periods, and two more, without its alarm: it begins within one, and is evaluated after another. Readings that all breach make datapoints that do, whatever the statistic.
func triggers(run *outcome.Run, _ outcome.Criterion) (Status, string, float64) {
	rested, raised := 0, 0
	for _, e := range grown(run, fleet.EventDecision) {
		if e.Decision == nil {
			continue
		}
		for _, r := range e.Decision.Reasons {
			if r.Code != fleet.RuleOut {
				continue
			}
			rested++
			if r.Breaching < r.M && !gaps(run, &e, &r) {
				return Failed, fmt.Sprintf("%s asked for more with %d of %d datapoints breaching, at least %d must", r.Policy, r.Breaching, r.N, r.M), math.NaN()
			}
		}
	}
	for i := range run.Fleets {
		f := &run.Fleets[i]
		for j := range f.Rules {
			rule := &f.Rules[j]
			if rule.Change <= 0 || (rule.Mode != fleet.On && rule.Mode != fleet.ScaleOutOnly) {
				continue
			}
			alarms := alarmsOf(run, f.Name, rule)
			raised += len(alarms)
			within := time.Duration(rule.N+2)*time.Duration(rule.Period) + time.Duration(f.Tick)
			for _, b := range breaches(f, rule) {
				by := b.from.Add(within)
				if b.to.After(by) && !slices.ContainsFunc(alarms, func(a stay) bool { return !a.from.After(by) && (a.to.IsZero() || a.to.After(b.from)) }) {
					return Failed, fmt.Sprintf("%s was %s for %s, and %s raised no alarm within %s", rule.Signal, rule.Condition(), fleet.Elapsed(b.to.Sub(b.from)), rule.Policy, fleet.Elapsed(within)), math.NaN()
				}
			}
		}
	}
	if rested+raised == 0 {
		return Unneeded, "no rule that adds workers was breached for its evaluation periods", math.NaN()
	}
	return Passed, fmt.Sprintf("alarms raised as the policies say: %d; scale-outs that rest on one: %d", raised, rested), math.NaN()
}

// gaps reports whether readings of a rule's signal were missing where the rule looked when it asked for more. Fewer datapoints are
// then enough: an alarm stays while all that there are breach.
func gaps(run *outcome.Run, e *fleet.Event, r *fleet.Reason) bool {
	for i := range run.Fleets {
		f := &run.Fleets[i]
		at := slices.IndexFunc(f.Rules, func(rule outcome.Rule) bool {
			return rule.Policy == r.Policy && rule.Signal == r.Signal && rule.N == r.N
		})
		if f.Name != e.Fleet || at < 0 {
			continue
		}
		period := time.Duration(f.Rules[at].Period)
		looked := policy.Rule{N: r.N}.Range() + 1 // the first of them begins a period before it ends
		from := e.Time.Add(-time.Duration(looked) * period)
		for _, s := range f.Signals {
			if s.Signal == r.Signal && missed(s.Readings, from, e.Time, period) {
				return true
			}
		}
	}
	return false
}

// missed reports whether a reading was not fresh, or none came for more than a period.
func missed(readings []fleet.Reading, from, to time.Time, period time.Duration) bool {
	last := time.Time{}
	for _, x := range readings {
		if x.Time.Before(from) || x.Time.After(to) {
			continue
		}
		if x.Quality != fleet.Fresh || (!last.IsZero() && x.Time.Sub(last) > period) {
			return true
		}
		last = x.Time
	}
	return false
}

// stay is a stretch of time. A zero end is not known.
type stay struct{ from, to time.Time }

// alarmsOf are the stretches for which a rule was in alarm.
func alarmsOf(run *outcome.Run, name string, rule *outcome.Rule) (out []stay) {
	if rule.State == fleet.Alarm {
		out = append(out, stay{from: run.Started})
	}
	for _, e := range run.Events {
		if e.Kind != fleet.EventAlarm || e.Fleet != name || e.Policy != rule.Policy || e.Signal != rule.Signal || e.Note != rule.Condition() {
			continue
		}
		if n := len(out); n > 0 && out[n-1].to.IsZero() {
			out[n-1].to = e.Time
		}
		if e.State == fleet.Alarm.String() {
			out = append(out, stay{from: e.Time})
		}
	}
	return out
}

// breaches are the stretches in which every reading of a rule's signal breached.
func breaches(f *outcome.Fleet, rule *outcome.Rule) (out []stay) {
	for _, s := range f.Signals {
		if s.Signal != rule.Signal {
			continue
		}
		breached := false
		for _, r := range s.Readings {
			was := breached
			breached = r.Quality == fleet.Fresh && rule.Operator.Holds(r.Value, rule.Threshold)
			switch {
			case breached && was:
				out[len(out)-1].to = r.Time
			case breached:
				out = append(out, stay{r.Time, r.Time})
			}
		}
	}
	return out
}

func timeToScale(run *outcome.Run, c outcome.Criterion) (Status, string, float64) {
	for _, e := range run.Events {
		if e.Kind == fleet.EventActionFailed && e.To > e.From {
			return Failed, fmt.Sprintf("the action %d -> %d was given up after %s: %s", e.From, e.To, fleet.Elapsed(time.Duration(e.Duration)), e.Note), math.NaN()
		}
	}
	var worst *fleet.Event
	done := grown(run, fleet.EventActionDone)
	for i := range done {
		if e := &done[i]; e.Parts != nil && (worst == nil || e.Duration > worst.Duration) {
			worst = e
		}
	}
	if worst == nil {
		if len(grown(run, fleet.EventDecision)) > len(done) {
			return Undecided, "a scale-up was decided and the run ended before its worker served", math.NaN()
		}
		return Unneeded, "no alarm led to a scale-up", math.NaN()
	}
	p := worst.Parts
	part := func(d fleet.Duration) string { return fleet.Elapsed(time.Duration(d)) }
	why := fmt.Sprintf("slowest %d -> %d: breach to alarm %s, to decision %s, to action %s, to serving %s", worst.From, worst.To,
		part(p.BreachToAlarm), part(p.AlarmToDecision), part(p.DecisionToAction), part(p.ActionToServing))
	total := time.Duration(worst.Duration).Seconds()
	return compare(Interval{total, total, total}, c.Limit, c.Variation, false), why, total
}

const (
	cpuAfter = 85          // percent: what the requirements alert on after a scale-up
	around   = time.Minute // before and after, at full length
	atLeast  = 5           // slots, where a run is compressed
	sameLoad = 0.1         // share by which load may have risen for before and after to be comparable
)

// improvement: after each scale-up worker CPU or p95 fell, p95 did not rise, and CPU is at most 85 %.
func improvement(run *outcome.Run, _ outcome.Criterion) (Status, string, float64) {
	status, why := Unneeded, "no scale-up"
	around := max(time.Duration(float64(around)/max(run.Compress, 1)), atLeast*time.Duration(run.Slot))
	done := grown(run, fleet.EventActionDone)
	for i, e := range done {
		decided := e.Time
		if e.Parts != nil {
			decided = e.Time.Add(-time.Duration(e.Parts.DecisionToAction + e.Parts.ActionToServing))
		}
		from, to := e.Time, e.Time.Add(around)
		if i+1 < len(done) && done[i+1].Time.Before(to) {
			to = done[i+1].Time
		}
		if end := run.Started.Add(time.Duration(run.Length)); end.Before(to) {
			to = end
		}
		before, after := stretch(run, e.Fleet, decided.Add(-around), decided), stretch(run, e.Fleet, from, to)
		s, w := improved(before, after)
		w += fmt.Sprintf("%d -> %d: CPU %s to %s, p95 %s to %s, load %s/s to %s/s", e.From, e.To, show(fleet.Percent, before.cpu), show(fleet.Percent, after.cpu),
			show(fleet.Seconds, before.p95.Value), show(fleet.Seconds, after.p95.Value), show(fleet.Number, before.rate), show(fleet.Number, after.rate))
		if i == 0 || worse(status, s) != status {
			why = w
		}
		status = worse(status, s)
	}
	return status, why, math.NaN()
}

func improved(before, after state) (Status, string) {
	if math.IsNaN(before.rate) || math.IsNaN(after.rate) || (math.IsNaN(after.cpu) && math.IsNaN(after.p95.Value)) {
		return Undecided, "too little is known before and after "
	}
	rose := after.p95.Low > before.p95.High // by more than chance
	better := after.cpu < before.cpu || after.p95.Value < before.p95.Value
	switch {
	case after.cpu > cpuAfter:
		return Failed, fmt.Sprintf("CPU above %d %% after the scale-up ", cpuAfter)
	case better && !rose:
		return Passed, ""
	case after.rate > before.rate*(1+sameLoad):
		return Undecided, "the load rose meanwhile: "
	case rose:
		return Failed, "p95 rose: "
	}
	return Failed, "neither CPU nor p95 improved: "
}

// state is how a fleet and its service fared for a while. NaN is not known.
type state struct {
	cpu, rate float64
	p95       Interval
}

func stretch(run *outcome.Run, name string, from, to time.Time) state {
	s := state{cpu: math.NaN(), rate: math.NaN(), p95: unknown()}
	for i := range run.Fleets {
		if run.Fleets[i].Name == name {
			s.cpu = meanOf(&run.Fleets[i], "cpu", from, to)
		}
	}
	slot := time.Duration(run.Slot)
	first := int((from.Sub(run.Started) + slot - 1) / slot) // the first whole slot
	last := int(to.Sub(run.Started) / slot)
	first = max(first, 0)
	if last <= first {
		return s
	}
	var all []cell
	count := uint64(0)
	for i := range run.Steps {
		for j := range run.Steps[i].Slots {
			if one := &run.Steps[i].Slots[j]; one.At >= first && one.At < last {
				all = cells(all, one.At-first, &one.Latency.Histogram)
				count += one.Count
			}
		}
	}
	if count > 0 {
		s.p95, _ = newLevels(last-first, all).quantile(0.95, 0)
		s.rate = float64(count) / (time.Duration(last-first) * slot).Seconds()
	}
	return s
}

// meanOf is the mean of a signal's fresh readings.
func meanOf(f *outcome.Fleet, name string, from, to time.Time) float64 {
	sum, n := 0.0, 0
	for _, s := range f.Signals {
		if s.Signal != name {
			continue
		}
		for _, r := range s.Readings {
			if r.Quality == fleet.Fresh && !r.Time.Before(from) && !r.Time.After(to) {
				sum += r.Value
				n++
			}
		}
	}
	return sum / float64(n) // NaN when there are none
}

// flapping counts changes of direction, fleet by fleet.
func flapping(run *outcome.Run, c outcome.Criterion) (Status, string, float64) {
	last, turns, changes := map[string]bool{}, map[string]int{}, 0
	for _, e := range run.Events {
		if e.Kind != fleet.EventDecision || e.From == e.To || (e.Decision != nil && e.Decision.Shadow) {
			continue
		}
		changes++
		up := e.To > e.From
		if was, seen := last[e.Fleet]; seen && was != up {
			turns[e.Fleet]++
		}
		last[e.Fleet] = up
	}
	if changes == 0 {
		return Unneeded, "the size was never changed", math.NaN()
	}
	most := 0
	for _, n := range turns {
		most = max(most, n)
	}
	v := float64(most)
	return compare(Interval{v, v, v}, c.Limit, c.Variation, false), fmt.Sprintf("%d changes of size, %d of direction", changes, most), v
}

// returned: the fleet was back at its minimum in time after the load's end.
func returned(run *outcome.Run, c outcome.Criterion) (Status, string, float64) {
	end := run.Started.Add(time.Duration(run.Length))
	status, why, longest := Unneeded, "no fleet's size is known", math.NaN()
	for i := range run.Fleets {
		f := &run.Fleets[i]
		above, back, seen := false, time.Time{}, time.Time{}
		for _, s := range f.Sizes {
			if !s.Size.Known {
				continue
			}
			seen = s.Time
			if s.Size.Workers() > f.Bounds.Min {
				above, back = true, time.Time{}
			} else if back.IsZero() {
				back = s.Time
			}
		}
		s := Passed
		var w string
		switch {
		case seen.IsZero():
			s, w = Undecided, f.Name+": its size is not known"
		case !above:
			s, w = Unneeded, f.Name+" never left its minimum"
		case !back.IsZero():
			took := max(back.Sub(end), 0)
			if math.IsNaN(longest) || took.Seconds() > longest {
				longest = took.Seconds()
			}
			w = fmt.Sprintf("%s was back at %d, %s after the load's end", f.Name, f.Bounds.Min, fleet.Elapsed(took))
			if c.Limit > 0 {
				s = compare(Interval{took.Seconds(), took.Seconds(), took.Seconds()}, c.Limit, c.Variation, false)
			}
		case c.Limit > 0 && seen.Sub(end).Seconds() < c.Limit*(1+c.Variation):
			s, w = Undecided, fmt.Sprintf("%s was not back, and was watched for only %s after the load's end", f.Name, fleet.Elapsed(max(seen.Sub(end), 0)))
		default:
			s, w = Failed, fmt.Sprintf("%s was still above its minimum of %d, %s after the load's end", f.Name, f.Bounds.Min, fleet.Elapsed(max(seen.Sub(end), 0)))
		}
		if i == 0 || worse(status, s) != status {
			why = w
		}
		status = worse(status, s)
	}
	return status, why, longest
}

// ordered are the reasons that grow a fleet past a guard by right: its minimum, and an operator's word.
var ordered = []fleet.Code{fleet.BelowMin, fleet.OrderPin, fleet.GuardOverruled}

// guardsHeld: while a guard held nothing was scaled out, and no fleet left its bounds.
func guardsHeld(run *outcome.Run, _ outcome.Criterion) (Status, string, float64) {
	type guard struct{ fleet, name string }
	holds, times := map[guard]string{}, 0
	for _, e := range run.Events {
		switch {
		case e.Kind == fleet.EventGuard && e.State == "holds":
			holds[guard{e.Fleet, e.Policy}] = e.Note
			times++
		case e.Kind == fleet.EventGuard:
			delete(holds, guard{e.Fleet, e.Policy})
		case e.Kind == fleet.EventDecision && e.To > e.From && e.Decision != nil && !e.Decision.Shadow:
			for g, note := range holds {
				if g.fleet == e.Fleet && !slices.ContainsFunc(e.Decision.Reasons, func(r fleet.Reason) bool { return slices.Contains(ordered, r.Code) }) {
					return Failed, fmt.Sprintf("%s was scaled %d -> %d while the guard %s held (%s)", e.Fleet, e.From, e.To, g.name, note), math.NaN()
				}
			}
		}
	}
	for i := range run.Fleets {
		for _, s := range run.Fleets[i].Sizes {
			if n := s.Size.Workers(); s.Size.Known && run.Fleets[i].Bounds.Max > 0 && n > run.Fleets[i].Bounds.Max {
				return Failed, fmt.Sprintf("%s had %d workers, and its maximum is %d", run.Fleets[i].Name, n, run.Fleets[i].Bounds.Max), math.NaN()
			}
		}
	}
	if times == 0 {
		return Unneeded, "no guard had to hold; no fleet left its bounds", math.NaN()
	}
	return Passed, fmt.Sprintf("guards that began to hold: %d; nothing was scaled out meanwhile", times), math.NaN()
}
