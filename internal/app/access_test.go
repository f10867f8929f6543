package app

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidemark/internal/control"
	"tidemark/internal/fleet"
	"tidemark/internal/record"
	"tidemark/internal/show/web"
	"tidemark/internal/show/web/access"
	"tidemark/test/servers"
)

// outside is a daemon that can be reached from outside of this machine, by TLS, with an account and a token of each role.
type outside struct {
	*world
	base   string
	top    string       // of the configuration
	client *http.Client // keeps cookies
	tokens map[web.Role]string
}

const password = "four words of text"

func newOutside(t *testing.T, p *idp) *outside {
	t.Helper()
	w := emptyWorld(t, 2)
	certificate, key, root := servers.Certificate(t, w.dir, 1, time.Now().AddDate(0, 6, 0))
	_, port, _ := strings.Cut(servers.FreeAddress(t), ":")
	w.put("secret", "of-the-client\n")
	o := &outside{world: w, base: "https://127.0.0.1:" + port, tokens: map[web.Role]string{}}
	o.top = fmt.Sprintf("listen: {address: \"0.0.0.0:%s\", tls: {certificate: %s, key: %s}, %s}", port, certificate, key, p.written(o.base))
	w.write(o.top, pagesFleet)
	var entries string
	for _, r := range []web.Role{web.Viewer, web.Operator} {
		text, entry := tokenOf("the-"+r.String(), r.String())
		o.tokens[r] = text
		entries += entry
	}
	users := w.put("users", entries)
	if err := access.Edit(users, func(a *access.Accounts) error { return a.SetUser("mele", web.Operator, password) }); err != nil {
		t.Fatal(err)
	}
	w.start()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(root)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	o.client = &http.Client{Jar: jar, Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	w.eventually("a first look", func(st *control.Status) bool { return st.Size.Known })
	return o
}

// ask sends a request and reads the begin of the answer: streams have no end.
func (o *outside) ask(method, path, body string, header ...string) answer {
	o.t.Helper()
	r, err := http.NewRequestWithContext(o.t.Context(), method, o.base+path, strings.NewReader(body))
	if err != nil {
		o.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := o.client.Do(r)
	if err != nil {
		o.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	text := ""
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		all, err := io.ReadAll(resp.Body)
		if err != nil {
			o.t.Fatal(err)
		}
		text = string(all)
	}
	return answer{resp.StatusCode, resp.Header, text}
}

// form sends a form as a page of the server does.
func (o *outside) form(path string, v url.Values, header ...string) answer {
	o.t.Helper()
	return o.ask(http.MethodPost, path, v.Encode(), append([]string{"Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "same-origin"}, header...)...)
}

func (o *outside) events(kind fleet.Kind) []fleet.Event {
	o.t.Helper()
	events, err := o.Events(o.t.Context(), record.EventQuery{Kinds: []fleet.Kind{kind}})
	if err != nil {
		o.t.Fatal(err)
	}
	return events
}

// Whatever is served says who may have it, and nobody else has it: each endpoint is tried by each role, by another site, and with
// what is no token. The list is the one that is served by, so that what is new is tried as well.
func TestEveryEndpointAsksWhoAsks(t *testing.T) {
	o := newOutside(t, newIDP(t))
	routes := o.pages.site.Routes()
	if len(routes) < 35 {
		t.Fatalf("only %d endpoints", len(routes))
	}
	orders := 0
	for _, rt := range routes {
		path := strings.NewReplacer("{fleet}", "f", "{$}", "").Replace(rt.Path)
		what := rt.Method + " " + rt.Path
		try := func(header ...string) answer {
			t.Helper()
			a := o.ask(rt.Method, path, "", append([]string{"Sec-Fetch-Site", "same-origin"}, header...)...)
			if a.header.Get("Content-Security-Policy") == "" || a.header.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%s: headers %v", what, a.header)
			}
			return a
		}
		denied := func(a answer) bool { // that it leads to the identity provider is not
			return a.code == http.StatusUnauthorized || a.code == http.StatusSeeOther && strings.HasPrefix(a.header.Get("Location"), "/sign-in?to=")
		}
		as := func(r web.Role) answer { return try("Authorization", "Bearer "+o.tokens[r]) }
		switch a := try(); {
		case rt.Role == web.Anybody && (denied(a) && !strings.HasPrefix(rt.Path, "/sign-in") || a.code >= http.StatusInternalServerError):
			t.Errorf("%s is for anybody, and says %d", what, a.code)
		case rt.Role > web.Anybody && (!denied(a) || strings.Contains(a.body, "pid ")):
			t.Errorf("%s is for a %s, and says %d to anybody: %.200s", what, rt.Role, a.code, a.body)
		}
		if a := as(web.Viewer); rt.Role == web.Operator && a.code != http.StatusForbidden || rt.Role < web.Operator && (denied(a) || a.code == http.StatusForbidden) && !strings.HasPrefix(rt.Path, "/sign-in") {
			t.Errorf("%s is for a %s, and says %d to a viewer: %.200s", what, rt.Role, a.code, a.body)
		}
		if a := as(web.Operator); (denied(a) || a.code == http.StatusForbidden) && !strings.HasPrefix(rt.Path, "/sign-in") {
			t.Errorf("%s says %d to an operator: %.200s", what, a.code, a.body)
		}
		for _, no := range []string{"Bearer x", "Bearer ", "Basic bWVsZTpmb3VyIHdvcmRzIG9mIHRleHQ=", "Bearer " + o.tokens[web.Operator] + "x"} {
			if a := try("Authorization", no); a.code != http.StatusUnauthorized {
				t.Errorf("%s says %d to %q", what, a.code, no)
			}
		}
		if rt.Method == http.MethodPost {
			orders++
			for _, sent := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Sec-Fetch-Site", "", "Origin", "https://evil.example"}, {"Sec-Fetch-Site", "", "Origin", "null"}} {
				if a := try(append(sent, "Authorization", "Bearer "+o.tokens[web.Operator])...); a.code != http.StatusForbidden || !strings.Contains(a.body, "another site") {
					t.Errorf("%s, sent by another site (%v), is %d", what, sent, a.code)
				}
			}
		}
	}
	if orders < 5 || strings.TrimSpace(o.scaled()) != "" {
		t.Errorf("%d endpoints change something; the fleet was scaled to %q", orders, o.scaled())
	}
	for _, path := range []string{"/../etc/passwd", "/assets/../../../etc/passwd", "/assets/..%2f..%2f..%2fetc%2fpasswd", "/fleets/..%2f..%2fetc%2fpasswd", "/fleets/%2e%2e/%2e%2e/users", "/api/v1/fleets/..%2fusers", "/users", "/sessions.json", "/journal.db", "//evil.example/"} {
		for _, header := range [][]string{nil, {"Authorization", "Bearer " + o.tokens[web.Operator]}} {
			if a := o.ask(http.MethodGet, path, "", header...); a.code == http.StatusOK || strings.Contains(a.body, "root:") || strings.Contains(a.body, "sha256:") || strings.Contains(a.header.Get("Location"), "evil.example") && !strings.HasPrefix(a.header.Get("Location"), "/sign-in?to=") {
				t.Errorf("%s: %d %s", path, a.code, a.header.Get("Location"))
			}
		}
	}
	if refused := o.events(fleet.EventRefused); len(refused) == 0 || refused[0].By != "the-viewer (token)" || refused[0].Origin != "127.0.0.1" || refused[0].Note == "" {
		t.Errorf("recorded is %+v", refused)
	}
}

// A person signs in with a form, gives an order in that name, and signs out; each is recorded with who, from where and why.
func TestSignIn(t *testing.T) {
	o := newOutside(t, newIDP(t))
	if a := o.ask(http.MethodGet, "/fleets/f?zoom=1d", ""); a.header.Get("Location") != "/sign-in?to=%2Ffleets%2Ff%3Fzoom%3D1d" {
		t.Fatalf("%d to %s", a.code, a.header.Get("Location"))
	}
	door := o.ask(http.MethodGet, "/sign-in?to="+url.QueryEscape(attack), "").body
	for _, no := range []string{"<script>", "style=", "odoo", ">f<", "pid ", "journal"} {
		if strings.Contains(door, no) {
			t.Errorf("the sign-in page has %q:\n%s", no, door)
		}
	}
	try := func(name, secret, to string) answer {
		return o.form("/sign-in", url.Values{"name": {name}, "password": {secret}, "to": {to}})
	}
	wrong := try(attack, "no", "/events")
	if wrong.code != http.StatusUnauthorized || strings.Contains(wrong.body, "<script>") || !strings.Contains(wrong.body, "&lt;script&gt;") || !strings.Contains(wrong.body, `value="/events"`) || !strings.Contains(wrong.body, `role="alert"`) || strings.Contains(wrong.body, `value="no"`) {
		t.Errorf("%d %s", wrong.code, wrong.body)
	}
	for _, to := range []string{"https://evil.example/", "//evil.example", `/\evil.example`, "/\t/evil.example", "javascript:alert(1)", "evil", "/sign-in?to=/sign-in"} {
		if a := try("mele", password, to); a.code != http.StatusSeeOther || a.header.Get("Location") != "/" {
			t.Errorf("to %q: %d to %s", to, a.code, a.header.Get("Location"))
		}
	}
	if a := try("mele", password, "/fleets/f?zoom=1d"); a.header.Get("Location") != "/fleets/f?zoom=1d" {
		t.Errorf("%d to %s", a.code, a.header.Get("Location"))
	}
	page := o.ask(http.MethodGet, "/fleets/f", "")
	if page.code != http.StatusOK || !strings.Contains(page.body, "Give an order") || !strings.Contains(page.body, "mele") || page.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%d %s", page.code, page.body)
	}
	why := "market day " + attack
	if a := o.form("/fleets/f/order", url.Values{"kind": {"scale"}, "size": {"4"}, "for": {"1h"}, "note": {why}}); a.code != http.StatusSeeOther {
		t.Fatalf("%d %s", a.code, a.body)
	}
	o.eventually("four workers", func(st *control.Status) bool { return st.Size.Serving == 4 })
	if e := o.events(fleet.EventOrder); len(e) != 1 || e[0].By != "mele" || e[0].Origin != "127.0.0.1" || e[0].Note != why {
		t.Errorf("recorded is %+v", e)
	}
	order := `{"kind": "release", "by": %q, "note": "over"}`
	if a := o.ask(http.MethodPost, "/api/v1/fleets/f/orders", fmt.Sprintf(order, "somebody else")); a.code != http.StatusBadRequest || !strings.Contains(a.body, "signed in as mele") {
		t.Errorf("an order in another's name: %d %s", a.code, a.body)
	}
	if _, err := o.world.client().Order(t.Context(), "f", web.OrderRequest{Kind: o.status().Order.Kind, Size: 5, By: "root", Note: "by hand"}); err != nil {
		t.Fatal(err)
	}
	o.eventually("five workers", func(st *control.Status) bool { return st.Size.Serving == 5 })
	if e := o.events(fleet.EventOrder)[0]; e.By != "root" || !strings.HasPrefix(e.Origin, "the daemon's socket, ") {
		t.Errorf("by the socket is recorded %+v", e)
	}
	if events := o.ask(http.MethodGet, "/events", ""); strings.Contains(events.body, "<script>") || !strings.Contains(events.body, "market day &#34;&gt;&lt;script&gt;") || !strings.Contains(events.body, "mele (127.0.0.1)") {
		t.Errorf("the events are\n%s", events.body)
	}
	if err := os.WriteFile(filepath.Join(o.dir, "users"), []byte("# nobody\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if a := o.ask(http.MethodGet, "/", ""); a.code != http.StatusSeeOther {
		t.Errorf("whose account is gone sees %d", a.code)
	}
	if err := access.Edit(filepath.Join(o.dir, "users"), func(a *access.Accounts) error { return a.SetUser("mele", web.Viewer, password) }); err != nil {
		t.Fatal(err)
	}
	if a := try("mele", password, "/"); a.code != http.StatusSeeOther {
		t.Errorf("%d %s", a.code, a.body)
	}
	if a := o.ask(http.MethodGet, "/fleets/f", ""); a.code != http.StatusOK || strings.Contains(a.body, "Give an order") {
		t.Errorf("a viewer is offered orders, or sees nothing: %d", a.code)
	}
	if a := o.form("/fleets/f/order", url.Values{"kind": {"release"}, "note": {"x"}}); a.code != http.StatusForbidden {
		t.Errorf("a viewer's order: %d", a.code)
	}
	if a := o.form("/sign-out", nil); a.code != http.StatusSeeOther {
		t.Errorf("signing out: %d", a.code)
	}
	if a := o.ask(http.MethodGet, "/", ""); a.code != http.StatusSeeOther {
		t.Errorf("after signing out: %d", a.code)
	}
	if n := len(o.events(fleet.EventSignedIn)); n != 9 || len(o.events(fleet.EventSignedOut)) != 1 || len(o.events(fleet.EventSignInFailed)) != 1 {
		t.Errorf("recorded are %d sign-ins, %+v, %+v", n, o.events(fleet.EventSignedOut), o.events(fleet.EventSignInFailed))
	}
	for _, at := range []string{"users", "sessions.json"} {
		if st, err := os.Stat(filepath.Join(o.dir, at)); err != nil || st.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v %v", at, st.Mode(), err)
		}
	}
}

// On this machine everybody may look, and orders need an operator; a reload to another way of listening takes the socket over, and
// one that cannot be changes nothing.
func TestAccessOnThisMachine(t *testing.T) {
	w, base, operator := newPages(t)
	w.eventually("a first look", func(st *control.Status) bool { return st.Size.Known })
	order := url.Values{"kind": {"scale"}, "size": {"9"}, "note": {"why"}}
	if a := ask(t, http.MethodGet, base+"/fleets/f", nil); a.code != http.StatusOK || strings.Contains(a.body, "Give an order") || !strings.Contains(a.body, "/sign-in?to=/fleets/f") {
		t.Errorf("%d %s", a.code, a.body)
	}
	if a := ask(t, http.MethodPost, base+"/fleets/f/order", order, "Sec-Fetch-Site", "same-origin"); a.code != http.StatusUnauthorized {
		t.Errorf("an order of nobody's: %d", a.code)
	}
	if a := ask(t, http.MethodPost, base+"/api/v1/fleets/f/orders", nil); a.code != http.StatusUnauthorized || a.header.Get("WWW-Authenticate") != "Bearer" {
		t.Errorf("by the API: %d %v", a.code, a.header)
	}
	if strings.TrimSpace(w.scaled()) != "" {
		t.Errorf("scaled to %s", w.scaled())
	}
	address := strings.TrimPrefix(base, "http://")
	if err := w.reload(fmt.Sprintf("listen: {address: %q, tls: {certificate: %[2]s/tls.crt, key: %[2]s/tls.key}}", address, w.dir), pagesFleet); err == nil || !strings.Contains(err.Error(), "read the certificate") {
		t.Errorf("without a certificate: %v", err)
	}
	if a := ask(t, http.MethodGet, base+"/", nil); a.code != http.StatusOK {
		t.Errorf("after a reload that was refused: %d", a.code)
	}
	if err := w.reload(fmt.Sprintf("listen: {address: %q, sign_in: everything}", address), pagesFleet); err != nil {
		t.Fatal(err)
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	if a := ask(t, http.MethodGet, base+"/", nil); a.code != http.StatusSeeOther {
		t.Errorf("after a reload to sign_in: everything: %d", a.code)
	}
	if a := ask(t, http.MethodGet, base+"/", nil, "Authorization", operator); a.code != http.StatusOK {
		t.Errorf("with a token: %d", a.code)
	}
}
