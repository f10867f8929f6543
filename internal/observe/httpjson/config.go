// Package httpjson reads a figure that a program shows over HTTP: a metric in Prometheus' text format, or a number in a JSON
// document. It owns how the figure is found in the page and how a counter becomes a rate; httpget owns the exchange.
package httpjson

import (
	"fmt"
	"regexp"
	"time"

	"tidemark/internal/config"
	"tidemark/internal/fleet"
	"tidemark/internal/observe/httpget"
)

// Config says which page, and which figure on it: Metric or JSON.
type Config struct {
	// URL of the page, http or https.
	URL string `yaml:"url"`
	// Metric is the name of a metric in Prometheus' text format, as it stands at the start of a line: of a histogram or summary
	// one of its _sum, _count and _bucket.
	Metric string `yaml:"metric"`
	// Labels choose among the metric's series: each that is written must be equal.
	Labels map[string]string `yaml:"labels"`
	// Sum adds up all series that are chosen. Without it, more than one is an error.
	Sum bool `yaml:"sum"`
	// JSON is where the number stands in a JSON document: a JSON Pointer (RFC 6901), such as /queues/0/length. In a name, ~1
	// stands for / and ~0 for ~.
	JSON string `yaml:"json"`
	// Rate makes a counter a rate: how much it rose a second since the reading before. A counter that fell was reset with its
	// program, and rose from 0.
	Rate bool `yaml:"rate"`
	// MeasuredIn is the figure's unit: number (default), percent (0..100), seconds or bytes.
	MeasuredIn fleet.Unit `yaml:"unit"`
	// MaxAge is how old a sample may be that carries its own time, 1s..24h; default 2m. Few do.
	MaxAge time.Duration `yaml:"max_age"`
	// MaxBody is how large the page may be, 1KiB..64MiB; default 4MiB.
	MaxBody int64 `yaml:"max_body,bytes"`

	Server httpget.Config `yaml:",inline"`
}

// DefaultConfig reads a plain number.
func DefaultConfig() Config {
	return Config{MaxAge: 2 * time.Minute, MaxBody: 4 << 20, Server: httpget.DefaultConfig()}
}

var (
	metricName = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*$`)
	labelName  = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)
)

// Validate reports what cannot work.
func (c *Config) Validate() error {
	var errs config.FieldErrors
	c.Server.Validate(&errs, c.URL)
	switch {
	case c.Metric == "" && c.JSON == "":
		errs.Add("metric", "is missing", "write the name of a metric, or json and where the number stands, such as /sessions/active")
	case c.Metric != "" && c.JSON != "":
		errs.Add("json", "is given beside metric", "delete one of them")
	case c.Metric != "" && !metricName.MatchString(c.Metric):
		errs.Add("metric", fmt.Sprintf("%q is no name of a metric", c.Metric), "write the name alone, and what stands in braces under labels")
	case c.JSON != "":
		if _, err := parsePointer(c.JSON); err != nil {
			errs.Add("json", err.Error(), "write a JSON Pointer, such as /queues/0/length")
		}
	}
	if c.JSON != "" && len(c.Labels) > 0 {
		errs.Add("labels", "choose among the series of a metric, and json has none", "delete labels")
	}
	if c.JSON != "" && c.Sum {
		errs.Add("sum", "adds up the series of a metric, and json has none", "delete sum")
	}
	for name := range c.Labels {
		if !labelName.MatchString(name) {
			errs.Add("labels."+name, "is no name of a label", "write it as it stands in the braces")
		}
	}
	if c.MaxAge < time.Second || c.MaxAge > 24*time.Hour {
		errs.Add("max_age", fmt.Sprintf("%s is out of range", c.MaxAge), "write 1s to 24h")
	}
	if c.MaxBody < 1<<10 || c.MaxBody > 64<<20 {
		errs.Add("max_body", fmt.Sprintf("%d bytes is out of range", c.MaxBody), "write 1KiB to 64MiB")
	}
	return errs.Err()
}

// Unit is the unit that is written.
func (c *Config) Unit() fleet.Unit { return c.MeasuredIn }

// Distribution: these are plain figures.
func (c *Config) Distribution() bool { return false }

// PerWorker: what the figure is of is the operator's to say, by the signal's per_worker.
func (c *Config) PerWorker() bool { return false }
