package engine

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"tidemark/internal/decide/forecast"
	"tidemark/internal/decide/policy"
	"tidemark/internal/decide/queueing"
	"tidemark/internal/fleet"
)

// SLOState is what an objective's policy remembers.
type SLOState struct {
	Key string `json:"key"` // tells after a reload whether it is still the same policy
	// Trend is of the measured rate; Seen is the highest ever.
	Trend forecast.Trend `json:"trend"`
	Seen  float64        `json:"seen"`
	// Service are the service time's quantiles as measured, smoothed, seconds, in the policy's order; 0: never. Measured is when they last were.
	Service  []float64 `json:"service"`
	Measured time.Time `json:"measured,omitzero"`
	// Busy and Load are the workers that were busy and the requests a second that made them so, smoothed alike.
	Busy float64 `json:"busy,omitempty"`
	Load float64 `json:"load,omitempty"`
	// Bursts is the dispersion of the arrivals, smoothed: 1 for Poisson, and taken for no less.
	Bursts  float64 `json:"bursts"`
	Waiting float64 `json:"waiting"` // the backlog of the tick before
	// Factor is by how much more load the fleet behaves as if it had than the model reckons with: 1 to 2, learned from latency
	// above the objective that the model does not explain.
	Factor    float64   `json:"factor"`
	Predicted Peak      `json:"predicted"` // responses predicted, over the objective's own window
	Needs     Peak      `json:"needs"`     // over the time to settle and a boot
	Asked     time.Time `json:"asked,omitzero"`
	Serving   int       `json:"serving"`         // at the tick before,
	Steady    time.Time `json:"steady,omitzero"` // and since when
	Last      time.Time `json:"last,omitzero"`   // tick
	// Proposal is this tick's, and Alone is the size that would be if this policy alone decided.
	Proposal Proposal `json:"proposal"`
	Alone    Path     `json:"alone"`

	service queueing.Service
	points  []queueing.Quantile
	fitted  []float64 // what service was made of
}

// Proposal is what a policy with a model asks for.
type Proposal struct {
	Known bool        `json:"known"`          // unless, only Doubt means anything
	Size  int         `json:"size"`           // below the present size only when nothing is in doubt; may be above the maximum
	Need  int         `json:"need"`           // of this moment
	Doubt string      `json:"doubt,omitzero"` // why it must not scale in
	Model fleet.Model `json:"model"`
}

// Doubts that are not queueing's.
const (
	doubtTrend   = "the rate was not measured for long enough"
	doubtService = "too few service times were measured"
	doubtSettle  = "its need was not watched for long enough"
	doubtSlower  = "the fleet is slower than predicted"
)

const (
	// serviceMemory is how long a service time counts that cannot be measured anew, because too few requests come.
	serviceMemory = 24 * time.Hour
	// half of what is made of a service time is of the latest serviceSmooth, but it is never farther than a factor serviceOff from what was measured last: the quantiles
	// of some hundred requests vary as much by chance, and a fleet would follow them.
	serviceSmooth, serviceOff = 15 * time.Minute, 1.5
	// slower is by how much a latency may exceed the prediction.
	slower = 1.5
	// factorLimit bounds Factor. Within a window of the objective it grows by a quarter, and in six hours half of it fades.
	factorLimit  = 2.0
	factorGrowth = 1.25
	factorFade   = 6 * time.Hour
	// unseen is how far above the highest rate ever measured a load is still known ground.
	unseen = 1.1
	// burstMost bounds what is made of the dispersion; half of it is of the latest 10 minutes.
	burstMost   = 4.0
	burstMemory = 10 * time.Minute
	// busyMemory is how far back half of what is made of the busy workers reaches.
	busyMemory = 5 * time.Minute
	// missed and pressing are queueing.Objective's Miss: a fleet is sized so that chance makes one window in twenty miss the objective, and adds when it would be
	// one in seven. Between the two it stays as it is, or chance would move it at every tick.
	missed, pressing = 0.05, 0.15
	// never stands in for a response that has no bound, which JSON cannot write.
	never = 1e9
)

