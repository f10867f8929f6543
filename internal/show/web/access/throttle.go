package access

import (
	"sync"
	"time"
)

// throttle makes those who fail wait before the next try: what fails five times waits 1 s, then 2 s, and so on up to a minute. After a
// quarter of an hour without a failure all is forgotten. A try during the wait is not looked at, and lengthens nothing, so that nobody
// is locked out for longer than a minute.
type throttle struct {
	mu  sync.Mutex
	all map[string]*tries
}

type tries struct {
	failed int
	last   time.Time
	until  time.Time // no try before it
}

const (
	freeTries   = 5
	longestWait = time.Minute
	forgetAfter = 15 * time.Minute
	mostTries   = 20_000 // that are remembered
)

// try counts a try against each key as failed, until pass says otherwise: so many tries at once are as many one after the other. It
// returns how long to wait when there may be none.
func (t *throttle) try(now time.Time, keys ...string) (wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, k := range keys {
		if one := t.all[k]; one != nil {
			if now.Sub(one.last) > forgetAfter {
				delete(t.all, k)
				continue
			}
			wait = max(wait, one.until.Sub(now))
		}
	}
	if wait > 0 {
		return wait
	}
	for _, k := range keys {
		one := t.all[k]
		if one == nil {
			t.room(now)
			one = &tries{}
			t.all[k] = one
		}
		one.failed++
		one.last = now
		if over := one.failed - freeTries; over >= 0 {
			one.until = now.Add(min(time.Second<<min(over, 10), longestWait))
		}
	}
	return 0
}

// room makes room for one more key.
func (t *throttle) room(now time.Time) {
	if t.all == nil {
		t.all = map[string]*tries{}
	}
	if len(t.all) < mostTries {
		return
	}
	oldest, key := now, ""
	for k, one := range t.all {
		if now.Sub(one.last) > forgetAfter {
			delete(t.all, k)
		} else if !one.last.After(oldest) {
			oldest, key = one.last, k
		}
	}
	if len(t.all) >= mostTries {
		delete(t.all, key)
	}
}

// pass takes back a try that did not fail; with forget, all that failed before it.
func (t *throttle) pass(key string, forget bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	one := t.all[key]
	switch {
	case one == nil:
	case forget || one.failed <= 1:
		delete(t.all, key)
	default:
		one.failed--
		one.until = time.Time{}
	}
}
