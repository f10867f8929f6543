// Package prove plays load against a service and measures what its users would see. The generator is open-loop: requests
// start when the schedule says, whether or not earlier ones have been answered, and latency counts from the scheduled start
// (a service that stalls cannot hide it by slowing its users down). Closed-loop users, who wait for an answer and think before
// they ask again, are there for what really behaves so. The generator watches itself, and says when it was the limit.
package prove

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"sync"
	"syscall"
	"time"

	"tidemark/internal/decide/signal"
	"tidemark/internal/prove/http1"
)

// Rate is the arrival rate in requests/s at a time since the start.
type Rate func(elapsed time.Duration) float64

// Arrivals says how requests come at a given rate.
type Arrivals uint8

const (
	Poisson Arrivals = iota // independently of each other, as from many users
	Even                    // at equal distances, as from a timer
)

// Load is one run's plan: arrivals at a Rate, or Users who each ask and wait.
type Load struct {
	Rate     Rate
	Arrivals Arrivals
	// Users ask, wait for the answer, and Think before each question; their number is the most that are in flight.
	Users int
	Think func(rng *rand.Rand) time.Duration

	Duration time.Duration
	Seed     uint64
	// Request makes the next request; rng is seeded, so that the same seed asks the same things. With Users it is called from
	// many goroutines, each with an rng of its own.
	Request func(ctx context.Context, rng *rand.Rand) (*http.Request, error)
	// Transport carries the requests; redirects are not followed. Default: plain HTTP/1.1 with kept connections.
	Transport http.RoundTripper
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
	Late     int // requests sent later than LateAfter
	Latency  signal.Histogram
	Lag      signal.Histogram
	Statuses map[int]int
	Errors   map[string]int
	Took     time.Duration
	CPU      time.Duration // this process's own, over the run
	Cores    int           // that it may use
}

const (
	// LateAfter is the lag that a start may have: less cannot be told from the service's own time, and more must not be blamed on it.
	LateAfter = 10 * time.Millisecond
	// FullCPU is the share of its cores from which on the generator counts as out of CPU.
	FullCPU = 0.9
)

// Limit is a way in which the generator was the limit of what a run saw.
type Limit uint8

const (
	Dropping Limit = iota + 1 // an arrival found MaxInFlight requests open
	Lagging                   // the 99th percentile of the lag is above LateAfter
	Starving                  // the generator used up its own cores
)

var limitNames = [...]string{Dropping: "it dropped arrivals", Lagging: "it started requests late", Starving: "it was out of CPU"}

func (l Limit) String() string { return limitNames[l] }

// Limits says how the generator, and not the service, was the limit. A run with any is invalid, whatever it measured.
func (s *Summary) Limits() []Limit {
	var limits []Limit
	if s.Dropped > 0 {
		limits = append(limits, Dropping)
	}
	if s.Requests > 0 && s.Lag.Quantile(0.99) > LateAfter.Seconds() {
		limits = append(limits, Lagging)
	}
	if s.CPU.Seconds() > FullCPU*s.Took.Seconds()*float64(s.Cores) {
		limits = append(limits, Starving)
	}
	return limits
}

// Run plays the load. It returns when each request has ended; when ctx ends it starts no more.
func Run(ctx context.Context, l Load) (*Summary, error) {
	if (l.Rate == nil) == (l.Users == 0) || l.Request == nil || l.Duration <= 0 {
		return nil, errors.New("a load needs a rate or users, a duration and requests")
	}
	if l.MaxInFlight == 0 {
		l.MaxInFlight = 2000
	}
	if l.Timeout == 0 {
		l.Timeout = 30 * time.Second
	}
	if l.Transport == nil {
		own := new(http1.Transport)
		defer own.CloseIdleConnections()
		l.Transport = own
	}
	if l.Think == nil {
		l.Think = func(*rand.Rand) time.Duration { return 0 }
	}
	g := &generator{Load: l, open: make(chan struct{}, l.MaxInFlight), start: time.Now(),
		sum: Summary{Statuses: map[int]int{}, Errors: map[string]int{}, Cores: runtime.GOMAXPROCS(0)}}
	before := OwnCPU()
	var err error
	if l.Users > 0 {
		err = g.live(ctx)
	} else {
		err = g.play(ctx)
	}
	g.wg.Wait()
	g.sum.Took, g.sum.CPU = time.Since(g.start), OwnCPU()-before
	return &g.sum, err
}

