package engine

import (
	"math"
	"time"

	"tidemark/internal/decide/policy"
	"tidemark/internal/decide/signal"
	"tidemark/internal/fleet"
)

// GuardState is a guard's memory.
type GuardState struct {
	Name       string      `json:"name"`
	Conditions []RuleState `json:"conditions"`
	Since      time.Time   `json:"since,omitzero"` // since when it holds; zero while it does not
}

// Allotment is what the other fleets of the instance leave to this one.
type Allotment struct {
	Limited  bool                      // there is a quota
	Workers  int                       // the most workers that this fleet may have by it
	Reserved [policy.Resources]float64 // of what is free now, for fleets that go first and for workers on their way
}

// guard evaluates the guards' alarms.
func (s *State) guard(p *policy.Fleet, now time.Time) {
	for i := range p.Guards {
		g := &s.Guards[i]
		holds := true
		for j := range p.Guards[i].If {
			cond, st := &p.Guards[i].If[j], &g.Conditions[j]
			rule, before := cond.Rule, st.State
			if before == fleet.Alarm {
				rule.Threshold = cond.Release
			}
			st.Verdict = signal.Evaluate(&rule, s.Signals[rule.Signal].Series.Points, before)
			if st.State != before || st.Since.IsZero() {
				st.Since = now
			}
			holds = holds && (st.State == fleet.Alarm || s.unseen(p, cond, st))
		}
		switch {
		case !holds:
			g.Since = time.Time{}
		case g.Since.IsZero():
			g.Since = now
		}
	}
}

// unseen reports whether a condition cannot be relied on: its signal is missing or stale now, or was not measured yet. A source that
// is there and saw too little is quiet, not unseen.
func (s *State) unseen(p *policy.Fleet, c *policy.Condition, st *RuleState) bool {
	sig := &s.Signals[c.Signal]
	if p.Signals[c.Signal].Optional {
		return false
	}
	return sig.Last.Quality < fleet.Sparse || (st.State == fleet.InsufficientData && sig.Series.Newest().Quality < fleet.Sparse)
}

var guardCodes = [...]fleet.Code{policy.ProtectsOther: fleet.BlockedGuard, policy.ProtectsDatabase: fleet.BlockedDatabase, policy.ProtectsHostCPU: fleet.BlockedHostCPU}

// guards refuses a scale-out that a guard holds back. An operator's pin is told of it, and goes on.
func (c *chain) guards() {
	for i := range c.p.Guards {
		g, st := &c.p.Guards[i], &c.s.Guards[i]
		if st.Since.IsZero() {
			continue
		}
		first := &st.Conditions[0]
		r := c.condition(i, 0)
		r.Since, r.Size = st.Since, c.from
		switch {
		case c.ordered:
			r.Code, r.Size = fleet.GuardOverruled, c.to
			c.add(r)
			continue
		case first.State == fleet.Alarm:
			r.Code = guardCodes[g.Protects]
		default:
			sig := &c.s.Signals[g.If[0].Signal]
			r.Code, r.Note = fleet.GuardUnknown, unknown(sig)
			if !sig.Lost.IsZero() {
				r.Since = sig.Lost
			}
		}
		c.firm = true
		c.block(r)
		for j := 1; j < len(g.If); j++ {
			r := c.condition(i, j)
			r.Code, r.Size = fleet.GuardWhile, c.from
			c.add(r)
		}
	}
}

// unknown says of what quality a signal is that cannot be relied on.
func unknown(s *SignalState) string {
	if s.Last.Quality < fleet.Sparse {
		return s.Last.Quality.String()
	}
	return "not measured yet"
}

// condition is the reason of condition j of guard i, as for a rule.
func (c *chain) condition(i, j int) fleet.Reason {
	g := &c.p.Guards[i]
	cond, st := &g.If[j], &c.s.Guards[i].Conditions[j]
	sig, newest := &c.p.Signals[cond.Signal], c.s.Signals[cond.Signal].Series.Newest()
	r := fleet.Reason{
		Policy: g.Name, Signal: sig.Name, Unit: sig.Unit, Operator: cond.Operator, Threshold: cond.Threshold,
		Value: newest.Value, Breaching: st.Breaching, M: cond.M, N: cond.N, Since: st.Since,
	}
	if !newest.Real() {
		r.Note = newest.Quality.String()
	}
	return r
}

var supplyCodes = [policy.Resources]fleet.Code{policy.Connections: fleet.LimitedConnections, policy.HostMemory: fleet.LimitedMemory}

// supplies cuts a scale-out to what fits into the connections and the memory that are free.
func (c *chain) supplies() {
	for i := range c.p.Supplies {
		s := &c.p.Supplies[i]
		free, least, unseen := math.Inf(1), 0, -1
		for _, f := range s.Free {
			switch last := c.s.Signals[f].Last; {
			case last.Quality == fleet.Fresh && last.Value < free:
				free, least = last.Value, f
			case last.Quality != fleet.Fresh && !c.p.Signals[f].Optional:
				unseen = f
			}
		}
		each := s.PerWorker
		if each == 0 {
			taken := c.s.Signals[s.Taken].Last
			switch {
			case taken.Quality == fleet.Fresh && taken.Value > 0 && c.all > 0:
				each = taken.Value / float64(c.all)
			case !c.p.Signals[s.Taken].Optional:
				unseen = s.Taken
			}
		}
		if unseen >= 0 {
			sig := &c.s.Signals[unseen]
			r := fleet.Reason{Code: fleet.SupplyUnknown, Size: c.from, Policy: s.Resource.String(), Signal: sig.Name, Since: sig.Lost, Note: sig.Last.Quality.String()}
			if sig.Lost.IsZero() {
				r.Since = c.now
			}
			if sig.Last.Quality == fleet.Fresh {
				r.Note = "0"
			}
			c.firm = true
			c.block(r)
			continue
		}
		if math.IsInf(free, 1) || each == 0 {
			continue // optional, and missing
		}
		c.s.Each[s.Resource] = each
		others := c.allot.Reserved[s.Resource]
		kept := s.Reserve + others
		fits := c.from + int(max(0, min((free-kept)/each+1e-9, 1<<20)))
		if fits >= c.to {
			continue
		}
		r := fleet.Reason{
			Code: supplyCodes[s.Resource], Size: fits, Signal: c.p.Signals[least].Name, Unit: s.Resource.Unit(), Value: free, Threshold: each,
			Reserve: kept, Others: others, Limit: fits - c.from, Want: c.to,
		}
		if fits > c.from {
			c.to = fits
			c.add(r)
		} else {
			c.block(r)
		}
	}
}
