// Package peer holds models of other autoscalers, as their documentation describes them, to be compared on the same load: the Kubernetes HPA,
// KEDA, AWS target tracking and step scaling, uWSGI's busyness, the requirements' own step policies, a fixed size, and the clairvoyant.
package peer

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"tidemark/internal/decide/engine"
	"tidemark/internal/decide/policy"
	"tidemark/internal/decide/queueing"
	"tidemark/internal/fleet"
	"tidemark/internal/foresee/load"
	"tidemark/internal/foresee/optimum"
	"tidemark/internal/foresee/peer/horizontal"
	"tidemark/internal/foresee/sim"
)

// Controller sizes a fleet: it is asked every tick, with readings by the indexes below, and returns the size to have.
type Controller = func(*engine.Input) int

// What peers read.
const (
	cpu      = iota // percent of the workers' time in which they compute
	busy            // percent of it in which they have a request
	p95             // of the response times over 5 minutes, in seconds
	inFlight        // requests that wait or are served
	queued          // requests that wait
)

// Peer is an autoscaler with one setting.
type Peer struct {
	Name     string
	Means    string    // what the setting is
	Usual    float64   // the setting that its documentation gives as default or example
	Settings []float64 // to be tried where it is tuned
	start    func(setting float64, tick time.Duration) Controller
}

// Reactive are the peers that look at what is measured now. One that is slower than a tick is asked less often.
var Reactive = []Peer{
	{"hpa", "target CPU utilisation, percent", 80, []float64{40, 50, 60, 70, 80, 90}, func(target float64, tick time.Duration) Controller {
		var h horizontal.HPA
		return every(horizontal.Sync*time.Second, tick, func(in *engine.Input) int {
			return h.Pods(in.Size.Workers(), in.Size.Serving, in.Readings[cpu].Value/target)
		})
	}},
	{"keda", "requests in flight, a worker", 0.7, []float64{0.4, 0.5, 0.6, 0.7, 0.8, 1}, func(target float64, tick time.Duration) Controller {
		var h horizontal.HPA
		return every(horizontal.Sync*time.Second, tick, func(in *engine.Input) int {
			n := in.Size.Workers()
			return h.Total(n, in.Readings[inFlight].Value/float64(n)/target)
		})
	}},
	{"aws-target", "target utilisation, percent", 50, []float64{40, 50, 60, 70, 80, 90}, targetTracking},
	{"aws-step", "alarm utilisation, percent", 60, []float64{40, 50, 60, 70, 80}, stepScaling},
	{"uwsgi", "maximum busyness, percent", 50, []float64{40, 50, 60, 70, 80}, busyness},
}

// The others.
const (
	Fixed       = "fixed"       // with a number of workers
	Steps       = "steps"       // the requirements' own step policies
	Clairvoyant = "clairvoyant" // who knows each rate to come
)

// Names lists what New takes.
func Names() []string {
	out := []string{Fixed + ":N", Clairvoyant, Steps}
	for _, p := range Reactive {
		out = append(out, p.Name)
	}
	return out
}

// Condition is what a peer runs under.
type Condition struct {
	Bounds    fleet.Bounds
	Tick      time.Duration
	Boot      time.Duration
	CPU       float64 // share of a service in which the worker computes
	Load      *load.Series
	Times     *queueing.Service // of requests
	Objective sim.Objective
	Margin    float64 // by how much more load the clairvoyant reckons with; 0: none
}

// Run is a peer ready to run.
type Run struct {
	Name    string
	Policy  *policy.Fleet
	Probes  []sim.Probe
	Initial int               // workers; 0: the minimum
	Start   func() Controller // makes one for each run; nil: the engine decides, by Policy
}

