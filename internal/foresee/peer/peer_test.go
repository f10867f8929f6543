package peer

import (
	"strings"
	"testing"
	"time"

	"tidemark/internal/decide/engine"
	"tidemark/internal/decide/queueing"
	"tidemark/internal/fleet"
	"tidemark/internal/foresee/load"
	"tidemark/internal/foresee/sim"
)

func condition(t *testing.T, tick time.Duration) Condition {
	t.Helper()
	l, err := load.Make("registration-drive", time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC), 0, 60)
	if err != nil {
		t.Fatal(err)
	}
	times := new(queueing.Service)
	times.Assume(func(float64) float64 { return 0.1 }, 0.1)
	return Condition{Bounds: fleet.Bounds{Min: 2, Max: 10}, Tick: tick, Boot: 5 * time.Second, CPU: 1, Load: l, Times: times, Objective: sim.DefaultObjective()}
}

// Each peer follows a drive up and comes down again, within the bounds, whatever the tick.
func TestPeersFollow(t *testing.T) {
	for _, tick := range []time.Duration{5 * time.Second, 15 * time.Second, time.Minute} {
		for _, name := range []string{"hpa", "keda:0.6", "aws-target", "aws-step", "uwsgi", Steps, Clairvoyant} {
			c := condition(t, tick)
			r, err := New(name, c)
			if err != nil {
				t.Fatal(err)
			}
			plan := sim.Plan{Policy: r.Policy, Probes: r.Probes, Load: c.Load, Service: sim.Lognormal(0.1, 1), Boot: c.Boot, Tick: tick, Initial: r.Initial, Seed: 1, Level: sim.Fluid}
			if r.Start != nil {
				plan.Control = r.Start()
			}
			out, err := sim.Run(plan)
			if err != nil {
				t.Fatal(err)
			}
			if out.Most < 7 || out.Most > 10 || out.Least != 2 || out.Final > 6 {
				t.Errorf("%s, asked every %s: %d to %d workers, %d in the end", r.Name, tick, out.Least, out.Most, out.Final)
			}
		}
	}
}

// A controller that is slower than the tick is asked no more often than it would look.
func TestEvery(t *testing.T) {
	asked := 0
	c := every(15*time.Second, 5*time.Second, func(*engine.Input) int { asked++; return 9 })
	in := &engine.Input{Size: fleet.Size{Known: true, Serving: 4}}
	for i := range 12 {
		if want := map[bool]int{true: 9, false: 4}[i%3 == 2]; c(in) != want {
			t.Errorf("tick %d: want %d", i, want)
		}
	}
	if asked != 4 {
		t.Errorf("asked %d times in a minute", asked)
	}
}

func TestNew(t *testing.T) {
	for text, want := range map[string]string{"vpa": "write one of", "fixed": "such as fixed:4", "fixed:2.5": "such as fixed:4", "hpa:no": "no number above 0", "hpa:-1": "no number above 0", "steps:3": "takes no setting"} {
		if _, err := New(text, Condition{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
	r, err := New("fixed:14", condition(t, time.Second))
	if err != nil || r.Initial != 14 || r.Start()(nil) != 14 {
		t.Errorf("%+v, %v", r, err)
	}
}
