// Package sockets reads the kernel's socket tables: which sockets a set of processes listens on, how many connections
// wait in their accept queues, and which process holds how many accepted ones. It reads Linux's /proc, in the network
// namespace of the processes asked about, and opens no socket itself. What a number means is left to its callers: for
// workers that serve one request at a time, a worker that holds a connection is busy and the others are free.
package sockets

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
)

// Load is how busy a set of processes is, seen from its listening sockets at one moment.
type Load struct {
	Listeners []Socket
	Queued    int         // established connections that no process has accepted yet
	Held      map[int]int // accepted connections of those listeners, by pid; every pid asked for that still lives has an entry
}

// Busy counts the processes that hold a connection.
func (l Load) Busy() int {
	n := 0
	for _, held := range l.Held {
		if held > 0 {
			n++
		}
	}
	return n
}

// Look reads the load of the processes pids, which share their listening sockets and their network namespace, that of the
// first. The listeners are the sockets that any of them holds open for listening; a port other than 0 narrows that to TCP
// sockets on this local port. It needs the rights of the processes' user, or root's. It is an error when nothing listens: no
// listener is not the same as no load.
func Look(pids []int, port int) (Load, error) {
	if len(pids) == 0 {
		return Load{}, fmt.Errorf("no process to look at")
	}
	open := make(map[int][]uint64, len(pids))
	for _, pid := range pids {
		inodes, err := Inodes(pid)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it ended while we looked
		}
		if err != nil {
			return Load{}, err
		}
		open[pid] = inodes
	}
	table, err := Read(pids[0])
	if err != nil {
		return Load{}, err
	}
	return table.load(open, port)
}

func (t Table) load(open map[int][]uint64, port int) (Load, error) {
	held := make(map[uint64]bool)
	for _, inodes := range open {
		for _, inode := range inodes {
			held[inode] = true
		}
	}
	l := Load{Held: make(map[int]int, len(open))}
	for _, s := range t {
		if s.State == Listen && held[s.Inode] && (port == 0 || s.Path == "" && int(s.Local.Port()) == port) {
			l.Listeners = append(l.Listeners, s)
		}
	}
	if len(l.Listeners) == 0 && port != 0 {
		return Load{}, fmt.Errorf("none of the processes listens on port %d", port)
	}
	if len(l.Listeners) == 0 {
		return Load{}, fmt.Errorf("none of the processes listens on a TCP or unix stream socket")
	}
	accepted := make(map[uint64]bool)
	for _, s := range t {
		if s.State == Listen || !slices.ContainsFunc(l.Listeners, s.from) {
			continue
		}
		if s.Inode != 0 {
			accepted[s.Inode] = true
		} else if s.Network == Unix {
			l.Queued++ // a unix listener's own line does not tell the length of its queue
		}
	}
	for _, s := range l.Listeners {
		l.Queued += s.RecvQ
	}
	for pid, inodes := range open {
		l.Held[pid] = 0
		for _, inode := range inodes {
			if accepted[inode] {
				l.Held[pid]++
			}
		}
	}
	return l, nil
}

// Inodes lists the sockets that a process holds open, each once. The error matches fs.ErrNotExist when there is no such
// process.
func Inodes(pid int) ([]uint64, error) {
	dir := "/proc/" + strconv.Itoa(pid) + "/fd"
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("read the open sockets of process %d (run as its user or as root): %w", pid, err)
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("read the open sockets of process %d: %w", pid, err)
	}
	var inodes []uint64
	for _, name := range names {
		link, err := os.Readlink(dir + "/" + name)
		if err != nil {
			continue // closed meanwhile
		}
		if inode, ok := socketInode(link); ok {
			inodes = append(inodes, inode)
		}
	}
	slices.Sort(inodes)
	return slices.Compact(inodes), nil
}

// socketInode reads "socket:[4711]".
func socketInode(link string) (uint64, bool) {
	const prefix, suffix = "socket:[", "]"
	if len(link) <= len(prefix)+len(suffix) || link[:len(prefix)] != prefix || link[len(link)-1:] != suffix {
		return 0, false
	}
	n, err := strconv.ParseUint(link[len(prefix):len(link)-1], 10, 64)
	return n, err == nil
}
