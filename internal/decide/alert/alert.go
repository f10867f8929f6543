// Package alert decides what a person must be told. Step takes the rules, what the last tick left and the facts of this one, and
// says all that is the case: pure, as all of decide. Bringing it to people is internal/tell's.
//
// A notice is raised when its condition has held for the rule's time, and ends when the condition has been gone for a time of
// its own, with a threshold of its own where figures waver: what flickers is told once. A condition that cannot be judged, because
// what it rests on is missing, is neither raised nor ended; its time stands still.
package alert

import (
	"slices"
	"strings"
	"time"

	"tidemark/internal/fleet"
)

// State is what the rules remember of a fleet from tick to tick: plain data, to be stored as JSON beside the engine's.
type State struct {
	Tick  time.Time `json:"tick"`
	Items []Item    `json:"items,omitempty"` // by key
	// Asked are the response times when a scale-out was decided; Up is the last one that was carried out.
	Asked  []Measured `json:"asked,omitempty"`
	Up     *ScaleUp   `json:"up,omitempty"`
	Failed *Failure   `json:"failed,omitempty"`
}

// Item is one condition.
type Item struct {
	Key    string    `json:"key"`
	Since  time.Time `json:"since,omitzero"` // since when it holds; zero when it does not
	Clear  time.Time `json:"clear,omitzero"` // since when it is gone, while its notice fires
	Notice *Notice   `json:"notice,omitempty"`
}

func (i *Item) firing() bool { return i.Notice != nil && i.Notice.Firing() }

// Measured is a signal's value.
type Measured struct {
	Signal string  `json:"signal"`
	Value  float64 `json:"value"`
}

// ScaleUp is a scale-up that was carried out. One that follows before the last has settled is taken as part of it.
type ScaleUp struct {
	From   int        `json:"from"`
	To     int        `json:"to"`
	Done   time.Time  `json:"done"` // the first
	Latest time.Time  `json:"latest"`
	Before []Measured `json:"before,omitempty"` // response times when it was decided
}

// Failure is an action that failed, and how often since the last that worked.
type Failure struct {
	From  int           `json:"from"`
	To    int           `json:"to"`
	Note  string        `json:"note,omitempty"`
	Took  time.Duration `json:"took"`
	Count int           `json:"count"`
	Last  time.Time     `json:"last"`
}

// Kept is how long the end of a notice is said: a place that cannot be reached for a moment still hears of it.
const Kept = time.Hour

// lasts is how long what happens once counts as the case, for places that show states.
const lasts = time.Hour

type verdict uint8

const (
	unknown verdict = iota
	no
	yes
)

// finding is what a rule says of one condition at one tick.
type finding struct {
	rule     string
	signal   string
	verdict  verdict
	raise    time.Duration // after it has held for so long
	resolve  time.Duration // after it has been gone for so long
	severity Severity
	title    string
	lines    []string
	over     string // said at its end
	once     bool   // it happened at this tick
}

func (f *finding) key(fleet string) string {
	if fleet == "" {
		fleet = "instance"
	}
	return strings.TrimSuffix(fleet+"/"+f.rule+"/"+f.signal, "/")
}

// checks are the rules, each on its own.
var checks = []func(*context) []finding{
	clockJumped, journalFailing, targetLost, signalsMissing, cpuHigh, notImproving, short, actionFailed, slowToScale, unavailable, overBudget,
}

// context is what a rule may look at.
type context struct {
	*Rules
	*Facts
	state *State
}

// firing reports whether the notice of a rule fires now: its condition is then judged by the threshold that ends it.
func (c *context) firing(rule, signal string) bool {
	i := c.state.item((&finding{rule: rule, signal: signal}).key(c.Fleet))
	return i != nil && i.firing()
}

// Step advances s by one tick and returns all that is the case, and what ended within the last hour, by key.
func Step(r *Rules, s *State, f *Facts) []Notice {
	s.shift(f.Jump)
	gap := max(0, f.Now.Sub(s.Tick))
	if s.Tick.IsZero() {
		gap = 0
	}
	s.Tick = f.Now
	s.remember(r, f)
	c := &context{r, f, s}
	seen := map[string]bool{}
	for _, check := range checks {
		for _, found := range check(c) {
			key := found.key(f.Fleet)
			seen[key] = true
			s.judge(key, &found, f, gap)
		}
	}
	var out []Notice
	for i := range s.Items {
		item := &s.Items[i]
		item.settle(f.Now, seen[item.Key])
		if item.Notice != nil {
			out = append(out, *item.Notice)
		}
	}
	s.Items = slices.DeleteFunc(s.Items, func(i Item) bool { return i.Notice == nil && (i.Since.IsZero() || !seen[i.Key]) })
	return out
}

