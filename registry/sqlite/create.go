package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"

	"tidemark/registry"
)

const insert = `INSERT INTO farmer (uid, given_name, family_name, birth_date, sex, national_id, phone, village_id, status,
	created_at, updated_at, version, name_key, other_key) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`

func row(f registry.Farmer, village int64) []any {
	return []any{
		f.UID, f.GivenName, f.FamilyName, f.BirthDate, f.Sex, f.NationalID, f.Phone, village, f.Status,
		f.CreatedAt.UnixMilli(), f.UpdatedAt.UnixMilli(), f.Version,
		registry.Fold(f.FamilyName + " " + f.GivenName), registry.Fold(f.GivenName + " " + f.FamilyName),
	}
}

// Create makes a new registry at path, whole or not at all: it is written beside path and given its name at the end.
// A path that exists is refused. progress, which may be nil, hears the number of farmers written so far.
func Create(ctx context.Context, path string, villages []registry.Village, farmers iter.Seq[registry.Farmer], progress func(int)) (err error) {
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
	db, err := connect(ctx, draft, "_pragma=synchronous(OFF)&_pragma=cache_size(-65536)&_pragma=temp_store(MEMORY)")
	if err != nil {
		return fmt.Errorf("create registry %s: %w", path, err)
	}
	err = inTx(ctx, db, func(tx *sql.Tx) error { return fill(ctx, tx, villages, farmers, progress) })
	if err = errors.Join(err, db.Close()); err != nil {
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

func fill(ctx context.Context, tx *sql.Tx, villages []registry.Village, farmers iter.Seq[registry.Farmer], progress func(int)) error {
	ids := map[[2]string]int64{}
	for i, v := range villages {
		ids[[2]string{v.Name, v.Island}] = int64(i + 1)
		if _, err := tx.ExecContext(ctx, `INSERT INTO village (id, country, island, name, key, island_key) VALUES (?, ?, ?, ?, ?, ?)`,
			i+1, v.Country, v.Island, v.Name, registry.Fold(v.Name), registry.Fold(v.Island)); err != nil {
			return fmt.Errorf("village %s: %w", v.Name, err)
		}
	}
	stmt, err := tx.PrepareContext(ctx, insert)
	if err != nil {
		return err
	}
	defer func() { _ = stmt.Close() }()
	n := 0
	for f := range farmers {
		if _, err := stmt.ExecContext(ctx, row(f, ids[[2]string{f.Village, f.Island}])...); err != nil {
			return fmt.Errorf("farmer %s: %w", f.UID, err)
		}
		if n++; n%1000 == 0 && progress != nil {
			progress(n)
		}
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
