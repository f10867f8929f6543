package prefork

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tidemark/internal/fleet"
	"tidemark/test/servers"
)

const gunicornApp = `import os, time

def app(environ, start_response):
    time.sleep(0.01)
    body = b"worker %d" % os.getpid()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
`

// startGunicorn starts the real one with two sync workers and returns its pid file.
func startGunicorn(t *testing.T, addr string) (pidFile string) {
	t.Helper()
	program := needs(t, "gunicorn")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "app.py"), []byte(gunicornApp), 0o600); err != nil {
		t.Fatal(err)
	}
	pidFile = filepath.Join(dir, "gunicorn.pid")
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "--bind", addr, "--workers", "2", "--pid", pidFile, "--worker-tmp-dir", dir, "--log-level", "warning", "app:app")
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if text, _ := os.ReadFile(log.Name()); t.Failed() {
			t.Logf("gunicorn's log:\n%s", text)
		}
		log.Close()
	})
	return pidFile
}

func TestGunicorn(t *testing.T) {
	t.Parallel()
	addr := servers.FreeAddress(t)
	pidFile := startGunicorn(t, addr)
	target := newTarget(t, testConfig("gunicorn", pidFile))
	eventually(t, "two workers run", func() bool { workers, err := target.Workers(t.Context()); return err == nil && len(workers) == 2 })
	l := startLoad("http://"+addr, 50)
	scale(t, target, 3)
	scale(t, target, 1)

	// A reload starts the configured number beside the old ones, and counts from there.
	v, err := target.look()
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(v.master.pid, syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the old worker has gone", func() bool {
		now, err := target.look()
		return err == nil && len(now.workers) == 2 && now.remain(v.workers) == 0
	})
	retry(t, target, 1)
	retry(t, target, 2)

	// The master that replaces it is its child, and no worker.
	if err := syscall.Kill(v.master.pid, syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	successor := testConfig("gunicorn", pidFile+".2")
	eventually(t, "the successor has two workers", func() bool {
		workers, err := newTarget(t, successor).Workers(t.Context())
		return err == nil && len(workers) == 2
	})
	defer func() {
		v, err := newTarget(t, successor).look()
		if err != nil {
			t.Error(err)
			return
		}
		_ = syscall.Kill(v.master.pid, syscall.SIGTERM)
		eventually(t, "the successor ends", func() bool { p, err := readProcess(v.master.pid); return err != nil || p.dead() })
	}()
	scale(t, target, 1)
	scale(t, newTarget(t, successor), 3)
	l.end(t)

	// Its workers handle SIGTTIN as it does, and are told from it all the same.
	if v, err = target.look(); err != nil {
		t.Fatal(err)
	}
	wrong := filepath.Join(t.TempDir(), "pid")
	if err := os.WriteFile(wrong, fmt.Append(nil, v.workers[0].pid), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := newTarget(t, testConfig("gunicorn", wrong)).Workers(t.Context()); err == nil || !strings.Contains(err.Error(), "it is one of the workers") {
		t.Errorf("Workers of a worker: %v", err)
	}
}

func TestGunicornUnderLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: a hundred times 2 -> 6 -> 2")
	}
	t.Parallel()
	addr := servers.FreeAddress(t)
	target := newTarget(t, testConfig("gunicorn", startGunicorn(t, addr)))
	eventually(t, "two workers serve", func() bool {
		workers, err := target.Workers(t.Context())
		return err == nil && fleet.Count(workers).Serving == 2
	})
	l := startLoad("http://"+addr, 50)
	start := time.Now()
	for range 100 {
		scale(t, target, 6)
		scale(t, target, 2)
	}
	t.Logf("100 times 2 -> 6 -> 2 in %s", time.Since(start).Round(time.Millisecond))
	l.end(t)
}
