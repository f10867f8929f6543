package proxy

import (
	"context"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// Endpoint is a worker as the daemon names it: its id and where it listens, host:port or unix:/path.
type Endpoint struct {
	ID      string `json:"id"`
	Address string `json:"address"`
}

// worker is one endpoint with its connections. Its fields are guarded by the pool, but for the constant ones.
//
//	         listed                    omitted or drained
//	(new) ------------> in service ----------------------> leaving -----> (gone)
//	                        ^                                 |      idle
//	                        +---------------------------------+
//	                          listed again (after the hold)
type worker struct {
	Endpoint
	header    []string // for the answer's header
	transport *http.Transport

	inService bool
	inFlight  int // requests
	upgrades  map[*upgrade]struct{}
	requests  uint64
	errors    uint64

	// A worker that could not be reached is suspect: it gets nothing until retryAt, then one request to try it.
	failures int
	retryAt  time.Time
	probing  bool
	suspect  atomic.Bool // failures > 0, to be asked without the lock

	// When it leaves.
	drains    int           // calls that wait for it
	heldUntil time.Time     // a drained worker is not taken back before
	cutting   bool          // upgraded connections are closed
	cut       *time.Timer   // makes it so
	idle      chan struct{} // closed when it has nothing more to do; nil when nobody waits
}

func newWorker(e Endpoint, c *Config) *worker {
	network, address := "tcp", e.Address
	if path, ok := strings.CutPrefix(e.Address, "unix:"); ok {
		network, address = "unix", path
	}
	dialer := &net.Dialer{Timeout: c.DialTimeout}
	return &worker{
		Endpoint: e,
		header:   []string{e.ID},
		upgrades: map[*upgrade]struct{}{},
		transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dialer.DialContext(ctx, network, address)
			},
			DisableCompression:     true, // what the client and the worker agree on passes through
			DisableKeepAlives:      c.WorkerKeepalive == 0,
			IdleConnTimeout:        c.WorkerKeepalive,
			MaxIdleConnsPerHost:    1024,
			ExpectContinueTimeout:  time.Second,
			MaxResponseHeaderBytes: 1 << 20,
		},
	}
}

func (w *worker) quiet() bool { return w.inFlight == 0 && len(w.upgrades) == 0 }

// settle tells those who wait for the worker to be idle.
func (w *worker) settle() {
	if w.idle != nil && w.quiet() {
		close(w.idle)
		w.idle = nil
	}
}

// ready reports whether a request may be given to the worker.
func (w *worker) ready(limit int) bool {
	if limit > 0 && w.inFlight >= limit {
		return false
	}
	return w.failures == 0 || (!w.probing && !time.Now().Before(w.retryAt))
}

func (w *worker) state() string {
	switch {
	case !w.inService:
		return "leaving"
	case w.failures > 0:
		return "suspect"
	}
	return "serving"
}
