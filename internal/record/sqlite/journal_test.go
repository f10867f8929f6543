package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/record"
	"tidemark/internal/record/recordtest"
	"tidemark/internal/record/tables"
)

var (
	_ recordtest.Journal = (*Journal)(nil)

	ctx   = context.Background()
	begin = time.Date(2027, 3, 1, 6, 0, 0, 0, time.UTC)
)

// TestMain lets the test binary be the writer that is killed; see crash_test.go.
func TestMain(m *testing.M) {
	if path := os.Getenv(crashEnv); path != "" {
		writeUntilKilled(path)
	}
	dir, err := os.MkdirTemp("", "tidemark-bench-")
	if err != nil {
		panic(err)
	}
	benchDir = dir
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// benchDir outlives a benchmark: what takes long to make is made once.
var benchDir string

func TestConform(t *testing.T) {
	recordtest.Conform(t, func(t testing.TB) recordtest.Open {
		path := filepath.Join(t.TempDir(), "journal.db")
		return func(keep record.Retention) (recordtest.Journal, error) { return Open(ctx, path, keep) }
	})
}

func mustOpen(t testing.TB, path string, keep record.Retention) *Journal {
	t.Helper()
	j, err := Open(ctx, path, keep)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

// number is tick n of a fleet: the number is in the state, the reading, the event and the decision.
func number(name string, n int) record.Tick {
	when := begin.Add(time.Duration(n) * 15 * time.Second)
	return record.Tick{
		Fleet: name, Time: when, State: fmt.Append(nil, n), Size: fleet.Size{Known: true, Serving: 2},
		Readings: []record.Sample{{Signal: "cpu", Reading: fleet.Reading{Value: float64(n), Time: when, Quality: fleet.Fresh}}},
		Decision: &fleet.Decision{Fleet: name, Time: when, From: n, To: n},
		Events:   []fleet.Event{{Time: when, Fleet: name, Kind: fleet.EventDecision, To: n}},
	}
}

func TestOpenRefuses(t *testing.T) {
	good := filepath.Join(t.TempDir(), "good.db")
	j := mustOpen(t, good, record.Retention{})
	if err := j.Commit(ctx, number("f", 1)); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	// set runs a statement on a copy of the good file.
	set := func(statement string) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			write(t, path, whole)
			db, err := openFile(path, "rw", nil)
			if err == nil {
				_, err = db.ExecContext(ctx, statement)
			}
			if err := errors.Join(err, db.Close()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name string
		make func(t *testing.T, path string)
		kind error
		say  string // after "journal: ... at PATH: "
	}{
		{"of a newer version", set("PRAGMA user_version = 99"), ErrNewer,
			"its layout is 99 and this Tidemark knows up to 1; start the newer Tidemark, or move the file aside"},
		{"of another program", set("PRAGMA application_id = 7"), ErrForeign, "it belongs to another program; name another path"},
		{"not a database", func(t *testing.T, path string) { write(t, path, []byte(strings.Repeat("no database ", 1000))) }, ErrCorrupt, hintCorrupt},
		{"empty", func(t *testing.T, path string) { write(t, path, nil) }, ErrCorrupt, "it is empty; " + hintCorrupt},
		{"its schema overwritten", func(t *testing.T, path string) {
			b := append([]byte(nil), whole...)
			for i := 100; i < 4096; i++ {
				b[i] = 0xa5
			}
			write(t, path, b)
		}, ErrCorrupt, hintCorrupt},
		{"a folder", func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, ErrForeign, "it is a folder; name a file in it"},
		{"gone, and its log is there", func(t *testing.T, path string) { write(t, path+"-wal", []byte("something")) }, ErrMissing,
			"its -wal is there and it is not; bring the file back, or move the -wal aside to begin anew"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "journal.db")
			c.make(t, path)
			before := contents(t, path)
			_, err := Open(ctx, path, record.Retention{})
			wanted := fmt.Sprintf("journal: %v at %s: %s", c.kind, path, c.say)
			if !errors.Is(err, c.kind) || err.Error() != wanted {
				t.Errorf("got  %v\nwant %v", err, wanted)
			}
			if contents(t, path) != before {
				t.Error("the file was changed")
			}
		})
	}
	t.Run("no folder", func(t *testing.T) {
		_, err := Open(ctx, filepath.Join(t.TempDir(), "nowhere", "journal.db"), record.Retention{})
		if !errors.Is(err, ErrMissing) {
			t.Error(err)
		}
	})
	t.Run("for reading, no file", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "journal.db")
		if _, err := OpenReadOnly(ctx, path); !errors.Is(err, ErrMissing) {
			t.Error(err)
		}
		if _, err := os.Stat(path); err == nil {
			t.Error("it was made")
		}
	})
}

