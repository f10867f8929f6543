package queueing

import (
	"math"
	"strings"

	"tidemark/internal/fleet"
)

// Objective is what an operator asks of a fleet, and what is known of it beforehand. Times are in seconds.
type Objective struct {
	Quantile float64 // of the response time, between 0 and 1: 0.95 for "p95 <= 400ms"
	Within   float64 // the response time that it may not exceed
	Drain    float64 // a backlog must be gone within it, counted from when new workers serve
	Boot     float64 // from the decision until a new worker serves
	Bounds   fleet.Bounds
	Law      Law // of the shared database: no fleet is sized past its peak

	// Window and Miss: the quantile is taken over windows of so many seconds, of which at most this share (below 1/4) may exceed it by chance; 0: it holds on
	// average, and about every other window misses it.
	Window, Miss float64

	MinSamples   uint64  // fewer measured service times leave the prediction in doubt
	Disagreement float64 // so many times more or less wait than predicted leaves it in doubt; 0 is taken as 3
}

// Load is what was measured. The rates are those expected when a worker decided on now will serve.
type Load struct {
	Serving  int     // workers that take requests
	Starting int     // workers that will within Objective.Boot:
	Arrive   float64 // in so many seconds, on average; 0 is taken as Boot
	Rate     float64 // arrivals per second
	RateHigh float64 // upper end of its band, for which the fleet is sized; below Rate it is taken as Rate
	RateSeen float64 // the highest rate ever measured; 0 when that is not known
	Arrivals float64 // as Pool.Arrivals
	Service  *Service
	Backlog  float64 // requests that wait for a worker now; NaN when that is not measured
	Wait     float64 // mean wait measured over the latest minutes; NaN when that is not measured
}

// Answer is the fleet that a load needs. Unless Known, nothing else in it means anything.
type Answer struct {
	Unknown Cause // why there is no answer; 0 when there is one
	Size    int   // within the bounds
	Fewer   Lack  // what one fewer would lack; 0: it is the least of the bounds
	Limit   Limit // what keeps Size below what the objective needs
	Doubt   Doubt // what makes the prediction uncertain: never scale in on it
	// Unattainable: the service alone takes longer than the objective, or so nearly that waiting would have to vanish. Workers
	// cannot cure that; the fleet is sized as if the objective were 2 % above the service's own quantile.
	Unattainable bool
	Now          Prediction // for the workers there are, starting ones included
	Chosen       Prediction // for Size
}

// Known reports whether there is an answer.
func (a *Answer) Known() bool { return a.Unknown == 0 }

// Prediction is what a fleet of some size would do with the load.
type Prediction struct {
	Workers     int
	Utilization float64 // at 1 and above the queue grows; +Inf without workers
	// Response is the objective's quantile of the response time, in seconds. For a queue that grows it is that of a request that
	// arrives when new workers would serve. +Inf without workers.
	Response float64
	Drain    float64 // seconds until the backlog is gone; +Inf when it never is
}

// Cause says why nothing is known.
type Cause uint8

const (
	NoObjective Cause = iota + 1 // the objective, the bounds or the law make no sense
	NoRate                       // no rate of arrivals or backlog that can be true
	NoService                    // no service time was measured
	NoSize                       // the number of workers makes no sense
)

var causes = [...]string{"", "no objective", "no arrival rate", "no service time", "no fleet size"}

func (c Cause) String() string { return causes[c] }

// Lack is what a fleet that is too small would not do.
type Lack uint8

const (
	LacksWork     Lack = iota + 1 // what comes is more than it can do
	LacksDrain                    // what waits would not be gone in time
	LacksQuantile                 // it would miss the objective on average
	LacksChance                   // it would miss it by chance in too many windows
)

var lacks = [...]string{
	"", "fewer could not do the work", "fewer would not work off what waits in time", "fewer would miss the objective", "fewer would miss it by chance too often",
}

func (l Lack) String() string { return lacks[l] }

// Limit says what kept a fleet smaller than its objective needs.
type Limit uint8

const (
	AtMax  Limit = iota + 1 // the bounds
	AtPeak                  // the shared database: more workers would do less work
)

var limits = [...]string{"", "maximum", "database peak"}

func (l Limit) String() string { return limits[l] }

// Doubt is a set of reasons to distrust a prediction.
type Doubt uint8

const (
	FewSamples    Doubt = 1 << iota // too few service times
	RateUnseen                      // a rate above all that was ever measured
	WaitDisagrees                   // the measured wait is not the predicted one
)

var doubts = [...]string{"too few samples", "a rate never seen before", "the measured wait is not the predicted one"}

func (d Doubt) String() string {
	var said []string
	for i, s := range doubts {
		if d&(1<<i) != 0 {
			said = append(said, s)
		}
	}
	return strings.Join(said, ", ")
}

