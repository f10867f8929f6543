package web

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"tidemark/internal/control"
	"tidemark/internal/decide/engine"
	"tidemark/internal/fleet"
	"tidemark/internal/foresee/month"
	"tidemark/internal/record"
	"tidemark/internal/tell"
)

// API is the handler of everything under /api/v1, and of /metrics, /healthz, /readyz, /status.json and /banner.
type API struct {
	b    Backend
	feed *Feed
	mux  *http.ServeMux
	test atomic.Pointer[heard]
}

// New makes the API of a backend. Close ends what it runs.
func New(b Backend) *API {
	a := &API{b: b, feed: NewFeed(b), mux: http.NewServeMux()}
	for _, rt := range routes {
		a.mux.HandleFunc(rt.method+" "+rt.path, func(w http.ResponseWriter, r *http.Request) {
			if err := Permit(r, rt.role); err != nil {
				Answer(w, r, nil, err)
				return
			}
			rt.serve(a, w, r)
		})
	}
	a.mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		Answer(w, r, nil, &Problem{Status: http.StatusNotFound, Detail: fmt.Sprintf("there is no %s %s; /api/v1/openapi.json says what there is", r.Method, r.URL.Path)})
	})
	return a
}

// Feed tells of what happens, to streams and live pages.
func (a *API) Feed() *Feed { return a.feed }

// Close ends all streams.
func (a *API) Close() { a.feed.Close() }

func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.mux.ServeHTTP(w, r) }

// route is one thing that the API does, and what its description says of it.
type route struct {
	method, path string
	role         Role // that it needs
	does         string
	query        []string // names of params
	body, answer any      // a value of their types; nil: none
	kind         string   // of an answer that is not JSON
	serve        func(*API, http.ResponseWriter, *http.Request)
}

// Route is one thing that can be asked for, and the role that it needs.
type Route struct {
	Method, Path string
	Role         Role
}

// Routes lists what the API serves.
func Routes() (out []Route) {
	for _, rt := range routes {
		out = append(out, Route{rt.method, rt.path, rt.role})
	}
	return out
}

// asks makes a handler of a question.
func asks(f func(*API, http.ResponseWriter, *http.Request) (any, error)) func(*API, http.ResponseWriter, *http.Request) {
	return func(a *API, w http.ResponseWriter, r *http.Request) {
		v, err := f(a, w, r)
		Answer(w, r, v, err)
	}
}

// params are the query parameters, by name.
var params = map[string]struct{ does, example string }{
	"at":     {"the moment asked about, RFC 3339; now when left out", "2027-03-01T07:00:00Z"},
	"fleet":  {"only of this fleet", "odoo-workers"},
	"kind":   {"only of this kind; may be given several times", "decision"},
	"since":  {"from this moment on, RFC 3339", "2027-03-01T07:00:00Z"},
	"until":  {"up to this moment, which is not included, RFC 3339", "2027-03-01T08:00:00Z"},
	"after":  {"events with a higher id, oldest first: for following", "41"},
	"before": {"the cursor of the next page, as the header Link (rel=\"next\") has it", "41"},
	"limit":  {"at most so many, 1 to 10000; 100 when left out", "100"},
	"signal": {"the signal; tidemark.workers is the size, policy:ID what one policy alone would have led to, forecast:ID:low, median and high what it expected of the moment a lead time later", "cpu"},
	"days":   {"how far back, 1 to 30; 7 when left out", "7"},
	"set":    {"another number, as PATH=VALUE, with a path of the answer's settings; may be given several times", "fleets.0.policies.0.rules.0.threshold=80%"},
	"points": {"at most so many points, 1 to 5000; 1000 when left out", "1000"},
}

// routes is filled in init: the description of the API looks at it.
var routes []route

