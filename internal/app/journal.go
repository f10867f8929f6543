package app

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"tidemark/internal/config"
	"tidemark/internal/control"
	"tidemark/internal/foresee/backtest"
	"tidemark/internal/foresee/month"
	"tidemark/internal/kubeapi"
	"tidemark/internal/kubeapi/lease"
	"tidemark/internal/lead"
	"tidemark/internal/record"
	"tidemark/internal/record/postgres"
	"tidemark/internal/record/sqlite"
	"tidemark/internal/show/web"
)

// journal is what the daemon asks of its journal, whatever keeps it.
type journal interface {
	control.Journal
	month.Journal
	backtest.Journal
	Fleets(ctx context.Context) ([]string, error)
	ReadingsAt(ctx context.Context, fleet string, t time.Time) ([]record.Sample, error)
	Maintain(ctx context.Context, now time.Time) error
	Close() error
}

// leader is how the lead is kept, where other daemons may stand by.
type leader interface {
	control.Lease
	// Deposed is closed when another daemon leads.
	Deposed() <-chan struct{}
}

// History is a journal that is only read.
type History interface {
	month.Journal
	backtest.Journal
	io.Closer
}

// OpenHistory opens the journal of a configuration for questions only, whether or not a daemon runs.
func OpenHistory(ctx context.Context, cfg *config.Config) (History, error) {
	if cfg.Journal.Shared() {
		return postgres.OpenReadOnly(ctx, postgres.Config(cfg.Journal.Postgres))
	}
	return sqlite.OpenReadOnly(ctx, JournalFile(cfg))
}

// JournalFile is where the journal of a configuration is, unless it is shared.
func JournalFile(cfg *config.Config) string { return filepath.Join(cfg.StateDir, "journal.db") }

// openJournal opens the journal for writing: a file at once, a shared one when the lead is this daemon's.
func (a *App) openJournal(ctx context.Context, dir string) (err error) {
	if !a.cfg.Journal.Shared() {
		if err := a.awaitLease(ctx); err != nil {
			return err
		}
		j, err := sqlite.Open(ctx, JournalFile(a.cfg), record.Retention(a.cfg.Retention))
		if err != nil {
			return err
		}
		a.journal = j
		return nil
	}
	spool, err := postgres.OpenSpool(filepath.Join(dir, "spool"))
	if err != nil {
		return err
	}
	host, err := hostname()
	if err != nil {
		return err
	}
	standby, err := postgres.Stand(postgres.Config(a.cfg.Journal.Postgres), postgres.Options{
		Holder: fmt.Sprintf("%s (pid %d)", host, os.Getpid()), Uptime: control.SystemClock{}.Uptime, Log: a.opts.Log, Spool: spool,
	})
	if err != nil {
		return err
	}
	return a.standBy(standby.State, func() error {
		journal, err := standby.Lead(ctx, record.Retention(a.cfg.Retention))
		if err != nil {
			return err
		}
		a.journal, a.lead, a.spool = journal, journal, spool
		return nil
	})
}

// awaitLease waits for the lead where a Lease keeps it.
func (a *App) awaitLease(ctx context.Context) error {
	c := a.cfg.Lease
	if c.Name == "" {
		return nil
	}
	client, err := a.shared.clusters.Client(kubeapi.Place{Kubeconfig: c.Kubeconfig, Context: c.Context, Namespace: c.Namespace})
	if err != nil {
		return fmt.Errorf("lease: %w", err)
	}
	host, err := hostname()
	if err != nil {
		return err
	}
	var said atomic.Pointer[string]
	first := "nothing is known yet"
	said.Store(&first)
	return a.standBy(func() string { return *said.Load() }, func() (err error) {
		a.lease, err = lease.Lead(ctx, client, lease.Options{
			Name: c.Name, Holder: fmt.Sprintf("%s_%d_%s", host, os.Getpid(), rand.Text()), Uptime: control.SystemClock{}.Uptime,
		}, func(state string) { said.Store(&state) })
		if err != nil {
			return err
		}
		a.lead = a.lease
		return nil
	})
}

// hostname is this host's, for those who ask who leads.
func hostname() (string, error) {
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("find this host's name: %w", err)
	}
	return host, nil
}

// Deposed is closed when another daemon leads: what runs here does nothing any more, and is to be stopped. It is nil for a daemon that
// nobody stands by.
func (a *App) Deposed() <-chan struct{} {
	if a.lead == nil {
		return nil
	}
	return a.lead.Deposed()
}

// standBy waits for the lead. Until wait returns, whoever asks at the operator's socket is told that this daemon stands by, and the state.
func (a *App) standBy(state func() string, wait func() error) error {
	l, err := ownSocket(a.cfg.Socket)
	if err != nil {
		return err
	}
	server := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		web.Answer(w, r, nil, &web.Problem{Status: http.StatusServiceUnavailable, Detail: "this daemon stands by: " + state()})
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			a.opts.Log("the operator's socket: " + err.Error())
		}
	}()
	err = wait()
	_ = server.Close()
	<-done
	return err
}

// ownSocket listens on a socket that only the daemon's user may use.
func ownSocket(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove the socket of an earlier daemon: %w", err)
	}
	mask := unix.Umask(0o177)
	l, err := net.Listen("unix", path)
	unix.Umask(mask)
	if err != nil {
		return nil, fmt.Errorf("open the operator's socket: %w", err)
	}
	return l, nil
}

// Run runs the daemon of the configuration at path until ctx ends. A daemon that loses the lead begins anew, and stands by. reload has it
// read the configuration again.
func Run(ctx context.Context, path string, opts Options, reload <-chan os.Signal) error {
	for {
		again, err := runOnce(ctx, path, opts, reload)
		if !again {
			return err
		}
	}
}

func runOnce(ctx context.Context, path string, opts Options, reload <-chan os.Signal) (again bool, err error) {
	a, err := New(path, opts)
	if err != nil {
		return false, err
	}
	if err := a.Start(ctx); err != nil {
		if ctx.Err() != nil {
			return false, nil // it was told to end while it stood by
		}
		return errors.Is(err, lead.ErrDeposed), err
	}
	defer a.Stop()
	for {
		select {
		case <-ctx.Done():
			return false, nil
		case <-a.Deposed():
			a.opts.Log("the lead is lost: " + a.lead.Held().Error())
			return true, nil
		case <-reload:
			if err := a.Reload(ctx); err != nil {
				a.opts.Log("the old configuration stays in force: " + err.Error())
			}
		}
	}
}
