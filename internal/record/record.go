// Package record holds the words of the journal: what one tick of one fleet leaves behind, and how it is asked for again.
// The packages below it keep it in a store: sqlite (embedded), postgres (shared by several daemons), which have their tables in common.
package record

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/lead"
)

// Tick is what one tick of one fleet leaves behind. It is stored whole or not at all.
type Tick struct {
	Fleet    string
	Time     time.Time
	State    []byte // the engine's state after the tick, to start from after a restart
	Readings []Sample
	Size     fleet.Size
	Decision *fleet.Decision // nil when it says the same as the last one stored
	Events   []fleet.Event   // IDs are given by the journal
}

// ErrDeposed: another daemon leads, or this one's memory is no longer what is recorded. Nothing can be written any more.
var ErrDeposed = fmt.Errorf("journal: %w", lead.ErrDeposed)

// Sample is one signal's reading.
type Sample struct {
	Signal  string
	Reading fleet.Reading
}

// EventQuery selects events, newest first unless After is set. Zero fields select everything.
type EventQuery struct {
	Fleet        string
	Kinds        []fleet.Kind
	Since, Until time.Time
	After        int64 // events with a higher ID, oldest first: for following
	Before       int64 // events with a lower ID: for paging back; 0 does not bound
	Limit        int   // 0: 100
}

// Point is one step of a series: a raw reading (N == 1) or a roll-up of N fresh ones.
type Point struct {
	Time           time.Time
	N              int
	Min, Max, Mean float64
	Missing        int // readings in this step that were not fresh
}

// SeriesQuery selects one signal's history. The journal answers with the finest step that it still keeps for Since and
// that gives at most MaxPoints.
type SeriesQuery struct {
	Fleet, Signal string
	Since, Until  time.Time
	MaxPoints     int // 0: 1000
}

// SizeSignal is the name under which a fleet's size (starting and serving workers) is kept as a series.
const SizeSignal = "tidemark.workers"

// PolicySignal is the name under which the size that one policy alone would have led to is kept as a series, for policies that
// ask for a size of their own.
func PolicySignal(id string) string { return "policy:" + id }

// ForecastSignal is the name under which a policy's forecast is kept as a series: at each tick, what it expects a lead time later. bound
// is low, median or high.
func ForecastSignal(id, bound string) string { return "forecast:" + id + ":" + bound }

// Reckoned reports whether a series is none of the readings: the size, or what a policy reckons.
func Reckoned(signal string) bool {
	return signal == SizeSignal || strings.HasPrefix(signal, "policy:") || strings.HasPrefix(signal, "forecast:")
}

// Retention bounds what is kept. Zero fields take the default.
type Retention struct {
	Raw       time.Duration // raw readings; 7 days
	Minutes   time.Duration // roll-ups of 5 minutes; 90 days
	Hours     time.Duration // roll-ups of an hour; 5 years
	Decisions time.Duration // decisions and events; 400 days
	MaxBytes  int64         // the store's size; 2 GiB: the oldest raw readings go first
}

// StepOf is the time that a point of a series stands for: the median of the time between two. Ticks out of turn are shorter, and
// gaps longer.
func StepOf(points []Point) time.Duration {
	if len(points) < 2 {
		return 0
	}
	gaps := make([]time.Duration, len(points)-1)
	for i := range gaps {
		gaps[i] = points[i+1].Time.Sub(points[i].Time)
	}
	slices.Sort(gaps)
	return gaps[len(gaps)/2]
}
