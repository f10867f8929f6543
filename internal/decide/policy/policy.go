// Package policy holds what an operator wrote, typed, complete and checked: signals, rules, safeguards. It decides
// nothing; decide/engine does.
package policy

import (
	"slices"
	"time"

	"tidemark/internal/decide/schedule"
	"tidemark/internal/fleet"
)

// Fleet is everything that the engine needs to know about one fleet.
type Fleet struct {
	Name     string
	Mode     fleet.Mode
	Bounds   fleet.Bounds
	Signals  []Signal
	Policies []Policy
	Safeguards
}

// Statistic is how the readings of one period become one datapoint.
type Statistic uint8

const (
	Avg Statistic = iota
	Max
	Min
	Sum
	Last
	Quantile // with Signal.Q; never averaged
)

// Signal is a named time series of a fleet.
type Signal struct {
	Name      string
	Unit      fleet.Unit
	Statistic Statistic
	Q         float64 // 0..1, for Quantile
	// FromSource: the source itself keeps the distribution and its reading already is the statistic over Window; a
	// period's datapoint is then the last reading in it.
	FromSource bool
	Period     time.Duration // of one datapoint; default 60 s
	Window     time.Duration // of the statistic; default Period
	MinSamples int           // below it a reading is sparse; default 1
	// PerWorker: the value rises as workers leave (CPU share, latency), so it is projected by n/k before a scale-in. Totals
	// (queue length, sessions) are not.
	PerWorker bool
	// Optional: the fleet may scale in while this signal is missing.
	Optional bool
}

// Policy is the rules, or the model, of one purpose.
type Policy struct {
	ID    string
	Mode  fleet.Mode // On, Shadow (it is evaluated and recorded only) or Off
	Rules []Rule
	SLO   *SLO // nil: none
	// Forecast: nil: none. A policy has rules, or one of the two.
	Forecast *Forecast
}

// Signals lists the signals that the objective looks at.
func (o *SLO) Signals() []int {
	all := append([]int{o.Objective, o.Rate}, o.Service...)
	for _, i := range []int{o.Busy, o.Backlog} {
		if i >= 0 {
			all = append(all, i)
		}
	}
	return all
}

// Uses reports whether the objective looks at signal i.
func (o *SLO) Uses(i int) bool {
	return i == o.Objective || i == o.Rate || i == o.Busy || i == o.Backlog || slices.Contains(o.Service, i)
}

// Forecast adds workers ahead of what the same time of the week was like (decide/forecast). It never removes any.
type Forecast struct {
	Signal    int     // index into Fleet.Signals: a total, such as arrivals per second
	PerWorker float64 // of the signal, that one worker carries; 0: SizedBy says
	SizedBy   int     // index into Fleet.Policies: an objective, whose model sizes for the rate that is expected
	Lead      time.Duration
	MinWeeks  int // that the time of the week must have been measured in
}

// SLO sizes the fleet so that a latency objective holds, by the mathematics of a worker pool (decide/queueing).
type SLO struct {
	Objective int     // index into Fleet.Signals: the latency, whose quantile is the objective's
	Within    float64 // seconds that it may not exceed
	Rate      int     // index: arrivals per second
	Service   []int   // indexes: quantiles of the service time alone, without waiting, rising; two at least, or none
	Busy      int     // index: workers that are busy, from which the mean service time follows; -1: Service says
	Backlog   int     // index: requests that wait for a worker now; -1: not measured
	Drain     time.Duration
	Boot      time.Duration // from a decision to a new worker serving, as long as none has been timed
	Settle    time.Duration // it scales in to the largest need within it and a boot, and not before it has been watched for as long
	// Contention and Coherence are queueing.Law's; both 0: workers share nothing.
	Contention, Coherence float64
}

// Missing says what fills in for datapoints that are not there, as in CloudWatch.
type Missing uint8

const (
	MissingMissing Missing = iota // "missing": nothing; all missing gives insufficient data
	MissingIgnore                 // "ignore": the alarm keeps its state
	MissingBreaching
	MissingNotBreaching
)

// Rule proposes a change of size while its alarm is raised.
type Rule struct {
	Signal    int // index into Fleet.Signals
	Operator  fleet.Operator
	Threshold float64 // in the signal's unit
	Change    int     // workers: above 0 scales out, below 0 scales in; never 0
	N         int     // evaluation_periods
	M         int     // datapoints_to_alarm, 1..N
	Missing   Missing
}

// Out reports whether the rule scales out.
func (r Rule) Out() bool { return r.Change > 0 }

// Safeguards limit what proposals may do. Zero durations and counts do not limit.
type Safeguards struct {
	Pace                      // of the rules
	Modelled    *Pace         // of what an objective or a forecast asks for; nil: that of the rules
	ActionLimit time.Duration // an action that has not reached its size by then has failed
	Freezes     []Freeze
	Schedule    *schedule.Schedule // narrows the bounds by local time; nil: never
	Guards      []Guard
	Supplies    []Supply
}

// Pace is how far and how often the size may change.
type Pace struct {
	CooldownUp   time.Duration // no scale-up within it after a scale-up
	CooldownDown time.Duration // no scale-down within it after any change
	StepUp       int           // most workers added by one decision
	StepDown     int           // most workers removed by one decision
	RateCount    int           // most scalings within RateWindow
	RateWindow   time.Duration
}

// PaceOf is that of the rules, or of a model.
func (s *Safeguards) PaceOf(modelled bool) Pace {
	if modelled && s.Modelled != nil {
		return *s.Modelled
	}
	return s.Pace
}

// Freeze is a window in which the size is left alone.
type Freeze struct {
	Name     string
	From, To time.Time // From inclusive, To exclusive
}

// Range is the number of latest datapoints that a rule looks at: more than N, so that real datapoints that come
// before a gap are used first. CloudWatch keeps its own figure to itself; its documentation shows 5 for N = 3.
func (r Rule) Range() int { return r.N + 2 }
