package queueing

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"tidemark/internal/fleet"
)

func objective() Objective {
	return Objective{
		Quantile: 0.95, Within: 0.5, Drain: 60, Boot: 60, Bounds: fleet.Bounds{Min: 1, Max: 200}, MinSamples: 1000, Disagreement: 3,
	}
}

func load(workers int, rate float64) Load {
	return Load{Serving: workers, Rate: rate, Service: service(exponential), Wait: math.NaN()}
}

// The highest utilisation at which a fleet of exponential service times of 100 ms keeps p95 within 500 ms, as simulated: a rate
// just below needs no more than that fleet, one well above needs one more.
func TestNeedAtTheKnee(t *testing.T) {
	o := objective()
	for _, tt := range []struct {
		workers     int
		utilization float64
	}{{2, 0.67}, {3, 0.77}, {4, 0.82}, {6, 0.88}, {10, 0.92}, {64, 0.99}} {
		at := func(utilization float64) Answer {
			l := load(tt.workers, utilization*float64(tt.workers)/mean)
			return o.Need(&l)
		}
		if a := at(tt.utilization - 0.02); !(a.Known() && a.Doubt == 0) || a.Size > tt.workers || a.Now.Response > 0.5 {
			t.Errorf("%d workers at %g: %+v", tt.workers, tt.utilization-0.02, a)
		}
		if a := at(tt.utilization + 0.025); !(a.Known() && a.Doubt == 0) || a.Size <= tt.workers || a.Now.Response <= 0.5 {
			t.Errorf("%d workers at %g: %+v", tt.workers, tt.utilization+0.025, a)
		}
	}
}

func TestNeedSaysWhatFleetsWouldDo(t *testing.T) {
	o := objective()
	l := load(10, 55)
	a := o.Need(&l)
	if a.Size != 7 || a.Now.Workers != 10 || a.Chosen.Workers != 7 {
		t.Fatalf("%+v", a)
	}
	fewer := load(6, 55)
	b := o.Need(&fewer)
	if !(a.Now.Response < a.Chosen.Response && a.Chosen.Response <= 0.5 && b.Now.Response > 0.5) {
		t.Errorf("%+v; of one fewer %+v", a, b)
	}
	near(t, "utilisation", a.Chosen.Utilization, 5.5/7, 1e-9)
}

// All workers busy and a few requests waiting are no reason to scale out as long as those are answered in time; a real
// backlog is, by as many workers as drain it.
func TestNeedReactsToRealWaiting(t *testing.T) {
	o := objective()
	l := load(6, 40)
	calm := o.Need(&l).Size
	l.Backlog = 8 // 8 x 0.1 s / 6 workers = 0.13 s
	if a := o.Need(&l); a.Size != calm {
		t.Errorf("a momentary queue of %g raises the need from %d to %d", l.Backlog, calm, a.Size)
	}
	l.Backlog = 4000
	a := o.Need(&l)
	// 6 workers have 20/s to spare: in the 60 s of boot 1200 of the 4000 go; the rest in 60 s needs 40 + 2800/60 per s.
	if want := 9; a.Size != want {
		t.Errorf("a backlog of %g needs %d, want %d", l.Backlog, a.Size, want)
	}
	near(t, "drain", a.Chosen.Drain, 2800/(90.0-40), 1e-9)
	near(t, "drain with those there are", a.Now.Drain, 4000/20.0, 1e-9)
	if a.Now.Response < 60 {
		t.Errorf("who joins 4000 others is answered in %g s", a.Now.Response)
	}
}

// While new workers boot, what arrives above the capacity of the old ones waits for them.
func TestNeedCountsWhatArrivesDuringBoot(t *testing.T) {
	o := objective()
	l := load(4, 100)
	a := o.Need(&l)
	// 60/s too many for 60 s are 3600; gone in 60 s by 160/s.
	if a.Size != 16 || a.Now.Utilization != 2.5 || !math.IsInf(a.Now.Drain, 1) {
		t.Errorf("%+v", a)
	}
	near(t, "response at the end of boot", a.Now.Response, service(exponential).Quantile(0.95)+3600*0.1/4, 1e-6)
	starting := l
	starting.Starting = 12
	near(t, "drain by workers that still boot", o.Need(&starting).Now.Drain, 60, 1e-9)
	o.Boot = 0
	if quick := o.Need(&l); quick.Size >= a.Size {
		t.Errorf("workers that boot at once: %d, those that take a minute: %d", quick.Size, a.Size)
	}
	o.Boot = 60
	l.Serving, l.Starting = 11, 5
	if a := o.Need(&l); a.Size > 16 || a.Now.Workers != 16 {
		t.Errorf("%+v", a)
	}
}

