// Package postgres keeps the journal in a schema of a PostgreSQL database, version 14 or later, that several daemons share: one leads and
// writes, the others stand by. It owns the connections, the layout and the lead; what is in the tables is tables' matter.
//
// The lead is an advisory lock of the writer's session and a generation in the table lead. Whoever takes the lead raises the generation;
// each transaction of a leader raises a count where the generation is its own, so that the database itself refuses a leader of the past,
// in the transaction in which it would write. What a leader may do outside of the database rests on time: see package lead.
//
// The connection is a direct one. Behind a pool of transactions there are no sessions, and so no locks of a session.
package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"tidemark/internal/record/tables"
)

// Config says where the journal is.
type Config struct {
	DSN    string // a connection string of either form
	Schema string // of the journal's tables; made if it is not there
}

// Migrations are applied in the order of their names; the number of those applied is in the table layout.
//
//go:embed migrations/*.sql
var migrations embed.FS

// oldest is the first version that ends a session by itself when its client says nothing: without it a frozen leader would keep the lock.
const oldest = 140000

// askFor is the longest that a question may take, where nobody else waits.
const askFor = 30 * time.Second

// OpenReadOnly opens a journal for questions only, whoever leads.
func OpenReadOnly(ctx context.Context, c Config) (*tables.Reader, error) {
	settings, err := parse(c)
	if err != nil {
		return nil, err
	}
	r := newReader(settings, askFor)
	var there bool
	if err := r.DB.QueryRowContext(ctx, "SELECT to_regclass($1) IS NOT NULL", c.Schema+".lead").Scan(&there); err != nil {
		return nil, errors.Join(explain(err), r.Close())
	}
	if !there {
		return nil, errors.Join(fmt.Errorf("journal: PostgreSQL has no schema %s with a journal: nothing was recorded yet, or journal.postgres names another database", c.Schema), r.Close())
	}
	return r, nil
}

func newReader(settings *pgx.ConnConfig, longest time.Duration) *tables.Reader {
	settings = settings.Copy()
	settings.RuntimeParams["default_transaction_read_only"] = "on"
	return tables.NewReader(stdlib.OpenDB(*settings), dialect(longest))
}

// parse reads the connection string, which is never repeated: it may hold a password.
func parse(c Config) (*pgx.ConnConfig, error) {
	settings, err := pgx.ParseConfig(c.DSN)
	if err != nil {
		return nil, errors.New("journal: journal.postgres.dsn is no connection string; write postgres://tidemark@db.moa.example:5432/tidemark")
	}
	if settings.ConnectTimeout == 0 {
		settings.ConnectTimeout = patience
	}
	settings.RuntimeParams["search_path"] = c.Schema
	settings.RuntimeParams["application_name"] = "tidemark"
	return settings, nil
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

func dialect(longest time.Duration) *tables.Dialect {
	return &tables.Dialect{Rewrite: numbered, Explain: explain, View: sql.LevelRepeatableRead, Patience: longest}
}

var placeholder = regexp.MustCompile(`\?(\d*)`)

// numbered writes placeholders as PostgreSQL does: ? and ?2 become $1 and $2. None of the queries has a ? of another kind.
func numbered(query string) string {
	n := 0
	return placeholder.ReplaceAllStringFunc(query, func(p string) string {
		if len(p) > 1 {
			return "$" + p[1:]
		}
		n++
		return "$" + strconv.Itoa(n)
	})
}

// migrate makes the schema, or brings it up to this version, all steps in one transaction. Daemons that start together take turns.
func migrate(ctx context.Context, settings *pgx.ConnConfig, schema string) (err error) {
	conn, err := pgx.ConnectConfig(ctx, settings)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // what counts was committed
	version, err := strconv.Atoi(conn.PgConn().ParameterStatus("server_version_num"))
	if err != nil { // it is told from 18 on only
		if err := conn.QueryRow(ctx, "SELECT current_setting('server_version_num')::int").Scan(&version); err != nil {
			return err
		}
	}
	if version < oldest {
		return fmt.Errorf("journal: the server is PostgreSQL %d; a shared journal needs 14 or later", version/10000)
	}
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return steps(ctx, tx, schema) })
}

func steps(ctx context.Context, tx pgx.Tx, schema string) error {
	quoted := pgx.Identifier{schema}.Sanitize()
	if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtextextended($1, 1))", lockName(schema)); err != nil {
		return err
	}
	var there bool
	if err := tx.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", quoted+".layout").Scan(&there); err != nil {
		return err
	}
	if !there { // asked for only when it is needed: who runs Tidemark need not be allowed to make schemas
		if _, err := tx.Exec(ctx, "CREATE SCHEMA IF NOT EXISTS "+quoted+"; CREATE TABLE layout (version INTEGER NOT NULL); INSERT INTO layout VALUES (0)"); err != nil {
			return err
		}
	}
	var version int
	if err := tx.QueryRow(ctx, "SELECT version FROM layout").Scan(&version); err != nil {
		return err
	}
	files, err := migrations.ReadDir("migrations")
	if err != nil {
		return err
	}
	if version > len(files) {
		return fmt.Errorf("journal: tables of a newer Tidemark: the layout in schema %s is %d and this one knows up to %d; start the newer Tidemark", schema, version, len(files))
	}
	for _, f := range files[version:] {
		text, err := migrations.ReadFile("migrations/" + f.Name())
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, string(text)); err != nil {
			return fmt.Errorf("migration %s: %w", f.Name(), err)
		}
	}
	_, err = tx.Exec(ctx, "UPDATE layout SET version = $1 WHERE version <> $1", len(files))
	return err
}

// lockName is what the advisory locks of a journal are made of; different journals of a database do not meet.
func lockName(schema string) string { return "tidemark journal " + schema }

// hints are what an operator can do, by the server's error codes.
var hints = map[string]string{
	"28P01": "the password in journal.postgres.dsn is wrong",
	"28000": "pg_hba.conf does not let this user in from this host",
	"3D000": "make the database: CREATE DATABASE ...",
	"42501": "the user needs rights: CREATE on the database, or a schema of its own (CREATE SCHEMA ... AUTHORIZATION ...)",
	"53300": "the server has no connection left: each daemon needs up to 6",
	"53100": "the server's disk is full; Tidemark holds until it can write",
	"08P01": "a pool answers at this address: a shared journal needs PostgreSQL itself, directly",
	"55P03": "another session holds the lead's lock: perhaps this daemon's own before, which the server ends soon",
	"57P03": "the server is starting up or shutting down",
}

// explain puts an error of the driver into an operator's words.
func explain(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || strings.HasPrefix(err.Error(), "journal: ") {
		return err
	}
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		if hint := hints[refused.Code]; hint != "" {
			return fmt.Errorf("journal: PostgreSQL: %s; %s (%w)", refused.Message, hint, err)
		}
	}
	return fmt.Errorf("journal: PostgreSQL: %w", err)
}
