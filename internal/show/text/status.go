// Package text writes what people read in a terminal: status, events, explanations and the demo's timeline. Aligned, one
// fact a line, the same with and without a terminal but for colour.
package text

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"tidemark/internal/control"
	"tidemark/internal/decide/engine"
	"tidemark/internal/decide/schedule"
	"tidemark/internal/fleet"
	"tidemark/internal/show/web"
)

// View says how to write: in which zone, from what moment, with colour or not.
type View struct {
	Now    time.Time
	Zone   *time.Location
	Colour bool
}

func (v View) paint(code, s string) string {
	if !v.Colour {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// Bad marks what needs attention.
func (v View) Bad(s string) string  { return v.paint("31", s) }
func (v View) warn(s string) string { return v.paint("33", s) }
func (v View) good(s string) string { return v.paint("32", s) }
func (v View) bold(s string) string { return v.paint("1", s) }
func (v View) dim(s string) string  { return v.paint("2", s) }

func plain(s string) string { return s }

// clock writes a time of today short, another day's with its date.
func (v View) clock(t time.Time) string {
	t, now := t.In(v.Zone), v.Now.In(v.Zone)
	if t.YearDay() == now.YearDay() && t.Year() == now.Year() {
		return t.Format("15:04:05")
	}
	return t.Format("2006-01-02 15:04:05")
}

func (v View) ago(t time.Time) string { return fleet.Elapsed(max(v.Now.Sub(t), 0)) }

// Status writes each fleet on one screen: size, what holds it back, signals, alarms, workers.
func Status(w io.Writer, v View, o web.Overview) {
	fmt.Fprintf(w, "%s  %s\n", v.bold(o.Instance), v.dim(fmt.Sprintf("pid %d, leading for %s, %s (%s)", o.PID, v.ago(o.Since), v.Now.In(v.Zone).Format("15:04:05 MST"), o.Config)))
	for _, f := range o.Identity {
		fmt.Fprintln(w, v.dim("  "+f.Name+": "+f.Value))
	}
	for _, n := range o.Raised {
		fmt.Fprintln(w, v.Bad(fmt.Sprintf("%s for %s: %s", n.Severity, v.ago(n.Started), n.Title)))
	}
	if o.Untold > 0 {
		fmt.Fprintln(w, v.Bad(fmt.Sprintf("%d alerts wait to be delivered ('tidemark alert list')", o.Untold)))
	}
	for _, st := range o.Fleets {
		fmt.Fprintln(w)
		Fleet(w, v, st)
	}
	if len(o.Fleets) == 0 {
		fmt.Fprintln(w, "no fleets are configured")
	}
}

// Fleet writes one fleet.
func Fleet(w io.Writer, v View, st *control.Status) {
	head := fmt.Sprintf("%s: %s", st.Fleet, sizes(st))
	fmt.Fprintf(w, "%s  %s\n", v.bold(head), v.dim(limits(st)))
	if st.Time.IsZero() {
		fmt.Fprintln(w, "  not looked at yet")
		return
	}
	if age := v.Now.Sub(st.Time); age > 3*time.Duration(st.Tick) {
		fmt.Fprintln(w, v.Bad(fmt.Sprintf("  last tick %s ago: it should come every %s", fleet.Elapsed(age), time.Duration(st.Tick))))
	}
	chain(w, v, &st.Decision)
	for _, trouble := range []struct{ what, err string }{
		{"target", st.TargetErr}, {"action", st.ActionErr}, {"balancer", st.BalanceErr}, {"journal", st.JournalErr},
	} {
		if trouble.err != "" {
			fmt.Fprintln(w, v.Bad(fmt.Sprintf("  %s: %s", trouble.what, trouble.err)))
		}
	}
	if st.Short > 0 {
		fmt.Fprintln(w, v.Bad(fmt.Sprintf("  at the maximum and still short of %d", st.Short)))
	}
	scheduled(w, v, st.Schedule)
	signals(w, v, st)
	rules(w, v, st)
	guards(w, v, st)
	objectives(w, st)
	forecasts(w, st)
	workers(w, v, st)
}

// limits says between what the size moves, and how.
func limits(st *control.Status) string {
	s := fmt.Sprintf("min %d, max %d", st.Bounds.Min, st.Bounds.Max)
	if st.Room > 0 {
		s += fmt.Sprintf(", %d by quota", st.Room)
	}
	return s + ", mode " + st.Mode.String()
}

// scheduled writes what the schedule asks for now and next.
func scheduled(w io.Writer, v View, s *control.ScheduleStatus) {
	if s == nil {
		return
	}
	now := windows(s.Floor, s.Ceiling)
	if now == "" {
		now = "no window is open"
	}
	fmt.Fprintf(w, "  schedule: %s; next: %s\n", now, NextWindow(v, s))
}

// NextWindow says what a schedule asks for next, and when; empty when there is no schedule.
func NextWindow(v View, s *control.ScheduleStatus) string {
	switch {
	case s == nil:
		return ""
	case s.Next.IsZero():
		return "nothing within a year"
	}
	next := windows(s.Then.Floor, s.Then.Ceiling)
	if next == "" {
		next = "no window"
	}
	return next + fmt.Sprintf(" from %s (in %s)", v.clock(s.Next), fleet.Elapsed(s.Next.Sub(v.Now)))
}

// Standing says in a sentence why a fleet's size is what it is, or what holds it back.
func Standing(st *control.Status) string {
	d := &st.Decision
	switch {
	case st.Time.IsZero():
		return "not looked at yet"
	case st.TargetErr != "":
		return "the target cannot be read, so nothing is changed: " + st.TargetErr
	case st.Action != nil:
		return fmt.Sprintf("on its way from %d to %d", st.Action.From, st.Action.To)
	case st.Short > 0:
		return fmt.Sprintf("at the maximum and still short of %d", st.Short)
	}
	if c := d.Counterfactual(); c != "" {
		for i := range d.Reasons {
			if r := &d.Reasons[i]; r.Code == d.Would.Code {
				return c + ": " + r.Sentence(d.Time)
			}
		}
		return c
	}
	if n := len(d.Reasons); n > 0 {
		return d.Reasons[n-1].Sentence(d.Time)
	}
	return "nothing asks for a change"
}

// windows says what two limits ask for.
func windows(floor, ceiling schedule.Limit) string {
	var parts []string
	if floor.Workers > 0 {
		parts = append(parts, fmt.Sprintf("at least %d (%s)", floor.Workers, floor.By))
	}
	if ceiling.Workers > 0 {
		parts = append(parts, fmt.Sprintf("at most %d (%s)", ceiling.Workers, ceiling.By))
	}
	return strings.Join(parts, ", ")
}

func guards(w io.Writer, v View, st *control.Status) {
	tinted(w, func(t *tabwriter.Writer, tint func(func(string) string)) {
		for _, g := range st.Guards {
			state, paint := "lets scale out", plain
			if g.Holds {
				state, paint = "holds for "+v.ago(g.Since), v.warn
			}
			tint(paint)
			fmt.Fprintf(t, "  guard\t%s\t%s\t%s\n", g.Name, g.Note, state)
		}
	})
}

func sizes(st *control.Status) string {
	if !st.Size.Known {
		return "size unknown"
	}
	s := fmt.Sprintf("%d serving", st.Size.Serving)
	if st.Size.Starting > 0 {
		s += fmt.Sprintf(", %d starting", st.Size.Starting)
	}
	if st.Size.Draining > 0 {
		s += fmt.Sprintf(", %d draining", st.Size.Draining)
	}
	return s
}

// Chain writes a decision: the outcome, its reasons in order, and what would have happened otherwise.
func Chain(d *fleet.Decision) []string {
	lines := []string{d.Headline()}
	for _, r := range d.Reasons {
		lines = append(lines, "- "+r.Sentence(d.Time))
	}
	if c := d.Counterfactual(); c != "" {
		lines = append(lines, "= "+c)
	}
	return lines
}

// chain writes a decision, its headline and what holds it back in colour.
func chain(w io.Writer, v View, d *fleet.Decision) {
	for i, line := range Chain(d) {
		switch {
		case i == 0:
			line = v.bold(line)
		case strings.HasPrefix(line, "= "):
			line = v.warn(line)
		}
		fmt.Fprintln(w, "  "+line)
	}
}

// table aligns the cells of rows, which tabs divide. Nothing trails the last, so that a diff of two outputs shows what changed.
func table(w io.Writer, rows func(t *tabwriter.Writer)) {
	tinted(w, func(t *tabwriter.Writer, _ func(paint func(string) string)) { rows(t) })
}

// tinted is a table whose rows have colours: tint is told that of each row in turn, nil for none. Colour takes no room.
func tinted(w io.Writer, rows func(t *tabwriter.Writer, tint func(paint func(string) string))) {
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	paints := map[int]func(string) string{}
	rows(t, func(paint func(string) string) {
		paints[len(paints)] = paint
	})
	_ = t.Flush() // to a buffer
	n := 0
	for line := range strings.Lines(b.String()) {
		line = strings.TrimRight(line, " \n")
		if paint := paints[n]; paint != nil {
			line = paint(line)
		}
		fmt.Fprintln(w, line)
		n++
	}
}

func signals(w io.Writer, v View, st *control.Status) {
	tinted(w, func(t *tabwriter.Writer, tint func(func(string) string)) {
		for _, s := range st.Signals {
			value, paint := s.Unit.Format(s.Reading.Value), plain
			switch {
			case !s.Lost.IsZero():
				paint = v.Bad
				value = fmt.Sprintf("%s for %s (since %s)", s.Reading.Quality, v.ago(s.Lost), v.clock(s.Lost))
			case s.Reading.Quality == fleet.Sparse:
				value = "too few samples"
			}
			tint(paint)
			fmt.Fprintf(t, "  signal\t%s\t%s\t%s\n", s.Name, value, s.Err)
		}
	})
}

func rules(w io.Writer, v View, st *control.Status) {
	tinted(w, func(t *tabwriter.Writer, tint func(func(string) string)) {
		for _, r := range st.Rules {
			switch {
			case r.State != fleet.Alarm:
				tint(plain)
			case r.Change > 0:
				tint(v.warn)
			default:
				tint(v.good)
			}
			state := r.State.String()
			if r.Mode != fleet.On {
				state += ", " + r.Mode.String()
			}
			fmt.Fprintf(t, "  alarm\t%s %s %s\t%+d\t%d of %d (%d breach)\t%s for %s\t%s\n", r.Signal, r.Operator, r.Unit.Format(r.Threshold),
				r.Change, r.M, r.N, r.Breaching, state, v.ago(r.Since), r.Policy)
		}
	})
}

func objectives(w io.Writer, st *control.Status) {
	table(w, func(t *tabwriter.Writer) {
		for _, o := range st.Objectives {
			p, m := &o.Proposal, &o.Proposal.Model
			needs := p.Doubt
			if p.Known {
				needs = fmt.Sprintf("needs %d at %.3g/s, %s each", p.Need, m.Rate, fleet.Seconds.Format(m.Service))
				if p.Doubt != "" {
					needs += ", no scale-in: " + p.Doubt
				}
			}
			measured := o.Measured.Quality.String()
			if o.Measured.Quality == fleet.Fresh {
				measured = fleet.Seconds.Format(o.Measured.Value)
			}
			fmt.Fprintf(t, "  objective\t%s <= %s\tmeasured %s\t%s\t%s\t%s\n", o.Signal, fleet.Seconds.Format(o.Within), measured, needs, o.Mode, o.Policy)
		}
	})
}

func forecasts(w io.Writer, st *control.Status) {
	table(w, func(t *tabwriter.Writer) {
		for _, f := range st.Forecasts {
			expected, needs := "not known: "+f.Doubt, f.Err
			if f.Band.Known {
				expected = fmt.Sprintf("%s (%s to %s) by %d weeks, held %.0f %% of %d", f.Unit.Format(f.Band.Median), f.Unit.Format(f.Band.Low), f.Unit.Format(f.Band.High), f.Band.Weeks, 100*f.Held, f.Of)
				if f.Need > 0 {
					needs = fmt.Sprintf("needs %d", f.Need)
				} else {
					needs = f.Doubt
				}
			}
			fmt.Fprintf(t, "  forecast\t%s in %s\t%s\t%s\t%s\t%s\n", f.Signal, fleet.Elapsed(time.Duration(f.Lead)), expected, needs, f.Mode, f.Policy)
		}
	})
}

func workers(w io.Writer, v View, st *control.Status) {
	table(w, func(t *tabwriter.Writer) {
		for _, wk := range st.Workers {
			id := wk.ID
			if wk.PID != 0 {
				id = fmt.Sprintf("%s (pid %d)", wk.ID, wk.PID)
			}
			age := ""
			if !wk.Started.IsZero() {
				age = "up " + v.ago(wk.Started)
			}
			fmt.Fprintf(t, "  worker\t%s\t%s\t%s\t%s\t%s\n", id, wk.Phase, wk.Address, age, wk.Detail)
		}
	})
}

// Order confirms an operator's word.
func Order(w io.Writer, v View, st *control.Status) {
	switch {
	case st.Order == nil:
	case st.Order.Kind == engine.Hold:
		fmt.Fprintf(w, "%s is held at %d, %s\n", st.Fleet, st.Size.Workers(), until(v, st.Order))
	case st.Order.Kind == engine.Pin:
		fmt.Fprintf(w, "%s is set to %d, %s\n", st.Fleet, st.Order.Size, until(v, st.Order))
	}
	if st.Order == nil {
		fmt.Fprintf(w, "%s follows its policies, mode %s\n", st.Fleet, st.Mode)
	}
	for _, line := range Chain(&st.Decision) {
		fmt.Fprintln(w, "  "+line)
	}
}

func until(v View, o *engine.Order) string {
	if o.Until.IsZero() {
		return "until it is released"
	}
	return fmt.Sprintf("until %s (for %s)", v.clock(o.Until), fleet.Elapsed(o.Until.Sub(v.Now)))
}
