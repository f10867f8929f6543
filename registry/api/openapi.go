package api

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"tidemark/registry"
	"tidemark/registry/web"
)

var (
	uidSchema = web.Schema{"type": "string", "format": "uuid", "pattern": "^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}$"}
	instant   = web.Schema{"type": "string", "format": "date-time"}

	foundSchema = object(web.Schema{
		"farmers": web.Schema{"type": "array", "items": web.Ref("Farmer"), "maxItems": maxFound},
		"more":    web.Schema{"type": "boolean", "description": "the search was cut short: ask more narrowly"},
	}, "farmers", "more")
	formsSchema = object(web.Schema{"forms": web.Schema{"type": "array", "items": web.Ref("Form")}}, "forms")
)

// object is the schema of an object that has these members and no others.
func object(properties web.Schema, required ...string) web.Schema {
	s := web.Schema{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		s["required"] = required
	}
	return s
}

// schemas are the components that routes refer to. Each entity has three: the record as it is read, what makes a new
// one, and what changes one.
func schemas() web.Schema {
	text := web.Schema{"type": "string"}
	all := web.Schema{
		"Problem": web.ProblemSchema(),
		"Form": object(web.Schema{
			"id": text, "version": web.Schema{"type": "integer", "minimum": 1}, "title": text,
			"questions": web.Schema{"type": "array", "items": object(web.Schema{
				"name": text, "label": text, "type": web.Schema{"enum": []string{"text", "number", "choice", "date", "yes_no"}}, "required": web.Schema{"type": "boolean"},
				"choices": web.Schema{"type": "array", "items": text}, "max": web.Schema{"type": "number"},
			}, "name", "label", "type")},
		}, "id", "version", "title", "questions"),
	}
	for _, e := range registry.Entities {
		name := strings.ToUpper(e.Name[:1]) + e.Name[1:]
		record := web.Schema{
			"entity": web.Schema{"const": e.Name}, "uid": uidSchema, "version": web.Schema{"type": "integer", "minimum": 1},
			"created_at": instant, "updated_at": instant, "deleted": web.Schema{"const": true},
		}
		created, edit := web.Schema{"uid": uidSchema}, web.Schema{}
		has, needs := []string{"entity", "uid", "version", "created_at", "updated_at"}, []string(nil)
		for _, f := range e.Fields {
			record[f.Name] = field(f)
			orEmpty := web.Schema{"anyOf": []web.Schema{field(f), {"type": "null"}}}
			edit[f.Name], created[f.Name] = orEmpty, orEmpty
			if f.Required {
				has = append(has, f.Name)
				if f.Kind != registry.Choice {
					needs = append(needs, f.Name)
					created[f.Name] = field(f)
				}
			}
		}
		if e.Name == "submission" { // the form is in the path
			delete(created, "form")
			needs = slices.DeleteFunc(needs, func(name string) bool { return name == "form" })
		}
		all[name], all["New"+name], all[name+"Edit"] = object(record, has...), object(created, needs...), object(edit)
	}
	return all
}

// field is the schema of a field's value. What is sent may be less tidy than it says: spaces are trimmed, codes put in
// upper case, and so on.
func field(f registry.Field) web.Schema {
	switch f.Kind {
	case registry.Name:
		return web.Schema{"type": "string", "minLength": 1, "maxLength": 80}
	case registry.Choice:
		return web.Schema{"type": "string", "enum": f.Choices, "default": f.Choices[0]}
	case registry.Date:
		return web.Schema{"type": "string", "format": "date", "pattern": `^[0-9]{4}-[0-9]{2}-[0-9]{2}$`}
	case registry.Number:
		s := web.Schema{"type": "number", "minimum": 0}
		if f.Max > 0 {
			s["maximum"] = f.Max
		}
		return s
	case registry.Code:
		return web.Schema{"type": "string", "pattern": "^[A-Za-z0-9-]{3,32}$"}
	case registry.Phone:
		return web.Schema{"type": "string", "description": "E.164", "pattern": "^[+][0-9]{7,15}$"}
	case registry.Reference:
		return maps.Clone(uidSchema)
	case registry.Shape:
		return web.Schema{"type": "object", "description": "GeoJSON (RFC 7946): a Point or a Polygon", "required": []string{"type", "coordinates"},
			"properties": web.Schema{"type": web.Schema{"enum": []string{"Point", "Polygon"}}, "coordinates": web.Schema{"type": "array"}}}
	case registry.Object:
		return web.Schema{"type": "object"}
	default:
		return web.Schema{"type": "string", "minLength": 1, "maxLength": 200}
	}
}

