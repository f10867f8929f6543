package text

import (
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"

	"tidemark/internal/prove/outcome"
	"tidemark/internal/prove/verdict"
)

// StatusWords are a verdict's status as people read it.
var StatusWords = map[verdict.Status]string{
	verdict.Passed: "passed", verdict.Within: "passed within variation", verdict.Failed: "FAILED", verdict.Undecided: "undecided",
	verdict.Invalid: "INVALID", verdict.Unneeded: "not exercised",
}

// Verdict writes what runs prove: the whole, each criterion with its bounds, and what to do when it did not pass.
func Verdict(w io.Writer, v View, runs []*outcome.Run, j *verdict.Verdict) {
	name := "load test"
	if len(runs) > 0 {
		name = runs[0].Scenario
	}
	head := fmt.Sprintf("%s: %s", name, StatusWords[j.Status])
	if j.Runs > 1 {
		head += fmt.Sprintf(", by %d runs", j.Runs)
	}
	switch j.Status {
	case verdict.Passed, verdict.Within:
		head = v.good(head)
	case verdict.Failed, verdict.Invalid:
		head = v.Bad(head)
	case verdict.Undecided, verdict.Unneeded:
		head = v.bold(head)
	}
	fmt.Fprintln(w, head)
	for _, why := range j.Invalid {
		fmt.Fprintln(w, "  "+v.Bad(why))
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "CRITERION\tASKED\tMEASURED\tBOUNDS\tVERDICT")
	for i := range j.Criteria {
		r := &j.Criteria[i]
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", r.Name, Asked(r), Measured(r), Bounds(r), StatusWords[r.Status])
	}
	t.Flush() //nolint:errcheck // w tells its own errors
	for i := range j.Criteria {
		r := &j.Criteria[i]
		if r.Why != "" {
			fmt.Fprintf(w, "%s: %s\n", r.Name, v.dim(r.Why))
		}
		if r.Baseline != nil {
			fmt.Fprintf(w, "%s: %s\n", r.Name, Against(r))
		}
	}
	if len(j.Bottlenecks) > 0 {
		fmt.Fprintf(w, "\n%s\n", v.bold("What was short"))
		for _, b := range j.Bottlenecks {
			fmt.Fprintf(w, "  %s: %s\n", b.Resource, strings.Join(b.Evidence, "; "))
		}
	}
	if len(j.Actions) > 0 {
		fmt.Fprintf(w, "\n%s\n", v.bold("What to do"))
		for i, a := range j.Actions {
			fmt.Fprintf(w, "  %d. %s\n", i+1, a)
		}
	}
}

// Asked is a criterion's limit, "at most 500ms +10 %".
func Asked(r *verdict.Result) string {
	switch r.Measure {
	case outcome.Triggers, outcome.Improvement, outcome.GuardsHeld:
		return ""
	case outcome.Returned:
		if r.Limit == 0 {
			return "by the end"
		}
	case outcome.Latency, outcome.Duration, outcome.Signal, outcome.ErrorRate, outcome.Availability, outcome.Throughput, outcome.Knee, outcome.TimeToScale, outcome.Flapping:
	}
	side, sign := "at most", "+"
	if r.AtLeast {
		side, sign = "at least", "-"
	}
	s := side + " " + r.Amount(r.Limit)
	if r.Variation > 0 {
		s += fmt.Sprintf(" %s%g %%", sign, r.Variation*100)
	}
	return s
}

// Measured is a criterion's figure.
func Measured(r *verdict.Result) string {
	if r.Figure == nil {
		return "-"
	}
	return r.Amount(r.Figure.Value)
}

// Bounds are those of the figure, "" where it is exact.
func Bounds(r *verdict.Result) string {
	if r.Figure == nil || r.Figure.Low == r.Figure.High {
		return ""
	}
	return r.Amount(r.Figure.Low) + " to " + r.Amount(r.Figure.High)
}

// Against says how a criterion compares with earlier runs.
func Against(r *verdict.Result) string {
	b := r.Baseline
	s := fmt.Sprintf("against %d earlier runs (median %s): %s", b.Runs, r.Amount(b.Median), StatusWords[b.Status])
	if !math.IsNaN(b.Shift.Value) {
		s += fmt.Sprintf(", changed by %s", signed(r, b.Shift.Value))
	}
	if b.Shift.Confidence > 0 {
		s += fmt.Sprintf(" (%.0f %% interval %s to %s, p = %.3f)", b.Shift.Confidence*100, signed(r, b.Shift.Low), signed(r, b.Shift.High), b.Shift.P)
	}
	if b.Why != "" {
		s += "; " + b.Why
	}
	return s
}

func signed(r *verdict.Result, v float64) string {
	if v < 0 {
		return "-" + r.Amount(-v)
	}
	return "+" + r.Amount(v)
}
