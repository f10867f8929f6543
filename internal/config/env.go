package config

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// expand fills in ${NAME} from the environment. $${ stands for ${ itself.
func (d *decoder) expand(path, s string) string {
	if !strings.Contains(s, "${") {
		return s
	}
	p := d.places[path]
	p.raw, p.hasRaw = s, true
	d.places[path] = p
	var b strings.Builder
	filled := false
	for rest := s; ; {
		i := strings.Index(rest, "${")
		if i < 0 {
			out := b.String() + rest
			if out != "" && filled {
				d.hidden[out] = s
			}
			return out
		}
		if i > 0 && rest[i-1] == '$' {
			b.WriteString(rest[:i-1] + "${")
			rest = rest[i+2:]
			continue
		}
		b.WriteString(rest[:i])
		end := strings.IndexByte(rest[i:], '}')
		if end < 0 {
			d.fail(path, "a ${ is not closed", "write ${NAME}, or $${ for the text itself")
			return ""
		}
		name := rest[i+2 : i+end]
		rest = rest[i+end+1:]
		if !isEnvName(name) {
			d.fail(path, fmt.Sprintf("%q is not the name of an environment variable", name), "write ${NAME}, or $${ for the text itself")
			return ""
		}
		value, set := d.env(name)
		if !set {
			d.fail(path, "the environment variable "+name+" is not set", "set it where Tidemark is started, or write $${"+name+"} for the text itself")
		} else if value != "" {
			d.hidden[value] = "${" + name + "}"
		}
		b.WriteString(value)
		filled = true
	}
}

func isEnvName(s string) bool {
	for i, r := range s {
		if r != '_' && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return s != ""
}

// scrub takes what came from the environment out of an adapter's own words. Short values are replaced where they stand alone.
func (d *decoder) scrub(s string) string {
	// Longest first, so that one value within another leaves nothing behind.
	values := slices.SortedFunc(maps.Keys(d.hidden), func(a, b string) int {
		return cmp.Or(len(b)-len(a), cmp.Compare(a, b))
	})
	for _, v := range values {
		for _, shown := range []string{v, strings.Trim(fmt.Sprintf("%q", v), `"`)} {
			if len(shown) >= 4 {
				s = strings.ReplaceAll(s, shown, d.hidden[v])
				continue
			}
			s = replaceWord(s, shown, d.hidden[v])
		}
	}
	return s
}

// replaceWord replaces word where no letter or digit touches it.
func replaceWord(s, word, by string) string {
	var b strings.Builder
	for {
		i := strings.Index(s, word)
		if i < 0 {
			return b.String() + s
		}
		end := i + len(word)
		if i > 0 && alphanumeric(s[i-1]) || end < len(s) && alphanumeric(s[end]) {
			b.WriteString(s[:end])
		} else {
			b.WriteString(s[:i] + by)
		}
		s = s[end:]
	}
}

func alphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= 0x80
}
