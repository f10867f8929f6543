package prove

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// service answers in the bubble's time, after what delay says for a request that comes at a time since the start.
func service(delay func(at time.Duration) time.Duration) http.RoundTripper {
	start := time.Now()
	return roundTrip(func(req *http.Request) (*http.Response, error) {
		time.Sleep(delay(time.Since(start)))
		return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: req}, nil
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func fixed(d time.Duration) func(time.Duration) time.Duration {
	return func(time.Duration) time.Duration { return d }
}

// play runs a load against a service in virtual time and returns each outcome in order of its start.
func play(t *testing.T, l Load, delay func(time.Duration) time.Duration) (*Summary, []Outcome) {
	t.Helper()
	var outcomes []Outcome
	var mu sync.Mutex
	l.Each = func(o Outcome) {
		mu.Lock()
		defer mu.Unlock()
		outcomes = append(outcomes, o)
	}
	l.Transport = service(delay)
	if l.Request == nil {
		l.Request = get("http://service/")
	}
	sum, err := Run(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(outcomes, func(a, b Outcome) int { return int(a.Start - b.Start) })
	return sum, outcomes
}

func TestEvenArrivals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sum, outcomes := play(t, Load{Rate: Tide(Point{0, 100}), Arrivals: Even, Duration: 10*time.Second + time.Millisecond}, fixed(20*time.Millisecond))
		if len(outcomes) != 1000 || sum.Requests != 1000 || sum.Late != 0 || len(sum.Limits()) != 0 {
			t.Fatalf("%d requests, %d late, %v; 1,000 were due", len(outcomes), sum.Late, sum.Limits())
		}
		for i, o := range outcomes {
			due := time.Duration(i+1) * 10 * time.Millisecond
			if (o.Start-due).Abs() > time.Microsecond || o.Latency != 20*time.Millisecond || o.Lag != 0 {
				t.Fatalf("request %d: %+v, due at %v", i, o, due)
			}
		}
	})
}

// From 0 to 200/s in ten seconds, then ten seconds of nothing: 1,000 requests, half of them in the last 2.93 s of the ramp.
func TestRampIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ramp := func(at time.Duration) float64 {
			if at > 10*time.Second {
				return 0
			}
			return 20 * at.Seconds()
		}
		_, outcomes := play(t, Load{Rate: ramp, Arrivals: Even, Duration: 20 * time.Second}, fixed(0))
		if n := len(outcomes); math.Abs(float64(n)-1000) > 10 {
			t.Fatalf("%d requests, 1,000 were due", n)
		}
		if middle := outcomes[len(outcomes)/2].Start.Seconds(); math.Abs(middle-10/math.Sqrt2) > 0.1 {
			t.Errorf("the middle request starts at %.2f s, due at %.2f", middle, 10/math.Sqrt2)
		}
	})
}

// Gaps of Poisson arrivals have a mean and a deviation of 1/rate, and the same seed gives the same ones.
func TestPoissonArrivals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := Load{Rate: Tide(Point{0, 50}), Duration: 400 * time.Second, Seed: 7}
		_, outcomes := play(t, l, fixed(0))
		n := float64(len(outcomes))
		if math.Abs(n-20_000) > 5*math.Sqrt(20_000) {
			t.Fatalf("%g requests, 20,000 were expected", n)
		}
		var squares float64
		for i := 1; i < len(outcomes); i++ {
			gap := (outcomes[i].Start - outcomes[i-1].Start).Seconds() * 50
			squares += (gap - 1) * (gap - 1)
		}
		if deviation := math.Sqrt(squares / n); math.Abs(deviation-1) > 0.05 {
			t.Errorf("the gaps deviate by %.3f of their mean, not by 1", deviation)
		}
		_, again := play(t, l, fixed(0))
		if !slices.Equal(outcomes, again) {
			t.Error("the same seed gives other arrivals")
		}
	})
}

