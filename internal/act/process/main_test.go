package process

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tidemark/internal/act/copies"
	"tidemark/internal/fleet"
	"tidemark/test/servers"
)

// The test binary is also the shim, the worker and the daemon that is killed.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "test-shim":
			os.Exit(ShimMain(os.Args[2:]))
		case "test-worker":
			os.Exit(workerMain(os.Args[2:]))
		case "test-daemon":
			os.Exit(daemonMain(os.Args[2:]))
		}
	}
	goleak.VerifyTestMain(m)
}

// workerMain is a small HTTP worker that stops gracefully. -spoil names a file: while it exists /health fails, and a
// worker that was started meanwhile stays so. -busy names a file: while it exists the worker computes.
func workerMain(args []string) int {
	f := flag.NewFlagSet("test-worker", flag.ExitOnError)
	listen := f.String("listen", "", "")
	spoil := f.String("spoil", "", "")
	deaf := f.Bool("deaf", false, "ignore TERM")
	child := f.Bool("child", false, "leave a child behind")
	_ = f.Parse(args)
	if *child {
		// It inherits the session and ignores what its parent does.
		if _, err := os.StartProcess("/bin/sleep", []string{"sleep", "600"}, &os.ProcAttr{Env: os.Environ(), Files: []*os.File{nil, os.Stdout, os.Stderr}}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	term := make(chan os.Signal, 1)
	if *deaf {
		signal.Ignore(syscall.SIGTERM)
	} else {
		signal.Notify(term, syscall.SIGTERM)
	}
	network, address := "tcp", *listen
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", path
	}
	l, err := net.Listen(network, address)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	exists := func(path string) bool { _, err := os.Stat(path); return path != "" && err == nil }
	spoiled := exists(*spoil)
	var busy atomic.Bool
	var inFlight atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("/health", func(w http.ResponseWriter, _ *http.Request) {
		if spoiled || exists(*spoil+".now") {
			http.Error(w, "spoiled", http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("/work", func(w http.ResponseWriter, r *http.Request) {
		inFlight.Add(1)
		defer inFlight.Add(-1)
		d, _ := time.ParseDuration(r.FormValue("d"))
		time.Sleep(d)
		fmt.Fprint(w, os.Getpid())
	})
	mux.HandleFunc("/busy", func(http.ResponseWriter, *http.Request) {
		if busy.CompareAndSwap(false, true) {
			go func() {
				for busy.Load() { //nolint:revive // the point is to burn CPU time
				}
			}()
		}
	})
	mux.HandleFunc("/idle", func(http.ResponseWriter, *http.Request) { busy.Store(false) })
	srv := &http.Server{Handler: mux}
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-term
		if n := inFlight.Load(); n > 0 {
			fmt.Println(n, "requests in flight at TERM")
		}
		_ = srv.Shutdown(context.Background())
	}()
	fmt.Printf("worker %d listens on %s\n", os.Getpid(), *listen)
	if err := srv.Serve(l); err != http.ErrServerClosed {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	<-done
	return 0
}

func testBinary(t testing.TB) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// fastConfig is a fleet of test workers with little patience.
func fastConfig(t *testing.T, slots int, args ...string) Config {
	t.Helper()
	c := DefaultConfig()
	c.Command = append([]string{testBinary(t), "test-worker", "-listen=127.0.0.1:{port}"}, args...)
	// A race-enabled worker need not look for leaks or make threads for two cores.
	c.Env = map[string]string{"GORACE": "atexit_sleep_ms=0", "GOMAXPROCS": "1"}
	first := servers.FreePorts(t, slots)
	c.Ports = copies.Ports{First: first, Last: first + slots - 1}
	c.Health = Health{Path: "/health", Interval: 50 * time.Millisecond, Timeout: 5 * time.Second, Failures: 3, UnhealthyAfter: 30 * time.Second}
	c.StopTimeout = 10 * time.Second
	c.Restart = Restart{BackoffMin: 50 * time.Millisecond, BackoffMax: 500 * time.Millisecond}
	c.Cgroup = "off"
	return c
}

func fastOptions(t *testing.T, dir string) Options {
	return Options{Fleet: "test", StateDir: dir, Shim: []string{testBinary(t), "test-shim"}}
}

// stateDir is a folder whose workers are all killed when the test ends.
func stateDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() { endAll(t, dir) })
	return dir
}

func endAll(t *testing.T, dir string) {
	for _, w := range onMachine(dir) {
		if p, err := hold(w.identity); err == nil {
			_ = p.signal(syscall.SIGKILL)
			<-p.ended
			_, _ = p.handle.Wait()
			p.release()
		}
	}
}

// seen is a process found on the machine, whatever the records say.
type seen struct {
	identity
	slot int
	main bool // the slot's main process
}

// onMachine finds every process that belongs to a fleet below dir, by its environment.
func onMachine(dir string) []seen {
	var out []seen
	boot, _ := bootID()
	for _, pid := range allPIDs() {
		s, err := readStat(pid)
		if err != nil || s.dead() {
			continue
		}
		env, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "environ"))
		for v := range bytes.SplitSeq(env, []byte{0}) {
			path, ok := strings.CutPrefix(string(v), markerName+"="+dir+"/")
			if !ok {
				continue
			}
			n, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), "slot-"), ".json"))
			out = append(out, seen{identity{pid, s.Start, boot}, n, s.Session == pid})
		}
	}
	return out
}

// start makes a target and starts it; it is closed when the test ends.
func start(t *testing.T, cfg Config, dir string) *Target {
	t.Helper()
	target, err := New(cfg, fastOptions(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	if err := target.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := target.Close(); err != nil {
			t.Error(err)
		}
	})
	return target
}

func scale(t *testing.T, target *Target, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := target.Scale(ctx, n, nil); err != nil {
		t.Fatalf("scale to %d: %v", n, err)
	}
}

func workers(t *testing.T, target *Target) []fleet.Worker {
	t.Helper()
	ws, err := target.Workers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return ws
}

// eventually polls what only an outside process can change.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("never came true: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func get(t *testing.T, w fleet.Worker, path string) {
	t.Helper()
	resp, err := http.Get("http://" + w.Address + path)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
}

func pids(ws []fleet.Worker) map[string]int {
	m := map[string]int{}
	for _, w := range ws {
		m[w.ID] = w.PID
	}
	return m
}
