package alert

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"tidemark/internal/fleet"
)

// Each rule says what is the case, with the figures, and what to do next. A rule whose facts are not given finds nothing.

func clockJumped(c *context) []finding {
	if c.Fleet != "" || c.Jump.Abs() < c.ClockJump {
		return nil
	}
	way := "forward"
	if c.Jump < 0 {
		way = "back"
	}
	return []finding{{
		rule: "clock_jump", verdict: yes, once: true, severity: Warning,
		title: fmt.Sprintf("the clock of this machine jumped %s by %s", way, fleet.Elapsed(c.Jump.Abs())),
		lines: []string{
			"Cooldowns and alarms moved with it, so nothing was scaled by it. Schedules follow the clock: until it is right they may be off.",
			"Check the time ('timedatectl'), NTP, and the battery of the board's clock if it follows a power cut.",
		},
	}}
}

func journalFailing(c *context) []finding {
	if c.Fleet != "" {
		return nil
	}
	f := finding{rule: "journal", verdict: no, raise: c.JournalFor, resolve: c.JournalFor, severity: Critical, over: "It is written again; what happened meanwhile is in it."}
	if c.Journal != "" {
		f.verdict = yes
		f.title = "the journal cannot be written, so nothing is scaled: " + c.Journal
		f.lines = []string{
			"A decision that cannot be recorded is not carried out. What happens is kept in memory for about four hours.",
			"Look for room on the disk of state_dir ('df -h'), and for its rights.",
		}
	}
	return []finding{f}
}

func targetLost(c *context) []finding {
	if c.Fleet == "" {
		return nil
	}
	f := finding{rule: "target_lost", verdict: no, raise: c.TargetFor, resolve: time.Minute, severity: Critical, over: "They can be counted again: " + workers(c.Size.Workers()) + "."}
	if !c.Size.Known {
		f.verdict = yes
		f.title = "the workers of " + c.Fleet + " cannot be counted" + because(c.Target)
		f.lines = []string{
			"Tidemark holds: without a size it neither adds nor removes.",
			"See whether the workers' master runs, and whether Tidemark may read it: 'tidemark status' says what it finds.",
		}
	}
	return []finding{f}
}

func signalsMissing(c *context) []finding {
	if len(c.Signals) == 0 {
		return nil
	}
	var out []finding
	lost := 0
	for i := range c.Signals {
		s := &c.Signals[i]
		f := finding{rule: "signal_missing", signal: s.Name, verdict: no, raise: c.MissingFor, resolve: 2 * time.Minute, severity: Warning, over: s.Name + " is measured again."}
		if !s.Lost.IsZero() {
			lost++
			f.verdict = yes
			f.title = fmt.Sprintf("%s of %s has been %s for %s%s", s.Name, c.Fleet, s.Reading.Quality, fleet.Elapsed(c.Now.Sub(s.Lost)), because(s.Error))
			effect := "The fleet is not scaled in while it is missing. The other signals still scale it out."
			if s.Optional {
				effect = "It is optional: the fleet is scaled without it."
			}
			f.lines = []string{effect, "See whether what is read still runs and can be reached, and whether its file, address or password changed."}
		}
		out = append(out, f)
	}
	blind := finding{rule: "blind", verdict: no, raise: c.MissingFor, resolve: 2 * time.Minute, severity: Critical, over: "Signals are measured again."}
	if lost == len(c.Signals) {
		blind.verdict = yes
		blind.title = fmt.Sprintf("no signal of %s is measured: it stays at %s, whatever the load", c.Fleet, workers(c.Size.Workers()))
		blind.lines = []string{"Tidemark does not guess: without signals it holds.", "Until they are back, set the size by hand if the load asks for it: tidemark scale " + c.Fleet + " N"}
	}
	return append(out, blind)
}

