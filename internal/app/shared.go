package app

import (
	"tidemark/internal/config"
	"tidemark/internal/observe/accesslog"
	"tidemark/internal/observe/proxystats"
)

// shared is what the sources of one daemon have in common: one reader for each access log and each proxy, however many
// signals it gives.
type shared struct {
	logs    map[logKey]*accesslog.Log
	proxies map[string]*proxystats.Client // by admin socket
}

type logKey struct{ path, format string }

func newShared() shared {
	return shared{logs: map[logKey]*accesslog.Log{}, proxies: map[string]*proxystats.Client{}}
}

func (s *shared) log(c *accesslog.Config) (*accesslog.Log, error) {
	key := logKey{c.Path, c.Format}
	if l := s.logs[key]; l != nil {
		return l, nil
	}
	l, err := accesslog.New(c.Path, c.Format)
	if err != nil {
		return nil, err
	}
	s.logs[key] = l
	return l, nil
}

func (s *shared) proxy(socket string) *proxystats.Client {
	if s.proxies[socket] == nil {
		s.proxies[socket] = proxystats.NewClient(socket)
	}
	return s.proxies[socket]
}

// prune closes the logs that no signal of cfg reads; with nil, all.
func (s *shared) prune(cfg *config.Config, log func(string)) {
	used := map[logKey]bool{}
	if cfg != nil {
		for _, f := range cfg.Fleets {
			for _, sig := range f.Signals {
				if c, ok := sig.Body.(*accesslog.Config); ok {
					used[logKey{c.Path, c.Format}] = true
				}
			}
		}
	}
	for key, l := range s.logs {
		if !used[key] {
			closeAdapter(l, log)
			delete(s.logs, key)
		}
	}
}
