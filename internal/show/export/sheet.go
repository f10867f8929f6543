package export

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"tidemark/internal/config"
	"tidemark/internal/decide/policy"
	"tidemark/internal/decide/schedule"
	"tidemark/internal/fleet"
	"tidemark/internal/observe/postgres"
	"tidemark/internal/observe/procfs"
	"tidemark/internal/observe/prometheus"
)

// CPU reports whether the signal is the workers' CPU, which each system measures itself.
func (r rule) CPU() bool {
	p, ok := r.Body.(*procfs.Config)
	return ok && p.Field == procfs.CPU
}

// PromQL is the query by which Prometheus knows the signal, and the server's address where it is known: the operator's own, or of
// what Tidemark's /metrics says.
func (r rule) PromQL() (q struct{ Server, Query string }) {
	if p, ok := r.Body.(*prometheus.Config); ok {
		q.Server, q.Query = p.URL, p.Query
	}
	return q
}

// SQL is the operator's own query of PostgreSQL.
func (r rule) SQL() string {
	if p, ok := r.Body.(*postgres.Config); ok {
		return p.Query
	}
	return ""
}

func newSheet(to format, c *config.Config, f *config.Fleet) *sheet {
	p := &f.Policy
	s := &sheet{
		Instance: c.Instance.Name, System: to.system, Fleet: f.Name, Bounds: p.Bounds, Tick: c.Tick, Zone: c.Instance.TimeZone,
		Pace: p.Pace, Freezing: p.Mode == fleet.ScaleOutOnly,
	}
	lost := func(format string, args ...any) { s.Lost = append(s.Lost, fmt.Sprintf(format, args...)) }
	if p.Mode == fleet.Off || p.Mode == fleet.Shadow {
		lost("the fleet's mode is %s: nothing is scaled here, but what is written below scales as soon as it is applied", p.Mode)
	}
	s.takeRules(to, f, lost)
	s.takePace(to, lost)
	s.takeWindows(to, p.Schedule, lost)
	for _, g := range p.Guards {
		lost("the guard %q is not there: it grows even where that would do harm", g.Name)
	}
	for _, r := range p.Supplies {
		lost("what is free of %s is not counted: it grows beyond that", strings.ReplaceAll(r.Resource.String(), "_", " "))
	}
	if f.Budget.Monthly > 0 {
		lost("the budget of %s %s a month is not watched", number(f.Budget.Monthly), f.Budget.Currency)
	}
	for _, z := range p.Freezes {
		lost("the freeze %q, %s to %s, is not kept: suspend the scaling by hand", z.Name, z.From.Format(time.RFC3339), z.To.Format(time.RFC3339))
	}
	lost("the worker with the least load is not chosen when it shrinks: the system chooses by itself")
	lost("a hold or a pinned size by an operator, and the reasons of each decision, are Tidemark's own")
	return s
}

func (s *sheet) takeRules(to format, f *config.Fleet, lost func(string, ...any)) {
	p := &f.Policy
	tracked, shrinking, cpu := map[int]int{}, 0, false
	for i := range p.Policies {
		one := &p.Policies[i]
		switch {
		case one.Mode != fleet.On:
			lost("policy %s is in mode %s and is left out", one.ID, one.Mode)
			continue
		case one.SLO != nil:
			lost("policy %s holds a service level by the mathematics of a worker pool, which %s does not know", one.ID, s.System)
			continue
		case one.Forecast != nil:
			lost("policy %s adds workers ahead by a forecast, which %s does not know", one.ID, s.System)
			continue
		}
		for _, r := range one.Rules {
			signal := &p.Signals[r.Signal]
			out := rule{Rule: r, Policy: one.ID, Number: len(s.Rules) + 1, Signal: signal, Body: f.Signals[r.Signal].Body, Period: signal.Period}
			what := fmt.Sprintf("%s %s %s", signal.Name, r.Operator, signal.Unit.Format(r.Threshold))
			if !r.Out() {
				shrinking++
			}
			if to.can&twoThresholds == 0 {
				if !r.Out() {
					lost("%s to shrink: %s has one target for both ways, and shrinks as soon as the smaller fleet would meet it", what, s.System)
					continue
				}
				if !out.Rises() {
					lost("%s to grow: %s knows only signals that rise with the load", what, s.System)
					continue
				}
				if before, twice := tracked[r.Signal]; twice {
					kept := &s.Rules[before]
					lost("%s to grow by %d: %s has one target a signal; the lower threshold is kept", what, r.Change, s.System)
					kept.Threshold = min(kept.Threshold, r.Threshold)
					continue
				}
				tracked[r.Signal] = len(s.Rules)
			}
			if to.can&datapoints == 0 && r.N > 1 {
				lost("%s in %d of %d datapoints: %s acts on the newest", what, r.M, r.N, s.System)
			}
			if to.can&missing == 0 && r.Missing != policy.MissingMissing {
				lost("%s with missing data taken as %s: %s has a rule of its own for them", what, out.TreatMissing(), s.System)
			}
			if to.step > 0 && signal.Period%to.step != 0 {
				out.Period = signal.Period.Truncate(to.step) + to.step
				lost("%s each %s: %s has periods of whole minutes; %s is written", what, signal.Period, s.System, out.Period)
			}
			if signal.Window != signal.Period && signal.Window > 0 {
				lost("%s over %s: publish the signal as its value over that window", what, signal.Window)
			}
			cpu = cpu || out.CPU()
			s.Rules = append(s.Rules, out)
		}
	}
	if to.can&twoThresholds == 0 {
		lost("it grows in proportion to how far a signal is above its threshold, within its rate, and not by what a rule says")
	}
	if cpu {
		lost("CPU is measured in percent of what a worker asked for, not of one core: let workers ask for one core, or write another threshold")
	}
	if to.can&agreement == 0 && shrinking > 1 {
		lost("it shrinks as soon as one signal allows it: %s does not wait until all do", s.System)
	}
	if shrinking > 0 {
		lost("it is not reckoned before whether the smaller fleet would have to grow again at once, nor held because a signal is missing")
	}
}

