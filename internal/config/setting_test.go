package config_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"tidemark/internal/config"
)

const tunable = "\ufeff# Größe of it all: 70%\r\n" + `fleets:
  - name: web
    target: {prefork: {flavour: odoo, pid_file: /run/odoo.pid}}
    bounds: {min: 2, max: 10}
    signals:
      cpu:      {procfs: {field: cpu}, period: 1m}   # „sehr“ wichtig
      sync_p95: {access_log: {path: /a.log}, statistic: p95, window: 5m}
      rate: {access_log: {path: /a.log, rate: true}, window: 5m}
    policies:
      - id: cpu
        rules:
          - {signal: cpu, operator: ">=", threshold: "70 %", scale_change: +1, evaluation_periods: 3, datapoints_to_alarm: 2}
          - {signal: cpu, operator: "<=", threshold: 30, scale_change: -1, evaluation_periods: 5}
          - signal: sync_p95
            operator: ">="
            threshold: 400ms # the objective's is 500
            scale_change: 2
      - {preset: odoo_cpu, signal: cpu, id: other, scale_up: {threshold: 65%}}
    safeguards:
      cooldown: {scale_up: 300s, scale_down: &long 45m}
      step: {up: 2, down: 1}
      max_scaling_rate: 1 per 5m
      action_timeout: *long
`

func settings(t *testing.T, data []byte) (map[string]config.Setting, *config.Config) {
	t.Helper()
	cfg, problems := config.Parse("t.yaml", data, catalog(), func(string) (string, bool) { return "", false })
	if problems.Failed() {
		t.Fatal(problems)
	}
	out := map[string]config.Setting{}
	for _, s := range cfg.Settings("web") {
		out[strings.TrimPrefix(s.Path, "fleets.0.")] = s
	}
	return out, cfg
}

// A setting is written again the way the operator writes, and nothing else of the file changes, whatever stands before it.
func TestRewrite(t *testing.T) {
	data := []byte(strings.ReplaceAll(tunable, "&long 45m", "1h30m"))
	data = bytes.ReplaceAll(data, []byte("      action_timeout: *long\n"), nil)
	all, _ := settings(t, data)
	for _, tt := range []struct {
		path     string
		to       float64
		was, now string
	}{
		{"policies.0.rules.0.threshold", 62.5, `threshold: "70 %"`, `threshold: "62.5 %"`},
		{"policies.0.rules.0.scale_change", 3, "scale_change: +1, evaluation_periods: 3", "scale_change: +3, evaluation_periods: 3"},
		{"policies.0.rules.1.threshold", 25, "threshold: 30,", "threshold: 25,"},
		{"policies.0.rules.1.scale_change", -2, "scale_change: -1", "scale_change: -2"},
		{"policies.0.rules.1.evaluation_periods", 12, "evaluation_periods: 5", "evaluation_periods: 12"},
		{"policies.0.rules.2.threshold", 1.2, "threshold: 400ms #", "threshold: 1200ms #"},
		{"policies.0.rules.2.scale_change", 1, "scale_change: 2\n", "scale_change: 1\n"},
		{"policies.1.rules.0.threshold", 50, "threshold: 65%", "threshold: 50%"},
		{"safeguards.cooldown.scale_up", 90, "scale_up: 300s", "scale_up: 90s"},
		{"safeguards.cooldown.scale_down", 600, "scale_down: 1h30m", "scale_down: 10m"},
		{"safeguards.step.up", 4, "up: 2,", "up: 4,"},
		{"safeguards.max_scaling_rate", 90, "1 per 5m", "1 per 1m30s"},
		{"signals.cpu.period", 30, "period: 1m}", "period: 30s}"},
	} {
		s, ok := all[tt.path]
		if !ok {
			t.Errorf("%s is not there", tt.path)
			continue
		}
		got := config.Rewrite(data, []config.Edit{{Setting: s, To: tt.to}})
		want := bytes.Replace(data, []byte(tt.was), []byte(tt.now), 1)
		if !bytes.Equal(got, want) || bytes.Equal(want, data) {
			t.Errorf("%s: %d:%d %q\n%s", tt.path, s.Line, s.Column, s.Text, got)
			continue
		}
		again, _ := settings(t, got)
		if again[tt.path].Value != tt.to || len(again) != len(all) {
			t.Errorf("%s reads %g again, and is to be %g", tt.path, again[tt.path].Value, tt.to)
		}
	}
	if len(all) != 16 { // defaults, and what the preset says, do not stand in the file
		t.Errorf("%d settings: %v", len(all), slices.Sorted(func(yield func(string) bool) {
			for k := range all {
				if !yield(k) {
					return
				}
			}
		}))
	}
}

// Several edits of one file do not disturb each other, even in one line.
func TestRewriteSeveral(t *testing.T) {
	data := []byte(tunable)
	all, _ := settings(t, data)
	var edits []config.Edit
	for path, to := range map[string]float64{"policies.0.rules.0.threshold": 100, "policies.0.rules.0.scale_change": 10, "policies.0.rules.0.datapoints_to_alarm": 1, "safeguards.step.down": 3} {
		edits = append(edits, config.Edit{Setting: all[path], To: to})
	}
	again, _ := settings(t, config.Rewrite(data, edits))
	for _, e := range edits {
		if got := again[strings.TrimPrefix(e.Path, "fleets.0.")].Value; got != e.To {
			t.Errorf("%s is %g, and should be %g", e.Path, got, e.To)
		}
	}
}

// What is an alias, or used by another fleet too, is nobody's to tune for one of them.
func TestSharedSettings(t *testing.T) {
	all, _ := settings(t, []byte(tunable))
	if _, ok := all["safeguards.cooldown.scale_down"]; ok {
		t.Error("an anchor's value was found where its name stands")
	}
	text := `fleets:
  - &a
    name: web
    target: {prefork: {flavour: odoo, pid_file: /run/odoo.pid}}
    bounds: {min: 2, max: 10}
    signals: &signals {cpu: {procfs: {field: cpu}, period: 1m}}
    policies: &policies
      - {id: cpu, rules: [{signal: cpu, operator: ">=", threshold: 70%, scale_change: +1, evaluation_periods: 3}]}
    safeguards: {step: {up: 2}}
  - name: other
    target: {prefork: {flavour: odoo, pid_file: /run/other.pid}}
    bounds: {min: 2, max: 10}
    signals: *signals
    policies: *policies
`
	shared, _ := settings(t, []byte(text))
	if len(shared) != 1 || shared["safeguards.step.up"].Value != 2 {
		t.Errorf("%v", shared)
	}
}
