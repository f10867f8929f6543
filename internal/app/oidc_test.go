package app

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"tidemark/internal/fleet"
)

// idp is an identity provider that signs in whoever comes, as the claims say.
type idp struct {
	*httptest.Server
	t         *testing.T
	key       *rsa.PrivateKey
	claims    map[string]any    // of the next ID token, over those that are right
	challenge map[string]string // by code
	nonce     map[string]string
	codes     int
}

func newIDP(t *testing.T) *idp {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p := &idp{t: t, key: key, claims: map[string]any{}, challenge: map[string]string{}, nonce: map[string]string{}}
	mux := http.NewServeMux()
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	say := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(v); err != nil {
			t.Error(err)
		}
	}
	b64 := base64.RawURLEncoding
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		say(w, map[string]any{"issuer": p.URL, "authorization_endpoint": p.URL + "/authorize", "token_endpoint": p.URL + "/token", "jwks_uri": p.URL + "/keys", "id_token_signing_alg_values_supported": []string{"RS256"}})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		say(w, map[string]any{"keys": []any{map[string]any{"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "1", "n": b64.EncodeToString(key.N.Bytes()), "e": b64.EncodeToString(big.NewInt(int64(key.E)).Bytes())}}})
	})
	mux.HandleFunc("/authorize", func(w http.ResponseWriter, r *http.Request) {
		v := r.URL.Query()
		if v.Get("response_type") != "code" || v.Get("code_challenge_method") != "S256" || len(v.Get("code_challenge")) != 43 || len(v.Get("state")) < 32 || len(v.Get("nonce")) < 32 || v.Get("client_id") != "tidemark" {
			t.Errorf("asked by %v", v)
		}
		p.codes++
		code := fmt.Sprint("code-", p.codes)
		p.challenge[code], p.nonce[code] = v.Get("code_challenge"), v.Get("nonce")
		http.Redirect(w, r, v.Get("redirect_uri")+"?"+url.Values{"code": {code}, "state": {v.Get("state")}}.Encode(), http.StatusFound)
	})
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		code := r.FormValue("code")
		sum := sha256.Sum256([]byte(r.FormValue("code_verifier")))
		if id, secret, ok := r.BasicAuth(); !ok || id != "tidemark" || secret != "of-the-client" || p.challenge[code] == "" || b64.EncodeToString(sum[:]) != p.challenge[code] {
			http.Error(w, `{"error": "invalid_grant"}`, http.StatusBadRequest)
			return
		}
		claims := map[string]any{"iss": p.URL, "aud": "tidemark", "sub": "4711", "email": "mele@moa.example", "email_verified": true, "nonce": p.nonce[code], "iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix()}
		delete(p.challenge, code) // once only
		for k, v := range p.claims {
			claims[k] = v
		}
		body, err := json.Marshal(claims)
		if err != nil {
			t.Error(err)
		}
		text := b64.EncodeToString([]byte(`{"alg":"RS256","kid":"1"}`)) + "." + b64.EncodeToString(body)
		hash := sha256.Sum256([]byte(text))
		signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, hash[:])
		if err != nil {
			t.Error(err)
		}
		say(w, map[string]any{"access_token": "x", "token_type": "Bearer", "id_token": text + "." + b64.EncodeToString(signature)})
	})
	return p
}

func (p *idp) written(address string) string {
	return fmt.Sprintf("oidc: {issuer: %q, client_id: tidemark, client_secret_file: secret, url: %q, operators: [mele@moa.example], viewers: [sione@moa.example]}", p.URL, address)
}

// visit goes to the provider and comes back with its answer: the path that it leads to.
func (p *idp) visit(o *outside) string {
	p.t.Helper()
	leave := o.ask(http.MethodGet, "/sign-in/oidc?to=/alerts", "")
	if leave.code != http.StatusSeeOther || !strings.HasPrefix(leave.header.Get("Location"), p.URL+"/authorize?") {
		p.t.Fatalf("%d to %s: %s", leave.code, leave.header.Get("Location"), leave.body)
	}
	if c := leave.header.Get("Set-Cookie"); !strings.Contains(c, "HttpOnly") || !strings.Contains(c, "Secure") || !strings.Contains(c, "__Host-") {
		p.t.Errorf("leaves with %s", c)
	}
	r, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, leave.header.Get("Location"), http.NoBody)
	if err != nil {
		p.t.Fatal(err)
	}
	resp, err := o.client.Transport.RoundTrip(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	return strings.TrimPrefix(resp.Header.Get("Location"), o.base)
}

