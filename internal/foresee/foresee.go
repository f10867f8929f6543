// Package foresee says what a policy would do before it is switched on. It turns a configuration and a load into a plan
// for the simulator (sim), and many runs into one forecast. It has no rules of its own: what decides is engine.Step.
package foresee

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"tidemark/internal/config"
	"tidemark/internal/decide/policy"
	"tidemark/internal/decide/queueing"
	"tidemark/internal/decide/signal"
	"tidemark/internal/fleet"
	"tidemark/internal/foresee/load"
	"tidemark/internal/foresee/peer"
	"tidemark/internal/foresee/sim"
	"tidemark/internal/observe/accesslog"
	haproxystats "tidemark/internal/observe/haproxy"
	"tidemark/internal/observe/listenqueue"
	"tidemark/internal/observe/pgbouncer"
	"tidemark/internal/observe/procfs"
	"tidemark/internal/observe/proxystats"
)

// Work is what the fleet's requests are like, and its workers.
type Work struct {
	Service time.Duration // mean service time, without the wait
	CV      float64       // its coefficient of variation
	// Quantile, unless nil, are measured service times, in seconds, in the place of a lognormal law with this mean and CV.
	Quantile func(q float64) float64
	Site     *sim.Site     // unless nil, it says what requests are, in place of the three before
	CPU      float64       // the share of it in which the worker computes, 0..1; with a Site, of what is not the database's
	Boot     time.Duration // from an action's start until the worker serves
}

// Law is that of the service times, for the simulator.
func (w *Work) Law() *sim.Law {
	if w.Quantile != nil {
		return sim.NewLaw(w.Quantile, w.Service.Seconds())
	}
	return sim.Lognormal(w.Service.Seconds(), w.CV)
}

// Times are the service times, for the mathematics of queues.
func (w *Work) Times() *queueing.Service {
	s := &queueing.Service{}
	if w.Quantile != nil {
		s.Assume(w.Quantile, w.Service.Seconds())
		return s
	}
	sigma := math.Sqrt(math.Log1p(w.CV * w.CV))
	s.Assume(func(q float64) float64 {
		return w.Service.Seconds() * math.Exp(sigma*math.Sqrt2*math.Erfinv(2*q-1)-sigma*sigma/2)
	}, w.Service.Seconds())
	return s
}

// Check says what is wrong with it.
func (w *Work) Check() error {
	if w.Site == nil && (w.CV < 0 || w.Service <= 0) || w.CPU < 0 || w.CPU > 1 {
		return errors.New("a request's service time and its cv must be positive, its CPU share from 0 to 1")
	}
	return nil
}

// Assumption is a signal that the simulator does not know, and what it is taken to read.
type Assumption struct {
	Signal string  `json:"signal"`
	Value  float64 `json:"value"`
	Text   string  `json:"text"`
}

// Probes says what each signal of a fleet reads in the simulator. A signal that it does not know reads a figure at which none of
// its scale-out rules is in alarm and its scale-in rules agree, so that it decides nothing: it is listed.
func Probes(f *config.Fleet, w Work) (probes []sim.Probe, assumed []Assumption) {
	pool := map[string]sim.Reads{}
	if w.Site != nil && w.Site.Database.Connections > 0 {
		pool = map[string]sim.Reads{"cl_waiting": sim.PoolWaiting, "utilization": sim.PoolTaken}
	}
	for i, s := range f.Signals {
		sig := f.Policy.Signals[i]
		probe := sim.Probe{Quantile: sig.Q, Window: sig.Window}
		switch body := s.Body.(type) {
		case *procfs.Config:
			if body.Field == procfs.CPU {
				probe.Reads = sim.Computing
				probe.Value, probe.Window = w.CPU, 0 // since the reading before
			}
		case *accesslog.Config:
			probe.Reads = map[string]sim.Reads{"latency": sim.ResponseTime, "rate": sim.ArrivalRate}[body.Field]
			if w.Site != nil && body.Route != "" {
				if probe.Route = 1 + slices.IndexFunc(w.Site.Routes, func(r sim.Route) bool { return strings.TrimRight(r.Name, "/") == strings.TrimRight(body.Route, "/") }); probe.Route == 0 {
					probe.Reads = sim.Absent
				}
			}
		case *pgbouncer.Config:
			probe.Reads = pool[body.Field]
		case *proxystats.Config:
			probe.Reads = map[string]sim.Reads{
				"latency": sim.ResponseTime, "queue_time": sim.WaitTime, "service_time": sim.ServiceTime, "busy": sim.Utilisation, "rate": sim.ArrivalRate, "queued": sim.Queued,
				"in_flight": sim.InFlight,
			}[body.Field]
			probe.Value = 1
		case *haproxystats.Config:
			probe.Reads = map[string]sim.Reads{"queued": sim.Queued, "in_flight": sim.InFlight, "busy": sim.Utilisation, "rate": sim.ArrivalRate}[body.Field]
			probe.Value = 1
			if !body.Windowed() {
				probe.Window = 0
			}
		case *listenqueue.Config:
			probe.Reads = map[string]sim.Reads{listenqueue.Queued: sim.Queued, listenqueue.BusyWorkers: sim.Busy, listenqueue.BusyPercent: sim.Utilisation}[body.Field]
			probe.Value, probe.Window = 1, 0
		}
		if probe.Reads == sim.Absent {
			v := neutral(&f.Policy, i)
			probe = sim.Probe{Reads: sim.Constant, Value: v}
			assumed = append(assumed, Assumption{s.Name, v, fmt.Sprintf("%s (%s) is not simulated: taken to be %s all the time, where it asks for nothing", s.Name, s.Kind, sig.Unit.Format(v))})
		}
		probes = append(probes, probe)
	}
	return probes, assumed
}

