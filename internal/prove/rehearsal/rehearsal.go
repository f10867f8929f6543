// Package rehearsal plays a scenario against a target and writes down what it saw, with what the daemon told meanwhile. It judges
// nothing. Whatever happens on the way (the service dies, a name is not found, the run is interrupted), an outcome comes of it, and says so.
package rehearsal

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tidemark/internal/atomicfile"
	"tidemark/internal/control"
	"tidemark/internal/decide/signal"
	"tidemark/internal/fleet"
	"tidemark/internal/prove"
	"tidemark/internal/prove/http1"
	"tidemark/internal/prove/journey"
	"tidemark/internal/prove/netem"
	"tidemark/internal/prove/outcome"
	"tidemark/internal/prove/scenario"
	"tidemark/internal/prove/shape"
	"tidemark/internal/record"
)

// Daemon is who scales the service, and tells how.
type Daemon interface {
	Fleets(ctx context.Context) ([]*control.Status, error)
	Events(ctx context.Context, q record.EventQuery) ([]fleet.Event, error)
}

// Plan is one run.
type Plan struct {
	Scenario *scenario.Scenario
	Target   *url.URL
	Seed     uint64
	TLS      *tls.Config       // nil: the system's trust
	Dial     http1.DialFunc    // opens connections; nil: TCP
	Netem    string            // network interface on which the kernel delays and loses packets as the scenario's network does; empty: this process does
	Daemon   Daemon            // nil: none is asked
	Versions map[string]string // of this program and the daemon, by their names
	// Each hears of each request of the crowd that ended, from many goroutines; what it is given is used again. It may be nil.
	Each func(journey string, q *journey.Request)
	// Progress hears how it goes, once a second. It may be nil.
	Progress func(Progress)
	Note     func(string) // hears of stages: the dry run, the cleanup. It may be nil.
}

// Progress is how a run goes.
type Progress struct {
	At, Of   time.Duration
	Phase    string
	Rate     float64 // requests/s of the last second
	P95      float64 // seconds, of the last ten seconds; NaN without requests
	Failed   uint64  // so far
	Dropped  uint64
	Requests uint64
	Open     int
	Workers  int // that serve, -1 when not known
}

const (
	maxSlots = 1000 // of a series
	minSlot  = time.Second
	// chunk is how many created records a clean-up is given at a time.
	chunk = 100
	// grace is how long requests may go on after a run was interrupted.
	grace = 5 * time.Second
	// cleanupTime bounds the clean-up.
	cleanupTime = 5 * time.Minute
	maxCreated  = 1_000_000
)

// DryRun has one user play each journey once: what does not work with one will not work with many.
func DryRun(ctx context.Context, p Plan) (*outcome.Run, error) {
	r, err := newRun(p)
	if err != nil {
		return nil, err
	}
	defer r.close()
	err = r.dry(ctx)
	r.tidy(ctx)
	return r.finish(), err
}

// Play plays the scenario: the dry run first, then the crowd, then the clean-up. The outcome is there also with an error, unless the plan
// itself is wrong; ctx interrupts it.
func Play(ctx context.Context, p Plan) (*outcome.Run, error) {
	r, err := newRun(p)
	if err != nil {
		return nil, err
	}
	defer r.close()
	if err := r.slow(); err != nil {
		return nil, err
	}
	if err := r.dry(ctx); err != nil {
		r.cut("not started: " + err.Error())
		r.tidy(ctx)
		return r.finish(), err
	}
	r.reset()
	r.crowded = true
	r.crowd(ctx)
	r.crowded = false
	r.restore()
	r.settle(ctx)
	r.tidy(ctx)
	return r.finish(), nil
}

