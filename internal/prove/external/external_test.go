package external

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidemark/internal/decide/signal"
	"tidemark/internal/prove/outcome"
)

// whole adds up a step.
func whole(t *testing.T, run *outcome.Run, name string) (h signal.Histogram, failed map[outcome.Class]uint64, kind outcome.Kind) {
	t.Helper()
	failed = map[outcome.Class]uint64{}
	for i := range run.Steps {
		s := &run.Steps[i]
		if s.Name != name {
			continue
		}
		kind = s.Kind
		for j := range s.Slots {
			h.Add(&s.Slots[j].Latency.Histogram)
			for c, n := range s.Slots[j].Failed {
				failed[c] += n
			}
		}
	}
	return h, failed, kind
}

const jtlHead = "timeStamp,elapsed,label,responseCode,responseMessage,threadName,dataType,success,failureMessage,bytes,sentBytes,grpThreads,allThreads,URL,Latency,IdleTime,Connect\n"

func TestJMeterCSV(t *testing.T) {
	text := jtlHead +
		"1796000000000,250,look up,200,OK,g 1-1,text,true,,1200,100,1,1,http://h/a,240,0,3\n" +
		"1796000001500,700,look up,503,Service Unavailable,g 1-1,text,false,,90,100,1,1,http://h/a,240,0,3\n" +
		"1796000001600,5,look up,Non HTTP response code: java.net.UnknownHostException,\"Non HTTP response message: h, unknown\",g 1-1,text,false,,0,0,1,1,http://h/a,0,0,0\n" +
		"garbage\n" +
		"1796000002000,1500,page home,200,OK,g 1-1,text,true,,5000,100,1,1,http://h/,240,0,3\n" +
		"1796000000000,90000,sync,200,\"Number of samples in transaction : 2, number of failing samples : 0\",g 1-1,,true,,0,0,1,1,,0,0,0\n"
	run, err := readJMeter("r.jtl", strings.NewReader(text), 0)
	if err != nil {
		t.Fatal(err)
	}
	h, failed, kind := whole(t, run, "look up")
	if h.Count() != 3 || failed[outcome.FailedServer] != 1 || failed[outcome.FailedDNS] != 1 || kind != outcome.API {
		t.Errorf("%d requests, %v failed, kind %s", h.Count(), failed, kind)
	}
	if got := h.Quantile(0.5); math.Abs(got-0.25) > 0.005 {
		t.Errorf("median is %g s, want 0.25", got)
	}
	if _, _, kind := whole(t, run, "page home"); kind != outcome.Page {
		t.Errorf("kind is %s", kind)
	}
	if len(run.Journeys) != 1 || run.Journeys[0].Name != "sync" || math.Abs(run.Journeys[0].Slots[0].Duration.Quantile(0.5)-90) > 1.5 {
		t.Errorf("%+v", run.Journeys)
	}
	if run.Started.UnixMilli() != 1796000000000 || time.Duration(run.Length) != 3*time.Second || run.Generator.Requests != 4 {
		t.Errorf("started %v, %v long, %d requests", run.Started, time.Duration(run.Length), run.Generator.Requests)
	}
	if run.Cut == "" || !strings.Contains(run.Cut, "1 of 6 lines could not be read, the first is line 5") {
		t.Errorf("one line of six is a sixth of the run: %q", run.Cut)
	}
}

