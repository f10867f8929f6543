package postgres

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/goleak"

	"tidemark/internal/config"
	"tidemark/internal/fleet"
	"tidemark/internal/observe/observetest"
	"tidemark/internal/observe/postgres/wire/wiretest"
	"tidemark/test/servers"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var _ config.SignalBody = (*Config)(nil)
var _ config.Windowed = (*Config)(nil)

// ages is how long a test waits for what should take no time.
const ages = time.Minute

// world is a database and who reads it, tick by tick.
type world struct {
	*testing.T
	databases *Databases
	dsn       string
	now       time.Time
}

// newWorld is patient: what answers at all answers in time, however loaded the machine is.
func newWorld(t *testing.T, dsn string) *world {
	w := impatient(t, dsn)
	w.databases.servers.Limit = ages
	return w
}

// impatient does not wait for long; an answer may be missing then because the machine is loaded.
func impatient(t *testing.T, dsn string) *world {
	w := &world{t, new(Databases), dsn, time.Date(2027, 3, 1, 6, 0, 0, 0, time.UTC)}
	w.databases.servers.Limit = time.Second
	return w
}

func (w *world) tick() fleet.Scene {
	w.now = w.now.Add(15 * time.Second)
	return fleet.Scene{Now: w.now}
}

func (w *world) source(cfg Config) *Source {
	w.Helper()
	if cfg.DSN == "" {
		cfg.DSN = w.dsn
	}
	s, err := w.databases.Source(cfg, time.Minute, 1)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { s.Close() })
	return s
}

func (w *world) field(name string) *Source { w.Helper(); return w.source(Config{Field: name}) }
func (w *world) query(sql string) *Source  { w.Helper(); return w.source(Config{Query: sql}) }

func (w *world) value(s *Source) float64 {
	w.Helper()
	r, err := s.Read(w.Context(), w.tick())
	if err != nil || r.Quality != fleet.Fresh {
		w.Fatalf("%s: %+v, %v", s.what(), r, err)
	}
	return r.Value
}

// soon does something and reads, until the value is as it should be.
func (w *world) soon(s *Source, do func(), ok func(v float64) bool) float64 {
	w.Helper()
	for deadline := time.Now().Add(ages); ; time.Sleep(5 * time.Millisecond) {
		if do != nil {
			do()
		}
		v := w.value(s)
		if ok(v) {
			return v
		}
		if time.Now().After(deadline) {
			w.Fatalf("%s is still %v", s.what(), v)
		}
	}
}

// becomes reads until the reading is of a quality, and returns what came with it.
func (w *world) becomes(s *Source, want fleet.Quality) error {
	w.Helper()
	for deadline := time.Now().Add(ages); ; {
		r, err := s.Read(w.Context(), w.tick())
		if r.Quality == want {
			return err
		}
		if time.Now().After(deadline) {
			w.Fatalf("%s is still %s (%v), not %s", s.what(), r.Quality, err, want)
		}
	}
}

func (w *world) sparse(s *Source) {
	w.Helper()
	if r, err := s.Read(w.Context(), w.tick()); err != nil || r.Quality != fleet.Sparse {
		w.Fatalf("%s: %+v, %v; want sparse", s.what(), r, err)
	}
}

func (w *world) fails(s *Source, want ...string) {
	w.Helper()
	r, err := s.Read(w.Context(), w.tick())
	if err == nil || r.Quality != fleet.Missing {
		w.Errorf("%s: %+v, %v; want missing", s.what(), r, err)
		return
	}
	for _, text := range want {
		if !strings.Contains(err.Error(), text) {
			w.Errorf("%s says %q, want %q", s.what(), err, text)
		}
	}
}

func dial(t *testing.T, url string) *pgconn.PgConn {
	t.Helper()
	c, err := pgconn.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

func do(t *testing.T, c *pgconn.PgConn, sql string) {
	t.Helper()
	if _, err := c.Exec(t.Context(), sql).ReadAll(); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func positive(v float64) bool { return v > 0 }
func is(want float64) func(float64) bool {
	return func(v float64) bool { return v == want }
}

// One server serves these tests one after the other; the others take servers of their own.
func TestOnOneServer(t *testing.T) {
	pg := servers.Postgres(t)
	for _, c := range []struct {
		name string
		test func(*testing.T, *servers.PG)
	}{
		{"conformance", conformance}, {"queries", queries}, {"odoo queue job", odooQueueJob}, {"through PgBouncer", throughPgBouncer}, {"replication", replication},
		{"slow server", slowServer}, {"frozen", frozen}, {"strangers", strangers},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, pg) })
	}
}