// run is a run in progress.
type run struct {
	Plan
	out     outcome.Run
	start   time.Time
	slot    time.Duration
	vars    map[string]any
	data    map[string][]map[string]string
	steps   map[string][]*stepTally // by journey
	visits  map[string]*visitTally
	single  *http1.Client // of the dry run and the clean-up
	watched *watch
	slowed  *netem.Slowed // nil: none is

	requests, failed, late, dropped atomic.Uint64
	open                            atomic.Int64
	visit                           atomic.Uint64
	users                           atomic.Int64

	crowded bool          // the dry run is over, and the clean-up has not begun
	halted  chan struct{} // closed when the run is cut, or has found its knee: visits begin no further step

	mu      sync.Mutex
	created []string
	workers map[string]bool
	lag     signal.Histogram
	lagMax  time.Duration
	slots   map[int]*outcome.GeneratorSlot
	recent  [10]signal.Histogram // of the last seconds, by second modulo
	level   signal.Histogram     // since the level began
	levelN  uint64
	levelF  uint64
	errs    map[string]int
	cpu     time.Duration
	took    time.Duration
}

type stepTally struct {
	mu    sync.Mutex
	step  outcome.Step
	slots map[int]*outcome.Slot
}

type visitTally struct {
	mu    sync.Mutex
	slots map[int]*outcome.JourneySlot
}

func newRun(p Plan) (*run, error) {
	if err := p.Scenario.Permit(p.Target); err != nil {
		return nil, err
	}
	if p.Note == nil {
		p.Note = func(string) {}
	}
	r := &run{Plan: p, start: time.Now(), vars: map[string]any{}, single: http1.New(p.Target, p.TLS, p.Dial), errs: map[string]int{}, halted: make(chan struct{})}
	for k, v := range p.Scenario.Vars {
		r.vars[k] = v
	}
	r.slot = minSlot
	for whole := p.Scenario.Duration + p.Scenario.Drain; whole/r.slot > maxSlots; {
		r.slot *= 5
	}
	var err error
	if r.data, err = p.Scenario.Rows(); err != nil {
		return nil, err
	}
	r.reset()
	r.out = outcome.Run{Scenario: p.Scenario.Name, Length: fleet.Duration(p.Scenario.Duration), Compress: p.Scenario.Compress(), WarmUp: fleet.Duration(p.Scenario.WarmUp),
		Seed: p.Seed, Target: p.Target.String(), ScenarioDigest: p.Scenario.Digest(), Machine: thisMachine(), Versions: map[string]string{},
		Criteria: p.Scenario.Outcome(), Slot: fleet.Duration(r.slot), Notes: p.Scenario.Notes(), Levels: p.Scenario.Levels()}
	maps.Copy(r.out.Versions, p.Versions)
	return r, nil
}

// reset forgets what was counted, so that the dry run is no part of it.
func (r *run) reset() {
	r.steps, r.visits, r.slots, r.workers = map[string][]*stepTally{}, map[string]*visitTally{}, map[int]*outcome.GeneratorSlot{}, map[string]bool{}
	for _, j := range r.Scenario.Journeys.Journeys {
		for _, s := range j.Steps {
			r.steps[j.Name] = append(r.steps[j.Name], &stepTally{step: outcome.Step{Journey: j.Name, Name: s.Name, Kind: outcome.Kind(s.Kind)}, slots: map[int]*outcome.Slot{}})
		}
		r.visits[j.Name] = &visitTally{slots: map[int]*outcome.JourneySlot{}}
	}
	r.requests.Store(0)
	r.failed.Store(0)
	r.late.Store(0)
	r.out.Workers = nil
	r.lag.Reset()
	r.lagMax = 0
	r.errs = map[string]int{}
	r.start = time.Now()
}

func (r *run) close() {
	r.restore()
	r.single.Close()
}

// slow has the kernel do what it can do of the scenario's network, where that is asked for.
func (r *run) slow() error {
	if r.Netem == "" {
		return nil
	}
	kernel, err := netem.Find()
	if err != nil {
		return err
	}
	if r.slowed, err = kernel.Slow(r.Netem, r.Scenario.Networks(), r.Note); err != nil {
		return err
	}
	r.note("delay, jitter and loss of its networks were the kernel's, by netem on %s", r.Netem)
	return nil
}

