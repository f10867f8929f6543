package proxystats

import (
	"context"
	"time"

	"tidemark/internal/act/proxy"
	"tidemark/internal/observe/once"
)

// Client reads one proxy for all its signals: once a tick.
type Client struct {
	proxy *proxy.Client
	look  *once.Look[*proxy.Stats]
}

// NewClient makes a Client of the proxy at an admin socket.
func NewClient(socket string) *Client {
	return &Client{proxy: proxy.NewClient(socket), look: once.NewLook[*proxy.Stats]()}
}

// at is what the proxy said at the tick now.
func (c *Client) at(ctx context.Context, now time.Time) (*proxy.Stats, error) {
	return c.look.At(ctx, now, c.proxy.Stats)
}
