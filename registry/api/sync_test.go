package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"tidemark/registry"
	"tidemark/registry/coding"
	"tidemark/registry/seed"
	"tidemark/registry/store"
	mobile "tidemark/registry/sync"
	"tidemark/registry/sync/device"
)

const syncPath = "/api/mobile/sync"

// change is one of a batch, a creation of a farmer unless more says otherwise; nil leaves a member out.
func change(op string, more fields) fields {
	c := fields{"op_id": op, "entity": "farmer", "op": "create", "client_uuid": registry.NewUID(), "client_time": "2026-11-23T09:00:00+13:00",
		"fields": fields{"given_name": "Mere", "family_name": "Tuatai", "birth_date": "1978-03-09", "village": "Arorangi"}}
	for name, value := range more {
		if c[name] = value; value == nil {
			delete(c, name)
		}
	}
	return c
}

func batch(deviceID string, changes ...fields) fields {
	return fields{"protocol": 1, "schema_version": 1, "device_id": deviceID, "batch_id": "b1", "changes": append([]fields{}, changes...)}
}

func (a answer) outcomes() (all []string) {
	results, _ := a.fields["results"].([]any)
	for _, r := range results {
		r := r.(fields)
		line := fmt.Sprint(r["op_id"], " ", r["outcome"])
		if v, ok := r["version"]; ok {
			line += fmt.Sprint(" v", v)
		}
		if r["replayed"] == true {
			line += " replayed"
		}
		all = append(all, line)
	}
	return all
}

// uids lists the records that came, but for those that every test's registry is seeded with.
func uids(list any) (own []string) {
	for _, r := range list.([]any) {
		uid := fmt.Sprint(r.(fields)["uid"])
		if !slices.ContainsFunc(all(), func(f registry.Record) bool { return f.UID == uid }) {
			own = append(own, uid)
		}
	}
	slices.Sort(own)
	return own
}

