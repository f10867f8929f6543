package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tidemark/internal/decide/allot"
	"tidemark/internal/decide/engine"
	"tidemark/internal/decide/forecast"
	"tidemark/internal/decide/policy"
	"tidemark/internal/fleet"
	"tidemark/internal/record"
)

// memory is what a fleet's next tick starts from, in this process or in the one after it: what the journal keeps as state.
type memory struct {
	Engine engine.State `json:"engine"`
	Clock  instant      `json:"clock"`
	// Started is when the action on its way was first begun; Lost are the signals whose loss is already recorded.
	Started    time.Time `json:"started,omitzero"`
	Lost       []string  `json:"lost,omitempty"`
	TargetLost time.Time `json:"target_lost,omitzero"`
}

// runner is one fleet's goroutine and what it knows. Only that goroutine touches it, except for status and inbox.
type runner struct {
	opts   Options
	ledger *ledger
	parts  Parts
	offset time.Duration
	first  time.Duration // until the first tick
	inbox  chan func(*runner)
	status atomic.Pointer[Status]
	ended  chan struct{}
	ctx    context.Context
	leave  context.CancelFunc

	memory
	state    *engine.State // &memory.Engine
	decision fleet.Decision
	// allotment is what was left to the fleet at the last tick; ahead the schedule's next change.
	allotment engine.Allotment
	ahead     ahead
	stored    fleet.Decision // the last decision in the journal
	took      time.Duration  // the last tick
	orders    []engine.Order

	foresee       []foresight
	bands         []forecast.Band
	workers       []fleet.Worker
	size          fleet.Size
	readings      []fleet.Reading
	reads         []call[fleet.Reading]
	readErrs      []error
	look          call[[]fleet.Worker]
	balance       call[struct{}]
	targetErr     error
	actionErr     error
	balanceErr    error
	journalErr    error
	journalFailed time.Time
	backlog       []record.Tick
	noted         []fleet.Event // since the last record
	acting        *acting
	actingMu      sync.Mutex // balancer calls against drains; see act.go
	draining      map[string]bool
}

// commitTimeout is long: a commit that is given up may still come to pass.
const commitTimeout = 30 * time.Second

// What is kept in memory while the journal cannot be written, and there is no spool: so many ticks of a fleet, at 15 s a tick four hours, and
// so many of all together.
const (
	tooMany    = 1000
	tooManyAll = 100_000
)

func newRunner(ctx context.Context, opts Options, ledger *ledger, parts Parts, offset time.Duration) (*runner, error) {
	r := &runner{opts: opts, ledger: ledger, offset: offset, inbox: make(chan func(*runner)), ended: make(chan struct{}), draining: map[string]bool{}}
	r.ctx, r.leave = context.WithCancel(ctx)
	r.state = &r.Engine
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	saved, _, err := opts.Journal.State(ctx, parts.Policy.Name)
	if err != nil {
		return nil, fmt.Errorf("read the state: %w", err)
	}
	if saved != nil {
		if err := json.Unmarshal(saved, &r.memory); err != nil {
			return nil, fmt.Errorf("read the state: %w", err)
		}
	}
	r.refit(parts)
	return r, nil
}

// refit takes new parts and keeps what the state remembers of the old ones.
func (r *runner) refit(parts Parts) {
	if r.parts.Target != parts.Target {
		r.stopActing()
	}
	n := len(parts.Sources)
	reads := make([]call[fleet.Reading], n)
	for i, src := range parts.Sources {
		if at := slices.Index(r.parts.Sources, src); src != nil && at >= 0 {
			reads[i] = r.reads[at] // which may still run
		}
	}
	r.parts = parts
	r.state.Fit(&parts.Policy)
	r.ahead = ahead{}
	r.ledger.update(r.claim())
	ctx, cancel := context.WithTimeout(r.ctx, 30*time.Second)
	defer cancel()
	r.foresights(ctx, &parts.Policy)
	r.readings, r.reads, r.readErrs = make([]fleet.Reading, n), reads, make([]error, n)
	if r.status.Load() == nil {
		r.status.Store(r.snapshot()) // later ones come with the ticks
	}
}

// send hands f to the runner's goroutine; it is not run if the runner has ended or ctx ends first.
func (r *runner) send(ctx context.Context, f func(*runner)) {
	select {
	case r.inbox <- f:
	case <-r.ended:
	case <-ctx.Done():
	}
}

