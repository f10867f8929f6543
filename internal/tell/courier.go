package tell

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tidemark/internal/decide/alert"
	"tidemark/internal/fleet"
)

// courier serves one channel, in a goroutine of its own. Only that goroutine touches it; others see its Status.
type courier struct {
	Channel
	t    *Teller
	dir  string
	wake chan struct{} // holds a token when there may be news

	spool  *spool
	ledger map[string]told // by key
	stale  bool            // the ledger in memory is newer than that on disk
	begun  time.Time

	status    Status
	failures  int
	notBefore time.Time // of the next attempt
	saidAt    time.Time // when a failure was last logged
	shown     []alert.Notice
	shownAt   time.Time
	showAgain time.Time
}

// told is what the channel has been told about a key.
type told struct {
	Scope  string       `json:"scope"`
	Notice alert.Notice `json:"notice"` // as it was told; with Ended set when its end was told
	At     time.Time    `json:"at"`     // of the last message
	Count  int          `json:"count"`  // of reminders
}

// Status is how a channel fares.
type Status struct {
	Channel   string    `json:"channel"`
	Waiting   int       `json:"waiting"`           // messages not yet delivered
	Oldest    time.Time `json:"oldest,omitzero"`   // of them
	Held      int       `json:"held,omitempty"`    // of them, in memory only: the disk takes none
	Delivered int       `json:"delivered"`         // messages, since the start; of a mirror: times that it was shown the state
	Refused   int       `json:"refused,omitempty"` // messages given up because the place will never take them
	Dropped   int       `json:"dropped,omitempty"` // messages that the spool's limits took, since the start
	Damaged   int       `json:"damaged,omitempty"` // files that could not be read
	Failing   time.Time `json:"failing,omitzero"`  // since when nothing could be delivered
	Error     string    `json:"error,omitempty"`   // why
	refusing  bool
	well      time.Time // since when it works again; zero: it never failed
}

const (
	ledgerFile = "told.json"

	firstRetry = 15 * time.Second
	lastRetry  = 10 * time.Minute // a link that comes back is used within it
	sayAgain   = 6 * time.Hour    // a failure that goes on is logged again
	mostLater  = 24 * time.Hour
	// sendTimeout bounds one attempt of a Sender that has no bound of its own.
	sendTimeout = 5 * time.Minute
	// idle is how often a courier looks by itself whether a reminder is due.
	idle = time.Minute
	// orphaned: a scope that nobody speaks of any more (a fleet that is gone from the configuration) has nothing to tell.
	orphaned = time.Hour
)

func (t *Teller) newCourier(c Channel) (*courier, error) {
	k := &courier{Channel: c, t: t, wake: make(chan struct{}, 1), ledger: map[string]told{}, status: Status{Channel: c.Name}}
	if c.Mirror != nil {
		return k, nil
	}
	k.dir = filepath.Join(t.opts.Dir, folder(c.Name))
	var notes []string
	var err error
	if k.spool, notes, err = openSpool(k.dir, c.Spool); err != nil {
		return nil, err
	}
	for _, n := range notes {
		k.say("%s", n)
	}
	switch b, err := os.ReadFile(filepath.Join(k.dir, ledgerFile)); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("read what was told: %w", err)
	case json.Unmarshal(b, &k.ledger) != nil:
		k.ledger = map[string]told{}
		k.say("%s is damaged: what still is the case is told again", ledgerFile)
	}
	k.publish()
	return k, nil
}

// folder makes a channel's name the name of a folder.
func folder(name string) string {
	safe := strings.Map(func(r rune) rune {
		if strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@.-_", r) {
			return r
		}
		return '_'
	}, name)
	if safe == name && !strings.HasPrefix(name, ".") && len(name) < 100 {
		return name
	}
	return "_" + safe[:min(len(safe), 80)] + "-" + hash(name)[:8]
}

func (k *courier) say(format string, args ...any) {
	k.t.opts.Log("alerts to " + k.Name + ": " + fmt.Sprintf(format, args...))
}

func (k *courier) run(ctx context.Context, stopping <-chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	k.begun = time.Now()
	defer k.finish()
	for last := false; ; {
		wait := k.turn(ctx, last)
		if last || ctx.Err() != nil {
			return
		}
		timer.Reset(wait)
		select {
		case <-k.wake:
		case <-timer.C:
		case <-stopping:
			last = true
		case <-ctx.Done():
			return
		}
	}
}

// finish spools what came while the last attempt was cut short.
func (k *courier) finish() {
	if k.Mirror == nil {
		k.catchUp()
	}
	k.publish()
}

