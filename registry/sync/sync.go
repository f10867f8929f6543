// Package sync is the synchronisation of the enumerators' devices over HTTP: a device pushes the changes that were made
// offline, and pulls what others have changed on its islands. docs/registry-sync.md describes it to those who write apps.
//
// It owns the routes, the form of a batch and of a cursor, what an app must be able to do, and the limits on what is sent.
// What becomes of a change is registry's and store's matter; this package has no rules of its own for that.
package sync

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"tidemark/registry"
	"tidemark/registry/coding"
	"tidemark/registry/store"
	"tidemark/registry/web"
)

// What an app speaks.
const (
	Protocol  = 1 // of the exchange
	Schema    = 1 // of the records: which entities and fields there are
	oldest    = 1 // protocol that is still spoken
	oldSchema = 1 // schema whose changes are still understood
)

const (
	// MaxBody is the most bytes of a body as it is sent, MaxUnfolded after its content coding is undone. 500 farmers with
	// two plots and a submission each are 1 MB, and a tenth of that compressed.
	MaxBody     = 4 << 20
	MaxUnfolded = 16 << 20

	// A page of what has changed ends at so many records or bytes, whichever comes first: on a slow link, what is cut
	// off and fetched again must not be much.
	pageRecords = 500
	pageBytes   = 1 << 20

	compressFrom = 1 << 10 // bytes of an answer
)

// Routes are the endpoints, on a store.
func Routes(s *store.Store) []web.Route {
	m := &mobile{s}
	scopes := []registry.Scope{registry.Enumerator}
	return []web.Route{
		{
			Method: "POST", Pattern: path, Scopes: scopes, Handle: m.handler(m.push),
			Doc: web.Doc{
				Summary: fmt.Sprintf("Push a batch of up to %d changes and pull the first page of what has changed. The body may have the Content-Encoding gzip or zstd and be %d bytes long, %d after decoding. The same batch again is harmless: each op_id is carried out once",
					maxChanges, MaxBody, MaxUnfolded),
				Parameters: []web.Parameter{
					{Name: "Content-Encoding", In: "header", Description: "of the body", Schema: web.Schema{"enum": append([]string{"identity"}, coding.Names...)}},
				},
				Body: batchSchema(), Answers: map[int]web.Schema{200: answerSchema(true)}, Problems: []int{400, 409, 413, 415, 422},
			},
		},
		{
			Method: "GET", Pattern: path, Scopes: scopes, Handle: m.handler(m.pull),
			Doc: web.Doc{
				Summary: "Pull a page of what has changed since a cursor, or of everything without one",
				Parameters: []web.Parameter{
					{Name: "cursor", In: "query", Description: "the next_cursor of the page before", Schema: web.Schema{"type": "string"}},
					{Name: "device_id", In: "query", Description: "the token's; only a registry without tokens needs to be told", Schema: idSchema},
				},
				Answers: map[int]web.Schema{200: answerSchema(false)}, Problems: []int{400},
			},
		},
	}
}

const path = "/api/mobile/sync"

type mobile struct{ store *store.Store }

// answer is what a device gets.
type answer struct {
	Protocol   int               `json:"protocol"`
	Batch      string            `json:"batch_id,omitempty"`
	Results    []registry.Result `json:"results,omitzero"` // of a push: one for each change, in their order
	Changes    []json.RawMessage `json:"changes"`          // records as they are now
	Tombstones []tombstone       `json:"tombstones"`
	NextCursor string            `json:"next_cursor"`
	HasMore    bool              `json:"has_more"`
}

// tombstone is a record that the device is to forget: deleted, or moved to an island that is not the device's.
type tombstone struct {
	Entity string `json:"entity"`
	UID    string `json:"uid"`
}

// handler makes an endpoint of push or pull: what it came to is logged, and its answer compressed.
func (m *mobile) handler(do func(http.ResponseWriter, *http.Request, registry.Actor, *store.SyncEntry) (answer, error)) web.Handler {
	return func(w http.ResponseWriter, r *http.Request, who registry.Actor) (int, any, error) {
		e := store.SyncEntry{Device: who.Device, At: time.Now(), App: app(r), Status: http.StatusOK}
		a, err := do(w, r, who, &e)
		if err != nil {
			return 0, nil, m.refused(r, e, err)
		}
		body, err := json.Marshal(a)
		if err != nil {
			return 0, nil, err
		}
		body = append(body, '\n')
		coded := ""
		if len(body) >= compressFrom {
			coded = coding.Choose(r.Header.Get("Accept-Encoding"))
		}
		if body, err = coding.Encode(coded, body); err != nil {
			return 0, nil, err
		}
		e.Sent, e.Records, e.More, e.Took = int64(len(body)), len(a.Changes)+len(a.Tombstones), a.HasMore, time.Since(e.At)
		if err := m.store.LogSync(r.Context(), e); err != nil {
			return 0, nil, err
		}
		head := w.Header()
		head.Set("Vary", "Accept-Encoding")
		if coded != "" {
			head.Set("Content-Encoding", coded)
		}
		head.Set("Content-Type", "application/json")
		head.Set("Content-Length", strconv.Itoa(len(body)))
		w.WriteHeader(http.StatusOK)
		_, _ = w.Write(body) // a device that was cut off sends the batch again
		return 0, nil, nil
	}
}

