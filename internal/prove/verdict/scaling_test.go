package verdict

import (
	"math"
	"strings"
	"testing"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/prove/outcome"
)

var began = time.Date(2027, 3, 1, 8, 0, 0, 0, time.UTC)

// after is a time of the run.
func after(d time.Duration) time.Time { return began.Add(d) }

// story is a run of ten minutes on a fleet of two to six workers, and what is told of it piece by piece: 10 requests/s, policy "p" that adds
// a worker at 70 % CPU in two of three minutes and takes one away at 30 %.
type story struct{ *outcome.Run }

func tell() story {
	rule := fleet.Rule{Policy: "p", Mode: fleet.On, Signal: "cpu", Unit: fleet.Percent, Operator: fleet.AtLeast, Threshold: 70, Change: 1, M: 2, N: 3, Period: fleet.Duration(time.Minute)}
	in := rule
	in.Operator, in.Threshold, in.Change, in.M, in.N = fleet.AtMost, 30, -1, 4, 5
	return story{&outcome.Run{
		Scenario: "told", Started: began, Ended: after(10 * time.Minute), Length: fleet.Duration(10 * time.Minute), Slot: fleet.Duration(time.Second), Compress: 1,
		Generator: outcome.Generator{Requests: 6000},
		Fleets: []outcome.Fleet{{Name: "f", Bounds: fleet.Bounds{Min: 2, Max: 6}, Tick: fleet.Duration(time.Second), Rules: []outcome.Rule{{Rule: rule, State: fleet.OK}, {Rule: in}},
			Signals: []outcome.Resource{{Signal: "cpu", Unit: fleet.Percent}}}},
	}}
}

// reads adds readings of a signal, one each 5 s.
func (s story) reads(signal string, unit fleet.Unit, from, to time.Duration, value float64) story {
	f := &s.Fleets[0]
	for len(f.Signals) == 0 || f.Signals[len(f.Signals)-1].Signal != signal {
		f.Signals = append(f.Signals, outcome.Resource{Signal: signal, Unit: unit})
	}
	for r := &f.Signals[len(f.Signals)-1]; from < to; from += 5 * time.Second {
		r.Readings = append(r.Readings, fleet.Reading{Value: value, Time: after(from), Quality: fleet.Fresh})
	}
	return s
}

func (s story) cpu(from, to time.Duration, value float64) story {
	return s.reads("cpu", fleet.Percent, from, to, value)
}

// answers adds requests of a length, so many a second.
func (s story) answers(from, to time.Duration, perSecond int, seconds float64, failed ...outcome.Class) story {
	if len(s.Steps) == 0 {
		s.Steps = []outcome.Step{{Name: "lookup", Kind: outcome.API}}
	}
	for at := int(from.Seconds()); at < int(to.Seconds()); at++ {
		slot := outcome.Slot{At: at, Count: uint64(perSecond), Failed: map[outcome.Class]uint64{}}
		for i := range perSecond {
			slot.Latency.Record(seconds * (1 + float64((7*at+3*i)%10)/20)) // as no service answers alike
		}
		for _, c := range failed {
			slot.Failed[c]++
		}
		s.Steps[0].Slots = append(s.Steps[0].Slots, slot)
	}
	return s
}

func (s story) size(at time.Duration, n int) story {
	s.Fleets[0].Sizes = append(s.Fleets[0].Sizes, outcome.Sized{Time: after(at), Size: fleet.Size{Known: true, Serving: n}})
	return s
}

func (s story) event(at time.Duration, e fleet.Event) story {
	e.Time, e.Fleet = after(at), "f"
	s.Events = append(s.Events, e)
	return s
}

func (s story) alarm(at time.Duration, state fleet.AlarmState) story {
	return s.event(at, fleet.Event{Kind: fleet.EventAlarm, Policy: "p", Signal: "cpu", State: state.String(), Note: ">= 70 %"})
}

func (s story) guard(at time.Duration, name, state, note string) story {
	return s.event(at, fleet.Event{Kind: fleet.EventGuard, Policy: name, State: state, Note: note})
}

// decides a change, for the reasons given.
func (s story) decides(at time.Duration, from, to int, reasons ...fleet.Reason) story {
	return s.event(at, fleet.Event{Kind: fleet.EventDecision, From: from, To: to, Decision: &fleet.Decision{From: from, To: to, Reasons: reasons}})
}

