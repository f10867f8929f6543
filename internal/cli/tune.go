package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"tidemark/internal/app"
	"tidemark/internal/config"
	"tidemark/internal/foresee/tune"
	"tidemark/internal/show/foresight"
	"tidemark/internal/show/text"
)

func (c *command) tuneCommand() *cobra.Command {
	o := simulation{}
	st := tune.Study{}
	var loads []string
	var seed uint32
	cmd := c.jsonFlag(&cobra.Command{
		Use: "tune", Short: "Look for better settings of a policy, and recommend a change of its file", Args: cobra.NoArgs,
		Long: `Look for better settings of a fleet's policy: the thresholds, periods, cooldowns, steps and objectives that stand in its file
are changed, and each candidate is played in the simulator under the same loads and the same chance. The days of the loads
are cross-validated: a fourth of them at a time is held out, and what is found without them must be better there too, by more
than the four differ, or nothing is recommended.

What is recommended is a diff of the file, and is never applied by itself. The budget is counted in simulated requests, so
that the same seed recommends the same on any machine. Ctrl-C shows the best so far.`,
		Example: "  tidemark tune -c tidemark.yaml --load daily --peak 60\n  tidemark tune -c tidemark.yaml --load /var/log/nginx/dfr.access.log.1.gz --boot 5s --html tune.html\n  tidemark tune -c tidemark.yaml --load daily --load bursts --days 14 --budget 8e9 --json\n  tidemark tune -c tidemark.yaml --json | jq -r .diff | patch tidemark.yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.serviceGiven = cmd.Flags().Changed("service") || cmd.Flags().Changed("cv")
			v, r, err := c.tune(cmd.Context(), o, loads, st, uint64(seed))
			if err != nil {
				return err
			}
			if o.html != "" {
				if err := writeFile(o.html, foresight.Tuned(v, r, o.objective).Write); err != nil {
					return err
				}
			}
			if err := c.show(r, func() { text.Tuned(c.out, v, r, o.objective) }); err != nil {
				return err
			}
			if r.Interrupted {
				return errors.New("stopped before the budget was used: nothing was validated")
			}
			return nil
		},
	})
	f := cmd.Flags()
	c.loadFlags(f, &o)
	f.StringArrayVar(&loads, "load", []string{"daily"}, "a load's `name`, or a file, as simulate takes it (may be repeated)")
	f.Float64Var(&st.Budget, "budget", 2e9, "how much to simulate, in `requests`")
	f.Float64Var(&st.Allowed, "allow", 0.1, "share of the minutes that may miss the objective, in `percent`")
	f.IntVar(&o.seeds, "seeds", 4, "runs of each day with other arrivals")
	f.Uint32Var(&seed, "seed", 1, "of the search and of the arrivals: the same `number`, the same recommendation")
	return cmd
}

func (c *command) tune(ctx context.Context, o simulation, loads []string, st tune.Study, seed uint64) (v text.View, r *tune.Result, err error) {
	if err := o.check(); err != nil {
		return v, nil, err
	}
	if !(st.Allowed >= 0 && st.Allowed < 100) {
		return v, nil, fmt.Errorf("--allow %g: must be a share of the minutes, from 0 to less than 100 percent", st.Allowed)
	}
	cfg, err := checked(c.configPath())
	if err != nil {
		return v, nil, err
	}
	v = c.view(cfg.Instance.TimeZone)
	data, err := os.ReadFile(c.configPath())
	if err != nil {
		return v, nil, fmt.Errorf("read the configuration: %w", err)
	}
	st.Name, st.Data, st.Fleet, st.Objective, st.Level, st.Seeds, st.Seed = filepath.Base(c.configPath()), data, o.fleet, o.target(), o.level, o.seeds, seed
	st.Parse = func(data []byte) (*config.Config, config.Problems) {
		return config.Parse(c.configPath(), data, app.Catalog(), os.LookupEnv)
	}
	for _, name := range loads {
		one := o
		one.load = name
		series, err := c.series(ctx, &one, cfg)
		if err != nil {
			return v, nil, err
		}
		st.Loads = append(st.Loads, tune.Load{Series: series, Work: one.work})
	}
	if c.watched() {
		var last time.Time
		st.Progress = func(p tune.Progress) {
			if now := time.Now(); now.Sub(last) > 200*time.Millisecond {
				last = now
				fmt.Fprintf(c.err, "\r%3.0f %%, %d policies; best so far %.2f x the clairvoyant, %.2f %% of the minutes ", 100*p.Done, p.Tried, p.Best.Cost.Mean, p.Best.Violations.Mean)
			}
		}
		defer fmt.Fprintf(c.err, "\r%-90s\r", "")
	}
	if r, err = st.Run(ctx); err != nil {
		return v, r, err
	}
	if dir := cfg.ReportsDir(); exists(dir) {
		if err := tune.Save(dir, tune.Outcome{Made: v.Now, Result: r}); err != nil {
			fmt.Fprintln(c.err, err) // what was found is shown all the same
		}
	}
	return v, r, nil
}
