// Package api is the registry's HTTP interface for devices and other systems: farmers, forms, and what other packages
// hand in as web.Routes.
//
// It owns the endpoints of farmers and forms, and what all endpoints have in common: tokens and their scopes, the rate
// of each token, the time-out, the request's id, and the OpenAPI document that describes them all. How an endpoint is
// written is package web's matter, how many requests are served at once the worker's (registry/serve), the rules of
// a record registry's.
package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"tidemark/registry"
	"tidemark/registry/store"
	"tidemark/registry/web"
)

// Options are what the API can be told. The zero value asks for tokens, and neither limits their rate nor slows down.
type Options struct {
	// Open lets anybody do everything, without a token. It is for rehearsals on one machine.
	Open bool
	// Rate is how many requests a second each token may make of this worker on average; up to two seconds' worth may come
	// at once. Each worker counts for itself, so a fleet of N lets a token have N times as many: what a token may take
	// is a share of the fleet, and the share stays when the fleet grows. 0 for no limit.
	Rate float64
	// Timeout is how long a request may take before it is answered 503; 30 s when 0.
	Timeout time.Duration
	// Burden makes each request under /api/ heavier.
	Burden Burden
	// Trouble hears of what went wrong on the server's own side, with the request's id; the client learns only that
	// something did. It may be nil.
	Trouble func(error)
	// More are routes of other packages.
	More []web.Route
}

const defaultTimeout = 30 * time.Second

type api struct {
	Options
	store  *store.Store
	tokens allowances
	mux    http.ServeMux
}

// New returns the handler of /api/ and /web/health. It leaves requests for other paths to whoever it is mounted beside,
// and answers those that reach it with 404.
func New(s *store.Store, o Options) http.Handler {
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	if o.Trouble == nil {
		o.Trouble = func(error) {}
	}
	a := &api{Options: o, store: s, tokens: allowances{rate: o.Rate, known: map[int64]*allowance{}}}
	for _, r := range a.routes() {
		a.mux.Handle(r.Method+" "+r.Pattern, a.endpoint(r))
	}
	return a
}

// routes lists all of them, those handed in as well.
func (a *api) routes() []web.Route {
	all := append(a.farmerRoutes(), a.formRoutes()...)
	all = append(all, a.More...)
	all = append(all, web.Route{
		Method: "GET", Pattern: "/web/health", Handle: a.health,
		Doc: web.Doc{Summary: "Whether the worker and the database answer", Answers: map[int]web.Schema{200: healthSchema, 500: healthSchema}},
	})
	var document any
	all = append(all, web.Route{
		Method: "GET", Pattern: "/api/openapi.json",
		Handle: func(http.ResponseWriter, *http.Request, registry.Actor) (int, any, error) {
			return http.StatusOK, document, nil
		},
		Doc: web.Doc{Summary: "This document", Answers: map[int]web.Schema{200: {"type": "object"}}},
	})
	document = describe(all)
	return all
}

var worker = strconv.Itoa(os.Getpid())

// ServeHTTP gives each request its id and each answer its headers. The request itself is not copied: the mux writes the
// route's pattern into it, which others want to read.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Worker", worker)
	h.Set(web.RequestID, web.NameRequest(r))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store") // personal data
	if _, pattern := a.mux.Handler(r); pattern == "" {
		a.nothing(w, r)
		return
	}
	a.mux.ServeHTTP(w, r)
}

// nothing answers a request that no route is for.
func (a *api) nothing(w http.ResponseWriter, r *http.Request) {
	var allow []string
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} {
		other := http.Request{Method: method, URL: r.URL, Host: r.Host}
		if _, pattern := a.mux.Handler(&other); pattern != "" {
			allow = append(allow, method)
		}
	}
	if allow == nil {
		(&web.Problem{Status: http.StatusNotFound, Detail: "there is no such path: GET /api/openapi.json lists those that there are"}).Write(w)
		return
	}
	use := strings.Join(allow, ", ")
	w.Header().Set("Allow", use)
	(&web.Problem{Status: http.StatusMethodNotAllowed, Detail: "use " + use}).Write(w)
}

