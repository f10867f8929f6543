package config

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// text is the file as an operator sees it, to show lines of it.
type text struct {
	name  string
	lines []string
}

// mark is a position in the file, both counted from 1.
type mark struct{ line, column int }

const maxFile = 4 << 20

// readText checks that the bytes are text that every reader sees in the same way, so that what comes later can rely on lines
// and columns.
func readText(name string, data []byte) (*text, []byte, Problems) {
	t := &text{name: name, lines: []string{""}}
	refuse := func(msg, fix string) (*text, []byte, Problems) {
		return t, nil, Problems{t.problem(mark{1, 1}, Error, "", msg, fix)}
	}
	switch {
	case len(data) > maxFile:
		return refuse(fmt.Sprintf("the file has %d bytes, more than the %d that a configuration may have", len(data), maxFile), "split it, or check that it is the right file")
	case strings.HasPrefix(string(data), "\xff\xfe"), strings.HasPrefix(string(data), "\xfe\xff"):
		return refuse("the file is UTF-16", "save it as UTF-8")
	}
	body := strings.TrimPrefix(string(data), "\ufeff")
	t.lines = strings.Split(body, "\n")
	if n := len(t.lines); n > 1 && t.lines[n-1] == "" {
		t.lines = t.lines[:n-1]
	}
	var problems Problems
	for i, line := range t.lines {
		line = strings.TrimSuffix(line, "\r")
		t.lines[i] = line
		if at, msg, fix := unfit(line); msg != "" {
			t.lines[i] = strings.ToValidUTF8(strings.Map(visible, line), "�")
			problems = append(problems, t.problem(mark{i + 1, at}, Error, "", msg, fix))
		}
	}
	return t, []byte(body), problems
}

// unfit finds the first character of a line that cannot be seen or means something else to other readers.
func unfit(line string) (column int, msg, fix string) {
	for i, r := range line {
		column++
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(line[i:], "\ufffd"):
			return column, fmt.Sprintf("byte 0x%02x is not UTF-8", line[i]), "save the file as UTF-8"
		case r == '\u00a0', r == '\u202f', r == '\u3000':
			return column, fmt.Sprintf("here is a space (U+%04X) that is not a plain space, as copied from a web page", r), "replace it by a plain space"
		case r == '\r', r == '\u0085', r == '\u2028', r == '\u2029':
			return column, fmt.Sprintf("here is a line end (U+%04X) that not every program sees as one", r), "end the line with a plain line feed"
		case r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r)):
			return column, fmt.Sprintf("here is an invisible character (U+%04X)", r), "delete it"
		case r > unicode.MaxLatin1 && noncharacter(r):
			return column, fmt.Sprintf("here is a code (U+%04X) that is no character", r), "delete it"
		}
	}
	return 0, "", ""
}

func noncharacter(r rune) bool { return r&0xfffe == 0xfffe || r >= 0xfdd0 && r <= 0xfdef }

// visible lets a line be printed without harm to the terminal.
func visible(r rune) rune {
	if r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029') {
		return '�'
	}
	return r
}

// clamp moves a position into the text.
func (t *text) clamp(m mark) mark {
	if m.line > len(t.lines) {
		m = mark{len(t.lines), len(t.lines[len(t.lines)-1]) + 1}
	}
	m.line = max(m.line, 1)
	m.column = max(1, min(m.column, utf8.RuneCountInString(t.lines[m.line-1])+1))
	return m
}

func (t *text) problem(m mark, s Severity, field, msg, fix string) Problem {
	m = t.clamp(m)
	return Problem{
		File: t.name, Line: m.line, Column: m.column, Severity: s, Field: field,
		Message: mask(msg), Fix: mask(fix), Source: mask(t.lines[m.line-1]),
	}
}

// rest is the line from the position on.
func (t *text) rest(m mark) string {
	m = t.clamp(m)
	return string([]rune(t.lines[m.line-1])[m.column-1:])
}

// Passwords in addresses, and values of fields that are called by such a name. What stands as ${NAME} is no secret.
var secrets = regexp.MustCompile(`(?i)(://[^/\s:@"']*:)((?:[^@\s"'$]|\$[^@\s"'{])[^@\s"']*)(@)` +
	`|((?:password|passwd|secret|token|api_?key)["']?\s*[:=]\s*)("[^"$][^"]*"|'[^'$][^']*'|[^\s,}"'$][^\s,}]*)`)

// Addresses, and the parts of their paths that look like a key: whoever knows the address of a chat's webhook may write there.
var (
	addresses = regexp.MustCompile(`(?i)(?:https?://|url["']?\s*:\s*["']?)[^\s"',}]+`)
	pathKeys  = regexp.MustCompile(`/[A-Za-z0-9_-]{16,}`)
)

func maskAddress(s string) string {
	return pathKeys.ReplaceAllStringFunc(s, func(part string) string {
		if !strings.ContainsAny(part, "0123456789") {
			return part
		}
		return "/" + strings.Repeat("*", len(part)-1)
	})
}

// mask blots out secrets, each character by one, so that columns stay.
func mask(s string) string {
	if !strings.ContainsAny(s, ":=") {
		return s
	}
	s = addresses.ReplaceAllStringFunc(s, maskAddress)
	return secrets.ReplaceAllStringFunc(s, func(hit string) string {
		m := secrets.FindStringSubmatch(hit)
		return m[1] + m[4] + strings.Repeat("*", utf8.RuneCountInString(m[2]+m[5])) + m[3]
	})
}
