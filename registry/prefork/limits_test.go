package prefork

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tidemark/registry/serve"
)

const ages = 60 * time.Second // longer than anything should take on a loaded machine

// program is testdata/worker, built without the race detector and without cgo, as the registry is: the one wants terabytes
// of address space, the other's threads 64 MiB each.
var program string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "prefork-test-")
	if err != nil {
		panic(err)
	}
	program = filepath.Join(dir, "worker")
	build := exec.Command("go", "build", "-o", program, "./testdata/worker")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build ./testdata/worker: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// fleet is a master in this process, with real workers.
type fleet struct {
	*Master
	t   *testing.T
	url string

	mu     sync.Mutex
	events []Event
}

// lead starts a master of n workers and waits until they serve. It ends with the test.
func lead(t *testing.T, n int, limits Limits) *fleet {
	t.Helper()
	ln, err := serve.Listen("127.0.0.1:0", 128)
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{t: t, url: "http://" + ln.Addr().String()}
	f.Master, err = New(Config{
		Listener: ln, Workers: n, Program: program, Grace: ages, Counters: 1, Limits: limits, Ending: func() {},
		Args: []string{"worker", fmt.Sprint("--soft=", limits.MemorySoft), fmt.Sprint("--hard=", limits.MemoryHard), fmt.Sprint("--requests=", limits.Requests)},
		Tell: func(e Event) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.events = append(f.events, e)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- f.Run() }()
	t.Cleanup(func() {
		f.signals <- unix.SIGQUIT
		if err := <-done; err != nil {
			t.Error(err)
		}
		f.board.close()
		if t.Failed() {
			t.Logf("%+v", f.happened())
		}
	})
	f.eventually("all workers serve", func() bool { return f.Census().Serving() == n })
	return f
}

func (f *fleet) happened() []Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.events)
}

// index is where in the order of events one happened, or -1.
func (f *fleet) index(what What, pid int) int {
	return slices.IndexFunc(f.happened(), func(e Event) bool { return e.What == what && e.PID == pid })
}