func testSync(t *testing.T, s *store.Store) {
	c := &client{t: t, Handler: New(s, Options{Trouble: func(err error) { t.Errorf("trouble: %v", err) }, More: mobile.Routes(s)})}
	as := func(device string, areas ...string) *client {
		secret, _ := token(t, s, registry.Token{Scope: registry.Enumerator, Device: device, Areas: areas})
		return c.as(secret)
	}
	one, two, atiu := as("one"), as("two", "Rarotonga", "Aitutaki"), as("three", "Atiu")
	if a := one.get(syncPath); a.code != 200 || len(a.fields["changes"].([]any)) != seeded || a.fields["has_more"] != false {
		t.Fatalf("%d %s", a.code, a.body)
	}

	farmer, plot, answers := registry.NewUID(), registry.NewUID(), registry.NewUID()
	children := []fields{
		change("submission", fields{"entity": "submission", "client_uuid": answers, "fields": fields{"farmer": farmer, "form": "crops", "form_version": 2, "answers": fields{"crop": "taro"}}}),
		change("plot", fields{"entity": "plot", "client_uuid": strings.ToUpper(plot), "fields": fields{"farmer": farmer, "size_ha": 0.5}}),
		change("farmer", fields{"client_uuid": farmer}),
		change("orphan", fields{"entity": "plot", "fields": fields{"farmer": registry.NewUID()}}),
		change("paris", fields{"fields": fields{"given_name": 5, "village": "Paris"}}),
	}
	want := []string{"submission created v1", "plot created v1", "farmer created v1", "orphan rejected", "paris rejected"}
	first := one.ask("POST", syncPath, batch("one", children...))
	if first.code != 200 || !slices.Equal(first.outcomes(), want) || first.fields["batch_id"] != "b1" {
		t.Fatalf("%d %s", first.code, first.body)
	}
	all := []string{farmer, plot, answers}
	slices.Sort(all)
	if got := uids(first.fields["changes"]); !slices.Equal(got, all) || first.fields["has_more"] != false {
		t.Errorf("the answer brings %v, want %v", got, all)
	}
	for i := range want {
		want[i] += " replayed"
	}
	if a := one.ask("POST", syncPath, batch("one", children...)); a.code != 200 || !slices.Equal(a.outcomes(), want) {
		t.Errorf("again: %d %s", a.code, a.body)
	}
	// The same ids from another device are other changes, of the same records.
	if a := two.ask("POST", syncPath, batch("two", children[2])); !slices.Equal(a.outcomes(), []string{"farmer merged v1"}) {
		t.Errorf("from another device: %d %s", a.code, a.body)
	}

	// A cursor goes on where it was, is nobody else's, and ends with the islands that it was for.
	cursor := first.fields["next_cursor"].(string)
	if a := one.get(syncPath + "?cursor=" + cursor); a.code != 200 || len(a.fields["changes"].([]any)) != 0 || a.fields["next_cursor"] != cursor {
		t.Errorf("%d %s", a.code, a.body)
	}
	beyond := as("one").ask("POST", syncPath, batch("one")).fields["next_cursor"].(string)
	if beyond != cursor {
		t.Errorf("another token of the device with the same islands: %s, not %s", beyond, cursor)
	}
	refused := func(who *client, cursor string) {
		t.Helper()
		b := batch("one", change("x", nil))
		if who == two {
			b = batch("two", change("x", nil))
		}
		b["cursor"] = cursor
		for _, a := range []answer{who.get(syncPath + "?cursor=" + cursor), who.ask("POST", syncPath, b)} {
			if a.code != 400 || a.Type != "urn:registry:problem:cursor" {
				t.Errorf("the cursor %q: %d %s", cursor, a.code, a.body)
			}
		}
	}
	refused(two, cursor)
	refused(as("one", "Rarotonga"), cursor)
	for _, wrong := range []string{"1", "x%00y", cursor + "A", cursor[:10], strings.Repeat("A", 5000), "AQAAAAAAAAAAAAAAAAAAAAA"} {
		refused(one, wrong)
	}

	// An edit that crosses another's: the field that both have edited waits for a person, and both devices learn of all else.
	edit := func(op string, base int, f fields) fields {
		return change(op, fields{"op": "update", "client_uuid": farmer, "base_version": base, "fields": f})
	}
	if a := one.ask("POST", syncPath, batch("one", edit("e1", 1, fields{"given_name": "Ana"}))); !slices.Equal(a.outcomes(), []string{"e1 updated v2"}) {
		t.Errorf("%d %s", a.code, a.body)
	}
	crossing := two.ask("POST", syncPath, batch("two", edit("e1", 1, fields{"given_name": "Eva", "phone": "+68255123"})))
	if !slices.Equal(crossing.outcomes(), []string{"e1 conflict v3"}) {
		t.Errorf("%d %s", crossing.code, crossing.body)
	}
	result := crossing.fields["results"].([]any)[0].(fields)
	if fmt.Sprint(result["conflict"]) != "[given_name]" || result["review_id"] == nil || result["uid"] != farmer {
		t.Errorf("%v", result)
	}

	// Between two of a device's islands a record stays; from all others it goes. Its children go with it.
	if a := one.ask("POST", syncPath, batch("one", edit("e2", 3, fields{"village": "Vaipae", "island": "Aitutaki"}))); !slices.Equal(a.outcomes(), []string{"e2 updated v4"}) {
		t.Errorf("%d %s", a.code, a.body)
	}
	if a := two.get(syncPath); !slices.Equal(uids(a.fields["changes"]), all) || len(a.fields["tombstones"].([]any)) != 0 {
		t.Errorf("moved within: %s", a.body)
	}
	begin := atiu.get(syncPath).fields["next_cursor"].(string)
	if a := one.ask("POST", syncPath, batch("one", edit("e3", 4, fields{"village": "Areora", "island": "Atiu"}))); !slices.Equal(a.outcomes(), []string{"e3 updated v5"}) {
		t.Errorf("%d %s", a.code, a.body)
	}
	if a := two.get(syncPath); !slices.Equal(uids(a.fields["tombstones"]), all) || len(uids(a.fields["changes"])) != 0 {
		t.Errorf("moved away: %s", a.body)
	}
	a := atiu.get(syncPath + "?cursor=" + begin)
	if !slices.Equal(uids(a.fields["changes"]), all) {
		t.Errorf("moved here: %s", a.body)
	}
	// Deletions, children first whatever their order: a plot whose farmer is deleted first would be a question.
	gone := one.ask("POST", syncPath, batch("one",
		change("d1", fields{"op": "delete", "client_uuid": farmer, "base_version": 5, "fields": nil}),
		change("d2", fields{"op": "delete", "entity": "plot", "client_uuid": plot, "base_version": 1, "fields": nil}),
		change("d3", fields{"op": "delete", "entity": "submission", "client_uuid": answers, "base_version": 1, "fields": fields{}})))
	if !slices.Equal(gone.outcomes(), []string{"d1 updated v6", "d2 updated v2", "d3 updated v2"}) {
		t.Errorf("%d %s", gone.code, gone.body)
	}
	if a := atiu.get(syncPath + "?cursor=" + a.fields["next_cursor"].(string)); !slices.Equal(uids(a.fields["tombstones"]), all) {
		t.Errorf("deleted: %s", a.body)
	}

	log, err := s.SyncLog(t.Context(), "two", 100)
	if err != nil || len(log) == 0 {
		t.Fatal(log, err)
	}
	for _, e := range log {
		if e.Device != "two" || e.Took < 0 || time.Since(e.At) > time.Hour || e.Status == 200 && e.Sent == 0 || e.Status != 200 && e.Problem == "" {
			t.Errorf("%+v", e)
		}
	}
	e := log[len(log)-1]
	if e.Op != "push" || e.Batch != "b1" || e.Protocol != 1 || e.Schema != 1 || e.Status != 200 || e.Received == 0 || e.Outcomes[registry.Merged] != 1 || e.Records < 3 || e.More {
		t.Errorf("the first entry of a device is %+v", e)
	}
}

