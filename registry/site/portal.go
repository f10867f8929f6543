package site

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"tidemark/registry"
	"tidemark/registry/store"
)

func (s *site) portal() {
	s.handle("GET /{$}", s.home)
	s.handle("GET /language/{code}", s.chooseLanguage)
	s.handle("GET /register", s.register)
	s.handle("POST /register", s.preregister)
	s.handle("GET /register/done", s.registered)
	s.handle("GET /status", s.status)
	s.handle("POST /status", s.status)
}

func (s *site) home(w http.ResponseWriter, r *http.Request) error {
	s.show(w, http.StatusOK, "home", s.page(r, "home.title"))
	return nil
}

// chooseLanguage remembers a language and goes back to the page that it was chosen on.
func (s *site) chooseLanguage(w http.ResponseWriter, r *http.Request) error {
	code := r.PathValue("code")
	if languages[code] == nil {
		return registry.ErrNotFound
	}
	http.SetCookie(w, &http.Cookie{Name: languageCookie, Value: code, Path: "/", MaxAge: 365 * 24 * 3600, Secure: s.peer(r).https, HttpOnly: true, SameSite: http.SameSiteLaxMode})
	to := r.URL.Query().Get("to")
	if !inside(to, "/") {
		to = "/"
	}
	return seeOther(w, r, to)
}

// The fields of a preregistration, in two parts. The village is asked for together with its island.
var (
	askedOfYou = []string{"given_name", "family_name", "birth_date", "sex", "national_id"}
	askedWhere = []string{"phone"}
)

const (
	place   = "place"   // of the form: island and village, with a / between
	trap    = "website" // of the form: a field that people do not see and programs fill in
	consent = "consent"
)

// registration is what the template of the form is given.
type registration struct {
	You, Where []input
	Village    input
	Consent    input
	Trap       string
}

func (s *site) register(w http.ResponseWriter, r *http.Request) error {
	return s.registerForm(w, r, http.StatusOK, s.page(r, "register.title"))
}

func (s *site) registerForm(w http.ResponseWriter, r *http.Request, status int, p *page) error {
	villages, err := s.store.Villages(r.Context())
	if err != nil {
		return err
	}
	e := registry.EntityNamed("farmer")
	autocomplete := map[string]string{"given_name": "given-name", "family_name": "family-name", "birth_date": "bday", "phone": "tel"}
	ask := func(names []string) (all []input) {
		for _, name := range names {
			f := e.Field(name)
			in := p.input(f, r.PostForm.Get(name))
			in.Autocomplete = autocomplete[name]
			if !f.Required {
				in.Optional = p.T("register.optional")
			}
			all = append(all, in)
		}
		return all
	}
	village := p.input(e.Field("village"), r.PostForm.Get(place))
	village.Name, village.Type, village.Choose, village.Groups = place, "select", p.T("register.choose"), byIsland(villages)
	agree := input{Name: consent, Type: "checkbox", Label: p.T("register.consent"), Value: r.PostForm.Get(consent), Required: true}
	for _, x := range p.Wrong {
		if x.Field == consent {
			agree.Wrong = x.Detail
		}
	}
	for i := range p.Wrong {
		if p.Wrong[i].Field == "village" || p.Wrong[i].Field == "island" { // there is one field for both
			p.Wrong[i].Field = place
		}
	}
	p.Data = registration{ask(askedOfYou), ask(askedWhere), village, agree, trap}
	s.show(w, status, "register", p)
	return nil
}

// byIsland groups villages for a select.
func byIsland(villages []registry.Village) []group {
	var all []group
	for _, v := range villages {
		if len(all) == 0 || all[len(all)-1].Label != v.Island+", "+v.Country {
			all = append(all, group{Label: v.Island + ", " + v.Country})
		}
		g := &all[len(all)-1]
		g.Options = append(g.Options, option{v.Island + "/" + v.Name, v.Name})
	}
	return all
}

// raw is a form's value as Decode reads it.
func raw(value string) json.RawMessage {
	if strings.TrimSpace(value) == "" {
		return json.RawMessage("null")
	}
	text, err := json.Marshal(strings.ToValidUTF8(value, "\uFFFD"))
	if err != nil {
		panic(err) // a string
	}
	return text
}

