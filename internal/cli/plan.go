package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"tidemark/internal/app"
	"tidemark/internal/config"
	"tidemark/internal/decide/queueing"
	"tidemark/internal/foresee"
	"tidemark/internal/foresee/plan"
	"tidemark/internal/record/sqlite"
	"tidemark/internal/show/foresight"
	"tidemark/internal/show/text"
)

func (c *command) planCommand() *cobra.Command {
	in := plan.NewInput()
	var file, name, journal, html string
	var days float64
	given := map[string]string{} // by flag: its path in a plan's file
	cmd := c.jsonFlag(&cobra.Command{
		Use: "plan", Short: "Reckon workers, memory, connections and money for so many users and so much growth", Args: cobra.NoArgs,
		Long: `Reckon what a registry will need: workers for the service level, memory, connections, when the machine is outgrown,
the right size of instances, what to reserve, what a schedule saves, and the cost of each month. It is calculation alone.
Each figure that it starts from is listed as measured, given, required or assumed, with its source. With a configuration
(-c), service times, CPU, memory and the peak are taken from its journal where they were measured.`,
		Example: "  tidemark plan\n  tidemark plan --file examples/plan/tonga.yaml --json\n  tidemark plan -c tidemark.yaml --devices 120 --growth 150 --years 3 --html plan.html",
		RunE: func(cmd *cobra.Command, _ []string) error {
			flags := in
			in = plan.NewInput()
			sources := map[string]string{}
			if file != "" {
				data, err := os.ReadFile(file)
				if err != nil {
					return fmt.Errorf("read the plan: %w", err)
				}
				lines, problems := config.Decode("plan", file, data, os.LookupEnv, &in)
				if problems.Failed() {
					return problems
				}
				for path, line := range lines {
					sources[path] = fmt.Sprintf("%s:%d", file, line)
				}
			}
			for flag, path := range given {
				if cmd.Flags().Changed(flag) {
					in.Take(path, &flags)
					sources[path] = "--" + flag
				}
			}
			service, measured, err := c.measured(cmd.Context(), &in, sources, name, journal, days)
			if err != nil {
				return err
			}
			p, err := plan.Make(&in, service, in.Figures(sources, measured))
			if err != nil {
				return err
			}
			v := c.view(in.TimeZone)
			if err := writeFile(html, foresight.Plan(v, p).Write); err != nil {
				return err
			}
			return c.show(p, func() { text.Plan(c.out, v, p) })
		},
	})
	f := cmd.Flags()
	f.StringVarP(&file, "file", "f", "", "a plan's `file` (YAML)")
	f.StringVar(&name, "fleet", "", "the configuration's fleet, when there are several: its `name`")
	f.StringVar(&journal, "journal", "", "the journal's `file` (default: the configuration's)")
	f.StringVar(&html, "html", "", "write a report that stands alone to this `file`")
	f.Float64Var(&days, "days", 28, "`days` of the journal to look at")
	flag := func(name, path string) string { given[name] = path; return name }
	f.IntVar(&in.Load.Administrators, flag("administrators", "load.administrators"), in.Load.Administrators, "administrators at once")
	f.IntVar(&in.Load.Visitors, flag("visitors", "load.visitors"), in.Load.Visitors, "visitors of the portal at once")
	f.IntVar(&in.Load.Devices, flag("devices", "load.devices"), in.Load.Devices, "devices that synchronise at once")
	f.IntVar(&in.Load.Farmers, flag("farmers", "load.farmers"), in.Load.Farmers, "farmers on record")
	f.Float64Var(&in.Load.Peak, flag("peak", "load.peak"), 0, "the peak in `requests/s` (default: from the users)")
	f.Float64Var(&in.Growth.Percent, flag("growth", "growth.percent"), in.Growth.Percent, "growth in `percent` over the growth's years (5)")
	f.IntVar(&in.Years, flag("years", "years"), in.Years, "years to look ahead")
	f.DurationVar(&in.Request.Service, flag("service", "request.service_time"), in.Request.Service, "mean service time of a request")
	f.Float64Var(&in.Request.CV, flag("cv", "request.cv"), in.Request.CV, "coefficient of variation of the service time")
	f.Float64Var(&in.Prices.Budget, flag("budget", "prices.budget"), 0, "the month's `budget`, to be told when it is exceeded")
	return cmd
}

// measured takes from the journal of a configuration, when one is named, what is not given.
func (c *command) measured(ctx context.Context, in *plan.Input, given map[string]string, name, journal string, days float64) (*queueing.Service, map[string]string, error) {
	if c.config == "" {
		if journal != "" {
			return nil, nil, errors.New("--journal needs the configuration that it belongs to: -c FILE")
		}
		return nil, nil, nil
	}
	cfg, err := checked(c.configPath())
	if err != nil {
		return nil, nil, err
	}
	f, err := foresee.FleetNamed(cfg, name)
	if err != nil {
		return nil, nil, err
	}
	in.Configured(cfg, f, given)
	if file := app.JournalFile(cfg); journal == "" && !cfg.Journal.Shared() && !exists(file) {
		fmt.Fprintln(c.err, "tidemark: there is no journal at "+file+": nothing is measured")
		return nil, nil, nil
	}
	r, err := history(ctx, cfg, journal)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = r.Close() }() // it was only read
	return in.Measure(ctx, r, f, given, time.Now().Add(-time.Duration(days*float64(24*time.Hour))))
}

// history opens the journal that a file names, or else the configuration.
func history(ctx context.Context, cfg *config.Config, file string) (app.History, error) {
	if file != "" {
		return sqlite.OpenReadOnly(ctx, file)
	}
	return app.OpenHistory(ctx, cfg)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
