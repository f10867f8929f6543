package sim

import (
	"slices"
	"time"

	"tidemark/internal/decide/signal"
	"tidemark/internal/fleet"
)

// requests is the fleet request by request: one FIFO queue for all workers, each of which serves one request at a time.
type requests struct {
	*run
	pool     pool
	waiting  queue[request] // what has come and not started by the end of the last tick
	ahead    float64        // work that was begun and is not done at the last tick's end
	arrivals *Random
	services *Random
	unit     *Law
	ready    []float64 // when those that boot will serve
	slow     float64   // by how much longer services take now
	came     uint64    // in this tick
	next     int       // of Load.Requests
	ended    ended
}

// late is a request that ends after the tick in which it starts.
type late struct{ response, wait float64 } // seconds; what is left of the response is the service

func newRequests(r *run, initial int) model {
	q := &requests{run: r, unit: Exponential(1), arrivals: NewRandom(r.Seed, "arrivals"), services: NewRandom(r.Seed, "services"), ended: newEnded(&r.Plan, 0)}
	q.pool.free = make([]float64, initial, max(r.Policy.Bounds.Max, initial)+1)
	return q
}

// play plays one tick: what waits, and what arrives until end. A request is handed to a worker only in the tick in which it
// starts: by then it is known which workers there are, so that those that come later take their turn in the one queue.
func (q *requests) play(end float64, now time.Time, t *tally) {
	q.slow = q.Faults.slowed(q.now)
	q.ended.begin()
	q.came = 0
	work := 0.0
	for q.waiting.n > 0 && q.pool.free[0] < end {
		next := q.waiting.pop()
		q.start(next.at, next.service, end)
		work += next.service
	}
	work += q.replay(end)
	step := q.Load.Step.Seconds()
	for from := q.now; from < end && q.Load.Requests == nil; {
		i := int(from/step + 1e-9)
		if i >= len(q.Load.Rates) {
			break
		}
		to := min(float64(i+1)*step, end)
		if rate := q.Load.Rates[i]; rate > 0 {
			work += q.arrive(from, to, 1/rate, end)
		}
		from = to
	}
	left := 0.0
	for _, f := range q.pool.free {
		left += max(f-end, 0)
	}
	for _, f := range q.pool.draining {
		left += max(f-end, 0)
	}
	for _, ready := range q.ready { // a worker that boots is not free, and not busy either
		left -= max(ready-end, 0)
	}
	t.arrived, t.busy, t.paid, t.queued = float64(q.came), work+q.ahead-left, q.pay(end), float64(q.waiting.n)
	t.computing = t.busy
	q.ahead = left
	q.result.Requests += q.came
	q.ended.count(now)
	for _, f := range q.pool.free {
		if f > end {
			t.working++
		}
	}
	t.working -= float64(len(q.ready))
}

// arrive plays the arrivals of a stretch with one rate and returns the work that was begun. While nobody waits and answers end within
// the tick, which is nearly always, it does what admit does with all that it needs at hand, and draws a request ahead: where the
// processor guesses wrong how many workers are free before the one that took a request, it need not wait for the next one's tables.
func (q *requests) arrive(from, to, gap, end float64) (work float64) {
	arrivals, services := *q.arrivals, *q.services
	unit, law, slow := q.unit, q.Service, q.slow
	free, responses, waits := q.pool.free, &q.ended.inTick, q.ended.waiting()
	plain := !q.ended.timed && q.waiting.n == 0
	t := from + gap*unit.of(uint32(arrivals.Next()>>32))
	for t < to {
		at, s := t, law.of(uint32(services.Next()>>32))
		t += gap * unit.of(uint32(arrivals.Next()>>32))
		start := free[0]
		if start < at {
			start = at
		}
		done := start + s*slow
		if !plain || done > end {
			work += q.admit(at, s, end)
			plain = plain && q.waiting.n == 0
			continue
		}
		q.came++
		work += s * slow
		responses.Record(done - at)
		waits.Record(start - at)
		i := 1
		for i < len(free) && free[i] < done {
			free[i-1] = free[i]
			i++
		}
		free[i-1] = done
	}
	*q.arrivals, *q.services = arrivals, services
	return work
}

// replay plays what came one by one as it was, and returns the work that was begun.
func (q *requests) replay(end float64) (work float64) {
	for ; q.next < len(q.Load.Requests); q.next++ {
		r := q.Load.Requests[q.next]
		if t := float64(r.At) / 1000; t < end {
			work += q.admit(t, float64(r.Service), end)
		} else {
			break
		}
	}
	return work
}

// admit takes in a request and returns the work that was begun.
func (q *requests) admit(t, s, end float64) (work float64) {
	q.came++
	s *= q.slow
	if q.waiting.n > 0 || q.pool.free[0] >= end {
		q.waiting.push(request{t, s})
		return 0
	}
	q.start(t, s, end)
	return s
}

// start hands a request to a worker, before the tick's end.
func (q *requests) start(t, s, end float64) {
	start := q.pool.serve(t, s)
	if done := start + s; done <= end {
		q.ended.add(late{done - t, start - t})
	} else {
		q.ended.later(int((done-end)/q.Tick.Seconds())+1, late{done - t, start - t})
	}
}

