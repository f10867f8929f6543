package verdict

import "math"

// confidence is that of each bound by itself: a figure's upper bound is above the truth in 95 of 100 runs, its lower bound below.
const confidence = 0.95

// beta is the regularised incomplete beta function I_x(a, b), by its continued fraction (Lentz). For 0 <= x <= 1 and a, b > 0 its error is
// below 1e-12.
func beta(x, a, b float64) float64 {
	switch {
	case x <= 0:
		return 0
	case x >= 1:
		return 1
	case x > (a+1)/(a+b+2):
		return 1 - beta(1-x, b, a) // the fraction converges quickly on one side only
	}
	la, _ := math.Lgamma(a)
	lb, _ := math.Lgamma(b)
	lab, _ := math.Lgamma(a + b)
	front := math.Exp(lab - la - lb + a*math.Log(x) + b*math.Log1p(-x))
	c, d := 1.0, 1/nonzero(1-(a+b)*x/(a+1))
	f := d
	for m := 1.0; m < 10_000; m++ {
		step := m * (b - m) * x / ((a + 2*m - 1) * (a + 2*m))
		d, c = 1/nonzero(1+step*d), nonzero(1+step/c)
		f *= d * c
		step = -(a + m) * (a + b + m) * x / ((a + 2*m) * (a + 2*m + 1))
		d, c = 1/nonzero(1+step*d), nonzero(1+step/c)
		f *= d * c
		if math.Abs(d*c-1) < 1e-14 {
			break
		}
	}
	return front * f / a
}

// nonzero keeps a divisor off 0.
func nonzero(v float64) float64 {
	const tiny = 1e-300
	if math.Abs(v) < tiny {
		return tiny
	}
	return v
}

// binomial is the probability of at most k successes in n trials of probability p.
func binomial(k, n int, p float64) float64 {
	switch {
	case k < 0:
		return 0
	case k >= n:
		return 1
	}
	return beta(1-p, float64(n-k), float64(k+1))
}

// proportion bounds the probability of what happened k times in n independent trials (Clopper and Pearson, one-sided each).
func proportion(k, n int) (low, high float64) {
	low, high = 0, 1
	if k > 0 {
		low = root(0, 1, func(p float64) bool { return 1-binomial(k-1, n, p) > 1-confidence })
	}
	if k < n {
		high = root(0, 1, func(p float64) bool { return binomial(k, n, p) < 1-confidence })
	}
	return low, high
}

// ranks are the order statistics (from 1) of n independent values that bound their q-quantile. low is 0 when there are too few values for a
// lower bound, high is n+1 when there are too few for an upper one: a p95 needs 59 values.
func ranks(n int, q float64) (low, high int) {
	// The smallest r with P(Bin(n,q) <= r-1) >= confidence, and the largest with P(Bin(n,q) >= r) >= confidence.
	high = 1 + first(n, func(r int) bool { return binomial(r, n, q) >= confidence })
	if math.Pow(q, float64(n)) > 1-confidence {
		high = n + 1
	}
	low = first(n, func(r int) bool { return 1-binomial(r, n, q) < confidence })
	return low, high
}

// first is the smallest k in 0..n for which a monotone condition holds; n if none.
func first(n int, holds func(int) bool) int {
	lo, hi := 0, n
	for lo < hi {
		if mid := (lo + hi) / 2; holds(mid) {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo
}

// student is the quantile of Student's t with n degrees of freedom at the confidence of a bound.
func student(n float64) float64 {
	return root(0, 1e3, func(t float64) bool { return 1-beta(n/(n+t*t), n/2, 0.5)/2 > confidence })
}

// root is where a condition that is false below and true above turns.
func root(lo, hi float64, holds func(float64) bool) float64 {
	for range 80 {
		if mid := (lo + hi) / 2; holds(mid) {
			hi = mid
		} else {
			lo = mid
		}
	}
	return (lo + hi) / 2
}

func normalCDF(z float64) float64 { return math.Erfc(-z/math.Sqrt2) / 2 }