// restore gives the interface back.
func (r *run) restore() {
	if r.slowed == nil {
		return
	}
	if err := r.slowed.Restore(); err != nil {
		r.note("%v", err)
		r.Note(err.Error())
	}
	r.slowed = nil
}

func (r *run) cut(why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.out.Cut == "" {
		r.out.Cut = why
		r.halt()
	}
}

// halt has visits begin no further step; r.mu is held.
func (r *run) halt() {
	select {
	case <-r.halted:
	default:
		close(r.halted)
	}
}

func (r *run) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.out.Notes = append(r.out.Notes, fmt.Sprintf(format, args...))
}

// dry plays the setup, and then each journey that has a load, once.
func (r *run) dry(ctx context.Context) error {
	if r.Scenario.Setup != "" {
		r.Note("set up: " + r.Scenario.Setup)
		got, err := r.once(ctx, r.Scenario.Setup, nil)
		if err != nil {
			return fmt.Errorf("the setup does not work: %w", err)
		}
		maps.Copy(r.vars, got)
	}
	played := map[string]bool{}
	for i, l := range r.Scenario.Load {
		if played[l.Journey] {
			continue
		}
		var more map[string]any
		if first := r.Scenario.Arrivals(i); first != nil {
			more = map[string]any{"path": first[0].Path}
		}
		played[l.Journey] = true
		r.Note("dry run: " + l.Journey)
		if _, err := r.once(ctx, l.Journey, more); err != nil {
			return fmt.Errorf("the dry run does not work, so the crowd was not let in: %w", err)
		}
	}
	return nil
}

// once has one user play a journey, on the bare network and without a thought, and returns what its steps extracted.
func (r *run) once(ctx context.Context, name string, more map[string]any) (map[string]any, error) {
	j := r.Scenario.Program(name).Hasty()
	u, err := j.NewUser(r.site(name, r.single), 1)
	if err != nil {
		return nil, err
	}
	v := u.Play(ctx, nil, time.Now(), r.Seed, r.visit.Add(1), more)
	r.take(v.Created)
	switch {
	case v.Interrupted:
		return nil, fmt.Errorf("journey %s: interrupted", name)
	case v.Failed:
		return nil, fmt.Errorf("journey %s, step %s: %w", name, j.Steps[v.Step].Name, v.Err)
	}
	return u.Extracted(), nil
}

func (r *run) take(created []string) {
	if len(created) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.created = append(r.created, created[:min(len(created), max(maxCreated-len(r.created), 0))]...)
}

// site is what a journey's users load.
func (r *run) site(name string, client *http1.Client) *journey.Site {
	return &journey.Site{Target: r.Target, Client: client, Timeout: r.Scenario.Timeout, Vars: r.vars, Data: r.data,
		Each: func(q *journey.Request) { r.count(name, q) }, UserAgent: "tidemark-loadtest"}
}