// pages are pulled one after the other; the session is open until the last one has come.
func TestSyncPages(t *testing.T) {
	s := onSQLite(t, 1)
	d := device.New(device.Options{Client: &http.Client{Transport: direct{open(t, s)}}, URL: "http://x", ID: "one", Coding: "zstd", Batch: 200})
	d.Register(300, device.Drive{Seed: 1, Villages: seed.Villages()[:3], Form: crops})
	if err := d.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(d.Records()) != 1201 || len(d.Answered) != 0 { // with the seeded one
		t.Fatalf("%d records, answered %v", len(d.Records()), d.Answered)
	}
	c := open(t, s)
	sessions := func() int {
		b, err := s.Backlog(t.Context(), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return b.SyncSessions
	}
	seen, cursor := map[string]bool{}, ""
	for page := 1; ; page++ {
		a := c.get(syncPath + "?device_id=two&cursor=" + cursor)
		for _, uid := range uids(a.fields["changes"]) {
			if seen[uid] {
				t.Errorf("%s comes twice", uid)
			}
			seen[uid] = true
		}
		cursor = a.fields["next_cursor"].(string)
		more := a.fields["has_more"].(bool)
		if open := sessions() == 1; open != more {
			t.Errorf("after page %d (more: %v) the session is open: %v", page, more, open)
		}
		if !more {
			break
		}
	}
	if len(seen) != 1200 {
		t.Errorf("%d records came", len(seen))
	}
}

// direct is an http.RoundTripper without a network.
type direct struct{ h http.Handler }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	d.h.ServeHTTP(w, r)
	return w.Result(), nil
}

// sends pushes a body of a content coding; plain is what it holds.
func (c *client) sends(name string, body io.Reader, plain []byte) answer {
	c.t.Helper()
	r := httptest.NewRequest(http.MethodPost, syncPath, body)
	r.Header.Set("Content-Type", "application/json")
	if name != "" {
		r.Header.Set("Content-Encoding", name)
	}
	return c.send(r, plain)
}

