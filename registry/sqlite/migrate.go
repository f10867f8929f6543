package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"tidemark/registry"
)

// migrate runs the migrations that the file has not seen, each in its own transaction. The transaction is immediate
// and looks at the version again, so several processes may start on one old file at once.
func migrate(ctx context.Context, db *sql.DB) error {
	if err := useWAL(ctx, db); err != nil {
		return err
	}
	files, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return err
	}
	version, err := schemaVersion(ctx, db)
	if err != nil {
		return err
	}
	if version > len(files) {
		return fmt.Errorf("its schema is version %d and this program knows %d: use a newer registry", version, len(files))
	}
	for i := version; i < len(files); i++ {
		if err := apply(ctx, db, files[i], i); err != nil {
			return fmt.Errorf("migration %s: %w", files[i], err)
		}
	}
	return nil
}

func apply(ctx context.Context, db *sql.DB, file string, from int) error {
	text, err := migrations.ReadFile(file)
	if err != nil {
		return err
	}
	return inTx(ctx, db, func(tx *sql.Tx) error {
		version, err := schemaVersion(ctx, tx)
		if err != nil || version > from { // another process was quicker
			return err
		}
		if _, err := tx.ExecContext(ctx, string(text)); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", from+1))
		return err
	})
}

func schemaVersion(ctx context.Context, q interface {
	QueryRowContext(context.Context, string, ...any) *sql.Row
}) (version int, err error) {
	err = q.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version)
	return version, explain(err)
}

// useWAL makes the file a write-ahead-log one for good. SQLite does not wait for locks here by itself.
func useWAL(ctx context.Context, db *sql.DB) error {
	const tries, pause = 100, 20 * time.Millisecond
	for i := 1; ; i++ {
		var mode string
		err := explain(db.QueryRowContext(ctx, "PRAGMA journal_mode = WAL").Scan(&mode))
		switch {
		case err == nil && mode == "wal":
			return nil
		case err == nil:
			return fmt.Errorf("its file system cannot keep a write-ahead log (journal mode stays %s): use a local disk", mode)
		case !errors.Is(err, registry.ErrBusy) || i == tries:
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}
