// Command scale measures one daemon with many fleets: a real one, with its journal on the disk (or in PostgreSQL), as many applications that
// show their figures over HTTP, and a program for each fleet that says and sets its size. See ../README.md.
package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"tidemark/internal/control"
	"tidemark/internal/show/web"
)

type settings struct {
	fleets   int
	tick     time.Duration
	warm     time.Duration
	run      time.Duration
	journal  string
	daemon   string
	onePage  bool
	printing bool
}

// The bars of the requirements: DESIGN.md's for many fleets.
const (
	barTick   = 50 * time.Millisecond // p99
	barCores  = 1.0
	barMemory = 500 << 20
)

func main() {
	var c settings
	flag.IntVar(&c.fleets, "fleets", 1000, "how many")
	flag.DurationVar(&c.tick, "tick", 15*time.Second, "between two looks at a fleet")
	flag.DurationVar(&c.warm, "warm", time.Minute, "what is not measured, at the start")
	flag.DurationVar(&c.run, "for", 5*time.Minute, "how long is measured")
	flag.StringVar(&c.journal, "journal", "", "connection string of a PostgreSQL for the journal; default: a file")
	flag.StringVar(&c.daemon, "daemon", "bin/tidemark", "the program (make build)")
	flag.BoolVar(&c.onePage, "one-page", false, "one page shows the figures of all fleets; default: a page for each")
	flag.BoolVar(&c.printing, "json", false, "print the figures as JSON")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	f, err := measure(ctx, c)
	if err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(2)
	}
	if c.printing {
		_ = json.NewEncoder(os.Stdout).Encode(f)
	} else {
		f.print(os.Stdout)
	}
	if !f.holds() {
		os.Exit(1)
	}
}

// figures are what was measured.
type figures struct {
	Fleets    int       `json:"fleets"`
	Ticks     int       `json:"ticks"`
	Late      int       `json:"missed"`          // ticks that should have been and were not
	Took      []float64 `json:"tick_ms"`         // p50, p95, p99, longest
	Actions   int       `json:"actions"`         // changes of size carried out
	Daemon    float64   `json:"cores_daemon"`    // of CPU time a second
	Programs  float64   `json:"cores_programs"`  // of the programs that the daemon ran
	Memory    int64     `json:"peak_bytes"`      // resident
	Journal   int64     `json:"journal_bytes"`   // of the file, at the end
	Load      float64   `json:"load_average"`    // of the machine, over a minute, at the end
	Seconds   float64   `json:"seconds"`         // measured
	Unhealthy int       `json:"fleets_not_well"` // at the end: target, a signal, or journal failing
}

func (f *figures) holds() bool {
	return f.Took[2] < barTick.Seconds()*1000 && f.Daemon < barCores && f.Memory < barMemory && f.Unhealthy == 0
}

func (f *figures) print(w io.Writer) {
	fmt.Fprintf(w, "%d fleets, %d ticks in %.0f s (%d missed), %d changes of size, load average %.1f\n", f.Fleets, f.Ticks, f.Seconds, f.Late, f.Actions, f.Load)
	fmt.Fprintf(w, "tick       p50 %.1f ms, p95 %.1f ms, p99 %.1f ms (bar %d ms), longest %.0f ms\n", f.Took[0], f.Took[1], f.Took[2], barTick.Milliseconds(), f.Took[3])
	fmt.Fprintf(w, "CPU        %.2f cores (bar %.0f); the programs that it ran: %.2f\n", f.Daemon, barCores, f.Programs)
	fmt.Fprintf(w, "memory     %d MiB resident at most (bar %d)\n", f.Memory>>20, barMemory>>20)
	fmt.Fprintf(w, "journal    %d MiB\n", f.Journal>>20)
	if f.Unhealthy > 0 {
		fmt.Fprintf(w, "NOT WELL   %d fleets\n", f.Unhealthy)
	}
}

