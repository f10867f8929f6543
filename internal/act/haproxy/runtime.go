package haproxy

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Runtime speaks with HAProxy over its runtime socket (management guide, chapter 9.3): one command to a connection, as
// HAProxy itself recommends for programs.
type Runtime struct{ socket string }

// NewRuntime makes a Runtime; nothing is opened before a command.
func NewRuntime(socket string) Runtime { return Runtime{socket} }

// ErrDown says that nobody answers at the socket.
var ErrDown = errors.New("HAProxy is not running, or has no `stats socket` there")

// commandTimeout bounds one command: HAProxy answers at once or hangs.
const commandTimeout = 5 * time.Second

// maxAnswer bounds an answer; `show stat` takes about 400 bytes a server.
const maxAnswer = 16 << 20

// RefusedError is HAProxy's own word on a command that it did not carry out.
type RefusedError struct{ Command, Said string }

func (e *RefusedError) Error() string {
	return fmt.Sprintf("HAProxy refuses %q: %s", e.Command, e.Said)
}

// refused reports that HAProxy said these words in refusing a command.
func refused(err error, words string) bool {
	var r *RefusedError
	return errors.As(err, &r) && strings.Contains(r.Said, words)
}

// What HAProxy says, of version 2.6 to 3.x.
const (
	saidNoServer  = "No such server"
	saidNoBackend = "No such backend"
	saidNoProxy   = "No such proxy" // the same, of figures
	saidConnected = "still has connections"
)

