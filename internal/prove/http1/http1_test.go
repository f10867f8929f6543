package http1

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// messages are answers of every shape that a server can give.
func messages() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/length", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })
	mux.HandleFunc("/empty", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/none", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("/same", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) })
	mux.HandleFunc("/redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/length", http.StatusFound) })
	mux.HandleFunc("/chunks", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		for i := range 3 {
			fmt.Fprint(w, strings.Repeat(fmt.Sprint(i), 5000))
			w.(http.Flusher).Flush()
		}
		w.Header().Set("X-Sum", "15000")
	})
	mux.HandleFunc("/last", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		io.WriteString(w, "goodbye")
	})
	mux.HandleFunc("/hints", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		io.WriteString(w, "after the hints")
	})
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	mux.HandleFunc("/fields", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Told", r.Header.Get("X-Sent")+" "+r.Host[:9])
		w.Header()["X-Many"] = []string{"a", "b, c"}
	})
	mux.HandleFunc("/refuse", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "too large", http.StatusRequestEntityTooLarge)
	})
	mux.HandleFunc("/raw", func(w http.ResponseWriter, _ *http.Request) { // as HTTP/1.0: the body ends with the connection
		c, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			io.WriteString(c, "HTTP/1.0 200 OK\r\n\r\nuntil the end")
			c.Close()
		}
	})
	return mux
}

type answer struct {
	status       int
	body, header string
}

func client(t testing.TB, server string, secure *tls.Config, dial DialFunc) *Client {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	c := New(u, secure, dial)
	t.Cleanup(c.Close)
	return c
}

func ask(ctx context.Context, c *Client, method, target, body string) (answer, error) {
	resp, err := c.Do(ctx, time.Now().Add(10*time.Second), &Request{Method: method, Target: target, Body: []byte(body), Fields: []Field{{"X-Sent", "by us"}}})
	if err != nil {
		return answer{}, err
	}
	b, err := io.ReadAll(resp)
	return answer{resp.Status, string(b), resp.Get("x-TOLD") + "/" + strings.Join(resp.All("X-Many"), ",")}, err
}

// Whatever net/http makes of an answer this makes of it too, over plain connections and TLS.
func TestAsNetHTTP(t *testing.T) {
	for name, start := range map[string]func(http.Handler) *httptest.Server{"http": httptest.NewServer, "https": httptest.NewTLSServer} {
		t.Run(name, func(t *testing.T) {
			srv := start(messages())
			defer srv.Close()
			theirs := srv.Client().Transport.(*http.Transport)
			theirs.DisableCompression = true
			ours := client(t, srv.URL, theirs.TLSClientConfig.Clone(), nil)
			for _, path := range []string{"/length", "/empty", "/none", "/same", "/redirect", "/chunks", "/last", "/hints", "/echo", "/fields", "/raw", "/nothing", "/length?q=%20x"} {
				for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
					if path == "/raw" && method == http.MethodHead {
						continue
					}
					body := ""
					if method == http.MethodPost {
						body = "a body"
					}
					for range 2 { // the second on what the first left behind
						got, err := ask(t.Context(), ours, method, path, body)
						if err != nil {
							t.Fatalf("%s %s: %v", method, path, err)
						}
						req, err := http.NewRequestWithContext(t.Context(), method, srv.URL+path, strings.NewReader(body))
						if err != nil {
							t.Fatal(err)
						}
						req.Header.Set("X-Sent", "by us")
						resp, err := theirs.RoundTrip(req)
						if err != nil {
							t.Fatalf("%s %s: %v", method, path, err)
						}
						b, err := io.ReadAll(resp.Body)
						resp.Body.Close()
						if want := (answer{resp.StatusCode, string(b), resp.Header.Get("X-Told") + "/" + strings.Join(resp.Header.Values("X-Many"), ",")}); err != nil || got != want {
							t.Errorf("%s %s: %+v, by net/http %+v, %v", method, path, got, want, err)
						}
					}
				}
			}
		})
	}
}

// counting counts the connections that are opened.
func counting(n *atomic.Int64) DialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		n.Add(1)
		return new(net.Dialer).DialContext(ctx, network, address)
	}
}

func TestConnectionsAreKept(t *testing.T) {
	var dials atomic.Int64
	srv := httptest.NewServer(messages())
	defer srv.Close()
	c := client(t, srv.URL, nil, counting(&dials))
	get := func(path string) {
		t.Helper()
		if _, err := ask(t.Context(), c, http.MethodGet, path, ""); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"/length", "/chunks", "/none", "/hints", "/length"} {
		get(path)
	}
	if n := dials.Load(); n != 1 {
		t.Errorf("%d connections for five requests in turn", n)
	}
	get("/last") // the server closes this one
	get("/length")
	if n := dials.Load(); n != 2 {
		t.Errorf("%d connections, after one was closed by the server", n)
	}
	if _, err := c.Do(t.Context(), time.Now().Add(10*time.Second), &Request{Method: http.MethodGet, Target: "/chunks"}); err != nil {
		t.Fatal(err)
	}
	get("/length") // the answer before was not read: its connection is not to be used again
	if n := dials.Load(); n != 3 {
		t.Errorf("%d connections, after an answer that was not read", n)
	}
}