func (r *runner) run() {
	defer close(r.ended)
	defer r.stopActing()
	timer := time.NewTimer(r.first)
	defer timer.Stop()
	var next time.Time
	for {
		var due time.Time
		select {
		case <-r.ctx.Done():
			return
		case f := <-r.inbox:
			f(r)
			continue
		case err := <-r.acting.done():
			enlarged := r.state.Action != nil && r.acting.to != r.state.Action.To
			r.acted(err)
			if enlarged {
				r.act()
				continue
			}
			if err != nil {
				continue // tried again at the next tick, not at once
			}
		case <-timer.C:
			due = next
		}
		r.tick(r.ctx, due)
		now := r.opts.Clock.Wall()
		wait := untilNext(now, r.opts.Tick, r.offset)
		next = now.Add(wait)
		timer.Reset(wait)
	}
}

// obey takes an order in a tick of its own.
func (r *runner) obey(o engine.Order) error {
	now := r.opts.Clock.Wall()
	if !o.Until.IsZero() {
		o.Until = now.Add(o.Until.Sub(o.At)) // how long, by this clock
	}
	o.At = now
	r.orders = append(r.orders, o)
	r.tick(r.ctx, time.Time{})
	return r.journalErr
}

// tick is one turn of the loop; due is when it was to come, zero when it comes out of turn.
func (r *runner) tick(ctx context.Context, due time.Time) {
	now := look(r.opts.Clock)
	if due.After(r.Clock.Wall) { // an order may have come between
		now.Wall = onTime(now.Wall, due, r.opts.Tick)
	}
	in := engine.Input{Now: now.Wall, ClockJump: r.Clock.jump(now), Readings: r.readings, Orders: r.orders}
	r.Clock = now
	shiftTime(&r.Started, in.ClockJump)
	shiftTime(&r.TargetLost, in.ClockJump)

	r.observe(ctx, now.Wall)
	in.Size = r.size
	r.gather(ctx, fleet.Scene{Now: now.Wall, Workers: r.workers, WorkersKnown: r.size.Known})
	if ctx.Err() != nil {
		return // stopping: readings that were cut off prove nothing
	}

	in.Outlook = r.outlook(now.Wall)
	before, action := r.state.Clone(), r.state.Action
	r.ledger.decide(r.parts.Policy.Name, func(a engine.Allotment) allot.Claim {
		in.Allotment = a
		engine.Step(&r.parts.Policy, r.state, &in, &r.decision)
		return r.claim()
	})
	r.allotment = in.Allotment
	decided := r.state.Action != nil && r.state.Action != action
	events := r.events(before, &in, decided)
	if err := r.record(ctx, &in, events, decided); err != nil && decided {
		r.state.Undo()
		r.ledger.update(r.claim())
		r.decision.To = r.decision.From
		r.decision.Reasons = append(r.decision.Reasons, fleet.Reason{Code: fleet.BlockedJournal, Size: r.decision.From, Note: err.Error()})
	}
	r.orders = nil
	r.serve(ctx)
	r.act()
	r.took = r.opts.Clock.Uptime() - now.Uptime
	r.status.Store(r.snapshot())
}

// observe asks the target for its workers.
func (r *runner) observe(ctx context.Context, now time.Time) {
	ctx, cancel := context.WithTimeout(ctx, r.opts.ReadTimeout)
	defer cancel()
	r.workers, r.targetErr = r.look.do(ctx, now, r.parts.Target.Workers)
	r.size = fleet.Size{}
	if r.targetErr == nil {
		r.size = fleet.Count(r.workers)
	}
}

