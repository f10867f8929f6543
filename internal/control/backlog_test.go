package control

import (
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/record/postgres"
)

// For 1,100 ticks the journal cannot be written. With a spool they take no memory, without one no more than tooMany ticks take; afterwards
// those that were kept are recorded, each once and in order.
func TestBacklogIsBounded(t *testing.T) {
	const away = 1100
	for name, want := range map[string]struct {
		spool    bool
		recorded int
		bytes    uint64
	}{
		"spool":  {true, away, 256 << 10},
		"memory": {false, tooMany, 1 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				if want.spool {
					spool, err := postgres.OpenSpool(dir)
					if err != nil {
						t.Fatal(err)
					}
					w.spool = spool
				}
				w.start(t)
				defer w.loop.Stop()
				w.pass(time.Minute)
				w.journal.fail(errors.New("PostgreSQL is away"))
				before := heap()
				w.pass(away * 15 * time.Second)
				grown := heap() - min(before, heap())
				t.Logf("%d KiB more after %d ticks", grown>>10, away)
				if grown > want.bytes {
					t.Errorf("%d bytes more after %d ticks", grown, away)
				}
				recorded := len(w.journal.all())
				w.journal.fail(nil)
				w.pass(30 * time.Second)
				got := w.journal.all()[recorded:]
				for i := 1; i < len(got); i++ {
					if gap := got[i].Time.Sub(got[i-1].Time); gap != 15*time.Second {
						t.Fatalf("tick %d comes %v after the one before", i, gap)
					}
				}
				if n := len(got); n < want.recorded || n > want.recorded+3 {
					t.Errorf("%d ticks are recorded, want %d and those since", n, want.recorded)
				}
				if failed := w.journal.events(fleet.EventJournalFailed); len(failed) != 1 {
					t.Errorf("that the journal was away is recorded %d times", len(failed))
				}
			})
		})
	}
}

// heap is what is in use, without rubbish.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
