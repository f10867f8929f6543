package proxystats

import (
	"context"
	"time"

	"tidemark/internal/act/proxy"
)

// Client reads one proxy for all its signals: once a tick.
type Client struct {
	proxy *proxy.Client
	turn  chan struct{} // holds one token: who has it may use the rest

	now   time.Time
	stats *proxy.Stats
	err   error
}

// NewClient makes a Client of the proxy at an admin socket.
func NewClient(socket string) *Client {
	return &Client{proxy: proxy.NewClient(socket), turn: make(chan struct{}, 1)}
}

// at is what the proxy said at the tick now; who comes first asks. A failure holds for the tick too, so that a proxy
// that hangs is waited for once.
func (c *Client) at(ctx context.Context, now time.Time) (*proxy.Stats, error) {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if (c.stats == nil && c.err == nil) || !now.Equal(c.now) {
		c.stats, c.err = c.proxy.Stats(ctx)
		c.now = now
	}
	return c.stats, c.err
}
