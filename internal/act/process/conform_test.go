package process

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"tidemark/internal/act/acttest"
	"tidemark/internal/fleet"
)

func TestConformance(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: the whole conformance suite")
	}
	acttest.Conform(t, acttest.Harness{New: func(t *testing.T) acttest.Fleet {
		dir := stateDir(t)
		spoil := filepath.Join(t.TempDir(), "spoil")
		cfg := fastConfig(t, 6, "-spoil="+spoil)
		cfg.Health.Interval = 200 * time.Millisecond // else the checks alone keep a race-enabled worker busy
		opts := fastOptions(t, dir)
		return acttest.Fleet{
			Drains: true,
			Open: func(t *testing.T) (acttest.Target, func()) {
				target, err := New(cfg, opts)
				if err == nil {
					err = target.Start(t.Context())
				}
				if err != nil {
					t.Fatal(err)
				}
				return target, func() {
					if err := target.Close(); err != nil {
						t.Error(err)
					}
				}
			},
			Kill: func(t *testing.T, w fleet.Worker) {
				kill(t, w)
				eventually(t, "the worker is dead", func() bool { st, err := readStat(w.PID); return err != nil || st.dead() })
			},
			Busy: func(t *testing.T, w fleet.Worker) func() {
				get(t, w, "/busy")
				before, _ := readStat(w.PID)
				eventually(t, "the worker uses CPU time", func() bool {
					now, _ := readStat(w.PID)
					return now.CPU >= before.CPU+50
				})
				return func() { get(t, w, "/idle") }
			},
			Spoil: func(t *testing.T) func() {
				if err := os.WriteFile(spoil, nil, 0o600); err != nil {
					t.Fatal(err)
				}
				return func() { _ = os.Remove(spoil) }
			},
			Away: func(t *testing.T) func() {
				from, to := filepath.Join(dir, "test"), filepath.Join(dir, "away")
				if err := os.Rename(from, to); err != nil {
					t.Fatal(err)
				}
				return func() {
					if err := os.Rename(to, from); err != nil {
						t.Fatal(err)
					}
				}
			},
		}
	}, Within: 30 * time.Second})
}
