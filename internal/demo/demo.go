// Package demo shows Tidemark at work on the machine it stands on: real workers of the reference registry behind the real
// proxy, real load, the requirements' policies, and time made sixty times faster so that a day passes in under three minutes.
package demo

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"text/template"
	"time"

	"tidemark/internal/app"
	"tidemark/internal/decide/signal"
	"tidemark/internal/fleet"
	"tidemark/internal/prove/journey"
	"tidemark/internal/prove/outcome"
	"tidemark/internal/prove/rehearsal"
	"tidemark/internal/prove/scenario"
	"tidemark/internal/record"
	"tidemark/internal/show/text"
	"tidemark/internal/show/web"
)

// factor is how much faster than in the requirements everything runs: periods, windows and cooldowns.
const factor = 60

// think stands in for the time that application code and database take in a request; it is what a worker waits for.
const think = 40 * time.Millisecond

// farmers is the size of the demo's registry.
const farmers = 20_000

// row is the time between two lines of the timeline.
const row = 4 * time.Second

// phases are the tide.
var phases = []struct {
	name string
	from time.Duration
}{{"night", 0}, {"morning", 12 * time.Second}, {"day", 35 * time.Second}, {"drive", 50 * time.Second}, {"ebb", 88 * time.Second}, {"night", 96 * time.Second}}

//go:embed demo.yaml.tmpl
var configText string

//go:embed load.yaml
var loadText []byte

// Options say how the demo is shown.
type Options struct {
	Out      io.Writer
	View     text.View
	Registry string // path of the registry's program
	Self     []string
	Version  string
}

// Summary is what came of it.
type Summary struct {
	Factor         int       `json:"time_factor"` // times faster than the requirements' policies
	PeakWorkers    int       `json:"peak_workers"`
	FinalWorkers   int       `json:"final_workers"`
	Requests       int       `json:"requests"`
	FailedRequests int       `json:"failed_requests"`
	Dropped        int       `json:"dropped_requests"` // that the generator could not send
	P95            float64   `json:"p95_ms"`           // of all requests, from their scheduled start
	ScaleUps       int       `json:"scale_ups"`
	ScaleDowns     int       `json:"scale_downs"`
	TimeToScale    float64   `json:"time_to_scale_s"`  // the longest, in real seconds, from the breach to the new worker serving
	TimesToScale   []float64 `json:"times_to_scale_s"` // all of them
	WorkerSeconds  float64   `json:"worker_seconds"`   // real
	Decisions      []string  `json:"decisions"`
	Notes          []string  `json:"notes,omitempty"` // how requests failed, and what else a reader must know
}

// Run plays the demo and cleans up after itself.
func Run(ctx context.Context, o Options) (_ *Summary, err error) {
	dir, err := os.MkdirTemp("", "tidemark-demo-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // a leftover in the temporary folder harms nobody
	s := &stage{Options: o, dir: dir}
	if err := s.seed(ctx); err != nil {
		return nil, err
	}
	a, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.strike(a)) }()
	return s.play(ctx, a)
}

// stage is where the demo plays.
type stage struct {
	Options
	dir string
	url string

	length  time.Duration // of the load
	mu      sync.Mutex
	latency signal.Histogram // of the row
	arrived int
	failed  int
}

func (s *stage) db() string { return filepath.Join(s.dir, "registry.db") }

// farmers are a sample of the registry, whom the load asks for.
func (s *stage) farmers() string { return filepath.Join(s.dir, "farmers.csv") }

// seed makes the registry.
func (s *stage) seed(ctx context.Context) error {
	fmt.Fprintf(s.Out, "A registry of %d farmers, 2 workers behind the proxy, and a tide of load: night, morning, registration drive, night.\nTime runs %d times faster than on the wall.\n", farmers, factor)
	fmt.Fprintf(s.Out, "Policies: those of the requirements (CPU 70/30, API p95 400 ms), their periods and cooldowns %d times shorter:\n", factor)
	fmt.Fprintf(s.Out, "  period 60s -> 1s, p95 window 5m -> 5s, scale-up cooldown 300s -> 5s, scale-down cooldown 600s -> 10s, 1 scaling per 5m -> 5s.\n")
	fmt.Fprintf(s.Out, "Beside them one rule pair on busy workers (70/30 %%): a request here is mostly waiting (%s, --think), which CPU does not see.\n\n", think)
	cmd := exec.CommandContext(ctx, s.Registry, "seed", "--db", s.db(), "--farmers", fmt.Sprint(farmers), "--households=false", "--plots", "0", "--submissions", "0", "--json")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("seed the registry: %w\n%s", err, stderr.String())
	}
	var seeded struct {
		Sample []map[string]any `json:"sample"`
	}
	if err := json.Unmarshal(out, &seeded); err != nil || len(seeded.Sample) == 0 {
		return fmt.Errorf("the registry names no farmers to ask for: %w", err)
	}
	columns := []string{"uid", "given_name", "family_name", "birth_date", "sex", "village", "island"}
	rows := [][]string{columns}
	for _, f := range seeded.Sample {
		var row []string
		for _, c := range columns {
			row = append(row, fmt.Sprint(f[c]))
		}
		rows = append(rows, row)
	}
	var b bytes.Buffer
	if err := csv.NewWriter(&b).WriteAll(rows); err != nil {
		return err
	}
	return os.WriteFile(s.farmers(), b.Bytes(), 0o600)
}

