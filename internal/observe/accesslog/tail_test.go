package accesslog

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// follower is a tail on a real file, with a clock of its own.
type follower struct {
	t    testing.TB
	path string
	tail tail
	now  time.Time
}

func follow(t testing.TB) *follower {
	f := &follower{t: t, path: filepath.Join(t.TempDir(), "access.log"), now: time.Unix(1_800_000_000, 0)}
	f.tail = tail{path: f.path, limits: defaultLimits}
	f.tail.limits.time = time.Minute // this machine may be busy
	t.Cleanup(f.tail.close)
	return f
}

// read returns the lines that are new after 15 more seconds.
func (f *follower) read() ([]string, error) {
	f.now = f.now.Add(15 * time.Second)
	var lines []string
	err := f.tail.read(context.Background(), f.now, func(b []byte) { lines = append(lines, string(b)) })
	return lines, err
}

func (f *follower) want(lines ...string) {
	f.t.Helper()
	got, err := f.read()
	if err != nil {
		f.t.Fatal(err)
	}
	if !slices.Equal(got, lines) {
		f.t.Fatalf("read %q, want %q", got, lines)
	}
}

func (f *follower) write(path, text string, flag int) {
	f.t.Helper()
	if err := appendFile(path, text, flag); err != nil {
		f.t.Fatal(err)
	}
}

func appendFile(path, text string, flag int) error {
	o, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|flag, 0o600)
	if err != nil {
		return err
	}
	_, err = o.WriteString(text)
	return errors.Join(err, o.Close())
}

func (f *follower) add(text string) { f.t.Helper(); f.write(f.path, text, os.O_CREATE) }

func (f *follower) rename(to string) {
	f.t.Helper()
	if err := os.Rename(f.path, f.path+to); err != nil {
		f.t.Fatal(err)
	}
}

func (f *follower) truncate(size int64) {
	f.t.Helper()
	if err := os.Truncate(f.path, size); err != nil {
		f.t.Fatal(err)
	}
}

func TestStartsAtTheEnd(t *testing.T) {
	f := follow(t)
	f.add("old 1\nold 2\nhalf of old")
	f.want()
	f.add(" 3\nnew 1\n")
	f.want("new 1")
	f.want()
}

func TestLateFileIsReadFromItsStart(t *testing.T) {
	f := follow(t)
	if _, err := f.read(); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Fatalf("no file: %v", err)
	}
	f.add("a\nb\n")
	f.want("a", "b")
}

func TestHalfLines(t *testing.T) {
	f := follow(t)
	f.add("")
	f.want()
	f.add("a")
	f.want()
	f.add("b\nc")
	f.want("ab")
	f.add("d")
	f.want()
	f.add("\n\n")
	f.want("cd", "")
}

func TestRotation(t *testing.T) {
	f := follow(t)
	f.add("")
	f.want()
	f.add("a\nb\n")
	f.rename(".1") // nginx still writes to the renamed file
	f.write(f.path+".1", "c\nhalf", 0)
	f.want("a", "b", "c")
	f.add("e\n") // one worker of nginx has opened the new file, another has not
	f.write(f.path+".1", " d\n", 0)
	f.want("half d", "e")
	f.write(f.path+".1", "late\n", 0)
	f.add("f\n")
	f.want("late", "f")
	if s := f.tail.stats; s.Rotations != 1 || s.Torn != 0 || s.Lines != 7 {
		t.Errorf("%+v", s)
	}
	for range 5 {
		f.want()
	}
	if len(f.tail.files) != 1 {
		t.Errorf("%d files are open, the rotated one should be closed", len(f.tail.files))
	}
}

func TestRotatedWhenQuiet(t *testing.T) {
	f := follow(t)
	f.add("")
	for range 10 {
		f.want()
	}
	f.rename(".1")
	f.add("") // logrotate makes the new file before it tells nginx
	f.want()
	f.write(f.path+".1", "a\n", 0)
	f.want("a")
}

