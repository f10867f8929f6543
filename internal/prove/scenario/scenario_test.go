package scenario

import (
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestBuiltinScenariosAreGood(t *testing.T) {
	if n := len(Builtin()); n != 5 {
		t.Errorf("%d scenarios: %v", n, Builtin())
	}
	for _, name := range Builtin() {
		for _, compress := range []float64{1, 60} {
			for _, library := range []string{"", "odoo"} {
				s, err := Open(name, Options{Compress: compress, Library: library})
				if err != nil {
					t.Errorf("%s in %q: %v", name, library, err)
					continue
				}
				if s.Name != name || s.About == "" || len(s.Outcome()) == 0 || s.Cleanup == "" {
					t.Errorf("%s is called %s, %q, with %d criteria and %q", name, s.Name, s.About, len(s.Outcome()), s.Cleanup)
				}
			}
		}
	}
}

func TestExampleIsGood(t *testing.T) {
	if _, err := Open("../../../examples/loadtest/own.yaml", Options{}); err != nil {
		t.Error(err)
	}
}

// The requirements' numbers are in the two scenarios that they name.
func TestRequirementsScenarios(t *testing.T) {
	peak, err := Open("peak-farmer-registration-drive", Options{})
	if err != nil {
		t.Fatal(err)
	}
	if peak.Duration < time.Hour || peak.Duration > 2*time.Hour || peak.Load[0].Users != 10 || peak.Load[1].Users != 100 {
		t.Errorf("%v, %+v", peak.Duration, peak.Load[:2])
	}
	if before, during := peak.Rate(2)(10*time.Minute), peak.Rate(2)(30*time.Minute); during < 5*before {
		t.Errorf("registrations go from %g to %g: no spike", before, during)
	}
	sync, err := Open("concurrent-mobile-sync", Options{})
	if err != nil {
		t.Fatal(err)
	}
	if sync.Duration != time.Hour || sync.Load[0].Users != 50 || sync.Vars["records"] != "500" || sync.Load[0].Network.Down != 384e3 || sync.Load[0].Network.Up != 128e3 {
		t.Errorf("%v, %+v, %v", sync.Duration, sync.Load[0], sync.Vars)
	}
	if c := sync.Outcome()[0]; c.Limit != 120 || c.Variation != 0.15 {
		t.Errorf("%+v", c)
	}
	short, err := Open("concurrent-mobile-sync", Options{Compress: 60, Vars: map[string]string{"batch": "5"}})
	if err != nil {
		t.Fatal(err)
	}
	if short.Duration != time.Minute || short.Vars["records"] != "25" || short.Vars["batch"] != "5" || short.Outcome()[0].Limit != 20 {
		t.Errorf("%v, %v, %+v", short.Duration, short.Vars, short.Outcome()[0])
	}
}

func TestProblemsHaveTheirPlace(t *testing.T) {
	const good = `name: mine
duration: 10m
journeys:
  - name: home
    steps:
      - name: home
        path: /
load:
  - {journey: home, users: 3}
`
	if _, err := Parse("mine.yaml", []byte(good), Options{}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ from, to, want string }{
		{"path: /", "path: home", `mine.yaml:7:15: path: "home" does not begin with /`},
		{"path: /", "path: /x/{{.uid}}", `mine.yaml:7:15: path: {{.uid}} is nowhere given`},
		{"path: /", "path: /{{if}}", "mine.yaml:7:15: path: line 1 of it"},
		{"path: /", "path: /\n        extract: {a: {json: x}}", `mine.yaml:8:29: json: "x" is no JSON pointer`},
		{"path: /", "path: /\n        extract: {a: {regexp: x}}", `mine.yaml:8:31: regexp: has no group`},
		{"path: /", "path: /\n        method: FETCH", `"FETCH" is no method`},
		{"path: /", "path: /\n        think: often", `"often" is no time; write 2s, or 1s-3s`},
		{"path: /", "path: /\n        bodi: x", "unknown field bodi; did you mean body?"},
		{"journey: home", "journey: house", `there is no journey "house"`},
		{"users: 3", "users: 3, rate: [{at: 0s, rate: 1}]", "says in 2 ways how visits come"},
		{"users: 3", "users: 3, network: 5g", `"5g" is no network; write one of 3g`},
		{"users: 3", "users: 3000", "limits.connections"},
		{"10m", "48h", "limits.duration"},
		{"load:", "library: sap\nload:", `there is no library "sap"`},
		{"load:", "allow: ['https://x']\nload:", "is no host"},
		{"load:", "criteria: [{measure: speed}]\nload:", `"speed" is no measure`},
		{"load:", "criteria: [{measure: latency, quantile: p95, at_most: fast}]\nload:", `"fast" is no time; write 500ms`},
		{"load:", "criteria: [{measure: error_rate, at_most: 1}]\nload:", `"1" is no percentage`},
		{"load:", "criteria: [{measure: throughput, at_most: 1}]\nload:", "needs at_least"},
		{"load:", "criteria: [{measure: latency, at_most: 1s}]\nload:", "have one"},
		{"load:", "stop_when: {errors: 5%}\ncriteria: [{measure: knee, at_least: 10}]\nload:", "there is no knee to be found"},
		{"users: 3}", "steps: {first: 1, factor: 2, each: 1m}}\ncriteria: [{measure: knee, at_least: 10}]", "there is no knee to be found"},
		{"name: mine", "name: mine\nname: yours", "is written twice"},
	} {
		_, err := Parse("mine.yaml", []byte(strings.Replace(good, c.from, c.to, 1)), Options{})
		text := ""
		if err != nil {
			text = err.Error()
		}
		if !strings.Contains(text, "mine.yaml:") || !strings.Contains(text, strings.TrimPrefix(c.want, "limits.")) {
			t.Errorf("%s -> %s:\n%s\nwant %s", c.from, c.to, text, c.want)
		}
	}
	if _, err := Parse("mine.yaml", []byte(good), Options{Vars: map[string]string{"x": "1"}}); err == nil || !strings.Contains(err.Error(), `no var "x"`) {
		t.Error(err)
	}
}

func TestOnlyWhatIsAllowedIsLoaded(t *testing.T) {
	s, err := Open("baseline", Options{})
	if err != nil {
		t.Fatal(err)
	}
	s.Allow = []string{"staging.moa.example"}
	for target, good := range map[string]bool{
		"http://127.0.0.1:8069": true, "http://[::1]:8069": true, "http://localhost": true, "https://127.3.2.1/base": true,
		"https://staging.moa.example": true, "https://staging.moa.example:8443": true,
		"https://moa.example": false, "http://10.0.0.7": false, "http://127.0.0.1.moa.example": false, "http://localhost.evil.example": false,
		"ftp://127.0.0.1": false, "http://u:p@127.0.0.1": false, "http://127.0.0.1?x=1": false, "127.0.0.1:80": false,
	} {
		u, err := url.Parse(target)
		if err == nil {
			err = s.Permit(u)
		}
		if (err == nil) != good {
			t.Errorf("%s: %v", target, err)
		}
	}
}
