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
	Train   Figures  `json:"train"`
	HoldOut *Figures `json:"hold_out,omitempty"` // where it was validated
}

// Day is a block of a load.
type Day struct {
	Load string    `json:"load"`
	From time.Time `json:"from"`
}

// Result is what the search came to.
type Result struct {
	File        string    `json:"file"`
	Fleet       string    `json:"fleet"`
	Level       sim.Level `json:"level"`
	Seeds       int       `json:"seeds"`
	Allowed     float64   `json:"allowed_percent"`
	Train       []Day     `json:"train_days"`
	HoldOut     []Day     `json:"hold_out_days"`
	Tried       int       `json:"policies_tried"`
	Simulated   float64   `json:"simulated"`
	Interrupted bool      `json:"interrupted"`
	Present     Policy    `json:"present"`
	// Recommended is better than the present policy on the days held out; nil: nothing is recommended. Interrupted, it is the best so far,
	// and was not validated.
	Recommended *Policy  `json:"recommended"`
	Diff        string   `json:"diff,omitempty"`
	Front       []Policy `json:"pareto_front"` // on the days held out: none of them is better in both, cost and violations
	Notes       []string `json:"notes"`
}

const (
	day     = 24 * time.Hour
	leastOf = 2         // days to train on, and days held out
	mostOf  = 14        // of each
	lead    = time.Hour // before each day, to warm up
)

// ErrTooShort is that a load cannot be split.
var ErrTooShort = errors.New("too short to split into days to train on and days to validate on")

// split cuts a load into whole days, every other one to train on, so that both see each day of the week. Of a long load, days from all of it
// are taken.
func split(l *load.Series) (train, hold []time.Duration, err error) {
	n := int(l.Duration() / day)
	if n < 2*leastOf {
		return nil, nil, fmt.Errorf("%s lasts %s: %w; it takes %d days at least: give a longer file, or --days", l.Name, fleet.Elapsed(l.Duration()), ErrTooShort, 2*leastOf)
	}
	pairs := n / 2
	for k := range min(pairs, mostOf) {
		pair := k * pairs / min(pairs, mostOf)
		train, hold = append(train, time.Duration(2*pair)*day), append(hold, time.Duration(2*pair+1)*day)
	}
	if n%2 == 1 && pairs < mostOf {
		train = append(train, time.Duration(n-1)*day)
	}
	return train, hold, nil
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
	own := x.make(x.own())
	if own == nil {
		return nil, errors.New("the configuration cannot be read again") // it was read before
	}
	best, err := x.seek(ctx, own)
	if err != nil && !errors.Is(err, context.Canceled) {
		return nil, err
	}
	x.out.Interrupted = err != nil
	x.out.Tried, x.out.Simulated = x.tried, x.spent
	if len(own.train) == len(x.train) {
		x.out.Present.Train = x.figures(own.train, x.train)
	}
	if x.out.Interrupted {
		if best != nil && best != own {
			x.out.recommend(x, best, nil)
		}
		return x.out, nil
	}
	present := x.figures(own.hold, x.hold)
	x.out.Present.HoldOut = &present
	x.front(own, best)
	if best == own || !x.really(own, best) {
		return x.out, nil
	}
	held := x.figures(best.hold, x.hold)
	x.out.recommend(x, best, &held)
	return x.out, nil
}

func (r *Result) recommend(x *search, best *candidate, held *Figures) {
	r.Recommended = &Policy{Changes: x.changes(best), Train: x.figures(best.train, x.train), HoldOut: held}
	r.Diff = diff(x.Name, x.Data, best.data)
}

// really reports whether a policy is better on the days held out, by more than chance.
func (x *search) really(own, best *candidate) bool {
	by := make([]float64, x.out.Seeds)
	of := func(c *candidate, seed int) float64 {
		f := sum(c.hold, x.hold, func(k *trial) bool { return k.seed == seed })
		return x.price(f.hours/f.bound, f.share())
	}
	for s := range by {
		by[s] = of(own, s) - of(best, s)
	}
	e := foresee.Estimate(by)
	return e.Mean >= gain && e.Low > 0
}

// front lists the policies that were validated and that no other beats in both, cost and violations.
func (x *search) front(own, best *candidate) {
	var all []Policy
	for _, c := range append([]*candidate{own, best}, x.finalists...) {
		if len(c.hold) == len(x.hold) && !slices.ContainsFunc(all, func(p Policy) bool { return slices.Equal(p.Changes, x.changes(c)) }) {
			f := x.figures(c.hold, x.hold)
			all = append(all, Policy{Changes: x.changes(c), Train: x.figures(c.train, x.train), HoldOut: &f})
		}
	}
	for i, p := range all {
		beaten := false
		for j, o := range all {
			a, b := o.HoldOut, p.HoldOut
			no := a.Cost.Mean <= b.Cost.Mean && a.Violations.Mean <= b.Violations.Mean
			beaten = beaten || j != i && no && (a.Cost.Mean < b.Cost.Mean || a.Violations.Mean < b.Violations.Mean || j < i)
		}
		if !beaten {
			x.out.Front = append(x.out.Front, p)
		}
	}
	slices.SortStableFunc(x.out.Front, func(a, b Policy) int {
		return sign(a.HoldOut.Cost.Mean - b.HoldOut.Cost.Mean)
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

// figures are what a policy came to, with intervals over the seeds.
func (x *search) figures(played []outcome, trials []trial) Figures {
	by := make([]total, x.out.Seeds)
	n := 0
	for s := range by {
		if by[s] = sum(played, trials, func(k *trial) bool { return k.seed == s }); by[s].bound > 0 {
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
