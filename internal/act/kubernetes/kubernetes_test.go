package kubernetes

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tidemark/internal/act/acttest"
	"tidemark/internal/fleet"
	"tidemark/internal/kubeapi"
	"tidemark/test/servers"
)

var rounds = flag.Int("rounds", 20, "scale-ups and scale-downs with a chosen victim")

// Everything that needs a cluster shares one: it takes seconds to start.
func TestOnACluster(t *testing.T) {
	k := servers.StartKube(t)
	c := newCluster(t, k)
	t.Run("conformance of a Deployment", func(t *testing.T) { acttest.Conform(t, c.harness("Deployment")) })
	t.Run("right victims", c.rightVictims)
	t.Run("StatefulSet", c.statefulSet)
	t.Run("budget", c.budget)
	t.Run("rival", c.rival)
	t.Run("followed by KEDA", c.followed)
	t.Run("quota", c.quota)
	t.Run("rollout", c.rollout)
	t.Run("custom resource", c.custom)
	t.Run("what is not there", c.absent)
}

const apps = "/apis/apps/v1/namespaces/default/"

// cluster is a real control plane, and what the tests do to it.
type cluster struct {
	*servers.Kube

	mu   sync.Mutex
	made int
}

func newCluster(t *testing.T, k *servers.Kube) *cluster {
	k.ServeMetrics(t)
	return &cluster{Kube: k}
}

type object = map[string]any

// workload makes an object of pods and removes it, and them, at the end.
func (c *cluster) workload(t *testing.T, kind string) (name string) {
	t.Helper()
	c.mu.Lock()
	c.made++
	name = fmt.Sprintf("%s-%d", strings.ToLower(kind), c.made)
	c.mu.Unlock()
	labels := object{"app": name}
	spec := object{"replicas": 0, "selector": object{"matchLabels": labels}, "template": object{
		"metadata": object{"labels": labels},
		"spec":     object{"containers": []object{{"name": "worker", "image": "worker"}}, "terminationGracePeriodSeconds": 1},
	}}
	if kind == "StatefulSet" {
		spec["serviceName"], spec["podManagementPolicy"] = name, "Parallel"
	}
	c.Must(http.MethodPost, apps+plural(kind), object{"apiVersion": "apps/v1", "kind": kind, "metadata": object{"name": name}, "spec": spec}, nil)
	t.Cleanup(func() {
		c.Must(http.MethodDelete, apps+plural(kind)+"/"+name+"?propagationPolicy=Background", nil, nil)
	})
	return name
}

func plural(kind string) string { return strings.ToLower(kind) + "s" }

func clients(t *testing.T) *kubeapi.Clients {
	cs := &kubeapi.Clients{}
	t.Cleanup(func() { _ = cs.Close() })
	return cs
}

func (c *cluster) open(t *testing.T, kind, name, kubeconfig string) *Target {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Kind, cfg.Name, cfg.Kubeconfig, cfg.Namespace = kind, name, kubeconfig, "default"
	target, err := New(cfg, clients(t))
	if err != nil {
		t.Fatal(err)
	}
	return target
}

func (c *cluster) harness(kind string) acttest.Harness {
	return acttest.Harness{
		Within: time.Minute,
		New: func(t *testing.T) acttest.Fleet {
			name := c.workload(t, kind)
			r := servers.NewRelay(t, c.Address)
			kubeconfig := c.WriteKubeconfig(t, "admin", r.Address)
			busy := map[string]bool{}
			var target *Target
			notices := func(t *testing.T, away bool) {
				servers.Eventually(t, fmt.Sprint("its watches notice that the API server is away: ", away), func() error {
					_, workers := target.Workers(t.Context())
					_, autoscalers := target.client.Autoscalers(t.Context())
					_, budgets := target.client.BudgetsOf(t.Context(), nil)
					for _, err := range []error{workers, autoscalers, budgets} {
						if (err != nil) != away {
							return fmt.Errorf("%w; %w; %w", workers, autoscalers, budgets)
						}
					}
					return nil
				})
			}
			f := acttest.Fleet{
				Open: func(t *testing.T) (acttest.Target, func()) {
					target = c.open(t, kind, name, kubeconfig)
					return target, func() {}
				},
				Drains: true,
				Kill: func(t *testing.T, w fleet.Worker) {
					pod := "/api/v1/namespaces/default/pods/" + w.ID
					c.Must(http.MethodDelete, pod+"?gracePeriodSeconds=0", nil, nil)
					servers.Eventually(t, w.ID+" is dead", func() error {
						if c.Call(http.MethodGet, pod, nil, nil) == nil {
							return fmt.Errorf("it is there")
						}
						return nil
					})
				},
				Busy: func(t *testing.T, w fleet.Worker) func() {
					busy[w.ID] = true
					c.Measure(t, "default", name, func(pod string) string {
						if busy[pod] {
							return "900m"
						}
						return "2m"
					})
					return func() { delete(busy, w.ID) }
				},
				Spoil: func(*testing.T) func() {
					c.Cordon(true)
					return func() { c.Cordon(false) }
				},
				Away: func(t *testing.T) func() {
					r.Cut()
					notices(t, true)
					return func() { r.Mend(); notices(t, false) }
				},
			}
			if kind == "StatefulSet" {
				f.Busy = nil // the last pod leaves, busy or not
			}
			return f
		},
	}
}