func (s *site) preregister(w http.ResponseWriter, r *http.Request) error {
	if err := form(w, r); err != nil {
		return err
	}
	p, now := s.page(r, "register.title"), time.Now()
	island, village, _ := strings.Cut(r.PostForm.Get(place), "/")
	sent := map[string]json.RawMessage{"island": raw(island), "village": raw(village)}
	for _, name := range slices.Concat(askedOfYou, askedWhere) {
		sent[name] = raw(r.PostForm.Get(name))
	}
	e := registry.EntityNamed("farmer")
	fields, faults := e.Decode(sent, registry.Today(now))
	fields = fields.With(registry.Fields{"consent": "given", "status": registry.Statuses[0]})
	known := func(name string) bool {
		return slices.ContainsFunc(faults, func(f registry.Fault) bool { return f.Field == name })
	}
	for _, f := range e.Complete(fields) {
		if !known(f.Field) {
			faults = append(faults, f)
		}
	}
	if r.PostForm.Get(consent) != "yes" {
		faults = append(faults, registry.Fault{Field: consent, Detail: "register.consent.needed"})
	}
	if r.PostForm.Get(trap) != "" {
		faults = append(faults, registry.Fault{Field: trap, Detail: "register.trap.wrong"})
	}
	if len(faults) == 0 {
		if err := s.store.Try(r.Context(), now, store.PreregisterFrom, s.peer(r).address); err != nil {
			return err
		}
		reference, err := s.store.Preregister(r.Context(), now, fields)
		if err == nil {
			// Not in the address, which stays in histories and logs.
			s.referenceCookie(w, r, reference, 600)
			return seeOther(w, r, "/register/done")
		}
		if !errors.As(err, &faults) {
			return err
		}
	}
	order := slices.Concat(askedOfYou, askedWhere, []string{"village", "island", consent, trap})
	slices.SortStableFunc(faults, func(a, b registry.Fault) int { return slices.Index(order, a.Field) - slices.Index(order, b.Field) })
	p.blame(faults)
	return s.registerForm(w, r, http.StatusUnprocessableEntity, p)
}

func (s *site) referenceCookie(w http.ResponseWriter, r *http.Request, value string, age int) {
	http.SetCookie(w, &http.Cookie{Name: "reference", Value: value, Path: "/register/done", MaxAge: age, Secure: s.peer(r).https, HttpOnly: true, SameSite: http.SameSiteLaxMode})
}

// registered shows the reference, for ten minutes.
func (s *site) registered(w http.ResponseWriter, r *http.Request) error {
	p := s.page(r, "done.title")
	if c, err := r.Cookie("reference"); err == nil {
		if reference, ok := store.ParseReference(c.Value); ok {
			p.Data = reference
		}
	}
	s.show(w, http.StatusOK, "done", p)
	return nil
}

// status answers a reference with its state and nothing else.
func (s *site) status(w http.ResponseWriter, r *http.Request) error {
	type answer struct {
		Reference input
		State     string
	}
	p := s.page(r, "status.title")
	if r.Method != http.MethodPost {
		p.Data = answer{Reference: input{Name: "reference", Type: "text", Label: p.Label("reference"), Hint: p.T("hint.reference"), Required: true}}
		s.show(w, http.StatusOK, "status", p)
		return nil
	}
	if err := form(w, r); err != nil {
		return err
	}
	given, status, state, fault := r.PostForm.Get("reference"), http.StatusOK, "", ""
	if reference, ok := store.ParseReference(given); ok {
		found, err := s.store.ByReference(r.Context(), reference)
		switch {
		case errors.Is(err, registry.ErrNotFound):
			status, fault = http.StatusNotFound, "status.unknown"
		case err != nil:
			return err
		default:
			state, given = found.State, reference
		}
	} else {
		status, fault = http.StatusUnprocessableEntity, "status.shape"
	}
	in := input{Name: "reference", Type: "text", Label: p.Label("reference"), Hint: p.T("hint.reference"), Value: given, Required: true}
	if fault != "" {
		p.blame(registry.Faults{{Field: "reference", Detail: fault}})
		in.Wrong = p.T(fault)
	}
	p.Data = answer{in, state}
	s.show(w, status, "status", p)
	return nil
}
