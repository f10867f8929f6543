// Package recordtest is the conformance suite of journals: what the loop, the command line and the dashboard rely on,
// whatever the store. It leaves to each journal what is its own: its files, its speed, its recovery.
package recordtest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"tidemark/internal/fleet"
	"tidemark/internal/record"
)

// Journal is all that a journal can do.
type Journal interface {
	Commit(ctx context.Context, ticks ...record.Tick) error
	State(ctx context.Context, fleet string) ([]byte, time.Time, error)
	Events(ctx context.Context, q record.EventQuery) ([]fleet.Event, error)
	Decisions(ctx context.Context, fleet string, since, until time.Time, limit int) ([]fleet.Decision, error)
	DecisionAt(ctx context.Context, fleet string, t time.Time) (*fleet.Decision, bool, error)
	Series(ctx context.Context, q record.SeriesQuery) ([]record.Point, error)
	ReadingsAt(ctx context.Context, fleet string, t time.Time) ([]record.Sample, error)
	Signals(ctx context.Context, fleet string) ([]string, error)
	Fleets(ctx context.Context) ([]string, error)
	Maintain(ctx context.Context, now time.Time) error
	Close() error
}

// Open opens one store with the given retention. Called again after Close it opens the same store again.
type Open func(keep record.Retention) (Journal, error)

// Conform runs the suite. fresh makes an empty store that lives as long as t.
func Conform(t *testing.T, fresh func(t testing.TB) Open) {
	t.Helper()
	leaks := goleak.IgnoreCurrent()
	for _, c := range []struct {
		name string
		test func(t *testing.T, open Open)
	}{
		{"an empty journal knows nothing", empty},
		{"what is committed is there, also after opening again", roundTrip},
		{"the state is the latest that was given", states},
		{"events come newest first, or oldest first when followed", eventQueries},
		{"decisions are found by time", decisionQueries},
		{"what is no number is never a number", notNumbers},
		{"a tick that cannot be stored stores nothing", atomic},
		{"a clock that goes back loses nothing", clockBack},
		{"commits made at once are all stored", concurrent},
		{"a context that has ended commits nothing", cancelled},
		{"a closed journal says so", closed},
		{"retention deletes the old and keeps the latest", retention},
		{"series keep their sums when readings are rolled up and deleted", rollUps},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, fresh(t)) })
	}
	t.Run("it behaves as its model", func(t *testing.T) { model(t, fresh) })
	goleak.VerifyNone(t, leaks)
}

var (
	ctx   = context.Background()
	begin = time.Date(2027, 3, 1, 6, 0, 0, 0, time.UTC)
	same  = cmp.Options{cmpopts.EquateEmpty(), cmpopts.EquateNaNs()}
)

const aTick = 15 * time.Second

func open(t testing.TB, o Open, keep record.Retention) Journal {
	t.Helper()
	j, err := o(keep)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() }) // a second Close is allowed
	return j
}

// failer is what a test and a property test have in common.
type failer interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func commit(t failer, j Journal, ticks ...record.Tick) {
	t.Helper()
	if err := j.Commit(ctx, ticks...); err != nil {
		t.Fatal(err)
	}
}

func want[T any](t failer, what string, got, want T, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if d := cmp.Diff(want, got, same); d != "" {
		t.Fatalf("%s (-want +got):\n%s", what, d)
	}
}

// at is a plain tick of a fleet of two with one signal.
func at(name string, when time.Time, cpu float64) record.Tick {
	return record.Tick{
		Fleet: name, Time: when, State: fmt.Appendf(nil, `{"tick":%q}`, when), Size: fleet.Size{Known: true, Serving: 2},
		Readings: []record.Sample{{Signal: "cpu", Reading: fleet.Reading{Value: cpu, Time: when, Quality: fleet.Fresh}}},
	}
}

