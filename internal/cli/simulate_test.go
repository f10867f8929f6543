package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tidemark/internal/foresee"
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
	} {
		code, _, errOut := main(t, append([]string{"simulate", "-c", example}, c.args...)...)
		if code != failed || !strings.Contains(errOut, c.want) {
			t.Errorf("%v: exit %d, %q", c.args, code, errOut)
		}
	}
}