func TestSessions(t *testing.T) {
	pg := servers.Postgres(t, "max_connections=12", "superuser_reserved_connections=2")
	pg.CreateDB("dfr")
	pg.Exec("dfr", "CREATE ROLE odoo LOGIN; CREATE TABLE farmer (id int); GRANT ALL ON farmer TO odoo; CREATE ROLE watch LOGIN; GRANT pg_monitor TO watch")
	w := newWorld(t, strings.Replace(pg.URL("dfr"), "postgres@", "watch@", 1))
	connections, free, percent := w.field("connections"), w.field("connections_free"), w.field("connections_used_percent")
	if v := w.value(w.field("max_connections")); v != 12 {
		t.Errorf("max_connections %v", v)
	}
	w.soon(connections, nil, is(1)) // our own; those that prepared the database have left
	if f, p := w.value(free), w.value(percent); f != 9 || p != 10 {
		t.Errorf("with one of 10 used, free are %v and used %v %%", f, p)
	}
	locks, oldest := w.field("waiting_locks"), w.field("oldest_transaction")
	if l, o := w.value(locks), w.value(oldest); l != 0 || o != 0 {
		t.Errorf("at rest %v wait and the oldest transaction is of %v s", l, o)
	}

	odoo := strings.Replace(pg.URL("dfr"), "postgres@", "odoo@", 1)
	holder := dial(t, odoo)
	do(t, holder, "BEGIN; LOCK TABLE farmer")
	var wg sync.WaitGroup
	defer wg.Wait()
	defer holder.Close(context.Background())
	for range 2 {
		c := dial(t, odoo)
		wg.Go(func() {
			if _, err := c.Exec(context.Background(), "SELECT * FROM farmer").ReadAll(); err != nil {
				t.Error(err)
			}
		})
	}
	w.soon(locks, nil, is(2))
	before := w.value(oldest)
	if before <= 0 {
		t.Error("nobody has an open transaction")
	}
	w.soon(oldest, nil, func(v float64) bool { return v > before })
	elsewhere := w.source(Config{DSN: strings.Replace(w.dsn, "/dfr", "/postgres", 1), Field: "waiting_locks"})
	if v := w.value(elsewhere); v != 0 {
		t.Errorf("%v wait in a database that nobody uses", v)
	}
	do(t, holder, "COMMIT")
	wg.Wait()
	w.soon(locks, nil, is(0))
	w.soon(oldest, nil, is(0))

	// Until an ordinary user gets no more.
	for {
		c, err := pgconn.Connect(t.Context(), odoo)
		if err != nil {
			break
		}
		defer c.Close(context.Background())
	}
	w.soon(percent, nil, is(100))
	if v := w.value(free); v != 0 {
		t.Errorf("full, and %v are free", v)
	}
	b, err := percent.database.Budget(t.Context(), w.tick().Now)
	if err != nil || b != (Budget{Max: 12, Reserved: 2, Used: 10}) || b.Free() != 0 || b.UsedPercent() != 100 {
		t.Errorf("%+v, %v", b, err)
	}
	w.fails(w.source(Config{DSN: odoo, Field: "connections"}), "53300", "keep one for Tidemark")
}

