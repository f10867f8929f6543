package control

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tidemark/internal/decide/policy"
	"tidemark/internal/decide/schedule"
	"tidemark/internal/fleet"
	"tidemark/internal/record"
)

// fleetJournal keeps the state of each fleet apart.
type fleetJournal struct {
	memJournal
	states map[string][]byte
	refuse string // the fleet whose ticks cannot be recorded
}

func (j *fleetJournal) Commit(ctx context.Context, ticks ...record.Tick) error {
	j.mu.Lock()
	if slices.ContainsFunc(ticks, func(t record.Tick) bool { return t.Fleet == j.refuse }) {
		j.mu.Unlock()
		return errors.New("no space left on device")
	}
	for _, t := range ticks {
		if t.State != nil {
			j.states[t.Fleet] = t.State
		}
	}
	j.mu.Unlock()
	return j.memJournal.Commit(ctx, ticks...)
}

func (j *fleetJournal) State(_ context.Context, name string) ([]byte, time.Time, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.states[name], time.Time{}, nil
}

// member is a fleet that shares something with others.
type member struct {
	target *testTarget
	cpu    *testSource
	parts  Parts
}

// company is several fleets of one instance.
type company struct {
	journal *fleetJournal
	clock   *testClock
	fleets  []*member
	loop    *Loop
	quota   int

	mu   sync.Mutex
	most int // workers seen at once
}

func newCompany(quota int, priorities ...int) *company {
	c := &company{journal: &fleetJournal{states: map[string][]byte{}}, clock: &testClock{boot: "1", zero: time.Now()}, quota: quota}
	for i, priority := range priorities {
		m := &member{target: &testTarget{n: 2}, cpu: &testSource{value: 50}}
		p := cpuPolicy(string(rune('a' + i)))
		p.CooldownUp, p.CooldownDown, p.RateWindow = time.Minute, time.Minute, time.Minute
		p.Policies[0].Rules = p.Policies[0].Rules[:1] // nobody shrinks but to give way
		m.parts = Parts{Policy: p, Sources: []Source{m.cpu}, Target: countingTarget{m.target, c}, Priority: priority}
		c.fleets = append(c.fleets, m)
	}
	return c
}

// countingTarget notes how many workers there are in all whenever one of them is changed.
type countingTarget struct {
	*testTarget
	c *company
}

func (t countingTarget) Scale(ctx context.Context, n int, drain fleet.Drain) error {
	err := t.testTarget.Scale(ctx, n, drain)
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	t.c.most = max(t.c.most, t.c.total())
	return err
}

func (c *company) total() (n int) {
	for _, m := range c.fleets {
		m.target.mu.Lock()
		n += m.target.n
		m.target.mu.Unlock()
	}
	return n
}

func (c *company) start(t *testing.T) {
	t.Helper()
	var parts []Parts
	for _, m := range c.fleets {
		parts = append(parts, m.parts)
	}
	c.loop = New(Options{Journal: c.journal, Clock: c.clock})
	c.loop.Share(c.quota)
	if err := c.loop.Start(parts); err != nil {
		t.Fatal(err)
	}
}

func (c *company) pass(d time.Duration) {
	time.Sleep(d) // in a bubble: time passes at once
	synctest.Wait()
}

