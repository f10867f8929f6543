package test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	pb "tidemark/internal/act/keda/externalscaler"
	orders "tidemark/internal/decide/engine"
	"tidemark/internal/show/web"
	"tidemark/test/servers"
)

// standIn does what KEDA does between its ScaledObject and a scaler, by its documentation and source; its operator is too large a program to
// build for a test. It makes the HorizontalPodAutoscaler, serves external.metrics.k8s.io to the API server out of the scaler's answers, and
// brings the object up from 0 when it is told that it is active. What sets sizes then is the real HorizontalPodAutoscaler's controller.
type standIn struct {
	t      *testing.T
	k      *servers.Kube
	scaler pb.ExternalScalerClient
	so     scaledObject
	ref    *pb.ScaledObjectRef

	mu     sync.Mutex
	pushed int
}

type scaledObject struct {
	Metadata struct{ Name, UID string }
	Spec     struct {
		Target   struct{ Name string } `json:"scaleTargetRef"`
		Min      int                   `json:"minReplicaCount"`
		Max      int                   `json:"maxReplicaCount"`
		Advanced struct {
			HPA struct{ Behavior json.RawMessage } `json:"horizontalPodAutoscalerConfig"`
		}
		Triggers []struct{ Metadata map[string]string }
	}
}

const (
	scaledObjects = "/apis/keda.sh/v1alpha1/namespaces/dfr/scaledobjects/"
	external      = "/apis/external.metrics.k8s.io/v1beta1"
	kedaPrefix    = "s0-" // of the first trigger's metrics
)

// install makes the kind ScaledObject, applies the manifest that is delivered, with changes, and has the API server ask this program for
// external metrics.
func (s *standIn) install(changes func(manifest string) string) {
	s.t.Helper()
	for _, kind := range []string{"ScaledObject", "TriggerAuthentication"} {
		singular := strings.ToLower(kind)
		s.k.Must(http.MethodPost, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", object{
			"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": object{"name": singular + "s.keda.sh"},
			"spec": object{"group": "keda.sh", "scope": "Namespaced", "names": object{"kind": kind, "singular": singular, "plural": singular + "s"}, "versions": []object{{
				"name": "v1alpha1", "served": true, "storage": true, "schema": object{"openAPIV3Schema": object{"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
			}}},
		}, nil)
	}
	for _, kind := range []string{"scaledobjects", "triggerauthentications"} {
		servers.Eventually(s.t, "keda.sh is served", func() error {
			return s.k.Call(http.MethodGet, "/apis/keda.sh/v1alpha1/namespaces/dfr/"+kind, nil, nil)
		})
	}
	manifest := changes(string(readFile(s.t, "../deploy/kubernetes/keda/scaledobject.yaml")))
	s.k.Apply(s.t, "dfr", []byte(manifest), servers.Real)
	var head struct{ Metadata struct{ Name string } }
	if err := yaml.Unmarshal([]byte(strings.Split(manifest, "\n---")[0]), &head); err != nil {
		s.t.Fatal(err)
	}
	s.k.Must(http.MethodGet, scaledObjects+head.Metadata.Name, nil, &s.so)
	s.ref = &pb.ScaledObjectRef{Name: s.so.Metadata.Name, Namespace: "dfr", ScalerMetadata: s.so.Spec.Triggers[0].Metadata}

	server := httptest.NewTLSServer(s)
	s.t.Cleanup(server.Close)
	port := 0
	if _, err := fmt.Sscanf(server.URL, "https://127.0.0.1:%d", &port); err != nil {
		s.t.Fatal(err)
	}
	s.k.Must(http.MethodPost, "/api/v1/namespaces/dfr/services", object{"apiVersion": "v1", "kind": "Service", "metadata": object{"name": "keda-metrics-apiserver"},
		"spec": object{"type": "ExternalName", "externalName": "localhost"}}, nil)
	s.k.Must(http.MethodPost, "/apis/apiregistration.k8s.io/v1/apiservices", object{"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
		"metadata": object{"name": "v1beta1.external.metrics.k8s.io"}, "spec": object{
			"group": "external.metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100, "insecureSkipTLSVerify": true,
			"service": object{"namespace": "dfr", "name": "keda-metrics-apiserver", "port": port},
		}}, nil)
	servers.Eventually(s.t, "external metrics are served", func() error { return s.k.Call(http.MethodGet, external, nil, nil) })
}

// ServeHTTP is the external metrics API.
func (s *standIn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	path := strings.TrimSuffix(r.URL.Path, "/")
	metric, ok := strings.CutPrefix(path, external+"/namespaces/dfr/")
	var answer any
	switch {
	case path == external:
		answer = object{"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "external.metrics.k8s.io/v1beta1", "resources": []object{}}
	case ok:
		values, err := s.ask(r.Context(), strings.TrimPrefix(metric, kedaPrefix))
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			answer = object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 500, "message": err.Error()}
			break
		}
		answer = object{"kind": "ExternalMetricValueList", "apiVersion": "external.metrics.k8s.io/v1beta1", "metadata": object{}, "items": values}
	default:
		w.WriteHeader(http.StatusNotFound)
		answer = object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404}
	}
	_ = json.NewEncoder(w).Encode(answer) // who asked may be gone
}

