package site

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"tidemark/registry"
)

//go:embed templates/*.html
var templateFiles embed.FS

//go:embed assets
var assetFiles embed.FS

// asset is a file that pages load. Its path changes with it, so that browsers may keep it for good.
type asset struct {
	Path, kind string
	text       []byte
}

var (
	style = mustLoad("site", ".css", "text/css; charset=utf-8")
	icon  = mustLoad("icon", ".svg", "image/svg+xml")
)

func mustLoad(name, ext, kind string) asset {
	text, err := assetFiles.ReadFile("assets/" + name + ext)
	if err != nil {
		panic(err) // it is part of the program
	}
	sum := sha256.Sum256(text)
	return asset{"/assets/" + name + "-" + hex.EncodeToString(sum[:6]) + ext, kind, text}
}

func (s *site) assets() {
	for _, a := range []asset{style, icon} {
		s.mux.HandleFunc("GET "+a.Path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", a.kind)
			w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
			w.Header().Set("Content-Length", strconv.Itoa(len(a.text)))
			_, _ = w.Write(a.text) // a client that has left is no error of ours
		})
	}
}

// pages are the templates by name, each with the frame and the parts that all share.
var pages = mustParse(templateFiles)

// functions put several values into one, for templates within templates.
var functions = template.FuncMap{
	"entry": func(p *page, path, label string) any {
		return struct {
			Path, Label string
			Here        bool
		}{path, label, p.At(path)}
	},
	"rows": func(p *page, found []registry.Record) any {
		return struct {
			Page  *page
			Found []registry.Record
		}{p, found}
	},
}

func mustParse(files fs.FS) map[string]*template.Template {
	shared := template.Must(template.New("").Funcs(functions).ParseFS(files, "templates/frame.html", "templates/parts.html"))
	names, err := fs.Glob(files, "templates/*.html")
	if err != nil {
		panic(err)
	}
	all := map[string]*template.Template{}
	for _, name := range names {
		if base := strings.TrimSuffix(path.Base(name), ".html"); base != "frame" && base != "parts" {
			all[base] = template.Must(template.Must(shared.Clone()).ParseFS(files, name))
		}
	}
	return all
}

// page is what every template is given.
type page struct {
	*language
	Title   string
	Here    string            // the path, for the navigation and to come back to
	Account *registry.Account // who is signed in, nil on the portal
	Admin   bool              // whether it is a page of the office
	Refresh int               // seconds after which the page is loaded again, 0 for never
	Said    string            // what was just done
	Wrong   []wrong           // what is to be corrected
	Data    any
}

// wrong is a fault of a form, beside the label of its field.
type wrong struct{ Field, Label, Detail string }

// page begins a page. title is a key of the languages, or a text.
func (s *site) page(r *http.Request, title string) *page {
	p := &page{language: languageOf(r), Here: r.URL.Path, Admin: inside(r.URL.Path+"/", "/admin/")}
	if p.Admin {
		p.language = languages[english]
	}
	p.Title = p.T(title)
	return p
}

// show writes a page.
func (s *site) show(w http.ResponseWriter, status int, name string, p *page) {
	var b bytes.Buffer
	if err := pages[name].ExecuteTemplate(&b, "frame", p); err != nil { // every template is this package's, and tested
		panic(fmt.Sprintf("page %s: %v", name, err))
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(b.Len()))
	h.Add("Vary", "Accept-Language, Cookie")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // a client that has left is no error of ours
}

// Others are the languages to change to; the office's pages have but one.
func (p *page) Others() []*language {
	if p.Admin {
		return nil
	}
	return p.others()
}

// Style and Icon are what every page loads.
func (p *page) Style() asset { return style }
func (p *page) Icon() asset  { return icon }

// At says whether the page belongs to an entry of the navigation.
func (p *page) At(path string) bool {
	return p.Here == path || path != "/" && path != "/admin/" && strings.HasPrefix(p.Here, path)
}

// May says whether who is signed in may do what needs a role.
func (p *page) May(least string) bool {
	return p.Account != nil && p.Account.Role.May(registry.Role(least))
}

