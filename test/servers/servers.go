// Package servers starts real servers for tests: each on a free port of the loopback interface, in a folder of its own,
// stopped by pid at the end of the test. Only tests import it.
package servers

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// ages is how long a test waits for what should take no time: as long as a loaded machine may need.
const ages = time.Minute

// Need returns the path of a program. Where it is missing the test skips; in CI it fails, for there scripts/setup has
// installed all. A short run starts no real servers.
func Need(t testing.TB, program string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("slow: starts a real " + program)
	}
	if path, err := exec.LookPath(program); err == nil {
		return path
	}
	// Debian keeps servers off an ordinary user's PATH.
	for _, pattern := range []string{"/usr/sbin/", "/usr/lib/postgresql/*/bin/"} {
		if found, _ := filepath.Glob(pattern + program); len(found) > 0 {
			return found[len(found)-1]
		}
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is not installed: run scripts/setup", program)
	}
	t.Skipf("%s is not installed: run scripts/setup", program)
	return ""
}

// needRoot skips a test that is not root's; in CI it fails.
func needRoot(t testing.TB, why string) {
	t.Helper()
	switch {
	case os.Geteuid() == 0:
	case os.Getenv("CI") == "true":
		t.Fatal(why)
	default:
		t.Skip(why)
	}
}

// FreePorts returns the first of n ports in a row of the loopback interface on which nobody listens now. They lie below those that
// outgoing connections are given, so that none of these sits on one before the test listens, and are drawn, as other suites draw too.
func FreePorts(t testing.TB, n int) int {
	t.Helper()
	for range 100 {
		first := 10_000 + rand.IntN(20_000)
		free := true
		for p := first; p < first+n && free; p++ {
			ln, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", p))
			if free = err == nil; free {
				_ = ln.Close()
			}
		}
		if free {
			return first
		}
	}
	t.Fatal("no free ports")
	return 0
}

// FreePort is one of them.
func FreePort(t testing.TB) int {
	t.Helper()
	return FreePorts(t, 1)
}

// FreeAddress is one of them with its host.
func FreeAddress(t testing.TB) string {
	t.Helper()
	return fmt.Sprint("127.0.0.1:", FreePort(t))
}

// folder makes a folder that an account other than root can use too, with files in it, and removes it at the end.
func folder(t testing.TB, name string, files map[string]string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", name) // not t.TempDir, which only its owner may enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // what stays behind is only litter
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if uid, gid, ok := account(t); ok {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return os.Chown(path, uid, gid)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// account is who servers run as that refuse to run as root: postgres. ok is false when the test is not root's.
func account(t testing.TB) (uid, gid int, ok bool) {
	t.Helper()
	if os.Geteuid() != 0 {
		return 0, 0, false
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Fatalf("as root, servers are run as the user postgres: %v", err)
	}
	uid, _ = strconv.Atoi(u.Uid)
	gid, _ = strconv.Atoi(u.Gid)
	return uid, gid, true
}

// command returns a command that runs as account does and dies with the test program.
func command(t testing.TB, program string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(Need(t, program), args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if uid, gid, ok := account(t); ok {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		cmd.Dir = "/"
	}
	return cmd
}

// process is one server. Its children are in its process group or below it.
type process struct {
	t      testing.TB
	name   string
	start  func() *exec.Cmd
	ready  func() error
	stop   syscall.Signal // what ends it gracefully and soon
	log    string         // path
	cmd    *exec.Cmd
	exited chan struct{}
}

// PID is the server's process id.
func (p *process) PID() int { return p.cmd.Process.Pid }

// Start starts the server again after Stop or Kill, and waits until it answers.
func (p *process) Start() {
	p.t.Helper()
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		p.t.Fatal(err)
	}
	defer out.Close()
	p.cmd = p.start()
	p.cmd.Stdout, p.cmd.Stderr = out, out
	if err := p.cmd.Start(); err != nil {
		p.t.Fatalf("start %s: %v", p.name, err)
	}
	exited := make(chan struct{})
	p.exited = exited
	go func(cmd *exec.Cmd) { _ = cmd.Wait(); close(exited) }(p.cmd)
	for end := time.Now().Add(ages); ; time.Sleep(10 * time.Millisecond) {
		err := p.ready()
		if err == nil {
			return
		}
		select {
		case <-p.exited:
			p.t.Fatalf("%s ended at its start:\n%s", p.name, p.Log())
		default:
		}
		if time.Now().After(end) {
			p.t.Fatalf("%s does not answer: %v\n%s", p.name, err, p.Log())
		}
	}
}

// Stop ends the server in its own quick but clean way.
func (p *process) Stop() {
	p.t.Helper()
	p.Thaw()
	_ = p.cmd.Process.Signal(p.stop) // one that has ended is as it should be
	select {
	case <-p.exited:
	case <-time.After(ages):
		p.t.Errorf("%s does not stop:\n%s", p.name, p.Log())
		p.Kill()
	}
}

// Kill ends the server and all its processes at once, as a power cut does, and returns when all are gone: PostgreSQL does not start
// beside one that still has its shared memory.
func (p *process) Kill() {
	_ = syscall.Kill(p.PID(), syscall.SIGSTOP) // so that it makes no more of them; it may have ended
	pids := p.tree()
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	<-p.exited
	for end := time.Now().Add(ages); slices.ContainsFunc(pids, runs) && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
}

// runs reports whether a process is there and more than a zombie.
func runs(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, state, found := strings.Cut(string(text), ") ")
	return err == nil && found && state[0] != 'Z' && state[0] != 'X'
}

// Freeze stops the server and all its processes without ending them: it accepts connections and never answers.
func (p *process) Freeze() { p.all(syscall.SIGSTOP) }

// Thaw lets a frozen server go on.
func (p *process) Thaw() { p.all(syscall.SIGCONT) }

func (p *process) all(s syscall.Signal) {
	for _, pid := range p.tree() {
		_ = syscall.Kill(pid, s)
	}
}

// Log is what the server has written.
func (p *process) Log() string {
	text, _ := os.ReadFile(p.log)
	return string(text)
}

// tree lists the server's process and its descendants.
func (p *process) tree() []int {
	pids := []int{p.PID()}
	for i := 0; i < len(pids); i++ {
		lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pids[i]))
		for _, list := range lists {
			text, _ := os.ReadFile(list)
			for _, word := range strings.Fields(string(text)) {
				if pid, err := strconv.Atoi(word); err == nil {
					pids = append(pids, pid)
				}
			}
		}
	}
	return pids
}

func (p *process) end() {
	select {
	case <-p.exited:
	default:
		p.Kill() // what a test leaves behind is thrown away
	}
}
