// Package httpget asks an HTTP server one question, within bounds: for the sources that read over HTTP. It owns how a server
// is reached and trusted, and how long and how large an answer may be; what the answer means is its callers'.
//
// Each question has a connection of its own, which ends with it, and reads the files of its certificates and secrets anew: a
// server that was restarted, or a certificate that was renewed, needs no restart here. Proxies that the environment names
// (HTTP_PROXY) are not used: what steers a fleet is asked directly.
package httpget

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"tidemark/internal/config"
)

// Config says how a server is reached. It stands inline in a source's own configuration.
type Config struct {
	// Timeout is how long the whole exchange may take, 100ms..5s; default 3s.
	Timeout time.Duration `yaml:"timeout"`
	// BearerToken is sent as it is; BearerTokenFile names a file that holds it. Secrets are best written as ${NAME}.
	BearerToken     string `yaml:"bearer_token"`
	BearerTokenFile string `yaml:"bearer_token_file"`
	// Username and Password are for basic authentication.
	Username     string `yaml:"username"`
	Password     string `yaml:"password"`
	PasswordFile string `yaml:"password_file"`
	// CAFile holds the certificates (PEM) of those who may vouch for the server; default: those of the system.
	CAFile string `yaml:"ca_file"`
	// CertFile and KeyFile (PEM) are shown to a server that asks who comes.
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
	// ServerName is what the server's certificate must be made out to; default: the host of the address.
	ServerName string `yaml:"server_name"`
}

// DefaultConfig waits for 3 s.
func DefaultConfig() Config { return Config{Timeout: 3 * time.Second} }

const leastTimeout, mostTimeout = 100 * time.Millisecond, 5 * time.Second

// Validate adds what cannot work; address is that of the server, in the field called url.
func (c *Config) Validate(errs *config.FieldErrors, address string) {
	u, err := url.Parse(address)
	switch {
	case address == "":
		errs.Add("url", "is missing", "write the address, such as http://127.0.0.1:9090")
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		errs.Add("url", "is no address of an HTTP server", "write http://host:port/path or https://host:port/path")
	case u.User != nil:
		errs.Add("url", "holds a name or a password, which would be shown in messages", "write username and password beside url")
	case u.Fragment != "":
		errs.Add("url", "has a # part, which is never sent", "delete it")
	case u.Scheme == "http" && (c.CAFile != "" || c.CertFile != "" || c.KeyFile != "" || c.ServerName != ""):
		errs.Add("url", "is http, and there are settings of TLS", "write https, or delete ca_file, cert_file, key_file and server_name")
	}
	if c.Timeout < leastTimeout || c.Timeout > mostTimeout {
		errs.Add("timeout", fmt.Sprintf("%s is out of range", c.Timeout), fmt.Sprintf("write %s to %s", leastTimeout, mostTimeout))
	}
	for _, pair := range []struct{ a, b, nameA, nameB string }{
		{c.BearerToken, c.BearerTokenFile, "bearer_token", "bearer_token_file"},
		{c.Password, c.PasswordFile, "password", "password_file"},
		{c.BearerToken + c.BearerTokenFile, c.Username, "bearer_token", "username"},
	} {
		if pair.a != "" && pair.b != "" {
			errs.Add(pair.nameB, "is given beside "+pair.nameA, "delete one of them")
		}
	}
	if c.Username == "" && c.Password+c.PasswordFile != "" {
		errs.Add("username", "is missing", "write whose password it is, or write bearer_token")
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		errs.Add("cert_file", "and key_file belong together", "write both, or none")
	}
	for _, f := range []struct{ name, text, not string }{
		{"bearer_token", c.BearerToken, "\r\n"}, {"username", c.Username, "\r\n:"}, {"password", c.Password, "\r\n"},
	} {
		if strings.ContainsAny(f.text, f.not) {
			errs.Add(f.name, "holds a line break or a colon, which cannot be sent", "check where it comes from")
		}
	}
	for _, f := range []struct{ name, path string }{
		{"bearer_token_file", c.BearerTokenFile}, {"password_file", c.PasswordFile},
		{"ca_file", c.CAFile}, {"cert_file", c.CertFile}, {"key_file", c.KeyFile},
	} {
		if f.path != "" && !filepath.IsAbs(f.path) {
			errs.Add(f.name, fmt.Sprintf("%q is not absolute", f.path), "begin it with /")
		}
	}
}

