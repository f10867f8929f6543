// Package derived is the source of signals that are computed from the fleet's other signals, such as queue / workers. It owns what a
// formula may name; decide/expression owns the language.
//
// A formula names signals that are read, and workers, the number of workers that serve. It may not name a derived signal: each is
// computed from the readings of the same tick once all of them are there, in no order that would matter.
package derived

import (
	"tidemark/internal/config"
	"tidemark/internal/decide/expression"
	"tidemark/internal/fleet"
)

// Config is the formula, and what its outcome is measured in.
type Config struct {
	// Of is the formula; see decide/expression.
	Of string `yaml:"of,required" example:"queue / workers"`
	// MeasuredIn is the outcome's unit: number (default), percent (0..100), seconds or bytes.
	MeasuredIn fleet.Unit `yaml:"unit"`
}

// DefaultConfig is a plain number.
func DefaultConfig() Config { return Config{} }

// Validate has nothing to say: what a formula may name, only the fleet knows.
func (c *Config) Validate() error { return nil }

// Unit is the unit that is written.
func (c *Config) Unit() fleet.Unit { return c.MeasuredIn }

// Distribution: one value at a time.
func (c *Config) Distribution() bool { return false }

// PerWorker: what the outcome is of is the operator's to say, by the signal's per_worker.
func (c *Config) PerWorker() bool { return false }

// Formula is the setting that holds the formula, and its text.
func (c *Config) Formula() (setting, text string) { return "of", c.Of }

// Signal is a derived signal of one fleet. It is not for several goroutines at once.
type Signal struct {
	inputs     []int // of the formula's names, the index of each in the fleet's signals; workers is none of them
	expression *expression.Expression
	readings   []fleet.Reading
}

// New makes a derived signal from a valid configuration, of a fleet whose signals are these, in their order.
func New(cfg Config, signals []config.Signal) (*Signal, error) {
	names, inputs := config.FormulaNames(signals)
	e, err := expression.Compile(cfg.Of, names, cfg.MeasuredIn)
	if err != nil {
		return nil, err
	}
	return &Signal{inputs: inputs, expression: e, readings: make([]fleet.Reading, len(names))}, nil
}

var _ config.Formula = (*Config)(nil)

// Derive computes the reading of a tick from those of the fleet's signals at that tick.
func (s *Signal) Derive(scene fleet.Scene, readings []fleet.Reading) (fleet.Reading, error) {
	for i, at := range s.inputs {
		s.readings[i] = readings[at]
	}
	s.readings[len(s.inputs)] = serving(scene)
	return s.expression.Reading(scene.Now, s.readings)
}

// serving is how many workers serve. With none there is nothing to divide by, and the formula's outcome is missing.
func serving(scene fleet.Scene) fleet.Reading {
	if !scene.WorkersKnown {
		return fleet.Reading{Time: scene.Now}
	}
	return fleet.Reading{Value: float64(fleet.Count(scene.Workers).Serving), Time: scene.Now, Quality: fleet.Fresh}
}
