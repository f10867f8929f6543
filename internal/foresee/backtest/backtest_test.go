package backtest

import (
	"context"
	"errors"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tidemark/internal/decide/engine"
	"tidemark/internal/decide/policy"
	"tidemark/internal/fleet"
	"tidemark/internal/record"
	"tidemark/internal/record/sqlite"
)

const tick = 15 * time.Second

var start = time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC)

// rules is the requirements' CPU policy with a threshold.
func rules(out float64) *policy.Fleet {
	return &policy.Fleet{
		Name: "odoo-workers", Mode: fleet.On, Bounds: fleet.Bounds{Min: 2, Max: 10},
		Signals: []policy.Signal{{Name: "cpu", Unit: fleet.Percent, Period: time.Minute, Window: time.Minute, PerWorker: true}},
		Policies: []policy.Policy{{ID: "cpu", Mode: fleet.On, Rules: []policy.Rule{
			{Signal: 0, Operator: fleet.AtLeast, Threshold: out, Change: 1, N: 3, M: 2}, {Signal: 0, Operator: fleet.AtMost, Threshold: 30, Change: -1, N: 5, M: 4},
		}}},
		Safeguards: policy.Safeguards{Pace: policy.Pace{CooldownUp: 300 * time.Second, CooldownDown: 600 * time.Second, StepUp: 1, StepDown: 1, RateCount: 1, RateWindow: 5 * time.Minute}, ActionLimit: 3 * time.Minute},
	}
}

// live is a fleet that does what its policy decides, a tick later, with a load that comes and goes; it leaves a journal.
func live(t *testing.T, p *policy.Fleet, hours float64, spoil func(i int, tk *record.Tick)) *sqlite.Journal {
	t.Helper()
	j, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "journal.db"), record.Retention{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	var state engine.State
	state.Fit(p)
	size := 2
	var ticks []record.Tick
	var stored fleet.Decision
	for i := range int(hours * float64(time.Hour/tick)) {
		at := start.Add(time.Duration(i) * tick)
		work := 3.2 - 2.7*math.Cos(2*math.Pi*at.Sub(start).Hours()/6) // workers' worth
		r := fleet.Reading{Value: min(100*work/float64(size), 100), Time: at, Quality: fleet.Fresh}
		in := engine.Input{Now: at, Size: fleet.Size{Known: true, Serving: size}, Readings: []fleet.Reading{r}}
		var d fleet.Decision
		engine.Step(p, &state, &in, &d)
		tk := record.Tick{Fleet: p.Name, Time: at, Size: in.Size, Readings: []record.Sample{{Signal: "cpu", Reading: r}}}
		if !d.SameAs(&stored) {
			c := d
			c.Reasons = slices.Clone(d.Reasons)
			tk.Decision, stored = &c, c
		}
		if spoil != nil {
			spoil(i, &tk)
		}
		ticks = append(ticks, tk)
		size = d.To
	}
	if err := j.Commit(t.Context(), ticks...); err != nil {
		t.Fatal(err)
	}
	return j
}

func replay(t *testing.T, p *policy.Fleet, j Journal) *Result {
	t.Helper()
	r, err := Replay{Name: "p", Policy: p, Tick: tick, Since: start, Until: start.Add(1000 * time.Hour)}.Run(t.Context(), j)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// The policy that was in force would have done what it did, to the tick.
func TestTheSamePolicyAgrees(t *testing.T) {
	j := live(t, rules(70), 12, nil)
	r := replay(t, rules(70), j)
	if r.Differ != 0 || r.Agree < 10 || r.Ticks != 2880 || r.Gaps != 0 || !r.SureUntil.Equal(r.Until) || len(r.Notes) != 0 {
		t.Errorf("%d differ, %d agree, %d ticks, %d gaps, %q; first: %+v", r.Differ, r.Agree, r.Ticks, r.Gaps, r.Notes, r.Changes[0])
	}
	for _, c := range r.Changes {
		if !c.Replay.Time.Equal(c.Journal.Time) || c.Would != c.Did {
			t.Errorf("%+v", c)
		}
	}
	if n := len(r.Moments); n > moments || n < moments/2 {
		t.Errorf("%d moments", n)
	}
}

// Another threshold acts earlier; that is told with what would have been, and it is exact up to the first difference.
func TestAnotherPolicyDiffers(t *testing.T) {
	j := live(t, rules(70), 12, nil)
	r := replay(t, rules(50), j)
	if r.Differ == 0 || r.SureUntil.Before(start) || !r.SureUntil.Before(r.Until) {
		t.Fatalf("%d differ, sure until %s", r.Differ, r.SureUntil)
	}
	first := r.Changes[slices.IndexFunc(r.Changes, func(c Difference) bool { return c.Verdict != Agree })]
	if first.Verdict != Only || first.Would != 3 || first.Did != 2 || first.Replay.Reasons[0].Threshold != 50 || first.Journal != nil {
		t.Errorf("%+v", first)
	}
	// A lazier one would not have scaled when the fleet was.
	r = replay(t, rules(99), j)
	if !slices.ContainsFunc(r.Changes, func(c Difference) bool { return c.Verdict == Not && c.Did > c.From && c.Replay == nil }) {
		t.Errorf("%+v", r.Changes)
	}
}

// What is missing in the journal is missing in the replay: no tick of it reads 0, and a gap is told.
func TestMissing(t *testing.T) {
	p := rules(70)
	p.Signals = append(p.Signals, policy.Signal{Name: "sync_p95", Unit: fleet.Seconds, Period: time.Minute, Window: time.Minute})
	j := live(t, rules(70), 6, func(i int, tk *record.Tick) {
		if i >= 100 && i < 120 {
			tk.Size = fleet.Size{}
		}
	})
	r := replay(t, p, j)
	if len(r.Absent) != 1 || r.Absent[0] != "sync_p95" || len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "nothing of [sync_p95]") {
		t.Errorf("%v, %q", r.Absent, r.Notes)
	}
	unknown := 0
	for _, m := range r.Moments {
		if m.Size == -1 && m.Would == -1 {
			unknown++
		}
	}
	if unknown < 5 {
		t.Errorf("%d moments of unknown size", unknown)
	}
	if _, err := (Replay{Policy: p, Tick: tick, Since: start.Add(100 * time.Hour)}).Run(t.Context(), j); !errors.Is(err, ErrNothing) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (Replay{Policy: p, Tick: tick}).Run(ctx, j); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// The figure to print is ticks/s: a month of 15 s ticks has 172,800.
func BenchmarkReplay(b *testing.B) {
	p := rules(70)
	run := &run{Replay: Replay{Policy: p, Tick: tick}, out: &Result{}, policy: p, at: map[string]int{"cpu": 0}, seen: make([]bool, 1)}
	run.state.Fit(p)
	run.input.Readings = make([]fleet.Reading, 1)
	at := start
	samples := []record.Sample{{Signal: "cpu", Reading: fleet.Reading{Value: 50, Quality: fleet.Fresh}}, {Signal: record.SizeSignal, Reading: fleet.Reading{Value: 4, Quality: fleet.Fresh}}}
	for b.Loop() {
		at = at.Add(tick)
		samples[0].Reading.Time = at
		run.tick(at, samples)
		run.out.Moments = run.out.Moments[:0]
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "Mticks/s")
}
