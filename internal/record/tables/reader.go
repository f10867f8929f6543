package tables

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/record"
)

// Dialect is what databases differ in.
type Dialect struct {
	// Rewrite turns the placeholders of a query, ? or ?1, into the database's own; nil leaves them.
	Rewrite func(query string) string
	// Explain puts an error of the driver into an operator's words.
	Explain func(error) error
	// Patience is the longest that one question but Ticks waits for an answer; 0: as long as its context.
	Patience time.Duration
	// View is the isolation in which all queries of one transaction see the same state.
	View sql.IsolationLevel
}

func (d *Dialect) rewrite(query string) string {
	if d.Rewrite == nil {
		return query
	}
	return d.Rewrite(query)
}

func (d *Dialect) patient(ctx context.Context) (context.Context, context.CancelFunc) {
	if d.Patience == 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, d.Patience)
}

// Reader answers questions about what was recorded. Its methods may be called at the same time, and see what was committed before.
// Of the times asked for, the earlier is included and the later is not; a zero time does not bound.
type Reader struct {
	DB *sql.DB
	*Dialect
}

// NewReader has a few connections at a time, and keeps fewer at rest.
func NewReader(db *sql.DB, d *Dialect) *Reader {
	db.SetMaxOpenConns(4)
	db.SetMaxIdleConns(IdleReaders)
	db.SetConnMaxIdleTime(time.Minute)
	return &Reader{db, d}
}

// IdleReaders is how many connections of a Reader stay open at rest.
const IdleReaders = 2

// Close ends all questions.
func (r *Reader) Close() error { return r.DB.Close() }

const defaultLimit = 100

// State returns the state of the fleet's last tick that had one, and that tick's time; nil when there is none.
func (r *Reader) State(ctx context.Context, fleet string) ([]byte, time.Time, error) {
	ctx, cancel := r.patient(ctx)
	defer cancel()
	var state []byte
	var at int64
	err := r.DB.QueryRowContext(ctx, r.rewrite("SELECT state, state_at FROM fleets WHERE name = ? AND state_at IS NOT NULL"), fleet).Scan(&state, &at)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, time.Time{}, nil
	}
	if err != nil {
		return nil, time.Time{}, r.Explain(err)
	}
	return state, fromNanos(at), nil
}

// Fleets lists the fleets that left anything, by name.
func (r *Reader) Fleets(ctx context.Context) ([]string, error) {
	return Rows(ctx, r, "SELECT name FROM fleets ORDER BY name", nil, func(s *sql.Rows) (name string, err error) { return name, s.Scan(&name) })
}

// Signals lists the signals that a fleet ever had, by name, without record.SizeSignal.
func (r *Reader) Signals(ctx context.Context, fleet string) ([]string, error) {
	const query = `SELECT signal FROM series WHERE fleet = (SELECT id FROM fleets WHERE name = ?) AND signal <> ? ORDER BY signal`
	return Rows(ctx, r, query, []any{fleet, record.SizeSignal}, func(s *sql.Rows) (name string, err error) { return name, s.Scan(&name) })
}

// Events answers q, newest first, or oldest first when q.After is set. Newest means last committed, whatever the clock said.
func (r *Reader) Events(ctx context.Context, q record.EventQuery) ([]fleet.Event, error) {
	var w where
	if q.Fleet != "" {
		w.add("fleet = ?", q.Fleet)
	}
	if len(q.Kinds) > 0 {
		kinds := make([]any, len(q.Kinds))
		for i, k := range q.Kinds {
			kinds[i] = string(k)
		}
		w.add("kind IN (?"+strings.Repeat(", ?", len(kinds)-1)+")", kinds...)
	}
	w.between(q.Since, q.Until)
	if q.Before != 0 {
		w.add("id < ?", q.Before)
	}
	order := "DESC"
	if q.After != 0 {
		w.add("id > ?", q.After)
		order = "ASC"
	}
	query := "SELECT id, body FROM events" + w.String() + " ORDER BY id " + order + " LIMIT ?"
	return Rows(ctx, r, query, append(w.args, limit(q.Limit)), func(s *sql.Rows) (e fleet.Event, err error) {
		var id int64
		var body []byte
		if err = s.Scan(&id, &body); err == nil {
			err = json.Unmarshal(body, &e)
		}
		e.ID = id
		return e, err
	})
}

// Decisions lists a fleet's stored decisions, newest first; of all fleets when fleet is empty. limit 0 means 100.
func (r *Reader) Decisions(ctx context.Context, name string, since, until time.Time, max int) ([]fleet.Decision, error) {
	var w where
	if name != "" {
		w.add("fleet = (SELECT id FROM fleets WHERE name = ?)", name)
	}
	w.between(since, until)
	query := "SELECT body FROM decisions" + w.String() + " ORDER BY t DESC, id DESC LIMIT ?"
	return Rows(ctx, r, query, append(w.args, limit(max)), scanDecision)
}

// DecisionAt returns the decision that was in force at t: the last one stored at or before it. ok is false when there is none.
func (r *Reader) DecisionAt(ctx context.Context, name string, t time.Time) (d *fleet.Decision, ok bool, err error) {
	const query = `SELECT body FROM decisions WHERE fleet = (SELECT id FROM fleets WHERE name = ?) AND t <= ? ORDER BY t DESC, id DESC LIMIT 1`
	found, err := Rows(ctx, r, query, []any{name, clampNanos(t)}, scanDecision)
	if err != nil || len(found) == 0 {
		return nil, false, err
	}
	return &found[0], true, nil
}

func scanDecision(s *sql.Rows) (d fleet.Decision, err error) {
	var body []byte
	if err = s.Scan(&body); err == nil {
		err = json.Unmarshal(body, &d)
	}
	return d, err
}

