package load

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var monday = time.Date(2027, time.March, 1, 0, 0, 0, 0, time.UTC)

func made(t *testing.T, name string, over time.Duration) *Series {
	t.Helper()
	s, err := Make(name, monday, over, 100)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range s.Rates {
		if !(r >= 0 && r <= 100.0001) {
			t.Fatalf("%s: %g requests/s at minute %d", name, r, i)
		}
	}
	return s
}

func TestShapes(t *testing.T) {
	daily := made(t, "daily", 7*day)
	at := func(s *Series, d, h int) float64 {
		return s.At(time.Duration(d)*day + time.Duration(h)*time.Hour)
	}
	// Business hours, a portal peak in the evening, a quiet night and weekend.
	if !(at(daily, 0, 10) > 90 && at(daily, 0, 3) < 10 && at(daily, 0, 19) > at(daily, 0, 17) && at(daily, 5, 10) < 40) {
		t.Errorf("10:00 %g, 3:00 %g, 17:00 %g, 19:00 %g, Saturday 10:00 %g", at(daily, 0, 10), at(daily, 0, 3), at(daily, 0, 17), at(daily, 0, 19), at(daily, 5, 10))
	}
	drive := made(t, "registration-drive", 0)
	above := 0
	for _, r := range drive.Rates {
		if r > 90 {
			above++
		}
	}
	if above < 60 || above > 120 { // the requirements: a spike of 1 to 2 hours
		t.Errorf("the drive's peak lasts %d minutes", above)
	}
	sync := made(t, "concurrent-sync", 0)
	above = 0
	for _, r := range sync.Rates {
		if r > 90 {
			above++
		}
	}
	if above < 55 || above > 65 { // sustained for an hour
		t.Errorf("the sync's peak lasts %d minutes", above)
	}
	growth := made(t, "growth", 0)
	first, last := &Series{Step: time.Minute, Rates: growth.Rates[:7*1440]}, &Series{Step: time.Minute, Rates: growth.Rates[len(growth.Rates)-7*1440:]}
	if ratio := last.Mean() / first.Mean(); math.Abs(ratio-2) > 0.03 {
		t.Errorf("five years bring %g times the load, want 2", ratio)
	}
	if bursts := made(t, "bursts", day); bursts.Peak(0) < 54 {
		t.Errorf("no burst: %g", bursts.Peak(0))
	}
	if _, err := Make("weekly", monday, 0, 1); err == nil || !strings.Contains(err.Error(), "take one of daily bursts") {
		t.Errorf("%v", err)
	}
}

// The wall clock of the place counts, through a change to summer time too.
func TestShapesFollowTheWallClock(t *testing.T) {
	zone, err := time.LoadLocation("Pacific/Auckland")
	if err != nil {
		t.Fatal(err)
	}
	s, err := Make("daily", time.Date(2027, time.April, 3, 0, 0, 0, 0, zone), 3*day, 100) // clocks go back on Sunday
	if err != nil {
		t.Fatal(err)
	}
	peak := time.Date(2027, time.April, 5, 10, 0, 0, 0, zone) // Monday 10:00
	if got := s.At(peak.Sub(s.Start)); got < 90 {
		t.Errorf("Monday at 10:00: %g", got)
	}
}

func TestSeries(t *testing.T) {
	s := &Series{Start: monday, Step: time.Minute, Rates: []float64{1, 0, 3, 0, 1}}
	if s.Mean() != 1 || s.Peak(0) != 3 || s.Scaled(2).Peak(0) != 6 || s.Duration() != 5*time.Minute || s.At(2*time.Minute) != 3 || s.At(-1) != 0 || s.At(time.Hour) != 0 {
		t.Errorf("%+v", s)
	}
}

