package mail

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/quotedprintable"
	netmail "net/mail"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidemark/internal/decide/alert"
	"tidemark/internal/tell"
	"tidemark/internal/tell/mail/mailtest"
)

var began = time.Date(2027, 3, 1, 9, 15, 0, 0, time.UTC)

func message(title string) tell.Message {
	return tell.Message{
		ID: "0123456789abcdef01234567", Thread: "0123456789abcdef01234567", Kind: tell.Raised, Time: began,
		Notice: alert.Notice{Key: "odoo-workers/short", Rule: "short", Instance: "dfr-cook-islands", Fleet: "odoo-workers", Severity: alert.Critical,
			Title: title, Lines: []string{"cpu is 92 %.", "Raise bounds.max."}, Started: began},
	}
}

func send(t *testing.T, s *Sender, batch ...tell.Message) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return s.Send(ctx, batch)
}

func withPassword(srv *mailtest.Server) func(*Config) {
	return func(c *Config) { c.CAFile, c.User, c.Password = srv.CA, "tide", "s3cret" }
}

func TestAMailArrives(t *testing.T) {
	for name, implicit := range map[string]bool{"smtp": false, "smtps": true} {
		t.Run(name, func(t *testing.T) {
			srv := mailtest.Start(t, implicit)
			s := sender(t, srv.URL(name), func(c *Config) {
				withPassword(srv)(c)
				c.To = append(c.To, "boss@moa.example")
			})
			if err := send(t, s, message("odoo-workers is short: Pasifika’s p95 is 900ms")); err != nil {
				t.Fatal(err)
			}
			mails := srv.Mails()
			if len(mails) != 1 {
				t.Fatalf("%d mails arrived", len(mails))
			}
			m := mails[0]
			if !m.TLS || m.Auth != "\x00tide\x00s3cret" {
				t.Errorf("TLS %v, auth %q", m.TLS, m.Auth)
			}
			if m.From != "MAIL FROM:<tidemark@moa.example> BODY=8BITMIME" || m.To != "RCPT TO:<ict@moa.example>" {
				t.Errorf("envelope %q %q", m.From, m.To)
			}
			h, body := m.Parse(t)
			subject, err := new(mime.WordDecoder).DecodeHeader(h.Get("Subject"))
			if want := "CRITICAL [dfr-cook-islands] odoo-workers is short: Pasifika’s p95 is 900ms"; err != nil || subject != want {
				t.Errorf("subject %q (%v), want %q", subject, err, want)
			}
			for k, want := range map[string]string{
				"Message-Id": "<0123456789abcdef01234567.tidemark@moa.example>", "Auto-Submitted": "auto-generated", "In-Reply-To": "",
				"To": `"ICT on call" <ict@moa.example>, <boss@moa.example>`, "From": `"Tidemark" <tidemark@moa.example>`,
			} {
				if got := h.Get(k); got != want {
					t.Errorf("%s: %q, want %q", k, got, want)
				}
			}
			if date, err := h.Date(); err != nil || time.Since(date).Abs() > time.Hour || !strings.HasSuffix(h.Get("Date"), "-1000") {
				t.Errorf("Date %q (%v)", h.Get("Date"), err)
			}
			if ct := h.Get("Content-Type"); !strings.HasPrefix(ct, "text/plain") {
				t.Errorf("Content-Type %q", ct)
			}
			plain, err := io.ReadAll(quotedprintable.NewReader(strings.NewReader(body)))
			if want := "2027-02-28 23:15 (UTC-10:00)"; err != nil || !strings.Contains(string(plain), want) {
				t.Errorf("body %q (%v), want %q in it", plain, err, want)
			}
		})
	}
}

func TestWhatFollowsRefersToTheFirst(t *testing.T) {
	srv := mailtest.Start(t, false)
	s := sender(t, srv.URL("smtp"), withPassword(srv))
	m := message("over")
	m.ID, m.Kind = "fedcba9876543210fedcba98", tell.Resolved
	if err := send(t, s, m); err != nil {
		t.Fatal(err)
	}
	h, _ := srv.Mails()[0].Parse(t)
	if h.Get("References") != "<0123456789abcdef01234567.tidemark@moa.example>" || h.Get("Message-Id") != "<fedcba9876543210fedcba98.tidemark@moa.example>" {
		t.Errorf("References %q, Message-ID %q", h.Get("References"), h.Get("Message-Id"))
	}
}