func sloKey(p *policy.Fleet, pol *policy.Policy) string {
	var names []string
	for _, i := range pol.SLO.Signals() {
		names = append(names, fmt.Sprintf("%s %v %g", p.Signals[i].Name, p.Signals[i].Statistic, p.Signals[i].Q))
	}
	return pol.ID + "/" + strings.Join(names, ", ")
}

// fitSLOs keeps what is remembered of policies that are still the same.
func (s *State) fitSLOs(p *policy.Fleet) {
	var out []SLOState
	for i := range p.Policies {
		pol := &p.Policies[i]
		if pol.SLO == nil {
			continue
		}
		now := SLOState{Key: sloKey(p, pol), Factor: 1, Bursts: 1}
		if i := slices.IndexFunc(s.SLOs, func(old SLOState) bool { return old.Key == now.Key }); i >= 0 {
			now = s.SLOs[i]
		}
		n := len(pol.SLO.Service)
		if pol.SLO.Busy >= 0 {
			n = len(exponential)
		}
		if len(now.Service) != n {
			now.Service = make([]float64, n)
		} else {
			now.Service = slices.Clone(now.Service)
		}
		now.points, now.fitted = nil, nil
		out = append(out, now)
	}
	s.SLOs = out
}

func (m *SLOState) clone() SLOState {
	c := *m
	c.Service = slices.Clone(m.Service)
	c.Alone.Recent = slices.Clone(m.Alone.Recent)
	c.points, c.fitted = nil, nil
	return c
}

func (m *SLOState) shift(d time.Duration) {
	m.Trend.Shift(d)
	m.Predicted.shift(d)
	m.Needs.shift(d)
	m.Alone.shift(d)
	for _, t := range []*time.Time{&m.Measured, &m.Asked, &m.Steady, &m.Last} {
		shift(t, d)
	}
}

// eachSLO visits the objectives in the order of their states.
func (s *State) eachSLO(p *policy.Fleet, visit func(*policy.Policy, *SLOState)) {
	at := 0
	for i := range p.Policies {
		if p.Policies[i].SLO != nil {
			visit(&p.Policies[i], &s.SLOs[at])
			at++
		}
	}
}

// sizing is one objective at one tick.
type sizing struct {
	p     *policy.Fleet
	slo   *policy.SLO
	s     *State
	m     *SLOState
	now   time.Time
	doubt string // the first found
	surge bool   // the rate has just jumped
}

// predict brings the objectives' proposals up to date.
func (s *State) predict(p *policy.Fleet, in *Input) {
	at := 0
	for i := range p.Policies {
		if p.Policies[i].SLO == nil {
			continue
		}
		m := &s.SLOs[at]
		at++
		z := sizing{p: p, slo: p.Policies[i].SLO, s: s, m: m, now: in.Now}
		z.measure()
		z.propose(in.Size)
		m.Last = in.Now
	}
}

func (z *sizing) reading(i int) fleet.Reading { return z.s.Signals[i].Last }

func (z *sizing) question(doubt string) {
	if z.doubt == "" {
		z.doubt = doubt
	}
}

// measure takes in the rate and the service time.
func (z *sizing) measure() {
	m := z.m
	if r := z.reading(z.slo.Rate); r.Quality == fleet.Fresh && r.Value >= 0 {
		// Windows must not overlap, or what is one burst looks like several. A tick may be a little early.
		window := z.p.Signals[z.slo.Rate].Window
		if z.now.Sub(m.Trend.Newest()) >= window-window/8 {
			m.Trend.Observe(z.now, window, r.Value*window.Seconds())
			m.Seen = max(m.Seen, r.Value)
			if d := m.Trend.Dispersion(); d >= 0 {
				m.Bursts += (min(d, burstMost) - m.Bursts) * (1 - math.Exp2(-window.Seconds()/burstMemory.Seconds()))
			}
		}
	}
	fade := z.fade(serviceSmooth)
	for i, sig := range z.slo.Service {
		if r := z.reading(sig); r.Quality == fleet.Fresh && r.Value > 0 {
			m.Service[i], m.Measured = smooth(m.Service[i], r.Value, fade), z.now
		}
	}
	if z.slo.Busy >= 0 {
		z.infer()
	}
	if m.fitted == nil || !slices.Equal(m.fitted, m.Service) {
		m.fitted = append(m.fitted[:0], m.Service...)
		m.points = m.points[:0]
		for i, v := range m.Service {
			if v > 0 {
				m.points = append(m.points, queueing.Quantile{Q: z.quantile(i), Time: v})
			}
		}
		m.service.Fit(m.points)
	}
}

