package accesslog

import (
	"fmt"
	"strings"
)

// Format is a compiled log_format: the literals that stand between variables, and which variables are kept. It is
// immutable and may be used by many goroutines.
type Format struct {
	text   string // as the operator wrote it, a built-in name spelt out
	prefix string // the literal before the first variable
	ops    []op
	fields Fields
	raw    bool // escape=none: values stand as they are
}

// Fields is a set of what a format's lines say about a request.
type Fields uint16

const (
	Method       Fields = 1 << iota // $request_method or $request
	URI                             // $request_uri, $request, $uri or $document_uri
	Status                          // $status
	Time                            // $msec, $time_iso8601 or $time_local
	RequestTime                     // $request_time
	UpstreamTime                    // $upstream_response_time
)

// Has reports whether the format's lines say all of these.
func (f *Format) Has(fields Fields) bool { return f.fields&fields == fields }

// String is the log_format as it was written.
func (f *Format) String() string { return f.text }

// The formats that go by a name. Combined is nginx's own; Tidemark is the recommended one: combined, so that other tools
// still read it, followed by the times.
const (
	Combined = `$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"`
	Tidemark = Combined + ` rt=$request_time urt="$upstream_response_time" uct="$upstream_connect_time"` +
		` uht="$upstream_header_time" addr="$upstream_addr" len=$request_length`
)

var builtin = map[string]string{"combined": Combined, "tidemark": Tidemark}

// Directive is the recommended log_format as it is written into nginx.conf.
func Directive() string { return "log_format tidemark '" + Tidemark + "';" }

// FormatError is what is wrong with a log_format.
type FormatError struct {
	Position int    // in bytes of the text that was compiled, from 1
	Msg      string // "nothing stands between $status and $request_time"
	Fix      string // "put a space between them"
}

func (e *FormatError) Error() string {
	s := fmt.Sprintf("log_format: position %d: %s", e.Position, e.Msg)
	if e.Fix != "" {
		s += "; " + e.Fix
	}
	return s
}

// op reads one variable: its value reaches up to the literal that follows it.
type op struct {
	lit  string // empty only at the end of the line
	word uint64 // its first 8 bytes at most, and
	mask uint64 // which of them count
	list bool   // an upstream list, whose own separators (", " and " : ") might be taken for lit
	esc  bool   // lit begins with a quote, which may stand escaped in the value
	last bool   // lit ends the line
	keep keep
	err  error // the value or what follows it is not there
	bad  error // the value is not what it should be
}

// keep is what a variable's value is kept as.
type keep uint8

const (
	skip keep = iota
	keepRequest
	keepMethod
	keepURI
	keepStatus
	keepRequestTime
	keepUpstreamTime
	keepMsec
	keepISO8601
	keepLocal
)

// variable is what is known about one of nginx's variables. Others are text that is not kept: modules and maps add
// variables of any name.
type variable struct {
	keep   keep
	fields Fields
	rank   int  // of those that say the same, the one with the highest rank is kept
	list   bool // one value for each upstream tried
	spaces bool // the value holds spaces
}

var variables = map[string]variable{
	"request_uri":            {keep: keepURI, fields: URI, rank: 3},
	"request":                {keep: keepRequest, fields: Method | URI, rank: 2, spaces: true},
	"uri":                    {keep: keepURI, fields: URI, rank: 1}, // after internal redirects
	"document_uri":           {keep: keepURI, fields: URI, rank: 1},
	"request_method":         {keep: keepMethod, fields: Method},
	"status":                 {keep: keepStatus, fields: Status},
	"request_time":           {keep: keepRequestTime, fields: RequestTime},
	"upstream_response_time": {keep: keepUpstreamTime, fields: UpstreamTime, list: true},
	"msec":                   {keep: keepMsec, fields: Time, rank: 3},
	"time_iso8601":           {keep: keepISO8601, fields: Time, rank: 2},
	"time_local":             {keep: keepLocal, fields: Time, rank: 1, spaces: true},

	"upstream_addr":            {list: true},
	"upstream_status":          {list: true},
	"upstream_connect_time":    {list: true},
	"upstream_header_time":     {list: true},
	"upstream_first_byte_time": {list: true},
	"upstream_queue_time":      {list: true},
	"upstream_session_time":    {list: true},
	"upstream_response_length": {list: true},
	"upstream_bytes_received":  {list: true},
	"upstream_bytes_sent":      {list: true},
	"http_user_agent":          {spaces: true},
	"request_body":             {spaces: true},
}

