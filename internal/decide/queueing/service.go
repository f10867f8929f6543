package queueing

import (
	"math"

	"tidemark/internal/decide/signal"
)

// Service is a distribution of service times, made ready for prediction: cells between quantiles, finer towards the tail,
// where objectives lie. Within a cell the times are taken as evenly spread. The zero value is unknown.
type Service struct {
	mean, scv float64
	samples   uint64
	edge      [cells + 1]float64
}

const cells = 34

// share[k] is the probability of cell k, and beyond[k] that of all cells from k on.
var share, beyond = grid()

// grid divides 0..1 into five tenths, then thirds of octaves of 1-q down to 1/128, then whole ones down to 2^-17.
func grid() (share [cells]float64, beyond [cells + 1]float64) {
	for k := range cells {
		switch {
		case k <= 5:
			beyond[k] = 1 - float64(k)/10
		case k <= 23:
			beyond[k] = math.Exp2(-1 - float64(k-5)/3)
		default:
			beyond[k] = math.Exp2(-7 - float64(k-23))
		}
	}
	for k := range share {
		share[k] = beyond[k] - beyond[k+1]
	}
	return share, beyond
}

// Measure takes over a measured distribution, in seconds: pure service, without the wait. It costs one Quantile for each cell,
// so call it when the histogram has changed.
func (s *Service) Measure(h *signal.Histogram) {
	s.Assume(h.Quantile, h.Mean())
	s.samples = h.Count()
}

// Assume takes over a distribution that is known by its quantiles (0..1; not decreasing) and mean, in seconds, as if it had
// been measured without end. What is no distribution of positive finite times leaves s unknown.
func (s *Service) Assume(quantile func(float64) float64, mean float64) {
	*s = Service{mean: mean, samples: math.MaxUint64}
	for k := range s.edge {
		s.edge[k] = quantile(edgeShare(k))
	}
	first, square := 0.0, 0.0
	for k, w := range share {
		lo, hi := s.edge[k], s.edge[k+1]
		first += w * (lo + hi) / 2
		square += w * (lo*lo + lo*hi + hi*hi) / 3
	}
	s.scv = max(square/(first*first)-1, 0)
	if !(mean > 0) || !finite(mean) || !(first > 0) || !finite(square) || !finite(s.scv) {
		*s = Service{}
	}
}

// Known reports whether there is a distribution.
func (s *Service) Known() bool { return s.samples > 0 }

// Mean is the mean service time; 0 while unknown.
func (s *Service) Mean() float64 { return s.mean }

// SCV is the squared coefficient of variation: 0 when every request takes the same time, 1 when the times are exponential.
func (s *Service) SCV() float64 { return s.scv }

// Samples is the number of requests it was measured from.
func (s *Service) Samples() uint64 { return s.samples }

// Quantile is the service time within which the share q of the requests (0 < q < 1) is done; NaN while unknown.
func (s *Service) Quantile(q float64) float64 {
	if !s.Known() || !(q > 0 && q < 1) {
		return math.NaN()
	}
	k := 0
	for k < cells-1 && beyond[k+1] > 1-q {
		k++
	}
	return s.edge[k] + min((beyond[k]-(1-q))/share[k], 1)*(s.edge[k+1]-s.edge[k])
}

// tail is the share of the service times that are longer than t, for t >= 0.
func (s *Service) tail(t float64) float64 {
	if t < s.edge[0] {
		return 1
	}
	for k, w := range share {
		if start, end := s.edge[k], s.edge[k+1]; t < end {
			return beyond[k] - w*((t-start)/(end-start))
		}
	}
	return 0
}

// response is the service time plus a wait that is 0 with probability 1-delay and otherwise exponential with the given decay (1/s). It walks the
// cells once: at the edge of a cell, waiting is E[exp(-decay(edge-B)); B <= edge], so that the share of requests that are not done by then is
// P(B > edge) + delay x waiting.
type response struct {
	of           *Service
	delay, decay float64
	waiting      [cells + 1]float64 // by edge, as far as it was walked
	walked       int
}

// at is waiting at edge k.
func (r *response) at(k int) float64 {
	for i := r.walked; i < k; i++ {
		fall, spread := decline(r.decay * (r.of.edge[i+1] - r.of.edge[i]))
		r.waiting[i+1] = r.waiting[i]*fall + share[i]*spread
	}
	r.walked = max(r.walked, k)
	return r.waiting[k]
}

// left is the share that is not done so many seconds into cell k.
func (r *response) left(k int, into float64) float64 {
	x := into / (r.of.edge[k+1] - r.of.edge[k])
	fall, spread := decline(r.decay * into)
	return beyond[k] - share[k]*x + r.delay*(r.at(k)*fall+share[k]*x*spread)
}

// quantile is the time within which the share q (0 < q < 1) of the requests is done.
func (r *response) quantile(q float64) float64 {
	late := 1 - q
	for k := range share {
		if beyond[k+1]+r.delay*r.at(k+1) <= late {
			return r.within(k, late)
		}
	}
	return r.of.edge[cells] + math.Log(r.delay*r.at(cells)/late)/r.decay
}

// overrun is the share that takes longer than t, for t >= 0.
func (r *response) overrun(t float64) float64 {
	if t < r.of.edge[0] {
		return 1
	}
	for k := range share {
		if start, end := r.of.edge[k], r.of.edge[k+1]; t < end {
			return r.left(k, t-start)
		}
	}
	return r.delay * r.at(cells) * math.Exp(-r.decay*(t-r.of.edge[cells]))
}

// within finds the time in cell k, to 1/4096 of it, by which no more than the share late is not done: by false position, and where that is slow by bisection.
func (r *response) within(k int, late float64) float64 {
	const parts = 4096
	start, width := r.of.edge[k], r.of.edge[k+1]-r.of.edge[k]
	if !(width > 0) {
		return start
	}
	low, high := 0, parts
	above, below := beyond[k]+r.delay*r.at(k)-late, beyond[k+1]+r.delay*r.at(k+1)-late
	for tries := 0; high-low > 1; tries++ {
		mid := (low + high) / 2
		if tries < 4 {
			mid = min(max(low+int(float64(high-low)*above/(above-below)), low+1), high-1)
		}
		if off := r.left(k, float64(mid)/parts*width) - late; off <= 0 {
			high, below = mid, off
		} else {
			low, above = mid, off
		}
	}
	return start + float64(high)/parts*width
}

// decline is exp(-x), and its mean over 0..x.
func decline(x float64) (fall, mean float64) {
	if x < 1e-6 {
		return 1 - x, 1 - x/2
	}
	fall = math.Exp(-x)
	return fall, (1 - fall) / x
}
