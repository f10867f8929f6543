package site

import (
	"bytes"
	"fmt"
	"html"
	"io"
	"math"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tidemark/registry"
	"tidemark/registry/seed"
	"tidemark/registry/store"
	"tidemark/registry/store/sqlite"
)

const secretWords = "taro, breadfruit and rain"

// office is a site in front of a registry of some hundred farmers, with an account of each role.
type office struct {
	*store.Store
	url string
	log *logged
}

// logged is what the site has told its log.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) trouble(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintln(&l.text, err)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

var crops = registry.Form{ID: "crops", Version: 1, Title: "Crops <b>of</b> the year", Questions: []registry.Question{
	{Name: "crop", Label: "What grows here? <i>", Type: "text", Required: true}, {Name: "kind", Type: "choice", Choices: []string{"root", "<u>"}},
}}

// accounts are by role, but for one of a single island.
var accounts = map[string]registry.Account{
	"viewer": {Role: registry.Viewer}, "officer": {Role: registry.Officer}, "boss": {Role: registry.Administrator},
	"aitutaki": {Role: registry.Administrator, Areas: []string{"Aitutaki"}},
}

func open(t testing.TB, farmers int) *office {
	t.Helper()
	path := filepath.Join(t.TempDir(), "farmers.db")
	err := sqlite.Create(t.Context(), path, func(s *store.Store) error { return seed.Fill(t.Context(), s, seed.Farmers(1, farmers), nil) })
	if err != nil {
		t.Fatal(err)
	}
	s, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if err := s.AddForm(t.Context(), crops); err != nil {
		t.Fatal(err)
	}
	for name, a := range accounts {
		a.Name, a.CreatedAt = name, time.Now()
		if _, err := s.AddAccount(t.Context(), a, secretWords); err != nil {
			t.Fatal(err)
		}
	}
	return serve(t, s)
}

func serve(t testing.TB, s *store.Store) *office {
	t.Helper()
	o := &office{Store: s, log: &logged{}}
	server := httptest.NewServer(New(s, Options{Trouble: o.log.trouble, Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}))
	t.Cleanup(server.Close)
	o.url = server.URL
	return o
}

// visitor is somebody's browser, which follows no redirection by itself.
type visitor struct {
	t    testing.TB
	url  string
	http http.Client
	head http.Header // sent with each request
}

