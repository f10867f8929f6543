package cli

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tidemark/internal/app"
	"tidemark/internal/foresee"
	"tidemark/internal/foresee/backtest"
	"tidemark/internal/foresee/sim"
	"tidemark/internal/show/foresight"
	"tidemark/internal/show/text"
)

// replay is what `tidemark backtest` is asked.
type replay struct {
	fleet        string
	policies     []string
	since, until string
	html         string
	agreed       bool
	simulate     bool
	work         foresee.Work
	site         string
}

// backtests is what it answers.
type backtests struct {
	Replays   []*backtest.Result  `json:"replays"`
	Simulated []*foresee.Forecast `json:"simulated,omitempty"`
}

func (c *command) backtestCommand() *cobra.Command {
	o := replay{}
	cmd := c.jsonFlag(&cobra.Command{
		Use: "backtest", Short: "Show where a policy would have decided otherwise than was decided", Args: cobra.NoArgs,
		Long: `Replay what the journal has of a fleet through the code that decides, with the policy of the configuration or with others,
and show where decisions would differ from what happened.

Readings and sizes are those of the journal, so the replay is exact only until the first difference: a fleet of another
size would have read otherwise. With --simulate, the load that the journal has goes to the simulator, which says what
would have followed. Raw readings are kept for a week unless retention.raw says otherwise.`,
		Example: "  tidemark backtest -c tidemark.yaml --since 30d\n  tidemark backtest -c tidemark.yaml --policy tried.yaml --since 7d --html backtest.html\n  tidemark backtest -c tidemark.yaml --policy tried.yaml --since 24h --simulate --service 90ms --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := readWork(cmd, &o.work, o.site); err != nil {
				return err
			}
			v, out, err := c.backtest(cmd.Context(), o)
			if err != nil {
				return err
			}
			if o.html != "" {
				page := foresight.Backtests(v, out.Replays)
				if len(out.Simulated) > 0 {
					page.Sections = append(page.Sections, foresight.Forecasts(v, out.Simulated, sim.DefaultObjective().Limit, sim.DefaultObjective().Quantile).Sections...)
				}
				if err := writeFile(o.html, page.Write); err != nil {
					return err
				}
			}
			return c.show(out, func() {
				text.Backtests(c.out, v, out.Replays, o.agreed)
				if len(out.Simulated) > 0 {
					fmt.Fprintln(c.out, "\nThe load of that time, simulated:")
					text.Forecasts(c.out, v, out.Simulated, sim.DefaultObjective().Limit, false)
				}
			})
		},
	})
	f := cmd.Flags()
	f.StringVar(&o.fleet, "fleet", "", "the fleet's `name`, when there are several")
	f.StringArrayVar(&o.policies, "policy", nil, "configuration `file` to replay in place of the one in force (may be repeated)")
	f.StringVar(&o.since, "since", "7d", "from this `time` on: 30d or 2h (ago), 15:04, 2006-01-02 15:04, RFC 3339")
	f.StringVar(&o.until, "until", "", "up to this `time`")
	f.StringVar(&o.html, "html", "", "write a report that stands alone to this `file`")
	f.BoolVar(&o.agreed, "all", false, "list changes of size that agree too")
	f.BoolVar(&o.simulate, "simulate", false, "also play the journal's load in the simulator, with --service, --cv, --cpu and --boot, or --work")
	workFlags(f, &o.work)
	siteFlag(f, &o.site)
	return cmd
}

func (c *command) backtest(ctx context.Context, o replay) (v text.View, out backtests, err error) {
	now, err := checked(c.configPath())
	if err != nil {
		return v, out, err
	}
	v = c.view(now.Instance.TimeZone)
	since, err := moment(o.since, v)
	if err != nil {
		return v, out, err
	}
	until, err := moment(o.until, v)
	if err != nil {
		return v, out, err
	}
	f, err := foresee.FleetNamed(now, o.fleet)
	if err != nil {
		return v, out, err
	}
	journal, err := app.OpenHistory(ctx, now)
	if err != nil {
		return v, out, err
	}
	defer func() { _ = journal.Close() }() // it was only read
	paths := o.policies
	if len(paths) == 0 {
		paths = []string{c.configPath()}
	}
	for _, path := range paths {
		cfg, err := checked(path)
		if err != nil {
			return v, out, err
		}
		tried, err := foresee.FleetNamed(cfg, f.Name)
		if err != nil {
			return v, out, err
		}
		r := backtest.Replay{Name: filepath.Base(path), Policy: &tried.Policy, Tick: now.Tick, Since: since, Until: until}
		if c.watched() {
			r.Progress = func(at time.Time) { fmt.Fprintf(c.err, "\r%s: %s ", r.Name, at.In(v.Zone).Format("2006-01-02 15:04")) }
		}
		result, err := r.Run(ctx, journal)
		if err != nil {
			return v, out, fmt.Errorf("fleet %s since %s: %w", f.Name, since.In(v.Zone).Format("2006-01-02 15:04"), err)
		}
		out.Replays = append(out.Replays, result)
		if !o.simulate {
			continue
		}
		series, err := c.rate(ctx, journal, tried, since, until)
		if err != nil {
			return v, out, fmt.Errorf("--simulate: %w", err)
		}
		forecast, err := foresee.Study{Name: r.Name, Fleet: tried, Tick: cfg.Tick, Load: series, Work: o.work, Objective: sim.DefaultObjective(), Seeds: 1}.Run()
		if err != nil {
			return v, out, err
		}
		out.Simulated = append(out.Simulated, forecast)
	}
	return v, out, nil
}

// days writes 30d as 720h, which is what time.ParseDuration knows.
func days(s string) string {
	if n, ok := strings.CutSuffix(s, "d"); ok {
		var d float64
		if _, err := fmt.Sscanf(n, "%g", &d); err == nil && d >= 0 && d < 36500 {
			return (time.Duration(d * 24 * float64(time.Hour))).String()
		}
	}
	return s
}
