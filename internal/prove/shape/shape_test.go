package shape

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	mrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) {
	if os.Getenv("SHAPE_SERVE") != "" {
		serveForEver()
	}
	goleak.VerifyTestMain(m)
}

// serveForEver is what the benchmark runs as a process of its own: it says where it listens and gives each comer 4 kB.
func serveForEver() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(listener.Addr())
	for {
		c, err := listener.Accept()
		if err != nil {
			panic(err)
		}
		go func() {
			defer c.Close()
			c.Write(make([]byte, 4096))
			io.Copy(io.Discard, c)
		}()
	}
}

// service gives a dial function whose other end is served by serve, in memory, so that time is the bubble's.
func service(serve func(net.Conn)) DialFunc {
	return func(context.Context, string, string) (net.Conn, error) {
		phone, server := net.Pipe()
		go func() {
			defer server.Close()
			serve(server)
		}()
		return phone, nil
	}
}

func open(t testing.TB, l *Link) net.Conn {
	t.Helper()
	c, err := l.DialContext(t.Context(), "tcp", "registry:80")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// onWire is how long n bytes take at rate, in full segments.
func onWire(n int, rate float64) time.Duration {
	bits := 8 * float64(n+(n+payload-1)/payload*headers)
	return time.Duration(bits / rate * float64(time.Second))
}

// ramp is how long a link of rate lies idle while slow start has not yet filled it: the window doubles each round trip.
func ramp(rate float64, rtt time.Duration) (idle time.Duration) {
	for window := 10 * payload; ; window *= 2 {
		wait := rtt + onWire(payload, rate) - onWire(window, rate)
		if wait <= 0 {
			return idle
		}
		idle += wait
	}
}

func within(t *testing.T, what string, got, want time.Duration, percent float64) {
	t.Helper()
	if off := math.Abs(float64(got-want)) / float64(want) * 100; off > percent {
		t.Errorf("%s: %v, in theory %v: %.2f %% off, at most %g", what, got, want, off, percent)
	}
}

func TestThroughputAndRoundTrip(t *testing.T) {
	const size = 500_000
	custom := Profile{Name: "custom", Down: 2e6, Up: 1e6, RTT: 80 * time.Millisecond}
	for _, p := range append(Profiles, custom) {
		if p.Jitter > 0 {
			continue // TestJitterAndStalls
		}
		t.Run(p.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := New(p, 1, service(func(c net.Conn) {
					io.CopyN(c, c, 1) // an echo, then all down, then all up
					c.Write(make([]byte, size))
					io.CopyN(io.Discard, c, size)
					c.Write([]byte{1})
				}))
				defer l.Close()
				start := time.Now()
				c := open(t, l)
				within(t, "dial", time.Since(start), p.RTT+onWire(1, p.Up)+onWire(1, p.Down), 1)

				start = time.Now()
				c.Write([]byte{1})
				io.ReadFull(c, make([]byte, 1))
				within(t, "round trip", time.Since(start), p.RTT+onWire(1, p.Up)+onWire(1, p.Down), 10)

				if _, err := io.ReadFull(c, make([]byte, size)); err != nil {
					t.Fatal(err)
				}
				within(t, "down", time.Since(start), p.RTT+ramp(p.Down, p.RTT)+onWire(size, p.Down), 1)

				start = time.Now()
				c.Write(make([]byte, size))
				io.ReadFull(c, make([]byte, 1))
				within(t, "up", time.Since(start), p.RTT+ramp(p.Up, p.RTT)+onWire(size, p.Up), 1)
			})
		})
	}
}

// With no limit of rate only the windows count: 10, 20, 40 and then the 30 segments that are left, a round trip each.
func TestSlowStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := Profile{RTT: 300 * time.Millisecond, Down: 1e12, Up: 1e12}
		l := New(p, 1, service(func(c net.Conn) { c.Write(make([]byte, 100*payload)) }))
		defer l.Close()
		start := time.Now()
		if n, err := io.Copy(io.Discard, open(t, l)); n != 100*payload || err != nil {
			t.Fatal(n, err)
		}
		within(t, "100 segments", time.Since(start), p.RTT+3*p.RTT+p.RTT/2, 1)
	})
}

func TestConnectionsShareTheLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 100_000
		p := Profiles[0]
		dial := service(func(c net.Conn) { c.Write(make([]byte, size)) })
		start := time.Now()
		var wg sync.WaitGroup
		for i := range 2 { // two phones, four connections each
			l := New(p, uint64(i), dial)
			defer l.Close()
			for range 4 {
				wg.Go(func() { io.Copy(io.Discard, open(t, l)) })
			}
			defer func() {
				up, down := l.Traffic()
				if down.Payload != 4*size || up.Segments != 4 || up.Bytes != 4*headers {
					t.Errorf("traffic: up %+v, down %+v", up, down)
				}
			}()
		}
		wg.Wait()
		within(t, "four downloads at once", time.Since(start), 3*p.RTT/2+onWire(4*size, p.Down), 5)
	})
}

// A handshake costs what it costs a phone: a round trip for TCP, one for TLS 1.3, one for the request, and the bytes of the
// certificate.
func TestHandshakePays(t *testing.T) {
	config, roots := certificate(t)
	synctest.Test(t, func(t *testing.T) {
		p := Profiles[0]
		l := New(p, 1, service(func(c net.Conn) {
			s := tls.Server(c, config)
			b := make([]byte, 64)
			s.Read(b)
			s.Write(b)
			s.Read(b)
		}))
		defer l.Close()
		start := time.Now()
		c := tls.Client(open(t, l), &tls.Config{RootCAs: roots, ServerName: "registry", Time: func() time.Time { return time.Unix(1.8e9, 0) }})
		c.Write([]byte{1})
		c.Read(make([]byte, 64))
		up, down := l.Traffic()
		within(t, "TLS", time.Since(start), 3*p.RTT+onWire(int(up.Bytes), p.Up)+onWire(int(down.Bytes), p.Down), 5)
		c.Close()
	})
}

func certificate(t *testing.T) (*tls.Config, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(4e9, 0), DNSNames: []string{"registry"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, roots
}

// Whatever the network does, the bytes come whole and in order; loss costs time and bytes.
func TestNoByteIsLostOrReordered(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		p := Profile{Down: rapid.Float64Range(1e5, 1e7).Draw(r, "down"), Up: rapid.Float64Range(1e5, 1e7).Draw(r, "up"),
			RTT:    time.Duration(rapid.Int64Range(0, int64(time.Second)).Draw(r, "rtt")),
			Jitter: time.Duration(rapid.Int64Range(0, int64(time.Second)).Draw(r, "jitter")), Loss: rapid.Float64Range(0, 0.3).Draw(r, "loss")}
		seed := rapid.Uint64().Draw(r, "seed")
		sizes := rapid.SliceOfN(rapid.IntRange(0, 30_000), 1, 12).Draw(r, "writes")
		synctest.Test(t, func(*testing.T) {
			l := New(p, seed, service(func(c net.Conn) { io.Copy(c, c) }))
			defer l.Close()
			c, err := l.DialContext(context.Background(), "tcp", "")
			if err != nil {
				r.Fatal(err)
			}
			var sent bytes.Buffer
			rng := mrand.New(mrand.NewPCG(seed, 0))
			for _, n := range sizes {
				for range n {
					sent.WriteByte(byte(rng.Uint32()))
				}
			}
			total := sent.Len()
			want := bytes.Clone(sent.Bytes())
			var wg sync.WaitGroup
			wg.Go(func() {
				for _, n := range sizes {
					if m, err := c.Write(sent.Next(n)); m != n || err != nil {
						r.Errorf("wrote %d of %d: %v", m, n, err)
					}
				}
			})
			got := make([]byte, total)
			if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
				r.Errorf("what came back differs, %v", err)
			}
			wg.Wait()
			up, down := l.Traffic()
			if up.Payload != int64(total) || down.Payload != int64(total) || p.Loss == 0 && up.Lost+down.Lost > 0 {
				r.Errorf("up %+v, down %+v, sent %d", up, down, total)
			}
		})
	})
}

func TestLossCostsBytesAndTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 2_000_000
		p := Profiles[0]
		p.Loss = 0.02
		l := New(p, 1, service(func(c net.Conn) { c.Write(make([]byte, size)) }))
		defer l.Close()
		start := time.Now()
		if n, err := io.Copy(io.Discard, open(t, l)); n != size || err != nil {
			t.Fatal(n, err)
		}
		_, down := l.Traffic()
		if share := float64(down.Lost) / float64(down.Segments); math.Abs(share-p.Loss) > 0.01 {
			t.Errorf("%.1f %% lost, asked for 2 %%", 100*share)
		}
		least := onWire(size, p.Down) * 102 / 100
		if took := time.Since(start); took < least || took > 2*least {
			t.Errorf("took %v; with the bytes sent again it is at least %v", took, least)
		}
	})
}

// On a rough network a round trip is longer by what its two segments come late, on average by all of the jitter, and one in fifty is
// stalled: either of its segments was lost, and comes a round trip later.
func TestJitterAndStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const trips = 20_000
		p, _ := Named("3g-rough")
		l := New(p, 1, service(func(c net.Conn) { io.Copy(c, c) }))
		defer l.Close()
		c := open(t, l)
		wire := onWire(1, p.Up) + onWire(1, p.Down)
		stalled, spread := 0, 0.0
		var quick, late time.Duration
		for range trips {
			start := time.Now()
			c.Write([]byte{1})
			io.ReadFull(c, make([]byte, 1))
			took := time.Since(start) - p.RTT - wire
			if took < 0 {
				t.Fatalf("%v less than a round trip takes at least", -took)
			}
			if took > 2*p.Jitter {
				stalled++
				late += took
				continue
			}
			quick += took
			spread += (took - p.Jitter).Seconds() * (took - p.Jitter).Seconds()
		}
		n := trips - stalled
		within(t, "jitter, on average", quick/time.Duration(n), p.Jitter, 2)
		within(t, "its deviation", time.Duration(math.Sqrt(spread/float64(n))*1e9), time.Duration(float64(p.Jitter)/math.Sqrt(6)), 2) // of the sum of two, each even over the whole
		within(t, "a stall", late/time.Duration(stalled)-p.Jitter, p.RTT, 5)
		want := trips * (1 - (1-p.Loss)*(1-p.Loss))
		if math.Abs(float64(stalled)-want) > 4*math.Sqrt(want) {
			t.Errorf("%d of %d round trips stalled, in theory %.0f", stalled, trips, want)
		}
	})
}

func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Profiles[0], 1, service(func(c net.Conn) { io.Copy(c, c) }))
		defer l.Close()
		c := open(t, l)
		start := time.Now()
		c.SetReadDeadline(start.Add(50 * time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != 50*time.Millisecond {
			t.Errorf("read: %v after %v", err, time.Since(start))
		}
		c.SetWriteDeadline(time.Now().Add(time.Second))
		start = time.Now()
		n, err := c.Write(make([]byte, 1_000_000)) // a minute's worth
		if !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Second || n == 0 || n > 200_000 {
			t.Errorf("write: %d, %v after %v", n, err, time.Since(start))
		}
		c.SetDeadline(time.Time{}) // as good as new, and nothing is lost
		if m, err := io.CopyN(io.Discard, c, int64(n)); err != nil {
			t.Errorf("only %d of %d bytes came back: %v", m, n, err)
		}
		// A deadline in the past ends a Read that is under way; so net/http aborts one.
		time.AfterFunc(time.Second, func() { c.SetReadDeadline(time.Unix(1, 0)) })
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("interrupted read: %v", err)
		}
		c.Close()
		if err := c.SetDeadline(time.Time{}); !errors.Is(err, net.ErrClosed) {
			t.Errorf("deadline of a closed connection: %v", err)
		}
	})
}

