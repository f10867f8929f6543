// Package control is the loop: for each fleet, at each tick, it gathers the readings, asks engine.Step, has the target do
// what was decided, and records all of it. It owns the small interfaces that it calls, and no rule.
//
// Each fleet runs in a goroutine of its own, and everything that may hang (a source, a target, a balancer) is called with
// a time-out and never called again while it hangs, so that nothing stuck holds up anything else. A decision is recorded
// before it is carried out; what cannot be recorded is not done.
package control

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"tidemark/internal/decide/engine"
	"tidemark/internal/decide/policy"
)

// Parts are what one fleet is made of.
type Parts struct {
	Policy   policy.Fleet
	Sources  []Source        // by index of Policy.Signals; nil for one that is derived
	Derived  map[int]Derived // those, by index
	Target   Target
	Balancer Balancer // nil when the workers share one socket
	Priority int      // 1 goes first when there is not enough for all fleets
}

// Options hold what all fleets share.
type Options struct {
	Tick        time.Duration // default 15 s
	ReadTimeout time.Duration // for each of target, sources and balancer; default a third of the tick, within 2 s and 5 s
	Journal     Journal
	Lease       Lease // nil: nobody stands by, and this daemon leads
	Spool       Spool // nil: what the journal does not take is kept in memory only
	Clock       Clock
	Zone        *time.Location // of the weeks that forecasts learn from; default UTC
}

// Loop runs the fleets.
type Loop struct {
	opts   Options
	ledger ledger
	mu     sync.Mutex
	fleets map[string]*runner
	order  []string // as configured
	ctx    context.Context
	stop   context.CancelFunc
	wg     sync.WaitGroup
}

// New prepares a loop; Start makes it run.
func New(opts Options) *Loop {
	if opts.Tick == 0 {
		opts.Tick = 15 * time.Second
	}
	if opts.ReadTimeout == 0 {
		opts.ReadTimeout = min(max(opts.Tick/3, 2*time.Second), 5*time.Second)
	}
	if opts.Clock == nil {
		opts.Clock = SystemClock{}
	}
	if opts.Lease == nil {
		opts.Lease = alone{}
	}
	if opts.Zone == nil {
		opts.Zone = time.UTC
	}
	return &Loop{opts: opts, fleets: map[string]*runner{}}
}

// Start reads each fleet's state from the journal and begins to tick. It fails, and nothing runs, if a state cannot
// be read: deciding without it would forget cooldowns.
func (l *Loop) Start(parts []Parts) error {
	l.ctx, l.stop = context.WithCancel(context.Background())
	if err := l.Reload(parts); err != nil {
		l.stop()
		return err
	}
	return nil
}

// firstApart is between the first ticks of two fleets, so that a thousand do not ask their targets and sources all at once.
const firstApart = 10 * time.Millisecond

// Reload replaces the fleets' parts and keeps their state: alarms, cooldowns and orders go on. A fleet that is gone from parts
// is left as it is and no longer looked at. If one state cannot be read nothing changes.
func (l *Loop) Reload(parts []Parts) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	fresh := map[string]*runner{}
	for i, p := range parts {
		if l.fleets[p.Policy.Name] == nil {
			r, err := newRunner(l.ctx, l.opts, &l.ledger, p, l.opts.Tick*time.Duration(i)/time.Duration(len(parts)))
			if err != nil {
				return fmt.Errorf("fleet %s: %w", p.Policy.Name, err)
			}
			r.first = min(r.offset, time.Duration(i)*firstApart)
			fresh[p.Policy.Name] = r
		}
	}
	l.order = l.order[:0]
	keep := map[string]bool{}
	for _, p := range parts {
		name := p.Policy.Name
		keep[name] = true
		l.order = append(l.order, name)
		if r := fresh[name]; r != nil {
			l.fleets[name] = r
			l.ledger.enter(r.claim())
		}
	}
	for _, p := range parts { // each is known to all before the first of them decides
		name := p.Policy.Name
		if r := fresh[name]; r != nil {
			l.wg.Go(r.run)
		} else {
			l.fleets[name].send(l.ctx, func(r *runner) { r.refit(p) })
		}
	}
	for name, r := range l.fleets {
		if !keep[name] {
			r.leave()
			l.ledger.leave(name)
			delete(l.fleets, name)
		}
	}
	return nil
}

// Stop ends the loop after the tick that runs. Fleets are left as they are. Twice, or before Start, is harmless.
func (l *Loop) Stop() {
	if l.stop == nil {
		return
	}
	l.stop()
	l.wg.Wait()
}

// ErrNoFleet: there is no fleet of that name.
var ErrNoFleet = errors.New("no such fleet")

// Order gives an operator's word to a fleet. It takes effect in a tick of its own, at once, and returns the status after it.
func (l *Loop) Order(ctx context.Context, name string, o engine.Order) (*Status, error) {
	l.mu.Lock()
	r := l.fleets[name]
	l.mu.Unlock()
	if r == nil {
		return nil, ErrNoFleet
	}
	done := make(chan error, 1)
	r.send(ctx, func(r *runner) { done <- r.obey(o) })
	select {
	case err := <-done:
		return r.status.Load(), err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-r.ended:
		return nil, ErrNoFleet
	}
}

// Status reports all fleets as configured in order.
func (l *Loop) Status() []*Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []*Status
	for _, name := range l.order {
		out = append(out, l.fleets[name].status.Load())
	}
	return out
}

// untilNext is the time from now to the fleet's next tick. Ticks are aligned to multiples of the interval since the
// epoch, plus an offset that spreads many fleets over it.
func untilNext(now time.Time, tick, offset time.Duration) time.Duration {
	next := now.Truncate(tick).Add(offset)
	for next.Sub(now) < tick/10 { // also when a timer fired a little early
		next = next.Add(tick)
	}
	return next.Sub(now)
}

// onTime is the time of a tick that was due: its own, unless it came late by more than timers do. So a cooldown of four ticks is over at
// the fourth, and not, as chance has it, a hair before or after it.
func onTime(now, due time.Time, tick time.Duration) time.Time {
	if late := now.Sub(due); late > 0 && late <= min(tick/50, 10*time.Millisecond) {
		return due
	}
	return now
}
