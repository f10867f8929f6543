package prefork

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// view is a master and its HTTP workers at one moment, by age.
type view struct {
	master  process
	workers []process
	ended   int // children that the master has not reaped yet: it may be about to replace them

	inside bool      // pids are those of the container, and boot is when its machine started
	boot   time.Time // only when inside
}

// local is a process's pid on this machine, or 0.
func (v view) local(p process) int {
	if v.inside {
		return 0
	}
	return p.pid
}

// worker finds a worker by what it is, not by its pid alone.
func (v view) worker(id ident) (process, bool) {
	for _, w := range v.workers {
		if w.ident == id {
			return w, true
		}
	}
	return process{}, false
}

// remain counts the workers of an earlier view that are still there.
func (v view) remain(earlier []process) int {
	n := 0
	for _, w := range earlier {
		if _, ok := v.worker(w.ident); ok {
			n++
		}
	}
	return n
}

// look finds the master and counts its workers anew.
func (t *Target) look() (view, error) {
	if t.container != nil {
		return t.lookAtContainer()
	}
	master, err := t.findMaster()
	if err != nil {
		return view{}, err
	}
	return t.seenFromHere(master)
}

func (t *Target) seenFromHere(master process) (view, error) {
	all, err := children(master.pid)
	if err != nil {
		return view{}, fmt.Errorf("list the workers of the %s master %d: %w", t.cfg.Flavour, master.pid, err)
	}
	v := view{master: master}
	v.sort(all, t.flavour)
	return v, nil
}

// sort tells the workers from the master's other children.
func (v *view) sort(children []process, f flavour) {
	for _, child := range children {
		switch {
		case child.dead():
			v.ended++
		case f.worker(v.master, child):
			v.workers = append(v.workers, child)
		}
	}
}

// findMaster reads the pid file, and makes sure that the process it names is the master.
func (t *Target) findMaster() (process, error) {
	text, err := os.ReadFile(t.cfg.PIDFile)
	if errors.Is(err, fs.ErrNotExist) {
		return process{}, fmt.Errorf("there is no pid file %s: is %s running, and was it started to write this file? (Odoo: pidfile or --pidfile; gunicorn: --pid)", t.cfg.PIDFile, t.cfg.Flavour)
	}
	if err != nil {
		return process{}, fmt.Errorf("read the pid file: %w", err)
	}
	pid, err := parsePID(text)
	if err != nil {
		return process{}, fmt.Errorf("the pid file %s %w: is it the one that %s writes?", t.cfg.PIDFile, err, t.cfg.Flavour)
	}
	p, err := readProcess(pid)
	if errors.Is(err, fs.ErrNotExist) || err == nil && p.dead() {
		return process{}, fmt.Errorf("the pid file %s names process %d, which does not run: %s has stopped, or the file was left behind, or was written inside a container, where pids are counted apart: write container: NAME instead", t.cfg.PIDFile, pid, t.cfg.Flavour)
	}
	if err != nil {
		return process{}, err
	}
	if err := t.master(p, "the pid file "+t.cfg.PIDFile, "remove the stale file and restart "+t.cfg.Flavour+", or correct pid_file or match"); err != nil {
		return process{}, err
	}
	return p, nil
}

// master makes sure that a process is one: that it looks like one, and handles the signals. whose says who named it.
func (t *Target) master(p process, whose, mend string) error {
	if !strings.Contains(p.title(), t.match()) {
		return fmt.Errorf("%s names process %d, which is %q and no %s master (its command line does not contain %q): %s; nothing was signalled",
			whose, p.pid, short(p.title()), t.cfg.Flavour, t.match(), mend)
	}
	for _, sig := range t.flavour.catches {
		if !p.caught.has(sig) {
			return fmt.Errorf("process %d (%s) does not handle %s, as every %s master does: it is still starting, or it is one of the workers, or it was started without workers; nothing was signalled",
				p.pid, short(p.title()), unix.SignalName(sig), t.cfg.Flavour)
		}
	}
	return nil
}

func (t *Target) match() string {
	if t.cfg.Match != "" {
		return t.cfg.Match
	}
	return t.cfg.Flavour
}

func short(s string) string {
	if len(s) > 120 {
		return s[:120] + "..."
	}
	return s
}

// parsePID reads a pid file: one number above 1, and white space.
func parsePID(text []byte) (int, error) {
	s := strings.TrimSpace(string(text))
	if s == "" {
		return 0, errors.New("is empty")
	}
	pid, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("holds %q and no process id", short(s))
	}
	if pid < 2 {
		return 0, fmt.Errorf("holds %d, which cannot be its process id", pid)
	}
	return int(pid), nil
}

// errChanged: what was to be signalled is not there any more, or not what it was. Count anew and decide again.
var errChanged = errors.New("the processes changed before the signal was sent")

// signal is the one place that a signal leaves from. It takes hold of the process first (by pidfd, where the kernel has them)
// and makes sure after that who it is, so that a pid that is given to another process at any moment is not hit. It sends to
// the master or a worker of v, as long as the master is the same, and SIGTTOU only while there are more than n workers. It
// returns what it saw.
func (t *Target) signal(v view, to ident, sig syscall.Signal, n int) (view, error) {
	deliver, release, err := t.hold(v, to)
	if err != nil {
		return view{}, err
	}
	defer release()
	now, err := t.look()
	if err != nil {
		return view{}, err
	}
	if now.master.ident != v.master.ident {
		return now, errChanged
	}
	switch sig {
	case syscall.SIGTTIN:
		if to != now.master.ident {
			return now, errChanged
		}
	case syscall.SIGTTOU:
		if to != now.master.ident || len(now.workers) <= n {
			return now, errChanged
		}
	case syscall.SIGINT:
		if w, ok := now.worker(to); !ok || !t.flavour.ready(w) {
			return now, errChanged
		}
	default:
		return now, fmt.Errorf("signal %d is none of those that change the number of workers", int(sig))
	}
	return now, deliver(sig)
}

// hold takes hold of a process of v, and returns how it is signalled.
func (t *Target) hold(v view, to ident) (deliver func(syscall.Signal) error, release func(), err error) {
	if v.inside {
		return func(sig syscall.Signal) error { return t.signalInside(v, to, sig) }, func() {}, nil
	}
	handle, err := os.FindProcess(to.pid)
	if err != nil {
		return nil, nil, fmt.Errorf("take hold of process %d: %w", to.pid, err)
	}
	deliver = func(sig syscall.Signal) error {
		err := handle.Signal(sig)
		switch {
		case errors.Is(err, os.ErrProcessDone):
			return errChanged
		case errors.Is(err, fs.ErrPermission) && t.container != nil && to == v.master.ident:
			t.mu.Lock()
			defer t.mu.Unlock()
			t.inside = true // the engine may do what this program may not
			return errChanged
		case err != nil:
			return fmt.Errorf("signal process %d (run as its user or as root): %w", to.pid, err)
		}
		return nil
	}
	return deliver, func() { _ = handle.Release() }, nil
}