// A kept connection that the server has closed is noticed: what may be repeated is repeated, and after a while the
// connection is looked at first, so that a POST does not meet it either.
func TestStaleConnections(t *testing.T) {
	srv := httptest.NewServer(messages())
	defer srv.Close()
	c := client(t, srv.URL, nil, nil)
	send := func(method string) error {
		got, err := ask(t.Context(), c, method, "/echo", "x")
		if err == nil && got.body != "x" {
			err = fmt.Errorf("%+v", got)
		}
		return err
	}
	if err := send(http.MethodPost); err != nil {
		t.Fatal(err)
	}
	srv.CloseClientConnections()
	if err := send(http.MethodPut); err != nil {
		t.Errorf("PUT after the server closed its connections: %v", err)
	}
	srv.CloseClientConnections()
	if err := send(http.MethodPost); !errors.Is(err, ErrSilent) {
		t.Errorf("POST at once: %v; it may have been carried out", err)
	}
	if err := send(http.MethodPost); err != nil {
		t.Fatal(err)
	}
	srv.CloseClientConnections()
	c.since = c.since.Add(-suspect)
	if err := send(http.MethodPost); err != nil {
		t.Errorf("POST after a while: %v", err)
	}
}

// A user's first handshake is a full one, and when it connects again it resumes its own session, as browsers and apps do: never another's.
func TestSessionsAreResumed(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			var states []tls.ConnectionState
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { states = append(states, *r.TLS) }))
			srv.TLS = &tls.Config{MaxVersion: version}
			srv.StartTLS()
			defer srv.Close()
			trust := srv.Client().Transport.(*http.Transport).TLSClientConfig
			for range 2 { // users
				c := client(t, srv.URL, trust, nil)
				for range 2 {
					if _, err := ask(t.Context(), c, http.MethodGet, "/", ""); err != nil {
						t.Fatal(err)
					}
					c.Close()
				}
			}
			for i, s := range states {
				if s.DidResume != (i%2 == 1) || s.NegotiatedProtocol != "http/1.1" || s.ServerName != "" {
					t.Errorf("handshake %d: resumed %t, protocol %q, server %q", i, s.DidResume, s.NegotiatedProtocol, s.ServerName)
				}
			}
			if len(states) != 4 {
				t.Errorf("%d requests", len(states))
			}
		})
	}
}

// A server that refuses a large body at its first byte is heard, whether or not it takes the rest.
func TestEarlyAnswer(t *testing.T) {
	srv := httptest.NewServer(messages())
	defer srv.Close()
	c := client(t, srv.URL, nil, nil)
	heard := 0
	for range 5 {
		if got, err := ask(t.Context(), c, http.MethodPost, "/refuse", strings.Repeat("x", 200<<10)); err == nil && got.status == http.StatusRequestEntityTooLarge {
			heard++
		}
	}
	if heard != 5 {
		t.Errorf("%d of 5 refusals heard", heard)
	}
}

func TestLargeBodyAndAnswer(t *testing.T) {
	srv := httptest.NewServer(messages())
	defer srv.Close()
	c := client(t, srv.URL, nil, nil)
	want := strings.Repeat("0123456789abcdef", 20_000)
	if got, err := ask(t.Context(), c, http.MethodPost, "/echo", want); err != nil || got.body != want {
		t.Errorf("%d bytes came back of %d: %v", len(got.body), len(want), err)
	}
}

func TestContextAndDeadline(t *testing.T) {
	release := make(chan struct{})
	reached := make(chan struct{}, 10)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/half" {
			fmt.Fprint(w, "half")
			w.(http.Flusher).Flush()
		}
		if r.URL.Path != "/whole" {
			reached <- struct{}{}
			<-release
		}
	}))
	defer srv.Close()
	defer close(release)
	c := client(t, srv.URL, nil, nil)
	for _, path := range []string{"/none", "/half"} {
		for _, kept := range []bool{false, true} {
			if kept {
				if _, err := ask(t.Context(), c, http.MethodGet, "/whole", ""); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				<-reached
				cancel()
			}()
			if _, err := ask(ctx, c, http.MethodGet, path, ""); !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", path, err)
			}
			if _, err := ask(ctx, c, http.MethodGet, "/whole", ""); !errors.Is(err, context.Canceled) {
				t.Errorf("%s, ended before: %v", path, err)
			}
		}
		resp, err := c.Do(t.Context(), time.Now().Add(20*time.Millisecond), &Request{Method: http.MethodGet, Target: path})
		if err == nil {
			_, err = io.ReadAll(resp)
		}
		<-reached
		if !late(err) {
			t.Errorf("%s: %v after its deadline", path, err)
		}
	}
}

