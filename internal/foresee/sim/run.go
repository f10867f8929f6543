package sim

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"tidemark/internal/decide/engine"
	"tidemark/internal/decide/policy"
	"tidemark/internal/decide/signal"
	"tidemark/internal/fleet"
	"tidemark/internal/foresee/load"
)

// Plan is one run: a policy, what its signals read on the virtual fleet, and what the fleet goes through.
type Plan struct {
	Policy  *policy.Fleet
	Probes  []Probe // by index of Policy.Signals
	Load    *load.Series
	Service *Law
	Boot    time.Duration // from the action's start until the new worker serves
	Tick    time.Duration
	Initial int // workers at the start; 0: the policy's minimum
	Target  Objective
	Faults  Faults
	Seed    uint64
	// Control, unless nil, sizes the fleet in the engine's place, so that others can be compared on the same load: given what is observed, the
	// readings by index of Probes, it returns the size to have.
	Control func(*engine.Input) int
	// Each, unless nil, is told of every tick; Decided of every decision that changes the size. What they point at is
	// used again.
	Each    func(*Sample)
	Decided func(*fleet.Decision)
}

// Objective is the service level that a run is judged by: a minute violates it when over the trailing window the quantile of the
// response times is above the limit, with at least MinRequests of them.
type Objective struct {
	Quantile    float64
	Limit       time.Duration
	Window      time.Duration
	MinRequests uint64
}

// DefaultObjective is the requirements': p95 below 500 ms.
func DefaultObjective() Objective {
	return Objective{Quantile: 0.95, Limit: 500 * time.Millisecond, Window: 5 * time.Minute, MinRequests: 20}
}

// Reads says what a signal reads on the virtual fleet.
type Reads uint8

// What there is to read.
const (
	Absent       Reads = iota // it is missing, as where its source is away
	Constant                  // Probe.Value
	Utilisation               // percent of the serving workers' time in which they had a request, since the last tick, times Probe.Value
	ResponseTime              // Probe.Quantile of the response times over Probe.Window, in seconds
	WaitTime                  // the same of the time before the service begins
	ServiceTime               // the same of the service alone
	ArrivalRate               // requests/s since the last tick
	Queued                    // requests that wait now
	InFlight                  // requests that wait or are served now
	Busy                      // workers that serve a request now
)

// Probe is where one signal's readings come from.
type Probe struct {
	Reads    Reads
	Quantile float64
	Window   time.Duration
	Value    float64
}

// Faults are what goes wrong, all by chance of the seed. The zero value is a good day.
type Faults struct {
	SlowStart    float64 // share of workers that take four times as long to boot
	ActionFails  float64 // share of actions that do nothing
	SignalsLost  float64 // share of readings that are missing
	WorkerDies   float64 // deaths of a worker, an hour; its target starts another at once
	ClockJumpsBy time.Duration
	ClockJumpsAt time.Duration // since the start; 0: never
}

// Sample is one tick.
type Sample struct {
	Time        time.Time
	Rate        float64 // requests/s
	Size        fleet.Size
	Utilisation float64 // percent
	P95         float64 // of the objective's quantile over its window, in seconds; NaN when too few were served
	Queued      int
}

// Result is what a run came to.
type Result struct {
	Duration      time.Duration
	Requests      uint64
	Response      signal.Histogram // of all requests, in seconds
	Wait          signal.Histogram
	WorkerHours   float64 // from the start of boot until the end of the drain
	Minutes       int     // that could be judged
	Violations    int     // minutes
	Up, Down      int     // decisions
	Least, Most   int     // workers
	Final         int
	LongestQueue  int
	FailedActions int
}

// MeanSize is the mean number of workers that were paid for.
func (r *Result) MeanSize() float64 { return r.WorkerHours / r.Duration.Hours() }

// ViolationShare is the share of minutes that violated the objective, in percent.
func (r *Result) ViolationShare() float64 {
	return 100 * float64(r.Violations) / float64(max(r.Minutes, 1))
}

// Check says what is wrong with a plan.
func (p *Plan) Check() error {
	switch {
	case len(p.Probes) != len(p.Policy.Signals):
		return fmt.Errorf("%d probes for %d signals", len(p.Probes), len(p.Policy.Signals))
	case p.Tick < time.Millisecond:
		return errors.New("a tick takes at least 1 ms")
	case p.Load == nil || p.Load.Step <= 0 || len(p.Load.Rates) == 0:
		return errors.New("there is no load")
	case p.Service == nil || !(p.Service.mean > 0):
		return errors.New("a service takes some time")
	case p.Boot < 0:
		return errors.New("a worker cannot serve before it is started")
	}
	return nil
}

