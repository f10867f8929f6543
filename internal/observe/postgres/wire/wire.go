// Package wire asks a PostgreSQL server or a PgBouncer's console for tables, over one connection that it opens, bounds in
// time, replaces when it is lost, and shares among all who read from the same address. It is the only package that knows
// the protocol's library.
//
// Each statement is asked once a tick, whoever wants its answer. A server that does not answer is waited for once a tick
// and holds up nobody else. After failures it is tried again after 1 s, 2 s, 4 s, 8 s, then every 10 s, by the ticks' own
// time: the same failures give the same attempts.
package wire

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgproto3"

	"tidemark/internal/fleet"
)

// Kind is what is spoken to.
type Kind uint8

const (
	// PostgreSQL is asked in a read-only transaction for each statement, with a time-out of its own, so that nothing depends
	// on the session: it may stand behind a PgBouncer.
	PostgreSQL Kind = iota
	// PgBouncer is a PgBouncer's admin console, which knows the simple protocol and no transactions.
	PgBouncer
)

func (k Kind) String() string { return [...]string{"PostgreSQL", "PgBouncer"}[k] }

const (
	// defaultLimit is how long connecting and asking may take together.
	defaultLimit = 2 * time.Second
	// margin is how much earlier PostgreSQL itself gives a statement up: then the connection can be kept.
	margin = 300 * time.Millisecond
	// maxAnswer bounds an answer, in bytes, and maxMessage one message of it.
	maxAnswer  = 8 << 20
	maxMessage = 1 << 20
	maxBackoff = 10 * time.Second
)

// Server is one address. It is safe for several goroutines.
type Server struct {
	kind   Kind
	limit  time.Duration
	cfg    *pgconn.Config
	dsn    string
	turn   chan struct{} // held while the rest is used; a channel, so that waiting for it ends with the context
	owners *Servers
	users  int // owners.mu

	conn *pgconn.PgConn
	raw  net.Conn
	life int // how many connections there have been
	// password is the last that was tried, to be kept out of messages
	password string
	closed   bool

	at      time.Time // the tick that the answers are of
	answers map[string]answer
	down    error // why there is no connection at this tick

	failures int       // in a row
	failed   time.Time // the last one's tick
	last     error
}

type answer struct {
	table *Table
	err   error
}

// Servers shares one Server among all who open the same address. The zero value is ready.
type Servers struct {
	// Limit is how long connecting and asking may take together; 0 is 2 s, well within a tick.
	Limit time.Duration

	mu      sync.Mutex
	servers map[string]*Server
}

// Open returns the server at a connection string, in URL or keyword form. Nothing is dialled before it is asked. Who opened it
// closes it.
func (s *Servers) Open(kind Kind, dsn string) (*Server, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if server := s.servers[dsn]; server != nil {
		server.users++
		return server, nil
	}
	cfg, err := parse(dsn)
	if err != nil {
		return nil, err
	}
	limit := s.Limit
	if limit == 0 {
		limit = defaultLimit
	}
	server := &Server{kind: kind, limit: limit, cfg: cfg, dsn: dsn, turn: make(chan struct{}, 1), owners: s, users: 1, answers: map[string]answer{}}
	if s.servers == nil {
		s.servers = map[string]*Server{}
	}
	s.servers[dsn] = server
	return server, nil
}

// parse reads a connection string, and the files that it names.
func parse(dsn string) (*pgconn.Config, error) {
	cfg, err := pgconn.ParseConfig(dsn)
	var file *fs.PathError
	switch {
	case errors.As(err, &file):
		return nil, fmt.Errorf("a file that dsn names cannot be read: %w", file)
	case err != nil:
		return nil, errors.New("dsn is no connection string") // the library's own words may hold the password
	}
	cfg.MaxProtocolMessageBodyLen = maxMessage
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = "tidemark"
	}
	return cfg, nil
}

