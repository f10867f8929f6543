package forecast

import (
	"encoding/json"
	"errors"
	"math"
	"time"
)

// stored is a window as it is kept: with its end in nanoseconds since the epoch.
type stored struct {
	End      int64   `json:"end"`
	Span     float64 `json:"span"` // s
	Requests float64 `json:"requests"`
}

// MarshalJSON and UnmarshalJSON keep the windows, so that a trend goes on after a restart as if there had been none.
func (t Trend) MarshalJSON() ([]byte, error) {
	out := make([]stored, t.n)
	for i, w := range t.windows[:t.n] {
		out[i] = stored{w.end.UnixNano(), w.span, w.requests}
	}
	return json.Marshal(out)
}

func (t *Trend) UnmarshalJSON(b []byte) error {
	var in []stored
	if err := json.Unmarshal(b, &in); err != nil {
		return err
	}
	if len(in) > trendWindows {
		return errors.New("a trend has more windows than it can hold")
	}
	var n Trend
	for i, w := range in {
		if !(w.Span > 0) || !(w.Requests >= 0) || math.IsInf(w.Requests/w.Span, 0) || (i > 0 && w.End <= in[i-1].End) {
			return errors.New("a trend holds a window that cannot be")
		}
		n.windows[i] = window{time.Unix(0, w.End).UTC(), w.Span, w.Requests}
	}
	n.n = len(in)
	*t = n
	return nil
}

// Newest is the end of the newest window; the zero time while there is none.
func (t *Trend) Newest() time.Time {
	if t.n == 0 {
		return time.Time{}
	}
	return t.windows[t.n-1].end
}

// Shift moves all times by d: the wall clock moved by itself.
func (t *Trend) Shift(d time.Duration) {
	for i := range t.windows[:t.n] {
		t.windows[i].end = t.windows[i].end.Add(d)
	}
}
