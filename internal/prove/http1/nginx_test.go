package http1

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tidemark/internal/prove/shape"
	"tidemark/test/servers"
)

// What nginx answers is read as net/http reads it: bodies of a known length and in chunks, plain and compressed, none, refusals, and
// connections that it closes after every fourth request; over TCP, TLS, and a phone's network.
func TestNginx(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: starts an nginx")
	}
	dir, secure := t.TempDir(), servers.FreePort(t)
	for _, d := range []string{filepath.Dir(dir), dir} { // nginx may run as somebody else
		if err := os.Chmod(d, 0o755); err != nil { //nolint:gosec // a test's certificate is no secret
			t.Fatal(err)
		}
	}
	trusted := certificate(t, dir)
	web := servers.Nginx(t, "'$request'", fmt.Sprintf(`
		listen 127.0.0.1:%d ssl; ssl_certificate %[2]s/cert.pem; ssl_certificate_key %[2]s/key.pem;
		keepalive_requests 4; client_max_body_size 100k; gzip on; gzip_types text/plain; gzip_min_length 100;
		location = /none { return 204; }
		location = /moved { return 302 /small; }
		location = /broken { return 503 "later"; }
		location = /take { return 200 "taken"; }
		location = /closed { return 444; }`, secure, dir))
	web.Write("small", "hello")
	web.Write("big", strings.Repeat("0123456789abcdef", 20_000))
	theirs := &http.Transport{TLSClientConfig: trusted, DisableCompression: true}
	defer theirs.CloseIdleConnections()
	phone := shape.New(shape.Profile{Down: 50e6, Up: 50e6, RTT: 4 * time.Millisecond, Jitter: time.Millisecond, Loss: 0.01}, 1, nil)
	defer phone.Close()
	for name, c := range map[string]struct {
		url  string
		dial DialFunc
	}{
		"TCP": {web.URL(""), nil}, "TLS": {fmt.Sprintf("https://127.0.0.1:%d", secure), nil},
		"phone": {web.URL(""), phone.DialContext}, "phone with TLS": {fmt.Sprintf("https://127.0.0.1:%d", secure), phone.DialContext},
	} {
		t.Run(name, func(t *testing.T) {
			var dials atomic.Int64
			dial := counting(&dials)
			if c.dial != nil {
				dial = c.dial
			}
			ours := client(t, c.url, trusted.Clone(), dial)
			asked := 0
			for _, r := range []struct {
				method, path string
				fields       []Field
				body         string
			}{
				{"GET", "/small", nil, ""}, {"HEAD", "/small", nil, ""}, {"GET", "/big", nil, ""}, {"HEAD", "/big", nil, ""},
				{"GET", "/big", []Field{{"Accept-Encoding", "gzip"}}, ""}, {"GET", "/big", []Field{{"Range", "bytes=10-19"}}, ""},
				{"GET", "/small", []Field{{"If-Modified-Since", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)}}, ""},
				{"GET", "/none", nil, ""}, {"GET", "/moved", nil, ""}, {"GET", "/broken", nil, ""}, {"GET", "/nowhere", nil, ""},
				{"GET", "/small", []Field{{"Connection", "close"}}, ""}, {"POST", "/take", nil, "a body"}, {"POST", "/take", nil, strings.Repeat("x", 50_000)},
				{"PUT", "/take", nil, ""}, {"POST", "/small", nil, "not for files"}, {"POST", "/small", nil, strings.Repeat("x", 200_000)}, {"GET", "/small", nil, ""},
			} {
				name := fmt.Sprintf("%s %s %v", r.method, r.path, r.fields)
				asked++
				resp, err := ours.Do(t.Context(), time.Now().Add(10*time.Second), &Request{r.method, r.path, r.fields, []byte(r.body)})
				if err != nil {
					t.Errorf("%s: %v", name, err)
					continue
				}
				got, err := io.ReadAll(resp)
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
				req, err := http.NewRequestWithContext(t.Context(), r.method, c.url+r.path, strings.NewReader(r.body))
				if err != nil {
					t.Fatal(err)
				}
				for _, f := range r.fields {
					req.Header.Set(f.Name, f.Value)
				}
				want, err := theirs.RoundTrip(req)
				if err != nil {
					t.Errorf("%s: net/http: %v", name, err)
					continue
				}
				body, err := io.ReadAll(want.Body)
				want.Body.Close()
				if err != nil || resp.Status != want.StatusCode || !bytes.Equal(got, body) {
					t.Errorf("%s: %d and %d bytes, by net/http %d and %d, %v", name, resp.Status, len(got), want.StatusCode, len(body), err)
				}
				for _, header := range []string{"Content-Length", "Content-Encoding", "Transfer-Encoding", "Location", "Etag"} {
					theirs := want.Header.Get(header)
					if header == "Transfer-Encoding" {
						theirs = strings.Join(want.TransferEncoding, "")
					}
					if resp.Get(header) != theirs {
						t.Errorf("%s: %s is %q, by net/http %q", name, header, resp.Get(header), theirs)
					}
				}
			}
			if _, err := ours.Do(t.Context(), time.Now().Add(10*time.Second), &Request{Method: "GET", Target: "/closed"}); err == nil {
				t.Error("an answer where nginx gives none")
			}
			if n := int(dials.Load()); c.dial == nil && (n < asked/4 || n > asked/2) {
				t.Errorf("%d connections for %d requests, and nginx keeps one for four", n, asked)
			}
		})
	}
}

// certificate writes one for 127.0.0.1, and returns who trusts it.
func certificate(t *testing.T, dir string) *tls.Config {
	t.Helper()
	srv := httptest.NewTLSServer(http.NotFoundHandler())
	defer srv.Close()
	own := srv.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(own.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: own.Certificate[0]}, "key.pem": {Type: "PRIVATE KEY", Bytes: key}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AddCert(srv.Certificate())
	return &tls.Config{RootCAs: pool}
}
