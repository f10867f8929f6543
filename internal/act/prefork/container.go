package prefork

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// engineTimeout is how long the engine may take to answer.
const engineTimeout = 10 * time.Second

// lookAtContainer finds the master that is a container's main process, and its workers. Where the kernel shows them here, under pids of
// this machine, that is how they are looked at and signalled: it tells who is busy, and a process that is held by its pidfd
// is never mistaken. Where it does not, or does not let this program signal them, both go through the engine.
func (t *Target) lookAtContainer() (view, error) {
	ctx, cancel := context.WithTimeout(context.Background(), engineTimeout)
	defer cancel()
	t.mu.Lock()
	known, inside := t.main, t.inside
	t.mu.Unlock()
	if inside {
		return t.lookInside(ctx)
	}
	p, err := readProcess(known.pid)
	if err != nil || p.ident != known || p.dead() { // the engine is asked only when the process that it named before has gone
		pid, err := t.container.MainProcess(ctx)
		if err != nil {
			return view{}, err
		}
		if pid == 0 {
			return t.lookInside(ctx)
		}
		if p, err = readProcess(pid); err != nil {
			return view{}, err
		}
	}
	if err := t.mainProcess(p); err != nil {
		return view{}, err
	}
	t.mu.Lock()
	t.main = p.ident
	t.mu.Unlock()
	return t.seenFromHere(p)
}

func (t *Target) mainProcess(p process) error {
	return t.master(p, "the container "+t.cfg.Container, "correct container or match; with an init (docker run --init) the master is not the main process")
}

// listing prints what the kernel shows of the processes in a container: sections that begin with $0, which nobody there can guess,
// and a name.
const listing = `for f in /proc/stat /proc/uptime; do printf '%s %s\n' "$0" "$f"; cat "$f"; done
for d in /proc/[0-9]*; do for f in stat status cmdline environ; do printf '%s %s\n' "$0" "$f"; cat "$d/$f"; done; done 2>/dev/null
printf '%s end\n' "$0"`

// lookInside asks a shell in the container.
func (t *Target) lookInside(ctx context.Context) (view, error) {
	mark := rand.Text()
	out, _, err := t.container.Run(ctx, "/bin/sh", "-c", listing, mark)
	if err != nil {
		return view{}, fmt.Errorf("list the processes (Tidemark needs a shell and cat there, or a view of the host's processes: pid: host): %w", err)
	}
	v, err := readListing(out, mark, t.flavour)
	if err != nil {
		return view{}, fmt.Errorf("list the processes of the container %s: %w", t.cfg.Container, err)
	}
	return v, t.mainProcess(v.master)
}

// readListing finds the master, which is process 1, and its workers in a listing.
func readListing(out []byte, mark string, f flavour) (view, error) {
	sections := bytes.Split(out, []byte(mark+" "))
	v := view{inside: true}
	var now time.Duration
	files := map[string][]byte{}
	var all []process
	ended := false
	for _, section := range sections[1:] {
		name, text, _ := bytes.Cut(section, []byte("\n"))
		switch string(name) {
		case "/proc/stat":
			boot, err := parseBoot(text)
			if err != nil {
				return view{}, err
			}
			v.boot = boot
		case "/proc/uptime":
			up, _, _ := strings.Cut(string(text), " ")
			s, err := strconv.ParseFloat(up, 64)
			if err != nil {
				return view{}, fmt.Errorf("its time since boot is not understood: %q", text)
			}
			now = time.Duration(s * float64(time.Second))
		case "stat":
			files = map[string][]byte{"stat": text}
		case "environ":
			p, err := parseProcess(files["stat"], files["status"], files["cmdline"], now)
			if err != nil {
				continue // it ended while it was listed
			}
			p.environ = func() ([]byte, error) { return text, nil }
			all = append(all, p)
		case "end":
			ended = true
		default:
			files[string(name)] = text
		}
	}
	if !ended || v.boot.IsZero() || now == 0 {
		return view{}, errors.New("the list is not whole")
	}
	byAge(all)
	var children []process
	for _, p := range all {
		switch {
		case p.pid == 1:
			v.master = p
		case p.parent == 1:
			children = append(children, p)
		}
	}
	if v.master.pid == 0 {
		return view{}, errors.New("it has no process 1: with pid: host the master can only be moved by a daemon that sees the host's processes too")
	}
	v.sort(children, f)
	return v, nil
}

// tell sends process $1 the signal $3 when it is the one that started at $2.
const tell = `read -r line <"/proc/$1/stat" || exit 3
pid=$1 start=$2 signal=$3
set -- ${line##*) }
[ "${20}" = "$start" ] || exit 3
kill -s "$signal" "$pid"`

// signalInside sends a signal to a process of a container: to the master by the engine, to a worker by a shell beside it.
func (t *Target) signalInside(v view, to ident, sig syscall.Signal) error {
	ctx, cancel := context.WithTimeout(context.Background(), engineTimeout)
	defer cancel()
	name := strings.TrimPrefix(unix.SignalName(sig), "SIG")
	if to == v.master.ident {
		return t.container.Signal(ctx, name)
	}
	_, code, err := t.container.Run(ctx, "/bin/sh", "-c", tell, "tell", strconv.Itoa(to.pid), strconv.FormatUint(to.start, 10), name)
	switch {
	case err != nil:
		return err
	case code == 3:
		return errChanged
	case code != 0:
		return fmt.Errorf("signal worker %d in the container %s: kill ended with exit code %d: it may be another user's than the container's", to.pid, t.cfg.Container, code)
	}
	return nil
}
