package queueing

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// Values of the Erlang formulas as tabulated in textbooks, and for one worker in closed form.
func TestErlang(t *testing.T) {
	tests := []struct {
		c    int
		a    float64
		b, w float64
	}{
		{1, 0.5, 1.0 / 3, 0.5}, // B = a/(1+a), C = a
		{2, 1, 0.2, 1.0 / 3},
		{5, 3, 0.110054, 0.236151},
		{10, 8, 0.121661, 0.409180},
		{100, 84.064, 0.01, 0.059605}, // the 1 % column of Erlang's table
		{3, 0, 0, 0},
	}
	for _, tt := range tests {
		if b := ErlangB(tt.c, tt.a); math.Abs(b-tt.b) > 1e-4 {
			t.Errorf("ErlangB(%d, %g) = %.6f, want %.6f", tt.c, tt.a, b, tt.b)
		}
		if c := ErlangC(tt.c, tt.a); math.Abs(c-tt.w) > 1e-4 {
			t.Errorf("ErlangC(%d, %g) = %.6f, want %.6f", tt.c, tt.a, c, tt.w)
		}
	}
}

// The recursion against the definition, summed in logarithms.
func TestErlangBIsItsDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := rapid.IntRange(1, 3000).Draw(t, "c")
		a := rapid.Float64Range(0.01, 4000).Draw(t, "a")
		log := func(k int) float64 {
			g, _ := math.Lgamma(float64(k) + 1)
			return float64(k)*math.Log(a) - g
		}
		sum := 0.0
		for k := range c + 1 {
			sum += math.Exp(log(k) - log(c))
		}
		if got, want := ErlangB(c, a), 1/sum; math.Abs(got-want) > 1e-8*want {
			t.Fatalf("ErlangB(%d, %g) = %g, want %g", c, a, got, want)
		}
	})
}

func TestErlangIsTotal(t *testing.T) {
	for _, a := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), -1} {
		if b, c := ErlangB(3, a), ErlangC(3, a); !math.IsNaN(b) || !math.IsNaN(c) {
			t.Errorf("a load of %g: %g, %g", a, b, c)
		}
	}
	if !math.IsNaN(ErlangB(-1, 1)) || !math.IsNaN(ErlangC(0, 1)) {
		t.Error("a pool without workers has a probability")
	}
	if ErlangC(3, 3) != 1 || ErlangC(3, 1e300) != 1 {
		t.Error("in overload not everyone waits")
	}
	if b, c := ErlangB(5000, 1e-300), ErlangC(5000, 1e-300); b != 0 || c != 0 {
		t.Errorf("5000 workers without load: %g, %g", b, c)
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
			if approx := SquareRoot(a, delay); approx > float64(n) || approx < float64(n)-2.3 {
				t.Errorf("%g erlangs, delay %g: Erlang C needs %d, square root %.1f", a, delay, n, approx)
			}
		}
	}
	for _, v := range []float64{math.NaN(), math.Inf(1), -1, 0, 1} {
		if !math.IsNaN(SquareRoot(10, v)) || (v != 0 && v != 1 && !math.IsNaN(SquareRoot(v, 0.5))) {
			t.Errorf("square-root staffing makes sense of %g", v)
		}
	}
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
