package device_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	_ "github.com/jackc/pgx/v5/stdlib"
	"pgregory.net/rapid"

	"tidemark/registry"
	"tidemark/registry/api"
	"tidemark/registry/store"
	"tidemark/registry/store/postgres"
	"tidemark/registry/store/sqlite"
	"tidemark/registry/sync"
	"tidemark/registry/sync/device"
	"tidemark/test/servers"
)

// TestMain sets how many histories the property is tried on, unless a flag says so: the machine has other tests to run.
func TestMain(m *testing.M) {
	if err := flag.Set("rapid.checks", "25"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

var villages = []registry.Village{{Country: "COK", Island: "Rarotonga", Name: "Arorangi"}, {Country: "COK", Island: "Aitutaki", Name: "Vaipae"}, {Country: "COK", Island: "Atiu", Name: "Areora"}}

var crops = registry.Form{ID: "crops", Version: 1, Title: "Crops", Questions: []registry.Question{
	{Name: "crop", Label: "What grows here?", Type: "text", Required: true}, {Name: "area", Label: "Hectares", Type: "number", Max: 100},
	{Name: "organic", Label: "Organic?", Type: "yes_no"}, {Name: "planted", Label: "Since when?", Type: "date"},
}}

func ready(t testing.TB, s *store.Store) {
	t.Helper()
	if err := errors.Join(s.AddVillages(context.Background(), villages), s.AddForm(context.Background(), crops)); err != nil {
		t.Fatal(err)
	}
}

// registryUnderTest is a registry whose tables the test can read beside it.
type registryUnderTest struct {
	*store.Store
	sql *sql.DB
}

// everywhere runs a property on each kind of database. Each check begins with an empty registry.
func everywhere(t *testing.T, property func(rt *rapid.T, r registryUnderTest)) {
	check := func(t *testing.T, fresh func(t *testing.T) registryUnderTest) {
		rapid.Check(t, func(rt *rapid.T) { property(rt, fresh(t)) })
	}
	t.Run("sqlite", func(t *testing.T) {
		dir := t.TempDir()
		template := filepath.Join(dir, "template.db")
		if err := sqlite.Create(t.Context(), template, func(s *store.Store) error { ready(t, s); return nil }); err != nil {
			t.Fatal(err)
		}
		empty, err := os.ReadFile(template)
		if err != nil {
			t.Fatal(err)
		}
		var now registryUnderTest
		end := func() {
			if now.Store != nil {
				_ = errors.Join(now.Close(), now.sql.Close()) // of a file that is thrown away
			}
		}
		defer func() { end() }()
		n := 0
		check(t, func(t *testing.T) registryUnderTest {
			end()
			n++
			path := filepath.Join(dir, fmt.Sprint(n, ".db"))
			if err := os.WriteFile(path, empty, 0o600); err != nil {
				t.Fatal(err)
			}
			if now.Store, err = sqlite.Open(t.Context(), path); err != nil {
				t.Fatal(err)
			}
			if now.sql, err = sql.Open("sqlite", path); err != nil {
				t.Fatal(err)
			}
			return now
		})
	})
	t.Run("postgres", func(t *testing.T) {
		pg := servers.Postgres(t, "fsync=off")
		for name, url := range map[string]func(string) string{"direct": pg.URL, "pgbouncer": servers.PgBouncer(t, pg, "default_pool_size=4").URL} {
			t.Run(name, func(t *testing.T) {
				db := "sync_" + name // there is a console of the name pgbouncer
				pg.CreateDB(db)
				s, err := postgres.Open(t.Context(), url(db), 4)
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				ready(t, s)
				beside, err := sql.Open("pgx", pg.URL(db))
				if err != nil {
					t.Fatal(err)
				}
				defer beside.Close()
				check(t, func(t *testing.T) registryUnderTest {
					if _, err := beside.Exec("TRUNCATE household, farmer, member, plot, submission, revision, change, op, review, job, token, sync_log, sync_session"); err != nil {
						t.Fatal(err)
					}
					return registryUnderTest{s, beside}
				})
			})
		}
	})
}

// network is what lies between a device and the registry. It is told what to do with the next request.
type network struct {
	h    http.Handler
	fate fate
	at   int       // byte of the request or answer that the fate strikes at, as a share of 1000
	kept []message // requests that were seen on the way
}

type fate int

const (
	arrives    fate = iota
	cutRequest      // the registry gets the beginning
	cutAnswer       // the device gets the beginning of the answer
	comesTwice      // at once: two workers have it in hand
	isLost          // before the registry hears of it
	lateCopy        // an older request of anybody comes again just before
	fates           // how many there are
)

type message struct {
	method, target string
	header         http.Header
	body           []byte
}

var errCut = errors.New("the link is down")

func (n *network) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	m := message{r.Method, r.URL.RequestURI(), r.Header, body}
	n.kept = append(n.kept, m)
	cut := len(body) * n.at / 1000
	switch n.fate {
	case isLost:
		return nil, errCut
	case cutRequest:
		if r.Method == http.MethodPost {
			n.forget(m, io.MultiReader(bytes.NewReader(body[:cut]), broken{}))
		}
		return nil, errCut
	case lateCopy:
		old := n.kept[n.at%len(n.kept)]
		n.forget(old, bytes.NewReader(old.body))
	case comesTwice:
		other := make(chan bool)
		go func() { n.forget(m, bytes.NewReader(body)); close(other) }()
		resp := n.deliver(m, bytes.NewReader(body))
		<-other
		return resp, nil
	}
	resp := n.deliver(m, bytes.NewReader(body))
	if n.fate == cutAnswer {
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			return nil, err
		}
		resp.Body = io.NopCloser(io.MultiReader(bytes.NewReader(text[:len(text)*n.at/1000]), broken{}))
	}
	return resp, nil
}