func TestCSV(t *testing.T) {
	for _, c := range []struct {
		name, text string
		rates      []float64
		note, err  string
	}{
		{name: "rates", text: "time,rate\n0,1\n60,2.5\n", rates: []float64{1, 2.5}},
		{name: "counts", text: "unix_s,requests\n0,60\n60,120\n", rates: []float64{1, 2}},
		{name: "no header is rates", text: "0;1\n60;2\n", rates: []float64{1, 2}},
		{name: "RFC 3339", text: "time,rate\n2027-03-01T00:00:00Z,1\n2027-03-01T00:01:00Z,2\n", rates: []float64{1, 2}},
		{name: "a gap", text: "time,rate\n0,1\n60,2\n240,5\n", rates: []float64{1, 2, 2, 2, 5}, note: "2 of 5 intervals are missing, in 1 gaps"},
		{name: "comments", text: "# of 2027\n\n0,1\n60,2\n", rates: []float64{1, 2}},
		{name: "negative", text: "0,1\n60,-2\n", err: "t.csv:2: the load is negative (-2)"},
		{name: "unsorted", text: "0,1\n60,2\n30,1\n", err: "t.csv:3: the times are not in order"},
		{name: "twice", text: "0,1\n0,2\n", err: "t.csv:2: the times are not in order"},
		{name: "uneven", text: "0,1\n60,2\n90,1\n", err: "t.csv:3: the intervals differ: 30s here, 1m0s before"},
		{name: "words", text: "time,rate\n0,1\n60,many\n", err: `t.csv:3: "many" is no number`},
		{name: "not a number", text: "0,1\n60,NaN\n", err: `t.csv:2: "NaN" is no number`},
		{name: "a time that is none", text: "0,1\nnoon,2\n", err: `t.csv:2: "noon" is no time`},
		{name: "one column", text: "0\n60\n", err: "t.csv:1: there are not two columns"},
		{name: "a vast gap", text: "0,1\n1,1\n8999999999,1\n", err: "t.csv:3: a gap of"},
		{name: "nothing", text: "", err: "t.csv holds no load"},
		{name: "another format", text: strings.Repeat("x", 1<<17), err: "t.csv:1:"},
	} {
		s, notes, err := CSV("t.csv", strings.NewReader(c.text), 0)
		switch {
		case c.err != "":
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v, want %s", c.name, err, c.err)
			}
		case err != nil:
			t.Errorf("%s: %v", c.name, err)
		default:
			for i := range c.rates {
				if len(s.Rates) != len(c.rates) || s.Rates[i] != c.rates[i] {
					t.Errorf("%s: %v, want %v", c.name, s.Rates, c.rates)
					break
				}
			}
			if c.note == "" != (len(notes) == 0) || c.note != "" && !strings.Contains(notes[0], c.note) {
				t.Errorf("%s: %v", c.name, notes)
			}
		}
	}
}

// The real traces beside the project are read, each with its own interval.
func TestRealTraces(t *testing.T) {
	files, _ := filepath.Glob("../../../../shared/traces/*.csv")
	if len(files) == 0 {
		t.Skip("the traces are not part of this repository")
	}
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		s, notes, err := CSV(filepath.Base(file), f, 0)
		f.Close()
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		t.Logf("%s: %s of %s, mean %.3g/s, peak %.3g/s %v", s.Name, s.Duration(), s.Step, s.Mean(), s.Peak(0), notes)
		// The interval stands at the end of the name.
		want, err := time.ParseDuration(strings.TrimSuffix(s.Name[strings.LastIndex(s.Name, "_")+1:], ".csv"))
		if err != nil || s.Step != want {
			t.Errorf("%s: a step of %s (%v)", s.Name, s.Step, err)
		}
	}
}

func FuzzCSV(f *testing.F) {
	f.Add("time,rate\n0,1\n60,2.5\n")
	f.Add("2027-03-01T00:00:00Z,1\n2027-03-01T00:01:00Z,2\n")
	f.Fuzz(func(t *testing.T, text string) {
		s, _, err := CSV("f", strings.NewReader(text), 0)
		if err != nil {
			return
		}
		if s.Step <= 0 || len(s.Rates) < 2 {
			t.Fatalf("%+v", s)
		}
		for _, r := range s.Rates {
			if !(r >= 0) {
				t.Fatalf("a rate of %g", r)
			}
		}
	})
}

// A part of a load has its own times, and the requests that came in it; coarser steps keep the mean.
func TestParts(t *testing.T) {
	s := &Series{Step: time.Minute, Rates: []float64{1, 3, 5, 7, 9}, Requests: []Request{{At: 30_000, Service: 1}, {At: 60_000, Service: 2}, {At: 119_999, Service: 3}, {At: 120_000, Service: 4}}}
	p := s.Cut(time.Minute, 2*time.Minute+30*time.Second)
	if !slices.Equal(p.Rates, []float64{3}) || p.Start.Sub(s.Start) != time.Minute || !slices.Equal(p.Requests, []Request{{0, 2}, {59_999, 3}}) {
		t.Errorf("%+v", p)
	}
	if c := s.Coarser(2*time.Minute + 30*time.Second); c.Step != 2*time.Minute || !slices.Equal(c.Rates, []float64{2, 6, 9}) || c.Requests != nil {
		t.Errorf("%+v", c)
	}
	if s.Coarser(time.Minute) != s {
		t.Error("a step that is long enough was changed")
	}
}