func TestCounters(t *testing.T) {
	pg := servers.Postgres(t, "shared_buffers=1MB", "deadlock_timeout=50ms", "track_io_timing=on")
	pg.CreateDB("dfr")
	w := newWorld(t, pg.URL("dfr"))
	size := w.field("database_size")
	empty := w.value(size)
	pg.Exec("dfr", "CREATE TABLE big AS SELECT g, repeat('x', 500) AS x FROM generate_series(1, 20000) AS g; CREATE TABLE a (id int); CREATE TABLE b (id int)")
	if grown := w.value(size); grown < empty+8e6 {
		t.Errorf("%v bytes, and with 10 MB more %v", empty, grown)
	}
	hits, deadlocks, temp := w.field("cache_hit_ratio"), w.field("deadlocks"), w.field("temp_bytes")
	slow := w.source(Config{Field: "slow_statements", Limit: time.Second})
	w.fails(slow, "42883", "CREATE EXTENSION pg_stat_statements")
	pg.Exec("dfr", "CREATE EXTENSION pg_stat_statements")
	for _, s := range []*Source{hits, deadlocks, temp, slow} {
		w.sparse(s)
	}
	if v := w.value(deadlocks); v != 0 {
		t.Errorf("%v deadlocks", v)
	}
	if v := w.value(temp); v != 0 {
		t.Errorf("%v bytes of temporary files", v)
	}

	// The table is ten times as large as the cache.
	misses := w.soon(hits, func() { pg.Exec("dfr", "SELECT count(*) FROM big") }, func(v float64) bool { return v < 60 })
	w.soon(hits, func() { pg.Exec("dfr", "SELECT count(*) FROM generate_series(1, 2000) AS g, pg_class WHERE oid = g") }, func(v float64) bool { return v > misses+5 && v < 100 })

	w.soon(temp, func() {
		pg.Exec("dfr", "SET work_mem = '64kB'; SELECT count(*) FROM (SELECT g FROM generate_series(1, 50000) AS g ORDER BY -g) AS s")
	},
		func(v float64) bool { return v > 100_000 })

	one, other := dial(t, pg.URL("dfr")), dial(t, pg.URL("dfr"))
	do(t, one, "BEGIN; LOCK TABLE a")
	do(t, other, "BEGIN; LOCK TABLE b")
	var wg sync.WaitGroup
	for _, c := range []struct {
		conn *pgconn.PgConn
		sql  string
	}{{one, "LOCK TABLE b"}, {other, "LOCK TABLE a"}} {
		wg.Go(func() {
			_, _ = c.conn.Exec(context.Background(), c.sql).ReadAll() // one of them fails, and that is what it is for
			_ = c.conn.Close(context.Background())
		})
	}
	wg.Wait()
	w.soon(deadlocks, nil, is(1))

	pg.Exec("dfr", "SELECT 1; SELECT 1; SELECT 1")
	if v := w.value(slow); v != 0 {
		t.Errorf("%v slow statements", v)
	}
	pg.Exec("dfr", "SELECT pg_sleep(1.05); SELECT pg_sleep(1.05)")
	if v := w.value(slow); v != 1 {
		t.Errorf("%v slow statements, want one", v)
	}
	slow = w.source(Config{Field: "slow_statements", Limit: time.Second})
	w.sparse(slow)
	if v := w.value(slow); v != 0 {
		t.Errorf("%v statements were slow since", v)
	}
	pg.Exec("dfr", "SELECT pg_stat_statements_reset()")
	pg.Exec("dfr", "SELECT pg_sleep(1.05)")
	if v := w.value(slow); v != 1 { // once, where there were two
		t.Errorf("after a reset %v slow statements, want one", v)
	}

	pg.Exec("dfr", "SELECT pg_stat_reset()")
	for _, s := range []*Source{hits, deadlocks, temp} {
		w.fails(s, "began anew")
		w.sparse(s)
	}
	pg.Exec("dfr", "ALTER SYSTEM SET track_counts = off")
	pg.Exec("dfr", "SELECT pg_reload_conf()")
	if err := w.becomes(deadlocks, fleet.Missing); !strings.Contains(err.Error(), "track_counts is off") {
		t.Error(err)
	}
	pg.Exec("dfr", "ALTER DATABASE dfr SET pg_stat_statements.track = none")
	w.fails(w.source(Config{DSN: pg.URL("dfr") + "&application_name=another", Field: "slow_statements", Limit: time.Second}), "pg_stat_statements.track is none")
	w.fails(w.field("replication_lag"), "no standby is connected")
}

// crash kills a server and waits until the last of its processes is gone: before that it does not start again.
func crash(t *testing.T, pg *servers.PG) {
	t.Helper()
	pg.Kill()
	for deadline := time.Now().Add(ages); ; time.Sleep(time.Millisecond) {
		left := 0
		all, _ := filepath.Glob("/proc/[0-9]*/cwd")
		for _, cwd := range all {
			if at, err := os.Readlink(cwd); err == nil && at == pg.Dir {
				left++
				if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(cwd))); err == nil {
					_ = syscall.Kill(pid, syscall.SIGKILL) // it may have been forked after the others were counted
				}
			}
		}
		if left == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d processes are left", left)
		}
	}
}