// count takes in one request.
func (r *run) count(name string, q *journey.Request) {
	at := max(int(q.Due.Sub(r.start)/r.slot), 0)
	t := r.steps[name][q.Step]
	t.mu.Lock()
	s := t.slots[at]
	if s == nil {
		s = &outcome.Slot{At: at}
		t.slots[at] = s
	}
	latency, lag := q.End.Sub(q.Due).Seconds(), max(q.Sent.Sub(q.Due), 0)
	if q.Interrupted {
		s.Interrupted++
		t.mu.Unlock()
		return
	}
	s.Count++
	s.Bytes += uint64(q.Bytes)
	s.Latency.Record(latency)
	s.Service.Record(q.End.Sub(q.Sent).Seconds())
	if q.Class != "" {
		if s.Failed == nil {
			s.Failed = map[outcome.Class]uint64{}
		}
		s.Failed[q.Class]++
	}
	t.mu.Unlock()
	if r.Each != nil && r.crowded {
		r.Each(name, q)
	}
	n := r.requests.Add(1)
	if n == uint64(r.Scenario.Limits.Requests) {
		r.cut(fmt.Sprintf("limits.requests was reached: %d requests", n))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if q.Server != "" {
		r.out.Versions["target"] = q.Server
	}
	r.lag.Record(lag.Seconds())
	r.lagMax = max(r.lagMax, lag)
	second := int(q.End.Sub(r.start)/time.Second) % len(r.recent)
	r.recent[max(second, 0)].Record(latency)
	r.level.Record(latency)
	r.levelN++
	g := r.generator(at)
	if lag > prove.LateAfter {
		r.late.Add(1)
		g.Late++
	}
	if q.Class != "" {
		r.failed.Add(1)
		r.levelF++
		if q.Err != nil && len(r.errs) < 200 {
			r.errs[fmt.Sprintf("%s, step %s: %s: %s", name, t.step.Name, q.Class, reason(q.Err))]++
		}
	}
	if q.Worker != "" && q.Class == "" && !r.workers[q.Worker] {
		r.workers[q.Worker] = true
		r.out.Workers = append(r.out.Workers, outcome.Worker{ID: q.Worker, First: fleet.Duration(q.End.Sub(r.start))})
	}
}

// generator is a slot of the generator's own; r.mu is held.
func (r *run) generator(at int) *outcome.GeneratorSlot {
	g := r.slots[at]
	if g == nil {
		g = &outcome.GeneratorSlot{At: at}
		r.slots[at] = g
	}
	return g
}

func (r *run) began(at time.Duration, dropped bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	g := r.generator(int(at / r.slot))
	g.Starts++
	if dropped {
		g.Dropped++
		r.dropped.Add(1)
	}
}

// crowd lets everybody in, and returns when all have left.
func (r *run) crowd(ctx context.Context) {
	s := r.Scenario
	begin, stopBeginning := context.WithTimeout(ctx, s.Duration)
	defer stopBeginning()
	going, cutAll := context.WithCancel(context.WithoutCancel(ctx))
	defer cutAll()
	if err := prove.BePrompt(); err != nil {
		r.note("%v", err)
	}
	r.start = time.Now()
	r.out.Started = r.start.UTC()
	before := prove.OwnCPU()
	r.watched = r.watchDaemon(going)
	r.Note(fmt.Sprintf("the crowd comes for %s", s.Duration.Round(time.Second)))

	var wg sync.WaitGroup
	for i := range s.Load {
		wg.Go(func() { r.stream(begin, going, i) })
	}
	over := make(chan struct{})
	left := make(chan struct{})
	var watchers sync.WaitGroup
	watchers.Go(func() { r.tick(over) })
	go func() {
		wg.Wait()
		close(left)
	}()
	patience := s.Drain
	select {
	case <-begin.Done():
	case <-left:
	case <-r.halted:
		patience = min(grace, s.Drain)
	}
	if ctx.Err() != nil {
		r.cut(fmt.Sprintf("interrupted after %s", time.Since(r.start).Round(time.Second)))
		patience = min(grace, s.Drain)
	}
	stopBeginning()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for waiting := true; waiting; {
		select {
		case <-left:
			waiting = false
		case <-timer.C:
			r.note("%d visits were still open %s after the last one could begin, and were cut", r.open.Load(), patience)
			waiting = false
		case <-interrupted(ctx, patience):
			r.cut("interrupted while the last visits ended")
			patience = 0
			timer.Reset(grace)
		}
	}
	cutAll()
	<-left
	close(over)
	watchers.Wait()
	r.out.Ended = time.Now().UTC()
	r.took = time.Since(r.start)
	r.cpu = prove.OwnCPU() - before
}

// interrupted is ctx's end, as long as there is patience left that it can shorten.
func interrupted(ctx context.Context, patience time.Duration) <-chan struct{} {
	if patience <= grace {
		return nil
	}
	return ctx.Done()
}

// stream plays one of the scenario's loads.
func (r *run) stream(begin, going context.Context, i int) {
	l := &r.Scenario.Load[i]
	if l.Users > 0 {
		r.live(begin, going, l)
		return
	}
	program := r.Scenario.Program(l.Journey)
	visitors := pool{
		paced: l.Connection == scenario.Kept,
		most:  r.Scenario.Limits.Connections,
		hire:  func() (*visitor, error) { return r.visitor(program, l) },
		visit: func(v *visitor, a arrival) {
			defer r.open.Add(-1)
			r.visitOnce(going, v, l, a.at, a.more)
			if l.Connection != scenario.Kept {
				v.hangUp()
			}
		},
		connect: func(v *visitor) { v.client.Open(going, time.Now().Add(r.Scenario.Timeout)) }, //nolint:errcheck // the first request will say so
		failed: func(err error) {
			r.open.Add(-1)
			r.note("%s: %v", l.Journey, err)
		},
	}
	defer visitors.leave()
	arrive := func(at time.Duration, rate float64, more map[string]any) {
		full := r.open.Add(1) > int64(r.Scenario.Limits.Connections)
		r.began(at, full)
		if full {
			r.open.Add(-1)
			return
		}
		visitors.send(arrival{at, more}, rate)
	}
	const ahead = time.Second // the reserve is hired for the rate that comes
	next := 0
	all := r.Scenario.Arrivals(i)
	for n, a := range all {
		if a.At >= r.Scenario.Duration || !sleep(begin, r.start.Add(a.At)) {
			break
		}
		for next < len(all) && all[next].At < a.At+ahead {
			next++
		}
		arrive(a.At, float64(next-n)/ahead.Seconds(), map[string]any{"path": a.Path})
	}
	if rate := r.Scenario.Rate(i); rate != nil {
		schedule := prove.Schedule{Rate: rate, Arrivals: prove.Arrivals(l.Arrivals), Duration: r.Scenario.Duration, Seed: r.Seed + uint64(i)}
		err := schedule.Play(begin, r.start, func(at time.Duration, _ *rand.Rand) error {
			arrive(at, rate(at+ahead), nil)
			return nil
		})
		if err != nil && begin.Err() == nil {
			r.cut(err.Error())
		}
	}
}

// live has users visit, pause and visit again.
func (r *run) live(begin, going context.Context, l *scenario.Load) {
	var wg sync.WaitGroup
	defer wg.Wait()
	program := r.Scenario.Program(l.Journey)
	for n := range l.Users {
		wg.Go(func() {
			v, err := r.visitor(program, l)
			if err != nil {
				r.note("%s: %v", l.Journey, err)
				return
			}
			defer v.close()
			due := time.Duration(float64(l.Spread) * float64(n) / float64(l.Users))
			for due < r.Scenario.Duration && sleep(begin, r.start.Add(due)) {
				r.open.Add(1)
				r.began(due, false)
				r.visitOnce(going, v, l, due, nil)
				r.open.Add(-1)
				if l.Connection == scenario.New {
					v.hangUp()
				}
				due = time.Since(r.start) + v.Pause(l.Pause)
			}
		})
	}
}

// visitor is a user with a connection of its own.
type visitor struct {
	*journey.User
	client *http1.Client
	link   *shape.Link
}

func (r *run) visitor(p *journey.Program, l *scenario.Load) (*visitor, error) {
	n := r.users.Add(1)
	v := &visitor{}
	dial := r.Dial
	if l.Network.Name != "" {
		network, beneath := l.Network.Profile, shape.DialFunc(r.Dial)
		if r.slowed != nil {
			beneath = r.slowed.Dial(network, uint64(n))
			network.RTT, network.Jitter, network.Loss = 0, 0, 0
		}
		v.link = shape.New(network, r.Seed+uint64(n), beneath)
		dial = v.link.DialContext
	}
	v.client = http1.New(r.Target, r.TLS, dial)
	var err error
	if v.User, err = p.NewUser(r.site(p.Name, v.client), int(n)); err == nil {
		v.Awaited = l.Users == 0
	}
	return v, err
}

func (v *visitor) hangUp() { v.client.Close() }

func (v *visitor) close() {
	v.hangUp()
	if v.link != nil {
		v.link.Close()
	}
}

func (r *run) visitOnce(going context.Context, v *visitor, l *scenario.Load, at time.Duration, more map[string]any) {
	visit := v.Play(going, r.halted, r.start.Add(at), r.Seed, r.visit.Add(1), more)
	r.take(visit.Created)
	t := r.visits[l.Journey]
	t.mu.Lock()
	defer t.mu.Unlock()
	slot := int(at / r.slot)
	s := t.slots[slot]
	if s == nil {
		s = &outcome.JourneySlot{At: slot}
		t.slots[slot] = s
	}
	switch {
	case visit.Interrupted:
		s.Interrupted++
		return
	case visit.Failed:
		s.Failed++
	default:
		s.Duration.Record(visit.Took.Seconds())
	}
	s.Count++
	s.Records += uint64(len(visit.Created))
}

// tick tells how it goes once a second, and ends the run where it is to end early.
func (r *run) tick(over <-chan struct{}) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	last, cpu, level := uint64(0), prove.OwnCPU(), 0
	for second := 0; ; second++ {
		select {
		case <-over:
			if at := time.Since(r.start); at >= r.Scenario.Duration { // the last level is over too
				r.climb(at, level)
			}
			return
		case now := <-ticker.C:
			at := now.Sub(r.start)
			n := r.requests.Load()
			p := Progress{At: at, Of: r.Scenario.Duration, Rate: float64(n - last), Failed: r.failed.Load(), Dropped: r.dropped.Load(), Requests: n, Open: int(r.open.Load()), Workers: r.watched.workers()}
			p.Phase = "load"
			switch {
			case at < r.Scenario.WarmUp:
				p.Phase = "warm-up"
			case at > r.Scenario.Duration:
				p.Phase = "the last visits"
			}
			r.mu.Lock()
			var sum signal.Histogram
			for i := range r.recent {
				sum.Add(&r.recent[i])
			}
			r.recent[(int(at/time.Second)+1)%len(r.recent)].Reset()
			used := prove.OwnCPU()
			g := r.generator(int(at / r.slot))
			g.CPU += (used - cpu).Seconds()
			g.Open = p.Open
			r.mu.Unlock()
			cpu, last = used, n
			p.P95 = sum.Quantile(0.95)
			if r.Progress != nil {
				r.Progress(p)
			}
			level = r.climb(at, level)
		}
	}
}

