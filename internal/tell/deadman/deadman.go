// Package deadman pings a place that raises an alarm when the pings stop: a service such as healthchecks.io, or one's own. It
// watches over what cannot watch over itself: the machine, its power, its link, and Tidemark. When it is time to ping is
// tell.Pulse's to know.
package deadman

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"tidemark/internal/config"
	"tidemark/internal/tell"
	"tidemark/internal/tell/post"
)

// Config is what an operator writes under `notify: {dead_man: ...}`.
type Config struct {
	URL      string        `yaml:"url,required" example:"${DEAD_MAN_URL}"` // a secret: who knows it can keep the alarm quiet
	Method   string        `yaml:"method"`                                 // GET, POST or HEAD
	Interval time.Duration `yaml:"interval"`                               // the place's grace must be a few times longer
	CAFile   string        `yaml:"ca_file"`                                // further certificate authorities, PEM
	Timeout  time.Duration `yaml:"timeout"`                                // for one ping
}

// DefaultConfig is what holds where the operator wrote nothing.
func DefaultConfig() Config {
	return Config{Method: http.MethodGet, Interval: time.Minute, Timeout: 15 * time.Second}
}

// Validate returns every problem at once, as config.FieldErrors.
func (c *Config) Validate() error {
	var errs config.FieldErrors
	post.CheckURL(&errs, "url", c.URL, "${DEAD_MAN_URL}")
	if c.Method != http.MethodGet && c.Method != http.MethodPost && c.Method != http.MethodHead {
		errs.Add("method", fmt.Sprintf("%q is no way to ping", c.Method), "write GET, POST or HEAD")
	}
	if c.Interval < 10*time.Second || c.Interval > 24*time.Hour {
		errs.Add("interval", fmt.Sprintf("%v is not between 10s and 24h", c.Interval), "write for example 1m")
	}
	tell.CheckTimeout(&errs, c.Timeout)
	if c.Timeout > c.Interval {
		errs.Add("timeout", fmt.Sprintf("%v is longer than the interval of %v", c.Timeout, c.Interval), "write a shorter one")
	}
	return errs.Err()
}

// Pinger is a tell.Beat.
type Pinger struct {
	cfg   Config
	place post.Place
}

// New makes a Pinger of a valid configuration.
func New(cfg Config) (*Pinger, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Pinger{cfg: cfg, place: post.Place{URL: cfg.URL, CAFile: cfg.CAFile, Timeout: cfg.Timeout}}, nil
}

// Interval is how often to ping.
func (p *Pinger) Interval() time.Duration { return p.cfg.Interval }

// Ping pings once.
func (p *Pinger) Ping(ctx context.Context) error { return p.place.Do(ctx, p.cfg.Method, nil, nil) }

var _ tell.Beat = (*Pinger)(nil)
