// Package app wires a configuration into running parts: sources, targets, balancers, the journal, the loop and the operator's
// socket. Tests and the demo embed it.
package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"tidemark/internal/act/kubernetes"
	"tidemark/internal/app/elsewhere"
	"tidemark/internal/app/watch"
	"tidemark/internal/config"
	"tidemark/internal/control"
	"tidemark/internal/fleet"
	"tidemark/internal/kubeapi/lease"
	"tidemark/internal/observe/push"
	"tidemark/internal/record"
	"tidemark/internal/show/web"
	"tidemark/internal/show/web/access"
)

// Options are what the caller knows and the configuration does not.
type Options struct {
	Version string
	// Self is how to run this program again: for the proxy and for the shim that starts workers. Default: this executable.
	Self []string
	// Log receives each event, and what went wrong outside the loop.
	Log func(line string)
}

// App is a daemon.
type App struct {
	opts    Options
	path    string
	lock    *os.File
	journal journal
	lead    leader        // nil when nobody stands by
	lease   *lease.Lease  // the same, where that keeps it; else nil
	spool   control.Spool // nil where the journal is a file
	loop    *control.Loop
	watch   *watch.Watch
	api     *web.API
	server  *http.Server
	since   time.Time
	stop    context.CancelFunc
	wg      sync.WaitGroup

	turn     sync.Mutex     // one reload at a time
	file     *config.Config // what the file says
	policies *policies      // of a cluster; nil: none are asked for

	mu      sync.Mutex
	cfg     *config.Config    // and with what ScalingPolicies say
	parts   map[string]*parts // by fleet
	shared  shared
	pushes  *pushServer                    // nil when nothing is pushed over TCP
	pages   *pageServer                    // nil when there is no dashboard
	scaler  *scaler                        // nil when KEDA asks for nothing
	seen    map[string]web.Acknowledgement // of alerts, by key
	telling *telling
	monthly *monthly // nil when no report is made by itself

	sessions  *access.Sessions // of the dashboard
	replaying chan struct{}    // holds the one that replays the journal
	months    months
	elsewhere *elsewhere.Elsewhere // other daemons; nil: none are configured
	followed  atomic.Pointer[map[string]*kubernetes.Followed]
}

// Check reads a configuration and reports all its problems, errors and warnings.
func Check(path string) (*config.Config, config.Problems, error) {
	return config.Load(path, Catalog())
}

// Socket is where the daemon of a configuration listens to its operators.
func Socket(path string) (string, error) {
	cfg, problems, err := Check(path)
	switch {
	case err != nil:
		return "", err
	case cfg == nil:
		return "", problems
	}
	return cfg.Socket, nil
}

// New reads the configuration at path. Nothing runs before Start.
func New(path string, opts Options) (*App, error) {
	cfg, problems, err := Check(path)
	if err != nil {
		return nil, err
	}
	if cfg == nil {
		return nil, problems
	}
	if len(opts.Self) == 0 {
		self, err := os.Executable() // asked now: once its file is replaced the answer is none
		if err != nil {
			return nil, fmt.Errorf("find this program: %w", err)
		}
		opts.Self = []string{self}
	}
	if opts.Log == nil {
		opts.Log = func(string) {}
	}
	a := &App{opts: opts, path: path, file: cfg, cfg: cfg, parts: map[string]*parts{}, seen: map[string]web.Acknowledgement{}, replaying: make(chan struct{}, 1)}
	a.shared.clusters.Uptime = control.SystemClock{}.Uptime
	return a, nil
}

