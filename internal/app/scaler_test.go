package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	pb "tidemark/internal/act/keda/externalscaler"
	"tidemark/test/servers"
)

// question asks at an address, on a connection of its own, for the metric and the size of a fleet.
func question(t *testing.T, address string, creds credentials.TransportCredentials, fleet string) (spec, size error) {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), ages)
	defer cancel()
	c, ref := pb.NewExternalScalerClient(conn), &pb.ScaledObjectRef{Name: "so", Namespace: "dfr", ScalerMetadata: map[string]string{"fleet": fleet}}
	_, spec = c.GetMetricSpec(ctx, ref)
	_, size = c.GetMetrics(ctx, &pb.GetMetricsRequest{ScaledObjectRef: ref, MetricName: "tidemark-size"})
	return spec, size
}

// Where KEDA asks is as it is configured, through reloads; and while the cluster is away nobody is told a size.
func TestKEDAAsks(t *testing.T) {
	leaks := goleak.IgnoreCurrent()
	w := emptyWorld(t, 2)
	certificate, key, root := servers.Certificate(t, w.dir, 1, time.Now().AddDate(0, 6, 0))
	kubeconfig := w.put("kubeconfig", fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: t, clusters: [{name: t, cluster: {server: "http://%s"}}],
users: [{name: t, user: {}}], contexts: [{name: t, context: {cluster: t, user: t, namespace: dfr}}]}`, servers.FreeAddress(t)))
	followed := fmt.Sprintf(`
  - name: followed
    target: {keda: {kubeconfig: %s, name: odoo}}
    bounds: {min: 2, max: 10}
`, kubeconfig)
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(root)
	clear := insecure.NewCredentials()
	nobody := credentials.NewTLS(&tls.Config{RootCAs: roots})
	somebody := credentials.NewTLS(&tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}})
	one, two := servers.FreeAddress(t), servers.FreeAddress(t)
	secure := fmt.Sprintf("tls: {certificate: %s, key: %s}", certificate, key)
	check := func(what, address string, creds credentials.TransportCredentials, spec bool) {
		t.Helper()
		specErr, sizeErr := question(t, address, creds, "followed")
		if (specErr == nil) != spec {
			t.Errorf("%s: %v", what, specErr)
		}
		if status.Code(sizeErr) != codes.Unavailable || spec && !strings.Contains(sizeErr.Error(), "Kubernetes API server") {
			t.Errorf("%s: a size, or another error: %v", what, sizeErr)
		}
	}
	w.write(fmt.Sprintf("keda: {listen: %q}", one), followed)
	w.start()
	check("in clear", one, clear, true)
	if _, err := question(t, one, clear, "f"); status.Code(err) != codes.NotFound {
		t.Errorf("a fleet of another kind: %v", err)
	}
	reload := func(keda string) {
		t.Helper()
		if err := w.reload("keda: "+keda, followed); err != nil {
			t.Fatal(err)
		}
	}
	reload(fmt.Sprintf("{listen: %q, %s}", one, secure)) // at the same address
	check("by TLS", one, nobody, true)
	check("in clear where TLS is", one, clear, false)
	reload(fmt.Sprintf("{listen: %q, %s, client_ca_file: %s}", one, secure, certificate))
	check("with a certificate", one, somebody, true)
	check("without a certificate", one, nobody, false)
	if err := w.reload(fmt.Sprintf("keda: {listen: %q, %s, client_ca_file: %s}", two, secure, key), followed); err == nil || !strings.Contains(err.Error(), "client_ca_file") {
		t.Errorf("reloaded with what vouches for nobody: %v", err)
	}
	check("as before", one, somebody, true)
	reload(fmt.Sprintf("{listen: %q}", two))
	check("at its new address", two, clear, true)
	check("at its old address", one, clear, false)
	if err := w.reload("", ""); err != nil {
		t.Fatal(err)
	}
	check("no longer configured", two, clear, false)
	w.Stop()
	goleak.VerifyNone(t, leaks)
}
