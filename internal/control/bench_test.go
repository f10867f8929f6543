package control

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"tidemark/internal/decide/policy"
	"tidemark/internal/fleet"
	"tidemark/internal/record"
	"tidemark/internal/record/sqlite"
)

type steadySource float64

func (s steadySource) Read(_ context.Context, scene fleet.Scene) (fleet.Reading, error) {
	return fleet.Reading{Value: float64(s), Time: scene.Now, Quality: fleet.Fresh}, nil
}

type steadyTarget struct{ workers []fleet.Worker }

func (s steadyTarget) Workers(context.Context) ([]fleet.Worker, error) { return s.workers, nil }
func (s steadyTarget) Scale(context.Context, int, fleet.Drain) error   { return nil }

// fifteenSeconds is a clock that each round of ticks moves on.
type fifteenSeconds struct {
	SystemClock
	now time.Time
}

func (c *fifteenSeconds) Wall() time.Time       { return c.now }
func (c *fifteenSeconds) Uptime() time.Duration { return c.now.Sub(time.Unix(0, 0)) }

// A thousand fleets of five rules on five signals each, with the journal on the disk: the time of a tick from its start
// until it is durable, and the share of one core that a round every 15 s takes.
func BenchmarkThousandFleets(b *testing.B) {
	const fleets = 1000
	journal, err := sqlite.Open(b.Context(), filepath.Join(b.TempDir(), "journal.db"), record.Retention{})
	if err != nil {
		b.Fatal(err)
	}
	defer journal.Close()
	clock := &fifteenSeconds{now: time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC)}
	opts := New(Options{Journal: journal, Clock: clock}).opts
	var runners []*runner
	shared := &ledger{}
	for i := range fleets {
		p := cpuPolicy(fmt.Sprintf("fleet-%d", i))
		parts := Parts{Target: steadyTarget{[]fleet.Worker{{ID: "1", Phase: fleet.Serving}, {ID: "2", Phase: fleet.Serving}}}}
		p.Signals, p.Policies[0].Rules = nil, nil
		for s := range 5 {
			p.Signals = append(p.Signals, policy.Signal{Name: fmt.Sprintf("signal-%d", s), Period: time.Minute})
			p.Policies[0].Rules = append(p.Policies[0].Rules, policy.Rule{Signal: s, Operator: fleet.AtLeast, Threshold: 70, Change: 1, N: 3, M: 2})
			parts.Sources = append(parts.Sources, steadySource(40+s))
		}
		parts.Policy = p
		r, err := newRunner(b.Context(), opts, shared, parts, 0)
		if err != nil {
			b.Fatal(err)
		}
		shared.enter(r.claim())
		runners = append(runners, r)
	}
	var took []time.Duration
	for b.Loop() {
		clock.now = clock.now.Add(15 * time.Second)
		for _, r := range runners {
			start := time.Now()
			r.tick(b.Context(), time.Time{})
			took = append(took, time.Since(start))
		}
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms/tick")
	b.ReportMetric(100*b.Elapsed().Seconds()/float64(b.N)/15, "%-of-15s/round")
}