// most is the largest fleet and load, in workers, that is taken for real.
const most = 1_000_000

// Need finds the smallest fleet within the bounds that meets the objective for the load: steadily, at RateHigh, and with the
// backlog gone in time. A backlog counts only when it makes requests wait too long: as long as whoever joins the queue now is
// still answered in time, all workers being busy is no reason to scale out.
//
// It never guesses: what is missing, not finite or beyond belief gives an Answer that is not Known. A rate of 0 is a
// measurement like any other, and needs the minimum. The size never falls when the rate or the backlog rises, nor when the
// objective becomes stricter.
func (o *Objective) Need(l *Load) Answer {
	s := sizing{o: o, l: l}
	if cause := s.prepare(); cause != 0 {
		return Answer{Unknown: cause}
	}
	least, top, limit := o.Bounds.Min, o.Bounds.Max, AtMax
	if peak := o.Law.Peak(); peak > 0 && peak < top {
		top, limit = max(peak, least), AtPeak
	}
	a := Answer{Size: s.search(least, top), Unattainable: s.within > o.Within, Doubt: s.doubt()}
	if a.Size > o.Bounds.Min {
		a.Fewer = s.lack
	}
	now := l.Serving + l.Starting
	a.Chosen = s.predict(a.Size)
	a.Now = a.Chosen
	if now != a.Size {
		a.Now = s.predict(now)
	}
	if a.Size == top && !s.meets(top) {
		a.Limit = limit
	}
	return a
}

// sizing is one question on its way to an answer.
type sizing struct {
	o    *Objective
	l    *Load
	pool Pool // at the rate that decides; Workers varies
	load float64
	base blocking // of the workers that are too few
	// own is the service's quantile, within the objective that holds.
	own, within float64
	// backlog is what waits now, soon what will when those that start serve, and later when new ones do.
	backlog, soon, later float64
	// lack is that of the largest size that was found too small.
	lack Lack
	// alone is the share of the requests whose service alone takes longer than within.
	alone float64
	// tried are the responses of the sizes tried last.
	tried [4]sized
}

func (s *sizing) prepare() Cause {
	o, l := s.o, s.l
	switch {
	case !(o.Quantile > 0 && o.Quantile < 1), !positive(o.Within), !positive(o.Drain), !(o.Boot >= 0) || !finite(o.Boot),
		o.Bounds.Min < 1, o.Bounds.Max < o.Bounds.Min, o.Bounds.Max > most, !o.Law.valid():
		return NoObjective
	case l.Service == nil || !l.Service.Known():
		return NoService
	case l.Serving < 0, l.Starting < 0, l.Serving > most, l.Starting > most:
		return NoSize
	}
	rate := max(l.Rate, l.RateHigh) // NaN if either is
	s.pool = Pool{Rate: rate, Service: l.Service, Arrivals: l.Arrivals}
	s.load = s.pool.Load()
	if !(l.Rate >= 0) || !(s.load <= most) || !finite(rate) || !(l.Arrivals >= 0) || !finite(l.Arrivals) || math.IsInf(l.Backlog, 0) {
		return NoRate
	}
	s.base = s.base.at(min(int(s.load), o.Bounds.Max), s.load)
	s.own = l.Service.Quantile(o.Quantile)
	s.within = max(o.Within, s.own*1.02) // the histogram tells nothing finer apart
	s.alone = l.Service.tail(s.within)
	if l.Backlog > 0 {
		s.backlog = l.Backlog
	}
	arrive := o.Boot
	if l.Arrive > 0 {
		arrive = min(l.Arrive, o.Boot)
	}
	s.soon = max(s.backlog+(rate-float64(l.Serving)/l.Service.mean)*arrive, 0)
	s.later = max(s.soon+(rate-float64(l.Serving+l.Starting)/l.Service.mean)*(o.Boot-arrive), 0)
	if !(max(s.backlog, s.soon, s.later) <= most*most) {
		return NoRate
	}
	return 0
}

func positive(v float64) bool { return v > 0 && finite(v) }

// search finds the smallest size in least..top that meets the objective, or top. Larger sizes meet what smaller ones do, so it
// gallops from the present size, where the answer mostly is.
func (s *sizing) search(least, top int) int {
	if works := int(s.load) + 1; works > least {
		least, s.lack = min(works, top), LacksWork
	}
	low, high := least-1, top // low is too small, high is the answer unless something smaller is
	for at, step := min(max(s.l.Serving+s.l.Starting, least), top), 1; low < at && at < high; step *= 2 {
		if s.meets(at) {
			high = at
			at -= step
		} else {
			low = at
			at += step
		}
	}
	for high-low > 1 {
		if mid := low + (high-low)/2; s.meets(mid) {
			high = mid
		} else {
			low = mid
		}
	}
	return high
}

