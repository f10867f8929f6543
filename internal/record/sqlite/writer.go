package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/record"
)

// writer is the one connection that writes, and what it knows of the file. It belongs to one goroutine. Closed, it opens
// itself again at the next transaction.
type writer struct {
	path  string
	db    *sql.DB
	conn  *sql.Conn
	file  os.FileInfo
	stmts map[string]prepared
	full  bool // the disk was, at the last transaction
	// What is in the file, as long as no transaction failed.
	fleets map[string]*fleetRow
	series map[seriesKey]int64
	blob   []byte
}

type fleetRow struct{ id, n int64 }

type seriesKey struct {
	fleet  int64
	signal string
}

func (w *writer) open(ctx context.Context) error {
	db, conn, err := openWriter(ctx, w.path)
	if err != nil {
		return explain(w.path, err)
	}
	w.db, w.conn = db, conn
	w.file, err = os.Stat(w.path)
	w.stmts = map[string]prepared{}
	w.forget()
	return explain(w.path, err)
}

func (w *writer) forget() { w.fleets, w.series = map[string]*fleetRow{}, map[seriesKey]int64{} }

func (w *writer) close() error {
	if w.db == nil {
		return nil
	}
	var errs []error
	for _, s := range w.stmts {
		errs = append(errs, s.Close()) // one left open would keep the file open
	}
	errs = append(errs, w.conn.Close(), w.db.Close())
	w.db, w.conn, w.stmts = nil, nil, nil
	return errors.Join(errs...)
}

// moved reports that the file that is open is no longer the one at the path: what is written to it would be lost.
func (w *writer) moved() bool {
	if w.db == nil {
		return false
	}
	now, err := os.Stat(w.path)
	return err != nil || !os.SameFile(now, w.file)
}

// transact runs work in one transaction, all of it or nothing.
func (w *writer) transact(ctx context.Context, work func(context.Context, *writer) error) error {
	if w.db == nil {
		if _, err := os.Stat(w.path); err != nil {
			return &Error{Kind: ErrMissing, Path: w.path, Hint: "the file was moved or removed; bring it back, or restart Tidemark to begin anew", Err: err}
		}
		if err := w.open(ctx); err != nil {
			return err
		}
	}
	if w.full { // the log, moved into the file, can be written from its start again: that needs less than to let it grow
		w.checkpoint(ctx)
	}
	err := w.try(ctx, work)
	w.full = errors.Is(err, ErrFull)
	return err
}

// checkpoint moves the log into the file, as far as there is room and nobody reads it. Should it not succeed, the log grows.
func (w *writer) checkpoint(ctx context.Context) {
	_, _ = w.conn.ExecContext(ctx, "PRAGMA wal_checkpoint(PASSIVE)")
}

func (w *writer) try(ctx context.Context, work func(context.Context, *writer) error) error {
	_, err := w.conn.ExecContext(ctx, "BEGIN IMMEDIATE")
	if err == nil {
		err = work(ctx, w)
	}
	if err == nil {
		_, err = w.conn.ExecContext(ctx, "COMMIT")
	}
	if err != nil {
		_, _ = w.conn.ExecContext(ctx, "ROLLBACK") // SQLite may have done it already
		w.forget()
	}
	return explain(w.path, err)
}

// prepared is a query that is prepared once and closed with the connection.
type prepared struct{ *sql.Stmt }

func (w *writer) prepare(ctx context.Context, query string) (prepared, error) {
	if p, ok := w.stmts[query]; ok {
		return p, nil
	}
	s, err := w.conn.PrepareContext(ctx, query)
	if err == nil {
		w.stmts[query] = prepared{s}
	}
	return prepared{s}, err
}

func (w *writer) exec(ctx context.Context, query string, args ...any) error {
	p, err := w.prepare(ctx, query)
	if err == nil {
		_, err = p.ExecContext(ctx, args...)
	}
	return err
}

// get reads one row into the given places; sql.ErrNoRows when there is none.
func (w *writer) get(ctx context.Context, query string, args []any, into ...any) error {
	p, err := w.prepare(ctx, query)
	if err == nil {
		err = p.QueryRowContext(ctx, args...).Scan(into...)
	}
	return err
}

// row is one tick, made ready for the file by the caller of Commit so that one bad tick fails alone.
type row struct {
	fleet    string
	at       time.Time
	t        int64
	state    []byte
	samples  []record.Sample // with the size as the first; empty when there is nothing of the kind
	decision *decisionRow
	events   []eventRow
}

type decisionRow struct {
	t        int64
	from, to int
	shadow   bool
	body     []byte
}

type eventRow struct {
	fleet string
	t     int64
	kind  string
	body  []byte
}

