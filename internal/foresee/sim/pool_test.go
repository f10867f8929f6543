package sim

import (
	"fmt"
	"math"
	"testing"

	"tidemark/internal/decide/queueing"
	"tidemark/internal/decide/signal"
)

// Known exact answers, and what package queueing predicts. The mean wait is exact: M/M/1 and M/M/c by Erlang C, M/D/1 and M/G/1 by
// Pollaczek and Khinchine. The share that waits and the p95 are the formulas': exact for M/M/c, for others as near as the last column says.
func TestKnownQueues(t *testing.T) {
	const mean = 0.1
	for _, c := range []struct {
		name    string
		workers int
		load    float64 // erlangs
		cv      float64 // -1: exponential
		wait    float64 // mean, in seconds
		near    float64 // the formula's p95
		mean    float64 // the formula's mean wait: Allen and Cunneen's is too long for a heavy tail in a pool, on the safe side
	}{
		{"M/M/1 at 0.8", 1, 0.8, -1, mean * 0.8 / 0.2, 0.02, 0.02},
		{"M/D/1 at 0.8", 1, 0.8, 0, mean * 0.8 / 0.2 / 2, 0.06, 0.02},
		{"M/G/1 at 0.7, cv 2", 1, 0.7, 2, mean * 0.7 / 0.3 * (1 + 4) / 2, 0.12, 0.04},
		{"M/M/4 at 0.9", 4, 3.6, -1, queueing.ErlangC(4, 3.6) * mean / (4 - 3.6), 0.03, 0.02},
		{"M/M/10 at 0.8", 10, 8, -1, queueing.ErlangC(10, 8) * mean / (10 - 8), 0.02, 0.02},
		{"M/D/6 at 0.85", 6, 5.1, 0, math.NaN(), 0.06, 0.05},
		{"M/G/10 at 0.8, cv 2", 10, 8, 2, math.NaN(), 0.08, 0.35},
	} {
		t.Run(c.name, func(t *testing.T) {
			arrivals, services := Exponential(mean/c.load), Exponential(mean)
			if c.cv >= 0 {
				services = Lognormal(mean, c.cv)
			}
			p := pool{free: make([]float64, c.workers)}
			r := NewRandom(1, "known")
			now, total, waited := 0.0, 0.0, 0
			var responses signal.Histogram
			const n = 6_000_000
			for range n {
				u := r.Next()
				now += arrivals.of(uint32(u))
				s := services.of(uint32(u >> 32))
				wait := p.serve(now, s) - now
				total += wait
				if wait > 0 {
					waited++
				}
				responses.Record(wait + s)
			}
			var s queueing.Service
			s.Assume(services.quantile, mean)
			formula := queueing.Pool{Workers: c.workers, Rate: c.load / mean, Service: &s}
			check := func(what string, got, want, near float64) {
				t.Logf("%s %.5g, %.5g: %+.2f %%", what, got, want, 100*(got/want-1))
				if !(math.Abs(got/want-1) <= near) {
					t.Errorf("%s %g, want %g", what, got, want)
				}
			}
			if !math.IsNaN(c.wait) {
				check("mean wait", total/n, c.wait, 0.04) // cv 2 mixes slowly: its own error over 6 million requests is about 2 %
			}
			check("mean wait by the formula", formula.Wait(), total/n, c.mean)
			check("share that waits by the formula", formula.Delay(), float64(waited)/n, 0.05)
			check("p95 by the formula", formula.Response(0.95), responses.Quantile(0.95), c.near+0.015) // half a bucket of the histogram
		})
	}
}

// A law keeps its mean and its variability.
func TestLaws(t *testing.T) {
	for _, c := range []struct {
		law *Law
		cv  float64
	}{{Exponential(0.1), 1}, {Lognormal(0.1, 0.5), 0.5}, {Lognormal(0.1, 1), 1}, {Lognormal(0.1, 2), 2}, {Lognormal(0.1, 0), 0}} {
		r := NewRandom(3, "laws")
		n, sum, square := 4_000_000, 0.0, 0.0
		for range n {
			v := c.law.of(uint32(r.Next()))
			sum += v
			square += v * v
		}
		mean := sum / float64(n)
		cv := math.Sqrt(max(square/float64(n)-mean*mean, 0)) / mean
		if math.Abs(mean-0.1) > 0.0005 || math.Abs(cv-c.cv) > 0.03+0.05*c.cv*c.cv {
			t.Errorf("mean %g, cv %g; want 0.1 and %g", mean, cv, c.cv)
		}
	}
}

func TestQueue(t *testing.T) {
	var q queue[request]
	want := 0
	for i := range 5000 {
		q.push(request{at: float64(i)})
		if i%3 == 0 {
			if got := q.pop(); got.at != float64(want) {
				t.Fatalf("%g came out, want %d", got.at, want)
			}
			want++
		}
	}
	if q.n != 5000-want {
		t.Errorf("%d are left, want %d", q.n, 5000-want)
	}
}

// The figure to print is requests/s: arrival, wait, service, and response time into a histogram.
func BenchmarkRequests(b *testing.B) {
	for _, c := range []int{1, 4, 10, 32} {
		b.Run(fmt.Sprint("workers=", c), func(b *testing.B) {
			arrivals, services := Exponential(0.1/(0.8*float64(c))), Lognormal(0.1, 1)
			p := pool{free: make([]float64, c)}
			r := NewRandom(1, "bench")
			var h signal.Histogram
			now := 0.0
			b.ReportAllocs()
			for b.Loop() {
				u := r.Next()
				now += arrivals.of(uint32(u))
				s := services.of(uint32(u >> 32))
				h.Record(p.serve(now, s) + s - now)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "Mreq/s")
		})
	}
}
