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
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tidemark/registry"
	"tidemark/registry/seed"
	"tidemark/registry/store"
	"tidemark/registry/web"
	"tidemark/test/servers"
)

func testLookup(t *testing.T, s *store.Store) {
	c := open(t, s)
	f := all()[0]
	id := f.Fields.Text("national_id")
	for _, target := range []string{"uid=" + f.UID, "uid=" + strings.ToUpper(f.UID), "national_id=" + id, "national_id=" + strings.ToLower(id)} {
		a := c.get("/api/farmer/lookup?" + target)
		if a.code != 200 || len(a.Farmers) != 1 || a.More {
			t.Fatalf("%s: %d %s", target, a.code, a.body)
		}
		for name, want := range f.Fields {
			if a.Farmers[0][name] != want {
				t.Errorf("%s: %s is %v, want %v", target, name, a.Farmers[0][name], want)
			}
		}
	}
	is := func(found fields) bool { return found["uid"] == f.UID }
	given, family := f.Fields.Text("given_name"), f.Fields.Text("family_name")
	for _, query := range []url.Values{
		{"name": {family}, "village": {f.Fields.Text("village")}},
		{"name": {family + " " + given}},
		{"name": {strings.ToUpper(given + " " + family)}},
		{"name": {family[:len(family)-1] + "x " + given}}, // misspelt
	} {
		if a := c.get("/api/farmer/lookup?" + query.Encode()); a.code != 200 || !slices.ContainsFunc(a.Farmers, is) {
			t.Errorf("%s: %d without %s", query.Encode(), a.code, f.UID)
		}
	}
	if a := c.get("/api/farmer/lookup?name=ma"); a.code != 200 || len(a.Farmers) != maxFound || !a.More {
		t.Errorf("by a short name: %d, %d farmers, more %v", a.code, len(a.Farmers), a.More)
	}
	for _, target := range []string{"name=qqqqqq", "name=ma&village=nowhere"} {
		if a := c.get("/api/farmer/lookup?" + target); string(a.body) != `{"farmers":[],"more":false}`+"\n" {
			t.Errorf("%s: %s", target, a.body)
		}
	}
	if _, err := s.Apply(t.Context(), registry.Actor{Name: "test"}, time.Now(), []registry.Change{{Entity: "farmer", UID: f.UID, Op: registry.Delete, Base: 1}}); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"/lookup?uid=" + f.UID, "/lookup?national_id=" + id, "/" + f.UID} {
		if a := c.get("/api/farmer" + target); a.code != 404 {
			t.Errorf("deleted: %s: %d", target, a.code)
		}
	}
}

func testStatuses(t *testing.T, s *store.Store) {
	c := open(t, s)
	const nobody = "0190b4a2-6c1e-4f0a-9d3e-2b7c5a1e8f00"
	for _, step := range []struct {
		method, target string
		status         int
		detail         string // is in it
	}{
		{"GET", "/web/health", 200, ""},
		{"HEAD", "/web/health", 200, ""},
		{"GET", "/api/openapi.json", 200, ""},
		{"GET", "/api/farmer/lookup", 400, "give one of"},
		{"GET", "/api/farmer/lookup?uid=&name=", 400, "must be 1 to 200 bytes"},
		{"GET", "/api/farmer/lookup?uid=x", 400, "must be a UUID"},
		{"GET", "/api/farmer/lookup?uid=" + nobody, 404, "no such record"},
		{"GET", "/api/farmer/lookup?national_id=CK-0000000", 404, "no such record"},
		{"GET", "/api/farmer/lookup?national_id=" + strings.Repeat("9", 201), 400, "must be 1 to 200 bytes"},
		{"GET", "/api/farmer/lookup?name=%FF%FE", 400, "bytes of text"},
		{"GET", "/api/farmer/lookup?name=tere%00", 400, "bytes of text"},
		{"GET", "/api/farmer/lookup?national_id=%00%00", 400, "bytes of text"},
		{"GET", "/api/farmer/lookup?name=%zz", 400, "cannot be read"},
		{"GET", "/api/farmer/lookup?name=a;b=c", 400, "cannot be read"},
		{"GET", "/api/farmer/lookup?name=a", 400, "two letters"},
		{"GET", "/api/farmer/lookup?name='''", 400, "two letters"},
		{"GET", "/api/farmer/lookup?village=muri", 400, "give one of"},
		{"GET", "/api/farmer/lookup?name=tere&uid=" + nobody, 400, "give one of"},
		{"GET", "/api/farmer/lookup?name=tere&name=papa", 400, "2 times"},
		{"GET", "/api/farmer/lookup?names=tere", 400, "unknown parameter"},
		{"GET", "/api/farmer/" + nobody, 404, "no such record"},
		{"GET", "/api/farmer/%00", 404, "no such record"},
		{"GET", "/api/farmer/%FF", 404, "no such record"},
		{"GET", "/api/farmer/..%2f..%2fetc", 404, "no such record"},
		{"PATCH", "/api/farmer/" + nobody, 428, "If-Match"},
		{"PATCH", "/api/farmer/'OR''='", 404, "no such record"},
		{"POST", "/api/farmer/lookup", 405, "use GET, HEAD"},
		{"GET", "/api/farmer", 405, "use POST"},
		{"DELETE", "/api/farmer", 405, "use POST"},
		{"DELETE", "/api/farmer/" + nobody, 405, "use GET, HEAD, PATCH"},
		{"POST", "/web/health", 405, "use GET, HEAD"},
		{"POST", "/api/farmer", 415, "application/json"},
		{"POST", "/api/forms/crops/submissions", 415, "application/json"},
		{"GET", "/api/nothing", 404, "/api/openapi.json"},
		{"GET", "/", 404, "/api/openapi.json"},
	} {
		a := c.ask(step.method, step.target, nil)
		if a.code != step.status || !strings.Contains(a.Detail, step.detail) {
			t.Errorf("%s %s: %d %q, want %d and %q", step.method, step.target, a.code, a.Detail, step.status, step.detail)
		}
		if (a.code == 405) != (a.header.Get("Allow") != "") {
			t.Errorf("%s %s: %d with Allow %q", step.method, step.target, a.code, a.header.Get("Allow"))
		}
	}
	for given, want := range map[string]string{"proxy-7.a": "proxy-7.a", "": "", "<b>": "", strings.Repeat("a", 61): ""} {
		got := c.get("/api/nothing", web.RequestID, given).RequestID
		if want != "" && got != want || want == "" && (got == given || len(got) < 20) {
			t.Errorf("request id %q became %q", given, got)
		}
	}
}

