package watch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime/quotedprintable"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"tidemark/internal/control"
	"tidemark/internal/decide/alert"
	"tidemark/internal/decide/policy"
	"tidemark/internal/fleet"
	"tidemark/internal/record"
	"tidemark/internal/tell"
	"tidemark/internal/tell/mail"
	"tidemark/internal/tell/mail/mailtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a real loop over a fleet of two at most, a memory journal, the watch and a teller, on the virtual clock of a synctest bubble.
type world struct {
	t     *testing.T
	dir   string
	tick  time.Duration
	money float64 // the budget
	loop  *control.Loop
	watch *Watch
	log   []string

	mu     sync.Mutex
	load   float64
	errors float64
	size   int
	lost   bool // the target cannot be read
	stuck  bool // the target does not do what it is told
	boot   string
	events []fleet.Event
	state  []byte
	fails  error // what the journal says
	told   []alert.Notice
	quiet  bool // what is said is lost, as by a kill between the writing and the telling
	sync   func(scope string, notices []alert.Notice)
	start  time.Time
}

func (w *world) Wall() time.Time       { return time.Now().UTC().Round(0) }
func (w *world) Uptime() time.Duration { return time.Since(w.start) }
func (w *world) Boot() string          { w.mu.Lock(); defer w.mu.Unlock(); return w.boot }

func (w *world) Commit(_ context.Context, ticks ...record.Tick) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fails != nil {
		return w.fails
	}
	for _, t := range ticks {
		if t.State != nil {
			w.state = t.State
		}
		for _, e := range t.Events {
			e.ID = int64(len(w.events) + 2) // the daemon's own start is the first
			w.events = append(w.events, e)
		}
	}
	return nil
}

func (w *world) State(context.Context, string) ([]byte, time.Time, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state, time.Time{}, nil
}

func (w *world) Series(context.Context, record.SeriesQuery) ([]record.Point, error) { return nil, nil }

func (w *world) Events(_ context.Context, q record.EventQuery) (out []fleet.Event, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fails != nil {
		return nil, w.fails
	}
	if q.After == 0 {
		return []fleet.Event{{ID: int64(len(w.events) + 1)}}, nil
	}
	for _, e := range w.events {
		if e.ID > q.After {
			out = append(out, e)
		}
	}
	return out, nil
}

func (w *world) Workers(context.Context) (out []fleet.Worker, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lost {
		return nil, errors.New("the master is gone")
	}
	for i := range w.size {
		out = append(out, fleet.Worker{ID: fmt.Sprint(i), Phase: fleet.Serving})
	}
	return out, nil
}

func (w *world) Scale(_ context.Context, n int, _ fleet.Drain) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stuck {
		return errors.New("fork: cannot allocate memory")
	}
	w.size = n
	return nil
}

// source reads one of the world's figures.
type source func() float64

func (s source) Read(_ context.Context, scene fleet.Scene) (fleet.Reading, error) {
	v := s()
	if v < 0 {
		return fleet.Reading{Time: scene.Now}, errors.New("nobody measures")
	}
	return fleet.Reading{Value: v, Time: scene.Now, Quality: fleet.Fresh}, nil
}

