package control

import (
	"context"
	"time"

	"tidemark/internal/fleet"
)

// acting is a Scale that is being carried out.
type acting struct {
	to     int
	cancel context.CancelFunc
	ended  chan error // one value, when Scale has returned
}

// done is ready when the action has returned; for no action at all it never is.
func (a *acting) done() <-chan error {
	if a == nil {
		return nil
	}
	return a.ended
}

// act begins what the state says is to be done, unless it is being done already. An attempt that failed is begun again at the
// next tick, until the engine gives the action up.
func (r *runner) act() {
	want := r.state.Action
	if want == nil {
		switch {
		case r.acting == nil:
			r.Started = time.Time{}
		case r.size.Known && r.size.Workers() != r.acting.to:
			r.acting.cancel() // given up: what hangs must not act later
		} // else the size is there, and who left it is still being drained and stopped
		return
	}
	if r.acting != nil {
		if r.acting.to != want.To {
			r.acting.cancel() // enlarged: what it began goes on, and is begun anew for more once it has returned
		}
		return
	}
	ctx, cancel := context.WithTimeout(r.ctx, want.Deadline.Sub(r.state.Tick))
	leading, err := r.opts.Lease.Lead(ctx)
	if err != nil { // perhaps another daemon does it
		cancel()
		r.actionErr = err
		return
	}
	if r.Started.Before(want.Since) {
		r.Started = r.opts.Clock.Wall()
		r.note(fleet.Event{Kind: fleet.EventActionStarted, From: want.From, To: want.To})
	}
	a := &acting{to: want.To, cancel: cancel, ended: make(chan error, 1)}
	r.acting = a
	target, to, drain := r.parts.Target, want.To, r.drain()
	go func() {
		defer cancel()
		a.ended <- target.Scale(leading, to, drain)
	}()
}

// acted takes in the end of an action.
func (r *runner) acted(err error) {
	r.actionErr = err
	r.acting.cancel()
	r.acting = nil
	r.actingMu.Lock()
	clear(r.draining)
	r.actingMu.Unlock()
}

// stopActing leaves the fleet as it is: the action is cut short, and goes on after a restart.
func (r *runner) stopActing() {
	if r.acting != nil {
		r.acting.cancel()
		r.acted(<-r.acting.ended)
	}
}

// serve tells the balancer which workers serve. A worker that is being drained is not among them, even if it was seen
// serving a moment ago.
func (r *runner) serve(ctx context.Context) {
	if r.parts.Balancer == nil || !r.size.Known {
		return
	}
	if err := r.opts.Lease.Held(); err != nil { // another daemon may be telling it otherwise
		r.balanceErr = err
		return
	}
	ctx, cancel := context.WithTimeout(ctx, r.opts.ReadTimeout)
	defer cancel()
	workers, failing := r.workers, r.balanceErr != nil
	_, r.balanceErr = r.balance.do(ctx, r.state.Tick, func(ctx context.Context) (struct{}, error) {
		r.actingMu.Lock()
		defer r.actingMu.Unlock()
		var serving []fleet.Worker
		for _, w := range workers {
			if w.Phase == fleet.Serving && !r.draining[w.ID] {
				serving = append(serving, w)
			}
		}
		return struct{}{}, r.parts.Balancer.Set(ctx, serving)
	})
	if r.balanceErr != nil && !failing {
		r.note(fleet.Event{Kind: fleet.EventBalancerFailed, Note: r.balanceErr.Error()})
	}
}

// drain is what the target calls before it stops a worker that still serves; nil when there is no balancer.
func (r *runner) drain() fleet.Drain {
	b := r.parts.Balancer
	if b == nil {
		return nil
	}
	return func(ctx context.Context, w fleet.Worker) error {
		if err := r.opts.Lease.Held(); err != nil {
			return err
		}
		r.actingMu.Lock()
		r.draining[w.ID] = true
		r.actingMu.Unlock()
		err := b.Drain(ctx, w)
		if err != nil {
			r.actingMu.Lock()
			delete(r.draining, w.ID)
			r.actingMu.Unlock()
		}
		return err
	}
}
