package engine_test

import (
	"bytes"
	"encoding/json"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tidemark/internal/decide/engine"
	"tidemark/internal/decide/policy"
	"tidemark/internal/decide/schedule"
	"tidemark/internal/fleet"
)

// anyPolicy draws a fleet with up to three signals and five rules, and safeguards of every size.
func anyPolicy(t *rapid.T) policy.Fleet {
	p := policy.Fleet{Name: "any", Mode: rapid.SampledFrom([]fleet.Mode{fleet.On, fleet.On, fleet.On, fleet.ScaleOutOnly, fleet.Shadow, fleet.Off}).Draw(t, "mode")}
	p.Bounds.Min = rapid.IntRange(1, 5).Draw(t, "min")
	p.Bounds.Max = p.Bounds.Min + rapid.IntRange(0, 8).Draw(t, "span")
	for _, name := range []string{"a", "b", "c"}[:rapid.IntRange(1, 3).Draw(t, "signals")] {
		p.Signals = append(p.Signals, policy.Signal{
			Name: name, Period: time.Duration(rapid.IntRange(1, 4).Draw(t, "period")) * 15 * time.Second,
			Statistic: policy.Statistic(rapid.IntRange(0, 4).Draw(t, "statistic")),
			PerWorker: rapid.Bool().Draw(t, "per worker"), Optional: rapid.IntRange(0, 4).Draw(t, "optional") == 0,
		})
	}
	pol := policy.Policy{ID: "p", Mode: fleet.On}
	for range rapid.IntRange(1, 5).Draw(t, "rules") {
		r := policy.Rule{Signal: rapid.IntRange(0, len(p.Signals)-1).Draw(t, "signal"), N: rapid.IntRange(1, 5).Draw(t, "n"), Missing: policy.Missing(rapid.IntRange(0, 3).Draw(t, "missing"))}
		r.M = rapid.IntRange(1, r.N).Draw(t, "m")
		if rapid.Bool().Draw(t, "out") {
			r.Operator, r.Change, r.Threshold = fleet.AtLeast, rapid.IntRange(1, 4).Draw(t, "change"), float64(rapid.IntRange(40, 90).Draw(t, "threshold"))
		} else {
			r.Operator, r.Change, r.Threshold = fleet.AtMost, -rapid.IntRange(1, 4).Draw(t, "change"), float64(rapid.IntRange(10, 60).Draw(t, "threshold"))
		}
		pol.Rules = append(pol.Rules, r)
	}
	p.Policies = []policy.Policy{pol}
	if rapid.Bool().Draw(t, "objective") {
		addObjective(t, &p)
	}
	seconds := func(name string, most int) time.Duration {
		return time.Duration(rapid.IntRange(0, most).Draw(t, name)) * time.Second
	}
	p.CooldownUp, p.CooldownDown, p.ActionLimit = seconds("up", 400), seconds("down", 700), 15*time.Second+seconds("action", 120)
	p.StepUp, p.StepDown = rapid.IntRange(0, 3).Draw(t, "step up"), rapid.IntRange(0, 3).Draw(t, "step down")
	p.RateCount, p.RateWindow = rapid.IntRange(0, 3).Draw(t, "rate"), seconds("window", 400)
	anySafeguards(t, &p)
	return p
}

