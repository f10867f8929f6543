package dashboard

import (
	"net/http"
	"net/url"
	"strings"

	"tidemark/internal/show/web"
)

const signInPath = "/sign-in"

// entry is what the sign-in page shows.
type entry struct {
	To    string // the page that was asked for
	Name  string
	Wrong string
	Open  bool // all can be seen without signing in
}

func (s *Site) askSignIn(w http.ResponseWriter, r *http.Request) {
	to := within(r.URL.Query().Get("to"))
	if web.CallerOf(r.Context()).Name != "" {
		http.Redirect(w, r, to, http.StatusSeeOther)
		return
	}
	s.entry(w, r, http.StatusOK, entry{To: to})
}

func (s *Site) entry(w http.ResponseWriter, r *http.Request, status int, e entry) {
	p := s.page("Sign in")
	e.Open = s.gate.Open()
	p.Data = e
	s.write(w, r, status, "sign-in", p)
}

func (s *Site) signIn(w http.ResponseWriter, r *http.Request) {
	if err := form(w, r); err != nil {
		s.fail(w, r, err)
		return
	}
	v := r.PostForm
	e := entry{To: within(v.Get("to")), Name: v.Get("name")}
	if err := s.gate.SignIn(w, r, e.Name, v.Get("password")); err != nil {
		problem := web.ProblemOf(err)
		e.Wrong = problem.Detail
		s.entry(w, r, problem.Status, e)
		return
	}
	http.Redirect(w, r, e.To, http.StatusSeeOther)
}

func (s *Site) signOut(w http.ResponseWriter, r *http.Request) {
	s.gate.SignOut(w, r)
	http.Redirect(w, r, signInPath, http.StatusSeeOther)
}

// within is an address of this server, or the overview: nobody is led elsewhere by a link to the sign-in.
func within(to string) string {
	u, err := url.Parse(to)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || !strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") || strings.ContainsAny(to, "\\\r\n\t") || strings.HasPrefix(u.Path, signInPath) {
		return "/"
	}
	return to
}
