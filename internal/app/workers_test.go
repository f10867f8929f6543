package app

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"tidemark/internal/act/proxy"
	"tidemark/internal/config"
	"tidemark/internal/control"
	"tidemark/internal/fleet"
)

// A worker's requests are those that the proxy gave to this life of it, by the name that the proxy was told.
func TestWorkersRequests(t *testing.T) {
	cfg := &config.Config{StateDir: t.TempDir(), Fleets: []config.Fleet{{Name: "f", Balancer: config.Adapter{Kind: "proxy"}}}}
	here := fleet.Worker{ID: "slot-1", PID: os.Getpid(), Phase: fleet.Serving}
	elsewhere := fleet.Worker{ID: "10.0.0.7:8069", Phase: fleet.Serving}
	l, err := net.Listen("unix", proxySocket(cfg, "f"))
	if err != nil {
		t.Fatal(err)
	}
	said := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(proxy.Stats{Workers: []proxy.WorkerStats{{ID: here.Instance(), Requests: 7, InFlight: 2}, {ID: "slot-1.1", Requests: 99}, {ID: elsewhere.Instance(), Requests: 5}}})
	}))
	said.Listener = l
	said.Start()
	defer said.Close()
	got := (&App{cfg: cfg}).Workers(t.Context(), &control.Status{Fleet: "f", Workers: []fleet.Worker{here, elsewhere}})
	for i, want := range []uint64{7, 5} {
		if got[i].Requests == nil || *got[i].Requests != want {
			t.Errorf("%s: requests %v, want %d", got[i].ID, got[i].Requests, want)
		}
	}
	if got[0].InFlight == nil || *got[0].InFlight != 2 || got[0].Memory == nil || got[1].Memory != nil {
		t.Errorf("%+v", got)
	}
}
