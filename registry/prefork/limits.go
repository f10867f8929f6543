package prefork

import (
	"fmt"
	"os"
	"regexp"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Limits bound what a worker may use, as Odoo's limit_* settings do. A limit of 0 is none.
//
// A worker that has reached MemorySoft or Requests goes on serving until another is ready in its place, and then leaves
// after its request: no request is lost, no moment is short of a worker, and they go one at a time, where Odoo's all
// go at once when they have counted alike. The other limits end a worker in the middle of its request.
type Limits struct {
	// MemorySoft is in bytes of resident memory after a request. Odoo compares virtual size, which says nothing of a Go
	// process: a gigabyte of it is reserved and never touched.
	MemorySoft int64
	// MemoryHard is in bytes of address space beyond what the worker had at its start. The kernel keeps it (RLIMIT_AS, as
	// in Odoo), so it holds within one request. Go's heap grows by 64 MiB at a time. The Go runtime cannot go on without
	// the memory that it asks for: the worker ends.
	MemoryHard int64
	// TimeReal is how long one request may take, from when its connection is accepted until it is closed.
	TimeReal time.Duration
	// TimeCPU is how much CPU time the worker may use in one request.
	TimeCPU time.Duration
	// Requests is after how many requests a worker is replaced, at the latest: up to an eighth before, so that workers
	// which started together are not cold together.
	Requests int
}

// Limit is one of the Limits.
type Limit uint8

const (
	MemorySoft Limit = iota
	MemoryHard
	TimeReal
	TimeCPU
	Requests
	limits // how many there are
)

// String is the limit's name in metrics; its flag has dashes.
func (l Limit) String() string {
	return [limits]string{"memory_soft", "memory_hard", "time_real", "time_cpu", "request"}[l]
}

// overrun says which limit a worker has passed with its request in hand, if any, and else after what time it can have
// passed one at the earliest.
func (m *Master) overrun(w *worker) (limit Limit, passed bool, again time.Duration) {
	again = time.Hour
	since := time.Duration(m.board.word(w.slot, sinceWord).Load())
	if left := m.Limits.TimeReal; left > 0 {
		if since > 0 {
			left -= monotonic() - since
		}
		if left <= 0 {
			return TimeReal, true, 0
		}
		again = min(again, left)
	}
	if left := m.Limits.TimeCPU; left > 0 {
		// One that cannot be read is on its way out.
		if used, err := cpuTime(w.process.Pid); err == nil && since > 0 {
			left -= used - time.Duration(m.board.word(w.slot, cpuWord).Load())
		}
		if left <= 0 {
			return TimeCPU, true, 0
		}
		again = min(again, max(left/time.Duration(runtime.NumCPU()), 10*time.Millisecond))
	}
	return 0, false, again
}

// refused is the stack of a Go runtime that gave up in its allocator. Its message, "out of memory", is not part of what it
// sends on a crash, but the function that gave up is: always one of those that get memory.
var refused = regexp.MustCompile(`(?m)^runtime\.throw\(.*\n\t.*\nruntime\.(\(\*\w+\)\.)?(\w*[aA]lloc\w*|sys[A-Z]\w*|refill|grow\w*|recordspan|newBucket|getempty)\(`)

// outOfMemory says whether a worker crashed because it could not get memory. It tells the reason of a crash, no more: a
// worker that ended is replaced whatever the reason.
func outOfMemory(crash string) bool { return refused.MatchString(crash) }

// monotonic is a clock that all processes of the machine share.
func monotonic() time.Duration { return clock(unix.CLOCK_MONOTONIC) }

// ownCPUTime is the CPU time that this process has used.
func ownCPUTime() time.Duration { return clock(unix.CLOCK_PROCESS_CPUTIME_ID) }

func clock(id int32) time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(id, &t); err != nil {
		panic(err) // every Linux has these
	}
	return time.Duration(t.Nano())
}

// cpuTime is the CPU time that a process has used: what ownCPUTime is to itself (clock_getcpuclockid(3)).
func cpuTime(pid int) (time.Duration, error) {
	const scheduler = 2
	var t unix.Timespec
	err := unix.ClockGettime(int32(^pid)<<3|scheduler, &t)
	return time.Duration(t.Nano()), err
}

// memory reads how much memory this process has.
type memory struct{ statm *os.File }

func openMemory() (memory, error) {
	f, err := os.Open("/proc/self/statm")
	return memory{f}, err
}

// now returns the size of the address space and of its resident part, in bytes.
func (m memory) now() (size, resident int64, err error) {
	text := make([]byte, 128)
	n, err := m.statm.ReadAt(text, 0)
	if n == 0 {
		return 0, 0, fmt.Errorf("read this process's memory: %w", err)
	}
	if _, err := fmt.Sscan(string(text[:n]), &size, &resident); err != nil {
		return 0, 0, fmt.Errorf("read this process's memory: %w", err)
	}
	page := int64(os.Getpagesize())
	return size * page, resident * page, nil
}

// limitGrowth lets this process's address space grow by at most more bytes.
func (m memory) limitGrowth(more int64) error {
	size, _, err := m.now()
	if err != nil {
		return err
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_AS, &limit); err != nil {
		return fmt.Errorf("read the limit of this process's memory: %w", err)
	}
	limit.Cur = min(uint64(size+more), limit.Max)
	if err := unix.Setrlimit(unix.RLIMIT_AS, &limit); err != nil {
		return fmt.Errorf("limit this process's memory: %w", err)
	}
	return nil
}
