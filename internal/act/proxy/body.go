package proxy

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// errSlowBody: the client stopped sending its request.
var errSlowBody = errors.New("the client stopped sending")

// readAhead reads up to limit bytes of the request's body, so that the worker need not wait for the client, and makes
// r's body what is to be sent. A body that was read whole can be sent again.
func (f *flight) readAhead(r *http.Request, limit int64) error {
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return nil
	}
	var head []byte
	if limit > 0 {
		// Grown as it comes: what a client announces is not yet what it sends.
		head = make([]byte, 0, min(max(r.ContentLength, 4<<10), 16<<10, limit))
	}
	from := &body{from: r.Body, f: f}
	for int64(len(head)) < limit {
		if len(head) == cap(head) {
			head = append(head, 0)[:len(head)]
		}
		n, err := from.next(head[len(head):min(int64(cap(head)), limit)])
		head = head[:len(head)+n]
		if errors.Is(err, io.EOF) {
			f.replay = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(head)), nil }
			r.Body, _ = f.replay()
			r.GetBody = f.replay
			r.ContentLength = int64(len(head))
			r.TransferEncoding = nil
			if len(head) == 0 {
				r.Body = http.NoBody
			}
			r.Header.Del("Expect") // has been met
			return nil
		}
		if err != nil {
			return readError(f, err)
		}
	}
	if limit > 0 {
		r.Header.Del("Expect")
	}
	from.head = head
	f.request = from
	r.Body = from
	return nil
}

func readError(f *flight, err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errSlowBody
	case f.client.Err() != nil, errors.Is(err, io.ErrUnexpectedEOF):
		return errClientGone
	}
	return err
}

// body is a request's body that is still coming in: what was read ahead, then the rest.
type body struct {
	head    []byte
	from    io.ReadCloser
	f       *flight
	touched atomic.Bool // some of it was sent
	closed  atomic.Bool // the request has ended: the client's connection is no longer this request's
}

// next reads from the client, who may be silent for so long and no longer.
func (b *body) next(p []byte) (int, error) {
	_ = b.f.rc.SetReadDeadline(time.Now().Add(b.f.patient))
	n, err := b.from.Read(p)
	if errors.Is(err, io.EOF) {
		// At once: from here on the server itself listens for the client's leaving.
		_ = b.f.rc.SetReadDeadline(time.Time{})
	}
	return n, err
}

func (b *body) Read(p []byte) (n int, err error) {
	if b.closed.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	b.touched.Store(true)
	if len(b.head) > 0 {
		n = copy(p, b.head)
		b.head = b.head[n:]
		return n, nil
	}
	n, err = b.next(p)
	if b.f.timeout > 0 && !b.f.answered.Load() {
		b.f.timer.Reset(b.f.timeout) // the worker's time begins with the last byte
	}
	return n, err
}

func (b *body) Close() error { return nil } // the server closes it

// answer is the worker's response body. The worker is free when it has been read.
type answer struct {
	from  io.ReadCloser
	f     *flight
	reads int
}

func (a *answer) Read(p []byte) (int, error) {
	// A client that takes nothing must not hold the worker for ever. What fits the kernel's buffers needs no guard.
	if a.reads++; a.reads > 2 {
		a.f.guarded = true
		_ = a.f.rc.SetWriteDeadline(time.Now().Add(a.f.patient))
	}
	n, err := a.from.Read(p)
	if err == nil {
		return n, nil
	}
	switch {
	case errors.Is(err, io.EOF):
	case a.f.client.Err() != nil:
		a.f.out.status = 0
	default:
		a.f.out.status = http.StatusBadGateway // so it is counted; the client sees its connection cut
	}
	a.f.finish()
	return n, err
}

func (a *answer) Close() error {
	err := a.from.Close()
	if !a.f.ended { // the client left or stopped taking: ReverseProxy gave up writing
		a.f.out.status, a.f.out.served = 0, false
		a.f.finish()
	}
	return err
}

// upgrade is a connection to a worker after 101 Switching Protocols.
type upgrade struct {
	io.ReadWriteCloser
	worker *worker
	pool   *pool
	once   sync.Once
}

func (u *upgrade) Close() error {
	var err error
	u.once.Do(func() {
		err = u.ReadWriteCloser.Close()
		u.pool.downgraded(u)
	})
	return err
}

// cut ends the connection from this side; ReverseProxy then closes both.
func (u *upgrade) cut() { _ = u.Close() }
