package store

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
)

// Migrate runs the migrations (files *.sql, in the order of their names) that the database has not seen, each in its own
// transaction; several processes may start on one old database at once. lock keeps the others out until the transaction
// ends.
func Migrate(ctx context.Context, db *sql.DB, d Dialect, files fs.FS, lock string) error {
	s := New(db, d)
	names, err := fs.Glob(files, "migrations/*.sql")
	if err != nil {
		return err
	}
	for i := range names {
		err := s.inTx(ctx, func(tx *sql.Tx) error {
			if _, err := tx.ExecContext(ctx, lock); err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)`); err != nil {
				return err
			}
			var version int
			if err := tx.QueryRowContext(ctx, `SELECT coalesce(max(version), 0) FROM schema_version`).Scan(&version); err != nil {
				return err
			}
			if version > len(names) {
				return fmt.Errorf("its schema is version %d and this program knows %d: use a newer registry", version, len(names))
			}
			if version > i { // done before, or by another process just now
				return nil
			}
			text, err := fs.ReadFile(files, names[i])
			if err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, string(text)); err != nil {
				return fmt.Errorf("%s: %w", names[i], err)
			}
			_, err = tx.ExecContext(ctx, fmt.Sprintf(`INSERT INTO schema_version VALUES (%d)`, i+1))
			return err
		})
		if err != nil {
			return fmt.Errorf("migrate: %w", err)
		}
	}
	return nil
}
