package httpjson

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"tidemark/internal/fleet"
)

// Source reads one figure of a page. It is not for several goroutines at once.
type Source struct {
	cfg     Config
	page    *page
	pointer pointer

	seen time.Time // the latest page
	// Of rates: what was counted at the reading before, by series. It is forgotten when a reading fails: a rate over an outage is
	// not that of now.
	last map[string]float64
	at   time.Time
}

func newSource(cfg Config, p *page) *Source {
	s := &Source{cfg: cfg, page: p}
	if cfg.JSON != "" {
		s.pointer, _ = parsePointer(cfg.JSON) // Validate has read it
	}
	return s
}

// Read returns the figure. Missing: the page or the figure is not there. Stale: the page itself says that the figure is older than
// max_age. Sparse: a rate has nothing to be compared with yet.
func (s *Source) Read(ctx context.Context, scene fleet.Scene) (fleet.Reading, error) {
	v, q, err := 0.0, fleet.Missing, ctx.Err()
	if err == nil {
		v, q, err = s.figure(ctx, scene.Now)
	}
	if q == fleet.Missing {
		s.last = nil
	}
	return fleet.Reading{Value: v, Time: scene.Now, Quality: q}, err
}

func (s *Source) figure(ctx context.Context, now time.Time) (float64, fleet.Quality, error) {
	page, err := s.page.at(ctx, now, s.seen)
	if err != nil {
		return 0, fleet.Missing, err
	}
	s.seen = page.at
	all, err := s.series(page)
	if err != nil {
		return 0, fleet.Missing, err
	}
	for _, x := range all {
		if age := now.Sub(x.at); !x.at.IsZero() && age > s.cfg.MaxAge {
			return 0, fleet.Stale, fmt.Errorf("%s is of %s, more than max_age (%s) ago", x.name, x.at.UTC().Format(time.RFC3339), s.cfg.MaxAge)
		}
	}
	v, q := total(all), fleet.Fresh
	if s.cfg.Rate {
		v, q = s.rate(all, page.at)
	}
	if math.IsInf(v, 0) {
		return 0, fleet.Missing, errors.New("the figure is too large for a number")
	}
	return v, q, nil
}

func total(all []series) float64 {
	v := 0.0
	for _, x := range all {
		v += x.value
	}
	return v
}

// series are those that the figure is made of.
func (s *Source) series(page fetched) ([]series, error) {
	if s.cfg.JSON != "" {
		v, err := s.pointer.number(page.document)
		return []series{{value: v}}, err
	}
	all, kind, err := page.metrics.find(s.cfg.Metric, s.cfg.Labels)
	if err != nil {
		return nil, err
	}
	switch {
	case kind == counter && !s.cfg.Rate:
		return nil, errors.New(s.cfg.Metric + " is a counter, which only rises: write rate: true")
	case kind == gauge && s.cfg.Rate:
		return nil, errors.New(s.cfg.Metric + " is a gauge, which rises and falls: delete rate")
	}
	return all, check(all, s.cfg.Sum)
}

// rate is how much the series rose a second since the reading before. A series that was not there then counts from its second
// reading on, as in Prometheus: where it stood before it was seen is not known.
func (s *Source) rate(all []series, at time.Time) (float64, fleet.Quality) {
	before, since := s.last, s.at
	s.last, s.at = make(map[string]float64, len(all)), at
	rise, compared := 0.0, false
	for _, x := range all {
		s.last[x.name] = x.value
		was, ok := before[x.name]
		if !ok {
			continue
		}
		compared = true
		if x.value < was {
			was = 0 // its program was restarted
		}
		rise += x.value - was
	}
	elapsed := at.Sub(since).Seconds()
	if !compared || elapsed <= 0 {
		return 0, fleet.Sparse
	}
	return rise / elapsed, fleet.Fresh
}