func (s *sheet) takePace(to format, lost func(string, ...any)) {
	shorten := func(what string, d *time.Duration, most time.Duration) {
		if most > 0 && *d > most {
			lost("%s of %s: %s has at most %s", what, *d, s.System, most)
			*d = most
		}
	}
	p := &s.Pace
	shorten("the cooldown after growing", &p.CooldownUp, to.most.cooldown)
	shorten("the cooldown before shrinking", &p.CooldownDown, to.most.cooldown)
	shorten("the window of the rate", &p.RateWindow, to.most.rate)
	switch {
	case to.can&rate == 0 && p.RateCount > 0:
		lost("%d change in %s, both ways together: only the cooldowns limit how often it scales", p.RateCount, p.RateWindow)
	case p.RateCount > 0:
		lost("%d change in %s counts both ways together: %s counts workers, and each way apart", p.RateCount, p.RateWindow, s.System)
	}
	if to.can&twoThresholds == 0 {
		lost("the cooldown before shrinking is a window of stabilisation: the largest size that was asked for within it is kept, and a change does not begin it anew")
	} else {
		lost("a cooldown holds within its own rule: growing does not put off shrinking")
	}
}

// window is one of the schedule, as two points of time that cron can tell.
type window struct {
	schedule.Window
	Starts, Ends [2]int   // minutes and hours
	Days         []string // MON and so on; empty: any
}

// Bounds of the fleet within the window.
func (w window) Bounds(b fleet.Bounds) fleet.Bounds {
	in, _ := schedule.Limits{Floor: schedule.Limit{Workers: w.Floor}, Ceiling: schedule.Limit{Workers: w.Ceiling}}.Bounds(b, false)
	return in
}

// KEDA is its days as cron counts them: 0 is Sunday.
func (w window) KEDA() string {
	if len(w.Days) == 0 {
		return "*"
	}
	var days []string
	for d := time.Sunday; d <= time.Saturday; d++ {
		if w.Weekly.Has(d) {
			days = append(days, strconv.Itoa(int(d)))
		}
	}
	return strings.Join(days, ",")
}

// AWS is its days as EventBridge writes them.
func (w window) AWS() string {
	if len(w.Days) == 0 {
		return "*"
	}
	return strings.Join(w.Days, ",")
}

func (s *sheet) takeWindows(to format, all *schedule.Schedule, lost func(string, ...any)) {
	if all == nil {
		return
	}
	for _, w := range all.Windows {
		name := fmt.Sprintf("the window %q", w.Name)
		dated := w.From != schedule.Date{} || w.To != schedule.Date{}
		minutes := func(m int) [2]int { return [2]int{m % 60, m / 60} }
		daily := w.Daily
		if (daily == schedule.Daily{}) {
			daily.To = 24 * 60
		}
		start := daily.From - int(w.Lead/time.Minute)
		days := w.Weekly != 0
		switch {
		case w.Floor > 0 && to.can&floors == 0, w.Ceiling > 0 && to.can&ceilings == 0:
			lost("%s is left out: %s has no schedule for it", name, s.System)
			continue
		case dated:
			// Cron has no years, and what begins and ends by date has a time zone of its own: better none than a wrong one.
			lost("%s is left out: it is for some dates only; write it when they come", name)
			continue
		case days && (start < 0 || daily.To >= 24*60 || daily.To < daily.From):
			lost("%s is left out: on some days of the week only, and it reaches into the day before or after", name)
			continue
		}
		if w.Holidays != schedule.AnyDay {
			lost("%s does not know the holidays", name)
		}
		if w.Ceiling > 0 && w.CancelledByLoad {
			lost("%s keeps its ceiling even under load", name)
		}
		out := window{Window: w, Starts: minutes((start + 24*60) % (24 * 60)), Ends: minutes(daily.To % (24 * 60))}
		for d := time.Sunday; d <= time.Saturday && days; d++ {
			if w.Weekly.Has(d) {
				out.Days = append(out.Days, strings.ToUpper(d.String()[:3]))
			}
		}
		s.Windows = append(s.Windows, out)
	}
	if len(s.Windows) > 1 && to.can&ceilings != 0 {
		lost("windows that overlap: the end of one sets the fleet's own bounds again, though another still holds")
	}
}

// number writes a value as every system reads it.
func number(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// quantity writes a value as Kubernetes does: thousandths are "m".
func quantity(v float64) string {
	if v == float64(int64(v)) {
		return number(v)
	}
	return strconv.FormatInt(int64(v*1000+0.5), 10) + "m"
}

// hcl quotes for Terraform, where ${ and %{ would begin a template.
func hcl(s string) string {
	return strings.NewReplacer("${", "$${", "%{", "%%{").Replace(strconv.Quote(s))
}

// camel is a name as CloudFormation's logical ids are: letters and digits.
func camel(s string) string {
	var b strings.Builder
	up := true
	for _, r := range s {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if letter && up {
			b.WriteString(strings.ToUpper(string(r)))
		} else if letter {
			b.WriteRune(r)
		}
		up = !letter
	}
	return b.String()
}
