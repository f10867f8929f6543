package postgres

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"tidemark/internal/lead"
	"tidemark/internal/record"
	"tidemark/internal/record/tables"
)

// writer is the one session that writes and holds the lock. It belongs to one goroutine. Closed, it opens itself again at the next
// transaction, if the lead is still its own.
type writer struct {
	tables.Writer
	settings   *pgx.ConnConfig
	schema     string
	db         *sql.DB
	uptime     func() time.Duration
	term       *lead.Term
	readers    *tables.Reader
	generation int64
	written    int64 // the number of the last transaction
	unsure     int64 // that of one whose end is not known; 0: none
}

func newWriter(settings *pgx.ConnConfig, schema string, uptime func() time.Duration) *writer {
	w := &writer{
		settings: writing(settings), schema: schema, uptime: uptime,
		term: lead.NewTerm(validity, uptime, errLapsed), readers: newReader(settings, patience),
	}
	w.Dialect = w.readers.Dialect
	return w
}

// writing are the settings of the session. The server ends one that says nothing, or nothing more in a transaction, and one whose client's
// machine does not answer: whatever becomes of a leader, its lock is free after silence.
func writing(settings *pgx.ConnConfig) *pgx.ConnConfig {
	settings = settings.Copy()
	for name, value := range map[string]string{
		"idle_session_timeout": milliseconds(silence), "idle_in_transaction_session_timeout": milliseconds(silence), "tcp_user_timeout": milliseconds(silence),
		"statement_timeout": milliseconds(patience), "lock_timeout": milliseconds(patience / 2), "synchronous_commit": "on",
	} {
		settings.RuntimeParams[name] = value
	}
	return settings
}

// open opens the session.
func (w *writer) open(ctx context.Context) error {
	w.db = stdlib.OpenDB(*w.settings)
	w.db.SetMaxOpenConns(1)
	conn, err := w.db.Conn(ctx)
	if err != nil {
		return err
	}
	w.Use(conn)
	return nil
}

// reopen opens a new session for the lead that there was before, and waits a while for the lock: perhaps this daemon's own session before
// has it, which the server takes for alive for a little longer. With the lock, what that one did is over.
func (w *writer) reopen(ctx context.Context) error {
	if err := w.open(ctx); err != nil {
		return err
	}
	if _, err := w.leads(ctx); err != nil {
		return err
	}
	if _, err := w.Conn().ExecContext(ctx, "SELECT pg_advisory_lock(hashtextextended($1, 0))", lockName(w.schema)); err != nil {
		return err
	}
	written, err := w.leads(ctx)
	if err != nil {
		return err
	}
	if w.unsure != 0 && written >= w.unsure { // what the loop believes and what is recorded are no longer the same
		return fmt.Errorf("%w: what seemed lost with the connection is recorded after all; the lead is taken anew from there", record.ErrDeposed)
	}
	w.written, w.unsure = written, 0
	return nil
}

// leads is how many transactions of this generation there are, if it is still the lead's.
func (w *writer) leads(ctx context.Context) (written int64, err error) {
	var generation int64
	err = w.Conn().QueryRowContext(ctx, "SELECT generation, written FROM lead").Scan(&generation, &written)
	if err == nil && generation != w.generation {
		err = w.overtaken()
	}
	return written, err
}

func (w *writer) overtaken() error {
	return fmt.Errorf("%w: generation %d is over", record.ErrDeposed, w.generation)
}

// take takes the lead from the generation and count that were seen last; false: another has the lock, or was quicker, or the leader is
// there after all.
func (w *writer) take(ctx context.Context, from seen, holder string) (bool, error) {
	began := w.uptime()
	if err := w.open(ctx); err != nil {
		return false, err
	}
	var locked bool
	err := w.Conn().QueryRowContext(ctx, "SELECT pg_try_advisory_lock(hashtextextended($1, 0))", lockName(w.schema)).Scan(&locked)
	if err != nil || !locked {
		return false, err
	}
	const take = `UPDATE lead SET generation = generation + 1, written = 0, resigned = FALSE, holder = $3, since = now()
		WHERE generation = $1 AND written = $2 RETURNING generation`
	err = w.Conn().QueryRowContext(ctx, take, from.generation, from.written, holder).Scan(&w.generation)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err == nil {
		w.term.Extend(began)
	}
	return err == nil, err
}