// fade is what stays, since the tick before, of a figure of which half is of the latest such time; 0 at the first tick.
func (z *sizing) fade(half time.Duration) float64 {
	if z.m.Last.IsZero() {
		return 0
	}
	return math.Exp2(-max(z.now.Sub(z.m.Last), 0).Seconds() / half.Seconds())
}

// smooth makes one of a service time as it was taken for, 0: not yet, of which fade is left, and as it is measured now.
func smooth(before, now, fade float64) float64 {
	if before <= 0 {
		return now
	}
	return min(max(now*math.Pow(before/now, fade), now/serviceOff), now*serviceOff)
}

// exponential are the quantiles of an exponential distribution with a mean of 1.
var exponential = [...]queueing.Quantile{{Q: 0.5, Time: math.Ln2}, {Q: 0.95, Time: 2.9957}, {Q: 0.99, Time: 4.6052}}

// quantile is the share of the requests that m.Service[i] speaks of.
func (z *sizing) quantile(i int) float64 {
	if z.slo.Busy >= 0 {
		return exponential[i].Q
	}
	return z.p.Signals[z.slo.Service[i]].Q
}

// infer takes the mean service time from Little's law: workers that are busy = rate x service time, on average. How it varies is
// not seen so; it is taken as exponential.
func (z *sizing) infer() {
	m, busy, rate := z.m, z.reading(z.slo.Busy), z.reading(z.slo.Rate)
	if busy.Quality != fleet.Fresh || rate.Quality != fleet.Fresh || busy.Value < 0 || rate.Value < 0 {
		return
	}
	fade := z.fade(busyMemory)
	m.Busy, m.Load = fade*m.Busy+(1-fade)*busy.Value, fade*m.Load+(1-fade)*rate.Value
	if !(m.Busy > 0 && m.Load > 0) {
		return
	}
	for i, e := range exponential {
		m.Service[i] = e.Time * m.Busy / m.Load
	}
	m.Measured = z.now
}

// propose asks for a size; a size that is not known gives none.
func (z *sizing) propose(size fleet.Size) {
	m := z.m
	m.Proposal = Proposal{}
	if z.unreadable() {
		m.Proposal.Doubt = z.doubt
		return
	}
	if !size.Known {
		return
	}
	o := queueing.Objective{
		Quantile: z.p.Signals[z.slo.Objective].Q, Within: z.slo.Within, Drain: z.slo.Drain.Seconds(), Boot: z.boot().Seconds(),
		Bounds: z.p.Bounds, Law: queueing.Law{Contention: z.slo.Contention, Coherence: z.slo.Coherence},
	}
	o.Bounds.Max *= 2 // how short the maximum is, is worth knowing; the bounds are a safeguard's business
	o.Window, o.Miss = z.p.Signals[z.slo.Objective].Window.Seconds(), missed
	l := queueing.Load{Serving: size.Serving, Starting: size.Starting, Arrive: z.arrive(), Arrivals: max(m.Bursts, 1), Service: &m.service, Wait: math.NaN()}
	measured := z.rate(&l)
	z.backlog(&l)
	z.calibrate(size, &l, &o)
	l.Rate, l.RateHigh = l.Rate*m.Factor, l.RateHigh*m.Factor
	a := o.Need(&l)
	if !a.Known() {
		m.Proposal.Doubt = a.Unknown.String()
		return
	}
	if a.Doubt != 0 {
		z.question(a.Doubt.String())
	}
	if current := size.Workers(); a.Size > current && current >= z.p.Bounds.Min {
		o.Miss = pressing
		if least := o.Need(&l); least.Size <= current {
			a = least // not yet: what comes then comes in one step
			a.Size, a.Fewer = current, 0
		}
	}
	z.watch(size, &a)
	z.settle(size, &a)
	model := &m.Proposal.Model
	*model = fleet.Model{
		Quantile: o.Quantile, Rate: max(l.Rate, l.RateHigh), Measured: measured, Service: m.service.Mean(),
		Utilization: min(a.Now.Utilization, never), Now: min(a.Now.Response, never), Then: min(a.Chosen.Response, never),
	}
	switch {
	case m.Proposal.Size == a.Size:
		model.Why = a.Fewer.String()
	case m.Proposal.Size == int(m.Needs.max()):
		model.Why = "as many were needed lately"
	}
	if l.Backlog > 0 { // and measured
		model.Backlog = l.Backlog
	}
	switch {
	case a.Unattainable:
		model.Limit = "the service alone takes longer than the objective, which more workers cannot cure"
	case a.Limit == queueing.AtPeak:
		model.Limit = "more workers would do less, by the law of their shared database"
	}
}

