package registry

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Entity is one kind of record: its fields, what they may hold, and how two people's edits of them meet. Everything
// that handles records (synchronisation, API, portal, import, seed) reads these tables; none has rules of its own.
type Entity struct {
	Name   string
	Parent string // the field that names the record which this one belongs to, empty for none
	Fields []Field
}

// Field is one value of a record.
type Field struct {
	Name     string
	Kind     Kind
	Required bool
	Choices  []string // of a Choice; the first is the default when the field is required and left out
	Of       string   // the entity that a Reference points at
	Max      float64  // of a Number, 0 for no bound; the least is 0
	Merge    MergeRule
}

// Kind is what a field holds. In Fields a Number is a float64, a Shape or an Object a JSON, all others a string; empty is
// always nil.
type Kind uint8

// The kinds, with what they admit.
const (
	Text      Kind = iota // any line of text, up to 200 characters
	Name                  // of a person or place: letters, spaces, hyphens, full stops and apostrophes, up to 80
	Choice                // one of Choices
	Date                  // YYYY-MM-DD, from 1900 until today
	Number                // from 0 to Max
	Code                  // an identity number: 3 to 32 letters A-Z, digits and hyphens
	Phone                 // E.164: + and 7 to 15 digits
	Reference             // the uid of a record of the entity Of
	Shape                 // GeoJSON: a Point, or a Polygon of at most 500 points; longitude and latitude in degrees
	Object                // a JSON object of at most 16 KiB
)

// MergeRule is what happens when two people, each without the other's edit, have changed the same record.
type MergeRule uint8

const (
	// Together: edits of different fields are both kept; two edits of this field go to the review queue.
	Together MergeRule = iota
	// Protected: any edit made without knowing the newest version goes to the review queue.
	Protected
	// LastWins: the edit that reached the server last is kept.
	LastWins
)

// JSON is a JSON text in its one canonical form: without spaces, members in order.
type JSON string

// MarshalJSON returns the text itself.
func (j JSON) MarshalJSON() ([]byte, error) { return []byte(j), nil }

// Fields are values by field name. In a record, an empty field is absent; in a change, nil empties a field.
type Fields map[string]any

// Text returns a field that holds a string, empty when it is absent.
func (f Fields) Text(name string) string { s, _ := f[name].(string); return s }

// Statuses, Sexes and the other choices; the first of each is the default.
var (
	Statuses  = []string{"pending_verification", "draft", "active", "inactive", "duplicate", "archived"}
	Sexes     = []string{"unspecified", "female", "male"}
	Consents  = []string{"unknown", "given", "refused"}
	Relations = []string{"other", "spouse", "child", "parent", "sibling"}
	Tenures   = []string{"customary", "freehold", "leased", "shared", "other"}
)

// Entities in the order in which they depend on each other: parents come first.
var Entities = []*Entity{
	{Name: "household", Fields: []Field{
		{Name: "name", Kind: Name, Required: true},
		{Name: "village", Kind: Name, Required: true},
		{Name: "island", Kind: Name},
		{Name: "size", Kind: Number, Max: 100},
	}},
	{Name: "farmer", Parent: "household", Fields: []Field{
		{Name: "household", Kind: Reference, Of: "household"},
		{Name: "given_name", Kind: Name, Required: true},
		{Name: "family_name", Kind: Name, Required: true},
		{Name: "birth_date", Kind: Date, Required: true},
		{Name: "sex", Kind: Choice, Choices: Sexes, Required: true},
		{Name: "national_id", Kind: Code, Merge: Protected},
		{Name: "phone", Kind: Phone, Merge: LastWins},
		{Name: "village", Kind: Name, Required: true},
		{Name: "island", Kind: Name},
		{Name: "status", Kind: Choice, Choices: Statuses, Required: true},
		{Name: "consent", Kind: Choice, Choices: Consents, Required: true, Merge: Protected},
		{Name: "note", Kind: Text, Merge: LastWins},
	}},
	{Name: "member", Parent: "household", Fields: []Field{
		{Name: "household", Kind: Reference, Of: "household", Required: true},
		{Name: "given_name", Kind: Name, Required: true},
		{Name: "family_name", Kind: Name, Required: true},
		{Name: "birth_date", Kind: Date},
		{Name: "sex", Kind: Choice, Choices: Sexes, Required: true},
		{Name: "relation", Kind: Choice, Choices: Relations, Required: true},
	}},
	{Name: "plot", Parent: "farmer", Fields: []Field{
		{Name: "farmer", Kind: Reference, Of: "farmer", Required: true, Merge: Protected},
		{Name: "name", Kind: Text},
		{Name: "size_ha", Kind: Number, Max: 100_000, Merge: Protected},
		{Name: "tenure", Kind: Choice, Choices: Tenures, Required: true, Merge: Protected},
		{Name: "crop", Kind: Text, Merge: LastWins},
		{Name: "shape", Kind: Shape, Merge: Protected},
	}},
	{Name: "submission", Parent: "farmer", Fields: []Field{
		{Name: "farmer", Kind: Reference, Of: "farmer", Required: true},
		{Name: "form", Kind: Text, Required: true},
		{Name: "form_version", Kind: Number, Required: true, Max: 1_000_000},
		{Name: "answers", Kind: Object, Required: true},
	}},
}

// EntityNamed returns an entity, or nil.
func EntityNamed(name string) *Entity {
	for _, e := range Entities {
		if e.Name == name {
			return e
		}
	}
	return nil
}

// Field returns a field, or nil.
func (e *Entity) Field(name string) *Field {
	for i := range e.Fields {
		if e.Fields[i].Name == name {
			return &e.Fields[i]
		}
	}
	return nil
}

// Decode reads fields of a JSON object, tidies them and finds every fault. today bounds dates. What Decode returned,
// written as JSON, decodes to the same again.
func (e *Entity) Decode(raw map[string]json.RawMessage, today time.Time) (Fields, Faults) {
	fields, faults := Fields{}, Faults(nil)
	for _, f := range e.Fields {
		text, ok := raw[f.Name]
		if !ok {
			continue
		}
		value, wrong := f.decode(text, today)
		if wrong != "" {
			faults = append(faults, Fault{f.Name, wrong})
			continue
		}
		fields[f.Name] = value
	}
	for name := range raw {
		if e.Field(name) == nil {
			faults = append(faults, Fault{Detail: fmt.Sprintf("unknown field %q", clip(name))})
		}
	}
	slices.SortStableFunc(faults, func(a, b Fault) int {
		return cmp.Or(strings.Compare(a.Field, b.Field), strings.Compare(a.Detail, b.Detail))
	})
	return fields, faults
}

// Complete fills defaults into a new record's fields, drops empty ones and returns what is missing.
func (e *Entity) Complete(fields Fields) Faults {
	var faults Faults
	for _, f := range e.Fields {
		if fields[f.Name] == nil && f.Required && f.Kind == Choice {
			fields[f.Name] = f.Choices[0]
		}
		switch {
		case fields[f.Name] != nil:
		case f.Required:
			faults = append(faults, Fault{f.Name, "is required"})
		default:
			delete(fields, f.Name)
		}
	}
	return faults
}

func clip(s string) string {
	const most = 60
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most]) + "..."
}