// late is a request that ends after the tick in which it starts.
type late struct{ response, wait float64 } // seconds; what is left of the response is the service

// run is a plan being carried out. Times are seconds since the start.
type run struct {
	Plan
	pool     pool
	waiting  queue   // what has come and not started by the end of the last tick
	busy     float64 // seconds in which workers had a request, in the last tick
	ahead    float64 // work that was begun and is not done at the last tick's end
	state    engine.State
	input    engine.Input
	decision fleet.Decision
	now      float64
	arrivals *Random
	services *Random
	chance   *Random
	unit     *Law
	ready    []float64 // when those that boot will serve
	ends     [][]late  // by the tick in which they end, as a ring
	tick     int
	inTick   signal.Histogram // response times of what ended in this tick
	waits    signal.Histogram
	served   signal.Histogram // service times, when a probe reads them
	timed    bool             // a probe does
	windows  []window
	judged   *signal.Sliding
	arrived  uint64
	next     int // of Load.Requests
	result   Result
	sample   Sample
	jumped   bool
	minute   int
}

// window is a sliding histogram that probes share.
type window struct {
	of     Reads
	length time.Duration
	*signal.Sliding
}

// Run carries a plan out.
func Run(p Plan) (*Result, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	if p.Target == (Objective{}) {
		p.Target = DefaultObjective()
	}
	initial := p.Initial
	if initial == 0 {
		initial = max(p.Policy.Bounds.Min, 1)
	}
	r := &run{
		Plan: p, unit: Exponential(1), judged: signal.NewSliding(p.Target.Window), ends: make([][]late, 64),
		arrivals: NewRandom(p.Seed, "arrivals"), services: NewRandom(p.Seed, "services"), chance: NewRandom(p.Seed, "chance"),
	}
	r.pool.free = make([]float64, initial, max(p.Policy.Bounds.Max, initial)+1)
	r.result.Least, r.result.Most, r.result.Duration = initial, initial, p.Load.Duration()
	r.state.Fit(p.Policy)
	r.input.Readings = make([]fleet.Reading, len(p.Probes))
	for _, probe := range p.Probes {
		r.timed = r.timed || probe.Reads == ServiceTime
		if windowed(probe.Reads) && r.window(probe) == nil {
			r.windows = append(r.windows, window{probe.Reads, probe.Window, signal.NewSliding(probe.Window)})
		}
	}
	end := p.Load.Duration().Seconds()
	for r.now < end {
		r.advance(min(r.now+p.Tick.Seconds(), end))
		r.decide()
	}
	r.result.Final = len(r.pool.free)
	return &r.result, nil
}

// windowed reports whether a figure is a quantile over a window.
func windowed(reads Reads) bool {
	return reads == ResponseTime || reads == WaitTime || reads == ServiceTime
}

func (r *run) window(p Probe) *signal.Sliding {
	for _, w := range r.windows {
		if w.of == p.Reads && w.length == p.Window {
			return w.Sliding
		}
	}
	return nil
}

// advance plays one tick: what waits, and what arrives until end. A request is handed to a worker only in the tick in which it
// starts: by then it is known which workers there are, so that those that come later take their turn in the one queue.
func (r *run) advance(end float64) {
	r.inTick.Reset()
	r.waits.Reset()
	r.served.Reset()
	at := r.tick % len(r.ends)
	for _, l := range r.ends[at] {
		r.ended(l)
	}
	r.ends[at] = r.ends[at][:0]
	r.arrived = 0
	work := 0.0
	for r.waiting.n > 0 && r.pool.free[0] < end {
		q := r.waiting.pop()
		r.start(q.at, q.service, end)
		work += q.service
	}
	work += r.replay(end)
	step := r.Load.Step.Seconds()
	for from := r.now; from < end && r.Load.Requests == nil; {
		i := int(from/step + 1e-9)
		if i >= len(r.Load.Rates) {
			break
		}
		to := min(float64(i+1)*step, end)
		if rate := r.Load.Rates[i]; rate > 0 {
			work += r.arrive(from, to, 1/rate, end)
		}
		from = to
	}
	left := 0.0
	for _, f := range r.pool.free {
		left += max(f-end, 0)
	}
	for _, f := range r.pool.draining {
		left += max(f-end, 0)
	}
	for _, ready := range r.ready { // a worker that boots is not free, and not busy either
		left -= max(ready-end, 0)
	}
	r.busy = work + r.ahead - left
	r.ahead = left
	r.result.Requests += r.arrived
	r.tick++
	r.pay(end)
	r.now = end
}

