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
	Tick        time.Duration `yaml:"tick"`
	Retention   Retention     `yaml:"retention"`
	Push        Push          `yaml:"push"`
	Notify      notifySpecs   `yaml:"notify"`
	Alerts      alert.Rules   `yaml:"alerts"`
	Fleets      []fleetSpec   `yaml:"fleets,required" example:"with an entry for each fleet"`
}

type fleetSpec struct {
	Name       string         `yaml:"name,required" example:"odoo-workers"`
	Mode       mode           `yaml:"mode"`
	Target     target         `yaml:"target,required" example:"{prefork: {flavour: odoo, pid_file: /run/odoo/odoo.pid}}"`
	Balancer   balancer       `yaml:"balancer"`
	Bounds     boundsSpec     `yaml:"bounds,required" example:"{min: 2, max: 10}"`
	Signals    signalSpecs    `yaml:"signals"`
	Policies   []policySpec   `yaml:"policies"`
	Safeguards safeguardsSpec `yaml:"safeguards"`
	Schedule   []windowSpec   `yaml:"schedule"`

	ScalingPriority int `yaml:"scaling_priority"`
}

type boundsSpec struct {
	Min int `yaml:"min,required" example:"2"`
	Max int `yaml:"max,required" example:"10"`
}

type policySpec struct {
	ID    string     `yaml:"id,required" example:"odoo-worker-cpu-scaling-policy"`
	Mode  mode       `yaml:"mode"`
	Rules []ruleSpec `yaml:"rules,required" example:"with at least one entry"`

	preset *preset // that it was written by; nil: by its rules
}

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
		Retention:   Retention{Raw: 7 * day, Minutes: 90 * day, Hours: 5 * 365 * day, Decisions: 400 * day, MaxBytes: 2 << 30},
		Alerts:      alert.DefaultRules(),
	}
}

func (f *fleetSpec) setDefaults() {
	f.ScalingPriority = 5
	f.Safeguards.ActionTimeout = 3 * time.Minute // what else there is by default is the environment's
	f.Safeguards.Budget = budgetSpec{Currency: "USD", OnExceed: tellOfIt}
}

func (p *policySpec) setDefaults() { p.Mode = mode(fleet.On) }

func (r *ruleSpec) setDefaults() { r.EvaluationPeriods = 3 }
