package config_test

import (
	"fmt"
	"strings"
	"time"

	"tidemark/internal/config"
	"tidemark/internal/fleet"
)

// The adapters of these tests: small, and shaped like the real ones.

type procfs struct {
	Field string `yaml:"field"`
}

func (p *procfs) Validate() error {
	var errs config.FieldErrors
	if p.Field != "cpu" && p.Field != "memory_used_percent" && p.Field != "resident" {
		errs.Add("field", fmt.Sprintf("%q is nothing that is measured", p.Field), "write cpu, memory_used_percent or resident")
	}
	return errs.Err()
}

func (p *procfs) Unit() fleet.Unit {
	if p.Field == "resident" {
		return fleet.Bytes
	}
	return fleet.Percent
}
func (p *procfs) Distribution() bool { return false }
func (p *procfs) PerWorker() bool    { return p.Field == "cpu" }

type accessLog struct {
	Path   string `yaml:"path,required" example:"/var/log/nginx/access.log"`
	Route  string `yaml:"route"`
	Format string `yaml:"format"`
	Rate   bool   `yaml:"rate"` // requests a second over the window, and not latency
}

func (a *accessLog) Validate() error {
	var errs config.FieldErrors
	if a.Path != "" && !strings.HasPrefix(a.Path, "/") {
		errs.Add("path", fmt.Sprintf("%q is not an absolute path", a.Path), "write it from / on")
	}
	return errs.Err()
}
func (a *accessLog) Unit() fleet.Unit {
	if a.Rate {
		return fleet.Number
	}
	return fleet.Seconds
}
func (a *accessLog) Distribution() bool { return !a.Rate }
func (a *accessLog) Windowed() bool     { return true }
func (a *accessLog) PerWorker() bool    { return !a.Rate }

// gauge is a plain number: a queue's length, or of idle things.
type gauge struct {
	URL      string  `yaml:"url"`
	Password string  `yaml:"password"`
	Factor   float64 `yaml:"factor"`
	Share    int     `yaml:"share,percent"`
	Verify   bool    `yaml:"verify"`
	Retries  uint8   `yaml:"retries"`
}

func (g *gauge) Validate() error {
	var errs config.FieldErrors
	if g.URL != "" && !strings.Contains(g.URL, "://") {
		errs.Add("url", fmt.Sprintf("%q is no address", g.URL), "write http://host/path")
	}
	return errs.Err()
}
func (g *gauge) Unit() fleet.Unit   { return fleet.Number }
func (g *gauge) Distribution() bool { return false }
func (g *gauge) PerWorker() bool    { return false }

// formula is derived from other signals.
type formula struct {
	Of string     `yaml:"of,required" example:"queue / workers"`
	In fleet.Unit `yaml:"unit"`
}

func (f *formula) Validate() error           { return nil }
func (f *formula) Unit() fleet.Unit          { return f.In }
func (f *formula) Distribution() bool        { return false }
func (f *formula) PerWorker() bool           { return false }
func (f *formula) Formula() (string, string) { return "of", f.Of }

// database is something that workers load.
type database struct {
	Field string `yaml:"field"`
}

func (d *database) Validate() error    { return nil }
func (d *database) Unit() fleet.Unit   { return fleet.Number }
func (d *database) Distribution() bool { return false }
func (d *database) PerWorker() bool    { return false }
func (d *database) Dependency() string {
	if d.Field == "runnable" {
		return ""
	}
	return "the database"
}

type followed struct {
	Name string `yaml:"name"`
}

func (f *followed) Validate() error { return nil }

type prefork struct {
	Flavour string        `yaml:"flavour"`
	PIDFile string        `yaml:"pid_file"`
	Pace    time.Duration `yaml:"pace"`
	Port    int           `yaml:"port"`
}

