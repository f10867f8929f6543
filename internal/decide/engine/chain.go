package engine

import (
	"time"

	"tidemark/internal/decide/policy"
	"tidemark/internal/decide/schedule"
	"tidemark/internal/fleet"
)

// chain is one tick's way from proposals to a size.
type chain struct {
	p    *policy.Fleet
	s    *State
	d    *fleet.Decision
	now  time.Time
	from int
	to   int
	all  int // workers that exist, those that drain included

	allot  *Allotment
	bounds fleet.Bounds    // the policy's, narrowed by the schedule
	limits schedule.Limits // the schedule's
	capped schedule.Limit  // of limits, the ceiling in force
	firm   bool            // blocked by what neither waiting nor another fleet's leaving would change

	pace     policy.Pace // of what drives the change
	modelled bool        // an objective or a forecast does
	growing  *Action     // the scale-out on its way, which may only be enlarged

	breach  time.Time // of what drives a scale-out: when it first breached,
	alarm   time.Time // and when it was raised
	ordered bool      // an operator's pin: rules, step, rate and cooldown do not apply
	claim   int       // the size after the bounds: what the fleet would take if there were room
	floor   bool      // the minimum is being restored: step, rate and cooldown do not apply

	blocked bool
	code    fleet.Code // of what blocks longest
	until   time.Time  // zero: without end
	endless bool

	mute bool // nobody hears the reasons: Skim
}

func newChain(p *policy.Fleet, s *State, in *Input, d *fleet.Decision) chain {
	from := in.Size.Workers()
	return chain{p: p, s: s, d: d, now: in.Now, from: from, all: from + in.Size.Draining, allot: &in.Allotment, bounds: p.Bounds}
}

func (c *chain) add(r fleet.Reason) {
	if !c.mute {
		add(c.d, r)
	}
}

// propose finds the need: the largest of what is proposed, one direction a tick.
func (c *chain) propose() {
	c.to = c.from
	mode := c.s.EffectiveMode(c.p)
	if o := c.s.Order; o != nil && o.Kind == Pin {
		c.ordered = true
		c.to, c.d.Wanted = o.Size, o.Size
		c.add(fleet.Reason{Code: fleet.OrderPin, Size: o.Size, By: o.By, Note: o.Note, Since: o.At, Until: o.Until})
		return
	}
	if mode == fleet.Off {
		return
	}
	out, in := c.proposals()
	c.schedule(out)
	switch {
	case c.growing != nil:
		c.to = max(out, c.from)
	case c.from < c.p.Bounds.Min:
		c.floor = true
		c.to = c.p.Bounds.Min
		c.add(fleet.Reason{Code: fleet.BelowMin, Size: c.to, Limit: c.p.Bounds.Min})
	case c.from > c.p.Bounds.Max:
		c.to = c.p.Bounds.Max
		c.add(fleet.Reason{Code: fleet.AboveMax, Size: c.to, Limit: c.p.Bounds.Max})
	case c.from > c.room():
		c.to = c.room()
		c.add(fleet.Reason{Code: fleet.GivesWay, Size: c.to, Limit: c.to})
	case c.from > c.bounds.Max:
		c.to, c.modelled = c.underCeiling(), false
	case c.from < c.bounds.Min && out <= c.bounds.Min:
		c.to = c.bounds.Min
		f := c.limits.Floor
		c.add(fleet.Reason{Code: fleet.ScheduledFloor, Size: c.to, Limit: f.Workers, Note: f.By, Until: f.Until})
	case out > c.from:
		c.to = out
		if in < c.from {
			c.add(fleet.Reason{Code: fleet.ScaleOutActive, Size: c.to})
		}
	case in < c.from:
		c.to = c.agree(in)
	default:
		c.add(fleet.Reason{Code: fleet.NothingProposed, Size: c.from})
		if !c.mute {
			c.dissent()
		}
	}
	c.d.Wanted = c.to
	if out > c.from {
		c.d.Wanted = max(c.to, out)
	}
}

// proposals finds the largest scale-out, and the smallest scale-in.
func (c *chain) proposals() (out, in int) {
	out, in, anyIn := c.from, 0, false
	if c.growing == nil { // rules wait for what they asked for
		out, in, anyIn = c.rules()
	}
	c.modelled = !anyIn && out == c.from
	out, in, anyIn = c.objectives(out, in, anyIn)
	out, in = c.forecasts(out, in, anyIn)
	if !anyIn {
		in = c.from
	}
	return out, in
}