func decided(name string, when time.Time, from, to int) *fleet.Decision {
	return &fleet.Decision{
		Fleet: name, Time: when, From: from, To: to, Breach: when.Add(-3 * time.Minute), Alarm: when.Add(-time.Minute),
		Reasons: []fleet.Reason{
			{Code: fleet.RuleOut, Size: to, Policy: "p", Signal: "cpu", Unit: fleet.Percent, Operator: fleet.AtLeast, Value: 72.5, Threshold: 70, Breaching: 2, M: 2, N: 3},
			{Code: fleet.BlockedCooldown, Size: from, Since: when.Add(-time.Minute), Until: when.Add(4 * time.Minute), By: "moa", Note: "naïve “note”\x00\n"},
		},
		Would: fleet.Would{To: to, After: when.Add(time.Minute), Code: fleet.BlockedCooldown},
	}
}

func empty(t *testing.T, o Open) {
	j := open(t, o, record.Retention{})
	state, when, err := j.State(ctx, "f")
	want(t, "state", state, nil, err)
	if !when.IsZero() {
		t.Errorf("state of %v", when)
	}
	fleets, err := j.Fleets(ctx)
	want(t, "fleets", fleets, nil, err)
	signals, err := j.Signals(ctx, "f")
	want(t, "signals", signals, nil, err)
	events, err := j.Events(ctx, record.EventQuery{})
	want(t, "events", events, nil, err)
	points, err := j.Series(ctx, record.SeriesQuery{Fleet: "f", Signal: "cpu"})
	want(t, "series", points, nil, err)
	readings, err := j.ReadingsAt(ctx, "f", begin)
	want(t, "readings", readings, nil, err)
	if d, ok, err := j.DecisionAt(ctx, "f", begin); d != nil || ok || err != nil {
		t.Errorf("decision %v, %v, %v", d, ok, err)
	}
	if err := j.Maintain(ctx, begin); err != nil {
		t.Error(err)
	}
	if err := j.Commit(ctx); err != nil {
		t.Errorf("no ticks at all: %v", err)
	}
}

func roundTrip(t *testing.T, o Open) {
	tick := at("odoo-workers", begin, 71.5)
	tick.Size.Starting = 1
	tick.Readings = append(tick.Readings,
		record.Sample{Signal: "sync_p95", Reading: fleet.Reading{Time: begin, Quality: fleet.Sparse}},
		record.Sample{Signal: "memory", Reading: fleet.Reading{Value: 1 << 30, Time: begin.Add(-time.Hour), Quality: fleet.Stale}},
		record.Sample{Signal: "queue", Reading: fleet.Reading{Time: begin, Quality: fleet.Missing}})
	tick.Decision = decided(tick.Fleet, begin, 2, 3)
	tick.Events = []fleet.Event{
		{Time: begin, Fleet: tick.Fleet, Kind: fleet.EventDecision, From: 2, To: 3, Decision: tick.Decision},
		{Time: begin.Add(time.Nanosecond), Fleet: tick.Fleet, Kind: fleet.EventActionDone, To: 3, Duration: fleet.Duration(93 * time.Second),
			Parts: &fleet.Parts{BreachToAlarm: fleet.Duration(time.Minute), ActionToServing: fleet.Duration(time.Second)}},
	}
	daemon := record.Tick{Time: begin, Events: []fleet.Event{{Time: begin, Kind: fleet.EventStarted, Note: "the daemon's own"}}}

	j := open(t, o, record.Retention{})
	commit(t, j, tick, daemon)
	for range 2 {
		state, when, err := j.State(ctx, tick.Fleet)
		want(t, "state", string(state), string(tick.State), err)
		want(t, "its time", when, begin, nil)
		fleets, err := j.Fleets(ctx)
		want(t, "fleets", fleets, []string{"odoo-workers"}, err)
		signals, err := j.Signals(ctx, tick.Fleet)
		want(t, "signals", signals, []string{"cpu", "memory", "queue", "sync_p95"}, err)
		readings, err := j.ReadingsAt(ctx, tick.Fleet, begin.Add(time.Hour))
		want(t, "readings", readings, tick.Readings, err)
		readings, err = j.ReadingsAt(ctx, tick.Fleet, begin.Add(-1))
		want(t, "readings before", readings, nil, err)
		d, ok, err := j.DecisionAt(ctx, tick.Fleet, begin)
		want(t, "decision", d, tick.Decision, err)
		want(t, "decision there", ok, true, nil)
		size, err := j.Series(ctx, record.SeriesQuery{Fleet: tick.Fleet, Signal: record.SizeSignal})
		want(t, "size", size, []record.Point{{Time: begin, N: 1, Min: 3, Max: 3, Mean: 3}}, err)
		stale, err := j.Series(ctx, record.SeriesQuery{Fleet: tick.Fleet, Signal: "memory"})
		want(t, "a stale reading is not a measurement", stale, []record.Point{{Time: begin, Missing: 1, Min: math.NaN(), Max: math.NaN(), Mean: math.NaN()}}, err)

		events, err := j.Events(ctx, record.EventQuery{})
		if len(events) != 3 || events[0].ID <= events[1].ID || events[1].ID <= events[2].ID || events[2].ID <= 0 {
			t.Fatalf("events %+v: IDs do not fall", events)
		}
		for i := range events {
			events[i].ID = 0
		}
		want(t, "events", events, []fleet.Event{daemon.Events[0], tick.Events[1], tick.Events[0]}, err)

		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		j = open(t, o, record.Retention{})
	}
}