// neutral is a value of a signal at which its rules ask for nothing, and nothing objects: neither rules, nor guards, nor budgets.
func neutral(p *policy.Fleet, signal int) float64 {
	for _, s := range p.Supplies {
		switch each := max(s.PerWorker, 1); {
		case s.PerWorker == 0 && s.Taken == signal:
			return each
		case slices.Contains(s.Free, signal):
			return s.Reserve + each*float64(p.Bounds.Max)
		}
	}
	low, high := math.Inf(-1), math.Inf(1) // of what scale-in rules agree with, and scale-out rules keep still at
	for _, pol := range p.Policies {
		for _, r := range pol.Rules {
			if r.Signal != signal {
				continue
			}
			upwards := r.Operator == fleet.AtLeast || r.Operator == fleet.Above
			if upwards == r.Out() { // high values scale out, or low ones in
				high = min(high, r.Threshold)
			} else {
				low = max(low, r.Threshold)
			}
		}
	}
	for _, g := range p.Guards {
		for _, c := range g.If {
			switch {
			case c.Signal != signal:
			case c.Operator == fleet.AtLeast || c.Operator == fleet.Above:
				high = min(high, c.Threshold, c.Release)
			default:
				low = max(low, c.Threshold, c.Release)
			}
		}
	}
	switch {
	case !math.IsInf(high, 1):
		return max(high/2, 0)
	case !math.IsInf(low, -1):
		return 2*low + 1
	}
	return 0
}

// Study is what to forecast: one fleet's policy under a load, over several seeds.
type Study struct {
	Name      string
	Fleet     *config.Fleet
	Tick      time.Duration
	Load      *load.Series
	Work      Work
	Objective sim.Objective
	Faults    sim.Faults
	Level     sim.Level
	Seeds     int
	Peer      *peer.Run // that sizes the fleet in its policy's place; nil: none
	// Progress, unless nil, is told how many runs are done. It may be called from several goroutines.
	Progress func(done, of int)
}

