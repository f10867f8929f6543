// Package netem has the kernel delay and lose packets, by tc and the queueing discipline netem, while a load test runs. It needs root.
// Only the packets of connections that were opened by it are concerned: each network is a class of a discipline htb at the root of the
// interface, and those connections carry the class as their priority. All else that the interface sends passes as before. The package
// shape, which needs neither root nor the kernel, is what keeps each phone to its rate here too, as an interface knows nothing of phones.
//
// The disciplines are removed in any case: a guard, a shell in a session of its own, adds them, waits until its standard input ends, as
// it does when this process ends in whatever way, and removes them. A file in /run says meanwhile that they are there; where the guard was
// killed too, the next load test finds it.
package netem

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"tidemark/internal/prove/shape"
)

const (
	// handle marks a queueing discipline as ours.
	handle = "7ede:"
	major  = 0x7ede
	// limit is how many packets may be on their way: of 20,000 a second, five seconds' worth.
	limit = 100_000
	// lanes is how many classes a network with jitter has. netem keeps the packets of a class in order, and so makes those of one phone
	// wait for those of another in the same: with all of them in one, every packet would take the longest delay.
	lanes = 256
	// patience is how long tc may take.
	patience = 10 * time.Second

	mark = "tidemark-netem-"
)

// guard adds, waits and removes. Its arguments are tc, the interface, and what to add.
const guard = `remove() { "$1" qdisc del dev "$2" root handle ` + handle + `; }
printf %s "$3" | "$1" -batch - || { remove "$@" 2>/dev/null; exit 1; }
echo on
trap '' HUP INT TERM
read -r _
remove "$@"`

// Kernel changes interfaces by tc.
type Kernel struct {
	tc  string
	dir string // of the marks
}

// Find finds tc, on the PATH or where Debian keeps it.
func Find() (*Kernel, error) {
	for _, name := range []string{"tc", "/usr/sbin/tc", "/sbin/tc"} {
		if path, err := exec.LookPath(name); err == nil {
			return &Kernel{tc: path, dir: "/run"}, nil
		}
	}
	return nil, errors.New("netem: there is no tc on the PATH: install iproute2, or " + without)
}

// Slowed is an interface that netem is in force on.
type Slowed struct {
	device   string
	networks []shape.Profile // in the order of their classes
	guard    *exec.Cmd
	stdin    io.Closer
	said     *strings.Builder // by tc
	mark     *os.File
}

// Slow puts the delay, jitter and loss of networks on an interface. Only what goes out can be slowed: it takes all of the round trip, and it
// alone can be lost. What is there of an earlier load test that ended without removing it is removed first, and told of.
func (k *Kernel) Slow(device string, networks []shape.Profile, tell func(string)) (*Slowed, error) {
	if device == "" || strings.ContainsAny(device, "/ \t\n") || device[0] == '-' {
		return nil, fmt.Errorf("netem: %q is no network interface: see ip link", device)
	}
	if len(networks) == 0 {
		return nil, errors.New("netem: the scenario's loads have no network; write network: 3g, or leave --netem out")
	}
	s := &Slowed{device: device, networks: networks, said: &strings.Builder{}}
	left, err := s.claim(filepath.Join(k.dir, mark+device))
	if err != nil {
		return nil, err
	}
	if left {
		if err := k.tidy(device, tell); err != nil {
			return nil, errors.Join(err, s.mark.Close())
		}
	}
	s.guard = exec.Command("sh", "-c", guard, "tidemark-netem", k.tc, device, s.commands())
	s.guard.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // Ctrl-C is not for it
	s.guard.Stderr = s.said
	if err := s.start(); err != nil {
		return nil, errors.Join(s.explain(err), s.unmark())
	}
	return s, nil
}

