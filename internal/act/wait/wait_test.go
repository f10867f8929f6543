package wait

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Looks are farther and farther apart, until something is done.
func TestUntil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin, looks := time.Now(), []time.Duration{}
		err := Until(t.Context(), 100*time.Millisecond, 300*time.Millisecond, func() (Progress, error) {
			looks = append(looks, time.Since(begin))
			n := len(looks)
			return Progress{Acted: n == 4, Done: n == 6}, nil
		})
		want := []time.Duration{0, 100, 300, 600, 700, 900}
		for i := range want {
			if len(looks) != len(want) || looks[i] != want[i]*time.Millisecond {
				t.Fatalf("%v, looks at %v, want %v ms", err, looks, want)
			}
		}
		if err != nil {
			t.Error(err)
		}
	})
}

func TestUntilFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		if err := Until(t.Context(), time.Second, time.Second, func() (Progress, error) { return Progress{Done: true}, broken }); !errors.Is(err, broken) {
			t.Errorf("have %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		first := true
		err := Until(ctx, time.Second, time.Second, func() (p Progress, _ error) {
			if first {
				first, p.State = false, "1 of 2 workers serve"
			}
			return p, ctx.Err()
		})
		if !errors.Is(err, context.DeadlineExceeded) || !strings.HasPrefix(err.Error(), "1 of 2 workers serve: ") {
			t.Errorf("have %v", err)
		}
		// What went wrong in the very moment in which it ended is told too.
		if err := Until(ctx, time.Second, time.Second, func() (Progress, error) { return Progress{}, broken }); !errors.Is(err, broken) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("have %v", err)
		}
	})
}
