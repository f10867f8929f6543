package docker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"tidemark/internal/act/copies"
	"tidemark/internal/act/wait"
	"tidemark/internal/fleet"
)

const (
	firstLook, lastLook = 20 * time.Millisecond, 500 * time.Millisecond // between two looks at the engine; it doubles
	making              = time.Minute                                   // for the engine to make and start one copy
	madeAtOnce          = 4
	givenUp             = 3 // starts in vain after which Scale reports instead of waiting on
)

// scaling is one Scale under way. It looks, takes the steps that are due, and looks again:
//
//	(none) --create--> created --start--> starting --fit--> serving
//	                      |                  |                 | drained
//	   half made: removed |                  v                 v
//	                      +--------------- leaving (renamed) --stop, remove--> (none)
type scaling struct {
	*Target
	n         int
	drain     fleet.Drain
	stop      context.Context // of what stops copies
	wg        sync.WaitGroup
	leaving   map[string]bool // ids that are being stopped
	revived   map[string]bool // ids that had ended and were started again
	conflicts int             // names found taken, in a row

	errsMu sync.Mutex
	errs   []error
}

// Scale moves the fleet to n workers, the service's own containers among them. New copies take the lowest free slots; the least
// utilised leave, those first that do not serve. A copy is drained, then stopped by its own stop signal and, after its own stop time-out,
// killed. When drain fails or ctx ends during it, the copy goes on serving. What was begun when ctx ends goes on at the engine; the next
// Scale finishes it. Calls are carried out one after another.
func (t *Target) Scale(ctx context.Context, n int, drain fleet.Drain) error {
	if n < 0 {
		return fmt.Errorf("%d workers are asked for", n)
	}
	select {
	case t.turn <- struct{}{}:
		defer func() { <-t.turn }()
	case <-ctx.Done():
		return fmt.Errorf("wait for the scaling before: %w", ctx.Err())
	}
	stop, cancel := context.WithCancel(ctx)
	s := &scaling{Target: t, n: n, drain: drain, stop: stop, leaving: map[string]bool{}, revived: map[string]bool{}}
	defer s.wg.Wait()
	defer cancel()
	return s.run(ctx)
}

func (s *scaling) run(ctx context.Context) error {
	return wait.Until(ctx, firstLook, lastLook, func() (p wait.Progress, err error) {
		v, err := s.look(ctx)
		if err != nil {
			return p, err
		}
		for i := range v.members {
			v.members[i].leaving = v.members[i].leaving || s.leaving[v.members[i].ID]
		}
		p.State = s.state(v)
		acted, err := s.step(ctx, v)
		p.Acted, p.Done = acted && s.conflicts == 0, s.settled(v)
		return p, err
	})
}

// state says in words how far the scaling is.
func (s *scaling) state(v *view) string {
	serving, stopping := 0, 0
	var troubles []string
	for _, m := range v.members {
		switch {
		case m.leaving:
			stopping++
		case m.worker.Phase == fleet.Serving:
			serving++
		case m.worker.Phase == fleet.Starting:
			troubles = append(troubles, m.worker.ID+": "+m.worker.Detail)
		}
	}
	if stopping > 0 {
		troubles = append(troubles, fmt.Sprintf("%d still stopping", stopping))
	}
	return strings.TrimSuffix(fmt.Sprintf("%d of %d workers serve: %s", serving, s.n, strings.Join(troubles, "; ")), ": ")
}

// settled reports whether n workers serve and nothing else is there.
func (s *scaling) settled(v *view) bool {
	serving := 0
	for _, m := range v.members {
		switch {
		case m.worker.Phase == fleet.Serving:
			serving++
		case m.slot > 0 || m.worker.Phase != fleet.Gone:
			return false
		}
	}
	return serving == s.n
}

// step does what the view calls for.
func (s *scaling) step(ctx context.Context, v *view) (acted bool, err error) {
	s.errsMu.Lock()
	err = errors.Join(s.errs...)
	s.errsMu.Unlock()
	if err != nil {
		return false, err
	}
	fixed := 0
	for _, m := range v.members {
		if m.leaving {
			s.dismiss(m)
		}
		if m.slot == 0 && m.worker.Phase != fleet.Gone {
			fixed++
		}
	}
	own, want := v.own(), max(s.n-fixed, 0)
	for _, m := range own {
		switch m.State.Status {
		case "created", "dead": // half made: it may lack a network
			if err := s.engine.remove(ctx, m.ID); err != nil && !refused(err, http.StatusConflict) {
				return false, fmt.Errorf("remove %s, which is half made: %w", m.worker.ID, err)
			}
			return true, nil
		}
	}
	switch {
	case len(own) > want:
		return true, s.shrink(ctx, own, want)
	case fixed > s.n && !s.stopping(v):
		return false, fmt.Errorf("%d containers are the service's own, which Tidemark does not stop: scale the service itself down to %d, or raise bounds.min", fixed, s.n)
	}
	for _, m := range own {
		if m.State.Status != "exited" {
			continue
		}
		if s.revived[m.ID] {
			return false, fmt.Errorf("%s ended with exit code %d: docker logs %s shows why", m.worker.ID, m.State.ExitCode, m.name())
		}
		s.revived[m.ID] = true
		if err := s.engine.start(ctx, m.ID); err != nil {
			return false, fmt.Errorf("start %s again: %w", m.worker.ID, err)
		}
		acted = true
	}
	if len(own) < want {
		return true, s.grow(ctx, v, want-len(own))
	}
	return acted, s.hopeless(v)
}

