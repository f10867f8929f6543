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

// response is the q quantile (0 < q < 1) of the service time plus a wait that is 0 with probability 1-delay and otherwise
// exponential with the given decay (1/s). It walks the cells once: at the edge of a cell, waiting is
// E[exp(-decay(edge-B)); B <= edge], so that the share of requests that are not done by then is P(B > edge) + delay x waiting.
func (s *Service) response(q, delay, decay float64) float64 {
	late := 1 - q
	waiting := 0.0
	for k, w := range share {
		fall, spread := decline(decay * (s.edge[k+1] - s.edge[k]))
		next := waiting*fall + w*spread
		if beyond[k+1]+delay*next <= late {
			return s.within(k, late, delay, decay, waiting)
		}
		waiting = next
	}
	return s.edge[cells] + math.Log(delay*waiting/late)/decay
}

// overrun is the share of such responses that take longer than t, for t >= 0.
func (s *Service) overrun(t, delay, decay float64) float64 {
	waiting := 0.0
	for k, w := range share {
		start, end := s.edge[k], s.edge[k+1]
		switch {
		case t < start: // only before the first cell
			return 1
		case t < end:
			x := (t - start) / (end - start)
			fall, spread := decline(decay * (t - start))
			return beyond[k] - w*x + delay*(waiting*fall+w*x*spread)
		}
		fall, spread := decline(decay * (end - start))
		waiting = waiting*fall + w*spread
	}
	return delay * waiting * math.Exp(-decay*(t-s.edge[cells]))
}

// within finds, by bisection, the time in cell k by which no more than the share late is not done.
func (s *Service) within(k int, late, delay, decay, waiting float64) float64 {
	start, width := s.edge[k], s.edge[k+1]-s.edge[k]
	if !(width > 0) {
		return start
	}
	low, high := 0.0, 1.0
	for range 12 {
		x := (low + high) / 2
		fall, spread := decline(decay * width * x)
		if beyond[k]-share[k]*x+delay*(waiting*fall+share[k]*x*spread) <= late {
			high = x
		} else {
			low = x
		}
	}
	return start + high*width
}

// decline is exp(-x), and its mean over 0..x.
func decline(x float64) (fall, mean float64) {
	if x < 1e-6 {
		return 1 - x, 1 - x/2
	}
	fall = math.Exp(-x)
	return fall, (1 - fall) / x
}
