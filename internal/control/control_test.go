package control

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tidemark/internal/decide/engine"
	"tidemark/internal/decide/policy"
	"tidemark/internal/fleet"
	"tidemark/internal/record"
)

// The world of these tests: a clock that can be moved, a journal, a target and sources that can fail or hang. They run in
// synctest bubbles, so a tick of 15 s takes no time.

type testClock struct {
	mu   sync.Mutex
	skew time.Duration
	boot string
	zero time.Time
}

func (c *testClock) Wall() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().UTC().Round(0).Add(c.skew)
}
func (c *testClock) Uptime() time.Duration { return time.Since(c.zero) }
func (c *testClock) Boot() string          { return c.boot }
func (c *testClock) jump(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.skew += d
}

type memJournal struct {
	mu    sync.Mutex
	err   error
	ticks []record.Tick
	state []byte
	at    time.Time
	// series is what the journal had when it was opened.
	series    []record.Point
	seriesErr error
}

func (j *memJournal) Commit(_ context.Context, ticks ...record.Tick) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return j.err
	}
	for _, t := range ticks {
		j.ticks = append(j.ticks, t)
		if t.State != nil {
			j.state, j.at = t.State, t.Time
		}
	}
	return nil
}

func (j *memJournal) State(context.Context, string) ([]byte, time.Time, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.state, j.at, nil
}

func (j *memJournal) Series(_ context.Context, q record.SeriesQuery) ([]record.Point, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []record.Point
	for _, p := range j.series {
		if !p.Time.Before(q.Since) && p.Time.Before(q.Until) {
			out = append(out, p)
		}
	}
	return out, j.seriesErr
}

func (j *memJournal) fail(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.err = err
}

func (j *memJournal) all() []record.Tick {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.ticks)
}

func (j *memJournal) events(kind fleet.Kind) (out []fleet.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, t := range j.ticks {
		for _, e := range t.Events {
			if e.Kind == kind {
				out = append(out, e)
			}
		}
	}
	return out
}

type testTarget struct {
	mu    sync.Mutex
	n     int
	err   error
	hang  bool
	scale []int         // sizes asked for
	boot  time.Duration // of a new worker
	stuck bool          // Scale fails

	leaving int // the workers from this number on are being drained; 0: none
}

func (f *testTarget) Workers(ctx context.Context) ([]fleet.Worker, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.hang {
		f.mu.Unlock()
		<-ctx.Done()
		f.mu.Lock()
		return nil, ctx.Err()
	}
	if f.err != nil {
		return nil, f.err
	}
	var out []fleet.Worker
	for i := range f.n {
		phase := fleet.Serving
		if f.leaving > 0 && i >= f.leaving-1 {
			phase = fleet.Draining
		}
		out = append(out, fleet.Worker{ID: string(rune('a' + i)), Phase: phase})
	}
	return out, nil
}

func (f *testTarget) Scale(ctx context.Context, n int, drain fleet.Drain) error {
	f.mu.Lock()
	f.scale = append(f.scale, n)
	stuck, boot, from := f.stuck, f.boot, f.n
	f.mu.Unlock()
	if stuck {
		return errors.New("the master does not answer")
	}
	defer f.leave(0) // cut short, what was being drained serves on
	for i := from; i > n; i-- {
		if drain != nil {
			f.leave(i)
			if err := drain(ctx, fleet.Worker{ID: string(rune('a' + i - 1))}); err != nil {
				return err
			}
		}
	}
	select {
	case <-time.After(boot):
	case <-ctx.Done():
		return ctx.Err()
	}
	f.set(n)
	return nil
}

func (f *testTarget) leave(from int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.leaving = from
}

func (f *testTarget) set(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n = n
}

func (f *testTarget) asked() []int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.scale)
}

type testSource struct {
	mu    sync.Mutex
	value float64
	err   error
	hang  chan struct{} // closed to let go; ctx is ignored
	reads atomic.Int32
}

