package chart

import (
	"math"
	"strconv"
	"time"

	"tidemark/internal/fleet"
)

// extent is how far values reach.
type extent struct {
	low, high float64
	n         int
}

// add takes in a value, and returns false when it is missing.
func (e *extent) add(v float64) bool {
	if missing(v) {
		return false
	}
	if e.n == 0 {
		e.low, e.high = v, v
	}
	e.low, e.high, e.n = min(e.low, v), max(e.high, v), e.n+1
	return true
}

// axis is an Axis whose ends are known.
type axis struct {
	Axis
	low, high float64
	ticks     []tick
}

type tick struct {
	value float64
	label string
}

// place is where a value stands on the axis, 0..1; beyond the ends it stands at the end.
func (a *axis) place(v float64) float64 {
	if a.Scale == Percentile {
		return min(nines(v)/nines(a.high), 1)
	}
	return min(max((v-a.low)/(a.high-a.low), 0), 1)
}

// nines counts the nines of a quantile: 0.9 has 1, 0.99 has 2.
func nines(q float64) float64 { return -math.Log10(1 - min(max(q, 0), 0.9999999)) }

// pitch is the share of the axis between two neighbours.
func (a *axis) pitch(points []Point) float64 {
	least := a.high - a.low
	for i := 1; i < len(points); i++ {
		least = min(least, points[i].X-points[i-1].X)
	}
	if a.Scale == Named {
		least = 1
	}
	return least / (a.high - a.low)
}

func scaleX(of Axis, data extent, bars bool) axis {
	a := axis{Axis: of, low: of.Min, high: of.Max}
	if a.low == 0 && a.high == 0 {
		a.low, a.high = data.low, data.high
	}
	if a.Zone == nil {
		a.Zone = time.UTC
	}
	switch a.Scale {
	case Named:
		a.low, a.high = -0.5, float64(max(len(a.Names), 1))-0.5
		for i, n := range a.Names {
			a.ticks = append(a.ticks, tick{float64(i), n})
		}
	case Time:
		if a.high <= a.low {
			a.high = a.low + 60
		}
		a.ticks = timeTicks(a.low, a.high, a.Zone)
	case Percentile:
		a.low, a.high = 0, max(data.high, 0.99)
		for _, q := range []float64{0, 0.5, 0.9, 0.95, 0.99, 0.999, 0.9999, 0.99999} {
			if q <= a.high {
				a.ticks = append(a.ticks, tick{q, quantile(q)})
			}
		}
	case Linear:
		if bars {
			half := 0.5
			if data.n > 1 && data.high > data.low {
				half = (data.high - data.low) / float64(2*max(data.n-1, 1))
			}
			a.low, a.high = a.low-half, a.high+half
		}
		if a.high <= a.low {
			a.high = a.low + 1
		}
		step := nice((a.high-a.low)/8, a.Unit)
		a.every(step)
	}
	return a
}

func scaleY(of Axis, data extent) axis {
	a := axis{Axis: of, low: of.Min, high: of.Max}
	fixed := a.low != 0 || a.high != 0
	if !fixed {
		a.low, a.high = min(data.low, 0), max(data.high, 0)
	}
	if a.high <= a.low {
		a.high = a.low + 1
	}
	step := nice((a.high-a.low)/4, a.Unit)
	if !fixed {
		a.low, a.high = math.Floor(a.low/step+1e-9)*step, math.Ceil(a.high/step-1e-9)*step
	}
	a.every(step)
	return a
}

// every sets a tick at each multiple of step.
func (a *axis) every(step float64) {
	for i := math.Ceil(a.low/step - 1e-9); i*step <= a.high+step/1e6; i++ {
		v := i*step + 0 // no -0
		a.ticks = append(a.ticks, tick{v, a.format(v)})
	}
}

// nice is the smallest round step that is at least as large: 1, 2 or 5 times a power of ten; of bytes a power of two, of longer times
// a part of an hour.
func nice(least float64, unit fleet.Unit) float64 {
	if unit == fleet.Seconds && least > 10 {
		for _, s := range []float64{15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400} {
			if s >= least {
				return s
			}
		}
	}
	if unit == fleet.Bytes && least > 1 {
		return math.Exp2(math.Ceil(math.Log2(least) - 1e-9))
	}
	power := math.Pow(10, math.Floor(math.Log10(least)))
	for _, m := range []float64{1, 2, 5} {
		if m*power >= least*(1-1e-9) {
			return m * power
		}
	}
	return 10 * power
}

// format writes a value with its unit.
func (a *axis) format(v float64) string {
	if v == 0 && a.Unit == fleet.Seconds {
		return "0"
	}
	if a.Scale == Named && v >= 0 && int(v) < len(a.Names) {
		return a.Names[int(v)]
	}
	if a.Unit == fleet.Number {
		if math.Abs(v) >= 1000 && math.Abs(v) < 1e9 {
			return strconv.FormatFloat(v, 'f', 0, 64) + a.Per
		}
		return strconv.FormatFloat(v, 'g', 4, 64) + a.Per
	}
	return a.Unit.Format(v) + a.Per
}

