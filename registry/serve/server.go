// Package serve is a worker: it answers one request at a time from one listening socket, as an Odoo worker does, and
// stops without losing one.
//
// Requests that it has no hand free for wait in the kernel's accept queue, where siblings that share the socket can
// take them and where anyone can count them. Each connection carries one request: on a connection kept open, the
// worker would wait for its next request while others queue.
package serve

import (
	"errors"
	"log"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// headerTime is how long a connection that says nothing may hold the worker, as in Odoo.
	headerTime = 2 * time.Second
	// readTime is how long the whole request may take to arrive.
	readTime = 10 * time.Second
	// writeTime is how long an answer may take to be made and fetched.
	writeTime = 2 * time.Minute
	// quiet is how long the accept queue must stay empty for Drain to call it so.
	quiet = 20 * time.Millisecond
)

// Listener is a socket whose Accept can be given a deadline: a *net.TCPListener or *net.UnixListener.
type Listener interface {
	net.Listener
	SetDeadline(time.Time) error
}

// Server is one worker. Run it once.
type Server struct {
	http    http.Server
	gate    gate
	givenUp atomic.Bool
}

// New returns a worker on ln. busy, which may be nil, hears when a request begins (true) and ends (false). It ends
// with its connection: the answer has then left the process.
func New(ln Listener, h http.Handler, logger *log.Logger, busy func(bool)) *Server {
	if busy == nil {
		busy = func(bool) {}
	}
	s := &Server{
		http: http.Server{Handler: h, ReadHeaderTimeout: headerTime, ReadTimeout: readTime, WriteTimeout: writeTime,
			MaxHeaderBytes: 16 << 10, ErrorLog: logger},
		gate: gate{Listener: ln, hand: make(chan struct{}, 1), busy: busy},
	}
	s.http.SetKeepAlivesEnabled(false)
	return s
}

// Run serves until Stop, or until the socket fails, and closes the socket. When it returns nil, every connection that
// it accepted has been answered.
func (s *Server) Run() error {
	// The gate accepts, or refuses to, only when the connection before is closed: once Serve returns, nothing is in
	// progress.
	err := s.http.Serve(&s.gate)
	switch {
	case s.givenUp.Load():
		err = errors.New("a request took too long to finish and was given up")
	case errors.Is(err, errStopped):
		err = nil
	}
	return errors.Join(err, s.gate.Listener.Close())
}

// Stop makes Run finish the request in hand and return. It first answers what waits in the accept queue, until that is
// empty or drain is over: the last one to use a socket takes the queue with it, but a worker whose siblings serve the
// same socket leaves with a drain of 0. A request still in progress after grace is given up. Stop does not wait.
func (s *Server) Stop(drain, grace time.Duration) {
	until := time.Now().Add(drain)
	s.gate.stopping.Store(&until)
	_ = s.gate.SetDeadline(time.Now()) // wakes an Accept in progress; a closed socket has none
	time.AfterFunc(grace, func() {
		now := time.Now()
		s.gate.stopping.Store(&now)
		if c := s.gate.current.Load(); c != nil {
			s.givenUp.Store(true)
			_ = c.Close()
		}
	})
}

// gate is a listener that accepts a connection only when the one before is closed.
type gate struct {
	Listener
	hand     chan struct{}             // held from before accepting a connection until it is closed
	stopping atomic.Pointer[time.Time] // nil while serving; then connections are accepted before this time only
	current  atomic.Pointer[held]      // the connection in hand, or nil
	busy     func(bool)
}

var errStopped = errors.New("the worker was told to stop")

func (g *gate) Accept() (net.Conn, error) {
	g.hand <- struct{}{}
	conn, err := g.accept()
	if err != nil {
		<-g.hand
		return nil, err
	}
	g.busy(true)
	h := &held{Conn: conn, release: sync.OnceFunc(func() {
		g.busy(false)
		g.current.Store(nil)
		<-g.hand
	})}
	g.current.Store(h)
	return h, nil
}

func (g *gate) accept() (net.Conn, error) {
	for {
		until := g.stopping.Load()
		var deadline time.Time
		if until != nil {
			now := time.Now()
			if !now.Before(*until) {
				return nil, errStopped
			}
			deadline = now.Add(quiet)
			if err := g.SetDeadline(deadline); err != nil {
				return nil, err
			}
		}
		conn, err := g.Listener.Accept()
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return conn, err
		}
		// Either Stop woke us, perhaps after we had set our own deadline, or nobody came for a quiet time.
		if until != nil && !time.Now().Before(deadline) {
			return nil, errStopped
		}
	}
}

// Close is for http.Server, which closes what it serves; Run closes the socket itself, at the end.
func (g *gate) Close() error { return nil }

// held is a connection that keeps the worker's hand until it is closed.
type held struct {
	net.Conn
	release func()
}

func (h *held) Close() error {
	defer h.release()
	return h.Conn.Close()
}

// CloseWrite lets http.Server end an answer to a client that is still sending, so that the client reads it.
func (h *held) CloseWrite() error {
	if c, ok := h.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}
