// Package work runs the jobs of the registry's queue: what must not hold up a request. Any number of processes may do so
// at once.
//
// It owns when a job is taken, tried again and given up; what a job does is a Method's matter. A job is done at least once:
// one whose worker was killed is taken again after Lost, so a method must have its effect once however often it runs.
package work

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"tidemark/registry"
	"tidemark/registry/store"
)

// Method is what jobs of one name do.
type Method struct {
	// Do does one. Its context ends when the worker must stop or has lost the job; Do should end soon then, with an error.
	Do func(context.Context, store.Job) error
	// GaveUp, which may be nil, hears of a job that has failed for good.
	GaveUp func(context.Context, store.Job, error) error
}

// Config is what a worker is made of.
type Config struct {
	Store    *store.Store
	Methods  map[string]Method
	Channels []store.Channel // with root, whose capacity is how many jobs run at a time
	Poll     time.Duration   // how long a worker without a job waits before it asks for one
	Beat     time.Duration   // how often it tells that a job is being worked on
	Grace    time.Duration   // how long jobs may go on when the worker must stop
	Now      func() time.Time
	Tell     func(Event) // called from several goroutines
}

// Lost is after how many missed beats a job counts as lost with its worker.
const Lost = 6

// Event is something that a worker tells.
type Event struct {
	What    What
	Job     store.Job // of no meaning for Away and Back
	Took    time.Duration
	Pause   time.Duration // until a Retried job is due
	Trouble error         // of a Retried or Failed job, or of the database
}

// What an Event is about.
type What uint8

// The events. A job that has Started ends with one of the five that follow.
const (
	Started  What = iota
	Done          //
	Retried       // it failed, and will be tried again
	Failed        // for good
	Released      // given back because the worker stops
	Gone          // another worker has it
	Away          // the database gives out no jobs
	Back          //
)

func (w What) String() string {
	return [...]string{"started", "done", "retried", "failed", "released", "lost", "away", "back"}[w]
}

// Pause is how long a job waits that has been tried n times: 10 s, 30 s, 90 s and so on, at most an hour.
func Pause(n int) time.Duration {
	const first, most = 10 * time.Second, time.Hour
	pause := first
	for ; n > 1 && pause < most; n-- {
		pause *= 3
	}
	return min(pause, most)
}

var channelName = regexp.MustCompile(`^root(\.[a-z0-9_]+)*$`)

// ParseChannels reads capacities such as root:2,root.dedup:1.
func ParseChannels(text string) ([]store.Channel, error) {
	var all []store.Channel
	for part := range strings.SplitSeq(text, ",") {
		name, number, _ := strings.Cut(strings.TrimSpace(part), ":")
		n, err := strconv.Atoi(number)
		switch {
		case err != nil || n < 1 || n > 100 || !channelName.MatchString(name):
			return nil, fmt.Errorf("%q is no channel with its capacity from 1 to 100: write root:2,root.dedup:1", part)
		case slices.ContainsFunc(all, func(c store.Channel) bool { return c.Name == name }):
			return nil, fmt.Errorf("the channel %s comes twice", name)
		}
		all = append(all, store.Channel{Name: name, Capacity: n})
	}
	if !slices.ContainsFunc(all, isRoot) {
		return nil, errors.New("the capacity of root is missing: write root:2,root.dedup:1")
	}
	return all, nil
}

func isRoot(c store.Channel) bool { return c.Name == "root" }

// Slots is how many jobs run at a time.
func (c *Config) Slots() int { return c.Channels[slices.IndexFunc(c.Channels, isRoot)].Capacity }

// Run works until ctx ends; then it takes no more jobs, lets those in hand go on for Grace and gives back the rest.
func Run(ctx context.Context, c Config) {
	// Jobs outlive ctx by Grace.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	var running sync.WaitGroup
	free := make(chan struct{}, c.Slots()) // has a token for each job that runs
	ended := make(chan struct{}, 1)        // a job has ended: there may be room for another
	away := false
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			continue
		case free <- struct{}{}:
		}
		now := c.Now()
		j, err := c.Store.Claim(ctx, now, now.Add(-Lost*c.Beat), c.Channels...)
		if err == nil {
			running.Go(func() {
				c.do(life, j)
				<-free
				select {
				case ended <- struct{}{}:
				default:
				}
			})
		} else {
			<-free
		}
		trouble := err != nil && !errors.Is(err, registry.ErrNotFound) && !errors.Is(err, registry.ErrBusy) && ctx.Err() == nil
		if trouble != away {
			away = trouble
			c.Tell(Event{What: map[bool]What{true: Away, false: Back}[away], Trouble: err})
		}
		if err == nil {
			continue
		}
		select {
		case <-ctx.Done():
		case <-ended:
		case <-time.After(c.Poll):
		}
	}
	timer := time.AfterFunc(c.Grace, end)
	defer timer.Stop()
	running.Wait()
}

// do does one job and records how it ended.
func (c *Config) do(ctx context.Context, j store.Job) {
	began := time.Now()
	c.Tell(Event{What: Started, Job: j})
	err := c.attempt(ctx, j)
	e := Event{What: Done, Job: j, Trouble: err}
	// What is to be recorded is recorded also when the worker must stop.
	record, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	now := c.Now()
	switch {
	case err == nil:
		err = c.Store.Finish(record, now, j, nil, time.Time{})
	case errors.Is(err, registry.ErrStale):
		e.What, err = Gone, nil
	case ctx.Err() != nil:
		e.What = Released
		if err = c.Store.Release(record, j); errors.Is(err, registry.ErrStale) {
			e.What, err = Gone, nil
		}
	case j.Retry < j.MaxRetries:
		e.What, e.Pause = Retried, Pause(j.Retry)
		err = c.Store.Finish(record, now, j, err, now.Add(e.Pause))
	default:
		e.What = Failed
		failure := err
		err = c.Store.Finish(record, now, j, failure, time.Time{})
		if gaveUp := c.Methods[j.Method].GaveUp; gaveUp != nil && err == nil {
			err = gaveUp(record, j, failure)
		}
	}
	if err != nil { // the database is away: the job is found lost when it is back
		e.What, e.Trouble = Gone, errors.Join(e.Trouble, err)
	}
	e.Took = time.Since(began)
	c.Tell(e)
}

// attempt does one job, and tells the queue meanwhile that it is being worked on. registry.ErrStale says that another
// worker has it.
func (c *Config) attempt(ctx context.Context, j store.Job) (err error) {
	if j.Retry > j.MaxRetries {
		return fmt.Errorf("its worker was lost %d times", j.MaxRetries)
	}
	method, ok := c.Methods[j.Method]
	if !ok {
		return fmt.Errorf("this program has no method %q: use a newer one", j.Method)
	}
	ctx, stop := context.WithCancelCause(ctx)
	var beating sync.WaitGroup
	beating.Go(func() {
		tick := time.NewTicker(c.Beat)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if err := c.Store.Hold(ctx, c.Now(), j); errors.Is(err, registry.ErrStale) {
					stop(err)
				}
			}
		}
	})
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("the method %s panicked: %v", j.Method, v)
		}
		if lost := context.Cause(ctx); errors.Is(lost, registry.ErrStale) {
			err = lost
		}
		stop(nil)
		beating.Wait()
	}()
	return method.Do(ctx, j)
}
