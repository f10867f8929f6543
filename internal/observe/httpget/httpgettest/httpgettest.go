// Package httpgettest is what every source that reads over HTTP must stand: a server that stops, freezes, trickles, breaks off,
// talks rubbish or sends elsewhere. It leaves to each source what a good answer is.
package httpgettest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tidemark/internal/fleet"
	"tidemark/internal/observe/httpget"
)

// Server is an HTTP server whose behaviour can be changed while it runs. It can be stopped and started at its address.
type Server struct {
	t       testing.TB
	good    http.Handler
	addr    string
	behave  atomic.Pointer[http.HandlerFunc] // nil: well
	running *http.Server
	served  chan struct{} // closed when it has ended
	asked   atomic.Int64
}

// Serve starts a server of a good handler, which is stopped at the test's end.
func Serve(t testing.TB, good http.Handler) *Server {
	t.Helper()
	// An address that nobody else uses, so that the port is still free when the server comes back.
	s := &Server{t: t, good: good, addr: "127.0.47.1:0"}
	s.Start()
	t.Cleanup(s.Stop)
	return s
}

// URL is the server's address.
func (s *Server) URL() string { return "http://" + s.addr }

// Asked counts the requests so far.
func (s *Server) Asked() int { return int(s.asked.Load()) }

// Start starts the server unless it runs.
func (s *Server) Start() {
	s.t.Helper()
	if s.running != nil {
		return
	}
	ln, err := net.Listen("tcp4", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.addr = ln.Addr().String()
	running, served := &http.Server{Handler: http.HandlerFunc(s.serve)}, make(chan struct{})
	go func() {
		defer close(served)
		_ = running.Serve(ln) // until it is closed
	}()
	s.running, s.served = running, served
}

// Stop stops the server and breaks off what it was doing.
func (s *Server) Stop() {
	if s.running != nil {
		_ = s.running.Close()
		<-s.served
		s.running = nil
	}
}

// Behave makes the server behave in a way of its own; nil, well again.
func (s *Server) Behave(h http.HandlerFunc) {
	if h == nil {
		s.behave.Store(nil)
		return
	}
	s.behave.Store(&h)
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.asked.Add(1)
	if h := s.behave.Load(); h != nil {
		(*h)(w, r)
		return
	}
	s.good.ServeHTTP(w, r)
}

// Freeze takes requests and never answers.
func Freeze(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// trickle answers a byte at a time, without end.
func trickle(w http.ResponseWriter, r *http.Request) {
	ticks := time.NewTicker(10 * time.Millisecond)
	defer ticks.Stop()
	for {
		select {
		case <-ticks.C:
			_, _ = io.WriteString(w, " ")
			_ = http.NewResponseController(w).Flush()
		case <-r.Context().Done():
			return
		}
	}
}

// flood answers without end, as fast as it can.
func flood(w http.ResponseWriter, _ *http.Request) {
	block := []byte(strings.Repeat(" ", 64<<10))
	for {
		if _, err := w.Write(block); err != nil {
			return
		}
	}
}

// raw answers with bytes of its own, and ends the connection.
func raw(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, text)
		conn.Close()
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func page(kind, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		_, _ = io.WriteString(w, text)
	}
}

// Source is what the loop calls a source.
type Source interface {
	Read(ctx context.Context, scene fleet.Scene) (fleet.Reading, error)
}

// patience is how long a read may take whose own limit is far below.
const patience = 30 * time.Second

// Run shows each fault to a source between two good answers: while it lasts the reading is missing and says why, within bounds; then
// the source recovers by itself. fresh makes a source of a server.
func Run(t *testing.T, good http.Handler, fresh func(url string, server httpget.Config) Source) {
	t.Helper()
	leaks := goleak.IgnoreCurrent()
	short := httpget.DefaultConfig()
	short.Timeout = 300 * time.Millisecond
	for _, c := range []struct {
		name   string
		behave http.HandlerFunc // nil: stopped
		short  bool             // the fault is one of time
		want   string           // in the error; empty: anything
	}{
		{"stopped", nil, false, "is the server running?"},
		{"frozen", Freeze, true, "no complete answer within 300ms"},
		{"trickling", trickle, true, "no complete answer within 300ms"},
		{"flooding", flood, false, "the answer has more than"},
		{"breaking off", raw("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf"), false, "ended the connection"},
		{"hanging up", raw(""), false, "ended the connection"},
		{"no HTTP", raw("\x00\xff\x01 220 mail.moa.example ESMTP\r\n\r\n"), false, ""},
		{"rubbish", page("application/octet-stream", "\x00\xff{]rubbish\x1f\x8b"), false, ""},
		{"empty", page("text/plain", ""), false, ""},
		{"a login page", page("text/html; charset=utf-8", "<html><body>Login</body></html>"), false, "HTML"},
		{"failing", status(http.StatusInternalServerError), false, "the server answers 500 Internal Server Error"},
		{"refusing", status(http.StatusUnauthorized), false, "the server answers 401 Unauthorized: check bearer_token"},
		{"sending elsewhere", http.RedirectHandler("http://192.0.2.1/", http.StatusFound).ServeHTTP, false, "sends on to http://192.0.2.1, and only the server of url is asked"},
		{"sending in a circle", http.RedirectHandler("/again", http.StatusFound).ServeHTTP, false, "sends on and on"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := Serve(t, good)
			long := httpget.DefaultConfig()
			long.Timeout = 5 * time.Second
			if c.short {
				long = short
			}
			src, now := fresh(s.URL(), long), time.Date(2027, 3, 1, 6, 0, 0, 0, time.UTC)
			read := func() (fleet.Reading, error) {
				now = now.Add(15 * time.Second)
				start := time.Now()
				r, err := src.Read(t.Context(), fleet.Scene{Now: now, WorkersKnown: true})
				if took := time.Since(start); took > patience {
					t.Errorf("it took %v", took)
				}
				return r, err
			}
			for range 2 {
				if err := soon(read); err != nil {
					t.Fatal(err)
				}
				if s.Behave(c.behave); c.behave == nil {
					s.Stop()
				}
				for range 2 {
					r, err := read()
					if err == nil || r.Quality != fleet.Missing || !strings.Contains(err.Error(), c.want) {
						t.Fatalf("%v, %v; want it missing, for %q", r, err, c.want)
					}
				}
				s.Behave(nil)
				s.Start()
			}
			if err := soon(read); err != nil {
				t.Fatal(err)
			}
		})
	}
	goleak.VerifyNone(t, leaks, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait")) // which lingers longer than goleak waits
}

// soon reads until there is a figure. A busy machine may need longer than a source's limit.
func soon(read func() (fleet.Reading, error)) error {
	for deadline := time.Now().Add(patience); ; {
		r, err := read()
		if err == nil && r.Quality == fleet.Fresh {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("no figure: %v, %w", r, err)
		}
	}
}
