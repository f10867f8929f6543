package signal

import (
	"math"
	"slices"
	"time"

	"tidemark/internal/decide/policy"
	"tidemark/internal/fleet"
)

// Datapoint is a signal's statistic over one period. Only a Fresh one has a value; the others say why there is none.
type Datapoint struct {
	End     time.Time     `json:"end"`
	Value   float64       `json:"value"`
	Quality fleet.Quality `json:"quality"`
}

// Real reports whether the datapoint was measured.
func (d *Datapoint) Real() bool { return d.Quality == fleet.Fresh }

// Series collects one signal's readings into datapoints, and keeps the latest of them, oldest first. Periods are
// half-open, (start, end], and aligned to multiples of the period since the epoch, so that a restart falls into the same ones.
type Series struct {
	Points  []Datapoint   `json:"points"`
	End     time.Time     `json:"end"`              // of the period being filled; zero before the first reading
	Best    fleet.Quality `json:"best"`             // of the readings in it
	N       int           `json:"n"`                // fresh readings in it
	Sum     float64       `json:"sum"`              //
	Min     float64       `json:"min"`              //
	Max     float64       `json:"max"`              //
	Last    float64       `json:"last"`             //
	Values  []float64     `json:"values,omitempty"` // only for quantiles over readings
	scratch []float64
}

// Observe takes in the reading of a tick and reports how many datapoints it completed. keep is the number of datapoints to
// hold on to.
func (s *Series) Observe(sig *policy.Signal, now time.Time, r *fleet.Reading, keep int) int {
	closed, ends := 0, now.Compare(s.End)
	if ends > 0 {
		closed = s.leave(sig, now, keep)
		ends = now.Compare(s.End)
	}
	s.add(sig, r)
	if ends == 0 {
		closed += s.close(sig, keep)
	}
	return closed
}

// leave goes on to the period in which now falls, or to the first one there is.
func (s *Series) leave(sig *policy.Signal, now time.Time, keep int) (closed int) {
	if s.End.IsZero() {
		s.End = periodEnd(now, sig.Period)
		return 0
	}
	closed = s.close(sig, keep)
	// Periods in which no tick fell are missing. More than keep of them need not be counted.
	if gap := int(now.Sub(s.End)/sig.Period) - keep; gap > 0 {
		s.End = s.End.Add(time.Duration(gap) * sig.Period)
	}
	for now.After(s.End) {
		closed += s.close(sig, keep)
	}
	return closed
}

// periodEnd is the end of the period (start, end] in which now falls.
func periodEnd(now time.Time, period time.Duration) time.Time {
	end := now.Truncate(period)
	if end.Before(now) {
		end = end.Add(period)
	}
	return end
}

func (s *Series) add(sig *policy.Signal, r *fleet.Reading) {
	s.Best = max(s.Best, r.Quality)
	if r.Quality != fleet.Fresh {
		return
	}
	if s.N == 0 {
		s.Min, s.Max = r.Value, r.Value
	}
	s.N++
	s.Sum += r.Value
	s.Min = min(s.Min, r.Value)
	s.Max = max(s.Max, r.Value)
	s.Last = r.Value
	if sig.Statistic == policy.Quantile && !sig.FromSource {
		s.Values = append(s.Values, r.Value)
	}
}

func (s *Series) close(sig *policy.Signal, keep int) int {
	p := Datapoint{End: s.End, Quality: s.Best}
	if s.N > 0 {
		p.Value = s.statistic(sig)
	}
	if len(s.Points) >= keep {
		copy(s.Points, s.Points[len(s.Points)-keep+1:])
		s.Points = s.Points[:keep-1]
	}
	s.Points = append(s.Points, p)
	s.End = s.End.Add(sig.Period)
	s.Best, s.N, s.Sum, s.Min, s.Max, s.Last, s.Values = fleet.Missing, 0, 0, 0, 0, 0, s.Values[:0]
	return 1
}

func (s *Series) statistic(sig *policy.Signal) float64 {
	if sig.FromSource {
		return s.Last
	}
	switch sig.Statistic {
	case policy.Avg:
		return s.Sum / float64(s.N)
	case policy.Max:
		return s.Max
	case policy.Min:
		return s.Min
	case policy.Sum:
		return s.Sum
	case policy.Last:
		return s.Last
	case policy.Quantile:
		s.scratch = append(s.scratch[:0], s.Values...)
		slices.Sort(s.scratch)
		rank := int(math.Ceil(sig.Q*float64(len(s.scratch)))) - 1
		return s.scratch[min(max(rank, 0), len(s.scratch)-1)]
	}
	return math.NaN()
}

// Newest returns the latest datapoint; its quality is Missing when there is none.
func (s *Series) Newest() Datapoint {
	if len(s.Points) == 0 {
		return Datapoint{}
	}
	return s.Points[len(s.Points)-1]
}

// Shift moves all times by d: the wall clock moved by itself.
func (s *Series) Shift(d time.Duration) {
	if !s.End.IsZero() {
		s.End = s.End.Add(d)
	}
	for i := range s.Points {
		s.Points[i].End = s.Points[i].End.Add(d)
	}
}
