package listenqueue

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"tidemark/internal/act/sockets"
	"tidemark/internal/fleet"
)

// Source reads one figure of one socket. It is not for several goroutines at once.
type Source struct {
	cfg    Config
	read   reader
	tables *Tables
	now    func() time.Time // monotonic; tests set it

	last drops // of Overflows
}

type reader func(*Source, *look, fleet.Scene) (float64, fleet.Quality, error)

// drops is what the kernel had counted at one moment, by network namespace.
type drops struct {
	at        time.Time
	overflows map[uint64]uint64
}

// New makes a source from a valid configuration. Sources that share tables read them once a tick.
func New(cfg Config, tables *Tables) *Source {
	return &Source{cfg: cfg, read: fields[cfg.Field].read, tables: tables, now: time.Now}
}

// Read returns the figure, or a sparse reading as long as a rate has nothing to be compared with, or a missing one and why. That
// nothing listens is missing too: it is not an empty queue.
func (s *Source) Read(ctx context.Context, scene fleet.Scene) (fleet.Reading, error) {
	v, q, err := 0.0, fleet.Missing, ctx.Err()
	if err == nil {
		v, q, err = s.figure(ctx, scene)
	}
	if err != nil {
		s.last = drops{} // what was dropped meanwhile was not dropped now
		return fleet.Reading{Time: scene.Now}, fmt.Errorf("%s: %w", s.cfg.Field, err)
	}
	return fleet.Reading{Value: v, Time: scene.Now, Quality: q}, nil
}

func (s *Source) figure(ctx context.Context, scene fleet.Scene) (float64, fleet.Quality, error) {
	l, err := s.look(ctx, scene)
	if err != nil {
		return 0, fleet.Missing, err
	}
	return s.read(s, l, scene)
}

// look is the socket at one moment.
type look struct {
	namespaces map[uint64]int // of the network, and a process in each
	listeners  []listener
	accepted   map[uint64]bool // connections that a process holds, by inode
}

type listener struct {
	inode  uint64
	queued int
}

// look reads the tables of the namespaces that the workers are in: one, or one for each container. While the workers are not
// known, it is not known where to look.
func (s *Source) look(ctx context.Context, scene fleet.Scene) (*look, error) {
	if !scene.WorkersKnown {
		return nil, errors.New("the workers are not known, because the target could not be read")
	}
	l := &look{namespaces: map[uint64]int{}, accepted: map[uint64]bool{}}
	for i := range scene.Workers {
		w := &scene.Workers[i]
		if w.PID <= 0 || w.Phase == fleet.Gone {
			continue
		}
		if err := s.add(ctx, l, scene.Now, w.PID); err != nil && !errors.Is(err, fs.ErrNotExist) { // else it ended just now
			return nil, err
		}
	}
	if len(l.namespaces) == 0 {
		if err := s.add(ctx, l, scene.Now, os.Getpid()); err != nil {
			return nil, err
		}
	}
	if len(l.listeners) == 0 {
		return nil, fmt.Errorf("nothing listens on %s: is the service running?", s.cfg.socket())
	}
	return l, nil
}

// add takes in the network namespace of a process, unless another process has shown it.
func (s *Source) add(ctx context.Context, l *look, now time.Time, pid int) error {
	namespace, table, err := s.tables.of(ctx, now, pid)
	if err != nil {
		return err
	}
	if _, seen := l.namespaces[namespace]; seen {
		return nil
	}
	l.namespaces[namespace] = pid
	waiting, first := 0, len(l.listeners)
	for i := range table {
		c := &table[i]
		switch {
		case !s.ours(c):
		case c.State == sockets.Listen:
			l.listeners = append(l.listeners, listener{c.Inode, c.RecvQ})
		case c.Inode != 0:
			l.accepted[c.Inode] = true
		case c.Network == sockets.Unix:
			waiting++ // a unix listener's own line does not tell its queue's length; what waits is listed
		}
	}
	if waiting > 0 && len(l.listeners) > first {
		l.listeners[first].queued = waiting // one at most can be reached under a path
	}
	return nil
}

