package copies

import (
	"fmt"
	"os"
	"strings"
)

// Local returns a copy's main process when it runs on this machine and is seen from here: when one of its control groups has group in its
// path. Else it returns 0: what its runner calls by that pid is not here, or has ended.
func Local(pid int, group string) int {
	groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil || !strings.Contains(string(groups), group) {
		return 0
	}
	return pid
}
