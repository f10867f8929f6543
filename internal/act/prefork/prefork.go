// Package prefork moves the number of HTTP workers of a prefork master (Odoo, gunicorn, the reference registry) that runs
// on this machine, by the signals that such masters take. It owns how the master and its workers are found, which worker
// leaves, and in which order and pace signals are sent. It leaves to others how many workers there should be, and
// the master itself: it never starts, stops or configures one.
//
// A master shares one listening socket with its workers, so its workers have no address, no balancer is needed, and none can
// be drained before it is told to finish. The length of the accept queue is fixed by Odoo at its start, at 8 for each
// configured worker: start it with the most workers it may get, and let Tidemark shrink it.
package prefork

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	"tidemark/internal/act/docker"
	"tidemark/internal/act/sockets"
	"tidemark/internal/act/wait"
	"tidemark/internal/fleet"
)

// Target is one master and its HTTP workers. Workers are counted anew each time; the one thing remembered is the step down
// that is under way, because no master tells its own target.
//
//	            SIGTTIN, a new worker seen
//	          +----------------------------+
//	          v                            |
//	      counted --- too few -------------+
//	        |  ^
//	too many|  | a worker has gone (or SIGTTIN took the step back)
//	SIGTTOU v  |
//	      lowered --- Odoo: SIGINT to the least utilised worker; the others: the master does it
type Target struct {
	cfg     Config
	flavour flavour
	turn    chan struct{} // held by the one Scale that runs

	container *docker.Inside // nil without one

	mu     sync.Mutex
	step   *step
	main   ident // of the container's main process, once it was found here
	inside bool  // the container's processes may not be signalled from here
}

// step is a lowered target that no worker has left for yet.
type step struct {
	master ident
	before []process // the workers when it was lowered
	told   ident     // the worker that was told to finish; zero while there is none
}

// poll is how often the processes are looked at while one waits for a change.
const poll = 20 * time.Millisecond

// New makes a target of a valid configuration. It touches nothing: a master may be started later.
func New(cfg Config) (*Target, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	t := &Target{cfg: cfg, flavour: flavours[cfg.Flavour], turn: make(chan struct{}, 1)}
	if cfg.Container != "" {
		t.container = docker.NewInside(cfg.Socket, cfg.Container)
	}
	return t, nil
}

// Close lets go of the connections to the engine. The master stays as it is.
func (t *Target) Close() error {
	if t.container == nil {
		return nil
	}
	return t.container.Close()
}

// Workers lists the HTTP workers as they are now. A master that is away is an error; one that has no worker yet has none.
// Detail is "busy" or "idle", or says why that is not known.
func (t *Target) Workers(context.Context) ([]fleet.Worker, error) {
	v, err := t.look()
	if err != nil {
		return nil, err
	}
	boot := v.boot
	if !v.inside {
		if boot, err = bootTime(); err != nil {
			return nil, err
		}
	}
	leaving := t.leaving(v)
	load, loadErr := t.load(v)
	workers := make([]fleet.Worker, 0, len(v.workers))
	for _, p := range v.workers {
		held, known := load.Held[p.pid]
		phase := t.phase(p, held)
		if p.ident == leaving {
			phase = fleet.Draining
		}
		detail := "idle"
		switch {
		case loadErr != nil:
			detail = "not known whether busy: " + loadErr.Error()
		case !known:
			continue // it ended while we looked
		case held > 0:
			detail = "busy"
		}
		workers = append(workers, fleet.Worker{
			ID:      p.id(),
			PID:     v.local(p),
			Started: boot.Add(time.Duration(p.start) * tick),
			Phase:   phase,
			Detail:  detail,
		})
	}
	return workers, nil
}

// phase of a worker that nobody asked to leave.
func (t *Target) phase(p process, held int) fleet.Phase {
	if held > 0 || p.age >= t.cfg.Settle && t.flavour.ready(p) {
		return fleet.Serving
	}
	return fleet.Starting
}

// load reads who is busy. The master goes first: its network namespace counts.
func (t *Target) load(v view) (sockets.Load, error) {
	if v.inside {
		return sockets.Load{}, errors.New("the processes in the container cannot be seen from here")
	}
	pids := []int{v.master.pid}
	for _, w := range v.workers {
		pids = append(pids, w.pid)
	}
	return sockets.Look(pids, t.cfg.Port)
}

