package rehearsal

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if os.Getenv("REHEARSAL_SERVE") != "" {
		serve()
	}
	os.Exit(m.Run())
}

// serve answers every request with 100 bytes, and on /open with how many connections were open at most.
func serve() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr())
	var open, most atomic.Int64
	panic((&http.Server{
		ConnState: func(_ net.Conn, s http.ConnState) {
			switch s {
			case http.StateNew:
				if n := open.Add(1); n > most.Load() {
					most.Store(n)
				}
			case http.StateClosed:
				open.Add(-1)
			default:
			}
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/open" {
				fmt.Fprintf(w, `{"open": %d}`, most.Load())
				return
			}
			fmt.Fprintf(w, "%100d", 1)
		}),
	}).Serve(l))
}

// server starts serve in a process of its own, and returns its address.
func server(t testing.TB) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "REHEARSAL_SERVE=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it does not end by itself
		_ = cmd.Wait()
	})
	var address string
	if _, err := fmt.Fscanln(out, &address); err != nil {
		t.Fatal(err)
	}
	return "http://" + address
}

// Ten thousand phones on 3G, each with a connection of its own that is kept open, take less than 1 GB. A benchmark, as the race detector,
// under which tests run, takes several times the memory.
func BenchmarkTenThousandShapedConnections(b *testing.B) {
	const phones = 10_000
	for b.Loop() {
		p := plan(b, server(b), fmt.Sprintf(`
name: test
duration: 12s
timeout: 30s
drain: 60s
limits: {connections: %d}
journeys: [{name: visit, steps: [{name: get, path: /}, {name: again, path: /, think: 5s-6s, repeat: 2}]}]
load: [{journey: visit, users: %d, spread: 10s, pause: 20s, network: 3g}]
`, phones, phones))
		o, err := Play(b.Context(), p)
		if err != nil {
			b.Fatal(err)
		}
		sum := total(o)
		most := mostOpen(b, p)
		b.ReportMetric(float64(most), "connections")
		b.ReportMetric(float64(o.Generator.Memory>>20), "MB")
		b.ReportMetric(time.Duration(o.Generator.CPU).Seconds(), "CPU-s")
		if most < phones || sum.Count != 3*phones || len(sum.Failed) > 0 || o.Generator.Memory == 0 || o.Generator.Memory > 1e9 {
			b.Errorf("%d connections open at most, %d requests, failed %v, %d bytes resident", most, sum.Count, sum.Failed, o.Generator.Memory)
		}
	}
}

// mostOpen asks the server.
func mostOpen(t testing.TB, p Plan) int {
	t.Helper()
	asked := plan(t, p.Target.String(), "name: ask\nduration: 1s\njourneys: [{name: ask, steps: [{name: ask, path: /open, extract: {open: {json: /open}}}]}]\nload: [{journey: ask, users: 1}]\n")
	r, err := newRun(asked)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	got, err := r.once(t.Context(), "ask", nil)
	if err != nil {
		t.Fatal(err)
	}
	n, _ := got["open"].(float64)
	return int(n)
}

// What a request of a scenario costs: rendered, sent, read, judged and counted. On one core, as fast as fifty users can.
func BenchmarkFlatOut(b *testing.B) {
	url := server(b)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for b.Loop() {
		o, err := Play(b.Context(), plan(b, url, fmt.Sprintf(header, "3s")+"load: [{journey: visit, users: 50}]\n"))
		if err != nil {
			b.Fatal(err)
		}
		n := float64(o.Generator.Requests)
		b.ReportMetric(float64(time.Duration(o.Generator.CPU).Microseconds())/n, "us-CPU/request")
		b.ReportMetric(n/time.Duration(o.Generator.Took).Seconds(), "requests/s")
		b.ReportMetric(0, "ns/op")
	}
}
