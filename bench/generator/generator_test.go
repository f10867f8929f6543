// Package generator compares what a request costs the load generator with what it costs a plain net/http loop and vegeta, in
// the same run, against a trivial server in a process of its own. A module of its own, so that vegeta stays out of the product.
package generator

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"
	"golang.org/x/sys/unix"

	"tidemark/internal/prove/rehearsal"
	"tidemark/internal/prove/scenario"
)

func TestMain(m *testing.M) {
	if os.Getenv("GENERATOR_SERVE") != "" {
		serve()
	}
	os.Exit(m.Run())
}

// serve answers every request with the same 100 bytes of JSON, and does no more: one thread that reads and writes sockets. It looks at
// them all the time and never sleeps, so that it stalls as seldom as may be, and waking it up, which costs a virtual machine as much as a
// request, is not charged to whoever asks. It takes all of its core.
func serve() {
	check := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	listening, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	check(err)
	check(unix.Bind(listening, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	check(unix.Listen(listening, 4096))
	own, err := unix.Getsockname(listening)
	check(err)
	fmt.Printf("127.0.0.1:%d\n", own.(*unix.SockaddrInet4).Port)
	poll, err := unix.EpollCreate1(0)
	check(err)
	heed := func(fd int) {
		check(unix.EpollCtl(poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}))
	}
	heed(listening)
	body := fmt.Sprintf(`{"name":%q}`, bytes.Repeat([]byte("x"), 89))
	answer := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	ready, request := make([]unix.EpollEvent, 256), make([]byte, 4096)
	for {
		n, err := unix.EpollWait(poll, ready, 0)
		if err != nil && err != unix.EINTR {
			panic(err)
		}
		for _, e := range ready[:max(n, 0)] {
			fd := int(e.Fd)
			if fd == listening {
				if fd, _, err = unix.Accept4(listening, unix.SOCK_NONBLOCK); err == nil {
					check(unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1))
					heed(fd)
				}
				continue
			}
			n, err := unix.Read(fd, request) // a GET comes whole
			switch {
			case err == unix.EAGAIN || err == unix.EINTR:
			case err != nil || n == 0:
				unix.Close(fd)
			case bytes.HasSuffix(request[:n], []byte("\r\n\r\n")):
				unix.Write(fd, answer) // where it fails the next read says so
			default:
				panic("half a request came")
			}
		}
	}
}

// server starts serve in a process of its own, and on the last core where that can be had: run the benchmark itself on the first,
// taskset -c 0 go test -run xxx -bench . -benchtime 1x.
func server(b *testing.B) (url string) {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	if taskset, err := exec.LookPath("taskset"); err == nil {
		cores, err := os.ReadFile("/sys/devices/system/cpu/online") // 0-1
		if err != nil {
			b.Fatal(err)
		}
		last := strings.TrimSpace(string(cores))
		cmd = exec.Command(taskset, "-c", last[strings.LastIndexAny(last, "-,")+1:], os.Args[0])
	}
	cmd.Env = append(os.Environ(), "GENERATOR_SERVE=1", "GOMAXPROCS=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	var address string
	if _, err := fmt.Fscanln(out, &address); err != nil {
		b.Fatal(err)
	}
	return "http://" + address + "/"
}

const length = 3 * time.Second // of each measurement

// scenarios are what Tidemark plays: a second in which connections are opened, and then the measurement.
const scenarios = `
name: bench
duration: 4s
warm_up: 1s
journeys: [{name: get, steps: [{name: get, path: /}]}]
load: [%s]
`

// Of one core: GOMAXPROCS is 1. "offered" is open-loop at a fixed rate; the others ask as fast as fifty users can.
func BenchmarkOneCore(b *testing.B) {
	address := server(b)
	target, err := url.Parse(address)
	if err != nil {
		b.Fatal(err)
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	tidemark := func(load string) func(*testing.B) int {
		return func(b *testing.B) int {
			s, err := scenario.Parse("bench.yaml", fmt.Appendf(nil, scenarios, load), scenario.Options{})
			if err != nil {
				b.Fatal(err)
			}
			o, err := rehearsal.Play(b.Context(), rehearsal.Plan{Scenario: s, Target: target, Seed: 1})
			if err != nil {
				b.Fatal(err)
			}
			if sum := rehearsal.Total(o, ""); sum.Failures() > 0 {
				b.Fatalf("%v: %v", sum.Failed, o.Notes)
			}
			n := uint64(0)
			for _, slot := range o.Steps[0].Slots {
				if slot.At > 0 {
					n += slot.Count
				}
			}
			b.ReportMetric(float64(n)/length.Seconds(), "requests/s")
			b.ReportMetric(1000*o.Generator.LagP50, "ms-lag-p50")
			b.ReportMetric(1000*o.Generator.LagP99, "ms-lag-p99")
			b.ReportMetric(1000*o.Generator.LagMax, "ms-lag-max")
			b.ReportMetric(float64(o.Generator.Dropped), "dropped")
			b.ReportMetric(float64(len(o.Generator.Limits)), "limits")
			return int(o.Generator.Requests)
		}
	}
	attack := func(rate int) func(*testing.B) int {
		return func(b *testing.B) int {
			attacker := vegeta.NewAttacker(vegeta.KeepAlive(true), vegeta.HTTP2(false), vegeta.Workers(50), vegeta.MaxWorkers(50))
			defer attacker.Stop()
			var pacer vegeta.Pacer = vegeta.Rate{Freq: rate, Per: time.Second}
			n := 0
			for r := range attacker.Attack(vegeta.NewStaticTargeter(vegeta.Target{Method: http.MethodGet, URL: address}), pacer, length, "") {
				if r.Error != "" {
					b.Fatal(r.Error)
				}
				n++
			}
			b.ReportMetric(float64(n)/length.Seconds(), "requests/s")
			return n
		}
	}
	offered := func(rate int) func(*testing.B) int {
		return tidemark(fmt.Sprintf("{journey: get, connection: kept, arrivals: even, rate: [{at: 0s, rate: 100}, {at: 1s, rate: %d}]}", rate))
	}
	for _, c := range []struct {
		name string
		play func(*testing.B) int
	}{
		{"offered-20000/tidemark", offered(20_000)},
		{"offered-4000/tidemark", offered(4000)},
		{"offered-4000/vegeta", attack(4000)},
		{"flat-out/tidemark", tidemark("{journey: get, users: 50}")},
		{"flat-out/vegeta", attack(0)},
		{"flat-out/net-http-loop", func(b *testing.B) int { return loop(b, address) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				before := cpu()
				n := c.play(b)
				b.ReportMetric(float64((cpu()-before).Microseconds())/float64(n), "us-CPU/request")
				b.ReportMetric(0, "ns/op")
			}
		})
	}
}

// loop is the plainest thing that net/http can do: fifty goroutines that ask and read, and measure nothing.
func loop(b *testing.B, url string) int {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 50}}
	defer client.CloseIdleConnections()
	var n atomic.Int64
	var wg sync.WaitGroup
	end := time.Now().Add(length)
	for range 50 {
		wg.Go(func() {
			for time.Now().Before(end) {
				resp, err := client.Get(url)
				if err != nil {
					b.Error(err)
					return
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				n.Add(1)
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(n.Load())/length.Seconds(), "requests/s")
	return int(n.Load())
}

func cpu() time.Duration {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