// A crash takes the counters with it, and a stop does not.
func TestRestarts(t *testing.T) {
	pg := servers.Postgres(t, "shared_preload_libraries=")
	pg.CreateDB("dfr")
	pg.Exec("dfr", "CREATE EXTENSION pg_stat_statements")
	w := newWorld(t, pg.URL("dfr"))
	temp, connections := w.field("temp_bytes"), w.field("connections")
	spill := func() {
		pg.Exec("dfr", "SET work_mem = '64kB'; SELECT count(*) FROM (SELECT g FROM generate_series(1, 50000) AS g ORDER BY -g) AS s")
	}
	w.fails(w.source(Config{Field: "slow_statements", Limit: time.Second}), "55000", "shared_preload_libraries")
	for _, c := range []struct{ away, back func() }{{func() { crash(t, pg) }, pg.Start}, {pg.Stop, pg.Start}} {
		w.becomes(temp, fleet.Fresh)
		w.soon(temp, spill, positive)
		c.away()
		if err := w.becomes(temp, fleet.Missing); !strings.Contains(err.Error(), "PostgreSQL at 127.0.0.1:") {
			t.Errorf("it says %q", err)
		}
		w.becomes(connections, fleet.Missing)
		c.back()
		w.becomes(connections, fleet.Fresh)
		w.becomes(temp, fleet.Fresh)
		if v := w.value(temp); v != 0 {
			t.Errorf("nothing was sorted since, and %v bytes are counted", v)
		}
	}
	w.soon(temp, spill, positive)
	crash(t, pg)
	pg.Start() // between two ticks
	w.fails(temp, "began anew")
	w.sparse(temp)
	w.soon(temp, spill, positive)
	pg.Stop()
	pg.Start() // here the counters go on
	if v := w.value(temp); v <= 0 {
		t.Errorf("the window holds %v bytes", v)
	}
}

// A frozen server takes connections and says nothing.
func frozen(t *testing.T, pg *servers.PG) {
	w := impatient(t, pg.URL("postgres"))
	s := w.field("connections")
	for range 2 {
		w.becomes(s, fleet.Fresh)
		pg.Freeze()
		if err := w.becomes(s, fleet.Missing); !strings.Contains(err.Error(), "did not answer in time") {
			t.Errorf("it says %q", err)
		}
		w.fails(s, "did not answer in time")
		pg.Thaw()
	}
	w.becomes(s, fleet.Fresh)
}