func TestNeedLimits(t *testing.T) {
	o := objective()
	o.Bounds = fleet.Bounds{Min: 2, Max: 10}
	l := load(4, 300)
	if a := o.Need(&l); a.Size != 10 || a.Limit != AtMax || !a.Known() {
		t.Errorf("a load of 30 in 2..10: %+v", a)
	}
	o.Law = Law{Contention: 0.1, Coherence: 0.02} // peak at 6 or 7
	if a := o.Need(&l); a.Size != o.Law.Peak() || a.Limit != AtPeak {
		t.Errorf("past the database's peak: %+v", a)
	}
	o.Law = Law{Contention: 0, Coherence: 1} // peak at 1: the bounds win
	if a := o.Need(&l); a.Size != 2 || a.Limit != AtPeak {
		t.Errorf("a peak below the minimum: %+v", a)
	}
	o.Law = Law{}
	l = load(4, 0)
	if a := o.Need(&l); !(a.Known() && a.Doubt == 0) || a.Size != 2 || a.Limit != 0 {
		t.Errorf("nobody comes: %+v", a)
	}
	l = load(0, 10)
	if a := o.Need(&l); !a.Known() || a.Size < 2 || !math.IsInf(a.Now.Response, 1) {
		t.Errorf("nobody serves: %+v", a)
	}
}

// When the service alone takes longer than the objective, no number of workers helps, and none is added in vain.
func TestNeedUnattainable(t *testing.T) {
	o := objective()
	o.Within = 0.05
	l := load(10, 40)
	a := o.Need(&l)
	if !a.Unattainable || a.Size > 12 || !a.Known() || a.Limit != 0 {
		t.Errorf("%+v", a)
	}
	o.Within = l.Service.Quantile(o.Quantile) * 1.05
	a = o.Need(&l)
	fewer := load(a.Size-1, 40)
	if b := o.Need(&fewer); a.Unattainable || a.Chosen.Response > o.Within || b.Now.Response <= o.Within {
		t.Errorf("little room, but some: %+v; of one fewer %+v", a, b)
	}
}

func TestNeedDoubts(t *testing.T) {
	good := func() (Objective, Load) {
		l := load(6, 40)
		l.RateHigh, l.RateSeen, l.Wait = 45, 50, 0.01
		return objective(), l
	}
	for _, tt := range []struct {
		name  string
		spoil func(*Objective, *Load)
		want  Doubt
	}{
		{"nothing", func(*Objective, *Load) {}, 0},
		{"samples", func(_ *Objective, l *Load) { l.Service = service(exponential); l.Service.samples = 999 }, FewSamples},
		{"record", func(_ *Objective, l *Load) { l.RateHigh = 51 }, RateUnseen},
		{"much wait", func(_ *Objective, l *Load) { l.Wait = 0.2 }, WaitDisagrees},
		{"wait that a wide factor allows", func(o *Objective, l *Load) { l.Wait = 0.2; o.Disagreement = 1000 }, 0},
		{"little wait where much is predicted", func(_ *Objective, l *Load) { l.Rate = 59; l.RateHigh = 59; l.RateSeen = 60 }, WaitDisagrees},
		{"much wait where much is predicted", func(_ *Objective, l *Load) { l.Rate, l.RateHigh, l.RateSeen, l.Wait = 70, 70, 80, 3 }, 0},
		{"wait that is not measured", func(_ *Objective, l *Load) { l.Rate = 59; l.RateHigh = 59; l.RateSeen = 60; l.Wait = math.NaN() }, 0},
		{"two", func(_ *Objective, l *Load) { l.RateHigh = 51; l.Wait = 0.3 }, RateUnseen | WaitDisagrees},
	} {
		o, l := good()
		tt.spoil(&o, &l)
		a := o.Need(&l)
		if !a.Known() || a.Doubt != tt.want {
			t.Errorf("%s: doubt %q, want %q", tt.name, a.Doubt, tt.want)
		}
	}
	if s := (FewSamples | WaitDisagrees).String(); !strings.Contains(s, "samples, the measured wait") {
		t.Error(s)
	}
}