// anySafeguards draws up to two guards, a supply and windows of the first half hour of the day.
func anySafeguards(t *rapid.T, p *policy.Fleet) {
	signal := func() int { return rapid.IntRange(0, len(p.Signals)-1).Draw(t, "guard's signal") }
	for i := range rapid.IntRange(0, 2).Draw(t, "guards") {
		g := policy.Guard{Name: string(rune('g' + i)), Protects: policy.Protected(rapid.IntRange(0, 2).Draw(t, "protects"))}
		for range rapid.IntRange(1, 2).Draw(t, "conditions") {
			r := policy.Rule{Signal: signal(), Operator: fleet.AtLeast, Threshold: float64(rapid.IntRange(20, 90).Draw(t, "guard's threshold")), N: rapid.IntRange(1, 3).Draw(t, "guard's n")}
			r.M = rapid.IntRange(1, r.N).Draw(t, "guard's m")
			g.If = append(g.If, policy.Condition{Rule: r, Release: r.Threshold - float64(rapid.IntRange(0, 20).Draw(t, "release"))})
		}
		p.Guards = append(p.Guards, g)
	}
	if rapid.IntRange(0, 2).Draw(t, "supply") == 0 {
		p.Supplies = []policy.Supply{{Free: []int{signal()}, Reserve: 10, PerWorker: float64(rapid.IntRange(1, 20).Draw(t, "each"))}}
	}
	if rapid.Bool().Draw(t, "schedule") {
		p.Schedule = &schedule.Schedule{}
		for range rapid.IntRange(1, 3).Draw(t, "windows") {
			from := rapid.IntRange(0, 28).Draw(t, "from")
			w := schedule.Window{Name: "w", Daily: schedule.Daily{From: from, To: rapid.IntRange(from+1, 30).Draw(t, "to")}}
			if rapid.Bool().Draw(t, "floor or ceiling") {
				w.Floor = rapid.IntRange(1, 12).Draw(t, "floor")
			} else {
				w.Ceiling, w.CancelledByLoad = rapid.IntRange(1, 12).Draw(t, "ceiling"), rapid.Bool().Draw(t, "cancelled")
			}
			p.Schedule.Windows = append(p.Schedule.Windows, w)
		}
	}
}

// addObjective adds an objective of any kind, with signals of its own.
func addObjective(t *rapid.T, p *policy.Fleet) {
	n := len(p.Signals)
	period := time.Duration(rapid.IntRange(1, 4).Draw(t, "rate period")) * 15 * time.Second
	p.Signals = append(p.Signals,
		policy.Signal{Name: "rate", Unit: fleet.Number, Period: period, Window: period},
		policy.Signal{Name: "latency", Unit: fleet.Seconds, Statistic: policy.Quantile, Q: 0.95, FromSource: true, Period: time.Minute, Window: 5 * time.Minute, PerWorker: true},
		policy.Signal{Name: "s50", Unit: fleet.Seconds, Statistic: policy.Quantile, Q: 0.5, FromSource: true, Period: time.Minute, Window: 5 * time.Minute},
		policy.Signal{Name: "s95", Unit: fleet.Seconds, Statistic: policy.Quantile, Q: 0.95, FromSource: true, Period: time.Minute, Window: 5 * time.Minute},
		policy.Signal{Name: "queued", Unit: fleet.Number, Period: time.Minute, Window: time.Minute},
	)
	slo := &policy.SLO{
		Rate: n, Objective: n + 1, Service: []int{n + 2, n + 3}, Busy: -1, Backlog: n + 4, Within: rapid.Float64Range(0.05, 200).Draw(t, "within"),
		Drain: 2 * time.Minute, Boot: time.Minute, Settle: time.Duration(rapid.IntRange(15, 600).Draw(t, "settle")) * time.Second,
		Coherence: rapid.SampledFrom([]float64{0, 0, 0.01}).Draw(t, "coherence"),
	}
	if rapid.IntRange(0, 2).Draw(t, "by busy workers") == 0 {
		slo.Service, slo.Busy = nil, n+2
	}
	mode := rapid.SampledFrom([]fleet.Mode{fleet.On, fleet.On, fleet.Shadow, fleet.Off}).Draw(t, "objective's mode")
	p.Policies = append(p.Policies, policy.Policy{ID: "slo", Mode: mode, SLO: slo})
}

func anyReading(t *rapid.T) fleet.Reading {
	q := rapid.SampledFrom([]fleet.Quality{fleet.Fresh, fleet.Fresh, fleet.Fresh, fleet.Fresh, fleet.Sparse, fleet.Stale, fleet.Missing}).Draw(t, "quality")
	v := rapid.SampledFrom([]float64{0, 10, 25, 45, 60, 80, 100, math.NaN(), math.Inf(1)}).Draw(t, "value")
	return fleet.Reading{Value: v, Quality: q}
}

// tick is one step of a random life, with what was true of it.
type tick struct {
	in      engine.Input
	d       fleet.Decision
	pinned  bool
	pending bool
}

