package docker

import (
	"context"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// usage is the CPU time that a copy has used in its life, at one moment.
type usage struct {
	ns uint64
	at time.Time
}

// apart is how far two looks at CPU times are from each other, at least.
const apart = 500 * time.Millisecond

// note looks at the copies' CPU times, for a later scaling to compare with. Of a single one nobody wants to know. What could not be
// read stays unknown.
func (t *Target) note(ctx context.Context, own []member) {
	if len(own) > 1 {
		_, _ = t.usages(ctx, own)
	}
}

// utilisation is how much of a core each copy has used since the look before, in thousandths. It waits only for copies that were not
// looked at before.
func (t *Target) utilisation(ctx context.Context, own []member) (map[string]uint64, error) {
	now, err := t.usages(ctx, own)
	if err != nil {
		return nil, err
	}
	wait := time.Duration(0)
	for i, m := range own {
		wait = max(wait, apart-now[i].at.Sub(t.earlier(m, now[i]).at))
	}
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-timer.C:
		}
		if now, err = t.usages(ctx, own); err != nil {
			return nil, err
		}
	}
	busy := make(map[string]uint64, len(own))
	for i, m := range own {
		since := t.earlier(m, now[i])
		if took := now[i].at.Sub(since.at); took > 0 && now[i].ns > since.ns {
			busy[m.ID] = 1000 * (now[i].ns - since.ns) / uint64(took)
		}
	}
	return busy, nil
}

// earlier is the latest look at a copy that is apart from now, or the first.
func (t *Target) earlier(m member, now usage) usage {
	t.mu.Lock()
	defer t.mu.Unlock()
	seen := t.used[m.ID]
	if len(seen) == 0 {
		return now // it has just gone
	}
	if last := seen[len(seen)-1]; now.at.Sub(last.at) >= apart {
		return last
	}
	return seen[0]
}

// usages asks for the copies' CPU times, and keeps the last two looks at each that are apart. Those of an earlier life of a copy do not
// count.
func (t *Target) usages(ctx context.Context, own []member) ([]usage, error) {
	all := make([]usage, len(own))
	var g errgroup.Group
	g.SetLimit(16)
	for i, m := range own {
		g.Go(func() error {
			ns, err := t.engine.cpuTime(ctx, m.ID)
			all[i] = usage{ns, time.Now()}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, m := range own {
		seen := slices.DeleteFunc(t.used[m.ID], func(u usage) bool { return u.at.Before(m.State.StartedAt) })
		if n := len(seen); n == 0 || all[i].at.Sub(seen[n-1].at) >= apart {
			seen = append(seen[max(0, n-1):], all[i])
		}
		t.used[m.ID] = seen
	}
	return all, nil
}
