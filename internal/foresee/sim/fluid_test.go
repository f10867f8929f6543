package sim

import (
	"math"
	"testing"
	"time"
)

// The fluid level is the request level without its chance: within 15 % of the mean over seeds in p95, size and actions.
func TestFluidAgainstRequests(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: plays many runs")
	}
	for _, c := range []struct {
		load string
		over time.Duration
		peak float64
	}{
		{"daily", 5 * 24 * time.Hour, 60},
		{"daily", 5 * 24 * time.Hour, 25},
		{"bursts", 5 * 24 * time.Hour, 50},
		{"registration-drive", 4 * time.Hour, 60},
		{"concurrent-sync", 3 * time.Hour, 40},
	} {
		of := func(level Level) (p95, size, actions, violations float64) {
			const seeds = 4
			for seed := range uint64(seeds) {
				p := plan(t, c.load, c.over, c.peak)
				p.Seed, p.Level = seed+1, level
				r := do(t, p)
				p95 += r.Response.Quantile(0.95) / seeds
				size += r.MeanSize() / seeds
				actions += float64(r.Up+r.Down) / seeds
				violations += r.ViolationShare() / seeds
			}
			return p95, size, actions, violations
		}
		p95, size, actions, violations := of(Requests)
		fp95, fsize, factions, fviolations := of(Fluid)
		t.Logf("%s at %g: p95 %.3f s, fluid %.3f (%+.1f %%); size %.3f, %.3f (%+.1f %%); actions %.1f, %.1f (%+.1f %%); violations %.2f %%, %.2f %%",
			c.load, c.peak, p95, fp95, 100*(fp95/p95-1), size, fsize, 100*(fsize/size-1), actions, factions, 100*(factions/actions-1), violations, fviolations)
		for _, x := range [][2]float64{{p95, fp95}, {size, fsize}, {actions, factions}} {
			if math.Abs(x[1]/x[0]-1) > 0.15 {
				t.Errorf("%s at %g: %g, and %g in the fluid", c.load, c.peak, x[0], x[1])
			}
		}
	}
}

// The figure to print is that of a year at ticks of 15 s, closed loop.
func BenchmarkYear(b *testing.B) {
	p := plan(b, "daily", 365*24*time.Hour, 60)
	p.Level = Fluid
	b.ReportAllocs()
	var r *Result
	for b.Loop() {
		r = do(b, p)
	}
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/year")
	b.ReportMetric(float64(r.Up+r.Down), "actions")
}
