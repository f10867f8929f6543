package front

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"tidemark/internal/config"
)

// Config is what an operator writes under `front: {nginx: ...}`.
type Config struct {
	// Upstream is where nginx sends requests: host:port, unix:/path, or the name of an upstream block.
	Upstream string `yaml:"upstream,required" example:"127.0.0.1:8069"`
	// Classes rank requests by path, as those of the built-in proxy. What no class names is of class "other", priority 5.
	Classes   []Class   `yaml:"classes"`
	PerClient PerClient `yaml:"per_client"`
	Cache     Cache     `yaml:"cache"`
	// Timeout bounds each step with a client and with a worker.
	Timeout time.Duration `yaml:"timeout"`
	MaxBody int64         `yaml:"max_body,bytes"` // of a request
	// RetryAfter is what a refused client is told to wait.
	RetryAfter time.Duration `yaml:"retry_after"`
	// Message stands on the page that a visitor sees while the service is too busy, in the visitors' own language, say. Plain text.
	Message string `yaml:"message"`
}

// Class is a set of requests of the same importance.
type Class struct {
	Name     string   `yaml:"name"`
	Priority int      `yaml:"priority"` // 1 (most important, degraded last) to 9
	Routes   []string `yaml:"routes"`   // path prefixes: "/api" is /api and all below it; the longest that fits decides
	// Connections is how many requests of the class may be on their way at once. Default: no limit for priority 1, four times the
	// most workers down to 5, twice below.
	Connections int           `yaml:"connections"`
	RetryAfter  time.Duration `yaml:"retry_after"` // default: the front's
}

// PerClient bounds what one address may ask, but for classes of priority 1: enumerators of one office share an address.
type PerClient struct {
	Connections int `yaml:"connections"` // at once; 0: no limit
	Rate        int `yaml:"rate"`        // requests a second; 0: no limit
	Burst       int `yaml:"burst"`       // so many may come at once
}

// Cache is of public pages that are the same for everybody. Cookies are neither passed to them nor set by them, so that a cached page
// is never one of somebody who has signed in.
type Cache struct {
	Routes []string      `yaml:"routes"`
	For    time.Duration `yaml:"for"`   // a page is as new as this
	Stale  time.Duration `yaml:"stale"` // and is shown this old while it cannot be had anew
	Max    int64         `yaml:"max_size,bytes"`
	Dir    string        `yaml:"dir"`
}

// DefaultConfig is what holds where the operator wrote nothing.
func DefaultConfig() Config {
	return Config{
		PerClient: PerClient{Connections: 20, Rate: 20, Burst: 40},
		Cache:     Cache{For: 10 * time.Second, Stale: time.Hour, Max: 64 << 20, Dir: "/var/cache/nginx/tidemark"},
		Timeout:   30 * time.Second, MaxBody: 25 << 20, RetryAfter: 10 * time.Second,
	}
}

const (
	other      = "other"
	otherRank  = 5
	maxRank    = 9
	maxMessage = 1000
)

var (
	goodName     = regexp.MustCompile(`^[a-z][a-z0-9_]{0,30}$`)
	goodRoute    = regexp.MustCompile(`^/[A-Za-z0-9._~/-]*$`)
	goodUpstream = regexp.MustCompile(`^(unix:/[A-Za-z0-9._/-]+|[A-Za-z0-9._-]+(:[0-9]{1,5})?|\[[0-9a-f:]+\]:[0-9]{1,5})$`)
	goodDir      = regexp.MustCompile(`^/[A-Za-z0-9._/-]+$`)
)