// turn finds out what is news and delivers what is due, and returns how long there is nothing more to do.
func (k *courier) turn(ctx context.Context, last bool) time.Duration {
	defer k.publish()
	if k.Mirror != nil {
		return k.show(ctx)
	}
	for {
		k.catchUp()
		k.publish()
		if wait := time.Until(k.notBefore); wait > 0 {
			return min(wait, idle)
		}
		batch, entries, err := k.load()
		if err == nil && len(batch) == 0 {
			return idle
		}
		if err == nil {
			err = k.send(ctx, batch)
		}
		if ctx.Err() != nil && err != nil {
			return 0
		}
		if err != nil && !k.refused(err, batch) {
			return min(k.failed(err), idle)
		}
		if err == nil {
			k.worked(len(batch))
		}
		if entries == nil {
			k.spool.told(k.spool.lost.Count)
		}
		k.spool.remove(entries...)
		if last && err != nil {
			return 0
		}
	}
}

// load is what to send next: first the word about what was dropped, which has no entries.
func (k *courier) load() ([]Message, []*entry, error) {
	if k.spool.lost.Count > 0 {
		return []Message{k.spool.lossMessage(k.t.opts.Instance, k.Name, k.t.opts.Zone)}, nil, nil
	}
	batch, entries, notes, err := k.spool.next(k.Digest, k.t.opts.Zone)
	for _, n := range notes {
		k.say("%s", n)
	}
	return batch, entries, err
}

func (k *courier) send(ctx context.Context, batch []Message) error {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	return k.Sender.Send(ctx, batch)
}

func (k *courier) worked(n int) {
	if !k.status.Failing.IsZero() {
		k.say("delivered again, after %s", fleet.Elapsed(time.Since(k.status.Failing)))
		k.status.well = time.Now()
	}
	k.failures, k.notBefore = 0, time.Time{}
	k.status.Delivered += n
	k.status.Failing, k.status.Error, k.status.refusing = time.Time{}, "", false
}

// refused takes in a message that the place will never take.
func (k *courier) refused(err error, batch []Message) bool {
	var r *Refusal
	if !errors.As(err, &r) {
		return false
	}
	k.say("gives up %q: %v", batch[0].Notice.Title, err)
	k.status.Refused += len(batch)
	k.status.Error, k.status.refusing = err.Error(), true
	if k.status.Failing.IsZero() {
		k.status.Failing = time.Now()
	}
	return true
}

// failed takes in an attempt that will be repeated, and returns after how long.
func (k *courier) failed(err error) time.Duration {
	wait := min(firstRetry<<min(k.failures, 10), lastRetry)
	var later *Later
	if errors.As(err, &later) {
		wait = max(wait, min(later.For, mostLater))
	}
	k.failures++
	k.notBefore = time.Now().Add(wait)
	if k.status.Failing.IsZero() {
		k.status.Failing = time.Now()
	}
	if now := time.Now(); k.failures == 1 || now.Sub(k.saidAt) >= sayAgain {
		k.say("%v; tried again in %s", err, fleet.Elapsed(wait))
		k.saidAt = now
	}
	k.status.Error = err.Error()
	return wait
}

// catchUp compares what is the case with what the channel has been told, and spools the difference.
func (k *courier) catchUp() {
	now := time.Now()
	scopes := k.t.snapshot(k.Name)
	for _, scope := range slices.Sorted(maps.Keys(scopes)) {
		here := map[string]bool{}
		for _, n := range scopes[scope] {
			here[n.Key] = true
			if n.Severity >= k.Severity {
				k.compare(scope, n, now)
			}
		}
		for _, key := range slices.Sorted(maps.Keys(k.ledger)) {
			if k.ledger[key].Scope == scope && !here[key] {
				k.forget(key, now)
			}
		}
	}
	if now.Sub(k.begun) > orphaned {
		for _, key := range slices.Sorted(maps.Keys(k.ledger)) {
			if _, ok := scopes[k.ledger[key].Scope]; !ok {
				k.forget(key, now)
			}
		}
	}
	failed := k.spool.failed
	k.writing(failed, k.spool.flush())
	k.save()
}

