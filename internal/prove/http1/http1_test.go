package http1

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
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
	status, length int
	body, trailer  string
}

func ask(rt http.RoundTripper, req *http.Request) (answer, error) {
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, int(resp.ContentLength), string(b), resp.Trailer.Get("X-Sum")}, err
}

// Whatever net/http makes of an answer this makes of it too, over plain connections and TLS.
func TestAsNetHTTP(t *testing.T) {
	for name, start := range map[string]func(http.Handler) *httptest.Server{"http": httptest.NewServer, "https": httptest.NewTLSServer} {
		t.Run(name, func(t *testing.T) {
			srv := start(messages())
			defer srv.Close()
			theirs := srv.Client().Transport.(*http.Transport)
			theirs.DisableCompression = true
			ours := &Transport{TLS: theirs.TLSClientConfig.Clone()}
			defer ours.CloseIdleConnections()
			for _, path := range []string{"/length", "/empty", "/none", "/same", "/redirect", "/chunks", "/last", "/hints", "/echo", "/raw", "/nothing"} {
				for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
					if path == "/raw" && method == http.MethodHead {
						continue
					}
					for range 2 { // the second on what the first left behind
						var got [2]answer
						for i, rt := range []http.RoundTripper{ours, theirs} {
							var body io.Reader = http.NoBody
							if method == http.MethodPost {
								body = strings.NewReader("a body")
							}
							req, err := http.NewRequestWithContext(t.Context(), method, srv.URL+path, body)
							if err != nil {
								t.Fatal(err)
							}
							if got[i], err = ask(rt, req); err != nil {
								t.Fatalf("%s %s: %v", method, path, err)
							}
						}
						if got[0] != got[1] {
							t.Errorf("%s %s: %+v, by net/http %+v", method, path, got[0], got[1])
						}
					}
				}
			}
		})
	}
}

func TestConnectionsAreKept(t *testing.T) {
	var dials atomic.Int64
	srv := httptest.NewServer(messages())
	defer srv.Close()
	tr := &Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		dials.Add(1)
		return new(net.Dialer).DialContext(ctx, network, address)
	}}
	defer tr.CloseIdleConnections()
	get := func(path string) {
		t.Helper()
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+path, http.NoBody)
		if _, err := ask(tr, req); err != nil {
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
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+"/chunks", http.NoBody)
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close() // unread: not to be used again
	get("/length")
	if n := dials.Load(); n != 3 {
		t.Errorf("%d connections, after an answer that was not read", n)
	}
}

// A kept connection that the server has closed is noticed: what may be repeated is repeated, and after a while the
// connection is looked at first, so that a POST does not meet it either.
func TestStaleConnections(t *testing.T) {
	srv := httptest.NewServer(messages())
	defer srv.Close()
	tr := &Transport{}
	defer tr.CloseIdleConnections()
	send := func(method string) error {
		req, _ := http.NewRequestWithContext(t.Context(), method, srv.URL+"/echo", strings.NewReader("x"))
		got, err := ask(tr, req)
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
	for _, list := range tr.idle {
		for _, c := range list {
			c.since = c.since.Add(-suspect)
		}
	}
	if err := send(http.MethodPost); err != nil {
		t.Errorf("POST after a while: %v", err)
	}
}

// A server that refuses a large body at its first byte is heard, whether or not it takes the rest.
func TestEarlyAnswer(t *testing.T) {
	srv := httptest.NewServer(messages())
	defer srv.Close()
	tr := &Transport{}
	defer tr.CloseIdleConnections()
	heard := 0
	for range 5 {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+"/refuse", bytes.NewReader(make([]byte, 200<<10)))
		if got, err := ask(tr, req); err == nil && got.status == http.StatusRequestEntityTooLarge {
			heard++
		}
	}
	if heard != 5 {
		t.Errorf("%d of 5 refusals heard", heard)
	}
}

func TestContextEnds(t *testing.T) {
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/half" {
			fmt.Fprint(w, "half")
			w.(http.Flusher).Flush()
		}
		<-release
	}))
	defer srv.Close()
	defer close(release)
	tr := &Transport{}
	defer tr.CloseIdleConnections()
	for _, path := range []string{"/none", "/half"} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL+path, http.NoBody)
		if _, err := ask(tr, req); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", path, err)
		}
		cancel()
	}
}

func TestManyAtOnce(t *testing.T) {
	srv := httptest.NewServer(messages())
	defer srv.Close()
	tr := &Transport{}
	defer tr.CloseIdleConnections()
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			for j := range 20 {
				want := fmt.Sprintf("%d of %d", j, i)
				req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+"/echo", strings.NewReader(want))
				if got, err := ask(tr, req); err != nil || got.body != want {
					t.Errorf("%+v, %v; want %q", got, err, want)
				}
			}
		})
	}
	wg.Wait()
}
