package sqlite

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/record"
)

// benchTick is an ordinary tick: no event, a state of 2 KB.
func benchTick(name string, signals, n int, state []byte) record.Tick {
	when := begin.Add(time.Duration(n) * 15 * time.Second)
	tick := record.Tick{Fleet: name, Time: when, State: state, Size: fleet.Size{Known: true, Serving: 2}}
	for s := range signals {
		tick.Readings = append(tick.Readings, record.Sample{Signal: fmt.Sprint("signal-", s), Reading: fleet.Reading{Value: float64(n%100) * 1.01, Time: when, Quality: fleet.Fresh}})
	}
	return tick
}

// BenchmarkCommit is one fleet of 5 signals, one commit after the other: mostly the disk's sync.
func BenchmarkCommit(b *testing.B) {
	j := mustOpen(b, filepath.Join(b.TempDir(), "journal.db"), record.Retention{})
	state := make([]byte, 2048)
	n := 0
	for b.Loop() {
		if err := j.Commit(ctx, benchTick("f", 5, n, state)); err != nil {
			b.Fatal(err)
		}
		n++
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "commits/s")
}

// BenchmarkCommitTogether is 64 fleets at once: they share transactions.
func BenchmarkCommitTogether(b *testing.B) {
	j := mustOpen(b, filepath.Join(b.TempDir(), "journal.db"), record.Retention{})
	state := make([]byte, 2048)
	var fleets atomic.Int64
	b.SetParallelism(64)
	b.RunParallel(func(p *testing.PB) {
		name := fmt.Sprint("fleet-", fleets.Add(1))
		for n := 0; p.Next(); n++ {
			if err := j.Commit(ctx, benchTick(name, 5, n, state)); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
}

// BenchmarkCommitThousandFleets is one commit of a tick of 1,000 fleets of 5 signals.
func BenchmarkCommitThousandFleets(b *testing.B) {
	j := mustOpen(b, filepath.Join(b.TempDir(), "journal.db"), record.Retention{})
	state := make([]byte, 2048)
	ticks := make([]record.Tick, 1000)
	n := 0
	for b.Loop() {
		for f := range ticks {
			ticks[f] = benchTick(fmt.Sprint("fleet-", f), 5, n, state)
		}
		if err := j.Commit(ctx, ticks...); err != nil {
			b.Fatal(err)
		}
		n++
	}
	b.ReportMetric(b.Elapsed().Seconds()*1000/float64(n), "ms/tick")
}

// BenchmarkCommitBesideMaintenance reports the longest commit while old readings of 200 fleets are rolled up, deleted and the
// file is made smaller.
func BenchmarkCommitBesideMaintenance(b *testing.B) {
	j := mustOpen(b, filepath.Join(b.TempDir(), "journal.db"), record.Retention{Raw: time.Hour, MaxBytes: 16 << 20})
	state := make([]byte, 2048)
	for n := range 1000 {
		ticks := make([]record.Tick, 200)
		for f := range ticks {
			ticks[f] = benchTick(fmt.Sprint("fleet-", f), 5, n, state)
		}
		if err := j.Commit(ctx, ticks...); err != nil {
			b.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	maintained := make(chan struct{})
	wg.Go(func() {
		defer close(maintained)
		if err := j.Maintain(ctx, begin.Add(6*time.Hour)); err != nil {
			b.Error(err)
		}
	})
	var longest time.Duration
	n, beside := 10_000, 0
	for b.Loop() {
		start := time.Now()
		if err := j.Commit(ctx, benchTick("fleet-0", 5, n, state)); err != nil {
			b.Fatal(err)
		}
		n++
		select {
		case <-maintained:
		default:
			beside++
			longest = max(longest, time.Since(start))
		}
	}
	wg.Wait()
	b.ReportMetric(float64(longest.Microseconds())/1000, "longest-ms")
	b.ReportMetric(float64(beside), "commits-beside")
}

const day = 24 * time.Hour

var year = sync.OnceValues(func() (string, error) {
	const ticks, signals = 365 * 24 * 240, 20
	path := filepath.Join(benchDir, "journal.db")
	j, err := Open(ctx, path, record.Retention{Raw: 400 * day, MaxBytes: 8 << 30})
	if err != nil {
		return "", err
	}
	for n := 0; n < ticks; n += 1000 {
		batch := make([]record.Tick, 1000)
		for i := range batch {
			batch[i] = benchTick("f", signals, n+i, nil)
		}
		if err := j.Commit(ctx, batch...); err != nil {
			return "", err
		}
		if err := j.Maintain(ctx, batch[0].Time); err != nil {
			return "", err
		}
	}
	s, err := j.size(ctx)
	if err != nil {
		return "", err
	}
	fmt.Printf("a year of %d ticks of %d signals: %d MB\n", ticks, signals, s.file()>>20)
	return path, j.Close()
})

// BenchmarkSeries opens one signal of 20 of a year at 15 s, all of it kept raw (2,102,400 readings), at any zoom and place.
func BenchmarkSeries(b *testing.B) {
	path, err := year()
	if err != nil {
		b.Fatal(err)
	}
	for _, zoom := range []time.Duration{time.Hour, 4 * time.Hour, 16 * time.Hour, 3 * day, 10 * day, 30 * day, 120 * day, 365 * day} {
		for _, points := range []int{0, 4000} {
			b.Run(fmt.Sprintf("%s-%d", fleet.Elapsed(zoom), points), func(b *testing.B) {
				r, err := OpenReadOnly(ctx, path)
				if err != nil {
					b.Fatal(err)
				}
				defer func() { _ = r.Close() }()
				random := rand.New(rand.NewPCG(1, 2))
				var longest time.Duration
				got := 0
				for b.Loop() {
					since := begin.Add(time.Duration(random.Int64N(int64(365*day - zoom + 1))))
					q := record.SeriesQuery{Fleet: "f", Signal: fmt.Sprint("signal-", random.IntN(20)), Since: since, Until: since.Add(zoom), MaxPoints: points}
					start := time.Now()
					p, err := r.Series(ctx, q)
					longest = max(longest, time.Since(start))
					if err != nil || len(p) == 0 {
						b.Fatal(len(p), err)
					}
					got = len(p)
				}
				b.ReportMetric(float64(longest.Microseconds())/1000, "longest-ms")
				b.ReportMetric(float64(got), "points")
			})
		}
	}
}

// BenchmarkOpen is a restart: open the year's journal and read the state.
func BenchmarkOpen(b *testing.B) {
	path, err := year()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		j, err := Open(ctx, path, record.Retention{})
		if err != nil {
			b.Fatal(err)
		}
		if _, _, err := j.State(context.Background(), "f"); err != nil {
			b.Fatal(err)
		}
		if err := j.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
