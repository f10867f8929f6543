package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A handover passes the listening socket itself from the old process to the new one (SCM_RIGHTS), so that a connection that
// waits in the kernel's backlog is not lost, as it would be with two sockets on one port. The new one asks; the old one
// answers with the socket and its list of workers, frees the lock and stops as after SIGTERM. For as long as the old one
// finishes, a drain in the new one does not know of its requests.

// handOver answers POST /handover on the admin socket: one line of JSON (the workers in service) with the listening
// socket attached.
func (p *Process) handOver(w http.ResponseWriter, _ *http.Request) {
	list, err := json.Marshal(p.server.pool.list())
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	tcp, isTCP := p.clients.(*net.TCPListener)
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	to, isUnix := conn.(*net.UnixConn)
	if !isTCP || !isUnix {
		return
	}
	_ = conn.SetDeadline(time.Now().Add(handOverTimeout))
	if err := sendListener(to, tcp); err != nil {
		return
	}
	var taken [1]byte
	if _, err := conn.Write(append(list, '\n')); err != nil {
		return
	}
	if _, err := conn.Read(taken[:]); err != nil {
		return // it did not get through: go on serving
	}
	p.handOnce.Do(func() { close(p.handed) })
}

// sendListener passes the listening socket with one byte to carry it.
func sendListener(to *net.UnixConn, ln *net.TCPListener) error {
	raw, err := ln.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	if err := raw.Control(func(fd uintptr) {
		_, _, sent = to.WriteMsgUnix([]byte{'L'}, unix.UnixRights(int(fd)), nil)
	}); err != nil {
		return err
	}
	return sent
}

// takeOver asks the process that holds the lock for its listening socket and its workers.
func (p *Process) takeOver(ctx context.Context, listen string) error {
	ctx, cancel := context.WithTimeout(ctx, handOverTimeout)
	defer cancel()
	fail := func(err error) error { return fmt.Errorf("take over the proxy on %s: %w", p.socket, err) }

	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", p.socket)
	if err != nil {
		return fail(err)
	}
	defer func() { _ = conn.Close() }()
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	if _, err := io.WriteString(conn, "POST /handover HTTP/1.1\r\nHost: proxy\r\nContent-Length: 0\r\n\r\n"); err != nil {
		return fail(err)
	}
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return fail(errors.New("not a unix socket"))
	}
	ln, err := receiveListener(unixConn)
	if err != nil {
		return fail(err)
	}
	if !sameAddress(ln.Addr().String(), listen) {
		_ = ln.Close()
		return fail(fmt.Errorf("it listens on %s, not on %s: stop it and start anew", ln.Addr(), listen))
	}
	var list []Endpoint
	if err := json.NewDecoder(io.LimitReader(conn, maxAdminBody)).Decode(&list); err != nil {
		_ = ln.Close()
		return fail(err)
	}
	p.server.Set(list)
	if _, err := conn.Write([]byte{'k'}); err != nil {
		_ = ln.Close()
		return fail(err)
	}
	p.clients = ln
	for {
		if err = p.takeLock(); !errors.Is(err, ErrRunning) {
			return err
		}
		select {
		case <-ctx.Done():
			return fail(err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func receiveListener(conn *net.UnixConn) (net.Listener, error) {
	var first [1]byte
	rights := make([]byte, unix.CmsgSpace(4))
	n, rn, _, _, err := conn.ReadMsgUnix(first[:], rights)
	if err != nil {
		return nil, err
	}
	if n != 1 || rn == 0 {
		return nil, errors.New("it did not hand its listening socket over")
	}
	messages, err := unix.ParseSocketControlMessage(rights[:rn])
	if err != nil {
		return nil, err
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fds[0]), "listener")
	defer func() { _ = file.Close() }()
	return net.FileListener(file)
}

// sameAddress reports whether a listening socket is what was asked for; port 0 asks for any.
func sameAddress(have, want string) bool {
	h1, p1, err1 := net.SplitHostPort(have)
	h2, p2, err2 := net.SplitHostPort(want)
	if err1 != nil || err2 != nil {
		return false
	}
	any1 := h1 == "::" || h1 == "0.0.0.0"
	any2 := h2 == "" || h2 == "::" || h2 == "0.0.0.0"
	return (p1 == p2 || p2 == "0") && (h1 == h2 || h2 == "localhost" || any1 && any2)
}

// list is the workers in service.
func (p *pool) list() []Endpoint {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]Endpoint, 0, len(p.workers))
	for _, w := range p.workers {
		list = append(list, w.Endpoint)
	}
	return list
}
