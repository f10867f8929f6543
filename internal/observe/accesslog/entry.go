package accesslog

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/bits"
	"time"
)

// Entry is one request as a line tells it. Its slices point into the line, or into the entry's own memory where
// something was escaped: they hold until either is used again. An Entry may be used for any number of lines.
type Entry struct {
	Method []byte // nil when the line does not say
	URI    []byte // as the client sent it, query included; nil when the line does not say or the request was malformed
	Path   []byte // the URI without scheme, host and query
	Status int    // 0 when the line does not say
	// RequestTime is from the client's first byte to the last byte sent to it, slow clients included. UpstreamTime is what
	// the workers took, all tries added up. Both in seconds; NaN when the line does not say ("-").
	RequestTime, UpstreamTime float64

	time     []byte
	timeKeep keep
	plain    []byte // the URI without its escapes
}

// Parse takes a line apart, given without its line end. It allocates nothing once the entry has been used. The error is a
// *LineError; the entry is then of no use.
func (f *Format) Parse(line []byte, into *Entry) error {
	e := into
	e.Method, e.URI, e.Path, e.Status = nil, nil, nil, 0
	e.RequestTime, e.UpstreamTime = math.NaN(), math.NaN()
	e.time = nil
	if len(line) < len(f.prefix) || string(line[:len(f.prefix)]) != f.prefix {
		return errPrefix
	}
	rest := line[len(f.prefix):]
	for i := range f.ops {
		o := &f.ops[i]
		n := o.end(rest)
		if n < 0 {
			return o.err
		}
		v := rest[:n]
		rest = rest[n+len(o.lit):]
		ok := true
		switch o.keep {
		case skip:
		case keepRequest:
			e.request(v)
		case keepMethod:
			if !absent(v) {
				e.Method = v
			}
		case keepURI:
			if !absent(v) {
				e.URI = v
			}
		case keepStatus:
			e.Status, ok = status(v)
		case keepRequestTime:
			e.RequestTime, ok = seconds(v)
		case keepUpstreamTime:
			e.UpstreamTime, ok = total(v)
		case keepMsec, keepISO8601, keepLocal:
			e.time, e.timeKeep = v, o.keep
		}
		if !ok {
			return o.bad
		}
	}
	if !f.raw && bytes.IndexByte(e.URI, '\\') >= 0 {
		e.plain = unescape(e.plain[:0], e.URI)
		e.URI = e.plain
	}
	e.Path = path(e.URI)
	return nil
}

var errPrefix error = &LineError{"the line begins with something else"}

// end is the length of the value at the start of b, or -1.
func (o *op) end(b []byte) int {
	if o.last {
		n := len(b) - len(o.lit)
		if n < 0 || string(b[n:]) != o.lit {
			return -1
		}
		return n
	}
	n := 0
	if o.list {
		if n = list(b); !o.follows(b[n:]) {
			return -1
		}
		return n
	}
	for {
		i := o.first(b[n:])
		if i < 0 {
			return -1
		}
		if n += i; o.follows(b[n:]) && (!o.esc || !escaped(b[:n])) {
			return n
		}
		n++
	}
}

const (
	low  = 0x0101010101010101
	high = 0x8080808080808080
)

// first finds the first byte of lit. Most values are shorter than a call of IndexByte is worth.
func (o *op) first(b []byte) int {
	n := 0
	for ; n < 16 && len(b)-n >= 8; n += 8 {
		w := binary.LittleEndian.Uint64(b[n:]) ^ low*uint64(o.lit[0])
		if zero := (w - low) &^ w & high; zero != 0 {
			return n + bits.TrailingZeros64(zero)/8
		}
	}
	i := bytes.IndexByte(b[n:], o.lit[0])
	if i < 0 {
		return -1
	}
	return n + i
}

// follows reports whether b begins with lit.
func (o *op) follows(b []byte) bool {
	if len(b) >= 8 {
		return binary.LittleEndian.Uint64(b)&o.mask == o.word && (len(o.lit) <= 8 || string(b[8:min(len(o.lit), len(b))]) == o.lit[8:])
	}
	return len(b) >= len(o.lit) && string(b[:len(o.lit)]) == o.lit
}

// escaped reports whether what follows b is escaped: an odd number of backslashes stands before it. escape=default writes a
// quote as \x22 and escape=json as \", so that in neither a quote that ends a value has one.
func escaped(b []byte) bool {
	n := 0
	for n < len(b) && b[len(b)-1-n] == '\\' {
		n++
	}
	return n%2 == 1
}

// list is the length of an upstream list: values joined by ", " (next server) and " : " (internal redirect).
func list(b []byte) int {
	i := 0
	for i < len(b) {
		switch {
		case b[i] == ',' && i+1 < len(b) && b[i+1] == ' ':
			i += 2
		case b[i] == ' ' && i+2 < len(b) && b[i+1] == ':' && b[i+2] == ' ':
			i += 3
		case b[i] == ',', b[i] == ' ':
			return i
		default:
			i++
		}
	}
	return i
}

