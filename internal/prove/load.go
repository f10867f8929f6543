// Package prove plays load against a service and measures what its users would see. The generator is open-loop: requests
// start when the schedule says, whether or not earlier ones have been answered, and latency counts from the scheduled start
// (a service that stalls cannot hide it by slowing its users down).
package prove

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"tidemark/internal/decide/signal"
)

// Rate is the arrival rate in requests/s at a time since the start.
type Rate func(elapsed time.Duration) float64

// Load is one run's plan.
type Load struct {
	Rate     Rate
	Duration time.Duration
	Seed     uint64
	// Request makes the next request; rng is seeded, so that the same seed asks the same things.
	Request func(ctx context.Context, rng *rand.Rand) (*http.Request, error)
	// MaxInFlight bounds open requests; an arrival beyond it is dropped and counted, which makes a run invalid. Default 2000.
	MaxInFlight int
	Timeout     time.Duration // of one request; default 30 s
	// Each is called for every request that ended, from many goroutines.
	Each func(Outcome)
}

// Outcome is one request's fate.
type Outcome struct {
	Start   time.Duration // scheduled, since the start of the run
	Latency time.Duration // from the scheduled start to the last byte
	Lag     time.Duration // from the scheduled start to the send: the generator's own delay
	Status  int           // 0 when no answer came
	Worker  string        // who answered, as told by the response header X-Worker
	Err     error
}

// Failed reports whether a user would call it a failure: no answer, or one that refuses.
func (o Outcome) Failed() bool { return o.Err != nil || o.Status >= http.StatusBadRequest }

// Summary is what a run saw. Quantiles come from one histogram of all requests, in seconds.
type Summary struct {
	Requests int
	Failed   int
	Dropped  int // arrivals that were never sent
	Latency  signal.Histogram
	Lag      signal.Histogram
	Statuses map[int]int
	Errors   map[string]int
}

// Run plays the load. It returns when each request has ended; when ctx ends it starts no more.
func Run(ctx context.Context, l Load) (*Summary, error) {
	if l.Rate == nil || l.Request == nil || l.Duration <= 0 {
		return nil, errors.New("a load needs a rate, a duration and requests")
	}
	if l.MaxInFlight == 0 {
		l.MaxInFlight = 2000
	}
	if l.Timeout == 0 {
		l.Timeout = 30 * time.Second
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 256, MaxIdleConns: 256, IdleConnTimeout: 10 * time.Second}
	defer transport.CloseIdleConnections()
	g := &generator{Load: l, client: &http.Client{Transport: transport, Timeout: l.Timeout},
		open: make(chan struct{}, l.MaxInFlight), sum: Summary{Statuses: map[int]int{}, Errors: map[string]int{}}}
	err := g.play(ctx)
	g.wg.Wait()
	return &g.sum, err
}

type generator struct {
	Load
	client *http.Client
	open   chan struct{}
	wg     sync.WaitGroup
	mu     sync.Mutex
	sum    Summary
}

// play draws Poisson arrivals of a rate that changes over time, by thinning in small steps: the gap to the next arrival is
// drawn at the rate of the moment, and drawn anew when the rate may have changed before it.
func (g *generator) play(ctx context.Context) error {
	rng := rand.New(rand.NewPCG(g.Seed, 0x7469646d61726b))
	const step = 50 * time.Millisecond
	start := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	at := time.Duration(0)
	for at < g.Duration {
		rate := g.Rate(at)
		gap := step
		arrives := false
		if rate > 0 {
			drawn := time.Duration(rng.ExpFloat64() / rate * float64(time.Second))
			arrives = drawn < step
			gap = min(drawn, step)
		}
		at += gap
		if !arrives {
			continue
		}
		timer.Reset(time.Until(start.Add(at)))
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		req, err := g.Request(context.WithoutCancel(ctx), rng)
		if err != nil {
			return err
		}
		select {
		case g.open <- struct{}{}:
			scheduled := at
			g.wg.Go(func() { g.send(req, start, scheduled) })
		default:
			g.mu.Lock()
			g.sum.Dropped++
			g.mu.Unlock()
		}
	}
	return nil
}

func (g *generator) send(req *http.Request, start time.Time, at time.Duration) {
	defer func() { <-g.open }()
	o := Outcome{Start: at, Lag: time.Since(start) - at}
	resp, err := g.client.Do(req)
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		o.Status, o.Worker = resp.StatusCode, resp.Header.Get("X-Worker")
	}
	o.Latency, o.Err = time.Since(start)-at, err
	g.mu.Lock()
	g.sum.Requests++
	g.sum.Latency.Record(o.Latency.Seconds())
	g.sum.Lag.Record(max(o.Lag.Seconds(), 0))
	if o.Failed() {
		g.sum.Failed++
	}
	if err != nil {
		g.sum.Errors[err.Error()]++
	} else {
		g.sum.Statuses[o.Status]++
	}
	g.mu.Unlock()
	if g.Each != nil {
		g.Each(o)
	}
}

// Tide is a rate through points in time, with straight lines between them. Before the first and after the last it stays;
// there must be one.
func Tide(points ...Point) Rate {
	return func(t time.Duration) float64 {
		for i, p := range points {
			if t > p.At {
				continue
			}
			if i == 0 {
				return p.Rate
			}
			q := points[i-1]
			return q.Rate + (p.Rate-q.Rate)*float64(t-q.At)/float64(p.At-q.At)
		}
		return points[len(points)-1].Rate
	}
}

// Point is a rate at a time.
type Point struct {
	At   time.Duration
	Rate float64 // requests/s
}
