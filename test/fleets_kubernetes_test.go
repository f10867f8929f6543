package test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tidemark/test/servers"
)

var (
	kubeFleets = flag.Int("kube-fleets", 1000, "of BenchmarkFleetsOnKubernetes: Deployments of one pod each, a fleet of each")
	kubeFor    = flag.Duration("kube-for", time.Minute, "how long it measures")
	kubeWarm   = flag.Duration("kube-warm", 45*time.Second, "what it leaves out at the start of a daemon, or of HPAs")
)

// fleetOfCluster is one fleet of BenchmarkFleetsOnKubernetes.
const fleetOfCluster = `
  - name: %[1]s
    target: {kubernetes: {kubeconfig: %[2]s, namespace: dfr, name: %[1]s}}
    bounds: {min: 1, max: 5}
    signals:
      cpu:       {kubernetes: {kubeconfig: %[2]s, namespace: dfr, selector: app=%[1]s, max_age: 1h}}
      not_ready: {kubernetes: {kubeconfig: %[2]s, namespace: dfr, selector: app=%[1]s, field: not_ready}}
    policies:
      - id: load
        rules:
          - {signal: cpu, operator: ">=", threshold: 70%%, scale_change: +1, evaluation_periods: 3, datapoints_to_alarm: 2}
          - {signal: cpu, operator: "<=", threshold: 30%%, scale_change: -1, evaluation_periods: 5, datapoints_to_alarm: 4}
`

