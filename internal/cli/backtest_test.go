package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/record"
	"tidemark/internal/record/sqlite"
)

// replayable is a configuration with a threshold, and a journal beside it of an hour in which CPU was 60 % and nobody acted.
func replayable(t *testing.T, threshold string) (path string) {
	t.Helper()
	dir := t.TempDir()
	path = filepath.Join(dir, "a"+threshold+".yaml")
	text := `instance: {name: dfr, time_zone: Pacific/Apia}
state_dir: ` + dir + `
fleets:
  - name: web
    target: {process: {command: [app, "--port={port}"], ports: {first: 9001}}}
    bounds: {min: 2, max: 6}
    signals:
      cpu: {procfs: {}}
      rate: {access_log: {path: /var/log/nginx/a.log, field: rate}}
    policies:
      - {id: cpu, rules: [{signal: cpu, operator: ">=", threshold: ` + threshold + `, scale_change: +1, evaluation_periods: 3, datapoints_to_alarm: 2}]}
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	j, err := sqlite.Open(t.Context(), filepath.Join(dir, "journal.db"), record.Retention{})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	start := time.Now().Add(-time.Hour).Truncate(15 * time.Second)
	var ticks []record.Tick
	for i := range 240 {
		at := start.Add(time.Duration(i) * 15 * time.Second)
		reading := func(v float64) fleet.Reading { return fleet.Reading{Value: v, Time: at, Quality: fleet.Fresh} }
		ticks = append(ticks, record.Tick{Fleet: "web", Time: at, Size: fleet.Size{Known: true, Serving: 2},
			Readings: []record.Sample{{Signal: "cpu", Reading: reading(60)}, {Signal: "rate", Reading: reading(12)}}})
	}
	if err := j.Commit(t.Context(), ticks...); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestBacktest(t *testing.T) {
	now := replayable(t, "70%")
	code, out, errOut := main(t, "backtest", "-c", now, "--since", "2h")
	if code != done || errOut != "" || !strings.Contains(out, "no difference: all 0 changes of size as they were; 2.0 worker-hours") {
		t.Errorf("exit %d, %q\n%s", code, errOut, out)
	}
	tried := replayable(t, "50%")
	page := filepath.Join(t.TempDir(), "b.html")
	code, out, errOut = main(t, "backtest", "-c", now, "--policy", tried, "--since", "1d", "--simulate", "--html", page)
	for _, want := range []string{"would have scaled", "2 -> 3; nobody did", "replayed: ▲ 2 -> 3", "Up to the first difference that is exact", "The load of that time, simulated:"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q: exit %d, %q\n%s", want, code, errOut, out)
		}
	}
	html, err := os.ReadFile(page)
	if err != nil || !strings.Contains(string(html), "Backtest of web") || !strings.Contains(string(html), "decisions otherwise") || strings.Contains(string(html), "<script") {
		t.Errorf("%v", err)
	}
	code, out, errOut = main(t, "backtest", "-c", now, "--policy", tried, "--since", "1d", "--json")
	var answer backtests
	if err := json.Unmarshal([]byte(out), &answer); err != nil || code != done || len(answer.Replays) != 1 || answer.Replays[0].Differ == 0 || answer.Replays[0].Ticks != 240 {
		t.Errorf("exit %d, %v, %q\n%.600s", code, err, errOut, out)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--since", "soon"}, "is no time"},
		{[]string{"--since", "5h", "--until", "4h"}, "no raw readings of that time"},
		{[]string{"--fleet", "none"}, "has no fleet"},
	} {
		code, _, errOut := main(t, append([]string{"backtest", "-c", now}, c.args...)...)
		if code != failed || !strings.Contains(errOut, c.want) {
			t.Errorf("%v: exit %d, %q", c.args, code, errOut)
		}
	}
}
