package control

import (
	"context"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/record"
)

// Source reads one signal. Read is never called twice at once for one Source. It returns the reading stamped with
// the scene's time, or a Missing reading and an error that says why in an operator's words. A source must honour ctx, must
// never turn "could not read" into a number, and must recover by itself when what it reads comes back.
type Source interface {
	Read(ctx context.Context, scene fleet.Scene) (fleet.Reading, error)
}

// Derived computes one signal from what the sources said at the same tick. It does not wait for anything.
type Derived interface {
	// Derive returns the signal's reading from those of all signals, by their index; those of derived ones mean nothing.
	Derive(scene fleet.Scene, readings []fleet.Reading) (fleet.Reading, error)
}

// Target changes a fleet's size and says which workers exist.
type Target interface {
	// Workers reports the workers as they are now, read anew, never remembered.
	Workers(ctx context.Context) ([]fleet.Worker, error)
	// Scale moves the fleet to n workers and returns when that many serve (or when ctx ends). It is idempotent:
	// called again after a failure or a restart it goes on from what is there. Before a worker that still serves is stopped,
	// Scale calls drain on it and waits: drain takes the worker out of the balancer.
	Scale(ctx context.Context, n int, drain fleet.Drain) error
}

// Balancer spreads requests over the workers of a target that do not share one socket.
type Balancer interface {
	// Set makes exactly the serving workers take requests. It is level-triggered: called each tick, it changes
	// nothing when nothing changed, and repairs what was lost (a restarted proxy, an edited file).
	Set(ctx context.Context, workers []fleet.Worker) error
	// Drain is a fleet.Drain.
	Drain(ctx context.Context, w fleet.Worker) error
}

// Journal keeps what happened. Commit returns when all of it is durable (or none of it); calls made at the same time share
// one transaction.
type Journal interface {
	Commit(ctx context.Context, ticks ...record.Tick) error
	// State returns the state of the fleet's last committed tick and its time; nil when there is none.
	State(ctx context.Context, fleet string) (state []byte, at time.Time, err error)
	// Series returns one signal's history in time order.
	Series(ctx context.Context, q record.SeriesQuery) ([]record.Point, error)
}

// Lease says whether this daemon leads, where others stand by.
type Lease interface {
	// Held returns nil while no other daemon can lead, and else why that is not known. It asks nobody.
	Held() error
	// Lead proves anew that this daemon leads, and returns a context for what is done now: it ends when that can no longer be vouched for.
	Lead(ctx context.Context) (context.Context, error)
}

// Spool keeps on this host's disk the ticks that the journal could not take, for this daemon or the one after it. Its methods may be called
// at the same time, for different fleets.
type Spool interface {
	// Keep adds one tick.
	Keep(t record.Tick) error
	// Recover has commit take what was kept of a fleet, oldest first and a part at a time, and drops it. After an error it goes on where it was.
	Recover(ctx context.Context, fleet string, commit func(...record.Tick) error) error
}

// alone is the lease of a daemon that nobody stands by.
type alone struct{}

func (alone) Held() error                                       { return nil }
func (alone) Lead(ctx context.Context) (context.Context, error) { return ctx, nil }
