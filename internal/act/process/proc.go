package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// identity names one process for ever: a pid is used again, a pid with its start time and the boot it belongs to is not.
type identity struct {
	PID    int    `json:"pid"`
	Start  uint64 `json:"start_ticks"` // field 22 of /proc/<pid>/stat, in ticks of 10 ms since boot
	BootID string `json:"boot_id"`
}

// errGone says that the process an identity names does not run any more.
var errGone = errors.New("the process is gone")

// process holds on to one verified process. The handle (a pidfd) keeps meaning this process and no other, so
// whatever is signalled through it was verified.
type process struct {
	identity
	handle *os.Process
	poll   *os.File      // readable once the process has ended
	ended  chan struct{} // closed when it has ended, or when the hold is given up
}

// hold opens a handle on the process that id names, or returns errGone.
func hold(id identity) (*process, error) {
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	if id.PID <= 0 || id.BootID != boot {
		return nil, errGone
	}
	h, err := os.FindProcess(id.PID)
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", id.PID, err)
	}
	p, err := watch(id, h)
	if err != nil {
		_ = h.Release()
		return nil, err
	}
	// Both handles are open: if the start time is the one wanted, both mean the process wanted.
	if _, err := p.stat(); err != nil {
		p.release()
		return nil, err
	}
	return p, nil
}

// watch takes the handle over and watches for the end of the process. On an error the handle is the caller's still.
func watch(id identity, h *os.Process) (*process, error) {
	fd, err := unix.PidfdOpen(id.PID, unix.PIDFD_NONBLOCK)
	switch {
	case errors.Is(err, unix.ESRCH):
		return nil, errGone
	case err != nil:
		return nil, fmt.Errorf("open process %d (Linux 5.10 or later is needed): %w", id.PID, err)
	}
	p := &process{identity: id, handle: h, poll: os.NewFile(uintptr(fd), "pidfd"), ended: make(chan struct{})}
	conn, err := p.poll.SyscallConn()
	if err != nil {
		_ = p.poll.Close()
		return nil, fmt.Errorf("watch process %d: %w", id.PID, err)
	}
	go func() {
		defer close(p.ended)
		_ = conn.Read(func(fd uintptr) bool {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
			return err == nil && n > 0
		})
	}()
	return p, nil
}

// release gives the handle up and leaves the process alone.
func (p *process) release() {
	_ = p.poll.Close()
	<-p.ended
	_ = p.handle.Release()
}

// stat reads the process anew; errGone when it has ended.
func (p *process) stat() (stat, error) {
	s, err := readStat(p.PID)
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, unix.ESRCH):
		return stat{}, errGone
	case err != nil:
		return stat{}, err
	case s.Start != p.Start, s.dead():
		return stat{}, errGone
	}
	return s, nil
}

// signal sends sig to this very process.
func (p *process) signal(sig syscall.Signal) error {
	if _, err := p.stat(); err != nil {
		return err
	}
	if err := p.handle.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal process %d: %w", p.PID, err)
	}
	return nil
}

// fate says how an ended process ended, and lets the system forget it if it was our child.
func (p *process) fate() string {
	state, err := p.handle.Wait()
	if err != nil {
		return "ended (how is not known: it was started before this daemon was)"
	}
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return "was killed by " + unix.SignalName(ws.Signal())
	}
	return fmt.Sprintf("exited with status %d", state.ExitCode())
}

// stat is what this package needs of /proc/<pid>/stat.
type stat struct {
	State   byte
	Session int
	CPU     uint64 // ticks of 10 ms, its own and of the children that it has waited for
	Start   uint64 // ticks of 10 ms since boot
}

func (s stat) dead() bool { return s.State == 'Z' || s.State == 'X' }

func readStat(pid int) (stat, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return stat{}, err
	}
	return parseStat(b)
}

// parseStat reads a line of /proc/<pid>/stat. The name, in parentheses, may hold anything.
func parseStat(b []byte) (stat, error) {
	i := bytes.LastIndexByte(b, ')')
	f := bytes.Fields(b[i+1:])
	if i < 0 || len(f) < 20 || len(f[0]) != 1 || f[0][0] < 'A' || f[0][0] > 'z' {
		return stat{}, fmt.Errorf("unexpected process status %.80q", b)
	}
	var err error
	num := func(i int) uint64 {
		n, e := strconv.ParseUint(string(f[i]), 10, 63)
		err = errors.Join(err, e)
		return n
	}
	// Counted from the state, which is field 3 in proc(5).
	s := stat{State: f[0][0], Session: int(num(3)), CPU: num(11) + num(12) + num(13) + num(14), Start: num(19)}
	if err != nil {
		return stat{}, fmt.Errorf("unexpected process status: %w", err)
	}
	return s, nil
}

func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read the boot's id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// tick is the unit of the kernel's process times: USER_HZ is 100 on every Linux architecture that Go runs on.
const tick = 10 * time.Millisecond

// sinceBoot is the clock that start times are kept in. Nobody can set it.
func sinceBoot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

func ticksNow() uint64 { return uint64(sinceBoot() / tick) }

// remains finds what a worker has left running besides its main process: the members of its session and of its control
// group. The session's number is the main process's pid, and no new process gets that as long as a member lives; a member
// that started before the main process was seen dead is therefore the worker's own. When the death was not seen (seen is
// 0), only its environment proves a member.
func remains(id identity, cgroup, marker string, seen uint64) []identity {
	var out []identity
	grouped := cgroupMembers(cgroup)
	for _, pid := range allPIDs() {
		s, err := readStat(pid)
		if err != nil || s.dead() || pid == id.PID {
			continue
		}
		mine := grouped[pid] ||
			s.Session == id.PID && s.Start >= id.Start && (s.Start <= seen || hasMarker(pid, marker))
		if mine {
			out = append(out, identity{PID: pid, Start: s.Start, BootID: id.BootID})
		}
	}
	return out
}

func allPIDs() []int {
	d, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	pids := make([]int, 0, len(names))
	for _, n := range names {
		if pid, err := strconv.Atoi(n); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// hasMarker reports whether a process was started with the variable.
func hasMarker(pid int, variable string) bool {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "environ"))
	if err != nil {
		return false
	}
	for v := range bytes.SplitSeq(b, []byte{0}) {
		if string(v) == variable {
			return true
		}
	}
	return false
}
