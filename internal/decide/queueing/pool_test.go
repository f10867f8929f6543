package queueing

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"tidemark/internal/decide/signal"
)

const mean = 0.1 // seconds of service in these tests

func exponential(q float64) float64 { return -mean * math.Log1p(-q) }

func constant(float64) float64 { return mean }

func lognormal(cv float64) func(float64) float64 {
	variance := math.Log1p(cv * cv)
	return func(q float64) float64 {
		return mean * math.Exp(math.Sqrt(2*variance)*math.Erfinv(2*q-1)-variance/2)
	}
}

func service(quantile func(float64) float64) *Service {
	var s Service
	s.Assume(quantile, mean)
	return &s
}

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance*math.Abs(want)) {
		t.Errorf("%s is %.5g, want %.5g", what, got, want)
	}
}

// In M/M/1 the response time is exponential with mean S/(1-rho).
func TestMM1(t *testing.T) {
	s := service(exponential)
	for _, rho := range []float64{0.01, 0.3, 0.5, 0.8, 0.95, 0.999} {
		p := Pool{Workers: 1, Rate: rho / mean, Service: s}
		near(t, "M/M/1 mean wait", p.Wait(), rho*mean/(1-rho), 0.003)
		near(t, "M/M/1 P(W > S)", p.WaitTail(mean), rho*math.Exp(-(1-rho)), 0.003)
		for _, q := range []float64{0.5, 0.9, 0.95, 0.99} {
			near(t, "M/M/1 response", p.Response(q), -math.Log(1-q)*mean/(1-rho), 0.005)
		}
	}
}

// In M/M/c, P(R > t) is known in closed form.
func TestMMc(t *testing.T) {
	s := service(exponential)
	for _, c := range []int{2, 5, 16, 64, 500} {
		for _, rho := range []float64{0.3, 0.7, 0.9, 0.97} {
			p := Pool{Workers: c, Rate: rho * float64(c) / mean, Service: s}
			delay, spare := ErlangC(c, p.Load()), float64(c)*(1-rho)
			near(t, "M/M/c mean wait", p.Wait(), delay*mean/spare, 0.003)
			if math.Abs(spare-1) < 1e-9 {
				continue // the closed form has a pole there
			}
			for _, q := range []float64{0.5, 0.95, 0.99} {
				x := p.Response(q) / mean
				late := math.Exp(-x) + delay*(math.Exp(-spare*x)-math.Exp(-x))/(1-spare)
				near(t, "M/M/c share later than its response quantile", late, 1-q, 0.03)
			}
		}
	}
}

// In M/D/1 the mean wait is rho S / 2(1-rho), and in M/D/c about half of M/M/c's.
func TestMD1(t *testing.T) {
	s := service(constant)
	if s.SCV() != 0 {
		t.Errorf("constant times vary: %g", s.SCV())
	}
	for _, rho := range []float64{0.1, 0.5, 0.9, 0.99} {
		p := Pool{Workers: 1, Rate: rho / mean, Service: s}
		near(t, "M/D/1 mean wait", p.Wait(), rho*mean/2/(1-rho), 1e-9)
	}
	// Exact: the 95 % quantile of the wait in M/D/1 by Crommelin's series; the exponential tail is close to it.
	for _, rho := range []float64{0.7, 0.9} {
		p := Pool{Workers: 1, Rate: rho / mean, Service: s}
		near(t, "M/D/1 p95", p.Response(0.95), mean+crommelin(rho, 0.95), 0.06)
	}
}

// crommelin is the q quantile of the wait in M/D/1 (Erlang 1909, Crommelin 1932), by bisection on its exact distribution
// P(W <= t) = (1-rho) sum over k of (-a)^k exp(a)/k!, a = rate(t-kS), k up to t/S.
func crommelin(rho, q float64) float64 {
	lo, hi := 0.0, 50*mean
	for range 60 {
		t := (lo + hi) / 2
		sum := 0.0
		for k := 0; float64(k) <= t/mean; k++ {
			a := rho * (t/mean - float64(k))
			g, _ := math.Lgamma(float64(k) + 1)
			term := math.Exp(float64(k)*math.Log(max(a, 1e-300)) + a - g)
			if k%2 == 1 {
				term = -term
			}
			sum += term
		}
		if (1-rho)*sum < q {
			lo = t
		} else {
			hi = t
		}
	}
	return lo
}

