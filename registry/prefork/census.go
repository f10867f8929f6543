package prefork

import (
	"iter"
	"sync/atomic"
)

// Census is how many workers there are, and what became of those before them since the master started.
type Census struct {
	Wanted int // 0 at the end

	Starting, Idle, Busy int // staying
	Leaving              int // on their way out, most of them with a request

	Starts uint64         // processes started
	Deaths uint64         // of these, ended unasked
	Struck [limits]uint64 // how many passed each Limit
}

// Serving is how many workers take requests.
func (c Census) Serving() int { return c.Idle + c.Busy }

// tally is the part of a census that is not on the scoreboard.
type tally struct {
	wanted, slots  atomic.Int64 // slots: ever used, counted from the first
	starts, deaths atomic.Uint64
	struck         [limits]atomic.Uint64
}

// Census counts, at any time and from any goroutine.
func (m *Master) Census() Census {
	c := Census{Wanted: int(m.tally.wanted.Load()), Starts: m.tally.starts.Load(), Deaths: m.tally.deaths.Load()}
	for limit := range m.tally.struck {
		c.Struck[limit] = m.tally.struck[limit].Load()
	}
	for slot := range int(m.tally.slots.Load()) {
		switch s := m.board.get(slot); {
		case s == gone:
		case m.board.word(slot, leavingWord).Load() != 0:
			c.Leaving++
		case s == starting:
			c.Starting++
		case s == idle:
			c.Idle++
		default:
			c.Busy++
		}
	}
	return c
}

// Counters yields the counters of each slot that ever had a worker, and whether one works there now. Like Census it may be
// called at any time: workers go on counting meanwhile.
func (m *Master) Counters() iter.Seq2[[]atomic.Uint64, bool] {
	return func(yield func([]atomic.Uint64, bool) bool) {
		for slot := range int(m.tally.slots.Load()) {
			if s := m.board.get(slot); !yield(m.board.counters(slot), s == idle || s == busy) {
				return
			}
		}
	}
}
