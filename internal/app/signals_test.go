package app

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tidemark/internal/control"
	"tidemark/internal/decide/engine"
	"tidemark/internal/fleet"
	"tidemark/internal/observe/postgres/wire/wiretest"
	"tidemark/test/servers"
)

// five are the servers of a registry: its database and pool, a Prometheus, and two nginx that show figures of programs, one of
// them to who shows a token.
type five struct {
	pg     *servers.PG
	pool   *servers.Bouncer
	prom   *servers.Prom
	app    *servers.Web
	secret *servers.Web
}

const token20 = "0123456789-only-for-tests"

func startFive(t testing.TB) *five {
	t.Helper()
	f := &five{pg: servers.Postgres(t), prom: servers.Prometheus(t), app: servers.Nginx(t, "'$request_uri'", "")}
	f.pool = servers.PgBouncer(t, f.pg, "default_pool_size=5")
	f.secret = servers.Nginx(t, "'$request_uri'", fmt.Sprintf(`if ($http_authorization != "Bearer %s") { return 401; }`, token20))
	f.sessions(20)
	f.secret.Write("depth.json", `{"queues": [{"length": 3}]}`)
	return f
}

// sessions sets what steers the fleet: above 40 it grows, below 10 it shrinks.
func (f *five) sessions(n int) {
	f.app.Write("metrics", fmt.Sprintf("active_mobile_sync_sessions{zone=\"a\"} %d\nactive_mobile_sync_sessions{zone=\"b\"} 0\nbusy 0.5\n", n))
	f.app.Write("health.json", `{"workers": 4}`)
}

// server is one of the five, and which signals it gives.
type server struct {
	name    string
	process interface {
		Freeze()
		Thaw()
		Kill()
		Start()
	}
	port    int
	signals []string
}

func (f *five) servers() []server {
	return []server{
		{"postgres", f.pg, f.pg.Port, []string{"connections", "connections_used", "locks", "oldest", "size", "queue", "cache_hits"}},
		{"pgbouncer", f.pool, f.pool.Port, []string{"pool_waiting", "pool_clients", "pool_utilization", "pool_size", "pool_queries"}},
		{"prometheus", f.prom, f.prom.Port, []string{"scraped", "goroutines", "scrapes_p95"}},
		{"nginx of the application", f.app, f.app.Port, []string{"sessions", "busy", "capacity", "per_worker"}},
		{"nginx behind a token", f.secret, f.secret.Port, []string{"depth", "deep"}},
	}
}

// fleet is 20 signals, and one derived of them. Each server has a part in the decision to shrink.
func (f *five) fleet() string {
	return fmt.Sprintf(`
    signals:
      connections:      {postgres: {dsn: "%[1]s", field: connections}, period: 1s}
      connections_used: {postgres: {dsn: "%[1]s", field: connections_used_percent}, period: 1s}
      locks:            {postgres: {dsn: "%[1]s", field: waiting_locks}, period: 1s}
      oldest:           {postgres: {dsn: "%[1]s", field: oldest_transaction}, period: 1s}
      size:             {postgres: {dsn: "%[1]s", field: database_size}, period: 1s}
      queue:            {postgres: {dsn: "%[1]s", query: "SELECT 0"}, period: 1s}
      cache_hits:       {postgres: {dsn: "%[1]s", field: cache_hit_ratio}, period: 1s, window: 10s}
      pool_waiting:     {pgbouncer: {dsn: "%[2]s", field: cl_waiting}, period: 1s}
      pool_clients:     {pgbouncer: {dsn: "%[2]s", field: cl_active}, period: 1s}
      pool_utilization: {pgbouncer: {dsn: "%[2]s", field: utilization}, period: 1s}
      pool_size:        {pgbouncer: {dsn: "%[2]s", field: pool_size}, period: 1s}
      pool_queries:     {pgbouncer: {dsn: "%[2]s", field: query_rate}, period: 1s, window: 10s}
      scraped:          {prometheus: {url: "%[3]s", query: up, timeout: 1s}, period: 1s}
      goroutines:       {prometheus: {url: "%[3]s", query: go_goroutines, timeout: 1s}, period: 1s}
      scrapes_p95:      {prometheus: {url: "%[3]s", query: go_goroutines, step: 1s, timeout: 1s}, statistic: p95, period: 1s, window: 10s, min_samples: 1}
      sessions:         {http: {url: "%[4]s", metric: active_mobile_sync_sessions, sum: true, timeout: 1s}, period: 1s}
      busy:             {http: {url: "%[4]s", metric: busy, timeout: 1s}, period: 1s}
      capacity:         {http: {url: "%[5]s", json: /workers, timeout: 1s}, period: 1s}
      depth:            {http: {url: "%[6]s", json: /queues/0/length, bearer_token: %[7]s, timeout: 1s}, period: 1s}
      deep:             {http: {url: "%[6]s", json: /queues/0/length, bearer_token: %[7]s, timeout: 1s}, period: 1s}
      per_worker:       {expression: {of: "sessions / workers"}, period: 1s, per_worker: true}
    policies:
      - id: sync
        rules:
          - {signal: sessions, operator: ">=", threshold: 40, scale_change: +1, evaluation_periods: 1}
          - {signal: sessions, operator: "<=", threshold: 10, scale_change: -1, evaluation_periods: 1}
      - id: every-server
        rules:
          - {signal: queue, operator: ">=", threshold: 1000, scale_change: +1, evaluation_periods: 1}
          - {signal: pool_waiting, operator: "<=", threshold: 1000, scale_change: -1, evaluation_periods: 1}
          - {signal: scraped, operator: ">=", threshold: 1000, scale_change: +1, evaluation_periods: 1}
          - {signal: depth, operator: ">=", threshold: 1000, scale_change: +1, evaluation_periods: 1}
          - {signal: per_worker, operator: ">=", threshold: 1000, scale_change: +1, evaluation_periods: 1}
    safeguards: {max_scaling_rate: 1 per 1s, cooldown: {scale_up: 1s, scale_down: 1s}}
`, f.pg.URL("postgres"), f.pool.AdminURL(), f.prom.URL(), f.app.URL("/metrics"), f.app.URL("/health.json"), f.secret.URL("/depth.json"), token20)
}

