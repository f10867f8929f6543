package screen

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// pty is a terminal: what a person's side of it sees and types, and the program's side.
func pty(t *testing.T, width, height int) (person, program *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Skip("no terminals here: " + err.Error())
	}
	person = os.NewFile(uintptr(fd), "ptmx")
	t.Cleanup(func() { person.Close() })
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	resize(t, program, width, height)
	return person, program
}

func resize(t *testing.T, f *os.File, width, height int) {
	t.Helper()
	if err := unix.IoctlSetWinsize(int(f.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: uint16(height), Col: uint16(width)}); err != nil {
		t.Fatal(err)
	}
}

// sees reads what the person sees until it holds want.
func sees(t *testing.T, person *os.File, want string) string {
	t.Helper()
	if err := person.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	buf := make([]byte, 4096)
	for !strings.Contains(all.String(), want) {
		n, err := person.Read(buf)
		all.Write(buf[:n])
		if err != nil {
			t.Fatalf("%q is not shown (%v):\n%q", want, err, all.String())
		}
	}
	return all.String()
}

// TestAPersonAtATerminal: what is shown follows looks, keys and the terminal's size, and q leaves the terminal as it was.
func TestAPersonAtATerminal(t *testing.T) {
	for _, end := range []string{"q", "\x03"} {
		person, program := pty(t, 80, 24)
		if !IsTerminal(program, program) {
			t.Fatal("a terminal is not taken for one")
		}
		before, err := term.GetState(int(program.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		var looks atomic.Int64
		done := make(chan error, 1)
		go func() {
			done <- Run(t.Context(), program, program, View[int64]{
				Every: time.Millisecond, Look: func(context.Context) int64 { return looks.Add(1) },
				Frame: func(n int64, at State) []string {
					return []string{fmt.Sprintf("look<%d> size<%dx%d> chosen<%d>", min(n, 3), at.Width, at.Height, at.Selected), strings.Repeat("#", at.Width)}
				},
			})
		}()
		if first := sees(t, person, "look<3> size<80x24> chosen<0>"); !strings.Contains(first, enter) {
			t.Error("it does not go to the other screen")
		}
		for _, k := range []struct{ press, chosen string }{{"\x1b[B", "<1>"}, {"j", "<2>"}, {"k", "<1>"}, {"\x1bOA", "<0>"}, {"\x1b[A", "<0>"}, {"x", "<0>"}} {
			if _, err := io.WriteString(person, k.press); err != nil {
				t.Fatal(err)
			}
			sees(t, person, "chosen"+k.chosen)
		}
		resize(t, program, 40, 10)
		sees(t, person, "size<40x10>")
		if _, err := io.WriteString(person, end); err != nil {
			t.Fatal(err)
		}
		sees(t, person, leave)
		if err := <-done; err != nil {
			t.Error(err)
		}
		after, err := term.GetState(int(program.Fd()))
		if err != nil || *after != *before {
			t.Errorf("the terminal is not as it was (%v)", err)
		}
	}
}

// TestTheEndOfAll: it ends when it is told to, and when the terminal is gone.
func TestTheEndOfAll(t *testing.T) {
	for name, end := range map[string]func(person *os.File, cancel func()){
		"told": func(_ *os.File, cancel func()) { cancel() }, "gone": func(person *os.File, _ func()) { person.Close() },
	} {
		person, program := pty(t, 80, 24)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		done := make(chan error, 1)
		go func() {
			done <- Run(ctx, program, program, View[int]{Every: time.Hour, Look: func(context.Context) int { return 1 }, Frame: func(int, State) []string { return []string{"shown"} }})
		}()
		sees(t, person, "shown")
		end(person, cancel)
		if err := <-done; name == "told" && err != nil { // of one that is gone nothing can be restored
			t.Error(err)
		}
	}
}

func TestKeys(t *testing.T) {
	for in, want := range map[string][]key{"jjk": {down, down, up}, "\x1b[A\x1b[Bq": {up, down, quit}, "\x1b": nil, "\x1b[5~": nil, "é": nil, "\x04": {quit}} {
		if got := parse(in); !slices.Equal(got, want) {
			t.Errorf("%q is %v, want %v", in, got, want)
		}
	}
}