func TestRequestsThatAreNone(t *testing.T) {
	c := client(t, "http://127.0.0.1:1", nil, func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("dialled") })
	for _, r := range []*Request{{Method: "GET"}, {Method: "GET", Target: "/a b"}, {Method: "GET", Target: "/\r\nX: y"}, {Method: "GET", Target: "/", Fields: []Field{{"X", "a\r\nY: b"}}}} {
		if _, err := c.Do(t.Context(), time.Now().Add(time.Second), r); err == nil || err.Error() == "dialled" {
			t.Errorf("%+v: %v", r, err)
		}
	}
	if _, err := client(t, "ftp://127.0.0.1", nil, nil).Do(t.Context(), time.Now().Add(time.Second), &Request{Method: "GET", Target: "/"}); err == nil {
		t.Error("ftp is taken")
	}
}

// canned is a connection on which these bytes come, and then its end.
type canned struct {
	net.Conn
	*strings.Reader
}

func (c canned) Read(p []byte) (int, error)  { return c.Reader.Read(p) }
func (c canned) Write(p []byte) (int, error) { return len(p), nil }
func (c canned) SetDeadline(time.Time) error { return nil }
func (c canned) Close() error                { return nil }

// answered is what comes of these bytes.
func answered(t testing.TB, method, text string) (answer, error) {
	return ask(t.Context(), client(t, "http://127.0.0.1:80", nil, func(context.Context, string, string) (net.Conn, error) {
		return canned{Reader: strings.NewReader(text)}, nil
	}), method, "/", "")
}

func TestMalformedAnswers(t *testing.T) {
	for name, text := range map[string]string{
		"another protocol": "SSH-2.0-OpenSSH\r\n\r\n", "another version": "HTTP/2.0 200 OK\r\n\r\n", "no status": "HTTP/1.1 2x0 OK\r\n\r\n", "status below 100": "HTTP/1.1 099 x\r\n\r\n",
		"no colon": "HTTP/1.1 200 OK\r\nnothing\r\n\r\n", "a folded line": "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", "a blank in a name": "HTTP/1.1 200 OK\r\nA b: c\r\n\r\n",
		"negative length": "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "two lengths": "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
		"another encoding": "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "too short": "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", "no end of the header": "HTTP/1.1 200 OK\r\nA: b\r\n",
		"a trailer without a colon": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n0\r\n\r\n", "chunks cut": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", "no end of the chunks": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n",
		"an endless header": "HTTP/1.1 200 OK\r\n" + strings.Repeat("A: "+strings.Repeat("b", 1000)+"\r\n", 300) + "\r\n", "only hints": strings.Repeat("HTTP/1.1 103 Early\r\n\r\n", 10), "nothing": "",
	} {
		if got, err := answered(t, http.MethodGet, text); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// What a server says unasked is nobody's answer.
func TestUnaskedAnswer(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nright"+"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong")
		io.Copy(io.Discard, c)
	}))
	defer srv.Close()
	c := client(t, srv.URL, nil, nil)
	for range 2 {
		if got, err := ask(t.Context(), c, http.MethodGet, "/", ""); err != nil || got.body != "right" {
			t.Errorf("%+v, %v", got, err)
		}
	}
	c.Close()
}

// What is taken for an answer net/http takes too, and it says the same.
func FuzzAnswer(f *testing.F) {
	for _, text := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Told: a\r\n\r\nhello", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n", "HTTP/1.0 404 \r\n\r\nto the end",
		"HTTP/1.1 204 None\r\nX-Many: a\r\nX-Many:  b \r\nConnection: close\r\n\r\n", "HTTP/1.1 103 Hints\nLink: x\n\nHTTP/1.1 302 F\nLocation: /\nContent-Length: 0\n\n", "HTTP/1.1 200 \r\r\n\n",
		"HTTP/1.0 200 OK\nTransfer-Encoding: chunked\n\n0\r\n\r\n",
		"HTTP/1.1 200\r\nContent-Length: 3\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\na\r\n0\r\n\r\n",
	} {
		f.Add(text, false)
		f.Add(text, true)
	}
	f.Fuzz(func(t *testing.T, text string, head bool) {
		method := map[bool]string{false: http.MethodGet, true: http.MethodHead}[head]
		got, err := answered(t, method, text)
		if err != nil {
			return
		}
		r := bufio.NewReader(strings.NewReader(text))
		resp, err := http.ReadResponse(r, &http.Request{Method: method}) //nolint:bodyclose // it is in memory
		for err == nil && resp.StatusCode < 200 && resp.StatusCode != http.StatusSwitchingProtocols {
			resp, err = http.ReadResponse(r, &http.Request{Method: method}) //nolint:bodyclose // it is in memory
		}
		if err != nil {
			t.Fatalf("%+v, and net/http: %v", got, err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil && strings.Contains(err.Error(), "trailer") {
			return // there net/http insists on \r before \n
		}
		if err != nil || resp.StatusCode != got.status || string(body) != got.body {
			t.Errorf("%+v, and net/http %d %q, %v", got, resp.StatusCode, body, err)
		}
	})
}
