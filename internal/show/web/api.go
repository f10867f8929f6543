// Package web is the HTTP API of the daemon: what it shows and does, its events as they come, figures for Prometheus, and what the
// public may know. The command line speaks it over a unix socket that only its owner may open, and browsers over the dashboard's
// listener. The pages are in the package dashboard below it.
package web

import (
	"context"
	"errors"
	"time"

	"tidemark/internal/config"
	"tidemark/internal/control"
	"tidemark/internal/decide/alert"
	"tidemark/internal/decide/engine"
	"tidemark/internal/fleet"
	"tidemark/internal/foresee/backtest"
	"tidemark/internal/foresee/month"
	"tidemark/internal/record"
	"tidemark/internal/tell"
)

// Overview is the state of one daemon and its fleets.
type Overview struct {
	Instance string            `json:"instance"`
	TimeZone string            `json:"time_zone"`
	PID      int               `json:"pid"`
	Version  string            `json:"version"`
	Since    time.Time         `json:"since"` // when the daemon took the lead
	Config   string            `json:"config"`
	Identity []config.Fact     `json:"identity"` // what the installation says of itself
	Fleets   []*control.Status `json:"fleets"`
	Raised   []alert.Notice    `json:"alerts"`      // what is the case now
	Untold   int               `json:"undelivered"` // messages that wait for a channel
}

// Explanation is what is known of a fleet at one moment.
type Explanation struct {
	Fleet    string          `json:"fleet"`
	At       time.Time       `json:"at"`
	Decision *fleet.Decision `json:"decision"`         // in force then; nil when nothing was recorded yet
	Readings []record.Sample `json:"readings"`         // of the tick at or before
	Units    []fleet.Unit    `json:"units,omitempty"`  // of the readings, where still configured
	Changes  []fleet.Event   `json:"changes"`          // the latest changes of size and orders before it, newest first
	Status   *control.Status `json:"status,omitempty"` // when asked about now
	// Compare sets what each policy that asks for a size of its own would have used against what the fleet used, up to then.
	Compare []Comparison `json:"compare,omitempty"`
}

// Comparison is the size that one policy alone would have led to, against the size that was, over the same ticks.
type Comparison struct {
	Policy string         `json:"policy"`
	Mode   fleet.Mode     `json:"mode"`
	Span   fleet.Duration `json:"span"`   // that both were recorded in, within the last 24 hours
	Alone  float64        `json:"alone"`  // worker-hours, had the policy alone decided
	Actual float64        `json:"actual"` // worker-hours, as it was
	Min    int            `json:"min"`    // smallest
	Max    int            `json:"max"`    // and largest size had the policy alone decided
}

// Alerts are what people are told.
type Alerts struct {
	Instance string        `json:"instance"`
	TimeZone string        `json:"time_zone"`
	Alerts   []Alert       `json:"alerts"`   // critical first, then the newest
	Channels []tell.Status `json:"channels"` // as configured
}

// Alert is one notice that is the case, or ended within the last hour, and how far each channel has got with it.
type Alert struct {
	alert.Notice
	Told []tell.Telling `json:"told"`
	// Seen is who acknowledged it since it was raised; nil when nobody did.
	Seen *Acknowledgement `json:"acknowledged,omitempty"`
}

// Backend is what the API shows and does.
type Backend interface {
	Overview() Overview
	Events(ctx context.Context, q record.EventQuery) ([]fleet.Event, error)
	// Explain answers for a moment; the zero time is now. It returns control.ErrNoFleet for a fleet never heard of.
	Explain(ctx context.Context, name string, at time.Time) (*Explanation, error)
	Order(ctx context.Context, name string, o engine.Order) (*control.Status, error)
	// Annotate records a note about a fleet. It returns control.ErrNoFleet for one that is not configured.
	Annotate(ctx context.Context, name string, n Note) error
	Alerts() Alerts
	// TestAlerts sends a test message through each channel, and records who wanted it.
	TestAlerts(ctx context.Context, by Caller) ([]tell.Tried, error)
	// Acknowledge records that somebody has seen an alert. It returns ErrNoAlert for one that is not raised.
	Acknowledge(ctx context.Context, a Acknowledgement) error
	// Decisions lists what was decided for a fleet since a moment and before another, newest first; the zero times are the beginning and now.
	Decisions(ctx context.Context, name string, since, before time.Time, limit int) ([]fleet.Decision, error)
	// Series is one signal's history.
	Series(ctx context.Context, q record.SeriesQuery) ([]record.Point, error)
	// Policies is what is written about a fleet, beside what is in force. It returns control.ErrNoFleet for one that is not configured.
	Policies(name string) (*Policies, error)
	// WhatIf replays the last of a fleet's journal with other numbers in its policy, by the settings' paths, as they would be written.
	// Nothing is changed. A Problem says which number cannot stand there; the settings come beside it.
	WhatIf(ctx context.Context, name string, days int, numbers map[string]string) (*WhatIf, error)
	// Daemons are the other daemons of the configuration, as each was last heard.
	Daemons() []Daemon
	// Month reckons a month, such as 2027-03, as it stands; an empty name is the present one. A Problem says that there is none.
	Month(ctx context.Context, name string) (*month.Report, error)
	// Months are those that can be reckoned, newest first.
	Months(ctx context.Context) ([]string, error)
	// Reports lists the months that can be reckoned and the reports that are kept.
	Reports(ctx context.Context) (*Reports, error)
	// Kept is the page of a report that is kept. A Problem says that there is none.
	Kept(name string) ([]byte, error)
	// Healthy says why the loop is not: a fleet has not ticked for long, or the journal cannot be written.
	Healthy() error
	// Workers are those of a fleet's last tick, with what they take now.
	Workers(ctx context.Context, st *control.Status) []Worker
}

