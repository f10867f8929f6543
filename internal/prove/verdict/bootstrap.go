package verdict

import (
	"cmp"
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

// twice moves the bounds twice as far away.
func (i Interval) twice() Interval { return Interval{i.Value, 2*i.Low - i.Value, 2*i.High - i.Value} }

// unknown is what nothing was measured of.
func unknown() Interval { return Interval{math.NaN(), math.Inf(-1), math.Inf(1)} }

const (
	replications = 999
	// minBlocks is the fewest blocks that a run is cut into: fewer say nothing about how blocks differ.
	minBlocks = 8
	// blockFactor is how many correlation times a block spans. Blocks as short as the correlation itself miss a part of the variance
	// (one-minute blocks at a correlation of one minute covered 74 to 93 % instead of 95 %).
	blockFactor = 3
	// skewed moves upper bounds outwards by skewed/sqrt(correlation times in the run), the order of the error that skewness makes. On simulated
	// runs whose truth is known they held in 86 to 95 % without it, and hold in 92 to 97 % with it.
	skewed = 3
	// enoughSpells is how many a single run must hold for its bounds to be taken at their word: with 30 they hold in 92 of 100 cases. With fewer,
	// bounds twice as far away must give the same answer.
	enoughSpells = 40
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
	spells  float64 // correlation times in the run: so many stretches of it say something of their own
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
	return blocks{length, max(n/length, 1), 1 / math.Sqrt(1-missed), float64(n) / tau}
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
	// least as far away as the lower, in proportion, and by skewed further.
	if low > 0 {
		high = max(high, value*value/low)
	}
	low, high = value+(low-value)*b.stretch, value+(high-value)*b.stretch*(1+skewed/math.Sqrt(b.spells))
	if value >= 0 {
		low = max(low, 0) // nothing that is measured here crosses it
	}
	return low, high
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
	// below[j*(windows+1)+t] counts the values of the windows before t in buckets up to j.
	below []uint32
}

// cell is how many values of a window lie in a bucket.
type cell struct {
	window int
	middle float64
	count  uint32
}

// cells appends a histogram of a window.
func cells(all []cell, window int, h *signal.Histogram) []cell {
	for v, n := range h.Buckets() {
		all = append(all, cell{window, v, n})
	}
	return all
}

// newLevels gathers what so many windows hold.
func newLevels(windows int, all []cell) *levels {
	slices.SortFunc(all, func(a, b cell) int { return cmp.Compare(a.middle, b.middle) })
	l := &levels{windows: windows}
	for _, c := range all {
		if n := len(l.middle); n == 0 || l.middle[n-1] != c.middle {
			l.middle = append(l.middle, c.middle)
		}
	}
	l.below = make([]uint32, len(l.middle)*(windows+1))
	j := 0
	for _, c := range all {
		for l.middle[j] != c.middle {
			j++
		}
		l.upTo(j)[c.window+1] += c.count
	}
	for j := range l.middle {
		row := l.upTo(j)
		for t := range windows {
			row[t+1] += row[t]
		}
		if j > 0 {
			for t, n := range l.upTo(j - 1) {
				row[t] += n
			}
		}
	}
	return l
}

// upTo counts the values in buckets up to j, of the windows before each.
func (l *levels) upTo(j int) []uint32 {
	n := l.windows + 1
	return l.below[j*n : (j+1)*n]
}

// count is how many values of the windows from <= t < to are in buckets up to j.
func (l *levels) count(from, to, j int) int {
	row := l.upTo(j)
	return int(row[to] - row[from])
}

// whole is how many values there are in buckets up to j; none for j < 0.
func (l *levels) whole(j int) int {
	if j < 0 {
		return 0
	}
	return l.count(0, l.windows, j)
}

// circle sums values over blocks of a circle of windows, whose cumulated sums are given: block i begins with window i. The last block of a
// replication is cut, so that it is as long as the run.
type circle[N uint32 | float64] struct{ blocks, cut []N }

func newCircle[N uint32 | float64](cumulated []N, block int) circle[N] {
	n := len(cumulated) - 1
	sums := func(length int) []N {
		out := make([]N, n)
		for t := range out {
			if end := t + length; end <= n {
				out[t] = cumulated[end] - cumulated[t]
			} else {
				out[t] = cumulated[n] - cumulated[t] + cumulated[end-n]
			}
		}
		return out
	}
	return circle[N]{sums(block), sums((n-1)%block + 1)}
}

func (c circle[N]) sum(starts []int) (sum N) {
	last := len(starts) - 1
	for _, s := range starts[:last] {
		sum += c.blocks[s]
	}
	return sum + c.cut[starts[last]]
}

// ranked is the r-th smallest value (from 1), where count tells how many values are in buckets up to j; the search begins near a bucket.
// Within its bucket the values are taken to lie evenly.
func (l *levels) ranked(r, near int, count func(j int) int) float64 {
	j, n := near, count(near)
	before := 0
	if n >= r {
		for before = count(j - 1); before >= r; before = count(j - 1) {
			j, n = j-1, before
		}
	} else {
		for n < r && j < len(l.middle)-1 {
			j, before = j+1, n
			n = count(j)
		}
	}
	low, high := signal.Bucket(l.middle[j])
	return low + (high-low)*(float64(r-before)-0.5)/float64(n-before)
}

// quantile is the q-quantile by nearest rank with its bounds: the wider of the block bootstrap's and those of independent values; and how
// many spells the windows hold.
func (l *levels) quantile(q float64, seed uint64) (Interval, float64) {
	if len(l.middle) == 0 {
		return unknown(), 0
	}
	last := len(l.middle) - 1
	n := l.whole(last)
	rank := func(n int) int { return max(int(math.Ceil(q*float64(n))), 1) }
	at := sort.Search(last, func(j int) bool { return l.whole(j) >= rank(n) })
	out := Interval{Value: l.ranked(rank(n), at, l.whole)}
	// What moves a quantile is how many values lie above it.
	influence := make([]float64, l.windows)
	share := float64(l.whole(at)) / float64(n)
	for t := range influence {
		influence[t] = float64(l.count(t, t+1, at)) - share*float64(l.count(t, t+1, last))
	}
	b := blocksFor(influence)
	circles := make([]*circle[uint32], last+1) // of few buckets: those about the quantile, and the last
	sorted := resample(l.windows, b.length, seed, func(starts []int) float64 {
		count := func(j int) int {
			if j < 0 {
				return 0
			}
			if circles[j] == nil {
				c := newCircle(l.upTo(j), b.length)
				circles[j] = &c
			}
			return int(circles[j].sum(starts))
		}
		all := count(last)
		if all == 0 {
			return math.NaN()
		}
		return l.ranked(rank(all), at, count)
	})
	out.Low, out.High = b.bounds(sorted, out.Value)
	low, high := ranks(n, q)
	if low < 1 {
		out.Low = math.Inf(-1)
	} else {
		out.Low = min(out.Low, l.ranked(low, at, l.whole))
	}
	if high > n {
		out.High = math.Inf(1)
	} else {
		out.High = max(out.High, l.ranked(high, at, l.whole))
	}
	return out, b.spells
}

// ratio is sum(part)/sum(whole) over windows, with the bounds of a block bootstrap. When counted, part counts cases among whole independent
// ones at best, and the bounds are no narrower than that allows: no failure among 100 requests does not prove that there are none.
func ratio(part, whole []float64, counted bool, seed uint64) (Interval, float64) {
	n := len(part)
	parts, wholes := make([]float64, n+1), make([]float64, n+1)
	for t := range part {
		parts[t+1], wholes[t+1] = parts[t]+part[t], wholes[t]+whole[t]
	}
	if n == 0 || wholes[n] == 0 {
		return unknown(), 0
	}
	out := Interval{Value: parts[n] / wholes[n]}
	influence := make([]float64, n)
	for t := range influence {
		influence[t] = part[t] - out.Value*whole[t]
	}
	b := blocksFor(influence)
	above, below := newCircle(parts, b.length), newCircle(wholes, b.length)
	sorted := resample(n, b.length, seed, func(starts []int) float64 {
		return above.sum(starts) / below.sum(starts) // NaN when nothing was drawn
	})
	out.Low, out.High = b.bounds(sorted, out.Value)
	if counted {
		low, high := proportion(int(parts[n]), int(wholes[n]))
		out.Low, out.High = min(out.Low, low), min(max(out.High, high), 1)
	}
	return out, b.spells
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
