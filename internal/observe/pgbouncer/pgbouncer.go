// Package pgbouncer reads signals from the admin console of a PgBouncer, version 1.18 or later. Columns are read by name, for
// they differ between versions.
//
// The fields, of the pools that the configuration chooses, without that of the console itself:
//
//	cl_active       clients that hold a server connection, or do nothing; summed
//	cl_waiting      clients that wait for a server connection, now; summed
//	max_wait        seconds that the first of them has waited; the longest
//	utilization     percent of a pool's connections that are taken (in use, logging in, tested or being cancelled); of the fullest pool.
//	                It exceeds 100 while the reserve pool is drawn on
//	sv_active       server connections in use by a client; summed
//	sv_idle         server connections that are free; summed
//	pool_size       connections that the pools may open; summed over the pools that exist
//	query_rate      statements a second
//	xact_rate       transactions a second
//	avg_query_time  seconds a statement took
//	avg_xact_time   seconds a transaction held its connection
//	avg_wait_time   seconds a transaction waited for its connection
//
// The last five are over the signal's window, from counters. The first reading has nothing to compare with and is Sparse, as is an average
// of fewer than min_samples. Counters that began anew, because PgBouncer was restarted or has forgotten a database, are Missing once.
//
// PgBouncer makes a pool when the first client of a database and user connects. Without one nobody waits and nothing is taken: the figure
// is 0. A database or user that is asked for by name and that PgBouncer does not know is Missing: it may be misspelt.
package pgbouncer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/observe/postgres/counter"
	"tidemark/internal/observe/postgres/wire"
)

// console is the name of the database that is PgBouncer itself.
const console = "pgbouncer"

// Consoles shares one connection among all who read from the same address. The zero value is ready.
type Consoles struct{ servers wire.Servers }

// Console is one PgBouncer.
type Console struct{ server *wire.Server }

// Open returns the console at a connection string. Nothing is dialled before it is read. Who opened it closes it.
func (c *Consoles) Open(dsn string) (*Console, error) {
	server, err := c.servers.Open(wire.PgBouncer, dsn)
	if err != nil {
		return nil, err
	}
	return &Console{server}, nil
}

// Close gives the console up; the connection ends with the last who does.
func (c *Console) Close() error { return c.server.Close() }

// Pool is one pool: the connections of one user to one database.
type Pool struct {
	Database, User string
	Active         int           // clients that have a server connection or do nothing
	Waiting        int           // clients that wait for one
	Wait           time.Duration // of the first of them
	Taken          int           // server connections that no other client can have now
	Size           int           // server connections that the pool may open, without the reserve
}

// Utilization is the taken part of the pool in percent; above 100 while the reserve pool is drawn on.
func (p *Pool) Utilization() float64 { return 100 * float64(p.Taken) / float64(p.Size) }

// Pools returns the pools as of the tick at, of one database and one user if these are not empty. Guards read them.
func (c *Console) Pools(ctx context.Context, at time.Time, database, user string) ([]Pool, error) {
	rows, err := c.pools(ctx, at, database, user)
	if err != nil {
		return nil, err
	}
	out := make([]Pool, len(rows))
	for i, r := range rows {
		p := &r
		var v [5]float64
		for j, of := range []func(*pool) (float64, error){clients, waiting, wait, taken, size} {
			if v[j], err = of(p); err != nil {
				return nil, err
			}
		}
		out[i] = Pool{
			Database: p.database, User: p.user, Active: int(v[0]), Waiting: int(v[1]),
			Wait: time.Duration(v[2] * float64(time.Second)), Taken: int(v[3]), Size: int(v[4]),
		}
	}
	return out, nil
}

// pool is a row of SHOW POOLS, and how to find out its size.
type pool struct {
	wire.Row
	database, user string
	size           func() (float64, error)
}

// pools reads those of a database and a user; empty, of all.
func (c *Console) pools(ctx context.Context, at time.Time, database, user string) ([]pool, error) {
	t, err := c.server.Ask(ctx, at, "SHOW POOLS")
	if err != nil {
		return nil, err
	}
	var out []pool
	for i := range t.Len() {
		p := pool{Row: t.Row(i)}
		if p.database, _, err = p.Text("database"); err == nil {
			p.user, _, err = p.Text("user")
		}
		if err != nil {
			return nil, err
		}
		if p.database != console && (database == "" || database == p.database) && (user == "" || user == p.user) {
			p.size = func() (float64, error) { return c.size(ctx, at, p.database, p.user) }
			out = append(out, p)
		}
	}
	if len(out) == 0 {
		return nil, c.unknown(ctx, at, database, user)
	}
	return out, nil
}