// climb looks, at the end of each level or tenth of the run, whether it is to end, and returns the number of the next.
func (r *run) climb(at time.Duration, level int) int {
	s, levels := r.Scenario, r.out.Levels
	now := int(10 * at / s.Duration)
	if len(levels) > 0 {
		now = slices.IndexFunc(levels, func(l outcome.Level) bool { return at < time.Duration(l.To) })
		if now < 0 {
			now = len(levels)
		}
	}
	if now == level {
		return level
	}
	r.mu.Lock()
	p95, n, failed := r.level.Quantile(0.95), r.levelN, r.levelF
	r.level.Reset()
	r.levelN, r.levelF = 0, 0
	r.mu.Unlock()
	broke := ""
	switch {
	case n == 0 && len(levels) > 0 && r.open.Load() > 0:
		broke = "nothing was answered"
	case n == 0:
	case s.Stop.P95 > 0 && p95 > s.Stop.P95.Seconds():
		broke = fmt.Sprintf("p95 was %.0f ms", 1000*p95)
	case s.Stop.Errors > 0 && float64(failed) > s.Stop.Errors/100*float64(n):
		broke = fmt.Sprintf("%.1f %% of requests failed", 100*float64(failed)/float64(n))
	}
	if level < len(levels) { // broken or not, the run finds what it was to find
		r.mu.Lock()
		defer r.mu.Unlock()
		l := &levels[level]
		l.Requests, l.Failed, l.Broke = n, failed, broke
		if n > 0 {
			l.P95 = p95
		}
		if broke != "" {
			r.halt()
		}
		return now
	}
	if broke != "" {
		r.cut(fmt.Sprintf("stop_when: %s after %s", broke, at.Round(time.Second)))
	}
	return now
}

