package access

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/show/web"
)

const secret = "four words of text"

// door is a gate with accounts of its own, and what it has recorded.
type door struct {
	t      *testing.T
	dir    string
	gate   *Gate
	events []fleet.Event
	log    []string
}

func newDoor(t *testing.T, open bool, accounts ...string) *door {
	t.Helper()
	d := &door{t: t, dir: t.TempDir()}
	d.accounts(accounts...)
	d.start(open)
	return d
}

func (d *door) start(open bool) {
	log := func(line string) { d.log = append(d.log, line) }
	d.gate = New(Options{Accounts: filepath.Join(d.dir, "users"), Sessions: OpenSessions(filepath.Join(d.dir, "sessions.json"), log), Open: open, TLS: true, Port: 8460, Log: log,
		Record: func(e fleet.Event) { d.events = append(d.events, e) }})
}

// accounts writes the file of accounts.
func (d *door) accounts(lines ...string) {
	d.t.Helper()
	path := filepath.Join(d.dir, "users")
	if err := os.WriteFile(path+".new", []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		d.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		d.t.Fatal(err)
	}
}

// account is a line about a user; its hash is cheap.
func account(name, role, password string) string {
	return fmt.Sprintf("user %s %s %s", name, role, hash(password, 8, 1))
}

// from is a request from an address, with what a browser has.
func from(address string, cookies ...*http.Cookie) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/sign-in", http.NoBody)
	r.RemoteAddr = address + ":4711"
	for _, c := range cookies {
		r.AddCookie(c)
	}
	return r
}

// signIn returns the status of a sign-in, and the cookie that came of it.
func (d *door) signIn(r *http.Request, name, password string) (int, *http.Cookie) {
	w := httptest.NewRecorder()
	if err := d.gate.SignIn(w, r, name, password); err != nil {
		p := web.ProblemOf(err)
		if (p.Status == http.StatusTooManyRequests) != (w.Header().Get("Retry-After") != "") {
			d.t.Errorf("%d with Retry-After %q", p.Status, w.Header().Get("Retry-After"))
		}
		if len(w.Result().Cookies()) > 0 {
			d.t.Error("a cookie comes of a sign-in that failed")
		}
		return p.Status, nil
	}
	return http.StatusOK, w.Result().Cookies()[0]
}

// caller is who asks with a cookie or a token.
func (d *door) caller(r *http.Request) (c web.Caller, status int) {
	w := httptest.NewRecorder()
	d.gate.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { c = web.CallerOf(r.Context()) })).ServeHTTP(w, r)
	return c, w.Code
}

func (d *door) role(cookies ...*http.Cookie) web.Role {
	c, _ := d.caller(from("192.0.2.1", cookies...))
	return c.Role
}

