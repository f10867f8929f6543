package kubernetes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/kubeapi"
)

// Usage is what a pod was measured to use.
type Usage kubeapi.Usage

func (u Usage) cpu() float64    { return u.CPU }
func (u Usage) memory() float64 { return u.Memory }

// settling is how long a pod may be ready without being measured: metrics-server looks every 15 s, and needs two looks.
const settling = 2 * time.Minute

// look is the pods at one moment, and what they use, for a field that is about that.
type look struct {
	pods      []kubeapi.Pod
	used      map[string]kubeapi.Usage // by their names
	unchanged time.Duration            // since something new was measured
}

// Pods are what the sources of a program read: they share what is known of one cluster. The zero value is ready.
type Pods struct {
	Clients *kubeapi.Clients

	every    time.Duration // as the constant, unless a test says otherwise
	mu       sync.Mutex
	measured map[kubeapi.Place]*measurements
	progress map[pods]*progress
}

// pods says which.
type pods struct {
	place    kubeapi.Place
	selector string
}

// progress is of what is measured of some pods. How old that is, is told by when it last changed: the cluster's clock may not be ours.
type progress struct {
	mu     sync.Mutex
	newest time.Time // by its clock
	fresh  time.Time // by ours, monotonic
}

// Source makes a source of a valid configuration.
func (p *Pods) Source(cfg Config) (*Source, error) {
	client, err := p.Clients.Client(cfg.Place)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.measured == nil {
		p.measured, p.progress = map[kubeapi.Place]*measurements{}, map[pods]*progress{}
	}
	if p.measured[cfg.Place] == nil {
		p.measured[cfg.Place] = &measurements{client: client, every: cmp.Or(p.every, every)}
	}
	which := pods{cfg.Place, cfg.Selector}
	if p.progress[which] == nil {
		p.progress[which] = &progress{}
	}
	return &Source{cfg: cfg, client: client, measurements: p.measured[cfg.Place], progress: p.progress[which], now: time.Now}, nil
}

// Source reads one figure. It is not for several goroutines at once.
type Source struct {
	cfg          Config
	client       *kubeapi.Client
	measurements *measurements
	progress     *progress
	now          func() time.Time // monotonic; tests set it

	restarted map[string]int // by UID
}

// Read returns the figure; a stale one when metrics-server has measured nothing new for max_age; a sparse one as long as there is nothing
// to compare with or to measure; or a missing one and why.
func (s *Source) Read(ctx context.Context, scene fleet.Scene) (fleet.Reading, error) {
	v, q := 0.0, fleet.Missing
	l, err := s.look(ctx)
	if err == nil {
		v, q, err = fields[s.cfg.Field].figure(s, l)
	}
	if err != nil {
		s.restarted = nil // what happened meanwhile is not of now
		return fleet.Reading{Time: scene.Now}, fmt.Errorf("%s: %w", s.cfg.Field, err)
	}
	return fleet.Reading{Value: v, Time: scene.Now, Quality: q}, nil
}

// look takes the pods that have not ended and are not ending. Only for a field that needs it it asks what they use: a cluster may have no
// metrics.k8s.io.
func (s *Source) look(ctx context.Context) (*look, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	list, err := s.client.Pods(ctx, s.cfg.Selector)
	if err != nil {
		return nil, err
	}
	l := &look{pods: slices.DeleteFunc(list.Pods, func(p kubeapi.Pod) bool { return p.Meta.Deleted != nil || p.Ended() })}
	if !fields[s.cfg.Field].measured {
		return l, nil
	}
	if l.used, err = s.measurements.now(ctx); err != nil {
		return nil, err
	}
	l.unchanged = s.progress.since(l, s.now())
	return l, nil
}

// since is how long ago something new was seen to be measured.
func (p *progress) since(l *look, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range l.pods {
		if at := l.used[l.pods[i].Meta.Name].At; at.After(p.newest) {
			p.newest, p.fresh = at, now
		}
	}
	return now.Sub(p.fresh)
}

