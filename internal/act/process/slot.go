package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"tidemark/internal/fleet"
)

// slot is one place in the fleet, and the worker in it. Its goroutine alone starts and ends the worker:
//
//	(empty) --start--> Starting --healthy--> Serving
//	   ^                 |    ^--unhealthy-----|
//	   |                 |                     |
//	   +--dead, too late-+  +------------------+--dead, unhealthy too long--> (empty)
//	                     |  |
//	                     v  v
//	                   Draining (Scale lets it go) --ended--> the slot is removed
type slot struct {
	t      *Target
	n      int
	marker string        // the variable in its worker's environment
	wake   chan struct{} // Scale wants something
	saving sync.Mutex    // orders the writes of wish

	// The goroutine's own.
	former  *former // the worker that ended, until nothing of it is left
	logFrom int64   // where its own lines begin in the log

	// Guarded by t.mu.
	proc    *process // nil: no worker
	birth   birth
	wish    wish
	phase   fleet.Phase // Starting or Serving
	served  time.Time   // since when; zero: this worker never did
	detail  string
	victim  bool // Scale drains it
	deaths  int  // in a row, each soon after the start
	retryAt time.Time
	cpu     [2]usage // at the last two health checks
}

// former is an ended worker of which something may still run.
type former struct {
	birth
	seen     uint64    // when it was seen dead, in ticks since boot; 0: it was not seen
	deadline time.Time // then what is left is killed
}

type usage struct {
	at  time.Time
	cpu uint64 // ticks
}

func newSlot(t *Target, n int) *slot {
	return &slot{t: t, n: n, marker: markerName + "=" + t.records.path(n, "json"), wake: make(chan struct{}, 1), phase: fleet.Starting}
}

func (s *slot) id() string { return "slot-" + strconv.Itoa(s.n) }
func (s *slot) logPath() string {
	return filepath.Join(s.t.logs, s.t.opts.Fleet+"-"+strconv.Itoa(s.n)+".log")
}

// adopt reads the slot's record and takes hold of its worker. No shim is at work in the slot.
func (s *slot) adopt() (err error) {
	if s.wish, err = s.t.records.readWish(s.n); err != nil {
		return err
	}
	b, err := s.t.records.readBirth(s.n)
	if errors.Is(err, fs.ErrNotExist) {
		s.detail = "not started yet"
		return nil
	}
	if err != nil {
		return err
	}
	p, err := hold(b.identity)
	switch {
	case errors.Is(err, errGone):
		s.former = &former{birth: b, deadline: time.Now().Add(s.t.cfg.StopTimeout)}
		s.detail = "died while no daemon watched"
		return nil
	case err != nil:
		return err
	}
	s.settle(p, b)
	s.served = time.Now() // it may have
	if s.wish.Serving {
		s.phase, s.detail = fleet.Serving, s.aged("")
	}
	return nil
}

// settle makes p the slot's worker. t.mu is held.
func (s *slot) settle(p *process, b birth) {
	s.proc, s.birth, s.phase, s.served = p, b, fleet.Starting, time.Time{}
	s.detail = s.aged("waiting for its first healthy answer")
	s.resample(p, time.Now())
}

// aged adds to a detail that the worker was started with another configuration.
func (s *slot) aged(detail string) string {
	if s.birth.Digest == s.t.digest {
		return detail
	}
	if detail != "" {
		detail += "; "
	}
	return detail + "it was started with an earlier configuration"
}

// letGo gives the handle up. The slot's goroutine has ended.
func (s *slot) letGo() {
	if s.proc != nil {
		s.proc.release()
		s.proc = nil
	}
}

// worker describes the slot's worker as the system shows it. t.mu is held.
func (s *slot) worker() fleet.Worker {
	w := fleet.Worker{ID: s.id(), Address: s.birth.Address, Phase: fleet.Starting, Detail: s.detail}
	if w.Address == "" {
		w.Address = s.t.cfg.address(s.n)
	}
	alive := false
	if s.proc != nil {
		_, err := s.proc.stat()
		alive = err == nil
	}
	switch {
	case alive:
		w.PID, w.Started, w.Phase = s.proc.PID, s.birth.Started, s.phase
		if s.wish.Leaving || s.victim {
			w.Phase = fleet.Draining
		}
	case s.wish.Leaving:
		w.Phase = fleet.Gone
	case s.proc != nil:
		w.Detail = "it died and is being replaced"
	}
	return w
}

