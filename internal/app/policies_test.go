package app

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidemark/internal/config"
	"tidemark/internal/control"
	"tidemark/internal/decide/engine"
	"tidemark/internal/fleet"
	"tidemark/internal/kubeapi"
	"tidemark/internal/kubeapi/scalingpolicy"
)

// clusterAway is a daemon's configuration with policies of a cluster that does not answer.
func clusterAway(t *testing.T, more string) *App {
	t.Helper()
	dir := t.TempDir()
	kubeconfig := filepath.Join(dir, "kubeconfig")
	for path, text := range map[string]string{
		kubeconfig:                          `{apiVersion: v1, kind: Config, current-context: c, clusters: [{name: c, cluster: {server: "http://127.0.0.1:1"}}], contexts: [{name: c, context: {cluster: c}}]}`,
		filepath.Join(dir, "tidemark.yaml"): fmt.Sprintf("state_dir: %s\nscaling_policies: {all_namespaces: true, kubeconfig: %s, environment: [SHARED_URL]}\n", dir, kubeconfig) + more,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a, err := New(filepath.Join(dir, "tidemark.yaml"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.shared.clusters.Close() })
	return a
}

func follow(t *testing.T, a *App) *policies {
	t.Helper()
	p, err := a.openPolicies(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.end)
	return p
}

// put is what the cluster would tell: a policy for a Deployment of the same name as spec's.
func (p *policies) put(namespace, name string, generation int64, spec string) {
	key := namespace + "/" + name
	e := p.entries[key]
	if e == nil {
		e = &entry{}
		p.entries[key] = e
	}
	e.object = scalingpolicy.Object{Meta: kubeapi.Meta{Namespace: namespace, Name: name, UID: key, Generation: generation, Created: time.Unix(int64(len(p.entries)), 0)}, Spec: json.RawMessage(spec)}
}

func names(cfgs []*config.Config) string {
	var out []string
	for _, c := range cfgs {
		f := &c.Fleets[0]
		out = append(out, fmt.Sprintf("%s %d..%d", f.Name, f.Policy.Bounds.Min, f.Policy.Bounds.Max))
	}
	return strings.Join(out, ", ")
}

func spec(deployment string, least, most int) string {
	return fmt.Sprintf(`{"target":{"kubernetes":{"name":%q}},"bounds":{"min":%d,"max":%d}}`, deployment, least, most)
}

func TestPoliciesInForce(t *testing.T) {
	t.Setenv("SHARED_URL", "http://127.0.0.1:1/metrics")
	t.Setenv("SECRET_URL", "http://127.0.0.1:1/secret")
	a := clusterAway(t, "instance: {quota: {workers: 10}}\n")
	p := follow(t, a)
	signal := func(url string) string {
		return fmt.Sprintf(`{"target":{"kubernetes":{"name":"s"}},"bounds":{"min":1,"max":2},"signals":{"n":{"http":{"url":%q,"metric":"n"}}}}`, url)
	}
	for _, step := range []struct {
		what     string
		put      func()
		in, why  string // what is in force; what is said of the policy last put
		of       string
		verdicts int
	}{
		{"two namespaces", func() { p.put("a", "web", 1, spec("web", 1, 3)); p.put("b", "web", 1, spec("web", 2, 3)) }, "a.web 1..3, b.web 2..3", "", "b/web", 2},
		{"a change", func() { p.put("b", "web", 2, spec("web", 2, 4)) }, "a.web 1..3, b.web 2..4", "", "b/web", 1},
		{"a mistake", func() { p.put("b", "web", 3, spec("web", 5, 4)) }, "a.web 1..3, b.web 2..4", "Invalid: spec.bounds.min: 5 is more than max, 4; write 4 or less, or raise max", "b/web", 1},
		{"the same mistake is said once", func() {}, "a.web 1..3, b.web 2..4", "Invalid: ", "b/web", 0},
		{"it is mended", func() { p.put("b", "web", 4, spec("web", 2, 4)) }, "a.web 1..3, b.web 2..4", "", "b/web", 1},
		{"another scales the same", func() { p.put("a", "again", 1, spec("web", 1, 2)) }, "a.web 1..3, b.web 2..4", "TargetTaken: spec.target.kubernetes: Deployment a/web is scaled by fleet a.web already", "a/again", 1},
		{"which is then gone", func() { delete(p.entries, "a/web") }, "b.web 2..4, a.again 1..2", "", "a/again", 1},
		{"more than the quota", func() { p.put("c", "big", 1, spec("big", 8, 9)) }, "b.web 2..4, a.again 1..2", "QuotaExceeded: spec.bounds.min: with it the minima of all fleets are 11", "c/big", 1},
		{"a variable that is shared", func() { delete(p.entries, "c/big"); p.put("c", "s", 1, signal("${SHARED_URL}")) }, "b.web 2..4, a.again 1..2, c.s 1..2", "", "c/s", 1},
		{"one that is not", func() { p.put("c", "s", 2, signal("${SECRET_URL}")) }, "b.web 2..4, a.again 1..2, c.s 1..2", "Invalid: spec.signals.n.http.url: the environment variable SECRET_URL is not set", "c/s", 1},
		{"a name that is none", func() { p.put("c", "s.t", 1, spec("x", 1, 2)) }, "b.web 2..4, a.again 1..2, c.s 1..2", "Invalid: its name", "c/s.t", 1},
		{"what belongs to the host", func() {
			p.put("d", "h", 1, `{"target":{"command":{"scale":["sh"],"size":["sh"]}},"bounds":{"min":1,"max":2},"signals":{"n":{"http":{"url":"http://h/","metric":"n","bearer_token_file":"/etc/shadow"}}}}`)
		}, "b.web 2..4, a.again 1..2, c.s 1..2", `Invalid: spec.target: "command" is no kind of target; write one of kubernetes (and 1 more)`, "d/h", 1},
	} {
		p.verdict = nil
		step.put()
		if have := names(p.read(a.file)); have != step.in {
			t.Errorf("%s: %s are in force, want %s", step.what, have, step.in)
		}
		r := p.entries[step.of].refusal
		if have := strings.TrimSuffix(r.reason+": "+r.message, ": "); !strings.HasPrefix(have, step.why) || step.why == "" && have != "" {
			t.Errorf("%s: %q, want %q", step.what, have, step.why)
		}
		if len(p.verdict) != step.verdicts {
			t.Errorf("%s: %d verdicts, want %d: %+v", step.what, len(p.verdict), step.verdicts, p.verdict)
		}
	}

	// What is in force is kept for a start without the cluster, and what was refused is not.
	if err := p.keep(); err != nil {
		t.Fatal(err)
	}
	again, err := New(a.path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = again.shared.clusters.Close() })
	follow(t, again)
	have := []string{}
	for _, f := range again.cfg.Fleets {
		have = append(have, f.Name)
	}
	if strings.Join(have, " ") != "a.again b.web c.s" || !again.cfg.FromCluster("b.web") {
		t.Errorf("after a restart: %v", have)
	}
	if text, ok := again.cfg.Written(0); !ok || !strings.Contains(text, "name: web\n") {
		t.Errorf("written: %q", text)
	}
	if text := again.cfg.EffectiveFleet(1); !strings.Contains(text, "max: 4") {
		t.Errorf("effective: %s", text)
	}
}