// record commits the tick, after those that could not be committed before it. A decision that cannot be recorded is none, and is
// not among what is recorded later.
func (r *runner) record(ctx context.Context, in *engine.Input, events []fleet.Event, decided bool) error {
	state, err := json.Marshal(&r.memory)
	if err != nil {
		return fmt.Errorf("write the state: %w", err) // a value that is no JSON: caught by the engine's tests
	}
	t := record.Tick{Fleet: r.parts.Policy.Name, Time: in.Now, State: state, Size: in.Size, Events: events}
	for i, sig := range r.parts.Policy.Signals {
		t.Readings = append(t.Readings, record.Sample{Signal: sig.Name, Reading: r.state.Signals[i].Last})
	}
	r.eachSize(func(pol *policy.Policy, size int) {
		if size > 0 {
			t.Readings = append(t.Readings, record.Sample{Signal: record.PolicySignal(pol.ID), Reading: fleet.Reading{Value: float64(size), Time: in.Now, Quality: fleet.Fresh}})
		}
	})
	for at, o := range r.foresee {
		pol, b := &r.parts.Policy.Policies[o.policy], &r.state.Forecasts[at].Band
		if !b.Known || pol.Mode == fleet.Off {
			continue
		}
		for _, s := range []struct {
			bound string
			value float64
		}{{"low", b.Low}, {"median", b.Median}, {"high", b.High}} {
			t.Readings = append(t.Readings, record.Sample{Signal: record.ForecastSignal(pol.ID, s.bound), Reading: fleet.Reading{Value: s.value, Time: in.Now, Quality: fleet.Fresh}})
		}
	}
	if !r.decision.SameAs(&r.stored) {
		d := cloneDecision(&r.decision)
		t.Decision = &d
	}
	if r.journalErr != nil {
		t.Events = append(t.Events, fleet.Event{Time: in.Now, Fleet: t.Fleet, Kind: fleet.EventJournalFailed, Note: r.journalErr.Error(),
			Duration: fleet.Duration(in.Now.Sub(r.journalFailed))})
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
	defer cancel()
	if err = r.catchUp(ctx); err == nil {
		err = r.opts.Journal.Commit(ctx, append(slices.Clone(r.backlog), t)...)
	}
	if err == nil {
		r.journalErr, r.backlog = nil, nil
		if t.Decision != nil {
			r.stored = *t.Decision
		}
		return nil
	}
	if r.journalErr == nil {
		r.journalFailed = in.Now
	} else {
		t.Events = t.Events[:len(t.Events)-1] // the failure is told once, when it is over
	}
	r.journalErr = err
	t.State = nil // the state that counts is the latest
	if decided {
		t.Decision = nil
		t.Events = slices.DeleteFunc(t.Events, func(e fleet.Event) bool { return e.Kind == fleet.EventDecision })
	}
	if r.opts.Spool != nil {
		spoolErr := r.opts.Spool.Keep(t)
		if spoolErr == nil {
			return err
		}
		r.journalErr = errors.Join(err, spoolErr)
	}
	r.backlog = append(r.backlog, t)
	if most := min(tooMany, tooManyAll/r.ledger.fleets()); len(r.backlog) > most {
		r.backlog = slices.Delete(r.backlog, 0, len(r.backlog)-most)
	}
	return err
}

// catchUp records what was spooled while the journal could not be written, when it can be again.
func (r *runner) catchUp(ctx context.Context) error {
	if r.opts.Spool == nil || r.journalErr == nil {
		return nil
	}
	if err := r.opts.Journal.Commit(ctx); err != nil { // nothing: does it answer at all
		return err
	}
	return r.opts.Spool.Recover(ctx, r.parts.Policy.Name, func(part ...record.Tick) error { return r.opts.Journal.Commit(ctx, part...) })
}

// events turns what the tick changed into durable records.
func (r *runner) events(before *engine.State, in *engine.Input, decided bool) []fleet.Event {
	out := r.noted
	r.noted = nil
	p, s, d, now := &r.parts.Policy, r.state, &r.decision, in.Now
	add := func(e fleet.Event) {
		e.Time, e.Fleet = now, p.Name
		out = append(out, e)
	}
	if in.ClockJump != 0 {
		add(fleet.Event{Kind: fleet.EventClockJump, Duration: fleet.Duration(in.ClockJump)})
	}
	for _, o := range in.Orders {
		e := fleet.Event{Kind: fleet.EventOrder, State: o.Kind.String(), By: o.By, Origin: o.Origin, Note: o.Note, To: o.Size}
		if o.Kind == engine.SetMode {
			e.State = "mode " + o.Mode.String()
		}
		if !o.Until.IsZero() {
			e.Duration = fleet.Duration(o.Until.Sub(o.At))
		}
		add(e)
	}
	switch {
	case r.targetErr != nil && r.TargetLost.IsZero():
		r.TargetLost = now
		add(fleet.Event{Kind: fleet.EventTargetLost, Note: r.targetErr.Error()})
	case r.targetErr == nil && !r.TargetLost.IsZero():
		add(fleet.Event{Kind: fleet.EventTargetBack, Duration: fleet.Duration(now.Sub(r.TargetLost))})
		r.TargetLost = time.Time{}
	}
	r.signalEvents(add, now)
	eachRule(p, func(at int, pol *policy.Policy, rule policy.Rule) {
		is, was := s.Rules[at].State, before.Rules[at].State
		if is != was && !before.Rules[at].Since.IsZero() {
			of := told(p, pol, rule)
			add(fleet.Event{Kind: fleet.EventAlarm, Policy: of.Policy, Signal: of.Signal, State: is.String(), Note: of.Condition()})
		}
	})
	for i := range p.Guards {
		is, was := raised(&s.Guards[i]), raised(&before.Guards[i])
		switch {
		case is && !was:
			add(fleet.Event{Kind: fleet.EventGuard, Policy: p.Guards[i].Name, State: "holds", Note: guardNote(p, s, i)})
		case was && !is:
			add(fleet.Event{Kind: fleet.EventGuard, Policy: p.Guards[i].Name, State: "lets go", Duration: fleet.Duration(now.Sub(before.Guards[i].Since))})
		}
	}
	for _, reason := range d.Reasons {
		switch reason.Code {
		case fleet.SizeChanged:
			add(fleet.Event{Kind: fleet.EventSizeChanged, From: reason.Limit, To: reason.Size})
		case fleet.ActionExpired:
			add(fleet.Event{Kind: fleet.EventActionFailed, From: before.Action.From, To: before.Action.To, Note: message(r.actionErr),
				Duration: fleet.Duration(now.Sub(reason.Since))})
		}
	}
	if a := before.Action; a != nil && s.Action == nil && r.size.Known && r.size.Workers() == a.To {
		add(r.actionDone(a, in.ClockJump, now))
	}
	if decided || (d.Shadow && d.To != d.From) {
		c := cloneDecision(d)
		add(fleet.Event{Kind: fleet.EventDecision, From: d.From, To: d.To, Decision: &c})
	}
	return out
}

// raised reports whether a guard holds for what it saw. That it holds because it sees nothing is the lost signal's event.
func raised(g *engine.GuardState) bool {
	return !g.Since.IsZero() && !slices.ContainsFunc(g.Conditions, func(c engine.RuleState) bool { return c.State != fleet.Alarm })
}

// guardNote is what a guard looks at, with the figures.
func guardNote(p *policy.Fleet, s *engine.State, i int) string {
	cond := &p.Guards[i].If[0]
	sig, st := &p.Signals[cond.Signal], &s.Signals[cond.Signal]
	value := "not measured yet"
	switch newest := st.Series.Newest(); {
	case newest.Real():
		value = sig.Unit.Format(newest.Value)
	case st.Last.Quality < fleet.Fresh:
		value = st.Last.Quality.String()
	}
	return fmt.Sprintf("%s is %s (%s %s)", sig.Name, value, cond.Operator, sig.Unit.Format(cond.Threshold))
}

// actionDone closes an action's record with its time to scale, counted from the breach when an alarm drove it.
func (r *runner) actionDone(a *engine.Action, jump time.Duration, now time.Time) fleet.Event {
	decided, started := a.Since.Add(jump), r.Started
	if started.IsZero() {
		started = decided
	}
	e := fleet.Event{Kind: fleet.EventActionDone, From: a.From, To: a.To, Duration: fleet.Duration(now.Sub(decided))}
	if !a.Breach.IsZero() {
		breach, alarm := a.Breach.Add(jump), a.Alarm.Add(jump)
		e.Duration = fleet.Duration(now.Sub(breach))
		e.Parts = &fleet.Parts{
			BreachToAlarm: fleet.Duration(alarm.Sub(breach)), AlarmToDecision: fleet.Duration(decided.Sub(alarm)),
			DecisionToAction: fleet.Duration(started.Sub(decided)), ActionToServing: fleet.Duration(now.Sub(started)),
		}
	}
	return e
}

// signalEvents records a loss once it has lasted a period: one late answer is no news.
func (r *runner) signalEvents(add func(fleet.Event), now time.Time) {
	for i := range r.state.Signals {
		sig := &r.state.Signals[i]
		at := slices.Index(r.Lost, sig.Name)
		switch {
		case at < 0 && !sig.Lost.IsZero() && now.Sub(sig.Lost) >= r.parts.Policy.Signals[i].Period:
			r.Lost = append(r.Lost, sig.Name)
			add(fleet.Event{Kind: fleet.EventSignalLost, Signal: sig.Name, State: sig.Last.Quality.String(), Note: message(r.readErrs[i]),
				Duration: fleet.Duration(now.Sub(sig.Lost))})
		case at >= 0 && sig.Lost.IsZero():
			r.Lost = slices.Delete(r.Lost, at, at+1)
			add(fleet.Event{Kind: fleet.EventSignalBack, Signal: sig.Name})
		}
	}
}

// note keeps an event for the next tick's record.
func (r *runner) note(e fleet.Event) {
	e.Time, e.Fleet = r.opts.Clock.Wall(), r.parts.Policy.Name
	r.noted = append(r.noted, e)
}

func shiftTime(t *time.Time, d time.Duration) {
	if !t.IsZero() {
		*t = t.Add(d)
	}
}
