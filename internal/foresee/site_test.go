package foresee

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidemark/internal/config"
	"tidemark/internal/decide/engine"
	"tidemark/internal/decide/policy"
	"tidemark/internal/fleet"
	"tidemark/internal/foresee/load"
	"tidemark/internal/foresee/sim"
	"tidemark/internal/observe/accesslog"
	"tidemark/internal/observe/pgbouncer"
	"tidemark/internal/observe/procfs"
)

func describe(t *testing.T, text string) (*sim.Site, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "work.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return ReadSite(path)
}

func TestReadSite(t *testing.T) {
	s, err := describe(t, `
routes:
  - {route: /api, share: 3, service: 60ms, database: 40%}
  - {route: /my, share: 1, rate: 2.5, service: 1s, cv: 0, priority: -1}
database: {cores: 4, contention: 3%, coherency: 0.05%, connections: 20}
`)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Routes) != 2 || s.Routes[0].Database != 0.4 || s.Routes[1].Priority != -1 || s.Routes[1].Rate != 2.5 || s.Balancer != (sim.Balancer{Queue: sim.Unlimited}) || s.Database != (sim.Database{Cores: 4, Contention: 0.03, Coherency: 0.0005, Connections: 20}) {
		t.Errorf("%+v, %+v, %+v", s.Routes, s.Balancer, s.Database)
	}
	for text, want := range map[string]string{
		"balancer: {queue: 5}":                                                                            "work.yaml:1:1: routes",
		"routes:\n  - {route: /a, share: 1, service: 0s}":                                                 "work.yaml:2:36: service",
		"routes:\n  - {route: /a, share: 1, service: 1s, database: 120%}":                                 ":2:50: database: 120% is not between",
		"routes:\n  - {route: /a, share: -1, service: 1s}":                                                ":2:24: share",
		"routes:\n  - {route: /a, service: 1s}":                                                           "none has a share of the load",
		"routes:\n  - {route: /a, share: 1, service: 1s}\n  - {route: /a, service: 1s}":                   ":3:13: route: \"/a\" stands twice",
		"routes:\n  - {route: /a, share: 1, service: 1s, colour: red}":                                    ":2:40: routes: unknown field colour",
		"routes:\n  - {route: /a, share: 1, service: 1s}\nbalancer: {timeout: 2h}":                        ":3:21: timeout",
		"routes:\n  - {route: /a, share: 1, service: 1s}\nbalancer: {queue: -1}\ndatabase: {cores: -1}\n": "work.yaml:4:19: cores",
	} {
		if _, err := describe(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// Signals read their route, and the pool; the policy acts on what it reads of them.
func TestSiteSignals(t *testing.T) {
	site, err := describe(t, `
routes:
  - {route: /api/mobile/sync/, share: 1, service: 300ms, database: 90%}
  - {route: /my, share: 9, service: 20ms}
database: {cores: 1, connections: 3}
`)
	if err != nil {
		t.Fatal(err)
	}
	f := config.Fleet{Name: "odoo", Policy: policy.Fleet{Name: "odoo", Mode: fleet.Off, Bounds: fleet.Bounds{Min: 30, Max: 30}}}
	add := func(name string, body config.SignalBody, s policy.Signal) {
		s.Name = name
		f.Signals = append(f.Signals, config.Signal{Name: name, Adapter: config.Adapter{Body: body}})
		f.Policy.Signals = append(f.Policy.Signals, s)
	}
	p95 := policy.Signal{Statistic: policy.Quantile, Q: 0.95, FromSource: true, Period: time.Minute, Window: 5 * time.Minute}
	last := policy.Signal{Statistic: policy.Avg, Period: time.Minute, Window: time.Minute}
	add("sync", &accesslog.Config{Field: accesslog.Latency, Route: "/api/mobile/sync"}, p95)
	add("portal", &accesslog.Config{Field: accesslog.Latency, Route: "/my"}, p95)
	add("elsewhere", &accesslog.Config{Field: accesslog.Latency, Route: "/web"}, p95)
	add("rate", &accesslog.Config{Field: accesslog.Rate, Route: "/my"}, last)
	add("waiting", &pgbouncer.Config{Field: "cl_waiting"}, last)
	add("pool", &pgbouncer.Config{Field: "utilization"}, last)
	add("cpu", &procfs.Config{Field: procfs.CPU}, last)
	work := Work{Site: site, CPU: 1, Boot: time.Second}
	probes, assumed := Probes(&f, work)
	if len(assumed) != 1 || assumed[0].Signal != "elsewhere" {
		t.Errorf("assumed: %+v", assumed)
	}
	series, err := load.Make("constant", time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC), time.Hour, 30)
	if err != nil {
		t.Fatal(err)
	}
	// 3 syncs/s take 0.81 s of the one core of the database: half of them find it taken.
	forecast, err := Study{Name: "x", Fleet: &f, Tick: 15 * time.Second, Load: series, Work: work, Objective: sim.DefaultObjective(), Seeds: 2}.Run()
	if err != nil {
		t.Fatal(err)
	}
	a := forecast.Around
	if len(a.Routes) != 2 || a.Database == nil || a.Database.Peak != 1 || a.Database.Utilisation.Mean < 70 || a.Database.Utilisation.Mean > 90 || a.Database.Worst < a.Database.Utilisation.Mean {
		t.Fatalf("%+v", a)
	}
	if sync, my := a.Routes[0], a.Routes[1]; sync.P95.Mean < 5*my.P95.Mean || my.Requests.Mean < 8*sync.Requests.Mean {
		t.Errorf("%+v", a.Routes)
	}
	sums, n := make([]float64, len(probes)), 0.0
	plan := sim.Plan{Policy: &f.Policy, Probes: probes, Load: series, Site: site, Boot: time.Second, Tick: 15 * time.Second, Initial: 30, Seed: 1}
	plan.Control = func(in *engine.Input) int {
		n++
		for i, r := range in.Readings {
			sums[i] += r.Value
		}
		return 30
	}
	if _, err := sim.Run(plan); err != nil {
		t.Fatal(err)
	}
	for i := range sums {
		sums[i] /= n
	}
	if sums[0] < 5*sums[1] || sums[3] < 25 || sums[3] > 29 || sums[4] < 0.2 || sums[5] < 40 || sums[6] > 4 || sums[6] < 2 {
		t.Errorf("the signals read %v", sums)
	}
}
