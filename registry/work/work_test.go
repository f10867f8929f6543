package work_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"tidemark/registry"
	"tidemark/registry/store"
	"tidemark/registry/store/postgres"
	"tidemark/registry/store/sqlite"
	"tidemark/registry/work"
	"tidemark/test/servers"
)

func TestParseChannels(t *testing.T) {
	got, err := work.ParseChannels("root:4, root.dedup:1,root.import.big:2")
	if diff := cmp.Diff([]store.Channel{{Name: "root", Capacity: 4}, {Name: "root.dedup", Capacity: 1}, {Name: "root.import.big", Capacity: 2}}, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
	for text, want := range map[string]string{
		"": `"" is no channel`, "root": "with its capacity", "root:0": "from 1 to 100", "root:x": "from 1 to 100", "dedup:1,root:1": `"dedup:1"`,
		"root.:1": "no channel", "root:1,root:2": "comes twice", "root.dedup:1": "the capacity of root is missing",
	} {
		if _, err := work.ParseChannels(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func TestPause(t *testing.T) {
	var got []time.Duration
	for n := range 8 {
		got = append(got, work.Pause(n))
	}
	s := time.Second
	if want := []time.Duration{10 * s, 10 * s, 30 * s, 90 * s, 270 * s, 810 * s, 2430 * s, time.Hour}; !slices.Equal(got, want) {
		t.Error(got)
	}
}

// bench is a registry with a clock that the test moves, and a log of what a worker tells.
type bench struct {
	t *testing.T
	s *store.Store

	mu     sync.Mutex
	now    time.Time
	events chan work.Event
}

func (b *bench) clock() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}

func (b *bench) wait(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = b.now.Add(d)
}

func (b *bench) enqueue(method, channel string, maxRetries int) {
	b.t.Helper()
	if err := b.s.Enqueue(b.t.Context(), b.clock(), store.Job{Method: method, Channel: channel, MaxRetries: maxRetries}); err != nil {
		b.t.Fatal(err)
	}
}

// start runs a worker until stop is called.
func (b *bench) start(methods map[string]work.Method, channels string, grace time.Duration) (stop func()) {
	b.t.Helper()
	all, err := work.ParseChannels(channels)
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		work.Run(ctx, work.Config{Store: b.s, Methods: methods, Channels: all, Poll: time.Millisecond, Beat: 5 * time.Millisecond, Grace: grace, Now: b.clock,
			Tell: func(e work.Event) { b.events <- e }})
	})
	stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	b.t.Cleanup(stop)
	return stop
}

// next waits for an event.
func (b *bench) next(want work.What) work.Event {
	b.t.Helper()
	select {
	case e := <-b.events:
		if e.What != want {
			b.t.Fatalf("%s (%v), want %s", e.What, e.Trouble, want)
		}
		return e
	case <-time.After(time.Minute):
		b.t.Fatalf("never %s", want)
		panic("not reached")
	}
}

func everywhere(t *testing.T, test func(*testing.T, *bench)) {
	bring := func(t *testing.T, s *store.Store, err error) {
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		test(t, &bench{t: t, s: s, now: time.Date(2026, time.November, 23, 9, 0, 0, 0, time.UTC), events: make(chan work.Event, 1000)})
	}
	t.Run("sqlite", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "farmers.db")
		if err := sqlite.Create(t.Context(), path, func(*store.Store) error { return nil }); err != nil {
			t.Fatal(err)
		}
		s, err := sqlite.Open(t.Context(), path)
		bring(t, s, err)
	})
	t.Run("pgbouncer", func(t *testing.T) {
		pg := servers.Postgres(t, "fsync=off")
		pg.CreateDB("dfr")
		s, err := postgres.Open(t.Context(), servers.PgBouncer(t, pg).URL("dfr"), 5)
		bring(t, s, err)
	})
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWork(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bench) {
		t.Run("tried again with growing pauses, then given up", func(t *testing.T) {
			var gaveUp []string
			fails := func(context.Context, store.Job) error { return errors.New("no luck") }
			stop := b.start(map[string]work.Method{"x": {Do: fails, GaveUp: func(_ context.Context, j store.Job, err error) error {
				gaveUp = append(gaveUp, j.Method+": "+err.Error())
				return nil
			}}}, "root:1", 0)
			b.enqueue("x", "root", 3)
			for try := 1; try <= 3; try++ {
				if e := b.next(work.Started); e.Job.Retry != try {
					t.Errorf("try %d is number %d", try, e.Job.Retry)
				}
				if try < 3 {
					e := b.next(work.Retried)
					b.wait(e.Pause - time.Millisecond)
					if backlog, err := b.s.Backlog(t.Context(), b.clock()); err != nil || backlog.Jobs != 0 {
						t.Error("it is due before its pause is over:", backlog, err)
					}
					b.wait(time.Millisecond)
				}
			}
			b.next(work.Failed)
			stop()
			if !slices.Equal(gaveUp, []string{"x: no luck"}) {
				t.Error(gaveUp)
			}
		})
		t.Run("a method that panics, and one that there is not", func(t *testing.T) {
			stop := b.start(map[string]work.Method{"x": {Do: func(context.Context, store.Job) error { panic("oh") }}}, "root:1", 0)
			b.enqueue("x", "root", 1)
			b.next(work.Started)
			if e := b.next(work.Failed); !strings.Contains(e.Trouble.Error(), "the method x panicked: oh") {
				t.Error(e.Trouble)
			}
			b.enqueue("y", "root", 1)
			b.next(work.Started)
			if e := b.next(work.Failed); !strings.Contains(e.Trouble.Error(), `no method "y"`) {
				t.Error(e.Trouble)
			}
			stop()
		})
		t.Run("a worker that was killed", func(t *testing.T) {
			b.enqueue("x", "root", 2)
			if _, err := b.s.Claim(t.Context(), b.clock(), b.clock()); err != nil { // and never heard of again
				t.Fatal(err)
			}
			stop := b.start(map[string]work.Method{"x": {Do: func(context.Context, store.Job) error { return nil }}}, "root:1", 0)
			b.wait(work.Lost*5*time.Millisecond + time.Millisecond)
			if e := b.next(work.Started); e.Job.Retry != 2 {
				t.Error(e.Job)
			}
			b.next(work.Done)
			b.enqueue("x", "root", 1)
			b.next(work.Started)
			b.next(work.Done)
			stop()
		})
		t.Run("a job that kills its workers is given up", func(t *testing.T) {
			b.enqueue("x", "root", 1)
			if _, err := b.s.Claim(t.Context(), b.clock(), b.clock()); err != nil {
				t.Fatal(err)
			}
			b.wait(time.Hour)
			stop := b.start(map[string]work.Method{"x": {Do: func(context.Context, store.Job) error { t.Error("done once more"); return nil }}}, "root:1", 0)
			b.next(work.Started)
			if e := b.next(work.Failed); !strings.Contains(e.Trouble.Error(), "its worker was lost 1 times") {
				t.Error(e.Trouble)
			}
			stop()
		})
		t.Run("taken for lost while it runs", func(t *testing.T) {
			until := func(ctx context.Context, _ store.Job) error { <-ctx.Done(); return ctx.Err() }
			stop := b.start(map[string]work.Method{"x": {Do: until}}, "root:1", 0)
			b.enqueue("x", "root", 5)
			b.next(work.Started)
			j, err := b.s.Claim(t.Context(), b.clock().Add(time.Hour), b.clock().Add(time.Hour)) // as after a sleep of the machine
			if err != nil {
				t.Fatal(err)
			}
			b.next(work.Gone)
			stop()
			if err := b.s.Finish(t.Context(), b.clock(), j, nil, time.Time{}); err != nil {
				t.Error(err)
			}
		})
		t.Run("given back when the worker stops", func(t *testing.T) {
			running := make(chan bool)
			methods := map[string]work.Method{"x": {Do: func(ctx context.Context, _ store.Job) error { running <- true; <-ctx.Done(); return ctx.Err() }}}
			stop := b.start(methods, "root:1", 0)
			b.enqueue("x", "root", 1)
			<-running
			stop()
			b.next(work.Started)
			b.next(work.Released)
			stop = b.start(map[string]work.Method{"x": {Do: func(context.Context, store.Job) error { return nil }}}, "root:1", 0)
			if e := b.next(work.Started); e.Job.Retry != 1 { // it does not count as tried
				t.Error(e.Job)
			}
			b.next(work.Done)
			stop()
		})
		t.Run("ends what it has in hand when the worker stops", func(t *testing.T) {
			running, end := make(chan bool), make(chan bool)
			stop := b.start(map[string]work.Method{"x": {Do: func(ctx context.Context, _ store.Job) error { running <- true; <-end; return ctx.Err() }}}, "root:1", time.Hour)
			b.enqueue("x", "root", 1)
			<-running
			go func() { end <- true }()
			stop()
			b.next(work.Started)
			b.next(work.Done)
		})
		if backlog, err := b.s.Backlog(t.Context(), b.clock()); err != nil || backlog.Jobs != 0 {
			t.Error(backlog, err)
		}
	})
}

