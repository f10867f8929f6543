package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"tidemark/internal/act/process"
	"tidemark/internal/act/proxy"
)

// Dissolve stops the daemon and then, unlike Stop, also what it runs: the workers of process targets and the proxies. Masters
// that others started (prefork) are left alone. It is for the demo and for tests.
func (a *App) Dissolve() error {
	a.loop.Stop()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var errs []error
	for name, p := range a.parts {
		if _, ok := p.balancer.it.(*proxy.Balancer); ok {
			errs = append(errs, endProxy(ctx, proxySocket(a.cfg, name)))
		}
		if t, ok := p.target.it.(*process.Target); ok {
			errs = append(errs, t.Scale(ctx, 0, nil))
		}
	}
	a.Stop()
	return errors.Join(errs...)
}

// endProxy asks the proxy at socket to end, and waits until it has.
func endProxy(ctx context.Context, socket string) error {
	c := proxy.NewClient(socket)
	h, err := c.Health(ctx)
	if err != nil {
		return nil // it has ended already
	}
	p, err := os.FindProcess(h.PID)
	if err != nil {
		return fmt.Errorf("find the proxy: %w", err)
	}
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("end the proxy: %w", err)
	}
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return errors.New("the proxy does not end")
		case <-ticker.C:
		}
		if _, err := c.Health(ctx); err != nil {
			return nil
		}
	}
}
