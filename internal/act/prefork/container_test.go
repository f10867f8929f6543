package prefork

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
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

// job is what a daemon that is a process of its own is to do: to scale to each size.
type job struct {
	Config Config
	Proc   bool // it is in a pid namespace of its own, and needs /proc of that
	Sizes  []int
}

// runDaemon writes the workers that it sees after each size to its standard output.
func runDaemon() {
	var j job
	must(json.NewDecoder(os.Stdin).Decode(&j))
	if j.Proc {
		must(syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""))
		must(syscall.Mount("proc", "/proc", "proc", 0, ""))
	}
	target, err := New(j.Config)
	must(err)
	for _, n := range j.Sizes {
		must(target.Scale(context.Background(), n, nil))
		ws, err := target.Workers(context.Background())
		must(err)
		must(json.NewEncoder(os.Stdout).Encode(ws))
	}
}

// TestContainer: a master in a container, with pids of its own, is found through the engine and moved as any other: by its
// pids here, and through the engine by a daemon that is itself in a container, or that may not signal it.
func TestContainer(t *testing.T) {
	d := servers.StartDocker(t)
	dir := t.TempDir()
	program := filepath.Join(dir, "odoo-bin")
	if err := os.Symlink(os.Args[0], program); err != nil {
		t.Fatal(err)
	}
	d.Import(t, "odoo:1", program)
	binds := []string{dir + ":" + dir}
	for _, of := range []string{"/bin", "/lib", "/lib64", "/usr"} { // of this machine: what the test binary and a shell need
		if _, err := os.Stat(of); err == nil {
			binds = append(binds, of+":"+of+":ro")
		}
	}
	d.Create(t, "odoo", map[string]any{
		"Image": "odoo:1", "Cmd": []string{"/odoo-bin", "--workers=2"}, "OpenStdin": true,
		"Env":        []string{roleVar + "=master", addrVar + "=" + servers.FreeAddress(t), pidFileVar + "=" + filepath.Join(dir, "pid"), "GORACE=atexit_sleep_ms=0"},
		"HostConfig": map[string]any{"NetworkMode": "host", "Binds": binds},
	})
	cfg := DefaultConfig()
	cfg.Flavour, cfg.Container, cfg.Socket, cfg.Settle = "odoo", "odoo", d.Socket, 0
	target, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	if _, err := target.Workers(t.Context()); err == nil || !strings.Contains(err.Error(), "the container odoo does not run: it is created") {
		t.Fatalf("want an error that says that the container does not run, have %v", err)
	}
	restart := func() {
		t.Helper()
		if err := d.Call(http.MethodPost, "/containers/odoo/restart?t=0", nil, nil); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the master has two workers", func() bool {
			ws, err := target.Workers(t.Context())
			return err == nil && fleet.Count(ws).Serving == 2
		})
	}
	serve := func(n int) {
		t.Helper()
		if ws, err := target.Workers(t.Context()); err != nil || fleet.Count(ws).Serving != n {
			t.Fatalf("want %d serving workers, have %+v, %v", n, ws, err)
		}
	}
	restart()
	for _, n := range []int{4, 1} {
		if err := target.Scale(t.Context(), n, nil); err != nil {
			t.Fatalf("scale to %d: %v", n, err)
		}
		serve(n)
	}
	const nobody = 65534
	for _, c := range []struct {
		name string
		proc bool
		as   syscall.SysProcAttr
	}{
		{"daemon in a container", true, syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}},
		{"daemon that may not signal", false, syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody, Groups: []uint32{group(t, d.Socket)}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			restart() // another main process
			in, err := json.Marshal(job{cfg, c.proc, []int{3, 1}})
			if err != nil {
				t.Fatal(err)
			}
			daemon := exec.Command("/proc/self/exe") // whatever folder it is in
			daemon.Env, daemon.SysProcAttr, daemon.Dir = append(os.Environ(), roleVar+"=daemon"), &c.as, "/"
			daemon.Stdin = bytes.NewReader(in)
			var said bytes.Buffer
			daemon.Stderr = &said
			out, err := daemon.Output()
			if err != nil {
				t.Fatalf("%v: %s", err, said.Bytes())
			}
			for answers := json.NewDecoder(bytes.NewReader(out)); answers.More(); {
				var ws []fleet.Worker
				if err := answers.Decode(&ws); err != nil {
					t.Fatal(err)
				}
				for _, w := range ws {
					if w.Phase != fleet.Serving || w.PID != 0 || !strings.HasPrefix(w.Detail, "not known whether busy") || time.Since(w.Started).Abs() > time.Hour {
						t.Errorf("a worker seen from within: %+v", w)
					}
				}
			}
			serve(1)
		})
	}
	t.Run("no shell", func(t *testing.T) { noShell(t, d, cfg) })
}

