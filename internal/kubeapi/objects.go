package kubeapi

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Meta is what every object has.
type Meta struct {
	Name            string            `json:"name"`
	Namespace       string            `json:"namespace,omitempty"`
	UID             string            `json:"uid,omitempty"`
	ResourceVersion string            `json:"resourceVersion,omitempty"`
	Generation      int64             `json:"generation,omitempty"`
	Labels          map[string]string `json:"labels,omitempty"`
	Annotations     map[string]string `json:"annotations,omitempty"`
	Created         time.Time         `json:"creationTimestamp,omitzero"`
	Deleted         *time.Time        `json:"deletionTimestamp,omitempty"` // when its end is due, once it was asked for
	Owners          []Owner           `json:"ownerReferences,omitempty"`
}

// Owner is an object that another belongs to.
type Owner struct {
	Kind       string `json:"kind"`
	Name       string `json:"name"`
	UID        string `json:"uid"`
	Controller bool   `json:"controller,omitempty"`
}

// Controller is the owner that makes and removes the object; the zero Owner when there is none.
func (m *Meta) Controller() Owner {
	for _, o := range m.Owners {
		if o.Controller {
			return o
		}
	}
	return Owner{}
}

// Condition is one of an object's status.
type Condition struct {
	Type    string    `json:"type"`
	Status  string    `json:"status"` // True, False or Unknown
	Reason  string    `json:"reason,omitempty"`
	Message string    `json:"message,omitempty"`
	Since   time.Time `json:"lastTransitionTime,omitzero"`
}

// Pod is what is looked at of a pod.
type Pod struct {
	Meta Meta `json:"metadata"`
	Spec struct {
		NodeName   string `json:"nodeName"`
		Containers []struct {
			Name      string `json:"name"`
			Resources struct {
				Requests map[string]string `json:"requests"`
				Limits   map[string]string `json:"limits"`
			} `json:"resources"`
		} `json:"containers"`
	} `json:"spec"`
	Status struct {
		Phase      string      `json:"phase"`
		Reason     string      `json:"reason"`
		Message    string      `json:"message"`
		IP         string      `json:"podIP"`
		Conditions []Condition `json:"conditions"`
		Containers []struct {
			Name     string `json:"name"`
			Restarts int    `json:"restartCount"`
			State    struct {
				Waiting *struct{ Reason, Message string } `json:"waiting"`
			} `json:"state"`
		} `json:"containerStatuses"`
	} `json:"status"`
}

// Ready reports whether its readiness probes hold, and when they do not, why as far as the cluster knows.
func (p *Pod) Ready() (ready bool, why string) {
	if p.Status.Phase == "Pending" {
		for _, c := range p.Status.Conditions {
			if c.Type == "PodScheduled" && c.Status == "False" {
				return false, "not scheduled: " + c.Message
			}
		}
	}
	for _, c := range p.Status.Containers {
		if w := c.State.Waiting; w != nil && w.Reason != "" {
			return false, strings.TrimSuffix(fmt.Sprintf("container %s: %s: %s", c.Name, w.Reason, w.Message), ": ")
		}
	}
	for _, c := range p.Status.Conditions {
		if c.Type == "Ready" && c.Status == "True" && p.Status.Phase == "Running" {
			return true, ""
		}
	}
	return false, strings.ToLower(p.Status.Phase) + ", not ready"
}

// Since is when a condition last changed; zero when the pod has none of the kind.
func (p *Pod) Since(condition string) time.Time {
	for _, c := range p.Status.Conditions {
		if c.Type == condition {
			return c.Since
		}
	}
	return time.Time{}
}

// Ended reports whether its containers have ended for good: it serves no longer, and its controller makes another.
func (p *Pod) Ended() bool { return p.Status.Phase == "Succeeded" || p.Status.Phase == "Failed" }

// Restarts is how often its containers were started again.
func (p *Pod) Restarts() int {
	n := 0
	for _, c := range p.Status.Containers {
		n += c.Restarts
	}
	return n
}

// page is how many objects are asked for at a time.
const page = "500"

// list reads all objects at a path that a selector takes.
func list[T any](ctx context.Context, c *Client, path, selector string) ([]T, string, error) {
	query := url.Values{}
	if selector != "" {
		query.Set("labelSelector", selector)
	}
	return listAt[T](ctx, c, path, query, JSON)
}

// listAt reads all objects at a path, page by page, and the version of the list, from which they can be watched.
func listAt[T any](ctx context.Context, c *Client, path string, query url.Values, accept string) (all []T, version string, err error) {
	asked := url.Values{"limit": {page}}
	maps.Copy(asked, query)
	for {
		var some struct {
			Metadata struct {
				Continue        string `json:"continue"`
				ResourceVersion string `json:"resourceVersion"`
			} `json:"metadata"`
			Items []T `json:"items"`
		}
		if err := c.exchange(ctx, request{path: path, query: asked, accept: accept}, &some); err != nil {
			return nil, "", err
		}
		all = append(all, some.Items...)
		if some.Metadata.Continue == "" {
			return all, some.Metadata.ResourceVersion, nil
		}
		asked.Set("continue", some.Metadata.Continue)
	}
}

