package tables

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/record"
)

// Writer writes the rows of ticks by one connection. It belongs to one goroutine.
type Writer struct {
	*Dialect
	// Batch, if there is one, takes the statements that return nothing, until something is asked or the transaction ends.
	Batch Batch
	conn  *sql.Conn
	stmts map[string]prepared
	// What is in the tables, as long as no transaction failed.
	fleets  map[string]*fleetRow
	series  map[seriesKey]int64
	changed []*fleetRow
	blob    []byte
}

// Batch sends many statements in one go: over a network each would cost a round trip.
type Batch interface {
	Queue(query string, args []any)
	Flush(ctx context.Context) error
}

// Use makes conn the writer's connection. Close comes first when it had one.
func (w *Writer) Use(conn *sql.Conn) {
	w.conn, w.stmts = conn, map[string]prepared{}
	w.Forget()
}

// Forget is called when a transaction failed: what it had found or made may not be there.
func (w *Writer) Forget() {
	w.fleets, w.series, w.changed = map[string]*fleetRow{}, map[seriesKey]int64{}, nil
}

// Close closes what was prepared, and the connection; without one it does nothing.
func (w *Writer) Close() error {
	if w.conn == nil {
		return nil
	}
	var errs []error
	for _, s := range w.stmts {
		errs = append(errs, s.Close()) // one left open would keep the connection open
	}
	errs = append(errs, w.conn.Close())
	w.conn, w.stmts = nil, nil
	return errors.Join(errs...)
}

// Conn is the connection; nil without one.
func (w *Writer) Conn() *sql.Conn { return w.conn }

// fleetRow is a fleet and what its row is to say at the end of the transaction: a row that was written anew with each of many ticks
// would make each of them slower than the one before.
type fleetRow struct {
	id, n   int64
	changed bool
	tail    int64 // the earliest tick of those
	stateAt int64
	state   []byte // nil: as before
}

type seriesKey struct {
	fleet  int64
	signal string
}

// prepared is a query that is prepared once and closed with the connection.
type prepared struct{ *sql.Stmt }

func (w *Writer) prepare(ctx context.Context, query string) (prepared, error) {
	if p, ok := w.stmts[query]; ok {
		return p, nil
	}
	s, err := w.conn.PrepareContext(ctx, w.rewrite(query))
	if err == nil {
		w.stmts[query] = prepared{s}
	}
	return prepared{s}, err
}

// Flush writes what the transaction holds back: before something is asked, and at its end.
func (w *Writer) Flush(ctx context.Context) error {
	changed := w.changed
	w.changed = nil
	for _, f := range changed {
		if err := w.settle(ctx, f); err != nil {
			return err
		}
	}
	if w.Batch == nil {
		return nil
	}
	return w.Batch.Flush(ctx)
}

func (w *Writer) settle(ctx context.Context, f *fleetRow) error {
	const update = "UPDATE fleets SET n = ?2, tail = CASE WHEN tail < ?3 THEN tail ELSE ?3 END"
	state := f.state
	f.changed, f.state = false, nil
	if state == nil {
		return w.Exec(ctx, update+" WHERE id = ?1", f.id, f.n, f.tail)
	}
	return w.Exec(ctx, update+", state_at = ?4, state = ?5 WHERE id = ?1", f.id, f.n, f.tail, f.stateAt, state)
}

// Exec runs a statement in the transaction.
func (w *Writer) Exec(ctx context.Context, query string, args ...any) error {
	if w.Batch != nil {
		w.Batch.Queue(w.rewrite(query), args)
		return nil
	}
	p, err := w.prepare(ctx, query)
	if err == nil {
		_, err = p.ExecContext(ctx, args...)
	}
	return err
}

// Get reads one row into the given places; sql.ErrNoRows when there is none.
func (w *Writer) Get(ctx context.Context, query string, args []any, into ...any) error {
	if err := w.Flush(ctx); err != nil {
		return err
	}
	p, err := w.prepare(ctx, query)
	if err == nil {
		err = p.QueryRowContext(ctx, args...).Scan(into...)
	}
	return err
}

// query asks for rows.
func (w *Writer) query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if err := w.Flush(ctx); err != nil {
		return nil, err
	}
	p, err := w.prepare(ctx, query)
	if err != nil {
		return nil, err
	}
	return p.QueryContext(ctx, args...)
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

// Put writes one tick.
func (w *Writer) Put(ctx context.Context, tick *record.Tick) error {
	r, err := newRow(tick)
	if err != nil {
		return err
	}
	return w.put(ctx, &r)
}

func (w *Writer) put(ctx context.Context, r *row) error {
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
			if err := w.Exec(ctx, "INSERT INTO decisions (fleet, t, from_size, to_size, shadow, body) VALUES (?, ?, ?, ?, ?, ?)",
				f.id, d.t, d.from, d.to, d.shadow, string(d.body)); err != nil {
				return err
			}
		}
	}
	for _, e := range r.events {
		if err := w.Exec(ctx, "INSERT INTO events (fleet, t, kind, body) VALUES (?, ?, ?, ?)", e.fleet, e.t, e.kind, string(e.body)); err != nil {
			return err
		}
	}
	return nil
}

func (w *Writer) putReadings(ctx context.Context, f *fleetRow, r *row) error {
	w.blob = w.blob[:0]
	for _, s := range r.samples {
		id, err := w.seriesID(ctx, f.id, s.Signal)
		if err != nil {
			return err
		}
		w.blob = appendReading(w.blob, id, s.Reading, r.at)
	}
	f.n++
	if err := w.Exec(ctx, "INSERT INTO ticks (fleet, t, n, readings) VALUES (?, ?, ?, ?)", f.id, r.t, f.n, w.blob); err != nil {
		return err
	}
	if !f.changed {
		f.changed, f.tail = true, r.t
		w.changed = append(w.changed, f)
	}
	f.tail = min(f.tail, r.t)
	if r.state != nil {
		f.state, f.stateAt = r.state, r.t
	}
	return nil
}

// fleet finds or makes the row of a fleet.
func (w *Writer) fleet(ctx context.Context, name string) (*fleetRow, error) {
	if f := w.fleets[name]; f != nil {
		return f, nil
	}
	if err := w.Exec(ctx, "INSERT INTO fleets (name) VALUES (?) ON CONFLICT DO NOTHING", name); err != nil {
		return nil, err
	}
	f := new(fleetRow)
	if err := w.Get(ctx, "SELECT id, n FROM fleets WHERE name = ?", []any{name}, &f.id, &f.n); err != nil {
		return nil, err
	}
	w.fleets[name] = f
	return f, nil
}

// seriesID finds or makes the row of a series.
func (w *Writer) seriesID(ctx context.Context, fleetID int64, signal string) (int64, error) {
	key := seriesKey{fleetID, signal}
	if id, ok := w.series[key]; ok {
		return id, nil
	}
	if err := w.Exec(ctx, "INSERT INTO series (fleet, signal) VALUES (?, ?) ON CONFLICT DO NOTHING", fleetID, signal); err != nil {
		return 0, err
	}
	var id int64
	if err := w.Get(ctx, "SELECT id FROM series WHERE fleet = ? AND signal = ?", []any{fleetID, signal}, &id); err != nil {
		return 0, err
	}
	w.series[key] = id
	return id, nil
}
