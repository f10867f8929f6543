package forecast

import (
	"math"
	"slices"
	"time"
)

// Trend extrapolates the arrival rate by the latest minutes of measurement: a line by least squares. Windows that lie far from Theil's line (the median of the
// slopes between pairs, which one odd window cannot turn) count as if they were at the edge of what chance allows. Where the newest windows leave the line through
// those before, by a step or by a bend, they are followed at once, and what came before is forgotten once that is certain. The zero value has seen nothing.
type Trend struct {
	windows [trendWindows]window
	n       int // oldest first

	whole  line   // through all of them, and
	change change // since when they leave a line through those before; both from three windows on, and drawn once for each
}

const (
	trendWindows = 16
	// trendFine of them are kept as they were measured; older ones are joined up to trendJoined seconds: with windows of 15 s the line is one of 10 minutes.
	trendFine   = 8
	trendJoined = 60.0
	// jumpWindows are those that together tell that the level has changed, and bendWindows that the slope has; a bend is looked for from bendLeast on.
	jumpWindows = 4
	bendLeast   = 3
	bendWindows = 8
	// changeSure is by how many standard deviations they do, as does the newest alone: by chance hardly once a day.
	changeSure = 4.0
	// bendReach is for how much of the time since a bend it is followed further.
	bendReach = 0.5
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
	// Surge: the newest windows lie a step so far above the line that they are taken for the rate as it is now, rather than waited upon.
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
	t.draw()
	enough := jumpWindows
	if t.change.bent {
		enough = bendWindows
	}
	if c := &t.change; c.windows >= enough && math.Abs(c.sure) > changeSure && t.n >= c.windows+jumpWindows {
		t.forget(t.n - c.windows)
		t.draw()
	}
}

// change is where the newest windows leave the line through those before.
type change struct {
	windows int // newest, that do
	bent    bool
	bend    float64 // of the slope, where bent; else it is a step
	sure    float64 // standard deviations; below 0 when they lie below
	before  line
}

// draw finds the line through all windows and the change in them.
func (t *Trend) draw() {
	t.change = change{}
	if t.n < 3 { // three make a line
		return
	}
	t.whole = t.fit(t.n)
	from := 1
	for _, most := range [...]int{jumpWindows, bendWindows} {
		most = min(most, t.n-3)
		if most < from {
			return
		}
		before := t.fit(t.n - most)
		t.leave(&before, from, most)
		from = most + 1
	}
}

// leave looks for a step and a bend from a line, since any of so many newest windows, that is surer than the change already found.
func (t *Trend) leave(l *line, from, most int) {
	// Sums over the windows since: of time, of requests beyond the line, and of both weighted by the time since the first of them began.
	var newest, span, excess, sx, sxx, sxe float64
	for i := 1; i <= most; i++ {
		w := t.windows[t.n-i]
		e, half := w.requests-max(l.at(w), 0)*w.span, w.span/2
		sxx += w.span*(2*sx+w.span*span) + half*half*w.span // those that came later are a span further from its beginning
		sx += w.span*span + half*w.span
		sxe += w.span*excess + half*e
		span, excess = span+w.span, excess+e
		if i == 1 {
			newest = e / span
		}
		if i < from || newest/(excess/span) < 0.5 { // one odd window among others is no change
			continue
		}
		if sure := excess / (l.noise * math.Sqrt(span+span*span/l.span)); math.Abs(sure) > math.Abs(t.change.sure) {
			t.change = change{windows: i, sure: sure, before: *l}
		}
		if i < bendLeast {
			continue
		}
		bend := sxe / sxx
		if sure := bend / (l.noise * math.Sqrt(1/sxx+sx*sx/(sxx*sxx*l.span))); math.Abs(sure) > math.Abs(t.change.sure) {
			t.change = change{windows: i, bent: true, bend: bend, sure: sure, before: *l}
		}
	}
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
// A slope counts by how much it exceeds what chance makes of none; the line is followed for no longer than the windows reach back, a bend upwards for half the time
// since, and then held, and it never more than doubles the rate.
func (t *Trend) Ahead(now time.Time, horizon time.Duration) Rate {
	if t.n < 3 {
		return Rate{}
	}
	newest := t.windows[t.n-1]
	reach := newest.end.Sub(t.windows[0].end).Seconds() + t.windows[0].span
	if age := now.Sub(newest.end).Seconds(); age > reach || age < 0 {
		return Rate{}
	}
	r, slope, noise, known := Rate{Known: true, Now: t.whole.level}, t.whole.slope, t.whole.noise, reach
	if c := &t.change; c.sure > changeSure { // the line through both is of neither
		span, requests := t.latest(c.windows)
		slope, known = c.before.slope+c.bend, span
		if c.bent {
			r.Now = max(c.before.level+c.before.slope*newest.end.Sub(c.before.zero).Seconds(), 0) + c.bend*span
			reach = bendReach * span
		} else {
			r.Surge, r.Now = true, requests/span
		}
		noise = max(c.before.noise, math.Sqrt(r.Now))
	}
	ahead := min(max(now.Add(horizon).Sub(newest.end).Seconds(), 0), reach)
	r.Expected = min(max(r.Now+slope*ahead, 0), 2*r.Now)
	r.High = r.Expected + noise/math.Sqrt(known)
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

// Dispersion is the variance of the counts around the line over their mean: 1 for Poisson arrivals, more when they come in
// bursts. It serves as queueing.Load's Arrivals. It is NaN before there are 8 windows with a request each on average.
func (t *Trend) Dispersion() float64 {
	const enough = trendFine
	if t.n < enough {
		return math.NaN()
	}
	fine := t.windows[t.n-enough : t.n]
	l := &t.whole
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

// slope is Theil's, in requests per second per second: the median of the slopes between windows half of the line apart.
func slope(windows []window) float64 {
	var room [trendWindows]float64
	slopes := room[:0]
	half := (len(windows) + 1) / 2
	for i, a := range windows[:len(windows)-half] {
		b := windows[i+half]
		apart := b.end.Sub(a.end).Seconds() + (a.span-b.span)/2
		if apart > 0 {
			slopes = append(slopes, (b.rate()-a.rate())/apart)
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

// noise is how much the rate scatters: that of Poisson arrivals, or the scatter as measured (by the median, which a surge does not move) when it is more. It is
// measured around the line, and between neighbours where that is less, so that a change of level or slope is not taken for noise.
func noise(windows []window, l *line) float64 {
	var around, between [trendWindows]float64
	for i, w := range windows {
		around[i] = math.Abs(w.rate()-l.at(w)) * math.Sqrt(w.span)
		if i > 0 {
			before := windows[i-1]
			between[i-1] = math.Abs(w.rate()-before.rate()) / math.Sqrt(1/w.span+1/before.span)
		}
	}
	n := len(windows)
	slices.Sort(around[:n])
	scatter := middle(around[:n])
	if n > 3 {
		slices.Sort(between[:n-1])
		scatter = min(scatter, middle(between[:n-1]))
	}
	return max(1.4826*scatter, math.Sqrt(l.level), 1/math.Sqrt(windows[n-1].span))
}

func middle(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
