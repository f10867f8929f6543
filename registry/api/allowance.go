package api

import (
	"sync"
	"time"
)

const (
	// burst is how much of its rate a token may use at once.
	burst = 2 * time.Second
	// noteEvery is how often it is noted that a token is in use: each note is a write to the database.
	noteEvery = time.Minute
)

// allowances is what each token may still ask of this worker. There are no more of them than valid tokens.
type allowances struct {
	rate  float64 // requests a second, 0 for no limit
	mu    sync.Mutex
	known map[int64]*allowance
}

// allowance is a token bucket in the shape of the Generic Cell Rate Algorithm (ATM Forum TM 4.0): all that is kept is when
// the bucket would be full again.
type allowance struct {
	full  time.Time
	noted time.Time
}

// take uses one request of a token's allowance. wait is how long it must wait before it may ask again, 0 when it may ask
// now; note is whether it is time to note that it is in use.
func (a *allowances) take(token int64, now time.Time) (wait time.Duration, note bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.known[token]
	if t == nil {
		t = &allowance{}
		a.known[token] = t
	}
	if note = now.Sub(t.noted) >= noteEvery; note {
		t.noted = now
	}
	if a.rate <= 0 {
		return 0, note
	}
	one := time.Duration(float64(time.Second) / a.rate)
	full := t.full
	if full.Before(now) {
		full = now
	}
	full = full.Add(one)
	if wait = full.Sub(now) - max(burst, one); wait > 0 {
		return wait, note
	}
	t.full = full
	return 0, note
}