// Close gives the server up. The last one to do so closes the connection, after a question under way.
func (s *Server) Close() error {
	s.owners.mu.Lock()
	s.users--
	unused := s.users == 0
	if unused {
		delete(s.owners.servers, s.dsn)
	}
	s.owners.mu.Unlock()
	if !unused {
		return nil
	}
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	s.closed = true
	if s.conn != nil {
		ctx, cancel := context.WithTimeout(context.Background(), defaultLimit)
		defer cancel()
		_ = s.conn.Close(ctx) // says goodbye; the connection is closed in any case
		s.conn = nil
	}
	return nil
}

// Ask returns the answer to a statement as of the tick at. It is asked at the first call with that time; the others share
// the answer. PostgreSQL's statements must be single ones that only read.
func (s *Server) Ask(ctx context.Context, at time.Time, statement string) (*Table, error) {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for %s: %w", s.name(), ctx.Err())
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("ask %s: %w", s.name(), err)
	}
	if s.closed {
		return nil, errors.New("the connection to " + s.name() + " is closed")
	}
	if !at.Equal(s.at) {
		s.at, s.down = at, nil
		clear(s.answers)
	}
	a, asked := s.answers[statement]
	if asked {
		return a.table, a.err
	}
	if s.down == nil {
		s.down = s.wait()
	}
	if s.down != nil {
		return nil, s.down
	}
	a.table, a.err = s.ask(ctx, statement)
	switch {
	case errors.Is(a.err, context.Canceled): // nobody wants to know any more; that is no failure
		return nil, a.err
	case s.conn == nil && !errors.Is(a.err, errTooLong):
		s.failures, s.failed, s.last, s.down = s.failures+1, at, a.err, a.err
		return nil, a.err
	}
	s.failures = 0
	s.answers[statement] = a
	return a.table, a.err
}

// wait says why it is not tried now, if so. A clock that was set back ends the wait.
func (s *Server) wait() error {
	if s.failures == 0 {
		return nil
	}
	backoff := min(time.Second<<min(s.failures-1, 10), maxBackoff)
	if since := s.at.Sub(s.failed); since >= 0 && since < backoff {
		return fmt.Errorf("%w (it is tried again in %s)", s.last, fleet.Elapsed(backoff-since))
	}
	return nil
}

// ask asks on the connection there is. It may have been lost since the tick before, when the server was restarted: then once more on a new
// one. Without a connection at the end, nothing could be asked; with one, the statement itself failed.
func (s *Server) ask(ctx context.Context, statement string) (*Table, error) {
	ctx, cancel := context.WithTimeout(ctx, s.limit)
	defer cancel()
	if s.conn != nil {
		t, err := s.exchange(ctx, statement)
		if s.conn != nil || ctx.Err() != nil || errors.Is(err, errTooLong) {
			return t, err
		}
	}
	if err := s.connect(ctx); err != nil {
		return nil, s.explain(ctx, err)
	}
	return s.exchange(ctx, statement)
}

// ours marks the contexts with which Server dials. The library dials too, to cancel what was asked; nothing that this package asks is worth
// waiting for that.
type ours struct{}

var errNotOurs = errors.New("not dialled")

func (s *Server) connect(ctx context.Context) error {
	cfg, err := parse(s.dsn) // anew: a password or a certificate in a file may have been changed
	if err != nil {
		return err
	}
	s.password = cfg.Password
	var raw net.Conn
	dial := cfg.DialFunc
	cfg.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if ctx.Value(ours{}) == nil {
			return nil, errNotOurs
		}
		c, err := dial(ctx, network, address)
		raw = c
		return c, err
	}
	cfg.BuildContextWatcherHandler = func(*pgconn.PgConn) ctxwatch.Handler { return hangUp{raw} }
	conn, err := pgconn.ConnectConfig(context.WithValue(ctx, ours{}, true), cfg)
	if err != nil {
		return err
	}
	s.conn, s.raw = conn, raw
	s.life++
	return nil
}

// hangUp closes the connection when a context ends: whatever waits on it returns at once.
type hangUp struct{ conn net.Conn }

