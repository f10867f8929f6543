package shape

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// conn is a connection over a link. Two goroutines move its bytes between the lanes and the connection beneath.
type conn struct {
	link     *Link
	raw      net.Conn
	up, down lane

	reading, writing sync.Mutex // one Read and one Write at a time
	close            sync.Once
	closed           chan struct{}
}

func newConn(l *Link, raw net.Conn) *conn {
	return &conn{link: l, raw: raw, up: newLane(l, &l.up), down: newLane(l, &l.down), closed: make(chan struct{})}
}

// receive takes what the server sends and puts it on the link.
func (c *conn) receive() {
	buf := make([]byte, 3*payload)
	for {
		n, err := c.raw.Read(buf)
		if n > 0 {
			if _, refused := c.down.put(buf[:n]); refused != nil {
				return
			}
		}
		if err != nil {
			c.down.finish(err)
			return
		}
	}
}

// transmit hands to the server what comes off the link. It is the last to leave a connection, and closes what is beneath.
func (c *conn) transmit() {
	buf := make([]byte, 3*payload)
	for {
		n, err := c.up.take(buf)
		if err == nil {
			_, err = c.raw.Write(buf[:n])
			if err != nil {
				c.up.abandon(err)
			}
		}
		if err == nil {
			continue
		}
		if half, ok := c.raw.(interface{ CloseWrite() error }); ok && errors.Is(err, io.EOF) {
			half.CloseWrite() //nolint:errcheck // the server may be gone already
		}
		<-c.closed
		c.raw.Close()
		c.link.forget(c)
		return
	}
}

func (c *conn) Read(p []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	return c.down.take(p)
}

func (c *conn) Write(p []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.up.put(p)
}

// CloseWrite tells the server that no more will come. Reading goes on.
func (c *conn) CloseWrite() error {
	c.up.finish(io.EOF)
	return nil
}

// Close returns at once, as a TCP connection's does; what was written still arrives at its time.
func (c *conn) Close() error {
	err := net.ErrClosed
	c.close.Do(func() {
		err = nil
		c.up.finish(io.EOF)
		c.down.abandon(net.ErrClosed)
		c.raw.SetReadDeadline(time.Unix(1, 0))          //nolint:errcheck // it fails on what is closed already
		c.raw.SetWriteDeadline(c.up.over().Add(linger)) //nolint:errcheck // likewise
		close(c.closed)
	})
	return err
}

// cut ends the connection without handing over anything more.
func (c *conn) cut() {
	c.Close() //nolint:errcheck // it may be closed already
	c.up.abandon(net.ErrClosed)
	c.raw.Close()
}

func (c *conn) LocalAddr() net.Addr  { return c.raw.LocalAddr() }
func (c *conn) RemoteAddr() net.Addr { return c.raw.RemoteAddr() }

func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *conn) SetReadDeadline(t time.Time) error { return c.by(&c.down, &c.down.takeBy, t) }

func (c *conn) SetWriteDeadline(t time.Time) error { return c.by(&c.up, &c.up.putBy, t) }

func (c *conn) by(l *lane, deadline *time.Time, t time.Time) error {
	select {
	case <-c.closed:
		return net.ErrClosed
	default:
		l.by(deadline, t)
		return nil
	}
}
