// Package observetest is the conformance suite of sources: what the loop relies on, whatever is read. It leaves to each
// source what its figures are.
package observetest

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tidemark/internal/fleet"
)

// Source is what the loop calls a source.
type Source interface {
	Read(ctx context.Context, scene fleet.Scene) (fleet.Reading, error)
}

// Subject is a source and the world that it reads.
type Subject struct {
	Source Source
	// Workers are what the target reports while all is well.
	Workers []fleet.Worker
	// Tick lets the world go on by as much as happens between two reads; nil when nothing needs to.
	Tick func(t *testing.T)
	// Break takes away what is read, and Mend brings it back. Break may be called again when it is gone already.
	Break, Mend func(t *testing.T)
	// Hang makes what is read not answer, until release is called; nil when that cannot be.
	Hang func(t *testing.T) (release func())
	// Plausible reports whether a value can be true; nil for any finite one.
	Plausible func(v float64) bool
	// NeedsWorkers: without knowing the workers there is no figure.
	NeedsWorkers bool
	// Warm is how many reads in a row may be sparse before there is a figure, at the start and after Mend.
	Warm int
	// Close ends the subject; nil when it has nothing to end.
	Close func()
}

// patience is how long a read may take once its context has ended.
const patience = 2 * time.Second

// Conform runs the suite. fresh makes a new subject in good order.
func Conform(t *testing.T, fresh func(t *testing.T) Subject) {
	t.Helper()
	leaks := goleak.IgnoreCurrent()
	for _, c := range []struct {
		name string
		test func(t *testing.T, s *subject)
	}{
		{"a figure is fresh, finite and of the scene's time", figure},
		{"what is away is missing, and why is said", away},
		{"it recovers by itself, again and again", recovers},
		{"away from the start, it comes when it comes", lateStart},
		{"a context that has ended is honoured", ended},
		{"a context that ends while it reads is honoured", hangs},
		{"a clock that jumps changes no figure", jumps},
		{"unknown workers prove nothing", unknownWorkers},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &subject{Subject: fresh(t), now: time.Date(2027, 3, 1, 6, 0, 0, 0, time.UTC)}
			if s.Close != nil {
				t.Cleanup(s.Close)
			}
			c.test(t, s)
		})
	}
	goleak.VerifyNone(t, leaks)
}

type subject struct {
	Subject
	now time.Time
}

// read is one tick: time passes, the source is read, and what always holds is checked.
func (s *subject) read(t *testing.T) (fleet.Reading, error) {
	t.Helper()
	if s.Tick != nil {
		s.Tick(t)
	}
	s.now = s.now.Add(15 * time.Second)
	return s.readWith(t, context.Background(), fleet.Scene{Now: s.now, Workers: s.Workers, WorkersKnown: true})
}

func (s *subject) readWith(t *testing.T, ctx context.Context, scene fleet.Scene) (fleet.Reading, error) {
	t.Helper()
	r, err := s.Source.Read(ctx, scene)
	switch {
	case !r.Time.Equal(scene.Now):
		t.Fatalf("stamped %v, not %v", r.Time, scene.Now)
	case err != nil && r.Quality != fleet.Missing:
		t.Fatalf("an error (%v) with a %v reading", err, r.Quality)
	case err != nil && err.Error() == "":
		t.Fatal("an error without words")
	case err == nil && r.Quality == fleet.Missing:
		t.Fatal("missing, and not a word why")
	case math.IsNaN(r.Value) || math.IsInf(r.Value, 0):
		t.Fatalf("%v is no figure", r.Value)
	case r.Quality == fleet.Fresh && s.Plausible != nil && !s.Plausible(r.Value):
		t.Fatalf("%v cannot be true", r.Value)
	}
	return r, err
}

// figureSoon reads until there is a figure, which must be within the reads that the subject may take to warm up.
func (s *subject) figureSoon(t *testing.T) {
	t.Helper()
	for i := 0; ; i++ {
		r, err := s.read(t)
		switch {
		case err != nil:
			t.Fatalf("read %d: %v", i+1, err)
		case r.Quality == fleet.Fresh:
			return
		case i >= s.Warm:
			t.Fatalf("still %v after %d reads", r.Quality, i+1)
		}
	}
}

func (s *subject) missing(t *testing.T) {
	t.Helper()
	if r, err := s.read(t); err == nil {
		t.Fatalf("it is away, and the source says %v (%v)", r.Value, r.Quality)
	}
}

func figure(t *testing.T, s *subject) {
	s.figureSoon(t)
	for range 5 {
		if r, err := s.read(t); err != nil || r.Quality != fleet.Fresh {
			t.Fatalf("%v, %v", r.Quality, err)
		}
	}
}

func away(t *testing.T, s *subject) {
	s.figureSoon(t)
	s.Break(t)
	for range 3 {
		s.missing(t)
	}
}

func recovers(t *testing.T, s *subject) {
	for range 5 {
		s.figureSoon(t)
		s.Break(t)
		s.missing(t)
		s.Mend(t)
	}
	s.figureSoon(t)
}

func lateStart(t *testing.T, s *subject) {
	s.Break(t)
	s.missing(t)
	s.Mend(t)
	s.figureSoon(t)
}

func ended(t *testing.T, s *subject) {
	s.figureSoon(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := s.readWith(t, ctx, fleet.Scene{Now: s.now, Workers: s.Workers, WorkersKnown: true})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	s.figureSoon(t)
}

func hangs(t *testing.T, s *subject) {
	if s.Hang == nil {
		t.Skip("what it reads cannot hang")
	}
	s.figureSoon(t)
	release := s.Hang(t)
	s.now = s.now.Add(15 * time.Second) // the next tick: within one, an answer may be shared
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := s.readWith(t, ctx, fleet.Scene{Now: s.now, Workers: s.Workers, WorkersKnown: true})
	took := time.Since(start)
	release()
	if err == nil {
		t.Fatal("a figure from what does not answer")
	}
	if took > patience {
		t.Fatalf("it returned %v after its context had ended", took)
	}
	s.figureSoon(t)
}

func jumps(t *testing.T, s *subject) {
	s.figureSoon(t)
	for _, by := range []time.Duration{-time.Hour, time.Hour, 24 * 365 * time.Hour, -48 * 365 * time.Hour} {
		s.now = s.now.Add(by)
		s.figureSoon(t)
	}
}

func unknownWorkers(t *testing.T, s *subject) {
	s.figureSoon(t)
	if s.Tick != nil {
		s.Tick(t)
	}
	r, err := s.readWith(t, context.Background(), fleet.Scene{Now: s.now})
	if s.NeedsWorkers && err == nil {
		t.Fatalf("the workers are not known, and the source says %v (%v)", r.Value, r.Quality)
	}
	s.figureSoon(t)
}
