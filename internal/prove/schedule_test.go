package prove

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestTide(t *testing.T) {
	r := Tide(Point{0, 10}, Point{10 * time.Second, 10}, Point{20 * time.Second, 110})
	for at, want := range map[time.Duration]float64{0: 10, 5 * time.Second: 10, 15 * time.Second: 60, 20 * time.Second: 110, time.Hour: 110} {
		if got := r(at); math.Abs(got-want) > 1e-9 {
			t.Errorf("rate at %v is %g, want %g", at, got, want)
		}
	}
}

// arrivals plays a schedule in virtual time. Each begins when it is due.
func arrivals(t *testing.T, s Schedule) (all []time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		err := s.Play(t.Context(), start, func(at time.Duration, _ *rand.Rand) error {
			if late := time.Since(start) - at; late != 0 {
				t.Errorf("what is due at %v begins %v later", at, late)
			}
			all = append(all, at)
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	return all
}

func TestEvenArrivals(t *testing.T) {
	all := arrivals(t, Schedule{Rate: Tide(Point{0, 100}), Arrivals: Even, Duration: 10*time.Second + time.Millisecond})
	if len(all) != 1000 {
		t.Fatalf("%d arrivals; 1,000 were due", len(all))
	}
	for i, at := range all {
		if due := time.Duration(i+1) * 10 * time.Millisecond; (at - due).Abs() > time.Microsecond {
			t.Fatalf("arrival %d at %v, due at %v", i, at, due)
		}
	}
}

// From 0 to 200/s in ten seconds, then ten seconds of nothing: 1,000 arrivals, half of them in the last 2.93 s of the ramp.
func TestRampIsFollowed(t *testing.T) {
	all := arrivals(t, Schedule{Arrivals: Even, Duration: 20 * time.Second, Rate: func(at time.Duration) float64 {
		if at > 10*time.Second {
			return 0
		}
		return 20 * at.Seconds()
	}})
	if n := len(all); math.Abs(float64(n)-1000) > 10 {
		t.Fatalf("%d arrivals, 1,000 were due", n)
	}
	if middle := all[len(all)/2].Seconds(); math.Abs(middle-10/math.Sqrt2) > 0.1 {
		t.Errorf("the middle one comes at %.2f s, due at %.2f", middle, 10/math.Sqrt2)
	}
}

// Gaps of Poisson arrivals have a mean and a deviation of 1/rate, and the same seed gives the same ones.
func TestPoissonArrivals(t *testing.T) {
	s := Schedule{Rate: Tide(Point{0, 50}), Duration: 400 * time.Second, Seed: 7}
	all := arrivals(t, s)
	n := float64(len(all))
	if math.Abs(n-20_000) > 5*math.Sqrt(20_000) {
		t.Fatalf("%g arrivals, 20,000 were expected", n)
	}
	var squares float64
	for i := 1; i < len(all); i++ {
		gap := (all[i] - all[i-1]).Seconds() * 50
		squares += (gap - 1) * (gap - 1)
	}
	if deviation := math.Sqrt(squares / n); math.Abs(deviation-1) > 0.05 {
		t.Errorf("the gaps deviate by %.3f of their mean, not by 1", deviation)
	}
	if !slices.Equal(all, arrivals(t, s)) {
		t.Error("the same seed gives other arrivals")
	}
}

func TestScheduleStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		s := Schedule{Rate: Tide(Point{0, 1}), Arrivals: Even, Duration: time.Hour}
		n := 0
		err := s.Play(ctx, time.Now(), func(time.Duration, *rand.Rand) error { n++; return nil })
		if !errors.Is(err, context.DeadlineExceeded) || n < 59 || n > 60 {
			t.Errorf("%d arrivals in a minute, %v", n, err)
		}
		full := errors.New("full")
		if err := s.Play(t.Context(), time.Now(), func(time.Duration, *rand.Rand) error { return full }); !errors.Is(err, full) {
			t.Error(err)
		}
	})
}
