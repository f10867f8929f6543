package web

import (
	"net"
	"net/http"
	"net/netip"
	"time"
)

// NewServer is the server of the dashboard's listener: it bounds what a client may send, and how slowly.
func NewServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}
}

// policy is what a page of ours may load: what this server has, and nothing that stands in the page itself.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// public are the paths that other names may lead to: a web server in front hands them on.
var public = map[string]bool{"/status.json": true, "/banner": true, "/healthz": true}

// Guard keeps other sites out of a handler that browsers of this machine reach: requests must be for this machine by its own names,
// so that no name of another's can be made to lead here, and what changes something must come from pages of its own. Each answer
// carries what bounds a browser.
func Guard(next http.Handler) http.Handler {
	cross := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
		switch {
		case !public[r.URL.Path] && !local(r.Host):
			h.Set("Cross-Origin-Resource-Policy", "same-origin")
			Answer(w, r, nil, &Problem{Status: http.StatusMisdirectedRequest, Detail: "open it by the name localhost or 127.0.0.1"})
		case cross.Check(r) != nil:
			Answer(w, r, nil, &Problem{Status: http.StatusForbidden, Detail: "another site sent this in your name, so it is not done"})
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// local reports whether a request's host is this machine.
func local(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	if name == "localhost" {
		return true
	}
	if len(name) > 2 && name[0] == '[' {
		name = name[1 : len(name)-1]
	}
	at, err := netip.ParseAddr(name)
	return err == nil && at.IsLoopback()
}