// unknown says why there is no pool of this name, unless that is because no client has come yet.
func (c *Console) unknown(ctx context.Context, at time.Time, database, user string) error {
	if user != "" {
		return fmt.Errorf("PgBouncer has no pool of user %s: no client has connected as that user since it was started, or the name is wrong", strconv.Quote(user))
	}
	if database == "" {
		return nil
	}
	t, err := c.server.Ask(ctx, at, "SHOW DATABASES")
	if err != nil {
		return err
	}
	var known []string
	for i := range t.Len() {
		name, _, err := t.Row(i).Text("name")
		switch {
		case err != nil:
			return err
		case name == database:
			return nil
		case name != console:
			known = append(known, name)
		}
	}
	slices.Sort(known)
	return fmt.Errorf("PgBouncer knows no database %s (it knows %s): correct the name, or write it under [databases] in pgbouncer.ini", strconv.Quote(database), strings.Join(known, ", "))
}

// size is how many connections a pool may open: what the user is given (since version 1.23), or else the database.
func (c *Console) size(ctx context.Context, at time.Time, database, user string) (float64, error) {
	users, err := c.server.Ask(ctx, at, "SHOW USERS")
	if err != nil {
		return 0, err
	}
	if users.Has("pool_size") {
		if v, ok, err := lookUp(users, user, "pool_size"); ok || err != nil {
			return v, err
		}
	}
	databases, err := c.server.Ask(ctx, at, "SHOW DATABASES")
	if err != nil {
		return 0, err
	}
	v, ok, err := lookUp(databases, database, "pool_size")
	if err == nil && (!ok || v <= 0) {
		err = fmt.Errorf("PgBouncer has no pool_size for database %s", strconv.Quote(database))
	}
	return v, err
}

// lookUp finds a number by the name that its row has. ok is false when there is none.
func lookUp(t *wire.Table, name, column string) (v float64, ok bool, err error) {
	for i := range t.Len() {
		r := t.Row(i)
		switch is, _, err := r.Text("name"); {
		case err != nil:
			return 0, false, err
		case is != name:
			continue
		}
		if text, null, err := r.Text(column); null || err != nil || strings.TrimSpace(text) == "" {
			return 0, false, err
		}
		v, _, err := r.Number(column)
		return v, err == nil, err
	}
	return 0, false, nil
}

// total sums columns of one row. NULL is no number.
func total(r wire.Row, columns ...string) (float64, error) {
	sum := 0.0
	for _, column := range columns {
		v, null, err := r.Number(column)
		if err != nil {
			return 0, err
		}
		if null || v < 0 {
			return 0, fmt.Errorf("PgBouncer's %s is no count", column)
		}
		sum += v
	}
	return sum, nil
}

// column reads one column of a pool.
func column(name string) func(*pool) (float64, error) {
	return func(p *pool) (float64, error) { return total(p.Row, name) }
}

var clients, waiting = column("cl_active"), column("cl_waiting")

func wait(p *pool) (float64, error) {
	seconds, err := total(p.Row, "maxwait")
	if err != nil {
		return 0, err
	}
	micro, err := total(p.Row, "maxwait_us")
	return seconds + micro/1e6, err
}

func taken(p *pool) (float64, error) {
	return total(p.Row, "sv_active", "sv_login", "sv_tested", "sv_active_cancel", "sv_being_canceled")
}

func size(p *pool) (float64, error) { return p.size() }

func utilization(p *pool) (float64, error) {
	n, err := taken(p)
	if err != nil {
		return 0, err
	}
	of, err := size(p)
	return 100 * n / of, err
}

// field is what can be read: of the moment, folded over the pools, or of a window, as a ratio of what was counted in it.
type field struct {
	name  string
	unit  fleet.Unit
	pool  func(*pool) (float64, error)
	fold  func(sum, v float64) float64
	stats func(d *stats, seconds float64) (part, whole float64)
	mean  bool // whole is a number of samples
}

func add(sum, v float64) float64 { return sum + v }

var fields = []field{
	{name: "cl_waiting", pool: waiting, fold: add},
	{name: "cl_active", pool: clients, fold: add},
	{name: "max_wait", unit: fleet.Seconds, pool: wait, fold: math.Max},
	{name: "utilization", unit: fleet.Percent, pool: utilization, fold: math.Max},
	{name: "sv_active", pool: column("sv_active"), fold: add},
	{name: "sv_idle", pool: column("sv_idle"), fold: add},
	{name: "pool_size", pool: size, fold: add},
	{name: "query_rate", stats: func(d *stats, seconds float64) (float64, float64) { return d[queries], seconds }},
	{name: "xact_rate", stats: func(d *stats, seconds float64) (float64, float64) { return d[xacts], seconds }},
	{name: "avg_query_time", unit: fleet.Seconds, mean: true, stats: func(d *stats, _ float64) (float64, float64) { return d[queryTime] / 1e6, d[queries] }},
	{name: "avg_xact_time", unit: fleet.Seconds, mean: true, stats: func(d *stats, _ float64) (float64, float64) { return d[xactTime] / 1e6, d[xacts] }},
	{name: "avg_wait_time", unit: fleet.Seconds, mean: true, stats: func(d *stats, _ float64) (float64, float64) { return d[waitTime] / 1e6, d[xacts] }},
}

