package sim

import (
	"math"
	"slices"
	"time"

	"tidemark/internal/decide/policy"
	"tidemark/internal/decide/queueing"
	"tidemark/internal/decide/signal"
	"tidemark/internal/fleet"
)

// fluid is the fleet by its rates. While the workers can do what comes, the queue is that of an M/G/c pool at the present rate
// (package queueing: Erlang C, and the exponential tail of the wait). Where they cannot, what is left over waits as a fluid that
// rises and falls by the difference, and delays all by backlog x service / workers. Responses over a window are the mixture of the
// distributions of its moments, weighted by the requests. A worker that leaves is gone at once.
//
// What a policy reads of rates and of the workers' time varies as it would by chance: arrivals like Poisson's, their work as the
// services do. Quantiles are those of very many requests; where no model needs them each tick, they are read anew once a period.
type fluid struct {
	*run
	workers  int       // that serve
	step     float64   // of the load, seconds
	ready    []float64 // when those that boot will serve
	backlog  float64   // requests beyond what the workers can do
	services []*served
	serving  *served // now
	random   *Random
	normal   [cells]float64 // quantiles of a normal variate
	requests float64
	start    int64      // of the run, in nanoseconds since 1970
	always   bool       // quantiles are read each tick
	read     []quantile // of the probes, as last read

	present segment // that goes on, met at a rate by some workers
	rate    float64
	of      int
	by      *served
	past    []segment // oldest first, those of the longest window
	gone    int       // segments dropped from past
	windows []mixture
	over    []int // of windows: the objective's, then by probe
	// late and lateWait are all that met a backlog.
	late, lateWait mixture
}

// quantile is one that was read, and of how many requests.
type quantile struct {
	value   float64
	samples uint64
	chance  float64 // of the sample, in standard deviations
}

// segment is a stretch of requests that were alike.
type segment struct {
	of    *profile
	delay float64 // by a backlog, seconds
	n     float64 // requests
	end   float64
}

// served is the service with a factor on it, and what pools make of it.
type served struct {
	factor   float64
	service  queueing.Service
	cv       float64
	profiles [][]*profile // by workers, and fullness
}

// profile is a pool in its steady state.
type profile struct {
	response, wait spread
	queued         float64 // requests that wait
	n              float64 // requests that met it without a backlog
}

// spread is a distribution by cells of an eighth of an octave; only those from lo on are there.
type spread struct {
	lo    int
	share []float64
}

const (
	spreadShift  = 52 - 3
	spreadLowest = (1023 - 16) << 3 // 2^-16 s, 15 microseconds
	spreadCells  = 32 << 3          // to 2^16 s, 18 hours
)

// spreadCell is the cell of a time.
func spreadCell(v float64) int {
	return min(max(int(math.Float64bits(max(v, 0))>>spreadShift)-spreadLowest, 0), spreadCells-1)
}

// spreadEdge is the lower edge of a cell; the first begins at 0.
func spreadEdge(i int) float64 {
	if i == 0 {
		return 0
	}
	return math.Float64frombits(uint64(i+spreadLowest) << spreadShift)
}

// spreadOf makes a distribution of its tail, P(T > t).
func spreadOf(tail func(t float64) float64) spread {
	s := spread{lo: spreadCells}
	above := 1.0
	for i := range spreadCells {
		next := tail(spreadEdge(i + 1))
		if i == spreadCells-1 || next < 1e-7 {
			next = 0
		}
		if w := above - next; w > 0 && s.lo == spreadCells {
			s.lo = i
		}
		if i >= s.lo {
			s.share = append(s.share, above-next)
		}
		if above = next; above == 0 {
			break
		}
	}
	return s
}

// mixture is a distribution over a sliding window.
type mixture struct {
	of     Reads
	length float64
	tail   int // the oldest segment in it, counted from the first ever
	n      float64
	lo, hi int // no other cells were ever met
	count  [spreadCells]float64
}

// add takes in a segment, or out when sign is -1.
func (m *mixture) add(s *segment, sign float64) {
	n := sign * s.n
	m.n += n
	from := &s.of.response
	switch m.of {
	case WaitTime:
		from = &s.of.wait
	case ServiceTime: // is known
		return
	default:
	}
	first, last := from.lo, from.lo+len(from.share)
	if s.delay > 0 {
		first, last = spreadCell(spreadEdge(first)+s.delay), spreadCell(spreadEdge(last)+s.delay)+1
	}
	if m.hi == 0 {
		m.lo = first
	}
	m.lo, m.hi = min(m.lo, first), max(m.hi, last)
	if s.delay == 0 {
		into := m.count[first:last]
		for i, w := range from.share {
			into[i] += n * w
		}
		return
	}
	for i, w := range from.share {
		m.count[spreadCell((spreadEdge(from.lo+i)+spreadEdge(from.lo+i+1))/2+s.delay)] += n * w
	}
}

