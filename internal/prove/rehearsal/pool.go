package rehearsal

import (
	"sync"
	"time"
)

// pool are the visitors of a stream of arrivals. Each has a goroutine, which waits for the next visit when one is over: starting anew
// for each would cost it its grown stack, and its connection where that is kept. Who left last comes back first.
type pool struct {
	mu   sync.Mutex
	free []*seat
	all  sync.WaitGroup
	over bool
}

// seat is where a visitor waits.
type seat struct {
	*visitor
	next chan arrival
}

// arrival is a visit that begins.
type arrival struct {
	at   time.Duration
	more map[string]any
}

// send lets a visitor who is free make the visit, or one who is made for it.
func (p *pool) send(a arrival, hire func() (*visitor, error), visit func(*visitor, arrival), failed func(error)) {
	p.mu.Lock()
	if last := len(p.free) - 1; last >= 0 {
		s := p.free[last]
		p.free = p.free[:last]
		p.mu.Unlock()
		s.next <- a
		return
	}
	p.mu.Unlock()
	p.all.Go(func() {
		v, err := hire()
		if err != nil {
			failed(err)
			return
		}
		defer v.close()
		s := &seat{v, make(chan arrival, 1)}
		for ok := true; ok; a, ok = <-s.next {
			visit(v, a)
			if !p.wait(s) {
				return
			}
		}
	})
}

// wait takes a visitor in who has nothing to do; false when nobody comes any more.
func (p *pool) wait(s *seat) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.over {
		p.free = append(p.free, s)
	}
	return !p.over
}

// leave sends everybody home, and returns when they are.
func (p *pool) leave() {
	p.mu.Lock()
	p.over = true
	for _, s := range p.free {
		close(s.next)
	}
	p.mu.Unlock()
	p.all.Wait()
}