func TestRotatedAndMissing(t *testing.T) {
	f := follow(t)
	f.add("")
	f.want()
	f.add("a\n")
	f.rename(".1")
	for range 4 { // a minute's grace in which the log is alive
		if _, err := f.read(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.read(); err == nil || !strings.Contains(err.Error(), "has vanished") {
		t.Fatalf("vanished: %v", err)
	}
	f.write(f.path+".1", "b\n", 0) // written by an nginx that was not told
	f.want("b")
	f.add("c\n")
	f.want("c")
	f.want()
}

func TestMovedBack(t *testing.T) {
	f := follow(t)
	f.add("")
	f.want()
	f.add("a\n")
	f.rename(".1")
	f.add("b\n")
	f.want("a", "b")
	f.rename(".2")
	if err := os.Rename(f.path+".1", f.path); err != nil {
		t.Fatal(err)
	}
	f.add("c\n")
	f.write(f.path+".2", "d\n", 0)
	f.want("d", "c")
	f.want()
}

func TestManyRotationsHoldFewFiles(t *testing.T) {
	f := follow(t)
	f.add("")
	f.tail.limits.linger = time.Hour
	f.want()
	for i := range 3 * maxFiles {
		f.rename(fmt.Sprint(".", i))
		f.add(fmt.Sprint(i, "\nhalf"))
		f.want(fmt.Sprint(i))
	}
	if len(f.tail.files) > maxFiles {
		t.Errorf("%d files are open", len(f.tail.files))
	}
	if f.tail.stats.Torn == 0 {
		t.Error("half lines of files given up are not counted")
	}
}

func TestCopyTruncate(t *testing.T) {
	f := follow(t)
	f.add(strings.Repeat("old\n", 100))
	f.want()
	f.add("a\nhal")
	f.want("a")
	f.truncate(0)
	f.add("b\n")
	f.want("b")
	// Truncated, and already longer than what had been read.
	f.truncate(0)
	f.add(strings.Repeat("new\n", 200))
	if got, err := f.read(); err != nil || len(got) != 200 {
		t.Fatalf("%d lines, %v", len(got), err)
	}
	if s := f.tail.stats; s.Truncations != 2 {
		t.Errorf("%+v", s)
	}
	// Truncated in the middle.
	f.truncate(8)
	if got, err := f.read(); err != nil || len(got) != 2 {
		t.Fatalf("%q %v", got, err)
	}
}

func TestReplacedInPlace(t *testing.T) {
	f := follow(t)
	f.add("12:00 a\n12:01 b\n")
	f.want()
	if err := os.WriteFile(f.path, []byte("12:02 c\n12:03 d\n"), 0o600); err != nil { // as long, and other bytes
		t.Fatal(err)
	}
	f.want("12:02 c", "12:03 d")
}

func TestLongLines(t *testing.T) {
	f := follow(t)
	f.add("")
	f.want()
	const mib = 1 << 20
	longest := strings.Repeat("x", mib-1)
	f.add("a\n" + longest + "\n" + longest + "x\n" + strings.Repeat("y", 5*mib) + "\nb\n")
	f.want("a", longest, "b")
	if s := f.tail.stats; s.TooLong != 2 || s.Skipped != 2 || s.Lines != 5 {
		t.Errorf("%+v", s)
	}
	f.add(strings.Repeat("z", 3*mib)) // never ends
	f.want()
	f.add(strings.Repeat("z", 3*mib))
	f.want()
	f.add("z\nc\n")
	f.want("c")
	if s := f.tail.stats; s.TooLong != 3 || s.Skipped != 3 || s.Lines != 7 {
		t.Errorf("%+v", s)
	}
	if len(f.tail.buf) > mib {
		t.Errorf("the buffer has grown to %d", len(f.tail.buf))
	}
}

func TestZerosOfAPowerCut(t *testing.T) {
	f := follow(t)
	f.add("")
	f.want()
	f.add("a\nhalf a li\x00\x00\x00\x00b\n\x00\x00c\n\x00\x00\nd\n")
	f.want("a", "b", "c", "d")
	if s := f.tail.stats; s.Torn != 3 || s.Lines != 4 {
		t.Errorf("%+v", s)
	}
}

func TestBacklogIsBounded(t *testing.T) {
	f := follow(t)
	f.add("")
	f.want()
	f.tail.limits = limits{chunk: 1 << 10, line: 1 << 12, bytes: 10 << 10, time: time.Minute, backlog: 100 << 10, linger: time.Minute}
	f.tail.buf = nil
	var all strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&all, "line %d\n", i)
	}
	f.add(all.String()) // some 50 KiB
	n, reads := 0, 0
	for {
		lines, err := f.read()
		if err != nil {
			t.Fatal(err)
		}
		reads++
		for _, l := range lines {
			if l != fmt.Sprintf("line %d", n) {
				t.Fatalf("%q after %d lines", l, n)
			}
			n++
		}
		if !f.tail.behind {
			break
		}
		if f.tail.stats.Behind <= 0 {
			t.Fatalf("behind by %d", f.tail.stats.Behind)
		}
	}
	if n != 5000 || reads < 5 || reads > 7 {
		t.Errorf("%d lines in %d reads", n, reads)
	}
	// More than it is worth catching up with.
	for range 3 {
		f.add(all.String())
	}
	f.add("half")
	f.want()
	if !f.tail.jumped || f.tail.behind || f.tail.stats.LeftOut != int64(3*all.Len()+4) {
		t.Errorf("jumped %v, behind %v, %+v", f.tail.jumped, f.tail.behind, f.tail.stats)
	}
	f.add(" line\nnow\n")
	f.want("now")
}

