package queueing

import "math"

// Quantile is a measured point of a distribution: the share Q (0..1) of the requests takes no longer than Time seconds.
type Quantile struct{ Q, Time float64 }

// Fit takes over a distribution of which only some quantiles are known, two at least, in rising order of Q. Between them, and
// beyond the outermost, the logarithm of the time is taken as a straight line over the normal score: lognormal pieces, which is
// what service times are like: of p50, p95 and p99 the mean comes out right to 1 %, for lognormal as for exponential times. What is
// no distribution leaves s unknown.
func (s *Service) Fit(points []Quantile) {
	if len(points) < 2 {
		*s = Service{}
		return
	}
	for i, p := range points {
		if !(p.Q > 0 && p.Q < 1) || !positive(p.Time) || (i > 0 && p.Q <= points[i-1].Q) {
			*s = Service{}
			return
		}
	}
	*s = Service{samples: math.MaxUint64}
	line := pieces{points: points}
	line.enter(1)
	for k := range s.edge {
		s.edge[k] = line.at(score[k])
	}
	var first, square float64
	for k, w := range share {
		lo, hi := s.edge[k], s.edge[k+1]
		first += w * (lo + hi) / 2
		square += w * (lo*lo + lo*hi + hi*hi) / 3
	}
	s.mean, s.scv = first, max(square/(first*first)-1, 0)
	if !positive(first) || !finite(square) || !finite(s.scv) {
		*s = Service{}
	}
}

// score is the normal score of each edge of the cells.
var score = func() (z [cells + 1]float64) {
	for k := range z {
		z[k] = normal(edgeShare(k))
	}
	return z
}()

// edgeShare is the share of the requests that lies below edge k. The ends are not the extremes, of which one request in
// thousands would decide.
func edgeShare(k int) float64 { return min(max(1-beyond[k], 0.005), 1-1.0/(1<<18)) }

func normal(q float64) float64 { return math.Sqrt2 * math.Erfinv(2*q-1) }

// pieces walks a broken line from left to right.
type pieces struct {
	points       []Quantile
	next         int // index of the point that ends the piece
	z, log, rise float64
}

func (p *pieces) enter(next int) {
	a, b := p.points[next-1], p.points[next]
	p.next = next
	p.z, p.log = normal(a.Q), math.Log(a.Time)
	p.rise = max(math.Log(b.Time)-p.log, 0) / (normal(b.Q) - p.z) // quantiles read a moment apart may cross
}

func (p *pieces) at(z float64) float64 {
	for p.next < len(p.points)-1 && z > normal(p.points[p.next].Q) {
		p.enter(p.next + 1)
	}
	return math.Exp(p.log + p.rise*(z-p.z))
}
