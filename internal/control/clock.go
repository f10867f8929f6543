package control

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Clock tells the wall time, and how much time really passed: a wall clock is set by hand, by NTP, and by a dead battery.
type Clock interface {
	Wall() time.Time
	// Uptime counts on from Boot without jumps, also while the machine is suspended.
	Uptime() time.Duration
	// Boot names the machine's current run: uptimes of two runs do not compare.
	Boot() string
}

// SystemClock is the machine's own.
type SystemClock struct{}

func (SystemClock) Wall() time.Time { return time.Now().UTC().Round(0) }

func (SystemClock) Uptime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0 // cannot happen on Linux 2.6.39 and later
	}
	return time.Duration(ts.Nano())
}

func (SystemClock) Boot() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// instant is one look at the clock.
type instant struct {
	Wall   time.Time     `json:"wall"`
	Uptime time.Duration `json:"uptime"`
	Boot   string        `json:"boot"`
}

func look(c Clock) instant { return instant{c.Wall(), c.Uptime(), c.Boot()} }

// jumpTolerance is below what NTP corrects without anyone noticing, and above the jitter between two system calls.
const jumpTolerance = 2 * time.Second

// jump is how far the wall clock moved by itself between two looks. After a reboot the time between cannot be measured: a
// clock that went on is believed, one that went back stood still as far as anyone can tell.
func (before instant) jump(now instant) time.Duration {
	if before.Wall.IsZero() {
		return 0
	}
	moved := now.Wall.Sub(before.Wall)
	if before.Boot != now.Boot {
		return min(moved, 0)
	}
	j := moved - (now.Uptime - before.Uptime)
	if j.Abs() < jumpTolerance {
		return 0
	}
	return j
}
