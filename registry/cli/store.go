package cli

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"tidemark/registry/store"
	"tidemark/registry/store/postgres"
	"tidemark/registry/store/sqlite"
)

// conns is how many connections a worker has to PostgreSQL: it serves one request at a time, and a request uses one.
const conns = 1

// openStore opens a registry by --db: the URL of a PostgreSQL database, or the path of an SQLite file.
func openStore(ctx context.Context, db string) (*store.Store, error) { return openWide(ctx, db, conns) }

// openWide is openStore for who does several things at a time on a server's database.
func openWide(ctx context.Context, db string, conns int) (*store.Store, error) {
	if onServer(db) {
		return postgres.Open(ctx, db, conns)
	}
	return sqlite.Open(ctx, db)
}

func onServer(db string) bool {
	return strings.HasPrefix(db, "postgres://") || strings.HasPrefix(db, "postgresql://")
}

// create makes a registry and fills it: a new file, or tables in an empty database.
func create(ctx context.Context, db string, fill func(*store.Store) error) (err error) {
	if !onServer(db) {
		return sqlite.Create(ctx, db, fill)
	}
	s, err := postgres.Open(ctx, db, conns)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	switch n, err := s.Counts(ctx); {
	case err != nil:
		return err
	case n["farmer"] > 0:
		return fmt.Errorf("%s holds %d farmers: choose an empty database", redacted(db), n["farmer"])
	}
	return fill(s)
}

// redacted is how --db is shown to people: without its password.
func redacted(db string) string {
	if u, err := url.Parse(db); err == nil && u.User != nil {
		return u.Redacted()
	}
	return db
}
