package test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tidemark/internal/act/kubernetes"
	"tidemark/internal/fleet"
	"tidemark/internal/kubeapi"
	"tidemark/internal/kubeapi/lease"
	"tidemark/test/servers"
)

var leadChanges = flag.Int("lead-changes", 10, "how often the leader by a Lease is killed or cut off; of three real daemons a fifth as often")

type object = map[string]any

// What Tidemark is deployed with, and writes for a cluster, is what a real API server takes; and the role in it is enough, and no more.
func TestKubernetes(t *testing.T) {
	k := servers.StartKube(t)
	k.Must(http.MethodPost, "/api/v1/namespaces", object{"apiVersion": "v1", "kind": "Namespace", "metadata": object{"name": "dfr"}}, nil)
	k.ServeMetrics(t)
	k.Apply(t, "dfr", readFile(t, "../deploy/kubernetes/crd.yaml"), servers.Real)
	servers.Eventually(t, "ScalingPolicies are served", func() error { return k.Call(http.MethodGet, policiesPath, nil, nil) })
	t.Run("manifests", func(t *testing.T) {
		files, err := filepath.Glob("../deploy/kubernetes/*.yaml")
		if err != nil || len(files) < 2 {
			t.Fatal(files, err)
		}
		for _, f := range files {
			k.Apply(t, "dfr", readFile(t, f), servers.DryRun)
		}
	})
	t.Run("chart", func(t *testing.T) {
		values := filepath.Join(t.TempDir(), "values.yaml")
		for _, v := range []string{"{}", `
scales: [{apiGroups: [argoproj.io], resources: [rollouts]}]
secret: tidemark
keda: {port: 8462, tlsSecret: tidemark-tls}
storage: {className: fast}
imagePullSecrets: [{name: registry}]
nodeSelector: {kubernetes.io/os: linux}
tolerations: [{key: dedicated, operator: Exists}]`} {
			write(t, values, v)
			k.Apply(t, "dfr", servers.Chart(t, "../deploy/helm/tidemark", values), servers.DryRun)
		}
	})
	t.Run("exports", func(t *testing.T) {
		for _, example := range []string{"dfr/samoa.yaml", "processes.yaml"} {
			cmd := exec.Command(program("tidemark"), "export", "hpa", "-c", "../examples/"+example)
			cmd.Env = append(os.Environ(), "PGBOUNCER_DSN=postgres://tidemark@127.0.0.1:6432/pgbouncer", "PG_DSN=postgres://tidemark@127.0.0.1/dfr")
			text, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			k.Apply(t, "dfr", text, servers.DryRun)
		}
	})
	t.Run("role", func(t *testing.T) { role(t, k) })
	t.Run("scaling policies", func(t *testing.T) { scalingPolicies(t, k) })
	t.Run("keda", func(t *testing.T) { followed(t, k) })
	t.Run("at once", func(t *testing.T) { // they mostly wait
		t.Run("lease", func(t *testing.T) { t.Parallel(); leads(t, k) })
		t.Run("leader killed", func(t *testing.T) { t.Parallel(); leaderKilled(t, k) })
		t.Run("network cut", func(t *testing.T) { t.Parallel(); apiServerCut(t, k) })
	})
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// oneIdle has one pod of a workload in dfr use next to nothing, and each other so much.
func oneIdle(t *testing.T, k *servers.Kube, name, others string) (idle string) {
	t.Helper()
	k.Measure(t, "dfr", name, func(pod string) string {
		if idle == "" {
			idle = pod
			return "1m"
		}
		return others
	})
	return idle
}

func leaves(t *testing.T, k *servers.Kube, pod string) {
	t.Helper()
	eventually(t, time.Minute, "the idle pod leaves", func() error {
		if k.Call(http.MethodGet, "/api/v1/namespaces/dfr/pods/"+pod, nil, nil) == nil {
			return errors.New("it is there")
		}
		return nil
	})
}

// role runs the daemon as the ServiceAccount that the manifests make, and tries what it must not.
func role(t *testing.T, k *servers.Kube) {
	k.Apply(t, "dfr", readFile(t, "../deploy/kubernetes/role.yaml"), servers.Real)
	deploy(t, k, "odoo")
	kubeconfig := k.WriteKubeconfig(t, k.Token(t, "dfr", "tidemark"), k.Address)
	dir := t.TempDir()
	config := filepath.Join(dir, "tidemark.yaml")
	write(t, config, fmt.Sprintf(`
instance: {name: dfr, time_zone: UTC}
state_dir: %[1]s
tick: 200ms
fleets:
  - name: odoo
    target: {kubernetes: {kubeconfig: %[2]s, namespace: dfr, name: odoo}}
    bounds: {min: 2, max: 4}
    signals:
      cpu:     {kubernetes: {kubeconfig: %[2]s, namespace: dfr, selector: app=odoo}, period: 1s}
      missing: {kubernetes: {kubeconfig: %[2]s, namespace: dfr, selector: app=odoo, field: not_ready}, period: 1s}
    policies:
      - id: cpu
        rules:
          - {signal: cpu, operator: ">=", threshold: 70%%, scale_change: +2, evaluation_periods: 2}
          - {signal: cpu, operator: "<=", threshold: 30%%, scale_change: -1, evaluation_periods: 2}
          - {signal: missing, operator: ">=", threshold: 100, scale_change: +1}
    safeguards: {cooldown: {scale_up: 1s, scale_down: 10s}, step: {up: 2}, max_scaling_rate: 100 per 1s}
`, dir, kubeconfig))
	d := startDaemon(t, config, filepath.Join(dir, "tidemark.sock"))
	size := func(n int) {
		t.Helper()
		eventually(t, time.Minute, fmt.Sprint(n, " pods"), func() error {
			statuses, err := d.client.Status(t.Context())
			if err != nil {
				return err
			}
			st := statuses.Fleets[0]
			if st.Size.Serving != n || st.Action != nil {
				return fmt.Errorf("%+v: %s %s", st.Size, st.TargetErr, st.ActionErr)
			}
			return nil
		})
	}
	size(2) // the minimum
	k.Measure(t, "dfr", "odoo", func(string) string { return "90m" })
	size(4)
	idle := oneIdle(t, k, "odoo", "20m")
	leaves(t, k, idle)
	d.kill()

	// And no more than that.
	clients := &kubeapi.Clients{}
	defer func() { _ = clients.Close() }()
	client, err := clients.Client(kubeapi.Place{Kubeconfig: kubeconfig, Namespace: "dfr"})
	if err != nil {
		t.Fatal(err)
	}
	for _, try := range []struct{ method, path string }{
		{http.MethodDelete, client.PodPath("odoo-0")},
		{http.MethodPut, "/apis/apps/v1/namespaces/dfr/deployments/odoo"},
		{http.MethodGet, "/api/v1/namespaces/dfr/secrets"},
		{http.MethodGet, "/api/v1/namespaces/dfr/configmaps"},
		{http.MethodGet, "/api/v1/namespaces/default/pods"},
		{http.MethodGet, "/api/v1/nodes"},
		{http.MethodPost, "/api/v1/namespaces/dfr/pods"},
	} {
		err := client.Send(t.Context(), try.method, try.path, nil, kubeapi.JSON, object{}, nil)
		if !kubeapi.Refused(err, http.StatusForbidden) || !strings.Contains(err.Error(), "deploy/kubernetes") {
			t.Errorf("%s %s: %v", try.method, try.path, err)
		}
	}
	// A role that lacks something is told by what the server says.
	cfg := kubernetes.DefaultConfig()
	cfg.Kubeconfig, cfg.Namespace, cfg.Name = kubeconfig, "default", "odoo"
	other, err := kubernetes.New(cfg, clients)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Scale(context.Background(), 1, func(context.Context, fleet.Worker) error { return nil }); !kubeapi.Refused(err, http.StatusForbidden) {
		t.Errorf("in another namespace: %v", err)
	}
}

// deploy makes a Deployment without pods, which request 100m of CPU each.
func deploy(t *testing.T, k *servers.Kube, name string) {
	t.Helper()
	labels := object{"app": name}
	k.Must(http.MethodPost, "/apis/apps/v1/namespaces/dfr/deployments", object{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": object{"name": name}, "spec": object{
		"replicas": 0, "selector": object{"matchLabels": labels}, "template": object{"metadata": object{"labels": labels}, "spec": object{"containers": []object{
			{"name": "worker", "image": "worker", "resources": object{"requests": object{"cpu": "100m"}}},
		}}},
	}}, nil)
}

