package proxy

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"tidemark/internal/config"
)

// Config is what an operator writes under `balancer: {proxy: ...}`. The daemon passes it to the process as JSON.
type Config struct {
	// Listen is the address that takes the clients' requests, host:port.
	Listen string `yaml:"listen"`
	// MaxInFlight is the number of requests that one worker is given at a time; 0 is no limit. A worker that serves one
	// request at a time (Odoo, gunicorn sync) wants 1: then requests wait here, in order of importance, and not
	// behind a slow one. A client that leaves does not free such a worker: its slot stays taken until it answers.
	MaxInFlight int   `yaml:"max_in_flight"`
	Queue       Queue `yaml:"queue"`
	// Classes rank requests by path. What no class names is of class "other", priority 5.
	Classes []Class `yaml:"classes"`
	// Cache keeps public pages for a short while.
	Cache Cache `yaml:"cache"`
	// Routes are the path prefixes that get figures of their own; all else is the route "other".
	Routes []string `yaml:"routes"`
	// RequestTimeout is how long a worker may take from the request's last byte to its answer's first; then the
	// client gets 504. 0 is no limit.
	RequestTimeout time.Duration `yaml:"request_timeout"`
	// HeaderTimeout is how long a client may take to send a request's header.
	HeaderTimeout time.Duration `yaml:"header_timeout"`
	// ClientTimeout is how long a client may stay silent while it sends a body or takes an answer.
	ClientTimeout time.Duration `yaml:"client_timeout"`
	// Keepalive is how long an idle client connection is kept.
	Keepalive time.Duration `yaml:"keepalive"`
	// WorkerKeepalive is how long an idle connection to a worker is kept. Keep it below the worker's own limit (gunicorn
	// 2 s, node and uvicorn 5 s); 0 closes after each request.
	WorkerKeepalive time.Duration `yaml:"worker_keepalive"`
	// DialTimeout is how long a worker may take to accept a connection.
	DialTimeout time.Duration `yaml:"dial_timeout"`
	// BodyBuffer is how much of a request's body is read before a worker is taken, so that a phone on a slow link
	// does not occupy one while it sends. The rest of a longer body is passed on as it comes.
	BodyBuffer int64 `yaml:"body_buffer,bytes"`
	// WebsocketDrain is how long upgraded connections may stay on a worker that is drained; then they are closed.
	WebsocketDrain time.Duration `yaml:"websocket_drain"`
	// ShutdownTimeout is how long the process finishes requests after SIGTERM.
	ShutdownTimeout time.Duration `yaml:"shutdown_timeout"`
	// WorkerHeader adds X-Tidemark-Worker, the worker's id, to each answer: the proof that a new worker serves.
	WorkerHeader bool `yaml:"worker_header"`
	// Message stands on the page that a visitor sees while the service is too busy, in the visitors' own language, say. Plain text.
	Message string `yaml:"message"`
	// Trusted are the addresses whose X-Forwarded-* headers are believed and added to: an nginx in front. From all
	// others they are replaced.
	Trusted []string `yaml:"trusted"`
}

// Queue bounds the waiting for a worker.
type Queue struct {
	// Limit is how many requests may wait in all. When it is reached the newest of the least important class present
	// is answered 503.
	Limit int `yaml:"limit"`
	// Timeout is how long a request may wait; then it is answered 503.
	Timeout time.Duration `yaml:"timeout"`
	// RetryAfter is the least that a refused client is told to wait, or as long as the queue is too long if that is more; it is
	// spread up to twice that, so that they do not all come back in the same second.
	RetryAfter time.Duration `yaml:"retry_after"`
}

// Class is a set of requests of the same importance.
type Class struct {
	Name string `yaml:"name"`
	// Priority is 1 (most important) to 9. Waiting requests are served in this order.
	Priority int `yaml:"priority"`
	// Routes are path prefixes: "/api" is /api and all below it. The longest one that fits decides.
	Routes []string `yaml:"routes"`
	// QueueLimit is how many of the queue's places this class may take; 0 is all.
	QueueLimit int `yaml:"queue_limit"`
	// QueueTimeout replaces the queue's; 0 keeps it. A request that would wait longer, by the queue before it and by how long
	// requests took lately, is answered 503 at once.
	QueueTimeout time.Duration `yaml:"queue_timeout"`
	// RetryAfter replaces the queue's; 0 keeps it.
	RetryAfter time.Duration `yaml:"retry_after"`
}