// arrive plays the arrivals of a stretch with one rate and returns the work that was begun.
func (r *run) arrive(from, to, gap, end float64) (work float64) {
	for t := from; ; {
		t += gap * r.unit.of(uint32(r.arrivals.Next()>>32))
		if t >= to {
			return work
		}
		work += r.admit(t, r.Service.of(uint32(r.services.Next()>>32)), end)
	}
}

// replay plays what came one by one as it was, and returns the work that was begun.
func (r *run) replay(end float64) (work float64) {
	for ; r.next < len(r.Load.Requests); r.next++ {
		q := r.Load.Requests[r.next]
		if t := float64(q.At) / 1000; t < end {
			work += r.admit(t, float64(q.Service), end)
		} else {
			break
		}
	}
	return work
}

// admit takes in a request and returns the work that was begun.
func (r *run) admit(t, s, end float64) (work float64) {
	r.arrived++
	if r.waiting.n > 0 || r.pool.free[0] >= end {
		r.waiting.push(request{t, s})
		return 0
	}
	r.start(t, s, end)
	return s
}

// start hands a request to a worker, before the tick's end.
func (r *run) start(t, s, end float64) {
	start := r.pool.serve(t, s)
	if done := start + s; done <= end {
		r.ended(late{done - t, start - t})
	} else {
		r.later(int((done-end)/r.Tick.Seconds())+1, late{done - t, start - t})
	}
}

// ended counts a request that ends in this tick.
func (r *run) ended(l late) {
	r.inTick.Record(l.response)
	r.waits.Record(l.wait)
	if r.timed {
		r.served.Record(l.response - l.wait)
	}
}

// later keeps a request that ends in a tick to come.
func (r *run) later(ticks int, l late) {
	if ticks >= len(r.ends) {
		bigger := make([][]late, max(2*len(r.ends), ticks+1))
		for i := range r.ends {
			bigger[(r.tick+i)%len(bigger)] = r.ends[(r.tick+i)%len(r.ends)]
		}
		r.ends = bigger
	}
	at := (r.tick + ticks) % len(r.ends)
	r.ends[at] = append(r.ends[at], l)
}

// pay counts the time of all workers that are there until end, booting and draining ones too.
func (r *run) pay(end float64) {
	span := end - r.now
	seconds := float64(len(r.pool.free)) * span
	kept := r.pool.draining[:0]
	for _, f := range r.pool.draining {
		seconds += min(max(f-r.now, 0), span)
		if f > end {
			kept = append(kept, f)
		}
	}
	r.pool.draining = kept
	r.result.WorkerHours += seconds / 3600
	booting := r.ready[:0]
	for _, ready := range r.ready {
		if ready > end {
			booting = append(booting, ready)
		}
	}
	r.ready = booting
}

// decide reads the signals, lets the engine take its step, and carries it out.
func (r *run) decide() {
	now := r.Load.Start.Add(time.Duration(r.now * float64(time.Second)))
	r.judge(now)
	if r.Faults.ClockJumpsAt > 0 && !r.jumped && r.now >= r.Faults.ClockJumpsAt.Seconds() {
		r.jumped = true
		r.input.ClockJump = r.Faults.ClockJumpsBy
	} else {
		r.input.ClockJump = 0
	}
	if r.jumped {
		now = now.Add(r.Faults.ClockJumpsBy)
	}
	size := len(r.pool.free)
	r.input.Now, r.input.Size = now, fleet.Size{Known: true, Serving: size - len(r.ready), Starting: len(r.ready), Draining: len(r.pool.draining)}
	utilisation := 0.0
	if serving := float64(r.input.Size.Serving+r.input.Size.Draining) * r.Tick.Seconds(); serving > 0 {
		utilisation = min(100*r.busy/serving, 100)
	}
	for i := range r.Probes {
		r.input.Readings[i] = r.read(i, now, utilisation)
	}
	if r.Control != nil {
		r.control(now)
	} else {
		engine.Step(r.Policy, &r.state, &r.input, &r.decision)
	}
	r.sample = Sample{Time: now, Rate: float64(r.arrived) / r.Tick.Seconds(), Size: r.input.Size, Utilisation: utilisation, P95: r.sample.P95, Queued: r.waiting.n}
	r.result.LongestQueue = max(r.result.LongestQueue, r.waiting.n)
	if r.Each != nil {
		r.Each(&r.sample)
	}
	r.act()
	r.die()
	r.result.Least, r.result.Most = min(r.result.Least, len(r.pool.free)), max(r.result.Most, len(r.pool.free))
}

