package test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tidemark/internal/act/proxy"
	"tidemark/internal/app"
	"tidemark/internal/config"
	"tidemark/internal/decide/alert"
	"tidemark/internal/decide/policy"
	"tidemark/internal/decide/schedule"
	"tidemark/internal/fleet"
	"tidemark/internal/foresee/month"
	"tidemark/internal/foresee/plan"
	"tidemark/internal/foresee/sim"
	"tidemark/internal/prove/scenario"
	"tidemark/internal/prove/shape"
)

// Each trigger and guard of the requirements, by its preset's name alone.
const presetsConfig = `
instance: {name: presets, country: TON, time_zone: Pacific/Tongatapu}
environment: %s
fleets:
  - name: odoo-workers
    target: {prefork: {flavour: odoo, pid_file: /run/odoo/odoo.pid}}
    bounds: {min: 2, max: 10}
    signals:
      cpu:      {procfs: {}}
      memory:   {procfs: {field: memory_used_percent}}
      sync_p95: {access_log: {path: /var/log/nginx/dfr.access.log, route: /api/mobile/sync}, statistic: p95, window: 5m}
      queue:    {postgres: {dsn: "postgres://127.0.0.1/dfr", preset: odoo_queue_job, field: runnable}}
      age:      {postgres: {dsn: "postgres://127.0.0.1/dfr", preset: odoo_queue_job, field: oldest_age}}
      sessions: {http: {url: "http://127.0.0.1:8069/metrics", metric: active_mobile_sync_sessions}}
      waiting:  {pgbouncer: {dsn: "postgres://127.0.0.1/pgbouncer", field: cl_waiting}}
      pool:     {pgbouncer: {dsn: "postgres://127.0.0.1/pgbouncer", field: utilization}}
      depth:    {disk: {path: /}}
      await:    {disk: {path: /, field: await}}
    policies:
      - {preset: odoo_cpu, signal: cpu}
      - {preset: odoo_memory, signal: memory}
      - {preset: api_latency, signal: sync_p95}
      - {preset: queue_length, signal: queue}
      - {preset: queue_age, signal: age}
      - {preset: sync_sessions, signal: sessions}
    safeguards:
      guards:
        waiting: {preset: pool_waiting, signal: waiting}
        pool: {preset: pool_utilization, signal: pool}
        depth: {preset: disk_queue, signal: depth}
        await: {preset: disk_latency, signal: await}
`