// Measured times give what the distribution they were drawn from gives: moments, quantiles, predictions.
func TestMeasure(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, cv := range []float64{0.1, 0.5, 1, 2, 3} {
		quantile := lognormal(cv)
		var h signal.Histogram
		sum, squares := 0.0, 0.0
		const n = 200_000
		for range n {
			v := quantile(rng.Float64())
			h.Record(v)
			sum += v
			squares += v * v
		}
		var s Service
		s.Measure(&h)
		if s.Samples() != n {
			t.Errorf("%d samples, want %d", s.Samples(), n)
		}
		near(t, "mean", s.Mean(), sum/n, 0.01)
		near(t, "scv", s.SCV(), squares/n/(sum/n)/(sum/n)-1, 0.12)
		near(t, "p95", s.Quantile(0.95), quantile(0.95), 0.04)
		near(t, "p50", s.Quantile(0.5), quantile(0.5), 0.04)
	}
}

func TestServiceIsTotal(t *testing.T) {
	for _, v := range []float64{0, -1, math.NaN(), math.Inf(1), 1e300} {
		var s Service
		s.Assume(func(float64) float64 { return v }, v)
		if s.Known() || !math.IsNaN(s.Quantile(0.5)) {
			t.Errorf("service times of %g are known", v)
		}
	}
	var h signal.Histogram
	var s Service
	if s.Measure(&h); s.Known() {
		t.Error("an empty histogram is a service time")
	}
	h.Record(0.2)
	if s.Measure(&h); !s.Known() || s.SCV() > 1e-12 {
		t.Errorf("one measured time: known %v, scv %g", s.Known(), s.SCV())
	}
	for _, p := range []Pool{
		{}, {Workers: 1}, {Workers: 0, Rate: 1, Service: &s}, {Workers: 1, Rate: math.NaN(), Service: &s}, {Workers: 1, Rate: -1, Service: &s},
		{Workers: 1, Rate: math.Inf(1), Service: &s}, {Workers: 1, Rate: 5, Service: &s}, {Workers: 1, Rate: 1, Service: new(Service)},
		{Workers: 1, Rate: 1, Service: &s, Arrivals: math.NaN()},
	} {
		if p.Stable() || !math.IsNaN(p.Response(0.95)) || !math.IsNaN(p.Wait()) || !math.IsNaN(p.WaitTail(1)) || !math.IsNaN(p.Delay()) {
			t.Errorf("%+v is predicted", p)
		}
	}
}

// Whatever the pool, the response quantile is the time that the share q does not overrun, and more load or variability
// never shortens it.
func TestResponse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Pool{
			Workers: rapid.IntRange(1, 300).Draw(t, "workers"), Service: rapid.SampledFrom(services).Draw(t, "service"),
			Arrivals: rapid.Float64Range(0.1, 20).Draw(t, "arrivals"),
		}
		rho := rapid.Float64Range(0, 0.9999).Draw(t, "rho")
		p.Rate = rho * float64(p.Workers) / mean
		q := rapid.Float64Range(0.01, 0.999).Draw(t, "q")
		r := p.Response(q)
		if !(r > 0) || !finite(r) {
			t.Fatalf("response %g", r)
		}
		if late := p.response().overrun(r * 1.0001); late > (1-q)*(1+1e-9) {
			t.Fatalf("%g overrun the %g quantile", late, q)
		}
		more := p
		more.Rate *= rapid.Float64Range(1, 1/max(rho, 0.1)).Draw(t, "factor") * 0.99999
		if more.Rate >= p.Rate && more.Stable() && more.Response(q) < r*(1-1e-9) {
			t.Fatalf("at %g/s %g, at %g/s %g", p.Rate, r, more.Rate, more.Response(q))
		}
		more = p
		more.Arrivals *= 2
		if more.Response(q) < r*(1-1e-9) {
			t.Fatal("burstier arrivals are answered sooner")
		}
		more = p
		more.Workers++
		if more.Response(q) > r*(1+1e-9) {
			t.Fatal("more workers answer later")
		}
	})
}

