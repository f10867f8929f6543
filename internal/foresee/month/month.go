// Package month reckons a month of an instance from its journal: how available the service was, whether it kept its levels, how the
// fleets were scaled, what held them back, what they cost, and what the requirements' monthly review asks for. It reads and counts;
// the words are internal/show/report's.
//
// Missing data is never zero. Each figure rests on the time in which it was measured, and says how much that is; where nothing was
// measured there is no figure (nil in Go, null in JSON).
package month

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"tidemark/internal/config"
	"tidemark/internal/fleet"
	"tidemark/internal/foresee/tune"
	"tidemark/internal/record"
)

// Journal is what is asked of the record.
type Journal interface {
	Series(ctx context.Context, q record.SeriesQuery) ([]record.Point, error)
	Events(ctx context.Context, q record.EventQuery) ([]fleet.Event, error)
	Decisions(ctx context.Context, name string, since, until time.Time, limit int) ([]fleet.Decision, error)
	DecisionAt(ctx context.Context, name string, t time.Time) (*fleet.Decision, bool, error)
}

// Form is how a month is written.
const Form = "2006-01"

// Span is a month's beginning and end in a zone: an hour shorter or longer where the clocks change in it.
func Span(name string, zone *time.Location) (from, to time.Time, err error) {
	from, err = time.ParseInLocation(Form, name, zone)
	if err != nil {
		return from, to, fmt.Errorf("%q is no month; write one such as 2027-03", name)
	}
	return from, from.AddDate(0, 1, 0), nil
}

// Before is the last whole month before a time.
func Before(now time.Time, zone *time.Location) string {
	local := now.In(zone)
	return time.Date(local.Year(), local.Month(), 1, 0, 0, 0, 0, zone).AddDate(0, 0, -1).Format(Form)
}

// Verdict is how a figure stands to what is required of it.
type Verdict string

// The verdicts. Unknown is not a pass.
const (
	Met     Verdict = "met"
	Missed  Verdict = "missed"
	Unknown Verdict = "unknown"
)

func judge(ok bool) Verdict {
	if ok {
		return Met
	}
	return Missed
}

// Report is a month.
type Report struct {
	Instance string    `json:"instance"`
	Country  string    `json:"country,omitempty"`
	TimeZone string    `json:"time_zone"`
	Month    string    `json:"month"`
	From     time.Time `json:"from"`
	To       time.Time `json:"to"`
	Until    time.Time `json:"until"` // what is reported: up to To, or to when the report was made
	Made     time.Time `json:"made"`
	Fleets   []Fleet   `json:"fleets"`

	Availability Availability `json:"availability"` // of the fleet that was available least
	Money        *Money       `json:"cost"`         // nil: no fleet has a price, or they have several currencies
	Tags         []TagCost    `json:"cost_by_tag"`
	Alerts       Alerts       `json:"alerts"`
	Criteria     []Criterion  `json:"decision_criteria"`
	Risks        []Risk       `json:"risks"`
	Validation   Validation   `json:"load_validation"`
	Refine       []Refinement `json:"refinement_due"`
	// Tuned are the latest outcomes of 'tidemark tune', of those fleets that it was run for within TunedFor before the end.
	Tuned []tune.Outcome `json:"tuned"`

	Zone *time.Location `json:"-"`
}

// TunedFor is how long an outcome of 'tidemark tune' is of use: load and software change.
const TunedFor = 92 * 24 * time.Hour

// tuned reads what 'tidemark tune' last came to. What was made after the month, or long before its end, is of another time.
func (r *Report) tuned(cfg *config.Config) {
	dir := cfg.ReportsDir()
	for i := range cfg.Fleets {
		name := cfg.Fleets[i].Name
		switch o, err := tune.Saved(dir, name); {
		case err != nil: // to run it again mends it
			r.Refine = append(r.Refine, Refinement{name, "what was recommended last is not known: " + err.Error()})
		case o != nil && !o.Made.After(r.Until) && r.Until.Sub(o.Made) <= TunedFor:
			r.Tuned = append(r.Tuned, *o)
		}
	}
}

// Whole reports whether the month was over when the report was made.
func (r *Report) Whole() bool { return !r.Until.Before(r.To) }