// The numbers of the requirements as the product holds them: in its presets and defaults, in the countries' examples, in the scenarios.
// What each is for, and what proves that it works, is in docs/requirements.md.
func TestNumbersOfTheRequirements(t *testing.T) {
	load := func(file string) *config.Config {
		t.Helper()
		cfg, problems, err := app.Check(file)
		if err != nil || cfg == nil {
			t.Fatal(file, err, problems)
		}
		return cfg
	}
	environment := func(name string) *policy.Fleet {
		file := filepath.Join(t.TempDir(), name+".yaml")
		write(t, file, fmt.Sprintf(presetsConfig, name))
		return &load(file).Fleets[0].Policy
	}
	is := func(what string, got, want any) {
		t.Helper()
		if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
			t.Errorf("%s: %s, the requirements say %s", what, g, w)
		}
	}
	is("odoo-worker-cpu-scaling-policy", rulesOf(environment("production"), "odoo-worker-cpu-scaling-policy"), "[cpu >= 70 % +1 2 of 3, cpu <= 30 % -1 4 of 5]")
	production := environment("production")
	for id, want := range map[string]string{
		"odoo-worker-memory-scaling-policy":      "[memory >= 80 % +1 2 of 2, memory <= 40 % -1 2 of 2]",
		"odoo-worker-api-latency-scaling-policy": "[sync_p95 >= 400ms +1 2 of 2]",
		"queue-length-scaling-policy":            "[queue >= 100 +1 2 of 3, queue <= 10 -1 4 of 5]",
		"queue-age-scaling-policy":               "[age >= 5m +1 2 of 3]",
		"sync-sessions-scaling-policy":           "[sessions >= 40 +1 2 of 3, sessions <= 10 -1 4 of 5]",
	} {
		is(id, rulesOf(production, id), want)
	}
	is("database and disk triggers", guardsOf(production), "[await >= 20ms, depth >= 10, pool >= 80 %, waiting >= 5]")
	for name, want := range map[string]string{
		"production":  "on up 5m0s by 1, down 10m0s by 1, 1 per 5m0s",
		"staging":     "on up 10m0s by 1, down 5m0s by 2, 1 per 5m0s", // conservative, cost-optimized
		"development": "off up 5m0s by 1, down 5m0s by 2, 1 per 5m0s",
	} {
		p := environment(name)
		is(name, fmt.Sprintf("%s up %v by %d, down %v by %d, %d per %v", p.Mode, p.CooldownUp, p.StepUp, p.CooldownDown, p.StepDown, p.RateCount, p.RateWindow), want)
	}

	// The countries.
	for file, zone := range map[string]string{
		"cook-islands": "Pacific/Rarotonga", "samoa": "Pacific/Apia", "tonga": "Pacific/Tongatapu", "solomon-islands": "Pacific/Guadalcanal", "vanuatu": "Pacific/Efate",
	} {
		t.Setenv("PGBOUNCER_DSN", "postgres://tidemark:a-secret-word@127.0.0.1:6432/pgbouncer")
		t.Setenv("PG_DSN", "postgres://tidemark:a-secret-word@127.0.0.1:5432/dfr")
		cfg := load(filepath.Join("..", "examples", "dfr", file+".yaml"))
		f, in := &cfg.Fleets[0], cfg.Instance
		p := &f.Policy
		is(file+": zone", in.TimeZone, zone)
		is(file+": min and max instances", p.Bounds, fleet.Bounds{Min: 2, Max: 10})
		is(file+": cooldowns", []time.Duration{p.CooldownUp, p.CooldownDown}, "[5m0s 10m0s]")
		is(file+": steps", []int{p.StepUp, p.StepDown}, "[1 1]")
		is(file+": max scaling rate", fmt.Sprint(p.RateCount, " per ", p.RateWindow), "1 per 5m0s")
		is(file+": CPU", rulesOf(p, "odoo-worker-cpu-scaling-policy"), "[cpu >= 70 % +1 2 of 3, cpu <= 30 % -1 4 of 5]")
		is(file+": API latency", rulesOf(p, "odoo-worker-api-latency-scaling-policy"), "[sync_p95 >= 400ms +1 2 of 2]")
		is(file+": evaluation window", p.Signals[slices.IndexFunc(p.Signals, func(s policy.Signal) bool { return s.Name == "sync_p95" })].Window, 5*time.Minute)
		is(file+": default timeout", in.DefaultTimeout, 30*time.Second)
		is(file+": targets", fmt.Sprint(in.Targets.P95, in.Targets.Availability), "500ms 99.5")
		is(file+": spot", fmt.Sprint(in.Cost.SpotInstances, in.Cost.SpotPercentage), "false 0")
		is(file+": reserved instances planned", in.Cost.ReservedInstances, true)
		is(file+": scaling mode", in.ScalingMode, "hybrid")
		off := p.Schedule.Windows[slices.IndexFunc(p.Schedule.Windows, func(w schedule.Window) bool { return w.Name == "off-peak" })]
		is(file+": off-peak, minutes of the day and instances", fmt.Sprint(off.Daily.From, off.Daily.To, off.Ceiling), "0 360 2")
	}
	is("requests' time-out at the proxy", proxy.DefaultConfig().RequestTimeout, 30*time.Second)

	// What is told, and when.
	rules := alert.DefaultRules()
	is("CPU after a scale-up", rules.CPU, 85)
	is("time to scale", rules.TimeToScale, 5*time.Minute)
	is("availability", rules.Availability, 99.5)
	is("average CPU", []float64{month.CPULow, month.CPUHigh}, "[50 60]")
	o := sim.DefaultObjective()
	is("objective of the simulator", fmt.Sprint(o.Quantile, " ", o.Limit), "0.95 500ms")

	// The plan.
	in := plan.NewInput()
	is("instances", fmt.Sprint(in.Instances.Worker, "; ", in.Instances.Database, "; ", in.Instances.Nginx), "2 vCPU, 4 GiB; 4 vCPU, 16 GiB; 1 vCPU, 2 GiB")
	is("growth", fmt.Sprint(in.Growth.Percent, " % in ", in.Growth.Years), "100 % in 5")
	is("users at once", []int{in.Load.Administrators, in.Load.Visitors, in.Load.Devices}, "[10 100 50]")
	is("utilisation targets", fmt.Sprint(in.Fleet.CPULow, in.Fleet.CPUHigh, in.Fleet.CPUPeak, in.Database.CPU, in.Database.Utilisation), "50 60 70 70 80")
	is("reserved terms", fmt.Sprint(in.Reserved[0].Years, in.Reserved[1].Years, " baseline ", in.Fleet.Min), "1 3 baseline 2")
	is("off-peak of the plan", in.OffPeak, plan.OffPeak{From: 0, To: 6, Ceiling: 2})

	// The load tests.
	for name, want := range map[string]string{
		"peak-farmer-registration-drive": "1h30m0s admin 10, portal 100; API p95 500ms 10 %, pages p95 3s 0 %, worker CPU 70% 10 %, time to scale 5m 0 %, availability 99.5% 0 %",
		"concurrent-mobile-sync":         "1h0m0s sync 50; sync of 500 records, p95 120s 15 %, worker CPU 70% 10 %, time to scale 5m 0 %, availability 99.5% 0 %",
	} {
		is(name, played(t, name), want)
	}
	p, _ := shape.Named("3g")
	is("3G", fmt.Sprint(p.Down, p.Up), "384000 128000")
}

