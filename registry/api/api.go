// Package api is the registry's HTTP face: look a farmer up, register one, say whether all is well.
//
// It owns routes, status codes and the problem documents (RFC 9457). How many requests are served at once is the
// worker's matter (registry/serve), the rules of a registration are registry's.
package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"tidemark/registry"
)

// Store is what the API needs of a database.
type Store interface {
	ByUID(ctx context.Context, uid string) (registry.Farmer, error)
	ByNationalID(ctx context.Context, id string) (registry.Farmer, error)
	ByName(ctx context.Context, name, village string, limit int) ([]registry.Farmer, error)
	Register(ctx context.Context, r registry.Registration, now time.Time) (registry.Farmer, bool, error)
	Check(ctx context.Context) error
}

const (
	maxBody  = 64 << 10 // bytes; a registration is under 1 KiB
	maxFound = 20       // farmers in one answer
)

// Found is the answer to a lookup. More says that the search was cut short: ask more narrowly.
type Found struct {
	Farmers []registry.Farmer `json:"farmers"`
	More    bool              `json:"more"`
}

// New returns the handler. Each request under /api/ is made heavier by burden. trouble hears of what went wrong on the
// server's own side: the client learns only that something did.
func New(store Store, burden Burden, trouble func(error)) http.Handler {
	a := &api{store: store, trouble: trouble}
	mux := http.NewServeMux()
	for _, r := range []struct {
		method, path string
		handler      http.Handler
	}{
		{"GET", "/api/farmer/lookup", burden.wrap(a.answer(a.lookup))},
		{"POST", "/api/farmer", burden.wrap(a.answer(a.register))},
		{"GET", "/web/health", http.HandlerFunc(a.health)},
	} {
		mux.Handle(r.method+" "+r.path, r.handler)
		mux.HandleFunc(r.path, func(w http.ResponseWriter, _ *http.Request) {
			allow := strings.Replace(r.method, "GET", "GET, HEAD", 1)
			w.Header().Set("Allow", allow)
			(&problem{Status: http.StatusMethodNotAllowed, Detail: "use " + allow}).write(w)
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		(&problem{Status: http.StatusNotFound, Detail: "there is /api/farmer/lookup, /api/farmer and /web/health"}).write(w)
	})
	worker := strconv.Itoa(os.Getpid())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Worker", worker)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store") // personal data
		mux.ServeHTTP(w, r)
	})
}

type api struct {
	store   Store
	trouble func(error)
}

// answer writes what an endpoint returns: a document, or an error that becomes a problem.
func (a *api) answer(endpoint func(http.ResponseWriter, *http.Request) (status int, doc any, err error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, doc, err := endpoint(w, r)
		if err == nil {
			writeJSON(w, "application/json", status, doc)
			return
		}
		p := problemOf(err)
		if p.Status == http.StatusInternalServerError && r.Context().Err() == nil {
			a.trouble(fmt.Errorf("%s %s: %w", r.Method, r.URL.Path, err))
		}
		p.write(w)
	})
}

// lookup finds farmers by one key: uid, national_id, or the beginning of a name, with a village or without.
func (a *api) lookup(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	const usage = "give one of uid=, national_id= or name= (with village= or without)"
	query := r.URL.Query()
	keys := 0
	for name, values := range query {
		switch {
		case name != "uid" && name != "national_id" && name != "name" && name != "village":
			return 0, nil, badRequest("unknown parameter %q: %s", name, usage)
		case len(values) > 1:
			return 0, nil, badRequest("%s is given %d times", name, len(values))
		case values[0] == "" || len(values[0]) > 200 || !utf8.ValidString(values[0]):
			return 0, nil, badRequest("%s must be 1 to 200 bytes of text", name)
		}
		if name != "village" {
			keys++
		}
	}
	if keys != 1 || query.Has("village") && !query.Has("name") {
		return 0, nil, badRequest("%s", usage)
	}

	ctx := r.Context()
	var f registry.Farmer
	var err error
	switch {
	case query.Has("uid"):
		uid, ok := registry.ParseUID(query.Get("uid"))
		if !ok {
			return 0, nil, badRequest("uid must be a UUID")
		}
		f, err = a.store.ByUID(ctx, uid)
	case query.Has("national_id"):
		f, err = a.store.ByNationalID(ctx, strings.ToUpper(query.Get("national_id")))
	default:
		return a.byName(ctx, query.Get("name"), query.Get("village"))
	}
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, Found{Farmers: []registry.Farmer{f}}, nil
}

func (a *api) byName(ctx context.Context, name, village string) (int, any, error) {
	if utf8.RuneCountInString(registry.Fold(name)) < 2 {
		return 0, nil, badRequest("name needs two letters or more")
	}
	found, err := a.store.ByName(ctx, name, village, maxFound+1)
	if err != nil {
		return 0, nil, err
	}
	more := len(found) > maxFound
	return http.StatusOK, Found{Farmers: found[:min(len(found), maxFound)], More: more}, nil
}

// register stores a farmer: 201 when new, 200 when this very registration was here already.
func (a *api) register(w http.ResponseWriter, r *http.Request) (int, any, error) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return 0, nil, &problem{Status: http.StatusUnsupportedMediaType, Detail: "send Content-Type: application/json"}
	}
	if r.ContentLength > maxBody { // refused before a byte of it is read
		return 0, nil, tooLarge
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		return 0, nil, tooLarge
	case err != nil:
		return 0, nil, badRequest("the body did not arrive whole")
	}
	reg, err := registry.DecodeRegistration(body)
	if err != nil {
		return 0, nil, err
	}
	now := time.Now()
	// The day has begun in the Pacific before it has in UTC.
	if faults := reg.Normalize(now.Add(14 * time.Hour)); faults != nil {
		return 0, nil, &problem{Type: "urn:registry:problem:invalid-farmer", Status: http.StatusUnprocessableEntity,
			Title: "The farmer cannot be registered like this", Errors: faults}
	}
	if reg.UID == "" {
		reg.UID = registry.NewUID()
	}
	f, created, err := a.store.Register(r.Context(), reg, now)
	if err != nil {
		return 0, nil, err
	}
	if !created {
		return http.StatusOK, f, nil
	}
	w.Header().Set("Location", "/api/farmer/lookup?uid="+f.UID)
	return http.StatusCreated, f, nil
}

// health answers as Odoo's /web/health?db_server_status=1 does. In a worker that is busy it waits its turn, as there.
func (a *api) health(w http.ResponseWriter, r *http.Request) {
	type health struct {
		Status   string `json:"status"`
		Database bool   `json:"db_server_status"`
	}
	if err := a.store.Check(r.Context()); err != nil {
		a.trouble(err)
		writeJSON(w, "application/json", http.StatusInternalServerError, health{"fail", false})
		return
	}
	writeJSON(w, "application/json", http.StatusOK, health{"pass", true})
}

func writeJSON(w http.ResponseWriter, kind string, status int, doc any) {
	body, err := json.Marshal(doc)
	if err != nil { // every document is a struct of this package or registry
		panic(err)
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)+1))
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // a client that has left is no error of ours
}
