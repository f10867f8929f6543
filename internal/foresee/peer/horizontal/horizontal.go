// Package horizontal is a model of the Kubernetes HPA (autoscaling/v2 with its defaults), fast enough to be tried in every condition. It imports
// nothing of the house, so that bench/peers, a module of its own, can hold it against the real controller.
package horizontal

import "math"

// Sync is how often the HPA is to be asked, in seconds, as the real one's --horizontal-pod-autoscaler-sync-period.
const Sync = 15

// HPA is one autoscaler.
type HPA struct {
	recent []int // recommendations of the stabilisation window
}

const window = 300 / Sync

// Pods sizes for a resource metric: ratio is the mean of the ready pods over its target. Pods that are not ready count as idle on the way up.
func (h *HPA) Pods(n, ready int, ratio float64) int {
	want := n
	switch {
	case ready == 0 || math.Abs(ratio-1) <= 0.1:
	case ready < n && ratio > 1:
		if again := ratio * float64(ready) / float64(n); again > 1.1 {
			want = int(math.Ceil(again*float64(n) - 1e-9))
		}
	default:
		want = int(math.Ceil(ratio*float64(ready) - 1e-9))
	}
	return h.stabilise(n, want)
}

// Total sizes for an external metric with an average value: ratio is its total over (n x target).
func (h *HPA) Total(n int, ratio float64) int {
	want := n
	if math.Abs(ratio-1) > 0.1 {
		want = int(math.Ceil(ratio*float64(n) - 1e-9))
	}
	return h.stabilise(n, want)
}

// stabilise keeps the largest recommendation of 300 s on the way down, and adds at most the larger of 4 pods and 100 % in 15 s on the way up.
func (h *HPA) stabilise(n, want int) int {
	h.recent = append(h.recent, want)
	if len(h.recent) > window+1 {
		h.recent = h.recent[1:]
	}
	if want < n {
		for _, was := range h.recent {
			want = max(want, min(was, n))
		}
	}
	return max(min(want, max(n+4, 2*n)), 1)
}
