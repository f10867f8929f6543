// Package kubernetes is the target whose workers are the pods of a Deployment, a StatefulSet, or any other object with the subresource
// scale. It sets the object's size and leaves to the cluster's controllers to make and remove pods; which of a ReplicaSet's pods goes, it
// says by the annotation pod-deletion-cost. It keeps within PodDisruptionBudgets, and never fights a HorizontalPodAutoscaler.
package kubernetes

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"

	"tidemark/internal/fleet"
	"tidemark/internal/kubeapi"
)

// Target is one scalable object. What it tells each tick, it has from kubeapi's watches, which many targets share; what Scale does, it
// does by what the API server itself says. What Scale saw, no later look of a watch that is behind takes back.
type Target struct {
	cfg    Config
	client *kubeapi.Client
	turn   chan struct{} // holds a token while a Scale runs
	wish   *wish         // nil: it sets the size by itself

	mu      sync.Mutex
	kinds   string          // where objects of its kind are; "" until the server was asked
	size    *kubeapi.Scale  // as it was read last
	seen    string          // the version of the pods that was read last from the server itself
	leaving map[string]bool // UIDs of pods that Scale is taking out of service
}

// New makes a target of a valid configuration. The cluster may be away.
func New(cfg Config, clients *kubeapi.Clients) (*Target, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	client, err := clients.Client(cfg.Place)
	if err != nil {
		return nil, err
	}
	return &Target{cfg: cfg, client: client, turn: make(chan struct{}, 1), leaving: map[string]bool{}}, nil
}

// view is the object and its pods at one moment.
type view struct {
	scale kubeapi.Scale
	pods  []kubeapi.Pod // without those that have ended; oldest first
}

func newView(scale *kubeapi.Scale, pods []kubeapi.Pod) *view {
	v := &view{*scale, slices.DeleteFunc(pods, func(p kubeapi.Pod) bool { return p.Ended() })}
	slices.SortFunc(v.pods, func(a, b kubeapi.Pod) int {
		return cmp.Or(a.Meta.Created.Compare(b.Meta.Created), cmp.Compare(a.Meta.Name, b.Meta.Name))
	})
	return v
}

// alive are the pods whose end was not asked for.
func (v *view) alive() []kubeapi.Pod {
	return slices.DeleteFunc(slices.Clone(v.pods), func(p kubeapi.Pod) bool { return p.Meta.Deleted != nil })
}

// missing is how many pods the object shall have that its controller has not made.
func (v *view) missing() int { return max(v.scale.Spec.Replicas-len(v.alive()), 0) }

// look asks the API server how things are now.
func (t *Target) look(ctx context.Context) (*view, error) {
	scale, err := t.readSize(ctx)
	if err != nil {
		return nil, err
	}
	pods, err := t.client.ListPods(ctx, scale.Status.Selector)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	t.seen = pods.Version
	t.mu.Unlock()
	return newView(scale, pods.Pods), nil
}

// follow tells how things are by kubeapi's watches. The server is asked for what changed and a watch does not tell, the scale; and for what a
// watch has not caught up with.
func (t *Target) follow(ctx context.Context) (*view, error) {
	scale, err := t.followSize(ctx)
	if err != nil {
		return nil, err
	}
	pods, err := t.client.Pods(ctx, scale.Status.Selector)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	behind := t.seen != "" && kubeapi.Older(pods.Version, t.seen)
	if !behind {
		t.seen = ""
	}
	t.mu.Unlock()
	if behind {
		return t.look(ctx)
	}
	return newView(scale, pods.Pods), nil
}

// followSize returns the scale, which is as it was read last while the object's version is the same.
func (t *Target) followSize(ctx context.Context) (*kubeapi.Scale, error) {
	kinds, err := t.path(ctx)
	if err != nil {
		return nil, err
	}
	version, err := t.client.VersionOf(ctx, kinds, t.cfg.Name)
	if kubeapi.Refused(err, http.StatusNotFound, http.StatusForbidden) {
		return t.readSize(ctx) // the server says more; and who may not watch may read
	}
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	size := t.size
	t.mu.Unlock()
	if size == nil || kubeapi.Older(size.Meta.ResourceVersion, version) {
		return t.readSize(ctx)
	}
	return size, nil
}

