package config

import (
	"encoding"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Effective writes the configuration as it is in force, every default included, and where each value comes from. What it
// writes can be read again and says the same; what the environment filled in stays ${NAME}.
func Effective(cfg *Config) string {
	p := printer{cfg: cfg}
	p.structure("", "", reflect.ValueOf(cfg.spec).Elem())
	widest := 0
	for _, l := range p.lines {
		if n := utf8.RuneCountInString(l.text); l.note != "" && n <= 60 {
			widest = max(widest, n)
		}
	}
	var b strings.Builder
	for _, l := range p.lines {
		b.WriteString(l.text)
		if l.note != "" {
			fmt.Fprintf(&b, "%s  # %s", strings.Repeat(" ", max(0, widest-utf8.RuneCountInString(l.text))), l.note)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

type printer struct {
	cfg   *Config
	lines []struct{ text, note string }
}

func (p *printer) line(text, note string) {
	p.lines = append(p.lines, struct{ text, note string }{text, note})
}

// origin says where a value comes from.
func (p *printer) origin(path string) string {
	at, ok := p.cfg.places[path]
	switch {
	case ok && at.hasRaw:
		return fmt.Sprintf("line %d, from the environment", at.key.line)
	case ok:
		return fmt.Sprintf("line %d", at.key.line)
	case p.cfg.given[path] != "":
		return p.cfg.given[path]
	}
	return "default"
}

func (p *printer) structure(indent, path string, v reflect.Value) {
	for _, f := range fields(v.Type()) {
		p.setting(indent, f.name, join(path, f.name), v.FieldByIndex(f.index), f.option)
	}
}

// optional is a block that is not shown while it says nothing.
type optional interface{ absent() bool }

func (p *printer) setting(indent, name, path string, v reflect.Value, option string) {
	if text, ok := p.value(path, v, option); ok {
		if text == `""` && !p.written(path) && p.quiet(path) {
			return
		}
		p.line(indent+name+": "+text, p.origin(path))
		return
	}
	written := p.written(path)
	switch x := v.Interface().(type) {
	case optional:
		if x.absent() {
			return
		}
	case target:
		p.adapter(indent, name, path, x.Adapter)
		return
	case balancer:
		if x.Kind != "" {
			p.adapter(indent, name, path, x.Adapter)
		}
		return
	case front:
		if x.Kind != "" {
			p.adapter(indent, name, path, x.Adapter)
		}
		return
	case notifySpecs:
		p.channels(indent, x)
		return
	case Push, Report, budgetSpec:
		if !written {
			return
		}
	case signalSpecs:
		p.signals(indent, path, x)
		return
	}
	switch {
	case v.Kind() != reflect.Struct && v.Len() == 0:
		if written || strings.Contains(path, ".target.") || strings.Contains(path, ".balancer.") || strings.Contains(path, ".signals.") {
			empty := map[reflect.Kind]string{reflect.Map: "{}", reflect.Slice: "[]"}[v.Kind()]
			p.line(indent+name+": "+empty, p.origin(path))
		}
	case v.Kind() == reflect.Struct:
		p.line(indent+name+":", "")
		p.structure(indent+"  ", path, v)
	case v.Kind() == reflect.Map:
		p.line(indent+name+":", "")
		for _, key := range slices.SortedFunc(maps.Keys(keys(v)), strings.Compare) {
			p.setting(indent+"  ", quoted(key), join(path, key), keys(v)[key], option)
		}
	default:
		p.list(indent, name, path, v, option)
	}
}

// quiet reports whether a setting that says nothing is left out: those of adapters are shown, so that they are known.
func (p *printer) quiet(path string) bool {
	return strings.HasPrefix(path, "instance.") || strings.Contains(path, ".safeguards.") || strings.Contains(path, ".schedule.")
}

func (p *printer) written(path string) bool { _, ok := p.cfg.places[path]; return ok }

// keys are a map's entries by name.
func keys(v reflect.Value) map[string]reflect.Value {
	out := map[string]reflect.Value{}
	for _, k := range v.MapKeys() {
		out[k.String()] = v.MapIndex(k)
	}
	return out
}

func (p *printer) list(indent, name, path string, v reflect.Value, option string) {
	var flat []string
	for i := range v.Len() {
		if text, ok := p.value(fmt.Sprintf("%s.%d", path, i), v.Index(i), option); ok {
			flat = append(flat, text)
		}
	}
	if len(flat) == v.Len() {
		p.line(indent+name+": ["+strings.Join(flat, ", ")+"]", p.origin(path))
		return
	}
	p.line(indent+name+":", "")
	for i := range v.Len() {
		begin, entry := len(p.lines), fmt.Sprintf("%s.%d", path, i)
		if v.Index(i).Kind() == reflect.Struct {
			p.structure(indent+"    ", entry, v.Index(i))
			if len(p.lines) == begin {
				p.line(indent+"    {}", "")
			}
		} else {
			p.list(indent+"    ", "", entry, v.Index(i), option)
			p.lines[begin].text = strings.Replace(p.lines[begin].text, ": ", "", 1)
		}
		p.dash(indent, begin)
	}
}

// dash makes the lines from begin on an entry of a list.
func (p *printer) dash(indent string, begin int) {
	first := &p.lines[begin].text
	*first = indent + "  - " + strings.TrimPrefix(*first, indent+"    ")
}

func (p *printer) adapter(indent, name, path string, a Adapter) {
	p.line(indent+name+":", "")
	p.body(indent+"  ", path, a)
}

func (p *printer) body(indent, path string, a Adapter) {
	begin := len(p.lines)
	p.line(indent+a.Kind+":", "")
	p.structure(indent+"  ", join(path, a.Kind), reflect.ValueOf(a.Body).Elem())
	if len(p.lines) == begin+1 {
		p.lines[begin].text += " {}"
	}
}

func (p *printer) signals(indent, path string, all signalSpecs) {
	if len(all) == 0 {
		return
	}
	p.line(indent+"signals:", "")
	for i := range all {
		s := &all[i]
		at := join(path, s.Name)
		p.line(indent+"  "+s.Name+":", "measured in "+s.Source.Body.(SignalBody).Unit().String())
		p.body(indent+"    ", at, s.Source)
		for _, f := range fields(reflect.TypeFor[signalSpec]()) {
			v := reflect.ValueOf(s).Elem().FieldByIndex(f.index)
			if (f.name == "window" || f.name == "min_samples") && v.IsZero() {
				continue // its source has none
			}
			p.setting(indent+"    ", f.name, join(at, f.name), v, f.option)
		}
	}
}

// value writes a single value; ok is false for what has fields or entries.
func (p *printer) value(path string, v reflect.Value, option string) (text string, ok bool) {
	if at := p.cfg.places[path]; at.hasRaw {
		return quoted(at.raw), true
	}
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		b, err := m.MarshalText()
		if err != nil {
			return quoted(""), true
		}
		return quoted(string(b)), true
	}
	switch {
	case v.Type() == reflect.TypeFor[time.Duration]():
		return formatDuration(time.Duration(v.Int())), true
	case v.Kind() == reflect.String:
		if text := v.String(); mask(leaf(path)+": "+text) != leaf(path)+": "+text {
			return quoted(strings.TrimPrefix(mask(leaf(path)+": "+text), leaf(path)+": ")), true
		}
		return quoted(strings.ReplaceAll(v.String(), "${", "$${")), true
	case v.Kind() == reflect.Bool:
		return strconv.FormatBool(v.Bool()), true
	case v.CanInt() && option == "bytes":
		return formatBytes(v.Int()), true
	case v.CanInt():
		return strconv.FormatInt(v.Int(), 10), true
	case v.CanUint():
		return strconv.FormatUint(v.Uint(), 10), true
	case v.CanFloat():
		return strconv.FormatFloat(v.Float(), 'g', -1, 64), true
	}
	return "", false
}

var needsNoQuotes = regexp.MustCompile(`^[A-Za-z0-9/][A-Za-z0-9_./+%-]*( [A-Za-z0-9][A-Za-z0-9_./+%-]*)*$`)

// quoted writes a text so that YAML reads it as it is.
func quoted(s string) string {
	if needsNoQuotes.MatchString(s) && !strings.EqualFold(s, "null") {
		return s
	}
	var b strings.Builder
	enc := json.NewEncoder(&b) // JSON's strings are YAML's
	enc.SetEscapeHTML(false)
	if enc.Encode(s) != nil {
		return `""`
	}
	return strings.TrimSuffix(b.String(), "\n")
}
