package serve

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

const ages = 30 * time.Second // longer than any test should take

// net/http lingers half a second on a connection after a refused body; that is longer than goleak waits.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

// running starts a worker and returns its address and what Run returns.
func running(t *testing.T, h http.HandlerFunc, busy func(bool)) (*Server, Listener, chan error) {
	t.Helper()
	ln, err := Listen("127.0.0.1:0", 128)
	if err != nil {
		t.Fatal(err)
	}
	s := New(ln, h, log.New(io.Discard, "", 0), busy)
	done := make(chan error, 1)
	go func() { done <- s.Run() }()
	t.Cleanup(func() { s.Stop(0, 0) })
	return s, ln, done
}

// send connects and sends a request; the answer is read by answer. When it returns, the request is in the worker or in
// the accept queue.
func send(t *testing.T, ln net.Listener) net.Conn {
	t.Helper()
	c, err := net.Dial(ln.Addr().Network(), ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(ages))
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	return c
}

func answer(c net.Conn) (string, error) {
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if !resp.Close {
		return "", fmt.Errorf("the connection is kept open")
	}
	return fmt.Sprint(resp.StatusCode, " ", string(body)), err
}

func wait[T any](t *testing.T, c <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(ages):
		t.Fatalf("%s: nothing happened", what)
	}
	return v
}

func TestOneRequestAtATime(t *testing.T) {
	const clients, each = 10, 10
	var inside, most, states atomic.Int32
	_, ln, _ := running(t, func(w http.ResponseWriter, _ *http.Request) {
		now := inside.Add(1)
		if now > most.Load() {
			most.Store(now)
		}
		time.Sleep(time.Millisecond) // long enough for another to come in, were it let
		inside.Add(-1)
		io.WriteString(w, "ok")
	}, func(busy bool) {
		if want := int32(0); states.CompareAndSwap(want, 1) != busy {
			t.Errorf("told busy=%v twice", busy)
		}
		if !busy {
			states.Store(0)
		}
	})
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for range each {
				if got, err := answer(send(t, ln)); got != "200 ok" || err != nil {
					t.Errorf("%q, %v", got, err)
				}
			}
		})
	}
	all.Wait()
	if most.Load() != 1 {
		t.Errorf("%d requests at once", most.Load())
	}
}

func TestLeaveFinishesTheRequestInHand(t *testing.T) {
	begun, end := make(chan bool), make(chan bool)
	s, ln, done := running(t, func(w http.ResponseWriter, _ *http.Request) {
		begun <- true
		<-end
		io.WriteString(w, "ok")
	}, nil)
	inHand := send(t, ln)
	wait(t, begun, "first request")
	queued := send(t, ln)
	s.Stop(0, ages)
	end <- true
	if got, err := answer(inHand); got != "200 ok" || err != nil {
		t.Errorf("the request in hand: %q, %v", got, err)
	}
	if err := wait(t, done, "Run"); err != nil {
		t.Error(err)
	}
	if got, err := answer(queued); err == nil {
		t.Errorf("a queued request was answered: %q", got)
	}
}

func TestLeaveWhenIdle(t *testing.T) {
	s, _, done := running(t, nil, nil)
	s.Stop(0, ages)
	if err := wait(t, done, "Run"); err != nil {
		t.Error(err)
	}
}

func TestDrainAnswersTheQueue(t *testing.T) {
	begun, end := make(chan bool, 100), make(chan bool)
	s, ln, done := running(t, func(w http.ResponseWriter, _ *http.Request) {
		begun <- true
		<-end
		io.WriteString(w, "ok")
	}, nil)
	var queued []net.Conn
	for range 20 {
		queued = append(queued, send(t, ln))
	}
	wait(t, begun, "first request")
	s.Stop(ages, ages)
	close(end)
	for i, c := range queued {
		if got, err := answer(c); got != "200 ok" || err != nil {
			t.Errorf("request %d: %q, %v", i, got, err)
		}
	}
	if err := wait(t, done, "Run"); err != nil {
		t.Error(err)
	}
	if c, err := net.Dial("tcp", ln.Addr().String()); err == nil {
		c.Close()
		t.Error("the socket is still open")
	}
}

