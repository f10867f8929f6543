package http1

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"time"
)

// Response is an answer. Read reads its body.
type Response struct {
	Status int

	c       *Client
	text    []byte // the header's lines
	fields  []field
	framing framing
	keep    bool
	left    int64 // of a counted body
	chunks  io.Reader
}

// field is where a line's name and value are in the text.
type field struct{ name, colon, value, end int }

// framing says how a body's end is known (RFC 9112, section 6.3).
type framing uint8

const (
	ended framing = iota // there is none, or no more
	counted
	chunked
	toTheEnd // of the connection
)

// Get is the first value of a header's field, empty where it has none.
func (a *Response) Get(name string) string {
	for _, f := range a.fields {
		if is(a.text[f.name:f.colon], name) {
			return string(a.text[f.value:f.end])
		}
	}
	return ""
}

// All are the values of a header's field.
func (a *Response) All(name string) (values []string) {
	for _, f := range a.fields {
		if is(a.text[f.name:f.colon], name) {
			values = append(values, string(a.text[f.value:f.end]))
		}
	}
	return values
}

// is compares names without regard to case. What is compared with is plain ASCII.
func is(got []byte, name string) bool {
	return len(got) == len(name) && strings.EqualFold(string(got), name)
}

// head reads an answer's header: the status line, fields, and an empty line.
func (a *Response) head(r *bufio.Reader, method string) error {
	a.text, a.fields, a.chunks = a.text[:0], a.fields[:0], nil
	at, err := a.line(r)
	if err != nil {
		return err
	}
	minor, status, err := statusLine(a.text[at:])
	if err != nil {
		return err
	}
	a.Status, a.keep = status, minor == 1
	length, chunks := int64(-1), false
	for {
		if at, err = a.line(r); err != nil {
			return err
		}
		line := a.text[at:]
		if len(line) == 0 {
			break
		}
		n, err := colon(line)
		if err != nil {
			return err
		}
		value := bytes.Trim(line[n+1:], " \t")
		if !printable(value) {
			return fmt.Errorf("malformed answer: header %s has a value with control characters", line[:n])
		}
		from := at + n + 1
		if len(value) > 0 {
			from = at + len(line) - len(bytes.TrimLeft(line[n+1:], " \t"))
		}
		a.fields = append(a.fields, field{at, at + n, from, from + len(value)})
		switch name := line[:n]; {
		case is(name, "Content-Length"):
			// The same length twice is tolerated, as by net/http.
			l, err := strconv.ParseUint(string(value), 10, 63)
			if err != nil || length >= 0 && length != int64(l) {
				return fmt.Errorf("malformed answer: Content-Length is %q", excerpt(value))
			}
			length = int64(l)
		case is(name, "Transfer-Encoding") && minor == 1: // HTTP/1.0 has none
			if chunks || !is(value, "chunked") {
				return fmt.Errorf("malformed answer: Transfer-Encoding is %q", excerpt(value))
			}
			chunks = true
		case is(name, "Connection"):
			a.keep = a.keep && !lists(value, "close") || minor == 0 && lists(value, "keep-alive")
		}
	}
	switch {
	case method == http.MethodHead || status < 200 || status == http.StatusNoContent || status == http.StatusNotModified:
		a.framing = ended
		a.keep = a.keep && status != http.StatusSwitchingProtocols
	case chunks:
		a.framing, a.chunks = chunked, httputil.NewChunkedReader(r)
	case length > 0:
		a.framing, a.left = counted, length
	case length == 0:
		a.framing = ended
	default:
		a.framing, a.keep = toTheEnd, false
	}
	return nil
}

// colon is where a line of a header is divided.
func colon(line []byte) (int, error) {
	n := bytes.IndexByte(line, ':')
	if n < 0 || !Token(line[:n]) {
		return 0, fmt.Errorf("malformed answer: %q is no line of a header", excerpt(line))
	}
	return n, nil
}

