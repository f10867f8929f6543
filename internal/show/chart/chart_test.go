package chart

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"regexp"
	"strings"
	"testing"
	"time"

	"tidemark/internal/fleet"
)

var start = time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC)

// path is what the element of a class draws.
func path(t *testing.T, svg, class string) string {
	t.Helper()
	found := regexp.MustCompile(`<path class="` + class + `"[^>]* d="([^"]*)"`).FindStringSubmatch(svg)
	if found == nil {
		t.Fatalf("no %s in %s", class, svg)
	}
	return found[1]
}

// Every chart is well-formed, whatever is in it, and names no number that is none.
func TestWellFormed(t *testing.T) {
	nan := math.NaN()
	series := func(kind Kind, ys ...float64) Series {
		return Series{Name: `p95 <"&>`, Kind: kind, Points: Times(start, time.Minute, ys)}
	}
	for name, c := range map[string]*Chart{
		"nothing":      {Title: "empty"},
		"no values":    {Series: []Series{series(Line, nan, nan)}},
		"one value":    {Series: []Series{series(Step, 4)}},
		"all alike":    {Series: []Series{series(Area, 3, 3, 3)}},
		"negative":     {Series: []Series{series(Line, -3, 2, nan)}},
		"infinite":     {Series: []Series{series(Line, 1, math.Inf(1), 2)}},
		"beyond":       {Y: Axis{Max: 2}, Series: []Series{series(Line, 1, 500, 2)}},
		"bars":         {X: Axis{Scale: Named, Names: []string{"a", "b"}}, Series: []Series{{Kind: Bars, Points: []Point{{0, 1}, {1, nan}}}}},
		"numbers":      {Series: []Series{{Kind: Bars, Points: []Point{{1, 1}, {2, 4}, {3, 2}}}}},
		"many":         {Series: []Series{series(Line, 1, 2), series(Line, 2, 3), series(Line, 4), series(Line, 5), series(Line, 6), series(Line, 7), series(Line, 8)}},
		"all together": {Title: "<x>", Series: []Series{series(Line, 1, 2, 3)}, Bands: []Band{{"b<", []Range{{At(start), 0, 1}, {At(start) + 60, 0, 2}, {At(start) + 120, nan, nan}}}}, Spans: []Span{{"s", At(start), At(start) + 60}}, Thresholds: []Threshold{{"t>", 2}}, Marks: []Mark{{X: At(start), Text: "m&", Bad: true}}},
	} {
		if name != "bars" && name != "numbers" {
			c.X.Scale = Time
		}
		for _, svg := range []string{c.SVG(), string(c.HTML())} {
			d := xml.NewDecoder(strings.NewReader(svg))
			for {
				if _, err := d.Token(); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					t.Fatalf("%s: %v in %s", name, err, svg)
				}
			}
			for _, not := range []string{"NaN", "Inf", "-0<"} {
				if strings.Contains(svg, not) {
					t.Errorf("%s: %s in %s", name, not, svg)
				}
			}
			if !strings.Contains(svg, `role="img"`) || !strings.Contains(svg, "<title>") {
				t.Errorf("%s: not to be heard", name)
			}
		}
	}
}

// What is missing is a gap, and so is a row that is not there.
func TestGaps(t *testing.T) {
	c := Chart{X: Axis{Scale: Time}, Height: 100, Y: Axis{Max: 10}, Series: []Series{{Name: "p95", Points: []Point{
		{0, 1}, {60, 2}, {120, math.NaN()}, {180, 5}, {240, 10}, {600, 0}}, Gap: 100}}}
	// The plot is 2000 wide for 600 s and 200 high for 10.
	if got, want := path(t, c.SVG(), "line s1"), "M0 180l200-20M600 100l200-100M2000 200h2"; got != want {
		t.Errorf("drawn %s, want %s", got, want)
	}
	if !strings.Contains(c.SVG(), "p95: 0 to 10, 1 of 6 missing") {
		t.Error("the missing value is not told")
	}
}

// A size holds until it changes.
func TestStep(t *testing.T) {
	c := Chart{X: Axis{Scale: Time}, Height: 100, Y: Axis{Max: 10}, Series: []Series{{Kind: Step, Points: []Point{{0, 2}, {100, 2}, {200, 4}, {300, 4}, {400, 3}, {500, 3}}}}}
	if got, want := path(t, c.SVG(), "line s1"), "M0 160h800v-40h800v20h400"; got != want {
		t.Errorf("drawn %s, want %s", got, want)
	}
}

// A chart of many points keeps their extremes.
func TestThinKeepsPeaks(t *testing.T) {
	var points []Point
	for i := range 500_000 {
		points = append(points, Point{float64(i), 5})
	}
	points[123_456].Y, points[400_001].Y = 99, -7
	got := thin(points)
	var e extent
	for i, p := range got {
		e.add(p.Y)
		if i > 0 && p.X <= got[i-1].X {
			t.Fatalf("%v comes after %v", p, got[i-1])
		}
	}
	if len(got) > 4*most || e.high != 99 || e.low != -7 {
		t.Errorf("%d points from %g to %g", len(got), e.low, e.high)
	}
}