// Cache is of public pages that are the same for everybody: GET only, without cookies and credentials in either direction.
type Cache struct {
	// Routes are their path prefixes.
	Routes []string `yaml:"routes"`
	// For is how long a page is as good as new.
	For time.Duration `yaml:"for"`
	// Stale is how old a page may be that is shown while it is fetched anew, and while it cannot be had.
	Stale time.Duration `yaml:"stale"`
	// MaxBytes bounds the memory; pages above 1 MiB are not kept.
	MaxBytes int64 `yaml:"max_size,bytes"`
}

// DefaultConfig is for workers behind an nginx on the same host.
func DefaultConfig() Config {
	return Config{
		Listen:          "127.0.0.1:8080",
		Queue:           Queue{Limit: 512, Timeout: 30 * time.Second, RetryAfter: 5 * time.Second},
		Cache:           Cache{For: 10 * time.Second, Stale: time.Hour, MaxBytes: 64 << 20},
		RequestTimeout:  30 * time.Second,
		HeaderTimeout:   10 * time.Second,
		ClientTimeout:   60 * time.Second,
		Keepalive:       75 * time.Second,
		WorkerKeepalive: time.Second,
		DialTimeout:     2 * time.Second,
		BodyBuffer:      256 << 10,
		WebsocketDrain:  30 * time.Second,
		ShutdownTimeout: 30 * time.Second,
		WorkerHeader:    true,
		Trusted:         []string{"127.0.0.0/8", "::1/128"},
	}
}

// TimeoutOfRequests lets the instance's time-out take the place of the default.
func (c *Config) TimeoutOfRequests() (string, *time.Duration) {
	return "request_timeout", &c.RequestTimeout
}

// Bounds of what may be configured.
const (
	maxQueue    = 100_000
	maxClasses  = 32
	maxRoutes   = 100
	maxPriority = 9
	maxMessage  = 1000
	otherName   = "other"
	otherRank   = 5
)

// Validate reports every problem of the configuration.
func (c *Config) Validate() error {
	var errs config.FieldErrors
	if err := checkListen(c.Listen); err != nil {
		errs.Add("listen", err.Error(), "write host:port, e.g. 127.0.0.1:8080")
	}
	if c.MaxInFlight < 0 {
		errs.Add("max_in_flight", "is negative", "write 1 for workers that serve one request at a time, 0 for no limit")
	}
	if c.Queue.Limit < 0 || c.Queue.Limit > maxQueue {
		errs.Add("queue.limit", fmt.Sprintf("is %d", c.Queue.Limit), "write 0 (nothing waits) to 100000")
	}
	for _, d := range []struct {
		field    string
		value    time.Duration
		min, max time.Duration
	}{
		{"queue.timeout", c.Queue.Timeout, time.Millisecond, time.Hour},
		{"queue.retry_after", c.Queue.RetryAfter, time.Second, time.Hour},
		{"cache.for", c.Cache.For, time.Second, 24 * time.Hour},
		{"cache.stale", c.Cache.Stale, c.Cache.For, 30 * 24 * time.Hour},
		{"request_timeout", c.RequestTimeout, 0, 24 * time.Hour},
		{"header_timeout", c.HeaderTimeout, 100 * time.Millisecond, 10 * time.Minute},
		{"client_timeout", c.ClientTimeout, 100 * time.Millisecond, time.Hour},
		{"keepalive", c.Keepalive, 100 * time.Millisecond, time.Hour},
		{"worker_keepalive", c.WorkerKeepalive, 0, time.Hour},
		{"dial_timeout", c.DialTimeout, 10 * time.Millisecond, time.Minute},
		{"websocket_drain", c.WebsocketDrain, 0, time.Hour},
		{"shutdown_timeout", c.ShutdownTimeout, 0, time.Hour},
	} {
		if d.value < d.min || d.value > d.max {
			errs.Add(d.field, "is "+d.value.String(), fmt.Sprintf("write %s to %s", d.min, d.max))
		}
	}
	if c.BodyBuffer < 0 || c.BodyBuffer > 64<<20 {
		errs.Add("body_buffer", fmt.Sprintf("is %d bytes", c.BodyBuffer), "write 0 to 64MiB; 256KiB suits most")
	}
	if len(c.Message) > maxMessage {
		errs.Add("message", fmt.Sprintf("has %d bytes", len(c.Message)), fmt.Sprintf("write at most %d", maxMessage))
	}
	c.validateClasses(&errs)
	if len(c.Routes) > maxRoutes {
		errs.Add("routes", fmt.Sprintf("has %d entries", len(c.Routes)), "write at most 100 prefixes")
	}
	checkRoutes(&errs, "routes", c.Routes, map[string]string{})
	checkRoutes(&errs, "cache.routes", c.Cache.Routes, map[string]string{})
	if c.Cache.MaxBytes < 1<<20 || c.Cache.MaxBytes > 16<<30 {
		errs.Add("cache.max_size", fmt.Sprintf("is %d bytes", c.Cache.MaxBytes), "write 1MiB to 16GiB")
	}
	for i, t := range c.Trusted {
		if _, err := parseTrusted(t); err != nil {
			errs.Add(fmt.Sprintf("trusted.%d", i), fmt.Sprintf("%q is no address or network", t), "write 10.0.0.5 or 10.0.0.0/24")
		}
	}
	return errs.Err()
}