// What is missing or cannot be true is never a size.
func TestNeedIsTotal(t *testing.T) {
	bad := []float64{math.NaN(), math.Inf(1), math.Inf(-1), -1, 1e300}
	check := func(what string, want Cause, spoil func(*Objective, *Load)) {
		t.Helper()
		o, l := objective(), load(6, 40)
		spoil(&o, &l)
		if a := o.Need(&l); a.Unknown != want || a.Size != 0 || a.Known() {
			t.Errorf("%s: %+v, want %q", what, a, want)
		}
	}
	for _, v := range bad {
		check("rate", NoRate, func(_ *Objective, l *Load) { l.Rate = v })
		check("quantile", NoObjective, func(o *Objective, _ *Load) { o.Quantile = v })
		check("service", NoService, func(_ *Objective, l *Load) {
			l.Service = new(Service)
			l.Service.Assume(func(float64) float64 { return v }, v)
		})
		if v != 1e300 {
			check("objective", NoObjective, func(o *Objective, _ *Load) { o.Within = v })
			check("drain", NoObjective, func(o *Objective, _ *Load) { o.Drain = v })
			check("arrivals", NoRate, func(_ *Objective, l *Load) { l.Arrivals = v })
			check("law", NoObjective, func(o *Objective, _ *Load) { o.Law.Coherence = v })
		}
	}
	for _, v := range []float64{math.NaN(), math.Inf(1), 1e300} {
		check("upper rate", NoRate, func(_ *Objective, l *Load) { l.RateHigh = v })
		check("boot", map[bool]Cause{true: NoRate, false: NoObjective}[v == 1e300], func(o *Objective, l *Load) { o.Boot = v; l.Rate = 100 })
	}
	check("backlog", NoRate, func(_ *Objective, l *Load) { l.Backlog = math.Inf(1) })
	check("backlog", NoRate, func(_ *Objective, l *Load) { l.Backlog = 1e300 })
	for _, q := range []float64{0, 1} {
		check("quantile", NoObjective, func(o *Objective, _ *Load) { o.Quantile = q })
	}
	check("objective 0", NoObjective, func(o *Objective, _ *Load) { o.Within = 0 })
	check("no service", NoService, func(_ *Objective, l *Load) { l.Service = nil })
	check("unmeasured service", NoService, func(_ *Objective, l *Load) { l.Service = new(Service) })
	check("bounds", NoObjective, func(o *Objective, _ *Load) { o.Bounds = fleet.Bounds{} })
	check("bounds turned round", NoObjective, func(o *Objective, _ *Load) { o.Bounds = fleet.Bounds{Min: 3, Max: 2} })
	check("size", NoSize, func(_ *Objective, l *Load) { l.Serving = -1 })
	check("size", NoSize, func(_ *Objective, l *Load) { l.Starting = math.MaxInt })
}

