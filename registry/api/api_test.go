package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/registry"
	"tidemark/registry/seed"
	"tidemark/registry/sqlite"
)

const seeded = 200

func newStore(t testing.TB, farmers int) *sqlite.Store {
	t.Helper()
	path := filepath.Join(t.TempDir(), "farmers.db")
	if err := sqlite.Create(t.Context(), path, seed.Villages(), seed.Farmers(1, farmers), nil); err != nil {
		t.Fatal(err)
	}
	s, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func newAPI(t testing.TB) http.Handler {
	return New(newStore(t, seeded), Burden{}, func(err error) { t.Errorf("trouble: %v", err) })
}

// document is what comes back, of either kind.
type document struct {
	Farmers []registry.Farmer
	More    bool

	Type, Title, Detail string
	Status              any
	Errors              []struct{ Pointer, Detail string }
}

func ask(t testing.TB, h http.Handler, r *http.Request) (status int, header http.Header, doc document) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if r.Method != http.MethodHead {
		if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
			t.Fatalf("%s %s: %v in %s", r.Method, r.URL, err, w.Body)
		}
	}
	status, header = w.Code, w.Result().Header
	if kind := header.Get("Content-Type"); (status >= 400) != (kind == "application/problem+json") && r.URL.Path != "/web/health" {
		t.Errorf("%s %s: %d with Content-Type %s", r.Method, r.URL, status, kind)
	}
	if status >= 400 && doc.Status != float64(status) && r.URL.Path != "/web/health" {
		t.Errorf("%s %s: status %d, problem says %v", r.Method, r.URL, status, doc.Status)
	}
	if header.Get("X-Worker") == "" || header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%s %s: headers %v", r.Method, r.URL, header)
	}
	return status, header, doc
}

func get(t testing.TB, h http.Handler, target string) (int, document) {
	t.Helper()
	status, _, doc := ask(t, h, httptest.NewRequest(http.MethodGet, target, nil))
	return status, doc
}

func post(t testing.TB, h http.Handler, body string) (int, document) {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/api/farmer", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	status, _, doc := ask(t, h, r)
	return status, doc
}

func TestLookup(t *testing.T) {
	h := newAPI(t)
	all := slices.Collect(seed.Farmers(1, seeded))
	f := all[0]
	for _, target := range []string{
		"uid=" + f.UID, "uid=" + strings.ToUpper(f.UID), "national_id=" + f.NationalID, "national_id=" + strings.ToLower(f.NationalID),
	} {
		status, doc := get(t, h, "/api/farmer/lookup?"+target)
		if diff := cmp.Diff(document{Farmers: []registry.Farmer{f}}, doc); status != 200 || diff != "" {
			t.Errorf("%s: %d\n%s", target, status, diff)
		}
	}
	query := url.Values{"name": {f.FamilyName}, "village": {f.Village}}
	if status, doc := get(t, h, "/api/farmer/lookup?"+query.Encode()); status != 200 || !slices.Contains(doc.Farmers, f) || doc.More {
		t.Errorf("by name and village: %d %+v", status, doc)
	}
	if status, doc := get(t, h, "/api/farmer/lookup?name=ma"); status != 200 || len(doc.Farmers) != maxFound || !doc.More {
		t.Errorf("by a short name: %d, %d farmers, more %v", status, len(doc.Farmers), doc.More)
	}
	for _, target := range []string{"name=nobody", "name=ma&village=nowhere"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/farmer/lookup?"+target, nil))
		if got := w.Body.String(); got != `{"farmers":[],"more":false}`+"\n" {
			t.Errorf("%s: %s", target, got)
		}
	}
}

