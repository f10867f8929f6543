// Package prefork is a master that keeps a number of workers on one listening socket and changes the number on
// signals, as gunicorn's does:
//
//	SIGTTIN         one worker more
//	SIGTTOU         one worker fewer, never below one: an idle one if there is one, after its request if not
//	SIGHUP          every worker replaced, one after the other, none missing meanwhile
//	SIGTERM, SIGINT graceful end: what is queued is answered first; a second one ends it at once
//	SIGQUIT         end at once
//
// Signals of one kind that arrive while one is still pending are one signal: the kernel's rule. Send one, see its
// effect, send the next.
//
// It also replaces or kills workers that pass a limit (Limits), as Odoo's does, and shares memory with them in which each
// counts what it does.
//
// It owns the worker processes and what they inherit. What a worker does with a request is registry/serve's matter, what
// it counts registry/metrics's.
package prefork

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"tidemark/registry/serve"
)

// Config is what a master needs.
type Config struct {
	Listener serve.Listener // the master takes it over
	Workers  int            // at least 1
	Program  string         // what workers run
	Args     []string       // their command line; "--slot N" is added
	Counters int            // words on the scoreboard for each worker to count in
	Limits   Limits         // TimeReal and TimeCPU are kept here, the others by the workers
	Grace    time.Duration  // how long a worker may take to finish its request before it is killed
	Tell     func(Event)    // hears what happens, from one goroutine
	Ending   func()         // called when the end begins: nobody new should connect
}

// Event is one thing that happened.
type Event struct {
	What    What
	PID     int    // of the worker, 0 when it is none's affair
	Workers int    // how many there are to be, 0 at the end
	Detail  string // a signal's name, an exit status, what a limit was compared with
	Limit   Limit  // of Limited
}

// What is the kind of an event.
type What uint8

const (
	Started    What = iota // a worker process was started
	Ready                  // it accepts requests
	Died                   // it ended unasked
	Left                   // it ended as asked
	Killed                 // it did not end in time and was killed
	Signalled              // the master got a signal
	CannotFork             // no worker could be started: tried again later
	Limited                // it passed a limit: it is being replaced, or has ended in the middle of its request
)

const (
	// A worker that ends unasked within earlyDeath is replaced after a pause that doubles each time.
	earlyDeath = time.Second
	firstPause = 100 * time.Millisecond
	longest    = 5 * time.Second
	// lateKill is how long after its grace a worker has to end by itself.
	lateKill = time.Second
)

// worker is one process. It is starting until it reports for work, leaving once it was told to stop, and dropped when
// its process is gone.
//
//	starting -> serving -> leaving -> (gone)
//	    \__________\__________________^
type worker struct {
	process    *os.Process
	slot       int
	generation int // of the SIGHUP that it belongs to; spent when it is to be replaced on its own account
	started    time.Time
	lifeline   *os.File
	ready      bool
	struck     bool      // by a limit, and killed
	killAt     time.Time // zero until it is leaving
}

// spent is older than every generation.
const spent = -1

func (w *worker) leaving() bool { return !w.killAt.IsZero() }

// notice is what a worker's watcher hears: a report from it, or, with an exit state, that it is gone.
type notice struct {
	worker *worker
	report byte
	exit   *os.ProcessState
	crash  string // the beginning of what the Go runtime said at the end, if it crashed
}

// Master keeps the workers. Everything happens in Run's goroutine; one watcher per worker feeds it notices.
type Master struct {
	Config
	socket     *os.File
	board      *scoreboard
	workers    []*worker
	notices    chan notice
	signals    chan os.Signal
	target     int
	generation int
	early      int       // deaths and replacements at once, in a row
	notBefore  time.Time // when the next worker may be started
	ending     bool
	tally      tally
}

// New readies a master: from here on the process survives the signals above and keeps them for Run.
func New(c Config) (*Master, error) {
	if c.Workers < 1 || c.Workers > MaxWorkers/2 {
		return nil, fmt.Errorf("%d workers: the number must be from 1 to %d", c.Workers, MaxWorkers/2)
	}
	board, err := newScoreboard(c.Counters)
	if err != nil {
		return nil, err
	}
	socket, err := serve.Dup(c.Listener)
	if err != nil {
		board.close()
		return nil, fmt.Errorf("share the listening socket: %w", err)
	}
	c.Listener.Close() // the copy stays; as a Go listener it would wake the master at each connection
	m := &Master{Config: c, socket: socket, board: board, target: c.Workers, notices: make(chan notice), signals: make(chan os.Signal, 64)}
	m.tally.wanted.Store(int64(c.Workers))
	signal.Notify(m.signals, unix.SIGTTIN, unix.SIGTTOU, unix.SIGHUP, unix.SIGTERM, unix.SIGINT, unix.SIGQUIT)
	return m, nil
}

