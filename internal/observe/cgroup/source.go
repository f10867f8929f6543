package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"time"

	"tidemark/internal/fleet"
)

// Source reads one figure. It is not for several goroutines at once.
type Source struct {
	cfg    Config
	groups fs.FS            // where control groups are mounted
	proc   fs.FS            // the proc file system
	now    func() time.Time // monotonic; tests set it

	found string // where the unit's group was found
	last  *look
}

// New makes a source from a valid configuration.
func New(cfg Config) *Source {
	return &Source{cfg: cfg, groups: os.DirFS(cfg.Root), proc: os.DirFS(cfg.Proc), now: time.Now}
}

// look is what the groups' accounts said at one moment.
type look struct {
	at     time.Time
	groups map[string]sample
	host   float64 // the capacity that bounds groups without a limit, and all together; 0: nothing does
}

// sample is one group's account.
type sample struct {
	of      string  // the group that it is of: that which has the limit
	value   float64 // used, or counted up
	whole   float64 // the limit, or what is counted beside it
	limited bool    // there is a limit
}

// Read returns the figure. Missing: a group or its account cannot be read. Sparse: there is nothing to compare with yet.
func (s *Source) Read(ctx context.Context, scene fleet.Scene) (fleet.Reading, error) {
	v, q, err := 0.0, fleet.Missing, ctx.Err()
	if err == nil {
		v, q, err = s.figure(ctx, scene)
	}
	if err != nil {
		s.last = nil // what happened meanwhile is not of now
		return fleet.Reading{Time: scene.Now}, fmt.Errorf("%s: %w", s.cfg.Field, err)
	}
	return fleet.Reading{Value: v, Time: scene.Now, Quality: q}, nil
}

func (s *Source) figure(ctx context.Context, scene fleet.Scene) (float64, fleet.Quality, error) {
	groups, err := s.find(ctx, scene)
	if err != nil {
		return 0, fleet.Missing, err
	}
	field := fields[s.cfg.Field]
	to := &look{at: s.now(), groups: map[string]sample{}}
	for _, g := range groups {
		x, err := field.sample(s, g)
		if errors.Is(err, fs.ErrNotExist) {
			s.found = "" // the unit's group may have moved
		}
		if err != nil {
			return 0, fleet.Missing, err
		}
		to.groups[x.of] = x
	}
	if to.host, err = s.capacity(); err != nil {
		return 0, fleet.Missing, err
	}
	if field.figure == nil {
		return 100 * to.used() / to.bound(), fleet.Fresh, nil
	}
	from := s.last
	s.last = to
	if from == nil || !to.at.After(from.at) {
		return 0, fleet.Sparse, nil
	}
	v, ok := field.figure(from, to)
	if !ok {
		return 0, fleet.Sparse, nil // all groups are new
	}
	return v, fleet.Fresh, nil
}

// capacity is what the host has of the field's resource.
func (s *Source) capacity() (float64, error) {
	switch s.cfg.Field {
	case CPU:
		return s.hostCPUs()
	case Memory:
		return s.hostMemory()
	}
	return 0, nil
}

// used is what the groups use together.
func (l *look) used() float64 {
	v := 0.0
	for _, x := range l.groups {
		v += x.value
	}
	return v
}

// bound is what the groups may use together: their limits, and no more than the host has. Several groups without a limit share
// the host.
func (l *look) bound() float64 {
	v := 0.0
	for _, x := range l.groups {
		if !x.limited {
			return l.host
		}
		v += x.whole
	}
	if l.host > 0 {
		v = min(v, l.host)
	}
	return v
}

// both are the groups of to that from has too, with what they counted up since.
func both(from, to *look) *look {
	out := &look{groups: map[string]sample{}, host: to.host}
	for name, now := range to.groups {
		if was, ok := from.groups[name]; ok && was.value <= now.value {
			now.value -= was.value
			out.groups[name] = now
		}
	}
	return out
}

// usage is the time used by the time allowed, in percent.
func usage(from, to *look) (float64, bool) {
	d := both(from, to)
	if len(d.groups) == 0 {
		return 0, false
	}
	return 100 * d.used() / to.at.Sub(from.at).Seconds() / d.bound(), true
}

// rise is how much was counted.
func rise(from, to *look) (float64, bool) {
	d := both(from, to)
	return d.used(), len(d.groups) > 0
}

// ratio is how much was counted by what was counted beside it, in percent. Where nothing was counted, nothing was throttled.
func ratio(from, to *look) (float64, bool) {
	part, whole, known := 0.0, 0.0, false
	for name, x := range both(from, to).groups {
		beside := x.whole - from.groups[name].whole
		if beside < x.value {
			continue // a group made anew, whose counts have passed the old ones
		}
		part, whole, known = part+x.value, whole+beside, true
	}
	if whole == 0 {
		return 0, known
	}
	return 100 * part / whole, true
}

