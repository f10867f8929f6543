package web

import (
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener whose connections are in memory, so that their time is the test's.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { close(p.done); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// Who sends slower than a person's browser does is let go: a connection is held by what is said on it, for seconds.
func TestSlowClients(t *testing.T) {
	for name, c := range map[string]struct {
		said  string // at once
		drips string // a letter each second after it
		most  time.Duration
	}{
		"says nothing":    {"", "", 6 * time.Second},
		"a slow header":   {"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", strings.Repeat("x", 100), 6 * time.Second},
		"a slow body":     {"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n", strings.Repeat("x", 100), 12 * time.Second},
		"comes no more":   {"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "", 62 * time.Second},
		"reads no answer": {"GET /much HTTP/1.1\r\nHost: localhost\r\n\r\n", "", 32 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := &pipes{make(chan net.Conn), make(chan struct{})}
			s := NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/much" {
					_, _ = w.Write(make([]byte, 1<<20)) // until it is cut
					return
				}
				_, _ = io.Copy(io.Discard, r.Body)
			}))
			s.ErrorLog = log.New(io.Discard, "", 0)
			var wg sync.WaitGroup
			wg.Go(func() { _ = s.Serve(l) })
			mine, its := net.Pipe()
			closed := make(chan time.Duration, 1)
			began := time.Now()
			watched := &watchedConn{Conn: its, closed: closed, began: began}
			l.conns <- watched
			wg.Go(func() {
				if _, err := io.WriteString(mine, c.said); err != nil {
					return
				}
				for i := range c.drips {
					time.Sleep(time.Second)
					if _, err := io.WriteString(mine, c.drips[i:i+1]); err != nil {
						return
					}
				}
			})
			if !strings.Contains(c.said, "/much") {
				wg.Go(func() { _, _ = io.Copy(io.Discard, mine) })
			}
			if after := <-closed; after > c.most {
				t.Errorf("%s: held for %s, and may for %s", name, after, c.most)
			}
			_ = mine.Close()
			if err := s.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
			wg.Wait()
		})
	}
}

type watchedConn struct {
	net.Conn
	closed chan time.Duration
	began  time.Time
}

func (c *watchedConn) Close() error {
	select {
	case c.closed <- time.Since(c.began):
	default:
	}
	return c.Conn.Close()
}

// A page of ours may load what this server has, and run nothing that stands in it.
func TestPolicy(t *testing.T) {
	for _, loose := range []string{"unsafe", "*", "http:", "data:", "blob:"} {
		if strings.Contains(policy, loose) {
			t.Errorf("the policy has %s: %s", loose, policy)
		}
	}
	for _, tight := range []string{"default-src 'none'", "script-src 'self'", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'"} {
		if !strings.Contains(policy, tight) {
			t.Errorf("the policy lacks %s: %s", tight, policy)
		}
	}
}

// One connection too many is closed at once, and another may come when one has ended.
func TestConnectionsAreBounded(t *testing.T) {
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := Limit(raw, 2)
	accepted := make(chan net.Conn, 3)
	go func() {
		defer close(accepted)
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			accepted <- c
		}
	}()
	dial := func() net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", raw.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	dial()
	first := <-accepted
	dial()
	<-accepted
	if n, err := dial().Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("the third: %d bytes, %v", n, err)
	}
	if err := errors.Join(first.Close(), first.Close()); err == nil {
		t.Error("closed twice without a word")
	}
	dial()
	if <-accepted == nil {
		t.Error("nobody may come when one has left")
	}
	if err := raw.Close(); err != nil {
		t.Fatal(err)
	}
	for range accepted {
	}
}
