package seed_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"tidemark/registry"
	"tidemark/registry/seed"
	"tidemark/registry/store"
	"tidemark/registry/store/postgres"
	"tidemark/registry/store/sqlite"
	"tidemark/test/servers"
)

// What is seeded is whole: found by every index, in the sequence of changes, and open to changes.
func TestFill(t *testing.T) {
	plan := seed.Plan{Seed: 1, Farmers: 300, Households: true, Plots: 2, Submissions: 1}
	test := func(t *testing.T, s *store.Store) {
		want := map[string]int{}
		island := map[string]int{}
		area := ""
		for r := range seed.Records(plan) {
			want[r.Entity]++
			if i := r.Fields.Text("island"); i != "" {
				area = i
			}
			island[area]++
		}
		counts, err := s.Counts(t.Context())
		for _, e := range registry.Entities {
			if err != nil || counts[e.Name] != want[e.Name] {
				t.Errorf("%d %ss, want %d; %v", counts[e.Name], e.Name, want[e.Name], err)
			}
		}
		who := registry.Actor{Name: "device:a", Device: "a", Areas: []string{"Malaita"}}
		seen := 0
		for seq, more := int64(0), true; more; {
			deltas, next, goesOn, err := s.Since(t.Context(), who, seq, 100)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range deltas {
				if d.Gone || d.Record.UID != d.UID || len(d.Record.Fields) == 0 {
					t.Errorf("%+v", d)
				}
			}
			seen, seq, more = seen+len(deltas), next, goesOn
		}
		if seen == 0 || seen != island["Malaita"] {
			t.Errorf("a device of Malaita gets %d records, want %d", seen, island["Malaita"])
		}
		for f := range seed.Farmers(plan.Seed, 20) {
			name := f.Fields.Text("given_name") + " " + f.Fields.Text("family_name")
			for _, typed := range []string{name, "x" + name} {
				if found, err := s.ByName(t.Context(), registry.Actor{}, typed, "", 50); err != nil || len(found) == 0 {
					t.Errorf("%s is not found: %v", typed, err)
				}
			}
			change := registry.Change{Entity: "farmer", UID: f.UID, Op: registry.Update, Base: 1, Fields: registry.Fields{"note": "seen"}}
			if r, err := s.Apply(t.Context(), registry.Actor{Name: "a"}, f.CreatedAt, []registry.Change{change}); err != nil || r[0].Outcome != registry.Updated {
				t.Error(r, err)
			}
		}
		if head, err := s.Head(t.Context()); err != nil || head < int64(counts["farmer"]+20) {
			t.Error(head, err)
		}
		if err := s.Load(t.Context(), seed.Farmers(2, 1), nil); err == nil || !strings.Contains(err.Error(), "not empty") {
			t.Errorf("loaded into a registry that is not empty: %v", err)
		}
		if forms, err := s.Forms(t.Context()); err != nil || len(forms) != 2 || forms[0].Version != 2 {
			t.Error(forms, err)
		}
	}
	t.Run("sqlite", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "farmers.db")
		if err := sqlite.Create(t.Context(), path, func(s *store.Store) error { return seed.Fill(t.Context(), s, seed.Records(plan), nil) }); err != nil {
			t.Fatal(err)
		}
		s, err := sqlite.Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		test(t, s)
	})
	t.Run("postgres", func(t *testing.T) {
		pg := servers.Postgres(t, "fsync=off")
		pg.CreateDB("dfr")
		s, err := postgres.Open(t.Context(), pg.URL("dfr"), 1) // loading takes as many as it needs
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		const indexes = "SELECT count(*) FROM pg_indexes WHERE schemaname = 'public'"
		before := pg.Exec("dfr", indexes)
		if err := seed.Fill(t.Context(), s, seed.Records(plan), nil); err != nil {
			t.Fatal(err)
		}
		if after := pg.Exec("dfr", indexes); after != before {
			t.Errorf("%s indexes before, %s after", before, after)
		}
		test(t, s)
	})
}

// BenchmarkFill tells how many farmers a second go into a PostgreSQL that keeps them safe, alone and with what belongs to
// them: go test -run ^$ -bench Fill -benchtime 1x ./registry/seed.
func BenchmarkFill(b *testing.B) {
	const farmers = 100_000
	pg := servers.Postgres(b, "shared_buffers=256MB", "max_wal_size=2GB")
	for name, plan := range map[string]seed.Plan{
		"farmers":    {Seed: 1, Farmers: farmers},
		"everything": {Seed: 1, Farmers: farmers, Households: true, Plots: 2, Submissions: 1},
	} {
		b.Run(name, func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				b.StopTimer()
				db := fmt.Sprint(name, i)
				pg.CreateDB(db)
				s, err := postgres.Open(b.Context(), pg.URL(db), 1)
				if err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				if err := seed.Fill(b.Context(), s, seed.Records(plan), nil); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			b.ReportMetric(float64(b.N*farmers)/b.Elapsed().Seconds(), "farmers/s")
		})
	}
}
