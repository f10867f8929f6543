package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"tidemark/registry"
	"tidemark/registry/seed"
	"tidemark/registry/store"
	"tidemark/registry/store/postgres"
	"tidemark/registry/store/sqlite"
	mobile "tidemark/registry/sync"
	"tidemark/registry/web"
	"tidemark/test/servers"
)

const seeded = 400

// all are the farmers of every test's registry.
var all = sync.OnceValue(func() []registry.Record { return slices.Collect(seed.Farmers(1, seeded)) })

var crops = registry.Form{ID: "crops", Version: 2, Title: "Crops", Questions: []registry.Question{
	{Name: "crop", Label: "What grows here?", Type: "text", Required: true},
	{Name: "area", Label: "Hectares", Type: "number", Max: 1000},
	{Name: "organic", Label: "Organic?", Type: "yes_no"},
}}

func fill(t testing.TB, s *store.Store, farmers int) {
	t.Helper()
	if err := seed.Fill(t.Context(), s, seed.Farmers(1, farmers), nil); err != nil {
		t.Fatal(err)
	}
	for version := range crops.Version {
		f := crops
		f.Version = version + 1
		if err := s.AddForm(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
}

func onSQLite(t testing.TB, farmers int) *store.Store {
	t.Helper()
	path := filepath.Join(t.TempDir(), "farmers.db")
	if err := sqlite.Create(t.Context(), path, func(s *store.Store) error { fill(t, s, farmers); return nil }); err != nil {
		t.Fatal(err)
	}
	s, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// database makes one in PostgreSQL.
func database(t testing.TB, pg *servers.PG, farmers int) (name string) {
	t.Helper()
	name = fmt.Sprint("db_", time.Now().UnixNano())
	pg.CreateDB(name)
	s, err := postgres.Open(t.Context(), pg.URL(name), 1)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, s, farmers)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return name
}

func onPostgres(t testing.TB, url string) *store.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), url, 4)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// TestEverywhere runs the suite on each kind of database. All of it that needs PostgreSQL shares one.
func TestEverywhere(t *testing.T) {
	suite := []struct {
		name string
		test func(*testing.T, *store.Store)
	}{
		{"lookup", testLookup}, {"statuses", testStatuses}, {"register", testRegister}, {"edit", testEdit}, {"forms", testForms},
		{"tokens", testTokens}, {"areas", testAreas}, {"hostile", testHostile}, {"secrets", testNothingLeaks}, {"at once", testAtOnce},
		{"sync", testSync}, {"sync bodies", testSyncBodies}, {"sync hostile", testSyncHostile},
	}
	on := func(t *testing.T, open func(*testing.T) *store.Store) {
		for _, s := range suite {
			t.Run(s.name, func(t *testing.T) { s.test(t, open(t)) })
		}
	}
	t.Run("sqlite", func(t *testing.T) { on(t, func(t *testing.T) *store.Store { return onSQLite(t, seeded) }) })
	t.Run("postgres", func(t *testing.T) {
		pg := servers.Postgres(t, "fsync=off")
		bouncer := servers.PgBouncer(t, pg, "default_pool_size=4")
		template := database(t, pg, seeded)
		for name, url := range map[string]func(string) string{"direct": pg.URL, "pgbouncer": bouncer.URL} {
			t.Run(name, func(t *testing.T) {
				copies := 0
				on(t, func(t *testing.T) *store.Store {
					copies++
					db := fmt.Sprint(name, copies)
					pg.Exec("postgres", "CREATE DATABASE "+db+" TEMPLATE "+template)
					return onPostgres(t, url(db))
				})
			})
		}
	})
}

// client asks the API, and holds every exchange against the OpenAPI document.
type client struct {
	http.Handler
	t     testing.TB
	token string
}

// open is a client of a registry that asks for no token, and has no trouble.
func open(t testing.TB, s *store.Store) *client {
	c := &client{t: t}
	c.Handler = New(s, Options{Open: true, Trouble: func(err error) { t.Errorf("trouble: %v", err) }, More: mobile.Routes(s)})
	return c
}

// as is the same client with another token.
func (c *client) as(token string) *client {
	other := *c
	other.token = token
	return &other
}

// answer is what comes back, of whatever kind.
type answer struct {
	code   int
	header http.Header
	body   []byte

	Farmers []fields
	Forms   []registry.Form
	More    bool

	Type, Title, Detail string
	Status              any
	RequestID           string `json:"request_id"`
	Errors              []struct{ Pointer, Detail string }

	fields fields // all of it, untyped
}

type fields = map[string]any