func in(namespace string) string { return "namespaces/" + url.PathEscape(namespace) + "/" }

// PodPath is where a pod is.
func (c *Client) PodPath(name string) string {
	return "/api/v1/" + in(c.namespace) + "pods/" + url.PathEscape(name)
}

// PodList is the pods of one moment.
type PodList struct {
	Pods    []Pod
	Version string // of the moment
}

func (c *Client) podsPath() string { return "/api/v1/" + in(c.namespace) + "pods" }

// ListPods asks the server for the pods that a selector takes, as they are now.
func (c *Client) ListPods(ctx context.Context, selector string) (PodList, error) {
	pods, version, err := list[Pod](ctx, c, c.podsPath(), selector)
	if err != nil {
		return PodList{}, fmt.Errorf("list the pods: %w", err)
	}
	return PodList{pods, version}, nil
}

// Pods are the pods that a selector takes as far as the watch of them tells: that costs the server nothing. They are shared: nobody may
// change what they point to.
func (c *Client) Pods(ctx context.Context, selector string) (PodList, error) {
	s, err := labels.Parse(selector)
	if err != nil {
		return PodList{}, err
	}
	pods, version, err := followed(c, c.podsPath(), whole, func(p *Pod) *Meta { return &p.Meta }).Select(ctx, c.namespace, s)
	return PodList{pods, version}, err
}

// Scale is the scale subresource of an object.
type Scale struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Meta       Meta   `json:"metadata"`
	Spec       struct {
		Replicas int `json:"replicas"`
	} `json:"spec"`
	Status struct {
		Replicas int    `json:"replicas"`
		Selector string `json:"selector"`
	} `json:"status"`
}

// kind is one that the server serves in a version of a group.
type kind struct{ Name, Kind string } // the resource, and what its objects are

// served are the kinds of a version of a group. What was heard once is known; anew asks again.
func (c *Client) served(ctx context.Context, root string, anew bool) ([]kind, error) {
	c.mu.Lock()
	known := c.kinds[root]
	c.mu.Unlock()
	if known != nil && !anew {
		return known, nil
	}
	var answer struct {
		Resources []kind `json:"resources"`
	}
	if err := c.Get(ctx, root, nil, &answer); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kinds[root] = answer.Resources
	return answer.Resources, nil
}

// Scalable is where objects of a kind are, by the server's own list of what it serves.
func (c *Client) Scalable(ctx context.Context, apiVersion, of string) (path string, err error) {
	root := "/apis/" + apiVersion
	if !strings.Contains(apiVersion, "/") {
		root = "/api/" + apiVersion
	}
	problem := fmt.Errorf("%s has no kind %s: is api_version right?", apiVersion, of)
	for _, anew := range []bool{false, true} { // it may have come since
		kinds, err := c.served(ctx, root, anew)
		if Refused(err, http.StatusNotFound) {
			return "", fmt.Errorf("the cluster knows no %s: is its definition installed, and api_version right?", apiVersion)
		}
		if err != nil {
			return "", fmt.Errorf("ask for the kinds of %s: %w", apiVersion, err)
		}
		i := slices.IndexFunc(kinds, func(k kind) bool { return k.Kind == of && !strings.Contains(k.Name, "/") })
		if i < 0 {
			continue
		}
		if slices.Contains(kinds, kind{kinds[i].Name + "/scale", "Scale"}) {
			return root + "/" + in(c.namespace) + kinds[i].Name, nil
		}
		problem = fmt.Errorf("%s of %s cannot be scaled: it has no subresource scale", of, apiVersion)
	}
	return "", problem
}

// VersionOf is the version of the object at a path as far as the watch of its kind tells.
func (c *Client) VersionOf(ctx context.Context, path, name string) (string, error) {
	type object struct {
		Meta Meta `json:"metadata"`
	}
	o, err := followed(c, path, metadata, func(o *object) *Meta { return &o.Meta }).Get(ctx, c.namespace, name)
	return o.Meta.ResourceVersion, err
}

// Budget is a PodDisruptionBudget.
type Budget struct {
	Meta Meta `json:"metadata"`
	Spec struct {
		Selector *metav1.LabelSelector `json:"selector"`
	} `json:"spec"`
	Status struct {
		ObservedGeneration int64 `json:"observedGeneration"`
		Allowed            int   `json:"disruptionsAllowed"`
		Healthy            int   `json:"currentHealthy"`
		Desired            int   `json:"desiredHealthy"`
	} `json:"status"`
}

// Pods is the selector of the pods that the budget counts.
func (b *Budget) Pods() (labels.Selector, error) {
	s, err := metav1.LabelSelectorAsSelector(b.Spec.Selector) // of policy/v1: without one, none
	if err != nil {
		return nil, fmt.Errorf("the selector of PodDisruptionBudget %s: %w", b.Meta.Name, err)
	}
	return s, nil
}

// Takes reports whether the budget counts pods with these labels.
func (b *Budget) Takes(of map[string]string) (bool, error) {
	s, err := b.Pods()
	return err == nil && s.Matches(labels.Set(of)), err
}

