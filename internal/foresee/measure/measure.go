// Package measure says how well a fleet was kept: what it cost, how often it missed its objective, how restless it was, and how far its size
// lay from what was needed, in the terms of the elasticity literature. It takes figures, wherever they come from, and decides nothing.
package measure

import (
	"math"
	"time"
)

// Tick is one stretch of a run, in which the size did not change.
type Tick struct {
	For    time.Duration
	Billed int // workers that are paid for: from the start of their boot to the end of their drain
	Serves int // workers that serve
	Needed int // the smallest number that meets the objective at the true load
	// P95 is the objective's quantile over its trailing window at the end of the tick, in seconds; NaN where too few requests came to say.
	P95   float64
	Moved bool // a decision at the end of the tick changed the size
}

// Score is what a run came to.
type Score struct {
	Duration    time.Duration
	WorkerHours float64
	// Minutes are those that could be judged: with enough requests in the trailing window. Violations are those of them that missed the
	// objective, Longest the longest unbroken run of these.
	Minutes, Violations, Longest int
	Actions                      int
	Elasticity
}

// ViolationShare is the share of the judged minutes that missed the objective, in percent.
func (s *Score) ViolationShare() float64 {
	return 100 * float64(s.Violations) / float64(max(s.Minutes, 1))
}

// ActionsADay is how often the size was changed.
func (s *Score) ActionsADay() float64 {
	if s.Duration <= 0 {
		return 0
	}
	return float64(s.Actions) / s.Duration.Hours() * 24
}

// Elasticity are the metrics of Herbst, Kounev and Reussner ("Elasticity in cloud computing: what it is, and what it is not", ICAC 2013), as
// the SPEC research group normalises them; d are the workers needed, s those that serve, T is the duration.
type Elasticity struct {
	UnderAccuracy  float64 // theta_U = 100/T sum (d-s)+/d dt: by how much there were too few, in percent of the need
	OverAccuracy   float64 // theta_O = 100/T sum (s-d)+/d dt
	UnderTimeshare float64 // tau_U = 100/T sum [s<d] dt: for how long there were too few, in percent of the time
	OverTimeshare  float64 // tau_O = 100/T sum [s>d] dt
	// Instability is upsilon = 100/(T-t1) sum min(|sgn(change of s) - sgn(change of d)|, 1) dt: the share of the time in which supply and need
	// did not move the same way.
	Instability float64
	// Jitter is (changes of s - changes of d) an hour (Ilyushkin et al., ICPE 2017): above 0 the fleet moves more often than what it follows.
	Jitter float64
}

// Meter sums a run up, tick by tick. Set Limit and it is ready.
type Meter struct {
	Limit float64 // seconds that P95 may not exceed

	sum          Score // its Elasticity in seconds
	before       Tick
	first        time.Duration
	minute       time.Duration // since the last whole one
	run          int           // of violations, up to now
	supply, need int           // changes
}

// Add takes in the next tick.
func (m *Meter) Add(t Tick) {
	s, dt := &m.sum, t.For.Seconds()
	if s.Duration == 0 {
		m.first, m.before = t.For, t
	} else {
		moved, asked := sign(t.Serves-m.before.Serves), sign(t.Needed-m.before.Needed)
		if moved != asked {
			s.Instability += dt
		}
		m.supply += moved * moved
		m.need += asked * asked
	}
	s.Duration += t.For
	s.WorkerHours += float64(t.Billed) * dt / 3600
	if t.Moved {
		s.Actions++
	}
	switch share := float64(t.Serves-t.Needed) / float64(max(t.Needed, 1)); {
	case share < 0:
		s.UnderAccuracy -= share * dt
		s.UnderTimeshare += dt
	case share > 0:
		s.OverAccuracy += share * dt
		s.OverTimeshare += dt
	}
	m.before = t
	for m.minute += t.For; m.minute >= time.Minute; m.minute -= time.Minute {
		m.judge(t.P95)
	}
}

func (m *Meter) judge(p95 float64) {
	s := &m.sum
	if math.IsNaN(p95) {
		m.run = 0
		return
	}
	s.Minutes++
	if p95 <= m.Limit {
		m.run = 0
		return
	}
	s.Violations++
	m.run++
	s.Longest = max(s.Longest, m.run)
}

// Score is what the ticks came to so far.
func (m *Meter) Score() Score {
	s := m.sum
	whole := s.Duration.Seconds()
	if whole <= 0 {
		return s
	}
	for _, v := range []*float64{&s.UnderAccuracy, &s.OverAccuracy, &s.UnderTimeshare, &s.OverTimeshare} {
		*v *= 100 / whole
	}
	if after := whole - m.first.Seconds(); after > 0 {
		s.Instability *= 100 / after
	}
	s.Jitter = float64(m.supply-m.need) / s.Duration.Hours()
	return s
}

func sign(n int) int { return max(min(n, 1), -1) }
