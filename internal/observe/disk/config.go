// Package disk reads how busy a disk is from the kernel's counters (/proc/diskstats), and how full a file system is. It owns
// what these figures mean, and which disk lies under a path.
//
// Figures are taken since the reading before; the first one has nothing to compare with and is Sparse. A partition shares its disk's
// queue, so that the whole disk is measured. A volume of the device mapper (LVM, LUKS) and a RAID have counters of their own, with
// the time that requests wait in them.
package disk

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"tidemark/internal/config"
	"tidemark/internal/fleet"
)

// Config says which disk, and which figure of it.
type Config struct {
	// Path is a file or folder on the disk, such as PostgreSQL's data directory.
	Path string `yaml:"path"`
	// Device names the disk itself, such as sda or dm-0, where no path tells it (btrfs, ZFS, containers).
	Device string `yaml:"device"`
	// Field is the figure; see the constants. Default: queue_depth.
	Field string `yaml:"field"`
}

// The fields.
const (
	// QueueDepth is how many requests were under way on average, waiting or being served. Above 10 a database waits for its disk.
	QueueDepth = "queue_depth"
	// Await is how long a read or write took on average, waiting included. Without any there is none: the reading is Sparse.
	Await = "await"
	// IOPS is reads and writes a second.
	IOPS = "iops"
	// Throughput is bytes read and written a second.
	Throughput = "throughput"
	// Utilization is the part of the time in which any request was under way. Disks that serve many at once (SSD, RAID) may have
	// room at 100.
	Utilization = "utilization"
	// Fill is the part of the file system under Path that is used, of what others than root may use: the Use% of df.
	Fill = "fill"
)

// fields says of each field what it is, and how it is taken from what was counted in a time; nil: from the file system.
var fields = map[string]struct {
	unit fleet.Unit
	of   func(d counters, seconds float64) (float64, bool)
}{
	QueueDepth:  {fleet.Number, func(d counters, s float64) (float64, bool) { return d.weighted / s, true }},
	Await:       {fleet.Seconds, func(d counters, _ float64) (float64, bool) { return d.waited / d.requests, d.requests > 0 }},
	IOPS:        {fleet.Number, func(d counters, s float64) (float64, bool) { return d.requests / s, true }},
	Throughput:  {fleet.Bytes, func(d counters, s float64) (float64, bool) { return d.bytes / s, true }},
	Utilization: {fleet.Percent, func(d counters, s float64) (float64, bool) { return min(100, 100*d.busy/s), true }},
	Fill:        {unit: fleet.Percent},
}

// DefaultConfig is the depth of the queue.
func DefaultConfig() Config { return Config{Field: QueueDepth} }

// Validate reports what cannot work.
func (c *Config) Validate() error {
	var errs config.FieldErrors
	if _, ok := fields[c.Field]; !ok {
		errs.Add("field", fmt.Sprintf("%q is not known", c.Field), "write one of "+strings.Join(slices.Sorted(maps.Keys(fields)), ", "))
	}
	switch {
	case c.Path != "" && c.Device != "":
		errs.Add("device", "is given beside path", "delete one of them")
	case c.Device != "" && c.Field == Fill:
		errs.Add("device", "is given, and only a file system can be full", "write path, a folder on it")
	case c.Path == "" && c.Device == "":
		errs.Add("path", "is missing", "write a folder on the disk, such as /var/lib/postgresql")
	case c.Path != "" && !filepath.IsAbs(c.Path):
		errs.Add("path", fmt.Sprintf("%q is not absolute", c.Path), "begin it with /")
	case strings.ContainsAny(c.Device, "/ \t\n"):
		errs.Add("device", fmt.Sprintf("%q is no name of a disk", c.Device), "write the name alone, as lsblk shows it, such as sda")
	}
	return errs.Err()
}

// Unit is the unit of the field.
func (c *Config) Unit() fleet.Unit { return fields[c.Field].unit }

// Distribution: these are plain figures.
func (c *Config) Distribution() bool { return false }

// Dependency is what is measured of what workers load.
func (c *Config) Dependency() string { return "the disk" }

// PerWorker: a disk does not get faster as workers leave.
func (c *Config) PerWorker() bool { return false }