// quantile is the time within which a share q of the requests ended.
func (m *mixture) quantile(q float64) float64 {
	above, rest := (1-q)*m.n, 0.0
	for i := m.hi - 1; i >= m.lo; i-- {
		c := m.count[i]
		if rest+c >= above && c > 0 {
			lo := spreadEdge(i)
			return lo + (spreadEdge(i+1)-lo)*(1-(above-rest)/c)
		}
		rest += c
	}
	return spreadEdge(m.lo)
}

const (
	// fullest is the utilisation up to which a pool is taken to be in its steady state: beyond, that takes longer than loads last.
	fullest = 0.98
	// fineness is the width of the steps in log(1 - utilisation) that share a profile: the wait is right to half of it.
	fineness = 0.02
)

func newFluid(r *run, initial int) model {
	f := &fluid{run: r, workers: initial, step: r.Load.Step.Seconds(), late: mixture{of: ResponseTime}, lateWait: mixture{of: WaitTime}, random: NewRandom(r.Seed, "fluid"), start: r.Load.Start.UnixNano(), read: make([]quantile, len(r.Probes))}
	for i := range f.normal {
		f.normal[i] = math.Sqrt2 * math.Erfinv(2*(float64(i)+0.5)/cells-1)
	}
	for _, pol := range r.Policy.Policies {
		f.always = f.always || pol.SLO != nil || pol.Forecast != nil
	}
	for _, p := range append([]Probe{r.target}, r.Probes...) {
		f.over = append(f.over, f.window(&p))
	}
	return f
}

// window is that of a probe's quantiles; those of the same requests share one.
func (f *fluid) window(p *Probe) int {
	if !windowed(p.Reads) {
		return -1
	}
	of := mixture{of: p.Reads, length: p.Window.Seconds()}
	i := slices.IndexFunc(f.windows, func(m mixture) bool { return m.of == of.of && m.length == of.length })
	if i < 0 {
		i = len(f.windows)
		f.windows = append(f.windows, of)
	}
	return i
}

func (f *fluid) play(end float64, _ time.Time, t *tally) {
	if slow := f.Faults.slowed(f.now); f.serving == nil || f.serving.factor != slow {
		f.slowTo(slow)
	}
	t.paid = float64(f.workers+len(f.ready)) * (end - f.now)
	step := f.step
	for from := f.now; from < end; {
		i := int(from/step + 1e-9)
		if i >= len(f.Load.Rates) {
			break
		}
		to := min(float64(i+1)*step, end)
		for k := 0; k < len(f.ready); k++ {
			if ready := f.ready[k]; ready <= from {
				f.ready = append(f.ready[:k], f.ready[k+1:]...)
				f.workers++
				k--
			} else {
				to = min(to, ready)
			}
		}
		f.flow(f.Load.Rates[i], from, to, t)
		from = to
	}
	t.working, t.computing = t.busy/(end-f.now), t.busy
}

// flow plays a stretch with one rate and one number of workers.
func (f *fluid) flow(rate, from, to float64, t *tally) {
	s, span, workers := f.serving, to-from, float64(f.workers)
	mean := s.service.Mean()
	expected := rate * span
	f.requests += expected
	bits := f.random.Next()
	spread := math.Sqrt(expected)
	came := max(expected+spread*f.normal[bits>>(64-cellBits)], 0)
	t.arrived += came
	if f.backlog == 0 && rate*mean < workers {
		p := f.present.of
		if rate != f.rate || f.workers != f.of || f.present.delay > 0 || f.serving != f.by {
			p = s.profile(f.workers, rate*mean/workers)
			f.rate, f.of, f.by = rate, f.workers, f.serving
		}
		t.busy += min(max((came+spread*s.cv*f.normal[bits>>(64-2*cellBits)%cells])*mean, 0), workers*span)
		t.queued = p.queued
		f.meet(p, 0, expected, to)
		return
	}
	can := workers * span / mean
	before := f.backlog
	f.backlog = max(before+came-can, 0)
	done := before + came - f.backlog
	t.busy += min(done*mean, workers*span)
	t.queued = f.backlog
	f.meet(s.profile(f.workers, fullest), (before+f.backlog)/2*mean/workers, done, to)
}

// meet notes requests that ended.
func (f *fluid) meet(p *profile, delay, n, end float64) {
	if f.present.of != p || f.present.delay != delay {
		f.flush()
		f.present = segment{of: p, delay: delay}
	}
	f.present.n += n
	f.present.end = end
}

// flush ends the present segment.
func (f *fluid) flush() {
	s := &f.present
	if s.n > 0 {
		if s.delay == 0 {
			s.of.n += s.n
		} else {
			f.late.add(s, 1)
			f.lateWait.add(s, 1)
		}
		f.past = append(f.past, *s)
		for i := range f.windows {
			f.windows[i].add(s, 1)
		}
	}
	s.n = 0
}

// expire drops from a window what is older than it.
func (f *fluid) expire(m *mixture) {
	for m.tail-f.gone < len(f.past) && f.past[m.tail-f.gone].end <= f.now-m.length {
		m.add(&f.past[m.tail-f.gone], -1)
		m.tail++
	}
	if m.tail-f.gone == len(f.past) { // nothing is left, to the last bit
		*m = mixture{of: m.of, length: m.length, tail: m.tail}
	}
	oldest := m.tail
	for i := range f.windows {
		oldest = min(oldest, f.windows[i].tail)
	}
	if drop := oldest - f.gone; drop > 1024 {
		f.past = append(f.past[:0], f.past[drop:]...)
		f.gone = oldest
	}
}

