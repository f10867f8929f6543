package cli

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tidemark/internal/prove/outcome"
)

// service answers after a while that a test sets.
func service(t *testing.T) (url string, takes *atomic.Int64) {
	t.Helper()
	takes = new(atomic.Int64)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(time.Duration(takes.Load()))
		fmt.Fprintln(w, "ok")
	}))
	t.Cleanup(s.Close)
	return s.URL, takes
}

const little = `name: little
about: "a look now and then"
duration: 1s
drain: 5s
limits: {duration: 1m, requests: 10000, connections: 100}
journeys:
  - name: look
    steps: [{name: look, path: /}]
load: [{journey: look, rate: [{at: 0s, rate: 60}], arrivals: even}]
criteria:
  - {name: API p95, measure: latency, of: api, quantile: p95, at_most: 2s, variation: 10%}
  - {name: errors, measure: error_rate, at_most: 5%}
`

// judgedBy runs a load test with a report of each kind, and returns its exit code, the status in its JSON and the JUnit XML's counts.
func judgedBy(t *testing.T, args ...string) (code int, status string, junit xmlSuites) {
	t.Helper()
	dir := t.TempDir()
	code, out, errOut := main(t, append([]string{"loadtest", "--json", "--html", filepath.Join(dir, "r.html"), "--junit", filepath.Join(dir, "r.xml")}, args...)...)
	var v struct {
		Verdict struct {
			Status string `json:"status"`
		} `json:"verdict"`
	}
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		t.Fatalf("%v: exit %d, %v\n%s", args, code, err, errOut)
	}
	html, err := os.ReadFile(filepath.Join(dir, "r.html"))
	if err != nil || !strings.Contains(string(html), "Percentiles of all requests") {
		t.Errorf("%v: %d bytes of HTML, %v", args, len(html), err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "r.xml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := xml.Unmarshal(text, &junit); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return code, v.Verdict.Status, junit
}

type xmlSuites struct {
	XMLName  xml.Name `xml:"testsuites"`
	Tests    int      `xml:"tests,attr"`
	Failures int      `xml:"failures,attr"`
	Errors   int      `xml:"errors,attr"`
}

// Little real runs: each verdict has its exit code and its place in JUnit's XML; five runs are compared with five earlier ones.
func TestLoadTestFromTheRunToTheExitCode(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: plays ten runs")
	}
	url, takes := service(t)
	dir := t.TempDir()
	scenario := filepath.Join(dir, "little.yaml")
	if err := os.WriteFile(scenario, []byte(little), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir) // no configuration, no daemon
	for _, set := range []struct {
		out   string
		takes time.Duration
	}{{"before", 5 * time.Millisecond}, {"now", 100 * time.Millisecond}} {
		takes.Store(int64(set.takes))
		// A busy machine may make runs invalid; whatever it is, the exit code says the same.
		if code, status, junit := judgedBy(t, scenario, "--target", url, "--runs", "5", "--out", set.out); code != codes[status] || junit.Tests < 2 || (code == 3) != (junit.Errors > 0) {
			t.Errorf("%s: exit %d, %s, %+v", set.out, code, status, junit)
		}
		onTime(t, set.out)
	}
	if code, status, junit := judgedBy(t, "--outcome", "before", "--compare", "now"); code != 0 || status != "passed" || junit.Tests != 2 || junit.Failures+junit.Errors != 0 {
		t.Errorf("quicker than before: exit %d, %s, %+v", code, status, junit)
	}
	if code, status, junit := judgedBy(t, "--outcome", "now", "--compare", "before"); code != 1 || status != "failed" || junit.Failures != 1 {
		t.Errorf("slower than before, although the limit is kept: exit %d, %s, %+v", code, status, junit)
	}
	if code, out, _ := main(t, "loadtest", "--outcome", "now", "--compare", "before"); code != 1 || !strings.Contains(out, "against 5 earlier runs") || !strings.Contains(out, "p = 0.008") {
		t.Errorf("as text: exit %d\n%s", code, out)
	}
}

// codes are the exit codes by what JSON says.
var codes = map[string]int{"passed": 0, "passed_within_variation": 0, "failed": 1, "undecided": 2, "invalid": 3}

