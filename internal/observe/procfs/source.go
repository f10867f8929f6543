package procfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"tidemark/internal/fleet"
)

// Source reads one figure. It is not for several goroutines at once.
type Source struct {
	cfg      Config
	read     reader
	now      func() time.Time // monotonic; tests set it
	exists   func(pid int) bool
	pageSize float64
	buf      [4096]byte

	// Two looks back; see delta.
	base, last, next look
	shares           map[int]share // of MemoryPSS
}

type reader func(*Source, context.Context, fleet.Scene) (float64, fleet.Quality, error)

// New makes a source from a valid configuration.
func New(cfg Config) *Source {
	s := &Source{cfg: cfg, read: fields[cfg.Field].read, now: time.Now, pageSize: float64(os.Getpagesize()), shares: map[int]share{}}
	s.exists = func(int) bool { return false }
	if cfg.Root == DefaultConfig().Root { // only there the pids are ours to ask for
		s.exists = func(pid int) bool { err := unix.Kill(pid, 0); return err == nil || errors.Is(err, unix.EPERM) }
	}
	return s
}

// Read returns the figure, or a sparse reading as long as a rate has nothing to be compared with, or a missing one and why.
func (s *Source) Read(ctx context.Context, scene fleet.Scene) (fleet.Reading, error) {
	v, q, err := 0.0, fleet.Missing, ctx.Err()
	if err == nil {
		v, q, err = s.read(s, ctx, scene)
	}
	if err != nil {
		return fleet.Reading{Time: scene.Now}, fmt.Errorf("%s: %w", s.cfg.Field, err)
	}
	return fleet.Reading{Value: v, Time: scene.Now, Quality: q}, nil
}

// errGone: the process ended since the target saw it.
var errGone = errors.New("the process ended")

