package httpget

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tidemark/internal/config"
)

// net/http lingers half a second on a connection that it has refused; that is longer than goleak waits.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

const limit = 1 << 20

func get(t *testing.T, c Config, url string) (*Answer, error) {
	t.Helper()
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	return c.Get(t.Context(), url, "text/plain", limit)
}

// refused checks that there is no answer, and why.
func refused(t *testing.T, c Config, url, want string) {
	t.Helper()
	a, err := get(t, c, url)
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%+v, %v; want %q", a, err, want)
	}
}

func TestGet(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/moved":
			http.Redirect(w, r, "/page?x=1", http.StatusFound)
		case "/page":
			if r.Header.Get("Accept") != "text/plain" || r.Method != http.MethodGet {
				t.Errorf("%s %v", r.Method, r.Header)
			}
			w.Header().Set("Content-Type", "Text/Plain; charset=utf-8")
			_, _ = io.WriteString(w, "hello "+r.URL.RawQuery)
		case "/full":
			_, _ = io.WriteString(w, strings.Repeat("x", limit))
		case "/over":
			_, _ = io.WriteString(w, strings.Repeat("x", limit+1))
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer s.Close()
	for _, path := range []string{"/moved", "/page?x=1"} {
		a, err := get(t, Config{}, s.URL+path)
		if err != nil || a.Err() != nil || a.Type != "text/plain" || string(a.Body) != "hello x=1" {
			t.Errorf("%s: %+v, %v", path, a, err)
		}
	}
	if a, err := get(t, Config{}, s.URL+"/full"); err != nil || len(a.Body) != limit {
		t.Errorf("a page as large as is allowed: %v", err)
	}
	refused(t, Config{}, s.URL+"/over", "more than 1048576 bytes")
	if a, err := get(t, Config{}, s.URL+"/none"); err != nil || a.Status != 404 || fmt.Sprint(a.Err()) != "the server answers 404 Not Found" {
		t.Errorf("%+v, %v", a, err)
	}
	refused(t, Config{}, "http://no-such-host.invalid/", "the host is not found")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := DefaultConfig()
	if _, err := c.Get(ctx, s.URL+"/page", "", limit); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of the context: %v", err)
	}
}

// file writes a file of the test.
func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSecrets(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("another server was asked") }))
	defer elsewhere.Close()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/away" {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
			return
		}
		_, _ = io.WriteString(w, r.Header.Get("Authorization"))
	}))
	defer s.Close()
	token := file(t, "token", "from-a-file\n")
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{Config{}, ""},
		{Config{BearerToken: "hush"}, "Bearer hush"},
		{Config{BearerTokenFile: token}, "Bearer from-a-file"},
		{Config{Username: "moa", Password: "hush"}, "Basic bW9hOmh1c2g="},
		{Config{Username: "moa", PasswordFile: file(t, "password", "hush")}, "Basic bW9hOmh1c2g="},
	} {
		if a, err := get(t, c.cfg, s.URL); err != nil || string(a.Body) != c.want {
			t.Errorf("%q, %v; want %q", a.Body, err, c.want)
		}
	}
	// The file is read anew, and what is not there, or is no secret, is said without showing it.
	if err := os.WriteFile(token, []byte("renewed"), 0o600); err != nil {
		t.Fatal(err)
	}
	if a, err := get(t, Config{BearerTokenFile: token}, s.URL); err != nil || string(a.Body) != "Bearer renewed" {
		t.Errorf("%q, %v", a.Body, err)
	}
	refused(t, Config{BearerTokenFile: "/nowhere/token"}, s.URL, "/nowhere/token: no such file")
	refused(t, Config{BearerTokenFile: file(t, "empty", "\n")}, s.URL, "does not hold one line")
	refused(t, Config{Username: "moa", PasswordFile: file(t, "two", "a\nb")}, s.URL, "does not hold one line")
	for _, c := range []struct{ cfg Config }{{Config{BearerToken: "hush"}}, {Config{Username: "moa", Password: "hush"}}} {
		s := s.URL + "/away?key=hush"
		_, err := get(t, c.cfg, s)
		if err == nil || strings.Contains(err.Error(), "hush") || !strings.Contains(err.Error(), "only the server of url is asked") {
			t.Errorf("%v", err)
		}
	}
	if _, err := get(t, Config{}, "http://127.0.0.1:1/a?key=hush"); err == nil || strings.Contains(err.Error(), "hush") || !strings.Contains(err.Error(), "get http://127.0.0.1:1/a: the connection is refused") {
		t.Errorf("%v", err)
	}
}

// authority vouches for servers and clients of this test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	a.cert, a.key, a.pem, _ = issue(t, nil, "authority")
	return a
}

// issue makes a certificate; without an authority, that of one.
func issue(t *testing.T, by *authority, name string) (*x509.Certificate, *ecdsa.PrivateKey, string, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: by == nil, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses, template.DNSNames = []net.IP{ip}, nil
	}
	parent, signer := template, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, b []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	return cert, key, encode("CERTIFICATE", der), encode("PRIVATE KEY", raw)
}

