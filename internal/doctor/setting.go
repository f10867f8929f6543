package doctor

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"tidemark/internal/fleet"
)

// Value is one setting as it is in force: written somewhere, or a default.
type Value struct {
	Name string `json:"name"`
	Text string `json:"value"`
	File string `json:"file,omitempty"` // where it is written; empty for a default
	Line int    `json:"line,omitempty"`
}

// String shows the setting and its place.
func (v Value) String() string {
	switch {
	case v.File == "":
		return fmt.Sprintf("%s = %s (default)", v.Name, v.Text)
	case v.Line == 0:
		return fmt.Sprintf("%s = %s (%s)", v.Name, v.Text, v.File)
	}
	return fmt.Sprintf("%s:%d: %s = %s", v.File, v.Line, v.Name, v.Text)
}

// Int is a whole number; 0 for what is none (a setting of the wrong kind is a finding of its own).
func (v Value) Int() int64 {
	n, err := strconv.ParseFloat(strings.TrimSpace(v.Text), 64) // Odoo's own tools write 2147483648.0
	if err != nil {
		return 0
	}
	return int64(n)
}

// Bool reads a flag as Python's configparser does.
func (v Value) Bool() bool {
	switch strings.ToLower(strings.TrimSpace(v.Text)) {
	case "true", "1", "yes", "on", "t", "y":
		return true
	}
	return false
}

// None reports whether the setting says nothing: Odoo writes False or None for it.
func (v Value) None() bool {
	switch strings.ToLower(strings.TrimSpace(v.Text)) {
	case "", "false", "none":
		return true
	}
	return false
}

// Duration reads a time with nginx's or PgBouncer's units; a bare number is seconds.
func (v Value) Duration() time.Duration {
	text, total := strings.ReplaceAll(v.Text, " ", ""), time.Duration(0)
	for text != "" {
		end := strings.IndexFunc(text, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
		number, unit := text, ""
		if end >= 0 {
			number, unit = text[:end], text[end:]
			if more := strings.IndexAny(unit, "0123456789"); more >= 0 {
				unit = unit[:more]
			}
		}
		n, err := strconv.ParseFloat(number, 64)
		if err != nil {
			return 0
		}
		scale, known := map[string]time.Duration{"": time.Second, "s": time.Second, "ms": time.Millisecond, "m": time.Minute, "min": time.Minute, "h": time.Hour, "d": 24 * time.Hour}[unit]
		if !known {
			return 0
		}
		total += time.Duration(n * float64(scale))
		text = text[len(number)+len(unit):]
	}
	return total
}

// Bytes reads a size with nginx's units; a bare number is bytes.
func (v Value) Bytes() int64 {
	text := strings.ToLower(strings.TrimSpace(v.Text))
	scale := int64(1)
	for unit, by := range map[string]int64{"k": 1 << 10, "m": 1 << 20, "g": 1 << 30} {
		if rest, ok := strings.CutSuffix(text, unit); ok {
			text, scale = rest, by
		}
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0
	}
	return int64(n * float64(scale))
}

func bytes(n int64) string { return fleet.Bytes.Format(float64(n)) }

const (
	kib = int64(1) << 10
	mib = int64(1) << 20
	gib = int64(1) << 30
)
