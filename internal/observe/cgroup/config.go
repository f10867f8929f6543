// Package cgroup reads what the kernel accounts to control groups, of version 1 and 2: CPU against its quota, throttling, memory
// against its limit, processes killed for want of memory, and pressure (PSI). It owns what these figures mean, and how a group is
// found: by its path, by the systemd unit, or as that of a fleet's workers.
//
// A group is bounded by the tightest of its own limit and those above it, or else by the host. What is measured against a limit is
// the group that has it: when a service's quota is used up, its workers are slow whatever each of them uses. Several groups, such as
// one for each container of a fleet, are added up: what they use, against what they may.
//
// Rates are taken since the reading before; the first reading has nothing to compare with and is Sparse.
package cgroup

import (
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"tidemark/internal/config"
	"tidemark/internal/fleet"
)

// Config says which group, and which figure of it. Without Path and SystemdUnit the groups are those that the fleet's serving workers
// are in, by their pids.
type Config struct {
	// Path of the group below where control groups are mounted, such as /system.slice/odoo.service.
	Path string `yaml:"path"`
	// SystemdUnit is a unit's name, such as odoo.service. Its group is searched for.
	SystemdUnit string `yaml:"unit"`
	// Field is the figure; see the constants. Default: cpu.
	Field string `yaml:"field"`
	// Root is where control groups are mounted; default /sys/fs/cgroup. Proc is where the proc file system is, of the same host;
	// default /proc.
	Root string `yaml:"root"`
	Proc string `yaml:"proc"`
}

// The fields, all in percent but oom_kills.
const (
	// CPU is the CPU time that was used by what the quota allows, or by all the host's cores when there is no quota. With
	// bursts (cpu.max.burst) it may exceed 100.
	CPU = "cpu"
	// Throttled is the part of the quota's periods in which the group was stopped because the quota was used up.
	Throttled = "throttled"
	// Memory is the working set (what is used, less the file pages that can be dropped at once) by the limit, or by the host's
	// memory when there is no limit.
	Memory = "memory"
	// OOMKills is how many processes were killed for want of memory since the reading before, a number.
	OOMKills = "oom_kills"
	// The pressures are the part of the time in which some (or, full, all) of the group's processes waited for CPU, memory or the
	// disk. It is exact since the reading before; the avg10, avg60 and avg300 of the kernel's files are the same, smoothed. Only
	// version 2 has them.
	CPUPressure        = "cpu_pressure"
	MemoryPressure     = "memory_pressure"
	MemoryPressureFull = "memory_pressure_full"
	IOPressure         = "io_pressure"
	IOPressureFull     = "io_pressure_full"
)

// fields says of each field what it is, how a group is sampled, and how samples become the figure.
var fields = map[string]struct {
	unit      fleet.Unit
	perWorker bool // rises as workers leave, if each has a group of its own
	sample    func(*Source, group) (sample, error)
	figure    func(from, to *look) (float64, bool)
}{
	CPU:                {fleet.Percent, true, (*Source).cpu, usage},
	Throttled:          {fleet.Percent, true, (*Source).throttled, ratio},
	Memory:             {fleet.Percent, false, (*Source).memory, nil},
	OOMKills:           {fleet.Number, false, (*Source).oomKills, rise},
	CPUPressure:        {fleet.Percent, true, pressure("cpu", "some"), usage},
	MemoryPressure:     {fleet.Percent, false, pressure("memory", "some"), usage},
	MemoryPressureFull: {fleet.Percent, false, pressure("memory", "full"), usage},
	IOPressure:         {fleet.Percent, false, pressure("io", "some"), usage},
	IOPressureFull:     {fleet.Percent, false, pressure("io", "full"), usage},
}

// DefaultConfig is the CPU of the workers' groups.
func DefaultConfig() Config { return Config{Field: CPU, Root: "/sys/fs/cgroup", Proc: "/proc"} }

// Validate reports what cannot work.
func (c *Config) Validate() error {
	var errs config.FieldErrors
	if fields[c.Field].sample == nil {
		errs.Add("field", fmt.Sprintf("%q is not known", c.Field), "write one of "+strings.Join(slices.Sorted(maps.Keys(fields)), ", "))
	}
	switch {
	case c.Path != "" && c.SystemdUnit != "":
		errs.Add("unit", "is given beside path", "delete one of them")
	case c.Path != "" && (!path.IsAbs(c.Path) || path.Clean(c.Path) != c.Path):
		errs.Add("path", fmt.Sprintf("%q is not the path of a group", c.Path), "write it from the root of control groups on, such as /system.slice/odoo.service")
	case strings.HasPrefix(c.Path, "/sys/fs/cgroup"):
		errs.Add("path", "holds the place where control groups are mounted", "leave out /sys/fs/cgroup, and for version 1 the controller's name")
	case strings.ContainsAny(c.SystemdUnit, "/*"):
		errs.Add("unit", fmt.Sprintf("%q is no name of a unit", c.SystemdUnit), "write the name alone, such as odoo.service")
	case c.SystemdUnit != "" && path.Ext(c.SystemdUnit) == "":
		errs.Add("unit", fmt.Sprintf("%q does not say what kind of unit", c.SystemdUnit), "write "+c.SystemdUnit+".service")
	}
	for _, dir := range []struct{ field, path string }{{"root", c.Root}, {"proc", c.Proc}} {
		if !filepath.IsAbs(dir.path) {
			errs.Add(dir.field, fmt.Sprintf("%q is not an absolute path", dir.path), "begin it with /")
		}
	}
	return errs.Err()
}

// Unit is the unit of the field.
func (c *Config) Unit() fleet.Unit { return fields[c.Field].unit }

// Distribution: these are plain figures.
func (c *Config) Distribution() bool { return false }

// PerWorker reports whether the figure rises as workers leave: not that of a group that all of them share.
func (c *Config) PerWorker() bool {
	return c.Path == "" && c.SystemdUnit == "" && fields[c.Field].perWorker
}
