package forecast

import (
	"math"
	"slices"
	"time"
)

// Trend extrapolates the arrival rate by the latest minutes of measurement: a line by least squares. Windows that lie far from the line by Theil and Sen (the
// median of the slopes between all pairs, which one odd window cannot turn) count as if they were at the edge of what chance allows. Of a change of level that
// lasted for a minute, what came before is forgotten. The zero value has seen nothing.
type Trend struct {
	windows [trendWindows]window
	n       int // oldest first
}

const (
	trendWindows = 16
	// trendFine of them are kept as they were measured; older ones are joined up to trendJoined seconds: with windows of 15 s the line is one of 10 minutes.
	trendFine   = 8
	trendJoined = 60.0
	// jumpWindows are those that together tell that the level has changed.
	jumpWindows = 4
	// jumpSure is by how many standard deviations they do, as does the newest alone: by chance hardly once a day.
	jumpSure = 4.0
)

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
	Expected float64 // at the horizon: the line, as far as the windows agree that there is one
	High     float64 // upper end of its band: one standard deviation
	// Surge: the newest windows lie so far above the line that they are taken for the rate as it is now, rather than waited upon.
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
	t.join()
	if t.n == trendWindows {
		t.forget(1)
	}
	t.windows[t.n] = window{end, span.Seconds(), requests}
	t.n++
	if before := t.n - jumpWindows; before >= jumpWindows {
		l := t.fit(before)
		if k, above := t.jump(&l, jumpWindows); k == jumpWindows && math.Abs(above) > jumpSure {
			t.forget(before)
		}
	}
}

// jump finds since how many of the most newest windows, if ever, the rate lies off a line through those before: where it does by the most standard deviations.
func (t *Trend) jump(l *line, most int) (k int, above float64) {
	for i := 1; i <= most; i++ {
		if a := t.above(l, i); math.Abs(a) >= math.Abs(above) {
			k, above = i, a
		}
	}
	return k, above
}

// join makes one of two windows that are no longer new.
func (t *Trend) join() {
	k := t.n - trendFine
	if k < 1 {
		return
	}
	a, b := t.windows[k-1], t.windows[k]
	apart := b.end.Sub(a.end).Seconds()
	if a.span+b.span > trendJoined || math.Abs(apart-b.span) > b.span/4 {
		return
	}
	t.windows[k-1] = window{b.end, a.span + b.span, a.requests + b.requests}
	copy(t.windows[k:], t.windows[k+1:t.n])
	t.n--
}

// forget drops the k oldest windows.
func (t *Trend) forget(k int) {
	copy(t.windows[:], t.windows[k:t.n])
	t.n -= k
}

// Ahead extrapolates to horizon after now. It is known from three windows on, unless the newest is older than all of them
// together are long.
//
// A slope counts by how much it exceeds what chance makes of none; the line is followed for no longer than the windows reach back,
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
	l := t.fit(t.n)
	r := Rate{Known: true, Now: l.level}
	newer, known := min(jumpWindows, t.n-3), reach // three make a line
	if newer > 0 {
		before := t.fit(t.n - newer)
		if k, above := t.jump(&before, newer); above > jumpSure {
			span, requests := t.latest(k)
			r.Surge, r.Now, known = true, requests/span, span
			l.slope, l.noise = before.slope, max(before.noise, math.Sqrt(r.Now)) // the line through both is of neither
		}
	}
	ahead := min(max(now.Add(horizon).Sub(newest.end).Seconds(), 0), reach)
	r.Expected = min(max(r.Now+l.slope*ahead, 0), 2*r.Now)
	r.High = r.Expected + l.noise/math.Sqrt(known)
	return r
}

// latest are the k newest windows together.
func (t *Trend) latest(k int) (span, requests float64) {
	for _, w := range t.windows[t.n-k : t.n] {
		span += w.span
		requests += w.requests
	}
	return span, requests
}

// above is by how many standard deviations the k newest windows lie above a line through those before.
func (t *Trend) above(l *line, k int) float64 {
	span, requests := t.latest(k)
	expected := 0.0
	for _, w := range t.windows[t.n-k : t.n] {
		expected += max(l.at(w), 0) * w.span
	}
	return (requests - expected) / (l.noise * math.Sqrt(span+span*span/l.span))
}

