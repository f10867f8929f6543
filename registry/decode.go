package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Fault is one thing wrong with a Registration. Field is its JSON name, empty when the fault is the document's.
type Fault struct {
	Field  string
	Detail string
}

// Faults is every fault found, in the order of the fields.
type Faults []Fault

func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, fault := range f {
		lines[i] = strings.TrimPrefix(fault.Field+": "+fault.Detail, ": ")
	}
	return strings.Join(lines, "; ")
}

// DecodeRegistration reads one JSON object strictly: no field that it does not know, nothing after it. An error is a
// Faults of one; what the fields may hold is Normalize's matter.
func DecodeRegistration(body []byte) (Registration, error) {
	var r Registration
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return Registration{}, Faults{fault(err)}
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Registration{}, Faults{{Detail: "there is more after the object; send one farmer per request"}}
	}
	if bytes.TrimSpace(body)[0] != '{' { // null decodes into nothing
		return Registration{}, Faults{{Detail: "send one JSON object"}}
	}
	return r, nil
}

// fault says in the sender's words what encoding/json found.
func fault(err error) Fault {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.Is(err, io.EOF):
		return Fault{Detail: "the body is empty; send one JSON object"}
	case errors.Is(err, io.ErrUnexpectedEOF):
		return Fault{Detail: "the JSON ends in the middle"}
	case errors.As(err, &syntax):
		return Fault{Detail: fmt.Sprintf("not JSON at byte %d: %v", syntax.Offset, syntax)}
	case errors.As(err, &kind) && kind.Type.Kind() == reflect.String:
		return Fault{kind.Field, "must be a string, not a JSON " + kind.Value}
	case errors.As(err, &kind):
		return Fault{Detail: "send one JSON object, not a JSON " + kind.Value}
	}
	// encoding/json has no type for this one.
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return Fault{Detail: "unknown field " + name}
	}
	return Fault{Detail: err.Error()}
}

// Normalize tidies spaces and letter case and returns every fault of every field, or nil. today bounds the birth date.
// It is idempotent: what passed once passes again unchanged.
func (r *Registration) Normalize(today time.Time) Faults {
	var faults Faults
	wrong := func(field, format string, args ...any) {
		faults = append(faults, Fault{field, fmt.Sprintf(format, args...)})
	}
	for _, f := range []*string{&r.GivenName, &r.FamilyName, &r.Village, &r.Island} {
		*f = strings.Join(strings.Fields(*f), " ")
	}
	r.UID = strings.ToLower(r.UID)
	r.NationalID = strings.ToUpper(strings.TrimSpace(r.NationalID))
	r.Phone = strings.NewReplacer(" ", "", "-", "", "(", "", ")", "").Replace(r.Phone)
	if r.Status == "" {
		r.Status = Statuses[0]
	}

	if _, ok := ParseUID(r.UID); !ok && r.UID != "" {
		wrong("uid", "must be a UUID such as 0190b4a2-6c1e-4f0a-9d3e-2b7c5a1e8f00")
	}
	name := func(field, value string, required bool) {
		switch {
		case value == "" && required:
			wrong(field, "is required")
		case utf8.RuneCountInString(value) > 80:
			wrong(field, "is longer than 80 characters")
		case value != "" && (strings.ContainsFunc(value, notInName) || !strings.ContainsFunc(value, unicode.IsLetter)):
			wrong(field, "may hold letters, spaces, hyphens, full stops and apostrophes")
		}
	}
	name("given_name", r.GivenName, true)
	name("family_name", r.FamilyName, true)
	switch born, err := time.Parse(time.DateOnly, r.BirthDate); {
	case r.BirthDate == "":
		wrong("birth_date", "is required")
	case err != nil:
		wrong("birth_date", "must be a date such as 1978-03-09")
	case born.After(today):
		wrong("birth_date", "is in the future")
	case born.Year() < 1900:
		wrong("birth_date", "is before 1900")
	}
	if !slices.Contains(Sexes, r.Sex) {
		wrong("sex", "must be one of %s", strings.Join(Sexes, ", "))
	}
	if n := len(r.NationalID); n > 0 && (n < 3 || n > 32 || strings.ContainsFunc(r.NationalID, notInID)) {
		wrong("national_id", "must be 3 to 32 letters A-Z, digits and hyphens")
	}
	if r.Phone != "" && !isPhone(r.Phone) {
		wrong("phone", "must be + and 7 to 15 digits, such as +68255123")
	}
	name("village", r.Village, true)
	name("island", r.Island, false)
	if !slices.Contains(Statuses, r.Status) {
		wrong("status", "must be one of %s", strings.Join(Statuses, ", "))
	}
	return faults
}

func notInName(r rune) bool {
	return !unicode.IsLetter(r) && !unicode.Is(unicode.Mn, r) && !strings.ContainsRune(" -.'’‘ʻʼ", r)
}

func notInID(r rune) bool {
	return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && r != '-'
}

func isPhone(s string) bool {
	digits, ok := strings.CutPrefix(s, "+")
	return ok && len(digits) >= 7 && len(digits) <= 15 && strings.Trim(digits, "0123456789") == ""
}
