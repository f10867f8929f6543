package config

import (
	"fmt"
	"maps"
	"slices"

	"tidemark/internal/decide/policy"
	"tidemark/internal/fleet"
)

type guardSpec struct {
	Preset            string     `yaml:"preset"`
	Protects          protects   `yaml:"protects"`
	Signal            string     `yaml:"signal,required" example:"pool_waiting"`
	Operator          operator   `yaml:"operator"`
	Threshold         literal    `yaml:"threshold"`
	Release           literal    `yaml:"release"` // default: threshold
	EvaluationPeriods int        `yaml:"evaluation_periods"`
	DatapointsToAlarm int        `yaml:"datapoints_to_alarm"`
	When              []whenSpec `yaml:"when"`
}

// whenSpec is a further condition, of the same evaluation as its guard.
type whenSpec struct {
	Signal    string   `yaml:"signal,required" example:"cpu"`
	Operator  operator `yaml:"operator"`
	Threshold literal  `yaml:"threshold"`
}

type connectionsSpec struct {
	Free      []string `yaml:"free"`
	PerWorker float64  `yaml:"per_worker"`
	Reserve   float64  `yaml:"reserve"`
}

func (c connectionsSpec) absent() bool { return c.Free == nil }

type memorySpec struct {
	Available string  `yaml:"available"`
	Reserve   int64   `yaml:"reserve,bytes"`
	PerWorker literal `yaml:"per_worker"` // bytes, or the signal of what all workers take
}

func (m memorySpec) absent() bool { return m.Available == "" }

type protects policy.Protected

// protectsNames are in the order of policy.Protected.
var protectsNames = []string{"other", "database", "host_cpu"}

func (p protects) MarshalText() ([]byte, error) { return []byte(protectsNames[p]), nil }
func (p *protects) UnmarshalText(b []byte) error {
	i, err := oneOf("thing that a guard protects", string(b), protectsNames)
	*p = protects(i)
	return err
}

// guardPreset is a guard of the requirements: all but which signal is meant.
type guardPreset struct {
	protects  policy.Protected
	operator  fleet.Operator
	threshold literal
	when      *presetWhen
}

// presetWhen says of which signal the condition is meant to be, and what it is.
type presetWhen struct {
	about     string
	operator  fleet.Operator
	threshold literal
}

var guardPresets = map[string]guardPreset{
	"pool_waiting":     {policy.ProtectsDatabase, fleet.AtLeast, "5", nil},
	"pool_utilization": {policy.ProtectsDatabase, fleet.AtLeast, "80%", nil},
	"disk_queue":       {policy.ProtectsDatabase, fleet.AtLeast, "10", nil},
	"disk_latency":     {policy.ProtectsDatabase, fleet.AtLeast, "20ms", nil},
	"lock_waits":       {policy.ProtectsDatabase, fleet.AtLeast, "3", &presetWhen{"the workers' CPU", fleet.Below, "50%"}},
	"database_latency": {policy.ProtectsDatabase, fleet.AtLeast, "100ms", &presetWhen{"the workers' CPU", fleet.Below, "50%"}},
	"host_cpu":         {policy.ProtectsHostCPU, fleet.AtLeast, "95%", &presetWhen{"the workers' CPU", fleet.AtLeast, "70%"}},
}

// guards resolves the guards, in the order of their names.
func (r *resolver) guards() {
	all := r.spec.Safeguards.Guards
	for _, name := range slices.Sorted(maps.Keys(all)) {
		path := r.at("safeguards.guards.%s", name)
		if msg := unfitName(name); msg != "" {
			r.fail(path, msg, "use small letters, digits, - and _, and begin with a letter")
		}
		s := all[name]
		if g, ok := r.guard(path, name, &s); ok {
			r.out.Guards = append(r.out.Guards, g)
		}
		all[name] = s
	}
}

