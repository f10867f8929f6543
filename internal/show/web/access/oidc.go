package access

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"tidemark/internal/fleet"
	"tidemark/internal/show/web"
)

// Provider is an identity provider that answers for people, by OpenID Connect's authorization code with PKCE.
type Provider struct {
	Issuer     string
	Client     string // this server's name there
	SecretFile string // holds the client's secret; empty: it has none
	URL        string // where browsers find this server
	Claim      string // of the ID token, that says what somebody is
	Operators  []string
	Viewers    []string
}

// BackPath is where the provider sends browsers back to.
const BackPath = "/sign-in/oidc/back"

// answerWithin is how long somebody may be at the provider.
const answerWithin = 10 * time.Minute

// emailClaim is believed only where the provider has seen that the address is the person's.
const emailClaim = "email"

// provider is a Provider in use. It is asked where it has what when somebody first signs in by it: it may be down when we start.
type provider struct {
	Provider
	client http.Client

	mu sync.Mutex
	it *oidc.Provider
}

// role is what somebody may do who is this there.
func (p *provider) role(is []string) web.Role {
	among := func(allowed []string) bool {
		return slices.ContainsFunc(is, func(v string) bool { return slices.Contains(allowed, v) })
	}
	switch {
	case among(p.Operators):
		return web.Operator
	case among(p.Viewers):
		return web.Viewer
	}
	return web.Anybody
}

// find asks the provider where it has what, once.
func (p *provider) find(ctx context.Context) (*oidc.Provider, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.it == nil {
		// It keeps its context for its keys, so that must not end with this request.
		it, err := oidc.NewProvider(oidc.ClientContext(context.WithoutCancel(ctx), &p.client), p.Issuer)
		if err != nil {
			return nil, fmt.Errorf("ask %s: %w", p.Issuer, err)
		}
		p.it = it
	}
	return p.it, nil
}

func (p *provider) config(it *oidc.Provider) (oauth2.Config, error) {
	c := oauth2.Config{ClientID: p.Client, Endpoint: it.Endpoint(), RedirectURL: strings.TrimSuffix(p.URL, "/") + BackPath, Scopes: []string{oidc.ScopeOpenID, "profile", "email"}}
	if p.SecretFile == "" {
		return c, nil
	}
	text, err := os.ReadFile(p.SecretFile)
	if err != nil {
		return c, fmt.Errorf("read the client's secret: %w", err)
	}
	c.ClientSecret = strings.TrimSpace(string(text))
	return c, nil
}

// leaving is what a browser keeps while it is at the provider: the answer counts in the browser only that went there.
type leaving struct {
	State    string    `json:"s"`
	Nonce    string    `json:"n"`
	Verifier string    `json:"v"`
	To       string    `json:"t"` // the page that was asked for
	At       time.Time `json:"a"`
}

// Provider is the name of the identity provider that people may sign in by; empty: there is none.
func (g *Gate) Provider() string {
	if g.provider == nil {
		return ""
	}
	u, err := url.Parse(g.provider.Issuer)
	if err != nil {
		return g.provider.Issuer
	}
	return u.Hostname()
}

func (g *Gate) leavingCookie() string { return g.cookie + "-oidc" }

// Leave sends a browser to the provider. to is the page that it is to come back to.
func (g *Gate) Leave(w http.ResponseWriter, r *http.Request, to string) error {
	it, err := g.provider.find(r.Context())
	if err != nil {
		return g.unanswered(err)
	}
	c, err := g.provider.config(it)
	if err != nil {
		return g.unanswered(err)
	}
	l := leaving{State: newSecret(), Nonce: newSecret(), Verifier: oauth2.GenerateVerifier(), To: to, At: time.Now().UTC()}
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	http.SetCookie(w, &http.Cookie{Name: g.leavingCookie(), Value: base64.RawURLEncoding.EncodeToString(text), Path: "/", MaxAge: int(answerWithin.Seconds()), HttpOnly: true, Secure: g.o.TLS, SameSite: http.SameSiteLaxMode})
	http.Redirect(w, r, c.AuthCodeURL(l.State, oidc.Nonce(l.Nonce), oauth2.S256ChallengeOption(l.Verifier)), http.StatusSeeOther)
	return nil
}

func (g *Gate) unanswered(err error) error {
	g.o.Log("access: sign-in by OpenID Connect: " + err.Error())
	return &web.Problem{Status: http.StatusBadGateway, Detail: g.Provider() + " does not answer as it should; Tidemark's log says why."}
}

