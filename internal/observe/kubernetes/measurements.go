package kubernetes

import (
	"context"
	"fmt"
	"sync"
	"time"

	"tidemark/internal/kubeapi"
)

// every is how old what was measured may be before it is asked for again: metrics-server itself looks every 15 s.
const every = 5 * time.Second

// measurements are what the pods of one namespace use. They cannot be watched, so all of them are asked for at once, however many selectors
// there are, and anew while those who read go on with what there is: a tick does not wait for it.
type measurements struct {
	client *kubeapi.Client
	every  time.Duration

	mu     sync.Mutex
	asking chan struct{} // closed when the answer that is waited for is there; nil: none is
	used   map[string]kubeapi.Usage
	err    error
	at     time.Duration // uptime when used, or err, was asked for
}

// now returns what was asked for twice every ago at most.
func (m *measurements) now(ctx context.Context) (map[string]kubeapi.Usage, error) {
	since := m.client.Uptime()
	for {
		m.mu.Lock()
		age := m.client.Uptime() - m.at
		known := (m.used != nil || m.err != nil) && (age <= 2*m.every || m.at >= since)
		if m.asking == nil && (!known || age > m.every) {
			m.asking = make(chan struct{})
			go m.ask(context.WithoutCancel(ctx))
		}
		used, err, asking := m.used, m.err, m.asking
		m.mu.Unlock()
		if known {
			return used, err
		}
		select {
		case <-asking:
		case <-ctx.Done():
			return nil, fmt.Errorf("read the pods' metrics: %w", ctx.Err())
		}
	}
}

func (m *measurements) ask(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	began := m.client.Uptime()
	used, err := m.client.Usages(ctx, "")
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used, m.err, m.at = used, err, began
	close(m.asking)
	m.asking = nil
}
