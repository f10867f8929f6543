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
	// Provider answers for people; empty: none does.
	Provider string
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
	e.Open, e.Provider = s.gate.Open(), s.gate.Provider()
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

// leave sends a browser to the identity provider, and back shows what comes of it.
func (s *Site) leave(w http.ResponseWriter, r *http.Request) {
	to := within(r.URL.Query().Get("to"))
	if err := s.gate.Leave(w, r, to); err != nil {
		problem := web.ProblemOf(err)
		s.entry(w, r, problem.Status, entry{To: to, Wrong: problem.Detail})
	}
}

func (s *Site) back(w http.ResponseWriter, r *http.Request) {
	to, err := s.gate.Return(w, r)
	to = within(to)
	if err != nil {
		problem := web.ProblemOf(err)
		s.entry(w, r, problem.Status, entry{To: to, Wrong: problem.Detail})
		return
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}

func (s *Site) signOut(w http.ResponseWriter, r *http.Request) {
	s.gate.SignOut(w, r)
	http.Redirect(w, r, signInPath, http.StatusSeeOther)
}

// longestTo lets an address stand in a cookie.
const longestTo = 2000

// within is an address of this server, or the overview: nobody is led elsewhere by a link to the sign-in.
func within(to string) string {
	u, err := url.Parse(to)
	if err != nil || len(to) > longestTo || u.Scheme != "" || u.Host != "" || u.User != nil || !strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") || strings.ContainsAny(to, "\\\r\n\t") || strings.HasPrefix(u.Path, signInPath) {
		return "/"
	}
	return to
}