// save changes the slot's wish, on disk first.
func (s *slot) save(change func(*wish)) error {
	s.saving.Lock()
	defer s.saving.Unlock()
	s.t.mu.Lock()
	w := s.wish
	s.t.mu.Unlock()
	change(&w)
	if err := s.t.records.writeWish(s.n, w); err != nil {
		return err
	}
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	s.wish = w
	s.t.notify()
	return nil
}

// update changes what t.mu guards and wakes whoever waits for it.
func (s *slot) update(change func()) {
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	change()
	s.t.notify()
}

// poke wakes the slot's goroutine.
func (s *slot) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *slot) look() (p *process, w wish, victim bool, retryAt time.Time) {
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	return s.proc, s.wish, s.victim, s.retryAt
}

// run looks after the slot until it is removed or ctx ends. It leaves the worker running.
func (s *slot) run(ctx context.Context) {
	for ctx.Err() == nil {
		p, w, victim, retryAt := s.look()
		switch pauseFor := time.Until(retryAt); {
		case p != nil:
			s.attend(ctx, p)
		case s.former != nil:
			s.clear(ctx)
		case pauseFor > 0 && !w.Leaving:
			s.wait(ctx, pauseFor)
		case w.Leaving:
			if err := s.remove(); err == nil {
				return
			}
			s.wait(ctx, time.Second)
		case victim: // it died while Scale drained it: Scale decides
			s.wait(ctx, time.Hour)
		default:
			s.start(ctx)
		}
	}
}

// wait ends after d, when something is wanted, or with ctx.
func (s *slot) wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-s.wake:
	case <-t.C:
	}
}

// start starts a worker in the empty slot.
func (s *slot) start(ctx context.Context) {
	b, p, err := s.fork(ctx)
	switch {
	case ctx.Err() != nil && p == nil:
	case err != nil:
		s.fail(err.Error())
	default:
		s.update(func() { s.settle(p, b) })
	}
}

func (s *slot) fork(ctx context.Context) (b birth, p *process, err error) {
	held, err := lock(ctx, s.t.records.path(s.n, "lock"))
	if err != nil {
		return b, nil, err
	}
	defer held.Close()
	b = birth{Address: s.t.cfg.address(s.n), Digest: s.t.digest}
	if err := s.save(func(w *wish) { w.Serving = false }); err != nil {
		return b, nil, err
	}
	if err := s.t.records.forget(s.n, "pid"); err != nil {
		return b, nil, err
	}
	if err := free(b.Address); err != nil {
		return b, nil, err
	}
	if s.t.cgroups != "" {
		dir := filepath.Join(s.t.cgroups, s.id())
		if err := os.MkdirAll(dir, 0o755); err == nil {
			b.Cgroup = dir
		}
	}
	log, from, err := openLog(s.logPath())
	if err != nil {
		return b, nil, err
	}
	defer log.Close()
	s.logFrom = from
	b.Started = time.Now()
	p, err = s.t.launch(s.n, b.Address, s.marker, b.Cgroup, held, log)
	if p != nil {
		b.identity = p.identity
	}
	return b, p, err
}

// fail notes that the slot's worker could not be started, did not become healthy or died, and when to try again.
func (s *slot) fail(why string) {
	s.update(func() {
		s.deaths++
		d := s.t.cfg.Restart.delay(s.deaths)
		s.retryAt = time.Now().Add(d)
		s.phase, s.detail = fleet.Starting, why
		if d > 0 {
			s.detail += "; is started again after " + fleet.Elapsed(d)
		}
	})
}

// delay is the pause after so many deaths in a row: none after the first, then doubling.
func (r Restart) delay(deaths int) time.Duration {
	if deaths < 2 {
		return 0
	}
	d := r.BackoffMin
	for i := 2; i < deaths && d < r.BackoffMax; i++ {
		d *= 2
	}
	return min(d, r.BackoffMax)
}

