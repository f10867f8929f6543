// Package systemd is the target that scales the instances of a template unit (odoo@1.service, odoo@2.service ...) over systemd's D-Bus
// interface. It owns which instances there are, when they are ready, which one leaves, and that it leaves gracefully. How an instance is
// run, confined, stopped and started again when it dies is the unit file's to say, and systemd's to do; how many there should be
// is control's.
//
// Nothing is kept anywhere but at systemd, which finishes what it was told to, also when the daemon that told it is killed.
package systemd

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"tidemark/internal/act/copies"
	"tidemark/internal/act/health"
	"tidemark/internal/fleet"
)

// Target scales one template unit.
type Target struct {
	cfg     Config
	manager *manager
	watch   *health.Watch
	meter   copies.Meter
	turn    chan struct{} // held by the one Scale that runs

	mu      sync.Mutex
	victims map[string]bool // units that Scale drains
}

// New makes a target of a valid configuration. It touches nothing.
func New(cfg Config) (*Target, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Target{
		cfg: cfg, manager: &manager{user: cfg.Manager == "user"}, watch: health.NewWatch(cfg.Health), turn: make(chan struct{}, 1), victims: map[string]bool{},
	}, nil
}

// Close lets go of the connection to systemd. The units stay as they are.
func (t *Target) Close() error {
	t.manager.close()
	return nil
}

// member is a loaded instance of the fleet.
type member struct {
	unit
	slot   int
	worker fleet.Worker // Gone when it does not run and nobody starts it
}

// Workers lists the instances that run or are being started or stopped. A systemd that does not answer is an error, and so is a
// template that is not there.
func (t *Target) Workers(ctx context.Context) ([]fleet.Worker, error) {
	members, err := t.look(ctx)
	if err != nil {
		return nil, err
	}
	if len(members) == 0 {
		if err := t.template(ctx); err != nil {
			return nil, err
		}
	}
	var present []member
	workers := make([]fleet.Worker, 0, len(members))
	for _, m := range members {
		if m.worker.Phase != fleet.Gone {
			workers, present = append(workers, m.worker), append(present, m)
		}
	}
	t.meter.Note(ctx, copies.Lives(present, member.copy), t.cpuTime)
	return workers, nil
}

// template returns an error when there is no unit file that can be started.
func (t *Target) template(ctx context.Context) error {
	switch state, err := t.manager.loaded(ctx, t.cfg.name(1)); {
	case err != nil:
		return err
	case state == "not-found":
		return fmt.Errorf("there is no template unit %s: put its file in /etc/systemd/system and run systemctl daemon-reload", t.cfg.template())
	case state != "loaded":
		return fmt.Errorf("the unit %s cannot be started, it is %s: systemctl status %[1]s says why", t.cfg.name(1), state)
	}
	return nil
}

// look asks systemd for the fleet's instances, by slot, and those that run how they are.
func (t *Target) look(ctx context.Context) ([]member, error) {
	units, err := t.manager.list(ctx, t.cfg.pattern())
	if err != nil {
		return nil, err
	}
	var members []member
	for _, u := range units {
		if slot := t.cfg.slot(u.name); slot > 0 {
			members = append(members, member{unit: u, slot: slot})
		}
	}
	slices.SortFunc(members, func(a, b member) int { return cmp.Compare(a.slot, b.slot) })
	var g errgroup.Group
	g.SetLimit(64)
	for i := range members {
		g.Go(func() error {
			members[i].worker = t.worker(ctx, members[i])
			return nil
		})
	}
	_ = g.Wait() // none fails
	gone := func(name string) bool {
		return !slices.ContainsFunc(members, func(m member) bool { return m.name == name && m.worker.Phase != fleet.Gone })
	}
	t.watch.Forget(gone)
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.victims, func(name string, _ bool) bool { return gone(name) })
	return members, nil
}

