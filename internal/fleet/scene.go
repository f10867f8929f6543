package fleet

import (
	"context"
	"time"
)

// Scene is what a source is told when it is read: the time of the tick and the fleet's workers as its target
// reports them now.
type Scene struct {
	Now     time.Time
	Workers []Worker
	// WorkersKnown is false when the target could not be read: then Workers is empty and proves nothing.
	WorkersKnown bool
}

// Drain takes one worker out of the balancer and returns when no request is on its way to it.
type Drain func(ctx context.Context, w Worker) error
