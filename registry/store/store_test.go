package store_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/registry"
	"tidemark/registry/store"
	"tidemark/registry/store/postgres"
	"tidemark/registry/store/sqlite"
	"tidemark/test/servers"
)

// everywhere runs a test on an empty registry in each database: SQLite, PostgreSQL, and PostgreSQL behind PgBouncer.
func everywhere(t *testing.T, test func(t *testing.T, s *store.Store)) {
	t.Run("sqlite", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "farmers.db")
		if err := sqlite.Create(t.Context(), path, func(*store.Store) error { return nil }); err != nil {
			t.Fatal(err)
		}
		s, err := sqlite.Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		test(t, ready(t, s))
	})
	t.Run("postgres", func(t *testing.T) {
		pg := server(t)
		for i, url := range []string{pg.direct, pg.pooled} {
			name := []string{"direct", "pgbouncer"}[i]
			t.Run(name, func(t *testing.T) {
				db := strings.ToLower(fmt.Sprintf("db_%s_%d", name, time.Now().UnixNano()))
				pg.CreateDB(db)
				s, err := postgres.Open(t.Context(), fmt.Sprintf(url, db), 4)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { s.Close() })
				test(t, ready(t, s))
			})
		}
	})
}

type serving struct {
	*servers.PG
	direct, pooled string // URLs with %s for the database
}

func server(t *testing.T) serving {
	pg := servers.Postgres(t, "fsync=off")
	return serving{pg, pg.URL("%s"), servers.PgBouncer(t, pg, "default_pool_size=4").URL("%s")}
}

var now = time.Date(2026, time.November, 23, 9, 0, 0, 0, time.UTC)