// serves ends a scale-up: breach to alarm and alarm to decision as long as told, then 5 s to the action, and the rest.
func (s story) serves(at time.Duration, from, to int, breach, boot time.Duration) story {
	p := fleet.Parts{BreachToAlarm: fleet.Duration(breach), AlarmToDecision: fleet.Duration(time.Second), DecisionToAction: fleet.Duration(5 * time.Second), ActionToServing: fleet.Duration(boot)}
	return s.event(at, fleet.Event{Kind: fleet.EventActionDone, From: from, To: to, Duration: fleet.Duration(breach + boot + 6*time.Second), Parts: &p})
}

const minute = time.Minute

// Every criterion of the scaling, with what passes, what fails, what cannot be told, and what was not needed.
func TestScalingCriteria(t *testing.T) {
	ruleOut := func(breaching int) fleet.Reason {
		return fleet.Reason{Code: fleet.RuleOut, Policy: "p", Breaching: breaching, M: 2, N: 3}
	}
	onCPU := func(breaching int) fleet.Reason {
		r := ruleOut(breaching)
		r.Signal = "cpu"
		return r
	}
	// sparse is CPU that is too high, with a minute in which it is not known.
	sparse := func(at time.Duration) story {
		s := tell().cpu(0, at, 90).alarm(3*minute, fleet.Alarm).cpu(at, at+minute, 0).cpu(at+minute, 10*minute, 90)
		for i := range s.Fleets[0].Signals[0].Readings {
			if r := &s.Fleets[0].Signals[0].Readings[i]; !r.Time.Before(after(at)) && r.Time.Before(after(at+minute)) {
				r.Quality = fleet.Sparse
			}
		}
		return s
	}
	unheard := story{&outcome.Run{Started: began, Length: fleet.Duration(10 * minute), Slot: fleet.Duration(time.Second), Compress: 1}}
	shadow := tell()
	shadow.Fleets[0].Rules[0].Mode = fleet.Shadow
	raised := tell()
	raised.Fleets[0].Rules[0].State = fleet.Alarm
	quick := tell() // datapoints of a second: its three periods are over soon
	quick.Fleets[0].Rules[0].Period = fleet.Duration(time.Second)
	for _, c := range []struct {
		measure outcome.Measure
		limit   float64
		name    string
		story   story
		want    Status
		why     string
		figure  float64 // 0: none
	}{
		{outcome.Triggers, 0, "alarm after three minutes, and a worker", tell().cpu(0, 10*minute, 90).alarm(3*minute, fleet.Alarm).decides(3*minute, 2, 3, ruleOut(2)), Passed, "alarms raised as the policies say: 1; scale-outs that rest on one: 1", 0},
		{outcome.Triggers, 0, "alarm since before the run", raised.cpu(0, 10*minute, 90), Passed, "", 0},
		{outcome.Triggers, 0, "no alarm", tell().cpu(0, 10*minute, 90), Failed, "cpu was >= 70 % for 9m55s, and p raised no alarm within 5m1s", 0},
		{outcome.Triggers, 0, "late alarm", tell().cpu(0, 10*minute, 90).alarm(6*minute, fleet.Alarm), Failed, "raised no alarm", 0},
		{outcome.Triggers, 0, "alarm of the rule that takes workers away", tell().cpu(0, 10*minute, 90).event(3*minute, fleet.Event{Kind: fleet.EventAlarm, Policy: "p", Signal: "cpu", State: "alarm", Note: "<= 30 %"}), Failed, "raised no alarm", 0},
		{outcome.Triggers, 0, "second breach without an alarm", tell().cpu(0, 3*minute, 90).cpu(3*minute, 4*minute, 20).cpu(4*minute, 10*minute, 90).alarm(2*minute, fleet.Alarm).alarm(4*minute, fleet.OK), Failed, "for 5m55s", 0},
		{outcome.Triggers, 0, "too few datapoints", tell().decides(minute, 2, 3, ruleOut(1)), Failed, "with 1 of 3 datapoints breaching, at least 2 must", 0},
		{outcome.Triggers, 0, "too few, as the others are missing", sparse(9*minute).decides(10*minute, 2, 3, onCPU(1)), Passed, "scale-outs that rest on one: 1", 0},
		{outcome.Triggers, 0, "too few, as the daemon read nothing for two minutes", tell().cpu(0, 7*minute, 90).cpu(9*minute, 10*minute, 90).alarm(3*minute, fleet.Alarm).decides(10*minute, 2, 3, onCPU(1)), Passed, "", 0},
		{outcome.Triggers, 0, "too few, and others were missing long before", sparse(3*minute).decides(10*minute, 2, 3, onCPU(1)), Failed, "with 1 of 3", 0},
		{outcome.Triggers, 0, "three minutes are not long enough", tell().cpu(0, 3*minute, 90), Unneeded, "no rule that adds workers was breached", 0},
		{outcome.Triggers, 0, "three periods of a second are", quick.cpu(0, minute, 90), Failed, "raised no alarm within 6s", 0},
		{outcome.Triggers, 0, "shadow raises nothing that acts", shadow.cpu(0, 10*minute, 90), Unneeded, "", 0},
		{outcome.Triggers, 0, "no daemon", unheard, Undecided, "the daemon was not heard", 0},

		{outcome.TimeToScale, 300, "in time", tell().decides(3*minute, 2, 3).serves(4*minute, 2, 3, 3*minute, 30*time.Second), Passed, "slowest 2 -> 3: breach to alarm 3m, to decision 1s, to action 5s, to serving 30s", 216},
		{outcome.TimeToScale, 300, "the slowest counts", tell().serves(4*minute, 2, 3, minute, 30*time.Second).serves(9*minute, 3, 4, 4*minute, 2*minute), Failed, "slowest 3 -> 4", 366},
		{outcome.TimeToScale, 300, "given up", tell().event(minute, fleet.Event{Kind: fleet.EventActionFailed, From: 2, To: 3, Note: "no such image", Duration: fleet.Duration(2 * minute)}), Failed, "given up after 2m: no such image", 0},
		{outcome.TimeToScale, 300, "cut off by the end", tell().decides(9*minute, 2, 3), Undecided, "the run ended before its worker served", 0},
		{outcome.TimeToScale, 300, "no alarm", tell(), Unneeded, "no alarm led to a scale-up", 0},
		{outcome.TimeToScale, 300, "no daemon", unheard, Undecided, "the daemon was not heard", 0},

		{outcome.Improvement, 0, "CPU and p95 fell", tell().cpu(0, 5*minute, 92).cpu(5*minute, 10*minute, 60).answers(0, 5*minute, 10, 0.6).answers(5*minute, 10*minute, 10, 0.2).serves(5*minute, 2, 3, minute, 10*time.Second), Passed, "CPU 92 % to 60 %", 0},
		{outcome.Improvement, 0, "CPU stays above 85 %", tell().cpu(0, 5*minute, 99).cpu(5*minute, 10*minute, 90).answers(0, 10*minute, 10, 0.6).serves(5*minute, 2, 3, minute, 10*time.Second), Failed, "CPU above 85 % after the scale-up", 0},
		{outcome.Improvement, 0, "nothing improved", tell().cpu(0, 10*minute, 80).answers(0, 5*minute, 10, 0.6).answers(5*minute, 10*minute, 10, 0.6).serves(5*minute, 2, 3, minute, 10*time.Second), Failed, "neither CPU nor p95 improved", 0},
		{outcome.Improvement, 0, "CPU fell and p95 rose: the workers wait", tell().cpu(0, 5*minute, 80).cpu(5*minute, 10*minute, 50).answers(0, 5*minute, 10, 0.3).answers(5*minute, 10*minute, 10, 0.9).serves(5*minute, 2, 3, minute, 10*time.Second), Failed, "p95 rose: 2 -> 3", 0},
		{outcome.Improvement, 0, "the load rose meanwhile", tell().cpu(0, 10*minute, 80).answers(0, 5*minute, 10, 0.3).answers(5*minute, 10*minute, 20, 0.6).serves(5*minute, 2, 3, minute, 10*time.Second), Undecided, "the load rose meanwhile", 0},
		{outcome.Improvement, 0, "nothing is known before", tell().answers(5*minute, 10*minute, 10, 0.3).serves(5*minute, 2, 3, minute, 10*time.Second), Undecided, "too little is known", 0},
		{outcome.Improvement, 0, "no scale-up", tell(), Unneeded, "no scale-up", 0},

		{outcome.Flapping, 1, "up and down", tell().decides(minute, 2, 3).decides(2*minute, 3, 4).decides(8*minute, 4, 3), Passed, "3 changes of size, 1 of direction", 1},
		{outcome.Flapping, 1, "up and down and up", tell().decides(minute, 2, 3).decides(2*minute, 3, 2).decides(3*minute, 2, 3), Failed, "2 of direction", 2},
		{outcome.Flapping, 1, "held decisions are none", tell().decides(minute, 2, 2), Unneeded, "never changed", 0},
		{outcome.Flapping, 1, "no daemon", unheard, Undecided, "the daemon was not heard", 0},

		{outcome.Returned, 300, "in time", tell().size(minute, 4).size(12*minute, 2), Passed, "f was back at 2, 2m after the load's end", 120},
		{outcome.Returned, 300, "too late", tell().size(minute, 4).size(18*minute, 2), Failed, "8m after the load's end", 480},
		{outcome.Returned, 300, "never", tell().size(minute, 4).size(16*minute, 4), Failed, "still above its minimum of 2, 6m after", 0},
		{outcome.Returned, 300, "not watched for long enough", tell().size(minute, 4).size(12*minute, 4), Undecided, "was watched for only 2m", 0},
		{outcome.Returned, 0, "by the end", tell().size(minute, 4).size(9*minute, 2), Passed, "0s after", 0},
		{outcome.Returned, 300, "never left", tell().size(minute, 2), Unneeded, "never left its minimum", 0},
		{outcome.Returned, 300, "size not known", tell(), Undecided, "size is not known", 0},

		{outcome.GuardsHeld, 0, "nothing scaled out meanwhile", tell().guard(minute, "pool", "holds", "7 wait").guard(3*minute, "pool", "lets go", "").decides(4*minute, 2, 3), Passed, "guards that began to hold: 1;", 0},
		{outcome.GuardsHeld, 0, "scaled out against it", tell().guard(minute, "pool", "holds", "7 wait").decides(2*minute, 2, 3, ruleOut(2)), Failed, "f was scaled 2 -> 3 while the guard pool held (7 wait)", 0},
		{outcome.GuardsHeld, 0, "the minimum goes first", tell().guard(minute, "pool", "holds", "7 wait").decides(2*minute, 1, 2, fleet.Reason{Code: fleet.BelowMin}), Passed, "", 0},
		{outcome.GuardsHeld, 0, "above the maximum", tell().size(minute, 7), Failed, "had 7 workers, and its maximum is 6", 0},
		{outcome.GuardsHeld, 0, "none held", tell().size(minute, 6).decides(minute, 2, 3), Unneeded, "no guard had to hold", 0},
		{outcome.GuardsHeld, 0, "no daemon", unheard, Undecided, "the daemon was not heard", 0},
	} {
		got := scaled(outcome.Criterion{Measure: c.measure, Limit: c.limit}, []*outcome.Run{c.story.Run})
		if got.Status != c.want || !strings.Contains(got.Why, c.why) {
			t.Errorf("%s, %s: %s (%s), want %s (%s)", c.measure, c.name, got.Status, got.Why, c.want, c.why)
		}
		if c.figure > 0 && (got.Figure == nil || math.Abs(got.Figure.Value-c.figure) > 0.001) {
			t.Errorf("%s, %s: figure %+v, want %g", c.measure, c.name, got.Figure, c.figure)
		}
	}
}