// Run keeps the workers until a signal ends it. The listening socket is closed when it returns; the scoreboard stays for
// as long as the process, because Census and Counters may still be asked for.
func (m *Master) Run() error {
	defer m.socket.Close()
	defer signal.Stop(m.signals)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if m.ending && len(m.workers) == 0 {
			return nil
		}
		timer.Reset(m.reconcile(time.Now()))
		select {
		case s := <-m.signals:
			m.obey(s.(unix.Signal))
		case n := <-m.notices:
			m.heed(n)
		case <-timer.C:
		}
	}
}

func (m *Master) obey(s unix.Signal) {
	switch {
	case s == unix.SIGQUIT:
		m.end(true)
	case s == unix.SIGTERM || s == unix.SIGINT:
		m.end(m.ending)
	case m.ending: // too late for a number
	case s == unix.SIGTTIN:
		m.target = min(m.target+1, MaxWorkers/2)
	case s == unix.SIGTTOU:
		m.target = max(m.target-1, 1)
	case s == unix.SIGHUP:
		m.generation++
	}
	m.Tell(Event{What: Signalled, Workers: m.target, Detail: unix.SignalName(s)})
}

// end closes the lifelines: each worker then empties the queue with its siblings, and exits.
func (m *Master) end(atOnce bool) {
	m.ending, m.target = true, 0
	m.Ending()
	for _, w := range m.workers {
		if atOnce {
			_ = w.process.Kill() // one that is gone is reported by its watcher, here and below
		}
		m.dismiss(w, nil)
		w.lifeline.Close()
	}
}

func (m *Master) heed(n notice) {
	w := n.worker
	switch {
	case n.exit != nil:
		m.bury(n)
	case n.report == reportReady:
		w.ready = true
		m.Tell(Event{What: Ready, PID: w.process.Pid, Workers: m.target})
	case n.report >= reportReached && !w.leaving():
		w.generation = spent
		m.backOff(w)
		m.limited(w, Limit(n.report-reportReached))
	}
}

// bury strikes a worker off that is gone.
func (m *Master) bury(n notice) {
	w := n.worker
	m.workers = slices.DeleteFunc(m.workers, func(o *worker) bool { return o == w })
	w.lifeline.Close()
	if m.Limits.MemoryHard > 0 && outOfMemory(n.crash) {
		m.limited(w, MemoryHard)
	}
	m.board.vacate(w.slot, gone)
	e := Event{What: Left, PID: w.process.Pid, Workers: m.target, Detail: n.exit.String()}
	if !w.leaving() {
		e.What = Died
		m.tally.deaths.Add(1)
		m.backOff(w)
	}
	m.Tell(e)
}

// limited counts and tells that a worker passed a limit.
func (m *Master) limited(w *worker, limit Limit) {
	m.tally.struck[limit].Add(1)
	e := Event{What: Limited, PID: w.process.Pid, Workers: m.target, Limit: limit}
	switch figure := m.board.word(w.slot, figureWord).Load(); limit {
	case MemorySoft:
		e.Detail = fmt.Sprintf("%d MiB", figure>>20)
	case Requests:
		e.Detail = fmt.Sprintf("%d requests", figure)
	}
	m.Tell(e)
}

// backOff slows the next start down if w did not last.
func (m *Master) backOff(w *worker) {
	if m.early++; time.Since(w.started) > earlyDeath {
		m.early = 0
	}
	m.pause()
}

// pause holds back the next start after m.early failures in a row.
func (m *Master) pause() {
	if m.early > 0 {
		m.notBefore = time.Now().Add(min(firstPause<<min(m.early-1, 10), longest))
	}
}