// good reports whether all signals but those are there: fresh, or, for those over a window, with too little in it yet.
func good(st *control.Status, but []string) bool {
	for i := range st.Signals {
		s := &st.Signals[i]
		if !slices.Contains(but, s.Name) && s.Reading.Quality < fleet.Sparse {
			return false
		}
	}
	return len(st.Signals) == 21
}

// lost reports whether none of those is there, and why is said of each.
func lost(st *control.Status, names []string) bool {
	for _, name := range names {
		if s := signal(st, name); s.Reading.Quality >= fleet.Sparse || s.Err == "" {
			return false
		}
	}
	return true
}

// alarm is the state of a signal's rule with a change of this sign.
func alarm(st *control.Status, name string, change int) fleet.AlarmState {
	for i := range st.Rules {
		if r := &st.Rules[i]; r.Signal == name && r.Change*change > 0 {
			return r.State
		}
	}
	return fleet.InsufficientData
}

// passes waits until so many more ticks are over.
func (w *world) passes(ticks int) {
	w.t.Helper()
	for range ticks {
		before := w.status().Time
		w.eventually("another tick", func(st *control.Status) bool { return st.Time.After(before) })
	}
}

// rubbish answers at a port whoever comes with what no server says.
func rubbish(t *testing.T, port int) (stop func()) {
	t.Helper()
	var l net.Listener
	for deadline := time.Now().Add(ages); l == nil; time.Sleep(10 * time.Millisecond) { // the server's children may still hold the port
		var err error
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err != nil && time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "\x00\xffwhat do you want?\r\n\r\n")
			_ = c.Close()
		}
	}()
	return func() { _ = l.Close(); <-done }
}

