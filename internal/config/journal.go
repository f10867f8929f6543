package config

import (
	"net/url"
	"strings"
)

// Journal is where the records are. The zero value is a file in the state folder.
type Journal struct {
	Postgres PostgresJournal `yaml:"postgres"`
}

// PostgresJournal is a database that several daemons share: one leads, the others stand by.
type PostgresJournal struct {
	DSN    string `yaml:"dsn,required" example:"${TIDEMARK_JOURNAL}"`
	Schema string `yaml:"schema"`
}

func (j Journal) absent() bool         { return !j.Shared() }
func (p PostgresJournal) absent() bool { return p.DSN == "" }

// Shared reports whether other daemons may stand by.
func (j Journal) Shared() bool { return j.Postgres.DSN != "" }

const exampleDSN = "postgres://tidemark@db.moa.example:5432/tidemark, or ${NAME} to take it from the environment"

// journal checks a shared one. The connection string is never repeated: it may hold a password.
func (d *decoder) journal(j *Journal, r *Retention) {
	const at, dsn, schema = "journal.postgres", "journal.postgres.dsn", "journal.postgres.schema"
	if d.written("journal") && !d.written(at) && d.ok("journal") {
		d.fail("journal", "says not where it is", "write postgres: {dsn: ${TIDEMARK_JOURNAL}}, or delete journal: it is a file in state_dir then")
		return
	}
	if !d.written(at) || !d.ok(at, dsn) {
		return
	}
	p := &j.Postgres
	if !connectionString(p.DSN) {
		d.fail(dsn, "is no connection string", "write "+exampleDSN+"; in a password, % is written %25, @ is %40, / is %2F and : is %3A")
	}
	if d.ok(schema) && (!goodName.MatchString(p.Schema) || strings.Contains(p.Schema, "-") || strings.HasPrefix(p.Schema, "pg_") || len(p.Schema) > 63) {
		d.fail(schema, quote(schema, p.Schema)+" cannot be a schema", "write tidemark; letters, digits and _ can be in it")
	}
	if r.MaxBytes != defaultSpec().Retention.MaxBytes { // the default may stand there, as Effective writes it
		d.fail("retention.max_size", "bounds a file, and the journal is in PostgreSQL", "delete it, and bound the journal by raw, minutes, hours and decisions")
	}
}

// connectionString reports whether a text can be one, of either form.
func connectionString(dsn string) bool {
	if strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://") {
		_, err := url.Parse(dsn)
		return err == nil
	}
	return !strings.Contains(dsn, "://") && strings.Contains(dsn, "=")
}
