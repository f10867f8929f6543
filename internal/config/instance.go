package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"tidemark/internal/decide/schedule"
)

// Instance says which installation this is, where it runs and what it is meant to do. What it says is shown with status, kept with
// the event of each start, and used as the fields say.
type Instance struct {
	Name     string            `yaml:"name"`
	Country  string            `yaml:"country"`
	TimeZone string            `yaml:"time_zone"` // IANA name; local times in the file are in it
	Tags     map[string]string `yaml:"tags"`
	Zone     *time.Location    `yaml:"-"`

	Hosting        hosting       `yaml:"hosting"`
	Region         string        `yaml:"region"`
	ResourceGroup  string        `yaml:"resource_group"`
	NetworkSegment string        `yaml:"network_segment"`
	InstanceTypes  InstanceTypes `yaml:"instance_types"`
	// ScalingMode is hybrid: workers follow their policies, the database is sized by hand. Each fleet is then checked for a guard of
	// the database.
	ScalingMode string `yaml:"scaling_mode"`
	// DefaultTimeout is how long a request may take; balancers that say none take it, and thresholds are checked against it.
	DefaultTimeout time.Duration    `yaml:"default_timeout"`
	LoggingLevel   loggingLevel     `yaml:"logging_level"`
	Cost           CostOptimization `yaml:"cost_optimization"`
	Targets        Targets          `yaml:"performance_targets"`
	Holidays       []string         `yaml:"holidays"` // of the country, for the schedules of fleets
	Quota          Quota            `yaml:"quota"`
}

// InstanceTypes are what the machines are called where they are rented or bought.
type InstanceTypes struct {
	Workers  string `yaml:"workers"`
	Database string `yaml:"database"`
}

func (t InstanceTypes) absent() bool { return t == InstanceTypes{} }

// CostOptimization says how the machines are paid for.
type CostOptimization struct {
	SpotInstances     bool    `yaml:"spot_instances"`
	SpotPercentage    float64 `yaml:"spot_percentage,percent"`
	ReservedInstances bool    `yaml:"reserved_instances_planned"` // for the sum of the fleets' minimum
}

func (c CostOptimization) absent() bool { return c == CostOptimization{} }

// Targets are what the service is held to. 0 is none.
type Targets struct {
	P95          time.Duration `yaml:"response_time_p95"`
	Throughput   float64       `yaml:"throughput"` // requests a second
	Availability float64       `yaml:"availability,percent"`
}

func (t Targets) absent() bool { return t == Targets{} }

// Quota is what all fleets together may have.
type Quota struct {
	Workers int `yaml:"workers,required" example:"12"` // 0: no quota
}

func (q Quota) absent() bool { return q == Quota{} }

type hosting string

var hostings = []string{"government_data_centre", "cloud", "hybrid"}

func (h *hosting) UnmarshalText(b []byte) error {
	i, err := oneOf("kind of hosting", string(b), hostings)
	*h = hosting(hostings[i])
	return err
}

type loggingLevel string

// LogTroubleOnly: the daemon's log leaves out what went as it should.
const LogTroubleOnly = "warning"

var loggingLevels = []string{"info", LogTroubleOnly}

func (l *loggingLevel) UnmarshalText(b []byte) error {
	i, err := oneOf("logging level", strings.ToLower(string(b)), loggingLevels)
	*l = loggingLevel(loggingLevels[i])
	return err
}

const hybridMode = "hybrid"

// instead says where what the requirements put among the settings of an instance is written here.
var instead = map[string]string{
	"notification_endpoint":      "name the channel under notify",
	"min_instances":              "write bounds: {min: 2, max: 10} in the fleet",
	"max_instances":              "write bounds: {min: 2, max: 10} in the fleet",
	"instance_type":              "write instance_types: {workers: ..., database: ...}",
	"vpc_id":                     "write network_segment",
	"enable_detailed_monitoring": "every signal is read at each tick, and retention.raw says how long that is kept: set tick and retention",
	"detailed_monitoring":        "every signal is read at each tick, and retention.raw says how long that is kept: set tick and retention",
	"scaling_enabled":            "write environment, or mode in the fleet",
	"aggressiveness":             "write environment: production is moderate, staging conservative",
	"cost_priority":              "write environment: production is balanced, staging cost-optimized",
}

