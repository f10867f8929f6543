package prefork

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tidemark/internal/act/docker"
	"tidemark/internal/config"
)

// Config says which master to move. What is left out has a default that serves.
type Config struct {
	// Flavour is the kind of master: odoo, gunicorn or registry.
	Flavour string `yaml:"flavour"`
	// PIDFile is the file in which the master keeps its process id (Odoo's pidfile, gunicorn's --pid). Absolute.
	PIDFile string `yaml:"pid_file"`
	// Container is, instead of a pid file, the name of the container on this machine whose main process the master is.
	Container string `yaml:"container"`
	// Socket is the Docker engine's; it is used with a container only.
	Socket string `yaml:"socket"`
	// Match is what the master's command line contains; the flavour's name when empty.
	Match string `yaml:"match"`
	// Port narrows the sockets whose connections count to this TCP port; 0: all that the master listens on.
	Port int `yaml:"port"`
	// Pace is the pause between one signal's effect and the next signal. 100 ms by default.
	Pace time.Duration `yaml:"pace"`
	// StepTimeout is how long the master may take to obey a signal. 10 s by default.
	StepTimeout time.Duration `yaml:"step_timeout"`
	// StopTimeout is how long a worker that was told to leave may take to finish its request. 2 minutes by default, as
	// Odoo's limit_time_real.
	StopTimeout time.Duration `yaml:"stop_timeout"`
	// Settle is the age at which a worker counts as serving unless it was seen at work before: no master tells. 1 s by
	// default. Give an application that takes long to load its own time.
	Settle time.Duration `yaml:"settle"`
}

// DefaultConfig lacks only the flavour and the pid file.
func DefaultConfig() Config {
	return Config{
		Socket:      docker.DefaultSocket,
		Pace:        100 * time.Millisecond,
		StepTimeout: 10 * time.Second,
		StopTimeout: 2 * time.Minute,
		Settle:      time.Second,
	}
}

// Validate returns all problems at once.
func (c *Config) Validate() error {
	var errs config.FieldErrors
	if _, ok := flavours[c.Flavour]; !ok {
		names := strings.Join(slices.Sorted(maps.Keys(flavours)), ", ")
		msg := fmt.Sprintf("%q is no kind of master that is known here", c.Flavour)
		if c.Flavour == "" {
			msg = "is missing"
		}
		errs.Add("flavour", msg, "write one of "+names)
	}
	switch {
	case c.PIDFile == "" && c.Container == "":
		errs.Add("pid_file", "is missing", "write the path that the master was started with, such as /run/odoo/odoo.pid, or container: NAME")
	case c.PIDFile != "" && c.Container != "":
		errs.Add("container", "is given beside pid_file", "remove one of the two")
	case c.PIDFile != "" && !filepath.IsAbs(c.PIDFile):
		errs.Add("pid_file", fmt.Sprintf("%q is not an absolute path", c.PIDFile), "write it from / on")
	}
	if c.Container != "" && !filepath.IsAbs(c.Socket) {
		errs.Add("socket", fmt.Sprintf("%q is not an absolute path", c.Socket), "write the engine's socket, such as "+docker.DefaultSocket)
	}
	if c.Port < 0 || c.Port > 65535 {
		errs.Add("port", fmt.Sprintf("%d is no TCP port", c.Port), "write 1 to 65535, or leave it out to use the sockets that the master listens on")
	}
	for _, d := range []struct {
		field    string
		value    time.Duration
		min, max time.Duration
	}{
		{"pace", c.Pace, 10 * time.Millisecond, time.Minute},
		{"step_timeout", c.StepTimeout, time.Second, 10 * time.Minute},
		{"stop_timeout", c.StopTimeout, time.Second, 24 * time.Hour},
		{"settle", c.Settle, 0, 10 * time.Minute},
	} {
		if d.value < d.min || d.value > d.max {
			errs.Add(d.field, fmt.Sprintf("%s is out of range", d.value), fmt.Sprintf("write %s to %s", d.min, d.max))
		}
	}
	return errs.Err()
}
