package text

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/show/web"
)

// eventWords says each kind of event in an operator's words.
var eventWords = map[fleet.Kind]func(e *fleet.Event) string{
	fleet.EventDecision:      decisionWords,
	fleet.EventActionStarted: func(e *fleet.Event) string { return fmt.Sprintf("action %d -> %d started", e.From, e.To) },
	fleet.EventActionDone:    doneWords,
	fleet.EventActionFailed: func(e *fleet.Event) string {
		return fmt.Sprintf("action %d -> %d failed after %s%s", e.From, e.To, elapsed(e), because(e))
	},
	fleet.EventSizeChanged: func(e *fleet.Event) string {
		return fmt.Sprintf("size changed %d -> %d, not by Tidemark", e.From, e.To)
	},
	fleet.EventAlarm: func(e *fleet.Event) string {
		return fmt.Sprintf("alarm %s %s is now %s (%s)", e.Signal, e.Note, e.State, e.Policy)
	},
	fleet.EventGuard: func(e *fleet.Event) string {
		if e.Duration > 0 {
			return fmt.Sprintf("guard %s %s after %s", e.Policy, e.State, elapsed(e))
		}
		return fmt.Sprintf("guard %s %s back scale-outs%s", e.Policy, e.State, because(e))
	},
	fleet.EventSignalLost: func(e *fleet.Event) string {
		return fmt.Sprintf("signal %s is %s for %s%s", e.Signal, e.State, elapsed(e), because(e))
	},
	fleet.EventSignalBack:    func(e *fleet.Event) string { return fmt.Sprintf("signal %s is back", e.Signal) },
	fleet.EventTargetLost:    func(e *fleet.Event) string { return "the target cannot be read" + because(e) },
	fleet.EventTargetBack:    func(e *fleet.Event) string { return "the target can be read again, after " + elapsed(e) },
	fleet.EventOrder:         orderWords,
	fleet.EventNote:          func(e *fleet.Event) string { return fmt.Sprintf("%s noted: “%s”", e.By, e.Note) },
	fleet.EventStarted:       func(e *fleet.Event) string { return "the daemon took the lead" + because(e) },
	fleet.EventStopped:       func(e *fleet.Event) string { return "the daemon stopped; the fleets stay as they are" + because(e) },
	fleet.EventReloaded:      func(e *fleet.Event) string { return "the configuration was read again" + because(e) },
	fleet.EventReloadRefused: func(e *fleet.Event) string { return "a new configuration was refused, the old one stays" + because(e) },
	fleet.EventClockJump: func(e *fleet.Event) string {
		return "the clock jumped by " + elapsed(e) + ": waiting times moved with it"
	},
	fleet.EventAlertRaised: func(e *fleet.Event) string { return "alert, " + e.State + because(e) },
	fleet.EventAlertOver:   func(e *fleet.Event) string { return "alert over after " + elapsed(e) + because(e) },
	fleet.EventAlertSeen: func(e *fleet.Event) string {
		return fmt.Sprintf("alert %s acknowledged by %s%s", e.State, who(e), because(e))
	},
	fleet.EventAlertTested:    func(e *fleet.Event) string { return "test messages sent for " + who(e) },
	fleet.EventSignedIn:       func(e *fleet.Event) string { return who(e) + " signed in" + because(e) },
	fleet.EventSignInFailed:   func(e *fleet.Event) string { return "a sign-in failed, as " + who(e) + because(e) },
	fleet.EventSignedOut:      func(e *fleet.Event) string { return who(e) + " signed out" },
	fleet.EventRefused:        func(e *fleet.Event) string { return "refused to " + who(e) + because(e) },
	fleet.EventBalancerFailed: func(e *fleet.Event) string { return "the balancer could not be told" + because(e) },
	fleet.EventJournalFailed:  func(e *fleet.Event) string { return "the journal could not be written for " + elapsed(e) + because(e) },
}

func elapsed(e *fleet.Event) string { return fleet.Elapsed(time.Duration(e.Duration)) }

// who is who did something, and from where.
func who(e *fleet.Event) string {
	name := e.By
	if name == "" {
		name = "somebody"
	}
	if e.Origin == "" {
		return name
	}
	return name + " (" + e.Origin + ")"
}

func because(e *fleet.Event) string {
	if e.Note == "" {
		return ""
	}
	return ": " + e.Note
}

func decisionWords(e *fleet.Event) string {
	if e.Decision == nil {
		return fmt.Sprintf("%d -> %d", e.From, e.To)
	}
	var why []string
	for _, r := range e.Decision.Reasons {
		why = append(why, r.Sentence(e.Decision.Time))
	}
	return e.Decision.Headline() + ": " + strings.Join(why, "; ")
}

