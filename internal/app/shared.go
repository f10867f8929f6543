package app

import (
	"tidemark/internal/observe/accesslog"
	"tidemark/internal/observe/proxystats"
)

// shared is what the sources of one daemon have in common: one reader for each access log and each proxy, however many
// signals it gives.
type shared struct {
	logs    accesslog.Logs
	proxies map[string]*proxystats.Client // by admin socket
}

func (s *shared) proxy(socket string) *proxystats.Client {
	if s.proxies[socket] == nil {
		if s.proxies == nil {
			s.proxies = map[string]*proxystats.Client{}
		}
		s.proxies[socket] = proxystats.NewClient(socket)
	}
	return s.proxies[socket]
}
