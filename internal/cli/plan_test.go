package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tidemark/internal/foresee/plan"
)

func TestPlan(t *testing.T) {
	unreachable(t)
	dir := t.TempDir()
	page := filepath.Join(dir, "plan.html")
	code, out, errOut := main(t, "plan", "--devices", "120", "--growth", "150", "--years", "3", "--budget", "300", "--html", page)
	if code != done || errOut != "" {
		t.Fatalf("exit %d, %q", code, errOut)
	}
	for _, want := range []string{"150 % more in 5 years", "PostgreSQL max_connections", "to reserve", "a month's savings: capacity freed, and cash", "cost of a month", "load.devices", "given", "--devices"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	html, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Capacity and cost of dfr", "What the busiest time needs", "When it is outgrown", "Right-sizing", "What to reserve", "What a month saves", "What a month costs", "What it starts from", "<svg", "budget", "--devices"} {
		if !strings.Contains(string(html), want) {
			t.Errorf("no %q in the page", want)
		}
	}
	tonga := filepath.Join("..", "..", "examples", "plan", "tonga.yaml")
	code, out, errOut = main(t, "plan", "--file", tonga, "--json")
	var p plan.Plan
	if err := json.Unmarshal([]byte(out), &p); err != nil || code != done || p.Name != "dfr-tonga" || len(p.Needs) != 6 || len(p.Costs) != 60 || len(p.Reserve) != 0 {
		t.Errorf("exit %d, %v, %q, %+v", code, err, errOut, p)
	}
	if code, out, _ = main(t, "plan", "--file", tonga); code != done || strings.Contains(out, "to reserve") || strings.Contains(out, "workers on an instance") {
		t.Errorf("on a machine that is paid for there is nothing to rent or reserve:\n%s", out)
	}
	bad := filepath.Join(dir, "bad.yaml")
	if err := os.WriteFile(bad, []byte("load:\n  devices: -5\n  farmes: 10\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--file", bad}, "bad.yaml:3:3"},
		{[]string{"--file", filepath.Join(dir, "no.yaml")}, "no such file"},
		{[]string{"--years", "0"}, "years: 0 is out of range"},
		{[]string{"--journal", "journal.db"}, "--journal needs the configuration"},
		{[]string{"--devices", "0", "--visitors", "0", "--administrators", "0"}, "the load is 0"},
		{[]string{"--peak", "1e6"}, "no plan for one fleet"},
	} {
		if code, _, errOut := main(t, append([]string{"plan"}, c.args...)...); code == done || !strings.Contains(errOut, c.want) {
			t.Errorf("%v: exit %d, %q", c.args, code, errOut)
		}
	}
}
