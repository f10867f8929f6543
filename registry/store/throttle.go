package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"tidemark/registry"
)

// Limit is how often something may be tried under one key.
type Limit struct {
	Name   string
	Free   int           // tries without a wait
	First  time.Duration // the wait after these; each one after it is twice as long
	Most   time.Duration // the longest wait
	Forget time.Duration // after this long without a try all is as at first
}

// The limits. An account's is short at its longest, so that nobody can keep its owner out by trying; an address's is wide
// enough for an office behind one.
var (
	signInTo   = Limit{Name: "sign-in-to", Free: 5, First: time.Second, Most: time.Minute, Forget: time.Hour}
	signInFrom = Limit{Name: "sign-in-from", Free: 20, First: 2 * time.Second, Most: 15 * time.Minute, Forget: time.Hour}
	// PreregisterFrom is of preregistrations from one address: a village's office may send a dozen in an hour.
	PreregisterFrom = Limit{Name: "preregister-from", Free: 20, First: 30 * time.Second, Most: 10 * time.Minute, Forget: time.Hour}
)

// maxForget is the longest Forget: what is older is of no use to any limit.
const maxForget = time.Hour

// Try counts a try under a key, or returns registry.Throttled when it comes too early; that one is not counted.
func (s *Store) Try(ctx context.Context, now time.Time, l Limit, key string) error {
	var wait time.Duration
	err := s.inTx(ctx, func(tx *sql.Tx) (err error) {
		wait, err = s.try(ctx, tx, now, l, key)
		return err
	})
	switch {
	case err != nil:
		return fmt.Errorf("count a try: %w", err)
	case wait > 0:
		return registry.Throttled{Wait: wait}
	}
	return nil
}

func (s *Store) try(ctx context.Context, tx *sql.Tx, now time.Time, l Limit, key string) (wait time.Duration, err error) {
	key = l.Name + ":" + key
	var tries int
	var last, until int64
	// Even when there is nothing to change it takes the row, so that those who try at once come one after the other.
	err = s.row(ctx, tx, `INSERT INTO throttle (key, tries, at, until) VALUES (?, 0, 0, 0)
		ON CONFLICT (key) DO UPDATE SET key = excluded.key RETURNING tries, at, until`, key).Scan(&tries, &last, &until)
	if err != nil {
		return 0, err
	}
	if wait := fromMillis(until).Sub(now); until > 0 && wait > 0 {
		return min(wait, l.Most), nil // a clock that was set back must not lock anybody out for long
	}
	if now.Sub(fromMillis(last)) > l.Forget {
		tries = 0
		if _, err := s.exec(ctx, tx, "DELETE FROM throttle WHERE at < ? AND at > 0", millis(now.Add(-maxForget))); err != nil {
			return 0, err
		}
	}
	tries++
	until = 0
	if over := tries - l.Free; over > 0 {
		until = millis(now.Add(min(l.First<<min(over-1, 20), l.Most)))
	}
	_, err = s.exec(ctx, tx, `INSERT INTO throttle (key, tries, at, until) VALUES (?, ?, ?, ?)
		ON CONFLICT (key) DO UPDATE SET tries = excluded.tries, at = excluded.at, until = excluded.until`, key, tries, millis(now), until)
	return 0, err
}

// forgive takes a try back: it was a good one.
func (s *Store) forgive(ctx context.Context, tx *sql.Tx, l Limit, key string) error {
	_, err := s.exec(ctx, tx, "UPDATE throttle SET tries = tries - 1, until = 0 WHERE key = ? AND tries > 0", l.Name+":"+key)
	return err
}
