package month

import (
	"context"
	"slices"
	"time"

	"tidemark/internal/decide/alert"
	"tidemark/internal/fleet"
)

// Scaling is how a fleet was scaled.
type Scaling struct {
	Ups      int         `json:"scale_ups"`
	Downs    int         `json:"scale_downs"`
	Shadow   int         `json:"shadow"`  // decided and, in shadow, not done
	Failed   int         `json:"failed"`  // actions
	Outside  int         `json:"outside"` // sizes changed by somebody else
	Orders   int         `json:"orders"`  // operators' words
	Lost     int         `json:"lost"`    // signals that went missing or stale
	Flaps    int         `json:"flaps"`   // changes taken back within FlapWithin
	Hot      int         `json:"hot"`     // scale-ups after which the CPU stayed above the requirement's level
	HotOf    int         `json:"hot_of"`  // of so many that could be judged
	Slow     int         `json:"slow"`    // scale-ups after which the API level was still missed
	SlowOf   int         `json:"slow_of"` // likewise
	Omitted  int         `json:"omitted"` // events beyond those listed
	HotLevel float64     `json:"hot_percent"`
	Time     TimeToScale `json:"time_to_scale"`
	Events   []Change    `json:"events"` // oldest first
}

// FlapWithin is the time within which a change of the other direction takes the one before it back: three times the requirements'
// cooldown after which a fleet may scale in (600 s).
const FlapWithin = 30 * time.Minute

// mostChanges are listed.
const mostChanges = 500

// Change is a change of size.
type Change struct {
	Time  time.Time      `json:"time"`
	From  int            `json:"from"`
	To    int            `json:"to"`
	Why   string         `json:"why"`
	Took  fleet.Duration `json:"took,omitempty"` // until it was done: from the breach when an alarm drove it; 0: not known
	Parts *fleet.Parts   `json:"parts,omitempty"`
	Err   string         `json:"error,omitempty"`
	Flap  bool           `json:"flap,omitempty"`
}

// TimeToScale is the requirements' KPI: from the trigger condition met to new workers serving, of scale-ups that an alarm drove.
type TimeToScale struct {
	Target  fleet.Duration `json:"target"`
	Count   int            `json:"count"`
	Within  int            `json:"within_target"`
	Median  fleet.Duration `json:"median"`
	P95     fleet.Duration `json:"p95"`
	Worst   fleet.Duration `json:"worst"`
	Mean    fleet.Parts    `json:"mean_parts"`
	Largest fleet.Parts    `json:"largest_parts"`
	Verdict Verdict        `json:"verdict"` // unknown: there was none
}

// scaling counts what the journal's events say of a fleet.
func (g *grid) scaling(events []fleet.Event, rules *alert.Rules, cpu, api []cell, within time.Duration) Scaling {
	s := Scaling{Events: []Change{}, HotLevel: rules.CPU, Time: TimeToScale{Target: fleet.Duration(rules.TimeToScale), Verdict: Unknown}}
	var times []time.Duration
	var parts []fleet.Parts
	for i := range events {
		e := &events[i]
		last := len(s.Events) - 1
		switch e.Kind {
		case fleet.EventDecision:
			switch {
			case e.Decision != nil && e.Decision.Shadow:
				s.Shadow++
				continue
			case e.To > e.From:
				s.Ups++
			default:
				s.Downs++
			}
			c := Change{Time: e.Time, From: e.From, To: e.To, Why: why(e)}
			if last >= 0 {
				before := &s.Events[last]
				c.Flap = (before.To > before.From) != (e.To > e.From) && e.Time.Sub(before.Time) <= FlapWithin
			}
			if c.Flap {
				s.Flaps++
			}
			s.Events = append(s.Events, c)
		case fleet.EventActionDone:
			if last >= 0 && s.Events[last].To == e.To {
				s.Events[last].Took, s.Events[last].Parts = e.Duration, e.Parts
			}
			if e.To > e.From {
				s.after(g, e.Time, rules, cpu, api, within)
				if e.Parts != nil {
					times, parts = append(times, time.Duration(e.Duration)), append(parts, *e.Parts)
				}
			}
		case fleet.EventActionFailed:
			s.Failed++
			if last >= 0 && s.Events[last].To == e.To {
				s.Events[last].Err = e.Note
			}
		case fleet.EventSizeChanged:
			s.Outside++
		case fleet.EventOrder:
			s.Orders++
		case fleet.EventSignalLost:
			s.Lost++
		}
	}
	s.Omitted = max(len(s.Events)-mostChanges, 0)
	s.Events = s.Events[s.Omitted:]
	s.Time.sum(times, parts)
	return s
}

// after looks at what followed a scale-up: the first interval in which the CPU would have settled, and the first in which response
// times would have.
func (s *Scaling) after(g *grid, done time.Time, rules *alert.Rules, cpu, api []cell, within time.Duration) {
	next := func(cells []cell, from time.Duration) *cell {
		i := g.index(done.Add(from)) + 1
		if i < 0 || i >= len(cells) || cells[i].n == 0 || g.at(i+1).Sub(done) > rules.AfterScaleUp {
			return nil
		}
		return &cells[i]
	}
	if c := next(cpu, 0); c != nil {
		s.HotOf++
		if c.min > rules.CPU {
			s.Hot++
		}
	}
	if c := next(api, rules.Settle); c != nil {
		s.SlowOf++
		if c.min > within.Seconds() {
			s.Slow++
		}
	}
}

