package kubernetes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"tidemark/internal/kubeapi"
)

// FollowedConfig is what an operator writes under `target: {keda: ...}`: the same as under kubernetes.
type FollowedConfig struct {
	Config `yaml:",inline"`
}

// DefaultFollowedConfig is what holds where the operator wrote nothing.
func DefaultFollowedConfig() FollowedConfig { return FollowedConfig{DefaultConfig()} }

// Followed is a Target that sets no size: it says what size the object is to have, and KEDA, through the HorizontalPodAutoscaler that it
// makes of a ScaledObject, sets it. Everything else is as with a Target: which pods leave is chosen and said in the same way.
type Followed struct{ *Target }

// NewFollowed makes a target of a valid configuration. The cluster may be away.
func NewFollowed(cfg FollowedConfig, clients *kubeapi.Clients) (*Followed, error) {
	t, err := New(cfg.Config, clients)
	if err != nil {
		return nil, err
	}
	t.wish = &wish{changed: make(chan struct{})}
	return &Followed{t}, nil
}

// FollowedMetric is what the HorizontalPodAutoscaler's metric is called, after KEDA's prefix. Its value is the size.
const FollowedMetric = "tidemark-size"

// ErrNotFollowed is of what KEDA cannot follow as it is set up.
var ErrNotFollowed = errors.New("KEDA does not follow")

// wish is the size that the object is to have.
type wish struct {
	mu      sync.Mutex
	n       int           // 0: the size that it has
	changed chan struct{} // closed when n changes
	asked   time.Time     // when KEDA last asked
	checked time.Time     // when it was last seen that all is set up for the ScaledObject
	by      string
}

// set says the size; changed is false when it was said before.
func (w *wish) set(n int) (changed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.n == n {
		return false
	}
	w.n = n
	close(w.changed)
	w.changed = make(chan struct{})
	return true
}

// Changed is closed when a size is wanted, and when it is wanted no more.
func (f *Followed) Changed() <-chan struct{} {
	f.wish.mu.Lock()
	defer f.wish.mu.Unlock()
	return f.wish.changed
}

// Wanted is the size that a ScaledObject is to give the object: what Scale is moving it to, else the size that it has. It is never 0: of
// an object without pods, or whose size is not known, the error says so. ErrNotFollowed: the ScaledObject is not set up for that number,
// and would make another size of it.
func (f *Followed) Wanted(ctx context.Context, namespace, scaledObject string) (int, error) {
	if err := f.check(ctx, namespace, scaledObject); err != nil {
		return 0, err
	}
	w := f.wish
	w.mu.Lock()
	w.asked = time.Now()
	n := w.n
	w.mu.Unlock()
	if n > 0 {
		return n, nil
	}
	scale, err := f.followSize(ctx)
	if err != nil {
		return 0, err
	}
	if n = scale.Spec.Replicas; n == 0 {
		return 0, fmt.Errorf("%s has no pods, and nothing was decided for it", f.object())
	}
	return n, nil
}

// check looks, once a minute, whether the ScaledObject is the one that scales the object, by this metric.
func (f *Followed) check(ctx context.Context, namespace, scaledObject string) error {
	if namespace != f.client.Namespace() {
		return fmt.Errorf("%w: the ScaledObject is in the namespace %q, and %s is not", ErrNotFollowed, namespace, f.object())
	}
	w := f.wish
	w.mu.Lock()
	known := w.by == scaledObject && time.Since(w.checked) < time.Minute
	w.mu.Unlock()
	if known {
		return nil
	}
	began := time.Now()
	a, err := f.follower(ctx)
	switch {
	case err != nil:
		return err
	case a.Meta.Controller().Name != scaledObject:
		return fmt.Errorf("%w: %s is scaled by ScaledObject %s, and %s asks for its size: is scaleTargetRef right, and fleet in the trigger's metadata?", ErrNotFollowed, f.object(), a.Meta.Controller().Name, scaledObject)
	}
	w.mu.Lock()
	w.by, w.checked = scaledObject, began
	w.mu.Unlock()
	return nil
}

