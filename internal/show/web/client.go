package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"tidemark/internal/control"
	"tidemark/internal/fleet"
	"tidemark/internal/record"
	"tidemark/internal/tell"
)

// Client speaks with a daemon over its unix socket.
type Client struct {
	socket string
	http   http.Client
}

// ErrNoDaemon: nobody answers at the socket.
var ErrNoDaemon = errors.New("no daemon answers")

// Dial returns a client for the daemon at socket. It connects when first asked something.
func Dial(socket string) *Client {
	c := &Client{socket: socket}
	c.http.Timeout = 30 * time.Second
	c.http.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}
	return c
}

// Status asks for the state of all fleets.
func (c *Client) Status(ctx context.Context) (o Overview, err error) {
	return o, c.do(ctx, http.MethodGet, "/api/v1/status", nil, nil, &o)
}

// Events asks for events.
func (c *Client) Events(ctx context.Context, q record.EventQuery) (events []fleet.Event, err error) {
	v := url.Values{}
	if q.Fleet != "" {
		v.Set("fleet", q.Fleet)
	}
	for _, k := range q.Kinds {
		v.Add("kind", string(k))
	}
	for name, t := range map[string]time.Time{"since": q.Since, "until": q.Until} {
		if !t.IsZero() {
			v.Set(name, t.UTC().Format(time.RFC3339Nano))
		}
	}
	if q.After > 0 {
		v.Set("after", strconv.FormatInt(q.After, 10))
	}
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	return events, c.do(ctx, http.MethodGet, "/api/v1/events", v, nil, &events)
}

// Explain asks why a fleet's size is (or was, at a moment) what it is.
func (c *Client) Explain(ctx context.Context, name string, at time.Time) (e *Explanation, err error) {
	v := url.Values{}
	if !at.IsZero() {
		v.Set("at", at.UTC().Format(time.RFC3339Nano))
	}
	return e, c.do(ctx, http.MethodGet, "/api/v1/fleets/"+url.PathEscape(name)+"/explanation", v, nil, &e)
}

// Order gives an operator's word to a fleet and returns its status after it.
func (c *Client) Order(ctx context.Context, name string, o OrderRequest) (st *control.Status, err error) {
	return st, c.do(ctx, http.MethodPost, "/api/v1/fleets/"+url.PathEscape(name)+"/orders", nil, o, &st)
}

// Pushed is a value for a signal that takes them. Without an expiry it is good for as long as the signal's configuration says.
type Pushed struct {
	Value  float64        `json:"value"`
	Expiry fleet.Duration `json:"expiry,omitempty"`
}

// Push sends a value for a signal.
func (c *Client) Push(ctx context.Context, name, signal string, v Pushed) error {
	return c.do(ctx, http.MethodPut, "/api/v1/fleets/"+url.PathEscape(name)+"/signals/"+url.PathEscape(signal), nil, v, nil)
}

// Alerts asks what is raised, and who has been told.
func (c *Client) Alerts(ctx context.Context) (a Alerts, err error) {
	return a, c.do(ctx, http.MethodGet, "/api/v1/alerts", nil, nil, &a)
}

// TestAlerts sends a test message through each channel.
func (c *Client) TestAlerts(ctx context.Context) (tried []tell.Tried, err error) {
	return tried, c.do(ctx, http.MethodPost, "/api/v1/alerts/test", nil, nil, &tried)
}

func (c *Client) do(ctx context.Context, method, path string, query url.Values, body, into any) error {
	var buf bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&buf).Encode(body); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://daemon"+path+"?"+query.Encode(), &buf)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	switch {
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w at %s: is 'tidemark run' running? (another socket: --socket PATH or -c CONFIG)", ErrNoDaemon, c.socket)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s belongs to another user: run this as the user that runs the daemon", c.socket)
	case err != nil:
		return fmt.Errorf("ask the daemon: %w", err)
	}
	defer resp.Body.Close()
	d := json.NewDecoder(resp.Body)
	if resp.StatusCode >= http.StatusBadRequest {
		p := &Problem{Status: resp.StatusCode, Detail: resp.Status}
		_ = d.Decode(p) // without a body the status line must do
		return p
	}
	if into == nil {
		return nil
	}
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("read the daemon's answer: %w", err)
	}
	return nil
}
