package process

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"tidemark/internal/act/copies"
	"tidemark/internal/config"
)

// Config is what an operator writes under `target: {process: ...}`. In command and env, {slot}, {port} and {socket}
// stand for the copy's number (from 1), port and socket.
type Config struct {
	Command []string          `yaml:"command"` // program and arguments; it must stay in the foreground
	Dir     string            `yaml:"dir"`     // working directory; default: the daemon's own
	Env     map[string]string `yaml:"env"`     // added to the daemon's own environment
	Ports   copies.Ports      `yaml:"ports"`   // one port for each copy, on 127.0.0.1 ...
	Socket  string            `yaml:"socket"`  // ... or one unix socket for each, with {slot} in its path
	Health  Health            `yaml:"health"`

	StartGrace  time.Duration `yaml:"start_grace"`  // to become healthy; then it is stopped and started anew
	StopSignal  string        `yaml:"stop_signal"`  // asks a copy to finish what it has and exit
	StopTimeout time.Duration `yaml:"stop_timeout"` // to do so; then it is killed
	Restart     Restart       `yaml:"restart"`

	LogDir string `yaml:"log_dir"` // standard output and error, <fleet>-<slot>.log; default: beside the records
	Cgroup string `yaml:"cgroup"`  // auto: a control group of its own for each copy where the system allows it; off
}

// Health says when a copy is fit to serve.
type Health struct {
	Path     string        `yaml:"path"`     // GET must answer 2xx; without it, a connection is enough
	Interval time.Duration `yaml:"interval"` // between two checks of a serving copy
	Timeout  time.Duration `yaml:"timeout"`  // for one check
	Failures int           `yaml:"failures"` // so many in a row and it no longer serves
	// UnhealthyAfter is how long a copy that served may stay unhealthy before it is replaced. A copy that handles
	// one request at a time does not answer checks meanwhile: write more than the longest request takes.
	UnhealthyAfter time.Duration `yaml:"unhealthy_after"`
}

// Restart bounds the pause before a copy that keeps dying is started again. The first time there is none.
type Restart struct {
	BackoffMin time.Duration `yaml:"backoff_min"`
	BackoffMax time.Duration `yaml:"backoff_max"`
}

// DefaultConfig is what holds where the operator wrote nothing.
func DefaultConfig() Config {
	return Config{
		Health:      Health{Interval: 5 * time.Second, Timeout: 5 * time.Second, Failures: 3, UnhealthyAfter: time.Minute},
		StartGrace:  time.Minute,
		StopSignal:  "TERM",
		StopTimeout: time.Minute,
		Restart:     Restart{BackoffMin: time.Second, BackoffMax: time.Minute},
		Cgroup:      "auto",
	}
}

