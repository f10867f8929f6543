package optimum

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"tidemark/internal/decide/queueing"
	"tidemark/internal/fleet"
)

// brute tries every way to start and stop workers, interval by interval, and returns the cost of the cheapest that leaves at most `quota` intervals short,
// in worker-intervals. Boots take whole intervals. The first `boot` intervals are not counted in need: they give time to start before the second.
func brute(need []int, boot, quota, most int) int {
	best := math.MaxInt
	var walk func(i, serving int, booting []int, short, cost int)
	walk = func(i, serving int, booting []int, short, cost int) {
		if cost >= best || short > quota {
			return
		}
		if i == len(need) {
			best = cost
			return
		}
		for stop := 0; stop <= serving; stop++ {
			for start := 0; start <= most; start++ {
				n := serving - stop
				queue := append([]int(nil), booting...)
				if boot == 0 {
					n += start
				} else {
					queue = append(queue, start)
				}
				waiting := 0
				for _, b := range queue {
					waiting += b
				}
				s := short
				if n < need[i] {
					s++
				}
				next := n
				if boot > 0 && len(queue) == boot { // the eldest have booted by the next interval
					next, queue = n+queue[0], queue[1:]
				}
				walk(i+1, next, queue, s, cost+n+waiting)
			}
		}
	}
	for first := 0; first <= most; first++ {
		walk(0, first, nil, 0, 0)
	}
	return best
}

// restful tries every plan, and returns the cost of the cheapest in which no interval is short and the size changes at most so often.
func restful(p Problem, moves int) float64 {
	best := math.Inf(1)
	serves := make([]int, len(p.Need))
	var walk func(i int)
	walk = func(i int) {
		if i == len(serves) {
			if plan := p.plan(slices.Clone(serves)); plan.Moves <= moves {
				best = min(best, plan.WorkerHours)
			}
			return
		}
		for serves[i] = p.Need[i]; serves[i] <= slices.Max(p.Need); serves[i]++ {
			walk(i + 1)
		}
	}
	walk(0)
	return best
}

// The exact plan costs what the cheapest of all ways to start and stop workers costs; the bound with a budget never costs more than that.
func TestNobodyDoesBetter(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	tight, found := 0, 0
	for range 300 {
		boot := rng.IntN(3)
		need := make([]int, 4+rng.IntN(3))
		for i := range need {
			need[i] = 1 + rng.IntN(3)
			if i <= boot { // nobody can have started before the first interval
				need[i] = need[0]
			}
		}
		p := Problem{Need: need, Step: time.Hour, Boot: time.Duration(boot) * time.Hour}
		if got, want := p.Exact(), brute(need, boot, 0, 3); math.Abs(got.WorkerHours-float64(want)) > 1e-9 {
			t.Fatalf("need %v, boot %d: %g worker-hours, the cheapest of all is %d", need, boot, got.WorkerHours, want)
		}
		if got, exact := p.priced(1e6, 0), p.Exact(); math.Abs(got.WorkerHours-exact.WorkerHours) > 1e-9 || got.Short > 0 {
			t.Fatalf("need %v, boot %d: by dynamic programming %g worker-hours, level by level %g", need, boot, got.WorkerHours, exact.WorkerHours)
		}
		moves := rng.IntN(4)
		plan, least := p.Restful(moves)
		if want := restful(p, moves); plan.Moves > moves || plan.Short > 0 || plan.WorkerHours < want-1e-9 || least > want+1e-9 {
			t.Fatalf("need %v, boot %d, %d moves: %+v for at least %g, and the cheapest of all is %g", need, boot, moves, plan, least, want)
		} else if plan.WorkerHours < want+1e-9 {
			found++
		}
		quota := 1 + rng.IntN(2)
		got, want := p.Bound((float64(quota)+0.5)/float64(len(need))), float64(brute(need, boot, quota, 3))
		if got > want+1e-9 {
			t.Fatalf("need %v, boot %d, %d short: the bound is %g, and %g is possible", need, boot, quota, got, want)
		}
		if got > want-0.5 {
			tight++
		}
	}
	if tight < 100 || found < 200 {
		t.Errorf("of 300 times the bound is near %d, and the cheapest restful plan was found %d", tight, found)
	}
}

// Between two peaks a worker is kept when that costs less than to boot it again.
func TestGaps(t *testing.T) {
	need := []int{2, 1, 1, 1, 2, 1, 1, 1, 1, 2}
	for _, c := range []struct {
		boot  time.Duration
		hours float64 // in minutes of a worker
	}{{0, 13}, {2 * time.Minute, 17}, {3 * time.Minute, 19}, {4 * time.Minute, 20}, {time.Hour, 20}} {
		got := Problem{Need: need, Step: time.Minute, Boot: c.boot}.Exact()
		if math.Abs(got.WorkerHours*60-c.hours) > 1e-9 {
			t.Errorf("boot %v: %g worker-minutes, want %g: %v", c.boot, got.WorkerHours*60, c.hours, got.Serves)
		}
	}
}

// What a size carries is where the model's need changes.
func TestNeeds(t *testing.T) {
	var s queueing.Service
	s.Assume(func(q float64) float64 { return -0.1 * math.Log1p(-q) }, 0.1)
	o := queueing.Objective{Quantile: 0.95, Within: 0.5, Drain: 60}
	carries := Carries(200, o, &s)
	o.Bounds = fleet.Bounds{Min: 1, Max: 100}
	for i, rate := range carries {
		for _, c := range []struct {
			rate float64
			want int
		}{{rate * 0.9999, i + 1}, {rate * 1.0001, i + 2}} {
			a := o.Need(&queueing.Load{Rate: c.rate, Service: &s, Backlog: math.NaN(), Wait: math.NaN()})
			if a.Size != c.want {
				t.Errorf("%g/s: %d workers, want %d", c.rate, a.Size, c.want)
			}
		}
	}
	// Of exponential services of 100 ms 2 workers carry .67 of what they could, 10 carry .92.
	if u := carries[1] / 20; math.Abs(u-0.67) > 0.015 {
		t.Errorf("two workers carry %.3f", u)
	}
	if u := carries[9] / 100; math.Abs(u-0.92) > 0.015 {
		t.Errorf("ten carry %.3f", u)
	}
	o.Bounds = fleet.Bounds{}
	if got := Needs([]float64{0, carries[0], carries[0] * 1.01, 200}, o, &s); got[0] != 1 || got[1] != 1 || got[2] != 2 || got[3] != len(carries) {
		t.Errorf("%v", got)
	}
}

func TestNothingIsNeeded(t *testing.T) {
	p := Problem{Step: time.Minute, Boot: time.Minute}
	if p.Exact().WorkerHours != 0 || p.Bound(0.1) != 0 {
		t.Error("an empty trace costs something")
	}
}
