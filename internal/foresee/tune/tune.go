// Package tune looks for a better setting of a fleet's policy: it changes the numbers that the operator wrote, plays each candidate in the
// simulator under the same loads and the same chance, and keeps what does best on days that the search never saw. It recommends and applies
// nothing. How the search goes does not depend on how many cores do it: with the same seed it recommends the same.
package tune

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"tidemark/internal/config"
	"tidemark/internal/fleet"
	"tidemark/internal/foresee"
	"tidemark/internal/foresee/load"
	"tidemark/internal/foresee/sim"
)

// Study is what to tune, and for what.
type Study struct {
	Name  string // of the file, as the operator calls it
	Data  []byte // what is in it
	Fleet string
	// Parse reads a version of the file as the daemon would.
	Parse     func([]byte) (*config.Config, config.Problems)
	Loads     []Load
	Objective sim.Objective
	Allowed   float64 // share of the minutes that may miss the objective, in percent
	Level     sim.Level
	Seeds     int
	Seed      uint64
	// Budget is how much is simulated, in requests; what else takes time counts as so many of them, whatever the machine.
	Budget   float64
	Progress func(Progress) // nil: nobody is told
}

// Load is one that the policy is to do well under.
type Load struct {
	*load.Series
	Work foresee.Work
}

// Progress is how far the search is.
type Progress struct {
	Done  float64 // share of the budget, 0..1
	Tried int     // policies
	Best  Figures // on the days to train on, so far
}

// Figures are what a policy came to on a set of days.
type Figures struct {
	WorkerHours foresee.Figure `json:"worker_hours"`     // over all days, mean of the seeds
	Cost        foresee.Figure `json:"over_clairvoyant"` // worker-hours over those of the clairvoyant
	Violations  foresee.Figure `json:"violation_percent"`
	Minutes     foresee.Figure `json:"violation_minutes"`
	Actions     foresee.Figure `json:"actions_a_day"`
}

// Change is one setting at another value.
type Change struct {
	Field  string `json:"field"`
	Line   int    `json:"line"`
	What   string `json:"what"` // such as "threshold of cpu, to scale out"
	From   string `json:"from"`
	To     string `json:"to"`
	Reason string `json:"why"` // what it is good for, as measured
}

// Policy is a candidate with what it came to.
type Policy struct {
	Changes []Change `json:"changes"`
	Train   Figures  `json:"train"` // on all days, with the arrivals that the search had
	// Fresh is on all days, with arrivals that it had not.
	Fresh *Figures `json:"fresh,omitempty"`
	// HoldOut is cross-validated, for the present policy and what is recommended: each fold's days with what was found without them.
	HoldOut *Figures `json:"hold_out,omitempty"`
}

// Day is a block of a load.
type Day struct {
	Load string    `json:"load"`
	From time.Time `json:"from"`
	Fold int       `json:"fold"` // in which it is held out, from 1 on
}

// Fold is what one of the searches came to on the days that it never saw.
type Fold struct {
	Present Figures  `json:"present"`
	Found   Figures  `json:"found"`
	Changes []Change `json:"changes"` // that it found
	Gain    float64  `json:"gain"`    // by how much less it costs than the present policy, violations weighed in
}

// Result is what the search came to.
type Result struct {
	File        string    `json:"file"`
	Fleet       string    `json:"fleet"`
	Level       sim.Level `json:"level"`
	Seeds       int       `json:"seeds"`
	Allowed     float64   `json:"allowed_percent"`
	Days        []Day     `json:"days"`
	Tried       int       `json:"policies_tried"`
	Simulated   float64   `json:"simulated"`
	Interrupted bool      `json:"interrupted"`
	Present     Policy    `json:"present"`
	Folds       []Fold    `json:"folds"`
	// Gain is the mean of the folds' gains, with its confidence interval.
	Gain foresee.Figure `json:"gain"`
	// Recommended is the best of what was found, where that is better than the present policy on the days held out; nil: nothing is recommended.
	// Interrupted, it is the best so far, and was not validated.
	Recommended *Policy  `json:"recommended"`
	Diff        string   `json:"diff,omitempty"`
	Front       []Policy `json:"pareto_front"` // on all days, with arrivals that no search had: none of them is better in both, cost and violations
	Notes       []string `json:"notes"`
}

