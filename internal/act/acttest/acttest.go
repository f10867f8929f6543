// Package acttest is the conformance suite of targets: what control relies on, whatever it is that runs the workers. Each
// target's own tests call Conform with a harness; what is special to a target is tested there.
package acttest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"tidemark/internal/fleet"
)

// Target is control.Target, which this package is below.
type Target interface {
	Workers(ctx context.Context) ([]fleet.Worker, error)
	Scale(ctx context.Context, n int, drain fleet.Drain) error
}

// Harness says how the suite gets at one kind of target.
type Harness struct {
	// New makes a fleet for one test. Whatever it starts it ends in t.Cleanup.
	New func(t *testing.T) Fleet
	// Min is the smallest size that the target knows; 0 means 1. The suite goes up to Min+3.
	Min int
	// Within is the time in which any single Scale that can succeed does, and in which a dead worker is replaced;
	// 0 means 20 s.
	Within time.Duration
}

// Fleet is one fleet under test. A capability that is nil does not apply to the target; the suite says so in its log.
type Fleet struct {
	// Open makes an instance of the target over this fleet, as a daemon does that starts. end is what is left of it
	// when the daemon dies: the fleet stays as it is. One instance is open at a time.
	Open func(t *testing.T) (target Target, end func())
	// Drains says that Scale calls drain on each serving worker before it is stopped.
	Drains bool
	// Kill ends a worker at once, as the kernel does when memory runs out, and returns when it is dead.
	Kill func(t *testing.T, w fleet.Worker)
	// Busy keeps a worker at work until stop is called, and returns when the target can see it.
	Busy func(t *testing.T, w fleet.Worker) (stop func())
	// Spoil has workers that are started from now on never become ready, until mend is called.
	Spoil func(t *testing.T) (mend func())
	// Away makes what the target talks to unreachable until back is called. The workers are untouched.
	Away func(t *testing.T) (back func())
}

// BuildWorker builds the program that targets run in tests (testdata/worker), static, and returns its path.
func BuildWorker(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "worker")
	build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", program, "../acttest/testdata/worker")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the worker: %v\n%s", err, out)
	}
	return program
}

// Conform checks that a target keeps control.Target's promises.
func Conform(t *testing.T, h Harness) {
	h.Min = max(h.Min, 1)
	if h.Within == 0 {
		h.Within = 20 * time.Second
	}
	for _, c := range []struct {
		name string
		run  func(*suite)
	}{
		{"scale up", (*suite).up},
		{"scale down", (*suite).down},
		{"idempotence", (*suite).idempotent},
		{"impossible size", (*suite).impossible},
		{"idle victim", (*suite).victim},
		{"drain fails", (*suite).drainFails},
		{"ctx ends in drain", (*suite).drainInterrupted},
		{"worker dies", (*suite).dies},
		{"worker never ready", (*suite).neverReady},
		{"scale up half done", (*suite).upHalfDone},
		{"scale down half done", (*suite).downHalfDone},
		{"restart", (*suite).restart},
		{"engine away and back", (*suite).away},
		{"scales at once", (*suite).atOnce},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &suite{T: t, h: h, fleet: h.New(t)}
			s.open()
			t.Cleanup(func() { s.end() })
			c.run(s)
		})
	}
}

// suite is one test in progress.
type suite struct {
	*testing.T
	h      Harness
	fleet  Fleet
	target Target
	end    func()
}

func (s *suite) open() { s.target, s.end = s.fleet.Open(s.T) }

// reopen stands for the daemon's death and restart.
func (s *suite) reopen() {
	s.end()
	s.end = func() {}
	s.open()
}

// has says whether a capability is there.
func (s *suite) has(it bool, what string) bool {
	if !it {
		s.Logf("not applicable: this target has no %s", what)
	}
	return it
}

func (s *suite) scale(n int, drain fleet.Drain) error {
	ctx, cancel := context.WithTimeout(s.Context(), s.h.Within)
	defer cancel()
	return s.target.Scale(ctx, n, drain)
}

// to scales and looks at the result.
func (s *suite) to(n int) []fleet.Worker {
	s.Helper()
	if err := s.scale(n, nil); err != nil {
		s.Fatalf("scale to %d: %v", n, err)
	}
	return s.exactly(n)
}

