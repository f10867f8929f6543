// Package dashboard is the daemon's pages: what each fleet does and why, and the operator's orders. The server writes them whole, so
// that they can be read without a script; a small one keeps them up to date by server-sent events. They load nothing from elsewhere.
//
// What is shown comes from web.Backend, and what is done goes the way of the API: a page can nothing that the API cannot.
package dashboard

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"tidemark/internal/control"
	"tidemark/internal/decide/alert"
	"tidemark/internal/fleet"
	"tidemark/internal/show/chart"
	"tidemark/internal/show/report"
	"tidemark/internal/show/text"
	"tidemark/internal/show/web"
	"tidemark/internal/show/web/access"
)

//go:embed templates assets
var files embed.FS

// asset is a file that pages load. Its path changes with it, so that browsers may keep it for good.
type asset struct {
	Path, kind string
	text       []byte
}

var (
	style  = load("site.css", "text/css; charset=utf-8", chart.Style)
	script = load("site.js", "text/javascript; charset=utf-8", "")
	icon   = load("icon.svg", "image/svg+xml", "")
)

func load(name, kind, before string) asset {
	text, err := files.ReadFile("assets/" + name)
	if err != nil {
		panic(err) // it is part of the program
	}
	text = append([]byte(before), text...)
	sum := sha256.Sum256(text)
	return asset{"/assets/" + hex.EncodeToString(sum[:6]) + "/" + name, kind, text}
}

// Site serves the pages.
type Site struct {
	api    *web.API
	b      web.Backend
	gate   *access.Gate
	mux    *http.ServeMux
	charts charts
	routes []web.Route
}

// view is a kind of page that shows something: its template, the sections of it that change, and how what it shows is found.
type view struct {
	pattern  string
	role     web.Role // that it needs
	template string
	live     []string
	build    func(*Site, context.Context, *http.Request) (*page, error)
}

var views = []view{
	{"/{$}", web.Viewer, "overview", []string{"raised", "fleets", "elsewhere"}, (*Site).overview},
	{"/fleets/{fleet}", web.Viewer, "fleet", []string{"state", "timeline", "alarms", "decisions", "workers"}, (*Site).fleet},
	{"/fleets/{fleet}/policies", web.Viewer, "policies", nil, (*Site).policies},
	{"/fleets/{fleet}/decisions", web.Viewer, "decisions", nil, (*Site).decisions},
	{"/fleets/{fleet}/what-if", web.Viewer, "what-if", nil, (*Site).whatIf},
	{"/fleets/{fleet}/order", web.Operator, "order", nil, (*Site).confirmOrder},
	{"/fleets/{fleet}/costs", web.Viewer, "costs", nil, (*Site).costs},
	{"/reports", web.Viewer, "reports", nil, (*Site).reports},
	{"/events", web.Viewer, "events", []string{"events"}, (*Site).events},
	{"/alerts", web.Viewer, "alerts", []string{"alerts"}, (*Site).alerts},
	{"/alerts/acknowledge", web.Operator, "acknowledge", nil, (*Site).confirmSeen},
}

// New returns the pages and, under the same root, the API. gate says who asks, and has gone before.
func New(api *web.API, b web.Backend, gate *access.Gate) *Site {
	s := &Site{api: api, b: b, gate: gate, mux: http.NewServeMux(), routes: web.Routes()}
	s.charts.kept = map[string]*drawn{}
	s.mux.Handle("/", api)
	for _, a := range []asset{style, script, icon} {
		s.handle(http.MethodGet, a.Path, web.Anybody, func(w http.ResponseWriter, _ *http.Request) {
			h := w.Header()
			h.Set("Content-Type", a.kind)
			h.Set("Cache-Control", "public, max-age=31536000, immutable")
			_, _ = w.Write(a.text) // the client may be gone
		})
	}
	for _, v := range views {
		s.handle(http.MethodGet, v.pattern, v.role, func(w http.ResponseWriter, r *http.Request) { s.show(w, r, &v) })
		if v.live != nil {
			s.handle(http.MethodGet, livePrefix+v.pattern, v.role, func(w http.ResponseWriter, r *http.Request) { s.live(w, r, &v) })
		}
	}
	s.handle(http.MethodGet, "/reports/{month}", web.Viewer, s.month)
	s.handle(http.MethodPost, "/fleets/{fleet}/order", web.Operator, s.order)
	s.handle(http.MethodPost, "/fleets/{fleet}/note", web.Operator, s.note)
	s.handle(http.MethodPost, "/alerts/acknowledge", web.Operator, s.acknowledge)
	s.handle(http.MethodGet, signInPath, web.Anybody, s.askSignIn)
	s.handle(http.MethodPost, signInPath, web.Anybody, s.signIn)
	if gate.Provider() != "" {
		s.handle(http.MethodGet, signInPath+"/oidc", web.Anybody, s.leave)
		s.handle(http.MethodGet, access.BackPath, web.Anybody, s.back)
	}
	s.handle(http.MethodPost, "/sign-out", web.Anybody, s.signOut)
	return s
}

