package access

import (
	"encoding/hex"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/show/web"
)

// Options say whom a gate lets through.
type Options struct {
	Accounts string // path of their file
	Sessions *Sessions
	// Open lets whoever is not signed in see everything, and give no orders: on the loopback interface.
	Open     bool
	TLS      bool
	Port     uint16
	Provider *Provider // nil: people sign in by password only
	// Record keeps who signed in, and who could not; Log is told what is wrong with the accounts.
	Record func(fleet.Event)
	Log    func(string)
}

// Gate says who asks, by a session's cookie or a token.
type Gate struct {
	o        Options
	book     book
	cookie   string
	provider *provider // nil: none
}

// New makes a gate.
func New(o Options) *Gate {
	g := &Gate{o: o, book: book{path: o.Accounts, log: o.Log}}
	// A cookie is sent to every port of a host. With its port in the name it is not taken for another instance's, and __Host- keeps
	// whoever has a name beside ours, or no TLS, from setting it.
	g.cookie = fmt.Sprintf("tidemark-%d", o.Port)
	if o.TLS {
		g.cookie = "__Host-" + g.cookie
	}
	if o.Provider != nil {
		g.provider = &provider{Provider: *o.Provider, client: http.Client{Timeout: 10 * time.Second}}
	}
	return g
}

// Open reports whether everything may be seen without signing in.
func (g *Gate) Open() bool { return g.o.Open }

// Handler tells a handler who asks.
func (g *Gate) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := g.caller(r)
		if err != nil {
			web.Answer(w, r, nil, err)
			return
		}
		if secret := g.secret(r); secret != "" {
			g.o.Sessions.using(secret, +1)
			defer g.o.Sessions.using(secret, -1)
		}
		next.ServeHTTP(w, web.As(r, c))
	})
}

// secret is what a browser shows of its session; empty: nothing.
func (g *Gate) secret(r *http.Request) string {
	if c, err := r.Cookie(g.cookie); err == nil && len(c.Value) <= 64 {
		return c.Value
	}
	return ""
}

// caller is who asks. The error says that a token was shown and is none.
func (g *Gate) caller(r *http.Request) (c web.Caller, err error) {
	c.Origin = addressOf(r).String()
	c.Refused = func(what string) {
		if g.o.Sessions.tries.try(time.Now(), "refused "+c.Name) == 0 { // each is refused, and not each fills the journal
			g.o.Record(fleet.Event{Kind: fleet.EventRefused, By: c.Name, Origin: c.Origin, Note: what})
		}
	}
	c.Still = func() bool {
		now, err := g.caller(r)
		return err == nil && now.Views()
	}
	if given := r.Header.Get("Authorization"); given != "" {
		t, err := g.token(r, given)
		if err != nil {
			return c, err
		}
		c.Name, c.Role = t.Name+" (token)", t.Role
		return c, nil
	}
	if secret := g.secret(r); secret != "" {
		if s, ok := g.o.Sessions.find(secret); ok {
			if role := g.role(&s); role > web.Anybody {
				c.Name, c.Role = s.Name, role
				return c, nil
			}
			if _, err := g.book.now(); err == nil { // else it is not known what the session is worth
				g.o.Sessions.end(secret)
			}
		}
	}
	if g.o.Open {
		c.Role = web.Viewer
	}
	return c, nil
}

// role is what somebody with a session may do now: nothing, once the account is gone or has another password.
func (g *Gate) role(s *session) web.Role {
	if s.provided() {
		if g.provider == nil || g.provider.Issuer != s.Stamp {
			return web.Anybody
		}
		return g.provider.role(s.Groups)
	}
	all, err := g.book.now()
	if err != nil {
		return web.Anybody
	}
	u := all.user(s.Name)
	if u == nil || hex.EncodeToString(u.stamp[:]) != s.Stamp {
		return web.Anybody
	}
	return u.Role
}

func (g *Gate) token(r *http.Request, given string) (*Token, error) {
	all, err := g.book.now()
	if err != nil {
		return nil, unreadable()
	}
	text, bearer := strings.CutPrefix(given, "Bearer ")
	if t := all.shown(text, time.Now()); bearer && t != nil {
		return t, nil
	}
	if at := addressOf(r); g.o.Sessions.tries.try(time.Now(), "token "+netOf(at)) == 0 { // each is refused, and not each fills the journal
		g.o.Record(fleet.Event{Kind: fleet.EventSignInFailed, Origin: at.String(), Note: "no token that is good was shown"})
	}
	return nil, &web.Problem{Status: http.StatusUnauthorized, Detail: "the token is none, or is not good any more: send Authorization: Bearer and one that 'tidemark token add' made"}
}

func unreadable() error {
	return &web.Problem{Status: http.StatusServiceUnavailable, Detail: "nobody can sign in now, because the accounts cannot be read; Tidemark's log says why"}
}

// nobodys is checked where there is no account, so that it takes as long.
var nobodys = hashed{memory: argonMemory, passes: argonPasses, lanes: 1, salt: make([]byte, 16), sum: make([]byte, 32)}

