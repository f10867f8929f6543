package nginx

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tidemark/internal/act/sockets"
	"tidemark/internal/config"
	"tidemark/internal/fleet"
)

var _ config.Body = (*Config)(nil)

// What control calls a Balancer.
var _ interface {
	Set(context.Context, []fleet.Worker) error
	Drain(context.Context, fleet.Worker) error
} = (*Balancer)(nil)

func TestRender(t *testing.T) {
	c := DefaultConfig()
	c.Upstream, c.Extra, c.Keepalive = "dfr", []string{"max_fails=0", "max_conns=1"}, 16
	got := string(c.render([]string{"unix:/run/w2.sock", "127.0.0.1:8071"}))
	want := `# Written by Tidemark, which writes it anew when the fleet changes: edits are lost.
upstream dfr {
    least_conn;
    server 127.0.0.1:8071 max_fails=0 max_conns=1;
    server unix:/run/w2.sock max_fails=0 max_conns=1;
    keepalive 16;
}
`
	if got != want {
		t.Errorf("got\n%s", got)
	}
	c.Method, c.Extra, c.Keepalive = "round_robin", nil, 0
	if got := string(c.render([]string{"[::1]:80"})); got != "# Written by Tidemark, which writes it anew when the fleet changes: edits are lost.\nupstream dfr {\n    server [::1]:80;\n}\n" {
		t.Errorf("got\n%s", got)
	}
}

// Any order gives the same bytes, and what was rendered is read back.
func TestRenderAndParse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := DefaultConfig()
		c.Upstream = "u"
		c.Extra = []string{"max_fails=0"}
		addresses := rapid.SliceOfNDistinct(rapid.Map(rapid.IntRange(1, 65535), func(p int) string { return fmt.Sprint("127.0.0.1:", p) }), 1, 20, rapid.ID).Draw(t, "addresses")
		text := c.render(addresses)
		shuffled := rapid.Permutation(addresses).Draw(t, "order")
		if got := c.render(shuffled); string(got) != string(text) {
			t.Fatalf("the order shows:\n%s%s", text, got)
		}
		slices.Sort(addresses)
		if got := parse(text); !slices.Equal(got, addresses) {
			t.Fatalf("read back %v of %v", got, addresses)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("upstream dfr {\n    server 127.0.0.1:8071 max_fails=0;\n}\n"))
	f.Add([]byte("server;\nserver a;server b;"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, a := range parse(b) {
			if a == "" {
				t.Error("an empty address")
			}
		}
	})
}

func TestOnlyAddressesGetIntoTheFile(t *testing.T) {
	for address, ok := range map[string]bool{
		"127.0.0.1:8071":            true,
		"[::1]:8071":                true,
		"dfr-worker-1:8069":         true,
		"unix:/run/odoo/w1.sock":    true,
		"":                          false,
		"127.0.0.1":                 false,
		":8071":                     false,
		"127.0.0.1:0":               false,
		"127.0.0.1:80;include /etc": false,
		"a;b:80":                    false,
		"unix:w1.sock":              false,
		"unix:/run/w1;}":            false,
		"unix:/run/w 1":             false,
		"a\nb:80":                   false,
		"$host:80":                  false,
	} {
		if err := checkAddress(fleet.Worker{ID: "w", Address: address}); (err == nil) != ok {
			t.Errorf("%q: %v", address, err)
		}
	}
}

func TestConnectionsOfAUnixSocketAreSeen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "w.sock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if n, err := sockets.OpenTo("unix:" + path); n != 1 || err != nil {
		t.Errorf("%d connections, %v; want 1", n, err)
	}
	_, _ = c.Close(), s.Close()
	if n, err := sockets.OpenTo("unix:" + path); n != 0 || err != nil {
		t.Errorf("%d connections, %v; want none", n, err)
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		change func(*Config)
		want   string
	}{
		{func(*Config) {}, "<nil>"},
		{func(c *Config) { c.Upstream = "" }, "upstream: is missing; write the name after proxy_pass http://"},
		{func(c *Config) { c.Upstream = "a b" }, `upstream: "a b" is no name of an upstream; write letters, digits, dots, dashes and underscores`},
		{func(c *Config) { c.File = "" }, "file: is missing; write a path that nginx includes, e.g. /etc/nginx/conf.d/dfr-upstream.conf"},
		{func(c *Config) { c.File = "x.conf" }, `file: "x.conf" is no absolute path; write a path that nginx includes, e.g. /etc/nginx/conf.d/dfr-upstream.conf`},
		{func(c *Config) { c.Conf = "nginx.conf" }, `conf: "nginx.conf" is no absolute path; write nginx.conf's full path`},
		{func(c *Config) { c.Test = []string{" "} }, "test: begins with an empty word; write the program and its arguments as a list, e.g. [nginx, -t]"},
		{func(c *Config) { c.Method = "ip_hash" }, `method: "ip_hash" is not known; write least_conn or round_robin`},
		{func(c *Config) { c.Extra = []string{"max_fails=0 down;"} }, `extra.0: "max_fails=0 down;" is no parameter of a server line; write one parameter to an entry, e.g. max_fails=0`},
		{func(c *Config) { c.Keepalive = -1 }, "keepalive: is negative; write 0 for none, or e.g. 16"},
		{func(c *Config) { c.DrainWait = -time.Second }, "drain_wait: is -1s; write 0s to 10m; 2s suits most"},
	} {
		cfg := DefaultConfig()
		cfg.Upstream, cfg.File = "dfr", "/etc/nginx/conf.d/dfr.conf"
		c.change(&cfg)
		if got := fmt.Sprint(cfg.Validate()); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

func TestCommands(t *testing.T) {
	c := DefaultConfig()
	test, reload := c.commands()
	if fmt.Sprint(test, reload) != "[nginx -t] [nginx -s reload]" {
		t.Errorf("%v %v", test, reload)
	}
	c.Conf, c.Reload = "/srv/nginx.conf", []string{"systemctl", "reload", "nginx"}
	test, reload = c.commands()
	if fmt.Sprint(test, reload) != "[nginx -c /srv/nginx.conf -t] [systemctl reload nginx]" {
		t.Errorf("%v %v", test, reload)
	}
}
