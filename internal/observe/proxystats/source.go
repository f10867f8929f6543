// Package proxystats reads signals from the built-in proxy (act/proxy) through its admin socket. The proxy counts; this
// package takes differences. A proxy that was restarted is known by its nonce and counts from its start. Time is the
// proxy's own, which never jumps.
//
// The fields:
//
//	latency     seconds from the request in hand to the worker's last byte: queue and service; a quantile over the window
//	queue_time  seconds of waiting for a worker, of all requests but the shed; a quantile over the window
//	service_time  seconds that the worker itself took: latency less queue_time, request by request; a quantile over the window
//	busy        percent of the slots of the workers in service that were occupied, exact over time; needs max_in_flight
//	in_flight   requests at a worker, now
//	queued      requests that wait for one, now
//	rate        requests that arrived, a second
//	errors      percent of the requests that ended with 500 or more, the proxy's own 502, 503 and 504 among them
//	shed        requests refused because the queue was full, a second
//
// busy, rate, errors and shed are over the window, or since the reading before when there is none. The first
// reading has nothing to compare with and is Sparse, as is one without enough requests.
package proxystats

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tidemark/internal/act/proxy"
	"tidemark/internal/decide/signal"
	"tidemark/internal/fleet"
)

// Source is one signal of a proxy.
type Source struct {
	cfg        Config
	quantile   float64
	window     time.Duration
	minSamples int
	shared     *Client

	sliding *signal.Sliding // of distributions
	points  []point         // of the others: the oldest is the last one before the window
	last    point
	known   bool // last is set
}

// point is what the proxy had counted at one time.
type point struct {
	nonce  string
	uptime time.Duration
	read   time.Time     // when, by the scene's clock
	at     time.Duration // on this source's own clock, which goes on when the proxy is restarted

	done, failed, arrived, shed float64
	busy, slots                 float64
	values                      signal.Histogram
}

// New makes a Source of a valid configuration. quantile (0..1) and minSamples are of distributions, where window must be
// positive; for the others a window of 0 is the time since the reading before.
func New(cfg Config, quantile float64, window time.Duration, minSamples int, shared *Client) *Source {
	s := &Source{cfg: cfg, quantile: quantile, window: window, minSamples: max(minSamples, 1), shared: shared}
	if cfg.Distribution() {
		s.sliding = signal.NewSliding(window)
	}
	return s
}

var errNoLimit = errors.New("busy is the share of occupied slots, and the proxy's workers have no limit: set the balancer's max_in_flight (1 for workers that serve one request at a time)")

var errNoService = errors.New("the proxy that runs is of an earlier version and keeps no service times: restart it when the load allows")

// Read reads the signal. Several Sources of one Client cost one request a tick.
func (s *Source) Read(ctx context.Context, scene fleet.Scene) (fleet.Reading, error) {
	missing := fleet.Reading{Time: scene.Now, Quality: fleet.Missing}
	stats, err := s.shared.at(ctx, scene.Now)
	if err != nil {
		return missing, err
	}
	counted, err := s.counters(stats)
	if err != nil {
		return missing, err
	}
	switch s.cfg.Field {
	case "in_flight":
		return fresh(scene.Now, float64(counted.InFlight)), nil
	case "queued":
		return fresh(scene.Now, float64(counted.Queued)), nil
	}
	if s.cfg.Field == "busy" && stats.MaxInFlight == 0 {
		return missing, errNoLimit
	}
	now, err := s.point(stats, counted, scene.Now)
	if err != nil {
		return missing, err
	}
	before, first := s.since(&now)
	value, ok := 0.0, false
	switch {
	case s.sliding != nil:
		value, ok = s.distribution(&before, &now, first)
	case !first:
		value, ok = s.difference(&before, &now)
	}
	s.last, s.known = now, true
	if !ok {
		return fleet.Reading{Time: scene.Now, Quality: fleet.Sparse}, nil
	}
	return fresh(scene.Now, value), nil
}

func fresh(at time.Time, v float64) fleet.Reading {
	return fleet.Reading{Value: v, Time: at, Quality: fleet.Fresh}
}

