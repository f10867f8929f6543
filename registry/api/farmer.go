package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"tidemark/registry"
	"tidemark/registry/web"
)

const (
	maxFound = 20  // farmers in one answer
	maxQuery = 200 // bytes of a parameter of a query
)

func (a *api) farmerRoutes() []web.Route {
	text := web.Schema{"type": "string", "minLength": 1, "maxLength": maxQuery}
	ifMatch := func(name, description string, required bool) web.Parameter {
		return web.Parameter{Name: name, In: "header", Description: description, Required: required, Schema: web.Schema{"type": "string"}}
	}
	return []web.Route{
		{
			Method: "GET", Pattern: "/api/farmer/lookup", Scopes: registry.Scopes, Handle: a.lookup,
			Doc: web.Doc{
				Summary: "Find farmers by exactly one of uid, national_id and name. A name is found by its beginning, then by its resemblance",
				Parameters: []web.Parameter{
					{Name: "uid", In: "query", Schema: uidSchema},
					{Name: "national_id", In: "query", Schema: text},
					{Name: "name", In: "query", Description: "two letters or more; case, accents and glottal stops do not matter", Schema: text},
					{Name: "village", In: "query", Description: "with name only", Schema: text},
				},
				Answers:  map[int]web.Schema{200: foundSchema},
				Problems: []int{400, 404},
			},
		},
		{
			Method: "POST", Pattern: "/api/farmer", Scopes: registry.Scopes, Handle: a.register,
			Doc: web.Doc{
				Summary: "Register a farmer. The same uid with the same content again is harmless and answered 200",
				Body:    web.Ref("NewFarmer"), Answers: map[int]web.Schema{200: web.Ref("Farmer"), 201: web.Ref("Farmer")},
				Problems: []int{400, 409, 413, 415, 422},
			},
		},
		{
			Method: "GET", Pattern: "/api/farmer/{uid}", Scopes: registry.Scopes, Handle: a.farmer,
			Doc: web.Doc{
				Summary:    "Read a farmer. The ETag is the version",
				Parameters: []web.Parameter{ifMatch("If-None-Match", "the ETag of what is known already: answered 304 when it is the newest", false)},
				Answers:    map[int]web.Schema{200: web.Ref("Farmer"), 304: nil}, Problems: []int{404},
			},
		},
		{
			Method: "PATCH", Pattern: "/api/farmer/{uid}", Scopes: registry.Scopes, Handle: a.edit,
			Doc: web.Doc{
				Summary:    "Change some fields of a farmer; null empties one",
				Parameters: []web.Parameter{ifMatch("If-Match", "the ETag of the version that was edited: refused with 409 when it is not the newest", true)},
				Body:       web.Ref("FarmerEdit"), BodyTypes: []string{mergePatch, "application/json"},
				Answers: map[int]web.Schema{200: web.Ref("Farmer")}, Problems: []int{400, 404, 409, 413, 415, 422, 428},
			},
		},
	}
}

// Found is the answer to a lookup. More says that the search was cut short: ask more narrowly.
type Found struct {
	Farmers []registry.Record `json:"farmers"`
	More    bool              `json:"more"`
}

// lookup finds farmers by one key: uid, national_id, or name, with a village or without.
func (a *api) lookup(_ http.ResponseWriter, r *http.Request, who registry.Actor) (int, any, error) {
	const usage = "give one of uid=, national_id= or name= (with village= or without)"
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return 0, nil, web.BadRequest("the query cannot be read: %s", usage)
	}
	keys := 0
	for name, values := range query {
		switch {
		case name != "uid" && name != "national_id" && name != "name" && name != "village":
			return 0, nil, web.BadRequest("there is an unknown parameter: %s", usage)
		case len(values) > 1:
			return 0, nil, web.BadRequest("%s is given %d times", name, len(values))
		case values[0] == "" || len(values[0]) > maxQuery || !utf8.ValidString(values[0]) || strings.ContainsFunc(values[0], unicode.IsControl):
			return 0, nil, web.BadRequest("%s must be 1 to %d bytes of text", name, maxQuery)
		}
		if name != "village" {
			keys++
		}
	}
	if keys != 1 || query.Has("village") && !query.Has("name") {
		return 0, nil, web.BadRequest("%s", usage)
	}
	var f registry.Record
	switch {
	case query.Has("uid"):
		uid, ok := registry.ParseUID(query.Get("uid"))
		if !ok {
			return 0, nil, web.BadRequest("uid must be a UUID")
		}
		f, err = a.living(r.Context(), who, uid)
	case query.Has("national_id"):
		f, err = a.store.ByNationalID(r.Context(), who, strings.ToUpper(query.Get("national_id")))
		if f.Deleted {
			err = registry.ErrNotFound
		}
	default:
		return a.byName(r.Context(), who, query.Get("name"), query.Get("village"))
	}
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, Found{Farmers: []registry.Record{f}}, nil
}

