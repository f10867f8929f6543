package verdict

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/prove/outcome"
)

// Resource is what a service may be short of.
type Resource string

const (
	Generator Resource = "generator"
	Pool      Resource = "pool"
	Database  Resource = "database"
	Disk      Resource = "disk"
	Host      Resource = "host"
	Workers   Resource = "workers"
	Network   Resource = "network"
)

// Bottleneck is a resource that was short, and what shows it.
type Bottleneck struct {
	Resource Resource `json:"resource"`
	Evidence []string `json:"evidence"`
}

// symptoms: the resource that a signal is about is told by its name; from the level on, which the requirements, the guards' presets and FACTS
// of Odoo name, it is short. The first that matches counts: a pool with clients waiting explains busy workers, not the reverse.
var symptoms = []struct {
	resource Resource
	name     []string // one of which is in the signal's name
	unit     fleet.Unit
	level    float64
}{
	{Pool, []string{"pool"}, fleet.Percent, 80},
	{Pool, []string{"pool_wait", "cl_waiting", "maxwait"}, fleet.Number, 5},
	{Pool, []string{"pool_wait", "maxwait", "max_wait"}, fleet.Seconds, 0.1},
	{Disk, []string{"disk", "await"}, fleet.Seconds, 0.020},
	{Disk, []string{"disk_queue", "queue_depth"}, fleet.Number, 10},
	{Disk, []string{"disk"}, fleet.Percent, 90},
	{Database, []string{"db_cpu", "pg_cpu", "postgres_cpu", "database_cpu"}, fleet.Percent, 70},
	{Database, []string{"connections_used"}, fleet.Percent, 90},
	{Database, []string{"query_time", "db_latency", "database_latency"}, fleet.Seconds, 0.1},
	{Database, []string{"lock"}, fleet.Number, 3},
	{Host, []string{"host_cpu", "cpu_host"}, fleet.Percent, 90},
	{Host, []string{"host_memory", "memory"}, fleet.Percent, 90},
	{Workers, []string{"cpu"}, fleet.Percent, 70},
	{Workers, []string{"busy"}, fleet.Percent, 90},
	{Workers, []string{"queued", "waiting", "listen_queue"}, fleet.Number, 1},
}

// shortFor is the share of a run's time from which on a shortage is told: a peak that is a quarter of the run vanishes in its mean.
const shortFor = 0.25

var resources = []Resource{Generator, Pool, Database, Disk, Host, Workers, Network}

// bottlenecks lists what was short, causes before what they cause.
func bottlenecks(runs []*outcome.Run) (out []Bottleneck) {
	found := map[Resource][]string{}
	add := func(r Resource, evidence string) {
		if !slices.Contains(found[r], evidence) {
			found[r] = append(found[r], evidence)
		}
	}
	for _, run := range runs {
		for _, l := range run.Generator.Limits {
			add(Generator, l)
		}
		for i := range run.Fleets {
			inFleet(run, &run.Fleets[i], add)
		}
		for _, e := range run.Events {
			if e.Kind == fleet.EventGuard && e.State == "holds" {
				add(guarded(e.Policy+" "+e.Note), fmt.Sprintf("the guard %s held scale-outs back: %s", e.Policy, e.Note))
			}
		}
		inAnswers(run, add)
	}
	for _, r := range resources {
		if len(found[r]) > 0 {
			out = append(out, Bottleneck{r, found[r]})
		}
	}
	return out
}

func inFleet(run *outcome.Run, f *outcome.Fleet, add func(Resource, string)) {
	from := run.Started.Add(time.Duration(run.WarmUp))
	to := run.Started.Add(time.Duration(run.Length))
	for _, s := range f.Signals {
		for _, symptom := range symptoms {
			if s.Unit == symptom.unit && slices.ContainsFunc(symptom.name, func(n string) bool { return strings.Contains(strings.ToLower(s.Signal), n) }) {
				if short := share(s.Readings, from, to, func(v float64) bool { return v >= symptom.level }); short >= shortFor {
					add(symptom.resource, fmt.Sprintf("%s of %s was %s or more for %.0f %% of the time, and %s on average", s.Signal, f.Name,
						s.Unit.Format(symptom.level), short*100, s.Unit.Format(meanOf(f, s.Signal, from, to))))
				}
				break
			}
		}
	}
	full, known := 0, 0
	for _, s := range f.Sizes {
		if s.Size.Known && !s.Time.Before(from) && !s.Time.After(to) {
			known++
			if f.Bounds.Max > 0 && s.Size.Workers() >= f.Bounds.Max {
				full++
			}
		}
	}
	if full > 0 && full*10 >= known {
		add(Workers, fmt.Sprintf("%s was at its maximum of %d for %d %% of the time", f.Name, f.Bounds.Max, full*100/known))
	}
}

