package measure

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// Reckoned by hand. Four minutes of a need of 2, 4, 4, 2 against a supply of 2, 2, 5, 5, of which a fifth worker boots in the second.
func TestScore(t *testing.T) {
	m := Meter{Limit: 0.5}
	for _, tick := range []Tick{
		{For: time.Minute, Billed: 2, Serves: 2, Needed: 2, P95: 0.3, Moved: true},
		{For: time.Minute, Billed: 5, Serves: 2, Needed: 4, P95: 0.9},
		{For: time.Minute, Billed: 5, Serves: 5, Needed: 4, P95: 0.6},
		{For: time.Minute, Billed: 5, Serves: 5, Needed: 2, P95: math.NaN()},
	} {
		m.Add(tick)
	}
	want := Score{
		Duration: 4 * time.Minute, WorkerHours: 17.0 / 60, Minutes: 3, Violations: 2, Longest: 2, Actions: 1,
		Elasticity: Elasticity{
			UnderAccuracy:  100.0 / 4 * (2.0 / 4),
			OverAccuracy:   100.0 / 4 * (1.0/4 + 3.0/2),
			UnderTimeshare: 25,
			OverTimeshare:  50,
			Instability:    100, // up against nothing, nothing against up, nothing against down
			Jitter:         (1.0 - 2.0) / (4.0 / 60),
		},
	}
	got := m.Score()
	if diff := cmp.Diff(want, got, cmpopts.EquateApprox(0, 1e-9)); diff != "" {
		t.Error(diff)
	}
	if v, a := got.ViolationShare(), got.ActionsADay(); math.Abs(v-200.0/3) > 1e-9 || math.Abs(a-360) > 1e-9 {
		t.Errorf("%g %% of the minutes, %g actions a day", v, a)
	}
}

// Minutes are judged at their ends, however short the ticks are; a good minute, or one that nobody can judge, ends a run.
func TestMinutes(t *testing.T) {
	m := Meter{Limit: 0.5}
	p95 := []float64{9, 9, 9, 0.4, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.7, 9, 9, 9, math.NaN(), 0.1, 0.1, 0.1, 0.51}
	for _, v := range p95 {
		m.Add(Tick{For: 15 * time.Second, P95: v})
	}
	if s := m.Score(); s.Minutes != 4 || s.Violations != 3 || s.Longest != 2 {
		t.Errorf("%d of %d minutes, %d on end", s.Violations, s.Minutes, s.Longest)
	}
}

// A supply that follows the need at once is perfect in every respect.
func TestPerfect(t *testing.T) {
	m := Meter{Limit: 0.5}
	for _, n := range []int{3, 4, 4, 2, 7} {
		m.Add(Tick{For: time.Minute, Billed: n, Serves: n, Needed: n, P95: 0.5})
	}
	if s := m.Score(); s.Elasticity != (Elasticity{}) || s.Violations != 0 {
		t.Errorf("%+v", s)
	}
	if s := (&Meter{}).Score(); s != (Score{}) || s.ActionsADay() != 0 || s.ViolationShare() != 0 {
		t.Errorf("nothing comes to %+v", s)
	}
}