func queries(t *testing.T, pg *servers.PG) {
	pg.CreateDB("queries")
	pg.Exec("queries", "CREATE TABLE farmer (id int, name text); INSERT INTO farmer SELECT g, 'n' FROM generate_series(1, 7) AS g; CREATE ROLE odoo LOGIN; GRANT SELECT, INSERT ON farmer TO odoo")
	w := newWorld(t, strings.Replace(pg.URL("queries"), "postgres@", "odoo@", 1))
	for sql, want := range map[string]float64{
		"SELECT count(*) FROM farmer": 7,
		"SELECT 1.5":                  1.5,
		"WITH f AS (SELECT * FROM farmer) SELECT avg(id) FROM f; ": 4,
		"SELECT -3::smallint -- a comment":                         -3,
		"SELECT extract(epoch FROM interval '2 minutes')":          120,
		"SHOW max_connections":                                     100,
	} {
		if v := w.value(w.query(sql)); v != want {
			t.Errorf("%s: %v, want %v", sql, v, want)
		}
	}
	count := w.query("SELECT count(*) FROM farmer")
	for sql, want := range map[string]string{
		"SELECT sum(id) FROM farmer WHERE id > 100":  "returned NULL",
		"SELECT id FROM farmer":                      "returned 7 rows of 1 columns; write a statement that returns one number",
		"SELECT id FROM farmer WHERE false":          "returned 0 rows",
		"SELECT 1, 1":                                "returned 1 rows of 2 columns",
		"SELECT name FROM farmer LIMIT 1":            `name of PostgreSQL at 127.0.0.1`,
		"SELECT 'NaN'::float":                        "not a number",
		"SELECT 'Infinity'::float8":                  "not a number",
		"SELECT interval '2 minutes'":                "not a number",
		"SELECT 1; SELECT 2":                         "write one SELECT statement",
		"SELECT coutn(*) FROM farmer":                "42883",
		"SELEC 1":                                    "42601",
		"INSERT INTO farmer VALUES (8) RETURNING id": "25006",
		"COMMIT":                      "returns no rows",
		"SET statement_timeout = 0":   "returns no rows",
		"SELECT * FROM pg_authid":     "42501",
		"SELECT repeat('x', 2000000)": "8 MiB",
		"SELECT repeat('x', 1000) FROM generate_series(1, 100000)": "8 MiB",
	} {
		scene := w.tick()
		r, err := w.query(sql).Read(t.Context(), scene)
		if err == nil || r.Quality != fleet.Missing || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "query: ") {
			t.Errorf("%s: %+v, %v; want %q", sql, r, err, want)
		}
		// It costs the others at the same tick nothing.
		if r, err := count.Read(t.Context(), scene); err != nil || r.Quality != fleet.Fresh || r.Value != 7 {
			t.Fatalf("after %s: %+v, %v", sql, r, err)
		}
	}
	in := impatient(t, w.dsn)
	if err := in.becomes(in.query("SELECT pg_sleep(60)"), fleet.Missing); !strings.Contains(err.Error(), "57014") && !strings.Contains(err.Error(), "in time") {
		t.Errorf("a statement without an end: %v", err)
	}
	in.becomes(in.query("SELECT 1"), fleet.Fresh)
	w.fails(w.field("connections"), "GRANT pg_monitor")
	w.fails(w.field("waiting_locks"), "GRANT pg_monitor")
	w.fails(w.source(Config{Preset: "odoo_queue_job", Field: "runnable"}), "queue_job is not installed")
	if n := pg.Exec("queries", "SELECT count(*) FROM farmer"); n != "7" {
		t.Errorf("%s farmers after all that", n)
	}
	if n := pg.Exec("queries", "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tidemark' AND state <> 'idle'"); n != "0" {
		t.Errorf("%s transactions are left open", n)
	}
}

func odooQueueJob(t *testing.T, pg *servers.PG) {
	pg.CreateDB("jobs")
	pg.Exec("jobs", "ALTER DATABASE jobs SET timezone = 'Pacific/Rarotonga'")
	pg.Exec("jobs", "CREATE TABLE queue_job (state text, date_created timestamp, eta timestamp)")
	w := newWorld(t, pg.URL("jobs"))
	runnable, oldest := w.source(Config{Preset: "odoo_queue_job", Field: "runnable"}), w.source(Config{Preset: "odoo_queue_job", Field: "oldest_age"})
	if n, age := w.value(runnable), w.value(oldest); n != 0 || age != 0 {
		t.Errorf("an empty queue has %v jobs of %v s", n, age)
	}
	pg.Exec("jobs", `INSERT INTO queue_job SELECT state, timezone('UTC', now()) - made::interval, timezone('UTC', now()) - eta::interval FROM (VALUES
		('pending', '400 s', NULL), ('pending', '1 h', '10 s'), ('pending', '5 s', '1 d'), ('pending', '1 d', '-1 h'), ('started', '2 d', NULL), ('done', '3 d', NULL)) AS v(state, made, eta)`)
	if n, age := w.value(runnable), w.value(oldest); n != 3 || age < 400 || age > 400+ages.Seconds() {
		t.Errorf("%v jobs of %v s", n, age)
	}
}

// Behind a PgBouncer with one connection for all, in transactions.
func throughPgBouncer(t *testing.T, pg *servers.PG) {
	pool := servers.PgBouncer(t, pg, "default_pool_size=1")
	pg.CreateDB("pooled")
	pg.Exec("pooled", "CREATE EXTENSION pg_stat_statements")
	w := newWorld(t, pool.URL("pooled"))
	for i := range own {
		if own[i].name == "replication_lag" {
			continue
		}
		s := w.source(Config{Field: own[i].name, Limit: time.Second})
		if own[i].windowed {
			w.sparse(s)
		}
		w.becomes(s, fleet.Fresh)
	}
	in := impatient(t, pool.URL("pooled"))
	one := in.query("SELECT 1")
	in.becomes(one, fleet.Fresh)
	c := dial(t, pool.URL("pooled")) // another gets the one connection between our statements
	do(t, c, "BEGIN; SELECT 1")
	in.fails(one, "did not answer in time")
	do(t, c, "COMMIT")
	in.becomes(one, fleet.Fresh)
	if r, err := c.Exec(t.Context(), "SHOW statement_timeout").ReadAll(); err != nil || string(r[0].Rows[0][0]) != "0" {
		t.Errorf("the next one on our connection has a time-out: %v %v", r, err)
	}
	pool.Stop()
	w.fails(w.query("SELECT 1"), "PostgreSQL at 127.0.0.1:")
	pool.Start()
	w.value(w.query("SELECT 1"))
}

