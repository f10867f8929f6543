// Package external reads what other load tools measured, k6 and JMeter, into an outcome, so that it is judged and reported like a run of
// Tidemark's own. Files are read as a stream, in memory that depends on the steps and not on the requests.
package external

import (
	"fmt"
	"math"
	"slices"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/prove/outcome"
)

const (
	// mostSlots bounds the slots of a series: a longer run gets longer slots.
	mostSlots = 450
	// mostSteps bounds the names: further ones are counted together, as a URL with a number in it makes a name of each request.
	mostSteps = 40
	others    = "(others)"
	longest   = 7 * 24 * 3600 * 1000 // of a request or journey, in milliseconds
	// malformedShare of lines that cannot be read makes a run partial.
	malformedShare = 0.01
)

// gathered is a run in the making. Slots are numbered since 1970, so that requests may come in any order.
type gathered struct {
	tool     string
	slot     time.Duration
	steps    map[string]*series
	journeys map[string]*lived
	first    time.Time
	last     time.Time // of starts
	ended    time.Time
	run      outcome.Run

	lines, malformed int
	firstLine        int
	firstError       error
}

type series struct {
	kind  outcome.Kind
	slots map[int64]*outcome.Slot
}

type lived struct {
	slots map[int64]*outcome.JourneySlot
}

func gather(tool string) *gathered {
	return &gathered{tool: tool, slot: time.Second, steps: map[string]*series{}, journeys: map[string]*lived{}}
}

// plausible refuses what no load test measures, and what would not fit into the slots of a run.
func plausible(at time.Time, ms float64) error {
	switch year := at.Year(); {
	case year < 2000 || year > 2100:
		return fmt.Errorf("the year %d is none of a load test", year)
	case !(ms >= 0 && ms <= longest):
		return fmt.Errorf("%g ms is no time that a request takes", ms)
	}
	return nil
}

// request is one that ended. A class says that it failed.
type request struct {
	name    string
	kind    outcome.Kind
	start   time.Time
	latency time.Duration // as its user felt it
	service time.Duration // from the send
	class   outcome.Class
	bytes   uint64
}

func (g *gathered) request(r request) {
	g.seen(r.start, r.latency)
	s := g.steps[r.name]
	if s == nil && len(g.steps) >= mostSteps {
		r.name = others
		s = g.steps[others]
	}
	if s == nil {
		s = &series{kind: r.kind, slots: map[int64]*outcome.Slot{}}
		g.steps[r.name] = s
	}
	at := r.start.UnixNano() / int64(g.slot)
	slot := s.slots[at]
	if slot == nil {
		slot = &outcome.Slot{}
		s.slots[at] = slot
	}
	slot.Count++
	slot.Bytes += r.bytes
	slot.Latency.Record(r.latency.Seconds())
	slot.Service.Record(r.service.Seconds())
	if r.class != "" {
		if slot.Failed == nil {
			slot.Failed = map[outcome.Class]uint64{}
		}
		slot.Failed[r.class]++
	}
	g.run.Generator.Requests++
}

// journey is a group of requests that came to its end.
func (g *gathered) journey(name string, start time.Time, took time.Duration, failed bool) {
	g.seen(start, took)
	j := g.journeys[name]
	if j == nil {
		if len(g.journeys) >= mostSteps {
			return
		}
		j = &lived{slots: map[int64]*outcome.JourneySlot{}}
		g.journeys[name] = j
	}
	at := start.UnixNano() / int64(g.slot)
	slot := j.slots[at]
	if slot == nil {
		slot = &outcome.JourneySlot{}
		j.slots[at] = slot
	}
	slot.Count++
	if failed {
		slot.Failed++
		return
	}
	slot.Duration.Record(took.Seconds())
}

// seen stretches the run to a time, and doubles the slots when there would be too many.
func (g *gathered) seen(start time.Time, took time.Duration) {
	if g.first.IsZero() || start.Before(g.first) {
		g.first = start
	}
	if start.After(g.last) {
		g.last = start
	}
	if end := start.Add(took); end.After(g.ended) {
		g.ended = end
	}
	for g.last.Sub(g.first) >= mostSlots*g.slot {
		g.slot *= 2
		for _, s := range g.steps {
			s.slots = halved(s.slots, func(into, one *outcome.Slot) {
				into.Count += one.Count
				into.Bytes += one.Bytes
				into.Latency.Add(&one.Latency.Histogram)
				into.Service.Add(&one.Service.Histogram)
				for c, n := range one.Failed {
					if into.Failed == nil {
						into.Failed = map[outcome.Class]uint64{}
					}
					into.Failed[c] += n
				}
			})
		}
		for _, j := range g.journeys {
			j.slots = halved(j.slots, func(into, one *outcome.JourneySlot) {
				into.Count += one.Count
				into.Failed += one.Failed
				into.Duration.Add(&one.Duration.Histogram)
			})
		}
	}
}