// refused logs what a device was refused for, so that whoever asks why it is behind finds it. Trouble of the server's own
// is in the server's log.
func (m *mobile) refused(r *http.Request, e store.SyncEntry, err error) error {
	p := web.ProblemOf(err)
	if p.Status >= 500 || e.Device == "" || r.Context().Err() != nil {
		return err
	}
	e.Status, e.Problem, e.Took = p.Status, cmp.Or(p.Title, p.Detail), time.Since(e.At)
	if failed := m.store.LogSync(r.Context(), e); failed != nil {
		return failed
	}
	return err
}

// app is what the device calls itself, for the log.
func app(r *http.Request) string {
	const most = 80
	plain := strings.Map(func(c rune) rune {
		if c > unicode.MaxASCII || !unicode.IsPrint(c) {
			return -1
		}
		return c
	}, r.UserAgent())
	return plain[:min(len(plain), most)]
}

// as is who synchronises. The token says which device it is; where no tokens are asked for, the device says so itself.
func as(who registry.Actor, device string) (registry.Actor, error) {
	switch {
	case who.Device == "" && device == "":
		return who, web.BadRequest("say which device this is: device_id")
	case who.Device == "":
		t := registry.Token{Device: device}
		return t.Actor(), nil
	case device != "" && device != who.Device:
		return who, &web.Problem{Type: web.Kind("other-device"), Title: "The token is another device's", Status: http.StatusForbidden,
			Detail: "device_id must be the device that the token was made for"}
	}
	return who, nil
}

// push carries out a batch and answers with the results and a first page.
func (m *mobile) push(w http.ResponseWriter, r *http.Request, who registry.Actor, e *store.SyncEntry) (a answer, err error) {
	e.Op = "push"
	b, faults, err := read(w, r, e)
	if err != nil {
		return a, err
	}
	e.Batch, e.Protocol, e.Schema = b.id, b.protocol, b.schema
	// The versions come first: what another version means by the rest, this one cannot know.
	if err := understood(b, faults); err != nil {
		return a, err
	}
	if len(faults) > 0 {
		return a, faults
	}
	if who, err = as(who, b.device); err != nil {
		return a, err
	}
	e.Device = who.Device
	seq, err := m.place(r, who, b.cursor)
	if err != nil {
		return a, err
	}
	if err := m.store.Seen(r.Context(), e.At, who.Device, true); err != nil {
		return a, err
	}
	order := inOrder(b.changes)
	sorted := make([]registry.Change, len(order))
	for i, at := range order {
		sorted[i] = b.changes[at]
	}
	results, err := m.store.Apply(r.Context(), who, e.At, sorted)
	if err != nil {
		return a, err
	}
	if a, err = m.page(r, who, seq); err != nil {
		return a, err
	}
	a.Batch, a.Results, e.Outcomes = b.id, make([]registry.Result, len(results)), map[registry.Outcome]int{}
	for i, result := range results {
		a.Results[order[i]] = result
		e.Outcomes[result.Outcome]++
		if result.Replayed {
			e.Outcomes[store.Replayed]++
		}
	}
	return a, nil
}

// understood refuses an app that speaks another version. A version that is itself a fault is left to the faults.
func understood(b batch, faults registry.Faults) error {
	at := func(field string) bool {
		return slices.ContainsFunc(faults, func(f registry.Fault) bool { return f.Field == field })
	}
	for _, v := range []struct {
		name              string
		is, least, newest int
	}{{"protocol", b.protocol, oldest, Protocol}, {"schema_version", b.schema, oldSchema, Schema}} {
		switch {
		case at(v.name):
		case v.is < v.least:
			return &web.Problem{Type: web.Kind("app-outdated"), Title: "The app is too old", Status: http.StatusConflict,
				Detail: fmt.Sprintf("%s is %d and must be %d at least: update the app; its unsent changes stay on the device and are taken after that", v.name, v.is, v.least)}
		case v.is > v.newest:
			return &web.Problem{Type: web.Kind("app-too-new"), Title: "The app is newer than the registry", Status: http.StatusConflict,
				Detail: fmt.Sprintf("%s is %d and this registry knows %d at most: the registry must be updated first; keep the unsent changes", v.name, v.is, v.newest)}
		}
	}
	return nil
}

// inOrder lists the changes so that each comes after what it builds on: creations and edits parents first, then deletions
// children first, those of one entity as they were sent.
func inOrder(changes []registry.Change) []int {
	rank := map[string]int{}
	for i, e := range registry.Entities {
		rank[e.Name] = i
	}
	order := make([]int, len(changes))
	for i := range order {
		order[i] = i
	}
	of := func(at int) int {
		c := changes[at]
		if c.Op == registry.Delete {
			return 2*len(registry.Entities) - rank[c.Entity]
		}
		return rank[c.Entity]
	}
	slices.SortStableFunc(order, func(a, b int) int { return of(a) - of(b) })
	return order
}

