package netem

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tidemark/internal/prove/shape"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("NETEM_HOLD"); dir != "" { // slows, tells, and waits to be killed
		_, err := (&Kernel{tc: filepath.Join(dir, "tc"), dir: dir}).Slow("eth9", []shape.Profile{{RTT: time.Second}}, func(string) {})
		fmt.Println(err)
		select {}
	}
	if os.Getenv("NETEM_REAL") != "" {
		fmt.Println(real())
		return
	}
	os.Exit(m.Run())
}

// tc is a program that writes down how it was called; what it says on standard output and error, and its exit code, are files' beside it.
const tc = `#!/bin/sh
cd "$(dirname "$0")" || exit
if [ "$1" = -batch ]; then set -- qdisc add; cat >>calls; else echo "$@" >>calls; fi
cat "$2.out" 2>/dev/null
cat "$2.err" >&2 2>/dev/null
exit "$(cat "$2.code" 2>/dev/null || echo 0)"
`

func fake(t *testing.T) (k *Kernel, put func(file, text string), calls func() string) {
	t.Helper()
	dir := t.TempDir()
	put = func(file, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	put("tc", tc)
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	k, err := Find()
	if err != nil || k.tc != filepath.Join(dir, "tc") {
		t.Fatalf("found %+v, %v", k, err)
	}
	k.dir = dir
	return k, put, func() string {
		text, err := os.ReadFile(filepath.Join(dir, "calls"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		_ = os.Remove(filepath.Join(dir, "calls"))
		return string(text)
	}
}

func TestCommands(t *testing.T) {
	k, _, calls := fake(t)
	plain, _ := shape.Named("3g")
	rough, _ := shape.Named("3g-rough")
	s, err := k.Slow("eth0", []shape.Profile{plain, rough}, func(said string) { t.Error(said) })
	if err != nil {
		t.Fatal(err)
	}
	const want = `qdisc add dev eth0 root handle 7ede: htb
class add dev eth0 parent 7ede: classid 7ede:1 htb rate 10gbit quantum 200000
qdisc add dev eth0 parent 7ede:1 netem limit 100000 delay 300000us
class add dev eth0 parent 7ede: classid 7ede:2 htb rate 10gbit quantum 200000
qdisc add dev eth0 parent 7ede:2 netem limit 100000 delay 400000us 100000us rate 10gbit loss 1%
class add dev eth0 parent 7ede: classid 7ede:3 htb rate 10gbit quantum 200000
`
	// Where there is jitter phones have classes of their own, as far as there are any.
	const last = "qdisc add dev eth0 parent 7ede:101 netem limit 100000 delay 400000us 100000us rate 10gbit loss 1%\n"
	if got := calls(); !strings.HasPrefix(got, want) || !strings.HasSuffix(got, last) || strings.Count(got, "\n") != 3+2*lanes {
		t.Errorf("tc was called\n%swant\n%s...\n%s", got, want, last)
	}
	if _, err := k.Slow("eth0", []shape.Profile{plain}, nil); err == nil || !strings.Contains(err.Error(), "another load test has eth0") {
		t.Errorf("a second one at the same time: %v", err)
	}
	if err := s.Restore(); err != nil {
		t.Fatal(err)
	}
	if got := calls(); got != "qdisc del dev eth0 root handle 7ede:\n" {
		t.Errorf("tc was called %q", got)
	}
	if got := left(k.dir); got != nil {
		t.Errorf("left behind: %v", got)
	}
}

// Connections carry their network's class, which root may say.
func TestDial(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	plain, _ := shape.Named("3g")
	rough, _ := shape.Named("3g-rough")
	s := &Slowed{networks: []shape.Profile{plain, rough}}
	c, err := s.Dial(rough, lanes+3)(t.Context(), "tcp", l.Addr().String())
	if os.Geteuid() != 0 {
		if !errors.Is(err, syscall.EPERM) {
			t.Errorf("without root: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Control(func(fd uintptr) {
		if got, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PRIORITY); got != 0x7ede0005 || err != nil {
			t.Errorf("the priority is %#x, %v", got, err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Every refusal says what to do, and leaves nothing behind.
func TestRefusals(t *testing.T) {
	k, put, calls := fake(t)
	slow := func(device string, networks ...shape.Profile) error {
		_, err := k.Slow(device, networks, func(said string) { t.Error(said) })
		if err == nil {
			t.Fatalf("%s: no error", device)
		}
		if got := left(k.dir); got != nil {
			t.Errorf("left behind: %v", got)
		}
		return err
	}
	network := shape.Profile{RTT: time.Second}
	put("add.code", "2")
	for said, want := range map[string]string{
		"RTNETLINK answers: Operation not permitted": "needs root",
		"Error: Specified qdisc kind is unknown.":    "modprobe sch_netem",
		"Error: Specified qdisc not found.":          "modprobe sch_netem",
		`Cannot find device "eth0"`:                  "see ip link",
		"Error: NLM_F_REPLACE needed to override.":   "a queueing discipline of its own",
		"RTNETLINK answers: File exists":             "a queueing discipline of its own",
		"something else":                             "exit status 1: something else",
	} {
		put("add.err", said)
		if err := slow("eth0", network); !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), said) {
			t.Errorf("tc said %q: %v", said, err)
		}
		if got := calls(); !strings.HasSuffix(got, "qdisc del dev eth0 root handle 7ede:\n") {
			t.Errorf("what was added before the refusal stays: %s", got)
		}
	}
	for _, device := range []string{"", "-x", "a b", "../lo"} {
		if err := slow(device, network); !strings.Contains(err.Error(), "no network interface") {
			t.Error(err)
		}
	}
	if err := slow("eth0"); !strings.Contains(err.Error(), "have no network") {
		t.Error(err)
	}
	if got := calls(); got != "" {
		t.Errorf("tc was called: %s", got)
	}
	t.Setenv("PATH", t.TempDir())
	if found, err := Find(); err == nil && !strings.Contains(found.tc, "/sbin/") || err != nil && !strings.Contains(err.Error(), "install iproute2") {
		t.Errorf("%+v, %v", found, err)
	}
}

// held starts a process that has slowed eth9, and returns it with the guard that it waits by.
func held(t *testing.T, k *Kernel) (process *exec.Cmd, guard int) {
	t.Helper()
	process = exec.Command(os.Args[0])
	process.Env = append(os.Environ(), "NETEM_HOLD="+k.dir)
	out, err := process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = process.Process.Kill()
		_ = process.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "<nil>\n" {
		t.Fatalf("%q, %v", line, err)
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", process.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(string(children), &guard); err != nil { // another thread may have started it
		all, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", process.Process.Pid))
		for _, file := range all {
			if text, err := os.ReadFile(file); err == nil {
				fmt.Sscan(string(text), &guard) // most have none
			}
		}
	}
	if guard == 0 {
		t.Fatal("there is no guard")
	}
	return process, guard
}

// When the load test is killed the guard removes it all the same.
func TestKilled(t *testing.T) {
	k, _, calls := fake(t)
	process, guard := held(t, k)
	calls()
	end, err := os.FindProcess(guard)
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); end.Signal(syscall.Signal(0)) == nil; time.Sleep(time.Millisecond) {
		if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", guard)); err != nil || strings.Contains(string(stat), ") Z ") {
			break // nobody may wait for orphans here
		}
		if time.Now().After(deadline) {
			t.Fatal("the guard is still there")
		}
	}
	if got := calls(); got != "qdisc del dev eth9 root handle 7ede:\n" {
		t.Errorf("tc was called %q", got)
	}
}

// When the guard is killed too, the next load test finds what is left, and says so.
func TestLeftBehind(t *testing.T) {
	k, put, calls := fake(t)
	process, guard := held(t, k)
	for _, pid := range []int{guard, process.Process.Pid} {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	_ = process.Wait() // it was killed
	calls()
	if got := left(k.dir); !slices.Equal(got, []string{"eth9"}) {
		t.Fatalf("left behind: %v", got)
	}
	put("show.out", "qdisc htb 7ede: root refcnt 2 r2q 10 default 0\n")
	var told []string
	s, err := k.Slow("eth9", []shape.Profile{{RTT: time.Second}}, func(said string) { told = append(told, said) })
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Restore(); err != nil {
		t.Fatal(err)
	}
	const want = `qdisc show dev eth9
qdisc del dev eth9 root handle 7ede:
qdisc add dev eth9 root handle 7ede: htb
class add dev eth9 parent 7ede: classid 7ede:1 htb rate 10gbit quantum 200000
qdisc add dev eth9 parent 7ede:1 netem limit 100000 delay 1000000us
qdisc del dev eth9 root handle 7ede:
`
	if got := calls(); got != want {
		t.Errorf("tc was called\n%swant\n%s", got, want)
	}
	if len(told) != 1 || !strings.Contains(told[0], "eth9 was still slow") {
		t.Errorf("told: %q", told)
	}
}

// Where it cannot be removed, the operator is told how.
func TestCannotRestore(t *testing.T) {
	k, put, _ := fake(t)
	s, err := k.Slow("eth0", []shape.Profile{{RTT: time.Second}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	put("del.code", "2")
	put("del.err", "Error: Invalid handle.")
	if err := s.Restore(); err == nil || !strings.Contains(err.Error(), "tc qdisc del dev eth0 root") || !strings.Contains(err.Error(), "Invalid handle") {
		t.Error(err)
	}
	if got := left(k.dir); !slices.Equal(got, []string{"eth0"}) {
		t.Errorf("left behind: %v", got)
	}
}

// The real tc, on the loopback interface of a network of its own: it slows where root and kernel allow it, and else says what is missing.
func TestRealKernel(t *testing.T) {
	if _, err := Find(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "NETEM_REAL=1")
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	}
	out, err := cmd.CombinedOutput()
	got := strings.TrimSpace(string(out))
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Log(got)
	switch {
	case os.Geteuid() != 0 && strings.Contains(got, "needs root"):
	case os.Geteuid() == 0 && (strings.Contains(got, "modprobe sch_netem") || got == "slow and restored"):
	default:
		t.Error("neither slow nor refused for a reason that is known")
	}
}

// real slows down lo and restores it.
func real() string {
	dir, err := os.MkdirTemp("", "netem")
	if err != nil {
		return err.Error()
	}
	defer os.RemoveAll(dir)
	k, err := Find()
	if err != nil {
		return err.Error()
	}
	k.dir = dir
	show := func() string {
		out, err := exec.Command(k.tc, "qdisc", "show", "dev", "lo").CombinedOutput()
		return fmt.Sprint(string(out), err)
	}
	s, err := k.Slow("lo", []shape.Profile{{RTT: 300 * time.Millisecond, Jitter: 20 * time.Millisecond, Loss: 0.01}}, func(string) {})
	if err != nil {
		if left := show(); strings.Contains(left, handle) {
			return "left behind: " + left
		}
		return err.Error()
	}
	on := show()
	if err := s.Restore(); err != nil {
		return err.Error()
	}
	if off := show(); !strings.Contains(on, "netem") || !strings.Contains(on, "delay 320ms") || strings.Contains(off, handle) {
		return "slow: " + on + ", restored: " + off
	}
	return "slow and restored"
}
