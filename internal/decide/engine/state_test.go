package engine_test

import (
	"encoding/json"
	"testing"
	"time"

	"tidemark/internal/decide/engine"
	"tidemark/internal/decide/policy"
	"tidemark/internal/fleet"
)

// A state that was stored before there were guards, schedules and quotas is read, keeps its cooldown, and gets the guards of today.
func TestOldStateLoads(t *testing.T) {
	const old = `{"tick":"2027-03-01T00:04:00Z","size":{"known":true,"starting":0,"serving":3,"draining":0},
		"signals":[{"name":"cpu","series":{"points":[{"end":"2027-03-01T00:04:00Z","value":95,"quality":"fresh"},{"end":"2027-03-01T00:05:00Z","value":95,"quality":"fresh"}],
			"end":"2027-03-01T00:06:00Z","best":"missing","n":0,"sum":0,"min":0,"max":0,"last":0},"last":{"value":95,"time":"2027-03-01T00:04:00Z","quality":"fresh"}}],
		"rules":[],"acted":{"up":"2027-03-01T00:04:00Z","recent":["2027-03-01T00:04:00Z"]}}`
	s := &engine.State{}
	if err := json.Unmarshal([]byte(old), s); err != nil {
		t.Fatal(err)
	}
	p := requirements()
	p.Guards = []policy.Guard{{Name: "host", If: []policy.Condition{{Rule: policy.Rule{Signal: 0, Operator: fleet.AtLeast, Threshold: 90, N: 3, M: 1}, Release: 90}}}}
	s.Fit(&p)
	now := start.Add(6 * time.Minute)
	in := engine.Input{Now: now, Size: fleet.Size{Known: true, Serving: 3}, Readings: []fleet.Reading{{Value: 95, Quality: fleet.Fresh, Time: now}, {Value: 0.1, Quality: fleet.Fresh, Time: now}}}
	var d fleet.Decision
	engine.Step(&p, s, &in, &d)
	if d.To != 3 || !hasCode(&d, fleet.BlockedCooldown) || !hasCode(&d, fleet.BlockedGuard) {
		t.Errorf("%+v", d)
	}
}