func states(t *testing.T, o Open) {
	j := open(t, o, record.Retention{})
	commit(t, j, at("a", begin, 1), at("b", begin, 1), at("a", begin.Add(aTick), 2))
	// Ticks that waited while the journal could not be written have no state of their own.
	late := at("a", begin.Add(2*aTick), 3)
	late.State = nil
	commit(t, j, late)
	commit(t, j, record.Tick{Fleet: "a", Time: begin.Add(3 * aTick), Events: []fleet.Event{{Time: begin, Fleet: "a", Kind: fleet.EventReloaded}}})
	state, when, err := j.State(ctx, "a")
	want(t, "state", string(state), string(at("a", begin.Add(aTick), 2).State), err)
	want(t, "its time", when, begin.Add(aTick), nil)
	_, when, err = j.State(ctx, "b")
	want(t, "the other's", when, begin, err)
	points, err := j.Series(ctx, record.SeriesQuery{Fleet: "a", Signal: "cpu"})
	want(t, "readings of three ticks", len(points), 3, err)
}

func eventQueries(t *testing.T, o Open) {
	j := open(t, o, record.Retention{})
	kinds := []fleet.Kind{fleet.EventAlarm, fleet.EventOrder}
	var ticks []record.Tick
	for i := range 150 {
		when := begin.Add(time.Duration(i) * time.Second)
		ticks = append(ticks, record.Tick{Fleet: "f", Time: when, Events: []fleet.Event{{Time: when, Fleet: []string{"f", "g", ""}[i%3], Kind: kinds[i%2], To: i}}})
	}
	commit(t, j, ticks...)
	ask := func(q record.EventQuery) (out []int) {
		t.Helper()
		events, err := j.Events(ctx, q)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			out = append(out, e.To)
		}
		return out
	}
	want(t, "the default limit", len(ask(record.EventQuery{})), 100, nil)
	want(t, "newest first", ask(record.EventQuery{Limit: 3}), []int{149, 148, 147}, nil)
	want(t, "of a fleet", ask(record.EventQuery{Fleet: "g", Limit: 2}), []int{148, 145}, nil)
	want(t, "of a kind", ask(record.EventQuery{Kinds: kinds[:1], Limit: 2}), []int{148, 146}, nil)
	want(t, "of two kinds", ask(record.EventQuery{Kinds: kinds, Limit: 2}), []int{149, 148}, nil)
	want(t, "since and until", ask(record.EventQuery{Since: begin.Add(3 * time.Second), Until: begin.Add(6 * time.Second)}), []int{5, 4, 3}, nil)
	want(t, "all at once", ask(record.EventQuery{Fleet: "f", Kinds: kinds[1:], Since: begin, Until: begin.Add(time.Minute), Limit: 2}), []int{57, 51}, nil)
	first, err := j.Events(ctx, record.EventQuery{Until: begin.Add(1)})
	want(t, "the first", len(first), 1, err)
	want(t, "followed", ask(record.EventQuery{After: first[0].ID, Limit: 3}), []int{1, 2, 3}, nil)
	want(t, "before", ask(record.EventQuery{Before: first[0].ID + 3, Limit: 2}), []int{2, 1}, nil)
	want(t, "between two", ask(record.EventQuery{After: first[0].ID, Before: first[0].ID + 3}), []int{1, 2}, nil)
	want(t, "followed, of a fleet", ask(record.EventQuery{After: first[0].ID, Fleet: "f", Limit: 2}), []int{3, 6}, nil)
}