// pay counts the time of all workers that are there until end, booting and draining ones too, in seconds.
func (q *requests) pay(end float64) float64 {
	span := end - q.now
	seconds := float64(len(q.pool.free)) * span
	kept := q.pool.draining[:0]
	for _, f := range q.pool.draining {
		seconds += min(max(f-q.now, 0), span)
		if f > end {
			kept = append(kept, f)
		}
	}
	q.pool.draining = kept
	booting := q.ready[:0]
	for _, ready := range q.ready {
		if ready > end {
			booting = append(booting, ready)
		}
	}
	q.ready = booting
	return seconds
}

func (q *requests) size() fleet.Size {
	return fleet.Size{Known: true, Serving: len(q.pool.free) - len(q.ready), Starting: len(q.ready), Draining: len(q.pool.draining)}
}

func (q *requests) add(ready float64) {
	q.pool.add(ready)
	q.ready = append(q.ready, ready)
}

// remove takes out the worker that is free first; one that still boots just ends.
func (q *requests) remove() {
	free := q.pool.first()
	if i := slices.Index(q.ready, free); i >= 0 {
		q.ready = slices.Delete(q.ready, i, i+1)
	} else if free > q.now {
		q.pool.draining = append(q.pool.draining, free)
	}
}

func (q *requests) quantile(_ int, p *Probe) (float64, uint64) { return q.ended.quantile(p) }

func (q *requests) finish(r *Result) { r.Response, r.Wait = q.ended.response, q.ended.wait }

// ended is what ended tick by tick, and over sliding windows.
type ended struct {
	ends    [][]late // by the tick in which they end, as a ring
	tick    int
	inTick  signal.Histogram // response times of what ended in this tick
	waits   signal.Histogram
	served  signal.Histogram // service times, when a probe reads them
	timed   bool             // a probe does
	waited  bool             // a probe reads waits over a window
	windows []window

	response, wait signal.Histogram // of all
}

// window is a sliding histogram that probes share.
type window struct {
	of     Reads
	length time.Duration
	*signal.Sliding
}

// newEnded is of one route, counted from 1, or of all (0).
func newEnded(p *Plan, of int) ended {
	e := ended{ends: make([][]late, 64)}
	if of == 0 {
		e.window(ResponseTime, p.Target.Window)
	}
	for _, probe := range p.Probes {
		if probe.Route != of {
			continue
		}
		e.timed = e.timed || probe.Reads == ServiceTime
		e.waited = e.waited || probe.Reads == WaitTime
		if windowed(probe.Reads) {
			e.window(probe.Reads, probe.Window)
		}
	}
	return e
}

// windowed reports whether a figure is a quantile over a window.
func windowed(reads Reads) bool {
	return reads == ResponseTime || reads == WaitTime || reads == ServiceTime
}

// window finds a window, or makes it.
func (e *ended) window(of Reads, length time.Duration) *signal.Sliding {
	for i := range e.windows {
		if w := &e.windows[i]; w.of == of && w.length == length {
			return w.Sliding
		}
	}
	e.windows = append(e.windows, window{of, length, signal.NewSliding(length)})
	return e.windows[len(e.windows)-1].Sliding
}

// begin begins a tick.
func (e *ended) begin() {
	e.inTick.Reset()
	if e.waited {
		e.waits.Reset()
	}
	if e.timed {
		e.served.Reset()
	}
	at := e.tick % len(e.ends)
	for _, l := range e.ends[at] {
		e.add(l)
	}
	e.ends[at] = e.ends[at][:0]
}

// waiting is where waits go: to all at once, unless a window needs those of the tick.
func (e *ended) waiting() *signal.Histogram {
	if e.waited {
		return &e.waits
	}
	return &e.wait
}

// add counts a request that ends in this tick.
func (e *ended) add(l late) {
	e.inTick.Record(l.response)
	e.waiting().Record(l.wait)
	if e.timed {
		e.served.Record(l.response - l.wait)
	}
}

// later keeps a request that ends in a tick to come.
func (e *ended) later(ticks int, l late) {
	if ticks >= len(e.ends) {
		bigger := make([][]late, max(2*len(e.ends), ticks+1))
		for i := range e.ends {
			bigger[(e.tick+i)%len(bigger)] = e.ends[(e.tick+i)%len(e.ends)]
		}
		e.ends = bigger
	}
	at := (e.tick + ticks) % len(e.ends)
	e.ends[at] = append(e.ends[at], l)
}

// count ends a tick.
func (e *ended) count(now time.Time) {
	e.tick++
	for i := range e.windows {
		w := &e.windows[i]
		w.Advance(now)
		switch w.of {
		case WaitTime:
			w.Add(&e.waits)
		case ServiceTime:
			w.Add(&e.served)
		default:
			w.Add(&e.inTick)
		}
	}
	e.response.Add(&e.inTick)
	if e.waited {
		e.wait.Add(&e.waits)
	}
}

func (e *ended) quantile(p *Probe) (float64, uint64) {
	total := e.window(p.Reads, p.Window).Total()
	if total.Count() == 0 {
		return 0, 0
	}
	return total.Quantile(p.Quantile), total.Count()
}
