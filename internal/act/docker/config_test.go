package docker

import (
	"errors"
	"strings"
	"testing"

	"tidemark/internal/act/copies"
	"tidemark/internal/config"
)

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Config)
		fields string
	}{
		{"a container", func(*Config) {}, ""},
		{"a compose service", func(c *Config) { c.Container, c.Compose = "", Compose{"dfr", "odoo"} }, ""},
		{"the host's network", func(c *Config) {
			c.Port, c.Ports, c.Env = 0, copies.Ports{First: 9001}, map[string]string{"PORT": "{port}"}
		}, ""},
		{"only defaults", func(c *Config) { *c = DefaultConfig() }, "container port"},
		{"zero", func(c *Config) { *c = Config{} }, "socket container port health.interval health.timeout health.failures"},
		{"both templates", func(c *Config) { c.Compose = Compose{"dfr", "odoo"} }, "compose"},
		{"half a service", func(c *Config) { c.Container, c.Compose = "", Compose{Project: "dfr"} }, "compose.service"},
		{"no project", func(c *Config) { c.Container, c.Compose = "", Compose{Service: "odoo"} }, "compose.project"},
		{"no name", func(c *Config) { c.Container = "a/b" }, "container"},
		{"no port", func(c *Config) { c.Port = 70000 }, "port"},
		{"no ports", func(c *Config) { c.Ports = copies.Ports{First: 0, Last: 3} }, "ports.first"},
		{"ports backwards", func(c *Config) { c.Ports = copies.Ports{First: 9001, Last: 9000} }, "ports.last"},
		{"port of nothing", func(c *Config) { c.Command = []string{"app", "{port}"} }, "ports"},
		{"a variable", func(c *Config) { c.Env = map[string]string{"A B": "", "C": "\x00"} }, "env env"},
		{"a path", func(c *Config) { c.Health.Path = "health" }, "health.path"},
		{"a path with blanks", func(c *Config) { c.Health.Path = "/a b" }, "health.path"},
		{"a long socket", func(c *Config) { c.Socket = "/" + strings.Repeat("s", 107) }, "socket"},
	} {
		cfg := DefaultConfig()
		cfg.Container, cfg.Port = "registry", 8069
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

func TestAtLeast(t *testing.T) {
	for v, want := range map[string]bool{"1.41": true, "1.40": false, "1.9": false, "1.100": true, "2.0": true, "": false, "1": false, "1.x": false} {
		if atLeast(v, oldest) != want {
			t.Errorf("version %q: want %v", v, want)
		}
	}
}

func TestSplit(t *testing.T) {
	frame := func(kind byte, text string) string {
		return string([]byte{kind, 0, 0, 0, 0, 0, 0, byte(len(text))}) + text
	}
	out, said, err := split([]byte(frame(1, "one ") + frame(2, "error") + frame(1, "") + frame(1, "two")))
	if string(out) != "one two" || string(said) != "error" || err != nil {
		t.Errorf("have %q, %q, %v", out, said, err)
	}
	for _, bad := range []string{"\x01\x00", frame(1, "text")[:10], frame(3, "text")} {
		if _, _, err := split([]byte(bad)); err == nil {
			t.Errorf("%q: want an error", bad)
		}
	}
}
