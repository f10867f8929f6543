package engine

import (
	"slices"
	"time"

	"tidemark/internal/decide/policy"
)

// Timers are what cooldowns and the rate limit count from.
type Timers struct {
	Up     time.Time   `json:"up,omitzero"`
	Down   time.Time   `json:"down,omitzero"`
	Recent []time.Time `json:"recent,omitempty"` // scalings, oldest first, as many as the rate limit counts
}

// record notes a scaling for cooldowns and the rate limit.
func (t *Timers) record(now time.Time, up bool, keep int) {
	if up {
		t.Up = now
	} else {
		t.Down = now
	}
	t.Recent = append(slices.Clone(t.Recent), now)
	if extra := len(t.Recent) - max(keep, 1); extra > 0 {
		t.Recent = t.Recent[extra:]
	}
}

// keepRecent is how many scalings a rate limit may count.
func keepRecent(p *policy.Fleet) int {
	return max(p.RateCount, p.PaceOf(true).RateCount)
}

// rateLimit is the scaling from which the rate limit counts now, and when it lets the next one through; zero: at once.
func (t *Timers) rateLimit(p *policy.Pace) (since, end time.Time) {
	n := p.RateCount
	if n == 0 || len(t.Recent) < n {
		return time.Time{}, time.Time{}
	}
	since = t.Recent[len(t.Recent)-n]
	return since, since.Add(p.RateWindow)
}

// cooldown is the scaling that must have been for a while, and when it has; zero: at once.
func (t *Timers) cooldown(p *policy.Pace, up bool) (since, end time.Time) {
	since, wait := t.Up, p.CooldownUp
	if !up {
		wait = p.CooldownDown
		if t.Down.After(since) {
			since = t.Down
		}
	}
	if since.IsZero() {
		return time.Time{}, time.Time{}
	}
	return since, since.Add(wait)
}

func (t *Timers) shift(d time.Duration) {
	shift(&t.Up, d)
	shift(&t.Down, d)
	for i := range t.Recent {
		shift(&t.Recent[i], d)
	}
}

// Path is the size that a fleet would have had if one policy alone had decided, at the pace of the safeguards. Guards, holds and
// modes are left out of it; what the policy asks for is reckoned from the load as it was, not as that fleet would have met it.
type Path struct {
	Size int `json:"size"`
	Timers
}

// follow goes on from the tick before: up to need, down to lately, the largest need of late, when that is certain.
func (t *Path) follow(p *policy.Fleet, now time.Time, current, need, lately int, certain bool) {
	if t.Size == 0 {
		t.Size = current
	}
	to, pace := t.Size, p.PaceOf(true)
	switch {
	case need > t.Size:
		to = need
		if pace.StepUp > 0 {
			to = min(to, t.Size+pace.StepUp)
		}
	case lately < t.Size && certain:
		to = lately
		if pace.StepDown > 0 {
			to = max(to, t.Size-pace.StepDown)
		}
	}
	to = p.Bounds.Clamp(to)
	_, rate := t.rateLimit(&pace)
	_, cooldown := t.cooldown(&pace, to > t.Size)
	if to == t.Size || now.Before(rate) || now.Before(cooldown) {
		return
	}
	t.record(now, to > t.Size, keepRecent(p))
	t.Size = to
}
