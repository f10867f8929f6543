package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Listen is where the dashboard and its API are, and who may use them. The zero value is nowhere.
type Listen struct {
	Address string    `yaml:"address,required" example:"127.0.0.1:8460"` // and port
	TLS     TLS       `yaml:"tls"`
	Users   string    `yaml:"users_file"` // who may sign in; 'tidemark user' and 'tidemark token' write it
	SignIn  signInFor `yaml:"sign_in"`
	OIDC    OIDC      `yaml:"oidc"`
}

// TLS names the files of a certificate and its private key, in PEM. The certificate's has its chain in it, the server's own first.
type TLS struct {
	Certificate string `yaml:"certificate,required" example:"/etc/tidemark/tls.crt"`
	Key         string `yaml:"key,required" example:"/etc/tidemark/tls.key"`
}

// OIDC is an identity provider that people sign in by, beside passwords, and who of them may do what.
type OIDC struct {
	Issuer     string   `yaml:"issuer,required" example:"https://id.moa.example/realms/staff"`
	ClientID   string   `yaml:"client_id,required" example:"tidemark"`
	SecretFile string   `yaml:"client_secret_file"`                                       // holds the client's secret; none: a public client
	URL        string   `yaml:"url,required" example:"https://tidemark.moa.example:8460"` // where browsers find the dashboard
	Claim      string   `yaml:"claim"`                                                    // that says what somebody is
	Operators  []string `yaml:"operators"`                                                // values of the claim
	Viewers    []string `yaml:"viewers"`
}

func (o OIDC) absent() bool   { return o.Issuer == "" }
func (l Listen) absent() bool { return l.Address == "" }
func (t TLS) absent() bool    { return t == TLS{} }

// Open reports whether everything may be seen without signing in.
func (l *Listen) Open() bool { return l.SignIn != signInForAll }

// Port is where it listens.
func (l *Listen) Port() uint16 {
	at, _ := netip.ParseAddrPort(l.Address) // it was checked
	return at.Port()
}

// signInFor is what one has to sign in for.
type signInFor string

const (
	signInForOrders signInFor = "orders"
	signInForAll    signInFor = "everything"
)

func (f *signInFor) UnmarshalText(b []byte) error {
	known := []string{string(signInForOrders), string(signInForAll)}
	i, err := oneOf("thing to sign in for", string(b), known)
	*f = signInFor(known[i])
	return err
}

// decode reads an address alone, or the fields.
func (l *Listen) decode(d *decoder, path string, n *yaml.Node) {
	if n.Kind != yaml.ScalarNode || isNull(n) {
		d.decodeFields(path, n, l)
		return
	}
	at := join(path, "address")
	d.places[at] = d.places[path]
	l.Address = d.expand(at, n.Value)
}

// listen checks where the dashboard is, and that nobody from outside of this machine sees or orders anything in clear or unknown.
func (d *decoder) listen(dir, state string, l *Listen) {
	if !d.written("listen") {
		return
	}
	address := "listen.address"
	if d.places[address].value == d.places["listen"].value { // it stands there alone
		address = "listen"
	}
	at, err := netip.ParseAddrPort(l.Address)
	outside := err == nil && !at.Addr().Unmap().IsLoopback()
	if d.ok(address) {
		switch {
		case err != nil || at.Port() == 0:
			d.fail(address, quote(address, l.Address)+" is no address and port", "write 127.0.0.1:8460")
		case outside && !d.written("listen.tls"):
			d.fail(address, at.Addr().String()+" can be reached from outside of this machine, and passwords would be sent in clear",
				fmt.Sprintf("write listen: {address: %q, tls: {certificate: /etc/tidemark/tls.crt, key: /etc/tidemark/tls.key}}; or 127.0.0.1:%[2]d, and open it from elsewhere by 'ssh -L %[2]d:127.0.0.1:%[2]d HOST'", at, at.Port()))
		}
	}
	for _, file := range []*string{&l.TLS.Certificate, &l.TLS.Key, &l.Users, &l.OIDC.SecretFile} {
		if *file != "" {
			*file = absolute(dir, *file)
		}
	}
	if !d.written("listen.users_file") {
		l.Users = filepath.Join(state, "users")
		d.given["listen.users_file"] = "state_dir"
	}
	d.oidc(&l.OIDC)
	const signIn = "listen.sign_in"
	switch {
	case !d.ok(signIn):
	case !d.written(signIn):
		l.SignIn = signInForOrders
		if outside {
			l.SignIn = signInForAll
			d.given[signIn] = "address"
		}
	case outside && l.SignIn == signInForOrders && d.ok(address):
		d.fail(signIn, "orders would let everybody who reaches "+at.Addr().String()+" see everything", "write everything, or delete it")
	}
}