// A real standby that streams, stops replaying, and leaves.
func replication(t *testing.T, pg *servers.PG) {
	w := newWorld(t, pg.URL("postgres"))
	lag := w.field("replication_lag")
	w.fails(lag, "no standby is connected")
	port, stop := standby(t, pg)
	there := w.source(Config{DSN: strings.Replace(pg.URL("postgres"), fmt.Sprint(pg.Port), fmt.Sprint(port), 1), Field: "replication_lag"})
	w.becomes(there, fleet.Fresh)
	w.soon(there, nil, is(0)) // all that came is replayed
	w.becomes(lag, fleet.Fresh)
	if v := w.value(lag); v < 0 || v > ages.Seconds() {
		t.Errorf("%v s behind", v)
	}
	c := dial(t, there.cfg.DSN)
	write := func() { pg.Exec("postgres", "DROP TABLE IF EXISTS x; CREATE TABLE x (i int)") }
	write()
	for deadline := time.Now().Add(ages); ; {
		if r, err := c.Exec(t.Context(), "SELECT pg_last_xact_replay_timestamp()").ReadAll(); err == nil && r[0].Rows[0][0] != nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatal("nothing is replayed", err)
		}
	}
	do(t, c, "SELECT pg_wal_replay_pause()")
	w.soon(there, write, positive)
	do(t, c, "SELECT pg_wal_replay_resume()")
	w.soon(there, nil, is(0))
	stop()
	if err := w.becomes(lag, fleet.Missing); !strings.Contains(err.Error(), "no standby is connected") {
		t.Error(err)
	}

	// What a primary says of a standby that is slow, and of one that is silent.
	for silence, want := range map[string]fleet.Quality{"5": fleet.Fresh, "31": fleet.Stale} {
		table, err := lag.database.server.Ask(t.Context(), w.tick().Now, "SELECT false AS standby, 2 AS standbys, 2.5 AS slowest, "+silence+" AS silence, NULL AS behind, true AS sees_all")
		if err != nil {
			t.Fatal(err)
		}
		if v, q, err := replicationLag(nil, table); v != 2.5 || q != want || err != nil {
			t.Errorf("silent for %s s: %v, %s, %v", silence, v, q, err)
		}
	}
}