func labels(ticks []tick) string {
	var out []string
	for _, t := range ticks {
		out = append(out, t.label)
	}
	return strings.Join(out, " | ")
}

// Ticks of time are round on the wall clock of the place, through a change to winter time too; there are never more than nine.
func TestTimeTicks(t *testing.T) {
	auckland, err := time.LoadLocation("Pacific/Auckland")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		from time.Time
		over time.Duration
		want string
	}{
		{time.Date(2027, 3, 1, 7, 50, 0, 0, auckland), 30 * time.Minute, "07:50 | 07:55 | 08:00 | 08:05 | 08:10 | 08:15 | 08:20"},
		{time.Date(2027, 3, 1, 22, 0, 0, 0, auckland), 6 * time.Hour, "22:00 | 23:00 | Tue 2 Mar | 01:00 | 02:00 | 03:00 | 04:00"},
		{time.Date(2027, 4, 4, 0, 0, 0, 0, auckland), 25 * time.Hour, "Sun 4 Apr | 06:00 | 12:00 | 18:00 | Mon 5 Apr"},
		{time.Date(2027, 3, 1, 0, 0, 0, 0, auckland), 7 * day, "Mon 1 | Tue 2 | Wed 3 | Thu 4 | Fri 5 | Sat 6 | Sun 7 | Mon 8"},
		{time.Date(2027, 3, 1, 0, 0, 0, 0, auckland), 28 * day, "1 Mar | 8 Mar | 15 Mar | 22 Mar | 29 Mar"},
		{time.Date(2027, 1, 1, 0, 0, 0, 0, auckland), 365 * day, "Jan 2027 | Mar 2027 | May 2027 | Jul 2027 | Sep 2027 | Nov 2027 | Jan 2028"},
		{time.Date(2027, 1, 1, 0, 0, 0, 0, auckland), 5 * 365 * day, "2027 | 2028 | 2029 | 2030 | 2031"},
	} {
		got := labels(timeTicks(At(c.from), At(c.from.Add(c.over)), auckland))
		if got != c.want {
			t.Errorf("%s from %s: %s, want %s", c.over, c.from, got, c.want)
		}
	}
	for over := time.Second; over < 40*365*day; over += over / 4 {
		ticks := timeTicks(At(start.Add(7*time.Second)), At(start.Add(7*time.Second+over)), auckland)
		if len(ticks) > maxTick+1 || len(ticks) < 1 && over > 10*time.Second {
			t.Errorf("%s has %d ticks: %s", over, len(ticks), labels(ticks))
		}
	}
}

func TestValueTicks(t *testing.T) {
	for _, c := range []struct {
		unit     fleet.Unit
		per      string
		low, top float64
		want     string
	}{
		{fleet.Seconds, "", 0, 0.47, "0 | 200ms | 400ms | 600ms"},
		{fleet.Seconds, "", 0, 110, "0 | 30s | 60s | 90s | 2m"},
		{fleet.Percent, "", 0, 97, "0 % | 50 % | 100 %"},
		{fleet.Number, "/s", 0, 61, "0/s | 20/s | 40/s | 60/s | 80/s"},
		{fleet.Number, "", -3, 8, "-5 | 0 | 5 | 10"},
		{fleet.Bytes, "", 0, 3 << 30, "0 B | 1 GiB | 2 GiB | 3 GiB"},
		{fleet.Number, "", 0, 0, "0 | 0.5 | 1"},
	} {
		a := scaleY(Axis{Unit: c.unit, Per: c.per}, extent{low: c.low, high: c.top, n: 2})
		if got := labels(a.ticks); got != c.want {
			t.Errorf("%g to %g: %s, want %s", c.low, c.top, got, c.want)
		}
	}
}

// Each further nine takes as much room as the one before.
func TestPercentiles(t *testing.T) {
	points := Percentiles(1000, func(q float64) float64 { return q })
	if first, last := points[0], points[len(points)-1]; first.X != 0 || math.Abs(last.X-0.999) > 1e-9 {
		t.Errorf("from %v to %v", first, last)
	}
	a := scaleX(Axis{Scale: Percentile}, extent{high: 0.999, n: 2}, false)
	if nine, second := a.place(0.9), a.place(0.99); math.Abs(nine-1.0/3) > 1e-9 || math.Abs(second-2.0/3) > 1e-9 {
		t.Errorf("p90 at %g, p99 at %g", nine, second)
	}
	if Percentiles(0, nil) != nil {
		t.Error("a curve of nothing")
	}
}

// What is pointed at tells its value, local time and UTC.
func TestHover(t *testing.T) {
	zone := time.FixedZone("there", 13*3600)
	c := Chart{X: Axis{Scale: Time, Zone: zone}, Y: Axis{Unit: fleet.Seconds}, Series: []Series{{Name: "p95", Points: Times(start, time.Minute, []float64{0.25, 0.5})}}}
	if svg := c.SVG(); !strings.Contains(svg, "<title>Mon 2027-03-01 13:00:00 +13:00 (2027-03-01 00:00:00 UTC)\np95: 250ms</title>") {
		t.Errorf("%s", svg)
	}
}
