// Package sqlite keeps the registry in one SQLite file that several worker processes read and write at once.
//
// It owns the schema (migrations/, numbered by PRAGMA user_version) and the queries. What may be registered is
// registry's matter; it has been checked before it gets here.
package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"time"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"tidemark/registry"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Store answers one request at a time over one connection, as its worker does. It is safe for concurrent use, but
// callers then wait for each other.
type Store struct {
	db         *sql.DB
	byUID      *sql.Stmt
	byNational *sql.Stmt
	byName     *sql.Stmt
	byNameIn   *sql.Stmt
	check      *sql.Stmt
}

const columns = `SELECT f.uid, f.given_name, f.family_name, f.birth_date, f.sex, f.national_id, f.phone, v.name, v.island,
	f.status, f.created_at, f.updated_at, f.version, f.name_key FROM farmer f JOIN village v ON v.id = f.village_id `

const (
	byUID      = columns + `WHERE f.uid = ?`
	byNational = columns + `WHERE f.national_id = ? AND f.national_id <> ''`
)

// Both halves read an index in order and stop at the limit, so a prefix of one letter costs no more than a long one.
// Within a village the halves sort that village's matches, some hundreds at most.
const (
	byName = `SELECT * FROM (` + columns + `WHERE f.name_key >= ?1 AND f.name_key < ?2 ORDER BY f.name_key LIMIT ?3)
	UNION SELECT * FROM (` + columns + `WHERE f.other_key >= ?1 AND f.other_key < ?2 ORDER BY f.other_key LIMIT ?3)
	ORDER BY name_key, uid LIMIT ?3`
	inVillage = `f.village_id IN (SELECT id FROM village WHERE key = ?4) AND `
	byNameIn  = `SELECT * FROM (` + columns + `WHERE ` + inVillage + `f.name_key >= ?1 AND f.name_key < ?2 ORDER BY f.name_key LIMIT ?3)
	UNION SELECT * FROM (` + columns + `WHERE ` + inVillage + `f.other_key >= ?1 AND f.other_key < ?2 ORDER BY f.other_key LIMIT ?3)
	ORDER BY name_key, uid LIMIT ?3`
)

// Open opens the registry at path and brings its schema up to date; several processes may do so at once. The file must
// exist: a mistyped path must not become an empty registry. Close the store after use.
func Open(ctx context.Context, path string) (*Store, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no registry at %s: make one with `registry seed --db %s --farmers 20000`", path, path)
	}
	// FULL: a farmer who was told "registered" is still registered after a power cut.
	db, err := connect(ctx, path, "mode=rw&_pragma=synchronous(FULL)&_pragma=cache_size(-1024)")
	if err != nil {
		return nil, fmt.Errorf("open registry %s: %w", path, err)
	}
	s := &Store{db: db}
	if err := s.prepare(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open registry %s: %w", path, err), db.Close())
	}
	return s, nil
}

// connect opens path with one connection, in WAL mode and with the newest schema.
func connect(ctx context.Context, path, options string) (*sql.DB, error) {
	dsn := url.URL{Scheme: "file", Opaque: url.PathEscape(path), RawQuery: "_pragma=busy_timeout(5000)&_pragma=foreign_keys(1)&_txlock=immediate&" + options}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	if err := migrate(ctx, db); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

func (s *Store) prepare(ctx context.Context) error {
	for _, p := range []struct {
		stmt  **sql.Stmt
		query string
	}{
		{&s.byUID, byUID},
		{&s.byNational, byNational},
		{&s.byName, byName},
		{&s.byNameIn, byNameIn},
		{&s.check, `SELECT id FROM village LIMIT 1`},
	} {
		var err error
		if *p.stmt, err = s.db.PrepareContext(ctx, p.query); err != nil { //nolint:sqlclosecheck // closed with the store's connection
			return explain(err)
		}
	}
	return nil
}

// Close ends the connection. The last one to close the file folds its write-ahead log into it.
func (s *Store) Close() error { return s.db.Close() }

// Check reads one row: enough to know that the file is there, readable and a registry.
func (s *Store) Check(ctx context.Context) error {
	var id int64
	if err := s.check.QueryRowContext(ctx).Scan(&id); err != nil && !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("check the registry: %w", explain(err))
	}
	return nil
}

// Count returns how many farmers there are; it reads a whole index.
func (s *Store) Count(ctx context.Context) (n int, err error) {
	err = s.db.QueryRowContext(ctx, `SELECT count(*) FROM farmer`).Scan(&n)
	return n, explain(err)
}

// ByUID returns the farmer with this uid, or registry.ErrNotFound.
func (s *Store) ByUID(ctx context.Context, uid string) (registry.Farmer, error) {
	return one(s.byUID.QueryRowContext(ctx, uid))
}

// ByNationalID returns the farmer with this national id, or registry.ErrNotFound.
func (s *Store) ByNationalID(ctx context.Context, id string) (registry.Farmer, error) {
	return one(s.byNational.QueryRowContext(ctx, id))
}

