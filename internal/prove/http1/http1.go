// Package http1 is a plain HTTP/1.1 transport for the load generator. One goroutine carries a request from its first byte to
// the last of its answer, where net/http hands it between three: that is most of what a request costs there. Reading and
// writing messages, and TLS, are the standard library's.
//
// It keeps connections, and sends a request again when a kept one turns out to be closed and the request may be repeated.
// It asks for no compression of its own accord, follows no redirect, keeps no cookie, knows no proxy and no HTTP/2.
package http1

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"
)

// Transport is an http.RoundTripper. The zero value is ready.
type Transport struct {
	DialContext func(ctx context.Context, network, address string) (net.Conn, error) // default: TCP
	TLS         *tls.Config                                                          // of https; ServerName is set where empty

	mu     sync.Mutex
	idle   map[string][]*conn // the one used last is at the end
	closed bool
}

const (
	maxIdle  = 10 * time.Second       // a connection kept longer is closed when it comes up
	suspect  = 500 * time.Millisecond // one kept longer is looked at before it is used
	bufSize  = 4096
	maxInfos = 5 // informational answers before the real one
)

type conn struct {
	net.Conn
	r     *bufio.Reader
	w     *bufio.Writer
	key   string
	since time.Time // when it was put back; zero on a new one
}

// RoundTrip sends one request. The answer's body must be read to its end for the connection to be kept.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	for {
		c, err := t.get(req)
		if err != nil {
			closeBody(req)
			return nil, err
		}
		again := !c.since.IsZero() && repeatable(req)
		resp, err := t.exchange(c, req)
		if err == nil {
			return resp, nil
		}
		c.Close()
		if !again || !errors.Is(err, ErrSilent) || req.Context().Err() != nil {
			return nil, err
		}
		if req.GetBody != nil {
			body, err := req.GetBody()
			if err != nil {
				return nil, err
			}
			req = req.WithContext(req.Context())
			req.Body = body
		}
	}
}

// ErrSilent is that of a connection which ended before a byte of the answer came.
var ErrSilent = errors.New("the server closed the connection without an answer")

func (t *Transport) exchange(c *conn, req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	stop := func() bool { return true }
	if ctx.Done() != nil {
		stop = context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) }) //nolint:errcheck // the exchange fails either way
	}
	fail := func(err error) error {
		stop()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return err
	}
	sent := req.Write(c.w)
	if sent == nil {
		sent = c.w.Flush()
	}
	// A server may refuse a body before its end, so even where sending fails there may be an answer.
	if _, err := c.r.Peek(1); err != nil {
		if sent != nil {
			err = sent
		}
		return nil, fail(fmt.Errorf("%w: %w", ErrSilent, err))
	}
	resp, err := http.ReadResponse(c.r, req)
	for n := 0; err == nil && resp.StatusCode < 200 && resp.StatusCode != http.StatusSwitchingProtocols; n++ {
		if n == maxInfos {
			return nil, fail(fmt.Errorf("more than %d informational answers", maxInfos))
		}
		resp, err = http.ReadResponse(c.r, req)
	}
	if err != nil {
		return nil, fail(err)
	}
	keep := sent == nil && !resp.Close && !req.Close && resp.StatusCode != http.StatusSwitchingProtocols
	b := &body{ReadCloser: resp.Body, ctx: ctx, done: func(whole bool) {
		if stop() && whole && keep {
			t.put(c)
		} else {
			c.Close()
		}
	}}
	resp.Body = b
	if resp.ContentLength == 0 || req.Method == http.MethodHead || resp.StatusCode == http.StatusNoContent || resp.StatusCode == http.StatusNotModified {
		b.finish(true)
		resp.Body = http.NoBody
	}
	return resp, nil
}

// body gives its connection back at the end.
type body struct {
	io.ReadCloser
	ctx  context.Context
	once sync.Once
	done func(whole bool)
}

func (b *body) finish(whole bool) { b.once.Do(func() { b.done(whole) }) }

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		cause := b.ctx.Err()
		b.finish(errors.Is(err, io.EOF))
		if cause != nil && !errors.Is(err, io.EOF) {
			err = cause
		}
	}
	return n, err
}

// Close on a body that is not at its end closes the connection: the rest would have to be read.
func (b *body) Close() error {
	b.finish(false)
	return nil
}

func (t *Transport) get(req *http.Request) (*conn, error) {
	scheme, host := req.URL.Scheme, req.URL.Hostname()
	port := map[string]string{"http": "80", "https": "443"}[scheme]
	if port == "" {
		return nil, fmt.Errorf("scheme %q is not http or https", scheme)
	}
	if p := req.URL.Port(); p != "" {
		port = p
	}
	key := scheme + " " + net.JoinHostPort(host, port)
	if c := t.kept(key); c != nil {
		return c, nil
	}
	dial := t.DialContext
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	raw, err := dial(req.Context(), "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, err
	}
	if scheme == "https" {
		config := t.TLS.Clone()
		if config == nil {
			config = &tls.Config{}
		}
		if config.ServerName == "" {
			config.ServerName = host
		}
		secure := tls.Client(raw, config)
		if err := secure.HandshakeContext(req.Context()); err != nil {
			raw.Close()
			return nil, err
		}
		raw = secure
	}
	return &conn{Conn: raw, r: bufio.NewReaderSize(raw, bufSize), w: bufio.NewWriterSize(raw, bufSize), key: key}, nil
}

func (t *Transport) kept(key string) *conn {
	for {
		t.mu.Lock()
		list := t.idle[key]
		if len(list) == 0 {
			t.mu.Unlock()
			return nil
		}
		c := list[len(list)-1]
		t.idle[key] = list[:len(list)-1]
		t.mu.Unlock()
		age := time.Since(c.since)
		if age < suspect || age < maxIdle && c.open() {
			return c
		}
		c.Close()
	}
}

// open looks whether the server has closed the connection meanwhile, where that can be seen.
func (c *conn) open() bool {
	raw := c.Conn
	if secure, ok := raw.(*tls.Conn); ok {
		raw = secure.NetConn()
	}
	s, ok := raw.(syscall.Conn)
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

func (t *Transport) put(c *conn) {
	c.since = time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		c.Close()
		return
	}
	if t.idle == nil {
		t.idle = map[string][]*conn{}
	}
	t.idle[c.key] = append(t.idle[c.key], c)
}

// CloseIdleConnections closes what is kept, and from then on keeps nothing.
func (t *Transport) CloseIdleConnections() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for _, list := range t.idle {
		for _, c := range list {
			c.Close()
		}
	}
	t.idle = nil
}

func repeatable(req *http.Request) bool {
	switch req.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return req.Body == nil || req.Body == http.NoBody || req.GetBody != nil
	}
	return false
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close()
	}
}
