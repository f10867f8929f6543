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

	tilt   float64 // slope, once it is known of these windows
	tilted bool
}

const trendWindows = 12 // 3 minutes at 15 s

type window struct {
	end      time.Time
	span     float64 // s
	requests float64
}

func (w window) rate() float64 { return w.requests / w.span }

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
	t.tilted = false
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
	slope := t.slope()
	r := Rate{Known: true, Now: t.level(slope)}
	noise := t.noise(slope, r.Now)
	if above := newest.rate() - r.Now; above > 3*noise/math.Sqrt(newest.span) {
		r.Surge = true
		r.Now = newest.rate()
	}
	ahead := min(max(now.Add(horizon).Sub(newest.end).Seconds(), 0), reach)
	r.Expected = min(max(r.Now+slope*ahead, 0), 2*r.Now)
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
	slope := t.slope()
	level := t.level(slope)
	sum, total := 0.0, 0.0
	for _, w := range t.windows[:t.n] {
		expected := t.line(w, level, slope) * w.span
		sum += (w.requests - expected) * (w.requests - expected)
		total += w.requests
	}
	if total < float64(t.n) {
		return math.NaN()
	}
	return sum / total * float64(t.n) / float64(t.n-2)
}

// slope is Theil and Sen's, in requests per second per second; 0 when rises and falls do not differ by more than chance.
func (t *Trend) slope() float64 {
	if !t.tilted {
		t.tilt, t.tilted = t.slant(), true
	}
	return t.tilt
}

func (t *Trend) slant() float64 {
	var room [trendWindows * (trendWindows - 1) / 2]float64
	var rates [trendWindows]float64
	var ages [trendWindows]time.Duration // of the ends, before the newest
	for i := range t.windows[:t.n] {
		rates[i], ages[i] = t.windows[i].rate(), t.windows[t.n-1].end.Sub(t.windows[i].end)
	}
	slopes := room[:0]
	rises := 0
	for i := range t.n {
		for j := i + 1; j < t.n; j++ {
			s := (rates[j] - rates[i]) / (ages[i] - ages[j]).Seconds()
			switch {
			case s > 0:
				rises++
			case s < 0:
				rises--
			}
			slopes = append(slopes, s)
		}
	}
	n := float64(t.n)
	if float64(rises)*float64(rises) < 1.96*1.96*n*(n-1)*(2*n+5)/18 {
		return 0
	}
	slices.Sort(slopes)
	return middle(slopes)
}

// level is the line's value at the end of the newest window: the median of what each window says it is.
func (t *Trend) level(slope float64) float64 {
	var room [trendWindows]float64
	for i, w := range t.windows[:t.n] {
		room[i] = w.rate() - t.line(w, 0, slope)
	}
	slices.Sort(room[:t.n])
	return max(middle(room[:t.n]), 0)
}

// line is the line's value in the middle of a window.
func (t *Trend) line(w window, level, slope float64) float64 {
	before := t.windows[t.n-1].end.Sub(w.end).Seconds() + w.span/2
	return level - slope*before
}

// noise is how much the rate scatters around the line, in requests per root second: that of Poisson arrivals, or the scatter
// as measured (by the median, which a surge does not move) when it is more.
func (t *Trend) noise(slope, level float64) float64 {
	var room [trendWindows]float64
	for i, w := range t.windows[:t.n] {
		room[i] = math.Abs(w.rate()-t.line(w, level, slope)) * math.Sqrt(w.span)
	}
	slices.Sort(room[:t.n])
	span := t.windows[t.n-1].span
	return max(1.4826*middle(room[:t.n]), math.Sqrt(level), 1/math.Sqrt(span))
}

func middle(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
