package queueing

import "math"

// ErlangC is the probability that an arrival has to wait for one of c workers, for a load of a erlangs. It is 1 when the
// workers are too few for the load, and NaN unless c >= 1 and a is finite and >= 0.
func ErlangC(c int, a float64) float64 {
	switch {
	case c < 1 || !finite(a) || a < 0:
		return math.NaN()
	case a >= float64(c):
		return 1
	}
	return blocking{}.at(c, a).delay(a)
}

// blocking is a point of the recursion 1/B(k) = 1 + (k/a)/B(k-1). The inverse only grows, so nothing cancels or underflows: where
// it overflows, blocking is 0 to any accuracy. The zero value is where the recursion begins, 1/B(0) = 1.
type blocking struct {
	workers int
	inverse float64
}

// at carries the recursion on to c workers, from b's or from the beginning when b is past them.
func (b blocking) at(c int, a float64) blocking {
	if b.inverse == 0 || b.workers > c {
		b = blocking{inverse: 1}
	}
	perLoad := 1 / a
	for b.workers < c {
		b.workers++
		b.inverse = 1 + float64(b.workers)*perLoad*b.inverse
	}
	return b
}

// delay is Erlang C from Erlang B, for a < workers.
func (b blocking) delay(a float64) float64 {
	rho := a / float64(b.workers)
	return 1 / (rho + (1-rho)*b.inverse)
}

// Law is Gunther's universal scalability law: n workers that share a database do as much as
// n/(1 + a(n-1) + b n(n-1)) that have it for themselves. The zero value is no law: nothing is shared.
type Law struct {
	Contention float64 // a, 0..1: the share of the work that only one can do at a time
	Coherence  float64 // b, 0 or above: what each pair costs to keep consistent
}

// Worth is how many workers that share nothing do as much as n of these: n/(1 + a(n-1) + b n(n-1)).
func (l Law) Worth(n int) float64 {
	k := float64(n)
	return k / (1 + l.Contention*(k-1) + l.Coherence*k*(k-1))
}

// Peak is the largest fleet that still does more than a smaller one, about sqrt((1-a)/b); 0 when there is no such limit.
func (l Law) Peak() int {
	if !l.valid() || l.Coherence == 0 {
		return 0
	}
	peak := math.Sqrt((1 - l.Contention) / l.Coherence)
	if peak > math.MaxInt32 {
		return 0
	}
	n := max(int(peak), 1)
	if l.Worth(n+1) > l.Worth(n) {
		n++
	}
	return n
}

func (l Law) valid() bool {
	return l.Contention >= 0 && l.Contention <= 1 && l.Coherence >= 0 && finite(l.Coherence)
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
