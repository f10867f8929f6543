package registry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	maxText   = 200      // characters of a Text
	maxName   = 80       // characters of a Name
	maxObject = 16 << 10 // bytes of an Object
	maxPoints = 500      // of a Shape
)

// decode returns a tidied value, nil when it is empty, or what is wrong with it.
func (f *Field) decode(raw json.RawMessage, today time.Time) (value any, wrong string) {
	if string(raw) == "null" {
		return nil, ""
	}
	switch f.Kind {
	case Number:
		var n float64
		switch err := json.Unmarshal(raw, &n); {
		case err != nil:
			return nil, "must be a number"
		case n < 0 || f.Max > 0 && n > f.Max:
			return nil, fmt.Sprintf("must be from 0 to %g", f.Max)
		}
		return n, ""
	case Shape:
		return shape(raw)
	case Object:
		return object(raw)
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return nil, "must be a string"
	}
	if s, wrong = f.text(s, today); wrong != "" || s == "" {
		return nil, wrong
	}
	return s, ""
}

// text tidies and checks a value that is a string.
func (f *Field) text(s string, today time.Time) (tidy, wrong string) {
	s = strings.Join(strings.Fields(s), " ")
	if s == "" {
		return "", ""
	}
	if strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) || r == utf8.RuneError }) {
		return "", "may not hold control characters"
	}
	switch f.Kind {
	case Text:
		if utf8.RuneCountInString(s) > maxText {
			return "", fmt.Sprintf("is longer than %d characters", maxText)
		}
	case Name:
		switch {
		case utf8.RuneCountInString(s) > maxName:
			return "", fmt.Sprintf("is longer than %d characters", maxName)
		case strings.ContainsFunc(s, notInName) || !strings.ContainsFunc(s, unicode.IsLetter):
			return "", "may hold letters, spaces, hyphens, full stops and apostrophes"
		}
	case Choice:
		if !slices.Contains(f.Choices, s) {
			return "", "must be one of " + strings.Join(f.Choices, ", ")
		}
	case Date:
		switch day, err := time.Parse(time.DateOnly, s); {
		case err != nil:
			return "", "must be a date such as 1978-03-09"
		case day.After(today):
			return "", "is in the future"
		case day.Year() < 1900:
			return "", "is before 1900"
		}
	case Code:
		s = strings.ToUpper(s)
		if len(s) < 3 || len(s) > 32 || strings.ContainsFunc(s, notInID) {
			return "", "must be 3 to 32 letters A-Z, digits and hyphens"
		}
	case Phone:
		s = strings.NewReplacer(" ", "", "-", "", "(", "", ")", "").Replace(s)
		if !isPhone(s) {
			return "", "must be + and 7 to 15 digits, such as +68255123"
		}
	case Reference:
		uid, ok := ParseUID(s)
		if !ok {
			return "", "must be a UUID such as 0190b4a2-6c1e-4f0a-9d3e-2b7c5a1e8f00"
		}
		s = uid
	}
	return s, ""
}

// object checks a JSON object and returns it in canonical form.
func object(raw json.RawMessage) (any, string) {
	if len(raw) > maxObject {
		return nil, fmt.Sprintf("is larger than %d bytes", maxObject)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber() // a number stays as it was written
	var o map[string]any
	if err := dec.Decode(&o); err != nil || o == nil {
		return nil, "must be a JSON object"
	}
	text, err := json.Marshal(o) // members in order
	if err != nil || len(text) > maxObject {
		return nil, fmt.Sprintf("is larger than %d bytes", maxObject)
	}
	return JSON(text), ""
}

// shape checks a GeoJSON geometry (RFC 7946) and returns it in canonical form.
func shape(raw json.RawMessage) (any, string) {
	var head struct {
		Type        string          `json:"type"`
		Coordinates json.RawMessage `json:"coordinates"`
	}
	if json.Unmarshal(raw, &head) != nil {
		return nil, "must be a GeoJSON object"
	}
	var where any
	switch head.Type {
	case "Point":
		var at point
		if json.Unmarshal(head.Coordinates, &at) != nil || !at.onEarth() {
			return nil, "must have the coordinates [longitude, latitude] in degrees"
		}
		where = at
	case "Polygon":
		var rings [][]point
		if json.Unmarshal(head.Coordinates, &rings) != nil || len(rings) == 0 {
			return nil, "must have rings of [longitude, latitude] in degrees"
		}
		points := 0
		for _, ring := range rings {
			points += len(ring)
			switch {
			case len(ring) < 4 || ring[0] != ring[len(ring)-1]:
				return nil, "must have rings of four points or more, the last like the first"
			case points > maxPoints:
				return nil, fmt.Sprintf("has more than %d points", maxPoints)
			case slices.ContainsFunc(ring, func(p point) bool { return !p.onEarth() }):
				return nil, "must have rings of [longitude, latitude] in degrees"
			}
		}
		where = rings
	default:
		return nil, "must be a GeoJSON Point or Polygon"
	}
	text, err := json.Marshal(struct {
		Type        string `json:"type"`
		Coordinates any    `json:"coordinates"`
	}{head.Type, where})
	if err != nil {
		return nil, "must be a GeoJSON object"
	}
	return JSON(text), ""
}

// point is a longitude and a latitude. A third number, the height, is read and let go.
type point [2]float64

func (p *point) UnmarshalJSON(text []byte) error {
	var all []float64
	if err := json.Unmarshal(text, &all); err != nil {
		return err
	}
	if len(all) != 2 && len(all) != 3 {
		return fmt.Errorf("%d coordinates", len(all))
	}
	copy(p[:], all)
	return nil
}

func (p point) onEarth() bool { return math.Abs(p[0]) <= 180 && math.Abs(p[1]) <= 90 }

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
