package config

import (
	"encoding"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"tidemark/internal/fleet"
)

// Schema is a structural schema of Kubernetes: OpenAPI v3, and what stands in it for values that are written in two ways (70, 70%).
type Schema struct {
	Type                 string             `json:"type,omitempty"`
	Description          string             `json:"description,omitempty"`
	Enum                 []any              `json:"enum,omitempty"`
	Required             []string           `json:"required,omitempty"`
	Properties           map[string]*Schema `json:"properties,omitempty"`
	AdditionalProperties *Schema            `json:"additionalProperties,omitempty"`
	Items                *Schema            `json:"items,omitempty"`
	MinProperties        int                `json:"minProperties,omitempty"`
	MaxProperties        *int               `json:"maxProperties,omitempty"`
	MaxItems             *int               `json:"maxItems,omitempty"`
	Format               string             `json:"format,omitempty"`
	Nullable             bool               `json:"nullable,omitempty"`
	ListType             string             `json:"x-kubernetes-list-type,omitempty"`
	ListKeys             []string           `json:"x-kubernetes-list-map-keys,omitempty"`
	Scalar               bool               `json:"x-kubernetes-preserve-unknown-fields,omitempty"`
	IntOrString          bool               `json:"x-kubernetes-int-or-string,omitempty"`
}

// PolicySchema is that of a ScalingPolicy's spec, by the settings of a fleet and of the adapters of a catalog. It lets through nothing
// that is not a setting, and no value of the wrong kind; what a value may be, Policy says.
func PolicySchema(cat Catalog) *Schema {
	s := &schemer{cat}
	return s.object(reflect.TypeFor[fleetSpec]())
}

type schemer struct{ cat Catalog }

// scalar is a number or a text: 0.5, 70%, 400ms.
func scalar() *Schema {
	none := 0
	return &Schema{Scalar: true, MaxProperties: &none, MaxItems: &none}
}

// words are the types whose values are some few words.
var words = map[reflect.Type][]string{
	reflect.TypeFor[operator]():    operatorNames,
	reflect.TypeFor[missing]():     append(slices.Clone(missingNames), "notBreaching"),
	reflect.TypeFor[protects]():    protectsNames,
	reflect.TypeFor[holidayRule](): holidayRuleNames,
	reflect.TypeFor[onExceed]():    {string(tellOfIt)},
	reflect.TypeFor[pace]():        {string(ownPace), string(safeguardsPace)},
	reflect.TypeFor[fleet.Unit]():  fleet.UnitNames(),
}

func (s *schemer) of(t reflect.Type, option string) *Schema {
	switch t {
	case reflect.TypeFor[mode]():
		out := &Schema{Scalar: true}
		for _, name := range fleet.ModeNames() {
			out.Enum = append(out.Enum, name)
		}
		out.Enum = append(out.Enum, true, false) // on and off without quotes, as Kubernetes reads them
		return out
	case reflect.TypeFor[target]():
		return oneKind(s, s.cat.Targets)
	case reflect.TypeFor[signalSpecs]():
		return &Schema{Type: "object", AdditionalProperties: s.signal()}
	case reflect.TypeFor[policySpec]():
		return s.policy()
	case reflect.TypeFor[literal]():
		return scalar()
	case reflect.TypeFor[time.Duration]():
		return &Schema{IntOrString: true} // 0 needs no unit
	}
	if names := words[t]; names != nil {
		out := &Schema{Type: "string"}
		for _, name := range names {
			out.Enum = append(out.Enum, name)
		}
		return out
	}
	if reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return &Schema{Type: "string"}
	}
	switch kind := t.Kind(); {
	case kind == reflect.Struct:
		return s.object(t)
	case kind == reflect.Slice:
		return &Schema{Type: "array", Items: s.of(t.Elem(), option)}
	case kind == reflect.Map:
		return &Schema{Type: "object", AdditionalProperties: s.of(t.Elem(), option)}
	case kind == reflect.String:
		return &Schema{Type: "string"}
	case kind == reflect.Bool:
		return &Schema{Type: "boolean"}
	case option == "bytes":
		return &Schema{IntOrString: true}
	case option == "percent":
		return scalar()
	case kind == reflect.Float64:
		return &Schema{Type: "number"}
	}
	return &Schema{Type: "integer"}
}

func (s *schemer) object(t reflect.Type) *Schema {
	out := &Schema{Type: "object", Properties: map[string]*Schema{}}
	for _, f := range fields(t) {
		if clusterless(t, f.name) {
			continue
		}
		out.Properties[f.name] = s.of(t.FieldByIndex(f.index).Type, f.option)
		if f.option == "required" {
			out.Required = append(out.Required, f.name)
		}
	}
	return out
}

// oneKind is an adapter: its kind, and below it what its body has.
func oneKind[B Body](s *schemer, kinds map[string]func() B) *Schema {
	one := 1
	return &Schema{Type: "object", Properties: bodies(s, kinds), MinProperties: 1, MaxProperties: &one}
}

func bodies[B Body](s *schemer, kinds map[string]func() B) map[string]*Schema {
	out := map[string]*Schema{}
	for name, make := range kinds {
		out[name] = s.object(reflect.TypeOf(make()).Elem())
	}
	return out
}

// signal has the source's kind among its own settings.
func (s *schemer) signal() *Schema {
	out := s.object(reflect.TypeFor[signalSpec]())
	maps.Copy(out.Properties, bodies(s, s.cat.Signals))
	return out
}

// policy is written by its rules, or by the name of a preset.
func (s *schemer) policy() *Schema {
	out, preset := s.object(reflect.TypeFor[policySpec]()), s.object(reflect.TypeFor[fromPreset]())
	maps.Copy(out.Properties, preset.Properties)
	out.Required = nil // id, unless a preset gives one
	return out
}

// Describe adds what a setting is for, by its path from the spec on: policies.rules.threshold.
func (s *Schema) Describe(path, text string) bool {
	for step := range strings.SplitSeq(path, ".") {
		if s.Items != nil {
			s = s.Items
		}
		if s.AdditionalProperties != nil {
			s = s.AdditionalProperties
		}
		if s = s.Properties[step]; s == nil {
			return false
		}
	}
	s.Description = text
	return true
}
