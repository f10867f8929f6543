package text

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"tidemark/internal/control"
	"tidemark/internal/decide/alert"
	"tidemark/internal/fleet"
	"tidemark/internal/show/web"
)

// Glance is what a live view knows.
type Glance struct {
	web.Overview
	Events []fleet.Event // the latest, newest first
	Err    error         // why what is shown is not of now
}

// painted is a line with its colour, which takes no room.
type painted struct {
	text  string
	paint func(string) string
}

// Top is a screen of a view: the fleets a line each, the chosen one's signals and alarms, and what happened last. Each line is at most width
// columns; height 0 is as many as there is to say.
func Top(v View, g Glance, width, height, chosen int) []string {
	none := func(s string) string { return s }
	var rows []painted
	add := func(paint func(string) string, format string, args ...any) {
		rows = append(rows, painted{fmt.Sprintf(format, args...), paint})
	}
	zone := v.Now.In(v.Zone).Format("15:04:05 MST")
	add(v.bold, "%s  %s  leading for %s", g.Instance, zone, v.ago(g.Since))
	switch {
	case g.Err != nil:
		add(v.Bad, "%s", strings.SplitN(g.Err.Error(), "\n", 2)[0])
	case len(g.Raised) > 0:
		add(v.Bad, "%s", raised(v, g.Raised))
	default:
		add(v.good, "no alert is raised")
	}
	add(none, "")
	names := 5
	for _, st := range g.Fleets {
		names = max(names, min(len([]rune(st.Fleet)), 24))
	}
	add(v.dim, "  %-*s  %-9s %7s %6s  %-14s %s", names, "FLEET", "WORKERS", "MIN-MAX", "WANTED", "MODE", "WHY")
	chosen = max(min(chosen, len(g.Fleets)-1), 0)
	first := 0 // of those shown, where there are more than half a screen
	most := len(g.Fleets)
	if height > 0 {
		most = min(most, max((height-8)/2, 1))
		first = max(min(chosen-most+1, len(g.Fleets)-most), 0)
	}
	for i, st := range g.Fleets[first : first+most] {
		mark := " "
		if first+i == chosen && len(g.Fleets) > 1 {
			mark = ">"
		}
		paint := none
		if st.Short > 0 || !st.Size.Known || st.ActionErr != "" {
			paint = v.Bad
		}
		add(paint, "%s %-*s  %-9s %7s %6s  %-14s %s", mark, names, cut(st.Fleet, names), sizeWords(st), fmt.Sprintf("%d-%d", st.Bounds.Min, st.Bounds.Max), wanted(st), st.Mode, Standing(st))
	}
	if hidden := len(g.Fleets) - most; hidden > 0 {
		add(v.dim, "  and %d more: the arrows lead there", hidden)
	}
	if len(g.Fleets) > 0 {
		st := g.Fleets[chosen]
		add(none, "")
		for _, line := range wrap(st.Fleet+": "+Standing(st), width-2, 2) {
			add(none, "  %s", line)
		}
		room := len(st.Signals)
		if height > 0 {
			room = max(height-len(rows)-6, 2)
		}
		for _, r := range signalRows(v, st, room) {
			rows = append(rows, painted{r.text, r.paint})
		}
	}
	room := 11
	if height > 0 {
		room = height - len(rows) - 1
	}
	rows = append(rows, latest(v, g.Events, room)...)
	var out []string
	for _, r := range rows {
		out = append(out, r.paint(cut(r.text, width)))
	}
	if height > 0 {
		foot := "q quits"
		if len(g.Fleets) > 1 {
			foot += ", the arrows choose a fleet"
		}
		for len(out) < height-1 {
			out = append(out, "")
		}
		out = append(out[:height-1], v.dim(cut(foot, width)))
	}
	return out
}

// latest are the newest events that there is room for, oldest first.
func latest(v View, events []fleet.Event, room int) (out []painted) {
	if room < 3 || len(events) == 0 {
		return nil
	}
	out = append(out, painted{"", v.dim})
	for _, e := range slices.Backward(events[:min(len(events), room-1)]) {
		paint := v.dim
		if Trouble(&e) {
			paint = v.Bad
		}
		name := e.Fleet
		if name != "" {
			name += "  "
		}
		out = append(out, painted{v.when(e.Time) + "  " + name + Event(&e), paint})
	}
	return out
}

