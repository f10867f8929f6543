package queueing

import (
	"math"
	"testing"
)

// A few quantiles are enough to size a fleet by: the mean is right to a percent or two for the distributions that services
// have. Where most requests are of one kind and a few of another, it comes out on the safe side.
func TestFit(t *testing.T) {
	for _, tt := range []struct {
		name      string
		quantile  func(float64) float64
		tolerance float64 // of the mean, relative
	}{
		{"exponential", exponential, 0.01},
		{"lognormal, cv 0.5", lognormal(0.5), 0.01},
		{"lognormal, cv 1", lognormal(1), 0.01},
		{"lognormal, cv 2", lognormal(2), 0.02},
		{"always the same", constant, 1e-9},
		{"nine quick, one slow", func(q float64) float64 {
			if q < 0.9 {
				return mean / 2
			}
			return mean * 5.5
		}, 0.15},
	} {
		var whole, fit Service
		whole.Assume(tt.quantile, mean)
		fit.Fit([]Quantile{{0.5, tt.quantile(0.5)}, {0.95, tt.quantile(0.95)}, {0.99, tt.quantile(0.99)}})
		p := Pool{Workers: 8, Rate: 0.85 * 8 / mean, Service: &whole}
		want := p.Response(0.95)
		p.Service = &fit
		t.Logf("%s: mean %.4g for %.4g, cv2 %.3g for %.3g, p95 of 8 workers at 0.85: %.4g for %.4g", tt.name, fit.Mean(), whole.Mean(), fit.SCV(), whole.SCV(), p.Response(0.95), want)
		near(t, tt.name+": mean", fit.Mean(), whole.Mean(), tt.tolerance)
		for _, q := range []float64{0.5, 0.95, 0.99} {
			near(t, tt.name, fit.Quantile(q), tt.quantile(q), 0.02)
		}
	}
}

func TestFitRefuses(t *testing.T) {
	for _, points := range [][]Quantile{
		nil, {{0.5, 0.1}}, {{0.5, 0.1}, {0.5, 0.2}}, {{0.95, 0.1}, {0.5, 0.2}}, {{0.5, 0}, {0.95, 0.2}}, {{0, 0.1}, {0.95, 0.2}},
		{{0.5, 0.1}, {1, 0.2}}, {{0.5, 0.1}, {0.95, math.NaN()}}, {{0.5, 0.1}, {0.95, math.Inf(1)}},
	} {
		s := *service(exponential)
		if s.Fit(points); s.Known() {
			t.Errorf("%v is taken for a distribution of mean %g", points, s.Mean())
		}
	}
	var s Service
	if s.Fit([]Quantile{{0.5, 0.1}, {0.95, 0.09}}); !s.Known() || s.Quantile(0.95) > 0.101 {
		t.Error("quantiles that cross by a little, read a moment apart, are refused")
	}
}

func BenchmarkFit(b *testing.B) {
	points := []Quantile{{0.5, 0.07}, {0.95, 0.3}, {0.99, 0.46}}
	var s Service
	b.ReportAllocs()
	for b.Loop() {
		s.Fit(points)
	}
}