// endpoint is a route with all that surrounds it.
func (a *api) endpoint(route web.Route) http.Handler {
	burden := a.Burden
	if !strings.HasPrefix(route.Pattern, "/api/") {
		burden = Burden{}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), a.Timeout)
		defer cancel()
		r = r.WithContext(ctx)
		var status int
		var doc any
		who, err := a.admit(w, r, route.Scopes)
		if err == nil {
			burden.bear()
			status, doc, err = route.Handle(w, r, who)
		}
		if err != nil {
			a.refuse(w, r, err)
		} else if status != 0 {
			web.WriteJSON(w, status, doc)
		}
	})
}

// refuse answers with what an error is to the client, and tells the log of those that the client cannot help.
func (a *api) refuse(w http.ResponseWriter, r *http.Request, err error) {
	p := web.ProblemOf(err)
	var own *web.Problem
	if over := r.Context().Err(); over != nil && !errors.As(err, &own) { // whatever the driver made of it
		p = &web.Problem{Status: http.StatusServiceUnavailable, Detail: "the request took too long: send it again later", Retry: 5 * time.Second}
		if errors.Is(over, context.Canceled) { // the client has left: it reads nothing, and nothing is wrong
			p.Write(w)
			return
		}
	}
	if p.Status >= 500 && own == nil {
		// The pattern, not the path: that has names and numbers of people in it.
		a.Trouble(fmt.Errorf("request %s (%s): %w", w.Header().Get(web.RequestID), r.Pattern, err))
	}
	p.Write(w)
}

// admit finds out who calls, and whether they may.
func (a *api) admit(w http.ResponseWriter, r *http.Request, scopes []registry.Scope) (registry.Actor, error) {
	switch {
	case len(scopes) == 0:
		return registry.Actor{}, nil
	case a.Open:
		return registry.Actor{Name: "open"}, nil
	}
	challenge := func(status int, more, detail string) error {
		w.Header().Set("WWW-Authenticate", `Bearer realm="registry"`+more) // RFC 6750
		return &web.Problem{Status: status, Detail: detail}
	}
	scheme, secret, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || secret == "" {
		return registry.Actor{}, challenge(http.StatusUnauthorized, "", "send Authorization: Bearer and a token; `registry token add` makes one")
	}
	token, err := a.store.Token(r.Context(), secret)
	if errors.Is(err, registry.ErrNotFound) {
		return registry.Actor{}, challenge(http.StatusUnauthorized, `, error="invalid_token"`, "there is no such token")
	}
	if err != nil {
		return registry.Actor{}, err
	}
	now := time.Now()
	if err := token.Valid(now); err != nil {
		return registry.Actor{}, challenge(http.StatusUnauthorized, `, error="invalid_token"`, err.Error()+": ask the registry's office for a new one")
	}
	if !slices.Contains(scopes, token.Scope) {
		return registry.Actor{}, challenge(http.StatusForbidden, `, error="insufficient_scope"`, fmt.Sprintf("a token of the scope %s may not do this", token.Scope))
	}
	wait, note := a.tokens.take(token.ID, now)
	if note {
		if err := a.store.TokenUsed(r.Context(), now, token.ID); err != nil { // no reason to refuse the request
			a.Trouble(fmt.Errorf("request %s: %w", w.Header().Get(web.RequestID), err))
		}
	}
	if wait > 0 {
		return registry.Actor{}, &web.Problem{Status: http.StatusTooManyRequests, Detail: "this token asks too often: wait as long as Retry-After says", Retry: wait}
	}
	return token.Actor(), nil
}

var healthSchema = web.Schema{
	"type": "object", "required": []string{"status", "db_server_status"}, "additionalProperties": false,
	"properties": web.Schema{"status": web.Schema{"enum": []string{"pass", "fail"}}, "db_server_status": web.Schema{"type": "boolean"}},
}

// health answers as Odoo's /web/health?db_server_status=1 does. In a worker that is busy it waits its turn, as there.
func (a *api) health(w http.ResponseWriter, r *http.Request, _ registry.Actor) (int, any, error) {
	type health struct {
		Status   string `json:"status"`
		Database bool   `json:"db_server_status"`
	}
	if err := a.store.Check(r.Context()); err != nil {
		a.Trouble(fmt.Errorf("request %s: %w", w.Header().Get(web.RequestID), err))
		return http.StatusInternalServerError, health{"fail", false}, nil
	}
	return http.StatusOK, health{"pass", true}, nil
}