func (r *resolver) guard(path, name string, s *guardSpec) (policy.Guard, bool) {
	p, known := r.guardPreset(path, s)
	if s.Preset != "" && !known {
		return policy.Guard{}, false
	}
	fill := func(field string, set func(), has bool) {
		switch at := path + "." + field; {
		case r.written(at):
		case known && has:
			set()
			r.given[at] = "preset " + s.Preset
		case field != "protects":
			r.fail(at, "is missing", map[string]string{"operator": `write operator: ">="`, "threshold": "write threshold: 5, or name a preset"}[field])
		}
	}
	fill("protects", func() { s.Protects = protects(p.protects) }, true)
	fill("operator", func() { s.Operator = operator(p.operator) }, true)
	fill("threshold", func() { s.Threshold = p.threshold }, true)
	r.fillCount(path+".evaluation_periods", &s.EvaluationPeriods, 3)
	r.fillCount(path+".datapoints_to_alarm", &s.DatapointsToAlarm, 1)
	if r.ok(path+".evaluation_periods", path+".datapoints_to_alarm") && s.DatapointsToAlarm > s.EvaluationPeriods {
		r.fail(path+".datapoints_to_alarm", fmt.Sprintf("%d is more than evaluation_periods, %d, so it never holds", s.DatapointsToAlarm, s.EvaluationPeriods), fmt.Sprintf("write %d or less", s.EvaluationPeriods))
	}
	g := policy.Guard{Name: name, Protects: policy.Protected(s.Protects)}
	first := policy.Rule{Operator: fleet.Operator(s.Operator), N: s.EvaluationPeriods, M: s.DatapointsToAlarm}
	if !r.condition(path, s.Signal, s.Threshold, &first) {
		return g, false
	}
	g.If = []policy.Condition{{Rule: first, Release: r.release(path, s, first)}}
	if known && p.when != nil && len(s.When) == 0 {
		r.fail(path+".when", fmt.Sprintf("is missing, and the preset %s counts only with %s", s.Preset, p.when.about), "write when: [{signal: cpu}], with the signal of "+p.when.about)
		return g, false
	}
	for i := range s.When {
		w, at := &s.When[i], fmt.Sprintf("%s.when.%d", path, i)
		if known && p.when != nil && i == 0 {
			if !r.written(at + ".operator") {
				w.Operator = operator(p.when.operator)
				r.given[at+".operator"] = "preset " + s.Preset
			}
			if !r.written(at + ".threshold") {
				w.Threshold = p.when.threshold
				r.given[at+".threshold"] = "preset " + s.Preset
			}
		}
		cond := policy.Rule{Operator: fleet.Operator(w.Operator), N: first.N, M: first.M}
		if !r.condition(at, w.Signal, w.Threshold, &cond) {
			return g, false
		}
		g.If = append(g.If, policy.Condition{Rule: cond, Release: cond.Threshold})
	}
	return g, r.ok(path)
}

// guardPreset finds the preset of a guard.
func (r *resolver) guardPreset(path string, s *guardSpec) (guardPreset, bool) {
	if s.Preset == "" {
		return guardPreset{}, false
	}
	p, ok := guardPresets[s.Preset]
	if !ok {
		_, err := oneOf("preset", s.Preset, slices.Sorted(maps.Keys(guardPresets)))
		r.failWith(path+".preset", err)
	}
	return p, ok
}

// fillCount gives a count its default and checks it.
func (r *resolver) fillCount(path string, v *int, usual int) {
	if !r.written(path) {
		*v = usual
		return
	}
	r.count(path, *v, 1440)
}

// condition resolves signal, operator and threshold.
func (r *resolver) condition(path, signal string, threshold literal, out *policy.Rule) bool {
	out.Signal = -1
	if r.ok(path + ".signal") {
		out.Signal = r.signalIndex(path+".signal", signal)
	}
	if out.Operator == fleet.NoOperator && r.ok(path+".operator") {
		r.fail(path+".operator", "is missing", `write operator: ">="`)
	}
	if threshold == "" && r.ok(path+".threshold") {
		r.fail(path+".threshold", "is missing", "write threshold: with its unit")
	}
	if out.Signal < 0 || !r.ok(path+".operator", path+".threshold") {
		return false
	}
	r.watching = append(r.watching, out.Signal)
	r.threshold(path+".threshold", string(threshold), out)
	return r.ok(path + ".threshold")
}

// release is the threshold while the guard holds: on the quiet side of the other, or equal to it.
func (r *resolver) release(path string, s *guardSpec, first policy.Rule) float64 {
	at := path + ".release"
	if !r.written(at) {
		s.Release = s.Threshold
		r.given[at] = "default: threshold"
		return first.Threshold
	}
	rule := policy.Rule{Signal: first.Signal}
	r.threshold(at, string(s.Release), &rule)
	if r.ok(at) && rule.Threshold != first.Threshold && first.Operator.Holds(rule.Threshold, first.Threshold) {
		r.fail(at, fmt.Sprintf("%s lies beyond the threshold, %s, so the guard would let go while it should hold", s.Release, s.Threshold), "write one on the other side of it, or leave it out")
	}
	return rule.Threshold
}

