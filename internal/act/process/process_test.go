package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tidemark/internal/act/copies"
	"tidemark/internal/fleet"
	"tidemark/test/servers"
)

// fails scales with a deadline, expects an error with all the words, and returns it.
func fails(t *testing.T, target *Target, n int, within time.Duration, words ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	err := target.Scale(ctx, n, nil)
	if err == nil {
		t.Fatalf("scale to %d: no error", n)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("scale to %d: %q is not in: %v", n, w, err)
		}
	}
}

func TestCommandMissing(t *testing.T) {
	cfg := fastConfig(t, 3)
	cfg.Command[0] = "/nonexistent/app"
	target := start(t, cfg, stateDir(t))
	fails(t, target, 2, time.Minute, "/nonexistent/app", "no such file")
	if ws := workers(t, target); len(ws) != 0 {
		t.Errorf("slots were taken for a command that does not exist: %+v", ws)
	}
}

// A command that cannot run or that ends at once is reported with its last lines, and is not forked without end.
func TestCommandFails(t *testing.T) {
	dir := t.TempDir()
	write := func(name, body string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(body), 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct {
		name, program string
		words         []string
	}{
		{"exits at once", write("exits", "#!/bin/sh\nfor i in 1 2 3 4 5 6 7; do echo line $i; done\necho \"no such database: dfr\" >&2\nexit 3\n"),
			[]string{"exited with status 3", "no such database: dfr", "line 7", "again after"}},
		{"interpreter missing", write("shebang", "#!/nonexistent/python\n"), []string{"status 127", "cannot run", "interpreter"}},
		{"no program", write("junk", "\x00\x01\x02"), []string{"status 126", "exec format error"}},
		{"killed", write("killed", "#!/bin/sh\nkill -SEGV $$\n"), []string{"was killed by SIGSEGV"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := fastConfig(t, 1)
			cfg.Command = []string{c.program, "{port}"}
			cfg.Restart = Restart{BackoffMin: 100 * time.Millisecond, BackoffMax: time.Minute}
			target := start(t, cfg, stateDir(t))
			began := time.Now()
			fails(t, target, 1, time.Minute, c.words...)
			if n := target.Status().Restarts; n < givenUp || n > 3+int(time.Since(began)/(100*time.Millisecond)) {
				t.Errorf("started %d times in %v", n, time.Since(began))
			}
			ws := workers(t, target)
			if len(ws) != 1 || ws[0].Phase != fleet.Starting || ws[0].Detail == "" {
				t.Errorf("%+v", ws)
			}
			scale(t, target, 0)
		})
	}
}

// A folder that is missing is said, too.
func TestDirMissing(t *testing.T) {
	cfg := fastConfig(t, 1)
	cfg.Dir = "/nonexistent/dir"
	fails(t, start(t, cfg, stateDir(t)), 1, time.Minute, "/nonexistent/dir", "no such file")
}

// listen serves HTTP 200 on a port, as a program that is none of ours.
func listen(t *testing.T, address string) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
}

func TestPortTaken(t *testing.T) {
	cfg := fastConfig(t, 2)
	target := start(t, cfg, stateDir(t))
	listen(t, cfg.address(1))
	fails(t, target, 1, time.Minute, cfg.address(1)+" is taken by", fmt.Sprintf("(pid %d)", os.Getpid()))
	if len(onMachine(target.opts.StateDir)) != 0 {
		t.Error("a worker was started on a port that is taken")
	}
}

// What answers on the worker's port must be the worker.
func TestForeignAnswer(t *testing.T) {
	cfg := fastConfig(t, 1)
	cfg.Command = []string{"/bin/sh", "-c", "exec sleep 600", "{port}"}
	target := start(t, cfg, stateDir(t))
	says := func(what string) func() bool {
		return func() bool {
			w := workers(t, target)[0]
			if w.Phase == fleet.Serving {
				t.Fatalf("it serves by another's answer: %+v", w)
			}
			return strings.Contains(w.Detail, what)
		}
	}
	fails(t, target, 1, 50*time.Millisecond, "0 of 1 workers serve")
	eventually(t, "it does not listen", says("does not listen on "+cfg.address(1)))
	listen(t, cfg.address(1))
	eventually(t, "another answers", says("which is not this worker"))
}