func init() {
	const get, post = http.MethodGet, http.MethodPost
	routes = []route{
		{get, "/api/v1/status", Viewer, "The daemon, and all its fleets after their last tick.", nil, nil, Overview{}, "", asks((*API).status)},
		{get, "/api/v1/events", Viewer, "What happened, newest first.", []string{"fleet", "kind", "since", "until", "after", "before", "limit"}, nil, []fleet.Event{}, "", asks((*API).events)},
		{get, "/api/v1/stream", Viewer, "Server-sent events: each event of the journal as it is recorded, its id as the stream's; a client that comes again with Last-Event-ID misses none.", []string{"fleet", "after"}, nil, nil, eventStream, (*API).stream},
		{get, "/api/v1/alerts", Viewer, "What people are told: what is raised, and what ended within the last hour.", nil, nil, Alerts{}, "", asks((*API).alerts)},
		{post, "/api/v1/alerts/test", Operator, "Send a test message through each channel.", nil, nil, []tell.Tried{}, "", asks((*API).testAlerts)},
		{post, "/api/v1/alerts/acknowledgements", Operator, "Say that somebody has seen an alert; it is recorded, and shown with the alert.", nil, Acknowledgement{}, Alerts{}, "", asks((*API).acknowledge)},
		{get, "/api/v1/fleets/{fleet}", Viewer, "One fleet after its last tick.", nil, nil, control.Status{}, "", asks((*API).fleet)},
		{get, "/api/v1/fleets/{fleet}/explanation", Viewer, "Why the size is, or was, what it is.", []string{"at"}, nil, Explanation{}, "", asks((*API).explanation)},
		{get, "/api/v1/fleets/{fleet}/decisions", Viewer, "Decisions with the whole chain of their reasons, newest first. One is kept only where it says something else than the one before it.", []string{"before", "limit"}, nil, []fleet.Decision{}, "", asks((*API).decisions)},
		{get, "/api/v1/fleets/{fleet}/series", Viewer, "One signal's history, in the finest step that is kept and gives at most so many points.", []string{"signal", "since", "until", "points"}, nil, []Point{}, "", asks((*API).series)},
		{get, "/api/v1/fleets/{fleet}/workers", Viewer, "The workers, with what each takes now.", nil, nil, []Worker{}, "", asks((*API).workers)},
		{get, "/api/v1/fleets/{fleet}/policies", Viewer, "What is written about the fleet, beside what is in force.", nil, nil, Policies{}, "", asks((*API).policies)},
		{get, "/api/v1/fleets/{fleet}/what-if", Viewer, "What the policy would have decided with other numbers, by the readings that the journal has of the last days. Nothing is changed.", []string{"days", "set"}, nil, WhatIf{}, "", asks((*API).whatIf)},
		{post, "/api/v1/fleets/{fleet}/orders", Operator, "An operator's word: hold, scale, release, mode or mode_as_configured. It is recorded with who gave it and why.", nil, OrderRequest{}, control.Status{}, "", asks((*API).order)},
		{post, "/api/v1/fleets/{fleet}/notes", Operator, "Note what happened around the fleet: a market day, an update of the application. It is recorded, and seen on the timeline.", nil, Note{}, Note{}, "", asks((*API).annotate)},
		{get, "/api/v1/daemons", Viewer, "The other daemons of the configuration, as each was last heard. While one is away, what it said last is of the past.", nil, nil, []Daemon{}, "", asks((*API).daemons)},
		{get, "/api/v1/reports", Viewer, "The months that can be reckoned, and the reports that are kept.", nil, nil, Reports{}, "", asks((*API).reports)},
		{get, "/api/v1/reports/months/{month}", Viewer, "A month, such as 2027-03, as the journal has it: availability, service levels, scaling, cost.", nil, nil, month.Report{}, "", asks((*API).month)},
		{get, "/api/v1/reports/kept/{name}", Viewer, "A report that is kept, as a page that stands alone.", nil, nil, nil, "text/html; charset=utf-8", (*API).kept},
		{get, "/api/v1/openapi.json", Viewer, "This description.", nil, nil, nil, "application/json", (*API).describe},
		{get, "/metrics", Viewer, "Figures for Prometheus.", nil, nil, nil, metricsKind, (*API).metrics},
		{get, "/healthz", Anybody, "200 while the daemon answers.", nil, nil, nil, "text/plain; charset=utf-8", func(_ *API, w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") }},
		{get, "/readyz", Viewer, "200 while each fleet ticks and the journal is written; 503 says what is not.", nil, nil, nil, "text/plain; charset=utf-8", (*API).ready},
		{get, "/status.json", Anybody, "What the public may know: normal, slow, degraded or unknown. Any page may read it.", nil, nil, Public{}, "", (*API).publicStatus},
		{get, "/banner", Anybody, "The same as a line of HTML, to be framed by any page; empty while all is normal.", nil, nil, nil, "text/html; charset=utf-8", (*API).banner},
	}
}

func (a *API) daemons(http.ResponseWriter, *http.Request) (any, error) { return a.b.Daemons(), nil }
func (a *API) reports(_ http.ResponseWriter, r *http.Request) (any, error) {
	return a.b.Reports(r.Context())
}
func (a *API) month(_ http.ResponseWriter, r *http.Request) (any, error) {
	return a.b.Month(r.Context(), r.PathValue("month"))
}

func (a *API) kept(w http.ResponseWriter, r *http.Request) {
	text, err := a.b.Kept(r.PathValue("name"))
	if err != nil {
		Answer(w, r, nil, err)
		return
	}
	StandAlone(w)
	_, _ = w.Write(text) // the client may be gone
}

// StandAlone makes of an answer a page that has its style in itself, and can do nothing: whoever wrote it.
func StandAlone(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox")
	h.Set("Cache-Control", "no-store")
}

func (a *API) status(http.ResponseWriter, *http.Request) (any, error) { return a.b.Overview(), nil }
func (a *API) alerts(http.ResponseWriter, *http.Request) (any, error) { return a.b.Alerts(), nil }
func (a *API) testAlerts(_ http.ResponseWriter, r *http.Request) (any, error) {
	return a.b.TestAlerts(r.Context(), CallerOf(r.Context()))
}

func (a *API) events(w http.ResponseWriter, r *http.Request) (any, error) {
	q, err := EventQuery(r.URL.Query())
	if err != nil {
		return nil, err
	}
	events, err := a.b.Events(r.Context(), q)
	if n := len(events); n > 0 && n == limitOf(q.Limit) {
		at := map[bool]string{false: "before", true: "after"}[q.After > 0]
		next(w, r, at, strconv.FormatInt(events[n-1].ID, 10))
	}
	if events == nil {
		events = []fleet.Event{}
	}
	return events, err
}

// next says where the next page is.
func next(w http.ResponseWriter, r *http.Request, name, cursor string) {
	v := r.URL.Query()
	v.Set(name, cursor)
	w.Header().Set("Link", fmt.Sprintf(`<%s?%s>; rel="next"`, r.URL.Path, v.Encode()))
}

func (a *API) acknowledge(w http.ResponseWriter, r *http.Request) (any, error) {
	var ack Acknowledgement
	if err := read(w, r, &ack); err != nil {
		return nil, err
	}
	if err := Acknowledge(r.Context(), a.b, ack); err != nil {
		return nil, err
	}
	return a.b.Alerts(), nil
}

// Acknowledge checks an acknowledgement and passes it on.
func Acknowledge(ctx context.Context, b Backend, ack Acknowledgement) error {
	if ack.Key == "" {
		return bad("an acknowledgement needs the key of an alert")
	}
	by := CallerOf(ctx)
	var err error
	if ack.By, err = by.sign(ack.By); err != nil {
		return err
	}
	if err := signed(ack.By, ack.Note); err != nil {
		return err
	}
	ack.Origin, ack.At = by.Origin, time.Now().UTC().Round(0)
	return b.Acknowledge(ctx, ack)
}

func (a *API) fleet(_ http.ResponseWriter, r *http.Request) (any, error) {
	name := r.PathValue("fleet")
	all := a.b.Overview().Fleets
	if i := slices.IndexFunc(all, func(st *control.Status) bool { return st.Fleet == name }); i >= 0 {
		return all[i], nil
	}
	return nil, control.ErrNoFleet
}

func (a *API) workers(w http.ResponseWriter, r *http.Request) (any, error) {
	st, err := a.fleet(w, r)
	if err != nil {
		return nil, err
	}
	return a.b.Workers(r.Context(), st.(*control.Status)), nil
}

func (a *API) explanation(_ http.ResponseWriter, r *http.Request) (any, error) {
	at, err := queryTime(r.URL.Query(), "at")
	if err != nil {
		return nil, err
	}
	return a.b.Explain(r.Context(), r.PathValue("fleet"), at)
}

func (a *API) decisions(w http.ResponseWriter, r *http.Request) (any, error) {
	v := r.URL.Query()
	limit, err := queryCount(v, "limit", 10_000)
	if err != nil {
		return nil, err
	}
	before, err := queryTime(v, "before")
	if err != nil {
		return nil, err
	}
	list, err := a.b.Decisions(r.Context(), r.PathValue("fleet"), time.Time{}, before, limit)
	if n := len(list); n > 0 && n == limitOf(limit) {
		next(w, r, "before", list[n-1].Time.UTC().Format(time.RFC3339Nano))
	}
	if list == nil {
		list = []fleet.Decision{}
	}
	return list, err
}

// Point is one step of a series; values are null where nothing was measured.
type Point struct {
	Time    time.Time `json:"time"`
	N       int       `json:"n"`       // readings that it stands for
	Missing int       `json:"missing"` // readings that were not fresh
	Min     *float64  `json:"min"`
	Max     *float64  `json:"max"`
	Mean    *float64  `json:"mean"`
}

func (a *API) series(_ http.ResponseWriter, r *http.Request) (any, error) {
	v := r.URL.Query()
	q := record.SeriesQuery{Fleet: r.PathValue("fleet"), Signal: v.Get("signal")}
	if q.Signal == "" {
		return nil, bad("signal: say which; /api/v1/fleets/" + url.PathEscape(q.Fleet) + " lists them")
	}
	var errs [3]error
	q.Since, errs[0] = queryTime(v, "since")
	q.Until, errs[1] = queryTime(v, "until")
	q.MaxPoints, errs[2] = queryCount(v, "points", 5000)
	for _, err := range errs { // the first says enough
		if err != nil {
			return nil, err
		}
	}
	points, err := a.b.Series(r.Context(), q)
	out := make([]Point, len(points))
	for i, p := range points {
		out[i] = Point{Time: p.Time, N: p.N, Missing: p.Missing, Min: number(p.Min), Max: number(p.Max), Mean: number(p.Mean)}
	}
	return out, err
}

// number is nil for what is none.
func number(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}

func (a *API) policies(_ http.ResponseWriter, r *http.Request) (any, error) {
	return a.b.Policies(r.PathValue("fleet"))
}

func (a *API) whatIf(_ http.ResponseWriter, r *http.Request) (any, error) {
	v := r.URL.Query()
	days, err := queryCount(v, "days", 30)
	if err != nil {
		return nil, err
	}
	numbers := map[string]string{}
	for _, set := range v["set"] {
		path, number, ok := strings.Cut(set, "=")
		if !ok {
			return nil, &Problem{Status: http.StatusBadRequest, Detail: "set: write PATH=VALUE, with a path of the answer's settings"}
		}
		numbers[path] = number
	}
	return a.b.WhatIf(r.Context(), r.PathValue("fleet"), days, numbers)
}

func (a *API) order(w http.ResponseWriter, r *http.Request) (any, error) {
	var req OrderRequest
	if err := read(w, r, &req); err != nil {
		return nil, err
	}
	return Order(r.Context(), a.b, r.PathValue("fleet"), req)
}

// Order checks an operator's word and passes it on.
func Order(ctx context.Context, b Backend, of string, req OrderRequest) (*control.Status, error) {
	by := CallerOf(ctx)
	name, err := by.sign(req.By)
	if err != nil {
		return nil, err
	}
	o := engine.Order{Kind: req.Kind, Size: req.Size, Mode: req.Mode, By: name, Origin: by.Origin, Note: req.Note, At: time.Now().UTC()}
	if o.Kind == engine.NoOrder || (o.Kind == engine.Pin && o.Size < 1) {
		return nil, bad("an order needs a kind, and scale a size of at least 1")
	}
	if err := signed(o.By, req.Note); err != nil {
		return nil, err
	}
	if req.For != nil {
		if *req.For <= 0 {
			return nil, bad("for: write how long it lasts, such as 1h, or leave it out: until it is released")
		}
		o.Until = o.At.Add(time.Duration(*req.For))
	}
	return b.Order(ctx, of, o)
}

func (a *API) annotate(w http.ResponseWriter, r *http.Request) (any, error) {
	var n Note
	if err := read(w, r, &n); err != nil {
		return nil, err
	}
	return n, Annotate(r.Context(), a.b, r.PathValue("fleet"), n)
}

// Annotate checks a note and passes it on.
func Annotate(ctx context.Context, b Backend, of string, n Note) error {
	by := CallerOf(ctx)
	var err error
	if n.By, err = by.sign(n.By); err != nil {
		return err
	}
	if strings.TrimSpace(n.Note) == "" {
		return bad("note: say what happened")
	}
	if err := signed(n.By, n.Note); err != nil {
		return err
	}
	n.Origin = by.Origin
	return b.Annotate(ctx, of, n)
}

// Bounds of what a person says, in letters.
const (
	mostBy   = 100
	mostNote = 500
)

// signed checks who gives an order, and why.
func signed(by, note string) error {
	if strings.TrimSpace(by) == "" {
		return bad("by: say who gives it; it is recorded")
	}
	return cmp.Or(plain("by", by, mostBy), plain("note", note, mostNote))
}

// plain checks a line of text.
func plain(what, text string, most int) error {
	if n := utf8.RuneCountInString(text); n > most {
		return bad(fmt.Sprintf("%s: has %d letters, and may have %d", what, n, most))
	}
	if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		return bad(what + ": is to be one line of plain text")
	}
	return nil
}

func (a *API) ready(w http.ResponseWriter, _ *http.Request) {
	if err := a.b.Healthy(); err != nil {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, err.Error()+"\n") // the client may be gone
		return
	}
	_, _ = io.WriteString(w, "ok\n")
}