// Scale moves the fleet to n workers, one signal at a time, and returns when exactly n serve. It goes on from what is there,
// also after an error. Raising and lowering are level-triggered: a count that overshoots is corrected.
func (t *Target) Scale(ctx context.Context, n int, drain fleet.Drain) error {
	if n < 1 {
		return fmt.Errorf("scale to %d workers: a master without workers serves nobody; the least is 1", n)
	}
	select {
	case t.turn <- struct{}{}:
		defer func() { <-t.turn }()
	case <-ctx.Done():
		return fmt.Errorf("wait for an earlier scaling of the same master: %w", ctx.Err())
	}
	v, err := t.look()
	if err != nil {
		return err
	}
	// Each worker takes two moves, lower and release. A master that a person or its own limits move at the same
	// time may take more, but not for ever.
	for range 3*max(n-len(v.workers), len(v.workers)-n) + 10 {
		s := t.open(v)
		heading := len(v.workers)
		if s != nil {
			heading--
		}
		switch {
		case heading < n:
			err = t.raise(ctx, v, s)
		case s != nil:
			err = t.release(ctx, v, s, drain)
		case heading > n:
			err = t.lower(ctx, v, n)
		default:
			if v, err = t.serving(ctx, v); err != nil || len(v.workers) == n {
				return err
			}
		}
		if err != nil && !errors.Is(err, errChanged) {
			return err
		}
		// A master replaces a worker when it reaps it, or not: only then does the count tell.
		_, _ = t.await(ctx, t.cfg.StepTimeout, func(now view) bool { return now.ended == 0 })
		if err := wait.For(ctx, t.cfg.Pace); err != nil {
			return fmt.Errorf("scaling the %s master %d, which has %d of %d workers: %w", t.cfg.Flavour, v.master.pid, len(v.workers), n, err)
		}
		// A master that restarts now is waited for; one that was away to begin with is not.
		if v, err = t.await(ctx, t.cfg.StepTimeout, func(view) bool { return true }); err != nil {
			return err
		}
	}
	return fmt.Errorf("the %s master %d has %d workers and does not come to rest at %d: does somebody else scale it, or do its workers crash? Look in its log", t.cfg.Flavour, v.master.pid, len(v.workers), n)
}

// raise asks the master for one worker more, and waits until there is a new one.
func (t *Target) raise(ctx context.Context, v view, s *step) error {
	if len(v.workers) == 0 {
		// It has just started, or all of its workers restart: it would count a signal on top of its own number.
		if now, err := t.await(ctx, t.cfg.StepTimeout, func(now view) bool { return len(now.workers) > 0 }); err == nil || now.master.pid == 0 {
			return err
		}
	}
	v, err := t.signal(v, v.master.ident, syscall.SIGTTIN, 0)
	if err != nil {
		return err
	}
	if s != nil {
		t.close() // the step down is taken back: the worker that leaves will be replaced
		return t.taken(ctx, syscall.SIGTTIN)
	}
	if err := t.taken(ctx, syscall.SIGTTIN); err != nil {
		return err
	}
	now, err := t.await(ctx, t.cfg.StepTimeout, func(now view) bool { return now.remain(v.workers) < len(now.workers) })
	if err != nil {
		return fmt.Errorf("the %s master %d took SIGTTIN and shows no new worker; it has %d: look in its log, or scale again (%w)", t.cfg.Flavour, v.master.pid, len(now.workers), err)
	}
	return nil
}

// lower makes the master want one worker less. One that picks sends it away itself. A worker that has only just been forked
// may turn out to be one for cron, so the count is trusted once all have settled.
func (t *Target) lower(ctx context.Context, v view, n int) error {
	now, err := t.serving(ctx, v)
	if err != nil || len(now.workers) != len(v.workers) {
		return err
	}
	v, err = t.signal(v, v.master.ident, syscall.SIGTTOU, n)
	if err != nil {
		return err
	}
	t.mu.Lock()
	t.step = &step{master: v.master.ident, before: v.workers}
	t.mu.Unlock()
	return t.taken(ctx, syscall.SIGTTOU)
}

// release waits until one worker has left for a lowered target. Where the master does not choose it, it is chosen here, and told
// to finish; told again when an earlier Scale gave up on it.
func (t *Target) release(ctx context.Context, v view, s *step, drain fleet.Drain) error {
	if v.master.pending.has(syscall.SIGTTOU) {
		return t.taken(ctx, syscall.SIGTTOU) // left from an earlier Scale: a worker that goes now would be replaced
	}
	what := fmt.Sprintf("the %s master %d took SIGTTOU, and all of its %d workers still run", t.cfg.Flavour, v.master.pid, len(v.workers))
	if !t.flavour.picks {
		victim, err := t.victim(ctx, v, s)
		if err != nil {
			return err
		}
		if drain != nil {
			if err := drain(ctx, fleet.Worker{ID: victim.id(), PID: v.local(victim), Phase: fleet.Serving}); err != nil {
				return fmt.Errorf("drain worker %d: %w", victim.pid, err)
			}
		}
		if _, err := t.signal(v, victim.ident, syscall.SIGINT, 0); err != nil {
			return err
		}
		t.mu.Lock()
		s.told = victim.ident
		t.mu.Unlock()
		what = fmt.Sprintf("worker %d of the %s master %d was told to finish (SIGINT) and still runs", victim.pid, t.cfg.Flavour, v.master.pid)
	}
	_, err := t.await(ctx, t.cfg.StopTimeout, func(now view) bool { return t.open(now) != s })
	switch {
	case err == nil:
		return nil
	case t.flavour.picks && ctx.Err() == nil:
		t.close()
		return fmt.Errorf("%s: a long request, a worker that hangs, or a signal that was lost, which cannot be told apart. Scaling again sends it again (%w)", what, err)
	}
	return fmt.Errorf("%s: a long request, or it hangs. Nothing else was stopped; scaling again waits for it, and its own time limit (limit_time_real) ends it (%w)", what, err)
}

