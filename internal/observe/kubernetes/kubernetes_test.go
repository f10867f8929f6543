package kubernetes

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/kubeapi"
	"tidemark/internal/observe/observetest"
	"tidemark/test/servers"
)

type object = map[string]any

const deployments = "/apis/apps/v1/namespaces/default/deployments"

// deploy makes a Deployment whose pods request 500m of CPU and 128Mi, and waits until n are ready.
func deploy(t *testing.T, k *servers.Kube, name string, n int) {
	t.Helper()
	labels := object{"app": name}
	k.Must(http.MethodPost, deployments, object{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": object{"name": name}, "spec": object{
		"replicas": n, "selector": object{"matchLabels": labels}, "template": object{"metadata": object{"labels": labels}, "spec": object{"containers": []object{
			{"name": "worker", "image": "worker", "resources": object{"requests": object{"cpu": "500m", "memory": "128Mi"}}},
		}}},
	}}, nil)
	servers.Eventually(t, fmt.Sprint(n, " pods are ready"), func() error {
		var d struct{ Status struct{ ReadyReplicas int } }
		if err := k.Call(http.MethodGet, deployments+"/"+name, nil, &d); err != nil || d.Status.ReadyReplicas != n {
			return fmt.Errorf("%+v, %w", d, err)
		}
		return nil
	})
}