func (c *Config) validateClasses(errs *config.FieldErrors) {
	if len(c.Classes) > maxClasses {
		errs.Add("classes", fmt.Sprintf("has %d entries", len(c.Classes)), "write at most 32")
	}
	names := map[string]bool{otherName: true}
	taken := map[string]string{}
	for i, cl := range c.Classes {
		at := fmt.Sprintf("classes.%d", i)
		switch {
		case cl.Name == "":
			errs.Add(at+".name", "is missing", "name the class, e.g. sync")
		case cl.Name == otherName:
			errs.Add(at+".name", `"other" is the class of all that no class names`, "choose another name")
		case names[cl.Name]:
			errs.Add(at+".name", fmt.Sprintf("%q is there twice", cl.Name), "give each class its own name")
		}
		names[cl.Name] = true
		if cl.Priority < 1 || cl.Priority > maxPriority {
			errs.Add(at+".priority", fmt.Sprintf("is %d", cl.Priority), "write 1 (most important) to 9; what no class names has 5")
		}
		if len(cl.Routes) == 0 {
			errs.Add(at+".routes", "is empty, so the class has no requests", "write path prefixes, e.g. [/api/mobile/sync]")
		}
		checkRoutes(errs, at+".routes", cl.Routes, taken)
		if cl.QueueLimit < 0 {
			errs.Add(at+".queue_limit", "is negative", "write how many may wait, 0 for all of the queue")
		}
		if cl.QueueTimeout < 0 || cl.QueueTimeout > time.Hour {
			errs.Add(at+".queue_timeout", "is "+cl.QueueTimeout.String(), "write at most 1h, or 0 for the queue's own")
		}
		if cl.RetryAfter != 0 && (cl.RetryAfter < time.Second || cl.RetryAfter > time.Hour) {
			errs.Add(at+".retry_after", "is "+cl.RetryAfter.String(), "write 1s to 1h, or 0 for the queue's own")
		}
	}
}

// checkRoutes checks path prefixes; taken remembers where each was seen first.
func checkRoutes(errs *config.FieldErrors, field string, routes []string, taken map[string]string) {
	for i, r := range routes {
		at := fmt.Sprintf("%s.%d", field, i)
		if !strings.HasPrefix(r, "/") || strings.ContainsAny(r, "?#* ") {
			errs.Add(at, fmt.Sprintf("%q is no path prefix", r), "write it from the first slash, without query or wildcard, e.g. /api/mobile/sync")
			continue
		}
		if first, ok := taken[r]; ok {
			errs.Add(at, fmt.Sprintf("%q is already in %s", r, first), "write each prefix once")
			continue
		}
		taken[r] = at
	}
}

func checkListen(s string) error {
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("%q is no listening address", s)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("%q has no port between 0 and 65535", s)
	}
	return nil
}

func parseTrusted(s string) (netip.Prefix, error) {
	if strings.Contains(s, "/") {
		p, err := netip.ParsePrefix(s)
		return p.Masked(), err
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	return netip.PrefixFrom(a, a.BitLen()), nil
}

// Digest names the configuration: two that differ anywhere have different ones.
func (c *Config) Digest() string {
	b, err := json.Marshal(c)
	if err != nil {
		return "" // not reached: a Config holds nothing that JSON cannot write
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

// fixed says what of the configuration only a restart changes.
func (c *Config) fixed() [4]string {
	return [4]string{c.Listen, c.HeaderTimeout.String(), c.Keepalive.String(), c.ShutdownTimeout.String()}
}

var fixedNames = [4]string{"listen", "header_timeout", "keepalive", "shutdown_timeout"}

// keepFixed takes over what only a restart changes.
func (c *Config) keepFixed(running *Config) {
	c.Listen, c.HeaderTimeout, c.Keepalive, c.ShutdownTimeout = running.Listen, running.HeaderTimeout, running.Keepalive, running.ShutdownTimeout
}

// needsRestart lists the settings that differ and that a running process cannot take over.
func (c *Config) needsRestart(running *Config) []string {
	var names []string
	a, b := c.fixed(), running.fixed()
	for i, n := range fixedNames {
		if a[i] != b[i] {
			names = append(names, n)
		}
	}
	return names
}
