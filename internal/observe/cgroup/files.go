package cgroup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"tidemark/internal/fleet"
)

// group is where a control group stands: under one path, or in version 1 under one for each controller.
type group struct {
	all string
	by  map[string]string // by controller; "" is version 2
}

// path is that of a controller, from / on; empty if it is in none.
func (g group) path(controller string) string {
	if p, ok := g.by[controller]; ok {
		return p
	}
	return g.all
}

// unified reports whether version 2 is all there is.
func (s *Source) unified() bool {
	_, err := fs.Stat(s.groups, "cgroup.controllers")
	return err == nil
}

// mount is where a controller's hierarchy is mounted, below the root. "" asks for version 2, which beside version 1 stands under
// unified, where systemd has put it.
func (s *Source) mount(controller string) string {
	if s.unified() {
		return "."
	}
	if controller == "" {
		return "unified"
	}
	if _, err := fs.Stat(s.groups, controller); err != nil && (controller == "cpu" || controller == "cpuacct") {
		return "cpu,cpuacct"
	}
	return controller
}

// shown is a file's whole path.
func (s *Source) shown(g group, controller, name string) string {
	return filepath.Join(s.cfg.Root, s.mount(controller), g.path(controller), name)
}

// exists says of a group that is not there that it is not.
func (s *Source) exists(g group, controller string) error {
	_, err := fs.Stat(s.groups, path.Join(s.mount(controller), g.path(controller)))
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("the control group %s is not there: is the service running? (%w)", s.shown(g, controller, ""), fs.ErrNotExist)
	}
	return err
}

// file reads one of a group's files.
func (s *Source) file(g group, controller, name string) ([]byte, error) {
	b, err := fs.ReadFile(s.groups, path.Join(s.mount(controller), g.path(controller), name))
	switch {
	case err == nil:
		return b, nil
	case errors.Is(err, syscall.EOPNOTSUPP):
		return nil, fmt.Errorf("read %s: the kernel keeps no such account (psi=1 on its command line turns it on)", s.shown(g, controller, name))
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("read %s: %w", s.shown(g, controller, name), unwrapped(err))
	}
	if gone := s.exists(g, controller); gone != nil {
		return nil, gone
	}
	return nil, fmt.Errorf("read %s: this kernel or group keeps no such account (%w)", s.shown(g, controller, name), fs.ErrNotExist)
}

// unwrapped leaves out the path within the tree, which is said in full.
func unwrapped(err error) error {
	if p := new(fs.PathError); errors.As(err, &p) {
		return p.Err
	}
	return err
}

// single reads a file of one number; "max" is infinite.
func (s *Source) single(g group, controller, name string) (float64, error) {
	b, err := s.file(g, controller, name)
	if err != nil {
		return 0, err
	}
	v, err := number(bytes.TrimSpace(b))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", s.shown(g, controller, name), err)
	}
	return v, nil
}

// keyed reads one number of a file with lines such as "nr_periods 42".
func (s *Source) keyed(g group, controller, name, key string) (float64, error) {
	b, err := s.file(g, controller, name)
	if err != nil {
		return 0, err
	}
	v, err := valueOf(b, key)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", s.shown(g, controller, name), err)
	}
	return v, nil
}

var errForm = errors.New("not what the kernel writes there")

func number(b []byte) (float64, error) {
	if string(b) == "max" {
		return math.Inf(1), nil
	}
	n, err := strconv.ParseInt(string(b), 10, 64)
	if err != nil {
		u, err := strconv.ParseUint(string(b), 10, 64)
		if err != nil {
			return 0, errForm
		}
		return float64(u), nil
	}
	return float64(n), nil
}

// valueOf finds the number after a key. It is not negative: these are counts.
func valueOf(b []byte, key string) (float64, error) {
	for line := range bytes.Lines(b) {
		if f := bytes.Fields(line); len(f) == 2 && string(f[0]) == key {
			n, err := strconv.ParseUint(string(f[1]), 10, 64)
			if err != nil {
				return 0, errForm
			}
			return float64(n), nil
		}
	}
	return 0, fmt.Errorf("there is no %s", key)
}

// parseMax reads cpu.max, "200000 100000" or "max 100000": the quota and its period in microseconds.
func parseMax(b []byte) (cores float64, ok bool, err error) {
	f := bytes.Fields(b)
	if len(f) != 2 {
		return 0, false, errForm
	}
	quota, err1 := number(f[0])
	period, err2 := number(f[1])
	switch {
	case err1 != nil || err2 != nil || quota <= 0 || period <= 0 || math.IsInf(period, 0):
		return 0, false, errForm
	case math.IsInf(quota, 0):
		return 0, false, nil
	}
	return quota / period, true, nil
}

// stalled reads the total of a line such as "some avg10=0.34 avg60=0.33 avg300=0.68 total=4368036257": microseconds.
func stalled(b []byte, who string) (float64, error) {
	for line := range bytes.Lines(b) {
		f := bytes.Fields(line)
		if len(f) == 0 || string(f[0]) != who {
			continue
		}
		for _, x := range f[1:] {
			if total, ok := bytes.CutPrefix(x, []byte("total=")); ok {
				n, err := strconv.ParseUint(string(total), 10, 64)
				if err != nil {
					return 0, errForm
				}
				return float64(n), nil
			}
		}
	}
	return 0, fmt.Errorf("there is no %s", who)
}

