package test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"tidemark/test/servers"
)

const restConfig = `
instance: {name: rest, time_zone: UTC}
state_dir: %[1]s/state
fleets:
  - name: registry
    target:
      process:
        command: [%[2]s, serve, --open, --db, %[1]s/farmers.db, --listen, "unix:{socket}"]
        socket: %[1]s/w-{slot}.sock
        health: {path: /web/health}
    balancer: {proxy: {listen: "127.0.0.1:%[3]d", max_in_flight: 1, routes: [/api]}}
    bounds: {min: 2, max: 4}
    signals:
      cpu:     {procfs: {field: cpu}}
      api_p95: {proxy: {field: latency, route: /api}, statistic: p95, window: 5m, min_samples: 50}
      log_p95: {access_log: {path: %[1]s/access.log}, statistic: p95, window: 5m, min_samples: 50}
    policies:
      - id: cpu
        rules:
          - {signal: cpu, operator: ">=", threshold: 70%%, scale_change: +1, evaluation_periods: 3, datapoints_to_alarm: 2}
          - {signal: cpu, operator: "<=", threshold: 30%%, scale_change: -1, evaluation_periods: 5, datapoints_to_alarm: 4}
      - id: latency
        rules:
          - {signal: api_p95, operator: ">=", threshold: 400ms, scale_change: +1, evaluation_periods: 2}
          - {signal: log_p95, operator: ">=", threshold: 400ms, scale_change: +1, evaluation_periods: 2}
`

// A daemon with one fleet of two workers, its proxy, three signals and the default tick: under 0.5 % of a core in a
// minute, by the kernel's own count of CPU time, and under 40 MB resident.
func TestDaemonAtRest(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: watches a daemon for a minute")
	}
	dir := t.TempDir()
	run(t, program("registry"), "seed", "--db", filepath.Join(dir, "farmers.db"), "--farmers", "100")
	config := filepath.Join(dir, "tidemark.yaml")
	write(t, config, fmt.Sprintf(restConfig, dir, program("registry"), servers.FreePort(t)))
	write(t, filepath.Join(dir, "access.log"), "")
	d := startDaemon(t, config, filepath.Join(dir, "state", "tidemark.sock"))
	t.Cleanup(func() { endAll(t, dir) })
	eventually(t, 30*time.Second, "two workers serve", func() error {
		o, err := d.client.Status(t.Context())
		if err == nil && o.Fleets[0].Size.Serving != 2 {
			return fmt.Errorf("%d serve", o.Fleets[0].Size.Serving)
		}
		return err
	})
	const watch = time.Minute
	before := cpuTime(t, d.cmd.Process.Pid)
	<-time.After(watch)
	used := cpuTime(t, d.cmd.Process.Pid) - before
	share := 100 * used.Seconds() / watch.Seconds()
	rss := resident(t, d.cmd.Process.Pid)
	t.Logf("%.2f %% of a core, %.1f MB resident", share, float64(rss)/1e6)
	if share >= 0.5 {
		t.Errorf("%.2f %% of a core at rest; the bar is 0.5 %%", share)
	}
	if rss >= 40e6 {
		t.Errorf("%.1f MB resident; the bar is 40 MB", float64(rss)/1e6)
	}
}

// cpuTime is the user and system time that a process has used.
func cpuTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	var ticks int
	for _, i := range []int{11, 12} { // utime, stime: fields 14 and 15 of proc(5), in hundredths of a second
		n, err := strconv.Atoi(string(f[i]))
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

func resident(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(string(bytes.Fields(b)[1]))
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// run runs a program to its end and returns what it printed.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}