func (p *prefork) Validate() error {
	var errs config.FieldErrors
	if p.Flavour != "odoo" && p.Flavour != "gunicorn" {
		errs.Add("flavour", fmt.Sprintf("%q is no kind of master that is known here", p.Flavour), "write one of gunicorn, odoo")
	}
	if p.PIDFile == "" {
		errs.Add("pid_file", "is missing", "write the path that the master was started with, such as /run/odoo/odoo.pid")
	}
	if p.Port < 0 || p.Port > 65535 {
		errs.Add("port", fmt.Sprintf("%d is no TCP port", p.Port), "write 1 to 65535")
	}
	return errs.Err()
}

type process struct {
	Command []string          `yaml:"command"`
	Env     map[string]string `yaml:"env"`
	Ports   struct {
		First uint16 `yaml:"first"`
	} `yaml:"ports"`
	Pipes [][]string `yaml:"pipes"`
}

func (p *process) Validate() error { return nil }

type proxy struct {
	Listen     string        `yaml:"listen"`
	BodyBuffer int64         `yaml:"body_buffer,bytes"`
	Timeout    time.Duration `yaml:"timeout"`
	Classes    []class       `yaml:"classes"`
	Trusted    []string      `yaml:"trusted"`
}

type class struct {
	Name     string   `yaml:"name"`
	Priority int      `yaml:"priority"`
	Routes   []string `yaml:"routes"`
}

func (p *proxy) Validate() error {
	var errs config.FieldErrors
	for i, c := range p.Classes {
		if c.Priority < 1 || c.Priority > 9 {
			errs.Add(fmt.Sprintf("classes.%d.priority", i), fmt.Sprintf("is %d", c.Priority), "write 1 (most important) to 9")
		}
	}
	for i, t := range p.Trusted {
		if !strings.Contains(t, ".") {
			errs.Add(fmt.Sprintf("trusted[%d]", i), fmt.Sprintf("%q is no address or network", t), "write 10.0.0.5 or 10.0.0.0/24")
		}
	}
	return errs.Err()
}

type mail struct {
	To       []string `yaml:"to,required" example:"[ict@moa.example]"`
	Password string   `yaml:"password"`
	Severity string   `yaml:"severity"`
}

func (m *mail) Validate() error     { return nil }
func (m *mail) Addresses() []string { return m.To }

func catalog() config.Catalog {
	return config.Catalog{
		Signals: map[string]func() config.SignalBody{
			"procfs":     func() config.SignalBody { return &procfs{Field: "cpu"} },
			"access_log": func() config.SignalBody { return &accessLog{} },
			"proxy":      func() config.SignalBody { return &gauge{} },
			"gauge":      func() config.SignalBody { return &gauge{Factor: 1, Verify: true} },
			"expression": func() config.SignalBody { return &formula{} },
			"database":   func() config.SignalBody { return &database{} },
		},
		Targets: map[string]func() config.Body{
			"prefork": func() config.Body { return &prefork{Pace: 100 * time.Millisecond} },
			"process": func() config.Body { return &process{} },
			"keda":    func() config.Body { return &followed{} },
		},
		Balancers: map[string]func() config.Body{
			"proxy": func() config.Body {
				return &proxy{Listen: "127.0.0.1:8080", BodyBuffer: 256 << 10, Timeout: 30 * time.Second, Trusted: []string{"127.0.0.0/8"}}
			},
		},
		Notify: map[string]func() config.Body{
			"mail":  func() config.Body { return &mail{} },
			"slack": func() config.Body { return &gauge{Verify: true} },
		},
	}
}

// environ is the environment of the tests.
func environ(name string) (string, bool) {
	v, ok := map[string]string{
		"PG_DSN": "postgres://odoo:hunter22@db/dfr", "EMPTY": "", "BAD_URL": "s3cr3t-value", "PIN": "77", "LOG": "/var/log/nginx/access.log", "FLAVOUR": "oodo-secret",
	}[name]
	return v, ok
}

func (p *proxy) TimeoutOfRequests() (string, *time.Duration) { return "timeout", &p.Timeout }
