package control

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"tidemark/internal/decide/policy"
	"tidemark/internal/fleet"
)

// While workers boot, an objective whose load goes on to grow asks for more: the attempt on its way is cut short and begun anew for the larger size, at the
// next tick, as one action with one end.
func TestObjectiveEnlargesAScaleOutOnItsWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.target.boot = 90 * time.Second
		rate, target := &testSource{value: 5}, &single{testTarget: w.target}
		fixed := func(v float64) *testSource { return &testSource{value: v} }
		w.loop = New(Options{Journal: w.journal, Clock: w.clock})
		err := w.loop.Start([]Parts{{Target: target, Sources: []Source{fixed(0.2), rate, fixed(0.07), fixed(0.3)}, Policy: policy.Fleet{
			Name: "odoo", Mode: fleet.On, Bounds: fleet.Bounds{Min: 2, Max: 20}, Safeguards: policy.Safeguards{ActionLimit: 5 * time.Minute},
			Signals: []policy.Signal{
				{Name: "p95", Unit: fleet.Seconds, Period: time.Minute, Window: 5 * time.Minute, Statistic: policy.Quantile, Q: 0.95},
				{Name: "rate", Period: 15 * time.Second, Window: 15 * time.Second},
				{Name: "s50", Unit: fleet.Seconds, Period: time.Minute, Window: 5 * time.Minute, Statistic: policy.Quantile, Q: 0.5},
				{Name: "s95", Unit: fleet.Seconds, Period: time.Minute, Window: 5 * time.Minute, Statistic: policy.Quantile, Q: 0.95},
			},
			Policies: []policy.Policy{{ID: "slo", Mode: fleet.On, SLO: &policy.SLO{
				Objective: 0, Within: 0.5, Rate: 1, Service: []int{2, 3}, Busy: -1, Backlog: -1, Drain: time.Minute, Boot: 90 * time.Second, Settle: 5 * time.Minute,
			}}},
		}}})
		if err != nil {
			t.Fatal(err)
		}
		defer w.loop.Stop()
		w.pass(5 * time.Minute)
		rate.set(15, nil)
		w.pass(30 * time.Second)
		first := w.target.asked()
		if len(first) == 0 {
			t.Fatal("nothing was asked for")
		}
		rose := w.clock.Wall()
		rate.set(60, nil)
		w.pass(4 * time.Minute)
		asked := w.target.asked()
		last := asked[len(asked)-1]
		if len(asked) == len(first) || !slices.IsSorted(asked) || len(slices.Compact(slices.Clone(asked))) != len(asked) {
			t.Fatalf("asked for %v, then %v: not for more each time", first, asked)
		}
		if target.overlaps > 0 {
			t.Errorf("%d attempts began while another went on", target.overlaps)
		}
		started, done := w.journal.events(fleet.EventActionStarted), w.journal.events(fleet.EventActionDone)
		if len(started) != len(asked) || len(done) != 1 || done[0].From != 2 || done[0].To != last || len(w.journal.events(fleet.EventActionFailed)) > 0 {
			t.Fatalf("asked for %v; started %+v; done %+v", asked, started, done)
		}
		if late := started[len(first)].Time.Sub(rose); late > 45*time.Second { // the first attempt ends later
			t.Errorf("begun anew %s after the load rose: it waited for what was on its way", late)
		}
		// Seen at the first tick after it has booted, and counted from the breach that began it all.
		if took := done[0].Time.Sub(started[len(started)-1].Time); took < w.target.boot || took > w.target.boot+15*time.Second {
			t.Errorf("served %s after the last attempt", took)
		}
		if whole, said := done[0].Time.Sub(started[0].Time), time.Duration(done[0].Duration); said < whole {
			t.Errorf("the action is said to have taken %s, of which %s were after its first attempt", said, whole)
		}
		if got := w.status().Size.Serving; got != last {
			t.Errorf("%d serve, asked for %d", got, last)
		}
	})
}

// single is a target that counts attempts that overlap.
type single struct {
	*testTarget
	busy, overlaps int
}

func (s *single) Scale(ctx context.Context, n int, drain fleet.Drain) error {
	s.mu.Lock()
	if s.busy++; s.busy > 1 {
		s.overlaps++
	}
	s.mu.Unlock()
	err := s.testTarget.Scale(ctx, n, drain)
	s.mu.Lock()
	s.busy--
	s.mu.Unlock()
	return err
}