func decisionQueries(t *testing.T, o Open) {
	j := open(t, o, record.Retention{})
	for i := range 5 {
		for _, name := range []string{"a", "b"} {
			tick := at(name, begin.Add(time.Duration(i)*time.Minute), 1)
			tick.Decision = decided(name, tick.Time, i, i+1)
			commit(t, j, tick)
		}
	}
	from := func(list []fleet.Decision, err error) (out []int) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range list {
			out = append(out, d.From)
		}
		return out
	}
	var none time.Time
	want(t, "newest first", from(j.Decisions(ctx, "a", none, none, 0)), []int{4, 3, 2, 1, 0}, nil)
	want(t, "of all fleets", from(j.Decisions(ctx, "", none, none, 4)), []int{4, 4, 3, 3}, nil)
	want(t, "since and until", from(j.Decisions(ctx, "a", begin.Add(time.Minute), begin.Add(3*time.Minute), 0)), []int{2, 1}, nil)
	for _, c := range []struct {
		at   time.Duration
		from int
	}{{-1, -1}, {0, 0}, {time.Minute - 1, 0}, {time.Minute, 1}, {time.Hour, 4}} {
		d, ok, err := j.DecisionAt(ctx, "a", begin.Add(c.at))
		got := -1
		if ok {
			got = d.From
		}
		want(t, "in force "+c.at.String()+" later", got, c.from, err)
	}
}

func notNumbers(t *testing.T, o Open) {
	j := open(t, o, record.Retention{})
	for i, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), math.MaxFloat64, -math.MaxFloat64, 50} {
		tick := at("f", begin.Add(time.Duration(i)*aTick), v)
		d := decided("f", tick.Time, i, i)
		d.Reasons[0].Value, d.Reasons[0].Threshold = v, v
		tick.Decision = d
		tick.Events = []fleet.Event{{Time: tick.Time, Fleet: "f", Kind: fleet.EventDecision, Decision: d}}
		commit(t, j, tick)
	}
	for _, points := range []int{1000, 2} {
		got, err := j.Series(ctx, record.SeriesQuery{Fleet: "f", Signal: "cpu", MaxPoints: points})
		if err != nil {
			t.Fatal(err)
		}
		n, missing := 0, 0
		for _, p := range got {
			n, missing = n+p.N, missing+p.Missing
			if p.N > 0 && (p.Min != 50 || p.Max != 50 || p.Mean != 50) {
				t.Errorf("%+v is not 50", p)
			}
		}
		if n != 1 || missing != 5 {
			t.Errorf("%d fresh and %d missing of 1 and 5", n, missing)
		}
	}
	list, err := j.Decisions(ctx, "f", time.Time{}, time.Time{}, 0)
	want(t, "decisions", len(list), 6, err)
}

func atomic(t *testing.T, o Open) {
	j := open(t, o, record.Retention{})
	commit(t, j, at("f", begin, 1))
	bad := at("f", time.Date(1, 2, 3, 0, 0, 0, 0, time.UTC), 2)
	if err := j.Commit(ctx, at("f", begin.Add(aTick), 2), bad); err == nil {
		t.Fatal("a tick of the year 1 was accepted")
	}
	nameless := at("", begin, 1)
	if err := j.Commit(ctx, at("f", begin.Add(aTick), 2), nameless); err == nil {
		t.Fatal("readings of no fleet were accepted")
	}
	_, when, err := j.State(ctx, "f")
	want(t, "the last tick", when, begin, err)
	points, err := j.Series(ctx, record.SeriesQuery{Fleet: "f", Signal: "cpu"})
	want(t, "readings", len(points), 1, err)
}

