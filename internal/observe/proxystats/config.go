package proxystats

import (
	"fmt"
	"strings"

	"tidemark/internal/config"
	"tidemark/internal/fleet"
)

// Config says what a signal takes from the built-in proxy.
type Config struct {
	// Field is what is measured; see the package's doc.
	Field string `yaml:"field"`
	// Route leaves only requests of one of the proxy's own `routes`, written as there, or of "other".
	Route string `yaml:"route"`
	// Class leaves only requests of one of the proxy's own `classes`, or of "other".
	Class string `yaml:"class"`
}

// fields says of each field what it is.
var fields = []struct {
	name         string
	unit         fleet.Unit
	distribution bool // quantiles come from the source
	perWorker    bool // rises as workers leave
	fleetOnly    bool // not kept by route or class
}{
	{name: "latency", unit: fleet.Seconds, distribution: true, perWorker: true},
	{name: "queue_time", unit: fleet.Seconds, distribution: true, perWorker: true},
	{name: "service_time", unit: fleet.Seconds, distribution: true},
	{name: "busy", unit: fleet.Percent, perWorker: true, fleetOnly: true},
	{name: "in_flight", unit: fleet.Number},
	{name: "queued", unit: fleet.Number},
	{name: "rate", unit: fleet.Number},
	{name: "errors", unit: fleet.Percent},
	{name: "shed", unit: fleet.Number},
}

// DefaultConfig is the latency of all requests.
func DefaultConfig() Config { return Config{Field: "latency"} }

// Unit is the unit of the field.
func (c *Config) Unit() fleet.Unit { return fields[c.index()].unit }

// Distribution reports whether the source itself computes p50..p99 over the window.
func (c *Config) Distribution() bool { return fields[c.index()].distribution }

// PerWorker reports whether the value rises as workers leave.
func (c *Config) PerWorker() bool { return fields[c.index()].perWorker }

// Windowed reports whether the value is taken over a window; in_flight and queued are of the moment.
func (c *Config) Windowed() bool { return c.Field != "in_flight" && c.Field != "queued" }

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
	f := fields[c.index()]
	if f.name != c.Field {
		names := make([]string, len(fields))
		for i := range fields {
			names[i] = fields[i].name
		}
		errs.Add("field", fmt.Sprintf("%q is unknown", c.Field), "write one of "+strings.Join(names, ", "))
		return errs.Err()
	}
	if c.Route != "" && c.Route != "other" && !strings.HasPrefix(c.Route, "/") {
		errs.Add("route", fmt.Sprintf("%q is no route", c.Route), "write one of the proxy's routes, e.g. /api/mobile/sync, or other")
	}
	switch {
	case c.Route != "" && c.Class != "":
		errs.Add("class", "is given beside route; the proxy counts by one or the other", "delete one of them")
	case f.fleetOnly && c.Route != "":
		errs.Add("route", c.Field+" is of the whole fleet", "delete route")
	case f.fleetOnly && c.Class != "":
		errs.Add("class", c.Field+" is of the whole fleet", "delete class")
	}
	return errs.Err()
}
