package test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	decide "tidemark/internal/decide/engine"
	"tidemark/internal/fleet"
	"tidemark/internal/show/web"
	"tidemark/test/servers"
)

const haproxyConfig = `
instance: {name: haproxy, time_zone: UTC}
state_dir: %[1]s/state
tick: 200ms
fleets:
  - name: registry
    target:
      process:
        command: [%[2]q, hold, "127.0.0.1:{port}", 0s, %[1]s]
        ports: {first: %[3]d, last: %[4]d}
        health: {path: /health}
    balancer: {haproxy: {backend: registry, socket: %[5]s, file: %[6]s, max_in_flight: 4}}
    bounds: {min: 2, max: 5}
    signals:
      queued: {haproxy: {}, period: 1s}
      errors: {haproxy: {field: errors}, period: 1s, optional: true}
    policies:
      - id: queue
        rules:
          - {signal: queued, operator: ">=", threshold: 1000, scale_change: +1}
    safeguards: {cooldown: {scale_up: 1s, scale_down: 1s}, max_scaling_rate: 1 per 1s}
`

// The whole way, on real parts: a daemon with workers of its own behind an HAProxy that it sets up. Under load the fleet goes from 2 to
// 5 and back again and again, the daemon is killed and HAProxy reloaded in between, and no request fails.
func TestWorkersBehindHAProxy(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: scales real workers behind a real HAProxy")
	}
	dir := t.TempDir()
	defer endAll(t, dir)
	config, socket := filepath.Join(dir, "tidemark.yaml"), filepath.Join(dir, "state", "tidemark.sock")
	first := servers.FreePorts(t, 10)
	configure := func(runtime, file string) {
		write(t, config, fmt.Sprintf(haproxyConfig, dir, os.Args[0], first, first+9, runtime, file))
	}
	configure("/run/haproxy/admin.sock", "/etc/haproxy/tidemark.cfg")
	snippet, err := exec.Command(program("tidemark"), "haproxy-snippet", "-c", config).Output()
	if err != nil {
		t.Fatal(err)
	}
	h := servers.HAProxy(t, "registry", string(snippet))
	configure(h.Socket, h.File)
	d := startDaemon(t, config, socket)
	url := "http://" + h.Address() + "/?hold=5ms"
	ask := func() error {
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get(url)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		text, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %.200s", resp.Status, text)
		}
		return err
	}
	eventually(t, time.Minute, "workers answer through HAProxy", ask)

	var count atomic.Int64
	var wg sync.WaitGroup
	end := make(chan struct{})
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-end:
					return
				default:
				}
				if err := ask(); err != nil {
					t.Errorf("after %d requests: %v", count.Load(), err)
					return
				}
				count.Add(1)
			}
		})
	}
	stop := sync.OnceFunc(func() { close(end); wg.Wait() })
	defer stop()
	to := func(size int) {
		t.Helper()
		if _, err := d.client.Order(t.Context(), "registry", web.OrderRequest{Kind: decide.Pin, Size: size, By: "test"}); err != nil {
			t.Fatal(err)
		}
		eventually(t, time.Minute, fmt.Sprintf("%d workers serve", size), func() error {
			o, err := d.client.Status(t.Context())
			if err == nil && (o.Fleets[0].Size.Serving != size || o.Fleets[0].Size.Draining+o.Fleets[0].Size.Starting > 0 || o.Fleets[0].Action != nil) {
				err = fmt.Errorf("size %+v", o.Fleets[0].Size)
			}
			return err
		})
	}
	for range 3 {
		to(5)
		d.kill()
		h.Reload()
		d = startDaemon(t, config, socket)
		to(2)
	}
	eventually(t, time.Minute, "HAProxy counts the answers and no error", func() error {
		o, err := d.client.Status(t.Context())
		if err != nil {
			return err
		}
		for _, s := range o.Fleets[0].Signals {
			if s.Name == "errors" && (s.Reading.Quality != fleet.Fresh || s.Reading.Value != 0) {
				err = fmt.Errorf("errors are %+v", s.Reading)
			}
		}
		return err
	})
	stop()
	t.Logf("%d requests over three tides", count.Load())
}
