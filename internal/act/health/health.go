// Package health asks a worker whether it is fit to serve. What follows from the answer is its target's to say.
package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"
)

// ErrNoAnswer: the worker listens, or its machine is there, and it did not answer in time. It may be busy.
var ErrNoAnswer = errors.New("no answer")

// Check returns nil when the worker at address (host:port or unix:/path) answers GET path with 2xx within timeout. Without a
// path, a connection is enough.
func Check(ctx context.Context, address, path string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := ask(ctx, address, path)
	switch {
	case err == nil:
		return nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("%w within %v", ErrNoAnswer, timeout)
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOENT):
		return errors.New("it does not listen on " + address)
	}
	return err
}

func ask(ctx context.Context, address, path string) error {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		if socket, ok := strings.CutPrefix(address, "unix:"); ok {
			return d.DialContext(ctx, "unix", socket)
		}
		return d.DialContext(ctx, "tcp", address)
	}
	if path == "" {
		conn, err := dial(ctx, "", "")
		if err != nil {
			return err
		}
		return conn.Close()
	}
	// A connection for each check: one kept open would hold a worker that serves one connection at a time.
	transport := &http.Transport{DialContext: dial, DisableKeepAlives: true}
	client := http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	host := address
	if strings.HasPrefix(address, "unix:") {
		host = "localhost"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "tidemark-health-check")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("GET %s answers %s", path, resp.Status)
	}
	return nil
}