// New makes a peer by its name, such as hpa, hpa:70 (its setting) or fixed:4. It keeps to the bounds.
func New(text string, c Condition) (*Run, error) {
	name, setting, given := strings.Cut(text, ":")
	v, err := strconv.ParseFloat(setting, 64)
	if given && (err != nil || !(v > 0)) {
		return nil, fmt.Errorf("peer %q: %q is no number above 0", text, setting)
	}
	out := &Run{Name: text, Policy: watch(c.Bounds), Probes: probes(c.CPU)}
	out.Policy.ActionLimit = max(3*time.Minute, 2*c.Boot)
	bounded := func(start func() Controller) {
		out.Start = func() Controller {
			ask := start()
			return func(in *engine.Input) int { return min(max(ask(in), c.Bounds.Min), c.Bounds.Max) }
		}
	}
	i := slices.IndexFunc(Reactive, func(p Peer) bool { return p.Name == name })
	switch {
	case name == Fixed && (!given || v != float64(int(v))):
		return nil, fmt.Errorf("peer %q: write how many workers, such as fixed:4", text)
	case name == Fixed:
		out.Initial = int(v) // whatever the bounds: that is what is asked
		out.Start = func() Controller { return func(*engine.Input) int { return int(v) } }
	case i >= 0:
		p := &Reactive[i]
		if !given {
			v = p.Usual
			out.Name = fmt.Sprintf("%s:%g", name, v)
		}
		bounded(func() Controller { return p.start(v, c.Tick) })
	case given:
		return nil, fmt.Errorf("peer %q: %s takes no setting, or is not known; write one of %s", text, name, strings.Join(Names(), ", "))
	case name == Steps:
		out.Policy.Policies, out.Policy.Pace = required()
	case name == Clairvoyant:
		l := c.Load.Coarser(time.Minute).Scaled(max(c.Margin, 1))
		need := optimum.Needs(l.Rates, queueing.Objective{Quantile: c.Objective.Quantile, Within: c.Objective.Limit.Seconds(), Drain: 60}, c.Times)
		for k := range need {
			need[k] = min(max(need[k], c.Bounds.Min), c.Bounds.Max)
		}
		serves := optimum.Problem{Need: need, Step: l.Step, Boot: c.Boot}.Exact().Serves
		out.Initial = serves[0]
		bounded(func() Controller { return Foreknown(serves, l.Start, l.Step, c.Boot, c.Tick) })
	default:
		return nil, fmt.Errorf("there is no peer %q: write one of %s", text, strings.Join(Names(), ", "))
	}
	return out, nil
}

// watch is a fleet that has the signals which peers read, and no rules.
func watch(b fleet.Bounds) *policy.Fleet {
	per := func(name string, unit fleet.Unit) policy.Signal {
		return policy.Signal{Name: name, Unit: unit, Period: time.Minute, Window: time.Minute, MinSamples: 1, PerWorker: unit != fleet.Number}
	}
	out := &policy.Fleet{Mode: fleet.On, Bounds: b, Signals: []policy.Signal{per("cpu", fleet.Percent), per("busy", fleet.Percent), per("p95", fleet.Seconds), per("in_flight", fleet.Number), per("queued", fleet.Number)}}
	s := &out.Signals[p95]
	s.Statistic, s.Q, s.FromSource, s.Window, s.MinSamples = policy.Quantile, 0.95, true, 5*time.Minute, 20
	return out
}

// probes read since the last tick: those that look back further average themselves.
func probes(share float64) []sim.Probe {
	return []sim.Probe{{Reads: sim.Utilisation, Value: share}, {Reads: sim.Utilisation, Value: 1}, {Reads: sim.ResponseTime, Quantile: 0.95, Window: 5 * time.Minute}, {Reads: sim.InFlight}, {Reads: sim.Queued}}
}

// required are the step policies of the requirements, with their thresholds, periods, cooldowns, steps and rate.
func required() ([]policy.Policy, policy.Pace) {
	return []policy.Policy{
			{ID: "odoo-worker-cpu-scaling-policy", Mode: fleet.On, Rules: []policy.Rule{
				{Signal: cpu, Operator: fleet.AtLeast, Threshold: 70, Change: 1, N: 3, M: 2}, {Signal: cpu, Operator: fleet.AtMost, Threshold: 30, Change: -1, N: 5, M: 4}}},
			{ID: "odoo-worker-api-latency-scaling-policy", Mode: fleet.On, Rules: []policy.Rule{{Signal: p95, Operator: fleet.AtLeast, Threshold: 0.4, Change: 1, N: 2, M: 2}}},
		}, policy.Pace{
			CooldownUp: 300 * time.Second, CooldownDown: 600 * time.Second, StepUp: 1, StepDown: 1, RateCount: 1, RateWindow: 5 * time.Minute,
		}
}

// every asks a controller once in a period, and keeps the size in between.
func every(period, tick time.Duration, ask Controller) Controller {
	n, each := 0, max(int(period/tick), 1)
	return func(in *engine.Input) int {
		if n++; n%each != 0 {
			return in.Size.Workers()
		}
		return ask(in)
	}
}

// Margins are by how much more load a clairvoyant reckons with, so that chance does not make the queue miss the objective.
var Margins = []float64{1, 1.02, 1.05, 1.1, 1.15, 1.2, 1.3, 1.5}

// Foreknown carries out a plan that was made for the very load: what serves in a tick was started a boot before it.
func Foreknown(serves []int, start time.Time, step, boot, tick time.Duration) Controller {
	at := func(t time.Time) int {
		return serves[min(max(int(t.Sub(start)/step), 0), len(serves)-1)]
	}
	return func(in *engine.Input) int {
		n := at(in.Now)
		for ahead := time.Duration(0); ahead <= boot+tick; ahead += tick {
			n = max(n, at(in.Now.Add(ahead)))
		}
		return n
	}
}