// open starts the daemon and waits until the fleet serves through the proxy.
func (s *stage) open(ctx context.Context) (*app.App, error) {
	const workers = 12
	front, err := freePorts(2 + workers) // in one go: nobody listens on them yet, and each is to have its own
	if err != nil {
		return nil, err
	}
	pages, first := front+1, front+2
	config := filepath.Join(s.dir, "tidemark.yaml")
	var b strings.Builder
	err = template.Must(template.New("demo").Parse(configText)).Execute(&b, map[string]any{
		"Dir": s.dir, "Registry": s.Registry, "DB": s.db(), "Think": think, "Front": front, "Dashboard": pages, "First": first, "Last": first + workers - 1,
	})
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(config, []byte(b.String()), 0o600); err != nil {
		return nil, err
	}
	s.url = fmt.Sprintf("http://127.0.0.1:%d", front)
	a, err := app.New(config, app.Options{Version: s.Version, Self: s.Self})
	if err != nil {
		return nil, err
	}
	if err := a.Start(ctx); err != nil {
		return nil, err
	}
	if err := s.ready(ctx); err != nil {
		return nil, errors.Join(err, s.strike(a))
	}
	fmt.Fprintf(s.Out, "Watch it in a browser: http://127.0.0.1:%d/\n\n", pages)
	return a, nil
}

// ready waits for the first answer through the proxy.
func (s *stage) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	var last error
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/web/health", http.NoBody)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
			err = errors.New(resp.Status)
		}
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the fleet does not serve: %w", last)
		case <-ticker.C:
		}
	}
}

// play runs the load and draws the timeline.
func (s *stage) play(ctx context.Context, a *app.App) (*Summary, error) {
	line := &text.Timeline{W: s.Out, View: s.View, MaxLoad: 100, Objective: 0.4, Scale: factor}
	line.Head()
	sum := &Summary{Factor: factor}
	scene, err := scenario.Parse("load.yaml", loadText, scenario.Options{Data: map[string]string{"farmers": s.farmers()}})
	if err != nil {
		return nil, err
	}
	target, err := url.Parse(s.url)
	if err != nil {
		return nil, err
	}
	s.length = scene.Duration
	start := time.Now()
	loadDone := make(chan error, 1)
	var load *outcome.Run
	go func() {
		var err error
		load, err = rehearsal.Play(ctx, rehearsal.Plan{Scenario: scene, Target: target, Seed: 1, Versions: map[string]string{"tidemark": s.Version}, Each: s.each})
		loadDone <- err
	}()
	rows, looks := time.NewTicker(row), time.NewTicker(250*time.Millisecond)
	defer rows.Stop()
	defer looks.Stop()
	seen, err := s.newest(ctx, a)
	if err != nil {
		return nil, err
	}
	var lastLook time.Time
	for {
		select {
		case err := <-loadDone:
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				return nil, err
			}
			return s.close(a, sum, load)
		case now := <-looks.C:
			st := a.Overview().Fleets[0]
			sum.PeakWorkers = max(sum.PeakWorkers, st.Size.Serving)
			if !lastLook.IsZero() {
				sum.WorkerSeconds += now.Sub(lastLook).Seconds() * float64(st.Size.Workers())
			}
			lastLook = now
		case now := <-rows.C:
			events, err := a.Events(ctx, record.EventQuery{After: seen, Limit: 100})
			if err != nil {
				return nil, err
			}
			for i := range events {
				seen = events[i].ID
				s.note(line, sum, start, &events[i])
			}
			line.Row(s.moment(now.Sub(start), a.Overview()))
		}
	}
}

