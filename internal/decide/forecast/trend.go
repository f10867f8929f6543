package forecast

import (
	"math"
	"slices"
	"time"
)

// Trend extrapolates the arrival rate by the latest windows of measurement: a line by Theil and Sen (the median of the slopes
// between all pairs), which one odd window cannot turn. The zero value has seen nothing.
type Trend struct {
	windows [trendWindows]window
	n       int // oldest first

	fit   line // through them,
	drawn bool // once it is asked for
}

const trendWindows = 12 // 3 minutes at 15 s

type window struct {
	end      time.Time
	span     float64 // s
	requests float64
}

func (w window) rate() float64 { return w.requests / w.span }

// line is what the windows say together.
type line struct {
	slope float64               // Theil and Sen's, in requests per second per second; 0 when rises and falls do not differ by more than chance
	level float64               // at the end of the newest window, requests per second
	back  [trendWindows]float64 // seconds from there to each window's middle
}

// at is the line's value in the middle of window i.
func (l *line) at(i int) float64 { return l.level - l.slope*l.back[i] }

// Rate is the arrival rate to reckon with, in requests per second. Unless Known the rest means nothing.
type Rate struct {
	Known    bool
	Now      float64
	Expected float64 // at the horizon: the line, where the windows agree that there is one
	High     float64 // upper end of its band, about 1.4 standard deviations
	// Surge: the newest window lies so far above the line that it is taken for the rate as it is now, rather than waited upon.
	Surge bool
}

// Observe takes in a window of measurement: so many requests came in the span that ended then. What is no measurement is
// ignored; a clock that went back begins anew.
func (t *Trend) Observe(end time.Time, span time.Duration, requests float64) {
	if span <= 0 || !(requests >= 0) || requests > 1e15 {
		return
	}
	if t.n > 0 {
		switch last := t.windows[t.n-1].end; {
		case end.Equal(last):
			return
		case end.Before(last):
			t.n = 0
		}
	}
	if t.n == trendWindows {
		copy(t.windows[:], t.windows[1:])
		t.n--
	}
	t.windows[t.n] = window{end, span.Seconds(), requests}
	t.n++
	t.drawn = false
}

// Ahead extrapolates to horizon after now. It is known from three windows on, unless the newest is older than all of them
// together are long.
//
// A slope counts only if Kendall's test finds it at the 5 % level; the line is followed for no longer than the windows reach back,
// and then held, and it never more than doubles the rate.
func (t *Trend) Ahead(now time.Time, horizon time.Duration) Rate {
	if t.n < 3 {
		return Rate{}
	}
	newest := t.windows[t.n-1]
	reach := newest.end.Sub(t.windows[0].end).Seconds() + t.windows[0].span
	if age := now.Sub(newest.end).Seconds(); age > reach || age < 0 {
		return Rate{}
	}
	l := t.line()
	r, noise := Rate{Known: true, Now: l.level}, t.noise(l)
	if above := newest.rate() - r.Now; above > 3*noise/math.Sqrt(newest.span) {
		r.Surge = true
		r.Now = newest.rate()
	}
	ahead := min(max(now.Add(horizon).Sub(newest.end).Seconds(), 0), reach)
	r.Expected = min(max(r.Now+l.slope*ahead, 0), 2*r.Now)
	// The level is known from all windows, or when it has just changed from one.
	known := reach
	if r.Surge {
		known = newest.span
	}
	r.High = r.Expected + 1.75*noise/math.Sqrt(known) // a median scatters a quarter more than a mean
	return r
}

// Dispersion is the variance of the counts around the line over their mean: 1 for Poisson arrivals, more when they come in
// bursts. It serves as queueing.Load's Arrivals. It is NaN before there are 8 windows with a request each on average.
func (t *Trend) Dispersion() float64 {
	if t.n < 8 {
		return math.NaN()
	}
	l := t.line()
	sum, total := 0.0, 0.0
	for i, w := range t.windows[:t.n] {
		expected := l.at(i) * w.span
		sum += (w.requests - expected) * (w.requests - expected)
		total += w.requests
	}
	if total < float64(t.n) {
		return math.NaN()
	}
	return sum / total * float64(t.n) / float64(t.n-2)
}

// line draws it once for each window that comes.
func (t *Trend) line() *line {
	l := &t.fit
	if t.drawn {
		return l
	}
	t.drawn = true
	newest := t.windows[t.n-1].end
	var rates, ages [trendWindows]float64 // of the ends, before the newest
	for i, w := range t.windows[:t.n] {
		rates[i], ages[i] = w.rate(), newest.Sub(w.end).Seconds()
		l.back[i] = ages[i] + w.span/2
	}
	l.slope = slope(rates[:t.n], ages[:t.n])
	var room [trendWindows]float64 // what each window says that the level is
	for i, rate := range rates[:t.n] {
		room[i] = rate + l.slope*l.back[i]
	}
	l.level = max(median(room[:t.n]), 0)
	return l
}

func slope(rates, ages []float64) float64 {
	rises := 0
	for i, earlier := range rates {
		for _, later := range rates[i+1:] {
			rises += less(earlier, later) - less(later, earlier)
		}
	}
	n := float64(len(rates))
	if float64(rises)*float64(rises) < 1.96*1.96*n*(n-1)*(2*n+5)/18 {
		return 0
	}
	var room [trendWindows * (trendWindows - 1) / 2]float64
	slopes := room[:0]
	for i := range rates {
		for j := i + 1; j < len(rates); j++ {
			slopes = append(slopes, (rates[j]-rates[i])/(ages[i]-ages[j]))
		}
	}
	slices.Sort(slopes)
	return middle(slopes)
}

// noise is how much the rate scatters around the line, in requests per root second: that of Poisson arrivals, or the scatter
// as measured (by the median, which a surge does not move) when it is more.
func (t *Trend) noise(l *line) float64 {
	var room [trendWindows]float64
	for i, w := range t.windows[:t.n] {
		room[i] = math.Abs(w.rate()-l.at(i)) * math.Sqrt(w.span)
	}
	span := t.windows[t.n-1].span
	return max(1.4826*median(room[:t.n]), math.Sqrt(l.level), 1/math.Sqrt(span))
}

// less is 1 when a is less than b and 0 otherwise, both finite: as a number and not a branch, which noise would make half of all go wrong.
func less(a, b float64) int { return int(math.Float64bits(a-b) >> 63) }

// median puts each value where the number of those before it says, which for up to trendWindows of them is faster than to sort.
func median(values []float64) float64 {
	var before [trendWindows]int
	for i, v := range values {
		for k, w := range values[:i] {
			after := less(v, w)
			before[k] += after
			before[i] += 1 - after
		}
	}
	var sorted [trendWindows]float64
	for i, v := range values {
		sorted[before[i]] = v
	}
	return middle(sorted[:len(values)])
}

func middle(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
