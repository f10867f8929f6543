package cli

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidemark/internal/app"
	"tidemark/internal/config"
	"tidemark/internal/fleet"
	"tidemark/internal/foresee"
	"tidemark/internal/foresee/peer"
	"tidemark/internal/record"
	"tidemark/internal/record/sqlite"
)

func TestSimulate(t *testing.T) {
	unreachable(t)
	example := filepath.Join("..", "..", "examples", "dfr", "tonga.yaml")
	code, out, errOut := main(t, "simulate", "-c", example, "--load", "registration-drive", "--policy", example, "--seeds", "2", "--decisions")
	if code != done || errOut != "" || !strings.Contains(out, "▲ 2 -> 3") || strings.Count(out, "tonga.yaml") != 2 || !strings.Contains(out, "95 % interval") {
		t.Errorf("exit %d, %q\n%s", code, errOut, out)
	}
	trace := filepath.Join(t.TempDir(), "trace.csv")
	if err := os.WriteFile(trace, []byte("time,rate\n0,5\n60,10\n120,20\n300,5\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errOut = main(t, "simulate", "-c", example, "--load", trace, "--json")
	var forecasts []foresee.Forecast
	if err := json.Unmarshal([]byte(out), &forecasts); err != nil || code != done || len(forecasts) != 1 || forecasts[0].Requests.Mean < 1000 || !strings.Contains(errOut, "1 gaps") {
		t.Errorf("exit %d, %v, %q\n%s", code, err, errOut, out)
	}
	work := filepath.Join("..", "..", "examples", "work", "registry.yaml")
	page := filepath.Join(t.TempDir(), "work.html")
	code, out, errOut = main(t, "simulate", "-c", example, "--load", "concurrent-sync", "--peak", "40", "--work", work, "--html", page)
	if code != done || errOut != "" || !strings.Contains(out, "database  used to") || !strings.Contains(out, "/api/mobile/sync") || strings.Contains(out, "pool_waiting (pgbouncer) is not simulated") {
		t.Errorf("exit %d, %q\n%s", code, errOut, out)
	}
	if html, err := os.ReadFile(page); err != nil || !strings.Contains(string(html), "Routes of tonga.yaml") || !strings.Contains(string(html), "/api/mobile/sync") {
		t.Errorf("%v: the report does not tell the routes", err)
	}
	bad := filepath.Join(t.TempDir(), "work.yaml")
	if err := os.WriteFile(bad, []byte("routes:\n  - {route: /api, share: 1, service: 60, database: 140%}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--load", "weekly"}, "there is no load"},
		{[]string{"--load", "no.csv"}, "no such file"},
		{[]string{"--seeds", "0"}, "--seeds 0"},
		{[]string{"--quantile", "2"}, "--quantile 2"},
		{[]string{"--days", "-1"}, "--days -1"},
		{[]string{"--start", "soon"}, "write a date"},
		{[]string{"--fleet", "none"}, "has no fleet"},
		{[]string{"--service", "0s"}, "must be positive"},
		{[]string{"--work", "no.yaml"}, "no such file"},
		{[]string{"--work", work, "--service", "1s"}, "leave them out"},
		{[]string{"--work", work, "--level", "fluid"}, "leave out --level fluid"},
		{[]string{"--work", bad}, "work.yaml:2:38: service"},
		{[]string{"--objective", "0s"}, "--objective 0s"},
		{[]string{"--days", "1", "--peer", "vpa"}, "there is no peer"},
		{[]string{"--days", "1", "--peer", "fixed"}, "such as fixed:4"},
		{[]string{"--load", "journal"}, "journal.db"},
	} {
		code, _, errOut := main(t, append([]string{"simulate", "-c", example}, c.args...)...)
		if code != failed || !strings.Contains(errOut, c.want) {
			t.Errorf("%v: exit %d, %q", c.args, code, errOut)
		}
	}
}

// Policies and peers stand side by side, on the same arrivals, in all three forms; over seeds each figure has its interval.
func TestSimulatePeers(t *testing.T) {
	unreachable(t)
	example := filepath.Join("..", "..", "examples", "dfr", "tonga.yaml")
	page := filepath.Join(t.TempDir(), "s.html")
	args := []string{"simulate", "-c", example, "--load", "registration-drive", "--peak", "40", "--seeds", "2", "--html", page, "--policy", filepath.Join("..", "..", "examples", "dfr", "samoa.yaml"),
		"--peer", "hpa", "--peer", "steps", "--peer", "fixed:4", "--peer", "clairvoyant"}
	names := []string{"tonga.yaml", "samoa.yaml", "hpa:80", "steps", "fixed:4", "clairvoyant"}
	code, out, errOut := main(t, args...)
	html, err := os.ReadFile(page)
	if code != done || errOut != "" || err != nil {
		t.Fatalf("exit %d, %q, %v", code, errOut, err)
	}
	for _, want := range append(names, "±") {
		if !strings.Contains(out, want) || !strings.Contains(string(html), want) {
			t.Errorf("no %q in text (%v) or page", want, strings.Contains(out, want))
		}
	}
	for _, want := range []string{"<svg", "Decisions of tonga.yaml", "Figures are means of 2 runs", "Workers", "worker-hours", "cpu"} {
		if !strings.Contains(string(html), want) {
			t.Errorf("no %q in the page", want)
		}
	}
	for _, not := range []string{"<script", "http://", "https://"} {
		if text := strings.ReplaceAll(string(html), "http://www.w3.org", ""); strings.Contains(text, not) {
			t.Errorf("%q in a page that stands alone", not)
		}
	}
	code, out, _ = main(t, append(args, "--json")...)
	var all []foresee.Forecast
	if err := json.Unmarshal([]byte(out), &all); err != nil || code != done || len(all) != len(names) {
		t.Fatalf("exit %d, %v, %d forecasts", code, err, len(all))
	}
	for i, f := range all {
		if f.Name != names[i] || f.Requests != all[0].Requests || f.Seeds != 2 || !(f.P95.Low < f.P95.High || f.WorkerHours.Low < f.WorkerHours.High || f.Requests.Low < f.Requests.High) {
			t.Errorf("%s: %+v requests, %+v worker-hours", f.Name, f.Requests, f.WorkerHours)
		}
	}
	fixed, knows := all[4], all[5]
	if fixed.Least != 4 || fixed.Most != 4 || knows.Violations.Mean > 0.1 || knows.Violations.Mean >= all[3].Violations.Mean {
		t.Errorf("fixed %d to %d; the clairvoyant misses %g %%, the steps %g %%", fixed.Least, fixed.Most, knows.Violations.Mean, all[3].Violations.Mean)
	}
}

// The peer that is called steps is what a configuration with the requirements' policies decides by.
func TestStepsAreTheRequirements(t *testing.T) {
	text := `fleets:
  - name: web
    target: {prefork: {flavour: odoo, pid_file: /run/odoo.pid}}
    bounds: {min: 2, max: 10}
    signals:
      cpu: {procfs: {}}
      p95: {access_log: {path: /a.log}, statistic: p95, window: 5m}
    policies: [{preset: odoo_cpu, signal: cpu}, {preset: api_latency, signal: p95}]
`
	cfg, problems := config.Parse("r.yaml", []byte(text), app.Catalog(), os.LookupEnv)
	if problems.Failed() {
		t.Fatal(problems)
	}
	want := &cfg.Fleets[0].Policy
	got, err := peer.New(peer.Steps, peer.Condition{Bounds: want.Bounds})
	if err != nil {
		t.Fatal(err)
	}
	if got.Policy.Pace != want.Pace || len(got.Policy.Policies) != len(want.Policies) {
		t.Errorf("%+v, and configured %+v", got.Policy.Pace, want.Pace)
	}
	for i, p := range want.Policies {
		for j, r := range p.Rules {
			g := got.Policy.Policies[i].Rules[j]
			if got.Policy.Signals[g.Signal].Name != want.Signals[r.Signal].Name {
				t.Errorf("%s is on %s", p.ID, got.Policy.Signals[g.Signal].Name)
			}
			if g.Signal = r.Signal; g != r || got.Policy.Policies[i].ID != p.ID {
				t.Errorf("%s: %+v, and configured %+v", p.ID, g, r)
			}
		}
	}
}

// The load that a fleet had is played from its journal; where nothing was measured, that is told, and not taken as no load.
func TestSimulateTheJournal(t *testing.T) {
	path := replayable(t, "70%")
	code, out, errOut := main(t, "simulate", "-c", path, "--load", "journal", "--since", "2h", "--json")
	var all []foresee.Forecast
	if err := json.Unmarshal([]byte(out), &all); err != nil || code != done || errOut != "" || math.Abs(all[0].Requests.Mean-12*3600) > 1200 {
		t.Fatalf("exit %d, %v, %q\n%.300s", code, err, errOut, out)
	}
	j, err := sqlite.Open(t.Context(), filepath.Join(filepath.Dir(path), "journal.db"), record.Retention{})
	if err != nil {
		t.Fatal(err)
	}
	last := time.Now().Truncate(15 * time.Second)
	ticks := []record.Tick{{Fleet: "web", Time: last.Add(30 * time.Minute), Size: fleet.Size{Known: true, Serving: 2}, Readings: []record.Sample{{Signal: "rate", Reading: fleet.Reading{Value: 12, Time: last.Add(30 * time.Minute), Quality: fleet.Fresh}}}}}
	if err := j.Commit(t.Context(), ticks...); err != nil {
		t.Fatal(err)
	}
	j.Close()
	code, out, errOut = main(t, "simulate", "-c", path, "--load", "journal", "--since", "2h", "--json")
	if err := json.Unmarshal([]byte(out), &all); err != nil || code != done || !strings.Contains(errOut, "was not measured in") || math.Abs(all[0].Requests.Mean-12*5400) > 2000 {
		t.Errorf("exit %d, %v, %q: %v requests", code, err, errOut, all[0].Requests)
	}
	code, _, errOut = main(t, "simulate", "-c", path, "--load", "journal", "--since", "soon")
	if code != failed || !strings.Contains(errOut, "is no time") {
		t.Errorf("exit %d, %q", code, errOut)
	}
}