// rulesOf writes a policy's rules.
func rulesOf(p *policy.Fleet, id string) string {
	var out []string
	for _, x := range p.Policies {
		for _, r := range x.Rules {
			if s := p.Signals[r.Signal]; x.ID == id {
				out = append(out, fmt.Sprintf("%s %v %s %+d %d of %d", s.Name, r.Operator, s.Unit.Format(r.Threshold), r.Change, r.M, r.N))
			}
		}
	}
	return "[" + strings.Join(out, ", ") + "]"
}

// guardsOf writes what guards look at.
func guardsOf(p *policy.Fleet) string {
	var out []string
	for _, g := range p.Guards {
		r := g.If[0].Rule
		out = append(out, fmt.Sprintf("%s %v %s", g.Name, r.Operator, p.Signals[r.Signal].Unit.Format(r.Threshold)))
	}
	slices.Sort(out)
	return "[" + strings.Join(out, ", ") + "]"
}

// played writes what a built-in scenario plays, and which of the requirements' limits it judges by.
func played(t *testing.T, name string) string {
	t.Helper()
	s, err := scenario.Open(name, scenario.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var users, limits []string
	for _, l := range s.Load {
		if l.Users > 0 {
			users = append(users, fmt.Sprint(l.Journey, " ", l.Users))
		}
	}
	for _, measure := range []string{"API p95", "pages p95", "sync of 500 records, p95", "worker CPU", "time to scale", "availability"} {
		for _, c := range s.Criteria {
			if c.Name == measure {
				limits = append(limits, fmt.Sprintf("%s %s %g %%", c.Name, c.AtMost+c.AtLeast, c.Variation))
			}
		}
	}
	return fmt.Sprint(s.Duration, " ", strings.Join(users, ", "), "; ", strings.Join(limits, ", "))
}
