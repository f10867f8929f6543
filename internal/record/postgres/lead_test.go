package postgres

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/record"
	"tidemark/internal/record/tables"
	"tidemark/test/servers"
)

func tick(n int) record.Tick {
	at := time.Date(2027, 3, 1, 6, 0, n, 0, time.UTC)
	return record.Tick{Fleet: "f", Time: at, State: []byte{byte(n)}, Events: []fleet.Event{{Time: at, Fleet: "f", Kind: fleet.EventDecision, To: n}}}
}

// recorded are the numbers of the ticks in the journal, oldest first.
func recorded(t *testing.T, c Config) (out []int) {
	t.Helper()
	r, err := OpenReadOnly(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	events, err := r.Events(t.Context(), record.EventQuery{Limit: 10_000})
	if err != nil {
		t.Fatal(err)
	}
	for i := range events {
		out = append(out, events[len(events)-1-i].To)
	}
	return out
}

func mustLead(t *testing.T, c Config, spool *Spool) *Journal {
	t.Helper()
	s, err := Stand(c, Options{Holder: t.Name(), Uptime: uptime, Log: func(line string) { t.Log(line) }, Spool: spool})
	if err != nil {
		t.Fatal(err)
	}
	j, err := s.Lead(t.Context(), record.Retention{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

func want(t *testing.T, c Config, numbers ...int) {
	t.Helper()
	got := recorded(t, c)
	if len(got) != len(numbers) {
		t.Fatalf("recorded are %v, want %v", got, numbers)
	}
	for i := range got {
		if got[i] != numbers[i] {
			t.Fatalf("recorded are %v, want %v", got, numbers)
		}
	}
}

// The database itself refuses a leader of the past, in the transaction in which it would write; what was under way is cut short.
func TestLeaderOfThePastWritesNothing(t *testing.T) {
	pg := servers.Postgres(t)
	c := fresh(pg)
	j := mustLead(t, c, nil)
	acting, err := j.Lead(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Commit(t.Context(), tick(1)); err != nil {
		t.Fatal(err)
	}
	pg.Exec("postgres", "UPDATE "+c.Schema+".lead SET generation = generation + 1, written = 0, resigned = true")
	if acting.Err() != nil {
		t.Errorf("nothing has been said to this one yet: %v", acting.Err())
	}
	for range 2 {
		if err := j.Commit(t.Context(), tick(2)); !errors.Is(err, record.ErrDeposed) {
			t.Fatalf("commit: %v", err)
		}
	}
	<-j.Deposed()
	<-acting.Done()
	if _, err := j.Lead(t.Context()); !errors.Is(err, record.ErrDeposed) || !errors.Is(j.Held(), record.ErrDeposed) {
		t.Errorf("it still leads: %v, %v", err, j.Held())
	}
	if err := j.Maintain(t.Context(), time.Now()); !errors.Is(err, record.ErrDeposed) {
		t.Errorf("maintenance: %v", err)
	}
	want(t, c, 1)
	next := mustLead(t, c, nil)
	if err := next.Commit(t.Context(), tick(3)); err != nil {
		t.Fatal(err)
	}
	if next.generation != j.generation+2 {
		t.Errorf("generation %d after %d", next.generation, j.generation)
	}
	want(t, c, 1, 3)
}

// A session that ends does not end the lead: the writer opens another, and the lock and the generation are its own still. While the server
// refuses new ones nothing is written.
func TestLeadOutlivesItsSession(t *testing.T) {
	pg := servers.Postgres(t)
	pg.CreateDB("shared")
	c := Config{DSN: pg.URL("shared"), Schema: "tidemark"}
	j := mustLead(t, c, nil)
	const end = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
	pg.Exec("postgres", end)
	if err := j.Commit(t.Context(), tick(1)); err != nil {
		t.Fatal(err)
	}
	pg.Exec("postgres", "ALTER DATABASE shared ALLOW_CONNECTIONS false")
	pg.Exec("postgres", end)
	if err := j.Commit(t.Context(), tick(2)); err == nil || errors.Is(err, record.ErrDeposed) {
		t.Fatalf("commit to a server that refuses: %v", err)
	}
	pg.Exec("postgres", "ALTER DATABASE shared ALLOW_CONNECTIONS true")
	if err := j.Commit(t.Context(), tick(3)); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Lead(t.Context()); err != nil {
		t.Fatal(err)
	}
	want(t, c, 1, 3)
}

// A leader that PostgreSQL does not answer may act until validity is over and no longer, and what it did is cut short then. When PostgreSQL is
// back it leads on; nothing that was refused is recorded, and what was kept is.
func TestHoldsWithoutPostgreSQL(t *testing.T) {
	pg := servers.Postgres(t)
	c := fresh(pg)
	j := mustLead(t, c, nil)
	acting, err := j.Lead(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pg.Kill()
	if err := j.Commit(t.Context(), tick(1)); err == nil || errors.Is(err, record.ErrDeposed) {
		t.Fatalf("commit without PostgreSQL: %v", err)
	}
	<-acting.Done() // within validity
	if err := j.Held(); !errors.Is(err, errLapsed) {
		t.Errorf("held: %v", err)
	}
	if _, err := j.Lead(t.Context()); err == nil {
		t.Error("it led without PostgreSQL")
	}
	pg.Start()
	if err := j.Commit(t.Context(), tick(2)); err != nil {
		t.Fatal(err)
	}
	if err := j.Held(); err != nil {
		t.Error(err)
	}
	want(t, c, 2)
}

// What a daemon could not record before it ended is taken in by the next lead of its host, once, and only what is newer than what is recorded.
func TestSpoolIsCaughtUp(t *testing.T) {
	pg := servers.Postgres(t)
	c, dir := fresh(pg), t.TempDir()
	spool, err := OpenSpool(dir)
	if err != nil {
		t.Fatal(err)
	}
	j := mustLead(t, c, spool)
	if err := j.Commit(t.Context(), tick(3)); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{2, 3, 4, 5} {
		kept := tick(n)
		kept.State = nil
		kept.Size = fleet.Size{Known: true, Serving: n}
		if err := spool.Keep(kept); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the second time there is nothing left
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		if spool, err = OpenSpool(dir); err != nil {
			t.Fatal(err)
		}
		j = mustLead(t, c, spool)
		want(t, c, 3, 4, 5)
	}
	if state, _, err := j.State(t.Context(), "f"); err != nil || string(state) != "\x03" {
		t.Errorf("state %v, %v: what was kept has none", state, err)
	}
	// Within one lead the daemon catches up itself, a part at a time, and goes on where it was.
	const many = 2*spoolPart + 1
	for n := range many {
		if err := spool.Keep(tick(n)); err != nil {
			t.Fatal(err)
		}
	}
	away := errors.New("away again")
	var got []record.Tick
	for _, want := range []error{away, nil, nil} {
		err := spool.Recover(t.Context(), "f", func(part ...record.Tick) error {
			if len(got) == spoolPart && want != nil {
				return want
			}
			got = append(got, part...)
			return nil
		})
		if !errors.Is(err, want) {
			t.Fatalf("%v, want %v", err, want)
		}
	}
	for n := range got {
		if !got[n].Time.Equal(tick(n).Time) {
			t.Fatalf("tick %d is of %v", n, got[n].Time)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 || len(got) != many {
		t.Errorf("%d ticks are recovered, of %d; %v is left, %v", len(got), many, left, err)
	}
}

// A pool of transactions is found out.
func TestPoolIsRefused(t *testing.T) {
	pg := servers.Postgres(t)
	c := Config{DSN: servers.PgBouncer(t, pg).URL("postgres"), Schema: "pooled"}
	ctx, stop := context.WithCancel(t.Context())
	s, err := Stand(c, Options{Uptime: uptime, Log: func(string) { stop() }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Lead(ctx, record.Retention{}); !errors.Is(err, context.Canceled) {
		t.Fatalf("lead: %v", err)
	}
	if !strings.Contains(s.State(), "a pool answers at this address") {
		t.Errorf("state: %s", s.State())
	}
}

// What seemed lost with the connection at the end of its commit, and is recorded after all, ends the lead: what the loop believes is no longer
// what is recorded. An empty transaction changes nothing that anybody believes.
func TestCommitOfUnknownEnd(t *testing.T) {
	pg := servers.Postgres(t)
	c := fresh(pg)
	s, err := Stand(c, Options{Holder: t.Name(), Uptime: uptime, Log: func(string) {}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := newWriter(s.settings, c.Schema, uptime)
	t.Cleanup(func() { _ = w.Close() })
	if taken, err := w.take(t.Context(), seen{}, "test"); err != nil || !taken {
		t.Fatalf("take: %v, %v", taken, err)
	}
	empty := func(context.Context, *tables.Writer) error { return nil }
	one := func(ctx context.Context, w *tables.Writer) error { k := tick(1); return w.Put(ctx, &k) }
	for range 2 {
		if err := w.Transact(t.Context(), empty); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Transact(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	w.drop()
	w.unsure = w.written + 1 // as after a commit that did not come to pass
	if err := w.Transact(t.Context(), empty); err != nil {
		t.Fatal(err)
	}
	w.drop()
	w.unsure = w.written // as after one that did, unheard
	if err := w.Transact(t.Context(), empty); !errors.Is(err, record.ErrDeposed) || !strings.Contains(err.Error(), "recorded after all") {
		t.Fatalf("after a commit that was taken for lost: %v", err)
	}
}