func (w *world) set(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

func (w *world) figure(of *float64) source {
	return func() float64 { w.mu.Lock(); defer w.mu.Unlock(); return *of }
}

func newWorld(t *testing.T, tick time.Duration) *world {
	w := &world{t: t, tick: tick, dir: t.TempDir(), size: 2, boot: "first", start: time.Now(), load: 50}
	w.sync = func(_ string, notices []alert.Notice) { w.told = append(w.told, notices...) }
	w.loop = control.New(control.Options{Tick: tick, Journal: w, Clock: w})
	minute := func(name string) policy.Signal {
		return policy.Signal{Name: name, Unit: fleet.Percent, Period: max(tick, time.Minute), Window: max(tick, time.Minute), MinSamples: 1}
	}
	err := w.loop.Start([]control.Parts{{
		Policy: policy.Fleet{
			Name: "odoo-workers", Mode: fleet.On, Bounds: fleet.Bounds{Min: 1, Max: 2}, Signals: []policy.Signal{minute("cpu"), minute("errors")},
			Policies: []policy.Policy{{ID: "load", Mode: fleet.On, Rules: []policy.Rule{
				{Signal: 0, Operator: fleet.AtLeast, Threshold: 70, Change: 1, N: 2, M: 2}, {Signal: 0, Operator: fleet.AtMost, Threshold: 10, Change: -1, N: 2, M: 2},
			}}},
			Safeguards: policy.Safeguards{Pace: policy.Pace{StepUp: 1, StepDown: 1, RateCount: 1, RateWindow: time.Minute}, ActionLimit: time.Minute},
		},
		Sources: []control.Source{w.figure(&w.load), w.figure(&w.errors)}, Target: w,
	}})
	if err != nil {
		t.Fatal(err)
	}
	w.begin()
	return w
}

// begin makes a watch of what is on disk, as a daemon that starts.
func (w *world) begin() {
	w.t.Helper()
	var err error
	w.watch, err = New(Options{
		File: filepath.Join(w.dir, "alerts.json"), Tick: w.tick, Boot: w.Boot, Status: w.loop.Status, Events: w.Events,
		Sync: func(scope string, ns []alert.Notice) {
			if !w.quiet {
				w.sync(scope, ns)
			}
		},
		Record: func(ctx context.Context, e fleet.Event) error {
			return w.Commit(ctx, record.Tick{Events: []fleet.Event{e}})
		},
		Log: func(line string) { w.log = append(w.log, line) },
	}, settings(w.money))
	if err != nil {
		w.t.Fatal(err)
	}
}

func settings(monthly float64) Settings {
	return Settings{Instance: "dfr", Zone: time.UTC, Rules: alert.DefaultRules(),
		Fleets: map[string]Fleet{"odoo-workers": {WorkerHour: 0.1, Monthly: monthly, Currency: "NZD"}}}
}

// pass lets time go by, with a look after each tick.
func (w *world) pass(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(w.tick)
		synctest.Wait()
		w.watch.Look(w.t.Context())
	}
}

func (w *world) firing(rule string) (titles []string) {
	for _, n := range w.watch.Notices() {
		if n.Rule == rule && n.Firing() {
			titles = append(titles, n.Title)
		}
	}
	return titles
}

// tell tells by mail, as a daemon does.
func (w *world) tell(srv *mailtest.Server) *tell.Teller {
	w.t.Helper()
	cfg := mail.DefaultConfig()
	cfg.SMTP, cfg.To, cfg.Repeat = srv.URL("smtp+insecure"), []string{"ict@moa.example"}, 0
	channels, err := mail.Channels(cfg, time.UTC)
	if err != nil {
		w.t.Fatal(err)
	}
	teller, err := tell.New(tell.Options{Instance: "dfr", Dir: filepath.Join(w.dir, "spool")}, channels)
	if err != nil {
		w.t.Fatal(err)
	}
	teller.Start()
	w.sync = teller.Sync
	return teller
}

func end(teller *tell.Teller) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	teller.Stop(ctx)
}

// subjects are those of the mails that arrived, with the ID of each.
func subjects(t *testing.T, srv *mailtest.Server) (lines, ids []string) {
	for _, m := range srv.Mails() {
		h, _ := m.Parse(t)
		lines = append(lines, h.Get("Subject"))
		ids = append(ids, h.Get("Message-Id"))
	}
	return lines, ids
}

