package sockets

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
)

// Drops are connection attempts lost because an accept queue was full, counted since boot over all listeners of a network
// namespace. They only rise: use differences.
type Drops struct {
	ListenOverflows uint64 // TcpExt ListenOverflows: the queue was full
	ListenDrops     uint64 // TcpExt ListenDrops: the same and all other reasons
}

// ReadDrops reads the counters of the network namespace that a process is in.
func ReadDrops(pid int) (Drops, error) {
	path := fmt.Sprintf("/proc/%d/net/netstat", pid)
	data, err := os.ReadFile(path)
	if err != nil {
		return Drops{}, fmt.Errorf("read the kernel's network counters: %w", err)
	}
	var d Drops
	for name, into := range map[string]*uint64{"ListenOverflows": &d.ListenOverflows, "ListenDrops": &d.ListenDrops} {
		if *into, err = counter(data, "TcpExt:", name); err != nil {
			return Drops{}, fmt.Errorf("%s: %w", path, err)
		}
	}
	return d, nil
}

// counter finds a value in pairs of lines, the first of which names what the second one counts.
func counter(data []byte, group, name string) (uint64, error) {
	var names [][]byte
	for line := range bytes.Lines(data) {
		f := bytes.Fields(line)
		if len(f) == 0 || string(f[0]) != group {
			continue
		}
		if names == nil {
			names = f
			continue
		}
		for i := 1; i < len(names) && i < len(f); i++ {
			if string(names[i]) == name {
				return strconv.ParseUint(string(f[i]), 10, 64)
			}
		}
	}
	return 0, fmt.Errorf("no %s %s", group, name)
}
