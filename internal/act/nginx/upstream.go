package nginx

import (
	"bytes"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"tidemark/internal/fleet"
)

// render writes the upstream block. The same addresses give the same bytes, in whatever order they come.
func (c *Config) render(addresses []string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Written by Tidemark, which writes it anew when the fleet changes: edits are lost.\nupstream %s {\n", c.Upstream)
	if c.Method != "round_robin" {
		fmt.Fprintf(&b, "    %s;\n", c.Method)
	}
	extra := ""
	if len(c.Extra) > 0 {
		extra = " " + strings.Join(c.Extra, " ")
	}
	sorted := slices.Clone(addresses)
	slices.Sort(sorted)
	for _, a := range sorted {
		fmt.Fprintf(&b, "    server %s%s;\n", a, extra)
	}
	if c.Keepalive > 0 {
		fmt.Fprintf(&b, "    keepalive %d;\n", c.Keepalive) // after the method, as nginx asks
	}
	b.WriteString("}\n")
	return b.Bytes()
}

// parse reads back the addresses that render wrote.
func parse(b []byte) (addresses []string) {
	for line := range strings.Lines(string(b)) {
		words := strings.Fields(strings.TrimSuffix(strings.TrimSpace(line), ";"))
		if len(words) >= 2 && words[0] == "server" {
			addresses = append(addresses, words[1])
		}
	}
	return addresses
}

// checkAddress lets nothing into the file that could be more than an address.
func checkAddress(w fleet.Worker) error {
	if path, ok := strings.CutPrefix(w.Address, "unix:"); ok {
		if !filepath.IsAbs(path) || strings.ContainsFunc(path, unsafe) {
			return fmt.Errorf("worker %s: %q is no socket path that nginx can be given", w.ID, w.Address)
		}
		return nil
	}
	host, port, err := net.SplitHostPort(w.Address)
	if n, perr := strconv.ParseUint(port, 10, 16); err != nil || host == "" || strings.ContainsFunc(host, unsafe) || perr != nil || n == 0 {
		return fmt.Errorf("worker %s: %q is no address; nginx needs host:port or unix:/path", w.ID, w.Address)
	}
	return nil
}

func unsafe(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`;{}#$'"\`, r) }