func newRow(tick *record.Tick) (row, error) {
	r := row{fleet: tick.Fleet, at: tick.Time, state: tick.State}
	fail := func(what string, err error) (row, error) {
		return row{}, fmt.Errorf("journal: %s of fleet %q: %w", what, tick.Fleet, err)
	}
	var err error
	if r.t, err = toNanos(tick.Time); err != nil {
		return fail("a tick", err)
	}
	if tick.State != nil || len(tick.Readings) > 0 || tick.Size.Known {
		size := fleet.Reading{Time: tick.Time}
		if tick.Size.Known {
			size.Value, size.Quality = float64(tick.Size.Workers()), fleet.Fresh
		}
		r.samples = append(make([]record.Sample, 0, len(tick.Readings)+1), record.Sample{Signal: record.SizeSignal, Reading: size})
		r.samples = append(r.samples, tick.Readings...)
	}
	if (r.samples != nil || tick.Decision != nil) && tick.Fleet == "" {
		return fail("a tick", errors.New("no name, and only events can do without"))
	}
	if d := finite(tick.Decision); d != nil {
		r.decision = &decisionRow{from: d.From, to: d.To, shadow: d.Shadow}
		if r.decision.t, err = toNanos(d.Time); err != nil {
			return fail("a decision", err)
		}
		if r.decision.body, err = json.Marshal(d); err != nil {
			return fail("a decision", err)
		}
	}
	for _, e := range tick.Events {
		row := eventRow{fleet: e.Fleet, kind: string(e.Kind)}
		if row.t, err = toNanos(e.Time); err != nil {
			return fail("an event", err)
		}
		e.ID, e.Decision = 0, finite(e.Decision)
		if row.body, err = json.Marshal(&e); err != nil {
			return fail("an event", err)
		}
		r.events = append(r.events, row)
	}
	return r, nil
}

// finite returns d with figures that are no numbers left out, since JSON has no word for them.
func finite(d *fleet.Decision) *fleet.Decision {
	if d == nil {
		return nil
	}
	c := *d
	c.Reasons = append([]fleet.Reason(nil), d.Reasons...)
	for i := range c.Reasons {
		for _, v := range []*float64{&c.Reasons[i].Value, &c.Reasons[i].Threshold} {
			if math.IsNaN(*v) || math.IsInf(*v, 0) {
				*v = 0
			}
		}
	}
	return &c
}

// put writes one tick.
func (w *writer) put(ctx context.Context, r *row) error {
	if r.samples != nil || r.decision != nil {
		f, err := w.fleet(ctx, r.fleet)
		if err != nil {
			return err
		}
		if r.samples != nil {
			if err := w.putReadings(ctx, f, r); err != nil {
				return err
			}
		}
		if d := r.decision; d != nil {
			if err := w.exec(ctx, "INSERT INTO decisions (fleet, t, from_size, to_size, shadow, body) VALUES (?, ?, ?, ?, ?, ?)",
				f.id, d.t, d.from, d.to, d.shadow, string(d.body)); err != nil {
				return err
			}
		}
	}
	for _, e := range r.events {
		if err := w.exec(ctx, "INSERT INTO events (fleet, t, kind, body) VALUES (?, ?, ?, ?)", e.fleet, e.t, e.kind, string(e.body)); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) putReadings(ctx context.Context, f *fleetRow, r *row) error {
	w.blob = w.blob[:0]
	for _, s := range r.samples {
		id, err := w.seriesID(ctx, f.id, s.Signal)
		if err != nil {
			return err
		}
		w.blob = appendReading(w.blob, id, s.Reading, r.at)
	}
	f.n++
	if err := w.exec(ctx, "INSERT INTO ticks (fleet, t, n, readings) VALUES (?, ?, ?, ?)", f.id, r.t, f.n, w.blob); err != nil {
		return err
	}
	const update = `UPDATE fleets SET n = ?2, tail = min(ifnull(tail, ?3), ?3),
		state_at = CASE WHEN ?4 IS NULL THEN state_at ELSE ?3 END, state = ifnull(?4, state) WHERE id = ?1`
	var state any // a nil []byte would be stored as an empty one
	if r.state != nil {
		state = r.state
	}
	return w.exec(ctx, update, f.id, f.n, r.t, state)
}

// fleet finds or makes the row of a fleet.
func (w *writer) fleet(ctx context.Context, name string) (*fleetRow, error) {
	if f := w.fleets[name]; f != nil {
		return f, nil
	}
	if err := w.exec(ctx, "INSERT INTO fleets (name) VALUES (?) ON CONFLICT DO NOTHING", name); err != nil {
		return nil, err
	}
	f := new(fleetRow)
	if err := w.get(ctx, "SELECT id, n FROM fleets WHERE name = ?", []any{name}, &f.id, &f.n); err != nil {
		return nil, err
	}
	w.fleets[name] = f
	return f, nil
}

// seriesID finds or makes the row of a series.
func (w *writer) seriesID(ctx context.Context, fleetID int64, signal string) (int64, error) {
	key := seriesKey{fleetID, signal}
	if id, ok := w.series[key]; ok {
		return id, nil
	}
	if err := w.exec(ctx, "INSERT INTO series (fleet, signal) VALUES (?, ?) ON CONFLICT DO NOTHING", fleetID, signal); err != nil {
		return 0, err
	}
	var id int64
	if err := w.get(ctx, "SELECT id FROM series WHERE fleet = ? AND signal = ?", []any{fleetID, signal}, &id); err != nil {
		return 0, err
	}
	w.series[key] = id
	return id, nil
}
