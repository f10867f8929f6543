// Package docker is the target that scales a service's containers through the Docker Engine API: copies of a template container or
// of a compose service's container, with the same image, environment, mounts, networks, labels and limits, each with a name and a
// port of its own. It owns which containers are the fleet's, how copies are made, when they are ready, which one leaves, and that it
// leaves gracefully. It leaves to the engine to start again what died (the restart policy), and to others how many copies there
// should be and what sends them requests.
//
// The template is never started, stopped or changed. While it runs it serves and counts as a worker that cannot leave; one that
// was only created (docker create, docker compose create) is a pattern and no worker.
//
// Everything that must outlive the daemon stands at the engine: labels say which containers are copies and of what, and a copy that
// was drained is renamed before it is stopped, so that the next daemon goes on stopping it.
package docker

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"tidemark/internal/act/copies"
	"tidemark/internal/act/health"
	"tidemark/internal/fleet"
)

// Options is what the daemon adds to what the operator wrote.
type Options struct {
	Fleet    string // its name; also the first part of the copies' names
	Instance string // tells fleets of one name of two daemons at one engine apart
}

// Target scales one service.
type Target struct {
	cfg    Config
	opts   Options
	engine *engine
	watch  *health.Watch
	meter  copies.Meter
	turn   chan struct{} // held by the one Scale that runs

	mu      sync.Mutex
	victims map[string]bool // ids of copies that Scale drains
}

// New makes a target of a valid configuration. It touches nothing: the engine may come later.
func New(cfg Config, opts Options) (*Target, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if !containerName.MatchString(opts.Fleet) {
		return nil, fmt.Errorf("the fleet's name %q cannot be part of a container's: use letters, digits, _, . and -", opts.Fleet)
	}
	return &Target{
		cfg: cfg, opts: opts, engine: newEngine(cfg.Socket), watch: health.NewWatch(cfg.Health), turn: make(chan struct{}, 1), victims: map[string]bool{},
	}, nil
}

// Close lets go of the connections to the engine. The containers stay as they are.
func (t *Target) Close() error {
	t.engine.close()
	return nil
}

// member is a container of the fleet.
type member struct {
	*container
	slot    int // 0: the service's own, which is never stopped
	leaving bool
	worker  fleet.Worker // Gone when it does not run and nobody starts it
}

// view is the fleet as the engine shows it.
type view struct {
	template *container // nil when there is none now
	members  []member   // the service's own first, then copies by slot
}

// own are the copies that belong to the fleet.
func (v *view) own() []member {
	var own []member
	for _, m := range v.members {
		if m.slot > 0 && !m.leaving {
			own = append(own, m)
		}
	}
	return own
}

// Workers lists the service's own containers that run, and the copies. An engine that is away is an error, and so is a template
// that is not there while there are no copies.
func (t *Target) Workers(ctx context.Context) ([]fleet.Worker, error) {
	v, err := t.look(ctx)
	if err != nil {
		return nil, err
	}
	workers := make([]fleet.Worker, 0, len(v.members))
	for _, m := range v.members {
		if m.worker.Phase != fleet.Gone {
			workers = append(workers, m.worker)
		}
	}
	if len(v.members) == 0 && v.template == nil {
		return nil, t.noTemplate()
	}
	t.meter.Note(ctx, copies.Lives(v.own(), member.copy), t.cpuTime)
	return workers, nil
}

func (t *Target) noTemplate() error {
	if t.cfg.Container != "" {
		return fmt.Errorf("there is no container %s to copy: docker ps -a lists those that are", t.cfg.Container)
	}
	return fmt.Errorf("compose project %s has no container of service %s to copy: docker compose create %s makes one", t.cfg.Compose.Project, t.cfg.Compose.Service, t.cfg.Compose.Service)
}

