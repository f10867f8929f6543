package report

import (
	"encoding/xml"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/prove/outcome"
	"tidemark/internal/prove/verdict"
)

// played is a run that scaled from 2 to 3 workers, and a criterion of each status in the verdict.
func played() ([]*outcome.Run, *verdict.Verdict) {
	start := time.Date(2027, 3, 1, 18, 0, 0, 0, time.UTC)
	run := &outcome.Run{
		Scenario: "peak <drive>", Started: start, Ended: start.Add(2 * time.Minute), Length: fleet.Duration(2 * time.Minute), WarmUp: fleet.Duration(10 * time.Second), Compress: 60,
		Slot: fleet.Duration(time.Second), Target: "http://127.0.0.1:8400", Environment: "staging", ConfigDigest: strings.Repeat("c", 64), ScenarioDigest: strings.Repeat("5", 64),
		Machine: outcome.Machine{Name: "vm", OS: "linux", Arch: "amd64", Cores: 2}, Versions: map[string]string{"tidemark": "1.0"}, Generator: outcome.Generator{Requests: 1200},
		Notes: []string{"2 farmers < 3"},
	}
	step := outcome.Step{Journey: "lookup", Name: "by uid", Kind: outcome.API}
	f := outcome.Fleet{Name: "odoo", Bounds: fleet.Bounds{Min: 2, Max: 6}, Rules: []outcome.Rule{{Rule: fleet.Rule{Policy: "cpu-policy", Signal: "cpu", Unit: fleet.Percent, Operator: fleet.AtLeast, Threshold: 70}}}}
	for _, s := range []struct {
		name string
		unit fleet.Unit
	}{{"cpu", fleet.Percent}, {"pool_waiting", fleet.Number}, {"queue", fleet.Number}} {
		r := outcome.Resource{Signal: s.name, Unit: s.unit}
		for at := range 120 {
			r.Readings = append(r.Readings, fleet.Reading{Value: float64(at % 90), Time: start.Add(time.Duration(at) * time.Second), Quality: fleet.Fresh})
		}
		f.Signals = append(f.Signals, r)
	}
	for at := range 120 {
		slot := outcome.Slot{At: at, Count: 10, Failed: map[outcome.Class]uint64{outcome.FailedServer: 1}}
		for i := range 10 {
			slot.Latency.Record(0.1 + float64(i)/50)
		}
		step.Slots = append(step.Slots, slot)
		f.Sizes = append(f.Sizes, outcome.Sized{Time: start.Add(time.Duration(at) * time.Second), Size: fleet.Size{Known: true, Serving: 2 + at/60}})
	}
	run.Levels = []outcome.Level{{Rate: 20, Requests: 1000, P95: 0.3}, {Rate: 30, Requests: 200, P95: 0.9, Broke: "p95 was 900 ms"}, {Rate: 45}}
	run.Steps, run.Fleets = []outcome.Step{step}, []outcome.Fleet{f}
	run.Events = []fleet.Event{
		{Time: start.Add(50 * time.Second), Fleet: "odoo", Kind: fleet.EventDecision, From: 2, To: 3, Decision: &fleet.Decision{From: 2, To: 3}},
		{Time: start.Add(60 * time.Second), Fleet: "odoo", Kind: fleet.EventActionDone, From: 2, To: 3, Duration: fleet.Duration(40 * time.Second)},
		{Time: start.Add(70 * time.Second), Fleet: "odoo", Kind: fleet.EventGuard, Policy: "database", State: "holds", Note: "7 \x00 wait"},
	}
	v := &verdict.Verdict{Status: verdict.Invalid, Runs: 1, Invalid: []string{"partial: a & b"}, Bottlenecks: []verdict.Bottleneck{{Resource: verdict.Pool, Evidence: []string{"7 wait"}}}, Actions: []string{"Re-test."}}
	for _, s := range []verdict.Status{verdict.Passed, verdict.Within, verdict.Failed, verdict.Undecided, verdict.Unneeded} {
		v.Criteria = append(v.Criteria, verdict.Result{Criterion: outcome.Criterion{Name: "is " + string(s), Measure: outcome.Latency, Limit: 0.5}, Status: s, Unit: fleet.Seconds,
			Figure: &verdict.Interval{Value: 0.4, Low: 0.3, High: 0.45}, Why: "because \x01 it is <so>"})
	}
	return []*outcome.Run{run}, v
}

