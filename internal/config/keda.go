package config

import (
	"fmt"
	"net/netip"
	"slices"
)

// KEDA is where KEDA asks for the sizes of fleets of target kind keda. The zero value is nowhere.
type KEDA struct {
	Listen   string `yaml:"listen,required" example:"127.0.0.1:8462"` // and port
	TLS      TLS    `yaml:"tls"`
	ClientCA string `yaml:"client_ca_file"` // who vouches for KEDA's own certificate, in PEM; none: whoever reaches it may ask
}

func (k KEDA) absent() bool { return k.Listen == "" }

// keda checks where KEDA asks, and that it is there where a fleet needs it.
func (d *decoder) keda(dir string, s *spec) {
	k := &s.KEDA
	for i := range s.Fleets {
		at := fmt.Sprintf("fleets.%d.target.keda", i)
		if s.Fleets[i].Target.Kind == "keda" && !d.written("keda") && d.ok(at) {
			d.fail(at, "is what KEDA asks the size of, and there is no place where it could ask", "write keda: {listen: 127.0.0.1:8462} at the top of the file, or kubernetes in place of keda: Tidemark sets the size then")
		}
	}
	if !d.written("keda") {
		return
	}
	const listen = "keda.listen"
	at, err := netip.ParseAddrPort(k.Listen)
	switch {
	case !d.ok(listen):
	case err != nil || at.Port() == 0:
		d.fail(listen, quote(listen, k.Listen)+" is no address and port", "write 127.0.0.1:8462")
	case !at.Addr().Unmap().IsLoopback() && !d.written("keda.tls"):
		d.fail(listen, at.Addr().String()+" can be reached from outside of this machine, and KEDA could not tell who answers it",
			fmt.Sprintf("write keda: {listen: %q, tls: {certificate: /etc/tidemark/tls.crt, key: /etc/tidemark/tls.key}}", at))
	}
	if k.ClientCA != "" && !d.written("keda.tls") {
		d.fail("keda.client_ca_file", "vouches for no certificate: there is no tls", "write tls: {certificate: /etc/tidemark/tls.crt, key: /etc/tidemark/tls.key} beside it, or delete it")
	}
	for _, file := range []*string{&k.TLS.Certificate, &k.TLS.Key, &k.ClientCA} {
		if *file != "" {
			*file = absolute(dir, *file)
		}
	}
	if d.ok("keda", "fleets") && !slices.ContainsFunc(s.Fleets, func(f fleetSpec) bool { return f.Target.Kind == "keda" }) {
		d.warn("keda", "no fleet is there for KEDA to ask about", "write target: {keda: {name: ...}} in a fleet, or delete keda")
	}
}
