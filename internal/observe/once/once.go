// Package once is for signals that are read from one place: once a tick, who comes first asks, and the others share what it heard.
package once

import (
	"context"
	"time"
)

// Look is what was heard at the tick that was asked about last.
type Look[T any] struct {
	turn chan struct{} // holds one token: who has it may use the rest

	asked bool
	tick  time.Time
	heard T
	err   error
}

// NewLook makes a Look that has not asked yet.
func NewLook[T any]() *Look[T] { return &Look[T]{turn: make(chan struct{}, 1)} }

// At is what ask heard at a tick. No two ask at a time. A failure holds for the tick too, so that what hangs is waited for once.
func (l *Look[T]) At(ctx context.Context, tick time.Time, ask func(context.Context) (T, error)) (T, error) {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
	if !l.asked || !tick.Equal(l.tick) {
		l.heard, l.err = ask(ctx)
		l.asked, l.tick = true, tick
	}
	return l.heard, l.err
}