// The page of a load test has everything that a reader of a go-live looks for, and stands alone.
func TestLoadTestPage(t *testing.T) {
	runs, v := played()
	var b strings.Builder
	if err := LoadTest(runs, v, time.UTC).Write(&b); err != nil {
		t.Fatal(err)
	}
	html := b.String()
	for _, want := range []string{
		"INVALID", "partial: a &amp; b", "peak &lt;drive&gt;", "Response time", "Percentiles of all requests", "Throughput and errors", "odoo: workers that serve", "odoo: cpu", "odoo: pool_waiting", "odoo: queue",
		"2 -&gt; 3 serves, 40s after the breach", "guard database holds", "cpu-policy &gt;= 70 %", "warm-up", "vm, linux/amd64", "cccccccccccccccc", "5555555555555555", "staging", "Version of tidemark", "compressed 60 times",
		"120 http_5xx", "What was short", "Re-test.", "The staircase to the knee", "30 visits/s", "p95 was 900 ms", "2 farmers &lt; 3", "passed within variation", "undecided", "not exercised", "FAILED",
	} {
		if !strings.Contains(html, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	for _, not := range []string{"45 visits/s", "<script", "<link", "src=", "https://", "url(", "NaN", "%!"} {
		if strings.Contains(html, not) {
			t.Errorf("the page contains %q", not)
		}
	}
	// The marks of the two scaling events and the guard stand over each chart that has time below it and is the service's or the size's.
	if n := strings.Count(html, `class="mark`); n < 9 {
		t.Errorf("%d marks", n)
	}
}

// What CI systems read: a case for each criterion with one answer, and counts that are those of the cases.
func TestJUnit(t *testing.T) {
	runs, v := played()
	var b strings.Builder
	if err := JUnit(&b, runs, v); err != nil {
		t.Fatal(err)
	}
	var got suites
	if err := xml.Unmarshal([]byte(b.String()), &got); err != nil {
		t.Fatalf("%v\n%s", err, b.String())
	}
	want := map[string]string{"the runs are valid": "error", "is passed": "", "is passed_within_variation": "", "is failed": "failure", "is undecided": "error", "is not_exercised": "skipped"}
	for _, c := range got.Suite.Cases {
		answers := one(c.Failure) + one(c.Error) + one(c.Skipped)
		kind := map[*problem]string{c.Failure: "failure", c.Error: "error", c.Skipped: "skipped"}
		delete(kind, nil)
		is := ""
		for _, k := range kind {
			is = k
		}
		if expected, known := want[c.Name]; !known || is != expected || answers > 1 || c.Class != "tidemark.loadtest.peak <drive>" {
			t.Errorf("%s (%s): %q, want %q", c.Name, c.Class, is, expected)
		}
		if c.Failure != nil && (c.Failure.Type != "failed" || !strings.Contains(c.Failure.Message, "measured 400ms (300ms to 450ms), asked at most 500ms")) {
			t.Errorf("%+v", c.Failure)
		}
	}
	vocabulary(t, b.String())
	s := got.Suite
	if len(s.Cases) != len(want) || s.Tests != 6 || s.Failures != 1 || s.Errors != 2 || s.Skipped != 1 || got.Tests != s.Tests || got.Errors != s.Errors || s.Time != 120 || s.Timestamp != "2027-03-01T18:00:00" {
		t.Errorf("%+v", got)
	}
}

// vocabulary checks a file against the schema that Jenkins publishes (junit-10.xsd): GitLab, GitHub's actions and Azure read the same or less.
func vocabulary(t *testing.T, text string) {
	t.Helper()
	type element struct{ within, must, may string }
	schema := map[string]element{
		"testsuites": {"", "", "name time tests failures disabled errors"},
		"testsuite":  {"testsuites", "name", "tests failures errors group time skipped timestamp hostname id package file log url version"},
		"testcase":   {"testsuite", "name", "time classname group"},
		"failure":    {"testcase", "", "type message"},
		"error":      {"testcase", "", "type message"},
		"skipped":    {"testcase", "", "type message"},
		"system-out": {"testcase", "", ""},
	}
	var open []string
	for d := xml.NewDecoder(strings.NewReader(text)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch e := token.(type) {
		case xml.StartElement:
			within := ""
			if len(open) > 0 {
				within = open[len(open)-1]
			}
			known, ok := schema[e.Name.Local]
			if !ok || known.within != within {
				t.Errorf("<%s> within <%s>", e.Name.Local, within)
			}
			must := strings.Fields(known.must)
			for _, a := range e.Attr {
				if !slices.Contains(strings.Fields(known.must+" "+known.may), a.Name.Local) {
					t.Errorf("<%s %s>", e.Name.Local, a.Name.Local)
				}
				must = slices.DeleteFunc(must, func(m string) bool { return m == a.Name.Local && a.Value != "" })
			}
			if len(must) > 0 {
				t.Errorf("<%s> lacks %q", e.Name.Local, must)
			}
			open = append(open, e.Name.Local)
		case xml.EndElement:
			open = open[:len(open)-1]
		}
	}
}