// want checks the sizes, in the order of the fleets.
func (c *company) want(t *testing.T, sizes ...int) {
	t.Helper()
	for i, m := range c.fleets {
		m.target.mu.Lock()
		n := m.target.n
		m.target.mu.Unlock()
		if n != sizes[i] {
			t.Errorf("fleet %s has %d workers, want %d: %+v", m.parts.Policy.Name, n, sizes[i], c.loop.Status()[i].Decision.Reasons)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.quota > 0 && c.most > c.quota {
		t.Errorf("%d workers at once, and the quota is %d", c.most, c.quota)
	}
}

// Two busy fleets and a quota that does not suffice for both: the critical one gets what it wants, the other what is left, and gives
// back what it had before, down to its minimum and no further.
func TestCriticalFleetGoesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCompany(8, 5, 1)
		c.start(t)
		defer c.loop.Stop()
		c.fleets[0].cpu.set(90, nil)
		c.pass(20 * time.Minute)
		c.want(t, 6, 2)
		c.fleets[1].cpu.set(90, nil)
		c.pass(40 * time.Minute)
		c.want(t, 2, 6)
		st := c.loop.Status()[0]
		if st.Room != 2 || !slices.ContainsFunc(st.Decision.Reasons, func(r fleet.Reason) bool { return r.Code == fleet.LimitedQuota }) {
			t.Errorf("room %d, %+v", st.Room, st.Decision.Reasons)
		}
		c.fleets[1].cpu.set(50, nil) // it wants no more: what it holds it keeps, and what it does not is free
		c.pass(10 * time.Minute)
		c.want(t, 2, 6)
	})
}

// A fleet whose source and target hang keeps what it holds, and costs the others nothing.
func TestFrozenFleetDelaysNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCompany(8, 1, 5)
		c.start(t)
		defer c.loop.Stop()
		c.pass(time.Minute)
		hang := make(chan struct{})
		defer close(hang)
		c.fleets[0].cpu.mu.Lock()
		c.fleets[0].cpu.hang = hang
		c.fleets[0].cpu.mu.Unlock()
		c.fleets[0].target.mu.Lock()
		c.fleets[0].target.hang = true
		c.fleets[0].target.mu.Unlock()
		c.fleets[1].cpu.set(90, nil)
		c.pass(3 * time.Minute)
		c.want(t, 2, 3)
		c.pass(20 * time.Minute)
		c.want(t, 2, 6)
	})
}

// After a restart the quota is kept from the first tick on, also towards a fleet that cannot be read any more.
func TestQuotaSurvivesRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCompany(8, 5, 5)
		c.start(t)
		c.fleets[0].cpu.set(90, nil)
		c.pass(20 * time.Minute)
		c.want(t, 6, 2)
		c.loop.Stop()
		c.fleets[0].target.mu.Lock()
		c.fleets[0].target.err = errors.New("no such file: /run/odoo.pid")
		c.fleets[0].target.mu.Unlock()
		c.start(t)
		defer c.loop.Stop()
		c.fleets[1].cpu.set(90, nil)
		c.pass(20 * time.Minute)
		c.want(t, 6, 2)
	})
}

// What could not be recorded was not done, and holds nothing.
func TestRefusedDecisionHoldsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCompany(5, 5, 5)
		c.start(t)
		defer c.loop.Stop()
		c.pass(time.Minute)
		c.journal.mu.Lock()
		c.journal.refuse = "a"
		c.journal.mu.Unlock()
		c.fleets[0].cpu.set(90, nil)
		c.pass(5 * time.Minute)
		c.fleets[1].cpu.set(90, nil)
		c.pass(10 * time.Minute)
		c.want(t, 2, 3)
	})
}

// A fleet that a reload takes away holds nothing any more; a quota that is lowered makes fleets give way.
func TestReloadChangesWhatIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCompany(6, 5, 5)
		c.start(t)
		defer c.loop.Stop()
		c.fleets[0].cpu.set(90, nil)
		c.pass(20 * time.Minute)
		c.want(t, 4, 2)
		if err := c.loop.Reload([]Parts{c.fleets[0].parts}); err != nil {
			t.Fatal(err)
		}
		c.quota = 0 // the two workers of b are no longer looked at, and not counted
		c.pass(20 * time.Minute)
		c.want(t, 6, 2)
		c.loop.Share(3)
		c.pass(20 * time.Minute)
		c.want(t, 3, 2)
	})
}

