package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"tidemark/internal/act/process"
	"tidemark/internal/act/proxy"
	"tidemark/internal/app"
	"tidemark/internal/config"
	"tidemark/internal/demo"
)

func (c *command) runCommand() *cobra.Command {
	return &cobra.Command{
		Use: "run", Short: "Run the daemon", Args: cobra.NoArgs,
		Long: `Run the daemon in the foreground. It logs events to standard error.

SIGHUP reads the configuration again; a bad one changes nothing. SIGTERM and Ctrl-C end the daemon and leave every
fleet as it is: workers and proxy go on, and the next daemon takes them over.

Daemons whose configurations name the same journal.postgres, or the same lease, stand by for each other: one leads, and
another takes over within 15 seconds (docs/standby.md, docs/kubernetes.md).`,
		Example: "  tidemark run -c /etc/tidemark/tidemark.yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			log := func(line string) { fmt.Fprintln(c.err, line) }
			reload := make(chan os.Signal, 1)
			signal.Notify(reload, syscall.SIGHUP)
			defer signal.Stop(reload)
			return app.Run(cmd.Context(), c.configPath(), app.Options{Version: Version(), Log: log}, reload)
		},
	}
}

func (c *command) checkCommand() *cobra.Command {
	var effective bool
	cmd := c.jsonFlag(&cobra.Command{
		Use: "check [FILE]", Short: "Check a configuration: every problem, with its place and what to write instead", Args: cobra.MaximumNArgs(1),
		Example: "  tidemark check tidemark.yaml\n  tidemark check -c tidemark.yaml --effective",
		RunE: func(cmd *cobra.Command, args []string) error {
			path := c.configPath()
			if len(args) == 1 {
				if cmd.Flags().Changed("config") && args[0] != path {
					return fmt.Errorf("two configurations are named, %s and %s: name one", path, args[0])
				}
				path = args[0]
			}
			cfg, problems, err := app.Check(path)
			if err != nil {
				return err
			}
			if c.json {
				if problems == nil {
					problems = config.Problems{}
				}
				if err := c.writeJSON(problems); err != nil {
					return err
				}
			} else {
				if len(problems) > 0 {
					fmt.Fprintln(c.err, problems.Error())
				}
				if cfg != nil && effective {
					fmt.Fprint(c.out, config.Effective(cfg))
				} else if cfg != nil {
					fmt.Fprintf(c.out, "%s is good; fleets: %s\n", path, strings.Join(names(cfg), ", "))
				}
			}
			if cfg == nil {
				return errNo
			}
			return nil
		},
	})
	cmd.Flags().BoolVar(&effective, "effective", false, "print the configuration as it will run, with where each value came from")
	return cmd
}

func names(cfg *config.Config) (out []string) {
	for _, f := range cfg.Fleets {
		out = append(out, f.Name)
	}
	return out
}

func (c *command) demoCommand() *cobra.Command {
	var headless bool
	var file string
	cmd := &cobra.Command{
		Use: "demo", Short: "Watch a real fleet follow a real tide, in under three minutes", Args: cobra.NoArgs,
		Long: `Seeds a registry of 20,000 farmers, starts two of its workers behind the proxy, and plays a tide of load on them: night,
morning, a registration drive, night. Time runs 60 times faster, and so do the requirements' policies. All is real: the
processes, the requests, the decisions. Everything is stopped and removed at the end.`,
		Example: "  tidemark demo\n  tidemark demo --headless --json summary.json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			self, err := os.Executable()
			if err != nil {
				return err
			}
			registry := filepath.Join(filepath.Dir(self), "registry")
			if _, err := os.Stat(registry); err != nil {
				return fmt.Errorf("the demo needs the reference registry beside this program: %w ('make build' makes both)", err)
			}
			o := demo.Options{Out: c.out, View: c.view("Pacific/Rarotonga"), Registry: registry, Self: []string{self}, Version: Version()}
			if headless {
				o.Out, o.View.Colour = c.err, false
			}
			sum, err := demo.Run(cmd.Context(), o)
			if errors.Is(err, context.Canceled) {
				return errors.New("interrupted; everything that the demo started is stopped")
			}
			if err != nil {
				return err
			}
			if file != "" {
				var b bytes.Buffer
				if err := encode(&b, sum); err != nil {
					return err
				}
				if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
					return err
				}
			}
			if sum.FailedRequests+sum.Dropped > 0 {
				return errNo
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&headless, "headless", false, "no colour; the timeline goes to standard error")
	cmd.Flags().StringVar(&file, "json", "", "write the summary to this `file`")
	return cmd
}

func (c *command) proxyCommand() *cobra.Command {
	var file, socket string
	var takeOver bool
	cmd := &cobra.Command{
		Use: "proxy", Short: "Run the built-in balancer (the daemon starts it)", Args: cobra.NoArgs,
		Long: `Run the built-in balancer as a process of its own, so that a restart of the daemon never touches traffic. The daemon
starts it, with a configuration that it writes itself; by hand it is only wanted for trying things.`,
		Example: "  tidemark proxy --config proxy.json --socket /run/tidemark/proxy.sock",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return proxy.Main(cmd.Context(), file, socket, takeOver, c.err)
		},
	}
	f := cmd.Flags()
	f.StringVar(&file, "config", "", "the proxy's own configuration, as the daemon writes it")
	f.StringVar(&socket, "socket", "", "admin socket")
	f.BoolVar(&takeOver, "take-over", false, "take the listening socket over from the process that serves now")
	return cmd
}

// workerCommand starts a worker of the process target and becomes it.
func (c *command) workerCommand() *cobra.Command {
	return &cobra.Command{
		Use: "worker-shim", Hidden: true, DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			if code := process.ShimMain(args); code != 0 {
				os.Exit(code) // the shim has said why where the daemon looks
			}
			return nil
		},
	}
}