func group(t *testing.T, path string) uint32 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Gid
}

// noShell: an image without a shell can only be looked at from a machine that shows its processes, which is said.
func noShell(t *testing.T, d *servers.Docker, cfg Config) {
	program := filepath.Join(t.TempDir(), "pause")
	build := exec.Command("go", "build", "-o", program, "./testdata/pause")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	d.Import(t, "pause:1", program)
	id := d.Create(t, "pause", map[string]any{"Image": "pause:1", "Cmd": []string{"/pause"}, "HostConfig": map[string]any{"NetworkMode": "host"}})
	if err := d.Call(http.MethodPost, "/containers/"+id+"/start", nil, nil); err != nil {
		t.Fatal(err)
	}
	cfg.Container = "pause"
	target, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	target.inside = true
	if _, err := target.Workers(t.Context()); err == nil || !strings.Contains(err.Error(), "Tidemark needs a shell and cat there") {
		t.Errorf("want an error that says what is missing, have %v", err)
	}
}

// listed is a listing as a container's shell prints it.
func listed(sections ...string) []byte {
	var b bytes.Buffer
	for i := 0; i < len(sections); i += 2 {
		fmt.Fprintf(&b, "MARK %s\n%s", sections[i], sections[i+1])
	}
	return b.Bytes()
}

func TestReadListing(t *testing.T) {
	kernel := []string{"/proc/stat", "cpu 1 2\nbtime 1800000000\n", "/proc/uptime", "500.25 10.00\n"}
	proc := func(pid, parent, nice, start int, cmdline string) []string {
		return []string{
			"stat", fmt.Sprintf("%d (odoo) S %d 1 1 0 -1 4194560 0 0 0 0 7 5 0 0 20 %d 1 0 %d 1 1\n", pid, parent, nice, start),
			"status", "Name:\todoo\nShdPnd:\t0000000000000000\nSigCgt:\t0000000000000002\n", "cmdline", cmdline, "environ", "A=1\x00",
		}
	}
	join := func(parts ...[]string) []byte {
		var all []string
		for _, p := range parts {
			all = append(all, p...)
		}
		return listed(all...)
	}
	master, end := proc(1, 0, 0, 100, "odoo-bin\x00-c\x00x\x00"), []string{"end", ""}
	v, err := readListing(join(kernel, master, proc(9, 1, 0, 300, "odoo: WorkerHTTP 9\x00"), proc(7, 1, 0, 200, "odoo: WorkerHTTP 7\x00"),
		proc(8, 1, 10, 200, "odoo: WorkerCron 8\x00"), proc(20, 0, 0, 50000, "sh\x00"), []string{"stat", "", "status", "", "cmdline", "", "environ", ""}, end), "MARK", flavours["odoo"])
	if err != nil || v.master.pid != 1 || len(v.workers) != 2 || v.workers[0].pid != 7 || v.workers[1].pid != 9 || v.workers[1].age != 497250*time.Millisecond || v.boot.Unix() != 1800000000 || !v.inside {
		t.Errorf("have %+v, %v", v, err)
	}
	for name, out := range map[string][]byte{
		"nothing": nil, "cut short": join(kernel, master), "no kernel": join(master, end), "no master": join(kernel, proc(7, 2, 0, 5, "x\x00"), end),
		"another mark": bytes.ReplaceAll(join(kernel, master, end), []byte("MARK"), []byte("mark")), "bad uptime": join([]string{"/proc/stat", "btime 1\n", "/proc/uptime", "x"}, master, end),
	} {
		if v, err := readListing(out, "MARK", flavours["odoo"]); err == nil {
			t.Errorf("%s: want an error, have %+v", name, v)
		}
	}
}
