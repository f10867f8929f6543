package process

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"tidemark/internal/fleet"
)

// daemonMain supervises a fleet and scales it at random until it is killed. args: the configuration and the options as
// JSON, and a seed.
func daemonMain(args []string) int {
	die := func(err error) int {
		fmt.Fprintln(os.Stderr, "daemon:", err)
		return 1
	}
	var cfg Config
	var opts Options
	if err := json.Unmarshal([]byte(args[0]), &cfg); err != nil {
		return die(err)
	}
	if err := json.Unmarshal([]byte(args[1]), &opts); err != nil {
		return die(err)
	}
	seed, err := strconv.ParseUint(args[2], 10, 64)
	if err != nil {
		return die(err)
	}
	rnd := rand.New(rand.NewPCG(seed, 0))
	target, err := New(cfg, opts)
	if err != nil {
		return die(err)
	}
	ctx := context.Background()
	if err := target.Start(ctx); err != nil {
		return die(err)
	}
	fmt.Println("started")
	drain := func(ctx context.Context, _ fleet.Worker) error {
		return pause(ctx, time.Duration(rnd.IntN(5))*time.Millisecond)
	}
	for {
		if err := target.Scale(ctx, rnd.IntN(cfg.slots()), drain); err != nil {
			return die(err)
		}
	}
}

// The daemon is killed at random points while it scales. Whatever it was doing: the next one knows every worker that
// lives, no slot has two, and none was restarted that need not be.
func TestDaemonKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: 100 daemons are killed")
	}
	const rounds, slots = 100, 6
	dir := stateDir(t)
	cfg, opts := fastConfig(t, slots), fastOptions(t, dir)
	cfgJSON, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	optsJSON, err := json.Marshal(opts)
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	found, unborn, leavers := 0, 0, 0
	for round := range rounds {
		cmd := exec.Command(opts.Shim[0], "test-daemon", string(cfgJSON), string(optsJSON), strconv.Itoa(round))
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		point := time.Duration(rnd.IntN(100)) * time.Millisecond // of its own start ...
		if round%4 > 0 {                                         // ... or of its work
			point = time.Duration(rnd.IntN(400)) * time.Millisecond
			if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
				_ = cmd.Wait()
				t.Fatalf("round %d: the daemon did not start: %s", round, stderr.String())
			}
		}
		time.Sleep(point)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); cmd.ProcessState.Exited() {
			t.Fatalf("round %d: the daemon ended by itself: %v: %s", round, err, stderr.String())
		}

		// What runs now, shims on their way included: they stay the processes that they are.
		leaving, reserved := onRecord(t, filepath.Join(dir, opts.Fleet))
		alive := mains(t, dir)
		found, unborn, leavers = found+len(alive), unborn+reserved, leavers+len(leaving)

		target, err := New(cfg, opts)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := target.Start(t.Context()); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if d := time.Since(began); d > 5*time.Second {
			t.Errorf("round %d: the next daemon took %v to start", round, d)
		}
		ws := workers(t, target)
		known := map[int]bool{}
		for _, w := range ws {
			known[w.PID] = true
		}
		for slot, id := range alive {
			if leaving[slot] {
				continue // may have ended meanwhile
			}
			if !known[id.PID] {
				t.Fatalf("round %d: the worker %d in slot %d is not known: %+v", round, id.PID, slot, ws)
			}
		}
		size := len(alive)
		if rnd.IntN(2) == 0 {
			size = rnd.IntN(slots)
		}
		scale(t, target, size)
		now := mains(t, dir)
		if len(now) != size {
			t.Fatalf("round %d: %d workers run, and %d are wanted: %v", round, len(now), size, now)
		}
		kept := 0
		for slot, id := range now {
			if alive[slot] == id {
				kept++
			}
		}
		stay := 0
		for slot := range alive {
			if !leaving[slot] {
				stay++
			}
		}
		if kept < min(stay, size) && !cutOff(ws) {
			t.Fatalf("round %d: a worker was restarted that need not be:\nbefore %v leaving %v\nafter  %v of %d\nadopted %+v", round, alive, leaving, now, size, ws)
		}
		if s := target.Status(); s.Killed > 0 || s.Restarts > 0 {
			t.Fatalf("round %d: %+v", round, s)
		}
		if err := target.Close(); err != nil {
			t.Fatal(err)
		}
		t.Logf("round %d: %d alive, %d leaving, %d reserved; scaled to %d, %d kept", round, len(alive), len(leaving), reserved, size, kept)
	}
	t.Logf("%d daemons killed; they left %d workers, %d slots without one, %d workers being stopped", rounds, found, unborn, leavers)
	if unborn == 0 || leavers == 0 {
		t.Error("the daemon was never killed while it started or stopped a worker: the test saw too little")
	}
}

// cutOff reports whether some worker was not serving when it was adopted: then a scale-in takes those first.
func cutOff(ws []fleet.Worker) bool {
	for _, w := range ws {
		if w.Phase == fleet.Starting {
			return true
		}
	}
	return false
}

// onRecord reads which slots are leaving, and how many were reserved without a worker.
func onRecord(t *testing.T, dir string) (leaving map[int]bool, reserved int) {
	t.Helper()
	r := records{dir}
	slots, err := r.list()
	if err != nil {
		t.Fatal(err)
	}
	leaving = map[int]bool{}
	for n := range slots {
		w, err := r.readWish(n)
		if err != nil {
			t.Fatal(err)
		}
		if w.Leaving {
			leaving[n] = true
		}
		if _, err := r.readBirth(n); err != nil {
			reserved++
		}
	}
	return leaving, reserved
}

// mains returns the main process of each slot; two in one slot fail the test.
func mains(t *testing.T, dir string) map[int]identity {
	t.Helper()
	m := map[int]identity{}
	for _, s := range onMachine(dir) {
		if o, ok := m[s.slot]; ok {
			t.Fatalf("slot %d has two workers: %v and %v", s.slot, o, s.identity)
		}
		m[s.slot] = s.identity
	}
	return m
}
