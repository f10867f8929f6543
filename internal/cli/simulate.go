package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"tidemark/internal/app"
	"tidemark/internal/config"
	"tidemark/internal/foresee"
	"tidemark/internal/foresee/backtest"
	"tidemark/internal/foresee/load"
	"tidemark/internal/foresee/peer"
	"tidemark/internal/foresee/sim"
	"tidemark/internal/show/foresight"
	"tidemark/internal/show/text"
)

// simulation is what `tidemark simulate` is asked.
type simulation struct {
	fleet     string
	policies  []string
	peers     []string
	load      string
	since     string // of the journal
	until     string
	peak      float64
	days      float64
	step      time.Duration
	logFormat string
	html      string
	start     string
	work      foresee.Work
	site      string
	// serviceGiven: it is not taken from the load.
	serviceGiven bool
	objective    time.Duration
	quantile     float64
	seeds        int
	faults       sim.Faults
	faultTexts   []string
	level        sim.Level
	decisions    bool
}

func (c *command) simulateCommand() *cobra.Command {
	o := simulation{}
	cmd := c.jsonFlag(&cobra.Command{
		Use: "simulate", Short: "Show what a policy would do under a load, before it is switched on", Args: cobra.NoArgs,
		Long: `Show what a fleet's policy would do under a load: a virtual fleet, request by request, driven by the very code that
decides in the daemon. Nothing real is touched. What takes long, such as years, is computed by rates instead (--level).

Loads: ` + shapes() + `
or a file: a CSV trace with lines of time,rate (requests/s) or time,requests, or nginx's access log, plain or gzip, whose
requests are played one by one as they came and with the times that they took; or journal: the load that the daemon
recorded of the fleet since --since. Signals that the simulator does not know (memory,
pools, disks ...) are listed, and ask for nothing. With --work, requests are of several routes, wait in a queue that has limits
and priorities, and share a database that slows down under load (docs/simulate.md). With --policy, other configurations run beside
the first one on the same arrivals.`,
		Example: "  tidemark simulate -c tidemark.yaml --load daily --peak 60 --days 7\n  tidemark simulate -c tidemark.yaml --load trace.csv --service 80ms --cv 1.5 --seeds 8\n  tidemark simulate -c tidemark.yaml --load /var/log/nginx/dfr.access.log.1.gz --html report.html\n  tidemark simulate -c now.yaml --policy tried.yaml --load registration-drive --peak 60 --decisions\n  tidemark simulate -c tidemark.yaml --load bursts --seeds 8 --peer hpa --peer steps --peer fixed:8 --peer clairvoyant\n  tidemark simulate -c tidemark.yaml --load journal --since 14d\n  tidemark simulate -c tidemark.yaml --load daily --days 365 --json\n  tidemark simulate -c tidemark.yaml --work examples/work/registry.yaml --load concurrent-sync --peak 60\n  tidemark simulate -c tidemark.yaml --load daily --fault lost-signals=1,at=9h,for=20m",
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.serviceGiven = cmd.Flags().Changed("service") || cmd.Flags().Changed("cv")
			if err := readWork(cmd, &o.work, o.site); err != nil {
				return err
			}
			forecasts, zone, err := c.simulate(cmd.Context(), o)
			if err != nil {
				return err
			}
			if o.html != "" {
				if err := writeFile(o.html, foresight.Forecasts(c.view(zone), forecasts, o.objective, o.quantile).Write); err != nil {
					return err
				}
			}
			if c.json {
				return c.writeJSON(forecasts)
			}
			text.Forecasts(c.out, c.view(zone), forecasts, o.objective, o.decisions)
			return nil
		},
	})
	f := cmd.Flags()
	c.loadFlags(f, &o)
	siteFlag(f, &o.site)
	f.StringArrayVar(&o.policies, "policy", nil, "another configuration `file` to compare (may be repeated)")
	f.StringArrayVar(&o.peers, "peer", nil, "another autoscaler to compare, as `NAME[:SETTING]` (may be repeated): "+strings.Join(peer.Names(), ", "))
	f.StringVar(&o.load, "load", "daily", "a load's `name`, a file, or journal: what the fleet had, by its own records")
	f.IntVar(&o.seeds, "seeds", 1, "runs with other arrivals; more than one gives confidence intervals")
	f.StringArrayVar(&o.faultTexts, "fault", nil, "something that goes wrong, as `KIND=VALUE[,at=TIME][,for=TIME]` (may be repeated): "+strings.Join(sim.FaultNames(), ", "))
	f.BoolVar(&o.decisions, "decisions", false, "list each change of size with its reason")
	return cmd
}

