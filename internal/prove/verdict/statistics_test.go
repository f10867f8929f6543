package verdict

import (
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"tidemark/internal/decide/signal"
)

func near(t *testing.T, what string, got, want, within float64) {
	t.Helper()
	if !(math.Abs(got-want) <= within) {
		t.Errorf("%s is %.6g, want %.6g", what, got, want)
	}
}

// Against published tables: Student's t, Clopper and Pearson, and the 59 values that a p95 needs.
func TestTailsAgainstTables(t *testing.T) {
	near(t, "t(0.95, 4)", student(4), 2.132, 0.0005)
	near(t, "t(0.95, 30)", student(30), 1.697, 0.0005)
	near(t, "t(0.95, 1)", student(1), 6.314, 0.0005)
	_, high := proportion(0, 100)
	near(t, "the upper bound of 0 in 100", high, 1-math.Pow(0.05, 0.01), 1e-9)
	low, high := proportion(5, 50)
	near(t, "the lower bound of 5 in 50", low, 0.0402, 0.0002)
	near(t, "the upper bound of 5 in 50", high, 0.1991, 0.0005)
	if _, r := ranks(58, 0.95); r != 59 {
		t.Errorf("58 values bound a p95 by value %d: they cannot", r)
	}
	if _, r := ranks(59, 0.95); r != 59 {
		t.Errorf("59 values bound a p95 by value %d, want the largest", r)
	}
	if l, r := ranks(5, 0.5); l != 1 || r != 5 {
		t.Errorf("5 values bound their median by values %d and %d, want the smallest and the largest", l, r)
	}
	if l, r := ranks(4, 0.5); l != 0 || r != 5 {
		t.Errorf("4 values bound their median by values %d and %d: they cannot", l, r)
	}
	if l, r := ranks(20, 0.5); l != 6 || r != 15 {
		t.Errorf("20 values bound their median by values %d and %d, want 6 and 15", l, r)
	}
}

// The binomial tail by its sum.
func TestBinomialIsItsSum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, p := rapid.IntRange(1, 60).Draw(t, "n"), rapid.Float64Range(0.01, 0.99).Draw(t, "p")
		k := rapid.IntRange(0, n).Draw(t, "k")
		want := 0.0
		for i := range k + 1 {
			a, _ := math.Lgamma(float64(n + 1))
			b, _ := math.Lgamma(float64(i + 1))
			c, _ := math.Lgamma(float64(n - i + 1))
			want += math.Exp(a - b - c + float64(i)*math.Log(p) + float64(n-i)*math.Log1p(-p))
		}
		if got := binomial(k, n, p); math.Abs(got-want) > 1e-9 {
			t.Fatalf("P(Bin(%d, %g) <= %d) is %g, want %g", n, p, k, got, want)
		}
	})
}

// The distribution of U by listing every arrangement of the two samples.
func TestMannWhitneyIsTheEnumeration(t *testing.T) {
	for n := 1; n <= 6; n++ {
		for m := 1; m <= 6; m++ {
			counts, all := make([]int, n*m+1), 0
			for set := range 1 << (n + m) {
				ones, u, zeros := 0, 0, 0
				for bit := range n + m {
					if set>>bit&1 == 1 {
						ones++
						u += zeros
					} else {
						zeros++
					}
				}
				if ones == n {
					counts[u]++
					all++
				}
			}
			cdf, sum := mannWhitney(n, m), 0
			for u, c := range counts {
				sum += c
				near(t, "P(U <= u)", cdf(float64(u)), float64(sum)/float64(all), 1e-12)
			}
		}
	}
	// Critical values at 5 %, two-sided, from the usual table: the largest U that is still significant.
	for _, tt := range []struct{ n, m, u int }{{4, 4, 0}, {5, 5, 2}, {6, 5, 3}, {8, 8, 13}, {10, 10, 23}, {20, 20, 127}} {
		cdf := mannWhitney(tt.n, tt.m)
		if p, q := 2*cdf(float64(tt.u)), 2*cdf(float64(tt.u+1)); p > 0.05 || q <= 0.05 {
			t.Errorf("%d against %d: U of %d gives %.4f and %d gives %.4f, the table's critical value is %d", tt.n, tt.m, tt.u, p, tt.u+1, q, tt.u)
		}
	}
	// Beyond what is exact, the approximation continues it.
	exact, beyond := mannWhitney(50, 50), mannWhitney(51, 50)
	near(t, "the tail at two standard deviations", beyond(math.Floor(1275-2*146.5)), exact(math.Floor(1250-2*145)), 0.002)
}