const livePrefix = "/live"

// handle serves what needs a role. Nothing is served but by it and by the API.
func (s *Site) handle(method, path string, role web.Role, serve http.HandlerFunc) {
	s.routes = append(s.routes, web.Route{Method: method, Path: path, Role: role})
	s.mux.HandleFunc(method+" "+path, func(w http.ResponseWriter, r *http.Request) {
		if err := web.Permit(r, role); err != nil {
			s.refuse(w, r, err)
			return
		}
		serve(w, r)
	})
}

// Routes lists what is served, the API's too, and the role that each needs.
func (s *Site) Routes() []web.Route { return s.routes }

// refuse leads whoever could see a page to the sign-in, and says to others why not.
func (s *Site) refuse(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case strings.HasPrefix(r.URL.Path, livePrefix+"/"):
		web.Answer(w, r, nil, err)
	case web.ProblemOf(err).Status == http.StatusUnauthorized && r.Method != http.MethodPost:
		http.Redirect(w, r, signInPath+"?"+url.Values{"to": {r.URL.RequestURI()}}.Encode(), http.StatusSeeOther)
	default:
		s.fail(w, r, err)
	}
}

func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if _, pattern := s.mux.Handler(r); pattern == "/" && !s.api.Serves(r) {
		s.fail(w, r, &web.Problem{Status: http.StatusNotFound, Detail: "there is no such page"})
		return
	}
	s.mux.ServeHTTP(w, r)
}

// page is what every template is given.
type page struct {
	Title    string
	Here     string // path, for the navigation
	Live     string // where its news come from; empty: it does not change
	Overview web.Overview
	LoadTest *web.LoadTest // that goes on; nil: none
	Zone     *time.Location
	Now      time.Time
	Skew     time.Duration // by how much the clock of the daemon shown may differ from Now's
	Caller   web.Caller
	Data     any
}

// page begins a page.
func (s *Site) page(title string) *page {
	o := s.b.Overview()
	return &page{Title: title, Overview: o, LoadTest: s.api.LoadTest(), Zone: zoneOf(o.TimeZone), Now: time.Now().UTC()}
}

func zoneOf(name string) *time.Location {
	zone, err := time.LoadLocation(name)
	if err != nil {
		return time.UTC // the configuration was checked: its zone files are gone
	}
	return zone
}

// show writes a page.
func (s *Site) show(w http.ResponseWriter, r *http.Request, v *view) {
	p, err := v.build(s, r.Context(), r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if v.live != nil {
		p.Live = livePrefix + r.URL.Path
		if r.URL.RawQuery != "" {
			p.Live += "?" + r.URL.RawQuery
		}
	}
	s.write(w, r, http.StatusOK, v.template, p)
}

func (s *Site) write(w http.ResponseWriter, r *http.Request, status int, name string, p *page) {
	p.Here, p.Caller = r.URL.Path, web.CallerOf(r.Context())
	var b bytes.Buffer
	if err := templates[name].ExecuteTemplate(&b, "frame", p); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError) // every template is tested
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(b.Len()))
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // the client may be gone
}

// fail shows why there is no page.
func (s *Site) fail(w http.ResponseWriter, r *http.Request, err error) {
	problem := web.ProblemOf(err)
	p := s.page(problem.Title)
	p.Data = problem.Detail
	s.write(w, r, problem.Status, "error", p)
}

// live sends the sections of a page as they change.
func (s *Site) live(w http.ResponseWriter, r *http.Request, v *view) {
	path := strings.TrimPrefix(r.URL.Path, livePrefix)
	name := path + "?" + r.URL.Query().Encode()
	// What is rendered here is sent to all who watch the same page, so that it must not end with the one who came first.
	whole := r.Clone(context.Background())
	whole.URL = &url.URL{Path: path, RawQuery: r.URL.RawQuery}
	if _, err := v.build(s, r.Context(), whole); err != nil {
		web.Answer(w, r, nil, err)
		return
	}
	if r.Method == http.MethodHead { // somebody wants to know whether it may still be watched
		return
	}
	var mu sync.Mutex
	sent := map[string][32]byte{}
	render := func(all bool) []web.Message {
		mu.Lock()
		defer mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		p, err := v.build(s, ctx, whole)
		if err != nil {
			return nil // the journal is busy, or the fleet is gone: the page stays as it is, and says how old it is
		}
		var out []web.Message
		for _, section := range v.live {
			var b bytes.Buffer
			if templates[v.template].ExecuteTemplate(&b, section, p) != nil {
				continue
			}
			sum := sha256.Sum256(b.Bytes())
			if all || sum != sent[section] {
				sent[section] = sum
				out = append(out, message("section", b.String()))
			}
		}
		return out
	}
	s.api.Feed().Serve(w, r, name, func(web.Change) []web.Message { return render(false) }, func() (web.Past, error) {
		o := s.b.Overview()
		return web.Past{First: append([]web.Message{message("hello", hello(&o))}, render(true)...)}, nil
	})
}

