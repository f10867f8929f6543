package serve

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Listen opens address, "127.0.0.1:8069" or "unix:/path", with an accept queue of backlog connections (the kernel's
// net.core.somaxconn is the ceiling). A socket file that nobody serves any more is replaced; taking the file away in the
// end is the caller's, by Unlink. An address that another process serves is EADDRINUSE.
func Listen(address string, backlog int) (Listener, error) {
	network, where := "tcp", address
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, where = "unix", path
		removeDead(path)
	}
	ln, err := net.Listen(network, where)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("listen on %s: another process serves it (%w)", address, syscall.EADDRINUSE)
	case err != nil:
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	// Go asks for the kernel's maximum. Calling listen again changes the queue of a listening socket.
	err = control(ln.(syscall.Conn), func(fd int) error { return unix.Listen(fd, backlog) })
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s with a backlog of %d: %w", address, backlog, err), ln.Close())
	}
	if u, ok := ln.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	return ln.(Listener), nil
}

// Dup returns ln's socket as a file for a child process to inherit. It is no net.Listener.File(): that one's Fd method,
// which os/exec calls for each child, makes the socket blocking under the workers that are accepting on it.
func Dup(ln Listener) (file *os.File, err error) {
	err = control(ln.(syscall.Conn), func(fd int) error {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return err
		}
		err = unix.SetNonblock(dup, false) // os.NewFile leaves a blocking descriptor alone
		file = os.NewFile(uintptr(dup), "listener")
		return err
	})
	return file, err
}

// Unlink takes the file of a unix address away, so that nobody new can connect. Other addresses have none, and a file
// that stays does no harm: Listen replaces it.
func Unlink(address string) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		_ = os.Remove(path)
	}
}

// Address writes ln's address the way that Listen reads it.
func Address(ln net.Listener) string {
	if ln.Addr().Network() == "unix" {
		return "unix:" + ln.Addr().String()
	}
	return ln.Addr().String()
}

func removeDead(path string) {
	if info, err := os.Lstat(path); err != nil || info.Mode().Type() != fs.ModeSocket {
		return // nothing there, or not ours to remove: listening says so
	}
	conn, err := net.Dial("unix", path)
	if err == nil {
		conn.Close()
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		_ = os.Remove(path) // listening says what is wrong
	}
}

func control(c syscall.Conn, f func(fd int) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	inner := raw.Control(func(fd uintptr) { err = f(int(fd)) })
	return errors.Join(inner, err)
}
