package listenqueue

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"tidemark/internal/config"
	"tidemark/internal/fleet"
	"tidemark/internal/observe/observetest"
)

var _ config.SignalBody = (*Config)(nil)

// workerRole makes the test binary a worker: it takes one connection from the listener that it inherited for each byte of its
// standard input, and says so. "listen" makes it listen by itself, say where, and take nothing.
const workerRole = "TIDEMARK_TEST_WORKER"

func TestMain(m *testing.M) {
	switch os.Getenv(workerRole) {
	case "listen":
		ln, err := net.Listen("tcp4", "0.0.0.0:0")
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(ln.Addr().(*net.TCPAddr).Port)
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	case "accept":
		ln, err := net.FileListener(os.NewFile(3, "listener"))
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		var held []net.Conn
		for b := make([]byte, 1); ; {
			if _, err := os.Stdin.Read(b); err != nil {
				os.Exit(0)
			}
			conn, err := ln.Accept()
			if err != nil {
				os.Exit(1)
			}
			held = append(held, conn)
			fmt.Println(len(held))
		}
	}
	goleak.VerifyTestMain(m)
}

// worker is a process of the fleet.
type worker struct {
	t   *testing.T
	pid int
	in  io.WriteCloser
	out *bufio.Reader
}

func start(t *testing.T, role string, attr *syscall.SysProcAttr, files ...*os.File) (*worker, error) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), workerRole+"="+role)
	cmd.ExtraFiles, cmd.SysProcAttr = files, attr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	t.Cleanup(func() { in.Close(); _ = cmd.Wait() })
	return &worker{t, cmd.Process.Pid, in, bufio.NewReader(out)}, nil
}

// accept makes the worker take a connection.
func (w *worker) accept() {
	w.t.Helper()
	if _, err := w.in.Write([]byte{'.'}); err != nil {
		w.t.Fatal(err)
	}
	if line, err := w.out.ReadString('\n'); err != nil {
		w.t.Fatalf("the worker said %q, %v", line, err)
	}
}

// listen opens a listening socket with a backlog of its own.
func listen(t *testing.T, network, addr string, backlog int) (fd int, cfg Config, dial func() net.Conn) {
	t.Helper()
	domain := map[string]int{"tcp4": unix.AF_INET, "tcp6": unix.AF_INET6, "unix": unix.AF_UNIX}[network]
	fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		t.Skip("needs IPv6")
	}
	if err != nil {
		t.Fatal(err)
	}
	var to unix.Sockaddr = &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	host := "127.0.0.1"
	switch network {
	case "tcp6":
		to, host = &unix.SockaddrInet6{Addr: [16]byte{15: 1}}, "::1"
	case "unix":
		to = &unix.SockaddrUnix{Name: addr}
	}
	if err := unix.Bind(fd, to); err != nil {
		_ = unix.Close(fd)
		if network == "tcp6" {
			t.Skip("needs IPv6: ", err)
		}
		t.Fatal(err)
	}
	if err := unix.Listen(fd, backlog); err != nil {
		t.Fatal(err)
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	target := addr
	switch a := bound.(type) {
	case *unix.SockaddrInet4:
		cfg.Port = a.Port
	case *unix.SockaddrInet6:
		cfg.Port = a.Port
	case *unix.SockaddrUnix:
		cfg.Path = addr
	}
	if cfg.Port != 0 {
		target = net.JoinHostPort(host, fmt.Sprint(cfg.Port))
	}
	dial = func() net.Conn {
		t.Helper()
		conn, err := net.DialTimeout(strings.TrimRight(network, "46"), target, 30*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	return fd, cfg, dial
}

func workers(pids ...int) []fleet.Worker {
	var out []fleet.Worker
	for _, pid := range pids {
		out = append(out, fleet.Worker{ID: fmt.Sprint("w", pid), PID: pid, Phase: fleet.Serving})
	}
	return out
}

func source(cfg Config, field string) *Source {
	cfg.Field = field
	return New(cfg, new(Tables))
}

// ticks makes each scene a tick of its own.
var ticks atomic.Int64

func scene(ws []fleet.Worker) fleet.Scene {
	return fleet.Scene{Now: time.Date(2027, 3, 1, 6, 0, int(ticks.Add(1)), 0, time.UTC), Workers: ws, WorkersKnown: true}
}

// expect reads until all the figures are there: the kernel finishes by itself what another process began.
func expect(t *testing.T, cfg Config, ws []fleet.Worker, want map[string]float64) {
	t.Helper()
	tables := new(Tables)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		now, wrong := scene(ws), ""
		for field, value := range want {
			cfg.Field = field
			if r, err := New(cfg, tables).Read(t.Context(), now); err != nil || r.Quality != fleet.Fresh || r.Value != value {
				wrong = fmt.Sprintf("%s is %v (%v), %v; want %v", field, r.Value, r.Quality, err, value)
			}
		}
		if wrong == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(wrong)
		}
	}
}

