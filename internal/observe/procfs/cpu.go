package procfs

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"tidemark/internal/fleet"
)

// look is what the counters said at one moment.
type look struct {
	at          time.Time // by the monotonic clock: the wall clock may jump
	workers     map[int]spent
	busy, total uint64 // the host's, in clock ticks
}

// spent is the CPU time that one process has used.
type spent struct{ start, ticks, threads uint64 }

// shortest is the least time that a rate is measured over. Counters step by 10 ms, so that less would tell chance.
const shortest = 500 * time.Millisecond

// delta takes s.next as the newest look and returns the one to compare it with: the latest that lies far enough back. It is nil
// as long as there is none.
func (s *Source) delta() (from, to *look) {
	switch {
	case s.last.at.IsZero():
		s.last, s.next = s.next, look{}
		return nil, nil
	case s.next.at.Sub(s.last.at) >= shortest:
		s.base, s.last, s.next = s.last, s.next, s.base
		return &s.base, &s.last
	case s.base.at.IsZero():
		return nil, nil
	}
	return &s.base, &s.next
}

func (s *Source) cpu(ctx context.Context, scene fleet.Scene) (float64, fleet.Quality, error) {
	if s.next.workers == nil {
		s.next.workers = map[int]spent{}
	}
	clear(s.next.workers)
	s.next.at = s.now()
	err := s.each(ctx, scene, "serves", serving, func(pid int) error {
		st, err := s.stat(pid)
		if err == nil {
			s.next.workers[pid] = spent{st.start, st.ticks, st.threads}
		}
		return err
	})
	if err != nil {
		return 0, fleet.Missing, err
	}
	from, to := s.delta()
	if from == nil {
		return 0, fleet.Sparse, nil
	}
	v, ok := utilisation(from, to)
	if !ok {
		return 0, fleet.Sparse, nil // they all have just come
	}
	return v, fleet.Fresh, nil
}

// utilisation is the CPU time of the workers in both looks by the time between them, in percent. A process is the same if its
// pid and its start are: a pid that was given anew counts from its second look on, as any new worker.
func utilisation(from, to *look) (float64, bool) {
	var n, ticks uint64
	single := true
	for pid, now := range to.workers {
		before, ok := from.workers[pid]
		if !ok || before.start != now.start || now.ticks < before.ticks {
			continue
		}
		n++
		ticks += now.ticks - before.ticks
		single = single && now.threads == 1 && before.threads == 1
	}
	if n == 0 {
		return 0, false
	}
	elapsed := to.at.Sub(from.at).Seconds()
	v := 100 * float64(ticks) / ticksPerSecond / elapsed / float64(n)
	// User and system time are rounded apart, each by less than one clock tick.
	if rounding := 100 * 2 / ticksPerSecond / elapsed; single && v > 100 && v <= 100+rounding {
		v = 100
	}
	return v, true
}

func (s *Source) hostCPU(context.Context, fleet.Scene) (float64, fleet.Quality, error) {
	b, err := s.file("stat")
	if err != nil {
		return 0, fleet.Missing, err
	}
	var ok bool
	s.next.at = s.now()
	if s.next.busy, s.next.total, ok = hostTicks(b); !ok {
		return 0, fleet.Missing, fmt.Errorf("%s/stat: %w", s.cfg.Root, errStat)
	}
	from, to := s.delta()
	if from == nil || to.total <= from.total || to.busy < from.busy || to.busy-from.busy > to.total-from.total {
		return 0, fleet.Sparse, nil // nothing to compare with, or a core came or went between
	}
	return 100 * float64(to.busy-from.busy) / float64(to.total-from.total), fleet.Fresh, nil
}

// hostTicks reads the first line of /proc/stat: "cpu user nice system idle iowait irq softirq steal ...". What follows,
// the guests', is in user and nice already.
func hostTicks(b []byte) (busy, total uint64, ok bool) {
	rest, ok := bytes.CutPrefix(b, []byte("cpu "))
	if !ok {
		return 0, 0, false
	}
	const idle, iowait = 3, 4
	var room [8][]byte
	f := words(rest, room[:0])
	if len(f) < len(room) {
		return 0, 0, false
	}
	for i, w := range f {
		n, ok := number(w)
		if !ok {
			return 0, 0, false
		}
		total += n
		if i != idle && i != iowait {
			busy += n
		}
	}
	return busy, total, true
}
