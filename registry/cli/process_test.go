package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tidemark/registry"
	"tidemark/registry/seed"
	"tidemark/registry/store"
	"tidemark/registry/store/sqlite"
)

// program is the registry as `make build` makes it: the tests run it as a person does. It is built without the race
// detector, whose processes take a second of CPU time to start, and these tests start hundreds.
var program string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "registry-test-")
	if err != nil {
		panic(err)
	}
	program = filepath.Join(dir, "registry")
	build := exec.Command("go", "build", "-o", program, "tidemark/cmd/registry")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build tidemark/cmd/registry: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

const ages = 60 * time.Second // longer than anything should take on a loaded machine

// process is a `registry serve` under test.
type process struct {
	t       *testing.T
	cmd     *exec.Cmd
	address string // host:port or unix:path
	exited  chan error

	mu  sync.Mutex
	log bytes.Buffer
}

func makeDB(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "farmers.db")
	if err := sqlite.Create(t.Context(), path, func(s *store.Store) error { return seed.Fill(t.Context(), s, seed.Farmers(1, 100), nil) }); err != nil {
		t.Fatal(err)
	}
	return path
}

// start runs `registry serve` with args and waits until it listens.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{t: t, exited: make(chan error, 1)}
	p.cmd = exec.Command(program, append([]string{"serve", "--open"}, args...)...)
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	listening := make(chan string, 1)
	var reading sync.WaitGroup
	reading.Go(func() {
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			p.mu.Lock()
			fmt.Fprintln(&p.log, lines.Text())
			p.mu.Unlock()
			if _, rest, ok := strings.Cut(lines.Text(), "listening on "); ok {
				address, _, _ := strings.Cut(rest, " ")
				listening <- address
			}
		}
	})
	go func() {
		state, err := p.cmd.Process.Wait() // not cmd.Wait: workers may still hold the pipe
		if err == nil && !state.Success() {
			err = fmt.Errorf("%s", state)
		}
		p.exited <- err
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill() // its workers leave when it is gone
		reading.Wait()
		if t.Failed() {
			t.Logf("registry serve %s\n%s", strings.Join(args, " "), p.text())
		}
	})
	select {
	case p.address = <-listening:
	case err := <-p.exited:
		reading.Wait()
		t.Fatalf("registry serve %s: %v\n%s", strings.Join(args, " "), err, p.text())
	case <-time.After(ages):
		t.Fatal("registry does not start")
	}
	return p
}

func (p *process) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("%v: %v", s, err)
	}
}

// ends waits for the process to exit, and without an error.
func (p *process) ends() {
	p.t.Helper()
	select {
	case err := <-p.exited:
		if err != nil {
			p.t.Errorf("registry serve ended with %v", err)
		}
	case <-time.After(ages):
		p.t.Fatal("registry serve does not end")
	}
}

// workers returns the pids of the processes whose parent is the master and whose command line is a worker's.
func (p *process) workers() (pids []int) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", p.cmd.Process.Pid))
	for _, list := range lists {
		text, _ := os.ReadFile(list)
		for _, word := range strings.Fields(string(text)) {
			line, _ := os.ReadFile("/proc/" + word + "/cmdline")
			if args := strings.Split(string(line), "\x00"); len(args) > 3 && args[0] == "registry" && args[1] == "worker" && args[2] == "--fd" {
				pid, _ := strconv.Atoi(word)
				pids = append(pids, pid)
			}
		}
	}
	slices.Sort(pids)
	return pids
}