func cpuHigh(c *context) []finding {
	const rule, gap = "cpu_high", 5 // percent below, before it is over
	i := slices.IndexFunc(c.Signals, func(s Signal) bool { return s.Name == c.CPUSignal && s.Unit == fleet.Percent })
	firing := c.firing(rule, "")
	if i < 0 || (c.state.Up == nil && !firing) {
		return nil
	}
	s := &c.Signals[i]
	f := finding{rule: rule, raise: c.CPUFor, resolve: c.CPUFor, severity: Warning}
	if s.Reading.Quality != fleet.Fresh {
		return []finding{f}
	}
	value := s.Unit.Format(s.Reading.Value)
	f.verdict, f.over = no, s.Name+" is "+value+"."
	limit := c.CPU
	if firing {
		limit -= gap
	}
	up := c.state.Up
	if s.Reading.Value <= limit || (!firing && c.Now.Sub(up.Latest) > c.AfterScaleUp) {
		return []finding{f}
	}
	f.verdict = yes
	after := "after the scale-up"
	if up != nil {
		after = fmt.Sprintf("%s after the scale-up from %d to %d workers", fleet.Elapsed(c.Now.Sub(up.Latest)), up.From, up.To)
	}
	f.title = fmt.Sprintf("%s of %s is %s, %s", s.Name, c.Fleet, value, after)
	next := "More workers follow as rules and safeguards allow; 'tidemark explain " + c.Fleet + "' says what holds them back."
	if c.Size.Known && c.Size.Workers() >= c.Bounds.Max {
		next = "The fleet is at its maximum. If the host has CPU left raise bounds.max; if not, a bigger or a second host is needed."
	}
	f.lines = []string{fmt.Sprintf("The limit is %s for %s. There are %s of at most %d.", fleet.Percent.Format(c.CPU), fleet.Elapsed(c.CPUFor), workers(c.Size.Workers()), c.Bounds.Max), next}
	return []finding{f}
}

func notImproving(c *context) []finding {
	const rule = "not_improving"
	up := c.state.Up
	var out []finding
	for i := range c.Signals {
		s := &c.Signals[i]
		if s.Unit != fleet.Seconds || s.Threshold <= 0 {
			continue
		}
		firing := c.firing(rule, s.Name)
		f := finding{rule: rule, signal: s.Name, verdict: no, raise: 2 * time.Minute, resolve: 5 * time.Minute, severity: Warning}
		before, compared := 0.0, false
		if up != nil {
			at := slices.IndexFunc(up.Before, func(m Measured) bool { return m.Signal == s.Name })
			if compared = at >= 0; compared {
				before = up.Before[at].Value
			}
		}
		switch {
		case s.Reading.Quality != fleet.Fresh:
			f.verdict = unknown
		case s.Reading.Value < s.Threshold:
			f.over = fmt.Sprintf("%s is %s, under its threshold of %s.", s.Name, s.Unit.Format(s.Reading.Value), s.Unit.Format(s.Threshold))
		case !compared:
			f.over = "The fleet was scaled since."
		case s.Reading.Value <= before*(1-c.Improve/100):
			f.over = fmt.Sprintf("%s is %s, and was %s before the scale-up.", s.Name, s.Unit.Format(s.Reading.Value), s.Unit.Format(before))
		case !firing && (c.Now.Sub(up.Done) < c.Settle || c.Now.Sub(up.Latest) > c.AfterScaleUp):
		default:
			f.verdict = yes
			f.title = fmt.Sprintf("%s of %s is %s, %s after the scale-up from %d to %d workers, and was %s before it", s.Name, c.Fleet, s.Unit.Format(s.Reading.Value),
				fleet.Elapsed(c.Now.Sub(up.Done)), up.From, up.To, s.Unit.Format(before))
			f.lines = []string{
				fmt.Sprintf("It should be under %s, or at least %s lower than before.", s.Unit.Format(s.Threshold), fleet.Percent.Format(c.Improve)),
				"More workers do not help where the time is not spent in them: look at the database first (waiting connections, locks, slow statements, the disk), with 'tidemark doctor' and 'tidemark explain " + c.Fleet + "'.",
			}
		}
		out = append(out, f)
	}
	return out
}

// passing are safeguards that let go by themselves, and soon: waiting for them is what the policy asks for.
var passing = []fleet.Code{fleet.LimitedStep, fleet.BlockedRate, fleet.BlockedCooldown, fleet.BlockedJournal}

// notProposals speak of other sizes than the one wanted now.
var notProposals = []fleet.Code{fleet.ActionPending, fleet.ActionExpired, fleet.RuleShadow, fleet.SizeChanged, fleet.TargetUnknown, fleet.ClockJumped}

