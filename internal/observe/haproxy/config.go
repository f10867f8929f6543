package haproxy

import (
	"fmt"
	"strings"

	"tidemark/internal/config"
	"tidemark/internal/fleet"
)

// Config says what a signal takes from the fleet's HAProxy.
type Config struct {
	// Field is what is measured; see the package's doc.
	Field string `yaml:"field"`
}

// fields says of each field what it is, and how it is had. The first is the default.
var fields = []struct {
	name      string
	unit      fleet.Unit
	perWorker bool                                   // rises as workers leave
	now       func(s *sample) (float64, bool, error) // of the moment ...
	part      func(s *sample) float64                // ... or what rose
	whole     func(s *sample) float64                // for each of these that came, in percent; nil: a second
}{
	{name: "queued", unit: fleet.Number, now: queued},
	{name: "in_flight", unit: fleet.Number, now: inFlight},
	{name: "busy", unit: fleet.Percent, perWorker: true, now: busy},
	{name: "latency", unit: fleet.Seconds, perWorker: true, now: latency},
	{name: "queue_time", unit: fleet.Seconds, perWorker: true, now: queueTime},
	{name: "service_time", unit: fleet.Seconds, now: serviceTime},
	{name: "rate", unit: fleet.Number, part: func(s *sample) float64 { return float64(s.Requests) }},
	{name: "errors", unit: fleet.Percent, part: func(s *sample) float64 { return float64(s.Status[4]) }, whole: func(s *sample) float64 { return float64(s.Answers()) }},
	{name: "shed", unit: fleet.Number, part: func(s *sample) float64 { return float64(s.Refused) }},
}

// DefaultConfig is the number of requests that wait.
func DefaultConfig() Config { return Config{Field: "queued"} }

// Unit is the unit of the field.
func (c *Config) Unit() fleet.Unit { return fields[c.index()].unit }

// Distribution: HAProxy keeps means and no distributions.
func (c *Config) Distribution() bool { return false }

// PerWorker reports whether the value rises as workers leave.
func (c *Config) PerWorker() bool { return fields[c.index()].perWorker }

// Windowed reports whether the value is taken over a window.
func (c *Config) Windowed() bool { return fields[c.index()].part != nil }

// index is the field's place in fields, 0 for one that is not known: Validate has refused it.
func (c *Config) index() int {
	for i := range fields {
		if fields[i].name == c.Field {
			return i
		}
	}
	return 0
}

// Validate reports every problem of the configuration.
func (c *Config) Validate() error {
	var errs config.FieldErrors
	if fields[c.index()].name != c.Field {
		names := make([]string, len(fields))
		for i := range fields {
			names[i] = fields[i].name
		}
		errs.Add("field", fmt.Sprintf("%q is unknown", c.Field), "write one of "+strings.Join(names, ", "))
	}
	return errs.Err()
}
