// Command registry measures what must hold of the reference workload, on the real stack: PostgreSQL, PgBouncer, nginx and the
// prefork workers, started for this on the loopback interface in a folder of their own, and stopped at the end. See ../README.md.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"tidemark/internal/prove/shape"
	"tidemark/registry"
	"tidemark/registry/seed"
)

type settings struct {
	Farmers  int           `json:"farmers"`
	Workers  int           `json:"workers"`
	Sync     int           `json:"sync_workers"`
	Devices  int           `json:"devices"`
	Link     string        `json:"link"`
	Coding   string        `json:"coding"`
	Batch    int           `json:"batch"`
	For      time.Duration `json:"-"`
	Runs     int           `json:"runs"`
	Cores    int           `json:"cores"`
	Go       string        `json:"go"`
	profile  shape.Profile
	only     string
	port     int
	dir      string
	root     string
	printing bool
	farmers  []registry.Record // to be looked up
}

// figure is one measured value. Load is the machine's load average, over a minute, when it was taken.
type figure struct {
	What  string  `json:"what"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	Bar   float64 `json:"bar,omitempty"` // at most
	Note  string  `json:"note,omitempty"`
	Load  float64 `json:"load_average"`
	// Invalid says why the figure must not be believed.
	Invalid string `json:"invalid,omitempty"`
}

func (f figure) note() string {
	if f.Invalid != "" {
		return strings.TrimSuffix("INVALID, "+f.Invalid+"; "+f.Note, "; ")
	}
	return f.Note
}

func main() {
	c := settings{Cores: runtime.NumCPU(), Go: runtime.Version()}
	flag.IntVar(&c.Farmers, "farmers", 100_000, "how many are in the registry before")
	flag.IntVar(&c.Workers, "workers", 2, "of the registry, for people")
	flag.IntVar(&c.Sync, "sync-workers", 2, "of the registry, for devices")
	flag.IntVar(&c.Devices, "devices", 50, "that synchronise at once")
	flag.StringVar(&c.Link, "link", "3g", "the devices' network: 3g (384/128 kbit/s), 3g-fast or 3g-slow")
	flag.StringVar(&c.Coding, "coding", "gzip", "of the devices' bodies: gzip or zstd")
	flag.IntVar(&c.Batch, "batch", 100, "changes in a request of a device")
	flag.DurationVar(&c.For, "for", time.Minute, "how long look-ups are measured")
	flag.IntVar(&c.Runs, "runs", 1, "how often each is measured; the figures are medians")
	flag.StringVar(&c.only, "only", "lookup,one,many", "what to measure")
	flag.IntVar(&c.port, "port", 8500, "the first of eight free ports")
	flag.StringVar(&c.dir, "dir", "", "a folder that does not exist yet; default: a temporary one")
	flag.StringVar(&c.root, "root", ".", "the source tree")
	flag.BoolVar(&c.printing, "json", false, "print the figures as JSON")
	crowd := flag.Int64("as-devices", 0, "used by this program itself: be its nth crowd of devices until standard input ends")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := c.resolve(); err != nil {
		fmt.Fprintln(os.Stderr, "bench/registry:", err)
		os.Exit(2)
	}
	if *crowd > 0 {
		if err := asDevices(ctx, c, *crowd); err != nil {
			fmt.Fprintln(os.Stderr, "bench/registry:", err)
			os.Exit(2)
		}
		return
	}
	figures, err := measure(ctx, c)
	if len(figures) > 0 {
		show(c, figures)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench/registry:", err)
		os.Exit(2)
	}
	code := 0
	for _, f := range figures {
		switch {
		case f.Invalid != "":
			code = 2
		case f.Bar > 0 && f.Value > f.Bar:
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

func (c *settings) resolve() error {
	var known bool
	if c.profile, known = shape.Named(c.Link); !known {
		return fmt.Errorf("-link %s is not known", c.Link)
	}
	return nil
}

func measure(ctx context.Context, c settings) (figures []figure, err error) {
	if c.dir == "" {
		if c.dir, err = os.MkdirTemp("", "bench-registry-"); err != nil {
			return nil, err
		}
	}
	began := time.Now()
	s, err := start(ctx, c.root, c.dir, c.port, c.Workers, c.Sync, c.Farmers)
	if err != nil {
		return nil, err
	}
	defer func() {
		if stopped := s.stop(); err == nil {
			err = stopped
		}
	}()
	fmt.Fprintf(os.Stderr, "the stack with %d farmers is up after %.1f s\n", c.Farmers, time.Since(began).Seconds())
	if err := s.store.AddForm(ctx, form); err != nil {
		return nil, err
	}
	i := 0
	for f := range seed.Farmers(1, c.Farmers) { // the very ones that are in the registry
		if i++; i%max(c.Farmers/2000, 1) == 0 && f.Fields.Text("national_id") != "" {
			c.farmers = append(c.farmers, f)
		}
	}
	runs := map[string][][]figure{}
	steps := []struct {
		name string
		do   func() ([]figure, error)
	}{
		{"one", func() ([]figure, error) { return s.batch(ctx, c, 1) }},
		{"many", func() ([]figure, error) { return s.batch(ctx, c, c.Devices) }},
		{"lookup", func() ([]figure, error) { return s.lookups(ctx, c) }},
	}
	for range c.Runs {
		for _, step := range steps {
			if !slices.Contains(strings.Split(c.only, ","), step.name) {
				continue
			}
			got, err := step.do()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", step.name, err)
			}
			for _, f := range got {
				fmt.Fprintf(os.Stderr, "%s: %.4g %s (load %.1f) %s\n", f.What, f.Value, f.Unit, f.Load, f.note())
			}
			runs[step.name] = append(runs[step.name], got)
		}
	}
	for _, step := range steps {
		figures = append(figures, medians(runs[step.name])...)
	}
	return figures, nil
}

// medians takes the run in the middle for each figure.
func medians(all [][]figure) (figures []figure) {
	if len(all) == 0 {
		return nil
	}
	for i := range all[0] {
		var values []figure
		for _, run := range all {
			values = append(values, run[i])
		}
		slices.SortFunc(values, func(a, b figure) int { return cmp.Compare(a.Value, b.Value) })
		figures = append(figures, values[(len(values)-1)/2])
	}
	return figures
}

// load is the load average over the last minute.
func load() (average float64) {
	b, err := os.ReadFile("/proc/loadavg")
	if err == nil {
		_, err = fmt.Sscan(string(b), &average)
	}
	if err != nil {
		return -1
	}
	return average
}

func show(c settings, figures []figure) {
	if c.printing {
		json.NewEncoder(os.Stdout).Encode(struct { //nolint:errcheck // to the terminal
			settings
			Seconds float64  `json:"lookup_seconds"`
			Figures []figure `json:"figures"`
		}{c, c.For.Seconds(), figures})
		return
	}
	fmt.Printf("%d farmers, %d + %d workers, %d cores, link %s, %s, %d changes a request, %s, median of %d\n\n", c.Farmers, c.Workers, c.Sync, c.Cores, c.Link, c.Coding, c.Batch, c.Go, c.Runs)
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "WHAT\tFIGURE\tBAR\tLOAD\tNOTE")
	for _, f := range figures {
		bar := ""
		if f.Bar > 0 {
			bar = fmt.Sprintf("%g %s", f.Bar, f.Unit)
		}
		fmt.Fprintf(t, "%s\t%.4g %s\t%s\t%.1f\t%s\n", f.What, f.Value, f.Unit, bar, f.Load, f.note())
	}
	t.Flush() //nolint:errcheck // to the terminal
}
