// Package elsewhere asks other daemons how they are, so that one overview shows all of them. It owns how often they are asked and since
// when one is away; it never takes what was heard before for what is the case now.
//
// While somebody looks, each is asked every 15 s; else every 5 minutes, to know since when one is away: links to islands are slow and
// dear.
package elsewhere

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"sync"
	"time"

	"tidemark/internal/config"
	"tidemark/internal/observe/httpget"
	"tidemark/internal/show/web"
)

const (
	often     = 15 * time.Second // between two questions while somebody looks
	seldom    = 5 * time.Minute  // and while nobody does
	lookedFor = time.Minute      // how long a look counts
	timeout   = 5 * time.Second
	mostBytes = 8 << 20 // of an answer
)

// Ask asks one daemon.
type Ask func(ctx context.Context, d config.Daemon) (*web.Overview, error)

// Elsewhere is the other daemons.
type Elsewhere struct {
	ask  Ask
	all  []*one
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu     sync.Mutex
	looked time.Time
}

// one is one of them.
type one struct {
	cfg  config.Daemon
	wake chan struct{} // somebody begins to look

	mu sync.Mutex
	is web.Daemon
}

// Start begins to ask.
func Start(daemons []config.Daemon, ask Ask) *Elsewhere {
	e := &Elsewhere{ask: ask}
	var ctx context.Context
	ctx, e.stop = context.WithCancel(context.Background())
	for _, d := range daemons {
		name := d.URL
		if u, err := url.Parse(d.URL); err == nil {
			name = u.Host
		}
		o := &one{cfg: d, wake: make(chan struct{}, 1), is: web.Daemon{Name: name, URL: d.URL, Asked: time.Now().UTC()}}
		e.all = append(e.all, o)
		e.wg.Go(func() { e.follow(ctx, o) })
	}
	return e
}

// Close ends the asking. Of nil it does nothing.
func (e *Elsewhere) Close() {
	if e == nil {
		return
	}
	e.stop()
	e.wg.Wait()
}

// Daemons are the others, as each was last heard, in the configuration's order. To call it is to look.
func (e *Elsewhere) Daemons() []web.Daemon {
	out := []web.Daemon{}
	if e == nil {
		return out
	}
	e.mu.Lock()
	fresh := time.Since(e.looked) > lookedFor
	e.looked = time.Now()
	e.mu.Unlock()
	for _, o := range e.all {
		if fresh {
			select {
			case o.wake <- struct{}{}:
			default: // it was waked already
			}
		}
		o.mu.Lock()
		out = append(out, o.is)
		o.mu.Unlock()
	}
	return out
}

// follow asks one daemon until the end.
func (e *Elsewhere) follow(ctx context.Context, o *one) {
	for {
		heard, err := e.ask(ctx, o.cfg)
		if ctx.Err() != nil {
			return
		}
		asked := time.Now()
		o.take(heard, err, asked.UTC())
		e.mu.Lock()
		watched := time.Since(e.looked) <= lookedFor
		e.mu.Unlock()
		wait := seldom
		if watched {
			wait = often
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-o.wake:
			timer.Stop()
		}
	}
}

// take notes an answer, or that there was none.
func (o *one) take(heard *web.Overview, err error, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err == nil {
		o.is = web.Daemon{Name: heard.Instance, URL: o.cfg.URL, Asked: now, Heard: now, Overview: heard}
		return
	}
	if o.is.Err == "" {
		o.is.Away = o.is.Heard
		if o.is.Away.IsZero() {
			o.is.Away = o.is.Asked // nobody here knows of before
		}
	}
	o.is.Asked, o.is.Err = now, err.Error()
}

// OverHTTP asks a daemon's API.
func OverHTTP(ctx context.Context, d config.Daemon) (*web.Overview, error) {
	c := httpget.Config{Timeout: timeout, BearerTokenFile: d.TokenFile, CAFile: d.CAFile}
	a, err := c.Get(ctx, d.URL+"/api/v1/status", "application/json", mostBytes)
	if err == nil {
		err = a.Err()
	}
	if err != nil {
		return nil, err
	}
	o := new(web.Overview)
	if err := json.Unmarshal(a.Body, o); err != nil {
		return nil, fmt.Errorf("its answer cannot be read; is it another version of Tidemark? %w", err)
	}
	for i, st := range o.Fleets {
		if st == nil {
			return nil, fmt.Errorf("its answer has no fleet where fleet %d should be", i)
		}
	}
	return o, nil
}
