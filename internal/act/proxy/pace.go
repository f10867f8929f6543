package proxy

import (
	"fmt"
	"time"
)

// pace measures for how long a request occupies a worker's slot: the slot-seconds of the last 10 to 20 seconds over the requests
// that ended in them. While all slots are stuck the one grows and the other does not, so a stall is seen before its end.
type pace struct {
	ended         uint64
	older, newest mark
}

// mark is the pool's figures at one moment.
type mark struct {
	at    time.Time
	busy  float64 // slot-seconds
	ended uint64
}

const paceOver = 10 * time.Second

// end counts a request that ended.
func (p *pace) end(now time.Time, busy float64) {
	p.ended++
	p.turn(now, busy)
}

// turn moves the marks on.
func (p *pace) turn(now time.Time, busy float64) {
	here := mark{now, busy, p.ended}
	switch age := now.Sub(p.newest.at); {
	case age >= 2*paceOver: // at rest between
		p.older, p.newest = here, here
	case age >= paceOver:
		p.older, p.newest = p.newest, here
	}
}

// service is the mean time that a request occupies a slot, in seconds; 0 when nothing was measured lately.
func (p *pace) service(now time.Time, busy float64) float64 {
	p.turn(now, busy)
	return (busy - p.older.busy) / float64(max(1, p.ended-p.older.ended))
}

// predict is how long a request of a class that comes now will wait: until as many slots are free as requests of this and of more
// important classes are before it, and one more. What is more important and comes later is not foreseen, so it is the least.
// 0: nothing can be said (no worker can be reached, or they have no limit).
func (p *pool) predict(rank int, now time.Time) time.Duration {
	p.integrate(now)
	service := p.pace.service(now, p.busy)
	slots := 0
	for _, w := range p.workers {
		if w.failures == 0 {
			slots += p.plan.cfg.MaxInFlight
		}
	}
	if slots == 0 {
		return 0
	}
	ahead := 1
	for i := range p.queues[:rank+1] {
		ahead += p.queues[i].n
	}
	return time.Duration(float64(ahead) * service / float64(slots) * float64(time.Second))
}

// tooLong refuses a request that would wait in vain. It is errShed: the request never waited.
type tooLong struct {
	over time.Duration // by so much the wait is longer than the class allows
}

func (t *tooLong) Error() string {
	return fmt.Sprintf("would wait %v longer than its class allows", t.over.Round(time.Millisecond))
}

func (t *tooLong) Unwrap() error { return errShed }
