package pgbouncer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
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

// patient consoles answer in time, if at all, however loaded the machine is.
func patient() *Consoles {
	c := new(Consoles)
	c.servers.Limit = ages
	return c
}

// clock gives each tick a time of its own.
type clock struct{ now time.Time }

func (c *clock) tick() fleet.Scene {
	if c.now.IsZero() {
		c.now = time.Date(2027, 3, 1, 6, 0, 0, 0, time.UTC)
	}
	c.now = c.now.Add(15 * time.Second)
	return fleet.Scene{Now: c.now}
}

func source(t *testing.T, consoles *Consoles, cfg Config) *Source {
	t.Helper()
	s, err := consoles.Source(cfg, time.Minute, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// dial is somebody who works with the database.
func dial(t *testing.T, url string) *pgconn.PgConn {
	t.Helper()
	c, err := pgconn.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

func work(t *testing.T, c *pgconn.PgConn, n int) {
	t.Helper()
	for range n {
		if _, err := c.Exec(t.Context(), "BEGIN; SELECT pg_sleep(0.002); COMMIT").ReadAll(); err != nil {
			t.Fatal(err)
		}
	}
}

// Each PgBouncer of these tests stands before the same PostgreSQL.
func TestWithARealServer(t *testing.T) {
	pg := servers.Postgres(t)
	for _, c := range []struct {
		name string
		test func(*testing.T, *servers.PG)
	}{{"fields", realPool}, {"conformance", conformance}, {"comes and goes", comesAndGoes}, {"wrong credentials", wrongCredentials}} {
		t.Run(c.name, func(t *testing.T) { c.test(t, pg) })
	}
}

// With a pool of one, whose connection somebody holds, and three who wait for it.
func realPool(t *testing.T, pg *servers.PG) {
	pool := servers.PgBouncer(t, pg, "default_pool_size=1")
	pg.CreateDB("dfr")
	pg.CreateDB("other")
	consoles := patient()
	var now clock
	all := map[string]*Source{}
	for _, f := range fields {
		all[f.name] = source(t, consoles, Config{DSN: pool.AdminURL(), Field: f.name, Database: "dfr"})
	}
	worker, elsewhere := dial(t, pool.URL("dfr")), dial(t, pool.URL("other"))
	work(t, worker, 1)
	work(t, elsewhere, 1)
	read := func(field string, scene fleet.Scene, want fleet.Quality) float64 {
		t.Helper()
		r, err := all[field].Read(t.Context(), scene)
		if err != nil || r.Quality != want || !r.Time.Equal(scene.Now) {
			t.Fatalf("%s: %+v, %v; want %s", field, r, err, want)
		}
		return r.Value
	}
	at := now.tick()
	for field, want := range map[string]float64{"cl_waiting": 0, "max_wait": 0, "utilization": 0, "sv_active": 0, "sv_idle": 1, "cl_active": 1, "pool_size": 1} {
		if v := read(field, at, fleet.Fresh); v != want {
			t.Errorf("at rest %s is %v, want %v", field, v, want)
		}
	}
	counted := []string{"query_rate", "xact_rate", "avg_query_time", "avg_xact_time", "avg_wait_time"}
	for _, field := range counted {
		read(field, at, fleet.Sparse) // nothing to compare with
	}

	// Somebody holds a lock: the first client waits for it with the pool's only connection, the others for that connection.
	hold := dial(t, pg.URL("dfr"))
	if _, err := hold.Exec(t.Context(), "SELECT pg_advisory_lock(7)").ReadAll(); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer hold.Close(context.Background())
	for range 4 {
		c := dial(t, pool.URL("dfr"))
		wg.Go(func() {
			if _, err := c.Exec(context.Background(), "SELECT pg_advisory_xact_lock_shared(7)").ReadAll(); err != nil {
				t.Error(err)
			}
		})
	}
	deadline := time.Now().Add(ages)
	for {
		at = now.tick()
		waiting := read("cl_waiting", at, fleet.Fresh)
		if waiting == 3 && read("max_wait", at, fleet.Fresh) > 0 && read("utilization", at, fleet.Fresh) == 100 && read("sv_active", at, fleet.Fresh) == 1 &&
			read("sv_idle", at, fleet.Fresh) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("waiting %v, max_wait %v, utilization %v", waiting, read("max_wait", at, fleet.Fresh), read("utilization", at, fleet.Fresh))
		}
	}
	pools, err := all["cl_waiting"].console.Pools(t.Context(), at.Now, "dfr", "")
	if err != nil || len(pools) != 1 {
		t.Fatal(pools, err)
	}
	if p := pools[0]; p.Database != "dfr" || p.User != "postgres" || p.Waiting != 3 || p.Taken != 1 || p.Size != 1 || p.Utilization() != 100 || p.Wait <= 0 {
		t.Errorf("%+v", p)
	}
	_ = hold.Close(context.Background())
	wg.Wait()

	work(t, worker, 20)
	work(t, elsewhere, 20)
	at = now.tick()
	if v := read("avg_query_time", at, fleet.Fresh); v < 0.0005 || v > ages.Seconds() {
		t.Errorf("avg_query_time %v s", v)
	}
	if v := read("avg_xact_time", at, fleet.Fresh); v < 0.002 {
		t.Errorf("avg_xact_time %v s, and each slept 2 ms", v)
	}
	if v := read("avg_wait_time", at, fleet.Fresh); v <= 0 {
		t.Errorf("avg_wait_time %v s, and clients waited", v)
	}
	xacts, queries := read("xact_rate", at, fleet.Fresh), read("query_rate", at, fleet.Fresh)
	if xacts <= 0 || queries < xacts {
		t.Errorf("%v transactions/s and %v statements/s", xacts, queries)
	}
}

func conformance(t *testing.T, pg *servers.PG) {
	pool := servers.PgBouncer(t, pg)
	relay := wiretest.NewRelay(t, pool.Port)
	dsn := strings.Replace(pool.AdminURL(), fmt.Sprint(pool.Port), fmt.Sprint(relay.Port), 1)
	for _, field := range []string{"cl_waiting", "utilization", "xact_rate"} {
		t.Run(field, func(t *testing.T) {
			consoles := patient()
			cfg := Config{DSN: dsn, Field: field}
			warm := 0
			if cfg.Windowed() {
				warm = 1
			}
			observetest.Conform(t, func(t *testing.T) observetest.Subject {
				relay.Return()
				s, err := consoles.Source(cfg, time.Minute, 1)
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

// soon reads tick after tick until the reading is of a quality, and returns what came with it.
func soon(t *testing.T, now *clock, s *Source, want fleet.Quality) error {
	t.Helper()
	for deadline := time.Now().Add(ages); ; {
		r, err := s.Read(t.Context(), now.tick())
		if r.Quality == want {
			return err
		}
		if time.Now().After(deadline) {
			t.Fatalf("still %s (%v), not %s", r.Quality, err, want)
		}
	}
}

// Killed and started, stopped and started, frozen and thawed: it is missing while it is away, each time for a bounded time, and comes back.
func comesAndGoes(t *testing.T, pg *servers.PG) {
	pool := servers.PgBouncer(t, pg)
	var consoles Consoles
	var now clock
	for _, field := range []string{"cl_waiting", "xact_rate"} {
		s := source(t, &consoles, Config{DSN: pool.AdminURL(), Field: field})
		for _, c := range []struct{ away, back func() }{{pool.Stop, pool.Start}, {pool.Kill, pool.Start}, {pool.Freeze, pool.Thaw}} {
			soon(t, &now, s, fleet.Fresh)
			c.away()
			if err := soon(t, &now, s, fleet.Missing); !strings.Contains(err.Error(), "PgBouncer at 127.0.0.1:") {
				t.Errorf("it says %q", err)
			}
			c.back()
		}
		soon(t, &now, s, fleet.Fresh)
		pool.Stop()
		pool.Start() // between two ticks
		soon(t, &now, s, fleet.Fresh)
	}
}

// old and new are the columns of PgBouncer 1.18 and 1.25, and later are what a version to come may have.
var (
	pools118 = []string{"database", "user", "cl_active", "cl_waiting", "cl_active_cancel_req", "cl_waiting_cancel_req", "sv_active", "sv_active_cancel",
		"sv_being_canceled", "sv_idle", "sv_used", "sv_tested", "sv_login", "maxwait", "maxwait_us", "pool_mode"}
	pools125     = append(pools118[:len(pools118):len(pools118)], "load_balance_hosts")
	databases118 = []string{"name", "host", "port", "database", "force_user", "pool_size", "min_pool_size", "reserve_pool", "pool_mode", "max_connections", "current_connections", "paused", "disabled"}
	databases125 = []string{"name", "host", "port", "database", "force_user", "pool_size", "min_pool_size", "reserve_pool_size", "server_lifetime", "pool_mode",
		"load_balance_hosts", "max_connections", "current_connections", "max_client_connections", "current_client_connections", "paused", "disabled"}
	users118 = []string{"name", "pool_mode"}
	users125 = []string{"name", "pool_size", "reserve_pool_size", "pool_mode", "max_user_connections", "current_connections", "max_user_client_connections", "current_client_connections"}
	stats118 = []string{"database", "total_xact_count", "total_query_count", "total_received", "total_sent", "total_xact_time", "total_query_time", "total_wait_time",
		"avg_xact_count", "avg_query_count", "avg_recv", "avg_sent", "avg_xact_time", "avg_query_time", "avg_wait_time"}
	stats125 = append([]string{"database", "total_server_assignment_count"}, stats118[1:]...)
)

// table is an answer in which each row gives some columns; the others are 0.
func table(columns []string, rows ...map[string]string) [][]string {
	out := [][]string{columns}
	for _, r := range rows {
		row := make([]string, len(columns))
		for i, c := range columns {
			row[i] = "0"
			if v, ok := r[c]; ok {
				row[i] = v
			}
		}
		out = append(out, row)
	}
	return out
}

type row = map[string]string

// fake is a console that is asked for a field at each tick.
type fake struct {
	*wiretest.Server
	clock
	consoles *Consoles
}

func newFake(t *testing.T, version string) *fake {
	return &fake{Server: wiretest.New(t, version), consoles: patient()}
}

func (f *fake) source(t *testing.T, field, database, user string) *Source {
	t.Helper()
	return source(t, f.consoles, Config{DSN: f.URL, Field: field, Database: database, User: user})
}

func (f *fake) expect(t *testing.T, s *Source, want float64) {
	t.Helper()
	r, err := s.Read(t.Context(), f.tick())
	if err != nil || r.Quality != fleet.Fresh || math.Abs(r.Value-want) > 1e-9 {
		t.Errorf("%s: %+v, %v; want %v", s.cfg.Field, r, err, want)
	}
}

func (f *fake) fails(t *testing.T, s *Source, want ...string) {
	t.Helper()
	r, err := s.Read(t.Context(), f.tick())
	if err == nil || r.Quality != fleet.Missing {
		t.Errorf("%s: %+v, %v; want missing", s.cfg.Field, r, err)
		return
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%s says %q, want %q", s.cfg.Field, err, w)
		}
	}
}

func twoPools(f *fake, pools, databases, users []string) {
	f.Set("SHOW POOLS", table(pools,
		row{"database": "dfr", "user": "odoo", "cl_active": "7", "cl_waiting": "2", "sv_active": "4", "sv_login": "1", "sv_tested": "1", "sv_active_cancel": "1", "sv_being_canceled": "1", "sv_idle": "2", "maxwait": "3", "maxwait_us": "250000"},
		row{"database": "dfr", "user": "report", "cl_active": "1", "cl_waiting": "1", "sv_active": "2", "sv_idle": "1", "maxwait_us": "500"},
		row{"database": "wiki", "user": "odoo", "cl_active": "5", "sv_active": "1", "sv_idle": "3"},
		row{"database": "pgbouncer", "user": "pgbouncer", "cl_active": "90", "cl_waiting": "90", "sv_active": "90", "maxwait": "90"})...)
	f.Set("SHOW DATABASES", table(databases, row{"name": "wiki", "pool_size": "20"}, row{"name": "dfr", "pool_size": "10"}, row{"name": "pgbouncer", "pool_size": "2"}, row{"name": "idle", "pool_size": "5"})...)
	f.Set("SHOW USERS", table(users, row{"name": "odoo", "pool_size": ""}, row{"name": "report", "pool_size": "NULL"})...)
}

func TestSeveralPoolsAndVersions(t *testing.T) {
	f := newFake(t, "1.18.0/bouncer")
	twoPools(f, pools118, databases118, users118)
	all := map[string]*Source{}
	check := func(want map[string]float64) {
		t.Helper()
		for field, v := range want {
			if all[field] == nil {
				all[field] = f.source(t, field, "", "")
			}
			f.expect(t, all[field], v)
		}
	}
	check(map[string]float64{"cl_active": 13, "cl_waiting": 3, "max_wait": 3.25, "utilization": 80, "sv_active": 7, "sv_idle": 6, "pool_size": 40})
	f.expect(t, f.source(t, "cl_waiting", "dfr", ""), 3)
	f.expect(t, f.source(t, "cl_waiting", "dfr", "odoo"), 2)
	f.expect(t, f.source(t, "utilization", "", "report"), 20)
	f.expect(t, f.source(t, "utilization", "idle", ""), 0) // known, and nobody has come yet

	// The same console after an upgrade, without a restart of ours: other columns, in another order, and a user's own pool size.
	f.Become("1.25.0/bouncer")
	twoPools(f, pools125, databases125, users125)
	f.Set("SHOW USERS", table(users125, row{"name": "report", "pool_size": "        2"}, row{"name": "odoo", "pool_size": ""})...)
	check(map[string]float64{"cl_waiting": 3, "max_wait": 3.25, "utilization": 100, "pool_size": 32})

	// A version that no longer tells something: only what needs it is missing.
	f.Become("3.0.0/bouncer")
	f.Set("SHOW POOLS", table([]string{"user", "database", "cl_waiting", "cl_active", "sv_active", "maxwait"}, row{"database": "dfr", "user": "odoo", "cl_waiting": "6"})...)
	f.expect(t, all["cl_waiting"], 6)
	f.fails(t, all["max_wait"], "version 3.0.0/bouncer, does not tell maxwait_us in SHOW POOLS", "PgBouncer 1.18 and later")
	f.fails(t, all["utilization"], "does not tell sv_login")
	if _, err := all["utilization"].console.Pools(t.Context(), f.tick().Now, "", ""); err == nil {
		t.Error("pools of which half is not known")
	}
	f.Set("SHOW POOLS", []string{"cl_waiting"}, []string{"3"})
	f.fails(t, all["cl_waiting"], "does not tell database")
	for _, v := range []string{"many", "NULL", "-1", "NaN", ""} {
		f.Set("SHOW POOLS", table(pools125, row{"database": "dfr", "user": "odoo", "cl_waiting": v})...)
		f.fails(t, all["cl_waiting"], "cl_waiting")
	}
}

func TestWhatIsNotThereIsNotZero(t *testing.T) {
	f := newFake(t, "1.18.0/bouncer")
	twoPools(f, pools118, databases118, users118)
	f.fails(t, f.source(t, "cl_waiting", "drf", ""), `knows no database "drf"`, "dfr, idle, wiki")
	f.fails(t, f.source(t, "cl_waiting", "dfr", "oddo"), `no pool of user "oddo"`)
	f.Set("SHOW STATS", table(stats118)...)
	f.fails(t, f.source(t, "query_rate", "drf", ""), `knows no database "drf"`)
	utilization := f.source(t, "utilization", "", "")
	f.Set("SHOW DATABASES", table(databases118, row{"name": "dfr", "pool_size": "0"}, row{"name": "wiki", "pool_size": "20"})...)
	f.fails(t, utilization, `no pool_size for database "dfr"`)
	f.Set("SHOW POOLS", table(pools118)...)
	f.expect(t, utilization, 0) // no pool at all: nothing is taken
}

func TestCountersOverAWindow(t *testing.T) {
	f := newFake(t, "1.18.0/bouncer")
	wait, all := f.source(t, "avg_wait_time", "dfr", ""), f.source(t, "avg_query_time", "", "")
	stats := func(columns []string, dfr, wiki int) {
		count := func(name string, n int) row {
			return row{"database": name, "total_xact_count": fmt.Sprint(n), "total_query_count": fmt.Sprint(4 * n), "total_query_time": fmt.Sprint(n * 8000), "total_wait_time": fmt.Sprint(n * 500)}
		}
		rows := []row{count("dfr", dfr), count("wiki", wiki), count("pgbouncer", 1e6*(dfr+1))}
		if wiki < 0 {
			rows = rows[:1]
		}
		f.Set("SHOW STATS", table(columns, rows...)...)
	}
	sparse := func(s *Source) {
		t.Helper()
		if r, err := s.Read(t.Context(), f.tick()); err != nil || r.Quality != fleet.Sparse || r.Value != 0 {
			t.Errorf("%+v, %v; want sparse", r, err)
		}
	}
	stats(stats118, 100, 100)
	sparse(wait)
	sparse(all)
	stats(stats118, 200, 300)
	f.expect(t, wait, 0.0005)
	f.expect(t, all, 0.002)
	sparse(f.source(t, "xact_rate", "", ""))

	stats(stats118, 50, 300)
	f.fails(t, wait, "began anew")
	f.fails(t, all, "began anew")
	stats(stats118, 60, 300)
	sparse(wait) // the failure is over, and there is nothing to compare with
	stats(stats118, 70, 300)
	f.expect(t, wait, 0.0005)
	sparse(all)
	stats(stats118, 1000, -1) // wiki is forgotten, and the sum rises nevertheless
	f.fails(t, all, "began anew")

	// Restarted between two ticks: the connection is another one, and nobody was told.
	stats(stats118, 1010, 400)
	f.expect(t, wait, 0.0005)
	f.Become("1.25.0/bouncer")
	stats(stats125, 2000, 400)
	f.fails(t, wait, "began anew")
	sparse(wait)
	stats(stats125, 2400, 400)
	f.expect(t, wait, 0.0005)
	if rate := f.source(t, "query_rate", "dfr", ""); rate != nil {
		sparse(rate)
		if r, err := rate.Read(t.Context(), f.tick()); err != nil || r.Quality != fleet.Fresh || r.Value != 0 {
			t.Errorf("nothing is asked: %+v, %v", r, err)
		}
	}
	few, err := f.consoles.Source(Config{DSN: f.URL, Field: "avg_query_time"}, time.Minute, 50)
	if err != nil {
		t.Fatal(err)
	}
	defer few.Close()
	sparse(few)
	stats(stats125, 2410, 400) // 40 statements
	sparse(few)
	stats(stats125, 2413, 400)
	f.expect(t, few, 0.002)
}

// Twenty signals cost one connection, and each table is asked for once a tick.
func TestOneConnectionAndOneQuestion(t *testing.T) {
	f := newFake(t, "1.18.0/bouncer")
	twoPools(f, pools118, databases118, users118)
	var all []*Source
	for range 4 {
		for _, field := range []string{"cl_waiting", "cl_active", "utilization", "max_wait", "pool_size"} {
			s, err := f.consoles.Source(Config{DSN: f.URL, Field: field}, 0, 0)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, s)
		}
	}
	const ticks = 5
	for range ticks {
		scene := f.tick()
		var wg sync.WaitGroup
		for _, s := range all {
			wg.Go(func() {
				if _, err := s.Read(t.Context(), scene); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	for _, statement := range []string{"SHOW POOLS", "SHOW DATABASES", "SHOW USERS"} {
		if n := f.Asked(statement); n != ticks {
			t.Errorf("%s was asked %d times in %d ticks", statement, n, ticks)
		}
	}
	if ever, _ := f.Dialled(); ever != 1 {
		t.Errorf("%d connections", ever)
	}
	for _, s := range all {
		s.Close()
	}
	for deadline := time.Now().Add(ages); ; time.Sleep(time.Millisecond) {
		if _, now := f.Dialled(); now == 0 {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("%d connections are left", now)
		}
	}
	if _, err := all[0].Read(t.Context(), f.tick()); err == nil {
		t.Error("a closed source reads")
	}
}

func wrongCredentials(t *testing.T, pg *servers.PG) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"hba":   "host all postgres 127.0.0.1/32 trust\nhost all stats 127.0.0.1/32 scram-sha-256\n",
		"users": "\"postgres\" \"\"\n\"stats\" \"right42\"\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for at := dir; at != os.TempDir() && at != "/"; at = filepath.Dir(at) { // PgBouncer may run as somebody else
		if err := os.Chmod(at, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	pool := servers.PgBouncer(t, pg, "auth_type = hba", "auth_hba_file = "+dir+"/hba", "auth_file = "+dir+"/users", "stats_users = stats")
	consoles := patient()
	var now clock
	right := source(t, consoles, Config{DSN: strings.Replace(pool.AdminURL(), "postgres@", "stats:right42@", 1), Field: "cl_waiting"})
	if r, err := right.Read(t.Context(), now.tick()); err != nil || r.Quality != fleet.Fresh {
		t.Errorf("one of stats_users, with the right password: %+v, %v", r, err)
	}
	for _, c := range []struct{ from, to string }{{"postgres@", "stats:geheim42@"}, {"postgres@", "nobody:geheim42@"}, {"postgres@", "stats@"}, {"/pgbouncer", "/pgbouncers"}} {
		s := source(t, consoles, Config{DSN: strings.Replace(pool.AdminURL(), c.from, c.to, 1), Field: "cl_waiting"})
		r, err := s.Read(t.Context(), now.tick())
		if err == nil || r.Quality != fleet.Missing {
			t.Errorf("%s: %+v, %v", c.to, r, err)
			continue
		}
		if text := err.Error(); strings.Contains(text, "geheim") || strings.Contains(text, "\n") {
			t.Errorf("%s: %s", c.to, text)
		} else {
			t.Log(text)
		}
	}
}

func TestValidate(t *testing.T) {
	const dsn = "postgres://stats:geheim@127.0.0.1:6432/pgbouncer"
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{Config{DSN: dsn, Field: "cl_waiting"}, "<nil>"},
		{Config{DSN: "host=/run/postgresql port=6432 dbname=pgbouncer user=stats", Field: "utilization", Database: "dfr", User: "odoo"}, "<nil>"},
		{Config{Field: "cl_waiting"}, "dsn: is missing; write postgres://USER:PASSWORD@127.0.0.1:6432/pgbouncer, or ${NAME} to take it from the environment"},
		{Config{DSN: strings.TrimSuffix(dsn, "pgbouncer") + "dfr", Field: "cl_waiting"}, "dsn: leads to another database than pgbouncer; write postgres://USER:PASSWORD@127.0.0.1:6432/pgbouncer"},
		{Config{DSN: dsn, Field: "waiting"}, `field: "waiting" is unknown; write one of cl_waiting, cl_active, max_wait, utilization, sv_active, sv_idle, pool_size, query_rate, xact_rate, avg_query_time, avg_xact_time, avg_wait_time`},
		{Config{DSN: dsn, Field: "xact_rate", User: "odoo"}, "user: is given, and PgBouncer counts xact_rate by database only; delete user"},
		{Config{DSN: dsn, Field: "cl_waiting", Database: "pgbouncer"}, "database: pgbouncer is the console itself, which has no pool; write the database that the workers use, or delete it to read all"},
	} {
		if got := fmt.Sprint(c.cfg.Validate()); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
	for _, dsn := range []string{"127.0.0.1:6432", "http://h/pgbouncer", "postgres://stats:ge%heim@h/pgbouncer", "postgres://h:port/pgbouncer"} {
		c := Config{DSN: dsn, Field: "cl_waiting"}
		err := c.Validate()
		if err == nil || strings.Contains(err.Error(), "heim") {
			t.Errorf("%s: %v", dsn, err)
		}
	}
	for field, want := range map[string][2]any{"max_wait": {fleet.Seconds, false}, "utilization": {fleet.Percent, false}, "cl_waiting": {fleet.Number, false}, "avg_query_time": {fleet.Seconds, true}} {
		c := Config{Field: field}
		if got := [2]any{c.Unit(), c.Windowed()}; got != want || c.Distribution() || c.PerWorker() {
			t.Errorf("%s is %v, want %v", field, got, want)
		}
	}
	if d := DefaultConfig(); d.Field != "cl_waiting" {
		t.Errorf("default %s", d.Field)
	}
	if _, err := new(Consoles).Source(Config{DSN: "postgres://stats:geheim@h:port/x"}, 0, 0); err == nil || strings.Contains(err.Error(), "geheim") {
		t.Errorf("got %v", err)
	}
}

func TestACancelledRead(t *testing.T) {
	f := newFake(t, "1.18.0/bouncer")
	s := f.source(t, "cl_waiting", "", "")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Read(ctx, f.tick()); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