func (t *Target) readSize(ctx context.Context) (*kubeapi.Scale, error) {
	kinds, err := t.path(ctx)
	if err != nil {
		return nil, err
	}
	scale := &kubeapi.Scale{}
	if err := t.client.Get(ctx, t.objectPath(kinds)+"/scale", nil, scale); err != nil {
		return nil, fmt.Errorf("read the size of %s: %w", t.object(), err)
	}
	if scale.Status.Selector == "" {
		return nil, fmt.Errorf("%s does not say which pods are its own (status.selector of its scale is empty)", t.object())
	}
	t.remember(scale)
	return scale, nil
}

func (t *Target) remember(scale *kubeapi.Scale) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.size = scale
}

// object names what is scaled, as people write it.
func (t *Target) object() string { return t.cfg.Kind + " " + t.client.Namespace() + "/" + t.cfg.Name }

func (t *Target) objectPath(kinds string) string { return kinds + "/" + url.PathEscape(t.cfg.Name) }

// path is where objects of its kind are.
func (t *Target) path(ctx context.Context) (string, error) {
	t.mu.Lock()
	kinds := t.kinds
	t.mu.Unlock()
	if kinds != "" {
		return kinds, nil
	}
	kinds, err := t.client.Scalable(ctx, t.cfg.APIVersion, t.cfg.Kind)
	if err != nil {
		return "", err
	}
	t.mu.Lock()
	t.kinds = kinds
	t.mu.Unlock()
	return kinds, nil
}

// Workers lists the pods. A pod serves when it is ready; one whose end was asked for drains until it is gone. Pods that
// the object shall have and its controller has not made yet are starting too.
func (t *Target) Workers(ctx context.Context) ([]fleet.Worker, error) {
	v, err := t.follow(ctx)
	if err != nil {
		return nil, err
	}
	ws := make([]fleet.Worker, 0, len(v.pods))
	for i := range v.pods {
		ws = append(ws, t.worker(&v.pods[i]))
	}
	if n := v.missing(); n > 0 {
		why := t.hindrance(ctx)
		for i := range n {
			ws = append(ws, fleet.Worker{ID: fmt.Sprintf("%s (to come %d)", t.cfg.Name, i+1), Phase: fleet.Starting, Detail: why})
		}
	}
	return ws, nil
}

func (t *Target) worker(p *kubeapi.Pod) fleet.Worker {
	w := fleet.Worker{ID: p.Meta.Name, Started: p.Meta.Created, Phase: fleet.Starting}
	if t.cfg.Port != 0 && p.Status.IP != "" {
		w.Address = net.JoinHostPort(p.Status.IP, strconv.Itoa(t.cfg.Port))
	}
	ready, why := p.Ready()
	switch {
	case p.Meta.Deleted != nil:
		w.Phase, w.Detail = fleet.Draining, "ends within its grace period"
	case !ready:
		w.Detail = why
	case t.isLeaving(p):
		w.Phase, w.Detail = fleet.Draining, "is being taken out of service"
	default:
		w.Phase = fleet.Serving
	}
	return w
}

func (t *Target) isLeaving(p *kubeapi.Pod) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.leaving[p.Meta.UID]
}

// hindrance says why pods are not made, as far as the object's conditions tell: a quota, for one.
func (t *Target) hindrance(ctx context.Context) string {
	kinds, err := t.path(ctx)
	if err != nil {
		return "not made yet"
	}
	var object struct {
		Status struct {
			Conditions []kubeapi.Condition `json:"conditions"`
		} `json:"status"`
	}
	if err := t.client.Get(ctx, t.objectPath(kinds), nil, &object); err != nil {
		return "not made yet"
	}
	for _, c := range object.Status.Conditions {
		if c.Type == "ReplicaFailure" && c.Status == "True" {
			return "not made yet: " + c.Message
		}
	}
	return "not made yet"
}
