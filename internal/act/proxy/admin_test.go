package proxy

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"tidemark/internal/config"
)

var _ config.Body = (*Config)(nil)

func TestDecodeWorkers(t *testing.T) {
	for _, c := range []struct{ in, err string }{
		{`[]`, ""},
		{`[{"id":"w1","address":"127.0.0.1:8069"},{"id":"w2","address":"unix:/run/w2.sock"},{"id":"w3","address":"[::1]:80"}]`, ""},
		{``, "EOF"},
		{`null`, "it is null"},
		{`{}`, "cannot unmarshal"},
		{`[] []`, "something follows"},
		{`[{"id":"w1","address":"127.0.0.1:8069","weight":2}]`, "unknown field"},
		{`[{"id":"","address":"127.0.0.1:8069"}]`, "printable"},
		{`[{"id":"a\r\nSet-Cookie: x","address":"127.0.0.1:8069"}]`, "printable"},
		{`[{"id":"` + strings.Repeat("w", 201) + `","address":"127.0.0.1:8069"}]`, "1 to 200"},
		{`[{"id":"w1","address":""}]`, "needs host:port"},
		{`[{"id":"w1","address":"127.0.0.1"}]`, "needs host:port"},
		{`[{"id":"w1","address":":80"}]`, "needs host:port"},
		{`[{"id":"w1","address":"127.0.0.1:0"}]`, "needs host:port"},
		{`[{"id":"w1","address":"127.0.0.1:http"}]`, "needs host:port"},
		{`[{"id":"w1","address":"unix:w.sock"}]`, "absolute"},
		{`[{"id":"w1","address":"127.0.0.1:1"},{"id":"w1","address":"127.0.0.1:2"}]`, "twice"},
	} {
		_, err := decodeWorkers([]byte(c.in))
		if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%.60s: %v, want %q", c.in, err, c.err)
		}
	}
}

