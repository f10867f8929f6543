package cli

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"tidemark/internal/control"
	"tidemark/internal/prove/external"
	"tidemark/internal/prove/netem"
	"tidemark/internal/prove/outcome"
	"tidemark/internal/prove/rehearsal"
	"tidemark/internal/prove/scenario"
	"tidemark/internal/prove/verdict"
	"tidemark/internal/show/report"
	"tidemark/internal/show/text"
	"tidemark/internal/show/web"
)

// loadtest is what `tidemark loadtest` is asked.
type loadtest struct {
	list, dry, yes bool
	show           string
	target         string
	options        scenario.Options
	runs           int
	seed           uint64
	out            string
	caFile         string
	netem          string
	environment    string
	digest         string
	zone           string
	measuredBy     measuredBy
	compare        string
	html, junit    string
}

func (c *command) loadtestCommand() *cobra.Command {
	o := loadtest{}
	cmd := c.jsonFlag(&cobra.Command{
		Use: "loadtest [NAME|FILE --target URL]", Short: "Rehearse a peak: play a scenario's load, and say whether service and scaling held", Args: cobra.MaximumNArgs(1),
		Long: `Play a scenario's load against a service, and judge what came of it: response times as users felt them, and how the fleet was scaled
meanwhile, as the running daemon tells. A dry run with one user comes first; what was created is removed at the end.

With --k6, --k6-json or --jtl the measurements of k6 or JMeter are judged instead, and with --outcome those of earlier runs. --compare holds the figures
to those of earlier runs: a baseline.

Only this machine's loopback addresses are loaded, and the hosts that the scenario allows. Ctrl-C ends a run early; what was seen until
then is kept, marked as partial.

Exit codes: 0 passed; 1 failed; 2 undecided: play it longer or more often; 3 invalid, or it could not be run.`,
		Example: `  tidemark loadtest --list
  tidemark loadtest peak-farmer-registration-drive --target http://127.0.0.1:8400 -c tidemark.yaml --out rehearsal
  tidemark loadtest concurrent-mobile-sync --target http://127.0.0.1:8400 --compress 60
  tidemark loadtest peak-farmer-registration-drive --target http://127.0.0.1:8400 --runs 5 --compare last-year --html report.html --junit report.xml
  sudo tidemark loadtest ./mine.yaml --target http://192.0.2.10:8400 --netem eth0
  tidemark loadtest --jtl results.jtl --html report.html
  tidemark loadtest --show baseline > mine.yaml
  tidemark loadtest ./mine.yaml --target https://staging.moa.example --dry-run`,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case o.list:
				return c.listScenarios()
			case o.show != "":
				text, err := scenario.Text(o.show)
				fmt.Fprint(c.out, text)
				return err
			case o.measuredBy.any() && len(args) > 0:
				return notRun(errors.New("either a scenario is played, or what was measured elsewhere is judged"))
			case o.measuredBy.any():
				runs, err := o.measuredBy.runs(cmd.Context(), c.err)
				if err != nil {
					return notRun(err)
				}
				return c.judge(runs, o)
			case len(args) == 0:
				return notRun(errors.New("name a scenario, or --list them"))
			}
			return c.loadtest(cmd.Context(), args[0], o)
		},
	})
	f := cmd.Flags()
	f.BoolVar(&o.list, "list", false, "list the scenarios that are built in")
	f.StringVar(&o.show, "show", "", "print a built-in scenario, or the library registry or odoo, to start one of your own from")
	f.StringVar(&o.target, "target", "", "base `URL` of the service")
	f.BoolVar(&o.dry, "dry-run", false, "play each journey once, with one user")
	f.BoolVar(&o.yes, "yes", false, "load it although the configuration says environment: production")
	f.Float64Var(&o.options.Compress, "compress", 1, "play it so many `times` faster: the same rates, for a shorter time")
	f.StringVar(&o.options.Library, "library", "", "another `library` of journeys than the scenario's: registry or odoo")
	f.StringToStringVar(&o.options.Vars, "set", nil, "a var of the scenario, as `name=value`")
	f.StringToStringVar(&o.options.Data, "data", nil, "a data file of the scenario, as `name=file.csv`")
	f.IntVar(&o.runs, "runs", 1, "how often it is played; 5 for a go-live")
	f.Uint64Var(&o.seed, "seed", 1, "of all that is drawn at random; each run adds one")
	f.StringVar(&o.out, "out", "", "a `folder` for the outcome of each run, as JSON")
	f.StringVar(&o.compare, "compare", "", "earlier runs to compare with: a `folder` of outcomes, or one outcome")
	f.StringVar(&o.html, "html", "", "write a report that stands alone to this `file`")
	f.StringVar(&o.junit, "junit", "", "write the verdict as JUnit XML to this `file`")
	o.measuredBy.flags(f)
	f.StringVar(&o.netem, "netem", "", "have the kernel delay and lose packets on this network `interface` as the scenario's network does; needs root and tc")
	f.StringVar(&o.caFile, "ca-file", "", "certificates (PEM) to trust beside the system's")
	return cmd
}