func short(c *context) []finding {
	if c.Fleet == "" {
		return nil
	}
	f := finding{rule: "short", raise: c.ShortFor, resolve: c.ShortFor, severity: Critical, over: "It has what it asks for: " + workers(c.Size.Workers()) + "."}
	d := c.Decision
	if d == nil || !c.Size.Known {
		return []finding{f}
	}
	want := d.From
	var asks, holds, waits []fleet.Reason
	for _, r := range d.Reasons {
		switch {
		case r.Code >= fleet.BlockedMode && slices.Contains(passing, r.Code):
			waits = append(waits, r)
		case r.Code >= fleet.BlockedMode:
			holds = append(holds, r)
		case r.Size > d.From && !slices.Contains(notProposals, r.Code):
			want = max(want, r.Size)
			asks = append(asks, r)
		}
	}
	switch {
	case want <= d.From || d.To > d.From || d.Shadow:
		f.verdict = no
		return []finding{f}
	case len(holds) == 0 && len(waits) > 0:
		return []finding{f} // unknown: whether it is short shows when it may act
	case len(holds) == 0:
		f.verdict = no
		return []finding{f}
	}
	f.verdict = yes
	main := holds[len(holds)-1] // of several, the last to have had a say
	switch {
	case main.Code == fleet.LimitedBounds && main.Limit == c.Bounds.Max && d.From >= c.Bounds.Max:
		f.title = fmt.Sprintf("%s is at its maximum of %s and still short", c.Fleet, workers(c.Bounds.Max))
	default:
		f.title = fmt.Sprintf("%s is short with %s: %s", c.Fleet, workers(d.From), main.Sentence(d.Time))
	}
	if slices.Contains([]fleet.Code{fleet.BlockedMode, fleet.BlockedHold, fleet.BlockedFreeze}, main.Code) {
		f.severity = Warning // somebody wanted it so
	}
	for _, r := range asks {
		f.lines = append(f.lines, sentence(r, d.Time))
	}
	for _, r := range holds {
		f.lines = append(f.lines, sentence(r, d.Time))
	}
	f.lines = append(f.lines, advice(main.Code, c.Fleet))
	return []finding{f}
}

func advice(code fleet.Code, name string) string {
	switch code {
	case fleet.LimitedBounds:
		return "See 'tidemark explain " + name + "'. If the host has CPU and memory left, and the database connections, raise bounds.max; 'tidemark doctor' does the sum. If not, a bigger or a second host is needed, or less load."
	case fleet.BlockedMode:
		return "If it should scale out: tidemark mode " + name + " on"
	case fleet.BlockedHold:
		return "If it should scale out: tidemark release " + name
	case fleet.LimitedQuota:
		return "If the host and the database have room for more, raise instance.quota.workers; if not, see which fleet could do with fewer."
	case fleet.GuardUnknown, fleet.SupplyUnknown:
		return "Bring the signal back: what cannot be seen is not relied on. Until then an operator can: tidemark scale " + name + " N"
	case fleet.BlockedFreeze:
		return "If it cannot wait for the window's end: tidemark scale " + name + " N"
	}
	return "What holds it back must be relieved first: more workers would do harm. 'tidemark explain " + name + "' has the figures."
}

func actionFailed(c *context) []finding {
	const forgotten = time.Hour
	if c.Fleet == "" {
		return nil
	}
	f := finding{rule: "action_failed", verdict: no, severity: Warning, over: "An action worked, or none was tried for an hour. There are " + workers(c.Size.Workers()) + "."}
	e := c.state.Failed
	if e == nil || c.Now.Sub(e.Last) > forgotten {
		c.state.Failed = nil
		return []finding{f}
	}
	f.verdict = yes
	f.title = fmt.Sprintf("going from %d to %d workers of %s failed after %s%s", e.From, e.To, c.Fleet, fleet.Elapsed(e.Took), because(e.Note))
	if e.Count >= 3 {
		f.severity = Critical
		f.title = fmt.Sprintf("%s, %d times in a row", f.title, e.Count)
	}
	f.lines = []string{
		"There are " + workers(c.Size.Workers()) + ". Tidemark tries again when a rule asks again.",
		"See the workers' own log for why they do not start or stop, and 'tidemark events' for what was tried.",
	}
	return []finding{f}
}

