package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// ScalingPolicies says which ScalingPolicies of a Kubernetes cluster are fleets beside those of the file. The zero value is none.
type ScalingPolicies struct {
	Namespace     string   `yaml:"namespace"`
	AllNamespaces bool     `yaml:"all_namespaces"`
	Kubeconfig    string   `yaml:"kubeconfig"`
	Context       string   `yaml:"context"`
	Environment   []string `yaml:"environment"` // the variables of the daemon's environment that policies may name
}

// Wanted reports whether fleets are taken from a cluster.
func (s *ScalingPolicies) Wanted() bool { return s.Namespace != "" || s.AllNamespaces }

func (s ScalingPolicies) absent() bool { return !s.Wanted() }

func (d *decoder) scalingPolicies(dir string, s *ScalingPolicies) {
	const path = "scaling_policies"
	switch {
	case !d.written(path) || !d.ok(path):
		return
	case !s.Wanted():
		d.fail(path, "names no namespace", "write namespace: dfr, or all_namespaces: true where the role allows that")
	case s.Namespace != "" && s.AllNamespaces:
		d.fail(path+".namespace", "stands beside all_namespaces", "delete one of the two")
	case s.Namespace != "" && !goodLabel.MatchString(s.Namespace):
		d.fail(path+".namespace", quote(path+".namespace", s.Namespace)+" is not the name of a namespace", "use lower-case letters, digits and hyphens, as kubectl get namespaces shows it")
	}
	if s.Kubeconfig != "" {
		s.Kubeconfig = absolute(dir, s.Kubeconfig)
	}
	for i, name := range s.Environment {
		if at := fmt.Sprintf("%s.environment.%d", path, i); d.ok(at) && !isEnvName(name) {
			d.fail(at, quote(at, name)+" is not the name of an environment variable", "write the name alone, such as PGBOUNCER_DSN")
		}
	}
}

// goodLabel is what Kubernetes calls a label of RFC 1123.
var goodLabel = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// ScalingPolicy is a fleet that is written in a cluster: its Spec, as JSON, is what an entry of fleets is in the file, without its name.
type ScalingPolicy struct {
	Namespace, Name string
	Spec            []byte
}

// PolicyFleet is the name of a ScalingPolicy's fleet. No fleet of the file has a dot in its name, and no namespace has one, so it is the only
// one of this name.
func PolicyFleet(namespace, name string) string { return namespace + "." + name }

// clusterless are settings that have no place in a ScalingPolicy: its name is the object's, and what is read of the daemon's own host (files
// of secrets above all) or says which cluster it is, is the daemon's to say and not of those who may write policies.
func clusterless(t reflect.Type, name string) bool {
	switch name {
	case "name":
		return t == reflect.TypeFor[fleetSpec]()
	case "balancer", "front":
		return t == reflect.TypeFor[fleetSpec]()
	case "kubeconfig", "context", "namespace":
		return true
	}
	return strings.HasSuffix(name, "_file")
}

// where a ScalingPolicy's spec stands among the fleets of its own Config.
const onlyFleet = "fleets.0"