func (s *scaling) stopping(v *view) bool {
	return slices.ContainsFunc(v.members, func(m member) bool { return m.leaving })
}

// hopeless returns an error when nothing is on its way any more but what keeps ending.
func (s *scaling) hopeless(v *view) error {
	failing := 0
	for _, m := range v.members {
		switch {
		case m.leaving:
			return nil
		case m.worker.Phase == fleet.Serving, m.slot == 0 && m.worker.Phase == fleet.Gone:
		case m.State.Status == "restarting" && m.RestartCount >= givenUp:
			failing++
		default:
			return nil
		}
	}
	if failing == 0 {
		return nil
	}
	return fmt.Errorf("%s; docker logs shows why", s.state(v))
}

// grow makes copies in free slots.
func (s *scaling) grow(ctx context.Context, v *view, missing int) error {
	if v.template == nil {
		return s.noTemplate()
	}
	from, err := s.newTemplate(v.template)
	if err != nil {
		return err
	}
	used := map[int]bool{}
	for _, m := range v.members {
		used[m.slot] = true
	}
	var slots []int
	for slot := 1; len(slots) < missing; slot++ {
		if slot > s.cfg.Ports.Slots() {
			if len(slots) > 0 || s.stopping(v) {
				break // what fits first; the slots of those that leave will be free
			}
			return fmt.Errorf("%d workers are asked for, and the ports from %d on do not suffice: widen ports, or free those that others use", s.n, s.cfg.Ports.First)
		}
		if !used[slot] && free(s.cfg.Ports.At(slot)) {
			slots = append(slots, slot)
		}
	}
	var taken atomic.Bool // a name is, by what an earlier daemon asked for: it comes to light or goes
	var g errgroup.Group
	g.SetLimit(madeAtOnce)
	for _, slot := range slots {
		g.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			err := s.make(ctx, from, slot)
			if refused(err, http.StatusConflict) && s.conflicts < 20 {
				taken.Store(true)
				return nil
			}
			if err != nil {
				return fmt.Errorf("make %s: %w", s.name(slot), err)
			}
			return nil
		})
	}
	err = g.Wait()
	if s.conflicts++; !taken.Load() {
		s.conflicts = 0
	}
	return err
}

// free reports whether nobody listens on a port of this machine; 0 is always free.
func free(port int) bool {
	ln, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", port))
	if err != nil {
		return false
	}
	return ln.Close() == nil
}

// make creates the copy in a slot and starts it. It is not cut short when ctx ends.
func (s *scaling) make(ctx context.Context, from *template, slot int) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), making)
	defer cancel()
	body, err := s.body(ctx, from, slot)
	if err != nil {
		return err
	}
	id, err := s.engine.create(ctx, s.name(slot), body)
	if err != nil {
		return err
	}
	for _, network := range from.further() {
		if err := s.engine.connect(ctx, network, id, from.end(from.NetworkSettings.Networks[network])); err != nil {
			return fmt.Errorf("connect it to the network %s: %w", network, err)
		}
	}
	return s.engine.start(ctx, id)
}

// shrink drains and dismisses copies until want are left.
func (s *scaling) shrink(ctx context.Context, own []member, want int) error {
	if err := copies.Order(ctx, &s.meter, own, want, member.copy, s.cpuTime); err != nil {
		return err
	}
	for _, m := range own[:len(own)-want] {
		if err := s.release(ctx, m); err != nil {
			s.mark(m.ID, false)
			return fmt.Errorf("%s goes on serving: %w", m.worker.ID, err)
		}
		s.dismiss(m)
	}
	return nil
}

func (s *scaling) mark(id string, victim bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if victim {
		s.victims[id] = true
	} else {
		delete(s.victims, id)
	}
}

// release drains a copy that serves and records, by its name, that it is to be stopped. One that does not serve needs neither, and
// the engine does not rename one that it is starting again.
func (s *scaling) release(ctx context.Context, m member) error {
	s.mark(m.ID, true)
	if m.worker.Phase != fleet.Serving {
		return ctx.Err()
	}
	if s.drain != nil {
		w := m.worker
		w.Phase = fleet.Draining
		if err := s.drain(ctx, w); err != nil {
			return fmt.Errorf("drain: %w", err)
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), making) // it is either done or not
	defer cancel()
	return s.engine.rename(ctx, m.ID, m.name()+"-leaving")
}

// dismiss has a copy stopped and removed, once.
func (s *scaling) dismiss(m member) {
	if s.leaving[m.ID] {
		return
	}
	s.leaving[m.ID] = true
	s.wg.Go(func() {
		err := s.engine.stop(s.stop, m.ID)
		if err == nil {
			err = s.engine.remove(s.stop, m.ID)
		}
		if err != nil && s.stop.Err() == nil {
			s.errsMu.Lock()
			s.errs = append(s.errs, fmt.Errorf("stop %s: %w", m.worker.ID, err))
			s.errsMu.Unlock()
		}
	})
}
