// Package web is what the registry's HTTP endpoints share, whoever writes them: the Route that says how one is
// called, the Problem that it refuses with, and how JSON is read and written.
//
// An endpoint is a function that returns a status and a document, or an error. Package api calls it: it has then checked
// the token and its scope, counted the request against the token's rate and set the time-out. What the endpoint returns
// becomes JSON; an error becomes a problem document (RFC 9457) by ProblemOf, so a handler returns a *Problem, Faults
// or a store's error as it is. A package that has endpoints of its own exports []Route, and the command line hands
// them to api.New:
//
//	func Routes(s *store.Store) []web.Route {
//		return []web.Route{{
//			Method: "POST", Pattern: "/api/mobile/sync", Scopes: []registry.Scope{registry.Enumerator},
//			Handle: push, Doc: web.Doc{Summary: "Push changes", Body: ..., Answers: map[int]web.Schema{200: ...}},
//		}}
//	}
package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"tidemark/registry"
)

// Route is one endpoint.
type Route struct {
	Method  string
	Pattern string           // a path as http.ServeMux reads it, such as /api/farmer/{uid}
	Scopes  []registry.Scope // of the tokens that may call it; none for anybody, without a token
	Handle  Handler
	Doc     Doc
}

// Handler answers a request of who, whose areas bound what it may read and write. Device is empty when it was not a
// device that called: with an admin's or integration's token, or on a registry that is open. The request's context ends
// with the request's time, and must reach the database. The errors' own words are sent only for a *Problem and Faults.
//
// A nil doc sends the status alone. A status of 0 says that Handle has written the answer by itself.
type Handler func(w http.ResponseWriter, r *http.Request, who registry.Actor) (status int, doc any, err error)

// Doc is what the OpenAPI document says of a route, beside what it knows: path parameters, the token, and the problems
// that any route has.
type Doc struct {
	Summary    string
	Parameters []Parameter
	Body       Schema         // of the request, nil when it has none
	BodyTypes  []string       // media types of the body, application/json when nil
	Answers    map[int]Schema // of success, by status; nil for one without a body
	Problems   []int          // further statuses that come with a problem document
}

// Parameter is one of a query or a header.
type Parameter struct {
	Name, In, Description string
	Required              bool
	Schema                Schema
}

// Schema is a JSON Schema (2020-12) as OpenAPI 3.1 wants it. Ref points at those of the document.
type Schema map[string]any

// Ref is the schema of a component of the document, such as Farmer.
func Ref(name string) Schema { return Schema{"$ref": "#/components/schemas/" + name} }

// WriteJSON answers with a document, or with the status alone when doc is nil.
func WriteJSON(w http.ResponseWriter, status int, doc any) { write(w, "application/json", status, doc) }

func write(w http.ResponseWriter, kind string, status int, doc any) {
	if doc == nil {
		w.WriteHeader(status)
		return
	}
	body, err := json.Marshal(doc)
	if err != nil { // every document is a struct or map of this module
		panic(err)
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)+1))
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // a client that has left is no error of ours
}

const (
	// MaxBody is the most bytes of a request's body; a form with its answers is under 20 KiB.
	MaxBody = 1 << 20
	// MaxDepth is how deep arrays and objects may nest: a polygon inside a record inside a batch is 7.
	MaxDepth = 32
)

// ReadObject reads a request's body: one JSON object of at most MaxBody bytes, sent as application/json or another of
// types. Its error is a *Problem. What is announced to be larger is refused before a byte of it is read.
func ReadObject(w http.ResponseWriter, r *http.Request, types ...string) (map[string]json.RawMessage, error) {
	types = append(types, "application/json")
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || !contains(types, kind) {
		return nil, &Problem{Status: http.StatusUnsupportedMediaType, Detail: "send Content-Type: " + types[0]}
	}
	if coding := r.Header.Get("Content-Encoding"); coding != "" && coding != "identity" {
		return nil, &Problem{Status: http.StatusUnsupportedMediaType, Detail: "send the body without Content-Encoding"}
	}
	if r.ContentLength > MaxBody {
		return nil, tooLarge
	}
	var body bytes.Buffer
	_, err = body.ReadFrom(http.MaxBytesReader(w, r.Body, MaxBody))
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		return nil, tooLarge
	case err != nil:
		return nil, BadRequest("the body did not arrive whole")
	}
	return ParseObject(body.Bytes())
}

// ParseObject reads one JSON object. Its error is a *Problem.
func ParseObject(text []byte) (map[string]json.RawMessage, error) {
	if !utf8.Valid(text) {
		return nil, malformed("the body is not UTF-8")
	}
	if depth(text) > MaxDepth {
		return nil, malformed("the body nests deeper than " + strconv.Itoa(MaxDepth))
	}
	var o map[string]json.RawMessage
	var syntax *json.SyntaxError
	switch err := json.Unmarshal(text, &o); {
	case errors.As(err, &syntax):
		return nil, malformed("the body is not JSON: at byte " + strconv.FormatInt(syntax.Offset, 10)) // the error's words would repeat what was sent
	case err != nil || o == nil:
		return nil, malformed("the body must be one JSON object")
	}
	return o, nil
}

// depth is how deep the arrays and objects of a JSON text nest. Of other texts it is of no meaning.
func depth(text []byte) (most int) {
	now, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[' || c == '{':
			now++
			most = max(most, now)
		case c == ']' || c == '}':
			now--
		}
	}
	return most
}

func contains(types []string, kind string) bool {
	for _, t := range types {
		if strings.EqualFold(t, kind) {
			return true
		}
	}
	return false
}
