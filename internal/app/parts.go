package app

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"

	"tidemark/internal/act/command"
	"tidemark/internal/act/docker"
	"tidemark/internal/act/haproxy"
	"tidemark/internal/act/kubernetes"
	"tidemark/internal/act/nginx"
	"tidemark/internal/act/prefork"
	"tidemark/internal/act/process"
	"tidemark/internal/act/proxy"
	"tidemark/internal/act/systemd"
	"tidemark/internal/config"
	"tidemark/internal/control"
	"tidemark/internal/decide/policy"
	"tidemark/internal/observe/accesslog"
	"tidemark/internal/observe/cgroup"
	"tidemark/internal/observe/derived"
	"tidemark/internal/observe/disk"
	haproxystats "tidemark/internal/observe/haproxy"
	"tidemark/internal/observe/httpjson"
	kubernetespods "tidemark/internal/observe/kubernetes"
	"tidemark/internal/observe/listenqueue"
	"tidemark/internal/observe/pgbouncer"
	"tidemark/internal/observe/postgres"
	"tidemark/internal/observe/procfs"
	"tidemark/internal/observe/prometheus"
	"tidemark/internal/observe/proxystats"
	"tidemark/internal/observe/push"
)

// parts are one fleet's adapters, with the configuration that they were made from: a reload keeps those whose
// configuration is the same.
type parts struct {
	target   made[control.Target]
	balancer made[control.Balancer]
	sources  map[string]made[control.Source] // by signal
	next     map[string]made[control.Source] // those of a reload, until it is in force
}

// made is an adapter and what it was made from.
type made[T any] struct {
	from any
	it   T
}

// closer is an adapter that has something to let go of when it is no longer used. It leaves workers as they are.
type closer interface{ Close() error }

func closeAdapter(v any, log func(string)) {
	if c, ok := v.(closer); ok {
		if err := c.Close(); err != nil {
			log("close: " + err.Error())
		}
	}
}

func (p *parts) close(log func(string)) {
	for _, s := range p.sources {
		closeAdapter(s.it, log)
	}
	closeAdapter(p.balancer.it, log)
	closeAdapter(p.target.it, log)
}

// reuse returns what is there if it was made from the same configuration, else makes it anew and lets the old one go.
func reuse[T any](old made[T], from any, log func(string), build func() (T, error)) (made[T], error) {
	if old.from != nil && reflect.DeepEqual(old.from, from) {
		return old, nil
	}
	if old.from != nil {
		closeAdapter(old.it, log)
	}
	it, err := build()
	if err != nil {
		return made[T]{}, err
	}
	return made[T]{from, it}, nil
}

// build makes the loop's parts of a configuration, reusing what is configured as before. The sources in use stay open until prune.
func (a *App) build(ctx context.Context, cfg *config.Config) (out []control.Parts, err error) {
	defer func() {
		if err == nil {
			return
		}
		for _, p := range a.parts {
			closeSources(p.next, p.sources, a.opts.Log)
			p.next = nil
		}
	}()
	for i := range cfg.Fleets {
		f := &cfg.Fleets[i]
		p := a.parts[f.Name]
		if p == nil {
			p = &parts{}
			a.parts[f.Name] = p
		}
		built, err := a.buildFleet(ctx, cfg, f, p)
		if err != nil {
			return nil, &fleetError{f.Name, err}
		}
		out = append(out, built)
	}
	return out, nil
}

// fleetError is why a fleet cannot be made.
type fleetError struct {
	fleet string
	err   error
}

func (e *fleetError) Error() string { return "fleet " + e.fleet + ": " + e.err.Error() }
func (e *fleetError) Unwrap() error { return e.err }

func (a *App) buildFleet(ctx context.Context, cfg *config.Config, f *config.Fleet, p *parts) (_ control.Parts, err error) {
	p.target, err = reuse(p.target, f.Target.Body, a.opts.Log, func() (control.Target, error) { return a.target(ctx, cfg, f) })
	if err != nil {
		return control.Parts{}, fmt.Errorf("target: %w", err)
	}
	built := control.Parts{Policy: f.Policy, Target: p.target.it, Priority: f.Priority}
	if f.Balancer.Body != nil {
		p.balancer, err = reuse(p.balancer, f.Balancer.Body, a.opts.Log, func() (control.Balancer, error) { return a.balancer(cfg, f) })
		if err != nil {
			return control.Parts{}, fmt.Errorf("balancer: %w", err)
		}
		built.Balancer = p.balancer.it
	}
	p.next = map[string]made[control.Source]{}
	built.Derived = map[int]control.Derived{}
	for i, s := range f.Signals {
		if c, ok := s.Body.(*derived.Config); ok { // it holds nothing, and is made anew with what it is computed from
			if built.Derived[i], err = derived.New(*c, f.Signals); err != nil {
				return control.Parts{}, fmt.Errorf("signal %s: %w", s.Name, err)
			}
			built.Sources = append(built.Sources, nil)
			continue
		}
		sig := f.Policy.Signals[i]
		from := []any{s.Body, sig}
		src, kept := p.sources[s.Name]
		if !kept || !reflect.DeepEqual(src.from, from) {
			src.from = from
			if src.it, err = a.source(cfg, f, &s, &sig); err != nil {
				return control.Parts{}, fmt.Errorf("signal %s: %w", s.Name, err)
			}
		}
		p.next[s.Name] = src
		built.Sources = append(built.Sources, src.it)
	}
	return built, nil
}