// leads: of three that want one Lease, the leader is killed or cut off from the API server at random. Never do two act at once, and
// there is always one again soon.
func leads(t *testing.T, k *servers.Kube) {
	times := lease.Times{Beat: 100 * time.Millisecond, Validity: time.Second, Patient: 1500 * time.Millisecond}
	began := time.Now()
	uptime := func() time.Duration { return time.Since(began) }
	var acting atomic.Pointer[string]
	var acts, both atomic.Int64
	leader := make(chan *contender)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			for life := 0; ctx.Err() == nil; life++ {
				name := fmt.Sprintf("%d-%d", i, life)
				c := &contender{name: name, relay: servers.NewRelay(t, k.Address), killed: make(chan struct{})}
				clients := &kubeapi.Clients{}
				client, err := clients.Client(kubeapi.Place{Kubeconfig: k.WriteKubeconfig(t, "admin", c.relay.Address), Namespace: "dfr"})
				if err != nil {
					t.Error(err)
					return
				}
				l, err := lease.Lead(ctx, client, lease.Options{Name: "lead", Holder: name, Uptime: uptime, Times: times}, func(string) {})
				if err != nil {
					return // the test is over
				}
				select {
				case leader <- c:
				case <-ctx.Done():
				}
				c.act(ctx, l, &acting, &acts, &both)
				c.relay.Cut() // who is killed does not give up the lead
				_ = l.Close() // and cannot say so
				_ = clients.Close()
			}
		})
	}
	random := rand.New(rand.NewPCG(3, 4))
	longest := time.Duration(0)
	lost := time.Now()
	for change := range *leadChanges {
		c := <-leader
		if change > 0 {
			longest = max(longest, time.Since(lost))
		}
		time.Sleep(time.Duration(random.IntN(250)) * time.Millisecond) // at random is what is tested
		lost = time.Now()
		if random.IntN(2) == 0 {
			close(c.killed)
		} else {
			c.relay.Cut()
		}
	}
	stop()
	wg.Wait()
	t.Logf("%d acts, the lead lost %d times, by death or by a cut; longest without a leader %v (a leader acts until %v after its last renewal, and others wait %v)", acts.Load(), *leadChanges, longest, times.Validity, times.Patient)
	if both.Load() > 0 || acts.Load() < int64(*leadChanges) {
		t.Errorf("%d of %d acts were at the same time as another's", both.Load(), acts.Load())
	}
}

type contender struct {
	name   string
	relay  *servers.Relay
	killed chan struct{}
}

// act acts while it may, and says so in acting.
func (c *contender) act(ctx context.Context, l *lease.Lease, acting *atomic.Pointer[string], acts, both *atomic.Int64) {
	for l.Held() == nil && ctx.Err() == nil {
		if !acting.CompareAndSwap(nil, &c.name) {
			both.Add(1)
		}
		acts.Add(1)
		timer := time.NewTimer(time.Millisecond)
		select {
		case <-c.killed:
			timer.Stop()
			acting.Store(nil)
			return
		case <-timer.C:
		}
		acting.Store(nil)
	}
}