// Real servers of two workers that share a socket, as Odoo's do.
func TestARealFleet(t *testing.T) {
	for _, c := range []struct{ network, addr string }{
		{"tcp4", ""}, {"tcp6", ""}, {"unix", filepath.Join(t.TempDir(), "a b.sock")}, {"unix", "@tidemark-test-" + filepath.Base(t.TempDir())},
	} {
		t.Run(c.network+" "+filepath.Base(c.addr), func(t *testing.T) {
			fd, cfg, dial := listen(t, c.network, c.addr, 10)
			file := os.NewFile(uintptr(fd), "listener")
			a, err := start(t, "accept", nil, file)
			if err != nil {
				t.Fatal(err)
			}
			b, err := start(t, "accept", nil, file)
			if err != nil {
				t.Fatal(err)
			}
			file.Close()
			ws := workers(a.pid, b.pid)
			expect(t, cfg, ws, map[string]float64{Queued: 0, QueuedPercent: 0, BusyWorkers: 0, BusyPercent: 0, Connections: 0})
			var clients []net.Conn
			for range 5 {
				clients = append(clients, dial())
			}
			expect(t, cfg, ws, map[string]float64{Queued: 5, QueuedPercent: 50, BusyWorkers: 0, Connections: 0})
			a.accept()
			a.accept()
			expect(t, cfg, ws, map[string]float64{Queued: 3, QueuedPercent: 30, BusyWorkers: 1, BusyPercent: 50, Connections: 2})
			b.accept()
			expect(t, cfg, ws, map[string]float64{Queued: 2, QueuedPercent: 20, BusyWorkers: 2, BusyPercent: 100, Connections: 3})
			// What is unread is no connection, and a client that left keeps its worker busy until that one lets go.
			if _, err := clients[4].Write(make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
			clients[0].Close()
			expect(t, cfg, ws, map[string]float64{Queued: 2, BusyWorkers: 2, Connections: 3})
			// A worker that drains or ended is no part of the fleet's capacity.
			ws[1].Phase = fleet.Draining
			expect(t, cfg, append(ws, workers(1<<30)...), map[string]float64{BusyWorkers: 1, BusyPercent: 100})
			// Without workers of this machine, Tidemark's own network is looked at.
			expect(t, cfg, []fleet.Worker{{ID: "elsewhere", Phase: fleet.Serving}}, map[string]float64{Queued: 2, Connections: 3})
		})
	}
}

func TestBacklogAsWritten(t *testing.T) {
	fd, cfg, dial := listen(t, "tcp4", "", 10)
	defer unix.Close(fd)
	dial()
	cfg.Backlog = 4
	expect(t, cfg, nil, map[string]float64{QueuedPercent: 25})
	for range 4 {
		dial()
	}
	expect(t, cfg, nil, map[string]float64{QueuedPercent: 100, Queued: 5})
}

func TestOverflows(t *testing.T) {
	fd, cfg, dial := listen(t, "tcp4", "", 1)
	defer unix.Close(fd)
	s := source(cfg, Overflows)
	now := time.Unix(1_800_000_000, 0)
	s.now = func() time.Time { return now }
	read := func() fleet.Reading {
		t.Helper()
		r, err := s.Read(t.Context(), scene(nil))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := read(); r.Quality != fleet.Sparse {
		t.Fatalf("the first reading is %v", r)
	}
	dial()
	dial() // the backlog and the one more that the kernel lets in
	now = now.Add(10 * time.Second)
	if r := read(); r.Quality != fleet.Fresh || r.Value < 0 {
		t.Fatalf("%v", r)
	}
	to, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	for range 8 {
		c, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(c)
		if err := unix.Connect(c, to); err != nil && !errors.Is(err, unix.EINPROGRESS) {
			t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(30 * time.Second); ; {
		now = now.Add(time.Second)
		if r := read(); r.Quality == fleet.Fresh && r.Value >= 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no overflow is seen")
		}
		time.Sleep(5 * time.Millisecond)
	}
	// No time has passed, or the kernel counts anew: nothing can be said.
	if r := read(); r.Quality != fleet.Sparse {
		t.Errorf("no time passed: %v", r)
	}
	for ns := range s.last.overflows {
		s.last.overflows[ns] = 1 << 60
	}
	now = now.Add(time.Second)
	if r := read(); r.Quality != fleet.Sparse {
		t.Errorf("counted anew: %v", r)
	}
}

// Workers in a container have a network of their own.
func TestAnotherNetwork(t *testing.T) {
	w, err := start(t, "listen", &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	})
	if err != nil {
		t.Skip("needs network namespaces: ", err)
	}
	var cfg Config
	if _, err := fmt.Fscan(w.out, &cfg.Port); err != nil {
		t.Fatal(err)
	}
	expect(t, cfg, workers(w.pid), map[string]float64{Queued: 0, Connections: 0, BusyWorkers: 0})
	if _, err := source(cfg, QueuedPercent).Read(t.Context(), scene(workers(w.pid))); err == nil || !strings.Contains(err.Error(), "another network namespace, such as a container's, write backlog") {
		t.Errorf("the backlog of another network: %v", err)
	}
	// Two networks are taken together, each once.
	fd, here, dial := listen(t, "tcp4", "", 10)
	defer unix.Close(fd)
	dial()
	expect(t, here, workers(w.pid, os.Getpid(), os.Getpid()), map[string]float64{Queued: 1})
	if r, err := source(here, Queued).Read(t.Context(), scene(workers(w.pid))); err == nil {
		t.Errorf("this network's socket is seen in the other: %v", r)
	}
}

func TestWhatCannotBeKnownIsMissing(t *testing.T) {
	fd, cfg, _ := listen(t, "tcp4", "", 10)
	free := cfg
	elsewhere := []fleet.Worker{{ID: "pod-1", Phase: fleet.Serving}}
	for _, c := range []struct {
		field string
		scene fleet.Scene
		want  string
	}{
		{Queued, fleet.Scene{}, "queued: the workers are not known"},
		{BusyWorkers, scene(elsewhere), "worker pod-1 is not a process of this machine; take queued or connections"},
		{BusyPercent, scene(nil), "no worker serves"},
		{BusyPercent, scene(workers(1 << 30)), "no worker serves"},
	} {
		r, err := source(cfg, c.field).Read(t.Context(), c.scene)
		if err == nil || r.Quality != fleet.Missing || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v; want %q", c.field, r, err, c.want)
		}
	}
	unix.Close(fd)
	for field := range fields {
		r, err := source(free, field).Read(t.Context(), scene(nil))
		if want := fmt.Sprintf("nothing listens on TCP port %d", free.Port); err == nil || r.Quality != fleet.Missing || !strings.Contains(err.Error(), want) {
			t.Errorf("%s of a service that is down: %v, %v", field, r, err)
		}
	}
}

func TestConform(t *testing.T) {
	for _, field := range []string{QueuedPercent, BusyPercent, Overflows} { // all that is read, and no more: to list a host's sockets takes long
		t.Run(field, func(t *testing.T) {
			observetest.Conform(t, func(t *testing.T) observetest.Subject {
				path := filepath.Join(t.TempDir(), "s.sock")
				var ln net.Listener
				mend := func(t *testing.T) {
					var err error
					if ln, err = net.Listen("unix", path); err != nil {
						t.Fatal(err)
					}
				}
				mend(t)
				s := source(Config{Path: path}, field)
				now := time.Now()
				s.now = func() time.Time { return now }
				return observetest.Subject{
					Source: s, Workers: workers(os.Getpid()), NeedsWorkers: true, Warm: 1,
					Plausible: func(v float64) bool { return v >= 0 },
					Tick:      func(*testing.T) { now = now.Add(15 * time.Second) },
					Break:     func(*testing.T) { ln.Close() },
					Mend:      mend,
					Close:     func() { ln.Close() },
				}
			})
		})
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{Config{Port: 8069, Field: Queued}, "<nil>"},
		{Config{Path: "@odoo", Field: QueuedPercent, Backlog: 80}, "<nil>"},
		{DefaultConfig(), "port: is missing; write the TCP port that the workers listen on, such as 8069, or path for a unix socket"},
		{Config{Port: 1, Path: "/a", Field: Queued}, "path: is given beside port; delete one of them"},
		{Config{Port: 65536, Field: Queued}, "port: 65536 is no TCP port; write 1 to 65535"},
		{Config{Path: "run/a", Field: Queued}, `path: "run/a" is not absolute; begin it with /, or with @ for an abstract name`},
		{Config{Path: "/" + strings.Repeat("a", 107), Field: Queued}, "path: has 108 bytes, and the system allows 107; write the path that the server listens on"},
		{Config{Port: 1, Field: "depth"}, `field: "depth" is not known; write one of busy_percent, busy_workers, connections, overflows, queued, queued_percent`},
		{Config{Port: 1, Field: QueuedPercent, Backlog: -1}, "backlog: -1 is negative; write the backlog that the server listens with, or delete it"},
		{Config{Port: 1, Field: Queued, Backlog: 10}, "backlog: is only used by queued_percent; delete it"},
	} {
		if got := fmt.Sprint(c.cfg.Validate()); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
	for field, want := range map[string][2]any{
		Queued: {fleet.Number, false}, QueuedPercent: {fleet.Percent, false}, BusyWorkers: {fleet.Number, false},
		BusyPercent: {fleet.Percent, true}, Connections: {fleet.Number, false}, Overflows: {fleet.Number, false},
	} {
		c := Config{Field: field}
		if got := [2]any{c.Unit(), c.PerWorker()}; got != want || c.Distribution() {
			t.Errorf("%s is %v, want %v", field, got, want)
		}
	}
}

// Signals of one daemon read the tables once a tick.
func TestOneReadATick(t *testing.T) {
	fd, cfg, dial := listen(t, "tcp4", "", 10)
	defer unix.Close(fd)
	cfg.Field = Queued
	tables, first := new(Tables), scene(nil)
	read := func(now fleet.Scene) float64 {
		t.Helper()
		r, err := New(cfg, tables).Read(t.Context(), now)
		if err != nil {
			t.Fatal(err)
		}
		return r.Value
	}
	if n := read(first); n != 0 {
		t.Errorf("%v wait before anybody came", n)
	}
	dial()
	expect(t, cfg, nil, map[string]float64{Queued: 1})
	if n := read(first); n != 0 {
		t.Errorf("%v wait within the tick: its tables were read again", n)
	}
	if n := read(scene(nil)); n != 1 {
		t.Errorf("%v wait at the next tick", n)
	}
}

func TestTheEndOfTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := source(Config{Port: 1}, Queued).Read(ctx, scene(workers(os.Getpid()))); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
