package fleet

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// Format writes a value in a unit as an operator would: "72.5 %", "430ms", "1.2 GiB", "40".
func (u Unit) Format(v float64) string {
	switch u {
	case Percent:
		return trim(v) + " %"
	case Seconds:
		return formatSeconds(v)
	case Bytes:
		return formatBytes(v)
	case Number:
	}
	return trim(v)
}

// trim writes three significant digits, and whole numbers whole.
func trim(v float64) string {
	if math.Abs(v) >= 100 {
		return strconv.FormatFloat(math.Round(v), 'f', -1, 64)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

func formatSeconds(v float64) string {
	switch {
	case v < 0.001:
		return trim(v*1e6) + "µs"
	case v < 1:
		return trim(v*1e3) + "ms"
	case v < 120:
		return trim(v) + "s"
	}
	return Elapsed(time.Duration(v * float64(time.Second)))
}

func formatBytes(v float64) string {
	for _, u := range []struct {
		size float64
		name string
	}{{1 << 40, "TiB"}, {1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if math.Abs(v) >= u.size {
			return trim(v/u.size) + " " + u.name
		}
	}
	return trim(v) + " B"
}

// Elapsed writes a duration in at most two units: 250ms, 4.5s, 3m20s, 1h5m, 3d4h.
func Elapsed(d time.Duration) string {
	if d < 0 {
		return "-" + Elapsed(-d)
	}
	two := func(big time.Duration, bigName string, small time.Duration, smallName string) string {
		n := d.Round(small) / small
		per := big / small
		if n%per == 0 {
			return fmt.Sprintf("%d%s", n/per, bigName)
		}
		return fmt.Sprintf("%d%s%d%s", n/per, bigName, n%per, smallName)
	}
	switch {
	case d < 999500*time.Microsecond:
		return d.Round(time.Millisecond).String()
	case d < 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d.Round(time.Second) < time.Minute:
		return d.Round(time.Second).String()
	case d.Round(time.Second) < time.Hour:
		return two(time.Minute, "m", time.Second, "s")
	case d.Round(time.Minute) < 48*time.Hour:
		return two(time.Hour, "h", time.Minute, "m")
	}
	return two(24*time.Hour, "d", time.Hour, "h")
}

// workers counts workers: "1 worker", "3 workers".
func workers(n int) string {
	if n == 1 {
		return "1 worker"
	}
	return strconv.Itoa(n) + " workers"
}

// who names an operator and quotes the reason given.
func (r Reason) who() string {
	s := r.By
	if s == "" {
		s = "an operator"
	}
	if r.Note != "" {
		s += " (" + strconv.Quote(r.Note) + ")"
	}
	return s
}

// left says how long something still lasts at the time of the decision.
func left(until, now time.Time) string {
	if until.IsZero() {
		return "until it is released"
	}
	return "for another " + Elapsed(until.Sub(now))
}

// rule writes "cpu is 72 % (rule: >= 70 % in 2 of 3 datapoints, 2 breach)"; a datapoint that was not measured has no value.
func (r Reason) rule() string {
	value := r.Unit.Format(r.Value)
	if r.Note != "" {
		value = r.Note
	}
	return fmt.Sprintf("%s is %s (rule: %s %s in %d of %d datapoints, %d breach)", r.Signal, value, r.Operator, r.Unit.Format(r.Threshold), r.M, r.N, r.Breaching)
}

// guard writes "pool_waiting is 7 (guard database: >= 5 in 1 of 3 datapoints, 2 breach)".
func (r Reason) guard() string {
	value := r.Unit.Format(r.Value)
	if r.Note != "" {
		value = r.Note
	}
	return fmt.Sprintf("%s is %s (guard %s: %s %s in %d of %d datapoints, %d breach)", r.Signal, value, r.Policy, r.Operator, r.Unit.Format(r.Threshold), r.M, r.N, r.Breaching)
}

// window names a window of the schedule and says how long it still lasts.
func (r Reason) window(now time.Time) string {
	return fmt.Sprintf("%q, %s", r.Note, left(r.Until, now))
}

// supply writes how much is free, what is left alone and what one worker takes, and how many workers that makes.
func (r Reason) supply(what string) string {
	f := r.Unit.Format
	kept := ""
	if r.Reserve > 0 {
		kept = fmt.Sprintf(" less %s kept free", f(r.Reserve))
	}
	if r.Others > 0 {
		kept += fmt.Sprintf(" (%s of it for other fleets)", f(r.Others))
	}
	room := "none fits"
	if r.Limit > 0 {
		room = fmt.Sprintf("%d of %d more fit", r.Limit, r.Limit+r.Want-r.Size)
	}
	verb := "blocked by"
	if r.Limit > 0 {
		verb = "limited to " + workers(r.Size) + " by"
	}
	return fmt.Sprintf("%s %s: %s is %s%s, at %s a worker: %s", verb, what, r.Signal, f(r.Value), kept, f(r.Threshold), room)
}

// prediction writes "82/s at 95ms each (measured 74/s): p95 1.3s now, 310ms then (objective 400ms)".
func (r Reason) prediction() string {
	m := r.Model
	s := fmt.Sprintf("sized for %s/s at %s each (measured %s/s", trim(m.Rate), formatSeconds(m.Service), trim(m.Measured))
	if m.Backlog >= 1 {
		s += fmt.Sprintf(", %s waiting", trim(m.Backlog))
	}
	s += fmt.Sprintf("), p%g would be %s now", math.Round(m.Quantile*100), formatSeconds(m.Now))
	if m.Utilization >= 1 {
		s += " and rising"
	}
	if m.Then != m.Now {
		s += ", " + formatSeconds(m.Then) + " then"
	}
	s += fmt.Sprintf(" (objective %s)", formatSeconds(r.Threshold))
	for _, also := range []string{m.Why, m.Limit, r.Note} {
		if also != "" {
			s += "; " + also
		}
	}
	return s
}

// outlook writes "rate is expected at 95 (71 to 110) in 15m, by the 4 weeks before".
func (r Reason) outlook() string {
	m := r.Model
	return fmt.Sprintf("%s is expected at %s (%s to %s) in %s, by the %d weeks before", r.Signal, r.Unit.Format(m.Expected), r.Unit.Format(m.Low),
		r.Unit.Format(m.Rate), formatSeconds(m.Ahead), m.Weeks)
}

// Sentence says one link of the chain to an operator. now is the time of the decision.
func (r Reason) Sentence(now time.Time) string {
	switch r.Code {
	case TargetUnknown:
		return "the target cannot be read, so the size is not known: holding"
	case ActionPending:
		return fmt.Sprintf("going to %s since %s; given up in %s", workers(r.Size), Elapsed(now.Sub(r.Since)), Elapsed(r.Until.Sub(now)))
	case ActionExpired:
		return fmt.Sprintf("%s were not reached within %s: given up", workers(r.Size), Elapsed(now.Sub(r.Since)))
	case SizeChanged:
		return fmt.Sprintf("the size went from %d to %d, and not by Tidemark", r.Limit, r.Size)
	case ClockJumped:
		return fmt.Sprintf("the clock jumped by %s: all waiting times moved with it", Elapsed(now.Sub(r.Since)))
	case RuleOut:
		return fmt.Sprintf("%s asks for %s: %s", r.Policy, workers(r.Size), r.rule())
	case RuleIn:
		return fmt.Sprintf("%s would do with %s: %s", r.Policy, workers(r.Size), r.rule())
	case RuleShadow:
		return fmt.Sprintf("%s, in shadow, would ask for %s: %s", r.Policy, workers(r.Size), r.rule())
	case BelowMin:
		return fmt.Sprintf("below the minimum of %d: restored at once", r.Limit)
	case AboveMax:
		return fmt.Sprintf("above the maximum of %d", r.Limit)
	case OrderPin:
		return fmt.Sprintf("set to %s by %s, %s", workers(r.Size), r.who(), left(r.Until, now))
	case ScheduledFloor:
		return "at least " + workers(r.Limit) + " by the window " + r.window(now)
	case ScheduledCeiling:
		return "at most " + workers(r.Limit) + " by the window " + r.window(now)
	case GivesWay:
		return fmt.Sprintf("gives way to fleets that go first: the quota leaves %s here", workers(r.Limit))
	case NothingProposed:
		return "nothing asks for a change"
	case SLOOut:
		return fmt.Sprintf("%s asks for %s: %s", r.Policy, workers(r.Size), r.prediction())
	case SLOIn:
		return fmt.Sprintf("%s would do with %s: %s", r.Policy, workers(r.Size), r.prediction())
	case SLOShadow:
		return fmt.Sprintf("%s, in shadow, would ask for %s: %s", r.Policy, workers(r.Size), r.prediction())
	case ForecastOut:
		return fmt.Sprintf("%s asks for %s: %s", r.Policy, workers(r.Size), r.outlook())
	case ForecastShadow:
		return fmt.Sprintf("%s, in shadow, would ask for %s: %s", r.Policy, workers(r.Size), r.outlook())
	case ForecastNeeds:
		return fmt.Sprintf("no scale-in: %s needs %s: %s", r.Policy, workers(r.Limit), r.outlook())
	case SLONeeds:
		return fmt.Sprintf("no scale-in: %s needs %s: %s", r.Policy, workers(r.Limit), r.prediction())
	case SLOUncertain:
		return fmt.Sprintf("no scale-in: %s is not certain: %s", r.Policy, r.Note)
	case ScaleOutActive:
		return "another asks for more, so no scale-in"
	case NotAgreed:
		return "no scale-in: " + r.rule()
	case SignalMissing:
		return fmt.Sprintf("no scale-in: %s has been %s for %s", r.Signal, r.Note, Elapsed(now.Sub(r.Since)))
	case Projected:
		return fmt.Sprintf("no scale-in: with %s %s would be %s, which trips %s (%s %s)", workers(r.Limit), r.Signal, r.Unit.Format(r.Value), r.Policy, r.Operator, r.Unit.Format(r.Threshold))
	case BlockedMode:
		if r.By != "" {
			return fmt.Sprintf("mode is %s, set by %s", r.Note, r.By)
		}
		return "mode is " + r.Note
	case BlockedHold:
		return fmt.Sprintf("held by %s, %s", r.who(), left(r.Until, now))
	case BlockedFreeze:
		return fmt.Sprintf("frozen by the window %q, %s", r.Note, left(r.Until, now))
	case LimitedBounds:
		if r.Want > r.Limit {
			return fmt.Sprintf("limited to %s by the bounds, and %d are wanted", workers(r.Limit), r.Want)
		}
		return fmt.Sprintf("limited to %s by the bounds", workers(r.Limit))
	case LimitedFloor:
		return "kept at " + workers(r.Limit) + " by the window " + r.window(now)
	case LimitedCeiling:
		return "limited to " + workers(r.Limit) + " by the window " + r.window(now)
	case CeilingLifted:
		return fmt.Sprintf("a scale-out is asked for, so the ceiling of %d does not count (window %s)", r.Limit, r.window(now))
	case LimitedQuota:
		return fmt.Sprintf("the quota of the instance leaves %s here, and %d are wanted", workers(r.Limit), r.Want)
	case LimitedStep:
		return fmt.Sprintf("limited to a step of %d", r.Limit)
	case BlockedRate:
		return fmt.Sprintf("rate limit: %d scaling in %s, %s", r.Limit, Elapsed(r.Until.Sub(r.Since)), left(r.Until, now))
	case BlockedCooldown:
		return fmt.Sprintf("cooldown since the scaling %s ago, %s", Elapsed(now.Sub(r.Since)), left(r.Until, now))
	case BlockedDatabase:
		return "blocked by the database: " + r.guard()
	case BlockedHostCPU:
		return "the host has no CPU left, a bigger host or a second one is needed: " + r.guard()
	case BlockedGuard:
		return "blocked: " + r.guard()
	case GuardWhile:
		return "that counts while " + r.guard()
	case GuardUnknown:
		return fmt.Sprintf("no scale-out: %s, which the guard %s watches, has been %s for %s", r.Signal, r.Policy, r.Note, Elapsed(now.Sub(r.Since)))
	case GuardOverruled:
		return "the operator's word goes before a guard: " + r.guard()
	case LimitedConnections:
		return r.supply("the database's connections")
	case LimitedMemory:
		return r.supply("the host's memory")
	case SupplyUnknown:
		return fmt.Sprintf("no scale-out: %s, which the budget of %s needs, has been %s for %s", r.Signal, r.Policy, r.Note, Elapsed(now.Sub(r.Since)))
	case BlockedJournal:
		return "the decision could not be recorded, so it is not carried out: " + r.Note
	case NoCode:
	}
	return r.Code.String()
}

// Headline says the outcome in one line: "3 -> 4", "stays at 3".
func (d *Decision) Headline() string {
	verb := ""
	if d.Shadow {
		verb = "would go "
	}
	if d.To == d.From {
		return fmt.Sprintf("stays at %d", d.From)
	}
	return fmt.Sprintf("%s%d -> %d", verb, d.From, d.To)
}

// Counterfactual says what a blocked decision would have done; empty when nothing was blocked.
func (d *Decision) Counterfactual() string {
	w := d.Would
	if w.Code == NoCode {
		return ""
	}
	verb := "scale in"
	if w.To > d.From {
		verb = "scale out"
	}
	what := w.Code.String()
	if words := obstacles[w.Code]; words != "" {
		what = words
	}
	if w.After.IsZero() {
		return fmt.Sprintf("would %s to %d but for the %s", verb, w.To, what)
	}
	return fmt.Sprintf("would %s to %d after the %s ends in %s", verb, w.To, what, Elapsed(w.After.Sub(d.Time)))
}

// obstacles are what holds a decision back, where its code does not say it in words.
var obstacles = map[Code]string{
	BlockedHostCPU: "host's CPU", LimitedMemory: "host's memory", LimitedConnections: "database's connections",
	GuardUnknown: "guard whose signal is missing", SupplyUnknown: "signal that is missing",
}

// SameAs reports whether two decisions say the same: sizes, links and limits, not the figures in them. Only a decision that
// does not say the same as the last one is stored anew.
func (d *Decision) SameAs(o *Decision) bool {
	if d.From != o.From || d.To != o.To || d.Shadow != o.Shadow || len(d.Reasons) != len(o.Reasons) {
		return false
	}
	for i := range d.Reasons {
		a, b := &d.Reasons[i], &o.Reasons[i]
		if a.Code != b.Code || a.Policy != b.Policy || a.Signal != b.Signal || a.Size != b.Size || a.Limit != b.Limit || a.By != b.By ||
			(a.Code != SignalMissing && a.Code != NotAgreed && !a.Until.Equal(b.Until)) {
			return false
		}
	}
	return true
}
