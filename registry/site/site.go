// Package site is the registry's pages for people: the portal for farmers, and the admin pages for the registry's office.
//
// It owns what is shown and how: pages that the server writes whole, which need no script, load nothing from elsewhere,
// and work on a phone and by keyboard alone. It owns sign-in cookies and what a browser may do with the pages. What is
// stored, and who may, is the store's and registry's matter.
package site

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"tidemark/registry"
	"tidemark/registry/store"
	"tidemark/registry/web"
)

// Options are what the site can be told.
type Options struct {
	// HTTPS says that browsers always come by TLS. Otherwise a proxy says so by X-Forwarded-Proto.
	HTTPS bool
	// Proxies are the addresses whose X-Forwarded-For and X-Forwarded-Proto are believed, beside those who connect by a
	// unix socket.
	Proxies []netip.Prefix
	// Timeout is how long a request may take; 30 s when 0. An export may take longer.
	Timeout time.Duration
	// Trouble hears of what went wrong on the server's own side; it may be nil.
	Trouble func(error)
}

const (
	defaultTimeout = 30 * time.Second
	maxForm        = 64 << 10 // bytes of a form that is sent, but for a file
)

type site struct {
	Options
	store *store.Store
	mux   http.ServeMux
	cross *http.CrossOriginProtection
}

// New returns the handler of all pages.
func New(s *store.Store, o Options) http.Handler {
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	if o.Trouble == nil {
		o.Trouble = func(error) {}
	}
	h := &site{Options: o, store: s, cross: http.NewCrossOriginProtection()}
	h.assets()
	h.portal()
	h.admin()
	return h
}

// ServeHTTP gives each answer the headers that bound what a browser does with it. The request itself is not copied: the
// mux writes the route's pattern into it, which others want to read.
func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Worker", worker)
	h.Set(web.RequestID, web.NameRequest(r))
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")        // for browsers that do not know frame-ancestors
	h.Set("Referrer-Policy", "same-origin") // not no-referrer: forms would then be sent with "Origin: null"
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
	h.Set("Cache-Control", "no-store") // personal data
	if _, pattern := s.mux.Handler(r); pattern == "" {
		s.refuse(w, r, registry.ErrNotFound)
		return
	}
	s.mux.ServeHTTP(w, r)
}

var worker = strconv.Itoa(os.Getpid())

// handler writes a page, or returns why it cannot.
type handler func(w http.ResponseWriter, r *http.Request) error

// handle adds a page under a pattern of the mux.
func (s *site) handle(pattern string, h handler) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), s.Timeout)
		defer cancel()
		r = r.WithContext(ctx)
		if err := s.guarded(w, r, h); err != nil {
			s.refuse(w, r, err)
		}
	})
}

// guarded lets no other site send forms in a person's name.
func (s *site) guarded(w http.ResponseWriter, r *http.Request, h handler) error {
	if err := s.cross.Check(r); err != nil {
		return &web.Problem{Status: http.StatusForbidden, Detail: err.Error()}
	}
	return h(w, r)
}

// form reads what a form has sent. Its error is a *web.Problem.
func form(w http.ResponseWriter, r *http.Request) error {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	var over *http.MaxBytesError
	switch err := r.ParseForm(); {
	case errors.As(err, &over):
		return &web.Problem{Status: http.StatusRequestEntityTooLarge}
	case err != nil:
		return web.BadRequest("the form did not arrive whole")
	}
	return nil
}

// refuse shows what an error is to the person, and tells the log of those that they cannot help.
func (s *site) refuse(w http.ResponseWriter, r *http.Request, err error) {
	p := web.ProblemOf(err)
	var own *web.Problem
	var slow registry.Throttled
	if errors.As(err, &slow) {
		p = &web.Problem{Status: http.StatusTooManyRequests, Retry: slow.Wait}
	} else if over := r.Context().Err(); over != nil && !errors.As(err, &own) { // whatever the driver made of it
		p = &web.Problem{Status: http.StatusServiceUnavailable, Retry: 5 * time.Second}
	}
	if p.Status >= http.StatusInternalServerError && own == nil && !errors.Is(r.Context().Err(), context.Canceled) {
		// The pattern, not the path: that has names and numbers of people in it.
		s.Trouble(fmt.Errorf("request %s (%s): %w", w.Header().Get(web.RequestID), r.Pattern, err))
	}
	if retry := max(p.Retry, time.Second); p.Status == http.StatusTooManyRequests || p.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", strconv.Itoa(int((retry+time.Second-1)/time.Second)))
	}
	s.showError(w, r, p)
}

// showError writes the page of a problem.
func (s *site) showError(w http.ResponseWriter, r *http.Request, p *web.Problem) {
	pg := s.page(r, "error.title")
	if pg.Admin {
		if who, err := s.signedIn(r); err == nil {
			pg.Account = &who
		}
	}
	key := "error." + strconv.Itoa(p.Status)
	var args []any
	switch p.Status {
	case http.StatusTooManyRequests:
		args = []any{p.Retry.Round(time.Second).String()}
	case http.StatusInternalServerError:
		args = []any{w.Header().Get(web.RequestID)}
	}
	text := pg.T(key, args...)
	if text == key {
		text = cmp.Or(p.Detail, http.StatusText(p.Status))
	}
	pg.Data = text
	s.show(w, p.Status, "error", pg)
}

// peer is where a request comes from.
type peer struct {
	address string // of the browser; an IPv6 one stands for its /64, of which one household has all
	https   bool
}

func (s *site) peer(r *http.Request) peer {
	p := peer{https: s.HTTPS || r.TLS != nil}
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	address, trusted := from.Addr().Unmap(), err != nil // a unix socket has no address
	trusted = trusted || slices.ContainsFunc(s.Proxies, func(n netip.Prefix) bool { return n.Contains(address) })
	if trusted {
		p.https = p.https || r.Header.Get("X-Forwarded-Proto") == "https"
		hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
		if told, err := netip.ParseAddr(strings.TrimSpace(hops[len(hops)-1])); err == nil { // the last one is the proxy's own word
			address = told.Unmap()
		}
	}
	switch {
	case !address.IsValid():
		p.address = "local"
	case address.Is6():
		net, _ := address.Prefix(64) // every IPv6 address has one
		p.address = net.String()
	default:
		p.address = address.String()
	}
	return p
}

// inside says whether a path is one of this site's, to which a browser may be sent.
func inside(path, prefix string) bool {
	return strings.HasPrefix(path, prefix) && !strings.HasPrefix(path, "//") && !strings.ContainsAny(path, "\\\r\n\t")
}

func seeOther(w http.ResponseWriter, r *http.Request, to string) error {
	http.Redirect(w, r, to, http.StatusSeeOther)
	return nil
}