// counters are those of the configured route or class, or of all requests.
func (s *Source) counters(stats *proxy.Stats) (*proxy.Counters, error) {
	switch {
	case s.cfg.Route != "":
		for i := range stats.Routes {
			if stats.Routes[i].Route == s.cfg.Route {
				return &stats.Routes[i].Counters, nil
			}
		}
		return nil, fmt.Errorf("the proxy keeps no figures of the route %s: add it to the balancer's routes", s.cfg.Route)
	case s.cfg.Class != "":
		for i := range stats.Classes {
			if stats.Classes[i].Name == s.cfg.Class {
				return &stats.Classes[i].Counters, nil
			}
		}
		return nil, fmt.Errorf("the proxy has no class %s: add it to the balancer's classes", s.cfg.Class)
	}
	return &stats.Total, nil
}

func (s *Source) point(stats *proxy.Stats, c *proxy.Counters, read time.Time) (point, error) {
	p := point{
		nonce: stats.Nonce, uptime: time.Duration(stats.Uptime), read: read,
		done: float64(c.Done), failed: float64(c.Status[4]), arrived: float64(c.Arrived), shed: float64(c.Shed),
		busy: stats.Busy, slots: stats.Slots,
	}
	if s.sliding != nil {
		from := map[string]proxy.Histogram{"latency": c.Latency, "queue_time": c.QueueTime, "service_time": c.ServiceTime}[s.cfg.Field]
		if s.cfg.Field == "service_time" && len(from) == 0 && len(c.Latency) > 0 {
			return point{}, errNoService
		}
		if err := p.values.UnmarshalBinary(from); err != nil {
			return point{}, fmt.Errorf("the proxy's figures are not understood: %w", err)
		}
	}
	return p, nil
}

// since is what now is to be compared with, and puts now on the source's clock. first: there is nothing.
func (s *Source) since(now *point) (before point, first bool) {
	switch {
	case !s.known:
		return *now, true
	case now.nonce == s.last.nonce && s.last.within(now):
		now.at = s.last.at + now.uptime - s.last.uptime
		return s.last, false
	case now.nonce != s.last.nonce:
		// Restarted: all that it has counted is new, and it has counted since its start.
		now.at = s.last.at + max(now.read.Sub(s.last.read), now.uptime)
		s.points = nil
		return point{nonce: now.nonce, at: now.at - now.uptime}, false
	}
	// Its counters went back: a class that was removed and added again, or a bucket that was full.
	now.at = s.last.at + max(now.uptime-s.last.uptime, 0)
	s.points = nil
	return *now, true
}

// within reports that all of p's counters may have become now's.
func (p *point) within(now *point) bool {
	return p.uptime <= now.uptime && p.done <= now.done && p.arrived <= now.arrived && p.values.Count() <= now.values.Count()
}

// distribution adds what is new to the window, and takes its quantile.
func (s *Source) distribution(before, now *point, first bool) (float64, bool) {
	s.sliding.Advance(time.Unix(0, 0).Add(now.at))
	if !first {
		fresh := now.values
		fresh.Sub(&before.values)
		s.sliding.Add(&fresh)
	}
	total := s.sliding.Total()
	if total.Count() < uint64(s.minSamples) {
		return 0, false
	}
	return total.Quantile(s.quantile), true
}

// difference is the field over the window.
func (s *Source) difference(before, now *point) (float64, bool) {
	if len(s.points) == 0 {
		s.points = append(s.points, *before)
	}
	s.points = append(s.points, *now)
	for len(s.points) > 2 && now.at-s.points[1].at >= s.window {
		s.points = s.points[1:]
	}
	from := &s.points[0]
	seconds := (now.at - from.at).Seconds()
	var part, whole float64
	scale := 1.0
	switch s.cfg.Field {
	case "rate":
		part, whole = now.arrived-from.arrived, seconds
	case "shed":
		part, whole = now.shed-from.shed, seconds
	case "errors":
		part, whole, scale = now.failed-from.failed, now.done-from.done, 100
		if whole < float64(s.minSamples) {
			return 0, false
		}
	case "busy":
		part, whole, scale = now.busy-from.busy, now.slots-from.slots, 100
	}
	if whole <= 0 || part < 0 {
		return 0, false
	}
	return scale * part / whole, true
}