// settle ends what nothing looks at any more (a signal that is gone from the configuration) and what happened an hour ago, and
// forgets what ended before that.
func (i *Item) settle(now time.Time, seen bool) {
	n := i.Notice
	switch {
	case n == nil:
	case !n.Firing() && now.Sub(n.Ended) > Kept:
		i.Notice = nil
	case !n.Firing():
	case n.Once && now.Sub(n.Started) >= lasts:
		n.Ended = now
	case !n.Once && !seen:
		n.Ended, n.Lines = now, []string{"Nothing measures it any more."}
	}
}

func (s *State) item(key string) *Item {
	at, ok := s.find(key)
	if !ok {
		return nil
	}
	return &s.Items[at]
}

func (s *State) find(key string) (int, bool) {
	return slices.BinarySearchFunc(s.Items, key, func(i Item, k string) int { return strings.Compare(i.Key, k) })
}

// judge moves one condition on.
func (s *State) judge(key string, found *finding, f *Facts, gap time.Duration) {
	at, ok := s.find(key)
	if !ok {
		if found.verdict != yes {
			return
		}
		s.Items = slices.Insert(s.Items, at, Item{Key: key})
	}
	i := &s.Items[at]
	write := func(started time.Time) {
		i.Notice = &Notice{
			Key: key, Rule: found.rule, Instance: f.Instance, Fleet: f.Fleet, Signal: found.signal, Severity: found.severity,
			Title: found.title, Lines: found.lines, Started: started, Once: found.once,
		}
	}
	switch {
	case found.once && found.verdict == yes:
		write(f.Now)
	case found.verdict == yes:
		i.Clear = time.Time{}
		if i.Since.IsZero() {
			i.Since = f.Now
		}
		if i.firing() {
			write(i.Notice.Started) // with the figures of now
		} else if f.Now.Sub(i.Since) >= found.raise {
			write(i.Since)
		}
	case found.verdict == no:
		i.Since = time.Time{}
		if !i.firing() {
			return
		}
		if i.Clear.IsZero() {
			i.Clear = f.Now
		}
		if f.Now.Sub(i.Clear) >= found.resolve {
			i.Notice.Ended, i.Clear = i.Clear, time.Time{}
			i.Notice.Lines = nil
			if found.over != "" {
				i.Notice.Lines = []string{found.over}
			}
		}
	case i.firing():
		later(&i.Clear, gap)
	default:
		later(&i.Since, gap)
	}
}

// remember takes in what happened at this tick, for the rules that look back.
func (s *State) remember(r *Rules, f *Facts) {
	for i := range f.Events {
		e := &f.Events[i]
		switch {
		case e.Kind == fleet.EventDecision && e.To > e.From:
			s.Asked = nil
			for _, sig := range f.Signals {
				if sig.Unit == fleet.Seconds && sig.Threshold > 0 && sig.Reading.Quality == fleet.Fresh {
					s.Asked = append(s.Asked, Measured{sig.Name, sig.Reading.Value})
				}
			}
		case e.Kind == fleet.EventActionDone && e.To > e.From:
			if s.Up != nil && f.Now.Sub(s.Up.Latest) <= r.Settle {
				s.Up.To, s.Up.Latest = e.To, f.Now
			} else {
				s.Up = &ScaleUp{From: e.From, To: e.To, Done: f.Now, Latest: f.Now, Before: s.Asked}
			}
			s.Asked, s.Failed = nil, nil
		case e.Kind == fleet.EventActionDone:
			s.Up, s.Failed = nil, nil // what a scale-up did is undone
		case e.Kind == fleet.EventActionFailed:
			count := 1
			if s.Failed != nil {
				count += s.Failed.Count
			}
			s.Failed = &Failure{From: e.From, To: e.To, Note: e.Note, Took: time.Duration(e.Duration), Count: count, Last: f.Now}
		}
	}
}

// shift moves all times by d, because the wall clock moved by itself. What was told keeps its beginning: it is known by it.
func (s *State) shift(d time.Duration) {
	if d == 0 {
		return
	}
	later(&s.Tick, d)
	for i := range s.Items {
		later(&s.Items[i].Since, d)
		later(&s.Items[i].Clear, d)
		if n := s.Items[i].Notice; n != nil && !n.Firing() {
			later(&n.Ended, d)
		}
	}
	if s.Up != nil {
		later(&s.Up.Done, d)
		later(&s.Up.Latest, d)
	}
	if s.Failed != nil {
		later(&s.Failed.Last, d)
	}
}

func later(t *time.Time, d time.Duration) {
	if !t.IsZero() {
		*t = t.Add(d)
	}
}
