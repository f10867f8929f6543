package postgres

import (
	"fmt"
	"strings"
	"time"

	"tidemark/internal/config"
	"tidemark/internal/fleet"
	"tidemark/internal/observe/postgres/wire"
)

// Config says what a signal takes from a PostgreSQL database: a field, a field of a preset, or what a query returns.
type Config struct {
	// DSN is how to reach the database: postgres://USER:PASSWORD@HOST:PORT/DATABASE. No message ever shows the password.
	// The user needs the role pg_monitor for fields, and SELECT on the tables of a query or preset.
	DSN string `yaml:"dsn,required" example:"${PG_DSN}"`
	// Field is what is read; see the package's doc.
	Field string `yaml:"field"`
	// Preset is a set of fields of a program that keeps its queue in the database; see the package's doc.
	Preset string `yaml:"preset"`
	// Query is one SELECT that returns one number, in Unit.
	Query string `yaml:"query"`
	// In is the unit of what Query returns.
	In fleet.Unit `yaml:"unit"`
	// Limit is from when on slow_statements calls a statement slow.
	Limit time.Duration `yaml:"limit"`
}

// DefaultConfig has no field: the operator says which.
func DefaultConfig() Config { return Config{Limit: 500 * time.Millisecond} }

// Unit is the unit of the value.
func (c *Config) Unit() fleet.Unit {
	if f := c.field(); f != nil {
		return f.unit
	}
	return fleet.Number
}

// Distribution: these are plain figures.
func (c *Config) Distribution() bool { return false }

// PerWorker: a database's figures do not rise as workers leave.
func (c *Config) PerWorker() bool { return false }

// Dependency is what is measured of what workers load: the server's own figures are, and not a queue that is kept in it.
func (c *Config) Dependency() string {
	if c.Query != "" || c.Preset != "" {
		return ""
	}
	return "the database"
}

// Windowed reports whether the value is taken over a window.
func (c *Config) Windowed() bool { f := c.field(); return f != nil && f.windowed }

// field is what the configuration asks for; nil when there is no such thing.
func (c *Config) field() *field {
	if c.Query != "" {
		return &field{unit: c.In, sql: c.Query, read: only}
	}
	return find(c.fields(), c.Field)
}

// fields are those that may be asked for: the preset's, or the server's own.
func (c *Config) fields() []field {
	if c.Preset == "" {
		return own
	}
	for i := range presets {
		if presets[i].name == c.Preset {
			return presets[i].fields
		}
	}
	return nil
}

func find(fields []field, name string) *field {
	for i := range fields {
		if fields[i].name == name {
			return &fields[i]
		}
	}
	return nil
}

// Validate reports every problem of the configuration. It opens nothing.
func (c *Config) Validate() error {
	var errs config.FieldErrors
	wire.CheckDSN(&errs, c.DSN, "", "postgres://USER:PASSWORD@127.0.0.1:5432/DATABASE")
	fields := c.fields()
	switch {
	case c.Query != "" && c.Preset != "":
		errs.Add("preset", "is given beside query", "delete one of them")
	case c.Query != "" && c.Field != "":
		errs.Add("field", "is given beside query", "delete one of them")
	case c.Query != "":
	case fields == nil:
		errs.Add("preset", fmt.Sprintf("%q is unknown", c.Preset), "write odoo_queue_job, or a query of your own")
	case c.Field == "":
		errs.Add("field", "is missing", "write one of "+names(fields)+", or a query")
	case find(fields, c.Field) == nil:
		errs.Add("field", fmt.Sprintf("%q is unknown", c.Field), "write one of "+names(fields))
	}
	if c.Query == "" && c.In != fleet.Number {
		errs.Add("unit", "is of query, and a field has its own", "delete unit")
	}
	if c.Limit <= 0 {
		errs.Add("limit", fmt.Sprintf("%s is no time that a statement can take", c.Limit), "write 500ms")
	}
	return errs.Err()
}

func names(fields []field) string {
	out := make([]string, len(fields))
	for i := range fields {
		out[i] = fields[i].name
	}
	return strings.Join(out, ", ")
}
