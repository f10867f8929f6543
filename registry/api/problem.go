package api

import (
	"errors"
	"fmt"
	"net/http"

	"tidemark/registry"
)

// problem is an RFC 9457 problem document. Errors points at each field that is wrong, as in the RFC's own example.
type problem struct {
	Type   string // about:blank when empty
	Title  string // the status text when empty
	Status int
	Detail string
	Errors registry.Faults
}

func (p *problem) Error() string { return p.Detail }

func (p *problem) write(w http.ResponseWriter) {
	type pointed struct {
		Pointer string `json:"pointer,omitempty"` // JSON Pointer into the request's body
		Detail  string `json:"detail"`
	}
	doc := struct {
		Type   string    `json:"type"`
		Title  string    `json:"title"`
		Status int       `json:"status"`
		Detail string    `json:"detail,omitempty"`
		Errors []pointed `json:"errors,omitempty"`
	}{p.Type, p.Title, p.Status, p.Detail, nil}
	if doc.Type == "" {
		doc.Type = "about:blank"
	}
	if doc.Title == "" {
		doc.Title = http.StatusText(p.Status)
	}
	for _, f := range p.Errors {
		pointer := ""
		if f.Field != "" {
			pointer = "/" + f.Field // field names hold neither ~ nor /
		}
		doc.Errors = append(doc.Errors, pointed{pointer, f.Detail})
	}
	if p.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	writeJSON(w, "application/problem+json", p.Status, doc)
}

func badRequest(format string, args ...any) error {
	return &problem{Status: http.StatusBadRequest, Detail: fmt.Sprintf(format, args...)}
}

var tooLarge = &problem{Status: http.StatusRequestEntityTooLarge, Detail: fmt.Sprintf("a farmer is at most %d bytes", maxBody)}

// answers says what becomes of each error that is the caller's affair.
var answers = []struct {
	err     error
	problem problem
}{
	{registry.ErrNotFound, problem{Status: http.StatusNotFound}},
	{registry.ErrUIDTaken, problem{Type: "urn:registry:problem:uid-taken", Title: "The uid is taken", Status: http.StatusConflict}},
	{registry.ErrNationalIDTaken, problem{Type: "urn:registry:problem:national-id-taken", Title: "The national id is taken", Status: http.StatusConflict}},
	{registry.ErrVillageUnknown, problem{Type: "urn:registry:problem:invalid-farmer", Title: "The farmer cannot be registered like this",
		Status: http.StatusUnprocessableEntity, Errors: registry.Faults{{Field: "village", Detail: "is not a village of this registry, or not on this island"}}}},
	{registry.ErrVillageUnclear, problem{Type: "urn:registry:problem:invalid-farmer", Title: "The farmer cannot be registered like this",
		Status: http.StatusUnprocessableEntity, Errors: registry.Faults{{Field: "island", Detail: "is required: more than one island has a village of this name"}}}},
	{registry.ErrBusy, problem{Status: http.StatusServiceUnavailable, Detail: "the registry is busy: send the same request again"}},
}

func problemOf(err error) *problem {
	var p *problem
	if errors.As(err, &p) {
		return p
	}
	var faults registry.Faults
	if errors.As(err, &faults) {
		return &problem{Type: "urn:registry:problem:malformed-farmer", Title: "The farmer cannot be read", Status: http.StatusBadRequest, Errors: faults}
	}
	for _, a := range answers {
		if errors.Is(err, a.err) {
			p := a.problem
			if p.Detail == "" {
				p.Detail = a.err.Error()
			}
			return &p
		}
	}
	return &problem{Status: http.StatusInternalServerError, Detail: "the registry could not use its database; its own log says why"}
}
