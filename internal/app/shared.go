package app

import (
	"tidemark/internal/kubeapi"
	"tidemark/internal/observe/accesslog"
	haproxystats "tidemark/internal/observe/haproxy"
	"tidemark/internal/observe/httpjson"
	"tidemark/internal/observe/kubernetes"
	"tidemark/internal/observe/listenqueue"
	"tidemark/internal/observe/pgbouncer"
	"tidemark/internal/observe/postgres"
	"tidemark/internal/observe/proxystats"
	"tidemark/internal/observe/push"
)

// shared is what the sources of one daemon have in common: one reader for each access log and each proxy, one connection to each
// PgBouncer and database, one request a tick for each page, however many signals they give. Connections end with the last
// source that uses them.
type shared struct {
	logs      accesslog.Logs
	proxies   map[string]*proxystats.Client      // by admin socket
	haproxies map[[2]string]*haproxystats.Client // by runtime socket and backend
	pools     pgbouncer.Consoles
	database  postgres.Databases
	pages     httpjson.Pages
	sockets   listenqueue.Tables
	pushed    push.Board
	clusters  kubeapi.Clients
	pods      kubernetes.Pods
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

func (s *shared) haproxy(socket, backend string) *haproxystats.Client {
	key := [2]string{socket, backend}
	if s.haproxies[key] == nil {
		if s.haproxies == nil {
			s.haproxies = map[[2]string]*haproxystats.Client{}
		}
		s.haproxies[key] = haproxystats.NewClient(socket, backend)
	}
	return s.haproxies[key]
}

func (s *shared) kubernetes() *kubernetes.Pods {
	s.pods.Clients = &s.clusters
	return &s.pods
}
