// Package alertmanager shows Prometheus' Alertmanager what is the case, by its v2 API. It owns how a notice becomes labels and
// annotations. Alertmanager forgets an alert that is not shown again, so a place is a tell.Mirror, not a spool: after weeks
// without a link it is shown what is the case then.
package alertmanager

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"tidemark/internal/config"
	"tidemark/internal/decide/alert"
	"tidemark/internal/tell"
	"tidemark/internal/tell/post"
)

// Config is what an operator writes under `notify: {alertmanager: ...}`.
type Config struct {
	URLs      []string          `yaml:"urls,required" example:"[http://127.0.0.1:9093]"` // of each member of a cluster, without /api/v2
	Token     string            `yaml:"token"`                                           // ${NAME}: sent as a bearer token
	TokenFile string            `yaml:"token_file"`
	CAFile    string            `yaml:"ca_file"`  // further certificate authorities, PEM
	Labels    map[string]string `yaml:"labels"`   // added to each alert, for routing
	Severity  alert.Severity    `yaml:"severity"` // the least that is shown
	Resend    time.Duration     `yaml:"resend"`   // between two showings
	Timeout   time.Duration     `yaml:"timeout"`  // for one request
}

// DefaultConfig is what holds where the operator wrote nothing. Alertmanager's own resolve_timeout is 5 minutes.
func DefaultConfig() Config { return Config{Resend: time.Minute, Timeout: 15 * time.Second} }

// missed is how many showings may fail before an alert ends by itself, as in Prometheus.
const missed = 4

var labelName = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)

// own are the labels that a notice gives.
var own = []string{"alertname", "severity", "instance", "fleet", "signal", "key"}

// Validate returns every problem at once, as config.FieldErrors.
func (c *Config) Validate() error {
	var errs config.FieldErrors
	const example = "http://127.0.0.1:9093"
	if len(c.URLs) == 0 {
		errs.Add("urls", "names no Alertmanager", "write urls: ["+example+"]")
	}
	for i, u := range c.URLs {
		field := fmt.Sprintf("urls[%d]", i)
		post.CheckURL(&errs, field, u, example)
		if strings.Contains(u, "/api/v") {
			errs.Add(field, "has the path of the API in it", "write it without /api/...")
		}
		if slices.Contains(c.URLs[:i], u) {
			errs.Add(field, "stands twice", "delete one")
		}
	}
	if c.Token != "" && c.TokenFile != "" {
		errs.Add("token_file", "stands beside token", "delete one of them")
	}
	for _, name := range slices.Sorted(maps.Keys(c.Labels)) {
		switch {
		case !labelName.MatchString(name):
			errs.Add("labels."+name, fmt.Sprintf("%q is no name of a label", name), "write letters, digits and _")
		case slices.Contains(own, name):
			errs.Add("labels."+name, "is a label that Tidemark sets", "choose another name")
		case c.Labels[name] == "":
			errs.Add("labels."+name, "is empty", "write a value, or delete it")
		}
	}
	if c.Resend < 10*time.Second || c.Resend > time.Hour {
		errs.Add("resend", fmt.Sprintf("%v is not between 10s and 1h", c.Resend), "write for example 1m")
	}
	tell.CheckTimeout(&errs, c.Timeout)
	return errs.Err()
}

// Addresses are those whom the channels tell.
func (c *Config) Addresses() (out []string) {
	for _, u := range c.URLs {
		out = append(out, channel(u))
	}
	return out
}

// channel is the name of an Alertmanager's channel.
func channel(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "alertmanager"
	}
	return "alertmanager " + u.Host + u.Path
}

// Mirror is one Alertmanager.
type Mirror struct {
	cfg   Config
	place post.Place
}

// Channels makes a channel of each Alertmanager of a valid configuration.
func Channels(cfg Config) ([]tell.Channel, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	var out []tell.Channel
	for _, u := range cfg.URLs {
		m := &Mirror{cfg: cfg, place: post.Place{URL: strings.TrimRight(u, "/") + "/api/v2/alerts", CAFile: cfg.CAFile, Timeout: cfg.Timeout}}
		out = append(out, tell.Channel{Name: channel(u), Mirror: m, Delivery: tell.Delivery{Severity: cfg.Severity, Repeat: cfg.Resend}})
	}
	return out, nil
}

// postable is an alert as the v2 API takes it.
type postable struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	StartsAt    time.Time         `json:"startsAt"`
	EndsAt      time.Time         `json:"endsAt"`
}

// Show posts the state. What fires ends by itself when it is not shown again, four showings on.
func (m *Mirror) Show(ctx context.Context, now time.Time, notices []alert.Notice) error {
	if len(notices) == 0 {
		return nil
	}
	alerts := make([]postable, 0, len(notices))
	for _, n := range notices {
		p := postable{Labels: maps.Clone(m.cfg.Labels), StartsAt: n.Started.UTC(), EndsAt: n.Ended.UTC()}
		if p.Labels == nil {
			p.Labels = map[string]string{}
		}
		for name, value := range map[string]string{"alertname": name(n.Rule), "severity": n.Severity.String(), "instance": n.Instance, "fleet": n.Fleet, "signal": n.Signal, "key": n.Key} {
			if value != "" {
				p.Labels[name] = value
			}
		}
		p.Annotations = map[string]string{"summary": n.Title, "description": strings.Join(n.Lines, "\n")}
		if n.Firing() {
			p.EndsAt = now.Add(missed * m.cfg.Resend).UTC()
		}
		if p.EndsAt.Before(p.StartsAt) { // a clock that went back; the API refuses it, and all others with it
			p.StartsAt = p.EndsAt
		}
		alerts = append(alerts, p)
	}
	body, err := json.Marshal(alerts)
	if err != nil {
		return &tell.Refusal{Err: err}
	}
	header := http.Header{"Content-Type": {"application/json"}}
	token, err := tell.Secret(m.cfg.Token, m.cfg.TokenFile)
	if err != nil {
		return err
	}
	if token != "" {
		header.Set("Authorization", "Bearer "+token)
	}
	return m.place.Do(ctx, http.MethodPost, header, body)
}

// name makes signal_missing TidemarkSignalMissing: alerts are named so.
func name(rule string) string {
	out := "Tidemark"
	for part := range strings.SplitSeq(rule, "_") {
		if part != "" {
			out += strings.ToUpper(part[:1]) + part[1:]
		}
	}
	return out
}
