package alertmanager

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"tidemark/internal/decide/alert"
	"tidemark/internal/tell"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var now = time.Date(2027, 3, 1, 9, 15, 0, 0, time.UTC)

func TestShow(t *testing.T) {
	got := make(chan []map[string]any, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.Path != "/am/api/v2/alerts" || r.Header.Get("Authorization") != "Bearer s3cret" || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
		}
		var v []map[string]any
		if err := json.NewDecoder(r.Body).Decode(&v); err != nil {
			t.Error(err)
		}
		got <- v
	}))
	defer s.Close()
	cfg := DefaultConfig()
	cfg.URLs, cfg.Token, cfg.Labels = []string{s.URL + "/am/"}, "s3cret", map[string]string{"country": "CKI"}
	cs, err := Channels(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if cs[0].Repeat != time.Minute || !strings.HasPrefix(cs[0].Name, "alertmanager 127.0.0.1:") {
		t.Errorf("%+v", cs[0])
	}
	firing := alert.Notice{Key: "odoo/signal_missing/cpu", Rule: "signal_missing", Instance: "dfr", Fleet: "odoo", Signal: "cpu", Severity: alert.Warning,
		Title: "cpu is missing", Lines: []string{"one", "two"}, Started: now.Add(-time.Hour).In(time.FixedZone("", 3600))}
	over := alert.Notice{Key: "clock", Rule: "clock_jump", Instance: "dfr", Severity: alert.Info, Title: "t", Started: now.Add(-time.Hour), Ended: now.Add(-time.Minute)}
	back := over
	back.Key, back.Started = "back", now
	if err := cs[0].Mirror.Show(t.Context(), now, []alert.Notice{firing, over, back}); err != nil {
		t.Fatal(err)
	}
	want := []map[string]any{
		{"labels": map[string]any{"alertname": "TidemarkSignalMissing", "severity": "warning", "instance": "dfr", "fleet": "odoo", "signal": "cpu", "key": firing.Key, "country": "CKI"},
			"annotations": map[string]any{"summary": "cpu is missing", "description": "one\ntwo"}, "startsAt": "2027-03-01T08:15:00Z", "endsAt": "2027-03-01T09:19:00Z"},
		{"labels": map[string]any{"alertname": "TidemarkClockJump", "severity": "info", "instance": "dfr", "key": "clock", "country": "CKI"},
			"annotations": map[string]any{"summary": "t", "description": ""}, "startsAt": "2027-03-01T08:15:00Z", "endsAt": "2027-03-01T09:14:00Z"},
		{"labels": map[string]any{"alertname": "TidemarkClockJump", "severity": "info", "instance": "dfr", "key": "back", "country": "CKI"},
			"annotations": map[string]any{"summary": "t", "description": ""}, "startsAt": "2027-03-01T09:14:00Z", "endsAt": "2027-03-01T09:14:00Z"},
	}
	if diff := cmp.Diff(want, <-got); diff != "" {
		t.Error(diff)
	}
	if len(cfg.Labels) != 1 {
		t.Error("the configuration's labels were written to")
	}
	if err := cs[0].Mirror.Show(t.Context(), now, nil); err != nil || len(got) != 0 {
		t.Error("nothing to show was shown")
	}
}

func TestARefusalIsOne(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "start time must be before end time", http.StatusBadRequest)
	}))
	defer s.Close()
	cfg := DefaultConfig()
	cfg.URLs = []string{s.URL}
	cs, err := Channels(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var no *tell.Refusal
	if err := cs[0].Mirror.Show(t.Context(), now, []alert.Notice{{Key: "a", Rule: "a", Started: now}}); !errors.As(err, &no) || !strings.Contains(err.Error(), "start time") {
		t.Errorf("%v", err)
	}
}

func TestValidate(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"":                                func(*Config) {},
		"urls: names no Alertmanager":     func(c *Config) { c.URLs = nil },
		"urls[0]: names no host":          func(c *Config) { c.URLs = []string{"http://"} },
		"urls[0]: has the path":           func(c *Config) { c.URLs = []string{"http://x/api/v2/alerts"} },
		"urls[1]: stands twice":           func(c *Config) { c.URLs = append(c.URLs, c.URLs[0]) },
		"token_file: stands beside token": func(c *Config) { c.Token, c.TokenFile = "a", "b" },
		"labels.a-b: \"a-b\" is no name":  func(c *Config) { c.Labels = map[string]string{"a-b": "x"} },
		"labels.severity: is a label":     func(c *Config) { c.Labels = map[string]string{"severity": "x"} },
		"labels.team: is empty":           func(c *Config) { c.Labels = map[string]string{"team": ""} },
		"resend: 1s is not":               func(c *Config) { c.Resend = time.Second },
		"timeout: 1h0m0s is not":          func(c *Config) { c.Timeout = time.Hour },
	} {
		c := DefaultConfig()
		c.URLs = []string{"http://127.0.0.1:9093"}
		change(&c)
		if got := fmt.Sprint(c.Validate()); (want == "") != (c.Validate() == nil) || !strings.Contains(got, want) || strings.Contains(got, "\n") {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
