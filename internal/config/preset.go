package config

import (
	"fmt"
	"reflect"
	"slices"
	"time"

	"go.yaml.in/yaml/v4"

	"tidemark/internal/decide/policy"
	"tidemark/internal/fleet"
)

// preset is one trigger of the requirements, with its thresholds. {preset: NAME, signal: SIGNAL} in a policy stands for the policy written
// out, and that is what Effective shows.
type preset struct {
	name   string
	id     string // of the policy
	signal string // what such a signal looks like
	unit   fleet.Unit
	q      float64 // of the signal's statistic; 0: any
	window time.Duration
	up     ruleSpec // no operator: there is none
	down   ruleSpec
	guard  string // what it guards: it is no policy then, and up says when
}

const atLeast, atMost = operator(fleet.AtLeast), operator(fleet.AtMost)

func when(operator operator, threshold literal, change, m, n int) ruleSpec {
	return ruleSpec{Operator: operator, Threshold: threshold, ScaleChange: change, DatapointsToAlarm: m, EvaluationPeriods: n}
}

// presets are the requirements' "Auto Scaling Trigger Metrics". Where they give no periods, those of the CPU are taken.
var presets = []preset{
	{
		name: "odoo_cpu", id: "odoo-worker-cpu-scaling-policy", signal: "{procfs: {field: cpu}}", unit: fleet.Percent,
		up: when(atLeast, "70%", +1, 2, 3), down: when(atMost, "30%", -1, 4, 5),
	},
	{
		name: "odoo_memory", id: "odoo-worker-memory-scaling-policy", signal: "{procfs: {field: memory_used_percent}}", unit: fleet.Percent,
		up: when(atLeast, "80%", +1, 2, 2), down: when(atMost, "40%", -1, 2, 2),
	},
	{
		name: "api_latency", id: "odoo-worker-api-latency-scaling-policy", unit: fleet.Seconds, q: 0.95, window: 5 * time.Minute,
		signal: "{access_log: {path: /var/log/nginx/access.log, route: /api/mobile/sync}, statistic: p95, window: 5m}",
		up:     when(atLeast, "400ms", +1, 2, 2),
	},
	{
		name: "queue_length", id: "queue-length-scaling-policy", signal: "{postgres: {dsn: \"${PG_DSN}\", preset: odoo_queue_job, field: runnable}}",
		up: when(atLeast, "100", +1, 2, 3), down: when(atMost, "10", -1, 4, 5),
	},
	{
		name: "queue_age", id: "queue-age-scaling-policy", signal: "{postgres: {dsn: \"${PG_DSN}\", preset: odoo_queue_job, field: oldest_age}}", unit: fleet.Seconds,
		up: when(atLeast, "300s", +1, 2, 3),
	},
	{
		name: "sync_sessions", id: "sync-sessions-scaling-policy", signal: "{http: {url: http://127.0.0.1:8069/metrics, metric: active_mobile_sync_sessions}}",
		up: when(atLeast, "40", +1, 2, 3), down: when(atMost, "10", -1, 4, 5),
	},
	{name: "pool_utilization", guard: "the database's connections", unit: fleet.Percent, up: ruleSpec{Operator: atLeast, Threshold: "80%"}},
	{name: "pool_waiting", guard: "the database's connections", up: ruleSpec{Operator: atLeast, Threshold: "5"}},
	{name: "disk_queue", guard: "the database's disk", up: ruleSpec{Operator: atLeast, Threshold: "10"}},
	{name: "disk_latency", guard: "the database's disk", unit: fleet.Seconds, up: ruleSpec{Operator: atLeast, Threshold: "20ms"}},
}

// fromPreset is a policy that is written by the name of a preset.
type fromPreset struct {
	Preset    string       `yaml:"preset,required" example:"odoo_cpu"`
	Signal    string       `yaml:"signal,required" example:"cpu"`
	ID        string       `yaml:"id"`
	Mode      mode         `yaml:"mode"`
	ScaleUp   overrideSpec `yaml:"scale_up"`
	ScaleDown overrideSpec `yaml:"scale_down"`
}

// overrideSpec is what of a preset's rule may be written otherwise.
type overrideSpec struct {
	Threshold         literal `yaml:"threshold"`
	ScaleChange       int     `yaml:"scale_change"`
	EvaluationPeriods int     `yaml:"evaluation_periods"`
	DatapointsToAlarm int     `yaml:"datapoints_to_alarm"`
	MissingData       missing `yaml:"missing_data"`
}

// decode reads a policy as it stands, or writes out the preset that it names.
func (p *policySpec) decode(d *decoder, path string, n *yaml.Node) {
	named := func(key string) *yaml.Node {
		for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == key {
				return n.Content[i+1]
			}
		}
		return nil
	}
	name := named("preset")
	if name == nil {
		d.decodeStruct(path, n, reflect.ValueOf(p).Elem())
		return
	}
	defer func() {
		if len(p.Rules) == 0 { // one mistake, one message
			d.distrust(path + ".id")
			d.distrust(path + ".rules")
		}
	}()
	if named("rules") != nil {
		d.fail(path+".rules", "stand beside a preset, which has rules of its own", "write scale_up: {threshold: ...} or scale_down: {...} to change them, or delete preset")
		return
	}
	i := slices.IndexFunc(presets, func(x preset) bool { return x.name == name.Value })
	w := fromPreset{Mode: p.Mode}
	if i >= 0 {
		w.ID, w.ScaleUp, w.ScaleDown = presets[i].id, presets[i].up.override(), presets[i].down.override()
	}
	d.decodeStruct(path, n, reflect.ValueOf(&w).Elem())
	if !d.ok(path + ".preset") {
		return
	}
	if i < 0 {
		var known []string
		for _, x := range presets {
			if x.guard == "" {
				known = append(known, x.name)
			}
		}
		_, err := oneOf("preset of a policy", w.Preset, known)
		d.failWith(path+".preset", err)
		return
	}
	presets[i].writeOut(d, path, &w, p)
}

