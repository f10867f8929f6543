package prefork

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime/debug"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"tidemark/registry/serve"
)

// What a worker inherits, counted from the listening socket's descriptor.
const (
	FirstFD      = 3 // the listening socket
	scoreboardFD = 1
	lifelineFD   = 2 // one end of a socket pair whose other end closes when the master is gone
)

// What a worker says on its lifeline: a byte for each report, and, if the Go runtime gives up, the text of its crash,
// which has none of these bytes.
const (
	reportReady   = 1
	reportReached = 2 // and above: this byte less is the Limit after which the worker wants to be replaced
	firstOfText   = reportReached + byte(limits)
)

// Post is a worker's place under its master.
type Post struct {
	Listener serve.Listener
	// Gone is closed when the master has exited or is about to: nobody else will serve the socket.
	Gone <-chan struct{}

	board    *scoreboard
	slot     int
	lifeline *os.File
	limits   Limits
	memory   memory
	requests int
	asked    bool // to be replaced
}

// TakePost is called by a worker for what its master left it: descriptors from fd on, and its slot on the scoreboard,
// with as many counters as the master's Config says. From here on the worker keeps MemoryHard, and, by Busy, MemorySoft
// and Requests; the other limits are its master's to keep.
func TakePost(fd, slot, counters int, limits Limits) (*Post, error) {
	if slot < 0 || slot >= MaxWorkers {
		return nil, fmt.Errorf("no such slot: %d", slot)
	}
	wrong := func(err error) (*Post, error) {
		return nil, fmt.Errorf("take up the work of a prefork master (workers are started by `registry serve --workers`, not by hand): %w", err)
	}
	socket := os.NewFile(uintptr(fd), "listener")
	ln, err := net.FileListener(socket)
	if err != nil {
		return wrong(err)
	}
	socket.Close() // ln is a copy; unlike one made by path, it leaves a unix socket's file alone when it closes
	board, err := openScoreboard(os.NewFile(uintptr(fd+scoreboardFD), "scoreboard"), counters)
	if err != nil {
		return wrong(err)
	}
	if err := unix.SetNonblock(fd+lifelineFD, true); err != nil { // so that waiting for its end costs no thread
		return wrong(err)
	}
	lifeline := os.NewFile(uintptr(fd+lifelineFD), "lifeline")
	if err := debug.SetCrashOutput(lifeline, debug.CrashOptions{}); err != nil {
		return wrong(err)
	}
	memory, err := openMemory()
	if err != nil {
		return wrong(err)
	}
	if limits.MemoryHard > 0 {
		if err := memory.limitGrowth(limits.MemoryHard); err != nil {
			return nil, err
		}
	}
	limits.Requests -= rand.N(limits.Requests/8 + 1)
	gone := make(chan struct{})
	p := &Post{Listener: ln.(serve.Listener), Gone: gone, board: board, slot: slot, lifeline: lifeline, limits: limits, memory: memory}
	go func() { // ends with the process
		defer close(gone)
		_, _ = io.Copy(io.Discard, p.lifeline) // however it ends, it has
	}()
	return p, nil
}

// Counters are this worker's, as those before it in its slot left them.
func (p *Post) Counters() []atomic.Uint64 { return p.board.counters(p.slot) }

// Ready tells the master that this worker serves.
func (p *Post) Ready() error {
	p.board.set(p.slot, idle)
	_, err := p.lifeline.Write([]byte{reportReady})
	return err
}

// Busy tells the master whether a request is in progress. When it has ended, the worker may ask to be replaced.
func (p *Post) Busy(yes bool) {
	if yes {
		p.board.word(p.slot, cpuWord).Store(uint64(ownCPUTime()))
		p.board.word(p.slot, sinceWord).Store(uint64(monotonic()))
		p.board.set(p.slot, busy)
		return
	}
	p.board.word(p.slot, sinceWord).Store(0)
	p.board.set(p.slot, idle)
	p.requests++
	if limit, figure, reached := p.reached(); reached && !p.asked {
		p.asked = true
		p.board.word(p.slot, figureWord).Store(uint64(figure))
		_, _ = p.lifeline.Write([]byte{reportReached + byte(limit)}) // without a master there is nobody to ask
	}
}

// reached says which limit this worker has reached and at what figure.
func (p *Post) reached() (limit Limit, figure int64, yes bool) {
	if p.limits.Requests > 0 && p.requests >= p.limits.Requests {
		return Requests, int64(p.requests), true
	}
	if p.limits.MemorySoft > 0 {
		if _, resident, err := p.memory.now(); err == nil && resident > p.limits.MemorySoft {
			return MemorySoft, resident, true
		}
	}
	return 0, 0, false
}
