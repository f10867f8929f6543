package once

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"
)

var errAway = errors.New("away")

func TestLook(t *testing.T) {
	l := NewLook[int]()
	asked := 0
	ask := func(context.Context) (int, error) {
		if asked++; asked == 2 {
			return 0, errAway
		}
		return asked, nil
	}
	for i, c := range []struct {
		tick time.Time
		want int
		err  error
	}{
		{time.Time{}, 1, nil}, // also a tick that equals the zero time
		{time.Unix(15, 0), 0, errAway},
		{time.Unix(30, 0), 3, nil},
	} {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if have, err := l.At(t.Context(), c.tick, ask); have != c.want || !errors.Is(err, c.err) {
					t.Errorf("tick %d: want %d, %v, have %d, %v", i, c.want, c.err, have, err)
				}
			})
		}
		wg.Wait()
	}
	if asked != 3 {
		t.Errorf("want one question a tick, have %d", asked)
	}
}

func TestWhoWaitsMayGiveUp(t *testing.T) {
	l := NewLook[int]()
	asking, answer := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		if have, err := l.At(t.Context(), time.Unix(15, 0), func(context.Context) (int, error) { close(asking); <-answer; return 1, nil }); have != 1 || err != nil {
			t.Error(have, err)
		}
	})
	<-asking
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.At(ctx, time.Unix(15, 0), nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(answer)
	wg.Wait()
}