// loadFlags say which load is played on which fleet, and what it is judged by.
func (c *command) loadFlags(f *pflag.FlagSet, o *simulation) {
	f.StringVar(&o.fleet, "fleet", "", "the fleet's `name`, when there are several")
	f.Float64Var(&o.peak, "peak", 0, "peak of a named load, or of a file's 99.9th percentile, in `requests/s` (default: 60, or as in the file)")
	f.Float64Var(&o.days, "days", 0, "`days` to play a named load (default: its own length)")
	f.StringVar(&o.logFormat, "log-format", "", "an access log's `format`: tidemark, combined, or as in nginx's configuration (default: as its first line)")
	f.StringVar(&o.html, "html", "", "write a report that stands alone to this `file`")
	f.DurationVar(&o.step, "step", 0, "length of a file's intervals (default: from its first two lines)")
	f.StringVar(&o.start, "start", "", "`date` on which a named load starts, in the instance's zone (default: a Monday)")
	f.StringVar(&o.since, "since", "7d", "from when on the journal is taken: a `time` as in backtest")
	f.StringVar(&o.until, "until", "", "up to which `time` the journal is taken")
	workFlags(f, &o.work)
	f.DurationVar(&o.objective, "objective", 500*time.Millisecond, "response time that is judged against")
	f.Float64Var(&o.quantile, "quantile", 0.95, "quantile of it")
	f.TextVar(&o.level, "level", sim.Auto, "`level` of detail: request (one by one, exact), fluid (by rates, for years) or auto (request, unless that takes long)")
}

// check says what is wrong with the flags' figures.
func (o *simulation) check() error {
	switch {
	case o.seeds < 1 || o.seeds > 1000:
		return fmt.Errorf("--seeds %d: must be from 1 to 1000", o.seeds)
	case o.quantile < 0.5 || o.quantile > 0.999:
		return fmt.Errorf("--quantile %g: must be from 0.5 to 0.999", o.quantile)
	case !(o.days >= 0 && o.days <= 366*10):
		return fmt.Errorf("--days %g: must be up to ten years", o.days)
	case o.objective <= 0:
		return fmt.Errorf("--objective %s: must be above 0", o.objective)
	}
	return nil
}

// target is what is judged by.
func (o *simulation) target() sim.Objective {
	t := sim.DefaultObjective()
	t.Limit, t.Quantile = o.objective, o.quantile
	return t
}

// workFlags are what a request asks of a worker.
func workFlags(f *pflag.FlagSet, w *foresee.Work) {
	f.DurationVar(&w.Service, "service", 100*time.Millisecond, "mean time that a worker takes for a request, without the wait")
	f.Float64Var(&w.CV, "cv", 1, "coefficient of variation of the service time: 0 all alike, 1 usual, 2 a few take long")
	f.Float64Var(&w.CPU, "cpu", 1, "share of the service time, without the database's part, in which the worker computes, 0 to 1")
	f.DurationVar(&w.Boot, "boot", 2*time.Second, "from the order until a new worker serves")
}

// siteFlag is a description of what stands around the workers.
func siteFlag(f *pflag.FlagSet, site *string) {
	f.StringVar(site, "work", "", "YAML `file` that describes routes, the balancer's queue and the database, in place of --service and --cv")
}

// readWork reads the file of --work.
func readWork(cmd *cobra.Command, w *foresee.Work, site string) (err error) {
	switch {
	case site == "":
		return nil
	case cmd.Flags().Changed("service") || cmd.Flags().Changed("cv"):
		return fmt.Errorf("--service and --cv are given, and %s says them for each route: leave them out", site)
	}
	w.Site, err = foresee.ReadSite(site)
	return err
}

func shapes() string {
	var out []string
	for _, s := range load.Shapes {
		out = append(out, fmt.Sprintf("\n  %-20s %s", s.Name, s.About))
	}
	return strings.Join(out, "")
}

