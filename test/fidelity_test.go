package test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	ossignal "os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"tidemark/internal/act/proxy"
	"tidemark/internal/app"
	"tidemark/internal/config"
	"tidemark/internal/decide/signal"
	"tidemark/internal/fleet"
	"tidemark/internal/foresee"
	"tidemark/internal/foresee/backtest"
	"tidemark/internal/foresee/load"
	"tidemark/internal/foresee/sim"
	"tidemark/internal/prove"
	"tidemark/internal/prove/journey"
	"tidemark/internal/prove/rehearsal"
	"tidemark/internal/prove/scenario"
	"tidemark/internal/record"
	"tidemark/internal/record/sqlite"
	"tidemark/test/servers"
)

// The requirements' kind of policy in compressed time; a worker takes half a second until it listens.
const fidelityConfig = `
instance: {name: fidelity, time_zone: UTC}
state_dir: %[1]s/state
tick: 250ms
fleets:
  - name: registry
    target:
      process:
        command: [%[2]q, hold, "127.0.0.1:{port}", 500ms, %[1]s]
        ports: {first: %[3]d, last: %[4]d}
        health: {path: /health, interval: 1s}
        cgroup: off
        log_dir: %[1]s
    balancer:
      proxy: {listen: "127.0.0.1:%[5]d", max_in_flight: 1, queue: {limit: 2000, timeout: 30s}}
    bounds: {min: 2, max: 12}
    signals:
      busy:    {proxy: {field: busy}, statistic: avg, period: 500ms}
      p95:     {proxy: {field: latency}, statistic: p95, period: 500ms, window: 3s, min_samples: 20}
    policies:
      - id: busy
        rules:
          - {signal: busy, operator: ">=", threshold: 70%%, scale_change: +1, evaluation_periods: 3, datapoints_to_alarm: 2}
          - {signal: busy, operator: "<=", threshold: 40%%, scale_change: -1, evaluation_periods: 5, datapoints_to_alarm: 4}
      - id: latency
        rules:
          - {signal: p95, operator: ">=", threshold: 250ms, scale_change: +1, evaluation_periods: 2, datapoints_to_alarm: 2}
    safeguards:
      cooldown: {scale_up: 1s, scale_down: 2s}
      max_scaling_rate: 1 per 1s
      action_timeout: 20s
`

// fidelityLoad rises and falls twice, to 110 requests a second that keep between five and six workers busy. How long each is to take is
// drawn from a file.
const fidelityLoad = `
name: tide
duration: %s
data: {holds: ""}
journeys: [{name: hold, steps: [{name: hold, path: '/?hold={{(row "holds").us}}us'}]}]
load:
- journey: hold
  connection: kept
  rate: [{at: 3s, rate: 20}, {at: 19s, rate: 110}, {at: 23s, rate: 110}, {at: 28s, rate: 20}, {at: 31s, rate: 20}, {at: 47s, rate: 110}, {at: 51s, rate: 110}, {at: 56s, rate: 20}]
`

const (
	fidelityLength  = 60 * time.Second
	fidelityService = 50 * time.Millisecond
	fidelityCV      = 0.5
	// fidelity is how far the real run may lie from the median of the simulated ones.
	fidelity = 0.15
	// phases is the number of runs simulated. They differ in when, within a tick, the load begins, which nobody chooses.
	phases = 15
)

// served is one request as the fleet saw it.
type served struct {
	at, service, response float64 // seconds: the send, since the load began; in the worker; from the send to the answer's end
}

// figures are what is compared.
type figures struct{ p95, size, actions float64 }

// The simulator foretells a real fleet: the daemon, the proxy and worker processes under a load, and the simulator on the same
// arrivals with the service times and the boot that were measured. One run differs from the next, as when a tick falls decides what it
// sees: the real one is compared with the median of several, each with the ticks at another time.
func TestFidelity(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: plays a minute of load on a real fleet")
	}
	for attempt := 1; ; attempt++ {
		off, busy := playFidelity(t)
		switch {
		case len(off) == 0:
			return
		case busy == "" || attempt == 3:
			t.Fatal(off, busy)
		}
		t.Logf("off: %v; played again, as the machine was busy: %s", off, busy)
	}
}