// The formulas against a request-level simulation, over sizes, utilisations and variabilities. Of 1.5 million requests a case,
// the median error was 0.9 %, p90 8 %, and 133 of 144 within 10 %; the exceptions are cv 3 in small pools, mostly predicted
// too slow. The bounds leave room for the shorter simulation's own error.
func TestAgainstSimulation(t *testing.T) {
	rng := rand.New(rand.NewPCG(2026, 11))
	var off []float64
	for _, cv := range []float64{0.5, 1, 2, 3} {
		times := draw(rng, cv, 1<<17)
		var h signal.Histogram
		for _, v := range times {
			h.Record(v)
		}
		var s Service
		s.Measure(&h)
		for _, c := range []int{2, 4, 8, 16, 32, 64} {
			for _, rho := range []float64{0.5, 0.6, 0.7, 0.8, 0.9, 0.95} {
				p := Pool{Workers: c, Rate: rho * float64(c) / s.Mean(), Service: &s}
				// The fuller and the more variable, the longer the queue remembers.
				requests := min(50_000+int(1500*(1+cv*cv)/(1-rho)/(1-rho)), 500_000)
				off = append(off, math.Abs(p.Response(0.95)/simulate(rng, c, p.Rate, times, requests)-1))
			}
		}
	}
	slices.Sort(off)
	within := 0
	for within < len(off) && off[within] <= 0.1 {
		within++
	}
	median, p90 := off[len(off)/2], off[len(off)*9/10]
	t.Logf("%d cases: median error %.1f %%, p90 %.1f %%, worst %.0f %%, %d within 10 %%", len(off), 100*median, 100*p90, 100*off[len(off)-1], within)
	if median > 0.025 || within < len(off)*85/100 {
		t.Errorf("median error %.1f %%, %d of %d within 10 %%", 100*median, within, len(off))
	}
}

// draw returns service times: Erlang below cv 1, hyperexponential with balanced means from there.
func draw(rng *rand.Rand, cv float64, n int) []float64 {
	times := make([]float64, n)
	stages := math.Round(1 / cv / cv)
	p := (1 + math.Sqrt(max(cv*cv-1, 0)/(cv*cv+1))) / 2
	for i := range times {
		switch {
		case cv < 1:
			for range int(stages) {
				times[i] += rng.ExpFloat64() * mean / stages
			}
		case rng.Float64() < p:
			times[i] = rng.ExpFloat64() * mean / 2 / p
		default:
			times[i] = rng.ExpFloat64() * mean / 2 / (1 - p)
		}
	}
	return times
}

// simulate is the p95 of the response time of a first-come-first-served pool, exactly, by Kiefer and Wolfowitz: the times at
// which the workers become free, in order; an arrival takes the first.
func simulate(rng *rand.Rand, workers int, rate float64, times []float64, requests int) float64 {
	free := make([]float64, workers)
	var h signal.Histogram
	now := 0.0
	for i := range requests {
		now += rng.ExpFloat64() / rate
		end := max(now, free[0]) + times[rng.IntN(len(times))]
		at, _ := slices.BinarySearch(free[1:], end)
		copy(free, free[1:at+1])
		free[at] = end
		if i >= requests/10 {
			h.Record(end - now)
		}
	}
	return h.Quantile(0.95)
}

func BenchmarkMeasure(b *testing.B) {
	var h signal.Histogram
	for i := range 10_000 {
		h.Record(lognormal(1)((float64(i) + 0.5) / 10_000))
	}
	var s Service
	b.ReportAllocs()
	for b.Loop() {
		s.Measure(&h)
	}
}

func BenchmarkResponse(b *testing.B) {
	p := Pool{Workers: 10, Rate: 80, Service: service(lognormal(1))}
	b.ReportAllocs()
	for b.Loop() {
		p.Response(0.95)
	}
}