func (c *command) simulate(ctx context.Context, o simulation) (out []*foresee.Forecast, zone string, err error) {
	for _, text := range o.faultTexts {
		fault, err := sim.ParseFault(text)
		if err != nil {
			return nil, "", fmt.Errorf("--fault: %w", err)
		}
		o.faults = append(o.faults, fault)
	}
	if err := o.check(); err != nil {
		return nil, "", err
	}
	var series *load.Series
	var first foresee.Study
	for i, path := range append([]string{c.configPath()}, o.policies...) {
		cfg, err := checked(path)
		if err != nil {
			return nil, "", err
		}
		f, err := foresee.FleetNamed(cfg, o.fleet)
		if err != nil {
			return nil, "", err
		}
		if i == 0 {
			zone = cfg.Instance.TimeZone
			if series, err = c.series(ctx, &o, cfg); err != nil {
				return nil, "", err
			}
		}
		study := foresee.Study{Name: filepath.Base(path), Fleet: f, Tick: cfg.Tick, Load: series, Work: o.work, Objective: o.target(), Faults: o.faults, Level: o.level, Seeds: o.seeds}
		if c.watched() && o.seeds > 1 {
			study.Progress = func(done, of int) { fmt.Fprintf(c.err, "\r%d of %d runs ", done, of) }
		}
		forecast, err := study.Run()
		if err != nil {
			return nil, "", fmt.Errorf("%s: %w", path, err)
		}
		out = append(out, forecast)
		if i == 0 {
			first = study
		}
	}
	for _, name := range o.peers {
		first.Name = name
		forecast, err := first.Against(name)
		if err != nil {
			return nil, "", fmt.Errorf("--peer: %w", err)
		}
		out = append(out, forecast)
	}
	return out, zone, nil
}

// series is the load that is asked for.
func (c *command) series(ctx context.Context, o *simulation, cfg *config.Config) (*load.Series, error) {
	if o.load == "journal" {
		s, err := c.history(ctx, o, cfg)
		if err == nil && o.peak > 0 && s.Peak(0.001) > 0 {
			s = s.Scaled(o.peak / s.Peak(0.001))
		}
		return s, err
	}
	zone := cfg.Instance.Zone
	if strings.ContainsAny(o.load, "./") {
		l, err := load.Open(o.load, load.Options{Step: o.step, LogFormat: o.logFormat, Progress: c.lines(o.load)})
		if err != nil {
			return nil, err
		}
		for _, n := range l.Notes {
			fmt.Fprintln(c.err, "tidemark: "+o.load+": "+n)
		}
		s := &l.Series
		if o.peak > 0 && s.Peak(0.001) > 0 {
			s = s.Scaled(o.peak / s.Peak(0.001))
		}
		switch {
		case o.serviceGiven || o.work.Site != nil:
			s = s.Scaled(1) // by chance, with the times that are given
		case l.Mean > 0:
			o.work.Quantile, o.work.Service = l.Service.Quantile, time.Duration(l.Mean*float64(time.Second))
		}
		return s, nil
	}
	start := time.Date(2027, time.March, 1, 0, 0, 0, 0, zone) // a Monday
	if o.start != "" {
		var err error
		if start, err = time.ParseInLocation(time.DateOnly, o.start, zone); err != nil {
			return nil, fmt.Errorf("--start %q: write a date such as 2027-03-01", o.start)
		}
	}
	if o.peak == 0 {
		o.peak = 60
	}
	if o.peak < 0 {
		return nil, fmt.Errorf("--peak %g: must be above 0", o.peak)
	}
	return load.Make(o.load, start, time.Duration(o.days*float64(24*time.Hour)), o.peak)
}

// history is the load that a fleet had, by its journal.
func (c *command) history(ctx context.Context, o *simulation, cfg *config.Config) (*load.Series, error) {
	f, err := foresee.FleetNamed(cfg, o.fleet)
	if err != nil {
		return nil, err
	}
	v := c.view(cfg.Instance.TimeZone)
	since, err := moment(o.since, v)
	if err != nil {
		return nil, err
	}
	until, err := moment(o.until, v)
	if err != nil {
		return nil, err
	}
	journal, err := app.OpenHistory(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer func() { _ = journal.Close() }() // it was only read
	return c.rate(ctx, journal, f, since, until)
}

// rate is the load in a journal, and tells of its gaps.
func (c *command) rate(ctx context.Context, journal backtest.Histories, f *config.Fleet, since, until time.Time) (*load.Series, error) {
	s, notes, err := backtest.Rate(ctx, journal, f, since, until)
	switch {
	case err != nil:
		return nil, err
	case s == nil:
		return nil, fmt.Errorf("%s has no signal of the arrival rate, such as {access_log: {field: rate}}: there is no load in its journal", f.Name)
	}
	for _, n := range notes {
		fmt.Fprintln(c.err, "tidemark: "+n)
	}
	return s, nil
}

// watched reports whether somebody sees what is written to standard error as it comes.
func (c *command) watched() bool {
	f, ok := c.err.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// lines tells how far a log is read; nil when nobody would see it.
func (c *command) lines(name string) func(uint64) {
	if !c.watched() {
		return nil
	}
	return func(n uint64) { fmt.Fprintf(c.err, "\r%s: %.1f million lines ", name, float64(n)/1e6) }
}