// A fleet with 20 signals on five real servers. Each server in turn is frozen, killed, and answers rubbish: the other signals stay, the
// fleet does not shrink on what it cannot see, and all is well again without a restart.
func TestEachServerFails(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: five real servers, each broken three times")
	}
	f := startFive(t)
	leaks := goleak.IgnoreCurrent()
	w := emptyWorld(t, 4)
	w.write("", f.fleet())
	w.start()
	w.eventually("20 signals", func(st *control.Status) bool { return good(st, nil) })

	for _, s := range f.servers() {
		for _, fault := range []struct {
			name       string
			fail, mend func()
		}{
			{"frozen", s.process.Freeze, s.process.Thaw},
			{"killed", s.process.Kill, s.process.Start},
			{"answers rubbish", nil, nil},
		} {
			ok := t.Run(s.name+" "+fault.name, func(t *testing.T) {
				w.t = t
				if fault.fail == nil {
					s.process.Kill()
					stop := rubbish(t, s.port)
					fault.mend = func() { stop(); s.process.Start() }
				} else {
					fault.fail()
				}
				w.eventually("the loss of its signals alone", func(st *control.Status) bool { return lost(st, s.signals) && good(st, s.signals) })
				steers := !slices.Contains(s.signals, "sessions")
				if steers {
					f.sessions(5) // all that is seen asks for fewer workers
					w.eventually("the wish to shrink", func(st *control.Status) bool { return alarm(st, "sessions", -1) == fleet.Alarm })
				}
				w.passes(3)
				if st := w.status(); st.Size.Serving != 4 || !good(st, s.signals) || !lost(st, s.signals) {
					t.Errorf("size %+v, signals %+v", st.Size, st.Signals)
				}
				if steers {
					f.sessions(20)
					w.eventually("no wish to shrink", func(st *control.Status) bool { return alarm(st, "sessions", -1) == fleet.OK })
				}
				fault.mend()
				w.eventually("all signals again", func(st *control.Status) bool { return good(st, nil) })
			})
			if !ok {
				t.FailNow()
			}
		}
	}
	w.t = t
	if got := w.scaled(); got != "" {
		t.Errorf("scaled to %s while something was broken", got)
	}
	// One connection each, however many signals, and none left behind by those that failed.
	if got := f.pg.Exec("postgres", "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tidemark'"); got != "1" {
		t.Errorf("%s connections to PostgreSQL", got)
	}

	// Blind in one eye it may still grow.
	f.pg.Freeze()
	w.eventually("the loss of the database", func(st *control.Status) bool { return lost(st, []string{"queue"}) })
	f.sessions(50)
	w.eventually("a fifth worker", func(st *control.Status) bool { return st.Size.Serving >= 5 })
	f.sessions(5)
	w.eventually("the wish to shrink", func(st *control.Status) bool { return alarm(st, "sessions", -1) == fleet.Alarm })
	f.pg.Thaw()
	w.eventually("the smallest fleet", func(st *control.Status) bool { return st.Size.Serving == 2 })
	w.Stop()
	if got := f.pg.Exec("postgres", "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tidemark'"); got != "0" {
		t.Errorf("%s connections to PostgreSQL after the end", got)
	}
	goleak.VerifyNone(t, leaks, goleak.IgnoreAnyFunction("tidemark/test/servers.(*process).Start.func1")) // of servers started since
}

// A server that is slow, and one that comes back in a new version, whose columns are others: what can be read is read, the rest is missing
// and says why, and nothing is left behind.
func TestSlowAndRenewedServers(t *testing.T) {
	relay := wiretest.NewRelay(t, servers.Postgres(t).Port)
	pool := wiretest.New(t, "1.18.0/bouncer")
	leaks := goleak.IgnoreCurrent()
	columns := []string{"database", "user", "cl_active", "cl_waiting", "sv_active"}
	pool.Set("SHOW POOLS", columns, []string{"dfr", "odoo", "5", "3", "5"})
	w := newWorld(t, "", fmt.Sprintf(`
    signals:
      pool_waiting: {pgbouncer: {dsn: "postgres://tidemark@127.0.0.1:%d/pgbouncer?sslmode=disable"}, period: 1s}
      queue:        {postgres: {dsn: "postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", query: "SELECT 7"}, period: 1s}
    policies:
      - id: any
        rules:
          - {signal: queue, operator: ">=", threshold: 1000, scale_change: +1, evaluation_periods: 1}
          - {signal: queue, operator: "<=", threshold: 10, scale_change: -1, evaluation_periods: 1}
          - {signal: pool_waiting, operator: "<=", threshold: 10, scale_change: -1, evaluation_periods: 1}
    safeguards: {max_scaling_rate: 1 per 1s, cooldown: {scale_up: 1s, scale_down: 1s}}
`, pool.Port(), relay.Port))
	fresh := func(name string, v float64) func(*control.Status) bool {
		return func(st *control.Status) bool {
			r := signal(st, name).Reading
			return r.Quality == fleet.Fresh && r.Value == v
		}
	}
	w.eventually("both figures", func(st *control.Status) bool { return fresh("pool_waiting", 3)(st) && fresh("queue", 7)(st) })

	pool.Set("SHOW POOLS", []string{"new", "cl_waiting", "user", "database", "cl_active", "newer"}, []string{"x", "4", "odoo", "dfr", "5", "NULL"})
	pool.Become("1.99.0/bouncer")
	w.eventually("the new version's figure", fresh("pool_waiting", 4))
	pool.Set("SHOW POOLS", []string{"database", "user", "cl_queued"}, []string{"dfr", "odoo", "0"})
	pool.Become("2.0.0/bouncer")
	w.eventually("what the version does not tell", func(st *control.Status) bool {
		return strings.Contains(signal(st, "pool_waiting").Err, "version 2.0.0/bouncer, does not tell cl_waiting in SHOW POOLS; Tidemark reads PgBouncer 1.18 and later")
	})
	w.put("size", "4") // all that is seen asks for fewer, and what is not seen forbids it
	w.eventually("the wish to shrink", func(st *control.Status) bool { return st.Size.Serving == 4 && alarm(st, "queue", -1) == fleet.Alarm })
	w.passes(10)
	if got := w.scaled(); got != "" {
		t.Errorf("scaled to %s", got)
	}
	pool.Set("SHOW POOLS", columns, []string{"dfr", "odoo", "5", "3", "5"})
	pool.Become("1.18.0/bouncer")
	w.eventually("the smallest fleet", func(st *control.Status) bool { return st.Size.Serving == 2 })

	relay.Delay(200 * time.Millisecond) // each message; a question has several
	w.passes(2)
	w.eventually("a figure of a slow server", fresh("queue", 7))
	relay.Delay(5 * time.Second)
	w.eventually("the loss of a server that is too slow, and of no other", func(st *control.Status) bool {
		return lost(st, []string{"queue"}) && fresh("pool_waiting", 3)(st)
	})
	relay.Delay(0)
	w.eventually("a figure again", fresh("queue", 7))
	if _, now := pool.Dialled(); now != 1 {
		t.Errorf("%d connections to the pool", now)
	}
	w.Stop()
	if !relay.Settle(ages) {
		t.Error("connections are left behind")
	}
	for deadline := time.Now().Add(ages); ; time.Sleep(10 * time.Millisecond) {
		if _, now := pool.Dialled(); now == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("a connection to the pool is left behind")
		}
	}
	goleak.VerifyNone(t, leaks)
}

