package app

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"tidemark/internal/act/kubernetes"
	"tidemark/internal/control"
	"tidemark/internal/decide/engine"
	"tidemark/internal/decide/policy"
	"tidemark/internal/fleet"
	"tidemark/internal/kubeapi/scalingpolicy"
)

// describe says of a policy what is the case. st is its fleet's; nil: nothing of it is in force. last is its last change; empty: none since
// the daemon's start, and what is known of it stays.
func describe(e *entry, st *control.Status, last string) scalingpolicy.Status {
	s := scalingpolicy.Status{ObservedGeneration: e.object.Meta.Generation, LastDecision: cmp.Or(last, e.object.Status.LastDecision)}
	valid := scalingpolicy.Condition{Type: scalingpolicy.Valid, Status: "True", Reason: accepted, Message: "the spec is in force"}
	if e.refusal != (refusal{}) {
		valid.Status, valid.Reason, valid.Message = "False", e.refusal.reason, e.refusal.message
	}
	ready := scalingpolicy.Condition{Type: scalingpolicy.Ready, Status: "False", Reason: "NotInForce", Message: "no generation of it is in force"}
	limited := scalingpolicy.Condition{Type: scalingpolicy.Limited, Status: "Unknown", Reason: "NotMeasured", Message: "nothing was decided yet"}
	if e.good != nil {
		f := e.good.fleet()
		s.InForce, s.Min, s.Max = &e.good.Generation, &f.Policy.Bounds.Min, &f.Policy.Bounds.Max
		if c, ok := f.Target.Body.(*kubernetes.Config); ok {
			s.Target = c.Kind + "/" + c.Name
		}
		s.Mode = f.Policy.Mode.String()
		ready.Status, ready.Reason, ready.Message = "Unknown", "Starting", "it was not looked at yet"
		if st != nil && !st.Time.IsZero() {
			figures(&s, st)
			hold(&ready, &f.Policy, st)
			limit(&limited, st)
		}
	}
	if e.refusal != (refusal{}) && e.good != nil {
		valid.Message += fmt.Sprintf(" (generation %d stays in force)", e.good.Generation)
	}
	s.Conditions = []scalingpolicy.Condition{valid, ready, limited}
	for i := range s.Conditions {
		s.Conditions[i].ObservedGeneration = s.ObservedGeneration
	}
	s.Why = why(s.Conditions, st)
	return s
}

// figures are the fleet's sizes, and its last change.
func figures(s *scalingpolicy.Status, st *control.Status) {
	s.Mode = st.Mode.String()
	if st.Size.Known {
		s.Size, s.Desired = &st.Size.Serving, &st.Decision.To
		if st.Action != nil {
			s.Desired = &st.Action.To
		}
	}
	if last := slices.MaxFunc([]time.Time{st.LastUp, st.LastDown}, time.Time.Compare); !last.IsZero() {
		last = last.UTC().Truncate(time.Second)
		s.LastScaleTime = &last
	}
}

// because is the first reason of a decision that asked for the size.
func because(d *fleet.Decision) string {
	for _, r := range d.Reasons {
		if r.Size != d.From {
			return ": " + r.Sentence(d.Time)
		}
	}
	return ""
}

// guarded are what guards and short supplies hold back with.
var guarded = []fleet.Code{
	fleet.BlockedDatabase, fleet.BlockedHostCPU, fleet.BlockedGuard, fleet.GuardUnknown, fleet.SupplyUnknown, fleet.LimitedConnections, fleet.LimitedMemory,
}

// hold says what keeps a fleet from being measured or acted on: the first that is the case.
func hold(c *scalingpolicy.Condition, p *policy.Fleet, st *control.Status) {
	lost := func() *control.SignalStatus {
		for i := range st.Signals {
			if !st.Signals[i].Lost.IsZero() && i < len(p.Signals) && !p.Signals[i].Optional {
				return &st.Signals[i]
			}
		}
		return nil
	}()
	would := st.Decision.Would.Code
	set := func(reason, message string) { c.Status, c.Reason, c.Message = "False", reason, message }
	switch {
	case st.TargetErr != "":
		set("TargetUnreadable", st.TargetErr)
	case st.Mode == fleet.Off || st.Mode == fleet.Shadow:
		set("Mode"+strings.ToUpper(st.Mode.String()[:1])+st.Mode.String()[1:], "what is decided is not done in mode "+st.Mode.String())
	case st.ActionErr != "":
		set("ActionFailed", st.ActionErr)
	case st.JournalErr != "":
		set("JournalFailed", "what is decided cannot be recorded, and is not done: "+st.JournalErr)
	case st.Order != nil && st.Order.Kind == engine.Hold:
		set("Held", "an operator holds it")
	case lost != nil:
		set("SignalMissing", strings.TrimSuffix(fmt.Sprintf("%s is %s: %s", lost.Name, lost.Reading.Quality, lost.Err), ": "))
	case slices.Contains(guarded, would):
		set("Guarded", st.Decision.Counterfactual())
	default:
		c.Status, c.Reason, c.Message = "True", "Acting", "it is measured, and what is decided is done"
	}
}

// limit says whether the bounds keep a fleet from the size that is wanted.
func limit(c *scalingpolicy.Condition, st *control.Status) {
	c.Status, c.Reason, c.Message = "False", "WithinBounds", "the size that is wanted is within the bounds"
	switch {
	case !st.Size.Known:
		c.Status, c.Reason, c.Message = "Unknown", "NotMeasured", "its size is not known"
	case st.Short > 0:
		c.Status, c.Reason, c.Message = "True", "AtMaximum", fmt.Sprintf("%d more than bounds.max, %d, are wanted", st.Short, st.Bounds.Max)
	case st.Decision.Wanted > 0 && st.Decision.Wanted < st.Bounds.Min:
		c.Status, c.Reason, c.Message = "True", "AtMinimum", fmt.Sprintf("fewer than bounds.min, %d, would do", st.Bounds.Min)
	}
}

// why is the one thing that somebody who looks at a list is told.
func why(cs []scalingpolicy.Condition, st *control.Status) string {
	valid, ready, limited := &cs[0], &cs[1], &cs[2]
	switch {
	case valid.Status == "False":
		return valid.Reason
	case ready.Status != "True":
		return ready.Reason
	case st.Action != nil:
		return fmt.Sprintf("Scaling %d to %d", st.Action.From, st.Action.To)
	case limited.Status == "True":
		return limited.Reason
	case st.Decision.Would.Code != fleet.NoCode:
		return "Waits: " + st.Decision.Would.Code.String()
	}
	return "Steady"
}
