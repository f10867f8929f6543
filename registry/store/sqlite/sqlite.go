// Package sqlite keeps the registry in one SQLite file that several worker processes read and write at once.
package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"tidemark/registry"
	"tidemark/registry/store"
)

//go:embed migrations/*.sql
var migrations embed.FS

// dialect: a write transaction has the whole file to itself, so there is nothing to lock.
var dialect = store.Dialect{
	Kind:    kind,
	Similar: `SELECT rowid FROM farmer_trigram WHERE farmer_trigram MATCH ? ORDER BY rank LIMIT ?`,
	// The plus keeps SQLite from searching the trigrams anew for each of the village's farmers.
	SimilarIn: `SELECT rowid FROM farmer_trigram WHERE farmer_trigram MATCH ? AND +rowid IN (SELECT id FROM farmer WHERE village_key = ?)
		ORDER BY rank LIMIT ?`,
	SimilarArg: anyTrigram,
	Load:       load,
}

// Open opens the registry at path and brings its schema up to date; several processes may do so at once. The file must
// exist: a mistyped path must not become an empty registry. Close the store after use.
func Open(ctx context.Context, path string) (*store.Store, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no registry at %s: make one with `registry seed --db %s --farmers 20000`", path, path)
	}
	// FULL: a farmer who was told "registered" is still registered after a power cut.
	s, err := connect(ctx, path, "mode=rw&_pragma=synchronous(FULL)&_pragma=cache_size(-1024)")
	if err != nil {
		return nil, fmt.Errorf("open registry %s: %w", path, err)
	}
	return s, nil
}

// Create makes a new registry at path, whole or not at all: it is written beside path, filled, and given its name at the
// end. A path that exists is refused.
func Create(ctx context.Context, path string, fill func(*store.Store) error) (err error) {
	exists := fmt.Errorf("%s exists: choose another file or remove it first", path)
	if _, err := os.Stat(path); err == nil {
		return exists
	}
	draft := fmt.Sprintf("%s.%d.new", path, os.Getpid())
	defer func() {
		for _, suffix := range []string{"", "-wal", "-shm"} {
			_ = os.Remove(draft + suffix) // the draft itself has another name by then, or is of no use
		}
	}()
	// A draft that a power cut spoils is thrown away, so it need not be synced until it is complete.
	s, err := connect(ctx, draft, "_pragma=synchronous(OFF)&_pragma=cache_size(-65536)&_pragma=temp_store(MEMORY)")
	if err != nil {
		return fmt.Errorf("create registry %s: %w", path, err)
	}
	if err = errors.Join(fill(s), s.Close()); err != nil {
		return fmt.Errorf("create registry %s: %w", path, err)
	}
	if err := flush(draft); err != nil {
		return fmt.Errorf("create registry %s: %w", path, err)
	}
	switch err := os.Link(draft, path); {
	case errors.Is(err, fs.ErrExist):
		return exists
	case err != nil:
		return fmt.Errorf("create registry %s: %w", path, err)
	}
	return nil
}

func flush(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// connect opens path with one connection, in WAL mode and with the newest schema.
func connect(ctx context.Context, path, options string) (*store.Store, error) {
	dsn := url.URL{Scheme: "file", Opaque: url.PathEscape(path), RawQuery: "_pragma=busy_timeout(5000)&_txlock=immediate&" + options}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	if err := useWAL(ctx, db); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if err := store.Migrate(ctx, db, dialect, migrations, "SELECT 1"); err != nil { // an immediate transaction is the lock
		return nil, errors.Join(err, db.Close())
	}
	return store.New(db, dialect), nil
}

// useWAL makes the file a write-ahead-log one for good. SQLite does not wait for locks here by itself.
func useWAL(ctx context.Context, db *sql.DB) error {
	const tries, pause = 100, 20 * time.Millisecond
	for i := 1; ; i++ {
		var mode string
		err := db.QueryRowContext(ctx, "PRAGMA journal_mode = WAL").Scan(&mode)
		switch {
		case err == nil && mode == "wal":
			return nil
		case err == nil:
			return fmt.Errorf("its file system cannot keep a write-ahead log (journal mode stays %s): use a local disk", mode)
		case kind(err) != store.Busy || i == tries:
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

func kind(err error) store.ErrorKind {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return store.Other
	}
	switch e.Code() & 0xff {
	case lib.SQLITE_BUSY, lib.SQLITE_LOCKED:
		return store.Busy
	case lib.SQLITE_CONSTRAINT:
		return store.Taken
	case lib.SQLITE_CANTOPEN, lib.SQLITE_IOERR, lib.SQLITE_NOTADB:
		return store.Away
	}
	return store.Other
}

// anyTrigram is an FTS5 query for rows with any of the key's trigrams inside its words: those with most come first.
func anyTrigram(key string) string {
	var terms []string
	for t := range registry.Trigrams(key) {
		if len(strings.TrimSpace(t)) == len(t) {
			terms = append(terms, `"`+strings.ReplaceAll(t, `"`, "")+`"`)
		}
	}
	if len(terms) == 0 {
		return `""`
	}
	slices.Sort(terms)
	return strings.Join(terms, " OR ")
}

// load writes rows in one transaction, with one statement prepared for each table. Indexes are made at the end, each from
// all rows in order.
func load(ctx context.Context, db *sql.DB, tables []store.Table, rows iter.Seq2[int, []any]) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	var drop, rebuild []string
	for _, t := range tables {
		var some bool
		if err := tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM "+t.Name+")").Scan(&some); err != nil {
			return err
		}
		if some {
			return fmt.Errorf("the table %s is not empty", t.Name)
		}
		gone, again, err := indexes(ctx, tx, t.Name)
		if err != nil {
			return err
		}
		drop, rebuild = append(drop, gone...), append(rebuild, again...)
	}
	run := func(commands ...string) error {
		for _, command := range commands {
			if _, err := tx.ExecContext(ctx, command); err != nil {
				return err
			}
		}
		return nil
	}
	if err := run(drop...); err != nil {
		return err
	}
	into := make([]*sql.Stmt, len(tables))
	for i, t := range tables {
		stmt, err := tx.PrepareContext(ctx, "INSERT INTO "+t.Name+" ("+strings.Join(t.Columns, ", ")+") VALUES (?"+strings.Repeat(", ?", len(t.Columns)-1)+")")
		if err != nil {
			return err
		}
		defer func() { _ = stmt.Close() }()
		into[i] = stmt
	}
	for i, row := range rows {
		if _, err := into[i].ExecContext(ctx, row...); err != nil {
			return err
		}
	}
	if err := run(append(rebuild, "INSERT INTO farmer_trigram (farmer_trigram) VALUES ('rebuild')", "ANALYZE")...); err != nil {
		return err
	}
	return tx.Commit()
}

// indexes returns what drops a table's indexes and triggers, but for those of its constraints, and what makes them again.
func indexes(ctx context.Context, tx *sql.Tx, table string) (drop, rebuild []string, err error) {
	rows, err := tx.QueryContext(ctx, "SELECT type, name, sql FROM sqlite_master WHERE tbl_name = ? AND type IN ('index', 'trigger') AND sql IS NOT NULL ORDER BY name", table)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var kind, name, text string
		if err := rows.Scan(&kind, &name, &text); err != nil {
			return nil, nil, err
		}
		drop, rebuild = append(drop, "DROP "+kind+" "+name), append(rebuild, text)
	}
	return drop, rebuild, rows.Err()
}