// secure starts a server whose certificate is made out to name. With clients, it asks who comes.
func secure(t *testing.T, a *authority, name string, clients *authority) string {
	t.Helper()
	_, _, cert, key := issue(t, a, name)
	pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who := "nobody"
		if len(r.TLS.PeerCertificates) > 0 {
			who = r.TLS.PeerCertificates[0].Subject.CommonName
		}
		_, _ = io.WriteString(w, who)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	if clients != nil {
		s.TLS.ClientAuth, s.TLS.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		s.TLS.ClientCAs.AddCert(clients.cert)
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL
}

func TestTLS(t *testing.T) {
	ours, others := newAuthority(t), newAuthority(t)
	ca := file(t, "ca.pem", ours.pem)
	plain := secure(t, ours, "127.0.0.1", nil)
	if a, err := get(t, Config{CAFile: ca}, plain); err != nil || string(a.Body) != "nobody" {
		t.Errorf("%+v, %v", a, err)
	}
	refused(t, Config{}, plain, "write ca_file with the certificate of its authority")
	refused(t, Config{CAFile: file(t, "other.pem", others.pem)}, plain, "write ca_file with the certificate of its authority")
	refused(t, Config{CAFile: file(t, "none.pem", "none")}, plain, "holds no certificate")
	refused(t, Config{CAFile: "/nowhere/ca.pem"}, plain, "/nowhere/ca.pem: no such file")
	named := secure(t, ours, "prometheus.moa.example", nil)
	refused(t, Config{CAFile: ca}, named, "write server_name if that is the server")
	if _, err := get(t, Config{CAFile: ca, ServerName: "prometheus.moa.example"}, named); err != nil {
		t.Error(err)
	}
	asks := secure(t, ours, "127.0.0.1", ours)
	_, _, cert, key := issue(t, ours, "tidemark")
	if a, err := get(t, Config{CAFile: ca, CertFile: file(t, "cert.pem", cert), KeyFile: file(t, "key.pem", key)}, asks); err != nil || string(a.Body) != "tidemark" {
		t.Errorf("%+v, %v", a, err)
	}
	refused(t, Config{CAFile: ca}, asks, "")
	refused(t, Config{CAFile: ca, CertFile: file(t, "c.pem", cert), KeyFile: file(t, "k.pem", cert)}, asks, "load cert_file and key_file")
	notTLS := httptest.NewServer(http.NotFoundHandler())
	defer notTLS.Close()
	if _, err := get(t, Config{}, "https"+strings.TrimPrefix(notTLS.URL, "http")+"/a?key=hush"); err == nil || strings.Contains(err.Error(), "hush") {
		t.Errorf("%v", err)
	}
}

func TestValidate(t *testing.T) {
	good := DefaultConfig()
	with := func(change func(*Config)) Config {
		c := DefaultConfig()
		change(&c)
		return c
	}
	for _, c := range []struct {
		cfg       Config
		url, want string
	}{
		{good, "http://127.0.0.1:9090/metrics?x=1", "<nil>"},
		{with(func(c *Config) { c.CAFile, c.BearerToken = "/ca.pem", "hush" }), "https://[::1]/", "<nil>"},
		{good, "", "url: is missing; write the address, such as http://127.0.0.1:9090"},
		{good, "127.0.0.1:9090", "url: is no address of an HTTP server; write http://host:port/path or https://host:port/path"},
		{good, "unix:///run/a", "url: is no address of an HTTP server; write http://host:port/path or https://host:port/path"},
		{good, "http://moa:hush@host/", "url: holds a name or a password, which would be shown in messages; write username and password beside url"},
		{good, "http://host/#here", "url: has a # part, which is never sent; delete it"},
		{with(func(c *Config) { c.CAFile = "/ca.pem" }), "http://host/", "url: is http, and there are settings of TLS; write https, or delete ca_file, cert_file, key_file and server_name"},
		{with(func(c *Config) { c.Timeout = 10 * time.Second }), "http://host/", "timeout: 10s is out of range; write 100ms to 5s"},
		{with(func(c *Config) { c.BearerToken, c.BearerTokenFile = "hush", "/token" }), "http://host/", "bearer_token_file: is given beside bearer_token; delete one of them"},
		{with(func(c *Config) { c.Username, c.Password, c.PasswordFile = "moa", "hush", "/p" }), "http://host/", "password_file: is given beside password; delete one of them"},
		{with(func(c *Config) { c.Username, c.BearerToken = "moa", "hush" }), "http://host/", "username: is given beside bearer_token; delete one of them"},
		{with(func(c *Config) { c.Password = "hush" }), "http://host/", "username: is missing; write whose password it is, or write bearer_token"},
		{with(func(c *Config) { c.CertFile = "/cert.pem" }), "https://host/", "cert_file: and key_file belong together; write both, or none"},
		{with(func(c *Config) { c.BearerToken = "hush\nhush" }), "http://host/", "bearer_token: holds a line break or a colon, which cannot be sent; check where it comes from"},
		{with(func(c *Config) { c.CAFile = "ca.pem" }), "https://host/", `ca_file: "ca.pem" is not absolute; begin it with /`},
	} {
		var errs config.FieldErrors
		c.cfg.Validate(&errs, c.url)
		if got := fmt.Sprint(errs.Err()); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}