// claim locks the interface's mark, and reports whether it was there: left behind, as it is not locked.
func (s *Slowed) claim(path string) (left bool, err error) {
	_, err = os.Lstat(path)
	left = err == nil
	s.mark, err = os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if errors.Is(err, os.ErrPermission) {
		return false, fmt.Errorf("netem: %s (%w)", asRoot, err)
	}
	if err != nil {
		return false, fmt.Errorf("netem: %w", err)
	}
	if err := unix.Flock(int(s.mark.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return false, errors.Join(fmt.Errorf("netem: another load test has %s (%s is locked): wait for its end", s.device, path), s.mark.Close())
	}
	return left, nil
}

func (s *Slowed) start() error {
	stdin, err := s.guard.StdinPipe()
	if err != nil {
		return err
	}
	s.stdin = stdin
	stdout, err := s.guard.StdoutPipe()
	if err != nil {
		return err
	}
	if err := s.guard.Start(); err != nil {
		return err
	}
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil { // tc has failed
		stdin.Close()
		return cmp.Or(s.guard.Wait(), err)
	}
	return nil
}

// Restore removes what Slow has added, and returns when it is gone.
func (s *Slowed) Restore() error {
	s.stdin.Close()
	timer := time.AfterFunc(patience, func() { _ = s.guard.Process.Kill() }) // it has ended by itself
	err := s.guard.Wait()
	timer.Stop()
	if err != nil {
		s.mark.Close() // it stays, for the next load test to find
		return fmt.Errorf("netem: %s may still be slow: %w: %s: tc qdisc del dev %s root", s.device, err, s.said, s.device)
	}
	return s.unmark()
}

func (s *Slowed) unmark() error {
	return errors.Join(os.Remove(s.mark.Name()), s.mark.Close())
}

// What stands in the way, and what is to be done then.
const (
	without = "leave --netem out: the network is then imitated within this process"
	asRoot  = "it needs root: run this as root, or " + without
	noNetem = "this kernel has no netem: modprobe sch_netem (Debian and Ubuntu: linux-modules-extra), or " + without
	taken   = "the interface has a queueing discipline of its own, which netem would replace: see tc qdisc show"
)

// refusals are what tc says when it cannot be done, and what is to be done then.
var refusals = []struct{ said, fix string }{
	{"Operation not permitted", asRoot},
	{"qdisc kind is unknown", noNetem},
	{"Specified qdisc not found", noNetem},
	{"Cannot find device", "there is no such network interface: see ip link"},
	{"NLM_F_REPLACE", taken},
	{"File exists", taken},
	{"Exclusivity flag", taken},
}

// explain makes an error of what tc has said.
func (s *Slowed) explain(err error) error {
	said := strings.Join(strings.Fields(s.said.String()), " ")
	for _, r := range refusals {
		if strings.Contains(said, r.said) {
			return fmt.Errorf("netem on %s: %s (tc: %s)", s.device, r.fix, said)
		}
	}
	return fmt.Errorf("netem on %s: %w: %s", s.device, err, said)
}

// Dial opens a connection of one phone, whose packets the kernel treats as a network's; one that Slow was given.
func (s *Slowed) Dial(network shape.Profile, phone uint64) shape.DialFunc {
	class := major<<16 | s.class(slices.Index(s.networks, network), phone)
	dialer := net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
		if failed := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PRIORITY, class) }); failed != nil {
			return failed
		}
		return os.NewSyscallError("setsockopt SO_PRIORITY", err)
	}}
	return dialer.DialContext
}

// class is the minor number of a phone's class in the nth network: those of the first begin at 1.
func (s *Slowed) class(n int, phone uint64) int {
	minor := 1
	for _, p := range s.networks[:n] {
		minor += classes(p)
	}
	return minor + int(phone%uint64(classes(s.networks[n])))
}

// classes is how many a network has.
func classes(p shape.Profile) int {
	if p.Jitter > 0 {
		return lanes
	}
	return 1
}

// commands are tc's, a line each. A class's number is hexadecimal.
func (s *Slowed) commands() string {
	var b strings.Builder
	fmt.Fprintf(&b, "qdisc add dev %s root handle %s htb\n", s.device, handle)
	for i, p := range s.networks {
		for lane := range classes(p) {
			class := fmt.Sprintf("%s%x", handle, s.class(i, uint64(lane)))
			fmt.Fprintf(&b, "class add dev %s parent %s classid %s htb rate 10gbit quantum 200000\n", s.device, handle, class)
			// A jitter of up to p.Jitter each way is one of p.Jitter around the mean of both.
			fmt.Fprintf(&b, "qdisc add dev %s parent %s netem limit %d delay %s", s.device, class, limit, micros(p.RTT+p.Jitter))
			if p.Jitter > 0 {
				// With a rate, even one that limits nothing, netem keeps packets in order.
				fmt.Fprintf(&b, " %s rate 10gbit", micros(p.Jitter))
			}
			if p.Loss > 0 {
				fmt.Fprintf(&b, " loss %g%%", 100*p.Loss)
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}

func micros(d time.Duration) string { return strconv.FormatInt(d.Microseconds(), 10) + "us" }

// Left lists the interfaces on which an earlier load test may have left netem behind.
func Left() []string { return left("/run") }

func left(dir string) (devices []string) {
	marks, _ := filepath.Glob(filepath.Join(dir, mark+"*")) // the pattern is right
	for _, path := range marks {
		f, err := os.Open(path)
		if err != nil {
			continue // somebody else's, or gone by now
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			devices = append(devices, strings.TrimPrefix(filepath.Base(path), mark))
		}
		f.Close()
	}
	return devices
}

// tidy removes what an earlier load test has left behind, if it has.
func (k *Kernel) tidy(device string, tell func(string)) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	shown, err := exec.CommandContext(ctx, k.tc, "qdisc", "show", "dev", device).CombinedOutput()
	if err != nil {
		return fmt.Errorf("netem: what an earlier load test has left on %s cannot be seen: %w: %s", device, err, shown)
	}
	if !strings.Contains(string(shown), "qdisc htb "+handle) {
		return nil
	}
	if said, err := exec.CommandContext(ctx, k.tc, "qdisc", "del", "dev", device, "root", "handle", handle).CombinedOutput(); err != nil {
		return fmt.Errorf("netem: what an earlier load test has left on %s cannot be removed: %w: %s", device, err, said)
	}
	tell(fmt.Sprintf("%s was still slow: an earlier load test ended without removing its netem; it is removed now", device))
	return nil
}