func anyDemand(t *rapid.T) (Objective, Load) {
	o := Objective{
		Quantile: rapid.SampledFrom([]float64{0.5, 0.9, 0.95, 0.99}).Draw(t, "quantile"),
		Within:   rapid.Float64Range(0.01, 5).Draw(t, "within"),
		Drain:    rapid.Float64Range(1, 600).Draw(t, "drain"),
		Boot:     rapid.Float64Range(0, 300).Draw(t, "boot"),
	}
	o.Bounds.Min = rapid.IntRange(1, 20).Draw(t, "min")
	o.Bounds.Max = rapid.IntRange(o.Bounds.Min, 250).Draw(t, "max")
	if rapid.Bool().Draw(t, "shared") {
		o.Law = Law{rapid.Float64Range(0, 1).Draw(t, "a"), rapid.Float64Range(0, 0.1).Draw(t, "b")}
	}
	l := Load{
		Serving: rapid.IntRange(0, 220).Draw(t, "serving"), Starting: rapid.IntRange(0, 20).Draw(t, "starting"),
		Rate:     rapid.Float64Range(0, 3000).Draw(t, "rate"),
		Arrivals: rapid.Float64Range(0, 10).Draw(t, "arrivals"),
		Backlog:  rapid.OneOf(rapid.Just(0.0), rapid.Float64Range(0, 50), rapid.Float64Range(0, 100_000)).Draw(t, "backlog"),
		Service:  rapid.SampledFrom(services).Draw(t, "service"),
		Wait:     math.NaN(),
	}
	l.RateHigh = l.Rate * rapid.Float64Range(0.5, 2).Draw(t, "band")
	return o, l
}

var services = []*Service{service(constant), service(lognormal(0.5)), service(exponential), service(lognormal(3))}

// The answer is the smallest size within the bounds that meets the objective: by trying all.
func TestNeedIsTheSmallest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o, l := anyDemand(t)
		a := o.Need(&l)
		if !a.Known() {
			t.Fatalf("unknown: %v", a.Unknown)
		}
		s := sizing{o: &o, l: &l}
		s.prepare()
		want, top := o.Bounds.Min, o.Bounds.Max
		if peak := o.Law.Peak(); peak > 0 {
			top = max(min(top, peak), o.Bounds.Min)
		}
		for want < top && !s.meets(want) {
			want++
		}
		if a.Size != want || (a.Limit != 0) == s.meets(want) {
			t.Fatalf("need %d (limit %q), the smallest that meets is %d", a.Size, a.Limit, want)
		}
		if lack := s.lacks(a.Size - 1); a.Size > o.Bounds.Min && a.Fewer != lack || a.Size == o.Bounds.Min && a.Fewer != 0 {
			t.Fatalf("%d workers, as of one fewer %q, which %q", a.Size, a.Fewer, lack)
		}
		if a.Chosen.Workers != a.Size || a.Now.Workers != l.Serving+l.Starting {
			t.Fatalf("predictions for others: %+v", a)
		}
		for _, p := range []Prediction{a.Now, a.Chosen} {
			if math.IsNaN(p.Response) || p.Response <= 0 || p.Drain < 0 || math.IsNaN(p.Drain) || (p.Workers > 0 && !finite(p.Response)) {
				t.Fatalf("prediction %+v", p)
			}
		}
	})
}

// More arrivals, a longer queue or a stricter objective never need fewer workers.
func TestNeedIsMonotone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o, l := anyDemand(t)
		before := o.Need(&l).Size
		stricter, heavier := o, l
		switch rapid.IntRange(0, 3).Draw(t, "what") {
		case 0:
			f := rapid.Float64Range(1, 3).Draw(t, "rate factor")
			heavier.Rate *= f
			heavier.RateHigh *= f
		case 1:
			heavier.Backlog += rapid.Float64Range(0, 10_000).Draw(t, "more backlog")
		case 2:
			stricter.Within *= rapid.Float64Range(0.01, 1).Draw(t, "objective factor")
		case 3:
			stricter.Drain *= rapid.Float64Range(0.01, 1).Draw(t, "drain factor")
		}
		if after := stricter.Need(&heavier).Size; after < before {
			t.Fatalf("the need falls from %d to %d", before, after)
		}
	})
}

