// Package process is the target by which Tidemark itself runs the workers: N copies of a command, each in a slot with
// its own port or socket, session, log and, where the system allows it, control group. It starts them, checks their health,
// replaces those that die, and stops them gracefully. Workers outlive the daemon: they are its children but not of its
// session, and a daemon that starts adopts those of the one before it by pid and start time. What the daemon wants and who
// the workers are is kept in small files (record.go); no worker ever runs that is not on record (shim.go).
//
// How many workers there should be is control's to say; which of them get requests is a balancer's.
package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"tidemark/internal/fleet"
)

// Options is what the daemon adds to what the operator wrote.
type Options struct {
	Fleet    string // the fleet's name; also of its folder
	StateDir string // absolute; the workers' records are kept below it and must outlive the daemon, not the boot
	// Shim is the argument list that runs ShimMain: [/proc/self/exe, worker-shim]. /proc/self/exe stays the running
	// program when its file is replaced.
	Shim []string
}

// Target runs the workers of one fleet. Start it before use.
type Target struct {
	cfg     Config
	opts    Options
	digest  string
	records records
	logs    string
	scaling chan struct{} // holds a token while a Scale runs

	stop context.CancelCauseFunc
	wg   sync.WaitGroup
	lock *os.File // the fleet's

	mu        sync.Mutex
	running   context.Context // nil before Start and after Close
	slots     map[int]*slot
	changed   chan struct{} // closed and replaced when anything below a slot changes
	replacing int           // the slot whose unhealthy worker is being replaced; 0: none
	cgroups   string        // folder of the workers' control groups; "" when there are none
	status    Status
}

// Status is what happened since Start, for an operator.
type Status struct {
	Restarts int    `json:"restarts"`            // workers that died or were unhealthy and were started anew
	Killed   int    `json:"killed"`              // workers that did not stop within stop_timeout
	LastKill string `json:"last_kill,omitempty"` // the last of them
	Cgroup   string `json:"cgroup,omitempty"`    // why workers have no control group of their own; empty when they have
}

var (
	errClosed     = errors.New("the daemon is stopping")
	errNotRunning = errors.New("the process target is not running")
)

// New makes a target of a valid configuration. It touches nothing yet.
func New(cfg Config, opts Options) (*Target, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if opts.Fleet == "" || opts.Fleet != filepath.Base(opts.Fleet) || strings.HasPrefix(opts.Fleet, ".") {
		return nil, fmt.Errorf("the fleet's name %q cannot be the name of a folder", opts.Fleet)
	}
	if !filepath.IsAbs(opts.StateDir) || len(opts.Shim) == 0 {
		return nil, errors.New("the process target needs an absolute state folder and a shim")
	}
	dir := filepath.Join(opts.StateDir, opts.Fleet)
	logs := cfg.LogDir
	if logs == "" {
		logs = filepath.Join(dir, "log")
	}
	return &Target{
		cfg: cfg, opts: opts, digest: cfg.digest(), records: records{dir}, logs: logs,
		scaling: make(chan struct{}, 1),
		slots:   map[int]*slot{}, changed: make(chan struct{}),
	}, nil
}

// lockWait bounds how long Start waits for locks. They are held for moments by what an earlier daemon left behind, for
// good only by another daemon.
const lockWait = 10 * time.Second

// Start adopts the workers that are on record and begins to supervise them: those that died meanwhile are started
// again, those that were being stopped are stopped. It returns once all are known. ctx bounds Start only.
func (t *Target) Start(ctx context.Context) (err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running != nil {
		return errors.New("the process target is running already")
	}
	for _, dir := range []string{t.records.dir, t.logs} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return fmt.Errorf("make a folder for the workers: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	t.lock, err = lock(ctx, filepath.Join(t.records.dir, "lock"))
	if err != nil {
		return fmt.Errorf("fleet %s is supervised by another daemon: %w", t.opts.Fleet, err)
	}
	slots, err := t.adopt(ctx)
	if err != nil {
		_ = t.lock.Close()
		return fmt.Errorf("adopt the workers of fleet %s: %w", t.opts.Fleet, err)
	}
	t.cgroups, t.status = "", Status{}
	if t.cfg.Cgroup == "auto" {
		if t.cgroups, err = cgroupHome(t.opts.Fleet, t.opts.StateDir); err != nil {
			t.status.Cgroup = err.Error()
		}
	}
	running, stop := context.WithCancelCause(context.Background())
	t.running, t.stop, t.slots = running, stop, slots
	for _, s := range slots {
		t.wg.Go(func() { s.run(running) })
	}
	return nil
}

// adopt reads every slot's record and takes hold of the worker in it, if it lives.
func (t *Target) adopt(ctx context.Context) (_ map[int]*slot, err error) {
	found, err := t.records.list()
	if err != nil {
		return nil, err
	}
	slots := make(map[int]*slot, len(found))
	defer func() {
		if err != nil {
			for _, s := range slots {
				s.letGo()
			}
		}
	}()
	for n := range found {
		// A shim that an earlier daemon forked holds the lock until its record is written and it has become the worker.
		held, err := lock(ctx, t.records.path(n, "lock"))
		if err != nil {
			return nil, fmt.Errorf("wait for the worker in slot %d to start: %w", n, err)
		}
		s := newSlot(t, n)
		slots[n] = s
		err = s.adopt()
		_ = held.Close()
		if err != nil {
			return nil, err
		}
	}
	return slots, nil
}

// Close ends the supervision and leaves every worker as it is. It ends the context of a Scale that is under way and waits
// for it.
func (t *Target) Close() error {
	t.mu.Lock()
	if t.running == nil {
		t.mu.Unlock()
		return nil
	}
	t.stop(errClosed)
	t.mu.Unlock()
	// Until both have ended they may write records, and these belong to the next daemon then.
	t.scaling <- struct{}{}
	defer func() { <-t.scaling }()
	t.wg.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running == nil {
		return nil
	}
	t.running = nil
	for _, s := range t.slots {
		s.letGo()
	}
	return t.lock.Close()
}

// Workers reports each slot's worker as the system shows it now. A worker that died and is about to be replaced is
// starting and has no PID.
func (t *Target) Workers(ctx context.Context) ([]fleet.Worker, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	// Without the records nothing could be started, stopped or adopted: then nothing is known.
	if _, err := t.records.list(); err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running == nil {
		return nil, errNotRunning
	}
	workers := make([]fleet.Worker, 0, len(t.slots))
	for _, n := range t.numbers() {
		w := t.slots[n].worker()
		if w.Phase != fleet.Gone {
			workers = append(workers, w)
		}
	}
	return workers, nil
}

// Status reports what happened since Start.
func (t *Target) Status() Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.status
}

// numbers returns the slots in order. t.mu is held.
func (t *Target) numbers() []int {
	ns := make([]int, 0, len(t.slots))
	for n := range t.slots {
		ns = append(ns, n)
	}
	slices.Sort(ns)
	return ns
}

// notify wakes whoever waits for a change. t.mu is held.
func (t *Target) notify() {
	close(t.changed)
	t.changed = make(chan struct{})
}
