package app

import (
	"fmt"

	"tidemark/internal/act/haproxy"
	"tidemark/internal/config"
	"tidemark/internal/observe/accesslog"
	"tidemark/internal/show/front"
)

// fleetWith finds the fleet of a name with a balancer or a front of kind C; without a name, the one fleet that has it. setting is how to write
// it.
func fleetWith[C config.Body](cfg *config.Config, name, what, setting string) (f *config.Fleet, c C, err error) {
	found := 0
	for i := range cfg.Fleets {
		for _, a := range []config.Adapter{cfg.Fleets[i].Balancer, cfg.Fleets[i].Front} {
			if body, ok := a.Body.(C); ok && (name == "" || cfg.Fleets[i].Name == name) {
				f, c = &cfg.Fleets[i], body
				found++
			}
		}
	}
	switch {
	case found == 0 && name != "":
		err = fmt.Errorf("there is no fleet %q with %s: write %s in it", name, what, setting)
	case found == 0:
		err = fmt.Errorf("no fleet has %s: write %s in one", what, setting)
	case found > 1:
		err = fmt.Errorf("%d fleets have %s; name one", found, what)
	}
	return f, c, err
}

// NginxSnippet writes what goes into the nginx in front of a fleet; without a name, of the one fleet that has a front.
func NginxSnippet(cfg *config.Config, name string) (front.Snippet, error) {
	f, nginx, err := fleetWith[*front.Config](cfg, name, "a front", "front: {nginx: {upstream: 127.0.0.1:8069}}")
	if err != nil {
		return front.Snippet{}, err
	}
	log := "/var/log/nginx/" + f.Name + ".access.log"
	for _, s := range f.Signals {
		if c, ok := s.Body.(*accesslog.Config); ok {
			log = c.Path
			break
		}
	}
	return front.Render(f.Name, f.Policy.Bounds.Max, log, *nginx)
}

// HAProxyBackend is what an HAProxy in front of a fleet reads beside its own file when it starts, before Tidemark has written it.
type HAProxyBackend struct {
	File string `json:"file"` // where Tidemark keeps it from then on
	Text string `json:"text"`
}

// HAProxySnippet writes the backend of a fleet, as yet without servers; without a name, of the one fleet that has an HAProxy.
func HAProxySnippet(cfg *config.Config, name string) (HAProxyBackend, error) {
	_, c, err := fleetWith[*haproxy.Config](cfg, name, "an HAProxy", "balancer: {haproxy: {...}}")
	if err != nil {
		return HAProxyBackend{}, err
	}
	text, err := c.Render(nil)
	return HAProxyBackend{c.File, string(text)}, err
}
