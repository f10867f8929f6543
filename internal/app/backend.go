package app

import (
	"context"
	"os"
	"slices"
	"time"

	"tidemark/internal/config"
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
		Since: a.since, Config: a.path, Identity: a.cfg.Identity(), Fleets: a.loop.Status(), Raised: []alert.Notice{},
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
	e.Readings = slices.DeleteFunc(e.Readings, func(s record.Sample) bool { return record.Reckoned(s.Signal) })
	e.Units = a.units(name, e.Readings)
	e.Changes, err = a.journal.Events(ctx, record.EventQuery{Fleet: name, Until: e.At, Limit: 5,
		Kinds: []fleet.Kind{fleet.EventDecision, fleet.EventActionDone, fleet.EventActionFailed, fleet.EventOrder, fleet.EventSizeChanged}})
	if err != nil {
		return nil, err
	}
	e.Compare, err = a.compare(ctx, name, e.At)
	return e, err
}

// compareSpan is how far back policies are compared, and comparePoints makes its steps five minutes.
const (
	compareSpan   = 24 * time.Hour
	comparePoints = 300
)

// compare sets what each configured policy alone would have used against what the fleet used.
func (a *App) compare(ctx context.Context, name string, at time.Time) ([]web.Comparison, error) {
	a.mu.Lock()
	cfg := a.cfg
	a.mu.Unlock()
	i := fleetAt(cfg, name)
	if i < 0 {
		return nil, nil
	}
	q := record.SeriesQuery{Fleet: name, Signal: record.SizeSignal, Since: at.Add(-compareSpan), Until: at, MaxPoints: comparePoints}
	var actual []record.Point
	var out []web.Comparison
	for _, pol := range cfg.Fleets[i].Policy.Policies {
		if pol.SLO == nil && pol.Forecast == nil {
			continue
		}
		var err error
		if actual == nil {
			if actual, err = a.journal.Series(ctx, q); err != nil {
				return nil, err
			}
		}
		of := q
		of.Signal = record.PolicySignal(pol.ID)
		alone, err := a.journal.Series(ctx, of)
		if err != nil {
			return nil, err
		}
		if c, ok := compared(alone, actual, cfg.Tick); ok {
			c.Policy, c.Mode = pol.ID, pol.Mode
			out = append(out, c)
		}
	}
	return out, nil
}

// compared adds up two series over the steps that both have.
func compared(alone, actual []record.Point, tick time.Duration) (c web.Comparison, ok bool) {
	sizes := map[int64]record.Point{}
	for _, p := range actual {
		sizes[p.Time.UnixNano()] = p
	}
	ticks := 0
	for _, p := range alone {
		was := sizes[p.Time.UnixNano()]
		n := min(p.N, was.N)
		if n == 0 {
			continue
		}
		if ticks == 0 {
			c.Min, c.Max = int(p.Min), int(p.Max)
		}
		c.Min, c.Max = min(c.Min, int(p.Min)), max(c.Max, int(p.Max))
		c.Alone += float64(n) * p.Mean
		c.Actual += float64(n) * was.Mean
		ticks += n
	}
	c.Span = fleet.Duration(min(time.Duration(ticks)*tick, compareSpan))
	if ticks == 0 {
		return c, false
	}
	hours := time.Duration(c.Span).Hours() / float64(ticks)
	c.Alone *= hours
	c.Actual *= hours
	return c, true
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

// quiet reports whether the log is for trouble only.
func (a *App) quiet() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.cfg.Instance.LoggingLevel == config.LogTroubleOnly
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
			a.policies.hear(&events[i])
			if a.quiet() && !text.Trouble(&events[i]) {
				continue
			}
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
