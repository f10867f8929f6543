package text

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/foresee/tune"
)

// Tuned writes what a search for better settings came to.
func Tuned(w io.Writer, v View, r *tune.Result, objective time.Duration) {
	for _, n := range r.Notes {
		fmt.Fprintln(w, v.dim(n))
	}
	fmt.Fprintf(w, "%s of %s: %d policies tried, %.3g requests simulated (%s level), %d seeds\n", r.Fleet, r.File, r.Tried, r.Simulated, r.Level, r.Seeds)
	fmt.Fprintln(w)
	best := r.Recommended
	switch {
	case r.Interrupted && best == nil:
		fmt.Fprintln(w, v.bold("Stopped: nothing better was found so far."))
		return
	case best == nil:
		fmt.Fprintln(w, v.bold("Nothing is recommended: "+r.File+" is already as good as anything that was found, on the days held out."))
		fmt.Fprintf(w, "It costs %s. %s\n", Gap(*r.Present.HoldOut), Gained(r))
	case r.Interrupted:
		fmt.Fprintln(w, v.bold("Stopped: the best so far. It was not validated on the days held out, so it is no recommendation."))
		fmt.Fprintf(w, "On the days to train on, your policy costs %s; this change %s.\n", Gap(r.Present.Train), Gap(best.Train))
	default:
		fmt.Fprintf(w, "%s On the days held out, your policy costs %s; what was found without them %s. %s\n", v.bold("A change is recommended."), Gap(*r.Present.HoldOut), Gap(*best.HoldOut), Gained(r))
	}
	if best != nil {
		fmt.Fprintln(w)
		for _, c := range best.Changes {
			fmt.Fprintf(w, "%s:%d  %s: %s -> %s\n", r.File, c.Line, c.What, c.From, v.bold(c.To))
			if c.Reason != "" {
				fmt.Fprintln(w, "    "+c.Reason)
			}
		}
		fmt.Fprintf(w, "\n%s\n", v.coloured(r.Diff))
	}
	if r.Interrupted {
		return
	}
	folds(w, v, r)
	front(w, v, r, objective)
	if best != nil {
		fmt.Fprintln(w, "\nNothing was changed. Read the diff, apply it (patch "+r.File+"), check it (tidemark check), and watch it in shadow mode first.")
	}
}

// Gap says how far a policy is from the clairvoyant: "1.43 x the clairvoyant with P(violation) 2.3 %".
func Gap(f tune.Figures) string {
	return fmt.Sprintf("%s x the clairvoyant with P(violation) %s", interval(f.Cost, 1, "%.2f"), interval(f.Violations, 1, "%.2f %%"))
}

// Gained says by how much what was found is better than the present policy, fold by fold.
func Gained(r *tune.Result) string {
	up := 0
	for _, f := range r.Folds {
		if f.Gain > 0 {
			up++
		}
	}
	return fmt.Sprintf("In %d of %d folds what was found is better, by %s of what the clairvoyant costs on average.", up, len(r.Folds), interval(r.Gain, 100, "%.1f %%"))
}

func folds(w io.Writer, v View, r *tune.Result) {
	fmt.Fprintln(w, v.bold("Each fold's days, with what was found without them"))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "held out\tyour policy\tfound\tgain\tby line")
	for i, f := range r.Folds {
		fmt.Fprintf(t, "%s\t%s\t%s\t%.3f\t%s\n", HeldOut(v, r, i+1), short(f.Present), short(f.Found), f.Gain, Changed(f.Changes))
	}
	_ = t.Flush() // w tells its own errors
	fmt.Fprintln(w)
}

// short are the two figures that a policy is judged by.
func short(f tune.Figures) string {
	return fmt.Sprintf("%.2f x, %.2f %%", f.Cost.Mean, f.Violations.Mean)
}

// Changed lists changes by their lines.
func Changed(all []tune.Change) string {
	var out []string
	for _, c := range all {
		out = append(out, fmt.Sprintf("%d: %s", c.Line, c.To))
	}
	if out == nil {
		return "none"
	}
	return strings.Join(out, ", ")
}

func front(w io.Writer, v View, r *tune.Result, objective time.Duration) {
	fmt.Fprintln(w, v.bold("Pareto front on all days, with arrivals that the search did not see: no other policy is better in both, cost and violations"))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "policy\tworker-hours\tx clairvoyant\tminutes above %s\tin minutes\tactions a day\n", fleet.Elapsed(objective))
	row := func(name string, f *tune.Figures) {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", name, interval(f.WorkerHours, 1, "%.1f"), interval(f.Cost, 1, "%.3f"), interval(f.Violations, 1, "%.3f %%"), interval(f.Minutes, 1, "%.1f"), interval(f.Actions, 1, "%.1f"))
	}
	listed := false
	for _, p := range r.Front {
		listed = listed || len(p.Changes) == 0
		row(Named(r, p), p.Fresh)
	}
	if !listed {
		row("your policy (not of the front)", r.Present.Fresh)
	}
	_ = t.Flush() // w tells its own errors
}

// Named is what a policy of the front is called.
func Named(r *tune.Result, p tune.Policy) string {
	name := "lines " + Changed(p.Changes)
	switch {
	case len(p.Changes) == 0:
		return "your policy"
	case r.Recommended != nil && name == Named(&tune.Result{}, tune.Policy{Changes: r.Recommended.Changes}):
		return "recommended"
	}
	return name
}

// HeldOut lists the days of a fold by their load.
func HeldOut(v View, r *tune.Result, fold int) string {
	var out []string
	of := ""
	for _, d := range r.Days {
		if d.Fold != fold {
			continue
		}
		text := d.From.In(v.Zone).Format("Mon 2 Jan")
		if d.Load != of {
			text, of = d.Load+": "+text, d.Load
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

// coloured paints a unified diff.
func (v View) coloured(diff string) string {
	var b strings.Builder
	for l := range strings.Lines(diff) {
		text := strings.TrimSuffix(l, "\n")
		switch {
		case strings.HasPrefix(l, "+") && !strings.HasPrefix(l, "+++"):
			text = v.good(text)
		case strings.HasPrefix(l, "-") && !strings.HasPrefix(l, "---"):
			text = v.Bad(text)
		}
		b.WriteString(text + "\n")
	}
	return b.String()
}
