package sockets

import (
	"net/netip"
	"os"
	"strings"
)

// OpenTo counts the open connections at the listening end of an address, host:port or unix:/path, in this network namespace.
// It is 0 for a name, which is on another machine.
func OpenTo(address string) (n int, err error) {
	path, isUnix := strings.CutPrefix(address, "unix:")
	at, err := netip.ParseAddrPort(strings.Replace(address, "localhost:", "127.0.0.1:", 1))
	if !isUnix && err != nil {
		return 0, nil
	}
	table, err := Read(os.Getpid())
	if err != nil {
		return 0, err
	}
	for _, s := range table {
		if s.State == Open && (isUnix && s.Path == path ||
			!isUnix && s.Path == "" && s.Local.Port() == at.Port() && s.Local.Addr().Unmap() == at.Addr().Unmap()) {
			n++
		}
	}
	return n, nil
}
