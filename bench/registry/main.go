// Command registry measures what must hold of the reference workload, on the real stack: PostgreSQL, PgBouncer, nginx and the
// prefork workers, started for this on the loopback interface in a folder of their own, and stopped at the end. See ../README.md.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	hist "tidemark/internal/decide/signal"
	"tidemark/internal/prove"
	"tidemark/internal/prove/shape"
	"tidemark/registry"
	"tidemark/registry/seed"
)

type settings struct {
	Farmers  int           `json:"farmers"`
	Workers  int           `json:"workers"`
	Devices  int           `json:"devices"`
	Link     string        `json:"link"`
	Coding   string        `json:"coding"`
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
}

func main() {
	c := settings{Cores: runtime.NumCPU(), Go: runtime.Version()}
	flag.IntVar(&c.Farmers, "farmers", 100_000, "how many are in the registry before")
	flag.IntVar(&c.Workers, "workers", 4, "of the registry")
	flag.IntVar(&c.Devices, "devices", 50, "that synchronise at once")
	flag.StringVar(&c.Link, "link", "3g", "the devices' network: 3g (384/128 kbit/s), 3g-fast or 3g-slow")
	flag.StringVar(&c.Coding, "coding", "gzip", "of the devices' bodies: gzip or zstd")
	flag.DurationVar(&c.For, "for", time.Minute, "how long look-ups are measured")
	flag.IntVar(&c.Runs, "runs", 1, "how often each is measured; the figures are medians")
	flag.StringVar(&c.only, "only", "lookup,one,many", "what to measure")
	flag.IntVar(&c.port, "port", 8500, "the first of five free ports")
	flag.StringVar(&c.dir, "dir", "", "a folder that does not exist yet; default: a temporary one")
	flag.StringVar(&c.root, "root", ".", "the source tree")
	flag.BoolVar(&c.printing, "json", false, "print the figures as JSON")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	figures, err := measure(ctx, c)
	if len(figures) > 0 {
		show(c, figures)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench/registry:", err)
		os.Exit(2)
	}
	for _, f := range figures {
		if f.Bar > 0 && f.Value > f.Bar {
			os.Exit(1)
		}
	}
}