func TestJMeterXML(t *testing.T) {
	text := `<?xml version="1.0" encoding="UTF-8"?>
<testResults version="1.2">
<httpSample t="250" it="0" lt="240" ct="3" ts="1796000000000" s="true" lb="look up" rc="200" rm="OK" tn="g 1-1" dt="text" by="1200">
  <httpSample t="100" ts="1796000000000" s="true" lb="look up-0" rc="302" rm="Found"/>
</httpSample>
<sample t="4000" ts="1796000000000" s="true" lb="sync" rc="200" rm="Number of samples in transaction : 2, number of failing samples : 0"/>
<httpSample t="30" ts="1796000000100" s="false" lb="look up" rc="404" rm="Not Found"/>
`
	run, err := readJMeter("r.jtl", strings.NewReader(text+"</testResults>\n"), 0)
	if err != nil {
		t.Fatal(err)
	}
	h, failed, _ := whole(t, run, "look up")
	if h.Count() != 2 || failed[outcome.FailedClient] != 1 || len(run.Steps) != 1 || len(run.Journeys) != 1 || run.Cut != "" {
		t.Errorf("%d requests, %v, %d steps, cut %q", h.Count(), failed, len(run.Steps), run.Cut)
	}
	run, err = readJMeter("r.jtl", strings.NewReader(text), 0) // JMeter was killed
	if err != nil || !strings.Contains(run.Cut, "the file ends in line") {
		t.Errorf("%v, %v", run, err)
	}
}

func TestNothingMeasuredIsAnError(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"", "is empty"},
		{jtlHead, "no request in it"},
		{jtlHead + "99999999999999999,1,a,200,OK,t,text,true,,1,1,1,1,u,1,0,0\n", "is none of a load test"},
		{"1796000000000,250,look up,200,OK\n", "no column timeStamp"},
		{jtlHead + "x,1,a,200,OK,t,text,true,,1,1,1,1,u,1,0,0\n", `line 2: timeStamp "x"`},
	} {
		if _, err := readJMeter("r.jtl", strings.NewReader(tt.text), 0); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: %v, want %q", tt.text, err, tt.want)
		}
	}
	if _, err := readK6("k.json", strings.NewReader("{}\n"), 0); err == nil || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("%v", err)
	}
}

// k6Request is one request as k6's JSON output writes it.
func k6Request(end time.Time, name, kind, status string, blocked, duration float64) string {
	tags := fmt.Sprintf(`{"expected_response":"true","group":"","kind":%q,"method":"GET","name":%q,"proto":"HTTP/1.1","scenario":"default","status":%q,"url":"http://h/a?q=1"}`, kind, name, status)
	point := func(metric string, v float64) string {
		return fmt.Sprintf(`{"metric":%q,"type":"Point","data":{"time":%q,"value":%g,"tags":%s}}`+"\n", metric, end.Format(time.RFC3339Nano), v, tags)
	}
	failed := 0.0
	if status >= "400" || status == "0" {
		failed = 1
	}
	return point("http_reqs", 1) + point("http_req_duration", duration) + point("http_req_blocked", blocked) + point("http_req_connecting", 0) + point("http_req_waiting", duration) + point("http_req_failed", failed)
}

func k6Output(requests int) string {
	start := time.Date(2026, 11, 28, 2, 0, 0, 0, time.UTC)
	var b strings.Builder
	b.WriteString(`{"type":"Metric","data":{"name":"http_reqs","type":"counter","contains":"default","thresholds":[],"submetrics":null},"metric":"http_reqs"}` + "\n")
	for i := range requests {
		b.WriteString(k6Request(start.Add(time.Duration(i)*100*time.Millisecond), "look up", "", "200", 20, 180))
	}
	b.WriteString(k6Request(start.Add(time.Minute), "home", "page", "502", 0, 1500))
	b.WriteString(`{"metric":"group_duration","type":"Point","data":{"time":"2026-11-28T02:01:00Z","value":45000,"tags":{"group":"::sync","scenario":"default"}}}` + "\n")
	return b.String()
}

