package app

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"tidemark/internal/control"
	"tidemark/test/servers"
)

// tokenOf is a token for tests, and the line of the accounts' file about it.
func tokenOf(name, role string) (text, entry string) {
	text = "tidemark_test_" + name
	return text, fmt.Sprintf("token %s %s sha256:%x\n", name, role, sha256.Sum256([]byte(text)))
}

const pagesFleet = `    signals:
      given: {push: {expiry: 1h}, period: 1s}
    policies:
      - id: by-hand
        rules:
          - {signal: given, operator: ">=", threshold: 70, scale_change: +1, evaluation_periods: 1, datapoints_to_alarm: 1}
          - {signal: given, operator: "<=", threshold: 30, scale_change: -1, evaluation_periods: 5, datapoints_to_alarm: 4}`

// newPages is a daemon with its dashboard, the dashboard's address, and what an operator shows there.
func newPages(t testing.TB) (w *world, base, operator string) {
	t.Helper()
	address := servers.FreeAddress(t)
	w = emptyWorld(t, 2)
	w.write("listen: "+address, pagesFleet)
	operator, entry := tokenOf("mele", "operator")
	w.put("users", entry)
	w.start()
	return w, "http://" + address, "Bearer " + operator
}

type answer struct {
	code   int
	header http.Header
	body   string
}

// ask sends a request as a browser of this machine would, unless header says otherwise.
func ask(t testing.TB, method, address string, form url.Values, header ...string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
		} else {
			r.Header.Set(header[i], header[i+1])
		}
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}

const attack = `"><script>alert('x')</script>`

// Every page is whole, small, loads only what this server has, and shows what people wrote as text.
func TestPages(t *testing.T) {
	w, base, operator := newPages(t)
	w.eventually("a first look", func(st *control.Status) bool { return st.Size.Known })
	order := url.Values{"kind": {"scale"}, "size": {"4"}, "for": {"1h"}, "note": {"because " + attack}}
	confirm := ask(t, http.MethodGet, base+"/fleets/f/order?"+order.Encode(), nil, "Authorization", operator)
	if confirm.code != http.StatusOK || !strings.Contains(confirm.body, "Do this?") {
		t.Fatalf("the order is not asked about: %d %s", confirm.code, confirm.body)
	}
	if strings.TrimSpace(w.scaled()) != "" {
		t.Fatal("asking about an order carries it out")
	}
	if a := ask(t, http.MethodPost, base+"/fleets/f/order", order, "Sec-Fetch-Site", "same-origin", "Authorization", operator); a.code != http.StatusSeeOther {
		t.Fatalf("the order: %d %s", a.code, a.body)
	}
	if a := ask(t, http.MethodPost, base+"/fleets/f/note", url.Values{"note": {"market day " + attack}}, "Sec-Fetch-Site", "same-origin", "Authorization", operator); a.code != http.StatusSeeOther {
		t.Fatalf("the note: %d %s", a.code, a.body)
	}
	if a := ask(t, http.MethodPost, base+"/fleets/nobody/note", url.Values{"note": {"x"}}, "Sec-Fetch-Site", "same-origin", "Authorization", operator); a.code != http.StatusNotFound {
		t.Errorf("a note about no fleet: %d %s", a.code, a.body)
	}
	w.eventually("four workers", func(st *control.Status) bool { return st.Size.Serving == 4 })
	loads := regexp.MustCompile(`(?:src|href|action)="([^"]*)"`)
	for _, path := range []string{
		"/", "/fleets/f", "/fleets/f?zoom=1y", "/fleets/f/policies", "/fleets/f/what-if", "/fleets/f/what-if?set:" + url.QueryEscape(attack) + "=1", "/fleets/f/decisions", "/fleets/f/order?" + order.Encode(), "/fleets/f/order?kind=scale&size=many",
		"/fleets/f/costs", "/reports", "/events", "/events?fleet=f&kind=operator", "/alerts", "/alerts/acknowledge?key=" + url.QueryEscape(attack),
	} {
		a := ask(t, http.MethodGet, base+path, nil, "Authorization", operator)
		if a.code != http.StatusOK && !strings.HasPrefix(path, "/alerts/acknowledge") {
			t.Errorf("%s: %d %s", path, a.code, a.body)
		}
		if len(a.body) > 200<<10 {
			t.Errorf("%s: %d bytes", path, len(a.body))
		}
		if strings.Contains(a.body, "<script>") || strings.Contains(a.body, "onclick") || strings.Contains(a.body, "style=") {
			t.Errorf("%s: what somebody wrote is markup, or the page has a script or a style in it:\n%s", path, a.body)
		}
		if !strings.Contains(a.header.Get("Content-Security-Policy"), "default-src 'none'") || a.header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: headers %v", path, a.header)
		}
		for _, m := range loads.FindAllStringSubmatch(a.body, -1) {
			if to := m[1]; to != "" && !strings.HasPrefix(to, "/") && !strings.HasPrefix(to, "?") && !strings.HasPrefix(to, "#") {
				t.Errorf("%s leads to %s", path, to)
			} else if strings.HasPrefix(to, "/assets/") {
				if got := ask(t, http.MethodGet, base+to, nil); got.code != http.StatusOK || !strings.Contains(got.header.Get("Cache-Control"), "immutable") {
					t.Errorf("%s: %d", to, got.code)
				}
			}
		}
	}
	if a := ask(t, http.MethodGet, base+"/fleets/f?zoom=1h", nil); !strings.Contains(a.body, "mele (token) noted: “market day &#34;&gt;&lt;script&gt;") {
		t.Errorf("the note is not on the timeline:\n%s", a.body)
	}
	if a := ask(t, http.MethodGet, base+"/fleets/f", nil); !regexp.MustCompile(`<time datetime="[^"]*Z" title="[-0-9]+ [:0-9]+ UTC, [^"]*">`).MatchString(a.body) {
		t.Error("times do not say what they are in UTC")
	}
	if a := ask(t, http.MethodGet, base+"/events", nil); !strings.Contains(a.body, "because &#34;&gt;&lt;script&gt;") {
		t.Errorf("the order's reason is not shown:\n%s", a.body)
	}
	for path, code := range map[string]int{
		"/fleets/nobody": http.StatusNotFound, "/nothing": http.StatusNotFound, "/assets/../../etc/passwd": http.StatusNotFound, "/api/v1/nothing": http.StatusNotFound, "/fleets/..%2f..%2fetc": http.StatusNotFound,
	} {
		if a := ask(t, http.MethodGet, base+path, nil); a.code != code && a.code != http.StatusTemporaryRedirect {
			t.Errorf("%s: %d, want %d: %s", path, a.code, code, a.body)
		}
	}
}

