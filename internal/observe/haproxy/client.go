package haproxy

import (
	"context"
	"time"

	"tidemark/internal/act/haproxy"
)

// Client reads one backend for all its signals: once a tick.
type Client struct {
	runtime haproxy.Runtime
	backend string
	turn    chan struct{} // holds one token: who has it may use the rest

	now   time.Time
	stats *haproxy.Stats
	err   error
}

// NewClient makes a Client of a backend of the HAProxy at a runtime socket.
func NewClient(socket, backend string) *Client {
	return &Client{runtime: haproxy.NewRuntime(socket), backend: backend, turn: make(chan struct{}, 1)}
}

// at is what HAProxy said at the tick now; who comes first asks. A failure holds for the tick too, so that an HAProxy
// that hangs is waited for once.
func (c *Client) at(ctx context.Context, now time.Time) (*haproxy.Stats, error) {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if (c.stats == nil && c.err == nil) || !now.Equal(c.now) {
		c.stats, c.err = c.runtime.Stats(ctx, c.backend)
		c.now = now
	}
	return c.stats, c.err
}