// onTime takes from kept runs what the machine's other work made of them: that requests started late.
func onTime(t *testing.T, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(files) != 5 {
		t.Fatalf("%d runs were kept, %v", len(files), err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var run outcome.Run
		if err := json.Unmarshal(text, &run); err != nil {
			t.Fatal(err)
		}
		run.Generator.Limits = nil
		if text, err = json.Marshal(run); err == nil {
			err = os.WriteFile(f, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// What needs no load to be played.
func TestLoadTestExitCodes(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("PATH", dir) // no k6
	write := func(name, text string) string {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	jtl := func(requests int, ms func(i int) int, code string) string {
		var b strings.Builder
		b.WriteString("timeStamp,elapsed,label,responseCode,success\n")
		for i := range requests {
			fmt.Fprintf(&b, "%d,%d,look up,%s,%t\n", 1796000000000+i*100, ms(i), code, code == "200")
		}
		return b.String()
	}
	steady := func(ms int) func(int) int { return func(i int) int { return ms + i%10 } }
	close := func(i int) int { return 350 + i*37%210 } // p95 is about the limit and its variation
	for _, tt := range []struct {
		name, text   string
		code         int
		status       string
		fails, wrong int // in JUnit's words: failures, errors
	}{
		{"quick.jtl", jtl(6000, steady(100), "200"), 0, "passed", 0, 0},
		{"within.jtl", jtl(6000, steady(520), "200"), 0, "passed_within_variation", 0, 0},
		{"slow.jtl", jtl(6000, steady(800), "200"), 1, "failed", 1, 0},
		{"failing.jtl", jtl(6000, steady(100), "500"), 1, "failed", 2, 0},
		{"short.jtl", jtl(40, steady(100), "200"), 2, "undecided", 0, 3},
		{"close.jtl", jtl(100, close, "200"), 2, "undecided", 0, 3},
		{"cut.xml", `<testResults version="1.2"><httpSample t="250" ts="1796000000000" s="true" lb="look up" rc="200" rm="OK"/>`, 3, "invalid", 0, 4},
	} {
		code, status, junit := judgedBy(t, "--jtl", write(tt.name, tt.text))
		if code != tt.code || status != tt.status || junit.Failures != tt.fails || junit.Errors != tt.wrong {
			t.Errorf("%s: exit %d, %s, %+v; want %d, %s, %d failures, %d errors", tt.name, code, status, junit, tt.code, tt.status, tt.fails, tt.wrong)
		}
	}
	// A k6 that drops iterations: what it measured of the others proves nothing.
	k6 := `{"metric":"http_reqs","type":"Point","data":{"time":"2026-11-28T02:00:00Z","value":1,"tags":{"name":"look up","status":"200"}}}
{"metric":"http_req_duration","type":"Point","data":{"time":"2026-11-28T02:00:00Z","value":20,"tags":{"name":"look up","status":"200"}}}
{"metric":"dropped_iterations","type":"Point","data":{"time":"2026-11-28T02:00:01Z","value":3,"tags":{"scenario":"default"}}}
`
	if code, status, junit := judgedBy(t, "--k6-json", write("k6.json", k6)); code != 3 || status != "invalid" || junit.Errors == 0 {
		t.Errorf("dropped iterations: exit %d, %s, %+v", code, status, junit)
	}
	for _, tt := range []struct {
		want string
		args []string
	}{
		{"is empty: an empty result is a test that was not run", []string{"--jtl", write("empty.jtl", "")}},
		{"no request in it", []string{"--jtl", write("head.jtl", jtl(0, nil, ""))}},
		{"k6 is not on the PATH", []string{"--k6", write("s.js", "")}},
		{"name a scenario", nil},
		{"say what is to be loaded", []string{"baseline"}},
		{"must be from 1 to 50", []string{"baseline", "--target", "http://127.0.0.1:1", "--runs", "0"}},
		{"does not allow to load", []string{"baseline", "--target", "http://192.0.2.1"}},
		{"connection refused", []string{"baseline", "--target", "http://127.0.0.1:1"}},
		{"none.json", []string{"--outcome", "none.json"}},
		{"no such file", []string{"--jtl", "quick.jtl", "--compare", "nowhere"}},
	} {
		if code, _, errOut := main(t, append([]string{"loadtest"}, tt.args...)...); code != 3 || !strings.Contains(errOut, tt.want) {
			t.Errorf("%v: exit %d, %q; want 3 and %q in it", tt.args, code, errOut, tt.want)
		}
	}
}

// The list names each scenario that is built in, with a word about it, and says the same to programs.
func TestLoadTestList(t *testing.T) {
	code, out, _ := main(t, "loadtest", "--list")
	jsonCode, text, _ := main(t, "loadtest", "--list", "--json")
	var all []struct{ Name, About string }
	if err := json.Unmarshal([]byte(text), &all); err != nil || code != 0 || jsonCode != 0 {
		t.Fatalf("exit %d and %d, %v\n%s", code, jsonCode, err, text)
	}
	var names []string
	for _, s := range all {
		names = append(names, s.Name)
		if s.About == "" || !strings.Contains(out, s.Name+" ") || !strings.Contains(out, s.About+"\n") {
			t.Errorf("%+v is not in\n%s", s, out)
		}
		if code, own, _ := main(t, "loadtest", "--show", s.Name); code != 0 || !strings.Contains(own, "name: "+s.Name) {
			t.Errorf("--show %s: exit %d\n%s", s.Name, code, own)
		}
	}
	for _, want := range []string{"peak-farmer-registration-drive", "concurrent-mobile-sync", "baseline", "soak", "stress"} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is not among %q", want, names)
		}
	}
}
