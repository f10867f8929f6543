package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"tidemark/registry"
)

// Job is work for later, in the shape of OCA's queue_job: the view queue_job shows it under that module's names.
type Job struct {
	ID         int64
	Channel    string // such as root.dedup
	Method     string // what is to be done
	Payload    string // with what
	Identity   string // when not empty: no second job of the same identity while one waits
	ETA        time.Time
	Retry      int // how often it was tried
	MaxRetries int // after which it has failed; 5 when 0
	Priority   int // lower is sooner; 10 is usual
}

// Enqueue adds a job.
func (s *Store) Enqueue(ctx context.Context, now time.Time, j Job) error {
	if err := s.inTx(ctx, func(tx *sql.Tx) error { return s.enqueue(ctx, tx, now, j) }); err != nil {
		return fmt.Errorf("enqueue a job: %w", err)
	}
	return nil
}

func (s *Store) enqueue(ctx context.Context, tx *sql.Tx, now time.Time, j Job) error {
	if j.Priority == 0 {
		j.Priority = 10
	}
	if j.MaxRetries == 0 {
		j.MaxRetries = 5
	}
	_, err := s.exec(ctx, tx, `INSERT INTO job (channel, method, payload, identity, state, eta, retry, max_retries, priority, created_at)
		VALUES (?, ?, ?, ?, 'pending', ?, 0, ?, ?, ?) ON CONFLICT (identity) WHERE state = 'pending' AND identity <> '' DO NOTHING`,
		j.Channel, j.Method, j.Payload, j.Identity, millis(j.ETA), j.MaxRetries, j.Priority, millis(now))
	return err
}

// Channel is how many jobs of a channel, and of those below it such as root.dedup below root, may run at a time.
type Channel struct {
	Name     string
	Capacity int
}

// Claim takes the next job that is due and whose channel is not full, or returns registry.ErrNotFound. A job that was
// started before stale is taken to have been lost with its worker and is given out again. The channels' capacities hold
// for all workers of the registry together, as long as they are told the same.
func (s *Store) Claim(ctx context.Context, now, stale time.Time, channels ...Channel) (j Job, err error) {
	err = s.inTx(ctx, func(tx *sql.Tx) error {
		j = Job{}
		also, args, err := s.full(ctx, tx, stale, channels)
		if err != nil {
			return err
		}
		var eta int64
		err = s.row(ctx, tx, `SELECT id, channel, method, payload, identity, eta, retry, max_retries, priority FROM job
			WHERE (state = 'pending' AND eta <= ? OR state = 'started' AND started_at < ?)`+also+`
			ORDER BY priority, id LIMIT 1`+s.d.SkipLocked, append([]any{millis(now), millis(stale)}, args...)...).
			Scan(&j.ID, &j.Channel, &j.Method, &j.Payload, &j.Identity, &eta, &j.Retry, &j.MaxRetries, &j.Priority)
		if err != nil {
			return err
		}
		j.ETA = fromMillis(eta)
		j.Retry++
		_, err = s.exec(ctx, tx, `UPDATE job SET state = 'started', started_at = ?, retry = ? WHERE id = ?`, millis(now), j.Retry, j.ID)
		return err
	})
	return j, err
}

// full is the condition that a job's channel has a free place, and its arguments. Who asks holds the right to claim until
// its transaction ends: two would both take the last place.
func (s *Store) full(ctx context.Context, tx *sql.Tx, stale time.Time, channels []Channel) (also string, args []any, err error) {
	if len(channels) == 0 {
		return "", nil, nil
	}
	var turn int64
	if err := s.row(ctx, tx, "SELECT value FROM counter WHERE name = 'job'"+s.d.ForUpdate).Scan(&turn); err != nil {
		return "", nil, err
	}
	running := map[string]int{}
	err = s.each(ctx, tx, func(rows *sql.Rows) error {
		var name string
		var n int
		err := rows.Scan(&name, &n)
		for ; name != ""; name = name[:max(strings.LastIndexByte(name, '.'), 0)] {
			running[name] += n
		}
		return err
	}, "SELECT channel, count(*) FROM job WHERE state = 'started' AND started_at >= ? GROUP BY channel", millis(stale))
	for _, c := range channels {
		if running[c.Name] >= c.Capacity {
			also += " AND channel <> ? AND substr(channel, 1, ?) <> ?"
			args = append(args, c.Name, len(c.Name)+1, c.Name+".")
		}
	}
	return also, args, err
}