func clockBack(t *testing.T, o Open) {
	j := open(t, o, record.Retention{})
	total := 0
	for _, offset := range []time.Duration{0, -time.Hour, 0, time.Hour, 0} { // the same times again and again
		var ticks []record.Tick
		for i := range 100 {
			tick := at("f", begin.Add(offset+time.Duration(i)*aTick), float64(total))
			tick.Decision = decided("f", tick.Time, total, total)
			tick.Events = []fleet.Event{{Time: tick.Time, Fleet: "f", Kind: fleet.EventAlarm, To: total}}
			ticks = append(ticks, tick)
			total++
		}
		commit(t, j, ticks...)
		for range 2 { // before they are rolled up beside the others, and after
			points, err := j.Series(ctx, record.SeriesQuery{Fleet: "f", Signal: "cpu", MaxPoints: 20})
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for i, p := range points {
				n += p.N
				if i > 0 && !points[i-1].Time.Before(p.Time) {
					t.Fatalf("points out of order: %v", points)
				}
			}
			want(t, "readings in the series", n, total, nil)
			if err := j.Maintain(ctx, begin.Add(offset)); err != nil {
				t.Fatal(err)
			}
		}
	}
	list, err := j.Decisions(ctx, "f", time.Time{}, time.Time{}, 1000)
	want(t, "decisions", len(list), total, err)
	events, err := j.Events(ctx, record.EventQuery{Limit: 1000})
	want(t, "events", len(events), total, err)
	for i, e := range events {
		if e.To != total-1-i {
			t.Fatalf("event %d is number %d: not in the order of commit", i, e.To)
		}
	}
	state, _, err := j.State(ctx, "f")
	want(t, "state", string(state), string(at("f", begin.Add(99*aTick), 0).State), err)
}

