package main

import (
	"fmt"
	"time"

	"tidemark/internal/app"
	"tidemark/internal/config"
	"tidemark/internal/foresee"
	"tidemark/internal/foresee/peer"
)

const written = `instance: {name: control, time_zone: UTC}
state_dir: /var/lib/tidemark
fleets:
  - name: workers
    target: {process: {command: [serve, "{port}"], ports: {first: 10001, last: %d}, health: {path: /}}}
    balancer: {proxy: {listen: "127.0.0.1:8080", max_in_flight: 1}}
    bounds: {min: 1, max: %d}
    signals:
      api_p95:     {proxy: {field: latency}, statistic: p95, window: 5m, min_samples: 20}
      rate:        {proxy: {field: rate}, period: 15s}
      service_p50: {proxy: {field: service_time}, statistic: p50, window: 5m}
      service_p95: {proxy: {field: service_time}, statistic: p95, window: 5m}
      service_p99: {proxy: {field: service_time}, statistic: p99, window: 5m}
      queued:      {proxy: {field: queued}, period: 15s}
      busy:        {proxy: {field: busy}}
      in_flight:   {proxy: {field: in_flight}, period: 15s}
    policies:
%s`

// ours is the default under test: what an operator must say, and nothing tuned.
const ours = `      - id: slo
        objective: {signal: api_p95, within: 500ms}
        demand: {rate: rate, service_time: [service_p50, service_p95, service_p99], backlog: queued}
`

// fleetOf reads a configuration as the daemon would.
func fleetOf(most int, w foresee.Work) (*peer.Run, error) {
	text := fmt.Sprintf(written, 10000+most, most, ours)
	cfg, problems := config.Parse("control.yaml", []byte(text), app.Catalog(), func(string) (string, bool) { return "", false })
	if problems.Failed() {
		return nil, problems
	}
	f := &cfg.Fleets[0]
	f.Policy.ActionLimit = max(f.Policy.ActionLimit, 2*w.Boot) // an operator with slow workers must
	probes, _ := foresee.Probes(f, w)
	return &peer.Run{Policy: &f.Policy, Probes: probes}, nil
}

const tick = 15 * time.Second