func (f *fluid) quantile(i int, p *Probe) (float64, uint64) {
	if i >= 0 && !f.always && !f.due(&f.Policy.Signals[i]) {
		return f.read[i].value, f.read[i].samples
	}
	f.flush()
	m := &f.windows[f.over[i+1]]
	f.expire(m)
	var out quantile
	if m.n >= 0.5 {
		out.samples = uint64(m.n + 0.5)
		if p.Reads == ServiceTime {
			out.value = f.serving.service.Quantile(p.Quantile)
		} else {
			out.value = m.quantile(f.sampled(i, p, m.n))
		}
	}
	if i >= 0 {
		f.read[i].value, f.read[i].samples = out.value, out.samples
	}
	return out.value, out.samples
}

// sampled is the share that a quantile of n samples may stand for: it varies by sqrt(q(1-q)/n), and a reading whose window overlaps with
// that of the one before varies with it.
func (f *fluid) sampled(i int, p *Probe, n float64) float64 {
	if i < 0 {
		return p.Quantile
	}
	kept := max(1-float64(f.Policy.Signals[i].Period)/float64(p.Window), 0)
	z := &f.read[i].chance
	*z = kept**z + math.Sqrt(1-kept*kept)*f.normal[f.random.Next()>>(64-cellBits)]
	return min(max(p.Quantile+*z*math.Sqrt(p.Quantile*(1-p.Quantile)/n), 0), 1-1e-6)
}

// due reports whether a signal's period ends with this tick.
func (f *fluid) due(s *policy.Signal) bool {
	into := (f.start + int64(f.now*1e9+0.5)) % int64(s.Period)
	return !s.FromSource || into == 0 || into+int64(f.Tick) > int64(s.Period)
}

func (f *fluid) size() fleet.Size {
	starting := 0
	for _, ready := range f.ready {
		if ready > f.now {
			starting++
		}
	}
	return fleet.Size{Known: true, Serving: f.workers + len(f.ready) - starting, Starting: starting}
}

func (f *fluid) add(ready float64) { f.ready = append(f.ready, ready) }

// remove takes out a worker that serves, as the one that is free first.
func (f *fluid) remove() {
	if f.workers > 0 {
		f.workers--
	} else {
		f.ready = f.ready[1:]
	}
}

// slowTo changes the service times.
func (f *fluid) slowTo(factor float64) {
	f.flush()
	for _, s := range f.services {
		if s.factor == factor {
			f.serving = s
			return
		}
	}
	s := &served{factor: factor}
	s.service.Assume(func(q float64) float64 { return factor * f.Service.quantile(q) }, factor*f.Service.mean)
	s.cv = math.Sqrt(1 + s.service.SCV())
	f.services = append(f.services, s)
	f.serving = s
}

// profile is the pool in its steady state.
func (s *served) profile(workers int, utilisation float64) *profile {
	at := int(-math.Log1p(-min(utilisation, fullest)) / fineness)
	for workers >= len(s.profiles) {
		s.profiles = append(s.profiles, nil)
	}
	for at >= len(s.profiles[workers]) {
		s.profiles[workers] = append(s.profiles[workers], nil)
	}
	p := s.profiles[workers][at]
	if p == nil {
		middle := -math.Expm1(-(float64(at) + 0.5) * fineness)
		pool := queueing.Pool{Workers: workers, Rate: middle * float64(workers) / s.service.Mean(), Service: &s.service}
		p = &profile{response: spreadOf(pool.ResponseTail), wait: spreadOf(pool.WaitTail), queued: pool.Rate * pool.Wait()}
		s.profiles[workers][at] = p
	}
	return p
}

func (f *fluid) finish(r *Result) {
	f.flush()
	for _, s := range f.services {
		for _, pools := range s.profiles {
			for _, p := range pools {
				if p != nil && p.n > 0 {
					f.late.add(&segment{of: p, n: p.n}, 1)
					f.lateWait.add(&segment{of: p, n: p.n}, 1)
				}
			}
		}
	}
	r.Requests = uint64(f.requests + 0.5)
	f.late.write(&r.Response)
	f.lateWait.write(&r.Wait)
}

// write puts a mixture into a histogram, each cell evenly into four; of more requests than its buckets can count, a share.
func (m *mixture) write(h *signal.Histogram) {
	scale := min(1, float64(math.MaxUint32)/max(m.n, 1))
	sum, written := 0.0, uint64(0)
	for i, c := range m.count {
		lo := spreadEdge(i)
		width := spreadEdge(i+1) - lo
		for k := range 4 {
			sum += max(c, 0) * scale / 4
			n := uint64(sum) - written
			written += n
			h.RecordN(lo+width*(float64(k)+0.5)/4, uint32(n))
		}
	}
}