func doneWords(e *fleet.Event) string {
	s := fmt.Sprintf("action %d -> %d done in %s", e.From, e.To, elapsed(e))
	if p := e.Parts; p != nil {
		s += fmt.Sprintf(" from the breach (to alarm %s, to decision %s, to action %s, to serving %s)", fleet.Elapsed(time.Duration(p.BreachToAlarm)),
			fleet.Elapsed(time.Duration(p.AlarmToDecision)), fleet.Elapsed(time.Duration(p.DecisionToAction)), fleet.Elapsed(time.Duration(p.ActionToServing)))
	}
	return s
}

func orderWords(e *fleet.Event) string {
	s := e.State
	if e.To > 0 {
		s += fmt.Sprintf(" %d", e.To)
	}
	if e.Duration > 0 {
		s += " for " + elapsed(e)
	}
	return fmt.Sprintf("%s by %s%s", s, who(e), because(e))
}

// Event says one event in a line, without its time and fleet.
func Event(e *fleet.Event) string {
	if words := eventWords[e.Kind]; words != nil {
		return words(e)
	}
	return string(e.Kind) + because(e)
}

// Trouble reports whether an event says that something is not as it should be.
func Trouble(e *fleet.Event) bool {
	switch e.Kind {
	case fleet.EventActionFailed, fleet.EventSignalLost, fleet.EventTargetLost, fleet.EventJournalFailed, fleet.EventBalancerFailed, fleet.EventReloadRefused, fleet.EventClockJump, fleet.EventAlertRaised:
		return true
	case fleet.EventGuard:
		return e.Duration == 0 // it holds
	}
	return false
}

// eventTones are the colours of what is not trouble and still stands out.
var eventTones = map[fleet.Kind]func(View, string) string{
	fleet.EventDecision: View.bold, fleet.EventOrder: View.bold, fleet.EventActionDone: View.good, fleet.EventAlertOver: View.good, fleet.EventSignalBack: View.good, fleet.EventTargetBack: View.good,
	fleet.EventAlarm: View.warn, fleet.EventGuard: View.warn,
}

// Events writes events a line each, in the order given: date and time, the fleet, what happened. Lines are the same whenever they are
// written, and in whatever company, but for the fleets' column, which is as wide as its longest name.
func Events(w io.Writer, v View, events []fleet.Event) {
	names := 0
	for i := range events {
		names = max(names, len(events[i].Fleet))
	}
	for i := range events {
		e := &events[i]
		name := e.Fleet
		if name == "" {
			name = "-"
		}
		said := Event(e)
		switch tone := eventTones[e.Kind]; {
		case Trouble(e):
			said = v.Bad(said)
		case tone != nil:
			said = tone(v, said)
		}
		fmt.Fprintf(w, "%s  %-*s  %s\n", v.dim(e.Time.In(v.Zone).Format("2006-01-02 15:04:05")), names, name, said)
	}
}

// Explain writes why a fleet's size is, or was, what it is.
func Explain(w io.Writer, v View, e *web.Explanation) {
	fmt.Fprintf(w, "%s at %s\n", v.bold(e.Fleet), v.clock(e.At))
	if e.Decision == nil {
		fmt.Fprintln(w, "  nothing was recorded by then")
	} else {
		chain(w, v, e.Decision)
		if since := e.At.Sub(e.Decision.Time); since > time.Minute {
			fmt.Fprintf(w, "  %s\n", v.dim("decided first at "+v.clock(e.Decision.Time)+"; the figures in the reasons are of then"))
		}
	}
	if e.Status != nil {
		scheduled(w, v, e.Status.Schedule)
	}
	if len(e.Readings) > 0 {
		fmt.Fprintln(w, "readings then:")
	}
	tinted(w, func(t *tabwriter.Writer, tint func(func(string) string)) {
		for i, s := range e.Readings {
			value, paint := s.Reading.Quality.String(), v.warn
			if s.Reading.Quality == fleet.Fresh {
				unit := fleet.Number
				if i < len(e.Units) {
					unit = e.Units[i]
				}
				value, paint = unit.Format(s.Reading.Value), plain
			}
			tint(paint)
			fmt.Fprintf(t, "  %s\t%s\n", s.Signal, value)
		}
	})
	for i := range e.Compare {
		fmt.Fprintln(w, comparison(&e.Compare[i]))
	}
	if len(e.Changes) > 0 {
		fmt.Fprintln(w, "before it:")
		for i := range e.Changes {
			fmt.Fprintf(w, "  %s  %s\n", v.clock(e.Changes[i].Time), Event(&e.Changes[i]))
		}
	}
}

// comparison says what one policy alone would have used.
func comparison(c *web.Comparison) string {
	who := c.Policy
	if c.Mode == fleet.Shadow {
		who += ", in shadow,"
	}
	s := fmt.Sprintf("%s alone would have used %.3g worker-hours in %s, with %d to %d workers; the fleet used %.3g", who, c.Alone,
		fleet.Elapsed(time.Duration(c.Span)), c.Min, c.Max, c.Actual)
	if c.Actual > 0 {
		s += fmt.Sprintf(" (%+.0f %%)", 100*(c.Alone/c.Actual-1))
	}
	return s
}
