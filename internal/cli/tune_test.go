package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tidemark/internal/foresee/tune"
)

const late = `# ours
tick: 60s
fleets:
  - name: web
    target: {process: {command: [app, "{port}"], ports: {first: 9001, last: 9020}}}
    balancer: {proxy: {listen: "127.0.0.1:8080"}}
    bounds: {min: 2, max: 8}
    signals:
      busy: {proxy: {field: busy}}
    policies:
      - id: busy
        rules:
          - {signal: busy, operator: ">=", threshold: 95%, scale_change: +1, evaluation_periods: 5}  # late
          - {signal: busy, operator: "<=", threshold: 20%, scale_change: -1, evaluation_periods: 9}
`

// A recommendation is shown as a diff in all three forms, and the file stays as it is.
func TestTune(t *testing.T) {
	path, page := filepath.Join(t.TempDir(), "late.yaml"), filepath.Join(t.TempDir(), "tune.html")
	if err := os.WriteFile(path, []byte(late), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"tune", "-c", path, "--days", "4", "--peak", "40", "--seeds", "2", "--level", "fluid", "--budget", "11e6"}
	code, out, errOut := main(t, append(args, "--html", page)...)
	html, err := os.ReadFile(page)
	if code != done || errOut != "" || err != nil {
		t.Fatalf("exit %d, %q, %v\n%s", code, errOut, err, out)
	}
	for _, want := range []string{"late.yaml:13", "threshold of busy, to scale out", "@@ -10,", "# late", "x the clairvoyant with P(violation)", "Pareto front"} {
		if !strings.Contains(out, want) || !strings.Contains(strings.NewReplacer("&#43;", "+", "<td class=\"n \">", "late.yaml:").Replace(string(html)), want) {
			t.Errorf("no %q in both:\n%s", want, out)
		}
	}
	if !strings.Contains(out, "A change is recommended.") || !strings.Contains(out, "Nothing was changed") || strings.Contains(string(html), "<script") {
		t.Errorf("%s", out)
	}
	code, out, _ = main(t, append(args, "--json")...)
	var r tune.Result
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != done || r.Recommended == nil || r.Recommended.HoldOut == nil || !strings.Contains(r.Diff, "+          - {signal: busy") {
		t.Errorf("exit %d, %v\n%s", code, err, out)
	}
	if now, err := os.ReadFile(path); err != nil || string(now) != late {
		t.Errorf("%v: the file was changed:\n%s", err, now)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--load", "registration-drive"}, "too short to split into days"},
		{[]string{"--budget", "1000"}, "--budget 1e+03 is too little"},
		{[]string{"--allow", "100"}, "--allow 100"},
		{[]string{"--seeds", "0"}, "--seeds 0"},
		{[]string{"--fleet", "none"}, "has no fleet"},
		{[]string{"--load", "weekly"}, "there is no load"},
	} {
		code, _, errOut := main(t, append([]string{"tune", "-c", path}, c.args...)...)
		if code != failed || !strings.Contains(errOut, c.want) {
			t.Errorf("%v: exit %d, %q", c.args, code, errOut)
		}
	}
}
