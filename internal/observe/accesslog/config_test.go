package accesslog

import (
	"strings"
	"testing"

	"tidemark/internal/config"
	"tidemark/internal/fleet"
)

var _ config.Body = (*Config)(nil)

func TestConfig(t *testing.T) {
	good := func(set func(*Config)) Config {
		c := DefaultConfig()
		c.Path = "/var/log/nginx/dfr.access.log"
		if set != nil {
			set(&c)
		}
		return c
	}
	tests := []struct {
		name string
		set  func(*Config)
		want string // all messages, one to a line; empty: valid
	}{
		{"defaults", nil, ""},
		{"rate of combined", func(c *Config) { c.Format, c.Field = "combined", Rate }, ""},
		{"errors of combined by route", func(c *Config) { c.Format, c.Field, c.Route = "combined", Errors, "/api" }, ""},
		{"rate of anything", func(c *Config) { c.Format, c.Field, c.Exclude = "$pid x", Rate, nil }, ""},
		{"request time", func(c *Config) { c.Format, c.Time = `"$request" $request_time`, "request" }, ""},
		{"no path", func(c *Config) { c.Path = "" }, "path: is missing; write the file that access_log names in nginx's configuration, e.g. /var/log/nginx/access.log"},
		{"relative", func(c *Config) { c.Path = "log/access.log" }, `path: "log/access.log" is not absolute; begin it with /`},
		{"field", func(c *Config) { c.Field = "p95" }, `field: "p95" is unknown; write latency, rate or errors`},
		{"time", func(c *Config) { c.Time = "total" }, `time: "total" is unknown; write upstream or request`},
		{"time of a rate", func(c *Config) { c.Field, c.Time = Rate, "request" }, `time: says which latency is meant, and field rate is none; leave it out`},
		{"host in route", func(c *Config) { c.Route = "dfr.example/api" }, `route: "dfr.example/api" does not begin with /; write the path alone, without host, e.g. /api/mobile/sync`},
		{"query in route", func(c *Config) { c.Route = "/api?x=1" }, `route: "/api?x=1" has a query; write the path alone: queries are not looked at`},
		{"glob in route", func(c *Config) { c.Route = "/api/*" }, `route: "/api/*" has a *; leave it out: what is below a path is meant too`},
		{"excludes", func(c *Config) { c.Exclude = []string{"/ok", "bad", "/"} }, `exclude.1: "bad" does not begin with /; write the path alone, without host, e.g. /api/mobile/sync` +
			"\n" + `exclude.2: "/" leaves nothing; name the paths to leave out`},
		{"combined has no latency", func(c *Config) { c.Format = "combined" },
			"format: no latency is logged: it has neither $upstream_response_time nor $request_time; write in nginx.conf log_format tidemark '" + Tidemark +
				"'; then access_log /var/log/nginx/dfr.access.log tidemark; and here format: tidemark"},
		{"no upstream", func(c *Config) { c.Format, c.Time = `"$request" $request_time`, "upstream" }, `time: upstream is not logged: the format has no $upstream_response_time; add it to the log_format, or write time: request`},
		{"no request time", func(c *Config) { c.Format, c.Time = `"$request" $upstream_response_time`, "request" }, `time: request is not logged: the format has no $request_time; add it to the log_format, or write time: upstream`},
		{"no status", func(c *Config) { c.Format, c.Field = `"$request" $request_time`, Errors }, `format: has no $status, which errors are counted by; add it to the log_format`},
		{"no route", func(c *Config) { c.Format, c.Route = `$request_time`, "/api" }, `format: has no $request, $request_uri or $uri, so that no route can be told; add it to the log_format, or leave out route`},
		{"nothing to exclude by", func(c *Config) { c.Format = `$request_time` }, `format: has no $request, $request_uri or $uri, so that nothing can be excluded; add it to the log_format, or write exclude: []`},
		{"bad format, among others", func(c *Config) { c.Format, c.Path = `$status$request_time`, "" }, "path: is missing; write the file that access_log names in nginx's configuration, e.g. /var/log/nginx/access.log" +
			"\n" + `format: position 8: nothing stands between $status and $request_time; put a character between them that neither value holds, e.g. a space`},
		{"no format", func(c *Config) { c.Format = "" }, `format: position 1: "" has no variable and is no format's name; write nginx's own log_format string, or one of the names combined and tidemark`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := good(tt.set)
			got := ""
			if err := c.Validate(); err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("\n got %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestFieldsOfConfig(t *testing.T) {
	for _, tt := range []struct {
		field                   string
		unit                    fleet.Unit
		distribution, perWorker bool
	}{{Latency, fleet.Seconds, true, true}, {Rate, fleet.Number, false, false}, {Errors, fleet.Percent, false, false}} {
		c := Config{Field: tt.field}
		if c.Unit() != tt.unit || c.Distribution() != tt.distribution || c.PerWorker() != tt.perWorker {
			t.Errorf("%s: %v %v %v", tt.field, c.Unit(), c.Distribution(), c.PerWorker())
		}
	}
}

// What the operator is told to write into nginx.conf is what the default reads.
func TestDirectiveIsTheDefault(t *testing.T) {
	f, err := Compile(Directive())
	if err != nil {
		t.Fatal(err)
	}
	d, err := Compile(DefaultConfig().Format)
	if err != nil {
		t.Fatal(err)
	}
	if d.String() != Tidemark || !strings.Contains(f.String(), d.String()) || len(f.ops) != len(d.ops) || f.fields != d.fields {
		t.Errorf("%s\n%s", f, d)
	}
	for i := range f.ops {
		if f.ops[i].lit != d.ops[i].lit || f.ops[i].keep != d.ops[i].keep {
			t.Errorf("variable %d differs", i)
		}
	}
}