// rules evaluates what each rule in alarm proposes.
func (c *chain) rules() (out, in int, anyIn bool) {
	out, in = c.from, 0
	c.each(func(pol *policy.Policy, r *policy.Rule, st *RuleState) {
		if st.State != fleet.Alarm || pol.Mode == fleet.Off {
			return
		}
		reason := c.reason(pol, r, st)
		reason.Size = c.from + r.Change
		if pol.Mode == fleet.Shadow {
			reason.Code = fleet.RuleShadow
			c.add(reason)
			return
		}
		if r.Out() {
			reason.Code = fleet.RuleOut
			if reason.Size > out || c.alarm.IsZero() {
				out, c.modelled = max(out, reason.Size), false
				c.breach, c.alarm = st.Breach, st.Since
			}
		} else {
			reason.Code = fleet.RuleIn
			in = max(in, reason.Size)
			anyIn = true
		}
		c.add(reason)
	})
	return out, in, anyIn
}

// each visits the rules in the order in which they are written.
func (c *chain) each(visit func(*policy.Policy, *policy.Rule, *RuleState)) {
	at := 0
	for i := range c.p.Policies {
		pol := &c.p.Policies[i]
		for j := range pol.Rules {
			visit(pol, &pol.Rules[j], &c.s.Rules[at])
			at++
		}
	}
}

func (c *chain) reason(pol *policy.Policy, r *policy.Rule, st *RuleState) fleet.Reason {
	if c.mute {
		return fleet.Reason{}
	}
	sig, newest := &c.p.Signals[r.Signal], c.s.Signals[r.Signal].Series.Newest()
	reason := fleet.Reason{
		Policy: pol.ID, Signal: sig.Name, Unit: sig.Unit, Operator: r.Operator, Threshold: r.Threshold,
		Value: newest.Value, Breaching: st.Breaching, M: r.M, N: r.N, Since: st.Since,
	}
	if !newest.Real() {
		reason.Note = newest.Quality.String()
	}
	return reason
}

// agree is the size that a scale-in to `to` may go to: from, unless everything that must agree does.
func (c *chain) agree(to int) int {
	agreed := c.dissent()
	if c.mute && !agreed { // what else objects, nobody hears
		return c.from
	}
	if c.harmless(to) && agreed {
		return to
	}
	return c.from
}

// harmless reports whether a smaller fleet would do, as far as can be seen: no signal that a rule looks at is missing, and none,
// projected to the smaller fleet, would trip a scale-out rule.
func (c *chain) harmless(to int) bool {
	agreed := true
	for i := range c.p.Signals {
		sig, st := &c.p.Signals[i], &c.s.Signals[i]
		if sig.Optional || !c.used(i) {
			continue
		}
		if st.Last.Quality < fleet.Sparse {
			c.add(fleet.Reason{Code: fleet.SignalMissing, Size: c.from, Signal: sig.Name, Since: st.Lost, Note: st.Last.Quality.String()})
			agreed = false
		}
	}
	c.each(func(pol *policy.Policy, r *policy.Rule, st *RuleState) {
		if pol.Mode == fleet.Off || pol.Mode == fleet.Shadow || !r.Out() {
			return
		}
		p := c.s.Signals[r.Signal].Series.Newest()
		if !p.Real() {
			return
		}
		if c.p.Signals[r.Signal].PerWorker && to > 0 {
			p.Value *= float64(c.from) / float64(to)
		}
		if r.Operator.Holds(p.Value, r.Threshold) {
			reason := c.reason(pol, r, st)
			reason.Code, reason.Size, reason.Value, reason.Limit = fleet.Projected, c.from, p.Value, to
			c.add(reason)
			agreed = false
		}
	})
	return agreed
}

// dissent lists who does not agree to a smaller fleet: objectives, forecasts, and signals that have scale-in rules of which none is in
// alarm. It reports whether there are none.
func (c *chain) dissent() bool {
	agreed := c.objections()
	agreed = c.foreseen() && agreed
	for i := range c.p.Signals {
		var no fleet.Reason
		has, yes := false, false
		c.each(func(pol *policy.Policy, r *policy.Rule, st *RuleState) {
			if r.Signal != i || r.Out() || pol.Mode == fleet.Off || pol.Mode == fleet.Shadow {
				return
			}
			if !has {
				no = c.reason(pol, r, st)
			}
			has = true
			yes = yes || st.State == fleet.Alarm
		})
		if has && !yes {
			if c.mute {
				return false
			}
			no.Code, no.Size = fleet.NotAgreed, c.from
			c.add(no)
			agreed = false
		}
	}
	return agreed
}

// used reports whether a policy in force looks at signal i.
func (c *chain) used(i int) bool {
	for k := range c.p.Policies {
		pol := &c.p.Policies[k]
		if pol.Mode == fleet.Off || pol.Mode == fleet.Shadow {
			continue
		}
		for j := range pol.Rules {
			if pol.Rules[j].Signal == i {
				return true
			}
		}
		if slo := pol.SLO; slo != nil && slo.Uses(i) {
			return true
		}
	}
	return false
}