// scale moves a target and returns the IDs of its workers, which all serve.
func scale(t *testing.T, target *Target, n int) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if err := target.Scale(ctx, n, func(context.Context, fleet.Worker) error { return nil }); err != nil {
		t.Fatalf("scale to %d: %v", n, err)
	}
	return names(t, target, n)
}

func names(t *testing.T, target *Target, n int) (ids []string) {
	t.Helper()
	ws, err := target.Workers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range ws {
		ids = append(ids, w.ID)
	}
	if fleet.Count(ws).Serving != n || len(ws) != n {
		t.Fatalf("want %d serving workers, have %+v", n, ws)
	}
	return ids
}

// While another Deployment of the cluster comes and goes, the fleet grows and shrinks by random steps, and each time exactly the least
// utilised pods leave.
func (c *cluster) rightVictims(t *testing.T) {
	other := c.workload(t, "Deployment")
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for n := 5; ; n = 20 - n {
			select {
			case <-stop:
				return
			case <-time.After(2 * time.Second):
				_ = c.Call(http.MethodPatch, apps+"deployments/"+other+"/scale", object{"spec": object{"replicas": n}}, nil) // it is only load
			}
		}
	}()
	defer func() { close(stop); <-done }()
	name := c.workload(t, "Deployment")
	target := c.open(t, "Deployment", name, c.Kubeconfig)
	random := rand.New(rand.NewPCG(1, 2))
	var took [2]time.Duration
	left := 0
	for round := range *rounds {
		began := time.Now()
		high := 4 + random.IntN(6)
		before := scale(t, target, high)
		up := time.Since(began)
		rank := random.Perm(high)
		usage := map[string]int{}
		for i, id := range before {
			usage[id] = 10 * (1 + rank[i])
		}
		c.Measure(t, "default", name, func(pod string) string { return fmt.Sprintf("%dm", usage[pod]) })
		low := 1 + random.IntN(high-1)
		began = time.Now()
		after := scale(t, target, low)
		took[0], took[1] = took[0]+up, took[1]+time.Since(began)
		for i, id := range before {
			stays := slices.Contains(after, id)
			if want := rank[i] >= high-low; stays != want {
				t.Fatalf("round %d, from %d to %d: %s is number %d in order of its utilisation; stays: %v", round, high, low, id, rank[i], stays)
			}
		}
		left += high - low
	}
	t.Logf("%d scale-ups (mean %v) and scale-downs (mean %v): %d pods left, each the least utilised", *rounds,
		(took[0] / time.Duration(*rounds)).Round(time.Millisecond), (took[1] / time.Duration(*rounds)).Round(time.Millisecond), left)
}

// The last pods of a StatefulSet leave, and those are drained.
func (c *cluster) statefulSet(t *testing.T) {
	name := c.workload(t, "StatefulSet")
	target := c.open(t, "StatefulSet", name, c.Kubeconfig)
	scale(t, target, 12) // so that the order of names is not that of numbers
	c.Measure(t, "default", name, func(string) string { return "10m" })
	var drained []string
	if err := target.Scale(t.Context(), 9, func(_ context.Context, w fleet.Worker) error { drained = append(drained, w.ID); return nil }); err != nil {
		t.Fatal(err)
	}
	if want := []string{name + "-11", name + "-10", name + "-9"}; !slices.Equal(drained, want) {
		t.Errorf("drained %v, and %v leave", drained, want)
	}
	if left := names(t, target, 9); !slices.Contains(left, name+"-8") {
		t.Errorf("%v are left", left)
	}
}

