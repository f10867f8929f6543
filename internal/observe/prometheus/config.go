// Package prometheus reads the value of a PromQL query from a Prometheus server, or one that speaks its query API (Thanos,
// Mimir, VictoriaMetrics). It owns what a query's answer is worth; httpget owns the exchange.
//
// A query must return exactly one series. How old its sample is, the server is asked too: for up to five minutes Prometheus goes on
// answering with the last sample of a target that it no longer scrapes. That is known for a query that is a selector, as
// up{job="odoo"}; what a function returns is as old as the moment of asking.
package prometheus

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"tidemark/internal/config"
	"tidemark/internal/fleet"
	"tidemark/internal/observe/httpget"
)

// Config says which server, and what it is asked.
type Config struct {
	// URL of the server, without /api/v1, such as http://127.0.0.1:9090.
	URL string `yaml:"url"`
	// Query is a PromQL expression that returns an instant vector of one series.
	Query string `yaml:"query"`
	// Step makes the signal a distribution: the query is evaluated at each step, 1s..1h, of the signal's window, and the signal's
	// quantile is taken of these values. Without it the query's value is read once a tick.
	Step time.Duration `yaml:"step"`
	// MeasuredIn is the value's unit: number (default), percent (0..100), seconds or bytes. PromQL's shares are mostly 0..1:
	// multiply them by 100.
	MeasuredIn fleet.Unit `yaml:"unit"`
	// MaxAge is how old the sample may be, 1s..1h; default 2m. It must be longer than the scrape interval.
	MaxAge time.Duration `yaml:"max_age"`

	Server httpget.Config `yaml:",inline"`
}

// DefaultConfig reads a plain number.
func DefaultConfig() Config { return Config{MaxAge: 2 * time.Minute, Server: httpget.DefaultConfig()} }

// maxQuery keeps the request's address, in which the query stands three times, below what servers and proxies take.
const maxQuery = 2000

// Validate reports what cannot work. Whether the query is PromQL, the server knows.
func (c *Config) Validate() error {
	var errs config.FieldErrors
	c.Server.Validate(&errs, c.URL)
	if u, err := url.Parse(c.URL); err == nil && (strings.Contains(u.Path, "/api/v1") || u.RawQuery != "") {
		errs.Add("url", "holds more than the server's address", "leave out what begins with /api/v1, and write query beside url")
	}
	switch {
	case strings.TrimSpace(c.Query) == "":
		errs.Add("query", "is missing", "write a PromQL expression of one series, such as sum(active_mobile_sync_sessions)")
	case len(c.Query) > maxQuery:
		errs.Add("query", fmt.Sprintf("has %d bytes, and at most %d can be sent", len(c.Query), maxQuery), "make it a recording rule of the server")
	}
	if c.Step != 0 && (c.Step < time.Second || c.Step > time.Hour || c.Step%time.Second != 0) {
		errs.Add("step", fmt.Sprintf("%s is out of range", c.Step), "write 1s to 1h, in whole seconds")
	}
	if c.MaxAge < time.Second || c.MaxAge > time.Hour {
		errs.Add("max_age", fmt.Sprintf("%s is out of range", c.MaxAge), "write 1s to 1h")
	}
	return errs.Err()
}

// Unit is the unit that is written.
func (c *Config) Unit() fleet.Unit { return c.MeasuredIn }

// Distribution reports whether a quantile over the window is asked for.
func (c *Config) Distribution() bool { return c.Step > 0 }

// PerWorker: what the value is of is the operator's to say, by the signal's per_worker.
func (c *Config) PerWorker() bool { return false }