// unreadable finds what the model cannot be without, and doubts what it cannot be checked against.
func (z *sizing) unreadable() bool {
	if q := z.reading(z.slo.Rate).Quality; q != fleet.Fresh {
		z.question(doubtRate[q])
		return true
	}
	lost := false
	for _, i := range z.slo.Service {
		q := z.reading(i).Quality
		lost = lost || q < fleet.Sparse
	}
	if z.slo.Busy >= 0 {
		lost = z.reading(z.slo.Busy).Quality < fleet.Sparse
	}
	switch {
	case lost:
		z.question("the service time is missing or stale")
	case !z.m.service.Known() || z.now.Sub(z.m.Measured) > serviceMemory:
		z.question(doubtService)
		return true
	}
	if z.reading(z.slo.Objective).Quality < fleet.Sparse {
		z.question("the latency is missing or stale, so the prediction cannot be checked")
	}
	return !z.m.service.Known()
}

var doubtRate = [...]string{fleet.Missing: "the rate is missing", fleet.Stale: "the rate is stale", fleet.Sparse: "the rate is not measured yet", fleet.Fresh: ""}

// boot is how long a new worker takes.
func (z *sizing) boot() time.Duration {
	if z.s.Boot > 0 {
		return z.s.Boot
	}
	return z.slo.Boot
}

// arrive is in how many seconds those serve that start, on average.
func (z *sizing) arrive() float64 {
	a := z.s.Action
	if a == nil || a.Begun.IsZero() {
		return 0
	}
	return max(z.boot()-z.now.Sub(a.Begun), time.Second).Seconds()
}

// rate fills in what is expected when a worker decided on now will serve, and returns what was measured.
func (z *sizing) rate(l *queueing.Load) float64 {
	m, newest := z.m, z.reading(z.slo.Rate).Value
	ahead := m.Trend.Ahead(z.now, z.boot()+z.p.Signals[z.slo.Rate].Window)
	if !ahead.Known {
		z.question(doubtTrend)
		l.Rate = newest
		return newest
	}
	l.Rate, l.RateHigh, z.surge = ahead.Expected, ahead.High, ahead.Surge
	if l.Rate > m.Seen*unseen {
		z.question(queueing.RateUnseen.String())
	}
	return newest
}

// backlog takes what waited through a whole tick: that all workers are busy for a moment is no reason to add one, unless the load has just jumped.
func (z *sizing) backlog(l *queueing.Load) {
	l.Backlog = math.NaN()
	if z.slo.Backlog < 0 {
		return
	}
	r := z.reading(z.slo.Backlog)
	if r.Quality != fleet.Fresh {
		z.question("the backlog is not measured")
		z.m.Waiting = 0
		return
	}
	l.Backlog = r.Value
	if !z.surge {
		l.Backlog = min(r.Value, z.m.Waiting)
	}
	z.m.Waiting = r.Value
}

