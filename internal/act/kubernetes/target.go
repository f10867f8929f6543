// Package kubernetes is the target whose workers are the pods of a Deployment, a StatefulSet, or any other object with the subresource
// scale. It sets the object's size and leaves to the cluster's controllers to make and remove pods; which of a ReplicaSet's pods goes, it
// says by the annotation pod-deletion-cost. It keeps within PodDisruptionBudgets, and never fights a HorizontalPodAutoscaler.
package kubernetes

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/kubeapi"
)

// Target is one scalable object. It remembers nothing of the cluster but where the object's scale is.
type Target struct {
	cfg    Config
	client *kubeapi.Client
	turn   chan struct{} // holds a token while a Scale runs
	wish   *wish         // nil: it sets the size by itself

	mu      sync.Mutex
	scale   string          // the scale's path; "" until the server was asked
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

// view is the object and its pods, as they are now.
type view struct {
	scale kubeapi.Scale
	pods  []kubeapi.Pod // without those that have ended; oldest first
}

// alive are the pods whose end was not asked for.
func (v *view) alive() []kubeapi.Pod {
	return slices.DeleteFunc(slices.Clone(v.pods), func(p kubeapi.Pod) bool { return p.Meta.Deleted != nil })
}

// missing is how many pods the object shall have that its controller has not made.
func (v *view) missing() int { return max(v.scale.Spec.Replicas-len(v.alive()), 0) }

func (t *Target) look(ctx context.Context) (*view, error) {
	v := &view{}
	if err := t.readScale(ctx, v); err != nil {
		return nil, err
	}
	if v.scale.Status.Selector == "" {
		return nil, fmt.Errorf("%s does not say which pods are its own (status.selector of its scale is empty)", t.object())
	}
	pods, err := t.client.Pods(ctx, v.scale.Status.Selector)
	if err != nil {
		return nil, err
	}
	v.pods = slices.DeleteFunc(pods, func(p kubeapi.Pod) bool { return p.Ended() })
	slices.SortFunc(v.pods, func(a, b kubeapi.Pod) int {
		return cmp.Or(a.Meta.Created.Compare(b.Meta.Created), cmp.Compare(a.Meta.Name, b.Meta.Name))
	})
	return v, nil
}

func (t *Target) readScale(ctx context.Context, v *view) error {
	path, err := t.path(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := t.client.Get(ctx, path, nil, &v.scale); err != nil {
		return fmt.Errorf("read the size of %s: %w", t.object(), err)
	}
	t.wish.saw(v.scale.Spec.Replicas, began)
	return nil
}

// object names what is scaled, as people write it.
func (t *Target) object() string { return t.cfg.Kind + " " + t.client.Namespace() + "/" + t.cfg.Name }

func (t *Target) path(ctx context.Context) (string, error) {
	t.mu.Lock()
	path := t.scale
	t.mu.Unlock()
	if path != "" {
		return path, nil
	}
	path, err := t.client.ScalePath(ctx, t.cfg.APIVersion, t.cfg.Kind, t.cfg.Name)
	if err != nil {
		return "", err
	}
	t.mu.Lock()
	t.scale = path
	t.mu.Unlock()
	return path, nil
}

// Workers lists the pods as they are now. A pod serves when it is ready; one whose end was asked for drains until it is gone. Pods that
// the object shall have and its controller has not made yet are starting too.
func (t *Target) Workers(ctx context.Context) ([]fleet.Worker, error) {
	v, err := t.look(ctx)
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
	path, err := t.path(ctx)
	if err != nil {
		return "not made yet"
	}
	var object struct {
		Status struct {
			Conditions []kubeapi.Condition `json:"conditions"`
		} `json:"status"`
	}
	if err := t.client.Get(ctx, strings.TrimSuffix(path, "/scale"), nil, &object); err != nil {
		return "not made yet"
	}
	for _, c := range object.Status.Conditions {
		if c.Type == "ReplicaFailure" && c.Status == "True" {
			return "not made yet: " + c.Message
		}
	}
	return "not made yet"
}
