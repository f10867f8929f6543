package export_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2/hclparse"
	"go.yaml.in/yaml/v4"

	"tidemark/internal/app"
	"tidemark/internal/config"
	"tidemark/internal/show/export"
)

var update = flag.Bool("update", false, "write the golden files")

func read(t *testing.T, path string) *config.Config {
	t.Helper()
	t.Setenv("PGBOUNCER_DSN", "postgres://tidemark@127.0.0.1:6432/pgbouncer")
	t.Setenv("PG_DSN", "postgres://tidemark@127.0.0.1/dfr")
	c, problems, err := app.Check(path)
	if err != nil || c == nil {
		t.Fatal(err, problems)
	}
	return c
}

// fleetOf is a configuration with something in it that every system treats in its own way.
func fleetOf(t *testing.T, signals, policies, rest string) *config.Config {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tidemark.yaml")
	text := `instance: {name: here, time_zone: Pacific/Apia}
environment: production
fleets:
  - name: web
    target: {command: {size: [/bin/count], scale: [/bin/scale, "{size}"]}}
    bounds: {min: 2, max: 10}
    signals: {` + signals + `}
    policies: [` + policies + "]\n" + rest
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return read(t, path)
}

const (
	cpu    = `cpu: {procfs: {field: cpu}}`
	cpuOut = `{id: p, rules: [{signal: cpu, operator: ">=", threshold: 70%, scale_change: +1, evaluation_periods: 3, datapoints_to_alarm: 2}]}`
)

