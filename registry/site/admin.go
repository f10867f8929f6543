package site

import (
	"errors"
	"net/http"
	"net/url"
	"time"

	"tidemark/registry"
	"tidemark/registry/store"
)

func (s *site) admin() {
	s.handle("GET /admin/sign-in", s.signInForm)
	s.handle("POST /admin/sign-in", s.signIn)
	s.handle("POST /admin/sign-out", s.signOut)
	s.office("GET /admin/{$}", registry.Viewer, s.dashboard)
	s.office("GET /admin/account", registry.Viewer, s.account)
	s.office("GET /admin/farmers", registry.Viewer, s.farmers)
	s.office("GET /admin/farmers/{uid}", registry.Viewer, s.farmer)
	s.office("GET /admin/farmers/{uid}/edit", registry.Officer, s.editFarmer)
	s.office("POST /admin/farmers/{uid}/edit", registry.Officer, s.saveFarmer)
	s.office("GET /admin/review", registry.Viewer, s.reviews)
	s.office("GET /admin/review/{id}", registry.Viewer, s.review)
	s.office("POST /admin/review/{id}", registry.Officer, s.decide)
	s.office("GET /admin/forms", registry.Viewer, s.forms)
	s.office("GET /admin/imports", registry.Administrator, s.imports)
	s.office("POST /admin/imports", registry.Administrator, s.upload)
	s.office("GET /admin/imports/{id}", registry.Administrator, s.imported)
	s.office("POST /admin/imports/{id}/cancel", registry.Administrator, s.cancelImport)
	s.office("GET /admin/imports/{id}/errors.csv", registry.Administrator, s.importErrors)
	s.office("POST /admin/export", registry.Administrator, s.export)
}

// officePage writes a page for who is signed in.
type officePage func(w http.ResponseWriter, r *http.Request, p *page) error

// office adds a page for those who are signed in and have a role. Others are asked to sign in, or refused.
func (s *site) office(pattern string, least registry.Role, h officePage) {
	s.handle(pattern, func(w http.ResponseWriter, r *http.Request) error {
		who, err := s.signedIn(r)
		switch {
		case errors.Is(err, registry.ErrNotFound):
			to := "/admin/sign-in"
			if r.Method == http.MethodGet && r.URL.Path != "/admin/" {
				to += "?to=" + url.QueryEscape(r.URL.Path)
			}
			return seeOther(w, r, to)
		case err != nil:
			return err
		}
		p := s.page(r, "")
		p.Account = &who
		if !who.Role.May(least) {
			p.Title = "Not for your account"
			p.Data = "Your account is a " + string(who.Role) + "'s: this needs the role " + string(least) + "."
			s.show(w, http.StatusForbidden, "error", p)
			return nil
		}
		return h(w, r, p)
	})
}

// sessionCookie is the cookie's name. Over TLS browsers hold it to this host and to TLS by its prefix.
func sessionCookie(https bool) string {
	if https {
		return "__Host-registry"
	}
	return "registry"
}

// signedIn returns who is, or registry.ErrNotFound.
func (s *site) signedIn(r *http.Request) (registry.Account, error) {
	c, err := r.Cookie(sessionCookie(s.peer(r).https))
	if err != nil {
		return registry.Account{}, registry.ErrNotFound
	}
	return s.store.Session(r.Context(), time.Now(), c.Value)
}

func (s *site) setSession(w http.ResponseWriter, https bool, secret string, age int) {
	http.SetCookie(w, &http.Cookie{Name: sessionCookie(https), Value: secret, Path: "/", MaxAge: age, Secure: https, HttpOnly: true, SameSite: http.SameSiteLaxMode})
}

// signing is what the template of the sign-in is given.
type signing struct {
	Inputs []input
	To     string
}

func (s *site) signInForm(w http.ResponseWriter, r *http.Request) error {
	if _, err := s.signedIn(r); err == nil {
		return seeOther(w, r, "/admin/")
	}
	s.askToSignIn(w, r, http.StatusOK, r.URL.Query().Get("to"), "")
	return nil
}

