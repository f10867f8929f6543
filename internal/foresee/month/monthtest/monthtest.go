// Package monthtest makes months to report on: a journal in memory, with what a test puts into it.
package monthtest

import (
	"context"
	"math"
	"slices"
	"time"

	"tidemark/internal/config"
	"tidemark/internal/decide/alert"
	"tidemark/internal/decide/policy"
	"tidemark/internal/fleet"
	"tidemark/internal/record"
)

// Journal answers from what it holds.
type Journal struct {
	Points map[string][]record.Point // by fleet and signal: "odoo-workers/cpu"
	Log    []fleet.Event             // oldest first; Add numbers them
	Chain  map[string][]fleet.Decision
}

// Add records an event.
func (j *Journal) Add(e fleet.Event) {
	e.ID = int64(len(j.Log)) + 1
	j.Log = append(j.Log, e)
}

func within(t, since, until time.Time) bool {
	return (since.IsZero() || !t.Before(since)) && (until.IsZero() || t.Before(until))
}

// Series gives the points as they are.
func (j *Journal) Series(_ context.Context, q record.SeriesQuery) (out []record.Point, err error) {
	for _, p := range j.Points[q.Fleet+"/"+q.Signal] {
		if within(p.Time, q.Since, q.Until) {
			out = append(out, p)
		}
	}
	return out, nil
}

// Events gives the newest first.
func (j *Journal) Events(_ context.Context, q record.EventQuery) (out []fleet.Event, err error) {
	for _, e := range slices.Backward(j.Log) {
		fits := within(e.Time, q.Since, q.Until) && (q.Fleet == "" || e.Fleet == q.Fleet) && (len(q.Kinds) == 0 || slices.Contains(q.Kinds, e.Kind)) && (q.Before == 0 || e.ID < q.Before)
		if fits && len(out) < q.Limit {
			out = append(out, e)
		}
	}
	return out, nil
}

// Decisions gives the newest first.
func (j *Journal) Decisions(_ context.Context, name string, since, until time.Time, limit int) (out []fleet.Decision, err error) {
	for _, d := range slices.Backward(j.Chain[name]) {
		if within(d.Time, since, until) && len(out) < limit {
			out = append(out, d)
		}
	}
	return out, nil
}

// DecisionAt is the last at or before t.
func (j *Journal) DecisionAt(_ context.Context, name string, t time.Time) (*fleet.Decision, bool, error) {
	for _, d := range slices.Backward(j.Chain[name]) {
		if !d.Time.After(t) {
			return &d, true, nil
		}
	}
	return nil, false, nil
}

// Fleet is the name of the fleet of Config.
const Fleet = "odoo-workers"

// Config is an instance with one fleet: cpu, errors and api_p95 are measured, pages and synchronisation are not.
func Config(zone string) *config.Config {
	at, err := time.LoadLocation(zone)
	if err != nil {
		panic(err) // a test's mistake
	}
	c := &config.Config{
		File: "tidemark.yaml", Tick: 15 * time.Second, Alerts: alert.DefaultRules(),
		Instance: config.Instance{Name: "dfr-cook-islands", Country: "CKI", TimeZone: zone, Zone: at, Region: "Rarotonga", Tags: map[string]string{"owner": "moa-ict"}},
		Fleets: []config.Fleet{{
			Name: Fleet, Tags: map[string]string{"owner": "moa-ict", "programme": "dfr"}, Budget: config.Budget{Monthly: 120, Currency: "NZD", WorkerHour: 0.05},
			Policy: policy.Fleet{Name: Fleet, Mode: fleet.On, Bounds: fleet.Bounds{Min: 2, Max: 10}, Signals: []policy.Signal{
				{Name: "cpu", Unit: fleet.Percent}, {Name: "errors", Unit: fleet.Percent}, {Name: "api_p95", Unit: fleet.Seconds, Q: 0.95},
			}},
		}},
	}
	for _, s := range c.Fleets[0].Policy.Signals {
		c.Fleets[0].Signals = append(c.Fleets[0].Signals, config.Signal{Name: s.Name})
	}
	c.Report.Levels = config.ServiceLevels{API: config.ServiceLevel{Signal: "api_p95", Within: 500 * time.Millisecond}, Pages: config.ServiceLevel{Within: 3 * time.Second}, Sync: config.ServiceLevel{Within: 2 * time.Minute}}
	return c
}

