package app

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"reflect"
	"sync"
	"time"

	"tidemark/internal/app/watch"
	"tidemark/internal/config"
	"tidemark/internal/control"
	"tidemark/internal/decide/alert"
	"tidemark/internal/fleet"
	"tidemark/internal/show/web"
	"tidemark/internal/tell"
	"tidemark/internal/tell/alertmanager"
	"tidemark/internal/tell/deadman"
	"tidemark/internal/tell/mail"
	"tidemark/internal/tell/webhook"
)

// notifiers are the channels that may stand in a configuration, by kind. How each is made stands in channels.
func notifiers() map[string]func() config.Body {
	return map[string]func() config.Body{
		"mail":         func() config.Body { c := mail.DefaultConfig(); return &c },
		"webhook":      func() config.Body { c := webhook.DefaultConfig(); return &c },
		"slack":        func() config.Body { c := webhook.DefaultSlack(); return &c },
		"alertmanager": func() config.Body { c := alertmanager.DefaultConfig(); return &c },
		"dead_man":     func() config.Body { c := deadman.DefaultConfig(); return &c },
	}
}

// telling is what tells people: it is replaced when a reload changes the channels.
type telling struct {
	from   []config.Adapter
	teller *tell.Teller
	beats  []beat
	stop   context.CancelFunc // of the beats
	wg     sync.WaitGroup
}

// beat is one dead man's switch.
type beat struct {
	name string
	*deadman.Pinger
}

// channels makes the channels of a configuration.
func channels(cfg *config.Config) (out []tell.Channel, beats []beat, err error) {
	zone := cfg.Instance.Zone
	for _, n := range cfg.Notify {
		var some []tell.Channel
		switch c := n.Body.(type) {
		case *mail.Config:
			some, err = mail.Channels(*c, zone)
		case *webhook.Config:
			var one tell.Channel
			one, err = webhook.New(*c, zone)
			some = []tell.Channel{one}
		case *alertmanager.Config:
			some, err = alertmanager.Channels(*c)
		case *deadman.Config:
			var p *deadman.Pinger
			p, err = deadman.New(*c)
			beats = append(beats, beat{"dead_man " + host(c.URL), p})
		default:
			err = errors.New("unknown kind")
		}
		if err != nil {
			return nil, nil, fmt.Errorf("notify: %s: %w", n.Kind, err)
		}
		out = append(out, some...)
	}
	return out, beats, nil
}

// host is as much of an address as may be shown.
func host(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Host
}

// watchSettings are what the watch must know of a configuration.
func watchSettings(cfg *config.Config) watch.Settings {
	s := watch.Settings{Instance: cfg.Instance.Name, Zone: cfg.Instance.Zone, Rules: cfg.Alerts, Fleets: map[string]watch.Fleet{}}
	for _, f := range cfg.Fleets {
		w := watch.Fleet{Optional: map[string]bool{}, WorkerHour: f.Budget.WorkerHour, Monthly: f.Budget.Monthly, Currency: f.Budget.Currency}
		for _, sig := range f.Policy.Signals {
			w.Optional[sig.Name] = sig.Optional
		}
		s.Fleets[f.Name] = w
	}
	return s
}

// tellStop is how long what was told last may take to be delivered when the daemon ends; the rest waits on disk.
const tellStop = 5 * time.Second

// newTelling opens the channels and begins to deliver.
func (a *App) newTelling(cfg *config.Config) (*telling, error) {
	to, beats, err := channels(cfg)
	if err != nil {
		return nil, err
	}
	opts := tell.Options{Instance: cfg.Instance.Name, Zone: cfg.Instance.Zone, Dir: filepath.Join(cfg.StateDir, "spool"), Log: a.opts.Log}
	teller, err := tell.New(opts, to)
	if err != nil {
		return nil, err
	}
	t := &telling{from: cfg.Notify, teller: teller, beats: beats}
	teller.Start()
	ctx, stop := context.WithCancel(context.Background())
	t.stop = stop
	for _, b := range beats {
		t.wg.Go(func() { tell.Pulse(ctx, b, b.Interval(), a.Healthy, a.opts.Log) })
	}
	return t, nil
}

