// Package prove has what every load test is made of: when arrivals come, and when the generator itself was the limit of what a run saw.
// The load is open-loop: visits begin when the schedule says, whether or not earlier ones have ended, and latency counts from the
// scheduled start, so that a service that stalls cannot hide it by slowing its users down. Closed-loop users, who wait for an answer and
// think before they ask again, are there for what really behaves so. Scenarios say what is played, and the package rehearsal plays it.
package prove

import (
	"context"
	"math/rand/v2"
	"time"
)

// Rate is the arrival rate in requests/s at a time since the start.
type Rate func(elapsed time.Duration) float64

// Arrivals says how requests come at a given rate.
type Arrivals uint8

const (
	Poisson Arrivals = iota // independently of each other, as from many users
	Even                    // at equal distances, as from a timer
)

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