var inPath = regexp.MustCompile(`\{(\w+)\}`)

// usual are the statuses of problems that every route can have, and those of a route that asks for a token.
var (
	usual     = []int{http.StatusInternalServerError, http.StatusServiceUnavailable}
	withToken = []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests}
)

// describe makes the OpenAPI document of routes.
func describe(routes []web.Route) map[string]any {
	problem := map[string]any{"application/problem+json": map[string]any{"schema": web.Ref("Problem")}}
	paths := map[string]map[string]any{}
	for _, r := range routes {
		answers := map[string]any{}
		problems := slices.Concat(r.Doc.Problems, usual)
		if len(r.Scopes) > 0 {
			problems = append(problems, withToken...)
		}
		for _, status := range problems {
			answers[strconv.Itoa(status)] = map[string]any{"description": http.StatusText(status), "content": problem}
		}
		for status, schema := range r.Doc.Answers {
			answer := map[string]any{"description": http.StatusText(status)}
			if schema != nil {
				answer["content"] = map[string]any{"application/json": map[string]any{"schema": schema}}
			}
			answers[strconv.Itoa(status)] = answer
		}
		op := map[string]any{"summary": r.Doc.Summary, "responses": answers, "operationId": operation(r)}
		parameters := []any{}
		for _, m := range inPath.FindAllStringSubmatch(r.Pattern, -1) {
			parameters = append(parameters, map[string]any{"name": m[1], "in": "path", "required": true, "schema": web.Schema{"type": "string"}})
		}
		for _, p := range r.Doc.Parameters {
			parameters = append(parameters, map[string]any{"name": p.Name, "in": p.In, "required": p.Required, "description": p.Description, "schema": p.Schema})
		}
		if len(parameters) > 0 {
			op["parameters"] = parameters
		}
		if r.Doc.Body != nil {
			content := map[string]any{}
			types := r.Doc.BodyTypes
			if types == nil {
				types = []string{"application/json"}
			}
			for _, kind := range types {
				content[kind] = map[string]any{"schema": r.Doc.Body}
			}
			op["requestBody"] = map[string]any{"required": true, "content": content}
		}
		op["security"] = []any{}
		if len(r.Scopes) > 0 {
			op["security"] = []any{map[string]any{"token": r.Scopes}} // OpenAPI 3.1 allows names of roles here
		}
		if paths[r.Pattern] == nil {
			paths[r.Pattern] = map[string]any{}
		}
		paths[r.Pattern][strings.ToLower(r.Method)] = op
	}
	return map[string]any{
		"openapi":           "3.1.0",
		"jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
		"info": map[string]any{"title": "Digital Farmer Registry", "version": "1",
			"description": fmt.Sprintf("Bodies are JSON in UTF-8, at most %d bytes where a route says nothing else. Each answer names its request in %s. 429 and 503 come with Retry-After.", web.MaxBody, web.RequestID)},
		"paths": paths,
		"components": map[string]any{
			"schemas":         schemas(),
			"securitySchemes": map[string]any{"token": map[string]any{"type": "http", "scheme": "bearer"}},
		},
	}
}

// operation names a route for programs that are generated from the document: get_farmer_uid.
func operation(r web.Route) string {
	words := strings.FieldsFunc(strings.TrimPrefix(r.Pattern, "/api"), func(c rune) bool { return (c < 'a' || c > 'z') && c != '_' })
	return strings.ToLower(r.Method) + "_" + strings.Join(words, "_")
}