// maxBody bounds what a client may send.
const maxBody = 64 << 10

// read reads what a client sends.
func read(w http.ResponseWriter, r *http.Request, into any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		return &Problem{Status: http.StatusRequestEntityTooLarge, Detail: fmt.Sprintf("more than %d bytes were sent", maxBody)}
	case err != nil:
		return bad("what was sent cannot be read: " + err.Error())
	}
	return nil
}

// EventQuery reads which events are asked for.
func EventQuery(v url.Values) (q record.EventQuery, err error) {
	q.Fleet = v.Get("fleet")
	for _, k := range v["kind"] {
		if k != "" { // of a form: all
			q.Kinds = append(q.Kinds, fleet.Kind(k))
		}
	}
	if q.Since, err = queryTime(v, "since"); err != nil {
		return q, err
	}
	if q.Until, err = queryTime(v, "until"); err != nil {
		return q, err
	}
	if q.After, err = queryID(v, "after"); err != nil {
		return q, err
	}
	if q.Before, err = queryID(v, "before"); err != nil {
		return q, err
	}
	q.Limit, err = queryCount(v, "limit", 10_000)
	return q, err
}

func queryID(v url.Values, name string) (int64, error) {
	s := v.Get(name)
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return 0, bad(name + ": " + strconv.Quote(s) + " is no event id")
	}
	return n, nil
}

