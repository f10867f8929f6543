package systemd

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"tidemark/internal/act/copies"
	"tidemark/internal/config"
)

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Config)
		fields string
	}{
		{"as written", func(*Config) {}, ""},
		{"a user's", func(c *Config) { c.Manager = "user" }, ""},
		{"ports", func(c *Config) {
			c.Unit, c.Ports, c.Health.Path = "odoo@{port}.service", copies.Ports{First: 8071}, "/web/health"
		}, ""},
		{"a longer name", func(c *Config) { c.Unit = "dfr-odoo@tonga-{slot}.service" }, ""},
		{"only defaults", func(c *Config) { *c = DefaultConfig() }, "unit"},
		{"zero", func(c *Config) { *c = Config{} }, "unit manager health.interval health.timeout health.failures"},
		{"a template", func(c *Config) { c.Unit = "odoo@.service" }, "unit"},
		{"one unit", func(c *Config) { c.Unit = "odoo.service" }, "unit"},
		{"no suffix", func(c *Config) { c.Unit = "odoo@{slot}" }, "unit"},
		{"a socket", func(c *Config) { c.Unit = "odoo@{slot}.socket" }, "unit"},
		{"two placeholders", func(c *Config) { c.Unit = "odoo@{slot}-{slot}.service" }, "unit"},
		{"a pattern", func(c *Config) { c.Unit = "odoo@*{slot}.service" }, "unit"},
		{"port of nothing", func(c *Config) { c.Unit = "odoo@{port}.service" }, "ports"},
		{"no ports", func(c *Config) { c.Ports = copies.Ports{Last: 3} }, "ports.first"},
		{"another manager", func(c *Config) { c.Manager = "session" }, "manager"},
		{"a path without ports", func(c *Config) { c.Health.Path = "/health" }, "health.path"},
		{"a path", func(c *Config) { c.Ports.First, c.Health.Path = 8071, "health" }, "health.path"},
	} {
		cfg := DefaultConfig()
		cfg.Unit = "odoo@{slot}.service"
		c.change(&cfg)
		var fields []string
		if joined, ok := cfg.Validate().(interface{ Unwrap() []error }); ok {
			for _, err := range joined.Unwrap() {
				if f, ok := errors.AsType[*config.FieldError](err); ok {
					fields = append(fields, f.Field)
				}
			}
		}
		if got := strings.Join(fields, " "); got != c.fields {
			t.Errorf("%s: want problems with %q, have %q", c.name, c.fields, got)
		}
	}
}

func TestNames(t *testing.T) {
	slots, ports := Config{Unit: "a@x-{slot}.service"}, Config{Unit: "a@{port}.service", Ports: copies.Ports{First: 8071, Last: 8080}}
	for unit, want := range map[string][2]int{
		"a@x-1.service": {1, 0}, "a@x-9999.service": {9999, 0}, "a@x-10000.service": {}, "a@x-0.service": {}, "a@x-01.service": {}, "a@x-+1.service": {},
		"a@8071.service": {0, 1}, "a@8080.service": {0, 10}, "a@8070.service": {}, "a@8081.service": {}, "a@x-.service": {}, "b@x-1.service": {},
	} {
		if have := [2]int{slots.slot(unit), ports.slot(unit)}; have != want {
			t.Errorf("%s: want slots %v, have %v", unit, want, have)
		}
	}
	if slots.name(3) != "a@x-3.service" || ports.name(3) != "a@8073.service" || ports.template() != "a@.service" || slots.pattern() != "a@x-*.service" {
		t.Error(slots.name(3), ports.name(3), ports.template(), slots.pattern())
	}
}

// What systemd answers is read with its own types; what is not there, or not accounted for, is not zero.
func TestRead(t *testing.T) {
	all := read(map[string]any{
		"MainPID": uint32(7), "ExecMainStartTimestamp": uint64(1_800_000_000_000_000), "NRestarts": uint32(2), "Result": "oom-kill", "ExecMainStatus": int32(9),
		"CPUUsageNSec": uint64(1_230_000_000), "MemoryCurrent": uint64(143 << 20),
	})
	if all.pid != 7 || !all.started.Equal(time.Unix(1_800_000_000, 0)) || all.restarts != 2 || all.ending() != "it ended (oom-kill, 9)" || figures(all) != "1.23s of CPU time, 143 MiB" {
		t.Errorf("have %+v: %s, %s", all, all.ending(), figures(all))
	}
	none := read(map[string]any{"MainPID": "7", "CPUUsageNSec": uint64(math.MaxUint64), "Result": "exit-code", "ExecMainStatus": int32(3)})
	if none.pid != 0 || !none.started.IsZero() || none.ending() != "it ended with exit code 3" || figures(none) != "" {
		t.Errorf("have %+v: %s, %q", none, none.ending(), figures(none))
	}
}