// SignIn starts a session for who knows the password of an account, in place of the one that the browser has. A Problem says why not.
func (g *Gate) SignIn(w http.ResponseWriter, r *http.Request, name, password string) error {
	all, err := g.book.now()
	if err != nil {
		return unreadable()
	}
	user, at := all.user(name), addressOf(r)
	account, address, browser := "account "+name, "address "+netOf(at), g.browser(r)
	keys := []string{address}
	// Whoever has signed in by this browser before waits for what was tried by it alone, wherever others try; whoever has signed in from
	// this address before, or comes from this machine, for what was tried from there.
	switch {
	case user == nil:
	case browser != "" && g.o.Sessions.known(name, browser):
		keys = []string{browser + " " + name}
	case !at.IsLoopback() && !g.o.Sessions.known(name, netOf(at)):
		keys = append(keys, account)
	}
	if wait := g.o.Sessions.tries.try(time.Now(), keys...); wait > 0 {
		s := int(math.Ceil(wait.Seconds()))
		w.Header().Set("Retry-After", strconv.Itoa(s))
		return &web.Problem{Status: http.StatusTooManyRequests, Detail: fmt.Sprintf("Too many sign-ins have failed. Try again in %d s.", s)}
	}
	ok, err := g.check(r, user, password)
	if err != nil {
		return err
	}
	if !ok {
		e := fleet.Event{Kind: fleet.EventSignInFailed, Origin: at.String(), Note: "there is no such account"} // the name may be a password, typed in the wrong place
		if user != nil {
			e.By, e.Note = name, "wrong password"
		}
		g.o.Record(e)
		return &web.Problem{Status: http.StatusUnauthorized, Detail: "The name and the password do not belong together."}
	}
	for _, key := range keys {
		g.o.Sessions.tries.pass(key, key != address)
	}
	g.begin(w, r, session{Name: name, Stamp: hex.EncodeToString(user.stamp[:])}, "by password")
	return nil
}

// check checks a password, one at a time.
func (g *Gate) check(r *http.Request, user *User, password string) (bool, error) {
	if len(password) > longestPassword {
		return false, nil
	}
	select {
	case g.o.Sessions.hashing <- struct{}{}:
		defer func() { <-g.o.Sessions.hashing }()
	case <-r.Context().Done():
		return false, &web.Problem{Status: http.StatusServiceUnavailable, Detail: "Too many sign in at once. Try again."}
	}
	if user == nil {
		return nobodys.is(password) && false, nil
	}
	return user.hash.is(password), nil
}

// begin starts a session.
func (g *Gate) begin(w http.ResponseWriter, r *http.Request, s session, how string) {
	if old := g.secret(r); old != "" {
		g.o.Sessions.end(old)
	}
	at := addressOf(r)
	known := newSecret() // always new: none that a browser came with is taken
	g.setCookie(w, g.cookie, g.o.Sessions.begin(s, netOf(at), browserKey(known)), 0)
	g.setCookie(w, g.cookie+browserSuffix, known, int(knownFor.Seconds()))
	g.o.Record(fleet.Event{Kind: fleet.EventSignedIn, By: s.Name, Origin: at.String(), Note: how})
}

// SignOut ends the browser's session.
func (g *Gate) SignOut(w http.ResponseWriter, r *http.Request) {
	if s, ok := g.o.Sessions.end(g.secret(r)); ok {
		g.o.Record(fleet.Event{Kind: fleet.EventSignedOut, By: s.Name, Origin: addressOf(r).String()})
	}
	g.setCookie(w, g.cookie, "", -1)
}

// browserSuffix is of the cookie that a browser is known by after its session has ended. It lets nobody in: who shows it waits for no
// tries but those that were made with it.
const browserSuffix = "-browser"

func browserKey(secret string) string { return "browser " + keyOf(secret) }

// browser is what a browser that has signed in before is known by; empty: it shows nothing.
func (g *Gate) browser(r *http.Request) string {
	if c, err := r.Cookie(g.cookie + browserSuffix); err == nil && len(c.Value) <= 64 {
		return browserKey(c.Value)
	}
	return ""
}

// setCookie gives the browser a secret for so many seconds; with an age of 0 until it is closed, and with a negative one it takes it away.
func (g *Gate) setCookie(w http.ResponseWriter, name, secret string, age int) {
	http.SetCookie(w, &http.Cookie{Name: name, Value: secret, Path: "/", MaxAge: age, HttpOnly: true, Secure: g.o.TLS, SameSite: http.SameSiteLaxMode})
}

// addressOf is where a request comes from. What a header says of it is not believed.
func addressOf(r *http.Request) netip.Addr {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	at, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	return at.Unmap().WithZone("")
}

// netOf is what counts as one address: of IPv6, the 64 bits that one subscriber has.
func netOf(at netip.Addr) string {
	if at.Is6() {
		if p, err := at.Prefix(64); err == nil {
			return p.String()
		}
	}
	return at.String()
}