// sources makes them over a cluster, a Pods for each test.
func sources(t *testing.T, kubeconfig, selector string) func(field string) *Source {
	clients := &kubeapi.Clients{}
	t.Cleanup(func() { _ = clients.Close() })
	all := &Pods{Clients: clients, every: 1} // what was measured is always asked for
	return func(field string) *Source {
		cfg := DefaultConfig()
		cfg.Kubeconfig, cfg.Namespace, cfg.Selector, cfg.Field = kubeconfig, "default", selector, field
		if err := cfg.Validate(); err != nil {
			t.Fatal(err)
		}
		s, err := all.Source(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

var (
	tick  atomic.Int64
	began = time.Now()
)

// read is one tick.
func read(t *testing.T, s *Source) (fleet.Reading, error) {
	return s.Read(t.Context(), fleet.Scene{Now: time.Unix(1_800_000_000+15*tick.Add(1), 0)})
}

func TestOnACluster(t *testing.T) {
	k := servers.StartKube(t)
	deploy(t, k, "web", 3)
	source := sources(t, k.Kubeconfig, "app=web")
	cpu := source(CPU)
	if r, err := read(t, cpu); err == nil || !strings.Contains(err.Error(), "install metrics-server") {
		t.Errorf("without metrics.k8s.io: %+v, %v", r, err)
	}
	k.ServeMetrics(t)
	if r, err := read(t, cpu); err != nil || r.Quality != fleet.Sparse {
		t.Errorf("when none was measured yet: %+v, %v", r, err)
	}
	used := []string{"100m", "400m", "250m"}
	i := 0
	k.Measure(t, "default", "web", func(string) string { i++; return used[i-1] })
	for field, want := range map[string]float64{CPU: 50, CPUCores: 0.25, Memory: 50, MemoryBytes: 64 << 20, Ready: 3, NotReady: 0, Unscheduled: 0} {
		if r, err := read(t, source(field)); err != nil || r.Quality != fleet.Fresh || math.Abs(r.Value-want) > 1e-9 {
			t.Errorf("%s: want %v, have %+v, %v", field, want, r, err)
		}
	}
	if r, err := read(t, source(CPULimit)); err == nil || !strings.Contains(err.Error(), "has no limit of cpu") {
		t.Errorf("pods have no limit: %+v, %v", r, err)
	}
	t.Run("stale", func(t *testing.T) {
		later := sources(t, k.Kubeconfig, "app=web")(CPU)
		now := time.Now()
		later.now = func() time.Time { return now }
		if r, err := read(t, later); err != nil || r.Quality != fleet.Fresh {
			t.Errorf("%+v, %v", r, err)
		}
		now = now.Add(3 * time.Minute)
		if r, err := read(t, later); err != nil || r.Quality != fleet.Stale {
			t.Errorf("nothing new in 3 minutes: %+v, %v", r, err)
		}
	})
	t.Run("one is not measured", func(t *testing.T) {
		i := 0
		k.Measure(t, "default", "web", func(string) string { i++; return []string{"", "100m", "400m"}[i-1] })
		s := sources(t, k.Kubeconfig, "app=web")(CPU)
		if r, err := read(t, s); err != nil || r.Value != 50 {
			t.Errorf("of those that were measured: %+v, %v", r, err)
		}
		s.now = func() time.Time { return time.Now().Add(settling + time.Minute) }
		if r, err := read(t, s); err == nil || !strings.Contains(err.Error(), "was not measured") {
			t.Errorf("it is ready for long: %+v, %v", r, err)
		}
	})
	t.Run("restarts", func(t *testing.T) {
		s := source(Restarts)
		want := []fleet.Reading{{Quality: fleet.Sparse}, {Quality: fleet.Fresh}, {Quality: fleet.Fresh, Value: 2}, {Quality: fleet.Fresh}}
		for i, w := range want {
			if i == 2 {
				restart(t, k, 2)
				servers.Eventually(t, "the watch tells of it", func() error {
					list, err := s.client.Pods(t.Context(), "app=web")
					if !slices.ContainsFunc(list.Pods, func(p kubeapi.Pod) bool { return p.Restarts() == 2 }) {
						return fmt.Errorf("%+v, %w", list.Pods, err)
					}
					return nil
				})
			}
			if r, err := read(t, s); err != nil || r.Quality != w.Quality || r.Value != w.Value {
				t.Errorf("read %d: want %+v, have %+v, %v", i, w, r, err)
			}
		}
	})
	t.Run("no node has room", func(t *testing.T) {
		k.Cordon(true)
		defer k.Cordon(false)
		k.Must(http.MethodPatch, deployments+"/web/scale", object{"spec": object{"replicas": 5}}, nil)
		servers.Eventually(t, "two pods find no node", func() error {
			r, err := read(t, source(Unscheduled))
			if r.Value != 2 {
				return fmt.Errorf("%+v, %w", r, err)
			}
			return nil
		})
		if r, err := read(t, source(NotReady)); err != nil || r.Value != 2 {
			t.Errorf("%+v, %v", r, err)
		}
	})
	t.Run("nobody has these labels", func(t *testing.T) {
		if r, err := read(t, sources(t, k.Kubeconfig, "app=nobody")(Ready)); err == nil {
			t.Errorf("%+v", r)
		}
	})
	t.Run("conformance", func(t *testing.T) { conform(t, k) })
}

// restart has the container of one pod of web have been started n times more.
func restart(t *testing.T, k *servers.Kube, n int) {
	t.Helper()
	var pods struct {
		Items []struct{ Metadata struct{ Name string } }
	}
	k.Must(http.MethodGet, "/api/v1/namespaces/default/pods?labelSelector=app%3Dweb", nil, &pods)
	k.Must(http.MethodPatch, "/api/v1/namespaces/default/pods/"+pods.Items[0].Metadata.Name+"/status", object{"status": object{"containerStatuses": []object{
		{"name": "worker", "image": "worker", "imageID": "", "ready": true, "started": true, "restartCount": n, "state": object{"running": object{"startedAt": time.Now().UTC().Format(time.RFC3339)}}},
	}}}, nil)
}

// conform runs the suite of all sources, each by way of a relay that can be cut or held.
func conform(t *testing.T, k *servers.Kube) {
	deploy(t, k, "steady", 2)
	k.Measure(t, "default", "steady", func(string) string { return "200m" })
	observetest.Conform(t, func(t *testing.T) observetest.Subject {
		r := servers.NewRelay(t, k.Address)
		var ahead atomic.Int64 // of the clock
		clients := &kubeapi.Clients{Uptime: func() time.Duration { return time.Since(began) + time.Duration(ahead.Load()) }}
		cfg := DefaultConfig()
		cfg.Kubeconfig, cfg.Namespace, cfg.Selector = k.WriteKubeconfig(t, "admin", r.Address), "default", "app=steady"
		s, err := (&Pods{Clients: clients}).Source(cfg)
		if err != nil {
			t.Fatal(err)
		}
		notices := func(t *testing.T, away bool) {
			servers.Eventually(t, fmt.Sprint("the watch notices that the API server is away: ", away), func() error {
				if _, err := s.client.Pods(t.Context(), cfg.Selector); (err != nil) != away {
					return fmt.Errorf("pods: %w", err)
				}
				return nil
			})
		}
		return observetest.Subject{
			Source: s,
			Break:  func(t *testing.T) { r.Cut(); notices(t, true) },
			Mend:   func(t *testing.T) { r.Mend(); notices(t, false); ahead.Add(int64(3 * every)) },
			Hang: func(*testing.T) func() {
				release := r.Hold()
				ahead.Add(int64(time.Minute)) // which is longer than a watch may be silent
				return func() { ahead.Add(-int64(time.Minute)); release() }
			},
			Plausible: func(v float64) bool { return v == 40 },
			Close:     func() { _ = clients.Close(); r.Close() },
		}
	})
}

func TestValidate(t *testing.T) {
	for _, c := range []struct{ field, selector, namespace, want string }{
		{CPU, "app=web", "", ""},
		{"cpus", "app=web", "", `field: "cpus" is not known`},
		{CPU, "", "", "selector: is missing"},
		{CPU, "app web", "", "selector: "},
		{CPU, "app=web", "Web", `namespace: "Web" is not the name of a namespace`},
	} {
		cfg := DefaultConfig()
		cfg.Field, cfg.Selector, cfg.Namespace = c.field, c.selector, c.namespace
		err := cfg.Validate()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
