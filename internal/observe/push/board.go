package push

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"tidemark/internal/fleet"
)

// Board holds the latest value of each signal that takes pushes. The zero value is ready, and for several goroutines at once.
type Board struct {
	clock func() time.Time // monotonic; tests set it

	mu      sync.Mutex
	entries map[name]*entry
}

func (b *Board) now() time.Time {
	if b.clock == nil {
		return time.Now()
	}
	return b.clock()
}

// name is a signal of a fleet.
type name struct{ fleet, signal string }

type entry struct {
	source *Source // nil: no longer declared; the value stays, for a signal whose settings change in a reload
	unit   fleet.Unit
	value  float64
	at     time.Time // when it came; zero: nothing has
	expiry time.Duration
}

// Source declares a signal, from a valid configuration: from now on values are taken for it, until the Source is closed.
func (b *Board) Source(fleet, signal string, cfg Config) *Source {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := &Source{board: b, name: name{fleet, signal}, expiry: cfg.Expiry}
	e := b.entries[s.name]
	if b.entries == nil {
		b.entries = map[name]*entry{}
	}
	if e == nil || e.unit != cfg.MeasuredIn { // a value in another unit means nothing
		e = &entry{unit: cfg.MeasuredIn}
		b.entries[s.name] = e
	}
	e.source = s
	return s
}

// ErrUnknown says that no such signal takes pushes.
var ErrUnknown = errors.New("no such signal takes pushed values")

// Push takes a value in the signal's base unit: a number, percent (0..100), seconds or bytes. It is good for expiry, 1s..24h, or
// for the signal's own if that is 0. The error is ErrUnknown, or says why the value is refused.
func (b *Board) Push(fleet, signal string, value float64, expiry time.Duration) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entries[name{fleet, signal}]
	if e == nil || e.source == nil {
		return fmt.Errorf("%s of fleet %s: %w; declare it under the fleet's signals, as %s: {push: {}}", signal, fleet, ErrUnknown, signal)
	}
	if expiry == 0 {
		expiry = e.source.expiry
	}
	if err := fit(value, e.unit); err != nil {
		return err
	}
	if expiry < leastExpiry || expiry > mostExpiry {
		return fmt.Errorf("an expiry of %s is out of range: send 1s to 24h, or none", expiry)
	}
	e.value, e.at, e.expiry = value, b.now(), expiry
	return nil
}

// fit refuses what a unit cannot be.
func fit(v float64, u fleet.Unit) error {
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return fmt.Errorf("%v is no figure", v)
	case v < 0 && u != fleet.Number:
		return fmt.Errorf("%v is negative, and the signal is measured in %s", v, u)
	}
	return nil
}

// Source reads what was pushed for one signal.
type Source struct {
	board  *Board
	name   name
	expiry time.Duration
}

// Read returns the latest value. Stale: it is older than its expiry. Missing: it is older than twice that, or nothing was pushed
// since Tidemark was started. Age is the time that really passed: the wall clock may jump.
func (s *Source) Read(ctx context.Context, scene fleet.Scene) (fleet.Reading, error) {
	r := fleet.Reading{Time: scene.Now}
	if err := ctx.Err(); err != nil {
		return r, err
	}
	s.board.mu.Lock()
	defer s.board.mu.Unlock()
	e := s.board.entries[s.name]
	if e.at.IsZero() {
		return r, errors.New("no value was pushed since Tidemark was started")
	}
	age := s.board.now().Sub(e.at)
	late := fmt.Errorf("the last value was pushed %s ago, and is good for %s: does the program that pushes it still run?", fleet.Elapsed(age), fleet.Elapsed(e.expiry))
	switch {
	case age > 2*e.expiry:
		return r, late
	case age > e.expiry:
		r.Value, r.Quality = e.value, fleet.Stale
		return r, late
	}
	r.Value, r.Quality = e.value, fleet.Fresh
	return r, nil
}

// Close ends the declaration.
func (s *Source) Close() error {
	s.board.mu.Lock()
	defer s.board.mu.Unlock()
	if e := s.board.entries[s.name]; e.source == s {
		e.source = nil
	}
	return nil
}