func (c *command) listScenarios() error {
	type line struct {
		Name  string `json:"name"`
		About string `json:"about"`
	}
	var all []line
	for _, name := range scenario.Builtin() {
		s, err := scenario.Open(name, scenario.Options{})
		if err != nil {
			return err
		}
		all = append(all, line{name, s.About})
	}
	if c.json {
		return c.writeJSON(all)
	}
	for _, l := range all {
		fmt.Fprintf(c.out, "%-32s %s\n", l.Name, l.About)
	}
	return nil
}

// told is what the daemon's API says, as a rehearsal asks for it.
type told struct{ *web.Client }

func (t told) Fleets(ctx context.Context) ([]*control.Status, error) {
	o, err := t.Status(ctx)
	return o.Fleets, err
}

func (c *command) loadtest(ctx context.Context, name string, o loadtest) error {
	plan, err := c.rehearse(ctx, name, &o)
	if err == nil && o.compare != "" {
		_, err = rehearsal.Load(o.compare) // better found missing now than after the load
	}
	if err != nil {
		return notRun(err)
	}
	if o.dry {
		run, err := rehearsal.DryRun(ctx, plan)
		if err != nil {
			return notRun(err)
		}
		if c.json {
			return c.writeJSON(run)
		}
		text.Outcome(c.out, run)
		return nil
	}
	var runs []*outcome.Run
	for n := range o.runs {
		if o.runs > 1 {
			plan.Note(fmt.Sprintf("run %d of %d", n+1, o.runs))
		}
		plan.Seed = o.seed + uint64(n)
		run, err := rehearsal.Play(ctx, plan)
		if run == nil {
			return notRun(err)
		}
		run.Environment, run.ConfigDigest = o.environment, o.digest
		runs = append(runs, run)
		c.keep(o.out, run)
		if err != nil {
			return notRun(err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return c.judge(runs, o)
}

// keep writes an outcome down. Where that is not possible, as on a full disk, the verdict is still given.
func (c *command) keep(dir string, run *outcome.Run) {
	if dir == "" {
		return
	}
	text, err := json.Marshal(run)
	if err == nil {
		var path string
		if path, err = rehearsal.Save(dir, run, text); err == nil {
			fmt.Fprintln(c.err, "tidemark: the outcome is in "+path)
			return
		}
	}
	run.Notes = append(run.Notes, "the outcome could not be kept: "+err.Error())
	fmt.Fprintln(c.err, "tidemark: "+err.Error())
}

// rehearse makes the plan of a run, and refuses what must not be loaded.
func (c *command) rehearse(ctx context.Context, name string, o *loadtest) (p rehearsal.Plan, err error) {
	if o.runs < 1 || o.runs > 50 {
		return p, fmt.Errorf("--runs %d: must be from 1 to 50", o.runs)
	}
	if o.target == "" {
		return p, errors.New("say what is to be loaded: --target http://127.0.0.1:8069")
	}
	for _, device := range netem.Left() {
		if device != o.netem { // there it is removed
			fmt.Fprintf(c.err, "tidemark: %s may still be slow: an earlier load test ended without removing its netem: tc qdisc del dev %s root\n", device, device)
		}
	}
	p = rehearsal.Plan{Seed: o.seed, Versions: map[string]string{"tidemark": Version()}, Netem: o.netem, Note: func(s string) { fmt.Fprintln(c.err, "tidemark: "+s) }}
	if p.Scenario, err = scenario.Open(name, o.options); err != nil {
		return p, err
	}
	if p.Target, err = url.Parse(o.target); err != nil {
		return p, fmt.Errorf("--target: %w", err)
	}
	if err := p.Scenario.Permit(p.Target); err != nil {
		return p, err
	}
	if o.caFile != "" {
		pem, err := os.ReadFile(o.caFile)
		if err != nil {
			return p, fmt.Errorf("--ca-file: %w", err)
		}
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(pem) {
			return p, fmt.Errorf("--ca-file %s holds no certificate", o.caFile)
		}
		p.TLS = &tls.Config{RootCAs: pool}
	}
	if err := c.asConfigured(o); err != nil {
		return p, err
	}
	if client, err := c.daemon(); err == nil {
		if now, err := client.Status(ctx); err == nil {
			p.Daemon = told{client}
			p.Versions["daemon"] = now.Version
			scenario := p.Scenario.Name
			p.Progress = func(g rehearsal.Progress) {
				ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
				defer cancel()
				_ = client.TellLoadTest(ctx, web.LoadTest{Scenario: scenario, Line: text.LoadProgress(g)}) // its pages go without it
			}
		} else if c.config != "" || c.socket != "" {
			fmt.Fprintln(c.err, "tidemark: nothing will be known of the scaling: "+err.Error())
		}
	}
	if f, ok := c.err.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		tell := p.Progress
		p.Progress = func(g rehearsal.Progress) {
			fmt.Fprint(c.err, "\r\033[K"+text.LoadProgress(g))
			if tell != nil {
				tell(g)
			}
		}
		say := p.Note
		p.Note = func(s string) {
			fmt.Fprint(c.err, "\r\033[K")
			say(s)
		}
	}
	return p, nil
}

// asConfigured reads what the configuration says of the environment: production is only loaded when somebody says so.
func (c *command) asConfigured(o *loadtest) error {
	text, err := os.ReadFile(c.configPath())
	if err != nil {
		if c.config == "" && errors.Is(err, os.ErrNotExist) {
			return nil // there is none
		}
		return fmt.Errorf("read the configuration: %w", err)
	}
	cfg, err := checked(c.configPath())
	if err != nil {
		return err
	}
	sum := sha256.Sum256(text)
	o.environment, o.digest, o.zone = cfg.Environment, hex.EncodeToString(sum[:]), cfg.Instance.TimeZone
	if cfg.Environment == "production" && !o.yes && !o.dry {
		return fmt.Errorf("%s says environment: production: a load test disturbs those who use it. Say --yes if it is meant", c.configPath())
	}
	return nil
}

// judge shows what the runs prove.
func (c *command) judge(runs []*outcome.Run, o loadtest) error {
	var baseline []*outcome.Run
	if o.compare != "" {
		var err error
		if baseline, err = rehearsal.Load(o.compare); err != nil {
			return notRun(err)
		}
	}
	v := verdict.Judge(runs, runs[0].Criteria, baseline)
	view := c.view(o.zone)
	if c.json {
		if err := c.writeJSON(judged{v, runs}); err != nil {
			return notRun(err)
		}
	} else {
		for _, run := range runs {
			text.Outcome(c.out, run)
		}
		text.Verdict(c.out, view, runs, v)
	}
	// The verdict is told before it is written down: a full disk does not take it away.
	err := errors.Join(
		writeFile(o.html, func(w io.Writer) error { return report.LoadTest(runs, v, view.Zone).Write(w) }),
		writeFile(o.junit, func(w io.Writer) error { return report.JUnit(w, runs, v) }))
	switch {
	case err != nil && v.Code() != 0:
		return coded{fmt.Errorf("the verdict is above; not all of it could be written down: %w", err), v.Code()}
	case err != nil:
		return notRun(fmt.Errorf("the verdict is above; not all of it could be written down: %w", err))
	case v.Code() != 0:
		return coded{errNo, v.Code()}
	}
	return nil
}

// judged is what --json prints.
type judged struct {
	Verdict *verdict.Verdict `json:"verdict"`
	Runs    []*outcome.Run   `json:"runs"`
}

// measuredBy is what other tools, or earlier runs, have measured.
type measuredBy struct {
	k6, k6JSON, jtl string
	k6Args          []string
	outcomes        string
	warmUp          time.Duration
}

func (m *measuredBy) flags(f *pflag.FlagSet) {
	f.StringVar(&m.k6, "k6", "", "run this k6 `script` with the k6 on the PATH, and judge what it measures")
	f.StringArrayVar(&m.k6Args, "k6-arg", nil, "a further `argument` of k6")
	f.StringVar(&m.k6JSON, "k6-json", "", "judge a `file` that k6 wrote with --out json, plain or gzip")
	f.StringVar(&m.jtl, "jtl", "", "judge a results `file` of JMeter, CSV or XML")
	f.StringVar(&m.outcomes, "outcome", "", "judge runs that were kept with --out: a `folder`, or one file")
	f.DurationVar(&m.warmUp, "warm-up", 0, "what k6 or JMeter measured at first and is not judged")
}

func (m *measuredBy) any() bool { return m.k6+m.k6JSON+m.jtl+m.outcomes != "" }

func (m *measuredBy) runs(ctx context.Context, stderr io.Writer) ([]*outcome.Run, error) {
	var run *outcome.Run
	var err error
	switch {
	case m.outcomes != "":
		return rehearsal.Load(m.outcomes)
	case m.k6 != "":
		run, err = external.K6{Script: m.k6, Args: m.k6Args, WarmUp: m.warmUp, Stderr: stderr}.Run(ctx)
	case m.k6JSON != "":
		run, err = external.K6JSON(m.k6JSON, m.warmUp)
	default:
		run, err = external.JMeter(m.jtl, m.warmUp)
	}
	if err != nil {
		return nil, err
	}
	run.Criteria = external.Criteria(run)
	return []*outcome.Run{run}, nil
}

// notRun is the error of a load test that was not run, or not to its end: 3, as 2 says "undecided".
func notRun(err error) error { return coded{err, 3} }