// Fleet is a fleet's month.
type Fleet struct {
	Name         string            `json:"name"`
	Bounds       fleet.Bounds      `json:"bounds"` // of the configuration that the report was made with
	Tags         map[string]string `json:"tags"`
	Step         fleet.Duration    `json:"step"` // of the intervals that figures rest on: 5 minutes, or an hour where the journal keeps no finer ones
	Coverage     Coverage          `json:"coverage"`
	Availability Availability      `json:"availability"`
	Levels       []Level           `json:"service_levels"`
	Size         *Size             `json:"size"`
	CPU          *Use              `json:"cpu"`
	Database     []DatabaseUse     `json:"database"`
	Scaling      Scaling           `json:"scaling"`
	Blocked      []Blocked         `json:"blocked"`
	Short        Shortage          `json:"short_at_maximum"`
	Money        *Money            `json:"cost"` // nil: the fleet has no price
	Sizing       Sizing            `json:"right_sizing"`
	Days         []Day             `json:"days"`
	Hours        []Hour            `json:"hours"`
}

// Coverage is how much of the month the record knows.
type Coverage struct {
	Reported fleet.Duration `json:"reported"` // the month, up to when it was reported
	Known    fleet.Duration `json:"known"`    // with readings of the fleet's size
	Unknown  fleet.Duration `json:"unknown"`  // without; the machine off included
	Off      fleet.Duration `json:"off"`      // of it: the machine was started anew at its end
}

// UnknownShare is the share of the month without readings, in percent.
func (c *Coverage) UnknownShare() float64 {
	if c.Reported <= 0 {
		return 0
	}
	return 100 * float64(c.Unknown) / float64(c.Reported)
}

// Availability is counted in time, as decide/alert counts it: an interval is served by the share of its requests that did not fail, where
// that is measured, else when there were workers. The machine off is not served; other time without readings counts neither way.
type Availability struct {
	Fleet    string         `json:"fleet"`
	Required float64        `json:"required_percent"`
	Percent  *float64       `json:"percent"`
	Served   fleet.Duration `json:"served"`
	Down     fleet.Duration `json:"down"` // Off included
	Off      fleet.Duration `json:"off"`
	Unknown  fleet.Duration `json:"unknown"`      // counted neither way
	ByErrors bool           `json:"by_errors"`    // failed requests were counted
	Allowed  fleet.Duration `json:"allowed_down"` // what the requirement leaves of the time that counts
	Outages  []Outage       `json:"outages"`      // the longest
	Verdict  Verdict        `json:"verdict"`
}

// Outage is an unbroken run of intervals in which something failed.
type Outage struct {
	From time.Time      `json:"from"`
	To   time.Time      `json:"to"`
	Down fleet.Duration `json:"down"`
	Off  bool           `json:"machine_off"`
}

// Level is a service level. An interval is kept when its worst reading is within the limit. Intervals without a reading (too few
// requests to state a p95, the signal lost, nobody looking) are not judged.
type Level struct {
	Name    string         `json:"name"` // api, pages or sync
	Signal  string         `json:"signal,omitempty"`
	Within  fleet.Duration `json:"within"`
	Kept    *float64       `json:"kept_percent"` // of the judged time; nil: nothing was judged
	Judged  fleet.Duration `json:"judged"`
	Missed  fleet.Duration `json:"missed"`
	Unknown fleet.Duration `json:"not_judged"`
	Worst   *float64       `json:"worst_seconds"`
	At      time.Time      `json:"worst_at,omitzero"`
	Days    []string       `json:"days_missed"` // on which it was missed for an hour or more
	Verdict Verdict        `json:"verdict"`
}

// Adherence is the share of judged time, in percent, in which a level must be kept. The requirement is of 95 % of calls; here whole
// intervals count, each by its worst reading, so that keeping it is harder than the requirement.
const Adherence = 95.0

// Size is what the fleet's size was over the known time.
type Size struct {
	Mean      float64        `json:"mean"`
	Min       int            `json:"min"`
	Max       int            `json:"max"`
	AtMaximum fleet.Duration `json:"at_maximum"` // all the interval
	AtMinimum fleet.Duration `json:"at_minimum"`
}

// Use is a share, in percent, over the time in which it was measured.
type Use struct {
	Signal  string         `json:"signal"`
	Mean    float64        `json:"mean_percent"`
	P95     float64        `json:"p95_percent"` // of the intervals' means
	Max     float64        `json:"max_percent"` // the largest mean of an interval
	Known   fleet.Duration `json:"known"`
	Unknown fleet.Duration `json:"unknown"`
}

// DatabaseUse is a figure of the database that the requirements set a level for.
type DatabaseUse struct {
	Use
	Field    string  `json:"field"`
	Required float64 `json:"required"`
	Least    bool    `json:"at_least"` // else at most
	Verdict  Verdict `json:"verdict"`
}