// pull answers with a page.
func (m *mobile) pull(_ http.ResponseWriter, r *http.Request, who registry.Actor, e *store.SyncEntry) (a answer, err error) {
	e.Op = "pull"
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return a, web.BadRequest("the query cannot be read: give cursor= or nothing")
	}
	for name, values := range query {
		if name != "cursor" && name != "device_id" || len(values) > 1 {
			return a, web.BadRequest("give cursor= once, or nothing")
		}
	}
	device := query.Get("device_id")
	if device != "" && !registry.IsDevice(device) {
		return a, web.BadRequest("device_id must be 1 to 60 letters, digits, hyphens, full stops and _")
	}
	if who, err = as(who, device); err != nil {
		return a, err
	}
	e.Device = who.Device
	seq, err := m.place(r, who, query.Get("cursor"))
	if err != nil {
		return a, err
	}
	return m.page(r, who, seq)
}

// place is where a cursor stands. One beyond the last change is from before the database was restored from a backup.
func (m *mobile) place(r *http.Request, who registry.Actor, text string) (int64, error) {
	seq, err := place(who, text)
	if err != nil || seq == 0 {
		return seq, err
	}
	head, err := m.store.Head(r.Context())
	if err == nil && seq > head {
		err = startAnew
	}
	return seq, err
}

// page reads what has changed since seq.
func (m *mobile) page(r *http.Request, who registry.Actor, seq int64) (a answer, err error) {
	deltas, next, more, err := m.store.Since(r.Context(), who, seq, pageRecords)
	if err != nil {
		return a, err
	}
	a = answer{Protocol: Protocol, Changes: []json.RawMessage{}, Tombstones: []tombstone{}}
	size := 0
	for i, d := range deltas {
		if d.Gone {
			a.Tombstones = append(a.Tombstones, tombstone{d.Entity, d.UID})
			continue
		}
		text, err := json.Marshal(d.Record)
		if err != nil {
			return a, err
		}
		if size += len(text); size > pageBytes && i > 0 {
			next, more = deltas[i-1].Seq, true
			break
		}
		a.Changes = append(a.Changes, text)
	}
	a.NextCursor, a.HasMore = cursor(who, next), more
	return a, nil
}

// read reads the body of a push.
func read(w http.ResponseWriter, r *http.Request, e *store.SyncEntry) (b batch, faults registry.Faults, err error) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return b, nil, &web.Problem{Status: http.StatusUnsupportedMediaType, Detail: "send Content-Type: application/json"}
	}
	if r.ContentLength > MaxBody {
		return b, nil, tooLarge
	}
	sent := &counter{r: http.MaxBytesReader(w, r.Body, MaxBody)}
	defer func() { e.Received = sent.n }()
	body, err := coding.NewReader(r.Header.Get("Content-Encoding"), sent, MaxUnfolded)
	if errors.Is(err, coding.ErrUnknown) {
		w.Header().Set("Accept-Encoding", strings.Join(coding.Names, ", ")) // RFC 9110, 12.5.3
	}
	if err != nil {
		return b, nil, unreadable(err)
	}
	defer body.Close()
	b, faults, err = decode(body, registry.Today(e.At))
	if err != nil {
		return b, nil, unreadable(err)
	}
	return b, faults, nil
}

type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

var tooLarge = &web.Problem{Status: http.StatusRequestEntityTooLarge,
	Detail: fmt.Sprintf("a body may be %d bytes long, %d after decoding, and hold %d changes: send several batches", MaxBody, MaxUnfolded, maxChanges)}

// unreadable is the problem of a body that cannot be read. Nothing of what was sent is in its words.
func unreadable(err error) error {
	var over *http.MaxBytesError
	var syntax *json.SyntaxError
	malformed := func(detail string) error {
		return &web.Problem{Type: web.Kind("malformed"), Title: "The body cannot be read", Status: http.StatusBadRequest, Detail: detail}
	}
	switch {
	case errors.As(err, &over), errors.Is(err, coding.ErrTooLarge), errors.Is(err, errMany):
		return tooLarge
	case errors.Is(err, coding.ErrUnknown):
		return &web.Problem{Status: http.StatusUnsupportedMediaType, Detail: "Content-Encoding may be " + strings.Join(coding.Names, ", ") + " or left out"}
	case errors.Is(err, coding.ErrCorrupt):
		return malformed("the body is not what Content-Encoding says")
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return malformed("the body ends too early: send it again")
	case errors.Is(err, errDeep):
		return malformed(fmt.Sprintf("the body nests deeper than %d", web.MaxDepth))
	case errors.Is(err, errNotUTF8), errors.Is(err, errShape):
		return malformed("the body " + err.Error())
	case errors.As(err, &syntax):
		return malformed(fmt.Sprintf("the body is not JSON: at byte %d", syntax.Offset))
	}
	return web.BadRequest("the body did not arrive whole: send it again")
}