func (a *api) byName(ctx context.Context, who registry.Actor, name, village string) (int, any, error) {
	if utf8.RuneCountInString(registry.Fold(name)) < 2 {
		return 0, nil, web.BadRequest("name needs two letters or more")
	}
	found, err := a.store.ByName(ctx, who, name, village, maxFound+1)
	if err != nil {
		return 0, nil, err
	}
	more := len(found) > maxFound
	return http.StatusOK, Found{Farmers: found[:min(len(found), maxFound)], More: more}, nil
}

// living returns a farmer who is there, and not only a tombstone.
func (a *api) living(ctx context.Context, who registry.Actor, uid string) (registry.Record, error) {
	f, err := a.store.Get(ctx, who, "farmer", uid)
	if err == nil && f.Deleted {
		err = registry.ErrNotFound
	}
	return f, err
}

func (a *api) register(w http.ResponseWriter, r *http.Request, who registry.Actor) (int, any, error) {
	raw, err := web.ReadObject(w, r)
	if err != nil {
		return 0, nil, err
	}
	return a.create(w, r, who, "farmer", raw, nil)
}

// create stores a new record: 201 when it is new, 200 when this very record was here already. raw is what was sent: the
// fields, and the uid if the sender has chosen one; set are fields that come from elsewhere.
func (a *api) create(w http.ResponseWriter, r *http.Request, who registry.Actor, entity string, raw map[string]json.RawMessage, set registry.Fields) (int, any, error) {
	e := registry.EntityNamed(entity)
	c := registry.Change{Entity: entity, UID: registry.NewUID(), Op: registry.Create, Exact: true, At: time.Now()}
	var faults registry.Faults
	if text, ok := raw["uid"]; ok {
		var given string
		if err := json.Unmarshal(text, &given); err == nil {
			c.UID, ok = registry.ParseUID(given)
		} else {
			ok = false
		}
		if !ok {
			faults = registry.Faults{{Field: "uid", Detail: "must be a UUID such as 0190b4a2-6c1e-4f0a-9d3e-2b7c5a1e8f00"}}
		}
		delete(raw, "uid")
	}
	var wrong registry.Faults
	c.Fields, wrong = e.Decode(raw, registry.Today(c.At))
	if faults = append(faults, wrong...); len(faults) > 0 {
		return 0, nil, faults
	}
	c.Fields = c.Fields.With(set)
	outcome, err := a.apply(r.Context(), who, c)
	if err != nil {
		return 0, nil, err
	}
	status := http.StatusOK
	if outcome == registry.Created {
		status = http.StatusCreated
		if entity == "farmer" {
			w.Header().Set("Location", "/api/farmer/"+c.UID)
		}
	}
	return a.show(w, r, who, status, entity, c.UID)
}

// show answers with a record as it is now.
func (a *api) show(w http.ResponseWriter, r *http.Request, who registry.Actor, status int, entity, uid string) (int, any, error) {
	f, err := a.store.Get(r.Context(), who, entity, uid)
	if err != nil {
		return 0, nil, err
	}
	w.Header().Set("ETag", etag(f.Version))
	return status, f, nil
}