func (o *office) visitor(t testing.TB) *visitor {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &visitor{t: t, url: o.url, head: http.Header{"Sec-Fetch-Site": {"same-origin"}}, http: http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// as is a visitor who has signed in.
func (o *office) as(t testing.TB, account string) *visitor {
	t.Helper()
	v := o.visitor(t)
	if a := v.post("/admin/sign-in", "name", account, "password", secretWords); a.status != http.StatusSeeOther {
		t.Fatalf("sign in as %s: %d %s", account, a.status, a.body)
	}
	return v
}

// page is an answer.
type answer struct {
	status int
	body   string
	to     string // of a redirection
	header http.Header
}

func (v *visitor) do(r *http.Request) answer {
	v.t.Helper()
	for name, values := range v.head {
		r.Header[name] = values
	}
	resp, err := v.http.Do(r)
	if err != nil {
		v.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	return answer{resp.StatusCode, string(body), resp.Header.Get("Location"), resp.Header}
}

func (v *visitor) get(path string) answer {
	v.t.Helper()
	r, err := http.NewRequestWithContext(v.t.Context(), http.MethodGet, v.url+path, nil)
	if err != nil {
		v.t.Fatal(err)
	}
	return v.do(r)
}

// post sends a form of names and values, one after the other.
func (v *visitor) post(path string, form ...string) answer {
	v.t.Helper()
	values := url.Values{}
	for pair := range slices.Chunk(form, 2) {
		values.Add(pair[0], pair[1])
	}
	r, err := http.NewRequestWithContext(v.t.Context(), http.MethodPost, v.url+path, strings.NewReader(values.Encode()))
	if err != nil {
		v.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return v.do(r)
}

// must is a page that has to be there and hold all of the texts.
func (v *visitor) must(a answer, status int, texts ...string) answer {
	v.t.Helper()
	if a.status != status {
		v.t.Errorf("%d instead of %d: %s", a.status, status, a.body)
	}
	for _, text := range texts {
		if !strings.Contains(a.body, text) && !strings.Contains(html.UnescapeString(a.body), text) {
			v.t.Errorf("no %q in\n%s", text, a.body)
		}
	}
	return a
}

// paths are all pages that a GET reaches.
func paths(farmer string, review int64) (portal, admin []string) {
	return []string{"/", "/register", "/register/done", "/status"},
		[]string{"/admin/", "/admin/account", "/admin/farmers", "/admin/farmers?q=a", "/admin/farmers/" + farmer, "/admin/farmers/" + farmer + "/edit",
			"/admin/review", fmt.Sprint("/admin/review/", review), "/admin/forms", "/admin/imports"}
}

func anyFarmer() registry.Record {
	for f := range seed.Farmers(1, 1) {
		return f
	}
	panic("no farmer")
}

// asked puts somebody into the review queue and returns the question's id.
func (o *office) asked(t testing.TB, more registry.Fields) int64 {
	t.Helper()
	f := registry.Fields{"given_name": "Tere", "family_name": "Marsters", "birth_date": "1990-05-06", "village": "Arorangi", "island": "Rarotonga", "consent": "given"}
	reference, err := o.Preregister(t.Context(), time.Now(), f.With(more))
	if err != nil {
		t.Fatal(err)
	}
	r, err := o.ByReference(t.Context(), reference)
	if err != nil {
		t.Fatal(err)
	}
	return r.ID
}

func TestEveryPageHasItsHeaders(t *testing.T) {
	o := open(t, 50)
	v := o.as(t, "boss")
	portal, admin := paths(anyFarmer().UID, o.asked(t, nil))
	for _, path := range append(append(portal, admin...), "/nothing", "/admin/sign-in", "/admin/nothing") {
		a := v.get(path)
		if want := http.StatusOK; a.status != want && !strings.HasSuffix(path, "nothing") && path != "/admin/sign-in" {
			t.Errorf("%s: %d", path, a.status)
		}
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin", "Cache-Control": "no-store", "X-Frame-Options": "DENY", "Cross-Origin-Opener-Policy": "same-origin",
			"Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
		} {
			if got := a.header.Get(name); got != want {
				t.Errorf("%s: %s: %q", path, name, got)
			}
		}
		for _, no := range []string{"<script", "style=", "javascript:", "http://", "https://", " onclick"} {
			if strings.Contains(a.body, no) {
				t.Errorf("%s has %q in it", path, no)
			}
		}
		if a.header.Get("X-Request-Id") == "" || a.status != http.StatusSeeOther && !strings.Contains(a.body, "<h1>") {
			t.Errorf("%s: %v %s", path, a.header, a.body)
		}
	}
	loaded := v.get(style.Path)
	if loaded.status != http.StatusOK || !strings.HasPrefix(loaded.header.Get("Content-Type"), "text/css") || !strings.Contains(loaded.header.Get("Cache-Control"), "immutable") {
		t.Error(loaded.status, loaded.header)
	}
}

func TestWhatIsNotThere(t *testing.T) {
	o := open(t, 1)
	v := o.as(t, "boss")
	for _, path := range []string{
		"/nothing", "/assets/", "/assets/site.css", "/assets/..%2f..%2fgo.mod", "/assets/%2e%2e/site.go", "/templates/frame.html", "/lang/en.txt", "/.git/config",
		"/language/xx", "/language/..%2fen", "/admin/farmers/1", "/admin/farmers/" + registry.NewUID(), "/admin/farmers/..%2f..%2fetc%2fpasswd", "/admin/review/0", "/admin/review/x",
		"/admin/review/99999999999999999999", "/admin/imports/7", "/admin/imports/7/errors.csv", "/admin/imports/-1", "/api/farmer/lookup",
	} {
		if a := v.get(path); a.status != http.StatusNotFound || !strings.Contains(a.body, "There is no such page.") {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	for _, path := range []string{"/assets/../../go.mod", "//evil.example", "/admin//farmers"} { // the mux tidies these
		if a := v.get(path); a.status == http.StatusOK || strings.HasPrefix(a.to, "//") {
			t.Errorf("%s: %d %s", path, a.status, a.to)
		}
	}
}

func TestLanguages(t *testing.T) {
	en := languages[english]
	if len(languages) < 2 {
		t.Fatal("there is only one language")
	}
	used := map[string]bool{}
	for _, pages := range []string{"home", "register", "done", "status", "error", "frame", "parts"} {
		text, err := templateFiles.ReadFile("templates/" + pages + ".html")
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`T "([a-z0-9._]+)"`).FindAllStringSubmatch(string(text), -1) {
			used[m[1]] = true
		}
	}
	for key := range used {
		if en.texts[key] == "" {
			t.Errorf("the templates use %q, which lang/en.txt does not have", key)
		}
	}
	for code, l := range languages {
		if l.Name == "" || l.Code != code {
			t.Errorf("%s has no name", code)
		}
		var missing []string
		for key, text := range en.texts {
			if l.texts[key] == "" {
				missing = append(missing, key)
			} else if strings.Count(l.texts[key], "%s") != strings.Count(text, "%s") {
				t.Errorf("%s: %s has not as many %%s as in English", code, key)
			}
		}
		slices.Sort(missing)
		t.Logf("%s (%s) leaves to English: %s", code, l.Name, strings.Join(missing, ", "))
		for key := range l.texts {
			if en.texts[key] == "" && !strings.Contains(key, " ") {
				t.Errorf("%s: there is no %q in English", code, key)
			}
		}
	}

	o := open(t, 1)
	sm := languages["sm"].T("home.title")
	for header, want := range map[string]string{
		"": english, "sm": "sm", "sm-WS, en;q=0.5": "sm", "en, sm;q=0.9": english, "fr;q=1.0, SM;q=0.2, en;q=0.1": "sm", "sm;q=0, en;q=0.1": english, "fr": english, ";;,,q=": english, "sm;q=x": english,
	} {
		v := o.visitor(t)
		v.head.Set("Accept-Language", header)
		v.must(v.get("/"), http.StatusOK, `<html lang="`+want+`">`, languages[want].T("home.title"))
	}
	v := o.visitor(t)
	v.head.Set("Accept-Language", "en")
	if a := v.get("/language/sm?to=/status"); a.status != http.StatusSeeOther || a.to != "/status" {
		t.Error(a)
	}
	v.must(v.get("/"), http.StatusOK, sm, `href="/language/en?to=%2f"`)
	for _, to := range []string{"", "//evil.example", "https://evil.example", `/\evil.example`, "/%5Cevil.example", "evil", "/a%0d%0aSet-Cookie:%20x"} {
		if a := v.get("/language/sm?to=" + to); a.to != "/" || len(a.header.Values("Set-Cookie")) != 1 {
			t.Errorf("to %s: sent to %s", to, a.to)
		}
	}
	b := o.as(t, "boss")
	b.head.Set("Accept-Language", "sm")
	b.must(b.get("/admin/"), http.StatusOK, `<html lang="en">`) // the office's pages are English, and say so
}

// The colours of both schemes have the contrast that WCAG 2.1 AA asks for.
func TestContrast(t *testing.T) {
	css := string(style.text)
	dark, end := strings.Index(css, "prefers-color-scheme: dark"), strings.Index(css, "* {")
	if dark < 0 || end < dark {
		t.Fatal("the style has no two schemes at its beginning")
	}
	for name, css := range map[string]string{"light": css[:dark], "dark": css[dark:end]} {
		colour := map[string][3]float64{}
		for _, m := range regexp.MustCompile(`--([a-z-]+): #([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})`).FindAllStringSubmatch(css, -1) {
			var rgb [3]float64
			for i := range rgb {
				n, _ := strconv.ParseUint(m[2+i], 16, 8) // two hexadecimal digits
				rgb[i] = float64(n) / 255
			}
			colour[m[1]] = rgb
		}
		if len(colour) != 16 {
			t.Errorf("%s: %d colours", name, len(colour))
		}
		for _, c := range []struct {
			over, under string
			least       float64
		}{
			{"ink", "ground", 4.5}, {"ink", "paper", 4.5}, {"muted", "ground", 4.5}, {"muted", "paper", 4.5}, {"link", "ground", 4.5}, {"link", "paper", 4.5},
			{"accent", "ground", 4.5}, {"accent", "paper", 4.5}, {"on-accent", "accent", 4.5}, {"danger", "danger-paper", 4.5}, {"danger", "ground", 4.5}, {"danger", "paper", 4.5},
			{"good", "good-paper", 4.5}, {"warn", "warn-paper", 4.5}, {"ink", "danger-paper", 4.5}, {"ink", "warn-paper", 4.5},
			{"edge", "ground", 3}, {"edge", "paper", 3}, {"focus", "ground", 3}, {"focus", "paper", 3}, {"focus", "danger-paper", 3},
		} {
			if got := contrast(colour[c.over], colour[c.under]); got < c.least {
				t.Errorf("%s: %s on %s has the contrast %.2f, less than %.1f", name, c.over, c.under, got, c.least)
			}
		}
	}
	if got := contrast([3]float64{0, 0, 0}, [3]float64{1, 1, 1}); math.Abs(got-21) > 1e-9 {
		t.Errorf("black on white: %g", got)
	}
	if strings.Contains(css, "outline: none") && !strings.Contains(css, ":focus-visible { outline: 3px") {
		t.Error("the focus is not to be seen")
	}
}

// contrast is WCAG's ratio of two sRGB colours.
func contrast(a, b [3]float64) float64 {
	light := func(c [3]float64) (l float64) {
		for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
			v := c[i] / 12.92
			if c[i] > 0.04045 {
				v = math.Pow((c[i]+0.055)/1.055, 2.4)
			}
			l += weight * v
		}
		return l + 0.05
	}
	return max(light(a), light(b)) / min(light(a), light(b))
}

func TestPeer(t *testing.T) {
	for _, c := range []struct {
		remote, forwarded, proto string
		always                   bool
		want                     peer
	}{
		{"203.0.113.9:5", "", "", false, peer{"203.0.113.9", false}},
		{"203.0.113.9:5", "198.51.100.1", "https", false, peer{"203.0.113.9", false}}, // anybody can say so
		{"203.0.113.9:5", "", "", true, peer{"203.0.113.9", true}},
		{"127.0.0.1:5", "198.51.100.1", "https", false, peer{"198.51.100.1", true}},
		{"127.0.0.1:5", "198.51.100.1", "http", false, peer{"198.51.100.1", false}},
		{"127.0.0.1:5", "192.0.2.66, 198.51.100.1", "https", false, peer{"198.51.100.1", true}}, // the first is what the browser says
		{"127.0.0.1:5", "", "", false, peer{"127.0.0.1", false}},
		{"127.0.0.1:5", "nonsense", "HTTPS", false, peer{"127.0.0.1", false}},
		{"[::ffff:127.0.0.1]:5", "2001:db8:1:2:3:4:5:6", "", false, peer{"2001:db8:1:2::/64", false}},
		{"@", "198.51.100.1", "https", false, peer{"198.51.100.1", true}},
		{"", "", "", false, peer{"local", false}},
	} {
		s := &site{Options: Options{HTTPS: c.always, Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}}
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = c.remote
		r.Header.Set("X-Forwarded-For", c.forwarded)
		r.Header.Set("X-Forwarded-Proto", c.proto)
		if got := s.peer(r); got != c.want {
			t.Errorf("%+v: %+v", c, got)
		}
	}
}

// A database that is away is said kindly, with when to come back, and in the log without anything personal.
func TestTrouble(t *testing.T) {
	o := open(t, 1)
	v := o.as(t, "boss")
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	a := v.get("/admin/farmers?q=Tuatai")
	if a.status < 500 || !strings.Contains(a.body, "<h1>This did not work</h1>") || strings.Contains(a.body, "sql") {
		t.Error(a.status, a.body)
	}
	if log := o.log.String(); strings.Contains(log, "Tuatai") || a.status == 500 && !strings.Contains(log, a.header.Get("X-Request-Id")) {
		t.Error(log)
	}
}
