package prove

import (
	"context"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

func get(url string) func(context.Context, *rand.Rand) (*http.Request, error) {
	return func(ctx context.Context, _ *rand.Rand) (*http.Request, error) {
		return http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	}
}

func TestTide(t *testing.T) {
	r := Tide(Point{0, 10}, Point{10 * time.Second, 10}, Point{20 * time.Second, 110})
	for at, want := range map[time.Duration]float64{0: 10, 5 * time.Second: 10, 15 * time.Second: 60, 20 * time.Second: 110, time.Hour: 110} {
		if got := r(at); math.Abs(got-want) > 1e-9 {
			t.Errorf("rate at %v is %g, want %g", at, got, want)
		}
	}
}

func TestRunMeetsItsRate(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Worker", "7") }))
	defer srv.Close()
	var told atomic.Int64
	sum, err := Run(t.Context(), Load{Rate: Tide(Point{0, 400}), Duration: time.Second, Seed: 1, Request: get(srv.URL),
		Each: func(o Outcome) {
			if o.Worker == "7" {
				told.Add(1)
			}
		}})
	if err != nil {
		t.Fatal(err)
	}
	// Poisson of mean 400: five standard deviations.
	if sum.Requests < 300 || sum.Requests > 500 || sum.Failed != 0 || sum.Dropped != 0 || int(told.Load()) != sum.Requests {
		t.Errorf("%+v requests, %d failed, %d dropped, %d told", sum.Requests, sum.Failed, sum.Dropped, told.Load())
	}
}

// A service that stops for half a second must show it in the percentiles as its users would feel it.
func TestStallIsSeen(t *testing.T) {
	var calls atomic.Int64
	stall := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if calls.Add(1) == 20 {
			time.AfterFunc(500*time.Millisecond, func() { close(stall) })
		}
		if calls.Load() >= 20 {
			<-stall
		}
	}))
	defer srv.Close()
	sum, err := Run(t.Context(), Load{Rate: Tide(Point{0, 200}), Duration: time.Second, Seed: 2, Request: get(srv.URL)})
	if err != nil {
		t.Fatal(err)
	}
	// About half of the requests come during the stall, and wait 250 ms on average.
	if p90 := sum.Latency.Quantile(0.9); p90 < 0.2 {
		t.Errorf("p90 is %.3f s: the stall is hidden", p90)
	}
}

func TestRefusedRequestsFail(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	url := srv.URL
	srv.Close()
	sum, err := Run(t.Context(), Load{Rate: Tide(Point{0, 100}), Duration: 200 * time.Millisecond, Seed: 3, Request: get(url)})
	if err != nil || sum.Requests == 0 || sum.Failed != sum.Requests || len(sum.Errors) == 0 {
		t.Errorf("%+v, %v", sum.Requests, err)
	}
}

func TestDroppedArrivalsAreCounted(t *testing.T) {
	hang := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	defer srv.Close()
	time.AfterFunc(500*time.Millisecond, func() { close(hang) })
	sum, err := Run(t.Context(), Load{Rate: Tide(Point{0, 200}), Duration: 300 * time.Millisecond, Seed: 4, MaxInFlight: 5, Request: get(srv.URL)})
	if err != nil || sum.Dropped == 0 || sum.Requests != 5 {
		t.Errorf("%d requests, %d dropped, %v", sum.Requests, sum.Dropped, err)
	}
}
