package text

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"tidemark/internal/decide/alert"
	"tidemark/internal/show/web"
	"tidemark/internal/tell"
)

// Alerts writes what is raised, what ended lately, and how each channel fares.
func Alerts(w io.Writer, v View, a web.Alerts) {
	for i := range a.Alerts {
		alertEntry(w, v, &a.Alerts[i])
	}
	if len(a.Alerts) == 0 {
		fmt.Fprintln(w, v.good("nothing is raised"))
	}
	fmt.Fprintln(w)
	if len(a.Channels) == 0 {
		fmt.Fprintln(w, "nobody is told: there is no notify in the configuration")
	}
	table(w, func(t *tabwriter.Writer) {
		for i := range a.Channels {
			fmt.Fprintf(t, "channel\t%s\t%s\n", a.Channels[i].Channel, channelState(v, &a.Channels[i]))
		}
	})
}

func alertEntry(w io.Writer, v View, a *web.Alert) {
	n := &a.Notice
	severity := n.Severity.String()
	if n.Firing() && n.Severity > alert.Info {
		severity = v.Bad(severity)
	}
	when := fmt.Sprintf("since %s, for %s", v.clock(n.Started), v.ago(n.Started))
	switch {
	case n.Once:
		when = "at " + v.clock(n.Started)
	case !n.Firing():
		severity, when = v.good("over"), fmt.Sprintf("from %s to %s", v.clock(n.Started), v.clock(n.Ended))
	}
	fmt.Fprintf(w, "%s  %s\n", severity, v.bold(n.Title))
	fmt.Fprintf(w, "  %s; %s\n", v.dim(when), v.dim(told(v, a.Told)))
	for _, l := range n.Lines {
		fmt.Fprintln(w, "  "+l)
	}
}

// told says who knows.
func told(v View, to []tell.Telling) string {
	var parts []string
	for _, t := range to {
		switch {
		case t.At.IsZero():
			parts = append(parts, t.Channel+" not told yet")
		case t.Waiting:
			parts = append(parts, t.Channel+" not reached yet")
		default:
			parts = append(parts, t.Channel+" told at "+v.clock(t.At))
		}
	}
	if len(parts) == 0 {
		return "nobody is told"
	}
	return strings.Join(parts, ", ")
}

func channelState(v View, s *tell.Status) string {
	parts := []string{fmt.Sprintf("%d delivered", s.Delivered)}
	if s.Waiting > 0 {
		parts = append(parts, fmt.Sprintf("%d waiting since %s", s.Waiting, v.clock(s.Oldest)))
	}
	for _, c := range []struct {
		n    int
		what string
	}{{s.Held, "not on disk"}, {s.Refused, "refused"}, {s.Dropped, "dropped"}, {s.Damaged, "damaged"}} {
		if c.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", c.n, c.what))
		}
	}
	if !s.Failing.IsZero() {
		parts = append(parts, v.Bad(fmt.Sprintf("failing for %s: %s", v.ago(s.Failing), s.Error)))
	}
	return strings.Join(parts, ", ")
}

// Tried writes what became of test messages.
func Tried(w io.Writer, v View, tried []tell.Tried) {
	table(w, func(t *tabwriter.Writer) {
		for _, one := range tried {
			state := v.good("sent")
			if one.Error != "" {
				state = v.Bad("failed: " + one.Error)
			}
			fmt.Fprintf(t, "%s\t%s\n", one.Channel, state)
		}
	})
}
