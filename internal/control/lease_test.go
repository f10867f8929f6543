package control

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tidemark/internal/fleet"
)

// testLease can be lost and come back.
type testLease struct {
	mu     sync.Mutex
	lost   error
	cancel []context.CancelFunc
}

func (l *testLease) set(lost error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lost = lost
	if lost != nil {
		for _, cancel := range l.cancel {
			cancel()
		}
		l.cancel = nil
	}
}

func (l *testLease) Held() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}

func (l *testLease) Lead(ctx context.Context) (context.Context, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost != nil {
		return nil, l.lost
	}
	ctx, cancel := context.WithCancel(ctx)
	l.cancel = append(l.cancel, cancel)
	return ctx, nil
}

// A daemon that does not know whether it leads decides and does nothing; one that finds out in the middle of an action cuts it short, and
// goes on with it when it leads again.
func TestWithoutTheLeadNothingIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.target.boot = 20 * time.Second
		lease := &testLease{lost: errors.New("nobody vouches")}
		w.lease = lease
		w.cpu.set(90, nil)
		w.start(t)
		defer w.loop.Stop()
		for w.pass(time.Second); w.status().Action == nil; {
			w.pass(time.Second)
		}
		w.pass(20 * time.Second)
		if asked := w.target.asked(); len(asked) != 0 {
			t.Fatalf("acted without the lead: %v", asked)
		}
		if st := w.status(); st.Action == nil || st.ActionErr != "nobody vouches" {
			t.Fatalf("action %+v, error %q", st.Action, st.ActionErr)
		}
		if n := len(w.journal.events(fleet.EventActionStarted)); n != 0 {
			t.Errorf("%d actions are said to have started", n)
		}
		lease.set(nil)
		for len(w.target.asked()) == 0 {
			w.pass(time.Second)
		}
		lease.set(errors.New("lost again")) // while the worker starts
		w.pass(20 * time.Second)
		if st := w.status(); len(w.target.asked()) != 1 || st.ActionErr != "lost again" {
			t.Fatalf("asked %v, error %q", w.target.asked(), st.ActionErr)
		}
		lease.set(nil)
		w.pass(time.Minute)
		if got := w.status().Size.Serving; got != 3 {
			t.Errorf("%d workers with the lead back, want 3", got)
		}
	})
}
