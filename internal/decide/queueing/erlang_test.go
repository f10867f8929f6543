package queueing

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// Values of Erlang's delay formula as tabulated in textbooks, and for one worker in closed form.
func TestErlang(t *testing.T) {
	tests := []struct {
		c    int
		a, w float64
	}{
		{1, 0.5, 0.5}, // C = a
		{2, 1, 1.0 / 3},
		{5, 3, 0.236151},
		{10, 8, 0.409180},
		{100, 84.064, 0.059605}, // where Erlang B is 1 %
		{3, 0, 0},
	}
	for _, tt := range tests {
		if c := ErlangC(tt.c, tt.a); math.Abs(c-tt.w) > 1e-4 {
			t.Errorf("ErlangC(%d, %g) = %.6f, want %.6f", tt.c, tt.a, c, tt.w)
		}
	}
}

// The recursion against the definition, summed in logarithms.
func TestErlangCIsItsDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := rapid.IntRange(1, 3000).Draw(t, "c")
		a := rapid.Float64Range(0.001, 0.999).Draw(t, "utilization") * float64(c)
		log := func(k int) float64 {
			g, _ := math.Lgamma(float64(k) + 1)
			return float64(k)*math.Log(a) - g
		}
		sum := 0.0
		for k := range c {
			sum += math.Exp(log(k) - log(c))
		}
		if got, want := ErlangC(c, a), 1/(1+(1-a/float64(c))*sum); math.Abs(got-want) > 1e-8*want {
			t.Fatalf("ErlangC(%d, %g) = %g, want %g", c, a, got, want)
		}
	})
}

func TestErlangIsTotal(t *testing.T) {
	for _, a := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), -1} {
		if c := ErlangC(3, a); !math.IsNaN(c) {
			t.Errorf("a load of %g: %g", a, c)
		}
	}
	if !math.IsNaN(ErlangC(0, 1)) {
		t.Error("a pool without workers has a probability")
	}
	if ErlangC(3, 3) != 1 || ErlangC(3, 1e300) != 1 {
		t.Error("in overload not everyone waits")
	}
	if c := ErlangC(5000, 1e-300); c != 0 {
		t.Errorf("5000 workers without load: %g", c)
	}
}

// Square-root staffing is a limit for large pools, and below Erlang C by at most 2.3 workers from 1 to 2000 erlangs. The
// size that Erlang C needs is rounded up, so that up to one of them is the rounding.
func TestSquareRootAgrees(t *testing.T) {
	for _, a := range []float64{1, 2, 5, 10, 30, 100, 500, 2000} {
		for _, delay := range []float64{0.01, 0.05, 0.2, 0.5, 0.8} {
			n := int(a) + 1
			for ErlangC(n, a) > delay {
				n++
			}
			if approx := squareRoot(a, delay); approx > float64(n) || approx < float64(n)-2.3 {
				t.Errorf("%g erlangs, delay %g: Erlang C needs %d, square root %.1f", a, delay, n, approx)
			}
		}
	}
}

// squareRoot is the size that square-root staffing gives for a load of a erlangs of which the share delay may have to wait:
// a + beta sqrt(a), with beta from Halfin and Whitt's limit of the probability of delay, 1/(1 + beta Phi(beta)/phi(beta)).
func squareRoot(a, delay float64) float64 {
	low, high := 0.0, 40.0
	for range 60 {
		beta := (low + high) / 2
		density := math.Exp(-beta*beta/2) / math.Sqrt(2*math.Pi)
		if density/(density+beta*math.Erfc(-beta/math.Sqrt2)/2) > delay {
			low = beta
		} else {
			high = beta
		}
	}
	return a + low*math.Sqrt(a)
}

func TestLawPeak(t *testing.T) {
	for _, tt := range []struct {
		law  Law
		want int
	}{
		{Law{}, 0},
		{Law{Contention: 0.1}, 0},
		{Law{0.02, 0.001}, 31},
		{Law{0.1, 0.01}, 9},
		{Law{1, 0.1}, 1},
		{Law{0, 1e-30}, 0},
		{Law{0.1, math.NaN()}, 0},
		{Law{-1, 0.1}, 0},
	} {
		if got := tt.law.Peak(); got != tt.want {
			t.Errorf("%+v: peak at %d, want %d", tt.law, got, tt.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		l := Law{rapid.Float64Range(0, 1).Draw(t, "a"), rapid.Float64Range(1e-4, 1).Draw(t, "b")}
		best := 1
		for n := range 200 {
			if l.Worth(n+1) > l.Worth(best) {
				best = n + 1
			}
		}
		if got := l.Peak(); l.Worth(got) < l.Worth(best)*(1-1e-12) {
			t.Fatalf("%+v: peak at %d, best is %d", l, got, best)
		}
	})
}

func BenchmarkErlangC10(b *testing.B) {
	for b.Loop() {
		ErlangC(10, 8)
	}
}

func BenchmarkErlangC200(b *testing.B) {
	for b.Loop() {
		ErlangC(200, 180)
	}
}
