package recordtest

import (
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tidemark/internal/fleet"
	"tidemark/internal/record"
)

// model runs random commits, questions, maintenance and re-openings against the journal and against a plain list of
// ticks. Retention is left out: all that was committed must be there.
func model(t *testing.T, fresh func(t testing.TB) Open) {
	rapid.Check(t, func(r *rapid.T) {
		m := &machine{open: fresh(t)}
		m.reopen(r)
		defer func() { _ = m.j.Close() }()
		r.Repeat(map[string]func(*rapid.T){
			"":          m.compare,
			"commit":    m.commit,
			"maintain":  m.maintain,
			"reopen":    m.reopen,
			"series":    m.series,
			"events":    m.events,
			"decisions": m.decisions,
			"readings":  m.readings,
		})
	})
}

type machine struct {
	open  Open
	j     Journal
	ticks []record.Tick
}

var (
	someFleet  = rapid.SampledFrom([]string{"a", "b"})
	someSignal = rapid.SampledFrom([]string{"cpu", "memory", "queue"})
	someKind   = rapid.SampledFrom([]fleet.Kind{fleet.EventAlarm, fleet.EventDecision, fleet.EventOrder})
)

// someTime often is the same time again, and spreads over minutes, hours and months.
func someTime(r *rapid.T, label string) time.Time {
	unit := rapid.SampledFrom([]time.Duration{1, time.Second, time.Minute, time.Hour, 24 * time.Hour}).Draw(r, label+" unit")
	return begin.Add(time.Duration(rapid.IntRange(-60, 60).Draw(r, label)) * unit)
}

func someTick(r *rapid.T) record.Tick {
	tick := record.Tick{Fleet: someFleet.Draw(r, "fleet"), Time: someTime(r, "time")}
	if rapid.Bool().Draw(r, "has state") {
		tick.State = rapid.SliceOfN(rapid.Byte(), 1, 50).Draw(r, "state")
	}
	tick.Size = fleet.Size{Known: rapid.Bool().Draw(r, "known"), Serving: rapid.IntRange(0, 20).Draw(r, "serving")}
	for _, name := range rapid.SliceOfNDistinct(someSignal, 0, 3, rapid.ID).Draw(r, "signals") {
		reading := fleet.Reading{Time: tick.Time, Quality: fleet.Quality(rapid.IntRange(0, int(fleet.Fresh)).Draw(r, "quality"))}
		if reading.Quality == fleet.Fresh || reading.Quality == fleet.Stale {
			reading.Value = rapid.Float64Range(-1e6, 1e6).Draw(r, "value")
		}
		tick.Readings = append(tick.Readings, record.Sample{Signal: name, Reading: reading})
	}
	if rapid.IntRange(0, 3).Draw(r, "decides") == 0 {
		tick.Decision = decided(tick.Fleet, tick.Time, rapid.IntRange(0, 9).Draw(r, "from"), rapid.IntRange(0, 9).Draw(r, "to"))
	}
	for range rapid.IntRange(0, 2).Draw(r, "events") {
		e := fleet.Event{Time: someTime(r, "event time"), Fleet: tick.Fleet, Kind: someKind.Draw(r, "kind"), Note: rapid.String().Draw(r, "note")}
		if rapid.IntRange(0, 5).Draw(r, "of the daemon") == 0 {
			e.Fleet = ""
		}
		tick.Events = append(tick.Events, e)
	}
	return tick
}

func (m *machine) commit(r *rapid.T) {
	ticks := rapid.SliceOfN(rapid.Custom(someTick), 1, 40).Draw(r, "ticks")
	commit(r, m.j, ticks...)
	m.ticks = append(m.ticks, ticks...)
}

func (m *machine) maintain(r *rapid.T) {
	if err := m.j.Maintain(ctx, begin); err != nil {
		r.Fatal(err)
	}
}

func (m *machine) reopen(r *rapid.T) {
	if m.j != nil {
		if err := m.j.Close(); err != nil {
			r.Fatal(err)
		}
	}
	const ever = 100 * 365 * 24 * time.Hour
	var err error
	if m.j, err = m.open(record.Retention{Raw: ever, Minutes: ever, Hours: ever, Decisions: ever}); err != nil {
		r.Fatal(err)
	}
}

// compare holds after every step.
func (m *machine) compare(r *rapid.T) {
	states, times, fleets := map[string]string{}, map[string]time.Time{}, map[string]bool{}
	for _, tick := range m.ticks {
		if tick.State != nil {
			states[tick.Fleet], times[tick.Fleet] = string(tick.State), tick.Time
		}
		if tick.State != nil || len(tick.Readings) > 0 || tick.Size.Known || tick.Decision != nil {
			fleets[tick.Fleet] = true
		}
	}
	var names []string
	for _, name := range []string{"a", "b"} {
		state, when, err := m.j.State(ctx, name)
		want(r, "state", string(state), states[name], err)
		want(r, "its time", when, times[name], nil)
		if fleets[name] {
			names = append(names, name)
		}
	}
	got, err := m.j.Fleets(ctx)
	want(r, "fleets", got, names, err)
}

