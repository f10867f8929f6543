package main

import (
	"fmt"
	"testing"
	"time"

	"tidemark/internal/foresee/load"
	"tidemark/internal/foresee/sim"
)

// A crowd that triples the load from one second to the next: a boot and 60 s later whoever comes is served within the objective again, and so it stays. The default
// under test has scaled out once before, so that it knows how long workers boot.
func TestFlashCrowd(t *testing.T) {
	const calm, before, crowd = 20, 60, 40 // minutes
	for _, boot := range []time.Duration{15 * time.Second, time.Minute, 5 * time.Minute} {
		for _, cv := range []float64{1, 2} {
			for _, from := range []float64{10, 80} { // requests a second: 1 and 8 busy workers
				t.Run(fmt.Sprintf("boot %s, cv %g, %g times 3", boot, cv, from), func(t *testing.T) {
					t.Parallel()
					s := &load.Series{Name: "crowd", Start: time.Unix(1_800_000_000, 0).UTC(), Step: time.Minute}
					for i := range before + crowd {
						rate := from
						switch {
						case i < calm:
							rate /= 2
						case i >= before:
							rate *= 3
						}
						s.Rates = append(s.Rates, rate)
					}
					c := &cell{cv: cv, boot: boot, law: sim.Lognormal(service.Seconds(), cv)}
					r, err := fleetOf(int(4*from), c.work())
					if err != nil {
						t.Fatal(err)
					}
					target := sim.DefaultObjective()
					target.Window = tick
					came := s.Start.Add(before * time.Minute)
					back, missed := time.Duration(0), 0
					_, err = sim.Run(sim.Plan{
						Policy: r.Policy, Probes: r.Probes, Load: s, Service: c.law, Boot: boot, Tick: tick, Initial: c.needs(s, 0.01)[0], Seed: 1, Level: sim.Requests, Target: target,
						Each: func(x *sim.Sample) {
							since := x.Time.Sub(came)
							// Who comes now waits for 100 ms at most.
							if since > 0 && back == 0 && float64(x.Queued)*service.Seconds() <= 0.1*float64(x.Size.Serving) {
								back = since
							}
							if back > 0 && since >= back+2*tick && since%time.Minute == 0 && x.P95 > within.Seconds() {
								missed++
							}
						},
					})
					if err != nil {
						t.Fatal(err)
					}
					t.Logf("back after %s; %d minutes missed since", back, missed)
					if back == 0 || back > boot+time.Minute {
						t.Errorf("back after %s, with workers that boot in %s", back, boot)
					}
					if missed > 2 {
						t.Errorf("%d of the minutes that followed are missed", missed)
					}
				})
			}
		}
	}
}
