// Package haproxy keeps a backend of an HAProxy up to date, without a reload: over the runtime socket it adds, enables, drains and
// deletes servers while traffic goes on. It owns that backend; all else of HAProxy's configuration, and whether HAProxy
// runs at all, is the operator's.
//
// What is said over the socket is lost when HAProxy is restarted or reloaded: its own server-state file holds the state of servers that the configuration
// has, and no added ones. So the backend also stands in a file that HAProxy reads when it starts, written before each change: a
// restarted HAProxy begins with the servers of that moment, whether or not Tidemark runs. What differs all the same is put right by the
// next Set. The rest of the file (queue, classes, cookie) is HAProxy's from its next reload on, and Set says so until then.
//
// A server is named after its worker's instance, so that a worker that takes over a port is another server.
package haproxy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"tidemark/internal/fleet"
)

// Balancer is an HAProxy as a fleet's balancer.
type Balancer struct {
	cfg     Config
	runtime Runtime

	mu   sync.Mutex
	held map[string]time.Time // servers that were drained: not taken back before
}

// New makes a Balancer of a valid configuration. It does nothing before Set.
func New(cfg Config) *Balancer {
	return &Balancer{cfg: cfg, runtime: NewRuntime(cfg.Socket), held: map[string]time.Time{}}
}

// drainHold is how long a drained worker stays out although it is listed: a list made before the drain may arrive after.
const drainHold = 5 * time.Second

// forever marks a server whose drain is under way.
const forever = 24 * time.Hour

// ReloadNeededError says that HAProxy runs with other settings than the file has. The servers are as they should be.
type ReloadNeededError struct{ Backend, File string }

func (e *ReloadNeededError) Error() string {
	return fmt.Sprintf("HAProxy's backend %s has the right servers, and not yet the settings in %s: reload HAProxy, started with -f %[2]s (systemctl reload haproxy)", e.Backend, e.File)
}

// Set makes exactly the serving workers take requests. It changes nothing in an HAProxy that has them already. A server that
// is to go and still has requests gets no new ones, and is deleted by a later Set.
func (b *Balancer) Set(ctx context.Context, workers []fleet.Worker) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	for name, until := range b.held {
		if !now.Before(until) {
			delete(b.held, name)
		}
	}
	servers, err := serversOf(slices.DeleteFunc(slices.Clone(workers), func(w fleet.Worker) bool {
		return w.Phase != fleet.Serving || !b.held[w.Instance()].IsZero()
	}))
	if err != nil {
		return err
	}
	if err := b.cfg.write(servers); err != nil {
		return err
	}
	have, err := b.runtime.backend(ctx, b.cfg.Backend)
	if err != nil {
		return b.explain(err)
	}
	var errs []error
	added := false
	for _, s := range servers {
		i := slices.IndexFunc(have.Servers, func(h ServerStats) bool { return h.Name == s.Name })
		if i >= 0 && have.Servers[i].at(s) {
			errs = append(errs, b.mend(ctx, s.Name, &have.Servers[i]))
			continue
		}
		if i >= 0 { // another worker had its name
			if err := b.remove(ctx, s.Name); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		errs, added = append(errs, b.add(ctx, s)), true
	}
	if added {
		errs = append(errs, b.enable(ctx, servers))
	}
	for _, h := range have.Servers {
		if _, drains := b.held[h.Name]; drains || slices.ContainsFunc(servers, func(s server) bool { return s.Name == h.Name }) {
			continue
		}
		if err := b.remove(ctx, h.Name); !refused(err, saidConnected) {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return b.current(ctx)
}

// at reports that the server sends its requests where s says.
func (h ServerStats) at(s server) bool {
	return h.Address == s.Address || h.Address == "unix" && strings.HasPrefix(s.Address, "unix@")
}

// explain says what to do where HAProxy does not know the backend.
func (b *Balancer) explain(err error) error {
	if refused(err, saidNoBackend) || refused(err, saidNoProxy) {
		return fmt.Errorf("HAProxy has no backend %s: start it with -f %s beside its own file, and reload it", b.cfg.Backend, b.cfg.File)
	}
	return err
}

func (b *Balancer) name(server string) string { return b.cfg.Backend + "/" + server }

// mend puts right what somebody changed of a server that is to serve.
func (b *Balancer) mend(ctx context.Context, name string, have *ServerStats) error {
	var errs []error
	if have.Limit != uint64(b.cfg.MaxInFlight) {
		errs = append(errs, b.do(ctx, fmt.Sprintf("set maxconn server %s %d", b.name(name), b.cfg.MaxInFlight)))
	}
	if have.Status == "DRAIN" || strings.HasPrefix(have.Status, "MAINT") {
		errs = append(errs, b.do(ctx, "set server "+b.name(name)+" state ready"))
	}
	return errors.Join(errs...)
}

// add makes a server, in maintenance, as HAProxy has it.
func (b *Balancer) add(ctx context.Context, s server) error {
	command := "add server " + b.name(s.Name) + " " + s.Address
	if b.cfg.MaxInFlight > 0 {
		command += fmt.Sprintf(" maxconn %d", b.cfg.MaxInFlight)
	}
	return b.do(ctx, command)
}

// enable lets the servers that were added serve. They have no cookie before the backend is told to make one for each.
func (b *Balancer) enable(ctx context.Context, servers []server) error {
	if b.cfg.Sticky.Cookie != "" {
		if err := b.do(ctx, "enable dynamic-cookie backend "+b.cfg.Backend); err != nil {
			return err
		}
	}
	have, err := b.runtime.backend(ctx, b.cfg.Backend)
	if err != nil {
		return err
	}
	var errs []error
	for _, h := range have.Servers {
		if slices.ContainsFunc(servers, func(s server) bool { return s.Name == h.Name }) {
			errs = append(errs, b.mend(ctx, h.Name, &h))
		}
	}
	return errors.Join(errs...)
}

// remove takes a server out of service and deletes it; HAProxy refuses that as long as it has requests.
func (b *Balancer) remove(ctx context.Context, name string) error {
	err := b.do(ctx, "set server "+b.name(name)+" state maint")
	if err == nil {
		err = b.do(ctx, "del server "+b.name(name))
	}
	if refused(err, saidNoServer) {
		return nil
	}
	return err
}

// current reports whether HAProxy runs with the file's settings.
func (b *Balancer) current(ctx context.Context) error {
	said, err := b.runtime.Do(ctx, "show env "+b.cfg.Variable())
	if err == nil && said != b.cfg.Variable()+"="+b.cfg.settings() {
		err = &ReloadNeededError{b.cfg.Backend, b.cfg.File}
	}
	return err
}

func (b *Balancer) do(ctx context.Context, command string) error {
	_, err := b.runtime.Do(ctx, command)
	return err
}

// unlist takes a server out of the file.
func (b *Balancer) unlist(name string) error {
	content, err := os.ReadFile(b.cfg.File)
	if err != nil {
		return fmt.Errorf("haproxy backend: %w", err)
	}
	return b.cfg.write(slices.DeleteFunc(parse(content), func(s server) bool { return s.Name == name }))
}