// eventually looks every few milliseconds until yes, for real processes tell nobody when they change.
func eventually(t *testing.T, what string, yes func() bool) {
	t.Helper()
	for end := time.Now().Add(ages); !yes(); {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// serving waits until there are exactly n workers and the log says of each that it serves.
func (p *process) serving(n int) {
	p.t.Helper()
	eventually(p.t, fmt.Sprintf("%d workers serve", n), func() bool {
		pids := p.workers()
		text := p.text()
		return len(pids) == n && !slices.ContainsFunc(pids, func(pid int) bool { return !strings.Contains(text, fmt.Sprintf("worker %d serves", pid)) })
	})
}

func (p *process) dial() (net.Conn, error) {
	network, address := "tcp", p.address
	if path, ok := strings.CutPrefix(p.address, "unix:"); ok {
		network, address = "unix", path
	}
	conn, err := net.Dial(network, address)
	if err == nil {
		conn.SetDeadline(time.Now().Add(ages))
	}
	return conn, err
}

// send connects and makes a request, the answer to which is not waited for.
func (p *process) send() net.Conn {
	p.t.Helper()
	conn, err := p.dial()
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", lookup)
	return conn
}

// get makes one request on a connection of its own and returns the worker that answered.
func (p *process) get(path string) (worker int, err error) {
	conn, err := p.dial()
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
	return answer(conn)
}

func answer(conn net.Conn) (worker int, err error) {
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if resp.StatusCode >= 300 {
		return 0, fmt.Errorf("%s: %s", resp.Status, body)
	}
	worker, _ = strconv.Atoi(resp.Header.Get("X-Worker"))
	return worker, err
}

// load makes requests from clients goroutines until stop is called, which returns how many there were. Each failure
// fails the test.
func (p *process) load(clients int, path string) (stop func() int) {
	var n atomic.Int64
	done := make(chan bool)
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if _, err := p.get(path); err != nil {
					p.t.Errorf("request %d: %v", n.Load(), err)
					return
				}
				n.Add(1)
			}
		})
	}
	return func() int {
		close(done)
		all.Wait()
		return int(n.Load())
	}
}

const lookup = "/api/farmer/lookup?name=ma"

func TestWorkersComeAndGoUnderLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: 30 rounds of 2 -> 6 -> 2 workers")
	}
	for _, listen := range []string{"127.0.0.1:0", "unix:" + filepath.Join(t.TempDir(), "s")} {
		rounds := 30
		if strings.HasPrefix(listen, "unix:") {
			rounds = 5
		}
		p := start(t, "--db", makeDB(t), "--listen", listen, "--workers", "2", "--think", "5ms")
		p.serving(2)
		stop := p.load(8, lookup)
		for range rounds {
			for n := 3; n <= 6; n++ {
				p.signal(unix.SIGTTIN)
				p.serving(n)
			}
			for n := 5; n >= 2; n-- {
				p.signal(unix.SIGTTOU)
				p.serving(n)
			}
		}
		t.Logf("%s: %d requests, none failed, in %d rounds", listen, stop(), rounds)
		p.signal(unix.SIGTERM)
		p.ends()
	}
}

func TestTheLastWorkerStays(t *testing.T) {
	p := start(t, "--db", makeDB(t), "--listen", "127.0.0.1:0", "--workers", "2")
	p.serving(2)
	for range 3 {
		p.signal(unix.SIGTTOU)
		p.serving(1)
	}
	if _, err := p.get("/web/health"); err != nil {
		t.Error(err)
	}
	p.signal(unix.SIGTTIN)
	p.serving(2)
}

// The worker that is in the middle of a request is not the one that goes.
func TestTheIdleOneGoes(t *testing.T) {
	p := start(t, "--db", makeDB(t), "--listen", "127.0.0.1:0", "--workers", "3", "--think", "1s")
	p.serving(3)
	// Whoever takes it, a held connection makes one worker busy: nothing but silence comes from it, for 2 s.
	conn := p.send()
	var busy int
	eventually(t, "a worker holds the connection", func() bool { busy = p.holder(); return busy != 0 })
	p.signal(unix.SIGTTOU)
	p.serving(2)
	if !slices.Contains(p.workers(), busy) {
		t.Errorf("the busy worker %d went, %v stayed", busy, p.workers())
	}
	if worker, err := answer(conn); err != nil || worker != busy {
		t.Errorf("answered by %d (%v), want %d", worker, err, busy)
	}
}

