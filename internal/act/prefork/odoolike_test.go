package prefork

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tidemark/test/servers"
)

// The test binary is also an Odoo-like master and its children, and a bystander. They follow FACTS: SIGTTOU stops nobody and has
// no floor, a signal that comes twice before it is handled counts once, the sixth in the queue is dropped, SIGHUP executes the
// program anew with the number of workers it was started with, and a worker is stopped by SIGTTIN and SIGTTOU, finishes its
// request on SIGINT and drops it on SIGTERM.
const (
	roleVar    = "TIDEMARK_TEST_ROLE"
	addrVar    = "TIDEMARK_TEST_ADDR"
	pidFileVar = "TIDEMARK_TEST_PID_FILE"
	titlesVar  = "TIDEMARK_TEST_TITLES" // as with python3-setproctitle
)

// idle waits for ever, in the kernel: a process of Go that only selects takes itself for deadlocked and ends.
func idle() {
	for {
		_ = unix.Pause() // returns after each signal
	}
}

var roles = map[string]func(){
	"master":    runMaster,
	"http":      runHTTPWorker,
	"cron":      runCronWorker,
	"gevent":    idle,
	"bystander": func() { _, _ = io.Copy(io.Discard, os.Stdin) },
	"daemon":    runDaemon,
}

const (
	masterBeat = 10 * time.Millisecond  // signals that come within it meet in the queue
	masterBoot = 200 * time.Millisecond // before it handles signals
)

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, os.Getenv(roleVar), err)
		os.Exit(1)
	}
}

// queue is what Odoo's PreforkServer.signal_handler and Python's own flags make of signals.
type queue struct {
	sync.Mutex
	signals []os.Signal
	lost    int
}

func (q *queue) add(sig os.Signal) {
	q.Lock()
	defer q.Unlock()
	for _, s := range q.signals {
		if s == sig {
			q.lost++
			return
		}
	}
	if len(q.signals) >= 5 {
		q.lost++
		return
	}
	q.signals = append(q.signals, sig)
}

func (q *queue) take() []os.Signal {
	q.Lock()
	defer q.Unlock()
	s := q.signals
	q.signals = nil
	return s
}

func runMaster() {
	runtime.LockOSThread() // children end with the thread that started them
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); os.Exit(0) }()
	must(os.WriteFile(os.Getenv(pidFileVar), fmt.Appendln(nil, os.Getpid()), 0o600))
	time.Sleep(masterBoot)
	var q queue
	in := make(chan os.Signal, 64)
	signal.Notify(in, syscall.SIGTTIN, syscall.SIGTTOU, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH, syscall.SIGQUIT)
	go func() {
		for sig := range in {
			q.add(sig)
		}
	}()
	ln, err := net.Listen("tcp4", os.Getenv(addrVar))
	must(err)
	raw, err := ln.(*net.TCPListener).SyscallConn()
	must(err)
	var socket uintptr // never through os.File: that makes the socket block, in the workers as well
	must(raw.Control(func(fd uintptr) { socket = fd }))
	time.Sleep(masterBoot)

	wanted, err := strconv.Atoi(strings.TrimPrefix(os.Args[1], "--workers="))
	must(err)
	kinds := map[int]string{} // by pid
	count := func(kind string) (n int) {
		for _, k := range kinds {
			if k == kind {
				n++
			}
		}
		return n
	}
	reap := func() {
		for {
			pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
			if err != nil || pid <= 0 {
				return
			}
			delete(kinds, pid)
		}
	}
	stop := func() {
		for pid, kind := range kinds {
			sig := syscall.SIGINT
			if kind != "http" {
				sig = syscall.SIGKILL
			}
			_ = syscall.Kill(pid, sig)
		}
		for len(kinds) > 0 {
			reap()
			time.Sleep(time.Millisecond)
		}
	}
	for {
		for _, sig := range q.take() {
			switch sig {
			case syscall.SIGTTIN:
				wanted++
			case syscall.SIGTTOU:
				wanted--
			case syscall.SIGTERM:
				stop()
				_ = os.Remove(os.Getenv(pidFileVar))
				os.Exit(0)
			case syscall.SIGHUP:
				stop()
				must(syscall.Exec("/proc/self/exe", os.Args, os.Environ()))
			}
		}
		reap()
		for kind, n := range map[string]int{"http": wanted, "cron": 1, "gevent": 1} {
			for count(kind) < n {
				pid, err := syscall.ForkExec("/proc/self/exe", workerArgs(kind), &syscall.ProcAttr{
					Env:   slices.Insert(os.Environ(), 0, roleVar+"="+kind), // the first of a name counts
					Files: []uintptr{0, 1, 2, socket},
					Sys:   &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
				})
				must(err)
				kinds[pid] = kind
			}
		}
		q.Lock()
		fmt.Println(wanted, q.lost)
		q.Unlock()
		runtime.KeepAlive(ln) // or a collection closes the socket, and what is opened next takes its number
		time.Sleep(masterBeat)
	}
}

func workerArgs(kind string) []string {
	titled := map[string]string{"http": "odoo: WorkerHTTP 4711", "cron": "odoo: WorkerCron 4712 dfr"}[kind]
	switch {
	case kind == "gevent":
		return append([]string{os.Args[0], "gevent"}, os.Args[1:]...)
	case titled != "" && os.Getenv(titlesVar) != "":
		return []string{titled}
	}
	return os.Args
}

// runCronWorker lowers its priority, as os.nice(10) does.
func runCronWorker() {
	self, err := readProcess(os.Getpid())
	must(err)
	must(syscall.Setpriority(syscall.PRIO_PROCESS, self.pid, self.nice+10))
	idle()
}

