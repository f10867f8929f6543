package verdict

import (
	"fmt"
	"math"
	"strings"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/prove/outcome"
)

// measure is how a criterion's figure is taken from a run.
type measure struct {
	unit    fleet.Unit
	atLeast bool
	of      func(run *outcome.Run, c outcome.Criterion, seed uint64) sample
}

// sample is one run's figure.
type sample struct {
	Interval
	spells  float64 // that the run held: stretches that say something of their own
	samples int
	why     string      // more about it
	unit    *fleet.Unit // where the run tells it
}

var measures = map[outcome.Measure]measure{
	outcome.Latency:      {unit: fleet.Seconds, of: latency},
	outcome.Duration:     {unit: fleet.Seconds, of: duration},
	outcome.Signal:       {unit: fleet.Percent, of: resource},
	outcome.ErrorRate:    {of: errorRate},
	outcome.Availability: {atLeast: true, of: availability},
	outcome.Throughput:   {atLeast: true, of: throughput},
	outcome.Knee:         {atLeast: true, of: knee},
}

// judged are the slots from the end of the warm-up to the end of the load.
func judged(run *outcome.Run) (from, to int) {
	slot := time.Duration(run.Slot)
	if slot <= 0 {
		return 0, 0
	}
	from = int((time.Duration(run.WarmUp) + slot - 1) / slot)
	return from, max(int((time.Duration(run.Length)+slot-1)/slot), from)
}

// Matches says whether a step is of what a criterion names: api, page, a step, journey/step, or empty for all.
func Matches(s *outcome.Step, of string) bool {
	switch {
	case of == "" || string(s.Kind) == of || s.Name == of:
		return true
	}
	journey, step, found := strings.Cut(of, "/")
	return found && s.Journey == journey && s.Name == step
}

// eachSlot hands over the slots that are judged, by their number from 0.
func eachSlot(run *outcome.Run, of string, f func(at int, s *outcome.Slot)) {
	from, to := judged(run)
	for i := range run.Steps {
		step := &run.Steps[i]
		if !Matches(step, of) {
			continue
		}
		for j := range step.Slots {
			if s := &step.Slots[j]; s.At >= from && s.At < to {
				f(s.At-from, s)
			}
		}
	}
}

func quantileOf(windows int, all []cell, q float64, seed uint64) sample {
	l := newLevels(windows, all)
	n := 0
	if len(l.middle) > 0 {
		n = l.whole(len(l.middle) - 1)
	}
	out := sample{samples: n}
	out.Interval, out.spells = l.quantile(q, seed)
	return out
}

func latency(run *outcome.Run, c outcome.Criterion, seed uint64) sample {
	from, to := judged(run)
	var all []cell
	eachSlot(run, c.Of, func(at int, s *outcome.Slot) { all = cells(all, at, &s.Latency.Histogram) })
	return quantileOf(to-from, all, c.Quantile, seed)
}

func duration(run *outcome.Run, c outcome.Criterion, seed uint64) sample {
	from, to := judged(run)
	var all []cell
	for _, j := range run.Journeys {
		if c.Of != "" && j.Name != c.Of {
			continue
		}
		for i := range j.Slots {
			if s := &j.Slots[i]; s.At >= from && s.At < to {
				all = cells(all, s.At-from, &s.Duration.Histogram)
			}
		}
	}
	return quantileOf(to-from, all, c.Quantile, seed)
}

func resource(run *outcome.Run, c outcome.Criterion, seed uint64) sample {
	from, to := judged(run)
	sum, n := make([]float64, to-from), make([]float64, to-from)
	var out sample
	for i := range run.Fleets {
		for _, s := range run.Fleets[i].Signals {
			if s.Signal != c.Of {
				continue
			}
			out.unit = &s.Unit
			for _, r := range s.Readings {
				at := int(r.Time.Sub(run.Started)/time.Duration(run.Slot)) - from
				if r.Quality == fleet.Fresh && at >= 0 && at < to-from {
					sum[at] += r.Value
					n[at]++
					out.samples++
				}
			}
		}
	}
	out.Interval, out.spells = ratio(sum, n, false, seed)
	return out
}

func errorRate(run *outcome.Run, c outcome.Criterion, seed uint64) sample {
	from, to := judged(run)
	failed, all := make([]float64, to-from), make([]float64, to-from)
	var out sample
	eachSlot(run, c.Of, func(at int, s *outcome.Slot) {
		failed[at] += float64(s.Failures())
		all[at] += float64(s.Count)
		out.samples += int(s.Count)
	})
	out.Interval, out.spells = ratio(failed, all, true, seed)
	return out
}

// availability counts seconds, so that it does not matter how long the slots are: a slot has as many as it is long, and no more than requests
// came. They were up when one of its requests succeeded. What was down was down: only how much worse it may be is a matter of chance, so that
// a run in which too much was down has failed.
func availability(run *outcome.Run, c outcome.Criterion, seed uint64) sample {
	from, to := judged(run)
	count, succeeded := make([]uint64, to-from), make([]uint64, to-from)
	eachSlot(run, c.Of, func(at int, s *outcome.Slot) {
		count[at] += s.Count
		succeeded[at] += s.Count - s.Failures()
	})
	asked, down := make([]float64, to-from), make([]float64, to-from)
	var out sample
	for at := range count {
		asked[at] = min(math.Ceil(time.Duration(run.Slot).Seconds()), float64(count[at]))
		if succeeded[at] == 0 {
			down[at] = asked[at]
		}
		out.samples += int(asked[at])
	}
	lost, spells := ratio(down, asked, true, seed)
	up := 1 - lost.Value
	out.Interval, out.spells = Interval{up, max(1-lost.High, 0), up}, spells
	return out
}

func throughput(run *outcome.Run, c outcome.Criterion, seed uint64) sample {
	from, to := judged(run)
	done, seconds := make([]float64, to-from), make([]float64, to-from)
	var out sample
	for i := range seconds {
		seconds[i] = time.Duration(run.Slot).Seconds()
	}
	eachSlot(run, c.Of, func(at int, s *outcome.Slot) {
		done[at] += float64(s.Count - s.Failures())
		out.samples += int(s.Count)
	})
	out.Interval, out.spells = ratio(done, seconds, false, seed)
	return out
}

// knee is the highest level below the first that broke. The knee itself lies between the two; where none broke it is not known how much
// further it is.
func knee(run *outcome.Run, _ outcome.Criterion, _ uint64) sample {
	out := sample{Interval: Interval{High: math.Inf(1)}, spells: 1, why: "the service level held at every level"}
	for _, l := range run.Levels {
		switch {
		case l.Broke != "":
			out.samples += int(max(l.Requests, 1))
			out.High = l.Rate
			out.why = fmt.Sprintf("it broke at %.4g visits/s: %s", l.Rate, l.Broke)
			return out
		case l.Requests > 0:
			out.samples += int(l.Requests)
			out.Value, out.Low = l.Rate, l.Rate
		}
	}
	return out
}
