package haproxy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

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
	c.Backend, c.MaxInFlight, c.Sticky.Cookie = "dfr", 1, "TIDEMARK"
	c.Classes = []Class{{Name: "sync", Priority: 1, Routes: []string{"/api/mobile/sync", "/api"}}, {Name: "pages", Priority: 8, Routes: []string{"/web/"}, QueueLimit: 100, RetryAfter: 15 * time.Second}}
	text, err := c.Render([]fleet.Worker{{ID: "w2", PID: 12, Address: "unix:/run/w2.sock"}, {ID: "w1", PID: 11, Address: "localhost:8071"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"\nglobal\n    setenv TIDEMARK_dfr " + c.settings() + "\n", "\nbackend dfr\n", "    timeout queue 30000\n", "    cookie TIDEMARK insert indirect nocache httponly dynamic\n",
		"    http-request set-var(txn.tidemark) str(other)\n    http-request set-var(txn.tidemark) str(sync) if { path /api } or { path_beg /api/ }\n    http-request set-var(txn.tidemark) str(pages) if { path_beg /web/ }\n" +
			"    http-request set-var(txn.tidemark) str(sync) if { path /api/mobile/sync } or { path_beg /api/mobile/sync/ }\n",
		"    http-request set-priority-class int(8) if { var(txn.tidemark) -m str pages }\n", "hdr Retry-After 15 hdr Cache-Control no-store if { var(txn.tidemark) -m str pages } { queue(dfr) ge 100 }\n",
		"    http-request set-priority-class int(5) if { var(txn.tidemark) -m str other }\n", "if { var(txn.tidemark) -m str other } { queue(dfr) ge 512 }\n",
		"    server w1.11 127.0.0.1:8071 maxconn 1\n    server w2.12 unix@/run/w2.sock maxconn 1\n",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

// Any order gives the same bytes, and what was rendered is read back; the settings' name is theirs and not the servers'.
func TestRenderAndParse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := DefaultConfig()
		c.Backend = "b"
		var workers []fleet.Worker
		var want []server
		for _, port := range rapid.SliceOfNDistinct(rapid.IntRange(1, 65535), 0, 20, rapid.ID).Draw(t, "ports") {
			w := fleet.Worker{ID: fmt.Sprint("w", port), Address: fmt.Sprint("127.0.0.1:", port)}
			workers = append(workers, w)
			want = append(want, server{w.ID, w.Address})
		}
		slices.SortFunc(want, func(a, b server) int { return strings.Compare(a.Name, b.Name) })
		text, err := c.Render(workers)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := c.Render(rapid.Permutation(workers).Draw(t, "order")); err != nil || string(again) != string(text) {
			t.Fatalf("the order shows (%v):\n%s%s", err, text, again)
		}
		if got := parse(text); !slices.Equal(got, want) {
			t.Fatalf("read back %v of %v", got, want)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("backend dfr\n    server w1 127.0.0.1:8071 maxconn 1\n"))
	f.Add([]byte("server\nserver a\nserver a b"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, s := range parse(b) {
			if s.Name == "" || s.Address == "" {
				t.Error("an empty name or address")
			}
		}
	})
}

func TestOnlyNamesAndAddressesGetIntoTheFile(t *testing.T) {
	for _, c := range []struct {
		id, address string
		ok          bool
	}{
		{"w1", "127.0.0.1:8071", true}, {"w1", "localhost:8071", true}, {"w1", "[::1]:8071", true}, {"odoo-1_a", "unix:/run/odoo/w1.sock", true},
		{"w1", "", false}, {"w1", "127.0.0.1", false}, {"w1", "127.0.0.1:0", false}, {"w1", "dfr-worker-1:8069", false}, {"w1", "[fe80::1%eth0]:80", false},
		{"w1", "unix:w1.sock", false}, {"w1", "unix:/run/a b", false}, {"w1", "unix:/run/a;quit", false}, {"w1", "127.0.0.1:80 weight 7", false},
		{"", "127.0.0.1:80", false}, {"w 1", "127.0.0.1:80", false}, {"w1;quit", "127.0.0.1:80", false}, {"w1/2", "127.0.0.1:80", false}, {"w1\nserver x", "127.0.0.1:80", false},
	} {
		if _, err := serverOf(fleet.Worker{ID: c.id, Address: c.address}); (err == nil) != c.ok {
			t.Errorf("%q at %q: %v", c.id, c.address, err)
		}
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		change func(*Config)
		want   string
	}{
		{func(*Config) {}, "<nil>"},
		{func(c *Config) { c.Backend = "" }, "backend: is missing; write the name after default_backend in haproxy.cfg"},
		{func(c *Config) { c.Backend = "a b" }, `backend: "a b" is no name of a backend; write letters, digits, dots, dashes and underscores`},
		{func(c *Config) { c.File = "" }, "file: is missing; write a path that HAProxy is started with, e.g. /etc/haproxy/tidemark.cfg after -f"},
		{func(c *Config) { c.File = "x.cfg" }, `file: "x.cfg" is no absolute path; write a path that HAProxy is started with, e.g. /etc/haproxy/tidemark.cfg after -f`},
		{func(c *Config) { c.Socket = "/" + strings.Repeat("a", 107) }, "socket: has 108 bytes, and a socket's path has at most 107; choose a shorter one"},
		{func(c *Config) { c.MaxInFlight = -1 }, "max_in_flight: is -1; write 1 for workers that serve one request at a time, 0 for no limit"},
		{func(c *Config) { c.Queue.Limit = 0 }, "queue.limit: is 0; write 1 to 100000"},
		{func(c *Config) { c.Queue.Timeout = 0 }, "queue.timeout: is 0s; write 1ms to 1h0m0s"},
		{func(c *Config) { c.Sticky.Drain = 2 * time.Hour }, "sticky.drain: is 2h0m0s; write 0s to 1h0m0s"},
		{func(c *Config) { c.Sticky.Cookie = "a;b" }, `sticky.cookie: "a;b" is no name of a cookie; write letters, digits, dots, dashes and underscores, e.g. TIDEMARK`},
		{func(c *Config) { c.Message = strings.Repeat("x", 1001) }, "message: has 1001 bytes; write at most 1000"},
		{func(c *Config) { c.Classes, c.MaxInFlight = []Class{{"a", 1, []string{"/a"}, 0, 0}}, 0 }, "classes: rank requests that wait, and without max_in_flight none waits here; write max_in_flight: 1 for workers that serve one request at a time"},
		{func(c *Config) { c.Classes = []Class{{"other", 1, []string{"/a"}, 0, 0}} }, `classes.0.name: "other" is there twice, or is the class of all that no class names; choose another name`},
		{func(c *Config) { c.Classes = []Class{{"a b", 1, []string{"/a"}, 0, 0}} }, `classes.0.name: "a b" is no name of a class; write letters, digits, dashes and underscores, e.g. sync`},
		{func(c *Config) { c.Classes = []Class{{"a", 0, []string{"/a"}, 0, 0}} }, "classes.0.priority: is 0; write 1 (most important) to 9; what no class names has 5"},
		{func(c *Config) { c.Classes = []Class{{"a", 1, nil, 0, 0}} }, "classes.0.routes: is empty, so the class has no requests; write path prefixes, e.g. [/api/mobile/sync]"},
		{func(c *Config) { c.Classes = []Class{{"a", 1, []string{"/a }"}, 0, 0}} }, `classes.0.routes.0: "/a }" is no path prefix; write it from the first slash, of letters, digits and . _ ~ -, e.g. /api/mobile/sync`},
		{func(c *Config) { c.Classes = []Class{{"a", 1, []string{"/a", "/a"}, 0, 0}} }, `classes.0.routes.1: "/a" is already in classes.0.routes.0; write each prefix once`},
		{func(c *Config) { c.Classes = []Class{{"a", 1, []string{"/a"}, -1, 0}} }, "classes.0.queue_limit: is -1; write how many may wait, 0 for the queue's own limit"},
		{func(c *Config) { c.Classes = []Class{{"a", 1, []string{"/a"}, 0, time.Millisecond}} }, "classes.0.retry_after: is 1ms; write 1s to 1h, or 0 for the queue's own"},
	} {
		k := DefaultConfig()
		k.Backend, k.File, k.MaxInFlight = "dfr", "/etc/haproxy/tidemark.cfg", 1
		c.change(&k)
		if got := fmt.Sprint(k.Validate()); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}
