package web

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/record"
)

const eventStream = "text/event-stream"

// Change is what happened since the look before.
type Change struct {
	Events []fleet.Event // oldest first
	Ticked bool          // a fleet has ticked
}

// Message is what is sent to all viewers of a topic. Those with an ID must not be missed.
type Message struct {
	ID   int64
	Text []byte // as it goes over the wire
}

// Feed looks for news while somebody wants to know, and makes of them, once for each topic, what is sent to all its viewers: a
// hundred of them cost the daemon hardly more than one.
type Feed struct {
	b     Backend
	ctx   context.Context
	close context.CancelFunc
	wg    sync.WaitGroup

	mu      sync.Mutex
	topics  map[string]*topic
	viewers int
	running bool
	last    int64 // event seen
}

type topic struct {
	render func(Change) []Message
	to     map[chan Message]bool
}

const (
	mostViewers = 1000
	behind      = 256 // messages that a viewer may be behind before it is let go, to come again
	look        = time.Second
)

// NewFeed makes a feed. Nothing runs until there is a viewer.
func NewFeed(b Backend) *Feed {
	f := &Feed{b: b, topics: map[string]*topic{}}
	f.ctx, f.close = context.WithCancel(context.Background())
	return f
}

// Close ends all streams. Twice is harmless.
func (f *Feed) Close() {
	f.close()
	f.wg.Wait()
}

// subscribe adds a viewer. The channel is closed when it is too slow or the feed ends; ok is false when there are too many.
func (f *Feed) subscribe(name string, render func(Change) []Message) (to chan Message, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.viewers >= mostViewers || f.ctx.Err() != nil {
		return nil, false
	}
	if !f.running {
		f.running = true
		f.last = f.newest()
		f.wg.Go(f.run)
	}
	t := f.topics[name]
	if t == nil {
		t = &topic{render: render, to: map[chan Message]bool{}}
		f.topics[name] = t
	}
	to = make(chan Message, behind)
	t.to[to] = true
	f.viewers++
	return to, true
}

// newest is the last event; 1 when none is known: events are then told from the first.
func (f *Feed) newest() int64 {
	events, err := f.b.Events(f.ctx, record.EventQuery{Limit: 1})
	if err != nil || len(events) == 0 {
		return 1
	}
	return events[0].ID
}

// leave takes a viewer out.
func (f *Feed) leave(name string, to chan Message) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.drop(name, to)
}

func (f *Feed) drop(name string, to chan Message) {
	t := f.topics[name]
	if t == nil || !t.to[to] {
		return
	}
	delete(t.to, to)
	close(to)
	f.viewers--
	if len(t.to) == 0 {
		delete(f.topics, name)
	}
}

// run looks once a second until nobody watches any more.
func (f *Feed) run() {
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	var ticks []time.Time
	for {
		select {
		case <-f.ctx.Done():
			f.end()
			return
		case <-ticker.C:
		}
		f.mu.Lock()
		if f.viewers == 0 {
			f.running = false
			f.mu.Unlock()
			return
		}
		last := f.last
		f.mu.Unlock()
		var c Change
		now := f.ticks()
		c.Ticked = !slices.EqualFunc(now, ticks, time.Time.Equal)
		ticks = now
		events, err := f.b.Events(f.ctx, record.EventQuery{After: last, Limit: 1000})
		if err == nil && len(events) > 0 { // what cannot be read now is read at the next look
			c.Events = events
			last = events[len(events)-1].ID
		}
		if c.Ticked || len(c.Events) > 0 {
			f.send(c, last)
		}
	}
}

func (f *Feed) ticks() (out []time.Time) {
	for _, st := range f.b.Overview().Fleets {
		out = append(out, st.Time)
	}
	return out
}

