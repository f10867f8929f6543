package prefork

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// MaxWorkers is how many workers a master can have, those on their way out among them.
const MaxWorkers = 1024

// state is what is said of a slot's worker: by itself while it runs, by the master before and after.
type state uint64

const (
	gone state = iota // no process has the slot
	starting
	idle
	busy
)

// The words at the beginning of a slot. The worker writes them, but for leaving.
const (
	stateWord   = iota
	sinceWord       // monotonic time, in ns, at which the request in hand began; 0 when there is none
	cpuWord         // the process's CPU time then, in ns
	figureWord      // what a worker measured when it asked to be replaced: bytes or requests
	leavingWord     // 1 from when the master told the worker to go
	ownWords    = 8 // a cache line
)

// scoreboard is memory that the master shares with its workers, a slot for each (Apache's word and idea). Writing to it
// costs a worker nothing and cannot block it, whatever becomes of the master, and what is written outlives the worker.
//
// A slot is the words above and then as many counters as the caller wants. One process writes to a slot at a time: the
// next worker in the same slot goes on with the counters as they are, so that their sum over all slots never falls.
type scoreboard struct {
	file   *os.File
	page   []byte
	words  []atomic.Uint64
	stride int // words in a slot
}

func newScoreboard(counters int) (*scoreboard, error) {
	fd, err := unix.MemfdCreate("registry-scoreboard", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make the scoreboard: %w", err)
	}
	file := os.NewFile(uintptr(fd), "scoreboard")
	if err := file.Truncate(boardSize(counters)); err != nil { // sparse: a slot that no worker had costs nothing
		file.Close()
		return nil, fmt.Errorf("make the scoreboard: %w", err)
	}
	return openScoreboard(file, counters)
}

func boardSize(counters int) int64 { return int64(MaxWorkers * (ownWords + counters) * 8) }

func openScoreboard(file *os.File, counters int) (*scoreboard, error) {
	size := boardSize(counters)
	if info, err := file.Stat(); err != nil || info.Size() != size {
		file.Close()
		if err == nil {
			err = fmt.Errorf("it has %d bytes instead of %d: the program was replaced under its master; restart the master", info.Size(), size)
		}
		return nil, fmt.Errorf("open the scoreboard: %w", err)
	}
	page, err := unix.Mmap(int(file.Fd()), 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("map the scoreboard: %w", err)
	}
	words := unsafe.Slice((*atomic.Uint64)(unsafe.Pointer(unsafe.SliceData(page))), len(page)/8) // a page is aligned
	return &scoreboard{file: file, page: page, words: words, stride: ownWords + counters}, nil
}

func (b *scoreboard) word(slot, word int) *atomic.Uint64 { return &b.words[slot*b.stride+word] }

func (b *scoreboard) get(slot int) state    { return state(b.word(slot, stateWord).Load()) }
func (b *scoreboard) set(slot int, s state) { b.word(slot, stateWord).Store(uint64(s)) }

// counters are the caller's words of a slot.
func (b *scoreboard) counters(slot int) []atomic.Uint64 {
	return b.words[slot*b.stride+ownWords : (slot+1)*b.stride : (slot+1)*b.stride]
}

// vacate readies a slot for its next worker, or says that it has none. Only the master does this, while nobody has the
// slot. The counters stay.
func (b *scoreboard) vacate(slot int, s state) {
	for word := range ownWords {
		b.word(slot, word).Store(0)
	}
	b.set(slot, s)
}

func (b *scoreboard) close() {
	_ = unix.Munmap(b.page)
	b.file.Close()
}
