package health

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"tidemark/internal/config"
)

// Config says when a worker that somebody else runs is fit to serve.
type Config struct {
	Path     string        `yaml:"path"`     // GET must answer 2xx
	Interval time.Duration `yaml:"interval"` // between two checks of a serving worker
	Timeout  time.Duration `yaml:"timeout"`  // for one check
	Failures int           `yaml:"failures"` // so many in a row and it no longer serves
}

// DefaultConfig is what holds where the operator wrote nothing.
func DefaultConfig() Config {
	return Config{Interval: 5 * time.Second, Timeout: 5 * time.Second, Failures: 3}
}

// Validate adds all problems.
func (c *Config) Validate(errs *config.FieldErrors) {
	if c.Path != "" && !strings.HasPrefix(c.Path, "/") {
		errs.Add("health.path", fmt.Sprintf("%q does not begin with /", c.Path), "write a path such as /web/health, without host and port")
	}
	if strings.ContainsAny(c.Path, " \t\r\n#") {
		errs.Add("health.path", fmt.Sprintf("%q has characters that a request line cannot carry", c.Path), "write them as %20 and the like")
	}
	const least, most = 10 * time.Millisecond, time.Hour
	for _, d := range []struct {
		field string
		v     time.Duration
	}{{"health.interval", c.Interval}, {"health.timeout", c.Timeout}} {
		if d.v < least || d.v > most {
			errs.Add(d.field, fmt.Sprintf("%v is not between %v and %v", d.v, least, most), "write for example 5s")
		}
	}
	if c.Failures < 1 || c.Failures > 100 {
		errs.Add("health.failures", fmt.Sprintf("%d is not between 1 and 100", c.Failures), "write 3")
	}
}

// Watch remembers how workers fared: one that served is taken for busy until it has failed so often in a row.
type Watch struct {
	cfg  Config
	mu   sync.Mutex
	seen map[string]state // by id
}

// NewWatch watches nobody yet.
func NewWatch(cfg Config) *Watch { return &Watch{cfg: cfg, seen: map[string]state{}} }

// Subject is a worker that runs.
type Subject struct {
	ID      string
	Started time.Time // what is started again under the same ID begins anew
	PID     int       // 0: its process is not seen from here
}

type state struct {
	life     time.Time
	pid      int
	at       time.Time
	err      error
	failures int // in a row
	served   bool
}

// grown is the age at which a worker that does not answer in time is taken for a busy one, by a daemon that has not seen it before.
const grown = time.Minute

// Serves reports whether a worker serves, and what its last check found wrong.
func (w *Watch) Serves(ctx context.Context, s Subject, check func(context.Context) error) (bool, error) {
	w.mu.Lock()
	c, known := w.seen[s.ID]
	w.mu.Unlock()
	if !known || !c.life.Equal(s.Started) {
		c = state{life: s.Started, pid: s.PID}
	}
	if s.PID == 0 && c.pid != 0 {
		return false, errors.New("its process has ended, and that was not noticed yet")
	}
	now := time.Now()
	if c.served && now.Sub(c.at) < w.cfg.Interval {
		return true, c.err
	}
	err := check(ctx)
	if ctx.Err() != nil {
		return c.served, cmp.Or(c.err, err) // nothing was learnt
	}
	c.at = now
	if err == nil {
		c.err, c.failures, c.served = nil, 0, true
	} else {
		c.served = c.served || !known && errors.Is(err, ErrNoAnswer) && now.Sub(s.Started) > grown
		c.failures++
		c.err = fmt.Errorf("health check: %w", err)
		if c.failures >= w.cfg.Failures {
			c.served = false
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen[s.ID] = c
	return c.served, c.err
}

// Forget drops those that are gone.
func (w *Watch) Forget(gone func(id string) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	maps.DeleteFunc(w.seen, func(id string, _ state) bool { return gone(id) })
}
