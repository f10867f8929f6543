package docker

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"tidemark/internal/act/copies"
	"tidemark/internal/act/health"
	"tidemark/internal/config"
)

// Config is what an operator writes under `target: {docker: ...}`. In command and env, {slot} and {port} stand for the copy's number
// (from 1) and port.
type Config struct {
	Socket    string  `yaml:"socket"`    // the engine's
	Container string  `yaml:"container"` // the name of the container to copy ...
	Compose   Compose `yaml:"compose"`   // ... or the compose service

	Port    int          `yaml:"port"`    // on which the service listens, inside
	Ports   copies.Ports `yaml:"ports"`   // one port of this machine for each copy, on 127.0.0.1; needed on the host's network
	Network string       `yaml:"network"` // the one in which a balancer reaches the copies; default: the only one

	Command []string          `yaml:"command"` // instead of the template's
	Env     map[string]string `yaml:"env"`     // beside or instead of the template's
	// Health: without a path the container's own HEALTHCHECK says so, or, where there is none, that it takes a connection.
	Health health.Config `yaml:"health"`
}

// Compose names a service of a compose project.
type Compose struct {
	Project string `yaml:"project"`
	Service string `yaml:"service"`
}

// DefaultConfig is what holds where the operator wrote nothing.
func DefaultConfig() Config {
	return Config{Socket: DefaultSocket, Health: health.DefaultConfig()}
}

var (
	envName       = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	containerName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`) // the engine's own rule
)

const maxSocketPath = 107 // bytes of sun_path, less its final zero

// Validate returns every problem at once, as config.FieldErrors.
func (c *Config) Validate() error {
	var errs config.FieldErrors
	switch {
	case !filepath.IsAbs(c.Socket):
		errs.Add("socket", fmt.Sprintf("%q is not an absolute path", c.Socket), "write the engine's socket, such as /var/run/docker.sock; an engine elsewhere is reached by a forwarded socket (ssh -L)")
	case len(c.Socket) > maxSocketPath:
		errs.Add("socket", fmt.Sprintf("is %d bytes long, and the system allows %d", len(c.Socket), maxSocketPath), "choose a shorter path")
	}
	c.validateTemplate(&errs)
	c.validatePorts(&errs)
	for k, v := range c.Env {
		switch {
		case !envName.MatchString(k):
			errs.Add("env", fmt.Sprintf("%q is not the name of a variable", k), "use letters, digits and _")
		case strings.ContainsRune(v, 0):
			errs.Add("env", fmt.Sprintf("%q has a zero byte", k), "remove it")
		}
	}
	c.Health.Validate(&errs)
	return errs.Err()
}

func (c *Config) validateTemplate(errs *config.FieldErrors) {
	compose := c.Compose != Compose{}
	switch {
	case c.Container == "" && !compose:
		errs.Add("container", "is missing", "write the name of the container to copy, or compose: {project: dfr, service: odoo}")
	case c.Container != "" && compose:
		errs.Add("compose", "is given beside container", "remove one of the two")
	case c.Container != "" && !containerName.MatchString(c.Container):
		errs.Add("container", fmt.Sprintf("%q is not the name of a container", c.Container), "write it as docker ps shows it")
	case compose && c.Compose.Project == "":
		errs.Add("compose.project", "is missing", "write the project's name as docker compose ls shows it")
	case compose && c.Compose.Service == "":
		errs.Add("compose.service", "is missing", "write the service's name as it stands in the compose file")
	}
}

func (c *Config) validatePorts(errs *config.FieldErrors) {
	if c.Port == 0 && !c.Ports.Given() {
		errs.Add("port", "is missing", "write the port on which the service listens in its container; on the host's network, ports: {first: 9001}")
	}
	if c.Port < 0 || c.Port > 65535 {
		errs.Add("port", fmt.Sprintf("%d is not a port", c.Port), "write 1 to 65535")
	}
	if c.Ports.Given() {
		c.Ports.Validate(errs)
		return
	}
	if c.mentions("{port}") {
		errs.Add("ports", "is missing, and command or env use {port}", "write ports: {first: 9001}, or the port itself")
	}
}

func (c *Config) mentions(placeholder string) bool {
	for _, s := range c.Command {
		if strings.Contains(s, placeholder) {
			return true
		}
	}
	for _, s := range c.Env {
		if strings.Contains(s, placeholder) {
			return true
		}
	}
	return false
}
