package alertmanager

import (
	"testing"
	"time"

	"tidemark/internal/decide/alert"
	"tidemark/test/servers"
)

// A real Alertmanager takes what is shown to it, and lets go of it when told so.
func TestRealAlertmanager(t *testing.T) {
	am := servers.StartAlertmanager(t)
	cfg := DefaultConfig()
	cfg.URLs = []string{am.URL}
	cs, err := Channels(cfg)
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	n := alert.Notice{Key: "odoo/short", Rule: "short", Instance: "dfr", Fleet: "odoo", Severity: alert.Critical, Title: "short", Lines: []string{"x"}, Started: begun}
	if err := cs[0].Mirror.Show(t.Context(), begun, []alert.Notice{n}); err != nil {
		t.Fatal(err)
	}
	got := am.Until(t, 1)[0]
	if got.Labels["alertname"] != "TidemarkShort" || got.Labels["severity"] != "critical" || got.Annotations["summary"] != "short" {
		t.Errorf("%+v", got)
	}
	n.Ended = time.Now()
	if err := cs[0].Mirror.Show(t.Context(), time.Now(), []alert.Notice{n}); err != nil {
		t.Fatal(err)
	}
	am.Until(t, 0)
}
