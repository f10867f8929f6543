package httpjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// pointer is a JSON Pointer (RFC 6901), taken apart.
type pointer []string

// parsePointer reads a pointer to something within a document.
func parsePointer(s string) (pointer, error) {
	if !strings.HasPrefix(s, "/") {
		return nil, fmt.Errorf("%q does not begin with /", s)
	}
	names := strings.Split(s[1:], "/")
	for i, name := range names {
		for rest := name; ; {
			_, after, found := strings.Cut(rest, "~")
			if !found {
				break
			}
			if !strings.HasPrefix(after, "0") && !strings.HasPrefix(after, "1") {
				return nil, fmt.Errorf("%q has a ~ that is neither ~0 nor ~1", s)
			}
			rest = after
		}
		names[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(name)
	}
	return names, nil
}

func (p pointer) String() string {
	var b strings.Builder
	for _, name := range p {
		b.WriteString("/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name))
	}
	return b.String()
}

// parseJSON reads a page that is one JSON document.
func parseJSON(page []byte) (document any, err error) {
	d := json.NewDecoder(bytes.NewReader(page))
	d.UseNumber()
	if err := d.Decode(&document); err != nil {
		return nil, fmt.Errorf("the page is no JSON: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("the page is no JSON: something follows the document")
	}
	return document, nil
}

// number finds a number in a document, which several sources read at once.
func (p pointer) number(at any) (float64, error) {
	for i, name := range p {
		here := p[:i].String()
		switch v := at.(type) {
		case map[string]any:
			next, ok := v[name]
			if !ok {
				return 0, fmt.Errorf("the page has no %s; %s", p[:i+1], listed(here, v))
			}
			at = next
		case []any:
			n, err := strconv.Atoi(name)
			if err != nil || strconv.Itoa(n) != name || n < 0 {
				return 0, fmt.Errorf("%s is a list, and %q is no place in it: write 0 for the first", shown(here), name)
			}
			if n >= len(v) {
				return 0, fmt.Errorf("the page has no %s: the list has %d entries", p[:i+1], len(v))
			}
			at = v[n]
		default:
			return 0, fmt.Errorf("%s is %s, and has nothing in it", shown(here), described(at))
		}
	}
	text, ok := at.(json.Number)
	if !ok {
		return 0, fmt.Errorf("%s is %s, and no number", p, described(at))
	}
	v, err := text.Float64()
	if err != nil || math.IsInf(v, 0) || math.IsNaN(v) {
		return 0, fmt.Errorf("%s is too large a number", p)
	}
	return v, nil
}

// shown is a place in words.
func shown(at string) string {
	if at == "" {
		return "the document"
	}
	return at
}

// listed names some of what is there instead.
func listed(at string, v map[string]any) string {
	const most = 5
	names := slices.Sorted(maps.Keys(v))
	more := ""
	if len(names) > most {
		names, more = names[:most], ", ..."
	}
	if len(names) == 0 {
		return shown(at) + " is empty"
	}
	for i, name := range names {
		names[i] = strconv.Quote(name)
	}
	return shown(at) + " has " + strings.Join(names, ", ") + more
}

func described(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "a truth value"
	case string:
		return "a text"
	case json.Number:
		return "a number"
	case []any:
		return "a list"
	}
	return "an object"
}
