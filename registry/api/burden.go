package api

import (
	"fmt"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Burden makes each API request heavier, to stand in for slower application code. The health check stays light.
type Burden struct {
	Think time.Duration // a pause, as of code that waits for something
	CPU   time.Duration // CPU time burnt, as of code that computes
}

// String says what each request bears, empty when nothing.
func (b Burden) String() string {
	var parts []string
	if b.Think > 0 {
		parts = append(parts, fmt.Sprintf("pauses %v (--think)", b.Think))
	}
	if b.CPU > 0 {
		parts = append(parts, fmt.Sprintf("burns %v of CPU time (--cpu)", b.CPU))
	}
	return strings.Join(parts, " and ")
}

func (b Burden) bear() {
	burn(b.CPU)
	time.Sleep(b.Think) // a client that leaves does not free the worker, as in Odoo
}

// burn computes until this thread has used d of CPU time: on a loaded machine that takes longer than d.
func burn(d time.Duration) {
	if d <= 0 {
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	x := uint64(1)
	for end := threadTime() + d; threadTime() < end; {
		for range 10_000 { // some 10 microseconds
			x = x*6364136223846793005 + 1442695040888963407
		}
	}
	runtime.KeepAlive(x)
}

// threadTime is the CPU time of the calling thread. Unlike getrusage it is exact to the nanosecond.
func threadTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		panic(err) // every Linux since 2.6.12 has this clock
	}
	return time.Duration(t.Nano())
}
