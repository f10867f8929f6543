package prefork

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// WritePIDFile writes this process's pid to path, whole or not at all, and returns what takes it away again, unless
// another process has written its own there since.
func WritePIDFile(path string) (remove func(), err error) {
	pid := strconv.Itoa(os.Getpid())
	draft := path + "." + pid
	if err := os.WriteFile(draft, []byte(pid+"\n"), 0o644); err != nil {
		return nil, fmt.Errorf("write the pid file: %w", err)
	}
	if err := os.Rename(draft, path); err != nil {
		_ = os.Remove(draft)
		return nil, fmt.Errorf("write the pid file: %w", err)
	}
	return func() {
		if text, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(text)) == pid {
			_ = os.Remove(path) // stale at worst
		}
	}, nil
}
