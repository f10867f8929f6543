package text

import (
	"fmt"
	"io"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/foresee/backtest"
)

// Verdicts are what a difference is called.
var Verdicts = map[backtest.Verdict]string{
	backtest.Agree: "as it was", backtest.Only: "would have scaled", backtest.Not: "would not have scaled", backtest.Other: "would have gone elsewhere",
}

// Limit says how far a replay can be believed.
const Limit = "The policy was shown readings and sizes as they were. Up to the first difference that is exact; behind it the fleet would have been of another size and its signals would have read otherwise. " +
	"Each difference therefore starts from what really was, and does not follow from those before it. Operators' orders are not replayed."

// Backtests writes where policies would have decided otherwise than was decided.
func Backtests(w io.Writer, v View, all []*backtest.Result, agreed bool) {
	for i, r := range all {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%s  %s\n", v.bold(r.Name), v.dim(fmt.Sprintf("%s from %s to %s, %d ticks", r.Fleet, r.Since.In(v.Zone).Format("2006-01-02 15:04"), r.Until.In(v.Zone).Format("2006-01-02 15:04 MST"), r.Ticks)))
		for _, n := range r.Notes {
			fmt.Fprintln(w, v.Bad("  "+n))
		}
		if r.Gaps > 0 {
			fmt.Fprintf(w, "  %d gaps without ticks: nothing was decided in them\n", r.Gaps)
		}
		history(w, v, r)
		for j := range r.Changes {
			c := &r.Changes[j]
			if c.Verdict == backtest.Agree && !agreed {
				continue
			}
			fmt.Fprintf(w, "%s  %-26s %s\n", c.Time.In(v.Zone).Format("Mon 2006-01-02 15:04:05"), Verdicts[c.Verdict], Change(c))
			if c.Journal != nil && c.Verdict != backtest.Agree {
				fmt.Fprintf(w, "%26s was: %s\n", "", Scaling(c.Journal))
			}
			if c.Replay != nil {
				fmt.Fprintf(w, "%26s replayed: %s\n", "", Scaling(c.Replay))
			}
		}
		if r.Differ == 0 {
			fmt.Fprintf(w, "%s: all %d changes of size as they were; %.1f worker-hours\n", v.good("no difference"), r.Agree, r.WorkerHours)
			continue
		}
		fmt.Fprintf(w, "%d changes as they were, %d otherwise, the first %s after the start; the fleet used %.1f worker-hours\n", r.Agree, r.Differ, fleet.Elapsed(r.SureUntil.Sub(r.Since)), r.WorkerHours)
		fmt.Fprintln(w, v.dim(Limit))
	}
}

// Change says from where to where, and from where to where it was.
func Change(c *backtest.Difference) string {
	switch {
	case c.Would == c.Did:
		return fmt.Sprintf("%d -> %d", c.From, c.Did)
	case c.Did == c.From:
		return fmt.Sprintf("%d -> %d; nobody did", c.From, c.Would)
	case c.Would == c.From:
		return fmt.Sprintf("stay at %d; it was %d -> %d", c.From, c.From, c.Did)
	}
	return fmt.Sprintf("%d -> %d; it was %d -> %d", c.From, c.Would, c.From, c.Did)
}

// history draws what was, and marks where the policy asked for another size.
func history(w io.Writer, v View, r *backtest.Result) {
	each := max((len(r.Moments)+chartRows-1)/chartRows, 1)
	layout := "15:04"
	if r.Until.Sub(r.Since) > 20*time.Hour {
		layout = "Mon 02 Jan 15:04"
	}
	fmt.Fprintln(w, v.bold(fmt.Sprintf("%-*s  size as it was", len(layout), "time")))
	for from := 0; from < len(r.Moments); from += each {
		m := r.Moments[from]
		for _, o := range r.Moments[from:min(from+each, len(r.Moments))] {
			if o.Size >= 0 && o.Would != o.Size {
				m = o
			}
		}
		if m.Size < 0 {
			fmt.Fprintf(w, "%s  %4s not known\n", m.Time.In(v.Zone).Format(layout), "-")
			continue
		}
		note := ""
		if m.Would != m.Size {
			note = fmt.Sprintf("  asks for %d", m.Would)
		}
		fmt.Fprintf(w, "%s  %4d %s%s\n", m.Time.In(v.Zone).Format(layout), m.Size, v.good(dots(float64(m.Size))), v.Bad(note))
	}
}