func measure(ctx context.Context, c settings) (figures []figure, err error) {
	profile, known := shape.Named(c.Link)
	if !known {
		return nil, fmt.Errorf("-link %s is not known", c.Link)
	}
	c.profile = profile
	if c.dir == "" {
		if c.dir, err = os.MkdirTemp("", "bench-registry-"); err != nil {
			return nil, err
		}
	}
	began := time.Now()
	s, err := start(ctx, c.root, c.dir, c.port, c.Workers, c.Farmers)
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
				fmt.Fprintf(os.Stderr, "%s: %.4g %s (load %.1f) %s\n", f.What, f.Value, f.Unit, f.Load, f.Note)
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

// batch has n devices push 500 farmers each, all at once, and then n others pull them.
func (s *stack) batch(ctx context.Context, c settings, n int) ([]figure, error) {
	writers, readers := make([]*phone, n), make([]*phone, n)
	rng := rand.New(rand.NewPCG(uint64(n), uint64(time.Now().UnixNano())))
	for i := range writers {
		island, err := s.newIsland(ctx)
		if err != nil {
			return nil, err
		}
		for _, p := range []**phone{&writers[i], &readers[i]} {
			if *p, err = s.newPhone(ctx, island, c.profile, c.Coding); err != nil {
				return nil, err
			}
			defer (*p).close()
		}
		writers[i].visit(rng)
	}
	name := "one device"
	if n > 1 {
		name = fmt.Sprintf("%d devices at once", n)
	}
	push, err := together(ctx, writers)
	if err != nil {
		return nil, err
	}
	up, down := traffic(writers)
	figures := []figure{
		{What: name + " push 500 farmers: the last is done after", Value: push.slowest, Unit: "s", Bar: 120, Note: push.note(n), Load: push.load},
		{What: name + ", push: bytes up, each", Value: up, Unit: "kB", Load: push.load},
		{What: name + ", push: bytes down, each", Value: down, Unit: "kB", Load: push.load},
	}
	pull, err := together(ctx, readers)
	if err != nil {
		return nil, err
	}
	up, down = traffic(readers)
	return append(figures,
		figure{What: name + " pull 500 farmers: the last is done after", Value: pull.slowest, Unit: "s", Bar: 120, Note: pull.note(n), Load: pull.load},
		figure{What: name + ", pull: bytes up, each", Value: up, Unit: "kB", Load: pull.load},
		figure{What: name + ", pull: bytes down, each", Value: down, Unit: "kB", Load: pull.load}), nil
}

// exchange is what a crowd's synchronising took.
type exchange struct {
	median, slowest float64 // s
	retries         int
	load            float64
}

func (e exchange) note(n int) string {
	note := ""
	if n > 1 {
		note = fmt.Sprintf("median %.1f s; ", e.median)
	}
	return note + fmt.Sprintf("%d tried again", e.retries)
}

// together synchronises all phones at once and checks that each then has its 2,000 records.
func together(ctx context.Context, phones []*phone) (e exchange, err error) {
	took, errs := make([]float64, len(phones)), make([]error, len(phones))
	var wg sync.WaitGroup
	begin := time.Now()
	for i, p := range phones {
		wg.Go(func() {
			errs[i] = p.sync(ctx)
			took[i] = time.Since(begin).Seconds()
		})
	}
	wg.Wait()
	for i, p := range phones {
		if errs[i] == nil {
			errs[i] = p.whole(1)
		}
		if errs[i] != nil {
			return e, errs[i]
		}
		e.retries += p.retries
	}
	slices.Sort(took)
	e.median, e.slowest, e.load = took[(len(took)-1)/2], took[len(took)-1], load()
	return e, nil
}

// traffic is what each phone sent and received on average, headers and all, in kB.
func traffic(phones []*phone) (up, down float64) {
	for _, p := range phones {
		u, d := p.link.Traffic()
		up += float64(u.Bytes) / 1000 / float64(len(phones))
		down += float64(d.Bytes) / 1000 / float64(len(phones))
	}
	return up, down
}

// lookups asks 50 times a second, half by national id, a quarter by uid, a quarter by name and village, while ten devices
// synchronise one batch of 500 farmers after the other.
func (s *stack) lookups(ctx context.Context, c settings) ([]figure, error) {
	busy, rest := context.WithCancel(ctx)
	defer rest()
	var wg sync.WaitGroup
	var failed error
	var once sync.Once
	phones := make([]*phone, 10)
	visits := make([]int, len(phones))
	for i := range phones {
		island, err := s.newIsland(ctx)
		if err != nil {
			return nil, err
		}
		if phones[i], err = s.newPhone(ctx, island, c.profile, c.Coding); err != nil {
			return nil, err
		}
		defer phones[i].close()
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 1))
			for busy.Err() == nil {
				phones[i].visit(rng)
				if err := phones[i].sync(busy); err != nil && busy.Err() == nil {
					once.Do(func() { failed = err })
					return
				}
				visits[i]++
			}
		})
	}
	defer wg.Wait()
	defer rest()
	secret, _, err := s.store.AddToken(ctx, registry.Token{Name: registry.NewUID(), Scope: registry.Integration, CreatedAt: time.Now(),
		ExpiresAt: time.Now().AddDate(0, 0, 1)})
	if err != nil {
		return nil, err
	}
	kinds := []struct {
		name  string
		share float64
		query func(f registry.Fields, uid string) url.Values
	}{
		{"national id", 0.5, func(f registry.Fields, _ string) url.Values {
			return url.Values{"national_id": {f.Text("national_id")}}
		}},
		{"uid", 0.25, func(_ registry.Fields, uid string) url.Values { return url.Values{"uid": {uid}} }},
		{"name and village", 0.25, func(f registry.Fields, _ string) url.Values {
			return url.Values{"name": {f.Text("given_name") + " " + f.Text("family_name")}, "village": {f.Text("village")}}
		}},
	}
	sums := make([]*prove.Summary, len(kinds))
	play := func(d time.Duration) error {
		errs := make([]error, len(kinds))
		var asking sync.WaitGroup
		for i, k := range kinds {
			asking.Go(func() {
				sums[i], errs[i] = prove.Run(ctx, prove.Load{
					Rate: prove.Tide(prove.Point{Rate: 50 * k.share}), Duration: d, Seed: uint64(i),
					Request: func(ctx context.Context, rng *rand.Rand) (*http.Request, error) {
						f := c.farmers[rng.IntN(len(c.farmers))]
						req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/api/farmer/lookup?"+k.query(f.Fields, f.UID).Encode(), http.NoBody)
						if err == nil {
							req.Header.Set("Authorization", "Bearer "+secret)
						}
						return req, err
					}})
			})
		}
		asking.Wait()
		for _, err := range errs {
			if err != nil {
				return err
			}
		}
		return nil
	}
	if err := play(5 * time.Second); err != nil { // caches are cold
		return nil, err
	}
	if err := play(c.For); err != nil {
		return nil, err
	}
	at := load()
	rest()
	wg.Wait()
	if failed != nil {
		return nil, failed
	}
	var all hist.Histogram
	requests, bad, limits := 0, 0, []prove.Limit(nil)
	var figures []figure
	for i, sum := range sums {
		all.Add(&sum.Latency)
		requests += sum.Requests
		bad += sum.Failed
		limits = append(limits, sum.Limits()...)
		figures = append(figures, figure{What: "  by " + kinds[i].name + ", p95", Value: 1000 * sum.Latency.Quantile(0.95), Unit: "ms", Load: at})
	}
	batches := 0
	for _, n := range visits {
		batches += n
	}
	note := fmt.Sprintf("%d requests, %d failed; %d batches of 500 farmers synchronised", requests, bad, batches)
	if len(limits) > 0 {
		note += fmt.Sprintf("; INVALID, the generator was the limit: %v", limits)
	}
	return append([]figure{
		{What: "look-up at 50/s while 10 devices synchronise, p95", Value: 1000 * all.Quantile(0.95), Unit: "ms", Bar: 50, Note: note, Load: at},
		{What: "  all, p50", Value: 1000 * all.Quantile(0.5), Unit: "ms", Load: at},
		{What: "  all, p99", Value: 1000 * all.Quantile(0.99), Unit: "ms", Load: at},
	}, figures...), nil
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
	fmt.Printf("%d farmers, %d workers, %d cores, link %s, %s, %s, median of %d\n\n", c.Farmers, c.Workers, c.Cores, c.Link, c.Coding, c.Go, c.Runs)
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "WHAT\tFIGURE\tBAR\tLOAD\tNOTE")
	for _, f := range figures {
		bar := ""
		if f.Bar > 0 {
			bar = fmt.Sprintf("%g %s", f.Bar, f.Unit)
		}
		fmt.Fprintf(t, "%s\t%.4g %s\t%s\t%.1f\t%s\n", f.What, f.Value, f.Unit, bar, f.Load, f.Note)
	}
	t.Flush() //nolint:errcheck // to the terminal
}