// BenchmarkFleetsOnKubernetes has one daemon keep many Deployments of a real control plane, and then its HPA controller the same ones. Of each it says
// what the API server was asked, by its own count, how long another client's requests took meanwhile, and what the daemon, or the controllers,
// took of the machine. All clients are ServiceAccounts of one priority. Nothing scales: it is the cost of looking.
func BenchmarkFleetsOnKubernetes(b *testing.B) {
	if testing.Short() {
		b.Skip("slow: makes as many Deployments")
	}
	k := servers.StartKube(b)
	k.Must(http.MethodPost, "/api/v1/namespaces", object{"apiVersion": "v1", "kind": "Namespace", "metadata": object{"name": "dfr"}}, nil)
	k.ServeMetrics(b)
	k.Apply(b, "dfr", readFile(b, "../deploy/kubernetes/role.yaml"), servers.Real)
	k.Must(http.MethodPost, "/api/v1/namespaces/dfr/serviceaccounts", object{"metadata": object{"name": "other"}}, nil)
	k.Must(http.MethodPost, "/apis/rbac.authorization.k8s.io/v1/namespaces/dfr/rolebindings", object{
		"metadata": object{"name": "other"}, "roleRef": object{"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "tidemark"}, "subjects": []object{{"kind": "ServiceAccount", "name": "other"}}}, nil)
	c := &crowd{B: b, k: k, other: newOther(b, k)}
	c.make()
	for range b.N {
		c.measure("nobody", 0)

		dir := b.TempDir()
		config := filepath.Join(dir, "tidemark.yaml")
		kubeconfig := k.WriteKubeconfig(b, k.Token(b, "dfr", "tidemark"), k.Address)
		var text bytes.Buffer
		fmt.Fprintf(&text, "instance: {name: crowd, time_zone: UTC}\nstate_dir: %s\nfleets:", dir)
		for _, name := range c.names {
			fmt.Fprintf(&text, fleetOfCluster, name, kubeconfig)
		}
		write(b, config, text.String())
		d := startDaemon(b, config, filepath.Join(dir, "tidemark.sock"))
		time.Sleep(*kubeWarm)
		c.daemon = d
		c.measure("tidemark", d.cmd.Process.Pid)
		c.daemon = nil
		d.kill()

		c.each(func(name string) error {
			return k.Call(http.MethodPost, "/apis/autoscaling/v2/namespaces/dfr/horizontalpodautoscalers", object{"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": object{"name": name},
				"spec": object{"scaleTargetRef": object{"apiVersion": "apps/v1", "kind": "Deployment", "name": name}, "minReplicas": 1, "maxReplicas": 5,
					"metrics": []object{{"type": "Resource", "resource": object{"name": "cpu", "target": object{"type": "Utilization", "averageUtilization": 50}}}}}}, nil)
		})
		time.Sleep(*kubeWarm)
		c.measure("hpa", k.Manager.PID())
		k.Must(http.MethodDelete, "/apis/autoscaling/v2/namespaces/dfr/horizontalpodautoscalers", nil, nil)
	}
}

// crowd is many Deployments.
type crowd struct {
	*testing.B
	k      *servers.Kube
	names  []string
	other  *other
	daemon *daemon // that is measured; nil for anything else
	quiet  map[string]float64
}

// each does something for all, a few at a time.
func (c *crowd) each(do func(name string) error) {
	c.Helper()
	names := make(chan string)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failed error
	for range 8 {
		wg.Go(func() {
			for name := range names {
				if err := do(name); err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
				}
			}
		})
	}
	for _, name := range c.names {
		names <- name
	}
	close(names)
	wg.Wait()
	if failed != nil {
		c.Fatal(failed)
	}
}

// make makes the Deployments and says what their pods use, once all are ready.
func (c *crowd) make() {
	began := time.Now()
	for i := range *kubeFleets {
		c.names = append(c.names, fmt.Sprintf("fleet-%04d", i))
	}
	c.each(func(name string) error {
		labels := object{"app": name}
		return c.k.Call(http.MethodPost, "/apis/apps/v1/namespaces/dfr/deployments", object{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": object{"name": name}, "spec": object{
			"replicas": 1, "selector": object{"matchLabels": labels}, "template": object{"metadata": object{"labels": labels}, "spec": object{"containers": []object{
				{"name": "worker", "image": "worker", "resources": object{"requests": object{"cpu": "100m"}}},
			}}},
		}}, nil)
	})
	type pod struct {
		Metadata struct {
			Name   string
			Labels map[string]string
		}
		Status struct {
			Conditions []struct{ Type, Status string }
		}
	}
	var pods struct{ Items []pod }
	eventually(c.B, 10*time.Minute, "all pods are ready", func() error {
		time.Sleep(time.Second)
		if err := c.k.Call(http.MethodGet, "/api/v1/namespaces/dfr/pods", nil, &pods); err != nil {
			return err
		}
		ready := 0
		for _, p := range pods.Items {
			for _, is := range p.Status.Conditions {
				if is.Type == "Ready" && is.Status == "True" {
					ready++
				}
			}
		}
		if ready < len(c.names) {
			return fmt.Errorf("%d are", ready)
		}
		return nil
	})
	of := map[string]string{}
	for _, p := range pods.Items {
		of[p.Metadata.Labels["app"]] = p.Metadata.Name
	}
	c.each(func(name string) error {
		return c.k.Call(http.MethodPost, "/apis/metrics.k8s.io/v1beta1/namespaces/dfr/pods", object{
			"apiVersion": "metrics.k8s.io/v1beta1", "kind": "PodMetrics", "metadata": object{"name": of[name], "labels": object{"app": name}},
			// the HPA takes a measurement whose window began when the pod was ready
			"timestamp": time.Now().Add(time.Minute).UTC().Format(time.RFC3339), "window": "15s", "containers": []object{{"name": "worker", "usage": object{"cpu": "50m", "memory": "64Mi"}}},
		}, nil)
	})
	c.Logf("%d Deployments of one pod are ready after %v", len(c.names), time.Since(began).Round(time.Second))
}

// measure says what happens in a while, and what a process takes.
func (c *crowd) measure(who string, pid int) {
	before, server := c.requests(), cpuOf(c, c.k.APIServer.PID())
	var own time.Duration
	if pid != 0 {
		own = cpuOf(c, pid)
	}
	ctx, cancel := context.WithTimeout(c.Context(), *kubeFor)
	defer cancel()
	began := time.Now()
	ticks := make(chan []time.Duration, 1)
	go func() { ticks <- c.ticks(ctx) }()
	latency, refused := c.other.ask(ctx)
	took := <-ticks
	span := time.Since(began).Seconds()
	rates := map[string]float64{}
	for verb, n := range c.requests() {
		rates[verb] = (n - before[verb]) / span
	}
	report := func(what string, v float64) { c.ReportMetric(v, who+"_"+what) }
	slices.Sort(latency)
	at := func(q float64, of []time.Duration) float64 { return of[int(q*float64(len(of)-1))].Seconds() * 1000 }
	report("other_p50_ms", at(0.5, latency))
	report("other_p99_ms", at(0.99, latency))
	report("other_429s", float64(refused))
	report("apiserver_cores", (cpuOf(c, c.k.APIServer.PID())-server).Seconds()/span)
	if pid == 0 {
		c.quiet = rates
		return
	}
	var verbs []string
	sum := 0.0
	for _, verb := range slices.Sorted(maps.Keys(rates)) {
		if r := rates[verb] - c.quiet[verb]; verb != "429" && r >= 0.05 {
			verbs = append(verbs, fmt.Sprintf("%s %.1f", verb, r))
			sum += r
		}
	}
	report("requests/s", sum)
	report("429s/s", rates["429"])
	report("cores", (cpuOf(c, pid)-own).Seconds()/span)
	report("MiB", float64(memoryOf(c, pid))/(1<<20))
	if len(took) > 0 {
		slices.Sort(took)
		report("tick_p99_ms", at(0.99, took))
		report("ticks", float64(len(took)))
	}
	load, _ := os.ReadFile("/proc/loadavg")
	c.Logf("%s: requests/s more than by nobody: %s; load %s", who, strings.Join(verbs, ", "), bytes.TrimSpace(load))
}

// ticks are those of the daemon's fleets, each once.
func (c *crowd) ticks(ctx context.Context) (took []time.Duration) {
	if c.daemon == nil {
		return nil
	}
	seen := map[string]time.Time{}
	unwell := 0
	for ticker := time.NewTicker(10 * time.Second); ; {
		statuses, err := c.daemon.client.Status(ctx)
		if err != nil && ctx.Err() == nil {
			c.Error(err)
		}
		if err == nil {
			unwell = 0
			for _, f := range statuses.Fleets {
				if f.Time.After(seen[f.Fleet]) && f.Time.After(time.Time{}) {
					seen[f.Fleet] = f.Time
					took = append(took, time.Duration(f.Took))
				}
				if f.TargetErr != "" || f.Signals[0].Err != "" || f.Signals[1].Err != "" || f.Size.Serving != 1 {
					if unwell++; unwell == 1 {
						c.Logf("%s: %q, %+v", f.Fleet, f.TargetErr, f.Signals)
					}
				}
			}
		}
		select {
		case <-ctx.Done():
			if unwell > 0 {
				c.Errorf("%d fleets are not well", unwell)
			}
			return took
		case <-ticker.C:
		}
	}
}

var counted = regexp.MustCompile(`(?m)^apiserver_request_total\{(.*)\} (\S+)$`)

// requests are what the API server has been asked, by verb, and "429": those it was too busy for.
func (c *crowd) requests() map[string]float64 {
	text := c.other.get("/metrics", "admin")
	sum := map[string]float64{}
	for _, m := range counted.FindAllSubmatch(text, -1) {
		n, err := strconv.ParseFloat(string(m[2]), 64)
		if err != nil {
			c.Fatal(err)
		}
		label := func(name string) string {
			_, rest, _ := strings.Cut(string(m[1]), name+`="`)
			value, _, _ := strings.Cut(rest, `"`)
			return value
		}
		sum[label("verb")] += n
		if label("code") == "429" {
			sum["429"] += n
		}
	}
	return sum
}

// other is another client of the API server, which asks for ten pods 20 times a second.
type other struct {
	testing.TB
	k      *servers.Kube
	token  string
	client *http.Client
}

func newOther(t testing.TB, k *servers.Kube) *other {
	return &other{t, k, k.Token(t, "dfr", "other"), &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}}
}

