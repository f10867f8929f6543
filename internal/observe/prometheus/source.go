package prometheus

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"tidemark/internal/fleet"
)

// Source reads one query. It is not for several goroutines at once.
type Source struct {
	cfg        Config
	address    string
	minSamples float64
}

// New makes a source from a valid configuration. quantile (0..1), window and minSamples are of distributions.
func New(cfg Config, quantile float64, window time.Duration, minSamples int) *Source {
	ask := url.Values{"query": {question(cfg.Query, quantile, window, cfg.Step)}}
	return &Source{cfg: cfg, address: strings.TrimRight(cfg.URL, "/") + "/api/v1/query?" + ask.Encode(), minSamples: float64(max(minSamples, 1))}
}

// maxAnswer is far more than a query of one series is answered with.
const maxAnswer = 1 << 20

// Read asks the server. Missing: it cannot be asked, or the query returns no single figure. Stale: the sample is older than max_age, or
// the series has ended within the window. Sparse: the window has fewer values than min_samples.
func (s *Source) Read(ctx context.Context, scene fleet.Scene) (fleet.Reading, error) {
	v, q, err := s.figure(ctx)
	return fleet.Reading{Value: v, Time: scene.Now, Quality: q}, err
}

func (s *Source) figure(ctx context.Context) (float64, fleet.Quality, error) {
	if err := ctx.Err(); err != nil {
		return 0, fleet.Missing, err
	}
	answer, err := s.cfg.Server.Get(ctx, s.address, "application/json", maxAnswer)
	if err != nil {
		return 0, fleet.Missing, err
	}
	said, err := parts(answer.Body)
	if errors.Is(err, errForm) && answer.Err() != nil {
		err = answer.Err()
	}
	if err != nil {
		return 0, fleet.Missing, err
	}
	v, ok := said[value]
	if !ok {
		return 0, fleet.Missing, errors.New("the query returns no series: is what it asks for scraped, and spelt like this?")
	}
	old, current := said[age]
	switch {
	case !current:
		return 0, fleet.Stale, errors.New("the series has ended: is its target still there?")
	case old > s.cfg.MaxAge.Seconds():
		return 0, fleet.Stale, fmt.Errorf("the last sample is %s old, and max_age is %s: does the server still scrape its target?", fleet.Elapsed(time.Duration(old*float64(time.Second))), fleet.Elapsed(s.cfg.MaxAge))
	case s.cfg.Step > 0 && said[count] < s.minSamples:
		return v, fleet.Sparse, nil
	}
	return v, fleet.Fresh, nil
}
