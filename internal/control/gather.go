package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tidemark/internal/fleet"
)

// call runs something that may hang without ever letting it hold up the loop: it is waited for until ctx ends, and not
// started again while it is still running.
type call[T any] struct {
	running chan struct{} // closed when the running call has returned; nil when none runs
	since   time.Time
}

// result is what a call brought.
type result[T any] struct {
	value T
	err   error
}

// start begins the call unless the one before still hangs. The result arrives on the channel; nothing arrives when it was not
// started.
func (c *call[T]) start(ctx context.Context, now time.Time, f func(context.Context) (T, error)) (<-chan result[T], error) {
	if c.running != nil {
		select {
		case <-c.running:
		default:
			return nil, fmt.Errorf("no answer since %s", c.since.Format(time.TimeOnly))
		}
	}
	done, out := make(chan struct{}), make(chan result[T], 1)
	c.running, c.since = done, now
	go func() {
		defer close(done)
		v, err := f(ctx)
		out <- result[T]{v, err}
	}()
	return out, nil
}

// do starts the call and waits for it.
func (c *call[T]) do(ctx context.Context, now time.Time, f func(context.Context) (T, error)) (T, error) {
	out, err := c.start(ctx, now, f)
	if err == nil {
		var r result[T]
		if r, err = await(ctx, out); err == nil {
			return r.value, r.err
		}
	}
	var none T
	return none, err
}

// await waits for a result. One that has come in time is taken also when ctx has ended since, while others were waited for.
func await[T any](ctx context.Context, out <-chan result[T]) (result[T], error) {
	select {
	case r := <-out:
		return r, nil
	case <-ctx.Done():
	}
	select {
	case r := <-out:
		return r, nil
	default:
		return result[T]{}, timedOut(ctx)
	}
}

func timedOut(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return errors.New("no answer in time")
	}
	return ctx.Err()
}

// gather reads all sources at once, and then derives from them. One that fails, or does not answer in time, is missing; it costs the
// others nothing.
func (r *runner) gather(ctx context.Context, scene fleet.Scene) {
	ctx, cancel := context.WithTimeout(ctx, r.opts.ReadTimeout)
	defer cancel()
	waiting := make([]<-chan result[fleet.Reading], len(r.parts.Sources))
	for i, src := range r.parts.Sources {
		r.readings[i], r.readErrs[i] = fleet.Reading{Time: scene.Now}, nil
		if src == nil {
			continue
		}
		waiting[i], r.readErrs[i] = r.reads[i].start(ctx, scene.Now, func(ctx context.Context) (fleet.Reading, error) {
			return src.Read(ctx, scene)
		})
	}
	for i, out := range waiting {
		if out == nil {
			continue
		}
		got, err := await(ctx, out)
		if err != nil {
			r.readErrs[i] = err
			continue
		}
		r.readErrs[i] = got.err
		if got.err == nil || got.value.Quality != fleet.Fresh { // an error never comes with a number
			r.readings[i] = got.value
		}
		r.readings[i].Time = scene.Now
	}
	for i, d := range r.parts.Derived {
		r.readings[i], r.readErrs[i] = d.Derive(scene, r.readings)
	}
}
