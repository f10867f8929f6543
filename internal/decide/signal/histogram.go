package signal

import (
	"encoding/binary"
	"errors"
	"iter"
	"math"
)

// Histogram is a fixed log-linear histogram of positive values: 32 buckets to each power of two, from 2^-20 (about
// 1 microsecond, when values are seconds) to 2^12 (68 minutes). Values outside are counted in the first or last
// bucket. A quantile read from it is off by at most 1/64 of its value (half a bucket, 1.6 %).
//
// Two histograms can be added and, because buckets are plain counts, subtracted: a sliding window costs one Add and
// one Sub however long it is. Quantiles are never averaged. The zero value is empty and ready.
type Histogram struct {
	counts [buckets]uint32
	n      uint64
}

const (
	perOctave = 32
	octaves   = 32
	buckets   = perOctave * octaves
	shift     = 52 - 5                      // keep 5 bits of the mantissa
	lowest    = (1023 - 20) << 5            // index of 2^-20
	minValue  = 1.0 / (1 << 20)             // 2^-20
	maxValue  = float64(1<<12) * (1 - 1e-9) // just under 2^12
)

func bucket(v float64) int {
	if !(v > minValue) { // also NaN
		return 0
	}
	if v > maxValue {
		return buckets - 1
	}
	return int(math.Float64bits(v)>>shift) - lowest
}

// edge is the lower edge of bucket i.
func edge(i int) float64 { return math.Float64frombits(uint64(i+lowest) << shift) }

// Record counts one value.
func (h *Histogram) Record(v float64) {
	h.counts[bucket(v)]++
	h.n++
}

// RecordN counts n values alike.
func (h *Histogram) RecordN(v float64, n uint32) {
	h.counts[bucket(v)] += n
	h.n += uint64(n)
}

// Count is the number of values recorded.
func (h *Histogram) Count() uint64 { return h.n }

// Reset empties the histogram.
func (h *Histogram) Reset() { *h = Histogram{} }

// Add adds o's counts.
func (h *Histogram) Add(o *Histogram) {
	for i, c := range o.counts {
		h.counts[i] += c
	}
	h.n += o.n
}

// Sub takes away counts that were added before.
func (h *Histogram) Sub(o *Histogram) {
	for i, c := range o.counts {
		h.counts[i] -= c
	}
	h.n -= o.n
}

// Quantile returns the value below which the share q (0..1) of the recorded values lies, by the nearest-rank
// definition, as the middle of its bucket. It is NaN when nothing was recorded.
func (h *Histogram) Quantile(q float64) float64 {
	if h.n == 0 || math.IsNaN(q) {
		return math.NaN()
	}
	rank := uint64(math.Ceil(min(max(q, 0), 1) * float64(h.n)))
	rank = max(rank, 1)
	var seen uint64
	for i, c := range h.counts {
		seen += uint64(c)
		if seen >= rank {
			return (edge(i) + edge(i+1)) / 2
		}
	}
	return math.NaN() // not reached: the counts add up to n
}

// Mean is the mean of the bucket middles, NaN when nothing was recorded.
func (h *Histogram) Mean() float64 {
	if h.n == 0 {
		return math.NaN()
	}
	var sum float64
	for i, c := range h.counts {
		if c != 0 {
			sum += float64(c) * (edge(i) + edge(i+1)) / 2
		}
	}
	return sum / float64(h.n)
}

// Buckets lists the buckets that are not empty, rising: the middle of each, and how many values it holds.
func (h *Histogram) Buckets() iter.Seq2[float64, uint32] {
	return func(yield func(float64, uint32) bool) {
		for i, c := range h.counts {
			if c != 0 && !yield((edge(i)+edge(i+1))/2, c) {
				return
			}
		}
	}
}

// Bucket is the range of values, from its first to below its second, that are counted together with v.
func Bucket(v float64) (low, high float64) {
	i := bucket(v)
	return edge(i), edge(i + 1)
}

// MarshalBinary writes the non-empty buckets as (gap, count) pairs of unsigned varints, so that an idle histogram is
// a few bytes.
func (h *Histogram) MarshalBinary() ([]byte, error) {
	var b []byte
	last := 0
	for i, c := range h.counts {
		if c != 0 {
			b = binary.AppendUvarint(b, uint64(i-last))
			b = binary.AppendUvarint(b, uint64(c))
			last = i
		}
	}
	return b, nil
}

var errHistogram = errors.New("histogram: malformed bytes")

// UnmarshalBinary reads what MarshalBinary wrote.
func (h *Histogram) UnmarshalBinary(b []byte) error {
	h.Reset()
	i := uint64(0)
	for first := true; len(b) > 0; first = false {
		gap, n := binary.Uvarint(b)
		if n <= 0 {
			return errHistogram
		}
		c, m := binary.Uvarint(b[n:])
		if m <= 0 || c > math.MaxUint32 || gap >= buckets || i+gap >= buckets || gap == 0 && !first {
			return errHistogram // a bucket that comes twice could hold more than it can count
		}
		b = b[n+m:]
		i += gap
		h.counts[i] += uint32(c)
		h.n += c
	}
	return nil
}
