package proxy

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// pool decides which worker takes which request, and keeps those that wait. One small lock guards it: all that is done
// under it is counting and choosing.
//
// It holds that no request waits while a worker is ready for one.
type pool struct {
	mu      sync.Mutex
	plan    *plan
	workers []*worker // in service
	leaving []*worker // out of service with something still to finish, or drained a moment ago
	queues  []queue   // by rank: the most important first
	waiting int
	turn    int // where to begin the search: ties go round
	closed  bool
	timers  map[*time.Timer]struct{} // that end suspicion

	pace pace

	// Integrals over time, for the share of slots that are occupied.
	at          time.Time
	occupied    int     // slots of workers in service, now
	busy, slots float64 // slot-seconds
}

// Why a request got no worker.
var (
	errShed    = errors.New("the queue is full")
	errTooLong = errors.New("waited too long for a worker")
	errClosed  = errors.New("the proxy is stopping")
)

// drainHold is how long a drained worker stays out although it is listed: a list made before the drain may arrive after.
const drainHold = 5 * time.Second

// Pauses before a worker that could not be reached is tried again.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 2 * time.Second
)

func newPool(p *plan) *pool {
	return &pool{plan: p, queues: make([]queue, len(p.classes)), timers: map[*time.Timer]struct{}{}, at: time.Now()}
}

// waiter is a request in the queue.
type waiter struct {
	path       string
	grant      chan grant // one is sent, by whoever takes it out of the queue
	in         *queue     // nil when it is out
	prev, next *waiter
}

type grant struct {
	worker *worker
	err    error
}

// queue is a doubly linked list.
type queue struct {
	head, tail *waiter
	n          int
}

func (q *queue) push(w *waiter) {
	w.in, w.prev, w.next = q, q.tail, nil
	if q.tail != nil {
		q.tail.next = w
	} else {
		q.head = w
	}
	q.tail = w
	q.n++
}

func (q *queue) pushFront(w *waiter) {
	w.in, w.prev, w.next = q, nil, q.head
	if q.head != nil {
		q.head.prev = w
	} else {
		q.tail = w
	}
	q.head = w
	q.n++
}

func (q *queue) remove(w *waiter) {
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		q.head = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		q.tail = w.prev
	}
	w.in, w.prev, w.next = nil, nil, nil
	q.n--
}

// acquire gives the request a worker, at once or after waiting no longer than timeout. first puts a request that had a
// worker already before the others of its class. ctx ends when the client leaves. waits counts those that wait.
func (p *pool) acquire(ctx context.Context, path string, timeout time.Duration, first bool, waits func(delta int64)) (*worker, error) {
	p.mu.Lock()
	if w := p.pick(); w != nil {
		p.give(w)
		p.mu.Unlock()
		return w, nil
	}
	wt := &waiter{path: path, grant: make(chan grant, 1)}
	if err := p.enqueue(wt, first); err != nil {
		p.mu.Unlock()
		return nil, err
	}
	p.mu.Unlock()

	waits(1)
	defer waits(-1)
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	var why error
	select {
	case g := <-wt.grant:
		return g.worker, g.err
	case <-timer.C:
		why = errTooLong
	case <-ctx.Done():
		why = ctx.Err()
	}
	p.mu.Lock()
	if wt.in != nil {
		wt.in.remove(wt)
		p.waiting--
		p.mu.Unlock()
		return nil, why
	}
	p.mu.Unlock()
	g := <-wt.grant // it was granted in the same moment
	if g.worker != nil && ctx.Err() != nil {
		p.release(g.worker, false)
		return nil, ctx.Err()
	}
	return g.worker, g.err
}

// enqueue puts a request into its queue, or sheds: the newest of the least important class that waits, or this one.
func (p *pool) enqueue(w *waiter, first bool) error {
	if p.closed {
		return errClosed
	}
	rank := p.plan.rank(w.path)
	if first {
		p.queues[rank].pushFront(w)
		p.waiting++
		return nil
	}
	class := p.plan.classes[rank]
	if class.limit > 0 && p.queues[rank].n >= class.limit {
		return errShed
	}
	if wait := p.predict(rank, time.Now()); wait > class.timeout {
		return &tooLong{wait - class.timeout}
	}
	if p.waiting >= p.plan.cfg.Queue.Limit {
		victim := p.leastImportant(class.priority)
		if victim == nil {
			return errShed
		}
		p.answer(victim, grant{err: errShed})
	}
	p.queues[rank].push(w)
	p.waiting++
	return nil
}

// leastImportant is the newest waiting request of the least important class that is less important than priority.
func (p *pool) leastImportant(priority int) *waiter {
	for i := len(p.queues) - 1; i >= 0 && p.plan.classes[i].priority > priority; i-- {
		if p.queues[i].n > 0 {
			return p.queues[i].tail
		}
	}
	return nil
}