// broken ends as a connection does that is cut.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func (n *network) deliver(m message, body io.Reader) *http.Response {
	r := httptest.NewRequest(m.method, m.target, body)
	r.Header = m.header.Clone()
	w := httptest.NewRecorder()
	n.h.ServeHTTP(w, r)
	return w.Result()
}

// forget delivers a request whose answer reaches nobody.
func (n *network) forget(m message, body io.Reader) {
	resp := n.deliver(m, body)
	_ = resp.Body.Close() // a recorder's
}

// edit is a field's new value, of which there is one in the whole test.
type edit struct{ device, op, uid, field, value string }

// Devices edit offline what they know, and synchronise over a network that cuts, loses, doubles, delays and repeats. In
// the end: each edit has been carried out once, or waits in the review queue once, or was rejected and its device told;
// every answer "conflict" or "duplicate" is a question in the review queue and there are no others; and each device's
// copy is what the registry has for its islands.
func TestDevicesConverge(t *testing.T) {
	tally := map[registry.Outcome]int{} // of all checks
	everywhere(t, func(t *rapid.T, r registryUnderTest) {
		net := &network{h: api.New(r.Store, api.Options{Timeout: time.Hour, More: sync.Routes(r.Store), Trouble: func(err error) { t.Errorf("trouble: %v", err) }})}
		ctx := context.Background()
		var devices []*device.Device
		areas := [][]string{nil, {"Rarotonga"}, {"Rarotonga", "Aitutaki"}}
		for i, islands := range areas {
			id := fmt.Sprint("d", i)
			now := time.Now()
			secret, _, err := r.AddToken(ctx, registry.Token{Name: id, Scope: registry.Enumerator, Device: id, Areas: islands, CreatedAt: now, ExpiresAt: now.AddDate(1, 0, 0)})
			if err != nil {
				t.Fatal(err)
			}
			devices = append(devices, device.New(device.Options{Client: &http.Client{Transport: net}, URL: "http://registry", Token: secret, ID: id,
				Coding: []string{"", "gzip", "zstd"}[i], Batch: 1 + 3*i}))
		}
		serial := 0
		var edits []edit
		unique := func(d *device.Device, field string) string {
			serial++
			value := fmt.Sprintf("Value %c%c%c", 'a'+serial/676%26, 'a'+serial/26%26, 'a'+serial%26)
			switch field {
			case "phone":
				value = fmt.Sprintf("+682%07d", serial)
			case "national_id":
				value = fmt.Sprintf("CK-%07d", serial)
			}
			edits = append(edits, edit{device: d.ID, field: field, value: value})
			return value
		}
		// made notes which change the edits from the first on are in.
		made := func(d *device.Device, first int) {
			c := d.Outbox()[len(d.Outbox())-1]
			for i := first; i < len(edits); i++ {
				edits[i].op, edits[i].uid = c.OpID, c.UID
			}
		}
		create := func(d *device.Device, entity string, with map[string]any, fields ...string) {
			first := len(edits)
			for _, f := range fields {
				with[f] = unique(d, f)
			}
			d.Create(entity, with)
			made(d, first)
		}
		numbers := []string{}
		pick := func(t *rapid.T) *device.Device { return devices[rapid.IntRange(0, len(devices)-1).Draw(t, "device")] }
		some := func(t *rapid.T, d *device.Device, entity string) (uid string) {
			known := []string{}
			for _, rec := range d.List(entity) {
				known = append(known, rec.UID)
			}
			for _, c := range d.Outbox() { // its own, not yet answered
				if c.Entity == entity && c.Op == registry.Create && !slices.Contains(known, c.UID) {
					known = append(known, c.UID)
				}
			}
			if len(known) == 0 {
				t.Skip("knows no " + entity)
			}
			slices.Sort(known)
			return known[rapid.IntRange(0, len(known)-1).Draw(t, entity)]
		}
		syncs := func(t *rapid.T) {
			d := pick(t)
			net.fate, net.at = fate(rapid.IntRange(0, int(fates)-1).Draw(t, "fate")), rapid.IntRange(0, 999).Draw(t, "at")
			err := d.Sync(ctx)
			var refusal *device.Refusal
			if errors.As(err, &refusal) && refusal.Status != http.StatusServiceUnavailable {
				t.Errorf("%s is refused: %v", d.ID, err)
			}
		}
		// Two farmers whom all know, so that edits meet.
		for range 2 {
			create(devices[0], "farmer", map[string]any{"birth_date": "1978-03-09", "village": "Arorangi"}, "given_name", "family_name", "phone")
			create(devices[0], "plot", map[string]any{"farmer": devices[0].Outbox()[len(devices[0].Outbox())-1].UID, "size_ha": 1.5}, "name", "crop")
		}
		for _, d := range devices {
			if err := d.Sync(ctx); err != nil {
				t.Fatal(err)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"farmer": func(t *rapid.T) {
				d := pick(t)
				at := villages[0]
				if len(areas[slices.Index(devices, d)]) != 1 {
					at = villages[rapid.IntRange(0, 1).Draw(t, "island")]
				}
				with := map[string]any{"birth_date": "1978-03-09", "village": at.Name, "island": at.Island}
				if len(numbers) > 0 && rapid.IntRange(0, 3).Draw(t, "number") == 0 { // somebody's
					with["national_id"] = numbers[rapid.IntRange(0, len(numbers)-1).Draw(t, "whose")]
				} else if rapid.Bool().Draw(t, "new number") {
					numbers = append(numbers, fmt.Sprintf("NR-%05d", len(numbers)))
					with["national_id"] = numbers[len(numbers)-1]
				}
				create(d, "farmer", with, "given_name", "family_name", "phone")
			},
			"plot": func(t *rapid.T) {
				d := pick(t)
				create(d, "plot", map[string]any{"farmer": some(t, d, "farmer"), "size_ha": 1.5}, "name", "crop")
			},
			"submission": func(t *rapid.T) {
				d := pick(t)
				d.Create("submission", map[string]any{"farmer": some(t, d, "farmer"), "form": "crops", "form_version": 1, "answers": map[string]any{"crop": "taro"}})
			},
			"edit farmer": func(t *rapid.T) {
				d := pick(t)
				first, uid, with := len(edits), some(t, d, "farmer"), map[string]any{}
				for _, f := range []string{"given_name", "family_name", "phone", "national_id", "note"} {
					if rapid.IntRange(0, 2).Draw(t, f) == 0 {
						with[f] = unique(d, f)
					}
				}
				d.Update("farmer", uid, with)
				made(d, first)
			},
			"edit plot": func(t *rapid.T) {
				d := pick(t)
				first, uid := len(edits), some(t, d, "plot")
				d.Update("plot", uid, map[string]any{"name": unique(d, "name"), "crop": unique(d, "crop")})
				made(d, first)
			},
			"move": func(t *rapid.T) {
				d := pick(t)
				uid, to := some(t, d, "farmer"), villages[rapid.IntRange(0, len(villages)-1).Draw(t, "to")]
				d.Update("farmer", uid, map[string]any{"village": to.Name, "island": to.Island})
			},
			"delete": func(t *rapid.T) {
				d := pick(t)
				entity := rapid.SampledFrom([]string{"farmer", "plot", "submission"}).Draw(t, "entity")
				d.Delete(entity, some(t, d, entity))
			},
			"sync":       syncs,
			"sync again": syncs,
		})
		// The link is good again.
		net.fate = arrives
		for range 2 { // the first to synchronise learns in the second round what the others had
			for _, d := range devices {
				if err := d.Sync(ctx); err != nil {
					t.Fatal(err)
				}
			}
		}
		// Whatever is still on its way comes, and changes nothing.
		before := r.everything(t)
		for _, m := range net.kept {
			if m.method == http.MethodPost {
				net.forget(m, bytes.NewReader(m.body))
			}
		}
		if diff := cmp.Diff(before, r.everything(t)); diff != "" {
			t.Errorf("old requests that come again change the registry:\n%s", diff)
		}
		answered := map[int64]registry.Result{}
		rejected := map[string]bool{}
		for _, d := range devices {
			if len(d.Outbox()) > 0 {
				t.Errorf("%s has %d changes left", d.ID, len(d.Outbox()))
			}
			for _, a := range d.Answered {
				if a.Outcome == registry.Rejected {
					rejected[a.OpID] = true
					for _, f := range a.Faults { // of a plot or submission there is none when its farmer had moved away
						if f.Detail != "this record is not in your area" && f.Detail != "is not in your area" && f.Detail != "there is no such plot" && f.Detail != "there is no such submission" {
							t.Errorf("%s: rejected: %v", d.ID, a.Faults)
						}
					}
					continue
				}
				if _, twice := answered[a.Review]; twice {
					t.Errorf("review %d stands for two answers", a.Review)
				}
				answered[a.Review] = a
			}
			r.sameAs(t, d, areas[slices.Index(devices, d)])
		}
		r.questions(t, answered)
		r.once(t, edits, rejected)
		for _, a := range answered {
			tally[a.Outcome]++
		}
		tally[registry.Rejected] += len(rejected)
		tally["edits"] += len(edits)
	})
	t.Logf("%v", tally)
	if !testing.Short() && (tally[registry.Conflict] == 0 || tally[registry.Duplicate] == 0 || tally[registry.Rejected] == 0) { // one database alone sees fewer
		t.Errorf("not everything happened: %v", tally)
	}
}

