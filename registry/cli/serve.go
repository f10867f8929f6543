package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"tidemark/registry/api"
	"tidemark/registry/prefork"
	"tidemark/registry/serve"
	"tidemark/registry/sqlite"
)

// drain is how long the last workers on a socket go on emptying its queue when clients keep coming.
const drain = 5 * time.Second

// job is what a worker needs to know, on its own or under a master.
type job struct {
	db     string
	burden api.Burden
	grace  time.Duration
}

func (j *job) flags(f *pflag.FlagSet) {
	f.StringVar(&j.db, "db", "", "the registry, made by `registry seed`")
	f.DurationVar(&j.burden.Think, "think", 0, "pause in each API request, standing in for slower application code")
	f.DurationVar(&j.burden.CPU, "cpu", 0, "CPU time burnt in each API request")
	f.DurationVar(&j.grace, "grace", 30*time.Second, "how long a stopping worker may take to finish its request")
}

func (j *job) check() error {
	if j.burden.Think < 0 || j.burden.CPU < 0 || j.grace < 0 {
		return errors.New("--think, --cpu and --grace cannot be negative")
	}
	return nil
}

// args is the command line of a worker process that does this job.
func (j *job) args() []string {
	return []string{
		"registry", "worker", "--fd", strconv.Itoa(prefork.FirstFD), "--db", j.db,
		"--think", j.burden.Think.String(), "--cpu", j.burden.CPU.String(), "--grace", j.grace.String(),
	}
}

// open readies the store and the worker on ln.
func (j *job) open(ctx context.Context, ln serve.Listener, logger *log.Logger, busy func(bool)) (*sqlite.Store, *serve.Server, error) {
	store, err := sqlite.Open(ctx, j.db)
	if err != nil {
		return nil, nil, err
	}
	handler := api.New(store, j.burden, func(err error) { logger.Print(err) })
	return store, serve.New(ln, handler, logger, busy), nil
}

func serveCommand() *cobra.Command {
	var j job
	var listen, pidFile string
	var workers, backlog int
	cmd := &cobra.Command{
		Use:   "serve --db FILE",
		Short: "Serve a registry, one request at a time per worker process",
		Long: `Serve a registry, one request at a time per worker process, as Odoo does.

Without --workers this process is the one worker. With --workers it is a master of that many on one socket:
SIGTTIN adds a worker, SIGTTOU removes one (an idle one first, after its request if none is; never the last),
SIGHUP replaces them one after the other, SIGTERM and SIGINT end gracefully, SIGQUIT ends at once.

Requests beyond the workers wait in the socket's accept queue; each connection carries one request. The health
check waits its turn like any other request.

  GET  /api/farmer/lookup?uid=  or ?national_id=  or ?name=  (with &village= or without)
  POST /api/farmer              JSON; the same uid and content again is harmless
  GET  /web/health              checks the database too`,
		Example: `  registry serve --db farmers.db --listen 127.0.0.1:8069
  registry serve --db farmers.db --listen unix:/run/registry.sock --think 20ms
  registry serve --db farmers.db --workers 2 --pid-file /run/registry.pid --backlog 128`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := j.check(); err != nil {
				return err
			}
			if cmd.Flags().Changed("workers") && workers < 1 {
				return fmt.Errorf("--workers %d: a master needs at least 1", workers)
			}
			if backlog < 1 {
				return fmt.Errorf("--backlog %d: must be at least 1", backlog)
			}
			beFrugal()
			logger := log.New(cmd.ErrOrStderr(), "registry: ", 0)
			ln, err := serve.Listen(listen, backlog)
			if err != nil {
				return err
			}
			address := serve.Address(ln)
			// Once: while this process still answers its queue, the next one may have put its own socket there.
			unlink := sync.OnceFunc(func() { serve.Unlink(address) })
			defer unlink()
			removePID := func() {}
			defer func() { removePID() }()
			// Who reads the pid file may send a signal at once, so it is written when signals are looked after.
			announce := func(who string) error {
				if pidFile != "" {
					remove, err := prefork.WritePIDFile(pidFile)
					if err != nil {
						return err
					}
					removePID = remove
				}
				logger.Printf("listening on %s (backlog %d), pid %d, %s, database %s", address, backlog, os.Getpid(), who, j.db)
				if heavier := j.burden.String(); heavier != "" {
					logger.Printf("each API request %s: a stand-in for slower application code", heavier)
				}
				return nil
			}
			if workers > 0 {
				return j.lead(cmd.Context(), ln, workers, logger, announce, unlink)
			}
			return j.alone(cmd.Context(), ln, logger, announce, unlink)
		},
	}
	j.flags(cmd.Flags())
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:8069", "address, HOST:PORT or unix:PATH")
	cmd.Flags().IntVar(&workers, "workers", 0, "be the master of this many worker processes")
	cmd.Flags().StringVar(&pidFile, "pid-file", "", "write the pid here; removed at the end")
	cmd.Flags().IntVar(&backlog, "backlog", 512, "connections that may wait for a worker")
	mustHave(cmd, "db")
	return cmd
}

