package monitor

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/internal/control"
	"tidemark/internal/fleet"
	"tidemark/internal/show/web"
	"tidemark/test/servers"
)

const root = "../../.."

// TestFilesAreCurrent: what stands in deploy and docs is what the definitions make.
func TestFilesAreCurrent(t *testing.T) {
	for _, f := range Files {
		is, err := os.ReadFile(filepath.Join(root, f.Path))
		if err != nil {
			t.Fatal(err)
		}
		want, err := f.Make(is)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(is)); diff != "" {
			t.Errorf("%s is not current; run 'go generate ./internal/show/monitor':\n%s", f.Path, diff)
		}
	}
}

func TestUnknownFiguresAreRefused(t *testing.T) {
	if err := known("tidemark_fleet_workers_short > 0 and tidemark_fleet_sailors > 1"); err == nil || !strings.Contains(err.Error(), "tidemark_fleet_sailors") {
		t.Errorf("%v", err)
	}
	if _, err := Describe([]byte("a page without marks")); err == nil {
		t.Error("a page without marks was taken")
	}
}

// promtool is run with arguments, and must find nothing wrong.
func promtool(t *testing.T, input string, args ...string) {
	t.Helper()
	program := servers.Need(t, "promtool") // of Debian's prometheus
	cmd := exec.Command(program, args...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// TestRules: Prometheus takes the rules, and they are raised when they must be. Each is in the tests of rules.
func TestRules(t *testing.T) {
	dir := filepath.Join(root, "deploy/prometheus")
	tests, err := os.ReadFile(filepath.Join(dir, "tidemark.test.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range AlertRules() {
		if !strings.Contains(string(tests), r.Name) {
			t.Errorf("no test of rules has %s", r.Name)
		}
	}
	promtool(t, "", "check", "rules", filepath.Join(dir, "tidemark.rules.yaml"))
	promtool(t, "", "test", "rules", filepath.Join(dir, "tidemark.test.yaml"))
}

// TestDashboard: Prometheus understands each query, panels have ids of their own, and none lies on another.
func TestDashboard(t *testing.T) {
	text, err := Dashboard()
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	var rules strings.Builder
	rules.WriteString("groups: [{name: queries, rules: [\n")
	taken := map[[2]int]string{}
	ids := map[int]bool{}
	queries := 0
	for _, p := range d.Panels {
		if ids[p.ID] || p.Title == "" || p.Description == "" {
			t.Errorf("panel %d (%s) has no id, title or description of its own", p.ID, p.Title)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x > 23 {
					t.Fatalf("panel %s lies on %s at %d,%d", p.Title, other, x, y)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		for _, q := range p.Targets {
			queries++
			expr := strings.NewReplacer("$instance", ".*", "$fleet", ".*").Replace(q.Expr)
			rules.WriteString("  {record: 'a:b', labels: {n: '" + p.Title + q.RefID + "'}, expr: " + quote(expr) + "},\n")
		}
	}
	rules.WriteString("]}]\n")
	if queries < 20 {
		t.Fatalf("only %d queries", queries)
	}
	file := filepath.Join(t.TempDir(), "queries.yaml")
	if err := os.WriteFile(file, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "", "check", "rules", "--lint=none", file)
}

// overview is a backend that has only that.
type overview struct {
	web.Backend
	is web.Overview
}

func (o overview) Overview() web.Overview { return o.is }

// TestFigures: what /metrics writes is what Prometheus wants to read, and every name that is described is written.
func TestFigures(t *testing.T) {
	now := time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC)
	st := &control.Status{
		Fleet: `quoted "fleet" \ with a backslash`, Time: now, Size: fleet.Size{Known: true, Serving: 2}, Bounds: fleet.Bounds{Min: 2, Max: 10}, LastUp: now, LastDown: now,
		Decision:   fleet.Decision{Wanted: 3},
		Signals:    []control.SignalStatus{{Name: "cpu", Unit: fleet.Percent, Reading: fleet.Reading{Value: 50, Time: now, Quality: fleet.Fresh}}},
		Rules:      []control.RuleStatus{{Rule: fleet.Rule{Policy: "p", Signal: "cpu"}, State: fleet.OK}},
		Guards:     []control.GuardStatus{{Name: "database"}},
		Objectives: []control.Objective{{Policy: "slo", Signal: "p95", Within: 0.4, Alone: 3}},
	}
	api := web.New(overview{is: web.Overview{Instance: "i", Version: "v", Since: now, Fleets: []*control.Status{st}}})
	defer api.Close()
	w := httptest.NewRecorder()
	api.ServeHTTP(w, web.As(httptest.NewRequest(http.MethodGet, "/metrics", nil), web.Caller{Name: "prometheus", Role: web.Viewer}))
	text := w.Body.String()
	for _, m := range web.Metrics() {
		if !strings.Contains(text, "\n"+m.Name+"{") && !strings.Contains(text, "\n"+m.Name+" ") {
			t.Errorf("%s is not written", m.Name)
		}
		for label := range strings.SplitSeq(m.Labels, ", ") {
			if label != "" && !strings.Contains(text, label+"=") {
				t.Errorf("%s has no label %s", m.Name, label)
			}
		}
	}
	promtool(t, text, "check", "metrics")
}
