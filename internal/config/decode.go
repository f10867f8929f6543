package config

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"tidemark/internal/decide/schedule"
)

// decoder fills Go values from YAML nodes, and remembers where each setting stands. The package's doc says how fields are
// tagged.
type decoder struct {
	text   *text
	cat    Catalog
	env    func(string) (string, bool)
	places map[string]place
	given  map[string]string // why a value that is not written is not the default either
	failed map[string]bool   // settings that are wrong, by themselves ...
	around map[string]bool   // ... and they and all that they are part of
	hidden map[string]string // values that came from the environment -> ${NAME}
	// holidays are the instance's, read.
	holidays schedule.Holidays
	other    string // what the file is when it is no configuration, such as "scenario"
	cluster  bool   // it is a ScalingPolicy, which has no settings of a host
	aliased  int    // values that aliases brought in, and whether we are within one
	within   int
	probs    Problems
}

// place is where a setting stands in the file.
type place struct {
	key, value mark   // equal for entries of a list
	raw        string // the text as written, when it held ${NAME}
	hasRaw     bool
}

// selfDecoder decodes itself; it must read n by way of d.
type selfDecoder interface {
	decode(d *decoder, path string, n *yaml.Node)
}

// defaulter is a list's entry that has defaults.
type defaulter interface{ setDefaults() }

// maxAliased is enough for 500 fleets that share a block of 40 settings, and little enough to be read at once.
const maxAliased = 20_000

func (d *decoder) report(s Severity, path, msg, fix string) {
	if s == Error {
		d.distrust(path)
	}
	d.probs = append(d.probs, d.text.problem(d.locate(path), s, path, d.scrub(msg), d.scrub(fix)))
}

func (d *decoder) fail(path, msg, fix string) { d.report(Error, path, msg, fix) }
func (d *decoder) warn(path, msg, fix string) { d.report(Warning, path, msg, fix) }

// failWith reports what one of the parse functions or an UnmarshalText returned.
func (d *decoder) failWith(path string, err error) {
	var f *FieldError
	if errors.As(err, &f) {
		d.fail(path, f.Msg, f.Fix)
		return
	}
	d.fail(path, err.Error(), "")
}

// locate is the value's place, or that of the nearest setting around it.
func (d *decoder) locate(path string) mark {
	for first := true; ; first = false {
		if p, ok := d.places[path]; ok {
			if first {
				return p.value
			}
			return p.key
		}
		if path == "" {
			return mark{1, 1}
		}
		path, _ = cut(path)
	}
}

// written reports whether the setting stands in the file.
func (d *decoder) written(path string) bool { _, ok := d.places[path]; return ok }

// ok reports whether the settings can be relied on: neither they nor what is in or around them has failed.
func (d *decoder) ok(paths ...string) bool {
	for _, path := range paths {
		if d.around[path] || d.failed[""] {
			return false
		}
		for ; path != ""; path, _ = cut(path) {
			if d.failed[path] {
				return false
			}
		}
	}
	return true
}