// playFidelity plays a run and says what is off, and why the run proves nothing, if so: the load came late, or a worker booted for longer than
// the pace allows for, which the simulator knows nothing of.
func playFidelity(t *testing.T) (off []string, busy string) {
	t.Helper()
	dir := t.TempDir()
	front, first := servers.FreePort(t), servers.FreePorts(t, 12)
	file, socket := filepath.Join(dir, "tidemark.yaml"), filepath.Join(dir, "state", "tidemark.sock")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	write(t, file, fmt.Sprintf(fidelityConfig, dir, self, first, first+11, front))
	cfg, problems, err := app.Check(file)
	if err != nil || cfg == nil {
		t.Fatal(err, problems)
	}
	t.Cleanup(func() { endAll(t, dir) })
	d := startDaemon(t, file, socket)
	eventually(t, 60*time.Second, "two workers serve", func() error {
		o, err := d.client.Status(t.Context())
		if err == nil && o.Fleets[0].Size.Serving < 2 {
			return fmt.Errorf("%+v", o.Fleets[0].Size)
		}
		return err
	})
	requests, start, late := playHolds(t, fmt.Sprintf("http://127.0.0.1:%d", front), filepath.Join(dir, "holds.csv"), filepath.Join(dir, "state", "registry.proxy.sock"))
	d.kill()
	endAll(t, dir)
	journal, err := sqlite.OpenReadOnly(t.Context(), filepath.Join(dir, "state", "journal.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer journal.Close()
	was, boots, replay := happened(t, journal, cfg, requests, start)
	boot, longest := seconds(quantile(boots, 0.5)), seconds(quantile(boots, 1))

	var runs []figures
	for phase := range phases {
		runs = append(runs, foretold(t, cfg, requests, boot, time.Duration(phase)*cfg.Tick/phases))
	}
	t.Logf("%d requests, a worker boots in %v; %d simulated runs", len(requests), boot, phases)
	for _, c := range []struct {
		name string
		of   func(figures) float64
		unit string
	}{
		{"p95", func(f figures) float64 { return 1000 * f.p95 }, " ms"},
		{"mean size", func(f figures) float64 { return f.size }, ""},
		{"actions", func(f figures) float64 { return f.actions }, ""},
	} {
		var values []float64
		for _, r := range runs {
			values = append(values, c.of(r))
		}
		slices.Sort(values)
		median, got := values[phases/2], c.of(was)
		by := got/median - 1
		t.Logf("%-9s real %.4g%s, simulated %.4g%s (%.4g to %.4g): %+.1f %%", c.name, got, c.unit, median, c.unit, values[0], values[phases-1], 100*by)
		if !(math.Abs(by) <= fidelity) {
			off = append(off, fmt.Sprintf("%s by %+.0f %%", c.name, 100*by))
		}
	}
	if was.actions < 14 {
		off = append(off, fmt.Sprintf("only %g actions: the load does not try the fleet", was.actions))
	}
	// What the journal has of it, replayed, gives the decisions that were made.
	if replay.Differ > 0 || replay.Agree < int(was.actions) {
		off = append(off, fmt.Sprintf("backtest: %d decisions agree and %d differ", replay.Agree, replay.Differ))
		for _, c := range replay.Changes {
			if c.Verdict != backtest.Agree {
				t.Logf("%5.2fs %s: from %d, would %d, did %d", c.Time.Sub(start).Seconds(), c.Verdict, c.From, c.Would, c.Did)
			}
		}
	}
	if pace := cfg.Fleets[0].Policy.CooldownUp; longest > pace-cfg.Tick {
		busy = fmt.Sprintf("a worker took %v to boot", longest)
	}
	if late > prove.LateAfter.Seconds() {
		busy += fmt.Sprintf(" requests were sent %.0f ms late", 1000*late)
	}
	return off, busy
}

// playHolds plays the load, each request saying how long it is to take, and returns what became of them, by arrival, when it began, and by how much requests were sent late (p99, seconds).
func playHolds(t *testing.T, front, holds, admin string) (requests []served, start time.Time, late float64) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 1))
	shape := math.Sqrt(math.Log1p(fidelityCV * fidelityCV))
	file := []byte("us\n")
	for range 10_000 {
		file = fmt.Appendf(file, "%.0f\n", 1e6*fidelityService.Seconds()*math.Exp(shape*rng.NormFloat64()-shape*shape/2))
	}
	write(t, holds, string(file))
	var mu sync.Mutex
	var asked []journey.Request
	run := playLoad(t, front, fmt.Sprintf(fidelityLoad, fidelityLength), scenario.Options{Data: map[string]string{"holds": holds}}, func(_ string, q *journey.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, *q)
	})
	if sum := rehearsal.Total(run, ""); sum.Failures() > 0 || run.Generator.Dropped > 0 {
		t.Fatalf("failed %v, %d dropped: %v", sum.Failed, run.Generator.Dropped, run.Notes)
	}
	slices.SortFunc(asked, func(a, b journey.Request) int { return a.Sent.Compare(b.Sent) })
	requests, start = make([]served, len(asked)), run.Started
	total := 0.0
	for i := range asked {
		q := &asked[i]
		held, err := strconv.ParseFloat(q.Worker, 64) // what the worker says of itself is how long it took
		if err != nil {
			t.Fatal(err)
		}
		requests[i] = served{q.Sent.Sub(start).Seconds(), held, q.End.Sub(q.Sent).Seconds()}
		total += held
	}
	// A worker is occupied for a little longer than it holds a request: by how much, the proxy knows.
	stats, err := proxy.NewClient(admin).Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var service signal.Histogram
	if err := service.UnmarshalBinary(stats.Total.ServiceTime); err != nil {
		t.Fatal(err)
	}
	around := service.Mean() - total/float64(len(requests))
	t.Logf("service %.2f ms on average, %.2f ms of it around the worker; %.1f %% of the generator's CPU, lag p99 %.1f ms", 1000*service.Mean(), 1000*around, 100*time.Duration(run.Generator.CPU).Seconds()/time.Duration(run.Generator.Took).Seconds()/float64(run.Machine.Cores), 1000*run.Generator.LagP99)
	for i := range requests {
		requests[i].service += around
	}
	return requests, start, run.Generator.LagP99
}

