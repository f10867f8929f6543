package proxy

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func testPlan(change func(*Config)) *plan {
	cfg := DefaultConfig()
	cfg.MaxInFlight = 1
	cfg.Classes = []Class{
		{Name: "sync", Priority: 1, Routes: []string{"/sync"}},
		{Name: "report", Priority: 8, Routes: []string{"/report"}},
	}
	if change != nil {
		change(&cfg)
	}
	if err := cfg.Validate(); err != nil {
		panic(err)
	}
	return newPlan(cfg, nil)
}

func endpointsNamed(ids ...string) (list []Endpoint) {
	for i, id := range ids {
		list = append(list, Endpoint{id, fmt.Sprintf("127.0.0.1:%d", 1+i)})
	}
	return list
}

// asker makes requests of a pool in the background, in the order in which they are asked for.
type asker struct {
	p      *pool
	served []string // paths in the order in which they got a worker
	lost   map[string]error
	hold   []*worker
}

// ask lets one request wait until a worker is given; call in a synctest bubble.
func (a *asker) ask(ctx context.Context, path string) {
	go func() {
		c := a.p.plan.classes[a.p.plan.rank(path)]
		w, err := a.p.acquire(ctx, path, c.timeout, false, func(int64) {})
		a.p.mu.Lock()
		defer a.p.mu.Unlock()
		if err != nil {
			a.lost[path] = err
			return
		}
		a.served = append(a.served, path)
		a.hold = append(a.hold, w)
	}()
	synctest.Wait()
}

func (a *asker) release() {
	w := a.hold[0]
	a.hold = a.hold[1:]
	a.p.release(w, false)
	synctest.Wait()
}

// rest lets time pass. The lock orders what this goroutine has read before what others write, for the race detector.
func (a *asker) rest(d time.Duration) {
	a.p.mu.Lock()
	a.p.mu.Unlock() //nolint:staticcheck // see above
	time.Sleep(d)
	synctest.Wait()
	a.p.mu.Lock()
	a.p.mu.Unlock() //nolint:staticcheck // see above
}

// why is what became of a request that got no worker.
func (a *asker) why(path string) error {
	a.p.mu.Lock()
	defer a.p.mu.Unlock()
	return a.lost[path]
}

func newAsker(p *plan) *asker { return &asker{p: newPool(p), lost: map[string]error{}} }

func TestQueueServesTheImportantFirstAndEachClassInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAsker(testPlan(nil))
		defer a.p.close()
		for _, path := range []string{"/report/1", "/web/1", "/sync/1", "/report/2", "/sync/2", "/web/2"} {
			a.ask(t.Context(), path)
		}
		if len(a.served) != 0 {
			t.Fatalf("served %v without a worker", a.served)
		}
		a.p.set(endpointsNamed("w1"))
		synctest.Wait()
		for len(a.hold) > 0 {
			a.release()
		}
		want := []string{"/sync/1", "/sync/2", "/web/1", "/web/2", "/report/1", "/report/2"}
		if !slices.Equal(a.served, want) {
			t.Errorf("served %v, want %v", a.served, want)
		}
	})
}

func TestAFullQueueShedsTheNewestOfTheLeastImportant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAsker(testPlan(func(c *Config) { c.Queue.Limit = 3 }))
		defer a.p.close()
		for _, path := range []string{"/report/1", "/report/2", "/web/1"} {
			a.ask(t.Context(), path)
		}
		a.ask(t.Context(), "/report/3") // nothing is less important: it is refused itself
		a.ask(t.Context(), "/sync/1")   // displaces report 2
		a.ask(t.Context(), "/web/2")    // displaces report 1
		a.ask(t.Context(), "/web/3")    // as important as what waits: refused
		a.ask(t.Context(), "/sync/2")   // displaces web 2
		for path, want := range map[string]bool{
			"/report/1": true, "/report/2": true, "/report/3": true, "/web/2": true, "/web/3": true,
			"/web/1": false, "/sync/1": false, "/sync/2": false,
		} {
			if got := errors.Is(a.why(path), errShed); got != want {
				t.Errorf("%s shed: %v, want %v", path, got, want)
			}
		}
	})
}

func TestAClassTakesNoMoreThanItsPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAsker(testPlan(func(c *Config) { c.Classes[0].QueueLimit = 1 }))
		defer a.p.close()
		a.ask(t.Context(), "/sync/1")
		a.ask(t.Context(), "/sync/2")
		a.ask(t.Context(), "/report/1")
		if len(a.lost) != 1 || !errors.Is(a.why("/sync/2"), errShed) {
			t.Errorf("lost %v, want sync 2 shed", a.lost)
		}
	})
}

func TestNothingWaitsLongerThanItsTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAsker(testPlan(func(c *Config) { c.Classes[1].QueueTimeout = 5 * time.Second }))
		defer a.p.close()
		start := time.Now()
		a.ask(t.Context(), "/sync/1")
		a.ask(t.Context(), "/report/1")
		a.rest(5 * time.Second)
		if !errors.Is(a.why("/report/1"), errTooLong) || a.why("/sync/1") != nil {
			t.Errorf("after 5s lost %v, want the report", a.lost)
		}
		a.rest(25 * time.Second)
		if !errors.Is(a.why("/sync/1"), errTooLong) {
			t.Errorf("after %s lost %v, want the sync too", time.Since(start), a.lost)
		}
		if a.p.waiting != 0 {
			t.Errorf("%d still counted as waiting", a.p.waiting)
		}
	})
}

func TestAClientThatLeavesFreesItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAsker(testPlan(func(c *Config) { c.Queue.Limit = 1 }))
		defer a.p.close()
		ctx, leave := context.WithCancel(t.Context())
		a.ask(ctx, "/sync/1")
		leave()
		synctest.Wait()
		a.ask(t.Context(), "/sync/2")
		if !errors.Is(a.why("/sync/1"), context.Canceled) || a.why("/sync/2") != nil || a.p.waiting != 1 {
			t.Errorf("lost %v, %d waiting; want the first gone and the second waiting", a.lost, a.p.waiting)
		}
	})
}

func TestTheLeastOccupiedTakesTheNextAndTiesGoRound(t *testing.T) {
	p := newPool(testPlan(func(c *Config) { c.MaxInFlight = 0 }))
	defer p.close()
	p.set(endpointsNamed("a", "b", "c"))
	take := func() *worker {
		t.Helper()
		w, err := p.acquire(t.Context(), "/", time.Second, false, func(int64) {})
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	var order string
	var held []*worker
	for range 6 {
		w := take()
		held = append(held, w)
		order += w.ID
	}
	if order != "abcabc" {
		t.Errorf("six requests went to %s, want abcabc", order)
	}
	p.release(held[1], false) // b has one, the others two
	if w := take(); w.ID != "b" {
		t.Errorf("the next went to %s, want b", w.ID)
	}
}

func TestAWorkerThatCannotBeReachedRestsLongerEachTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAsker(testPlan(func(c *Config) { c.MaxInFlight = 0; c.Queue.Timeout = time.Minute }))
		defer a.p.close()
		a.p.set(endpointsNamed("dead"))
		start := time.Now()
		var tries []time.Duration
		for range 7 {
			w, err := a.p.acquire(t.Context(), "/", time.Minute, true, func(int64) {})
			if err != nil {
				t.Fatal(err)
			}
			tries = append(tries, time.Since(start))
			if w2 := a.p.pick(); len(tries) > 1 && w2 != nil {
				t.Errorf("try %d: a second request may go to the suspect", len(tries))
			}
			a.p.unreachable(w)
		}
		want := []time.Duration{0, 100, 300, 700, 1500, 3100, 5100}
		for i := range want {
			want[i] *= time.Millisecond
		}
		if !slices.Equal(tries, want) {
			t.Errorf("tried after %v, want %v", tries, want)
		}
		w, err := a.p.acquire(t.Context(), "/", time.Minute, true, func(int64) {})
		if err != nil {
			t.Fatal(err)
		}
		a.p.reached(w)
		if a.p.pick() == nil {
			t.Error("a worker that was reached is still suspect")
		}
	})
}

