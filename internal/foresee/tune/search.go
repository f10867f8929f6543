package tune

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"tidemark/internal/decide/policy"
	"tidemark/internal/decide/queueing"
	"tidemark/internal/fleet"
	"tidemark/internal/foresee"
	"tidemark/internal/foresee/load"
	"tidemark/internal/foresee/optimum"
	"tidemark/internal/foresee/sim"
)

// trial is one day under one seed: what a candidate is judged by.
type trial struct {
	load  int
	fold  int // that its day is of
	seed  int // of its set: those of the days held out are others
	plan  sim.Plan
	need  []int // by stretches of step, within the bounds
	step  time.Duration
	lead  time.Duration
	bound float64 // worker-hours of the clairvoyant
	cost  float64 // of the budget
}

// outcome is what a candidate came to in a trial.
type outcome struct {
	hours                      float64
	minutes, violated, actions int
	played                     bool
}

// total sums trials up.
type total struct {
	hours, bound, minutes, violations, actions, days float64
}

func (t *total) share() float64 { return 100 * t.violations / max(t.minutes, 1) }

// sum is over the trials that are listed by their index.
func sum(played []outcome, trials []trial, of []int) (t total) {
	for _, i := range of {
		k, o := &trials[i], &played[i]
		t.hours += o.hours
		t.bound += k.bound
		t.minutes += float64(o.minutes)
		t.violations += float64(o.violated)
		t.actions += float64(o.actions)
		t.days++
	}
	return t
}

// some lists the trials that something holds of.
func some(trials []trial, of func(*trial) bool) (out []int) {
	for i := range trials {
		if of(&trials[i]) {
			out = append(out, i)
		}
	}
	return out
}

// both lists the trials of a list that something else holds of, too.
func both(of []int, trials []trial, also func(*trial) bool) []int {
	return slices.DeleteFunc(slices.Clone(of), func(i int) bool { return !also(&trials[i]) })
}

// search is a study being carried out.
type search struct {
	*Study
	policy      *policy.Fleet // the operator's
	dims        []dimension
	warned      map[string]bool
	made        map[string]*candidate // by where they are; nil: not legal
	legal       []*candidate          // in the order in which they were made
	train, hold []trial               // each has all days, and arrivals of its own
	spent       float64
	tried       int
	own         *candidate
	latest      *climb       // that found something better than the operator's
	found       []*candidate // by fold, what was found without its days
	best        *candidate
	finalists   []*candidate
	explained   *candidate
	reasons     []string // of its changes
	out         *Result
}

// climb is one search on some of the days. What a candidate came to on a day is played once, whichever of them asks for it.
type climb struct {
	*search
	days   []int // trials to train on; the first few are unlike, and say something of all loads
	random *sim.Random
	seen   map[string]bool
	all    []*candidate // that were played on all of the days
	best   *candidate
}

const (
	tickCost  = 25     // requests that a tick's work is worth, as measured
	fluidCost = 50_000 // and the tables of a day at the fluid level
	passes    = 24     // over all days that a search takes at least
)