// reconcile brings the workers nearer to the target and returns when to look again at the latest.
func (m *Master) reconcile(now time.Time) time.Duration {
	m.tally.wanted.Store(int64(m.target))
	next := now.Add(time.Hour)
	soonest := func(t time.Time) {
		if t.Before(next) {
			next = t
		}
	}
	var staff []*worker // not leaving
	unready, old := 0, 0
	for _, w := range m.workers {
		if limit, passed, again := m.overrun(w); passed && !w.struck {
			w.struck = true
			_ = w.process.Kill()
			m.limited(w, limit)
		} else if !passed {
			soonest(now.Add(again))
		}
		switch {
		case w.leaving() && !now.Before(w.killAt):
			_ = w.process.Kill()
			m.Tell(Event{What: Killed, PID: w.process.Pid, Workers: m.target})
			w.killAt = now.Add(time.Hour)
		case w.leaving():
			soonest(w.killAt)
		default:
			staff = append(staff, w)
			if !w.ready {
				unready++
			}
			if w.generation != m.generation {
				old++
			}
		}
	}
	if m.ending {
		return next.Sub(now)
	}

	// While one generation replaces another there is one worker more than the target, from the start of a new worker
	// until it is ready and an old one can go.
	want := m.target
	if old > 0 && (unready > 0 || len(staff) == len(m.workers)) {
		want++
	}
	switch {
	case len(staff) > want || len(staff) > m.target && unready == 0:
		m.dismiss(m.choose(staff), unix.SIGTERM)
		return 0
	case len(staff) < want && now.Before(m.notBefore):
		soonest(m.notBefore)
	case len(staff) < want:
		if err := m.start(now); err != nil {
			m.early++
			m.pause()
			m.Tell(Event{What: CannotFork, Workers: m.target, Detail: err.Error()})
		}
		return 0
	}
	return next.Sub(now)
}

// choose returns the worker that is missed least: of an old generation, not ready yet, idle, and then the newest,
// whose caches are coldest.
func (m *Master) choose(staff []*worker) *worker {
	return slices.MinFunc(staff, func(a, b *worker) int {
		return cmp.Or(
			cmp.Compare(a.generation, b.generation),
			cmp.Compare(m.board.get(a.slot), m.board.get(b.slot)),
			b.started.Compare(a.started),
		)
	})
}

// dismiss marks a worker as leaving; with a signal it is told so.
func (m *Master) dismiss(w *worker, s os.Signal) {
	if !w.leaving() {
		w.killAt = time.Now().Add(m.Grace + lateKill)
		m.board.word(w.slot, leavingWord).Store(1)
	}
	if s != nil {
		_ = w.process.Signal(s)
	}
}

func (m *Master) start(now time.Time) error {
	slot := 0
	for slices.ContainsFunc(m.workers, func(w *worker) bool { return w.slot == slot }) {
		slot++
	}
	if slot == MaxWorkers {
		return errors.New("too many workers are still finishing")
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	err = unix.SetNonblock(pair[0], true) // so that closing it ends a Read
	mine, theirs := os.NewFile(uintptr(pair[0]), "lifeline"), os.NewFile(uintptr(pair[1]), "lifeline")
	defer theirs.Close()
	if err != nil {
		return errors.Join(err, mine.Close())
	}
	m.board.vacate(slot, starting)
	cmd := &exec.Cmd{
		Path:       m.Program,
		Args:       append(slices.Clone(m.Args), "--slot", strconv.Itoa(slot)),
		Stderr:     os.Stderr,
		ExtraFiles: []*os.File{m.socket, m.board.file, theirs},
	}
	if err := cmd.Start(); err != nil {
		mine.Close()
		m.board.vacate(slot, gone)
		return fmt.Errorf("start a worker: %w", err)
	}
	w := &worker{process: cmd.Process, slot: slot, generation: m.generation, started: now, lifeline: mine}
	m.workers = append(m.workers, w)
	m.tally.starts.Add(1)
	m.tally.slots.Store(max(m.tally.slots.Load(), int64(slot+1)))
	m.Tell(Event{What: Started, PID: w.process.Pid, Workers: m.target})
	go m.watch(w, cmd) // ends with the worker; Run receives until the last has ended
	return nil
}

func (m *Master) watch(w *worker, cmd *exec.Cmd) {
	var crash []byte
	for buf := make([]byte, 4<<10); ; {
		n, err := w.lifeline.Read(buf)
		for i, b := range buf[:n] {
			if crash != nil || b >= firstOfText {
				crash = append(crash, buf[i:n]...)
				crash = crash[:min(len(crash), 4<<10)]
				break
			}
			m.notices <- notice{worker: w, report: b}
		}
		if err != nil {
			break
		}
	}
	_ = cmd.Wait() // the state says it all
	m.notices <- notice{worker: w, exit: cmd.ProcessState, crash: string(crash)}
}
