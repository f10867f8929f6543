// Package counter compares what a server has counted with what it had counted a window ago.
package counter

import (
	"time"

	"tidemark/internal/fleet"
)

// Series keeps the counts, T, of the latest window. The zero value with a Window is ready.
type Series[T any] struct {
	// Window is how far back the comparison goes, to within a sixteenth; at the start it is shorter.
	Window time.Duration

	points []point[T] // oldest first
	life   string
}

type point[T any] struct {
	at     time.Time
	counts T
}

// perWindow bounds what is kept, however often it is read.
const perWindow = 16

// Add notes the counts at a time of the monotonic clock and returns those to compare them with, which lie over before. life is
// the same as long as they count on. Fresh: here they are. Sparse: these are the first. Missing: they began anew since
// the last ones. Stale: nobody looked for so long that most of what was counted since is older than the window. Only Fresh and Stale
// come with counts.
func (s *Series[T]) Add(at time.Time, life string, counts T) (from T, over time.Duration, q fleet.Quality) {
	now := point[T]{at, counts}
	if len(s.points) == 0 || life != s.life {
		q = fleet.Missing
		if len(s.points) == 0 {
			q = fleet.Sparse
		}
		s.points, s.life = append(s.points[:0], now), life
		return from, 0, q
	}
	last := s.points[len(s.points)-1]
	if gap := at.Sub(last.at); gap > 2*s.Window {
		s.points = append(s.points[:0], now)
		return last.counts, gap, fleet.Stale
	}
	if n := len(s.points); n >= 2 && last.at.Sub(s.points[n-2].at) < s.Window/perWindow {
		s.points[n-1] = now
	} else {
		s.points = append(s.points, now)
	}
	// The first point is the one nearest to the window's start.
	start := at.Add(-s.Window)
	drop := 0
	for drop+2 < len(s.points) && s.points[drop+1].at.Sub(start).Abs() <= s.points[drop].at.Sub(start).Abs() {
		drop++
	}
	s.points = append(s.points[:0], s.points[drop:]...)
	return s.points[0].counts, at.Sub(s.points[0].at), fleet.Fresh
}

// Forget begins anew: counts may have begun anew unseen.
func (s *Series[T]) Forget() { s.points = s.points[:0] }