// share of the fresh readings of a time for which something holds; 0 when there are none.
func share(readings []fleet.Reading, from, to time.Time, holds func(float64) bool) float64 {
	n, all := 0, 0
	for _, r := range readings {
		if r.Quality == fleet.Fresh && !r.Time.Before(from) && !r.Time.After(to) {
			all++
			if holds(r.Value) {
				n++
			}
		}
	}
	return float64(n) / float64(max(all, 1))
}

// guarded is the resource that a guard watches.
func guarded(text string) Resource {
	text = strings.ToLower(text)
	for _, g := range []struct {
		word string
		of   Resource
	}{{"pool", Pool}, {"disk", Disk}, {"await", Disk}, {"host", Host}, {"memory", Host}, {"database", Database}, {"lock", Database}, {"connections", Database}} {
		if strings.Contains(text, g.word) {
			return g.of
		}
	}
	return Workers
}

// inAnswers looks at how requests failed: what never reached the service is the network's, or the name's.
func inAnswers(run *outcome.Run, add func(Resource, string)) {
	classes, all := map[outcome.Class]uint64{}, uint64(0)
	eachSlot(run, "", func(_ int, s *outcome.Slot) {
		all += s.Count
		for c, n := range s.Failed {
			classes[c] += n
		}
	})
	for _, c := range []outcome.Class{outcome.FailedDNS, outcome.FailedConnect, outcome.FailedTLS, outcome.FailedReset} {
		if n := classes[c]; n*100 > all {
			add(Network, fmt.Sprintf("%d of %d requests failed with %s: they did not reach the service, or it did not take them", n, all, c))
		}
	}
}

// remedies are the requirements' failure actions (identify bottlenecks, optimize code and queries, adjust resources and policies, re-test), for
// each resource.
var remedies = map[Resource]string{
	Generator: "Repeat it from a machine with more CPU, or with less load: the generator was the limit, and this run says nothing of the service.",
	Pool:      "Adjust resource allocation: raise PgBouncer's pool_size within max_connections, or shorten transactions; more workers make it worse. tidemark doctor does the arithmetic.",
	Database:  "Optimize queries (pg_stat_statements, missing indexes) before scaling; then more CPU and memory for PostgreSQL. More workers do not help.",
	Disk:      "Adjust resource allocation: faster storage (NVMe) for PostgreSQL, and look for queries that read much.",
	Host:      "Adjust resource allocation: a bigger host or a second one. More workers on this one make it slower.",
	Workers:   "Adjust the scaling policy: a higher maximum, a scheduled floor ahead of the peak, or lower thresholds (tidemark simulate shows what each would do); or optimize what the workers compute.",
	Network:   "Check the way to the service: names, certificates, the balancer's limits and the listening queue (tidemark doctor).",
}

// actions are what to do about a verdict.
func actions(v *Verdict) (out []string) {
	for _, b := range v.Bottlenecks {
		out = append(out, remedies[b.Resource])
	}
	switch v.Status {
	case Failed:
		if len(out) == 0 {
			out = append(out, "Identify the bottleneck: no signal of the daemon shows one. Let it read the pool, the database and the disk as well, and look at slow queries and at the slowest steps.")
		}
		out = append(out, "Re-test with the same scenario, five runs, and compare with these.")
	case Undecided:
		out = append(out, "Measure longer, or five runs: this neither passed nor failed.")
	case Invalid:
		out = append(out, "Re-test: an invalid run proves nothing.")
	case Passed, Within, Unneeded:
	}
	return out
}