func (o *other) get(path, token string) []byte {
	o.Helper()
	req, err := http.NewRequest(http.MethodGet, "https://"+o.k.Address+path, nil)
	if err != nil {
		o.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+cmp.Or(token, o.token))
	resp, err := o.client.Do(req)
	if err != nil {
		o.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusTooManyRequests {
		o.Fatalf("%s: %s, %v: %s", path, resp.Status, err, text)
	}
	if resp.StatusCode == http.StatusTooManyRequests {
		return nil
	}
	return text
}

// ask asks until ctx ends, from scheduled moments on: who has to wait for an answer counts from there.
func (o *other) ask(ctx context.Context) (latency []time.Duration, refused int) {
	o.Helper()
	const every = 50 * time.Millisecond
	for due := time.Now(); ctx.Err() == nil; due = due.Add(every) {
		time.Sleep(time.Until(due))
		if o.get("/api/v1/namespaces/dfr/pods?limit=10", "") == nil {
			refused++
		}
		latency = append(latency, time.Since(due))
	}
	return latency, refused
}

// cpuOf is the CPU time that a process has taken.
func cpuOf(t testing.TB, pid int) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	var sum time.Duration
	for _, f := range fields[11:13] {
		n, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		sum += time.Duration(n) * 10 * time.Millisecond
	}
	return sum
}

// memoryOf is the most that a process has had resident, in bytes.
func memoryOf(t testing.TB, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	kib, err := strconv.Atoi(strings.Fields(rest + " -")[0])
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}
