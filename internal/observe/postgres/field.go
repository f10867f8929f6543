package postgres

import (
	"errors"
	"fmt"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/observe/postgres/wire"
)

// field is one thing that can be read: by which statement, and what is taken from its answer. Fields of one statement share its
// answer.
type field struct {
	name     string
	unit     fleet.Unit
	sql      string
	read     func(*Source, *wire.Table) (float64, fleet.Quality, error)
	windowed bool
	fixes    map[string]string // what to do about an error of the server's, by SQLSTATE
}

var own = []field{
	{name: "connections_used_percent", unit: fleet.Percent, sql: activitySQL, read: connections(func(b Budget) float64 { return b.UsedPercent() })},
	{name: "connections", sql: activitySQL, read: connections(func(b Budget) float64 { return float64(b.Used) })},
	{name: "connections_free", sql: activitySQL, read: connections(func(b Budget) float64 { return float64(b.Free()) })},
	{name: "max_connections", sql: activitySQL, read: connections(func(b Budget) float64 { return float64(b.Max) })},
	{name: "waiting_locks", sql: activitySQL, read: activity("waiting_locks")},
	{name: "oldest_transaction", unit: fleet.Seconds, sql: activitySQL, read: activity("oldest_transaction")},
	{name: "database_size", unit: fleet.Bytes, sql: "SELECT pg_database_size(current_database())", read: only},
	{name: "replication_lag", unit: fleet.Seconds, sql: replicationSQL, read: replicationLag},
	{name: "cache_hit_ratio", unit: fleet.Percent, sql: countersSQL, windowed: true, read: (*Source).cacheHitRatio},
	{name: "deadlocks", sql: countersSQL, windowed: true, read: counted("deadlocks")},
	{name: "temp_bytes", unit: fleet.Bytes, sql: countersSQL, windowed: true, read: counted("temp_bytes")},
	{name: "slow_statements", sql: statementsSQL, windowed: true, read: (*Source).slowStatements, fixes: map[string]string{
		"42883": "run CREATE EXTENSION pg_stat_statements in this database, in a schema of Tidemark's search_path",
		"42P01": "run CREATE EXTENSION pg_stat_statements in this database, in a schema of Tidemark's search_path",
		"55000": "add pg_stat_statements to shared_preload_libraries in postgresql.conf, and restart PostgreSQL",
	}},
}

var noQueue = map[string]string{"42P01": "the module queue_job is not installed in this database; is it the one that Odoo uses?"}

var presets = []struct {
	name   string
	fields []field
}{
	{"odoo_queue_job", []field{
		{name: "runnable", sql: queueJobSQL, read: value("runnable"), fixes: noQueue},
		{name: "oldest_age", unit: fleet.Seconds, sql: queueJobSQL, read: value("oldest_age"), fixes: noQueue},
	}},
}

// queueJobSQL: queue_job keeps its times in UTC, without a zone.
const queueJobSQL = `SELECT count(*) AS runnable,
	coalesce(greatest(extract(epoch FROM timezone('UTC', now()) - min(greatest(date_created, coalesce(eta, date_created)))), 0), 0) AS oldest_age
FROM queue_job WHERE state = 'pending' AND (eta IS NULL OR eta <= timezone('UTC', now()))`

// seesAll is whether we see what others do. Without it their rows look as if they did nothing.
const seesAll = `pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS sees_all`

const activitySQL = `SELECT current_setting('max_connections') AS max_connections,
	current_setting('superuser_reserved_connections')::int + coalesce(current_setting('reserved_connections', true), '0')::int AS reserved,
	count(*) FILTER (WHERE backend_type = 'client backend') AS used,
	count(*) FILTER (WHERE here AND wait_event_type = 'Lock') AS waiting_locks,
	coalesce(max(greatest(extract(epoch FROM clock_timestamp() - xact_start), 0)) FILTER (WHERE here AND pid <> pg_backend_pid()), 0) AS oldest_transaction,
	current_setting('track_activities') AS tracked, ` + seesAll + `
FROM (SELECT *, backend_type = 'client backend' AND datname = current_database() AS here FROM pg_stat_activity) AS activity`