// prepare reads the policy, splits the loads and finds what the clairvoyant takes.
func (st *Study) prepare() (*search, error) {
	cfg, problems := st.Parse(st.Data)
	if cfg == nil {
		return nil, problems
	}
	f, err := foresee.FleetNamed(cfg, st.Fleet)
	if err != nil {
		return nil, err
	}
	st.Fleet = f.Name
	x := &search{Study: st, policy: &f.Policy, warned: map[string]bool{}, made: map[string]*candidate{}}
	for _, p := range problems {
		x.warned[p.Field] = true
	}
	x.out = &Result{File: st.Name, Fleet: f.Name, Seeds: max(st.Seeds, 1), Allowed: st.Allowed, Days: []Day{}, Folds: []Fold{}, Front: []Policy{}, Notes: []string{}}
	if f.Policy.Mode != fleet.On {
		x.out.Notes = append(x.out.Notes, fmt.Sprintf("the fleet's mode is %s: it is tuned as if it were on", f.Policy.Mode))
		f.Policy.Mode = fleet.On
	}
	if !slices.ContainsFunc(st.Loads, func(l Load) bool { return l.Requests == nil }) {
		x.out.Seeds = 1 // requests that came one by one are played as they came
	}
	for _, l := range st.Loads {
		if err := l.Work.Check(); err != nil {
			return nil, err
		}
	}
	if x.dims, err = st.dimensions(cfg, f); err != nil {
		return nil, err
	}
	_, assumed := foresee.Probes(f, st.Loads[0].Work)
	for _, a := range assumed {
		x.out.Notes = append(x.out.Notes, a.Text)
	}
	for i := range st.Loads {
		if err := x.days(i, cfg.Tick); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(x.train, func(a, b trial) int { return cmp.Compare(a.seed, b.seed) }) // the first of them say something of all loads
	return x, x.level()
}

// days makes the trials of a load.
func (x *search) days(i int, tick time.Duration) error {
	l := &x.Loads[i]
	days, err := split(l.Series)
	if err != nil {
		return err
	}
	minutes := l.Coarser(time.Minute)
	bounds := x.policy.Bounds
	needs := optimum.Needs(minutes.Rates, queueing.Objective{Quantile: x.Objective.Quantile, Within: x.Objective.Limit.Seconds(), Drain: 60}, l.Work.Times())
	short := 0
	for k, n := range needs {
		if n > bounds.Max {
			short++
		}
		needs[k] = min(max(n, bounds.Min), bounds.Max)
	}
	if share := 100 * float64(short) / float64(len(needs)); share > x.Allowed {
		x.out.Notes = append(x.out.Notes, fmt.Sprintf("under %s more than bounds.max, %d workers, would be needed in %.2g %% of the time: no policy meets the objective then", l.Name, bounds.Max, share))
	}
	law := l.Work.Law()
	make := func(d block, seed, number int) trial {
		from := d.from
		before := min(lead, from)
		part, coarse := l.Cut(from-before, from+day), minutes.Cut(from-before, from+day)
		need := needs[int((from-before)/minutes.Step):][:len(coarse.Rates)]
		t := trial{load: i, fold: d.fold, seed: seed, need: need, step: minutes.Step, lead: before, plan: sim.Plan{
			Load: part, Service: law, Boot: l.Work.Boot, Tick: tick, Target: x.Objective, Initial: need[0], Seed: x.Seed<<32 + uint64(number),
		}}
		t.bound = optimum.Problem{Need: need[int(before/minutes.Step):], Step: minutes.Step, Boot: l.Work.Boot}.Bound(x.Allowed / 100)
		return t
	}
	for _, d := range days {
		x.out.Days = append(x.out.Days, Day{l.Name, l.Start.Add(d.from), d.fold + 1})
		for s := range x.out.Seeds {
			x.hold = append(x.hold, make(d, s, 1000+s))
		}
	}
	for _, d := range spread(days, l.Series) {
		for s := range max(x.out.Seeds/4, 1) { // more days say more than more seeds, and there are many candidates
			x.train = append(x.train, make(d, s, s+1))
		}
	}
	return nil
}

// spread orders days so that the first few are unlike: the busiest, the quietest, the next busiest ...
func spread(days []block, l *load.Series) []block {
	sorted := slices.Clone(days)
	mean := func(d block) float64 { return l.Cut(d.from, d.from+day).Mean() }
	slices.SortStableFunc(sorted, func(a, b block) int { return cmp.Compare(mean(b), mean(a)) })
	var out []block
	for i, j := 0, len(sorted)-1; i <= j; i, j = i+1, j-1 {
		out = append(out, sorted[i])
		if i < j {
			out = append(out, sorted[j])
		}
	}
	return out
}

// level chooses how closely to look, so that the budget allows a search, and refuses one that does not.
func (x *search) level() error {
	pass := func(level sim.Level, trials []trial) (cost float64) {
		for i := range trials {
			t := &trials[i]
			p := &t.plan
			seconds := p.Load.Duration().Seconds()
			t.cost = tickCost*seconds/p.Tick.Seconds() + fluidCost
			if level == sim.Requests {
				t.cost += p.Load.Mean()*seconds - fluidCost
			}
			p.Level = level
			cost += t.cost
		}
		return cost
	}
	need := func(level sim.Level) float64 { return passes*pass(level, x.train) + 3*pass(level, x.hold) }
	level := x.Level
	if level == sim.Auto {
		if level = sim.Requests; need(level) > x.Budget {
			level = sim.Fluid
		}
	}
	x.out.Level = level
	if least := need(level); least > x.Budget {
		return fmt.Errorf("--budget %.3g is too little: these loads take %.3g requests at least as what they take is counted; give more, or fewer --days or --seeds", x.Budget, least)
	}
	return nil
}

// cores is how many candidates are played at once.
var cores = runtime.NumCPU

// play plays candidates in the trials listed, those to train on or those held out, where they were not played yet, on all cores. What comes out
// does not depend on their number.
func (x *search) play(ctx context.Context, cands []*candidate, held bool, of []int) error {
	type job struct {
		of *trial
		c  *candidate
		o  *outcome
	}
	var jobs []job
	cost := 0.0
	for _, c := range cands {
		trials, played := x.train, &c.train
		if held {
			trials, played = x.hold, &c.hold
		}
		if *played == nil {
			*played = make([]outcome, len(trials))
		}
		for _, i := range of {
			if o := &(*played)[i]; !o.played {
				jobs = append(jobs, job{&trials[i], c, o})
				cost += trials[i].cost
			}
		}
		if !c.tried {
			c.tried = true
			x.tried++
		}
	}
	errs := make([]error, len(jobs))
	var wg sync.WaitGroup
	var mu sync.Mutex
	next, done := 0, 0.0
	for range min(cores(), len(jobs)) {
		wg.Go(func() {
			for {
				mu.Lock()
				k := next
				next++
				mu.Unlock()
				if k >= len(jobs) || ctx.Err() != nil {
					return
				}
				j := &jobs[k]
				*j.o, errs[k] = j.of.play(j.c)
				mu.Lock()
				done += j.of.cost
				x.tell(x.spent + done)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	x.spent += cost
	if ctx.Err() != nil {
		return context.Canceled
	}
	return errors.Join(errs...)
}

// tell reports progress. The mutex of play is held.
func (x *search) tell(spent float64) {
	if x.Progress == nil {
		return
	}
	p := Progress{Done: min(spent/x.Budget, 1), Tried: x.tried}
	if c := x.latest; c != nil {
		p.Best = x.figures(c.best.train, x.train, c.days)
	}
	x.Progress(p)
}

func (t *trial) play(c *candidate) (outcome, error) {
	p := t.plan
	p.Policy, p.Probes = c.policy, c.probes[t.load]
	s, err := foresee.Judge(p, t.need, t.step, t.lead)
	return outcome{s.WorkerHours, s.Minutes, s.Violations, s.Actions, true}, err
}

// worth is a candidate's price in the first n trials.
func (x *climb) worth(c *candidate, n int) float64 {
	t := sum(c.train, x.train, x.days[:n])
	return x.price(t.hours/t.bound, t.share())
}

// rank orders candidates by what they came to in the first n trials. Those that none beats in both, cost and violations, take every second
// place, so that the front is searched and not one point of it alone.
func (x *climb) rank(cands []*candidate, n int) []*candidate {
	byPrice := slices.Clone(cands)
	slices.SortStableFunc(byPrice, func(a, b *candidate) int { return cmp.Compare(x.worth(a, n), x.worth(b, n)) })
	front := x.unbeaten(byPrice, n)
	taken := map[*candidate]bool{}
	var out []*candidate
	take := func(list []*candidate) []*candidate {
		for len(list) > 0 && taken[list[0]] {
			list = list[1:]
		}
		if len(list) > 0 {
			taken[list[0]] = true
			out = append(out, list[0])
		}
		return list
	}
	for len(out) < len(cands) {
		byPrice = take(byPrice)
		front = take(front)
	}
	return out
}

// unbeaten are the candidates that no other beats in both, cost and violations.
func (x *climb) unbeaten(cands []*candidate, n int) (out []*candidate) {
	for _, c := range cands {
		mine := sum(c.train, x.train, x.days[:n])
		if !slices.ContainsFunc(cands, func(o *candidate) bool {
			t := sum(o.train, x.train, x.days[:n])
			return t.hours <= mine.hours && t.violations <= mine.violations && (t.hours < mine.hours || t.violations < mine.violations)
		}) {
			out = append(out, c)
		}
	}
	return out
}

// cost is what it takes to play one candidate in the trials listed.
func cost(trials []trial, of []int) (sum float64) {
	for _, i := range of {
		sum += trials[i].cost
	}
	return sum
}

// without is a search that never sees the days of a fold; -1: it sees all of them. All begin with the same policies.
func (x *search) without(fold int) *climb {
	days := some(x.train, func(k *trial) bool { return k.fold != fold })
	return &climb{search: x, days: days, random: sim.NewRandom(x.Seed, "tune"), seen: map[string]bool{}, all: []*candidate{x.own}, best: x.own}
}

// seek finds what is best without the days of each fold in turn, and judges it by these; then what is best of all that was found on all days. After an
// error the best so far is in x.
func (x *search) seek(ctx context.Context) error {
	every, held := some(x.train, func(*trial) bool { return true }), some(x.hold, func(*trial) bool { return true })
	if err := x.play(ctx, []*candidate{x.own}, false, every); err != nil {
		return err
	}
	if err := x.play(ctx, []*candidate{x.own}, true, held); err != nil {
		return err
	}
	// The budget: what was found is judged by the days held out, and what is recommended by all of them; a tenth of it is for the smallest change.
	validation := 2 * cost(x.hold, held)
	share := (0.9*x.Budget - x.spent - validation) / folds
	for fold := range folds {
		c := x.without(fold)
		if err := c.run(ctx, x.spent, x.spent+share); err != nil {
			return err
		}
		if err := x.play(ctx, []*candidate{c.best}, true, some(x.hold, func(k *trial) bool { return k.fold == fold })); err != nil {
			return err
		}
		x.found = append(x.found, c.best)
	}
	c := x.without(-1)
	if err := x.play(ctx, x.found, false, every); err != nil {
		return err
	}
	c.settle(x.found)
	if err := c.simplify(ctx, x.Budget-validation/2); err != nil {
		return err
	}
	x.best = c.best
	if err := x.play(ctx, []*candidate{x.best}, true, held); err != nil {
		return err
	}
	const shown = 8
	n := len(c.days)
	front := c.unbeaten(slices.DeleteFunc(slices.Clone(x.legal), func(a *candidate) bool {
		return a.train == nil || slices.ContainsFunc(a.train, func(o outcome) bool { return !o.played })
	}), n)
	slices.SortStableFunc(front, func(a, b *candidate) int { return cmp.Compare(c.worth(a, n), c.worth(b, n)) })
	for _, f := range front[:min(len(front), shown)] {
		if len(f.hold) == 0 && x.spent+validation/2 > x.Budget {
			break
		}
		if err := x.play(ctx, []*candidate{f}, true, held); err != nil {
			return err
		}
		x.finalists = append(x.finalists, f)
	}
	return nil
}

// run searches within what is spent between two points of the budget: two fifths of it for halving, up to four fifths for the local search, the rest
// for the smallest change.
func (x *climb) run(ctx context.Context, from, to float64) error {
	if err := x.halve(ctx, from+0.4*(to-from)); err != nil {
		return err
	}
	if err := x.improve(ctx, from+0.8*(to-from)); err != nil {
		return err
	}
	return x.simplify(ctx, to)
}

// settle takes in candidates that were played in all trials.
func (x *climb) settle(cands []*candidate) {
	n := len(x.days)
	for _, c := range cands {
		x.all = append(x.all, c)
		if x.worth(c, n) < x.worth(x.best, n) {
			x.best, x.latest = c, x
		}
	}
}

// narrow is the part of candidates that goes on after each rung.
const narrow = 3

// rungs are how many trials candidates are played in, one after the other.
func (x *climb) rungs() []int {
	n := len(x.days)
	out := []int{n}
	for r := n; r > 1 && len(out) < 3; {
		r = (r + narrow - 1) / narrow
		out = append([]int{r}, out...)
	}
	return out
}

// cascade plays candidates in ever more trials, the best third of them each time, and takes in those that get to the end.
func (x *climb) cascade(ctx context.Context, cands []*candidate) error {
	for i, r := range x.rungs() {
		if i > 0 {
			cands = cands[:max((len(cands)+narrow-1)/narrow, 1)]
		}
		if err := x.play(ctx, cands, false, x.days[:r]); err != nil {
			return err
		}
		cands = x.rank(cands, r)
	}
	x.settle(cands)
	return nil
}

// affordable is how many candidates a cascade may have for what is left up to a limit.
func (x *climb) affordable(limit float64) int {
	each, share, before := 0.0, 1.0, 0
	for _, r := range x.rungs() {
		each += share * cost(x.train, x.days[before:r])
		share, before = share/narrow, r
	}
	return int((limit - x.spent) / each)
}

// halve is successive halving (Jamieson and Talwalkar, AISTATS 2016) over policies at random around the operator's.
func (x *climb) halve(ctx context.Context, limit float64) error {
	const most = 400
	var cands []*candidate
	want := min(x.affordable(limit), most)
	for tries := 0; len(cands) < want && tries < 20*want; tries++ {
		at := x.present()
		share := 0.15 + 0.55*x.random.Float() // few changes, or many
		for i := range at {
			if x.random.Float() < share {
				at[i] = int(x.random.Float() * float64(len(x.dims[i].values)))
			}
		}
		if c := x.candidate(at); c != nil {
			cands = append(cands, c)
		}
	}
	if len(cands) == 0 {
		return nil
	}
	return x.cascade(ctx, cands)
}

// improve is a local search: the neighbours of the best, one setting a step or two away, and where none is better several settings at once, of
// any policy of the front.
func (x *climb) improve(ctx context.Context, limit float64) error {
	for stale := 0; stale < 4; {
		batch := x.neighbours(x.best.at)
		if len(batch) == 0 || stale > 0 {
			batch = append(batch, x.mutants(2*len(x.dims))...)
		}
		n := min(x.affordable(limit), len(batch))
		if n == 0 {
			return nil
		}
		before := x.best
		if err := x.cascade(ctx, batch[:n]); err != nil {
			return err
		}
		if stale++; x.best != before {
			stale = 0
		}
	}
	return nil
}

func (x *climb) neighbours(of []int) (out []*candidate) {
	for _, step := range []int{1, -1, 2, -2} {
		for i := range of {
			if to := of[i] + step; to >= 0 && to < len(x.dims[i].values) {
				at := slices.Clone(of)
				at[i] = to
				if c := x.candidate(at); c != nil {
					out = append(out, c)
				}
			}
		}
	}
	return out
}

// mutants change two to four settings of policies of the front.
func (x *climb) mutants(want int) (out []*candidate) {
	front := x.unbeaten(x.all, len(x.days))
	for tries := 0; len(out) < want && tries < 20*want; tries++ {
		from := x.best
		if x.random.Float() < 0.5 {
			from = front[int(x.random.Float()*float64(len(front)))]
		}
		at := slices.Clone(from.at)
		for range 2 + int(x.random.Float()*3) {
			i := int(x.random.Float() * float64(len(at)))
			at[i] = min(max(at[i]+int(x.random.Float()*7)-3, 0), len(x.dims[i].values)-1)
		}
		if c := x.candidate(at); c != nil {
			out = append(out, c)
		}
	}
	return out
}

// slack is what a smaller change may give away.
const slack = 0.003

// simplify takes back one change after the other, wholly or by a step, as long as the gain stays, and notes of each that is left what it is
// good for.
func (x *climb) simplify(ctx context.Context, limit float64) error {
	n := len(x.days)
	tolerated := x.worth(x.best, n) + slack
	limit -= cost(x.train, x.days)
	for {
		reasons := make([]string, 0, len(x.dims))
		var better *candidate
		for _, wholly := range []bool{true, false} {
			for i, v := range x.best.at {
				now := x.dims[i].now
				if v == now || better != nil && !wholly {
					continue
				}
				at := slices.Clone(x.best.at)
				if at[i] = now; !wholly {
					at[i] = v + sign(float64(now-v))
				}
				c, err := x.known(ctx, at, limit)
				if err != nil {
					return err
				}
				kept := c != nil && x.worth(c, n) <= tolerated
				if kept && (better == nil || x.worth(c, n) < x.worth(better, n)) {
					better = c
				}
				switch {
				case !wholly:
				case c == nil:
					reasons = append(reasons, "another of the changes needs it")
				default:
					reasons = append(reasons, x.good(x.best, c))
				}
			}
		}
		if better == nil {
			x.explained, x.reasons = x.best, reasons
			return nil
		}
		x.best, x.latest = better, x
	}
}

// known is the candidate at a point, played in all trials; nil when it is not legal, or there is no budget left to play it.
func (x *climb) known(ctx context.Context, at []int, limit float64) (*candidate, error) {
	wanted := slices.Clone(at)
	x.mend(at)
	if !slices.Equal(at, wanted) {
		return nil, nil
	}
	if i := slices.IndexFunc(x.all, func(c *candidate) bool { return slices.Equal(c.at, at) }); i >= 0 {
		return x.all[i], nil
	}
	c := x.make(at)
	if c == nil || x.spent > limit {
		return nil, nil
	}
	if err := x.play(ctx, []*candidate{c}, false, x.days); err != nil {
		return nil, err
	}
	x.all = append(x.all, c)
	return c, nil
}

// good says what one change is good for.
func (x *climb) good(with, without *candidate) string {
	a, b := sum(with.train, x.train, x.days), sum(without.train, x.train, x.days)
	return fmt.Sprintf("without it %.2f %% of the minutes miss the objective in place of %.2f %%, at %+.1f %% worker-hours", b.share(), a.share(), 100*(b.hours/a.hours-1))
}
