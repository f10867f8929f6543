package engine

import (
	"fmt"
	"slices"
	"time"

	"tidemark/internal/decide/policy"
	"tidemark/internal/decide/signal"
	"tidemark/internal/fleet"
)

// State is all that a fleet's decisions remember from one tick to the next. It is plain data: what the journal stores
// is this, as JSON, and a daemon that starts from it decides as the one before would have.
type State struct {
	Tick    time.Time     `json:"tick"` // of the last Step
	Size    fleet.Size    `json:"size"` // as last known
	Signals []SignalState `json:"signals"`
	Rules   []RuleState   `json:"rules"`
	SLOs    []SLOState    `json:"slos,omitempty"` // of the policies that have one, in their order
	// Forecasts are likewise.
	Forecasts []ForecastState `json:"forecasts,omitempty"`
	// Timers of what was done, and of what would have been done in shadow: a trial never delays the real thing.
	Acted  Timers  `json:"acted"`
	Shadow Timers  `json:"shadow,omitzero"`
	Order  *Order  `json:"order,omitempty"` // the hold or pin in force
	Mode   *Order  `json:"mode,omitempty"`  // the mode an operator set over the policy's
	Action *Action `json:"action,omitempty"`
	// Held is the last tick at which a scale-out was wanted and a safeguard held it: time to scale does not count waiting
	// that the policy asked for.
	Held   time.Time    `json:"held,omitzero"`
	Guards []GuardState `json:"guards,omitempty"`
	// Claim is the size that the fleet would have by now if quota, connections and host memory were there: fleets that go after it leave
	// room for that. Each is what one worker takes of a resource, as last known.
	Claim int                       `json:"claim,omitempty"`
	Each  [policy.Resources]float64 `json:"each,omitzero"`
	// Boot is how long a scale-out took from the decision until all its workers served: as the latest, or longer when others
	// before it took longer. 0: none was timed.
	Boot time.Duration `json:"boot,omitzero"`

	windows windows
	still   still
}

// SignalState is one signal's memory.
type SignalState struct {
	Name   string        `json:"name"`
	Series signal.Series `json:"series"`
	Last   fleet.Reading `json:"last"`           // as read at the last tick
	Lost   time.Time     `json:"lost,omitzero"`  // since when it is missing or stale; zero while it is there
	Fresh  time.Time     `json:"fresh,omitzero"` // when it was last fresh or sparse
	keep   int
}

// RuleState is one rule's alarm.
type RuleState struct {
	Key string `json:"key"` // tells after a reload whether it is still the same rule
	signal.Verdict
	Since time.Time `json:"since,omitzero"` // of the state
}

// Action is a decision on its way to being carried out.
type Action struct {
	From     int       `json:"from"`
	To       int       `json:"to"`
	Since    time.Time `json:"since"`
	Begun    time.Time `json:"begun,omitzero"` // when its workers were started, on average
	Deadline time.Time `json:"deadline"`
	Breach   time.Time `json:"breach,omitzero"`
	Alarm    time.Time `json:"alarm,omitzero"`
	Before   Timers    `json:"before"` // to go back to if it cannot even be recorded,
	// Enlarges is the action that goes on then: this one asks for more while its workers start.
	Enlarges *Action `json:"enlarges,omitempty"`
}

// Fit makes the state fit the policy: what still means the same is kept by name, what is new starts empty, what is gone is
// dropped. A new State is Fit to its policy before its first Step, and again after each reload.
func (s *State) Fit(p *policy.Fleet) {
	s.windows, s.still = windows{}, still{}
	signals := make([]SignalState, len(p.Signals))
	for i, sig := range p.Signals {
		signals[i].Name = sig.Name
		for _, old := range s.Signals {
			if old.Name == sig.Name {
				signals[i] = old
			}
		}
		signals[i].keep = 1
	}
	var rules []RuleState
	for i := range p.Policies {
		for _, r := range p.Policies[i].Rules {
			sig := &signals[r.Signal]
			sig.keep = max(sig.keep, r.Range())
			now := RuleState{Key: ruleKey(p, p.Policies[i].ID, r)}
			// A rule that stands twice is matched twice, in order.
			if i := slices.IndexFunc(s.Rules, func(old RuleState) bool { return old.Key == now.Key }); i >= 0 {
				now = s.Rules[i]
				s.Rules = slices.Delete(slices.Clone(s.Rules), i, i+1)
			}
			rules = append(rules, now)
		}
	}
	s.Guards = fitGuards(p, s.Guards, signals)
	s.Signals, s.Rules = signals, rules
	s.fitSLOs(p)
	s.fitForecasts(p)
}

