package sync

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"tidemark/registry"
	"tidemark/registry/web"
)

// batch is what a push holds.
type batch struct {
	protocol int
	schema   int
	device   string
	id       string
	cursor   string
	changes  []registry.Change
}

const (
	// maxChanges in a batch: 500 farmers with two plots and a submission each are 2,000.
	maxChanges = 5000
	// maxFaults is how many faults of a batch are named.
	maxFaults = 20
)

var (
	errDeep    = errors.New("nests too deep")
	errMany    = errors.New("holds too many changes")
	errNotUTF8 = errors.New("is not UTF-8")
	errShape   = errors.New("is not one JSON object")
)

// decode reads a batch from r as it comes: no more of it is in memory at once than the change being read and what those
// before it have become. faults are what is wrong with the batch's own members and the changes' envelopes. What is wrong
// with the fields of a change is that change's matter: it is to be rejected, and no other.
func decode(r io.Reader, today time.Time) (b batch, faults registry.Faults, err error) {
	d := decoder{dec: json.NewDecoder(&shallow{r: r}), today: today}
	if err := d.batch(); err != nil {
		return batch{}, nil, err
	}
	return d.b, d.faults, nil
}

type decoder struct {
	dec    *json.Decoder
	today  time.Time
	b      batch
	faults registry.Faults
	raw    json.RawMessage // the value being read; its memory is used again
}

func (d *decoder) wrong(field, format string, args ...any) {
	if len(d.faults) < maxFaults {
		d.faults = append(d.faults, registry.Fault{Field: field, Detail: fmt.Sprintf(format, args...)})
	}
}

func (d *decoder) value() error {
	if err := d.dec.Decode(&d.raw); err != nil {
		return err
	}
	if !utf8.Valid(d.raw) {
		return errNotUTF8
	}
	return nil
}

// one is a member of an object T: it returns what is wrong with it.
type one[T any] struct {
	name     string
	required bool
	read     func(*T, json.RawMessage) (wrong string)
}

type member = one[batch]

// members are those of a batch beside its changes.
var members = []member{
	{"protocol", true, func(b *batch, raw json.RawMessage) string { return integer(&b.protocol, raw) }},
	{"schema_version", true, func(b *batch, raw json.RawMessage) string { return integer(&b.schema, raw) }},
	{"device_id", true, func(b *batch, raw json.RawMessage) string { return id(&b.device, raw) }},
	{"batch_id", true, func(b *batch, raw json.RawMessage) string { return id(&b.id, raw) }},
	{"cursor", false, func(b *batch, raw json.RawMessage) string {
		if string(raw) != "null" && json.Unmarshal(raw, &b.cursor) != nil {
			return "must be a string"
		}
		return ""
	}},
}

func (d *decoder) batch() error {
	if open, err := d.dec.Token(); err != nil || open != json.Delim('{') {
		return shapeOr(err)
	}
	seen := map[string]bool{}
	for d.dec.More() {
		token, err := d.dec.Token()
		if err != nil {
			return err
		}
		name, _ := token.(string)
		if seen[name] {
			d.wrong(name, "is given twice")
		}
		switch at := slices.IndexFunc(members, func(m member) bool { return m.name == name }); {
		case name == "changes":
			err = d.changes()
		case at >= 0:
			err = d.member(members[at])
		default:
			d.wrong("", "there is an unknown member beside %s and changes", list(members))
			err, name = d.value(), ""
		}
		if err != nil {
			return err
		}
		if name != "" {
			seen[name] = true
		}
	}
	if _, err := d.dec.Token(); err != nil { // the end of the object
		return err
	}
	for _, m := range members {
		if m.required && !seen[m.name] {
			d.wrong(m.name, "is required")
		}
	}
	if !seen["changes"] {
		d.wrong("changes", "is required")
	}
	// Reading on to the end finds what follows, and whether the checksum of a compressed body is right.
	if _, err := d.dec.Token(); !errors.Is(err, io.EOF) {
		return shapeOr(err)
	}
	return nil
}

func shapeOr(err error) error {
	if err == nil {
		return errShape
	}
	return err
}

func (d *decoder) member(m member) error {
	err := d.value()
	if err == nil {
		if wrong := m.read(&d.b, d.raw); wrong != "" {
			d.wrong(m.name, "%s", wrong)
		}
	}
	return err
}

func (d *decoder) changes() error {
	open, err := d.dec.Token()
	if err != nil {
		return err
	}
	if open != json.Delim('[') {
		d.wrong("changes", "must be an array")
		return d.skip(open)
	}
	for i := 0; d.dec.More(); i++ {
		if i == maxChanges {
			return errMany
		}
		if err := d.value(); err != nil {
			return err
		}
		d.b.changes = append(d.b.changes, d.change(fmt.Sprintf("changes/%d", i)))
	}
	_, err = d.dec.Token()
	return err
}