// standby starts a standby of a server.
func standby(t *testing.T, pg *servers.PG) (port int, stop func()) {
	t.Helper()
	dir, err := os.MkdirTemp("", "standby")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	info, err := os.Stat(pg.Dir) // who owns the data runs the server
	if err != nil {
		t.Fatal(err)
	}
	owner := info.Sys().(*syscall.Stat_t)
	if err := os.Chown(dir, int(owner.Uid), int(owner.Gid)); err != nil {
		t.Fatal(err)
	}
	command := func(program string, args ...string) *exec.Cmd {
		cmd := exec.Command(servers.Need(t, program), args...)
		cmd.Dir = "/"
		if int(owner.Uid) != os.Geteuid() {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
		}
		return cmd
	}
	data := filepath.Join(dir, "data")
	if out, err := command("pg_basebackup", "-d", pg.URL("postgres"), "-D", data, "-R", "--checkpoint=fast", "--no-sync").CombinedOutput(); err != nil {
		t.Fatalf("pg_basebackup: %v\n%s", err, out)
	}
	port = servers.FreePort(t)
	cmd := command("postgres", "-D", data, "-c", fmt.Sprint("port=", port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="+dir, "-c", "hot_standby=on")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() { _ = cmd.Process.Signal(syscall.SIGINT); _ = cmd.Wait() })
	t.Cleanup(stop)
	return port, stop
}

func strangers(t *testing.T, pg *servers.PG) {
	pg.CreateDB("strangers")
	pg.Exec("strangers", "CREATE ROLE stats LOGIN PASSWORD 'right42'; GRANT pg_monitor TO stats")
	hba := filepath.Join(pg.Dir, "pg_hba.conf")
	if err := os.WriteFile(hba, []byte("host all postgres 127.0.0.1/32 trust\nhost all stats 127.0.0.1/32 scram-sha-256\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	pg.Exec("postgres", "SELECT pg_reload_conf()")
	w := newWorld(t, "")
	at := func(user, db string) *Source {
		return w.source(Config{DSN: strings.Replace(pg.URL(db), "postgres@", user+"@", 1), Field: "connections"})
	}
	for deadline := time.Now().Add(ages); ; { // until the file is read
		if _, err := at("stats:geheim42", "strangers").Read(t.Context(), w.tick()); err != nil && strings.Contains(err.Error(), "28P01") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("any password will do")
		}
	}
	w.value(at("stats:right42", "strangers"))
	for _, c := range []struct {
		s    *Source
		want string
	}{{at("stats:geheim42", "strangers"), "28P01"}, {at("stats", "strangers"), ""}, {at("nobody:geheim42", "strangers"), "28000"}, {at("postgres:geheim42", "drf"), "3D000"}} {
		_, err := c.s.Read(t.Context(), w.tick())
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "geheim") || strings.Contains(err.Error(), "\n") {
			t.Errorf("got %q, want %q", err, c.want)
			continue
		}
		t.Log(err)
	}
}

func conformance(t *testing.T, pg *servers.PG) {
	relay := wiretest.NewRelay(t, pg.Port)
	dsn := strings.Replace(pg.URL("postgres"), fmt.Sprint(pg.Port), fmt.Sprint(relay.Port), 1)
	for _, cfg := range []Config{{Field: "connections_used_percent"}, {Field: "temp_bytes"}, {Query: "SELECT 42"}} {
		t.Run(cfg.Field+cfg.Query, func(t *testing.T) {
			var databases Databases
			databases.servers.Limit = ages
			cfg.DSN = dsn
			warm := 0
			if cfg.Windowed() {
				warm = 1
			}
			observetest.Conform(t, func(t *testing.T) observetest.Subject {
				relay.Return()
				s, err := databases.Source(cfg, time.Minute, 1)
				if err != nil {
					t.Fatal(err)
				}
				return observetest.Subject{
					Source: s, Warm: warm,
					Break:     func(*testing.T) { relay.Leave() },
					Mend:      func(*testing.T) { relay.Return() },
					Hang:      func(*testing.T) func() { return relay.Hold() },
					Plausible: func(v float64) bool { return v >= 0 },
					Close: func() {
						s.Close()
						if !relay.Settle(ages) {
							t.Error("a connection is left")
						}
					},
				}
			})
		})
	}
}

// A server that is too slow is missing, one that is only slow is not, and neither is asked again by connections that pile up.
func slowServer(t *testing.T, pg *servers.PG) {
	relay := wiretest.NewRelay(t, pg.Port)
	w := impatient(t, strings.Replace(pg.URL("postgres"), fmt.Sprint(pg.Port), fmt.Sprint(relay.Port), 1))
	s := w.field("connections")
	w.becomes(s, fleet.Fresh)
	relay.Delay(10 * time.Millisecond)
	w.becomes(s, fleet.Fresh)
	relay.Delay(time.Hour)
	w.fails(s, "did not answer in time")
	w.fails(s, "did not answer in time")
	relay.Delay(0)
	w.becomes(s, fleet.Fresh)
	patient := newWorld(t, pg.URL("postgres"))
	patient.soon(patient.query("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tidemark'"), nil, is(2)) // its own, too
}

func TestValidate(t *testing.T) {
	const dsn = "postgres://stats:geheim@127.0.0.1:5432/dfr"
	every := "connections_used_percent, connections, connections_free, max_connections, waiting_locks, oldest_transaction, database_size, replication_lag, cache_hit_ratio, deadlocks, temp_bytes, slow_statements"
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{Config{DSN: dsn, Field: "connections"}, "<nil>"},
		{Config{DSN: dsn, Field: "runnable", Preset: "odoo_queue_job"}, "<nil>"},
		{Config{DSN: "host=/run/postgresql dbname=dfr", Query: "SELECT 1", In: fleet.Bytes}, "<nil>"},
		{Config{DSN: dsn}, "field: is missing; write one of " + every + ", or a query"},
		{Config{Field: "connections"}, "dsn: is missing; write postgres://USER:PASSWORD@127.0.0.1:5432/DATABASE, or ${NAME} to take it from the environment"},
		{Config{DSN: dsn, Field: "locks"}, `field: "locks" is unknown; write one of ` + every},
		{Config{DSN: dsn, Field: "locks", Preset: "odoo_queue_job"}, `field: "locks" is unknown; write one of runnable, oldest_age`},
		{Config{DSN: dsn, Field: "runnable", Preset: "odoo"}, `preset: "odoo" is unknown; write odoo_queue_job, or a query of your own`},
		{Config{DSN: dsn, Field: "connections", Query: "SELECT 1"}, "field: is given beside query; delete one of them"},
		{Config{DSN: dsn, Preset: "odoo_queue_job", Query: "SELECT 1"}, "preset: is given beside query; delete one of them"},
		{Config{DSN: dsn, Field: "connections", In: fleet.Seconds}, "unit: is of query, and a field has its own; delete unit"},
		{Config{DSN: dsn, Field: "slow_statements", Limit: -1}, "limit: -1ns is no time that a statement can take; write 500ms"},
	} {
		if c.cfg.Limit == 0 {
			c.cfg.Limit = DefaultConfig().Limit
		}
		if got := fmt.Sprint(c.cfg.Validate()); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
	for _, c := range []struct {
		cfg      Config
		unit     fleet.Unit
		windowed bool
	}{
		{Config{Field: "connections_used_percent"}, fleet.Percent, false}, {Config{Field: "oldest_transaction"}, fleet.Seconds, false},
		{Config{Field: "temp_bytes"}, fleet.Bytes, true}, {Config{Field: "cache_hit_ratio"}, fleet.Percent, true}, {Config{Field: "nothing"}, fleet.Number, false},
		{Config{Preset: "odoo_queue_job", Field: "oldest_age"}, fleet.Seconds, false}, {Config{Query: "SELECT 1", In: fleet.Seconds}, fleet.Seconds, false},
	} {
		if c.cfg.Unit() != c.unit || c.cfg.Windowed() != c.windowed || c.cfg.Distribution() || c.cfg.PerWorker() {
			t.Errorf("%+v: %s, %v", c.cfg, c.cfg.Unit(), c.cfg.Windowed())
		}
	}
	if _, err := new(Databases).Source(Config{DSN: dsn, Field: "nothing"}, 0, 0); err == nil {
		t.Error("a source of nothing")
	}
}

// As an operator writes it.
func TestInAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tidemark.yaml")
	text := `fleets:
  - name: odoo
    target: {none: {}}
    bounds: {min: 1, max: 2}
    signals:
      queue:  {postgres: {dsn: "postgres://u:geheim@h/db", preset: odoo_queue_job, field: oldest_age}}
      own:    {postgres: {dsn: "postgres://u:geheim@h/db", query: "SELECT 1", unit: seconds}}
      slow:   {postgres: {dsn: "postgres://u:geheim@h/db", field: slow_statements, limit: 200ms}, window: 5m, statistic: max}
    policies:
      - id: p
        rules: [{signal: queue, operator: ">=", threshold: 300s, scale_change: +1}, {signal: own, operator: ">=", threshold: 2s, scale_change: +1}]
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, problems, err := config.Load(path, config.Catalog{
		Signals: map[string]func() config.SignalBody{"postgres": func() config.SignalBody { c := DefaultConfig(); return &c }},
		Targets: map[string]func() config.Body{"none": func() config.Body { return new(none) }},
	})
	if err != nil || cfg == nil {
		t.Fatal(problems, err)
	}
	if effective := config.Effective(cfg); strings.Contains(effective, "geheim") || !strings.Contains(effective, "unit: seconds") {
		t.Error(effective)
	}
	if own := cfg.Fleets[0].Signals[1].Body.(*Config); own.In != fleet.Seconds {
		t.Errorf("%+v", own)
	}
}

type none struct{}

func (*none) Validate() error { return nil }
