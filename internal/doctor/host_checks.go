package doctor

import (
	"fmt"
	"time"

	"tidemark/internal/fleet"
)

// What a small write should take to be safe: an NVMe disk with a protected cache takes some 0.1 ms, one without 1 to 2 ms;
// 20 ms is the requirements' limit for the database's disk.
const (
	diskGood = 2 * time.Millisecond
	diskBad  = 20 * time.Millisecond
)

var hostChecks = []check{
	{"time of a safe write", []Part{Disk}, func(s *Site, o *outcome) {
		d := s.Disk
		arithmetic := fmt.Sprintf("%d writes of 8 KiB with fdatasync in %s: median %s, p95 %s", d.Writes, d.Dir, short(d.Median), short(d.P95))
		switch {
		case d.P95 >= diskBad:
			o.find(Finding{Severity: Problem, What: "the disk is too slow for the database: each commit waits for it", Arithmetic: fmt.Sprintf("%s >= %s", arithmetic, fleet.Elapsed(diskBad)), Fix: "move the database to an NVMe disk; more workers do not help"})
		case d.Median >= diskGood:
			o.find(Finding{Severity: Warning, What: "the disk is slower than an NVMe disk is", Arithmetic: fmt.Sprintf("%s; NVMe: under %s", arithmetic, fleet.Elapsed(diskGood)), Fix: "ask the host's owner for NVMe storage, as the requirements do"})
		}
		o.holds("%s", arithmetic)
	}},
	{"kind of disk", []Part{Disk}, func(s *Site, o *outcome) {
		if s.Disk.Rotational && s.Disk.Median >= diskGood {
			o.find(Finding{Severity: Warning, What: "the disk under the database spins", Where: []Value{{Name: "queue/rotational", Text: "1", File: "/sys/block"}}, Fix: "move the database to an NVMe or SSD disk"})
			return
		}
		o.holds("%s is quick, or no spinning disk", s.Disk.Dir)
	}},
}

func short(d time.Duration) string { return fleet.Seconds.Format(d.Seconds()) }
