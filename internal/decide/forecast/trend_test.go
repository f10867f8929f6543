package forecast

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const tick = 15 * time.Second

var epoch = time.Unix(1_800_000_000, 0)

// follow observes windows of 15 s at the given rates and returns the trend and the end of the last.
func follow(rates ...float64) (*Trend, time.Time) {
	var t Trend
	now := epoch
	for _, r := range rates {
		now = now.Add(tick)
		t.Observe(now, tick, r*tick.Seconds())
	}
	return &t, now
}

func ramp(n int, from, step float64) []float64 {
	rates := make([]float64, n)
	for i := range rates {
		rates[i] = from + step*float64(i)
	}
	return rates
}

func TestTrendFollowsARamp(t *testing.T) {
	trend, now := follow(ramp(20, 100, 6)...) // 0.4/s each second; at the end of the last window 217/s
	r := trend.Ahead(now, time.Minute)
	if !r.Known || r.Surge || math.Abs(r.Now-217) > 1 || math.Abs(r.Expected-241) > 1 || r.High <= r.Expected || r.High > 260 {
		t.Errorf("%+v", r)
	}
	// Not beyond what the windows reach back, 180 s.
	if far, farther := trend.Ahead(now, 3*time.Minute), trend.Ahead(now, time.Hour); far != farther {
		t.Errorf("%+v, and farther ahead %+v", far, farther)
	}
	// Later, the horizon lies further from what was measured.
	if later := trend.Ahead(now.Add(tick), time.Minute); math.Abs(later.Expected-247) > 1 {
		t.Errorf("%+v", later)
	}
	trend, now = follow(ramp(12, 200, -10)...)
	if r := trend.Ahead(now, time.Hour); r.Expected != 0 || r.High <= 0 {
		t.Errorf("a falling rate ends below nothing: %+v", r)
	}
	trend, now = follow(ramp(12, 0, 10)...)
	if r := trend.Ahead(now, time.Hour); r.Expected > 2*r.Now {
		t.Errorf("more than doubled: %+v", r)
	}
}

func TestTrendIgnoresAnOddWindow(t *testing.T) {
	trend, now := follow(100, 101, 99, 100, 400, 100, 99, 101, 0, 100, 101, 99)
	if r := trend.Ahead(now, time.Minute); r.Surge || math.Abs(r.Expected-100) > 3 {
		t.Errorf("%+v", r)
	}
}

func TestTrendSeesASurgeAtOnce(t *testing.T) {
	trend, now := follow(append(ramp(11, 100, 0), 130)...)
	if r := trend.Ahead(now, time.Minute); !r.Surge || r.Now != 130 || r.Expected < 130 {
		t.Errorf("%+v", r)
	}
	// Within what chance allows, it is none: 3 x sqrt(100/15) = 7.7.
	trend, now = follow(append(ramp(11, 100, 0), 105)...)
	if r := trend.Ahead(now, time.Minute); r.Surge || r.Now > 101 {
		t.Errorf("%+v", r)
	}
}

func TestTrendUnknown(t *testing.T) {
	trend, now := follow(5, 5)
	if trend.Ahead(now, time.Minute).Known {
		t.Error("two windows are a trend")
	}
	trend, now = follow(5, 5, 5)
	if !trend.Ahead(now, time.Minute).Known {
		t.Error("three windows are none")
	}
	if trend.Ahead(now.Add(time.Minute), time.Minute).Known {
		t.Error("known from windows long gone")
	}
	if trend.Ahead(now.Add(-time.Second), time.Minute).Known {
		t.Error("known from the future")
	}
	for _, bad := range []float64{math.NaN(), math.Inf(1), -1} {
		trend.Observe(now.Add(tick), tick, bad)
	}
	trend.Observe(now.Add(tick), 0, 1)
	trend.Observe(now, tick, 1000)
	if trend.n != 3 {
		t.Errorf("%d windows after five that are none", trend.n)
	}
	trend.Observe(now.Add(-time.Hour), tick, 1)
	if trend.n != 1 {
		t.Error("windows of before and after the clock went back make one line")
	}
	trend, now = follow(make([]float64, 12)...)
	if r := trend.Ahead(now, time.Minute); !r.Known || r.Now != 0 || r.Expected != 0 || !(r.High > 0) {
		t.Errorf("nobody comes: %+v", r)
	}
}

