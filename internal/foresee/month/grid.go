package month

import (
	"context"
	"math"
	"slices"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/record"
)

const (
	fine   = 5 * time.Minute
	coarse = time.Hour
	// mostPoints lets the longest month be asked for in 5-minute steps.
	mostPoints = 9000
	// late is how many ticks of an interval may be missing and be taken as late: as decide/alert allows three ticks between two looks.
	late = 2
)

// grid is the month cut into intervals, aligned to UTC. The first and the last may reach beyond the month: weight is what of an
// interval lies in it.
type grid struct {
	from, until time.Time
	first       time.Time
	step        time.Duration
	n           int
}

func newGrid(from, until time.Time, step time.Duration) grid {
	first := from.Truncate(step)
	return grid{from, until, first, step, int((until.Sub(first) + step - 1) / step)}
}

func (g *grid) at(i int) time.Time { return g.first.Add(time.Duration(i) * g.step) }

// index is the interval that a time lies in; it may be outside of the grid.
func (g *grid) index(t time.Time) int {
	return int(math.Floor(float64(t.Sub(g.first)) / float64(g.step)))
}

// weight is how much of the interval lies within the month, and within from and to.
func (g *grid) weight(i int, from, to time.Time) time.Duration {
	a, b := g.at(i), g.at(i+1)
	for _, t := range []time.Time{g.from, from} {
		if t.After(a) {
			a = t
		}
	}
	for _, t := range []time.Time{g.until, to} {
		if t.Before(b) {
			b = t
		}
	}
	return max(b.Sub(a), 0)
}

func (g *grid) whole(i int) time.Duration { return g.weight(i, g.from, g.until) }

// cell is what one signal read in one interval.
type cell struct {
	n, missing     int
	min, max, mean float64 // NaN while n is 0
}

// add merges a point into the interval.
func (c *cell) add(p record.Point) {
	switch {
	case p.N == 0:
	case c.n == 0:
		c.min, c.max, c.mean = p.Min, p.Max, p.Mean
	default:
		c.min, c.max = min(c.min, p.Min), max(c.max, p.Max)
		c.mean += (p.Mean - c.mean) * float64(p.N) / float64(c.n+p.N)
	}
	c.n, c.missing = c.n+p.N, c.missing+p.Missing
}

// cells reads a signal's month.
func (g *grid) cells(ctx context.Context, j Journal, name, signal string) ([]cell, error) {
	points, err := j.Series(ctx, record.SeriesQuery{Fleet: name, Signal: signal, Since: g.from, Until: g.until, MaxPoints: mostPoints})
	if err != nil {
		return nil, err
	}
	out := make([]cell, g.n)
	for i := range out {
		out[i].min, out[i].max, out[i].mean = math.NaN(), math.NaN(), math.NaN()
	}
	for _, p := range points {
		if i := g.index(p.Time); i >= 0 && i < g.n {
			out[i].add(p)
		}
	}
	return out, nil
}

// stepOf is the length of the intervals that the journal's points allow.
func stepOf(points []record.Point) time.Duration {
	if record.StepOf(points) > fine {
		return coarse
	}
	return fine
}

// coverage is the share of each interval in which the fleet was looked at: the ticks of it against those of a usual interval.
func coverage(size []cell) []float64 {
	var counts []int
	for _, c := range size {
		if n := c.n + c.missing; n > 0 {
			counts = append(counts, n)
		}
	}
	slices.Sort(counts)
	out := make([]float64, len(size))
	if len(counts) == 0 {
		return out
	}
	usual := counts[len(counts)/2]
	for i, c := range size {
		switch n := c.n + c.missing; {
		case n >= usual-late && n > 0:
			out[i] = 1
		default:
			out[i] = float64(n) / float64(usual)
		}
	}
	return out
}

// stretch is a span of time.
type stretch struct{ from, to time.Time }

// lost are the stretches in which a signal was missing or stale.
func lost(ctx context.Context, j Journal, events []fleet.Event, name, signal string, from, until time.Time) (out []stretch, err error) {
	about := func(e *fleet.Event) bool {
		return e.Fleet == name && e.Signal == signal && (e.Kind == fleet.EventSignalLost || e.Kind == fleet.EventSignalBack)
	}
	before, err := j.Events(ctx, record.EventQuery{Fleet: name, Kinds: []fleet.Kind{fleet.EventSignalLost, fleet.EventSignalBack}, Until: from, Limit: page})
	if err != nil {
		return nil, err
	}
	var since time.Time
	if i := slices.IndexFunc(before, func(e fleet.Event) bool { return about(&e) }); i >= 0 && before[i].Kind == fleet.EventSignalLost {
		since = from
	}
	for i := range events {
		e := &events[i]
		switch {
		case !about(e):
		case e.Kind == fleet.EventSignalBack:
			if !since.IsZero() {
				out = append(out, stretch{since, e.Time})
			}
			since = time.Time{}
		case since.IsZero():
			since = e.Time.Add(-time.Duration(e.Duration)) // it is recorded when it has lasted
		}
	}
	if !since.IsZero() {
		out = append(out, stretch{since, until})
	}
	return out, nil
}

// touches reports whether an interval meets any of the stretches.
func (g *grid) touches(i int, those []stretch) bool {
	return slices.ContainsFunc(those, func(s stretch) bool { return g.weight(i, s.from, s.to) > 0 })
}