// Hold tells that a claimed job is being worked on, so that it is not taken for lost. It returns registry.ErrStale when
// it was, and has been given to another worker: this one must leave it alone.
func (s *Store) Hold(ctx context.Context, now time.Time, j Job) error {
	return s.touch(ctx, j, "started_at = ?", millis(now))
}

// Release gives a claimed job back as if it had not been claimed.
func (s *Store) Release(ctx context.Context, j Job) error {
	return s.touch(ctx, j, "state = 'pending', retry = retry - 1")
}

func (s *Store) touch(ctx context.Context, j Job, set string, args ...any) error {
	done, err := s.exec(ctx, s.db, "UPDATE job SET "+set+" WHERE id = ? AND state = 'started' AND retry = ?", append(args, j.ID, j.Retry)...)
	if err != nil {
		return fmt.Errorf("hold a job: %w", s.explain(err))
	}
	if n, err := done.RowsAffected(); err != nil || n == 0 {
		return errors.Join(err, registry.ErrStale)
	}
	return nil
}

// Finish records how a claimed job ended: done; failed for good; or to be tried again at the time again, with a pause.
// Who has lost it to another worker meanwhile records nothing.
func (s *Store) Finish(ctx context.Context, now time.Time, j Job, failure error, again time.Time) error {
	state, text, eta := "done", "", millis(j.ETA)
	if failure != nil {
		state, text = "failed", failure.Error()
		if !again.IsZero() {
			state, eta = "pending", millis(again)
		}
	}
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		_, err := s.exec(ctx, tx, `UPDATE job SET state = ?, exc_info = ?, eta = ?, done_at = ? WHERE id = ? AND state = 'started' AND retry = ?`,
			state, text, eta, millis(now), j.ID, j.Retry)
		return err
	})
	if err != nil {
		return fmt.Errorf("finish a job: %w", err)
	}
	return nil
}

// Backlog is what waits for the registry's workers.
type Backlog struct {
	SyncSessions int           // devices in the middle of a synchronisation
	Jobs         int           // due
	OldestJob    time.Duration // how long the one has been due that waits longest, 0 when none is
}

// sessionIdle is after how long without a request a device's synchronisation counts as broken off.
const sessionIdle = time.Minute

// Backlog counts what waits now.
func (s *Store) Backlog(ctx context.Context, now time.Time) (b Backlog, err error) {
	var since sql.NullInt64
	err = s.row(ctx, s.db, `SELECT count(*), min(CASE WHEN eta > created_at THEN eta ELSE created_at END),
		(SELECT count(*) FROM sync_session WHERE open AND seen_at > ?) FROM job WHERE state = 'pending' AND eta <= ?`,
		millis(now.Add(-sessionIdle)), millis(now)).Scan(&b.Jobs, &since, &b.SyncSessions)
	if err != nil {
		return b, fmt.Errorf("count what waits: %w", s.explain(err))
	}
	if since.Valid {
		b.OldestJob = max(now.Sub(fromMillis(since.Int64)), 0)
	}
	return b, nil
}

// Seen notes that a device has pushed or pulled, and whether its synchronisation goes on.
func (s *Store) Seen(ctx context.Context, now time.Time, device string, goesOn bool) error {
	if err := s.seen(ctx, s.db, now, device, goesOn); err != nil {
		return fmt.Errorf("note a synchronisation: %w", s.explain(err))
	}
	return nil
}

func (s *Store) seen(ctx context.Context, on querier, now time.Time, device string, goesOn bool) error {
	_, err := s.exec(ctx, on, `INSERT INTO sync_session (device, started_at, seen_at, open) VALUES (?, ?, ?, ?)
		ON CONFLICT (device) DO UPDATE SET seen_at = excluded.seen_at, open = excluded.open,
		started_at = CASE WHEN sync_session.open AND sync_session.seen_at > ? THEN sync_session.started_at ELSE excluded.started_at END`,
		device, millis(now), millis(now), goesOn, millis(now.Add(-sessionIdle)))
	return err
}