// measured are the ready pods that were measured, each with what it uses.
func (s *Source) measured(l *look) (out []measure, err error) {
	for i := range l.pods {
		p := &l.pods[i]
		if ready, _ := p.Ready(); !ready {
			continue
		}
		if u, ok := l.used[p.Meta.Name]; ok {
			out = append(out, measure{p, Usage(u)})
		} else if since := p.Since("Ready"); s.now().Sub(since) > settling {
			return nil, fmt.Errorf("pod %s is ready since %s and was not measured: kubectl top pod %s says why", p.Meta.Name, since.Format(time.TimeOnly), p.Meta.Name)
		}
	}
	return out, nil
}

type measure struct {
	pod  *kubeapi.Pod
	used Usage
}

// quality of what was measured: stale, when nothing new was for too long.
func (s *Source) quality(l *look) fleet.Quality {
	if l.unchanged > s.cfg.MaxAge {
		return fleet.Stale
	}
	return fleet.Fresh
}

// of takes what a container requests, or its limits.
type of struct {
	name string
	it   func(p *kubeapi.Pod, i int) map[string]string
}

var (
	requests = of{"request", func(p *kubeapi.Pod, i int) map[string]string { return p.Spec.Containers[i].Resources.Requests }}
	limits   = of{"limit", func(p *kubeapi.Pod, i int) map[string]string { return p.Spec.Containers[i].Resources.Limits }}
)

// share is what pods use together by what they may, in percent.
func share(use func(Usage) float64, resource string, by of) func(*Source, *look) (float64, fleet.Quality, error) {
	return func(s *Source, l *look) (float64, fleet.Quality, error) {
		all, err := s.measured(l)
		if err != nil || len(all) == 0 {
			return 0, fleet.Sparse, err
		}
		used, may := 0.0, 0.0
		for _, m := range all {
			used += use(m.used)
			for i := range m.pod.Spec.Containers {
				text := by.it(m.pod, i)[resource]
				if text == "" {
					return 0, fleet.Missing, fmt.Errorf("container %s of pod %s has no %s of %s: write one in its template, or use another field", m.pod.Spec.Containers[i].Name, m.pod.Meta.Name, by.name, resource)
				}
				v, err := kubeapi.Quantity(text)
				if err != nil {
					return 0, fleet.Missing, err
				}
				may += v
			}
		}
		if may <= 0 {
			return 0, fleet.Missing, fmt.Errorf("the %ss of %s add up to %v", by.name, resource, may)
		}
		return 100 * used / may, s.quality(l), nil
	}
}

// mean is what a pod uses on average.
func mean(use func(Usage) float64) func(*Source, *look) (float64, fleet.Quality, error) {
	return func(s *Source, l *look) (float64, fleet.Quality, error) {
		all, err := s.measured(l)
		if err != nil || len(all) == 0 {
			return 0, fleet.Sparse, err
		}
		used := 0.0
		for _, m := range all {
			used += use(m.used)
		}
		return used / float64(len(all)), s.quality(l), nil
	}
}

// count counts pods. A selector that takes none is more likely wrong than a fleet of none.
func count(is func(*kubeapi.Pod) bool) func(*Source, *look) (float64, fleet.Quality, error) {
	return func(s *Source, l *look) (float64, fleet.Quality, error) {
		if len(l.pods) == 0 {
			return 0, fleet.Missing, errNone
		}
		n := 0
		for i := range l.pods {
			if is(&l.pods[i]) {
				n++
			}
		}
		return float64(n), fleet.Fresh, nil
	}
}

var errNone = errors.New("the selector takes no pod")

// restarts counts those since the reading before; of a pod that is new, all.
func (s *Source) restarts(l *look) (float64, fleet.Quality, error) {
	if len(l.pods) == 0 {
		return 0, fleet.Missing, errNone
	}
	n, before := 0, s.restarted
	s.restarted = map[string]int{}
	for i := range l.pods {
		p := &l.pods[i]
		s.restarted[p.Meta.UID] = p.Restarts()
		n += max(p.Restarts()-before[p.Meta.UID], 0)
	}
	if before == nil {
		return 0, fleet.Sparse, nil
	}
	return float64(n), fleet.Fresh, nil
}