// line reads a line, without its end, to the end of the text, and tells where it begins.
func (a *Response) line(r *bufio.Reader) (at int, err error) {
	at = len(a.text)
	for {
		part, err := r.ReadSlice('\n')
		a.text = append(a.text, part...)
		switch {
		case len(a.text) > maxHead:
			return at, fmt.Errorf("malformed answer: its header has more than %d bytes", maxHead)
		case err == nil:
			end := len(a.text) - 1
			if end > at && a.text[end-1] == '\r' {
				end--
			}
			a.text = a.text[:end]
			return at, nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF):
			return at, io.ErrUnexpectedEOF
		default:
			return at, err
		}
	}
}

// statusLine takes "HTTP/1.1 200 OK" apart.
func statusLine(line []byte) (minor, status int, err error) {
	const of = len("HTTP/1.1 200")
	if len(line) < of || !bytes.HasPrefix(line, []byte("HTTP/1.")) || line[7] != '0' && line[7] != '1' || line[8] != ' ' || len(line) > of && line[of] != ' ' {
		return 0, 0, fmt.Errorf("malformed answer: %q is no status line of HTTP/1.1", excerpt(line))
	}
	for _, d := range line[9:of] {
		if d < '0' || d > '9' {
			return 0, 0, fmt.Errorf("malformed answer: %q is no status line of HTTP/1.1", excerpt(line))
		}
		status = 10*status + int(d-'0')
	}
	if status < 100 {
		return 0, 0, fmt.Errorf("malformed answer: status %03d", status)
	}
	return int(line[7] - '0'), status, nil
}

// Token reports whether a text can be the name of a header's field (RFC 9110, section 5.6.2).
func Token[T string | []byte](name T) bool {
	for i := range len(name) {
		switch b := name[i]; {
		case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z', '0' <= b && b <= '9', strings.IndexByte("!#$%&'*+-.^_`|~", b) >= 0:
		default:
			return false
		}
	}
	return len(name) > 0
}

func printable(value []byte) bool {
	for _, b := range value {
		if b < ' ' && b != '\t' || b == 0x7f {
			return false
		}
	}
	return true
}

// lists reports whether a list of names has one.
func lists(value []byte, name string) bool {
	for part := range bytes.SplitSeq(value, []byte{','}) {
		if is(bytes.Trim(part, " \t"), name) {
			return true
		}
	}
	return false
}

func excerpt(b []byte) []byte { return b[:min(len(b), 80)] }

// Read reads on in the body. At its end the connection is kept, or closed where the server wants that.
func (a *Response) Read(p []byte) (n int, err error) {
	switch a.framing {
	case ended:
		return 0, io.EOF
	case counted:
		n, err = a.c.r.Read(p[:min(int64(len(p)), a.left)])
		if a.left -= int64(n); a.left == 0 {
			a.end()
			return n, nil
		}
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
	case chunked:
		if n, err = a.chunks.Read(p); errors.Is(err, io.EOF) {
			if err = a.trailer(); err == nil {
				a.end()
				return n, io.EOF
			}
		}
	case toTheEnd:
		if n, err = a.c.r.Read(p); errors.Is(err, io.EOF) {
			a.end()
			return n, io.EOF
		}
	}
	if err != nil {
		if ctx := a.c.watched; ctx != nil && ctx.Err() != nil {
			err = ctx.Err()
		}
		a.c.Close()
	}
	return n, err
}

// trailer reads the fields behind the last chunk, which nobody asks for.
func (a *Response) trailer() error {
	for from := len(a.text); ; {
		at, err := a.line(a.c.r)
		if err != nil {
			return err
		}
		if len(a.text) == at {
			a.text = a.text[:from]
			return nil
		}
		if _, err := colon(a.text[at:]); err != nil {
			return err
		}
	}
}

// end is reached when the body has been read.
func (a *Response) end() {
	a.framing = ended
	if a.keep {
		a.c.since = time.Now()
	} else {
		a.c.Close()
	}
}
