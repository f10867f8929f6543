// Package nginx keeps the upstream block of an nginx up to date: it renders the file, has nginx test it, reloads, and
// goes back to the file before when nginx refuses. It owns that one file; all else of nginx's configuration, and whether nginx
// runs at all, is the operator's.
//
// A reload starts new nginx workers and lets the old ones finish what they have, so no request is lost by it. nginx reads
// the file again when it starts, so what it was last told is kept with the master's pid and start time: when either is
// not what it was, or a power cut came between the change and the reload, it is reloaded once more, which does no harm.
package nginx

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"tidemark/internal/act/wait"
	"tidemark/internal/fleet"
)

// Balancer is nginx as a fleet's balancer.
type Balancer struct {
	cfg Config

	mu   sync.Mutex
	held map[string]time.Time // worker ids that were drained: not taken back before
}

// New makes a Balancer of a valid configuration. It does nothing before Set.
func New(cfg Config) *Balancer { return &Balancer{cfg: cfg, held: map[string]time.Time{}} }

// ErrEmpty says that no worker would be left. nginx refuses such an upstream, so the file stays as it is.
var ErrEmpty = errors.New("no worker would be left in the upstream, which nginx refuses: the last list stays in force")

// drainHold is how long a drained worker stays out although it is listed: a list made before the drain may arrive after.
const drainHold = 5 * time.Second

// forever marks a worker whose drain is under way.
const forever = 24 * time.Hour

// Set makes exactly the serving workers take requests. It does nothing when nginx was told so already.
func (b *Balancer) Set(ctx context.Context, workers []fleet.Worker) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	var addresses []string
	for _, w := range workers {
		if w.Phase != fleet.Serving || now.Before(b.held[w.Instance()]) {
			continue
		}
		if err := checkAddress(w); err != nil {
			return err
		}
		addresses = append(addresses, w.Address)
	}
	for id, until := range b.held {
		if !now.Before(until) {
			delete(b.held, id)
		}
	}
	return b.install(ctx, addresses)
}

// Drain takes one worker out of the upstream and returns when nginx sends it nothing more. That is certain when the
// nginx workers from before the reload have ended; a websocket may keep one for hours, so after drain_wait it is enough
// that no connection to the worker is open (which the kernel shows for one in this network namespace; others' connections
// count too). An old nginx worker that still reads a slow client's request then finds the worker gone and takes
// another one.
func (b *Balancer) Drain(ctx context.Context, w fleet.Worker) error {
	if err := checkAddress(w); err != nil {
		return err
	}
	b.hold(w.Instance(), forever)
	defer b.hold(w.Instance(), drainHold)
	old, err := b.remove(ctx, w.Address)
	if err != nil {
		return fmt.Errorf("drain %s: %w", w.ID, err)
	}
	for until := time.Now().Add(b.cfg.DrainWait); time.Now().Before(until) && !old.ended(); {
		if err := wait.For(ctx, look); err != nil {
			return fmt.Errorf("drain %s: %w", w.ID, err)
		}
	}
	return untilUnused(ctx, w)
}

func (b *Balancer) hold(id string, d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held[id] = time.Now().Add(d)
}

// remove takes an address out of the file as it is, and waits until the nginx workers from before, which it returns, take
// no new connections.
func (b *Balancer) remove(ctx context.Context, address string) (generation, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	content, err := os.ReadFile(b.cfg.File)
	if err != nil {
		return generation{}, fmt.Errorf("nginx upstream: %w", err)
	}
	addresses := parse(content)
	left := slices.DeleteFunc(slices.Clone(addresses), func(a string) bool { return a == address })
	if len(left) == len(addresses) && b.told(content) {
		return generation{}, nil
	}
	old := generationOf(b.master())
	if err := b.install(ctx, left); err != nil {
		return old, err
	}
	return old, old.untilLeaving(ctx)
}

// install makes these addresses the upstream and nginx know it.
func (b *Balancer) install(ctx context.Context, addresses []string) error {
	slices.Sort(addresses)
	addresses = slices.Compact(addresses)
	if len(addresses) == 0 {
		return ErrEmpty
	}
	wanted := b.cfg.render(addresses)
	have, err := os.ReadFile(b.cfg.File)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("nginx upstream: %w", err)
	}
	same := err == nil && bytes.Equal(have, wanted)
	if same && b.told(wanted) {
		return nil
	}
	if !same {
		if err := b.replace(have, err == nil, wanted); err != nil {
			return fmt.Errorf("nginx upstream: %w", err)
		}
	}
	test, reload := b.cfg.commands()
	if said, err := run(ctx, test); err != nil {
		return errors.Join(fmt.Errorf("nginx refuses the configuration with the new upstream: %s", words(said, err)), b.rollBack(wanted))
	}
	master := b.master() // before: a master that starts meanwhile reads the file itself, or is told again
	if said, err := run(ctx, reload); err != nil {
		return fmt.Errorf("nginx does not reload (the new upstream is in %s and is tried again): %s", b.cfg.File, words(said, err))
	}
	if err := b.note(wanted, master); err != nil {
		return fmt.Errorf("nginx upstream: %w", err)
	}
	return nil
}

// beside is a hidden file beside the upstream file: a wildcard include does not read it.
func (b *Balancer) beside(suffix string) string {
	return filepath.Join(filepath.Dir(b.cfg.File), "."+filepath.Base(b.cfg.File)+suffix)
}

// replace puts the new file in the old one's place at once. What nginx took last is kept beside it (see note); before
// there is such a thing, what the operator had.
func (b *Balancer) replace(have []byte, existed bool, wanted []byte) error {
	if existed && !exists(b.beside(".last")) {
		if err := writeFile(b.beside(".last"), have); err != nil {
			return err
		}
	}
	return writeFile(b.cfg.File, wanted)
}

// rollBack puts back what nginx took last, or takes the refused file away when there was none. When it is the same, the
// fault is elsewhere in nginx's configuration and the file stays.
func (b *Balancer) rollBack(refused []byte) error {
	last, err := os.ReadFile(b.beside(".last"))
	switch {
	case errors.Is(err, os.ErrNotExist):
		err = os.Remove(b.cfg.File)
	case err == nil && !bytes.Equal(last, refused):
		err = writeFile(b.cfg.File, last)
	}
	if err != nil {
		return fmt.Errorf("and the file before could not be put back: %w", err)
	}
	return nil
}

// run runs a command and returns what it printed.
func run(ctx context.Context, argv []string) (string, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// words are nginx's own, in one line, or how the command failed when it printed nothing.
func words(said string, err error) string {
	var lines []string
	for line := range strings.Lines(said) {
		if line = strings.TrimSpace(line); line != "" && len(lines) < 10 {
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 {
		return err.Error()
	}
	return strings.Join(lines, "; ")
}