// BudgetsOf are the PodDisruptionBudgets that count any of the pods. Which they are the watch of all tells; each is asked for as it is now.
func (c *Client) BudgetsOf(ctx context.Context, pods []Pod) (some []Budget, err error) {
	path := "/apis/policy/v1/" + in(c.namespace) + "poddisruptionbudgets"
	all, _, err := followed(c, path, whole, func(b *Budget) *Meta { return &b.Meta }).Select(ctx, c.namespace, labels.Everything())
	if err != nil {
		return nil, fmt.Errorf("ask for the PodDisruptionBudgets: %w", err)
	}
	for i := range all {
		s, err := all[i].Pods()
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(pods, func(p Pod) bool { return s.Matches(labels.Set(p.Meta.Labels)) }) {
			continue
		}
		var now Budget
		err = c.Get(ctx, path+"/"+url.PathEscape(all[i].Meta.Name), nil, &now)
		if Refused(err, http.StatusNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("ask for PodDisruptionBudget %s: %w", all[i].Meta.Name, err)
		}
		some = append(some, now)
	}
	return some, nil
}

// Autoscaler is a HorizontalPodAutoscaler.
type Autoscaler struct {
	Meta Meta `json:"metadata"`
	Spec struct {
		Target struct {
			APIVersion string `json:"apiVersion"`
			Kind       string `json:"kind"`
			Name       string `json:"name"`
		} `json:"scaleTargetRef"`
		Min     int `json:"minReplicas"` // 0: nothing was said, which is 1
		Max     int `json:"maxReplicas"`
		Metrics []struct {
			External struct { // empty for other kinds of metrics
				Metric struct {
					Name string `json:"name"`
				} `json:"metric"`
				Target struct {
					Type string `json:"type"`
				} `json:"target"`
			} `json:"external"`
		} `json:"metrics"`
	} `json:"spec"`
	Status struct {
		Conditions []Condition `json:"conditions"`
	} `json:"status"`
}

// Autoscalers are the HorizontalPodAutoscalers, as far as the watch of them tells.
func (c *Client) Autoscalers(ctx context.Context) ([]Autoscaler, error) {
	path := "/apis/autoscaling/v2/" + in(c.namespace) + "horizontalpodautoscalers"
	scalers, _, err := followed(c, path, whole, func(a *Autoscaler) *Meta { return &a.Meta }).Select(ctx, c.namespace, labels.Everything())
	if err != nil {
		return nil, fmt.Errorf("ask for the HorizontalPodAutoscalers: %w", err)
	}
	return scalers, nil
}

// Usage is what a pod's containers take together, as the cluster's metrics server measured it.
type Usage struct {
	Pod    string
	At     time.Time // the end of the window
	Window time.Duration
	CPU    float64 // cores
	Memory float64 // bytes
}

// ErrNoMetrics: the cluster has no metrics.k8s.io.
var ErrNoMetrics = errors.New("the cluster serves no metrics.k8s.io: install metrics-server")

// Usages lists what the pods that a selector takes use, by their names. Pods that were not measured yet are not in it.
func (c *Client) Usages(ctx context.Context, selector string) (map[string]Usage, error) {
	type podMetrics struct {
		Meta       Meta      `json:"metadata"`
		Timestamp  time.Time `json:"timestamp"`
		Window     string    `json:"window"`
		Containers []struct {
			Name  string            `json:"name"`
			Usage map[string]string `json:"usage"`
		} `json:"containers"`
	}
	found, _, err := list[podMetrics](ctx, c, "/apis/metrics.k8s.io/v1beta1/"+in(c.namespace)+"pods", selector)
	if Refused(err, http.StatusNotFound) {
		return nil, ErrNoMetrics
	}
	if err != nil {
		return nil, fmt.Errorf("read the pods' metrics: %w", err)
	}
	out := map[string]Usage{}
	for _, m := range found {
		u := Usage{Pod: m.Meta.Name, At: m.Timestamp}
		if u.Window, err = time.ParseDuration(m.Window); err != nil {
			return nil, fmt.Errorf("the metrics of pod %s: window: %w", u.Pod, err)
		}
		for _, container := range m.Containers {
			for _, r := range []struct {
				name string
				sum  *float64
			}{{"cpu", &u.CPU}, {"memory", &u.Memory}} {
				v, err := Quantity(container.Usage[r.name])
				if err != nil {
					return nil, fmt.Errorf("the metrics of pod %s, container %s: %s: %w", u.Pod, container.Name, r.name, err)
				}
				*r.sum += v
			}
		}
		out[u.Pod] = u
	}
	return out, nil
}

// CheckSelector says what is wrong with a label selector.
func CheckSelector(s string) error {
	_, err := labels.Parse(s)
	return err
}

// Quantity reads a quantity such as 250m, 1.5 or 512Mi.
func Quantity(s string) (float64, error) {
	q, err := resource.ParseQuantity(s)
	if err != nil {
		return 0, fmt.Errorf("%q is no quantity: %w", s, err)
	}
	return q.AsApproximateFloat64(), nil
}