var mere = fields{
	"uid": "0190b4a2-6c1e-4f0a-9d3e-2b7c5a1e8f00", "given_name": "Mere", "family_name": "Tuatai", "birth_date": "1978-03-09",
	"sex": "female", "national_id": "CK-TEST-1", "phone": "+68255123", "village": "Arorangi", "island": "Rarotonga", "status": "active", "note": "two goats",
}

// with returns mere with some fields changed, and those that are nil left out.
func with(changes fields) fields {
	m := maps.Clone(mere)
	for name, value := range changes {
		if value == nil {
			delete(m, name)
		} else {
			m[name] = value
		}
	}
	return m
}

func testRegister(t *testing.T, s *store.Store) {
	c := open(t, s)
	first := c.ask("POST", "/api/farmer", mere)
	if first.code != 201 || first.header.Get("ETag") != `"1"` {
		t.Fatalf("new: %d %s", first.code, first.body)
	}
	for name, want := range mere {
		if first.fields[name] != want {
			t.Errorf("%s was stored as %v", name, first.fields[name])
		}
	}
	if a := c.get(first.header.Get("Location")); a.code != 200 || !bytes.Equal(a.body, first.body) {
		t.Errorf("at its location: %d %s", a.code, a.body)
	}
	large := with(fields{"note": strings.Repeat("a", web.MaxBody)})
	for _, step := range []struct {
		name   string
		body   any
		status int
		kind   string
	}{
		{"again", mere, 200, ""},
		{"again, untidy", with(fields{"uid": strings.ToUpper(mere["uid"].(string)), "given_name": " Mere ", "village": "ARORANGI", "national_id": "ck-test-1"}), 200, ""},
		{"same uid, other name", with(fields{"given_name": "Moana"}), 409, "uid-taken"},
		{"same uid, other note", with(fields{"note": "three goats"}), 409, "uid-taken"},
		{"other uid, same national id", with(fields{"uid": nil}), 409, "national-id-taken"},
		{"no uid", with(fields{"uid": nil, "national_id": nil}), 201, ""},
		{"no uid again: another farmer", with(fields{"uid": nil, "national_id": nil}), 201, ""},
		{"no village", with(fields{"uid": nil, "village": "Nowhere"}), 422, "invalid"},
		{"which island", with(fields{"uid": nil, "national_id": nil, "village": "Houma", "island": nil}), 422, "invalid"},
		{"no such household", with(fields{"uid": nil, "national_id": nil, "household": registry.NewUID()}), 422, "invalid"},
		{"an empty uid", with(fields{"uid": ""}), 422, "invalid"},
		{"a member too many", with(fields{"uid": nil, "is_admin": true}), 422, "invalid"},
		{"nothing", fields{}, 422, "invalid"},
		{"not JSON", "<farmer/>", 400, "malformed"},
		{"empty", "", 400, "malformed"},
		{"null", "null", 400, "malformed"},
		{"a list", "[]", 400, "malformed"},
		{"two", "{}{}", 400, "malformed"},
		{"cut", `{"given_name": "Me`, 400, "malformed"},
		{"invalid UTF-8", "{\"note\": \"\xff\"}", 400, "malformed"},
		{"too deep", `{"note":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + "}", 400, "malformed"},
		{"too large", large, 413, ""},
	} {
		want := "about:blank"
		if step.kind != "" {
			want = web.Kind(step.kind)
		}
		if a := c.ask("POST", "/api/farmer", step.body); a.code != step.status || a.code >= 300 && a.Type != want {
			t.Errorf("%s: %d %s %s, want %d %s", step.name, a.code, a.Type, a.Detail, step.status, want)
		}
	}
	if a := c.ask("POST", "/api/farmer", mere, "Content-Encoding", "gzip"); a.code != 415 {
		t.Errorf("compressed: %d", a.code)
	}
	counts, err := s.Counts(t.Context())
	if err != nil || counts["farmer"] != seeded+3 {
		t.Errorf("%d farmers, want %d (%v)", counts["farmer"], seeded+3, err)
	}
	if h, err := s.History(t.Context(), "farmer", mere["uid"].(string)); err != nil || len(h) != 1 || h[0].Actor != "open" {
		t.Errorf("what is the same, and what was refused, left a trace: %+v %v", h, err)
	}
}

func testEdit(t *testing.T, s *store.Store) {
	c := open(t, s)
	f := all()[3]
	path := "/api/farmer/" + f.UID
	taken := all()[4].Fields.Text("national_id")
	if a := c.get(path); a.code != 200 || a.header.Get("ETag") != `"1"` || a.fields["uid"] != f.UID {
		t.Fatalf("%d %s", a.code, a.body)
	}
	for _, step := range []struct {
		name, match string
		body        any
		status      int
		pointer     string // of the first error
	}{
		{"without If-Match", "", fields{"note": "x"}, 428, ""},
		{"of a version to come", `"2"`, fields{"note": "x"}, 409, ""},
		{"of any version", `*`, fields{"note": "x"}, 409, ""},
		{"not quoted", `1`, fields{"note": "x"}, 409, ""},
		{"not JSON", `"1"`, "note=x", 400, ""},
		{"a member too many", `"1"`, fields{"uid": registry.NewUID()}, 422, ""},
		{"another's number", `"1"`, fields{"national_id": taken, "note": "x"}, 409, "/national_id"},
		{"no name", `"1"`, fields{"family_name": nil}, 422, "/family_name"},
		{"no such village", `"1"`, fields{"village": "Nowhere"}, 422, "/village"},
		{"sound", `"1"`, fields{"note": "<b>\"'; --", "phone": nil}, 200, ""},
		{"the version before", `"1"`, fields{"crop": "x"}, 422, ""},
		{"the version before", `"1"`, fields{"note": "y"}, 409, ""},
		{"no edit", `"2"`, fields{"note": "<b>\"'; --"}, 200, ""},
		{"one of several versions, weak", `"7", W/"2"`, fields{"status": "inactive"}, 200, ""},
		{"no edit at all", `"3"`, fields{}, 200, ""},
	} {
		var headers []string
		if step.match != "" {
			headers = []string{"If-Match", step.match}
		}
		a := c.ask("PATCH", path, step.body, headers...)
		got := ""
		if len(a.Errors) > 0 {
			got = a.Errors[0].Pointer
		}
		if a.code != step.status || got != step.pointer {
			t.Errorf("%s: %d %s, want %d %s", step.name, a.code, a.body, step.status, step.pointer)
		}
	}
	if a := c.ask("PATCH", path, fields{"note": nil}, "If-Match", `"3"`, "Content-Type", mergePatch); a.code != 200 || a.header.Get("ETag") != `"4"` {
		t.Errorf("as a merge patch: %d %s", a.code, a.body)
	}
	a := c.get(path)
	want := maps.Clone(f.Fields)
	want["status"] = "inactive"
	delete(want, "phone")
	for _, field := range registry.EntityNamed("farmer").Fields {
		if a.fields[field.Name] != want[field.Name] {
			t.Errorf("%s is %v, want %v", field.Name, a.fields[field.Name], want[field.Name])
		}
	}
	for tag, status := range map[string]int{`"4"`: 304, `W/"4"`: 304, `"1", "4"`: 304, "*": 304, `"3"`: 200, "": 200} {
		if a := c.get(path, "If-None-Match", tag); a.code != status || a.header.Get("ETag") != `"4"` {
			t.Errorf("If-None-Match %s: %d", tag, a.code)
		}
	}
	if h, err := s.History(t.Context(), "farmer", f.UID); err != nil || len(h) != 3 {
		t.Errorf("%d revisions, want those of the 3 edits (%v)", len(h), err)
	}
}

func testForms(t *testing.T, s *store.Store) {
	c := open(t, s)
	a := c.get("/api/forms")
	if a.code != 200 || len(a.Forms) != 1 || a.Forms[0].Version != crops.Version || len(a.Forms[0].Questions) != 3 {
		t.Fatalf("%d %s", a.code, a.body)
	}
	uid, farmer := registry.NewUID(), all()[0].UID
	answers := fields{"crop": "taro & <b>kumara</b>", "area": 1.5, "organic": "yes"}
	sound := fields{"uid": uid, "farmer": farmer, "form_version": 2, "answers": answers}
	but := func(name string, value any) fields {
		m := maps.Clone(sound)
		m["uid"], m[name] = registry.NewUID(), value
		if value == nil {
			delete(m, name)
		}
		return m
	}
	for _, step := range []struct {
		name, form string
		body       any
		status     int
		pointer    string
	}{
		{"new", "crops", sound, 201, ""},
		{"again", "crops", sound, 200, ""},
		{"same uid, other answers", "crops", fields{"uid": uid, "farmer": farmer, "form_version": 2, "answers": fields{"crop": "noni"}}, 409, ""},
		{"of the version before", "crops", but("form_version", 1), 201, ""},
		{"of no version", "crops", but("form_version", nil), 422, "/form_version"},
		{"of half a version", "crops", but("form_version", 1.5), 422, "/form_version"},
		{"of a version to come", "crops", but("form_version", 3), 422, "/form_version"},
		{"of a version too many", "crops", but("form_version", 1e300), 422, "/form_version"},
		{"no such form", "cows", sound, 404, ""},
		{"no form's name", "'%20OR%20''='", sound, 404, ""},
		{"the form in the body", "crops", but("form", "crops"), 422, "/form"},
		{"no such farmer", "crops", but("farmer", registry.NewUID()), 422, "/farmer"},
		{"no farmer", "crops", but("farmer", nil), 422, "/farmer"},
		{"no answers", "crops", but("answers", nil), 422, "/answers"},
		{"a list of answers", "crops", but("answers", []string{"taro"}), 422, "/answers"},
		{"an answer missing", "crops", but("answers", fields{"area": 1}), 422, "/answers/crop"},
		{"an answer of another type", "crops", but("answers", fields{"crop": "taro", "area": "1"}), 422, "/answers/area"},
		{"an answer to nothing", "crops", but("answers", fields{"crop": "taro", "__proto__": fields{"x": 1}}), 422, "/answers"},
		{"an answer with NUL", "crops", but("answers", fields{"crop": "\x00"}), 422, "/answers/crop"},
		{"a question with NUL", "crops", but("answers", fields{"crop": "taro", "\x00": "x"}), 422, "/answers"},
		{"answers too large", "crops", but("answers", fields{"crop": strings.Repeat("x", 20_000)}), 422, "/answers"},
	} {
		a := c.ask("POST", "/api/forms/"+step.form+"/submissions", step.body)
		got := ""
		if len(a.Errors) > 0 {
			got = a.Errors[0].Pointer
		}
		if a.code != step.status || got != step.pointer {
			t.Errorf("%s: %d %s, want %d %s", step.name, a.code, a.body, step.status, step.pointer)
		}
		if step.name == "new" {
			if got, _ := a.fields["answers"].(fields); !maps.Equal(got, answers) || a.fields["form"] != "crops" {
				t.Errorf("stored as %s", a.body)
			}
		}
	}
	if counts, err := s.Counts(t.Context()); err != nil || counts["submission"] != 2 {
		t.Errorf("%d submissions, want 2 (%v)", counts["submission"], err)
	}
}

func token(t testing.TB, s *store.Store, more registry.Token) (secret string, made registry.Token) {
	t.Helper()
	more.Name, more.CreatedAt = "test", time.Now().Add(-time.Hour)
	if more.ExpiresAt.IsZero() {
		more.ExpiresAt = more.CreatedAt.AddDate(1, 0, 0)
	}
	secret, made, err := s.AddToken(t.Context(), more)
	if err != nil {
		t.Fatal(err)
	}
	return secret, made
}

func testTokens(t *testing.T, s *store.Store) {
	var sees registry.Actor
	c := &client{t: t, Handler: New(s, Options{Trouble: func(err error) { t.Errorf("trouble: %v", err) }, More: []web.Route{{
		Method: "GET", Pattern: "/api/mine", Scopes: []registry.Scope{registry.Admin},
		Handle: func(_ http.ResponseWriter, _ *http.Request, who registry.Actor) (int, any, error) {
			sees = who
			return http.StatusNoContent, nil, nil
		},
	}}})}
	tablet, made := token(t, s, registry.Token{Scope: registry.Enumerator, Device: "tablet-7"})
	erp, _ := token(t, s, registry.Token{Scope: registry.Integration})
	admin, _ := token(t, s, registry.Token{Scope: registry.Admin, Areas: []string{"Rarotonga"}})
	old, _ := token(t, s, registry.Token{Scope: registry.Admin, ExpiresAt: time.Now().Add(-time.Second)})
	gone, revoked := token(t, s, registry.Token{Scope: registry.Admin})
	if err := s.RevokeToken(t.Context(), time.Now(), revoked.ID); err != nil {
		t.Fatal(err)
	}
	f := all()[0]
	requests := []struct {
		method, target string
		body           any
	}{
		{"GET", "/api/farmer/lookup?uid=" + f.UID, nil},
		{"POST", "/api/farmer", mere},
		{"GET", "/api/farmer/" + f.UID, nil},
		{"PATCH", "/api/farmer/" + f.UID, fields{"note": "x"}},
		{"GET", "/api/forms", nil},
		{"POST", "/api/forms/crops/submissions", fields{"farmer": f.UID, "form_version": 1, "answers": fields{"crop": "taro"}}},
	}
	for name, auth := range map[string]string{
		"": "none", "Bearer": "none", "Basic dGVzdDp0ZXN0": "none", tablet: "none", "Bearer " + tablet + "x": "no such", "Bearer dfr_": "no such", "Bearer  " + tablet: "no such",
		"Bearer ' OR ''='": "no such", "Bearer " + old: "expired", "Bearer " + gone: "revoked",
	} {
		for _, r := range requests {
			a := c.ask(r.method, r.target, r.body, "Authorization", name)
			challenge := a.header.Get("WWW-Authenticate")
			if a.code != 401 || !strings.HasPrefix(challenge, "Bearer realm=") || (auth == "none") == strings.Contains(challenge, "invalid_token") || auth != "none" && !strings.Contains(a.Detail, auth) {
				t.Errorf("%s %s with %q: %d %s, %s", r.method, r.target, name, a.code, a.body, challenge)
			}
		}
	}
	counts, err := s.Counts(t.Context())
	if h, err2 := s.History(t.Context(), "farmer", f.UID); err != nil || err2 != nil || counts["farmer"] != seeded || counts["submission"] != 0 || len(h) != 0 {
		t.Errorf("stored without a token: %v %v", counts, h)
	}
	for _, target := range []string{"/web/health", "/api/openapi.json"} {
		if a := c.get(target); a.code != 200 {
			t.Errorf("%s: %d", target, a.code)
		}
	}
	for _, secret := range []string{tablet, erp, admin} {
		if a := c.as(secret).get("/api/forms"); a.code != 200 {
			t.Errorf("a sound token: %d %s", a.code, a.body)
		}
	}
	if a := c.ask("GET", "/api/forms", nil, "Authorization", "bearer "+erp); a.code != 200 {
		t.Errorf("the scheme in lower case: %d", a.code)
	}

	ask := func(secret string) int { // the document of the suite does not have this route
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, "/api/mine", nil)
		r.Header.Set("Authorization", "Bearer "+secret)
		c.ServeHTTP(w, r)
		return w.Code
	}
	if a, b := ask(tablet), ask(erp); a != 403 || b != 403 || sees.Name != "" {
		t.Errorf("a scope too small: %d, %d", a, b)
	}
	if a := ask(admin); a != 204 || sees.Name != "token:test" || sees.Device != "" || !slices.Equal(sees.Areas, []string{"Rarotonga"}) {
		t.Errorf("an admin: %d as %+v", a, sees)
	}

	if a := c.as(tablet).ask("PATCH", "/api/farmer/"+f.UID, fields{"note": "x"}, "If-Match", `"1"`); a.code != 200 {
		t.Errorf("%d %s", a.code, a.body)
	}
	if h, err := s.History(t.Context(), "farmer", f.UID); err != nil || len(h) != 1 || h[0].Actor != "device:tablet-7" {
		t.Errorf("%+v %v", h, err)
	}
	if now, err := s.Token(t.Context(), tablet); err != nil || time.Since(now.UsedAt) > time.Hour/2 {
		t.Errorf("last used %v (%v)", now.UsedAt, err)
	}
	if err := s.RevokeToken(t.Context(), time.Now(), made.ID); err != nil {
		t.Fatal(err)
	}
	if a := c.as(tablet).get("/api/forms"); a.code != 401 {
		t.Errorf("a token just revoked: %d", a.code)
	}

	slow := &client{t: t, Handler: New(s, Options{Rate: 1.0 / 3600})}
	for i, want := range []int{200, 429, 429} {
		a := slow.as(erp).get("/api/forms")
		if a.code != want || want == 429 && len(a.header.Get("Retry-After")) != 4 {
			t.Errorf("request %d: %d, again after %s", i, a.code, a.header.Get("Retry-After"))
		}
	}
	if a := slow.as(admin).get("/api/forms"); a.code != 200 {
		t.Errorf("one token's rate is another's: %d", a.code)
	}
}

// An enumerator neither sees nor changes what is on other islands.
func testAreas(t *testing.T, s *store.Store) {
	here, there := all()[0], all()[0]
	for _, there = range all() {
		if there.Fields["island"] != here.Fields["island"] && there.Fields["national_id"] != nil {
			break
		}
	}
	secret, _ := token(t, s, registry.Token{Scope: registry.Enumerator, Device: "tablet-7", Areas: []string{here.Fields.Text("island")}})
	c := (&client{t: t, Handler: New(s, Options{Trouble: func(err error) { t.Error(err) }})}).as(secret)
	abroad := maps.Clone(mere)
	abroad["village"], abroad["island"] = there.Fields["village"], there.Fields["island"]
	for _, step := range []struct {
		method, target string
		body           any
		status         int
	}{
		{"GET", "/api/farmer/" + here.UID, nil, 200},
		{"GET", "/api/farmer/" + there.UID, nil, 404},
		{"GET", "/api/farmer/lookup?uid=" + there.UID, nil, 404},
		{"GET", "/api/farmer/lookup?national_id=" + there.Fields.Text("national_id"), nil, 404},
		{"PATCH", "/api/farmer/" + there.UID, fields{"note": "x"}, 404},
		{"POST", "/api/farmer", abroad, 422},
		{"POST", "/api/farmer", fields{"uid": there.UID, "given_name": "Mere", "family_name": "Tuatai", "birth_date": "1978-03-09", "village": here.Fields["village"], "island": here.Fields["island"]}, 422},
		{"POST", "/api/forms/crops/submissions", fields{"farmer": there.UID, "form_version": 1, "answers": fields{"crop": "taro"}}, 422},
		{"POST", "/api/forms/crops/submissions", fields{"farmer": here.UID, "form_version": 1, "answers": fields{"crop": "taro"}}, 201},
	} {
		if a := c.ask(step.method, step.target, step.body, "If-Match", `"1"`); a.code != step.status {
			t.Errorf("%s %s: %d %s, want %d", step.method, step.target, a.code, a.body, step.status)
		}
	}
	for _, f := range c.get("/api/farmer/lookup?name=ma").Farmers {
		if f["island"] != here.Fields["island"] {
			t.Errorf("found on %v", f["island"])
		}
	}
	if h, err := s.History(t.Context(), "farmer", there.UID); err != nil || len(h) != 0 {
		t.Errorf("%+v %v", h, err)
	}
}

var hostile = []string{
	"'; DROP TABLE farmer; --", `" OR ""="`, "x' UNION SELECT name FROM sqlite_master --", "$1; SELECT pg_sleep(60)", "<script>alert(1)</script>",
	"<img src=x onerror=alert(1)>", "%27%3B", "../../etc/passwd", "{{7*7}} ${7*7}", "\u202e\u200b", `\u0000 \x00 \\`, "?, ?, ?",
}

// Whatever a field is given, it is refused by name or kept as the same text: it is never run and never leaves as markup.
func testHostile(t *testing.T, s *store.Store) {
	c := open(t, s)
	f := all()[5]
	patch, post, submit := "/api/farmer/"+f.UID, "/api/farmer", "/api/forms/crops/submissions"
	one := func(name string, value any) fields { return with(fields{"uid": nil, "national_id": nil, name: value}) }
	version, stored := 1, 0
	for _, field := range registry.EntityNamed("farmer").Fields {
		refused := func(method, target string, body fields, value any) {
			t.Helper()
			a := c.ask(method, target, body, "If-Match", fmt.Sprintf("%q", fmt.Sprint(version)))
			if a.code != 422 || len(a.Errors) != 1 || a.Errors[0].Pointer != "/"+field.Name || bytes.ContainsAny(a.body, "<>") {
				t.Errorf("%s %s = %.40q: %d %s", method, field.Name, fmt.Sprint(value), a.code, a.body)
			}
		}
		for _, value := range hostile {
			if field.Kind != registry.Text {
				refused("POST", post, one(field.Name, value), value)
				refused("PATCH", patch, fields{field.Name: value}, value)
				continue
			}
			a := c.ask("POST", post, one(field.Name, value))
			b := c.ask("PATCH", patch, fields{field.Name: value}, "If-Match", fmt.Sprintf("%q", fmt.Sprint(version)))
			again := c.get(a.header.Get("Location"))
			if a.code != 201 || b.code != 200 || a.fields[field.Name] != value || b.fields[field.Name] != value || again.fields[field.Name] != value || bytes.ContainsAny(again.body, "<>") {
				t.Errorf("%s = %q: %d %s, %d %s", field.Name, value, a.code, a.body, b.code, b.body)
			}
			version++
			stored++
		}
		for _, value := range []any{"\x00", "a\u0007", "\ufffd", strings.Repeat("A", 5000), 1, 1.5, true, []string{"a"}, fields{"$gt": ""}} {
			refused("POST", post, one(field.Name, value), value)
			refused("PATCH", patch, fields{field.Name: value}, value)
		}
	}
	for _, value := range hostile {
		for _, body := range []fields{{"uid": value}, {value: "x"}} {
			if a := c.ask("POST", post, body); a.code != 422 || bytes.ContainsAny(a.body, "<>") {
				t.Errorf("%v: %d %s", body, a.code, a.body)
			}
			body["farmer"], body["form_version"], body["answers"] = f.UID, 1, fields{"crop": "taro"}
			if a := c.ask("POST", submit, body); a.code != 422 || bytes.ContainsAny(a.body, "<>") {
				t.Errorf("%v: %d %s", body, a.code, a.body)
			}
		}
		a := c.ask("POST", submit, fields{"farmer": f.UID, "form_version": 1, "answers": fields{"crop": value}})
		if answers, _ := a.fields["answers"].(fields); a.code != 201 || answers["crop"] != value || bytes.ContainsAny(a.body, "<>") {
			t.Errorf("the answer %q: %d %s", value, a.code, a.body)
		}
		a = c.ask("POST", submit, fields{"farmer": f.UID, "form_version": 1, "answers": fields{"crop": "taro", value: "x"}})
		if a.code != 422 || bytes.ContainsAny(a.body, "<>") {
			t.Errorf("the question %q: %d %s", value, a.code, a.body)
		}
		for _, target := range []string{
			"?" + url.Values{"name": {value}}.Encode(), "?" + url.Values{"national_id": {value}}.Encode(), "?" + url.Values{"uid": {value}}.Encode(),
			"?" + url.Values{"name": {"ma"}, "village": {value}}.Encode(), "?" + url.Values{value: {"x"}}.Encode(),
		} {
			a := c.get("/api/farmer/lookup" + target)
			if a.code >= 500 || a.code == 200 && len(a.Farmers) > 0 || bytes.ContainsAny(a.body, "<>") {
				t.Errorf("%s: %d %s", target, a.code, a.body)
			}
		}
		if a := c.get("/api/farmer/" + url.PathEscape(value)); a.code != 404 {
			t.Errorf("a farmer called %q: %d", value, a.code)
		}
		if a := c.ask("POST", "/api/forms/"+url.PathEscape(value)+"/submissions", fields{}); a.code != 404 {
			t.Errorf("a form called %q: %d", value, a.code)
		}
	}
	counts, err := s.Counts(t.Context())
	if err != nil || counts["farmer"] != seeded+stored || counts["submission"] != len(hostile) {
		t.Errorf("afterwards: %v (%v), want %d farmers", counts, err, seeded+stored)
	}
}

// What goes wrong on the server's side is told to the log, with the request's id and without what is nobody's business.
func testNothingLeaks(t *testing.T, s *store.Store) {
	var log bytes.Buffer
	c := &client{t: t, Handler: New(s, Options{Trouble: func(err error) { fmt.Fprintln(&log, err) }})}
	secret, _ := token(t, s, registry.Token{Scope: registry.Integration})
	f := all()[0]
	private := []string{secret, secret[4:], f.UID, mere["national_id"].(string), "Tuatai", "two goats", mere["uid"].(string), "quarrel"}
	var answers []answer
	round := func(c *client) {
		answers = append(answers,
			c.get("/api/farmer/lookup?name=Tuatai"), c.get("/api/farmer/"+f.UID), c.get("/api/forms"), c.ask("POST", "/api/farmer", mere),
			c.ask("PATCH", "/api/farmer/"+f.UID, fields{"note": "quarrel"}, "If-Match", `"1"`),
			c.ask("POST", "/api/forms/crops/submissions", fields{"farmer": f.UID, "form_version": 1, "answers": fields{"crop": "quarrel"}}))
	}
	round(c.as(secret))
	if log.Len() > 0 {
		t.Errorf("no trouble, and yet: %s", log.String())
	}
	answers = nil
	round(c.as("dfr_" + strings.Repeat("a", 43)))
	if log.Len() > 0 {
		t.Errorf("what clients do wrong is logged: %s", log.String())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	answers = nil
	round(c.as(secret))
	for _, a := range answers {
		if a.code != 500 || !strings.Contains(log.String(), "request "+a.RequestID+" (") {
			t.Errorf("%d %s, in the log:\n%s", a.code, a.body, log.String())
		}
		for _, word := range append(private, "sql:", "closed") {
			if bytes.Contains(a.body, []byte(word)) {
				t.Errorf("%q is in the answer %s", word, a.body)
			}
		}
	}
	if !strings.Contains(log.String(), "PATCH /api/farmer/{uid}") || !strings.Contains(log.String(), "closed") {
		t.Errorf("the log does not say what went wrong:\n%s", log.String())
	}
	for _, word := range private {
		if strings.Contains(log.String(), word) {
			t.Errorf("%q is in the log:\n%s", word, log.String())
		}
	}
	if a := c.get("/web/health"); a.code != 500 || a.Status != "fail" {
		t.Errorf("health: %d %s", a.code, a.body)
	}
}

// Of several who edit the same version at once, or register the same number, one succeeds.
func testAtOnce(t *testing.T, s *store.Store) {
	c := open(t, s)
	f := all()[7]
	const clients = 6
	var edits, numbers [clients]int
	var done sync.WaitGroup
	for i := range clients {
		done.Go(func() {
			edits[i] = c.ask("PATCH", "/api/farmer/"+f.UID, fields{"note": fmt.Sprint("note ", i), "phone": fmt.Sprint("+682551", 10+i)}, "If-Match", `"1"`).code
			numbers[i] = c.ask("POST", "/api/farmer", with(fields{"uid": nil})).code
		})
	}
	done.Wait()
	for name, codes := range map[string][clients]int{"edits": edits, "registrations": numbers} {
		good := 0
		for _, code := range codes {
			switch code {
			case 200, 201:
				good++
			case 409:
			default:
				t.Errorf("%s: %d", name, code)
			}
		}
		if good != 1 {
			t.Errorf("%s: %v", name, codes)
		}
	}
	if a := c.get("/api/farmer/" + f.UID); a.header.Get("ETag") != `"2"` {
		t.Errorf("the version is %s", a.header.Get("ETag"))
	}
	if counts, err := s.Counts(t.Context()); err != nil || counts["farmer"] != seeded+1 {
		t.Errorf("%d farmers (%v)", counts["farmer"], err)
	}
}

// endless is a body that must not be read to its end.
type endless struct{ read atomic.Int64 }

func (e *endless) Read(p []byte) (int, error) {
	e.read.Add(int64(len(p)))
	for i := range p {
		p[i] = '['
	}
	return len(p), nil
}

func TestHugeBodyIsRefusedEarly(t *testing.T) {
	s := onSQLite(t, 1)
	for name, want := range map[string]int{"open": 413, "without a token": 401} {
		for _, target := range []string{"POST /api/farmer", "PATCH /api/farmer/" + registry.NewUID(), "POST /api/forms/crops/submissions"} {
			for _, length := range []int64{100 << 20, -1} {
				body := &endless{}
				method, path, _ := strings.Cut(target, " ")
				r := httptest.NewRequest(method, path, body)
				r.ContentLength = length
				r.Header.Set("Content-Type", "application/json")
				r.Header.Set("If-Match", `"1"`)
				c := &client{t: t, Handler: New(s, Options{Open: name == "open"})}
				a := c.send(r, nil)
				most := int64(0)
				if length < 0 && want == 413 { // chunked: the size shows only as it comes
					most = 2 * web.MaxBody
				}
				if a.code != want || body.read.Load() > most {
					t.Errorf("%s: %s, length %d: %d after reading %d bytes, want %d after at most %d", name, target, length, a.code, body.read.Load(), want, most)
				}
			}
		}
	}
}

// A database that stands still or is not there makes requests end in time, with a word when to come again; and when it is
// back, so is the API.
func TestDatabaseInTrouble(t *testing.T) {
	pg := servers.Postgres(t, "fsync=off")
	bouncer := servers.PgBouncer(t, pg, "default_pool_size=4", "server_login_retry=1")
	for name, url := range map[string]func(string) string{"direct": pg.URL, "pgbouncer": bouncer.URL} {
		t.Run(name, func(t *testing.T) {
			s := onPostgres(t, url(database(t, pg, 5)))
			secret, _ := token(t, s, registry.Token{Scope: registry.Admin})
			var heard atomic.Int64
			newClient := func(o Options) *client {
				o.Trouble = func(error) { heard.Add(1) }
				return (&client{t: t, Handler: New(s, o)}).as(secret)
			}
			quick, patient, open := newClient(Options{Timeout: 100 * time.Millisecond}), newClient(Options{}), newClient(Options{Open: true, Timeout: 100 * time.Millisecond})
			ask := func(c *client) []answer {
				return []answer{c.get("/api/farmer/" + all()[0].UID), c.get("/api/farmer/lookup?name=tua"), c.ask("POST", "/api/farmer", mere)}
			}
			pg.Freeze()
			for _, a := range append(ask(quick), ask(open)...) {
				if a.code != 503 || !strings.Contains(a.Detail, "too long") {
					t.Errorf("frozen: %d %s", a.code, a.body)
				}
			}
			pg.Thaw()
			if heard.Load() < 6 {
				t.Errorf("%d were told", heard.Load())
			}
			again := func(what string) {
				t.Helper()
				for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
					a := patient.get("/api/farmer/" + all()[0].UID)
					if a.code == 200 {
						return
					}
					if a.code != 503 || time.Now().After(end) {
						t.Fatalf("%s: %d %s", what, a.code, a.body)
					}
				}
			}
			again("thawed")
			pg.Stop()
			for _, a := range ask(newClient(Options{Open: true, Timeout: 5 * time.Second})) {
				if a.code != 503 {
					t.Errorf("stopped: %d %s", a.code, a.body)
				}
			}
			pg.Start()
			again("started")
			if a := patient.ask("POST", "/api/farmer", mere); a.code != 201 && a.code != 200 { // the frozen one may have come to it
				t.Errorf("%d %s", a.code, a.body)
			}
		})
	}
}

// A request whose time is over is answered so, whatever the endpoint made of it; the log hears of it.
func TestTimeout(t *testing.T) {
	heard := ""
	var left time.Duration
	more := func(wait bool) []web.Route {
		return []web.Route{{
			Method: "GET", Pattern: "/api/wait",
			Handle: func(_ http.ResponseWriter, r *http.Request, _ registry.Actor) (int, any, error) {
				if until, ok := r.Context().Deadline(); ok {
					left = time.Until(until)
				}
				if wait {
					<-r.Context().Done()
				}
				return 0, nil, errors.New("interrupted")
			},
		}}
	}
	New(nil, Options{More: more(false)}).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/api/wait", nil))
	if left <= 0 || left > 30*time.Second {
		t.Errorf("a request has %v", left)
	}
	h := New(nil, Options{Timeout: time.Millisecond, Trouble: func(err error) { heard = err.Error() }, More: more(true)})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/wait", nil))
	if left > time.Millisecond || w.Code != 503 || w.Header().Get("Retry-After") != "5" || !strings.Contains(w.Body.String(), "too long") || !strings.Contains(heard, "interrupted") {
		t.Errorf("%d %s, told %q", w.Code, w.Body, heard)
	}
}

// A client that leaves is no trouble of the server's.
func TestAClientThatLeaves(t *testing.T) {
	arrived, heard := make(chan bool), make(chan error, 1)
	h := New(nil, Options{Trouble: func(err error) { heard <- err }, More: []web.Route{{
		Method: "GET", Pattern: "/api/wait",
		Handle: func(_ http.ResponseWriter, r *http.Request, _ registry.Actor) (int, any, error) {
			close(arrived)
			<-r.Context().Done()
			return 0, nil, errors.New("the driver's own words")
		},
	}}})
	server := httptest.NewServer(h)
	ctx, leave := context.WithCancel(t.Context())
	go func() { <-arrived; leave() }()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/api/wait", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := server.Client().Do(r); err == nil {
		resp.Body.Close()
		t.Error("it was answered")
	}
	server.Close() // returns when the request is done with
	select {
	case err := <-heard:
		t.Error(err)
	default:
	}
}

func TestAllowance(t *testing.T) {
	now := time.Date(2026, time.November, 24, 9, 0, 0, 0, time.UTC)
	a := allowances{rate: 10, known: map[int64]*allowance{}}
	took := func(n int) (granted int, wait time.Duration) {
		for range n {
			w, _ := a.take(1, now)
			if w == 0 {
				granted++
			}
			wait = w
		}
		return granted, wait
	}
	if n, wait := took(50); n != 20 || wait != 100*time.Millisecond {
		t.Errorf("at once: %d, again after %v", n, wait)
	}
	now = now.Add(time.Second)
	if n, _ := took(50); n != 10 {
		t.Errorf("a second later: %d", n)
	}
	now = now.Add(time.Hour)
	if n, _ := took(50); n != 20 {
		t.Errorf("an hour later: %d", n)
	}
	if wait, note := a.take(2, now); wait != 0 || !note {
		t.Errorf("another token: %v %v", wait, note)
	}
	for after, want := range map[time.Duration]bool{0: false, noteEvery - 1: false} {
		if _, note := a.take(2, now.Add(after)); note != want {
			t.Errorf("after %v: note %v", after, note)
		}
	}
	if _, note := a.take(2, now.Add(noteEvery)); !note {
		t.Error("its use is noted once")
	}
	free := allowances{known: map[int64]*allowance{}}
	for range 1000 {
		if wait, _ := free.take(1, now); wait != 0 {
			t.Fatal("no limit limits")
		}
	}
}

func TestBurden(t *testing.T) {
	const cpu, think = 30 * time.Millisecond, 20 * time.Millisecond
	c := &client{t: t, Handler: New(onSQLite(t, 1), Options{Open: true, Burden: Burden{CPU: cpu, Think: think}})}
	start := time.Now()
	c.get("/api/farmer/lookup?name=nobody")
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

// fuzzed asks a registry whatever it is told to: the answer is JSON and never the server's fault.
func fuzzed(t *testing.T, h http.Handler, r *http.Request) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code >= 500 || w.Code != 304 && !json.Valid(w.Body.Bytes()) {
		t.Errorf("%s %s: %d %s", r.Method, r.URL, w.Code, w.Body)
	}
}

func FuzzLookup(f *testing.F) {
	for _, q := range []string{"", "uid=1", "name=tua&village=muri", "name=%00%FF", "a=b&a=c", "%%%", "name='&village=%25", "name=qqq%22", "name=%28%2a", "national_id=CK-1"} {
		f.Add(q)
	}
	h := New(onSQLite(f, seeded), Options{Open: true})
	f.Fuzz(func(t *testing.T, query string) {
		fuzzed(t, h, &http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/api/farmer/lookup", RawQuery: query}, Header: http.Header{}, Body: http.NoBody})
	})
}

func FuzzBodies(f *testing.F) {
	for _, body := range []string{"{}", `{"note":"\u0000"}`, `{"household":"0190b4a2-6c1e-4f0a-9d3e-2b7c5a1e8f00"}`, `{"farmer":"` + all()[0].UID + `","form_version":1,"answers":{"crop":"taro"}}`,
		`{"given_name":"Mere","family_name":"Tuatai","birth_date":"1978-03-09","village":"Arorangi"}`, `{"answers":{"crop":{"a":[1e999]}}}`, `[[[`, `{"phone":null}`} {
		f.Add([]byte(body), "\"1\"")
	}
	s := onSQLite(f, seeded)
	h := New(s, Options{Open: true})
	f.Fuzz(func(t *testing.T, body []byte, match string) {
		for _, target := range []string{"POST /api/farmer", "PATCH /api/farmer/" + all()[0].UID, "POST /api/forms/crops/submissions"} {
			method, path, _ := strings.Cut(target, " ")
			fuzzed(t, h, &http.Request{Method: method, URL: &url.URL{Path: path}, Header: http.Header{"Content-Type": {"application/json"}, "If-Match": {match}},
				Body: io.NopCloser(bytes.NewReader(body)), ContentLength: -1})
		}
	})
}

// BenchmarkLookup asks a registry of 100,000 farmers, by each key.
func BenchmarkLookup(b *testing.B) {
	const n = 100_000
	keys := []struct {
		name  string
		query func(registry.Record) url.Values
	}{
		{"uid", func(f registry.Record) url.Values { return url.Values{"uid": {f.UID}} }},
		{"national id", func(f registry.Record) url.Values { return url.Values{"national_id": {f.Fields.Text("national_id")}} }},
		{"name and village", func(f registry.Record) url.Values {
			return url.Values{"name": {f.Fields.Text("family_name")}, "village": {f.Fields.Text("village")}}
		}},
		{"misspelt name", func(f registry.Record) url.Values {
			return url.Values{"name": {f.Fields.Text("family_name") + "x " + f.Fields.Text("given_name")}}
		}},
	}
	var farmers []registry.Record
	for f := range seed.Farmers(1, 2000) {
		if f.Fields["national_id"] != nil {
			farmers = append(farmers, f)
		}
	}
	on := func(b *testing.B, s *store.Store) {
		h := New(s, Options{Rate: 1e6, Trouble: func(err error) { b.Error(err) }})
		secret, _ := token(b, s, registry.Token{Scope: registry.Integration})
		for _, key := range keys {
			b.Run(key.name, func(b *testing.B) {
				var took []time.Duration
				for i := 0; b.Loop(); i++ {
					r := httptest.NewRequest(http.MethodGet, "/api/farmer/lookup?"+key.query(farmers[i%len(farmers)]).Encode(), nil)
					r.Header.Set("Authorization", "Bearer "+secret)
					start := time.Now()
					h.ServeHTTP(discard{http.Header{}}, r)
					took = append(took, time.Since(start))
				}
				slices.Sort(took)
				b.ReportMetric(took[len(took)*95/100].Seconds()*1000, "p95-ms")
			})
		}
	}
	b.Run("sqlite", func(b *testing.B) { on(b, onSQLite(b, n)) })
	b.Run("postgres", func(b *testing.B) {
		pg := servers.Postgres(b, "fsync=off")
		on(b, onPostgres(b, servers.PgBouncer(b, pg).URL(database(b, pg, n))))
	})
}
