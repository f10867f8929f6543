package prefork

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// MaxWorkers is how many workers a master can have, those on their way out among them.
const MaxWorkers = 1024

// state is what a worker says of itself on the scoreboard.
type state byte

const (
	starting state = iota
	idle
	busy
)

// scoreboard is a page of memory that the master shares with its workers, one byte each (Apache's word and idea).
// Writing to it costs a worker nothing and cannot block it, whatever becomes of the master.
type scoreboard struct {
	file *os.File
	page []byte
}

func newScoreboard() (*scoreboard, error) {
	fd, err := unix.MemfdCreate("registry-scoreboard", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make the scoreboard: %w", err)
	}
	file := os.NewFile(uintptr(fd), "scoreboard")
	if err := file.Truncate(MaxWorkers); err != nil {
		file.Close()
		return nil, fmt.Errorf("make the scoreboard: %w", err)
	}
	return openScoreboard(file)
}

func openScoreboard(file *os.File) (*scoreboard, error) {
	page, err := unix.Mmap(int(file.Fd()), 0, MaxWorkers, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("map the scoreboard: %w", err)
	}
	return &scoreboard{file: file, page: page}, nil
}

func (b *scoreboard) get(slot int) state    { return state(b.page[slot]) }
func (b *scoreboard) set(slot int, s state) { b.page[slot] = byte(s) }

func (b *scoreboard) close() {
	_ = unix.Munmap(b.page)
	b.file.Close()
}
