package process

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"tidemark/internal/act/health"
	"tidemark/internal/fleet"
)

const (
	killSignal = syscall.SIGKILL
	// firstProbe is the pause between the checks of a worker that is starting; it doubles up to the interval.
	firstProbe = 10 * time.Millisecond
)

// attendance is what attend knows about the worker while it looks after it.
type attendance struct {
	failures int
	probe    time.Duration
	// until is when a worker that does not serve is given up; once is true when it did serve before.
	until time.Time
	once  bool
}

// attend looks after a running worker: checks its health, stops it when that is wanted, and notices its end. It returns when
// the worker has ended, or ctx.
func (s *slot) attend(ctx context.Context, p *process) {
	checking, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()

	a := s.arrive(p)
	timer := time.NewTimer(0)
	defer timer.Stop()
	verdict := make(chan error, 1)
	for {
		if _, w, _, _ := s.look(); w.Leaving {
			if deadline, done := s.stop(ctx, p, w.StopSent); done {
				s.bury(p, "", deadline)
			}
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-p.ended:
			s.bury(p, "", time.Now().Add(s.t.cfg.StopTimeout))
			return
		case <-timer.C:
			wg.Go(func() { verdict <- s.check(checking, p) })
		case err := <-verdict:
			if why := s.judge(p, &a, err); why != "" {
				if deadline, done := s.stop(ctx, p, 0); done {
					s.bury(p, why, deadline)
				}
				return
			}
			timer.Reset(a.next(s))
		}
	}
}

// arrive says how long the worker has to become healthy. One that an earlier daemon started may have used its time up; then
// it is one that became unhealthy.
func (s *slot) arrive(p *process) attendance {
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	now := time.Now()
	grace := s.t.cfg.StartGrace - (sinceBoot() - time.Duration(p.Start)*tick)
	if s.phase == fleet.Serving || grace <= 0 {
		return attendance{once: true, until: now.Add(s.t.cfg.Health.UnhealthyAfter), probe: firstProbe}
	}
	return attendance{until: now.Add(grace), probe: firstProbe}
}

// next is the pause until the next check.
func (a *attendance) next(s *slot) time.Duration {
	interval := s.t.cfg.Health.Interval
	s.t.mu.Lock()
	serving := s.phase == fleet.Serving
	s.t.mu.Unlock()
	if serving {
		a.probe = firstProbe
		return interval
	}
	d := min(a.probe, interval)
	a.probe *= 2
	return d
}

// check asks the worker, and makes sure that the answer is its own before it begins to serve.
func (s *slot) check(ctx context.Context, p *process) error {
	s.t.mu.Lock()
	b, serving := s.birth, s.phase == fleet.Serving
	s.t.mu.Unlock()
	if err := health.Check(ctx, b.Address, s.t.cfg.Health.Path, s.t.cfg.Health.Timeout); err != nil || serving {
		return err
	}
	if b.Cgroup != "" && !cgroupMembers(b.Cgroup)[p.PID] {
		s.update(func() { s.t.status.Cgroup = s.id() + " could not join its control group " + b.Cgroup })
	}
	if who := foreign(p.identity, b.Cgroup, s.marker, b.Address); who != "" {
		return fmt.Errorf("%s is answered by %s, which is not this worker", b.Address, who)
	}
	return nil
}

// judge takes note of one health check, and returns why the worker must be replaced, or "".
func (s *slot) judge(p *process, a *attendance, err error) (why string) {
	if errors.Is(err, context.Canceled) {
		return ""
	}
	now := time.Now()
	var change func(*wish)
	s.update(func() {
		s.sample(p, now)
		if s.victim || s.wish.Leaving {
			return
		}
		switch {
		case err == nil:
			a.failures, a.once, s.detail = 0, true, s.aged("")
			if s.phase == fleet.Serving {
				break
			}
			s.phase, s.served = fleet.Serving, now
			s.resample(p, now) // what it used to start is not load
			if s.t.replacing == s.n {
				s.t.replacing = 0
			}
			change = func(w *wish) { w.Serving = true }
		case s.phase == fleet.Serving:
			a.failures++
			s.detail = s.aged(fmt.Sprintf("health check failed %d times: %v", a.failures, err))
			if a.failures < s.t.cfg.Health.Failures {
				break
			}
			s.phase, a.until = fleet.Starting, now.Add(s.t.cfg.Health.UnhealthyAfter)
			change = func(w *wish) { w.Serving = false }
		default:
			s.detail = s.aged("health check: " + err.Error())
			why = s.overdue(a, now, err)
		}
	})
	if change != nil {
		// What is lost here costs a health check after a restart.
		_ = s.save(change)
	}
	return why
}

// resample begins the notes of the worker's CPU time anew. t.mu is held.
func (s *slot) resample(p *process, now time.Time) {
	s.cpu = [2]usage{}
	s.sample(p, now)
	s.cpu[0] = s.cpu[1]
}

// sample notes the worker's CPU time now and then, for Scale to see how busy it has been lately. t.mu is held.
func (s *slot) sample(p *process, now time.Time) {
	if now.Sub(s.cpu[1].at) < time.Second {
		return
	}
	if st, err := p.stat(); err == nil {
		s.cpu[0], s.cpu[1] = s.cpu[1], usage{now, st.CPU}
	}
}

// overdue returns why a worker that does not serve is replaced now, or "". t.mu is held.
//
// What made one worker unhealthy may have made all of them so (a database that is down), and then a restart of all
// would take away what is left. So they are replaced one at a time, the next when the last serves.
func (s *slot) overdue(a *attendance, now time.Time, err error) string {
	switch {
	case now.Before(a.until):
		return ""
	case !a.once:
		return fmt.Sprintf("was not healthy within %s of its start: %v", fleet.Elapsed(s.t.cfg.StartGrace), err)
	case s.t.replacing != 0 && s.t.replacing != s.n:
		s.detail += "; waits until " + s.t.slots[s.t.replacing].id() + " is replaced"
		return ""
	}
	s.t.replacing = s.n
	return fmt.Sprintf("was unhealthy for %s: %v", fleet.Elapsed(s.t.cfg.Health.UnhealthyAfter), err)
}
