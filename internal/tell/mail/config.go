package mail

import (
	"fmt"
	"net"
	netmail "net/mail"
	"net/url"
	"strconv"
	"strings"
	"time"

	"tidemark/internal/config"
	"tidemark/internal/tell"
)

// Config is what an operator writes under `notify: {mail: ...}`.
type Config struct {
	// SMTP is the mail server: smtp://host:587 (STARTTLS is demanded, unless the host is this machine), smtps://host:465 (TLS
	// from the first byte), or smtp+insecure://host:25 (nothing is encrypted, so no password is sent).
	SMTP         string        `yaml:"smtp,required" example:"smtp://mail.moa.example:587"`
	User         string        `yaml:"user"`     // none: no authentication
	Password     string        `yaml:"password"` // ${NAME}, from the environment
	PasswordFile string        `yaml:"password_file"`
	From         string        `yaml:"from"` // default tidemark@ the domain of the first recipient
	To           []string      `yaml:"to,required" example:"[ict-oncall@moa.example]"`
	CAFile       string        `yaml:"ca_file"` // further certificate authorities, PEM
	Timeout      time.Duration `yaml:"timeout"` // for one mail, from dialling to the server's last word

	tell.Delivery `yaml:",inline"`
}

// DefaultConfig is what holds where the operator wrote nothing. A minute is what a greeting delay and a slow link take.
func DefaultConfig() Config { return Config{Timeout: time.Minute, Delivery: tell.DefaultDelivery()} }

// Validate returns every problem at once, as config.FieldErrors.
func (c *Config) Validate() error {
	var errs config.FieldErrors
	s, problem := parseServer(c.SMTP)
	if problem != nil {
		errs.Add("smtp", problem.Msg, problem.Fix)
	}
	if c.Password != "" && c.PasswordFile != "" {
		errs.Add("password_file", "stands beside password", "delete one of them")
	}
	secret := c.Password != "" || c.PasswordFile != ""
	switch {
	case c.User != "" && !secret:
		errs.Add("user", "has no password", "add password: ${SMTP_PASSWORD}, or password_file")
	case c.User == "" && secret:
		errs.Add("password", "has no user", "add user, or delete the password")
	case secret && s.plain && !s.local:
		errs.Add("password", "would cross the network unencrypted", "write smtp:// or smtps:// in smtp")
	}
	if strings.ContainsAny(c.User, "\r\n\x00") {
		errs.Add("user", "has a line break in it", "remove it")
	}
	if c.From != "" {
		checkAddress(&errs, "from", c.From)
	}
	if len(c.To) == 0 {
		errs.Add("to", "names nobody", "write to: [ict-oncall@moa.example]")
	}
	seen := map[string]bool{}
	for i, to := range c.To {
		field := fmt.Sprintf("to[%d]", i)
		if checkAddress(&errs, field, to); seen[address(to)] {
			errs.Add(field, to+" stands twice", "delete one")
		}
		seen[address(to)] = true
	}
	tell.CheckTimeout(&errs, c.Timeout)
	c.Check(&errs)
	return errs.Err()
}

// Addresses are those whom the channels tell.
func (c *Config) Addresses() (out []string) {
	for _, to := range c.To {
		out = append(out, channel(to))
	}
	return out
}

// channel is the name of a recipient's channel.
func channel(to string) string { return "mail " + address(to) }

// checkAddress takes name@host and Name <name@host>.
func checkAddress(errs *config.FieldErrors, field, s string) {
	a, err := netmail.ParseAddress(s)
	switch {
	case strings.ContainsAny(s, "\r\n\x00"):
		errs.Add(field, "has a line break in it", "write one address")
	case err != nil:
		errs.Add(field, fmt.Sprintf("%q is no mail address", s), "write name@host, or Name <name@host>")
	case strings.IndexFunc(a.Address, func(r rune) bool { return r <= ' ' || r > '~' }) >= 0:
		errs.Add(field, fmt.Sprintf("%q has characters that not every mail server takes", a.Address), "write an address of ASCII letters")
	}
}

// address is the bare name@host; as it stands if it is none.
func address(s string) string {
	if a, err := netmail.ParseAddress(s); err == nil {
		return strings.ToLower(a.Address)
	}
	return s
}

// from is the sender's address: servers refuse senders of domains that do not exist.
func (c *Config) from() string {
	if c.From != "" {
		return c.From
	}
	_, domain, _ := strings.Cut(address(c.To[0]), "@")
	return "Tidemark <tidemark@" + domain + ">"
}

// For is the same server and sender for other recipients.
func (c *Config) For(to []string, d tell.Delivery) Config {
	out := *c
	out.From, out.To, out.Delivery = c.from(), to, d
	return out
}

// server is a parsed SMTP address.
type server struct {
	host  string
	port  int
	tls   bool // from the first byte
	plain bool // never
	local bool // this machine: nothing to be overheard
}

func parseServer(s string) (server, *config.FieldError) {
	const fix = "write smtp://host:587, smtps://host:465 or smtp+insecure://host:25"
	u, err := url.Parse(s)
	if err != nil {
		return server{}, &config.FieldError{Msg: "is no address", Fix: fix} // the error would quote a password
	}
	ports := map[string]int{"smtp": 587, "smtps": 465, "smtp+insecure": 25}
	out := server{host: u.Hostname(), port: ports[u.Scheme], tls: u.Scheme == "smtps", plain: u.Scheme == "smtp+insecure"}
	switch {
	case u.User != nil:
		return server{}, &config.FieldError{Msg: "has a user in it", Fix: "write user and password: ${SMTP_PASSWORD} (or password_file) beside it"}
	case s == "":
		return server{}, &config.FieldError{Msg: "is missing", Fix: fix}
	case out.port == 0:
		return server{}, &config.FieldError{Msg: fmt.Sprintf("%q is no way to send mail", u.Scheme), Fix: fix}
	case out.host == "" || u.Opaque != "":
		return server{}, &config.FieldError{Msg: "names no host", Fix: fix}
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return server{}, &config.FieldError{Msg: "has more than a host and a port", Fix: fix}
	}
	if p := u.Port(); p != "" {
		n, err := strconv.Atoi(p)
		if err != nil || n < 1 || n > 65535 {
			return server{}, &config.FieldError{Msg: p + " is no port", Fix: fix}
		}
		out.port = n
	}
	ip := net.ParseIP(out.host)
	out.local = out.host == "localhost" || ip != nil && ip.IsLoopback()
	return out, nil
}