// when is a time of today by the clock, another day's as the day: both as wide.
func (v View) when(t time.Time) string {
	if t, now := t.In(v.Zone), v.Now.In(v.Zone); t.YearDay() == now.YearDay() && t.Year() == now.Year() {
		return t.Format("15:04:05")
	}
	return t.In(v.Zone).Format("  02 Jan")[:8]
}

func raised(v View, list []alert.Notice) string {
	worst := list[0]
	s := fmt.Sprintf("%s for %s: %s", worst.Severity, v.ago(worst.Started), worst.Title)
	if n := len(list) - 1; n > 0 {
		s = fmt.Sprintf("%d alerts; %s", n+1, s)
	}
	return s
}

func wanted(st *control.Status) string {
	if st.Decision.Wanted == 0 {
		return "-"
	}
	return fmt.Sprint(st.Decision.Wanted)
}

// sizeWords is a size in few letters: "4 +1 -2": starting and draining ones beside those that serve.
func sizeWords(st *control.Status) string {
	if !st.Size.Known {
		return "unknown"
	}
	s := fmt.Sprint(st.Size.Serving)
	if st.Size.Starting > 0 {
		s += fmt.Sprintf(" +%d", st.Size.Starting)
	}
	if st.Size.Draining > 0 {
		s += fmt.Sprintf(" -%d", st.Size.Draining)
	}
	return s
}

// signalRows are the signals with their rules; those in alarm, or lost, first where there is not room for all.
func signalRows(v View, st *control.Status, room int) (out []painted) {
	type line struct {
		painted
		urgent int
	}
	var lines []line
	for _, s := range st.Signals {
		l := line{painted: painted{paint: func(s string) string { return s }}, urgent: 3}
		value := s.Unit.Format(s.Reading.Value)
		switch {
		case !s.Lost.IsZero():
			value = fmt.Sprintf("%s for %s", s.Reading.Quality, v.ago(s.Lost))
			l.paint, l.urgent = v.Bad, 0
		case s.Reading.Quality == fleet.Sparse:
			value = "too few samples"
		case s.Reading.Quality < fleet.Fresh:
			value = s.Reading.Quality.String()
		}
		var rules []string
		for _, r := range st.Rules {
			if r.Signal != s.Name {
				continue
			}
			rules = append(rules, fmt.Sprintf("%s %s %+d", r.Operator, r.Unit.Format(r.Threshold), r.Change))
			l.urgent = min(l.urgent, 2)
			if r.State == fleet.Alarm {
				rules[len(rules)-1] += " ALARM"
				if r.Change > 0 {
					l.paint, l.urgent = v.Bad, min(l.urgent, 1)
				}
			}
		}
		l.text = fmt.Sprintf("  %-28s %-18s %s", cut(s.Name, 28), value, strings.Join(rules, ", "))
		lines = append(lines, l)
	}
	if len(lines) > room {
		slices.SortStableFunc(lines, func(a, b line) int { return a.urgent - b.urgent })
		lines = append(lines[:room-1:room-1], line{painted: painted{fmt.Sprintf("  and %d more signals", len(lines)-room+1), v.dim}})
	}
	for _, l := range lines {
		out = append(out, l.painted)
	}
	return out
}

// wrap breaks a text at spaces into at most so many lines; the last has the rest.
func wrap(s string, width, most int) (out []string) {
	for len(out) < most-1 && len([]rune(s)) > width {
		at := strings.LastIndex(string([]rune(s)[:max(width, 0)]), " ")
		if at <= 0 {
			break
		}
		out, s = append(out, s[:at]), s[at+1:]
	}
	return append(out, s)
}

// cut shortens a line to what there is room for. What a terminal would obey is not let through.
func cut(s string, width int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, s)
	r := []rune(strings.TrimRight(s, " "))
	if len(r) > width {
		return string(r[:max(width-1, 0)]) + "…"
	}
	return string(r)
}
