package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Error is why there is no answer, in an operator's words and without secrets.
type Error struct {
	text string
	// Code is the server's SQLSTATE; empty when it is not the server that says so.
	Code  string
	cause error // a context's or this package's own, so that callers can tell
}

func (e *Error) Error() string { return e.text }
func (e *Error) Unwrap() error { return e.cause }

// Code is the SQLSTATE in err, or "".
func Code(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// hints say what to do about an error, by its SQLSTATE.
var hints = map[string]string{
	"28P01": "check the user and the password in dsn",
	"28000": "check the user in dsn, and pg_hba.conf",
	"3D000": "check the database in dsn",
	"42501": "grant Tidemark's user what it reads: GRANT pg_monitor TO it, and SELECT on the tables of its queries",
	"53300": "all connections are taken; keep one for Tidemark by reserved_connections, or lower what others may take",
	"57014": "a tick does not wait for it; make it cheaper, by an index for example",
	"25006": "only statements that read are asked",
	"42601": "write one SELECT statement",
}

// explain turns an error of the library into an Error.
func (s *Server) explain(ctx context.Context, err error) error {
	var refused *pgconn.PgError
	var hop *net.OpError
	var file *fs.PathError
	out := &Error{}
	switch {
	case errors.Is(err, errTooLong), errors.Is(err, errNoTable), errors.Is(err, errNoTime), errors.As(err, &file):
		out.text, out.cause = s.name()+": "+err.Error(), err
	case errors.As(err, &refused): // before the context's end, which a statement's time-out may come close to
		out.Code = refused.Code
		out.text = fmt.Sprintf("%s says: %s (SQLSTATE %s)", s.name(), strings.TrimSpace(refused.Message), refused.Code)
		if hint := s.hint(refused); hint != "" {
			out.text += "; " + hint
		}
	case errors.Is(ctx.Err(), context.Canceled):
		out.text, out.cause = "ask "+s.name()+": "+context.Canceled.Error(), context.Canceled
	case ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded):
		out.text, out.cause = s.name()+" did not answer in time", context.DeadlineExceeded
	case errors.As(err, &hop) && hop.Op == "dial":
		out.text = fmt.Sprintf("%s cannot be reached: %s; is it running, and is the address in dsn right?", s.name(), inner(hop.Err))
	case errors.As(err, &hop), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		out.text = s.name() + " closed the connection"
	default:
		out.text = fmt.Sprintf("%s is not understood: %s", s.name(), innermost(err))
	}
	if s.password != "" { // no message should hold it; this makes sure
		out.text = strings.ReplaceAll(out.text, s.password, "******")
	}
	return out
}

func (s *Server) hint(e *pgconn.PgError) string {
	fatal := e.SeverityUnlocalized == "FATAL" || e.Severity == "FATAL"
	if s.kind == PgBouncer && fatal {
		return "check user, password and database in dsn: the database is pgbouncer, and the user is one of its admin_users or stats_users"
	}
	return hints[e.Code]
}

func inner(err error) string {
	var sys *os.SyscallError
	if errors.As(err, &sys) {
		return sys.Err.Error()
	}
	return err.Error()
}

// innermost is the first cause's text: what is around it repeats the address and the user.
func innermost(err error) string {
	for {
		next := errors.Unwrap(err)
		if many, ok := err.(interface{ Unwrap() []error }); ok {
			next = many.Unwrap()[len(many.Unwrap())-1]
		}
		if next == nil {
			return strings.Join(strings.Fields(err.Error()), " ")
		}
		err = next
	}
}