// OwnCPU is the CPU time that this process has used.
func OwnCPU() time.Duration {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

type generator struct {
	Load
	open  chan struct{}
	start time.Time
	wg    sync.WaitGroup
	mu    sync.Mutex
	sum   Summary
}

// Schedule is when arrivals come.
type Schedule struct {
	Rate     Rate
	Arrivals Arrivals
	Duration time.Duration
	Seed     uint64
}

// Play calls begin at each arrival's time, with that time since start, until the schedule or ctx ends, or begin fails. The next one
// comes when the rate, summed up since the last, reaches 1; for Poisson arrivals, a number drawn from the exponential
// distribution of mean 1.
func (s Schedule) Play(ctx context.Context, start time.Time, begin func(at time.Duration, rng *rand.Rand) error) error {
	rng := rand.New(rand.NewPCG(s.Seed, 0x7469646d61726b))
	const step = 50 * time.Millisecond // in which the rate is taken as constant
	timer := time.NewTimer(0)
	defer timer.Stop()
	for at := time.Duration(0); ; {
		need := 1.0
		if s.Arrivals == Poisson {
			need = rng.ExpFloat64()
		}
		for ; need > 0 && at < s.Duration; at += step {
			rate := s.Rate(at)
			if rate*step.Seconds() >= need {
				at += time.Duration(need / rate * float64(time.Second))
				break
			}
			need -= rate * step.Seconds()
		}
		if at >= s.Duration {
			return nil
		}
		if err := wait(ctx, timer, start.Add(at)); err != nil {
			return err
		}
		if err := begin(at, rng); err != nil {
			return err
		}
	}
}

// play sends a request at each arrival.
func (g *generator) play(ctx context.Context) error {
	schedule := Schedule{Rate: g.Rate, Arrivals: g.Arrivals, Duration: g.Duration, Seed: g.Seed}
	return schedule.Play(ctx, g.start, func(at time.Duration, rng *rand.Rand) error {
		req, err := g.Request(context.WithoutCancel(ctx), rng)
		if err != nil {
			return err
		}
		select {
		case g.open <- struct{}{}:
			g.wg.Go(func() {
				g.send(req, at)
				<-g.open
			})
		default:
			g.mu.Lock()
			g.sum.Dropped++
			g.mu.Unlock()
		}
		return nil
	})
}

// live has the users ask in turn, each from its first thought on.
func (g *generator) live(ctx context.Context) error {
	failed := make(chan error, g.Users)
	for i := range g.Users {
		g.wg.Go(func() {
			rng := rand.New(rand.NewPCG(g.Seed, uint64(i)))
			timer := time.NewTimer(0)
			defer timer.Stop()
			for {
				at := time.Since(g.start) + g.Think(rng)
				if at >= g.Duration {
					return
				}
				if err := wait(ctx, timer, g.start.Add(at)); err != nil {
					failed <- err
					return
				}
				req, err := g.Request(context.WithoutCancel(ctx), rng)
				if err != nil {
					failed <- err
					return
				}
				g.send(req, at)
			}
		})
	}
	g.wg.Wait()
	close(failed)
	return <-failed
}

// wait returns at a time, or at once when it is past.
func wait(ctx context.Context, timer *time.Timer, until time.Time) error {
	left := time.Until(until)
	if left <= 0 {
		return ctx.Err()
	}
	timer.Reset(left)
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *generator) send(req *http.Request, at time.Duration) {
	o := Outcome{Start: at, Lag: time.Since(g.start) - at}
	ctx, cancel := context.WithTimeout(req.Context(), g.Timeout)
	defer cancel()
	resp, err := g.Transport.RoundTrip(req.WithContext(ctx))
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		o.Status, o.Worker = resp.StatusCode, resp.Header.Get("X-Worker")
	}
	o.Latency, o.Err = time.Since(g.start)-at, err
	g.mu.Lock()
	g.sum.Requests++
	g.sum.Latency.Record(o.Latency.Seconds())
	g.sum.Lag.Record(max(o.Lag.Seconds(), 0))
	if o.Lag > LateAfter {
		g.sum.Late++
	}
	if o.Failed() {
		g.sum.Failed++
	}
	if err != nil {
		g.sum.Errors[reason(err)]++
	} else {
		g.sum.Statuses[o.Status]++
	}
	g.mu.Unlock()
	if g.Each != nil {
		g.Each(o)
	}
}

// reason is an error without the ports that make each one different.
func reason(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Op + ": " + op.Err.Error()
	}
	return err.Error()
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
