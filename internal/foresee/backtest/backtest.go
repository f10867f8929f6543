// Package backtest replays what a fleet's journal has through engine.Step with another policy, or with today's, and says where
// it would have decided otherwise than was decided.
//
// The replay is open: at each tick the policy is shown the readings and the size as they were. That is exact for as long as decisions
// agree. Once they differ, the fleet would have been of another size and its signals would have read otherwise; nobody knows
// what. So after each difference the replay goes on from what really was, and what the other size would have led to is the
// simulator's to say (Rate is the load to give it).
package backtest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"tidemark/internal/decide/engine"
	"tidemark/internal/decide/policy"
	"tidemark/internal/fleet"
	"tidemark/internal/record"
)

// Journal is what is replayed.
type Journal interface {
	Ticks(ctx context.Context, fleet string, since, until time.Time, each func(at time.Time, samples []record.Sample) error) error
	Decisions(ctx context.Context, fleet string, since, until time.Time, max int) ([]fleet.Decision, error)
}

// Verdict says how a decision of the replay and what happened stand to each other.
type Verdict string

// The verdicts.
const (
	Agree Verdict = "agree" // the same direction within the tolerance
	Only  Verdict = "only"  // the policy would have changed the size, and nobody did
	Not   Verdict = "not"   // the size was changed, and the policy would not have
	Other Verdict = "other" // both changed it, to different sizes
)

// Difference is one change of size, in the replay or in the journal.
type Difference struct {
	Time    time.Time       `json:"time"`
	Verdict Verdict         `json:"verdict"`
	From    int             `json:"from"`
	Would   int             `json:"would"` // what the policy would have gone to; From when it would have stayed
	Did     int             `json:"did"`
	Replay  *fleet.Decision `json:"replay,omitempty"` // with its reasons
	Journal *fleet.Decision `json:"journal,omitempty"`
}

// Moment is a tick, or the last of a stretch of them.
type Moment struct {
	Time  time.Time `json:"time"`
	Size  int       `json:"size"`  // as it was; -1 when it was not known
	Would int       `json:"would"` // what the policy asked for, given that size
}

// Result is what a replay came to.
type Result struct {
	Name        string       `json:"name"`
	Fleet       string       `json:"fleet"`
	Since       time.Time    `json:"since"` // of the first tick there is
	Until       time.Time    `json:"until"`
	Ticks       int          `json:"ticks"`
	Gaps        int          `json:"gaps"` // stretches of more than 10 ticks without one
	Agree       int          `json:"agree"`
	Differ      int          `json:"differ"`
	SureUntil   time.Time    `json:"sure_until"` // the first difference: up to it the replay is exact
	WorkerHours float64      `json:"worker_hours"`
	Absent      []string     `json:"absent"` // signals of the policy of which the journal has nothing
	Notes       []string     `json:"notes"`
	Changes     []Difference `json:"changes"`
	Moments     []Moment     `json:"moments"`
}

// Replay says what to replay.
type Replay struct {
	Name         string
	Policy       *policy.Fleet
	Tick         time.Duration
	Since, Until time.Time
	// Tolerance is how far apart two changes in the same direction may be and still be the same; default 2 minutes.
	Tolerance time.Duration
	// Progress, unless nil, is told now and then which time is reached.
	Progress func(time.Time)
}

// moments is how many there are at most.
const moments = 600

// ErrNothing: the journal has no raw readings of the fleet in that time.
var ErrNothing = errors.New("the journal has no raw readings of that time")

// Run replays.
func (r Replay) Run(ctx context.Context, j Journal) (*Result, error) {
	if r.Tolerance == 0 {
		r.Tolerance = 2 * time.Minute
	}
	did, err := j.Decisions(ctx, r.Policy.Name, r.Since, r.Until, math.MaxInt32)
	if err != nil {
		return nil, err
	}
	did = slices.DeleteFunc(did, func(d fleet.Decision) bool { return d.To == d.From || d.Shadow || pending(&d) })
	slices.Reverse(did) // they come newest first
	p := *r.Policy
	p.Mode = fleet.On // what it would do, if it were let
	out := &Result{Name: r.Name, Fleet: p.Name, Absent: []string{}, Notes: []string{}, Changes: []Difference{}, Moments: []Moment{}}
	run := &run{Replay: r, out: out, policy: &p, did: did, at: map[string]int{}, seen: make([]bool, len(p.Signals))}
	run.state.Fit(&p)
	run.input.Readings = make([]fleet.Reading, len(p.Signals))
	for i, s := range p.Signals {
		run.at[s.Name] = i
	}
	if err := j.Ticks(ctx, p.Name, r.Since, r.Until, func(at time.Time, samples []record.Sample) error {
		run.tick(at, samples)
		return ctx.Err()
	}); err != nil {
		return nil, err
	}
	if out.Ticks == 0 {
		return nil, ErrNothing
	}
	run.finish()
	return out, nil
}

// pending reports whether a decision only repeats one that is on its way.
func pending(d *fleet.Decision) bool {
	return slices.ContainsFunc(d.Reasons, func(r fleet.Reason) bool { return r.Code == fleet.ActionPending })
}