// answer takes a request out of its queue and tells it its fate.
func (p *pool) answer(w *waiter, g grant) {
	w.in.remove(w)
	p.waiting--
	w.grant <- g
}

// pick finds the worker with the least in flight that may take a request; nil when there is none.
func (p *pool) pick() *worker {
	n, limit := len(p.workers), p.plan.cfg.MaxInFlight
	var best *worker
	next := 0
	for k := range n {
		w := p.workers[(p.turn+k)%n]
		if (best == nil || w.inFlight < best.inFlight) && w.ready(limit) {
			best, next = w, p.turn+k+1
			if w.inFlight == 0 {
				break
			}
		}
	}
	if best != nil {
		p.turn = next % n
	}
	return best
}

// slotsOf is how many requests a worker can be busy with.
func (p *pool) slotsOf() int { return max(p.plan.cfg.MaxInFlight, 1) }

// integrate brings the integrals up to now; call it before what they add up changes.
func (p *pool) integrate(now time.Time) {
	dt := now.Sub(p.at).Seconds()
	if dt > 0 {
		p.busy += dt * float64(p.occupied)
		p.slots += dt * float64(len(p.workers)*p.slotsOf())
		p.at = now
	}
}

// recount counts the occupied slots anew after the workers or their limit changed.
func (p *pool) recount() {
	p.occupied = 0
	for _, w := range p.workers {
		p.occupied += min(w.inFlight, p.slotsOf())
	}
}

func (p *pool) give(w *worker) {
	p.integrate(time.Now())
	w.inFlight++
	w.requests++
	if w.inFlight <= p.slotsOf() {
		p.occupied++
	}
	if w.failures > 0 {
		w.probing = true
	}
}

// take is the reverse of give; w may have left since.
func (p *pool) take(w *worker) {
	p.integrate(time.Now())
	w.inFlight--
	if w.inFlight < p.slotsOf() && w.inService {
		p.occupied--
	}
	w.probing = false
	w.settle()
}

// release says that the worker is done with one request.
func (p *pool) release(w *worker, failed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if failed {
		w.errors++
	}
	p.take(w)
	p.pace.end(p.at, p.busy)
	p.dispatch()
}

// dispatch gives waiting requests to workers that are ready: the most important first, in order of arrival.
func (p *pool) dispatch() {
	for rank := 0; p.waiting > 0 && rank < len(p.queues); {
		head := p.queues[rank].head
		if head == nil {
			rank++
			continue
		}
		w := p.pick()
		if w == nil {
			return
		}
		p.give(w)
		p.answer(head, grant{worker: w})
	}
}

// unreachable notes that no connection to w could be made, and releases it.
func (p *pool) unreachable(w *worker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	w.errors++
	w.suspect.Store(true)
	if !now.Before(w.retryAt) { // those that were on their way with the first say nothing new
		w.failures++
		pause := min(firstPause<<min(w.failures-1, 8), lastPause)
		w.retryAt = now.Add(pause)
		p.after(pause)
	}
	p.take(w)
	p.dispatch()
}

// reached notes that w was connected to.
func (p *pool) reached(w *worker) {
	if !w.suspect.Load() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.failures > 0 {
		w.failures, w.probing = 0, false
		w.suspect.Store(false)
		p.dispatch()
	}
}

// after looks for requests that can be given out when a pause is over.
func (p *pool) after(d time.Duration) {
	if p.closed {
		return
	}
	var t *time.Timer
	t = time.AfterFunc(d, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.timers, t)
		p.dispatch()
	})
	p.timers[t] = struct{}{}
}

// set makes exactly these the workers in service.
func (p *pool) set(list []Endpoint) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.integrate(now)
	p.forget(now)
	find := func(from []*worker, e Endpoint) *worker {
		for _, w := range from {
			if w.Endpoint == e {
				return w
			}
		}
		return nil
	}
	next := make([]*worker, 0, len(list))
	for _, e := range list {
		w := find(p.workers, e)
		if w == nil {
			if w = find(p.leaving, e); w != nil {
				if w.drains > 0 || now.Before(w.heldUntil) {
					continue
				}
				p.comeBack(w)
			} else {
				w = newWorker(e, &p.plan.cfg)
			}
		}
		w.inService = true
		next = append(next, w)
	}
	before := p.workers
	p.workers = next
	for _, w := range before {
		if !slices.Contains(next, w) {
			p.leave(w)
		}
	}
	p.recount()
	p.dispatch()
}

// leave has taken w out of service: what it has it may finish, upgraded connections for a limited time.
func (p *pool) leave(w *worker) {
	w.inService = false
	p.leaving = append(p.leaving, w)
	w.cut = time.AfterFunc(p.plan.cfg.WebsocketDrain, func() { p.cutOff(w) })
	if w.quiet() {
		w.transport.CloseIdleConnections()
	}
}

