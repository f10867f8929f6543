package control

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"tidemark/internal/decide/policy"
	"tidemark/internal/fleet"
	"tidemark/internal/record"
	"tidemark/internal/record/sqlite"
)

// mornings is a fleet that is quiet but for each day from 08:00 to 10:00 in the zone, and has three weeks of that in its journal.
func mornings(zone *time.Location) (*testWorld, Parts) {
	w := newWorld()
	w.cpu.set(10, nil)
	now := time.Now().UTC()
	for at := now.Add(-21 * 24 * time.Hour); at.Before(now); at = at.Add(5 * time.Minute) {
		p := record.Point{Time: at, N: 20, Mean: 10, Min: 10, Max: 10}
		if hour := at.In(zone).Hour(); hour >= 8 && hour < 10 {
			p.Mean = 60
		}
		w.journal.series = append(w.journal.series, p)
	}
	w.journal.series[7].N = 0 // a power cut, and a tick out of turn
	w.journal.series = slices.Insert(w.journal.series, 100, record.Point{Time: w.journal.series[99].Time.Add(time.Second), N: 1, Mean: 10})
	p := policy.Fleet{
		Name: "odoo", Mode: fleet.On, Bounds: fleet.Bounds{Min: 2, Max: 10},
		Signals:    []policy.Signal{{Name: "rate", Unit: fleet.Number, Period: 15 * time.Second, Window: 15 * time.Second}},
		Policies:   []policy.Policy{{ID: "mornings", Mode: fleet.On, Forecast: &policy.Forecast{PerWorker: 12, Lead: 15 * time.Minute, MinWeeks: 2}}},
		Safeguards: policy.Safeguards{ActionLimit: time.Minute},
	}
	return w, Parts{Policy: p, Sources: []Source{w.cpu}, Target: w.target}
}

func (w *testWorld) startIn(t *testing.T, zone *time.Location, parts Parts) {
	t.Helper()
	w.loop = New(Options{Journal: w.journal, Clock: w.clock, Zone: zone})
	if err := w.loop.Start([]Parts{parts}); err != nil {
		t.Fatal(err)
	}
}

// The weeks in the journal are known from the first tick, and again after a restart; the hours are those of the instance.
func TestForecastIsLearnedFromTheJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		zone := time.FixedZone("there", int((7*time.Hour + 30*time.Minute).Seconds())) // it is 07:30
		w, parts := mornings(zone)
		w.startIn(t, zone, parts)
		w.pass(time.Minute)
		if st := w.status(); !st.Forecasts[0].Band.Known || st.Forecasts[0].Need > 2 || st.Size.Serving != 2 {
			t.Fatalf("at 07:31: %+v, %+v", st.Forecasts, st.Size)
		}
		w.loop.Stop()
		w.startIn(t, zone, parts)
		defer func() { w.loop.Stop() }()
		w.pass(25 * time.Minute)
		st := w.status()
		if f := st.Forecasts[0]; !f.Band.Known || f.Need < 4 || f.Band.Weeks < 2 || f.Band.Weeks > 3 || f.Err != "" {
			t.Errorf("at 07:56: %+v", f)
		}
		if st.Size.Serving < 4 {
			t.Errorf("at 07:56 %d workers serve", st.Size.Serving)
		}
		out := w.journal.events(fleet.EventDecision)
		if len(out) == 0 || !slices.ContainsFunc(out[0].Decision.Reasons, func(r fleet.Reason) bool { return r.Code == fleet.ForecastOut }) {
			t.Errorf("decisions: %+v", out)
		}
		last := w.journal.ticks[len(w.journal.ticks)-1].Readings
		if i := slices.IndexFunc(last, func(s record.Sample) bool { return s.Signal == record.PolicySignal("mornings") }); i < 0 || last[i].Reading.Value < 4 {
			t.Errorf("recorded: %+v", last)
		}
	})
}

// A journal that cannot be read for it costs the forecast its knowledge, and nothing else; it is said.
func TestForecastWithoutAJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, parts := mornings(time.UTC)
		w.journal.seriesErr = errors.New("database disk image is malformed")
		w.startIn(t, time.UTC, parts)
		defer func() { w.loop.Stop() }()
		w.pass(20 * time.Minute)
		st := w.status()
		if f := st.Forecasts[0]; f.Band.Known || f.Need != 0 || f.Doubt == "" || f.Err == "" || st.Size.Serving != 2 {
			t.Errorf("%+v, %+v", f, st.Size)
		}
	})
}

// Three weeks in a real journal, young enough to be raw or old enough to be rolled up, teach the same.
func TestForecastIsLearnedFromARealJournal(t *testing.T) {
	ctx := t.Context()
	j, err := sqlite.Open(ctx, filepath.Join(t.TempDir(), "journal.db"), record.Retention{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = j.Close() }()
	now := time.Now().UTC().Truncate(24 * time.Hour)
	var ticks []record.Tick
	for at := now.Add(-21 * 24 * time.Hour); at.Before(now); at = at.Add(10 * time.Minute) {
		r := fleet.Reading{Value: 10, Time: at, Quality: fleet.Fresh}
		if hour := at.Hour(); hour >= 8 && hour < 10 {
			r.Value = 60
		}
		ticks = append(ticks, record.Tick{Fleet: "odoo", Time: at, Readings: []record.Sample{{Signal: "rate", Reading: r}}, Size: fleet.Size{Known: true, Serving: 2}})
	}
	for chunk := range slices.Chunk(ticks, 1000) {
		if err := j.Commit(ctx, chunk...); err != nil {
			t.Fatal(err)
		}
	}
	_, parts := mornings(time.UTC)
	opts := Options{Journal: j, Clock: &testClock{skew: time.Until(now), boot: "1", zero: now}, Zone: time.UTC}
	learned := func(when string) {
		t.Helper()
		var o foresight
		o.learn(ctx, &opts, &parts.Policy, parts.Policy.Policies[0].Forecast)
		if o.err != nil {
			t.Fatal(o.err)
		}
		quiet, busy := o.profile.At(now.Add(3*time.Hour)), o.profile.At(now.Add(9*time.Hour))
		if !quiet.Known || !busy.Known || quiet.High > 20 || busy.Median < 40 || busy.High > 100 {
			t.Errorf("%s: at 03:00 %+v, at 09:00 %+v", when, quiet, busy)
		}
	}
	learned("raw")
	if err := j.Maintain(ctx, now); err != nil {
		t.Fatal(err)
	}
	learned("rolled up")
}