func TestATryThatEndsWithoutAnAnswerLetsTheNextTry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(testPlan(nil))
		defer p.close()
		p.set(endpointsNamed("w"))
		get := func() *worker {
			w, err := p.acquire(t.Context(), "/", time.Minute, false, func(int64) {})
			if err != nil {
				t.Fatal(err)
			}
			return w
		}
		p.unreachable(get())
		p.release(get(), false) // the client left while it was dialled
		get()                   // must not wait for ever
	})
}

func TestBusyIsTheShareOfSlotSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(testPlan(nil))
		defer p.close()
		p.set(endpointsNamed("a", "b"))
		time.Sleep(10 * time.Second) // 20 slot-seconds, none busy
		w, err := p.acquire(t.Context(), "/", time.Second, false, func(int64) {})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Second) // 60, 30 busy
		p.set(endpointsNamed("a", "b", "c", "d"))
		time.Sleep(10 * time.Second) // 40, 10 busy
		p.release(w, false)
		time.Sleep(10 * time.Second) // 40
		var s Stats
		p.stats(&s)
		if math.Abs(s.Busy-40) > 1e-6 || math.Abs(s.Slots-160) > 1e-6 {
			t.Errorf("busy %v of %v slot-seconds, want 40 of 160", s.Busy, s.Slots)
		}
	})
}

func TestADrainedWorkerStaysOutUntilItIsListedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(testPlan(nil))
		defer p.close()
		both := endpointsNamed("a", "b")
		p.set(both)
		if err := p.drain(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		p.set(both) // made before the drain
		if got := p.list(); len(got) != 1 || got[0].ID != "b" {
			t.Errorf("in service %v right after the drain, want b", got)
		}
		time.Sleep(drainHold)
		p.set(both)
		if got := p.list(); len(got) != 2 {
			t.Errorf("in service %v when listed again later, want both", got)
		}
	})
}

func TestADrainWaitsForWhatIsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(testPlan(nil))
		defer p.close()
		p.set(endpointsNamed("a"))
		w, err := p.acquire(t.Context(), "/", time.Second, false, func(int64) {})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 2)
		go func() { done <- p.drain(t.Context(), "a") }()
		synctest.Wait()
		p.set(nil) // the daemon's next list no longer has it: still the same worker
		go func() { done <- p.drain(t.Context(), "a") }()
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("drained with a request in flight (%v)", err)
		default:
		}
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := p.drain(short, "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a drain that may not wait: %v", err)
		}
		p.release(w, false)
		synctest.Wait()
		if len(done) != 2 {
			t.Errorf("%d of 2 drains ended with the request", len(done))
		}
		if err := p.drain(t.Context(), "nobody"); err != nil {
			t.Errorf("drain of an unknown worker: %v", err)
		}
	})
}

