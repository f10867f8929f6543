package accesslog

import (
	"context"
	"math"
	"strings"
	"time"

	"tidemark/internal/decide/signal"
	"tidemark/internal/fleet"
)

// Source is one signal of a Log: one field of the requests that match, over a sliding window.
type Source struct {
	log        *Log
	route      route
	exclude    []route
	field      string
	upstream   bool
	q          float64
	window     time.Duration
	minSamples int

	tally     tally
	latencies *signal.Sliding // nil unless the field is latency
	late      error           // why what was read is older than the window
}

// Source returns a new source, whose window is empty. q is the latency quantile (0..1]; 0 asks for the mean. A latency from
// fewer than minSamples requests in the window, and errors out of fewer, are Sparse. cfg must be valid, and its path and
// format the log's.
func (l *Log) Source(cfg Config, q float64, window time.Duration, minSamples int) *Source {
	s := &Source{
		log: l, route: route(trimPath(cfg.Route)), field: cfg.Field, q: q, window: window, minSamples: max(minSamples, 1),
		upstream: cfg.Time == "upstream" || cfg.Time == "" && l.format.Has(UpstreamTime),
		tally:    tally{window: window},
	}
	for _, x := range cfg.Exclude {
		if x := route(trimPath(x)); s.route == "" || !x.has([]byte(s.route)) {
			s.exclude = append(s.exclude, x)
		}
	}
	if s.field == Latency {
		s.latencies = signal.NewSliding(window)
	}
	l.turn <- struct{}{}
	l.sources = append(l.sources, s)
	<-l.turn
	return s
}

// route is a path and everything below it; empty, all paths.
type route string

func trimPath(p string) string { return strings.TrimRight(p, "/") }

func (r route) has(path []byte) bool {
	return len(path) >= len(r) && string(path[:len(r)]) == string(r) && (len(path) == len(r) || path[len(r)] == '/')
}

func (s *Source) begin(now time.Time) {
	if s.latencies != nil {
		s.latencies.Advance(now)
	}
}

// count takes in one request.
func (s *Source) count(e *Entry) {
	if s.route != "" && !s.route.has(e.Path) {
		return
	}
	for _, x := range s.exclude {
		if x.has(e.Path) {
			return
		}
	}
	if s.latencies == nil {
		s.tally.count(e.Status >= 500)
		return
	}
	switch e.Status {
	case 101, 502, 503: // no answer of a worker: see the package's comment
		return
	}
	v := e.RequestTime
	if s.upstream {
		v = e.UpstreamTime
	}
	if v >= 0 { // NaN: not stated
		s.latencies.Record(v)
	}
}

// Read returns the field over the window that ends now. Missing: the log cannot be read or is not in its format. Stale: more was
// written than one read takes in, and it is still being caught up with. Sparse: too few requests; the value is from those.
// A log without new lines is a quiet service: rate 0, Fresh.
func (s *Source) Read(ctx context.Context, scene fleet.Scene) (fleet.Reading, error) {
	r := fleet.Reading{Time: scene.Now}
	if err := s.log.take(ctx); err != nil {
		return r, err
	}
	defer func() { <-s.log.turn }()
	if err := s.log.advance(ctx, scene.Now); err != nil {
		return r, err
	}
	r.Value, r.Quality = s.value()
	switch {
	case s.log.tail.behind:
		r.Quality = fleet.Stale
		return r, s.log.tail.lag()
	case s.late != nil: // the window starts anew
		r.Quality = fleet.Stale
		err := s.late
		s.late = nil
		if s.latencies != nil {
			s.latencies.Reset()
		}
		return r, err
	}
	return r, nil
}

func (s *Source) value() (float64, fleet.Quality) {
	if s.latencies != nil {
		h := s.latencies.Total()
		return s.stated(s.statistic(h), float64(h.Count()))
	}
	requests, failed, seen := s.tally.latest()
	if seen <= 0 {
		return 0, fleet.Sparse // the first read: no time has passed that requests could be counted in
	}
	if s.field == Rate {
		return requests / seen.Seconds(), fleet.Fresh
	}
	return s.stated(100*failed/requests, requests)
}

func (s *Source) statistic(h *signal.Histogram) float64 {
	if s.q > 0 {
		return h.Quantile(s.q)
	}
	return h.Mean()
}

// stated is a statistic of n samples and how far it can be trusted.
func (s *Source) stated(v, n float64) (float64, fleet.Quality) {
	switch {
	case math.IsNaN(v):
		return 0, fleet.Sparse
	case n < float64(s.minSamples):
		return v, fleet.Sparse
	}
	return v, fleet.Fresh
}
