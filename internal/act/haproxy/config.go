package haproxy

import (
	"fmt"
	"path/filepath"
	"regexp"
	"time"

	"tidemark/internal/config"
)

// Config is what an operator writes under `balancer: {haproxy: ...}`. HAProxy reads File beside its own configuration
// (`haproxy -f haproxy.cfg -f FILE`), where a frontend has `default_backend BACKEND`.
type Config struct {
	// Backend is the name of the backend. All of it is Tidemark's: servers that are not of the fleet are removed.
	Backend string `yaml:"backend"`
	// Socket is HAProxy's runtime socket, `stats socket PATH level admin` in its configuration.
	Socket string `yaml:"socket"`
	// File holds the backend and nothing else; it is Tidemark's.
	File string `yaml:"file"`
	// MaxInFlight is the number of requests that one worker is given at a time; 0 is no limit. A worker that serves one
	// request at a time (Odoo, gunicorn sync) wants 1: then requests wait here, in order of importance.
	MaxInFlight int   `yaml:"max_in_flight"`
	Queue       Queue `yaml:"queue"`
	// Classes rank requests by path. What no class names is of class "other", priority 5.
	Classes []Class `yaml:"classes"`
	Sticky  Sticky  `yaml:"sticky"`
	// RequestTimeout is how long a worker may take to answer; then the client gets 504.
	RequestTimeout time.Duration `yaml:"request_timeout"`
	// DrainTimeout is how long requests and websockets may stay on a worker that is drained; then they are closed.
	DrainTimeout time.Duration `yaml:"drain_timeout"`
	// Message stands on the page that a visitor sees while the service is too busy, in the visitors' own language, say. Plain text.
	Message string `yaml:"message"`
}

// Queue bounds the waiting for a worker.
type Queue struct {
	// Limit is how many requests may wait in all. When they do, another is answered 503.
	Limit int `yaml:"limit"`
	// Timeout is how long a request may wait; then it is answered 503.
	Timeout time.Duration `yaml:"timeout"`
	// RetryAfter is what a refused client is told to wait.
	RetryAfter time.Duration `yaml:"retry_after"`
}

// Class is a set of requests of the same importance.
type Class struct {
	Name string `yaml:"name"`
	// Priority is 1 (most important) to 9. Waiting requests are served in this order.
	Priority int `yaml:"priority"`
	// Routes are path prefixes: "/api" is /api and all below it. The longest one that fits decides.
	Routes []string `yaml:"routes"`
	// QueueLimit replaces the queue's: requests of this class are refused while so many wait in all, of whatever class; 0
	// keeps the queue's.
	QueueLimit int `yaml:"queue_limit"`
	// RetryAfter replaces the queue's for those that QueueLimit refuses; 0 keeps it.
	RetryAfter time.Duration `yaml:"retry_after"`
}

// Sticky keeps a visitor at the worker that answered first.
type Sticky struct {
	// Cookie is the name of the cookie that HAProxy sets; empty for none.
	Cookie string `yaml:"cookie"`
	// Drain is how long a worker that is drained still gets the requests of visitors who have its cookie, and nobody
	// else's. Then they go to others, with a new cookie.
	Drain time.Duration `yaml:"drain"`
}

// DefaultConfig is Debian's HAProxy.
func DefaultConfig() Config {
	return Config{
		Socket:         "/run/haproxy/admin.sock",
		Queue:          Queue{Limit: 512, Timeout: 30 * time.Second, RetryAfter: 5 * time.Second},
		Sticky:         Sticky{Drain: 30 * time.Second},
		RequestTimeout: 30 * time.Second,
		DrainTimeout:   time.Minute,
	}
}

// TimeoutOfRequests lets the instance's time-out take the place of the default.
func (c *Config) TimeoutOfRequests() (string, *time.Duration) {
	return "request_timeout", &c.RequestTimeout
}

// Bounds of what may be configured.
const (
	maxQueue      = 100_000
	maxClasses    = 32
	maxPriority   = 9
	maxMessage    = 1000
	maxSocketPath = 107 // bytes of sun_path, less its final zero
	otherName     = "other"
	otherRank     = 5
)

