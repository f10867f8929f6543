package copies

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"
)

// Copy is one that may leave.
type Copy struct {
	Life
	Slot   int
	Made   time.Time
	Serves bool
}

// Lives are what a Meter knows copies by.
func Lives[C any](all []C, of func(C) Copy) []Life {
	lives := make([]Life, len(all))
	for i, c := range all {
		lives[i] = of(c).Life
	}
	return lives
}

// Order sorts what stands for copies by what is lost least with them: one that does not serve before one that does, the idle before the
// busy, the young before the old. How busy they are is asked only when it matters: when some that serve leave, and keep stay.
func Order[C any](ctx context.Context, m *Meter, all []C, keep int, of func(C) Copy, read func(context.Context, Life) (uint64, error)) error {
	serving := 0
	for _, c := range all {
		if of(c).Serves {
			serving++
		}
	}
	busy := map[Life]uint64{}
	if keep > 0 && serving > keep {
		lives := Lives(all, of)
		used, err := m.Utilisation(ctx, lives, read)
		if err != nil {
			return fmt.Errorf("see which worker is the least utilised: %w", err)
		}
		for i, life := range lives {
			busy[life] = used[i]
		}
	}
	rank := func(c Copy) int {
		if c.Serves {
			return 1
		}
		return 0
	}
	slices.SortFunc(all, func(x, y C) int {
		a, b := of(x), of(y)
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(busy[a.Life], busy[b.Life]), b.Made.Compare(a.Made), cmp.Compare(b.Slot, a.Slot))
	})
	return nil
}