// ReadingsAt returns the readings of the fleet's last tick at or before t whose raw readings are still kept, in the order in which they
// were given; none when there is none.
func (r *Reader) ReadingsAt(ctx context.Context, name string, t time.Time) ([]record.Sample, error) {
	ctx, cancel := r.patient(ctx)
	defer cancel()
	tx, err := r.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer tx.end()
	const query = `SELECT f.id, t, readings FROM ticks JOIN fleets f ON f.id = ticks.fleet WHERE f.name = ? AND t <= ? ORDER BY t DESC, ticks.n DESC LIMIT 1`
	var id, at int64
	var blob []byte
	err = tx.row(ctx, query, name, clampNanos(t)).Scan(&id, &at, &blob)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	names := map[int64]string{}
	if err == nil {
		names, err = tx.signals(ctx, id)
	}
	var out []record.Sample
	for err == nil && len(blob) > 0 {
		var series int64
		var s record.Sample
		series, s.Reading, blob, err = nextReading(blob, fromNanos(at))
		if s.Signal = names[series]; s.Signal != record.SizeSignal && err == nil {
			out = append(out, s)
		}
	}
	return out, r.Explain(err)
}

// Ticks hands on the readings of a fleet's ticks whose raw readings are still kept, by time, and each tick's size as record.SizeSignal
// among them. The samples are used again for the next. It ends at the first error that each returns.
func (r *Reader) Ticks(ctx context.Context, name string, since, until time.Time, each func(at time.Time, samples []record.Sample) error) error {
	tx, err := r.begin(ctx)
	if err != nil {
		return err
	}
	defer tx.end()
	var id int64
	if err := tx.row(ctx, "SELECT id FROM fleets WHERE name = ?", name).Scan(&id); errors.Is(err, sql.ErrNoRows) {
		return nil
	} else if err != nil {
		return r.Explain(err)
	}
	names, err := tx.signals(ctx, id)
	if err != nil {
		return r.Explain(err)
	}
	w := where{}
	w.add("fleet = ?", id)
	w.between(since, until)
	found, err := tx.query(ctx, "SELECT t, readings FROM ticks"+w.String()+" ORDER BY t, n", w.args...)
	if err != nil {
		return r.Explain(err)
	}
	defer func() { _ = found.Close() }()
	var samples []record.Sample
	var blob sql.RawBytes
	for found.Next() {
		var at int64
		if err := found.Scan(&at, &blob); err != nil {
			return r.Explain(err)
		}
		samples = samples[:0]
		for b := []byte(blob); len(b) > 0; {
			series, reading, rest, err := nextReading(b, fromNanos(at))
			if err != nil {
				return r.Explain(err)
			}
			samples = append(samples, record.Sample{Signal: names[series], Reading: reading})
			b = rest
		}
		if err := each(fromNanos(at), samples); err != nil {
			return err
		}
	}
	return r.Explain(found.Err())
}

// view is one look at the file: all its queries see the same state of it.
type view struct {
	*sql.Tx
	*Dialect
}

func (r *Reader) begin(ctx context.Context) (view, error) {
	tx, err := r.DB.BeginTx(ctx, &sql.TxOptions{ReadOnly: true, Isolation: r.View})
	return view{tx, r.Dialect}, r.Explain(err)
}

func (v view) query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return v.QueryContext(ctx, v.rewrite(query), args...)
}

func (v view) row(ctx context.Context, query string, args ...any) *sql.Row {
	return v.QueryRowContext(ctx, v.rewrite(query), args...)
}

func (v view) end() { _ = v.Rollback() } // nothing was written

// signals are the names of a fleet's series by id.
func (v view) signals(ctx context.Context, fleetID int64) (map[int64]string, error) {
	s, err := v.query(ctx, "SELECT id, signal FROM series WHERE fleet = ?", fleetID)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Close() }()
	names := map[int64]string{}
	for s.Next() {
		var id int64
		var name string
		if err := s.Scan(&id, &name); err != nil {
			return nil, err
		}
		names[id] = name
	}
	return names, s.Err()
}

// where collects the conditions of a query.
type where struct {
	terms []string
	args  []any
}

func (w *where) add(term string, args ...any) {
	w.terms = append(w.terms, term)
	w.args = append(w.args, args...)
}

func (w *where) between(since, until time.Time) {
	if !since.IsZero() {
		w.add("t >= ?", clampNanos(since))
	}
	if !until.IsZero() {
		w.add("t < ?", clampNanos(until))
	}
}

func (w *where) String() string {
	if len(w.terms) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(w.terms, " AND ")
}

func limit(n int) int {
	if n <= 0 {
		return defaultLimit
	}
	return n
}

// clampNanos is a time to compare with: any time at all is allowed, and none that is stored lies beyond the ends.
func clampNanos(t time.Time) int64 {
	switch {
	case t.Unix() < 0:
		return -1
	case !t.Before(lastTime):
		return lastTime.UnixNano()
	}
	return t.UnixNano()
}

// Rows runs a query and reads each of its rows.
func Rows[T any](ctx context.Context, r *Reader, query string, args []any, scan func(*sql.Rows) (T, error)) ([]T, error) {
	ctx, cancel := r.patient(ctx)
	defer cancel()
	s, err := r.DB.QueryContext(ctx, r.rewrite(query), args...)
	if err != nil {
		return nil, r.Explain(err)
	}
	defer func() { _ = s.Close() }() // its error is s.Err's
	var out []T
	for s.Next() {
		v, err := scan(s)
		if err != nil {
			return nil, r.Explain(err)
		}
		out = append(out, v)
	}
	return out, r.Explain(s.Err())
}
