package verdict

import (
	"math"
	"slices"
)

// mostPairs bounds the exact distribution of the rank sum, which takes n*m*n*m steps: above it the normal approximation is good to 0.001.
const mostPairs = 2500

// Shift compares two sets of runs.
type Shift struct {
	// Value is the Hodges-Lehmann shift: the median of all differences of a later figure and an earlier one, with the interval in which it
	// lies with Confidence.
	Value, Low, High float64
	Confidence       float64
	P                float64 // two-sided, of Mann and Whitney's test that nothing changed
	Least            float64 // the smallest P that so many runs could give
}

// shift compares figures of earlier and later runs, by ranks: nothing is assumed of how they are distributed. Ties count half; the exact
// distribution is that without ties, which errs on the side of "nothing changed".
func shift(earlier, later []float64) Shift {
	n, m := len(later), len(earlier)
	out := Shift{Value: math.NaN(), Low: math.Inf(-1), High: math.Inf(1), P: 1, Least: 1}
	if n == 0 || m == 0 {
		return out
	}
	diffs, u := make([]float64, 0, n*m), 0.0
	for _, x := range later {
		for _, y := range earlier {
			diffs = append(diffs, x-y)
			switch {
			case x > y:
				u++
			case x == y:
				u += 0.5
			}
		}
	}
	slices.Sort(diffs)
	out.Value = median(diffs)
	cdf := mannWhitney(n, m)
	out.P = min(2*cdf(math.Floor(min(u, float64(n*m)-u)+0.5)), 1)
	out.Least = min(2*cdf(0), 1)
	// The interval leaves out the k smallest and the k largest differences: k is the largest with P(U <= k-1) at most 2.5 %.
	k := 0
	for cdf(float64(k)) <= (1-0.95)/2 {
		k++
	}
	if k == 0 {
		return out
	}
	out.Low, out.High, out.Confidence = diffs[k-1], diffs[n*m-k], 1-2*cdf(float64(k-1))
	return out
}

// mannWhitney is the distribution of U, the number of pairs in which the first of n and m values is greater, when both are from the same
// distribution: P(U <= u).
func mannWhitney(n, m int) func(u float64) float64 {
	pairs := n * m
	if pairs > mostPairs {
		mean, sd := float64(pairs)/2, math.Sqrt(float64(pairs)*float64(n+m+1)/12)
		return func(u float64) float64 { return normalCDF((u + 0.5 - mean) / sd) }
	}
	// Of the arrangements of i and j values, those that end in one of the i add j to U: w(i,j,u) = w(i-1,j,u-j) + w(i,j-1,u). Shares of
	// arrangements rather than counts, so that nothing overflows.
	p := make([][]float64, m+1)
	for i := range n + 1 {
		next := make([][]float64, m+1)
		for j := range m + 1 {
			row := make([]float64, i*j+1)
			if i == 0 || j == 0 {
				row[0] = 1
			} else {
				last := float64(i) / float64(i+j)
				for u := range row {
					if u >= j && u-j < len(p[j]) {
						row[u] += last * p[j][u-j]
					}
					if u < len(next[j-1]) {
						row[u] += (1 - last) * next[j-1][u]
					}
				}
			}
			next[j] = row
		}
		p = next
	}
	cumulated := p[m]
	for u := 1; u < len(cumulated); u++ {
		cumulated[u] += cumulated[u-1]
	}
	return func(u float64) float64 {
		if u < 0 {
			return 0
		}
		return min(cumulated[min(int(u), pairs)], 1)
	}
}