// Alerts are how many were raised.
type Alerts struct {
	Critical int `json:"critical"`
	Warning  int `json:"warning"`
	Info     int `json:"info"`
}

// Day is a local day.
type Day struct {
	Date         string         `json:"date"`
	From         time.Time      `json:"from"`
	To           time.Time      `json:"to"`
	Known        fleet.Duration `json:"known"`
	Unknown      fleet.Duration `json:"unknown"`
	Availability *float64       `json:"availability_percent"`
	WorkerHours  float64        `json:"worker_hours"` // of the known time
	Cost         *float64       `json:"cost"`
}

// Hour is an hour of the month, for charts; what was not measured is nil.
type Hour struct {
	Time time.Time `json:"time"`
	Size *float64  `json:"size"`
	CPU  *float64  `json:"cpu_percent"`
	API  *float64  `json:"api_worst_seconds"`
}

// Make reckons the month named of a configuration's fleets, as it stands at now. The zone is the instance's.
func Make(ctx context.Context, j Journal, cfg *config.Config, name string, now time.Time) (*Report, error) {
	zone := cfg.Instance.Zone
	from, to, err := Span(name, zone)
	if err != nil {
		return nil, err
	}
	if !from.Before(now) {
		return nil, fmt.Errorf("%s has not begun", name)
	}
	r := &Report{
		Instance: cfg.Instance.Name, Country: cfg.Instance.Country, TimeZone: cfg.Instance.TimeZone, Month: name, From: from, To: to, Made: now, Until: to,
		Zone: zone, Tags: []TagCost{}, Refine: []Refinement{}, Tuned: []tune.Outcome{},
	}
	if now.Before(to) {
		r.Until = now
	}
	events, err := read(ctx, j, record.EventQuery{Since: from, Until: r.Until})
	if err != nil {
		return nil, err
	}
	boots, err := started(ctx, j, events, from)
	if err != nil {
		return nil, err
	}
	for i := range cfg.Fleets {
		f, err := r.fleet(ctx, j, cfg, &cfg.Fleets[i], events, boots)
		if err != nil {
			return nil, fmt.Errorf("fleet %s: %w", cfg.Fleets[i].Name, err)
		}
		r.Fleets = append(r.Fleets, *f)
	}
	for i := range events {
		if events[i].Kind == fleet.EventAlertRaised {
			switch events[i].State {
			case "critical":
				r.Alerts.Critical++
			case "warning":
				r.Alerts.Warning++
			default:
				r.Alerts.Info++
			}
		}
	}
	r.Availability = worst(r.Fleets, cfg.Alerts.Availability)
	r.sumMoney()
	r.Validation = validate(&cfg.Report, r.Until)
	r.review()
	r.tuned(cfg)
	return r, nil
}

// worst is the availability of the fleet that was available least; one that is not known counts only where none is.
func worst(fleets []Fleet, required float64) Availability {
	out := Availability{Required: required, Verdict: Unknown, Outages: []Outage{}}
	for i := range fleets {
		a := fleets[i].Availability
		if out.Percent == nil || a.Percent != nil && *a.Percent < *out.Percent {
			out = a
		}
	}
	return out
}

// page is how many events or decisions are asked for at once.
const page = 1000

// read asks for all the events of a span, oldest first.
func read(ctx context.Context, j Journal, q record.EventQuery) (out []fleet.Event, err error) {
	q.Limit = page
	for {
		events, err := j.Events(ctx, q)
		if err != nil {
			return nil, err
		}
		out = append(out, events...)
		if len(events) < page {
			slices.SortStableFunc(out, func(a, b fleet.Event) int { return cmp.Compare(a.ID, b.ID) })
			return out, nil
		}
		q.Before = events[len(events)-1].ID
	}
}

// started lists the moments at which the daemon was started on another run of the machine than before: it had been off.
func started(ctx context.Context, j Journal, events []fleet.Event, from time.Time) (out []time.Time, err error) {
	before, err := j.Events(ctx, record.EventQuery{Kinds: []fleet.Kind{fleet.EventStarted}, Until: from, Limit: 1})
	if err != nil {
		return nil, err
	}
	run := ""
	if len(before) > 0 {
		run = before[0].State
	}
	for i := range events {
		if e := &events[i]; e.Kind == fleet.EventStarted {
			if run != "" && e.State != "" && e.State != run {
				out = append(out, e.Time)
			}
			run = e.State
		}
	}
	return out, nil
}

func number(v float64) *float64 { return &v }