// Whatever is sent, it is refused or it is a list that means the same when it is written again.
func FuzzDecodeWorkers(f *testing.F) {
	f.Add([]byte(`[{"id":"w1","address":"127.0.0.1:8069"},{"id":"w2","address":"unix:/run/w2.sock"}]`))
	f.Add([]byte(`[{"id":"w1","address":"[::1]:80"}] `))
	f.Add([]byte(`[null,{"ID":"x"}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := decodeWorkers(b)
		if err != nil {
			return
		}
		again, err := json.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		same, err := decodeWorkers(again)
		if err != nil || !reflect.DeepEqual(list, same) {
			t.Fatalf("%s: %v, %v then %v", b, err, list, same)
		}
		s := NewServer(DefaultConfig())
		s.Set(list)
		if got := s.pool.list(); len(got) != len(list) {
			t.Fatalf("%d of %d workers in service", len(got), len(list))
		}
		s.Close()
	})
}

func FuzzDecodeConfig(f *testing.F) {
	b, _ := json.Marshal(DefaultConfig())
	f.Add(b)
	f.Add([]byte(`{"Listen":"127.0.0.1:80","Classes":[{"Name":"a","Priority":1,"Routes":["/"]}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := decodeConfig(b)
		if err != nil {
			return
		}
		p := newPlan(c, nil)
		for _, path := range []string{"", "/", "/a", "/a/b", "*"} {
			if r := p.rank(path); r < 0 || r >= len(p.classes) || p.route(path) == nil {
				t.Fatalf("%q has rank %d of %d", path, r, len(p.classes))
			}
		}
	})
}

func TestConfigSurvivesTheFile(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Classes = []Class{{Name: "sync", Priority: 1, Routes: []string{"/api/mobile/sync"}, QueueTimeout: time.Minute}}
	b, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeConfig(b)
	if err != nil || got.Digest() != cfg.Digest() {
		t.Errorf("%+v %v", got, err)
	}
	if _, err := decodeConfig([]byte(`{"Listen":"127.0.0.1:80","Lisen":1}`)); err == nil {
		t.Error("an unknown setting was taken")
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		change func(*Config)
		want   string
	}{
		{func(*Config) {}, ""},
		{func(c *Config) { c.Listen = "8080" }, `listen: "8080" is no listening address; write host:port, e.g. 127.0.0.1:8080`},
		{func(c *Config) { c.Listen = ":99999" }, `listen: ":99999" has no port between 0 and 65535; write host:port, e.g. 127.0.0.1:8080`},
		{func(c *Config) { c.MaxInFlight = -1 }, "max_in_flight: is negative; write 1 for workers that serve one request at a time, 0 for no limit"},
		{func(c *Config) { c.Queue.Limit = -1 }, "queue.limit: is -1; write 0 (nothing waits) to 100000"},
		{func(c *Config) { c.Queue.Timeout = 0 }, "queue.timeout: is 0s; write 1ms to 1h0m0s"},
		{func(c *Config) { c.RequestTimeout = -time.Second }, "request_timeout: is -1s; write 0s to 24h0m0s"},
		{func(c *Config) { c.BodyBuffer = -1 }, "body_buffer: is -1 bytes; write 0 to 64MiB; 256KiB suits most"},
		{func(c *Config) { c.Routes = []string{"api"} }, `routes.0: "api" is no path prefix; write it from the first slash, without query or wildcard, e.g. /api/mobile/sync`},
		{func(c *Config) { c.Routes = []string{"/api", "/api"} }, `routes.1: "/api" is already in routes.0; write each prefix once`},
		{func(c *Config) { c.Classes = []Class{{Priority: 1, Routes: []string{"/"}}} }, "classes.0.name: is missing; name the class, e.g. sync"},
		{func(c *Config) { c.Classes = []Class{{Name: "other", Priority: 1, Routes: []string{"/"}}} }, `classes.0.name: "other" is the class of all that no class names; choose another name`},
		{func(c *Config) { c.Classes = []Class{{Name: "a", Priority: 10, Routes: []string{"/"}}} }, "classes.0.priority: is 10; write 1 (most important) to 9; what no class names has 5"},
		{func(c *Config) { c.Classes = []Class{{Name: "a", Priority: 1}} }, "classes.0.routes: is empty, so the class has no requests; write path prefixes, e.g. [/api/mobile/sync]"},
		{func(c *Config) {
			c.Classes = []Class{{Name: "a", Priority: 1, Routes: []string{"/x"}}, {Name: "a", Priority: 2, Routes: []string{"/x"}}}
		}, "classes.1.name: \"a\" is there twice; give each class its own name\nclasses.1.routes.0: \"/x\" is already in classes.0.routes.0; write each prefix once"},
		{func(c *Config) { c.Trusted = []string{"10.0.0.0/8", "nginx"} }, `trusted.1: "nginx" is no address or network; write 10.0.0.5 or 10.0.0.0/24`},
	} {
		cfg := DefaultConfig()
		c.change(&cfg)
		if got := fmt.Sprint(cfg.Validate()); got != c.want && (c.want != "" || got != "<nil>") {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

func TestClassesAndRoutes(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Classes = []Class{
		{Name: "reports", Priority: 8, Routes: []string{"/report", "/api/export"}},
		{Name: "sync", Priority: 1, Routes: []string{"/api/mobile/sync"}},
		{Name: "api", Priority: 3, Routes: []string{"/api"}},
	}
	cfg.Routes = []string{"/api", "/api/mobile/", "/api/mobile/sync"}
	p := newPlan(cfg, nil)
	for path, want := range map[string][2]string{
		"/api/mobile/sync":   {"sync", "/api/mobile/sync"},
		"/api/mobile/sync/1": {"sync", "/api/mobile/sync"},
		"/api/mobile/synced": {"api", "/api/mobile/"},
		"/api/mobile":        {"api", "/api"},
		"/api/export":        {"reports", "/api"},
		"/api":               {"api", "/api"},
		"/apix":              {"other", "other"},
		"/report":            {"reports", "other"},
		"/":                  {"other", "other"},
		"*":                  {"other", "other"},
		"":                   {"other", "other"},
	} {
		if got := [2]string{p.classes[p.rank(path)].name, p.route(path).name()}; got != want {
			t.Errorf("%q is %v, want %v", path, got, want)
		}
	}
}

func (r *route) name() string { return r.prefix }