func TestPasswordFromAFile(t *testing.T) {
	srv := mailtest.Start(t, false)
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := sender(t, srv.URL("smtp"), func(c *Config) { c.CAFile, c.User, c.PasswordFile = srv.CA, "tide", file })
	if err := send(t, s, message("x")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := send(t, s, message("x")); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("without the file: %v", err)
	}
}

// Each fault at each step ends in an error of the right kind, in good time, without the password in it; and the next mail gets
// through when the server is well again.
func TestFaults(t *testing.T) {
	type outcome int
	const (
		again   outcome = iota // soon
		anHour                 // the operator of the server must act
		refused                // never
		fine
	)
	for _, c := range []struct {
		step, fault string
		want        outcome
		says        string
	}{
		{"greet", "554 no service", again, "554"},
		{"greet", "421 too busy", again, "421"},
		{"greet", "close", again, ""},
		{"greet", "hang", again, "no end within"},
		{"greet", "HTTP/1.1 400 Bad Request", again, ""},
		{"EHLO", "close", again, ""},
		{"EHLO", "hang", again, "no end within"},
		{"STARTTLS", "454 not now", again, ""},
		{"AUTH", "535 5.7.8 no", again, "535"},
		{"AUTH", "hang", again, "no end within"},
		{"MAIL", "451 4.7.1 greylisted", again, "greylisted"},
		{"MAIL", "550 relaying denied", anHour, "relaying denied"},
		{"RCPT", "450 4.2.0 greylisted, come back later", again, "greylisted"},
		{"RCPT", "550 5.1.1 no such user", anHour, "no such user"},
		{"RCPT", "close", again, ""},
		{"DATA", "hang", again, "no end within"},
		{"DATA", "554 no", refused, "554"},
		{"TEXT", "552 too big", refused, "too big"},
		{"TEXT", "451 try again", again, "451"},
		{"TEXT", "hang", again, "no end within"},
		{"TEXT", "close", again, ""},
		{"QUIT", "hang", fine, ""},
		{"QUIT", "close", fine, ""},
		{"QUIT", "500 what", fine, ""},
	} {
		t.Run(c.step+" "+c.fault, func(t *testing.T) {
			t.Parallel()
			srv := mailtest.Start(t, false)
			s := sender(t, srv.URL("smtp"), withPassword(srv))
			srv.Fault(c.step, c.fault)
			if c.fault == "hang" && c.want != fine {
				s.cfg.Timeout = 2 * time.Second
			}
			err := send(t, s, message("x"))
			if err != nil && strings.Contains(err.Error(), "s3cret") {
				t.Errorf("the password is in the error: %v", err)
			}
			var no *tell.Refusal
			var wait *tell.Later
			switch {
			case (err == nil) != (c.want == fine):
				t.Fatalf("error %v", err)
			case errors.As(err, &no) != (c.want == refused), errors.As(err, &wait) != (c.want == anHour):
				t.Errorf("error %T: %v", err, err)
			case err != nil && !strings.Contains(err.Error(), c.says):
				t.Errorf("error %q does not say %q", err, c.says)
			}
			s.cfg.Timeout = 30 * time.Second
			srv.Fault(c.step, "")
			if err := send(t, s, message("x")); err != nil {
				t.Errorf("when it is well again: %v", err)
			}
			ids := map[string]bool{}
			for _, m := range srv.Mails() {
				h, _ := m.Parse(t)
				ids[h.Get("Message-Id")] = true
			}
			if len(ids) != 1 {
				t.Errorf("duplicates have different Message-IDs: %v", ids)
			}
		})
	}
}

