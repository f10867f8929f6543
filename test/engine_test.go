package test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	ossignal "os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// engine is to its workers what a container engine is: it runs them, says how many there are, and is told by whatever daemon how many there
// should be, one thing at a time. It outlives the daemons, and writes down what they ask.
type engine struct {
	t      *testing.T
	socket string
	record string // what the workers write down themselves

	mu       sync.Mutex
	workers  []*exec.Cmd // oldest first
	changes  []change
	requests []request
}

// change is one change of a fleet's size.
type change struct {
	from, to int
	died     bool // a worker died, and nobody had decided it
	at       time.Time
}

// request is a size asked for by a host's daemon, whether or not it changes anything.
type request struct {
	host string
	size int
	at   time.Time
}

// startEngine begins with so many workers.
func startEngine(t *testing.T, dir string, workers int) *engine {
	t.Helper()
	e := &engine{t: t, socket: filepath.Join(dir, "engine.sock"), record: filepath.Join(dir, "workers")}
	l, err := net.Listen("unix", e.socket)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.scale(workers); err != nil {
		t.Fatal(err)
	}
	e.changes = nil
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed below
			}
			serving.Go(func() { e.answer(conn) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		serving.Wait()
		for _, w := range e.workers {
			_ = w.Process.Kill()
			_ = w.Wait()
		}
	})
	return e
}

// answer does what one client asks: "HOST size" or "HOST N".
func (e *engine) answer(conn net.Conn) {
	defer conn.Close()
	var host, what string
	if _, err := fmt.Fscanln(conn, &host, &what); err != nil {
		return // killed before it asked
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if what != "size" {
		n, err := strconv.Atoi(what)
		e.requests = append(e.requests, request{host, n, time.Now()})
		if err == nil {
			err = e.scale(n)
		}
		if err != nil {
			e.t.Errorf("%s asks for %s workers: %v", host, what, err)
		}
	}
	fmt.Fprintln(conn, len(e.workers)) // to a client that may have been killed
}

// scale returns when the workers serve, or have ended.
func (e *engine) scale(n int) error {
	from := len(e.workers)
	if n == from {
		return nil
	}
	e.changes = append(e.changes, change{from: from, to: n, at: time.Now()})
	for len(e.workers) < n {
		w := exec.Command(os.Args[0], "work", e.record)
		out, err := w.StdoutPipe()
		if err == nil {
			err = w.Start()
		}
		if err == nil {
			_, err = io.ReadFull(out, make([]byte, len(serving)))
		}
		if err != nil {
			return err
		}
		e.workers = append(e.workers, w)
	}
	for len(e.workers) > n {
		w := e.workers[len(e.workers)-1]
		e.workers = e.workers[:len(e.workers)-1]
		if err := w.Process.Signal(syscall.SIGTERM); err != nil {
			return err
		}
		if err := w.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// kill kills workers until so many are left.
func (e *engine) kill(left int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for n := len(e.workers); n > left; n-- {
		w := e.workers[0]
		e.workers = e.workers[1:]
		_ = w.Process.Kill()
		_ = w.Wait() // killed: that is the point
		e.changes = append(e.changes, change{from: n, to: n - 1, died: true, at: time.Now()})
	}
}

// done is what was asked for and done so far, and how many workers there are.
func (e *engine) done() ([]request, []change, int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.requests), slices.Clone(e.changes), len(e.workers)
}

// span is a stretch of time.
type span struct{ from, to time.Time }

// overlap is how long two stretches have in common.
func (s span) overlap(o span) time.Duration {
	from, to := s.from, s.to
	if o.from.After(from) {
		from = o.from
	}
	if o.to.Before(to) {
		to = o.to
	}
	return max(0, to.Sub(from))
}

// below is when fewer than so many workers served, by what they wrote down and when they were killed. It finds also that the workers'
// records are not those of the changes made.
func (e *engine) below(least int) (below []span) {
	e.t.Helper()
	type step struct {
		at time.Time
		by int
	}
	var steps []step
	b, err := os.ReadFile(e.record)
	if err != nil {
		e.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var what string
		var at int64
		if _, err := fmt.Sscan(line, &what, &at); err != nil {
			e.t.Fatal(err)
		}
		steps = append(steps, step{time.Unix(0, at), map[string]int{"begin": 1, "end": -1}[what]})
	}
	_, changes, size := e.done()
	began, ended := least, 0
	for _, c := range changes {
		switch {
		case c.died:
			steps = append(steps, step{c.at, -1})
		case c.to > c.from:
			began += c.to - c.from
		default:
			ended += c.from - c.to
		}
	}
	slices.SortStableFunc(steps, func(a, b step) int { return a.at.Compare(b.at) })
	n := 0
	var since time.Time
	for _, s := range steps {
		was := n
		n += s.by
		switch {
		case was < least && n >= least && !since.IsZero():
			below = append(below, span{since, s.at})
		case was >= least && n < least:
			since = s.at
		}
	}
	wroteBegan, wroteEnded := strings.Count(string(b), "begin"), strings.Count(string(b), "end")
	if wroteBegan != began || wroteEnded != ended || n != size {
		e.t.Errorf("%d workers wrote that they began and %d that they were ended, and %d and %d should have; %d are left, and there are %d", wroteBegan, wroteEnded, began, ended, n, size)
	}
	return below
}

// serving is what a worker says when it serves.
const serving = "serving\n"

// work is a worker: it writes down in the file named when it begins, and when it is asked to end.
func work(args []string) error {
	f, err := os.OpenFile(args[0], os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	ended := make(chan os.Signal, 1)
	ossignal.Notify(ended, syscall.SIGTERM)
	fmt.Fprintln(f, "begin", time.Now().UnixNano())
	fmt.Print(serving)
	<-ended
	_, err = fmt.Fprintln(f, "end", time.Now().UnixNano())
	return err
}

// ask is what a daemon runs to ask the engine at a socket: it is given the socket, the host's name, and the size or the word size.
func ask(args []string) error {
	conn, err := net.Dial("unix", args[0])
	if err != nil {
		return err
	}
	defer conn.Close()
	fmt.Fprintln(conn, args[1], args[2])
	answer, err := bufio.NewReader(conn).ReadString('\n')
	fmt.Print(answer)
	return err
}