// Figure is a figure over the seeds: their mean, and the 95 % confidence interval of it; the interval is empty with one seed.
type Figure struct {
	Mean float64 `json:"mean"`
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// Moment is a stretch of the run, as in the first seed.
type Moment struct {
	Time        time.Time `json:"time"`
	Rate        float64   `json:"rate"`
	Size        float64   `json:"size"`
	Utilisation float64   `json:"utilisation"`
	P95         float64   `json:"p95"` // the worst; -1 where too few were served to say
	Queued      int       `json:"queued"`
	Failed      int       `json:"failed"`           // requests that were rejected or abandoned
	Database    float64   `json:"database_percent"` // of the most that it can do
}

// Cost is what the worker-hours cost.
type Cost struct {
	Figure
	Currency   string  `json:"currency"`
	WorkerHour float64 `json:"worker_hour"`
}

// Forecast is what came out.
type Forecast struct {
	Name        string           `json:"name"`
	Fleet       string           `json:"fleet"`
	Load        string           `json:"load"`
	Start       time.Time        `json:"start"`
	Duration    fleet.Duration   `json:"duration"`
	Seeds       int              `json:"seeds"`
	Level       sim.Level        `json:"level"` // of detail, that was played
	Requests    Figure           `json:"requests"`
	WorkerHours Figure           `json:"worker_hours"`
	MeanSize    Figure           `json:"mean_size"`
	Violations  Figure           `json:"violation_percent"` // of the minutes
	P95         Figure           `json:"p95_seconds"`
	P99         Figure           `json:"p99_seconds"`
	Cost        *Cost            `json:"cost,omitempty"` // where the configuration has prices
	Ups         Figure           `json:"scale_ups"`
	Downs       Figure           `json:"scale_downs"`
	Least       int              `json:"least"`
	Most        int              `json:"most"`
	Queue       int              `json:"longest_queue"`
	Around      *Around          `json:"site,omitempty"` // where the work describes one
	Assumed     []Assumption     `json:"assumed"`
	Moments     []Moment         `json:"moments"`
	Decisions   []fleet.Decision `json:"decisions"` // of the first seed
}

// rows is how many moments a forecast has at most.
const rows = 400

// maxDecisions bounds those that are kept; their number is told whatever it is.
const maxDecisions = 5000

// Run makes the study's runs, on all cores.
func (st Study) Run() (*Forecast, error) {
	if err := st.Work.Check(); err != nil {
		return nil, err
	}
	probes, assumed := Probes(st.Fleet, st.Work)
	out := &Forecast{
		Name: st.Name, Fleet: st.Fleet.Name, Load: st.Load.Name, Start: st.Load.Start, Duration: fleet.Duration(st.Load.Duration()), Seeds: max(st.Seeds, 1),
		Assumed: assumed, Moments: []Moment{}, Decisions: []fleet.Decision{},
	}
	if out.Assumed == nil {
		out.Assumed = []Assumption{}
	}
	law := st.Work.Law()
	runs, initial := &st.Fleet.Policy, 0
	if st.Peer != nil {
		runs, probes, initial, out.Assumed = st.Peer.Policy, st.Peer.Probes, st.Peer.Initial, []Assumption{}
	}
	results := make([]*sim.Result, out.Seeds)
	errs := make([]error, out.Seeds)
	var wg sync.WaitGroup
	var mu sync.Mutex
	done := 0
	slots := make(chan struct{}, runtime.NumCPU())
	for seed := range out.Seeds {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			p := sim.Plan{
				Policy: runs, Probes: probes, Initial: initial, Load: st.Load, Service: law, Site: st.Work.Site, Boot: st.Work.Boot, Tick: st.Tick, Target: st.Objective, Faults: st.Faults, Level: st.Level,
				Seed: uint64(seed) + 1,
			}
			if st.Peer != nil && st.Peer.Start != nil {
				p.Control = st.Peer.Start()
			}
			if seed == 0 {
				out.keep(&p)
			}
			results[seed], errs[seed] = sim.Run(p)
			mu.Lock()
			defer mu.Unlock()
			done++
			if st.Progress != nil {
				st.Progress(done, out.Seeds)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	out.Level = results[0].Level
	out.sum(results)
	if st.Work.Site != nil {
		out.around(st.Work.Site, results)
	}
	if b := st.Fleet.Budget; b.WorkerHour > 0 {
		h := out.WorkerHours
		out.Cost = &Cost{Figure{h.Mean * b.WorkerHour, h.Low * b.WorkerHour, h.High * b.WorkerHour}, b.Currency, b.WorkerHour}
	}
	return out, nil
}

// allowed is the share of the minutes that a clairvoyant may miss the objective by chance, in percent.
const allowed = 0.1

// Against makes the runs with a peer (package peer) in the policy's place, within the fleet's bounds. The clairvoyant reckons with as little
// more load than there is as keeps the objective in all but 0.1 % of the minutes.
func (st Study) Against(name string) (out *Forecast, err error) {
	if err := st.Work.Check(); err != nil {
		return nil, err
	}
	margins := []float64{1}
	if name == peer.Clairvoyant {
		if st.Work.Site != nil {
			return nil, errors.New("the clairvoyant reckons with requests of one kind: leave out the description of the work, and give a service time")
		}
		margins = peer.Margins
	}
	for _, margin := range margins {
		st.Peer, err = peer.New(name, peer.Condition{
			Bounds: st.Fleet.Policy.Bounds, Tick: st.Tick, Boot: st.Work.Boot, CPU: st.Work.CPU, Load: st.Load, Times: st.Work.Times(), Objective: st.Objective, Margin: margin,
		})
		if err != nil {
			return nil, err
		}
		st.Name = st.Peer.Name
		if out, err = st.Run(); err != nil || out.Violations.Mean <= allowed {
			break
		}
	}
	return out, err
}

// keep writes down the ticks and decisions of one run.
func (f *Forecast) keep(p *sim.Plan) {
	each := max(p.Load.Duration()/rows, p.Tick)
	var now Moment
	n := 0
	var end time.Time
	p.Each = func(s *sim.Sample) {
		if end.IsZero() {
			end, now.P95 = f.Start.Add(each), -1
		}
		n++
		now.Rate += s.Rate
		now.Size += float64(s.Size.Workers())
		now.Utilisation += s.Utilisation
		if !math.IsNaN(s.P95) && s.P95 > 0 {
			now.P95 = max(now.P95, s.P95)
		}
		now.Queued = max(now.Queued, s.Queued)
		now.Failed += s.Failed
		now.Database += s.Database
		if !s.Time.Before(end) {
			now.Time = end.Add(-each)
			now.Rate, now.Size, now.Utilisation = now.Rate/float64(n), now.Size/float64(n), now.Utilisation/float64(n)
			now.Database /= float64(n)
			f.Moments = append(f.Moments, now)
			now, n, end = Moment{P95: -1}, 0, end.Add(each)
		}
	}
	p.Decided = func(d *fleet.Decision) {
		if len(f.Decisions) < maxDecisions {
			c := *d
			c.Reasons = slices.Clone(d.Reasons)
			f.Decisions = append(f.Decisions, c)
		}
	}
}

// sum takes the figures over all seeds.
func (f *Forecast) sum(results []*sim.Result) {
	figure := func(of func(*sim.Result) float64) Figure { return figure(results, of) }
	f.Requests = figure(func(r *sim.Result) float64 { return float64(r.Requests) })
	f.WorkerHours = figure(func(r *sim.Result) float64 { return r.WorkerHours })
	f.MeanSize = figure((*sim.Result).MeanSize)
	f.Violations = figure((*sim.Result).ViolationShare)
	quantile := func(q float64) Figure {
		return figure(func(r *sim.Result) float64 { return quantile(&r.Response, q) })
	}
	f.P95, f.P99 = quantile(0.95), quantile(0.99)
	f.Ups = figure(func(r *sim.Result) float64 { return float64(r.Up) })
	f.Downs = figure(func(r *sim.Result) float64 { return float64(r.Down) })
	f.Least = results[0].Least
	for _, r := range results {
		f.Least, f.Most, f.Queue = min(f.Least, r.Least), max(f.Most, r.Most), max(f.Queue, r.LongestQueue)
	}
}

// figure is one of all runs.
func figure(results []*sim.Result, of func(*sim.Result) float64) Figure {
	values := make([]float64, len(results))
	for i, r := range results {
		values[i] = of(r)
	}
	return Estimate(values)
}

// quantile is one of response times; 0 where nothing was served.
func quantile(h *signal.Histogram, q float64) float64 {
	if h.Count() == 0 {
		return 0
	}
	return h.Quantile(q)
}

// student are the factors of a 95 % interval by degrees of freedom, from 1 on; beyond, 1.96 to 2.04 is near enough to 2.
var student = []float64{12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145, 2.131, 2.12, 2.11, 2.101, 2.093, 2.086}

// Estimate is the mean of independent runs with its confidence interval (Student's).
func Estimate(values []float64) Figure {
	n := float64(len(values))
	mean, square := 0.0, 0.0
	for _, v := range values {
		mean += v / n
	}
	for _, v := range values {
		square += (v - mean) * (v - mean)
	}
	if n < 2 {
		return Figure{mean, mean, mean}
	}
	factor := 2.0
	if int(n)-2 < len(student) {
		factor = student[int(n)-2]
	}
	half := factor * math.Sqrt(square/(n-1)/n)
	if half < 1e-9*math.Abs(mean) { // the last bits of figures that are equal
		half = 0
	}
	return Figure{mean, mean - half, mean + half}
}

// FleetNamed finds a fleet of a configuration; with one fleet, no name is needed.
func FleetNamed(cfg *config.Config, name string) (*config.Fleet, error) {
	var names []string
	for i := range cfg.Fleets {
		if cfg.Fleets[i].Name == name || name == "" && len(cfg.Fleets) == 1 {
			return &cfg.Fleets[i], nil
		}
		names = append(names, cfg.Fleets[i].Name)
	}
	if name == "" {
		return nil, fmt.Errorf("%s has several fleets: name one of %s", cfg.File, strings.Join(names, ", "))
	}
	return nil, fmt.Errorf("%s has no fleet %q; it has %s", cfg.File, name, strings.Join(names, ", "))
}