// Do carries out one command and returns what HAProxy prints.
func (r Runtime) Do(ctx context.Context, command string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", r.socket)
	if err != nil {
		return "", r.failed(command, err)
	}
	defer func() { _ = c.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	// The severities tell an error from a notice, whatever its words.
	if _, err = io.WriteString(c, "set severity-output number; "+command+"\n"); err == nil {
		var said []byte
		if said, err = io.ReadAll(io.LimitReader(c, maxAnswer)); err == nil && len(said) == 0 {
			err = io.ErrUnexpectedEOF // it ended before it came to the command; what it carries out it answers, be it by an empty line
		}
		if err == nil {
			return answer(command, string(said))
		}
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return "", r.failed(command, err)
}

// gone are the ways in which a connection shows that nobody listens, or no longer.
var gone = []error{syscall.ECONNREFUSED, os.ErrNotExist, syscall.ECONNRESET, syscall.EPIPE, io.ErrUnexpectedEOF}

func (r Runtime) failed(command string, err error) error {
	switch {
	case slices.ContainsFunc(gone, func(g error) bool { return errors.Is(err, g) }):
		return fmt.Errorf("%s: %w", r.socket, ErrDown)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w: let this user in with `user`, `group` and `mode` after `stats socket %s`", err, r.socket)
	}
	return fmt.Errorf("HAProxy's runtime socket: %s: %w", command, err)
}

// answer takes an answer apart: [N]: before a message is its severity, as syslog counts them, where 3 is an error.
func answer(command, said string) (string, error) {
	said = strings.TrimSpace(said)
	if len(said) >= 4 && said[0] == '[' && said[2] == ']' && said[3] == ':' {
		text := strings.TrimSpace(said[4:])
		if said[1] <= '4' {
			return "", &RefusedError{command, text}
		}
		return text, nil
	}
	if strings.HasPrefix(said, "Unknown command") || strings.HasPrefix(said, "Permission denied") {
		return "", &RefusedError{command, strings.SplitN(said, "\n", 2)[0]}
	}
	return said, nil
}

// Stats are a backend's figures. Counters are since HAProxy's start or its last `clear counters all`.
type Stats struct {
	PID    int           // of the process that answers
	Uptime time.Duration // of it, in whole seconds

	Queued    uint64 // requests that wait for a server now
	Requests  uint64 // that came
	Refused   uint64 // denied by a rule, such as a full queue
	Status    [5]uint64
	OtherCode uint64 // answers outside 100 to 599
	// Means of the last 1,024 requests, or of as many as there were.
	QueueTime, ConnectTime, ResponseTime time.Duration

	Servers []ServerStats
}

// Answers is how many requests ended with a status.
func (s *Stats) Answers() (n uint64) {
	for _, k := range s.Status {
		n += k
	}
	return n + s.OtherCode
}

// ServerStats are a server's figures.
type ServerStats struct {
	Name     string
	Address  string // IP:port, or "unix"
	Status   string // HAProxy's word: UP, "no check", DRAIN, MAINT, DOWN ...
	Sessions uint64 // requests and tunnels on their way, now
	Limit    uint64 // maxconn; 0 is none
}

// Serving reports that it is given new requests.
func (s ServerStats) Serving() bool {
	return strings.HasPrefix(s.Status, "UP") || s.Status == "no check"
}

// Stats reads a backend's figures.
func (r Runtime) Stats(ctx context.Context, backend string) (*Stats, error) {
	info, err := r.Do(ctx, "show info")
	if err != nil {
		return nil, err
	}
	s, err := r.backend(ctx, backend)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(info) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		n, err := strconv.Atoi(value)
		if err != nil {
			continue
		}
		switch key {
		case "Pid":
			s.PID = n
		case "Uptime_sec":
			s.Uptime = time.Duration(n) * time.Second
		}
	}
	return s, nil
}

// backend reads a backend's figures without those of the process that answers.
func (r Runtime) backend(ctx context.Context, name string) (*Stats, error) {
	table, err := r.Do(ctx, "show stat "+name+" 6 -1") // 6: the backend and its servers
	if err != nil {
		return nil, err
	}
	s, err := parseStats(table)
	if err != nil {
		return nil, fmt.Errorf("HAProxy's figures of the backend %s: %w", name, err)
	}
	return s, nil
}

// parseStats reads the CSV of `show stat`, whose first line names the columns.
func parseStats(table string) (*Stats, error) {
	head, ok := strings.CutPrefix(table, "# ")
	if !ok {
		return nil, errors.New("there is no table")
	}
	r := csv.NewReader(strings.NewReader(head))
	r.FieldsPerRecord = -1
	rows, err := r.ReadAll()
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, errors.New("there is no table")
	}
	columns := map[string]int{}
	for i, name := range rows[0] {
		columns[name] = i
	}
	var s Stats
	found := false
	for _, row := range rows[1:] {
		f := fields{columns: columns, row: row}
		switch name := f.text("svname"); name {
		case "FRONTEND":
		case "BACKEND":
			found = true
			s.Queued, s.Requests, s.Refused = f.number("qcur"), f.number("stot"), f.number("dreq")
			for i := range s.Status {
				s.Status[i] = f.number(fmt.Sprintf("hrsp_%dxx", i+1))
			}
			s.OtherCode = f.number("hrsp_other")
			s.QueueTime, s.ConnectTime, s.ResponseTime = f.ms("qtime"), f.ms("ctime"), f.ms("rtime")
		default:
			s.Servers = append(s.Servers, ServerStats{Name: name, Address: f.text("addr"), Status: f.text("status"), Sessions: f.number("scur"), Limit: f.optional("slim")})
		}
		if f.err != nil {
			return nil, f.err
		}
	}
	if !found {
		return nil, errors.New("there is no line of the backend itself")
	}
	return &s, nil
}

// fields reads one line by the names of its columns. The first error stays.
type fields struct {
	columns map[string]int
	row     []string
	err     error
}

func (f *fields) text(column string) string {
	if i, ok := f.columns[column]; ok && i < len(f.row) {
		return f.row[i]
	}
	if f.err == nil {
		f.err = fmt.Errorf("the table has no %s", column)
	}
	return ""
}

func (f *fields) number(column string) uint64 {
	text := f.text(column)
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil && f.err == nil {
		f.err = fmt.Errorf("%s is %q, which is no number", column, text)
	}
	return n
}

// optional is a number that HAProxy leaves empty where there is none.
func (f *fields) optional(column string) uint64 {
	if f.text(column) == "" {
		return 0
	}
	return f.number(column)
}

func (f *fields) ms(column string) time.Duration {
	n := f.number(column)
	if n > uint64(24*time.Hour/time.Millisecond) && f.err == nil {
		f.err = fmt.Errorf("%s is %d ms, which no request takes", column, n)
	}
	return time.Duration(n) * time.Millisecond
}