const (
	day    = 24 * time.Hour
	folds  = 4         // days are held out in turn, a fourth of them at a time
	mostOf = 28        // days
	lead   = time.Hour // before each day, to warm up
)

// ErrTooShort is that a load cannot be split.
var ErrTooShort = errors.New("too short to split into days to train on and days to validate on")

// block is a day of a load, from so long after its start, and the fold that it is of.
type block struct {
	from time.Duration
	fold int
}

// split cuts a load into whole days and deals them to the folds. Two weeks and more are dealt as stretches of days, so that what is held out has no
// neighbours among the days to train on, which see each day of the week all the same. Of fewer days, where a stretch might be all that there is of
// weekends, and of days far apart, taken from all of a long load, each goes to the next fold.
func split(l *load.Series) (out []block, err error) {
	n := int(l.Duration() / day)
	if n < folds {
		return nil, fmt.Errorf("%s lasts %s: %w; it takes %d days at least: give a longer file, or --days", l.Name, fleet.Elapsed(l.Duration()), ErrTooShort, folds)
	}
	days := min(n, mostOf)
	for k := range days {
		fold := k % folds
		if n >= 14 && n <= mostOf {
			fold = k * folds / n
		}
		out = append(out, block{time.Duration(k*n/days) * day, fold})
	}
	return out, nil
}

// price ranks candidates: what they cost over the clairvoyant, and for each percent of the minutes that miss the objective beyond what is
// allowed, as much again as the clairvoyant costs.
func (x *search) price(cost, violations float64) float64 {
	return cost + max(violations-x.Allowed, 0)
}

// gain is by how much a policy must be better to be worth a change, in the same measure.
const gain = 0.01

// Run searches. When ctx ends, it returns the best so far, marked so.
func (st Study) Run(ctx context.Context) (*Result, error) {
	x, err := st.prepare()
	if err != nil {
		return nil, err
	}
	if x.own = x.make(x.present()); x.own == nil {
		return nil, errors.New("the configuration cannot be read again") // it was read before
	}
	err = x.seek(ctx)
	if err != nil && !errors.Is(err, context.Canceled) {
		return nil, err
	}
	x.out.Interrupted = err != nil
	x.out.Tried, x.out.Simulated = x.tried, x.spent
	if x.out.Interrupted {
		if c := x.latest; c != nil && c.best != x.own {
			x.out.Present.Train = x.figures(x.own.train, x.train, c.days)
			x.out.recommend(x, c.best, c.days)
		}
		return x.out, nil
	}
	x.validate()
	return x.out, nil
}

// validate sets what was found against the present policy.
func (x *search) validate() {
	r := x.out
	every, held := some(x.train, func(*trial) bool { return true }), some(x.hold, func(*trial) bool { return true })
	found := make([]outcome, len(x.hold))
	var gains []float64
	for fold, c := range x.found {
		of := some(x.hold, func(k *trial) bool { return k.fold == fold })
		for _, i := range of {
			found[i] = c.hold[i]
		}
		f := Fold{Present: x.figures(x.own.hold, x.hold, of), Found: x.figures(c.hold, x.hold, of), Changes: x.changes(c), Gain: x.worth(x.own.hold, of) - x.worth(c.hold, of)}
		r.Folds = append(r.Folds, f)
		gains = append(gains, f.Gain)
	}
	r.Gain = foresee.Estimate(gains)
	present := x.figures(x.own.hold, x.hold, held)
	r.Present = Policy{Train: x.figures(x.own.train, x.train, every), Fresh: &present, HoldOut: &present}
	x.front()
	if x.best == x.own || !better(r.Gain) || x.worth(x.own.hold, held)-x.worth(x.best.hold, held) < gain {
		return
	}
	r.recommend(x, x.best, every)
	fresh, cross := x.figures(x.best.hold, x.hold, held), x.figures(found, x.hold, held)
	r.Recommended.Fresh, r.Recommended.HoldOut = &fresh, &cross
}

