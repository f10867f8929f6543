package app

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"tidemark/internal/control"
	"tidemark/internal/show/web"
)

// Other numbers are tried on what the journal has, and nothing is changed by it.
func TestWhatIf(t *testing.T) {
	w, base, _ := newPages(t)
	w.eventually("some looks", func(st *control.Status) bool {
		return st.Size.Known
	})
	get := func(query string) (web.WhatIf, answer) {
		t.Helper()
		a := ask(t, http.MethodGet, base+"/api/v1/fleets/f/what-if?"+query, nil)
		var out web.WhatIf
		if a.code == http.StatusOK {
			if err := json.Unmarshal([]byte(a.body), &out); err != nil {
				t.Fatal(err)
			}
		}
		return out, a
	}
	asWritten, a := get("")
	if a.code != http.StatusOK || len(asWritten.Settings) == 0 || asWritten.Replay == nil || asWritten.Replay.Ticks == 0 {
		t.Fatalf("%d %s", a.code, a.body)
	}
	var threshold web.Setting
	for _, s := range asWritten.Settings {
		if strings.HasSuffix(s.Path, ".threshold") {
			threshold = s
			break
		}
	}
	if threshold.Path == "" || threshold.Line == 0 || threshold.Written == "" {
		t.Fatalf("no threshold among %+v", asWritten.Settings)
	}
	before := file(t, w.path)
	other, a := get(url.Values{"set": {threshold.Path + "=80"}}.Encode())
	found := false
	for _, s := range other.Settings {
		found = found || s.Path == threshold.Path && s.Tried == "80" && s.Written == threshold.Written
	}
	if a.code != http.StatusOK || !found {
		t.Errorf("%d %s", a.code, a.body)
	}
	if file(t, w.path) != before {
		t.Error("asking changed the file")
	}
	for query, want := range map[string]string{
		url.Values{"set": {threshold.Path + "=many"}}.Encode(): threshold.Path,
		url.Values{"set": {"fleets.0.target=1"}}.Encode():      "is no number in the policy of f",
		url.Values{"set": {"threshold"}}.Encode():              "write PATH=VALUE",
		"days=31": "days",
		url.Values{"set": {threshold.Path + "=1"}}.Encode(): "both rules hold at once",
	} {
		if _, a := get(query); a.code < 400 || a.code >= 500 || !strings.Contains(a.body, want) {
			t.Errorf("%s: %d %s", query, a.code, a.body)
		}
	}
	page := ask(t, http.MethodGet, base+"/fleets/f/what-if?"+url.Values{"set:" + threshold.Path: {"many"}}.Encode(), nil)
	if page.code != http.StatusOK || !strings.Contains(page.body, `value="many"`) || !strings.Contains(page.body, "notice warning") {
		t.Errorf("a wrong number: %d %s", page.code, page.body)
	}
	if a := ask(t, http.MethodGet, base+"/fleets/nobody/what-if", nil); a.code != http.StatusNotFound {
		t.Errorf("nobody: %d", a.code)
	}
}

func file(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