// A session is a new secret each time, whatever the browser came with, ends the one before, and is known by its sum only.
func TestSession(t *testing.T) {
	d := newDoor(t, false, account("mele", "operator", secret))
	planted := &http.Cookie{Name: d.gate.cookie, Value: strings.Repeat("A", 43)}
	code, first := d.signIn(from("192.0.2.1", planted), "mele", secret)
	if code != http.StatusOK || first.Value == planted.Value || len(first.Value) < 43 {
		t.Fatalf("%d, %v", code, first)
	}
	if !first.HttpOnly || !first.Secure || first.SameSite != http.SameSiteLaxMode || first.Path != "/" || first.Domain != "" || !strings.HasPrefix(first.Name, "__Host-") {
		t.Errorf("the cookie is %v", first)
	}
	if d.role(planted) != web.Anybody || d.role(first) != web.Operator {
		t.Error("the session is the one that was planted, or none")
	}
	_, second := d.signIn(from("192.0.2.1", first), "mele", secret)
	if second.Value == first.Value || d.role(first) != web.Anybody || d.role(second) != web.Operator {
		t.Error("signing in again leaves the session before")
	}
	kept, err := os.ReadFile(filepath.Join(d.dir, "sessions.json"))
	if err != nil || strings.Contains(string(kept), second.Value) || !strings.Contains(string(kept), keyOf(second.Value)) {
		t.Errorf("what is kept: %s, %v", kept, err)
	}
	if st, err := os.Stat(filepath.Join(d.dir, "sessions.json")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	d.start(false) // another daemon
	if d.role(second) != web.Operator {
		t.Error("a restart ends the session")
	}
	w := httptest.NewRecorder()
	d.gate.SignOut(w, from("192.0.2.1", second))
	if c := w.Result().Cookies()[0]; c.MaxAge >= 0 || d.role(second) != web.Anybody {
		t.Errorf("signed out with %v", c)
	}
	d.start(false)
	if d.role(second) != web.Anybody {
		t.Error("a restart brings back who signed out")
	}
	var said []string
	for _, e := range d.events {
		said = append(said, fmt.Sprintf("%s %s %s", e.Kind, e.By, e.Origin))
	}
	if got := strings.Join(said, "; "); got != "signed_in mele 192.0.2.1; signed_in mele 192.0.2.1; signed_out mele 192.0.2.1" {
		t.Error(got)
	}
}

// A session ends with its time, with what its account is worth, and not while a page is open.
func TestSessionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoor(t, false, account("mele", "operator", secret))
		signIn := func() *http.Cookie {
			code, c := d.signIn(from("192.0.2.1"), "mele", secret)
			if code != http.StatusOK {
				t.Fatal(code)
			}
			return c
		}
		idle := signIn()
		time.Sleep(59 * time.Minute)
		if d.role(idle) != web.Operator {
			t.Error("ended within the hour")
		}
		time.Sleep(61 * time.Minute)
		if d.role(idle) != web.Anybody {
			t.Error("goes on after an hour in which nobody used it")
		}
		watched := signIn()
		var still func() bool
		d.gate.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			still = web.CallerOf(r.Context()).Still
			time.Sleep(11 * time.Hour)
			if !still() {
				t.Error("ended while a page was open")
			}
			time.Sleep(61 * time.Minute)
			if still() {
				t.Error("an open page goes on after twelve hours")
			}
		})).ServeHTTP(httptest.NewRecorder(), from("192.0.2.1", watched))

		for name, line := range map[string]string{"another password": account("mele", "operator", secret+"!"), "no account": "# nobody", "what is no account": "user mele boss x"} {
			d.accounts(account("mele", "operator", secret))
			c := signIn()
			time.Sleep(time.Second)
			d.accounts(line)
			if d.role(c) != web.Anybody {
				t.Errorf("goes on with %s", name)
			}
		}
		d.accounts(account("mele", "operator", secret))
		c := signIn()
		text, err := os.ReadFile(filepath.Join(d.dir, "users"))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		d.accounts(strings.Replace(strings.TrimSpace(string(text)), "operator", "viewer", 1))
		if got := d.role(c); got != web.Viewer {
			t.Errorf("an operator that is a viewer now is a %s", got)
		}
	})
}

// Who guesses waits, never longer than a minute; who has signed in from an address before does not wait there for what others try.
func TestThrottle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoor(t, false, account("mele", "operator", secret), account("sione", "viewer", secret))
		if code, _ := d.signIn(from("192.0.2.1"), "mele", secret); code != http.StatusOK {
			t.Fatal(code)
		}
		for i := range freeTries {
			if code, _ := d.signIn(from("198.51.100.9"), "mele", "guess"); code != http.StatusUnauthorized {
				t.Errorf("try %d: %d", i, code)
			}
		}
		for _, c := range []struct{ address, name, password, what string }{
			{"198.51.100.9", "mele", secret, "the one who guesses, even right"},
			{"198.51.100.9", "sione", secret, "and at another account"},
			{"203.0.113.5", "mele", "guess", "somebody else at the same account"},
		} {
			if code, _ := d.signIn(from(c.address), c.name, c.password); code != http.StatusTooManyRequests {
				t.Errorf("%s: %d", c.what, code)
			}
		}
		if code, _ := d.signIn(from("192.0.2.1"), "mele", secret); code != http.StatusOK {
			t.Errorf("mele is kept out where she has signed in before: %d", code)
		}
		// An attack that goes on for a day: what is tried during the wait lengthens nothing.
		evaluated := 0
		for range 24 * 60 * 6 {
			if code, _ := d.signIn(from("2001:db8:1:2::5"), "sione", "guess"); code == http.StatusUnauthorized {
				evaluated++
			}
			time.Sleep(10 * time.Second)
		}
		if evaluated < 1440 || evaluated > 1460 {
			t.Errorf("%d guesses were looked at in a day; one a minute is meant", evaluated)
		}
		if code, _ := d.signIn(from("2001:db8:1:2:ffff::1"), "mele", "x"); code != http.StatusTooManyRequests {
			t.Errorf("another address of the same subscriber: %d", code)
		}
		time.Sleep(longestWait)
		if code, _ := d.signIn(from("203.0.113.77"), "sione", secret); code != http.StatusOK {
			t.Errorf("a minute later, from an address not seen before: %d", code)
		}
		if n := len(d.events); n < evaluated || n > evaluated+20 {
			t.Errorf("%d events of %d guesses", n, evaluated)
		}
		for _, e := range d.events {
			if strings.Contains(e.Note+e.By, "guess") || e.Origin == "" {
				t.Errorf("recorded is %+v", e)
			}
		}
	})
}

