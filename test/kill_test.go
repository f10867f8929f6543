package test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/record"
	"tidemark/internal/record/sqlite"
)

// kills is how often the daemon dies.
const kills = 200

const (
	cooldownUp   = time.Second
	cooldownDown = 1200 * time.Millisecond
)

// killConfig is a fleet whose size is a number in a file, driven by the latency in an access log.
const killConfig = `
instance: {name: kill, time_zone: UTC}
state_dir: %[1]s/state
tick: 100ms
fleets:
  - name: numbers
    target: {command: {scale: [%[1]s/scale, "{size}"], size: [cat, %[1]s/size], timeout: 5s}}
    bounds: {min: 1, max: 9}
    signals:
      p95: {access_log: {path: %[1]s/access.log, route: /api}, statistic: p95, period: 100ms, window: 500ms, min_samples: 20}
    policies:
      - id: latency
        rules:
          - {signal: p95, operator: ">=", threshold: 400ms, scale_change: +1, evaluation_periods: 1}
          - {signal: p95, operator: "<=", threshold: 50ms, scale_change: -1, evaluation_periods: 1}
    safeguards:
      cooldown: {scale_up: %[2]s, scale_down: %[3]s}
      max_scaling_rate: 1 per 1s
`

// The daemon is killed at random points, 200 times, while the load makes it scale up and down. Afterwards: each change of size
// was decided once and recorded, the recorded decisions form one chain without a gap, no cooldown was forgotten, and the
// fleet is what the last decision made of it.
func TestDaemonKilledAnywhere(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: kills the daemon 200 times")
	}
	dir := t.TempDir()
	config, socket := filepath.Join(dir, "tidemark.yaml"), filepath.Join(dir, "state", "tidemark.sock")
	write(t, config, fmt.Sprintf(killConfig, dir, cooldownUp, cooldownDown))
	write(t, filepath.Join(dir, "size"), "1\n")
	// Setting a size is atomic, idempotent, and noted when it changes something.
	write(t, filepath.Join(dir, "scale"), fmt.Sprintf("#!/bin/sh\nold=$(cat %[1]s/size)\n[ \"$old\" = \"$1\" ] && exit 0\n"+
		"echo \"$1\" > %[1]s/size.$$ && echo \"$old $1\" >> %[1]s/changes && mv %[1]s/size.$$ %[1]s/size\n", dir))
	ctx, stop := context.WithCancel(t.Context())
	load := make(chan error, 1)
	go func() { load <- writeLog(ctx, filepath.Join(dir, "access.log")) }()

	rng := rand.New(rand.NewPCG(2027, 3))
	d := startDaemon(t, config, socket)
	for i := range kills {
		timer := time.NewTimer(time.Duration(rng.IntN(700)) * time.Millisecond)
		<-timer.C
		d.kill()
		if i%3 == 0 { // and now and then right after its start, before it answers anybody
			half := startUnready(t, config)
			timer.Reset(time.Duration(rng.IntN(60)) * time.Millisecond)
			<-timer.C
			half()
		}
		d = startDaemon(t, config, socket)
	}
	eventually(t, 10*time.Second, "nothing is under way", func() error {
		o, err := d.client.Status(t.Context())
		if err == nil && o.Fleets[0].Action != nil {
			return fmt.Errorf("going to %d", o.Fleets[0].Action.To)
		}
		return err
	})
	stop()
	if err := <-load; err != nil {
		t.Fatal(err)
	}
	d.kill()
	j, err := sqlite.Open(t.Context(), filepath.Join(dir, "state", "journal.db"), record.Retention{})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	var changes []change
	b, err := os.ReadFile(filepath.Join(dir, "changes"))
	if err != nil {
		t.Fatal(err)
	}
	// A script that was killed between the note and the change runs again: the same note twice in a row is one change.
	for _, line := range slices.Compact(strings.Split(strings.TrimSpace(string(b)), "\n")) {
		var c change
		if _, err := fmt.Sscan(line, &c.from, &c.to); err != nil {
			t.Fatal(err)
		}
		changes = append(changes, c)
	}
	b, err = os.ReadFile(filepath.Join(dir, "size"))
	if err != nil {
		t.Fatal(err)
	}
	size, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	judge(t, 1, decisions(t, j), changes, size, 30)
}

// startUnready starts a daemon that is not waited for.
func startUnready(t *testing.T, config string) (kill func()) {
	t.Helper()
	cmd := daemonCommand(config)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed: that is the point
	}
}

// writeLog makes the latency go up and down, so that the fleet has to follow all the time.
func writeLog(ctx context.Context, path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	start := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-ticker.C:
			latency := 0.9
			if int(now.Sub(start).Seconds()/5)%2 == 1 {
				latency = 0.01
			}
			if _, err := fmt.Fprint(f, logLine("/api/farmer/lookup", latency)); err != nil {
				return err
			}
		}
	}
}

// decisions are the decisions in a journal, oldest first.
func decisions(t *testing.T, j interface {
	Events(ctx context.Context, q record.EventQuery) ([]fleet.Event, error)
}) []fleet.Event {
	t.Helper()
	events, err := j.Events(t.Context(), record.EventQuery{Kinds: []fleet.Kind{fleet.EventDecision}, Limit: 10_000})
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(events)
	return events
}

// judge holds the decisions against the changes of size that were made, from the minimum to the size in the end. Fewer decisions than
// enough test little.
func judge(t *testing.T, least int, decisions []fleet.Event, changes []change, last, enough int) {
	t.Helper()
	t.Logf("%d decisions, %d changes of size", len(decisions), len(changes))
	if len(decisions) < enough {
		t.Fatalf("only %d decisions: the test tests little", len(decisions))
	}
	size, n := least, 0
	died := false // a worker, since the last decision was carried out
	for _, c := range changes {
		switch {
		case c.from != size:
			t.Errorf("after %d workers there are %d", size, c.from)
		case c.died:
			died = true
		case n < len(decisions) && decisions[n].To == c.to && (decisions[n].From == c.from || died):
			died = false
			n++
		case died && n > 0 && decisions[n-1].To == c.to: // it was carried out, which its leader did not live to record: the next goes on with it
			died = false
		case n == len(decisions):
			t.Errorf("nobody decided %d -> %d", c.from, c.to)
		default:
			t.Errorf("decision %d is %d -> %d, the change was %d -> %d: one is lost or doubled", n, decisions[n].From, decisions[n].To, c.from, c.to)
			died = false
			n++
		}
		size = c.to
	}
	if n != len(decisions) || size != last {
		t.Errorf("%d changes of size for %d decisions; the last made %d workers, and there are %d", n, len(decisions), size, last)
	}
	var up, either time.Time
	for i, e := range decisions {
		switch {
		case e.From < least: // no cooldown keeps a fleet below its minimum
		case e.To > e.From && !up.IsZero() && e.Time.Sub(up) < cooldownUp, e.To < e.From && !either.IsZero() && e.Time.Sub(either) < cooldownDown:
			t.Errorf("decision %d, %d -> %d, %v after the last one: a cooldown was forgotten", i, e.From, e.To, e.Time.Sub(either))
		}
		either = e.Time
		if e.To > e.From {
			up = e.Time
		}
	}
}