func queryCount(v url.Values, name string, most int) (int, error) {
	s := v.Get(name)
	if s == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > most {
		return 0, bad(fmt.Sprintf("%s: %q is no count from 1 to %d", name, s, most))
	}
	return n, nil
}

// limitOf is how many are given when a limit is, or is not, asked for.
func limitOf(n int) int {
	if n == 0 {
		return 100
	}
	return n
}

func queryTime(v url.Values, name string) (time.Time, error) {
	s := v.Get(name)
	if s == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return t, bad(name + ": " + strconv.Quote(s) + " is no time; write 2027-03-01T07:00:00Z")
	}
	return t.UTC(), nil
}

func bad(detail string) error { return &Problem{Status: http.StatusBadRequest, Detail: detail} }

// ProblemOf is what an error is to a client.
func ProblemOf(err error) Problem {
	p := Problem{Status: http.StatusInternalServerError, Detail: err.Error()}
	var own *Problem
	switch {
	case errors.As(err, &own):
		p = *own
	case errors.Is(err, control.ErrNoFleet), errors.Is(err, ErrNoAlert):
		p.Status = http.StatusNotFound
	}
	p.Title = http.StatusText(p.Status)
	return p
}

// Answer writes a value, or a problem, as JSON. A client that has the value already is told so.
func Answer(w http.ResponseWriter, r *http.Request, v any, err error) {
	h, status := w.Header(), http.StatusOK
	h.Set("Content-Type", "application/json")
	if err != nil {
		p := ProblemOf(err)
		h.Set("Content-Type", "application/problem+json")
		if p.Status == http.StatusUnauthorized {
			h.Set("WWW-Authenticate", "Bearer")
		}
		v, status = p, p.Status
	}
	text, err := json.Marshal(v)
	if err != nil { // a number that is none
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	h.Set("Cache-Control", "private, no-cache") // ask each time whether it still holds
	if status == http.StatusOK && r.Method == http.MethodGet && Unchanged(w, r, text) {
		return
	}
	h.Set("Content-Length", strconv.Itoa(len(text)+1))
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n')) // the client may be gone
}

// Unchanged names a text by an ETag, and answers 304 to a client that has it already.
func Unchanged(w http.ResponseWriter, r *http.Request, text []byte) bool {
	sum := fnv.New64a()
	sum.Write(text)
	tag := fmt.Sprintf(`"%016x"`, sum.Sum64())
	w.Header().Set("ETag", "W/"+tag) // weak: of the answer as it is, and as it is compressed
	for given := range strings.SplitSeq(r.Header.Get("If-None-Match"), ",") {
		if strings.TrimPrefix(strings.TrimSpace(given), "W/") == tag {
			w.WriteHeader(http.StatusNotModified)
			return true
		}
	}
	return false
}

// Serves reports whether a request is for the API, whatever comes of it.
func (a *API) Serves(r *http.Request) bool {
	_, pattern := a.mux.Handler(r)
	return pattern != ""
}
