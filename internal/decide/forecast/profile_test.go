package forecast

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"
	"time"
	_ "time/tzdata"

	"pgregory.net/rapid"
)

const quarter = 15 * time.Minute

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func profile(t testing.TB, c Config, zoneName string) *Profile {
	t.Helper()
	p, err := New(c, zone(t, zoneName))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// office is a rate with a working day from 8 to 17 by the clock on the wall, and a quiet weekend.
func office(local time.Time) float64 {
	hour := float64(local.Hour()) + float64(local.Minute())/60
	day := math.Max(0, math.Sin((hour-6)/14*math.Pi))
	if wd := local.Weekday(); wd == time.Saturday || wd == time.Sunday {
		day /= 4
	}
	return 2 + 60*day
}

// live feeds rates measured every 5 minutes, and calls seen before each.
func live(p *Profile, from time.Time, d time.Duration, rate func(time.Time) float64, seen func(from time.Time)) time.Time {
	const span = 5 * time.Minute
	for at := from; at.Before(from.Add(d)); at = at.Add(span) {
		if seen != nil {
			seen(at)
		}
		p.Observe(Sample{End: at.Add(span), Span: span, Rate: rate(at.Add(span / 2).In(p.zone))})
	}
	return from.Add(d)
}

const week = 7 * 24 * time.Hour

var monday = time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC)

func TestProfileIsUnknownAtFirst(t *testing.T) {
	p := profile(t, Config{}, "Pacific/Rarotonga")
	known := 0
	now := live(p, monday, week+3*time.Hour, office, func(at time.Time) {
		if p.At(at.Add(time.Minute)).Known {
			known++
		}
	})
	if known > 0 {
		t.Errorf("known %d times in the first week", known)
	}
	now = live(p, now, week, office, nil)
	if b := p.At(now.Add(5 * time.Minute)); !b.Known || b.Weeks != 2 {
		t.Errorf("after two weeks: %+v", b)
	}
}

// The middle follows what the time of the week is like, and noisy measurements lie within the band as often as it says.
func TestProfileForecasts(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	p := profile(t, Config{Horizon: 30 * time.Minute}, "Pacific/Apia")
	noisy := func(local time.Time) float64 {
		r := office(local)
		return math.Max(r+rng.NormFloat64()*math.Sqrt(r/15), 0)
	}
	now := live(p, monday, 4*week, noisy, nil)
	off, n := 0.0, 0
	live(p, now, 2*week, noisy, func(at time.Time) {
		ahead := at.Add(30 * time.Minute)
		want := office(ahead.In(p.zone))
		b := p.At(ahead)
		if !b.Known || b.Low > b.Median || b.Median > b.High {
			t.Fatalf("%v: %+v", at, b)
		}
		off += math.Abs(b.Median/want - 1)
		n++
	})
	held, scored := p.Held()
	t.Logf("off by %.1f %%, held %.0f %% of %d", 100*off/float64(n), 100*held, scored)
	if off/float64(n) > 0.05 || held < 0.82 || held > 0.97 || scored < 2500 {
		t.Errorf("off by %.1f %%, held %.0f %% of %d", 100*off/float64(n), 100*held, scored)
	}
}

// What Held counts is what one who asks beforehand finds: no forecast knows of the measurement that it is scored by.
func TestProfileScoresHonestly(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	p := profile(t, Config{Bucket: time.Hour, Horizon: time.Minute}, "UTC")
	in, n := 0, 0
	for i := range 30 * 7 * 24 {
		from := monday.Add(time.Duration(i) * time.Hour)
		rate := 20 * math.Exp(rng.NormFloat64()) // each hour anything: the level of the last says nothing of the next
		if b := p.At(from.Add(30 * time.Minute)); b.Known {
			n++
			if rate >= b.Low && rate <= b.High {
				in++
			}
		}
		p.Observe(Sample{End: from.Add(time.Hour), Span: time.Hour, Rate: rate})
	}
	held, scored := p.Held()
	if asked := float64(in) / float64(n); asked < 0.86 || asked > 0.94 || math.Abs(held-asked) > 0.1 || int(scored) < n-2 || int(scored) > n {
		t.Errorf("asked beforehand %.3f of %d held, scored %.3f of %d", asked, n, held, scored)
	}
}

// A holiday among four weeks is forgotten by the median, told of or not, and on the day itself the level follows it.
func TestProfileHolidays(t *testing.T) {
	for _, told := range []bool{false, true} {
		p := profile(t, Config{}, "Europe/Berlin")
		now := live(p, monday, 3*week, office, nil)
		holiday := func(local time.Time) float64 { return office(local) / 10 }
		for at := now; at.Before(now.Add(24 * time.Hour)); at = at.Add(5 * time.Minute) {
			p.Observe(Sample{End: at.Add(5 * time.Minute), Span: 5 * time.Minute, Rate: holiday(at.In(p.zone)), Odd: told})
			if at.Sub(now) == 12*time.Hour {
				if b := p.At(at.Add(10 * time.Minute)); b.Level > 0.4 {
					t.Errorf("told %v: at noon of the holiday the level is %.2f", told, b.Level)
				}
			}
		}
		live(p, now.Add(24*time.Hour), week-24*time.Hour, office, nil)
		noon := now.Add(week + 12*time.Hour)
		live(p, now.Add(week), 12*time.Hour, office, nil)
		want := office(noon.Add(quarter).In(p.zone))
		if b := p.At(noon.Add(quarter)); math.Abs(b.Median/want-1) > 0.03 || b.Low < want*0.6 || (b.Weeks == 3) != told {
			t.Errorf("told %v: a week after the holiday %+v, want %.1f", told, b, want)
		}
	}
}

