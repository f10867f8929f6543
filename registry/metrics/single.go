package metrics

import (
	"iter"
	"sync/atomic"

	"tidemark/registry/prefork"
)

// Single is the fleet of a worker that has no master. Its zero value is ready.
type Single struct {
	words [Words]atomic.Uint64
	busy  atomic.Bool
}

// Words are for the worker's Recorder.
func (s *Single) Words() []atomic.Uint64 { return s.words[:] }

// Busy tells whether the worker has a connection in hand.
func (s *Single) Busy(yes bool) { s.busy.Store(yes) }

// Census is of one worker.
func (s *Single) Census() prefork.Census {
	c := prefork.Census{Wanted: 1, Starts: 1, Idle: 1}
	if s.busy.Load() {
		c.Idle, c.Busy = 0, 1
	}
	return c
}

// Counters yields those of the one worker.
func (s *Single) Counters() iter.Seq2[[]atomic.Uint64, bool] {
	return func(yield func([]atomic.Uint64, bool) bool) { yield(s.words[:], true) }
}
