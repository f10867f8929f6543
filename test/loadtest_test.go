package test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/observe/accesslog"
	"tidemark/internal/prove/outcome"
	"tidemark/internal/prove/verdict"
	"tidemark/test/servers"
)

// The requirements' policies, their times as many times shorter as the scenarios are. A request here mostly waits (--think), which CPU does
// not see: on a machine of two cores it is the latency that calls for workers.
const rehearsalConfig = `
instance: {name: rehearsal, time_zone: UTC}
environment: staging
state_dir: %[1]s/state
tick: 250ms
fleets:
  - name: registry
    target: {prefork: {flavour: registry, pid_file: %[1]s/registry.pid, port: %[2]d, settle: 200ms, stop_timeout: 20s}}
    bounds: {min: 2, max: 6}
    signals:
      cpu:          {procfs: {field: cpu}, statistic: avg, period: 1s}
      p95:          {access_log: {path: %[3]q}, statistic: p95, period: 1s, window: 5s, min_samples: 20}
      rate:         {access_log: {path: %[3]q, field: rate}, period: 1s}
      pool_waiting: {pgbouncer: {dsn: %[4]q, field: cl_waiting}, period: 1s}
      sync_sessions: {http: {url: "http://127.0.0.1:%[5]d/metrics", metric: active_mobile_sync_sessions}, period: 1s}
    policies:
      - id: cpu
        rules:
          - {signal: cpu, operator: ">=", threshold: 70%%, scale_change: +1, evaluation_periods: 3, datapoints_to_alarm: 2}
          - {signal: cpu, operator: "<=", threshold: 30%%, scale_change: -1, evaluation_periods: 5, datapoints_to_alarm: 4}
      - id: latency
        rules:
          - {signal: p95, operator: ">=", threshold: 200ms, scale_change: +1, evaluation_periods: 2, datapoints_to_alarm: 2}
    safeguards:
      cooldown: {scale_up: 3s, scale_down: 4s}
      max_scaling_rate: 1 per 3s
      guards: {database: {preset: pool_waiting, signal: pool_waiting}}
`

// Both of the requirements' scenarios in compressed time, on PostgreSQL behind PgBouncer, nginx, and workers that the daemon scales.
func TestRehearsal(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: plays both scenarios on real servers")
	}
	for _, c := range []struct {
		scenario string
		compress int
		check    func(t *testing.T, s *rehearsalStage, o *outcome.Run)
	}{
		{"peak-farmer-registration-drive", 120, func(t *testing.T, s *rehearsalStage, o *outcome.Run) {
			if n := stepCount(o, "register", "register"); n < 100 {
				t.Errorf("%d registrations", n)
			}
			if n := stepCount(o, "admin", "search"); n < 10 {
				t.Errorf("%d searches by administrators, who signed in", n)
			}
			if n := stepCount(o, "portal", "form"); n < 50 {
				t.Errorf("%d visits of the portal", n)
			}
		}},
		{"concurrent-mobile-sync", 120, func(t *testing.T, s *rehearsalStage, o *outcome.Run) {
			whole, failed := uint64(0), uint64(0)
			for _, j := range o.Journeys {
				for i := range j.Slots {
					if j.Name == "sync" {
						whole += j.Slots[i].Duration.Count()
						failed += j.Slots[i].Failed
					}
				}
			}
			if whole < 50 || failed > whole/50 {
				t.Errorf("%d synchronisations of fifty enumerators, and %d that failed", whole, failed)
			}
			if n := s.pg.Exec("dfr", "SELECT count(*) FROM review"); n == "0" {
				t.Error("devices edited the same farmer, and nothing came to the review queue")
			}
		}},
	} {
		t.Run(c.scenario, func(t *testing.T) {
			s := newRehearsalStage(t)
			o := s.play(t, c.scenario, c.compress)
			c.check(t, s, o)
			s.checkScaling(t, o)
			if left := s.pg.Exec("dfr", "SELECT count(*) FROM farmer WHERE given_name LIKE 'Loadtest%' AND NOT deleted"); left != "0" {
				t.Errorf("%s farmers of the test are left: %q", left, o.Cleanup)
			}
		})
	}
}

func stepCount(o *outcome.Run, journey, step string) (n uint64) {
	for i := range o.Steps {
		if s := &o.Steps[i]; s.Journey == journey && s.Name == step {
			for j := range s.Slots {
				n += s.Slots[j].Count - s.Slots[j].Failures()
			}
		}
	}
	return n
}

type rehearsalStage struct {
	dir, config string
	pg          *servers.PG
	web         *servers.Web
}

