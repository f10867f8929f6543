// Package kubernetes reads figures of the pods that a label selector takes: what they use, from metrics.k8s.io (metrics-server), and how
// they are, from the pods themselves. It owns what these figures mean; kubeapi owns the exchange.
//
// Use is that of the pods that are ready, and of those only that were measured: a pod that has just become ready is measured by
// metrics-server within a minute or so. Pods of which that is not true make the figure missing, never smaller.
package kubernetes

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"tidemark/internal/config"
	"tidemark/internal/fleet"
	"tidemark/internal/kubeapi"
)

// Config says which pods, and which figure of them.
type Config struct {
	kubeapi.Place `yaml:",inline"`

	// Selector takes the pods by their labels, as kubectl's -l: app=odoo,tier!=cron.
	Selector string `yaml:"selector"`
	// Field is the figure; see the constants. Default: cpu.
	Field string `yaml:"field"`
	// MaxAge is how long metrics-server may go without a new measurement, 15s..1h; default 2m.
	MaxAge time.Duration `yaml:"max_age"`
}

// The fields.
const (
	// CPU and Memory are what the ready pods use together by what they request together, in percent, as the HPA's Utilization. A
	// container without a request makes them missing.
	CPU    = "cpu"
	Memory = "memory"
	// CPULimit and MemoryLimit are the same by their limits: at 100 % a pod is throttled, or killed.
	CPULimit    = "cpu_limit"
	MemoryLimit = "memory_limit"
	// CPUCores and MemoryBytes are what a ready pod uses on average, as the HPA's AverageValue.
	CPUCores    = "cpu_cores"
	MemoryBytes = "memory_bytes"
	// Ready, NotReady and Unscheduled count pods; those that have ended or are ending are none of them. The unscheduled, which no node
	// has room for, are not ready too.
	Ready       = "ready"
	NotReady    = "not_ready"
	Unscheduled = "unscheduled"
	// Restarts is how often containers were started again since the reading before.
	Restarts = "restarts"
)

var fields = map[string]struct {
	unit      fleet.Unit
	perWorker bool
	measured  bool // by metrics.k8s.io
	figure    func(*Source, *look) (float64, fleet.Quality, error)
}{
	CPU:         {fleet.Percent, true, true, share(Usage.cpu, "cpu", requests)},
	Memory:      {fleet.Percent, true, true, share(Usage.memory, "memory", requests)},
	CPULimit:    {fleet.Percent, true, true, share(Usage.cpu, "cpu", limits)},
	MemoryLimit: {fleet.Percent, true, true, share(Usage.memory, "memory", limits)},
	CPUCores:    {fleet.Number, true, true, mean(Usage.cpu)},
	MemoryBytes: {fleet.Bytes, true, true, mean(Usage.memory)},
	Ready:       {fleet.Number, false, false, count(func(p *kubeapi.Pod) bool { ready, _ := p.Ready(); return ready })},
	NotReady:    {fleet.Number, false, false, count(func(p *kubeapi.Pod) bool { ready, _ := p.Ready(); return !ready })},
	Unscheduled: {fleet.Number, false, false, count(func(p *kubeapi.Pod) bool { return p.Spec.NodeName == "" })},
	Restarts:    {fleet.Number, false, false, (*Source).restarts},
}

// DefaultConfig is the CPU of pods by their requests.
func DefaultConfig() Config { return Config{Field: CPU, MaxAge: 2 * time.Minute} }

// Validate reports what cannot work.
func (c *Config) Validate() error {
	var errs config.FieldErrors
	c.Place.Validate(&errs)
	if fields[c.Field].figure == nil {
		errs.Add("field", fmt.Sprintf("%q is not known", c.Field), "write one of "+strings.Join(slices.Sorted(maps.Keys(fields)), ", "))
	}
	if c.Selector == "" {
		errs.Add("selector", "is missing", "write the labels of the pods, such as app=odoo; kubectl get pods --show-labels shows them")
	} else if err := kubeapi.CheckSelector(c.Selector); err != nil {
		errs.Add("selector", err.Error(), "write it as for kubectl get pods -l, such as app=odoo,tier!=cron")
	}
	if c.MaxAge < 15*time.Second || c.MaxAge > time.Hour {
		errs.Add("max_age", fmt.Sprintf("%s is out of range", c.MaxAge), "write 15s to 1h")
	}
	return errs.Err()
}

// Unit is the unit of the field.
func (c *Config) Unit() fleet.Unit { return fields[c.Field].unit }

// Distribution: these are plain figures.
func (c *Config) Distribution() bool { return false }

// PerWorker reports whether the figure rises as workers leave.
func (c *Config) PerWorker() bool { return fields[c.Field].perWorker }
