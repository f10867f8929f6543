package copies

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"tidemark/internal/act/wait"
)

// Life is one life of a copy: what is started again under the same ID is another.
type Life struct {
	ID      string
	Started time.Time
}

// Meter tells which copies are the least utilised, by the CPU time that they have used since it looked before. Its zero value is
// ready. The latest looks at the copies that are asked about are kept, and those of others forgotten.
type Meter struct {
	mu   sync.Mutex
	used map[Life][]look // the last two that are apart, the later one last
}

// look is the CPU time that a copy has used in its life, at one moment.
type look struct {
	ns uint64
	at time.Time
}

// apart is how far two looks that are compared are from each other, at least.
const apart = 500 * time.Millisecond

// Note looks at the copies, for a later Utilisation to compare with. Of a single one nobody wants to know. What could not be read
// stays unknown. read returns the CPU time in nanoseconds.
func (m *Meter) Note(ctx context.Context, all []Life, read func(context.Context, Life) (uint64, error)) {
	if len(all) > 1 {
		_, _ = m.look(ctx, all, read)
	}
}

// Utilisation is how much of a core each copy has used since the look before, in thousandths, in the order of all. It waits only
// for copies that were not looked at before.
func (m *Meter) Utilisation(ctx context.Context, all []Life, read func(context.Context, Life) (uint64, error)) ([]uint64, error) {
	now, err := m.look(ctx, all, read)
	if err != nil {
		return nil, err
	}
	left := time.Duration(0)
	for i, life := range all {
		left = max(left, apart-now[i].at.Sub(m.earlier(life, now[i]).at))
	}
	if left > 0 {
		if err := wait.For(ctx, left); err != nil {
			return nil, err
		}
		if now, err = m.look(ctx, all, read); err != nil {
			return nil, err
		}
	}
	busy := make([]uint64, len(all))
	for i, life := range all {
		since := m.earlier(life, now[i])
		if took := now[i].at.Sub(since.at); took > 0 && now[i].ns > since.ns {
			busy[i] = 1000 * (now[i].ns - since.ns) / uint64(took)
		}
	}
	return busy, nil
}

// earlier is the latest look at a copy that is apart from now, or the first.
func (m *Meter) earlier(life Life, now look) look {
	m.mu.Lock()
	defer m.mu.Unlock()
	seen := m.used[life]
	if len(seen) == 0 {
		return now // somebody else asked meanwhile, and it had gone
	}
	if last := seen[len(seen)-1]; now.at.Sub(last.at) >= apart {
		return last
	}
	return seen[0]
}

func (m *Meter) look(ctx context.Context, all []Life, read func(context.Context, Life) (uint64, error)) ([]look, error) {
	now := make([]look, len(all))
	var g errgroup.Group
	g.SetLimit(16)
	for i, life := range all {
		g.Go(func() error {
			ns, err := read(ctx, life)
			now[i] = look{ns, time.Now()}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	kept := make(map[Life][]look, len(all))
	for i, life := range all {
		seen := m.used[life]
		if n := len(seen); n == 0 || now[i].at.Sub(seen[n-1].at) >= apart {
			seen = append(seen[max(0, n-1):], now[i])
		}
		kept[life] = seen
	}
	m.used = kept
	return now, nil
}
