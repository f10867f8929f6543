package proxy

import (
	"sync"
	"sync/atomic"
	"time"

	"tidemark/internal/decide/signal"
)

// counters are the figures of one class or one route, counted since the process started.
type counters struct {
	inFlight, queued atomic.Int64
	arrived          atomic.Uint64

	mu        sync.Mutex
	done      uint64
	status    [5]uint64
	shed      uint64
	timedOut  uint64
	cancelled uint64
	latency   signal.Histogram
	queueTime signal.Histogram
	service   signal.Histogram
}

// outcome is how a request ended.
type outcome struct {
	status    int // 0: the client left before an answer
	shed      bool
	timedOut  bool // waited too long in the queue
	served    bool // a worker answered, or was given up on: latency is known
	asked     bool // for a worker: queueTime is known
	latency   time.Duration
	queueTime time.Duration
}

func (c *counters) count(o *outcome) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done++
	switch {
	case o.status == 0:
		c.cancelled++
	case o.status >= 100 && o.status < 600:
		c.status[o.status/100-1]++
	}
	if o.shed {
		c.shed++
	}
	if o.timedOut {
		c.timedOut++
	}
	if o.served {
		c.latency.Record(o.latency.Seconds())
		c.service.Record((o.latency - o.queueTime).Seconds())
	}
	if o.asked && !o.shed {
		c.queueTime.Record(o.queueTime.Seconds())
	}
}

// Stats are the figures of a running proxy. Counters and histograms are totals since its start: a reader takes the
// difference of two, and starts anew when Nonce changes.
type Stats struct {
	Nonce  string `json:"nonce"`  // differs for each start of the process
	PID    int    `json:"pid"`    //
	Digest string `json:"digest"` // of the configuration in force
	Uptime int64  `json:"uptime"` // nanoseconds since the start, on a clock that never jumps
	// MaxInFlight is the configured limit of a worker, 0 for none.
	MaxInFlight int `json:"max_in_flight"`
	// Busy and Slots are slot-seconds since the start: of the workers in service, how long their slots were occupied and
	// how long they were there. A worker has max_in_flight slots (one when that has no limit). Exact: integrated at
	// every change.
	Busy  float64 `json:"busy"`
	Slots float64 `json:"slots"`

	// CacheHits counts the public pages that were shown from the cache; no other figure has them.
	CacheHits uint64 `json:"cache_hits"`

	Total   Counters      `json:"total"`
	Classes []ClassStats  `json:"classes"`
	Routes  []RouteStats  `json:"routes"`
	Workers []WorkerStats `json:"workers"`
}

// Counters are the figures of all requests, of one class or of one route.
type Counters struct {
	InFlight int64  `json:"in_flight"` // at a worker now
	Queued   int64  `json:"queued"`    // waiting for one now
	Arrived  uint64 `json:"arrived"`
	Done     uint64 `json:"done"` // ended, whichever way
	// Status counts the answers 1xx to 5xx, the proxy's own 502, 503 and 504 among them. An upgraded connection is
	// a 1xx when it is upgraded.
	Status    [5]uint64 `json:"status"`
	Shed      uint64    `json:"shed"`      // refused: the queue was full
	TimedOut  uint64    `json:"timed_out"` // refused: waited too long
	Cancelled uint64    `json:"cancelled"` // the client left first
	// Latency, in seconds, runs from the request in hand (its body read ahead) to the last byte of the worker's
	// answer: queue and service, not the client's link. Requests that no worker had are not in it.
	Latency Histogram `json:"latency"`
	// QueueTime, in seconds, is the wait for a worker, of all but the shed.
	QueueTime Histogram `json:"queue_time"`
	// ServiceTime, in seconds, is Latency less the wait for a worker, request by request: what the worker itself took.
	ServiceTime Histogram `json:"service_time"`
}

// Histogram is a signal.Histogram in its binary form (base64 in JSON).
type Histogram []byte

// ClassStats are the figures of one class, in order of importance.
type ClassStats struct {
	Name     string `json:"name"`
	Priority int    `json:"priority"`
	Counters
}

// RouteStats are the figures of one route; the last is "other".
type RouteStats struct {
	Route string `json:"route"`
	Counters
}

// WorkerStats are the figures of one worker.
type WorkerStats struct {
	ID       string `json:"id"`
	Address  string `json:"address"`
	State    string `json:"state"`     // serving, suspect (could not be reached), leaving
	InFlight int    `json:"in_flight"` // requests
	Upgraded int    `json:"upgraded"`  // websockets and the like
	Requests uint64 `json:"requests"`  // given to it
	Errors   uint64 `json:"errors"`    // not answered, or answered 5xx
}

// tally is a copy of counters, with the histograms still to be written.
type tally struct {
	Counters
	latency, queueTime, service signal.Histogram
}

func (c *counters) tally(into *tally) {
	c.mu.Lock()
	into.Done, into.Status, into.Shed, into.TimedOut, into.Cancelled = c.done, c.status, c.shed, c.timedOut, c.cancelled
	into.latency, into.queueTime, into.service = c.latency, c.queueTime, c.service
	c.mu.Unlock()
	into.InFlight, into.Queued, into.Arrived = c.inFlight.Load(), c.queued.Load(), c.arrived.Load()
}

func (t *tally) add(o *tally) {
	t.InFlight += o.InFlight
	t.Queued += o.Queued
	t.Arrived += o.Arrived
	t.Done += o.Done
	for i := range t.Status {
		t.Status[i] += o.Status[i]
	}
	t.Shed += o.Shed
	t.TimedOut += o.TimedOut
	t.Cancelled += o.Cancelled
	t.latency.Add(&o.latency)
	t.queueTime.Add(&o.queueTime)
	t.service.Add(&o.service)
}

// written is the form that is sent.
func (t *tally) written() Counters {
	t.Latency, _ = t.latency.MarshalBinary() // cannot fail
	t.QueueTime, _ = t.queueTime.MarshalBinary()
	t.ServiceTime, _ = t.service.MarshalBinary()
	return t.Counters
}
