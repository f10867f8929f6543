package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"time"

	"tidemark/internal/decide/signal"
	"tidemark/internal/prove"
	"tidemark/registry"
)

// lookups asks 50 times a second, half by national id, a quarter by uid, a quarter by name and village, while ten devices
// synchronise one batch of 500 farmers after the other. The devices are a process of their own with less of a claim on the
// CPU: what they compute would be computed elsewhere, and must not make the look-ups start late.
func (s *stack) lookups(ctx context.Context, c settings) ([]figure, error) {
	busy, err := s.devices(ctx, c)
	if err != nil {
		return nil, err
	}
	defer busy.end() //nolint:errcheck // it has been ended before, unless something else went wrong
	secret, _, err := s.store.AddToken(ctx, registry.Token{Name: registry.NewUID(), Scope: registry.Integration, CreatedAt: time.Now(),
		ExpiresAt: time.Now().AddDate(0, 0, 1)})
	if err != nil {
		return nil, err
	}
	kinds := []struct {
		name  string
		share float64
		query func(f registry.Fields, uid string) url.Values
	}{
		{"national id", 0.5, func(f registry.Fields, _ string) url.Values {
			return url.Values{"national_id": {f.Text("national_id")}}
		}},
		{"uid", 0.25, func(_ registry.Fields, uid string) url.Values { return url.Values{"uid": {uid}} }},
		{"name and village", 0.25, func(f registry.Fields, _ string) url.Values {
			return url.Values{"name": {f.Text("given_name") + " " + f.Text("family_name")}, "village": {f.Text("village")}}
		}},
	}
	sums := make([]*prove.Summary, len(kinds))
	play := func(d time.Duration) error {
		errs := make([]error, len(kinds))
		var asking sync.WaitGroup
		for i, k := range kinds {
			asking.Go(func() {
				sums[i], errs[i] = prove.Run(ctx, prove.Load{
					Rate: prove.Tide(prove.Point{Rate: 50 * k.share}), Duration: d, Seed: uint64(i),
					Request: func(ctx context.Context, rng *rand.Rand) (*http.Request, error) {
						f := c.farmers[rng.IntN(len(c.farmers))]
						req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/api/farmer/lookup?"+k.query(f.Fields, f.UID).Encode(), http.NoBody)
						if err == nil {
							req.Header.Set("Authorization", "Bearer "+secret)
						}
						return req, err
					}})
			})
		}
		asking.Wait()
		for _, err := range errs {
			if err != nil {
				return err
			}
		}
		return nil
	}
	if err := play(5 * time.Second); err != nil { // caches are cold
		return nil, err
	}
	if err := play(c.For); err != nil {
		return nil, err
	}
	at := load()
	batches, err := busy.end()
	if err != nil {
		return nil, err
	}
	var all signal.Histogram
	var parts []figure
	requests, bad, invalid := 0, 0, ""
	for i, sum := range sums {
		all.Add(&sum.Latency)
		requests += sum.Requests
		bad += sum.Failed
		for _, limit := range sum.Limits() {
			invalid = "the generator was the limit: " + limit.String()
		}
		parts = append(parts, figure{What: "  by " + kinds[i].name + ", p95", Value: 1000 * sum.Latency.Quantile(0.95), Unit: "ms", Load: at})
	}
	return append([]figure{
		{What: "look-up at 50/s while 10 devices synchronise, p95", Value: 1000 * all.Quantile(0.95), Unit: "ms", Bar: 50, Load: at, Invalid: invalid,
			Note: fmt.Sprintf("%d requests; %d batches of 500 farmers synchronised", requests, batches)},
		{What: "  failed", Value: 100 * float64(bad) / float64(requests), Unit: "%", Bar: 0.1, Load: at},
		{What: "  all, p50", Value: 1000 * all.Quantile(0.5), Unit: "ms", Load: at},
		{What: "  all, p99", Value: 1000 * all.Quantile(0.99), Unit: "ms", Load: at},
	}, parts...), nil
}
