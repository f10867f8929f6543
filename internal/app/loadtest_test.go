package app

import (
	"net/http"
	"strings"
	"testing"

	"tidemark/internal/control"
	"tidemark/internal/show/web"
)

// A load test that goes on is told on the pages; only who has the operator's socket can say so.
func TestLoadTestIsShown(t *testing.T) {
	w, base, _ := newPages(t)
	w.eventually("a first look", func(st *control.Status) bool { return st.Size.Known })
	if a := ask(t, http.MethodGet, base+"/", nil); strings.Contains(a.body, "load test") {
		t.Fatal("a load test is shown that nobody plays")
	}
	if err := w.client().TellLoadTest(t.Context(), web.LoadTest{Scenario: "peak" + attack, Line: "3m of 1h30m, crowd: 12 requests/s"}); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/", "/fleets/f"} {
		if a := ask(t, http.MethodGet, base+path, nil); !strings.Contains(a.body, "3m of 1h30m, crowd: 12 requests/s") || strings.Contains(a.body, "<script>") {
			t.Errorf("%s: %s", path, a.body)
		}
	}
	if err := w.client().TellLoadTest(t.Context(), web.LoadTest{Line: "two\nlines"}); err == nil || !strings.Contains(err.Error(), "one line of plain text") {
		t.Errorf("two lines: %v", err)
	}
	if a := ask(t, http.MethodPut, base+"/api/v1/loadtest", nil, "Sec-Fetch-Site", "same-origin"); a.code < http.StatusBadRequest {
		t.Errorf("a browser may say so: %d", a.code)
	}
}
