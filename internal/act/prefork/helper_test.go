package prefork

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVar); role != "" {
		roles[role]()
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// needs skips a test whose program is not installed; in CI that is a failure.
func needs(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err == nil {
		return path
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("needs " + program)
	}
	t.Skip("needs " + program)
	return ""
}

// eventually waits for another process to get somewhere.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30s: %s", what)
		}
	}
}

// load is an open loop of requests, each on a connection of its own.
type load struct {
	stop func()
	done sync.WaitGroup

	mu     sync.Mutex
	sent   int
	failed []string
	worst  time.Duration
	pids   map[string]int // answers by worker: each says its pid
}

func startLoad(url string, perSecond int) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{stop: cancel, pids: make(map[string]int)}
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, Proxy: nil}}
	l.done.Go(func() {
		next := time.NewTicker(time.Second / time.Duration(perSecond))
		defer next.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-next.C:
				l.done.Go(func() { l.request(client, url) })
			}
		}
	})
	return l
}

func (l *load) request(client *http.Client, url string) {
	start := time.Now()
	pid, err := get(client, url)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent++
	l.worst = max(l.worst, time.Since(start))
	if err != nil {
		l.failed = append(l.failed, start.Format("15:04:05.000 ")+err.Error())
		return
	}
	l.pids[pid]++
}

func get(client *http.Client, url string) (string, error) {
	resp, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode != http.StatusOK || !strings.HasPrefix(string(body), "worker ")) {
		err = fmt.Errorf("%s: %q", resp.Status, body)
	}
	return string(body), err
}

// end stops the load, waits for its last answers, and fails the test for each request that failed.
func (l *load) end(t *testing.T) {
	t.Helper()
	l.stop()
	l.done.Wait()
	t.Logf("%d requests, %d failed, slowest %s, %d workers answered", l.sent, len(l.failed), l.worst.Round(time.Millisecond), len(l.pids))
	if l.sent == 0 {
		t.Error("no request was made")
	}
	for i, f := range l.failed {
		if i == 20 {
			t.Errorf("... %d more", len(l.failed)-i)
			break
		}
		t.Error(f)
	}
}

// testConfig is quick: the masters of these tests do nothing but start workers.
func testConfig(flavour, pidFile string) Config {
	c := DefaultConfig()
	c.Flavour, c.PIDFile = flavour, pidFile
	c.Settle = 150 * time.Millisecond
	c.StepTimeout, c.StopTimeout = 5*time.Second, 20*time.Second
	return c
}

func newTarget(t testing.TB, c Config) *Target {
	t.Helper()
	target, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

// scale moves the fleet and checks that the workers are those wanted, and all serve.
func scale(t *testing.T, target *Target, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := target.Scale(ctx, n, nil); err != nil {
		t.Fatalf("Scale(%d): %v", n, err)
	}
	v, err := target.look()
	if err != nil || len(v.workers) != n {
		t.Fatalf("after Scale(%d): %d workers, %v", n, len(v.workers), err)
	}
}
