package test

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"

	"tidemark/internal/kubeapi/scalingpolicy"
	"tidemark/test/servers"
)

const policiesPath = "/apis/autoscaling.tidemark/v1alpha1/namespaces/dfr/scalingpolicies"

// scalingPolicies has the API server check policies by their definition; then the daemon, with the rights of its role, scales a
// Deployment by a policy that is applied, changed, broken and deleted while it runs.
func scalingPolicies(t *testing.T, k *servers.Kube) {
	k.Apply(t, "dfr", readFile(t, "../deploy/kubernetes/role.yaml"), servers.Real)
	t.Run("schema", func(t *testing.T) { policySchema(t, k) })
	t.Run("daemon", func(t *testing.T) { policyDaemon(t, k) })
}

// policySchema: every fleet of the examples is one that may stand in a cluster, once it scales something there; what is no setting, or no
// value of its kind, is refused.
func policySchema(t *testing.T, k *servers.Kube) {
	try := func(spec any) error {
		return k.Call(http.MethodPost, policiesPath+"?dryRun=All&fieldValidation=Strict", object{
			"apiVersion": "autoscaling.tidemark/v1alpha1", "kind": "ScalingPolicy", "metadata": object{"name": "odoo"}, "spec": spec,
		}, nil)
	}
	files, err := filepath.Glob("../examples/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob("../examples/*/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	tried := 0
	for _, file := range append(files, more...) {
		var f struct {
			Fleets []object `yaml:"fleets"`
		}
		if err := yaml.Unmarshal(readFile(t, file), &f); err != nil {
			continue // no configuration
		}
		for _, spec := range f.Fleets {
			delete(spec, "name")
			delete(spec, "balancer")
			delete(spec, "front")
			spec["target"] = object{"kubernetes": object{"name": "odoo"}}
			signals, _ := spec["signals"].(object)
			for name, s := range signals {
				of, _ := s.(object)
				for _, source := range of { // what is of the daemon's host, or is given by the policy's namespace
					if body, ok := source.(object); ok {
						maps.DeleteFunc(body, func(key string, _ any) bool { return key == "namespace" || strings.HasSuffix(key, "_file") })
					}
				}
				if !slices.ContainsFunc([]string{"kubernetes", "http", "prometheus", "pgbouncer", "postgres", "expression"}, func(kind string) bool { return of[kind] != nil }) {
					delete(signals, name)
				}
			}
			if err := try(spec); err != nil {
				t.Errorf("%s: %v", file, err)
			}
			tried++
		}
	}
	if tried < 15 {
		t.Errorf("only %d fleets of examples were tried", tried)
	}
	base := func(change string) string {
		return "target: {kubernetes: {name: odoo}}\nbounds: {min: 2, max: 4}\n" + change
	}
	for _, c := range []struct{ spec, want string }{
		{base("mode: on"), ""},
		{base("mode: 'off'"), ""},
		{base("signals: {cpu: {kubernetes: {selector: app=odoo}, period: 1m}}\npolicies: [{id: cpu, rules: [{signal: cpu, operator: '>=', threshold: 70%, scale_change: +1}, {signal: cpu, operator: '<=', threshold: 0.5, scale_change: -1}]}]"), ""},
		{"bounds: {min: 2, max: 4}", "spec.target: Required value"},
		{base("mode: sometimes"), `spec.mode: Unsupported value: "sometimes"`},
		{base("colour: blue"), `unknown field \"spec.colour\"`},
		{base("bounds: {min: two, max: 4}"), "spec.bounds.min: Invalid value"},
		{base("target: {kubernetes: {name: odoo, namespace: other}}"), `unknown field \"spec.target.kubernetes.namespace\"`},
		{base("target: {process: {command: [sh]}}"), `unknown field \"spec.target.process\"`},
		{base("target: {kubernetes: {name: odoo, kubeconfig: /etc/shadow}}"), `unknown field \"spec.target.kubernetes.kubeconfig\"`},
		{base("signals: {s: {http: {url: 'http://x', metric: m, bearer_token_file: /run/secret}}}"), `unknown field \"spec.signals.s.http.bearer_token_file\"`},
		{base("signals: {s: {access_log: {path: /etc/shadow}}}"), `unknown field \"spec.signals.s.access_log\"`},
		{base("policies: {id: cpu}"), `unknown field \"spec.policies.id\"`},
		{base("policies: [{id: cpu, rules: [{signal: cpu, operator: '=>', threshold: 70, scale_change: 1}]}]"), "rules[0].operator: Unsupported value"},
		{base("policies: [{id: cpu, rules: [{signal: cpu, operator: '>=', threshold: {at: 70}, scale_change: 1}]}]"), "threshold"},
		{base("safeguards: {cooldown: {scale_up: [5m]}}"), "spec.safeguards.cooldown.scale_up: Invalid value"},
	} {
		spec := object{}
		for _, part := range strings.SplitAfter(c.spec, "\n") { // a later line takes the place of an earlier one
			if err := yaml.Unmarshal([]byte(part), &spec); err != nil {
				t.Fatal(err)
			}
		}
		switch err := try(spec); {
		case c.want == "" && err != nil:
			t.Errorf("%s:\n%v", c.spec, err)
		case c.want != "" && (err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), `\"`, `"`), strings.ReplaceAll(c.want, `\"`, `"`))):
			t.Errorf("%s:\nwant %s\nhave %v", c.spec, c.want, err)
		}
	}
}

func policyDaemon(t *testing.T, k *servers.Kube) {
	deploy(t, k, "shop")
	dir := t.TempDir()
	config := filepath.Join(dir, "tidemark.yaml")
	write(t, config, fmt.Sprintf(`
instance: {name: dfr, time_zone: UTC}
state_dir: %s
tick: 200ms
scaling_policies: {namespace: dfr, kubeconfig: %s}
`, dir, k.WriteKubeconfig(t, k.Token(t, "dfr", "tidemark"), k.Address)))
	d := startDaemon(t, config, filepath.Join(dir, "tidemark.sock"))
	apply := func(text string) {
		t.Helper()
		k.Apply(t, "dfr", []byte(text), servers.Real)
	}
	policy := strings.Replace(string(readFile(t, "../deploy/kubernetes/scalingpolicy.yaml")), "{selector: app=shop}", "{selector: app=shop}, period: 1s", 1)
	policy = strings.Replace(policy, "  signals:\n", "  signals:\n    sales: {http: {url: 'http://127.0.0.1:1/metrics', metric: sales}, period: 1s}\n", 1) +
		"  safeguards: {cooldown: {scale_up: 1s, scale_down: 1h}, max_scaling_rate: 100 per 1s}\n"
	apply(policy)
	deploymentSize := func() int {
		var o struct{ Spec struct{ Replicas int } }
		k.Must(http.MethodGet, "/apis/apps/v1/namespaces/dfr/deployments/shop", nil, &o)
		return o.Spec.Replicas
	}
	var o scalingpolicy.Object
	until := func(what string, ok func() bool) {
		t.Helper()
		servers.Eventually(t, what, func() error {
			k.Must(http.MethodGet, policiesPath+"/shop", nil, &o)
			if !ok() {
				return fmt.Errorf("%+v", o.Status)
			}
			return nil
		})
	}
	size := func() int {
		if o.Status.Size == nil {
			return -1
		}
		return *o.Status.Size
	}
	inForce := func() int64 {
		if o.Status.InForce == nil {
			return 0
		}
		return *o.Status.InForce
	}
	condition := func(kind string) scalingpolicy.Condition {
		for _, c := range o.Status.Conditions {
			if c.Type == kind {
				return c
			}
		}
		return scalingpolicy.Condition{}
	}
	until("the minimum", func() bool {
		return condition(scalingpolicy.Valid).Status == "True" && size() == 2 && inForce() == 1
	})
	until("it is told that nothing is measured", func() bool {
		c := condition(scalingpolicy.Ready)
		return c.Status == "False" && c.Reason == "SignalMissing" && strings.Contains(c.Message, "sales is missing: ")
	})

	// A change comes into force.
	spec := func(patch object) {
		t.Helper()
		k.Must(http.MethodPatch, policiesPath+"/shop", object{"spec": patch}, nil)
	}
	spec(object{"signals": object{"sales": nil}})
	until("the change", func() bool { return inForce() == 2 && condition(scalingpolicy.Ready).Status == "True" })
	k.Measure(t, "dfr", "shop", func(string) string { return "90m" })
	until("the maximum", func() bool {
		return size() == 3 && condition(scalingpolicy.Limited).Reason == "AtMaximum" && strings.Contains(o.Status.LastDecision, "2 -> 3") && o.Status.LastScaleTime != nil
	})
	if c := condition(scalingpolicy.Ready); c.Status != "True" || c.ObservedGeneration != 2 || c.LastTransitionTime.IsZero() {
		t.Errorf("%+v", c)
	}
	rows, err := k.Table(policiesPath)
	if err != nil || len(rows) != 1 {
		t.Fatal(rows, err)
	}
	row := rows[0]
	delete(row, "Age")
	delete(row, "Last Scale")
	delete(row, "Last Decision")
	if want := "map[Desired:3 Max:3 Min:2 Mode:on Name:shop Ready:True Size:3 Target:Deployment/shop Valid:True Why:AtMaximum]"; fmt.Sprint(row) != want {
		t.Errorf("kubectl get shows\n%v, want\n%s", row, want)
	}

	spec(object{"bounds": object{"max": 4}})
	until("the new maximum", func() bool { return inForce() == 3 && o.Status.Max != nil && *o.Status.Max == 4 && size() == 4 })

	// What is wrong leaves what was right in force, and says where.
	spec(object{"bounds": object{"min": 9}})
	until("a policy that is wrong", func() bool {
		c := condition(scalingpolicy.Valid)
		return c.Reason == "Invalid" && strings.HasPrefix(c.Message, "spec.bounds.min: 9 is more than max, 4; ") && inForce() == 3 && c.ObservedGeneration == 4
	})
	if st, err := d.client.Status(t.Context()); err != nil || len(st.Fleets) != 1 || st.Fleets[0].Fleet != "dfr.shop" || st.Fleets[0].Bounds.Min != 2 {
		t.Errorf("%+v, %v", st, err)
	}
	// ... after kill -9, too.
	d.kill()
	d = startDaemon(t, config, filepath.Join(dir, "tidemark.sock"))
	if st, err := d.client.Status(t.Context()); err != nil || len(st.Fleets) != 1 || st.Fleets[0].Bounds.Max != 4 {
		t.Errorf("after a restart: %+v, %v", st, err)
	}
	spec(object{"bounds": object{"min": 2}})
	until("it is right again", func() bool { return condition(scalingpolicy.Valid).Status == "True" && inForce() == 5 })

	// Another that wants the same Deployment is refused.
	apply(strings.Replace(policy, "metadata: {name: shop}", "metadata: {name: rival}", 1))
	servers.Eventually(t, "the rival is refused", func() error {
		var rival scalingpolicy.Object
		k.Must(http.MethodGet, policiesPath+"/rival", nil, &rival)
		if rival.Status.Why != "TargetTaken" {
			return fmt.Errorf("%+v", rival.Status)
		}
		return nil
	})
	var events struct {
		Items []struct {
			InvolvedObject struct{ Kind, Name string }
			Reason, Type   string
			Count          int
		}
	}
	servers.Eventually(t, "events", func() error {
		k.Must(http.MethodGet, "/api/v1/namespaces/dfr/events", nil, &events)
		told := map[string]bool{}
		for _, e := range events.Items {
			if e.InvolvedObject.Kind == scalingpolicy.Kind && e.InvolvedObject.Name == "shop" {
				told[e.Reason+" "+e.Type] = true
			}
		}
		for _, want := range []string{"Accepted Normal", "Decided Normal", "Scaled Normal", "Invalid Warning"} {
			if !told[want] {
				return fmt.Errorf("no event %s: %v", want, told)
			}
		}
		return nil
	})

	// When it is deleted its pods are left alone, and the rival has what it wants.
	before := deploymentSize()
	k.Must(http.MethodDelete, policiesPath+"/rival", nil, nil)
	k.Must(http.MethodDelete, policiesPath+"/shop", nil, nil)
	eventually(t, time.Minute, "no fleet is left", func() error {
		st, err := d.client.Status(t.Context())
		if err == nil && len(st.Fleets) > 0 {
			err = errors.New("there are fleets")
		}
		return err
	})
	if n := deploymentSize(); n != before {
		t.Errorf("%d pods after the policy was deleted, %d before", n, before)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "policies.json")); err != nil || strings.TrimSpace(string(text)) != "[]" {
		t.Errorf("what is in force: %s, %v", text, err)
	}
	d.kill()
}