// each calls f for each worker that is a process and in one of the phases. Workers that just ended are passed over; when none is
// left, or one cannot be seen, there is no figure.
func (s *Source) each(ctx context.Context, scene fleet.Scene, phases string, in func(fleet.Phase) bool, f func(pid int) error) error {
	if !scene.WorkersKnown {
		return errors.New("the workers are not known, because the target could not be read")
	}
	workers, read := 0, 0
	for i := range scene.Workers {
		w := &scene.Workers[i]
		if !in(w.Phase) {
			continue
		}
		if w.PID <= 0 {
			return fmt.Errorf("worker %s is not a process of this machine; take this signal from where its workers run", w.ID)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		workers++
		switch err := f(w.PID); {
		case err == nil:
			read++
		case !errors.Is(err, errGone):
			return err
		}
	}
	switch {
	case workers == 0:
		return fmt.Errorf("no worker %s", phases)
	case read == 0:
		return fmt.Errorf("none of the %d workers that the target reported is in %s: they ended just now, or %s is not of the machine that they run on", workers, s.cfg.Root, s.cfg.Root)
	}
	return nil
}

func serving(p fleet.Phase) bool { return p == fleet.Serving }
func alive(p fleet.Phase) bool   { return p != fleet.Gone }

// file reads a file of /proc. The bytes are good until the next call.
func (s *Source) file(name string) ([]byte, error) {
	path := s.cfg.Root + "/" + name
	fd, err := retry(func() (int, error) { return unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer func() { _ = unix.Close(fd) }()
	n := 0
	for n < len(s.buf) {
		m, err := retry(func() (int, error) { return unix.Read(fd, s.buf[n:]) })
		if err != nil {
			return nil, &os.PathError{Op: "read", Path: path, Err: err}
		}
		if m <= 0 {
			break
		}
		n += m
	}
	return s.buf[:n], nil
}

func retry(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// process reads a file of a process. hint says what to do when that is not allowed.
func (s *Source) process(pid int, name, hint string) ([]byte, error) {
	b, err := s.file(strconv.Itoa(pid) + "/" + name)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ESRCH):
		if _, gone := s.file(strconv.Itoa(pid) + "/stat"); gone == nil {
			return nil, err // the process is there: this kernel has no such file
		}
		if s.exists(pid) {
			return nil, fmt.Errorf("process %d is hidden: %s", pid, hidepid)
		}
		return nil, errGone
	case errors.Is(err, os.ErrPermission):
		return nil, fmt.Errorf("%w; %s", err, hint)
	}
	return b, err
}

// hidepid is why a file that all may read cannot be read.
const hidepid = "/proc is mounted with hidepid; add Tidemark's user to the group of its gid= option, or run Tidemark as the workers' user"

func (s *Source) stat(pid int) (stat, error) {
	b, err := s.process(pid, "stat", hidepid)
	if err != nil {
		return stat{}, err
	}
	st, err := parseStat(b)
	switch {
	case len(b) == 0 || err == nil && (st.state == 'Z' || st.state == 'X'): // a process that ended, nothing but its entry is left
		return st, errGone
	case err != nil:
		return st, fmt.Errorf("%s/%d/stat: %w", s.cfg.Root, pid, err)
	}
	return st, nil
}

func (s *Source) rss(ctx context.Context, scene fleet.Scene) (float64, fleet.Quality, error) {
	pages := 0.0
	err := s.each(ctx, scene, "exists", alive, func(pid int) error {
		st, err := s.stat(pid)
		pages += float64(st.rss)
		return err
	})
	return pages * s.pageSize, fleet.Fresh, err
}

// share is a worker's proportional memory, and when that was measured.
type share struct {
	start uint64
	bytes uint64
	at    time.Time
	seen  bool
}

// shareAge is how long a share is good for: to measure it walks all of the process's memory.
const shareAge = 30 * time.Second

func (s *Source) pss(ctx context.Context, scene fleet.Scene) (float64, fleet.Quality, error) {
	for pid, sh := range s.shares {
		sh.seen = false
		s.shares[pid] = sh
	}
	total, now := 0.0, s.now()
	err := s.each(ctx, scene, "exists", alive, func(pid int) error {
		st, err := s.stat(pid)
		if err != nil {
			return err
		}
		sh := s.shares[pid]
		if sh.at.IsZero() || sh.start != st.start || now.Sub(sh.at) >= shareAge {
			if sh, err = s.measure(pid); err != nil {
				return err
			}
			sh.start, sh.at = st.start, now
		}
		sh.seen = true
		s.shares[pid] = sh
		total += float64(sh.bytes)
		return nil
	})
	for pid, sh := range s.shares {
		if !sh.seen {
			delete(s.shares, pid)
		}
	}
	return total, fleet.Fresh, err
}

func (s *Source) measure(pid int) (share, error) {
	b, err := s.process(pid, "smaps_rollup", "run Tidemark as the workers' user, give it CAP_SYS_PTRACE, or take "+MemoryRSS)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return share{}, fmt.Errorf("%w; this kernel cannot tell, take %s", err, MemoryRSS)
	case err != nil:
		return share{}, err
	case len(b) == 0: // it is ending: its memory is gone already
		return share{}, errGone
	}
	n, ok := valueOf(b, "Pss:")
	if !ok {
		return share{}, fmt.Errorf("%s/%d/smaps_rollup: %w", s.cfg.Root, pid, errStat)
	}
	return share{bytes: n}, nil
}

// memory reads the host's memory, in all and what new work can have of it.
func (s *Source) memory() (total, available uint64, err error) {
	b, err := s.file("meminfo")
	if err != nil {
		return 0, 0, err
	}
	total, ok := valueOf(b, "MemTotal:")
	available, ok2 := valueOf(b, "MemAvailable:")
	if !ok || !ok2 || total == 0 || available > total {
		return 0, 0, fmt.Errorf("%s/meminfo: %w", s.cfg.Root, errStat)
	}
	return total, available, nil
}

func (s *Source) memoryUsed(context.Context, fleet.Scene) (float64, fleet.Quality, error) {
	total, available, err := s.memory()
	if err != nil {
		return 0, fleet.Missing, err
	}
	return 100 * (1 - float64(available)/float64(total)), fleet.Fresh, nil
}

func (s *Source) memoryAvailable(context.Context, fleet.Scene) (float64, fleet.Quality, error) {
	_, available, err := s.memory()
	if err != nil {
		return 0, fleet.Missing, err
	}
	return float64(available), fleet.Fresh, nil
}
