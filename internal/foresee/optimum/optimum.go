// Package optimum finds what a fleet costs at least that is sized by someone who knows the future: the yardstick of every policy.
//
// How the service level is modelled: the load is a rate that is constant over each interval of a trace, and an interval is good when the
// workers that serve in it are at least the need of its rate, the smallest fleet whose stationary response times meet the objective
// (queueing.Objective). A worker is paid for from the start of its boot and serves when it has booted; it may be stopped at once, for nothing, and
// there is no limit to how often. Those that serve in the first interval were there before it. A share of the intervals may be short, as a policy's
// violation budget allows.
//
// What it is a lower bound of is the cost of every fleet, however it is sized, that is good in all but that share of the intervals.
// A fleet that is short for a moment may still keep a quantile over some trailing minutes, so a policy judged by such a window can, in
// principle, cost a little less; and chance may make a stationary queue that just meets the objective miss it in every other window, so one that
// keeps it in nearly all of them has to cost more.
package optimum

import (
	"math"
	"slices"
	"sort"
	"time"

	"tidemark/internal/decide/queueing"
	"tidemark/internal/fleet"
)

// Needs is the smallest fleet that meets the objective at each of the rates (requests/s), at least 1.
func Needs(rates []float64, o queueing.Objective, s *queueing.Service) []int {
	top := 0.0
	for _, r := range rates {
		top = max(top, r)
	}
	carries := Carries(top, o, s)
	out := make([]int, len(rates))
	for i, r := range rates {
		out[i] = sort.SearchFloat64s(carries, r) + 1
	}
	return out
}

// Carries is the highest rate that 1, 2, 3 ... workers carry within the objective, up to the size that carries top.
func Carries(top float64, o queueing.Objective, s *queueing.Service) []float64 {
	o.Bounds = fleet.Bounds{Min: 1, Max: 100_000}
	need := func(rate float64) int {
		a := o.Need(&queueing.Load{Rate: rate, Service: s, Backlog: math.NaN(), Wait: math.NaN()})
		return a.Size
	}
	var out []float64
	low := 0.0
	for n := 1; low < top; n++ {
		high := float64(n) / s.Mean() // nobody carries more
		for at := low; high-at > 1e-6*high; {
			if mid := (at + high) / 2; need(mid) <= n {
				low, at = mid, mid
			} else {
				high = mid
			}
		}
		out = append(out, low)
	}
	return out
}

// Problem is a need over time.
type Problem struct {
	Need []int         // by interval
	Step time.Duration // of an interval
	Boot time.Duration // from a worker's start until it serves
}

// Plan is an answer.
type Plan struct {
	WorkerHours float64
	Serves      []int // by interval
	Short       int   // intervals with fewer than needed
	Moves       int   // intervals that begin with another size
}

// plan adds up what serving so many costs.
func (p Problem) plan(serves []int) Plan {
	out := Plan{Serves: serves}
	for i, n := range serves {
		out.WorkerHours += float64(n) * p.Step.Hours()
		if n < p.Need[i] {
			out.Short++
		}
		if i > 0 && n != serves[i-1] {
			out.Moves++
			out.WorkerHours += float64(max(n-serves[i-1], 0)) * p.Boot.Hours()
		}
	}
	return out
}

// Exact is the cheapest plan in which no interval is short. Without a limit on starts the k-th worker of one plan is no other's business: between
// two stretches that need it, it is kept when that is cheaper than to boot it again, so each level is solved by itself, in time proportional to the
// need.
func (p Problem) Exact() Plan {
	serves := slices.Clone(p.Need)
	if len(p.Need) == 0 {
		return Plan{}
	}
	last := make([]int, slices.Max(p.Need)+1) // by level, the last interval that needed it
	for i := range last {
		last[i] = -1
	}
	gap := int((p.Boot - 1) / p.Step) // shorter ones are kept through
	before := p.Need[0]
	for i, n := range p.Need {
		for k := before; k < n; k++ { // the k-th level begins again
			if from := last[k]; from >= 0 && i-from-1 <= gap {
				for j := from + 1; j < i; j++ {
					serves[j] = max(serves[j], k+1)
				}
			}
		}
		for k := range n {
			last[k] = i
		}
		before = n
	}
	return p.plan(serves)
}