// A worker that does not stop is killed as the last resort, and that is reported.
func TestDeafWorkerIsKilled(t *testing.T) {
	cfg := fastConfig(t, 1, "-deaf")
	cfg.StopTimeout = 200 * time.Millisecond
	target := start(t, cfg, stateDir(t))
	scale(t, target, 1)
	scale(t, target, 0)
	if s := target.Status(); s.Killed != 1 || !strings.Contains(s.LastKill, "slot-1 did not stop within 200ms of SIGTERM") {
		t.Errorf("%+v", s)
	}
	if left := onMachine(target.opts.StateDir); len(left) > 0 {
		t.Errorf("left behind: %+v", left)
	}
}

// What a worker leaves running is stopped after it, whether it left or died, and whether or not a daemon watched.
func TestLeftBehind(t *testing.T) {
	dir := stateDir(t)
	cfg := fastConfig(t, 1, "-child")
	target := start(t, cfg, dir)
	scale(t, target, 1)
	count := func(n int) func() bool { return func() bool { return len(onMachine(dir)) == n } }
	eventually(t, "the worker has a child", count(2))

	old := onMachine(dir)
	kill(t, workers(t, target)[0])
	replaced := func() bool {
		now := onMachine(dir)
		for _, o := range old {
			for _, n := range now {
				if o.identity == n.identity {
					return false
				}
			}
		}
		return len(now) == 2
	}
	eventually(t, "the worker and its child are replaced", replaced)

	scale(t, target, 1)
	old = onMachine(dir)
	w := workers(t, target)[0]
	if err := target.Close(); err != nil {
		t.Fatal(err)
	}
	kill(t, w)
	target = start(t, cfg, dir)
	eventually(t, "the worker that died unwatched and its child are replaced", replaced)

	scale(t, target, 1)
	scale(t, target, 0)
	if !count(0)() {
		t.Errorf("left behind: %+v", onMachine(dir))
	}
}

