package rehearsal

import (
	"context"
	"sync"
	"time"

	"tidemark/internal/control"
	"tidemark/internal/prove/outcome"
	"tidemark/internal/record"
)

// watch follows what the daemon tells, until stopped.
type watch struct {
	daemon Daemon
	since  time.Time
	cancel context.CancelFunc
	done   chan struct{}

	mu     sync.Mutex
	fleets []*outcome.Fleet
	size   int // workers that serve, -1 when not known
	missed int
	err    error
}

const look = time.Second

func (r *run) watchDaemon(ctx context.Context) *watch {
	w := &watch{daemon: r.Daemon, since: time.Now(), done: make(chan struct{}), size: -1}
	if r.Daemon == nil {
		close(w.done)
		w.cancel = func() {}
		return w
	}
	ctx, w.cancel = context.WithCancel(context.WithoutCancel(ctx))
	every := look
	if n := (r.Scenario.Duration + r.Scenario.Settle) / look; n > maxLooks {
		every *= n/maxLooks + 1
	}
	go func() {
		defer close(w.done)
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			fleets, err := w.daemon.Fleets(ctx)
			if ctx.Err() != nil {
				return
			}
			w.take(fleets, err)
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	return w
}

// maxLooks bounds the readings that are kept of a run.
const maxLooks = 7200

func (w *watch) take(fleets []*control.Status, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.missed, w.err, w.size = w.missed+1, err, -1
		return
	}
	w.size = 0
	for _, st := range fleets {
		f := w.fleet(st)
		if n := len(f.Sizes); n == 0 || f.Sizes[n-1].Time.Before(st.Time) {
			f.Sizes = append(f.Sizes, outcome.Sized{Time: st.Time, Size: st.Size})
		}
		w.size += st.Size.Serving
		for i, s := range st.Signals {
			q := &f.Signals[i].Readings
			if n := len(*q); n == 0 || (*q)[n-1] != s.Reading {
				*q = append(*q, s.Reading)
			}
		}
	}
}

// fleet is the record of a fleet, new at its first sight or when it has other signals than before.
func (w *watch) fleet(st *control.Status) *outcome.Fleet {
	for _, f := range w.fleets {
		if f.Name == st.Fleet && len(f.Signals) == len(st.Signals) {
			return f
		}
	}
	f := &outcome.Fleet{Name: st.Fleet, Bounds: st.Bounds, Tick: st.Tick}
	for _, r := range st.Rules {
		f.Rules = append(f.Rules, outcome.Rule{Rule: r.Rule, State: r.State})
	}
	for _, s := range st.Signals {
		f.Signals = append(f.Signals, outcome.Resource{Signal: s.Name, Unit: s.Unit})
	}
	w.fleets = append(w.fleets, f)
	return f
}

func (w *watch) workers() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.size
}

// stop ends it, and takes the journal's events of the run.
func (w *watch) stop(ctx context.Context, r *run) {
	w.cancel()
	<-w.done
	for _, f := range w.fleets {
		r.out.Fleets = append(r.out.Fleets, *f)
	}
	if w.missed > 0 {
		r.note("the daemon did not answer %d times: %v", w.missed, w.err)
	}
	if w.daemon == nil {
		r.note("no daemon was asked: nothing is known of workers, CPU and scaling")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	const page = 1000
	var last int64
	for first := true; ; first = false {
		q := record.EventQuery{Since: w.since, Limit: page, After: last}
		if first {
			q.After = 1 // oldest first
		}
		events, err := w.daemon.Events(ctx, q)
		if err != nil {
			r.note("the daemon's journal could not be read: %v", err)
			return
		}
		for _, e := range events {
			last = max(last, e.ID)
			if !e.Time.Before(w.since) {
				r.out.Events = append(r.out.Events, e)
			}
		}
		if len(events) < page {
			return
		}
	}
}