func ready(t *testing.T, s *store.Store) *store.Store {
	t.Helper()
	for range 2 { // the second time changes nothing
		if err := s.AddVillages(t.Context(), []registry.Village{{Country: "COK", Island: "Rarotonga", Name: "Arorangi"}, {Country: "COK", Island: "Aitutaki", Name: "Vaipae"}}); err != nil {
			t.Fatal(err)
		}
		if err := s.AddForm(t.Context(), registry.Form{ID: "crops", Version: 1, Title: "Crops", Questions: []registry.Question{{Name: "crop", Type: "text", Required: true}}}); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func uid(n int) string { return registry.FormatUID([16]byte{15: byte(n), 14: byte(n >> 8)}) }

func farmer(n int, more registry.Fields) registry.Change {
	f := registry.Fields{"given_name": "Mere", "family_name": fmt.Sprintf("Tuatai %c", 'a'+n%26), "birth_date": "1978-03-09", "village": "arorangi"}
	return registry.Change{OpID: fmt.Sprint("create-", n), Entity: "farmer", UID: uid(n), Op: registry.Create, Fields: f.With(more), At: now}
}

func device(name string) registry.Actor {
	return registry.Actor{Name: "device:" + name, Device: name}
}

// did applies changes and returns a line for each result.
func did(t *testing.T, s *store.Store, who registry.Actor, changes ...registry.Change) []string {
	t.Helper()
	results, err := s.Apply(t.Context(), who, now, changes)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, r := range results {
		line := fmt.Sprintf("%s v%d %s", r.Outcome, r.Version, strings.Join(r.Conflict, ",")+r.Faults.Error())
		if r.Replayed {
			line += "replayed"
		}
		lines = append(lines, strings.TrimSpace(line))
	}
	return lines
}

func TestApply(t *testing.T) {
	everywhere(t, func(t *testing.T, s *store.Store) {
		a, b := device("a"), device("b")
		update := func(op string, base int, f registry.Fields) registry.Change {
			return registry.Change{OpID: op, Entity: "farmer", UID: uid(1), Op: registry.Update, Base: base, Fields: f, At: now}
		}
		for _, step := range []struct {
			what    string
			who     registry.Actor
			changes []registry.Change
			want    []string
		}{
			{"two new farmers and a plot of the first", a, []registry.Change{
				farmer(1, registry.Fields{"national_id": "CK-1"}), farmer(2, nil),
				{OpID: "p", Entity: "plot", UID: uid(50), Op: registry.Create, Fields: registry.Fields{"farmer": uid(1), "size_ha": 1.5}},
			}, []string{"created v1", "created v1", "created v1"}},
			{"the same once more", a, []registry.Change{farmer(1, registry.Fields{"national_id": "CK-1"})}, []string{"created v1 replayed"}},
			{"a child without its parent", a, []registry.Change{{OpID: "q", Entity: "plot", UID: uid(51), Op: registry.Create, Fields: registry.Fields{"farmer": uid(9)}}}, []string{"rejected v0 farmer: there is no such farmer"}},
			{"a village that is not there", a, []registry.Change{farmer(3, registry.Fields{"village": "Paris"})}, []string{"rejected v0 village: is not a village of this registry, or not on this island"}},
			{"an edit", a, []registry.Change{update("1", 1, registry.Fields{"phone": "+68255123"})}, []string{"updated v2"}},
			{"the editor's own next edit, made before the answer came", a, []registry.Change{update("2", 1, registry.Fields{"family_name": "Pokino"})}, []string{"updated v3"}},
			{"another's edit of another field", b, []registry.Change{update("1", 1, registry.Fields{"given_name": "Ana"})}, []string{"merged v4"}},
			{"another's edit of the same field", b, []registry.Change{update("2", 2, registry.Fields{"family_name": "Marsters", "sex": "female"})}, []string{"conflict v5 family_name"}},
			{"last wins", b, []registry.Change{update("3", 1, registry.Fields{"phone": "+68255999"})}, []string{"merged v6"}},
			{"a protected field", b, []registry.Change{update("4", 5, registry.Fields{"national_id": "CK-7"}), update("5", 2, registry.Fields{"consent": "given"})}, []string{"updated v7", "conflict v7 consent"}},
			{"a number that somebody has", b, []registry.Change{farmer(4, registry.Fields{"national_id": "CK-7"})}, []string{"duplicate v1"}},
			{"a deletion of an old version", b, []registry.Change{{OpID: "d", Entity: "farmer", UID: uid(1), Op: registry.Delete, Base: 1}}, []string{"conflict v7"}},
			{"a deletion", b, []registry.Change{{OpID: "e", Entity: "farmer", UID: uid(2), Op: registry.Delete, Base: 1}}, []string{"updated v2"}},
			{"an edit of what is deleted", a, []registry.Change{{OpID: "f", Entity: "farmer", UID: uid(2), Op: registry.Update, Base: 1, Fields: registry.Fields{"phone": "+68255123"}}}, []string{"conflict v2 phone"}},
			{"answers", a, []registry.Change{{OpID: "s", Entity: "submission", UID: uid(60), Op: registry.Create, Fields: registry.Fields{"farmer": uid(1), "form": "crops", "form_version": 1.0, "answers": registry.JSON(`{"crop":"taro"}`)}}}, []string{"created v1"}},
			{"wrong answers", a, []registry.Change{{OpID: "u", Entity: "submission", UID: uid(61), Op: registry.Create, Fields: registry.Fields{"farmer": uid(1), "form": "crops", "form_version": 1.0, "answers": registry.JSON(`{"crop":1}`)}}}, []string{"rejected v0 answers/crop: must be a string"}},
		} {
			if diff := cmp.Diff(step.want, did(t, s, step.who, step.changes...)); diff != "" {
				t.Errorf("%s:\n%s", step.what, diff)
			}
		}
		r, err := s.Get(t.Context(), a, "farmer", uid(1))
		want := registry.Fields{"given_name": "Ana", "family_name": "Pokino", "birth_date": "1978-03-09", "sex": "female", "national_id": "CK-7", "phone": "+68255999", "village": "Arorangi", "island": "Rarotonga", "status": "pending_verification", "consent": "unknown"}
		if diff := cmp.Diff(want, r.Fields); err != nil || diff != "" {
			t.Error(err, diff)
		}
		if h, err := s.History(t.Context(), "farmer", uid(1)); err != nil || len(h) != 7 || h[0].Version != 7 || h[6].Actor != "device:a" {
			t.Error(h, err)
		}
		for _, name := range []string{"poki", "Pokino Ana", "ana p", "Pokeno", "Tuatay"} {
			found, err := s.ByName(t.Context(), a, name, "", 10)
			if err != nil || len(found) != 1 {
				t.Errorf("%s: %v %v", name, found, err)
			}
		}
		if found, err := s.ByName(t.Context(), a, "pokino", "vaipae", 10); err != nil || len(found) != 0 {
			t.Error(found, err)
		}
	})
}

// A reader that follows the sequence while many write misses nothing.
func TestTheSequenceSkipsNothing(t *testing.T) {
	everywhere(t, func(t *testing.T, s *store.Store) {
		const writers, each = 4, 30
		var all sync.WaitGroup
		for w := range writers {
			all.Go(func() {
				for i := range each {
					results, err := s.Apply(t.Context(), device(fmt.Sprint(w)), now, []registry.Change{farmer(w*each+i, nil), farmer(1000+w*each+i, nil)})
					if err != nil || results[1].Outcome != registry.Created {
						t.Error(results, err)
					}
				}
			})
		}
		done := make(chan bool)
		go func() { all.Wait(); close(done) }()
		seen, seq := map[string]bool{}, int64(0)
		for last := false; ; {
			deltas, next, more, err := s.Since(t.Context(), registry.Actor{}, seq, 7)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range deltas {
				seen[d.UID] = true
			}
			if seq = next; more {
				continue
			}
			if last {
				break
			}
			select {
			case <-done:
				last = true
			default:
			}
		}
		if len(seen) != 2*writers*each {
			t.Errorf("%d of %d seen", len(seen), 2*writers*each)
		}
	})
}

func TestJobs(t *testing.T) {
	everywhere(t, func(t *testing.T, s *store.Store) {
		for range 2 {
			if err := s.Enqueue(t.Context(), now, store.Job{Channel: "root", Method: "x", Identity: "one"}); err != nil {
				t.Fatal(err)
			}
		}
		for device, goesOn := range map[string]bool{"a": true, "b": false} {
			if err := s.Seen(t.Context(), now, device, goesOn); err != nil {
				t.Fatal(err)
			}
		}
		if b, err := s.Backlog(t.Context(), now.Add(50*time.Second)); b != (store.Backlog{SyncSessions: 1, Jobs: 1, OldestJob: 50 * time.Second}) || err != nil {
			t.Error(b, err)
		}
		j, err := s.Claim(t.Context(), now, now.Add(-time.Hour))
		if err != nil || j.Method != "x" || j.Retry != 1 {
			t.Fatal(j, err)
		}
		if _, err := s.Claim(t.Context(), now, now.Add(-time.Hour)); err == nil {
			t.Error("claimed twice")
		}
		if _, err := s.Claim(t.Context(), now, now.Add(time.Hour)); err != nil {
			t.Error("a lost job is not given out again:", err)
		}
		if err := s.Finish(t.Context(), now, j, nil, time.Time{}); err != nil {
			t.Error(err)
		}
	})
}

func TestAreas(t *testing.T) {
	everywhere(t, func(t *testing.T, s *store.Store) {
		raro := registry.Actor{Name: "device:r", Device: "r", Areas: []string{"Rarotonga"}}
		aitu := registry.Actor{Name: "device:t", Device: "t", Areas: []string{"Aitutaki"}}
		did(t, s, raro, farmer(1, nil), registry.Change{OpID: "p", Entity: "plot", UID: uid(2), Op: registry.Create, Fields: registry.Fields{"farmer": uid(1)}})
		if got := did(t, s, aitu, farmer(3, nil)); got[0] != "rejected v0 island: is not in your area" {
			t.Error(got)
		}
		did(t, s, device("all"), registry.Change{Entity: "farmer", UID: uid(1), Op: registry.Update, Base: 1, Fields: registry.Fields{"village": "Vaipae", "island": nil}})
		for who, want := range map[*registry.Actor]string{&raro: "farmer gone, plot gone", &aitu: "farmer, plot"} {
			deltas, _, _, err := s.Since(t.Context(), *who, 0, 10)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range registry.Entities {
				for _, d := range deltas {
					if d.Entity == e.Name {
						got = append(got, d.Entity+map[bool]string{true: " gone"}[d.Gone])
					}
				}
			}
			if strings.Join(got, ", ") != want {
				t.Errorf("%s: %v, want %s", who.Name, got, want)
			}
		}
	})
}
