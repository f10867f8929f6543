package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/foresee/month"
	"tidemark/internal/record"
	"tidemark/internal/record/sqlite"
)

// TestReport: a real journal's month, in each of its forms.
func TestReport(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(path("t.yaml"), []byte(`
instance: {name: dfr-tonga, country: TON, time_zone: Pacific/Tongatapu, tags: {owner: ict}}
state_dir: .
report: {service_levels: {pages: {signal: page}}}
fleets:
  - name: web
    tags: {programme: dfr}
    target: {command: {scale: ["true", "{size}"], size: ["echo", "3"]}}
    bounds: {min: 2, max: 4}
    signals:
      cpu: {push: {unit: percent}}
      page: {push: {unit: seconds}}
    policies: [{id: p, rules: [{signal: cpu, operator: ">=", threshold: 70%, scale_change: +1, evaluation_periods: 3}, {signal: cpu, operator: "<=", threshold: 30%, scale_change: -1}]}]
    safeguards: {budget: {monthly: 100, currency: USD, worker_hour: 0.5}}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	j, err := sqlite.Open(t.Context(), path("journal.db"), record.Retention{})
	if err != nil {
		t.Fatal(err)
	}
	zone, err := time.LoadLocation("Pacific/Tongatapu")
	if err != nil {
		t.Fatal(err)
	}
	from := time.Date(2025, 3, 1, 0, 0, 0, 0, zone)
	var ticks []record.Tick
	for i := range 31 * 24 * 30 / 2 { // the first half of the month, every other minute
		at := from.Add(time.Duration(i) * 2 * time.Minute)
		ticks = append(ticks, record.Tick{Fleet: "web", Time: at.UTC(), Size: fleet.Size{Known: true, Serving: 3}, Readings: []record.Sample{
			{Signal: "cpu", Reading: fleet.Reading{Value: 55, Time: at, Quality: fleet.Fresh}}, {Signal: "page", Reading: fleet.Reading{Value: 1.5, Time: at, Quality: fleet.Fresh}},
		}})
	}
	if err := j.Commit(t.Context(), ticks...); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (string, int) {
		var out, errs bytes.Buffer
		code := Main(append([]string{"report", "-c", path("t.yaml")}, args...), &out, &errs)
		return out.String() + errs.String(), code
	}
	text, code := run("--month", "2025-03", "--json")
	var r month.Report
	if err := json.Unmarshal([]byte(text), &r); err != nil || code != done {
		t.Fatalf("%v, code %d: %s", err, code, text)
	}
	f := &r.Fleets[0]
	const half = 31 * 12.0
	if got := time.Duration(f.Coverage.Known).Hours(); got < half-1 || got > half+1 {
		t.Errorf("%v hours are known, of %v", got, half)
	}
	if got := f.Money.Spent; got < 0.5*3*(half-1) || got > 0.5*3*(half+1) || f.Money.Verdict != month.Missed {
		t.Errorf("spent %v, %s", got, f.Money.Verdict)
	}
	if f.Levels[1].Verdict != month.Met || f.Levels[0].Verdict != month.Unknown || f.CPU.Mean != 55 || len(r.Tags) != 2 {
		t.Errorf("levels %+v, CPU %+v, tags %+v", f.Levels, f.CPU, r.Tags)
	}
	if text, code := run("--month", "2025-03", "--html", path("r.html"), "--markdown", path("r.md"), "--csv", path("r.csv"), "--focus", path("f.csv")); code != done || text != "" {
		t.Errorf("code %d: %s", code, text)
	}
	for name, want := range map[string]string{"r.html": "<h1>March 2025: dfr-tonga</h1>", "r.md": "of the month that was seen", "r.csv": "2025-03,web,availability,100,percent,99.5,met", "f.csv": "BilledCost,"} {
		if b, err := os.ReadFile(path(name)); err != nil || !strings.Contains(string(b), want) {
			t.Errorf("%s lacks %q (%v)", name, want, err)
		}
	}
	if text, code := run("--month", "2025-03"); code != done || !strings.HasPrefix(text, "# March 2025: dfr-tonga\n") {
		t.Errorf("code %d: %s", code, text)
	}
	if text, code := run("--month", "March"); code != failed || !strings.Contains(text, "write one such as 2027-03") {
		t.Errorf("code %d: %s", code, text)
	}
	if text, code := run("--journal", path("none.db")); code != failed || !strings.Contains(text, "none.db") {
		t.Errorf("code %d: %s", code, text)
	}
}

func TestTopWithoutADaemon(t *testing.T) {
	var out, errs bytes.Buffer
	if code := Main([]string{"top", "--socket", filepath.Join(t.TempDir(), "s")}, &out, &errs); code != failed || !strings.Contains(errs.String(), "no daemon answers") {
		t.Errorf("code %d: %s", code, errs.String())
	}
	if code := Main([]string{"top", "--every", "1ms"}, &out, &errs); code != failed || !strings.Contains(errs.String(), "too often") {
		t.Errorf("code %d: %s", code, errs.String())
	}
}