// Policy reads a ScalingPolicy as one more fleet of the file's, with the file's instance and environment. cat lists what such a policy may
// name, and env what it may know of the environment. What it returns is for With.
func (c *Config) Policy(p *ScalingPolicy, cat Catalog, env func(string) (string, bool)) (*Config, Problems) {
	name := fmt.Sprintf("ScalingPolicy %s/%s", p.Namespace, p.Name)
	fail := func(msg, fix string) (*Config, Problems) {
		return nil, Problems{(&text{name: name, lines: []string{""}}).problem(mark{1, 1}, Error, "", msg, fix)}
	}
	if !goodLabel.MatchString(p.Name) {
		return fail("its name is that of a fleet, and cannot be one", "use at most 63 lower-case letters, digits and hyphens")
	}
	spec, err := blockYAML(p.Spec)
	if err != nil {
		return fail("its spec cannot be read: "+err.Error(), "")
	}
	t, body, problems := readText(name, spec)
	if problems != nil {
		return nil, problems
	}
	root, problems := readYAML(t, body, "ScalingPolicy")
	if problems != nil {
		return nil, problems
	}
	d := newDecoder(t, env)
	d.cat, d.cluster, d.holidays = cat, true, c.holidays
	s := *c.spec
	s.Fleets = []fleetSpec{{Name: PolicyFleet(p.Namespace, p.Name)}}
	s.Fleets[0].setDefaults()
	d.places[onlyFleet] = place{key: mark{1, 1}, value: mark{1, 1}}
	d.decode(onlyFleet, root, reflect.ValueOf(&s.Fleets[0]).Elem(), "")
	if problems := d.tooMany(); problems != nil {
		return nil, problems
	}
	out := *c
	out.spec, out.text, out.places, out.given, out.policies = &s, t, d.places, d.given, nil
	out.Fleets = []Fleet{d.fleet(&s, 0)}
	d.priority(&s.Fleets[0], onlyFleet)
	problems = d.probs.sorted()
	for i := range problems {
		problems[i].Field = specPath(problems[i].Field)
	}
	if problems.Failed() {
		return nil, problems
	}
	return &out, problems
}

// specPath is the path of a setting as kubectl explain writes it: spec.policies[0].rules[1].threshold.
func specPath(field string) string {
	out := "spec"
	for step := range strings.SplitSeq(strings.TrimPrefix(strings.TrimPrefix(field, onlyFleet), "."), ".") {
		switch {
		case step == "":
		case strings.Trim(step, "0123456789") == "":
			out += "[" + step + "]"
		default:
			out += "." + step
		}
	}
	return out
}

// With is the configuration with the fleets of ScalingPolicies after its own. Each is what Policy made of one.
func (c *Config) With(policies []*Config) *Config {
	if len(policies) == 0 {
		return c
	}
	out := *c
	out.Fleets, out.policies = slices.Clone(c.Fleets), map[string]*Config{}
	for _, p := range policies {
		out.Fleets = append(out.Fleets, p.Fleets[0])
		out.policies[p.Fleets[0].Name] = p
	}
	return &out
}

// FromCluster reports whether a fleet is a ScalingPolicy, and not the file's.
func (c *Config) FromCluster(fleet string) bool { return c.policies[fleet] != nil }

// Known is env for those variables alone that policies may name.
func (s *ScalingPolicies) Known(env func(string) (string, bool)) func(string) (string, bool) {
	return func(name string) (string, bool) {
		if !slices.Contains(s.Environment, name) {
			return "", false
		}
		return env(name)
	}
}

// YAML writes a value that JSON can hold as YAML, with a line for each setting.
func YAML(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return blockYAML(text)
}

// otherBool are texts that YAML 1.1 takes for booleans.
var otherBool = regexp.MustCompile(`^(?i:on|off|yes|no|y|n)$`)

// blockYAML writes JSON as YAML with a line for each setting. Where a mode is a boolean, somebody wrote on or off without quotes:
// Kubernetes reads YAML 1.1, in which they are booleans.
func blockYAML(spec []byte) ([]byte, error) {
	var root yaml.Node
	if err := yaml.Unmarshal(spec, &root); err != nil {
		return nil, err
	}
	var walk func(n *yaml.Node)
	walk = func(n *yaml.Node) {
		n.Style = 0
		if n.Tag == "!!str" && otherBool.MatchString(n.Value) {
			n.Style = yaml.DoubleQuotedStyle
		}
		for i, child := range n.Content {
			walk(child)
			if n.Kind == yaml.MappingNode && i%2 == 1 && n.Content[i-1].Value == "mode" && child.Tag == "!!bool" {
				child.Tag, child.Value = "!!str", map[string]string{"true": "on", "false": "off"}[child.Value]
			}
		}
	}
	walk(&root)
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	if err := e.Encode(&root); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
