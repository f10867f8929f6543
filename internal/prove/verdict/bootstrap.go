package verdict

import (
	"math"
	"math/rand/v2"
	"slices"
	"sort"

	"tidemark/internal/decide/signal"
)

// Interval is a figure and its bounds. Each bound holds with 95 % confidence by itself, both together with 90 %. A bound that the
// measurements are too few to give is infinite.
type Interval struct {
	Value, Low, High float64
}

// unknown is what nothing was measured of.
func unknown() Interval { return Interval{math.NaN(), math.Inf(-1), math.Inf(1)} }

const (
	replications = 999
	// minBlocks is the fewest blocks that a run is cut into: fewer say nothing about how blocks differ.
	minBlocks = 8
	// blockFactor is how many correlation times a block spans. Blocks as short as the correlation itself miss a part of the variance
	// (one-minute blocks at a correlation of one minute covered 74 to 93 % instead of 95 %).
	blockFactor = 3
)

// resample draws the circular block bootstrap: for each replication it hands the starts of the blocks, all of the given length in windows, to
// figure. It returns the sorted figures.
func resample(windows, block int, seed uint64, figure func(starts []int) float64) []float64 {
	rng := rand.New(rand.NewPCG(seed, 0x7469_6465))
	starts := make([]int, (windows+block-1)/block)
	out := make([]float64, 0, replications)
	for range replications {
		for i := range starts {
			starts[i] = rng.IntN(windows)
		}
		if v := figure(starts); !math.IsNaN(v) {
			out = append(out, v)
		}
	}
	slices.Sort(out)
	return out
}

// blocks says how a run is cut.
type blocks struct {
	length  int     // windows in a block
	count   int     // that fit into the run
	stretch float64 // by which the bounds move outwards: blocks miss what is correlated across their borders
}

// blocksFor cuts a run by a figure's influence, window by window (its mean is zero): blocks of blockFactor times the integrated correlation
// time, which is estimated with Sokal's automatic window.
func blocksFor(influence []float64) blocks {
	n := len(influence)
	longest := max(n/minBlocks, 1)
	variance := autocovariance(influence, 0)
	tau := 1.0
	if variance > 0 {
		for k := 1; k < n/2 && float64(k) < 5*tau; k++ {
			// That the mean is the run's own makes each autocovariance too small by about the mean's variance, tau*variance/n.
			tau += 2 * (autocovariance(influence, k)/variance + max(tau, 1)/float64(n))
		}
		tau = max(tau, 1)
	}
	length := min(max(int(math.Ceil(blockFactor*tau)), 1), longest)
	// Of a series whose correlation decays exponentially, blocks miss the share tau/(2*length) of the variance.
	missed := 0.0
	if tau > 1 {
		missed = min(tau/2/float64(length), 0.75)
	}
	return blocks{length, max(n/length, 1), 1 / math.Sqrt(1-missed)}
}

// bounds reads the interval from sorted replications: the percentile interval, expanded for the number of blocks (Hesterberg 2015): with few
// blocks the plain one is too narrow, as a normal interval is beside Student's.
func (b blocks) bounds(sorted []float64, value float64) (low, high float64) {
	if len(sorted) < replications/2 || b.count < 2 {
		return math.Inf(-1), math.Inf(1)
	}
	n := float64(b.count)
	tail := normalCDF(-math.Sqrt(n/(n-1)) * student(n-1))
	skip := min(int(tail*float64(len(sorted)+1)), len(sorted)/2+1) - 1
	skip = max(skip, 0)
	low, high = min(sorted[skip], value), max(sorted[len(sorted)-1-skip], value)
	// A run that saw little of what is slow also sees little of how much it varies, so that the upper bound is the one that fails: it is at
	// least as far away as the lower, in proportion.
	if low > 0 {
		high = max(high, value*value/low)
	}
	return value + (low-value)*b.stretch, value + (high-value)*b.stretch
}

func autocovariance(x []float64, lag int) float64 {
	sum := 0.0
	for i := lag; i < len(x); i++ {
		sum += x[i] * x[i-lag]
	}
	return sum / float64(len(x))
}

// levels is a distribution over time: how many values of each window lie in each bucket of a histogram.
type levels struct {
	middle  []float64 // of the buckets that are not empty, rising
	windows int
	// below[t*len(middle)+j] counts the values of the windows before t in buckets up to j.
	below []uint32
}

// newLevels gathers windows.
func newLevels(windows []signal.Histogram) *levels {
	var all signal.Histogram
	for t := range windows {
		all.Add(&windows[t])
	}
	l := &levels{windows: len(windows)}
	for v := range all.Buckets() {
		l.middle = append(l.middle, v)
	}
	k := len(l.middle)
	l.below = make([]uint32, (len(windows)+1)*k)
	for t := range windows {
		row := l.below[(t+1)*k : (t+2)*k]
		j := 0
		for v, c := range windows[t].Buckets() {
			for l.middle[j] != v {
				j++
			}
			row[j] = c
		}
		sum := uint32(0)
		for j := range row {
			sum += row[j]
			row[j] = l.below[t*k+j] + sum
		}
	}
	return l
}

