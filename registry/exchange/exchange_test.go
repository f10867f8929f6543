package exchange_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/registry"
	"tidemark/registry/exchange"
	"tidemark/registry/store"
	"tidemark/registry/store/postgres"
	"tidemark/registry/store/sqlite"
	"tidemark/test/servers"
)

var now = time.Date(2026, time.November, 23, 9, 0, 0, 0, time.UTC)

func clock() time.Time { return now }

var moana = registry.Actor{Name: "account:moana"}

// everywhere runs a test on an empty registry with two islands: SQLite, and PostgreSQL behind PgBouncer.
func everywhere(t *testing.T, test func(t *testing.T, s *store.Store)) {
	t.Run("sqlite", func(t *testing.T) { test(t, onSQLite(t)) })
	t.Run("pgbouncer", func(t *testing.T) {
		pg := servers.Postgres(t, "fsync=off")
		pg.CreateDB("dfr")
		s, err := postgres.Open(t.Context(), servers.PgBouncer(t, pg).URL("dfr"), 4)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		test(t, ready(t, s))
	})
}

func onSQLite(t testing.TB) *store.Store {
	path := filepath.Join(t.TempDir(), "farmers.db")
	if err := sqlite.Create(t.Context(), path, func(*store.Store) error { return nil }); err != nil {
		t.Fatal(err)
	}
	s, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return ready(t, s)
}

func ready(t testing.TB, s *store.Store) *store.Store {
	t.Helper()
	if err := s.AddVillages(t.Context(), []registry.Village{{Country: "COK", Island: "Rarotonga", Name: "Arorangi"}, {Country: "COK", Island: "Aitutaki", Name: "Vaipae"}}); err != nil {
		t.Fatal(err)
	}
	return s
}

