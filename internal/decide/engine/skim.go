package engine

import (
	"time"

	"tidemark/internal/decide/policy"
	"tidemark/internal/decide/schedule"
	"tidemark/internal/fleet"
)

// Skim is Step for whoever hears a decision only when it may change the size, as a simulation of years does. It leaves s exactly as
// Step would, and reports whether d is the decision that Step would have written; when it is not, the decision is to stay at the
// present size, d means nothing, and most of the work was saved:
//
//   - Alarms are functions of datapoints, of which signals are there and of their own state. Without news of the former two, and once a
//     guard's conditions have settled, they say what they said.
//   - Then a fleet that the rules left alone is left alone again, as long as no window of the schedule begins or ends: cooldowns,
//     rates and freezes only ever hold back what is wanted.
//   - So is one whose rules are not in alarm, but for those that would remove workers from the fewest that there may be.
//   - Otherwise the chain runs without its reasons, and again with them when it comes to a change.
//
// Orders, an action on its way, clock jumps, objectives and forecasts take the whole Step.
func Skim(p *policy.Fleet, s *State, in *Input, d *fleet.Decision) bool {
	if in.ClockJump != 0 || len(in.Orders) > 0 || s.Order != nil || s.Action != nil || in.Allotment.Limited || !in.Size.Known || in.Size != s.Size || len(s.SLOs)+len(s.Forecasts) > 0 {
		Step(p, s, in, d)
		return true
	}
	settled := s.still.since.Equal(s.Tick) && in.Now.Before(s.still.until)
	s.Tick = in.Now
	if news := s.observe(p, in); settled && !news {
		s.still.since = in.Now
		return false
	}
	s.evaluate(p, in.Now)
	if s.idle(p, in) {
		s.Claim = 0
		s.settle(p, in.Now)
		return false
	}
	c := newChain(p, s, in, d)
	c.mute = true
	*d = fleet.Decision{Reasons: d.Reasons[:0]}
	c.propose()
	c.safeguard()
	if c.to != c.from && !c.blocked {
		*d = fleet.Decision{Fleet: p.Name, Time: in.Now, From: c.from, To: c.from, Reasons: d.Reasons[:0]}
		c = newChain(p, s, in, d)
		c.propose()
		c.safeguard()
		c.conclude()
		return true
	}
	c.conclude()
	if c.to == c.from {
		s.settle(p, in.Now)
	}
	return false
}

// idle reports whether the chain will come to the present size, whatever else it finds: the schedule asks for no other one, no rule is
// in alarm that could add a worker, nor one that could remove any.
func (s *State) idle(p *policy.Fleet, in *Input) bool {
	from, at := in.Size.Workers(), 0
	for i := range p.Policies {
		for j := range p.Policies[i].Rules {
			if s.Rules[at].State == fleet.Alarm && (p.Policies[i].Rules[j].Change > 0 || from > p.Bounds.Min) {
				return false
			}
			at++
		}
	}
	b := p.Bounds
	if p.Schedule != nil {
		b, _ = s.windows.at(p.Schedule, in.Now).Bounds(b, false)
	}
	return b.Min <= from && from <= b.Max
}

// settle notes that a fleet was left alone.
func (s *State) settle(p *policy.Fleet, now time.Time) {
	if s.guardsSettled(now) {
		s.still.since, s.still.until = now, s.windows.end(p.Schedule, now)
	}
}

// still is the last tick at which a fleet was left alone, and the end of the windows of the schedule by which it was.
type still struct{ since, until time.Time }

// guardsSettled reports whether the guards' conditions, evaluated again, would say the same: a threshold depends on the state before.
func (s *State) guardsSettled(now time.Time) bool {
	for i := range s.Guards {
		for j := range s.Guards[i].Conditions {
			if s.Guards[i].Conditions[j].Since.Equal(now) {
				return false
			}
		}
	}
	return true
}

// windows keeps what a schedule says, for as long as it says the same.
type windows struct {
	of          *schedule.Schedule
	limits      schedule.Limits
	since, till time.Time
}

func (w *windows) at(s *schedule.Schedule, now time.Time) schedule.Limits {
	if w.of != s || now.Before(w.since) || !now.Before(w.till) {
		w.of, w.since = s, now
		w.limits, w.till = s.Holding(now)
	}
	return w.limits
}

// end is when what holds now may end; an hour on without a schedule.
func (w *windows) end(s *schedule.Schedule, now time.Time) time.Time {
	if s == nil || w.of != s { // a fleet whose mode is off asks no schedule
		return now.Add(time.Hour)
	}
	return w.till
}