// settle checks what an instance says of itself.
func (d *decoder) settle(in *Instance) {
	for i, text := range in.Holidays {
		if at := fmt.Sprintf("instance.holidays.%d", i); d.ok(at) {
			if _, err := schedule.ParseHolidays([]string{text}); err != nil {
				d.failSchedule(at, err)
			}
		}
	}
	if d.ok("instance.holidays") {
		d.holidays, _ = schedule.ParseHolidays(in.Holidays) // each was read above
	}
	if at := "instance.scaling_mode"; d.ok(at) && d.written(at) && in.ScalingMode != hybridMode {
		fix := "write hybrid: workers by their policies, the database by hand"
		switch in.ScalingMode {
		case "manual":
			fix = "write mode: shadow in each fleet: what would be done is recorded, and an operator does it"
		case "auto", "automatic":
			fix = "Tidemark does not resize a database; " + fix
		}
		d.fail(at, fmt.Sprintf("%q does nothing here", in.ScalingMode), fix)
	}
	d.between("instance.default_timeout", in.DefaultTimeout, time.Second, time.Hour)
	if c := in.Cost; c.SpotInstances || c.SpotPercentage > 0 {
		at := "instance.cost_optimization.spot_instances"
		if !c.SpotInstances {
			at = "instance.cost_optimization.spot_percentage"
		}
		if d.ok(at) {
			d.fail(at, "Tidemark scales the workers on machines that are there, and rents none: a spot machine that is taken back takes its workers with it", "write false and 0%, and leave spot machines to the provider's own scaling group")
		}
	}
	t := in.Targets
	if at := "instance.performance_targets.response_time_p95"; d.ok(at, "instance.default_timeout") && t.P95 > in.DefaultTimeout {
		d.fail(at, fmt.Sprintf("%s is longer than default_timeout, %s, after which requests have failed", formatDuration(t.P95), formatDuration(in.DefaultTimeout)), "write 500ms")
	}
	if at := "instance.performance_targets.throughput"; d.ok(at) && t.Throughput < 0 {
		d.fail(at, "is below 0", "write requests a second, such as 50")
	}
	if at := "instance.performance_targets.availability"; d.ok(at) && t.Availability != 0 && (t.Availability < 50 || t.Availability >= 100) {
		d.fail(at, fmt.Sprintf("%g %% is not from 50 to below 100 %%", t.Availability), "write 99.5%")
	}
	if at := "instance.quota.workers"; d.written("instance.quota") && d.ok(at) && in.Quota.Workers < 1 {
		d.fail(at, fmt.Sprintf("%d is no quota", in.Quota.Workers), "write the most workers that all fleets together may have")
	}
}

// quota checks the quota and the priorities against the fleets.
func (d *decoder) quota(s *spec) {
	least, most := 0, 0
	for i := range s.Fleets {
		f, path := &s.Fleets[i], fmt.Sprintf("fleets.%d", i)
		if !d.ok(path + ".bounds") {
			return
		}
		least, most = least+f.Bounds.Min, most+f.Bounds.Max
		d.priority(f, path)
		if at := path + ".scaling_priority"; d.ok(at) && d.written(at) && len(s.Fleets) == 1 && !s.ScalingPolicies.Wanted() {
			d.warn(at, "there is no other fleet that could go before or after", "delete it")
		}
	}
	switch n, at := s.Instance.Quota.Workers, "instance.quota.workers"; {
	case !d.written("instance.quota") || !d.ok(at):
	case n < least:
		d.fail(at, fmt.Sprintf("%d is less than the minima of the fleets together, %d", n, least), fmt.Sprintf("write %d or more, or lower bounds.min", least))
	case n >= most && !s.ScalingPolicies.Wanted():
		d.warn(at, fmt.Sprintf("%d is not less than the maxima of the fleets together, %d, so it changes nothing", n, most), fmt.Sprintf("write less than %d, or delete it", most))
	}
}

