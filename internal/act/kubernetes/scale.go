package kubernetes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"tidemark/internal/act/wait"
	"tidemark/internal/fleet"
	"tidemark/internal/kubeapi"
)

const (
	firstLook, lastLook = 50 * time.Millisecond, time.Second // between two looks at the cluster; it doubles
	telling             = 10 * time.Second                   // for what is told to the cluster whole or not at all
	// noticing is how long marks are given to reach the ReplicaSets' controller before the size does. It hears of pods and of sizes on two
	// ways, and nothing tells what it has heard: under load the size came first. Nobody is in a hurry to scale in.
	noticing = 2 * time.Second

	// deletionCost tells a ReplicaSet which of its ready pods goes first: that of the least cost. Ours is the least there is.
	deletionCost = "controller.kubernetes.io/pod-deletion-cost"
	leastCost    = math.MinInt32
)

// scaling is one Scale under way. It looks, takes the step that is due, and looks again.
type scaling struct {
	*Target
	n        int
	drain    fleet.Drain
	drained  map[string]bool // UIDs of pods that are out of service
	waitsFor string          // what holds a step back, in words
	asked    int             // of KEDA, which has not followed yet; 0: nothing
}

// Scale moves the object to n pods and returns when that many are ready and no other is left. On the way down it chooses the pods that
// leave: those that do not serve, then the least utilised by metrics.k8s.io, then the youngest; of a StatefulSet always the last.
// They are drained, then marked, then the object's size is lowered by as many as PodDisruptionBudgets allow; the rest follows when
// they allow more. When drain fails or ctx ends during it, the pod goes on serving.
func (t *Target) Scale(ctx context.Context, n int, drain fleet.Drain) error {
	if n < 0 {
		return fmt.Errorf("%d workers are asked for", n)
	}
	select {
	case t.turn <- struct{}{}:
		defer func() { <-t.turn }()
	case <-ctx.Done():
		return fmt.Errorf("wait for the scaling before: %w", ctx.Err())
	}
	defer func() {
		t.mu.Lock()
		clear(t.leaving) // what is not gone by now serves on
		t.mu.Unlock()
	}()
	s := &scaling{Target: t, n: n, drain: drain, drained: map[string]bool{}}
	return s.run(ctx)
}

func (s *scaling) run(ctx context.Context) error {
	if err := s.possible(ctx); err != nil {
		return err
	}
	if s.wish != nil {
		defer s.wish.set(0)
	}
	return wait.Until(ctx, firstLook, lastLook, func() (p wait.Progress, err error) {
		v, err := s.look(ctx)
		if err != nil {
			return p, err
		}
		s.waitsFor = ""
		p.Acted, err = s.step(ctx, v)
		p.State, p.Done = s.state(v), s.settled(v)
		return p, err
	})
}

// possible is the error of an object that another autoscaler moves, as two would undo each other's work for ever; or of one that KEDA is to
// move and does not.
func (s *scaling) possible(ctx context.Context) error {
	if s.wish != nil {
		a, err := s.follower(ctx)
		if err != nil {
			return err
		}
		return bounded(a, s.n)
	}
	a, err := s.autoscaler(ctx)
	if a == nil {
		return err
	}
	return fmt.Errorf("HorizontalPodAutoscaler %s scales %s already, and two would undo each other's work: delete it, or this fleet (KEDA makes one of each ScaledObject, and follows a target of kind keda)", a.Meta.Name, s.object())
}

// autoscaler is the HorizontalPodAutoscaler of the object; nil: there is none.
func (t *Target) autoscaler(ctx context.Context) (*kubeapi.Autoscaler, error) {
	scalers, err := t.client.Autoscalers(ctx)
	for i := range scalers {
		a := &scalers[i]
		group, _, _ := strings.Cut(a.Spec.Target.APIVersion, "/")
		own, _, _ := strings.Cut(t.cfg.APIVersion, "/")
		if a.Spec.Target.Kind == t.cfg.Kind && a.Spec.Target.Name == t.cfg.Name && group == own {
			return a, nil
		}
	}
	return nil, err
}

// settled reports whether n pods serve and nothing else is there.
func (s *scaling) settled(v *view) bool {
	return v.scale.Spec.Replicas == s.n && len(v.pods) == s.n && serving(v.alive()) == s.n
}

func serving(pods []kubeapi.Pod) int {
	n := 0
	for i := range pods {
		if ready, _ := pods[i].Ready(); ready {
			n++
		}
	}
	return n
}