func (h hangUp) HandleCancel(context.Context) { _ = h.conn.Close() }
func (h hangUp) HandleUnwatchAfterCancel()    {}

// exchange asks one statement. It leaves s.conn nil when the connection is lost.
func (s *Server) exchange(ctx context.Context, statement string) (*Table, error) {
	question := s.transaction
	if s.kind == PgBouncer {
		question = s.simple
	}
	t, err := question(ctx, statement)
	var huge *pgproto3.ExceededMaxBodyLenErr
	if errors.As(err, &huge) {
		err = errTooLong
	}
	// A transaction that is still open would answer every later question.
	lost := s.conn.IsClosed() || errors.Is(err, errTooLong) || s.conn.TxStatus() != 'I'
	if err != nil {
		err = s.explain(ctx, err)
	}
	if lost {
		_ = s.raw.Close()
		_ = s.conn.Close(ctx) // when the library has not noticed yet; on a closed connection it does not wait
		<-s.conn.CleanupDone()
		s.conn, s.raw = nil, nil
	}
	return t, err
}

func (s *Server) simple(ctx context.Context, statement string) (*Table, error) {
	answers := s.conn.Exec(ctx, statement)
	var t *Table
	for answers.NextResult() {
		var err error
		if t, err = s.collect(statement, answers.ResultReader()); errors.Is(err, errTooLong) {
			return nil, err
		}
	}
	if err := answers.Close(); err != nil {
		return nil, err
	}
	if t == nil {
		return nil, errNoTable
	}
	return t, nil
}

// transaction asks in a transaction that cannot write and ends itself in time. Only the statement itself goes by the extended protocol, which
// refuses more than one.
func (s *Server) transaction(ctx context.Context, statement string) (*Table, error) {
	end, _ := ctx.Deadline() // ask has set one
	left := time.Until(end) - margin
	if left < margin {
		return nil, errNoTime
	}
	begin := fmt.Sprintf("BEGIN READ ONLY; SET LOCAL statement_timeout = %d", left.Milliseconds())
	if _, err := s.conn.Exec(ctx, begin).ReadAll(); err != nil {
		return nil, err
	}
	t, err := s.collect(statement, s.conn.ExecParams(ctx, statement, nil, nil, nil, nil))
	if errors.Is(err, errTooLong) || s.conn.IsClosed() {
		return nil, err
	}
	if _, end := s.conn.Exec(ctx, "ROLLBACK").ReadAll(); end != nil && err == nil {
		err = end
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

var (
	errTooLong = fmt.Errorf("the answer is longer than %d MiB; ask for less", maxAnswer>>20)
	errNoTable = errors.New("the statement returns no rows, as SELECT does")
	errNoTime  = errors.New("no time is left after other statements on this connection; make those cheaper")
)

func (s *Server) collect(statement string, from *pgconn.ResultReader) (*Table, error) {
	t := &Table{statement: statement, version: s.conn.ParameterStatus("server_version"), server: s.name(), Life: s.life, columns: map[string]int{}, width: len(from.FieldDescriptions())}
	for i, c := range from.FieldDescriptions() {
		t.columns[c.Name] = i
	}
	size := 0
	for from.NextRow() {
		row := make([]*string, t.width)
		for i, v := range from.Values() {
			if size += 16 + len(v); i < len(row) && v != nil {
				text := string(v)
				row[i] = &text
			}
		}
		if size > maxAnswer {
			return nil, errTooLong
		}
		t.rows = append(t.rows, row)
	}
	if _, err := from.Close(); err != nil {
		return nil, err
	}
	t.At = time.Now()
	if t.width == 0 {
		return nil, errNoTable
	}
	return t, nil
}

// name is what the server is called in messages: "PgBouncer at 127.0.0.1:6432".
func (s *Server) name() string {
	at := s.cfg.Host
	if !strings.HasPrefix(at, "/") {
		at = net.JoinHostPort(at, strconv.Itoa(int(s.cfg.Port)))
	}
	return s.kind.String() + " at " + at
}
