package process

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// listeners returns the inodes of the sockets that accept connections made to address, as the process pid sees the
// network ("self" for our own view). An empty result means that nobody listens.
func listeners(pid, address string) (map[string]bool, error) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		b, err := os.ReadFile(filepath.Join("/proc", pid, "net/unix"))
		if err != nil {
			return nil, err
		}
		return parseUnixListeners(string(b), path), nil
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	for _, table := range []string{"net/tcp", "net/tcp6"} {
		f, err := os.Open(filepath.Join("/proc", pid, table))
		if errors.Is(err, os.ErrNotExist) && table == "net/tcp6" {
			continue // no IPv6 here
		}
		if err != nil {
			return nil, err
		}
		err = addTCPListeners(found, f, n)
		_ = f.Close()
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// loopback holds the local addresses that a connection to 127.0.0.1 reaches, as /proc/net/tcp and tcp6 write them in
// the byte order of the two families of machine.
var loopback = map[string]bool{
	"00000000": true, "0100007F": true, "7F000001": true,
	"00000000000000000000000000000000": true,
	"0000000000000000FFFF00000100007F": true, "00000000000000000000FFFF7F000001": true,
}

// addTCPListeners reads a table of TCP sockets. The kernel lists the listening ones first, so reading ends with them:
// behind a busy proxy the others are tens of thousands.
func addTCPListeners(found map[string]bool, table io.Reader, port int) error {
	const listen = "0A"
	suffix := fmt.Sprintf(":%04X", port)
	lines := bufio.NewScanner(table)
	for lines.Scan() {
		//   sl  local_address rem_address st queues timer retransmits uid timeout inode
		f := strings.Fields(lines.Text())
		if len(f) < 10 || f[0] == "sl" {
			continue
		}
		if f[3] != listen {
			return nil
		}
		if host, ok := strings.CutSuffix(f[1], suffix); ok && loopback[host] {
			found[f[9]] = true
		}
	}
	return lines.Err()
}

func parseUnixListeners(table, path string) map[string]bool {
	const accepting = 1 << 16 // __SO_ACCEPTCON
	found := map[string]bool{}
	for line := range strings.Lines(table) {
		// Num RefCount Protocol Flags Type St Inode Path
		f := strings.Fields(line)
		if len(f) < 8 || !strings.HasSuffix(strings.TrimSuffix(line, "\n"), " "+path) {
			continue
		}
		if flags, err := strconv.ParseUint(f[3], 16, 64); err == nil && flags&accepting != 0 {
			found[f[6]] = true
		}
	}
	return found
}

// holds reports whether the process has one of the sockets open; certain is false when that could not be seen.
func holds(pid int, inodes map[string]bool) (yes, certain bool) {
	dir := "/proc/" + strconv.Itoa(pid) + "/fd"
	d, err := os.Open(dir)
	if err != nil {
		return false, errors.Is(err, os.ErrNotExist)
	}
	defer d.Close()
	fds, err := d.Readdirnames(-1)
	if err != nil {
		return false, errors.Is(err, unix.ESRCH)
	}
	for _, fd := range fds {
		link, err := os.Readlink(dir + "/" + fd)
		if err != nil {
			continue
		}
		if inode, ok := strings.CutPrefix(link, "socket:["); ok && inodes[strings.TrimSuffix(inode, "]")] {
			return true, true
		}
	}
	return false, true
}

// foreign returns a description of who answers at address, when that certainly is not the worker; "" otherwise.
func foreign(id identity, cgroup, marker, address string) string {
	inodes, err := listeners(strconv.Itoa(id.PID), address)
	if err != nil || len(inodes) == 0 {
		return ""
	}
	ours := append(remains(id, cgroup, marker, ticksNow()), id)
	for _, m := range ours {
		if yes, certain := holds(m.PID, inodes); yes || !certain {
			return ""
		}
	}
	return holder(inodes)
}

// holder names the process that has one of the sockets open.
func holder(inodes map[string]bool) string {
	for _, pid := range allPIDs() {
		if yes, _ := holds(pid, inodes); yes {
			name, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
			return fmt.Sprintf("%s (pid %d)", strings.TrimSpace(string(name)), pid)
		}
	}
	return "a process that cannot be seen from here"
}

// free makes sure that nobody listens at address before a worker is started on it, and removes the socket file that a
// killed worker left behind.
func free(address string) error {
	inodes, err := listeners("self", address)
	if err != nil {
		return fmt.Errorf("see whether %s is free: %w", address, err)
	}
	if len(inodes) > 0 {
		return fmt.Errorf("%s is taken by %s: stop that, or choose another port or socket", address, holder(inodes))
	}
	path, ok := strings.CutPrefix(address, "unix:")
	if !ok {
		return nil
	}
	switch info, err := os.Lstat(path); {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != os.ModeSocket:
		return fmt.Errorf("%s is in the way and is no socket: remove it, or choose another path", path)
	}
	// The listener may be in another network namespace (a container), where its table cannot be read from here.
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil || !errors.Is(err, unix.ECONNREFUSED) {
		if err == nil {
			_ = c.Close()
		}
		return fmt.Errorf("%s is taken by a process that cannot be seen from here: stop that, or choose another path", address)
	}
	return os.Remove(path)
}