// fitGuards keeps the conditions that still mean the same.
func fitGuards(p *policy.Fleet, before []GuardState, signals []SignalState) []GuardState {
	var guards []GuardState
	for i := range p.Guards {
		now := GuardState{Name: p.Guards[i].Name}
		at := slices.IndexFunc(before, func(old GuardState) bool { return old.Name == now.Name })
		for j, cond := range p.Guards[i].If {
			sig := &signals[cond.Signal]
			sig.keep = max(sig.keep, cond.Range())
			st := RuleState{Key: fmt.Sprintf("%s, release %g", ruleKey(p, now.Name, cond.Rule), cond.Release)}
			if at >= 0 && j < len(before[at].Conditions) && before[at].Conditions[j].Key == st.Key {
				st, now.Since = before[at].Conditions[j], before[at].Since
			}
			now.Conditions = append(now.Conditions, st)
		}
		guards = append(guards, now)
	}
	return guards
}

// Clone copies the state so that the two share nothing.
func (s *State) Clone() *State {
	c := *s
	c.Signals = slices.Clone(s.Signals)
	for i := range c.Signals {
		series := &c.Signals[i].Series
		series.Points = slices.Clone(series.Points)
		series.Values = slices.Clone(series.Values)
	}
	c.Rules = slices.Clone(s.Rules)
	c.Guards = slices.Clone(s.Guards)
	for i := range c.Guards {
		c.Guards[i].Conditions = slices.Clone(c.Guards[i].Conditions)
	}
	c.SLOs = slices.Clone(s.SLOs)
	for i := range c.SLOs {
		c.SLOs[i] = s.SLOs[i].clone()
	}
	c.Forecasts = slices.Clone(s.Forecasts)
	c.Acted.Recent = slices.Clone(s.Acted.Recent)
	c.Shadow.Recent = slices.Clone(s.Shadow.Recent)
	c.Order, c.Mode, c.Action = clonePtr(s.Order), clonePtr(s.Mode), clonePtr(s.Action)
	if c.Action != nil {
		c.Action.Before.Recent = slices.Clone(c.Action.Before.Recent)
		c.Action.Enlarges = clonePtr(c.Action.Enlarges)
	}
	return &c
}

func clonePtr[T any](p *T) *T {
	if p == nil {
		return nil
	}
	c := *p
	return &c
}

// Undo takes back the decision of the last Step: it was not carried out, so nothing waits for it.
func (s *State) Undo() {
	if s.Action == nil || !s.Action.Since.Equal(s.Tick) {
		return
	}
	s.Acted, s.Action, s.Claim = s.Action.Before, s.Action.Enlarges, 0
}

// EffectiveMode is the operator's mode if one was set, else the policy's.
func (s *State) EffectiveMode(p *policy.Fleet) fleet.Mode {
	if s.Mode != nil {
		return s.Mode.Mode
	}
	return p.Mode
}

// shift moves all times by d, because the wall clock moved by itself: what was to last 5 minutes still does.
func (s *State) shift(d time.Duration) {
	shift(&s.Tick, d)
	shift(&s.Held, d)
	s.Acted.shift(d)
	s.Shadow.shift(d)
	for i := range s.Signals {
		sig := &s.Signals[i]
		sig.Series.Shift(d)
		shift(&sig.Last.Time, d)
		shift(&sig.Lost, d)
		shift(&sig.Fresh, d)
	}
	for i := range s.Rules {
		shift(&s.Rules[i].Since, d)
		shift(&s.Rules[i].Breach, d)
	}
	for i := range s.Guards {
		shift(&s.Guards[i].Since, d)
		for j := range s.Guards[i].Conditions {
			shift(&s.Guards[i].Conditions[j].Since, d)
			shift(&s.Guards[i].Conditions[j].Breach, d)
		}
	}
	for i := range s.SLOs {
		s.SLOs[i].shift(d)
	}
	for i := range s.Forecasts {
		shift(&s.Forecasts[i].Asked, d)
	}
	// An order lasts as long as the operator was told it would.
	for _, o := range []*Order{s.Order, s.Mode} {
		if o != nil {
			shift(&o.At, d)
			shift(&o.Until, d)
		}
	}
	if a := s.Action; a != nil {
		for _, t := range []*time.Time{&a.Since, &a.Begun, &a.Deadline, &a.Breach, &a.Alarm} {
			shift(t, d)
		}
	}
}

func shift(t *time.Time, d time.Duration) {
	if !t.IsZero() {
		*t = t.Add(d)
	}
}
