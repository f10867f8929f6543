package prefork

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ident is a process for as long as it lives: a pid may be given to another one later, with another start.
type ident struct {
	pid   int
	start uint64 // in ticks since boot
}

func (i ident) id() string { return fmt.Sprintf("%d-%d", i.pid, i.start) }

// process is what /proc says of one.
type process struct {
	ident
	parent  int
	state   byte // as ps shows it
	nice    int
	cpu     uint64        // ticks of user and system time
	args    []string      // its command line, or the title that it gave itself
	caught  signals       // signals that it handles
	pending signals       // signals that it was sent and has not taken yet
	age     time.Duration // when it was read, by the clock that started with the machine: a wall clock that jumps makes nobody older
	environ func() ([]byte, error)
}

// signals is a set as /proc writes it: bit n-1 for signal n.
type signals uint64

func (s signals) has(sig syscall.Signal) bool { return s>>(sig-1)&1 == 1 }

func (p process) dead() bool { return p.state == 'Z' || p.state == 'X' }

// title is the command line as ps shows it.
func (p process) title() string { return strings.Join(p.args, " ") }

// tick is the kernel's unit of process times towards programs, on every architecture that Go runs on.
const tick = 10 * time.Millisecond

// readProcess fails with an error that matches fs.ErrNotExist when there is no such process.
func readProcess(pid int) (process, error) {
	dir := "/proc/" + strconv.Itoa(pid)
	stat, err1 := readProc(dir + "/stat")
	status, err2 := readProc(dir + "/status")
	cmdline, err3 := readProc(dir + "/cmdline")
	if err := errors.Join(err1, err2, err3); err != nil {
		return process{}, err
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return process{}, fmt.Errorf("read the time since boot: %w", err)
	}
	p, err := parseProcess(stat, status, cmdline, time.Duration(now.Nano()))
	if err != nil {
		return process{}, fmt.Errorf("process %d: %w", pid, err)
	}
	p.environ = func() ([]byte, error) { return readProc(dir + "/environ") }
	return p, nil
}

// parseProcess reads three files of a process, at a time since boot.
func parseProcess(stat, status, cmdline []byte, now time.Duration) (process, error) {
	p, err := parseStat(stat)
	if err == nil {
		p.caught, p.pending, err = parseStatus(status)
	}
	p.args = parseCmdline(cmdline)
	p.age = now - time.Duration(p.start)*tick
	return p, err
}

// readProc reads a file of a process. A process that ends while it is read does not exist.
func readProc(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, syscall.ESRCH) {
		err = &fs.PathError{Op: "read", Path: path, Err: fs.ErrNotExist}
	}
	return b, err
}

// parseStat reads /proc/<pid>/stat. The name in parentheses is the program's own choice and may hold anything.
func parseStat(b []byte) (process, error) {
	bad := fmt.Errorf("stat not understood: %q", b)
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return process{}, bad
	}
	// Field numbers are those of proc(5), less the two that come before.
	f := strings.Fields(string(b[end+1:]))
	if len(f) <= 22-3+1 || len(f[0]) != 1 { // the last one that is read is followed by more
		return process{}, bad
	}
	pid, err1 := strconv.Atoi(strings.TrimSpace(string(b[:open])))
	parent, err2 := strconv.Atoi(f[4-3])
	utime, err3 := strconv.ParseUint(f[14-3], 10, 63)
	stime, err4 := strconv.ParseUint(f[15-3], 10, 63)
	nice, err5 := strconv.Atoi(f[19-3])
	start, err6 := strconv.ParseUint(f[22-3], 10, 63)
	if err := errors.Join(err1, err2, err3, err4, err5, err6); err != nil || pid < 1 {
		return process{}, bad
	}
	return process{ident: ident{pid, start}, parent: parent, state: f[0][0], nice: nice, cpu: utime + stime}, nil
}

// parseStatus reads the signal sets of /proc/<pid>/status.
func parseStatus(b []byte) (caught, pending signals, err error) {
	found := 0
	for line := range bytes.Lines(b) {
		name, value, _ := strings.Cut(string(line), ":")
		var into *signals
		switch name {
		case "SigCgt":
			into = &caught
		case "ShdPnd":
			into = &pending
		default:
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("status not understood: %q", line)
		}
		*into = signals(n)
		found++
	}
	if found != 2 {
		return 0, 0, errors.New("status lacks SigCgt or ShdPnd")
	}
	return caught, pending, nil
}

// parseCmdline splits at NUL bytes. A title that a process gave itself comes padded with them.
func parseCmdline(b []byte) []string {
	b = bytes.TrimRight(b, "\x00")
	if len(b) == 0 {
		return nil
	}
	return strings.Split(string(b), "\x00")
}

// children lists a process's children by age, with those that have ended and that it has not reaped yet. It asks twice until both
// answers agree: the kernel may leave one out when another one ends while it lists them.
func children(pid int) ([]process, error) {
	var last []int
	for i := 0; ; i++ {
		pids, err := childPIDs(pid)
		if err != nil {
			return nil, err
		}
		if i > 0 && slices.Equal(pids, last) {
			break
		}
		if i == 100 {
			return nil, fmt.Errorf("the children of process %d change too fast to be counted", pid)
		}
		last = pids
	}
	var out []process
	for _, child := range last {
		p, err := readProcess(child)
		if errors.Is(err, fs.ErrNotExist) || err == nil && p.parent != pid {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	byAge(out)
	return out, nil
}

// childPIDs lists the children that any thread of a process has, sorted.
func childPIDs(pid int) ([]int, error) {
	dir := fmt.Sprintf("/proc/%d/task", pid)
	threads, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, thread := range threads {
		b, err := readProc(dir + "/" + thread.Name() + "/children")
		if errors.Is(err, fs.ErrNotExist) {
			if _, err := os.Stat(dir + "/" + thread.Name() + "/stat"); err == nil {
				return nil, errors.New("this kernel does not list a process's children: it needs CONFIG_PROC_CHILDREN")
			}
			continue // the thread ended: its children are another thread's now
		}
		if err != nil {
			return nil, err
		}
		for f := range strings.FieldsSeq(string(b)) {
			child, err := strconv.Atoi(f)
			if err != nil {
				return nil, fmt.Errorf("children of process %d not understood: %q", pid, b)
			}
			pids = append(pids, child)
		}
	}
	slices.Sort(pids)
	return pids, nil
}

// bootTime is when the machine started, by the wall clock as it is set now.
func bootTime() (time.Time, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return time.Time{}, fmt.Errorf("read when this machine started: %w", err)
	}
	return parseBoot(b)
}

// parseBoot reads /proc/stat.
func parseBoot(b []byte) (time.Time, error) {
	for line := range bytes.Lines(b) {
		if value, ok := strings.CutPrefix(string(line), "btime "); ok {
			s, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
			return time.Unix(s, 0), err
		}
	}
	return time.Time{}, errors.New("/proc/stat lacks btime")
}

// byAge sorts processes, the oldest first.
func byAge(all []process) {
	slices.SortFunc(all, func(a, b process) int {
		return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.pid, b.pid))
	})
}