// apply carries out one change, and returns an error when it was not.
func (a *api) apply(ctx context.Context, who registry.Actor, c registry.Change) (registry.Outcome, error) {
	results, err := a.store.Apply(ctx, who, c.At, []registry.Change{c})
	if err != nil {
		return "", err
	}
	switch r := results[0]; {
	case r.Outcome == registry.Retry:
		return "", registry.ErrBusy
	case r.Outcome == registry.Stale && c.Op == registry.Create:
		return "", &web.Problem{Type: web.Kind("uid-taken"), Title: "The uid is taken", Status: http.StatusConflict, Detail: "the uid is registered with other content"}
	case r.Outcome == registry.Stale:
		return "", registry.ErrStale
	case r.Outcome == registry.Rejected && r.Of != "":
		return "", &web.Problem{Type: web.Kind("national-id-taken"), Title: "The national id is taken", Status: http.StatusConflict, Detail: "another farmer is registered with this national id", Errors: r.Faults}
	case r.Outcome == registry.Rejected:
		return "", r.Faults
	case slices.Contains([]registry.Outcome{registry.Created, registry.Updated, registry.Merged}, r.Outcome):
		return r.Outcome, nil
	default:
		return "", fmt.Errorf("an exact change was answered %q", r.Outcome)
	}
}

// path returns the uid of the path. What is no uid names nobody.
func path(r *http.Request) (string, error) {
	uid, ok := registry.ParseUID(r.PathValue("uid"))
	if !ok {
		return "", registry.ErrNotFound
	}
	return uid, nil
}

func (a *api) farmer(w http.ResponseWriter, r *http.Request, who registry.Actor) (int, any, error) {
	uid, err := path(r)
	if err != nil {
		return 0, nil, err
	}
	f, err := a.living(r.Context(), who, uid)
	if err != nil {
		return 0, nil, err
	}
	w.Header().Set("ETag", etag(f.Version))
	if header := r.Header.Values("If-None-Match"); matches(header, f.Version) || len(header) == 1 && header[0] == "*" {
		return http.StatusNotModified, nil, nil
	}
	return http.StatusOK, f, nil
}

const mergePatch = "application/merge-patch+json" // RFC 7396

// edit changes a farmer, if the sender has seen the newest version.
func (a *api) edit(w http.ResponseWriter, r *http.Request, who registry.Actor) (int, any, error) {
	uid, err := path(r)
	if err != nil {
		return 0, nil, err
	}
	versions := r.Header.Values("If-Match")
	if len(versions) == 0 {
		return 0, nil, &web.Problem{Status: http.StatusPreconditionRequired, Detail: "send If-Match with the ETag of the version that you have edited"}
	}
	raw, err := web.ReadObject(w, r, mergePatch)
	if err != nil {
		return 0, nil, err
	}
	c := registry.Change{Entity: "farmer", UID: uid, Op: registry.Update, Exact: true, At: time.Now()}
	var faults registry.Faults
	if c.Fields, faults = registry.EntityNamed("farmer").Decode(raw, registry.Today(c.At)); len(faults) > 0 {
		return 0, nil, faults
	}
	f, err := a.living(r.Context(), who, uid)
	if err != nil {
		return 0, nil, err
	}
	if !matches(versions, f.Version) {
		w.Header().Set("ETag", etag(f.Version))
		return 0, nil, registry.ErrStale
	}
	c.Base = f.Version
	if _, err := a.apply(r.Context(), who, c); err != nil {
		return 0, nil, err
	}
	return a.show(w, r, registry.Actor{}, http.StatusOK, "farmer", uid) // also to who has just moved them to another island
}

// etag is a version as an entity tag.
func etag(version int) string { return `"` + strconv.Itoa(version) + `"` }

// matches says whether a version is among the entity tags of a header. A weak one counts too: nginx weakens the tag of an
// answer that it compresses, and a version is the same record whatever its coding.
func matches(header []string, version int) bool {
	for _, line := range header {
		for tag := range strings.SplitSeq(line, ",") {
			if strings.TrimPrefix(strings.TrimSpace(tag), "W/") == etag(version) {
				return true
			}
		}
	}
	return false
}