// ask asks the scaler as KEDA does: for the metric, and then whether it is active.
func (s *standIn) ask(ctx context.Context, metric string) ([]object, error) {
	got, err := s.scaler.GetMetrics(ctx, &pb.GetMetricsRequest{ScaledObjectRef: s.ref, MetricName: metric})
	if err != nil {
		return nil, err
	}
	active, err := s.scaler.IsActive(ctx, s.ref)
	switch {
	case err != nil:
		return nil, err
	case !active.Result:
		return nil, errors.New("not active: KEDA would scale to 0")
	}
	out := []object{}
	for _, v := range got.MetricValues {
		out = append(out, object{"metricName": kedaPrefix + v.MetricName, "metricLabels": object{}, "timestamp": time.Now().UTC().Format(time.RFC3339), "value": fmt.Sprintf("%dm", int64(1000*v.MetricValueFloat))})
	}
	return out, nil
}

// reconcile makes the HorizontalPodAutoscaler, as KEDA does of a ScaledObject.
func (s *standIn) reconcile() {
	s.t.Helper()
	spec, err := s.scaler.GetMetricSpec(s.t.Context(), s.ref, grpc.WaitForReady(true)) // KEDA tries again
	if err != nil {
		s.t.Fatal(err)
	}
	metrics := []object{}
	for _, m := range spec.MetricSpecs {
		metrics = append(metrics, object{"type": "External", "external": object{
			"metric": object{"name": kedaPrefix + m.MetricName, "selector": object{"matchLabels": object{"scaledobject.keda.sh/name": s.so.Metadata.Name}}},
			"target": object{"type": "AverageValue", "averageValue": fmt.Sprintf("%dm", int64(1000*m.TargetSizeFloat))},
		}})
	}
	s.k.Must(http.MethodPost, "/apis/autoscaling/v2/namespaces/dfr/horizontalpodautoscalers", object{
		"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
		"metadata": object{"name": "keda-hpa-" + s.so.Metadata.Name, "ownerReferences": []object{
			{"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": s.so.Metadata.Name, "uid": s.so.Metadata.UID, "controller": true, "blockOwnerDeletion": true}}},
		"spec": object{"minReplicas": s.so.Spec.Min, "maxReplicas": s.so.Spec.Max, "behavior": s.so.Spec.Advanced.HPA.Behavior, "metrics": metrics,
			"scaleTargetRef": object{"apiVersion": "apps/v1", "kind": "Deployment", "name": s.so.Spec.Target.Name}},
	}, nil)
}

// watch takes what is pushed, and brings the object up from 0.
func (s *standIn) watch(ctx context.Context) {
	for ctx.Err() == nil {
		stream, err := s.scaler.StreamIsActive(ctx, s.ref)
		for err == nil {
			var active *pb.IsActiveResponse
			if active, err = stream.Recv(); err != nil {
				break
			}
			if !active.Result {
				s.t.Error("it is pushed that the fleet is not active")
			}
			s.mu.Lock()
			s.pushed++
			s.mu.Unlock()
			if s.replicas() == 0 {
				s.k.Must(http.MethodPatch, s.path()+"/scale", object{"spec": object{"replicas": max(s.so.Spec.Min, 1)}}, nil)
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond): // KEDA waits for 2 s and longer
		}
	}
}

func (s *standIn) path() string {
	return "/apis/apps/v1/namespaces/dfr/deployments/" + s.so.Spec.Target.Name
}

func (s *standIn) replicas() int {
	var d struct{ Spec struct{ Replicas int } }
	s.k.Must(http.MethodGet, s.path(), nil, &d)
	return d.Spec.Replicas
}

// says is what the HorizontalPodAutoscaler says of itself.
func (s *standIn) says() string {
	var hpa struct {
		Status struct {
			Conditions []struct{ Type, Status, Message string }
		}
	}
	s.k.Must(http.MethodGet, "/apis/autoscaling/v2/namespaces/dfr/horizontalpodautoscalers/keda-hpa-"+s.so.Metadata.Name, nil, &hpa)
	return fmt.Sprint(hpa.Status.Conditions)
}