// look asks the engine for the fleet's containers, and these how they are.
func (t *Target) look(ctx context.Context) (*view, error) {
	labels := []string{labelFleet + "=" + t.opts.Fleet, labelInstance + "=" + t.opts.Instance}
	copies, err := t.engine.list(ctx, labels...)
	if err != nil {
		return nil, err
	}
	originals := []string{t.cfg.Container}
	if t.cfg.Container == "" {
		originals, err = t.engine.list(ctx, labelProject+"="+t.cfg.Compose.Project, labelService+"="+t.cfg.Compose.Service, labelOneOff+"=False")
		if err != nil {
			return nil, err
		}
	}
	ids := slices.Concat(originals, copies)
	found := make([]*container, len(ids))
	var g errgroup.Group
	g.SetLimit(16)
	for i, id := range ids {
		g.Go(func() (err error) {
			found[i], err = t.engine.inspect(ctx, id)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	v := &view{}
	for i, c := range found {
		switch {
		case c == nil: // it has gone while we looked, or there is no such template
		case i >= len(originals):
			slot, err := strconv.Atoi(c.Config.Labels[labelSlot])
			if err != nil || slot < 1 {
				return nil, fmt.Errorf("the container %s has the label %s=%q, which is no slot: remove the container", c.name(), labelSlot, c.Config.Labels[labelSlot])
			}
			v.members = append(v.members, member{container: c, slot: slot, leaving: c.name() != t.name(slot)})
		default:
			if v.template == nil || c.Created.After(v.template.Created) {
				v.template = c
			}
			v.members = append(v.members, member{container: c})
		}
	}
	slices.SortFunc(v.members, func(a, b member) int {
		return cmp.Or(cmp.Compare(a.slot, b.slot), cmp.Compare(a.Name, b.Name))
	})
	t.describe(ctx, v)
	return v, nil
}

// describe fills in each member's worker, asking those that run whether they are fit to serve.
func (t *Target) describe(ctx context.Context, v *view) {
	digest := ""
	if v.template != nil {
		if from, err := t.newTemplate(v.template); err == nil {
			digest = from.digest
		}
	}
	var g errgroup.Group
	g.SetLimit(64)
	for i := range v.members {
		g.Go(func() error {
			m := &v.members[i]
			m.worker = t.worker(ctx, m)
			if m.slot > 0 && digest != "" && m.Config.Labels[labelTemplate] != digest {
				m.worker.Detail = strings.TrimPrefix(m.worker.Detail+"; it was copied from an earlier form of the template", "; ")
			}
			return nil
		})
	}
	_ = g.Wait() // none fails
	gone := func(id string) bool {
		return !slices.ContainsFunc(v.members, func(m member) bool { return m.ID == id })
	}
	t.watch.Forget(gone)
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.victims, func(id string, _ bool) bool { return gone(id) })
}

// copy is the member as the choice of who leaves sees it.
func (m member) copy() copies.Copy {
	return copies.Copy{Life: copies.Life{ID: m.ID, Started: m.State.StartedAt}, Slot: m.slot, Made: m.Created, Serves: m.worker.Phase == fleet.Serving}
}

func (t *Target) cpuTime(ctx context.Context, copy copies.Life) (uint64, error) {
	return t.engine.cpuTime(ctx, copy.ID)
}

func (t *Target) worker(ctx context.Context, m *member) fleet.Worker {
	w := fleet.Worker{ID: m.name(), Started: m.State.StartedAt}
	if m.slot > 0 {
		w.ID = t.name(m.slot)
	}
	switch m.State.Status {
	case "created":
		if m.slot == 0 {
			return w // a pattern
		}
		w.Phase, w.Started, w.Detail = fleet.Starting, m.Created, cmp.Or(m.State.Error, "created and not started yet")
		if m.leaving {
			w.Phase = fleet.Gone
		}
		return w
	case "restarting":
		w.Phase, w.Detail = fleet.Starting, fmt.Sprintf("it ended with exit code %d, %d times so far, and is being started again", m.State.ExitCode, m.RestartCount)
	case "paused":
		w.Phase, w.Detail = fleet.Starting, "it is paused"
	case "running":
		w.Address, w.Detail = t.address(m)
		w.Phase = fleet.Starting
		w.PID = copies.Local(m.State.PID, m.ID)
		if w.Address != "" {
			who := health.Subject{ID: m.ID, Started: m.State.StartedAt, PID: w.PID}
			serves, err := t.watch.Serves(ctx, who, func(ctx context.Context) error { return t.check(ctx, m, w.Address) })
			if serves {
				w.Phase = fleet.Serving
			}
			if err != nil {
				w.Detail = err.Error()
			}
		}
	default: // exited, removing, dead
		return w
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if m.leaving || t.victims[m.ID] {
		w.Phase = fleet.Draining
	}
	return w
}

// address is where a running container takes requests, or why that is not known.
func (t *Target) address(m *member) (address, why string) {
	if port := m.Config.Labels[labelPort]; port != "" && m.slot > 0 {
		return net.JoinHostPort("127.0.0.1", port), ""
	}
	if m.HostConfig.NetworkMode == "host" {
		if t.cfg.Port == 0 {
			return "", "where it listens is not known: write port"
		}
		return net.JoinHostPort("127.0.0.1", strconv.Itoa(t.cfg.Port)), ""
	}
	networks := m.NetworkSettings.Networks
	name := t.cfg.Network
	switch {
	case name == "" && len(networks) == 1:
		for only := range networks {
			name = only
		}
	case name == "":
		return "", fmt.Sprintf("it is in %d networks: write which one the balancer is in, as network", len(networks))
	}
	end, in := networks[name]
	switch {
	case !in:
		return "", "it is not in the network " + name
	case end.IPAddress == "":
		return "", "it has no address in the network " + name
	}
	return net.JoinHostPort(end.IPAddress, strconv.Itoa(t.cfg.Port)), ""
}

// check asks once: by the path that the operator wrote, by the container's own HEALTHCHECK, or for a connection.
func (t *Target) check(ctx context.Context, m *member, address string) error {
	if h := m.State.Health; t.cfg.Health.Path == "" && h != nil && h.Status != "none" {
		if h.Status == "healthy" {
			return nil
		}
		said := ""
		if n := len(h.Log); n > 0 {
			said, _, _ = strings.Cut(strings.TrimSpace(h.Log[n-1].Output), "\n")
		}
		return fmt.Errorf("the container's own says %s: %s", h.Status, cmp.Or(said, "no output yet"))
	}
	return health.Check(ctx, address, t.cfg.Health.Path, t.cfg.Health.Timeout)
}

// name is that of the copy in a slot.
func (t *Target) name(slot int) string { return t.opts.Fleet + "-" + strconv.Itoa(slot) }
