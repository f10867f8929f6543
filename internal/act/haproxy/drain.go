package haproxy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tidemark/internal/act/sockets"
	"tidemark/internal/act/wait"
	"tidemark/internal/fleet"
)

// look is how often HAProxy is asked while a drain waits.
const look = 20 * time.Millisecond

// Drain takes one worker out of the backend and returns when HAProxy sends it nothing more and has deleted its server,
// which it refuses as long as a request is queued for it or on its way.
//
//	serving -> DRAIN: only visitors with its cookie, for sticky.drain -> MAINT: nobody, what is on its way goes on
//	        -> after drain_timeout that is closed -> deleted
//
// A process of before a reload may still have requests to the worker: they show as connections in this network namespace, and
// have until drain_timeout too.
func (b *Balancer) Drain(ctx context.Context, w fleet.Worker) error {
	s, err := serverOf(w)
	if err != nil {
		return err
	}
	b.hold(s.Name, forever)
	defer b.hold(s.Name, drainHold)
	if err := b.drain(ctx, s.Name, w.Address); err != nil {
		return fmt.Errorf("drain %s: %w", w.ID, err)
	}
	return nil
}

func (b *Balancer) drain(ctx context.Context, name, address string) error {
	serves, err := b.begin(ctx, name)
	if err != nil {
		return err
	}
	if serves && b.cfg.Sticky.Cookie != "" {
		if err := wait.For(ctx, b.cfg.Sticky.Drain); err != nil {
			return err
		}
	}
	limit := time.Now().Add(b.cfg.DrainTimeout)
	for {
		err := b.remove(ctx, name)
		if err == nil {
			break
		}
		if refused(err, saidConnected) && !time.Now().Before(limit) {
			err = b.do(ctx, "shutdown sessions server "+b.name(name))
		} else if refused(err, saidConnected) || errors.Is(err, ErrDown) { // one that is being restarted comes back without it
			err = nil
		}
		if err != nil {
			return err
		}
		if err := wait.For(ctx, look); err != nil {
			return fmt.Errorf("requests are still on their way: %w", err)
		}
	}
	for time.Now().Before(limit) {
		n, err := sockets.OpenTo(address)
		if err != nil || n == 0 {
			return err
		}
		if err := wait.For(ctx, look); err != nil {
			return fmt.Errorf("%d connections to %s are still open: %w", n, address, err)
		}
	}
	return nil
}

// begin takes the server out of the file and out of service, but for visitors who have its cookie. It reports whether HAProxy has
// such a server.
func (b *Balancer) begin(ctx context.Context, name string) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.unlist(name); err != nil {
		return false, err
	}
	err := b.do(ctx, "set server "+b.name(name)+" state drain")
	if refused(err, saidNoServer) {
		return false, nil
	}
	return true, b.explain(err)
}

func (b *Balancer) hold(name string, d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held[name] = time.Now().Add(d)
}