// Look is what a fleet reads in one interval; NaN: that signal has no reading in it.
type Look struct{ Size, CPU, Errors, API float64 }

// None is an interval in which nobody looked.
var None = Look{math.NaN(), math.NaN(), math.NaN(), math.NaN()}

// Ticks is how many ticks an interval of 5 minutes has.
const Ticks = 20

// Fill records intervals of 5 minutes from a time on.
func (j *Journal) Fill(from, to time.Time, look func(at time.Time) Look) {
	if j.Points == nil {
		j.Points = map[string][]record.Point{}
	}
	for at := from; at.Before(to); at = at.Add(5 * time.Minute) {
		l := look(at)
		if math.IsNaN(l.Size) && math.IsNaN(l.CPU) && math.IsNaN(l.Errors) && math.IsNaN(l.API) {
			continue
		}
		for signal, v := range map[string]float64{record.SizeSignal: l.Size, "cpu": l.CPU, "errors": l.Errors, "api_p95": l.API} {
			p := record.Point{Time: at, N: Ticks, Min: v, Max: v, Mean: v}
			if math.IsNaN(v) {
				p.N, p.Missing = 0, Ticks
			}
			j.Points[Fleet+"/"+signal] = append(j.Points[Fleet+"/"+signal], p)
		}
	}
}

