// Package push takes values that programs send to Tidemark: for signals that only the program itself knows, such as how many
// mobile sync sessions are active, and that it would rather tell than be asked for.
//
// A value is good until its expiry, stale for as long again, and then missing: a program that died is not taken for one that has
// nothing to do. Values are not durable. After a restart of Tidemark a signal is missing until the next push, so a program pushes
// again and again, at least twice within the expiry, and not only when the value changes.
package push

import (
	"fmt"
	"time"

	"tidemark/internal/config"
	"tidemark/internal/fleet"
)

// Config says how long a pushed value is good for, and what it is measured in.
type Config struct {
	// Expiry of values that are pushed without one, 1s..24h; default 1m.
	Expiry time.Duration `yaml:"expiry"`
	// MeasuredIn is the value's unit: number (default), percent (0..100), seconds or bytes.
	MeasuredIn fleet.Unit `yaml:"unit"`
}

const leastExpiry, mostExpiry = time.Second, 24 * time.Hour

// DefaultConfig is a plain number that is good for a minute.
func DefaultConfig() Config { return Config{Expiry: time.Minute} }

// Validate reports what cannot work.
func (c *Config) Validate() error {
	var errs config.FieldErrors
	if c.Expiry < leastExpiry || c.Expiry > mostExpiry {
		errs.Add("expiry", fmt.Sprintf("%s is out of range", c.Expiry), fmt.Sprintf("write %s to %s", leastExpiry, fleet.Elapsed(mostExpiry)))
	}
	return errs.Err()
}

// Unit is the unit that is written.
func (c *Config) Unit() fleet.Unit { return c.MeasuredIn }

// Distribution: one value at a time.
func (c *Config) Distribution() bool { return false }

// PerWorker: what the value is of is the operator's to say, by the signal's per_worker.
func (c *Config) PerWorker() bool { return false }
