package config_test

import (
	"strings"
	"testing"

	"tidemark/internal/config"
)

// What is written about a fleet stands beside what is in force of it, without secrets, whatever comes before and after.
func TestWrittenAndEffectiveOfAFleet(t *testing.T) {
	const head, foot = "listen: 127.0.0.1:8460\nfleets:\n", "# the end\ntick: 15s\n"
	const web = `  # the portal
  - name: web
    target: {prefork: {flavour: odoo, pid_file: "/x://u:abcdefgh@h"}}

    bounds: {min: 1, max: 2}   # small
`
	const odoo = "  - name: odoo\n    target: {prefork: {flavour: odoo, pid_file: /y}}\n    bounds: {min: 2, max: 4}\n"
	cfg, problems := config.Parse("x.yaml", []byte(head+web+odoo+foot), catalog(), environ)
	if cfg == nil {
		t.Fatal(problems)
	}
	got, ok := cfg.Written(0)
	want := "  - name: web\n    target: {prefork: {flavour: odoo, pid_file: \"/x://u:********@h\"}}\n\n    bounds: {min: 1, max: 2}   # small\n"
	if !ok || got != want {
		t.Errorf("web is written\n%s\nwant\n%s", got, want)
	}
	if got, ok := cfg.Written(1); !ok || got != odoo {
		t.Errorf("odoo is written\n%s", got)
	}
	for i, name := range []string{"web", "odoo"} {
		got := cfg.EffectiveFleet(i)
		if !strings.HasPrefix(got, "  - name: "+name) || strings.Count(got, "- name:") != 1 || !strings.Contains(got, "max_scaling_rate") || strings.Contains(got, "abcdefgh") {
			t.Errorf("%s is in force\n%s", name, got)
		}
	}
	in, problems := config.Parse("x.yaml", []byte("fleets: [{name: a, target: {prefork: {flavour: odoo, pid_file: /x}}, bounds: {min: 1, max: 2}}]\n"), catalog(), environ)
	if in == nil {
		t.Fatal(problems)
	}
	if got, ok := in.Written(0); ok {
		t.Errorf("of a fleet in the middle of a line: %q", got)
	}
}