// Bound is what any plan costs at least that leaves at most the share allowed (0..1) of the intervals short, in worker-hours: Lagrange's bound, the
// best over all prices of a short interval of (the cheapest plan that pays it) - (price x intervals allowed). With none allowed it is Exact's cost.
func (p Problem) Bound(allowed float64) float64 {
	exact := p.Exact().WorkerHours
	quota := math.Floor(allowed * float64(len(p.Need)))
	if quota < 1 {
		return exact
	}
	best := 0.0
	low, high := 0.0, float64(slices.Max(p.Need))*(p.Step.Hours()+p.Boot.Hours())
	// The bound is concave in the price: its slope, short - quota, changes sign at the top.
	for range 24 {
		price := (low + high) / 2
		plan := p.priced(price, 0)
		best = max(best, plan.WorkerHours+price*(float64(plan.Short)-quota))
		if float64(plan.Short) > quota {
			low = price
		} else {
			high = price
		}
	}
	return min(best, exact)
}

// Restful is the cheapest plan found in which no interval is short and the size changes at most so many times, and what any such plan costs at least: it is
// the best that some price of a change leads to, and Lagrange's bound.
func (p Problem) Restful(moves int) (plan Plan, bound float64) {
	if plan = p.Exact(); plan.Moves <= moves {
		return plan, plan.WorkerHours
	}
	enough := 2 * plan.WorkerHours // for an interval to be short, or the size to change, never to pay
	for _, n := range p.Need {
		enough += float64(n) * p.Boot.Hours()
	}
	plan = p.plan(slices.Repeat([]int{slices.Max(p.Need)}, len(p.Need)))
	enough += plan.WorkerHours
	low, high := 0.0, enough
	for range 48 {
		price := (low + high) / 2
		found := p.priced(enough, price)
		bound = max(bound, found.WorkerHours+price*float64(found.Moves-moves))
		if found.Moves > moves {
			low = price
			continue
		}
		high = price
		if found.WorkerHours < plan.WorkerHours {
			plan = found
		}
	}
	return plan, min(bound, plan.WorkerHours)
}

// priced is the cheapest plan when a short interval and a change of size cost a price each, in worker-hours, which WorkerHours leaves out. It is dynamic
// programming over (interval, size): from one size to a larger one costs a boot for each, to a smaller one nothing.
func (p Problem) priced(short, move float64) Plan {
	sizes := slices.Max(p.Need) + 1
	step, boot := p.Step.Hours(), p.Boot.Hours()
	cost, next := make([]float64, sizes), make([]float64, sizes) // of the best plan that ends in each size
	from := make([]int32, sizes*len(p.Need))                     // its size in the interval before
	for i, need := range p.Need {
		from := from[i*sizes:][:sizes]
		for n := range next {
			next[n], from[n] = cost[n], int32(n)
		}
		if i > 0 {
			way, source := math.Inf(1), 0 // the cheapest from a smaller size,
			for n := 1; n < sizes; n++ {
				if c := cost[n-1] + move; c < way {
					way, source = c, n-1
				}
				way += boot
				if way < next[n] {
					next[n], from[n] = way, int32(source)
				}
			}
			way = math.Inf(1) // and from a larger one
			for n := sizes - 2; n >= 0; n-- {
				if c := cost[n+1] + move; c < way {
					way, source = c, n+1
				}
				if way < next[n] {
					next[n], from[n] = way, int32(source)
				}
			}
		}
		for n := range next {
			next[n] += float64(n) * step
			if n < need {
				next[n] += short
			}
		}
		cost, next = next, cost
	}
	size := 0
	for n := range cost {
		if cost[n] < cost[size] {
			size = n
		}
	}
	serves := make([]int, len(p.Need))
	for i := len(serves) - 1; i >= 0; i-- {
		serves[i] = size
		size = int(from[i*sizes+size])
	}
	return p.plan(serves)
}
