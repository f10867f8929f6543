package app

import (
	"errors"
	"fmt"

	"tidemark/internal/act/haproxy"
	"tidemark/internal/config"
	"tidemark/internal/observe/accesslog"
	"tidemark/internal/show/front"
)

// NginxSnippet writes what goes into the nginx in front of a fleet; without a name, of the one fleet that has a front.
func NginxSnippet(cfg *config.Config, name string) (front.Snippet, error) {
	var found []*config.Fleet
	for i := range cfg.Fleets {
		f := &cfg.Fleets[i]
		if _, ok := f.Front.Body.(*front.Config); ok && (name == "" || f.Name == name) {
			found = append(found, f)
		}
	}
	switch {
	case len(found) == 0 && name != "":
		return front.Snippet{}, fmt.Errorf("there is no fleet %q with a front: write front: {nginx: {upstream: 127.0.0.1:8069}} in it", name)
	case len(found) == 0:
		return front.Snippet{}, errors.New("no fleet has a front: write front: {nginx: {upstream: 127.0.0.1:8069}} in one")
	case len(found) > 1:
		return front.Snippet{}, fmt.Errorf("%d fleets have a front; name one", len(found))
	}
	f := found[0]
	log := "/var/log/nginx/" + f.Name + ".access.log"
	for _, s := range f.Signals {
		if c, ok := s.Body.(*accesslog.Config); ok {
			log = c.Path
			break
		}
	}
	return front.Render(f.Name, f.Policy.Bounds.Max, log, *f.Front.Body.(*front.Config))
}

// HAProxyBackend is what an HAProxy in front of a fleet reads beside its own file when it starts, before Tidemark has written it.
type HAProxyBackend struct {
	File string `json:"file"` // where Tidemark keeps it from then on
	Text string `json:"text"`
}

// HAProxySnippet writes the backend of a fleet, as yet without servers; without a name, of the one fleet that has an HAProxy.
func HAProxySnippet(cfg *config.Config, name string) (HAProxyBackend, error) {
	var found []*haproxy.Config
	for i := range cfg.Fleets {
		f := &cfg.Fleets[i]
		if c, ok := f.Balancer.Body.(*haproxy.Config); ok && (name == "" || f.Name == name) {
			found = append(found, c)
		}
	}
	switch {
	case len(found) == 0 && name != "":
		return HAProxyBackend{}, fmt.Errorf("there is no fleet %q with an HAProxy: write balancer: {haproxy: {...}} in it", name)
	case len(found) == 0:
		return HAProxyBackend{}, errors.New("no fleet has an HAProxy: write balancer: {haproxy: {...}} in one")
	case len(found) > 1:
		return HAProxyBackend{}, fmt.Errorf("%d fleets have an HAProxy; name one", len(found))
	}
	text, err := found[0].Render(nil)
	return HAProxyBackend{found[0].File, string(text)}, err
}