// A mode that Kubernetes read as a boolean is a mode.
func TestPolicyMode(t *testing.T) {
	a := clusterAway(t, "")
	p := follow(t, a)
	for text, want := range map[string]fleet.Mode{"true": fleet.On, "false": fleet.Off, `"shadow"`: fleet.Shadow} {
		p.put("a", "web", p.entriesGeneration()+1, strings.Replace(spec("web", 1, 2), "{", `{"mode":`+text+`,`, 1))
		if cfgs := p.read(a.file); len(cfgs) != 1 || cfgs[0].Fleets[0].Policy.Mode != want {
			t.Errorf("%s: %+v", text, p.entries["a/web"].refusal)
		}
	}
}

func (p *policies) entriesGeneration() int64 {
	if e := p.entries["a/web"]; e != nil {
		return e.object.Meta.Generation
	}
	return 0
}

func TestDescribe(t *testing.T) {
	a := clusterAway(t, "")
	p := follow(t, a)
	p.put("a", "web", 1, `{"target":{"kubernetes":{"name":"web"}},"bounds":{"min":2,"max":4},"signals":{"n":{"http":{"url":"http://h/","metric":"n"}}}}`)
	p.read(a.file)
	good := p.entries["a/web"]
	if good.good == nil {
		t.Fatal(good.refusal)
	}
	refused := *good
	refused.refusal, refused.object.Meta.Generation = refusal{invalid, "spec: no"}, 2
	none := refused
	none.good = nil
	status := func(change func(*control.Status)) *control.Status {
		st := &control.Status{Time: time.Unix(1, 0), Mode: fleet.On, Bounds: fleet.Bounds{Min: 2, Max: 4}, Size: fleet.Size{Known: true, Serving: 3}, Decision: fleet.Decision{From: 3, To: 3, Wanted: 3}, Signals: []control.SignalStatus{{Name: "n"}}}
		change(st)
		return st
	}
	for _, c := range []struct {
		what                     string
		e                        *entry
		st                       *control.Status
		valid, ready, limit, why string
	}{
		{"steady", good, status(func(*control.Status) {}), "True", "True Acting", "False", "Steady"},
		{"not looked at", good, &control.Status{}, "True", "Unknown Starting", "Unknown", "Starting"},
		{"refused", &refused, status(func(*control.Status) {}), "False", "True Acting", "False", "Invalid"},
		{"never in force", &none, nil, "False", "False NotInForce", "Unknown", "Invalid"},
		{"shadow", good, status(func(st *control.Status) { st.Mode = fleet.Shadow }), "True", "False ModeShadow", "False", "ModeShadow"},
		{"away", good, status(func(st *control.Status) { st.TargetErr, st.Size = "away", fleet.Size{} }), "True", "False TargetUnreadable", "Unknown", "TargetUnreadable"},
		{"an HPA", good, status(func(st *control.Status) { st.ActionErr = "HorizontalPodAutoscaler h" }), "True", "False ActionFailed", "False", "ActionFailed"},
		{"held", good, status(func(st *control.Status) { st.Order = &engine.Order{Kind: engine.Hold} }), "True", "False Held", "False", "Held"},
		{"blind", good, status(func(st *control.Status) { st.Signals[0].Lost = time.Unix(1, 0) }), "True", "False SignalMissing", "False", "SignalMissing"},
		{"guarded", good, status(func(st *control.Status) { st.Decision.Would = fleet.Would{To: 4, Code: fleet.BlockedDatabase} }), "True", "False Guarded", "False", "Guarded"},
		{"waiting", good, status(func(st *control.Status) { st.Decision.Would = fleet.Would{To: 4, Code: fleet.BlockedCooldown} }), "True", "True Acting", "False", "Waits: cooldown"},
		{"at the maximum", good, status(func(st *control.Status) { st.Short = 2 }), "True", "True Acting", "True", "AtMaximum"},
		{"on the way", good, status(func(st *control.Status) { st.Action = &engine.Action{From: 3, To: 4} }), "True", "True Acting", "False", "Scaling 3 to 4"},
	} {
		s := describe(c.e, c.st, "2 -> 3")
		have := fmt.Sprintf("%s | %s %s | %s | %s", s.Conditions[0].Status, s.Conditions[1].Status, s.Conditions[1].Reason, s.Conditions[2].Status, s.Why)
		if want := fmt.Sprintf("%s | %s | %s | %s", c.valid, c.ready, c.limit, c.why); have != want {
			t.Errorf("%s: %s, want %s", c.what, have, want)
		}
		if s.LastDecision != "2 -> 3" || s.ObservedGeneration != c.e.object.Meta.Generation {
			t.Errorf("%s: %+v", c.what, s)
		}
	}
}