func write(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func contents(t testing.TB, path string) string {
	t.Helper()
	b, _ := os.ReadFile(path) // also of what is not there
	return string(b)
}

func TestDamageIsReportedAndNeverHidden(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	j := mustOpen(t, path, record.Retention{})
	for n := range 200 {
		if err := j.Commit(ctx, number("f", n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	b := []byte(contents(t, path))
	for i := 4096 * 2; i < len(b); i++ { // the schema stays: the damage is met later
		b[i] = 0xa5
	}
	write(t, path, b)
	j, err := Open(ctx, path, record.Retention{})
	if err == nil {
		if err = j.Check(ctx); !errors.Is(err, ErrCorrupt) {
			t.Errorf("Check: %v", err)
		}
		err = j.Commit(ctx, number("f", 201))
		_ = j.Close()
	}
	if !errors.Is(err, ErrCorrupt) {
		t.Fatalf("got %v", err)
	}

	for _, suffix := range []string{"", "-wal", "-shm"} { // as the error says
		if err := os.Rename(path+suffix, path+".aside"+suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	fresh := mustOpen(t, path, record.Retention{})
	if err := fresh.Commit(ctx, number("f", 1)); err != nil {
		t.Error(err)
	}
}

func TestFileMovedWhileInUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	j := mustOpen(t, path, record.Retention{})
	commitNumbers(t, j, 0, 10)
	aside := path + ".aside"
	move := func(from, to string) {
		t.Helper()
		for _, suffix := range []string{"-wal", "-shm", ""} {
			if err := os.Rename(from+suffix, to+suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
		}
	}
	move(path, aside)
	if err := j.Commit(ctx, number("f", 10)); !errors.Is(err, ErrMissing) {
		t.Fatalf("a commit to a file that was moved away: %v", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Fatal("a new file was made in its place")
	}
	move(aside, path)
	commitNumbers(t, j, 10, 20)
	checkNumbers(t, j.file, "f", 20)
}

func commitNumbers(t testing.TB, j *Journal, from, to int) {
	t.Helper()
	for n := from; n < to; n++ {
		if err := j.Commit(ctx, number("f", n)); err != nil {
			t.Fatal(err)
		}
	}
}

// checkNumbers holds that ticks 0..n-1 of a fleet are there, whole, each once and in order.
func checkNumbers(t testing.TB, r *Reader, name string, n int) {
	t.Helper()
	state, _, err := r.State(ctx, name)
	if err != nil || n > 0 && string(state) != fmt.Sprint(n-1) {
		t.Fatalf("fleet %s: state %q of %d ticks (%v)", name, state, n, err)
	}
	events, err := r.Events(ctx, record.EventQuery{Fleet: name, Limit: n + 10})
	if err != nil || len(events) != n {
		t.Fatalf("fleet %s: %d events of %d ticks (%v)", name, len(events), n, err)
	}
	list, err := r.Decisions(ctx, name, time.Time{}, time.Time{}, n+10)
	if err != nil || len(list) != n {
		t.Fatalf("fleet %s: %d decisions of %d ticks (%v)", name, len(list), n, err)
	}
	for i := range events {
		if events[i].To != n-1-i || list[i].From != n-1-i {
			t.Fatalf("fleet %s: event %d and decision %d where %d belongs", name, events[i].To, list[i].From, n-1-i)
		}
	}
	for _, points := range []int{n + 1, 1} { // raw, and rolled up
		series, err := r.Series(ctx, record.SeriesQuery{Fleet: name, Signal: "cpu", MaxPoints: points})
		total, sum := 0, 0.0
		for _, p := range series {
			total += p.N
			sum += p.Mean * float64(p.N)
		}
		if err != nil || total != n || int(sum+0.5) != n*(n-1)/2 {
			t.Fatalf("fleet %s: %d readings with sum %v of %d ticks (%v)", name, total, sum, n, err)
		}
	}
}

func TestSecondWriterIsTold(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: waits for the lock as long as a commit does")
	}
	path := filepath.Join(t.TempDir(), "journal.db")
	j := mustOpen(t, path, record.Retention{})
	_, other, err := openWriter(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	if err := j.Commit(ctx, number("f", 0)); !errors.Is(err, ErrBusy) {
		t.Errorf("while another writes: %v", err)
	}
	if _, err := other.ExecContext(ctx, "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	commitNumbers(t, j, 0, 1)
	if err := other.Close(); err != nil {
		t.Error(err)
	}
}

func TestCommitWaitingForItsTurnCanBeGivenUp(t *testing.T) {
	j := mustOpen(t, filepath.Join(t.TempDir(), "journal.db"), record.Retention{})
	busy, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = j.Do(ctx, func(context.Context, *tables.Writer) error { close(busy); <-release; return nil })
	})
	<-busy
	some, cancel := context.WithCancel(ctx)
	given := make(chan error)
	wg.Go(func() { given <- j.Commit(some, number("f", 0)) })
	cancel()
	if err := <-given; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	close(release)
	wg.Wait()
	if state, _, err := j.State(ctx, "f"); state != nil || err != nil {
		t.Errorf("what was given up was stored: %q, %v", state, err)
	}
}

func TestFailedTransactionLeavesNothing(t *testing.T) {
	j := mustOpen(t, filepath.Join(t.TempDir(), "journal.db"), record.Retention{})
	for _, kind := range []error{ErrFull, ErrIO} { // the connection is kept, and opened anew
		err := j.Do(ctx, func(ctx context.Context, w *tables.Writer) error {
			if err := w.Put(ctx, &record.Tick{Fleet: "ghost", Time: begin, State: []byte("{}")}); err != nil {
				return err
			}
			return &Error{Kind: kind}
		})
		if !errors.Is(err, kind) {
			t.Fatal(err)
		}
		commitNumbers(t, j, 0, 1)
		if fleets, err := j.Fleets(ctx); err != nil || len(fleets) != 1 || fleets[0] != "f" {
			t.Fatalf("%q, %v", fleets, err)
		}
	}
}

func TestReadOnlyBesideAWriterAndAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	j := mustOpen(t, path, record.Retention{})
	commitNumbers(t, j, 0, 10)
	r, err := OpenReadOnly(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	checkNumbers(t, r, "f", 10)
	commitNumbers(t, j, 10, 20)
	checkNumbers(t, r, "f", 20) // it sees what comes
	if err := errors.Join(r.Close(), j.Close()); err != nil {
		t.Fatal(err)
	}
	r, err = OpenReadOnly(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	checkNumbers(t, r, "f", 20)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	again := mustOpen(t, path, record.Retention{})
	if err := again.Commit(ctx, number("f", 20)); err != nil {
		t.Fatal(err)
	}
}

func TestSizeIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: writes 10 MB")
	}
	const most = 2 << 20
	path := filepath.Join(t.TempDir(), "journal.db")
	j := mustOpen(t, path, record.Retention{MaxBytes: most})
	largest := int64(0)
	n := 0
	for range 12 {
		var ticks []record.Tick
		for range 1000 {
			tick := number("f", n)
			tick.Decision, tick.Events = nil, nil
			for s := range 20 {
				tick.Readings = append(tick.Readings, record.Sample{Signal: fmt.Sprint("signal-", s), Reading: fleet.Reading{Value: float64(n) * 1.1, Time: tick.Time, Quality: fleet.Fresh}})
			}
			ticks = append(ticks, tick)
			n++
		}
		if err := j.Commit(ctx, ticks...); err != nil {
			t.Fatal(err)
		}
		if err := j.Maintain(ctx, ticks[len(ticks)-1].Time); err != nil {
			t.Fatal(err)
		}
		s, err := j.size(ctx)
		if err != nil {
			t.Fatal(err)
		}
		largest = max(largest, s.file())
	}
	if largest > most {
		t.Errorf("after Maintain the file had %d bytes of %d", largest, most)
	}
	if err := j.Check(ctx); err != nil {
		t.Error(err)
	}
	// The newest raw readings are still there, and the roll-ups know the oldest.
	if got, err := j.ReadingsAt(ctx, "f", begin.Add(time.Duration(n)*15*time.Second)); len(got) != 21 || err != nil {
		t.Errorf("latest readings: %v, %v", got, err)
	}
	points, err := j.Series(ctx, record.SeriesQuery{Fleet: "f", Signal: "signal-3", MaxPoints: 500})
	total := 0
	for _, p := range points {
		total += p.N
	}
	if err != nil || total != n || !points[0].Time.Equal(begin) {
		t.Errorf("the series holds %d of %d readings (%v)", total, n, err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() > most {
		t.Errorf("on the disk: %d bytes (%v)", info.Size(), err)
	}
}

func TestEverythingGoesBeforeTheSizeIsExceeded(t *testing.T) {
	j := mustOpen(t, filepath.Join(t.TempDir(), "journal.db"), record.Retention{MaxBytes: 1})
	var ticks []record.Tick
	for n := range 700 {
		ticks = append(ticks, number("f", n))
	}
	if err := j.Commit(ctx, ticks...); err != nil {
		t.Fatal(err)
	}
	if err := j.Maintain(ctx, begin); err != nil {
		t.Fatal(err)
	}
	if state, _, err := j.State(ctx, "f"); string(state) != "699" || err != nil {
		t.Errorf("state %q, %v", state, err)
	}
	if d, ok, err := j.DecisionAt(ctx, "f", begin.Add(24*time.Hour)); !ok || err != nil || d.From != 699 {
		t.Errorf("the decision in force: %v, %v", d, err)
	}
	commitNumbers(t, j, 700, 701)
}
