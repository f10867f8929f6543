package process

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The shim closes the gap between a fork and the record of it. The daemon runs
//
//	<shim...> <order> <command...>
//
// as the worker-to-be, with the slot's lock as descriptor 3. The shim writes down who it is and then becomes the
// command; its pid and start time stay. At no point does a worker run that is not on record, however the daemon ends.

// order is what the daemon tells the shim.
type order struct {
	Record  string `json:"record"`  // the file to write
	Program string `json:"program"` // the file to run
	Address string `json:"address"`
	Digest  string `json:"digest"`
	Cgroup  string `json:"cgroup,omitempty"`
}

const (
	lockFD       = 3   // stdin, stdout, stderr, lock
	shimFailed   = 125 // exit statuses, as env(1) and nohup(1) use them
	cannotRun    = 126
	notFound     = 127
	markerName   = "TIDEMARK_SLOT"
	logRotateAt  = 16 << 20
	logTailBytes = 4 << 10
)

// ShimMain is the whole of the hidden subcommand that starts a worker. args are those after the subcommand's name. It
// returns only when the command could not be started; the result is the exit status.
func ShimMain(args []string) int {
	fail := func(status int, format string, a ...any) int {
		fmt.Fprintf(os.Stderr, "tidemark: "+format+"\n", a...)
		return status
	}
	var o order
	if len(args) < 2 || json.Unmarshal([]byte(args[0]), &o) != nil {
		return fail(shimFailed, "this subcommand is Tidemark's own: it starts the workers of the process target")
	}
	// From here on the lock goes when the command takes over.
	unix.CloseOnExec(lockFD)
	b := birth{Address: o.Address, Digest: o.Digest, Started: time.Now()}
	if o.Cgroup != "" && joinCgroup(o.Cgroup) == nil {
		b.Cgroup = o.Cgroup
	}
	boot, err := bootID()
	if err != nil {
		return fail(shimFailed, "%v", err)
	}
	s, err := readStat(os.Getpid())
	if err != nil {
		return fail(shimFailed, "read my own start time: %v", err)
	}
	b.identity = identity{PID: os.Getpid(), Start: s.Start, BootID: boot}
	if err := writeJSON(o.Record, b); err != nil {
		return fail(shimFailed, "%v: not started, because it could not be found again", err)
	}
	err = syscall.Exec(o.Program, args[1:], os.Environ())
	if errors.Is(err, os.ErrNotExist) {
		return fail(notFound, "cannot run %s: %v (or the interpreter that its first line names)", o.Program, err)
	}
	return fail(cannotRun, "cannot run %s: %v", o.Program, err)
}

// program finds the file to run, as the shell would, from the worker's folder.
func (c *Config) program() (string, error) {
	name := c.Command[0]
	if c.Dir != "" {
		// Else the system would say that the program does not exist.
		if info, err := os.Stat(c.Dir); err != nil || !info.IsDir() {
			return "", fmt.Errorf("the command cannot be run in %s: %w", c.Dir, cmp.Or(err, error(syscall.ENOTDIR)))
		}
	}
	if strings.Contains(name, "/") && !filepath.IsAbs(name) && c.Dir != "" {
		name = filepath.Join(c.Dir, name)
	}
	path, err := exec.LookPath(name)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return "", fmt.Errorf("the command cannot be run: %w", err)
	}
	return path, nil
}

// digest tells a worker that was started with another configuration.
func (c *Config) digest() string {
	h := sha256.New()
	env := make([]string, 0, len(c.Env))
	for k, v := range c.Env {
		env = append(env, k+"="+v)
	}
	sort.Strings(env)
	_ = json.NewEncoder(h).Encode([]any{c.Command, c.Dir, env})
	return fmt.Sprintf("%.8x", h.Sum(nil))
}

// notInherited are the variables by which systemd speaks to the daemon alone.
var notInherited = map[string]bool{"NOTIFY_SOCKET": true, "WATCHDOG_USEC": true, "WATCHDOG_PID": true,
	"LISTEN_FDS": true, "LISTEN_PID": true, "LISTEN_FDNAMES": true, "JOURNAL_STREAM": true, "MAINPID": true}

func (c *Config) environ(slot int, address, marker string) []string {
	env := []string{marker}
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if _, set := c.Env[name]; !set && !notInherited[name] && name != markerName {
			env = append(env, v)
		}
	}
	for k, v := range c.Env {
		env = append(env, k+"="+expand(v, slot, address))
	}
	return env
}

// launch forks the shim for a slot. held is the slot's lock.
func (t *Target) launch(slot int, address, marker, cgroup string, held, log *os.File) (*process, error) {
	program, err := t.cfg.program()
	if err != nil {
		return nil, err
	}
	o, err := json.Marshal(order{Record: t.records.path(slot, "pid"), Program: program, Address: address, Digest: t.digest, Cgroup: cgroup})
	if err != nil {
		return nil, err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	argv := append(append([]string{}, t.opts.Shim...), string(o))
	for _, a := range t.cfg.Command {
		argv = append(argv, expand(a, slot, address))
	}
	child, err := os.StartProcess(argv[0], argv, &os.ProcAttr{
		Dir:   t.cfg.Dir,
		Env:   t.cfg.environ(slot, address, marker),
		Files: []*os.File{null, log, log, held},
		// A session of its own: a signal to the daemon's group or terminal does not reach it, nor does it end with the daemon.
		Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return nil, fmt.Errorf("start a worker: %w", err)
	}
	p, err := watchChild(child)
	if err != nil {
		_ = child.Kill() // what cannot be watched must not run
		_, _ = child.Wait()
		return nil, fmt.Errorf("start a worker: %w", err)
	}
	return p, nil
}

// watchChild watches a child that was just started. Nobody else waits for it, so its pid stays its own, ended or not.
func watchChild(child *os.Process) (*process, error) {
	s, err := readStat(child.Pid)
	if err != nil {
		return nil, err
	}
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	return watch(identity{PID: child.Pid, Start: s.Start, BootID: boot}, child)
}

// openLog opens a slot's log for appending, and begins a new one when it has grown.
func openLog(path string) (f *os.File, size int64, err error) {
	if info, err := os.Stat(path); err == nil && info.Size() > logRotateAt {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, 0, fmt.Errorf("rotate a worker's log: %w", err)
		}
	}
	f, err = os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return nil, 0, fmt.Errorf("open a worker's log: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, 0, fmt.Errorf("open a worker's log: %w", err)
	}
	return f, info.Size(), nil
}

// logTail returns the last lines that were written after offset, on one line.
func logTail(path string, offset int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	begin := max(offset, info.Size()-logTailBytes)
	b, _ := io.ReadAll(io.NewSectionReader(f, begin, info.Size()-begin))
	lines := strings.FieldsFunc(string(b), func(r rune) bool { return r == '\n' || r == '\r' })
	if len(lines) > 5 {
		lines = lines[len(lines)-5:]
	}
	for i, l := range lines {
		lines[i] = strings.TrimSpace(strings.Map(printable, strings.ToValidUTF8(l, "?")))
		if len(lines[i]) > 300 {
			lines[i] = strings.ToValidUTF8(lines[i][:300], "") + "..."
		}
	}
	return strings.Join(lines, " | ")
}

func printable(r rune) rune {
	if r == '\t' {
		return ' '
	}
	if r < ' ' || r == 0x7f {
		return -1
	}
	return r
}