// alone serves in this process until SIGTERM, SIGINT or SIGHUP; a second one ends it at once.
func (j *job) alone(ctx context.Context, ln serve.Listener, logger *log.Logger, announce func(string) error, unlink func()) (err error) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	signal.Ignore(unix.SIGTTIN, unix.SIGTTOU) // there is no number of workers to change
	store, server, err := j.open(ctx, ln, logger, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if err := announce("one worker"); err != nil {
		return err
	}
	go func() { // ends with the process
		<-signals
		unlink()
		server.Stop(drain, j.grace)
		<-signals
		server.Stop(0, 0)
	}()
	return server.Run()
}

// lead is the master of a group of workers until a signal ends it.
func (j *job) lead(ctx context.Context, ln serve.Listener, workers int, logger *log.Logger, announce func(string) error, unlink func()) error {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program for the workers to run: %w", err)
	}
	// Once, here: what is wrong with the file is said before any worker is started.
	store, err := sqlite.Open(ctx, j.db)
	if err != nil {
		return err
	}
	if err := store.Close(); err != nil {
		return err
	}
	master, err := prefork.New(prefork.Config{
		Listener: ln, Workers: workers, Program: program, Args: j.args(), Grace: j.grace,
		Tell: func(e prefork.Event) { logger.Print(sentence(e)) }, Ending: unlink,
	})
	if err != nil {
		return err
	}
	if err := announce(fmt.Sprintf("%d workers", workers)); err != nil {
		return err
	}
	return master.Run()
}

func sentence(e prefork.Event) string {
	switch e.What {
	case prefork.Started:
		return fmt.Sprintf("worker %d started", e.PID)
	case prefork.Ready:
		return fmt.Sprintf("worker %d serves", e.PID)
	case prefork.Died:
		return fmt.Sprintf("worker %d died (%s): another takes its place", e.PID, e.Detail)
	case prefork.Left:
		return fmt.Sprintf("worker %d has left", e.PID)
	case prefork.Killed:
		return fmt.Sprintf("worker %d did not finish in time (--grace) and was killed", e.PID)
	case prefork.Signalled:
		return fmt.Sprintf("%s: number of workers wanted: %d", e.Detail, e.Workers)
	default:
		return fmt.Sprintf("cannot start a worker, trying again: %s", e.Detail)
	}
}

func workerCommand() *cobra.Command {
	var j job
	var fd, slot int
	cmd := &cobra.Command{
		Use:    "worker",
		Short:  "Serve under a master; started by `registry serve --workers`",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			term := make(chan os.Signal, 1)
			signal.Notify(term, unix.SIGTERM)
			// A terminal sends these to the whole group, and they mean something to the master alone.
			signal.Ignore(unix.SIGINT, unix.SIGHUP, unix.SIGTTIN, unix.SIGTTOU)
			beFrugal()
			return j.serveUnder(cmd.Context(), fd, slot, term, cmd.ErrOrStderr())
		},
	}
	j.flags(cmd.Flags())
	cmd.Flags().IntVar(&fd, "fd", prefork.FirstFD, "first inherited descriptor")
	cmd.Flags().IntVar(&slot, "slot", 0, "place on the scoreboard")
	return cmd
}

// serveUnder serves a master's socket until SIGTERM, or until the master is gone.
func (j *job) serveUnder(ctx context.Context, fd, slot int, term <-chan os.Signal, stderr io.Writer) (err error) {
	post, err := prefork.TakePost(fd, slot)
	if err != nil {
		return err
	}
	store, server, err := j.open(ctx, post.Listener, log.New(stderr, fmt.Sprintf("registry worker %d: ", os.Getpid()), 0), post.Busy)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if err := post.Ready(); err != nil {
		return fmt.Errorf("report for work: %w", err)
	}
	go func() { // ends with the process
		select {
		case <-term:
			server.Stop(0, j.grace) // the others serve the queue
		case <-post.Gone:
			server.Stop(drain, j.grace) // there will be no others
		}
	}()
	return server.Run()
}