// distrust notes that a setting is wrong.
func (d *decoder) distrust(path string) {
	d.failed[path] = true
	for ; path != "" && !d.around[path]; path, _ = cut(path) {
		d.around[path] = true
	}
	d.around[""] = true
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// quote shows a value as it is written, unless it may be a secret.
func quote(path, value string) string {
	if mask(leaf(path)+": "+value) != leaf(path)+": "+value {
		return "the value"
	}
	if len(value) > 60 {
		value = strings.ToValidUTF8(value[:60], "") + "…"
	}
	return `"` + value + `"`
}

// decode fills v, which is settable, from n. option is what the yaml tag says beside the name.
func (d *decoder) decode(path string, n *yaml.Node, v reflect.Value, option string) {
	if n.Kind == yaml.AliasNode {
		d.follow(n, func(n *yaml.Node) { d.decode(path, n, v, option) })
		return
	}
	if d.within > 0 {
		if d.aliased++; d.aliased > maxAliased {
			return // parse reports it
		}
	}
	if n.Style&yaml.TaggedStyle != 0 {
		d.fail(path, "the tag "+n.Tag+" has no place here", "delete it")
		return
	}
	if own, ok := v.Addr().Interface().(selfDecoder); ok {
		own.decode(d, path, n)
		return
	}
	if isNull(n) {
		d.fail(path, "has no value", "write one, or delete the line")
		return
	}
	if own, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if s, ok := d.plainScalar(path, n); ok {
			if err := own.UnmarshalText([]byte(s)); err != nil {
				d.failWith(path, err)
			}
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.decodeStruct(path, n, v)
	case reflect.Slice:
		d.decodeSlice(path, n, v, option)
	case reflect.Map:
		d.decodeMap(path, n, v, option)
	default:
		d.decodeScalar(path, n, v, option)
	}
}

// follow goes to what an alias stands for, and counts what is read there.
func (d *decoder) follow(n *yaml.Node, read func(n *yaml.Node)) {
	if n.Kind != yaml.AliasNode {
		read(n)
		return
	}
	d.within++
	d.follow(n.Alias, read)
	d.within--
}

// isNull reports whether nothing is written, or null or ~.
func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// scalar is the text of a single value.
func (d *decoder) scalar(path string, n *yaml.Node) (string, bool) {
	switch n.Kind {
	case yaml.ScalarNode:
		return n.Value, true
	case yaml.SequenceNode:
		d.fail(path, "is a list, and one value is needed", "write the value without brackets or dash")
	default:
		d.fail(path, "has fields of its own, and one value is needed", "write the value after the colon")
	}
	return "", false
}

func (d *decoder) decodeScalar(path string, n *yaml.Node, v reflect.Value, option string) {
	if v.Kind() == reflect.String {
		if s, ok := d.scalar(path, n); ok {
			v.SetString(d.expand(path, s))
		}
		return
	}
	if s, ok := d.plainScalar(path, n); ok {
		if err := setScalar(v, s, option); err != nil {
			d.failWith(path, err)
		}
	}
}

// plainScalar is the text of a value into which no environment variable can be filled.
func (d *decoder) plainScalar(path string, n *yaml.Node) (string, bool) {
	s, ok := d.scalar(path, n)
	if ok && strings.Contains(s, "${") {
		d.fail(path, "environment variables can stand only where text is expected", "write the value itself")
		return "", false
	}
	return s, ok
}

// setScalar sets a bool, a number or a duration.
func setScalar(v reflect.Value, s, option string) error {
	kind := v.Kind()
	switch {
	case v.Type() == reflect.TypeFor[time.Duration]():
		x, err := parseDuration(s, "s")
		v.SetInt(int64(x))
		return err
	case kind == reflect.Bool:
		x, err := parseBool(s)
		v.SetBool(x)
		return err
	case v.CanInt() && option == "bytes":
		x, err := parseBytes(s)
		if err == nil && v.OverflowInt(x) {
			return wrong("write a smaller one", "%s is too large", s)
		}
		v.SetInt(x)
		return err
	case v.CanInt() && option == "percent":
		x, err := parsePercent(s)
		if err == nil && x != float64(int64(x)) {
			return wrong(fmt.Sprintf("write %d%% or %d%%", int(x), int(x)+1), "%s is not a whole percentage", s)
		}
		v.SetInt(int64(x))
		return err
	case v.CanInt():
		x, err := parseInt(s, v.Type().Bits())
		v.SetInt(x)
		return err
	case v.CanUint():
		x, err := parseInt(s, 64)
		switch {
		case err == nil && x < 0:
			return wrong("write 0 or more", "%s is negative", s)
		case err == nil && v.OverflowUint(uint64(x)):
			return wrong("write a smaller number", "%s is too large", s)
		}
		v.SetUint(uint64(max(x, 0)))
		return err
	case v.CanFloat() && option == "percent":
		x, err := parsePercent(s)
		v.SetFloat(x)
		return err
	case v.CanFloat():
		x, err := parseNumber(s)
		v.SetFloat(x)
		return err
	}
	return fmt.Errorf("a setting of type %s cannot be written", v.Type()) // a mistake in a Body, found by its first test
}

// field is one setting of a struct.
type field struct {
	name, option, example string
	index                 []int
}

// fields lists the settings of a struct in their order.
func fields(t reflect.Type) []field {
	var out []field
	for i := range t.NumField() {
		f := t.Field(i)
		tag, ok := f.Tag.Lookup("yaml")
		if !ok || tag == "-" || !f.IsExported() {
			continue
		}
		name, option, _ := strings.Cut(tag, ",")
		if option == "inline" {
			for _, inner := range fields(f.Type) {
				inner.index = append([]int{i}, inner.index...)
				out = append(out, inner)
			}
			continue
		}
		out = append(out, field{name: name, option: option, example: f.Tag.Get("example"), index: []int{i}})
	}
	return out
}

func names(fs []field) []string {
	out := make([]string, len(fs))
	for i, f := range fs {
		out[i] = f.name
	}
	return out
}

// decodeFields is for a selfDecoder, v, that is also written as a struct.
func (d *decoder) decodeFields(path string, n *yaml.Node, v any) {
	if isNull(n) {
		d.fail(path, "has no value", "write one, or delete the line")
		return
	}
	d.decodeStruct(path, n, reflect.ValueOf(v).Elem())
}

func (d *decoder) decodeStruct(path string, n *yaml.Node, v reflect.Value) {
	fs := fields(v.Type())
	if d.cluster {
		fs = slices.DeleteFunc(fs, func(f field) bool { return clusterless(v.Type(), f.name) })
	}
	if n.Kind != yaml.MappingNode {
		d.needsFields(path, n, names(fs))
		return
	}
	seen := map[string]bool{}
	for key, value := range d.pairs(path, n) {
		i := slices.IndexFunc(fs, func(f field) bool { return f.name == key.Value })
		if i < 0 {
			seen[d.unknownField(path, key, names(fs))] = true
			continue
		}
		seen[key.Value] = true
		if fs[i].option == "required" && isNull(value) {
			d.fail(d.enter(path, key, value), "has no value", "write "+fs[i].name+": "+fs[i].example)
			continue
		}
		d.decode(d.enter(path, key, value), value, v.FieldByIndex(fs[i].index), fs[i].option)
	}
	for _, f := range fs {
		if f.option == "required" && !seen[f.name] && !d.failed[path] {
			d.fail(join(path, f.name), "is missing", "write "+f.name+": "+f.example)
		}
	}
}

// shape shows how fields are written.
func shape(names []string) string {
	if len(names) > 3 {
		names = names[:3]
	}
	if len(names) == 0 {
		return "{}"
	}
	return "{" + strings.Join(names, ": ..., ") + ": ...}"
}

func (d *decoder) needsFields(path string, n *yaml.Node, names []string) {
	shape := shape(names)
	if leaf(path) != "" {
		shape = leaf(path) + ": " + shape
	}
	switch {
	case path == "" && d.other != "":
		d.fail(path, "this is not a "+d.other+", which is made of fields", "write "+shape)
	case path == "":
		d.fail(path, "this is not a configuration, which is made of fields", "write fleets: and below it an entry for each fleet")
	case n.Kind == yaml.SequenceNode:
		d.fail(path, "is a list, and fields are needed", "write "+shape)
	case n.Kind == yaml.ScalarNode && strings.Contains(n.Value, ":") && n.Style == 0:
		d.fail(path, "has no space after the colon, so it is not a field", "write "+strings.Replace(n.Value, ":", ": ", 1))
	default:
		d.fail(path, quote(path, n.Value)+" is one value, and fields are needed", "write "+shape)
	}
}

// pairs goes through a mapping's fields. It refuses, and leaves out, what is written twice or is no name.
func (d *decoder) pairs(path string, n *yaml.Node) func(yield func(key, value *yaml.Node) bool) {
	return func(yield func(key, value *yaml.Node) bool) {
		first := map[string]*yaml.Node{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			at := mark{key.Line, key.Column}
			if before := first[key.Value]; before != nil && key.Kind == yaml.ScalarNode {
				d.failAt(at, join(path, key.Value), fmt.Sprintf("is written twice, first in line %d", before.Line), "delete one of the two")
				continue
			}
			switch {
			case key.Kind != yaml.ScalarNode || key.Value == "" || key.Style&yaml.TaggedStyle != 0:
				d.failAt(at, path, "the name of a field must be plain text", "write it as name: value")
			case key.Value == "<<":
				d.failAt(at, path, "merging (<<) has no place here", "write the fields out, or use an alias for the whole block: name: *alias")
			case isNull(value) && value.Value == "" && n.Style&yaml.FlowStyle != 0 && strings.Contains(key.Value, ":"):
				d.failAt(at, path, fmt.Sprintf("%q has no space after the colon, so it is not a field", key.Value), "write "+strings.Replace(key.Value, ":", ": ", 1))
			default:
				first[key.Value] = key
				if !yield(key, value) {
					return
				}
			}
		}
	}
}

func (d *decoder) failAt(at mark, path, msg, fix string) {
	d.distrust(path)
	d.probs = append(d.probs, d.text.problem(at, Error, path, msg, fix))
}

// enter notes where a field stands and returns its path.
func (d *decoder) enter(path string, key, value *yaml.Node) string {
	path = join(path, key.Value)
	p := place{key: mark{key.Line, key.Column}, value: mark{value.Line, value.Column}}
	if isNull(value) && value.Value == "" {
		p.value = p.key
	}
	d.places[path] = p
	return path
}

// unknownField reports a field that is not there, and returns the one that was probably meant.
func (d *decoder) unknownField(path string, key *yaml.Node, names []string) (meant string) {
	at, name := mark{key.Line, key.Column}, key.Value
	d.distrust(join(path, name))
	fix := "the fields here are " + strings.Join(names, ", ")
	near, elsewhere := nearest(name, names), homes(name)
	if d.other != "" {
		elsewhere = nil
	}
	switch {
	case path == "instance" && instead[name] != "":
		fix = instead[name]
	case near != "":
		d.distrust(join(path, near))
		fix = "did you mean " + near + "?"
	case len(elsewhere) > 0:
		fix = "it belongs under " + strings.Join(elsewhere, " or ")
	case len(names) == 0:
		fix = "there are no fields here"
	}
	d.probs = append(d.probs, d.text.problem(at, Error, path, "unknown field "+name, fix))
	return near
}

func (d *decoder) decodeSlice(path string, n *yaml.Node, v reflect.Value, option string) {
	switch n.Kind {
	case yaml.SequenceNode:
	case yaml.MappingNode:
		d.fail(path, "has fields, and a list is needed", `put "- " before each entry`)
		return
	default:
		fix := "write [" + strings.Trim(quote(path, n.Value), `"`) + "]"
		if e := v.Type().Elem(); e.Kind() == reflect.Struct {
			fix = "write a list with entries such as " + shape(names(fields(e)))
		}
		d.fail(path, quote(path, n.Value)+" is one value, and a list is needed", fix)
		return
	}
	out := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, entry := range n.Content {
		e := fmt.Sprintf("%s.%d", path, i)
		at := mark{entry.Line, entry.Column}
		d.places[e] = place{key: at, value: at}
		if x, ok := out.Index(i).Addr().Interface().(defaulter); ok {
			x.setDefaults()
		}
		d.decode(e, entry, out.Index(i), option)
	}
	v.Set(out)
}

func (d *decoder) decodeMap(path string, n *yaml.Node, v reflect.Value, option string) {
	if n.Kind != yaml.MappingNode {
		d.needsFields(path, n, []string{"name"})
		return
	}
	out := reflect.MakeMap(v.Type())
	for key, value := range d.pairs(path, n) {
		x := reflect.New(v.Type().Elem()).Elem()
		d.decode(d.enter(path, key, value), value, x, option)
		out.SetMapIndex(reflect.ValueOf(key.Value).Convert(v.Type().Key()), x)
	}
	v.Set(out)
}
