package sim

import (
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/foresee/load"
)

// What goes wrong does what it would do to a real fleet at either level, never takes it out of its bounds, and is the same again with
// the same seed.
func TestFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: plays many runs")
	}
	for _, level := range []Level{Requests, Fluid} {
		played := func(faults Faults, each func(*Sample)) *Result {
			p := plan(t, "daily", 24*time.Hour, 60)
			p.Faults, p.Boot, p.Level, p.Each = faults, 10*time.Second, level, each
			return do(t, p)
		}
		calm := played(nil, nil)
		for text, holds := range map[string]func(r *Result) bool{
			"slow-starts=1":                   func(r *Result) bool { return r.Up > 0 },
			"failing-actions=0.5":             func(r *Result) bool { return r.FailedActions > 0 && r.Violations >= calm.Violations },
			"failing-actions=1":               func(r *Result) bool { return r.Least == 2 && r.Most == 2 && r.Violations > calm.Violations },
			"lost-signals=0.3":                func(r *Result) bool { return r.Up > 0 },
			"lost-signals=1":                  func(r *Result) bool { return r.Up+r.Down == 0 },
			"late-signals=2m":                 func(r *Result) bool { return r.Up > 0 },
			"late-signals=1h":                 func(r *Result) bool { return r.Up+r.Down == 0 }, // stale: the fleet is held
			"deaths=10":                       func(r *Result) bool { return r.Up > 0 },
			"slow-database=3,at=10h,for=2h":   func(r *Result) bool { return r.Violations > calm.Violations },
			"clock=3h,at=10h":                 func(r *Result) bool { return r.Up > 0 },
			"clock=-3h,at=10h":                func(r *Result) bool { return r.Up > 0 },
			"lost-signals=1,at=20h,for=240m":  func(r *Result) bool { return r.Up > 0 },
			"failing-actions=1,at=25h,for=1h": func(r *Result) bool { return r.FailedActions == 0 && r.Up == calm.Up },
		} {
			fault, err := ParseFault(text)
			if err != nil {
				t.Fatal(err)
			}
			r := played(Faults{fault}, nil)
			if r.Least < 2 || r.Most > 10 || !holds(r) {
				t.Errorf("%s, %v: %d to %d workers, %d up, %d down, %d failed, %d of %d minutes missed", text, level, r.Least, r.Most, r.Up, r.Down, r.FailedActions, r.Violations, r.Minutes)
			}
			if again := played(Faults{fault}, nil); !reflect.DeepEqual(r, again) {
				t.Errorf("%s, %v: the same seed gives another run", text, level)
			}
		}
		// A blackout while the load falls: nobody leaves before it can be seen again.
		size := map[int]int{}
		played(Faults{{Kind: LostSignals, Value: 1, From: 18 * time.Hour, For: 5 * time.Hour}}, func(s *Sample) {
			if h := int(s.Time.Sub(monday).Hours()); h >= 18 && h < 23 {
				size[s.Size.Workers()]++
			}
		})
		if len(size) != 1 {
			t.Errorf("%v: the fleet was moved blindly: %v", level, size)
		}
	}
}

func TestParseFault(t *testing.T) {
	got, err := ParseFault("lost-signals=0.3,at=9h,for=20m")
	if want := (Fault{LostSignals, 0.3, 9 * time.Hour, 20 * time.Minute}); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	for text, says := range map[string]string{
		"":                      "write KIND=VALUE, with one of slow-starts, failing-actions",
		"floods=1":              "write KIND=VALUE, with one of",
		"deaths":                "write KIND=VALUE",
		"lost-signals=30%":      "must be a number above 0, and at most 1",
		"lost-signals=1.5":      "at most 1",
		"slow-starts=NaN":       "must be a number",
		"deaths=-1":             "above 0",
		"slow-database=1e9":     "at most 1000",
		"late-signals=90":       "write a duration such as late-signals=90s",
		"late-signals=-5s":      "write a duration",
		"clock=0s":              "write a duration",
		"deaths=1,at=morning":   "is no duration; write one such as 90m",
		"deaths=1,until=9h":     "write at=TIME or for=TIME",
		"deaths=1,for=-1h":      "is no duration",
		"deaths=1,at=9h,for=2x": "is no duration",
	} {
		if _, err := ParseFault(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %q", text, err, says)
		}
	}
}

// Requests of a log are played as they came, with the times that they took.
func TestRequestsAreReplayed(t *testing.T) {
	p := plan(t, "constant", 10*time.Minute, 1)
	p.Policy.Mode, p.Initial = fleet.Off, 1
	p.Load = &load.Series{Start: monday, Step: time.Minute, Rates: []float64{0.05, 0, 0}, Requests: []load.Request{{At: 1000, Service: 2}, {At: 1500, Service: 1}, {At: 62_000, Service: 0.5}}}
	r := do(t, p)
	if r.Requests != 3 || r.Response.Count() != 3 {
		t.Errorf("%d requests, %d answers", r.Requests, r.Response.Count())
	}
	// The second waits 1.5 s for the first, and takes 1 s.
	if got := r.Response.Quantile(1); math.Abs(got-2.5) > 0.1 {
		t.Errorf("the longest took %g s, want 2.5", got)
	}
	if got := r.Wait.Quantile(1); math.Abs(got-1.5) > 0.06 {
		t.Errorf("the longest waited %g s, want 1.5", got)
	}
}
