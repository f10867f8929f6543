package control

import (
	"time"

	"tidemark/internal/decide/schedule"
)

// ScheduleStatus is what the schedule asks for now, and what it will ask for next.
type ScheduleStatus struct {
	Floor   schedule.Limit `json:"floor,omitzero"`
	Ceiling schedule.Limit `json:"ceiling,omitzero"`
	Next    time.Time      `json:"next,omitzero"` // when something changes; zero: not within a year
	Then    Then           `json:"then,omitzero"` // what holds from then on
}

// Then is what a schedule will ask for.
type Then struct {
	Floor   schedule.Limit `json:"floor,omitzero"`
	Ceiling schedule.Limit `json:"ceiling,omitzero"`
}

// ahead remembers the next change of a schedule, which takes longer to find than a tick should.
type ahead struct {
	from, until time.Time
	next        time.Time
	then        Then
}

// status of a schedule at a moment; nil when there is none.
func (a *ahead) status(s *schedule.Schedule, now time.Time) *ScheduleStatus {
	if s == nil {
		return nil
	}
	if now.Before(a.from) || !now.Before(a.until) {
		next, limits, ok := s.Next(now)
		*a = ahead{from: now, until: now.Add(24 * time.Hour)}
		if ok {
			a.next, a.then = next, Then{limits.Floor, limits.Ceiling}
			if next.Before(a.until) {
				a.until = next
			}
		}
	}
	l := s.At(now)
	return &ScheduleStatus{Floor: l.Floor, Ceiling: l.Ceiling, Next: a.next, Then: a.then}
}