// holder returns the worker that has more sockets than the others: the one with a connection.
func (p *process) holder() int {
	count := map[int]int{}
	least := 1 << 30
	for _, pid := range p.workers() {
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		for _, fd := range fds {
			if to, _ := os.Readlink(fd); strings.HasPrefix(to, "socket:") {
				count[pid]++
			}
		}
		least = min(least, count[pid])
	}
	for pid, n := range count {
		if n > least {
			return pid
		}
	}
	return 0
}

func TestAKilledWorkerIsReplaced(t *testing.T) {
	p := start(t, "--db", makeDB(t), "--listen", "127.0.0.1:0", "--workers", "2")
	p.serving(2)
	for range 3 {
		victim := p.workers()[0]
		if err := unix.Kill(victim, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, "another worker", func() bool {
			now := p.workers()
			return len(now) == 2 && !slices.Contains(now, victim)
		})
		p.serving(2)
	}
	if !strings.Contains(p.text(), "died (signal: killed)") {
		t.Error("the log does not say that a worker died")
	}
}

// Workers that cannot start are tried again, at a slowing pace, and serve once they can.
func TestWorkersThatCannotStart(t *testing.T) {
	db := makeDB(t)
	p := start(t, "--db", db, "--listen", "127.0.0.1:0", "--workers", "1")
	p.serving(1)
	if err := os.Rename(db, db+".away"); err != nil {
		t.Fatal(err)
	}
	unix.Kill(p.workers()[0], unix.SIGKILL)
	eventually(t, "three failures", func() bool { return strings.Count(p.text(), "there is no registry at") >= 3 })
	if n := strings.Count(p.text(), "started"); n > 6 {
		t.Errorf("%d starts for 3 failures", n)
	}
	if err := os.Rename(db+".away", db); err != nil {
		t.Fatal(err)
	}
	p.serving(1)
	if _, err := p.get(lookup); err != nil {
		t.Error(err)
	}
}

// Signals that mean something to a master, sent to one of its workers or to a single one by mistake.
func TestAWrongPidIsHarmless(t *testing.T) {
	p := start(t, "--db", makeDB(t), "--listen", "127.0.0.1:0", "--workers", "1")
	p.serving(1)
	worker := p.workers()[0]
	for _, s := range []syscall.Signal{unix.SIGTTIN, unix.SIGTTOU, unix.SIGHUP, unix.SIGINT} {
		unix.Kill(worker, s)
		if got, err := p.get(lookup); err != nil || got != worker {
			t.Errorf("after %v: answered by %d, %v", s, got, err)
		}
	}
	single := start(t, "--db", makeDB(t), "--listen", "127.0.0.1:0")
	for _, s := range []syscall.Signal{unix.SIGTTIN, unix.SIGTTOU} {
		single.signal(s)
		if _, err := single.get(lookup); err != nil {
			t.Errorf("single worker after %v: %v", s, err)
		}
	}
}

func TestHUPReplacesAll(t *testing.T) {
	p := start(t, "--db", makeDB(t), "--listen", "127.0.0.1:0", "--workers", "3", "--think", "2ms")
	p.serving(3)
	old := p.workers()
	stop := p.load(4, lookup)
	p.signal(unix.SIGHUP)
	eventually(t, "new workers", func() bool {
		now := p.workers()
		if len(now) < 3 || len(now) > 4 {
			t.Errorf("%d workers meanwhile", len(now))
		}
		return len(now) == 3 && !slices.ContainsFunc(now, func(pid int) bool { return slices.Contains(old, pid) })
	})
	p.serving(3)
	t.Logf("%d requests, none failed", stop())
}