// Capacities hold for two workers together, and one channel's jobs do not hold up another's.
func TestChannels(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bench) {
		var mu sync.Mutex
		now, most := map[string]int{}, map[string]int{}
		count := func(channel string, n int) {
			mu.Lock()
			defer mu.Unlock()
			for _, name := range []string{channel, "all"} {
				now[name] += n
				most[name] = max(most[name], now[name])
			}
		}
		full := make(chan bool, 1)
		go1 := make(chan bool)
		do := work.Method{Do: func(_ context.Context, j store.Job) error {
			count(j.Channel, 1)
			mu.Lock()
			if now["all"] == 3 {
				select {
				case full <- true:
				default:
				}
			}
			mu.Unlock()
			<-go1
			count(j.Channel, -1)
			return nil
		}}
		const each = 6
		for range each {
			b.enqueue("x", "root.dedup", 1)
		}
		for range each {
			b.enqueue("x", "root.import.small", 1)
		}
		for range each {
			b.enqueue("x", "root", 1)
		}
		for range 2 {
			b.start(map[string]work.Method{"x": do}, "root:3,root.dedup:1,root.import:1", time.Hour)
		}
		<-full // one of each channel, though dedup's are all older
		close(go1)
		for range 3 * each * 2 {
			select {
			case e := <-b.events:
				if e.What != work.Started && e.What != work.Done {
					t.Error(e.What, e.Trouble)
				}
			case <-time.After(time.Minute):
				t.Fatal("no end")
			}
		}
		mu.Lock()
		defer mu.Unlock()
		if most["root.dedup"] != 1 || most["root.import.small"] != 1 || most["all"] != 3 {
			t.Error(most)
		}
	})
}

// A database that goes away and comes back is told once each, and the work goes on.
func TestDatabaseAway(t *testing.T) {
	pg := servers.Postgres(t, "fsync=off")
	pg.CreateDB("dfr")
	s, err := postgres.Open(t.Context(), pg.URL("dfr"), 3)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	b := &bench{t: t, s: s, now: time.Date(2026, time.November, 23, 9, 0, 0, 0, time.UTC), events: make(chan work.Event, 1000)}
	stop := b.start(map[string]work.Method{"x": {Do: func(context.Context, store.Job) error { return nil }}}, "root:1", 0)
	b.enqueue("x", "root", 1)
	b.next(work.Started)
	b.next(work.Done)
	pg.Kill()
	if e := b.next(work.Away); !errors.Is(e.Trouble, registry.ErrAway) {
		t.Error(e.Trouble)
	}
	pg.Start()
	b.next(work.Back)
	b.enqueue("x", "root", 1)
	b.next(work.Started)
	b.next(work.Done)
	stop()
}
