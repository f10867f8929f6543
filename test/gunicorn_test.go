package test

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/observe/accesslog"
	"tidemark/internal/prove/journey"
	"tidemark/internal/prove/outcome"
	"tidemark/internal/prove/rehearsal"
	"tidemark/internal/prove/scenario"
	"tidemark/internal/record"
	"tidemark/test/servers"
)

const gunicornApp = `
import time
def application(environ, start_response):
    time.sleep(0.05)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok\n"]
`

const nginxConf = `
daemon off;
pid %[1]s/nginx.pid;
error_log %[1]s/error.log;
events {}
http {
  %[4]s
  access_log %[1]s/access.log tidemark;
  client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
  server { listen 127.0.0.1:%[2]d; location / { proxy_pass http://127.0.0.1:%[3]d; } }
}
`

const gunicornConfig = `
instance: {name: portal, time_zone: Pacific/Apia}
state_dir: %[1]s/state
tick: 250ms
fleets:
  - name: gunicorn-workers
    target: {prefork: {flavour: gunicorn, pid_file: %[1]s/gunicorn.pid}}
    bounds: {min: 2, max: 6}
    signals:
      p95:  {access_log: {path: %[1]s/access.log}, statistic: p95, period: 1s, window: 2s, min_samples: 20}
      rate: {access_log: {path: %[1]s/access.log, field: rate}, period: 1s, window: 2s}
    policies:
      - id: latency
        rules:
          - {signal: p95, operator: ">=", threshold: 120ms, scale_change: +1, evaluation_periods: 2}
      - id: quiet
        rules:
          - {signal: rate, operator: "<=", threshold: 15, scale_change: -1, evaluation_periods: 2}
    safeguards:
      cooldown: {scale_up: 2s, scale_down: 2s}
      max_scaling_rate: 1 per 2s
`

const gunicornLoad = `
name: tide
duration: 34s
journeys: [{name: look up, steps: [{name: look up, path: /api/farmer/lookup}]}]
load: [{journey: look up, connection: kept, rate: [{at: 2s, rate: 10}, {at: 6s, rate: 55}, {at: 20s, rate: 55}, {at: 21s, rate: 5}]}]
`

// The README's promise, on real parts: a gunicorn master behind nginx, its access log as the signal. The fleet follows a tide
// up and down, and no request fails.
func TestGunicornBehindNginx(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: plays a tide of half a minute")
	}
	gunicorn, nginx := needs(t, "gunicorn"), needs(t, "nginx")
	dir := t.TempDir()
	back, front := servers.FreePort(t), servers.FreePort(t)
	write(t, filepath.Join(dir, "app.py"), gunicornApp)
	write(t, filepath.Join(dir, "nginx.conf"), fmt.Sprintf(nginxConf, dir, front, back, accesslog.Directive()))
	write(t, filepath.Join(dir, "access.log"), "")
	serve(t, dir, gunicorn, "--workers", "2", "--backlog", "512", "--bind", fmt.Sprintf("127.0.0.1:%d", back), "--pid", filepath.Join(dir, "gunicorn.pid"), "app:application")
	serve(t, dir, nginx, "-p", dir, "-c", filepath.Join(dir, "nginx.conf"))
	url := fmt.Sprintf("http://127.0.0.1:%d/api/farmer/lookup", front)
	eventually(t, 20*time.Second, "gunicorn answers through nginx", func() error {
		resp, err := http.Get(url)
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("status %s", resp.Status)
		}
		return nil
	})
	config := filepath.Join(dir, "tidemark.yaml")
	write(t, config, fmt.Sprintf(gunicornConfig, dir))
	d := startDaemon(t, config, filepath.Join(dir, "state", "tidemark.sock"))

	o := playLoad(t, fmt.Sprintf("http://127.0.0.1:%d", front), gunicornLoad, scenario.Options{}, nil)
	events, err := d.client.Events(t.Context(), record.EventQuery{Kinds: []fleet.Kind{fleet.EventActionDone, fleet.EventActionFailed, fleet.EventTargetLost}, Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	peak, ups, downs := 2, 0, 0
	for _, e := range events {
		switch {
		case e.Kind == fleet.EventTargetLost: // a machine under other load does not answer in a compressed tick's time: the loop holds
			t.Logf("%s: %s", e.Kind, e.Note)
		case e.Kind != fleet.EventActionDone:
			t.Errorf("%s: %s", e.Kind, e.Note)
		case e.To > e.From:
			ups++
		default:
			downs++
		}
		peak = max(peak, e.To)
	}
	sum := rehearsal.Total(o, "")
	t.Logf("%d requests, %d failed, %d dropped, p95 %.0f ms, up %d, down %d, peak %d", sum.Count, sum.Failures(), o.Generator.Dropped, 1000*sum.Latency.Quantile(0.95), ups, downs, peak)
	if sum.Failures()+o.Generator.Dropped > 0 {
		t.Errorf("requests failed: %v, %d were dropped: %v", sum.Failed, o.Generator.Dropped, o.Notes)
	}
	if ups < 1 || downs < 1 {
		t.Errorf("up %d, down %d: the fleet did not follow the tide\n%s", ups, downs, d.log)
	}
}

// playLoad plays a scenario to its end. each hears of each request; it may be nil.
func playLoad(t *testing.T, target, text string, options scenario.Options, each func(string, *journey.Request)) *outcome.Run {
	t.Helper()
	s, err := scenario.Parse("load.yaml", []byte(text), options)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	o, err := rehearsal.Play(t.Context(), rehearsal.Plan{Scenario: s, Target: u, Seed: 1, Each: each})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// needs finds a program that scripts/setup installs.
func needs(t *testing.T, name string) string {
	t.Helper()
	for _, dir := range append(strings.Split(os.Getenv("PATH"), ":"), "/usr/sbin") {
		if p := filepath.Join(dir, name); isFile(p) {
			return p
		}
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("needs %s: scripts/setup installs it", name)
	}
	t.Skipf("needs %s", name)
	return ""
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// serve runs a server in dir until the test ends.
func serve(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	log := &strings.Builder{}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait() // ended by the signal
		if t.Failed() {
			t.Logf("%s:\n%s", filepath.Base(name), log)
		}
	})
}