// Other sites neither read nor order through a browser of this machine, and nobody sends more than there is to send.
func TestPagesAreGuarded(t *testing.T) {
	w, base, operator := newPages(t)
	w.eventually("a first look", func(st *control.Status) bool { return st.Size.Known })
	form := url.Values{"kind": {"scale"}, "size": {"9"}, "note": {"x"}}
	body := url.Values{strings.Repeat("x", 2<<20): {"y"}}
	for name, c := range map[string]struct {
		got  answer
		want []int
	}{
		"another name that leads here": {ask(t, http.MethodGet, base+"/", nil, "Host", "evil.example"), []int{http.StatusMisdirectedRequest}},
		"the API by it":                {ask(t, http.MethodGet, base+"/api/v1/status", nil, "Host", "evil.example:80"), []int{http.StatusMisdirectedRequest}},
		"another site's form":          {ask(t, http.MethodPost, base+"/fleets/f/order", form, "Sec-Fetch-Site", "cross-site", "Authorization", operator), []int{http.StatusForbidden}},
		"an old browser's":             {ask(t, http.MethodPost, base+"/fleets/f/order", form, "Origin", "https://evil.example", "Authorization", operator), []int{http.StatusForbidden}},
		"the API's":                    {ask(t, http.MethodPost, base+"/api/v1/fleets/f/orders", form, "Origin", "https://evil.example", "Authorization", operator), []int{http.StatusForbidden}},
		"an order by GET":              {ask(t, http.MethodGet, base+"/api/v1/fleets/f/orders", nil), []int{http.StatusNotFound, http.StatusMethodNotAllowed}},
		"no reason given":              {ask(t, http.MethodPost, base+"/fleets/f/order", url.Values{"kind": {"scale"}, "size": {"9"}}, "Sec-Fetch-Site", "same-origin", "Authorization", operator), []int{http.StatusOK, http.StatusBadRequest}},
		"a body without end":           {ask(t, http.MethodPost, base+"/fleets/f/order", body, "Sec-Fetch-Site", "same-origin", "Authorization", operator), []int{http.StatusBadRequest, http.StatusRequestEntityTooLarge}},
		"a header without end":         {ask(t, http.MethodGet, base+"/", nil, "X-Long", strings.Repeat("x", 1<<16)), []int{http.StatusRequestHeaderFieldsTooLarge}},
	} {
		if !slices.Contains(c.want, c.got.code) {
			t.Errorf("%s: %d, want %v: %.300s", name, c.got.code, c.want, c.got.body)
		}
	}
	if strings.TrimSpace(w.scaled()) != "" {
		t.Errorf("the fleet was scaled to %s", w.scaled())
	}
	if a := ask(t, http.MethodGet, base+"/status.json", nil, "Host", "portal.example"); a.code != http.StatusOK || !strings.Contains(a.body, `"normal"`) {
		t.Errorf("the public status: %d %s", a.code, a.body)
	}
}