func concurrent(t *testing.T, o Open) {
	j := open(t, o, record.Retention{})
	const writers, each = 16, 20
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				tick := at(fmt.Sprint("fleet-", w), begin.Add(time.Duration(i)*aTick), float64(i))
				tick.Events = []fleet.Event{{Time: tick.Time, Fleet: tick.Fleet, Kind: fleet.EventAlarm, To: i}}
				if err := j.Commit(ctx, tick); err != nil {
					t.Error(err)
				}
				if _, when, err := j.State(ctx, tick.Fleet); err != nil || !when.Equal(tick.Time) {
					t.Errorf("after Commit the state is of %v, not %v (%v)", when, tick.Time, err)
				}
			}
		})
	}
	wg.Go(func() {
		for range each {
			if err := j.Maintain(ctx, begin); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	fleets, err := j.Fleets(ctx)
	want(t, "fleets", len(fleets), writers, err)
	events, err := j.Events(ctx, record.EventQuery{Limit: 10000})
	want(t, "events", len(events), writers*each, err)
	seen := map[string]bool{}
	for _, e := range events {
		seen[fmt.Sprint(e.Fleet, " ", e.To)] = true
	}
	want(t, "different events", len(seen), writers*each, nil)
}

func cancelled(t *testing.T, o Open) {
	j := open(t, o, record.Retention{})
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if err := j.Commit(ended, at("f", begin, 1)); !errors.Is(err, context.Canceled) {
		t.Fatalf("Commit: %v", err)
	}
	if state, _, err := j.State(ctx, "f"); state != nil || err != nil {
		t.Fatalf("state %q, %v", state, err)
	}
	if _, err := j.Events(ended, record.EventQuery{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Events: %v", err)
	}
	if err := j.Maintain(ended, begin); !errors.Is(err, context.Canceled) {
		t.Errorf("Maintain: %v", err)
	}
}

func closed(t *testing.T, o Open) {
	j := open(t, o, record.Retention{})
	if err := errors.Join(j.Close(), j.Close()); err != nil {
		t.Fatal(err)
	}
	if err := j.Commit(ctx, at("f", begin, 1)); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("Commit: %v", err)
	}
	if _, _, err := j.State(ctx, "f"); err == nil {
		t.Error("State answered")
	}
	if err := j.Maintain(ctx, begin); err == nil {
		t.Error("Maintain did it")
	}
}

func retention(t *testing.T, o Open) {
	j := open(t, o, record.Retention{Raw: 2 * time.Hour, Minutes: 4 * 24 * time.Hour, Hours: 30 * 24 * time.Hour, Decisions: 10 * 24 * time.Hour})
	quiet := at("quiet", begin, 1)
	quiet.Decision = decided("quiet", begin, 1, 1)
	ticks := []record.Tick{quiet}
	for i := range 40 * 24 {
		tick := at("f", begin.Add(time.Duration(i)*time.Hour), float64(i))
		tick.Decision = decided("f", tick.Time, i, i)
		tick.Events = []fleet.Event{{Time: tick.Time, Fleet: "f", Kind: fleet.EventAlarm, To: i}}
		ticks = append(ticks, tick)
	}
	commit(t, j, ticks...)
	now := begin.Add(40 * 24 * time.Hour)
	for range 2 {
		if err := j.Maintain(ctx, now); err != nil {
			t.Fatal(err)
		}
	}
	oldest := func(what string, got time.Time, age, grain time.Duration) {
		t.Helper()
		if got.Before(now.Add(-age-grain)) || got.After(now.Add(-age+time.Hour)) {
			t.Errorf("%s: the oldest is of %v, %v ago; kept are %v", what, got, now.Sub(got), age)
		}
	}
	day := 24 * time.Hour
	events, err := j.Events(ctx, record.EventQuery{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	oldest("events", events[len(events)-1].Time, 10*day, day)
	list, err := j.Decisions(ctx, "f", time.Time{}, time.Time{}, 1000)
	if err != nil {
		t.Fatal(err)
	}
	oldest("decisions", list[len(list)-1].Time, 10*day, day)
	if _, ok, err := j.DecisionAt(ctx, "quiet", now); !ok || err != nil {
		t.Errorf("the decision in force is gone (%v)", err)
	}
	if state, _, err := j.State(ctx, "quiet"); state == nil || err != nil {
		t.Errorf("the state is gone (%v)", err)
	}
	points, err := j.Series(ctx, record.SeriesQuery{Fleet: "f", Signal: "cpu", MaxPoints: 10000})
	if err != nil {
		t.Fatal(err)
	}
	oldest("series", points[0].Time, 30*day, day)
	if got, err := j.ReadingsAt(ctx, "f", now.Add(-4*time.Hour)); got != nil || err != nil {
		t.Errorf("raw readings of 4 hours ago: %v, %v", got, err)
	}
	if got, err := j.ReadingsAt(ctx, "f", now.Add(-time.Hour)); got == nil || err != nil {
		t.Errorf("no raw readings of an hour ago (%v)", err)
	}
}

func rollUps(t *testing.T, o Open) {
	j := open(t, o, record.Retention{Raw: time.Hour, Minutes: 24 * time.Hour})
	var ticks []record.Tick
	for i := range 3 * 24 * 60 { // three days of minutes
		ticks = append(ticks, at("f", begin.Add(time.Duration(i)*time.Minute), float64(i)))
	}
	commit(t, j, ticks...)
	end := ticks[len(ticks)-1].Time
	for _, maintained := range []bool{false, true} {
		if maintained {
			if err := j.Maintain(ctx, end); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range []struct {
			since  time.Duration // before the end
			points int
			raw    bool
		}{{0, 5000, !maintained}, {0, 100, false}, {0, 1, false}, {30 * time.Minute, 100, true}, {12 * time.Hour, 200, false}} {
			q := record.SeriesQuery{Fleet: "f", Signal: "cpu", MaxPoints: c.points}
			if c.since != 0 {
				q.Since = end.Add(-c.since)
			}
			got, err := j.Series(ctx, q)
			if err != nil {
				t.Fatal(err)
			}
			checkPoints(t, q, got, ticks)
			if raw := len(got) > 1 && got[len(got)-1].Time.Equal(end) && got[0].N == 1; raw != c.raw {
				t.Errorf("%+v (maintained: %v): raw readings: %v, want %v; %d points from %v on", q, maintained, raw, c.raw, len(got), got[0].Time)
			}
		}
	}
}

// checkPoints holds a series against the readings that were committed: each point must be what the readings between it and the next make.
func checkPoints(t failer, q record.SeriesQuery, points []record.Point, ticks []record.Tick) {
	t.Helper()
	limit := q.MaxPoints
	if limit == 0 {
		limit = 1000
	}
	if len(points) > limit {
		t.Fatalf("%+v: %d points", q, len(points))
	}
	total := 0
	for _, p := range points {
		total += p.N + p.Missing
	}
	points = merged(points)
	type dated struct {
		at time.Time
		fleet.Reading
	}
	var all []dated
	inside := 0
	for _, tick := range ticks {
		for _, s := range tick.Readings {
			if tick.Fleet == q.Fleet && s.Signal == q.Signal {
				all = append(all, dated{tick.Time, s.Reading})
				if !tick.Time.Before(q.Since) && (q.Until.IsZero() || tick.Time.Before(q.Until)) {
					inside++
				}
			}
		}
	}
	slices.SortStableFunc(all, func(a, b dated) int { return a.at.Compare(b.at) })
	from := func(t time.Time) int {
		i, _ := slices.BinarySearchFunc(all, t, func(d dated, t time.Time) int { return d.at.Compare(t) })
		return i
	}
	for i, p := range points {
		until := time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
		if i+1 < len(points) {
			until = points[i+1].Time
			if !p.Time.Before(until) {
				t.Fatalf("%+v: point %d is of %v, the next of %v", q, i, p.Time, until)
			}
		} else if !q.Until.IsZero() {
			continue // where it ends is not said
		}
		var n, missing int
		low, high, sum := math.Inf(1), math.Inf(-1), 0.0
		for _, d := range all[from(p.Time):from(until)] {
			if d.Quality == fleet.Fresh {
				n, low, high, sum = n+1, min(low, d.Value), max(high, d.Value), sum+d.Value
			} else {
				missing++
			}
		}
		if p.N != n || p.Missing != missing {
			t.Fatalf("%+v: point %d of %v has %d fresh and %d missing; %d and %d were committed", q, i, p.Time, p.N, p.Missing, n, missing)
		}
		if n > 0 && (p.Min != low || p.Max != high || math.Abs(p.Mean-sum/float64(n)) > 1e-9*max(math.Abs(low), math.Abs(high))) {
			t.Fatalf("%+v: point %d of %v is %v..%v mean %v; committed %v..%v mean %v", q, i, p.Time, p.Min, p.Max, p.Mean, low, high, sum/float64(n))
		}
		if n == 0 && !(math.IsNaN(p.Min) && math.IsNaN(p.Max) && math.IsNaN(p.Mean)) {
			t.Fatalf("%+v: point %d has no reading and says %v..%v", q, i, p.Min, p.Max)
		}
	}
	if total < inside {
		t.Fatalf("%+v: the points hold %d readings, of %d committed", q, total, inside)
	}
}

// merged makes one point of raw readings of the same moment.
func merged(points []record.Point) (out []record.Point) {
	for _, p := range points {
		last := len(out) - 1
		if last < 0 || !out[last].Time.Equal(p.Time) {
			out = append(out, p)
			continue
		}
		o := &out[last]
		o.Missing += p.Missing
		switch {
		case p.N == 0:
		case o.N == 0:
			o.N, o.Min, o.Max, o.Mean = p.N, p.Min, p.Max, p.Mean
		default:
			o.Min, o.Max = min(o.Min, p.Min), max(o.Max, p.Max)
			o.Mean = (o.Mean*float64(o.N) + p.Mean*float64(p.N)) / float64(o.N+p.N)
			o.N += p.N
		}
	}
	return out
}
