// Package lead is until when a daemon that leads may act, whatever keeps the lead for it: a session of PostgreSQL, or a Lease of Kubernetes.
//
// A leader proves its lead again and again. It acts only until validity after its last proof that succeeded began, by a clock that counts on
// while the process or the machine stands still. Whoever wants the lead waits, by its own clock, for longer than that without a proof: when
// it takes the lead, the leader before it has stopped acting. No two clocks are ever compared.
package lead

import (
	"context"
	"errors"
	"sync"
	"time"
)

// ErrDeposed: the lead is gone for good, for another daemon has it or may have it.
var ErrDeposed = errors.New("this daemon no longer leads")

// Term is one daemon's time in the lead. Its methods may be called at the same time.
type Term struct {
	validity time.Duration
	uptime   func() time.Duration
	lapsed   error
	deposed  chan struct{} // closed when err is set

	mu     sync.Mutex
	until  time.Duration
	err    error // why the lead is gone for good
	timer  *time.Timer
	acting map[*leading]struct{}
}

// NewTerm makes a Term that begins with the first Extend. uptime counts on without jumps, also while the machine sleeps; lapsed is what
// Held says when no proof has succeeded for longer than validity.
func NewTerm(validity time.Duration, uptime func() time.Duration, lapsed error) *Term {
	t := &Term{validity: validity, uptime: uptime, lapsed: lapsed, deposed: make(chan struct{}), acting: map[*leading]struct{}{}}
	t.timer = time.AfterFunc(validity, t.lapse)
	return t
}

// Extend is called after a proof that succeeded, with the uptime at which it began.
func (t *Term) Extend(began time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		t.until = max(t.until, began+t.validity)
		t.timer.Reset(t.until - t.uptime())
	}
}

// lapse ends what is under way when the time is over.
func (t *Term) lapse() {
	if t.Held() != nil {
		t.cut()
	}
}

func (t *Term) cut() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := range t.acting {
		c.cancel()
	}
	clear(t.acting)
}

// Depose ends the lead for good. The first reason stays.
func (t *Term) Depose(why error) {
	t.mu.Lock()
	t.timer.Stop()
	if t.err == nil {
		t.err = why
		close(t.deposed)
	}
	t.mu.Unlock()
	t.cut()
}

// Deposed is closed when the lead is gone for good: what runs under it is to be stopped.
func (t *Term) Deposed() <-chan struct{} { return t.deposed }

// Gone is why the lead is gone for good; nil if it is not.
func (t *Term) Gone() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// Held returns nil while nobody else can have the lead, and else why that is not known. It asks nobody.
func (t *Term) Held() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.err != nil:
		return t.err
	case t.uptime() >= t.until:
		return t.lapsed
	}
	return nil
}

// During returns a context for what is done now: it ends when the lead can no longer be vouched for.
func (t *Term) During(ctx context.Context) context.Context {
	c := &leading{term: t}
	c.Context, c.cancel = context.WithCancel(ctx)
	t.mu.Lock()
	t.acting[c] = struct{}{}
	t.mu.Unlock()
	context.AfterFunc(c.Context, func() {
		t.mu.Lock()
		delete(t.acting, c)
		t.mu.Unlock()
	})
	return c
}

// leading is such a context. Who asks it is told of the end also in the moment in which a process that was stopped goes on, before any
// timer has fired.
type leading struct {
	context.Context
	cancel context.CancelFunc
	term   *Term
}

func (c *leading) Err() error {
	if c.Context.Err() == nil && c.term.Held() != nil {
		c.cancel()
	}
	return c.Context.Err()
}

// Done is asked before something is begun, and when another context is made of this one.
func (c *leading) Done() <-chan struct{} {
	_ = c.Err() // which ends it
	return c.Context.Done()
}