// settle watches the fleet after the load.
func (r *run) settle(ctx context.Context) {
	if r.Scenario.Settle > 0 && r.Daemon != nil && ctx.Err() == nil && r.out.Cut == "" {
		r.Note(fmt.Sprintf("the fleet is watched for another %s", r.Scenario.Settle.Round(time.Second)))
		sleep(ctx, time.Now().Add(r.Scenario.Settle))
	}
	r.watched.stop(context.WithoutCancel(ctx), r)
}

// tidy removes what was created, or says how.
func (r *run) tidy(ctx context.Context) {
	if len(r.created) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	say := func(format string, args ...any) { r.out.Cleanup = append(r.out.Cleanup, fmt.Sprintf(format, args...)) }
	removed := 0
	if r.Scenario.Cleanup != "" {
		r.Note(fmt.Sprintf("cleaning up: %d records", len(r.created)))
		slices.Reverse(r.created) // what was made last hangs on what was made first
		for part := range slices.Chunk(r.created, chunk) {
			if _, err := r.once(ctx, r.Scenario.Cleanup, map[string]any{"created": part}); err != nil {
				say("%d of the %d records that were created could not be removed: %v", len(r.created)-removed, len(r.created), err)
				break
			}
			removed += len(part)
		}
		if removed == len(r.created) {
			say("the %d records that were created were removed", removed)
			if len(r.created) < maxCreated {
				return
			}
		}
	} else {
		say("%d records were created, and the scenario has no cleanup", len(r.created))
	}
	if r.Scenario.Leftover != "" {
		say("what is left: %s", strings.TrimSpace(r.Scenario.Leftover))
	}
}

