package process

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// cgroupHome makes the control group below the daemon's own under which each worker gets one, and says why it cannot.
func cgroupHome(fleet, stateDir string) (string, error) {
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", fmt.Errorf("read the daemon's control group: %w", err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("read the mounts: %w", err)
	}
	dir, err := cgroupDir(string(own), string(mounts))
	if err != nil {
		return "", err
	}
	// The state folder tells two daemons with a fleet of one name apart.
	home := filepath.Join(dir, fmt.Sprintf("tidemark-%s-%.4x", fleet, sha256.Sum256([]byte(stateDir))))
	if err := os.Mkdir(home, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return "", fmt.Errorf("make a control group (systemd: Delegate=yes allows it): %w", err)
	}
	return home, nil
}

// cgroupDir finds the folder of the daemon's own version 2 control group.
func cgroupDir(own, mountinfo string) (string, error) {
	path := ""
	for line := range strings.Lines(own) {
		if p, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			path = p
		}
	}
	if path == "" {
		return "", errors.New("this system has no control groups of version 2")
	}
	for line := range strings.Lines(mountinfo) {
		// 36 35 0:29 /root /mount/point options - type source options
		left, right, ok := strings.Cut(line, " - ")
		f := strings.Fields(left)
		if !ok || len(f) < 5 || !strings.HasPrefix(right, "cgroup2 ") {
			continue
		}
		rel, ok := strings.CutPrefix(path, strings.TrimSuffix(f[3], "/"))
		if !ok {
			continue
		}
		return filepath.Join(f[4], rel), nil
	}
	return "", errors.New("control groups of version 2 are not mounted")
}

// joinCgroup moves the calling process.
func joinCgroup(dir string) error {
	return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0)
}

func cgroupMembers(dir string) map[int]bool {
	if dir == "" {
		return nil
	}
	f, err := os.Open(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return nil
	}
	defer f.Close()
	members := map[int]bool{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if pid, err := strconv.Atoi(lines.Text()); err == nil {
			members[pid] = true
		}
	}
	return members
}