// When this day is half as busy again as its like, the hours ahead are expected to be, too, and tomorrow less so.
func TestProfileLevel(t *testing.T) {
	p := profile(t, Config{}, "UTC")
	now := live(p, monday, 3*week, office, nil)
	now = live(p, now, 12*time.Hour, func(local time.Time) float64 { return 1.5 * office(local) }, nil)
	soon, tomorrow := now.Add(10*time.Minute), now.Add(24*time.Hour)
	if b := p.At(soon); math.Abs(b.Median/office(soon)-1.45) > 0.07 {
		t.Errorf("soon %+v, profile %.1f", b, office(soon))
	}
	if b := p.At(tomorrow); math.Abs(b.Median/office(tomorrow)-1) > 0.03 {
		t.Errorf("tomorrow %+v, profile %.1f", b, office(tomorrow))
	}
}

// What was not measured is not zero: weeks with gaps forecast what those without do, and buckets measured for less than
// half are not learned.
func TestProfileMissing(t *testing.T) {
	p := profile(t, Config{}, "UTC")
	now := live(p, monday, 3*week, office, nil)
	noon := now.Add(12 * time.Hour)
	before := p.At(noon).Median
	// A power cut of twelve weeks, and two more with the mornings missing, but for a minute in each bucket.
	now = now.Add(12 * week)
	for at := now; at.Before(now.Add(2 * week)); at = at.Add(quarter) {
		p.Observe(Sample{End: at.Add(time.Minute), Span: time.Minute, Rate: 0})
	}
	noon = now.Add(2*week + 12*time.Hour)
	p.measured, p.predicted = 0, 0
	if b := p.At(noon); !b.Known || math.Abs(b.Median/before-1) > 1e-4 || b.Weeks != 3 {
		t.Errorf("after the cut %+v, before %g", b, before)
	}
	if len(p.issued) > 2 {
		t.Errorf("%d forecasts wait for buckets that never came", len(p.issued))
	}
}

// Old weeks give way: after three weeks of twice the rate the profile is that, and it never holds more than eight.
func TestProfileAges(t *testing.T) {
	p := profile(t, Config{}, "UTC")
	now := live(p, monday, 10*week, office, nil)
	now = live(p, now, 3*week, func(local time.Time) float64 { return 2 * office(local) }, nil)
	p.measured, p.predicted = 0, 0
	noon := now.Add(12 * time.Hour)
	if b := p.At(noon); math.Abs(b.Median/office(noon)/2-1) > 0.01 || b.Weeks < 7 {
		t.Errorf("%+v, want %g", b, 2*office(noon))
	}
}

// The week is that of the clock on the wall: opening hours stay where they are when clocks change.
func TestProfileFollowsTheWallClock(t *testing.T) {
	p := profile(t, Config{}, "America/New_York")
	step := func(local time.Time) float64 {
		if local.Hour() >= 8 {
			return 50
		}
		return 5
	}
	from := time.Date(2027, 2, 20, 5, 0, 0, 0, time.UTC)
	now := live(p, from, 3*week+24*time.Hour, step, nil) // clocks go forward on 14 March
	at := time.Date(2027, 3, 16, 7, 20, 0, 0, p.zone)
	if now.After(at) {
		t.Fatal("the test learns what it asks")
	}
	p.measured, p.predicted = 0, 0
	if b := p.At(at); b.Median > 8 {
		t.Errorf("before opening: %+v", b)
	}
	if b := p.At(at.Add(time.Hour)); b.Median < 45 {
		t.Errorf("after opening: %+v", b)
	}
}

func TestProfileIgnoresNonsense(t *testing.T) {
	p := profile(t, Config{}, "UTC")
	now := live(p, monday, 3*week, office, nil)
	before, _ := p.MarshalBinary()
	for _, s := range []Sample{
		{End: now.Add(quarter), Span: quarter, Rate: math.NaN()},
		{End: now.Add(quarter), Span: quarter, Rate: math.Inf(1)},
		{End: now.Add(quarter), Span: quarter, Rate: -1},
		{End: now.Add(quarter), Span: 0, Rate: 1},
		{End: now.Add(quarter), Span: 48 * time.Hour, Rate: 1},
		{End: now, Span: quarter, Rate: 1},
		{End: now.Add(-time.Hour), Span: quarter, Rate: 1},
	} {
		p.Observe(s)
	}
	if after, _ := p.MarshalBinary(); !bytes.Equal(before, after) {
		t.Error("nonsense was learned")
	}
	// A clock that was years ahead costs no more than the weeks it spoilt.
	p.Observe(Sample{End: now.Add(500 * week), Span: quarter, Rate: 1})
	live(p, now, 2*week, office, nil)
	if b := p.At(now.Add(2*week + 12*time.Hour)); !b.Known || b.Weeks < 4 {
		t.Errorf("after the clock came back: %+v", b)
	}
}

