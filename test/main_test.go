package test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"tidemark/internal/show/web"
)

// bin is the folder of the programs under test, built once.
var bin string

// roles are what this program is when a test, or a daemon under test, starts it: a worker, or a client.
var roles = map[string]func(args []string) error{"hold": hold, "work": work, "ask": ask}

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && roles[os.Args[1]] != nil {
		if err := roles[os.Args[1]](os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		syscall.Exit(0) // at once: what has the race detector in it would stay for a second, and a daemon waits for it
	}
	code, err := build(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func build(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "tidemark-test-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	bin = dir
	cmd := exec.Command("go", "build", "-o", dir, "../cmd/tidemark", "../cmd/registry")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	return m.Run(), nil
}

func program(name string) string { return filepath.Join(bin, name) }

// daemon is a running `tidemark run`.
type daemon struct {
	cmd    *exec.Cmd
	log    *strings.Builder
	client *web.Client
	ended  chan error
}

// startDaemon starts one and waits until it answers its operators.
func startDaemon(t testing.TB, config, socket string) *daemon {
	t.Helper()
	d := &daemon{cmd: daemonCommand(config), log: &strings.Builder{}, client: web.Dial(socket), ended: make(chan error, 1)}
	d.cmd.Stderr = d.log
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { d.ended <- d.cmd.Wait() }()
	t.Cleanup(d.kill)
	eventually(t, 20*time.Second, "the daemon answers", func() error {
		select {
		case err := <-d.ended:
			d.ended <- err
			t.Fatalf("the daemon ended: %v\n%s", err, d.log)
		default:
		}
		_, err := d.client.Status(t.Context())
		return err
	})
	return d
}

// kill is kill -9; twice is harmless.
func (d *daemon) kill() {
	_ = d.cmd.Process.Kill()
	d.ended <- <-d.ended
}

// eventually waits for something that a real process does, looking every few milliseconds.
func eventually(t testing.TB, limit time.Duration, what string, ok func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := ok()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("not within %v: %s: %v", limit, what, err)
		case <-ticker.C:
		}
	}
}

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
		t.Fatal(err)
	}
}

func daemonCommand(config string) *exec.Cmd {
	return exec.Command(program("tidemark"), "run", "-c", config)
}

// endAll ends what a daemon leaves running by design: each process that names dir in its command line.
func endAll(t *testing.T, dir string) {
	t.Helper()
	procs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range procs {
		b, err := os.ReadFile(p)
		if err != nil || !bytes.Contains(b, []byte(dir)) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(p)))
		if err != nil || pid == os.Getpid() {
			continue
		}
		if proc, err := os.FindProcess(pid); err == nil {
			_ = proc.Kill() // it may have ended by itself
		}
	}
}