func (s *testSource) Read(_ context.Context, scene fleet.Scene) (fleet.Reading, error) {
	s.reads.Add(1)
	s.mu.Lock()
	hang, err, v := s.hang, s.err, s.value
	s.mu.Unlock()
	if hang != nil {
		<-hang
	}
	if err != nil {
		return fleet.Reading{}, err
	}
	return fleet.Reading{Value: v, Quality: fleet.Fresh, Time: scene.Now}, nil
}

func (s *testSource) set(v float64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.value, s.err = v, err
}

func cpuPolicy(name string) policy.Fleet {
	return policy.Fleet{
		Name: name, Mode: fleet.On, Bounds: fleet.Bounds{Min: 2, Max: 10},
		Signals: []policy.Signal{{Name: "cpu", Unit: fleet.Percent, Period: time.Minute, PerWorker: true}},
		Policies: []policy.Policy{{ID: "cpu", Mode: fleet.On, Rules: []policy.Rule{
			{Operator: fleet.AtLeast, Threshold: 70, Change: 1, N: 3, M: 2},
			{Operator: fleet.AtMost, Threshold: 30, Change: -1, N: 5, M: 4},
		}}},
		Safeguards: policy.Safeguards{Pace: policy.Pace{CooldownUp: 5 * time.Minute, CooldownDown: 10 * time.Minute, StepUp: 1, StepDown: 1,
			RateCount: 1, RateWindow: 5 * time.Minute}, ActionLimit: 2 * time.Minute},
	}
}

type testWorld struct {
	clock   *testClock
	journal *memJournal
	target  *testTarget
	cpu     *testSource
	lease   Lease
	spool   Spool
	loop    *Loop
}

func newWorld() *testWorld {
	return &testWorld{clock: &testClock{boot: "1", zero: time.Now()}, journal: &memJournal{}, target: &testTarget{n: 2}, cpu: &testSource{value: 50}}
}

func (w *testWorld) parts() Parts {
	return Parts{Policy: cpuPolicy("odoo"), Sources: []Source{w.cpu}, Target: w.target}
}

// start begins a daemon's life; stop ends it.
func (w *testWorld) start(t *testing.T) {
	t.Helper()
	w.loop = New(Options{Journal: w.journal, Clock: w.clock, Lease: w.lease, Spool: w.spool})
	if err := w.loop.Start([]Parts{w.parts()}); err != nil {
		t.Fatal(err)
	}
}

func (w *testWorld) pass(d time.Duration) {
	time.Sleep(d) // in a bubble: time passes at once
	synctest.Wait()
}

func (w *testWorld) status() *Status { return w.loop.Status()[0] }

func TestScalesOutAndRecordsItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.target.boot = 4 * time.Second
		w.start(t)
		defer w.loop.Stop()
		w.cpu.set(90, nil)
		w.pass(4 * time.Minute)
		if got := w.status().Size.Serving; got != 3 {
			t.Fatalf("%d workers serve, want 3", got)
		}
		done := w.journal.events(fleet.EventActionDone)
		if len(done) != 1 || done[0].Parts == nil {
			t.Fatalf("action done events: %+v", done)
		}
		p := done[0].Parts
		sum := p.BreachToAlarm + p.AlarmToDecision + p.DecisionToAction + p.ActionToServing
		if sum != done[0].Duration {
			t.Errorf("the parts add up to %v, the whole is %v", time.Duration(sum), time.Duration(done[0].Duration))
		}
		if p.BreachToAlarm != fleet.Duration(time.Minute) || p.ActionToServing != fleet.Duration(4*time.Second) {
			t.Errorf("breach to alarm %v, action to serving %v; want 1m and 4s", time.Duration(p.BreachToAlarm), time.Duration(p.ActionToServing))
		}
		for _, k := range []fleet.Kind{fleet.EventAlarm, fleet.EventDecision, fleet.EventActionStarted} {
			if len(w.journal.events(k)) == 0 {
				t.Errorf("no event %s", k)
			}
		}
	})
}

func TestStuckSourceCostsTheOthersNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		hang := make(chan struct{})
		stuck := &testSource{hang: hang}
		other := &testTarget{n: 2}
		busy := &testSource{value: 90}
		w.loop = New(Options{Journal: w.journal, Clock: w.clock})
		bad := w.parts()
		bad.Policy.Signals = append(bad.Policy.Signals, policy.Signal{Name: "stuck", Period: time.Minute})
		bad.Policy.Policies[0].Rules = append(bad.Policy.Policies[0].Rules, policy.Rule{Signal: 1, Operator: fleet.AtLeast, Threshold: 1, Change: 1, N: 1, M: 1})
		bad.Sources = append(bad.Sources, stuck)
		w.cpu.set(90, nil)
		good := Parts{Policy: cpuPolicy("good"), Sources: []Source{busy}, Target: other}
		if err := w.loop.Start([]Parts{bad, good}); err != nil {
			t.Fatal(err)
		}
		defer w.loop.Stop()
		defer close(hang)
		w.pass(4 * time.Minute)
		for i, st := range w.loop.Status() {
			if st.Size.Serving != 3 {
				t.Errorf("fleet %s has %d workers, want 3", st.Fleet, st.Size.Serving)
			}
			if i == 0 && (st.Signals[1].Reading.Quality != fleet.Missing || st.Signals[1].Err == "") {
				t.Errorf("the stuck signal is %v (%q)", st.Signals[1].Reading.Quality, st.Signals[1].Err)
			}
		}
	})
}

// The readings that are there stay, wherever in the row one hangs until the time is up.
func TestOneThatHangsLosesNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		hang := make(chan struct{})
		p := w.parts()
		p.Policy.Signals, p.Policy.Policies, p.Sources = nil, nil, nil
		for i := range 20 {
			s := &testSource{value: 1}
			if i == 3 {
				s.hang = hang
			}
			p.Policy.Signals = append(p.Policy.Signals, policy.Signal{Name: string(rune('a' + i)), Period: time.Minute})
			p.Sources = append(p.Sources, s)
		}
		w.loop = New(Options{Journal: w.journal, Clock: w.clock})
		if err := w.loop.Start([]Parts{p}); err != nil {
			t.Fatal(err)
		}
		defer w.loop.Stop()
		defer close(hang)
		w.pass(10 * time.Second) // the first tick: later ones do not wait for it again
		for i, s := range w.status().Signals {
			if want := i != 3; (s.Reading.Quality == fleet.Fresh) != want {
				t.Errorf("%s is %v: %s", s.Name, s.Reading.Quality, s.Err)
			}
		}
	})
}

// sum derives the sum of the first n signals; it is missing when one of them is.
type sum int

func (n sum) Derive(scene fleet.Scene, readings []fleet.Reading) (fleet.Reading, error) {
	out := fleet.Reading{Time: scene.Now, Quality: fleet.Fresh}
	for _, r := range readings[:n] {
		if r.Quality != fleet.Fresh {
			return fleet.Reading{}, errors.New("an input is missing")
		}
		out.Value += r.Value
	}
	return out, nil
}

// A derived signal is of the same tick as what it is derived from, and never worth more.
func TestDerivedSignal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		other := &testSource{value: 5}
		p := w.parts()
		p.Policy.Signals = append(p.Policy.Signals, policy.Signal{Name: "other", Period: time.Minute}, policy.Signal{Name: "sum", Period: time.Minute})
		p.Sources = append(p.Sources, other, nil)
		p.Derived = map[int]Derived{2: sum(2)}
		w.loop = New(Options{Journal: w.journal, Clock: w.clock})
		if err := w.loop.Start([]Parts{p}); err != nil {
			t.Fatal(err)
		}
		defer w.loop.Stop()
		for v := range 5 {
			w.cpu.set(float64(v), nil)
			w.pass(15 * time.Second)
			if got := w.status().Signals[2].Reading; got.Value != float64(v+5) || got.Quality != fleet.Fresh || !got.Time.Equal(w.status().Time) {
				t.Errorf("%d + 5 is %+v at %v", v, got, w.status().Time)
			}
		}
		other.set(0, errors.New("gone"))
		w.pass(15 * time.Second)
		if got := w.status().Signals[2]; got.Reading.Quality != fleet.Missing || got.Err != "an input is missing" {
			t.Errorf("%+v", got)
		}
	})
}

