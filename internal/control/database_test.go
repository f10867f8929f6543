package control

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/decide/policy"
	"tidemark/internal/fleet"
	"tidemark/internal/observe/pgbouncer"
	"tidemark/internal/observe/postgres"
	"tidemark/test/servers"
)

// rig is a fleet that always wants more workers, guarded by signals of real servers. Its ticks come when the test says so.
type rig struct {
	*testing.T
	clock  *fifteenSeconds
	target *testTarget
	runner *runner
}

func newRig(t *testing.T, p policy.Fleet, sources ...Source) *rig {
	t.Helper()
	r := &rig{T: t, clock: &fifteenSeconds{now: time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC)}, target: &testTarget{n: 2}}
	p.Name, p.Mode, p.Bounds = "odoo", fleet.On, fleet.Bounds{Min: 2, Max: 20}
	p.Policies = []policy.Policy{{ID: "busy", Mode: fleet.On, Rules: []policy.Rule{{Operator: fleet.AtLeast, Threshold: 70, Change: 3, N: 1, M: 1}}}}
	p.Signals = append([]policy.Signal{{Name: "cpu", Unit: fleet.Percent, Period: 15 * time.Second}}, p.Signals...)
	p.ActionLimit = time.Minute
	opts := New(Options{Journal: &memJournal{}, Clock: r.clock}).opts
	var err error
	r.runner, err = newRunner(t.Context(), opts, &ledger{}, Parts{Policy: p, Sources: append([]Source{steadySource(95)}, sources...), Target: r.target}, 0)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// tick is one tick, and what it decided done.
func (r *rig) tick() *fleet.Decision {
	r.clock.now = r.clock.now.Add(15 * time.Second)
	r.runner.tick(context.Background(), time.Time{})
	if r.runner.acting != nil {
		r.runner.acted(<-r.runner.acting.ended)
	}
	return &r.runner.decision
}

func code(d *fleet.Decision, c fleet.Code) *fleet.Reason {
	if i := slices.IndexFunc(d.Reasons, func(r fleet.Reason) bool { return r.Code == c }); i >= 0 {
		return &d.Reasons[i]
	}
	return nil
}

// until ticks until a reason is there. On the way nobody may be added, unless grow says so. How many ticks it takes depends on how soon
// the servers answer on a loaded machine.
func (r *rig) until(c fleet.Code, grow bool) *fleet.Reason {
	r.Helper()
	var d *fleet.Decision
	for range 40 {
		before := r.target.n
		d = r.tick()
		if !grow && d.To > before {
			r.Fatalf("%s while waiting for %v: %+v", d.Headline(), c, d.Reasons)
		}
		if reason := code(d, c); reason != nil {
			return reason
		}
	}
	r.Fatalf("no %v within 40 ticks: %s, %+v; errors %v", c, d.Headline(), d.Reasons, r.runner.readErrs)
	return nil
}

// grows ticks until workers are added.
func (r *rig) grows() *fleet.Decision {
	r.Helper()
	for range 40 {
		if d := r.tick(); d.To > d.From {
			return d
		}
	}
	r.Fatalf("nobody was added in 40 ticks: %+v; errors %v", r.runner.decision.Reasons, r.runner.readErrs)
	return nil
}