func encoded(t testing.TB, name string, text []byte) []byte {
	t.Helper()
	body, err := coding.Encode(name, text)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// blank is n bytes of space.
func blank(n int64) io.Reader { return io.LimitReader(spaces{}, n) }

type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// What cannot be read is refused whole, says why, and nothing of it is stored or logged.
func testSyncBodies(t *testing.T, s *store.Store) {
	var log bytes.Buffer
	h := New(s, Options{Trouble: func(err error) { fmt.Fprintln(&log, err) }, More: mobile.Routes(s)})
	secret, _ := token(t, s, registry.Token{Scope: registry.Enumerator, Device: "one"})
	c := &client{t: t, Handler: h, token: secret}
	good := func(more fields) string {
		b := batch("one", change("c1", fields{"fields": fields{"given_name": "Private", "family_name": "Person", "birth_date": "1978-03-09", "village": "Arorangi"}}))
		for name, value := range more {
			if b[name] = value; value == nil {
				delete(b, name)
			}
		}
		text, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	one := func(more fields) string { return good(fields{"changes": []fields{change("c1", more)}}) }
	many := func(n int, c string) string {
		return strings.Replace(good(nil), `"changes":[`, `"changes":[`+strings.Repeat(c+",", n), 1)
	}
	bomb := func(name string, n int) []byte {
		text := append([]byte(`{"changes":[`), bytes.Repeat([]byte(" "), n)...)
		return encoded(t, name, append(text, good(nil)[1:]...))
	}
	whole := []byte(good(nil))
	gz, zs := encoded(t, "gzip", whole), encoded(t, "zstd", whole)
	flipped := slices.Clone(gz)
	flipped[len(flipped)-6] ^= 1 // in the checksum
	for _, b := range []struct {
		what   string
		coding string
		body   any // string, []byte or io.Reader
		code   int
		says   string
	}{
		{"nothing", "", "", 400, "too early"},
		{"no JSON", "", "Private", 400, "not JSON: at byte"},
		{"null", "", "null", 400, "one JSON object"},
		{"an array", "", "[" + good(nil) + "]", 400, "one JSON object"},
		{"two", "", good(nil) + good(nil), 400, "one JSON object"},
		{"a comma too many", "", strings.TrimSuffix(good(nil), "}") + ",}", 400, "not JSON: at byte"},
		{"not UTF-8", "", strings.Replace(good(nil), "Private", "Private\xff", 1), 400, "not UTF-8"},
		{"deep", "", strings.Replace(good(nil), `"Private"`, strings.Repeat("[", 100)+strings.Repeat("]", 100), 1), 400, "deeper than 32"},
		{"very deep", "", strings.Repeat(`{"a":`, 500_000), 400, "deeper than 32"},
		{"cut", "", good(nil)[:len(whole)-9], 400, "too early"},
		{"cut gzip", "gzip", gz[:len(gz)-9], 400, "too early"},
		{"cut zstd", "zstd", zs[:len(zs)-9], 400, "too early"},
		{"a wrong checksum", "gzip", flipped, 400, "not what Content-Encoding says"},
		{"no gzip", "gzip", whole, 400, "not what Content-Encoding says"},
		{"no zstd", "zstd", whole, 400, "not what Content-Encoding says"},
		{"another coding", "br", whole, 415, "zstd, gzip"},
		{"two codings", "gzip, zstd", whole, 415, "zstd, gzip"},
		{"100 MB", "", blank(100 << 20), 413, "send several batches"},
		{"100 MB of gzip", "gzip", bomb("gzip", 100<<20), 413, "send several batches"},
		{"100 MB of zstd", "zstd", bomb("zstd", 100<<20), 413, "send several batches"},
		{"out of proportion", "zstd", bomb("zstd", 3<<20), 413, "send several batches"},
		{"a text without an end", "", io.MultiReader(strings.NewReader(`{"device_id":"`), blank(100<<20)), 413, "send several batches"},
		{"changes without an end", "", many(5001, "0"), 413, "send several batches"},
		{"no protocol", "", good(fields{"protocol": nil}), 422, "/protocol is required"},
		{"a protocol of text", "", good(fields{"protocol": "1"}), 422, "/protocol must be a whole number"},
		{"an old protocol", "", good(fields{"protocol": 0}), 409, "update the app"},
		{"a new protocol", "", good(fields{"protocol": 2, "device_id": 1, "changes": fields{}}), 409, "the registry must be updated"},
		{"an old schema", "", good(fields{"schema_version": 0}), 409, "update the app"},
		{"a new schema", "", good(fields{"schema_version": 99}), 409, "the registry must be updated"},
		{"a huge version", "", good(fields{"schema_version": 1e300}), 422, "/schema_version must be a whole number"},
		{"another device", "", good(fields{"device_id": "two"}), 403, "device_id must be the device"},
		{"no device", "", good(fields{"device_id": nil}), 422, "/device_id is required"},
		{"a device of spaces", "", good(fields{"device_id": "  "}), 422, "/device_id must be 1 to 60"},
		{"a batch of nothing", "", good(fields{"batch_id": ""}), 422, "/batch_id must be 1 to 60"},
		{"a cursor of numbers", "", good(fields{"cursor": 7}), 422, "/cursor must be a string"},
		{"an unknown member", "", good(fields{"<Private>": 7}), 422, "unknown member"},
		{"a member twice", "", strings.TrimSuffix(good(nil), "}") + `,"protocol":1}`, 422, "/protocol is given twice"},
		{"no changes", "", good(fields{"changes": nil}), 422, "/changes is required"},
		{"changes of null", "", strings.Replace(good(fields{"changes": nil}), "{", `{"changes":null,`, 1), 422, "/changes must be an array"},
		{"changes in an object", "", good(fields{"changes": fields{"a": []int{1}, "b": fields{}}}), 422, "/changes must be an array"},
		{"a change of text", "", good(fields{"changes": []string{"Private"}}), 422, "/changes/0 must be an object"},
		{"no op_id", "", one(fields{"op_id": nil}), 422, "/changes/0/op_id is required"},
		{"an op_id of a number", "", one(fields{"op_id": 7}), 422, "/changes/0/op_id must be"},
		{"no uid", "", one(fields{"client_uuid": "7"}), 422, "/changes/0/client_uuid must be a UUID"},
		{"no entity", "", one(fields{"entity": nil}), 422, "/changes/0/entity is required"},
		{"an unknown entity", "", one(fields{"entity": "token"}), 422, "/changes/0/entity must be one of household"},
		{"an unknown op", "", one(fields{"op": "drop"}), 422, "/changes/0/op must be create"},
		{"a negative version", "", one(fields{"op": "update", "base_version": -1}), 422, "/changes/0/base_version must be"},
		{"half a version", "", one(fields{"op": "update", "base_version": 1.5}), 422, "/changes/0/base_version must be"},
		{"a time of today", "", one(fields{"client_time": "today"}), 422, "/changes/0/client_time must be a time"},
		{"no fields", "", one(fields{"fields": nil}), 422, "/changes/0/fields must be an object"},
		{"fields in an array", "", one(fields{"fields": []int{1}}), 422, "/changes/0/fields must be an object"},
		{"a deletion with fields", "", one(fields{"op": "delete", "base_version": 1}), 422, "/changes/0/fields must be left out"},
		{"an unknown member of a change", "", one(fields{"<Private>": 1}), 422, "unknown member"},
		{"the second of two", "", many(1, `{"op":"create"}`), 422, "/changes/0/entity is required"},
	} {
		var body io.Reader
		switch given := b.body.(type) {
		case string:
			body = strings.NewReader(given)
		case []byte:
			body = bytes.NewReader(given)
		case io.Reader:
			body = given
		}
		a := c.sends(b.coding, body, nil)
		says := a.Detail
		for _, e := range a.Errors {
			says += "; " + e.Pointer + " " + e.Detail
		}
		if a.code != b.code || !strings.Contains(says, b.says) || a.Type == "" {
			t.Errorf("%s: %d %s, want %d with %q", b.what, a.code, a.body, b.code, b.says)
		}
		if bytes.Contains(a.body, []byte("Private")) || bytes.ContainsAny(a.body, "<>") {
			t.Errorf("%s: the answer repeats what was sent: %s", b.what, a.body)
		}
	}
	r := httptest.NewRequest(http.MethodPost, syncPath, bytes.NewReader(whole))
	r.Header.Set("Content-Type", "text/plain")
	if a := c.send(r, nil); a.code != 415 {
		t.Errorf("text: %d %s", a.code, a.body)
	}
	for _, query := range []string{"?device_id=two", "?device_id=", "?cursor=a&cursor=b", "?since=1", "?%", "?device_id=%00"} {
		if a := c.get(syncPath + query); a.code < 400 && query != "?device_id=" || a.code >= 500 {
			t.Errorf("%s: %d %s", query, a.code, a.body)
		}
	}
	for _, scope := range []registry.Scope{registry.Admin, registry.Integration} {
		secret, _ := token(t, s, registry.Token{Scope: scope})
		if a := c.as(secret).sends("", bytes.NewReader(whole), nil); a.code != 403 {
			t.Errorf("a token of the scope %s: %d", scope, a.code)
		}
	}
	if a := c.as("").sends("", bytes.NewReader(whole), nil); a.code != 401 {
		t.Errorf("no token: %d", a.code)
	}
	if counts, err := s.Counts(t.Context()); err != nil || counts["farmer"] != seeded {
		t.Errorf("%d farmers (%v), want %d as before", counts["farmer"], err, seeded)
	}
	if log.Len() > 0 {
		t.Errorf("what devices do wrong is logged: %s", log.String())
	}
	entries, err := s.SyncLog(t.Context(), "one", 1000)
	if err != nil || len(entries) < 60 {
		t.Errorf("the log of synchronisations has %d entries (%v)", len(entries), err)
	}
	for _, e := range entries {
		if text := fmt.Sprintf("%+v", e); strings.Contains(text, "Private") || e.Problem == "" && e.Status != 200 {
			t.Errorf("the log of synchronisations has %s", text)
		}
	}

	// And what is as it should be is taken, whatever its coding and that of the answer.
	for i, name := range []string{"", "identity", "gzip", "zstd", "GZIP"} {
		body := encoded(t, strings.ToLower(name), whole)
		if a := c.sends(name, bytes.NewReader(body), whole); a.code != 200 || (len(a.outcomes()) == 0) || strings.HasSuffix(a.outcomes()[0], "replayed") != (i > 0) {
			t.Errorf("%q: %d %s", name, a.code, a.body)
		}
	}
	for accept, want := range map[string]string{"": "", "gzip": "gzip", "gzip, zstd": "zstd", "gzip;q=1, zstd;q=0.5": "gzip", "zstd;q=0, *": "gzip", "br, identity": "", "gzip;q=x": ""} {
		r := httptest.NewRequest(http.MethodPost, syncPath, strings.NewReader(many(20, `{"op_id":"x","entity":"farmer","client_uuid":"0190b4a2-6c1e-4f0a-9d3e-2b7c5a1e8f00","op":"delete","base_version":1,"client_time":"2026-11-23T09:00:00Z"}`)))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer "+secret)
		r.Header.Set("Accept-Encoding", accept)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		plain, err := coding.NewReader(w.Header().Get("Content-Encoding"), w.Body, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		var doc fields
		if err := json.NewDecoder(plain).Decode(&doc); err != nil || w.Code != 200 || w.Header().Get("Content-Encoding") != want || len(doc["results"].([]any)) != 21 || w.Header().Get("Vary") != "Accept-Encoding" {
			t.Errorf("Accept-Encoding: %s: %d in %q, %v", accept, w.Code, w.Header().Get("Content-Encoding"), err)
		}
	}
}

// SQL and HTML in any field are kept as the same text where a field takes any text, and elsewhere that one change is
// rejected, by the field's name.
func testSyncHostile(t *testing.T, s *store.Store) {
	c := open(t, s)
	before, err := s.Counts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var farmer any
	kept := 0
	needs := map[string]fields{
		"household": {"name": "Tuatai", "village": "Arorangi"}, "farmer": change("", nil)["fields"].(fields),
		"member": {"given_name": "Ana", "family_name": "Tuatai"}, "plot": {}, "submission": {"form": "crops", "form_version": 2, "answers": fields{"crop": "taro"}},
	}
	parents := map[string]any{}
	for _, e := range registry.Entities {
		var changes []fields
		var of []registry.Field
		add := func(f registry.Field, value any) {
			with := fields{}
			for name, v := range needs[e.Name] {
				with[name] = v
			}
			if e.Parent != "" && parents[e.Field(e.Parent).Of] != nil {
				with[e.Parent] = parents[e.Field(e.Parent).Of]
			}
			if f.Name != "" {
				with[f.Name] = value
			}
			changes = append(changes, change(fmt.Sprintf("%s-%d", e.Name, len(changes)), fields{"entity": e.Name, "fields": with}))
			of = append(of, f)
		}
		add(registry.Field{}, nil)
		parents[e.Name] = changes[0]["client_uuid"]
		for _, f := range e.Fields {
			for _, value := range hostile {
				add(f, value)
			}
		}
		a := c.ask("POST", syncPath, batch("one", changes...))
		if a.code != 200 || bytes.ContainsAny(a.body, "<>") {
			t.Fatalf("%s: %d %.300s", e.Name, a.code, a.body)
		}
		for i, r := range a.fields["results"].([]any) {
			r, f := r.(fields), of[i]
			text := f.Kind == registry.Text && f.Name != "form" || f.Name == ""
			faults, _ := r["faults"].([]any)
			switch {
			case text && r["outcome"] == "created":
				got, err := s.Get(t.Context(), registry.Actor{}, e.Name, r["uid"].(string))
				if err != nil || f.Name != "" && got.Fields.Text(f.Name) != changes[i]["fields"].(fields)[f.Name] {
					t.Errorf("%s of a %s: %v %v", f.Name, e.Name, got.Fields, err)
				}
				kept++
			case !text && r["outcome"] == "rejected" && len(faults) == 1 && faults[0].(fields)["field"] == f.Name:
			default:
				t.Errorf("%s of a %s is %q: %v", f.Name, e.Name, changes[i]["fields"].(fields)[f.Name], r)
			}
		}
		farmer = parents["farmer"]
	}
	answers := func(op string, given any) fields {
		return change(op, fields{"entity": "submission", "fields": fields{"farmer": farmer, "form": "crops", "form_version": 2, "answers": given}})
	}
	var changes []fields
	for i, value := range hostile {
		changes = append(changes, answers(fmt.Sprint("a", i), fields{"crop": value}), answers(fmt.Sprint("q", i), fields{"crop": "taro", value: "x"}))
		kept++
	}
	a := c.ask("POST", syncPath, batch("one", changes...))
	for i, line := range a.outcomes() {
		if want := []string{"created v1", "rejected"}[i%2]; !strings.HasSuffix(line, want) {
			t.Errorf("%v: %s, want %s", changes[i]["fields"], line, want)
		}
	}
	after, err := s.Counts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stored := 0
	for _, e := range registry.Entities {
		stored += after[e.Name] - before[e.Name]
	}
	if stored != kept {
		t.Errorf("%d records are stored, want %d", stored, kept)
	}
	for _, value := range hostile {
		for _, b := range []fields{batch(value), batch("one", change(value, nil)), batch("one", change("x", fields{value: 1})), batch("one", change("x", fields{"entity": value})),
			batch("one", change("x", fields{"op": value})), batch("one", change("x", fields{"client_uuid": value})), batch("one", change("x", fields{"client_time": value}))} {
			if a := c.ask("POST", syncPath, b); a.code != 422 || bytes.ContainsAny(a.body, "<>") {
				t.Errorf("%v: %d %s", b, a.code, a.body)
			}
		}
	}
}