// Who signs in by a provider has the role that the provider's word is worth here, and an answer that is not good is refused.
func TestSignInByProvider(t *testing.T) {
	p := newIDP(t)
	o := newOutside(t, p)
	if door := o.ask(http.MethodGet, "/sign-in?to=/alerts", ""); !strings.Contains(door.body, `href="/sign-in/oidc?to=/alerts"`) && !strings.Contains(door.body, `href="/sign-in/oidc?to=%2falerts"`) {
		t.Errorf("the way to the provider is not shown:\n%s", door.body)
	}
	refused := func(what, back string) answer {
		t.Helper()
		a := o.ask(http.MethodGet, back, "")
		if a.code < 400 || !strings.Contains(a.body, `role="alert"`) {
			t.Errorf("%s: %d %s", what, a.code, a.body)
		}
		if home := o.ask(http.MethodGet, "/", ""); home.code != http.StatusSeeOther {
			t.Fatalf("%s: signed in, %d", what, home.code)
		}
		return a
	}
	back := p.visit(o)
	refused("another state", strings.Replace(back, "state=", "state=x", 1))
	refused("the answer, after the question was given up", back)
	refused("an answer that nobody asked for", "/sign-in/oidc/back?code=code-1&state=")
	refused("no consent", "/sign-in/oidc/back?error=access_denied&state="+url.QueryEscape(query(p.visit(o), "state")))
	for what, c := range map[string]struct {
		claims map[string]any
		why    string // as the log, or the event, has it
	}{
		"another's ID token":             {map[string]any{"aud": "somebody-else"}, "audience"},
		"another provider's":             {map[string]any{"iss": "https://evil.example"}, "different provider"},
		"one that has expired":           {map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}, "expired"},
		"one of another sign-in":         {map[string]any{"nonce": "x"}, "nonce"},
		"an address that is not checked": {map[string]any{"email_verified": false}, "email_verified"},
		"somebody without a role":        {map[string]any{"email": "eve@moa.example"}, "eve@moa.example has no role here"},
		"nobody":                         {map[string]any{"email": nil}, "4711 has no role here"},
	} {
		p.claims = c.claims
		back := p.visit(o)
		o.logged()
		if a := refused(what, back); !strings.Contains(a.body+o.logged(), c.why) {
			t.Errorf("%s: not refused because of %q: %s", what, c.why, a.body)
		}
	}
	p.claims = nil
	back = p.visit(o)
	if a := o.ask(http.MethodGet, back, ""); a.code != http.StatusSeeOther || a.header.Get("Location") != "/alerts" {
		t.Fatalf("%d to %s: %s", a.code, a.header.Get("Location"), o.logged())
	}
	if page := o.ask(http.MethodGet, "/fleets/f", ""); page.code != http.StatusOK || !strings.Contains(page.body, "Give an order") || !strings.Contains(page.body, "mele@moa.example (single sign-on)") {
		t.Errorf("%d %s", page.code, page.body)
	}
	if a := o.form("/fleets/f/order", url.Values{"kind": {"hold"}, "note": {"why"}}); a.code != http.StatusSeeOther {
		t.Errorf("an order: %d %s", a.code, a.body)
	}
	if e := o.events(fleet.EventSignedIn); len(e) != 1 || e[0].By != "mele@moa.example (single sign-on)" || e[0].Note != "by 127.0.0.1" {
		t.Errorf("recorded is %+v", e)
	}
	if e := o.events(fleet.EventSignInFailed); len(e) == 0 || e[0].Origin != "127.0.0.1" {
		t.Errorf("recorded is %+v", e)
	}
	// What the configuration says counts at once: who has a role no more is signed out.
	if err := o.reload(strings.Replace(o.top, "mele@moa.example", "sione@moa.example", 1), pagesFleet); err != nil {
		t.Fatal(err)
	}
	if a := o.ask(http.MethodGet, "/fleets/f", ""); a.code != http.StatusSeeOther {
		t.Errorf("whose role is gone sees %d", a.code)
	}
	p.Close()
	if a := o.ask(http.MethodGet, "/sign-in/oidc", ""); a.code != http.StatusBadGateway || !strings.Contains(a.body, "does not answer") {
		t.Errorf("while the provider is down: %d %s", a.code, a.body)
	}
}

// query is a parameter of an address.
func query(address, name string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Query().Get(name)
}