// run is a replay under way.
type run struct {
	Replay
	out      *Result
	policy   *policy.Fleet
	did      []fleet.Decision // not met yet
	at       map[string]int
	seen     []bool
	state    engine.State
	input    engine.Input
	decision fleet.Decision
	last     time.Time
	size     int // at the last tick
}

// tick replays one.
func (r *run) tick(at time.Time, samples []record.Sample) {
	out := r.out
	if out.Ticks == 0 {
		out.Since = at
	} else if at.Sub(r.last) > 10*r.Tick {
		out.Gaps++
	} else if r.size >= 0 {
		out.WorkerHours += float64(r.size) * at.Sub(r.last).Hours()
	}
	out.Ticks++
	out.Until = at
	for i := range r.input.Readings {
		r.input.Readings[i] = fleet.Reading{Time: at}
	}
	r.input.Now, r.input.Size, r.size, r.last = at, fleet.Size{}, -1, at
	for _, s := range samples {
		if s.Signal == record.SizeSignal {
			if s.Reading.Quality == fleet.Fresh {
				r.size = int(s.Reading.Value)
				r.input.Size = fleet.Size{Known: true, Serving: r.size}
			}
		} else if i, ok := r.at[s.Signal]; ok {
			r.input.Readings[i] = s.Reading
			r.seen[i] = true
		}
	}
	engine.Step(r.policy, &r.state, &r.input, &r.decision)
	would := r.decision.To
	if r.size < 0 {
		would = -1
	}
	out.Moments = append(out.Moments, Moment{at, r.size, would})
	if r.decision.To != r.decision.From && r.state.Action != nil {
		c := r.decision
		c.Reasons = slices.Clone(c.Reasons)
		out.Changes = append(out.Changes, r.match(&c))
		r.state.Action = nil // the fleet goes its own way: nothing to wait for
	}
	r.missed(at.Add(-r.Tolerance))
	if r.Progress != nil && out.Ticks%4096 == 0 {
		r.Progress(at)
	}
}

// match finds what happened about when the policy would have changed the size.
func (r *run) match(d *fleet.Decision) Difference {
	up := d.To > d.From
	for i := range r.did {
		did := &r.did[i]
		if did.Time.After(d.Time.Add(r.Tolerance)) {
			break
		}
		if did.Time.Before(d.Time.Add(-r.Tolerance)) || (did.To > did.From) != up {
			continue
		}
		c := Difference{Time: d.Time, Verdict: Agree, From: d.From, Would: d.To, Did: did.To, Replay: d, Journal: clone(did)}
		if did.To != d.To {
			c.Verdict = Other
		}
		r.did = slices.Delete(r.did, i, i+1)
		return c
	}
	return Difference{Time: d.Time, Verdict: Only, From: d.From, Would: d.To, Did: d.From, Replay: d}
}

// missed takes up what happened before a time and has no counterpart.
func (r *run) missed(before time.Time) {
	n := 0
	for n < len(r.did) && r.did[n].Time.Before(before) {
		d := &r.did[n]
		r.out.Changes = append(r.out.Changes, Difference{Time: d.Time, Verdict: Not, From: d.From, Would: d.From, Did: d.To, Journal: clone(d)})
		n++
	}
	r.did = r.did[n:]
}

func clone(d *fleet.Decision) *fleet.Decision {
	c := *d
	return &c
}

// finish sums up.
func (r *run) finish() {
	out := r.out
	r.missed(out.Until.Add(time.Nanosecond))
	slices.SortStableFunc(out.Changes, func(a, b Difference) int { return a.Time.Compare(b.Time) })
	out.SureUntil = out.Until
	for _, c := range out.Changes {
		if c.Verdict == Agree {
			out.Agree++
			continue
		}
		if out.Differ++; out.Differ == 1 {
			out.SureUntil = c.Time
		}
	}
	for i, s := range r.policy.Signals {
		if !r.seen[i] {
			out.Absent = append(out.Absent, s.Name)
		}
	}
	if late := out.Since.Sub(r.Since); late > 10*r.Tick && !r.Since.IsZero() {
		out.Notes = append(out.Notes, fmt.Sprintf("raw readings are kept from %s on: what is before is rolled up, and cannot be replayed (retention.raw says how long)", out.Since.UTC().Format("2006-01-02 15:04 MST")))
	}
	if len(out.Absent) > 0 {
		out.Notes = append(out.Notes, fmt.Sprintf("the journal has nothing of %v: rules on these see missing data, and prevent scale-in", out.Absent))
	}
	for i := range r.policy.Policies {
		if r.policy.Policies[i].Forecast != nil {
			out.Notes = append(out.Notes, fmt.Sprintf("%s looks ahead by the weeks before, which are not replayed: it asks for nothing", r.policy.Policies[i].ID))
		}
	}
	if each := (len(out.Moments) + moments - 1) / moments; each > 1 {
		kept := out.Moments[:0]
		for i := 0; i < len(out.Moments); i += each {
			part := out.Moments[i:min(i+each, len(out.Moments))]
			m := part[len(part)-1]
			for _, o := range part { // a wish that lasts a tick is seen
				if o.Would >= 0 && o.Would != o.Size {
					m = o
				}
			}
			kept = append(kept, m)
		}
		out.Moments = kept
	}
}
