package accesslog

import "time"

// tally counts requests and failures over the latest window of time. It keeps the running counts as they stood at each
// read and takes the window's start between two of them, so that reads at uneven times give even rates.
type tally struct {
	window time.Duration
	now    mark
	marks  []mark // oldest first; the first is at or before the window's start once that much time was seen
}

type mark struct {
	at               time.Time
	requests, failed uint64
}

// perWindow bounds the marks kept, however often the log is read.
const perWindow = 64

func (t *tally) count(failed bool) {
	t.now.requests++
	if failed {
		t.now.failed++
	}
}

// mark notes that everything up to now was counted.
func (t *tally) mark(now time.Time) {
	t.now.at = now
	n := len(t.marks)
	if n >= 2 && t.marks[n-1].at.Sub(t.marks[n-2].at) < t.window/perWindow {
		t.marks[n-1] = t.now
	} else {
		t.marks = append(t.marks, t.now)
	}
	start, drop := now.Add(-t.window), 0
	for drop+1 < len(t.marks) && !t.marks[drop+1].at.After(start) {
		drop++
	}
	t.marks = append(t.marks[:0], t.marks[drop:]...)
}

// restart forgets everything: for a time, requests may have gone uncounted.
func (t *tally) restart() { t.marks = t.marks[:0] }

// latest returns the requests and failures of the window that ends at the last mark, and how much of it was seen: zero
// before the second mark, less than the window soon after the start.
func (t *tally) latest() (requests, failed float64, seen time.Duration) {
	if len(t.marks) < 2 {
		return 0, 0, 0
	}
	first, last := t.marks[0], t.marks[len(t.marks)-1]
	requests, failed = float64(last.requests-first.requests), float64(last.failed-first.failed)
	seen = last.at.Sub(first.at)
	if over := seen - t.window; over > 0 {
		// Requests between two reads are taken as evenly spread.
		next := t.marks[1]
		share := float64(over) / float64(next.at.Sub(first.at))
		requests -= share * float64(next.requests-first.requests)
		failed -= share * float64(next.failed-first.failed)
		seen = t.window
	}
	return requests, failed, seen
}