func TestNothingGoesOutUnencryptedByMistake(t *testing.T) {
	srv := mailtest.Start(t, false)
	srv.Fault("EHLO", "250-test\r\n250 AUTH PLAIN") // no STARTTLS: an old server, or someone in the middle
	if err := send(t, sender(t, srv.URL("smtp"), withPassword(srv)), message("x")); err == nil || !strings.Contains(err.Error(), "STARTTLS") {
		t.Errorf("without STARTTLS: %v", err)
	}
	other, wrong := mailtest.Certificate(t)
	_ = other
	srv.Fault("EHLO", "")
	if err := send(t, sender(t, srv.URL("smtp"), func(c *Config) { withPassword(srv)(c); c.CAFile = wrong }), message("x")); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("with a certificate of nobody: %v", err)
	}
	if srv.Steps("AUTH")+srv.Steps("MAIL") > 0 {
		t.Error("it went on all the same")
	}
	local := sender(t, srv.URL("smtp"), nil)
	local.server.local = true
	for _, s := range []*Sender{sender(t, srv.URL("smtp+insecure"), nil), local} {
		if err := send(t, s, message("x")); err != nil {
			t.Errorf("when it is allowed: %v", err)
		}
	}
}

func TestAWrongPasswordIsNotRepeated(t *testing.T) {
	srv := mailtest.Start(t, false)
	s := sender(t, srv.URL("smtp"), func(c *Config) { c.CAFile, c.User, c.Password = srv.CA, "tide", "w0rse" })
	err := send(t, s, message("x"))
	if err == nil || !strings.Contains(err.Error(), "535") || strings.Contains(err.Error(), "w0rse") {
		t.Errorf("error %v", err)
	}
}

func TestCancelledAtOnce(t *testing.T) {
	for _, step := range []string{"greet", "EHLO", "AUTH", "MAIL", "DATA", "TEXT"} {
		t.Run(step, func(t *testing.T) {
			srv := mailtest.Start(t, false)
			srv.Fault(step, "hang")
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			s := sender(t, srv.URL("smtp"), func(c *Config) { withPassword(srv)(c); c.Timeout = 5 * time.Minute })
			go func() { done <- s.Send(ctx, []tell.Message{message("x")}) }()
			<-srv.Hung
			cancel()
			if err := <-done; err == nil { // the test's own time-out is what fails here
				t.Error("no error")
			}
		})
	}
}

// Whatever a notice says, it adds no header and no recipient.
func FuzzHeaders(f *testing.F) {
	f.Add("plain", "dfr", "body")
	f.Add("x\r\nBcc: all@moa.example\r\n\r\nhello", "a\nb", ".\r\n..\r\n")
	f.Add("\u2028\u0085\x00=?utf-8?q?=0d=0aBcc:_x?=", "\xff\xfe", "a\x00b\rc")
	f.Add(strings.Repeat("long ", 1000), strings.Repeat("é", 300), strings.Repeat("x", 2000))
	cfg := DefaultConfig()
	cfg.SMTP, cfg.To = "smtp://mail.moa.example", []string{"ict@moa.example"}
	cs, err := Channels(cfg, zone)
	if err != nil {
		f.Fatal(err)
	}
	s := cs[0].Sender.(*Sender)
	f.Fuzz(func(t *testing.T, title, instance, line string) {
		m := message(title)
		m.Notice.Instance, m.Notice.Lines = instance, []string{line}
		for _, batch := range [][]tell.Message{{m}, {m, m, m, m}} {
			msg, err := s.write(batch, began)
			if err != nil {
				t.Fatal(err)
			}
			var b strings.Builder
			if _, err := msg.WriteTo(&b); err != nil {
				t.Fatal(err)
			}
			got, err := netmail.ReadMessage(strings.NewReader(b.String()))
			if err != nil {
				t.Fatalf("%v\n%s", err, b.String())
			}
			allowed := "Auto-Submitted Content-Transfer-Encoding Content-Type Date From Importance Message-Id Mime-Version Priority Subject To X-Msmail-Priority X-Priority"
			for k, v := range got.Header {
				if !strings.Contains(" "+allowed+" ", " "+k+" ") || len(v) != 1 {
					t.Fatalf("header %s: %q", k, v)
				}
			}
			if to := got.Header.Get("To"); to != "<ict@moa.example>" {
				t.Fatalf("To: %q", to)
			}
			subject, err := new(mime.WordDecoder).DecodeHeader(got.Header.Get("Subject"))
			if err != nil || strings.ContainsAny(subject, "\r\n\x00") {
				t.Fatalf("subject %q (%v)", subject, err)
			}
			for l := range strings.SplitSeq(b.String(), "\r\n") {
				if len(l) > 998 || strings.ContainsAny(l, "\r\n") {
					t.Fatalf("line of %d bytes: %q", len(l), l)
				}
			}
		}
	})
}

