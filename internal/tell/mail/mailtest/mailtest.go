// Package mailtest is a mail server for tests, with faults on demand.
package mailtest

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	netmail "net/mail"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Server is a mail server: as much of RFC 5321 as is needed, with STARTTLS and AUTH PLAIN, and faults on demand.
type Server struct {
	CA   string        // file of its certificate authority
	Hung chan struct{} // receives when something hangs

	addr string
	cert tls.Certificate

	listener net.Listener
	wg       sync.WaitGroup

	mu     sync.Mutex
	faults map[string]string // by step: a reply, or close, hang, rubbish; it stays until it is changed
	conns  map[net.Conn]bool
	seen   map[string]int // steps
	mails  []Mail
}

// Mail is one that arrived.
type Mail struct {
	From, To string // the commands
	TLS      bool
	Auth     string
	Raw      string
}

// Start starts one on loopback, until the test ends; with implicit, TLS from the first byte.
func Start(t testing.TB, implicit bool) *Server {
	t.Helper()
	s := &Server{faults: map[string]string{}, conns: map[net.Conn]bool{}, seen: map[string]int{}, Hung: make(chan struct{}, 100)}
	s.cert, s.CA = Certificate(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr, s.listener = l.Addr().String(), l
	s.wg.Go(func() { s.accept(l, implicit) })
	t.Cleanup(s.close)
	return s
}

func (s *Server) accept(l net.Listener, implicit bool) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		if implicit {
			c = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{s.cert}})
		}
		s.mu.Lock()
		s.conns[c] = true
		s.mu.Unlock()
		s.wg.Go(func() {
			defer c.Close()
			(&session{s: s, conn: c, tls: implicit}).serve()
		})
	}
}

func (s *Server) close() {
	s.listener.Close()
	s.mu.Lock()
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// Fault makes a step answer otherwise: with a reply, or by close, hang; empty ends it.
func (s *Server) Fault(step, what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[step] = what
}

// Mails are those that arrived.
func (s *Server) Mails() []Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.mails)
}

// Steps is how often a step was reached.
func (s *Server) Steps(step string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[step]
}

type session struct {
	s    *Server
	conn net.Conn
	r    *bufio.Reader
	tls  bool
	mail Mail
}

var errEnd = errors.New("end of the session")

func (c *session) serve() {
	c.r = bufio.NewReader(c.conn)
	if c.reply("greet", "220 test ESMTP") != nil {
		return
	}
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		verb, _, _ := strings.Cut(strings.ToUpper(line), " ")
		switch verb {
		case "EHLO":
			lines := []string{"250-test", "250-8BITMIME", "250-SMTPUTF8", "250-AUTH PLAIN"}
			if !c.tls {
				lines = append(lines, "250-STARTTLS")
			}
			err = c.reply("EHLO", strings.Join(append(lines, "250 SIZE 10000000"), "\r\n"))
		case "STARTTLS":
			if err = c.reply("STARTTLS", "220 go on"); err == nil {
				c.conn = tls.Server(c.conn, &tls.Config{Certificates: []tls.Certificate{c.s.cert}})
				c.r, c.tls = bufio.NewReader(c.conn), true
			}
		case "AUTH":
			word, _ := base64.StdEncoding.DecodeString(line[strings.LastIndex(line, " ")+1:])
			c.mail.Auth = string(word)
			ok := "235 welcome"
			if c.mail.Auth != "\x00tide\x00s3cret" {
				ok = "535 5.7.8 no: " + strings.ReplaceAll(c.mail.Auth, "\x00", "/") // some servers repeat what they were told
			}
			err = c.reply("AUTH", ok)
		case "MAIL":
			c.mail.From = line
			err = c.reply("MAIL", "250 ok")
		case "RCPT":
			c.mail.To = line
			err = c.reply("RCPT", "250 ok")
		case "DATA":
			if err = c.reply("DATA", "354 go on"); err == nil {
				err = c.text()
			}
		case "QUIT":
			_ = c.reply("QUIT", "221 bye")
			return
		default:
			err = c.reply(verb, "250 ok")
		}
		if err != nil {
			return
		}
	}
}

// text takes the mail. It is kept when the server says yes, whether or not the yes arrives.
func (c *session) text() error {
	var b strings.Builder
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return err
		}
		if line == ".\r\n" {
			break
		}
		b.WriteString(strings.TrimPrefix(line, "."))
	}
	c.s.mu.Lock()
	what := c.s.faults["TEXT"]
	if what == "" || what == "hang" || what == "close" {
		m := c.mail
		m.Raw, m.TLS = b.String(), c.tls
		c.s.mails = append(c.s.mails, m)
	}
	c.s.mu.Unlock()
	return c.reply("TEXT", "250 queued")
}

// reply answers a step, or does what the fault says. An error ends the session.
func (c *session) reply(step, normal string) error {
	c.s.mu.Lock()
	c.s.seen[step]++
	what := c.s.faults[step]
	c.s.mu.Unlock()
	switch what {
	case "":
		what = normal
	case "close":
		return errEnd
	case "hang":
		c.s.Hung <- struct{}{}
		_, _ = io.Copy(io.Discard, c.conn) // until the other side gives up
		return errEnd
	}
	if _, err := io.WriteString(c.conn, what+"\r\n"); err != nil {
		return err
	}
	return nil
}

// Parse reads the mail.
func (m *Mail) Parse(t testing.TB) (netmail.Header, string) {
	t.Helper()
	msg, err := netmail.ReadMessage(strings.NewReader(m.Raw))
	if err != nil {
		t.Fatalf("not a mail: %v\n%s", err, m.Raw)
	}
	body, err := io.ReadAll(msg.Body)
	if err != nil {
		t.Fatal(err)
	}
	return msg.Header, string(body)
}

// Certificate makes a server's certificate for 127.0.0.1, and the file of its authority.
func Certificate(t testing.TB) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Now().Add(100 * 365 * 24 * time.Hour), IsCA: true,
		BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}

// URL is its address.
func (s *Server) URL(scheme string) string { return fmt.Sprintf("%s://%s", scheme, s.addr) }