// hello says which daemon this is, and which script and style its pages have: a page knows those that it was made by.
func hello(o *web.Overview) string {
	return fmt.Sprintf("%d %s%s", o.Since.UnixNano(), style.Path, script.Path)
}

// message is one event of a stream.
func message(name, text string) web.Message {
	return web.Message{Text: []byte("event: " + name + "\ndata: " + strings.ReplaceAll(text, "\n", "\ndata: ") + "\n\n")}
}

// templates are the pages by name, each with the frame and the parts that all share.
var templates = func() map[string]*template.Template {
	shared := template.Must(template.New("").Funcs(functions).ParseFS(files, "templates/frame.html", "templates/parts.html"))
	all := map[string]*template.Template{}
	names := []string{"error", "sign-in"}
	for _, v := range views {
		names = append(names, v.template)
	}
	for _, name := range names {
		all[name] = template.Must(template.Must(shared.Clone()).ParseFS(files, "templates/"+name+".html"))
	}
	return all
}()

var functions = template.FuncMap{
	"elapsed": func(d any) string {
		switch d := d.(type) {
		case time.Duration:
			return fleet.Elapsed(d)
		case fleet.Duration:
			return fleet.Elapsed(time.Duration(d))
		case *fleet.Duration:
			return fleet.Elapsed(time.Duration(*d))
		}
		return ""
	},
	"words":    func(e fleet.Event) string { return text.Event(&e) },
	"trouble":  func(e fleet.Event) bool { return text.Trouble(&e) },
	"sentence": func(r fleet.Reason, at time.Time) string { return r.Sentence(at) },
	"bytes":    func(n int64) string { return fleet.Bytes.Format(float64(n)) },
	"plain":    func(state fmt.Stringer) string { return strings.ReplaceAll(state.String(), "_", " ") },
	"month":    report.MonthName,
	"path":     url.PathEscape,
}

// Hello is which daemon made the page.
func (p *page) Hello() string { return hello(&p.Overview) }

// Style, Script and Icon are what every page loads.
func (p *page) Style() asset  { return style }
func (p *page) Script() asset { return script }
func (p *page) Icon() asset   { return icon }

// At says whether the page belongs to an entry of the navigation.
func (p *page) At(path string) bool {
	return p.Here == path || path != "/" && strings.HasPrefix(p.Here+"/", path+"/")
}

// Fleets are their names.
func (p *page) Fleets() (out []string) {
	for _, st := range p.Overview.Fleets {
		out = append(out, st.Fleet)
	}
	return out
}

// When is a time in the instance's zone, with UTC when pointed at.
func (p *page) When(t time.Time) template.HTML {
	if t.IsZero() {
		return "–"
	}
	local := t.In(p.Zone)
	shown := local.Format("2006-01-02 15:04:05")
	if now := p.Now.In(p.Zone); now.Year() == local.Year() && now.YearDay() == local.YearDay() {
		shown = local.Format("15:04:05")
	}
	utc := t.UTC()
	return template.HTML(fmt.Sprintf(`<time datetime="%s" title="%s, %s">%s</time>`, utc.Format(time.RFC3339), utc.Format("2006-01-02 15:04:05 UTC"), local.Format("MST -07:00"), shown)) // digits only
}

// Ago is how long ago a time was.
func (p *page) Ago(t time.Time) string { return fleet.Elapsed(max(p.Now.Sub(t), 0)) }

// raised are a place's alerts. The first are shown at once, the most severe before the others; more of them would leave no room for what they are about.
type raised struct {
	ID          string // of what holds More, so that it stays open when it is brought up to date
	First, More []raisedAlert
}

type raisedAlert struct {
	alert.Notice
	Ago, Place string
}

const shownAtOnce = 3

// Raised are the alerts of the daemon shown, which is reached at a place.
func (p *page) Raised(place, id string) raised {
	out := raised{ID: id}
	for _, n := range slices.SortedStableFunc(slices.Values(p.Overview.Raised), func(a, b alert.Notice) int { return cmp.Compare(b.Severity, a.Severity) }) {
		shown := raisedAlert{n, p.Ago(n.Started), place}
		if len(out.First) < shownAtOnce {
			out.First = append(out.First, shown)
		} else {
			out.More = append(out.More, shown)
		}
	}
	return out
}

// state finds a fleet.
func (p *page) state(name string) (*control.Status, error) {
	for _, st := range p.Overview.Fleets {
		if st.Fleet == name {
			return st, nil
		}
	}
	return nil, control.ErrNoFleet
}