// Of several runs the worst counts, and is named.
func TestWorstRunCounts(t *testing.T) {
	good, bad := tell().serves(4*minute, 2, 3, minute, 30*time.Second), tell().serves(8*minute, 2, 3, 4*minute, 3*minute)
	got := scaled(outcome.Criterion{Measure: outcome.TimeToScale, Limit: 300}, []*outcome.Run{good.Run, bad.Run, good.Run})
	if got.Status != Failed || !strings.HasPrefix(got.Why, "run 2: slowest") || got.Figure.Value != 426 || len(got.PerRun) != 3 {
		t.Errorf("%+v", got)
	}
}

// What was short is told by what shows it, causes before what they cause, with the requirements' action for it.
func TestBottlenecks(t *testing.T) {
	failing := func(s story) story { return s.answers(0, 10*minute, 10, 0.8) }
	limited := failing(tell())
	limited.Generator.Limits = []string{"its CPU was used up"}
	for _, c := range []struct {
		name     string
		story    story
		want     []Resource
		evidence string // of the first
		action   string // for the first
	}{
		{"workers", failing(tell().cpu(0, 10*minute, 95)).size(minute, 6).size(2*minute, 6), []Resource{Workers}, "cpu of f was 70 % or more for 100 % of the time, and 95 % on average", "Adjust the scaling policy: a higher maximum"},
		{"workers at a peak", failing(tell().cpu(0, 6*minute, 30).cpu(6*minute, 10*minute, 90)), []Resource{Workers}, "70 % or more for 40 % of the time, and 54 % on average", "scheduled floor"},
		{"at its maximum", failing(tell()).size(minute, 6).size(2*minute, 4), []Resource{Workers}, "f was at its maximum of 6 for 50 % of the time", "a higher maximum"},
		{"database", failing(tell().reads("locks", fleet.Number, 0, 10*minute, 9)), []Resource{Database}, "locks of f was 3 or more", "Optimize queries"},
		{"slow database", failing(tell().reads("query_time", fleet.Seconds, 0, 10*minute, 0.4)), []Resource{Database}, "query_time of f was 100ms or more", "Optimize queries"},
		{"pool, and workers that wait for it", failing(tell().cpu(0, 10*minute, 80).reads("pool_waiting", fleet.Number, 0, 10*minute, 12)), []Resource{Pool, Workers}, "pool_waiting of f was 5 or more", "PgBouncer's pool_size"},
		{"a guard of the pool", failing(tell().guard(minute, "database", "holds", "pool_waiting 7 >= 5")), []Resource{Pool}, "the guard database held scale-outs back: pool_waiting 7 >= 5", "PgBouncer's pool_size"},
		{"disk", failing(tell().reads("disk_await", fleet.Seconds, 0, 10*minute, 0.05)), []Resource{Disk}, "disk_await of f was 20ms or more", "faster storage (NVMe)"},
		{"disk queue", failing(tell().reads("disk_queue", fleet.Number, 0, 10*minute, 30)), []Resource{Disk}, "disk_queue of f was 10 or more", "faster storage (NVMe)"},
		{"host", failing(tell().reads("host_cpu", fleet.Percent, 0, 10*minute, 99)), []Resource{Host}, "host_cpu of f was 90 % or more", "a bigger host or a second one"},
		{"network", tell().answers(0, 10*minute, 10, 0.1, outcome.FailedConnect), []Resource{Network}, "600 of 6000 requests failed with connect", "names, certificates"},
		{"generator", limited, []Resource{Generator}, "its CPU was used up", "the generator was the limit"},
		{"nothing that is read", failing(tell().cpu(0, 10*minute, 40).reads("pool_waiting", fleet.Number, 0, 10*minute, 0)), nil, "", "no signal of the daemon shows one"},
	} {
		errors := outcome.Criterion{Name: "errors", Measure: outcome.ErrorRate, Limit: 0.01}
		v := Judge([]*outcome.Run{c.story.Run}, []outcome.Criterion{apiP95, errors}, nil)
		var got []Resource
		for _, b := range v.Bottlenecks {
			got = append(got, b.Resource)
		}
		if len(got) != len(c.want) || (len(got) > 0 && (got[0] != c.want[0] || got[len(got)-1] != c.want[len(c.want)-1] || !strings.Contains(strings.Join(v.Bottlenecks[0].Evidence, "; "), c.evidence))) {
			t.Errorf("%s: %+v, want %v: %s", c.name, v.Bottlenecks, c.want, c.evidence)
		}
		if len(v.Actions) == 0 || !strings.Contains(v.Actions[0], c.action) || !strings.Contains(strings.ToLower(v.Actions[len(v.Actions)-1]), "re-test") {
			t.Errorf("%s: actions %q, want first %q and at last a new test", c.name, v.Actions, c.action)
		}
	}
	if v := Judge([]*outcome.Run{tell().cpu(0, 10*minute, 95).answers(0, 10*minute, 10, 0.1).Run}, []outcome.Criterion{apiP95}, nil); v.Status != Passed || len(v.Bottlenecks)+len(v.Actions) > 0 {
		t.Errorf("a service that holds is short of nothing: %+v", v)
	}
}
