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
	server      httpget.Config
	url, accept string
	limit       int64
}

// Source makes a source from a valid configuration.
func (p *Pages) Source(cfg Config) *Source {
	r := request{cfg.Server, cfg.URL, cfg.accept(), cfg.MaxBody}
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

// fetched is a page's text, and when it was there, by the monotonic clock.
type fetched struct {
	text []byte
	at   time.Time
}

// at is the page at the tick now; who comes first fetches it. A failure holds for the tick too, so that a server that hangs
// is waited for once; that a reader was told to stop is no failure of the page.
func (p *page) at(ctx context.Context, now time.Time) (fetched, error) {
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return fetched{}, ctx.Err()
	}
	if !p.known || !now.Equal(p.tick) {
		p.fetched, p.err = p.fetch(ctx)
		p.tick, p.known = now, ctx.Err() == nil
	}
	return p.fetched, p.err
}

func (p *page) fetch(ctx context.Context) (fetched, error) {
	answer, err := p.server.Get(ctx, p.url, p.accept, p.limit)
	if err != nil {
		return fetched{}, err
	}
	if err := answer.Err(); err != nil {
		return fetched{}, err
	}
	return fetched{answer.Body, p.now()}, nil
}
