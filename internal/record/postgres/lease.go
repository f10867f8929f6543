package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"tidemark/internal/record"
)

// The times of the lead. A leader proves it with every transaction, at least every beat. What it does outside of the database it does only
// until validity after the last transaction that succeeded began, by a clock that counts on while the process or the machine stands still.
// Whoever wants the lead has seen, by its own clock, no transaction for patient, which is longer: when it takes the lead, the leader before
// it has no longer had it. No two clocks are ever compared.
//
//	leader   ──tx──tx──tx──✗ frozen, or cut off
//	                   │◄── validity ──►│ acts no more
//	standby            └►│◄──── patient ────►│ takes the lead, if the lock is free and no transaction came
//	server             │◄───── silence ──────►│ ends the leader's session, and frees the lock
const (
	beat     = 2 * time.Second
	validity = 6 * time.Second
	patient  = validity + time.Second
	silence  = 8 * time.Second // from the last statement on
	poll     = time.Second     // between two looks of a standby
	patience = 5 * time.Second // for an answer
)

// errLapsed: PostgreSQL did not confirm the lead for longer than validity. The fleet stays as it is until it does.
var errLapsed = errors.New("journal: PostgreSQL does not confirm that this daemon leads: the fleet is held as it is")

// lease is until when a leader may act.
type lease struct {
	uptime  func() time.Duration // counts on without jumps, also while the process is stopped
	deposed chan struct{}        // closed when err is set

	mu     sync.Mutex
	until  time.Duration
	err    error // why the lead is gone for good
	timer  *time.Timer
	acting map[*leading]struct{}
}

func newLease(uptime func() time.Duration) *lease {
	l := &lease{uptime: uptime, deposed: make(chan struct{}), acting: map[*leading]struct{}{}}
	l.timer = time.AfterFunc(validity, l.lapse)
	return l
}

// extend is called after a transaction that succeeded, with when it began.
func (l *lease) extend(began time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.until = max(l.until, began+validity)
	l.timer.Reset(l.until - l.uptime())
}

// lapse ends what is under way when the time is over.
func (l *lease) lapse() {
	if l.Held() != nil {
		l.cut()
	}
}

func (l *lease) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.acting {
		c.cancel()
	}
	clear(l.acting)
}

// depose ends the lead for good.
func (l *lease) depose(why error) {
	l.mu.Lock()
	if l.err == nil {
		l.err = why
		close(l.deposed)
	}
	l.mu.Unlock()
	l.cut()
}

// end stops the timer.
func (l *lease) end() {
	l.depose(fmt.Errorf("%w: it was given up", record.ErrDeposed))
	l.timer.Stop()
}

// gone is why the lead is gone for good; nil if it is not.
func (l *lease) gone() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Held returns nil while nobody else can have the lead, and else why that is not known. It asks nobody.
func (l *lease) Held() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.err != nil:
		return l.err
	case l.uptime() >= l.until:
		return errLapsed
	}
	return nil
}

// leading is a context that ends when the lead can no longer be vouched for. Who asks it is told so also in the moment in which a process
// that was stopped goes on, before any timer has fired.
type leading struct {
	context.Context
	cancel context.CancelFunc
	lease  *lease
}

func (c *leading) Err() error {
	if c.Context.Err() == nil && c.lease.Held() != nil {
		c.cancel()
	}
	return c.Context.Err()
}

// Done is asked before a command is started, and when another context is made of this one.
func (c *leading) Done() <-chan struct{} {
	_ = c.Err() // which ends it
	return c.Context.Done()
}

// during returns the context.
func (l *lease) during(ctx context.Context) context.Context {
	c := &leading{lease: l}
	c.Context, c.cancel = context.WithCancel(ctx)
	l.mu.Lock()
	l.acting[c] = struct{}{}
	l.mu.Unlock()
	context.AfterFunc(c.Context, func() {
		l.mu.Lock()
		delete(l.acting, c)
		l.mu.Unlock()
	})
	return c
}
