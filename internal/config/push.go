package config

import (
	"fmt"
	"net/netip"
	"strings"
)

// shortestToken keeps a token from being guessed.
const shortestToken = 16

// push checks where values are pushed. Whoever may push decides how many workers there are, so that only this machine is listened to.
func (d *decoder) push(dir string, p *Push) {
	if !d.written("push") || !d.ok("push") {
		return
	}
	const listen = "push.listen"
	at, err := netip.ParseAddrPort(p.Listen)
	switch {
	case !d.written(listen):
		d.fail("push", "says not where to listen", "write listen: 127.0.0.1:8461, or delete push: the operator's socket takes values too")
	case err != nil || at.Port() == 0:
		d.fail(listen, quote(listen, p.Listen)+" is no address and port", "write 127.0.0.1:8461")
	case !at.Addr().IsLoopback():
		d.fail(listen, at.Addr().String()+" can be reached from outside of this machine, and values are sent in clear", fmt.Sprintf("write 127.0.0.1:%d", at.Port()))
	}
	if p.TokenFile != "" {
		p.TokenFile = absolute(dir, p.TokenFile)
	}
	switch {
	case p.Token != "" && p.TokenFile != "":
		d.fail("push.token_file", "is given beside token", "delete one of them")
	case p.TokenFile != "":
	case p.Token == "":
		d.fail("push", "has no token, and every program of this machine could steer the fleets", "write token_file: /etc/tidemark/push.token, or token: ${TIDEMARK_PUSH_TOKEN}")
	case !FitToken(p.Token):
		d.fail("push.token", fmt.Sprintf("is shorter than %d characters, or has spaces", shortestToken), "make one by: openssl rand -hex 16")
	}
}

// FitToken reports whether a text can be a token: long enough, and fit for a header.
func FitToken(s string) bool {
	return len(s) >= shortestToken && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}