func TestK6JSON(t *testing.T) {
	run, err := readK6("k.json", strings.NewReader(k6Output(200)), 0)
	if err != nil {
		t.Fatal(err)
	}
	h, failed, _ := whole(t, run, "look up")
	if h.Count() != 200 || len(failed) != 0 || math.Abs(h.Quantile(0.95)-0.2) > 0.004 {
		t.Errorf("%d requests, %v failed, p95 %g s: response time is blocked + duration", h.Count(), failed, h.Quantile(0.95))
	}
	if _, failed, kind := whole(t, run, "home"); failed[outcome.FailedServer] != 1 || kind != outcome.Page {
		t.Errorf("%v failed, kind %s", failed, kind)
	}
	if len(run.Journeys) != 1 || run.Journeys[0].Name != "sync" || run.Cut != "" {
		t.Errorf("%+v, cut %q", run.Journeys, run.Cut)
	}
	dropped := `{"metric":"dropped_iterations","type":"Point","data":{"time":"2026-11-28T02:01:00Z","value":3,"tags":{"scenario":"default"}}}` + "\n"
	if run, err = readK6("k.json", strings.NewReader(k6Output(1)+dropped), 0); err != nil || run.Generator.Dropped != 3 {
		t.Errorf("%v, %v", run, err)
	}
}

// A day of requests takes no more slots than an hour.
func TestLongRunsAreBounded(t *testing.T) {
	g := gather("k6")
	start := time.Date(2026, 11, 28, 2, 0, 0, 0, time.UTC)
	for i := range 24 * 360 {
		g.request(request{name: fmt.Sprint("step ", i%300), kind: outcome.API, start: start.Add(time.Duration(i) * 10 * time.Second), latency: time.Millisecond})
	}
	run, err := g.outcome("long", 0)
	if err != nil {
		t.Fatal(err)
	}
	n := uint64(0)
	for i := range run.Steps {
		if len(run.Steps[i].Slots) > mostSlots {
			t.Errorf("%d slots", len(run.Steps[i].Slots))
		}
		for j := range run.Steps[i].Slots {
			n += run.Steps[i].Slots[j].Count
		}
	}
	if len(run.Steps) > mostSteps+1 || n != 24*360 {
		t.Errorf("%d steps with %d requests", len(run.Steps), n)
	}
}

// imitation puts a program named k6 on the PATH that is called as k6 is, writes what k6 writes, and ends as told: k6 itself cannot be had here.
// It refuses to be called otherwise.
func imitation(t *testing.T, code int, results []byte) (script string) {
	t.Helper()
	dir := t.TempDir()
	program := fmt.Sprintf(`#!/bin/sh
[ "$1 $2 $3 $4" = "run --quiet --no-usage-report --out" ] && [ "$6 $7" = "-e BASE=http://h" ] || { echo "called with $*" >&2; exit 1; }
case $8 in *script.js) ;; *) exit 1 ;; esac
[ -s %[1]s/results.gz ] && cp %[1]s/results.gz "${5#json=}"
echo "k6 says something" >&2
exit %[2]d
`, dir, code)
	for name, text := range map[string][]byte{"results.gz": results, "k6": []byte(program), "script.js": nil} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return filepath.Join(dir, "script.js")
}

func compressed(text string) []byte {
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	_, _ = w.Write([]byte(text))
	_ = w.Close()
	return z.Bytes()
}