// finish puts the outcome together.
func (r *run) finish() *outcome.Run {
	o := &r.out
	if o.Started.IsZero() {
		o.Started, o.Ended = r.start.UTC(), time.Now().UTC()
	}
	for _, j := range r.Scenario.Journeys.Journeys {
		if j.Name == r.Scenario.Setup || j.Name == r.Scenario.Cleanup {
			continue
		}
		for _, t := range r.steps[j.Name] {
			for _, at := range slices.Sorted(maps.Keys(t.slots)) {
				t.step.Slots = append(t.step.Slots, *t.slots[at])
			}
			o.Steps = append(o.Steps, t.step)
		}
		v := outcome.Journey{Name: j.Name}
		for _, at := range slices.Sorted(maps.Keys(r.visits[j.Name].slots)) {
			v.Slots = append(v.Slots, *r.visits[j.Name].slots[at])
		}
		o.Journeys = append(o.Journeys, v)
	}
	g := &o.Generator
	g.Requests, g.Dropped, g.Late, g.CPU, g.Took = r.requests.Load(), r.dropped.Load(), r.late.Load(), fleet.Duration(r.cpu), fleet.Duration(r.took)
	if r.lag.Count() > 0 {
		g.LagP50, g.LagP99, g.LagMax = r.lag.Quantile(0.5), r.lag.Quantile(0.99), r.lagMax.Seconds()
	}
	g.Memory = peakMemory()
	for _, at := range slices.Sorted(maps.Keys(r.slots)) {
		g.Slots = append(g.Slots, *r.slots[at])
	}
	if r.took > 0 { // there was a crowd
		for _, l := range (prove.Effort{Requests: g.Requests, Dropped: g.Dropped, LagP99: g.LagP99, CPU: r.cpu, Took: r.took, Cores: runtime.GOMAXPROCS(0)}).Limits() {
			g.Limits = append(g.Limits, l.String())
		}
	}
	worst := slices.Collect(maps.Keys(r.errs))
	slices.SortFunc(worst, func(a, b string) int { return r.errs[b] - r.errs[a] })
	for _, e := range worst[:min(len(worst), 5)] {
		o.Notes = append(o.Notes, fmt.Sprintf("%d times: %s", r.errs[e], e))
	}
	return o
}