// prune lets go of what a reload no longer uses.
func (a *App) prune(cfg *config.Config) {
	used := map[string]bool{}
	for _, f := range cfg.Fleets {
		used[f.Name] = true
	}
	for name, p := range a.parts {
		if !used[name] {
			p.close(a.opts.Log)
			delete(a.parts, name)
			continue
		}
		closeSources(p.sources, p.next, a.opts.Log)
		p.sources, p.next = p.next, nil
	}
}

// closeSources closes those that are not among keep.
func closeSources(those, keep map[string]made[control.Source], log func(string)) {
	for name, s := range those {
		if keep[name].it != s.it {
			closeAdapter(s.it, log)
		}
	}
}

// proxySocket is the admin socket of a fleet's proxy.
func proxySocket(cfg *config.Config, fleet string) string {
	return filepath.Join(cfg.StateDir, fleet+".proxy.sock")
}

func (a *App) self(args ...string) []string {
	return append(append([]string{}, a.opts.Self...), args...)
}

func (a *App) target(ctx context.Context, cfg *config.Config, f *config.Fleet) (control.Target, error) {
	switch c := f.Target.Body.(type) {
	case *process.Config:
		t, err := process.New(*c, process.Options{Fleet: f.Name, StateDir: cfg.StateDir, Shim: a.self("worker-shim")})
		if err != nil {
			return nil, err
		}
		return t, t.Start(ctx)
	case *prefork.Config:
		return prefork.New(*c)
	case *command.Config:
		return command.New(*c)
	case *docker.Config:
		return docker.New(*c, docker.Options{Fleet: f.Name, Instance: cfg.Instance.Name})
	case *systemd.Config:
		return systemd.New(*c)
	case *kubernetes.Config:
		return kubernetes.New(*c, &a.shared.clusters)
	case *kubernetes.FollowedConfig:
		return kubernetes.NewFollowed(*c, &a.shared.clusters)
	}
	return nil, errors.New("unknown kind " + f.Target.Kind)
}

func (a *App) balancer(cfg *config.Config, f *config.Fleet) (control.Balancer, error) {
	switch c := f.Balancer.Body.(type) {
	case *proxy.Config:
		return proxy.NewBalancer(*c, proxy.Options{Command: a.self("proxy"), Socket: proxySocket(cfg, f.Name)}), nil
	case *nginx.Config:
		return nginx.New(*c), nil
	case *haproxy.Config:
		return haproxy.New(*c), nil
	}
	return nil, errors.New("unknown kind " + f.Balancer.Kind)
}

func (a *App) source(cfg *config.Config, f *config.Fleet, s *config.Signal, sig *policy.Signal) (control.Source, error) {
	switch c := s.Body.(type) {
	case *procfs.Config:
		return procfs.New(*c), nil
	case *accesslog.Config:
		return a.shared.logs.Source(*c, sig.Q, sig.Window, sig.MinSamples)
	case *proxystats.Config:
		return proxystats.New(*c, sig.Q, sig.Window, sig.MinSamples, a.shared.proxy(proxySocket(cfg, f.Name))), nil
	case *haproxystats.Config:
		b, ok := f.Balancer.Body.(*haproxy.Config)
		if !ok { // config has refused it
			return nil, errors.New("the fleet's balancer is no haproxy")
		}
		return haproxystats.New(*c, sig.Window, sig.MinSamples, a.shared.haproxy(b.Socket, b.Backend)), nil
	case *cgroup.Config:
		return cgroup.New(*c), nil
	case *disk.Config:
		return disk.New(*c), nil
	case *kubernetespods.Config:
		return a.shared.kubernetes().Source(*c)
	case *listenqueue.Config:
		return listenqueue.New(*c, &a.shared.sockets), nil
	case *pgbouncer.Config:
		return a.shared.pools.Source(*c, sig.Window, sig.MinSamples)
	case *postgres.Config:
		return a.shared.database.Source(*c, sig.Window, sig.MinSamples)
	case *prometheus.Config:
		return prometheus.New(*c, sig.Q, sig.Window, sig.MinSamples), nil
	case *httpjson.Config:
		return a.shared.pages.Source(*c), nil
	case *push.Config:
		return a.shared.pushed.Source(f.Name, s.Name, *c), nil
	}
	return nil, errors.New("unknown kind " + s.Kind)
}
