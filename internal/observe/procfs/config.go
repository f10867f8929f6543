// Package procfs reads the CPU and memory of a fleet's processes, and of the host they run on, from /proc. It owns what
// these figures mean; which processes are the fleet's workers is the target's to say.
//
// It reads one small file for each worker and nothing else, so that a thousand fleets cost little.
package procfs

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"tidemark/internal/config"
	"tidemark/internal/fleet"
)

// Config says which figure is read.
type Config struct {
	// Field is the figure; see the constants. Default: cpu.
	Field string `yaml:"field"`
	// Root is where the proc file system is mounted; default /proc. In a container it may be the host's, e.g. /host/proc: then
	// the target's pids must be the host's too.
	Root string `yaml:"root"`
}

// The fields.
const (
	// CPU is the CPU time of the serving workers by the time that passed, in percent of one core for each worker: 100 means
	// that every worker computes all the time (a worker of several threads may exceed it). A worker's children are not included;
	// neither are workers that start, whose start-up work is no load, or drain.
	CPU = "cpu"
	// MemoryRSS is the resident memory of all workers in bytes, summed. Pages that workers share are counted for each.
	MemoryRSS = "memory_rss"
	// MemoryPSS is the same with shared pages divided among those who share them: what the fleet really takes. It costs the kernel
	// far more, so a worker is measured twice a minute at most; it needs the workers' own user, or CAP_SYS_PTRACE.
	MemoryPSS = "memory_pss"
	// MemoryUsedPercent is the part of the host's memory that is not available to new work: 100 x (1 - MemAvailable/MemTotal).
	MemoryUsedPercent = "memory_used_percent"
	// MemoryAvailable is the host's memory that new work can have without swapping, in bytes: MemAvailable.
	MemoryAvailable = "memory_available"
	// HostCPU is the busy part of all the host's cores in percent. Time that the hypervisor gave to others counts as busy: it
	// cannot be had either. Waiting for the disk does not.
	HostCPU = "host_cpu"
)

// fields says of each field what it is and how it is read.
var fields = map[string]struct {
	unit      fleet.Unit
	perWorker bool // rises as workers leave
	read      reader
}{
	CPU:               {fleet.Percent, true, (*Source).cpu},
	MemoryRSS:         {fleet.Bytes, false, (*Source).rss},
	MemoryPSS:         {fleet.Bytes, false, (*Source).pss},
	MemoryUsedPercent: {fleet.Percent, false, (*Source).memoryUsed},
	MemoryAvailable:   {fleet.Bytes, false, (*Source).memoryAvailable},
	HostCPU:           {fleet.Percent, false, (*Source).hostCPU},
}

// DefaultConfig is the workers' CPU.
func DefaultConfig() Config { return Config{Field: CPU, Root: "/proc"} }

// Validate reports what cannot work.
func (c *Config) Validate() error {
	var errs config.FieldErrors
	if _, ok := fields[c.Field]; !ok {
		errs.Add("field", fmt.Sprintf("%q is not known", c.Field), "write one of "+strings.Join(slices.Sorted(maps.Keys(fields)), ", "))
	}
	if !filepath.IsAbs(c.Root) {
		errs.Add("root", fmt.Sprintf("%q is not an absolute path", c.Root), "write /proc")
	}
	return errs.Err()
}

// Unit is the unit of the field.
func (c *Config) Unit() fleet.Unit { return fields[c.Field].unit }

// Distribution: these are plain figures.
func (c *Config) Distribution() bool { return false }

// PerWorker reports whether the figure rises as workers leave.
func (c *Config) PerWorker() bool { return fields[c.Field].perWorker }
