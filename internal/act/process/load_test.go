package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tidemark/internal/fleet"
)

// balancer is a small round robin over a target's serving workers: it counts what is in flight, retries what could not
// be dialled, and drains.
type balancer struct {
	target  *Target
	mu      sync.Mutex
	changed *sync.Cond
	workers []*backend
	left    []*backend // no longer given requests; some may be on their way still
	next    int
}

type backend struct {
	fleet.Worker
	transport *http.Transport // its own: a connection left open without a request holds a server's shutdown up for 5 s
	inFlight  int
}

func newBalancer(t *testing.T, target *Target) *balancer {
	b := &balancer{target: target}
	b.changed = sync.NewCond(&b.mu)
	t.Cleanup(func() {
		for _, w := range b.workers {
			w.transport.CloseIdleConnections()
		}
	})
	return b
}

func same(a, b fleet.Worker) bool { return a.ID == b.ID && a.PID == b.PID }

// sync reads the workers under the lock that Drain takes, so that an old list never brings a drained worker back.
func (b *balancer) sync(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	ws, err := b.target.Workers(ctx)
	if err != nil {
		return err
	}
	var now []*backend
	for _, w := range ws {
		if w.Phase != fleet.Serving {
			continue
		}
		i := slices.IndexFunc(b.workers, func(o *backend) bool { return same(o.Worker, w) })
		if i < 0 {
			now = append(now, &backend{Worker: w, transport: &http.Transport{MaxIdleConnsPerHost: 64}})
		} else {
			now = append(now, b.workers[i])
		}
	}
	for _, o := range b.workers {
		if !slices.Contains(now, o) {
			o.transport.CloseIdleConnections()
			b.left = append(b.left, o)
		}
	}
	b.workers = now
	return nil
}

// Drain waits for the requests of a worker that sync may have taken out already.
func (b *balancer) Drain(ctx context.Context, w fleet.Worker) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, o := range slices.Concat(b.workers, b.left) {
		if !same(o.Worker, w) {
			continue
		}
		b.workers = slices.DeleteFunc(slices.Clone(b.workers), func(x *backend) bool { return x == o })
		for o.inFlight > 0 {
			b.changed.Wait()
		}
		o.transport.CloseIdleConnections()
		b.left = slices.DeleteFunc(b.left, func(x *backend) bool { return x == o })
	}
	return ctx.Err()
}

// pick takes the next backend that was not tried.
func (b *balancer) pick(tried []*backend) *backend {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range b.workers {
		b.next++
		if w := b.workers[b.next%len(b.workers)]; !slices.Contains(tried, w) {
			w.inFlight++
			return w
		}
	}
	return nil
}

// do sends one request and returns the worker that had it.
func (b *balancer) do(path string) (fleet.Worker, error) {
	var tried []*backend
	for {
		w := b.pick(tried)
		if w == nil {
			return fleet.Worker{}, fmt.Errorf("no worker, %d tried", len(tried))
		}
		err := b.send(w, path)
		b.mu.Lock()
		w.inFlight--
		b.changed.Broadcast()
		b.mu.Unlock()
		var op *net.OpError
		if errors.As(err, &op) && op.Op == "dial" {
			tried = append(tried, w)
			continue
		}
		return w.Worker, err
	}
}

func (b *balancer) send(w *backend, path string) error {
	client := http.Client{Transport: w.transport, Timeout: 20 * time.Second}
	// POST: a GET that fails is sent again by net/http itself, unseen.
	resp, err := client.Post("http://"+w.Address+path, "text/plain", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode != http.StatusOK || string(body) != fmt.Sprint(w.PID)) {
		err = fmt.Errorf("%s: %q from %+v", resp.Status, body, w.Worker)
	}
	return err
}

// load is an open-loop load: requests leave on time, whatever happened to those before.
type load struct {
	sent   atomic.Int64
	mu     sync.Mutex
	failed map[fleet.Worker][]error
	stop   func()
}

func startLoad(t *testing.T, b *balancer, perSecond int, path func() string) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{failed: map[fleet.Worker][]error{}}
	var wg sync.WaitGroup
	l.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(l.stop)
	wg.Go(func() { // the control loop's part
		for pause(ctx, 10*time.Millisecond) == nil {
			if err := b.sync(ctx); err != nil && ctx.Err() == nil {
				t.Error(err)
				return
			}
		}
	})
	wg.Go(func() {
		every := time.Second / time.Duration(perSecond)
		for due := time.Now(); pause(ctx, time.Until(due)) == nil; due = due.Add(every) {
			wg.Go(func() {
				l.sent.Add(1)
				if w, err := b.do(path()); err != nil {
					l.mu.Lock()
					l.failed[w] = append(l.failed[w], err)
					l.mu.Unlock()
				}
			})
		}
	})
	return l
}

