package httpjson

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"tidemark/internal/config"
	"tidemark/internal/fleet"
	"tidemark/internal/observe/httpget"
)

type none struct{}

func (*none) Validate() error { return nil }

// As an operator writes it.
func TestAsWritten(t *testing.T) {
	parse := func(signal string) (*config.Config, config.Problems) {
		text := "fleets:\n- name: odoo\n  target: {command: {}}\n  bounds: {min: 1, max: 2}\n  signals:\n    sessions: {http: {" + signal + "}}\n"
		cat := config.Catalog{
			Signals: map[string]func() config.SignalBody{"http": func() config.SignalBody { c := DefaultConfig(); return &c }},
			Targets: map[string]func() config.Body{"command": func() config.Body { return &none{} }},
		}
		return config.Parse("t.yaml", []byte(text), cat, func(name string) (string, bool) { return "hush-hush", name == "TOKEN" })
	}
	cfg, problems := parse(`url: "https://odoo.example/metrics", metric: wait_seconds, labels: {queue: sync}, unit: seconds, max_body: 1MiB, timeout: 2s, bearer_token: "${TOKEN}", ca_file: /etc/ca.pem`)
	if cfg == nil {
		t.Fatal(problems)
	}
	want := Config{
		URL: "https://odoo.example/metrics", Metric: "wait_seconds", Labels: map[string]string{"queue": "sync"}, MeasuredIn: fleet.Seconds,
		MaxAge: 2 * time.Minute, MaxBody: 1 << 20, Server: httpget.Config{Timeout: 2 * time.Second, BearerToken: "hush-hush", CAFile: "/etc/ca.pem"},
	}
	if got := cfg.Fleets[0].Signals[0].Body.(*Config); !reflect.DeepEqual(*got, want) {
		t.Errorf("got  %+v\nwant %+v", *got, want)
	}
	_, problems = parse(`url: "http://odoo.example/metrics", json: sessions, unit: minutes, timeout: 1m, bearer_token: "${TOKEN}", ca_file: /etc/ca.pem`)
	said := fmt.Sprint(problems)
	for _, part := range []string{`t.yaml:6:28: url: `, "is http, and there are settings of TLS", `"sessions" does not begin with /`, `unknown unit "minutes"`, "1m0s is out of range"} {
		if !strings.Contains(said, part) {
			t.Errorf("%q is not among:\n%s", part, said)
		}
	}
	if strings.Contains(said, "hush-hush") {
		t.Errorf("the secret is shown: %s", said)
	}
}