// A fleet at its maximum that is still short: one mail, with the figures; and one when it is over.
func TestAtMaximumAndShortIsOneMailAndItsEndAnother(t *testing.T) {
	srv := mailtest.Start(t, false)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 15*time.Second)
		defer w.loop.Stop()
		teller := w.tell(srv)
		defer end(teller)
		w.pass(10 * time.Minute)
		if got, _ := subjects(t, srv); len(got) > 0 {
			t.Fatalf("told although nothing is wrong: %q", got)
		}
		w.set(func() { w.load = 92 })
		w.pass(2 * time.Hour)
		got, _ := subjects(t, srv)
		if want := "CRITICAL [dfr] odoo-workers is at its maximum of 2 workers and still short"; len(got) != 1 || got[0] != want {
			t.Fatalf("got %q, want %q", got, want)
		}
		_, body := srv.Mails()[0].Parse(t)
		plain, err := io.ReadAll(quotedprintable.NewReader(strings.NewReader(body)))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"cpu", "92 %", "raise bounds.max", "Since:", "Fleet:    odoo-workers"} {
			if !strings.Contains(string(plain), want) {
				t.Errorf("the mail says nothing of %q:\n%s", want, plain)
			}
		}
		w.set(func() { w.load = 50 })
		w.pass(time.Hour)
		var recorded []string
		for _, e := range w.events {
			if e.Kind == fleet.EventAlertRaised || e.Kind == fleet.EventAlertOver {
				recorded = append(recorded, fmt.Sprint(e.Kind, " ", e.Fleet, " ", e.State, " ", e.Note))
			}
		}
		title := " odoo-workers critical odoo-workers is at its maximum of 2 workers and still short"
		if want := []string{"alert_raised" + title, "alert_over" + title}; !slices.Equal(recorded, want) {
			t.Errorf("recorded %q, want %q", recorded, want)
		}
		got, ids := subjects(t, srv)
		if want := "[dfr] Over: odoo-workers is at its maximum of 2 workers and still short"; len(got) != 2 || got[1] != want || ids[0] == ids[1] {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// Three weeks without a mail server, short once a day, with a daemon that is restarted on the way: all of it is told when the server is
// back, in order, and nothing twice.
func TestWeeksWithoutAMailServer(t *testing.T) {
	srv := mailtest.Start(t, false)
	srv.Fault("greet", "close")
	const days, tick = 21, 4 * time.Minute
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, tick)
		defer w.loop.Stop()
		teller := w.tell(srv)
		for day := range days {
			w.set(func() { w.load = 90 })
			w.pass(10 * tick)
			w.set(func() { w.load = 50 })
			w.pass(10 * tick)
			time.Sleep(24*time.Hour - 20*tick)
			if day%5 == 4 {
				end(teller)
				teller = w.tell(srv)
				w.begin()
			}
		}
		srv.Fault("greet", "")
		time.Sleep(time.Hour)
		end(teller)
	})
	got, ids := subjects(t, srv)
	if len(got) != 2*days {
		t.Fatalf("%d mails, want %d: %q", len(got), 2*days, got)
	}
	seen := map[string]bool{}
	for i, s := range got {
		if strings.Contains(s, "Over: ") != (i%2 == 1) || !strings.Contains(s, "at its maximum") || seen[ids[i]] {
			t.Errorf("mail %d: %s %s", i, s, ids[i])
		}
		seen[ids[i]] = true
	}
}

// A daemon that is killed after each look, the first of them before what it found was handed on, tells the same as one that is not.
func TestKilledAtAnyLook(t *testing.T) {
	play := func(t *testing.T, kill func(w *world)) (told map[string]bool) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 15*time.Second)
			defer w.loop.Stop()
			told = map[string]bool{}
			w.sync = func(_ string, ns []alert.Notice) {
				for _, n := range ns {
					told[fmt.Sprint(n.Key, n.Started.Sub(w.start), n.Firing())] = true
				}
			}
			minutes := func(n int, change func()) {
				w.set(change)
				for range 4 * n {
					w.pass(15 * time.Second)
					kill(w)
				}
			}
			minutes(5, func() {})
			minutes(12, func() { w.load = 95 })
			minutes(12, func() { w.load = 5 })
			minutes(8, func() { w.stuck, w.load = true, 95 })
			minutes(8, func() { w.stuck, w.load = false, 50 })
			minutes(6, func() { w.lost = true })
			minutes(70, func() { w.lost = false })
		})
		return told
	}
	want := play(t, func(*world) {})
	if len(want) < 5 {
		t.Fatalf("too little to compare: %v", want)
	}
	n := 0
	got := play(t, func(w *world) {
		n++
		w.begin()
		w.quiet = n%3 == 0 // the next look's words are lost; the one after says them
	})
	for k := range want {
		if !got[k] {
			t.Errorf("not told when killed: %s", k)
		}
	}
	for k := range got {
		if !want[k] {
			t.Errorf("told only when killed: %s", k)
		}
	}
}