type fatal interface {
	Helper()
	Fatal(...any)
	Errorf(string, ...any)
}

// rows returns what a query finds, a line for each row.
func (r registryUnderTest) rows(t fatal, query string) (lines [][]string) {
	t.Helper()
	rows, err := r.sql.Query(query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		line := make([]string, len(columns))
		into := make([]any, len(columns))
		for i := range line {
			into[i] = &line[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	if rows.Err() != nil {
		t.Fatal(rows.Err())
	}
	return lines
}

// everything is what an old request may not change.
func (r registryUnderTest) everything(t fatal) (all [][]string) {
	t.Helper()
	for _, query := range []string{"SELECT uid, version, op, actor, fields FROM revision ORDER BY uid, version", "SELECT id, kind, uid, fields FROM review ORDER BY id", "SELECT seq, uid, area FROM change ORDER BY seq"} {
		all = append(all, r.rows(t, query)...)
	}
	return all
}

// sameAs holds a device's copies against the registry's records.
func (r registryUnderTest) sameAs(t fatal, d *device.Device, areas []string) {
	t.Helper()
	want := map[string]device.Record{}
	who := registry.Actor{Areas: areas}
	for _, e := range registry.Entities {
		for _, row := range r.rows(t, "SELECT uid FROM "+e.Name) {
			rec, err := r.Get(context.Background(), who, e.Name, row[0])
			if errors.Is(err, registry.ErrNotFound) || err == nil && rec.Deleted {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			text, err := json.Marshal(rec)
			if err != nil {
				t.Fatal(err)
			}
			var copied device.Record
			if err := json.Unmarshal(text, &copied); err != nil {
				t.Fatal(err)
			}
			want[rec.UID] = copied
		}
	}
	if diff := cmp.Diff(want, d.Records()); diff != "" {
		t.Errorf("%s differs from the registry:\n%s", d.ID, diff)
	}
}

// questions holds the review queue against the answers that promised a place in it.
func (r registryUnderTest) questions(t fatal, answered map[int64]registry.Result) {
	t.Helper()
	rows := r.rows(t, "SELECT id, kind, entity, uid, fields FROM review WHERE state = 'open'")
	for _, row := range rows {
		var id int64
		fmt.Sscan(row[0], &id)
		a, ok := answered[id]
		if !ok || string(a.Outcome) != row[1] || a.Entity != row[2] || a.UID != row[3] {
			t.Errorf("review %v stands for the answer %+v", row, a)
		}
		var fields map[string]any
		if err := json.Unmarshal([]byte(row[4]), &fields); err != nil {
			t.Fatal(err)
		}
		for _, name := range a.Conflict {
			if _, ok := fields[name]; !ok {
				t.Errorf("review %v lacks %s", row, name)
			}
		}
	}
	if len(rows) != len(answered) {
		t.Errorf("%d questions stand in the review queue for %d answers", len(rows), len(answered))
	}
}

// once looks for each edit's value in the audit trail and in the review queue.
func (r registryUnderTest) once(t fatal, edits []edit, rejected map[string]bool) {
	t.Helper()
	done, asked := map[string]int{}, map[string]int{}
	versions := map[string]int{}
	for _, row := range r.rows(t, "SELECT uid, actor, fields FROM revision") {
		versions[row[0]]++
		var fields map[string]registry.Was
		if err := json.Unmarshal([]byte(row[2]), &fields); err != nil {
			t.Fatal(err)
		}
		for name, was := range fields {
			done[fmt.Sprint(row[1], row[0], name, was.New)]++
		}
	}
	for _, row := range r.rows(t, "SELECT uid, actor, fields FROM review") {
		var fields map[string]any
		if err := json.Unmarshal([]byte(row[2]), &fields); err != nil {
			t.Fatal(err)
		}
		for name, value := range fields {
			asked[fmt.Sprint(row[1], row[0], name, value)]++
		}
	}
	for _, e := range edits {
		key := fmt.Sprint("device:", e.device, e.uid, e.field, e.value)
		if n := done[key] + asked[key]; n != 1 && (n != 0 || !rejected[e.op]) {
			t.Errorf("%+v is done %d times and asked about %d times", e, done[key], asked[key])
		}
	}
	for _, e := range registry.Entities {
		for _, row := range r.rows(t, "SELECT uid, version FROM "+e.Name) {
			if fmt.Sprint(versions[row[0]]) != row[1] {
				t.Errorf("the %s %s has version %s and %d revisions", e.Name, row[0], row[1], versions[row[0]])
			}
		}
	}
}