// Label is the name of a field for people.
func (p *page) Label(field string) string {
	key := "field." + field
	if text := p.T(key); text != key {
		return text
	}
	return strings.ReplaceAll(field, "_", " ")
}

// Choice is the name of one of a field's choices for people.
func (p *page) Choice(value string) string {
	key := "choice." + value
	if text := p.T(key); text != key {
		return text
	}
	return strings.ReplaceAll(value, "_", " ")
}

// Show is a field's value for people.
func (p *page) Show(field string, value any) string {
	switch v := value.(type) {
	case nil:
		return "–"
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case registry.JSON:
		return string(v)
	case string:
		if choices[field] {
			return p.Choice(v)
		}
		return cmp.Or(v, "–")
	}
	text, err := json.Marshal(value) // of the audit trail: a shape or answers
	if err != nil {
		return "–"
	}
	return string(text)
}

// Where is a shape for people: the point, or the corners' number and the first of them.
func (p *page) Where(shape any) string {
	text, _ := shape.(registry.JSON)
	var point struct{ Coordinates [2]float64 }
	var polygon struct{ Coordinates [][][2]float64 }
	switch {
	case text == "":
		return "–"
	case json.Unmarshal([]byte(text), &point) == nil:
		return fmt.Sprintf("%.5f, %.5f", point.Coordinates[1], point.Coordinates[0])
	case json.Unmarshal([]byte(text), &polygon) == nil && len(polygon.Coordinates) > 0 && len(polygon.Coordinates[0]) > 0:
		first := polygon.Coordinates[0]
		return fmt.Sprintf("%d corners, from %.5f, %.5f", len(first)-1, first[0][1], first[0][0])
	}
	return string(text)
}

// choices are the fields whose values are words of the program.
var choices = func() map[string]bool {
	all := map[string]bool{}
	for _, e := range registry.Entities {
		for _, f := range e.Fields {
			if f.Kind == registry.Choice {
				all[f.Name] = true
			}
		}
	}
	return all
}()

// When is a time for people.
func (p *page) When(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	return t.UTC().Format("2 Jan 2006, 15:04 UTC")
}

// Count is a number for people.
func (p *page) Count(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// blame shows faults on the page, those of fields with the field's label.
func (p *page) blame(faults registry.Faults) {
	for _, f := range faults {
		w := wrong{Field: f.Field, Detail: p.T(f.Detail)}
		if f.Field != "" {
			w.Label = p.Label(f.Field)
		}
		p.Wrong = append(p.Wrong, w)
	}
}

// input is one field of a form, with all that its template needs.
type input struct {
	Name, Label, Hint string
	Type              string // text, date, tel, select, textarea, checkbox, password, file, search
	Value             string
	Was               string // what the form was made with; sent back so that only edits are stored
	Edit              bool   // whether Was is sent
	Required          bool
	Optional          string // the word for a field that may be left empty, shown when set
	Choose            string // of a select: the entry that is none
	Options           []option
	Groups            []group
	Autocomplete      string
	Wrong             string
}

type option struct{ Value, Label string }

type group struct {
	Label   string
	Options []option
}

// input makes a form's field of a record's.
func (p *page) input(f *registry.Field, value string) input {
	in := input{Name: f.Name, Label: p.Label(f.Name), Type: "text", Value: value, Required: f.Required}
	if hint := p.T("hint." + f.Name); hint != "hint."+f.Name {
		in.Hint = hint
	}
	switch f.Kind {
	case registry.Choice:
		in.Type = "select"
		for _, c := range f.Choices {
			in.Options = append(in.Options, option{c, p.Choice(c)})
		}
	case registry.Date:
		in.Type, in.Hint = "date", ""
	case registry.Phone:
		in.Type = "tel"
	}
	if i := slices.IndexFunc(p.Wrong, func(w wrong) bool { return w.Field == f.Name }); i >= 0 {
		in.Wrong = p.Wrong[i].Detail
	}
	return in
}
