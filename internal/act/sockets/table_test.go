package sockets

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const (
	tcpListen  = "   0: 0100007F:1F85 00000000:0000 0A 00000000:00000003 00:00000000 00000000   101        0 31 1 00000000804b4317 100 0 0 10 0"
	tcpOpen    = "   1: 0100007F:1F85 0100007F:C0A2 01 00000000:00000064 00:00000000 00000000   101        0 4711 1 0000000000000000 20 4 30 10 -1"
	tcpWait    = "   2: 0100007F:1F85 0100007F:C0A4 06 00000000:00000000 03:00000F2C 00000000     0        0 0 3 0000000000000000"
	tcpMapped  = "   3: 0000000000000000FFFF00000100007F:1F85 0000000000000000FFFF00000100007F:C0A2 08 00000000:00000000 00:00000000 00000000     0        0 0 1 0000000000000000 20 4 30 10 -1"
	unixListen = "00000000d2b150e7: 00000002 00000000 00010000 0001 01  1663 /run/a b.sock"
	unixQueued = "00000000d2b150e8: 00000002 00000000 00000000 0001 02     0 /run/a b.sock"
	unixOpen   = "00000000726bc424: 00000003 00000000 00000000 0001 03  1664 @abstract"
	unixDgram  = "00000000726bc425: 00000003 00000000 00000000 0002 01  1665 /run/log"
)

func TestParse(t *testing.T) {
	local := netip.MustParseAddrPort("127.0.0.1:8069")
	for _, c := range []struct {
		line  string
		parse func([]byte) (Socket, error)
		want  Socket
	}{
		{tcpListen, parseTCP, Socket{Network: TCP, State: Listen, Local: local, RecvQ: 3, Inode: 31}},
		{tcpOpen, parseTCP, Socket{Network: TCP, State: Open, Local: local, RecvQ: 100, Inode: 4711}},
		{tcpWait, parseTCP, Socket{Network: TCP}},
		{tcpMapped, parseTCP, Socket{Network: TCP, State: Open, Local: local}},
		{unixListen, parseUnix, Socket{Network: Unix, State: Listen, Path: "/run/a b.sock", Inode: 1663}},
		{unixQueued, parseUnix, Socket{Network: Unix, State: Open, Path: "/run/a b.sock"}},
		{unixOpen, parseUnix, Socket{Network: Unix, State: Open, Path: "@abstract", Inode: 1664}},
		{unixDgram, parseUnix, Socket{}},
		{"b.sock: no socket but the second line of a path", parseUnix, Socket{}},
	} {
		got, err := c.parse([]byte(c.line))
		if diff := cmp.Diff(c.want, got, cmpopts.EquateComparable(netip.AddrPort{})); err != nil || diff != "" {
			t.Errorf("%s\n%v %s", c.line, err, diff)
		}
	}
	for _, line := range []string{"", "0:", "   0: 0100007F 00000000:0000 0A 0:0 0:0 0 0 0 31", strings.Replace(tcpListen, "0100007F", "0100007", 1),
		strings.Replace(tcpListen, "0100007F", "0100007X", 1), strings.Replace(tcpListen, " 31 ", " x ", 1), tcpListen[:90]} {
		if s, err := parseTCP([]byte(line)); err == nil {
			t.Errorf("parseTCP(%q) = %+v, want an error", line, s)
		}
	}
}

func TestLoadOfATable(t *testing.T) {
	at := func(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
	table := Table{
		{Network: TCP, State: Listen, Local: at("127.0.0.1:80"), RecvQ: 2, Inode: 1},
		{Network: TCP, State: Listen, Local: at("[::]:81"), RecvQ: 1, Inode: 2},
		{Network: TCP, State: Listen, Local: at("127.0.0.2:80"), RecvQ: 9, Inode: 3}, // another program's
		{Network: TCP, State: Open, Local: at("127.0.0.1:80"), Inode: 10},
		{Network: TCP, State: Open, Local: at("127.0.0.1:80")},            // queued: counted by its listener
		{Network: TCP, State: Open, Local: at("127.0.0.2:80"), Inode: 11}, // the other program's
		{Network: TCP, State: Open, Local: at("10.0.0.7:81"), Inode: 12},
		{Network: TCP, State: Open, Local: at("10.0.0.7:40000"), Inode: 13}, // a worker's own call to its database
	}
	open := map[int][]uint64{100: {1, 2}, 101: {1, 2, 10, 13}, 102: {1, 2, 13}, 103: {1, 2, 12}}
	got, err := table.load(open, 0)
	want := Load{Listeners: table[:2], Queued: 3, Held: map[int]int{100: 0, 101: 1, 102: 0, 103: 1}}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.AddrPort{})); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	if got.Busy() != 2 {
		t.Errorf("Busy() = %d, want 2", got.Busy())
	}
}

func TestCounter(t *testing.T) {
	const data = "TcpExt: A B\nTcpExt: 1 2\nIpExt: C\nIpExt: 3\n"
	for _, c := range []struct {
		group, name string
		want        uint64
		ok          bool
	}{{"TcpExt:", "B", 2, true}, {"IpExt:", "C", 3, true}, {"TcpExt:", "C", 0, false}, {"Tcp:", "A", 0, false}} {
		got, err := counter([]byte(data), c.group, c.name)
		if got != c.want || (err == nil) != c.ok {
			t.Errorf("%s %s = %d, %v", c.group, c.name, got, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, line := range []string{tcpListen, tcpOpen, tcpWait, tcpMapped, unixListen, unixQueued, unixOpen, unixDgram} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		if s, err := parseTCP(line); err == nil && s.State != Other && (!s.Local.IsValid() || s.RecvQ < 0) {
			t.Errorf("%q gave %+v", line, s)
		}
		if s, _ := parseUnix(line); s.State != Other && s.Network != Unix {
			t.Errorf("%q gave %+v", line, s)
		}
		_, _ = counter(line, "TcpExt:", "ListenDrops")
		_, _ = socketInode(string(line))
	})
}

// A table as on a busy host: 200 connections, and 20,000 that wait out their two minutes.
func BenchmarkTable(b *testing.B) {
	var data strings.Builder
	data.WriteString("heading\n" + tcpListen + "\n")
	for i := range 20_200 {
		line := tcpWait
		if i%100 == 0 {
			line = tcpOpen
		}
		fmt.Fprintln(&data, line)
	}
	b.SetBytes(int64(data.Len()))
	b.ReportAllocs()
	for b.Loop() {
		if t, err := (Table)(nil).add(strings.NewReader(data.String()), parseTCP); err != nil || len(t) != 203 {
			b.Fatal(len(t), err)
		}
	}
}
