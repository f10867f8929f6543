// Package watch looks at the loop from outside, after each tick, and finds out what a person must be told: it gathers the facts for
// decide/alert from the fleets' status and from the journal's events, keeps what the rules remember on disk, and hands the notices
// on. It never holds the loop up: it only reads.
//
// What the rules remember is written before anything is handed on. A daemon that is killed between the two says the same again
// when it is back, under the same name, so nothing is lost and nothing is told twice for it.
package watch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"tidemark/internal/atomicfile"
	"tidemark/internal/control"
	"tidemark/internal/decide/alert"
	"tidemark/internal/fleet"
	"tidemark/internal/record"
)

// Settings are what a reload may change.
type Settings struct {
	Instance string
	Zone     *time.Location
	Rules    alert.Rules
	Fleets   map[string]Fleet
}

// Fleet is what the watch must know of a fleet beside its status.
type Fleet struct {
	Optional   map[string]bool // signals that the fleet is scaled without
	WorkerHour float64         // what a worker costs for an hour
	Monthly    float64         // the budget; 0: none
	Currency   string
}

// Options are where the facts come from and where notices go.
type Options struct {
	File   string // what is remembered
	Tick   time.Duration
	Boot   func() string // the machine's run
	Status func() []*control.Status
	Events func(ctx context.Context, q record.EventQuery) ([]fleet.Event, error)
	Sync   func(scope string, notices []alert.Notice)
	Record func(ctx context.Context, e fleet.Event) error // in the journal; what it does not take is told all the same
	Log    func(line string)
}

// Watch is one daemon's.
type Watch struct {
	opts Options

	mu       sync.Mutex
	settings Settings
	memory   memory
	said     map[string][]alert.Notice // by scope: a fleet, or "" for the instance
	saved    time.Time
	unsaved  bool // the last write failed, and that was said
}

// memory is the file's content.
type memory struct {
	Instance alert.State      `json:"instance"`
	Fleets   map[string]*seen `json:"fleets"`
}

// seen is what is remembered of a fleet.
type seen struct {
	State alert.State `json:"state"`
	Tally alert.Tally `json:"tally"`
	Event int64       `json:"event"` // the last one taken in
}

const (
	// saveEvery bounds how much of what changes all the time (the month's figures) a kill may cost: it counts as not looked at.
	saveEvery  = 5 * time.Minute
	mostEvents = 1000
)

// New reads what an earlier daemon remembered. A damaged file is set aside: what still is the case is found again.
func New(opts Options, settings Settings) (*Watch, error) {
	w := &Watch{opts: opts, settings: settings, said: map[string][]alert.Notice{}}
	b, err := os.ReadFile(opts.File)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("read what alerts remember: %w", err)
	case json.Unmarshal(b, &w.memory) != nil:
		w.memory = memory{}
		opts.Log(opts.File + " is damaged and set aside as .bad: alerts begin anew, and the month's availability and cost with them")
		if err := os.Rename(opts.File, opts.File+".bad"); err != nil {
			return nil, fmt.Errorf("set aside what alerts remember: %w", err)
		}
	}
	if w.memory.Fleets == nil {
		w.memory.Fleets = map[string]*seen{}
	}
	w.said[""] = notices(&w.memory.Instance)
	for name, s := range w.memory.Fleets {
		w.said[name] = notices(&s.State)
	}
	return w, nil
}

// notices are those that s remembers.
func notices(s *alert.State) (out []alert.Notice) {
	for _, i := range s.Items {
		if i.Notice != nil {
			out = append(out, *i.Notice)
		}
	}
	return out
}

// Reload takes new settings. What is remembered of a fleet that is gone is forgotten, and its notices end.
func (w *Watch) Reload(s Settings) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.settings = s
	for name := range w.memory.Fleets {
		if _, ok := s.Fleets[name]; !ok {
			delete(w.memory.Fleets, name)
			delete(w.said, name)
			w.opts.Sync(name, nil)
		}
	}
}