// countersSQL: the life of the counters ends with a reset of the database's own, and with a crash, which resets the background
// writer's too.
const countersSQL = `SELECT blks_hit, blks_read, deadlocks, temp_bytes, concat(database.stats_reset, '/', writer.stats_reset) AS life,
	current_setting('track_counts') AS tracked
FROM pg_stat_database AS database, pg_stat_bgwriter AS writer WHERE datname = current_database()`

// statementsSQL has at least one row, so that the settings are known.
const statementsSQL = `SELECT id, calls, milliseconds, current_setting('pg_stat_statements.track', true) AS tracked, ` + seesAll + `
FROM (SELECT) AS one LEFT JOIN (
	SELECT queryid AS id, sum(calls) AS calls, sum(total_exec_time) AS milliseconds FROM pg_stat_statements(false)
	WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) GROUP BY queryid
) AS statements ON true`

const replicationSQL = `SELECT pg_is_in_recovery() AS standby, count(sender.pid) AS standbys,
	coalesce(max(extract(epoch FROM sender.replay_lag)), 0) AS slowest,
	coalesce(extract(epoch FROM clock_timestamp() - min(sender.reply_time)), 0) AS silence,
	CASE WHEN EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming') AND pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
		ELSE extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) END AS behind, ` + seesAll + `
FROM (SELECT) AS one LEFT JOIN pg_stat_replication AS sender ON sender.state IN ('streaming', 'catchup')`

// errBlind: without the role, what others do cannot be seen, and looks like nothing.
var errBlind = errors.New("the user in dsn sees only its own sessions; run GRANT pg_monitor TO it")

// sees fails unless the answer is about all users, and what it is made from is switched on.
func sees(r wire.Row, setting string) error {
	if all, _, err := r.Text("sees_all"); err != nil || all != "t" {
		return errors.Join(err, errBlind)
	}
	return switchedOn(r, setting)
}

func switchedOn(r wire.Row, setting string) error {
	if setting == "" {
		return nil
	}
	switch is, _, err := r.Text("tracked"); {
	case err != nil:
		return err
	case is == "off" || is == "none":
		return fmt.Errorf("%s is %s, so that PostgreSQL does not know; switch it on in postgresql.conf", setting, is)
	}
	return nil
}

// first is the row that an answer must have.
func first(t *wire.Table) (wire.Row, error) {
	if t.Len() == 0 {
		return wire.Row{}, errors.New("PostgreSQL returned no row")
	}
	return t.Row(0), nil
}

func number(r wire.Row, column string) (float64, error) {
	v, null, err := r.Number(column)
	if err == nil && null {
		err = fmt.Errorf("PostgreSQL does not know %s", column)
	}
	return v, err
}

// value takes one column of the first row.
func value(column string) func(*Source, *wire.Table) (float64, fleet.Quality, error) {
	return func(_ *Source, t *wire.Table) (float64, fleet.Quality, error) {
		r, err := first(t)
		if err != nil {
			return 0, fleet.Missing, err
		}
		v, err := number(r, column)
		return v, fleet.Fresh, err
	}
}

// activity takes one column of what all sessions do.
func activity(column string) func(*Source, *wire.Table) (float64, fleet.Quality, error) {
	return func(s *Source, t *wire.Table) (float64, fleet.Quality, error) {
		r, err := first(t)
		if err == nil {
			err = sees(r, "track_activities")
		}
		if err != nil {
			return 0, fleet.Missing, err
		}
		return value(column)(s, t)
	}
}

func connections(of func(Budget) float64) func(*Source, *wire.Table) (float64, fleet.Quality, error) {
	return func(_ *Source, t *wire.Table) (float64, fleet.Quality, error) {
		b, err := budget(t)
		if err != nil {
			return 0, fleet.Missing, err
		}
		return of(b), fleet.Fresh, nil
	}
}

func budget(t *wire.Table) (Budget, error) {
	r, err := first(t)
	if err == nil {
		err = sees(r, "")
	}
	if err != nil {
		return Budget{}, err
	}
	var v [3]float64
	for i, column := range []string{"max_connections", "reserved", "used"} {
		if v[i], err = number(r, column); err != nil {
			return Budget{}, err
		}
	}
	b := Budget{Max: int(v[0]), Reserved: int(v[1]), Used: int(v[2])}
	if b.Max <= b.Reserved {
		return Budget{}, fmt.Errorf("PostgreSQL's max_connections %d are all reserved", b.Max)
	}
	return b, nil
}

