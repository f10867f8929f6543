// Package http1 is the load generator's HTTP/1.1 client: one user's connection to one server. The goroutine that asks writes the
// request and reads the answer itself, by buffers that are used again; net/http hands each request between three goroutines and
// makes dozens of objects for it, which is most of what a request costs there. TLS and the chunks of a body are the standard library's.
//
// It keeps its connection, and sends a request again when a kept one turns out to be closed and the request may be repeated.
// As browsers and apps do, it resumes its user's last TLS session when it connects again, and says that it speaks HTTP/1.1.
//
// It asks for no compression of its own accord, follows no redirect, keeps no cookie, knows no proxy and no HTTP/2.
package http1

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// DialFunc opens a connection, as net.Dialer's DialContext does.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// Client is one user's connection to a server, opened when it is needed. It is used by one goroutine at a time.
type Client struct {
	scheme, host, address string
	tls                   *tls.Config
	dial                  DialFunc

	conn    net.Conn // nil: there is none
	r       *bufio.Reader
	out     []byte
	answer  Response
	since   time.Time // when the last answer ended
	watched context.Context
	unwatch func() bool
}

// New makes a client of the server that a URL names by its scheme and host. secure is for https (ServerName is set where it is empty),
// and may be nil; so may dial, for TCP.
func New(server *url.URL, secure *tls.Config, dial DialFunc) *Client {
	c := &Client{scheme: server.Scheme, host: server.Host, dial: dial}
	port := server.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[server.Scheme]
	}
	c.address = net.JoinHostPort(server.Hostname(), port)
	if dial == nil {
		c.dial = new(net.Dialer).DialContext
	}
	if server.Scheme == "https" {
		c.tls = secure
		if c.tls == nil {
			c.tls = &tls.Config{}
		}
		c.tls = c.tls.Clone()
		if c.tls.ServerName == "" {
			c.tls.ServerName = server.Hostname()
		}
		c.tls.NextProtos = []string{"http/1.1"}
		c.tls.ClientSessionCache = tls.NewLRUClientSessionCache(1) // one user's: others do not resume its session
	}
	c.answer.c = c
	return c
}

// Request is what is sent. Host and Content-Length are written by the client.
type Request struct {
	Method string
	Target string // path and query, escaped
	Fields []Field
	Body   []byte
}

// Field is one line of a header.
type Field struct{ Name, Value string }

const (
	maxIdle  = 10 * time.Second       // a connection kept longer is closed when it is to be used
	suspect  = 500 * time.Millisecond // one kept longer is looked at before it is used
	bufSize  = 4096
	maxHead  = 256 << 10 // bytes of an answer's header
	maxInfos = 5         // informational answers before the real one
)

// ErrSilent is that of a connection which ended before a byte of the answer came.
var ErrSilent = errors.New("the server closed the connection without an answer")

// Do sends a request and reads the answer's header. Its body must be read to the end for the connection to be kept; the answer is valid
// until the next call. The deadline is of the whole exchange; when ctx ends, it ends with ctx's error.
func (c *Client) Do(ctx context.Context, deadline time.Time, req *Request) (*Response, error) {
	if c.scheme != "http" && c.scheme != "https" {
		return nil, fmt.Errorf("scheme %q is not http or https", c.scheme)
	}
	if err := c.write(req); err != nil {
		return nil, err
	}
	for {
		kept, err := c.open(ctx, deadline)
		if err == nil {
			err = c.exchange(ctx, deadline, req)
		}
		if err == nil {
			return &c.answer, nil
		}
		c.Close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if !kept || !repeatable[req.Method] || !errors.Is(err, ErrSilent) || late(err) {
			return nil, err
		}
	}
}

var repeatable = map[string]bool{http.MethodGet: true, http.MethodHead: true, http.MethodOptions: true, http.MethodPut: true, http.MethodDelete: true}

// late reports whether an error is a deadline's.
func late(err error) bool {
	var wait net.Error
	return errors.As(err, &wait) && wait.Timeout()
}