// newest is the last event before the tide: what was done to get ready is not part of it.
func (s *stage) newest(ctx context.Context, a *app.App) (int64, error) {
	events, err := a.Events(ctx, record.EventQuery{Limit: 1})
	if err != nil || len(events) == 0 {
		return 0, fmt.Errorf("the daemon recorded nothing: %w", err)
	}
	return events[0].ID, nil
}

// each takes in one answer.
func (s *stage) each(_ string, q *journey.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.arrived++
	s.latency.Record(q.End.Sub(q.Due).Seconds())
	if q.Class != "" {
		s.failed++
	}
}

// moment closes a row.
func (s *stage) moment(at time.Duration, o web.Overview) text.Moment {
	s.mu.Lock()
	defer s.mu.Unlock()
	size := o.Fleets[0].Size
	m := text.Moment{At: at, Load: float64(s.arrived) / row.Seconds(), Failed: s.failed, Serving: size.Serving, Starting: size.Starting, Draining: size.Draining}
	if s.arrived > 0 {
		m.P95 = s.latency.Quantile(0.95)
	}
	for _, p := range phases {
		if at > p.from {
			m.Phase = p.name
		}
	}
	s.arrived, s.failed = 0, 0
	s.latency.Reset()
	return m
}

// note shows what the daemon decided, and counts it.
func (s *stage) note(line *text.Timeline, sum *Summary, start time.Time, e *fleet.Event) {
	switch e.Kind {
	case fleet.EventDecision:
		said := text.Scaling(e.Decision)
		line.Note(e.Time.Sub(start), said)
		sum.Decisions = append(sum.Decisions, fmt.Sprintf("%5.1fs %s", e.Time.Sub(start).Seconds(), said))
		if e.To > e.From {
			sum.ScaleUps++
		} else {
			sum.ScaleDowns++
		}
	case fleet.EventActionDone:
		if e.Parts != nil && e.To > e.From {
			sum.TimesToScale = append(sum.TimesToScale, time.Duration(e.Duration).Seconds())
		}
	case fleet.EventActionFailed, fleet.EventSignalLost, fleet.EventTargetLost, fleet.EventBalancerFailed, fleet.EventJournalFailed:
		line.Note(e.Time.Sub(start), s.View.Bad(text.Event(e)))
	}
}

// close sums up.
func (s *stage) close(a *app.App, sum *Summary, load *outcome.Run) (*Summary, error) {
	sum.FinalWorkers = a.Overview().Fleets[0].Size.Serving
	all := rehearsal.Total(load, "")
	sum.Requests, sum.FailedRequests, sum.Dropped = int(all.Count), int(all.Failures()), int(load.Generator.Dropped)
	sum.P95 = all.Latency.Quantile(0.95) * 1000
	sum.Notes = load.Notes
	if len(sum.TimesToScale) > 0 {
		sum.TimeToScale = slices.Max(sum.TimesToScale)
	}
	w := s.Out
	fmt.Fprintf(w, "\nThe tide took %s: %d requests, %d failed, p95 %.0f ms over all, %.1f workers on average (2 to %d), %d up and %d down, back at %d.\n",
		fleet.Elapsed(s.length), sum.Requests, sum.FailedRequests+sum.Dropped, sum.P95, sum.WorkerSeconds/s.length.Seconds(), sum.PeakWorkers, sum.ScaleUps, sum.ScaleDowns, sum.FinalWorkers)
	if len(sum.TimesToScale) > 0 {
		fmt.Fprintf(w, "Time to scale, from the breach to the new worker serving: %.1f s at most; in the requirements' own time the same policy\n", sum.TimeToScale)
		fmt.Fprintf(w, "waits %d times longer for its datapoints, and starts a worker just as fast.\n", factor)
	}
	fmt.Fprintln(w, "Decisions:")
	for _, d := range sum.Decisions {
		fmt.Fprintln(w, "  "+d)
	}
	return sum, nil
}

// strike stops the daemon, and then what a daemon leaves running: the workers and the proxy.
func (s *stage) strike(a *app.App) error {
	return a.Dissolve()
}

// freePorts finds n ports in a row that nobody listens on now, and returns the first.
func freePorts(n int) (int, error) {
	for range 100 {
		first := 20_000 + rand.IntN(10_000)
		free := true
		for p := first; p < first+n && free; p++ {
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p))
			if err != nil {
				free = false
				break
			}
			l.Close()
		}
		if free {
			return first, nil
		}
	}
	return 0, errors.New("no free ports on 127.0.0.1")
}
