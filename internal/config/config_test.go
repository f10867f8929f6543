package config_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"tidemark/internal/config"
	"tidemark/internal/decide/policy"
	"tidemark/internal/decide/schedule"
	"tidemark/internal/fleet"
)

var update = flag.Bool("update", false, "write the .want files anew; read each message before it is kept")

func read(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestMessages holds every message to the letter: testdata/bad cannot be used, testdata/warn can and is doubtful.
func TestMessages(t *testing.T) {
	for folder, usable := range map[string]bool{"bad": false, "warn": true} {
		files, err := filepath.Glob("testdata/" + folder + "/*.yaml")
		if err != nil || !usable && len(files) < 100 {
			t.Fatalf("%d files in testdata/%s (%v)", len(files), folder, err)
		}
		for _, file := range files {
			name := filepath.Base(file)
			t.Run(folder+"/"+name, func(t *testing.T) {
				data := read(t, file)
				cfg, problems := config.Parse(name, data, catalog(), environ)
				if (cfg != nil) != usable || problems.Failed() == usable || len(problems) == 0 {
					t.Errorf("config given: %v; problems: %v", cfg != nil, problems)
				}
				for _, p := range problems {
					checkPlace(t, data, p)
					if p.Fix == "" {
						t.Errorf("says not what to write instead: %v", p.Message)
					}
				}
				want := strings.TrimSuffix(file, "yaml") + "want"
				if *update {
					if err := os.WriteFile(want, []byte(problems.Error()), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				if diff := cmp.Diff(string(read(t, want)), problems.Error()); diff != "" {
					t.Error(diff)
				}
			})
		}
	}
}

// checkPlace checks that a problem stands within the file.
func checkPlace(t testing.TB, data []byte, p config.Problem) {
	t.Helper()
	lines := strings.Split(strings.TrimPrefix(string(data), "\ufeff"), "\n")
	if p.Line < 1 || p.Line > len(lines) {
		t.Fatalf("line %d of %d: %s", p.Line, len(lines), p.Message)
	}
	if n := utf8.RuneCountInString(lines[p.Line-1]); p.Column < 1 || p.Column > n+1 {
		t.Fatalf("column %d of line %d, which has %d: %s", p.Column, p.Line, n, p.Message)
	}
}

// sameConfig compares all that a configuration says.
func sameConfig() cmp.Options {
	return cmp.Options{
		cmpopts.IgnoreUnexported(config.Config{}), cmpopts.EquateEmpty(),
		cmp.Comparer(func(a, b *time.Location) bool { return a.String() == b.String() }),
		cmp.Comparer(func(a, b schedule.Holidays) bool { return reflect.DeepEqual(a, b) }),
	}
}

// TestGood reads each file, writes it out with all defaults, and reads that again: it must say the same.
func TestGood(t *testing.T) {
	warnings := map[string]int{
		"cook-islands.yaml": 1, "minimal.yaml": 1, "everything.yaml": 0, "presets.yaml": 0, "safeguards.yaml": 0, "objective.yaml": 0, "forecast.yaml": 0,
		"objective-busy.yaml": 0, "journal.yaml": 1, "keda.yaml": 0,
	}
	for name, want := range warnings {
		t.Run(name, func(t *testing.T) {
			cfg, problems := config.Parse(name, read(t, "testdata/good/"+name), catalog(), environ)
			if cfg == nil || len(problems) != want {
				t.Fatalf("%v", problems)
			}
			text := config.Effective(cfg)
			again, problems := config.Parse(name, []byte(text), catalog(), environ)
			if again == nil {
				t.Fatalf("%v\n%s", problems, text)
			}
			if diff := cmp.Diff(cfg, again, sameConfig()); diff != "" {
				t.Errorf("%s\n%s", diff, text)
			}
			golden := "testdata/good/" + strings.TrimSuffix(name, "yaml") + "effective"
			if *update {
				if err := os.WriteFile(golden, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(string(read(t, golden)), text); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestRequirements reads the requirements' own policies.
func TestRequirements(t *testing.T) {
	cfg, problems := config.Parse("examples/cook-islands.yaml", read(t, "testdata/good/cook-islands.yaml"), catalog(), environ)
	if cfg == nil {
		t.Fatal(problems)
	}
	rarotonga := time.FixedZone("", -10*3600)
	want := policy.Fleet{
		Name: "odoo-workers", Mode: fleet.On, Bounds: fleet.Bounds{Min: 2, Max: 10},
		Signals: []policy.Signal{
			{Name: "cpu", Unit: fleet.Percent, Period: time.Minute, Window: time.Minute, MinSamples: 1, PerWorker: true},
			{Name: "memory", Unit: fleet.Percent, Period: time.Minute, Window: time.Minute, MinSamples: 1},
			{Name: "sync_p95", Unit: fleet.Seconds, Statistic: policy.Quantile, Q: 0.95, FromSource: true, Period: time.Minute, Window: 5 * time.Minute, MinSamples: 50, PerWorker: true},
			{Name: "active_mobile_sync_sessions", Statistic: policy.Last, Period: time.Minute, Window: time.Minute, MinSamples: 1},
		},
		Policies: []policy.Policy{
			{ID: "odoo-worker-cpu-scaling-policy", Mode: fleet.On, Rules: []policy.Rule{
				{Signal: 0, Operator: fleet.AtLeast, Threshold: 70, Change: 1, N: 3, M: 2},
				{Signal: 0, Operator: fleet.AtMost, Threshold: 30, Change: -1, N: 5, M: 4},
			}},
			{ID: "odoo-worker-api-latency-scaling-policy", Mode: fleet.On, Rules: []policy.Rule{
				{Signal: 2, Operator: fleet.AtLeast, Threshold: 0.4, Change: 1, N: 2, M: 2},
			}},
			{ID: "odoo-worker-sync-sessions-scaling-policy", Mode: fleet.Shadow, Rules: []policy.Rule{
				{Signal: 1, Operator: fleet.AtLeast, Threshold: 80, Change: 1, N: 2, M: 2},
				{Signal: 3, Operator: fleet.AtLeast, Threshold: 40, Change: 1, N: 3, M: 3},
				{Signal: 3, Operator: fleet.AtMost, Threshold: 10, Change: -1, N: 3, M: 3},
			}},
		},
		Safeguards: policy.Safeguards{
			Pace: policy.Pace{CooldownUp: 300 * time.Second, CooldownDown: 600 * time.Second, StepUp: 1, StepDown: 1,
				RateCount: 1, RateWindow: 5 * time.Minute}, ActionLimit: 3 * time.Minute,
			Freezes: []policy.Freeze{{Name: "elections", From: time.Date(2027, 3, 1, 6, 0, 0, 0, rarotonga), To: time.Date(2027, 3, 2, 0, 0, 0, 0, rarotonga)}},
		},
	}
	if diff := cmp.Diff(want, cfg.Fleets[0].Policy); diff != "" {
		t.Error(diff)
	}
	if kind := cfg.Fleets[0].Balancer.Kind; kind != "" {
		t.Errorf("balancer %q from nowhere", kind)
	}
	if body, ok := cfg.Fleets[0].Signals[2].Body.(*accessLog); !ok || body.Route != "/api/mobile/sync" {
		t.Errorf("sync_p95 is read by %+v", cfg.Fleets[0].Signals[2].Body)
	}
	if cfg.Socket != "/var/lib/tidemark/tidemark.sock" || cfg.Tick != 15*time.Second || cfg.Instance.Tags["owner"] != "moa-ict" {
		t.Errorf("%+v", cfg)
	}
}

func TestEnvironmentPresets(t *testing.T) {
	minimal := string(read(t, "testdata/good/minimal.yaml"))
	for _, c := range []struct {
		text string
		want fleet.Mode
	}{
		{minimal, fleet.On},
		{"environment: production\n" + minimal, fleet.On},
		{"environment: staging\n" + minimal, fleet.On},
		{"environment: development\n" + minimal, fleet.Off},
		{"environment: development\n" + strings.Replace(minimal, "    bounds", "    mode: shadow\n    bounds", 1), fleet.Shadow},
	} {
		cfg, problems := config.Parse("x.yaml", []byte(c.text), catalog(), environ)
		if cfg == nil || cfg.Fleets[0].Policy.Mode != c.want {
			t.Errorf("%s\n%v", c.text, problems)
		}
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "fleet.yaml")
	t.Setenv("TIDEMARK_TEST_OWNER", "moa")
	text := "state_dir: state\ninstance: {tags: {owner: \"${TIDEMARK_TEST_OWNER}\"}}\n" + string(read(t, "testdata/good/minimal.yaml"))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	cfg, problems, err := config.Load("fleet.yaml", catalog())
	if err != nil || cfg == nil {
		t.Fatal(err, problems)
	}
	// The folder may be reached by way of a link, so it is asked for in the same way.
	full, err := filepath.Abs("state")
	if err != nil || cfg.StateDir != full || cfg.Socket != filepath.Join(full, "tidemark.sock") || cfg.Instance.Tags["owner"] != "moa" || cfg.File != "fleet.yaml" {
		t.Errorf("%+v, want in %s", cfg, full)
	}
	if _, _, err := config.Load("missing.yaml", catalog()); err == nil || !strings.Contains(err.Error(), "missing.yaml") {
		t.Errorf("a missing file: %v", err)
	}
	if err := os.WriteFile(path, make([]byte, 5<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, problems, err := config.Load("fleet.yaml", catalog()); err != nil || len(problems) != 1 || !strings.Contains(problems[0].Message, "more than") {
		t.Errorf("a file of 5 MiB: %v %v", err, problems)
	}
}

func TestJSON(t *testing.T) {
	_, problems := config.Parse("x.yaml", []byte("fleets: []\nlisten: :80\n"), catalog(), environ)
	got, err := json.Marshal(problems)
	want := `[{"file":"x.yaml","line":1,"column":9,"severity":"error","field":"fleets","message":"names no fleet","fix":"write an entry for each fleet, or there is nothing to do","source":"fleets: []"},` +
		`{"file":"x.yaml","line":2,"column":9,"severity":"error","field":"listen","message":"\":80\" is no address and port","fix":"write 127.0.0.1:8460","source":"listen: :80"}]`
	if err != nil || string(got) != want {
		t.Errorf("%s, %v", got, err)
	}
}

// TestSecretsStayHidden: whatever an adapter says of a value from the environment, the value is not shown.
func TestSecretsStayHidden(t *testing.T) {
	for secret, dsn := range map[string]string{"pa55\"word\n": "${X}", "ab": "${X}", "1": "x${X}x", "é": "${X}-${X}", "longer-secret": "a ${X} b"} {
		env := func(name string) (string, bool) { return secret, name == "X" }
		text := fmt.Sprintf("fleets:\n  - name: a\n    target: {prefork: {flavour: %q, pid_file: /x}}\n    bounds: {min: 1, max: 2}\n", dsn)
		_, problems := config.Parse("x.yaml", []byte(text), catalog(), env)
		if !problems.Failed() {
			t.Fatal(problems)
		}
		value := fmt.Sprintf("%q", strings.ReplaceAll(dsn, "${X}", secret)) // as the adapter shows it
		if out := problems.Error(); strings.Contains(out, value) || !strings.Contains(out, `flavour: "`+dsn+`" is no kind of master`) {
			t.Errorf("%q in %s", value, out)
		}
	}
}

func TestEffectiveHidesSecrets(t *testing.T) {
	text := strings.Replace(string(read(t, "testdata/good/everything.yaml")), `"http://localhost/idle", password: "${PG_DSN}"`, `"http://me:topsecret@localhost/idle", password: alsosecret`, 1)
	cfg, problems := config.Parse("x.yaml", []byte(text), catalog(), environ)
	if cfg == nil {
		t.Fatal(problems)
	}
	out := config.Effective(cfg)
	for _, secret := range []string{"topsecret", "alsosecret", "hunter22"} {
		if strings.Contains(out, secret) {
			t.Errorf("%s in\n%s", secret, out)
		}
	}
	if !strings.Contains(out, `DSN: "${PG_DSN}"`) {
		t.Error(out)
	}
}

// TestAliases: a block may be written once and used again; its mistakes are shown once, where they are.
func TestAliases(t *testing.T) {
	text := `fleets:
  - name: a
    target: {process: {command: [x]}}
    balancer: &b {proxy: {timeout: 5}}
    bounds: &bounds {min: 1, max: 2}
  - name: b
    target: {process: {command: [x]}}
    balancer: *b
    bounds: *bounds
`
	_, problems := config.Parse("x.yaml", []byte(text), catalog(), environ)
	if !problems.Failed() || strings.Count(problems.Error(), "timeout:") != 2 { // the message and the line
		t.Error(problems)
	}
	cfg, problems := config.Parse("x.yaml", []byte(strings.Replace(text, "timeout: 5", "timeout: 5s", 1)), catalog(), environ)
	if cfg == nil || cfg.Fleets[1].Policy.Bounds.Max != 2 || cfg.Fleets[1].Balancer.Body.(*proxy).Timeout != 5*time.Second {
		t.Error(problems)
	}
}

func thousandFleets() []byte {
	var b strings.Builder
	b.WriteString("fleets:\n")
	for i := range 1000 {
		fmt.Fprintf(&b, `  - name: fleet-%d
    target: {prefork: {flavour: odoo, pid_file: /run/odoo.pid}}
    bounds: {min: 2, max: 4}
    signals: {cpu: {procfs: {}}, p95: {access_log: {path: /var/log/access.log}, statistic: p95, window: 5m}}
    policies:
      - id: load
        rules:
          - {signal: cpu, operator: ">=", threshold: 70, scale_change: +1, evaluation_periods: 3, datapoints_to_alarm: 2}
          - {signal: cpu, operator: ">=", threshold: 90, scale_change: +1, evaluation_periods: 1}
          - {signal: cpu, operator: "<=", threshold: 30, scale_change: -1, evaluation_periods: 5, datapoints_to_alarm: 4}
          - {signal: p95, operator: ">=", threshold: 400ms, scale_change: +1, evaluation_periods: 2}
          - {signal: p95, operator: "<=", threshold: 100ms, scale_change: -1, evaluation_periods: 10}
`, i)
	}
	return []byte(b.String())
}

func TestThousandFleets(t *testing.T) {
	cfg, problems := config.Parse("x.yaml", thousandFleets(), catalog(), environ)
	if cfg == nil || len(cfg.Fleets) != 1000 || len(problems) != 0 {
		t.Fatal(problems[:min(3, len(problems))])
	}
}

func BenchmarkParse(b *testing.B) {
	data := thousandFleets()
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if cfg, problems := config.Parse("x.yaml", data, catalog(), environ); cfg == nil {
			b.Fatal(problems)
		}
	}
}