// Whoever keeps an account waiting from addresses never seen keeps nobody out who signs in by a browser that was signed in before,
// wherever it is now, or on the machine itself; and what shows such a browser's cookie has no more tries than another.
func TestThrottleLetsInWhoIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoor(t, false, account("mele", "operator", secret), account("sione", "viewer", secret))
		w := httptest.NewRecorder()
		if err := d.gate.SignIn(w, from("192.0.2.1"), "mele", secret); err != nil {
			t.Fatal(err)
		}
		browser := w.Result().Cookies()[1]
		if browser.Value == "" || browser.MaxAge < 86400 || !browser.HttpOnly || !browser.Secure || d.role(browser) != web.Anybody {
			t.Fatalf("the browser is known by %v, which lets in %s", browser, d.role(browser))
		}
		attack := func(name string) {
			for i := range 200 {
				d.signIn(from(fmt.Sprintf("198.51.100.%d", i)), name, "guess")
			}
		}
		attack("mele")
		attack("sione")
		for _, c := range []struct {
			what string
			r    *http.Request
			name string
			want int
		}{
			{"from elsewhere, by no browser that is known", from("203.0.113.5"), "mele", http.StatusTooManyRequests},
			{"by another's browser", from("203.0.113.6", browser), "sione", http.StatusTooManyRequests},
			{"from elsewhere, by the browser that is known", from("203.0.113.7", browser), "mele", http.StatusOK},
			{"where the attack comes from, by the browser that is known", from("198.51.100.7", browser), "mele", http.StatusOK},
			{"on the machine itself", from("127.0.0.1"), "sione", http.StatusOK},
		} {
			if code, _ := d.signIn(c.r, c.name, secret); code != c.want {
				t.Errorf("%s: %d, want %d", c.what, code, c.want)
			}
		}
		looked := 0
		for i := range 100 {
			if code, _ := d.signIn(from(fmt.Sprintf("203.0.113.%d", i), browser), "mele", "guess"); code == http.StatusUnauthorized {
				looked++
			}
		}
		if looked != freeTries {
			t.Errorf("%d guesses with a stolen cookie were looked at, want %d", looked, freeTries)
		}
		d.start(false)
		attack("mele")
		if code, _ := d.signIn(from("203.0.113.8", browser), "mele", secret); code != http.StatusOK {
			t.Errorf("after a restart the browser is not known any more: %d", code)
		}
	})
}