// calibrate compares the latency as measured with what was predicted over the same window. Latency above the objective that the
// model does not see, with as many workers as it asks for, makes it reckon with more load.
func (z *sizing) calibrate(size fleet.Size, l *queueing.Load, o *queueing.Objective) {
	m, window := z.m, z.p.Signals[z.slo.Objective].Window
	dt := min(max(z.now.Sub(m.Last), 0), window).Seconds()
	m.Factor = 1 + (m.Factor-1)*math.Exp2(-dt/factorFade.Seconds())
	latency, predicted := z.reading(z.slo.Objective), m.Predicted.max()
	if latency.Quality != fleet.Fresh || !m.Predicted.covers(z.now, window) {
		return
	}
	if latency.Value > slower*predicted && latency.Value > z.slo.Within/2 {
		z.question(doubtSlower)
	}
	if size.Serving != m.Serving {
		m.Serving, m.Steady = size.Serving, z.now // the latency is still that of the fleet before
	}
	explained := predicted > z.slo.Within || l.Service.Quantile(o.Quantile) > z.slo.Within
	if latency.Value > z.slo.Within && !explained && int(m.Needs.max()) <= size.Serving && z.now.Sub(m.Steady) >= window {
		m.Factor = min(m.Factor*math.Pow(factorGrowth, dt/window.Seconds()), factorLimit)
	}
}

// watch remembers the response predicted for the workers that serve.
func (z *sizing) watch(size fleet.Size, a *queueing.Answer) {
	predicted := min(a.Now.Response, never)
	if size.Starting > 0 {
		predicted = never // until they serve, the prediction is of a fleet that is not there yet
	}
	z.m.Predicted.push(z.now, z.p.Signals[z.slo.Objective].Window, predicted)
}

// settle makes a proposal of the need: what is needed now when that is more, what was needed lately when it is less.
func (z *sizing) settle(size fleet.Size, a *queueing.Answer) {
	m, current := z.m, size.Workers()
	within := z.slo.Settle + z.boot() // so much longer it takes to have back what was removed too early
	m.Needs.push(z.now, within, float64(a.Size))
	if !m.Needs.covers(z.now, within) {
		z.question(doubtSettle)
	}
	p := &m.Proposal
	p.Known, p.Need, p.Size, p.Doubt = true, a.Size, current, z.doubt
	lately := int(m.Needs.max())
	m.Alone.follow(z.p, z.now, current, a.Size, lately, p.Doubt == "")
	switch {
	case a.Size > current:
		p.Size = a.Size
	case lately < current && p.Doubt == "":
		p.Size = lately
	}
	if a.Size <= current {
		m.Asked = time.Time{}
	} else if m.Asked.IsZero() {
		m.Asked = z.now
	}
}

// objectives hears the policies that hold a service level.
func (c *chain) objectives(out, in int, anyIn bool) (int, int, bool) {
	c.s.eachSLO(c.p, func(pol *policy.Policy, m *SLOState) {
		p := &m.Proposal
		if pol.Mode == fleet.Off || !p.Known || p.Size == c.from {
			return
		}
		reason := c.objective(pol, m)
		reason.Size = p.Size
		switch {
		case pol.Mode == fleet.Shadow:
			reason.Code = fleet.SLOShadow
		case p.Size > c.from:
			reason.Code = fleet.SLOOut
			if p.Size > out {
				out, c.breach, c.alarm, c.modelled = p.Size, m.Asked, m.Asked, true
			}
		default:
			reason.Code = fleet.SLOIn
			in, anyIn = max(in, p.Size), true
		}
		c.add(reason)
	})
	return out, in, anyIn
}

func (c *chain) objective(pol *policy.Policy, m *SLOState) fleet.Reason {
	sig := &c.p.Signals[pol.SLO.Objective]
	return fleet.Reason{Policy: pol.ID, Signal: sig.Name, Unit: sig.Unit, Threshold: pol.SLO.Within, Note: m.Proposal.Doubt, Model: m.Proposal.Model}
}

// objections lists the objectives that do not agree to a smaller fleet, and reports whether there are none.
func (c *chain) objections() bool {
	agreed := true
	c.s.eachSLO(c.p, func(pol *policy.Policy, m *SLOState) {
		p := &m.Proposal
		if pol.Mode == fleet.Off || pol.Mode == fleet.Shadow || p.Known && p.Size != c.from {
			return
		}
		reason := c.objective(pol, m)
		reason.Code, reason.Size, reason.Limit = fleet.SLONeeds, c.from, p.Need
		if p.Known && p.Need < c.from {
			reason.Limit = min(int(m.Needs.max()), c.from)
		}
		if !p.Known || p.Doubt != "" && p.Need < c.from {
			reason.Code = fleet.SLOUncertain
		}
		c.add(reason)
		agreed = false
	})
	return agreed
}