// A source that hangs is not read again while it does, whatever is reloaded meanwhile.
func TestReloadWhileASourceHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.cpu.hang = make(chan struct{})
		w.start(t)
		defer w.loop.Stop()
		w.pass(time.Minute)
		if err := w.loop.Reload([]Parts{w.parts()}); err != nil {
			t.Fatal(err)
		}
		w.pass(time.Minute)
		if n := w.cpu.reads.Load(); n != 1 {
			t.Errorf("read %d times at once", n)
		}
		close(w.cpu.hang)
		w.pass(time.Minute)
		if got := w.status().Signals[0].Reading; got.Quality != fleet.Fresh {
			t.Errorf("%+v", got)
		}
	})
}

func TestStuckTargetHoldsAndSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.start(t)
		defer w.loop.Stop()
		w.pass(time.Minute)
		w.target.mu.Lock()
		w.target.hang = true
		w.target.mu.Unlock()
		w.cpu.set(95, nil)
		w.pass(5 * time.Minute)
		st := w.status()
		if st.TargetErr == "" || st.Size.Known || len(w.target.asked()) != 0 {
			t.Errorf("target error %q, size %+v, asked %v", st.TargetErr, st.Size, w.target.asked())
		}
		w.target.mu.Lock()
		w.target.hang = false
		w.target.mu.Unlock()
		w.pass(time.Minute)
		if got := w.status().Size.Serving; got != 3 {
			t.Errorf("%d workers after the target is back, want 3", got)
		}
		if lost, back := w.journal.events(fleet.EventTargetLost), w.journal.events(fleet.EventTargetBack); len(lost) != 1 || len(back) != 1 {
			t.Errorf("events: lost %+v, back %+v", lost, back)
		}
	})
}

func TestWhatCannotBeRecordedIsNotDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.start(t)
		defer w.loop.Stop()
		w.pass(time.Minute)
		w.journal.fail(errors.New("no space left on device"))
		w.cpu.set(95, nil)
		w.pass(10 * time.Minute)
		if asked := w.target.asked(); len(asked) != 0 {
			t.Fatalf("acted without a record: %v", asked)
		}
		st := w.status()
		if st.JournalErr == "" || !slices.ContainsFunc(st.Decision.Reasons, func(r fleet.Reason) bool { return r.Code == fleet.BlockedJournal }) {
			t.Errorf("journal error %q, reasons %+v", st.JournalErr, st.Decision.Reasons)
		}
		w.journal.fail(nil)
		w.pass(time.Minute)
		if got := w.status().Size.Serving; got != 3 {
			t.Errorf("%d workers after the journal is back, want 3: a decision that was not carried out starts no cooldown", got)
		}
		failed := w.journal.events(fleet.EventJournalFailed)
		if len(failed) != 1 || failed[0].Duration < fleet.Duration(9*time.Minute) {
			t.Errorf("journal events: %+v", failed)
		}
		if n := len(w.journal.events(fleet.EventDecision)); n != 1 {
			t.Errorf("%d decisions recorded, and one was carried out", n)
		}
		if n := len(w.journal.events(fleet.EventAlarm)); n == 0 {
			t.Error("the alarm raised while the journal was away is lost")
		}
	})
}

