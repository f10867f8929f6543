package app

import (
	"context"
	"os"
	"slices"
	"time"

	"tidemark/internal/control"
	"tidemark/internal/decide/alert"
	"tidemark/internal/decide/engine"
	"tidemark/internal/fleet"
	"tidemark/internal/record"
	"tidemark/internal/show/text"
	"tidemark/internal/show/web"
)

var _ web.Backend = (*App)(nil)

// Overview is the state of the daemon and its fleets.
func (a *App) Overview() web.Overview {
	alerts := a.Alerts()
	a.mu.Lock()
	defer a.mu.Unlock()
	o := web.Overview{
		Instance: a.cfg.Instance.Name, TimeZone: a.cfg.Instance.TimeZone, PID: os.Getpid(), Version: a.opts.Version,
		Since: a.since, Config: a.path, Fleets: a.loop.Status(), Raised: []alert.Notice{},
	}
	for _, n := range alerts.Alerts {
		if n.Firing() && !n.Once {
			o.Raised = append(o.Raised, n.Notice)
		}
	}
	for _, c := range alerts.Channels {
		o.Untold += c.Waiting
	}
	return o
}

// Events asks the journal.
func (a *App) Events(ctx context.Context, q record.EventQuery) ([]fleet.Event, error) {
	return a.journal.Events(ctx, q)
}

// Order passes an operator's word on.
func (a *App) Order(ctx context.Context, name string, o engine.Order) (*control.Status, error) {
	return a.loop.Order(ctx, name, o)
}

// Explain gathers what is known of a fleet at a moment.
func (a *App) Explain(ctx context.Context, name string, at time.Time) (*web.Explanation, error) {
	e := &web.Explanation{Fleet: name, At: at}
	if at.IsZero() {
		if i := slices.IndexFunc(a.loop.Status(), func(st *control.Status) bool { return st.Fleet == name }); i >= 0 {
			e.Status = a.loop.Status()[i]
			e.At, e.Decision = e.Status.Time, &e.Status.Decision
		} else {
			return nil, control.ErrNoFleet
		}
	}
	known, err := a.journal.Fleets(ctx)
	if err != nil {
		return nil, err
	}
	if e.Status == nil && !slices.Contains(known, name) {
		return nil, control.ErrNoFleet
	}
	if e.Decision == nil {
		d, ok, err := a.journal.DecisionAt(ctx, name, e.At)
		if err != nil {
			return nil, err
		}
		if ok {
			e.Decision = d
		}
	}
	if e.Readings, err = a.journal.ReadingsAt(ctx, name, e.At); err != nil {
		return nil, err
	}
	e.Units = a.units(name, e.Readings)
	e.Changes, err = a.journal.Events(ctx, record.EventQuery{Fleet: name, Until: e.At, Limit: 5,
		Kinds: []fleet.Kind{fleet.EventDecision, fleet.EventActionDone, fleet.EventActionFailed, fleet.EventOrder, fleet.EventSizeChanged}})
	return e, err
}

// units finds the units of readings; a signal that is no longer configured is a plain number.
func (a *App) units(name string, readings []record.Sample) []fleet.Unit {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]fleet.Unit, len(readings))
	for _, f := range a.cfg.Fleets {
		if f.Name != name {
			continue
		}
		for i, r := range readings {
			for _, s := range f.Policy.Signals {
				if s.Name == r.Signal {
					out[i] = s.Unit
				}
			}
		}
	}
	return out
}

// log writes each event as it is recorded.
func (a *App) log(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	var last int64
	for {
		q := record.EventQuery{Since: a.since, Limit: 1000}
		if last > 0 {
			q = record.EventQuery{After: last, Limit: 1000}
		}
		events, err := a.journal.Events(ctx, q)
		if err != nil && ctx.Err() == nil {
			a.opts.Log("read the journal: " + err.Error())
		}
		if last == 0 {
			slices.Reverse(events) // newest first
		}
		for i := range events {
			last = events[i].ID
			name := events[i].Fleet
			if name == "" {
				name = "tidemark"
			}
			a.opts.Log(name + ": " + text.Event(&events[i]))
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