// sum takes the figures of the KPI.
func (t *TimeToScale) sum(times []time.Duration, parts []fleet.Parts) {
	t.Count = len(times)
	if t.Count == 0 {
		return
	}
	slices.Sort(times)
	rank := func(q float64) fleet.Duration {
		return fleet.Duration(times[min(int(q*float64(len(times))), len(times)-1)])
	}
	t.Median, t.P95, t.Worst = rank(0.5), rank(0.95), fleet.Duration(times[len(times)-1])
	for _, d := range times {
		if d < time.Duration(t.Target) {
			t.Within++
		}
	}
	n := fleet.Duration(len(parts))
	var mean fleet.Parts
	for i := range parts {
		for _, p := range []struct{ of, mean, most *fleet.Duration }{
			{&parts[i].BreachToAlarm, &mean.BreachToAlarm, &t.Largest.BreachToAlarm},
			{&parts[i].AlarmToDecision, &mean.AlarmToDecision, &t.Largest.AlarmToDecision},
			{&parts[i].DecisionToAction, &mean.DecisionToAction, &t.Largest.DecisionToAction},
			{&parts[i].ActionToServing, &mean.ActionToServing, &t.Largest.ActionToServing},
		} {
			*p.mean += *p.of
			*p.most = max(*p.most, *p.of)
		}
	}
	t.Mean = fleet.Parts{BreachToAlarm: mean.BreachToAlarm / n, AlarmToDecision: mean.AlarmToDecision / n, DecisionToAction: mean.DecisionToAction / n, ActionToServing: mean.ActionToServing / n}
	t.Verdict = judge(t.Within == t.Count)
}

// why is the reason that a change was decided for: the first of its chain that asks for it.
func why(e *fleet.Event) string {
	if e.Decision == nil || len(e.Decision.Reasons) == 0 {
		return e.Note
	}
	return e.Decision.Reasons[0].Sentence(e.Decision.Time)
}

// Blocked is what held changes back, and for how long.
type Blocked struct {
	Code     fleet.Code     `json:"code"`
	Out      bool           `json:"scale_out"` // what was held back: else a scale-in
	Episodes int            `json:"episodes"`
	Time     fleet.Duration `json:"time"`
	Longest  fleet.Duration `json:"longest"`
	Most     int            `json:"workers"` // held back, at most
	Last     string         `json:"last"`    // the latest of its sentences
}

// Shortage is what the fleet wanted beyond its maximum.
type Shortage struct {
	Episodes int            `json:"episodes"`
	Time     fleet.Duration `json:"time"`
	Longest  fleet.Duration `json:"longest"`
	Workers  int            `json:"workers"` // at most
	Worst    time.Time      `json:"at,omitzero"`
}

// decisions asks for a month's decisions, oldest first, and for the one that was in force at its beginning.
func decisions(ctx context.Context, j Journal, name string, from, until time.Time) (out []fleet.Decision, err error) {
	for at := until; ; {
		list, err := j.Decisions(ctx, name, from, at, page)
		if err != nil {
			return nil, err
		}
		out = append(out, list...)
		if len(list) < page {
			break
		}
		at = list[len(list)-1].Time
	}
	first, ok, err := j.DecisionAt(ctx, name, from)
	if err != nil {
		return nil, err
	}
	if ok && (len(out) == 0 || first.Time.Before(out[len(out)-1].Time)) {
		out = append(out, *first)
	}
	slices.Reverse(out)
	return out, nil
}

// watched is how much of a span was looked at: a decision of a daemon that then stopped says nothing of the time after it.
func (g *grid) watched(looked []float64, from, to time.Time) (total time.Duration) {
	for i := max(g.index(from), 0); i < g.n && g.at(i).Before(to); i++ {
		total += time.Duration(looked[i] * float64(g.weight(i, from, to)))
	}
	return total
}

// blocked counts what held changes back. A decision holds until the next one.
func (g *grid) blocked(list []fleet.Decision, looked []float64, bounds fleet.Bounds) ([]Blocked, Shortage) {
	type kind struct {
		code fleet.Code
		out  bool
	}
	found := map[kind]*Blocked{}
	var order []kind
	var short Shortage
	var now kind                    // that blocks
	var episode, lack time.Duration // of the episode that goes on
	for i := range list {
		d := &list[i]
		to := g.until
		if i+1 < len(list) {
			to = list[i+1].Time
		}
		span := g.watched(looked, later(d.Time, g.from), to)
		k := kind{d.Would.Code, d.Would.To > d.From}
		if k.code == fleet.NoCode {
			k = kind{}
		} else {
			b := found[k]
			if b == nil {
				b = &Blocked{Code: k.code, Out: k.out}
				found[k], order = b, append(order, k)
			}
			if k != now {
				b.Episodes++
				episode = 0
			}
			episode += span
			b.Time += fleet.Duration(span)
			b.Longest = max(b.Longest, fleet.Duration(episode))
			b.Most = max(b.Most, d.Would.To-d.From, d.From-d.Would.To)
			for n := range d.Reasons {
				if r := &d.Reasons[n]; r.Code == k.code {
					b.Last = r.Sentence(d.Time)
				}
			}
		}
		now = k
		n := d.Short(bounds.Max)
		if n == 0 {
			lack = 0
			continue
		}
		if lack == 0 {
			short.Episodes++
		}
		lack += max(span, 1)
		short.Time += fleet.Duration(span)
		short.Longest = max(short.Longest, fleet.Duration(lack))
		if n > short.Workers {
			short.Workers, short.Worst = n, later(d.Time, g.from)
		}
	}
	out := []Blocked{}
	for _, k := range order {
		out = append(out, *found[k])
	}
	slices.SortStableFunc(out, func(a, b Blocked) int { return int(b.Time - a.Time) })
	return out, short
}