// Clients who never let the queue be empty do not keep a worker for ever.
func TestDrainHasALimit(t *testing.T) {
	s, ln, done := running(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }, nil)
	enough := make(chan bool)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for {
				select {
				case <-enough:
					return
				default:
				}
				if c, err := net.Dial("tcp", ln.Addr().String()); err == nil {
					fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
					answer(c)
					c.Close()
				}
			}
		})
	}
	s.Stop(100*time.Millisecond, ages)
	err := wait(t, done, "Run")
	close(enough)
	all.Wait()
	if err != nil {
		t.Error(err)
	}
}

func TestARequestWithoutEndIsGivenUp(t *testing.T) {
	begun, end := make(chan bool), make(chan bool)
	s, ln, done := running(t, func(http.ResponseWriter, *http.Request) {
		begun <- true
		<-end
	}, nil)
	defer close(end)
	send(t, ln)
	wait(t, begun, "request")
	s.Stop(0, 10*time.Millisecond)
	if err := wait(t, done, "Run"); err == nil || !strings.Contains(err.Error(), "given up") {
		t.Errorf("Run: %v", err)
	}
}

// A client that is still sending a body that nobody wants reads why.
func TestRefusalReachesAClientThatIsSending(t *testing.T) {
	_, ln, _ := running(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusRequestEntityTooLarge) }, nil)
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(ages))
	fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", 100<<20)
	c.Write(make([]byte, 1<<20)) // as far as it gets
	if got, err := answer(c); !strings.HasPrefix(got, "413 no") {
		t.Errorf("%q, %v", got, err)
	}
}

func TestASilentConnectionIsLetGo(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: waits for the header time of 2 s")
	}
	_, ln, _ := running(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }, nil)
	silent, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	if got, err := answer(send(t, ln)); got != "200 ok" || err != nil {
		t.Errorf("behind a silent connection: %q, %v", got, err)
	}
}

func TestUnixListener(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	address := "unix:" + path
	first, err := Listen(address, 8)
	if err != nil {
		t.Fatal(err)
	}
	if Address(first) != address {
		t.Errorf("Address gives %s", Address(first))
	}
	if _, err := Listen(address, 8); err == nil || !strings.Contains(err.Error(), "another process serves it") {
		t.Errorf("a served socket: %v", err)
	}
	first.Close() // as by a crash: the file stays
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	second, err := Listen(address, 8)
	if err != nil {
		t.Fatalf("over a dead socket: %v", err)
	}
	second.Close()
	Unlink(address)
	if _, err := os.Stat(path); err == nil {
		t.Error("Unlink leaves the file")
	}
	Unlink(address) // a second time, and where there is nothing to take away
	Unlink("127.0.0.1:1")

	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(address, 8); err == nil {
		t.Error("an ordinary file is taken for a socket")
	}
	if text, _ := os.ReadFile(path); string(text) != "precious" {
		t.Error("an ordinary file is overwritten")
	}
}

func TestListenErrors(t *testing.T) {
	taken, err := Listen("127.0.0.1:0", 8)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for address, want := range map[string]string{
		Address(taken):    "another process serves it",
		"8069":            "missing port",
		"127.0.0.1:99999": "invalid port",
		"unix:/no/such/s": "no such file",
	} {
		if ln, err := Listen(address, 8); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q in it", address, err, want)
			if err == nil {
				ln.Close()
			}
		}
	}
}

// The child's copy must not make the socket blocking: Stop could then not wake a worker that waits for a connection.
func TestDupLeavesTheSocketAlone(t *testing.T) {
	s, ln, done := running(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }, nil)
	file, err := Dup(ln)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	worker, err := net.FileListener(file) // a worker: sets it non-blocking
	if err != nil {
		t.Fatal(err)
	}
	defer worker.Close()
	for range 3 {
		file.Fd() // os/exec, starting another worker
	}
	if got, err := answer(send(t, ln)); got != "200 ok" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	s.Stop(0, ages)
	if err := wait(t, done, "Run"); err != nil {
		t.Error(err)
	}
}

func BenchmarkRequest(b *testing.B) {
	ln, err := Listen("127.0.0.1:0", 128)
	if err != nil {
		b.Fatal(err)
	}
	s := New(ln, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }), log.New(io.Discard, "", 0), nil)
	done := make(chan error, 1)
	go func() { done <- s.Run() }()
	for b.Loop() {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		if _, err := answer(c); err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
	s.Stop(0, ages)
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}