// count is how many values of the windows from <= t < to are in buckets up to j; none for j < 0.
func (l *levels) count(from, to, j int) int {
	if j < 0 {
		return 0
	}
	k := len(l.middle)
	return int(l.below[to*k+j] - l.below[from*k+j])
}

func (l *levels) whole(j int) int { return l.count(0, l.windows, j) }

// ranked is the r-th smallest value (from 1), where count tells how many values are in buckets up to j. Within its bucket the values are
// taken to lie evenly.
func (l *levels) ranked(r int, count func(j int) int) float64 {
	j := sort.Search(len(l.middle)-1, func(j int) bool { return count(j) >= r })
	before := count(j - 1)
	low, high := signal.Bucket(l.middle[j])
	return low + (high-low)*(float64(r-before)-0.5)/float64(count(j)-before)
}

// circular sums f over blocks of a circle of windows.
func circular(starts []int, block, windows int, f func(from, to int) int) int {
	sum := 0
	left := windows // the last block is cut, so that each replication is as long as the run
	for _, s := range starts {
		n := min(block, left)
		left -= n
		if s+n <= windows {
			sum += f(s, s+n)
		} else {
			sum += f(s, windows) + f(0, s+n-windows)
		}
	}
	return sum
}

// quantile is the q-quantile by nearest rank with its bounds: the wider of the block bootstrap's and those of independent values.
func (l *levels) quantile(q float64, seed uint64) Interval {
	if len(l.middle) == 0 {
		return unknown()
	}
	last := len(l.middle) - 1
	n := l.whole(last)
	rank := func(n int) int { return max(int(math.Ceil(q*float64(n))), 1) }
	out := Interval{Value: l.ranked(rank(n), l.whole)}
	// What moves a quantile is how many values lie above it.
	at := sort.Search(last, func(j int) bool { return l.whole(j) >= rank(n) })
	influence := make([]float64, l.windows)
	share := float64(l.whole(at)) / float64(n)
	for t := range influence {
		influence[t] = float64(l.count(t, t+1, at)) - share*float64(l.count(t, t+1, last))
	}
	b := blocksFor(influence)
	sorted := resample(l.windows, b.length, seed, func(starts []int) float64 {
		count := func(j int) int {
			return circular(starts, b.length, l.windows, func(from, to int) int { return l.count(from, to, j) })
		}
		all := count(last)
		if all == 0 {
			return math.NaN()
		}
		return l.ranked(rank(all), count)
	})
	out.Low, out.High = b.bounds(sorted, out.Value)
	low, high := ranks(n, q)
	if low < 1 {
		out.Low = math.Inf(-1)
	} else {
		out.Low = min(out.Low, l.ranked(low, l.whole))
	}
	if high > n {
		out.High = math.Inf(1)
	} else {
		out.High = max(out.High, l.ranked(high, l.whole))
	}
	return out
}

// ratio is sum(part)/sum(whole) over windows, with the bounds of a block bootstrap. When counted, part counts cases among whole independent
// ones at best, and the bounds are no narrower than that allows: no failure among 100 requests does not prove that there are none.
func ratio(part, whole []float64, counted bool, seed uint64) Interval {
	sums := [2][]float64{make([]float64, len(part)+1), make([]float64, len(part)+1)}
	for t := range part {
		sums[0][t+1], sums[1][t+1] = sums[0][t]+part[t], sums[1][t]+whole[t]
	}
	n := len(part)
	if n == 0 || sums[1][n] == 0 {
		return unknown()
	}
	out := Interval{Value: sums[0][n] / sums[1][n]}
	influence := make([]float64, n)
	for t := range influence {
		influence[t] = part[t] - out.Value*whole[t]
	}
	b := blocksFor(influence)
	sorted := resample(n, b.length, seed, func(starts []int) float64 {
		var got [2]float64
		left := n
		for _, s := range starts {
			length := min(b.length, left)
			left -= length
			for i := range got {
				if s+length <= n {
					got[i] += sums[i][s+length] - sums[i][s]
				} else {
					got[i] += sums[i][n] - sums[i][s] + sums[i][s+length-n]
				}
			}
		}
		return got[0] / got[1] // NaN when nothing was drawn
	})
	out.Low, out.High = b.bounds(sorted, out.Value)
	if counted {
		low, high := proportion(int(sums[0][n]), int(sums[1][n]))
		out.Low, out.High = min(out.Low, low), max(out.High, high)
	}
	return out
}

// across is what several independent runs say: the median of their figures, between those order statistics that bound it. It makes no
// assumption about how runs differ. With fewer than 5 runs there are no such bounds, and ok is false.
func across(figures []float64) (Interval, bool) {
	s := slices.Sorted(slices.Values(figures))
	n := len(s)
	if n == 0 {
		return unknown(), false
	}
	out := Interval{Value: median(s), Low: math.Inf(-1), High: math.Inf(1)}
	low, high := ranks(n, 0.5)
	if low < 1 || high > n {
		return out, false
	}
	out.Low, out.High = s[low-1], s[high-1]
	return out, true
}

// median of sorted values.
func median(s []float64) float64 {
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}
