package dedup

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidemark/registry"
	"tidemark/registry/store"
	"tidemark/registry/store/postgres"
	"tidemark/registry/store/sqlite"
	"tidemark/test/servers"
)

// person is "family given, birth date, village, national id".
func person(text string) store.Identity {
	parts := strings.Split(text, ", ")
	return store.Identity{NameKey: registry.Fold(parts[0]), BirthDate: parts[1], VillageKey: registry.Fold(parts[2]), NationalID: parts[3]}
}

func TestScore(t *testing.T) {
	for _, c := range []struct {
		what, a, b string
		want       int
		likely     bool
	}{
		{"the same", "Tuatai Mere, 1978-03-09, Arorangi, ", "Tuatai Mere, 1978-03-09, Arorangi, ", 1000, true},
		{"accents and glottal stops", "Māʻina Sālote, 1978-03-09, Nukuʻalofa, ", "Maina Salote, 1978-03-09, Nukualofa, ", 1000, true},
		{"the names the other way round", "Tuatai Mere, 1978-03-09, Arorangi, ", "Mere Tuatai, 1978-03-09, Arorangi, ", 1000, true},
		{"moved to another village", "Tuatai Mere, 1978-03-09, Arorangi, ", "Tuatai Mere, 1978-03-09, Vaipae, ", 900, true},
		{"only one has a national id", "Tuatai Mere, 1978-03-09, Arorangi, CK-1234567", "Tuatai Mere, 1978-03-09, Vaipae, ", 900, true},
		{"a middle name more, elsewhere", "Tuatai Mere Ana, 1978-03-09, Arorangi, ", "Tuatai Mere, 1978-03-09, Vaipae, ", 750, true},
		{"a letter of the name", "Tuatai Mele, 1978-03-09, Arorangi, ", "Tuatai Mere, 1978-03-09, Arorangi, ", 760, true},
		{"a letter of the name, elsewhere", "Tuatai Mele, 1978-03-09, Arorangi, ", "Tuatai Mere, 1978-03-09, Vaipae, ", 660, false},
		{"a digit of the birth date", "Tuatai Mere, 1978-03-09, Arorangi, ", "Tuatai Mere, 1978-03-08, Arorangi, ", 800, true},
		{"day and month exchanged", "Tuatai Mere, 1978-03-09, Arorangi, ", "Tuatai Mere, 1978-09-03, Arorangi, ", 800, true},
		{"a digit of the birth date, elsewhere", "Tuatai Mere, 1978-03-09, Arorangi, ", "Tuatai Mere, 1978-03-08, Vaipae, ", 700, false},
		{"father and son", "Fifita Sione, 1950-03-09, Pangai, ", "Fifita Sione, 1978-07-21, Pangai, ", 700, false},
		{"a name that many have, elsewhere", "Fifita Sione, 1950-03-09, Pangai, ", "Fifita Sione, 1978-07-21, Houma, ", 600, false},
		{"siblings born on one day", "Fifita Sione, 1978-03-09, Pangai, ", "Fifita Mele, 1978-03-09, Pangai, ", 633, false},
		{"a 1 January, the same name and village", "Kalo Tom, 1950-01-01, Mele, ", "Kalo Tom, 1950-01-01, Mele, ", 900, true},
		{"a 1 January, a letter of the name", "Kalo Tom, 1950-01-01, Mele, ", "Kalo Tam, 1950-01-01, Mele, ", 600, false},
		{"two national ids", "Tuatai Mere, 1978-03-09, Arorangi, CK-1234567", "Tuatai Mere, 1978-03-09, Arorangi, CK-7654321", 600, false},
		{"a slip of the national id", "Tuatai Mere, 1978-03-09, Arorangi, CK-1234567", "Tuatai Mere, 1978-03-09, Arorangi, CK-1234657", 900, true},
		{"strangers born on one day in one village", "Tuatai Mere, 1978-03-09, Arorangi, ", "Pokino Tama, 1978-03-09, Arorangi, ", 0, false},
	} {
		for _, pair := range [][2]string{{c.a, c.b}, {c.b, c.a}} {
			score, why := Score(person(pair[0]), person(pair[1]))
			if score != c.want || (score >= Threshold) != c.likely || score > 0 && why == "" {
				t.Errorf("%s: %d (%s), want %d", c.what, score, why, c.want)
			}
		}
	}
}

// Each pair is asked about once, however often and in whatever order the farmers are compared.
func TestRun(t *testing.T) {
	now := time.Date(2026, time.November, 23, 9, 0, 0, 0, time.UTC)
	test := func(t *testing.T, s *store.Store) {
		if err := s.AddVillages(t.Context(), []registry.Village{{Country: "COK", Island: "Rarotonga", Name: "Arorangi"}, {Country: "COK", Island: "Aitutaki", Name: "Vaipae"}}); err != nil {
			t.Fatal(err)
		}
		var changes []registry.Change
		var uids []string
		for i, line := range []string{"Mere Tuatai 1978-03-09 Arorangi", "Mere Tuatai 1978-03-09 Vaipae", "Tuatai Mere 1978-03-08 Arorangi", "Tama Pokino 1978-03-09 Arorangi"} {
			word := strings.Fields(line)
			uid := registry.FormatUID([16]byte{byte(9 - i)})
			uids = append(uids, uid)
			changes = append(changes, registry.Change{Entity: "farmer", UID: uid, Op: registry.Create, Fields: registry.Fields{"given_name": word[0], "family_name": word[1], "birth_date": word[2], "village": word[3]}})
		}
		for i, c := range changes { // one after the other
			if r, err := s.Apply(t.Context(), registry.Actor{}, now.Add(time.Duration(i)*time.Second), []registry.Change{c}); err != nil || r[0].Outcome != registry.Created {
				t.Fatal(r, err)
			}
		}
		for i, want := range []int{2, 0} { // the slip of a day is with Arorangi's alone
			if n, err := Run(t.Context(), s, now, append([]string{uids[3], "nobody"}, uids...)); err != nil || n != want {
				t.Errorf("run %d: %d asked, want %d; %v", i, n, want, err)
			}
		}
	}
	t.Run("sqlite", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "farmers.db")
		if err := sqlite.Create(t.Context(), path, func(*store.Store) error { return nil }); err != nil {
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
		s, err := postgres.Open(t.Context(), pg.URL("dfr"), 2)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		test(t, s)
		if got := pg.Exec("dfr", "SELECT uid, of_uid, base, area, fields, note FROM review WHERE actor = 'job:dedup' ORDER BY id"); !strings.Contains(got, `"status":"duplicate"`) || strings.Count(got, "\n") != 1 {
			t.Error(got)
		}
	})
}