// Start takes the lead and begins to work; where several daemons share a journal it waits for it as long as another leads. When it fails
// nothing is left running.
func (a *App) Start(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			a.close()
		}
	}()
	dir := a.cfg.StateDir
	if err := os.MkdirAll(a.cfg.ReportsDir(), 0o750); err != nil {
		return fmt.Errorf("make the state folder: %w (set state_dir to a folder that this user may write)", err)
	}
	if a.lock, err = lock(ctx, filepath.Join(dir, "leader.lock")); err != nil {
		return err
	}
	if err := a.openJournal(ctx, dir); err != nil {
		return err
	}
	if err := a.recallSeen(ctx); err != nil {
		return err
	}
	a.since = time.Now().UTC()
	if err := a.tell(ctx, fleet.Event{Kind: fleet.EventStarted, State: control.SystemClock{}.Boot(), Note: fmt.Sprintf("version %s, pid %d, %s, %s", a.opts.Version, os.Getpid(), a.path, identity(a.cfg))}); err != nil {
		return err
	}
	a.loop = control.New(control.Options{Tick: a.cfg.Tick, Journal: a.journal, Lease: a.lead, Spool: a.spool, Zone: a.cfg.Instance.Zone})
	if a.policies, err = a.openPolicies(ctx); err != nil {
		return err
	}
	built, err := a.build(ctx, a.cfg)
	if err != nil {
		return err
	}
	a.loop.Share(a.cfg.Instance.Quota.Workers)
	a.prune(a.cfg)
	a.follows()
	if err := a.loop.Start(built); err != nil {
		return err
	}
	if err := a.startAlerts(); err != nil {
		return err
	}
	if a.monthly, err = a.startMonthly(a.cfg); err != nil {
		return err
	}
	if err := a.listen(); err != nil {
		return err
	}
	if a.pushes, err = a.openPushes(a.cfg.Push); err != nil {
		return err
	}
	if a.scaler, err = a.openScaler(a.cfg.KEDA); err != nil {
		return err
	}
	a.sessions = access.OpenSessions(filepath.Join(dir, "sessions.json"), a.opts.Log)
	if a.pages, err = a.openPages(a.cfg.Listen); err != nil {
		return err
	}
	a.follow(a.cfg)
	ctx, a.stop = context.WithCancel(context.WithoutCancel(ctx))
	a.wg.Go(func() { a.maintain(ctx) })
	a.wg.Go(func() { a.log(ctx) })
	a.wg.Go(func() { a.watch.Run(ctx) })
	a.policies.start(ctx)
	return nil
}

// identity is what the installation says of itself, in a line.
func identity(cfg *config.Config) string {
	var parts []string
	for _, f := range cfg.Identity() {
		parts = append(parts, f.Name+" "+f.Value)
	}
	return strings.Join(parts, ", ")
}

// lockWait is how long a lock may still be held by what a killed daemon had just forked and not yet executed.
const lockWait = 3 * time.Second

// lock takes the lock that makes this the one daemon of a state folder.
func lock(ctx context.Context, path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open the leader's lock: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		select {
		case <-ticker.C:
			continue
		case <-ctx.Done():
		}
		var pid int
		_, _ = fmt.Fscan(f, &pid) // only to name it
		f.Close()
		return nil, fmt.Errorf("another daemon (pid %d) leads here: %s is locked. Stop it first, or give this one a state_dir of its own", pid, path)
	}
	if err := f.Truncate(0); err == nil {
		_, err = fmt.Fprintln(f, os.Getpid())
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("write %s: %w", path, err)
		}
	}
	return f, nil
}

// listen opens the operator's socket, which only the daemon's user may use.
func (a *App) listen() error {
	l, err := ownSocket(a.cfg.Socket)
	if err != nil {
		return err
	}
	a.api = web.New(a)
	mux := http.NewServeMux()
	mux.Handle("/", a.api)
	mux.Handle(push.Pattern, &a.shared.pushed)
	mux.HandleFunc(web.LoadTestPattern, a.api.HearLoadTest)
	a.server = &http.Server{Handler: web.Owner(mux), ConnContext: web.Peer, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second}
	a.wg.Go(func() {
		if err := a.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			a.opts.Log("the operator's socket: " + err.Error())
		}
	})
	return nil
}

// Stop ends the daemon and leaves every fleet as it is.
func (a *App) Stop() {
	a.policies.end() // before what it reloads
	if a.server != nil {
		a.api.Close() // streams would never end by themselves
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		_ = a.server.Shutdown(ctx) // whoever still asks gets no answer
		cancel()
	}
	a.pages.leave(nil)
	a.pushes.close()
	a.scaler.close()
	if a.loop != nil {
		a.loop.Stop()
	}
	if a.journal != nil {
		if err := a.tell(context.Background(), fleet.Event{Kind: fleet.EventStopped}); err != nil {
			a.opts.Log(err.Error())
		}
	}
	if a.stop != nil {
		a.stop()
	}
	a.wg.Wait()
	a.close()
}

func (a *App) close() {
	a.policies.end()
	if a.server != nil {
		a.api.Close()
		_ = a.server.Close() // twice is harmless
	}
	a.pages.leave(nil)
	a.pushes.close()
	a.scaler.close()
	if a.loop != nil {
		a.loop.Stop() // also when Start failed after it: nothing may tick on parts that are closed
	}
	a.elsewhere.Close()
	a.monthly.end()
	a.telling.end()
	for _, p := range a.parts {
		p.close(a.opts.Log)
	}
	closeAdapter(&a.shared.logs, a.opts.Log)
	if a.journal != nil {
		if err := a.journal.Close(); err != nil {
			a.opts.Log("close the journal: " + err.Error())
		}
	}
	if a.lease != nil {
		if err := a.lease.Close(); err != nil {
			a.opts.Log(err.Error())
		}
	}
	closeAdapter(&a.shared.clusters, a.opts.Log)
	if a.lock != nil {
		a.lock.Close()
	}
}