// k6's exit codes, whatever it leaves behind: a crossed threshold is the script's own verdict and is noted, anything else makes the run partial or
// none, and iterations that were dropped are told.
func TestK6Runs(t *testing.T) {
	whole := compressed(k6Output(100))
	dropped := compressed(k6Output(100) + `{"metric":"dropped_iterations","type":"Point","data":{"time":"2026-11-28T02:01:00Z","value":7,"tags":{"scenario":"default"}}}` + "\n")
	for _, tt := range []struct {
		code           int
		results        []byte
		cut, note, err string
		dropped        uint64
	}{
		{code: 0, results: whole},
		{code: 0, results: dropped, dropped: 7},
		{code: 0, err: "no such file"},
		{code: 0, results: compressed(""), err: "an empty result is a test that was not run"},
		{code: 99, results: whole, note: "a threshold of the script was crossed"},
		{code: 104, err: "its options are wrong"},
		{code: 105, results: whole[:len(whole)/2], cut: "it was aborted"},
		{code: 107, results: whole, cut: "the script threw an exception"},
		{code: 107, err: "the script threw an exception"},
		{code: 42, results: whole, cut: "k6 ended with code 42"},
	} {
		var said bytes.Buffer
		run, err := K6{Script: imitation(t, tt.code, tt.results), Args: []string{"-e", "BASE=http://h"}, Stderr: &said}.Run(t.Context())
		switch {
		case said.String() != "k6 says something\n":
			t.Errorf("code %d: k6 said %q", tt.code, said.String())
		case tt.err != "":
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("code %d: %v, want %q", tt.code, err, tt.err)
			}
		case err != nil:
			t.Errorf("code %d: %v", tt.code, err)
		case run.Scenario != "script.js" || (tt.cut == "") != (run.Cut == "") || !strings.Contains(run.Cut, tt.cut) || !strings.Contains(strings.Join(run.Notes, "\n"), tt.note) || run.Generator.Dropped != tt.dropped:
			t.Errorf("code %d: cut %q, notes %q, %d dropped", tt.code, run.Cut, run.Notes, run.Generator.Dropped)
		}
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := (K6{Script: "script.js"}).Run(context.Background()); err == nil || !strings.Contains(err.Error(), "not on the PATH") {
		t.Errorf("%v", err)
	}
}

// The example scripts for k6 are modules that parse, wherever there is somebody who can tell.
func TestExampleScriptsParse(t *testing.T) {
	scripts, err := filepath.Glob("../../../examples/k6/*.js")
	if err != nil || len(scripts) < 3 {
		t.Fatalf("%d scripts, %v", len(scripts), err)
	}
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("no node here that could parse them")
	}
	dir := t.TempDir()
	for _, script := range scripts {
		text, err := os.ReadFile(script)
		if err != nil {
			t.Fatal(err)
		}
		module := filepath.Join(dir, filepath.Base(script)+".mjs")
		if err := os.WriteFile(module, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.CommandContext(t.Context(), node, "--check", module).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", script, err, out)
		}
	}
}

// Columns are told by their names: in another order, with others between, or parted by something else they are the same.
func TestJMeterColumnsByName(t *testing.T) {
	for _, text := range []string{
		"success,label,elapsed,Latency,timeStamp,responseCode\ntrue,look up,250,9,1796000000000,200\n",
		"\ufefftimeStamp\tallThreads\telapsed\tlabel\tresponseCode\tsuccess\r\n1796000000000\t3\t250\tlook up\t200\ttrue\r\n",
		"timeStamp;elapsed;label;success\n2026/11/28 02:13:20.000;250;look up;true\n",
	} {
		run, err := readJMeter("r.jtl", strings.NewReader(text), 0)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if h, failed, _ := whole(t, run, "look up"); h.Count() != 1 || len(failed) != 0 || math.Abs(h.Quantile(0.5)-0.25) > 0.005 {
			t.Errorf("%q: %d requests of %g s, %v failed", text, h.Count(), h.Quantile(0.5), failed)
		}
	}
}

func FuzzReaders(f *testing.F) {
	f.Add(jtlHead + "1796000000000,250,look up,200,OK,g 1-1,text,true,,1200,100,1,1,http://h/a,240,0,3\n")
	f.Add(k6Output(1))
	f.Add(`<testResults><httpSample t="1" ts="1796000000000" s="true" lb="a"/></testResults>`)
	f.Fuzz(func(t *testing.T, text string) {
		for _, read := range []func() (*outcome.Run, error){
			func() (*outcome.Run, error) { return readJMeter("f", strings.NewReader(text), 0) },
			func() (*outcome.Run, error) { return readK6("f", strings.NewReader(text), 0) },
		} {
			if run, err := read(); err == nil && (run.Generator.Requests == 0 || run.Length <= 0) {
				t.Errorf("%d requests in %v without an error", run.Generator.Requests, time.Duration(run.Length))
			}
		}
	})
}
