package config

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// Adapter is one source, target or balancer: its kind and its own configuration. The kind is empty where there is none.
type Adapter struct {
	Kind string
	Body Body
}

type target struct{ Adapter }

func (t *target) decode(d *decoder, path string, n *yaml.Node) {
	t.Adapter = d.adapter(path, n, "target", d.cat.Targets)
}

type balancer struct{ Adapter }

func (b *balancer) decode(d *decoder, path string, n *yaml.Node) {
	b.Adapter = d.adapter(path, n, "balancer", d.cat.Balancers)
}

type front struct{ Adapter }

func (f *front) decode(d *decoder, path string, n *yaml.Node) {
	f.Adapter = d.adapter(path, n, "front", d.cat.Fronts)
}

// adapter decodes {kind: body}.
func (d *decoder) adapter(path string, n *yaml.Node, what string, kinds map[string]func() Body) Adapter {
	known := slices.Sorted(maps.Keys(kinds))
	if n.Kind != yaml.MappingNode || len(n.Content) == 0 {
		if kinds[n.Value] != nil {
			d.fail(path, n.Value+" stands without its settings", fmt.Sprintf("write %s: {%s: {...}}", what, n.Value))
		} else {
			d.fail(path, "names no "+what, fmt.Sprintf("write %s: {kind: {...}} with one of the kinds %s", what, strings.Join(known, ", ")))
		}
		return Adapter{}
	}
	var a Adapter
	for key, value := range d.pairs(path, n) {
		newBody := kinds[key.Value]
		switch {
		case newBody == nil:
			d.unknownKind(path, key, what, known)
		case a.Kind != "":
			d.failAt(mark{key.Line, key.Column}, path, fmt.Sprintf("has both %s and %s", a.Kind, key.Value), "a fleet has one "+what+"; delete the other")
		default:
			a = Adapter{key.Value, newBody()}
			at := d.enter(path, key, value)
			d.follow(value, func(n *yaml.Node) { d.decodeBody(at, n, a.Body) })
		}
	}
	return a
}

func (d *decoder) unknownKind(path string, key *yaml.Node, what string, known []string) {
	var f *FieldError
	if _, err := oneOf("kind of "+what, key.Value, known); errors.As(err, &f) {
		d.failAt(mark{key.Line, key.Column}, path, f.Msg, f.Fix)
	}
}

// decodeBody decodes an adapter's own configuration and places what it says against itself.
func (d *decoder) decodeBody(path string, n *yaml.Node, body Body) {
	if !isNull(n) {
		d.decode(path, n, reflect.ValueOf(body).Elem(), "")
	}
	for _, err := range flatten(body.Validate()) {
		var f *FieldError
		if !errors.As(err, &f) {
			f = &FieldError{Msg: err.Error()}
		}
		at := path
		if f.Field != "" {
			at = join(path, strings.NewReplacer("[", ".", "]", "").Replace(f.Field))
		}
		if d.ok(at) || at == path {
			d.fail(at, f.Msg, f.Fix)
		}
	}
}

// flatten takes joined errors apart.
func flatten(err error) []error {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		var out []error
		for _, e := range many.Unwrap() {
			out = append(out, flatten(e)...)
		}
		return out
	}
	if err == nil {
		return nil
	}
	return []error{err}
}

// signalSpecs are in the order in which they are written.
type signalSpecs []signalSpec

func (s *signalSpecs) decode(d *decoder, path string, n *yaml.Node) {
	switch n.Kind {
	case yaml.MappingNode:
	case yaml.SequenceNode:
		d.fail(path, "is a list, and signals stand under their names", "write cpu: {procfs: {}, statistic: avg} without the dash")
		return
	default:
		d.fail(path, "holds no signals", "write each signal under its name, such as cpu: {procfs: {}, statistic: avg}")
		return
	}
	for key, value := range d.pairs(path, n) {
		sig := signalSpec{Name: key.Value, Period: time.Minute}
		at := d.enter(path, key, value)
		d.places[at] = place{key: d.places[at].key, value: d.places[at].key} // what is said of a signal is shown at its name
		d.follow(value, func(n *yaml.Node) { sig.decode(d, at, n) })
		*s = append(*s, sig)
	}
}

func (s *signalSpec) decode(d *decoder, path string, n *yaml.Node) {
	kinds := slices.Sorted(maps.Keys(d.cat.Signals))
	if n.Kind != yaml.MappingNode {
		d.fail(path, "has no source", fmt.Sprintf("write %s: {%s: {}} with one of the sources %s", s.Name, "procfs", strings.Join(kinds, ", ")))
		return
	}
	v := reflect.ValueOf(s).Elem()
	own := fields(v.Type())
	for key, value := range d.pairs(path, n) {
		i := slices.IndexFunc(own, func(f field) bool { return f.name == key.Value })
		newBody := d.cat.Signals[key.Value]
		switch {
		case i >= 0:
			d.decode(d.enter(path, key, value), value, v.FieldByIndex(own[i].index), own[i].option)
		case newBody != nil && s.Source.Kind != "":
			d.failAt(mark{key.Line, key.Column}, path, fmt.Sprintf("has both %s and %s", s.Source.Kind, key.Value), "a signal has one source; delete the other")
		case newBody != nil:
			s.Source = Adapter{key.Value, newBody()}
			at := d.enter(path, key, value)
			d.follow(value, func(n *yaml.Node) { d.decodeBody(at, n, s.Source.Body) })
		default:
			d.unknownField(path, key, append(names(own), kinds...))
		}
	}
	if s.Source.Kind == "" && d.ok(path) {
		d.fail(path, "has no source", "add one of "+strings.Join(kinds, ", ")+", such as procfs: {}")
	}
}