// stats are counters of SHOW STATS; times are in microseconds.
type stats [5]float64

const (
	queries = iota
	xacts
	queryTime
	xactTime
	waitTime
)

var statColumns = [...]string{"total_query_count", "total_xact_count", "total_query_time", "total_xact_time", "total_wait_time"}

// Source is one signal of a PgBouncer.
type Source struct {
	cfg        Config
	field      *field
	minSamples int
	console    *Console
	series     counter.Series[map[string]stats] // by database
}

// Source returns the source of a valid configuration, on the connection of all who read from that PgBouncer. window and minSamples are of
// the fields that are taken over one.
func (c *Consoles) Source(cfg Config, window time.Duration, minSamples int) (*Source, error) {
	opened, err := c.Open(cfg.DSN)
	if err != nil {
		return nil, err
	}
	return &Source{cfg: cfg, field: cfg.field(), minSamples: max(minSamples, 1), console: opened, series: counter.Series[map[string]stats]{Window: window}}, nil
}

// Close gives the connection up. Read is not called afterwards.
func (s *Source) Close() error { return s.console.Close() }

// Read reads the field.
func (s *Source) Read(ctx context.Context, scene fleet.Scene) (fleet.Reading, error) {
	read := s.readPools
	if s.field.stats != nil {
		read = s.readStats
	}
	v, q, err := read(ctx, scene.Now)
	if err != nil {
		s.series.Forget() // whether PgBouncer was restarted meanwhile is not known
		var missing *wire.ColumnError
		if errors.As(err, &missing) {
			err = fmt.Errorf("%w; Tidemark reads PgBouncer 1.18 and later", err)
		}
		return fleet.Reading{Time: scene.Now}, fmt.Errorf("%s: %w", s.cfg.Field, err)
	}
	return fleet.Reading{Value: v, Time: scene.Now, Quality: q}, nil
}

func (s *Source) readPools(ctx context.Context, at time.Time) (float64, fleet.Quality, error) {
	rows, err := s.console.pools(ctx, at, s.cfg.Database, s.cfg.User)
	if err != nil {
		return 0, fleet.Missing, err
	}
	all := 0.0
	for i := range rows {
		v, err := s.field.pool(&rows[i])
		if err != nil {
			return 0, fleet.Missing, err
		}
		all = s.field.fold(all, v)
	}
	return all, fleet.Fresh, nil
}

var errAnew = errors.New("PgBouncer's counters began anew, because it was restarted or has forgotten a database; they are compared from here on")

func (s *Source) readStats(ctx context.Context, at time.Time) (float64, fleet.Quality, error) {
	t, err := s.console.server.Ask(ctx, at, "SHOW STATS")
	if err != nil {
		return 0, fleet.Missing, err
	}
	now, err := s.count(t)
	if err == nil && len(now) == 0 {
		err = s.console.unknown(ctx, at, s.cfg.Database, "")
	}
	if err != nil {
		return 0, fleet.Missing, err
	}
	from, over, q := s.series.Add(t.At, strconv.Itoa(t.Life), now)
	switch q {
	case fleet.Missing:
		return 0, q, errAnew
	case fleet.Sparse:
		return 0, q, nil
	}
	d, ok := since(from, now)
	if !ok {
		return 0, fleet.Missing, errAnew
	}
	part, whole := s.field.stats(&d, over.Seconds())
	if whole <= 0 || s.field.mean && whole < float64(s.minSamples) {
		return 0, fleet.Sparse, nil
	}
	return part / whole, q, nil
}

// count reads the counters of the databases that are asked for.
func (s *Source) count(t *wire.Table) (map[string]stats, error) {
	out := map[string]stats{}
	for i := range t.Len() {
		r := t.Row(i)
		database, _, err := r.Text("database")
		if err != nil {
			return nil, err
		}
		if database == console || s.cfg.Database != "" && database != s.cfg.Database {
			continue
		}
		sum := out[database]
		for j, name := range statColumns {
			v, err := total(r, name)
			if err != nil {
				return nil, err
			}
			sum[j] += v
		}
		out[database] = sum
	}
	return out, nil
}

// since is what all databases counted from one time to another. A database that is new counts from 0; ok is false when one is gone
// or has begun anew.
func since(from, now map[string]stats) (d stats, ok bool) {
	for database, before := range from {
		after := now[database]
		for i := range d {
			if after[i] < before[i] {
				return d, false
			}
			d[i] -= before[i]
		}
	}
	for _, after := range now {
		for i := range d {
			d[i] += after[i]
		}
	}
	return d, true
}
