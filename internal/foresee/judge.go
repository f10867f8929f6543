package foresee

import (
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/foresee/measure"
	"tidemark/internal/foresee/sim"
)

// Judge plays a plan and measures how well the fleet was kept. need is the smallest fleet that meets the objective, by stretches of step. What
// is played within lead of the start only warms up and is not judged. The plan's Each and Decided are Judge's own.
func Judge(p sim.Plan, need []int, step, lead time.Duration) (measure.Score, error) {
	if p.Target == (sim.Objective{}) {
		p.Target = sim.DefaultObjective()
	}
	m := measure.Meter{Limit: p.Target.Limit.Seconds()}
	moved := false
	p.Decided = func(*fleet.Decision) { moved = true }
	p.Each = func(s *sim.Sample) {
		if since := s.Time.Sub(p.Load.Start); since > lead {
			at := min(int(since-1)/int(step), len(need)-1)
			m.Add(measure.Tick{For: p.Tick, Billed: s.Size.Workers() + s.Size.Draining, Serves: s.Size.Serving, Needed: need[at], P95: s.P95, Moved: moved})
		}
		moved = false
	}
	if _, err := sim.Run(p); err != nil {
		return measure.Score{}, err
	}
	return m.Score(), nil
}
