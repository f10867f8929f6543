// Package engine is the decision core. Step takes a policy, the state that the last tick left and what was observed
// since, and says what size the fleet should have and why. It is a function of its arguments alone: no clock, no I/O, no
// randomness, no map order. The daemon, the simulator, the backtest and the tests all call this one Step.
package engine

import (
	"fmt"
	"math"
	"time"

	"tidemark/internal/decide/forecast"
	"tidemark/internal/decide/policy"
	"tidemark/internal/decide/signal"
	"tidemark/internal/fleet"
)

// Input is what one tick observed.
type Input struct {
	Now time.Time // wall clock, UTC
	// ClockJump is how far the wall clock moved by itself since the last tick: forward above 0, back below.
	ClockJump time.Duration
	Size      fleet.Size
	Readings  []fleet.Reading // by index of policy.Fleet.Signals; those beyond its end are missing
	Orders    []Order
	Allotment Allotment
	// Outlook is what is expected Lead from now, by the order of the policies that have a Forecast; those beyond its end are not known.
	Outlook []forecast.Band
}

// Step advances s by one tick and writes the outcome into d, whose Reasons it reuses: in steady state nothing is
// allocated. s must have been Fit to p. To keep the state before, Clone it first.
//
// The order is fixed: readings to datapoints, alarms, proposals, need (the maximum), safeguards: mode, hold, freeze, bounds and
// schedule, quota, step, rate, cooldown, guards, connections and memory. Each link leaves its reason in d.
func Step(p *policy.Fleet, s *State, in *Input, d *fleet.Decision) {
	*d = fleet.Decision{Fleet: p.Name, Time: in.Now, Reasons: d.Reasons[:0]}
	if in.ClockJump != 0 {
		s.shift(in.ClockJump)
		add(d, fleet.Reason{Code: fleet.ClockJumped, Since: in.Now.Add(-in.ClockJump)})
	}
	s.Tick = in.Now
	for _, o := range in.Orders {
		s.obey(o)
	}
	if s.Order != nil && !s.Order.Until.IsZero() && !in.Now.Before(s.Order.Until) {
		s.Order = nil
	}
	s.observe(p, in)
	s.evaluate(p, in.Now)
	s.predict(p, in)
	s.foresee(p, in)

	if !in.Size.Known {
		d.From, d.To = s.Size.Workers(), s.Size.Workers()
		s.Claim = 0
		add(d, fleet.Reason{Code: fleet.TargetUnknown, Size: d.From})
		return
	}
	current := in.Size.Workers()
	d.From, d.To = current, current
	pending := s.follow(in, d)
	s.Size = in.Size
	var growing *Action
	if pending {
		if growing = s.outgrown(p); growing == nil {
			return
		}
		d.To = current
	}

	c := newChain(p, s, in, d)
	c.growing = growing
	c.propose()
	c.safeguard()
	if growing != nil && c.to <= growing.To {
		d.To = growing.To // it goes on as it is
		return
	}
	c.conclude()
	if growing != nil {
		d.To = max(d.To, growing.To)
	}
}

// outgrown is the scale-out on its way when an objective or a forecast in force asks for more than it brings: while workers boot the load
// goes on to grow. Rules wait, as the latency and the load of a worker that they look at say nothing of those that are coming.
func (s *State) outgrown(p *policy.Fleet) (growing *Action) {
	a := s.Action
	if a.To <= a.From {
		return nil
	}
	s.eachSLO(p, func(pol *policy.Policy, m *SLOState) {
		if pol.Mode == fleet.On && m.Proposal.Known && m.Proposal.Size > a.To {
			growing = a
		}
	})
	s.eachForecast(p, func(pol *policy.Policy, m *ForecastState) {
		if pol.Mode == fleet.On && m.Need > a.To {
			growing = a
		}
	})
	return growing
}

// observe turns the readings into datapoints. It reports whether there is anything new in them that alarms or rules could see: a
// datapoint, or a signal that has come or gone.
func (s *State) observe(p *policy.Fleet, in *Input) (news bool) {
	for i := range s.Signals {
		sig := &s.Signals[i]
		there := sig.Last.Quality >= fleet.Sparse
		if i < len(in.Readings) {
			sig.Last = in.Readings[i]
		} else {
			sig.Last = fleet.Reading{Time: in.Now}
		}
		if v := sig.Last.Value; math.IsNaN(v) || math.IsInf(v, 0) {
			sig.Last = fleet.Reading{Time: in.Now} // who divides by zero has not measured anything
		}
		closed := sig.Series.Observe(&p.Signals[i], in.Now, &sig.Last, sig.keep)
		if sig.Last.Quality >= fleet.Sparse {
			sig.Fresh, sig.Lost = in.Now, time.Time{}
		} else if sig.Lost.IsZero() {
			sig.Lost = in.Now
		}
		news = news || closed > 0 || there != (sig.Last.Quality >= fleet.Sparse)
	}
	return news
}

// evaluate brings the alarms up to date.
func (s *State) evaluate(p *policy.Fleet, now time.Time) {
	at := 0
	for i := range p.Policies {
		for j := range p.Policies[i].Rules {
			r, rule := &p.Policies[i].Rules[j], &s.Rules[at]
			at++
			before := rule.State
			rule.Verdict = signal.Evaluate(r, s.Signals[r.Signal].Series.Points, before)
			if rule.State != before || rule.Since.IsZero() {
				rule.Since = now
			}
		}
	}
	s.guard(p, now)
}

// follow sees after the action on its way, and reports whether the fleet waits for it.
func (s *State) follow(in *Input, d *fleet.Decision) bool {
	current := in.Size.Workers()
	a := s.Action
	if a == nil {
		if before := s.Size; before.Known && before.Workers() != current {
			add(d, fleet.Reason{Code: fleet.SizeChanged, Size: current, Limit: before.Workers()})
		}
		return false
	}
	switch {
	case current == a.To && in.Size.Starting == 0:
		if a.To > a.From {
			s.Boot = max(in.Now.Sub(a.Since), s.Boot-s.Boot/4)
		}
		s.Action = nil
		return false
	case !in.Now.Before(a.Deadline):
		add(d, fleet.Reason{Code: fleet.ActionExpired, Size: a.To, Since: a.Since})
		s.Action = nil
		return false
	}
	d.To = a.To
	add(d, fleet.Reason{Code: fleet.ActionPending, Size: a.To, Since: a.Since, Until: a.Deadline})
	return true
}

func add(d *fleet.Decision, r fleet.Reason) { d.Reasons = append(d.Reasons, r) }

func ruleKey(p *policy.Fleet, owner string, r policy.Rule) string {
	sig := p.Signals[r.Signal]
	return fmt.Sprintf("%s/%s %v %g %d of %d, %+d, %v, missing %d", owner, sig.Name, r.Operator, r.Threshold, r.M, r.N, r.Change, sig.Period, r.Missing)
}