// find says which groups are asked about.
func (s *Source) find(ctx context.Context, scene fleet.Scene) ([]group, error) {
	switch {
	case s.cfg.Path != "":
		return []group{{all: s.cfg.Path}}, nil
	case s.cfg.SystemdUnit != "":
		g, err := s.search(ctx)
		return []group{g}, err
	case !scene.WorkersKnown:
		return nil, errors.New("the workers are not known, because the target could not be read")
	}
	var out []group
	seen := map[string]bool{}
	for i := range scene.Workers {
		w := &scene.Workers[i]
		if w.Phase != fleet.Serving {
			continue
		}
		if w.PID <= 0 {
			return nil, fmt.Errorf("worker %s is not a process of this machine; write path or unit", w.ID)
		}
		b, err := fs.ReadFile(s.proc, strconv.Itoa(w.PID)+"/cgroup")
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it ended since the target saw it
		}
		if err != nil {
			return nil, fmt.Errorf("read the control group of worker %s: %w", w.ID, err)
		}
		if seen[string(b)] {
			continue
		}
		seen[string(b)] = true
		g, err := membership(b)
		if err != nil {
			return nil, fmt.Errorf("%s/%d/cgroup: %w", s.cfg.Proc, w.PID, err)
		}
		if s.unified() {
			g = group{all: g.by[""]}
		}
		for _, controller := range s.controllers() {
			if g.path(controller) == "" {
				return nil, fmt.Errorf("worker %s is in no control group of %q: is that controller turned on?", w.ID, controller)
			}
		}
		out = append(out, g)
	}
	if len(out) == 0 {
		return nil, errors.New("no worker serves")
	}
	return out, nil
}

// membership reads /proc/<pid>/cgroup: lines of "4:cpu,cpuacct:/system.slice/odoo.service", of version 2 "0::/...".
func membership(b []byte) (group, error) {
	g := group{by: map[string]string{}}
	for line := range bytes.Lines(b) {
		f := strings.SplitN(strings.TrimSuffix(string(line), "\n"), ":", 3)
		if len(f) != 3 || !strings.HasPrefix(f[2], "/") {
			return group{}, errForm
		}
		if strings.HasPrefix(f[2], "/..") {
			return group{}, errors.New("the control group is outside of what this container sees: let it see the host's (cgroup: host), or run Tidemark on the host")
		}
		for _, controller := range strings.Split(f[1], ",") {
			g.by[controller] = path.Clean(f[2])
		}
	}
	if len(g.by) == 0 {
		return group{}, errForm
	}
	return g, nil
}

// controllers are those that keep the field's account, the one with its limit first; "" is version 2.
func (s *Source) controllers() []string {
	switch s.cfg.Field {
	case CPU:
		return []string{"cpu", "cpuacct"}
	case Throttled:
		return []string{"cpu"}
	case Memory, OOMKills:
		return []string{"memory"}
	}
	return []string{""}
}

// search finds the group that systemd made for the unit: anywhere below the root, since slices may be nested.
func (s *Source) search(ctx context.Context) (group, error) {
	if s.found != "" {
		return group{all: s.found}, nil
	}
	controller := s.controllers()[0]
	mount := s.mount(controller)
	var hits []string
	err := fs.WalkDir(s.groups, mount, func(at string, d fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && at == mount:
			return err
		case err != nil || !d.IsDir():
			return nil // a group that ended meanwhile
		case d.Name() == s.cfg.SystemdUnit:
			hits = append(hits, "/"+strings.TrimPrefix(strings.TrimPrefix(at, mount), "/"))
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		return group{}, fmt.Errorf("search %s: %w", s.shown(group{all: "/"}, controller, ""), unwrapped(err))
	}
	switch len(hits) {
	case 0:
		return group{}, fmt.Errorf("no control group of %s is below %s: does the unit run?", s.cfg.SystemdUnit, s.shown(group{all: "/"}, controller, ""))
	case 1:
		s.found = hits[0]
		return group{all: s.found}, nil
	}
	slices.Sort(hits)
	return group{}, fmt.Errorf("%s has %d control groups, %s: write path", s.cfg.SystemdUnit, len(hits), strings.Join(hits[:min(len(hits), 3)], ", "))
}

// hostCPUs counts the cores in /proc/stat, which has a line for each.
func (s *Source) hostCPUs() (float64, error) {
	b, err := fs.ReadFile(s.proc, "stat")
	if err != nil {
		return 0, fmt.Errorf("count the host's cores: %w", err)
	}
	n := 0
	for line := range bytes.Lines(b) {
		if rest, ok := bytes.CutPrefix(line, []byte("cpu")); ok && len(rest) > 0 && rest[0] >= '0' && rest[0] <= '9' {
			n++
		}
	}
	if n == 0 {
		return 0, fmt.Errorf("%s/stat: %w", s.cfg.Proc, errForm)
	}
	return float64(n), nil
}

// hostMemory is the host's memory in bytes.
func (s *Source) hostMemory() (float64, error) {
	b, err := fs.ReadFile(s.proc, "meminfo")
	if err != nil {
		return 0, fmt.Errorf("read the host's memory: %w", err)
	}
	for line := range bytes.Lines(b) {
		if f := bytes.Fields(line); len(f) == 3 && string(f[0]) == "MemTotal:" {
			n, err := strconv.ParseUint(string(f[1]), 10, 53)
			if err != nil || n == 0 {
				break
			}
			return float64(n) * 1024, nil
		}
	}
	return 0, fmt.Errorf("%s/meminfo: %w", s.cfg.Proc, errForm)
}