var (
	envName     = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	stopSignals = []string{"TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "WINCH"}
)

const (
	maxSocketPath = 107 // bytes of sun_path, less its final zero
	longest       = 24 * time.Hour
)

// Validate returns every problem at once, as config.FieldErrors.
func (c *Config) Validate() error {
	var errs config.FieldErrors
	c.validateCommand(&errs)
	c.validateAddress(&errs)
	for _, d := range []struct {
		field string
		v     time.Duration
		least time.Duration
	}{
		{"health.interval", c.Health.Interval, 10 * time.Millisecond},
		{"health.timeout", c.Health.Timeout, 10 * time.Millisecond},
		{"health.unhealthy_after", c.Health.UnhealthyAfter, 10 * time.Millisecond},
		{"start_grace", c.StartGrace, 10 * time.Millisecond},
		{"stop_timeout", c.StopTimeout, 10 * time.Millisecond},
		{"restart.backoff_min", c.Restart.BackoffMin, 10 * time.Millisecond},
		{"restart.backoff_max", c.Restart.BackoffMax, 10 * time.Millisecond},
	} {
		if d.v < d.least || d.v > longest {
			errs.Add(d.field, fmt.Sprintf("%v is not between %v and %v", d.v, d.least, longest), "write for example 30s")
		}
	}
	if c.Restart.BackoffMin > c.Restart.BackoffMax {
		errs.Add("restart.backoff_min", fmt.Sprintf("%v is longer than backoff_max, %v", c.Restart.BackoffMin, c.Restart.BackoffMax), "swap the two")
	}
	if c.Health.Path != "" && !strings.HasPrefix(c.Health.Path, "/") {
		errs.Add("health.path", fmt.Sprintf("%q does not begin with /", c.Health.Path), "write a path such as /web/health, without host and port")
	}
	if strings.ContainsAny(c.Health.Path, " \t\r\n#") {
		errs.Add("health.path", fmt.Sprintf("%q has characters that a request line cannot carry", c.Health.Path), "write them as %20 and the like")
	}
	if c.Health.Failures < 1 || c.Health.Failures > 100 {
		errs.Add("health.failures", fmt.Sprintf("%d is not between 1 and 100", c.Health.Failures), "write 3")
	}
	if _, ok := c.stopSignal(); !ok {
		fix := "write one of " + strings.Join(stopSignals, ", ")
		if strings.TrimPrefix(c.StopSignal, "SIG") == "KILL" {
			fix = "KILL drops requests and comes after stop_timeout anyway: " + fix
		}
		errs.Add("stop_signal", fmt.Sprintf("%q cannot be a graceful stop", c.StopSignal), fix)
	}
	for _, p := range []struct{ field, v string }{{"dir", c.Dir}, {"log_dir", c.LogDir}} {
		if p.v != "" && !filepath.IsAbs(p.v) {
			errs.Add(p.field, fmt.Sprintf("%q is not an absolute path", p.v), "write it from / on")
		}
	}
	if c.Cgroup != "auto" && c.Cgroup != "off" {
		errs.Add("cgroup", fmt.Sprintf("%q is not known", c.Cgroup), "write auto or off")
	}
	return errs.Err()
}

func (c *Config) validateCommand(errs *config.FieldErrors) {
	switch {
	case len(c.Command) == 0 || c.Command[0] == "":
		errs.Add("command", "is missing", "write the program and its arguments: [/usr/bin/gunicorn, --bind, \"127.0.0.1:{port}\", app]")
	case strings.Contains(c.Command[0], "{"):
		errs.Add("command", fmt.Sprintf("the program %q has a placeholder", c.Command[0]), "use placeholders in its arguments only")
	case len(c.Command) == 1 && strings.ContainsAny(c.Command[0], " \t"):
		errs.Add("command", fmt.Sprintf("%q is one word with blanks in it, and no shell splits it", c.Command[0]), "write a list: [prog, arg, arg]")
	case !c.tellsCopiesApart():
		errs.Add("command", "has no {port}, {socket} or {slot}, nor has env: every copy would listen on the same address", "tell the program its own, such as --port={port}")
	}
	for _, s := range c.Command {
		if strings.ContainsRune(s, 0) {
			errs.Add("command", "has a zero byte", "remove it")
		}
	}
	for k, v := range c.Env {
		switch {
		case !envName.MatchString(k):
			errs.Add("env", fmt.Sprintf("%q is not the name of a variable", k), "use letters, digits and _")
		case strings.HasPrefix(k, "TIDEMARK_"):
			errs.Add("env", fmt.Sprintf("%q is Tidemark's own", k), "choose a name that does not begin with TIDEMARK_")
		case strings.ContainsRune(v, 0):
			errs.Add("env", fmt.Sprintf("%q has a zero byte", k), "remove it")
		}
	}
}

func (c *Config) validateAddress(errs *config.FieldErrors) {
	used := func(placeholder string) bool { return c.mentions(placeholder) }
	switch {
	case !c.Ports.Given() && c.Socket == "":
		errs.Add("ports", "is missing", "write ports: {first: 9001}, or socket: /run/app/{slot}.sock")
		return
	case c.Ports.Given() && c.Socket != "":
		errs.Add("socket", "is given beside ports", "remove one of the two")
		return
	case c.Socket != "":
		if !filepath.IsAbs(c.Socket) {
			errs.Add("socket", fmt.Sprintf("%q is not an absolute path", c.Socket), "write it from / on")
		}
		if !strings.Contains(c.Socket, "{slot}") {
			errs.Add("socket", "has no {slot}: all copies would share it", "write for example /run/app/{slot}.sock")
		}
		if n := len(expand(c.Socket, copies.MaxSlot, "")); n > maxSocketPath {
			errs.Add("socket", fmt.Sprintf("is up to %d bytes long, and the system allows %d", n, maxSocketPath), "choose a shorter path")
		}
		if used("{port}") {
			errs.Add("command", "uses {port}, and the copies have a socket", "use {socket}, or write ports")
		}
		return
	}
	c.Ports.Validate(errs)
	if used("{socket}") {
		errs.Add("command", "uses {socket}, and the copies have ports", "use {port}, or write socket")
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

func (c *Config) tellsCopiesApart() bool {
	return c.mentions("{port}") || c.mentions("{socket}") || c.mentions("{slot}")
}

func (c *Config) stopSignal() (unix.Signal, bool) {
	name := strings.TrimPrefix(c.StopSignal, "SIG")
	for _, s := range stopSignals {
		if s == name {
			return unix.SignalNum("SIG" + s), true
		}
	}
	return 0, false
}

// slots is how many copies the addresses allow.
func (c *Config) slots() int {
	if c.Socket != "" {
		return copies.MaxSlot
	}
	return c.Ports.Slots()
}

// address is where the copy in a slot listens: 127.0.0.1:9001 or unix:/run/app/1.sock.
func (c *Config) address(slot int) string {
	if c.Socket != "" {
		return "unix:" + expand(c.Socket, slot, "")
	}
	return c.Ports.Address(slot)
}

// expand fills the placeholders in.
func expand(s string, slot int, address string) string {
	_, port, _ := strings.Cut(address, "127.0.0.1:")
	return strings.NewReplacer("{slot}", strconv.Itoa(slot), "{port}", port, "{socket}", strings.TrimPrefix(address, "unix:")).Replace(s)
}