// judge looks each minute whether the objective holds.
func (r *run) judge(now time.Time) {
	for i := range r.windows {
		w := &r.windows[i]
		w.Advance(now)
		w.Add(map[Reads]*signal.Histogram{ResponseTime: &r.inTick, WaitTime: &r.waits, ServiceTime: &r.served}[w.of])
	}
	r.judged.Advance(now)
	r.judged.Add(&r.inTick)
	r.result.Response.Add(&r.inTick)
	r.result.Wait.Add(&r.waits)
	if minute := int(r.now / 60); minute > r.minute {
		r.minute = minute
		r.sample.P95 = math.NaN()
		if total := r.judged.Total(); total.Count() >= r.Target.MinRequests {
			r.result.Minutes++
			r.sample.P95 = total.Quantile(r.Target.Quantile)
			if r.sample.P95 > r.Target.Limit.Seconds() {
				r.result.Violations++
			}
		}
	}
}

// read is what one signal says.
func (r *run) read(i int, now time.Time, utilisation float64) fleet.Reading {
	probe, out := r.Probes[i], fleet.Reading{Time: now, Quality: fleet.Fresh}
	if r.Faults.SignalsLost > 0 && r.chance.Float() < r.Faults.SignalsLost {
		return fleet.Reading{Time: now}
	}
	switch probe.Reads {
	case Absent:
		out.Quality = fleet.Missing
	case Constant:
		out.Value = probe.Value
	case Utilisation:
		out.Value = utilisation * probe.Value
	case ResponseTime, WaitTime, ServiceTime:
		total := r.window(probe).Total()
		if n := total.Count(); n == 0 || n < uint64(r.Policy.Signals[i].MinSamples) {
			out.Quality = fleet.Sparse
			break
		}
		out.Value = total.Quantile(probe.Quantile)
	case ArrivalRate:
		out.Value = float64(r.arrived) / r.Tick.Seconds()
	case Queued:
		out.Value = float64(r.waiting.n)
	case InFlight:
		out.Value = float64(r.waiting.n + r.working())
	case Busy:
		out.Value = float64(r.working())
	}
	return out
}

// working counts the workers that have a request now.
func (r *run) working() int {
	n := -len(r.ready) // those that boot are not free, and not at work
	for _, f := range r.pool.free {
		if f > r.now {
			n++
		}
	}
	return n
}

// control makes an action of what another controller asks for.
func (r *run) control(now time.Time) {
	from, to := len(r.pool.free), max(r.Control(&r.input), 1)
	r.decision = fleet.Decision{Time: now, From: from, To: to}
	r.state.Action = nil
	if to != from {
		r.state.Action = &engine.Action{From: from, To: to, Since: now}
	}
}

// act carries out what was decided at this tick.
func (r *run) act() {
	d := &r.decision
	a := r.state.Action
	if a == nil || !a.Since.Equal(d.Time) {
		return
	}
	if r.Decided != nil {
		r.Decided(d)
	}
	if a.To > a.From {
		r.result.Up++
	} else {
		r.result.Down++
	}
	if r.Faults.ActionFails > 0 && r.chance.Float() < r.Faults.ActionFails {
		r.result.FailedActions++
		return
	}
	for len(r.pool.free) < a.To {
		r.boot()
	}
	for len(r.pool.free) > a.To && len(r.pool.free) > 1 {
		r.leave()
	}
}

// leave takes a worker out: it finishes what it has; one that still boots just ends.
func (r *run) leave() {
	free := r.pool.first()
	if i := slices.Index(r.ready, free); i >= 0 {
		r.ready = slices.Delete(r.ready, i, i+1)
	} else if free > r.now {
		r.pool.draining = append(r.pool.draining, free)
	}
}

func (r *run) boot() {
	boot := r.Boot.Seconds()
	if r.Faults.SlowStart > 0 && r.chance.Float() < r.Faults.SlowStart {
		boot *= 4
	}
	ready := r.now + boot
	r.pool.add(ready)
	r.ready = append(r.ready, ready)
}

// die takes a worker by chance; its target starts another in its place.
func (r *run) die() {
	if r.Faults.WorkerDies > 0 && r.chance.Float() < r.Faults.WorkerDies*r.Tick.Hours() && len(r.pool.free) > 0 {
		r.leave()
		r.boot()
	}
}
