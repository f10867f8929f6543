package scalingpolicy

import "tidemark/internal/config"

//go:generate sh -c "mkdir -p ../../../deploy/helm/tidemark/crds && go run ../../../cmd/tidemark export crd > ../../../deploy/kubernetes/crd.yaml && cp ../../../deploy/kubernetes/crd.yaml ../../../deploy/helm/tidemark/crds/scalingpolicies.yaml"

// definition is a CustomResourceDefinition, in the order in which people read one.
type definition struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name string `json:"name"`
	} `json:"metadata"`
	Spec struct {
		Group    string    `json:"group"`
		Scope    string    `json:"scope"`
		Names    names     `json:"names"`
		Versions []version `json:"versions"`
	} `json:"spec"`
}

type names struct {
	Kind       string   `json:"kind"`
	ListKind   string   `json:"listKind"`
	Plural     string   `json:"plural"`
	Singular   string   `json:"singular"`
	ShortNames []string `json:"shortNames"`
}

type version struct {
	Name         string   `json:"name"`
	Served       bool     `json:"served"`
	Storage      bool     `json:"storage"`
	Subresources struct { // status alone: the size is the target's, and has its scale there
		Status struct{} `json:"status"`
	} `json:"subresources"`
	Columns []column `json:"additionalPrinterColumns"`
	Schema  struct {
		Root *config.Schema `json:"openAPIV3Schema"`
	} `json:"schema"`
}

type column struct {
	Name        string `json:"name"`
	Type        string `json:"type"`
	Path        string `json:"jsonPath"`
	Description string `json:"description,omitempty"`
	Priority    int    `json:"priority,omitempty"` // 1: with -o wide only
}

var columns = []column{
	{Name: "Target", Type: "string", Path: ".status.target"},
	{Name: "Mode", Type: "string", Path: ".status.mode"},
	{Name: "Min", Type: "integer", Path: ".status.min"},
	{Name: "Max", Type: "integer", Path: ".status.max"},
	{Name: "Size", Type: "integer", Path: ".status.size", Description: "Pods that serve now."},
	{Name: "Desired", Type: "integer", Path: ".status.desired", Description: "What was decided last."},
	{Name: "Ready", Type: "string", Path: `.status.conditions[?(@.type=="Ready")].status`, Description: "Whether it is measured, and what is decided is done."},
	{Name: "Why", Type: "string", Path: ".status.why", Description: "What holds it where it is."},
	{Name: "Age", Type: "date", Path: ".metadata.creationTimestamp"},
	{Name: "Valid", Type: "string", Path: `.status.conditions[?(@.type=="Valid")].status`, Priority: 1},
	{Name: "Last Scale", Type: "date", Path: ".status.lastScaleTime", Priority: 1},
	{Name: "Last Decision", Type: "string", Path: ".status.lastDecision", Priority: 1},
}

// descriptions are what kubectl explain says of the settings at the top; docs/configuration.md says the rest.
var descriptions = []struct{ path, text string }{
	{"target", "What is scaled: an object of this namespace that has the subresource scale."},
	{"mode", "on, scale_out_only, shadow (decided and shown, never done) or off. What holds where nothing is written, the daemon's environment says."},
	{"bounds", "The low-water and high-water marks, in pods."},
	{"signals", "What is measured, by name: the key that names the source stands beside statistic, period and window."},
	{"policies", "Each has an id and rules, or an objective with its demand, or a forecast, or the name of a preset with its signal."},
	{"policies.rules", "Its alarm is raised when datapoints_to_alarm of the latest evaluation_periods datapoints breach."},
	{"safeguards", "What limits a change: cooldowns, step, rate, freeze windows, guards, connections, host_memory, budget."},
	{"schedule", "Floors and ceilings by local time."},
	{"scaling_priority", "1 (goes first) to 9, where the instance has a quota."},
	{"tags", "By which the report sums up cost."},
}

// Definition is the CustomResourceDefinition of ScalingPolicies. cat lists the adapters that a policy may name.
func Definition(cat config.Catalog) any {
	spec := config.PolicySchema(cat)
	for _, d := range descriptions {
		spec.Describe(d.path, d.text)
	}
	spec.Description = "A fleet: the same keys as an entry of fleets in Tidemark's configuration, without name."
	text, count, when := &config.Schema{Type: "string"}, &config.Schema{Type: "integer", Nullable: true}, &config.Schema{Type: "string", Format: "date-time", Nullable: true}
	condition := &config.Schema{Type: "object", Required: []string{"type", "status"}, Properties: map[string]*config.Schema{
		"type": text, "status": {Type: "string", Enum: []any{"True", "False", "Unknown"}}, "observedGeneration": count,
		"lastTransitionTime": when, "reason": text, "message": text,
	}}
	status := &config.Schema{Type: "object", Description: "What the daemon that leads says of it.", Properties: map[string]*config.Schema{
		"observedGeneration": count, "generationInForce": count, "target": text, "mode": text, "min": count, "max": count, "size": count, "desired": count,
		"why": text, "lastDecision": text, "lastScaleTime": when,
		"conditions": {Type: "array", Items: condition, ListType: "map", ListKeys: []string{"type"}},
	}}
	d := &definition{APIVersion: "apiextensions.k8s.io/v1", Kind: "CustomResourceDefinition"}
	d.Metadata.Name = Plural + "." + Group
	d.Spec.Group, d.Spec.Scope = Group, "Namespaced"
	d.Spec.Names = names{Kind: Kind, ListKind: Kind + "List", Plural: Plural, Singular: "scalingpolicy", ShortNames: []string{"sp"}}
	v := version{Name: Version, Served: true, Storage: true, Columns: columns}
	v.Schema.Root = &config.Schema{
		Type: "object", Description: "ScalingPolicy keeps the pods of a Deployment, or of what else can be scaled, between two bounds.", Required: []string{"spec"},
		Properties: map[string]*config.Schema{"apiVersion": text, "kind": text, "metadata": {Type: "object"}, "spec": spec, "status": status},
	}
	d.Spec.Versions = []version{v}
	return d
}
