package rehearsal

import (
	"sync"
	"time"
)

// pool are the visitors of a stream of arrivals. Each has a goroutine, which waits for the next visit when one is over: starting anew
// for each would cost it its grown stack, and its connection where that is kept. Who left last comes back first.
//
// An arrival for whom nobody is free hires somebody, or goes to who comes back before that. Hiring is paced where connections are kept:
// opening one costs several requests' time, so that after a stall of the service or of the machine, hiring for all who came meanwhile
// would be the next stall.
type pool struct {
	hire   func() (*visitor, error)
	visit  func(*visitor, arrival)
	failed func(error)
	paced  bool

	mu      sync.Mutex
	free    []*seat
	waiting []arrival // in order
	hiring  bool
	over    bool
	all     sync.WaitGroup
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

// hires and pace let 2,000 be hired in a second.
const (
	hires = 2
	pace  = time.Millisecond
)

// send lets somebody make the visit.
func (p *pool) send(a arrival) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if last := len(p.free) - 1; last >= 0 {
		s := p.free[last]
		p.free = p.free[:last]
		s.next <- a // there is room for it
		return
	}
	p.waiting = append(p.waiting, a)
	if !p.hiring {
		p.hiring = true
		p.all.Go(p.recruit)
	}
}

// recruit hires for those who wait, until none does.
func (p *pool) recruit() {
	for n := 1; ; n++ {
		a, ok := p.take(nil)
		if !ok {
			return
		}
		p.all.Go(func() { p.serve(a) })
		if p.paced && n%hires == 0 {
			time.Sleep(pace)
		}
	}
}

// take hands over who has waited longest. Without anybody, a visitor is free, and the recruiter, who has no seat, done.
func (p *pool) take(s *seat) (arrival, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) > 0 {
		a := p.waiting[0]
		p.waiting = p.waiting[1:]
		return a, true
	}
	switch {
	case s == nil:
		p.hiring = false
	case p.over:
		close(s.next)
	default:
		p.free = append(p.free, s)
	}
	return arrival{}, false
}

// serve is a visitor's life.
func (p *pool) serve(a arrival) {
	v, err := p.hire()
	if err != nil {
		p.failed(err)
		return
	}
	defer v.close()
	s := &seat{v, make(chan arrival, 1)}
	for ok := true; ok; {
		p.visit(v, a)
		if a, ok = p.take(s); !ok {
			a, ok = <-s.next
		}
	}
}

// leave sends everybody home when their visits are over, and returns when they are.
func (p *pool) leave() {
	p.mu.Lock()
	p.over = true
	for _, s := range p.free {
		close(s.next)
	}
	p.free = nil
	p.mu.Unlock()
	p.all.Wait()
}