// A PodDisruptionBudget is kept, and lets a scale-in go on when it allows.
func (c *cluster) budget(t *testing.T) {
	name := c.workload(t, "Deployment")
	target := c.open(t, "Deployment", name, c.Kubeconfig)
	path := "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
	c.Must(http.MethodPost, path, object{"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": object{"name": name},
		"spec": object{"minAvailable": 4, "selector": object{"matchLabels": object{"app": name}}}}, nil)
	t.Cleanup(func() { c.Must(http.MethodDelete, path+"/"+name, nil, nil) })
	scale(t, target, 6)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second) // the marks are given 2 s; the rest is for a busy machine
	defer cancel()
	drained := 0
	err := target.Scale(ctx, 2, func(context.Context, fleet.Worker) error { drained++; return nil })
	if err == nil || !strings.Contains(err.Error(), "PodDisruptionBudget "+name+" lets none go now (4 healthy, 4 must stay)") {
		t.Errorf("want the budget's name and figures, have: %v", err)
	}
	names(t, target, 4)
	if drained != 2 {
		t.Errorf("%d pods were drained, and the budget lets 2 go", drained)
	}
	c.Must(http.MethodPatch, path+"/"+name, object{"spec": object{"minAvailable": 1}}, nil)
	scale(t, target, 2)
}

// A HorizontalPodAutoscaler on the same object is never fought with.
func (c *cluster) rival(t *testing.T) {
	name := c.workload(t, "Deployment")
	target := c.open(t, "Deployment", name, c.Kubeconfig)
	scale(t, target, 2)
	path := "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers"
	c.Must(http.MethodPost, path, object{"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": object{"name": "rival"},
		"spec": object{"scaleTargetRef": object{"apiVersion": "apps/v1", "kind": "Deployment", "name": name}, "minReplicas": 2, "maxReplicas": 2}}, nil)
	known := func(there bool) {
		servers.Eventually(t, fmt.Sprint("the watch tells that there is a rival: ", there), func() error {
			if a, err := target.autoscaler(t.Context()); err != nil || (a != nil) != there {
				return fmt.Errorf("%+v, %w", a, err)
			}
			return nil
		})
	}
	known(true)
	err := target.Scale(t.Context(), 3, nil)
	if err == nil || !strings.Contains(err.Error(), "HorizontalPodAutoscaler rival scales Deployment default/"+name+" already") {
		t.Errorf("want a refusal, have: %v", err)
	}
	names(t, target, 2)
	c.Must(http.MethodDelete, path+"/rival", nil, nil)
	known(false)
	scale(t, target, 3)
}

