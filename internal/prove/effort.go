package prove

import (
	"syscall"
	"time"
)

// Effort is what a run took of the generator.
type Effort struct {
	Requests uint64
	Dropped  uint64  // arrivals that were never sent
	LagP99   float64 // seconds from the scheduled start to the send
	CPU      time.Duration
	Took     time.Duration
	Cores    int // that it may use
}

const (
	// LateAfter is the lag that a start may have: less cannot be told from the service's own time, and more must not be blamed on it.
	LateAfter = 10 * time.Millisecond
	// FullCPU is the share of its cores from which on the generator counts as out of CPU.
	FullCPU = 0.9
)

// Limit is a way in which the generator was the limit of what a run saw.
type Limit uint8

const (
	Dropping Limit = iota + 1 // an arrival found as many visits open as may be
	Lagging                   // the 99th percentile of the lag is above LateAfter
	Starving                  // the generator used up its own cores
)

var limitNames = [...]string{Dropping: "it dropped arrivals", Lagging: "it started requests late", Starving: "it was out of CPU"}

func (l Limit) String() string { return limitNames[l] }

// Limits says how the generator, and not the service, was the limit. A run with any is invalid, whatever it measured.
func (e Effort) Limits() []Limit {
	var limits []Limit
	if e.Dropped > 0 {
		limits = append(limits, Dropping)
	}
	if e.Requests > 0 && e.LagP99 > LateAfter.Seconds() {
		limits = append(limits, Lagging)
	}
	if e.CPU.Seconds() > FullCPU*e.Took.Seconds()*float64(e.Cores) {
		limits = append(limits, Starving)
	}
	return limits
}

// OwnCPU is the CPU time that this process has used.
func OwnCPU() time.Duration {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
