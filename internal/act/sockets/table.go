package sockets

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"strconv"
)

// Network is a socket's family.
type Network string

const (
	TCP  Network = "tcp" // IPv4 and IPv6: an IPv6 socket may serve both
	Unix Network = "unix"
)

// State is how far a socket is, as far as it matters here.
type State uint8

const (
	Other  State = iota
	Listen       // takes connections
	Open         // carries one, which the peer may have half closed already
)

// Socket is one line of the kernel's tables.
type Socket struct {
	Network Network
	State   State
	Local   netip.AddrPort // TCP
	Path    string         // unix; an abstract name begins with @
	// RecvQ is, for a listening TCP socket, its accept queue's length in connections; for others, unread bytes. Unix
	// tables do not tell it.
	RecvQ int
	Inode uint64 // 0: no process has accepted it yet, or has it any more
}

// from reports whether a connection came in through a listener.
func (s Socket) from(listener Socket) bool {
	if s.State != Open || s.Network != listener.Network {
		return false
	}
	if s.Network == Unix {
		return s.Path != "" && s.Path == listener.Path
	}
	return s.Local.Port() == listener.Local.Port() && (listener.Local.Addr().IsUnspecified() || s.Local.Addr() == listener.Local.Addr())
}

// Table is one reading of a network namespace's stream sockets: those that listen and those that carry a connection. The
// kernel lists sockets one after another, so under load it is no snapshot: a connection that comes or goes meanwhile may be missed.
type Table []Socket

// Read reads the tables of the network namespace that a process is in. A line that is not understood is an error: the
// kernel's format is not guessed at.
func Read(pid int) (Table, error) {
	var t Table
	for _, f := range []struct {
		name  string
		parse func([]byte) (Socket, error)
	}{{"tcp", parseTCP}, {"tcp6", parseTCP}, {"unix", parseUnix}} {
		path := fmt.Sprintf("/proc/%d/net/%s", pid, f.name)
		file, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) && f.name == "tcp6" {
			continue // a kernel without IPv6
		}
		if err != nil {
			return nil, fmt.Errorf("read the socket table: %w", err)
		}
		t, err = t.add(file, f.parse)
		file.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return t, nil
}

// add parses a table below its heading, line by line: on a busy host it is megabytes long.
func (t Table) add(r io.Reader, parse func([]byte) (Socket, error)) (Table, error) {
	lines := bufio.NewScanner(r)
	lines.Scan()
	for lines.Scan() {
		s, err := parse(lines.Bytes())
		if err != nil {
			return nil, err
		}
		if s.State != Other {
			t = append(t, s)
		}
	}
	return t, lines.Err()
}

// tcpStates are those of include/net/tcp_states.h that matter: a connection whose peer has closed its half (CLOSE_WAIT)
// still keeps its worker busy.
var tcpStates = map[string]State{"01": Open, "08": Open, "0A": Listen}

// parseTCP reads a line of /proc/net/tcp or tcp6:
//
//	sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode ...
func parseTCP(line []byte) (Socket, error) {
	var f [10][]byte
	cut(line, f[:])
	s := Socket{Network: TCP, State: tcpStates[string(f[3])]}
	if s.State == Other && len(f[9]) > 0 {
		return s, nil // mostly TIME_WAIT, of which there may be tens of thousands
	}
	local, ok := parseAddr(f[1])
	_, rx, _ := bytes.Cut(f[4], []byte(":"))
	queue, err1 := strconv.ParseUint(string(rx), 16, 31)
	inode, err2 := strconv.ParseUint(string(f[9]), 10, 64)
	if !ok || err1 != nil || err2 != nil {
		return Socket{}, fmt.Errorf("line not understood: %q", line)
	}
	s.Local, s.RecvQ, s.Inode = local, int(queue), inode
	return s, nil
}

// cut fills f with a line's first fields and returns what follows the last one.
func cut(line []byte, f [][]byte) (rest []byte) {
	for i := range f {
		line = bytes.TrimLeft(line, " ")
		f[i], line, _ = bytes.Cut(line, []byte(" "))
	}
	return line
}

// parseAddr reads "0100007F:1F85": the address as 32-bit words in the machine's byte order, then the port.
func parseAddr(b []byte) (netip.AddrPort, bool) {
	host, port, ok := bytes.Cut(b, []byte(":"))
	if !ok || len(host) != 8 && len(host) != 32 {
		return netip.AddrPort{}, false
	}
	var raw [16]byte
	n, err := hex.Decode(raw[:], host)
	if err != nil {
		return netip.AddrPort{}, false
	}
	for i := 0; i < n; i += 4 {
		binary.NativeEndian.PutUint32(raw[i:], binary.BigEndian.Uint32(raw[i:]))
	}
	addr, _ := netip.AddrFromSlice(raw[:n])
	p, err := strconv.ParseUint(string(port), 16, 16)
	return netip.AddrPortFrom(addr.Unmap(), uint16(p)), err == nil
}

const (
	unixListening  = 1 << 16 // __SO_ACCEPTCON
	unixStream     = 1       // SOCK_STREAM
	unixConnecting = 2       // established, not accepted yet
	unixConnected  = 3
)

// parseUnix reads a line of /proc/net/unix:
//
//	Num: RefCount Protocol Flags Type St Inode Path
//
// An accepted connection carries the path of its listener. Anybody may give a socket a path with a line break in it, so a
// line that makes no sense is passed over.
func parseUnix(line []byte) (Socket, error) {
	var f [7][]byte
	path := cut(line, f[:])
	flags, err1 := strconv.ParseUint(string(f[3]), 16, 32)
	kind, err2 := strconv.ParseUint(string(f[4]), 16, 16)
	state, err3 := strconv.ParseUint(string(f[5]), 16, 8)
	inode, err4 := strconv.ParseUint(string(f[6]), 10, 64)
	if err1 != nil || err2 != nil || err3 != nil || err4 != nil || kind != unixStream {
		return Socket{}, nil
	}
	s := Socket{Network: Unix, Path: string(path), Inode: inode}
	switch {
	case flags&unixListening != 0:
		s.State = Listen
	case state == unixConnecting || state == unixConnected:
		s.State = Open
	}
	return s, nil
}
