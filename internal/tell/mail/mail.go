// Package mail sends notices by SMTP. It owns how a mail is written and handed to one server; the spool, retries and digests
// are tell's. Each recipient is a channel of its own, with a spool of its own: one whose mailbox is full holds up nobody.
//
// A mail is plain text: it is read on telephones over bad links. Its Message-ID is the message's ID, so that one that was sent
// twice, because the server's last word was lost, is known by it; what follows on a notice refers to the mail that raised it.
package mail

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"os"
	"slices"
	"strings"
	"time"
	"unicode"

	gomail "github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"

	"tidemark/internal/decide/alert"
	"tidemark/internal/tell"
)

// Sender sends to one recipient.
type Sender struct {
	cfg    Config
	server server
	to     string
	zone   *time.Location
}

// Channels makes a channel of each recipient of a valid configuration. zone is the instance's, for the times in the mails.
func Channels(cfg Config, zone *time.Location) ([]tell.Channel, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if zone == nil {
		zone = time.UTC
	}
	s, _ := parseServer(cfg.SMTP) // valid
	var out []tell.Channel
	for _, to := range cfg.To {
		sender := &Sender{cfg: cfg, server: s, to: to, zone: zone}
		out = append(out, tell.Channel{Name: channel(to), Sender: sender, Delivery: cfg.Delivery})
	}
	return out, nil
}

// Send hands the batch to the server as one mail. What the server says against the text itself is a *tell.Refusal; what it says
// against sender or recipient can be put right there, and is tried again after an hour; all else is tried again soon.
func (s *Sender) Send(ctx context.Context, batch []tell.Message) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.cfg.Timeout, fmt.Errorf("no end within %v", s.cfg.Timeout))
	defer cancel()
	password, err := tell.Secret(s.cfg.Password, s.cfg.PasswordFile)
	if err != nil {
		return err
	}
	msg, err := s.write(batch, time.Now())
	if err != nil {
		return &tell.Refusal{Err: err}
	}
	l := &link{ctx: ctx, server: s.server}
	defer l.close()
	client, err := s.client(l, password)
	if err != nil {
		return err
	}
	session, err := client.DialToSMTPClientWithContext(ctx)
	if err != nil {
		return s.failure(ctx, "connect", err, password)
	}
	if err := s.hand(ctx, session, msg, password); err != nil {
		return err
	}
	_ = session.UpdateDeadline(quitWait)
	_ = session.Quit() // the mail is delivered, whatever the server says now
	return nil
}

const (
	quitWait   = 3 * time.Second
	laterRetry = time.Hour
)

// hand goes through one mail, step by step. Not the library's own Send: that takes a connection that breaks after the
// server's yes for a failure.
func (s *Sender) hand(ctx context.Context, session *smtp.Client, msg *gomail.Msg, password string) error {
	from, err := msg.GetSender(false)
	if err != nil {
		return &tell.Refusal{Err: err}
	}
	if err := session.Mail(from); err != nil {
		return later(s.failure(ctx, "MAIL FROM "+from, err, password), err)
	}
	if err := session.Rcpt("<" + address(s.to) + ">"); err != nil {
		return later(s.failure(ctx, "RCPT TO", err, password), err)
	}
	text, err := session.Data()
	if err != nil {
		return refusal(s.failure(ctx, "DATA", err, password), err)
	}
	if _, err := msg.WriteTo(text); err != nil {
		return s.failure(ctx, "send the text", err, password) // and do not end it: half a mail would be taken for whole
	}
	if err := text.Close(); err != nil {
		return refusal(s.failure(ctx, "end of the text", err, password), err)
	}
	return nil
}

// permanent reports whether the server said no (5xx), and not "not now".
func permanent(err error) bool {
	var said *textproto.Error
	return errors.As(err, &said) && said.Code >= 500 && said.Code != 503
}

func later(err, cause error) error {
	if permanent(cause) {
		return &tell.Later{Err: err, For: laterRetry}
	}
	return err
}

func refusal(err, cause error) error {
	if permanent(cause) {
		return &tell.Refusal{Err: err}
	}
	return err
}

// failure says what went wrong, in one line and without the password, should the server repeat it.
func (s *Sender) failure(ctx context.Context, doing string, err error, password string) error {
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	text := clean(err.Error(), 300)
	if password != "" {
		text = strings.ReplaceAll(text, password, "***")
	}
	return fmt.Errorf("mail server %s: %s: %s", s.server.host, doing, text)
}

// link is one connection: closed when ctx ends, since the library waits without it, and closed at the end, since the library
// leaves it open when the conversation fails before the first mail.
type link struct {
	ctx    context.Context
	server server
	tls    *tls.Config
	conn   net.Conn
	stop   func() bool
}

func (l *link) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	var err error
	if l.server.tls {
		l.conn, err = (&tls.Dialer{NetDialer: &d, Config: l.tls}).DialContext(ctx, network, addr)
	} else {
		l.conn, err = d.DialContext(ctx, network, addr)
	}
	if err != nil {
		l.conn = nil
		return nil, err
	}
	conn := l.conn
	l.stop = context.AfterFunc(l.ctx, func() { conn.Close() })
	return conn, nil
}