func (t *Target) worker(ctx context.Context, m member) fleet.Worker {
	w := fleet.Worker{ID: m.name, Started: m.started}
	if t.cfg.Ports.Given() {
		w.Address = t.cfg.Ports.Address(m.slot)
	}
	w.PID = copies.Local(m.pid, m.name)
	switch m.active {
	case "active", "reloading":
		w.Phase = fleet.Starting
		who := health.Subject{ID: m.name, Started: m.started, PID: w.PID}
		serves, err := t.watch.Serves(ctx, who, func(ctx context.Context) error {
			if w.Address == "" { // systemd's word, which it gives for a program that has only just been executed
				return stays(m.started)
			}
			return health.Check(ctx, w.Address, t.cfg.Health.Path, t.cfg.Health.Timeout)
		})
		if serves {
			w.Phase = fleet.Serving
		}
		w.Detail = figures(m.service)
		if err != nil {
			w.Detail = err.Error()
		}
	case "activating":
		w.Phase, w.Detail = fleet.Starting, "systemd is starting it ("+m.sub+")"
		if m.sub == "auto-restart" {
			w.Detail = fmt.Sprintf("%s, %d times so far, and is being started again", m.ending(), m.restarts+1)
		}
	case "deactivating":
		w.Phase, w.Detail = fleet.Draining, "systemd is stopping it ("+m.sub+")"
	default: // inactive, failed
		if m.job == "start" || m.job == "restart" {
			w.Phase, w.Detail = fleet.Starting, "systemd is about to start it"
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if w.Phase != fleet.Gone && (t.victims[m.name] || m.job == "stop") {
		w.Phase = fleet.Draining
	}
	return w
}

// stay is how long an instance that cannot be asked must have run to count as serving.
const stay = time.Second

func stays(started time.Time) error {
	if time.Since(started) < stay {
		return fmt.Errorf("it has run for less than %v", stay)
	}
	return nil
}

// ending says how the life before ended.
func (s service) ending() string {
	if s.result == "exit-code" || s.result == "success" {
		return fmt.Sprint("it ended with exit code ", s.status)
	}
	return fmt.Sprintf("it ended (%s, %d)", s.result, s.status)
}

// figures are those of the unit's control group, as far as they are accounted for.
func figures(s service) string {
	var parts []string
	if s.cpu != math.MaxUint64 {
		parts = append(parts, fmt.Sprintf("%v of CPU time", (time.Duration(s.cpu)).Round(10*time.Millisecond)))
	}
	if s.memory != math.MaxUint64 {
		parts = append(parts, fmt.Sprintf("%d MiB", s.memory>>20))
	}
	return strings.Join(parts, ", ")
}

// copy is the member as the choice of who leaves sees it.
func (m member) copy() copies.Copy {
	return copies.Copy{Life: copies.Life{ID: m.name, Started: m.started}, Slot: m.slot, Made: m.started, Serves: m.worker.Phase == fleet.Serving}
}

// cpuTime is what the unit's control group has used, or, where systemd does not account for it (cgroups of version 1 without
// CPUAccounting=yes), its processes.
func (t *Target) cpuTime(ctx context.Context, copy copies.Life) (uint64, error) {
	if used := t.manager.cpuTime(ctx, copy.ID); used != math.MaxUint64 {
		return used, nil
	}
	units, err := t.manager.list(ctx, copy.ID)
	if err != nil {
		return 0, err
	}
	if len(units) == 0 {
		return 0, nil // it has gone
	}
	pids, err := t.manager.processes(ctx, copy.ID)
	if err != nil {
		return 0, err
	}
	var ticks uint64
	for _, pid := range pids {
		n, err := processTicks(pid)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	const tick = uint64(10 * time.Millisecond)
	return ticks * tick, nil
}

// processTicks is the CPU time that a process and the children that it has reaped have used, in ticks of 10 ms; 0 when it has ended.
func processTicks(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) { // the latter when it ended after the file was opened
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	// The name in parentheses may hold anything. Field numbers are those of proc(5), less the two that come before.
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < 17-2 {
		return 0, fmt.Errorf("process %d: stat not understood: %q", pid, b)
	}
	var sum uint64
	for _, field := range f[14-3 : 17-2] { // utime, stime, cutime, cstime
		n, err := strconv.ParseUint(field, 10, 63)
		if err != nil {
			return 0, fmt.Errorf("process %d: stat not understood: %q", pid, b)
		}
		sum += n
	}
	return sum, nil
}