// ours reports whether a socket is the listener or came in through it.
func (s *Source) ours(c *sockets.Socket) bool {
	if s.cfg.Path != "" {
		return c.Network == sockets.Unix && c.Path == s.cfg.Path
	}
	return c.Network == sockets.TCP && int(c.Local.Port()) == s.cfg.Port
}

func (s *Source) queued(l *look, _ fleet.Scene) (float64, fleet.Quality, error) {
	n := 0
	for _, x := range l.listeners {
		n += x.queued
	}
	return float64(n), fleet.Fresh, nil
}

func (s *Source) queuedPercent(l *look, _ fleet.Scene) (float64, fleet.Quality, error) {
	known := map[uint64]int{}
	if s.cfg.Backlog == 0 {
		var err error
		if known, err = backlogs(s.cfg.Path != ""); err != nil {
			return 0, fleet.Missing, err
		}
	}
	fullest := 0.0
	for _, x := range l.listeners {
		takes := s.cfg.Backlog
		if takes == 0 {
			takes = known[x.inode]
		}
		if takes == 0 {
			return 0, fleet.Missing, fmt.Errorf("the kernel does not tell the backlog of %s: if it is in another network namespace, such as a container's, write backlog", s.cfg.socket())
		}
		// The kernel lets one more in than the backlog says.
		fullest = max(fullest, min(100, 100*float64(x.queued)/float64(takes)))
	}
	return fullest, fleet.Fresh, nil
}

func (s *Source) connections(l *look, _ fleet.Scene) (float64, fleet.Quality, error) {
	return float64(len(l.accepted)), fleet.Fresh, nil
}

func (s *Source) busyWorkers(l *look, scene fleet.Scene) (float64, fleet.Quality, error) {
	busy, _, err := l.busy(scene)
	return float64(busy), fleet.Fresh, err
}

func (s *Source) busyPercent(l *look, scene fleet.Scene) (float64, fleet.Quality, error) {
	busy, all, err := l.busy(scene)
	if err != nil {
		return 0, fleet.Missing, err
	}
	return 100 * float64(busy) / float64(all), fleet.Fresh, nil
}

// busy counts the serving workers, and those among them that hold a connection. Workers that ended just now are passed over.
func (l *look) busy(scene fleet.Scene) (busy, all int, err error) {
	for i := range scene.Workers {
		w := &scene.Workers[i]
		if w.Phase != fleet.Serving {
			continue
		}
		if w.PID <= 0 {
			return 0, 0, fmt.Errorf("worker %s is not a process of this machine; take %s or %s", w.ID, Queued, Connections)
		}
		open, err := sockets.Inodes(w.PID)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, 0, err
		}
		all++
		for _, inode := range open {
			if l.accepted[inode] {
				busy++
				break
			}
		}
	}
	if all == 0 {
		return 0, 0, errors.New("no worker serves")
	}
	return busy, all, nil
}

func (s *Source) overflows(l *look, _ fleet.Scene) (float64, fleet.Quality, error) {
	now := drops{at: s.now(), overflows: map[uint64]uint64{}}
	for ns, pid := range l.namespaces {
		counted, err := sockets.ReadDrops(pid)
		if err != nil {
			return 0, fleet.Missing, err
		}
		now.overflows[ns] = counted.ListenOverflows
	}
	before := s.last
	s.last = now
	elapsed := now.at.Sub(before.at).Seconds()
	if before.at.IsZero() || elapsed <= 0 {
		return 0, fleet.Sparse, nil
	}
	rise, compared := uint64(0), false
	for ns, n := range now.overflows {
		if was, ok := before.overflows[ns]; ok && was <= n {
			rise, compared = rise+n-was, true
		}
	}
	if !compared {
		return 0, fleet.Sparse, nil
	}
	return float64(rise) / elapsed, fleet.Fresh, nil
}
