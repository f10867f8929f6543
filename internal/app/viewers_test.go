package app

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tidemark/internal/control"
	"tidemark/test/servers"
)

const viewersEnv = "TIDEMARK_TEST_VIEWERS" // addresses to watch, one a line

// TestMain lets the benchmark run its viewers as a process of their own, so that what they take is not counted as the daemon's.
func TestMain(m *testing.M) {
	if addresses := os.Getenv(viewersEnv); addresses != "" {
		watchAll(strings.Fields(addresses))
		return
	}
	os.Exit(m.Run())
}

// watchAll opens each address, says so, and reads what comes until its input ends; then it says how much came.
func watchAll(addresses []string) {
	ctx, cancel := context.WithCancel(context.Background())
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 0, DisableCompression: true}}
	var open, done sync.WaitGroup
	var mu sync.Mutex
	var all int64
	for _, address := range addresses {
		open.Add(1)
		done.Go(func() {
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
			if err != nil {
				panic(err)
			}
			r.Header.Set("Accept-Encoding", "gzip") // as browsers do
			resp, err := client.Do(r)
			if err != nil || resp.StatusCode != http.StatusOK {
				panic(fmt.Sprint(resp, err))
			}
			defer resp.Body.Close()
			open.Done()
			n, _ := io.Copy(io.Discard, resp.Body) // it ends with ctx
			mu.Lock()
			all += n
			mu.Unlock()
		})
	}
	open.Wait()
	fmt.Println("open")
	_, _ = io.Copy(io.Discard, os.Stdin)
	cancel()
	done.Wait()
	fmt.Println(all)
}

// BenchmarkViewers measures what 200 open pages take of the daemon: half of them the fleet's, the others the overview, the events and the
// API's stream, by connections of their own. The figure to see is percent-of-core, beyond what the daemon takes with nobody looking; the
// bar is 5.
func BenchmarkViewers(b *testing.B) {
	const viewers = 200
	for _, tick := range []string{"15s", "1s"} {
		b.Run("tick-"+tick, func(b *testing.B) {
			address := servers.FreeAddress(b)
			w := emptyWorld(b, 2)
			w.tick = tick
			w.write("listen: "+address, strings.ReplaceAll(fullFleet, "period: 1s", "period: "+tick))
			writeDay(b, w.dir+"/journal.db")
			w.start()
			w.eventually("a first look", func(st *control.Status) bool { return st.Size.Known })
			var addresses []string
			for i := range viewers {
				path := []string{"/live/fleets/f", "/live/", "/live/fleets/f", "/live/events", "/live/fleets/f", "/api/v1/stream"}[i%6]
				addresses = append(addresses, "http://"+address+path)
			}
			const span = 30 * time.Second
			for b.Loop() {
				idle := share(b, span)
				cmd := exec.CommandContext(b.Context(), os.Args[0])
				cmd.Env = append(os.Environ(), viewersEnv+"="+strings.Join(addresses, "\n"))
				in, err := cmd.StdinPipe()
				if err != nil {
					b.Fatal(err)
				}
				out, err := cmd.StdoutPipe()
				if err != nil {
					b.Fatal(err)
				}
				if err := cmd.Start(); err != nil {
					b.Fatal(err)
				}
				lines := bufio.NewScanner(out)
				if !lines.Scan() || lines.Text() != "open" {
					b.Fatalf("the viewers say %q", lines.Text())
				}
				busy := share(b, span)
				_ = in.Close()
				var bytes int64
				if !lines.Scan() {
					b.Fatal("the viewers say nothing")
				}
				if _, err := fmt.Sscan(lines.Text(), &bytes); err != nil {
					b.Fatal(err)
				}
				if err := cmd.Wait(); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(busy-idle, "percent-of-core")
				b.ReportMetric(idle, "percent-idle")
				b.ReportMetric(float64(bytes)/viewers/1024/span.Seconds(), "KB/s/viewer")
			}
		})
	}
}

// share is how much of a core this process takes over a time, in percent.
func share(b *testing.B, span time.Duration) float64 {
	b.Helper()
	cpu := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before, start := cpu(), time.Now()
	time.Sleep(span)
	return 100 * float64(cpu()-before) / float64(time.Since(start))
}
