package config

import (
	"time"

	"tidemark/internal/decide/alert"
	"tidemark/internal/fleet"
)

// spec is the file, field by field, with defaults. What it resolves to is Config.
type spec struct {
	Instance    Instance      `yaml:"instance"`
	Environment environment   `yaml:"environment"`
	StateDir    string        `yaml:"state_dir"`
	Socket      string        `yaml:"socket"`
	Listen      Listen        `yaml:"listen"`
	Tick        time.Duration `yaml:"tick"`
	Journal     Journal       `yaml:"journal"`
	Lease       Lease         `yaml:"lease"`
	Retention   Retention     `yaml:"retention"`
	Push        Push          `yaml:"push"`
	KEDA        KEDA          `yaml:"keda"`
	Notify      notifySpecs   `yaml:"notify"`
	Alerts      alert.Rules   `yaml:"alerts"`
	Report      Report        `yaml:"report"`
	Daemons     []Daemon      `yaml:"daemons"`

	ScalingPolicies ScalingPolicies `yaml:"scaling_policies"`
	Fleets          []fleetSpec     `yaml:"fleets"`
}

type fleetSpec struct {
	Name       string         `yaml:"name,required" example:"odoo-workers"`
	Mode       mode           `yaml:"mode"`
	Target     target         `yaml:"target,required" example:"{prefork: {flavour: odoo, pid_file: /run/odoo/odoo.pid}}"`
	Balancer   balancer       `yaml:"balancer"`
	Front      front          `yaml:"front"`
	Bounds     boundsSpec     `yaml:"bounds,required" example:"{min: 2, max: 10}"`
	Signals    signalSpecs    `yaml:"signals"`
	Policies   []policySpec   `yaml:"policies"`
	Safeguards safeguardsSpec `yaml:"safeguards"`
	Schedule   []windowSpec   `yaml:"schedule"`

	ScalingPriority int               `yaml:"scaling_priority"`
	Tags            map[string]string `yaml:"tags"`
}

type boundsSpec struct {
	Min int `yaml:"min,required" example:"2"`
	Max int `yaml:"max,required" example:"10"`
}

type policySpec struct {
	ID        string        `yaml:"id,required" example:"odoo-worker-cpu-scaling-policy"`
	Mode      mode          `yaml:"mode"`
	Rules     []ruleSpec    `yaml:"rules"`
	Objective objectiveSpec `yaml:"objective"`
	Demand    demandSpec    `yaml:"demand"`
	Workers   workersSpec   `yaml:"workers"`
	Forecast  forecastSpec  `yaml:"forecast"`

	preset *preset // that it was written by; nil: by its rules
}

// objectiveSpec is a service level, demandSpec what it is reckoned from, and workersSpec what is known of the workers.
type objectiveSpec struct {
	Signal string        `yaml:"signal,required" example:"sync_p95"`
	Within literal       `yaml:"within,required" example:"400ms"`
	Drain  time.Duration `yaml:"drain"`
	Settle time.Duration `yaml:"settle"`
	Pace   pace          `yaml:"pace"`
}

type demandSpec struct {
	Rate        string   `yaml:"rate,required" example:"rate"`
	ServiceTime []string `yaml:"service_time"` // its quantiles; or
	Busy        string   `yaml:"busy"`         // the workers that are busy
	Backlog     string   `yaml:"backlog"`
}

type workersSpec struct {
	Boot       time.Duration `yaml:"boot"`
	Contention float64       `yaml:"contention"`
	Coherence  float64       `yaml:"coherence"`
}

// forecastSpec looks ahead at a signal by the weeks before.
type forecastSpec struct {
	Signal    string        `yaml:"signal,required" example:"rate"`
	SizedBy   string        `yaml:"sized_by"`   // an objective's policy; or
	PerWorker float64       `yaml:"per_worker"` // what one worker carries
	Lead      time.Duration `yaml:"lead"`
	Weeks     int           `yaml:"weeks"`
}

