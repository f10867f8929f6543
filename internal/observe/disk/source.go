package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"tidemark/internal/fleet"
)

// Source reads one figure. It is not for several goroutines at once.
type Source struct {
	cfg       Config
	proc, sys string           // where these file systems are mounted; tests set them, and what follows
	now       func() time.Time // monotonic
	under     func(path string) (device, error)

	last look
}

// look is what the disk's counters said at one moment.
type look struct {
	at      time.Time
	disk    string
	counted counters
}

// New makes a source from a valid configuration.
func New(cfg Config) *Source {
	return &Source{cfg: cfg, proc: "/proc", sys: "/sys", now: time.Now, under: deviceUnder}
}

// Read returns the figure. Missing: the disk is not known, or its counters cannot be read. Sparse: there is nothing to compare with
// yet, or nothing was read or written that could have taken a time.
func (s *Source) Read(ctx context.Context, scene fleet.Scene) (fleet.Reading, error) {
	v, q, err := 0.0, fleet.Missing, ctx.Err()
	switch {
	case err != nil:
	case s.cfg.Field == Fill:
		v, err = fill(s.cfg.Path)
		q = fleet.Fresh
	default:
		v, q, err = s.figure()
	}
	if err != nil {
		s.last = look{} // what happened meanwhile is not of now
		return fleet.Reading{Time: scene.Now}, fmt.Errorf("%s: %w", s.cfg.Field, err)
	}
	return fleet.Reading{Value: v, Time: scene.Now, Quality: q}, nil
}

func (s *Source) figure() (float64, fleet.Quality, error) {
	now, err := s.look()
	if err != nil {
		return 0, fleet.Missing, err
	}
	before := s.last
	s.last = now
	seconds := now.at.Sub(before.at).Seconds()
	if before.disk != now.disk || seconds <= 0 {
		return 0, fleet.Sparse, nil
	}
	if d, ok := now.counted.since(before.counted); ok {
		if v, ok := fields[s.cfg.Field].of(d, seconds); ok {
			return v, fleet.Fresh, nil
		}
	}
	return 0, fleet.Sparse, nil
}

// look finds the disk and reads its counters. The disk is found anew each time: a path may come to lie on another one.
func (s *Source) look() (look, error) {
	is, disk := func(_ device, name string) bool { return name == s.cfg.Device }, s.cfg.Device
	if s.cfg.Path != "" {
		d, err := s.under(s.cfg.Path)
		if err != nil {
			return look{}, err
		}
		if d, err = s.whole(d); err != nil {
			return look{}, err
		}
		is, disk = func(x device, _ string) bool { return x == d }, d.String()
	}
	path := filepath.Join(s.proc, "diskstats")
	table, err := os.ReadFile(path)
	if err != nil {
		return look{}, err
	}
	at := s.now()
	counted, found, err := find(table, is)
	if err != nil {
		return look{}, fmt.Errorf("%s: %w", path, err)
	}
	if !found {
		return look{}, fmt.Errorf("%s has no disk %s: lsblk shows those that are there", path, disk)
	}
	return look{at, disk, counted}, nil
}

// deviceUnder is the block device that the file system of a path lies on.
func deviceUnder(path string) (device, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return device{}, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	d := device{unix.Major(st.Dev), unix.Minor(st.Dev)}
	if d.major != 0 {
		return d, nil
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return device{}, &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	return device{}, fmt.Errorf("%s lies on %s", path, kindOf(int64(fs.Type))) //nolint:unconvert // it has another width on other machines
}

// kinds are file systems that lie on no one device, by their magic numbers; see statfs(2).
var kinds = map[int64]struct{ name, hint string }{
	unix.OVERLAYFS_SUPER_MAGIC: {"overlay", "a container's own layers: write the path of a volume, or device with the disk below"},
	unix.TMPFS_MAGIC:           {"tmpfs", "which is in memory: write a path on a disk"},
	unix.RAMFS_MAGIC:           {"ramfs", "which is in memory: write a path on a disk"},
	unix.BTRFS_SUPER_MAGIC:     {"btrfs", "which does not tell its disk: write device, as lsblk shows it"},
	0x2fc12fc1:                 {"ZFS", "which does not tell its disk: write device, as lsblk shows it"},
	unix.NFS_SUPER_MAGIC:       {"NFS", "on another machine: measure there"},
	unix.SMB2_SUPER_MAGIC:      {"SMB", "on another machine: measure there"},
	unix.CIFS_SUPER_MAGIC:      {"SMB", "on another machine: measure there"},
	unix.PROC_SUPER_MAGIC:      {"proc", "which is no disk"},
	unix.SYSFS_MAGIC:           {"sysfs", "which is no disk"},
}

func kindOf(magic int64) string {
	if k, ok := kinds[magic]; ok {
		return k.name + ", " + k.hint
	}
	return fmt.Sprintf("a file system (%#x) that does not tell its disk: write device, as lsblk shows it", magic)
}

// whole is the disk that a partition is part of, or the device itself.
func (s *Source) whole(d device) (device, error) {
	dir := filepath.Join(s.sys, "dev/block", d.String())
	if _, err := os.Stat(filepath.Join(dir, "partition")); err != nil {
		return d, nil // no partition; or sysfs is hidden, and the partition's own counters must do
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return d, err
	}
	path := filepath.Join(filepath.Dir(real), "dev")
	b, err := os.ReadFile(path)
	if err != nil {
		return d, err
	}
	whole, err := parseDevice(b)
	if err != nil {
		return d, fmt.Errorf("%s: %w", path, err)
	}
	return whole, nil
}

// fill is how full the file system under a path is, in percent.
func fill(path string) (float64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	return share(fs.Blocks, fs.Bfree, fs.Bavail)
}

// share is used by used and available, as df shows it: what is kept back for root is neither.
func share(blocks, free, available uint64) (float64, error) {
	if free > blocks || blocks == 0 {
		return 0, errors.New("the file system does not tell how large it is")
	}
	used := float64(blocks - free)
	if used+float64(available) == 0 {
		return 100, nil
	}
	return 100 * used / (used + float64(available)), nil
}