func newRehearsalStage(t *testing.T) *rehearsalStage {
	t.Helper()
	s := &rehearsalStage{dir: t.TempDir(), pg: servers.Postgres(t)}
	pool := servers.PgBouncer(t, s.pg)
	s.pg.CreateDB("dfr")
	s.pg.Exec("dfr", "CREATE EXTENSION pg_trgm")
	run(t, program("registry"), "seed", "--db", s.pg.URL("dfr"), "--farmers", "2000")
	add := exec.CommandContext(t.Context(), program("registry"), "account", "add", "--db", s.pg.URL("dfr"), "--role", "officer", "moana")
	add.Stdin = strings.NewReader("a long password for a rehearsal\n")
	if out, err := add.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	write(t, filepath.Join(s.dir, "accounts.csv"), "name,password\nmoana,a long password for a rehearsal\n")

	port, metrics := servers.FreePort(t), servers.FreePort(t)
	master := exec.CommandContext(t.Context(), program("registry"), "serve", "--open", "--db", pool.URL("dfr"), "--listen", fmt.Sprintf("127.0.0.1:%d", port), "--workers", "2",
		"--pid-file", filepath.Join(s.dir, "registry.pid"), "--metrics", fmt.Sprintf("127.0.0.1:%d", metrics), "--think", "60ms")
	log, err := os.Create(filepath.Join(s.dir, "registry.log"))
	if err != nil {
		t.Fatal(err)
	}
	master.Stdout, master.Stderr = log, log
	if err := master.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = master.Process.Kill() // its workers end with it
		_ = master.Wait()
		_ = log.Close()
	})
	eventually(t, 30*time.Second, "the registry serves", func() error {
		return exec.CommandContext(t.Context(), "curl", "-fsS", fmt.Sprintf("http://127.0.0.1:%d/web/health", port)).Run()
	})
	s.web = servers.Nginx(t, "'"+accesslog.Tidemark+"'", fmt.Sprintf(`client_max_body_size 10m;
		location / {
			proxy_pass http://127.0.0.1:%d; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host;
			proxy_set_header X-Forwarded-For $remote_addr; proxy_read_timeout 120s;
		}`, port))
	s.config = filepath.Join(s.dir, "tidemark.yaml")
	write(t, s.config, fmt.Sprintf(rehearsalConfig, s.dir, port, s.web.AccessLog(), pool.AdminURL(), metrics))
	startDaemon(t, s.config, filepath.Join(s.dir, "state", "tidemark.sock"))
	return s
}

// play runs the command as an operator does, and returns what it wrote down.
func (s *rehearsalStage) play(t *testing.T, name string, compress int) *outcome.Run {
	t.Helper()
	out := filepath.Join(s.dir, "out")
	cmd := exec.CommandContext(t.Context(), program("tidemark"), "loadtest", name, "--target", s.web.URL(""), "-c", s.config, "--compress", strconv.Itoa(compress),
		"--data", "accounts="+filepath.Join(s.dir, "accounts.csv"), "--out", out)
	text, err := cmd.CombinedOutput()
	t.Logf("%s", text)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) { // how the verdict turns out depends on the machine
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(out, name+"-*.json"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%d outcomes, %v", len(files), err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	var o outcome.Run
	if err := json.Unmarshal(b, &o); err != nil {
		t.Fatal(err)
	}
	return &o
}

// checkScaling looks whether the outcome tells of the fleet what the fleet did.
func (s *rehearsalStage) checkScaling(t *testing.T, o *outcome.Run) {
	t.Helper()
	if o.Cut != "" || o.Environment != "staging" || len(o.ConfigDigest) != 64 || o.Generator.Dropped > 0 {
		t.Errorf("cut %q, environment %q, digest %q, %d dropped", o.Cut, o.Environment, o.ConfigDigest, o.Generator.Dropped)
	}
	var count, failed uint64
	for i := range o.Steps {
		for j := range o.Steps[i].Slots {
			count += o.Steps[i].Slots[j].Count
			failed += o.Steps[i].Slots[j].Failures()
		}
	}
	if failed > count/100 {
		t.Errorf("%d of %d requests failed: %q", failed, count, o.Notes)
	}
	if len(o.Fleets) != 1 || o.Fleets[0].Bounds != (fleet.Bounds{Min: 2, Max: 6}) {
		t.Fatalf("fleets %+v", o.Fleets)
	}
	most := 0
	for _, z := range o.Fleets[0].Sizes {
		most = max(most, z.Size.Serving)
	}
	ups, done := 0, 0
	for i := range o.Events {
		switch e := &o.Events[i]; {
		case e.Kind == fleet.EventDecision && e.To > e.From:
			ups++
		case e.Kind == fleet.EventActionDone && e.To > e.From && e.Parts != nil:
			done++
		}
	}
	if most < 3 || ups == 0 || done == 0 || len(o.Workers) < 3 {
		t.Errorf("at most %d workers, %d decisions to grow, %d that were carried out, %d workers that answered", most, ups, done, len(o.Workers))
	}
	// Whatever the machine's speed does to the rest: alarms were raised as the policies say, and no guard was passed.
	v := verdict.Judge([]*outcome.Run{o}, []outcome.Criterion{{Measure: outcome.Triggers}, {Measure: outcome.GuardsHeld}}, nil)
	for _, r := range v.Criteria {
		t.Logf("%s: %s, %s", r.Measure, r.Status, r.Why)
		if r.Status == verdict.Failed || (r.Measure == outcome.Triggers && r.Status != verdict.Passed) {
			t.Errorf("%s: %s, %s", r.Measure, r.Status, r.Why)
		}
	}
	for _, r := range o.Fleets[0].Signals {
		if len(r.Readings) < 10 {
			t.Errorf("%d readings of %s", len(r.Readings), r.Signal)
		}
	}
}