// item is a literal or a variable, as it stands in the format.
type item struct {
	name string // of the variable; empty for a literal
	lit  string
	at   int
}

// Compile reads a log_format as nginx does. It takes the whole directive (log_format name escape=json 'a' 'b';), its
// quoted strings ('a' 'b'), the string alone ($remote_addr "$request" $status), each of the latter two with or without
// escape=default, json or none before it, or a name: combined, tidemark. The error is a *FormatError.
func Compile(format string) (*Format, error) {
	text := strings.TrimSpace(format)
	if b, ok := builtin[text]; ok {
		format, text = b, b
	}
	parts, raw, err := lex(format)
	if err != nil {
		return nil, err
	}
	var items []item
	for _, p := range parts {
		if items, err = p.items(items); err != nil {
			return nil, err
		}
	}
	f := &Format{text: text, raw: raw}
	if len(items) > 0 && items[0].name == "" {
		f.prefix, items = items[0].lit, items[1:]
	}
	if len(items) == 0 {
		return nil, &FormatError{1, fmt.Sprintf("%q has no variable and is no format's name", text),
			"write nginx's own log_format string, or one of the names combined and tidemark"}
	}
	var vars []variable
	for i := 0; i < len(items); i++ {
		v, o := items[i], op{last: true}
		if i+1 < len(items) {
			next := items[i+1]
			if next.name != "" {
				return nil, &FormatError{next.at, fmt.Sprintf("nothing stands between $%s and $%s", v.name, next.name),
					"put a character between them that neither value holds, e.g. a space"}
			}
			o.lit = next.lit
			o.last = i+2 == len(items)
			i++
		}
		if err := f.add(v, o); err != nil {
			return nil, err
		}
		vars = append(vars, variables[v.name])
	}
	f.choose(vars)
	return f, nil
}

func (f *Format) add(v item, o op) error {
	known := variables[v.name]
	if known.spaces && o.lit != "" && strings.Trim(o.lit, " ") == "" && !o.last {
		return &FormatError{v.at, fmt.Sprintf("the value of $%s holds spaces, and a space is all that ends it", v.name),
			fmt.Sprintf(`write "$%s" in double quotes`, v.name)}
	}
	if known.list && (strings.HasPrefix(o.lit, ", ") || strings.HasPrefix(o.lit, " : ")) {
		return &FormatError{v.at, fmt.Sprintf("$%s is followed by %q, which also stands inside its value when several upstreams were tried", v.name, o.lit),
			fmt.Sprintf(`write "$%s" in double quotes`, v.name)}
	}
	o.keep = known.keep
	for i := range min(len(o.lit), 8) {
		o.word |= uint64(o.lit[i]) << (8 * i)
		o.mask |= 0xff << (8 * i)
	}
	o.list = known.list && o.lit != "" && (o.lit[0] == ' ' || o.lit[0] == ',')
	o.esc = strings.HasPrefix(o.lit, `"`) && !f.raw
	o.err = &LineError{fmt.Sprintf("no %q after $%s", o.lit, v.name)}
	if o.last {
		o.err = &LineError{fmt.Sprintf("the line does not end with %q after $%s", o.lit, v.name)}
	}
	o.bad = &LineError{fmt.Sprintf("$%s is not what nginx writes there", v.name)}
	f.ops = append(f.ops, o)
	f.fields |= known.fields
	return nil
}

// choose keeps, of the variables that say the same, one: what the client asked for before what nginx made of it, the
// exact time before the rounded one. ($request fills in only what no other variable says.)
func (f *Format) choose(vars []variable) {
	best := map[Fields]int{}
	for _, v := range vars {
		for _, field := range []Fields{URI, Time} {
			if v.fields&field != 0 {
				best[field] = max(best[field], v.rank)
			}
		}
	}
	for i, v := range vars {
		if v.rank < best[v.fields] {
			f.ops[i].keep = skip
		}
	}
}

// LineError says why a line is not of the format.
type LineError struct{ msg string }

func (e *LineError) Error() string { return e.msg }
