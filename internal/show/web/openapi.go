package web

import (
	"encoding"
	"encoding/json"
	"net/http"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"time"
)

// schemas collects the schemas of the types that the API speaks of, by name.
type schemas map[string]object

type object map[string]any

var (
	timeType = reflect.TypeFor[time.Time]()
	textType = reflect.TypeFor[encoding.TextMarshaler]()
)

// of is the schema of a type.
func (s schemas) of(t reflect.Type) object {
	switch {
	case t == timeType:
		return object{"type": "string", "format": "date-time"}
	case t.Implements(textType):
		return object{"type": "string"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return object{"anyOf": []any{s.of(t.Elem()), object{"type": "null"}}}
	case reflect.Slice:
		return object{"type": []string{"array", "null"}, "items": s.of(t.Elem())}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": s.of(t.Elem())}
	case reflect.Struct:
		return s.named(t)
	case reflect.String:
		return object{"type": "string"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Float32, reflect.Float64:
		return object{"type": "number"}
	default:
		return object{"type": "integer"} // durations are nanoseconds
	}
}

// named refers to the schema of a struct, and makes it.
func (s schemas) named(t reflect.Type) object {
	name := t.Name()
	if pkg := t.PkgPath(); !strings.HasSuffix(pkg, "/web") && !strings.HasSuffix(pkg, "/fleet") {
		name = pkg[strings.LastIndexByte(pkg, '/')+1:] + name // two packages may have the same name for two things
	}
	ref := object{"$ref": "#/components/schemas/" + name}
	if s[name] != nil {
		return ref
	}
	it := object{"type": "object"}
	s[name] = it
	properties, required := object{}, []string{}
	s.fields(t, properties, &required)
	it["properties"] = properties
	it["additionalProperties"] = false
	if len(required) > 0 {
		it["required"] = required
	}
	return ref
}

func (s schemas) fields(t reflect.Type, properties object, required *[]string) {
	for i := range t.NumField() {
		f := t.Field(i)
		tag, given := f.Tag.Lookup("json")
		if f.Anonymous && !given {
			of := f.Type
			if of.Kind() == reflect.Pointer {
				of = of.Elem()
			}
			s.fields(of, properties, required)
			continue
		}
		name, options, _ := strings.Cut(tag, ",")
		if !f.IsExported() || name == "-" {
			continue
		}
		if name == "" {
			name = f.Name
		}
		properties[name] = s.of(f.Type)
		if !strings.Contains(options, "omit") {
			*required = append(*required, name)
		}
	}
}

var pathValue = regexp.MustCompile(`{([a-z]+)}`)

// description is the API in the words of OpenAPI 3.1, made of routes and types, so that it says what is so.
var description = sync.OnceValue(func() []byte {
	all, paths := schemas{}, object{}
	problem := all.named(reflect.TypeFor[Problem]())
	for _, rt := range routes {
		var parameters []any
		for _, m := range pathValue.FindAllStringSubmatch(rt.path, -1) {
			parameters = append(parameters, object{"name": m[1], "in": "path", "required": true, "schema": object{"type": "string"}})
		}
		for _, name := range rt.query {
			p := object{"name": name, "in": "query", "description": params[name].does, "example": params[name].example, "schema": object{"type": "string"}}
			if name == "kind" {
				p["schema"] = object{"type": "array", "items": object{"type": "string"}}
				p["example"] = []string{params[name].example}
			}
			parameters = append(parameters, p)
		}
		content := object{rt.kind: object{}}
		if rt.kind == "" {
			content = object{"application/json": object{"schema": all.of(reflect.TypeOf(rt.answer))}}
		}
		op := object{"summary": rt.does, "x-role": rt.role.String(), "responses": object{
			"200":     object{"description": "as asked", "content": content},
			"default": object{"description": "why not", "content": object{"application/problem+json": object{"schema": problem}}},
		}}
		if parameters != nil {
			op["parameters"] = parameters
		}
		if rt.role == Anybody {
			op["security"] = []any{}
		}
		if rt.body != nil {
			op["requestBody"] = object{"required": true, "content": object{"application/json": object{"schema": all.of(reflect.TypeOf(rt.body))}}}
		}
		at, _ := paths[rt.path].(object)
		if at == nil {
			at = object{}
			paths[rt.path] = at
		}
		at[strings.ToLower(rt.method)] = op
	}
	text, err := json.MarshalIndent(object{
		"openapi": "3.1.0",
		"info": object{"title": "Tidemark", "version": "1", "description": "Times are RFC 3339 in UTC, durations as 1h2m3s where they are text and nanoseconds where they are numbers. " +
			"Errors are problem details (RFC 9457). Lists are paged by the header Link. Answers to GET carry an ETag. x-role is who may ask: anybody, a viewer or an operator."},
		"paths": paths, "components": object{"schemas": all, "securitySchemes": object{"token": object{"type": "http", "scheme": "bearer"}}},
		"security": []any{object{"token": []string{}}},
	}, "", " ")
	if err != nil {
		panic(err) // it is made of texts
	}
	return text
})

func (a *API) describe(w http.ResponseWriter, r *http.Request) {
	text := description()
	w.Header().Set("Content-Type", "application/json")
	if !Unchanged(w, r, text) {
		_, _ = w.Write(text) // the client may be gone
	}
}
