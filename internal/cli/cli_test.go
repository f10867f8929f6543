package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"tidemark/internal/show/text"
)

// main runs the command line as a person would.
func main(t *testing.T, args ...string) (code int, out, errOut string) {
	t.Helper()
	var o, e bytes.Buffer
	code = Main(args, &o, &e)
	return code, o.String(), e.String()
}

// unreachable gives the examples' secrets values that lead nowhere.
func unreachable(t *testing.T) {
	t.Setenv("PG_DSN", "postgres://nobody@127.0.0.1:1/dfr")
	t.Setenv("PGBOUNCER_DSN", "postgres://nobody@127.0.0.1:1/pgbouncer")
}

func TestEachCommandHasHelpAndAnExample(t *testing.T) {
	root := (&command{}).root()
	n := 0
	for _, c := range root.Commands() {
		if c.Hidden {
			continue
		}
		n++
		if c.Short == "" || !strings.Contains(c.Example, "tidemark "+c.Name()) {
			t.Errorf("%s: short help %q, example %q", c.Name(), c.Short, c.Example)
		}
	}
	if n < 12 {
		t.Errorf("only %d commands", n)
	}
}

func TestNoDaemonSaysWhatToDo(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "none.sock")
	for _, args := range [][]string{{"status"}, {"events"}, {"explain", "f"}, {"scale", "f", "3"}, {"hold", "f"}, {"release", "f"}, {"mode", "f", "off"}, {"push", "f", "sessions", "17"}, {"alert", "list"}, {"alert", "test"}} {
		code, _, errOut := main(t, append(args, "--socket", socket)...)
		if code != failed || !strings.Contains(errOut, "is 'tidemark run' running?") || !strings.Contains(errOut, socket) {
			t.Errorf("%v: exit %d, %q", args, code, errOut)
		}
	}
}

func TestBadArguments(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"scale", "f", "none"}, "is no size"},
		{[]string{"scale", "f", "0"}, "is no size"},
		{[]string{"mode", "f", "onn"}, "is no mode"},
		{[]string{"push", "f", "sessions", "17%"}, "is no number"},
		{[]string{"push", "f", "sessions", "NaN"}, "is no number"},
		{[]string{"push", "f", "sessions", "17", "--expiry", "1ms"}, "1s to 24h"},
		{[]string{"statsu"}, "unknown command"},
		{[]string{"check", "/nowhere/x.yaml"}, "no such file"},
		{[]string{"status", "-c", "/nowhere/x.yaml"}, "--socket PATH"},
	} {
		code, _, errOut := main(t, tt.args...)
		if code != failed || !strings.Contains(errOut, tt.want) {
			t.Errorf("%v: exit %d, %q; want %q in it", tt.args, code, errOut, tt.want)
		}
	}
}

