package haproxy

import (
	"context"
	"time"

	"tidemark/internal/act/haproxy"
	"tidemark/internal/observe/once"
)

// Client reads one backend for all its signals: once a tick.
type Client struct {
	runtime haproxy.Runtime
	backend string
	look    *once.Look[*haproxy.Stats]
}

// NewClient makes a Client of a backend of the HAProxy at a runtime socket.
func NewClient(socket, backend string) *Client {
	return &Client{runtime: haproxy.NewRuntime(socket), backend: backend, look: once.NewLook[*haproxy.Stats]()}
}

// at is what HAProxy said at the tick now.
func (c *Client) at(ctx context.Context, now time.Time) (*haproxy.Stats, error) {
	return c.look.At(ctx, now, func(ctx context.Context) (*haproxy.Stats, error) { return c.runtime.Stats(ctx, c.backend) })
}
