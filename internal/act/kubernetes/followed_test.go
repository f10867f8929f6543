package kubernetes

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"tidemark/internal/act/acttest"
	"tidemark/internal/fleet"
	"tidemark/test/servers"
)

var conformFollowed = flag.Bool("conform-followed", false, "the conformance suite on a target that KEDA sizes, too")

const autoscalers = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers"

// autoscaler makes the HorizontalPodAutoscaler that KEDA makes of a ScaledObject, so, for a Deployment. Its metric is served by nobody: what
// sets the size is a test.
func (c *cluster) autoscaler(t *testing.T, name, owner, metric, as string) {
	t.Helper()
	target := object{"type": as, "averageValue": "1"}
	if as == "Value" {
		target = object{"type": as, "value": "1"}
	}
	c.Must(http.MethodPost, autoscalers, object{"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
		"metadata": object{"name": name, "ownerReferences": []object{{"apiVersion": "keda.sh/v1alpha1", "kind": owner, "name": "so", "uid": "7d5b2f0e-0000-4000-8000-000000000000", "controller": true}}},
		"spec": object{"scaleTargetRef": object{"apiVersion": "apps/v1", "kind": "Deployment", "name": name}, "minReplicas": 1, "maxReplicas": 5,
			"metrics": []object{{"type": "External", "external": object{"metric": object{"name": metric}, "target": target}}}}}, nil)
}

func (c *cluster) remove(t *testing.T, name string) {
	t.Helper()
	c.Must(http.MethodDelete, autoscalers+"/"+name, nil, nil)
}

func (c *cluster) openFollowed(t *testing.T, name, kubeconfig string) *Followed {
	t.Helper()
	cfg := DefaultFollowedConfig()
	cfg.Name, cfg.Kubeconfig, cfg.Namespace = name, kubeconfig, "default"
	f, err := NewFollowed(cfg, clients(t))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (c *cluster) resize(name string, n int) {
	_ = c.Call(http.MethodPatch, apps+"deployments/"+name+"/scale", object{"spec": object{"replicas": n}}, nil) // it comes again
}

// follow does what KEDA does, faster, until the end of the test or until end is called.
func (c *cluster) follow(t *testing.T, name string, f *Followed) (end func()) {
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for last := 0; ctx.Err() == nil; {
			if n, err := f.Wanted(ctx, "default", "so"); err == nil && n != last {
				c.resize(name, n)
				last = n
			}
			select {
			case <-ctx.Done():
			case <-f.Changed():
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	end = sync.OnceFunc(func() { stop(); wg.Wait() })
	t.Cleanup(end)
	return end
}

// followed: who asks is told what it is to set, and nobody else is; and what keeps KEDA from it is said.
func (c *cluster) followed(t *testing.T) {
	name := c.workload(t, "Deployment")
	f := c.openFollowed(t, name, c.Kubeconfig)
	drains := 0
	drain := func(context.Context, fleet.Worker) error { drains++; return nil }
	// refused: neither is a size said nor a fleet moved.
	refused := func(what, says string) {
		t.Helper()
		told := func() error {
			_, err := f.Wanted(t.Context(), "default", "so")
			if !errors.Is(err, ErrNotFollowed) || !strings.Contains(err.Error(), says) {
				return fmt.Errorf("%s: want %q, have: %w", what, says, err)
			}
			return nil
		}
		servers.Eventually(t, "a watch tells of it", told)
		if err := f.Scale(t.Context(), 3, drain); !errors.Is(err, ErrNotFollowed) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: want %q, have: %v", what, says, err)
		}
	}
	refused("nobody", "apply a ScaledObject")
	for _, wrong := range []struct{ owner, metric, as, says string }{
		{"Rollout", "s0-tidemark-size", "AverageValue", "no ScaledObject made it: delete it"},
		{"ScaledObject", "s0-cpu", "AverageValue", "add one of type external-push"},
		{"ScaledObject", "s1-tidemark-size", "Value", "write AverageValue"},
	} {
		c.autoscaler(t, name, wrong.owner, wrong.metric, wrong.as)
		refused(wrong.says, wrong.says)
		c.remove(t, name)
	}
	c.autoscaler(t, name, "ScaledObject", "s0-tidemark-size", "AverageValue")
	asks := func(namespace, so, says string) {
		t.Helper()
		servers.Eventually(t, "a watch tells of it", func() error {
			if n, err := f.Wanted(t.Context(), namespace, so); err == nil || !strings.Contains(err.Error(), says) {
				return fmt.Errorf("%s/%s was told %d, %w; want %q", namespace, so, n, err, says)
			}
			return nil
		})
	}
	asks("dfr", "so", "is in the namespace")
	asks("default", "other", "is scaled by ScaledObject so, and other asks")
	asks("default", "so", "has no pods, and nothing was decided") // never 0

	end := c.follow(t, name, f)
	to := func(n int) { t.Helper(); scale(t, f.Target, n) }
	to(3)
	holds := func(n int) {
		t.Helper()
		if have, err := f.Wanted(t.Context(), "default", "so"); err != nil || have != n {
			t.Errorf("told %d, %v; want %d", have, err, n)
		}
	}
	holds(3)
	to(2)
	holds(2)
	end()

	// Somebody else changed the size, and nothing was decided: it stays.
	c.resize(name, 4)
	servers.Eventually(t, "4 pods", func() error {
		ws, err := f.Workers(t.Context())
		if fleet.Count(ws).Serving != 4 {
			return errors.Join(err, errors.New("not yet"))
		}
		return nil
	})
	holds(4)

	drains = 0
	if err := f.Scale(t.Context(), 0, drain); err == nil || !strings.Contains(err.Error(), "minReplicaCount of ScaledObject so is 1: lower it to 0") || drains > 0 {
		t.Errorf("below the minimum: %v; %d drained", err, drains)
	}
	cut := func(n int, says string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if err := f.Scale(ctx, n, drain); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("to %d: want %q, have: %v", n, says, err)
		}
		holds(4) // given up
	}
	cut(6, "maxReplicaCount of ScaledObject so is 5: raise it to 6")
	f.wish.mu.Lock()
	f.wish.asked = time.Now().Add(-time.Hour)
	f.wish.mu.Unlock()
	cut(5, "KEDA does not ask here")

	if *conformFollowed {
		t.Run("conformance", func(t *testing.T) { acttest.Conform(t, c.followedHarness()) })
	}
}

// followedHarness has the suite drive a target that KEDA sizes.
func (c *cluster) followedHarness() acttest.Harness {
	h := c.harness("Deployment")
	plain := h.New
	h.New = func(t *testing.T) acttest.Fleet {
		a := plain(t)
		open := a.Open
		a.Open = func(t *testing.T) (acttest.Target, func()) {
			target, _ := open(t)
			inner := target.(*Target)
			f := c.openFollowed(t, inner.cfg.Name, inner.cfg.Kubeconfig)
			if c.Call(http.MethodGet, autoscalers+"/"+inner.cfg.Name, nil, nil) != nil {
				c.autoscaler(t, inner.cfg.Name, "ScaledObject", "s0-tidemark-size", "AverageValue")
				t.Cleanup(func() { c.remove(t, inner.cfg.Name) })
			}
			return f, c.follow(t, inner.cfg.Name, f)
		}
		return a
	}
	return h
}
