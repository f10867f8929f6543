package text

import (
	"fmt"
	"io"
	"math"
	"text/tabwriter"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/foresee"
	"tidemark/internal/foresee/sim"
)

// chartRows is how many rows a forecast's chart has.
const chartRows = 48

// Forecasts writes what policies would do: a chart of the first one's run, and the figures of all side by side.
func Forecasts(w io.Writer, v View, all []*foresee.Forecast, objective time.Duration, decisions bool) {
	f := all[0]
	for _, a := range f.Assumed {
		fmt.Fprintln(w, v.dim(a.Text))
	}
	chart(w, v, f, objective.Seconds())
	if decisions {
		fmt.Fprintln(w)
		for i := range f.Decisions {
			d := &f.Decisions[i]
			fmt.Fprintf(w, "%s  %s\n", d.Time.In(v.Zone).Format("Mon 2006-01-02 15:04:05"), Scaling(d))
		}
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "policy\tworker-hours\tmean size\tsize\tminutes above %s\tp95\tp99\tscale-ups a day\tscale-downs a day\tlongest queue\n", fleet.Elapsed(objective))
	for _, f := range all {
		days := time.Duration(f.Duration).Hours() / 24
		fmt.Fprintf(t, "%s\t%s\t%s\t%d to %d\t%s\t%s\t%s\t%s\t%s\t%d\n", f.Name, interval(f.WorkerHours, 1, "%.1f"), interval(f.MeanSize, 1, "%.2f"), f.Least, f.Most,
			interval(f.Violations, 1, "%.2f %%"), times(f.P95), times(f.P99), interval(f.Ups, 1/days, "%.1f"), interval(f.Downs, 1/days, "%.1f"), f.Queue)
	}
	_ = t.Flush() // w tells its own errors
	for _, f := range all {
		around(w, f)
	}
	if f.Level == sim.Fluid {
		fmt.Fprintln(w, "By rates and the mathematics of queues (--level fluid), not request by request: chance shows in what the policy reads, not in the response times.")
	}
	fmt.Fprintf(w, "%s of %s, %.0f requests a run, %d seeds%s\n", fleet.Elapsed(time.Duration(f.Duration)), f.Load, f.Requests.Mean, f.Seeds,
		map[bool]string{true: "; ± is the 95 % interval of the mean over them", false: "; a second seed would show how much is chance"}[f.Seeds > 1])
}

// around writes what came of a site's routes and its database.
func around(w io.Writer, f *foresee.Forecast) {
	a := f.Around
	if a == nil {
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "\n%s\trequests\tp95\tp99\trejected\tabandoned\n", f.Name)
	for _, r := range a.Routes {
		fmt.Fprintf(t, "%s\t%.0f\t%s\t%s\t%s\t%s\n", r.Name, r.Requests.Mean, times(r.P95), times(r.P99), interval(r.Rejected, 1, "%.0f"), interval(r.Abandoned, 1, "%.0f"))
	}
	_ = t.Flush() // w tells its own errors
	if d := a.Database; d != nil {
		fmt.Fprintf(w, "database  used to %s of what it can do, at worst to %.0f %%; it does most with %d queries at once\n", interval(d.Utilisation, 1, "%.1f %%"), d.Worst, d.Peak)
	}
}

// interval writes a figure with half of its confidence interval.
func interval(f foresee.Figure, by float64, format string) string {
	s := fmt.Sprintf(format, f.Mean*by)
	if half := (f.High - f.Low) / 2 * by; half > 0 {
		s += fmt.Sprintf(" ± %.2g", half)
	}
	return s
}

// times is interval for a response time.
func times(f foresee.Figure) string {
	s := fleet.Seconds.Format(f.Mean)
	if half := (f.High - f.Low) / 2; half > 0 {
		s += " ± " + fleet.Seconds.Format(half)
	}
	return s
}

// chart draws the run, a row for each stretch of it.
func chart(w io.Writer, v View, f *foresee.Forecast, objective float64) {
	each := max((len(f.Moments)+chartRows-1)/chartRows, 1)
	most := 0.0
	for _, m := range f.Moments {
		most = max(most, m.Rate)
	}
	layout := "15:04"
	if time.Duration(f.Duration) > 20*time.Hour {
		layout = "Mon 02 Jan 15:04"
	}
	fmt.Fprintln(w, v.bold(fmt.Sprintf("%-*s  %-28s  %-28s  %s", len(layout), "time", "load", "p95 (worst)", "workers")))
	for from := 0; from < len(f.Moments); from += each {
		part := f.Moments[from:min(from+each, len(f.Moments))]
		rate, size, p95, failed := 0.0, 0.0, -1.0, 0
		for _, m := range part {
			rate += m.Rate / float64(len(part))
			size += m.Size / float64(len(part))
			p95 = max(p95, m.P95)
			failed += m.Failed
		}
		shown := fmt.Sprintf("%7s %s", "-", bar(0))
		if p95 >= 0 {
			shown = fmt.Sprintf("%7s %s", latency(p95), bar(p95/objective/2)) // the objective stands at half of the bar
			if p95 > objective {
				shown = v.Bad(shown)
			}
		}
		lost := ""
		if failed > 0 {
			lost = v.Bad(fmt.Sprintf(" %d failed", failed))
		}
		fmt.Fprintf(w, "%s  %5.0f/s %s  %s  %4.1f %s%s\n", part[0].Time.In(v.Zone).Format(layout), rate, bar(rate/math.Max(most, 1e-9)), shown, size, v.good(dots(size)), lost)
	}
}

// dots draws a mean size.
func dots(n float64) string {
	s := ""
	for i := range int(math.Ceil(n - 0.05)) {
		if n-float64(i) >= 0.75 {
			s += "●"
		} else {
			s += "○"
		}
	}
	return s
}