func TestConfig(t *testing.T) {
	for _, c := range []Config{
		{Bucket: time.Minute}, {Bucket: 7 * time.Minute}, {Bucket: 12 * time.Hour}, {Bucket: 15*time.Minute + time.Second},
		{MinWeeks: -1}, {MinWeeks: 9}, {Horizon: -1}, {Horizon: 25 * time.Hour}, {Miss: -1}, {Miss: 0.5}, {Miss: math.NaN()},
	} {
		if _, err := New(c, time.UTC); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
	if _, err := New(Config{}, nil); err == nil {
		t.Error("no zone is taken")
	}
	for _, c := range []Config{{}, {Bucket: 5 * time.Minute}, {Bucket: 6 * time.Hour, MinWeeks: 8, Horizon: 24 * time.Hour, Miss: 0.25}} {
		if _, err := New(c, time.UTC); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// A profile that is written and read back at any moment learns and forecasts on as if it had not been.
func TestProfileBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := Config{
			Bucket:  rapid.SampledFrom([]time.Duration{time.Hour, 30 * time.Minute, 6 * time.Hour}).Draw(t, "bucket"),
			Horizon: rapid.SampledFrom([]time.Duration{time.Minute, 3 * time.Hour}).Draw(t, "horizon"),
		}
		z, err := time.LoadLocation(rapid.SampledFrom([]string{"UTC", "Australia/Lord_Howe", "Pacific/Apia"}).Draw(t, "zone"))
		if err != nil {
			t.Fatal(err)
		}
		fresh := func() *Profile {
			p, err := New(c, z)
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		p, q := fresh(), fresh()
		now := monday
		stop := rapid.IntRange(0, 3000).Draw(t, "stop")
		for i := range 3000 {
			span := time.Duration(1+rng.IntN(60)) * time.Minute
			now = now.Add(span)
			if rng.IntN(50) == 0 {
				now = now.Add(time.Duration(rng.IntN(100)) * time.Hour)
			}
			s := Sample{End: now, Span: span, Rate: rng.Float64() * 100, Odd: rng.IntN(20) == 0}
			p.Observe(s)
			q.Observe(s)
			if i == stop {
				b, err := q.MarshalBinary()
				if err != nil {
					t.Fatal(err)
				}
				q = fresh()
				if err := q.UnmarshalBinary(b); err != nil {
					t.Fatal(err)
				}
			}
		}
		a, _ := p.MarshalBinary()
		b, _ := q.MarshalBinary()
		if !bytes.Equal(a, b) || p.At(now.Add(time.Hour)) != q.At(now.Add(time.Hour)) {
			t.Fatal("it went another way after it was read back")
		}
	})
}

func TestProfileRefusesOtherBytes(t *testing.T) {
	p := profile(t, Config{}, "UTC")
	now := live(p, monday, 3*week, office, nil)
	good, _ := p.MarshalBinary()
	if len(good) > 6000 {
		t.Errorf("three weeks are %d bytes", len(good))
	}
	other := append([]byte{}, good...)
	other[0] = version + 1
	for _, b := range [][]byte{nil, good[:len(good)-1], append(append([]byte{}, good...), 0), other} {
		want := p.At(now.Add(quarter))
		if err := p.UnmarshalBinary(b); err == nil {
			t.Errorf("%d bytes are taken", len(b))
		}
		if p.At(now.Add(quarter)) != want {
			t.Error("what was refused changed the profile")
		}
	}
	if err := profile(t, Config{Bucket: time.Hour}, "UTC").UnmarshalBinary(good); err == nil {
		t.Error("buckets of another length are taken")
	}
}

func FuzzProfileBytes(f *testing.F) {
	p := profile(f, Config{Bucket: 6 * time.Hour}, "UTC")
	live(p, monday, 3*week, office, nil)
	b, _ := p.MarshalBinary()
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		p := profile(t, Config{Bucket: 6 * time.Hour}, "UTC")
		if p.UnmarshalBinary(b) != nil {
			return
		}
		back, _ := p.MarshalBinary()
		q := profile(t, Config{Bucket: 6 * time.Hour}, "UTC")
		if err := q.UnmarshalBinary(back); err != nil {
			t.Fatalf("what it wrote itself: %v", err)
		}
		p.Observe(Sample{End: monday, Span: time.Hour, Rate: 1})
		p.At(monday)
	})
}

func BenchmarkObserve(b *testing.B) {
	p := profile(b, Config{}, "Pacific/Apia")
	now := live(p, monday, 9*week, office, nil)
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(tick)
		p.Observe(Sample{End: now, Span: tick, Rate: 10})
	}
}

func BenchmarkAt(b *testing.B) {
	p := profile(b, Config{}, "Pacific/Apia")
	now := live(p, monday, 9*week, office, nil)
	b.ReportAllocs()
	for b.Loop() {
		p.At(now)
	}
}