func (m *machine) series(r *rapid.T) {
	q := record.SeriesQuery{Fleet: someFleet.Draw(r, "fleet"), Signal: someSignal.Draw(r, "signal"), MaxPoints: rapid.IntRange(1, 100).Draw(r, "points")}
	if rapid.Bool().Draw(r, "bounded") {
		q.Since, q.Until = someTime(r, "since"), someTime(r, "until")
		if q.Until.Before(q.Since) {
			q.Since, q.Until = q.Until, q.Since
		}
	}
	points, err := m.j.Series(ctx, q)
	if err != nil {
		r.Fatal(err)
	}
	checkPoints(r, q, points, m.ticks)
	size, err := m.j.Series(ctx, record.SeriesQuery{Fleet: q.Fleet, Signal: record.SizeSignal, MaxPoints: 1})
	if err != nil {
		r.Fatal(err)
	}
	n, workers := 0, 0.0
	for _, tick := range m.ticks {
		if tick.Fleet == q.Fleet && tick.Size.Known {
			n, workers = n+1, workers+float64(tick.Size.Workers())
		}
	}
	for _, p := range size {
		if p.N != n || n > 0 && math.Abs(p.Mean*float64(n)-workers) > 1e-6 {
			r.Fatalf("size %+v; committed were %d with %v workers in sum", p, n, workers)
		}
	}
	if n > 0 && len(size) != 1 {
		r.Fatalf("%d points of size", len(size))
	}
}

func (m *machine) events(r *rapid.T) {
	q := record.EventQuery{Limit: rapid.IntRange(0, 200).Draw(r, "limit")}
	if rapid.Bool().Draw(r, "of a fleet") {
		q.Fleet = someFleet.Draw(r, "fleet")
	}
	q.Kinds = rapid.SliceOfNDistinct(someKind, 0, 2, rapid.ID).Draw(r, "kinds")
	if rapid.Bool().Draw(r, "bounded") {
		q.Since, q.Until = someTime(r, "since"), someTime(r, "until")
	}
	var wanted []fleet.Event
	for _, tick := range m.ticks {
		for _, e := range tick.Events {
			if (q.Fleet == "" || e.Fleet == q.Fleet) && (len(q.Kinds) == 0 || slices.Contains(q.Kinds, e.Kind)) &&
				(q.Since.IsZero() || !e.Time.Before(q.Since)) && (q.Until.IsZero() || e.Time.Before(q.Until)) {
				wanted = append(wanted, e)
			}
		}
	}
	slices.Reverse(wanted)
	limit := q.Limit
	if limit == 0 {
		limit = 100
	}
	wanted = wanted[:min(len(wanted), limit)]
	got, err := m.j.Events(ctx, q)
	for i := range got {
		if i > 0 && got[i-1].ID <= got[i].ID {
			r.Fatalf("IDs do not fall: %d, %d", got[i-1].ID, got[i].ID)
		}
	}
	if err == nil && len(got) > 1 { // and following from the oldest of them brings the others, oldest first
		q.After, q.Limit = got[len(got)-1].ID, len(got)
		next, err := m.j.Events(ctx, q)
		slices.Reverse(next)
		want(r, "events followed", next, got[:len(got)-1], err)
	}
	for i := range got {
		got[i].ID = 0
	}
	want(r, "events", got, wanted, err)
}

func (m *machine) decisions(r *rapid.T) {
	name, when := someFleet.Draw(r, "fleet"), someTime(r, "at")
	var wanted *fleet.Decision
	var all []fleet.Decision
	for _, tick := range m.ticks {
		if d := tick.Decision; d != nil && tick.Fleet == name {
			if !d.Time.After(when) && (wanted == nil || !d.Time.Before(wanted.Time)) {
				wanted = d
			}
			all = append(all, *d)
		}
	}
	got, ok, err := m.j.DecisionAt(ctx, name, when)
	want(r, "decision", got, wanted, err)
	want(r, "there", ok, wanted != nil, nil)
	slices.SortStableFunc(all, func(a, b fleet.Decision) int { return a.Time.Compare(b.Time) })
	slices.Reverse(all)
	list, err := m.j.Decisions(ctx, name, time.Time{}, time.Time{}, 1_000_000)
	want(r, "decisions", list, all, err)
}

func (m *machine) readings(r *rapid.T) {
	name, when := someFleet.Draw(r, "fleet"), someTime(r, "at")
	var wanted *record.Tick
	for i, tick := range m.ticks {
		if tick.Fleet == name && !tick.Time.After(when) && (tick.State != nil || len(tick.Readings) > 0 || tick.Size.Known) &&
			(wanted == nil || !tick.Time.Before(wanted.Time)) {
			wanted = &m.ticks[i]
		}
	}
	got, err := m.j.ReadingsAt(ctx, name, when)
	if wanted == nil {
		want(r, "readings", got, nil, err)
	} else {
		want(r, "readings", got, wanted.Readings, err)
	}
}
