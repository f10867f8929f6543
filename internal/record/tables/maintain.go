package tables

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

const (
	slice    = 10 * time.Millisecond // the longest that maintenance keeps a commit waiting, but for its own sync
	foldAt   = 64                    // ticks of a fleet that wait before they are rolled up
	foldMost = 256                   // ticks rolled up at once
	cutMost  = 500                   // rows deleted at once
)

// Maintain rolls up readings and deletes what is older than the retention allows. The latest decision and the state of each fleet always
// stay. Call it every minute or so; it works in small transactions between the commits and can be given up at any time.
func (j *Journal) Maintain(ctx context.Context, now time.Time) error {
	for _, t := range []struct {
		tier
		keep, grain time.Duration // deleting a grain at a time spares the disk
	}{
		{ticks, j.keep.Raw, time.Hour}, {minutes, j.keep.Minutes, day}, {hours, j.keep.Hours, day},
		{decisions, j.keep.Decisions, day}, {events, j.keep.Decisions, day},
	} {
		if cut := clampNanos(now.Add(-t.keep)); cut > 0 {
			if err := j.cut(ctx, t.tier, floor(cut, t.grain)); err != nil {
				return err
			}
		}
	}
	return j.RollUp(ctx, foldAt)
}

// RollUp adds the ticks of the fleets that have at least so many waiting to the roll-ups.
func (j *Journal) RollUp(ctx context.Context, least int) error {
	waiting, err := Rows(ctx, j.Reader, "SELECT id FROM fleets WHERE n - folded >= ?", []any{least}, scanID)
	if err != nil {
		return err
	}
	return j.Each(ctx, waiting, fold)
}

func scanID(s *sql.Rows) (id int64, err error) { return id, s.Scan(&id) }

