package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"tidemark/internal/prove/outcome"
	"tidemark/internal/prove/rehearsal"
	"tidemark/internal/prove/scenario"
	"tidemark/registry"
)

// lookupScenario is what is asked, for a time that is to be filled in.
const lookupScenario = `
name: lookups
duration: %s
vars: {secret: ""}
data: {farmers: ""}
journeys:
- {name: national id, steps: [{name: look up, headers: {Authorization: "Bearer {{.secret}}"}, path: '/api/farmer/lookup?national_id={{urlquery (row "farmers").national_id}}'}]}
- {name: uid, steps: [{name: look up, headers: {Authorization: "Bearer {{.secret}}"}, path: '/api/farmer/lookup?uid={{(row "farmers").uid}}'}]}
- {name: name and village, steps: [{name: look up, headers: {Authorization: "Bearer {{.secret}}"}, path: '{{$f := row "farmers"}}/api/farmer/lookup?name={{urlquery $f.name}}&village={{urlquery $f.village}}'}]}
load:
- {journey: national id, connection: kept, rate: [{at: 0s, rate: 25}]}
- {journey: uid, connection: kept, rate: [{at: 0s, rate: 12.5}]}
- {journey: name and village, connection: kept, rate: [{at: 0s, rate: 12.5}]}
`

// known writes a file of those who are looked up.
func (s *stack) known(c settings) (string, error) {
	rows := [][]string{{"uid", "national_id", "name", "village"}}
	for _, f := range c.farmers {
		rows = append(rows, []string{f.UID, f.Fields.Text("national_id"), f.Fields.Text("given_name") + " " + f.Fields.Text("family_name"), f.Fields.Text("village")})
	}
	var text bytes.Buffer
	if err := csv.NewWriter(&text).WriteAll(rows); err != nil {
		return "", err
	}
	file := filepath.Join(c.dir, "lookups.csv")
	return file, os.WriteFile(file, text.Bytes(), 0o600)
}

// lookups asks 50 times a second, half by national id, a quarter by uid, a quarter by name and village, while ten devices
// synchronise one batch of 500 farmers after the other. The devices are a process of their own with less of a claim on the
// CPU: what they compute would be computed elsewhere, and must not make the look-ups start late.
func (s *stack) lookups(ctx context.Context, c settings) ([]figure, error) {
	busy, err := s.devices(ctx, c)
	if err != nil {
		return nil, err
	}
	defer busy.end() //nolint:errcheck // it has been ended before, unless something else went wrong
	secret, _, err := s.store.AddToken(ctx, registry.Token{Name: registry.NewUID(), Scope: registry.Integration, CreatedAt: time.Now(),
		ExpiresAt: time.Now().AddDate(0, 0, 1)})
	if err != nil {
		return nil, err
	}
	target, err := url.Parse(s.url)
	if err != nil {
		return nil, err
	}
	file, err := s.known(c)
	if err != nil {
		return nil, err
	}
	play := func(d time.Duration) (*outcome.Run, error) {
		scene, err := scenario.Parse("lookups.yaml", fmt.Appendf(nil, lookupScenario, d), scenario.Options{Vars: map[string]string{"secret": secret}, Data: map[string]string{"farmers": file}})
		if err != nil {
			return nil, err
		}
		return rehearsal.Play(ctx, rehearsal.Plan{Scenario: scene, Target: target, Seed: 1})
	}
	if _, err := play(5 * time.Second); err != nil { // caches are cold
		return nil, err
	}
	run, err := play(c.For)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	at := load()
	batches, err := busy.end()
	if err != nil {
		return nil, err
	}
	all := rehearsal.Total(run, "")
	invalid := ""
	if len(run.Generator.Limits) > 0 {
		invalid = "the generator was the limit: " + strings.Join(run.Generator.Limits, ", ")
	}
	var parts []figure
	for _, j := range run.Journeys {
		sum := rehearsal.Total(run, j.Name)
		parts = append(parts, figure{What: "  by " + j.Name + ", p95", Value: 1000 * sum.Latency.Quantile(0.95), Unit: "ms", Load: at})
	}
	return append([]figure{
		{What: "look-up at 50/s while 10 devices synchronise, p95", Value: 1000 * all.Latency.Quantile(0.95), Unit: "ms", Bar: 50, Load: at, Invalid: invalid,
			Note: fmt.Sprintf("%d requests; %d batches of 500 farmers synchronised", all.Count, batches)},
		{What: "  failed", Value: 100 * float64(all.Failures()) / float64(all.Count), Unit: "%", Bar: 0.1, Load: at},
		{What: "  all, p50", Value: 1000 * all.Latency.Quantile(0.5), Unit: "ms", Load: at},
		{What: "  all, p99", Value: 1000 * all.Latency.Quantile(0.99), Unit: "ms", Load: at},
	}, parts...), nil
}
