package elsewhere

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tidemark/internal/config"
	"tidemark/internal/show/web"
)

var tonga = []config.Daemon{{URL: "https://tonga.example:8460"}}

// One that does not answer is away since it was last heard, keeps what was said then apart, and is back with its first answer.
func TestAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		e := Start(tonga, func(context.Context, config.Daemon) (*web.Overview, error) {
			if down.Load() {
				return nil, errors.New("no route")
			}
			return &web.Overview{Instance: "dfr-tonga"}, nil
		})
		defer e.Close()
		begin := time.Now()
		synctest.Wait()
		d := e.Daemons()[0]
		if d.Name != "dfr-tonga" || !d.Away.IsZero() || d.Overview == nil || !d.Heard.Equal(begin) {
			t.Fatalf("at first: %+v", d)
		}
		down.Store(true)
		time.Sleep(time.Hour)
		synctest.Wait()
		d = e.Daemons()[0]
		if !d.Away.Equal(d.Heard) || d.Err != "no route" || time.Since(d.Away) < 50*time.Minute || d.Name != "dfr-tonga" {
			t.Fatalf("away: %+v", d)
		}
		down.Store(false)
		synctest.Wait() // the look has waked it
		if d = e.Daemons()[0]; !d.Away.IsZero() || d.Err != "" || !d.Heard.Equal(time.Now()) {
			t.Fatalf("back: %+v", d)
		}
	})
}

// One that was never heard is away since it was first asked.
func TestNeverHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := Start(tonga, func(context.Context, config.Daemon) (*web.Overview, error) { return nil, errors.New("refused") })
		defer e.Close()
		begin := time.Now()
		time.Sleep(20 * time.Minute)
		if d := e.Daemons()[0]; d.Name != "tonga.example:8460" || !d.Away.Equal(begin) || !d.Heard.IsZero() || d.Overview != nil {
			t.Errorf("%+v", d)
		}
	})
}

// While nobody looks they are asked seldom.
func TestAskedOftenOnlyWhileSomebodyLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		e := Start(tonga, func(context.Context, config.Daemon) (*web.Overview, error) {
			asked.Add(1)
			return &web.Overview{}, nil
		})
		defer e.Close()
		time.Sleep(time.Hour - time.Second)
		synctest.Wait()
		if n := asked.Swap(0); n != 12 {
			t.Errorf("asked %d times in an hour in which nobody looked", n)
		}
		for range 240 { // somebody looks for an hour
			e.Daemons()
			time.Sleep(15 * time.Second)
		}
		synctest.Wait()
		if n := asked.Load(); n < 239 || n > 242 {
			t.Errorf("asked %d times in an hour of looking", n)
		}
	})
}
