// Package load says how many requests come when: the shapes that the requirements name, traces of real load, and what a site
// has seen itself. A load is a series of rates; what is done with it is the simulator's.
package load

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"sync"
	"time"
)

// Series is a rate, in requests/s, that is constant over each step.
type Series struct {
	Name  string
	Start time.Time
	Step  time.Duration
	Rates []float64
	// Requests, when there are any, are those of the Rates one by one, by arrival: a log's, to be played as they were.
	Requests []Request
}

// Duration is how long the series lasts.
func (s *Series) Duration() time.Duration { return time.Duration(len(s.Rates)) * s.Step }

// At is the rate at a time since the start; 0 outside.
func (s *Series) At(since time.Duration) float64 {
	i := int(since / s.Step)
	if since < 0 || i >= len(s.Rates) {
		return 0
	}
	return s.Rates[i]
}

// Scaled returns the series with all rates multiplied. What came one by one is by chance then.
func (s *Series) Scaled(by float64) *Series {
	out := *s
	out.Requests = nil
	out.Rates = make([]float64, len(s.Rates))
	for i, r := range s.Rates {
		out.Rates[i] = r * by
	}
	return &out
}

// Cut returns the part between two times since the start, both rounded down to whole steps.
func (s *Series) Cut(from, to time.Duration) *Series {
	a, b := int(from/s.Step), min(int(to/s.Step), len(s.Rates))
	out := &Series{Name: s.Name, Start: s.Start.Add(time.Duration(a) * s.Step), Step: s.Step, Rates: s.Rates[a:b]}
	if s.Requests == nil {
		return out
	}
	first := time.Duration(a) * s.Step
	at := func(t time.Duration) int {
		return sort.Search(len(s.Requests), func(i int) bool { return time.Duration(s.Requests[i].At)*time.Millisecond >= t })
	}
	part := s.Requests[at(first):at(time.Duration(b)*s.Step)]
	out.Requests = make([]Request, len(part))
	for i, r := range part {
		out.Requests[i] = Request{r.At - uint32(first/time.Millisecond), r.Service}
	}
	return out
}

// Coarser averages whole steps into longer ones; a step that is not shorter stays as it is. What came one by one is by chance then.
func (s *Series) Coarser(step time.Duration) *Series {
	n := int(step / s.Step)
	if n < 2 {
		return s
	}
	out := &Series{Name: s.Name, Start: s.Start, Step: time.Duration(n) * s.Step}
	for part := range slices.Chunk(s.Rates, n) {
		sum := 0.0
		for _, r := range part {
			sum += r
		}
		out.Rates = append(out.Rates, sum/float64(len(part)))
	}
	return out
}

// Peak is the rate that is not exceeded but for a share of the time: 0.001 leaves out the highest thousandth.
func (s *Series) Peak(but float64) float64 {
	sorted := append([]float64(nil), s.Rates...)
	if len(sorted) == 0 {
		return 0
	}
	slices.Sort(sorted)
	return sorted[max(int(math.Ceil(float64(len(sorted))*(1-but)))-1, 0)]
}

// Mean is the mean rate.
func (s *Series) Mean() float64 {
	total := 0.0
	for _, r := range s.Rates {
		total += r
	}
	return total / float64(max(len(s.Rates), 1))
}

// Shape is a load of the requirements.
type Shape struct {
	Name    string
	About   string
	Default time.Duration // how long it is played when nothing is said
	// rate is 0..1, the share of the peak, at an hour of the week (Monday 0:00 local is 0) and a time since the start.
	rate func(hour float64, since time.Duration, over time.Duration) float64
}

const day = 24 * time.Hour

// Shapes are all shapes.
var Shapes = []Shape{
	{"daily", "business hours of administrators, an evening peak of the portal, quiet nights and weekends", 7 * day,
		func(hour float64, _, _ time.Duration) float64 { return usual(hour) }},
	{"bursts", "the daily pattern with bursts that nobody announced, three a day", 7 * day,
		func(hour float64, since, _ time.Duration) float64 {
			return min(0.45*usual(hour)+0.55*burst(since), 1)
		}},
	{"registration-drive", "a drive: a sudden peak for an hour and a half, after a quiet start", 4 * time.Hour,
		func(_ float64, since, _ time.Duration) float64 {
			return 0.1 + 0.9*trapezium(since.Hours(), 1, 1.1, 2.5, 3)
		}},
	{"concurrent-sync", "enumerators come back and synchronise for an hour", 3 * time.Hour,
		func(_ float64, since, _ time.Duration) float64 {
			return 0.08 + 0.92*trapezium(since.Hours(), 0.75, 0.8, 1.75, 1.85)
		}},
	{"growth", "the daily pattern while the registry grows by 100 % in five years", 5 * 365 * day,
		func(hour float64, since, over time.Duration) float64 {
			return usual(hour) * 0.5 * math.Exp2(float64(since)/float64(over))
		}},
	{"constant", "the same all the time", time.Hour, func(float64, time.Duration, time.Duration) float64 { return 1 }},
}

// usual is the requirements' week, by the minute.
func usual(hour float64) float64 { return week()[int(hour*60+0.5)] }

var week = sync.OnceValue(func() *[7 * 24 * 60]float64 {
	var w [7 * 24 * 60]float64
	for m := range w {
		w[m] = tide(float64(m/60) + float64(m%60)/60)
	}
	return &w
})

// tide has its peaks in business hours, and a portal peak in the evening.
func tide(hour float64) float64 {
	h, weekday := math.Mod(hour, 24), int(hour/24)
	office := bump(h, 10, 2.2) + 0.8*bump(h, 14.5, 1.8)
	evening := 0.55 * bump(h, 19.5, 1.4)
	if weekday >= 5 {
		office *= 0.2
		evening *= 0.8
	}
	return min(0.06+0.94*min(office+evening, 1), 1)
}

func bump(h, at, width float64) float64 { return math.Exp(-(h - at) * (h - at) / (2 * width * width)) }

// burst is 1 during three windows of 20 minutes a day, at times that differ from day to day.
func burst(since time.Duration) float64 {
	d := int(since / day)
	minute := int(since/time.Minute) % 1440
	for k := range 3 {
		at := 420 + (d*397+k*311)%720 // between 7:00 and 19:00
		if minute >= at && minute < at+20 {
			return 1
		}
	}
	return 0
}

// trapezium rises from a to b, stays, and falls from c to d.
func trapezium(x, a, b, c, d float64) float64 {
	switch {
	case x <= a || x >= d:
		return 0
	case x < b:
		return (x - a) / (b - a)
	case x > c:
		return (d - x) / (d - c)
	}
	return 1
}

// Make plays a shape from start on, in the start's zone, with a peak rate in requests/s.
func Make(name string, start time.Time, over time.Duration, peak float64) (*Series, error) {
	known := ""
	for _, shape := range Shapes {
		known += " " + shape.Name
		if shape.Name != name {
			continue
		}
		if over == 0 {
			over = shape.Default
		}
		step := time.Minute
		if over < step {
			return nil, fmt.Errorf("a load of %s is too short: give it a minute or more", over)
		}
		s := &Series{Name: name, Start: start, Step: step, Rates: make([]float64, over/step)}
		for i := range s.Rates {
			since := time.Duration(i) * step
			at := start.Add(since)
			hour := float64((int(at.Weekday())+6)%7*24+at.Hour()) + float64(at.Minute())/60
			s.Rates[i] = peak * shape.rate(hour, since, over)
		}
		return s, nil
	}
	return nil, fmt.Errorf("there is no load %q: take one of%s, or a CSV file", name, known)
}