func TestStatuses(t *testing.T) {
	h := newAPI(t)
	for _, c := range []struct {
		method, target string
		status         int
		detail         string // is in it
	}{
		{"GET", "/web/health", 200, ""},
		{"HEAD", "/web/health", 200, ""},
		{"GET", "/api/farmer/lookup", 400, "give one of"},
		{"GET", "/api/farmer/lookup?uid=&name=", 400, "must be 1 to 200 bytes"},
		{"GET", "/api/farmer/lookup?uid=x", 400, "must be a UUID"},
		{"GET", "/api/farmer/lookup?uid=0190b4a2-6c1e-4f0a-9d3e-2b7c5a1e8f00", 404, "no such farmer"},
		{"GET", "/api/farmer/lookup?national_id=CK-0000000", 404, "no such farmer"},
		{"GET", "/api/farmer/lookup?national_id=" + strings.Repeat("9", 201), 400, "must be 1 to 200 bytes"},
		{"GET", "/api/farmer/lookup?name=%FF%FE", 400, "bytes of text"},
		{"GET", "/api/farmer/lookup?name=a", 400, "two letters"},
		{"GET", "/api/farmer/lookup?name='''", 400, "two letters"},
		{"GET", "/api/farmer/lookup?village=muri", 400, "give one of"},
		{"GET", "/api/farmer/lookup?name=tere&uid=0190b4a2-6c1e-4f0a-9d3e-2b7c5a1e8f00", 400, "give one of"},
		{"GET", "/api/farmer/lookup?name=tere&name=papa", 400, "2 times"},
		{"GET", "/api/farmer/lookup?names=tere", 400, `"names"`},
		{"POST", "/api/farmer/lookup", 405, "use GET, HEAD"},
		{"GET", "/api/farmer", 405, "use POST"},
		{"DELETE", "/api/farmer", 405, "use POST"},
		{"POST", "/web/health", 405, "use GET, HEAD"},
		{"POST", "/api/farmer", 415, "application/json"},
		{"GET", "/", 404, "/api/farmer/lookup"},
	} {
		status, header, doc := ask(t, h, httptest.NewRequest(c.method, c.target, nil))
		if status != c.status || !strings.Contains(doc.Detail, c.detail) {
			t.Errorf("%s %s: %d %q, want %d and %q", c.method, c.target, status, doc.Detail, c.status, c.detail)
		}
		if (status == 405) != (header.Get("Allow") != "") {
			t.Errorf("%s %s: %d with Allow %q", c.method, c.target, status, header.Get("Allow"))
		}
	}
}

var mere = map[string]any{
	"uid": "0190b4a2-6c1e-4f0a-9d3e-2b7c5a1e8f00", "given_name": "Mere", "family_name": "Tuatai", "birth_date": "1978-03-09",
	"sex": "female", "national_id": "CK-TEST-1", "phone": "+68255123", "village": "Arorangi", "island": "Rarotonga", "status": "active",
}

// with returns mere as JSON with some fields changed.
func with(changes map[string]any) string {
	m := maps.Clone(mere)
	maps.Copy(m, changes)
	body, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return string(body)
}

func TestRegister(t *testing.T) {
	h := newAPI(t)
	r := httptest.NewRequest(http.MethodPost, "/api/farmer", strings.NewReader(with(nil)))
	r.Header.Set("Content-Type", "application/json")
	status, header, _ := ask(t, h, r)
	if status != 201 {
		t.Fatalf("new: %d", status)
	}
	if status, doc := get(t, h, header.Get("Location")); status != 200 || doc.Farmers[0].GivenName != "Mere" {
		t.Errorf("at its location: %d %+v", status, doc)
	}
	for _, c := range []struct {
		name   string
		body   string
		status int
		kind   string
	}{
		{"again", with(nil), 200, ""},
		{"again, untidy", with(map[string]any{"uid": strings.ToUpper(mere["uid"].(string)), "given_name": " Mere ", "village": "ARORANGI"}), 200, ""},
		{"same uid, other name", with(map[string]any{"given_name": "Moana"}), 409, "urn:registry:problem:uid-taken"},
		{"other uid, same national id", with(map[string]any{"uid": ""}), 409, "urn:registry:problem:national-id-taken"},
		{"no uid", with(map[string]any{"uid": "", "national_id": ""}), 201, ""},
		{"no uid again: another farmer", with(map[string]any{"uid": "", "national_id": ""}), 201, ""},
		{"no village", with(map[string]any{"village": "Nowhere"}), 422, "urn:registry:problem:invalid-farmer"},
		{"which island", with(map[string]any{"village": "Houma", "island": ""}), 422, "urn:registry:problem:invalid-farmer"},
		{"not JSON", "<farmer/>", 400, "urn:registry:problem:malformed-farmer"},
		{"two", with(nil) + with(nil), 400, "urn:registry:problem:malformed-farmer"},
		{"unknown field", with(map[string]any{"is_admin": true}), 400, "urn:registry:problem:malformed-farmer"},
		{"too large", with(map[string]any{"given_name": strings.Repeat("a", maxBody)}), 413, "about:blank"},
	} {
		if status, doc := post(t, h, c.body); status != c.status || doc.Type != c.kind {
			t.Errorf("%s: %d %s, want %d %s", c.name, status, doc.Type, c.status, c.kind)
		}
	}
}

