package store_test

import (
	"database/sql"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/registry"
	"tidemark/registry/store"
	"tidemark/registry/store/postgres"
)

func TestSyncLog(t *testing.T) {
	everywhere(t, func(t *testing.T, s *store.Store) {
		c := farmer(1, nil)
		did(t, s, device("a"), c)
		entry := store.SyncEntry{
			Device: "a", At: now, Took: 1500 * time.Millisecond, Op: "push", Batch: "b", App: "dfr/2", Protocol: 1, Schema: 2, Status: 200, Received: 10, Sent: 20,
			Outcomes: map[registry.Outcome]int{registry.Created: 3, store.Replayed: 1}, Records: 4, More: true,
		}
		refused := store.SyncEntry{Device: "a", At: now.Add(time.Second), Op: "push", Status: 409, Problem: "The app is too old"}
		other := store.SyncEntry{Device: "b", At: now, Op: "pull", Status: 200}
		for _, e := range []store.SyncEntry{entry, refused, other} {
			if err := s.LogSync(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
		if b, err := s.Backlog(t.Context(), now.Add(2*time.Second)); err != nil || b.SyncSessions != 1 {
			t.Errorf("%+v %v: a has more to pull, b has not", b, err)
		}
		log := func(device string, want ...store.SyncEntry) {
			t.Helper()
			got, err := s.SyncLog(t.Context(), device, 10)
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Error(err, diff)
			}
		}
		log("a", refused, entry)
		log("", other, refused, entry)
		// What is old is forgotten when the device is seen again: the log first, the answers to op ids much later.
		late := store.SyncEntry{Device: "a", At: now.AddDate(0, 0, 100), Op: "pull", Status: 200}
		if err := s.LogSync(t.Context(), late); err != nil {
			t.Fatal(err)
		}
		log("", late, other)
		if got := did(t, s, device("a"), c); got[0] != "created v1 replayed" {
			t.Error(got)
		}
		late.At = now.AddDate(0, 0, 401)
		if err := s.LogSync(t.Context(), late); err != nil {
			t.Fatal(err)
		}
		if got := did(t, s, device("a"), c); got[0] != "merged v1" {
			t.Error("forgotten and carried out again, it must change nothing:", got)
		}
	})
}

// Who may see both the area that a record has left and the one that it is in now has not lost it.
func TestMovedBetweenOnesOwnAreas(t *testing.T) {
	everywhere(t, func(t *testing.T, s *store.Store) {
		both := registry.Actor{Name: "device:b", Device: "b", Areas: []string{"Rarotonga", "Aitutaki"}}
		did(t, s, both, farmer(1, nil), registry.Change{OpID: "m", Entity: "farmer", UID: uid(1), Op: registry.Update, Base: 1, Fields: registry.Fields{"village": "Vaipae", "island": "Aitutaki"}})
		for _, who := range []registry.Actor{both, {}} {
			for _, limit := range []int{1, 10} {
				seq, more := int64(0), true
				for more {
					deltas, next, m, err := s.Since(t.Context(), who, seq, limit)
					if err != nil || len(deltas) != 1 || deltas[0].Gone || deltas[0].Record.Fields["island"] != "Aitutaki" {
						t.Fatalf("after %d: %+v %v", seq, deltas, err)
					}
					seq, more = next, m
				}
			}
		}
	})
}

// What builds on a change that is to be sent again is to be sent again with it: carried out first, it would be refused for
// good.
func TestChildrenWaitForTheirParents(t *testing.T) {
	pg := server(t)
	pg.CreateDB("dfr")
	pg.Exec("postgres", "ALTER DATABASE dfr SET lock_timeout = '100ms'")
	s, err := postgres.Open(t.Context(), pg.URL("dfr"), 2)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ready(t, s)
	did(t, s, device("b"), farmer(9, nil))
	beside, err := sql.Open("pgx", pg.URL("dfr"))
	if err != nil {
		t.Fatal(err)
	}
	defer beside.Close()
	tx, err := beside.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	// Somebody else is about to register the same uid, and takes their time.
	if _, err := tx.ExecContext(t.Context(), `INSERT INTO farmer (uid, version, deleted, area, created_at, updated_at, household, given_name, family_name, birth_date, sex, national_id,
		phone, village, island, status, consent, note, name_key, other_key, village_key) VALUES ($1, 1, false, '', 0, 0, '', '', '', '', '', '', '', '', '', '', '', '', '', '', '')`, uid(1)); err != nil {
		t.Fatal(err)
	}
	plot := func(n int, of string) registry.Change {
		return registry.Change{OpID: "plot of " + of, Entity: "plot", UID: uid(n), Op: registry.Create, Fields: registry.Fields{"farmer": of}}
	}
	changes := []registry.Change{
		farmer(1, nil), plot(50, uid(1)), farmer(2, nil), plot(51, uid(2)),
		{OpID: "edit", Entity: "farmer", UID: uid(1), Op: registry.Update, Base: 1, Fields: registry.Fields{"note": "x"}},
	}
	if diff := cmp.Diff([]string{"retry v0", "retry v0", "created v1", "created v1", "retry v0"}, did(t, s, device("a"), changes...)); diff != "" {
		t.Error(diff)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"created v1", "created v1", "created v1 replayed", "created v1 replayed", "updated v2"}, did(t, s, device("a"), changes...)); diff != "" {
		t.Error(diff)
	}
}