func connect(t *testing.T, url string) *pgconn.PgConn {
	t.Helper()
	c, err := pgconn.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

func query(t *testing.T, c *pgconn.PgConn, sql string) {
	t.Helper()
	if _, err := c.Exec(t.Context(), sql).ReadAll(); err != nil {
		t.Fatal(err)
	}
}

// A real PgBouncer with a pool of one, six clients that wait for it, then none; then it is frozen. Workers are added only when it has
// room and says so; the minimum is restored all the same.
func TestGuardOfARealPgBouncer(t *testing.T) {
	pg := servers.Postgres(t)
	pool := servers.PgBouncer(t, pg, "default_pool_size=1")
	pg.CreateDB("dfr")
	consoles := new(pgbouncer.Consoles)
	source, err := consoles.Source(pgbouncer.Config{DSN: pool.AdminURL(), Field: "cl_waiting", Database: "dfr"}, 15*time.Second, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = source.Close() })
	connect(t, pool.URL("dfr")) // the pool exists from now on

	var p policy.Fleet
	p.Signals = []policy.Signal{{Name: "pool_waiting", Period: 15 * time.Second, Statistic: policy.Max}}
	p.Guards = []policy.Guard{{Name: "database", Protects: policy.ProtectsDatabase, If: []policy.Condition{{
		Rule: policy.Rule{Signal: 1, Operator: fleet.AtLeast, Threshold: 5, N: 3, M: 1}, Release: 5}}}}

	hold := connect(t, pg.URL("dfr"))
	query(t, hold, "SELECT pg_advisory_lock(7)")
	waiting := make(chan error, 7)
	for range 7 { // one waits for the lock with the pool's only connection, six for that connection
		c := connect(t, pool.URL("dfr"))
		go func() {
			_, err := c.Exec(context.Background(), "SELECT pg_advisory_lock_shared(7), pg_advisory_unlock_shared(7)").ReadAll()
			waiting <- err
		}()
	}
	r := newRig(t, p, source)
	reason := r.until(fleet.BlockedDatabase, false)
	if reason.Value < 5 || !strings.HasPrefix(reason.Sentence(r.clock.now), "blocked by the database: pool_waiting is ") {
		t.Errorf("%s (%g)", reason.Sentence(r.clock.now), reason.Value)
	}
	query(t, hold, "SELECT pg_advisory_unlock(7)")
	for range 7 {
		if err := <-waiting; err != nil {
			t.Fatal(err)
		}
	}
	if d := r.grows(); d.To != 5 {
		t.Errorf("%s once the pool has room, want 2 -> 5", d.Headline())
	}

	pool.Freeze()
	r.until(fleet.GuardUnknown, true)
	r.target.set(1)
	if d := r.tick(); d.From != 1 || d.To != 2 {
		t.Errorf("%s below the minimum, and the guard cannot be seen", d.Headline())
	}
	r.until(fleet.GuardUnknown, false)
	pool.Thaw()
	r.grows()
}

// A real PostgreSQL with so many connections taken that one worker of three finds its own, and then none.
func TestConnectionBudgetOfARealPostgreSQL(t *testing.T) {
	const perWorker = 2
	pg := servers.Postgres(t, "max_connections=20")
	databases := new(postgres.Databases)
	source, err := databases.Source(postgres.Config{DSN: pg.URL("postgres"), Field: "connections_free"}, 15*time.Second, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = source.Close() })
	var p policy.Fleet
	p.Signals = []policy.Signal{{Name: "pg_free", Period: 15 * time.Second}}
	p.Supplies = []policy.Supply{{Resource: policy.Connections, Free: []int{1}, PerWorker: perWorker}}
	r := newRig(t, p, source)
	free := func() int {
		t.Helper()
		for range 40 {
			r.clock.now = r.clock.now.Add(time.Second) // an answer is shared by all who ask at one moment
			if got, err := source.Read(t.Context(), fleet.Scene{Now: r.clock.now}); err == nil {
				return int(got.Value)
			}
		}
		t.Fatal("PostgreSQL does not say how many connections are free")
		return 0
	}
	for left := free(); left > 3; left-- { // room for one worker and a half
		connect(t, pg.URL("postgres"))
	}
	if left := free(); left != 3 {
		t.Fatalf("%d connections are free, want 3", left)
	}
	reason := r.until(fleet.LimitedConnections, true)
	if r.runner.decision.To != 3 || reason.Value != 3 || reason.Limit != 1 || reason.Want != 5 {
		t.Errorf("%s: %s", r.runner.decision.Headline(), reason.Sentence(r.clock.now))
	}
	for range perWorker { // what the new worker holds
		connect(t, pg.URL("postgres"))
	}
	reason = r.until(fleet.LimitedConnections, false)
	if want := fmt.Sprintf("blocked by the database's connections: pg_free is 1, at %d a worker: none fits", perWorker); reason.Sentence(r.clock.now) != want {
		t.Errorf("got  %s\nwant %s", reason.Sentence(r.clock.now), want)
	}
}