// skip reads over the rest of a value that began with token.
func (d *decoder) skip(token json.Token) error {
	for depth := 0; ; {
		switch token {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth == 0 {
			return nil
		}
		var err error
		if token, err = d.dec.Token(); err != nil {
			return err
		}
	}
}

// envelope is what a change has beside its fields, op and entity, which say what those mean, first.
var envelope = []one[registry.Change]{
	{"op", true, func(c *registry.Change, raw json.RawMessage) string {
		if json.Unmarshal(raw, &c.Op) != nil || !slices.Contains([]registry.Op{registry.Create, registry.Update, registry.Delete}, c.Op) {
			return "must be create, update or delete"
		}
		return ""
	}},
	{"entity", true, func(c *registry.Change, raw json.RawMessage) string {
		if json.Unmarshal(raw, &c.Entity) != nil || registry.EntityNamed(c.Entity) == nil {
			return "must be one of " + strings.Join(entities(), ", ")
		}
		return ""
	}},
	{"op_id", true, func(c *registry.Change, raw json.RawMessage) string { return id(&c.OpID, raw) }},
	{"client_uuid", true, func(c *registry.Change, raw json.RawMessage) string {
		var s string
		ok := json.Unmarshal(raw, &s) == nil
		if ok {
			c.UID, ok = registry.ParseUID(s)
		}
		if !ok {
			return "must be a UUID such as 0190b4a2-6c1e-4f0a-9d3e-2b7c5a1e8f00"
		}
		return ""
	}},
	{"base_version", false, func(c *registry.Change, raw json.RawMessage) string { return integer(&c.Base, raw) }},
	{"client_time", true, func(c *registry.Change, raw json.RawMessage) string {
		var s string
		err := json.Unmarshal(raw, &s)
		if err == nil {
			c.At, err = time.Parse(time.RFC3339, s)
		}
		if err != nil {
			return "must be a time such as 2026-11-23T09:00:00Z"
		}
		return ""
	}},
}

// change reads one of the changes, at is where it stands.
func (d *decoder) change(at string) (c registry.Change) {
	var o map[string]json.RawMessage
	if json.Unmarshal(d.raw, &o) != nil || o == nil {
		d.wrong(at, "must be an object")
		return c
	}
	for _, m := range envelope {
		raw, ok := o[m.name]
		switch {
		case ok:
			if wrong := m.read(&c, raw); wrong != "" {
				d.wrong(at+"/"+m.name, "%s", wrong)
			}
			delete(o, m.name)
		case m.required:
			d.wrong(at+"/"+m.name, "is required")
		}
	}
	if text, ok := o["fields"]; ok || c.Op != registry.Delete {
		var raw map[string]json.RawMessage
		err := json.Unmarshal(text, &raw) // of no text at all it fails, too
		e := registry.EntityNamed(c.Entity)
		switch {
		case c.Op == registry.Delete && (err != nil || len(raw) > 0):
			d.wrong(at+"/fields", "must be left out of a deletion")
		case c.Op != registry.Delete && (err != nil || raw == nil):
			d.wrong(at+"/fields", "must be an object")
		case c.Op != registry.Delete && e != nil:
			c.Fields, c.Faults = e.Decode(raw, d.today)
		}
		delete(o, "fields")
	}
	if len(o) > 0 {
		d.wrong(at, "there is an unknown member beside %s and fields", list(envelope))
	}
	return c
}

func list[T any](members []one[T]) string {
	names := make([]string, len(members))
	for i, m := range members {
		names[i] = m.name
	}
	return strings.Join(names, ", ")
}

func entities() []string {
	names := make([]string, len(registry.Entities))
	for i, e := range registry.Entities {
		names[i] = e.Name
	}
	return names
}

func integer(into *int, raw json.RawMessage) string {
	if json.Unmarshal(raw, into) != nil || string(raw) == "null" || *into < 0 || *into > math.MaxInt32 {
		return "must be a whole number from 0"
	}
	return ""
}

func id(into *string, raw json.RawMessage) string {
	if json.Unmarshal(raw, into) != nil || !registry.IsDevice(*into) { // the same letters do for all ids
		*into = ""
		return "must be 1 to 60 letters, digits, hyphens, full stops and _"
	}
	return ""
}

// shallow reads JSON that nests no deeper than web.MaxDepth. Without it the deepest text would cost the most.
type shallow struct {
	r       io.Reader
	depth   int
	quoted  bool
	escaped bool
}

func (s *shallow) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	for at := 0; at < n; at++ {
		if s.quoted && !s.escaped { // most bytes are in strings
			next := bytes.IndexAny(p[at:n], `"\`)
			if next < 0 {
				break
			}
			at += next
		}
		switch c := p[at]; {
		case s.escaped:
			s.escaped = false
		case s.quoted && c == '\\':
			s.escaped = true
		case c == '"':
			s.quoted = !s.quoted
		case c == '{' || c == '[':
			if s.depth++; s.depth > web.MaxDepth {
				return 0, errDeep
			}
		case c == '}' || c == ']':
			s.depth--
		}
	}
	return n, err
}
