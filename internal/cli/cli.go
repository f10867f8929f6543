// Package cli is the command line: flags in, exit codes and rendering out, no logic of its own.
package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"tidemark/internal/app"
	"tidemark/internal/config"
	"tidemark/internal/show/text"
	"tidemark/internal/show/web"
)

// Exit codes: what was asked is done; the answer is no; it could not be done.
const (
	done   = 0
	no     = 1
	failed = 2
)

// errNo makes a command exit with 1: it worked, and the answer is no. What there is to say has been said.
var errNo = errors.New("no")

// coded is an error with an exit code of its own.
type coded struct {
	error
	code int
}

func (e coded) Unwrap() error { return e.error }

// version is set by the linker.
var version = ""

// Version is the release, or the revision that Go built.
func Version() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

// Main runs the command line and returns its exit code.
func Main(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	c := &command{out: stdout, err: stderr}
	root := c.root()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return done
	}
	code := failed
	if own, ok := errors.AsType[coded](err); ok {
		code = own.code
	} else if errors.Is(err, errNo) {
		code = no
	}
	if !errors.Is(err, errNo) {
		fmt.Fprintln(stderr, "tidemark: "+err.Error())
	}
	return code
}

// command holds what all commands share.
type command struct {
	out, err io.Writer
	config   string
	socket   string
	json     bool
}

func (c *command) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "tidemark",
		Short: "Keeps a fleet of worker processes between its high-water and low-water marks",
		Long: `Tidemark keeps a fleet of worker processes between its high-water and low-water marks: it observes
real signals, decides by a written policy, acts on real workers, and records each decision with its reasons.

Exit codes: 0 done; 1 the answer is no (a configuration is wrong); 2 it could not be done.`,
		SilenceErrors: true, SilenceUsage: true,
	}
	f := root.PersistentFlags()
	f.StringVarP(&c.config, "config", "c", os.Getenv("TIDEMARK_CONFIG"), "configuration `file` (or $TIDEMARK_CONFIG)")
	f.StringVar(&c.socket, "socket", os.Getenv("TIDEMARK_SOCKET"), "the daemon's unix `socket` (or $TIDEMARK_SOCKET; default: as configured)")
	root.AddCommand(c.runCommand(), c.checkCommand(), c.demoCommand(), c.statusCommand(), c.topCommand(), c.eventsCommand(), c.explainCommand(),
		c.scaleCommand(), c.holdCommand(), c.releaseCommand(), c.modeCommand(), c.pushCommand(), c.alertCommand(), c.doctorCommand(),
		c.simulateCommand(), c.tuneCommand(), c.planCommand(), c.backtestCommand(), c.reportCommand(), c.exportCommand(),
		c.loadtestCommand(), c.userCommand(), c.tokenCommand(),
		c.nginxSnippetCommand(), c.haproxySnippetCommand(), c.proxyCommand(), c.workerCommand(), c.versionCommand())
	return root
}

// defaultConfig is where a configuration is looked for when none is named.
const defaultConfig = "/etc/tidemark/tidemark.yaml"

func (c *command) configPath() string {
	if c.config == "" {
		return defaultConfig
	}
	return c.config
}

// daemon returns a client for the daemon that the flags, or the configuration, point at.
func (c *command) daemon() (*web.Client, error) {
	if c.socket != "" {
		return web.Dial(c.socket), nil
	}
	socket, err := app.Socket(c.configPath())
	if err != nil {
		return nil, fmt.Errorf("%w\n(or name the daemon's socket: --socket PATH)", err)
	}
	return web.Dial(socket), nil
}

// view says how to write for whoever reads: zone is the instance's.
func (c *command) view(zone string) text.View {
	v := text.View{Now: time.Now(), Zone: time.UTC}
	if loc, err := time.LoadLocation(zone); err == nil {
		v.Zone = loc
	}
	if f, ok := c.out.(*os.File); ok && os.Getenv("NO_COLOR") == "" {
		v.Colour = term.IsTerminal(int(f.Fd()))
	}
	return v
}

func (c *command) jsonFlag(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().BoolVar(&c.json, "json", false, "write JSON")
	return cmd
}

func (c *command) writeJSON(v any) error {
	return encode(c.out, v)
}

// encode writes JSON for programs that people read, too.
func encode(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

func (c *command) versionCommand() *cobra.Command {
	return c.jsonFlag(&cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs, Example: "  tidemark version",
		RunE: func(*cobra.Command, []string) error {
			if c.json {
				return c.writeJSON(map[string]string{"version": Version()})
			}
			fmt.Fprintln(c.out, "tidemark", Version())
			return nil
		},
	})
}

// checked reads a configuration that must be without errors.
func checked(path string) (*config.Config, error) {
	cfg, problems, err := app.Check(path)
	if err == nil && cfg == nil {
		err = problems
	}
	return cfg, err
}

// writeFile writes a file whole, if it has a name.
func writeFile(path string, write func(io.Writer) error) error {
	if path == "" {
		return nil
	}
	var b bytes.Buffer
	if err := write(&b); err != nil {
		return err
	}
	return os.WriteFile(path, b.Bytes(), 0o644)
}
