package procfs

import (
	"fmt"
	"os"
	"time"
)

// Process is what one process takes.
type Process struct {
	CPU    time.Duration // in user and kernel mode, since it was started
	Memory int64         // bytes resident
}

// ReadProcess reads what a process of this machine takes now.
func ReadProcess(pid int) (Process, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Process{}, err
	}
	s, err := parseStat(b)
	if err != nil {
		return Process{}, fmt.Errorf("/proc/%d/stat: %w", pid, err)
	}
	return Process{CPU: time.Duration(s.ticks) * time.Second / ticksPerSecond, Memory: int64(s.rss) * int64(os.Getpagesize())}, nil
}
