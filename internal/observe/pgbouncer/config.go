package pgbouncer

import (
	"fmt"
	"strings"

	"tidemark/internal/config"
	"tidemark/internal/fleet"
	"tidemark/internal/observe/postgres/wire"
)

// Config says what a signal takes from a PgBouncer.
type Config struct {
	// DSN is how to reach the admin console: postgres://USER:PASSWORD@HOST:PORT/pgbouncer, where USER is one of PgBouncer's
	// stats_users or admin_users. No message ever shows the password.
	DSN string `yaml:"dsn,required" example:"${PGBOUNCER_DSN}"`
	// Field is what is read; see the package's doc.
	Field string `yaml:"field"`
	// Database and User leave only the pools of that database and of that user, as PgBouncer names them. Empty: of all.
	Database string `yaml:"database"`
	User     string `yaml:"user"`
}

// DefaultConfig is the number of clients that wait.
func DefaultConfig() Config { return Config{Field: "cl_waiting"} }

// Unit is the unit of the field.
func (c *Config) Unit() fleet.Unit { return c.field().unit }

// Distribution: these are plain figures.
func (c *Config) Distribution() bool { return false }

// PerWorker: a pool's figures do not rise as workers leave.
func (c *Config) PerWorker() bool { return false }

// Dependency is what is measured of what workers load.
func (c *Config) Dependency() string { return "the database's connection pool" }

// Windowed reports whether the field is taken over a window: those of SHOW STATS are, the others are of the moment.
func (c *Config) Windowed() bool { return c.field().stats != nil }

// field is what the configuration asks for, the first for one that is not known: Validate has refused it.
func (c *Config) field() *field {
	for i := range fields {
		if fields[i].name == c.Field {
			return &fields[i]
		}
	}
	return &fields[0]
}

// Validate reports every problem of the configuration. It opens nothing.
func (c *Config) Validate() error {
	var errs config.FieldErrors
	wire.CheckDSN(&errs, c.DSN, console, "postgres://USER:PASSWORD@127.0.0.1:6432/"+console)
	f := c.field()
	switch {
	case f.name != c.Field:
		names := make([]string, len(fields))
		for i := range fields {
			names[i] = fields[i].name
		}
		errs.Add("field", fmt.Sprintf("%q is unknown", c.Field), "write one of "+strings.Join(names, ", "))
	case f.stats != nil && c.User != "":
		errs.Add("user", "is given, and PgBouncer counts "+c.Field+" by database only", "delete user")
	}
	if c.Database == console {
		errs.Add("database", console+" is the console itself, which has no pool", "write the database that the workers use, or delete it to read all")
	}
	return errs.Err()
}
