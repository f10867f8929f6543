// Package postgres reads signals from a PostgreSQL server, version 13 or later, by statements that only read. It may be reached through a
// PgBouncer, for nothing depends on the session; then it waits for a connection as every client does.
//
// The fields of the server:
//
//	connections               client connections, our own included
//	connections_free          connections that an ordinary user may still open: max_connections less the reserved and the used
//	connections_used_percent  percent of the connections that ordinary users may open; above 100 when reserved ones are in use
//	max_connections           as set, the reserved included
//	replication_lag           seconds that the slowest standby is behind, or, on a standby, that it is behind itself. Stale when a standby has not
//	                          said anything for 30 s; missing without a standby
//
// Those of the database that dsn names:
//
//	waiting_locks       sessions that wait for a lock
//	oldest_transaction  seconds since the start of the oldest open transaction; 0 without one
//	database_size       bytes on disk
//	cache_hit_ratio     percent of the blocks read that were in PostgreSQL's own cache
//	deadlocks           deadlocks found
//	temp_bytes          bytes written to temporary files by sorts and the like that did not fit into work_mem
//	slow_statements     statements (by pg_stat_statements) that took limit or longer, on average of their calls
//
// The last four are over the signal's window, from counters. The first reading has nothing to compare with and is Sparse, as is a ratio
// of fewer than min_samples blocks. Counters that began anew, after a crash or a reset, are Missing once.
//
// The preset odoo_queue_job is of the Odoo module of that name, for jobs that wait and whose time has come:
//
//	runnable    how many
//	oldest_age  seconds since the first of them could have run; 0 when there is none
//
// A query is the operator's own: one SELECT that returns one number. It is read in a read-only transaction and given up within 2 s. NULL
// is missing.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/observe/postgres/counter"
	"tidemark/internal/observe/postgres/wire"
)

// Databases shares one connection among all who read from the same address. The zero value is ready.
type Databases struct{ servers wire.Servers }

// Database is one database of a server.
type Database struct{ server *wire.Server }

// Open returns the database at a connection string. Nothing is dialled before it is read. Who opened it closes it.
func (d *Databases) Open(dsn string) (*Database, error) {
	server, err := d.servers.Open(wire.PostgreSQL, dsn)
	if err != nil {
		return nil, err
	}
	return &Database{server}, nil
}

// Close gives the database up; the connection ends with the last who does.
func (d *Database) Close() error { return d.server.Close() }

// Budget is what a server has of connections.
type Budget struct {
	Max      int // max_connections
	Reserved int // of these, for superusers and for roles with pg_use_reserved_connections
	Used     int // by clients, our own connection included
}

// Free is how many connections an ordinary user may still open.
func (b *Budget) Free() int { return max(b.Max-b.Reserved-b.Used, 0) }

// UsedPercent is the used part of what ordinary users may open.
func (b *Budget) UsedPercent() float64 { return 100 * float64(b.Used) / float64(b.Max-b.Reserved) }

// Budget returns the server's connections as of the tick at. Guards read it.
func (d *Database) Budget(ctx context.Context, at time.Time) (Budget, error) {
	t, err := d.server.Ask(ctx, at, activitySQL)
	if err != nil {
		return Budget{}, err
	}
	return budget(t)
}

// Source is one signal of a database.
type Source struct {
	cfg        Config
	field      *field
	minSamples float64
	database   *Database

	counts     counter.Series[[]float64]
	statements counter.Series[map[string]calls]
}

// Source returns the source of a valid configuration, on the connection of all who read from that database. window and minSamples are of
// the fields that are taken over one.
func (d *Databases) Source(cfg Config, window time.Duration, minSamples int) (*Source, error) {
	f := cfg.field()
	if f == nil {
		return nil, fmt.Errorf("there is no field %q", cfg.Field)
	}
	opened, err := d.Open(cfg.DSN)
	if err != nil {
		return nil, err
	}
	return &Source{
		cfg: cfg, field: f, minSamples: float64(max(minSamples, 1)), database: opened,
		counts: counter.Series[[]float64]{Window: window}, statements: counter.Series[map[string]calls]{Window: window},
	}, nil
}

// Close gives the connection up. Read is not called afterwards.
func (s *Source) Close() error { return s.database.Close() }

// Read reads the value.
func (s *Source) Read(ctx context.Context, scene fleet.Scene) (fleet.Reading, error) {
	v, q := 0.0, fleet.Missing
	t, err := s.database.server.Ask(ctx, scene.Now, s.field.sql)
	if err == nil {
		v, q, err = s.field.read(s, t)
	}
	if err != nil {
		s.counts.Forget() // what was counted meanwhile is not known
		s.statements.Forget()
		if fix := s.field.fixes[wire.Code(err)]; fix != "" {
			err = fmt.Errorf("%w; %s", err, fix)
		}
		return fleet.Reading{Time: scene.Now}, fmt.Errorf("%s: %w", s.what(), err)
	}
	return fleet.Reading{Value: v, Time: scene.Now, Quality: q}, nil
}

// what is the source's name in messages.
func (s *Source) what() string {
	if s.cfg.Query != "" {
		return "query"
	}
	return s.cfg.Field
}

var errNull = errors.New("the statement returned NULL, which is no number; use coalesce if it stands for one")

// only reads a statement's one number.
func only(_ *Source, t *wire.Table) (float64, fleet.Quality, error) {
	v, null, err := t.Only()
	if err == nil && null {
		err = errNull
	}
	return v, fleet.Fresh, err
}
