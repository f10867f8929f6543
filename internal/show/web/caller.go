package web

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/user"
	"strconv"

	"golang.org/x/sys/unix"
)

// Role is what somebody may do: each may also do what those before it may.
type Role uint8

const (
	Anybody  Role = iota // see what the public may know
	Viewer               // see everything
	Operator             // and give orders
)

var roleNames = [...]string{"anybody", "viewer", "operator"}

func (r Role) String() string {
	if int(r) < len(roleNames) {
		return roleNames[r]
	}
	return fmt.Sprintf("unknown(%d)", r)
}

// ParseRole reads a role that can be given to somebody: viewer or operator.
func ParseRole(s string) (Role, error) {
	for _, r := range []Role{Viewer, Operator} {
		if s == r.String() {
			return r, nil
		}
	}
	return Anybody, fmt.Errorf("%q is no role: write viewer (sees everything) or operator (also gives orders)", s)
}

func (r Role) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

func (r *Role) UnmarshalText(b []byte) (err error) {
	*r, err = ParseRole(string(b))
	return err
}

// Caller is who asks for something.
type Caller struct {
	Name   string // who is signed in, or whose token was shown; empty: not known
	Role   Role
	Origin string // from where: an address, or the daemon's socket; it is recorded with what the caller does
	// Still asks, for what takes long, whether the caller may go on; nil: in any case.
	Still func() bool
	// Refused is told what the caller asked for and may not; nil: nobody wants to know.
	Refused func(what string)
}

// Operates reports whether the caller may give orders.
func (c Caller) Operates() bool { return c.Role >= Operator }

// Views reports whether the caller may see everything.
func (c Caller) Views() bool { return c.Role >= Viewer }

type callerKey struct{}

// As is a request with its caller.
func As(r *http.Request, c Caller) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), callerKey{}, c))
}

// CallerOf is the caller of a request by its context; whoever has not been established is the public.
func CallerOf(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return c
}

// Permit returns a Problem when the caller may not do what needs a role.
func Permit(r *http.Request, need Role) error {
	c := CallerOf(r.Context())
	switch {
	case c.Role >= need:
		return nil
	case c.Name == "":
		return &Problem{Status: http.StatusUnauthorized, Detail: fmt.Sprintf("this is for a signed-in %s: sign in on /sign-in, or send Authorization: Bearer and a token ('tidemark user' and 'tidemark token' make them)", need)}
	}
	if c.Refused != nil {
		c.Refused(r.Method + " " + r.URL.Path)
	}
	return &Problem{Status: http.StatusForbidden, Detail: fmt.Sprintf("%s may see, and this is for an operator", c.Name)}
}

// sign is who is recorded for what a caller does: the caller, or, where that has no name, who is said to.
func (c Caller) sign(said string) (string, error) {
	switch {
	case c.Name == "":
		return said, nil
	case said != "" && said != c.Name:
		return "", bad(fmt.Sprintf("by: you are signed in as %s, so leave it out", c.Name))
	}
	return c.Name, nil
}

type peerKey struct{}

// Peer is for http.Server.ConnContext of a unix socket: it notes who is at the other end.
func Peer(ctx context.Context, c net.Conn) context.Context {
	name, err := peer(c)
	if err != nil {
		name = "a user not known: " + err.Error()
	}
	return context.WithValue(ctx, peerKey{}, name)
}

// peer is the name of the user whose process connected.
func peer(c net.Conn) (string, error) {
	s, ok := c.(*net.UnixConn)
	if !ok {
		return "", errors.New("no unix socket")
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return "", err
	}
	var cred *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) { cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return "", err
	}
	if failed != nil {
		return "", failed
	}
	uid := strconv.Itoa(int(cred.Uid))
	if u, err := user.LookupId(uid); err == nil {
		return u.Username, nil
	}
	return "uid " + uid, nil
}

// Owner serves the daemon's own socket: the system lets only the daemon's user and root open it, and they may do everything.
func Owner(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, _ := r.Context().Value(peerKey{}).(string)
		next.ServeHTTP(w, As(r, Caller{Role: Operator, Origin: "the daemon's socket, " + name}))
	})
}