// Pods that a quota keeps from being made are workers to come, and Workers says why.
func (c *cluster) quota(t *testing.T) {
	name := c.workload(t, "Deployment")
	target := c.open(t, "Deployment", name, c.Kubeconfig)
	scale(t, target, 1)
	c.Must(http.MethodPost, "/api/v1/namespaces/default/resourcequotas", object{"apiVersion": "v1", "kind": "ResourceQuota", "metadata": object{"name": name},
		"spec": object{"hard": object{"pods": "0"}}}, nil)
	t.Cleanup(func() { c.Must(http.MethodDelete, "/api/v1/namespaces/default/resourcequotas/"+name, nil, nil) })
	servers.Eventually(t, "the quota is in force", func() error {
		var q struct {
			Status struct{ Hard map[string]string }
		}
		if err := c.Call(http.MethodGet, "/api/v1/namespaces/default/resourcequotas/"+name, nil, &q); err != nil || q.Status.Hard["pods"] == "" {
			return fmt.Errorf("%+v, %w", q, err)
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	err := target.Scale(ctx, 3, nil)
	if err == nil || !strings.Contains(err.Error(), "1 of 3 workers of Deployment default/"+name+" serve: 2 not made yet") {
		t.Errorf("want to hear of two that are not made, have: %v", err)
	}
	ws, err := target.Workers(t.Context())
	if size := fleet.Count(ws); err != nil || size.Serving != 1 || size.Starting != 2 || !strings.Contains(fmt.Sprint(ws), "exceeded quota") {
		t.Errorf("%+v, %v", ws, err)
	}
	scale(t, target, 1)
}

// While two generations of pods are there, none is chosen: scale-in waits for the end of the rollout.
func (c *cluster) rollout(t *testing.T) {
	name := c.workload(t, "Deployment")
	target := c.open(t, "Deployment", name, c.Kubeconfig)
	scale(t, target, 3)
	c.Cordon(true)
	defer c.Cordon(false)
	c.Must(http.MethodPatch, apps+"deployments/"+name, object{"spec": object{"template": object{"metadata": object{"labels": object{"generation": "2"}}}}}, nil)
	servers.Eventually(t, "a pod of the new generation waits", func() error {
		ws, err := target.Workers(t.Context())
		if fleet.Count(ws).Starting != 1 {
			return fmt.Errorf("%+v, %w", ws, err)
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	err := target.Scale(ctx, 1, func(_ context.Context, w fleet.Worker) error { t.Errorf("%s was drained", w.ID); return nil })
	if err == nil || !strings.Contains(err.Error(), "a rollout is under way") {
		t.Errorf("want to hear of the rollout, have: %v", err)
	}
	c.Cordon(false)
	scale(t, target, 1)
}

// Whatever has the subresource scale can be scaled: a custom resource too, here one that names the pods of a Deployment as its own.
func (c *cluster) custom(t *testing.T) {
	const crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
	c.Must(http.MethodPost, crds, object{"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": object{"name": "pools.example.org"},
		"spec": object{"group": "example.org", "scope": "Namespaced", "names": object{"kind": "Pool", "plural": "pools"}, "versions": []object{{
			"name": "v1", "served": true, "storage": true, "schema": object{"openAPIV3Schema": object{"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
			"subresources": object{"scale": object{"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size", "labelSelectorPath": ".status.selector"}},
		}}}}, nil)
	t.Cleanup(func() { c.Must(http.MethodDelete, crds+"/pools.example.org", nil, nil) })
	const pools = "/apis/example.org/v1/namespaces/default/pools"
	name := c.workload(t, "Deployment")
	pool := object{"apiVersion": "example.org/v1", "kind": "Pool", "metadata": object{"name": "pool"}, "spec": object{"size": 1}, "status": object{"size": 1, "selector": "app=" + name}}
	servers.Eventually(t, "the kind is served", func() error { return c.Call(http.MethodPost, pools, pool, nil) })
	cfg := DefaultConfig()
	cfg.Kind, cfg.APIVersion, cfg.Name, cfg.Kubeconfig = "Pool", "example.org/v1", "pool", c.Kubeconfig
	target, err := New(cfg, clients(t))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- target.Scale(t.Context(), 3, nil) }()
	servers.Eventually(t, "the pool's own controller, which this test is, sees the size", func() error {
		var p struct{ Spec struct{ Size int } }
		if err := c.Call(http.MethodGet, pools+"/pool", nil, &p); err != nil || p.Spec.Size != 3 {
			return fmt.Errorf("%+v, %w", p, err)
		}
		return nil
	})
	c.Must(http.MethodPatch, apps+"deployments/"+name+"/scale", object{"spec": object{"replicas": 3}}, nil)
	if err := <-done; err != nil {
		t.Error(err)
	}
	names(t, target, 3)
}

// What cannot be is said in words that help.
func (c *cluster) absent(t *testing.T) {
	for _, a := range []struct{ kind, version, name, want string }{
		{"Deployment", "apps/v1", "nobody", `deployments.apps "nobody" not found`},
		{"Rollout", "argoproj.io/v1alpha1", "web", "the cluster knows no argoproj.io/v1alpha1: is its definition installed"},
		{"Deploiment", "apps/v1", "web", "apps/v1 has no kind Deploiment"},
		{"ConfigMap", "v1", "web", "ConfigMap of v1 cannot be scaled"},
	} {
		cfg := DefaultConfig()
		cfg.Kind, cfg.APIVersion, cfg.Name, cfg.Kubeconfig = a.kind, a.version, a.name, c.Kubeconfig
		target, err := New(cfg, clients(t))
		if err != nil {
			t.Fatal(err)
		}
		ws, err := target.Workers(t.Context())
		if err == nil || len(ws) > 0 || !strings.Contains(err.Error(), a.want) {
			t.Errorf("%s %s: want %q, have %+v, %v", a.kind, a.name, a.want, ws, err)
		}
	}
}