var (
	goodName   = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.:-]*$`) // of a proxy and of a server
	goodCookie = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)
	goodRoute  = regexp.MustCompile(`^/[A-Za-z0-9._~/-]*$`)
)

// Validate reports every problem: nothing gets into HAProxy's configuration that would mean something else there.
func (c *Config) Validate() error {
	var errs config.FieldErrors
	switch {
	case c.Backend == "":
		errs.Add("backend", "is missing", "write the name after default_backend in haproxy.cfg")
	case !goodName.MatchString(c.Backend):
		errs.Add("backend", fmt.Sprintf("%q is no name of a backend", c.Backend), "write letters, digits, dots, dashes and underscores")
	}
	for _, p := range []struct{ field, value, fix string }{
		{"socket", c.Socket, "write the path after `stats socket` in haproxy.cfg, e.g. /run/haproxy/admin.sock"},
		{"file", c.File, "write a path that HAProxy is started with, e.g. /etc/haproxy/tidemark.cfg after -f"},
	} {
		switch {
		case p.value == "":
			errs.Add(p.field, "is missing", p.fix)
		case !filepath.IsAbs(p.value):
			errs.Add(p.field, fmt.Sprintf("%q is no absolute path", p.value), p.fix)
		}
	}
	if len(c.Socket) > maxSocketPath {
		errs.Add("socket", fmt.Sprintf("has %d bytes, and a socket's path has at most %d", len(c.Socket), maxSocketPath), "choose a shorter one")
	}
	if c.MaxInFlight < 0 || c.MaxInFlight > maxQueue {
		errs.Add("max_in_flight", fmt.Sprintf("is %d", c.MaxInFlight), "write 1 for workers that serve one request at a time, 0 for no limit")
	}
	if c.Queue.Limit < 1 || c.Queue.Limit > maxQueue {
		errs.Add("queue.limit", fmt.Sprintf("is %d", c.Queue.Limit), "write 1 to 100000")
	}
	for _, d := range []struct {
		field    string
		value    time.Duration
		min, max time.Duration
	}{
		{"queue.timeout", c.Queue.Timeout, time.Millisecond, time.Hour},
		{"queue.retry_after", c.Queue.RetryAfter, time.Second, time.Hour},
		{"sticky.drain", c.Sticky.Drain, 0, time.Hour},
		{"request_timeout", c.RequestTimeout, time.Millisecond, 24 * time.Hour},
		{"drain_timeout", c.DrainTimeout, time.Second, 24 * time.Hour},
	} {
		if d.value < d.min || d.value > d.max {
			errs.Add(d.field, "is "+d.value.String(), fmt.Sprintf("write %s to %s", d.min, d.max))
		}
	}
	if c.Sticky.Cookie != "" && !goodCookie.MatchString(c.Sticky.Cookie) {
		errs.Add("sticky.cookie", fmt.Sprintf("%q is no name of a cookie", c.Sticky.Cookie), "write letters, digits, dots, dashes and underscores, e.g. TIDEMARK")
	}
	if len(c.Message) > maxMessage {
		errs.Add("message", fmt.Sprintf("has %d bytes", len(c.Message)), fmt.Sprintf("write at most %d", maxMessage))
	}
	c.checkClasses(&errs)
	return errs.Err()
}

func (c *Config) checkClasses(errs *config.FieldErrors) {
	if len(c.Classes) > maxClasses {
		errs.Add("classes", fmt.Sprintf("has %d entries", len(c.Classes)), fmt.Sprintf("write at most %d", maxClasses))
	}
	if len(c.Classes) > 0 && c.MaxInFlight == 0 {
		errs.Add("classes", "rank requests that wait, and without max_in_flight none waits here", "write max_in_flight: 1 for workers that serve one request at a time")
	}
	names, taken := map[string]bool{otherName: true}, map[string]string{}
	for i, cl := range c.Classes {
		at := fmt.Sprintf("classes.%d", i)
		switch {
		case !goodName.MatchString(cl.Name):
			errs.Add(at+".name", fmt.Sprintf("%q is no name of a class", cl.Name), "write letters, digits, dashes and underscores, e.g. sync")
		case names[cl.Name]:
			errs.Add(at+".name", fmt.Sprintf("%q is there twice, or is the class of all that no class names", cl.Name), "choose another name")
		}
		names[cl.Name] = true
		if cl.Priority < 1 || cl.Priority > maxPriority {
			errs.Add(at+".priority", fmt.Sprintf("is %d", cl.Priority), "write 1 (most important) to 9; what no class names has 5")
		}
		if len(cl.Routes) == 0 {
			errs.Add(at+".routes", "is empty, so the class has no requests", "write path prefixes, e.g. [/api/mobile/sync]")
		}
		for j, r := range cl.Routes {
			field := fmt.Sprintf("%s.routes.%d", at, j)
			switch first, ok := taken[r]; {
			case !goodRoute.MatchString(r):
				errs.Add(field, fmt.Sprintf("%q is no path prefix", r), "write it from the first slash, of letters, digits and . _ ~ -, e.g. /api/mobile/sync")
			case ok:
				errs.Add(field, fmt.Sprintf("%q is already in %s", r, first), "write each prefix once")
			}
			taken[r] = field
		}
		if cl.QueueLimit < 0 || cl.QueueLimit > maxQueue {
			errs.Add(at+".queue_limit", fmt.Sprintf("is %d", cl.QueueLimit), "write how many may wait, 0 for the queue's own limit")
		}
		if cl.RetryAfter != 0 && (cl.RetryAfter < time.Second || cl.RetryAfter > time.Hour) {
			errs.Add(at+".retry_after", "is "+cl.RetryAfter.String(), "write 1s to 1h, or 0 for the queue's own")
		}
	}
}
