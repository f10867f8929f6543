package control

import (
	"time"

	"tidemark/internal/decide/engine"
	"tidemark/internal/decide/forecast"
	"tidemark/internal/decide/policy"
	"tidemark/internal/decide/signal"
	"tidemark/internal/fleet"
)

// Status is what is known of one fleet after its last tick.
type Status struct {
	Fleet      string         `json:"fleet"`
	Time       time.Time      `json:"time"` // of the last tick; zero before the first
	Tick       fleet.Duration `json:"tick"`
	Took       fleet.Duration `json:"took"` // the last tick, from its start until what it decided was recorded and begun
	Mode       fleet.Mode     `json:"mode"`
	Size       fleet.Size     `json:"size"`
	Bounds     fleet.Bounds   `json:"bounds"`
	Workers    []fleet.Worker `json:"workers"`
	Signals    []SignalStatus `json:"signals"`
	Rules      []RuleStatus   `json:"rules"`
	Guards     []GuardStatus  `json:"guards,omitempty"`
	Objectives []Objective    `json:"objectives,omitempty"`
	Forecasts  []Forecast     `json:"forecasts,omitempty"`
	// Schedule is nil when there is none; Room is the most workers that the instance's quota leaves to the fleet, 0 without a quota.
	Schedule   *ScheduleStatus `json:"schedule,omitempty"`
	Room       int             `json:"room,omitempty"`
	Short      int             `json:"short,omitempty"` // workers wanted beyond the maximum, which is reached
	Decision   fleet.Decision  `json:"decision"`
	Order      *engine.Order   `json:"order,omitempty"`
	ModeOrder  *engine.Order   `json:"mode_order,omitempty"`
	Action     *engine.Action  `json:"action,omitempty"`
	LastUp     time.Time       `json:"last_up,omitzero"`
	LastDown   time.Time       `json:"last_down,omitzero"`
	TargetErr  string          `json:"target_error,omitempty"`
	ActionErr  string          `json:"action_error,omitempty"`
	BalanceErr string          `json:"balancer_error,omitempty"`
	JournalErr string          `json:"journal_error,omitempty"`
}

// SignalStatus is one signal as last read.
type SignalStatus struct {
	Name    string        `json:"name"`
	Unit    fleet.Unit    `json:"unit"`
	Reading fleet.Reading `json:"reading"`
	Lost    time.Time     `json:"lost_since,omitzero"`
	Err     string        `json:"error,omitempty"`
}

// GuardStatus is one guard.
type GuardStatus struct {
	Name  string    `json:"name"`
	Holds bool      `json:"holds"`
	Since time.Time `json:"since,omitzero"` // since when it holds
	Note  string    `json:"note"`           // what it looks at, with the figures
}

// RuleStatus is one rule and its alarm.
type RuleStatus struct {
	fleet.Rule
	State     fleet.AlarmState `json:"state"`
	Since     time.Time        `json:"since,omitzero"`
	Breaching int              `json:"breaching"`
	Value     float64          `json:"value"`
	Quality   fleet.Quality    `json:"quality"` // of the latest datapoint
	// Datapoints are the latest that the alarm looks at, oldest first; fewer where the signal is younger.
	Datapoints []signal.Datapoint `json:"datapoints"`
}

// Objective is one policy's service level, and what its model says of it.
type Objective struct {
	Policy   string          `json:"policy"`
	Mode     fleet.Mode      `json:"mode"`
	Signal   string          `json:"signal"`
	Within   float64         `json:"within"` // seconds
	Measured fleet.Reading   `json:"measured"`
	Proposal engine.Proposal `json:"proposal"`
	Factor   float64         `json:"factor"` // of load beyond what the model sees, learned
	Alone    int             `json:"alone"`  // the size if this policy alone had decided
}

