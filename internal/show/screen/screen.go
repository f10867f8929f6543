// Package screen owns a terminal while something live is shown on it: the other screen, keys as they are pressed, the size as it changes, and
// everything as it was at the end. What is shown is its caller's.
package screen

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// State is how the screen is, and what was chosen on it.
type State struct {
	Width, Height int
	Selected      int // entry, moved by the arrows; it may be beyond the entries' ends
}

// View is what is shown, of T.
type View[T any] struct {
	Every time.Duration
	// Look finds out; it is never called twice at once.
	Look func(ctx context.Context) T
	// Frame is at most State.Height lines of at most State.Width columns.
	Frame func(is T, at State) []string
}

const (
	enter = "\x1b[?1049h\x1b[?25l" // the other screen, without a cursor
	leave = "\x1b[?25h\x1b[?1049l"
)

// IsTerminal reports whether a view can be shown and keys be read.
func IsTerminal(in, out *os.File) bool {
	return term.IsTerminal(int(in.Fd())) && term.IsTerminal(int(out.Fd()))
}

// Run shows a view until q or Ctrl-C is pressed, the terminal is gone, or ctx ends.
func Run[T any](ctx context.Context, in, out *os.File, v View[T]) (err error) {
	before, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return fmt.Errorf("read keys: %w", err)
	}
	defer func() { err = errors.Join(err, term.Restore(int(in.Fd()), before)) }()
	if _, err := io.WriteString(out, enter); err != nil {
		return err
	}
	defer func() { _, _ = io.WriteString(out, leave) }() // the terminal may be gone

	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	keys, stop, err := readKeys(&wg, in)
	if err != nil {
		return err
	}
	defer stop()
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, unix.SIGWINCH)
	defer signal.Stop(resized)
	news := make(chan T)
	wg.Go(func() { look(ctx, v, news) })

	var is T
	seen := false
	at := State{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case is = <-news:
			seen = true
		case <-resized:
		case key, open := <-keys:
			switch {
			case !open, key == quit:
				return nil
			case key == down:
				at.Selected++
			case key == up:
				at.Selected = max(at.Selected-1, 0)
			}
		}
		if !seen {
			continue
		}
		if at.Width, at.Height, err = term.GetSize(int(out.Fd())); err != nil || at.Width <= 0 || at.Height <= 0 {
			at.Width, at.Height = 80, 24
		}
		if err := draw(out, v.Frame(is, at), at.Height); err != nil {
			return err
		}
	}
}

// look finds out again and again.
func look[T any](ctx context.Context, v View[T], news chan<- T) {
	ticker := time.NewTicker(v.Every)
	defer ticker.Stop()
	for {
		select {
		case news <- v.Look(ctx):
		case <-ctx.Done():
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// draw writes the lines over what is there, in one piece: nothing flickers.
func draw(w io.Writer, lines []string, height int) error {
	var b strings.Builder
	b.WriteString("\x1b[H")
	for i, line := range lines[:min(len(lines), height)] {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(line + "\x1b[K")
	}
	b.WriteString("\x1b[J")
	_, err := io.WriteString(w, b.String())
	return err
}

type key uint8

const (
	quit key = iota
	up
	down
)

// readKeys reads keys until stop is called or there are no more; the channel is then closed. A read of a terminal cannot be given up, so
// that it is begun only when there is something to read.
func readKeys(wg *sync.WaitGroup, in *os.File) (keys <-chan key, stop func(), err error) {
	wake, ring, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	out := make(chan key, 16)
	wg.Go(func() {
		defer close(out)
		defer wake.Close()
		buf := make([]byte, 64)
		fds := []unix.PollFd{{Fd: int32(in.Fd()), Events: unix.POLLIN}, {Fd: int32(wake.Fd()), Events: unix.POLLIN}}
		for {
			if _, err := unix.Poll(fds, -1); errors.Is(err, unix.EINTR) {
				continue
			} else if err != nil || fds[1].Revents != 0 {
				return
			}
			n, err := in.Read(buf)
			if err != nil || n == 0 {
				return
			}
			for _, k := range parse(string(buf[:n])) {
				select {
				case out <- k:
				default: // many at once: the rest says no more
				}
			}
		}
	})
	return out, func() { ring.Close() }, nil
}

// parse reads keys as terminals send them.
func parse(s string) (out []key) {
	names := []struct {
		is   string
		then key
	}{{"\x1b[A", up}, {"\x1bOA", up}, {"\x1b[B", down}, {"\x1bOB", down}, {"k", up}, {"j", down}, {"q", quit}, {"Q", quit}, {"\x03", quit}, {"\x04", quit}}
next:
	for s != "" {
		for _, n := range names {
			if rest, ok := strings.CutPrefix(s, n.is); ok {
				out, s = append(out, n.then), rest
				continue next
			}
		}
		s = s[1:]
	}
	return out
}