// follower is the HorizontalPodAutoscaler that KEDA made for the object, if it makes the size that is wanted of what it is told.
func (t *Target) follower(ctx context.Context) (*kubeapi.Autoscaler, error) {
	a, err := t.autoscaler(ctx)
	switch {
	case err != nil:
		return nil, err
	case a == nil:
		return nil, fmt.Errorf("%w: no HorizontalPodAutoscaler scales %s: apply a ScaledObject with a trigger for this fleet, or if there is one, see that it is not paused and what 'kubectl describe scaledobject' says", ErrNotFollowed, t.object())
	case a.Meta.Controller().Kind != "ScaledObject":
		return nil, fmt.Errorf("%w: HorizontalPodAutoscaler %s scales %s, and no ScaledObject made it: delete it", ErrNotFollowed, a.Meta.Name, t.object())
	}
	for _, m := range a.Spec.Metrics {
		if !strings.HasSuffix(m.External.Metric.Name, "-"+FollowedMetric) {
			continue
		}
		if as := m.External.Target.Type; as != "AverageValue" {
			return nil, fmt.Errorf("%w: the trigger of ScaledObject %s has metricType: %s, which multiplies the size by itself: write AverageValue, or delete it", ErrNotFollowed, a.Meta.Controller().Name, as)
		}
		return a, nil
	}
	return nil, fmt.Errorf("%w: ScaledObject %s scales %s and has no trigger that asks Tidemark: add one of type external-push", ErrNotFollowed, a.Meta.Controller().Name, t.object())
}

// ask has KEDA set the size.
func (s *scaling) ask(ctx context.Context, v *view, n int) (fresh bool, err error) {
	fresh = s.wish.set(n)
	s.asked = n
	return fresh, s.waitForKEDA(ctx, v)
}

// waitForKEDA says what keeps the size from being what was asked for, as far as the cluster knows.
func (s *scaling) waitForKEDA(ctx context.Context, v *view) error {
	a, err := s.follower(ctx)
	if err != nil {
		return err
	}
	s.wish.mu.Lock()
	asked := s.wish.asked
	s.wish.mu.Unlock()
	object, have := a.Meta.Controller().Name, v.scale.Spec.Replicas
	var why []string
	switch {
	case s.asked > a.Spec.Max:
		why = append(why, fmt.Sprintf("maxReplicaCount of ScaledObject %s is %d: raise it to %d", object, a.Spec.Max, s.asked))
	case time.Since(asked) > 2*time.Minute:
		why = append(why, fmt.Sprintf("KEDA does not ask here: is scalerAddress of ScaledObject %s right, and does KEDA's operator run?", object))
	case within(have, s.asked):
		why = append(why, fmt.Sprintf("a HorizontalPodAutoscaler leaves changes of up to 10 %% alone: write tolerance: \"0\" in the behavior of ScaledObject %s", object))
	}
	for _, c := range a.Status.Conditions {
		if c.Status == "False" && c.Type != "ScalingLimited" || c.Reason == "ScaleDownStabilized" {
			why = append(why, c.Message)
		}
	}
	s.waitsFor = strings.TrimSuffix(fmt.Sprintf("KEDA is to set the size from %d to %d: %s", have, s.asked, strings.Join(why, "; ")), ": ")
	return nil
}

// within reports whether a change of size is one that a HorizontalPodAutoscaler takes for none.
func within(have, want int) bool {
	d := want - have
	return d*d*100 <= have*have
}

// bounded is the error of a size that the ScaledObject does not let be. Nobody is drained for it.
func bounded(a *kubeapi.Autoscaler, n int) error {
	if least := cmp.Or(a.Spec.Min, 1); n < least {
		return fmt.Errorf("%w: minReplicaCount of ScaledObject %s is %d: lower it to %d", ErrNotFollowed, a.Meta.Controller().Name, least, n)
	}
	return nil
}