// What is the machine's is told once, whatever the number of fleets; and the dead journal is told of while it is dead.
func TestJournalFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 15*time.Second)
		defer w.loop.Stop()
		w.pass(5 * time.Minute)
		w.set(func() { w.fails = errors.New("no space left on device") })
		w.pass(5 * time.Minute)
		if got := w.firing("journal"); len(got) != 1 || !strings.Contains(got[0], "no space left on device") {
			t.Errorf("raised: %q", got)
		}
		w.set(func() { w.fails = nil })
		w.pass(5 * time.Minute)
		if got := w.firing("journal"); len(got) != 0 {
			t.Errorf("still raised: %q", got)
		}
	})
}

// Availability counts failed requests and the machine's being off, and the budget the workers' hours.
func TestMonth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, time.Minute)
		defer w.loop.Stop()
		w.money = 100
		w.watch.Reload(settings(w.money))
		w.pass(5 * time.Hour)
		w.set(func() { w.errors = 20 })
		w.pass(20 * time.Minute)
		if got := w.firing("availability"); len(got) != 1 || !strings.HasPrefix(got[0], "availability of odoo-workers this month is 98.") {
			t.Errorf("raised: %q", got)
		}
		w.set(func() { w.errors = 0 })
		w.pass(30 * time.Hour)
		tally := w.watch.memory.Fleets["odoo-workers"].Tally
		if tally.Hours < 70 || tally.Hours > 71 { // 35:20 h with 2 workers
			t.Errorf("%.2f worker-hours", tally.Hours)
		}
		if got := w.firing("budget_projected"); len(got) != 1 || !strings.Contains(got[0], "the budget is 100.00 NZD") {
			t.Errorf("raised: %q", got) // 2 workers at 0.1 cost 144 to 149 a month
		}
		down := tally.Down
		w.set(func() { w.boot = "second" })
		time.Sleep(time.Hour) // a power cut
		w.pass(time.Minute)
		if got := w.watch.memory.Fleets["odoo-workers"].Tally.Down - down; got < 60 || got > 61.5 {
			t.Errorf("%.1f minutes more down", got)
		}
	})
}

// A fleet that is gone is forgotten, and its notices end.
func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 15*time.Second)
		defer w.loop.Stop()
		w.set(func() { w.lost = true })
		w.pass(10 * time.Minute)
		if len(w.firing("target_lost")) != 1 {
			t.Fatalf("%+v", w.watch.Notices())
		}
		var ended bool
		w.sync = func(scope string, ns []alert.Notice) { ended = ended || scope == "odoo-workers" && len(ns) == 0 }
		s := settings(0)
		s.Fleets = nil
		w.watch.Reload(s)
		if !ended || len(w.watch.Notices()) > 0 {
			t.Errorf("ended %v, notices %v", ended, w.watch.Notices())
		}
	})
}

// A damaged file is kept for a look and costs nothing else.
func TestDamagedFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "alerts.json")
	if err := os.WriteFile(file, []byte(`{"fleets":{"a":`), 0o600); err != nil {
		t.Fatal(err)
	}
	var log []string
	if _, err := New(Options{File: file, Log: func(l string) { log = append(log, l) }}, settings(0)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file + ".bad"); err != nil || len(log) != 1 {
		t.Errorf("%v, log %q", err, log)
	}
}
