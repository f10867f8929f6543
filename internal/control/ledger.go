package control

import (
	"slices"
	"strings"
	"sync"

	"tidemark/internal/decide/allot"
	"tidemark/internal/decide/engine"
	"tidemark/internal/fleet"
)

// ledger is what the fleets of the instance hold and want. Fleets look and decide one after the other, which takes a microsecond each;
// nothing that may hang happens meanwhile, so no fleet waits for another's sources. What it knows comes from the fleets' states: after
// a restart it is as it was.
type ledger struct {
	mu     sync.Mutex
	quota  int           // of workers; 0: none
	claims []allot.Claim // by name
}

func (l *ledger) find(name string) (int, bool) {
	return slices.BinarySearchFunc(l.claims, name, func(c allot.Claim, name string) int { return strings.Compare(c.Fleet, name) })
}

// enter makes a fleet known.
func (l *ledger) enter(c allot.Claim) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i, ok := l.find(c.Fleet)
	if !ok {
		l.claims = slices.Insert(l.claims, i, allot.Claim{})
	}
	l.claims[i] = c
}

// update replaces what is known of a fleet, unless it has left.
func (l *ledger) update(c allot.Claim) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i, ok := l.find(c.Fleet); ok {
		l.claims[i] = c
	}
}

// leave forgets a fleet: its workers are no longer looked at.
func (l *ledger) leave(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i, ok := l.find(name); ok {
		l.claims = slices.Delete(l.claims, i, i+1)
	}
}

// fleets is how many there are, at least one.
func (l *ledger) fleets() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(1, len(l.claims))
}

// decide gives a fleet what is left to it, lets it decide, and notes what it holds and wants then.
func (l *ledger) decide(name string, step func(engine.Allotment) allot.Claim) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i, ok := l.find(name)
	if !ok { // it is leaving
		step(engine.Allotment{})
		return
	}
	l.claims[i] = step(allot.For(l.quota, l.claims, i))
}

// claim is what the fleet's state says that it holds and wants.
func (r *runner) claim() allot.Claim {
	s, p := r.state, &r.parts.Policy
	c := allot.Claim{Fleet: p.Name, Priority: r.parts.Priority, Min: p.Bounds.Min, Holds: s.Size.Workers() + s.Size.Draining, Coming: s.Size.Starting, Wants: s.Claim}
	if a := s.Action; a != nil {
		c.Holds = max(c.Holds, a.To)
		c.Coming = max(c.Coming, a.To-s.Size.Serving)
	}
	for _, supply := range p.Supplies {
		c.Each[supply.Resource] = s.Each[supply.Resource]
	}
	if s.EffectiveMode(p) <= fleet.Shadow {
		c.Wants, c.Coming = 0, 0 // nothing comes of it
	}
	return c
}

// Share sets the quota of workers that all fleets share; 0 is none. It takes effect with each fleet's next tick.
func (l *Loop) Share(quota int) {
	l.ledger.mu.Lock()
	defer l.ledger.mu.Unlock()
	l.ledger.quota = quota
}
