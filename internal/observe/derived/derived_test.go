package derived

import (
	"strings"
	"testing"
	"time"

	"tidemark/internal/config"
	"tidemark/internal/fleet"
)

var now = time.Date(2027, 3, 1, 6, 0, 0, 0, time.UTC)

// plain is a signal that is read.
type plain struct{ config.SignalBody }

func signals(formula string) (all []config.Signal, cfg Config) {
	cfg = Config{Of: formula}
	for _, s := range []struct {
		name string
		body config.SignalBody
	}{{"cpu", plain{}}, {"backlog", &cfg}, {"queue", plain{}}} {
		all = append(all, config.Signal{Name: s.name, Adapter: config.Adapter{Kind: "test", Body: s.body}})
	}
	return all, cfg
}

func scene(phases ...fleet.Phase) fleet.Scene {
	s := fleet.Scene{Now: now, WorkersKnown: true}
	for _, p := range phases {
		s.Workers = append(s.Workers, fleet.Worker{Phase: p})
	}
	return s
}

func TestDerive(t *testing.T) {
	all, cfg := signals("queue / workers + cpu")
	d, err := New(cfg, all)
	if err != nil {
		t.Fatal(err)
	}
	fresh := []fleet.Reading{{Value: 1, Quality: fleet.Fresh}, {Value: 99, Quality: fleet.Fresh}, {Value: 30, Quality: fleet.Fresh}}
	stale := []fleet.Reading{fresh[0], fresh[1], {Value: 30, Quality: fleet.Stale}}
	own := []fleet.Reading{fresh[0], {}, fresh[2]} // its own is not there yet
	three := scene(fleet.Serving, fleet.Starting, fleet.Serving, fleet.Draining, fleet.Serving)
	for name, c := range map[string]struct {
		scene    fleet.Scene
		readings []fleet.Reading
		want     fleet.Reading
		err      string
	}{
		"of what serves":          {three, fresh, fleet.Reading{Value: 11, Time: now, Quality: fleet.Fresh}, ""},
		"own reading is not used": {three, own, fleet.Reading{Value: 11, Time: now, Quality: fleet.Fresh}, ""},
		"as much as the least":    {three, stale, fleet.Reading{Time: now, Quality: fleet.Stale}, "queue, which it is derived from, is stale"},
		"workers not known":       {fleet.Scene{Now: now}, fresh, fleet.Reading{Time: now}, "workers, which it is derived from, is missing"},
		"nobody serves":           {scene(fleet.Starting), fresh, fleet.Reading{Time: now}, "the outcome is +Inf, with cpu 1, queue 30, workers 0"},
	} {
		r, err := d.Derive(c.scene, c.readings)
		if r != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %+v, %v; want %+v, %s", name, r, err, c.want, c.err)
		}
	}
}

func TestFormulaOfDerived(t *testing.T) {
	all, cfg := signals("backlog + 1")
	if _, err := New(cfg, all); err == nil || !strings.Contains(err.Error(), `"backlog" is no signal`) {
		t.Errorf("%v", err)
	}
}