// fleetConfig is one fleet: five signals of a page, five rules, and a number in a file for its workers.
const fleetConfig = `
  - name: fleet-%[1]d
    target: {command: {size: [cat, %[2]s/size-%[1]d], scale: [sh, -c, "echo {size} > %[2]s/size-%[1]d"], timeout: 5s}}
    bounds: {min: 2, max: 20}
    signals:
      cpu:     {http: {url: "http://%[3]s", metric: app_cpu_percent, labels: {fleet: "%[1]d"}, unit: percent}}
      memory:  {http: {url: "http://%[3]s", metric: app_memory_percent, labels: {fleet: "%[1]d"}, unit: percent}}
      queue:   {http: {url: "http://%[3]s", metric: app_queue, labels: {fleet: "%[1]d"}}}
      errors:  {http: {url: "http://%[3]s", metric: app_errors_percent, labels: {fleet: "%[1]d"}, unit: percent}}
      latency: {http: {url: "http://%[3]s", metric: app_latency_seconds, labels: {fleet: "%[1]d"}, unit: seconds}}
    policies:
      - id: load
        rules:
          - {signal: cpu, operator: ">=", threshold: 70%%, scale_change: +1, evaluation_periods: 3, datapoints_to_alarm: 2}
          - {signal: cpu, operator: "<=", threshold: 30%%, scale_change: -1, evaluation_periods: 5, datapoints_to_alarm: 4}
          - {signal: memory, operator: ">=", threshold: 80%%, scale_change: +1, evaluation_periods: 3, datapoints_to_alarm: 2}
          - {signal: queue, operator: ">=", threshold: 100, scale_change: +2, evaluation_periods: 3, datapoints_to_alarm: 2}
          - {signal: latency, operator: ">=", threshold: 400ms, scale_change: +1, evaluation_periods: 2, datapoints_to_alarm: 2}
`

// apps show the figures of each fleet's application: a tide of twenty minutes, each at another hour of it. /N is fleet N's page, / that of all.
func apps(fleets int) http.Handler {
	start := time.Now()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		first, past := 0, fleets
		if r.URL.Path != "/" {
			n, err := strconv.Atoi(r.URL.Path[1:])
			if err != nil {
				http.NotFound(w, r)
				return
			}
			first, past = n, n+1
		}
		var page bytes.Buffer
		for _, m := range []struct {
			name      string
			low, tide float64
		}{
			{"app_cpu_percent", 20, 60}, {"app_memory_percent", 40, 20}, {"app_queue", 0, 90}, {"app_errors_percent", 0.1, 0}, {"app_latency_seconds", 0.05, 0.3},
		} {
			fmt.Fprintf(&page, "# HELP %s of the application\n# TYPE %s gauge\n", m.name, m.name)
			for n := first; n < past; n++ {
				hour := time.Since(start).Minutes()/20 + float64(n)/float64(fleets)
				fmt.Fprintf(&page, "%s{fleet=\"%d\"} %g\n", m.name, n, m.low+m.tide*(1+math.Sin(2*math.Pi*hour))/2)
			}
		}
		for i := range 40 { // what a page holds beside what one is after
			fmt.Fprintf(&page, "# TYPE app_other_%d gauge\napp_other_%d %d\n", i, i, i)
		}
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		_, _ = w.Write(page.Bytes()) // the daemon may have ended
	})
}

func measure(ctx context.Context, c settings) (f figures, err error) {
	dir, err := os.MkdirTemp("", "tidemark-scale-")
	if err != nil {
		return f, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // what stays behind is only litter
	pages, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return f, err
	}
	server := &http.Server{Handler: apps(c.fleets)}
	var failed atomic.Pointer[error]
	go func() {
		if err := server.Serve(pages); !errors.Is(err, http.ErrServerClosed) {
			failed.Store(&err)
		}
	}()
	defer func() { _ = server.Close() }()
	config := filepath.Join(dir, "tidemark.yaml")
	if err := os.WriteFile(config, text(c, dir, pages.Addr().String()), 0o600); err != nil {
		return f, err
	}
	for i := range c.fleets {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("size-", i)), []byte("4\n"), 0o600); err != nil {
			return f, err
		}
	}
	var log bytes.Buffer
	cmd := exec.Command(c.daemon, "run", "-c", config)
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		return f, fmt.Errorf("start the daemon: %w (make build)", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		if end := <-ended; err == nil {
			err = end
		}
	}()
	f, err = watch(ctx, c, cmd.Process.Pid, web.Dial(filepath.Join(dir, "tidemark.sock")), ended)
	if err == nil && failed.Load() != nil {
		err = *failed.Load()
	}
	if err != nil {
		return f, fmt.Errorf("%w\n%s", err, log.Bytes()[max(0, log.Len()-2000):])
	}
	if info, err := os.Stat(filepath.Join(dir, "journal.db")); err == nil {
		f.Journal = info.Size()
	}
	return f, nil
}