// Two who edit the accounts at the same moment both have what they wanted.
func TestEditsDoNotUndoEachOther(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	const editors = 20
	var wg sync.WaitGroup
	for i := range editors {
		wg.Go(func() {
			if err := Edit(path, func(a *Accounts) error { _, err := a.AddToken(fmt.Sprint("t", i), web.Viewer, time.Time{}); return err }); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	a, err := Read(path)
	if err != nil || len(a.Tokens()) != editors {
		t.Fatalf("%d of %d are there, %v", len(a.Tokens()), editors, err)
	}
}

// Many tries at once are as many one after the other, and what is remembered is bounded.
func TestThrottleAtOnce(t *testing.T) {
	var tries throttle
	now, let := time.Now(), 0
	for range 100 {
		if tries.try(now, "a", "b") == 0 {
			let++
		}
	}
	if let != freeTries {
		t.Errorf("%d tries at once are let through", let)
	}
	for i := range mostTries + 10 {
		tries.try(now.Add(time.Minute), fmt.Sprint(i))
	}
	if len(tries.all) > mostTries {
		t.Errorf("%d are remembered", len(tries.all))
	}
	if tries.try(now.Add(20*time.Minute), "1") != 0 {
		t.Error("nothing is forgotten")
	}
}

// A name that nobody has is answered as a wrong password is, and what was typed as the name is not recorded.
func TestNoSuchAccount(t *testing.T) {
	d := newDoor(t, false, account("mele", "operator", secret))
	answer := func(name, password string) string {
		err := d.gate.SignIn(httptest.NewRecorder(), from("192.0.2.1"), name, password)
		return fmt.Sprint(web.ProblemOf(err))
	}
	wrong := answer("mele", "x")
	for _, name := range []string{secret, "", `"><script>alert(1)</script>`, strings.Repeat("x", 10_000)} {
		if got := answer(name, strings.Repeat("x", longestPassword+1)); got != wrong {
			t.Errorf("%.20s: %s, and a wrong password is %s", name, got, wrong)
		}
	}
	for _, e := range d.events[1:] {
		if e.By != "" {
			t.Errorf("recorded is %+v", e)
		}
	}
}

// A token counts until its day, a wrong one is refused even where all may look, and neither password nor token can be read from the file.
func TestAccountsAtRest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	var made, short string
	change := func(a *Accounts) (err error) {
		if err := a.SetUser("mele", web.Operator, secret); err != nil {
			return err
		}
		if made, err = a.AddToken("grafana", web.Viewer, time.Time{}); err != nil {
			return err
		}
		short, err = a.AddToken("drive", web.Operator, time.Now().Add(-24*time.Hour))
		return err
	}
	if err := Edit(path, change); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, plain := range []string{secret, made, strings.TrimPrefix(made, "tidemark_"), short} {
		if strings.Contains(string(text), plain) {
			t.Errorf("%q can be read in\n%s", plain, text)
		}
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 || !strings.Contains(string(text), "$argon2id$v=19$m=19456,t=2,p=1$") || len(made) < 50 {
		t.Errorf("%v %v\n%s", st.Mode(), err, text)
	}
	d := newDoor(t, true, strings.TrimSpace(string(text)))
	for shown, want := range map[string]int{"Bearer " + made: 200, "Bearer " + short: 401, "Bearer " + made + "x": 401, "Bearer ": 401, "Basic bWVsZTp4": 401, made: 401} {
		r := from("192.0.2.1")
		r.Header.Set("Authorization", shown)
		c, code := d.caller(r)
		if code != want || want == 200 && (c.Name != "grafana (token)" || c.Role != web.Viewer || c.Origin != "192.0.2.1") {
			t.Errorf("%s: %d %+v", shown, code, c)
		}
	}
	if got := d.role(); got != web.Viewer {
		t.Errorf("who shows nothing where all may look is %s", got)
	}
	if err := Edit(path, func(a *Accounts) error {
		if !a.RemoveToken("grafana") || a.RemoveToken("grafana") || !a.RemoveUser("mele") {
			t.Error("removed wrongly")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	left, err := Read(path)
	if err != nil || len(left.Users()) != 0 || len(left.Tokens()) != 1 {
		t.Errorf("%+v, %v", left, err)
	}
}

// What is wrong in the file is told with its line, nobody gets in by it, and what an operator wrote beside stays.
func TestAccountsFile(t *testing.T) {
	good := account("mele", "operator", secret)
	for text, want := range map[string]string{
		"# all is well\n\n" + good + "\ntoken g viewer sha256:" + strings.Repeat("ab", 32) + " 2027-11-28": "",
		good + "\n" + good:         "users:2: mele stands in it twice",
		"person mele operator x":   "users:1: write a line as",
		"user mele boss x":         `"boss" is no role`,
		"user mele operator plain": "is no hash of a password",
		"user a/b operator x":      `"a/b" is no name`,
		good + " more":             "more in the line",
		"token g viewer md5:00":    "no SHA-256",
		"token g viewer sha256:00": "no SHA-256",
		"token g viewer sha256:" + strings.Repeat("ab", 32) + " soon":                                      `"soon" is no date`,
		"user m viewer $argon2id$v=19$m=4194304,t=2,p=1$AAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA": "costs more than",
	} {
		a, err := parse("users", text+"\n")
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s\n%v, want %q", text, err, want)
		}
		if want == "" && (len(a.Users()) != 1 || len(a.Tokens()) != 1) {
			t.Errorf("%+v", a)
		}
	}
	d := newDoor(t, false, "# of the ministry", good)
	path := filepath.Join(d.dir, "users")
	if err := Edit(path, func(a *Accounts) error { return a.SetUser("sione", web.Viewer, secret) }); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil || !strings.HasPrefix(string(text), "# of the ministry\n"+good+"\nuser sione viewer $") {
		t.Errorf("%s %v", text, err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if code, _ := d.signIn(from("192.0.2.1"), "mele", secret); code != http.StatusServiceUnavailable || len(d.log) != 1 || !strings.Contains(d.log[0], "chmod 600") {
		t.Errorf("accounts that everybody reads: %d, %v", code, d.log)
	}
	for password, ok := range map[string]bool{secret: true, "short": false, "Mele-is-here-2027": false, "aaaaaaaaaaaaaaa": false, "": false, strings.Repeat("long text ", 200): false, "seven\xff seven": false} {
		if err := CheckPassword("mele", password); (err == nil) != ok {
			t.Errorf("%q: %v", password, err)
		}
	}
}

// Secrets are compared in constant time: nothing of the package compares a sum otherwise.
func TestConstantTime(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	compares := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				switch fmt.Sprint(n.X, ".", n.Sel.Name) {
				case "subtle.ConstantTimeCompare":
					compares++
				case "bytes.Equal", "bytes.Compare", "reflect.DeepEqual":
					t.Errorf("%s compares by %s", name, n.Sel.Name)
				}
			case *ast.BinaryExpr:
				for _, side := range []ast.Expr{n.X, n.Y} {
					if s, ok := side.(*ast.SelectorExpr); ok && s.Sel.Name == "sum" && (n.Op == token.EQL || n.Op == token.NEQ) {
						t.Errorf("%s compares a sum by %s", name, n.Op)
					}
				}
			}
			return true
		})
	}
	if compares != 4 {
		t.Errorf("%d comparisons in constant time; passwords, tokens, and a provider's state and nonce need one each", compares)
	}
}