func kill(t *testing.T, w fleet.Worker) {
	t.Helper()
	if err := syscall.Kill(w.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// A worker that never becomes healthy is replaced after its grace.
func TestStartGrace(t *testing.T) {
	cfg := fastConfig(t, 1, "-spoil=/")
	cfg.StartGrace = 300 * time.Millisecond
	target := start(t, cfg, stateDir(t))
	fails(t, target, 1, time.Minute, "was not healthy within 300ms")
	if n := target.Status().Restarts; n < givenUp {
		t.Errorf("replaced %d times", n)
	}
}

// When all workers become unhealthy at once, they are not all taken away at once.
func TestUnhealthyOneAtATime(t *testing.T) {
	const n = 3
	dir, spoil := stateDir(t), filepath.Join(t.TempDir(), "spoil")
	cfg := fastConfig(t, n, "-spoil="+spoil)
	cfg.Health.UnhealthyAfter = 200 * time.Millisecond
	target := start(t, cfg, dir)
	scale(t, target, n)
	before := pids(workers(t, target))
	if err := os.WriteFile(spoil+".now", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	changed := func() (c int) {
		for id, pid := range pids(workers(t, target)) {
			if before[id] != pid {
				c++
			}
		}
		return c
	}
	eventually(t, "none serves", func() bool { return fleet.Count(workers(t, target)).Serving == 0 })
	eventually(t, "the first was replaced", func() bool { return changed() == 1 })
	eventually(t, "another waits for it", func() bool {
		waiting := 0
		for _, w := range workers(t, target) {
			if strings.Contains(w.Detail, "is replaced") {
				waiting++
			}
		}
		return waiting == n-1
	})
	if changed() != 1 {
		t.Errorf("%d workers were replaced", changed())
	}
	if err := os.Remove(spoil + ".now"); err != nil {
		t.Fatal(err)
	}
	scale(t, target, n)
	if changed() != 1 {
		t.Errorf("%d workers were replaced", changed())
	}
}

// A short illness takes a worker out of service and leaves it alive.
func TestUnhealthyRecovers(t *testing.T) {
	spoil := filepath.Join(t.TempDir(), "spoil")
	target := start(t, fastConfig(t, 2, "-spoil="+spoil), stateDir(t))
	scale(t, target, 2)
	before := pids(workers(t, target))
	if err := os.WriteFile(spoil+".now", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "none serves", func() bool { return fleet.Count(workers(t, target)).Serving == 0 })
	for _, w := range workers(t, target) {
		if !strings.Contains(w.Detail, "503") || w.Phase != fleet.Starting {
			t.Errorf("%+v", w)
		}
	}
	if err := os.Remove(spoil + ".now"); err != nil {
		t.Fatal(err)
	}
	scale(t, target, 2)
	for id, pid := range pids(workers(t, target)) {
		if before[id] != pid {
			t.Errorf("%s was replaced", id)
		}
	}
}

// The record of another boot, or of a pid that is used again, names nobody: nothing is signalled, and the slot is filled.
func TestRecordOfAnother(t *testing.T) {
	self := mustStat(t, os.Getpid())
	for name, b := range map[string]identity{
		"another boot":   {PID: os.Getpid(), Start: self.Start, BootID: "00000000-0000-0000-0000-000000000000"},
		"pid used again": {PID: os.Getpid(), Start: self.Start - 1, BootID: mustBoot(t)},
		"pid is free":    {PID: 1 << 30, Start: 1, BootID: mustBoot(t)},
	} {
		t.Run(name, func(t *testing.T) {
			dir := stateDir(t)
			cfg := fastConfig(t, 1)
			r := records{filepath.Join(dir, "test")}
			if err := os.MkdirAll(r.dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := r.writeWish(1, wish{Serving: true}); err != nil {
				t.Fatal(err)
			}
			if err := writeJSON(r.path(1, "pid"), birth{identity: b, Address: cfg.address(1)}); err != nil {
				t.Fatal(err)
			}
			target := start(t, cfg, dir)
			if w := workers(t, target); len(w) != 1 || w[0].Phase != fleet.Starting {
				t.Fatalf("%+v", w)
			}
			eventually(t, "the slot is filled", func() bool { return fleet.Count(workers(t, target)).Serving == 1 })
			if w := workers(t, target)[0]; w.PID == b.PID {
				t.Errorf("%+v", w)
			}
		})
	}
}

// A damaged record stops the start: to guess could double a worker.
func TestDamagedRecord(t *testing.T) {
	dir := stateDir(t)
	cfg := fastConfig(t, 2)
	target := start(t, cfg, dir)
	scale(t, target, 2)
	if err := target.Close(); err != nil {
		t.Fatal(err)
	}
	path := target.records.path(2, "pid")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "{", "{}", `{"pid":-1,"start_ticks":1,"boot_id":"x"}`, "\x00\x00"} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := target.Start(t.Context()); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: %v", bad, err)
		}
		if _, err := target.Workers(t.Context()); err == nil {
			t.Error("a target that did not start reports workers")
		}
	}
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := target.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	scale(t, target, 2)
}

func TestSecondDaemonIsRefused(t *testing.T) {
	dir := stateDir(t)
	cfg := fastConfig(t, 1)
	start(t, cfg, dir)
	second, err := New(cfg, fastOptions(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := second.Start(ctx); err == nil || !strings.Contains(err.Error(), "supervised by another daemon") {
		t.Error(err)
	}
}

// What cannot be recorded is not done.
func TestRecordCannotBeWritten(t *testing.T) {
	dir := stateDir(t)
	cfg := fastConfig(t, 3)
	target := start(t, cfg, dir)
	scale(t, target, 1)
	before := workers(t, target)
	eventually(t, "that it serves is on record", func() bool { w, err := target.records.readWish(1); return err == nil && w.Serving })
	block := func(slot int, ext string) (unblock func()) {
		path := target.records.path(slot, ext) + ".tmp"
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		return func() {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	unblock := block(2, "json") // a new slot
	fails(t, target, 2, time.Minute, "write a worker's record")
	if len(workers(t, target)) != 1 {
		t.Error("a worker was started that is not on record")
	}
	unblock()

	unblock = block(1, "json") // a worker that is to leave
	fails(t, target, 0, time.Minute, "goes on serving", "write a worker's record")
	if ws := workers(t, target); len(ws) != 1 || ws[0] != before[0] {
		t.Errorf("%+v, want %+v", ws, before)
	}
	unblock()

	unblock = block(2, "pid") // the shim's
	fails(t, target, 2, time.Minute, "not started, because it could not be found again")
	if n := len(onMachine(dir)); n != 1 {
		t.Errorf("%d processes", n)
	}
	unblock()
	eventually(t, "slot 2 is filled", func() bool { return fleet.Count(workers(t, target)).Serving == 2 })
}

func TestUnixSocket(t *testing.T) {
	dir := stateDir(t)
	cfg := fastConfig(t, 3)
	cfg.Command = []string{testBinary(t), "test-worker", "-listen=unix:{socket}"}
	cfg.Ports, cfg.Socket = copies.Ports{}, filepath.Join(dir, "w{slot}.sock")
	cfg.Health.Path = ""
	target := start(t, cfg, dir)
	scale(t, target, 2)
	w := workers(t, target)[0]
	if w.Address != "unix:"+filepath.Join(dir, "w1.sock") {
		t.Errorf("%+v", w)
	}
	kill(t, w) // and its socket file stays
	eventually(t, "it is replaced", func() bool {
		ws := workers(t, target)
		return fleet.Count(ws).Serving == 2 && ws[0].PID != w.PID
	})
	// A file that is no socket is not removed.
	mine := filepath.Join(dir, "w3.sock")
	if err := os.WriteFile(mine, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	fails(t, target, 3, time.Minute, "is in the way")
	if _, err := os.Stat(mine); err != nil {
		t.Error(err)
	}
	scale(t, target, 0)
}

func TestSocketTaken(t *testing.T) {
	dir := stateDir(t)
	cfg := fastConfig(t, 1)
	cfg.Command = []string{testBinary(t), "test-worker", "-listen=unix:{socket}"}
	cfg.Ports, cfg.Socket = copies.Ports{}, filepath.Join(dir, "w{slot}.sock")
	l, err := net.Listen("unix", filepath.Join(dir, "w1.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	fails(t, start(t, cfg, dir), 1, time.Minute, "is taken by")
}

// A worker that was started with another configuration is kept, at its own address, and says so.
func TestEarlierConfiguration(t *testing.T) {
	dir := stateDir(t)
	cfg := fastConfig(t, 2)
	target := start(t, cfg, dir)
	scale(t, target, 1)
	before := workers(t, target)[0]
	if err := target.Close(); err != nil {
		t.Fatal(err)
	}
	cfg.Env["RELEASE"] = "2"
	cfg.Ports = copies.Ports{First: servers.FreePorts(t, 2)}
	target = start(t, cfg, dir)
	scale(t, target, 2)
	ws := workers(t, target)
	if ws[0].PID != before.PID || ws[0].Address != before.Address || !strings.Contains(ws[0].Detail, "earlier configuration") {
		t.Errorf("before %+v, after %+v", before, ws[0])
	}
	if ws[1].Detail != "" || ws[1].Address != cfg.address(2) {
		t.Errorf("%+v", ws[1])
	}
}

// A worker has its own session, no standard input, its environment, and the descriptors it should have.
func TestWorkerSurroundings(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "/run/systemd/notify")
	t.Setenv("INHERITED", "yes")
	t.Setenv("WHOSE", "the daemon's")
	dir, out := stateDir(t), filepath.Join(t.TempDir(), "out")
	cfg := fastConfig(t, 1)
	cfg.Dir = filepath.Dir(out)
	cfg.Env["WHOSE"], cfg.Env["AT"] = "slot {slot}", "{port}"
	cfg.Command = []string{"/bin/sh", "-c", `env >env.tmp; ls -l /proc/$$/fd >fds; pwd >pwd; mv env.tmp env; exec "$0" test-worker -listen=127.0.0.1:"$1"`, testBinary(t), "{port}"}
	target := start(t, cfg, dir)
	scale(t, target, 1)
	w := workers(t, target)[0]
	if s := mustStat(t, w.PID); s.Session != w.PID {
		t.Errorf("session %d of process %d", s.Session, w.PID)
	}
	env, err := os.ReadFile(filepath.Join(cfg.Dir, "env"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"INHERITED=yes\n", "WHOSE=slot 1\n", fmt.Sprintf("AT=%d\n", cfg.Ports.First), "TIDEMARK_SLOT=" + dir} {
		if !strings.Contains(string(env), want) {
			t.Errorf("no %q in the environment:\n%s", want, env)
		}
	}
	if strings.Contains(string(env), "NOTIFY_SOCKET") {
		t.Error("the worker could speak to systemd for the daemon")
	}
	fds, err := os.ReadFile(filepath.Join(cfg.Dir, "fds"))
	if err != nil {
		t.Fatal(err)
	}
	if s := string(fds); !strings.Contains(s, "0 -> /dev/null") || !strings.Contains(s, "2 -> "+target.logs) || strings.Contains(s, ".lock") {
		t.Errorf("descriptors:\n%s", s)
	}
}

func TestOwnCgroup(t *testing.T) {
	dir := stateDir(t)
	cfg := fastConfig(t, 1, "-child")
	cfg.Cgroup = "auto"
	target := start(t, cfg, dir)
	scale(t, target, 1)
	if why := target.Status().Cgroup; why != "" {
		t.Logf("not allowed here, and carried on without: %s", why)
		return
	}
	w := workers(t, target)[0]
	group := filepath.Join(target.cgroups, "slot-1")
	if m := cgroupMembers(group); !m[w.PID] || len(m) != 2 || m[os.Getpid()] {
		t.Errorf("%s has %v, want %d and its child", group, m, w.PID)
	}
	scale(t, target, 0)
	if _, err := os.Stat(target.cgroups); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is left behind: %v", target.cgroups, err)
	}
}

func TestLogRotates(t *testing.T) {
	path := filepath.Join(t.TempDir(), "w.log")
	if err := os.WriteFile(path, make([]byte, logRotateAt+1), 0o600); err != nil {
		t.Fatal(err)
	}
	f, size, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	old, err := os.Stat(path + ".1")
	if err != nil || size != 0 || old.Size() != logRotateAt+1 {
		t.Errorf("new log of %d bytes, old %v, %v", size, old, err)
	}
}

// Slots that leave are waited for when there is no other to take.
func TestSlotsRunOut(t *testing.T) {
	cfg := fastConfig(t, 2, "-deaf")
	cfg.StopTimeout = time.Second
	target := start(t, cfg, stateDir(t))
	fails(t, target, 3, time.Minute, "addresses for 2")
	scale(t, target, 2)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- target.Scale(ctx, 0, nil) }()
	eventually(t, "two workers are draining", func() bool {
		ws := workers(t, target)
		return len(ws) == 2 && ws[0].Phase == fleet.Draining && ws[1].Phase == fleet.Draining
	})
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	scale(t, target, 2)
}

// Close ends a Scale that waits, and leaves the workers.
func TestCloseEndsScale(t *testing.T) {
	dir := stateDir(t)
	cfg := fastConfig(t, 2, "-spoil=/")
	target := start(t, cfg, dir)
	done := make(chan error, 1)
	go func() { done <- target.Scale(context.Background(), 2, nil) }()
	eventually(t, "two workers are starting", func() bool {
		ws := workers(t, target)
		return len(ws) == 2 && ws[0].PID != 0 && ws[1].PID != 0
	})
	if err := target.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, errClosed) {
		t.Error(err)
	}
	if n := len(onMachine(dir)); n != 2 {
		t.Errorf("%d workers are left", n)
	}
	for _, f := range []func() error{
		func() error { return target.Scale(t.Context(), 1, nil) },
		func() error { _, err := target.Workers(t.Context()); return err },
	} {
		if err := f(); !errors.Is(err, errNotRunning) {
			t.Error(err)
		}
	}
	if err := target.Close(); err != nil {
		t.Error(err)
	}
}

// The daemon that follows finishes the stop that was begun, within the time that was left, without a second signal.
func TestStopIsContinued(t *testing.T) {
	dir := stateDir(t)
	cfg := fastConfig(t, 1)
	// It takes its time after the first TERM, and ends badly at a second.
	cfg.Command = []string{"/bin/sh", "-c", `trap 'if [ -e "$2" ]; then echo twice >>"$2"; fi; echo once >>"$2"' TERM
"$0" test-worker -listen=127.0.0.1:"$1" -deaf & while [ ! -e "$3" ]; do sleep 0.02; done; kill -9 $!; exit 0`,
		testBinary(t), "{port}", filepath.Join(dir, "signals"), filepath.Join(dir, "go")}
	target := start(t, cfg, dir)
	scale(t, target, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := target.Scale(ctx, 0, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	eventually(t, "the first signal has arrived", func() bool { _, err := os.Stat(filepath.Join(dir, "signals")); return err == nil })
	eventually(t, "the signal is on record", func() bool { w, err := target.records.readWish(1); return err == nil && w.StopSent > 0 })
	if err := target.Close(); err != nil {
		t.Fatal(err)
	}
	target = start(t, cfg, dir)
	if ws := workers(t, target); len(ws) != 1 || ws[0].Phase != fleet.Draining {
		t.Fatalf("%+v", ws)
	}
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is gone", func() bool { return len(workers(t, target)) == 0 })
	if b, err := os.ReadFile(filepath.Join(dir, "signals")); err != nil || string(b) != "once\n" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestNew(t *testing.T) {
	good := fastOptions(t, t.TempDir())
	for name, change := range map[string]func(*Config, *Options){
		"no command":     func(c *Config, _ *Options) { c.Command = nil },
		"no fleet":       func(_ *Config, o *Options) { o.Fleet = "" },
		"fleet is path":  func(_ *Config, o *Options) { o.Fleet = "a/b" },
		"fleet is up":    func(_ *Config, o *Options) { o.Fleet = ".." },
		"relative state": func(_ *Config, o *Options) { o.StateDir = "state" },
		"no shim":        func(_ *Config, o *Options) { o.Shim = nil },
	} {
		cfg, opts := fastConfig(t, 1), good
		change(&cfg, &opts)
		if _, err := New(cfg, opts); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// The records read back as they were written.
func TestRecords(t *testing.T) {
	r := records{t.TempDir()}
	w := wish{Serving: true, Leaving: true, StopSent: 7}
	b := birth{identity: identity{1, 2, "x"}, Address: "127.0.0.1:9001", Digest: "d", Cgroup: "/c", Started: time.Unix(3, 0).UTC()}
	if err := errors.Join(r.writeWish(12, w), writeJSON(r.path(12, "pid"), b)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"slot-3.json.tmp", "slot-x.json", "slot-0.json", "slot-4.lock", "lock", "slot-5.txt"} {
		if err := os.WriteFile(filepath.Join(r.dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if slots, err := r.list(); err != nil || len(slots) != 1 || !slots[12] {
		t.Errorf("%v, %v", slots, err)
	}
	if got, err := r.readWish(12); err != nil || got != w {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := r.readBirth(12); err != nil || got != b {
		j, _ := json.Marshal(got)
		t.Errorf("%s, %v", j, err)
	}
	if got, err := r.readWish(13); err != nil || got != (wish{}) {
		t.Errorf("%+v, %v", got, err)
	}
}
