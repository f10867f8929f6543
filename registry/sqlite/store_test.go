package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tidemark/registry"
	"tidemark/registry/seed"
)

var now = time.Date(2026, time.November, 23, 1, 2, 3, 4_000_000, time.UTC)

// made returns the path of a registry of n farmers.
func made(t testing.TB, n int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "farmers.db")
	if err := Create(t.Context(), path, seed.Villages(), seed.Farmers(1, n), nil); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestEverySeededFarmerIsFound(t *testing.T) {
	const n = 100
	s := open(t, made(t, n))
	for want := range seed.Farmers(1, n) {
		got, err := s.ByUID(t.Context(), want.UID)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
		if want.NationalID != "" {
			if got, err := s.ByNationalID(t.Context(), want.NationalID); err != nil || got.UID != want.UID {
				t.Fatalf("by national id %s: %v, %v", want.NationalID, got, err)
			}
		}
		for _, name := range []string{want.FamilyName, want.GivenName, want.FamilyName + " " + want.GivenName, strings.ToUpper(want.GivenName + "  " + want.FamilyName)} {
			for _, village := range []string{"", want.Village, strings.ToUpper(want.Village)} {
				found, err := s.ByName(t.Context(), name, village, n)
				if err != nil {
					t.Fatal(err)
				}
				if !slices.ContainsFunc(found, func(f registry.Farmer) bool { return f.UID == want.UID }) {
					t.Fatalf("%q in %q: not found among %d", name, village, len(found))
				}
			}
		}
	}
	if got, err := s.Count(t.Context()); got != n || err != nil {
		t.Errorf("Count = %d, %v", got, err)
	}
	if err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

// ByName must find what reading everybody finds.
func TestByNameAgreesWithReadingAll(t *testing.T) {
	all := slices.Collect(seed.Farmers(1, 200))
	s := open(t, made(t, len(all)))
	rapid.Check(t, func(t *rapid.T) {
		f := rapid.SampledFrom(all).Draw(t, "farmer")
		full := []rune(rapid.SampledFrom([]string{f.FamilyName + " " + f.GivenName, f.GivenName + " " + f.FamilyName}).Draw(t, "name"))
		prefix := string(full[:rapid.IntRange(1, len(full)).Draw(t, "length")])
		village := rapid.SampledFrom([]string{"", f.Village, "Nowhere"}).Draw(t, "village")
		limit := rapid.IntRange(1, 50).Draw(t, "limit")

		var want []registry.Farmer
		for _, f := range all {
			named := strings.HasPrefix(registry.Fold(f.FamilyName+" "+f.GivenName), registry.Fold(prefix)) ||
				strings.HasPrefix(registry.Fold(f.GivenName+" "+f.FamilyName), registry.Fold(prefix))
			if named && (village == "" || registry.Fold(village) == registry.Fold(f.Village)) {
				want = append(want, f)
			}
		}
		got, err := s.ByName(context.Background(), prefix, village, limit)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != min(limit, len(want)) {
			t.Fatalf("%q in %q: %d farmers, want %d", prefix, village, len(got), min(limit, len(want)))
		}
		for _, f := range got {
			if !slices.Contains(want, f) {
				t.Fatalf("%q in %q finds %+v", prefix, village, f)
			}
		}
		if !slices.IsSortedFunc(got, func(a, b registry.Farmer) int {
			return strings.Compare(registry.Fold(a.FamilyName+" "+a.GivenName), registry.Fold(b.FamilyName+" "+b.GivenName))
		}) {
			t.Fatalf("%q in %q: not in order", prefix, village)
		}
	})
}

func TestLookupsUseAnIndex(t *testing.T) {
	s := open(t, made(t, 50))
	for name, c := range map[string]struct {
		query string
		args  []any
	}{
		"uid":              {byUID, []any{""}},
		"national id":      {byNational, []any{""}},
		"name":             {byName, []any{"a", "b", 3}},
		"name and village": {byNameIn, []any{"a", "b", 3, "avarua"}},
	} {
		err := each(s.db.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+c.query, c.args...))(func(row scanner) error {
			var id, parent, unused int
			var detail string
			err := row.Scan(&id, &parent, &unused, &detail)
			if strings.HasPrefix(detail, "SCAN f") || strings.HasPrefix(detail, "SCAN village") || strings.HasPrefix(detail, "SCAN v") {
				t.Errorf("%s: reads a whole table: %s", name, detail)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func reg(uid, national string) registry.Registration {
	return registry.Registration{UID: uid, GivenName: "Mere", FamilyName: "Tuatai", BirthDate: "1978-03-09", Sex: "female",
		NationalID: national, Village: "Arorangi", Island: "Rarotonga", Status: "active"}
}

func TestRegister(t *testing.T) {
	s := open(t, made(t, 0))
	first := reg("a", "CK-1")
	f, created, err := s.Register(t.Context(), first, now)
	if err != nil || !created || f.Version != 1 || !f.CreatedAt.Equal(now) {
		t.Fatalf("%+v, %v, %v", f, created, err)
	}
	if again, created, err := s.Register(t.Context(), first, now.Add(time.Hour)); err != nil || created || again != f {
		t.Errorf("sent again: %+v, %v, %v", again, created, err)
	}
	for name, c := range map[string]struct {
		set  func(*registry.Registration)
		want error
	}{
		"another name":           {func(r *registry.Registration) { r.GivenName = "Moana" }, registry.ErrUIDTaken},
		"another farmer's id":    {func(r *registry.Registration) { r.UID = "b" }, registry.ErrNationalIDTaken},
		"no such village":        {func(r *registry.Registration) { r.UID, r.Village = "c", "Nowhere" }, registry.ErrVillageUnknown},
		"not on this island":     {func(r *registry.Registration) { r.UID, r.Island = "c", "Upolu" }, registry.ErrVillageUnknown},
		"on which island":        {func(r *registry.Registration) { r.UID, r.Village, r.Island = "c", "Houma", "" }, registry.ErrVillageUnclear},
		"island left out":        {func(r *registry.Registration) { r.UID, r.NationalID, r.Island = "d", "", "" }, nil},
		"village in other words": {func(r *registry.Registration) { r.UID, r.NationalID, r.Village = "e", "", "ARORANGI" }, nil},
		"no national id":         {func(r *registry.Registration) { r.UID, r.NationalID = "f", "" }, nil},
	} {
		r := first
		c.set(&r)
		f, created, err := s.Register(t.Context(), r, now)
		if !errors.Is(err, c.want) || created != (c.want == nil) {
			t.Errorf("%s: %v, %v, want %v", name, created, err, c.want)
		}
		if c.want == nil && (f.Village != "Arorangi" || f.Island != "Rarotonga") {
			t.Errorf("%s: lives in %s, %s", name, f.Village, f.Island)
		}
	}
	if n, _ := s.Count(t.Context()); n != 4 {
		t.Errorf("%d farmers stored, want 4", n)
	}
}

// The store against a map that keeps the same rules.
func TestRegisterAgreesWithAMap(t *testing.T) {
	s := open(t, made(t, 0))
	round := 0
	rapid.Check(t, func(t *rapid.T) {
		round++ // every round has uids and ids of its own in the one file
		stored, ids := map[string]registry.Registration{}, map[string]bool{}
		for range rapid.IntRange(1, 8).Draw(t, "requests") {
			r := reg(fmt.Sprint(round, "-", rapid.IntRange(0, 4).Draw(t, "uid")), rapid.SampledFrom([]string{"", "X", "Y"}).Draw(t, "id"))
			if r.NationalID != "" {
				r.NationalID += fmt.Sprint(round)
			}
			var want error
			before, known := stored[r.UID]
			switch {
			case known && before != r:
				want = registry.ErrUIDTaken
			case !known && ids[r.NationalID]:
				want = registry.ErrNationalIDTaken
			}
			_, created, err := s.Register(context.Background(), r, now)
			if !errors.Is(err, want) || created != (want == nil && !known) {
				t.Fatalf("%+v: %v, %v, want %v", r, created, err, want)
			}
			if created {
				stored[r.UID], ids[r.NationalID] = r, r.NationalID != ""
			}
		}
	})
}

func TestSeveralWritersAtOnce(t *testing.T) {
	path := made(t, 0)
	const writers, each = 6, 12
	var all sync.WaitGroup
	for w := range writers {
		s := open(t, path)
		all.Go(func() {
			for i := range each {
				if _, created, err := s.Register(t.Context(), reg(fmt.Sprint(w, "/", i), ""), now); err != nil || !created {
					t.Errorf("writer %d: %v, %v", w, created, err)
				}
				// One uid that all want: exactly one gets it, the others find it.
				if _, _, err := s.Register(t.Context(), reg(fmt.Sprint("shared", i), ""), now); err != nil {
					t.Errorf("writer %d: %v", w, err)
				}
			}
		})
	}
	all.Wait()
	if n, err := open(t, path).Count(t.Context()); n != writers*each+each || err != nil {
		t.Errorf("%d farmers stored (%v), want %d", n, err, writers*each+each)
	}
}

func TestALockedDatabaseIsBusy(t *testing.T) {
	path := made(t, 0)
	s := open(t, path)
	if _, err := s.db.Exec("PRAGMA busy_timeout = 0"); err != nil {
		t.Fatal(err)
	}
	other := open(t, path)
	tx, err := other.db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, _, err := s.Register(t.Context(), reg("a", ""), now); !errors.Is(err, registry.ErrBusy) {
		t.Errorf("got %v, want ErrBusy", err)
	}
	if err := s.Check(t.Context()); err != nil {
		t.Errorf("reading beside a writer: %v", err)
	}
}

func TestSeveralProcessesMigrateAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "empty.db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			s, err := Open(t.Context(), path)
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			if err := s.Check(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	newer := made(t, 0)
	db, err := sql.Open("sqlite", newer)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	db.Close()
	text := filepath.Join(dir, "notes.txt")
	if err := os.WriteFile(text, []byte(strings.Repeat("not a database\n", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "missing.db"): "make one with `registry seed",
		newer:                            "use a newer registry",
		text:                             "file is not a database",
		dir:                              "open registry",
	} {
		s, err := Open(t.Context(), path)
		if err == nil {
			s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q in it", path, err, want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "missing.db")); err == nil {
		t.Error("a mistyped path has become a file")
	}
}

func TestCreate(t *testing.T) {
	dir := t.TempDir()
	odd := filepath.Join(dir, "a b?c#d%20_pragma=x.db")
	last := 0
	if err := Create(t.Context(), odd, seed.Villages(), seed.Farmers(1, 2500), func(n int) { last = n }); err != nil {
		t.Fatal(err)
	}
	if last != 2000 {
		t.Errorf("progress ended at %d, want 2000", last)
	}
	if n, err := open(t, odd).Count(t.Context()); n != 2500 || err != nil {
		t.Errorf("%d farmers, %v", n, err)
	}
	if err := Create(t.Context(), odd, nil, seed.Farmers(1, 0), nil); err == nil || !strings.Contains(err.Error(), "exists") {
		t.Errorf("over an existing file: %v", err)
	}

	dir = t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	err := Create(ctx, filepath.Join(dir, "half.db"), seed.Villages(), seed.Farmers(1, 5000), func(int) { cancel() })
	if err == nil {
		t.Error("a cancelled Create says that it is done")
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("a cancelled Create leaves %v", left)
	}
	if err := Create(t.Context(), filepath.Join(dir, "none", "x.db"), nil, seed.Farmers(1, 0), nil); err == nil {
		t.Error("a folder that does not exist")
	}
}

func BenchmarkLookup(b *testing.B) {
	const n = 100_000
	s := open(b, made(b, n))
	all := slices.Collect(seed.Farmers(1, n))
	for name, look := range map[string]func(f registry.Farmer) error{
		"uid":         func(f registry.Farmer) error { _, err := s.ByUID(b.Context(), f.UID); return err },
		"national_id": func(f registry.Farmer) error { _, err := s.ByNationalID(b.Context(), f.NationalID); return err },
		"name":        func(f registry.Farmer) error { _, err := s.ByName(b.Context(), f.FamilyName[:3], "", 21); return err },
		"name_and_village": func(f registry.Farmer) error {
			_, err := s.ByName(b.Context(), f.FamilyName[:3], f.Village, 21)
			return err
		},
	} {
		b.Run(name, func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				f := all[i*7919%n]
				if err := look(f); err != nil && (f.NationalID != "" || name != "national_id") {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkRegister(b *testing.B) {
	s := open(b, made(b, 20_000))
	for i := 0; b.Loop(); i++ {
		if _, _, err := s.Register(b.Context(), reg(registry.NewUID(), ""), now); err != nil {
			b.Fatal(err)
		}
	}
}
