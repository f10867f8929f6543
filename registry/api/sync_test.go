package api

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"tidemark/registry"
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

func uids(list any) (all []string) {
	for _, r := range list.([]any) {
		all = append(all, fmt.Sprint(r.(fields)["uid"]))
	}
	slices.Sort(all)
	return all
}

func testSync(t *testing.T, s *store.Store) {
	c := &client{t: t, Handler: New(s, Options{Trouble: func(err error) { t.Errorf("trouble: %v", err) }, More: mobile.Routes(s)})}
	as := func(device string, areas ...string) *client {
		secret, _ := token(t, s, registry.Token{Scope: registry.Enumerator, Device: device, Areas: areas})
		return c.as(secret)
	}
	one, two, atiu := as("one"), as("two", "Rarotonga", "Aitutaki"), as("three", "Atiu")
	if a := one.get(syncPath); a.code != 200 || len(a.fields["changes"].([]any)) != 0 || a.fields["has_more"] != false {
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
	if a := two.get(syncPath); !slices.Equal(uids(a.fields["tombstones"]), all) || len(a.fields["changes"].([]any)) != 0 {
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
	if e.Op != "push" || e.Batch != "b1" || e.Protocol != 1 || e.Schema != 1 || e.Status != 200 || e.Received == 0 || e.Outcomes[registry.Merged] != 1 || e.Records != 3 || e.More {
		t.Errorf("the first entry of a device is %+v", e)
	}
}

// pages are pulled one after the other; the session is open until the last one has come.
func TestSyncPages(t *testing.T) {
	s := onSQLite(t, 1)
	d := device.New(device.Options{Client: &http.Client{Transport: direct{open(t, s)}}, URL: "http://x", ID: "one", Coding: "zstd"})
	d.Register(300, device.Drive{Seed: 1, Villages: seed.Villages()[:3], Form: crops})
	if err := d.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(d.Records()) != 1200 || len(d.Answered) != 0 {
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