func (s ruleSpec) override() overrideSpec {
	return overrideSpec{s.Threshold, s.ScaleChange, s.EvaluationPeriods, s.DatapointsToAlarm, s.MissingData}
}

// writeOut writes the policy that the preset stands for, and notes of each setting where it comes from.
func (x *preset) writeOut(d *decoder, path string, w *fromPreset, p *policySpec) {
	if x.guard != "" {
		d.fail(path+".preset", fmt.Sprintf("%s guards %s, which more workers load further: it never adds any", x.name, x.guard), "write it as a guard: "+guardOf(w.Signal, x.up))
		return
	}
	p.ID, p.Mode, p.preset = w.ID, w.Mode, x
	note := "preset " + x.name
	if !d.written(path + ".id") {
		d.given[path+".id"] = note
	}
	for _, side := range []struct {
		name  string
		rule  ruleSpec
		other overrideSpec
	}{{"scale_up", x.up, w.ScaleUp}, {"scale_down", x.down, w.ScaleDown}} {
		if side.rule.ScaleChange == 0 {
			if d.written(path + "." + side.name) {
				d.fail(path+"."+side.name, x.name+" has no such rule", "delete it, or write a policy with rules of your own")
			}
			continue
		}
		at := fmt.Sprintf("%s.rules.%d", path, len(p.Rules))
		p.Rules = append(p.Rules, ruleSpec{
			Signal: w.Signal, Operator: side.rule.Operator, Threshold: side.other.Threshold, ScaleChange: side.other.ScaleChange,
			EvaluationPeriods: side.other.EvaluationPeriods, DatapointsToAlarm: side.other.DatapointsToAlarm, MissingData: side.other.MissingData,
		})
		for _, f := range fields(reflect.TypeFor[ruleSpec]()) {
			from := join(join(path, side.name), f.name)
			if f.name == "signal" {
				from = path + ".signal"
			}
			d.given[join(at, f.name)] = note
			if written, ok := d.places[from]; ok {
				d.places[join(at, f.name)] = written
			}
			if !d.ok(from) {
				d.failed[join(at, f.name)] = true
			}
		}
	}
}

// suits checks that a policy's signal is what its preset is written for. What is wrong with the signal itself is said elsewhere.
func (r *resolver) suits(path string, s *policySpec) bool {
	x := s.preset
	if x == nil || !r.ok(path+".signal") {
		return true
	}
	i := slices.IndexFunc(r.out.Signals, func(sig policy.Signal) bool { return sig.Name == s.Rules[0].Signal })
	if i < 0 || !r.ok(r.at("signals.%s", r.out.Signals[i].Name)) {
		return true
	}
	sig := r.out.Signals[i]
	if sig.Unit != x.unit {
		r.fail(path+".signal", fmt.Sprintf("%s is measured in %s, and %s is for a signal in %s", sig.Name, sig.Unit, x.name, x.unit), "take one such as "+x.signal)
		return false
	}
	if x.q > 0 && (sig.Q != x.q || sig.Window != x.window) {
		r.warn(path+".signal", fmt.Sprintf("%s is written for p%.0f over %s, and %s is another statistic or over another window", x.name, 100*x.q, formatDuration(x.window), sig.Name),
			fmt.Sprintf("write statistic: p%.0f, window: %s there", 100*x.q, formatDuration(x.window)))
	}
	return true
}

// Dependency is for a SignalBody that may measure what workers depend on and load, such as the database.
type Dependency interface {
	// Dependency says what that is; empty: nothing of that kind. No rule on such a signal may add workers: they would make it worse.
	Dependency() string
}

// dependency says what signal i measures of what workers load. A derived signal does if all that it is computed from does.
func (r *resolver) dependency(i int) string {
	if d, ok := r.spec.Signals[i].Source.Body.(Dependency); ok {
		return d.Dependency()
	}
	of := ""
	for _, input := range r.inputs[i] {
		if of = r.dependency(input); of == "" {
			return ""
		}
	}
	return of
}

// harm refuses a rule that would add workers because of what workers load.
func (r *resolver) harm(path string, s *ruleSpec, rule policy.Rule) {
	if rule.Signal < 0 || !rule.Out() || !r.ok(path+".scale_change") {
		return
	}
	if of := r.dependency(rule.Signal); of != "" {
		r.fail(path+".scale_change", fmt.Sprintf("%s is of %s, which more workers load further: no rule on it may add any", s.Signal, of),
			"write a guard, which keeps workers from being added: "+guardOf(s.Signal, *s))
	}
}

// guardOf is how a guard is written.
func guardOf(signal string, when ruleSpec) string {
	sign, _ := when.Operator.MarshalText()
	return fmt.Sprintf("safeguards: {guards: {%s: {signal: %s, operator: %q, threshold: %s}}}", signal, signal, sign, when.Threshold)
}