func (s *suite) workers() []fleet.Worker {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), s.h.Within)
	defer cancel()
	ws, err := s.target.Workers(ctx)
	if err != nil {
		s.Fatalf("workers: %v", err)
	}
	return ws
}

// exactly expects n serving workers and none besides, each told apart.
func (s *suite) exactly(n int) []fleet.Worker {
	s.Helper()
	ws := s.workers()
	if size := fleet.Count(ws); size.Serving != n || size.Workers() != n || len(ws) != n {
		s.Fatalf("want %d serving workers, have %+v", n, ws)
	}
	s.distinct(ws)
	return ws
}

func (s *suite) distinct(ws []fleet.Worker) {
	s.Helper()
	seen := map[string]bool{}
	for _, w := range ws {
		for _, k := range []string{"id " + w.ID, fmt.Sprint("pid ", w.PID), "address " + w.Address} {
			if k == "pid 0" || k == "address " {
				continue
			}
			if seen[k] {
				s.Fatalf("two workers with %s: %+v", k, ws)
			}
			seen[k] = true
		}
		if w.ID == "" {
			s.Fatalf("a worker without ID: %+v", ws)
		}
	}
}

// soon waits until n workers serve and none is on its way.
func (s *suite) soon(n int) []fleet.Worker {
	s.Helper()
	for end := time.Now().Add(s.h.Within); ; {
		ws := s.workers()
		if fleet.Count(ws).Serving == n && len(ws) == n {
			return ws
		}
		if time.Now().After(end) {
			s.Fatalf("no %d serving workers within %v: %+v", n, s.h.Within, ws)
		}
		time.Sleep(10 * time.Millisecond) // an outside process: nothing to wait on
	}
}

// key names one life of a worker.
func key(w fleet.Worker) string { return fmt.Sprintf("%s/%d", w.ID, w.PID) }

func keys(ws []fleet.Worker) map[string]bool {
	m := map[string]bool{}
	for _, w := range ws {
		m[key(w)] = true
	}
	return m
}

// kept counts how many of the workers before are there still.
func kept(before, after []fleet.Worker) int {
	n, now := 0, keys(after)
	for _, w := range before {
		if now[key(w)] {
			n++
		}
	}
	return n
}

// untouched expects every worker before to be there still.
func (s *suite) untouched(before, after []fleet.Worker) {
	s.Helper()
	if kept(before, after) != len(before) {
		s.Fatalf("workers were replaced that need not be:\nbefore %+v\nafter  %+v", before, after)
	}
}

func (s *suite) up() {
	one := s.to(s.h.Min)
	three := s.to(s.h.Min + 2)
	s.untouched(one, three)
}

func (s *suite) down() {
	before := s.to(s.h.Min + 3)
	var mu sync.Mutex
	drained := map[string]int{}
	err := s.scale(s.h.Min+1, func(ctx context.Context, w fleet.Worker) error {
		// The worker must be alive, and no longer one that a balancer would give requests to.
		ws, err := s.target.Workers(ctx)
		if err != nil {
			return err
		}
		found := false
		for _, o := range ws {
			if key(o) == key(w) {
				found = true
				if o.Phase == fleet.Serving {
					s.Errorf("%s is being drained and reported as serving", w.ID)
				}
			}
		}
		if !found {
			s.Errorf("%s was stopped before it was drained", w.ID)
		}
		mu.Lock()
		defer mu.Unlock()
		drained[key(w)]++
		return nil
	})
	if err != nil {
		s.Fatalf("scale down: %v", err)
	}
	after := s.exactly(s.h.Min + 1)
	if kept(before, after) != len(after) {
		s.Fatalf("those that stay were replaced:\nbefore %+v\nafter  %+v", before, after)
	}
	if !s.has(s.fleet.Drains, "drain") {
		return
	}
	if len(drained) != 2 {
		s.Errorf("2 workers left, %d were drained: %v", len(drained), drained)
	}
	for w, n := range drained {
		if n != 1 || !keys(before)[w] || keys(after)[w] {
			s.Errorf("%s was drained %d times; before %v, after %v", w, n, keys(before), keys(after))
		}
	}
}