// meets reports whether n workers do, and otherwise notes what they lack.
func (s *sizing) meets(n int) bool {
	lack := s.lacks(n)
	if lack != 0 {
		s.lack = lack
	}
	return lack == 0
}

func (s *sizing) lacks(n int) Lack {
	if float64(n) <= s.load {
		return LacksWork
	}
	queue := s.queue(n)
	if s.clears(n, queue) > s.o.Drain && s.ahead(n, queue) > s.within-s.own {
		return LacksDrain
	}
	r := s.response(n)
	late := r.overrun(s.within)
	switch {
	case !(late <= 1-s.o.Quantile):
		return LacksQuantile
	case !s.seldom(n, late, r.decay):
		return LacksChance
	}
	return 0
}

// seldom reports whether chance makes at most the share Miss of the windows exceed the objective, when the share late of all requests does. Those that wait
// too long do so together, in spells while the queue is long. Were spells to come at random and to be exponentially long, b of a window on average, more than x
// of a window would be late in at most the share exp(-(sqrt(x) - sqrt(late))^2 / b) of them (Chernoff's bound); by simulation it is a quarter of that with
// b = 2/(decay (1-rho)) seconds. What the service alone makes late is left out on both sides: workers cannot cure it, nor its chances.
func (s *sizing) seldom(n int, late, decay float64) bool {
	if s.o.Miss == 0 || !(s.o.Window > 0) {
		return true
	}
	spell := 2 / (decay * (1 - s.load/float64(n)))
	room := math.Sqrt(max(1-s.o.Quantile-s.alone, 0)) - math.Sqrt(max(late-s.alone, 0))
	return room > 0 && room*room*s.o.Window >= -math.Log(4*s.o.Miss)*spell
}

// response is that of n workers, more than the load. Those whose response is predicted were mostly tried before.
func (s *sizing) response(n int) *response {
	r := &s.tried[n%len(s.tried)]
	if r.of == nil || r.workers != n {
		s.pool.Workers = n
		*r = sized{n, response{of: s.l.Service, delay: s.base.at(n, s.load).delay(s.load), decay: s.pool.decay()}}
	}
	return &r.response
}

// sized is the response of a number of workers.
type sized struct {
	workers int
	response
}

// queue is what waits when n workers come to serve: workers that have still to boot find what arrived meanwhile.
func (s *sizing) queue(n int) float64 {
	switch {
	case n <= s.l.Serving:
		return s.backlog
	case n <= s.l.Serving+s.l.Starting:
		return s.soon
	}
	return s.later
}

// clears is how long n workers need to work off a queue while more arrives, and ahead is how long a request that joins it waits.
func (s *sizing) clears(n int, queue float64) float64 {
	surplus := float64(n) - s.load // workers
	switch {
	case surplus <= 0:
		return math.Inf(1)
	case queue == 0:
		return 0
	}
	return queue * s.l.Service.mean / surplus
}

func (s *sizing) ahead(n int, queue float64) float64 {
	return queue * s.l.Service.mean / float64(n)
}

func (s *sizing) predict(n int) Prediction {
	p := Prediction{Workers: n}
	if n <= 0 {
		p.Utilization, p.Response, p.Drain = math.Inf(1), math.Inf(1), math.Inf(1)
		return p
	}
	p.Utilization = s.load / float64(n)
	queue := s.queue(n)
	p.Drain = s.clears(n, queue)
	if p.Utilization >= 1 {
		growth := (s.load - float64(n)) / s.l.Service.mean
		p.Response = s.own + s.ahead(n, s.backlog+growth*s.o.Boot)
		return p
	}
	p.Response = max(s.response(n).quantile(s.o.Quantile), s.own+s.ahead(n, queue))
	return p
}

// doubt lists what makes the prediction uncertain.
func (s *sizing) doubt() Doubt {
	var d Doubt
	l := s.l
	if l.Service.samples < s.o.MinSamples {
		d |= FewSamples
	}
	if l.RateSeen > 0 && s.pool.Rate > l.RateSeen {
		d |= RateUnseen
	}
	if l.Wait >= 0 && l.Serving > 0 && s.disagrees() {
		d |= WaitDisagrees
	}
	return d
}

// disagrees compares the wait as measured with that predicted for the workers that serve, at the rate as measured. Of waits
// that are small against the objective, or longer than it, no more is asked than that both are.
func (s *sizing) disagrees() bool {
	predicted := math.Inf(1)
	if now := (Pool{s.l.Serving, s.l.Rate, s.l.Service, s.l.Arrivals}); now.Stable() {
		predicted = now.Wait()
	}
	factor := s.o.Disagreement
	if !(factor > 1) {
		factor = 3
	}
	small, large := min(s.l.Wait, predicted), min(max(s.l.Wait, predicted), s.within)
	return large > s.within/10 && large > small*factor
}
