package metrics

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Recorder counts what one worker does. Its counters are its own to write, whoever else may read them.
type Recorder struct {
	block  *block
	began  time.Time // of the connection in hand
	mu     sync.Mutex
	routes map[string]*route
}

// NewRecorder goes on counting where the worker that had these words before has ended. There must be Words of them.
func NewRecorder(words []atomic.Uint64) *Recorder {
	r := &Recorder{block: layOut(words), routes: map[string]*route{}}
	for i := range r.block.routed.Load() {
		known := &r.block.routes[i]
		r.routes[known.String()] = known
	}
	r.block.inProgress.Store(0)
	r.block.pool.known.Store(0)
	return r
}

// Busy says that a connection is in hand (true) or that it is closed (false), as registry/serve tells it.
func (r *Recorder) Busy(yes bool) {
	if yes {
		r.began = time.Now()
		return
	}
	r.block.busy.Add(uint64(time.Since(r.began)))
}

// Wrap counts the requests that h answers, by the pattern of the http.ServeMux that routed them. The mux must see the
// request that h gets, not a copy as (*http.Request).WithContext makes: the pattern is written into it.
//
// A request is counted before the last of its answer leaves the process, unless the handler itself flushed it: who has
// an answer in hand finds it in the count.
func (r *Recorder) Wrap(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		begin := time.Now()
		answer := &answer{ResponseWriter: w}
		r.block.inProgress.Add(1)
		finished := false
		defer func() {
			r.block.inProgress.Add(^uint64(0))
			status := answer.status
			if !finished {
				status = http.StatusInternalServerError // it panicked: the client got nothing, or half an answer
			}
			r.count(req.Pattern, status, time.Since(begin))
		}()
		h.ServeHTTP(answer, req)
		finished = true
	})
}

func (r *Recorder) count(pattern string, status int, took time.Duration) {
	if status == 0 {
		status = http.StatusOK // as net/http answers when a handler says nothing
	}
	if pattern == "" {
		pattern = "none"
	}
	route := r.route(pattern)
	route.took.Add(uint64(took))
	bucket := 0
	for bucket < len(bounds) && took.Seconds() > bounds[bucket] {
		bucket++
	}
	route.buckets[bucket].Add(1)
	route.codes[min(max(status/100, 1), len(route.codes))-1].Add(1)
	for i, s := range shed {
		if status == s {
			r.block.shed[i].Add(1)
		}
	}
}

// route finds the counters of a route, or gives it the next that are free.
func (r *Recorder) route(name string) *route {
	name = name[:min(len(name), maxName)]
	r.mu.Lock()
	defer r.mu.Unlock()
	if known, ok := r.routes[name]; ok {
		return known
	}
	n := r.block.routed.Load()
	if n == maxRoutes-1 {
		name = "other"
	}
	if n == maxRoutes {
		return &r.block.routes[maxRoutes-1]
	}
	fresh := &r.block.routes[n]
	fresh.name = [maxName]byte{} // a worker that was killed right here may have left half a name
	copy(fresh.name[:], name)
	r.block.routed.Add(1)
	r.routes[name] = fresh
	return fresh
}

// Pool is the state of a worker's database connections.
type Pool struct {
	Open, InUse int           // now
	Waits       uint64        // since the worker started: requests for a connection that found none free
	Waited      time.Duration // since the worker started: what they waited
}

// WatchPool reads the pool at each interval until ctx is done. A worker without one does not call it: its fleet then has
// no figures of pools, rather than zeros.
func (r *Recorder) WatchPool(ctx context.Context, interval time.Duration, read func() Pool) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	var last Pool
	for {
		now, block := read(), &r.block.pool
		block.open.Store(uint64(now.Open))
		block.inUse.Store(uint64(now.InUse))
		block.waits.Add(now.Waits - last.Waits)
		block.waited.Add(uint64(now.Waited - last.Waited))
		block.known.Store(1)
		last = now
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// answer remembers the status that was sent.
type answer struct {
	http.ResponseWriter
	status int
}

func (a *answer) WriteHeader(status int) {
	if a.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) { // before it there may be hints
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(b []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	return a.ResponseWriter.Write(b)
}

// Flush is for handlers that ask whether they may; http.ResponseController finds its way by Unwrap.
func (a *answer) Flush() { _ = http.NewResponseController(a.ResponseWriter).Flush() }

func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