func TestRestartContinuesWhatWasDecided(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.target.boot = 20 * time.Second
		w.start(t)
		w.cpu.set(90, nil)
		for len(w.target.asked()) == 0 {
			w.pass(time.Second)
		}
		w.loop.Stop() // while the worker starts
		w.start(t)
		defer w.loop.Stop()
		w.pass(time.Minute)
		if got := w.status().Size.Serving; got != 3 {
			t.Errorf("%d workers, want 3", got)
		}
		if n := len(w.journal.events(fleet.EventDecision)); n != 1 {
			t.Errorf("%d decisions, want 1", n)
		}
		w.pass(3 * time.Minute)
		if got := w.status().Size.Serving; got != 3 {
			t.Errorf("%d workers: the cooldown was forgotten", got)
		}
		w.pass(2 * time.Minute)
		if got := w.status().Size.Serving; got != 4 {
			t.Errorf("%d workers after the cooldown, want 4", got)
		}
	})
}

func TestClockJumps(t *testing.T) {
	for _, jump := range []time.Duration{time.Hour, -time.Hour} {
		for _, restart := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				w.start(t)
				w.cpu.set(90, nil)
				for len(w.target.asked()) == 0 {
					w.pass(time.Second)
				}
				w.pass(time.Second)
				if restart {
					w.loop.Stop()
				}
				w.clock.jump(jump)
				if restart {
					w.start(t)
				}
				defer func() { w.loop.Stop() }()
				w.pass(4 * time.Minute)
				if got := w.status().Size.Serving; got != 3 {
					t.Errorf("jump of %v, restart %v: %d workers within the cooldown, want 3", jump, restart, got)
				}
				w.pass(2 * time.Minute)
				if got := w.status().Size.Serving; got != 4 {
					t.Errorf("jump of %v, restart %v: %d workers after the cooldown, want 4", jump, restart, got)
				}
				if e := w.journal.events(fleet.EventClockJump); len(e) != 1 {
					t.Errorf("jump of %v: events %+v", jump, e)
				}
			})
		}
	}
}

func TestBlackout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.target.n = 5
		w.start(t)
		defer w.loop.Stop()
		w.cpu.set(20, nil)
		w.pass(2 * time.Minute)
		w.cpu.set(0, errors.New("connection refused"))
		w.pass(10 * time.Minute)
		st := w.status()
		if st.Size.Serving != 5 || len(w.target.asked()) != 0 {
			t.Errorf("%d workers, asked %v: scaled in on unknown", st.Size.Serving, w.target.asked())
		}
		if sig := st.Signals[0]; sig.Lost.IsZero() || sig.Err != "connection refused" {
			t.Errorf("the status does not say which signal is lost, since when and why: %+v", sig)
		}
		lost := w.journal.events(fleet.EventSignalLost)
		if len(lost) != 1 || lost[0].Signal != "cpu" || lost[0].Note != "connection refused" {
			t.Errorf("events: %+v", lost)
		}
		w.cpu.set(20, nil)
		w.pass(6 * time.Minute)
		if got := w.status().Size.Serving; got != 4 {
			t.Errorf("%d workers after the signal is back, want 4", got)
		}
		if n := len(w.journal.events(fleet.EventSignalBack)); n != 1 {
			t.Errorf("%d events that it is back", n)
		}
	})
}

func TestOrdersTakeEffectAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.start(t)
		defer w.loop.Stop()
		w.pass(time.Minute)
		st, err := w.loop.Order(t.Context(), "odoo", engine.Order{Kind: engine.Pin, Size: 6, By: "ana", Note: "drive"})
		if err != nil || st.Decision.To != 6 {
			t.Fatalf("%+v, %v", st, err)
		}
		w.pass(time.Second)
		if got := w.status().Size.Serving; got != 6 {
			t.Errorf("%d workers, want 6", got)
		}
		if e := w.journal.events(fleet.EventOrder); len(e) != 1 || e[0].By != "ana" || e[0].Note != "drive" {
			t.Errorf("events: %+v", e)
		}
		if _, err := w.loop.Order(t.Context(), "nobody", engine.Order{Kind: engine.Hold}); !errors.Is(err, ErrNoFleet) {
			t.Errorf("order to a fleet that does not exist: %v", err)
		}
	})
}

