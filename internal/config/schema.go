package config

import (
	"encoding"
	"maps"
	"reflect"
	"time"
)

// Schema is an OpenAPI 3 schema, in the structural form that Kubernetes asks of custom resources.
type Schema map[string]any

// FleetSchema describes what may stand in a fleet beside its name, by the same table of settings that reads it. It finds wrong names and
// kinds of values; what values mean, and whether they go together, only Parse knows.
func FleetSchema(cat Catalog) Schema {
	s := schema{cat}.fields(reflect.TypeFor[fleetSpec](), "name")
	s["required"] = []string{"target", "bounds"}
	return s
}

type schema struct{ cat Catalog }

// any is what takes more than one kind of value, such as 70 and 70%: Parse says what is wrong with it.
func (schema) any() Schema { return Schema{"x-kubernetes-preserve-unknown-fields": true} }

func (s schema) of(t reflect.Type, option string) Schema {
	text := reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return Schema{"type": "string"}
	case t == reflect.TypeFor[target]():
		return s.oneOf(s.cat.Targets)
	case t == reflect.TypeFor[balancer]():
		return s.oneOf(s.cat.Balancers)
	case t == reflect.TypeFor[front]():
		return s.oneOf(s.cat.Fronts)
	case t == reflect.TypeFor[signalSpecs]():
		return Schema{"type": "object", "additionalProperties": s.signal()}
	case text || option != "" && option != "required" || reflect.PointerTo(t).Implements(reflect.TypeFor[selfDecoder]()):
		return s.any()
	}
	switch t.Kind() {
	case reflect.Struct:
		return s.fields(t)
	case reflect.Slice:
		return Schema{"type": "array", "items": s.of(t.Elem(), option)}
	case reflect.Map:
		return Schema{"type": "object", "additionalProperties": s.of(t.Elem(), option)}
	case reflect.Bool:
		return Schema{"type": "boolean"}
	case reflect.String:
		if t != reflect.TypeFor[string]() {
			return s.any() // a literal: a number too
		}
		return Schema{"type": "string"}
	case reflect.Float64:
		return Schema{"type": "number"}
	}
	return Schema{"type": "integer"}
}

// fields describes a struct without those that are named.
func (s schema) fields(t reflect.Type, without ...string) Schema {
	properties, required := Schema{}, []string(nil)
	for _, f := range fields(t) {
		if len(without) > 0 && f.name == without[0] {
			continue
		}
		properties[f.name] = s.of(t.FieldByIndex(f.index).Type, f.option)
		if f.option == "required" {
			required = append(required, f.name)
		}
	}
	out := Schema{"type": "object", "properties": properties}
	if len(required) > 0 && len(without) == 0 {
		out["required"] = required
	}
	return out
}

// oneOf is {kind: body}.
func (s schema) oneOf(kinds map[string]func() Body) Schema {
	properties := Schema{}
	for name, body := range kinds {
		properties[name] = s.fields(reflect.TypeOf(body()).Elem())
	}
	return Schema{"type": "object", "properties": properties, "minProperties": 1, "maxProperties": 1}
}

func (s schema) signal() Schema {
	out := s.fields(reflect.TypeFor[signalSpec]())
	kinds := map[string]func() Body{}
	for name, body := range s.cat.Signals {
		kinds[name] = func() Body { return body() }
	}
	maps.Copy(out["properties"].(Schema), s.oneOf(kinds)["properties"].(Schema))
	return out
}
