package systemd

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"tidemark/internal/act/copies"
	"tidemark/internal/act/health"
	"tidemark/internal/config"
)

// Config is what an operator writes under `target: {systemd: ...}`.
type Config struct {
	// Unit is an instance of the template unit: odoo@{slot}.service for odoo@1.service, odoo@2.service ..., or odoo@{port}.service, whose
	// instances are named for the port that they listen on.
	Unit string `yaml:"unit"`
	// Manager is system, or user for the service manager of the user that the daemon runs as.
	Manager string `yaml:"manager"`
	// Ports are one port for each instance, on 127.0.0.1. Without them instances have no address: they share a socket (Accept=no), or
	// take no requests. Then they serve when systemd has called them active for a second.
	Ports copies.Ports `yaml:"ports"`
	// Health: without a path a connection is enough.
	Health health.Config `yaml:"health"`
}

// DefaultConfig is what holds where the operator wrote nothing.
func DefaultConfig() Config {
	return Config{Manager: "system", Health: health.DefaultConfig()}
}

// unitName is systemd's rule for the names of instances of services.
var unitName = regexp.MustCompile(`^[A-Za-z0-9:_.\\-]+@[A-Za-z0-9:_.\\-]*(\{slot\}|\{port\})[A-Za-z0-9:_.\\-]*\.service$`)

// Validate returns every problem at once, as config.FieldErrors.
func (c *Config) Validate() error {
	var errs config.FieldErrors
	switch {
	case c.Unit == "":
		errs.Add("unit", "is missing", "write the template unit with {slot} for the instance: odoo@{slot}.service")
	case !unitName.MatchString(c.Unit):
		errs.Add("unit", fmt.Sprintf("%q is no instance of a template unit with {slot} or {port} in it", c.Unit), "write for example odoo@{slot}.service, of a unit file odoo@.service")
	case strings.Contains(c.Unit, "{port}") && !c.Ports.Given():
		errs.Add("ports", "is missing, and unit uses {port}", "write ports: {first: 9001}")
	}
	if c.Manager != "system" && c.Manager != "user" {
		errs.Add("manager", fmt.Sprintf("%q is not known", c.Manager), "write system or user")
	}
	if c.Ports.Given() {
		c.Ports.Validate(&errs)
	} else if c.Health.Path != "" {
		errs.Add("health.path", "is given without ports", "write ports: {first: 9001}, or leave it out")
	}
	c.Health.Validate(&errs)
	return errs.Err()
}

// name is the unit in a slot.
func (c *Config) name(slot int) string {
	return strings.NewReplacer("{slot}", strconv.Itoa(slot), "{port}", strconv.Itoa(c.Ports.At(slot))).Replace(c.Unit)
}

// slot is the one that a unit is in; 0 when it is none of the fleet's, such as an instance with a name of its own.
func (c *Config) slot(unit string) int {
	before, after, _ := strings.Cut(strings.ReplaceAll(c.Unit, "{port}", "{slot}"), "{slot}")
	text, ok1 := strings.CutPrefix(unit, before)
	text, ok2 := strings.CutSuffix(text, after)
	n, err := strconv.Atoi(text)
	if strings.Contains(c.Unit, "{port}") {
		n -= c.Ports.First - 1
	}
	if !ok1 || !ok2 || err != nil || n < 1 || n > c.Ports.Slots() || c.name(n) != unit {
		return 0
	}
	return n
}

// template is the name of the unit's file.
func (c *Config) template() string {
	before, _, _ := strings.Cut(c.Unit, "@")
	return before + "@.service"
}

// pattern matches the fleet's units, and maybe others.
func (c *Config) pattern() string {
	return strings.NewReplacer("{slot}", "*", "{port}", "*").Replace(c.Unit)
}
