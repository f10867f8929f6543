package load

import "io"

// ahead reads in a goroutine of its own, a few chunks ahead of who reads from it, so that inflating and parsing take a core each.
type ahead struct {
	full chan chunk
	free chan []byte
	done chan struct{}
	now  chunk
	rest []byte
}

type chunk struct {
	room []byte
	n    int
	err  error
}

const (
	chunkBytes  = 512 << 10
	chunksAhead = 4
)

func readAhead(from io.Reader) *ahead {
	a := &ahead{full: make(chan chunk, chunksAhead), free: make(chan []byte, chunksAhead+1), done: make(chan struct{})}
	for range cap(a.free) {
		a.free <- make([]byte, chunkBytes)
	}
	go a.run(from)
	return a
}

func (a *ahead) run(from io.Reader) {
	defer close(a.full)
	for {
		select {
		case <-a.done:
			return
		case room := <-a.free:
			c := chunk{room: room}
			for c.n < len(room) && c.err == nil {
				var n int
				n, c.err = from.Read(room[c.n:])
				c.n += n
			}
			select {
			case a.full <- c:
			case <-a.done:
				return
			}
			if c.err != nil {
				return
			}
		}
	}
}

// Read gives what was read ahead, and then the error that ended it.
func (a *ahead) Read(to []byte) (int, error) {
	for len(a.rest) == 0 {
		if a.now.err != nil {
			return 0, a.now.err
		}
		if a.now.room != nil {
			a.free <- a.now.room
		}
		a.now = <-a.full
		a.rest = a.now.room[:a.now.n]
	}
	n := copy(to, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// stop ends the reading, once a read under way has returned.
func (a *ahead) stop() {
	close(a.done)
	for range a.full {
	}
}