func (l *link) close() {
	if l.conn != nil {
		l.stop()
		l.conn.Close()
	}
}

func (s *Sender) client(l *link, password string) (*gomail.Client, error) {
	var err error
	if l.tls, err = tell.TLS(s.server.host, s.cfg.CAFile); err != nil {
		return nil, err
	}
	// Its own time-out is for what it does to a dead connection; ctx comes first, and says so.
	opts := []gomail.Option{
		gomail.WithPort(s.server.port), gomail.WithTimeout(2 * s.cfg.Timeout), gomail.WithTLSConfig(l.tls), gomail.WithDialContextFunc(l.dial),
		gomail.WithoutSMTPUTF8(), // addresses are ASCII, and a server further on may not know it
	}
	auth := []gomail.SMTPAuthType{gomail.SMTPAuthPlain, gomail.SMTPAuthLogin, gomail.SMTPAuthSCRAMSHA256, gomail.SMTPAuthCramMD5}
	switch {
	case s.server.tls: // dial has encrypted already
		opts = append(opts, gomail.WithTLSPolicy(gomail.TLSOpportunistic))
	case s.server.plain || s.server.local:
		opts = append(opts, gomail.WithTLSPolicy(gomail.NoTLS))
		auth = []gomail.SMTPAuthType{gomail.SMTPAuthSCRAMSHA256, gomail.SMTPAuthCramMD5, gomail.SMTPAuthPlainNoEnc, gomail.SMTPAuthLoginNoEnc}
	default:
		opts = append(opts, gomail.WithTLSPolicy(gomail.TLSMandatory))
	}
	if s.cfg.User != "" {
		opts = append(opts, gomail.WithUsername(s.cfg.User), gomail.WithPassword(password), gomail.WithOpportunisticSMTPAuth(auth...))
	}
	c, err := gomail.NewClient(s.server.host, opts...)
	if err != nil {
		return nil, fmt.Errorf("mail server %s: %w", s.server.host, err)
	}
	return c, nil
}

// write makes the mail. Its Date is when it is sent: one that waited for weeks must not sink among old ones; the text has the
// time of each event.
func (s *Sender) write(batch []tell.Message, now time.Time) (*gomail.Msg, error) {
	letter := tell.Write(batch, s.zone)
	m := gomail.NewMsg(gomail.WithNoDefaultUserAgent(), gomail.WithCharset(gomail.CharsetUTF8), gomail.WithEncoding(gomail.EncodingQP))
	if err := m.From(s.cfg.from()); err != nil {
		return nil, fmt.Errorf("write the mail: %w", err)
	}
	if err := m.To(s.cfg.To...); err != nil {
		return nil, fmt.Errorf("write the mail: %w", err)
	}
	m.Subject(strings.ReplaceAll(clean(letter.Subject, 150), "=?", "= ?")) // what looks encoded would be decoded
	m.SetDateWithValue(now.In(s.zone))
	m.SetMessageIDWithValue(s.id(tell.ID(batch)))
	if first := &batch[0]; len(batch) == 1 && first.Thread != first.ID {
		m.SetGenHeader(gomail.HeaderInReplyTo, "<"+s.id(first.Thread)+">")
		m.SetGenHeader(gomail.HeaderReferences, "<"+s.id(first.Thread)+">")
	}
	m.SetGenHeader("Auto-Submitted", "auto-generated") // no answers from those on leave
	if slices.ContainsFunc(batch, func(m tell.Message) bool { return m.Notice.Severity == alert.Critical && m.Notice.Firing() }) {
		m.SetImportance(gomail.ImportanceHigh)
	}
	m.SetBodyString(gomail.TypeTextPlain, cleanText(letter.Text))
	for i := range batch {
		attach(m, batch[i].Notice.File)
	}
	return m, nil
}

// mostFile is what a mail may carry: mailboxes refuse more.
const mostFile = 5 << 20

// attach adds a file. One that is gone, or too large, is left out: the text says what there is to say.
func attach(m *gomail.Msg, path string) {
	if path == "" {
		return
	}
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() || info.Size() > mostFile {
		return
	}
	m.AttachFile(path)
}

// id is a Message-ID without its brackets.
func (s *Sender) id(id string) string {
	_, domain, _ := strings.Cut(address(s.cfg.from()), "@")
	return id + ".tidemark@" + domain
}

// clean makes one line of a text, of at most so many characters: nothing in it can begin a header of its own.
func clean(s string, most int) string {
	s = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(s, "?"), func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) || r == '\u2028' || r == '\u2029' }), " ")
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

// cleanText keeps the line breaks.
func cleanText(s string) string {
	lines := strings.Split(strings.ToValidUTF8(s, "?"), "\n")
	for i, l := range lines {
		lines[i] = strings.Map(func(r rune) rune {
			if unicode.IsControl(r) {
				return -1
			}
			return r
		}, l)
	}
	return strings.Join(lines, "\n")
}