// tell writes a place of the axis in full: a time in its zone and in UTC.
func (a *axis) tell(v float64) string {
	switch a.Scale {
	case Time:
		t := time.Unix(0, int64(v*1e9)).In(a.Zone)
		if _, offset := t.Zone(); offset == 0 {
			return t.Format("Mon 2006-01-02 15:04:05 MST")
		}
		return t.Format("Mon 2006-01-02 15:04:05 -07:00") + " (" + t.UTC().Format("2006-01-02 15:04:05") + " UTC)"
	case Percentile:
		return quantile(v)
	case Named, Linear:
	}
	return a.format(v)
}

// quantile writes 0.995 as p99.5.
func quantile(q float64) string { return "p" + strconv.FormatFloat(math.Round(q*1e7)/1e5, 'f', -1, 64) }

// timeSteps are the distances between ticks of times, and how they are written.
var timeSteps = []struct {
	step   time.Duration
	layout string
}{
	{time.Second, "15:04:05"}, {5 * time.Second, "15:04:05"}, {15 * time.Second, "15:04:05"}, {30 * time.Second, "15:04:05"},
	{time.Minute, "15:04"}, {2 * time.Minute, "15:04"}, {5 * time.Minute, "15:04"}, {10 * time.Minute, "15:04"}, {15 * time.Minute, "15:04"}, {30 * time.Minute, "15:04"},
	{time.Hour, "15:04"}, {2 * time.Hour, "15:04"}, {3 * time.Hour, "15:04"}, {6 * time.Hour, "15:04"}, {12 * time.Hour, "15:04"},
	{day, "Mon 2"}, {2 * day, "2 Jan"}, {7 * day, "2 Jan"}, {14 * day, "2 Jan"},
}

const (
	day     = 24 * time.Hour
	maxTick = 8
)

// timeTicks are round times of the wall clock in the zone: what is a day or longer begins at midnight, months on their first.
func timeTicks(low, high float64, zone *time.Location) (ticks []tick) {
	from, to := time.Unix(0, int64(low*1e9)).In(zone), time.Unix(0, int64(high*1e9)).In(zone)
	add := func(t time.Time, layout string) {
		if !t.Before(from) && !t.After(to) {
			ticks = append(ticks, tick{At(t), t.Format(layout)})
		}
	}
	for _, s := range timeSteps {
		if to.Sub(from) > maxTick*s.step {
			continue
		}
		y, m, d := from.Date()
		for ; ; d++ {
			midnight := time.Date(y, m, d, 0, 0, 0, 0, zone)
			if midnight.After(to) {
				return ticks
			}
			if s.step >= day {
				// Days are counted since 1970, so that the same days are named whatever the chart's start.
				if n := time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Unix() / 86400; (n+3)%int64(s.step/day) == 0 {
					add(midnight, s.layout)
				}
				continue
			}
			for at := time.Duration(0); at < day; at += s.step {
				t := time.Date(y, m, d, 0, 0, int(at/time.Second), 0, zone)
				if t.After(to) {
					break
				}
				if at == 0 && s.step >= time.Minute {
					add(t, "Mon 2 Jan")
				} else {
					add(t, s.layout)
				}
			}
		}
	}
	months := int(to.Sub(from)/(30*day))/maxTick + 1
	for _, n := range []int{1, 2, 3, 6, 12} {
		if n >= months {
			months = n
			break
		}
	}
	layout := "Jan 2006"
	if months%12 == 0 || months > 12 {
		months, layout = (months+11)/12*12, "2006"
	}
	for y, m := from.Year(), 1; ; m += months {
		t := time.Date(y, time.Month(m), 1, 0, 0, 0, 0, zone)
		if t.After(to) {
			return ticks
		}
		add(t, layout)
	}
}

// Percentiles are the points of a curve of percentiles: value gives the quantile's value. n is how many values there are; beyond what they
// can tell nothing is drawn.
func Percentiles(n uint64, value func(q float64) float64) (points []Point) {
	if n == 0 {
		return nil
	}
	furthest := min(math.Log10(float64(n)), 5)
	for i := 0; i <= 60; i++ {
		q := 1 - math.Pow(10, -furthest*float64(i)/60)
		points = append(points, Point{q, value(q)})
	}
	return points
}

// Times makes points of values at regular times.
func Times(start time.Time, step time.Duration, values []float64) []Point {
	points := make([]Point, len(values))
	for i, v := range values {
		points[i] = Point{At(start.Add(time.Duration(i) * step)), v}
	}
	return points
}
