package engine_test

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tidemark/internal/decide/engine"
	"tidemark/internal/decide/policy"
	"tidemark/internal/fleet"
)

// calm is a life in which little happens: readings last for a while, decisions are carried out at once, an order comes now and then.
func calm(t *rapid.T, p *policy.Fleet) []engine.Input {
	var all []engine.Input
	s, d := &engine.State{}, fleet.Decision{}
	s.Fit(p)
	size := rapid.IntRange(1, p.Bounds.Max+1).Draw(t, "size")
	readings := make([]fleet.Reading, len(p.Signals))
	now := start
	for range rapid.IntRange(1, 200).Draw(t, "ticks") {
		now = now.Add(15 * time.Second)
		in := engine.Input{Now: now, Size: fleet.Size{Known: true, Serving: size}}
		for i := range readings {
			if rapid.IntRange(0, 30).Draw(t, "changes") == 0 || now.Sub(start) == 15*time.Second {
				readings[i] = anyReading(t)
			}
		}
		in.Readings = append(in.Readings, readings...)
		switch rapid.IntRange(0, 200).Draw(t, "happening") {
		case 0:
			in.Orders = []engine.Order{{Kind: engine.SetMode, Mode: fleet.ScaleOutOnly, At: now}}
		case 1:
			in.ClockJump = time.Hour
		case 2:
			in.Size.Serving++
		}
		all = append(all, in)
		engine.Step(p, s, &in, &d)
		size = max(d.To, 1)
	}
	return all
}

// Skim is Step: the same state after each tick and the same decisions, whatever the policy and whatever happens.
func TestSkimIsStep(t *testing.T) {
	quiet, all := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		p := anyPolicy(rt)
		var inputs []engine.Input
		if rapid.Bool().Draw(rt, "calm") {
			inputs = calm(rt, &p)
		} else {
			for _, k := range live(rt, &p) {
				inputs = append(inputs, k.in)
			}
		}
		var step, skim engine.State
		step.Fit(&p)
		skim.Fit(&p)
		var want, got fleet.Decision
		for i := range inputs {
			in := &inputs[i]
			engine.Step(&p, &step, in, &want)
			all++
			if engine.Skim(&p, &skim, in, &got) {
				if a, b := encode(rt, &want), encode(rt, &got); !bytes.Equal(a, b) {
					rt.Fatalf("tick %d: Step decides\n%s\nand Skim\n%s", i, a, b)
				}
			} else if quiet++; want.To != want.From || want.From != in.Size.Workers() {
				rt.Fatalf("tick %d: Step goes from %d to %d, and Skim keeps still", i, want.From, want.To)
			}
			if a, b := encode(rt, &step), encode(rt, &skim); !bytes.Equal(a, b) {
				rt.Fatalf("tick %d: Step leaves\n%s\nand Skim\n%s", i, a, b)
			}
		}
	})
	t.Logf("%d of %d ticks were skimmed", quiet, all)
	if quiet < all/20 && !testing.Short() { // a short run plays a few policies, which may all be busy ones
		t.Errorf("only %d of %d ticks were skimmed: the test shows little", quiet, all)
	}
}

func encode(t *rapid.T, v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The same fleet, tick for tick, as BenchmarkStep.
func BenchmarkSkim(b *testing.B) {
	p, readings := steadyFleet()
	s, d := &engine.State{}, &fleet.Decision{}
	s.Fit(&p)
	in := engine.Input{Now: start, Size: fleet.Size{Known: true, Serving: 2}, Readings: readings}
	b.ReportAllocs()
	for b.Loop() {
		in.Now = in.Now.Add(15 * time.Second)
		engine.Skim(&p, s, &in, d)
	}
}
