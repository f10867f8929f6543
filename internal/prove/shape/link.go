// Package shape makes connections as slow as a phone's on a mobile network, without root and without the kernel's help. All
// connections of one phone share its Link. It works under TLS, so handshakes pay like everything else.
//
// What is modelled: each way the link sends one segment (1,360 bytes and 40 of headers) after the other at its rate; half a
// round trip later, and with jitter, it arrives, never before one that was sent earlier. A dial takes a round trip. A connection
// starts with ten segments in flight and gets more as they are acknowledged (slow start, RFC 6928 and 5681). A lost segment
// costs its bytes again and a round trip, holds back what follows it on its connection, and halves the connection's window;
// no byte is ever missing. What is not: the bytes of bare acknowledgements, name look-ups, queues that overflow.
package shape

import (
	"context"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"
)

const (
	payload = 1360 // bytes in a full segment
	headers = 40   // IPv4 and TCP

	// resend is how long a lost SYN is waited for: RFC 6298's first time-out.
	resend = time.Second
	// linger is how long a closed connection may take to hand over what was written before.
	linger = 10 * time.Second
)

// DialFunc opens a connection, as net.Dialer's DialContext does.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// Link is one phone's connection to the network. Its DialContext is made for http.Transport.
type Link struct {
	profile Profile
	dial    DialFunc

	mu       sync.Mutex
	rng      *rand.Rand
	up, down way
	conns    map[*conn]struct{}
	closed   bool
	wg       sync.WaitGroup
}

// way is one direction of a link.
type way struct {
	rate    float64
	free    time.Time // when all that has entered will be sent
	last    time.Time // when the last of it arrives
	traffic Traffic
}

// Traffic counts what went one way over a link.
type Traffic struct {
	Segments int64 // with those that were sent again
	Bytes    int64 // headers and all
	Payload  int64 // each byte once
	Lost     int64 // segments
}

// New makes a link. The seed decides which segments are lost or late. dial opens the connections beneath; nil means TCP.
func New(p Profile, seed uint64, dial DialFunc) *Link {
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	return &Link{profile: p, dial: dial, rng: rand.New(rand.NewPCG(seed, 0x7368617065)), conns: map[*conn]struct{}{},
		up: way{rate: p.Up}, down: way{rate: p.Down}}
}

// DialContext opens a connection over the link.
func (l *Link) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	syn, _ := l.cross(&l.up, 0, resend)
	if err := sleep(ctx, syn); err != nil {
		return nil, err
	}
	raw, err := l.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c := newConn(l, raw)
	if tcp, ok := raw.(*net.TCPConn); ok {
		// Or the kernel would take megabytes ahead of the link, and the server think them delivered.
		if err := tcp.SetReadBuffer(c.down.limit); err != nil {
			raw.Close()
			return nil, err
		}
	}
	ack, _ := l.cross(&l.down, 0, resend)
	if err := sleep(ctx, ack); err != nil {
		raw.Close()
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		raw.Close()
		return nil, net.ErrClosed
	}
	l.conns[c] = struct{}{}
	l.wg.Go(c.receive)
	l.wg.Go(c.transmit)
	return c, nil
}

// Close cuts every connection where it is, as when the phone is switched off, and returns when nothing of the link runs any
// more. Connections that were closed before may still hand over what was written, for up to ten seconds: Close ends that too.
func (l *Link) Close() {
	l.mu.Lock()
	l.closed = true
	open := slices.Collect(maps.Keys(l.conns))
	l.mu.Unlock()
	for _, c := range open {
		c.cut()
	}
	l.wg.Wait()
}

// Traffic tells what went up and down so far; what is on its way is counted.
func (l *Link) Traffic() (up, down Traffic) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.up.traffic, l.down.traffic
}

// cross sends a segment with n bytes of payload and tells when it arrives and whether it was lost on the way: then it is sent
// once more, and comes again later.
func (l *Link) cross(w *way, n int, again time.Duration) (at time.Time, lost bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	times := 1
	for l.profile.Loss > 0 && times < 10 && l.rng.Float64() < l.profile.Loss {
		times++
	}
	size := times * (n + headers)
	w.free = later(w.free, time.Now())
	if w.rate > 0 {
		w.free = w.free.Add(time.Duration(float64(size) * 8 / w.rate * float64(time.Second)))
	}
	at = w.free.Add(l.profile.RTT / 2)
	if l.profile.Jitter > 0 {
		at = at.Add(time.Duration(l.rng.Int64N(int64(l.profile.Jitter))))
	}
	w.last = later(w.last, at)
	w.traffic.Segments += int64(times)
	w.traffic.Bytes += int64(size)
	w.traffic.Payload += int64(n)
	w.traffic.Lost += int64(times - 1)
	return w.last.Add(time.Duration(times-1) * again), times > 1
}

func (l *Link) forget(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// window is the most that may be on its way in a direction: what phones and servers grant, or what the link needs.
func (l *Link) window(w *way) int {
	return max(64<<10, int(2*w.rate/8*l.profile.RTT.Seconds()))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func sleep(ctx context.Context, until time.Time) error {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