// Run looks after each tick, until ctx ends.
func (w *Watch) Run(ctx context.Context) {
	ticker := time.NewTicker(w.opts.Tick)
	defer ticker.Stop()
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.save(w.saved)
	}()
	for {
		w.Look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// Look judges every fleet that has ticked since the last look, hands on what is the case, and records what is news.
func (w *Watch) Look(ctx context.Context) {
	for _, e := range w.look(ctx) {
		_ = w.opts.Record(ctx, e) // a journal that fails is itself an alert
	}
}

func (w *Watch) look(ctx context.Context) (news []fleet.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	taken := false
	instance := alert.Facts{Instance: w.settings.Instance}
	for _, st := range w.opts.Status() {
		set, known := w.settings.Fleets[st.Fleet]
		if !known || st.Time.IsZero() {
			continue
		}
		instance.Journal = max(instance.Journal, st.JournalErr)
		before, had := w.memory.Fleets[st.Fleet]
		if !had {
			before = &seen{}
			w.memory.Fleets[st.Fleet] = before
		}
		if st.Time.Equal(before.State.Tick) {
			continue // no tick since
		}
		facts := w.facts(ctx, st, set, before)
		if st.Time.After(instance.Now) {
			instance.Now = st.Time
		}
		if facts.Jump != 0 {
			instance.Jump = facts.Jump // one machine, one clock
		}
		news = append(news, w.step(st.Fleet, &before.State, facts)...)
		taken = taken || len(facts.Events) > 0
	}
	if instance.Now.IsZero() {
		return nil
	}
	news = append(news, w.step("", &w.memory.Instance, &instance)...)
	if taken || len(news) > 0 || instance.Now.Sub(w.saved).Abs() >= saveEvery {
		w.save(instance.Now)
	}
	for scope, notices := range w.said {
		w.opts.Sync(scope, notices)
	}
	return news
}

// step moves one scope on and returns its news.
func (w *Watch) step(scope string, s *alert.State, f *alert.Facts) (news []fleet.Event) {
	was := w.said[scope]
	w.said[scope] = alert.Step(&w.settings.Rules, s, f)
	for _, n := range w.said[scope] {
		at := slices.IndexFunc(was, func(o alert.Notice) bool { return o.Key == n.Key && o.Started.Equal(n.Started) })
		e := fleet.Event{Time: f.Now, Fleet: scope, Signal: n.Signal, State: n.Severity.String(), Note: n.Title}
		switch {
		case at < 0:
			e.Kind = fleet.EventAlertRaised
		case was[at].Firing() && !n.Firing() && !n.Once:
			e.Kind, e.Duration = fleet.EventAlertOver, fleet.Duration(n.Ended.Sub(n.Started))
		default:
			continue
		}
		news = append(news, e)
	}
	return news
}

// facts are what the fleet's last tick shows.
func (w *Watch) facts(ctx context.Context, st *control.Status, set Fleet, s *seen) *alert.Facts {
	f := &alert.Facts{
		Now: st.Time, Instance: w.settings.Instance, Fleet: st.Fleet, Bounds: st.Bounds, Size: st.Size, Target: st.TargetErr,
		Decision: &st.Decision, Events: w.events(ctx, st, s),
	}
	look := alert.Look{Now: st.Time, Zone: w.settings.Zone, Boot: w.opts.Boot(), Tick: w.opts.Tick, Size: st.Size}
	for i := range st.Signals {
		sig := &st.Signals[i]
		if sig.Name == w.settings.Rules.ErrorsSignal && sig.Unit == fleet.Percent {
			look.Errors = &sig.Reading
		}
		f.Signals = append(f.Signals, alert.Signal{
			Name: sig.Name, Unit: sig.Unit, Reading: sig.Reading, Lost: sig.Lost, Error: sig.Err,
			Threshold: threshold(st, sig.Name), Optional: set.Optional[sig.Name],
		})
	}
	for i := range f.Events {
		if e := &f.Events[i]; e.Kind == fleet.EventClockJump {
			f.Jump += time.Duration(e.Duration)
		}
	}
	look.Jump = f.Jump
	s.Tally.Add(look)
	f.Month = s.Tally.Availability()
	if set.Monthly > 0 {
		f.Budget = s.Tally.Cost(set.WorkerHour, set.Monthly, set.Currency, w.settings.Zone)
	}
	return f
}

// threshold is the lowest value at which a rule scales the fleet out because the signal is high; 0: there is none.
func threshold(st *control.Status, signal string) float64 {
	lowest := 0.0
	for _, r := range st.Rules {
		if r.Signal == signal && r.Change > 0 && r.Mode == fleet.On && (r.Operator == fleet.AtLeast || r.Operator == fleet.Above) {
			if lowest == 0 || r.Threshold < lowest {
				lowest = r.Threshold
			}
		}
	}
	return lowest
}

// events are those of the fleet up to its last tick that were not taken in yet. What cannot be read now comes with the next look.
func (w *Watch) events(ctx context.Context, st *control.Status, s *seen) []fleet.Event {
	if s.Event == 0 { // never looked: what happened before is no news
		newest, err := w.opts.Events(ctx, record.EventQuery{Limit: 1})
		if err != nil || len(newest) == 0 {
			return nil
		}
		s.Event = newest[0].ID
		return nil
	}
	events, err := w.opts.Events(ctx, record.EventQuery{Fleet: st.Fleet, After: s.Event, Limit: mostEvents})
	if err != nil {
		return nil
	}
	n := 0
	for n < len(events) && !events[n].Time.After(st.Time) {
		s.Event = events[n].ID
		n++
	}
	return events[:n]
}

// save writes what is remembered, whole or not at all.
func (w *Watch) save(now time.Time) {
	b, err := json.Marshal(&w.memory)
	if err == nil {
		err = atomicfile.Write(w.opts.File, b, 0o600, nil)
	}
	if err != nil && !w.unsaved {
		w.opts.Log("write what alerts remember: " + err.Error() + "; after a restart some may be told again")
	}
	w.unsaved = err != nil
	w.saved = now
}

// Notices are all that is the case, and what ended within the last hour: critical before others, then the newest first.
func (w *Watch) Notices() []alert.Notice {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []alert.Notice
	for _, notices := range w.said {
		out = append(out, notices...)
	}
	slices.SortFunc(out, func(a, b alert.Notice) int {
		switch {
		case a.Severity != b.Severity:
			return int(b.Severity) - int(a.Severity)
		case !a.Started.Equal(b.Started):
			return b.Started.Compare(a.Started)
		}
		return strings.Compare(a.Key, b.Key)
	})
	return out
}
