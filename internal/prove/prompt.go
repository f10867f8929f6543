package prove

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// slice is for how long the generator asks to compute at a time. Linux's own is about 3 ms.
const slice = 100 * time.Microsecond

// BePrompt asks the kernel to let this process's threads, and those that they start, compute for a short while at a time. Who asks for
// less than those who compute just now is let in before they are done: on a machine that has other work too, a thread that wakes up to
// start a request starts it now and not 4 ms later. It gets no more CPU for that, and needs no rights. A kernel before 6.12 takes no notice.
func BePrompt() error {
	const tasks = "/proc/self/task"
	threads, err := os.ReadDir(tasks)
	if err != nil {
		return fmt.Errorf("ask for short time slices: %w", err)
	}
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			return fmt.Errorf("ask for short time slices: %s/%s is no thread", tasks, t.Name())
		}
		how, err := unix.SchedGetAttr(id, 0)
		if errors.Is(err, unix.ESRCH) { // it has ended
			continue
		}
		if err == nil && how.Policy == unix.SCHED_NORMAL {
			how.Runtime = uint64(slice)
			err = unix.SchedSetAttr(id, how, 0)
		}
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("ask for short time slices: %w", err)
		}
	}
	return nil
}