// live runs a random life of up to 120 ticks: any readings, a target that is lost, stuck or changed by others, any order.
func live(t *rapid.T, p *policy.Fleet) []tick {
	s := &engine.State{}
	s.Fit(p)
	size := rapid.IntRange(0, p.Bounds.Max+2).Draw(t, "size")
	now := start
	var out []tick
	for range rapid.IntRange(1, 120).Draw(t, "ticks") {
		now = now.Add(15 * time.Second)
		in := engine.Input{Now: now}
		for range p.Signals {
			in.Readings = append(in.Readings, anyReading(t))
		}
		if rapid.IntRange(0, 3).Draw(t, "quota") == 0 {
			in.Allotment = engine.Allotment{Limited: true, Workers: rapid.IntRange(0, 12).Draw(t, "room")}
			in.Allotment.Reserved[policy.Connections] = float64(rapid.IntRange(0, 30).Draw(t, "reserved"))
		}
		switch rapid.IntRange(0, 40).Draw(t, "happening") {
		case 0:
			in.Orders = []engine.Order{{Kind: engine.Pin, Size: rapid.IntRange(0, 20).Draw(t, "pin"), At: now, Until: now.Add(time.Minute)}}
		case 1:
			in.Orders = []engine.Order{{Kind: engine.Hold, At: now, Until: now.Add(time.Minute)}}
		case 2:
			size = rapid.IntRange(0, 15).Draw(t, "outside")
		}
		if rapid.IntRange(0, 20).Draw(t, "lost") != 0 {
			in.Size = fleet.Size{Known: true, Serving: size}
		}
		k := tick{in: in}
		engine.Step(p, s, &k.in, &k.d)
		k.pinned = s.Order != nil && s.Order.Kind == engine.Pin
		k.pending = len(k.d.Reasons) > 0 && hasCode(&k.d, fleet.ActionPending)
		out = append(out, k)
		if k.d.To != k.d.From && !k.d.Shadow && rapid.IntRange(0, 5).Draw(t, "stuck") != 0 {
			size = k.d.To
		}
	}
	return out
}

func hasCode(d *fleet.Decision, c fleet.Code) bool {
	for _, r := range d.Reasons {
		if r.Code == c {
			return true
		}
	}
	return false
}

func TestInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := anyPolicy(t)
		var scalings []time.Time
		var lastUp, lastDown time.Time
		for _, k := range live(t, &p) {
			d, known := &k.d, k.in.Size.Known
			if d.To == d.From || k.pending {
				continue
			}
			up := d.To > d.From
			floor := hasCode(d, fleet.BelowMin)
			switch {
			case !known:
				t.Fatalf("%v: %s although the target is not known", d.Time, d.Headline())
			case up && d.To > p.Bounds.Max, !up && d.To < p.Bounds.Min:
				t.Fatalf("%v: %s leaves the bounds %v", d.Time, d.Headline(), p.Bounds)
			case d.Shadow != (p.Mode == fleet.Shadow), p.Mode == fleet.Off:
				t.Fatalf("%v: %s in mode %v", d.Time, d.Headline(), p.Mode)
			case !up && p.Mode == fleet.ScaleOutOnly:
				t.Fatalf("%v: %s in mode %v", d.Time, d.Headline(), p.Mode)
			}
			if !up && !k.pinned && !hasCode(d, fleet.AboveMax) && !hasCode(d, fleet.GivesWay) && d.From <= hardMax(&p, d) {
				unknownNeverScalesIn(t, &p, &k)
			}
			if up {
				roomIsHeeded(t, &p, &k, floor)
			}
			if !floor && !k.pinned {
				if p.RateCount > 0 && len(scalings) >= p.RateCount && d.Time.Sub(scalings[len(scalings)-p.RateCount]) < p.RateWindow {
					t.Fatalf("%v: %s breaks the rate of %d in %v (before: %v)", d.Time, d.Headline(), p.RateCount, p.RateWindow, scalings)
				}
				if up && !lastUp.IsZero() && d.Time.Sub(lastUp) < p.CooldownUp {
					t.Fatalf("%v: %s within the cooldown since %v", d.Time, d.Headline(), lastUp)
				}
				for _, last := range []time.Time{lastUp, lastDown} {
					if !up && !last.IsZero() && d.Time.Sub(last) < p.CooldownDown {
						t.Fatalf("%v: %s within the cooldown since %v", d.Time, d.Headline(), last)
					}
				}
				if step := d.To - d.From; p.StepUp > 0 && step > p.StepUp || p.StepDown > 0 && -step > p.StepDown {
					t.Fatalf("%v: %s is a larger step than allowed", d.Time, d.Headline())
				}
			}
			scalings = append(scalings, d.Time)
			if up {
				lastUp = d.Time
			} else {
				lastDown = d.Time
			}
		}
	})
}