func TestShift(t *testing.T) {
	few := shift([]float64{1, 2, 3}, []float64{11, 12, 13})
	if few.P != 0.1 || few.Least != 0.1 || !math.IsInf(few.Low, -1) || !math.IsInf(few.High, 1) {
		t.Errorf("3 against 3 can never reach 0.05: %+v", few)
	}
	five := shift([]float64{480, 470, 490, 475, 485}, []float64{520, 515, 530, 510, 525})
	near(t, "the shift", five.Value, 40, 0)
	near(t, "p", five.P, 2.0/252, 1e-12)
	if five.Low < 25 || five.High > 55 || five.Confidence < 0.95 || five.Confidence > 0.97 {
		t.Errorf("%+v", five)
	}
	same := shift([]float64{1, 1, 1, 1, 1}, []float64{1, 1, 1, 1, 1})
	if same.P < 0.99 || same.Value != 0 {
		t.Errorf("nothing changed: %+v", same)
	}
}

// Property: what is better by the earlier runs' sight is worse by the later ones', and a constant added is found again.
func TestShiftIsAntisymmetric(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := rapid.SliceOfN(rapid.Float64Range(0, 100), 1, 8).Draw(t, "a")
		b := rapid.SliceOfN(rapid.Float64Range(0, 100), 1, 8).Draw(t, "b")
		ab, ba := shift(a, b), shift(b, a)
		if math.Abs(ab.Value+ba.Value) > 1e-9 || math.Abs(ab.P-ba.P) > 1e-12 || math.Abs(ab.Low+ba.High) > 1e-9 && !math.IsInf(ab.Low, 0) {
			t.Fatalf("%+v and %+v", ab, ba)
		}
		moved := make([]float64, len(a))
		for i := range a {
			moved[i] = a[i] + 7
		}
		if got := shift(a, moved).Value; math.Abs(got-7) > 1e-9 {
			t.Fatalf("moved by 7, found %g", got)
		}
	})
}

// latencies simulates a service whose latency wanders: log-normal around a level that is itself an AR(1) series with the given correlation
// time, at 20 requests/s, in windows of so many seconds.
func latencies(rng *rand.Rand, seconds, window int, correlation, wander, center float64) *levels {
	var all []cell
	keep := math.Exp(-1 / correlation)
	level := rng.NormFloat64()
	var h signal.Histogram
	for t := range seconds {
		level = keep*level + math.Sqrt(1-keep*keep)*rng.NormFloat64()
		for range 10 + rng.IntN(21) {
			h.Record(center * math.Exp(wander*level+0.3*rng.NormFloat64()))
		}
		if (t+1)%window == 0 {
			all = cells(all, t/window, &h)
			h.Reset()
		}
	}
	return newLevels(seconds/window, all)
}

// p95 of latencies: both parts are normal, so that their sum is.
func trueP95(wander, center float64) float64 {
	return center * math.Exp(1.6448536*math.Sqrt(wander*wander+0.09))
}

// The bounds of a p95 must hold as often as they say, also when latency is correlated in time. The figures are printed with -v.
func TestCoverageOfTheBootstrap(t *testing.T) {
	if testing.Short() {
		t.Skip("simulates hundreds of hours of load")
	}
	for _, tt := range []struct {
		seconds, window int // a longer run has longer slots
		correlation     float64
	}{
		{600, 1, 1}, {3600, 5, 10}, {3600, 5, 60},
	} {
		const runs, least = 100, 0.89 // 88 or fewer of 100 come to pass in 4 of 1,000 tries, if it is 95 % in truth
		truth, below, above, width := trueP95(0.2, 0.3), 0, 0, 0.0
		for i := range runs {
			rng := rand.New(rand.NewPCG(uint64(i), uint64(tt.seconds)))
			got, _ := latencies(rng, tt.seconds, tt.window, tt.correlation, 0.2, 0.3).quantile(0.95, uint64(i))
			if got.Low <= truth {
				below++
			}
			if got.High >= truth {
				above++
			}
			width += (got.High - got.Low) / got.Value / runs
		}
		l, h := float64(below)/runs, float64(above)/runs
		t.Logf("%4d s, correlated over %2.0f s: the lower bound holds in %.1f %%, the upper in %.1f %% of runs; %.1f %% wide", tt.seconds, tt.correlation, l*100, h*100, width*100)
		if l < least || h < least {
			t.Errorf("%d s, correlated over %g s: bounds hold in %.3f and %.3f of runs, want %.2f", tt.seconds, tt.correlation, l, h, least)
		}
	}
}
