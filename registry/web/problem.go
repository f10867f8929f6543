package web

import (
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"tidemark/registry"
)

// RequestID is the header that names a request: the proxy's, or one made here. An answer has it too, a problem
// repeats it, and so does the log.
const RequestID = "X-Request-Id"

// NameRequest returns the proxy's id of a request when it is a short plain word, or a new one.
func NameRequest(r *http.Request) string {
	if given := r.Header.Get(RequestID); registry.IsDevice(given) { // the same letters do
		return given
	}
	return rand.Text()
}

// Problem is an RFC 9457 problem document, and the error that an endpoint refuses a request with.
type Problem struct {
	Type   string          // URN of this kind of problem by Kind, about:blank when empty
	Title  string          // of the kind; the status text when empty
	Status int             // 4xx or 5xx
	Detail string          // what is wrong with this request and what to do about it; sent as it is, so no secrets
	Errors registry.Faults // each field that is wrong
	Retry  time.Duration   // for Retry-After, in whole seconds; at least 1 s with a 429 or 503
}

// Kind is the URN of a kind of problem.
func Kind(name string) string { return "urn:registry:problem:" + name }

func (p *Problem) Error() string {
	return strings.TrimPrefix(p.Detail+"; "+p.Errors.Error(), "; ")
}

// Write answers with the problem. The headers of w must have the request's id by now.
func (p *Problem) Write(w http.ResponseWriter) {
	type pointed struct {
		Pointer string `json:"pointer,omitempty"` // JSON Pointer into the request's body
		Detail  string `json:"detail"`
	}
	doc := struct {
		Type      string    `json:"type"`
		Title     string    `json:"title"`
		Status    int       `json:"status"`
		Detail    string    `json:"detail,omitempty"`
		RequestID string    `json:"request_id,omitempty"`
		Errors    []pointed `json:"errors,omitempty"`
	}{p.Type, p.Title, p.Status, p.Detail, w.Header().Get(RequestID), nil}
	if doc.Type == "" {
		doc.Type = "about:blank"
	}
	if doc.Title == "" {
		doc.Title = http.StatusText(p.Status)
	}
	for _, f := range p.Errors {
		pointer := ""
		if f.Field != "" {
			pointer = "/" + f.Field // field names hold neither ~ nor a / that is no step
		}
		doc.Errors = append(doc.Errors, pointed{pointer, f.Detail})
	}
	retry := p.Retry
	if p.Status == http.StatusServiceUnavailable || p.Status == http.StatusTooManyRequests {
		retry = max(retry, time.Second)
	}
	if retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(retry.Seconds()))))
	}
	write(w, "application/problem+json", p.Status, doc)
}

// ProblemSchema describes what Write writes.
func ProblemSchema() Schema {
	text := Schema{"type": "string"}
	return Schema{
		"type": "object", "required": []string{"type", "title", "status"}, "additionalProperties": false,
		"properties": Schema{
			"type": text, "title": text, "status": Schema{"type": "integer", "minimum": 400, "maximum": 599}, "detail": text, "request_id": text,
			"errors": Schema{"type": "array", "items": Schema{
				"type": "object", "required": []string{"detail"}, "additionalProperties": false,
				"properties": Schema{"pointer": Schema{"type": "string", "description": "JSON Pointer into the request's body"}, "detail": text},
			}},
		},
	}
}

// BadRequest is a problem with the status 400.
func BadRequest(format string, args ...any) *Problem {
	return &Problem{Status: http.StatusBadRequest, Detail: fmt.Sprintf(format, args...)}
}

func malformed(detail string) *Problem {
	return &Problem{Type: Kind("malformed"), Title: "The body cannot be read", Status: http.StatusBadRequest, Detail: detail}
}

var tooLarge = &Problem{Status: http.StatusRequestEntityTooLarge, Detail: fmt.Sprintf("the body may be %d bytes long", MaxBody)}

// Invalid is the problem that faults are sent as.
func Invalid(faults registry.Faults) *Problem {
	return &Problem{Type: Kind("invalid"), Title: "The fields cannot be stored like this", Status: http.StatusUnprocessableEntity, Errors: faults}
}

// known says what becomes of each error of a store that is not the registry's own fault.
var known = []struct {
	err     error
	problem Problem
}{
	{registry.ErrNotFound, Problem{Status: http.StatusNotFound, Detail: "there is no such record"}},
	{registry.ErrStale, Problem{Type: Kind("stale"), Title: "Somebody else has changed it", Status: http.StatusConflict, Detail: "get the newest version and edit that"}},
	{registry.ErrAway, Problem{Status: http.StatusServiceUnavailable, Detail: "the registry cannot reach its database: send the same request again", Retry: 5 * time.Second}},
	{registry.ErrBusy, Problem{Status: http.StatusServiceUnavailable, Detail: "the registry is busy: send the same request again"}},
}

// ProblemOf is the problem that an endpoint's error is sent as. Of an error that is not expected nothing is sent but that
// it happened: its status is 500 and the words are for the log.
func ProblemOf(err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	var faults registry.Faults
	if errors.As(err, &faults) {
		return Invalid(faults)
	}
	for _, k := range known {
		if errors.Is(err, k.err) {
			p := k.problem
			return &p
		}
	}
	return &Problem{Status: http.StatusInternalServerError, Detail: "the registry failed; its log says why, under this request_id"}
}