// supplies resolves the budgets of connections and of the host's memory.
func (r *resolver) supplies() {
	c, at := &r.spec.Safeguards.Connections, r.at("safeguards.connections")
	if r.written(at) && r.ok(at) {
		s := policy.Supply{Resource: policy.Connections, Reserve: c.Reserve, PerWorker: c.PerWorker}
		if len(c.Free) == 0 {
			r.fail(at+".free", "is missing", "write free: [pg_free] with signals of the connections that are free (postgres: {field: connections_free})")
		}
		for i, name := range c.Free {
			s.Free = append(s.Free, r.measure(fmt.Sprintf("%s.free.%d", at, i), name, fleet.Number))
		}
		if !r.written(at + ".per_worker") {
			c.PerWorker, s.PerWorker = 2, 2
		} else if r.ok(at+".per_worker") && c.PerWorker <= 0 {
			r.fail(at+".per_worker", fmt.Sprintf("%g connections take no room", c.PerWorker), "write 2: an Odoo worker holds 1 or 2")
		}
		if r.ok(at+".reserve") && c.Reserve < 0 {
			r.fail(at+".reserve", "is below 0", "write how many connections are kept for administrators, such as 5")
		}
		if r.ok(at) {
			r.out.Supplies = append(r.out.Supplies, s)
		}
	}
	m, at := &r.spec.Safeguards.HostMemory, r.at("safeguards.host_memory")
	if !r.written(at) || !r.ok(at) {
		return
	}
	s := policy.Supply{Resource: policy.HostMemory}
	if m.Available == "" {
		r.fail(at+".available", "is missing", "write available: memory_available, with the signal of the host's available memory (procfs: {field: memory_available})")
	} else {
		s.Free = []int{r.measure(at+".available", m.Available, fleet.Bytes)}
	}
	if !r.written(at + ".reserve") {
		m.Reserve = 512 << 20
	} else if r.ok(at+".reserve") && m.Reserve < 0 {
		r.fail(at+".reserve", "is below 0", "write what is kept for the database and the system, such as 512MiB")
	}
	s.Reserve = float64(m.Reserve)
	switch n, err := parseBytes(string(m.PerWorker)); {
	case m.PerWorker == "":
		r.fail(at+".per_worker", "is missing", "write 150MiB, or the signal of what the workers take together (procfs: {field: memory_pss})")
	case err == nil && n > 0:
		s.PerWorker = float64(n)
	case err == nil || m.PerWorker[0] >= '0' && m.PerWorker[0] <= '9':
		if err == nil {
			err = wrong("write what a worker takes, such as 150MiB", "%s takes no room", m.PerWorker)
		}
		r.failWith(at+".per_worker", err)
	default:
		s.Taken = r.measure(at+".per_worker", string(m.PerWorker), fleet.Bytes)
	}
	if r.ok(at) {
		r.out.Supplies = append(r.out.Supplies, s)
	}
}

// measure finds a signal that a budget needs, in its unit.
func (r *resolver) measure(path, name string, unit fleet.Unit) int {
	if !r.ok(path) {
		return -1
	}
	i := r.signalIndex(path, name)
	if i < 0 {
		return i
	}
	r.watching = append(r.watching, i)
	if is := r.out.Signals[i].Unit; is != unit && r.ok(r.at("signals.%s", name)) {
		r.fail(path, fmt.Sprintf("%s is measured in %s, and %s is needed", name, is, unit), "name another signal")
	}
	return i
}

// hybrid warns of a database that is sized by hand and that nothing keeps new workers from overrunning.
func (r *resolver) hybrid(in *Instance) {
	if !r.ok(r.at("safeguards"), r.at("bounds"), "instance.scaling_mode") || !r.written("instance.scaling_mode") {
		return
	}
	guarded := slices.ContainsFunc(r.out.Supplies, func(s policy.Supply) bool { return s.Resource == policy.Connections })
	for _, g := range r.out.Guards {
		guarded = guarded || g.Protects == policy.ProtectsDatabase
	}
	if !guarded && r.out.Bounds.Max > r.out.Bounds.Min && in.ScalingMode == hybridMode {
		r.warn(r.at("safeguards"), "the database is sized by hand (scaling_mode: hybrid), and nothing keeps new workers from overrunning it", "add safeguards.connections, or a guard that protects the database")
	}
}
