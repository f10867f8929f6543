package sqlite

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tidemark/internal/record"
)

const crashEnv = "TIDEMARK_TEST_JOURNAL"

var crashFleets = []string{"f", "g", "h"}

// writeUntilKilled goes on where the journal stands: each fleet commits numbered ticks, several at once, and says each
// number after Commit has returned, while maintenance runs.
func writeUntilKilled(path string) {
	fail := func(err error) {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	j, err := Open(ctx, path, record.Retention{})
	if err != nil {
		fail(err)
	}
	var wg sync.WaitGroup
	for _, name := range crashFleets {
		state, _, err := j.State(ctx, name)
		if err != nil {
			fail(err)
		}
		n := 0
		if state != nil {
			last, err := strconv.Atoi(string(state))
			if err != nil {
				fail(err)
			}
			n = last + 1
		}
		wg.Go(func() {
			for ; ; n++ {
				if err := j.Commit(ctx, number(name, n)); err != nil {
					fail(err)
				}
				fmt.Println(name, n) // one write: lines do not mix
			}
		})
	}
	for {
		err := j.RollUp(ctx, 0) // more often than Maintain would
		if err == nil {
			err = j.Maintain(ctx, begin.Add(time.Hour))
		}
		if err != nil {
			fail(err)
		}
	}
}

// TestKilledAtAnyMoment kills the writer at random moments. After each: every acknowledged tick is there, none twice,
// nothing by halves, and the file is sound.
func TestKilledAtAnyMoment(t *testing.T) {
	rounds := 100
	if testing.Short() {
		rounds = 5
	}
	path := filepath.Join(t.TempDir(), "journal.db")
	random := rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano())))
	committed := map[string]int{}
	for round := range rounds {
		acknowledged := killWriter(t, path, random.IntN(60), time.Duration(random.IntN(3000))*time.Microsecond)
		r, err := OpenReadOnly(ctx, path)
		if err != nil {
			if len(acknowledged) == 0 && len(committed) == 0 {
				continue // killed before there was a journal
			}
			t.Fatalf("round %d: %v", round, err)
		}
		for _, name := range crashFleets {
			n := 0
			if state, _, err := r.State(ctx, name); err != nil {
				t.Fatal(err)
			} else if state != nil {
				last, err := strconv.Atoi(string(state))
				if err != nil {
					t.Fatal(err)
				}
				n = last + 1
			}
			if n < committed[name] || n < acknowledged[name] {
				t.Fatalf("round %d: fleet %s stands at %d; before it was %d, and acknowledged was %d", round, name, n, committed[name], acknowledged[name])
			}
			checkNumbers(t, r, name, n)
			committed[name] = n
		}
		if err := r.Check(ctx); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("killed %d times; ticks committed: %v", rounds, committed)
}

// killWriter runs a writer until it has acknowledged so many ticks and a little longer, kills it, and returns how many
// ticks of each fleet were acknowledged, those of the writers before it included.
func killWriter(t *testing.T, path string, after int, longer time.Duration) map[string]int {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashEnv+"="+path)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	acknowledged := map[string]int{}
	lines := bufio.NewScanner(out)
	for seen := 0; lines.Scan(); seen++ {
		if seen == after {
			time.AfterFunc(longer, func() { _ = cmd.Process.Kill() })
		}
		name, number, ok := strings.Cut(lines.Text(), " ")
		n, err := strconv.Atoi(number)
		if !ok || err != nil {
			if seen > after {
				break // a half line: it was being killed
			}
			t.Fatalf("the writer said %q", lines.Text())
		}
		acknowledged[name] = n + 1
	}
	_ = cmd.Wait() // killed
	return acknowledged
}