// happened reads off the journal what came of the real run.
func happened(t *testing.T, journal *sqlite.Reader, cfg *config.Config, requests []served, start time.Time) (was figures, boots []float64, replay *backtest.Result) {
	t.Helper()
	f, end := &cfg.Fleets[0], start.Add(fidelityLength)
	var responses signal.Histogram
	for _, r := range requests {
		responses.Record(r.response)
	}
	was.p95 = responses.Quantile(0.95)
	events, err := journal.Events(t.Context(), record.EventQuery{Kinds: []fleet.Kind{fleet.EventDecision, fleet.EventActionDone}, Since: start, Until: end, Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		switch {
		case e.Kind == fleet.EventDecision:
			was.actions++
			t.Logf("%5.2fs %s", e.Time.Sub(start).Seconds(), e.Decision.Headline())
		case e.To > e.From && e.Parts != nil:
			boots = append(boots, time.Duration(e.Parts.ActionToServing).Seconds())
		}
	}
	at, size := start, math.NaN()
	if err := journal.Ticks(t.Context(), f.Name, start.Add(-time.Second), end, func(now time.Time, samples []record.Sample) error {
		if !now.Before(start) {
			was.size += size * now.Sub(at).Seconds() / fidelityLength.Seconds()
			at = now
		}
		i := slices.IndexFunc(samples, func(s record.Sample) bool { return s.Signal == record.SizeSignal })
		size = samples[i].Reading.Value
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	was.size += size * end.Sub(at).Seconds() / fidelityLength.Seconds()
	replay, err = backtest.Replay{Name: f.Name, Policy: &f.Policy, Tick: cfg.Tick, Until: end, Tolerance: cfg.Tick / 2}.Run(t.Context(), journal)
	if err != nil {
		t.Fatal(err)
	}
	return was, boots, replay
}

// foretold simulates the run, its ticks as long after the load's beginning as phase says.
func foretold(t *testing.T, cfg *config.Config, requests []served, boot, phase time.Duration) (out figures) {
	t.Helper()
	f := &cfg.Fleets[0]
	probes, assumed := foresee.Probes(f, foresee.Work{})
	if len(assumed) > 0 {
		t.Fatal(assumed)
	}
	series := &load.Series{Start: time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC), Step: fidelityLength, Rates: []float64{float64(len(requests)) / fidelityLength.Seconds()}}
	for _, r := range requests {
		series.Requests = append(series.Requests, load.Request{At: uint32(math.Round(1000 * (r.at + phase.Seconds()))), Service: float32(r.service)})
	}
	ticks := 0.0
	r, err := sim.Run(sim.Plan{
		Policy: &f.Policy, Probes: probes, Load: series, Service: sim.Exponential(fidelityService.Seconds()), Boot: boot, Tick: cfg.Tick, Level: sim.Requests, Target: sim.DefaultObjective(),
		Each: func(s *sim.Sample) { out.size += float64(s.Size.Workers()); ticks++ },
	})
	if err != nil {
		t.Fatal(err)
	}
	return figures{r.Response.Quantile(0.95), out.size / ticks, float64(r.Up + r.Down)}
}

// quantile of values, which it sorts.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	slices.Sort(values)
	return values[min(int(q*float64(len(values))), len(values)-1)]
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// hold is a worker that serves, at an address, a while after it is started, requests that take as long as they say. The folder comes last,
// for endAll.
func hold(args []string) error {
	boot, err := time.ParseDuration(args[1])
	if err != nil {
		return err
	}
	time.Sleep(boot)
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		d, err := time.ParseDuration(r.FormValue("hold"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		time.Sleep(d)
		w.Header().Set("X-Worker", strconv.FormatFloat(time.Since(start).Seconds(), 'g', 6, 64))
	})
	http.HandleFunc("/health", func(http.ResponseWriter, *http.Request) {})
	server := http.Server{Addr: args[0]}
	ctx, stop := ossignal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		<-ctx.Done()
		_ = server.Shutdown(context.Background())
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