// runHTTPWorker serves one request at a time. SIGUSR1 makes it deaf to SIGINT, SIGHUP gives it back its hearing.
func runHTTPWorker() {
	ln, err := net.FileListener(os.NewFile(3, "socket"))
	must(err)
	var deaf, leaving atomic.Bool
	in := make(chan os.Signal, 8)
	signal.Notify(in, syscall.SIGINT, syscall.SIGUSR1, syscall.SIGHUP)
	go func() {
		for sig := range in {
			switch {
			case sig == syscall.SIGUSR1:
				deaf.Store(true)
			case sig == syscall.SIGHUP:
				deaf.Store(false)
			case !deaf.Load():
				leaving.Store(true)
				must(ln.(*net.TCPListener).SetDeadline(time.Unix(1, 0)))
			}
		}
	}()
	for !leaving.Load() {
		conn, err := ln.Accept()
		if err != nil {
			continue
		}
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		if req, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			if ms, err := strconv.Atoi(req.URL.Query().Get("ms")); err == nil {
				time.Sleep(time.Duration(ms) * time.Millisecond)
			}
			for file := req.URL.Query().Get("until"); file != ""; time.Sleep(time.Millisecond) {
				if _, err := os.Stat(file); err == nil {
					break
				}
			}
			body := fmt.Sprintf("worker %d", os.Getpid())
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		}
		_ = conn.Close()
	}
}

// odoo is a running Odoo-like master.
type odoo struct {
	t       testing.TB
	cmd     *exec.Cmd
	addr    string
	pidFile string
	stdin   io.Closer

	mu           sync.Mutex
	wanted, lost int
}

type odooOption func(*odoo)

func withTitles(o *odoo) { o.cmd.Env = append(o.cmd.Env, titlesVar+"=1") }

// startOdoo starts one with two HTTP workers, one for cron and gevent, and waits until all are there.
func startOdoo(t testing.TB, options ...odooOption) *odoo {
	t.Helper()
	o := &odoo{t: t, addr: servers.FreeAddress(t), pidFile: filepath.Join(t.TempDir(), "odoo.pid")}
	o.start(options...)
	t.Cleanup(func() { o.stop() })
	return o
}

func (o *odoo) start(options ...odooOption) {
	o.t.Helper()
	o.cmd = exec.Command(os.Args[0])
	o.cmd.Args = []string{"odoo-bin", "--workers=2"}
	o.cmd.Env = append(os.Environ(), roleVar+"=master", addrVar+"="+o.addr, pidFileVar+"="+o.pidFile,
		"GORACE=atexit_sleep_ms=0") // or each worker takes a second to end
	for _, option := range options {
		option(o)
	}
	o.cmd.Stderr = os.Stderr
	stdin, err := o.cmd.StdinPipe()
	if err != nil {
		o.t.Fatal(err)
	}
	o.stdin = stdin
	stdout, err := o.cmd.StdoutPipe()
	if err != nil {
		o.t.Fatal(err)
	}
	if err := o.cmd.Start(); err != nil {
		o.t.Fatal(err)
	}
	go func() {
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			o.mu.Lock()
			_, _ = fmt.Sscan(lines.Text(), &o.wanted, &o.lost)
			o.mu.Unlock()
		}
	}()
	eventually(o.t, "master and its children run", func() bool { return len(o.others()) == 2 && o.http() >= 2 })
}

// hold sends a request that is answered when end is called, which returns how that went.
func (o *odoo) hold() (end func() error) {
	file := filepath.Join(o.t.TempDir(), "end")
	answer := make(chan error, 1)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	go func() {
		_, err := get(client, "http://"+o.addr+"/?until="+url.QueryEscape(file))
		answer <- err
	}()
	return func() error {
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			return err
		}
		return <-answer
	}
}

// stop ends the master and with it its workers.
func (o *odoo) stop() {
	o.stdin.Close()
	_ = o.cmd.Wait()
}

func (o *odoo) kill(sig syscall.Signal) {
	o.t.Helper()
	if err := o.cmd.Process.Signal(sig); err != nil {
		o.t.Fatal(err)
	}
}

func (o *odoo) said() (wanted, lost int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.wanted, o.lost
}

// family lists the children by the role that they were given, which the product cannot see.
func (o *odoo) family(role string) []process {
	all, err := children(o.cmd.Process.Pid)
	if err != nil {
		return nil
	}
	var out []process
	for _, p := range all {
		env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.pid))
		if strings.HasPrefix(string(env), roleVar+"="+role+"\x00") {
			out = append(out, p)
		}
	}
	return out
}

func (o *odoo) http() int { return len(o.family("http")) }

func (o *odoo) others() []process {
	cron := slices.DeleteFunc(o.family("cron"), func(p process) bool {
		master, err := readProcess(p.parent)
		return err != nil || p.nice == master.nice // it has only just started
	})
	return append(cron, o.family("gevent")...)
}

// unharmed checks that nobody was stopped by a wrong signal, and that the children that serve no HTTP are the same as before.
func (o *odoo) unharmed(before []process) {
	o.t.Helper()
	master, err := readProcess(o.cmd.Process.Pid)
	if err != nil {
		o.t.Fatal(err)
	}
	all, err := children(master.pid)
	if err != nil {
		o.t.Fatal(err)
	}
	for _, p := range append(all, master) {
		if p.state == 'T' || p.state == 't' {
			o.t.Errorf("process %d (%s) is stopped: it was sent a signal that was not for it", p.pid, p.title())
		}
	}
	now := view{workers: o.others()}
	if now.remain(before) != len(before) {
		o.t.Errorf("cron and gevent were %v and are %v", before, now.workers)
	}
}
