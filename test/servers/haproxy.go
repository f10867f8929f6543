package servers

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Haproxy is an HAProxy in front of one backend, which stands in a file of its own.
type Haproxy struct {
	*process
	Port   int
	Socket string // the runtime socket, level admin
	File   string // with the backend
}

// HAProxy starts an HAProxy, as master and worker, that passes all requests to the backend of that name in File, which begins with content.
func HAProxy(t testing.TB, backend, content string) *Haproxy {
	t.Helper()
	dir := folder(t, "haproxy", map[string]string{"backend.cfg": content})
	h := &Haproxy{Port: FreePort(t), Socket: filepath.Join(dir, "admin.sock"), File: filepath.Join(dir, "backend.cfg")}
	path := filepath.Join(dir, "haproxy.cfg")
	conf := fmt.Sprintf(`global
	stats socket %s mode 600 level admin expose-fd listeners
	maxconn 2000
defaults
	mode http
	timeout client 30s
	timeout http-request 10s
	timeout connect 2s
	timeout server 30s
frontend public
	bind 127.0.0.1:%d
	default_backend %s
`, h.Socket, h.Port, backend)
	if err := os.WriteFile(path, []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	h.process = &process{
		t: t, name: "haproxy", stop: syscall.SIGTERM, log: filepath.Join(dir, "log"),
		start: func() *exec.Cmd { return command(t, "haproxy", "-W", "-db", "-f", path, "-f", h.File) },
		ready: func() error { _, err := h.worker(); return err },
	}
	h.Start()
	t.Cleanup(h.end)
	return h
}

// Address is where it takes requests.
func (h *Haproxy) Address() string { return fmt.Sprint("127.0.0.1:", h.Port) }

// Reload has the master start a worker with the configuration as it is now, and waits until that one answers; the one before
// finishes what it has. A master that is just starting ignores the signal, so it is sent again.
func (h *Haproxy) Reload() {
	h.t.Helper()
	before, err := h.worker()
	if err != nil {
		h.t.Fatalf("reload haproxy: %v", err)
	}
	for end := time.Now().Add(ages); time.Now().Before(end); {
		if err := h.cmd.Process.Signal(syscall.SIGUSR2); err != nil {
			h.t.Fatalf("reload haproxy: %v", err)
		}
		for again := time.Now().Add(2 * time.Second); time.Now().Before(again); time.Sleep(10 * time.Millisecond) {
			if now, err := h.worker(); err == nil && now != before {
				return
			}
		}
	}
	h.t.Fatalf("haproxy does not reload:\n%s", h.Log())
}

// worker is the pid of the process that answers at the runtime socket.
func (h *Haproxy) worker() (int, error) {
	c, err := net.DialTimeout("unix", h.Socket, time.Second)
	if err != nil {
		return 0, err
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return 0, err
	}
	if _, err := io.WriteString(c, "show info\n"); err != nil {
		return 0, err
	}
	said, err := io.ReadAll(c)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(said)) {
		if pid, ok := strings.CutPrefix(line, "Pid: "); ok {
			return strconv.Atoi(strings.TrimSpace(pid))
		}
	}
	return 0, fmt.Errorf("it says %q", said)
}
