package month

import (
	"cmp"
	"slices"
	"time"

	"tidemark/internal/fleet"
)

// mostOutages are listed, the longest.
const mostOutages = 10

// seen is a fleet's month, interval by interval: for how long it was served, down, and not seen.
type seen struct {
	served, down, off, unknown []time.Duration
}

// watch counts each interval. errors is nil where failed requests are not measured; blind are the stretches in which that signal was lost:
// without a reading and not lost, there were too few requests to speak of a share, and a worker stood ready.
func (g *grid) watch(size, errors []cell, blind []stretch, boots []time.Time) seen {
	s := seen{make([]time.Duration, g.n), make([]time.Duration, g.n), make([]time.Duration, g.n), make([]time.Duration, g.n)}
	looked := coverage(size)
	for i := range size {
		whole := g.whole(i)
		known := time.Duration(looked[i] * float64(whole))
		s.unknown[i] = whole - known
		share, ok := servedShare(&size[i])
		if ok && errors != nil && share > 0 {
			switch {
			case errors[i].n > 0:
				share *= 1 - min(max(errors[i].mean, 0), 100)/100
			case g.touches(i, blind):
				ok = false
			}
		}
		if !ok {
			s.unknown[i] = whole
			continue
		}
		s.served[i] = time.Duration(share * float64(known))
		s.down[i] = known - s.served[i]
	}
	g.turnOff(&s, boots, looked)
	return s
}

// servedShare is the share of the interval in which there were workers. Within an interval it is the mean size against the largest: of
// workers that go and come at once, as in an outage, that is the share of the time.
func servedShare(c *cell) (share float64, known bool) {
	switch {
	case c.n == 0:
		return 0, false
	case c.max == 0:
		return 0, true
	case c.min == 0:
		return c.mean / c.max, true
	}
	return 1, true
}

// turnOff counts the time before a start on another run of the machine, back to when it was last looked at, as off: not served.
func (g *grid) turnOff(s *seen, boots []time.Time, looked []float64) {
	for _, boot := range boots {
		for i := min(g.index(boot), g.n-1); i >= 0; i-- {
			s.off[i] += s.unknown[i]
			s.down[i] += s.unknown[i]
			s.unknown[i] = 0
			if looked[i] > 0 && g.at(i+1).Before(boot) {
				break
			}
		}
	}
}

// availability sums the month up.
func (g *grid) availability(s *seen, required float64, name string, byErrors bool) Availability {
	a := Availability{Fleet: name, Required: required, ByErrors: byErrors, Verdict: Unknown, Outages: []Outage{}}
	var served, down, off, unknown time.Duration
	open := -1
	for i := range g.n {
		served, down, off, unknown = served+s.served[i], down+s.down[i], off+s.off[i], unknown+s.unknown[i]
		if s.down[i] < time.Second {
			open = -1
			continue
		}
		if open < 0 {
			open = len(a.Outages)
			a.Outages = append(a.Outages, Outage{From: later(g.at(i), g.from)})
		}
		o := &a.Outages[open]
		o.To = earlier(g.at(i+1), g.until)
		o.Down += fleet.Duration(s.down[i])
		o.Off = o.Off || s.off[i] > 0
	}
	a.Served, a.Down, a.Off, a.Unknown = fleet.Duration(served), fleet.Duration(down), fleet.Duration(off), fleet.Duration(unknown)
	slices.SortStableFunc(a.Outages, func(x, y Outage) int { return cmp.Compare(y.Down, x.Down) })
	a.Outages = a.Outages[:min(len(a.Outages), mostOutages)]
	if total := served + down; total > 0 {
		a.Percent = number(100 * float64(served) / float64(total))
		a.Allowed = fleet.Duration(float64(total) * (1 - required/100))
		a.Verdict = judge(*a.Percent >= required)
	}
	return a
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// sum adds up.
func sum(those []time.Duration) (total time.Duration) {
	for _, d := range those {
		total += d
	}
	return total
}

// level judges one service level by the worst reading of each interval.
func (g *grid) level(l Level, cells []cell, zone *time.Location) Level {
	l.Verdict, l.Days = Unknown, []string{}
	var judged, missed, unknown time.Duration
	byDay := map[string]time.Duration{}
	for i := range g.n {
		whole := g.whole(i)
		if cells == nil || cells[i].n == 0 {
			unknown += whole
			continue
		}
		judged += whole
		if l.Worst == nil || cells[i].max > *l.Worst {
			l.Worst, l.At = number(cells[i].max), g.at(i)
		}
		if cells[i].max > time.Duration(l.Within).Seconds() {
			missed += whole
			byDay[g.at(i).In(zone).Format(time.DateOnly)] += whole
		}
	}
	l.Judged, l.Missed, l.Unknown = fleet.Duration(judged), fleet.Duration(missed), fleet.Duration(unknown)
	for day, d := range byDay {
		if d >= time.Hour {
			l.Days = append(l.Days, day)
		}
	}
	slices.Sort(l.Days)
	if judged > 0 {
		l.Kept = number(100 * float64(judged-missed) / float64(judged))
		l.Verdict = judge(*l.Kept >= Adherence)
	}
	return l
}
