package app

import (
	"strings"
	"testing"
	"time"

	"tidemark/internal/config"
	"tidemark/internal/decide/policy"
	"tidemark/internal/observe/derived"
)

// Whatever a configuration may name can be made.
func TestEachKindCanBeMade(t *testing.T) {
	a := &App{opts: Options{Log: func(string) {}}, cfg: &config.Config{}}
	f := &config.Fleet{Name: "f"}
	unknown := func(kind string, err error) {
		t.Helper()
		if err != nil && strings.Contains(err.Error(), "unknown kind") {
			t.Errorf("%s: %v", kind, err)
		}
	}
	for kind, body := range Catalog().Signals {
		s := &config.Signal{Name: "s", Adapter: config.Adapter{Kind: kind, Body: body()}}
		if _, ok := s.Body.(*derived.Config); ok {
			continue // has no source
		}
		src, err := a.source(a.cfg, f, s, &policy.Signal{Window: time.Minute})
		unknown(kind, err)
		if err == nil {
			closeAdapter(src, func(why string) { t.Error(why) })
		}
	}
	for kind, body := range Catalog().Targets {
		f.Target = config.Adapter{Kind: kind, Body: body()}
		_, err := a.target(t.Context(), &config.Config{StateDir: t.TempDir()}, f)
		unknown(kind, err)
	}
	for kind, body := range Catalog().Balancers {
		f.Balancer = config.Adapter{Kind: kind, Body: body()}
		_, err := a.balancer(a.cfg, f)
		unknown(kind, err)
	}
}