func TestCheck(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(bad, []byte("fleets:\n  - name: x\n    bounds: {min: 5, max: 2}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, errOut := main(t, "check", bad)
	if code != no || !strings.Contains(errOut, "bad.yaml:3:") || !strings.Contains(errOut, "^") {
		t.Errorf("exit %d\n%s", code, errOut)
	}
	code, out, _ := main(t, "check", bad, "--json")
	var problems []map[string]any
	if err := json.Unmarshal([]byte(out), &problems); err != nil || code != no || len(problems) == 0 {
		t.Errorf("exit %d, %v\n%s", code, err, out)
	}
}

var comment = regexp.MustCompile(` *#.*`)

// Every configuration that is shown as an example is good, and nothing is doubtful about those that are meant for production.
func TestExamplesAreGood(t *testing.T) {
	const secret = "kept-in-the-environment"
	t.Setenv("PGBOUNCER_DSN", "postgres://tidemark:"+secret+"@127.0.0.1:6432/pgbouncer")
	t.Setenv("PG_DSN", "postgres://tidemark:"+secret+"@127.0.0.1:5432/dfr")
	var files []string
	for _, pattern := range []string{"../../examples/*.yaml", "../../examples/*/*.yaml"} {
		more, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, more...)
	}
	if len(files) < 17 {
		t.Fatalf("only %d examples", len(files))
	}
	for _, f := range files {
		if strings.Contains(f, "/plan/") || strings.Contains(f, "/loadtest/") || strings.Contains(f, "/work/") {
			continue // plans, scenarios and descriptions of work are no configurations: their packages test them
		}
		if code, _, errOut := main(t, "check", "-c", f); code != done || errOut != "" && strings.Contains(f, "/dfr/") {
			t.Errorf("%s: exit %d\n%s", f, code, errOut)
		}
		code, effective, errOut := main(t, "check", f, "--effective")
		if code != done || effective == "" || strings.Contains(effective+errOut, secret) {
			t.Errorf("%s --effective: exit %d\n%s%s", f, code, effective, errOut)
		}
		// What will run can itself be run.
		again := filepath.Join(t.TempDir(), "effective.yaml")
		if err := os.WriteFile(again, []byte(effective), 0o600); err != nil {
			t.Fatal(err)
		}
		if code, out, errOut := main(t, "check", again, "--effective"); code != done || comment.ReplaceAllString(out, "") != comment.ReplaceAllString(effective, "") {
			t.Errorf("%s --effective, read again: exit %d\n%s%s", f, code, out, errOut)
		}
	}
}

func TestNginxSnippet(t *testing.T) {
	unreachable(t)
	const example = "../../examples/dfr/tonga.yaml"
	code, out, errOut := main(t, "nginx-snippet", "-c", example)
	for _, want := range []string{"limit_conn_zone", "~^/api/mobile/sync(/|$) critical;", "proxy_pass http://127.0.0.1:8069;", "access_log /var/log/nginx/dfr.access.log tidemark_odoo_workers;"} {
		if code != done || !strings.Contains(out, want) {
			t.Errorf("exit %d, and no %q in\n%s%s", code, want, out, errOut)
		}
	}
	dir := t.TempDir()
	if code, out, errOut := main(t, "nginx-snippet", "odoo-workers", "-c", example, "--dir", dir); code != done || !strings.Contains(out, "nginx -t") {
		t.Errorf("exit %d\n%s%s", code, out, errOut)
	}
	for _, file := range []string{"http.conf", "server.conf"} {
		if b, err := os.ReadFile(filepath.Join(dir, file)); err != nil || !strings.Contains(out, string(b)) {
			t.Errorf("%s (%v):\n%s", file, err, b)
		}
	}
	for _, args := range [][]string{{"-c", "../../examples/command.yaml"}, {"nobody", "-c", example}, {"-c", example, "--dir", "/nowhere"}} {
		if code, _, errOut := main(t, append([]string{"nginx-snippet"}, args...)...); code != failed || errOut == "" {
			t.Errorf("%v: exit %d, %q", args, code, errOut)
		}
	}
}

func TestHAProxySnippet(t *testing.T) {
	unreachable(t)
	const example = "../../examples/haproxy.yaml"
	code, out, errOut := main(t, "haproxy-snippet", "-c", example)
	for _, want := range []string{"\nbackend registry\n", "set-priority-class int(1) if { var(txn.tidemark) -m str critical }", "cookie REGISTRY_WORKER insert", "timeout queue 20000"} {
		if code != done || !strings.Contains(out, want) {
			t.Errorf("exit %d, and no %q in\n%s%s", code, want, out, errOut)
		}
	}
	if code, out, _ := main(t, "haproxy-snippet", "registry", "-c", example, "--json"); code != done || !strings.Contains(out, `"file": "/etc/haproxy/tidemark.cfg"`) {
		t.Errorf("exit %d\n%s", code, out)
	}
	for _, args := range [][]string{{"-c", "../../examples/command.yaml"}, {"nobody", "-c", example}} {
		if code, _, errOut := main(t, append([]string{"haproxy-snippet"}, args...)...); code != failed || !strings.Contains(errOut, "balancer: {haproxy: {...}}") {
			t.Errorf("%v: exit %d, %q", args, code, errOut)
		}
	}
}

func TestMoment(t *testing.T) {
	apia, err := time.LoadLocation("Pacific/Apia")
	if err != nil {
		t.Fatal(err)
	}
	v := text.View{Now: time.Date(2027, 3, 1, 20, 0, 0, 0, time.UTC), Zone: apia} // 09:00 on the 2nd in Apia
	for s, want := range map[string]time.Time{
		"":                     {},
		"25m":                  v.Now.Add(-25 * time.Minute),
		"08:30":                time.Date(2027, 3, 2, 8, 30, 0, 0, apia),
		"2027-03-01 07:00":     time.Date(2027, 3, 1, 7, 0, 0, 0, apia),
		"2027-03-01T07:00:00Z": time.Date(2027, 3, 1, 7, 0, 0, 0, time.UTC),
	} {
		if got, err := moment(s, v); err != nil || !got.Equal(want) {
			t.Errorf("%q is %v (%v), want %v", s, got, err, want)
		}
	}
	if _, err := moment("yesterday", v); err == nil || !strings.Contains(err.Error(), "25m (ago)") {
		t.Errorf("yesterday: %v", err)
	}
}