func (s *suite) idempotent() {
	n := s.h.Min + 1
	before := s.to(n)
	never := func(_ context.Context, w fleet.Worker) error {
		s.Errorf("%s was drained, and the size was right", w.ID)
		return nil
	}
	for range 3 {
		if err := s.scale(n, never); err != nil {
			s.Fatalf("scale to the size that is: %v", err)
		}
	}
	s.untouched(before, s.exactly(n))
}

func (s *suite) impossible() {
	before := s.to(s.h.Min)
	if err := s.scale(-1, nil); err == nil {
		s.Error("a fleet of -1 workers is no error")
	}
	s.untouched(before, s.exactly(s.h.Min))
}

// victim: the idle worker leaves, wherever it stands in the order.
func (s *suite) victim() {
	if !s.has(s.fleet.Busy != nil, "way to see which worker is busy") {
		return
	}
	n := s.h.Min + 2
	for idle := range n {
		all := s.to(n)
		var stops []func()
		for i, w := range all {
			if i != idle {
				stops = append(stops, s.fleet.Busy(s.T, w))
			}
		}
		err := s.scale(n-1, nil)
		for _, stop := range stops {
			stop()
		}
		if err != nil {
			s.Fatalf("scale down: %v", err)
		}
		if after := s.exactly(n - 1); keys(after)[key(all[idle])] {
			s.Fatalf("a busy worker left, and %s was idle: %+v", all[idle].ID, after)
		}
	}
}

var errDrain = errors.New("the balancer does not answer")

func (s *suite) drainFails() {
	if !s.has(s.fleet.Drains, "drain") {
		return
	}
	before := s.to(s.h.Min + 1)
	err := s.scale(s.h.Min, func(context.Context, fleet.Worker) error { return errDrain })
	if !errors.Is(err, errDrain) {
		s.Fatalf("want the drain's error, have %v", err)
	}
	s.untouched(before, s.soon(s.h.Min+1))
	s.to(s.h.Min)
}

func (s *suite) drainInterrupted() {
	if !s.has(s.fleet.Drains, "drain") {
		return
	}
	before := s.to(s.h.Min + 1)
	for name, drain := range map[string]fleet.Drain{
		"gives up": func(ctx context.Context, _ fleet.Worker) error { return ctx.Err() },
		"is done":  func(context.Context, fleet.Worker) error { return nil },
	} {
		ctx, cancel := context.WithCancel(s.Context())
		err := s.target.Scale(ctx, s.h.Min, func(_ context.Context, w fleet.Worker) error {
			cancel()
			return drain(ctx, w)
		})
		if !errors.Is(err, context.Canceled) {
			s.Errorf("a drain that %s when ctx ends: want context.Canceled, have %v", name, err)
		}
		s.untouched(before, s.soon(s.h.Min+1))
	}
}

func (s *suite) dies() {
	if !s.has(s.fleet.Kill != nil, "worker that can be killed") {
		return
	}
	n := s.h.Min + 2
	before := s.to(n)
	dead := before[1]
	s.fleet.Kill(s.T, dead)
	if err := s.scale(n, nil); err != nil {
		s.Fatalf("scale after a worker died: %v", err)
	}
	after := s.exactly(n)
	if dead.PID != 0 && keys(after)[key(dead)] {
		s.Fatalf("%s is dead and reported: %+v", key(dead), after)
	}
	if kept(before, after) < n-1 {
		s.Fatalf("more than the dead worker was replaced:\nbefore %+v\nafter  %+v", before, after)
	}
}

func (s *suite) neverReady() {
	if !s.has(s.fleet.Spoil != nil, "way to keep workers from becoming ready") {
		return
	}
	n := s.h.Min + 1
	before := s.to(n)
	mend := s.fleet.Spoil(s.T)
	mended := false
	defer func() {
		if !mended {
			mend()
		}
	}()
	ctx, cancel := context.WithTimeout(s.Context(), min(2*time.Second, s.h.Within))
	defer cancel()
	err := s.target.Scale(ctx, n+1, nil)
	if err == nil {
		s.Fatal("the new worker is not ready, and Scale says that it is")
	}
	s.Logf("Scale says: %v", err)
	ws := s.workers()
	if got := fleet.Count(ws).Serving; got != n {
		s.Fatalf("want %d serving workers beside one that is not ready, have %+v", n, ws)
	}
	s.untouched(before, ws)
	// What never served leaves first.
	if err := s.scale(n, nil); err != nil {
		s.Fatalf("scale back: %v", err)
	}
	s.untouched(before, s.exactly(n))
	mend()
	mended = true
	s.untouched(before, s.to(n+1))
}

