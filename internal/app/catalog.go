package app

import (
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
	"tidemark/internal/show/front"
)

// Catalog is the one table of adapters: what may stand in a configuration, by name. How each is made stands in parts.go.
func Catalog() config.Catalog {
	return config.Catalog{
		Signals: map[string]func() config.SignalBody{
			"procfs":     func() config.SignalBody { c := procfs.DefaultConfig(); return &c },
			"access_log": func() config.SignalBody { c := accesslog.DefaultConfig(); return &c },
			"proxy":      func() config.SignalBody { c := proxystats.DefaultConfig(); return &c },
			"haproxy":    func() config.SignalBody { c := haproxystats.DefaultConfig(); return &c },

			"cgroup":       func() config.SignalBody { c := cgroup.DefaultConfig(); return &c },
			"disk":         func() config.SignalBody { c := disk.DefaultConfig(); return &c },
			"kubernetes":   func() config.SignalBody { c := kubernetespods.DefaultConfig(); return &c },
			"listen_queue": func() config.SignalBody { c := listenqueue.DefaultConfig(); return &c },
			"pgbouncer":    func() config.SignalBody { c := pgbouncer.DefaultConfig(); return &c },
			"postgres":     func() config.SignalBody { c := postgres.DefaultConfig(); return &c },
			"prometheus":   func() config.SignalBody { c := prometheus.DefaultConfig(); return &c },
			"http":         func() config.SignalBody { c := httpjson.DefaultConfig(); return &c },
			"push":         func() config.SignalBody { c := push.DefaultConfig(); return &c },
			"expression":   func() config.SignalBody { c := derived.DefaultConfig(); return &c },
		},
		Targets: map[string]func() config.Body{
			"process":    func() config.Body { c := process.DefaultConfig(); return &c },
			"prefork":    func() config.Body { c := prefork.DefaultConfig(); return &c },
			"command":    func() config.Body { c := command.DefaultConfig(); return &c },
			"docker":     func() config.Body { c := docker.DefaultConfig(); return &c },
			"systemd":    func() config.Body { c := systemd.DefaultConfig(); return &c },
			"kubernetes": func() config.Body { c := kubernetes.DefaultConfig(); return &c },
			"keda":       func() config.Body { c := kubernetes.DefaultFollowedConfig(); return &c },
		},
		Balancers: map[string]func() config.Body{
			"proxy":   func() config.Body { c := proxy.DefaultConfig(); return &c },
			"nginx":   func() config.Body { c := nginx.DefaultConfig(); return &c },
			"haproxy": func() config.Body { c := haproxy.DefaultConfig(); return &c },
		},
		Fronts: map[string]func() config.Body{
			"nginx": func() config.Body { c := front.DefaultConfig(); return &c },
		},
		Notify: notifiers(),
	}
}