func slowToScale(c *context) []finding {
	for i := range c.Events {
		e := &c.Events[i]
		took := time.Duration(e.Duration)
		if e.Kind != fleet.EventActionDone || e.To <= e.From || took <= c.TimeToScale {
			continue
		}
		f := finding{
			rule: "time_to_scale", verdict: yes, once: true, severity: Warning,
			title: fmt.Sprintf("going from %d to %d workers of %s took %s, and should take less than %s", e.From, e.To, c.Fleet, fleet.Elapsed(took), fleet.Elapsed(c.TimeToScale)),
		}
		if p := e.Parts; p != nil {
			parts := []struct {
				name, advice string
				took         fleet.Duration
			}{
				{"from the breach to the alarm", "Lower datapoints_to_alarm, or shorten the signal's period.", p.BreachToAlarm},
				{"from the alarm to the decision", "See what held the decision back: tidemark explain " + c.Fleet, p.AlarmToDecision},
				{"from the decision to the action", "See in the events what the target was doing.", p.DecisionToAction},
				{"until the workers served", "Make the workers start faster, or add them ahead of time by a schedule.", p.ActionToServing},
			}
			longest := 0
			var said []string
			for i, part := range parts {
				said = append(said, part.name+" "+fleet.Elapsed(time.Duration(part.took)))
				if part.took > parts[longest].took {
					longest = i
				}
			}
			f.lines = []string{upper(strings.Join(said, ", ")) + ".", parts[longest].advice}
		}
		return []finding{f}
	}
	return nil
}

func unavailable(c *context) []finding {
	const rule, gap = "availability", 0.05 // percentage points above, before it is over
	m := c.Month
	if m == nil {
		return nil
	}
	f := finding{rule: rule, raise: 5 * time.Minute, resolve: time.Hour, severity: Critical}
	allowed := m.Total * (1 - c.Availability/100)
	if allowed < 1 {
		if c.firing(rule, "") {
			f.verdict, f.over = no, "A new month has begun."
		}
		return []finding{f} // too few to tell
	}
	share := 100 * m.Good / m.Total
	value := floor(share, 2)
	f.verdict, f.over = no, "It is "+value+" % of the month so far."
	limit := c.Availability
	if c.firing(rule, "") {
		limit = min(limit+gap, 100)
	}
	if share >= limit {
		return []finding{f}
	}
	f.verdict = yes
	f.title = fmt.Sprintf("availability of %s is %s %%, below %s %%", c.month(), value, number(c.Availability))
	f.lines = []string{
		fmt.Sprintf("%s of %s %s were not served; %s may be.", number(math.Round(m.Total-m.Good)), number(math.Round(m.Total)), m.Unit, number(math.Floor(allowed))),
		"'tidemark events' shows when they fell. Put off what is risky until the month is over.",
	}
	return []finding{f}
}

func overBudget(c *context) []finding {
	b := c.Budget
	if b == nil || b.Limit <= 0 {
		return nil
	}
	money := func(v float64) string { return strconv.FormatFloat(v, 'f', 2, 64) + " " + b.Currency }
	next := "See when it grew and whether it must ('tidemark events'); lower bounds.max, or raise the budget."
	spent := finding{rule: "budget_exceeded", verdict: no, severity: Critical, over: "Spent this month: " + money(b.Spent) + "."}
	if b.Spent > b.Limit {
		spent.verdict = yes
		spent.title = fmt.Sprintf("the budget of %s is exceeded: %s of %s", c.month(), money(b.Spent), money(b.Limit))
		spent.lines = []string{"If it goes on so it will be " + money(b.Projected) + " at the month's end.", next}
	}
	projected := finding{rule: "budget_projected", verdict: no, raise: time.Hour, resolve: time.Hour, severity: Warning, over: "Projected for this month: " + money(b.Projected) + "."}
	limit := b.Limit
	if c.firing(projected.rule, "") {
		limit *= 0.97
	}
	if b.Projected > limit {
		projected.verdict = yes
		projected.title = fmt.Sprintf("%s will cost %s if it goes on so, and the budget is %s", c.month(), money(b.Projected), money(b.Limit))
		projected.lines = []string{"Spent so far: " + money(b.Spent) + ".", next}
	}
	return []finding{spent, projected}
}

// month is what a month's figures are of.
func (c *context) month() string {
	if c.Fleet == "" {
		return "this month"
	}
	return c.Fleet + " this month"
}

// sentence is a reason as a line of its own.
func sentence(r fleet.Reason, now time.Time) string { return upper(r.Sentence(now)) + "." }

// upper begins a sentence; names of policies and signals stay as they are written.
func upper(s string) string {
	first, _, _ := strings.Cut(s, " ")
	if s == "" || strings.ContainsAny(first, "_-.") || s[0] < 'a' || s[0] > 'z' {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}

func workers(n int) string {
	if n == 1 {
		return "1 worker"
	}
	return strconv.Itoa(n) + " workers"
}

// floor cuts off, so that 99.499 is not said to be 99.5.
func floor(v float64, digits int) string {
	unit := math.Pow(10, float64(digits))
	return number(math.Floor(v*unit) / unit)
}

func number(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