// write puts a request's header together, and a small body behind it.
func (c *Client) write(req *Request) error {
	if strings.ContainsAny(req.Target, " \r\n\t") || req.Target == "" {
		return fmt.Errorf("%q is no target of a request", req.Target)
	}
	b := append(c.out[:0], req.Method...)
	b = append(b, ' ')
	b = append(b, req.Target...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, c.host...)
	b = append(b, "\r\n"...)
	for _, f := range req.Fields {
		if strings.ContainsAny(f.Value, "\r\n\x00") {
			return fmt.Errorf("header %s: %q has more than one line", f.Name, f.Value)
		}
		b = append(b, f.Name...)
		b = append(b, ": "...)
		b = append(b, f.Value...)
		b = append(b, "\r\n"...)
	}
	if len(req.Body) > 0 || req.Method == http.MethodPost || req.Method == http.MethodPut || req.Method == http.MethodPatch {
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, int64(len(req.Body)), 10)
		b = append(b, "\r\n"...)
	}
	b = append(b, "\r\n"...)
	if len(req.Body) <= bufSize {
		b = append(b, req.Body...)
	}
	c.out = b
	return nil
}

func (c *Client) exchange(ctx context.Context, deadline time.Time, req *Request) error {
	c.watch(ctx)
	if err := c.conn.SetDeadline(deadline); err != nil {
		return fmt.Errorf("%w: %w", ErrSilent, err)
	}
	if err := ctx.Err(); err != nil { // or the deadline would have undone what watch does
		return err
	}
	_, sent := c.conn.Write(c.out)
	if sent == nil && len(req.Body) > bufSize {
		_, sent = c.conn.Write(req.Body)
	}
	// A server may refuse a body before its end, so even where sending fails there may be an answer.
	if _, err := c.r.Peek(1); err != nil {
		if sent != nil {
			err = sent
		}
		return fmt.Errorf("%w: %w", ErrSilent, err)
	}
	a := &c.answer
	err := a.head(c.r, req.Method)
	for n := 0; err == nil && a.Status < 200 && a.Status != http.StatusSwitchingProtocols; n++ {
		if n == maxInfos {
			return fmt.Errorf("more than %d informational answers", maxInfos)
		}
		err = a.head(c.r, req.Method)
	}
	if err != nil {
		return err
	}
	a.keep = a.keep && sent == nil
	if a.framing == ended {
		a.end()
	}
	return nil
}

// Open opens the connection before there is something to ask. It does nothing where there is one.
func (c *Client) Open(ctx context.Context, deadline time.Time) error {
	_, err := c.open(ctx, deadline)
	return err
}

// open sees to it that there is a connection, and reports whether it was used before.
func (c *Client) open(ctx context.Context, deadline time.Time) (kept bool, err error) {
	if c.conn != nil {
		age := time.Since(c.since)
		unasked := c.r.Buffered() > 0 // the next answer is not to be found behind it
		if c.answer.framing == ended && !unasked && (age < suspect || age < maxIdle && alive(c.conn)) {
			return true, nil
		}
		c.Close()
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	raw, err := c.dial(ctx, "tcp", c.address)
	if err != nil {
		return false, err
	}
	if c.tls != nil {
		secure := tls.Client(raw, c.tls)
		if err := secure.HandshakeContext(ctx); err != nil {
			raw.Close()
			return false, err
		}
		raw = secure
	}
	c.conn, c.since = raw, time.Now()
	if c.r == nil {
		c.r = bufio.NewReaderSize(raw, bufSize)
	} else {
		c.r.Reset(raw)
	}
	return false, nil
}

// watch has the connection's exchanges end when ctx does.
func (c *Client) watch(ctx context.Context) {
	if c.watched == ctx {
		return
	}
	if c.unwatch != nil {
		c.unwatch()
	}
	conn := c.conn
	c.watched, c.unwatch = ctx, nil
	if ctx.Done() != nil {
		c.unwatch = context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) }) //nolint:errcheck // the exchange fails either way
	}
}

// alive looks whether the server has closed a connection meanwhile, where that can be seen.
func alive(conn net.Conn) bool {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	s, ok := conn.(syscall.Conn)
	if !ok {
		return true
	}
	fd, err := s.SyscallConn()
	if err != nil {
		return false
	}
	open := false
	err = fd.Read(func(fd uintptr) bool {
		// Nothing to read is as it should be; an end, or an answer to nothing, is not.
		_, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		open = errors.Is(err, syscall.EAGAIN)
		return true
	})
	return err == nil && open
}

// Close hangs up. The next request opens another connection.
func (c *Client) Close() {
	if c.unwatch != nil {
		c.unwatch()
	}
	c.watched, c.unwatch = nil, nil
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
	c.answer.framing = ended
}