// halved makes one slot of each two.
func halved[S any](slots map[int64]*S, add func(into, one *S)) map[int64]*S {
	merged := make(map[int64]*S, len(slots)/2+1)
	for at, one := range slots {
		if into := merged[at/2]; into != nil {
			add(into, one)
		} else {
			merged[at/2] = one
		}
	}
	return merged
}

// bad counts a line that could not be read.
func (g *gathered) bad(line int, err error) {
	if g.malformed == 0 {
		g.firstLine, g.firstError = line, err
	}
	g.malformed++
}

// outcome ends the run. warmUp is what is not judged, from the start.
func (g *gathered) outcome(name string, warmUp time.Duration) (*outcome.Run, error) {
	if g.run.Generator.Requests == 0 {
		if g.malformed > 0 {
			return nil, fmt.Errorf("%s: no request in it: of %d lines %d cannot be read, the first is line %d: %w", name, g.lines, g.malformed, g.firstLine, g.firstError)
		}
		return nil, fmt.Errorf("%s: no request in it: an empty result is a test that was not run", name)
	}
	r := &g.run
	begin := g.first.UnixNano() / int64(g.slot)
	r.Started = time.Unix(0, begin*int64(g.slot)).UTC()
	r.Ended = g.ended.UTC()
	r.Slot, r.Compress, r.WarmUp = fleet.Duration(g.slot), 1, fleet.Duration(warmUp)
	length := g.last.Sub(r.Started)
	r.Length = fleet.Duration(time.Duration(math.Ceil(float64(length+1)/float64(g.slot))) * g.slot)
	if time.Duration(r.Length) <= warmUp {
		return nil, fmt.Errorf("%s: the run lasted %s, and the warm-up of %s leaves nothing to judge", name, fleet.Elapsed(length), fleet.Elapsed(warmUp))
	}
	r.Generator.Took = fleet.Duration(g.ended.Sub(r.Started))
	for name, s := range g.steps {
		step := outcome.Step{Name: name, Kind: s.kind}
		for at, slot := range s.slots {
			slot.At = int(at - begin)
			step.Slots = append(step.Slots, *slot)
		}
		slices.SortFunc(step.Slots, func(a, b outcome.Slot) int { return a.At - b.At })
		r.Steps = append(r.Steps, step)
	}
	slices.SortFunc(r.Steps, func(a, b outcome.Step) int { return compare(a.Name, b.Name) })
	for name, j := range g.journeys {
		out := outcome.Journey{Name: name}
		for at, slot := range j.slots {
			slot.At = int(at - begin)
			out.Slots = append(out.Slots, *slot)
		}
		slices.SortFunc(out.Slots, func(a, b outcome.JourneySlot) int { return a.At - b.At })
		r.Journeys = append(r.Journeys, out)
	}
	slices.SortFunc(r.Journeys, func(a, b outcome.Journey) int { return compare(a.Name, b.Name) })
	if g.malformed > 0 {
		note := fmt.Sprintf("%d of %d lines could not be read, the first is line %d: %v", g.malformed, g.lines, g.firstLine, g.firstError)
		r.Notes = append(r.Notes, note)
		if float64(g.malformed) > malformedShare*float64(g.lines) && r.Cut == "" {
			r.Cut = note
		}
	}
	return r, nil
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// byStatus is the class of an answer's status.
func byStatus(status int) outcome.Class {
	switch {
	case status >= 500:
		return outcome.FailedServer
	case status >= 400:
		return outcome.FailedClient
	}
	return outcome.FailedCheck // it was refused for what it said
}

// Criteria are the requirements' for what another tool measured. The scaling and the workers' CPU are the daemon's to tell.
func Criteria(run *outcome.Run) (all []outcome.Criterion) {
	kinds := map[outcome.Kind]bool{}
	for _, s := range run.Steps {
		kinds[s.Kind] = true
	}
	if kinds[outcome.API] {
		all = append(all, outcome.Criterion{Name: "API p95", Measure: outcome.Latency, Of: string(outcome.API), Quantile: 0.95, Limit: 0.5, Variation: 0.1})
	}
	if kinds[outcome.Page] {
		all = append(all, outcome.Criterion{Name: "pages p95", Measure: outcome.Latency, Of: string(outcome.Page), Quantile: 0.95, Limit: 3})
	}
	for _, j := range run.Journeys {
		if j.Name == "sync" {
			all = append(all, outcome.Criterion{Name: "sync of 500 records, p95", Measure: outcome.Duration, Of: j.Name, Quantile: 0.95, Limit: 120, Variation: 0.15})
		}
	}
	return append(all,
		outcome.Criterion{Name: "errors", Measure: outcome.ErrorRate, Limit: 0.01},
		outcome.Criterion{Name: "availability", Measure: outcome.Availability, Limit: 0.995})
}
