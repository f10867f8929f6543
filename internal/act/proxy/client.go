package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Client speaks to a running proxy through its admin socket. It keeps no connection open.
type Client struct {
	socket string
	http   http.Client
}

// adminTimeout bounds each request but Drain.
const adminTimeout = 5 * time.Second

// ErrDown says that no proxy serves the socket.
var ErrDown = errors.New("the proxy is not running")

// NewClient makes a Client of the proxy at a socket path.
func NewClient(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	return &Client{socket: socket, http: http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// Health asks who is there.
func (c *Client) Health(ctx context.Context) (Health, error) {
	return call[Health](ctx, c, http.MethodGet, "/healthz", nil)
}

// Set makes exactly these workers take requests.
func (c *Client) Set(ctx context.Context, workers []Endpoint) (Health, error) {
	if workers == nil {
		workers = []Endpoint{}
	}
	return call[Health](ctx, c, http.MethodPut, "/workers", workers)
}

// Configure puts a configuration in force as far as the running process can.
func (c *Client) Configure(ctx context.Context, cfg Config) (Health, error) {
	return call[Health](ctx, c, http.MethodPut, "/config", cfg)
}

// Drain takes a worker out and returns when no request is on its way to it, or when ctx ends.
func (c *Client) Drain(ctx context.Context, id string) error {
	_, err := send[Health](ctx, c, http.MethodPost, "/drain?id="+url.QueryEscape(id), nil)
	return err
}

// Stats reads the figures.
func (c *Client) Stats(ctx context.Context) (*Stats, error) {
	s, err := call[Stats](ctx, c, http.MethodGet, "/stats", nil)
	if err != nil {
		return nil, err
	}
	return &s, nil
}

func call[T any](ctx context.Context, c *Client, method, path string, body any) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	return send[T](ctx, c, method, path, body)
}

// send makes one request; path begins with what it is about, for the error.
func send[T any](ctx context.Context, c *Client, method, path string, body any) (T, error) {
	var none T
	wrap := func(err error) (T, error) {
		return none, fmt.Errorf("proxy %s: %s: %w", c.socket, strings.TrimPrefix(path, "/"), err)
	}
	var content io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return wrap(err)
		}
		content = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://proxy"+path, content)
	if err != nil {
		return wrap(err)
	}
	resp, err := c.http.Do(req)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ECONNREFUSED):
		return wrap(ErrDown)
	case errors.Is(err, context.DeadlineExceeded):
		return wrap(fmt.Errorf("no answer in time: %w", context.DeadlineExceeded))
	case err != nil:
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // without the made-up address
		}
		return wrap(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return wrap(err)
	}
	if resp.StatusCode != http.StatusOK {
		return wrap(errors.New(strings.TrimSpace(string(b))))
	}
	var v T
	if err := json.Unmarshal(b, &v); err != nil {
		return wrap(fmt.Errorf("not understood: %w", err))
	}
	return v, nil
}