func (s *site) askToSignIn(w http.ResponseWriter, r *http.Request, status int, to, fault string) {
	p := s.page(r, "Sign in")
	if fault != "" {
		p.Wrong = []wrong{{Field: "name", Detail: fault}}
	}
	p.Data = signing{To: to, Inputs: []input{
		{Name: "name", Label: "Account", Type: "text", Value: r.PostForm.Get("name"), Required: true, Autocomplete: "username"},
		{Name: "password", Label: "Password", Type: "password", Required: true, Autocomplete: "current-password"},
	}}
	s.show(w, status, "sign-in", p)
}

func (s *site) signIn(w http.ResponseWriter, r *http.Request) error {
	if err := form(w, r); err != nil {
		return err
	}
	from, now, to := s.peer(r), time.Now(), r.PostForm.Get("to")
	secret, _, err := s.store.SignIn(r.Context(), now, r.PostForm.Get("name"), r.PostForm.Get("password"), from.address)
	var slow registry.Throttled
	switch {
	case errors.Is(err, registry.ErrCredentials):
		s.askToSignIn(w, r, http.StatusForbidden, to, "The account or the password is wrong.")
		return nil
	case errors.As(err, &slow):
		return err
	case err != nil:
		return err
	}
	// A session that the browser had before, whoever gave it to it, is of no use any more.
	if c, err := r.Cookie(sessionCookie(from.https)); err == nil {
		if err := s.store.SignOut(r.Context(), now, c.Value, from.address); err != nil {
			return err
		}
	}
	s.setSession(w, from.https, secret, int(store.SessionLife.Seconds()))
	if !inside(to, "/admin/") {
		to = "/admin/"
	}
	return seeOther(w, r, to)
}

func (s *site) signOut(w http.ResponseWriter, r *http.Request) error {
	from := s.peer(r)
	if c, err := r.Cookie(sessionCookie(from.https)); err == nil {
		if err := s.store.SignOut(r.Context(), time.Now(), c.Value, from.address); err != nil {
			return err
		}
	}
	s.setSession(w, from.https, "", -1)
	return seeOther(w, r, "/admin/sign-in")
}

// account shows who is signed in, and the sign-ins of the last time: a person sees that somebody else was there.
func (s *site) account(w http.ResponseWriter, r *http.Request, p *page) error {
	signIns, err := s.store.SignIns(r.Context(), p.Account.ID, 20)
	if err != nil {
		return err
	}
	p.Title, p.Data = "Your account", signIns
	s.show(w, http.StatusOK, "account", p)
	return nil
}

// overview is what the template of the dashboard is given.
type overview struct {
	Tally    store.Tally
	Waiting  []count
	Statuses []count
	Backlog  store.Backlog
}

type count struct {
	Name, Label string
	N           int
	Percent     int
}

// kindLabels name the kinds of questions for people.
var kindLabels = map[string]string{store.Conflict: "Conflicts", store.Duplicate: "Duplicates", store.Preregistration: "Pre-registrations"}

func (s *site) dashboard(w http.ResponseWriter, r *http.Request, p *page) error {
	ctx, who, now := r.Context(), p.Account.Actor(), time.Now()
	tally, err := s.store.Tally(ctx, who, now)
	if err != nil {
		return err
	}
	waiting, err := s.store.Waiting(ctx, who)
	if err != nil {
		return err
	}
	o := overview{Tally: tally}
	if o.Backlog, err = s.store.Backlog(ctx, now); err != nil {
		return err
	}
	for _, kind := range store.ReviewKinds {
		o.Waiting = append(o.Waiting, count{Name: kind, Label: kindLabels[kind], N: waiting[kind]})
	}
	for _, status := range registry.Statuses {
		n := tally.Farmers[status]
		o.Statuses = append(o.Statuses, count{Name: status, Label: p.Choice(status), N: n, Percent: 100 * n / max(tally.Records["farmer"], 1)})
	}
	p.Title, p.Data = "Overview", o
	s.show(w, http.StatusOK, "dashboard", p)
	return nil
}

func (s *site) forms(w http.ResponseWriter, r *http.Request, p *page) error {
	all, err := s.store.Forms(r.Context())
	if err != nil {
		return err
	}
	p.Title, p.Data = "Forms", all
	s.show(w, http.StatusOK, "forms", p)
	return nil
}
