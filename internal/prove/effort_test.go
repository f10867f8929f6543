package prove

import (
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestLimits(t *testing.T) {
	good := Effort{Requests: 1000, LagP99: 0.010, CPU: 9 * time.Second, Took: 10 * time.Second, Cores: 1}
	for name, c := range map[string]struct {
		change func(*Effort)
		want   []Limit
	}{
		"at every limit":   {func(*Effort) {}, nil},
		"one drop":         {func(e *Effort) { e.Dropped = 1 }, []Limit{Dropping}},
		"late":             {func(e *Effort) { e.LagP99 = 0.011 }, []Limit{Lagging}},
		"late for nothing": {func(e *Effort) { e.LagP99, e.Requests = 0.011, 0 }, nil},
		"out of CPU":       {func(e *Effort) { e.CPU = 9*time.Second + 1 }, []Limit{Starving}},
		"of two cores":     {func(e *Effort) { e.CPU, e.Cores = 9*time.Second+1, 2 }, nil},
		"all":              {func(e *Effort) { e.Dropped, e.LagP99, e.CPU = 1, 1, 10*time.Second }, []Limit{Dropping, Lagging, Starving}},
	} {
		e := good
		c.change(&e)
		if got := e.Limits(); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, not %v", name, got, c.want)
		}
	}
}

// Threads that run, and those that are started afterwards, have the slice.
func TestBePrompt(t *testing.T) {
	if err := BePrompt(); err != nil {
		t.Fatal(err)
	}
	sliceOf := func() uint64 {
		how, err := unix.SchedGetAttr(0, 0)
		if err != nil {
			t.Error(err)
			return 0
		}
		return how.Runtime
	}
	got := sliceOf()
	if got == 0 {
		t.Skip("this kernel knows no slices")
	}
	if got != uint64(slice) {
		t.Errorf("the slice is %d ns, not %d", got, slice)
	}
	later := make(chan uint64)
	go func() {
		runtime.LockOSThread() // it ends with its thread
		later <- sliceOf()
	}()
	if got := <-later; got != uint64(slice) {
		t.Errorf("of a thread started later it is %d ns, not %d", got, slice)
	}
}