// followed: a real HorizontalPodAutoscaler follows the daemon's decisions, up and down, by pull and by push, and holds while it says nothing.
func followed(t *testing.T, k *servers.Kube) {
	k.Apply(t, "dfr", readFile(t, "../deploy/kubernetes/role.yaml"), servers.Real)
	deploy(t, k, "followed")
	dir := t.TempDir()
	certificate, key, root := servers.Certificate(t, dir, 1, time.Now().AddDate(0, 6, 0))
	address := servers.FreeAddress(t)
	kubeconfig := k.WriteKubeconfig(t, k.Token(t, "dfr", "tidemark"), k.Address)
	config := filepath.Join(dir, "tidemark.yaml")
	write(t, config, fmt.Sprintf(`
instance: {name: dfr, time_zone: UTC}
state_dir: %[1]s
tick: 200ms
keda: {listen: %[2]q, tls: {certificate: %[3]s, key: %[4]s}, client_ca_file: %[3]s}
fleets:
  - name: followed
    target: {keda: {kubeconfig: %[5]s, namespace: dfr, name: followed}}
    bounds: {min: 2, max: 14}
    signals:
      cpu: {kubernetes: {kubeconfig: %[5]s, namespace: dfr, selector: app=followed}, period: 1s}
    policies:
      - id: cpu
        rules:
          - {signal: cpu, operator: ">=", threshold: 70%%, scale_change: +2, evaluation_periods: 2}
          - {signal: cpu, operator: "<=", threshold: 30%%, scale_change: -1, evaluation_periods: 2}
    safeguards: {cooldown: {scale_up: 1s, scale_down: 1h}, step: {up: 2}, max_scaling_rate: 100 per 1s}
`, dir, address, certificate, key, kubeconfig))
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(root)
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}})))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	s := &standIn{t: t, k: k, scaler: pb.NewExternalScalerClient(conn)}
	s.install(func(manifest string) string {
		return strings.NewReplacer("name: odoo", "name: followed", "fleet: odoo", "fleet: followed", "maxReplicaCount: 6", "maxReplicaCount: 14").Replace(manifest)
	})
	socket := filepath.Join(dir, "tidemark.sock")
	d := startDaemon(t, config, socket)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { s.watch(ctx) })
	within := func(least, most int) {
		t.Helper()
		eventually(t, time.Minute, fmt.Sprintf("%d to %d pods", least, most), func() error {
			statuses, err := d.client.Status(t.Context())
			if err != nil {
				return err
			}
			st := statuses.Fleets[0]
			if n := st.Size.Serving; n < least || n > most || least == most && (st.Action != nil || s.replicas() != n) {
				return fmt.Errorf("%+v: %s %s; %s", st.Size, st.TargetErr, st.ActionErr, s.says())
			}
			return nil
		})
	}
	size := func(n int) { t.Helper(); within(n, n) }
	eventually(t, time.Minute, "the daemon says that nobody follows", func() error {
		statuses, err := d.client.Status(t.Context())
		if err == nil && !strings.Contains(statuses.Fleets[0].ActionErr, "apply a ScaledObject") {
			err = errors.New(statuses.Fleets[0].ActionErr)
		}
		return err
	})
	s.reconcile()
	size(2) // from 0, by push
	k.Measure(t, "dfr", "followed", func(string) string { return "90m" })
	within(4, 14) // the policy's decisions
	order := func(n int) {
		t.Helper()
		if _, err := d.client.Order(t.Context(), "followed", web.OrderRequest{Kind: orders.Pin, Size: n, By: "test"}); err != nil {
			t.Fatal(err)
		}
		size(n)
	}
	k.Measure(t, "dfr", "followed", func(string) string { return "50m" })
	order(13)
	order(14) // 8 % more: within the usual tolerance
	order(13)
	idle := oneIdle(t, k, "followed", "50m")
	order(12)
	leaves(t, k, idle)

	// Nothing is said: everything stays.
	d.kill()
	eventually(t, time.Minute, "the HorizontalPodAutoscaler has nothing to go by", func() error {
		if text := s.says(); !strings.Contains(text, "unable to get external metric") {
			return errors.New(text)
		}
		return nil
	})
	if n := s.replicas(); n != 12 {
		t.Errorf("%d pods when the daemon was gone", n)
	}
	d = startDaemon(t, config, socket)
	eventually(t, time.Minute, "the HorizontalPodAutoscaler is told again", func() error {
		if text := s.says(); strings.Contains(text, "unable to get external metric") {
			return errors.New(text)
		}
		return nil
	})
	size(12)
	order(2)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pushed < 6 {
		t.Errorf("pushed %d times", s.pushed)
	}
}