func (p *pool) comeBack(w *worker) {
	w.cut.Stop()
	w.cutting = false
	p.leaving = slices.DeleteFunc(p.leaving, func(o *worker) bool { return o == w })
}

// cutOff closes the upgraded connections of a worker that left.
func (p *pool) cutOff(w *worker) {
	p.mu.Lock()
	if w.inService {
		p.mu.Unlock()
		return
	}
	w.cutting = true
	open := make([]*upgrade, 0, len(w.upgrades))
	for u := range w.upgrades {
		open = append(open, u)
	}
	p.mu.Unlock()
	for _, u := range open {
		u.cut()
	}
}

// forget drops the workers that have left and have nothing more to do.
func (p *pool) forget(now time.Time) {
	p.leaving = slices.DeleteFunc(p.leaving, func(w *worker) bool {
		gone := w.quiet() && w.drains == 0 && !now.Before(w.heldUntil)
		if gone {
			w.cut.Stop()
			w.transport.CloseIdleConnections()
		}
		return gone
	})
}

// drain takes the worker out of service and returns when it has nothing more to do, or with ctx's error: then it
// stays out and goes on finishing. A worker that is not known has nothing to do.
func (p *pool) drain(ctx context.Context, id string) error {
	p.mu.Lock()
	p.integrate(time.Now())
	var mine []*worker // more than one when an id was given to a new address
	for i := len(p.workers) - 1; i >= 0; i-- {
		if w := p.workers[i]; w.ID == id {
			p.workers = slices.Delete(slices.Clone(p.workers), i, i+1)
			p.leave(w)
		}
	}
	for _, w := range p.leaving {
		if w.ID == id {
			w.drains++
			mine = append(mine, w)
		}
	}
	p.recount()
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, w := range mine {
			w.drains--
			w.heldUntil = time.Now().Add(drainHold)
		}
	}()
	for _, w := range mine {
		if err := p.settled(ctx, w); err != nil {
			return err
		}
		w.transport.CloseIdleConnections()
	}
	return nil
}

// settled waits until w has nothing to do.
func (p *pool) settled(ctx context.Context, w *worker) error {
	p.mu.Lock()
	if w.quiet() {
		p.mu.Unlock()
		return nil
	}
	if w.idle == nil {
		w.idle = make(chan struct{})
	}
	idle := w.idle
	p.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// upgraded turns a request of u's worker into an upgraded connection.
func (p *pool) upgraded(u *upgrade) {
	p.mu.Lock()
	u.worker.upgrades[u] = struct{}{}
	cutting := u.worker.cutting || p.closed
	p.take(u.worker)
	p.dispatch()
	p.mu.Unlock()
	if cutting {
		u.cut()
	}
}

// downgraded notes that an upgraded connection has ended.
func (p *pool) downgraded(u *upgrade) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(u.worker.upgrades, u)
	u.worker.settle()
}

// apply puts a new plan in force. Those that wait keep their order within their class.
func (p *pool) apply(next *plan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.integrate(time.Now())
	old := p.queues
	p.plan, p.queues, p.waiting = next, make([]queue, len(next.classes)), 0
	for i := range old {
		for w := old[i].head; w != nil; w = old[i].head {
			old[i].remove(w)
			p.queues[next.rank(w.path)].push(w)
			p.waiting++
		}
	}
	p.recount()
	p.dispatch()
}

// close refuses all that wait and cuts what is upgraded. Requests at a worker go on.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	for t := range p.timers {
		t.Stop()
	}
	for i := range p.queues {
		for w := p.queues[i].head; w != nil; w = p.queues[i].head {
			p.answer(w, grant{err: errClosed})
		}
	}
	var open []*upgrade
	all := slices.Concat(p.workers, p.leaving)
	for _, w := range all {
		if w.cut != nil {
			w.cut.Stop()
		}
		for u := range w.upgrades {
			open = append(open, u)
		}
	}
	p.mu.Unlock()
	for _, u := range open {
		u.cut()
	}
	for _, w := range all {
		w.transport.CloseIdleConnections()
	}
}

// stats fills in what the pool knows.
func (p *pool) stats(s *Stats) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.integrate(time.Now())
	s.Busy, s.Slots = p.busy, p.slots
	s.Workers = make([]WorkerStats, 0, len(p.workers)+len(p.leaving))
	for _, list := range [][]*worker{p.workers, p.leaving} {
		for _, w := range list {
			s.Workers = append(s.Workers, WorkerStats{
				ID: w.ID, Address: w.Address, State: w.state(),
				InFlight: w.inFlight, Upgraded: len(w.upgrades), Requests: w.requests, Errors: w.errors,
			})
		}
	}
}