// A thousand workers leave under load, and no request fails.
func TestScaleInsUnderLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: 1,000 scale-ins")
	}
	const low, high, want = 2, 6, 1000
	cfg := fastConfig(t, high)
	cfg.Health.Interval = 200 * time.Millisecond
	target := start(t, cfg, stateDir(t))
	b := newBalancer(t, target)
	scale(t, target, low)
	if err := b.sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	l := startLoad(t, b, 200, func() string { return fmt.Sprintf("/work?d=%dms", rand.IntN(8)) })
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	gone := map[int]bool{}
	var ups, downs time.Duration
	for len(gone) < want {
		at := time.Now()
		if err := target.Scale(ctx, high, b.Drain); err != nil {
			t.Fatalf("after %d scale-ins: %v", len(gone), err)
		}
		ups += time.Since(at)
		at = time.Now()
		before := pids(workers(t, target))
		if err := target.Scale(ctx, low, b.Drain); err != nil {
			t.Fatalf("after %d scale-ins: %v", len(gone), err)
		}
		downs += time.Since(at)
		after := pids(workers(t, target))
		for id, pid := range before {
			if after[id] != pid {
				gone[pid] = true
			}
		}
		if len(after) != low {
			t.Fatalf("want %d workers, have %v", low, after)
		}
	}
	l.stop()
	if s := target.Status(); s.Killed > 0 || s.Restarts > 0 {
		t.Errorf("workers were killed or died: %+v", s)
	}
	for w, errs := range l.failed {
		t.Errorf("%d requests failed at %+v: %v", len(errs), w, errs[0])
	}
	undrained := 0
	for i := 1; i <= high; i++ {
		for _, ext := range []string{"", ".1"} {
			log, _ := os.ReadFile(fmt.Sprintf("%s/test-%d.log%s", target.logs, i, ext))
			undrained += strings.Count(string(log), "in flight at TERM")
		}
	}
	if undrained > 0 {
		t.Errorf("%d workers were stopped with requests in flight", undrained)
	}
	t.Logf("%d scale-ins in %v (up %v, down %v), %d requests, %d workers with failures", len(gone),
		time.Since(began).Round(time.Second), ups.Round(time.Second), downs.Round(time.Second), l.sent.Load(), len(l.failed))
}

// A worker is killed: it is replaced, and only the requests that it had fail.
func TestKilledWorkerUnderLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: load")
	}
	const n, kills = 4, 20
	target := start(t, fastConfig(t, n), stateDir(t))
	b := newBalancer(t, target)
	scale(t, target, n)
	if err := b.sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	l := startLoad(t, b, 200, func() string { return "/work?d=20ms" })
	killed := map[string]bool{}
	had := 0
	var slowest time.Duration
	for range kills {
		ws := workers(t, target)
		w := ws[rand.IntN(len(ws))]
		p, err := hold(identity{PID: w.PID, Start: mustStat(t, w.PID).Start, BootID: mustBoot(t)})
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "the worker has a request", func() bool {
			b.mu.Lock()
			defer b.mu.Unlock()
			i := slices.IndexFunc(b.workers, func(o *backend) bool { return same(o.Worker, w) })
			if i < 0 || b.workers[i].inFlight == 0 {
				return false
			}
			had += b.workers[i].inFlight
			killed[fmt.Sprint(w.ID, w.PID)] = true
			return p.signal(syscall.SIGKILL) == nil
		})
		began := time.Now()
		<-p.ended
		p.release()
		eventually(t, "the worker is replaced", func() bool {
			size := fleet.Count(workers(t, target))
			return size.Serving == n
		})
		slowest = max(slowest, time.Since(began))
		if now := pids(workers(t, target)); now[w.ID] == w.PID {
			t.Fatalf("%s is dead and reported", w.ID)
		}
	}
	l.stop()
	failed := 0
	for w, errs := range l.failed {
		failed += len(errs)
		if !killed[fmt.Sprint(w.ID, w.PID)] {
			t.Errorf("%d requests failed at a worker that was not killed, %+v: %v", len(errs), w, errs[0])
		}
	}
	if s := target.Status(); s.Restarts != kills || s.Killed != 0 {
		t.Errorf("%d workers were killed: %+v", kills, s)
	}
	t.Logf("%d workers killed, the slowest replaced in %v; %d requests, %d failed at %v, the killed had about %d",
		kills, slowest.Round(time.Millisecond), l.sent.Load(), failed, len(slices.Collect(maps.Keys(l.failed))), had)
}

func mustStat(t *testing.T, pid int) stat {
	t.Helper()
	s, err := readStat(pid)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustBoot(t *testing.T) string {
	t.Helper()
	id, err := bootID()
	if err != nil {
		t.Fatal(err)
	}
	return id
}