func TestReloadKeepsTheState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.start(t)
		defer w.loop.Stop()
		w.cpu.set(90, nil)
		w.pass(3 * time.Minute) // scaled out once; the cooldown runs
		changed := w.parts()
		changed.Policy.Bounds.Max = 3
		if err := w.loop.Reload([]Parts{changed}); err != nil {
			t.Fatal(err)
		}
		w.pass(time.Minute)
		st := w.status()
		if st.Bounds.Max != 3 || st.LastUp.IsZero() || st.Rules[0].State != fleet.Alarm {
			t.Errorf("after the reload: bounds %v, last scale-up %v, alarm %v", st.Bounds, st.LastUp, st.Rules[0].State)
		}
		if err := w.loop.Reload(nil); err != nil || len(w.loop.Status()) != 0 {
			t.Errorf("a fleet taken out of the configuration is still there (%v)", err)
		}
		if got := w.target.asked(); !slices.Equal(got, []int{3}) {
			t.Errorf("asked %v; a fleet that leaves the configuration is left as it is", got)
		}
	})
}

func TestActionThatFailsIsTriedAgainThenGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.target.stuck = true
		w.start(t)
		defer w.loop.Stop()
		w.cpu.set(90, nil)
		w.pass(5 * time.Minute)
		if n := len(w.target.asked()); n < 3 {
			t.Errorf("tried %d times", n)
		}
		failed := w.journal.events(fleet.EventActionFailed)
		if len(failed) != 1 || failed[0].Note != "the master does not answer" || failed[0].From != 2 || failed[0].To != 3 {
			t.Errorf("events: %+v", failed)
		}
	})
}

// A balancer that is asked about a worker being drained must not be told that it serves.
type testBalancer struct {
	mu    sync.Mutex
	set   [][]string
	gone  []string
	delay time.Duration
	fault string
}

func (b *testBalancer) Set(_ context.Context, workers []fleet.Worker) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var ids []string
	for _, w := range workers {
		ids = append(ids, w.ID)
		if slices.Contains(b.gone, w.ID) {
			b.fault = "worker " + w.ID + " was put back while it drained"
		}
	}
	b.set = append(b.set, ids)
	return nil
}

func (b *testBalancer) Drain(ctx context.Context, w fleet.Worker) error {
	b.mu.Lock()
	b.gone = append(b.gone, w.ID)
	b.mu.Unlock()
	select {
	case <-time.After(b.delay):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestDrainingWorkerIsNotPutBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.target.n = 4
		b := &testBalancer{delay: 40 * time.Second} // several ticks long
		w.cpu.set(10, nil)
		p := w.parts()
		p.Balancer = b
		w.loop = New(Options{Journal: w.journal, Clock: w.clock})
		if err := w.loop.Start([]Parts{p}); err != nil {
			t.Fatal(err)
		}
		w.pass(7 * time.Minute)
		w.loop.Stop()
		if b.fault != "" {
			t.Error(b.fault)
		}
		if !slices.Equal(b.gone, []string{"d"}) || w.target.n != 3 {
			t.Errorf("drained %v, %d workers left", b.gone, w.target.n)
		}
	})
}

// A timer that fires a little late makes no tick late: two ticks are as far apart as they were meant to be.
func TestOnTime(t *testing.T) {
	due := time.Date(2027, 3, 1, 0, 0, 15, 0, time.UTC)
	for _, c := range []struct{ late, tick, want time.Duration }{
		{0, 15 * time.Second, 0},
		{300 * time.Microsecond, 15 * time.Second, 0},
		{10 * time.Millisecond, 15 * time.Second, 0},
		{11 * time.Millisecond, 15 * time.Second, 11 * time.Millisecond},
		{6 * time.Millisecond, 250 * time.Millisecond, 6 * time.Millisecond},
		{-time.Millisecond, 15 * time.Second, -time.Millisecond}, // the clock was set back a little: never before its time
	} {
		if got := onTime(due.Add(c.late), due, c.tick).Sub(due); got != c.want {
			t.Errorf("a tick of %v that comes %v late is taken as %v late, want %v", c.tick, c.late, got, c.want)
		}
	}
}
