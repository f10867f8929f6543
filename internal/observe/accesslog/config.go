package accesslog

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"tidemark/internal/config"
	"tidemark/internal/fleet"
)

// Config says what a signal takes from an access log.
type Config struct {
	// Path of the log, absolute.
	Path string `yaml:"path"`
	// Format is nginx's own log_format: the string, the whole directive, or the name combined or tidemark (the
	// recommended one, see Directive).
	Format string `yaml:"format"`
	// Route leaves only requests for this path and what is below it: /api/sync is also /api/sync/5 and
	// /api/sync?since=3, not /api/synchronise. Paths are compared as logged. Empty: all requests.
	Route string `yaml:"route"`
	// Field is what is measured over the window: latency in seconds, rate in requests/s, or errors, the percentage of
	// responses with a status of 500 and more.
	Field string `yaml:"field"`
	// Time is which latency: upstream (the workers' own, all tries added up) or request (with the client's part of it).
	// Default: upstream when the format has it.
	Time string `yaml:"time"`
	// Exclude lists paths that, with what is below them, are left out of this signal: websockets last as long as a page is
	// open, health checks are no load. One that would leave nothing of Route is not applied.
	Exclude []string `yaml:"exclude"`
}

// The fields.
const (
	Latency = "latency"
	Rate    = "rate"
	Errors  = "errors"
)

// fields says of each field what it is.
var fields = map[string]struct {
	unit         fleet.Unit
	distribution bool // quantiles come from the source
	perWorker    bool // rises as workers leave
	needs        Fields
}{
	Latency: {unit: fleet.Seconds, distribution: true, perWorker: true},
	Rate:    {unit: fleet.Number},
	Errors:  {unit: fleet.Percent, needs: Status},
}

// DefaultConfig is the latency of all requests of a log in the recommended format.
func DefaultConfig() Config {
	return Config{
		Format:  "tidemark",
		Field:   Latency,
		Exclude: []string{"/websocket", "/longpolling", "/web/health", "/healthz"},
	}
}

// Unit is the unit of the field.
func (c *Config) Unit() fleet.Unit { return fields[c.Field].unit }

// Distribution reports whether the source itself computes p50..p99 over the window.
func (c *Config) Distribution() bool { return fields[c.Field].distribution }

// PerWorker reports whether the value rises as workers leave.
func (c *Config) PerWorker() bool { return fields[c.Field].perWorker }

// Windowed reports that each field is taken over a window.
func (c *Config) Windowed() bool { return true }

// Validate finds what is wrong with the configuration. It looks at no file.
func (c *Config) Validate() error {
	var errs config.FieldErrors
	switch {
	case c.Path == "":
		errs.Add("path", "is missing", "write the file that access_log names in nginx's configuration, e.g. /var/log/nginx/access.log")
	case !filepath.IsAbs(c.Path):
		errs.Add("path", fmt.Sprintf("%q is not absolute", c.Path), "begin it with /")
	}
	field, known := fields[c.Field]
	if !known {
		errs.Add("field", fmt.Sprintf("%q is unknown", c.Field), "write latency, rate or errors")
	}
	if c.Route != "" {
		checkPath(&errs, "route", c.Route)
	}
	for i, x := range c.Exclude {
		name := fmt.Sprintf("exclude.%d", i)
		checkPath(&errs, name, x)
		if trimPath(x) == "" && strings.HasPrefix(x, "/") {
			errs.Add(name, `"/" leaves nothing`, "name the paths to leave out")
		}
	}
	switch c.Time {
	case "", "upstream", "request":
		if c.Time != "" && known && c.Field != Latency {
			errs.Add("time", "says which latency is meant, and field "+c.Field+" is none", "leave it out")
		}
	default:
		errs.Add("time", fmt.Sprintf("%q is unknown", c.Time), "write upstream or request")
	}
	f, err := Compile(c.Format)
	if err != nil {
		var bad *FormatError
		if errors.As(err, &bad) {
			errs.Add("format", fmt.Sprintf("position %d: %s", bad.Position, bad.Msg), bad.Fix)
		} else {
			errs.Add("format", err.Error(), "")
		}
		return errs.Err()
	}
	c.checkFormat(&errs, f, field.needs)
	return errs.Err()
}

// checkFormat asks whether the format's lines say what the signal needs.
func (c *Config) checkFormat(errs *config.FieldErrors, f *Format, needs Fields) {
	if c.Field == Latency {
		switch {
		case !f.Has(RequestTime) && !f.Has(UpstreamTime):
			errs.Add("format", "no latency is logged: it has neither $upstream_response_time nor $request_time",
				"write in nginx.conf "+Directive()+" then access_log "+c.Path+" tidemark; and here format: tidemark")
		case c.Time == "upstream" && !f.Has(UpstreamTime):
			errs.Add("time", "upstream is not logged: the format has no $upstream_response_time",
				"add it to the log_format, or write time: request")
		case c.Time == "request" && !f.Has(RequestTime):
			errs.Add("time", "request is not logged: the format has no $request_time", "add it to the log_format, or write time: upstream")
		}
	}
	if !f.Has(needs) {
		errs.Add("format", "has no $status, which errors are counted by", "add it to the log_format")
	}
	if !f.Has(URI) {
		switch {
		case c.Route != "":
			errs.Add("format", "has no $request, $request_uri or $uri, so that no route can be told", "add it to the log_format, or leave out route")
		case len(c.Exclude) > 0:
			errs.Add("format", "has no $request, $request_uri or $uri, so that nothing can be excluded", "add it to the log_format, or write exclude: []")
		}
	}
}

func checkPath(errs *config.FieldErrors, field, path string) {
	switch {
	case !strings.HasPrefix(path, "/"):
		errs.Add(field, fmt.Sprintf("%q does not begin with /", path), "write the path alone, without host, e.g. /api/mobile/sync")
	case strings.ContainsAny(path, "?#"):
		errs.Add(field, fmt.Sprintf("%q has a query", path), "write the path alone: queries are not looked at")
	case strings.ContainsAny(path, "*"):
		errs.Add(field, fmt.Sprintf("%q has a *", path), "leave it out: what is below a path is meant too")
	}
}