func TestDispersion(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, tt := range []struct{ batch, low, high float64 }{{1, 0.8, 1.2}, {4, 3.2, 4.8}} {
		sum := 0.0
		const runs = 400
		for range runs {
			var trend Trend
			for i := range trendWindows {
				n := 0.0 // batches, Poisson with mean 50
				for x := rng.ExpFloat64(); x < 50; x += rng.ExpFloat64() {
					n++
				}
				trend.Observe(epoch.Add(time.Duration(i)*tick), tick, n*tt.batch)
			}
			sum += trend.Dispersion()
		}
		if mean := sum / runs; mean < tt.low || mean > tt.high {
			t.Errorf("arrivals in batches of %g: dispersion %g", tt.batch, mean)
		}
	}
	if trend, _ := follow(1, 2, 3); !math.IsNaN(trend.Dispersion()) {
		t.Error("three windows have a dispersion")
	}
	if trend, _ := follow(make([]float64, 12)...); !math.IsNaN(trend.Dispersion()) {
		t.Error("nothing has a dispersion")
	}
}

// Of steady Poisson arrivals the band's upper end holds in nine of ten, surges are rare, and the line stays where it is.
func TestTrendOfSteadyArrivals(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	const rate, runs = 40.0, 2000
	surges, missed, off := 0, 0, 0.0
	for range runs {
		var trend Trend
		for i := range trendWindows {
			n := math.Round(rate*15 + rng.NormFloat64()*math.Sqrt(rate*15))
			trend.Observe(epoch.Add(time.Duration(i)*tick), tick, n)
		}
		r := trend.Ahead(epoch.Add((trendWindows-1)*tick), time.Minute)
		if r.Surge {
			surges++
		}
		if r.High < rate {
			missed++
		}
		off += math.Abs(r.Expected - rate)
	}
	t.Logf("of %d: %d surges, %d with the rate above the band, off by %.1f %%", runs, surges, missed, 100*off/runs/rate)
	if surges > runs/50 || missed > runs/10 || off/runs > 0.04*rate {
		t.Errorf("of %d: %d surges, %d with the rate above the band, off by %g", runs, surges, missed, off/runs)
	}
}

func TestTrendIsTotal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var trend Trend
		now := epoch
		for range rapid.IntRange(0, 30).Draw(t, "windows") {
			now = now.Add(time.Duration(rapid.Int64Range(-int64(time.Minute), int64(time.Hour)).Draw(t, "step")))
			trend.Observe(now, time.Duration(rapid.Int64Range(-5, int64(time.Hour)).Draw(t, "span")), rapid.Float64().Draw(t, "requests"))
		}
		r := trend.Ahead(now.Add(time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "later"))), rapid.Custom(func(t *rapid.T) time.Duration {
			return time.Duration(rapid.Int64().Draw(t, "horizon"))
		}).Draw(t, "horizon"))
		for _, v := range []float64{r.Now, r.Expected, r.High} {
			if math.IsNaN(v) || math.IsInf(v, 0) || v < 0 {
				t.Fatalf("%+v", r)
			}
		}
		if r.High < r.Expected {
			t.Fatalf("%+v", r)
		}
	})
}

func BenchmarkTrend(b *testing.B) {
	trend, now := follow(ramp(20, 100, 6)...)
	b.ReportAllocs()
	for b.Loop() {
		trend.Ahead(now, time.Minute)
	}
}

// A trend that was stored and read back goes on as if nothing had been, also after the clock jumped.
func TestTrendOutlivesARestart(t *testing.T) {
	trend, now := follow(ramp(20, 100, 6)...)
	want := trend.Ahead(now, time.Minute)
	b, err := json.Marshal(trend)
	if err != nil {
		t.Fatal(err)
	}
	var back Trend
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if got := back.Ahead(now, time.Minute); got != want || !back.Newest().Equal(now) {
		t.Errorf("read back: %+v, was %+v", got, want)
	}
	back.Shift(time.Hour)
	if got := back.Ahead(now.Add(time.Hour), time.Minute); got != want {
		t.Errorf("an hour's jump later: %+v, was %+v", got, want)
	}
	for _, bad := range []string{
		`{}`, `[{"end":1,"span":0,"requests":1}]`, `[{"end":1,"span":1,"requests":-1}]`, `[{"end":2,"span":1,"requests":1},{"end":1,"span":1,"requests":1}]`,
		"[" + strings.Repeat(`{"end":1,"span":1,"requests":1},`, 12) + `{"end":1,"span":1,"requests":1}]`,
	} {
		if json.Unmarshal([]byte(bad), &back) == nil {
			t.Errorf("%s is read", bad)
		}
	}
}
