package text

import (
	"fmt"
	"io"
	"text/tabwriter"

	"tidemark/internal/foresee/plan"
)

// Plan writes a plan for people: the figures that it starts from last, as they are many.
func Plan(w io.Writer, v View, p *plan.Plan) {
	head := func(s string) { fmt.Fprintln(w, "\n"+v.bold(s)) }
	table := func(lines func(t io.Writer)) {
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		lines(t)
		_ = t.Flush() // w tells its own errors
	}
	fmt.Fprintf(w, "%s\n", v.bold(fmt.Sprintf("%s from %s: %.1f requests/s at the peak, %.1f on average, %g %% more in %g years", p.Name, p.Start.Format("2006-01-02"), p.Peak, p.Mean, p.Growth.Percent, p.Growth.Years)))
	if p.Unattainable {
		fmt.Fprintln(w, v.Bad("the service alone takes longer than the objective: no number of workers cures that"))
	}
	head("what the busiest time needs")
	table(func(t io.Writer) {
		fmt.Fprintln(t, "date\trequests/s\tworkers\tp95\tbusy\tinstances\tworkers' memory\tclient conns\tpool_size\tserver conns\tdatabase vCPU\tdatabase memory\tdisk")
		for _, n := range p.Needs {
			fmt.Fprintf(t, "%s\t%.1f\t%d\t%s\t%.0f %%\t%d\t%s\t%d\t%d\t%d\t%.2f\t%s\t%s\n", n.Date.Format("2006-01-02"), n.Rate, n.Workers, latency(n.P95), n.Utilisation, n.Instances,
				GiB(n.Memory), n.Clients, n.Pool, n.Connections, n.DBVCPUs, GiB(n.DBMemory), GiB(n.Disk))
		}
	})
	head("when it is outgrown, the first first")
	table(func(t io.Writer) {
		fmt.Fprintln(t, "resource\thave\tneeds now\tat the end\toutgrown\tat the earliest\tthen")
		for _, l := range p.Limits {
			fmt.Fprintf(t, "%s\t%.4g %s\t%.3g\t%.3g\t%s\t%s\t%s\n", l.Resource, l.Have, l.Unit, l.Needs, l.Ends, Day(l.Outgrown), Day(l.Earliest), l.Mend)
		}
	})
	head("right-sizing")
	if len(p.Sizing.Options) > 0 { // instances, not one machine
		table(func(t io.Writer) {
			fmt.Fprintln(t, "workers on an instance\taverage CPU\tof a fixed size\tat the peak\tinstances (mean, most)")
			for _, o := range p.Sizing.Options {
				mark := ""
				if o.PerInstance == p.Sizing.PerInstance {
					mark = " *"
				}
				fmt.Fprintf(t, "%d%s\t%.0f %%\t%.0f %%\t%.0f %%\t%.1f, %d\n", o.PerInstance, mark, o.Average, o.Fixed, o.Peak, o.Instances, o.Most)
			}
		})
	}
	fmt.Fprintf(w, "%s. All on one machine: %.0f vCPU.\n", p.Sizing.Text, p.Sizing.MachineVCPUs)
	if len(p.Reserve) > 0 {
		head("to reserve: an instance that runs more than the break-even share of the term")
		table(func(t io.Writer) {
			fmt.Fprintln(t, "term\tbreak-even\tinstances (low to high growth)\tsaves a month\tthe minimum's\tdatabase\tcommitted\tupfront")
			for _, r := range p.Reserve {
				fmt.Fprintf(t, "%s, %g %% off\t%.0f %%\t%d (%d to %d)\t%.2f\t%.2f\t%.2f\t%.0f %s\t%.0f\n", r.Name, r.Discount, r.BreakEven, r.Instances, r.Low, r.High, r.Saves, r.Baseline, r.Database, r.Committed, p.Currency, r.Upfront)
			}
		})
	}
	head("off-peak schedule")
	fmt.Fprintf(w, "%.0f hours a week with at most %d workers (%d needed): %s\n", p.OffPeak.Hours, p.OffPeak.Ceiling, p.OffPeak.Needed, p.OffPeak.Sentence)
	head("a month's savings: capacity freed, and cash")
	table(func(t io.Writer) {
		fmt.Fprintln(t, "what\tinstance- or worker-hours\tvCPU-hours\tGB-hours\tcash")
		for _, s := range p.Savings {
			fmt.Fprintf(t, "%s\t%.0f\t%.0f\t%.0f\t%.2f %s\n", s.What, s.InstanceHours, s.VCPUHours, s.GBHours, s.Cash, p.Currency)
		}
	})
	head("cost of a month, " + p.Currency)
	table(func(t io.Writer) {
		fmt.Fprintln(t, "month\tinstances or workers\texpected\trange\twith the best reservation")
		for i, c := range p.Costs {
			if i%6 == 0 || i == len(p.Costs)-1 {
				fmt.Fprintf(t, "%s\t%.1f\t%.0f\t%.0f to %.0f\t%.0f\n", c.Month, c.Instances, c.Expected, c.Low, c.High, c.Reserved)
			}
		}
	})
	if b := p.Budget; b != nil {
		fmt.Fprintf(w, "the budget of %.0f %s is exceeded: %s expected, %s at the earliest\n", b.Monthly, p.Currency, Day(b.Expected), Day(b.Earliest))
	}
	head("what it starts from")
	table(func(t io.Writer) {
		for _, f := range p.Figures {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", f.Name, f.Value, f.Kind, f.Source)
		}
	})
}

// GiB writes bytes.
func GiB(n int64) string { return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30)) }

// Day writes a day that may not be foreseen.
func Day(d plan.Date) string {
	if d.IsZero() {
		return "not foreseen"
	}
	return d.Format("2006-01-02")
}
