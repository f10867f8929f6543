package test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/record"
)

const blackoutConfig = `
instance: {name: blackout, time_zone: UTC}
state_dir: %[1]s/state
tick: 100ms
fleets:
  - name: numbers
    target: {command: {scale: [%[1]s/scale, "{size}"], size: [cat, %[1]s/size], timeout: 5s}}
    bounds: {min: 1, max: 9}
    signals:
      p95: {access_log: {path: %[1]s/access.log, route: /api}, statistic: p95, period: 500ms, window: 500ms, min_samples: 5}
    policies:
      - id: latency
        rules:
          - {signal: p95, operator: ">=", threshold: 400ms, scale_change: +1, evaluation_periods: 2}
          - {signal: p95, operator: "<=", threshold: 50ms, scale_change: -1, evaluation_periods: 10, datapoints_to_alarm: 4}
    safeguards:
      cooldown: {scale_up: 1s, scale_down: 1s}
      max_scaling_rate: 1 per 1s
`

// Every signal of a real daemon vanishes for ten periods while a scale-in is coming up: nobody leaves, `status` says which
// signal and since when, an event is written; when it is back, the fleet goes on.
func TestSignalsVanish(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: waits out ten periods")
	}
	dir := t.TempDir()
	config, socket, log := filepath.Join(dir, "tidemark.yaml"), filepath.Join(dir, "state", "tidemark.sock"), filepath.Join(dir, "access.log")
	write(t, config, fmt.Sprintf(blackoutConfig, dir))
	write(t, filepath.Join(dir, "size"), "5\n")
	write(t, filepath.Join(dir, "scale"), fmt.Sprintf("#!/bin/sh\necho $1 > %[1]s/size.$$ && mv %[1]s/size.$$ %[1]s/size\n", dir))
	write(t, log, "")
	d := startDaemon(t, config, socket)
	stop := logQuick(t, log)
	eventually(t, 20*time.Second, "a datapoint of the p95", func() error {
		o, err := d.client.Status(t.Context())
		if err == nil && o.Fleets[0].Rules[1].Quality != fleet.Fresh {
			return fmt.Errorf("%v", o.Fleets[0].Rules[1].Quality)
		}
		return err
	})
	stop()
	// A file that vanishes is taken for a rotation for a minute; one that cannot be a log any more is lost at once.
	if err := errors.Join(os.Remove(log), os.Mkdir(log, 0o755)); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "the signal has been lost for ten periods", func() error {
		o, err := d.client.Status(t.Context())
		if err != nil {
			return err
		}
		sig := o.Fleets[0].Signals[0]
		if sig.Lost.IsZero() || o.Fleets[0].Time.Sub(sig.Lost) < 5*time.Second {
			return fmt.Errorf("lost since %v", sig.Lost)
		}
		return nil
	})
	status := run(t, program("tidemark"), "status", "--socket", socket)
	for _, want := range []string{"5 serving", "signal  p95", "missing for", "(since ", "access.log is no regular file (a folder)"} {
		if !strings.Contains(status, want) {
			t.Errorf("status does not say %q:\n%s", want, status)
		}
	}
	lost, err := d.client.Events(t.Context(), record.EventQuery{Kinds: []fleet.Kind{fleet.EventSignalLost}})
	if err != nil || len(lost) != 1 || lost[0].Signal != "p95" {
		t.Errorf("events: %+v, %v", lost, err)
	}
	decisions, err := d.client.Events(t.Context(), record.EventQuery{Kinds: []fleet.Kind{fleet.EventDecision}})
	if err != nil || len(decisions) != 0 {
		t.Errorf("decided in the dark: %+v, %v", decisions, err)
	}
	if err := os.Remove(log); err != nil {
		t.Fatal(err)
	}
	defer logQuick(t, log)()
	eventually(t, 30*time.Second, "the signal is back and the fleet scales in", func() error {
		events, err := d.client.Events(t.Context(), record.EventQuery{Kinds: []fleet.Kind{fleet.EventDecision, fleet.EventSignalBack}})
		if err == nil && len(events) < 2 {
			return fmt.Errorf("events: %+v", events)
		}
		return err
	})
}

// logQuick writes quick requests into a log until it is told to stop.
func logQuick(t *testing.T, path string) (stop func()) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer f.Close()
		ticker := time.NewTicker(10 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				_, _ = fmt.Fprint(f, logLine("/api/farmer/lookup", 0.01)) // a lost line is no matter
			}
		}
	}()
	return func() { cancel(); <-done }
}
