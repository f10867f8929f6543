package fleet

import "time"

// Quality says how far a reading can be trusted. The zero value is Missing, so that a forgotten field never becomes
// a measurement.
type Quality uint8

const (
	// Missing: the source could not be read, or has nothing to say. The value means nothing.
	Missing Quality = iota
	// Stale: the source answers, but what it says is older than the signal allows.
	Stale
	// Sparse: the source works, and saw fewer samples than min_samples: too few to state the statistic. Unlike
	// Missing it proves that the source is alive (a quiet night is not a blackout).
	Sparse
	// Fresh: the value was measured now.
	Fresh
)

var qualityNames = [...]string{"missing", "stale", "sparse", "fresh"}

func (q Quality) String() string { return nameOf(qualityNames[:], int(q)) }

// MarshalText and UnmarshalText keep the journal readable.
func (q Quality) MarshalText() ([]byte, error)  { return []byte(q.String()), nil }
func (q *Quality) UnmarshalText(b []byte) error { return parseName(q, qualityNames[:], b, "quality") }

// Reading is one observed value of a signal. Value is in the signal's base unit: seconds for durations, percent
// (0..100) for shares, bytes for memory, a plain number otherwise.
type Reading struct {
	Value   float64   `json:"value"`
	Time    time.Time `json:"time"`
	Quality Quality   `json:"quality"`
}