// bury takes leave of a worker that has ended.
func (s *slot) bury(p *process, why string, deadline time.Time) {
	seen := ticksNow()
	how := p.fate()
	p.release()
	tail := logTail(s.logPath(), s.logFrom)
	s.t.mu.Lock()
	b, leaving, served := s.birth, s.wish.Leaving, s.served
	b.identity = p.identity
	s.proc, s.birth = nil, birth{}
	if !leaving {
		s.t.status.Restarts++
	}
	if !served.IsZero() && time.Since(served) >= s.t.cfg.Restart.BackoffMax {
		s.deaths = 0
	}
	s.t.mu.Unlock()
	s.former = &former{birth: b, seen: seen, deadline: deadline}
	if leaving {
		return
	}
	if why == "" {
		why = "it " + how + " after " + fleet.Elapsed(time.Since(b.Started))
	}
	if tail != "" {
		why += "; it last wrote: " + tail
	}
	s.fail(why)
}

// clear ends what a worker has left running. Its members get the stop signal once, and are killed after the deadline.
func (s *slot) clear(ctx context.Context) {
	f := s.former
	told := map[identity]bool{}
	for every := 5 * time.Millisecond; ; every = min(2*every, 250*time.Millisecond) {
		left := remains(f.identity, f.Cgroup, s.marker, f.seen)
		if len(left) == 0 {
			break
		}
		if len(told) == 0 {
			s.update(func() { s.detail += fmt.Sprintf("; it left %d processes running, which are stopped first", len(left)) })
		}
		sig, _ := s.t.cfg.stopSignal()
		kill := !time.Now().Before(f.deadline)
		if kill {
			sig = killSignal
		}
		for _, id := range left {
			if told[id] && !kill {
				continue
			}
			told[id] = true
			if p, err := hold(id); err == nil {
				_ = p.signal(sig)
				p.release()
			}
		}
		if pause(ctx, every) != nil {
			return
		}
	}
	if f.Cgroup != "" {
		_ = os.Remove(f.Cgroup)
	}
	s.former = nil
}

// remove forgets the slot. Nothing of its worker is left.
func (s *slot) remove() error {
	err := s.t.records.forget(s.n, "pid")
	if err == nil {
		err = s.t.records.forget(s.n, "json")
	}
	s.update(func() {
		if err != nil {
			s.detail = err.Error()
			return
		}
		delete(s.t.slots, s.n)
		if s.t.replacing == s.n {
			s.t.replacing = 0
		}
		if len(s.t.slots) == 0 && s.t.cgroups != "" {
			_ = os.Remove(s.t.cgroups) // made again when needed
		}
	})
	return err
}

// stop asks the worker to finish and exit, waits, and kills it as the last resort. sent is when it was asked before, in
// ticks since boot; 0: it was not. The result is false when ctx ended first.
//
// Only the main process is asked: a master passes the word on as its workers can bear it. What it leaves behind is
// asked next (clear).
func (s *slot) stop(ctx context.Context, p *process, sent uint64) (deadline time.Time, done bool) {
	left := s.t.cfg.StopTimeout
	if sent == 0 {
		sig, _ := s.t.cfg.stopSignal()
		switch err := p.signal(sig); {
		case err != nil:
			s.update(func() { s.detail = "cannot be stopped: " + err.Error() })
		case s.leaving():
			// Lost, this costs a second signal after a restart, to a worker that has no requests.
			_ = s.save(func(w *wish) { w.StopSent = ticksNow() })
		}
	} else {
		left -= sinceBoot() - time.Duration(sent)*tick
	}
	deadline = time.Now().Add(left)
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return deadline, false
	case <-p.ended:
		return deadline, true
	case <-timer.C:
	}
	if err := p.signal(killSignal); err == nil {
		s.update(func() {
			s.t.status.Killed++
			s.detail = fmt.Sprintf("did not stop within %s of SIG%s and was killed", fleet.Elapsed(s.t.cfg.StopTimeout), s.t.cfg.StopSignal)
			s.t.status.LastKill = s.id() + " " + s.detail
		})
	}
	select {
	case <-ctx.Done():
		return deadline, false
	case <-p.ended:
		return deadline, true
	}
}

func (s *slot) leaving() bool {
	_, w, _, _ := s.look()
	return w.Leaving
}
