package main

import (
	"math"
	"time"

	"tidemark/internal/decide/engine"
)

// peer is another autoscaler as its documentation describes it: a setting gives a controller, which is asked every tick.
type peer struct {
	name     string
	settings []float64
	means    string
	start    func(setting float64, boot time.Duration) func(*engine.Input) int
}

var peers = []peer{
	{"fixed", nil, "workers", nil}, // its settings are those of the cell
	{"hpa-cpu", []float64{40, 50, 60, 70, 80, 90}, "target utilisation, percent", func(target float64, _ time.Duration) func(*engine.Input) int {
		return horizontal(func(in *engine.Input) float64 { return in.Readings[busy].Value / target }, true)
	}},
	{"keda-queue", []float64{0.4, 0.5, 0.6, 0.7, 0.8, 1}, "requests in flight, a worker", func(target float64, _ time.Duration) func(*engine.Input) int {
		return horizontal(func(in *engine.Input) float64 {
			return in.Readings[inFlight].Value / float64(in.Size.Workers()) / target
		}, false)
	}},
	{"aws-target", []float64{40, 50, 60, 70, 80, 90}, "target utilisation, percent", targetTracking},
	{"aws-step", []float64{40, 50, 60, 70, 80}, "alarm utilisation, percent", stepScaling},
	{"uwsgi-busyness", []float64{40, 50, 60, 70, 80}, "maximum busyness, percent", busyness},
}

// horizontal is the Kubernetes HPA (v2 defaults): desired = ceil(replicas x metric/target) within a tolerance of 0.1; on the way up at most
// the larger of 4 pods and 100 % in 15 s; on the way down the largest recommendation of 300 s. Of a resource metric, pods that are not
// ready count as 0 on the way up. bench/peers checks it against the real controller.
func horizontal(ratio func(*engine.Input) float64, perPod bool) func(*engine.Input) int {
	const window = int(300 * time.Second / tick)
	var recent []int
	return func(in *engine.Input) int {
		n, ready := in.Size.Workers(), in.Size.Serving
		r := ratio(in)
		want := n
		switch {
		case math.Abs(r-1) <= 0.1:
		case perPod && in.Size.Starting > 0 && r > 1:
			if again := r * float64(ready) / float64(n); again > 1.1 {
				want = int(math.Ceil(again * float64(n)))
			}
		case perPod:
			want = int(math.Ceil(r*float64(ready) - 1e-9))
		default:
			want = int(math.Ceil(r*float64(n) - 1e-9))
		}
		recent = append(recent, want)
		if len(recent) > window+1 {
			recent = recent[1:]
		}
		for _, was := range recent {
			want = max(want, min(was, n))
		}
		return max(min(want, max(n+4, 2*n)), 1)
	}
}

// minutes averages a reading of each tick over whole minutes, as an alarm's datapoints.
type minutes struct {
	sum    float64
	n      int
	points []float64 // the latest last
}

func (m *minutes) add(v float64) (whole bool) {
	m.sum += v
	m.n++
	if m.n < int(time.Minute/tick) {
		return false
	}
	m.points = append(m.points, m.sum/float64(m.n))
	if len(m.points) > 15 {
		m.points = m.points[1:]
	}
	m.sum, m.n = 0, 0
	return true
}

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
func targetTracking(target float64, _ time.Duration) func(*engine.Input) int {
	var m minutes
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
func stepScaling(threshold float64, _ time.Duration) func(*engine.Input) int {
	var m minutes
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
func busyness(highest float64, _ time.Duration) func(*engine.Input) int {
	sum, n, low := 0.0, 0, 0
	return func(in *engine.Input) int {
		size := in.Size.Workers()
		if in.Readings[queued].Value > 33 {
			return size + 1
		}
		sum += in.Readings[busy].Value
		if n++; n < 2 {
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

// fixed never moves.
func fixed(n int) func(*engine.Input) int { return func(*engine.Input) int { return n } }

// foreknown carries out a plan that was made for the very load: what serves in a tick was started a boot before it.
func foreknown(serves []int, start time.Time, step, boot time.Duration) func(*engine.Input) int {
	at := func(t time.Time) int {
		return serves[min(max(int(t.Sub(start)/step), 0), len(serves)-1)]
	}
	return func(in *engine.Input) int {
		n := at(in.Now)
		for ahead := time.Duration(0); ahead <= boot+tick; ahead += tick {
			n = max(n, at(in.Now.Add(ahead)))
		}
		return n
	}
}