// Everybody who is in the queue when the end is announced gets an answer; then the port and the files are free.
func TestTheEndAnswersTheQueue(t *testing.T) {
	for name, workers := range map[string][]string{"single": nil, "prefork": {"--workers", "2"}} {
		for _, end := range []syscall.Signal{unix.SIGTERM, unix.SIGINT} {
			for _, unixSocket := range []bool{false, true} {
				t.Run(fmt.Sprint(name, " ", end, " unix=", unixSocket), func(t *testing.T) {
					dir := t.TempDir()
					listen, pidFile := "127.0.0.1:0", filepath.Join(dir, "pid")
					if unixSocket {
						listen = "unix:" + filepath.Join(dir, "s")
					}
					args := append([]string{"--db", makeDB(t), "--think", "20ms", "--pid-file", pidFile}, workers...)
					p := start(t, append(args, "--listen", listen)...)
					if text, _ := os.ReadFile(pidFile); string(text) != fmt.Sprintln(p.cmd.Process.Pid) {
						t.Errorf("pid file holds %q, want %d", text, p.cmd.Process.Pid)
					}
					if workers != nil {
						p.serving(2)
					}
					var queue []net.Conn
					for range 20 {
						queue = append(queue, p.send())
					}
					p.signal(end)
					for i, conn := range queue {
						if _, err := answer(conn); err != nil {
							t.Errorf("request %d: %v", i, err)
						}
					}
					p.ends()
					if left, _ := os.ReadDir(dir); len(left) != 0 {
						t.Errorf("left behind: %v", left)
					}
					again := start(t, append(args, "--listen", p.address)...)
					if _, err := again.get(lookup); err != nil {
						t.Errorf("started again on %s: %v", p.address, err)
					}
				})
			}
		}
	}
}

// One that is still answering does not take away the socket that its successor has put in the same place.
func TestASuccessorKeepsItsSocket(t *testing.T) {
	for _, workers := range [][]string{nil, {"--workers", "1"}} {
		path := filepath.Join(t.TempDir(), "s")
		args := append([]string{"--db", makeDB(t), "--listen", "unix:" + path, "--think", "1s"}, workers...)
		first := start(t, args...)
		if _, err := first.get("/web/health"); err != nil {
			t.Fatal(err)
		}
		inHand := first.send()
		first.signal(unix.SIGTERM)
		eventually(t, "the first one's socket is away", func() bool { _, err := os.Stat(path); return err != nil })
		second := start(t, args...)
		if _, err := answer(inHand); err != nil {
			t.Errorf("%v: the first one's last request: %v", workers, err)
		}
		first.ends()
		if _, err := second.get("/web/health"); err != nil {
			t.Errorf("%v: %v", workers, err)
		}
	}
}

func TestEndAtOnce(t *testing.T) {
	for name, signals := range map[string][]syscall.Signal{"SIGQUIT": {unix.SIGQUIT}, "SIGTERM twice": {unix.SIGTERM, unix.SIGINT}} {
		t.Run(name, func(t *testing.T) {
			p := start(t, "--db", makeDB(t), "--listen", "127.0.0.1:0", "--workers", "2", "--think", "1h")
			p.serving(2)
			p.send()
			eventually(t, "a worker holds the connection", func() bool { return p.holder() != 0 })
			for _, s := range signals {
				p.signal(s)
			}
			p.ends()
		})
	}
}

// A master that is killed takes its workers along, gracefully: nothing holds the port.
func TestAKilledMasterLeavesNoWorkers(t *testing.T) {
	db := makeDB(t)
	p := start(t, "--db", db, "--listen", "127.0.0.1:0", "--workers", "3", "--think", "20ms")
	p.serving(3)
	workers := p.workers()
	var queue []net.Conn
	for range 10 {
		queue = append(queue, p.send())
	}
	p.signal(unix.SIGKILL)
	<-p.exited
	for i, conn := range queue {
		if _, err := answer(conn); err != nil {
			t.Errorf("request %d: %v", i, err)
		}
	}
	eventually(t, "no workers", func() bool {
		return !slices.ContainsFunc(workers, func(pid int) bool {
			line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			return bytes.HasPrefix(line, []byte("registry\x00worker\x00"))
		})
	})
	again := start(t, "--db", db, "--listen", p.address, "--workers", "1")
	if _, err := again.get(lookup); err != nil {
		t.Error(err)
	}
}

