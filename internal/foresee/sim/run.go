package sim

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
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
	Service *Law          // of all requests, unless there is a Site
	Site    *Site         // nil: one kind of requests, an endless queue, no database
	Boot    time.Duration // from the action's start until the new worker serves
	Tick    time.Duration
	Initial int // workers at the start; 0: the policy's minimum
	Level   Level
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
	Utilisation               // percent of the serving workers' time in which they had a request, over Probe.Window, times Probe.Value
	ResponseTime              // Probe.Quantile of the response times over Probe.Window, in seconds
	WaitTime                  // the same of the time before the service begins
	ServiceTime               // the same of the service alone
	ArrivalRate               // requests/s over Probe.Window
	Queued                    // requests that wait now
	InFlight                  // requests that wait or are served now
	Busy                      // workers that serve a request now
	Computing                 // as Utilisation, without the time that workers wait for the database
	PoolWaiting               // queries that wait for a connection to the database now
	PoolTaken                 // percent of the connections that have a query now
)

// Probe is where one signal's readings come from.
type Probe struct {
	Reads    Reads
	Quantile float64
	Window   time.Duration // that each reading looks back; 0: to the last tick
	Value    float64
	Route    int // of Site.Routes, counted from 1, whose times or rate it is; 0: all
}

// Sample is one tick.
type Sample struct {
	Time        time.Time
	Rate        float64 // requests/s
	Size        fleet.Size
	Utilisation float64 // percent
	P95         float64 // of the objective's quantile over its window, in seconds; NaN when too few were served
	Queued      int
	Failed      int     // requests that were rejected or abandoned in it
	Database    float64 // utilisation, percent
}

// Result is what a run came to.
type Result struct {
	Level         Level // that was played
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
	Rejected      uint64
	Abandoned     uint64
	Database      float64 // mean utilisation, percent
	Routes        []RouteResult
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
	case p.Boot < 0:
		return errors.New("a worker cannot serve before it is started")
	case p.Load == nil || p.Load.Step <= 0 || len(p.Load.Rates) == 0:
		return errors.New("there is no load")
	case p.Site != nil && p.Level == Fluid:
		return errors.New("routes, a shared database and limits of the queue are simulated request by request: leave out --level fluid, or take a load that is shorter or lower")
	case p.Site != nil:
		return p.Site.check()
	case p.Service == nil || !(p.Service.mean > 0):
		return errors.New("a service takes some time")
	}
	return nil
}

// run is a plan being carried out. Times are seconds since the start.
type run struct {
	Plan
	fleet    model
	state    engine.State
	input    engine.Input
	decision fleet.Decision
	now      float64
	chance   *Random
	tally    tally
	sums     []sums // at the last ticks, as a ring: as far back as the probes look
	tick     int
	back     int               // ticks of the objective's window
	probes   []reader          // of the plan
	last     [][]fleet.Reading // of each signal, the latest readings, as a ring: those that come late are among them
	result   Result
	sample   Sample
	target   Probe // of the objective
	minute   int
	jumped   time.Duration
}

// model is the virtual fleet itself, at one level of detail.
type model interface {
	// play goes on to end, on the wall clock that now shows then, and adds up what comes of it.
	play(end float64, now time.Time, t *tally)
	size() fleet.Size
	add(ready float64) // a worker that will serve then
	remove()           // a worker, which finishes what it has
	// quantile is that of probe i, or of none (-1), and of how many samples.
	quantile(i int, p *Probe) (value float64, samples uint64)
	finish(*Result)
}

// tally is what one tick came to.
type tally struct {
	arrived   float64   // requests
	failed    float64   // requests, rejected or abandoned
	busy      float64   // worker-seconds with a request
	computing float64   // worker-seconds of these that are not spent waiting for the database
	paid      float64   // worker-seconds
	database  float64   // utilisation, 0..1, times seconds
	queued    float64   // requests that wait at its end
	working   float64   // workers that have a request then
	pooled    float64   // queries that wait for a connection then
	pool      float64   // connections that have a query then, 0..1 of all
	routes    []float64 // requests of each that came since the start
}