// hardMax is the maximum less what windows, whatever the load, take from it.
func hardMax(p *policy.Fleet, d *fleet.Decision) int {
	if p.Schedule == nil {
		return p.Bounds.Max
	}
	b, _ := p.Schedule.At(d.Time).Bounds(p.Bounds, true)
	return b.Max
}

// roomIsHeeded: nobody is added beyond the quota, a hard ceiling, what is free of a resource, or against a guard whose signal cannot be
// seen; but for the minimum.
func roomIsHeeded(t *rapid.T, p *policy.Fleet, k *tick, floor bool) {
	d, a := &k.d, k.in.Allotment
	if a.Limited && d.To > max(a.Workers, p.Bounds.Min) {
		t.Fatalf("%v: %s with a quota of %d", d.Time, d.Headline(), a.Workers)
	}
	if floor || k.pinned {
		return
	}
	if d.To > hardMax(p, d) {
		t.Fatalf("%v: %s beyond a hard ceiling", d.Time, d.Headline())
	}
	bad := func(i int) (float64, bool) {
		r := k.in.Readings[i]
		return r.Value, r.Quality < fleet.Sparse || math.IsNaN(r.Value) || math.IsInf(r.Value, 0)
	}
	for _, g := range p.Guards {
		all := true
		for _, c := range g.If {
			_, unseen := bad(c.Signal)
			all = all && unseen && !p.Signals[c.Signal].Optional
		}
		if all {
			t.Fatalf("%v: %s although guard %s cannot be seen", d.Time, d.Headline(), g.Name)
		}
	}
	for _, s := range p.Supplies {
		free, unseen := bad(s.Free[0])
		unseen = unseen || k.in.Readings[s.Free[0]].Quality != fleet.Fresh
		switch {
		case unseen && p.Signals[s.Free[0]].Optional:
		case unseen, float64(d.To-d.From)*s.PerWorker > free-s.Reserve-a.Reserved[s.Resource]+1e-6:
			t.Fatalf("%v: %s with %g free (seen: %v), %g kept, %g a worker", d.Time, d.Headline(), free, !unseen, s.Reserve+a.Reserved[s.Resource], s.PerWorker)
		}
	}
}

// unknownNeverScalesIn: with a signal missing or stale that a rule looks at, nobody is removed.
func unknownNeverScalesIn(t *rapid.T, p *policy.Fleet, k *tick) {
	var used []int
	for _, pol := range p.Policies {
		for _, r := range pol.Rules {
			used = append(used, r.Signal)
		}
		if slo := pol.SLO; slo != nil && pol.Mode == fleet.On {
			used = append(used, slo.Signals()...)
		}
	}
	for _, i := range used {
		read := k.in.Readings[i]
		bad := math.IsNaN(read.Value) || math.IsInf(read.Value, 0)
		if (read.Quality < fleet.Sparse || bad) && !p.Signals[i].Optional {
			t.Fatalf("%v: %s although %s is %v (%g)", k.d.Time, k.d.Headline(), p.Signals[i].Name, read.Quality, read.Value)
		}
	}
}

// held is a fleet under an objective alone.
func held(workers int) policy.Fleet {
	p := policy.Fleet{
		Name: "held", Mode: fleet.On, Bounds: fleet.Bounds{Min: 1, Max: 100},
		Signals: []policy.Signal{
			{Name: "rate", Unit: fleet.Number, Period: 15 * time.Second, Window: 15 * time.Second},
			{Name: "p95", Unit: fleet.Seconds, Statistic: policy.Quantile, Q: 0.95, FromSource: true, Period: time.Minute, Window: 5 * time.Minute, PerWorker: true},
			{Name: "s50", Unit: fleet.Seconds, Statistic: policy.Quantile, Q: 0.5, FromSource: true, Period: time.Minute, Window: 5 * time.Minute},
			{Name: "s95", Unit: fleet.Seconds, Statistic: policy.Quantile, Q: 0.95, FromSource: true, Period: time.Minute, Window: 5 * time.Minute},
			{Name: "s99", Unit: fleet.Seconds, Statistic: policy.Quantile, Q: 0.99, FromSource: true, Period: time.Minute, Window: 5 * time.Minute},
			{Name: "queued", Unit: fleet.Number, Period: 15 * time.Second, Window: 15 * time.Second},
		},
		Policies: []policy.Policy{{ID: "slo", Mode: fleet.On, SLO: &policy.SLO{
			Objective: 1, Within: 0.5, Rate: 0, Service: []int{2, 3, 4}, Busy: -1, Backlog: 5, Drain: 2 * time.Minute, Boot: time.Minute, Settle: 4 * time.Minute,
		}}},
		Safeguards: policy.Safeguards{ActionLimit: time.Minute},
	}
	p.Bounds.Min = min(p.Bounds.Min, workers)
	return p
}