// A worker that does not react to being told to leave is killed when its grace is over.
func TestAStuckWorkerIsKilled(t *testing.T) {
	p := start(t, "--db", makeDB(t), "--listen", "127.0.0.1:0", "--workers", "1", "--grace", "100ms")
	p.serving(1)
	first := p.workers()[0]
	p.signal(unix.SIGTTIN)
	p.serving(2)
	for _, pid := range p.workers() {
		if pid != first {
			unix.Kill(pid, unix.SIGSTOP) // the newest: it is the one to go
		}
	}
	p.signal(unix.SIGTTOU)
	// The worker is gone a moment before the master has said so.
	eventually(t, "it is killed, and told of", func() bool { return strings.Contains(p.text(), "did not finish in time") })
	p.serving(1)
	if p.workers()[0] != first {
		t.Errorf("%v are left, the first was %d", p.workers(), first)
	}
}

func TestOneWorkerServesOneAfterTheOther(t *testing.T) {
	const think = 50 * time.Millisecond
	for _, args := range [][]string{nil, {"--workers", "1"}} {
		p := start(t, append([]string{"--db", makeDB(t), "--listen", "127.0.0.1:0", "--think", think.String()}, args...)...)
		var all sync.WaitGroup
		begin := time.Now()
		for range 2 {
			all.Go(func() {
				if _, err := p.get(lookup); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if took := time.Since(begin); took < 2*think {
			t.Errorf("%v: two requests of %v took %v: they were served at once", args, think, took)
		}
	}
}

// Six workers write to one file at once, much faster than 50 a second, and none is turned away.
func TestWritersDoNotGetInEachOthersWay(t *testing.T) {
	db := makeDB(t)
	p := start(t, "--db", db, "--listen", "127.0.0.1:0", "--workers", "6")
	p.serving(6)
	const clients, each = 12, 25
	var all sync.WaitGroup
	seen := make([]map[string]bool, clients)
	begin := time.Now()
	for c := range clients {
		seen[c] = map[string]bool{}
		all.Go(func() {
			for i := range each {
				body, _ := json.Marshal(registry.Fields{"given_name": "Mere", "family_name": "Tuatai", "birth_date": "1978-03-09", "sex": "female",
					"national_id": fmt.Sprint("CK-", c, "-", i), "village": "Avarua"})
				resp, err := http.Post("http://"+p.address+"/api/farmer", "application/json", bytes.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				text, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				if resp.StatusCode != http.StatusCreated {
					t.Errorf("%s: %s", resp.Status, text)
				}
				seen[c][resp.Header.Get("X-Worker")] = true
			}
		})
	}
	all.Wait()
	t.Logf("%d farmers a second", int(clients*each/time.Since(begin).Seconds()))
	for c := 1; c < clients; c++ {
		for worker := range seen[c] {
			seen[0][worker] = true
		}
	}
	if len(seen[0]) < 2 {
		t.Errorf("only %d worker wrote", len(seen[0]))
	}
	p.signal(unix.SIGTERM)
	p.ends()
	s, err := sqlite.Open(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if n, err := s.Counts(t.Context()); n["farmer"] != 100+clients*each || err != nil {
		t.Errorf("%d farmers are stored (%v), want %d", n["farmer"], err, 100+clients*each)
	}
}

// BenchmarkStart measures from exec to the first answered request.
func BenchmarkStart(b *testing.B) {
	path := filepath.Join(b.TempDir(), "farmers.db")
	if err := sqlite.Create(b.Context(), path, func(s *store.Store) error { return seed.Fill(b.Context(), s, seed.Farmers(1, 20_000), nil) }); err != nil {
		b.Fatal(err)
	}
	for i := 0; b.Loop(); i++ {
		socket := filepath.Join(b.TempDir(), strconv.Itoa(i))
		cmd := exec.Command(program, "serve", "--db", path, "--listen", "unix:"+socket)
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		p := &process{address: "unix:" + socket}
		for {
			if _, err := p.get("/web/health"); err == nil {
				break
			}
			time.Sleep(time.Millisecond / 2)
		}
		b.StopTimer()
		cmd.Process.Signal(unix.SIGTERM)
		if err := cmd.Wait(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