// end delivers what can be delivered at once and stops.
func (t *telling) end() {
	if t == nil {
		return
	}
	t.stop()
	ctx, cancel := context.WithTimeout(context.Background(), tellStop)
	defer cancel()
	t.teller.Stop(ctx)
	t.wg.Wait()
}

// startAlerts begins to watch and to tell.
func (a *App) startAlerts() (err error) {
	a.watch, err = watch.New(watch.Options{
		File: filepath.Join(a.cfg.StateDir, "alerts.json"), Tick: a.cfg.Tick, Boot: control.SystemClock{}.Boot,
		Status: a.loop.Status, Events: a.journal.Events, Sync: a.sync, Record: a.tell, Log: a.opts.Log,
	}, watchSettings(a.cfg))
	if err != nil {
		return err
	}
	a.telling, err = a.newTelling(a.cfg)
	return err
}

// reloadAlerts puts new thresholds and channels in force. What waits for a channel that is gone stays on disk.
func (a *App) reloadAlerts(cfg *config.Config) error {
	a.watch.Reload(watchSettings(cfg))
	a.mu.Lock()
	old := a.telling
	same := reflect.DeepEqual(old.from, cfg.Notify) && reflect.DeepEqual(a.cfg.Instance, cfg.Instance)
	a.mu.Unlock()
	if same {
		return nil
	}
	old.end() // a spool has one owner
	fresh, err := a.newTelling(cfg)
	if err != nil {
		return fmt.Errorf("alerts: %w", err)
	}
	a.mu.Lock()
	a.telling = fresh
	a.mu.Unlock()
	return nil
}

// sync hands notices to the channels of now.
func (a *App) sync(scope string, notices []alert.Notice) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.telling.teller.Sync(scope, notices)
}

// Healthy reports why the loop is not: a dead man's switch is pinged only while each fleet ticks and the journal is written.
func (a *App) Healthy() error {
	for _, st := range a.loop.Status() {
		tick := time.Duration(st.Tick)
		last := st.Time
		if last.Before(a.since) {
			last = a.since
		}
		age := time.Since(last)
		switch {
		case age > max(4*tick, time.Minute):
			return fmt.Errorf("%s last ticked %s ago", st.Fleet, fleet.Elapsed(age))
		case st.JournalErr != "":
			return errors.New("the journal cannot be written: " + st.JournalErr)
		}
	}
	return nil
}

// Alerts are what is raised or ended lately, and how far each channel has got with it.
func (a *App) Alerts() web.Alerts {
	a.mu.Lock()
	t, m := a.telling, a.monthly
	out := web.Alerts{Instance: a.cfg.Instance.Name, TimeZone: a.cfg.Instance.TimeZone, Alerts: []web.Alert{}}
	a.mu.Unlock()
	for _, n := range a.watch.Notices() {
		out.Alerts = append(out.Alerts, web.Alert{Notice: n, Told: t.teller.Told(&n), Seen: a.acknowledged(&n)})
	}
	out.Channels = append(t.teller.Status(), m.status()...)
	return out
}

// testTimeout bounds a test: whoever asked waits for it.
const testTimeout = 25 * time.Second

// TestAlerts sends a test message through each channel and pings each dead man's switch.
func (a *App) TestAlerts(ctx context.Context, by web.Caller) ([]tell.Tried, error) {
	if err := a.tell(ctx, fleet.Event{Kind: fleet.EventAlertTested, By: by.Name, Origin: by.Origin}); err != nil {
		return nil, err
	}
	a.mu.Lock()
	t := a.telling
	a.mu.Unlock()
	ctx, cancel := context.WithTimeoutCause(ctx, testTimeout, fmt.Errorf("no end within %v", testTimeout))
	defer cancel()
	pings := make([]tell.Tried, len(t.beats))
	var wg sync.WaitGroup
	for i, b := range t.beats {
		wg.Go(func() {
			pings[i].Channel = b.name
			if err := b.Ping(ctx); err != nil {
				pings[i].Error = err.Error()
			}
		})
	}
	tried := t.teller.Test(ctx)
	wg.Wait()
	return append(tried, pings...), nil
}