// Working is a month of an office: quiet nights and weekends, a registration drive on the 15th and 16th at which the fleet is at its
// maximum and then bound by the database, an outage of the application, a night with the machine off, and hours with the daemon stopped.
func Working(cfg *config.Config, name string) *Journal {
	zone := cfg.Instance.Zone
	from, err := time.ParseInLocation("2006-01", name, zone)
	if err != nil {
		panic(err) // a test's mistake
	}
	to := from.AddDate(0, 1, 0)
	j := &Journal{Chain: map[string][]fleet.Decision{}}
	on := func(day, hour, minute int) time.Time {
		return time.Date(from.Year(), from.Month(), day, hour, minute, 0, 0, zone)
	}
	j.Add(fleet.Event{Time: from.Add(-50 * time.Hour), Kind: fleet.EventStarted, State: "run-1", Note: "version 1"})
	size := 2
	change := func(at time.Time, to int, reason fleet.Reason) {
		d := &fleet.Decision{Fleet: Fleet, Time: at, From: size, To: to, Breach: at.Add(-75 * time.Second), Alarm: at.Add(-15 * time.Second), Reasons: []fleet.Reason{reason}}
		j.Add(fleet.Event{Time: at, Fleet: Fleet, Kind: fleet.EventDecision, From: size, To: to, Decision: d})
		took := fleet.Duration(9 * time.Second)
		done := fleet.Event{Time: at.Add(9 * time.Second), Fleet: Fleet, Kind: fleet.EventActionDone, From: size, To: to, Duration: took}
		if to > size {
			done.Duration += fleet.Duration(75 * time.Second)
			done.Parts = &fleet.Parts{BreachToAlarm: fleet.Duration(time.Minute), AlarmToDecision: fleet.Duration(15 * time.Second), DecisionToAction: fleet.Duration(time.Second), ActionToServing: fleet.Duration(8 * time.Second)}
		}
		j.Add(done)
		j.Chain[Fleet] = append(j.Chain[Fleet], *d, fleet.Decision{Fleet: Fleet, Time: at.Add(time.Minute), From: to, To: to, Reasons: []fleet.Reason{{Code: fleet.NothingProposed, Size: to}}})
		size = to
	}
	out := fleet.Reason{Code: fleet.RuleOut, Policy: "odoo-worker-cpu-scaling-policy", Signal: "cpu", Unit: fleet.Percent, Operator: fleet.AtLeast, Value: 78, Threshold: 70, Breaching: 2, M: 2, N: 3}
	in := fleet.Reason{Code: fleet.RuleIn, Policy: "odoo-worker-cpu-scaling-policy", Signal: "cpu", Unit: fleet.Percent, Operator: fleet.AtMost, Value: 18, Threshold: 30, Breaching: 5, M: 4, N: 5}
	hold := func(at, until time.Time, code fleet.Code, would int, r fleet.Reason) {
		r.Code, r.Size = code, size
		j.Chain[Fleet] = append(j.Chain[Fleet],
			fleet.Decision{Fleet: Fleet, Time: at, From: size, To: size, Wanted: would, Would: fleet.Would{To: would, Code: code}, Reasons: []fleet.Reason{out, r}},
			fleet.Decision{Fleet: Fleet, Time: until, From: size, To: size, Reasons: []fleet.Reason{{Code: fleet.NothingProposed, Size: size}}})
	}
	sizes := map[time.Time]int{}
	for day := from; day.Before(to); day = day.AddDate(0, 0, 1) {
		n := day.Day()
		peak := map[bool]int{true: 2, false: 4}[day.Weekday() == time.Saturday || day.Weekday() == time.Sunday]
		if n == 15 || n == 16 {
			peak = 10
		}
		for s := size; s < peak; s++ {
			at := on(n, 8, 0).Add(time.Duration(s*6) * time.Minute)
			if s == 2 {
				hold(at.Add(-7*time.Minute), at.Add(-3*time.Minute), fleet.BlockedCooldown, 3, fleet.Reason{Since: at.Add(-8 * time.Minute), Until: at.Add(-3 * time.Minute)})
			}
			change(at, s+1, out)
			sizes[at] = s + 1
		}
		if n == 15 {
			hold(on(15, 10, 0), on(15, 11, 30), fleet.LimitedBounds, 12, fleet.Reason{Limit: 10})
		}
		if n == 16 {
			hold(on(16, 10, 0), on(16, 10, 50), fleet.BlockedDatabase, 12, fleet.Reason{Policy: "database", Signal: "pool_waiting", Operator: fleet.AtLeast, Value: 7, Threshold: 5, Breaching: 3, M: 2, N: 3})
		}
		for s := size; s > 2; s-- {
			at := on(n, 17, 30).Add(time.Duration((peak-s)*11) * time.Minute)
			change(at, s-1, in)
			sizes[at] = s - 1
		}
	}
	current := 2
	j.Fill(from, to, func(at time.Time) Look {
		for t, n := range sizes {
			if !t.After(at) && at.Sub(t) < 5*time.Minute {
				current = n
			}
		}
		local := at.In(zone)
		hour := float64(local.Hour()) + float64(local.Minute())/60
		work := 0.06 + 0.02*math.Sin(hour)
		if hour > 7 && hour < 18 {
			work = 0.4*float64(current) + 0.5*math.Sin((hour-7)/11*math.Pi)
		}
		l := Look{Size: float64(current), CPU: min(100*work/float64(current), 96), Errors: 0, API: 0.12 + 0.14*work/float64(current)}
		switch {
		case hour < 6: // hardly a request
			l.Errors, l.API = math.NaN(), math.NaN()
		case local.Day() == 15 && hour >= 10 && hour < 11.5:
			l.API, l.CPU = 0.81, 91
		case local.Day() == 9 && hour >= 14 && hour < 14.5:
			l.Errors, l.API = 100, math.NaN()
		}
		switch {
		case local.Day() == 20 && hour >= 1 && hour < 3.25: // the machine is off
			return None
		case local.Day() == 24 && hour >= 9 && hour < 13: // the daemon is stopped
			return None
		}
		return l
	})
	j.Add(fleet.Event{Time: on(20, 3, 15), Kind: fleet.EventStarted, State: "run-2", Note: "version 1"})
	j.Add(fleet.Event{Time: on(24, 9, 0), Kind: fleet.EventStopped})
	j.Add(fleet.Event{Time: on(24, 13, 0), Kind: fleet.EventStarted, State: "run-2", Note: "version 1"})
	j.Add(fleet.Event{Time: on(15, 10, 5), Fleet: Fleet, Kind: fleet.EventAlertRaised, State: "warning", Note: "odoo-workers is at its maximum of 10 and 2 short"})
	slices.SortStableFunc(j.Log, func(a, b fleet.Event) int { return a.Time.Compare(b.Time) })
	for i := range j.Log {
		j.Log[i].ID = int64(i) + 1
	}
	slices.SortStableFunc(j.Chain[Fleet], func(a, b fleet.Decision) int { return a.Time.Compare(b.Time) })
	return j
}
