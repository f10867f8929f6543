package outcome

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/internal/decide/signal"
	"tidemark/internal/fleet"
)

func TestRunSurvivesJSON(t *testing.T) {
	slot := Slot{At: 3, Count: 2, Failed: map[Class]uint64{FailedServer: 1}, Interrupted: 4, Bytes: 100}
	slot.Latency.Record(0.25)
	slot.Latency.Record(1.5)
	run := Run{Scenario: "baseline", Started: time.Date(2027, 3, 1, 7, 0, 0, 0, time.UTC), Slot: fleet.Duration(time.Second),
		Criteria: []Criterion{{Name: "API p95", Measure: Latency, Of: "api", Quantile: 0.95, Limit: 0.5, Variation: 0.1}},
		Steps:    []Step{{Journey: "sync", Name: "push", Kind: API, Slots: []Slot{slot}}},
		Fleets:   []Fleet{{Name: "f", Signals: []Resource{{Signal: "cpu", Readings: []fleet.Reading{{Value: 12.5, Quality: fleet.Stale}}}}}}}
	b, err := json.Marshal(run)
	if err != nil {
		t.Fatal(err)
	}
	var back Run
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(run, back, cmp.AllowUnexported(signal.Histogram{})); diff != "" {
		t.Error(diff)
	}
	got := &back.Steps[0].Slots[0]
	if got.Latency.Count() != 2 || got.Failures() != 1 {
		t.Errorf("%d values, %d failures", got.Latency.Count(), got.Failures())
	}
}