// What the description of the API says is there is there, and answers in the kind that it says.
func TestDescription(t *testing.T) {
	w, base, _ := newPages(t)
	w.eventually("a first look", func(st *control.Status) bool { return st.Size.Known })
	var doc struct {
		OpenAPI string `json:"openapi"`
		Paths   map[string]map[string]struct {
			Summary   string `json:"summary"`
			Responses map[string]struct {
				Content map[string]json.RawMessage `json:"content"`
			} `json:"responses"`
		} `json:"paths"`
	}
	if err := json.Unmarshal([]byte(ask(t, http.MethodGet, base+"/api/v1/openapi.json", nil).body), &doc); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1") || len(doc.Paths) < 15 {
		t.Fatalf("OpenAPI %s with %d paths", doc.OpenAPI, len(doc.Paths))
	}
	for path, methods := range doc.Paths {
		if _, ok := methods["get"]; !ok || strings.HasSuffix(path, "/stream") {
			continue
		}
		if strings.HasSuffix(path, "/{name}") {
			continue // none is kept
		}
		address := base + strings.NewReplacer("{fleet}", "f", "{month}", time.Now().UTC().Format("2006-01")).Replace(path)
		if strings.HasSuffix(path, "/series") {
			address += "?signal=tidemark.workers"
		}
		a := ask(t, http.MethodGet, address, nil)
		kind := strings.SplitN(a.header.Get("Content-Type"), ";", 2)[0]
		var kinds []string
		for k := range methods["get"].Responses["200"].Content {
			kinds = append(kinds, strings.SplitN(k, ";", 2)[0])
		}
		if a.code != http.StatusOK || !slices.Contains(kinds, kind) {
			t.Errorf("%s: %d, %s, described as %v: %.200s", path, a.code, kind, kinds, a.body)
		}
	}
	status := ask(t, http.MethodGet, base+"/api/v1/fleets/f/policies", nil)
	if again := ask(t, http.MethodGet, base+"/api/v1/fleets/f/policies", nil, "If-None-Match", status.header.Get("Etag")); status.header.Get("Etag") == "" || again.code != http.StatusNotModified {
		t.Errorf("ETag %q: %d", status.header.Get("Etag"), again.code)
	}
	whole, packed := ask(t, http.MethodGet, base+"/fleets/f", nil), ask(t, http.MethodGet, base+"/fleets/f", nil, "Accept-Encoding", "gzip")
	t.Logf("a page of %d bytes comes as %d", len(whole.body), len(packed.body))
	if packed.header.Get("Content-Encoding") != "gzip" || 3*len(packed.body) > len(whole.body) {
		t.Errorf("a page of %d bytes comes as %d, encoded %q", len(whole.body), len(packed.body), packed.header.Get("Content-Encoding"))
	}
	if p := ask(t, http.MethodGet, base+"/api/v1/fleets/nobody", nil); p.code != http.StatusNotFound || p.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("a fleet that is not there: %d %s %s", p.code, p.header.Get("Content-Type"), p.body)
	}
	metrics := ask(t, http.MethodGet, base+"/metrics", nil).body
	for _, want := range []string{"tidemark_fleet_workers{", "# HELP ", "# TYPE "} {
		if !strings.Contains(metrics, want) {
			t.Errorf("the metrics lack %q:\n%s", want, metrics)
		}
	}
}

// Events come as they are recorded, and a client that comes again misses none.
func TestStream(t *testing.T) {
	w, base, operator := newPages(t)
	w.eventually("a first look", func(st *control.Status) bool { return st.Size.Known })
	stream := func(last string) (*http.Response, error) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/api/v1/stream", http.NoBody)
		if err != nil {
			return nil, err
		}
		r.Header.Set("Last-Event-ID", last)
		return http.DefaultClient.Do(r)
	}
	resp, err := stream("0")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if a := ask(t, http.MethodPost, base+"/fleets/f/order", url.Values{"kind": {"scale"}, "size": {"5"}, "note": {"market day"}}, "Sec-Fetch-Site", "same-origin", "Authorization", operator); a.code != http.StatusSeeOther {
		t.Fatalf("%d %s", a.code, a.body)
	}
	var seen strings.Builder
	b := make([]byte, 4096)
	for !strings.Contains(seen.String(), "market day") {
		n, err := resp.Body.Read(b)
		seen.Write(b[:n])
		if err != nil {
			t.Fatalf("%v after %s", err, seen.String())
		}
	}
	if kind := resp.Header.Get("Content-Type"); !strings.HasPrefix(kind, "text/event-stream") || !strings.Contains(seen.String(), "\nid: ") && !strings.HasPrefix(seen.String(), "id: ") {
		t.Errorf("%s: %s", kind, seen.String())
	}
}

// The figure to see is the first page's time on loopback; the bar is 100 ms.
func BenchmarkOverview(b *testing.B) {
	w, base, _ := newPages(b)
	w.eventually("a first look", func(st *control.Status) bool { return st.Size.Known })
	for b.Loop() {
		if a := ask(b, http.MethodGet, base+"/fleets/f", nil); a.code != http.StatusOK {
			b.Fatal(a.code)
		}
	}
}
