package app

import (
	"tidemark/internal/act/command"
	"tidemark/internal/act/nginx"
	"tidemark/internal/act/prefork"
	"tidemark/internal/act/process"
	"tidemark/internal/act/proxy"
	"tidemark/internal/config"
	"tidemark/internal/observe/accesslog"
	"tidemark/internal/observe/procfs"
	"tidemark/internal/observe/proxystats"
	"tidemark/internal/show/front"
)

// Catalog is the one table of adapters: what may stand in a configuration, by name. How each is made stands in parts.go.
func Catalog() config.Catalog {
	return config.Catalog{
		Signals: map[string]func() config.SignalBody{
			"procfs":     func() config.SignalBody { c := procfs.DefaultConfig(); return &c },
			"access_log": func() config.SignalBody { c := accesslog.DefaultConfig(); return &c },
			"proxy":      func() config.SignalBody { c := proxystats.DefaultConfig(); return &c },
		},
		Targets: map[string]func() config.Body{
			"process": func() config.Body { c := process.DefaultConfig(); return &c },
			"prefork": func() config.Body { c := prefork.DefaultConfig(); return &c },
			"command": func() config.Body { c := command.DefaultConfig(); return &c },
		},
		Balancers: map[string]func() config.Body{
			"proxy": func() config.Body { c := proxy.DefaultConfig(); return &c },
			"nginx": func() config.Body { c := nginx.DefaultConfig(); return &c },
		},
		Fronts: map[string]func() config.Body{
			"nginx": func() config.Body { c := front.DefaultConfig(); return &c },
		},
		Notify: notifiers(),
	}
}
