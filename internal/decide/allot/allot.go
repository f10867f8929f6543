// Package allot divides among the fleets of an instance what they share: a quota of workers, connections of the database, memory of
// the host. Fleets that go first get what they ask for before the others; nobody gets less than its minimum; what nobody asks for is
// there for whoever asks first.
//
// It is a function of what the fleets have and want, computed anew at each tick of each fleet: nothing is set aside that could be
// forgotten.
package allot

import (
	"tidemark/internal/decide/engine"
	"tidemark/internal/decide/policy"
)

// Claim is what one fleet has and wants.
type Claim struct {
	Fleet    string
	Priority int // 1 goes first; equals are served as they come
	Min      int
	Holds    int // workers that exist, those that drain included, or are on their way
	Coming   int // of them, those that do not serve yet: what they take is not missing from what is measured as free
	Wants    int // what it would have by now if there were room; 0 or less than Holds: no more than it holds
	// Each is what one of its workers takes of a resource that the fleet has a budget for; 0: no budget.
	Each [policy.Resources]float64
}

// held is what nobody else may have: a minimum is kept free for whom it belongs to.
func (c *Claim) held() int { return max(c.Holds, c.Min) }

// before reports whether c keeps what it has when o must give way.
func (c *Claim) before(o *Claim) bool {
	return c.Priority < o.Priority || (c.Priority == o.Priority && c.Fleet < o.Fleet)
}

// For is what is left to the fleet of claims[me]. A quota of 0 is none. The minima of all fleets together must not exceed it.
//
// A fleet grows into what no other holds. It shrinks to its share when fleets that go first want more than there is, or when the quota
// was lowered: to its minimum and what is left when all that go before it have what they hold and, of a higher priority, want.
//
// Of a resource what is kept for others is what workers on their way will take and what fleets of a higher priority still want; nobody
// shrinks for it.
func For(quota int, claims []Claim, me int) engine.Allotment {
	my := &claims[me]
	a := engine.Allotment{Limited: quota > 0}
	others, share := 0, quota
	for i := range claims {
		c := &claims[i]
		if i == me {
			continue
		}
		first := c.Priority < my.Priority
		others += c.held()
		switch {
		case first:
			share -= max(c.held(), c.Wants)
		case c.before(my):
			share -= c.held()
		default:
			share -= c.Min
		}
		waits := c.Coming
		if first {
			waits += max(c.Wants-c.Holds, 0)
		}
		for r := range c.Each {
			a.Reserved[r] += float64(waits) * c.Each[r]
		}
	}
	if a.Limited {
		a.Workers = max(my.Min, min(share, max(quota-others, my.Holds)))
	}
	return a
}
