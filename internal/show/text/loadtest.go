package text

import (
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/prove/outcome"
	"tidemark/internal/prove/rehearsal"
)

// LoadProgress is one line on how a load test goes.
func LoadProgress(p rehearsal.Progress) string {
	p95 := "-"
	if !math.IsNaN(p.P95) {
		p95 = fmt.Sprintf("%.0f ms", 1000*p.P95)
	}
	line := fmt.Sprintf("%s of %s, %s: %.0f requests/s, p95 %s, %d requests, %d failed, %d open", fleet.Elapsed(p.At.Round(time.Second)), fleet.Elapsed(p.Of), p.Phase, p.Rate, p95, p.Requests, p.Failed, p.Open)
	if p.Workers >= 0 {
		line += fmt.Sprintf(", %d workers", p.Workers)
	}
	if p.Dropped > 0 {
		line += fmt.Sprintf(", %d DROPPED", p.Dropped)
	}
	return line
}

// Outcome is what one run saw, without a verdict.
func Outcome(w io.Writer, o *outcome.Run) {
	fmt.Fprint(w, o.Scenario)
	if o.Target != "" { // another tool does not say
		fmt.Fprint(w, " against "+o.Target)
	}
	fmt.Fprintf(w, ", %s", fleet.Elapsed(o.Ended.Sub(o.Started).Round(time.Second)))
	if o.Compress > 1 {
		fmt.Fprintf(w, ", compressed %g times", o.Compress)
	}
	fmt.Fprintln(w)
	if o.Cut != "" {
		fmt.Fprintln(w, "PARTIAL: "+o.Cut)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "JOURNEY\tSTEP\tREQUESTS\tFAILED\tP50\tP95\tP99")
	for i := range o.Steps {
		s := &o.Steps[i]
		row(t, s.Journey, s.Name, s.Slots, func(s *outcome.Slot) (uint64, uint64, *outcome.Histogram) { return s.Count, s.Failures(), &s.Latency })
	}
	for i := range o.Journeys {
		j := &o.Journeys[i]
		row(t, j.Name, "(whole)", j.Slots, func(s *outcome.JourneySlot) (uint64, uint64, *outcome.Histogram) {
			return s.Count, s.Failed, &s.Duration
		})
	}
	t.Flush() //nolint:errcheck // as all of this
	for _, l := range o.Levels {
		if !l.Reached() {
			break
		}
		fmt.Fprintf(w, "At %.4g visits/s: %d requests, %d failed, p95 %s.", l.Rate, l.Requests, l.Failed, fleet.Seconds.Format(l.P95))
		if l.Broke != "" {
			fmt.Fprintf(w, " BROKE: %s.", l.Broke)
		}
		fmt.Fprintln(w)
	}
	g := &o.Generator
	fmt.Fprintf(w, "Generator: %d requests, %d started late, %d dropped, lag p50 %.1f, p99 %.1f, at most %.1f ms, CPU %s of %s.\n",
		g.Requests, g.Late, g.Dropped, 1000*g.LagP50, 1000*g.LagP99, 1000*g.LagMax, time.Duration(g.CPU).Round(time.Millisecond), time.Duration(g.Took).Round(time.Millisecond))
	if len(g.Limits) > 0 {
		fmt.Fprintf(w, "INVALID: the generator was the limit, not the service: %s.\n", strings.Join(g.Limits, ", and "))
	}
	for _, lines := range [][]string{o.Notes, o.Cleanup} {
		for _, n := range lines {
			fmt.Fprintln(w, "- "+n)
		}
	}
}

// row sums up the slots of a step or of a journey; what never came has no row.
func row[S any](w io.Writer, journey, step string, slots []S, of func(*S) (count, failed uint64, took *outcome.Histogram)) {
	if len(slots) == 0 {
		return
	}
	var all outcome.Histogram
	var n, failed uint64
	for i := range slots {
		count, bad, took := of(&slots[i])
		n, failed = n+count, failed+bad
		all.Add(&took.Histogram)
	}
	fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\n", journey, step, n, failed, quantiles(&all))
}

func quantiles(h *outcome.Histogram) string {
	if h.Count() == 0 {
		return "-\t-\t-"
	}
	var out []string
	for _, q := range []float64{0.5, 0.95, 0.99} {
		out = append(out, fleet.Elapsed(time.Duration(h.Quantile(q)*float64(time.Second)).Round(time.Millisecond)))
	}
	return strings.Join(out, "\t")
}