func TestCloseMidTransfer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 10_000
		got := make(chan int64, 1)
		l := New(Profiles[0], 1, service(func(c net.Conn) {
			go c.Write(make([]byte, 1_000_000)) // nobody will read all this
			n, _ := io.Copy(io.Discard, c)
			got <- n
		}))
		defer l.Close()
		c := open(t, l)
		c.Write(make([]byte, size))
		time.AfterFunc(200*time.Millisecond, func() { c.Close() })
		start := time.Now()
		if _, err := io.Copy(io.Discard, c); !errors.Is(err, net.ErrClosed) || time.Since(start) != 200*time.Millisecond {
			t.Errorf("read: %v after %v", err, time.Since(start))
		}
		if _, err := c.Write([]byte{1}); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write: %v", err)
		}
		// What was written before the close still arrives, at its time.
		if n := <-got; n != size {
			t.Errorf("the server got %d of %d bytes", n, size)
		}
		within(t, "the last byte", time.Since(start), Profiles[0].RTT/2+onWire(size, Profiles[0].Up), 5)
		if err := c.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("second close: %v", err)
		}
	})
}

// tcp serves each connection to a port of the loopback interface until the test ends.
func tcp(t testing.TB, serve func(*net.TCPConn)) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				serve(c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		wg.Wait()
	})
	return listener.Addr().String()
}

// Over real sockets and on the wall's clock: each side can end its half and still read the other's.
func TestHalfCloseOverTCP(t *testing.T) {
	p := Profile{Down: 10e6, Up: 10e6, RTT: 20 * time.Millisecond}
	const size = 100_000
	address := tcp(t, func(c *net.TCPConn) {
		n, _ := io.Copy(io.Discard, c) // up to the phone's end
		c.Write(make([]byte, n))
	})
	l := New(p, 1, nil)
	defer l.Close()
	start := time.Now()
	c, err := l.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte{1}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write after CloseWrite: %v", err)
	}
	if n, err := io.Copy(io.Discard, c); n != size || err != nil {
		t.Errorf("%d bytes came back, %v", n, err)
	}
	least := 2*p.RTT + onWire(size, p.Up) + onWire(size, p.Down)
	if took := time.Since(start); took < least {
		t.Errorf("took %v, in theory at least %v", took, least)
	}
	c.Close()
}

func TestLinkCloseCutsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := make(chan int64, 1)
		l := New(Profiles[0], 1, service(func(c net.Conn) {
			n, _ := io.Copy(io.Discard, c)
			got <- n
		}))
		c := open(t, l)
		start := time.Now()
		time.AfterFunc(time.Second, func() { l.Close() })
		if n, err := c.Write(make([]byte, 100_000)); !errors.Is(err, net.ErrClosed) || n == 0 || time.Since(start) != time.Second {
			t.Errorf("%d, %v after %v", n, err, time.Since(start))
		}
		if n := <-got; n == 0 || n > 16_000 {
			t.Errorf("in one second at 128 kbit/s the server got %d bytes", n)
		}
		if _, err := l.DialContext(t.Context(), "tcp", ""); !errors.Is(err, net.ErrClosed) {
			t.Errorf("dial on a closed link: %v", err)
		}
	})
}

func TestServerGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Profiles[0], 1, service(func(c net.Conn) { c.Write([]byte("bye")) }))
		defer l.Close()
		c := open(t, l)
		start := time.Now()
		if b, err := io.ReadAll(c); string(b) != "bye" || err != nil || time.Since(start) < Profiles[0].RTT/2 {
			t.Errorf("%q, %v after %v", b, err, time.Since(start))
		}
		for range 2 { // the first is on its way when the server's refusal comes back
			c.Write([]byte{1})
			time.Sleep(time.Second)
		}
		if _, err := c.Write([]byte{1}); err == nil {
			t.Error("writes to a server that is gone succeed")
		}
	})
}

func TestDialGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dials := 0
		l := New(Profiles[0], 1, func(context.Context, string, string) (net.Conn, error) {
			dials++
			return nil, fmt.Errorf("refused")
		})
		defer l.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := l.DialContext(ctx, "tcp", ""); !errors.Is(err, context.DeadlineExceeded) || dials != 0 {
			t.Errorf("%v, dialled %d times", err, dials)
		}
		if _, err := l.DialContext(t.Context(), "tcp", ""); err == nil || dials != 1 {
			t.Errorf("%v, dialled %d times", err, dials)
		}
	})
}

// http.Transport keeps its connections, and its time-outs work.
func TestHTTP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		incoming := make(chan net.Conn)
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n, _ := io.Copy(io.Discard, r.Body)
			fmt.Fprint(w, n)
		})}
		listener := pipes{incoming, make(chan struct{})}
		go server.Serve(listener)
		l := New(Profiles[0], 1, func(context.Context, string, string) (net.Conn, error) {
			phone, server := net.Pipe()
			incoming <- server
			return phone, nil
		})
		transport := &http.Transport{DialContext: l.DialContext}
		client := &http.Client{Transport: transport, Timeout: time.Minute}
		ask := func(n int) (string, time.Duration, error) {
			start := time.Now()
			resp, err := client.Post("http://registry/", "application/octet-stream", bytes.NewReader(make([]byte, n)))
			if err != nil {
				return "", time.Since(start), err
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			return string(b), time.Since(start), err
		}
		b, took, err := ask(1)
		if b != "1" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
		within(t, "first request", took, 2*Profiles[0].RTT, 10)
		b, took, err = ask(160_000)
		if b != "160000" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
		within(t, "160 kB up", took, Profiles[0].RTT+onWire(160_000, Profiles[0].Up), 5)
		if _, took, err = ask(10_000_000); err == nil || took != time.Minute {
			t.Errorf("a time-out of a minute: %v after %v", err, took)
		}
		transport.CloseIdleConnections()
		l.Close()
		server.Close()
		time.Sleep(time.Second) // net/http lingers for half a second
	})
}

// pipes is a listener whose connections are handed in.
type pipes struct {
	incoming chan net.Conn
	closed   chan struct{}
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.incoming:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p pipes) Close() error {
	close(p.closed)
	return nil
}

func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// Ten thousand phones, each with a connection that has just fetched 4 kB from a process of its own, over real sockets.
func BenchmarkTenThousandConnections(b *testing.B) {
	const phones = 10_000
	server := exec.CommandContext(b.Context(), os.Args[0])
	server.Env = append(os.Environ(), "SHAPE_SERVE=1")
	out, err := server.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := server.Start(); err != nil {
		b.Fatal(err)
	}
	defer server.Wait()
	defer server.Process.Kill()
	var address string
	if _, err := fmt.Fscanln(out, &address); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		before := resident(b)
		links := make([]*Link, phones)
		var wg sync.WaitGroup
		for i := range links {
			links[i] = New(Profiles[0], uint64(i), nil)
			wg.Go(func() {
				c, err := links[i].DialContext(b.Context(), "tcp", address)
				if err != nil {
					b.Error(err)
					return
				}
				c.SetReadDeadline(time.Now().Add(time.Minute))
				if _, err = io.ReadFull(c, make([]byte, 4096)); err != nil {
					b.Error(err)
				}
			})
		}
		wg.Wait()
		after := resident(b)
		b.ReportMetric(float64(after-before)/phones, "B/conn")
		b.ReportMetric(float64(after>>20), "MiB-resident")
		for _, l := range links {
			l.Close()
		}
	}
}

// resident is the memory of this process, in bytes.
func resident(tb testing.TB) int {
	tb.Helper()
	var size, pages int
	b, err := os.ReadFile("/proc/self/statm")
	if err == nil {
		_, err = fmt.Sscan(string(b), &size, &pages)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return pages * os.Getpagesize()
}