// silent is how long a standby that works may say nothing: it does every wal_receiver_status_interval, 10 s by default.
const silent = 30

func replicationLag(_ *Source, t *wire.Table) (float64, fleet.Quality, error) {
	r, err := first(t)
	if err == nil {
		err = sees(r, "")
	}
	if err != nil {
		return 0, fleet.Missing, err
	}
	switch standby, _, err := r.Text("standby"); {
	case err != nil:
		return 0, fleet.Missing, err
	case standby == "t":
		v, err := number(r, "behind") // NULL as long as no transaction was replayed; by two clocks, which may differ
		return max(v, 0), fleet.Fresh, err
	}
	var v [3]float64
	for i, column := range []string{"standbys", "slowest", "silence"} {
		if v[i], err = number(r, column); err != nil {
			return 0, fleet.Missing, err
		}
	}
	switch {
	case v[0] == 0:
		return 0, fleet.Missing, errors.New("no standby is connected")
	case v[2] > silent:
		return v[1], fleet.Stale, nil
	}
	return v[1], fleet.Fresh, nil
}

var errAnew = errors.New("PostgreSQL's counters began anew, because it crashed or they were reset; they are compared from here on")

// since returns how much columns of counters have grown over the window.
func (s *Source) since(t *wire.Table, columns ...string) ([]float64, fleet.Quality, error) {
	r, err := first(t)
	if err == nil {
		err = switchedOn(r, "track_counts")
	}
	if err != nil {
		return nil, fleet.Missing, err
	}
	life, _, err := r.Text("life")
	now := make([]float64, len(columns))
	for i, column := range columns {
		if err == nil {
			now[i], err = number(r, column)
		}
	}
	if err != nil {
		return nil, fleet.Missing, err
	}
	from, _, q := s.counts.Add(t.At, life, now)
	switch q {
	case fleet.Missing:
		return nil, q, errAnew
	case fleet.Sparse:
		return nil, q, nil
	}
	out := make([]float64, len(columns))
	for i := range out {
		if out[i] = now[i] - from[i]; out[i] < 0 {
			return nil, fleet.Missing, errAnew
		}
	}
	return out, q, nil
}

func (s *Source) cacheHitRatio(t *wire.Table) (float64, fleet.Quality, error) {
	d, q, err := s.since(t, "blks_hit", "blks_read")
	if d == nil {
		return 0, q, err
	}
	blocks := d[0] + d[1]
	if blocks < s.minSamples {
		return 0, fleet.Sparse, nil
	}
	return 100 * d[0] / blocks, q, nil
}

func counted(column string) func(*Source, *wire.Table) (float64, fleet.Quality, error) {
	return func(s *Source, t *wire.Table) (float64, fleet.Quality, error) {
		d, q, err := s.since(t, column)
		if d == nil {
			return 0, q, err
		}
		return d[0], q, nil
	}
}

// calls are how often a statement was called, and how long that took.
type calls struct{ n, milliseconds float64 }

func (s *Source) slowStatements(t *wire.Table) (float64, fleet.Quality, error) {
	r, err := first(t)
	if err == nil {
		err = sees(r, "pg_stat_statements.track")
	}
	if err != nil {
		return 0, fleet.Missing, err
	}
	now := make(map[string]calls, t.Len())
	for i := range t.Len() {
		r := t.Row(i)
		id, none, err := r.Text("id")
		if none && err == nil {
			continue // none was called yet, or it has no id
		}
		var c calls
		if err == nil {
			c.n, err = number(r, "calls")
		}
		if err == nil {
			c.milliseconds, err = number(r, "milliseconds")
		}
		if err != nil {
			return 0, fleet.Missing, err
		}
		now[id] = c
	}
	from, _, q := s.statements.Add(t.At, "", now)
	if q == fleet.Sparse {
		return 0, q, nil
	}
	slow, limit := 0.0, float64(s.cfg.Limit)/float64(time.Millisecond)
	for id, c := range now {
		before := from[id]
		if c.n < before.n { // it was dropped and has come back: all of it is new
			before = calls{}
		}
		if n := c.n - before.n; n > 0 && (c.milliseconds-before.milliseconds)/n >= limit {
			slow++
		}
	}
	return slow, q, nil
}