// better reports whether what was found is better than the present policy by more than chance: in the mean of the folds by what a change is worth,
// and beyond their spread.
func better(g foresee.Figure) bool { return g.Mean >= gain && g.Low > 0 }

// worth is the price of a policy in the trials held out.
func (x *search) worth(held []outcome, of []int) float64 {
	t := sum(held, x.hold, of)
	return x.price(t.hours/t.bound, t.share())
}

// recommend takes in the best, and what it came to in the trials to train on that are listed.
func (r *Result) recommend(x *search, best *candidate, of []int) {
	r.Recommended = &Policy{Changes: x.changes(best), Train: x.figures(best.train, x.train, of)}
	r.Diff = diff(x.Name, x.Data, best.data)
}

// front lists the policies that were played on all days with arrivals of their own and that no other beats in both, cost and violations.
func (x *search) front() {
	every, held := some(x.train, func(*trial) bool { return true }), some(x.hold, func(*trial) bool { return true })
	var all []Policy
	for i, c := range append([]*candidate{x.own, x.best}, x.finalists...) {
		if i > 0 && c == x.own || i > 1 && c == x.best {
			continue
		}
		f := x.figures(c.hold, x.hold, held)
		all = append(all, Policy{Changes: x.changes(c), Train: x.figures(c.train, x.train, every), Fresh: &f})
	}
	for i, p := range all {
		beaten := false
		for j, o := range all {
			a, b := o.Fresh, p.Fresh
			no := a.Cost.Mean <= b.Cost.Mean && a.Violations.Mean <= b.Violations.Mean
			beaten = beaten || j != i && no && (a.Cost.Mean < b.Cost.Mean || a.Violations.Mean < b.Violations.Mean || j < i)
		}
		if !beaten {
			x.out.Front = append(x.out.Front, p)
		}
	}
	slices.SortStableFunc(x.out.Front, func(a, b Policy) int {
		return sign(a.Fresh.Cost.Mean - b.Fresh.Cost.Mean)
	})
}

func sign(v float64) int {
	switch {
	case v < 0:
		return -1
	case v > 0:
		return 1
	}
	return 0
}

// changes describes a candidate.
func (x *search) changes(c *candidate) []Change {
	out := []Change{}
	for i, e := range x.edits(c.at) {
		ch := Change{Field: e.Path, Line: e.Line, What: e.About(x.policy), From: e.Text, To: e.Write(e.To)}
		if c == x.explained {
			ch.Reason = x.reasons[i]
		}
		out = append(out, ch)
	}
	return out
}

// figures are what a policy came to in the trials listed, with intervals over the seeds.
func (x *search) figures(played []outcome, trials []trial, in []int) Figures {
	by := make([]total, x.out.Seeds)
	n := 0
	for s := range by {
		if by[s] = sum(played, trials, both(in, trials, func(k *trial) bool { return k.seed == s })); by[s].bound > 0 {
			n = s + 1
		}
	}
	of := func(f func(*total) float64) foresee.Figure {
		v := make([]float64, n)
		for s := range v {
			v[s] = f(&by[s])
		}
		return foresee.Estimate(v)
	}
	return Figures{
		WorkerHours: of(func(t *total) float64 { return t.hours }), Cost: of(func(t *total) float64 { return t.hours / t.bound }),
		Violations: of((*total).share), Minutes: of(func(t *total) float64 { return t.violations }),
		Actions: of(func(t *total) float64 { return t.actions / math.Max(t.days, 1e-9) }),
	}
}