// What is written is what the other system reads: each text is parsed by its own grammar, and is as the golden file says.
func TestGolden(t *testing.T) {
	for name, path := range map[string]string{"cook-islands": "../../../examples/dfr/cook-islands.yaml", "processes": "../../../examples/processes.yaml"} {
		c := read(t, path)
		for _, format := range export.Formats() {
			t.Run(name+"/"+format, func(t *testing.T) {
				e, err := export.Write(format, c, &c.Fleets[0])
				if err != nil {
					t.Fatal(err)
				}
				parse(t, format, e.Text)
				golden := filepath.Join("testdata", name+"."+format)
				if *update {
					if err := os.WriteFile(golden, []byte(e.Text), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(golden)
				if err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(string(want), e.Text); d != "" {
					t.Error(d)
				}
				for _, l := range e.Lost {
					if !strings.Contains(e.Text, "#   "+l+"\n") {
						t.Errorf("not in the text: %s", l)
					}
				}
			})
		}
	}
}

func parse(t *testing.T, format, text string) map[string]any {
	t.Helper()
	if format == "aws-terraform" {
		if _, err := hclparse.NewParser().ParseHCL([]byte(text), "tidemark.tf"); err.HasErrors() {
			t.Fatal(err)
		}
		return nil
	}
	var out map[string]any
	if err := yaml.Unmarshal([]byte(text), &out); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return out
}

// Whatever a policy has that a system lacks is told, once, and nothing is told that is not lost.
func TestLosses(t *testing.T) {
	queue := `, queue: {http: {url: "http://127.0.0.1:1/metrics", metric: queue}}`
	for _, c := range []struct {
		name, signals, policies, rest, says string
		by                                  string // the systems that lose it
	}{
		{"M of N", cpu, cpuOut, "", "in 2 of 3 datapoints", "hpa keda"},
		{"missing data", cpu, strings.Replace(cpuOut, "datapoints_to_alarm: 2", "datapoints_to_alarm: 2, missing_data: breaching", 1), "", "missing data taken as breaching", "hpa keda"},
		{"to shrink", cpu, cpuOut + `, {id: q, rules: [{signal: cpu, operator: "<=", threshold: 30%, scale_change: -1}]}`, "", "has one target for both ways", "hpa keda"},
		{"two that shrink", cpu + queue, cpuOut + `, {id: q, rules: [{signal: cpu, operator: "<=", threshold: 30%, scale_change: -1}, {signal: queue, operator: "<=", threshold: 10, scale_change: -1}]}`, "", "does not wait until all do", "aws-terraform cloudwatch"},
		{"downward", cpu + queue, cpuOut + `, {id: q, rules: [{signal: queue, operator: "<=", threshold: 10, scale_change: +1}]}`, "", "knows only signals that rise", "hpa keda"},
		{"shadow", cpu + queue, cpuOut + `, {id: q, mode: shadow, rules: [{signal: queue, operator: ">=", threshold: 10, scale_change: +1}]}`, "", "policy q is in mode shadow", "hpa keda aws-terraform cloudwatch"},
		{"period", strings.Replace(cpu, "}}", "}, period: 15s}", 1), cpuOut, "", "has periods of whole minutes", "aws-terraform cloudwatch"},
		{"guard", cpu + queue, cpuOut, "    safeguards: {guards: {database: {signal: queue, operator: \">=\", threshold: 5}}}\n", `the guard "database" is not there`, "hpa keda aws-terraform cloudwatch"},
		{"floor", cpu, cpuOut, "    schedule: [{name: day, daily: \"07:00-18:00\", floor: 4}]\n", `the window "day" is left out`, "hpa cloudwatch"},
		{"ceiling", cpu, cpuOut, "    schedule: [{name: night, daily: \"00:00-06:00\", ceiling: 2}]\n", `the window "night" is left out`, "hpa keda cloudwatch"},
		{"dates", cpu, cpuOut, "    schedule: [{name: drive, from: 2027-03-01, to: 2027-03-05, daily: \"07:00-18:00\", floor: 4}]\n", `the window "drive" is left out`, "hpa keda aws-terraform cloudwatch"},
		{"long cooldown", cpu, cpuOut, "    safeguards: {cooldown: {scale_up: 300s, scale_down: 2h}}\n", "has at most 1h0m0s", "hpa keda"},
		{"budget", cpu, cpuOut, "    safeguards: {budget: {monthly: 120, currency: USD}}\n", "the budget of 120 USD", "hpa keda aws-terraform cloudwatch"},
	} {
		t.Run(c.name, func(t *testing.T) {
			with := fleetOf(t, c.signals, c.policies, c.rest)
			without := fleetOf(t, cpu, `{id: p, rules: [{signal: cpu, operator: ">=", threshold: 70%, scale_change: +1}]}`, "")
			for _, format := range export.Formats() {
				e, err := export.Write(format, with, &with.Fleets[0])
				if err != nil {
					t.Fatal(err)
				}
				want := 0
				if strings.Contains(" "+c.by+" ", " "+format+" ") {
					want = 1
				}
				if got := strings.Count(strings.Join(e.Lost, "\n"), c.says); got != want {
					t.Errorf("%s says %q %d times, want %d:\n%s", format, c.says, got, want, strings.Join(e.Lost, "\n"))
				}
				parse(t, format, e.Text)
				if e, err = export.Write(format, without, &without.Fleets[0]); err != nil || strings.Contains(strings.Join(e.Lost, "\n"), c.says) {
					t.Errorf("%s says %q of a policy without it (%v)", format, c.says, err)
				}
			}
		})
	}
}

// A scheduled floor is written in the instance's time, lead included.
func TestSchedule(t *testing.T) {
	c := fleetOf(t, cpu, cpuOut, "    schedule: [{name: day, weekly: mon-fri, daily: \"07:10-18:00\", floor: 4, lead: 15m}]\n")
	for format, want := range map[string][]string{
		"keda":          {`timezone: "Pacific/Apia"`, `start: "55 6 * * 1,2,3,4,5"`, `end: "0 18 * * 1,2,3,4,5"`, `desiredReplicas: "4"`},
		"aws-terraform": {`"cron(55 6 ? * MON,TUE,WED,THU,FRI *)"`, `"cron(0 18 ? * MON,TUE,WED,THU,FRI *)"`, "min_capacity = 4", `"Pacific/Apia"`},
	} {
		e, err := export.Write(format, c, &c.Fleets[0])
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if !strings.Contains(e.Text, w) {
				t.Errorf("%s has no %s:\n%s", format, w, e.Text)
			}
		}
	}
}

func TestNothingToExport(t *testing.T) {
	c := fleetOf(t, cpu, `{id: p, mode: shadow, rules: [{signal: cpu, operator: ">=", threshold: 70%, scale_change: +1}]}`, "")
	for format, want := range map[string]string{"hpa": "can express no rule of fleet web", "nomad": "write one of aws-terraform, cloudwatch, hpa, keda"} {
		if _, err := export.Write(format, c, &c.Fleets[0]); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", format, err, want)
		}
	}
}