func TestValidate(t *testing.T) {
	good := func() Config {
		c := DefaultConfig()
		c.SMTP, c.To = "smtp://mail.moa.example:587", []string{"ict@moa.example"}
		return c
	}
	c := good()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Config){
		"smtp: is missing":                          func(c *Config) { c.SMTP = "" },
		`smtp: "http" is no way to send mail`:       func(c *Config) { c.SMTP = "http://mail" },
		"smtp: names no host":                       func(c *Config) { c.SMTP = "smtp://:25" },
		"smtp: has a user in it":                    func(c *Config) { c.SMTP = "smtp://a:hunter2@mail:25" },
		"smtp: has more than a host and a port":     func(c *Config) { c.SMTP = "smtp://mail/x" },
		"smtp: is no address":                       func(c *Config) { c.SMTP = "smtp://a:hunter2@mail:99x" },
		"smtp: 70000 is no port":                    func(c *Config) { c.SMTP = "smtp://mail:70000" },
		"user: has no password":                     func(c *Config) { c.User = "tide" },
		"password: has no user":                     func(c *Config) { c.Password = "hunter2" },
		"password: would cross the network":         func(c *Config) { c.SMTP, c.User, c.Password = "smtp+insecure://mail", "t", "hunter2" },
		"password_file: stands beside password":     func(c *Config) { c.User, c.Password, c.PasswordFile = "t", "hunter2", "/x" },
		"user: has a line break in it":              func(c *Config) { c.User, c.Password = "a\r\nb", "hunter2" },
		`from: "nobody" is no mail address`:         func(c *Config) { c.From = "nobody" },
		"to: names nobody":                          func(c *Config) { c.To = nil },
		`to[1]: "x" is no mail address`:             func(c *Config) { c.To = append(c.To, "x") },
		"to[1]: has a line break in it":             func(c *Config) { c.To = append(c.To, "a@b.example\r\nBcc: c@d.example") },
		"to[1]: ICT@moa.example stands twice":       func(c *Config) { c.To = append(c.To, "ICT@moa.example") },
		`to[1]: "ü@moa.example" has characters`:     func(c *Config) { c.To = append(c.To, "ü@moa.example") },
		"timeout: 10ms is not between":              func(c *Config) { c.Timeout = 10 * time.Millisecond },
		"repeat: 1s is not between":                 func(c *Config) { c.Repeat = time.Second },
		"digest.period: 7h0m0s does not divide":     func(c *Config) { c.Digest.Period = 7 * time.Hour },
		"spool.messages: 1 is not between":          func(c *Config) { c.Spool.Messages = 1 },
		"spool.max_size: 5 bytes are not between":   func(c *Config) { c.Spool.MaxBytes = 5 },
		"digest.over: -1 is not between 0 and 1000": func(c *Config) { c.Digest.Over = -1 },
	} {
		c := good()
		change(&c)
		err := c.Validate()
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("got %v, want one problem: %s", err, want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the password is shown: %v", err)
		}
		if _, cerr := Channels(c, nil); cerr == nil {
			t.Errorf("Channels takes it: %s", want)
		}
	}
	for url, want := range map[string]server{
		"smtp://localhost":          {host: "localhost", port: 587, local: true},
		"smtp://[::1]:2525":         {host: "::1", port: 2525, local: true},
		"smtps://mail.moa.example":  {host: "mail.moa.example", port: 465, tls: true},
		"smtp+insecure://10.0.0.1/": {host: "10.0.0.1", port: 25, plain: true},
	} {
		if got, err := parseServer(url); err != nil || got != want {
			t.Errorf("%s: %+v (%v)", url, got, err)
		}
	}
	if got := fmt.Sprint((&Config{To: []string{"ict@moa.example"}, From: "Tide <t@x.example>"}).from()); got != "Tide <t@x.example>" {
		t.Errorf("from %q", got)
	}
}