// load is what a fleet of exponential service times of 100 ms measures at a rate.
func load(rate float64) []fleet.Reading {
	var out []fleet.Reading
	for _, v := range []float64{rate, 0.3, 0.0693, 0.2996, 0.4605, 0} {
		out = append(out, fleet.Reading{Value: v, Quality: fleet.Fresh})
	}
	return out
}

// At a steady rate the objective finds a size and stays there, the same from above and from below, but that from below it may stay a little lower, where nothing
// presses it on; a higher rate never finds fewer.
func TestObjectiveFindsItsSize(t *testing.T) {
	settled := func(t *rapid.T, rate float64, size int) int {
		p := held(size)
		s := &engine.State{}
		s.Fit(&p)
		var d fleet.Decision
		last := 0
		for i := range 120 {
			in := engine.Input{Now: start.Add(time.Duration(i) * 15 * time.Second), Size: fleet.Size{Known: true, Serving: size}, Readings: load(rate)}
			engine.Step(&p, s, &in, &d)
			if d.To != size {
				size, last = d.To, i
			}
		}
		if last > 80 {
			t.Fatalf("rate %g: still moving after %d ticks, to %d", rate, last, size)
		}
		return size
	}
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Float64Range(0, 500).Draw(t, "rate")
		size := rapid.IntRange(1, 100).Draw(t, "size")
		fromHere, fromMax := settled(t, rate, size), settled(t, rate, 100)
		if unpressed := fromHere < fromMax && fromMax-fromHere <= 1+fromMax/20; fromHere != fromMax && !unpressed {
			t.Fatalf("rate %g: %d from %d, and %d from 100", rate, fromHere, size, fromMax)
		}
		if more := settled(t, rate*rapid.Float64Range(1, 3).Draw(t, "times"), size); more < fromHere {
			t.Fatalf("rate %g needs %d, and a higher one %d", rate, fromHere, more)
		}
	})
}

// steadyObjective is a step that changes nothing, of a fleet under an objective; the service times are measured anew each time.
func steadyObjective() (step func(), d *fleet.Decision) {
	p := held(8)
	s := &engine.State{}
	s.Fit(&p)
	d = &fleet.Decision{}
	in := engine.Input{Now: start, Size: fleet.Size{Known: true, Serving: 8}, Readings: load(60)}
	i := 0
	step = func() {
		i++
		in.Now = in.Now.Add(15 * time.Second)
		in.Readings[0].Value = 60 + float64(i%5)
		in.Readings[2].Value = 0.0693 + float64(i%3)/10_000
		engine.Step(&p, s, &in, d)
	}
	for range 200 {
		step()
	}
	return step, d
}

func BenchmarkStepObjective(b *testing.B) {
	step, _ := steadyObjective()
	b.ReportAllocs()
	for b.Loop() {
		step()
	}
}

func TestStepWithAnObjectiveAllocatesNothing(t *testing.T) {
	step, d := steadyObjective()
	if n := testing.AllocsPerRun(1000, step); n != 0 {
		t.Errorf("%g allocations a step", n)
	}
	if !hasCode(d, fleet.SLONeeds) {
		t.Errorf("the objective says nothing: %+v", d.Reasons)
	}
}

// A recorded input stream gives the same decisions, byte for byte, also when the state is stored and read back.
func TestReplay(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := anyPolicy(rt)
		ticks := live(rt, &p)
		s := &engine.State{}
		s.Fit(&p)
		for i, k := range ticks {
			var d fleet.Decision
			s = storeAndLoad(t, s, &p)
			engine.Step(&p, s, &k.in, &d)
			want, err := json.Marshal(&k.d)
			if err != nil {
				rt.Fatal(err)
			}
			if got, _ := json.Marshal(&d); !bytes.Equal(got, want) {
				rt.Fatalf("tick %d differs when replayed:\n%s\n%s", i, want, got)
			}
		}
	})
}

