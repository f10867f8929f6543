package signal

import "time"

// Sliding is a histogram over the latest window of time, kept as sub-windows that are added to a total when they
// come and subtracted when they leave. It reads no clock: the caller says when now is, and time that goes backwards is
// taken as standing still.
type Sliding struct {
	total Histogram
	parts []Histogram // ring; parts[at] is being filled
	at    int
	step  time.Duration
	end   time.Time // end of the sub-window being filled
}

// subWindows is the number of sub-windows: the window's length is exact to 1/30.
const subWindows = 30

// NewSliding returns an empty window of the given length, at least 30 ns.
func NewSliding(window time.Duration) *Sliding {
	return &Sliding{parts: make([]Histogram, subWindows), step: max(window/subWindows, 1)}
}

// Advance moves the window to now, forgetting what is older than the window. A jump longer than the window empties it.
func (s *Sliding) Advance(now time.Time) {
	if s.end.IsZero() {
		s.end = now.Add(s.step)
		return
	}
	if now.Sub(s.end) > s.step*subWindows {
		s.Reset()
		s.end = now.Add(s.step)
		return
	}
	for !now.Before(s.end) {
		s.at = (s.at + 1) % len(s.parts)
		s.total.Sub(&s.parts[s.at])
		s.parts[s.at].Reset()
		s.end = s.end.Add(s.step)
	}
}

// Record counts one value now; Advance first.
func (s *Sliding) Record(v float64) {
	s.parts[s.at].Record(v)
	s.total.Record(v)
}

// Add counts a whole histogram of values now; Advance first.
func (s *Sliding) Add(h *Histogram) {
	s.parts[s.at].Add(h)
	s.total.Add(h)
}

// Total is the histogram of the window. It changes with the next call.
func (s *Sliding) Total() *Histogram { return &s.total }

// Reset empties the window.
func (s *Sliding) Reset() {
	s.total.Reset()
	for i := range s.parts {
		s.parts[i].Reset()
	}
}
