// Package store keeps the registry's records in a database: PostgreSQL, directly or behind PgBouncer's transaction
// pooling, or SQLite. The statements are the same for all; what differs is a Dialect, which store/postgres and
// store/sqlite provide together with their schemas.
//
// It owns transactions and what must happen in one: a record, its audit trail, the answer to its op id and its place in
// the sequence of changes are written together or not at all. What may be in a record, and how two edits meet, is
// registry's matter.
//
// Nothing here depends on a session: no prepared statement, temporary table, advisory lock or setting outlives its
// transaction.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"sync"
	"time"

	"tidemark/registry"
)

// Dialect is what differs between databases.
type Dialect struct {
	// Numbered says that placeholders are $1, $2 instead of ?.
	Numbered bool
	// ForUpdate ends a SELECT whose rows nobody else may change before the transaction ends, SkipLocked one that leaves
	// out rows which somebody else has. Empty where a transaction has the whole database to itself.
	ForUpdate, SkipLocked string
	// Kind sorts an error of the driver.
	Kind func(error) ErrorKind
	// Similar is SQL that finds the ids of farmers whose name resembles another, best first; its arguments are the folded
	// name and the limit. SimilarIn finds only those of a village; its arguments are the folded name, the village's and the
	// limit.
	Similar, SimilarIn string
	// SimilarArg turns a folded name into Similar's first argument.
	SimilarArg func(key string) string
	// Load writes many rows at once, each with the index of its table, into tables that it finds empty or refuses.
	Load func(ctx context.Context, db *sql.DB, tables []Table, rows iter.Seq2[int, []any]) error
}

// ErrorKind is what an error of a driver means to the store.
type ErrorKind uint8

// The kinds of error.
const (
	Other ErrorKind = iota
	Taken           // a unique value is another row's
	Busy            // a deadlock, a lock that was not to be had, a serialization failure: the same again may succeed
	Away            // the database cannot be reached, or went away in the middle
)

// Store is safe for concurrent use. Close it after use.
type Store struct {
	db      *sql.DB
	d       Dialect
	queries sync.Map // of statements with ?, the same with the dialect's placeholders

	mu       sync.Mutex
	villages []registry.Village // as last read
}

// New returns a store on a database whose schema is up to date.
func New(db *sql.DB, d Dialect) *Store { return &Store{db: db, d: d} }

// Close closes the connections.
func (s *Store) Close() error { return s.db.Close() }

// Stats tells about the connections to the database.
func (s *Store) Stats() sql.DBStats { return s.db.Stats() }

// Check reads one row: enough to know that the database answers and is a registry.
func (s *Store) Check(ctx context.Context) error {
	var n int64
	if err := s.row(ctx, s.db, `SELECT value FROM counter WHERE name = 'change'`).Scan(&n); err != nil {
		return fmt.Errorf("check the registry: %w", s.explain(err))
	}
	return nil
}

// querier is a *sql.DB or a *sql.Tx.
type querier interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
	QueryRowContext(context.Context, string, ...any) *sql.Row
}

// q writes the placeholders as the database wants them. No statement here has a ? that is not one.
func (s *Store) q(query string) string {
	if !s.d.Numbered {
		return query
	}
	if done, ok := s.queries.Load(query); ok {
		return done.(string)
	}
	var b strings.Builder
	n := 0
	for _, c := range query {
		if c != '?' {
			b.WriteRune(c)
			continue
		}
		n++
		b.WriteByte('$')
		b.WriteString(strconv.Itoa(n))
	}
	if len(query) < 2000 { // those with long lists come in many lengths
		s.queries.Store(query, b.String())
	}
	return b.String()
}

func (s *Store) exec(ctx context.Context, on querier, query string, args ...any) (sql.Result, error) {
	return on.ExecContext(ctx, s.q(query), args...)
}

func (s *Store) row(ctx context.Context, on querier, query string, args ...any) *sql.Row {
	return on.QueryRowContext(ctx, s.q(query), args...)
}

// each calls see with each row of a query's result.
func (s *Store) each(ctx context.Context, on querier, see func(*sql.Rows) error, query string, args ...any) (err error) {
	rows, err := on.QueryContext(ctx, s.q(query), args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for err == nil && rows.Next() {
		err = see(rows)
	}
	return errors.Join(err, rows.Err())
}

// tries is how often a transaction is tried that the database was too busy for.
const tries = 5

// inTx does work in one transaction: all of it is kept, or with an error nothing. When the database asks for it, the
// same work is done again from the start.
func (s *Store) inTx(ctx context.Context, work func(*sql.Tx) error) error {
	for i := 1; ; i++ {
		err := s.once(ctx, work)
		if err == nil || i == tries || s.d.Kind(err) != Busy && !errors.Is(err, registry.ErrBusy) {
			return s.explain(err)
		}
		select {
		case <-ctx.Done():
			return s.explain(err)
		case <-time.After(time.Duration(i*i) * 5 * time.Millisecond):
		}
	}
}

func (s *Store) once(ctx context.Context, work func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := work(tx); err != nil {
		_ = tx.Rollback() // the error that led here says more than a second one
		return err
	}
	return tx.Commit()
}

// explain gives a driver's error the name that callers ask for.
func (s *Store) explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sql.ErrNoRows):
		return registry.ErrNotFound
	case s.d.Kind(err) == Busy:
		return fmt.Errorf("%w: %w", registry.ErrBusy, err)
	case s.d.Kind(err) == Away:
		return fmt.Errorf("%w: %w", registry.ErrAway, err)
	}
	return err
}

// list is a list of n placeholders: (?, ?, ?).
func list(n int) string { return "(" + strings.Repeat("?, ", n-1) + "?)" }

// insert writes rows of equal length with one statement; more is what follows the values.
func (s *Store) insert(ctx context.Context, tx *sql.Tx, table string, columns []string, rows [][]any, more string) error {
	const most = 20_000 // placeholders in a statement, well below either database's limit
	for len(rows) > 0 {
		n := min(len(rows), most/len(columns))
		args := make([]any, 0, n*len(columns))
		for _, r := range rows[:n] {
			args = append(args, r...)
		}
		one := list(len(columns))
		query := "INSERT INTO " + table + " (" + strings.Join(columns, ", ") + ") VALUES " + strings.Repeat(one+", ", n-1) + one + more
		if _, err := s.exec(ctx, tx, query, args...); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