// request takes "GET /path HTTP/1.1" apart. What is no request line (a TLS handshake on the wrong port, "-") has neither
// method nor URI.
func (e *Entry) request(v []byte) {
	i := bytes.IndexByte(v, ' ')
	if i <= 0 || v[0] < 'A' || v[0] > 'Z' {
		return
	}
	method, uri := v[:i], v[i+1:]
	if n := len(uri) - len(" HTTP/1.1"); n >= 0 && string(uri[n:n+len(" HTTP/")]) == " HTTP/" {
		uri = uri[:n]
	}
	if e.Method == nil {
		e.Method = method
	}
	if e.URI == nil {
		e.URI = uri
	}
}

// path is the URI without query and, where a client sent it in the form for proxies, without scheme and host.
func path(uri []byte) []byte {
	if i := bytes.IndexByte(uri, '?'); i >= 0 {
		uri = uri[:i]
	}
	if len(uri) == 0 || uri[0] == '/' {
		return uri
	}
	if _, after, found := bytes.Cut(uri, []byte("://")); found {
		if i := bytes.IndexByte(after, '/'); i >= 0 {
			return after[i:]
		}
		return []byte("/")
	}
	return uri
}

// status reads three digits; "-" and nothing are 0.
func status(v []byte) (int, bool) {
	if absent(v) {
		return 0, true
	}
	if len(v) != 3 {
		return 0, false
	}
	n := 0
	for _, c := range v {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}

// absent: escape=default writes a value that is not there as "-", json and none write nothing.
func absent(v []byte) bool { return len(v) == 0 || len(v) == 1 && v[0] == '-' }

// seconds reads "0.123"; NaN when absent.
func seconds(v []byte) (float64, bool) {
	if absent(v) {
		return math.NaN(), true
	}
	if len(v) > 18 {
		return 0, false
	}
	n, scale, point := int64(0), 1.0, false
	for _, c := range v {
		switch {
		case c >= '0' && c <= '9':
			n = n*10 + int64(c-'0')
			if point {
				scale *= 10
			}
		case c == '.' && !point:
			point = true
		default:
			return 0, false
		}
	}
	return float64(n) / scale, true
}

// total adds up an upstream list of seconds; NaN when no upstream was asked.
func total(v []byte) (float64, bool) {
	if bytes.IndexByte(v, ' ') < 0 {
		return seconds(v)
	}
	sum, some := 0.0, false
	for len(v) > 0 {
		n := bytes.IndexByte(v, ' ')
		if n < 0 {
			n = len(v)
		}
		word := bytes.TrimSuffix(v[:n], []byte(","))
		v = v[min(n+1, len(v)):]
		if len(word) == 1 && word[0] == ':' {
			continue
		}
		s, ok := seconds(word)
		if !ok {
			return 0, false
		}
		if !math.IsNaN(s) {
			sum += s
			some = true
		}
	}
	if !some {
		return math.NaN(), true
	}
	return sum, true
}

// unescape appends v with \xHH (escape=default) and \", \\, \n, \u00HH and the like (escape=json) resolved. After a backslash
// the two have nothing in common, so that one reader does for both.
func unescape(to, v []byte) []byte {
	for i := 0; i < len(v); i++ {
		if v[i] != '\\' || i+1 == len(v) {
			to = append(to, v[i])
			continue
		}
		i++
		skip, digits := 0, 0
		switch v[i] {
		case 'x':
			skip, digits = 1, 2
		case 'u':
			skip, digits = 3, 2 // nginx writes \u00HH only
		case 'n':
			to = append(to, '\n')
		case 'r':
			to = append(to, '\r')
		case 't':
			to = append(to, '\t')
		case 'b':
			to = append(to, '\b')
		case 'f':
			to = append(to, '\f')
		default:
			to = append(to, v[i])
		}
		if digits == 0 {
			continue
		}
		if n, ok := hex(v, i+skip); ok {
			to = append(to, n)
			i += skip + digits - 1
		} else {
			to = append(to, '\\', v[i])
		}
	}
	return to
}

// hex reads the two hexadecimal digits at i.
func hex(v []byte, i int) (byte, bool) {
	if i+2 > len(v) {
		return 0, false
	}
	n := byte(0)
	for _, c := range v[i : i+2] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		n = n<<4 | c
	}
	return n, true
}

// Time is when nginx wrote the line, in UTC: to the millisecond from $msec, to the second from $time_iso8601 and $time_local. It
// reports false when the line does not say.
func (e *Entry) Time() (time.Time, bool) {
	v := e.time
	switch e.timeKeep {
	case keepMsec:
		s, ok := seconds(v)
		if !ok || math.IsNaN(s) {
			return time.Time{}, false
		}
		return time.UnixMilli(int64(math.Round(s * 1000))).UTC(), true
	case keepISO8601:
		return stamp(time.RFC3339, v)
	case keepLocal:
		return stamp("02/Jan/2006:15:04:05 -0700", v)
	}
	return time.Time{}, false
}

// TimeText is the time as the line has it; nil when the line does not say. It holds as long as the entry's slices do.
func (e *Entry) TimeText() []byte { return e.time }

func stamp(layout string, v []byte) (time.Time, bool) {
	t, err := time.Parse(layout, string(v))
	return t.UTC(), err == nil
}
