package httpjson

import (
	"context"
	"time"

	"tidemark/internal/observe/httpget"
)

// Pages fetches each page once a tick, however many signals it gives. The zero value is ready. It is not for several
// goroutines at once; its Sources are.
type Pages struct {
	pages map[request]*page
	now   func() time.Time // monotonic; tests set it
}

// request is what makes two pages one.
type request struct {
	server httpget.Config
	url    string
	json   bool // and else Prometheus' text format
	limit  int64
}

func (r request) accept() string {
	if r.json {
		return "application/json, */*;q=0.1"
	}
	return "text/plain;version=0.0.4, */*;q=0.1"
}

// Source makes a source from a valid configuration.
func (p *Pages) Source(cfg Config) *Source {
	r := request{cfg.Server, cfg.URL, cfg.JSON != "", cfg.MaxBody}
	if p.pages == nil {
		p.pages = map[request]*page{}
	}
	if p.now == nil {
		p.now = time.Now
	}
	if p.pages[r] == nil {
		p.pages[r] = &page{request: r, turn: make(chan struct{}, 1), now: p.now}
	}
	return newSource(cfg, p.pages[r])
}

// page is what a server showed at one tick.
type page struct {
	request
	now  func() time.Time
	turn chan struct{} // holds one token: who has it may use the rest

	tick    time.Time
	known   bool
	fetched fetched
	err     error
}

// fetched is what a page shows, in one of the two formats, and when it was there, by the monotonic clock.
type fetched struct {
	metrics  metrics
	document any
	at       time.Time
}

// still is how long a page is good for others than who fetched it: fleets that look one after the other, each at its own tick.
const still = time.Second

// at is the page at the tick now, later than the one that the reader saw last; who comes first fetches it. A failure holds for the tick too,
// so that a server that hangs is waited for once; that a reader was told to stop is no failure of the page.
func (p *page) at(ctx context.Context, now, last time.Time) (fetched, error) {
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return fetched{}, ctx.Err()
	}
	same := now.Equal(p.tick) || p.err == nil && p.fetched.at.After(last) && p.now().Sub(p.fetched.at) < still
	if !p.known || !same {
		p.fetched, p.err = p.fetch(ctx)
		p.tick, p.known = now, ctx.Err() == nil
	}
	return p.fetched, p.err
}

func (p *page) fetch(ctx context.Context) (fetched, error) {
	answer, err := p.server.Get(ctx, p.url, p.accept(), p.limit)
	if err != nil {
		return fetched{}, err
	}
	if err := answer.Err(); err != nil {
		return fetched{}, err
	}
	page := fetched{at: p.now()}
	if p.json {
		page.document, err = parseJSON(answer.Body)
	} else {
		page.metrics, err = parseText(answer.Body)
	}
	return page, err
}