// oidc checks an identity provider: what is asked of it, and what it says, is sent by TLS.
func (d *decoder) oidc(o *OIDC) {
	const path = "listen.oidc"
	if !d.written(path) {
		return
	}
	for _, a := range []struct{ at, address, example string }{{path + ".issuer", o.Issuer, "https://id.moa.example/realms/staff"}, {path + ".url", o.URL, "https://tidemark.moa.example:8460"}} {
		u, err := url.Parse(a.address)
		switch {
		case !d.ok(a.at):
		case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.RawQuery != "" || u.User != nil:
			d.fail(a.at, quote(a.at, a.address)+" is no address", "write "+a.example)
		case u.Scheme == "http" && u.Hostname() != "localhost" && !loopback(u.Hostname()):
			d.fail(a.at, quote(a.at, a.address)+" is not by TLS, and who signs in would be sent in clear", "write "+a.example)
		}
	}
	if o.Claim == "" {
		o.Claim = "email"
	}
	if d.ok(path+".operators", path+".viewers") && len(o.Operators)+len(o.Viewers) == 0 {
		d.fail(path, "gives nobody a role", "write operators: [mele@moa.example], or claim: groups and operators: [ict]")
	}
}

func loopback(host string) bool {
	at, err := netip.ParseAddr(host)
	return err == nil && at.IsLoopback()
}

// Written is the part of the file that is about one fleet, as it stands there; secrets are blotted out. ok is false where the file
// has it in no lines of its own.
func (c *Config) Written(fleet int) (text string, ok bool) {
	if p := c.policies[c.Fleets[fleet].Name]; p != nil {
		return mask(strings.Join(p.text.lines, "\n") + "\n"), true
	}
	at, ok := c.places[fmt.Sprintf("fleets.%d", fleet)]
	first := at.value.line - 1
	if !ok || first < 0 || first >= len(c.text.lines) {
		return "", false
	}
	lines := block(c.text.lines[first:])
	if len(lines) == 0 {
		return "", false
	}
	out := make([]string, len(lines))
	for i, line := range lines {
		out[i] = mask(line)
	}
	return strings.Join(out, "\n") + "\n", true
}

// EffectiveFleet is the part of Effective that is about one fleet.
func (c *Config) EffectiveFleet(fleet int) string {
	if p := c.policies[c.Fleets[fleet].Name]; p != nil {
		return p.EffectiveFleet(0)
	}
	lines := strings.Split(strings.TrimSuffix(Effective(c), "\n"), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "fleets:") {
			lines = lines[i+1:]
			break
		}
	}
	for range fleet {
		lines = lines[len(block(lines)):]
	}
	return strings.Join(block(lines), "\n") + "\n"
}

// block is the entry of a list that begins at the first line: that line, and those that are indented deeper than its dash, without what
// is empty or a comment at its end.
func block(lines []string) []string {
	if !strings.HasPrefix(strings.TrimLeft(lines[0], " "), "- ") {
		return nil
	}
	dash, end := indent(lines[0]), 1
	for i := 1; i < len(lines); i++ {
		text := strings.TrimSpace(lines[i])
		switch {
		case text == "":
		case indent(lines[i]) <= dash && !strings.HasPrefix(text, "#"), indent(lines[i]) < dash:
			return lines[:end]
		case indent(lines[i]) > dash:
			end = i + 1
		}
	}
	return lines[:end]
}

func indent(line string) int { return len(line) - len(strings.TrimLeft(line, " ")) }
