package web

import (
	"net"
	"sync"
	"sync/atomic"
)

// MostConnections is how many the dashboard's listener has at once: all who may watch, and some who come and go.
const MostConnections = mostViewers + 200

// Limit bounds how many connections of a listener there are at once; one too many is closed at once.
func Limit(l net.Listener, most int) net.Listener { return &limited{Listener: l, most: int64(most)} }

type limited struct {
	net.Listener
	most int64
	open atomic.Int64
}

func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) <= l.most {
			return &counted{Conn: c, leave: sync.OnceFunc(func() { l.open.Add(-1) })}, nil
		}
		l.open.Add(-1)
		_ = c.Close() // nothing was said on it
	}
}

// counted is a connection that is counted until it is closed.
type counted struct {
	net.Conn
	leave func()
}

func (c *counted) Close() error {
	c.leave()
	return c.Conn.Close()
}

// CloseWrite says that nothing more comes, so that what was said arrives before the connection ends.
func (c *counted) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil // it has no such thing
}