// Forecast is one policy's look ahead.
type Forecast struct {
	Policy string         `json:"policy"`
	Mode   fleet.Mode     `json:"mode"`
	Signal string         `json:"signal"`
	Unit   fleet.Unit     `json:"unit"`
	Lead   fleet.Duration `json:"lead"`
	Band   forecast.Band  `json:"band"`
	Need   int            `json:"need"` // 0: not known
	Doubt  string         `json:"doubt,omitempty"`
	Held   float64        `json:"held"` // share of the latest measurements that lay within the band forecast for them,
	Of     uint64         `json:"of"`   // of how many ever
	Err    string         `json:"error,omitempty"`
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// snapshot builds the status from what the last tick left.
func (r *runner) snapshot() *Status {
	p, s := &r.parts.Policy, r.state
	st := &Status{
		Fleet: p.Name, Time: s.Tick, Tick: fleet.Duration(r.opts.Tick), Took: fleet.Duration(r.took), Mode: s.EffectiveMode(p), Size: r.size, Bounds: p.Bounds,
		Workers: append([]fleet.Worker(nil), r.workers...), Decision: cloneDecision(&r.decision),
		LastUp: s.Acted.Up, LastDown: s.Acted.Down,
		TargetErr: message(r.targetErr), ActionErr: message(r.actionErr), BalanceErr: message(r.balanceErr), JournalErr: message(r.journalErr),
	}
	st.Schedule = r.ahead.status(p.Schedule, s.Tick)
	if r.allotment.Limited {
		st.Room = max(r.allotment.Workers, p.Bounds.Min)
	}
	st.Short = r.decision.Short(p.Bounds.Max)
	for i := range s.Guards {
		g := &s.Guards[i]
		st.Guards = append(st.Guards, GuardStatus{Name: g.Name, Holds: !g.Since.IsZero(), Since: g.Since, Note: guardNote(p, s, i)})
	}
	c := s.Clone()
	st.Order, st.ModeOrder, st.Action = c.Order, c.Mode, c.Action
	for i := range s.Signals {
		sig := &s.Signals[i]
		st.Signals = append(st.Signals, SignalStatus{
			Name: sig.Name, Unit: p.Signals[i].Unit, Reading: sig.Last, Lost: sig.Lost, Err: message(r.readErrs[i]),
		})
	}
	eachRule(p, func(at int, pol *policy.Policy, rule policy.Rule) {
		rs, points := s.Rules[at], s.Signals[rule.Signal].Series.Points
		newest := s.Signals[rule.Signal].Series.Newest()
		st.Rules = append(st.Rules, RuleStatus{
			Rule:  told(p, pol, rule),
			State: rs.State, Since: rs.Since, Breaching: rs.Breaching, Value: newest.Value, Quality: newest.Quality,
			Datapoints: append([]signal.Datapoint{}, points[max(0, len(points)-rule.N):]...), // the series goes on in place
		})
	})
	eachSLO(p, s, func(pol *policy.Policy, m *engine.SLOState) {
		st.Objectives = append(st.Objectives, Objective{
			Policy: pol.ID, Mode: pol.Mode, Signal: p.Signals[pol.SLO.Objective].Name, Within: pol.SLO.Within,
			Measured: s.Signals[pol.SLO.Objective].Last, Proposal: m.Proposal, Factor: m.Factor, Alone: m.Alone.Size,
		})
	})
	for at := range r.foresee {
		o := &r.foresee[at]
		pol, m := &p.Policies[o.policy], &s.Forecasts[at]
		f := Forecast{
			Policy: pol.ID, Mode: pol.Mode, Signal: p.Signals[pol.Forecast.Signal].Name, Unit: p.Signals[pol.Forecast.Signal].Unit,
			Lead: fleet.Duration(pol.Forecast.Lead), Band: m.Band, Need: m.Need, Doubt: m.Doubt, Err: message(o.err),
		}
		if o.profile != nil {
			f.Held, f.Of = o.profile.Held()
		}
		st.Forecasts = append(st.Forecasts, f)
	}
	return st
}

// eachSLO visits the objectives, in the order of the engine's states.
func eachSLO(p *policy.Fleet, s *engine.State, visit func(*policy.Policy, *engine.SLOState)) {
	at := 0
	for i := range p.Policies {
		if p.Policies[i].SLO != nil {
			visit(&p.Policies[i], &s.SLOs[at])
			at++
		}
	}
}

// eachSize visits the policies that are not off and ask for a size of their own, with what it would be if each alone had
// decided; 0 when that is not known.
func (r *runner) eachSize(visit func(*policy.Policy, int)) {
	one := func(pol *policy.Policy, size int) {
		if pol.Mode != fleet.Off {
			visit(pol, size)
		}
	}
	eachSLO(&r.parts.Policy, r.state, func(pol *policy.Policy, m *engine.SLOState) { one(pol, m.Alone.Size) })
	for at, o := range r.foresee {
		one(&r.parts.Policy.Policies[o.policy], r.state.Forecasts[at].Need)
	}
}

// eachRule visits the rules in the order of the engine's states.
func eachRule(p *policy.Fleet, visit func(at int, pol *policy.Policy, r policy.Rule)) {
	at := 0
	for i := range p.Policies {
		for _, r := range p.Policies[i].Rules {
			visit(at, &p.Policies[i], r)
			at++
		}
	}
}

// told is a rule as others hear of it.
func told(p *policy.Fleet, pol *policy.Policy, r policy.Rule) fleet.Rule {
	sig := &p.Signals[r.Signal]
	return fleet.Rule{Policy: pol.ID, Mode: pol.Mode, Signal: sig.Name, Unit: sig.Unit, Operator: r.Operator, Threshold: r.Threshold, Change: r.Change, M: r.M, N: r.N,
		Period: fleet.Duration(sig.Period)}
}

func cloneDecision(d *fleet.Decision) fleet.Decision {
	c := *d
	c.Reasons = append([]fleet.Reason(nil), d.Reasons...)
	return c
}