func (k *courier) compare(scope string, n alert.Notice, now time.Time) {
	was, known := k.ledger[n.Key]
	same := known && was.Notice.Started.Equal(n.Started)
	is := told{Scope: scope, Notice: n, At: now}
	switch {
	case n.Once && same:
		return
	case n.Firing() && !same:
		k.put(newMessage(Raised, 0, now, n))
	case n.Firing():
		if was.At.After(now) { // the clock went back
			was.At = now
			k.ledger[n.Key] = was
		}
		if k.Repeat == 0 || now.Sub(was.At) < k.Repeat || k.spool.follows(n.Key) {
			return
		}
		is.Count = was.Count + 1
		k.put(newMessage(Reminder, is.Count, now, n))
	case same && !was.Notice.Firing():
		return
	default:
		kind := Resolved
		if n.Once {
			kind = Raised
		}
		k.put(newMessage(kind, 0, now, n))
	}
	k.ledger[n.Key] = is
	k.stale = true
}

// forget lets go of what is no longer spoken of; if its end was not told, it is told now.
func (k *courier) forget(key string, now time.Time) {
	e := k.ledger[key]
	if e.Notice.Firing() && !e.Notice.Once {
		n := e.Notice
		n.Ended = now
		n.Lines = []string{"Nothing watches for it any more: the fleet or the rule is gone from the configuration, or its state was lost."}
		k.put(newMessage(Resolved, 0, now, n))
	}
	delete(k.ledger, key)
	k.stale = true
}

func (k *courier) put(m Message) {
	before := k.spool.lost.Count
	failed := k.spool.failed
	k.writing(failed, k.spool.put(m))
	if n := k.spool.lost.Count - before; n > 0 {
		k.status.Dropped += n
		k.say("the spool is full (%d messages, %s): %s dropped", k.Spool.Messages, megabytes(k.Spool.MaxBytes), count(n, "older message"))
	}
}

// writing says when the disk stops taking messages, and when it takes them again.
func (k *courier) writing(before, now error) {
	switch {
	case before == nil && now != nil:
		k.say("%v; messages are held in memory until it can be written", now)
	case before != nil && now == nil:
		k.say("the spool can be written again")
	}
}

// save writes the ledger after the spool: a crash between leaves a message that is spooled again, under the same ID.
func (k *courier) save() {
	if !k.stale {
		return
	}
	b, err := json.Marshal(k.ledger)
	if err == nil {
		err = writeFile(filepath.Join(k.dir, ledgerFile), b)
	}
	k.stale = err != nil
}

// show brings the state to a mirror when it changed, and when it is time to show it again.
func (k *courier) show(ctx context.Context) time.Duration {
	now := time.Now()
	if wait := k.notBefore.Sub(now); wait > 0 {
		return min(wait, idle)
	}
	var all []alert.Notice
	scopes := k.t.snapshot(k.Name)
	for _, scope := range slices.Sorted(maps.Keys(scopes)) {
		for _, n := range scopes[scope] {
			if n.Severity >= k.Severity {
				all = append(all, n)
			}
		}
	}
	if slices.EqualFunc(all, k.shown, sameNews) && now.Before(k.showAgain) {
		return min(k.showAgain.Sub(now), idle)
	}
	bounded, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	err := k.Mirror.Show(bounded, now, all)
	switch {
	case err == nil || k.refused(err, []Message{{Notice: alert.Notice{Title: "the state"}}}):
		if err == nil {
			k.worked(1)
			k.shownAt = now
		}
		k.shown, k.showAgain = all, now.Add(k.Repeat)
		return min(k.Repeat, idle)
	case ctx.Err() != nil:
		return 0
	}
	return min(k.failed(err), k.Repeat, idle)
}

// sameNews: figures in a text are no news.
func sameNews(a, b alert.Notice) bool {
	return a.Key == b.Key && a.Started.Equal(b.Started) && a.Ended.Equal(b.Ended) && a.Severity == b.Severity
}

// publish lets others see how the channel fares.
func (k *courier) publish() {
	if s := k.spool; s != nil {
		k.status.Waiting, k.status.Held, k.status.Damaged, k.status.Oldest = len(s.waiting), s.held(), s.damaged, time.Time{}
		if len(s.waiting) > 0 {
			k.status.Oldest = s.waiting[0].at
		}
	}
	k.t.report(k.status, k.tellings())
}

// tellings are what the channel knows, by key.
func (k *courier) tellings() map[string]Telling {
	out := make(map[string]Telling, len(k.ledger)+len(k.shown))
	for key, e := range k.ledger {
		out[key] = Telling{At: e.At, Waiting: k.spool.follows(key), started: e.Notice.Started}
	}
	for i := range k.shown {
		if k.status.refusing {
			break
		}
		out[k.shown[i].Key] = Telling{At: k.shownAt, started: k.shown[i].Started}
	}
	return out
}
