package systemd

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"tidemark/internal/act/copies"
	"tidemark/internal/act/wait"
	"tidemark/internal/fleet"
)

const (
	firstLook, lastLook = 20 * time.Millisecond, 500 * time.Millisecond // between two looks at systemd; it doubles
	ordering            = 10 * time.Second                              // for systemd to take an order
	givenUp             = 3                                             // restarts in vain after which Scale reports instead of waiting on
)

// scaling is one Scale under way. It looks, gives the orders that are due, and looks again:
//
//	(inactive, failed) --start--> activating --fit--> serving --drained, stop--> deactivating --> (inactive)
type scaling struct {
	*Target
	n       int
	drain   fleet.Drain
	started map[string]int // how often each unit was started
}

// Scale moves the fleet to n instances. New ones take the lowest free slots; the least utilised leave, those first that do not
// serve. One that leaves is drained, then stopped as its unit file says (KillSignal=, TimeoutStopSec=). When drain fails or ctx ends during
// it, the instance goes on serving. What systemd was told when ctx ends it finishes; the next Scale goes on. Calls are carried out
// one after another.
func (t *Target) Scale(ctx context.Context, n int, drain fleet.Drain) error {
	if most := t.cfg.Ports.Slots(); n < 0 || n > most {
		return fmt.Errorf("%d workers are asked for, and 0 to %d are possible: widen ports", n, most)
	}
	select {
	case t.turn <- struct{}{}:
		defer func() { <-t.turn }()
	case <-ctx.Done():
		return fmt.Errorf("wait for the scaling before: %w", ctx.Err())
	}
	s := &scaling{Target: t, n: n, drain: drain, started: map[string]int{}}
	return wait.Until(ctx, firstLook, lastLook, func() (p wait.Progress, err error) {
		members, err := s.look(ctx)
		if err != nil {
			return p, err
		}
		p.State = s.state(members)
		p.Acted, err = s.step(ctx, members)
		p.Done = !p.Acted && s.settled(members)
		return p, err
	})
}

// state says in words how far the scaling is.
func (s *scaling) state(members []member) string {
	serving, stopping := 0, 0
	var troubles []string
	for _, m := range members {
		switch m.worker.Phase {
		case fleet.Draining:
			stopping++
		case fleet.Serving:
			serving++
		case fleet.Starting:
			troubles = append(troubles, m.name+": "+m.worker.Detail)
		}
	}
	if stopping > 0 {
		troubles = append(troubles, fmt.Sprintf("%d still stopping", stopping))
	}
	return strings.TrimSuffix(fmt.Sprintf("%d of %d workers serve: %s", serving, s.n, strings.Join(troubles, "; ")), ": ")
}

// settled reports whether n workers serve and no other is there.
func (s *scaling) settled(members []member) bool {
	serving := 0
	for _, m := range members {
		switch m.worker.Phase {
		case fleet.Serving:
			serving++
		case fleet.Starting, fleet.Draining:
			return false
		}
	}
	return serving == s.n
}

// step gives the orders that the view calls for.
func (s *scaling) step(ctx context.Context, members []member) (acted bool, err error) {
	var own []member // that are there, and not leaving
	used := map[int]bool{}
	failed := map[string]bool{}
	for _, m := range members {
		switch m.worker.Phase {
		case fleet.Starting, fleet.Serving:
			own = append(own, m)
			used[m.slot] = true
		case fleet.Draining:
			used[m.slot] = true
		case fleet.Gone:
			if s.started[m.name] > 1 {
				return false, fmt.Errorf("%s does not stay up: %s; journalctl -u %[1]s shows why", m.name, m.ending())
			}
			failed[m.name] = m.active == "failed"
		}
	}
	switch {
	case len(own) > s.n:
		return true, s.shrink(ctx, own)
	case len(own) < s.n:
		return true, s.grow(ctx, s.n-len(own), used, failed, len(used) > len(own))
	}
	return false, s.hopeless(own)
}

// grow starts units in free slots. A port that somebody else listens on is passed over. stopping says that slots will be free.
func (s *scaling) grow(ctx context.Context, missing int, used map[int]bool, failed map[string]bool, stopping bool) error {
	for slot, ordered := 1, 0; ordered < missing; slot++ {
		if slot > s.cfg.Ports.Slots() {
			if ordered > 0 || stopping {
				return nil
			}
			return fmt.Errorf("%d workers are asked for, and the ports from %d on do not suffice: widen ports, or free those that others use", s.n, s.cfg.Ports.First)
		}
		name := s.cfg.name(slot)
		if used[slot] || s.started[name] == 0 && !free(s.cfg.Ports, slot) {
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		orders, cancel := context.WithTimeout(context.WithoutCancel(ctx), ordering)
		err := s.manager.start(orders, name, failed[name])
		cancel()
		if err != nil {
			return fmt.Errorf("start %s: %w", name, err)
		}
		s.started[name]++
		ordered++
	}
	return nil
}

// free reports whether nobody listens on a slot's port.
func free(p copies.Ports, slot int) bool {
	if !p.Given() {
		return true
	}
	ln, err := net.Listen("tcp", p.Address(slot))
	if err != nil {
		return false
	}
	return ln.Close() == nil
}

// hopeless returns an error when nothing is on its way any more but what keeps ending.
func (s *scaling) hopeless(own []member) error {
	failing := false
	for _, m := range own {
		switch {
		case m.worker.Phase == fleet.Serving:
		case m.sub == "auto-restart" && m.restarts >= givenUp:
			failing = true
		default:
			return nil
		}
	}
	if !failing {
		return nil
	}
	return fmt.Errorf("%s; journalctl shows why", s.state(own))
}

// shrink drains instances and has them stopped until n are left.
func (s *scaling) shrink(ctx context.Context, own []member) error {
	if err := copies.Order(ctx, &s.meter, own, s.n, member.copy, s.cpuTime); err != nil {
		return err
	}
	for _, m := range own[:len(own)-s.n] {
		if err := s.release(ctx, m); err != nil {
			s.mark(m.name, false)
			return fmt.Errorf("%s goes on serving: %w", m.name, err)
		}
	}
	return nil
}

func (s *scaling) mark(name string, victim bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if victim {
		s.victims[name] = true
	} else {
		delete(s.victims, name)
	}
}

// release drains an instance that serves, and has it stopped.
func (s *scaling) release(ctx context.Context, m member) error {
	s.mark(m.name, true)
	if m.worker.Phase == fleet.Serving && s.drain != nil {
		w := m.worker
		w.Phase = fleet.Draining
		if err := s.drain(ctx, w); err != nil {
			return fmt.Errorf("drain: %w", err)
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	orders, cancel := context.WithTimeout(context.WithoutCancel(ctx), ordering) // it is either given or not
	defer cancel()
	return s.manager.stop(orders, m.name)
}