// upHalfDone: ctx ends, the daemon dies, the next one is told the same and goes on. The cuts are spread over the time that a whole
// scaling takes.
func (s *suite) upHalfDone() {
	low, high := s.h.Min, s.h.Min+3
	s.to(low)
	began := time.Now()
	s.to(high)
	whole := time.Since(began)
	for _, part := range []float64{0.1, 0.4, 0.8} {
		before := s.to(low)
		ctx, cancel := context.WithTimeout(s.Context(), time.Duration(part*float64(whole)))
		err := s.target.Scale(ctx, high, nil)
		cancel()
		s.reopen()
		ws := s.workers()
		s.distinct(ws)
		s.untouched(before, ws)
		if n := fleet.Count(ws).Workers(); n < low || n > high {
			s.Fatalf("after a scaling from %d to %d was cut short (%v): %+v", low, high, err, ws)
		}
		s.untouched(before, s.to(high))
	}
}

func (s *suite) downHalfDone() {
	low, high := s.h.Min, s.h.Min+2
	for i := range 3 { // the last is not cut short
		before := s.to(high)
		ctx, cancel := context.WithCancel(s.Context())
		drained := 0
		err := s.target.Scale(ctx, low, func(context.Context, fleet.Worker) error {
			if drained++; drained > i {
				cancel()
			}
			return ctx.Err()
		})
		cancel()
		if err == nil && s.fleet.Drains && i < 2 {
			s.Fatal("ctx ended in drain, and Scale says that it is done")
		}
		s.reopen()
		ws := s.workers()
		s.distinct(ws)
		if n := fleet.Count(ws).Workers(); n < low || n > high {
			s.Fatalf("after a scaling from %d to %d was cut short: %+v", high, low, ws)
		}
		if after := s.to(low); kept(before, after) != low {
			s.Fatalf("those that stay were replaced:\nbefore %+v\nafter  %+v", before, after)
		}
	}
}

func (s *suite) restart() {
	n := s.h.Min + 1
	before := s.to(n)
	for range 3 {
		s.reopen()
		s.untouched(before, s.exactly(n))
		s.untouched(before, s.to(n))
	}
}

// away: what cannot be read is an error, never an empty fleet.
func (s *suite) away() {
	if !s.has(s.fleet.Away != nil, "engine that can be away") {
		return
	}
	n := s.h.Min + 1
	before := s.to(n)
	back := s.fleet.Away(s.T)
	ctx, cancel := context.WithTimeout(s.Context(), 3*time.Second)
	defer cancel()
	ws, err := s.target.Workers(ctx)
	scaleErr := s.target.Scale(ctx, n+1, nil)
	back()
	if err == nil || len(ws) > 0 {
		s.Errorf("the engine is away: want an error and no workers, have %+v, %v", ws, err)
	}
	if scaleErr == nil {
		s.Error("the engine is away, and Scale says that it is done")
	}
	s.Logf("Workers says: %v", err)
	s.Logf("Scale says: %v", scaleErr)
	s.untouched(before, s.to(n))
}

// atOnce: two scalings at the same time do not mix.
func (s *suite) atOnce() {
	low, high := s.h.Min, s.h.Min+3
	s.to(low)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			if err := s.scale(low+i, nil); err != nil {
				s.Errorf("scale to %d: %v", low+i, err)
			}
		})
	}
	wg.Wait()
	ws := s.workers()
	s.distinct(ws)
	if n := fleet.Count(ws).Serving; n < low || n > high || len(ws) != n {
		s.Fatalf("after four scalings at once: %+v", ws)
	}
	s.to(low + 1)
}
