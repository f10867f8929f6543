// Package haproxy reads signals from the HAProxy that is the fleet's balancer (act/haproxy), through its runtime socket. They are of
// the fleet's backend.
//
// The fields, named as those of the built-in proxy:
//
//	queued        requests that wait for a worker, now
//	in_flight     requests and websockets at a worker, now
//	busy          percent of the slots of the workers in service that are occupied, now; needs max_in_flight
//	latency       seconds from the request to the answer's first byte: queue_time, the connection to the worker, and service_time
//	queue_time    seconds of waiting for a worker
//	service_time  seconds that the worker took to begin its answer
//	rate          requests that arrived, a second
//	errors        percent of the requests that ended with 500 or more, HAProxy's own 502, 503 and 504 among them
//	shed          requests refused because too many waited, a second
//
// The three times are HAProxy's means of the last 1,024 requests, to the millisecond; it keeps no distributions. They are
// Sparse when no request has come since the reading before, for then they are of long ago. rate, errors and shed are over the
// window, or since the reading before when there is none; the first reading has nothing to compare with and is Sparse, as is
// the first after HAProxy was restarted or reloaded, which makes it count anew.
package haproxy

import (
	"context"
	"errors"
	"time"

	"tidemark/internal/act/haproxy"
	"tidemark/internal/fleet"
)

// Source is one signal of a backend.
type Source struct {
	cfg        Config
	window     time.Duration
	minSamples float64
	shared     *Client

	samples []*sample // the oldest is the last one before the window
}

// sample is what HAProxy said at one time; fresh says that requests had ended since the one before.
type sample struct {
	*haproxy.Stats
	at    time.Time
	fresh bool
}

// New makes a Source of a valid configuration. A window of 0 is the time since the reading before. minSamples is of errors.
func New(cfg Config, window time.Duration, minSamples int, shared *Client) *Source {
	return &Source{cfg: cfg, window: window, minSamples: float64(max(minSamples, 1)), shared: shared}
}

// Read reads the signal. Several Sources of one Client cost one look a tick.
func (s *Source) Read(ctx context.Context, scene fleet.Scene) (fleet.Reading, error) {
	out := fleet.Reading{Time: scene.Now, Quality: fleet.Missing}
	stats, err := s.shared.at(ctx, scene.Now)
	if err != nil {
		return out, err
	}
	now := &sample{Stats: stats, at: scene.Now}
	s.take(now)
	field := &fields[s.cfg.index()]
	var value float64
	var ok bool
	if field.now != nil {
		if value, ok, err = field.now(now); err != nil {
			return out, err
		}
	} else {
		seconds := now.at.Sub(s.samples[0].at).Seconds()
		part, whole, least, scale := field.part(now)-field.part(s.samples[0]), seconds, 0.0, 1.0
		if field.whole != nil {
			whole, least, scale = field.whole(now)-field.whole(s.samples[0]), s.minSamples, 100
		}
		value, ok = scale*part/whole, whole > 0 && whole >= least
	}
	if !ok {
		out.Quality = fleet.Sparse
		return out, nil
	}
	out.Value, out.Quality = value, fleet.Fresh
	return out, nil
}

// take adds a sample to the window. Counters that went back, or of another process, begin a new one.
func (s *Source) take(now *sample) {
	if n := len(s.samples); n > 0 {
		last := s.samples[n-1]
		if !now.follows(last) {
			s.samples = s.samples[:0]
		} else {
			now.fresh = now.Answers() > last.Answers()
		}
	}
	s.samples = append(s.samples, now)
	for len(s.samples) > 2 && now.at.Sub(s.samples[1].at) >= s.window {
		s.samples = s.samples[1:]
	}
}

// follows reports that all counters may have become s's.
func (s *sample) follows(last *sample) bool {
	for i := range s.Status {
		if s.Status[i] < last.Status[i] {
			return false
		}
	}
	return s.PID == last.PID && s.at.After(last.at) && s.Uptime >= last.Uptime && s.Requests >= last.Requests && s.Refused >= last.Refused && s.OtherCode >= last.OtherCode
}

func queued(s *sample) (float64, bool, error) { return float64(s.Queued), true, nil }

func inFlight(s *sample) (float64, bool, error) {
	n := uint64(0)
	for _, w := range s.Servers {
		n += w.Sessions
	}
	return float64(n), true, nil
}

var (
	errNoLimit  = errors.New("busy is the share of occupied slots, and HAProxy's servers have no limit: set the balancer's max_in_flight (1 for workers that serve one request at a time)")
	errNoServer = errors.New("busy is the share of occupied slots, and HAProxy has no server in service")
)

func busy(s *sample) (float64, bool, error) {
	occupied, slots := uint64(0), uint64(0)
	for _, w := range s.Servers {
		if !w.Serving() {
			continue
		}
		if w.Limit == 0 {
			return 0, false, errNoLimit
		}
		occupied += min(w.Sessions, w.Limit)
		slots += w.Limit
	}
	if slots == 0 {
		return 0, false, errNoServer
	}
	return 100 * float64(occupied) / float64(slots), true, nil
}

func latency(s *sample) (float64, bool, error) {
	return (s.QueueTime + s.ConnectTime + s.ResponseTime).Seconds(), s.fresh, nil
}

func queueTime(s *sample) (float64, bool, error) { return s.QueueTime.Seconds(), s.fresh, nil }

func serviceTime(s *sample) (float64, bool, error) { return s.ResponseTime.Seconds(), s.fresh, nil }
