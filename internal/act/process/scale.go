package process

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"tidemark/internal/fleet"
)

// givenUp is after how many deaths in a row of a worker Scale reports what is wrong instead of waiting on. The slot
// goes on trying.
const givenUp = 3

// Scale moves the fleet to n workers. New ones take the lowest free slots; the least utilised leave, those first that
// do not serve. A worker is drained, then sent the stop signal, and killed if it does not end within stop_timeout. When
// drain fails or ctx ends during it, the worker goes on serving. What was begun when ctx ends goes on: added workers are
// started, drained ones stopped. Calls are carried out one after another.
func (t *Target) Scale(ctx context.Context, n int, drain fleet.Drain) error {
	if most := t.cfg.slots(); n < 0 || n > most {
		return fmt.Errorf("%d workers are asked for, and there are addresses for %d: widen ports", n, most)
	}
	ctx, release, err := t.begin(ctx)
	if err != nil {
		return err
	}
	defer release()
	for {
		short, err := t.grow(n)
		if err != nil {
			return err
		}
		if err := t.shrink(ctx, n, drain); err != nil {
			return err
		}
		if err := t.settled(ctx, n, short); err != nil || !short {
			return err
		}
	}
}

// begin waits for its turn. The context that it returns ends with the target, too.
func (t *Target) begin(ctx context.Context) (context.Context, func(), error) {
	t.mu.Lock()
	running := t.running
	t.mu.Unlock()
	if running == nil {
		return nil, nil, errNotRunning
	}
	ctx, cancel := context.WithCancelCause(ctx)
	unlink := context.AfterFunc(running, func() { cancel(errClosed) })
	release := func() { unlink(); cancel(nil) }
	select {
	case t.scaling <- struct{}{}:
		if ctx.Err() == nil && running.Err() == nil {
			return ctx, func() { <-t.scaling; release() }, nil
		}
		<-t.scaling
	case <-ctx.Done():
	}
	defer release()
	return nil, nil, fmt.Errorf("wait for the scaling before: %w", cmp.Or(context.Cause(running), context.Cause(ctx)))
}

// wanted returns the slots that belong to the fleet. t.mu is held.
func (t *Target) wanted() []*slot {
	var in []*slot
	for _, n := range t.numbers() {
		if s := t.slots[n]; !s.wish.Leaving {
			in = append(in, s)
		}
	}
	return in
}

// grow adds slots until n belong to the fleet. It is short when it has to wait for a slot that is being left.
func (t *Target) grow(n int) (short bool, err error) {
	t.mu.Lock()
	missing := n - len(t.wanted())
	t.mu.Unlock()
	if missing <= 0 {
		return false, nil
	}
	if _, err := t.cfg.program(); err != nil {
		return false, err
	}
	for i := 1; missing > 0; i++ {
		if i > t.cfg.slots() {
			return true, nil
		}
		t.mu.Lock()
		taken := t.slots[i] != nil
		t.mu.Unlock()
		if taken {
			continue
		}
		if err := t.add(i); err != nil {
			return false, err
		}
		missing--
	}
	return false, nil
}

// add records that a slot belongs to the fleet, and has it filled. Only Scale adds slots, one Scale at a time.
func (t *Target) add(i int) error {
	if err := t.records.writeWish(i, wish{}); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running.Err() != nil {
		return errClosed // the next daemon fills it
	}
	s := newSlot(t, i)
	s.detail = "being started"
	t.slots[i] = s
	running := t.running
	t.wg.Go(func() { s.run(running) })
	t.notify()
	return nil
}

// shrink drains and dismisses workers until no more than n belong to the fleet.
func (t *Target) shrink(ctx context.Context, n int, drain fleet.Drain) error {
	for {
		s, w, served := t.choose(n)
		if s == nil {
			return nil
		}
		if err := dismiss(ctx, s, w, served, drain); err != nil {
			s.update(func() { s.victim = false })
			s.poke()
			return fmt.Errorf("%s goes on serving: %w", s.id(), err)
		}
	}
}