// Whatever a field is given, it is refused by name or kept as it is: it is never run and never leaves as markup.
func TestHostileFields(t *testing.T) {
	h := newAPI(t)
	for field := range mere {
		for _, hostile := range []any{
			"'; DROP TABLE farmer; --", `" OR ""="`, "x' UNION SELECT sql FROM sqlite_master --", "<script>alert(1)</script>",
			"<img src=x onerror=alert(1)>", "%27%3B", "\x00", "../../etc/passwd", "{{7*7}}", "\u202e", strings.Repeat("A", 5000),
		} {
			status, doc := post(t, h, with(map[string]any{field: hostile}))
			if status != 422 || len(doc.Errors) != 1 || doc.Errors[0].Pointer != "/"+field {
				t.Errorf("%s = %.30q: %d %+v", field, hostile, status, doc.Errors)
			}
		}
		for _, wrong := range []any{1, 1.5, true, []string{"a"}, map[string]any{"$gt": ""}} {
			status, doc := post(t, h, with(map[string]any{field: wrong}))
			if status != 400 || len(doc.Errors) != 1 || doc.Errors[0].Pointer != "/"+field {
				t.Errorf("%s = %v: %d %+v", field, wrong, status, doc.Errors)
			}
		}
	}
	for _, hostile := range []string{"'; DROP TABLE farmer; --", "%' OR 1=1 --", "<script>alert(1)</script>", "a_%%"} {
		for _, key := range []string{"name", "national_id", "uid"} {
			status, doc := get(t, h, "/api/farmer/lookup?"+url.Values{key: {hostile}}.Encode())
			if status == 200 && len(doc.Farmers) > 0 || status >= 500 {
				t.Errorf("%s=%s: %d with %d farmers", key, hostile, status, len(doc.Farmers))
			}
		}
		if status, doc := get(t, h, "/api/farmer/lookup?"+url.Values{"name": {"ma"}, "village": {hostile}}.Encode()); status != 200 || len(doc.Farmers) > 0 {
			t.Errorf("village=%s: %d with %d farmers", hostile, status, len(doc.Farmers))
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/farmer/lookup?"+url.Values{hostile: {"x"}}.Encode(), nil))
		if bytes.ContainsAny(w.Body.Bytes(), "<>") {
			t.Errorf("an answer with markup in it: %s", w.Body)
		}
	}
	if status, doc := get(t, h, "/api/farmer/lookup?name=ma"); status != 200 || len(doc.Farmers) != maxFound {
		t.Errorf("afterwards: %d with %d farmers", status, len(doc.Farmers))
	}
}

// endless is a body that must not be read to its end.
type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) {
	e.read += len(p)
	return len(p), nil
}

func TestHugeBodyIsRefusedEarly(t *testing.T) {
	h := newAPI(t)
	for _, length := range []int64{100 << 20, -1} {
		body := &endless{}
		r := httptest.NewRequest(http.MethodPost, "/api/farmer", body)
		r.ContentLength = length
		r.Header.Set("Content-Type", "application/json")
		status, _, _ := ask(t, h, r)
		most := 0
		if length < 0 { // chunked: the size shows only as it comes
			most = 2 * maxBody
		}
		if status != 413 || body.read > most {
			t.Errorf("length %d: %d after reading %d bytes, want 413 after at most %d", length, status, body.read, most)
		}
	}
}

// broken is the other kind of store: one whose database is in trouble.
type broken struct{ err error }

func (b broken) ByUID(context.Context, string) (registry.Farmer, error) {
	return registry.Farmer{}, b.err
}
func (b broken) ByNationalID(context.Context, string) (registry.Farmer, error) {
	return registry.Farmer{}, b.err
}
func (b broken) ByName(context.Context, string, string, int) ([]registry.Farmer, error) {
	return nil, b.err
}
func (b broken) Register(context.Context, registry.Registration, time.Time) (registry.Farmer, bool, error) {
	return registry.Farmer{}, false, b.err
}
func (b broken) Check(context.Context) error { return b.err }