// ask sends a request with a JSON body, or none. headers are pairs.
func (c *client) ask(method, target string, body any, headers ...string) answer {
	c.t.Helper()
	var text []byte
	switch b := body.(type) {
	case nil:
	case string:
		text = []byte(b)
	default:
		var err error
		if text, err = json.Marshal(b); err != nil {
			c.t.Fatal(err)
		}
	}
	r := httptest.NewRequest(method, target, bytes.NewReader(text))
	if body != nil {
		r.Header.Set("Content-Type", "application/json; charset=utf-8")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return c.send(r, text)
}

func (c *client) send(r *http.Request, sent []byte) (a answer) {
	c.t.Helper()
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	w := httptest.NewRecorder()
	c.ServeHTTP(w, r)
	a.code, a.header, a.body = w.Code, w.Result().Header, w.Body.Bytes()
	if len(a.body) > 0 && r.Method != http.MethodHead {
		if err := json.Unmarshal(a.body, &a); err != nil {
			c.t.Fatalf("%s %s: %v in %s", r.Method, r.URL, err, a.body)
		}
		_ = json.Unmarshal(a.body, &a.fields)
	}
	for name, want := range map[string]string{"X-Worker": "", web.RequestID: a.RequestID, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"} {
		if got := a.header.Get(name); got == "" || want != "" && got != want {
			c.t.Errorf("%s %s: %s is %q", r.Method, r.URL, name, got)
		}
	}
	if isProblem := a.header.Get("Content-Type") == "application/problem+json"; isProblem && (a.Status != float64(a.code) || a.RequestID == "") {
		c.t.Errorf("%s %s: %d with the problem %s", r.Method, r.URL, a.code, a.body)
	}
	if (a.code == 429 || a.code == 503) != (a.header.Get("Retry-After") != "") {
		c.t.Errorf("%s %s: %d with Retry-After %q", r.Method, r.URL, a.code, a.header.Get("Retry-After"))
	}
	if r.Method != http.MethodHead && r.Pattern != "" {
		if err := holds(r, sent, a); err != nil {
			c.t.Errorf("%s %s: %v\n%s", r.Method, r.URL, err, a.body)
		}
	}
	return a
}

func (c *client) get(target string, headers ...string) answer {
	c.t.Helper()
	return c.ask("GET", target, nil, headers...)
}

// document is what every client gets as the OpenAPI document.
var document = sync.OnceValue(func() fields {
	w := httptest.NewRecorder()
	New(nil, Options{More: mobile.Routes(nil)}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/openapi.json", nil))
	var doc fields
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
		panic(err)
	}
	return doc
})

// holds says what of an exchange the document does not.
func holds(r *http.Request, sent []byte, a answer) error {
	method, path, _ := strings.Cut(r.Pattern, " ")
	op, ok := dig(document(), "paths", path, strings.ToLower(method))
	if !ok {
		return fmt.Errorf("the document has no %s", r.Pattern)
	}
	answers, ok := dig(op, "responses", strconv.Itoa(a.code))
	if !ok {
		return fmt.Errorf("the document has no answer %d", a.code)
	}
	content, some := answers["content"].(fields)
	if some != (len(a.body) > 0) {
		return fmt.Errorf("the document has a body: %v", some)
	}
	if some {
		kind := a.header.Get("Content-Type")
		schema, ok := dig(content, kind, "schema")
		if !ok {
			return fmt.Errorf("the document has no %s", kind)
		}
		if err := valid(schema, a.body); err != nil {
			return fmt.Errorf("the answer: %w", err)
		}
	}
	content, some = dig(op, "requestBody", "content")
	if a.code >= 300 {
		return nil
	}
	if some != (len(sent) > 0) {
		return fmt.Errorf("the document has a request body: %v", some)
	}
	if some {
		kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
		schema, ok := dig(content, kind, "schema")
		if !ok {
			return fmt.Errorf("the document takes no %s", kind)
		}
		if err := valid(schema, sent); err != nil {
			return fmt.Errorf("an accepted request: %w", err)
		}
	}
	return nil
}

func dig(in fields, names ...string) (fields, bool) {
	for _, name := range names {
		next, ok := in[name].(fields)
		if !ok {
			return nil, false
		}
		in = next
	}
	return in, true
}

var resolved sync.Map // of a schema's text, the schema made ready

// valid holds a JSON text against a schema of the document.
func valid(schema fields, text []byte) error {
	name, err := json.Marshal(schema)
	if err != nil {
		return err
	}
	ready, ok := resolved.Load(string(name))
	if !ok {
		whole := maps.Clone(schema)
		whole["$defs"], _ = dig(document(), "components", "schemas")
		js, err := json.Marshal(whole)
		if err != nil {
			return err
		}
		var s jsonschema.Schema
		if err := json.Unmarshal(bytes.ReplaceAll(js, []byte("#/components/schemas/"), []byte("#/$defs/")), &s); err != nil {
			return err
		}
		if ready, err = s.Resolve(nil); err != nil {
			return err
		}
		resolved.Store(string(name), ready)
	}
	var instance any
	if err := json.Unmarshal(text, &instance); err != nil {
		return err
	}
	return ready.(*jsonschema.Resolved).Validate(instance)
}

type discard struct{ h http.Header }

func (d discard) Header() http.Header         { return d.h }
func (d discard) Write(p []byte) (int, error) { return io.Discard.Write(p) }
func (d discard) WriteHeader(int)             {}