// cpu is the CPU time in seconds, and the quota in cores.
func (s *Source) cpu(g group) (sample, error) {
	x, err := s.limiting(g, "cpu", s.quota)
	if err != nil {
		return x, err
	}
	if s.unified() {
		x.value, err = s.keyed(group{all: x.of}, "cpu", "cpu.stat", "usage_usec")
		x.value /= 1e6
		return x, err
	}
	x.value, err = s.single(s.beside(g, x, "cpu", "cpuacct"), "cpuacct", "cpuacct.usage")
	x.value /= 1e9
	return x, err
}

// beside is the group of another controller of version 1 that belongs to the one that has the limit: as many levels up.
func (s *Source) beside(g group, x sample, controller, other string) group {
	dir := g.path(other)
	for at := g.path(controller); at != x.of && at != "/"; at = path.Dir(at) {
		dir = path.Dir(dir)
	}
	return group{all: dir}
}

// throttled counts periods in which the group was stopped, and all periods.
func (s *Source) throttled(g group) (sample, error) {
	x, err := s.limiting(g, "cpu", s.quota)
	if err != nil || !x.limited {
		return x, err // without a quota nothing is counted, and nothing throttled
	}
	if x.value, err = s.keyed(group{all: x.of}, "cpu", "cpu.stat", "nr_throttled"); err != nil {
		return x, err
	}
	x.whole, err = s.keyed(group{all: x.of}, "cpu", "cpu.stat", "nr_periods")
	return x, err
}

// memory is the working set and the limit in bytes.
func (s *Source) memory(g group) (sample, error) {
	current, inactive := "memory.usage_in_bytes", "total_inactive_file"
	if s.unified() {
		current, inactive = "memory.current", "inactive_file"
	}
	x, err := s.limiting(g, "memory", s.memoryLimit)
	if err != nil {
		return x, err
	}
	of := group{all: x.of}
	used, err := s.single(of, "memory", current)
	if err != nil {
		return x, err
	}
	droppable, err := s.keyed(of, "memory", "memory.stat", inactive)
	x.value = max(0, used-droppable)
	return x, err
}

// oomKills counts killed processes.
func (s *Source) oomKills(g group) (x sample, err error) {
	file := "memory.oom_control" // since Linux 4.13
	if s.unified() {
		file = "memory.events"
	}
	x.of = g.path("memory")
	x.value, err = s.keyed(g, "memory", file, "oom_kill")
	return x, err
}

// pressure is the time in seconds that some or all processes waited.
func pressure(resource, who string) func(*Source, group) (sample, error) {
	return func(s *Source, g group) (sample, error) {
		x := sample{of: g.path(""), whole: 1, limited: true}
		if _, err := fs.Stat(s.groups, s.mount("")); err != nil {
			return x, errors.New("this host has control groups of version 1 alone, which keep no account of pressure")
		}
		b, err := s.file(g, "", resource+".pressure")
		if err != nil {
			return x, err
		}
		micros, err := stalled(b, who)
		if err != nil {
			return x, fmt.Errorf("%s: %w", s.shown(g, "", resource+".pressure"), err)
		}
		x.value = micros / 1e6
		return x, nil
	}
}

// limiting finds what bounds a group: the tightest limit of its own and those above.
func (s *Source) limiting(g group, controller string, limit func(group) (float64, bool, error)) (sample, error) {
	x := sample{of: g.path(controller)}
	if err := s.exists(g, controller); err != nil {
		return x, err
	}
	for at := x.of; ; at = path.Dir(at) {
		v, ok, err := limit(group{all: at})
		if err != nil {
			return x, err
		}
		if ok && (!x.limited || v < x.whole) {
			x.of, x.whole, x.limited = at, v, true
		}
		if at == "/" {
			return x, nil
		}
	}
}

// quota is the CPU time that a group may use, in cores.
func (s *Source) quota(g group) (cores float64, ok bool, err error) {
	if s.unified() {
		b, err := s.file(g, "cpu", "cpu.max")
		if errors.Is(err, fs.ErrNotExist) {
			return 0, false, nil // the root has none, nor has a group whose CPU is not controlled
		}
		if err != nil {
			return 0, false, err
		}
		cores, ok, err = parseMax(b)
		if err != nil {
			err = fmt.Errorf("%s: %w", s.shown(g, "cpu", "cpu.max"), err)
		}
		return cores, ok, err
	}
	quota, err := s.single(g, "cpu", "cpu.cfs_quota_us")
	if errors.Is(err, fs.ErrNotExist) || err == nil && quota <= 0 {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	period, err := s.single(g, "cpu", "cpu.cfs_period_us")
	if err != nil || period <= 0 {
		return 0, false, err
	}
	return quota / period, true, nil
}

// unlimited is what version 1 writes where no limit was set, or what it may be rounded to.
const unlimited = 1 << 60

// memoryLimit is how much memory a group may use, in bytes.
func (s *Source) memoryLimit(g group) (bytes float64, ok bool, err error) {
	file := "memory.limit_in_bytes"
	if s.unified() {
		file = "memory.max"
	}
	v, err := s.single(g, "memory", file)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil // the root has none
	}
	return v, err == nil && v > 0 && v < unlimited, err
}