// sums are what a run came to since its start.
type sums struct {
	seconds, arrived, failed, busy, computing float64
	slots                                     float64   // seconds of workers that serve
	routes                                    []float64 // requests of each that came
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
	r := &run{Plan: p, chance: NewRandom(p.Seed, "chance"), target: Probe{Reads: ResponseTime, Quantile: p.Target.Quantile, Window: p.Target.Window}}
	r.result.Level = p.level()
	r.result.Least, r.result.Most, r.result.Duration = initial, initial, p.Load.Duration()
	if p.Site != nil {
		r.fleet = newSite(r, initial)
	} else {
		r.fleet = levels[r.result.Level](r, initial)
	}
	r.state.Fit(p.Policy)
	r.input.Readings = make([]fleet.Reading, len(p.Probes))
	if late := p.Faults.latest(); late > 0 {
		r.last = make([][]fleet.Reading, len(p.Probes))
		for i := range r.last {
			r.last[i] = make([]fleet.Reading, int(late/p.Tick)+2)
		}
	}
	r.back = r.ticks(&r.target)
	back := r.back
	for i := range p.Probes {
		probe := &p.Probes[i]
		back = max(back, r.ticks(probe))
		if probe.Reads == Constant {
			r.input.Readings[i] = fleet.Reading{Value: probe.Value, Quality: fleet.Fresh}
		}
		r.probes = append(r.probes, reader{*probe, r.ticks(probe)})
	}
	r.sums = make([]sums, 1<<bits.Len(uint(back)))
	if p.Site != nil {
		for i := range r.sums {
			r.sums[i].routes = make([]float64, len(p.Site.Routes))
		}
	}
	end, step := p.Load.Duration().Seconds(), p.Tick.Seconds()
	for r.now < end {
		r.tick++
		to := min(float64(r.tick)*step, end)
		now := r.Load.Start.Add(time.Duration(to * float64(time.Second)))
		r.tally = tally{}
		r.fleet.play(to, now, &r.tally)
		r.result.WorkerHours += r.tally.paid / 3600
		r.result.Database += 100 * r.tally.database / end
		r.now = to
		size := r.fleet.size()
		r.sum(size)
		r.judge()
		r.decide(now, size)
	}
	r.result.Final = r.fleet.size().Workers()
	r.fleet.finish(&r.result)
	return &r.result, nil
}

// decide reads the signals, lets the engine take its step, and carries it out.
func (r *run) decide(now time.Time, size fleet.Size) {
	if len(r.Faults) > 0 {
		jumped := time.Duration(r.Faults.sum(ClockJump, r.now))
		r.input.ClockJump = jumped - r.jumped
		r.jumped = jumped
		now = now.Add(jumped)
	}
	r.input.Now, r.input.Size = now, size
	for i := range r.probes {
		reading := &r.input.Readings[i]
		reading.Time = now
		if probe := &r.probes[i]; probe.Reads != Constant || len(r.Faults) > 0 {
			reading.Value, reading.Quality = r.read(i, probe)
		}
	}
	if len(r.Faults) > 0 {
		r.spoil(now)
	}
	changes := true
	if r.Control != nil {
		r.control(now)
	} else {
		changes = engine.Skim(r.Policy, &r.state, &r.input, &r.decision)
	}
	queued := int(r.tally.queued + 0.5)
	r.result.LongestQueue = max(r.result.LongestQueue, queued)
	if r.Each != nil {
		s, tick := &r.sample, r.Tick.Seconds()
		s.Time, s.Size, s.Queued, s.Failed = now, size, queued, int(r.tally.failed)
		s.Rate, s.Utilisation, s.Database = r.tally.arrived/tick, r.utilisation(1), 100*r.tally.database/tick
		r.Each(s)
	}
	if !changes && len(r.Faults) == 0 {
		return
	}
	if changes {
		r.act()
	}
	r.die()
	workers := r.fleet.size().Workers()
	r.result.Least, r.result.Most = min(r.result.Least, workers), max(r.result.Most, workers)
}