func TestDatabaseInTrouble(t *testing.T) {
	secret := errors.New("disk I/O error at /var/lib/secret.db")
	for _, c := range []struct {
		err           error
		status, heard int
	}{
		{secret, 500, 4},
		{fmt.Errorf("%w: %w", registry.ErrBusy, secret), 503, 0},
	} {
		heard := 0
		h := New(broken{c.err}, Burden{}, func(error) { heard++ })
		for _, target := range []string{"uid=0190b4a2-6c1e-4f0a-9d3e-2b7c5a1e8f00", "national_id=X", "name=tua"} {
			status, header, doc := ask(t, h, httptest.NewRequest(http.MethodGet, "/api/farmer/lookup?"+target, nil))
			if status != c.status || strings.Contains(doc.Detail, "secret") || (c.status == 503) != (header.Get("Retry-After") != "") {
				t.Errorf("%s: %d %s", target, status, doc.Detail)
			}
		}
		if status, _ := post(t, h, with(nil)); status != c.status {
			t.Errorf("POST: %d", status)
		}
		if heard != c.heard {
			t.Errorf("%d errors were told, want %d", heard, c.heard)
		}
		if status, doc := get(t, h, "/web/health"); status != 500 || doc.Status != "fail" {
			t.Errorf("health: %d %+v", status, doc)
		}
	}
	h := newAPI(t)
	if status, doc := get(t, h, "/web/health"); status != 200 || doc.Status != "pass" {
		t.Errorf("health of a sound one: %d %+v", status, doc)
	}
}

func TestBurden(t *testing.T) {
	const cpu, think = 30 * time.Millisecond, 20 * time.Millisecond
	h := New(newStore(t, 1), Burden{CPU: cpu, Think: think}, func(error) {})
	start := time.Now()
	get(t, h, "/api/farmer/lookup?name=nobody")
	if took := time.Since(start); took < cpu+think {
		t.Errorf("a request took %v, less than its burden of %v", took, cpu+think)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := threadTime()
	burn(cpu)
	if used := threadTime() - before; used < cpu {
		t.Errorf("burnt %v of CPU time, want %v", used, cpu)
	}
	for b, want := range map[Burden]string{
		{}:                             "",
		{Think: think}:                 "pauses 20ms (--think)",
		{CPU: cpu}:                     "burns 30ms of CPU time (--cpu)",
		{Think: think, CPU: cpu}:       "pauses 20ms (--think) and burns 30ms of CPU time (--cpu)",
		{Think: time.Microsecond}:      "pauses 1µs (--think)",
		{CPU: 1500 * time.Microsecond}: "burns 1.5ms of CPU time (--cpu)",
	} {
		if b.String() != want {
			t.Errorf("%#v: %q, want %q", b, b.String(), want)
		}
	}
}

// FuzzLookup asks with any query: the answer is JSON and never the server's fault.
func FuzzLookup(f *testing.F) {
	for _, q := range []string{"", "uid=1", "name=tua&village=muri", "name=%00%FF", "a=b&a=c", "%%%", "name='&village=%25"} {
		f.Add(q)
	}
	h := newAPI(f)
	f.Fuzz(func(t *testing.T, query string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, &http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/api/farmer/lookup", RawQuery: query}, Header: http.Header{}, Body: http.NoBody})
		if w.Code >= 500 || !json.Valid(w.Body.Bytes()) {
			t.Errorf("%q: %d %s", query, w.Code, w.Body)
		}
	})
}

func BenchmarkLookup(b *testing.B) {
	const n = 100_000
	h := New(newStore(b, n), Burden{}, func(err error) { b.Error(err) })
	var targets []*http.Request
	for f := range seed.Farmers(1, n) {
		if len(targets) < 5000 {
			targets = append(targets, httptest.NewRequest(http.MethodGet, "/api/farmer/lookup?uid="+f.UID, nil))
		}
	}
	for i := 0; b.Loop(); i++ {
		w := discard{http.Header{}}
		h.ServeHTTP(w, targets[i%len(targets)])
	}
}

type discard struct{ h http.Header }

func (d discard) Header() http.Header         { return d.h }
func (d discard) Write(p []byte) (int, error) { return io.Discard.Write(p) }
func (d discard) WriteHeader(int)             {}