// By how much load chance makes the share Miss of the windows miss the objective, against an exact queue: within a factor of 3, the more so the rarer.
func TestNeedAgainstChance(t *testing.T) {
	if testing.Short() {
		t.Skip("plays days of requests")
	}
	for _, tt := range []struct {
		workers int
		cv      float64
	}{{2, 1}, {4, 1}, {4, 2}} {
		for _, miss := range []float64{0.1, 0.01} {
			o := objective()
			o.Window, o.Miss = 300, miss
			l := load(tt.workers, 0)
			l.Service = service(lognormal(tt.cv))
			low, high := 0.0, float64(tt.workers)/mean
			for range 30 {
				l.Rate = (low + high) / 2
				if o.Need(&l).Size > tt.workers {
					high = l.Rate
				} else {
					low = l.Rate
				}
			}
			got := missed(tt.workers, low, tt.cv, o.Within, 600)
			t.Logf("%d workers, cv %g, sized for %g: %.2f busy, %.4f of the windows miss", tt.workers, tt.cv, miss, low*mean, got)
			if got > 3*miss || got < miss/20 {
				t.Errorf("%d workers, cv %g: %g of the windows were to miss, %.4f do", tt.workers, tt.cv, miss, got)
			}
		}
	}
}

// missed plays windows of 5 minutes and returns the share in which more than 5 % take longer than within.
func missed(workers int, rate, cv, within float64, windows int) float64 {
	rng := rand.New(rand.NewPCG(1, uint64(workers)))
	sigma := math.Sqrt(math.Log1p(cv * cv))
	free := make([]float64, workers)
	all, late := make([]float64, windows+1), make([]float64, windows+1)
	for t := 0.0; t < float64(windows)*300; t += rng.ExpFloat64() / rate {
		end := max(t, free[0]) + mean*math.Exp(sigma*rng.NormFloat64()-sigma*sigma/2)
		i := 1
		for ; i < workers && free[i] < end; i++ {
			free[i-1] = free[i]
		}
		free[i-1] = end
		all[int(t/300)]++
		if end-t > within {
			late[int(t/300)]++
		}
	}
	bad := 0.0
	for i := range windows {
		if late[i] > 0.05*all[i] {
			bad++
		}
	}
	return bad / float64(windows)
}

// Nothing that anyone can pass in makes it panic, or answer outside the bounds.
func FuzzNeed(f *testing.F) {
	f.Add(0.95, 0.4, 60.0, 60.0, 2, 10, 4, 30.0, 35.0, 1.0, 0.0, 0.02, 0.0, 0.0)
	f.Add(0.5, 1e-300, 1e300, 0.0, 1, 1000, 0, 1e5, math.Inf(1), 0.0, 1e9, math.NaN(), 0.1, 1e-9)
	f.Fuzz(func(t *testing.T, q, within, drain, boot float64, low, high, serving int, rate, upper, arrivals, backlog, wait, a, b float64) {
		o := Objective{Quantile: q, Within: within, Drain: drain, Boot: boot, Bounds: fleet.Bounds{Min: low, Max: high % 5000}, Law: Law{a, b}}
		l := Load{
			Serving: serving % 5000, Rate: rate, RateHigh: upper, Arrivals: arrivals, Backlog: backlog, Wait: wait, Service: services[2],
		}
		switch got := o.Need(&l); {
		case got.Known() && (got.Size < o.Bounds.Min || got.Size > o.Bounds.Max):
			t.Errorf("%d is outside %v", got.Size, o.Bounds)
		case got.Known() && (math.IsNaN(got.Now.Response) || math.IsNaN(got.Chosen.Response)):
			t.Errorf("a prediction that is no number: %+v", got)
		case !got.Known() && (got.Size != 0 || got.Unknown.String() == ""):
			t.Errorf("unknown with a size: %+v", got)
		}
	})
}

func TestNeedDoesNotAllocate(t *testing.T) {
	o, l := objective(), load(20, 150)
	if n := testing.AllocsPerRun(100, func() { o.Need(&l) }); n != 0 {
		t.Errorf("%g allocations", n)
	}
}

func benchmarkNeed(b *testing.B, workers int, rate float64) {
	o, l := objective(), load(workers, rate)
	l.Wait, l.Backlog = 0.01, 3
	b.ReportAllocs()
	for b.Loop() {
		o.Need(&l)
	}
}

func BenchmarkNeedSteady10(b *testing.B)  { benchmarkNeed(b, 10, 82) }
func BenchmarkNeedSteady200(b *testing.B) { benchmarkNeed(b, 190, 1800) }
func BenchmarkNeedJump200(b *testing.B)   { benchmarkNeed(b, 2, 1800) }