// judge looks each minute whether the objective holds.
func (r *run) judge() {
	minute := int(r.now / 60)
	if minute <= r.minute {
		return
	}
	r.minute = minute
	r.sample.P95 = math.NaN()
	p95, n := r.fleet.quantile(-1, &r.target)
	failed := 0.0
	if r.Site != nil {
		to, from := r.since(r.back)
		failed = to.failed - from.failed
	}
	all := float64(n) + failed
	if all < float64(max(r.Target.MinRequests, 1)) {
		return
	}
	r.result.Minutes++
	lost := false
	if failed > 0 { // took longer than any that was served
		target := r.target
		target.Quantile *= all / float64(max(n, 1))
		lost = target.Quantile > 1
		target.Quantile = min(target.Quantile, 1)
		p95, _ = r.fleet.quantile(-1, &target)
	}
	if n > 0 {
		r.sample.P95 = p95
	}
	if lost || p95 > r.Target.Limit.Seconds() {
		r.result.Violations++
	}
}

// reader is a probe, and how many ticks it looks back.
type reader struct {
	Probe
	back int
}

// ticks is how many ticks a probe looks back.
func (r *run) ticks(p *Probe) int { return max(int(math.Round(float64(p.Window)/float64(r.Tick))), 1) }

// sum takes in the last tick.
func (r *run) sum(size fleet.Size) {
	before := r.at(r.tick - 1)
	into := r.at(r.tick)
	copy(into.routes, r.tally.routes)
	into.seconds, into.arrived, into.failed = r.now, before.arrived+r.tally.arrived, before.failed+r.tally.failed
	into.busy, into.computing = before.busy+r.tally.busy, before.computing+r.tally.computing
	into.slots = before.slots + float64(size.Serving+size.Draining)*(r.now-before.seconds)
}

// at is what the run had come to at a tick; the ring's length is a power of two.
func (r *run) at(tick int) *sums { return &r.sums[tick&(len(r.sums)-1)] }

// since is what it has come to now, and some ticks ago, or at the start when there were not so many.
func (r *run) since(ticks int) (to, from *sums) { return r.at(r.tick), r.at(max(r.tick-ticks, 0)) }

// utilisation is that of the last ticks, in percent.
func (r *run) utilisation(ticks int) float64 {
	to, from := r.since(ticks)
	return percent(to.busy-from.busy, to.slots-from.slots)
}

func percent(used, slots float64) float64 {
	if slots <= 0 {
		return 0
	}
	return min(100*used/slots, 100)
}

// read is what one signal says.
func (r *run) read(i int, probe *reader) (value float64, quality fleet.Quality) {
	switch to, from := r.since(probe.back); probe.Reads {
	case Absent:
		return 0, fleet.Missing
	case Constant:
		value = probe.Value
	case Utilisation:
		value = percent(to.busy-from.busy, to.slots-from.slots) * probe.Value
	case Computing:
		value = percent(to.computing-from.computing, to.slots-from.slots) * probe.Value
	case ResponseTime, WaitTime, ServiceTime:
		var n uint64
		if value, n = r.fleet.quantile(i, &probe.Probe); n == 0 || n < uint64(r.Policy.Signals[i].MinSamples) {
			return 0, fleet.Sparse
		}
	case ArrivalRate:
		came := to.arrived - from.arrived
		if probe.Route > 0 {
			came = to.routes[probe.Route-1] - from.routes[probe.Route-1]
		}
		value = came / (to.seconds - from.seconds)
	case Queued:
		value = r.tally.queued
	case InFlight:
		value = r.tally.queued + r.tally.working
	case Busy:
		value = r.tally.working
	case PoolWaiting:
		value = r.tally.pooled
	case PoolTaken:
		value = 100 * r.tally.pool
	}
	return value, fleet.Fresh
}

// control makes an action of what another controller asks for.
func (r *run) control(now time.Time) {
	from, to := r.fleet.size().Workers(), max(r.Control(&r.input), 1)
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
	if r.Faults.happens(FailingActions, r.now, r.chance) {
		r.result.FailedActions++
		return
	}
	for size := r.fleet.size().Workers(); size < a.To; size++ {
		r.boot()
	}
	for size := r.fleet.size().Workers(); size > max(a.To, 1); size-- {
		r.fleet.remove()
	}
}

func (r *run) boot() {
	boot := r.Boot.Seconds()
	if r.Faults.happens(SlowStarts, r.now, r.chance) {
		boot *= slowStart
	}
	r.fleet.add(r.now + boot)
}