func (f *fleet) eventually(what string, yes func() bool) {
	f.t.Helper()
	for end := time.Now().Add(ages); !yes(); {
		if time.Now().After(end) {
			f.t.Fatalf("never: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// get makes one request on a connection of its own and returns the worker that answered.
func (f *fleet) get(path string) (worker int, err error) {
	resp, err := (&http.Client{Timeout: ages, Transport: &http.Transport{DisableKeepAlives: true}}).Get(f.url + path)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	_, err = fmt.Sscan(string(body), &worker)
	return worker, err
}

// load makes requests until stop is called, which returns how many there were. Each failure fails the test.
func (f *fleet) load(clients int) (stop func() int) {
	var n atomic.Int64
	var enough atomic.Bool
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for !enough.Load() {
				if _, err := f.get("/"); err != nil {
					f.t.Errorf("request %d: %v", n.Load(), err)
					return
				}
				n.Add(1)
			}
		})
	}
	return func() int {
		enough.Store(true)
		all.Wait()
		return int(n.Load())
	}
}

// counted is the sum of the workers' counters.
func (f *fleet) counted() (sum int) {
	for words := range f.Counters() {
		sum += int(words[0].Load())
	}
	return sum
}

// A request that goes over a limit costs its own worker, and nobody else.
func TestALimitEndsTheWorkerInItsRequest(t *testing.T) {
	for _, c := range []struct {
		limit  Limit
		limits Limits
		path   string
	}{
		{MemoryHard, Limits{MemoryHard: 256 << 20}, "/grow/300"},
		{MemoryHard, Limits{MemoryHard: 256 << 20}, "/gulp/4096"},
		{MemoryHard, Limits{MemoryHard: 256 << 20}, "/nibble/300"},
		{MemoryHard, Limits{MemoryHard: 256 << 20}, "/stack"},
		{TimeReal, Limits{TimeReal: time.Second}, "/sleep/3600000"},
		{TimeCPU, Limits{TimeCPU: 500 * time.Millisecond}, "/spin"},
	} {
		t.Run(c.limit.String()+c.path, func(t *testing.T) {
			f := lead(t, 2, c.limits)
			stop := f.load(2)
			if worker, err := f.get(c.path); err == nil {
				t.Errorf("%s was answered by %d", c.path, worker)
			}
			var hit Event
			f.eventually("the master tells of it", func() bool {
				i := slices.IndexFunc(f.happened(), func(e Event) bool { return e.What == Limited })
				if i >= 0 {
					hit = f.happened()[i]
				}
				return i >= 0
			})
			f.eventually("the worker is replaced", func() bool { return f.index(Died, hit.PID) >= 0 && f.Census().Serving() == 2 })
			t.Logf("%d other requests, none failed", stop())
			census := f.Census()
			if hit.Limit != c.limit || census.Struck[c.limit] != 1 || census.Deaths != 1 || census.Starts != 3 {
				t.Errorf("told %+v, counted %+v", hit, census)
			}
		})
	}
}

// What is within a limit is let be: a pause is no CPU time, and what requests before it used is not a request's own.
func TestALimitIsForOneRequest(t *testing.T) {
	f := lead(t, 1, Limits{MemoryHard: 1 << 30, TimeReal: ages, TimeCPU: 2 * time.Second})
	for _, path := range []string{"/burn/900", "/burn/900", "/burn/900", "/sleep/2500", "/grow/100"} {
		if _, err := f.get(path); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	f.eventually("the worker is idle", func() bool { return f.Census().Idle == 1 })
	if c := f.Census(); c.Deaths != 0 || c.Struck != [limits]uint64{} {
		t.Errorf("%+v", c)
	}
	if since := f.board.word(0, sinceWord).Load(); since != 0 {
		t.Errorf("idle with a request since %d", since)
	}
}

// A worker that crashes for a reason of its own has not passed a limit.
func TestACrashIsNoLimit(t *testing.T) {
	f := lead(t, 1, Limits{MemoryHard: 1 << 30, TimeReal: ages, TimeCPU: ages})
	if worker, err := f.get("/panic"); err == nil {
		t.Errorf("answered by %d", worker)
	}
	f.eventually("the worker is replaced", func() bool { return f.Census().Deaths == 1 && f.Census().Serving() == 1 })
	if c := f.Census(); c.Struck != [limits]uint64{} {
		t.Errorf("%+v", c)
	}
}

// The new one serves before the old one goes, and no request is lost.
func TestAGrownWorkerIsReplacedFirst(t *testing.T) {
	f := lead(t, 2, Limits{MemorySoft: 256 << 20})
	stop := f.load(4)
	grown, err := f.get("/grow/300")
	if err != nil {
		t.Fatal(err)
	}
	f.eventually("it has left", func() bool { return f.index(Left, grown) >= 0 })
	t.Logf("%d other requests, none failed", stop())
	events := f.happened()
	asked, left := f.index(Limited, grown), f.index(Left, grown)
	if asked < 0 || asked > left {
		t.Fatalf("%d left (event %d) before it was said why (event %d)", grown, left, asked)
	}
	if e := events[asked]; e.Limit != MemorySoft || !strings.HasSuffix(e.Detail, " MiB") || e.Detail < "256" || e.Detail > "999" {
		t.Errorf("told %+v", e)
	}
	if !slices.ContainsFunc(events[asked:left], func(e Event) bool { return e.What == Ready }) {
		t.Errorf("no new worker was ready before the old one left")
	}
	if c := f.Census(); c.Struck[MemorySoft] != 1 || c.Deaths != 0 || c.Starts != 3 {
		t.Errorf("%+v", c)
	}
}

// Workers that reach the limit together go one after the other: there are always as many as wanted.
func TestRequestsAreCounted(t *testing.T) {
	const wanted, limit = 3, 40
	f := lead(t, wanted, Limits{Requests: limit})
	stop := f.load(6)
	f.eventually("each has been replaced", func() bool { return f.Census().Struck[Requests] >= 2*wanted })
	n := stop()
	t.Logf("%d requests, none failed, %d workers", n, f.Census().Starts)
	serving, all := 0, false
	for _, e := range f.happened() {
		switch e.What {
		case Ready:
			serving++
		case Left:
			serving--
		}
		if all = all || serving == wanted; all && serving < wanted {
			t.Errorf("%d of %d workers serve when %d has left", serving, wanted, e.PID)
		}
		if e.What == Limited && (e.Limit != Requests || e.Detail > "40 requests" || e.Detail < "35 requests") {
			t.Errorf("told %+v, want %d to %d requests", e, limit-limit/8, limit)
		}
	}
	if c := f.Census(); c.Deaths != 0 {
		t.Errorf("%+v", c)
	}
	if got := f.counted(); got != n {
		t.Errorf("the workers counted %d requests, their clients %d", got, n)
	}
}

func TestCountersOutliveTheirWorkers(t *testing.T) {
	f := lead(t, 2, Limits{})
	asked := 0
	for range 5 {
		worker, err := f.get("/")
		if err != nil {
			t.Fatal(err)
		}
		asked++
		if err := unix.Kill(worker, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		f.eventually("another serves", func() bool { return f.index(Died, worker) >= 0 && f.Census().Serving() == 2 })
	}
	if got := f.counted(); got != asked {
		t.Errorf("counted %d requests of %d", got, asked)
	}
	if n := f.tally.slots.Load(); n != 2 {
		t.Errorf("%d slots were used for 2 workers at a time", n)
	}
}

func TestScoreboard(t *testing.T) {
	board, err := newScoreboard(3)
	if err != nil {
		t.Fatal(err)
	}
	defer board.close()
	for slot := range MaxWorkers {
		for i := range board.counters(slot) {
			board.counters(slot)[i].Add(uint64(slot))
		}
	}
	if len(board.counters(1)) != 3 || cap(board.counters(1)) != 3 {
		t.Errorf("a worker can write to %d words", cap(board.counters(1)))
	}
	board.set(7, busy)
	board.word(7, leavingWord).Store(1)
	board.vacate(7, starting)
	if board.get(7) != starting || board.word(7, leavingWord).Load() != 0 {
		t.Errorf("a vacated slot says %d, leaving %d", board.get(7), board.word(7, leavingWord).Load())
	}
	for slot := range MaxWorkers {
		for i := range board.counters(slot) {
			if got := board.counters(slot)[i].Load(); got != uint64(slot) {
				t.Errorf("counter %d of slot %d is %d", i, slot, got)
			}
		}
	}
	fd, err := unix.Dup(int(board.file.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openScoreboard(os.NewFile(uintptr(fd), "board"), 4); err == nil || !strings.Contains(err.Error(), "restart the master") {
		t.Errorf("a scoreboard of another shape: %v", err)
	}
}

func TestCensus(t *testing.T) {
	board, err := newScoreboard(1)
	if err != nil {
		t.Fatal(err)
	}
	defer board.close()
	m := &Master{board: board}
	for slot, s := range []state{idle, gone, starting, busy, busy, busy, idle, starting} {
		board.set(slot, s)
	}
	for _, slot := range []int{1, 5, 6} { // 1 has left
		board.word(slot, leavingWord).Store(1)
	}
	m.tally.slots.Store(8)
	m.tally.wanted.Store(4)
	want := Census{Wanted: 4, Starting: 2, Idle: 1, Busy: 2, Leaving: 2}
	if got := m.Census(); got != want || got.Serving() != 3 {
		t.Errorf("%+v, want %+v", got, want)
	}
	var here []bool
	for _, yes := range m.Counters() {
		here = append(here, yes)
	}
	if want := []bool{true, false, false, true, true, true, true, false}; !slices.Equal(here, want) {
		t.Errorf("working: %v, want %v", here, want)
	}
}