// state says in words how far the scaling is.
func (s *scaling) state(v *view) string {
	alive := v.alive()
	troubles := []string{}
	if s.waitsFor != "" {
		troubles = append(troubles, s.waitsFor)
	}
	for i := range alive {
		if ready, why := alive[i].Ready(); !ready {
			troubles = append(troubles, alive[i].Meta.Name+": "+why)
		}
	}
	if n := v.missing(); n > 0 {
		troubles = append(troubles, fmt.Sprintf("%d not made yet", n))
	}
	if n := len(v.pods) - len(alive); n > 0 {
		troubles = append(troubles, fmt.Sprintf("%d still ending", n))
	}
	return strings.TrimSuffix(fmt.Sprintf("%d of %d workers of %s serve: %s", serving(alive), s.n, s.object(), strings.Join(troubles, "; ")), ": ")
}

// step does what the view calls for.
func (s *scaling) step(ctx context.Context, v *view) (acted bool, err error) {
	want := v.scale.Spec.Replicas
	switch {
	case s.asked != 0 && s.asked != want:
		return false, s.waitForKEDA(ctx, v)
	case want < s.n:
		return s.resize(ctx, v, s.n)
	case want > s.n:
		return s.shrink(ctx, v)
	case len(v.alive()) <= want: // no controller has to choose any more
		return s.unmark(ctx, v)
	}
	return false, nil
}

// resize writes the object's size, unless somebody changed the object since it was read: then it is looked at anew.
func (s *scaling) resize(ctx context.Context, v *view, n int) (acted bool, err error) {
	if s.wish != nil {
		return s.ask(ctx, v, n)
	}
	kinds, err := s.path(ctx)
	if err != nil {
		return false, err
	}
	scale, written := v.scale, &kubeapi.Scale{}
	scale.Spec.Replicas = n
	err = s.client.Send(ctx, http.MethodPut, s.objectPath(kinds)+"/scale", nil, kubeapi.JSON, scale, written)
	if kubeapi.Refused(err, http.StatusConflict) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("set the size of %s to %d: %w", s.object(), n, err)
	}
	s.remember(written)
	return true, nil
}

// shrink lowers the size by as many as may leave now.
func (s *scaling) shrink(ctx context.Context, v *view) (acted bool, err error) {
	alive := v.alive()
	switch {
	case generations(alive) > 1:
		s.waitsFor = "a rollout is under way: which pod leaves is chosen when it is over"
		return false, nil
	case len(alive) > v.scale.Spec.Replicas:
		s.waitsFor = "an earlier step down is under way"
		return false, nil
	}
	order, err := s.order(ctx, v, alive)
	if err != nil {
		return false, err
	}
	victims := order[:max(len(alive)-s.n, 0)]
	if victims, err = s.allowed(ctx, victims); err != nil {
		return false, err
	}
	to := max(len(alive)-len(victims), s.n)
	if to == v.scale.Spec.Replicas {
		return false, nil // none may leave now
	}
	if err := s.release(ctx, victims); err != nil {
		return false, err
	}
	return s.resize(ctx, v, to)
}

// order sorts pods by what is lost least with them: what is out of service already, what does not serve, the least utilised, the young.
func (s *scaling) order(ctx context.Context, v *view, alive []kubeapi.Pod) ([]kubeapi.Pod, error) {
	if len(alive) > 0 && alive[0].Meta.Controller().Kind == "StatefulSet" {
		slices.SortFunc(alive, func(a, b kubeapi.Pod) int { return cmp.Compare(ordinal(b), ordinal(a)) })
		return alive, nil
	}
	idle := len(alive) - serving(alive)
	var used map[string]kubeapi.Usage
	if s.n > 0 && idle < len(alive)-s.n {
		var err error
		used, err = s.client.Usages(ctx, v.scale.Status.Selector)
		if err != nil && !errors.Is(err, kubeapi.ErrNoMetrics) { // where nothing is measured, the youngest leaves
			return nil, fmt.Errorf("see which pod is the least utilised: %w", err)
		}
	}
	load := func(p kubeapi.Pod) float64 {
		if u, measured := used[p.Meta.Name]; measured {
			return u.CPU
		}
		return math.Inf(1) // what was not measured may be at work
	}
	rank := func(p kubeapi.Pod) int {
		if ready, _ := p.Ready(); !ready {
			return 0
		}
		if s.drained[p.Meta.UID] {
			return 1
		}
		return 2
	}
	slices.SortFunc(alive, func(a, b kubeapi.Pod) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(load(a), load(b)), b.Meta.Created.Compare(a.Meta.Created), cmp.Compare(a.Meta.Name, b.Meta.Name))
	})
	return alive, nil
}

// generations is how many controllers made the pods: while a Deployment is rolled out there are two.
func generations(pods []kubeapi.Pod) int {
	made := map[string]bool{}
	for i := range pods {
		made[pods[i].Meta.Controller().UID] = true
	}
	return len(made)
}

