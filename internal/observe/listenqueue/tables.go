package listenqueue

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"tidemark/internal/act/sockets"
)

// Tables reads the kernel's tables once a tick for all signals of a daemon: to list a host's sockets takes milliseconds, however
// few there are. The zero value is ready, and for several goroutines at once.
type Tables struct {
	mu   sync.Mutex
	now  time.Time
	read map[uint64]sockets.Table // by network namespace
}

// of is the table of the network namespace that a process is in, and what tells the namespace from others. The error
// matches fs.ErrNotExist when there is no such process.
func (t *Tables) of(ctx context.Context, now time.Time, pid int) (namespace uint64, table sockets.Table, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return 0, nil, err
	}
	// Each namespace has files of its own; their number tells namespaces apart without the rights that /proc/<pid>/ns needs.
	var st unix.Stat_t
	path := fmt.Sprintf("/proc/%d/net/tcp", pid)
	if err := unix.Stat(path, &st); err != nil {
		return 0, nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if t.read == nil || !now.Equal(t.now) {
		t.now, t.read = now, map[uint64]sockets.Table{}
	}
	table, ok := t.read[st.Ino]
	if !ok {
		if table, err = sockets.Read(pid); err != nil {
			return 0, nil, err
		}
		t.read[st.Ino] = table
	}
	return st.Ino, table, nil
}