// Answer is what a server said.
type Answer struct {
	Status int
	Type   string // the media type without parameters, in small letters; empty if none was sent
	Body   []byte
}

// Err says why an answer is not one for a program to read; nil when its status is 200.
func (a *Answer) Err() error {
	switch a.Status {
	case http.StatusOK:
		if a.Type == "text/html" || a.Type == "application/xhtml+xml" {
			return errors.New("the server answers with a page for people (HTML): is the address right, or does it ask for a login?")
		}
		return nil
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("the server answers %d %s: check bearer_token, or username and password", a.Status, http.StatusText(a.Status))
	}
	return fmt.Errorf("the server answers %d %s", a.Status, http.StatusText(a.Status))
}

// maxRedirects is how far a server may send one on, within itself.
const maxRedirects = 3

// Get asks for a page. accept is what the caller can read; an answer of more than limit bytes is an error, as is a
// redirect to another server. Errors name the page without its query, and no secret.
func (c *Config) Get(ctx context.Context, address, accept string, limit int64) (*Answer, error) {
	within, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	a, err := c.get(within, address, accept, limit)
	if err == nil {
		return a, nil
	}
	if u, bad := url.Parse(address); bad == nil {
		address = u.Scheme + "://" + u.Host + u.EscapedPath()
	}
	return nil, fmt.Errorf("get %s: %w", address, c.explain(ctx, within, err))
}

// explain says in an operator's words why there is no answer.
func (c *Config) explain(ctx, within context.Context, err error) error {
	if own := new(url.Error); errors.As(err, &own) {
		err = own.Err // the address with its query is in its words
	}
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var dns *net.DNSError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case within.Err() != nil:
		return fmt.Errorf("no complete answer within %s", c.Timeout)
	case errors.Is(err, syscall.ECONNREFUSED):
		return errors.New("the connection is refused: is the server running?")
	case errors.As(err, &dns):
		return fmt.Errorf("the host is not found: %w", dns)
	case errors.As(err, &unknown):
		return fmt.Errorf("%w; write ca_file with the certificate of its authority", err)
	case errors.As(err, &name):
		return fmt.Errorf("%w; write server_name if that is the server", err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return errors.New("the server ended the connection before its answer was complete")
	}
	return err
}

func (c *Config) get(ctx context.Context, address, accept string, limit int64) (*Answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", accept)
	req.Header.Set("User-Agent", "tidemark")
	if err := c.authorize(req); err != nil {
		return nil, err
	}
	trust, err := c.tls()
	if err != nil {
		return nil, err
	}
	client := http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: 64 << 10,
			DialContext: new(net.Dialer).DialContext, TLSClientConfig: trust,
		},
		CheckRedirect: func(next *http.Request, before []*http.Request) error {
			if first := before[0].URL; next.URL.Scheme != first.Scheme || next.URL.Host != first.Host {
				return fmt.Errorf("the server sends on to %s://%s, and only the server of url is asked", next.URL.Scheme, next.URL.Host)
			}
			if len(before) > maxRedirects {
				return errors.New("the server sends on and on")
			}
			return nil
		},
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(body)) > limit {
		return nil, fmt.Errorf("the answer has more than %d bytes, which are not read", limit)
	}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")) // what makes no sense is no type
	return &Answer{Status: resp.StatusCode, Type: kind, Body: body}, nil
}

// authorize puts the secrets into a request.
func (c *Config) authorize(req *http.Request) error {
	token, err := secret(c.BearerToken, c.BearerTokenFile)
	if err != nil {
		return err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if c.Username == "" {
		return nil
	}
	password, err := secret(c.Password, c.PasswordFile)
	req.SetBasicAuth(c.Username, password)
	return err
}

// maxSecret bounds what is read of a file that holds a secret.
const maxSecret = 64 << 10

// secret is what is written, or what the file holds in its only line.
func secret(written, path string) (string, error) {
	if path == "" {
		return written, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSecret))
	if err != nil {
		return "", err
	}
	s := strings.TrimSpace(string(b))
	if s == "" || strings.ContainsAny(s, "\r\n") {
		return "", fmt.Errorf("%s does not hold one line with the secret", path)
	}
	return s, nil
}

// tls reads the certificates anew.
func (c *Config) tls() (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, err
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", c.CAFile)
		}
	}
	if c.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("load cert_file and key_file: %w", err)
		}
		t.Certificates = []tls.Certificate{cert}
	}
	return t, nil
}