// Total is all that a run asked, or that one of its journeys did, as one slot.
func Total(o *outcome.Run, journey string) (sum outcome.Slot) {
	sum.Failed = map[outcome.Class]uint64{}
	for i := range o.Steps {
		if journey != "" && o.Steps[i].Journey != journey {
			continue
		}
		for j := range o.Steps[i].Slots {
			s := &o.Steps[i].Slots[j]
			sum.Count += s.Count
			sum.Interrupted += s.Interrupted
			sum.Bytes += s.Bytes
			sum.Latency.Add(&s.Latency.Histogram)
			sum.Service.Add(&s.Service.Histogram)
			for class, n := range s.Failed {
				sum.Failed[class] += n
			}
		}
	}
	return sum
}

// Save writes an outcome into a folder, whole or not at all, and returns the file.
func Save(dir string, o *outcome.Run, text []byte) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("keep the outcome: %w", err)
	}
	path := filepath.Join(dir, o.Scenario+"-"+o.Started.Format("20060102T150405.000")+".json")
	if err := atomicfile.Write(path, text, 0o644, nil); err != nil {
		return "", fmt.Errorf("keep the outcome: %w", err)
	}
	return path, nil
}

// Load reads outcomes that Save has kept: one, or all of a folder in the order in which they were played.
func Load(path string) (runs []*outcome.Run, err error) {
	files := []string{path}
	if info, err := os.Stat(path); err != nil {
		return nil, err
	} else if info.IsDir() {
		if files, err = filepath.Glob(filepath.Join(path, "*.json")); err != nil {
			return nil, err
		}
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		run := &outcome.Run{}
		if err := json.Unmarshal(text, run); err != nil {
			return nil, fmt.Errorf("%s is no outcome of a load test: %w", file, err)
		}
		if run.Scenario == "" || run.Started.IsZero() || run.Slot <= 0 || run.Length <= 0 {
			return nil, fmt.Errorf("%s is no outcome of a load test: it lacks the scenario, its start, its length or its slots", file)
		}
		runs = append(runs, run)
	}
	if len(runs) == 0 {
		return nil, fmt.Errorf("there is no outcome (*.json) in %s", path)
	}
	slices.SortFunc(runs, func(a, b *outcome.Run) int { return a.Started.Compare(b.Started) })
	return runs, nil
}

// reason is an error without the ports that make each one different.
func reason(err error) string {
	text := err.Error()
	if i := strings.Index(text, "->"); i > 0 {
		text = text[:strings.LastIndexByte(text[:i], ' ')+1] + text[i+2:]
	}
	return text
}

func sleep(ctx context.Context, until time.Time) bool {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// thisMachine is the machine that the generator runs on.
func thisMachine() outcome.Machine {
	m := outcome.Machine{OS: runtime.GOOS, Arch: runtime.GOARCH, Cores: runtime.GOMAXPROCS(0), Load: -1}
	m.Name, _ = os.Hostname() // a machine without a name stays so
	for line := range lines("/proc/cpuinfo") {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			m.CPU = strings.TrimSpace(value)
			break
		}
	}
	m.Memory = kilobytes("/proc/meminfo", "MemTotal")
	for line := range lines("/proc/loadavg") {
		if load, err := strconv.ParseFloat(strings.Fields(line + " -")[0], 64); err == nil {
			m.Load = load
		}
		break
	}
	return m
}

// peakMemory is the most that this process has had resident, in bytes.
func peakMemory() int64 { return kilobytes("/proc/self/status", "VmHWM") }

func kilobytes(file, field string) int64 {
	for line := range lines(file) {
		if name, value, ok := strings.Cut(line, ":"); ok && name == field {
			n, _ := strconv.ParseInt(strings.Fields(value + " 0")[0], 10, 64)
			return n << 10
		}
	}
	return 0
}

func lines(file string) func(func(string) bool) {
	b, _ := os.ReadFile(file) // what is not there is not told
	return strings.Lines(string(b))
}
