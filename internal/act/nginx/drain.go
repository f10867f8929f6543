package nginx

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"tidemark/internal/act/sockets"
	"tidemark/internal/act/wait"
	"tidemark/internal/fleet"
)

// How often nginx's processes and connections are looked at while a drain waits.
const look = 20 * time.Millisecond

// generation is the worker processes that an nginx master had at a moment; the zero value is none that is known.
type generation struct {
	master  master
	workers []int
}

func generationOf(m master) generation { return generation{m, childrenOf(m)} }

func childrenOf(m master) (pids []int) {
	if m.PID == 0 {
		return nil
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", m.PID, m.PID))
	if err != nil {
		return nil
	}
	for _, s := range strings.Fields(string(text)) {
		if pid, err := strconv.Atoi(s); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// alive lists those that the master still has.
func (g generation) alive() []int {
	if len(g.workers) == 0 {
		return nil
	}
	now := childrenOf(g.master)
	return slices.DeleteFunc(slices.Clone(g.workers), func(pid int) bool { return !slices.Contains(now, pid) })
}

// ended reports that it is known, and that none is left.
func (g generation) ended() bool { return len(g.workers) > 0 && len(g.alive()) == 0 }

// untilLeaving waits until each takes no new connections: it says so in its title, or is gone.
func (g generation) untilLeaving(ctx context.Context) error {
	for {
		serving := slices.DeleteFunc(g.alive(), func(pid int) bool {
			title, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			return err != nil || len(title) == 0 || strings.Contains(string(title), "shutting down")
		})
		if len(serving) == 0 {
			return nil
		}
		if err := wait.For(ctx, look); err != nil {
			return fmt.Errorf("nginx's worker %d still serves with the old upstream (see nginx's error log): %w", serving[0], err)
		}
	}
}

// untilUnused waits until no connection to the worker is open.
func untilUnused(ctx context.Context, w fleet.Worker) error {
	for {
		n, err := sockets.OpenTo(w.Address)
		if err != nil {
			return fmt.Errorf("drain %s: %w", w.ID, err)
		}
		if n == 0 {
			return nil
		}
		if err := wait.For(ctx, look); err != nil {
			return fmt.Errorf("drain %s: %d connections to %s are still open: %w", w.ID, n, w.Address, err)
		}
	}
}