func (d *decoder) priority(f *fleetSpec, path string) {
	if at := path + ".scaling_priority"; d.ok(at) && (f.ScalingPriority < 1 || f.ScalingPriority > 9) {
		d.fail(at, fmt.Sprintf("%d is out of range", f.ScalingPriority), "write 1 (goes first) to 9")
	}
}

// TimedOut is for a Body that gives requests a time-out: the instance's takes the place of its own default.
type TimedOut interface {
	// TimeoutOfRequests is the setting's name, and where it is kept.
	TimeoutOfRequests() (setting string, value *time.Duration)
}

// timeouts gives balancers the instance's time-out, and checks thresholds and targets against each other.
func (r *resolver) timeouts(in *Instance) {
	if b, ok := r.spec.Balancer.Body.(TimedOut); ok && r.written("instance.default_timeout") && r.ok("instance.default_timeout") {
		setting, value := b.TimeoutOfRequests()
		if at := r.at("balancer.%s.%s", r.spec.Balancer.Kind, setting); !r.written(at) {
			*value = in.DefaultTimeout
			r.given[at] = "instance.default_timeout"
		}
	}
	for i := range r.out.Policies {
		for j, rule := range r.out.Policies[i].Rules {
			at := r.at("policies.%d.rules.%d.threshold", i, j)
			if rule.Signal < 0 || !rule.Out() || !r.ok(at, "instance") || !r.out.Signals[rule.Signal].FromSource {
				continue
			}
			threshold := time.Duration(rule.Threshold * float64(time.Second))
			switch target := in.Targets.P95; {
			case threshold >= in.DefaultTimeout:
				r.warn(at, fmt.Sprintf("requests have failed after %s (instance.default_timeout), before this is reached", formatDuration(in.DefaultTimeout)), "write less")
			case target > 0 && threshold >= target:
				r.warn(at, fmt.Sprintf("this scales out when the target of %s (instance.performance_targets) is already missed", formatDuration(target)), "write less, such as "+formatDuration(target*8/10))
			}
		}
	}
}

// Fact is one thing that an installation says of itself.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Identity is what the installation says of itself, for the head of a status or a report: what is written, in the order of the file.
func (c *Config) Identity() []Fact {
	in := &c.Instance
	var out []Fact
	add := func(name, value string) {
		if value != "" {
			out = append(out, Fact{name, value})
		}
	}
	add("environment", c.spec.Environment.title())
	add("country", in.Country)
	add("hosting", strings.ReplaceAll(string(in.Hosting), "_", " "))
	add("region", in.Region)
	add("resource group", in.ResourceGroup)
	add("network segment", in.NetworkSegment)
	add("workers on", in.InstanceTypes.Workers)
	add("database on", in.InstanceTypes.Database)
	add("scaling", "workers by their policies, the database by hand")
	if in.Cost.ReservedInstances {
		least := 0
		for i := range c.Fleets {
			least += c.Fleets[i].Policy.Bounds.Min
		}
		add("reserved capacity planned for", fmt.Sprintf("%d workers, the minima of all fleets", least))
	}
	var targets []string
	if t := in.Targets; t != (Targets{}) {
		for _, s := range []struct {
			there bool
			text  string
		}{
			{t.P95 > 0, "p95 " + formatDuration(t.P95)}, {t.Throughput > 0, fmt.Sprintf("%g requests/s", t.Throughput)}, {t.Availability > 0, fmt.Sprintf("%g %% available", t.Availability)},
		} {
			if s.there {
				targets = append(targets, s.text)
			}
		}
	}
	add("targets", strings.Join(targets, ", "))
	if in.Quota.Workers > 0 {
		add("quota", fmt.Sprintf("%d workers", in.Quota.Workers))
	}
	for _, k := range slices.Sorted(maps.Keys(in.Tags)) {
		add(k, in.Tags[k])
	}
	return out
}
