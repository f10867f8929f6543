package alert_test

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tidemark/internal/decide/alert"
	"tidemark/internal/fleet"
)

var rarotonga = time.FixedZone("Pacific/Rarotonga", -10*3600)

// looks adds looks a minute apart and returns the tally.
func looks(t *alert.Tally, l *alert.Look, n int) {
	for range n {
		t.Add(*l)
		l.Now = l.Now.Add(time.Minute)
	}
}

func reading(v float64, q fleet.Quality) *fleet.Reading { return &fleet.Reading{Value: v, Quality: q} }

func TestTally(t *testing.T) {
	two := fleet.Size{Known: true, Serving: 2}
	for name, c := range map[string]struct {
		size               fleet.Size
		errors             *fleet.Reading
		good, down, unseen float64
	}{
		"workers serve":                      {size: two, good: 60},
		"nobody serves":                      {size: fleet.Size{Known: true, Starting: 2}, down: 60},
		"nobody serves, whatever a log says": {size: fleet.Size{Known: true}, errors: reading(0, fleet.Fresh), down: 60},
		"a quarter fails":                    {size: two, errors: reading(25, fleet.Fresh), good: 45, down: 15},
		"a quiet night":                      {size: two, errors: reading(0, fleet.Sparse), good: 60},
		"the log is gone":                    {size: two, errors: reading(0, fleet.Missing), unseen: 60},
		"the log is old":                     {size: two, errors: reading(0, fleet.Stale), unseen: 60},
		"only the log is seen":               {errors: reading(50, fleet.Fresh), good: 30, down: 30},
		"nothing is seen":                    {unseen: 60},
		"more than all fail":                 {size: two, errors: reading(120, fleet.Fresh), down: 60},
	} {
		t.Run(name, func(t *testing.T) {
			var tally alert.Tally
			l := alert.Look{Now: time.Date(2027, 3, 10, 0, 0, 0, 0, time.UTC), Tick: time.Minute, Boot: "a", Size: c.size, Errors: c.errors}
			looks(&tally, &l, 61)
			if tally.Served != c.good || tally.Down != c.down || tally.Unseen != c.unseen {
				t.Errorf("served %v, down %v, unseen %v; want %v, %v, %v", tally.Served, tally.Down, tally.Unseen, c.good, c.down, c.unseen)
			}
			if m := tally.Availability(); m.Total != c.good+c.down || m.Good != c.good {
				t.Errorf("%+v", m)
			}
		})
	}
}

// The month is the local one, a gap in it counts as not looked at, a machine that was off as down, and a clock that jumps not at all.
func TestTallyOverGaps(t *testing.T) {
	var tally alert.Tally
	l := alert.Look{Now: time.Date(2027, 3, 1, 9, 0, 0, 0, time.UTC), Zone: rarotonga, Tick: time.Minute, Boot: "a", Size: fleet.Size{Known: true, Serving: 3}}
	looks(&tally, &l, 61) // until 10:00 UTC: midnight there
	if tally.Month != "2027-03" || tally.Served != 0 {
		t.Fatalf("%+v", tally)
	}
	looks(&tally, &l, 60)
	l.Now = l.Now.Add(2 * time.Hour) // the daemon was stopped
	looks(&tally, &l, 1)
	if tally.Served != 60 || math.Abs(tally.Unseen-121) > 1e-9 || tally.Down != 0 {
		t.Errorf("after a stop: %+v", tally)
	}
	hours := tally.Hours
	l.Now, l.Boot = l.Now.Add(29*time.Minute), "b" // a power cut
	looks(&tally, &l, 1)
	if math.Abs(tally.Down-30) > 1e-9 || tally.Hours != hours {
		t.Errorf("after a power cut: %+v", tally)
	}
	before := tally
	l.Now, l.Jump = l.Now.Add(5*time.Hour), 5*time.Hour
	looks(&tally, &l, 1)
	if tally.Served != before.Served+1 || tally.Unseen != before.Unseen {
		t.Errorf("after a jump: %+v", tally)
	}
}

func TestTallyCost(t *testing.T) {
	var tally alert.Tally
	l := alert.Look{Now: time.Date(2027, 4, 1, 0, 0, 0, 0, time.UTC), Zone: time.UTC, Tick: time.Minute, Boot: "a", Size: fleet.Size{Known: true, Serving: 4}}
	looks(&tally, &l, 60*12+1)
	if b := tally.Cost(0.25, 100, "NZD", time.UTC); math.Abs(b.Spent-12) > 1e-6 || b.Projected != b.Spent {
		t.Errorf("after half a day nothing is projected: %+v", b)
	}
	looks(&tally, &l, 60*24*4)
	b := tally.Cost(0.25, 700, "NZD", time.UTC)
	if math.Abs(b.Spent-108) > 1e-6 || math.Abs(b.Projected-720) > 1e-3 { // 30 days of 4 workers at 0.25
		t.Errorf("%+v", b)
	}
}

// Whatever comes: nothing is negative, the shares are no more than the time, and the state is JSON.
func TestTallyHolds(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		var tally alert.Tally
		now := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
		passed := time.Duration(0)
		for range rapid.IntRange(1, 50).Draw(r, "looks") {
			d := time.Duration(rapid.Int64Range(-int64(time.Hour), int64(48*time.Hour)).Draw(r, "d"))
			now = now.Add(d)
			passed += max(0, d)
			tally.Add(alert.Look{
				Now: now, Zone: rarotonga, Tick: 15 * time.Second, Boot: rapid.SampledFrom([]string{"a", "b"}).Draw(r, "boot"),
				Size:   fleet.Size{Known: rapid.Bool().Draw(r, "known"), Serving: rapid.IntRange(0, 9).Draw(r, "serving")},
				Errors: reading(rapid.Float64Range(-10, 200).Draw(r, "errors"), fleet.Quality(rapid.IntRange(0, int(fleet.Fresh)).Draw(r, "quality"))),
			})
			if tally.Served < 0 || tally.Down < 0 || tally.Unseen < 0 || tally.Hours < 0 || tally.Workers < 0 || tally.Workers > 9 {
				r.Fatalf("%+v", tally)
			}
			if tally.Served+tally.Down+tally.Unseen > passed.Minutes()+1e-6 {
				r.Fatalf("more than passed, %v: %+v", passed, tally)
			}
			if _, err := json.Marshal(tally); err != nil {
				r.Fatal(err)
			}
		}
	})
}
