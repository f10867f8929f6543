// Package postgres keeps the registry in PostgreSQL, directly or behind PgBouncer's transaction pooling.
package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"tidemark/registry"
	"tidemark/registry/store"
)

//go:embed migrations/*.sql
var migrations embed.FS

// similar sets the threshold of <% for its own transaction, in the statement itself: behind PgBouncer each further one is
// another turn to wait for. What resembles the whole name resembles a stretch of it too, so <% finds whatever % would.
var similar = fmt.Sprintf(`SELECT f.id FROM
	(SELECT CAST(? AS text) || left(set_config('pg_trgm.word_similarity_threshold', '%g', true), 0) AS wanted) w, farmer f `, registry.Alike)

var dialect = store.Dialect{
	Numbered:   true,
	ForUpdate:  " FOR UPDATE",
	SkipLocked: " FOR UPDATE SKIP LOCKED",
	Kind:       kind,
	Similar:    similar + "WHERE w.wanted <% f.name_key ORDER BY w.wanted <<-> f.name_key LIMIT ?",
	SimilarIn:  similar + "WHERE w.wanted <% f.name_key AND f.village_key = ? ORDER BY w.wanted <<-> f.name_key LIMIT ?",
	SimilarArg: func(key string) string { return key },
	Load:       load,
}

// connectTimeout is how long a connection may take to be made.
const connectTimeout = 5 * time.Second

// Open connects to the database at url with at most conns connections and brings its schema up to date; several
// processes may do so at once. Close the store after use.
func Open(ctx context.Context, url string, conns int) (*store.Store, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, errors.New("the database's URL must be like postgres://user@host:5432/name") // pgx's own words hold the URL, with its password
	}
	// Behind PgBouncer each transaction may meet another server connection: nothing is prepared on one and used on another.
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	config.StatementCacheCapacity, config.DescriptionCacheCapacity = 0, 0
	config.ConnectTimeout = connectTimeout
	db := stdlib.OpenDB(*config)
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	db.SetConnMaxIdleTime(5 * time.Minute)
	const lock = "SELECT pg_advisory_xact_lock(7310579)" // any number that nobody else uses in this database
	if err := store.Migrate(ctx, db, dialect, migrations, lock); err != nil {
		return nil, errors.Join(fmt.Errorf("open the registry in database %s at %s:%d: %w", config.Database, config.Host, config.Port, err), db.Close())
	}
	return store.New(db, dialect), nil
}

// kind sorts errors by SQLSTATE (PostgreSQL manual, appendix A) and by what happens to a connection.
func kind(err error) store.ErrorKind {
	var e *pgconn.PgError
	var refused *pgconn.ConnectError
	var network net.Error
	switch {
	case errors.As(err, &e):
		switch e.Code {
		case "23505":
			return store.Taken
		case "40001", "40P01", "55P03":
			return store.Busy
		case "57P01", "57P02", "57P03", "53300", "08P01": // shut down, crashed, starting, too many connections; PgBouncer's own
			return store.Away
		}
		if e.Code[:2] == "08" {
			return store.Away
		}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return store.Other
	case errors.As(err, &refused), errors.As(err, &network), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, sql.ErrConnDone),
		pgconn.SafeToRetry(err):
		return store.Away
	}
	return store.Other
}
