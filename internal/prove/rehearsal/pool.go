package rehearsal

import (
	"sync"
	"time"
)

// pool are the visitors of a stream of arrivals. Each has a goroutine, which waits for the next visit when one is over: starting anew
// for each would cost it its grown stack, and its connection where that is kept. Who left last, whose memory is still in the caches, comes
// back first; now and then who left first does, so that no connection is left unused until the server closes it.
//
// An arrival for whom nobody is free hires somebody, or goes to who comes back before that. Opening a connection costs several requests'
// time: hiring for all who came during a stall of the service or of the machine would be the next stall. So where connections are kept,
// hiring is paced, and a reserve is hired before it is needed: visitors with an open connection for all who may come in a stall of the
// length of cover.
type pool struct {
	hire    func() (*visitor, error)
	connect func(*visitor) // opens its connection
	visit   func(*visitor, arrival)
	failed  func(error)
	paced   bool // connections are kept
	most    int  // visitors in all, of whom the reserve takes what is left

	mu      sync.Mutex
	sent    uint
	seats   int
	free    []*seat
	coming  int       // hired for the reserve, and not free yet
	reserve int       // of visitors that are free
	waiting []arrival // in order
	hiring  bool
	over    bool
	all     sync.WaitGroup
}

// cover is the length of the stalls of the service that the reserve is for. At fewer than twenty arrivals a second there is none.
const cover = 50 * time.Millisecond

// oldest is every how many arrivals who left first comes back: all of the reserve within 2.5 s.
const oldest = 50

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

// send lets somebody make the visit. rate is that of the arrivals about now, per second.
func (p *pool) send(a arrival, rate float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.paced {
		p.reserve = int(rate * cover.Seconds())
	}
	if len(p.free) > 0 {
		p.sent++
		s := p.free[0]
		if last := len(p.free) - 1; p.sent%oldest > 0 {
			s = p.free[last]
			p.free = p.free[:last]
		} else {
			p.free = p.free[1:]
		}
		s.next <- a // there is room for it
	} else {
		p.waiting = append(p.waiting, a)
	}
	if !p.hiring && (len(p.waiting) > 0 || len(p.free)+p.coming < p.reserve) {
		p.hiring = true
		p.all.Go(p.recruit)
	}
}

// recruit hires for those who wait, and the reserve, until both are served.
func (p *pool) recruit() {
	for n := 1; ; n++ {
		a, some := p.want()
		if !some {
			return
		}
		p.all.Go(func() { p.serve(a) })
		if p.paced && n%hires == 0 {
			time.Sleep(pace)
		}
	}
}

// want is whom the next visitor is hired for: who has waited longest, or nil for the reserve. Without either, hiring is over.
func (p *pool) want() (a *arrival, some bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case len(p.waiting) > 0:
		first := p.waiting[0]
		p.waiting = p.waiting[1:]
		p.seats++
		return &first, true
	case len(p.free)+p.coming < p.reserve && p.seats < p.most && !p.over:
		p.coming++
		p.seats++
		return nil, true
	}
	p.hiring = false
	return nil, false
}

// serve is a visitor's life, from its first visit on or, in the reserve, from opening its connection.
func (p *pool) serve(first *arrival) {
	v, err := p.hire()
	if err != nil {
		if first == nil {
			p.arrived()
			return
		}
		p.failed(err)
		return
	}
	defer v.close()
	s := &seat{v, make(chan arrival, 1)}
	if first == nil {
		p.connect(v)
		p.arrived()
	} else {
		p.visit(v, *first)
	}
	for {
		a, ok := p.take(s)
		if !ok {
			if a, ok = <-s.next; !ok {
				return
			}
		}
		p.visit(v, a)
	}
}

// arrived says that one of the reserve is no longer coming.
func (p *pool) arrived() {
	p.mu.Lock()
	p.coming--
	p.mu.Unlock()
}

// take hands over who has waited longest. Without anybody, the visitor is free.
func (p *pool) take(s *seat) (arrival, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) > 0 {
		a := p.waiting[0]
		p.waiting = p.waiting[1:]
		return a, true
	}
	if p.over {
		close(s.next)
	} else {
		p.free = append(p.free, s)
	}
	return arrival{}, false
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
