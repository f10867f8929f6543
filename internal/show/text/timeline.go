package text

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"tidemark/internal/fleet"
)

// Moment is one row of a timeline.
type Moment struct {
	At       time.Duration // since the start
	Phase    string
	Load     float64 // requests/s, over the row
	P95      float64 // seconds, over the row; 0 when nothing was answered
	Failed   int
	Serving  int
	Starting int
	Draining int
}

// Timeline draws load, latency and size as bars, a row at a time, so that it reads the same on a terminal and in a file.
type Timeline struct {
	W         io.Writer
	View      View
	MaxLoad   float64 // that fills its bar
	Objective float64 // seconds: a latency above it is marked
	Scale     float64 // how many times faster than the clock on the wall; 1 shows real time only
}

const barWidth = 20

// Head writes the columns' names.
func (t *Timeline) Head() {
	fmt.Fprintln(t.W, t.View.bold(fmt.Sprintf("%6s  %-8s  %-27s  %-27s  %s", "time", "tide", "load", "p95", "workers")))
}

// Row writes one moment.
func (t *Timeline) Row(m Moment) {
	load := fmt.Sprintf("%4.0f/s %s", m.Load, bar(m.Load/t.MaxLoad))
	p95, mark := "     - "+strings.Repeat(" ", barWidth), ""
	if m.P95 > 0 {
		// The objective stands at half of the bar.
		p95 = fmt.Sprintf("%6s %s", latency(m.P95), bar(m.P95/t.Objective/2))
		if m.P95 > t.Objective {
			p95 = t.View.Bad(p95)
		}
	}
	if m.Failed > 0 {
		mark = t.View.Bad(fmt.Sprintf("  %d failed", m.Failed))
	}
	people := t.View.good(strings.Repeat("●", m.Serving)) + strings.Repeat("○", m.Starting) + t.View.dim(strings.Repeat("◌", m.Draining))
	fmt.Fprintf(t.W, "%6s  %-8s  %s  %s  %2d %s%s\n", t.clock(m.At), m.Phase, load, p95, m.Serving, people, mark)
}

// Note writes a line between the rows.
func (t *Timeline) Note(at time.Duration, s string) {
	fmt.Fprintf(t.W, "%6s  %s\n", t.clock(at), s)
}

// clock writes a time in the tide's own hours and minutes.
func (t *Timeline) clock(at time.Duration) string {
	at = time.Duration(float64(at) * t.Scale)
	return fmt.Sprintf("%02d:%02d", int(at.Hours()), int(at.Minutes())%60)
}

func latency(s float64) string {
	if s < 1 {
		return fmt.Sprintf("%.0fms", s*1000)
	}
	return fmt.Sprintf("%.1fs", s)
}

// bar draws a share of barWidth in eighths.
func bar(share float64) string {
	eighths := int(min(max(share, 0), 1)*barWidth*8 + 0.5)
	s := strings.Repeat("█", eighths/8)
	if rest := eighths % 8; rest > 0 {
		s += string([]rune(" ▏▎▍▌▋▊▉")[rest])
	}
	return s + strings.Repeat(" ", barWidth-len([]rune(s)))
}

// drivers are the reasons that can make a size grow or shrink, as opposed to those that held it or stood by. What stands in an
// earlier group goes first: a minimum, a window or an operator moves the fleet whatever the policies ask for.
var drivers = map[bool][2][]fleet.Code{
	true:  {{fleet.OrderPin, fleet.BelowMin, fleet.ScheduledFloor}, {fleet.RuleOut, fleet.SLOOut, fleet.ForecastOut}},
	false: {{fleet.OrderPin, fleet.AboveMax, fleet.GivesWay, fleet.ScheduledCeiling}, {fleet.RuleIn, fleet.SLOIn}},
}

// driver is the reason that moved the size, nil when there is none: of several policies the one that asks for most workers.
func driver(d *fleet.Decision) (by *fleet.Reason) {
	for _, codes := range drivers[d.To > d.From] {
		for i := range d.Reasons {
			if r := &d.Reasons[i]; slices.Contains(codes, r.Code) && (by == nil || r.Size > by.Size) {
				by = r
			}
		}
		if by != nil {
			return by
		}
	}
	return nil
}

// Scaling says a change of size in a line: what, and the reason that drove it.
func Scaling(d *fleet.Decision) string {
	arrow, why := "▼", ""
	if d.To > d.From {
		arrow = "▲"
	}
	if by := driver(d); by != nil {
		why = by.Sentence(d.Time)
	}
	return fmt.Sprintf("%s %d -> %d  %s", arrow, d.From, d.To, why)
}
