package app

import (
	"fmt"

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
		return front.Snippet{}, fmt.Errorf("no fleet has a front: write front: {nginx: {upstream: 127.0.0.1:8069}} in one")
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