// safeguard passes the need through the safeguards in their fixed order.
func (c *chain) safeguard() {
	mode := c.s.EffectiveMode(c.p)
	modeReason := fleet.Reason{Code: fleet.BlockedMode, Size: c.from, Note: mode.String()}
	if m := c.s.Mode; m != nil {
		modeReason.By, modeReason.Since = m.By, m.At
	}
	switch {
	case mode == fleet.Off:
		c.firm = true
		c.block(modeReason)
	case mode == fleet.Shadow:
		c.d.Shadow, c.firm = true, true
	case mode == fleet.ScaleOutOnly && c.p.Bounds.Clamp(c.to) < c.from:
		c.block(modeReason)
	}
	if o := c.s.Order; o != nil && o.Kind == Hold {
		c.firm = true
		c.block(fleet.Reason{Code: fleet.BlockedHold, Size: c.from, By: o.By, Note: o.Note, Since: o.At, Until: o.Until})
	}
	if c.to == c.from {
		return
	}
	for _, f := range c.p.Freezes {
		if !c.ordered && !c.now.Before(f.From) && c.now.Before(f.To) {
			c.firm = true
			c.block(fleet.Reason{Code: fleet.BlockedFreeze, Size: c.from, Note: f.Name, Since: f.From, Until: f.To})
		}
	}
	c.bound()
	c.claim = c.to
	c.quota()
	up := c.to > c.from
	switch {
	case c.to == c.from || c.floor:
		return
	case c.ordered:
		if up {
			c.guards()
		}
		return
	}
	c.pace = c.p.PaceOf(c.modelled)
	c.step(up)
	c.rate()
	c.cooldown(up)
	if up {
		c.guards()
		c.supplies()
	}
}

func (c *chain) step(up bool) {
	limit, to := c.pace.StepDown, c.from-c.pace.StepDown
	if up {
		limit, to = c.pace.StepUp, c.from+c.pace.StepUp
	}
	if limit == 0 || (up && c.to <= to) || (!up && c.to >= to) {
		return
	}
	c.to = to
	c.add(fleet.Reason{Code: fleet.LimitedStep, Size: to, Limit: limit})
}

func (c *chain) timers() *Timers {
	if c.d.Shadow {
		return &c.s.Shadow
	}
	return &c.s.Acted
}

func (c *chain) rate() {
	if since, end := c.timers().rateLimit(&c.pace); c.now.Before(end) {
		c.block(fleet.Reason{Code: fleet.BlockedRate, Size: c.from, Limit: c.pace.RateCount, Since: since, Until: end})
	}
}

func (c *chain) cooldown(up bool) {
	if since, end := c.timers().cooldown(&c.pace, up); c.now.Before(end) {
		c.block(fleet.Reason{Code: fleet.BlockedCooldown, Size: c.from, Since: since, Until: end})
	}
}

// block notes what keeps the size as it is; of several, the one that ends last is what an operator waits for.
func (c *chain) block(r fleet.Reason) {
	c.add(r)
	endless := r.Until.IsZero()
	if !c.blocked || (endless && !c.endless) || (!endless && !c.endless && r.Until.After(c.until)) {
		c.code, c.until, c.endless = r.Code, r.Until, endless
	}
	c.blocked = true
}

// conclude writes the outcome, and what the state must remember of it.
func (c *chain) conclude() {
	c.s.Claim = 0
	if !c.firm && c.claim > c.from {
		c.s.Claim = c.claim
	}
	if c.to == c.from {
		return
	}
	if c.blocked {
		c.d.Would = fleet.Would{To: c.to, After: c.until, Code: c.code}
		if c.to > c.from {
			c.s.Held = c.now
		}
		return
	}
	c.d.To = c.to
	if !c.alarm.IsZero() && c.to > c.from {
		c.d.Breach, c.d.Alarm = later(c.breach, c.s.Held), later(c.alarm, c.s.Held)
	}
	t := c.timers()
	before := *t
	t.record(c.now, c.to > c.from, keepRecent(c.p))
	if c.d.Shadow {
		return
	}
	a := &Action{
		From: c.from, To: c.to, Since: c.now, Begun: c.now, Deadline: c.now.Add(c.p.ActionLimit),
		Breach: c.d.Breach, Alarm: c.d.Alarm, Before: before,
	}
	if g := c.growing; g != nil {
		a.Enlarges = clonePtr(g)
		a.Enlarges.Enlarges = nil
		a.From, a.Breach, a.Alarm = g.From, g.Breach, g.Alarm
		a.Begun = c.now.Add(-time.Duration(float64(c.now.Sub(g.Begun)) * float64(g.To-g.From) / float64(c.to-g.From)))
	}
	c.s.Action = a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
