package prefork

import (
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"tidemark/registry/serve"
)

// What a worker inherits, counted from the listening socket's descriptor.
const (
	FirstFD      = 3 // the listening socket
	scoreboardFD = 1
	lifelineFD   = 2 // one end of a socket pair whose other end closes when the master is gone
)

// Post is a worker's place under its master.
type Post struct {
	Listener serve.Listener
	// Gone is closed when the master has exited or is about to: nobody else will serve the socket.
	Gone <-chan struct{}

	board    *scoreboard
	slot     int
	lifeline *os.File
}

// TakePost is called by a worker for what its master left it: descriptors from fd on, and its slot on the scoreboard.
func TakePost(fd, slot int) (*Post, error) {
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
	board, err := openScoreboard(os.NewFile(uintptr(fd+scoreboardFD), "scoreboard"))
	if err != nil {
		return wrong(err)
	}
	if err := unix.SetNonblock(fd+lifelineFD, true); err != nil { // so that waiting for its end costs no thread
		return wrong(err)
	}
	gone := make(chan struct{})
	p := &Post{Listener: ln.(serve.Listener), Gone: gone, board: board, slot: slot, lifeline: os.NewFile(uintptr(fd+lifelineFD), "lifeline")}
	go func() { // ends with the process
		defer close(gone)
		_, _ = io.Copy(io.Discard, p.lifeline) // however it ends, it has
	}()
	return p, nil
}

// Ready tells the master that this worker serves.
func (p *Post) Ready() error {
	p.board.set(p.slot, idle)
	_, err := p.lifeline.Write([]byte{1})
	return err
}

// Busy tells the master whether a request is in progress.
func (p *Post) Busy(yes bool) {
	p.board.set(p.slot, map[bool]state{false: idle, true: busy}[yes])
}