// imports imports a file and returns what became of its rows: "created updated conflict duplicate rejected", and the
// error report's last column.
func imports(t *testing.T, s *store.Store, who registry.Actor, file string) (counts string, wrong []string) {
	t.Helper()
	id, err := exchange.Keep(t.Context(), s, who, now, "list.csv", strings.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	if err := exchange.Run(t.Context(), s, id, clock, nil); err != nil {
		t.Fatal(err)
	}
	i, err := exchange.ImportByID(t.Context(), s, id)
	if err != nil || i.State != store.ImportDone || i.Done != i.Total {
		t.Fatalf("%+v %v", i, err)
	}
	for _, row := range report(t, s, id)[1:] {
		wrong = append(wrong, row[len(row)-1])
	}
	return fmt.Sprint(i.Created, i.Updated, i.Conflict, i.Duplicate, i.Rejected), wrong
}

func report(t *testing.T, s *store.Store, id int64) [][]string {
	t.Helper()
	var b bytes.Buffer
	if err := exchange.ErrorReport(t.Context(), s, id, &b); err != nil {
		t.Fatal(err)
	}
	return parse(t, b.String())
}

func parse(t *testing.T, file string) [][]string {
	t.Helper()
	text, ok := strings.CutPrefix(file, "\ufeff")
	if !ok {
		t.Error("a spreadsheet will not take it for UTF-8")
	}
	rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

const header = "given_name,family_name,birth_date,village,national_id,phone\n"

func TestImport(t *testing.T) {
	everywhere(t, func(t *testing.T, s *store.Store) {
		for _, step := range []struct {
			what, file, counts string
			wrong              []string
		}{
			{"two new ones", header + "Mere,Tuatai,1978-03-09,arorangi,CK-1,+68255123\n\nTama,Pokino,1980-01-02,Vaipae,,\n", "2 0 0 0 0", nil},
			{"the same list again", header + "Mere,Tuatai,1978-03-09,ARORANGI,CK-1,+68255123\nTama,Pokino,1980-01-02,Vaipae,CK-2,\n", "0 2 0 0 0", nil},
			{"semicolons, a byte order mark, titles as people write them, and empty columns at the end",
				"\ufeffGiven name;Family Name ;BIRTH-DATE;village\nTere;Puna;1990-05-05;Arorangi;;\n", "1 0 0 0 0", nil},
			{"tabs", "sep=\t\ngiven_name\tfamily_name\tbirth_date\tvillage\nTere\tPuna\t1990-05-05\tArorangi\n", "0 1 0 0 0", nil},
			{"twice in one file", header + "Noo,Puna,1991-05-05,Arorangi,,\nNoo,Puna,1991-05-05,Arorangi,,+68255999\n", "1 1 0 0 0", nil},
			{"somebody else's number", header + "Ana,Marsters,1960-12-12,Vaipae,CK-1,\n", "0 0 0 1 0",
				[]string{"national_id: the farmer UID has it; registered without it, and review 1 decides"}},
			{"what spreadsheets make of it", header + strings.Join([]string{
				"A,Bee,31/12/1978,Vaipae,,", "A,Bee,12/31/1978,Vaipae,,", "A,Bee,03/04/1978,Vaipae,,", "A,Bee,03/03/1978,Vaipae,,", "A,Bee,28855,Vaipae,,", "A,Bee,1978-12-31,Vaipae,,68255123",
				"A,Bee,1978-12-31,Vaipae,,6.82E+10", "A,Bee,1978-12-31,Paris,,", "A,Bee,1978-12-31,Vaipae", `A,B"ee,1978-12-31,Vaipae,,`, ",Bee,1978-12-31,Vaipae,,", "",
			}, "\n"), "0 0 0 0 11", []string{
				"birth_date: must be a date such as 1978-03-09: write 1978-12-31 instead of 31/12/1978",
				"birth_date: must be a date such as 1978-03-09: write 1978-12-31 instead of 12/31/1978",
				"birth_date: must be a date such as 1978-03-09: 03/04/1978 can be two days, so write the year first",
				"birth_date: must be a date such as 1978-03-09: write 1978-03-03 instead of 03/03/1978",
				"birth_date: must be a date such as 1978-03-09: 28855 is a spreadsheet's number of a day, perhaps 1978-12-31: give the column the format yyyy-mm-dd",
				"phone: must be + and 7 to 15 digits, such as +68255123: a spreadsheet may have taken away the +, so give the column the format text and write it again",
				"phone: must be + and 7 to 15 digits, such as +68255123: a spreadsheet has made a number of it, so give the column the format text and write it again",
				"village: is not a village of this registry, or not on this island",
				"the row has 4 cells and the header 6",
				`line 11: bare " in non-quoted-field: a quotation mark within a cell is written twice, and the whole cell between two more`,
				"given_name: is required",
			}},
			{"formulas", header + "=1+1,@SUM(A1),-2,+cmd|' /C calc'!A0,,\n", "0 0 0 0 1", []string{
				"birth_date: must be a date such as 1978-03-09; family_name: may hold letters, spaces, hyphens, full stops and apostrophes; given_name: may hold letters, spaces, hyphens, full stops and apostrophes; village: may hold letters, spaces, hyphens, full stops and apostrophes",
			}},
		} {
			counts, wrong := imports(t, s, moana, step.file)
			for i, w := range wrong {
				if at := strings.Index(w, "the farmer "); at >= 0 {
					wrong[i] = w[:at+11] + "UID" + w[at+11+36:]
				}
			}
			if diff := cmp.Diff(step.wrong, wrong); counts != step.counts || diff != "" {
				t.Errorf("%s: %s, want %s\n%s", step.what, counts, step.counts, diff)
			}
		}
		mere, err := s.ByNationalID(t.Context(), moana, "CK-1")
		if err != nil || mere.Version != 1 || mere.Fields.Text("island") != "Rarotonga" {
			t.Errorf("%+v %v", mere, err)
		}
		if h, err := s.History(t.Context(), "farmer", mere.UID); err != nil || len(h) != 1 || h[0].Actor != "account:moana" {
			t.Error(h, err)
		}
		if n, err := s.Counts(t.Context()); err != nil || n["farmer"] != 5 {
			t.Error(n, err)
		}
	})
}

// An export that somebody edits and sends back changes what was edited; what others have changed meanwhile is reviewed.
func TestRoundTrip(t *testing.T) {
	everywhere(t, func(t *testing.T, s *store.Store) {
		imports(t, s, moana, header+"Mere,Tuatai,1978-03-09,Arorangi,CK-1,+68255123\nʻAna,Pōhiva,1980-01-02,Vaipae,,\n")
		export := func(who registry.Actor, f exchange.Filter) string {
			var b bytes.Buffer
			if err := exchange.Export(t.Context(), s, who, f, &b); err != nil {
				t.Fatal(err)
			}
			return b.String()
		}
		first := export(moana, exchange.Filter{})
		rows := parse(t, first)
		if len(rows) != 3 || !slices.ContainsFunc(rows, func(r []string) bool { return slices.Contains(r, "'+68255123") }) {
			t.Errorf("%q", rows)
		}
		if counts, wrong := imports(t, s, moana, first); counts != "0 2 0 0 0" || wrong != nil || export(moana, exchange.Filter{}) != first {
			t.Error("an export, imported as it is, changes something:", counts, wrong)
		}
		if counts, _ := imports(t, s, registry.Actor{Name: "account:tere"}, strings.ReplaceAll(first, "Tuatai", "Marsters")); counts != "0 2 0 0 0" {
			t.Error(counts)
		}
		counts, wrong := imports(t, s, moana, strings.ReplaceAll(first, "Tuatai", "Puna"))
		if counts != "0 1 1 0 0" || cmp.Diff(wrong, []string{"family_name: others have changed the same; review 1 decides"}) != "" {
			t.Error(counts, wrong)
		}
		aitutaki := registry.Actor{Name: "account:tangi", Areas: []string{"Aitutaki"}}
		if got := parse(t, export(aitutaki, exchange.Filter{})); len(got) != 2 || got[1][slices.Index(got[0], "given_name")] != "ʻAna" {
			t.Errorf("%q", got)
		}
		if got := parse(t, export(moana, exchange.Filter{Status: "active"})); len(got) != 1 {
			t.Errorf("%q", got)
		}
		if got := parse(t, export(moana, exchange.Filter{Island: "Rarotonga"})); len(got) != 2 {
			t.Errorf("%q", got)
		}
		if err := exchange.Export(t.Context(), s, aitutaki, exchange.Filter{Island: "Rarotonga"}, &bytes.Buffer{}); err == nil {
			t.Error("an island that is not the actor's")
		}
		if counts, wrong := imports(t, s, aitutaki, header+"Tere,Puna,1990-05-05,Arorangi,,\n"); counts != "0 0 0 0 1" || wrong[0] != "island: is not in your area" {
			t.Error(counts, wrong)
		}
	})
}

func TestRefusedFiles(t *testing.T) {
	s := onSQLite(t)
	for want, file := range map[string]string{
		`there is no column "surname": use uid, version, household, given_name,`: "surname,given_name\nx,y\n",
		"file: the column birth_date is missing; file: the column village is":    "given_name,family_name\nx,y\n",
		"the column given_name comes twice":                                      "given_name,Given Name,family_name,birth_date,village\nx,y\n",
		"the file is empty":                                                      "",
		"no row below the header":                                                header + ",,,,,\n",
		"a spreadsheet's own format":                                             "PK\x03\x04xx",
		"the file is UTF-16":                                                     "\xff\xfeg\x00",
		"row 2 is not UTF-8: save it":                                            header + "Mere,Tuatai,1978-03-09,Arorangi,,\nM\xe9re,Tuatai,1978-03-09,Arorangi,,\n",
		"is larger than 20 MB":                                                   header + strings.Repeat("Mere,Tuatai,1978-03-09,Arorangi,,\n", 700_000),
		"must be divided by commas":                                              "sep=|\ngiven_name|family_name\n",
	} {
		var faults registry.Faults
		if _, err := exchange.Upload(t.Context(), s, moana, now, "x", strings.NewReader(file)); !errors.As(err, &faults) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", file[:min(len(file), 60)], err, want)
		}
	}
	if all, err := exchange.Imports(t.Context(), s, 10); err != nil || len(all) != 0 {
		t.Error("something is kept of them:", all, err)
	}
}

// dying is a context that ends after some looks at it, as a worker does after some statements.
type dying struct {
	context.Context
	end   context.CancelFunc
	looks atomic.Int64
}

func (d *dying) Done() <-chan struct{} {
	if d.looks.Add(-1) < 0 {
		d.end()
	}
	return d.Context.Done()
}

// However often an import is broken off, wherever that is, each row is carried out once and counted once.
func TestImportGoesOn(t *testing.T) {
	everywhere(t, func(t *testing.T, s *store.Store) {
		const rows = 350
		var b strings.Builder
		b.WriteString(header)
		for n := range rows {
			village := "Arorangi"
			if n%50 == 7 {
				village = "Paris"
			}
			fmt.Fprintf(&b, "Mere,Tuatai %c%c,1978-03-09,%s,,\n", 'a'+n%26, 'a'+n/26, village)
		}
		id, err := exchange.Upload(t.Context(), s, moana, now, `C:\lists\a.csv`, strings.NewReader(b.String()))
		if err != nil {
			t.Fatal(err)
		}
		j, err := s.Claim(t.Context(), now, now)
		if err != nil || j.Method != exchange.Method || j.Payload != fmt.Sprint(id) {
			t.Fatalf("%+v %v", j, err)
		}
		broken := 0
		for ; ; broken++ {
			ctx, end := context.WithCancel(t.Context())
			life := &dying{Context: ctx, end: end}
			life.looks.Store(int64(5 + 40*broken))
			err := exchange.Run(life, s, id, clock, nil)
			end()
			if err == nil {
				break
			}
			if broken > 1000 {
				t.Fatal(err)
			}
		}
		i, err := exchange.ImportByID(t.Context(), s, id)
		n, err2 := s.Counts(t.Context())
		if err != nil || err2 != nil || broken < 3 || i.Name != "a.csv" || i.State != store.ImportDone || i.Created != rows-7 || i.Rejected != 7 || n["farmer"] != rows-7 {
			t.Errorf("broken off %d times: %+v, %d farmers; %v %v", broken, i, n["farmer"], err, err2)
		}
		if got := report(t, s, id); len(got) != 8 || got[1][3] != "Paris" {
			t.Errorf("%q", got)
		}
		if n, _ := s.ImportFile(t.Context(), id).Read(make([]byte, 1)); n != 0 {
			t.Error("the file of an import that is over is still there")
		}
	})
}

func TestCancel(t *testing.T) {
	s := onSQLite(t)
	id, err := exchange.Keep(t.Context(), s, moana, now, "a.csv", strings.NewReader(header+strings.Repeat("Mere,Tuatai,1978-03-09,Arorangi,,\n", 250)))
	if err != nil {
		t.Fatal(err)
	}
	err = exchange.Run(t.Context(), s, id, clock, func(exchange.Import) {
		if err := exchange.Cancel(t.Context(), s, now, id); err != nil {
			t.Error(err)
		}
	})
	if i, _ := exchange.ImportByID(t.Context(), s, id); err != nil || i.State != store.ImportCancelled || i.Done != 100 {
		t.Errorf("%v %+v", err, i)
	}
	if err := exchange.Cancel(t.Context(), s, now, id); err != nil {
		t.Error(err)
	}
}