func TestTimeAndContextBoundAReadToo(t *testing.T) {
	f := follow(t)
	f.add("")
	f.want()
	f.add("a\n")
	f.tail.limits.time = 0
	f.want()
	if !f.tail.behind {
		t.Error("not behind")
	}
	f.tail.limits.time = time.Minute
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := f.tail.read(ctx, f.now, func([]byte) { t.Error("read on") }); err != nil || !f.tail.behind {
		t.Error(err)
	}
	f.want("a")
}

func TestBinaryContent(t *testing.T) {
	f := follow(t)
	f.add("")
	f.want()
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	for i := range 10_000 {
		fmt.Fprintln(w, "line", i*7919)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	f.add(z.String() + "\na\n")
	lines, err := f.read()
	if err != nil || lines[len(lines)-1] != "a" {
		t.Fatal(err)
	}
}

func TestNoRegularFile(t *testing.T) {
	f := follow(t)
	if err := unix.Mkfifo(f.path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.read(); err == nil || !strings.Contains(err.Error(), "a pipe") {
		t.Error(err)
	}
	f.tail.path = t.TempDir()
	if _, err := f.read(); err == nil || !strings.Contains(err.Error(), "a folder") {
		t.Error(err)
	}
	f.tail.path = "/dev/null"
	if _, err := f.read(); err == nil || !strings.Contains(err.Error(), "a device") {
		t.Error(err)
	}
}

// asNobody runs f on a thread whose file accesses are those of a user without rights.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if os.Getuid() == 0 {
			if err := unix.Setfsuid(65534); err != nil {
				done <- err
				return
			}
		}
		f()
		done <- nil
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestPermission(t *testing.T) {
	f := follow(t)
	f.add("secret\n")
	if err := os.Chmod(f.path, 0); err != nil {
		t.Fatal(err)
	}
	for dir := filepath.Dir(f.path); dir != os.TempDir() && len(dir) > 1; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	asNobody(t, func() { _, err = f.read() })
	if err == nil || !strings.Contains(err.Error(), "may not be read; add tidemark to the group ") {
		t.Fatalf("%v", err)
	}
	if os.Getuid() == 0 && !strings.Contains(err.Error(), "usermod -aG adm tidemark") {
		t.Errorf("%v", err)
	}
	if err := os.Chmod(f.path, 0o600); err != nil {
		t.Fatal(err)
	}
	f.want("secret") // recovers by itself, and a file that could not be opened at the start counts from when it was
}

// Any sequence of appends split at any byte, rotations (with the new file early or late), truncations and reads: every
// complete line is handed on exactly once, in the order of its file.
func TestEveryLineExactlyOnce(t *testing.T) {
	dir := t.TempDir()
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		path := filepath.Join(dir, fmt.Sprint(round, ".log"))
		chunk := rapid.IntRange(1, 64).Draw(rt, "chunk")
		tl := tail{path: path, limits: limits{
			chunk: chunk, line: max(chunk, rapid.IntRange(24, 80).Draw(rt, "limit")), time: time.Minute, backlog: 1 << 30, linger: time.Minute,
			bytes: int64(rapid.IntRange(1, 300).Draw(rt, "budget")),
		}}
		defer tl.close()
		now := time.Unix(1_800_000_000, 0)
		var got, want []string
		read := func() {
			for {
				now = now.Add(10 * time.Millisecond) // a rotated file is not given up within this test
				if err := tl.read(context.Background(), now, func(b []byte) { got = append(got, string(b)) }); err != nil {
					rt.Fatal(err)
				}
				if !tl.behind {
					return
				}
			}
		}
		create := func() *os.File {
			f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
			if err != nil {
				rt.Fatal(err)
			}
			return f
		}
		out := create()
		defer func() { out.Close() }()
		read() // the start
		var pending []byte
		flush := func(n int) {
			if _, err := out.Write(pending[:n]); err != nil {
				rt.Fatal(err)
			}
			pending = pending[n:]
		}
		serial, rotated, tooLong := 0, 0, 0
		atPath, early := true, false // is out at path; does the new file exist before out was closed
		rt.Repeat(map[string]func(*rapid.T){
			"line": func(rt *rapid.T) {
				serial++
				line := fmt.Sprintf("%d %s", serial, strings.Repeat("x", rapid.IntRange(0, 100).Draw(rt, "length")))
				if len(line) < tl.limits.line {
					want = append(want, line)
				} else {
					tooLong++
				}
				pending = append(pending, line...)
				pending = append(pending, '\n')
			},
			"write": func(rt *rapid.T) { flush(rapid.IntRange(0, len(pending)).Draw(rt, "bytes")) },
			"read":  func(*rapid.T) { read() },
			"rename": func(rt *rapid.T) {
				if !atPath {
					rt.Skip("already renamed")
				}
				rotated++
				if err := os.Rename(path, fmt.Sprint(path, ".", rotated)); err != nil {
					rt.Fatal(err)
				}
				atPath = false
			},
			"create": func(rt *rapid.T) { // as logrotate does, before it tells nginx
				if atPath || early {
					rt.Skip("nothing to create")
				}
				if err := create().Close(); err != nil {
					rt.Fatal(err)
				}
				early = true
			},
			"reopen": func(rt *rapid.T) {
				if atPath {
					rt.Skip("nothing to reopen")
				}
				flush(len(pending)) // nginx changes files between lines
				if err := out.Close(); err != nil {
					rt.Fatal(err)
				}
				out, atPath, early = create(), true, false
				read() // two rotations between two reads lose the file between
			},
			"truncate": func(rt *rapid.T) {
				if !atPath {
					rt.Skip("renamed")
				}
				flush(len(pending))
				read() // what is not read by then is lost
				if err := out.Truncate(0); err != nil {
					rt.Fatal(err)
				}
			},
		})
		flush(len(pending))
		read()
		if !slices.Equal(got, want) {
			rt.Fatalf("read %q\nwant %q", got, want)
		}
		if s := tl.stats; s.Lines != uint64(len(want)+tooLong) || s.TooLong != uint64(tooLong) || s.Torn != 0 || s.LeftOut != 0 {
			rt.Fatalf("%d lines and %d too long: %+v", len(want), tooLong, s)
		}
	})
}
