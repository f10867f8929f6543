// Package wait holds how targets and balancers wait for what others do: engines, masters, cluster controllers, balancers.
package wait

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// For waits for d. It returns ctx's error when that ends before.
func For(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Progress is how far a scaling is.
type Progress struct {
	State string // in words; empty: as before
	Acted bool   // something was done, whose effect will soon be seen
	Done  bool
}

// Until has step look and do what is due, again and again, until it is done or fails. The time between two looks doubles from first to
// last, and begins anew when something was done. When ctx ends, the error says how far it came.
func Until(ctx context.Context, first, last time.Duration, step func() (Progress, error)) error {
	state := "nothing is known yet"
	for pause := first; ; pause = min(2*pause, last) {
		p, err := step()
		if p.State != "" {
			state = p.State
		}
		switch {
		case err == nil && p.Done:
			return nil
		case err != nil && ctx.Err() == nil:
			return err
		}
		if p.Acted {
			pause = first
		}
		if ended := For(ctx, pause); ended != nil {
			if err != nil && !errors.Is(err, ended) {
				return fmt.Errorf("%w: %w", err, ended)
			}
			return fmt.Errorf("%s: %w", state, ended)
		}
	}
}
