package engine

import (
	"math"

	"tidemark/internal/fleet"
)

// schedule narrows the bounds to what the windows ask for now. out is the size that scale-out rules ask for: a ceiling that is
// cancelled by load does not count then.
func (c *chain) schedule(out int) {
	if c.p.Schedule == nil {
		return
	}
	c.limits = c.s.windows.at(c.p.Schedule, c.now)
	loaded := out > c.from
	c.bounds, _ = c.limits.Bounds(c.p.Bounds, loaded) // check warns of limits that contradict each other
	c.capped = c.limits.Ceiling
	if loaded {
		c.capped = c.limits.CeilingUnderLoad
	}
	if low := c.limits.Ceiling; loaded && low.Workers > 0 && out > low.Workers && c.bounds.Max > low.Workers {
		c.add(fleet.Reason{Code: fleet.CeilingLifted, Size: c.from, Limit: low.Workers, Note: low.By, Until: low.Until})
	}
}

// ceiling is the reason of the ceiling in force.
func (c *chain) ceiling(code fleet.Code) fleet.Reason {
	return fleet.Reason{Code: code, Size: c.bounds.Max, Limit: c.bounds.Max, Note: c.capped.By, Until: c.capped.Until}
}

// underCeiling is the size that a ceiling brings a fleet down to. One that is cancelled by load is so beforehand, too: it removes
// nobody whose work the others could not do.
func (c *chain) underCeiling() int {
	c.add(c.ceiling(fleet.ScheduledCeiling))
	to, hard := c.bounds.Max, c.from
	if under := c.limits.CeilingUnderLoad.Workers; under > 0 {
		hard = min(hard, max(under, c.bounds.Min))
	}
	next := to
	if c.p.StepDown > 0 {
		next = max(to, c.from-c.p.StepDown)
	}
	if hard == to {
		return to
	}
	agreed := c.objections()
	agreed = c.foreseen() && agreed
	if c.harmless(next) && agreed {
		return to
	}
	return hard
}

// bound keeps the size within the bounds. The schedule's do not count for an operator's pin and for the minimum, which is restored at
// once; and its ceiling is no reason to remove more than was proposed: underCeiling has seen to that.
func (c *chain) bound() {
	b := c.bounds
	switch {
	case c.ordered, c.floor:
		b = c.p.Bounds
	case c.to < c.from:
		b.Max = c.p.Bounds.Max
	}
	to := b.Clamp(c.to)
	if to == c.to {
		return
	}
	r := fleet.Reason{Code: fleet.LimitedBounds, Limit: to}
	switch {
	case c.to > b.Max && b.Max < c.p.Bounds.Max:
		r = c.ceiling(fleet.LimitedCeiling)
	case c.to < b.Min && b.Min > c.p.Bounds.Min:
		f := c.limits.Floor
		r = fleet.Reason{Code: fleet.LimitedFloor, Limit: b.Min, Note: f.By, Until: f.Until}
	}
	r.Size, r.Want = to, c.to
	c.to = to
	c.add(r)
}

// room is the most workers that the quota leaves to the fleet: never fewer than its minimum.
func (c *chain) room() int {
	if !c.allot.Limited {
		return math.MaxInt
	}
	return max(c.allot.Workers, c.p.Bounds.Min)
}

// quota keeps a scale-out within what the instance's quota leaves.
func (c *chain) quota() {
	room := c.room()
	if c.to <= room || c.to <= c.from {
		return
	}
	r := fleet.Reason{Code: fleet.LimitedQuota, Size: max(room, c.from), Limit: room, Want: c.to}
	if room > c.from {
		c.to = room
		c.add(r)
		return
	}
	c.block(r)
}
