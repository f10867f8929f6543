package haproxy

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"html"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
	"time"

	"tidemark/internal/atomicfile"
	"tidemark/internal/fleet"
)

//go:embed backend.cfg
var backendText string

var backendFile = template.Must(template.New("backend").Funcs(template.FuncMap{"ms": ms, "seconds": seconds, "under": under}).Parse(backendText))

func ms(d time.Duration) int64      { return max(d.Milliseconds(), 1) }
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

// under is the condition that a path is a route or below it, as the built-in proxy has it: /api is not /apix.
func under(route string) string {
	if strings.HasSuffix(route, "/") {
		return "{ path_beg " + route + " }"
	}
	return "{ path " + route + " } or { path_beg " + route + "/ }"
}

// server is one line of the backend.
type server struct{ Name, Address string }

// serverOf lets nothing into HAProxy's configuration that could be more than a name and an address.
func serverOf(w fleet.Worker) (server, error) {
	name := w.Instance()
	if !goodName.MatchString(name) {
		return server{}, fmt.Errorf("worker %s: HAProxy takes only letters, digits and _ . : - in a server's name", w.ID)
	}
	if path, ok := strings.CutPrefix(w.Address, "unix:"); ok {
		if !filepath.IsAbs(path) || strings.ContainsFunc(path, unsafe) {
			return server{}, fmt.Errorf("worker %s: %q is no socket path that HAProxy can be given", w.ID, w.Address)
		}
		return server{name, "unix@" + path}, nil
	}
	at, err := netip.ParseAddrPort(strings.Replace(w.Address, "localhost:", "127.0.0.1:", 1))
	if err != nil || at.Port() == 0 || at.Addr().Zone() != "" {
		return server{}, fmt.Errorf("worker %s: %q is no address; HAProxy needs IP:port or unix:/path (it looks no names up for servers that are added while it runs)", w.ID, w.Address)
	}
	return server{name, at.String()}, nil
}

func unsafe(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`;{}#$'"\,@`, r) }

// ranked is a class as the file has it.
type ranked struct {
	Class
	Limit int
	Retry time.Duration
}

// prefix is a route and its class.
type prefix struct{ Path, Class string }

// Render writes the backend, with these workers' servers. The same workers give the same bytes, in whatever order they come.
func (c *Config) Render(workers []fleet.Worker) ([]byte, error) {
	servers, err := serversOf(workers)
	if err != nil {
		return nil, err
	}
	return c.render(servers), nil
}

func serversOf(workers []fleet.Worker) (servers []server, err error) {
	for _, w := range workers {
		s, err := serverOf(w)
		if err != nil {
			return nil, err
		}
		servers = append(servers, s)
	}
	slices.SortFunc(servers, func(a, b server) int { return strings.Compare(a.Name, b.Name) })
	return slices.CompactFunc(servers, func(a, b server) bool { return a.Name == b.Name }), nil
}

func (c *Config) render(servers []server) []byte {
	d := struct {
		*Config
		Settings, Page string
		Ranked         []ranked
		Prefixes       []prefix // shortest first: the last that fits decides
		Servers        []server
	}{Config: c, Page: c.page(), Servers: servers}
	for _, cl := range append(slices.Clone(c.Classes), Class{Name: otherName, Priority: otherRank}) {
		r := ranked{cl, c.Queue.Limit, c.Queue.RetryAfter}
		if cl.QueueLimit > 0 {
			r.Limit = cl.QueueLimit
		}
		if cl.RetryAfter > 0 {
			r.Retry = cl.RetryAfter
		}
		d.Ranked = append(d.Ranked, r)
		for _, path := range cl.Routes {
			d.Prefixes = append(d.Prefixes, prefix{path, cl.Name})
		}
	}
	slices.SortStableFunc(d.Prefixes, func(a, b prefix) int { return len(a.Path) - len(b.Path) })
	d.Settings = c.settings()
	var b bytes.Buffer
	if err := backendFile.Execute(&b, d); err != nil {
		panic(err) // not reached: the template shows what stands above, into memory
	}
	return b.Bytes()
}

// settings names all that only a reload changes: two configurations that differ in it have different ones. HAProxy has it
// in an environment variable of its own, and says it when asked.
func (c *Config) settings() string {
	k := *c
	k.Socket, k.File, k.MaxInFlight, k.DrainTimeout, k.Sticky.Drain = "", "", 0, 0, 0
	sum := sha256.Sum256(fmt.Appendf(nil, "%s%+v", backendText, k))
	return hex.EncodeToString(sum[:8])
}

// Variable is the name of that environment variable.
func (c *Config) Variable() string {
	return "TIDEMARK_" + strings.Map(func(r rune) rune {
		if strings.ContainsRune(".:-", r) {
			return '_'
		}
		return r
	}, c.Backend)
}

// page is what a visitor sees while the service is too busy, between single quotes.
func (c *Config) page() string {
	s := `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>Service Unavailable</title>` +
		`<main><h1>The service is very busy. Please try again in a moment.</h1>`
	if c.Message != "" {
		s += "<p>" + html.EscapeString(strings.Join(strings.Fields(strings.ToValidUTF8(c.Message, "?")), " ")) + "</p>"
	}
	return s + "</main></html>"
}

// parse reads back the servers that render wrote.
func parse(b []byte) (servers []server) {
	for line := range strings.Lines(string(b)) {
		if words := strings.Fields(line); len(words) >= 3 && words[0] == "server" {
			servers = append(servers, server{words[1], words[2]})
		}
	}
	return servers
}

// write brings the file up to date, if it is not.
func (c *Config) write(servers []server) error {
	wanted := c.render(servers)
	have, err := os.ReadFile(c.File)
	if err == nil && bytes.Equal(have, wanted) {
		return nil
	}
	if err == nil || errors.Is(err, os.ErrNotExist) {
		err = atomicfile.Write(c.File, wanted, 0o644, nil) // by way of a hidden file: HAProxy may read a folder's *.cfg
	}
	if err != nil {
		return fmt.Errorf("haproxy backend: %w", err)
	}
	return nil
}