// A service that stands still for a second shows it as its users feel it: of ten seconds' requests a tenth waits, the first a
// second, the last not at all.
func TestStallInThePercentiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stall := func(at time.Duration) time.Duration {
			if at >= 5*time.Second && at < 6*time.Second {
				return 6*time.Second - at
			}
			return time.Millisecond
		}
		sum, _ := play(t, Load{Rate: Tide(Point{0, 100}), Arrivals: Even, Duration: 10 * time.Second}, stall)
		for q, want := range map[float64]float64{0.5: 0.001, 0.95: 0.5, 0.99: 0.9} {
			if got := sum.Latency.Quantile(q); math.Abs(got-want) > 0.03*want+0.001 {
				t.Errorf("p%g is %.3f s, in truth %.3f", 100*q, got, want)
			}
		}
	})
}

func TestUsersAskWaitAndThink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		think := func(*rand.Rand) time.Duration { return 9 * time.Second }
		sum, outcomes := play(t, Load{Users: 20, Think: think, Duration: 10 * time.Minute}, fixed(time.Second))
		if sum.Requests != 20*60 || outcomes[0].Start != 9*time.Second || sum.Dropped != 0 {
			t.Errorf("%d requests, the first at %v; a user asks every ten seconds", sum.Requests, outcomes[0].Start)
		}
		for _, o := range outcomes {
			if o.Latency != time.Second || o.Lag != 0 {
				t.Fatalf("%+v", o)
			}
		}
	})
}

// A generator that is itself slow counts its delay into the latency, and says that it was the limit.
func TestOwnDelayIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := func(ctx context.Context, _ *rand.Rand) (*http.Request, error) {
			time.Sleep(15 * time.Millisecond)
			return http.NewRequestWithContext(ctx, http.MethodGet, "http://service/", http.NoBody)
		}
		sum, outcomes := play(t, Load{Rate: Tide(Point{0, 100}), Arrivals: Even, Duration: time.Second, Request: slow}, fixed(0))
		last := outcomes[len(outcomes)-1]
		if sum.Late != len(outcomes) || !slices.Equal(sum.Limits(), []Limit{Lagging}) || last.Latency != last.Lag || last.Lag < 400*time.Millisecond {
			t.Errorf("%d of %d late, %v, the last %+v", sum.Late, len(outcomes), sum.Limits(), last)
		}
	})
}

func TestLimits(t *testing.T) {
	for _, c := range []struct {
		sum  Summary
		want []Limit
	}{
		{Summary{Took: time.Second, CPU: 1700 * time.Millisecond, Cores: 2}, nil},
		{Summary{Took: time.Second, CPU: 1900 * time.Millisecond, Cores: 2}, []Limit{Starving}},
		{Summary{Took: time.Second, CPU: 950 * time.Millisecond, Cores: 1, Dropped: 1}, []Limit{Dropping, Starving}},
	} {
		if got := c.sum.Limits(); !slices.Equal(got, c.want) {
			t.Errorf("%v of %d cores, %d dropped: %v, want %v", c.sum.CPU, c.sum.Cores, c.sum.Dropped, got, c.want)
		}
	}
}

func TestRunStopsWithItsContext(t *testing.T) {
	for name, l := range map[string]Load{"rate": {Rate: Tide(Point{0, 10})}, "users": {Users: 5, Think: func(*rand.Rand) time.Duration { return time.Second }}} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			l.Duration, l.Request, l.Transport = time.Hour, get("http://service/"), service(fixed(5*time.Second))
			start := time.Now()
			sum, err := Run(ctx, l)
			if !errors.Is(err, context.DeadlineExceeded) || sum.Requests == 0 || sum.Failed != 0 || time.Since(start) > 66*time.Second {
				t.Errorf("%s: %v after %v, %d requests, %d failed: those under way end in peace", name, err, time.Since(start), sum.Requests, sum.Failed)
			}
		})
	}
}

func TestImpossibleLoads(t *testing.T) {
	for name, l := range map[string]Load{"nothing": {}, "no requests": {Rate: Tide(Point{0, 1}), Duration: 1},
		"both": {Rate: Tide(Point{0, 1}), Users: 1, Duration: 1, Request: get("")}} {
		if _, err := Run(t.Context(), l); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