// victim is the worker that was told before, or else the least utilised one that is ready to be told: idle before busy,
// then the one that has computed least, because it has the least to lose in caches and connections.
func (t *Target) victim(ctx context.Context, v view, s *step) (process, error) {
	if p, ok := v.worker(s.told); ok {
		return p, nil
	}
	var best process
	_, err := t.await(ctx, t.cfg.StepTimeout+t.cfg.Settle, func(now view) bool {
		candidates := slices.DeleteFunc(slices.Clone(now.workers), func(p process) bool {
			return p.age < t.cfg.Settle || !t.flavour.ready(p)
		})
		if len(candidates) == 0 {
			return false
		}
		load, _ := t.load(now) // not known is not busy: SIGINT lets a busy worker finish as well
		best = slices.MinFunc(candidates, func(a, b process) int {
			return cmp.Or(cmp.Compare(load.Held[a.pid], load.Held[b.pid]), cmp.Compare(a.cpu, b.cpu), cmp.Compare(a.pid, b.pid))
		})
		return true
	})
	if err != nil {
		return process{}, fmt.Errorf("no worker of the %s master %d is ready to be told to finish (%w)", t.cfg.Flavour, v.master.pid, err)
	}
	return best, nil
}

// serving waits until all workers serve, or until their number changes.
func (t *Target) serving(ctx context.Context, v view) (view, error) {
	now, err := t.await(ctx, t.cfg.StepTimeout+t.cfg.Settle, func(now view) bool {
		if len(now.workers) != len(v.workers) {
			return true
		}
		return !slices.ContainsFunc(now.workers, func(p process) bool {
			return t.phase(p, 0) != fleet.Serving
		})
	})
	if err != nil {
		return now, fmt.Errorf("the %s master %d has %d workers, but not all have started to serve (%w)", t.cfg.Flavour, v.master.pid, len(now.workers), err)
	}
	return now, nil
}

// open returns the step down that is under way, if there is one, and ends it when a worker has left for it.
func (t *Target) open(v view) *step {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.step != nil && t.done(t.step, v) {
		t.step = nil
	}
	return t.step
}

// close takes a step down back.
func (t *Target) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.step = nil
}

// done reports whether a worker has left for a lowered target.
func (t *Target) done(s *step, v view) bool {
	remain := v.remain(s.before)
	switch {
	case s.master != v.master.ident:
		return true // a new master has its own target
	case t.flavour.picks:
		return remain < len(s.before)
	case s.told != ident{}:
		_, runs := v.worker(s.told)
		return !runs
	}
	// One may have left by itself: it counts, unless the master had replaced it before its target was lowered.
	return len(v.workers) < len(s.before) || remain == 0
}

// leaving is the worker that is about to leave, as far as that is known.
func (t *Target) leaving(v view) ident {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.step
	switch {
	case s == nil || t.done(s, v):
		return ident{}
	case t.flavour.next != nil:
		return t.flavour.next(s.before)
	}
	return s.told
}

// taken waits until the master has taken a signal out of the kernel's hands: until then another of its kind would be lost.
func (t *Target) taken(ctx context.Context, sig syscall.Signal) error {
	now, err := t.await(ctx, t.cfg.StepTimeout, func(now view) bool { return !now.master.pending.has(sig) })
	if err != nil {
		return fmt.Errorf("the %s master %d does not take signals; it is in state %c, where T is stopped (kill -CONT %[2]d) and D waits for a disk (%[4]w)", t.cfg.Flavour, now.master.pid, now.master.state, err)
	}
	return nil
}

// await looks until ok, for at most d, and returns what it saw last. A master that is away meanwhile may come back.
func (t *Target) await(ctx context.Context, d time.Duration, ok func(view) bool) (view, error) {
	giveUp := time.NewTimer(d)
	defer giveUp.Stop()
	next := time.NewTicker(poll)
	defer next.Stop()
	for {
		v, err := t.look()
		if err == nil && ok(v) {
			return v, nil
		}
		select {
		case <-next.C:
		case <-giveUp.C:
			if err == nil {
				err = fmt.Errorf("waited %s", d)
			}
			return v, err
		case <-ctx.Done():
			return v, ctx.Err()
		}
	}
}
