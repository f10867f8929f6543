package procfs

import (
	"bytes"
	"errors"
)

// stat is what is used of /proc/<pid>/stat; see proc_pid_stat(5).
type stat struct {
	state   byte
	ticks   uint64 // CPU time in user and kernel mode, in clock ticks
	threads uint64
	start   uint64 // clock ticks after boot: with the pid it names the process
	rss     uint64 // pages
}

// ticksPerSecond is USER_HZ, which the kernel fixed at 100 for all who read /proc.
const ticksPerSecond = 100

var errStat = errors.New("not what the kernel writes there")

// parseStat reads the line. The name stands in parentheses and may hold anything, parentheses, spaces and line ends
// too, so the fields are counted from the last ")".
func parseStat(b []byte) (s stat, err error) {
	const first, last = 3, 24 // fields are counted from 1, as in the manual
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return s, errStat
	}
	var room [last - first + 1][]byte
	f := words(b[end+1:], room[:0])
	if len(f) < len(room) || len(f[0]) != 1 {
		return s, errStat
	}
	s.state = f[0][0]
	var user, system uint64
	for _, n := range []struct {
		field int
		into  *uint64
	}{{14, &user}, {15, &system}, {20, &s.threads}, {22, &s.start}, {24, &s.rss}} {
		var ok bool
		if *n.into, ok = number(f[n.field-first]); !ok {
			return stat{}, errStat
		}
	}
	s.ticks = user + system
	return s, nil
}

// words splits a line at its spaces into at most cap(into) words.
func words(line []byte, into [][]byte) [][]byte {
	for len(line) > 0 && len(into) < cap(into) && line[0] != '\n' {
		i := bytes.IndexAny(line, " \n")
		if i < 0 {
			i = len(line)
		}
		if i == 0 {
			line = line[1:]
			continue
		}
		into = append(into, line[:i])
		line = line[i:]
	}
	return into
}

// number reads digits and nothing else, below 2^62.
func number(b []byte) (uint64, bool) {
	var n uint64
	for _, c := range b {
		if c < '0' || c > '9' || n > 1<<58 {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return n, len(b) > 0
}

// valueOf finds "Key:   123 kB" among the lines and returns its bytes.
func valueOf(b []byte, key string) (uint64, bool) {
	for len(b) > 0 {
		line := b
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			line, b = b[:i], b[i+1:]
		} else {
			b = nil
		}
		if rest, ok := bytes.CutPrefix(line, []byte(key)); ok {
			var room [2][]byte
			w := words(rest, room[:0])
			if len(w) != 2 || string(w[1]) != "kB" {
				return 0, false
			}
			n, ok := number(w[0])
			return n << 10, ok && n < 1<<50
		}
	}
	return 0, false
}
