// Package wiretest holds what tests of connections need beside real servers: a server that answers as the test says, and a
// relay that is slow, hangs or goes away. Only tests import it.
package wiretest

import (
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// Server speaks the protocol and knows the answers that it was given. Like PgBouncer's console it refuses the extended protocol.
type Server struct {
	URL string

	ln      net.Listener
	wg      sync.WaitGroup
	mu      sync.Mutex
	conns   map[net.Conn]bool
	asked   map[string]int
	dialled int
	version string
	answers map[string][][]string
	rubbish []byte
}

// New starts a server that says it is of a version.
func New(t testing.TB, version string) *Server {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{
		URL: fmt.Sprintf("postgres://stats:geheim@%s/pgbouncer?sslmode=disable", ln.Addr()), ln: ln,
		conns: map[net.Conn]bool{}, asked: map[string]int{}, version: version, answers: map[string][][]string{},
	}
	s.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns[c] = true
			s.dialled++
			s.mu.Unlock()
			s.wg.Go(func() { s.serve(c) })
		}
	})
	t.Cleanup(func() { ln.Close(); s.Drop(); s.wg.Wait() })
	return s
}

// Set makes the server answer a statement: the first row names the columns, NULL is NULL.
func (s *Server) Set(statement string, rows ...[]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[statement] = rows
}

// Become is another version from the next connection on; those there are, are closed.
func (s *Server) Become(version string) {
	s.mu.Lock()
	s.version = version
	s.mu.Unlock()
	s.Drop()
}

// Rubbish makes the server answer each connection and each statement with these bytes; nil ends it.
func (s *Server) Rubbish(b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rubbish = b
}

// Drop closes all connections.
func (s *Server) Drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.Close()
	}
}

// Port is where the server listens.
func (s *Server) Port() int { return s.ln.Addr().(*net.TCPAddr).Port }

// Asked is how often a statement was asked.
func (s *Server) Asked(statement string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[statement]
}

// Dialled is how many connections there were and how many there are.
func (s *Server) Dialled() (ever, now int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dialled, len(s.conns)
}

func (s *Server) serve(c net.Conn) {
	defer func() {
		c.Close()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}()
	b := pgproto3.NewBackend(c, c)
	if _, err := b.ReceiveStartupMessage(); err != nil {
		return
	}
	if s.nonsense(c) {
		return
	}
	s.mu.Lock()
	version := s.version
	s.mu.Unlock()
	b.Send(&pgproto3.AuthenticationOk{})
	b.Send(&pgproto3.ParameterStatus{Name: "server_version", Value: version})
	b.Send(&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte{0, 0, 0, 1}})
	b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	for b.Flush() == nil {
		m, err := b.Receive()
		if err != nil {
			return
		}
		switch m := m.(type) {
		case *pgproto3.Query:
			if s.nonsense(c) {
				return
			}
			s.answer(b, m.String)
		case *pgproto3.Terminate:
			return
		default:
			b.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "08P01", Message: "extended query protocol not supported by admin console"})
			_ = b.Flush()
			return
		}
	}
}

// nonsense sends rubbish, and holds the connection until the client gives up.
func (s *Server) nonsense(c net.Conn) bool {
	s.mu.Lock()
	rubbish := s.rubbish
	s.mu.Unlock()
	if rubbish == nil {
		return false
	}
	_, _ = c.Write(rubbish)
	_, _ = io.Copy(io.Discard, c)
	return true
}

func (s *Server) answer(b *pgproto3.Backend, statement string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked[statement]++
	rows, ok := s.answers[statement]
	if !ok {
		b.Send(&pgproto3.ErrorResponse{Severity: "ERROR", Code: "08P01", Message: "unsupported: " + statement})
		b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		return
	}
	var head pgproto3.RowDescription
	for _, name := range rows[0] {
		head.Fields = append(head.Fields, pgproto3.FieldDescription{Name: []byte(name), DataTypeOID: 25, DataTypeSize: -1, TypeModifier: -1})
	}
	b.Send(&head)
	for _, row := range rows[1:] {
		var data pgproto3.DataRow
		for _, v := range row {
			if v == "NULL" {
				data.Values = append(data.Values, nil)
			} else {
				data.Values = append(data.Values, []byte(v))
			}
		}
		b.Send(&data)
	}
	b.Send(&pgproto3.CommandComplete{CommandTag: []byte("SHOW")})
	b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
}

// Relay stands before a server, and makes it slow, silent or gone.
type Relay struct {
	Port int

	ln   net.Listener
	to   string
	wg   sync.WaitGroup
	mu   sync.Mutex
	seen int
	gone bool
	late time.Duration
	held chan struct{} // closed when what the server says goes on
	ends map[net.Conn]bool
}

// NewRelay starts a relay to a port of this machine.
func NewRelay(t testing.TB, port int) *Relay {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &Relay{Port: ln.Addr().(*net.TCPAddr).Port, ln: ln, to: fmt.Sprint("127.0.0.1:", port), ends: map[net.Conn]bool{}}
	r.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			r.wg.Go(func() { r.join(c) })
		}
	})
	t.Cleanup(func() { ln.Close(); r.Leave(); r.wg.Wait() })
	return r
}

// Delay makes each message of the server wait.
func (r *Relay) Delay(d time.Duration) { r.mu.Lock(); defer r.mu.Unlock(); r.late = d }

// Hold keeps back what the server says until release is called.
func (r *Relay) Hold() (release func()) {
	held := make(chan struct{})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held = held
	return sync.OnceFunc(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.held = nil
		close(held)
	})
}

// Leave closes all connections and those that are made from now on, until Return.
func (r *Relay) Leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gone = true
	for c := range r.ends {
		c.Close()
	}
}

// Return ends Leave.
func (r *Relay) Return() { r.mu.Lock(); defer r.mu.Unlock(); r.gone = false }

// Joined is how many connections were tried, also while the relay was gone.
func (r *Relay) Joined() int { r.mu.Lock(); defer r.mu.Unlock(); return r.seen }

// Settle waits until no connection is left, and reports whether that came to pass.
func (r *Relay) Settle(within time.Duration) bool {
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(time.Millisecond) {
		r.mu.Lock()
		n := len(r.ends)
		r.mu.Unlock()
		if n == 0 {
			return true
		}
	}
	return false
}

// enter notes both ends of a connection; false when the relay is gone.
func (r *Relay) enter(ends ...net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range ends {
		r.ends[c] = true
	}
	r.seen++
	return !r.gone
}

func (r *Relay) leave(ends ...net.Conn) {
	for _, c := range ends {
		c.Close()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range ends {
		delete(r.ends, c)
	}
}

func (r *Relay) join(client net.Conn) {
	server, err := net.Dial("tcp", r.to)
	if err != nil {
		client.Close()
		return
	}
	defer r.leave(client, server)
	if !r.enter(client, server) {
		return
	}
	over := make(chan struct{})
	r.wg.Go(func() { _, _ = io.Copy(server, client); server.Close(); close(over) })
	buf := make([]byte, 64<<10)
	for {
		n, err := server.Read(buf)
		if err != nil {
			return
		}
		r.mu.Lock()
		late, held := r.late, r.held
		r.mu.Unlock()
		if late > 0 {
			select {
			case <-time.After(late):
			case <-over:
			}
		}
		if held != nil {
			select {
			case <-held:
			case <-over:
			}
		}
		if _, err := client.Write(buf[:n]); err != nil {
			return
		}
	}
}
