package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
)

// Migrations are applied in the order of their names; the number of those applied is the file's user_version.
//
//go:embed migrations/*.sql
var migrations embed.FS

// applicationID marks a file as Tidemark's ("TIDE").
const applicationID = 0x54494445

// openFile opens the file in the given mode (ro, rw). It must exist.
func openFile(path, mode string, more url.Values) (*sql.DB, error) {
	q := url.Values{"mode": {mode}, "_busy_timeout": {"5000"}, "_pragma": {"cache_size(-2000)", "temp_store(memory)"}}
	maps.Copy(q, more)
	return sql.Open("sqlite", (&url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}).String())
}

// openWriter opens the one connection that writes, and brings the file up to this version. Each commit is synced to the
// disk: a power cut loses nothing that was acknowledged.
func openWriter(ctx context.Context, path string) (*sql.DB, *sql.Conn, error) {
	db, err := openFile(path, "rw", nil)
	if err != nil {
		return nil, nil, err
	}
	db.SetMaxOpenConns(1)
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	if err := setUp(ctx, conn, path); err != nil {
		return nil, nil, errors.Join(err, conn.Close(), db.Close())
	}
	return db, conn, nil
}

func setUp(ctx context.Context, conn *sql.Conn, path string) error {
	version, err := inspect(ctx, conn, path) // before anything is written: it may be another program's file
	if err != nil {
		return err
	}
	const settings = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 4194304"
	if _, err := conn.ExecContext(ctx, settings); err != nil {
		return err
	}
	return migrate(ctx, conn, version)
}

// create makes a new journal beside path and moves it there complete, so that a file that exists is never taken for
// new: an empty one is a damaged one.
func create(ctx context.Context, path string) error {
	fresh := path + ".new"
	for _, p := range []string{fresh, fresh + "-wal", fresh + "-shm"} {
		if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	f, err := os.OpenFile(fresh, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	db, err := openFile(fresh, "rw", nil)
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, fmt.Sprintf("PRAGMA auto_vacuum = INCREMENTAL; PRAGMA application_id = %d", applicationID))
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	db, conn, err := openWriter(ctx, fresh)
	if err != nil {
		return err
	}
	if err := errors.Join(conn.Close(), db.Close()); err != nil {
		return err
	}
	if err := os.Rename(fresh, path); err != nil {
		return err
	}
	return syncFolder(path)
}

func syncFolder(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// inspect refuses files that are not journals, or journals of a newer version, and returns the file's version.
func inspect(ctx context.Context, conn *sql.Conn, path string) (int, error) {
	var id, version int
	if err := conn.QueryRowContext(ctx, "SELECT application_id, user_version FROM pragma_application_id, pragma_user_version").Scan(&id, &version); err != nil {
		return 0, err
	}
	steps, err := migrations.ReadDir("migrations")
	if err != nil {
		return 0, err
	}
	switch {
	case id != applicationID:
		return 0, &Error{Kind: ErrForeign, Path: path, Hint: "it belongs to another program; name another path"}
	case version > len(steps):
		return 0, &Error{Kind: ErrNewer, Path: path, Hint: fmt.Sprintf("its layout is %d and this Tidemark knows up to %d; start the newer Tidemark, or move the file aside", version, len(steps))}
	}
	return version, nil
}

// migrate brings the file up to this version, each step in a transaction of its own.
func migrate(ctx context.Context, conn *sql.Conn, version int) error {
	steps, err := migrations.ReadDir("migrations")
	if err != nil {
		return err
	}
	for i := version; i < len(steps); i++ {
		text, err := migrations.ReadFile("migrations/" + steps[i].Name())
		if err != nil {
			return err
		}
		script := fmt.Sprintf("BEGIN IMMEDIATE;\n%s;\nPRAGMA user_version = %d;\nCOMMIT", text, i+1)
		if _, err := conn.ExecContext(ctx, script); err != nil {
			_, _ = conn.ExecContext(ctx, "ROLLBACK") // the error that counts is the first
			return fmt.Errorf("migration %s: %w", steps[i].Name(), err)
		}
	}
	return nil
}