// text is the configuration.
func text(c settings, dir, pages string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "instance: {name: scale, time_zone: UTC}\nstate_dir: %s\ntick: %s\n", dir, c.tick)
	if c.journal != "" {
		fmt.Fprintf(&b, "journal: {postgres: {dsn: %q, schema: tidemark_scale}}\n", c.journal)
	}
	fmt.Fprintln(&b, "fleets:")
	for i := range c.fleets {
		page := fmt.Sprint(pages, "/", i)
		if c.onePage {
			page = pages + "/"
		}
		fmt.Fprintf(&b, fleetConfig, i, dir, page)
	}
	return b.Bytes()
}

// watch looks at the daemon more often than it ticks, as a monitor would, and takes down each tick once.
func watch(ctx context.Context, c settings, pid int, client *web.Client, ended chan error) (f figures, err error) {
	f.Fleets = c.fleets
	ticker := time.NewTicker(c.tick * 2 / 3)
	defer ticker.Stop()
	var took []float64
	var from, own, children time.Duration
	seen := map[string]time.Time{}
	sizes := map[string]int{}
	begun := time.Now()
	for {
		select {
		case <-ctx.Done():
			return f, ctx.Err()
		case err := <-ended:
			ended <- err
			return f, fmt.Errorf("the daemon ended: %w", err)
		case <-ticker.C:
		}
		since := time.Since(begun)
		o, err := client.Status(ctx)
		if err != nil {
			if since < c.warm {
				continue // it is starting
			}
			return f, err
		}
		warm := since >= c.warm
		if warm && from == 0 {
			from = since
			if own, children, err = cpu(pid); err != nil {
				return f, err
			}
		}
		f.Unhealthy = 0
		for _, st := range o.Fleets {
			if !warm {
				seen[st.Fleet], sizes[st.Fleet] = st.Time, st.Size.Serving
				continue
			}
			if st.Time.After(seen[st.Fleet]) {
				took = append(took, time.Duration(st.Took).Seconds()*1000)
				seen[st.Fleet] = st.Time
			}
			if st.Size.Serving != sizes[st.Fleet] {
				f.Actions++
				sizes[st.Fleet] = st.Size.Serving
			}
			if st.TargetErr != "" || st.JournalErr != "" || st.ActionErr != "" || slices.ContainsFunc(st.Signals, lost) {
				f.Unhealthy++
			}
		}
		if warm && since-from >= c.run {
			return f.sum(c, pid, took, since-from, own, children)
		}
	}
}

func (f figures) sum(c settings, pid int, took []float64, span, own, children time.Duration) (figures, error) {
	o, ch, err := cpu(pid)
	if err != nil {
		return f, err
	}
	f.Seconds, f.Ticks = span.Seconds(), len(took)
	f.Daemon, f.Programs = (o-own).Seconds()/f.Seconds, (ch-children).Seconds()/f.Seconds
	f.Late = max(0, int(span/c.tick)*c.fleets-len(took))
	slices.Sort(took)
	for _, q := range []float64{0.5, 0.95, 0.99, 1} {
		f.Took = append(f.Took, took[min(int(q*float64(len(took))), len(took)-1)])
	}
	f.Memory, err = peak(pid)
	load, loadErr := os.ReadFile("/proc/loadavg")
	if loadErr == nil {
		f.Load, loadErr = strconv.ParseFloat(strings.Fields(string(load))[0], 64)
	}
	return f, cmp.Or(err, loadErr)
}

func lost(s control.SignalStatus) bool { return s.Err != "" || !s.Lost.IsZero() }

// cpu is the CPU time of a process, and of the programs that it ran and waited for: fields 14 to 17 of stat, in hundredths of a second.
func cpu(pid int) (own, children time.Duration, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	var sum [4]time.Duration
	for i := range sum {
		n, err := strconv.Atoi(fields[11+i])
		if err != nil {
			return 0, 0, err
		}
		sum[i] = time.Duration(n) * 10 * time.Millisecond
	}
	return sum[0] + sum[1], sum[2] + sum[3], nil
}

// peak is the most memory that a process has had resident, in bytes.
func peak(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	kib, err := strconv.ParseInt(strings.Fields(rest + " -")[0], 10, 64)
	return kib << 10, err
}