// Validate reports every problem: nothing gets into nginx's configuration that would mean something else there.
func (c *Config) Validate() error {
	var errs config.FieldErrors
	if c.Upstream != "" && !goodUpstream.MatchString(c.Upstream) {
		errs.Add("upstream", fmt.Sprintf("%q is no upstream", c.Upstream), "write host:port, unix:/path, or the name of an upstream block")
	}
	names, taken := map[string]bool{other: true}, map[string]string{}
	for i := range c.Classes {
		c.Classes[i].check(&errs, fmt.Sprintf("classes.%d", i), names, taken)
	}
	checkRoutes(&errs, "cache.routes", c.Cache.Routes, taken)
	for _, p := range []struct {
		field       string
		value, most int
	}{{"per_client.connections", c.PerClient.Connections, 10_000}, {"per_client.rate", c.PerClient.Rate, 10_000}, {"per_client.burst", c.PerClient.Burst, 10_000}} {
		if p.value < 0 || p.value > p.most {
			errs.Add(p.field, fmt.Sprintf("is %d", p.value), fmt.Sprintf("write 0 to %d", p.most))
		}
	}
	for _, p := range []struct {
		field              string
		value, least, most time.Duration
	}{
		{"timeout", c.Timeout, time.Second, time.Hour}, {"retry_after", c.RetryAfter, time.Second, time.Hour},
		{"cache.for", c.Cache.For, time.Second, 24 * time.Hour}, {"cache.stale", c.Cache.Stale, c.Cache.For, 30 * 24 * time.Hour},
	} {
		if p.value < p.least || p.value > p.most || p.value%time.Second != 0 {
			errs.Add(p.field, "is "+p.value.String(), fmt.Sprintf("write whole seconds from %s to %s", p.least, p.most))
		}
	}
	for _, p := range []struct {
		field string
		value int64
	}{{"max_body", c.MaxBody}, {"cache.max_size", c.Cache.Max}} {
		if p.value < 1<<20 || p.value > 1<<40 {
			errs.Add(p.field, fmt.Sprintf("is %d bytes", p.value), "write 1MiB or more")
		}
	}
	if !goodDir.MatchString(c.Cache.Dir) {
		errs.Add("cache.dir", fmt.Sprintf("%q is no absolute path of plain characters", c.Cache.Dir), "write for example /var/cache/nginx/tidemark")
	}
	if len(c.Message) > maxMessage {
		errs.Add("message", fmt.Sprintf("has %d bytes", len(c.Message)), fmt.Sprintf("write at most %d", maxMessage))
	}
	return errs.Err()
}

func (c *Class) check(errs *config.FieldErrors, at string, names map[string]bool, taken map[string]string) {
	switch {
	case !goodName.MatchString(c.Name):
		errs.Add(at+".name", fmt.Sprintf("%q is no name of a class", c.Name), "use small letters, digits and _, such as sync")
	case names[c.Name]:
		errs.Add(at+".name", fmt.Sprintf("%q is there twice, or is the class of all that no class names", c.Name), "choose another name")
	}
	names[c.Name] = true
	if c.Priority < 1 || c.Priority > maxRank {
		errs.Add(at+".priority", fmt.Sprintf("is %d", c.Priority), "write 1 (most important) to 9; what no class names has 5")
	}
	if len(c.Routes) == 0 {
		errs.Add(at+".routes", "is empty, so the class has no requests", "write path prefixes, e.g. [/api/mobile/sync]")
	}
	checkRoutes(errs, at+".routes", c.Routes, taken)
	if c.Connections < 0 || c.Connections > 100_000 {
		errs.Add(at+".connections", fmt.Sprintf("is %d", c.Connections), "write 1 to 100000, or leave it out")
	}
	if c.RetryAfter != 0 && (c.RetryAfter < time.Second || c.RetryAfter > time.Hour || c.RetryAfter%time.Second != 0) {
		errs.Add(at+".retry_after", "is "+c.RetryAfter.String(), "write whole seconds from 1s to 1h")
	}
}

func checkRoutes(errs *config.FieldErrors, field string, routes []string, taken map[string]string) {
	for i, r := range routes {
		at := fmt.Sprintf("%s.%d", field, i)
		switch first, ok := taken[r]; {
		case !goodRoute.MatchString(r):
			errs.Add(at, fmt.Sprintf("%q is no path prefix", r), "write it from the first slash, of letters, digits and . _ ~ -, e.g. /api/mobile/sync")
		case ok:
			errs.Add(at, fmt.Sprintf("%q is already in %s", r, first), "write each prefix once")
		}
		taken[r] = at
	}
}

// ranked are all classes with what they default to: the most important first.
func (c *Config) ranked(workers int) []Class {
	all := append(slices.Clone(c.Classes), Class{Name: other, Priority: otherRank})
	slices.SortStableFunc(all, func(a, b Class) int { return a.Priority - b.Priority })
	for i := range all {
		k := &all[i]
		switch {
		case k.Connections > 0 || k.Priority == 1:
		case k.Priority <= otherRank:
			k.Connections = 4 * workers
		default:
			k.Connections = 2 * workers
		}
		if k.RetryAfter == 0 {
			k.RetryAfter = c.RetryAfter
		}
	}
	return all
}

// pattern matches a route as the built-in proxy does: /api is /api and all below it, and not /apix.
func pattern(route string) string {
	if strings.HasSuffix(route, "/") {
		return "^" + regexp.QuoteMeta(route)
	}
	return "^" + regexp.QuoteMeta(route) + "(/|$)"
}