// Each does the work on each id, as many in one transaction as a slice of time allows. work returns true when it is done
// with the id, and false to go on with it later.
func (j *Journal) Each(ctx context.Context, ids []int64, work func(context.Context, *Writer, int64) (bool, error)) error {
	for len(ids) > 0 {
		err := j.Do(ctx, func(ctx context.Context, w *Writer) error {
			for start := time.Now(); len(ids) > 0 && time.Since(start) < slice; {
				done, err := work(ctx, w, ids[0])
				if err != nil {
					return err
				}
				if done {
					ids = ids[1:]
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// cut deletes what a tier holds from before the given time, unless that was done before.
func (j *Journal) cut(ctx context.Context, t tier, before int64) error {
	var since int64
	err := j.DB.QueryRowContext(ctx, j.rewrite("SELECT since FROM kept WHERE tier = ?"), t.table).Scan(&since)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return j.Explain(err)
	}
	if before <= since {
		return nil
	}
	return j.delete(ctx, t, before)
}

func (j *Journal) delete(ctx context.Context, t tier, before int64) error {
	// First the mark: from now on nobody takes the tier for complete.
	err := j.Do(ctx, func(ctx context.Context, w *Writer) error {
		return w.Exec(ctx, "INSERT INTO kept (tier, since) VALUES (?, ?) ON CONFLICT (tier) DO UPDATE SET since = excluded.since WHERE kept.since < excluded.since", t.table, before)
	})
	if err != nil {
		return err
	}
	owners, err := Rows(ctx, j.Reader, t.owners, nil, scanID)
	if err != nil {
		return err
	}
	return j.Each(ctx, owners, func(ctx context.Context, w *Writer, owner int64) (bool, error) {
		return t.delete(ctx, w, owner, before)
	})
}

// delete removes some of an owner's rows from before the given time, and returns true when none is left.
func (t tier) delete(ctx context.Context, w *Writer, owner, before int64) (bool, error) {
	if t == ticks { // what is not rolled up yet would be lost
		var tail sql.NullInt64
		if err := w.Get(ctx, "SELECT tail FROM fleets WHERE id = ?", []any{owner}, &tail); err != nil {
			return false, err
		}
		if tail.Valid && tail.Int64 < before {
			_, err := fold(ctx, w, owner)
			return false, err
		}
	}
	var last int64
	err := w.Get(ctx, "SELECT t FROM "+t.mine()+" AND t < ?2 ORDER BY t LIMIT 1 OFFSET ?3", []any{owner, before, cutMost}, &last)
	done := errors.Is(err, sql.ErrNoRows)
	if done {
		last, err = before-1, nil
	}
	if err == nil {
		err = w.Exec(ctx, "DELETE FROM "+t.mine()+" AND t <= ?2", owner, last)
	}
	return done, err
}

// fold adds some of a fleet's newest ticks to the roll-ups, each exactly once, and returns true when none is left. Ticks go by
// their number, not by their time: a clock that was put back loses nothing.
func fold(ctx context.Context, w *Writer, fleetID int64) (bool, error) {
	var folded int64
	var tail sql.NullInt64
	if err := w.Get(ctx, "SELECT folded, tail FROM fleets WHERE id = ?", []any{fleetID}, &folded, &tail); err != nil {
		return false, err
	}
	if !tail.Valid {
		return true, nil
	}
	f := folding{minutes: rolls{}, hours: rolls{}}
	if err := f.read(ctx, w, fleetID, tail.Int64, &folded); err != nil {
		return false, err
	}
	if err := f.write(ctx, w); err != nil {
		return false, err
	}
	const rest = "SELECT min(t) FROM ticks WHERE fleet = ? AND t >= ? AND n > ?"
	if err := w.Get(ctx, rest, []any{fleetID, tail.Int64, folded}, &tail); err != nil {
		return false, err
	}
	err := w.Exec(ctx, "UPDATE fleets SET folded = ?, tail = ? WHERE id = ?", folded, tail, fleetID)
	return !tail.Valid, err
}

// folding is the sum of some ticks, to be added to the roll-ups.
type folding struct{ minutes, hours rolls }

func (f *folding) read(ctx context.Context, w *Writer, fleetID, tail int64, folded *int64) error {
	const newest = "SELECT n, t, readings FROM ticks WHERE fleet = ? AND t >= ? AND n > ? ORDER BY n LIMIT ?"
	found, err := w.query(ctx, newest, fleetID, tail, *folded, foldMost)
	if err != nil {
		return err
	}
	defer func() { _ = found.Close() }()
	var blob sql.RawBytes
	for found.Next() {
		var t int64
		if err := found.Scan(folded, &t, &blob); err != nil {
			return err
		}
		for b := []byte(blob); len(b) > 0; {
			id, r, rest, err := nextReading(b, fromNanos(t))
			if err != nil {
				return err
			}
			b = rest
			f.minutes.at(id, floor(t, rollMinutes)).add(r)
			f.hours.at(id, floor(t, rollHours)).add(r)
		}
	}
	return found.Err()
}

func (f *folding) write(ctx context.Context, w *Writer) error {
	for table, all := range map[string]rolls{minutes.table: f.minutes, hours.table: f.hours} {
		query := fmt.Sprintf(`INSERT INTO %[1]s (series, t, n, missing, low, high, sum) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (series, t) DO UPDATE SET
			n = %[1]s.n + excluded.n, missing = %[1]s.missing + excluded.missing, sum = %[1]s.sum + excluded.sum,
			low = CASE WHEN %[1]s.low <= excluded.low THEN %[1]s.low ELSE coalesce(excluded.low, %[1]s.low) END,
			high = CASE WHEN %[1]s.high >= excluded.high THEN %[1]s.high ELSE coalesce(excluded.high, %[1]s.high) END`, table)
		for at, a := range all {
			some := a.n > 0 // without readings there are no extremes
			if err := w.Exec(ctx, query, at.series, at.t, a.n, a.missing, sql.NullFloat64{Float64: a.low, Valid: some}, sql.NullFloat64{Float64: a.high, Valid: some}, a.sum); err != nil {
				return err
			}
		}
	}
	return nil
}

// CutOldest deletes the oldest of what goes first, and returns false when there is nothing left to delete.
func (j *Journal) CutOldest(ctx context.Context) (bool, error) {
	for _, t := range []tier{ticks, minutes, hours, events, decisions} {
		owners, err := Rows(ctx, j.Reader, t.owners, nil, scanID)
		if err != nil {
			return false, err
		}
		oldest, owner := int64(-1), int64(0)
		for _, o := range owners {
			var first sql.NullInt64
			if err := j.DB.QueryRowContext(ctx, j.rewrite("SELECT min(t) FROM "+t.mine()), o).Scan(&first); err != nil {
				return false, j.Explain(err)
			}
			if first.Valid && (oldest < 0 || first.Int64 < oldest) {
				oldest, owner = first.Int64, o
			}
		}
		if oldest < 0 {
			continue
		}
		// A number of rows, not a span of time: a stray row from a clock gone wrong must not set the pace.
		var last int64
		const query = "SELECT max(t) FROM (SELECT t FROM %s ORDER BY t LIMIT ?2) AS oldest"
		if err := j.DB.QueryRowContext(ctx, j.rewrite(fmt.Sprintf(query, t.mine())), owner, cutMost).Scan(&last); err != nil {
			return false, j.Explain(err)
		}
		return true, j.delete(ctx, t, last+1)
	}
	return false, nil
}