// Dispersion is the variance of the counts around the line over their mean: 1 for Poisson arrivals, more when they come in
// bursts. It serves as queueing.Load's Arrivals. It is NaN before there are 8 windows with a request each on average.
func (t *Trend) Dispersion() float64 {
	const enough = trendFine
	if t.n < enough {
		return math.NaN()
	}
	fine := t.windows[t.n-enough : t.n]
	l := t.fit(t.n)
	span, total := t.latest(enough)
	shift := 0.0 // what these lie above the line on average
	for _, w := range fine {
		shift += (w.requests - l.at(w)*w.span) / span
	}
	if total < enough {
		return math.NaN()
	}
	sum := 0.0
	for _, w := range fine {
		off := w.requests - (l.at(w)+shift)*w.span
		sum += off * off
	}
	return sum / total * enough / (enough - 1)
}

// line is a rate over time.
type line struct {
	zero         time.Time // at which it is at level, requests per second
	level, slope float64
	noise        float64 // requests per root second
	span         float64 // s, that it was drawn through
}

func (l *line) at(w window) float64 {
	return l.level + l.slope*(w.end.Sub(l.zero).Seconds()-w.span/2)
}

// fit draws the line through the n oldest windows.
func (t *Trend) fit(n int) line {
	windows := t.windows[:n]
	l := line{zero: windows[n-1].end, slope: slope(windows)}
	l.level = level(windows, &l)
	l.noise = noise(windows, &l)
	var sum, sx, sy float64
	var rates [trendWindows]float64
	for i, w := range windows {
		fitted := max(l.at(w), 0)
		edge := 3 * l.noise / math.Sqrt(w.span)
		rates[i] = min(max(w.rate(), fitted-edge), fitted+edge)
		x := w.end.Sub(l.zero).Seconds() - w.span/2
		sum, sx, sy = sum+w.span, sx+w.span*x, sy+w.span*rates[i]
	}
	mx, my := sx/sum, sy/sum
	var sxx, sxy float64
	for i, w := range windows {
		x := w.end.Sub(l.zero).Seconds() - w.span/2 - mx
		sxx += w.span * x * x
		sxy += w.span * x * (rates[i] - my)
	}
	l.span, l.slope = sum, 0
	if sxx > 0 {
		// Of a slope as large as chance makes of none, 2 standard deviations, nothing counts; of one of twice that three quarters do.
		b := sxy / sxx
		if chance := 2 * l.noise / math.Sqrt(sxx); math.Abs(b) > chance {
			l.slope = b * (1 - chance*chance/(b*b))
		}
	}
	l.level = max(my-l.slope*mx, 0)
	return l
}

// slope is Theil and Sen's, in requests per second per second.
func slope(windows []window) float64 {
	var room [trendWindows * (trendWindows - 1) / 2]float64
	slopes := room[:0]
	for i, a := range windows {
		for _, b := range windows[i+1:] {
			apart := b.end.Sub(a.end).Seconds() + (a.span-b.span)/2
			if apart > 0 {
				slopes = append(slopes, (b.rate()-a.rate())/apart)
			}
		}
	}
	if len(slopes) == 0 {
		return 0
	}
	slices.Sort(slopes)
	return middle(slopes)
}

// level is the line's value at its zero: the median of what each window says it is.
func level(windows []window, l *line) float64 {
	var room [trendWindows]float64
	for i, w := range windows {
		room[i] = w.rate() - l.at(w)
	}
	slices.Sort(room[:len(windows)])
	return max(middle(room[:len(windows)]), 0)
}

// noise is how much the rate scatters around the line: that of Poisson arrivals, or the scatter as measured (by the median, which a surge does not move)
// when it is more.
func noise(windows []window, l *line) float64 {
	var room [trendWindows]float64
	for i, w := range windows {
		room[i] = math.Abs(w.rate()-l.at(w)) * math.Sqrt(w.span)
	}
	slices.Sort(room[:len(windows)])
	return max(1.4826*middle(room[:len(windows)]), math.Sqrt(l.level), 1/math.Sqrt(windows[len(windows)-1].span))
}

func middle(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