// Under constant load a fleet finds its size and stays: it never turns round.
func TestNoFlapping(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := requirements()
		up := rapid.Float64Range(20, 95).Draw(t, "up")
		down := rapid.Float64Range(5, up).Draw(t, "down")
		p.Policies[0].Rules[0].Threshold, p.Policies[0].Rules[1].Threshold = up, down
		p.CooldownUp, p.CooldownDown, p.RateCount = 0, 0, 0 // the projection alone must do it
		load := rapid.Float64Range(0, 1000).Draw(t, "load") // in percent of one worker
		size := rapid.IntRange(2, 10).Draw(t, "size")
		s := &engine.State{}
		s.Fit(&p)
		var d fleet.Decision
		turns, direction := 0, 0
		now := start
		for range 200 {
			now = now.Add(time.Minute)
			in := engine.Input{Now: now, Size: fleet.Size{Known: true, Serving: size}, Readings: []fleet.Reading{
				{Value: load / float64(size), Quality: fleet.Fresh}, {Quality: fleet.Sparse},
			}}
			engine.Step(&p, s, &in, &d)
			if d.To != d.From && (d.To > d.From) != (direction > 0) {
				turns++
				direction = d.To - d.From
			}
			size = d.To
		}
		if turns > 2 { // the first datapoints may still be of the size before
			t.Fatalf("load %.1f %%, rules %.1f/%.1f: turned round %d times", load, up, down, turns)
		}
	})
}

// steady is a step that changes nothing, in its steady state, of a policy with five rules, three guards, a supply and two windows.
func steady() (step func(), d *fleet.Decision, rules int) {
	p, readings := steadyFleet()
	for _, pol := range p.Policies {
		rules += len(pol.Rules)
	}
	s := &engine.State{}
	s.Fit(&p)
	d = &fleet.Decision{}
	now := start
	in := engine.Input{Size: fleet.Size{Known: true, Serving: 2}, Readings: readings}
	step = func() {
		now = now.Add(15 * time.Second)
		in.Now = now
		engine.Step(&p, s, &in, d)
	}
	for range 200 {
		step()
	}
	return step, d, rules
}

func steadyFleet() (policy.Fleet, []fleet.Reading) {
	p := requirements()
	p.Policies[1].Rules = append(p.Policies[1].Rules, policy.Rule{Signal: 1, Operator: fleet.AtLeast, Threshold: 2, Change: 2, N: 3, M: 3},
		policy.Rule{Signal: 1, Operator: fleet.AtMost, Threshold: 0.05, Change: -1, N: 10, M: 10})
	for i := range 3 {
		p.Guards = append(p.Guards, policy.Guard{Name: string(rune('a' + i)), If: []policy.Condition{{Rule: policy.Rule{Operator: fleet.AtLeast, Threshold: 95, N: 3, M: 1}, Release: 90}}})
	}
	p.Supplies = []policy.Supply{{Free: []int{0}, Reserve: 1, PerWorker: 2}}
	p.Schedule = &schedule.Schedule{Zone: time.FixedZone("", -10*3600), Windows: []schedule.Window{
		{Name: "off-peak", Daily: schedule.Daily{To: 6 * 60}, Ceiling: 2, CancelledByLoad: true},
		{Name: "drive", Weekly: 0b0111110, Daily: schedule.Daily{From: 7 * 60, To: 18 * 60}, Floor: 2, Lead: 15 * time.Minute},
	}}
	return p, []fleet.Reading{{Value: 20, Quality: fleet.Fresh}, {Value: 0.2, Quality: fleet.Fresh}}
}

func BenchmarkStep(b *testing.B) {
	step, _, rules := steady()
	b.ReportAllocs()
	for b.Loop() {
		step()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(rules), "ns/rule")
}

// The steady state allocates nothing; the benchmark reports it, this holds it.
func TestStepAllocatesNothing(t *testing.T) {
	step, d, _ := steady()
	if n := testing.AllocsPerRun(1000, step); n != 0 {
		t.Errorf("%g allocations a step", n)
	}
	if len(d.Reasons) == 0 {
		t.Error("the step decides nothing")
	}
}
