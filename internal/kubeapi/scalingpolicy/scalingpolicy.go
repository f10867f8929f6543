// Package scalingpolicy is the custom resource ScalingPolicy: a fleet that is written in the cluster, beside the Deployment that it scales. It
// owns the resource's definition, how policies are followed, and how their status and events are written, seldom and only when they say
// something else than before. What a policy means, config knows; what is to be said of it, its caller.
package scalingpolicy

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"tidemark/internal/kubeapi"
)

// The resource's names. The group is nobody's domain; it stands to autoscaling as Docker's labels tidemark.fleet stand to its own.
const (
	Group   = "autoscaling.tidemark"
	Version = "v1alpha1"
	Kind    = "ScalingPolicy"
	Plural  = "scalingpolicies"

	apiVersion = Group + "/" + Version
	root       = "/apis/" + apiVersion
)

// Object is a ScalingPolicy.
type Object struct {
	Meta   kubeapi.Meta    `json:"metadata"`
	Spec   json.RawMessage `json:"spec"`
	Status Status          `json:"status"`
}

// Status is what the daemon that leads says of a policy. Fields that are not known are null, never 0.
type Status struct {
	ObservedGeneration int64       `json:"observedGeneration"` // that the conditions are about
	InForce            *int64      `json:"generationInForce"`  // an older one where the newest is refused
	Target             string      `json:"target"`             // Deployment/odoo
	Mode               string      `json:"mode"`
	Min                *int        `json:"min"`
	Max                *int        `json:"max"`
	Size               *int        `json:"size"`    // pods that serve
	Desired            *int        `json:"desired"` // decided
	Why                string      `json:"why"`     // in a word or two
	LastDecision       string      `json:"lastDecision"`
	LastScaleTime      *time.Time  `json:"lastScaleTime"`
	Conditions         []Condition `json:"conditions"`
}

// Condition is one of Kubernetes' standard form.
type Condition struct {
	Type               string    `json:"type"`
	Status             string    `json:"status"` // True, False or Unknown
	ObservedGeneration int64     `json:"observedGeneration"`
	LastTransitionTime time.Time `json:"lastTransitionTime"`
	Reason             string    `json:"reason"`
	Message            string    `json:"message"`
}

// The conditions.
const (
	Valid   = "Valid"   // the spec of this generation is in force
	Ready   = "Ready"   // the fleet is measured, and what is decided is done
	Limited = "Limited" // more or fewer pods are wanted than the bounds, or what else limits them, allow
)

// path is where the policies of a namespace are, or of all.
func path(namespace string) string {
	if namespace == "" {
		return root + "/" + Plural
	}
	return root + "/namespaces/" + url.PathEscape(namespace) + "/" + Plural
}

// Follow prepares a copy of the policies of a namespace; "" are all.
func Follow(c *kubeapi.Client, namespace string) *kubeapi.Following[Object] {
	return kubeapi.Follow(c, path(namespace), nil, func(o *Object) *kubeapi.Meta { return &o.Meta })
}

// same reports whether two statuses say the same but for their words and times.
func (s *Status) same(o *Status) bool {
	a, b := *s, *o
	a.Why, b.Why = "", ""
	a.Conditions, b.Conditions = slices.Clone(a.Conditions), slices.Clone(b.Conditions)
	for _, cs := range [][]Condition{a.Conditions, b.Conditions} {
		for i := range cs {
			cs[i].Message, cs[i].LastTransitionTime = "", time.Time{}
		}
	}
	return equal(&a, &b)
}

func equal(a, b *Status) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}

// since gives each condition the time since which it has its status.
func (s *Status) since(before *Status, now time.Time) {
	for i := range s.Conditions {
		c := &s.Conditions[i]
		c.LastTransitionTime = now.UTC().Truncate(time.Second)
		at := slices.IndexFunc(before.Conditions, func(b Condition) bool { return b.Type == c.Type })
		if at >= 0 && before.Conditions[at].Status == c.Status {
			c.LastTransitionTime = before.Conditions[at].LastTransitionTime
		}
	}
}

// put writes a status, and returns the object's version after it.
func put(ctx context.Context, c *kubeapi.Client, m *kubeapi.Meta, s *Status) (version string, err error) {
	body := map[string]any{"metadata": map[string]string{"uid": m.UID}, "status": s} // of this very object, not of one that took its name
	var answer Object
	if err := c.Send(ctx, http.MethodPatch, path(m.Namespace)+"/"+url.PathEscape(m.Name)+"/status", nil, kubeapi.MergePatch, body, &answer); err != nil {
		return "", fmt.Errorf("write the status of ScalingPolicy %s/%s: %w", m.Namespace, m.Name, err)
	}
	return answer.Meta.ResourceVersion, nil
}
