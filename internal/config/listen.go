package config

import (
	"fmt"
	"net/netip"
	"strings"
)

// listen checks where the dashboard is. Who can open it can give orders, so that only this machine is listened to.
func (d *decoder) listen(address string) {
	const path = "listen"
	if !d.written(path) || !d.ok(path) {
		return
	}
	at, err := netip.ParseAddrPort(address)
	switch {
	case err != nil || at.Port() == 0:
		d.fail(path, quote(path, address)+" is no address and port", "write 127.0.0.1:8460")
	case !at.Addr().IsLoopback():
		d.fail(path, at.Addr().String()+" can be reached from outside of this machine, which needs TLS and sign-in, and these are not supported yet by this version",
			fmt.Sprintf("write 127.0.0.1:%[1]d, and open it from elsewhere by 'ssh -L %[1]d:127.0.0.1:%[1]d HOST'", at.Port()))
	}
}

// Written is the part of the file that is about one fleet, as it stands there; secrets are blotted out. ok is false where the file
// has it in no lines of its own.
func (c *Config) Written(fleet int) (text string, ok bool) {
	at, ok := c.places[fmt.Sprintf("fleets.%d", fleet)]
	first := at.value.line - 1
	if !ok || first < 0 || first >= len(c.text.lines) {
		return "", false
	}
	lines := block(c.text.lines[first:])
	if len(lines) == 0 {
		return "", false
	}
	out := make([]string, len(lines))
	for i, line := range lines {
		out[i] = mask(line)
	}
	return strings.Join(out, "\n") + "\n", true
}

// EffectiveFleet is the part of Effective that is about one fleet.
func (c *Config) EffectiveFleet(fleet int) string {
	lines := strings.Split(strings.TrimSuffix(Effective(c), "\n"), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "fleets:") {
			lines = lines[i+1:]
			break
		}
	}
	for range fleet {
		lines = lines[len(block(lines)):]
	}
	return strings.Join(block(lines), "\n") + "\n"
}

// block is the entry of a list that begins at the first line: that line, and those that are indented deeper than its dash, without what
// is empty or a comment at its end.
func block(lines []string) []string {
	if !strings.HasPrefix(strings.TrimLeft(lines[0], " "), "- ") {
		return nil
	}
	dash, end := indent(lines[0]), 1
	for i := 1; i < len(lines); i++ {
		text := strings.TrimSpace(lines[i])
		switch {
		case text == "":
		case indent(lines[i]) <= dash && !strings.HasPrefix(text, "#"), indent(lines[i]) < dash:
			return lines[:end]
		case indent(lines[i]) > dash:
			end = i + 1
		}
	}
	return lines[:end]
}

func indent(line string) int { return len(line) - len(strings.TrimLeft(line, " ")) }