// Transact runs work in one transaction of this generation, all of it or nothing.
func (w *writer) Transact(ctx context.Context, work func(context.Context, *tables.Writer) error) error {
	if err := w.term.Gone(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	began := w.uptime()
	err := w.begin(ctx)
	if err == nil {
		err = w.try(ctx, work)
	}
	switch {
	case err == nil:
		w.term.Extend(began)
	case errors.Is(err, record.ErrDeposed):
		w.drop()
		w.term.Depose(err)
	default:
		w.Forget()
		var refused *pgconn.PgError
		if !errors.As(err, &refused) || w.unsure != 0 || w.db != nil && w.exec(ctx, "ROLLBACK") != nil {
			w.drop() // the session may be what is wrong, and a new one finds out how the transaction ended
		}
	}
	return explain(err)
}

func (w *writer) exec(ctx context.Context, statement string) error {
	_, err := w.Conn().ExecContext(ctx, statement)
	return err
}

// begin begins a transaction. A session that has ended meanwhile is opened anew: nothing was asked of it yet.
func (w *writer) begin(ctx context.Context) error {
	if w.db != nil {
		if w.exec(ctx, "BEGIN") == nil {
			return nil
		}
		w.drop()
	}
	if err := w.reopen(ctx); err != nil {
		w.drop()
		return err
	}
	return w.exec(ctx, "BEGIN")
}

func (w *writer) try(ctx context.Context, work func(context.Context, *tables.Writer) error) error {
	n := w.written + 1
	w.Batch = &batch{conn: w.Conn()}
	done, err := w.Conn().ExecContext(ctx, "UPDATE lead SET written = $1 WHERE generation = $2", n, w.generation)
	if err != nil {
		return err
	}
	if rows, err := done.RowsAffected(); err != nil || rows != 1 {
		return cmp.Or(err, w.overtaken())
	}
	if err := work(ctx, &w.Writer); err != nil {
		return err
	}
	if err := w.Flush(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if err := w.exec(ctx, "COMMIT"); err != nil {
		if w.Batch.(*batch).sent {
			w.unsure = n // also when the server answered: an error at the end may be of what follows a commit
		}
		return err
	}
	w.written = n
	return nil
}

// drop closes the session, and with it the lock.
func (w *writer) drop() {
	if w.db == nil {
		return
	}
	_ = w.Writer.Close() // what it held is given up
	_ = w.db.Close()
	w.db = nil
}

// Close resigns, so that the next leader need not wait.
func (w *writer) Close() error {
	if w.term.Gone() == nil && w.db != nil {
		_ = w.Transact(context.Background(), func(ctx context.Context, t *tables.Writer) error { // whoever does not hear of it waits
			return t.Exec(ctx, "UPDATE lead SET resigned = TRUE")
		})
	}
	w.term.Depose(errGivenUp)
	w.drop()
	return w.readers.Close()
}

// together is how many statements are sent at once.
const together = 1000

// batch sends statements by pgx itself: database/sql has no word for it.
type batch struct {
	conn *sql.Conn
	pgx.Batch
	sent bool // the transaction is not empty
}

// Queue keeps a statement. Bytes are copied: the caller uses them again.
func (b *batch) Queue(query string, args []any) {
	for i, a := range args {
		if bytes, ok := a.([]byte); ok {
			args[i] = append([]byte(nil), bytes...)
		}
	}
	b.Batch.Queue(query, args...)
}

// Flush sends what was queued, and returns the first error. Each part has patience for itself: a fleet's backlog is long.
func (b *batch) Flush(ctx context.Context) error {
	all := b.QueuedQueries
	b.Batch = pgx.Batch{}
	for part := range slices.Chunk(all, together) {
		b.sent = true
		err := b.conn.Raw(func(driver any) error {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
			defer cancel()
			return driver.(*stdlib.Conn).Conn().SendBatch(ctx, &pgx.Batch{QueuedQueries: part}).Close()
		})
		if err != nil {
			return err
		}
	}
	return nil
}