// ordinal is the number at the end of a StatefulSet's pod's name.
func ordinal(p kubeapi.Pod) int {
	n, err := strconv.Atoi(p.Meta.Name[strings.LastIndexByte(p.Meta.Name, '-')+1:])
	if err != nil {
		return -1
	}
	return n
}

// allowed cuts the victims down to those that the PodDisruptionBudgets let go now. The cluster itself does not ask them when a size is
// lowered. Pods that are not ready are not counted by them.
func (s *scaling) allowed(ctx context.Context, victims []kubeapi.Pod) ([]kubeapi.Pod, error) {
	if serving(victims) == 0 {
		return victims, nil
	}
	budgets, err := s.client.BudgetsOf(ctx, victims)
	if err != nil {
		return nil, err
	}
	room := make([]int, len(budgets))
	for i := range budgets {
		if room[i], err = s.room(ctx, &budgets[i]); err != nil {
			return nil, err
		}
	}
	for i := range victims {
		if ready, _ := victims[i].Ready(); !ready {
			continue
		}
		for j := range budgets {
			takes, err := budgets[j].Takes(victims[i].Meta.Labels)
			if err != nil {
				return nil, err
			}
			if !takes {
				continue
			}
			if room[j]--; room[j] < 0 {
				b := &budgets[j]
				s.waitsFor = fmt.Sprintf("PodDisruptionBudget %s lets none go now (%d healthy, %d must stay)", b.Meta.Name, b.Status.Healthy, b.Status.Desired)
				return victims[:i], nil
			}
		}
	}
	return victims, nil
}

// room is how many of all its pods a budget lets go now. What its status says may be older than the last pod that left, so they are counted
// too. A budget that its controller has not seen as it is written lets none.
func (s *scaling) room(ctx context.Context, b *kubeapi.Budget) (int, error) {
	if b.Status.Allowed == 0 || b.Status.ObservedGeneration < b.Meta.Generation {
		return 0, nil
	}
	selector, err := b.Pods()
	if err != nil {
		return 0, err
	}
	all, err := s.client.ListPods(ctx, selector.String())
	if err != nil {
		return 0, err
	}
	healthy := 0
	for i := range all.Pods {
		if ready, _ := all.Pods[i].Ready(); ready && all.Pods[i].Meta.Deleted == nil {
			healthy++
		}
	}
	return min(b.Status.Allowed, healthy-b.Status.Desired), nil
}

// release takes the victims that serve out of service, one after another, and marks them for their controller.
func (s *scaling) release(ctx context.Context, victims []kubeapi.Pod) error {
	for i := range victims {
		p := &victims[i]
		ready, _ := p.Ready()
		if !ready || s.drained[p.Meta.UID] {
			continue
		}
		s.mu.Lock()
		s.leaving[p.Meta.UID] = true
		s.mu.Unlock()
		if s.drain != nil {
			if err := s.drain(ctx, s.worker(p)); err != nil {
				return fmt.Errorf("%s goes on serving: drain: %w", p.Meta.Name, err)
			}
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s goes on serving: %w", p.Meta.Name, ctx.Err())
		}
		s.drained[p.Meta.UID] = true
	}
	if len(victims) == 0 || victims[0].Meta.Controller().Kind == "StatefulSet" {
		return nil // which does not ask
	}
	for i := range victims {
		if err := s.mark(ctx, &victims[i], strconv.Itoa(leastCost)); err != nil {
			return err
		}
	}
	if err := wait.For(ctx, noticing); err != nil {
		return fmt.Errorf("wait for the marks to be noticed: %w", err)
	}
	return nil
}

// mark writes what a pod's end costs; nil as nothing said. A pod that is gone by now is as wanted.
func (s *scaling) mark(ctx context.Context, p *kubeapi.Pod, cost any) error {
	if p.Meta.Annotations[deletionCost] == cost {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, telling)
	defer cancel()
	patch := map[string]any{"metadata": map[string]any{"uid": p.Meta.UID, "annotations": map[string]any{deletionCost: cost}}}
	err := s.client.Send(ctx, http.MethodPatch, s.client.PodPath(p.Meta.Name), nil, kubeapi.MergePatch, patch, nil)
	if err != nil && !kubeapi.Refused(err, http.StatusNotFound, http.StatusConflict) {
		return fmt.Errorf("mark %s: %w", p.Meta.Name, err)
	}
	return nil
}

// unmark takes our mark from pods that were to leave and stayed: an earlier scaling was cut short, or another pod went in their place.
func (s *scaling) unmark(ctx context.Context, v *view) (acted bool, err error) {
	alive := v.alive()
	for i := range alive {
		if alive[i].Meta.Annotations[deletionCost] != strconv.Itoa(leastCost) {
			continue
		}
		if err := s.mark(ctx, &alive[i], nil); err != nil {
			return acted, err
		}
		acted = true
	}
	return acted, nil
}
