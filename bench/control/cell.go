package main

import (
	"fmt"
	"slices"
	"time"

	"tidemark/internal/decide/queueing"
	"tidemark/internal/fleet"
	"tidemark/internal/foresee"
	"tidemark/internal/foresee/load"
	"tidemark/internal/foresee/optimum"
	"tidemark/internal/foresee/peer"
	"tidemark/internal/foresee/sim"
)

const (
	service = 100 * time.Millisecond
	within  = 500 * time.Millisecond // the judge's, and that of the objective under test
	budget  = 0.001                  // of the minutes may miss the objective
)

// cell is one condition that every policy is tried under.
type cell struct {
	trace trace
	busy  float64 // workers at the 99.9th percentile of the load
	cv    float64
	boot  time.Duration
	seeds int

	law          *sim.Law
	train, score *part
}

// part is a stretch of load, and what it needs.
type part struct {
	*load.Series
	need  []int
	plan  optimum.Plan
	bound float64 // worker-hours
}

func newCell(t trace, series *load.Series, workers, cv float64, boot time.Duration, seeds int, most time.Duration) *cell {
	c := &cell{trace: t, busy: workers, cv: cv, boot: boot, seeds: seeds}
	w := c.work()
	c.law = w.Law()
	train, score := split(series, service, workers, most)
	c.train, c.score = c.part(train), c.part(score)
	return c
}

func (c *cell) part(s *load.Series) *part {
	p := &part{Series: s, need: c.needs(s, 0)}
	problem := optimum.Problem{Need: p.need, Step: s.Step, Boot: c.boot}
	p.plan, p.bound = problem.Exact(), problem.Bound(budget)
	return p
}

// needs is the smallest fleet that meets the objective at each rate: on average, or in all but a share of the judge's windows.
func (c *cell) needs(s *load.Series, miss float64) []int {
	w, target := c.work(), sim.DefaultObjective()
	o := queueing.Objective{Quantile: target.Quantile, Within: target.Limit.Seconds(), Drain: 60, Window: target.Window.Seconds(), Miss: miss}
	return optimum.Needs(s.Rates, o, w.Times())
}

func (c *cell) String() string {
	return fmt.Sprintf("%s, %g workers, cv %g, boot %s, %d seeds, %s from %s", c.trace.name, c.busy, c.cv, c.boot, c.seeds, c.score.Duration(), c.score.Start)
}

func (p *part) requests() float64 { return p.Mean() * p.Duration().Seconds() }

// most is the size that nobody needs more than: the bounds are no help to anyone.
func (c *cell) most() int { return 4 * max(slices.Max(c.train.need), slices.Max(c.score.need)) }

func (c *cell) bounds() fleet.Bounds { return fleet.Bounds{Min: 1, Max: c.most()} }

// figures are what a policy came to in a cell, over the seeds.
type figures struct {
	Cost        float64 `json:"cost"` // worker-hours over the clairvoyant's
	Violations  float64 `json:"violation_percent"`
	Actions     float64 `json:"actions_a_day"`
	Longest     float64 `json:"longest_violation_minutes"`
	Under       float64 `json:"under_accuracy"`
	Over        float64 `json:"over_accuracy"`
	UnderTime   float64 `json:"under_timeshare"`
	OverTime    float64 `json:"over_timeshare"`
	Instability float64 `json:"instability"`
	WorkerHours float64 `json:"worker_hours"`
}

// try plays a part under a policy or a controller, with the same arrivals and service times as all others have for each seed.
func (c *cell) try(p *part, r *peer.Run, seeds int) (figures, error) {
	var f figures
	for seed := range seeds {
		plan := sim.Plan{Policy: r.Policy, Probes: r.Probes, Load: p.Series, Service: c.law, Boot: c.boot, Tick: tick, Initial: p.need[0] + 1, Seed: uint64(seed) + 1}
		if r.Start != nil {
			plan.Control = r.Start()
		}
		s, err := foresee.Judge(plan, p.need, p.Step, 0)
		if err != nil {
			return f, err
		}
		n := float64(seeds)
		f.Cost += s.WorkerHours / p.bound / n
		f.WorkerHours += s.WorkerHours / n
		f.Violations += s.ViolationShare() / n
		f.Actions += s.ActionsADay() / n
		f.Longest = max(f.Longest, float64(s.Longest))
		f.Under += s.UnderAccuracy / n
		f.Over += s.OverAccuracy / n
		f.UnderTime += s.UnderTimeshare / n
		f.OverTime += s.OverTimeshare / n
		f.Instability += s.Instability / n
	}
	return f, nil
}

// better ranks settings: within the budget the cheapest, else the one that misses least.
func better(a, b figures) bool {
	over := func(f figures) float64 { return max(f.Violations-100*budget, 0) }
	if over(a) != over(b) {
		return over(a) < over(b)
	}
	return a.Cost < b.Cost
}

// tune tries a peer's settings on the training part.
func (c *cell) tune(p *contender) (all []figures, best int, err error) {
	for i, s := range p.settings {
		r, err := c.run(p, s)
		if err != nil {
			return nil, 0, err
		}
		f, err := c.try(c.train, r, 1)
		if err != nil {
			return nil, 0, err
		}
		all = append(all, f)
		if better(f, all[best]) {
			best = i
		}
	}
	return all, best, nil
}

// chances are the shares of the windows that someone who knows each rate lets chance miss where the fleet is as small as it may be. It seldom is, so that the
// whole misses less.
var chances = []float64{0.2, 0.05, 0.01, 0.002, 0.0005}

// foreknowing are those who know the rate at every moment to come, and not which requests will come by chance: one moves as often as it likes, one as often as the
// bar allows.
var foreknowing = []struct {
	name string
	plan func(optimum.Problem) optimum.Plan
}{
	{"foreknown", optimum.Problem.Exact},
	{"foreknown at rest", func(p optimum.Problem) optimum.Plan {
		days := (time.Duration(len(p.Need)) * p.Step).Hours() / 24
		plan, _ := p.Restful(int(restful * days))
		return plan
	}},
}

// restful is the bar's most changes of size in a day.
const restful = 40

// keeps is the cheapest such fleet that keeps the objective in all but the budget of the minutes; the one that misses least where none does.
func (c *cell) keeps(plan func(optimum.Problem) optimum.Plan) (best figures, err error) {
	r, err := c.peer(peer.Steps) // for what it reads, and the bounds
	if err != nil {
		return best, err
	}
	for i, chance := range chances {
		serves := plan(optimum.Problem{Need: c.needs(c.score.Series, chance), Step: c.score.Step, Boot: c.boot}).Serves
		r.Start = func() peer.Controller {
			return peer.Foreknown(serves, c.score.Start, c.score.Step, c.boot, tick)
		}
		f, err := c.try(c.score, r, c.seeds)
		if err != nil {
			return best, err
		}
		if i == 0 || better(f, best) {
			best = f
		}
		if f.Violations <= 100*budget {
			break
		}
	}
	return best, nil
}

func (c *cell) work() foresee.Work {
	return foresee.Work{Service: service, CV: c.cv, CPU: 1, Boot: c.boot}
}
