package servers

import (
	"io"
	"net"
	"sync"
	"testing"
)

// Relay stands between a client and a TCP server, and can be cut and held.
type Relay struct {
	Address string

	to string
	ln net.Listener
	wg sync.WaitGroup

	mu    sync.Mutex
	away  bool
	held  chan struct{} // closed when what is held back may go on; nil while nothing is
	conns map[net.Conn]bool
}

// NewRelay starts one until the end of the test.
func NewRelay(t testing.TB, to string) *Relay {
	t.Helper()
	return NewRelayAt(t, "127.0.0.1", to)
}

// NewRelayAt starts one that is met at an address of this machine.
func NewRelayAt(t testing.TB, at, to string) *Relay {
	t.Helper()
	ln, err := net.Listen("tcp", net.JoinHostPort(at, "0"))
	if err != nil {
		t.Fatal(err)
	}
	r := &Relay{Address: ln.Addr().String(), to: to, ln: ln, conns: map[net.Conn]bool{}}
	r.wg.Go(r.accept)
	t.Cleanup(r.Close)
	return r
}

func (r *Relay) accept() {
	for {
		near, err := r.ln.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", r.to)
		r.mu.Lock()
		if err != nil || r.away {
			near.Close()
			if err == nil {
				far.Close()
			}
			r.mu.Unlock()
			continue
		}
		r.conns[near], r.conns[far] = true, true
		r.mu.Unlock()
		for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
			r.wg.Go(func() {
				_, _ = io.Copy(gate{r, way[0]}, way[1]) // until either end closes
				way[0].Close()
				r.mu.Lock()
				delete(r.conns, way[0])
				r.mu.Unlock()
			})
		}
	}
}

// gate holds back what is written while the relay is held.
type gate struct {
	r *Relay
	net.Conn
}

func (g gate) Write(b []byte) (int, error) {
	g.r.mu.Lock()
	held := g.r.held
	g.r.mu.Unlock()
	if held != nil {
		<-held
	}
	return g.Conn.Write(b)
}

// Cut ends all connections and lets none through until Mend.
func (r *Relay) Cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.away = true
	for c := range r.conns {
		c.Close()
	}
}

// Mend lets connections through again.
func (r *Relay) Mend() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.away = false
}

// Hold keeps what is sent, either way, until release is called.
func (r *Relay) Hold() (release func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	held := make(chan struct{})
	r.held = held
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.held = nil
		close(held)
	}
}

// Close ends it; twice is harmless.
func (r *Relay) Close() {
	r.ln.Close()
	r.Cut()
	r.wg.Wait()
}