// ByName returns at most limit farmers whose "family given" or "given family" name begins with name, in alphabetical
// order. With a village only those who live in one of that name. Case, accents and glottal stops do not matter.
func (s *Store) ByName(ctx context.Context, name, village string, limit int) ([]registry.Farmer, error) {
	key := registry.Fold(name)
	args := []any{key, key + "\U0010FFFF", limit}
	stmt := s.byName
	if village != "" {
		stmt, args = s.byNameIn, append(args, registry.Fold(village))
	}
	found := []registry.Farmer{}
	err := each(stmt.QueryContext(ctx, args...))(func(row scanner) error {
		f, err := scan(row)
		found = append(found, f)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look up a name: %w", err)
	}
	return found, nil
}

// Register stores a new farmer and returns what is stored, and whether it was new: the same Registration sent again
// finds the first. It needs a uid. It returns registry.ErrUIDTaken, ErrNationalIDTaken, ErrVillageUnknown,
// ErrVillageUnclear or ErrBusy.
func (s *Store) Register(ctx context.Context, r registry.Registration, now time.Time) (f registry.Farmer, created bool, err error) {
	now = time.UnixMilli(now.UnixMilli()).UTC()
	err = inTx(ctx, s.db, func(tx *sql.Tx) error {
		village, err := findVillage(ctx, tx, &r)
		if err != nil {
			return err
		}
		switch f, err = one(tx.QueryRowContext(ctx, byUID, r.UID)); {
		case err == nil && f.Registration == r:
			return nil
		case err == nil:
			return registry.ErrUIDTaken
		case !errors.Is(err, registry.ErrNotFound):
			return err
		}
		switch _, err := one(tx.QueryRowContext(ctx, byNational, r.NationalID)); {
		case err == nil:
			return registry.ErrNationalIDTaken
		case !errors.Is(err, registry.ErrNotFound):
			return err
		}
		f, created = registry.Farmer{Registration: r, CreatedAt: now, UpdatedAt: now, Version: 1}, true
		_, err = tx.ExecContext(ctx, insert, row(f, village)...)
		return err
	})
	if err != nil {
		return registry.Farmer{}, false, fmt.Errorf("register a farmer: %w", err)
	}
	return f, created, nil
}

// findVillage returns the village's id and writes its proper name and island into r.
func findVillage(ctx context.Context, tx *sql.Tx, r *registry.Registration) (id int64, err error) {
	n := 0
	err = each(tx.QueryContext(ctx, `SELECT id, name, island FROM village WHERE key = ?1 AND (?2 = '' OR island_key = ?2) LIMIT 2`,
		registry.Fold(r.Village), registry.Fold(r.Island)))(func(row scanner) error {
		n++
		return row.Scan(&id, &r.Village, &r.Island)
	})
	switch {
	case err != nil:
		return 0, err
	case n == 0:
		return 0, registry.ErrVillageUnknown
	case n > 1:
		return 0, registry.ErrVillageUnclear
	}
	return id, nil
}

// scanner is a *sql.Row or *sql.Rows.
type scanner interface{ Scan(...any) error }

func scan(row scanner) (f registry.Farmer, err error) {
	var created, updated int64
	var key string // there for the order of a UNION only
	err = row.Scan(&f.UID, &f.GivenName, &f.FamilyName, &f.BirthDate, &f.Sex, &f.NationalID, &f.Phone, &f.Village, &f.Island,
		&f.Status, &created, &updated, &f.Version, &key)
	f.CreatedAt, f.UpdatedAt = time.UnixMilli(created).UTC(), time.UnixMilli(updated).UTC()
	return f, err
}

func one(row *sql.Row) (registry.Farmer, error) {
	f, err := scan(row)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return f, registry.ErrNotFound
	case err != nil:
		return f, fmt.Errorf("look up a farmer: %w", explain(err))
	}
	return f, nil
}

// each calls a function with each row of a query's result, and closes the result.
func each(rows *sql.Rows, err error) func(func(scanner) error) error {
	return func(see func(scanner) error) error {
		if err != nil {
			return explain(err)
		}
		for err == nil && rows.Next() {
			err = see(rows)
		}
		return explain(errors.Join(err, rows.Err(), rows.Close()))
	}
}

// inTx does work in one immediate transaction: all of it is kept, or with an error nothing.
func inTx(ctx context.Context, db *sql.DB, work func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return explain(err)
	}
	if err := work(tx); err != nil {
		return explain(errors.Join(err, tx.Rollback()))
	}
	return explain(tx.Commit())
}

// explain turns SQLite's "locked" into registry.ErrBusy: it is the caller's cue to try again.
func explain(err error) error {
	var e *sqlite.Error
	if errors.As(err, &e) && e.Code()&0xff == lib.SQLITE_BUSY {
		return fmt.Errorf("%w: %w", registry.ErrBusy, err)
	}
	return err
}