// A block that is not there is not shown as if it were.
func (o objectiveSpec) absent() bool { return o.Signal == "" }
func (d demandSpec) absent() bool    { return d.Rate == "" }
func (w workersSpec) absent() bool   { return w == workersDefault }
func (f forecastSpec) absent() bool  { return f.Signal == "" }

var workersDefault = workersSpec{Boot: 30 * time.Second}

type ruleSpec struct {
	Signal            string   `yaml:"signal,required" example:"cpu"`
	Operator          operator `yaml:"operator,required" example:"\">=\""`
	Threshold         literal  `yaml:"threshold,required" example:"70"`
	ScaleChange       int      `yaml:"scale_change,required" example:"+1"`
	EvaluationPeriods int      `yaml:"evaluation_periods"`
	DatapointsToAlarm int      `yaml:"datapoints_to_alarm"` // default: evaluation_periods
	MissingData       missing  `yaml:"missing_data"`
}

type safeguardsSpec struct {
	Cooldown       cooldownSpec  `yaml:"cooldown"`
	Step           stepSpec      `yaml:"step"`
	MaxScalingRate rate          `yaml:"max_scaling_rate"`
	ActionTimeout  time.Duration `yaml:"action_timeout"`
	Freeze         []freezeSpec  `yaml:"freeze"`

	Guards      map[string]guardSpec `yaml:"guards"`
	Connections connectionsSpec      `yaml:"connections"`
	HostMemory  memorySpec           `yaml:"host_memory"`
	Budget      budgetSpec           `yaml:"budget"`
}

type cooldownSpec struct {
	ScaleUp   time.Duration `yaml:"scale_up"`
	ScaleDown time.Duration `yaml:"scale_down"`
}

type stepSpec struct {
	Up   int `yaml:"up"`
	Down int `yaml:"down"`
}

type freezeSpec struct {
	Name string  `yaml:"name,required" example:"elections"`
	From literal `yaml:"from,required" example:"2027-03-01 00:00"`
	To   literal `yaml:"to,required" example:"2027-03-02 00:00"`
}

// signalSpec stands beside the one key that names its source.
type signalSpec struct {
	Name       string
	Source     Adapter
	Statistic  statistic     `yaml:"statistic"`
	Period     time.Duration `yaml:"period"`
	Window     time.Duration `yaml:"window"`
	MinSamples int           `yaml:"min_samples"` // default: what the quantile needs
	Optional   bool          `yaml:"optional"`
	PerWorker  bool          `yaml:"per_worker"` // default: the source's own
}

func defaultSpec() spec {
	return spec{
		Instance:    Instance{Name: "tidemark", TimeZone: "UTC", ScalingMode: hybridMode, DefaultTimeout: 30 * time.Second, LoggingLevel: "info"},
		Environment: "production",
		StateDir:    "/var/lib/tidemark",
		Tick:        15 * time.Second,
		Journal:     Journal{Postgres: PostgresJournal{Schema: "tidemark"}},
		Retention:   Retention{Raw: 7 * day, Minutes: 90 * day, Hours: 5 * 365 * day, Decisions: 400 * day, MaxBytes: 2 << 30},
		Alerts:      alert.DefaultRules(),
		Report:      defaultReport,
	}
}

func (f *fleetSpec) setDefaults() {
	f.ScalingPriority = 5
	f.Safeguards.ActionTimeout = 3 * time.Minute // what else there is by default is the environment's
	f.Safeguards.Budget = budgetSpec{Currency: "USD", OnExceed: tellOfIt}
}

func (p *policySpec) setDefaults() {
	p.Mode = mode(fleet.On)
	p.Objective = objectiveSpec{Drain: 45 * time.Second, Settle: 7 * time.Minute}
	p.Workers = workersDefault
	p.Forecast = forecastSpec{Lead: 15 * time.Minute, Weeks: 2}
}

func (r *ruleSpec) setDefaults() { r.EvaluationPeriods = 3 }