// choose picks the next worker to leave and marks it, so that it is no longer reported as serving.
func (t *Target) choose(n int) (_ *slot, w fleet.Worker, served bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	in := t.wanted()
	if len(in) <= n {
		return nil, w, false
	}
	now := time.Now()
	costs := make(map[*slot]cost, len(in))
	for _, s := range in {
		costs[s] = s.cost(now)
	}
	s := slices.MinFunc(in, func(a, b *slot) int { return costs[a].compare(costs[b]) })
	s.victim = true
	t.notify()
	return s, s.worker(), !s.served.IsZero() && s.proc != nil
}

// dismiss drains a worker and has it stopped.
func dismiss(ctx context.Context, s *slot, w fleet.Worker, served bool, drain fleet.Drain) error {
	if served && drain != nil {
		if err := drain(ctx, w); err != nil {
			return fmt.Errorf("drain: %w", err)
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := s.save(func(w *wish) { w.Leaving = true }); err != nil {
		return err
	}
	s.poke()
	return nil
}

// cost is what the fleet loses with a worker.
type cost struct {
	serving bool
	running bool
	busy    uint64 // CPU time lately, in percent of a core
	start   uint64
	slot    int
}

// cost reads how busy a worker is: the CPU time of its main process and of the children that it has waited for, over
// the last seconds. t.mu is held.
func (s *slot) cost(now time.Time) cost {
	c := cost{serving: s.phase == fleet.Serving, slot: s.n}
	if s.proc == nil {
		return c
	}
	st, err := s.proc.stat()
	if err != nil {
		c.serving = false
		return c
	}
	c.running, c.start = true, st.Start
	from := s.cpu[0]
	if wall := now.Sub(from.at) / tick; wall > 0 && st.CPU > from.cpu {
		c.busy = 100 * (st.CPU - from.cpu) / uint64(wall)
	}
	return c
}

// compare orders by what is lost least: a worker that does not serve before one that does, the idle before the busy, the young
// before the old.
func (c cost) compare(o cost) int {
	if c.serving != o.serving {
		return less(!c.serving)
	}
	if c.running != o.running {
		return less(!c.running)
	}
	return cmp.Or(cmp.Compare(c.busy, o.busy), cmp.Compare(o.start, c.start), cmp.Compare(o.slot, c.slot))
}

func less(yes bool) int {
	if yes {
		return -1
	}
	return 1
}

// settled waits until the fleet's workers serve and those that leave are gone; for the latter only, when short.
func (t *Target) settled(ctx context.Context, n int, short bool) error {
	for {
		t.mu.Lock()
		serving, leaving, trying, troubles := t.progress()
		changed := t.changed
		t.mu.Unlock()
		if short && t.vacant() || leaving == 0 && serving == n {
			return nil
		}
		if leaving == 0 && trying == 0 && len(troubles) > 0 {
			return fmt.Errorf("%d of %d workers serve: %s", serving, n, strings.Join(troubles, "; "))
		}
		select {
		case <-changed:
		case <-ctx.Done():
			err := context.Cause(ctx)
			if leaving > 0 {
				troubles = append(troubles, fmt.Sprintf("%d still stopping", leaving))
			}
			return fmt.Errorf("%d of %d workers serve: %s: %w", serving, n, strings.Join(troubles, "; "), err)
		}
	}
}

// progress counts the fleet; trying are those that do not serve yet and may soon. t.mu is held.
func (t *Target) progress() (serving, leaving, trying int, troubles []string) {
	for _, i := range t.numbers() {
		s := t.slots[i]
		switch w := s.worker(); {
		case s.wish.Leaving:
			leaving++
		case w.Phase == fleet.Serving:
			serving++
		default:
			if s.deaths < givenUp {
				trying++
			}
			troubles = append(troubles, s.id()+": "+w.Detail)
		}
	}
	return serving, leaving, trying, troubles
}

// vacant reports whether a slot is free.
func (t *Target) vacant() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.slots) < t.cfg.slots()
}