// Reload reads the configuration again. Alarms, cooldowns and orders go on; parts that are configured as before are kept. A bad
// configuration changes nothing.
func (a *App) Reload(ctx context.Context) error {
	a.turn.Lock()
	defer a.turn.Unlock()
	file, problems, err := Check(a.path)
	if err == nil && file == nil {
		err = problems
	}
	if err == nil && (file.StateDir != a.cfg.StateDir || file.Socket != a.cfg.Socket || file.Tick != a.cfg.Tick || file.Journal != a.cfg.Journal || file.Lease != a.cfg.Lease ||
		!reflect.DeepEqual(file.Policies, a.cfg.Policies)) {
		err = errors.New("state_dir, socket, tick, journal, lease and scaling_policies change with a restart only")
	}
	if err != nil {
		_ = a.tell(ctx, fleet.Event{Kind: fleet.EventReloadRefused, Note: inOneLine(err)}) // the caller hears of it anyway
		return err
	}
	if err := a.enforce(ctx, a.policies.with(file)); err != nil {
		a.policies.with(a.file) // as it was
		return err
	}
	a.file = file
	return a.tell(ctx, fleet.Event{Kind: fleet.EventReloaded, Note: a.path})
}

// enforce puts a configuration in force; turn is held. When it cannot, nothing changes.
func (a *App) enforce(ctx context.Context, cfg *config.Config) error {
	pushes, err := a.openPushes(cfg.Push)
	if err != nil {
		return err
	}
	pages, err := a.openPages(cfg.Listen)
	if err != nil {
		if pushes != a.pushes {
			pushes.close()
		}
		return err
	}
	scaler, err := a.openScaler(cfg.KEDA)
	var built []control.Parts
	if err == nil {
		built, err = a.build(ctx, cfg)
	}
	if err == nil {
		err = a.loop.Reload(built)
	}
	if err != nil {
		if pushes != a.pushes {
			pushes.close()
		}
		if scaler != a.scaler {
			scaler.close()
		}
		pages.leave(a.pages)
		return err
	}
	a.loop.Share(cfg.Instance.Quota.Workers)
	if err := a.reloadAlerts(cfg); err != nil {
		return err
	}
	a.mu.Lock()
	before := a.monthly
	a.mu.Unlock()
	before.end() // a spool has one owner
	fresh, err := a.startMonthly(cfg)
	if err != nil {
		a.opts.Log("the month's report: " + err.Error())
	}
	a.mu.Lock()
	was := a.cfg
	a.cfg, a.monthly = cfg, fresh
	a.mu.Unlock()
	if !slices.Equal(was.Daemons, cfg.Daemons) {
		a.follow(cfg)
	}
	a.prune(cfg)
	if pushes != a.pushes {
		a.pushes.close()
		a.pushes = pushes
	}
	a.pushes.use(cfg.Push)
	a.follows()
	if scaler != a.scaler {
		a.scaler.close()
		a.scaler = scaler
	}
	a.enterPages(pages)
	return nil
}

// inOneLine is the first error of a configuration, and where to see the others.
func inOneLine(err error) string {
	var problems config.Problems
	if !errors.As(err, &problems) {
		return err.Error()
	}
	for _, p := range problems {
		if p.Severity == config.Error {
			return fmt.Sprintf("%s:%d:%d: %s: %s; %s ('tidemark check' shows all)", p.File, p.Line, p.Column, p.Field, p.Message, p.Fix)
		}
	}
	return err.Error()
}

// tell records an event that no tick has; at now, if it says no time.
func (a *App) tell(ctx context.Context, e fleet.Event) error {
	if e.Time.IsZero() {
		e.Time = time.Now().UTC().Round(0)
	}
	if err := a.journal.Commit(ctx, record.Tick{Time: e.Time, Events: []fleet.Event{e}}); err != nil {
		return fmt.Errorf("record %s: %w", e.Kind, err)
	}
	return nil
}

// maintain keeps the journal within its retention.
func (a *App) maintain(ctx context.Context) {
	ticker := time.NewTicker(10 * time.Minute)
	defer ticker.Stop()
	for {
		if err := a.journal.Maintain(ctx, time.Now()); err != nil && ctx.Err() == nil {
			a.opts.Log("keep the journal within its bounds: " + err.Error())
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