// Whatever happens in whatever order: no request waits while a worker is ready, no worker has more than its limit, all
// counts are what they count, and in the end everything is at rest.
func TestPoolInvariants(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			limit := rapid.IntRange(0, 2).Draw(rt, "max in flight")
			a := newAsker(testPlan(func(c *Config) {
				c.MaxInFlight = limit
				c.Queue.Limit = rapid.IntRange(0, 6).Draw(rt, "queue limit")
			}))
			defer a.p.close()
			n := 0
			for range rapid.IntRange(1, 60).Draw(rt, "steps") {
				switch rapid.IntRange(0, 6).Draw(rt, "step") {
				case 0, 1, 2:
					n++
					a.ask(t.Context(), fmt.Sprintf("/%s/%d", rapid.SampledFrom([]string{"sync", "web", "report"}).Draw(rt, "class"), n))
				case 3:
					if len(a.hold) > 0 {
						a.release()
					}
				case 4:
					a.p.set(endpointsNamed([]string{"a", "b", "c"}[:rapid.IntRange(0, 3).Draw(rt, "workers")]...))
					synctest.Wait()
				case 5:
					if len(a.hold) > 0 {
						w := a.hold[0]
						a.hold = a.hold[1:]
						a.p.unreachable(w)
					}
					synctest.Wait()
				case 6:
					a.rest(150 * time.Millisecond)
				}
				a.p.mu.Lock()
				waiting, occupied := 0, 0
				for i := range a.p.queues {
					for w := a.p.queues[i].head; w != nil; w = w.next {
						waiting++
					}
				}
				for _, w := range a.p.workers {
					occupied += min(w.inFlight, a.p.slotsOf())
					if limit > 0 && w.inFlight > limit {
						rt.Errorf("%s has %d in flight, limit %d", w.ID, w.inFlight, limit)
					}
				}
				if waiting != a.p.waiting || occupied != a.p.occupied {
					rt.Errorf("counted %d waiting, %d occupied; kept %d and %d", waiting, occupied, a.p.waiting, a.p.occupied)
				}
				if waiting > 0 && a.p.pick() != nil {
					rt.Errorf("%d wait while a worker is ready", waiting)
				}
				a.p.mu.Unlock()
			}
			for len(a.hold) > 0 {
				a.release()
			}
			a.rest(2 * time.Minute)
			if a.p.waiting != 0 || len(a.served)+len(a.lost) != n {
				rt.Errorf("%d wait; %d served and %d lost of %d", a.p.waiting, len(a.served), len(a.lost), n)
			}
			for len(a.hold) > 0 {
				a.release()
			}
			for _, w := range slices.Concat(a.p.workers, a.p.leaving) {
				if w.inFlight != 0 {
					rt.Errorf("%s is left with %d in flight", w.ID, w.inFlight)
				}
			}
		})
	})
}

// With one worker that takes a second each, "other" may wait 3 s: the fourth that would have to wait is refused at once, and told by how much
// the queue is too long. What is more important waits before those, so it is still let in.
func TestWhatWouldWaitInVainIsRefusedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAsker(testPlan(func(c *Config) { c.Queue.Timeout = 3 * time.Second; c.Classes[1].QueueTimeout = 30 * time.Second }))
		defer a.p.close()
		a.p.set(endpointsNamed("w1"))
		for i := range 20 { // its pace is seen
			a.ask(t.Context(), fmt.Sprintf("/web/%d", i))
			a.rest(time.Second)
			a.release()
		}
		for _, path := range []string{"/web/a", "/web/b", "/web/c", "/web/d", "/web/e"} {
			a.ask(t.Context(), path)
		}
		var late *tooLong
		if err := a.why("/web/e"); !errors.As(err, &late) || !errors.Is(err, errShed) || late.over != time.Second {
			t.Fatalf("the fifth: %v", err)
		}
		for _, path := range []string{"/web/b", "/web/c", "/web/d"} {
			if err := a.why(path); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
		a.ask(t.Context(), "/sync/a")
		a.ask(t.Context(), "/report/a") // the least important, but it has time
		for _, path := range []string{"/sync/a", "/report/a"} {
			if err := a.why(path); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
		a.p.set(endpointsNamed("w1", "w2", "w3")) // three times the pace: three of those that wait are served, and there is room again
		synctest.Wait()
		a.ask(t.Context(), "/web/f")
		if err := a.why("/web/f"); err != nil {
			t.Errorf("with three workers: %v", err)
		}
	})
}

// A worker that hangs is seen before it ends anything; after a rest nothing of it is left.
func TestAStallIsSeenAndForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAsker(testPlan(func(c *Config) { c.Queue.Timeout = 5 * time.Second }))
		defer a.p.close()
		a.p.set(endpointsNamed("w1"))
		a.ask(t.Context(), "/web/hangs")
		a.ask(t.Context(), "/web/waits")
		a.rest(6 * time.Second)
		if err := a.why("/web/waits"); !errors.Is(err, errTooLong) {
			t.Errorf("it waited for its time: %v", err)
		}
		a.ask(t.Context(), "/web/refused")
		if err := a.why("/web/refused"); !errors.Is(err, errShed) {
			t.Errorf("nothing ends for 6 s, and this waits: %v", err)
		}
		a.release()
		a.rest(time.Minute)
		a.ask(t.Context(), "/web/1")
		a.ask(t.Context(), "/web/2")
		if err := a.why("/web/2"); err != nil {
			t.Errorf("after a rest: %v", err)
		}
	})
}