// BenchmarkTick is a whole tick, of 20 signals on five real servers: the target asked, all signals read, decided and recorded.
func BenchmarkTick(b *testing.B) {
	w := emptyWorld(b, 4)
	w.tick = "10m" // no tick but those that an order brings
	w.write("", strings.NewReplacer("period: 1s", "period: 10m", "window: 10s", "window: 10m", "safeguards: {", "safeguards: {action_timeout: 10m, ").Replace(startFive(b).fleet()))
	w.start()
	tick := func() {
		if _, err := w.Order(b.Context(), "f", engine.Order{Kind: engine.Release, By: "benchmark"}); err != nil {
			b.Fatal(err)
		}
	}
	for tick(); !good(w.status(), nil); tick() {
	}
	for b.Loop() {
		tick()
	}
}

// BenchmarkReads is what the signals of four servers cost to read, all at once as the loop does, while the fifth answers and while it is
// frozen: the others must not feel it.
func BenchmarkReads(b *testing.B) {
	f := startFive(b)
	w := emptyWorld(b, 4)
	w.write("", f.fleet())
	a, err := New(w.path, Options{})
	if err != nil {
		b.Fatal(err)
	}
	built, err := a.build(b.Context(), a.cfg)
	if err != nil {
		b.Fatal(err)
	}
	a.prune(a.cfg)
	defer a.close()
	frozen := f.servers()[0].signals
	// read reads all signals, and returns when those of the other servers are there: the first error of these.
	read := func(b *testing.B) error {
		ctx, cancel := context.WithTimeout(b.Context(), 5*time.Second)
		defer cancel()
		scene := fleet.Scene{Now: time.Now(), WorkersKnown: true}
		var others, all sync.WaitGroup
		failed := make(chan error, len(built[0].Sources))
		for i, src := range built[0].Sources {
			if src == nil {
				continue
			}
			one := func() {
				r, err := src.Read(ctx, scene)
				if mine := slices.Contains(frozen, built[0].Policy.Signals[i].Name); !mine && r.Quality < fleet.Sparse {
					failed <- err
				}
			}
			if slices.Contains(frozen, built[0].Policy.Signals[i].Name) {
				all.Go(one)
			} else {
				others.Go(one)
			}
		}
		others.Wait()
		b.StopTimer()
		all.Wait()
		b.StartTimer()
		select {
		case err := <-failed:
			return err
		default:
			return nil
		}
	}
	for deadline := time.Now().Add(ages); read(b) != nil; { // until Prometheus has scraped a little
		if time.Now().After(deadline) {
			b.Fatal(read(b))
		}
	}
	var perRead [2]time.Duration
	for i, state := range []string{"all well", "one frozen"} {
		b.Run(state, func(b *testing.B) {
			for range b.N {
				if err := read(b); err != nil {
					b.Fatal(err)
				}
			}
			perRead[i] = b.Elapsed() / time.Duration(b.N)
			if i == 1 {
				b.ReportMetric(float64(perRead[1])/float64(perRead[0]), "frozen/well")
			}
		})
		f.pg.Freeze()
	}
	f.pg.Thaw()
}