// send makes of a change what each topic's viewers get.
func (f *Feed) send(c Change, last int64) {
	f.mu.Lock()
	renders := map[string]func(Change) []Message{}
	for name, t := range f.topics {
		renders[name] = t.render
	}
	f.mu.Unlock()
	for name, render := range renders { // without the lock: it may ask the journal
		messages := render(c)
		f.mu.Lock()
		if t := f.topics[name]; t != nil {
			for to := range t.to {
				for _, m := range messages {
					select {
					case to <- m:
						continue
					default:
					}
					f.drop(name, to)
					break
				}
			}
		}
		f.mu.Unlock()
	}
	f.mu.Lock()
	f.last = last
	f.mu.Unlock()
}

func (f *Feed) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, t := range f.topics {
		for to := range t.to {
			f.drop(name, to)
		}
	}
}

// Past is what a viewer is sent before the news.
type Past struct {
	First []Message
	Seen  int64 // the last event in it
	More  bool  // it is not all; the stream ends after it
}

// Serve sends a topic's messages to a client until it leaves. before comes first; render makes messages of changes, the same for
// each viewer of the topic; messages up to the ID seen are left out.
func (f *Feed) Serve(w http.ResponseWriter, r *http.Request, name string, render func(Change) []Message, before func() (Past, error)) {
	to, ok := f.subscribe(name, render)
	if !ok {
		w.Header().Set("Retry-After", "10")
		Answer(w, r, nil, &Problem{Status: http.StatusServiceUnavailable, Detail: "too many watch at once; come again later"})
		return
	}
	defer f.leave(name, to)
	past, err := before()
	if err != nil {
		Answer(w, r, nil, err)
		return
	}
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(time.Time{}) // what stays open has said all; a server that cannot has no time-outs either
	h := w.Header()
	h.Set("Content-Type", eventStream)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // for an nginx in between
	send := func(text []byte) bool {
		_ = c.SetWriteDeadline(time.Now().Add(20 * time.Second))
		_, err := w.Write(text)
		return err == nil && c.Flush() == nil
	}
	if !send([]byte("retry: 2000\n\n")) {
		return
	}
	for _, m := range past.First {
		if !send(m.Text) {
			return
		}
	}
	if past.More {
		return // the client comes again for the rest
	}
	alive := time.NewTicker(15 * time.Second)
	defer alive.Stop()
	for {
		select {
		case <-r.Context().Done():
			return
		case <-alive.C: // so that both ends learn when the other is gone, or may no longer watch
			if still := CallerOf(r.Context()).Still; still != nil && !still() || !send([]byte(":\n\n")) {
				return
			}
		case m, open := <-to:
			if !open {
				return
			}
			if (m.ID == 0 || m.ID > past.Seen) && !send(m.Text) {
				return
			}
		}
	}
}

// eventMessages makes messages of events.
func eventMessages(events []fleet.Event, of string) (out []Message) {
	for i := range events {
		e := &events[i]
		if of != "" && e.Fleet != of {
			continue
		}
		text, err := json.Marshal(e)
		if err != nil {
			continue // a number that is none: the journal could not have kept it
		}
		out = append(out, Message{e.ID, fmt.Appendf(nil, "id: %d\nevent: event\ndata: %s\n\n", e.ID, text)})
	}
	return out
}

// stream sends events as they come.
func (a *API) stream(w http.ResponseWriter, r *http.Request) {
	v := r.URL.Query()
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		v.Set("after", last)
	}
	after, err := queryID(v, "after")
	if err != nil {
		Answer(w, r, nil, err)
		return
	}
	of := v.Get("fleet")
	a.feed.Serve(w, r, "events/"+of, func(c Change) []Message { return eventMessages(c.Events, of) }, func() (Past, error) {
		if after == 0 {
			return Past{}, nil
		}
		events, err := a.b.Events(r.Context(), record.EventQuery{Fleet: of, After: after, Limit: mostPast})
		if err == nil && len(events) > 0 {
			after = events[len(events)-1].ID
		}
		return Past{eventMessages(events, of), after, len(events) == mostPast}, err
	})
}

// mostPast is how many events a stream that begins in the past sends at once.
const mostPast = 10_000
