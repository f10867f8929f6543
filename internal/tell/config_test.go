package tell_test

import (
	"strings"
	"testing"
	"time"

	"tidemark/internal/config"
	"tidemark/internal/decide/alert"
	"tidemark/internal/tell/alertmanager"
	"tidemark/internal/tell/deadman"
	"tidemark/internal/tell/mail"
	"tidemark/internal/tell/webhook"
)

type anyTarget struct{}

func (*anyTarget) Validate() error { return nil }

// The channels' settings can be written in the file, and what --effective prints of them is read as the same, without a secret.
func TestSettingsAreReadAsTheyAreWritten(t *testing.T) {
	bodies := map[string]func() config.Body{
		"mail":         func() config.Body { c := mail.DefaultConfig(); return &c },
		"webhook":      func() config.Body { c := webhook.DefaultConfig(); return &c },
		"slack":        func() config.Body { c := webhook.DefaultSlack(); return &c },
		"alertmanager": func() config.Body { c := alertmanager.DefaultConfig(); return &c },
		"dead_man":     func() config.Body { c := deadman.DefaultConfig(); return &c },
	}
	env := func(name string) (string, bool) {
		return "hunter2-" + strings.ReplaceAll(strings.ToLower(name), "_", "-"), true
	}
	for _, c := range []struct {
		kind, text string
		check      func(config.Body) bool
	}{
		{"mail", `{smtp: "smtp://mail.moa.example:587", to: [ict@moa.example], user: tide, password: "${PW}", severity: critical, repeat: 0s, digest: {over: 5, period: 12h}, spool: {messages: 100, max_size: 2MiB}}`,
			func(b config.Body) bool {
				m := b.(*mail.Config)
				return m.Password == "hunter2-pw" && m.Severity == alert.Critical && m.Repeat == 0 && m.Digest.Over == 5 && m.Digest.Period == 12*time.Hour && m.Spool.MaxBytes == 2<<20 && m.Timeout == time.Minute
			}},
		{"webhook", `{url: "${HOOK}", secret: "${SIGNING_KEY}"}`,
			func(b config.Body) bool {
				w := b.(*webhook.Config)
				return w.Format == webhook.JSON && w.Secret == "hunter2-signing-key"
			}},
		{"slack", `{url: https://hooks.example/T0/hunter2hunter2hunter2, ca_file: /etc/ca.pem}`,
			func(b config.Body) bool {
				w := b.(*webhook.Config)
				return w.Format == webhook.Slack && w.Repeat == 6*time.Hour
			}},
		{"alertmanager", `{urls: ["http://127.0.0.1:9093"], token: "${TOKEN}", labels: {team: ict}, severity: warning, resend: 30s}`,
			func(b config.Body) bool {
				a := b.(*alertmanager.Config)
				return a.Token == "hunter2-token" && a.Labels["team"] == "ict" && a.Severity == alert.Warning && a.Resend == 30*time.Second
			}},
		{"dead_man", `{url: "${HC}", method: HEAD, interval: 5m}`, func(b config.Body) bool { return b.(*deadman.Config).Interval == 5*time.Minute }},
	} {
		t.Run(c.kind, func(t *testing.T) {
			cat := config.Catalog{Notify: bodies, Targets: map[string]func() config.Body{"any": func() config.Body { return &anyTarget{} }}}
			lookup := func(name string) (string, bool) {
				v, ok := env(name)
				if name == "HOOK" || name == "HC" {
					v = "https://hooks.example/" + v
				}
				return v, ok
			}
			text := "notify: {" + c.kind + ": " + c.text + "}\nfleets:\n  - name: f\n    target: {any: {}}\n    bounds: {min: 1, max: 2}\n"
			for range 2 {
				cfg, problems := config.Parse("x.yaml", []byte(text), cat, lookup)
				if cfg == nil {
					t.Fatalf("%s\n%s", problems, text)
				}
				if !c.check(cfg.Notify[0].Body) {
					t.Errorf("%+v", cfg.Notify[0].Body)
				}
				text = config.Effective(cfg)
				if strings.Contains(text, "hunter2") {
					t.Errorf("a secret is shown:\n%s", text)
				}
			}
		})
	}
}