// Note is what somebody wants to be seen on a fleet's timeline: an annotation.
type Note struct {
	By   string `json:"by,omitempty"` // who is signed in, in any case
	Note string `json:"note"`
	// Origin is from where it came, for the record.
	Origin string `json:"-"`
}

// ErrNoAlert: nothing of that key is raised.
var ErrNoAlert = errors.New("no such alert is raised")

// Acknowledgement says that a person has seen an alert.
type Acknowledgement struct {
	Key  string    `json:"key"`          // of the alert
	By   string    `json:"by,omitempty"` // who is signed in, in any case
	Note string    `json:"note,omitempty"`
	At   time.Time `json:"at,omitzero"` // set by the daemon
	// Origin is from where it came, for the record.
	Origin string `json:"-"`
}

// Policies is what is written about one fleet, beside what is in force.
type Policies struct {
	Fleet     string  `json:"fleet"`
	File      string  `json:"file"`
	Written   string  `json:"written"`   // YAML as it stands in the file, secrets blotted out; empty where it has no lines of its own
	Effective string  `json:"effective"` // YAML with all defaults, and where each value comes from
	Budget    *Budget `json:"budget,omitempty"`
}

// WhatIf is what a fleet's policy would have decided with other numbers.
type WhatIf struct {
	Fleet    string           `json:"fleet"`
	Days     int              `json:"days"`
	Settings []Setting        `json:"settings"` // in the order of the file
	Replay   *backtest.Result `json:"replay,omitempty"`
	Note     string           `json:"note,omitempty"` // why there is no replay
}

// Setting is a number of the policy as it stands in the file.
type Setting struct {
	Path    string `json:"path"`
	Of      string `json:"of"` // what it is about: a rule, a cooldown
	Line    int    `json:"line"`
	Written string `json:"written"`
	Tried   string `json:"tried,omitempty"` // in its place; empty: as written
}

// Daemon is another daemon, as it was last heard. While it is away what it said last is of the past.
type Daemon struct {
	Name     string    `json:"name"` // of its instance; before it was heard, its address
	URL      string    `json:"url"`
	Asked    time.Time `json:"asked"`
	Heard    time.Time `json:"heard,omitzero"`      // zero: never since this daemon was started
	Away     time.Time `json:"away_since,omitzero"` // zero: it answers
	Err      string    `json:"error,omitempty"`     // why it does not
	Overview *Overview `json:"overview"`            // null: it was never heard
}

// Reports are the months that can be reckoned, and the pages that are kept in a folder: of months, load tests, simulations.
type Reports struct {
	Folder string   `json:"folder"`
	Months []string `json:"months"` // newest first
	Kept   []Kept   `json:"kept"`   // likewise
}

// Kept is a report that is kept.
type Kept struct {
	Name  string    `json:"name"` // of the file
	Title string    `json:"title"`
	Made  time.Time `json:"made"`
	Bytes int64     `json:"bytes"`
}

// Budget is what a worker costs, and what a month may.
type Budget struct {
	WorkerHour float64 `json:"worker_hour,omitempty"`
	Monthly    float64 `json:"monthly,omitempty"`
	Currency   string  `json:"currency"`
}

// Usage is what one worker takes and does; null is not known.
type Usage struct {
	CPU      *fleet.Duration `json:"cpu"`       // time since it was started
	Memory   *int64          `json:"memory"`    // bytes resident
	Requests *uint64         `json:"requests"`  // given to it by the built-in proxy
	InFlight *int            `json:"in_flight"` // of them, not answered yet
}

// Worker is a worker, and what it takes.
type Worker struct {
	fleet.Worker
	Usage
}

// OrderRequest is an operator's word as it is sent. For is how long a hold or a size lasts; nil means until released.
type OrderRequest struct {
	Kind engine.OrderKind `json:"kind"`
	Size int              `json:"size,omitempty"`
	Mode fleet.Mode       `json:"mode"`
	For  *fleet.Duration  `json:"for,omitempty"`
	By   string           `json:"by,omitempty"` // who is signed in, in any case
	Note string           `json:"note,omitempty"`
}

// Problem is an error as RFC 9457 has it.
type Problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

func (p *Problem) Error() string { return p.Detail }
