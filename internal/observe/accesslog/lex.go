package accesslog

import (
	"fmt"
	"strings"
)

// part is one string of a log_format with its escapes resolved; at says where each byte stands in the text, from 1.
// Strings are joined, but a variable's name does not reach from one into the next.
type part struct {
	b  []byte
	at []int
}

func (p *part) add(c byte, at int) {
	p.b = append(p.b, c)
	p.at = append(p.at, at)
}

// lex splits a log_format into its strings.
func lex(s string) (parts []part, raw bool, err error) {
	const directive = "log_format"
	i := space(s, 0)
	named := strings.HasPrefix(s[i:], directive) && space(s, i+len(directive)) > i+len(directive)
	if named {
		i += len(directive)
		name, next, err := token(s, space(s, i))
		if err != nil {
			return nil, false, err
		}
		if len(name.b) == 0 {
			return nil, false, &FormatError{next + 1, "log_format has no name", "write log_format name '...';"}
		}
		i = space(s, next)
	}
	if strings.HasPrefix(s[i:], "escape=") {
		word, next, err := token(s, i)
		if err != nil {
			return nil, false, err
		}
		switch mode := string(word.b[len("escape="):]); mode {
		case "default", "json":
		case "none":
			raw = true
		default:
			return nil, false, &FormatError{i + 1, fmt.Sprintf("escape=%s is unknown", mode), "write escape=default, json or none"}
		}
		i = space(s, next)
	}
	if !named && !strings.HasPrefix(s[i:], "'") {
		return []part{whole(s, i)}, raw, nil
	}
	for i < len(s) && s[i] != ';' {
		p, next, err := token(s, i)
		if err != nil {
			return nil, false, err
		}
		parts = append(parts, p)
		i = space(s, next)
	}
	if i < len(s) {
		if end := space(s, i+1); end < len(s) {
			return nil, false, &FormatError{end + 1, "something follows the log_format's semicolon", "write one log_format only"}
		}
	}
	return parts, raw, nil
}

// whole is the rest of s as it stands; line ends around it are YAML's.
func whole(s string, from int) part {
	var p part
	for i, c := range []byte(strings.TrimRight(s[from:], "\r\n")) {
		p.add(c, from+i+1)
	}
	return p
}

// space returns the place of the first byte from i that is neither white space nor comment.
func space(s string, i int) int {
	for ; i < len(s); i++ {
		switch s[i] {
		case ' ', '\t', '\r', '\n':
		case '#':
			n := strings.IndexByte(s[i:], '\n')
			if n < 0 {
				return len(s)
			}
			i += n
		default:
			return i
		}
	}
	return len(s)
}

// token reads one word of nginx's configuration, quoted or not, and returns the place after it.
func token(s string, i int) (p part, next int, err error) {
	start, quote := i, byte(0)
	if i < len(s) && (s[i] == '\'' || s[i] == '"') {
		quote = s[i]
		i++
	}
	for ; i < len(s); i++ {
		c := s[i]
		switch {
		case quote != 0 && c == quote:
			if i+1 < len(s) && !strings.ContainsRune(" \t\r\n;", rune(s[i+1])) {
				return p, i, &FormatError{i + 2, fmt.Sprintf("%q follows a closing quote", s[i+1]),
					"put a space between two strings, or a backslash before a quote that belongs to the string"}
			}
			return p, i + 1, nil
		case quote == 0 && strings.IndexByte(" \t\r\n;", c) >= 0:
			return p, i, nil
		case c == '\\' && i+1 < len(s):
			i++
			switch s[i] {
			case '"', '\'', '\\':
				p.add(s[i], i+1)
			case 't':
				p.add('\t', i+1)
			case 'r':
				p.add('\r', i+1)
			case 'n':
				p.add('\n', i+1)
			default:
				p.add('\\', i)
				p.add(s[i], i+1)
			}
		default:
			p.add(c, i+1)
		}
	}
	if quote != 0 {
		return p, i, &FormatError{start + 1, "the quote that opens here is never closed", "close it with " + string(quote)}
	}
	return p, i, nil
}

// items appends the part's literals and variables. A literal goes on where the part before ended with one.
func (p part) items(to []item) ([]item, error) {
	for i := 0; i < len(p.b); {
		at := p.at[i]
		if p.b[i] != '$' {
			from := i
			for i < len(p.b) && p.b[i] != '$' {
				i++
			}
			if n := len(to); n > 0 && to[n-1].name == "" {
				to[n-1].lit += string(p.b[from:i])
			} else {
				to = append(to, item{lit: string(p.b[from:i]), at: at})
			}
			continue
		}
		i++
		braced := i < len(p.b) && p.b[i] == '{'
		if braced {
			i++
		}
		from := i
		for i < len(p.b) && nameByte(p.b[i]) {
			i++
		}
		name := string(p.b[from:i])
		if braced {
			if i == len(p.b) || p.b[i] != '}' {
				return nil, &FormatError{at, fmt.Sprintf("the bracket of ${%s is not closed", name), fmt.Sprintf("write ${%s}", name)}
			}
			i++
		}
		if name == "" {
			return nil, &FormatError{at, "$ without the name of a variable", "write the name (letters, digits and _) right after it"}
		}
		to = append(to, item{name: name, at: at})
	}
	return to, nil
}

func nameByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