// Return starts a session for who comes back from the provider, and says which page was asked for. A Problem says why there is none.
func (g *Gate) Return(w http.ResponseWriter, r *http.Request) (to string, err error) {
	l := g.left(r)
	http.SetCookie(w, &http.Cookie{Name: g.leavingCookie(), Path: "/", MaxAge: -1, HttpOnly: true, Secure: g.o.TLS, SameSite: http.SameSiteLaxMode})
	refuse := func(status int, why string) error {
		if g.o.Sessions.tries.try(time.Now(), "provider "+netOf(addressOf(r))) == 0 { // each is refused, and not each fills the journal
			g.o.Record(fleet.Event{Kind: fleet.EventSignInFailed, Origin: addressOf(r).String(), Note: "by " + g.Provider() + ": " + why})
		}
		return &web.Problem{Status: status, Detail: "By " + g.Provider() + ": " + why + "."}
	}
	v := r.URL.Query()
	switch {
	case l.State == "" || time.Since(l.At) > answerWithin || subtle.ConstantTimeCompare([]byte(l.State), []byte(v.Get("state"))) != 1:
		return "", refuse(http.StatusBadRequest, "the answer is not to a question of this browser, or comes too late")
	case v.Get("error") != "":
		return l.To, refuse(http.StatusForbidden, "nobody was signed in there")
	}
	name, is, err := g.provider.answer(r.Context(), v.Get("code"), l)
	if err != nil {
		g.o.Log("access: sign-in by OpenID Connect: " + strings.Join(strings.Fields(err.Error()), " ")) // the provider's words are in it
		return l.To, refuse(http.StatusUnauthorized, "the answer is not good; Tidemark's log says why")
	}
	if g.provider.role(is) == web.Anybody {
		return l.To, refuse(http.StatusForbidden, name+" has no role here: listen.oidc says who has")
	}
	g.begin(w, r, session{Name: name + " (single sign-on)", Stamp: g.provider.Issuer, Groups: is}, "by "+g.Provider())
	return l.To, nil
}

// left is what a browser kept; nothing, when it has none.
func (g *Gate) left(r *http.Request) (l leaving) {
	c, err := r.Cookie(g.leavingCookie())
	if err != nil {
		return l
	}
	text, err := base64.RawURLEncoding.DecodeString(c.Value)
	if err != nil || json.Unmarshal(text, &l) != nil {
		return leaving{}
	}
	return l
}

// answer changes a code for what the provider says of a person: a name, and what the person is.
func (p *provider) answer(ctx context.Context, code string, l leaving) (name string, is []string, err error) {
	ctx = oidc.ClientContext(ctx, &p.client)
	it, err := p.find(ctx)
	if err != nil {
		return "", nil, err
	}
	c, err := p.config(it)
	if err != nil {
		return "", nil, err
	}
	all, err := c.Exchange(ctx, code, oauth2.VerifierOption(l.Verifier))
	if err != nil {
		return "", nil, fmt.Errorf("change the code: %w", err)
	}
	text, _ := all.Extra("id_token").(string)
	token, err := it.Verifier(&oidc.Config{ClientID: p.Client}).Verify(ctx, text)
	if err != nil {
		return "", nil, fmt.Errorf("check the ID token: %w", err)
	}
	if subtle.ConstantTimeCompare([]byte(token.Nonce), []byte(l.Nonce)) != 1 {
		return "", nil, fmt.Errorf("the ID token is not of this sign-in: its nonce is another")
	}
	claims := map[string]any{}
	if err := token.Claims(&claims); err != nil {
		return "", nil, fmt.Errorf("read the ID token: %w", err)
	}
	if p.Claim == emailClaim && claims["email_verified"] != true {
		return "", nil, fmt.Errorf("the provider has not verified the address of %s (email_verified)", token.Subject)
	}
	name = token.Subject
	for _, claim := range []string{"preferred_username", emailClaim} {
		if s, ok := claims[claim].(string); ok && s != "" {
			name = s
		}
	}
	return plain(name), values(claims[p.Claim]), nil
}

// values are what a claim says: a text, or a list of them.
func values(claim any) []string {
	out := []string{}
	switch c := claim.(type) {
	case string:
		out = append(out, c)
	case []any:
		for _, v := range c {
			if s, ok := v.(string); ok {
				out = append(out, s)
			}
		}
	}
	return out
}

// plain is a name of at most 64 letters that can be printed.
func plain(name string) string {
	letters := []rune(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, name))
	return string(letters[:min(64, len(letters))])
}