// Two fleets on one host want more than it holds. When there is room for two workers the critical one gets them, though the other looks
// first.
func TestMemoryGoesToTheCriticalFleet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCompany(0, 5, 1)
		available := &testSource{value: 550}
		for _, m := range c.fleets {
			m.parts.Policy.Signals = append(m.parts.Policy.Signals, policy.Signal{Name: "available", Unit: fleet.Bytes, Period: time.Minute})
			m.parts.Policy.Supplies = []policy.Supply{{Resource: policy.HostMemory, Free: []int{1}, Reserve: 512, PerWorker: 100}}
			m.parts.Sources = append(m.parts.Sources, available)
			m.parts.Policy.Policies[0].Rules[0].Change = 2
			m.parts.Policy.StepUp = 2
		}
		c.start(t)
		defer c.loop.Stop()
		c.pass(time.Minute)
		for _, m := range c.fleets {
			m.cpu.set(90, nil)
		}
		c.pass(5 * time.Minute)
		c.want(t, 2, 2)
		available.set(750, nil) // less 512: room for two, and each wants two
		c.pass(15 * time.Second)
		available.set(550, nil)
		c.pass(10 * time.Minute)
		c.want(t, 2, 4)
	})
}

// A guard's holding is an event, and so is its letting go.
func TestGuardEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		waiting := &testSource{}
		parts := w.parts()
		parts.Policy.Signals = append(parts.Policy.Signals, policy.Signal{Name: "pool_waiting", Period: time.Minute, Statistic: policy.Max})
		parts.Policy.Guards = []policy.Guard{{Name: "database", Protects: policy.ProtectsDatabase, If: []policy.Condition{{
			Rule: policy.Rule{Signal: 1, Operator: fleet.AtLeast, Threshold: 5, N: 3, M: 1}, Release: 5}}}}
		parts.Sources = append(parts.Sources, waiting)
		w.loop = New(Options{Journal: w.journal, Clock: w.clock})
		if err := w.loop.Start([]Parts{parts}); err != nil {
			t.Fatal(err)
		}
		defer w.loop.Stop()
		w.pass(3 * time.Minute)
		waiting.set(7, nil)
		w.cpu.set(95, nil)
		w.pass(5 * time.Minute)
		if n := w.status().Size.Serving; n != 2 || !w.status().Guards[0].Holds {
			t.Errorf("%d workers, guards %+v", n, w.status().Guards)
		}
		waiting.set(0, nil)
		w.pass(5 * time.Minute)
		if n := w.status().Size.Serving; n != 3 {
			t.Errorf("%d workers once the database has room, want 3", n)
		}
		events := w.journal.events(fleet.EventGuard)
		if len(events) != 2 || events[0].Note != "pool_waiting is 7 (>= 5)" || events[1].Duration == 0 {
			t.Errorf("%+v", events)
		}
	})
}

// The status says what the schedule will ask for next, also after the clock jumped over a change.
func TestStatusLooksAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld() // a bubble begins at 2000-01-01 00:00 UTC
		parts := w.parts()
		parts.Policy.Schedule = &schedule.Schedule{Windows: []schedule.Window{{Name: "drive", Daily: schedule.Daily{From: 7 * 60, To: 18 * 60}, Floor: 4}}}
		w.loop = New(Options{Journal: w.journal, Clock: w.clock})
		if err := w.loop.Start([]Parts{parts}); err != nil {
			t.Fatal(err)
		}
		defer w.loop.Stop()
		w.pass(time.Minute)
		day := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
		if s := w.status().Schedule; s.Floor.Workers != 0 || !s.Next.Equal(day.Add(7*time.Hour)) || s.Then.Floor.Workers != 4 {
			t.Errorf("%+v", s)
		}
		w.clock.jump(8 * time.Hour)
		w.pass(time.Minute)
		if s := w.status().Schedule; s.Floor.Workers != 4 || !s.Next.Equal(day.Add(18*time.Hour)) || s.Then.Floor.Workers != 0 {
			t.Errorf("%+v", s)
		}
	})
}
