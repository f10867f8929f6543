package signal

import (
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A quantile is off by at most half a bucket, 1/64 of its value, whatever was recorded.
func TestHistogramQuantile(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Float64Range(2e-6, 4000), 1, 300).Draw(t, "values")
		q := rapid.Float64Range(0, 1).Draw(t, "q")
		var h Histogram
		for _, v := range values {
			h.Record(v)
		}
		slices.Sort(values)
		want := values[max(int(math.Ceil(q*float64(len(values)))), 1)-1]
		if got := h.Quantile(q); math.Abs(got-want) > want/64*1.001 {
			t.Fatalf("quantile %g is %g, want %g", q, got, want)
		}
	})
}

func TestHistogramAddSubAndBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		any := rapid.SliceOf(rapid.OneOf(rapid.Float64(), rapid.Just(math.NaN()), rapid.Just(math.Inf(1))))
		var a, b, sum Histogram
		for _, v := range any.Draw(t, "a") {
			a.Record(v)
		}
		for _, v := range any.Draw(t, "b") {
			b.Record(v)
		}
		sum.Add(&a)
		sum.Add(&b)
		bytes, err := sum.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var back Histogram
		if err := back.UnmarshalBinary(bytes); err != nil || back != sum {
			t.Fatalf("read back differs (%v)", err)
		}
		sum.Sub(&b)
		if sum != a {
			t.Fatal("what was added and taken away again leaves a trace")
		}
	})
}

func TestEmptyHistogramHasNoQuantile(t *testing.T) {
	var h Histogram
	if !math.IsNaN(h.Quantile(0.95)) || !math.IsNaN(h.Mean()) {
		t.Error("an empty histogram has a quantile")
	}
}

func FuzzHistogramBytes(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4})
	f.Fuzz(func(t *testing.T, b []byte) {
		var h Histogram
		if h.UnmarshalBinary(b) == nil && h.Count() > 0 && math.IsNaN(h.Quantile(0.5)) {
			t.Error("values without a median")
		}
	})
}

// A sliding window holds what was recorded within it, to 1/30 of its length, and nothing older.
func TestSliding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const window = 30 * time.Second
		s := NewSliding(window)
		now := time.Unix(1000, 0)
		var times []time.Time
		for range rapid.IntRange(1, 100).Draw(t, "n") {
			now = now.Add(time.Duration(rapid.IntRange(0, 9000).Draw(t, "gap")) * time.Millisecond)
			s.Advance(now)
			s.Record(1)
			times = append(times, now)
			least, most := 0, 0
			for _, at := range times {
				if age := now.Sub(at); age < window-window/subWindows {
					least++
					most++
				} else if age < window+window/subWindows {
					most++
				}
			}
			if n := int(s.Total().Count()); n < least || n > most {
				t.Fatalf("%d in the window, want %d to %d", n, least, most)
			}
		}
	})
}

func TestSlidingForgetsAfterAJump(t *testing.T) {
	s := NewSliding(time.Minute)
	now := time.Unix(1000, 0)
	s.Advance(now)
	s.Record(1)
	s.Advance(now.Add(-time.Hour)) // back: stands still
	if s.Total().Count() != 1 {
		t.Error("a clock that goes back empties the window")
	}
	s.Advance(now.Add(time.Hour))
	if s.Total().Count() != 0 {
		t.Error("an hour later the window still holds the value")
	}
}

func BenchmarkHistogramRecord(b *testing.B) {
	var h Histogram
	v := 0.001
	for b.Loop() {
		h.Record(v)
		v *= 1.0001
		if v > 100 {
			v = 0.001
		}
	}
}

func TestBucketsAreTheWholeHistogram(t *testing.T) {
	var h, rebuilt Histogram
	for _, v := range []float64{0.0001, 0.25, 0.25, 0.5, 3, 900} {
		h.Record(v)
	}
	for middle, count := range h.Buckets() {
		for range count {
			rebuilt.Record(middle)
		}
	}
	if rebuilt != h {
		t.Errorf("%d values of %d, p50 %g of %g", rebuilt.Count(), h.Count(), rebuilt.Quantile(0.5), h.Quantile(0.5))
	}
}
