package prefork

import (
	"strings"
	"testing"
	"time"
)

func TestConfig(t *testing.T) {
	good := DefaultConfig()
	good.Flavour, good.PIDFile = "odoo", "/run/odoo/odoo.pid"
	if err := good.Validate(); err != nil {
		t.Errorf("the defaults with flavour and pid file: %v", err)
	}
	for _, c := range []struct {
		change func(*Config)
		want   string
	}{
		{func(c *Config) { c.Flavour = "" }, "flavour: is missing; write one of gunicorn, odoo, registry"},
		{func(c *Config) { c.Flavour = "uwsgi" }, `flavour: "uwsgi" is no kind of master that is known here; write one of gunicorn, odoo, registry`},
		{func(c *Config) { c.PIDFile = "" }, "pid_file: is missing; write the path that the master was started with, such as /run/odoo/odoo.pid, or container: NAME"},
		{func(c *Config) { c.Container = "odoo" }, "container: is given beside pid_file; remove one of the two"},
		{func(c *Config) { c.PIDFile, c.Container, c.Socket = "", "odoo", "" }, `socket: "" is not an absolute path; write the engine's socket, such as /var/run/docker.sock`},
		{func(c *Config) { c.PIDFile = "odoo.pid" }, `pid_file: "odoo.pid" is not an absolute path; write it from / on`},
		{func(c *Config) { c.Port = 65536 }, "port: 65536 is no TCP port; write 1 to 65535, or leave it out to use the sockets that the master listens on"},
		{func(c *Config) { c.Pace = 0 }, "pace: 0s is out of range; write 10ms to 1m0s"},
		{func(c *Config) { c.StepTimeout = time.Hour }, "step_timeout: 1h0m0s is out of range; write 1s to 10m0s"},
		{func(c *Config) { c.StopTimeout = -time.Second }, "stop_timeout: -1s is out of range; write 1s to 24h0m0s"},
		{func(c *Config) { c.Settle = -1 }, "settle: -1ns is out of range; write 0s to 10m0s"},
	} {
		cfg := good
		c.change(&cfg)
		if err := cfg.Validate(); err == nil || err.Error() != c.want {
			t.Errorf("got  %v\nwant %s", err, c.want)
		}
		if _, err := New(cfg); err == nil {
			t.Errorf("New took a config with %s", c.want)
		}
	}
	var empty Config
	if err := empty.Validate(); err == nil || strings.Count(err.Error(), "\n") < 4 {
		t.Errorf("all problems at once: %v", err)
	}
}
