package peer

import (
	"math"
	"time"

	"tidemark/internal/decide/engine"
)

// minutes averages a reading of each tick over whole minutes, as an alarm's datapoints.
type minutes struct {
	each   int // ticks a minute
	sum    float64
	n      int
	points []float64 // the latest last
}

func (m *minutes) add(v float64) (whole bool) {
	m.sum += v
	m.n++
	if m.n < m.each {
		return false
	}
	m.points = append(m.points, m.sum/float64(m.n))
	if len(m.points) > 15 {
		m.points = m.points[1:]
	}
	m.sum, m.n = 0, 0
	return true
}

func newMinutes(tick time.Duration) minutes { return minutes{each: max(int(time.Minute/tick), 1)} }

// all reports whether the latest n points are on one side of a threshold.
func (m *minutes) all(n int, on func(float64) bool) bool {
	if len(m.points) < n {
		return false
	}
	for _, p := range m.points[len(m.points)-n:] {
		if !on(p) {
			return false
		}
	}
	return true
}

// targetTracking is AWS's: 3 minutes above the target scale out in proportion, 15 minutes below 90 % of it scale in, not while instances warm up.
func targetTracking(target float64, tick time.Duration) Controller {
	m := newMinutes(tick)
	return func(in *engine.Input) int {
		n := in.Size.Workers()
		if !m.add(in.Readings[busy].Value) {
			return n
		}
		want := int(math.Ceil(float64(in.Size.Serving) * m.points[len(m.points)-1] / target))
		switch {
		case m.all(3, func(v float64) bool { return v > target }):
			return max(n, want)
		case in.Size.Starting == 0 && m.all(15, func(v float64) bool { return v < 0.9*target }):
			return max(min(n, want), 1)
		}
		return n
	}
}

// stepScaling is AWS's, with the steps that its documentation gives as an example: 10 % more from the alarm's threshold, 30 % more from 10 points above it;
// 10 % fewer 20 points below it and 30 % fewer 30 points below. Instances that warm up count as part of what a step asks for.
func stepScaling(threshold float64, tick time.Duration) Controller {
	m := newMinutes(tick)
	return func(in *engine.Input) int {
		n, serving := in.Size.Workers(), float64(in.Size.Serving)
		if !m.add(in.Readings[busy].Value) {
			return n
		}
		v := m.points[len(m.points)-1]
		switch {
		case m.all(2, func(v float64) bool { return v > threshold }):
			share := 0.1
			if v > threshold+10 {
				share = 0.3
			}
			return max(n, int(serving+max(1, math.Floor(serving*share))))
		case in.Size.Starting == 0 && m.all(15, func(v float64) bool { return v < threshold-20 }):
			share := 0.1
			if v < threshold-30 {
				share = 0.3
			}
			m.points = m.points[:0]
			return max(1, n-int(max(1, math.Floor(serving*share))))
		}
		return n
	}
}

// busyness is uWSGI's cheaper algorithm of that name: every 30 s, above the maximum busyness one more, below half of it for 10 such cycles one fewer;
// with a backlog of more than 33 requests one more at once.
func busyness(highest float64, tick time.Duration) Controller {
	sum, n, low, cycle := 0.0, 0, 0, max(int(30*time.Second/tick), 1)
	return func(in *engine.Input) int {
		size := in.Size.Workers()
		if in.Readings[queued].Value > 33 {
			return size + 1
		}
		sum += in.Readings[busy].Value
		if n++; n < cycle {
			return size
		}
		mean := sum / float64(n)
		sum, n = 0, 0
		switch {
		case mean > highest:
			low = 0
			return size + 1
		case mean < highest/2:
			if low++; low >= 10 {
				low = 0
				return max(size-1, 1)
			}
		default:
			low = 0
		}
		return size
	}
}
