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
func public() map[string]bool {
	out := map[string]bool{}
	for _, rt := range Routes() {
		if rt.Role == Anybody {
			out[rt.Path] = true
		}
	}
	return out
}

// Guard keeps other sites out of a handler that browsers reach: what changes something must come from pages of its own. With here,
// requests must also be for this machine by its own names, so that no name of another's can be made to lead to what is seen without
// signing in; where one has to sign in, a browser shows its cookie to the name only that it has it from. Each answer carries what
// bounds a browser.
func Guard(next http.Handler, here bool) http.Handler {
	cross, public := http.NewCrossOriginProtection(), public()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
		switch {
		case here && !public[r.URL.Path] && !local(r.Host):
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
